"""How pytest runs the tests and the notebooks, everywhere the same.

Each notebook has its outputs compared by nbval (tests/notebooks/sanitize.cfg tells what may differ). Several workers run at
once, except for what needs a machine for itself.
"""

import os
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from nbtool import KERNEL_ENV

# One thread for each worker and each kernel that it starts; before torch is imported.
os.environ.update(KERNEL_ENV)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")


def pytest_configure(config):
    config.option.nbval_sanitize_with = str(Path(__file__).parent / "tests" / "notebooks" / "sanitize.cfg")


def pytest_collection_modifyitems(items):
    """The longest first, so that none is left for the end: full-size networks, the browser, the notebooks."""

    def place(item):
        if item.get_closest_marker("slow"):
            return 0
        if item.get_closest_marker("browser"):
            return 1
        return 2 if hasattr(item.parent, "skip_compare") else 3

    for item in items:
        if hasattr(item.parent, "skip_compare"):  # a notebook: warnings on stderr differ between versions
            item.parent.skip_compare = tuple({*item.parent.skip_compare, "stderr"})
            item.cell.outputs = reproducible(item.cell)
    items.sort(key=place)


def pytest_runtest_setup(item):
    if hasattr(item.parent, "skip_compare") and (said := stale(item.path)):
        pytest.fail(said, pytrace=False)


def reproducible(cell):
    """The stored outputs of a cell that running it gives again."""
    from course import without_invitation

    return without_invitation(cell.get("outputs", []))


@cache
def stale(path):
    """What is to be said of a notebook that is not what its master says."""
    from course import Course

    course = Course()
    place = course.which(path)
    return "".join(course.stale(*place)) if place else ""
