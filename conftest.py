"""How pytest runs the tests and the notebooks, everywhere the same.

Each notebook has its outputs compared by nbval (tests/notebooks/sanitize.cfg tells what may differ). Several workers run at
once, each a file at a time.
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

# Seconds of the longest files on two cores, beside others (`--durations`). They are begun first: none is left for the end, and
# what often waits (browsers, servers) runs beside what computes.
SECONDS = {
    "tests/web/test_page.py": 400,
    "tests/site/test_site.py": 170,
    "notebooks/15_gallery.ipynb": 150,
    "tests/browser/test_jupyterlab.py": 120,
    "notebooks/03_training_the_autoencoder.ipynb": 85,
    "notebooks/07b_training_the_diffusion_model.ipynb": 85,
    "notebooks/17_your_own_pictures.ipynb": 80,
    "tests/test_full_size.py": 75,
    "tests/grading/test_grade.py": 70,
    "tests/training/test_trainings.py": 65,
    "tests/test_sameness.py": 65,
    "tests/checkpoints/test_killed_while_saving.py": 60,
    "tests/export/test_export.py": 55,
    "tests/training/test_distill.py": 50,
    "notebooks/05_clip.ipynb": 50,
    "tests/training/test_killed_trainings.py": 50,
    "tests/adapters/test_pipeline_loras.py": 45,
    "notebooks/16_better_steps.ipynb": 45,
    "tests/notebooks/test_course.py": 45,
    "notebooks/13_stable_diffusion_v1_5.ipynb": 40,
    "tests/browser/test_voila.py": 40,
    "tests/training/test_precision.py": 40,
    "tests/browser/test_monkey.py": 35,
    "tests/evaluation/test_benchmark.py": 35,
    "tests/prompts/test_reading.py": 35,
    "tests/site/test_slides.py": 35,
    "tests/checkpoints/test_atomic_saving.py": 35,
    "notebooks/08_ddpm.ipynb": 30,
    "notebooks/12_guidance_and_the_pipeline.ipynb": 30,
    "tests/web/test_core.py": 30,
    "tests/test_pipeline.py": 30,
    "tests/notebooks/test_nbtool.py": 25,
    "notebooks/07a_training_objective.ipynb": 25,
    "tests/checkpoints/test_load_and_save.py": 25,
    "notebooks/09_ddim.ipynb": 25,
    "tests/exercises/test_zoo.py": 22,
    "tests/test_emoji_model.py": 22,
    "notebooks/14_playground.ipynb": 21,
    "notebooks/10_euler.ipynb": 21,
    "notebooks/00_start_here.ipynb": 21,
    "tests/training/test_processes.py": 20,
    "tests/test_busy_machine.py": 0,  # last: it compares a machine that is busy with one that is not
}
OTHERS = 10

hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")


def pytest_configure(config):
    config.option.nbval_sanitize_with = str(Path(__file__).parent / "tests" / "notebooks" / "sanitize.cfg")


def pytest_collection_modifyitems(items):
    """The longest first."""
    for item in items:
        if hasattr(item.parent, "skip_compare"):  # a notebook: warnings on stderr differ between versions
            item.parent.skip_compare = tuple({*item.parent.skip_compare, "stderr"})
            item.cell.outputs = reproducible(item.cell)
    items.sort(key=lambda item: -SECONDS.get(item.nodeid.partition("::")[0], OTHERS))


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
