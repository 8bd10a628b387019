"""LoRAs in a pipeline: loaded, scaled, several at once, merged, and taken away without a trace."""

import copy

import pytest
import torch

from ldm_tutorial.adapters import save_lora
from ldm_tutorial.checkpoints import load_checkpoint, save_checkpoint
from ldm_tutorial.engines import as_written, make_engine
from ldm_tutorial.images import read_settings, save_image

OPTIONS = {"steps": 3, "seed": 4, "progress": False}


def drawn(pipe, **options):
    return [
        step.latents for step in pipe.stream("a cat", **{k: v for k, v in {**OPTIONS, **options}.items() if k != "progress"})
    ][-1]


@pytest.fixture
def files(pipe, random_lora, tmp_path):
    make = lambda seed, layout: save_lora(random_lora(pipe.networks, seed=seed), tmp_path / f"{layout}.safetensors", layout)  # noqa: E731
    return make(1, "kohya"), make(2, "diffusers")


def test_unloaded_it_draws_bit_for_bit_as_before(pipe, files):
    before, picture = drawn(pipe), pipe("a cat", **OPTIONS)[0]
    pipe.load_lora(files[0])
    assert not torch.allclose(drawn(pipe), before, atol=0.05)
    assert pipe("a cat", **OPTIONS)[0].tobytes() != picture.tobytes()
    pipe.load_lora(files[1])
    pipe.unload_lora()
    assert pipe.loras == {} and torch.equal(drawn(pipe), before)
    after = pipe("a cat", **OPTIONS)[0]
    assert after.tobytes() == picture.tobytes() and after.info == picture.info


def test_the_scale_changes_without_loading_again(pipe, files):
    before = drawn(pipe)
    pipe.load_lora(files[0], scale=0)
    assert torch.equal(drawn(pipe), before)
    pipe.lora_scale = 0.5
    half = drawn(pipe)
    pipe.loras["kohya"].scale = 1
    whole = drawn(pipe)
    pipe.unload_lora("kohya")
    pipe.load_lora(files[0], scale=0.5)
    assert torch.equal(drawn(pipe), half) and not torch.allclose(half, whole, atol=0.02)
    assert pipe.lora_scale == 0.5


def test_in_the_middle_of_a_run_too(pipe, files):
    """The keys and values of the words are kept for a run: not those of a LoRA at another scale."""
    pipe.load_lora(files[0])

    def changed_after_a_step():
        steps = pipe.stream("a cat", steps=3, seed=4)
        next(steps)
        pipe.lora_scale = 0
        *_, last = steps
        pipe.lora_scale = 1
        return last.latents

    quick = changed_after_a_step()
    pipe.engine = as_written  # keeps nothing
    torch.testing.assert_close(quick, changed_after_a_step(), rtol=0, atol=1e-4)
    assert not torch.allclose(quick, drawn(pipe), atol=0.02)


def test_a_copy_of_the_pipeline_has_loras_of_its_own(pipe, files):
    """What is done to those of one is not seen in the pictures of the other."""
    before = drawn(pipe)
    pipe.load_lora(files[0])
    whole, other = drawn(pipe), copy.deepcopy(pipe)
    pipe.lora_scale = 0
    assert torch.equal(drawn(other), whole)
    pipe.lora_scale, other.lora_scale = 1, 0
    assert torch.equal(drawn(other), before) and torch.equal(drawn(pipe), whole)
    other.unload_lora()
    assert torch.equal(drawn(other), before) and torch.equal(drawn(pipe), whole)
    assert not any(layer._forward_hooks for layer in other.unet.modules())


def test_several_at_once_each_with_its_scale(pipe, files):
    pipe.load_lora(files[0], 0.3)
    pipe.load_lora(files[1], 0.6, name="other")
    assert list(pipe.loras) == ["kohya", "other"]
    both = drawn(pipe)
    pipe.merge_lora("kohya")
    torch.testing.assert_close(drawn(pipe), both, rtol=0, atol=1e-4)
    pipe.unload_lora("other")
    assert not torch.allclose(drawn(pipe), both, atol=0.02)
    with pytest.raises(ValueError, match="lora_scale: no LoRA is loaded"):
        pipe.lora_scale  # noqa: B018
    with pytest.raises(ValueError, match="lora_scale: no LoRA is loaded"):
        pipe.lora_scale = 1


def test_scales_that_differ_have_no_one_value(pipe, files):
    pipe.load_lora(files[0], 0.25)
    pipe.load_lora(files[1], 0.5)
    with pytest.raises(ValueError, match=r"lora_scale: the scales are \[0.25, 0.5\]"):
        pipe.lora_scale  # noqa: B018
    pipe.lora_scale = 0.75
    assert [lora.scale for lora in pipe.loras.values()] == [0.75, 0.75]


def test_a_name_is_taken_once_and_must_be_known(pipe, files):
    pipe.load_lora(files[0])
    with pytest.raises(ValueError, match=r"a LoRA named 'kohya' is loaded already; unload_lora\('kohya'\) first"):
        pipe.load_lora(files[0])
    for use in (pipe.unload_lora, pipe.merge_lora):
        with pytest.raises(ValueError, match="no LoRA named 'style' is loaded; loaded: 'kohya'"):
            use("style")
    with pytest.raises((TypeError, ValueError), match="scale="):
        pipe.load_lora(files[1], scale="much")
    assert list(pipe.loras) == ["kohya"]


def test_merged_it_is_saved_with_the_model_and_else_not(pipe, files, tmp_path):
    own = {name: weight.clone() for name, weight in pipe.unet.state_dict().items()}
    pipe.load_lora(files[0])
    assert pipe.unet.state_dict().keys() == own.keys()
    saved = load_checkpoint(save_checkpoint(pipe, tmp_path / "without")).unet.state_dict()
    assert all(torch.equal(saved[name], own[name]) for name in own)
    with_lora = drawn(pipe)
    pipe.merge_lora()
    assert pipe.loras == {}
    saved = load_checkpoint(save_checkpoint(pipe, tmp_path / "with"))
    pipe.unet, pipe.text_encoder = saved.unet, saved.text_encoder
    torch.testing.assert_close(drawn(pipe), with_lora, rtol=0, atol=1e-4)


def test_it_moves_with_the_pipeline(pipe, files):
    pipe.load_lora(files[0])
    pipe.to(dtype="bfloat16")
    assert drawn(pipe).isfinite().all()
    pipe.load_lora(files[1])
    assert {p.dtype for lora in pipe.loras.values() for p in lora.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("merged", [False, True])
def test_every_engine_draws_with_it(pipe, files, merged):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pipe.engine = as_written
    pipe.load_lora(files[0])
    plain = drawn(pipe)
    pipe.unload_lora()
    for engine in ("torch", "onnx"):
        pipe.engine = make_engine(engine, pipe.unet)
        drawn(pipe)  # what it keeps must not outlive the change
        pipe.load_lora(files[0])
        if merged and engine == "onnx":
            pipe.merge_lora()
        torch.testing.assert_close(drawn(pipe), plain, rtol=0, atol=1e-4)
        if pipe.loras:
            pipe.unload_lora()


def test_a_picture_says_with_which_loras_it_was_drawn(pipe, files, tmp_path):
    assert "loras" not in pipe("a cat", **OPTIONS)[0].info
    pipe.load_lora(files[0], 0.5)
    picture = pipe("a cat", **OPTIONS)[0]
    assert picture.info["loras"] == {"kohya": 0.5}
    assert read_settings(save_image(picture, tmp_path / "cat.png"))["loras"] == {"kohya": 0.5}
