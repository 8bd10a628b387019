#!/usr/bin/env python3
"""Do the notebooks and the package still say the same?  A class or function that a notebook builds must be the package's.

    python tools/drift.py [files]        prints a diff for each that is not, and fails

Compared are syntax trees, so that comments, docstrings, line breaks, the order of methods and quotes around the type that is
returned are free. A class may be built over several cells: `class Name(Name):` adds its methods to those of the cells before.
Left out are cells tagged `sketch`, which hold steps on the way (a loop before the matrix form, the same class with a bug in it),
and `exercise`, which the reader fills in; in the package, the checks of the exercises and the first entry of the speedrun, whose
function must be called `train`.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbtool import ROOT, all_notebooks, tags

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions(source: str) -> Iterator[Definition]:
    """The classes and functions at the top level of a module or cell."""
    yield from (node for node in ast.parse(source).body if isinstance(node, Definition))


def without_docstrings(definition: Definition) -> str:
    """The definition as source text in one layout, less its docstrings and comments: equal texts are equal trees."""
    for node in ast.walk(definition):
        if isinstance(node, Definition) and ast.get_docstring(node) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Constant) and isinstance(node.returns.value, str):
            node.returns = ast.parse(node.returns.value, mode="eval").body  # a class that names itself is quoted in a cell
        if isinstance(node, ast.ClassDef):  # in which order methods stand has no meaning; fields come before them
            node.body.sort(key=lambda part: part.name if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) else "")
    return ast.unparse(definition)


def in_package(folder: Path = ROOT / "ldm_tutorial") -> dict[str, dict[str, str]]:
    """name -> {module: text}. One name can be defined in several modules."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted(p for p in folder.rglob("*.py") if p.parent.name != "exercises" and p.name != "speedrun_baseline.py"):
        for definition in definitions(path.read_text(encoding="utf-8")):
            found[definition.name][path.relative_to(folder.parent).as_posix()] = without_docstrings(definition)
    return dict(found)


def in_notebook(path: Path) -> Iterator[tuple[int, str, str]]:
    """(cell, name, text) of each class and function defined in a notebook, sketches and exercises left out."""
    found: list[tuple[int, Definition]] = []
    for i, cell in enumerate(nbformat.read(path, 4).cells):
        if cell.cell_type == "code" and not {"sketch", "exercise"} & tags(cell):
            for definition in definitions(TransformerManager().transform_cell(cell.source)):  # %magic is not Python
                begun = next((d for _, d in reversed(found) if d.name == definition.name), None)
                if begun is not None and adds_to_itself(definition):
                    begun.body += definition.body[ast.get_docstring(definition) is not None :]
                else:
                    found.append((i, definition))
    for i, definition in found:
        yield i, definition.name, without_docstrings(definition)


def adds_to_itself(definition: Definition) -> bool:
    """`class Name(Name):` goes on with a class that an earlier cell has begun."""
    return isinstance(definition, ast.ClassDef) and [ast.unparse(base) for base in definition.bases] == [definition.name]


def drifts(notebooks: Iterable[Path], package: dict[str, dict[str, str]]) -> list[str]:
    """One text for each definition that differs from the package's of its name, or that two notebooks build."""
    found, built = [], {}
    for path in notebooks:
        for i, name, text in in_notebook(path):
            if name not in package:
                continue
            if text not in package[name].values():
                module, theirs = next(iter(package[name].items()))
                diff = difflib.unified_diff(theirs.splitlines(), text.splitlines(), module, f"{path.name} cell {i}", lineterm="")
                found.append(f"{path.name} cell {i}: {name} is not the one of {module}\n" + "\n".join(diff))
            # two modules may have a class of one name, each built in a notebook of its own
            if built.setdefault((name, text), path) != path:
                found.append(f"{path.name} cell {i}: {name} is built in {built[name, text].name} already; import it")
    return found


def main() -> int:
    found = drifts([Path(a) for a in sys.argv[1:]] or lessons(), in_package())
    print("\n\n".join(found))
    return bool(found)


def lessons() -> list[Path]:
    """The notebooks without the solutions, which repeat on purpose."""
    return [p for p in all_notebooks() if "solutions" not in p.parts]


if __name__ == "__main__":
    sys.exit(main())
