"""tools/many_kernels.py: the kernels draw, and share the pages of the weights."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("jupyter_client")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PSS is Linux's")
def test_two_kernels_that_draw_share_memory():
    command = [sys.executable, ROOT / "tools" / "many_kernels.py", "--kernels", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {line.split("|")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("| ")}
    assert set(rows) >= {"memory of a kernel that has drawn", "a picture of 25 steps, one kernel after the other"}
    median, largest, together = (
        int(n.replace(",", "")) for n in re.findall(r"([\d,]+) MiB", rows["memory of a kernel that has drawn"])
    )
    assert 100 < median <= largest < together < 4000
