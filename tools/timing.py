#!/usr/bin/env python3
"""How long a notebook takes: to read, to run, to do its exercises.  python tools/timing.py

Read: counted, from the words of its text and the lines of its code at a stated pace. Run: measured, from its cost card.
Exercises: the minutes that stand beside each of them. So the table cannot drift from the notebooks.
"""

from __future__ import annotations

import re

import lesson_paths

WORDS_A_MINUTE = 80  # a text with formulas, read to understand it, not skimmed
LINES_A_MINUTE = 10  # of code, likewise
NOT_READ = {"bootstrap", "exercise", "cost-card"}  # tags of cells that are the same everywhere, or have their own minutes
NOT_READ_SECTIONS = {"References", "Licenses", "Is this machine ready?"}
STATED = re.compile(r"\*\*\d+ · [^*]*\((\d+) minutes?\)")
COST = re.compile(r"Runs in\*\* (\d+) s")
ALT = re.compile(r"^\s*(?:alt=)?f?\"[^\"]{60,}\"(?:,|\s*)$", re.MULTILINE)  # long alt texts: a screen reader reads them


def words(cells: list[lesson_paths.Cell]) -> int:
    return sum(len(cell.source.split()) for cell in cells if not cell.is_code)


def lines(cells: list[lesson_paths.Cell]) -> int:
    return sum(len([line for line in ALT.sub("", cell.source).splitlines() if line.strip()]) for cell in cells if cell.is_code)


def reading(cells: list[lesson_paths.Cell]) -> float:
    """Minutes to read these cells, text and code."""
    read = [cell for cell in cells if not NOT_READ & cell.tags]
    return words(read) / WORDS_A_MINUTE + lines(read) / LINES_A_MINUTE


def minutes_to_read(number: str) -> float:
    return sum(reading(part.cells) for part in lesson_paths.sections(number) if part.title not in NOT_READ_SECTIONS)


def minutes_of_exercises(number: str) -> list[int]:
    """The stated minutes of each exercise: warm-up, core, stretch."""
    return [int(m) for part in lesson_paths.sections(number) for cell in part.cells for m in STATED.findall(cell.source)]


def seconds_to_run(number: str) -> int:
    """From the cost card. Raises ValueError if there is none."""
    text = "".join(cell.source for cell in lesson_paths.sections(number)[0].cells)
    found = COST.search(text)
    if not found:
        raise ValueError(f"notebook {number} has no cost card that says: Runs in N s")
    return int(found[1])


def five(minutes: float) -> int:
    """To five minutes: no estimate is better than that."""
    return max(5, 5 * round(minutes / 5))


def table() -> str:
    """One row for each notebook."""
    essential = set(map(str, lesson_paths.settings()["essential"]))
    rows = ["| notebook | | read | run | exercises | together |", "| --- | --- | --- | --- | --- | --- |"]
    totals = [0.0, 0.0, 0.0]
    for number in lesson_paths.notebook_numbers():
        read, run, exercises = minutes_to_read(number), seconds_to_run(number), minutes_of_exercises(number)
        totals = [a + b for a, b in zip(totals, (read, run, sum(exercises)))]
        kind = "essential" if number in essential else "optional"
        listed = " + ".join(map(str, exercises))
        together = five(read + run / 60 + sum(exercises))
        rows.append(f"| {lesson_paths.title_of(number)} | {kind} | {five(read)} min | {run} s | {listed} min | {together} min |")
    read, run, exercises = totals
    together = (read + run / 60 + exercises) / 60
    rows.append(f"| all | | {read / 60:.0f} h | {run / 60:.0f} min | {exercises / 60:.0f} h | {together:.0f} h |")
    return "\n".join(rows)


def reading_paths() -> str:
    """The paths for someone who learns alone, and the hours that their notebooks take."""
    rows = ["| you have | read | hours, with the first two exercises |", "| --- | --- | --- |"]
    for entry in lesson_paths.settings()["alone"]:
        total = 0.0
        for item in entry["read"]:
            number, wanted = str(item["notebook"]), item.get("sections")
            parts = [lesson_paths.section(number, title) for title in wanted] if wanted else lesson_paths.sections(number)
            total += sum(reading(part.cells) for part in parts if part.title not in NOT_READ_SECTIONS)
            total += seconds_to_run(number) / 60
            stated = minutes_of_exercises(number)
            total += sum(stated[: item.get("exercises", 0) if wanted else 2])
        rows.append(f"| {entry['have']} | {entry['text']} | {total / 60:.1f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
    print()
    print(reading_paths())
