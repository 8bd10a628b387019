"""`ldm-tutorial progress`: which exercises are done, what the checks last said, and which comes next.

It is read from a learner's own notebooks, as they were saved: what `check` printed is stored below its cell. No other file is
kept, and nothing is run, unless she asks for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..exercises import CHECK_MODULES, points_of
from .hand_ins import HandIn, find_hand_ins
from .sandbox import Limits

_SAID = re.compile(r"^\[(\d\d[a-z]?\.\d)\] (correct|not done yet|not yet: (.*))", re.M)


@dataclass(frozen=True)
class Standing:
    """Of one exercise: its notebook, whether it is right, and what the check last said; an empty text: not tried."""

    notebook: str
    correct: bool
    said: str


def saved_standings(folder: str | Path) -> dict[str, Standing]:
    """Exercise -> standing, for the notebooks of a folder, from their stored outputs. Raises as `find_hand_ins` does."""
    found: dict[str, Standing] = {}
    for one in _own_notebooks(folder):
        said = dict.fromkeys((f"{one.number}.{i}" for i in (1, 2, 3)), "")
        for name, what, mistake in _SAID.findall(_outputs(one.path)):
            said[name] = mistake or (what if what == "correct" else "")
        found |= {name: Standing(one.path.name, text == "correct", text) for name, text in said.items()}
    return found


def examined_standings(folder: str | Path, report: Callable[[str], None] = lambda line: None) -> dict[str, Standing]:
    """The same, with every exercise examined again, as `grade` does it. Raises as `find_hand_ins` and `examine_all` do."""
    from .table import examine_all

    own = _own_notebooks(folder)
    names = {one.number: one.path.name for one in own}
    outcomes = examine_all(own, [], Limits(), False, 1, report).outcomes["you"]
    said = {name: "" if found["state"] == "not done" else found["said"] for name, found in outcomes.items()}
    return {name: Standing(names[name.partition(".")[0]], text == "correct", text) for name, text in sorted(said.items())}


def _own_notebooks(folder: str | Path) -> list[HandIn]:
    found, _ = find_hand_ins(folder)
    own = {one.number: HandIn("you", one.number, one.path) for one in found if one.path.parent == Path(folder)}
    if not own:
        raise ValueError(f"{folder} holds no notebook of the series itself; give the folder with your notebooks")
    return [own[number] for number in CHECK_MODULES if number in own]


def _outputs(path: Path) -> str:
    """All text that the cells of a notebook have printed, in their order; "" for a file that is none."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        return "\n".join("".join(output["text"]) for output in outputs if output.get("output_type") == "stream")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def summary(standings: dict[str, Standing]) -> str:
    """A table with a line for each notebook; below it, what the checks of the unsolved exercises last said, and what is next."""
    notebooks = list(dict.fromkeys(standing.notebook for standing in standings.values()))
    width = max(map(len, notebooks))
    lines = [f"{'notebook':{width}}  warm-up  core     stretch"]
    for notebook in notebooks:
        states = ["done" if s.correct else "not yet" if s.said else "-" for s in standings.values() if s.notebook == notebook]
        lines.append(f"{notebook:{width}}  " + "  ".join(f"{state:7}" for state in states).rstrip())
    done = [name for name, standing in standings.items() if standing.correct]
    lines += ["", f"{len(done)} of {len(standings)} exercises done, {_sum(done)} of {_sum(standings)} points."]
    tried = [name for name, standing in standings.items() if standing.said and not standing.correct]
    if tried:
        lines += ["", "What the checks last said:", *(f"  [{name}] {standings[name].said}" for name in tried)]
    after = next((name for name in [*tried, *standings] if not standings[name].correct), None)
    lines += ["", f"Next: {after} in {standings[after].notebook}" if after else "All done."]
    return "\n".join(lines)


def _sum(names: list[str] | dict[str, Standing]) -> int:
    return sum(map(points_of, names))
