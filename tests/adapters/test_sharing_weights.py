"""Two pipelines on one set of weights: what is loaded in one changes nothing in the other, also while both draw."""

import threading

import numpy as np
import pytest
import torch

from ldm_tutorial.adapters import Word, save_lora
from ldm_tutorial.engines import as_written
from ldm_tutorial.schedulers.few_steps import FewSteps

OPTIONS = {"steps": 6, "seed": 4, "progress": False}


def drawn(pipe, prompt="a cat"):
    return np.asarray(pipe(prompt, **OPTIONS)[0])


@pytest.fixture
def file(pipe, random_lora, tmp_path):
    return save_lora(random_lora(pipe.networks, seed=1), tmp_path / "style.safetensors")


def test_the_weights_are_the_same_memory(pipe):
    other = pipe.sharing_weights()
    for network in ("unet", "vae", "text_encoder"):
        here, there = (dict(getattr(p, network).named_parameters()) for p in (pipe, other))
        assert here.keys() == there.keys()
        assert all(here[name].data_ptr() == there[name].data_ptr() for name in here)
        assert all(here[name].requires_grad == there[name].requires_grad for name in here)
    assert np.array_equal(drawn(other), drawn(pipe))
    assert other.name == pipe.name and other.scheduler is not pipe.scheduler
    assert other.scheduler.to_config() == pipe.scheduler.to_config()


def test_no_random_numbers_are_taken(pipe):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    pipe.sharing_weights()
    assert torch.equal(torch.rand(2), expected)


def test_a_lora_of_one_is_not_one_of_the_other(pipe, file):
    plain, other = drawn(pipe), pipe.sharing_weights()
    other.load_lora(file)
    assert pipe.loras == {} and not np.array_equal(drawn(other), plain)
    assert np.array_equal(drawn(pipe), plain)


def test_it_begins_with_what_is_loaded_and_then_goes_its_own_way(pipe, file):
    plain = drawn(pipe)
    pipe.load_lora(file, 0.7)
    at_7 = drawn(pipe)
    other = pipe.sharing_weights()
    assert np.array_equal(drawn(other), at_7)
    other.loras["style"].scale = 1.5
    assert pipe.lora_scale == 0.7 and np.array_equal(drawn(pipe), at_7) and not np.array_equal(drawn(other), at_7)
    pipe.unload_lora()
    assert np.array_equal(drawn(pipe), plain) and list(other.loras) == ["style"]
    other.loras["style"].scale = 0.7
    assert np.array_equal(drawn(other), at_7)


@pytest.mark.parametrize("merging", [0, 1])
def test_merged_in_one_it_is_not_in_the_weights_of_the_other(pipe, file, merging):
    pipe.load_lora(file)
    pair = pipe, pipe.sharing_weights()
    with_it = drawn(pipe)
    pair[1 - merging].unload_lora()
    without = drawn(pair[1 - merging])
    pair[merging].merge_lora()
    assert np.array_equal(drawn(pair[1 - merging]), without)
    assert np.abs(np.float32(drawn(pair[merging])) - np.float32(with_it)).max() <= 2  # rounding


def test_moving_one_leaves_the_other_where_it_is(pipe, file):
    pipe.load_lora(file)
    other = pipe.sharing_weights()
    other.to(dtype="bfloat16")
    assert pipe.dtype == torch.float32 and other.dtype == torch.bfloat16
    assert {p.dtype for p in pipe.loras["style"].parameters()} == {torch.float32}
    assert drawn(pipe).shape == drawn(other).shape


def test_two_threads_draw_at_once_each_with_its_own(pipe, file):
    """As a widget in the background and a cell do. The same pictures as one after the other, to the last bit."""
    other = pipe.sharing_weights()
    other.load_lora(file)
    alone = {pipe: drawn(pipe), other: drawn(other)}
    found, together = {pipe: [], other: []}, threading.Barrier(2)

    def work(which):
        together.wait(30)
        for scale in (1.0, 0.0, 1.0):
            if which is other:
                which.lora_scale = scale
            found[which].append(drawn(which))

    threads = [threading.Thread(target=work, args=(which,)) for which in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not np.array_equal(alone[pipe], alone[other])
    for pictures, expected in ((found[pipe], [pipe, pipe, pipe]), (found[other], [other, pipe, other])):
        assert [np.array_equal(picture, alone[which]) for picture, which in zip(pictures, expected, strict=True)] == [True] * 3


def test_words_are_its_own(pipe):
    width, generator = pipe.text_encoder.config.hidden_size, torch.Generator().manual_seed(0)
    new = lambda text, k: Word(text, torch.randn(k, width, generator=generator))  # noqa: E731
    pipe.add_word(new("<mine>", 2))
    with_word = drawn(pipe, "a <mine>")
    other = pipe.sharing_weights()
    assert np.array_equal(drawn(other, "a <mine>"), with_word) and list(other.dictionary.words) == ["<mine>"]
    other.add_word(new("<other>", 1))
    assert list(pipe.dictionary.words) == ["<mine>"]
    assert len(pipe.tokenizer) + 1 == len(other.tokenizer)
    other.unload_word()
    assert np.array_equal(drawn(pipe, "a <mine>"), with_word) and not np.array_equal(drawn(other, "a <mine>"), with_word)


def test_it_computes_with_the_same_engine_and_is_distilled_if_that_is(pipe):
    assert pipe.sharing_weights().engine == pipe.engine
    pipe.engine = as_written
    pipe.scheduler.few_steps = FewSteps(4, 6.0)
    other = pipe.sharing_weights()
    assert other.engine is as_written and other.few_steps == FewSteps(4, 6.0)


def test_hooks_of_somebody_else_stay_where_they_are(pipe):
    asked = []
    hook = pipe.unet.conv_in.register_forward_hook(lambda *_: asked.append(1))
    other = pipe.sharing_weights()
    drawn(other)
    assert asked == []
    drawn(pipe)
    hook.remove()
    assert asked
