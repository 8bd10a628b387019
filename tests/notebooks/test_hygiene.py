"""The notebooks of the series, as stored: run in order, clean, light, accessible, in step with each other and the package."""

import drift
import nbtool
import pytest


@pytest.mark.parametrize("path", nbtool.all_notebooks(), ids=lambda p: str(p.relative_to(nbtool.ROOT)))
def test_stored_notebook_is_sound(path):
    assert nbtool.problems(path) == []


def test_notebooks_build_what_the_package_holds():
    found = drift.drifts(drift.lessons(), drift.in_package())
    assert not found, "\n\n".join(found)
