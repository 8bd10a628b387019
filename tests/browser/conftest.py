"""JupyterLab in a real browser: Debian's Chromium, driven by Playwright. No network: whatever leaves the machine is noted."""

import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.browser.servers import chromium, free_port, homes, serving

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "runs" / "browser"  # screenshots and measurements, to be looked at
OVERRIDES = {  # as in tools/jupyterlab_overrides.json, and all cells in the page, seen or not
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "@jupyterlab/apputils-extension:kernels-settings": {"commsOverSubshells": "disabled"},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """(url, folder) of a JupyterLab whose folder looks like the project's. No settings of the user leak in."""
    pytest.importorskip("jupyterlab")
    chromium()
    root, home = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("home")
    (root / "notebooks").mkdir()
    shutil.copytree(ROOT / "images", root / "images")  # copies: the server serves no link that leads out of its folder
    shutil.copytree(ROOT / "docs", root / "docs")
    shutil.copy(ROOT / "LICENSE", root)
    for plugin, values in OVERRIDES.items():
        package, _, name = plugin.partition(":")
        file = home / "settings" / package / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    port = free_port()
    env = homes(home, JUPYTERLAB_SETTINGS_DIR="settings", JUPYTERLAB_WORKSPACES_DIR="workspaces")
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--ServerApp.password=",
        f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--KernelManager.transport_encryption=auto",
    ]
    url = f"http://127.0.0.1:{port}"
    with serving(command, f"{url}/api/status", root, env, home / "lab.log", seconds=120):
        yield url, root


@pytest.fixture
def open_notebook(lab, browser):
    """A function: name or path of a notebook -> its page, kernel ready. `page.outside` and `page.complaints` fill as it runs."""
    url, root = lab
    contexts = []

    def open_(name):
        source = ROOT / "notebooks" / name  # a whole path is itself
        shutil.copy(source, root / "notebooks" / source.name)
        context = browser.new_context(
            viewport={"width": 1280, "height": 1500}, permissions=["clipboard-read", "clipboard-write"], accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.outside, page.complaints = [], []
        here = (url, url.replace("http:", "ws:"), "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(here) else page.outside.append(request.url))
        page.on("console", lambda m: page.complaints.append(f"{m.text} {m.location}") if m.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(f"{url}/doc/tree/notebooks/{source.name}?reset")
        page.locator(".jp-Notebook").wait_for()
        page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=120_000
        )
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def keep(capfd):
    """A function that keeps a screenshot under a name, and one that writes a line into the log that a person reads."""
    KEPT.mkdir(parents=True, exist_ok=True)

    class Keep:
        @staticmethod
        def picture(locator, name):
            locator.screenshot(path=KEPT / f"{name}.png")

        @staticmethod
        def line(text):
            with capfd.disabled():
                print(f"\n{text}", file=sys.stderr, flush=True)
            with open(KEPT / "log.txt", "a", encoding="utf-8") as file:
                print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=file)

    return Keep
