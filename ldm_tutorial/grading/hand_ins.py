"""Whose notebook is which file.

    FOLDER/ada/08_ddpm.ipynb            a folder for each student; other folders may lie between
    FOLDER/ada_08_ddpm.ipynb            or one folder for all, with the student's name before the notebook's

Which notebook of the series a file is, its exercises say (`check("08.1", ...)`), so it may have any name. What is in a
folder called `solutions` or begins with a dot is left out, and so are links.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..exercises import CHECK_MODULES

_LARGEST = 50 * 2**20  # bytes; the largest notebook of the series has 1.5 million
_NUMBERS = "|".join(CHECK_MODULES)
_CALL = re.compile(rf"""check\(\s*\\?["']({_NUMBERS})\.\d""")
_NAME = re.compile(rf"(?:^|[ _-])({_NUMBERS})_[a-z0-9_]+")


@dataclass(frozen=True)
class HandIn:
    """One notebook of one student."""

    student: str
    number: str
    path: Path


def find_hand_ins(folder: str | Path) -> tuple[list[HandIn], list[str]]:
    """All notebooks below a folder, by student and number, and a line for each file that was left out.

    Raises FileNotFoundError if there is no such folder, ValueError if it holds no notebook of the series.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the one that holds the students' notebooks")
    found: dict[tuple[str, str], Path] = {}
    left_out = []
    for path in sorted(folder.rglob("*.ipynb")):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or "solutions" in inside.parts[1:-1]:
            continue
        if path.is_symlink() or path.resolve() != folder.resolve() / inside:
            left_out.append(f"{inside}: a link, not followed")
        elif path.stat().st_size > _LARGEST:
            left_out.append(f"{inside}: larger than {_LARGEST // 2**20} MiB")
        elif (number := _number_of(path)) is None:
            left_out.append(f"{inside}: neither its exercises nor its name say which notebook it is")
        else:
            student = inside.parts[0] if len(inside.parts) > 1 else _student_in(path.stem)
            other = found.get((student, number))
            if other is None or _preference(path) > _preference(other):
                found[student, number], path = path, other or path
            if other is not None:
                left_out.append(f"{path.relative_to(folder)}: {student} has another notebook {number}, which counts")
    if not found:
        raise ValueError(f"{folder} holds no notebook of the series: FOLDER/ada/08_ddpm.ipynb or FOLDER/ada_08_ddpm.ipynb")
    return [HandIn(student, number, path) for (student, number), path in sorted(found.items())], left_out


def _number_of(path: Path) -> str | None:
    """ "08": the number that most of its exercises have, or else the one in its name. The file is only searched, not parsed."""
    calls = Counter(_CALL.findall(path.read_text(encoding="utf-8", errors="replace")))
    if calls:
        return min(calls, key=lambda number: (-calls[number], number))
    named = _NAME.search(path.stem)
    return named[1] if named else None


def _student_in(stem: str) -> str:
    """ "ada" in "ada_08_ddpm"; the whole name where it is not made like that."""
    named = _NAME.search(stem)
    return (stem[: named.start()].strip(" _-") if named else "") or stem


def _preference(path: Path) -> tuple[bool, float]:
    """Of two files, the one whose name is that of the notebook counts, and then the newer one."""
    return bool(_NAME.fullmatch(path.stem)), path.stat().st_mtime
