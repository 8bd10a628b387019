"""ldm_tutorial.lessons.notebook: what show displays, what preflight prints."""

import base64
import io
import re

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from ldm_tutorial.lessons import notebook


@pytest.fixture
def displayed(monkeypatch):
    calls = []
    monkeypatch.setattr("IPython.display.display", lambda *args, **kwargs: calls.append((*args, kwargs)))
    return calls


def figure():
    fig = Figure(figsize=(2, 1), dpi=50)
    fig.add_subplot().plot([0, 1], [1, 0])
    return fig


def test_show_displays_a_png_with_its_alt_text(displayed):
    notebook.show(Image.new("RGB", (6, 5), "red"), "a red field", width=120)
    [(data, options)] = displayed
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size == (6, 5)
    assert data["text/plain"] == "a red field"
    assert options == {"raw": True, "metadata": {"image/png": {"alt": "a red field", "width": 120}}}


def test_show_keeps_the_size_that_a_figure_was_made_for(displayed):
    notebook.show(figure(), "a falling line")
    data = displayed[0][0]
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size == (100, 50)


@pytest.mark.parametrize("make", [figure, lambda: Image.linear_gradient("L")])
def test_the_same_picture_gives_the_same_bytes(make):
    first = notebook.png(make())
    assert first == notebook.png(make())
    assert b"atplotlib" not in first


def test_show_closes_a_pyplot_figure_and_no_other(displayed):
    other, shown = plt.figure(), plt.figure()
    notebook.show(shown, "an empty figure")
    assert plt.fignum_exists(other.number)
    assert not plt.fignum_exists(shown.number)
    plt.close(other)


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_show_wants_alt_text(displayed, alt):
    with pytest.raises(ValueError, match="alt="):
        notebook.show(figure(), alt)
    assert not displayed


def test_show_names_what_it_takes(displayed):
    with pytest.raises(TypeError, match="matplotlib figure or a PIL image, not Tensor"):
        notebook.show(torch.zeros(3, 4, 5), "black")
    assert not displayed


def test_preflight_gives_a_verdict_a_line_and_the_device(capsys):
    device = notebook.preflight()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "Python",
        "PyTorch",
        "memory",
        "device",
        "model",
        "widgets",
    ]
    assert all(re.fullmatch(r"\w+ +OK   \S.*", line) for line in lines), lines
    assert torch.zeros(1, device=device).device.type == device.type


def test_preflight_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(notebook, "EMOJI_FOLDER", tmp_path)
    monkeypatch.setattr(torch, "__version__", "2.1.3+cu118")
    monkeypatch.setattr("ldm_tutorial.checks.memory_bytes", lambda: 2**30)
    problems = {name: problem for name, problem, _ in notebook.checks(torch.device("cpu")) if problem}
    assert problems.keys() == {"PyTorch", "memory", "model"}
    assert "pip install" in problems["PyTorch"]
    assert "pip install" in problems["model"]


# ---- weights that are not shipped


def test_weights_that_are_not_here_are_explained(weights_dir, capsys):
    assert notebook.weights("sd15") is None
    note = capsys.readouterr().out
    for words in (
        "not on this machine",
        "with an internet connection, say download=True",
        "4.3 GB",
        "LDM_WEIGHTS_DIR",
        "v1-5-pruned-emaonly.safetensors",
        "4,265,146,304 bytes",
        "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
        "vocab.json, merges.txt",
        "CreativeML Open RAIL-M",
    ):
        assert words in note
    assert str(weights_dir) not in note


def test_weights_that_are_here_are_found_and_load_without_the_internet(weights_dir, make_tiny_pipe, capsys):
    from ldm_tutorial import load_pipeline
    from ldm_tutorial.checkpoints import save_checkpoint

    file = save_checkpoint(make_tiny_pipe(), weights_dir / "v1-5-pruned-emaonly.safetensors")
    assert notebook.weights("sd15") is None
    note = capsys.readouterr().out
    assert "v1-5-pruned-emaonly.safetensors is on this machine, but no tokenizer" in note
    assert "vocab.json, merges.txt" in note
    save_checkpoint({"tokenizer": make_tiny_pipe().tokenizer}, weights_dir)
    assert notebook.weights("sd15") == file
    assert "is on this machine, 0.0 GB" in capsys.readouterr().out
    assert load_pipeline("sd15", "cpu")("a cat", steps=1)[0].size == (32, 32)


def test_a_wrong_weights_dir_is_a_note_and_no_error(weights_dir, monkeypatch, capsys):
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(weights_dir / "gone"))
    assert notebook.weights("sd15") is None
    assert "gone is not a folder" in capsys.readouterr().out


def test_the_hub_is_asked_only_when_told_to(weights_dir, monkeypatch, capsys):
    from huggingface_hub import HfApi

    def unreachable(*_, **__):
        raise TimeoutError("timed out")

    monkeypatch.setattr(HfApi, "repo_info", unreachable)
    assert notebook.weights("sd15", download=True) is None
    note = capsys.readouterr().out
    assert "could not be reached" in note
    assert "LDM_WEIGHTS_DIR" in note
