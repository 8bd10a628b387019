"""A process that forks one child for each notebook, watches it, and kills it with all that it has started.

It has imported PyTorch and the checks, so that a child starts at once. No student's code runs in it. Jobs come as lines of JSON
on its standard input, results leave as lines on its standard output:

    {"path": ..., "number": "08", "whole": false, "limits": {...}}
    {"exercises": {"08.1": {"state": ..., "share": ..., "said": ...}, ...}, "notes": [...], "network": false, "files": false}
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import select
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from .. import exercises
from ..exercises import CHECK_MODULES
from . import sandbox
from .examiner import examine_notebook
from .sandbox import Limits

_PAUSE = 0.05  # seconds between two looks
_GRACE = 2.0  # seconds that a child has to interrupt a cell by itself
_MOST_SENT = 4 * 2**20  # bytes that a child may send
_ATTEMPTS = 8  # a notebook that has to be killed is begun again so many times, each time without the step that was too much


def main() -> None:
    """Serve jobs until standard input ends."""
    sandbox.adopt_orphans()
    for module in CHECK_MODULES.values():
        importlib.import_module(f"{exercises.__name__}.{module}")
    for line in sys.stdin:
        print(json.dumps(run_job(**json.loads(line))), flush=True)


def run_job(path: str, number: str, whole: bool, limits: dict[str, Any]) -> dict[str, Any]:
    """The outcome of each exercise of a notebook. Whatever the notebook does, this returns within its limits."""
    allowed = Limits(**limits)
    deadline = time.monotonic() + allowed.notebook_seconds
    result: dict[str, Any] = {"exercises": {}, "notes": [], "network": True, "files": True}
    skipped: set[str] = set()
    for _ in range(_ATTEMPTS):
        notes, killed = _attempt(path, number, whole, allowed, deadline, skipped, result)
        result["notes"] = list(dict.fromkeys(result["notes"] + notes))
        if killed is None:
            break
        step, reason = killed
        if step in exercises.EXERCISES:
            result["exercises"][step] = {"state": "killed", "share": 0.0, "said": reason}
        else:
            result["notes"].append(f"{step}: {reason}")
        skipped |= {step, *result["exercises"]}
        if time.monotonic() >= deadline:
            break
    for name in exercises.EXERCISES:
        if name.startswith(f"{number}."):
            said = "not reached: the notebook was stopped before"
            result["exercises"].setdefault(name, {"state": "killed", "share": 0.0, "said": said})
    return result


def _attempt(
    path: str, number: str, whole: bool, limits: Limits, deadline: float, skipped: set[str], result: dict[str, Any]
) -> tuple[list[str], tuple[str, str] | None]:
    """One child from beginning to end: the notes it made; and if it was killed or died, in which step and why."""
    folder = Path(tempfile.mkdtemp(prefix="ldm-grade-"))
    key = secrets.token_hex(16)  # what the child sends counts only with it
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(receive)
            text = Path(path).read_text(encoding="utf-8-sig", errors="replace")  # a byte that is no character may be in a comment
            _become_child(text, number, whole, limits, skipped, send, key, folder)
        finally:
            os._exit(1)
    os.close(send)
    step, begun, notes, finished, reason = "start", time.monotonic(), [], False, None
    buffer, sent = b"", 0
    try:
        while True:
            ready, _, _ = select.select([receive], [], [], _PAUSE)
            data = os.read(receive, 65536) if ready else None
            if data == b"":
                break
            if data:
                sent += len(data)
                *lines, buffer = (buffer + data).split(b"\n")
                for message in filter(None, (_message(line, key) for line in lines)):
                    if "step" in message:
                        step, begun = str(message["step"]), time.monotonic()
                    elif "note" in message:
                        notes.append(_plain(message["note"]))
                    elif "exercise" in message:
                        fields = {"state": message["state"], "share": message["share"], "said": _plain(message["said"])}
                        result["exercises"][message["exercise"]] = fields
                    elif "confined" in message:
                        result["network"], result["files"] = message["confined"]
                    finished |= "done" in message
            now = time.monotonic()
            memory, processes = _weigh()
            if sent > _MOST_SENT:
                reason = "it sent more than any check does"
            elif memory > limits.memory:
                reason = f"it took more than {limits.memory / 2**30:g} GiB of memory"
            elif processes > limits.processes:
                reason = f"it started more than {limits.processes} processes"
            elif now > deadline:
                reason = f"the notebook ran longer than {limits.notebook_seconds:g} s"
            elif now - begun > limits.cell_seconds + _GRACE:
                reason = f"it ran longer than {limits.cell_seconds:g} s"
            if reason or finished:
                break
    finally:
        os.close(receive)
        _kill_all()
        shutil.rmtree(folder, ignore_errors=True)
    if finished and reason is None:
        return notes, None
    return notes, (step, reason or "the process ended in the middle: os._exit, a crash, or too much memory")


def _become_child(
    text: str, number: str, whole: bool, limits: Limits, skipped: set[str], send: int, key: str, folder: Path
) -> None:
    """Confine this process and examine the notebook; never returns."""
    import torch

    os.setsid()
    os.closerange(3, send)
    os.closerange(send + 1, 4096)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(os.dup(nowhere), mode, encoding="utf-8") for mode in "rww")
    os.environ.update({name: str(folder) for name in ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "MPLCONFIGDIR")})
    tempfile.tempdir = str(folder)
    os.chdir(folder)
    torch.set_num_threads(1)
    network_cut = sandbox.cut_off()
    sandbox.set_limits(limits, own_processes=network_cut)
    files_cut = sandbox.confine_files(folder, sandbox.what_python_reads())

    def tell(**message: Any) -> None:
        os.write(send, json.dumps({"key": key, **message}).encode() + b"\n")

    try:
        tell(confined=[not network_cut, not files_cut])
        examine_notebook(text, number, whole, limits.cell_seconds, skipped, tell)
    except ValueError as error:  # no notebook
        tell(note=str(error))
    except RecursionError:
        tell(note="the cells are nested too deeply")
    tell(done=True)
    os._exit(0)


def _message(line: bytes, key: str) -> dict[str, Any] | None:
    """What the examiner sent, or None for anything else that came through the pipe."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and message.get("key") == key else None


def _plain(text: Any) -> str:
    """One line without control characters, 500 characters at most."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)[:500]).split())


def _family() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _weigh() -> tuple[int, int]:
    """The memory of all descendants, in bytes, and their number."""
    memory = count = 0
    for process in _family():
        with suppress(psutil.Error):
            memory += process.memory_info().rss
            count += 1
    return memory, count


def _kill_all() -> None:
    """End all descendants, also those that are started meanwhile, and wait for them."""
    for _ in range(200):
        family = _family()
        for process in family:
            with suppress(psutil.Error):
                process.kill()
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                return
        time.sleep(0.01)
