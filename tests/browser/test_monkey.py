"""The playground under random use: no error, no growth of memory beyond a tenth, the right picture for the last request.

A few seconds here; `make monkey` makes it ten minutes (MONKEY=600). MONKEY_SEED chooses what it does. In a few seconds the
process still grows to its usual size (each kind of run is drawn for the first time), so memory is compared from a minute on.
"""

import os
from functools import partial

import numpy as np
import pytest

from ldm_tutorial import load_pipeline
from ldm_tutorial.images import open_image, read_settings
from tests.browser.monkey import play
from tests.browser.test_jupyterlab import assert_no_errors, cell, control, is_drawn, press, run_cells, type_into, wait_for_status

SECONDS, SEED = float(os.environ.get("MONKEY", 12)), int(os.environ.get("MONKEY_SEED", 0))
CODE = """\
import os
from ldm_tutorial import load_pipeline
from ldm_tutorial.widgets import Playground
print("kernel", os.getpid())
Playground(load_pipeline("emoji", device="cpu", dtype="float32"))"""


def memory(page, kernel):
    """MB of the kernel's process, and of the page's objects after a collection of what is not needed."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = page.evaluate("performance.memory.usedJSHeapSize")
    return np.array([kernel.memory_info().rss, heap]) / 2**20


@pytest.mark.timeout(1800)
def test_the_playground_survives_a_monkey(open_notebook, keep, tmp_path):
    nbformat, psutil = pytest.importorskip("nbformat"), pytest.importorskip("psutil")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)], metadata=kernel)
    nbformat.write(notebook, tmp_path / "monkey.ipynb")
    page = open_notebook(tmp_path / "monkey.ipynb")
    run_cells(page)
    place = cell(page, "Playground(")
    is_drawn(place)
    number = place.locator("pre").filter(has_text="kernel").first.inner_text().split()[1]
    kernel = psutil.Process(int(number))

    # A third of the time to grow to its usual size: history, fonts, allocators
    check = partial(assert_no_errors, page)
    count = play(page, place, SEED, SECONDS / 3, check)
    before = memory(page, kernel)
    count += play(page, place, SEED + 1, SECONDS * 2 / 3, check)
    after = memory(page, kernel)
    keep.line(f"monkey: {count} acts in {SECONDS:.0f} s, MB of kernel and page {before.round()} before, {after.round()} after")
    assert count > SECONDS / 3
    if SECONDS >= 60:
        assert (after <= 1.1 * before + 2).all(), (before, after)

    # What is asked for last is what is shown
    place.get_by_label("Prompt", exact=True).first.fill("a rocket in the style of noto")
    place.get_by_label("Scheduler", exact=True).select_option(label="DDIM")
    type_into(control(place, "widget-slider", "Steps"), 9)
    press(place, "Generate")
    wait_for_status(place, "9 steps")
    is_drawn(place)
    with page.expect_download() as download:
        place.get_by_text("Save PNG").first.click()  # one for each picture: there may be several
    download.value.save_as(tmp_path / "last.png")
    assert_no_errors(page)
    settings = read_settings(tmp_path / "last.png")
    asked = {"prompt": "a rocket in the style of noto", "scheduler": "ddim", "steps": 9}
    assert asked.items() <= settings.items()
    names = ("negative_prompt", "guidance_scale", "guidance_rescale", "seed", "scheduler_options", "width", "height")
    pipe = load_pipeline("emoji", device="cpu", dtype="float32")
    (expected,) = pipe(**asked, **{name: settings[name] for name in names}, progress=False)
    difference = np.asarray(open_image(tmp_path / "last.png"), dtype=int) - np.asarray(expected, dtype=int)
    assert np.abs(difference).max() <= 1
