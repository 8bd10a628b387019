"""The playground served as a page by Voilà, as notebook 14 says, with the settings of voila.json."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.browser.servers import free_port, homes, serving

expect = pytest.importorskip("playwright.sync_api", reason="NOTICE: no playwright, so no tests in a browser").expect
ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = "ldm_tutorial/widgets/page.ipynb"


@pytest.fixture
def page_of_voila(tmp_path):
    """The address of `voila` of the page, started in a folder that looks like the project's."""
    pytest.importorskip("voila", reason="NOTICE: no voila, so its page was not tested")
    for file in (PAGE, "voila.json"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    port = free_port()
    command = [sys.executable, "-m", "voila", PAGE, "--no-browser", f"--port={port}"]
    probe, log = f"http://localhost:{port}/static/none", tmp_path / "voila.log"  # each visit of the page itself starts a kernel
    with serving(command, probe, tmp_path, homes(tmp_path / ".home"), log, seconds=60):
        yield f"http://localhost:{port}"


def test_the_playground_is_a_page_that_asks_no_other_machine(page_of_voila, browser, keep):
    page = browser.new_page(viewport={"width": 1280, "height": 1500})
    try:
        asked, refused, errors = [], [], []
        page.on("request", lambda r: asked.append(r.url) if not r.url.startswith((page_of_voila, "data:", "blob:")) else None)
        page.on("requestfailed", lambda r: refused.append(r.url) if r.failure == "csp" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_of_voila, timeout=240_000)
        page.locator("a[download]").first.wait_for(timeout=120_000)  # the first picture is drawn
        picture = page.locator(".ldm-screen img").first
        first = picture.get_attribute("src")
        page.get_by_label("Scheduler", exact=True).first.select_option(label="Euler ancestral")
        expect(picture).not_to_have_attribute("src", first, timeout=60_000)
        keep.picture(page, "voila")
        assert asked == refused  # the browser was told not to: nothing has left
        assert errors == []
    finally:
        page.close()
