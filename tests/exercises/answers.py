"""Right and wrong answers to the exercises, made of the notebooks themselves.

A wrong answer is the solution with one piece changed, as a learner would have got it wrong.
"""

import ast
import re
from functools import cache
from pathlib import Path

import nbformat

from ldm_tutorial.exercises import CHECK_MODULES, Outcome, outcome, verdict

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
SOLUTIONS = NOTEBOOKS / "solutions"


def code_of(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def file_of(exercise: str) -> str:
    [path] = NOTEBOOKS.glob(f"{exercise.partition('.')[0]}_*.ipynb")
    return path.name


def exercises_of(notebook: str) -> dict[str, str]:
    """Exercise -> name of the function that its cell hands to `check`, in the order of the notebook."""
    calls = (re.search(r'^check\("([\d.ab]+)", (\w+)\)', source, re.M) for source in code_of(NOTEBOOKS / notebook))
    return {call[1]: call[2] for call in calls if call}


ALL = [exercise for number in CHECK_MODULES for exercise in exercises_of(file_of(number))]


def imports_of(cells: list[str]) -> str:
    """The import statements of these cells, so that an answer finds what it finds in its notebook."""
    lines = "\n".join(cells).replace("%pip", "pass  #")  # the one magic of the series
    statements = [node for node in ast.parse(lines).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    statements.sort(key=lambda node: getattr(node, "module", "") != "__future__")  # which Python takes at the top only
    return "\n".join(map(ast.unparse, statements))


def answer(exercise: str, *changes: tuple[str, str], within: str | None = None, folder: Path = SOLUTIONS):
    """The function of an exercise's cell, with each `old` of `changes` replaced by its `new`.

    The exercises before it are solved, for some build on them; `within`: the one that is changed, if it is another.
    What follows the call of `check` is left out.
    """
    notebook = file_of(exercise)
    cells, functions = code_of(folder / notebook), exercises_of(notebook)
    names = {}
    exec(imports_of(cells), names)
    for each in functions:
        [source] = [source for source in cells if f'check("{each}"' in source]
        source = source.split("\ncheck(")[0]
        for old, new in changes if each == (within or exercise) else ():
            assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in\n{source}"
            source = source.replace(old, new)
        exec(source, names)
        if each == exercise:
            break
    return names[functions[exercise]]


def assert_told(exercise: str, wrong, mistake: str) -> None:
    said = verdict(exercise, wrong)
    assert said.startswith(f"[{exercise}] not yet: ")
    assert mistake in said
    assert "\n" not in said  # the nudge comes with the second wrong answer


@cache
def told(exercise: str, old: str, new: str) -> Outcome:
    """What the check says of the solution with `new` in place of `old`; asked once in a process."""
    return outcome(exercise, answer(exercise, (old, new)))


def assert_named(exercise: str, old: str, new: str, mistake: str) -> None:
    found = told(exercise, old, new)
    assert found.state == "wrong"
    assert mistake in found.said
