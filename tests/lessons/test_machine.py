"""A bug report that says what is needed, and nothing that is private."""

import getpass
import sys
from pathlib import Path

import psutil
import pytest
import torch

from ldm_tutorial.checkpoints import save_checkpoint
from ldm_tutorial.checks import memory_bytes
from ldm_tutorial.lessons import machine

FILE = "v1-5-pruned-emaonly.safetensors"


def test_the_report_has_what_a_maintainer_asks_for(weights_dir, make_tiny_pipe):
    size = save_checkpoint(make_tiny_pipe(), weights_dir / FILE).stat().st_size
    report = machine.report()
    for words in ("version", "python", "system", "processor", "cores", "memory", "free disk", "accelerators", torch.__version__):
        assert words in report
    assert f"sd15              {size / 1e6:,.0f} MB at {weights_dir}" in report
    assert f"LDM_WEIGHTS_DIR   {weights_dir}" in report


def test_the_memory_is_found_in_two_ways_or_said_to_be_unknown(monkeypatch):
    known = memory_bytes()
    monkeypatch.delattr("os.sysconf")  # as on Windows
    assert memory_bytes() == psutil.virtual_memory().total
    assert abs(memory_bytes() - known) < 0.01 * known
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert memory_bytes() is None
    assert machine.machine()["memory"] == "unknown"


def test_a_model_that_is_not_here_is_said_to_be_missing(monkeypatch, weights_dir):
    assert machine.models()["sd15"].startswith("not found. LDM_WEIGHTS_DIR was searched for v1-5-pruned-emaonly.safetensors, ")
    assert machine.models()["sd15"].endswith("it holds nothing.")
    monkeypatch.delenv("LDM_WEIGHTS_DIR")
    assert machine.models()["sd15"] == "not found"
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(weights_dir / "nothing"))
    assert machine.models()["sd15"] == f"LDM_WEIGHTS_DIR={weights_dir / 'nothing'} is not a folder"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"x" * 4096, "is not a whole model"), (b"<html>", "is a web page"), (b"", "is empty"), (None, "was cut short: ")],
)
def test_a_file_of_the_right_name_that_is_no_model_is_not_found(weights_dir, make_tiny_pipe, content, problem):
    file = save_checkpoint(make_tiny_pipe(), weights_dir / FILE)
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    assert f"it holds {FILE}; {FILE} {problem}" in machine.models()["sd15"]


def test_a_model_in_the_hubs_cache_is_found(monkeypatch, tmp_path, make_tiny_pipe):
    folder = save_checkpoint(make_tiny_pipe(), tmp_path / "model")
    monkeypatch.delenv("LDM_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(folder / "model_index.json"))
    assert machine.models()["sd15"].endswith(f" MB at {folder}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at /home/ada/venv/lib", "at ~/venv/lib"),
        ("/mnt/data/ada/models and /mnt/ada", "/mnt/data/<user>/models and /mnt/<user>"),
        ("/mnt/adamant/x", "/mnt/adamant/x"),
    ],
)
def test_the_report_does_not_tell_who_you_are(monkeypatch, text, shown):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    assert machine.private(text) == shown


def test_tokens_in_the_environment_are_not_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "hf_secret" not in machine.report()
