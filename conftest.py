"""How pytest runs the tests and the notebooks, everywhere the same.

Each notebook has its outputs compared by nbval (tests/notebooks/sanitize.cfg tells what may differ). Several workers run at
once, except for what needs a machine for itself.
"""

import os
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


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """`--dist loadgroup` keeps a group on one worker, in order; the long ones go first."""
    order = {}
    for item in items:
        notebook = item.parent if hasattr(item.parent, "skip_compare") else None
        if notebook:
            notebook.skip_compare = tuple(
                {*notebook.skip_compare, "stderr"}
            )  # warnings differ between versions
            place, group = 2, notebook.nodeid
        elif item.get_closest_marker("slow"):
            place, group = 0, "slow"
        elif item.get_closest_marker("browser"):
            place, group = 1, "browser"
        else:
            place, group = 3, None
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
        order[item] = place
    items.sort(key=order.get)
