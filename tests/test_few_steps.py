"""A distilled model draws by itself in its own few steps, without guidance, and says so where it is asked for something else."""

import importlib.util
import json
import warnings

import pytest
import torch

from ldm_tutorial import load_pipeline
from ldm_tutorial.adapters import new_lora, read_lora, save_lora
from ldm_tutorial.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from ldm_tutorial.checkpoints.tensors import write_tensors
from ldm_tutorial.inputs import Options
from ldm_tutorial.schedulers import SCHEDULERS, DDIMScheduler, make_scheduler
from ldm_tutorial.schedulers.few_steps import FEW_STEPS, FewSteps

FOUR = FewSteps(4, 6.0)
QUIETLY = {"progress": False, "seed": 3}


@pytest.fixture
def pipe(make_tiny_pipe):
    return make_tiny_pipe()


@pytest.fixture(scope="module")
def file(make_tiny_pipe, tmp_path_factory):
    """A LoRA as `train distill` writes it, of random numbers."""
    networks, generator = make_tiny_pipe().networks, torch.Generator().manual_seed(0)
    lora = new_lora({"unet": networks["unet"]}, rank=2)
    for update in lora.by_name().values():
        torch.nn.init.normal_(update.up.weight, std=0.3, generator=generator)
    lora.few_steps = FOUR
    return save_lora(lora, tmp_path_factory.mktemp("lora") / "emoji-4-steps.safetensors")


@pytest.fixture(autouse=True)
def _a_warning_is_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_with_its_lora_a_model_takes_its_steps_and_without_it_the_usual_ones(pipe, file):
    before = pipe("a cat", **QUIETLY)[0]
    pipe.load_lora(file)
    assert pipe.few_steps == FOUR
    few = pipe("a cat", **QUIETLY)[0]
    assert (few.info["steps"], few.info["guidance_scale"], few.info["scheduler"]) == (4, 1.0, "ddim")
    assert [step.timestep for step in pipe.stream("a cat")] == [999, 749, 499, 249]
    assert [step.timestep for step in pipe.stream("a cat", few, strength=0.5)] == [499, 249]
    assert pipe.img2img("a cat", few, **QUIETLY)[0].info["steps"] == 4
    pipe.unload_lora()
    assert pipe.few_steps is None
    after = pipe("a cat", **QUIETLY)[0]
    assert after.info == before.info and after.tobytes() == before.tobytes() and after.info["steps"] == 25


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"steps": 25}, "4 steps, and was asked for the timesteps 999, 959, ..., 39, not 999, 749, 499, 249: pictures"),
        ({"guidance_scale": 7.5}, "asked for guidance_scale=7.5, beside the 6 that is a part of it already: pictures"),
        ({"steps": 2, "guidance_scale": 2}, "timesteps 999, 499, not 999, 749, 499, 249; and for guidance_scale=2, beside"),
        ({"scheduler": DDIMScheduler(timestep_spacing="leading", steps_offset=200)}, "the timesteps 950, 700, 450, 200, not 999"),
    ],
)
def test_another_use_gets_one_warning_and_is_drawn(pipe, file, asked, words):
    pipe.load_lora(file)
    with pytest.warns(UserWarning, match="Leave out") as said:
        pictures = pipe("a cat", **QUIETLY, **asked)
    assert len(pictures) == len(said) == 1 and words in str(said[0].message)
    assert said[0].filename == __file__


def test_what_is_meant_is_taken_without_a_warning(pipe, file):
    pipe.load_lora(file)
    of_itself = pipe("a cat", **QUIETLY)[0].tobytes()
    trailing = {"timestep_spacing": "trailing"}
    for same in (
        {"steps": 4, "guidance_scale": 1, "scheduler": "ddim"},
        {"scheduler": None},
        {"scheduler": DDIMScheduler(**trailing)},
        {"scheduler": "ddim", "scheduler_options": trailing},
    ):
        assert pipe("a cat", **QUIETLY, **same)[0].tobytes() == of_itself, same
    assert pipe.prepare("a cat", Options(**FOUR.arguments)).timesteps.tolist() == [999, 749, 499, 249]


def test_at_scale_0_it_is_the_model_that_it_was(pipe, file):
    pipe.load_lora(file, scale=0)
    assert pipe.few_steps is None
    assert pipe("a cat", **QUIETLY)[0].info["steps"] == 25


@pytest.mark.parametrize("scale", [1, 0])
def test_two_distilled_ones_do_not_go_together(pipe, file, scale):
    pipe.load_lora(file, scale)
    with pytest.raises(ValueError, match="is of a distilled model, and so is what this pipeline has already"):
        pipe.load_lora(file, name="again")
    assert list(pipe.loras) == ["emoji-4-steps"]


