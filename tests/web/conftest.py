"""The page of web/, built from the shipped weights: its own tests in Node, and the page in Chromium."""

import functools
import hashlib
import http.server
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
WEB = ROOT / "web"
KEPT = ROOT / "runs" / "web"  # screenshots and times, to be looked at


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(3000))


@pytest.fixture(scope="session")
def npm():
    """A function: arguments of npm -> the finished process, in web/. Skips, with a notice, where npm or packages are missing."""
    program = shutil.which("npm")
    if not program:
        pytest.skip("NOTICE: no Node.js here, so the page of web/ was not tested (apt install npm)")

    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if tuple(map(int, version.removeprefix("v").split(".")[:2])) < (20, 19):
        pytest.skip(f"NOTICE: Node.js {version} is too old to build the page of web/, so it was not tested (20.19 or newer)")

    def run(*arguments):
        return subprocess.run([program, *arguments], cwd=WEB, capture_output=True, text=True, encoding="utf-8")

    if not (WEB / "node_modules" / "vite").is_dir():
        installed = run("ci", "--no-audit", "--no-fund")
        if installed.returncode:
            pytest.skip(f"NOTICE: npm could not install what web/ needs, so the page was not tested: {installed.stderr[-300:]}")
    return run


@pytest.fixture(scope="session")
def recorded(npm):
    """The folder of what Python says, with the shipped model exported beside it; both anew when anything in them has changed."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    folder, model = WEB / "tests" / "recorded", WEB / "public" / "model"
    stamp, made_of = folder / "made_of.txt", fingerprint()
    if not stamp.is_file() or stamp.read_text() != made_of or not (model / "model.json").is_file():
        for command in (["-m", "ldm_tutorial", "export", str(model)], ["tests/web/record.py", str(folder)]):
            done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        stamp.write_text(made_of)
    return folder


def fingerprint():
    """Of everything that the exported model and the recordings are made of."""
    digest = hashlib.sha256((ROOT / "tests" / "web" / "record.py").read_bytes())
    for path in sorted((ROOT / "ldm_tutorial").rglob("*")):
        if path.suffix in (".py", ".json", ".safetensors"):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Like any server of files; `missing` and `damaged` are names that it answers wrongly."""

    def __init__(self, folder):
        self.missing, self.damaged = set(), set()
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def do_GET(self):
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        if name in self.server.missing:
            return self.send_error(404)
        return super().do_GET()

    def copyfile(self, source, outputfile):
        if self.path.split("?")[0].rsplit("/", 1)[-1] in self.server.damaged:
            data = bytearray(source.read())
            data[len(data) // 2] ^= 1
            return outputfile.write(data)
        return super().copyfile(source, outputfile)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def site(npm, recorded, tmp_path_factory):
    """The built page, served. `/diffusion/` holds the modules as they are written."""
    KEPT.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("site")
    built = npm("run", "build", "--", "--outDir", str(folder), "--emptyOutDir")
    assert built.returncode == 0, built.stdout + built.stderr
    shutil.copytree(WEB / "src" / "diffusion", folder / "diffusion")
    server = Server(folder)
    server.folder = folder
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


WINDOW = {"width": 1280, "height": 900}


def new_page(site, context):
    """A page of this context. `page.outside` and `page.complaints` fill as it runs."""
    page = context.new_page()
    page.set_default_timeout(300_000)
    page.outside, page.complaints = [], []
    page.on("request", lambda r: None if r.url.startswith((site.url, "data:", "blob:")) else page.outside.append(r.url))
    page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    return page


def visit(page, address):
    page.goto(address)
    page.locator("main, [role=alert]:visible").first.wait_for()  # it may have reloaded itself once until then
    return page


@pytest.fixture
def open_page(site, browser):
    """A function: the part of the link after #, options of the browser's context -> the page, visited for the first time."""
    contexts = []

    def open_(link="part=scheduler", **options):
        contexts.append(browser.new_context(**{"viewport": WINDOW, **options}))
        return visit(new_page(site, contexts[-1]), site.url + (f"#{link}" if link else ""))

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def visited():
    """The page that `page_at` has opened, if there is one."""
    return []


DRAWN = (
    "() => document.querySelector('#page').dataset.drawn && document.querySelector('button.main')?.textContent === 'Draw again'"
)
GO = """(link) => new Promise((resolve) => {
    const painted = () => requestAnimationFrame(() => requestAnimationFrame(resolve));
    if (location.hash === `#${link}`) return painted();
    addEventListener("hashchange", painted, { once: true });
    location.hash = link;
})"""


@pytest.fixture
def page_at(request, site, browser, visited):
    """A function: the part of the link after #, the size of the window, the media -> the page there, drawn.

    It is one page for all tests that ask only what it shows: to load the networks takes four times as long as to draw a picture,
    and a link says the whole state. After a test that failed, the next one visits a page of its own.
    """
    failed = request.session.testsfailed

    def go(link, viewport=WINDOW, color_scheme="light", reduced_motion="no-preference"):
        if visited:
            visited[0].outside.clear()
            visited[0].complaints.clear()
        else:
            visited.append(visit(new_page(site, browser.new_context(viewport=WINDOW)), f"{site.url}#{link}"))
        page = visited[0]
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=color_scheme, reduced_motion=reduced_motion)
        page.evaluate(GO, link)
        page.wait_for_function(f"({DRAWN})()")
        return page

    yield go
    if visited and request.session.testsfailed > failed:
        visited.pop().context.close()


@pytest.fixture(scope="session")
def keep(site):
    """A function that keeps a screenshot of the page under a name."""
    return lambda page, name, **options: page.screenshot(path=KEPT / f"{name}.png", **options)
