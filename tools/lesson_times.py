#!/usr/bin/env python3
"""Give a lesson without an audience: run the cells of a teaching path in order, and compare seconds with the minutes planned.

    python tools/lesson_times.py two_hours            a table; exit status 1 if a cell fails or a block spends too long on running
    python tools/lesson_times.py two_hours --warm     as the checklist says: first all cells of each notebook, then the lesson
    python tools/lesson_times.py two_hours --write    store the seconds in docs/instructor/times.json, and write the pages anew

Each notebook has its kernel, as in a classroom, and only the cells of the path are run. Measure on a machine that does nothing
else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from contextlib import ExitStack

import lesson_paths
import nbformat
import nbtool
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

MOST = 1 / 2  # of a block's minutes may be spent on waiting for cells


def give(path: lesson_paths.TeachingPath, stack: ExitStack, timeout: int, warm: bool = False) -> dict[str, dict[int, float]]:
    """Run every cell of a path, in its order; `warm`: after all cells of its notebooks.

    Returns the seconds: notebook -> cell -> seconds. Raises nbclient's errors.
    """
    clients: dict[str, tuple[NotebookClient, list[int]]] = {}
    took: dict[str, dict[int, float]] = {}
    for block in path.blocks:
        for number in block.cells:
            notebook = str(block.notebook)
            if notebook not in clients:
                clients[notebook] = open_notebook(notebook, stack, timeout)
                if warm:
                    client, places = clients[notebook]
                    for place in places:
                        client.execute_cell(client.nb.cells[place], place)
            client, places = clients[notebook]
            seconds = took.setdefault(notebook, {})
            if number in seconds:
                continue
            began = time.monotonic()
            client.execute_cell(client.nb.cells[places[number - 1]], places[number - 1])
            seconds[number] = time.monotonic() - began
            first = client.nb.cells[places[number - 1]].source.strip().splitlines()[0]
            print(f"{notebook} [{number:>2}] {seconds[number]:6.1f} s  {first[:80]}", flush=True)
    return took


def open_notebook(number: str, stack: ExitStack, timeout: int) -> tuple[NotebookClient, list[int]]:
    """A kernel for this notebook, and where its code cells are among all cells."""
    path = lesson_paths.notebook_path(number)
    notebook = nbformat.read(path, 4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],
    )
    stack.enter_context(client.setup_kernel(env={**os.environ, **nbtool.KERNEL_ENV}))
    return client, [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]


def compare(path: lesson_paths.TeachingPath, took: dict[str, dict[int, float]]) -> list[str]:
    """Print each block with its planned minutes and its seconds; returns the blocks that wait too long, a line each."""
    slow, seen = [], set()
    for block in path.blocks:
        new = [(block.notebook, n) for n in block.cells if (block.notebook, n) not in seen]
        seen |= set(new)
        seconds = sum(took[notebook][n] for notebook, n in new)
        share = seconds / (60 * block.minutes)
        print(f"{block.minutes:4} min {seconds:7.1f} s {share:6.0%}  {block.title}")
        if share > MOST:
            slow.append(f"{block.title}: {seconds:.0f} s of {60 * block.minutes} s are waiting")
    print(f"{path.minutes:4} min {sum(sum(cells.values()) for cells in took.values()):7.1f} s         {path.title}, all cells")
    return slow


def store(path: lesson_paths.TeachingPath, took: dict[str, dict[int, float]]) -> None:
    """Keep the seconds, and where they were measured, and write the pages that show them."""
    measured = lesson_paths.measured()
    where = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    cells = {m: {str(n): [round(s, 1), lesson_paths.sign(m, n)] for n, s in seconds.items()} for m, seconds in took.items()}
    measured[path.name] = {"machine": where, "cells": cells}
    lesson_paths.MEASURED.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    lesson_paths.main("write")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", choices=list(lesson_paths.paths()))
    parser.add_argument("--timeout", type=int, default=600, help="seconds for one cell (default: %(default)s)")
    parser.add_argument("--warm", action="store_true", help="run all cells of a notebook before those of the lesson")
    parser.add_argument("--write", action="store_true", help="store the seconds and write the pages")
    arguments = parser.parse_args()
    path = lesson_paths.paths()[arguments.path]
    try:
        with ExitStack() as stack:
            took = give(path, stack, arguments.timeout, arguments.warm)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        print(f"the lesson stops here: {error}", file=sys.stderr)
        return 1
    print()
    slow = compare(path, took)
    if arguments.write:
        store(path, took)
    for line in slow:
        print(line, file=sys.stderr)
    return bool(slow)


if __name__ == "__main__":
    sys.exit(main())
