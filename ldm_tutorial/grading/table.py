"""A class's points: run all notebooks, write grades.csv and the reasons."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..exercises import points_of
from .hand_ins import HandIn, find_hand_ins
from .sandbox import Limits

_SERVE = "from ldm_tutorial.grading.warden import main; main()"


@dataclass
class Grades:
    """What `grade` found: student -> exercise -> outcome, a dict of state, share and said; and what was noted by the way."""

    outcomes: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    open_doors: set[str] = field(default_factory=set)  # "network", "files": what this system did not cut off

    @property
    def exercises(self) -> list[str]:
        """The columns: the exercises of all notebooks that someone handed in."""
        return sorted({name for outcomes in self.outcomes.values() for name in outcomes})

    def points(self, student: str, name: str) -> float:
        """Of one exercise: what it counts times the share that is right; 0 for a notebook that was not handed in."""
        return round(points_of(name) * self.outcomes[student].get(name, {}).get("share", 0.0), 2)

    def total(self, student: str) -> float:
        """The sum over all columns."""
        return round(sum(self.points(student, name) for name in self.exercises), 2)

    @property
    def possible(self) -> int:
        """The total of a student who has everything right."""
        return sum(map(points_of, self.exercises))

    def csv(self) -> str:
        """A row for each student, a column for each exercise, the total, and what it could be."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["student", *self.exercises, "total", "of"])
        for student in self.outcomes:
            points = [f"{self.points(student, name):g}" for name in self.exercises]
            writer.writerow([_cell(student), *points, f"{self.total(student):g}", self.possible])
        return text.getvalue()

    def reasons(self) -> str:
        """Markdown: for each student what the check of each exercise said, and what happened by the way."""
        doors = " and ".join(sorted(self.open_doors))
        lines = ["# Reasons for the points", ""]
        if doors:
            lines += [f"This system did not cut off the {doors} while the notebooks ran.", ""]
        lines += [f"- left out: {_text(line)}" for line in self.left_out] + [""] * bool(self.left_out)
        for student, outcomes in self.outcomes.items():
            lines += [f"## {_text(student)}: {self.total(student):g} of {self.possible}", ""]
            for name, found in outcomes.items():
                lines.append(f"- **{name}** {self.points(student, name):g} of {points_of(name)}: {_text(found['said'])}")
            lines += [f"- note: {_text(note)}" for note in self.notes[student]] + [""]
        return "\n".join(lines)


def _cell(text: str) -> str:
    """A name as it is, except that no spreadsheet takes it for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def _text(text: str) -> str:
    """As text in Markdown: nothing in it is a link, a picture or HTML."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#!&" else c for c in text)


def grade_folder(
    folder: str | Path,
    limits: Limits | None = None,
    whole: bool = False,
    jobs: int = 1,
    report: Callable[[str], None] = lambda line: None,
) -> Grades:
    """Run every notebook below a folder and examine its exercises; `report` gets a line for each notebook.

    whole: run all cells, and not only those that the exercises need. Raises FileNotFoundError or ValueError for a folder
    without notebooks, OSError on a system without `fork`.
    """
    hand_ins, left_out = find_hand_ins(folder)
    return examine_all(hand_ins, left_out, limits or Limits(), whole, jobs, report)


def examine_all(
    hand_ins: list[HandIn], left_out: list[str], limits: Limits, whole: bool, jobs: int, report: Callable[[str], None]
) -> Grades:
    """The outcomes of these notebooks, from `jobs` processes at a time."""
    if not hasattr(os, "fork"):
        raise OSError(
            "notebooks of others are run in processes that this system cannot make: use Linux, macOS, or WSL on Windows"
        )
    if importlib.util.find_spec("psutil") is None:
        raise ImportError('grading needs psutil, to watch the processes of notebooks: pip install "ldm-tutorial[notebooks]"')
    if jobs < 1:
        raise ValueError(f"jobs={jobs} must be 1 or more")
    grades = Grades(left_out=left_out)
    for one in hand_ins:
        grades.outcomes.setdefault(one.student, {})
        grades.notes.setdefault(one.student, [])
    waiting, busy = list(hand_ins), list[tuple[Warden, HandIn]]()
    wardens = [Warden() for _ in range(min(jobs, len(hand_ins)))]
    try:
        while waiting or busy:
            while waiting and len(busy) < len(wardens):
                warden = next(w for w in wardens if w not in [b for b, _ in busy])
                one = waiting.pop(0)
                warden.begin(one, whole, limits)
                busy.append((warden, one))
            warden, one = busy.pop(0)
            found = warden.result()
            grades.outcomes[one.student] |= found["exercises"]
            grades.notes[one.student] += [f"notebook {one.number}, {note}" for note in found["notes"]]
            grades.open_doors |= {door for door in ("network", "files") if found[door]}
            right = sum(outcome["state"] == "correct" for outcome in found["exercises"].values())
            report(f"{one.student}, notebook {one.number}: {right} of {len(found['exercises'])} exercises")
    finally:
        for warden in wardens:
            warden.end()
    return grades


class Warden:
    """The process that runs notebooks; a new one if it has ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def begin(self, one: HandIn, whole: bool, limits: Limits) -> None:
        """Hand it a notebook."""
        if self.process is None or self.process.poll() is not None:
            command, pipe = [sys.executable, "-c", _SERVE], subprocess.PIPE
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, text=True, env=_environment(), start_new_session=True
            )
        job = {"path": str(one.path.resolve()), "number": one.number, "whole": whole, "limits": asdict(limits)}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Wait for the outcome. Raises OSError if the process has ended."""
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise OSError(f"the process that runs the notebooks ended with code {self.process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        """Close its input, which ends it; kill it if that takes long."""
        if self.process is None or self.process.stdin is None or self.process.stdout is None:
            return
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def _environment() -> dict[str, str]:
    """What a notebook needs of the environment, and no keys or tokens."""
    kept = (
        "PATH",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "SYSTEMROOT",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "PYTHONPATH",
    )
    here = {name: os.environ[name] for name in kept if name in os.environ}
    quiet = {"MPLBACKEND": "Agg", "LDM_QUIET": "1", "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}
    return {**here, **quiet, **one_thread, "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"}
