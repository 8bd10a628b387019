"""Cells that need the weights of v1.5 (tag needs-weights): they say so where there are none, and run where there are.

The weights here are a tiny random model, put where those of v1.5 would be.
"""

import json

import nbformat
import pytest
import torch
from nbtool import ROOT, tags

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints import save_checkpoint
from ldm_tutorial.checkpoints.compvis import to_ldm
from ldm_tutorial.checkpoints.hub import KNOWN
from ldm_tutorial.lessons.memory import GIB, account, needed

NOTEBOOK = "13_stable_diffusion_v1_5.ipynb"


def cells() -> list[str]:
    notebook = nbformat.read(ROOT / "notebooks" / NOTEBOOK, 4)
    return [cell.source for cell in notebook.cells if "needs-weights" in tags(cell)]


def run(change=lambda source: source) -> tuple[list, dict]:
    """All of these cells, with what the notebook's other cells have given them; returns what was shown, and the names."""
    shown = []
    names = {
        "show": lambda picture, alt, **_: shown.append((picture, alt)),
        "device": torch.device("cpu"),
        "json": json,
        "torch": torch,
        "load_pipeline": load_pipeline,
        "to_ldm": to_ldm,
        "account": account,
        "needed": needed,
        "GIB": GIB,
    }
    for source in cells():
        exec(change(source), names)
    return shown, names


def test_without_weights_they_say_what_to_do_and_do_nothing(weights_dir, capsys):
    shown, names = run()
    assert shown == []
    assert names["sd15"] is None
    assert "big" not in names
    said = capsys.readouterr().out
    for words in ("is not on this machine", "download=True", "LDM_WEIGHTS_DIR", KNOWN["sd15"].file, KNOWN["sd15"].sha256):
        assert words in said


@pytest.mark.parametrize("layout", ["sd15", KNOWN["sd15"].file])
@pytest.mark.parametrize("fast", [False, True], ids=["processor", "gpu"])
def test_with_weights_they_draw(weights_dir, make_tiny_pipe, capsys, layout, fast):
    pipe = make_tiny_pipe()
    save_checkpoint(pipe, weights_dir / layout)
    save_checkpoint({"tokenizer": pipe.tokenizer}, weights_dir)
    switch = 'fast = device.type != "cpu"'
    assert sum(switch in source for source in cells()) == 1
    shown, names = run(lambda source: source.replace(switch, f"fast = {fast}").replace("steps=25", "steps=2"))
    [(figure, alt)] = shown
    prompts, schedulers = (5, 4) if fast else (1, 1)
    assert len(figure.axes) == len(names["gallery"].pictures) == prompts * schedulers
    assert "A painting of a squirrel eating a burger." in alt
    said = capsys.readouterr().out
    assert "is on this machine" in said
    assert "StableDiffusion('sd15', 32x32 pictures, float32 on cpu)" in said
    count = sum(len(network.state_dict()) for network in (pipe.unet, pipe.vae, pipe.text_encoder))
    assert (f"{count} weights, and 0 tables" in said) is (layout != "sd15")


def test_their_stored_outputs_are_not_compared():
    """On a machine with the weights they print something else."""
    notebook = nbformat.read(ROOT / "notebooks" / NOTEBOOK, 4)
    assert all("nbval-ignore-output" in tags(cell) for cell in notebook.cells if "needs-weights" in tags(cell))
