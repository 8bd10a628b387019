"""The notebooks name one repository, the one of pyproject.toml, wherever they link to it or install from it."""

import re

import nbformat
import nbtool
import pytest

OWN = re.compile(r"(?:github\.com|colab\.research\.google\.com/github)/([\w.-]+/[\w.-]+?)(?=@|/blob/)")


def named(path):
    """Each repository that a notebook installs from or opens in Colab."""
    return {name for cell in nbformat.read(path, 4).cells for name in OWN.findall(cell.source)}


def test_every_lesson_installs_from_one_repository():
    found = {path.name: named(path) for path in nbtool.all_notebooks()}
    assert all(found.values()), "no repository in " + ", ".join(name for name, repositories in found.items() if not repositories)
    assert len(set().union(*found.values())) == 1, found


def test_it_is_the_repository_of_the_package():
    text = (nbtool.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    urls = re.findall(r"https://github\.com/([\w.-]+/[\w.-]+)\"", text.partition("[project.urls]")[2])
    if not urls:
        pytest.skip("pyproject.toml has no [project.urls] yet: the notebooks say ORG/REPO")
    assert {name for path in nbtool.all_notebooks() for name in named(path)} == {urls[0]}
