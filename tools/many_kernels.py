#!/usr/bin/env python3
"""What thirty learners on one server need: so many kernels start, load the model, and draw one after the other.

python tools/many_kernels.py                 # 30 kernels
python tools/many_kernels.py --kernels 8

Memory is each process's share of the pages that it holds (PSS, Linux only): the weights are mapped from their file, so all
kernels share one copy, and so they do with PyTorch's libraries.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from queue import Empty

from jupyter_client.manager import KernelManager

LOAD = "from ldm_tutorial import load_pipeline; pipe = load_pipeline('emoji')"
DRAW = "pipe('a cat in the style of noto', steps=25, progress=False)"
MIB = 2**20


def memory(pid: int) -> int:
    """The process's proportional share of memory, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/{pid}/smaps_rollup names no Pss")


def run(kernel: KernelManager, code: str) -> float:
    """Seconds that the code takes there. Raises RuntimeError if it fails."""
    client = kernel.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        began = time.perf_counter()
        reply = client.execute_interactive(code, timeout=600, output_hook=lambda message: None)
        if reply["content"]["status"] != "ok":
            raise RuntimeError("\n".join(reply["content"]["traceback"]))
        return time.perf_counter() - began
    except Empty:
        raise RuntimeError("a kernel gave no answer") from None
    finally:
        client.stop_channels()


def pid_of(kernel: KernelManager) -> int:
    """The kernel's process."""
    return kernel.provisioner.pid  # type: ignore[union-attr]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", type=int, default=30, metavar="N")
    args = parser.parse_args()
    kernels: list[KernelManager] = []
    loading, drawing = [], []
    try:
        for _ in range(args.kernels):
            kernel = KernelManager(kernel_name="python3")
            kernel.start_kernel(extra_arguments=["--log-level=ERROR"])
            kernels.append(kernel)
            loading.append(run(kernel, LOAD))
        loaded = [memory(pid_of(kernel)) / MIB for kernel in kernels]
        for kernel in kernels:
            drawing.append(run(kernel, DRAW))
        drawn = [memory(pid_of(kernel)) / MIB for kernel in kernels]
    finally:
        for kernel in kernels:
            kernel.shutdown_kernel(now=True)
    print("| | median | largest | all together |\n|---|---|---|---|")
    for what, values, unit in (
        ("memory of a kernel that has loaded the model", loaded, "MiB"),
        ("memory of a kernel that has drawn", drawn, "MiB"),
        ("importing and loading", loading, "s"),
        ("a picture of 25 steps, one kernel after the other", drawing, "s"),
    ):
        digits = 0 if unit == "MiB" else 2
        numbers = (f"{number:,.{digits}f} {unit}" for number in (statistics.median(values), max(values), sum(values)))
        print(f"| {what} | {' | '.join(numbers)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
