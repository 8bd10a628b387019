"""The repository's name is one setting: until it is set no page shows what needs it; then every page shows the same."""

import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import nbtool
import pytest
import repository

from course import PUBLISHED, Course

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN = re.compile(r"(?:git\+https://github\.com|colab\.research\.google\.com/github)/([\w.-]+/[\w.-]+?)(?=@|/blob/)")
NAME = "ada-lovelace/engine_1.5"
FILES = ("pyproject.toml", "CITATION.cff", "README.md")
LESSON = "08_ddpm"


def named(path):
    """Each repository that a notebook installs from or opens in Colab."""
    return {name for cell in nbformat.read(path, 4).cells for name in OWN.findall(cell.source)}


@pytest.mark.parametrize("path", nbtool.all_notebooks(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_notebook_names_the_repository_of_the_package_or_none(path):
    name = repository.read()
    assert named(path) == ({name} if name else set())
    assert repository.PLACEHOLDER not in path.read_text(encoding="utf-8")


@pytest.fixture
def copy(tmp_path):
    """The files that say it, and one notebook with its master, without a name."""
    for file in (*FILES, "course/bootstrap.ipy", "course/install.ipy", "course/questions.yml", f"course/{LESSON}.md"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(repository.ROOT / file, tmp_path / file)
    for version in PUBLISHED:
        to = Course(tmp_path).notebook(LESSON, version)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Course().notebook(LESSON, version), to)
    set_to(tmp_path, "")
    return tmp_path


def set_to(root, name):
    repository.write(name, root)
    for version in PUBLISHED:
        Course(root).generate(LESSON, version)


def texts(root):
    notebooks = [Course(root).notebook(LESSON, version) for version in PUBLISHED]
    return {path.name: path.read_text(encoding="utf-8") for path in [*(root / file for file in FILES), *notebooks]}


def test_without_a_name_no_page_shows_a_badge_or_an_install_line(copy):
    assert repository.read(copy) == ""
    for version in PUBLISHED:
        cells = nbformat.read(Course(copy).notebook(LESSON, version), 4).cells
        assert not any(re.search(r"colab\.research|%pip|github\.com", cell.source) for cell in cells)
    first = nbformat.read(Course(copy).notebook(LESSON), 4).cells[0].source
    assert first.startswith("[solutions](solutions/08_ddpm.ipynb) · ")
    assert "urls" not in tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "repository-code" not in (copy / "CITATION.cff").read_text(encoding="utf-8")
    assert "git clone" not in (copy / "README.md").read_text(encoding="utf-8")


def test_with_a_name_every_page_shows_it(copy):
    set_to(copy, NAME)
    assert repository.read(copy) == NAME
    lesson = nbformat.read(Course(copy).notebook(LESSON), 4).cells
    assert lesson[0].source.startswith("[![Open in Colab](")
    assert f"colab.research.google.com/github/{NAME}/blob/main/notebooks/{LESSON}.ipynb" in lesson[0].source
    for version in PUBLISHED:
        [bootstrap] = [c for c in nbformat.read(Course(copy).notebook(LESSON, version), 4).cells if "bootstrap" in nbtool.tags(c)]
        assert f"git+https://github.com/{NAME}@main" in bootstrap.source
    urls = tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert urls == {"Repository": f"https://github.com/{NAME}"}
    assert f"repository-code: https://github.com/{NAME}\n" in (copy / "CITATION.cff").read_text(encoding="utf-8")
    assert f"git clone https://github.com/{NAME}\ncd engine_1.5\n" in (copy / "README.md").read_text(encoding="utf-8")


def test_no_output_is_lost_and_taking_the_name_back_leaves_no_trace(copy):
    before = texts(copy)
    outputs = [c.get("outputs") for c in nbformat.read(Course(copy).notebook(LESSON), 4).cells]
    set_to(copy, "someone/else")
    set_to(copy, NAME)
    assert texts(copy) != before
    assert [c.get("outputs") for c in nbformat.read(Course(copy).notebook(LESSON), 4).cells] == outputs
    set_to(copy, "")
    assert texts(copy) == before


@pytest.mark.parametrize("name", ["", NAME])
def test_an_edited_title_goes_back_into_its_master_with_the_placeholder(copy, name):
    set_to(copy, name)
    course = Course(copy)
    master = course.master(LESSON).read_text(encoding="utf-8")
    notebook = nbformat.read(course.notebook(LESSON), 4)
    notebook.cells[0].source += "\n\nMore."
    nbtool.store(notebook, course.notebook(LESSON))
    course.carry(course.notebook(LESSON))
    changed = course.master(LESSON).read_text(encoding="utf-8")
    assert changed.replace("\n\nMore.", "") == master


@pytest.mark.parametrize("name", ["engine", "a/b/c", "https://github.com/ada/engine", "ada/", "-ada/engine", 'ada/"engine'])
def test_what_is_no_name_changes_nothing(copy, name):
    before = texts(copy)
    with pytest.raises(ValueError, match="it is owner/name"):
        repository.write(name, copy)
    assert texts(copy) == before


def test_make_hands_the_name_over(tmp_path):
    """`make badges` asks, `make badges REPO=` unsets, and no other command is given it."""
    import subprocess

    make = shutil.which("make") or pytest.skip("no make")
    shutil.copy(repository.ROOT / "Makefile", tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "dev.py").write_text("import sys; print(sys.argv[1:])")

    def given(*words):
        command = [make, "-s", *words, f"PYTHON={Path(sys.executable)}"]
        alone = {
            name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS")
        }
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=alone).stdout.strip()

    assert given("badges") == "['badges']"
    assert given("badges", "REPO=") == "['badges', '']"
    assert given("badges", f"REPO={NAME}") == f"['badges', '{NAME}']"
    assert given("lab", f"REPO={NAME}") == "['lab']"
