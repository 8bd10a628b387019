"""Students: folders of notebooks, made of the solutions and of what some students do to them."""

import json
from collections.abc import Callable
from pathlib import Path

import nbformat

from tests.exercises.answers import NOTEBOOKS, SOLUTIONS, file_of


def solved(number: str) -> nbformat.NotebookNode:
    return nbformat.read(SOLUTIONS / file_of(f"{number}.1"), 4)


def unsolved(number: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / file_of(f"{number}.1"), 4)


def hand_in(folder: Path, student: str, notebook: nbformat.NotebookNode, name: str = "08_ddpm.ipynb") -> Path:
    path = folder / student / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def exercise_cell(notebook: nbformat.NotebookNode, exercise: str) -> nbformat.NotebookNode:
    [cell] = [c for c in notebook.cells if c.cell_type == "code" and f'check("{exercise}"' in c.source]
    return cell


def with_code(source: str, where: int = 0) -> Callable[[nbformat.NotebookNode], nbformat.NotebookNode]:
    """A change: one more cell that is tagged as an exercise, so that it is run."""

    def change(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
        notebook.cells.insert(where, nbformat.v4.new_code_cell(source, metadata={"tags": ["exercise"]}))
        return notebook

    return change


def in_answer(exercise: str, line: str) -> Callable[[nbformat.NotebookNode], nbformat.NotebookNode]:
    """A change: a line at the beginning of an exercise's function, so that it runs while the answer is checked."""

    def change(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
        cell = exercise_cell(notebook, exercise)
        head, colon, rest = cell.source.partition("):\n")
        assert colon
        cell.source = f"{head}{colon}    {line}\n{rest}"
        return notebook

    return change
