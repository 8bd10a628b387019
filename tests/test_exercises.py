"""The checks of the exercises: each accepts the solution of its notebook, and names the mistake in every wrong answer.

A wrong answer is the solution with one line changed, as a learner would have got it wrong.
"""

from pathlib import Path

import nbformat
import pytest
import torch

from ldm_tutorial import exercises
from ldm_tutorial.exercises import NotDone, check, verdict

ROOT = Path(__file__).resolve().parent.parent
NAMES = {"00.1": "latent_shape", "00.2": "my_guidance", "00.3": "my_loop"}


def cells_of(notebook: str) -> list[str]:
    return [c.source for c in nbformat.read(ROOT / "notebooks" / notebook, 4).cells if c.cell_type == "code"]


def source_of(exercise: str, notebook: str = "solutions/00_start_here.ipynb") -> str:
    """The cell of an exercise, without its call of check."""
    [source] = [source for source in cells_of(notebook) if f'check("{exercise}"' in source]
    return source.replace(f'check("{exercise}", {NAMES[exercise]})', "")


def answer(exercise: str, old: str = "", new: str = "", notebook: str = "solutions/00_start_here.ipynb"):
    source = source_of(exercise, notebook)
    assert source.count(old) == 1 or not old
    from ldm_tutorial.schedulers import EulerDiscreteScheduler

    names = {"torch": torch, "EulerDiscreteScheduler": EulerDiscreteScheduler}
    exec(source.replace(old, new) if old else source, names)
    return names[NAMES[exercise]]


@pytest.mark.parametrize("exercise", NAMES)
def test_the_solution_is_correct(exercise):
    assert verdict(exercise, answer(exercise)) == f"[{exercise}] correct"


@pytest.mark.parametrize("exercise", NAMES)
def test_the_stub_is_not_done_yet(exercise):
    stub = answer(exercise, notebook="00_start_here.ipynb")
    assert verdict(exercise, stub).startswith(f"[{exercise}] not done yet")
    for nothing in (None, ..., lambda *_: None):
        assert verdict(exercise, nothing).startswith(f"[{exercise}] not done yet")


SHAPE = "return config.vae.latent_channels, height // f, width // f"
GUIDANCE = "return uncond + scale * (cond - uncond)"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("00.1", SHAPE, "return config.vae.latent_channels, width // f, height // f", "height comes before width"),
        ("00.1", SHAPE, "return config.vae.latent_channels, height, width", "the size of the picture"),
        ("00.1", SHAPE, "return 3, height // f, width // f", "red, green and blue"),
        ("00.1", SHAPE, "return config.vae.latent_channels, height / f, width / f", "divide with //"),
        ("00.1", SHAPE, "return config.vae.latent_channels, height // f**2, width // f**2", "not the one for the area"),
        ("00.1", "f = config.vae.downsampling", "f = 8", "another model's factor"),
        ("00.1", SHAPE, "return height // f, width // f", "has 2 entries"),
        ("00.1", SHAPE, "return height // f * width // f * 4", "a tuple of three numbers"),
        ("00.1", SHAPE, "return 4, 64, 64", "should be (4, 64, 96)"),
        ("00.1", "config.vae.downsampling", "config.downsampling", "raised AttributeError"),
        ("00.2", GUIDANCE, "return cond + scale * (cond - uncond)", "one step too far"),
        ("00.2", GUIDANCE, "return cond + scale * (uncond - cond)", "swapped"),
        ("00.2", GUIDANCE, "return uncond + scale * (uncond - cond)", "flees"),
        ("00.2", GUIDANCE, "return scale * (cond - uncond)", "add uncond"),
        ("00.2", GUIDANCE, "return scale * cond", "making cond longer"),
        ("00.2", GUIDANCE, "return uncond + 7.4 * (cond - uncond)", "are not uncond + scale"),
        ("00.2", GUIDANCE, "cond -= uncond; cond *= scale; cond += uncond; return cond", "changes its inputs"),
        ("00.2", GUIDANCE, "return float((uncond + scale * (cond - uncond)).mean())", "must be a tensor"),
        ("00.2", GUIDANCE, "return torch.cat([uncond, cond])", "must be a tensor (1, 4, 3, 5)"),
        ("00.3", "scheduler.init_noise_sigma * noise", "noise", "unit variance"),
        ("00.3", "scheduler.scale_model_input(x, t), t", "x, t", "gets x as it is"),
        ("00.3", ".prev_sample", ".pred_original_sample", "the guess at the end"),
        ("00.3", "scale_model_input(x, t), t,", "scale_model_input(x, t), 999,", "same timestep"),
        ("00.3", "encode_prompt(prompt)", 'encode_prompt("")', "never reach"),
        ("00.3", "manual_seed(seed)", "manual_seed(0)", "picture of seed 0"),
        ("00.3", "for t in scheduler.timesteps:", "for t in scheduler.timesteps[:-1]:", "after 7 of 8 steps"),
        ("00.3", "    return x", "    return pipe.decode(x)", "return the latents"),
        ("00.3", "    return x", "    return x[0]", "have (4, 16, 16)"),
        ("00.3", "    return x", "    return -x", "other latents"),
        ("00.3", "pipe.unet(", "pipe.unets(", "raised AttributeError"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    said = verdict(exercise, answer(exercise, old, new))
    assert said.startswith(f"[{exercise}] not yet: ")
    assert mistake in said
    assert "\n  hint: " in said


def test_both_scalings_forgotten_are_both_named():
    source = source_of("00.3").replace("scheduler.init_noise_sigma * noise", "noise")
    source = source.replace("scheduler.scale_model_input(x, t), t", "x, t")
    names = {}
    exec(source, names)
    assert "neither" in verdict("00.3", names["my_loop"])


def test_check_only_prints(capsys):
    def broken(*_):
        raise RuntimeError("no")

    assert check("00.1", broken) is None
    assert capsys.readouterr().out.startswith("[00.1] not yet: your code raised RuntimeError: no\n  hint: ")
    check("00.1", 3)
    assert "must be a function; it is int" in capsys.readouterr().out


def test_an_unknown_exercise_is_named():
    with pytest.raises(ValueError, match="no exercise '00.9'; there are 00.1, 00.2"):
        check("00.9", print)
    with pytest.raises(ValueError, match="no exercise 'x'"):
        check("x", print)


def test_call_tells_a_stub_from_an_answer():
    assert exercises.call(lambda x: 2 * x, 3) == 6
    with pytest.raises(NotDone):
        exercises.call(lambda: ...)
