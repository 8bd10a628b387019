"""The notebooks of the series, as stored: run in order, clean, light, accessible, in step with each other and the package."""

import drift
import nbformat
import nbtool
import pytest


@pytest.mark.parametrize("path", nbtool.all_notebooks(), ids=lambda p: str(p.relative_to(nbtool.ROOT)))
def test_stored_notebook_is_sound(path):
    assert nbtool.problems(path) == []


@pytest.mark.parametrize("path", drift.lessons(), ids=lambda p: p.stem)
def test_notebook_starts_like_all_others(path):
    """One bootstrap cell, the same everywhere, before any other code: no notebook can lag behind."""

    def bootstrap(path):
        code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        assert [i for i, cell in enumerate(code) if "bootstrap" in nbtool.tags(cell)] == [0], "the first code cell, and only it"
        return code[0].source

    assert bootstrap(path) == bootstrap(drift.lessons()[0])


def test_notebooks_build_what_the_package_holds():
    found = drift.drifts(drift.lessons(), drift.in_package())
    assert not found, "\n\n".join(found)
