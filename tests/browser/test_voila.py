"""Notebook 14 served as a page by Voilà, as its text says, with the settings of voila.json."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="NOTICE: no playwright, so no tests in a browser").expect
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def page_of_voila(tmp_path):
    """The address of `voila notebooks/14_playground.ipynb`, started in a folder that looks like the project's."""
    pytest.importorskip("voila", reason="NOTICE: no voila, so its page was not tested")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "14_playground.ipynb", tmp_path / "notebooks")
    shutil.copytree(ROOT / "images", tmp_path / "images")
    shutil.copy(ROOT / "voila.json", tmp_path)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    env = {**os.environ, **{name: str(tmp_path / ".home" / name) for name in places}}  # no settings of the user leak in
    command = [sys.executable, "-m", "voila", "notebooks/14_playground.ipynb", "--no-browser", f"--port={port}"]
    log = tmp_path / "voila.log"
    with open(log, "w") as file:
        server = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=file, stderr=file)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://localhost:{port}/static/none", timeout=2)
                break
            except urllib.error.HTTPError:  # it answers
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.25)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait(30)


def test_the_playground_is_a_page_that_asks_no_other_machine(page_of_voila, browser, keep):
    page = browser.new_page(viewport={"width": 1280, "height": 1500})
    try:
        asked, refused, errors = [], [], []
        page.on("request", lambda r: asked.append(r.url) if not r.url.startswith((page_of_voila, "data:", "blob:")) else None)
        page.on("requestfailed", lambda r: refused.append(r.url) if r.failure == "csp" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_of_voila, timeout=240_000)
        page.locator("a[download]").first.wait_for(timeout=120_000)  # the first picture is drawn
        assert page.locator("img[alt='Open in Colab']").first.evaluate("i => i.complete && i.naturalWidth > 0")
        picture = page.locator(".ldm-screen img").first
        first = picture.get_attribute("src")
        page.get_by_label("Scheduler", exact=True).first.select_option(label="Euler ancestral")
        expect(picture).not_to_have_attribute("src", first, timeout=60_000)
        keep.picture(page, "voila")
        assert asked == refused  # the browser was told not to: nothing has left
        assert errors == []
    finally:
        page.close()
