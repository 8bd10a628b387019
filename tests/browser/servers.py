"""The browser of the tests, and servers that a test starts, waits for and stops."""

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def homes(folder: Path, **names: str) -> dict[str, str]:
    """The environment, with Jupyter's own folders inside this one, so that no settings of the user leak in."""
    jupyter = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    return {**os.environ, **{name: str(folder / place) for name, place in {**jupyter, **names}.items()}}


@contextmanager
def serving(command: Sequence[str], probe: str, cwd: Path, env: Mapping[str, str], log: Path, seconds: int) -> Iterator[None]:
    """Within the block, the server runs and has answered at the address `probe`, be it with an error."""
    with open(log, "w") as file:
        server = subprocess.Popen(command, env=env, cwd=cwd, stdout=file, stderr=file)
    try:
        end = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(probe, timeout=2)
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.25)
        yield
    finally:
        server.terminate()
        server.wait(30)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """The path of a Chromium; the test is skipped without one."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("NOTICE: no Chromium here, so the widgets were not tested in a browser (apt install chromium)")
    return found
