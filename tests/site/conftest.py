"""The reading site and the slides, built once in a session from the stored notebooks, and looked at in Chromium."""

import functools
import http.server
import shutil
import threading

import npm_packages
import pytest

AXE = npm_packages.Package(
    "axe-core", "4.14.1", "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)


@pytest.fixture(scope="session")
def from_npm():
    """Skips, with a notice, where npm or its packages are missing."""
    if not shutil.which("npm"):
        pytest.skip("NOTICE: no npm here, so the site and the slides were not tested (apt install npm)")

    def fetch(package):
        try:
            return npm_packages.fetch(package)
        except SystemExit as reason:
            pytest.skip(f"NOTICE: {package.name} is not to be had, so the site and the slides were not tested: {reason}")

    return fetch


@pytest.fixture(scope="session")
def axe(from_npm):
    """axe-core's script: what would shut someone out."""
    return from_npm(AXE).extractfile("package/axe.min.js").read().decode()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def serve():
    """A function: a folder -> the address at which its files are."""
    servers = []

    def start(folder):
        handler = functools.partial(Quiet, directory=str(folder))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture
def open_page(browser):
    """A function: address, options of the browser's context -> the page. `page.outside` and `page.complaints` fill as it runs."""
    contexts = []

    def open_(address, **options):
        here = "/".join(address.split("/")[:3])
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.outside, page.complaints = [], []
        page.on("request", lambda r: None if r.url.startswith((here, "data:", "blob:")) else page.outside.append(r.url))
        page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(address)
        page.evaluate("() => window.MathJax?.startup?.promise")
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def violations(axe):
    """A function: a page, a part of it -> a line for each thing there that axe calls a barrier."""

    def found(page, part="html"):
        page.evaluate(axe)
        results = page.evaluate("(part) => axe.run(part, { resultTypes: ['violations'] })", part)
        nodes = [(v["id"], node) for v in results["violations"] for node in v["nodes"]]
        return [f"{rule}: {node['html'][:160]} {node['failureSummary'][:200]!r}" for rule, node in nodes]

    return found