@pytest.mark.parametrize("other", [DDIMScheduler(prediction_type="v_prediction"), make_scheduler("flow_euler")])
def test_a_model_that_predicts_something_else_refuses_it(pipe, file, other):
    pipe.scheduler = other
    with pytest.raises(ValueError, match=f"that predicts noise; this one predicts {other.prediction_type}"):
        pipe.load_lora(file)
    assert pipe.loras == {}


@pytest.mark.parametrize("place", ["model", "model.safetensors"])
def test_merged_and_saved_the_model_keeps_its_steps(pipe, file, tmp_path, place):
    pipe.load_lora(file)
    expected = pipe("a cat", **QUIETLY)[0]
    pipe.merge_lora()
    assert pipe.few_steps == FOUR and pipe.scheduler.timestep_spacing == "trailing"
    read = load_pipeline(save_checkpoint(pipe, tmp_path / place), device="cpu")
    assert read.few_steps == FOUR
    drawn = read("a cat", **QUIETLY)[0]
    assert drawn.info["steps"] == 4 and drawn.info["guidance_scale"] == 1
    far = (torch.tensor(list(drawn.tobytes())).float() - torch.tensor(list(expected.tobytes())).float()).abs().max()
    assert far <= 1  # the sum of two weights is rounded once
    with pytest.raises(ValueError, match="so is what this pipeline has already"):
        read.load_lora(file)


@pytest.mark.parametrize("own", [*SCHEDULERS, DDIMScheduler(set_alpha_to_one=True)])
def test_merged_it_draws_what_it_drew_before_whatever_the_models_own_scheduler(pipe, file, own):
    pipe.scheduler = make_scheduler(own) if isinstance(own, str) else own
    pipe.load_lora(file)
    before = list(pipe.stream("a cat"))[-1].latents
    pipe.merge_lora()
    torch.testing.assert_close(list(pipe.stream("a cat"))[-1].latents, before, rtol=0, atol=1e-4)


def test_diffusers_loads_both_and_draws_the_same(pipe, file, tmp_path, caplog):
    diffusers = pytest.importorskip("diffusers")
    pipe.load_lora(file)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ours = list(pipe.stream("a cat", latents=noise))[-1].latents
    base = save_checkpoint(load_checkpoint_of(pipe), tmp_path / "base")
    pipe.merge_lora()
    whole = save_checkpoint(pipe, tmp_path / "whole")
    options = {"num_inference_steps": 4, "guidance_scale": 1.0, "latents": noise, "output_type": "latent"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries
        merged = diffusers.StableDiffusionPipeline.from_pretrained(whole)
        assert "_few_steps" not in caplog.text
        found = [merged]
        if importlib.util.find_spec("peft"):  # diffusers reads LoRAs with it
            found.append(diffusers.StableDiffusionPipeline.from_pretrained(base, scheduler=merged.scheduler))
            found[1].load_lora_weights(file.parent, weight_name=file.name)
        for theirs in found:
            theirs.set_progress_bar_config(disable=True)
            torch.testing.assert_close(theirs("a cat", **options).images, ours, rtol=1e-3, atol=1e-4)


def load_checkpoint_of(pipe):
    """The parts without the LoRA, which hangs on them."""
    return {name: getattr(pipe, name) for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")}


def test_a_scheduler_that_says_nothing_has_nothing_to_say():
    assert FEW_STEPS not in make_scheduler("ddim").to_config()
    scheduler = make_scheduler("ddim", timestep_spacing="trailing")
    scheduler.few_steps = FOUR
    config = json.loads(json.dumps(scheduler.to_config()))
    assert config[FEW_STEPS] == {"steps": 4, "guidance_scale": 6.0}
    assert DDIMScheduler.from_config(config).few_steps == FOUR
    assert make_scheduler("euler", config).few_steps == FOUR


@pytest.mark.parametrize("nonsense", ['{"steps": 0, "guidance_scale": 1}', "[4]", "four", '{"steps": 4}', '{"steps": 1e999}'])
def test_nonsense_in_a_file_is_refused(pipe, file, tmp_path, nonsense):
    lora = read_lora(file, pipe.networks)
    tensors = {f"{name}.lora_{x}.weight": m.weight for name, u in lora.by_name().items() for x, m in (("A", u.down), ("B", u.up))}
    write_tensors(tmp_path / "wrong.safetensors", tensors, metadata={FEW_STEPS: nonsense})
    with pytest.raises(CheckpointError, match="_few_steps=.* must be such as"):
        pipe.load_lora(tmp_path / "wrong.safetensors")
    save_checkpoint(pipe, tmp_path / "model")
    settings = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), FEW_STEPS: nonsense}))
    with pytest.raises(CheckpointError, match="_few_steps=.* must be such as"):
        load_checkpoint(tmp_path / "model").scheduler  # noqa: B018
