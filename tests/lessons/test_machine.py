"""A bug report that says what is needed, and nothing that is private."""

import getpass
from pathlib import Path

import pytest
import torch

from ldm_tutorial.lessons import machine


def test_the_report_has_what_a_maintainer_asks_for(monkeypatch, tmp_path):
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "v1-5-pruned-emaonly.safetensors").write_bytes(b"x" * 3_000_000)
    report = machine.report()
    for words in ("version", "python", "system", "processor", "cores", "memory", "free disk", "accelerators", torch.__version__):
        assert words in report
    assert f"sd15              3 MB at {tmp_path}" in report
    assert f"LDM_WEIGHTS_DIR   {tmp_path}" in report


def test_a_model_that_is_not_here_is_said_to_be_missing(weights_dir):
    assert machine.models()["sd15"] == "not found"


def test_a_wrong_weights_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(tmp_path / "nothing"))
    assert "LDM_WEIGHTS_DIR" in machine.models()["sd15"]


def test_the_size_of_a_folder_is_that_of_all_its_files(monkeypatch, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights").write_bytes(b"x" * 2_000_000)
    monkeypatch.setattr("ldm_tutorial.checkpoints.hub.find", lambda name: tmp_path)
    assert machine.models()["sd15"] == f"2 MB at {tmp_path}"


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
