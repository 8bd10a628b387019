"""`ldm-tutorial lab` starts JupyterLab at the first notebook, and `make lab` starts `ldm-tutorial lab`: one place says how."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from ldm_tutorial import cli
from ldm_tutorial.lessons import working_copy

ROOT = Path(__file__).parent.parent


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The command that would have been started. In this clone itself no copies are made."""
    commands = []
    make = working_copy.make_working_copy
    monkeypatch.setattr(working_copy, "make_working_copy", lambda course: [] if course == ROOT else make(course))
    monkeypatch.setattr(os, "execv", lambda program, command: commands.append(command))
    return commands


@pytest.mark.skipif(os.name == "nt", reason="there it is a child process")
def test_lab_opens_the_first_notebook_and_hands_over_the_options(started):
    assert cli.main(["lab", "--no-browser", "--port", "8899", "--ServerApp.ip=127.0.0.1"]) == 0
    [command] = started
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={ROOT}" in command
    [url] = [a for a in command if a.startswith("--LabApp.default_url=/lab/tree/")]
    assert (ROOT / url.partition("/tree/")[2]).is_file()
    assert [a for a in command if a != "--allow-root"][-4:] == ["--no-browser", "--port", "8899", "--ServerApp.ip=127.0.0.1"]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone of the course with one notebook, in which the command is called."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / cli.FIRST_NOTEBOOK).write_text("as it is stored")
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "ldm_tutorial" / "cli.py"))
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="there it is a child process")
def test_in_a_clone_lab_opens_a_copy_that_git_ignores(started, clone, capsys):
    assert cli.main(["lab"]) == 0
    assert "--LabApp.default_url=/lab/tree/my_notebooks/00_start_here.ipynb" in started[0]
    copy = clone / "my_notebooks" / "00_start_here.ipynb"
    assert copy.read_text() == "as it is stored"
    assert "my_notebooks/, which git ignores" in capsys.readouterr().out
    assert "/my_notebooks/" in (ROOT / ".gitignore").read_text().splitlines()

    copy.write_text("run, with answers")
    (clone / cli.FIRST_NOTEBOOK).write_text("a new version")  # git pull
    assert cli.main(["lab"]) == 0
    assert copy.read_text() == "run, with answers"
    said = capsys.readouterr().out
    assert "newer versions in notebooks/: 00_start_here.ipynb" in said and "Yours stay as they are" in said


def test_progress_is_that_of_the_copies(clone):
    assert cli.notebooks_of_the_learner(clone) == clone / "notebooks"
    (clone / "my_notebooks").mkdir()
    assert cli.notebooks_of_the_learner(clone) == clone / "notebooks"  # nothing in it
    (clone / "my_notebooks" / "00_start_here.ipynb").write_text("mine")
    assert cli.notebooks_of_the_learner(clone) == clone / "my_notebooks"


def test_lab_has_help_of_its_own(started, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["lab", "--help"])
    assert stopped.value.code == 0 and not started
    assert "JupyterLab" in capsys.readouterr().out


def test_lab_without_the_notebooks_says_where_they_are(started, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages" / "ldm_tutorial" / "cli.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lab"]) == 2 and not started
    assert "run this in a clone of the project" in capsys.readouterr().err
    monkeypatch.chdir(ROOT)  # the clone will do
    assert cli.main(["lab"]) == 0 and f"--ServerApp.root_dir={ROOT}" in started[0]


def test_lab_finds_the_notebooks_beside_its_environment(started, monkeypatch, tmp_path):
    """So the bundle's installer lays them, and the command works from any folder."""
    (tmp_path / "course" / "notebooks").mkdir(parents=True)
    (tmp_path / "course" / cli.FIRST_NOTEBOOK).write_text("{}")
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages" / "ldm_tutorial" / "cli.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "course" / ".venv"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lab"]) == 0 and f"--ServerApp.root_dir={tmp_path / 'course'}" in started[0]


def test_lab_without_jupyterlab_says_how_to_get_it(started, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["lab"]) == 1 and not started
    assert "pip install" in capsys.readouterr().err


def test_make_lab_starts_the_same(monkeypatch):
    spec = importlib.util.spec_from_file_location("dev_of_lab", ROOT / "tools" / "dev.py")
    dev = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dev)
    commands = []
    monkeypatch.setattr(dev, "environment", lambda *extras: sys.executable)
    monkeypatch.setattr(dev, "first_picture", lambda: None)
    monkeypatch.setattr(dev, "run", lambda command, replace=False: commands.append((command, replace)) or 0)
    assert dev.lab(["--no-browser"]) == 0
    assert commands == [([sys.executable, "-m", "ldm_tutorial", "lab", "--no-browser"], True)]
