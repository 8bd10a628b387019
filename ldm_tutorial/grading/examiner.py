"""In the child: run the cells that the exercises of a notebook need, then the checks.

`check` is replaced while the cells run by a function that only notes the answer that it is given. When they have run, what
they may have changed in this package and in PyTorch is put back, and the checks are run. So printing "correct" gives no points,
nor does another `check`, nor another module in its place.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import copy
import importlib
import json
import math
import re
import signal
import symtable
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .. import exercises
from ..exercises import CHECK_MODULES, outcome

_MAGIC = re.compile(r"^(\s*)[%!?].*$", re.M)
_NOTES = 20  # at most so many are kept of one notebook


# ---- what to run


@dataclass(frozen=True)
class Cell:
    """A code cell that can be parsed: its number, from 0 over all cells, its statements, whether it holds an exercise."""

    index: int
    statements: list[ast.stmt]
    exercise: bool


def read_cells(text: str) -> tuple[list[Cell], list[str]]:
    """The code cells of a notebook, from its JSON, and a note for each that is no Python. Raises ValueError for other files."""
    try:
        raw = json.loads(text)
        cells = [(i, "".join(c["source"])) for i, c in enumerate(raw["cells"]) if c["cell_type"] == "code"]
        tags = {i: c.get("metadata", {}).get("tags", []) for i, c in enumerate(raw["cells"])}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the file is no notebook: {type(error).__name__}") from None
    found, notes = [], []
    for i, source in cells:
        source = _MAGIC.sub(r"\1pass", source)
        exercise = "exercise" in tags[i] or re.search(r"\bcheck\(", source) is not None
        try:
            found.append(Cell(i, ast.parse(source).body, exercise))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if exercise:
                notes.append(f"cell {i} is no Python: {error}")
    return found, notes


def cells_needed(cells: list[Cell]) -> list[Cell]:
    """The cells with exercises, whole, and of the others the statements that these need: imports, definitions, values.

    A statement is needed if it gives a value to a name that a needed one uses. Of the cell that does so, whatever else changes
    this name is needed, too. Pictures and printing are not.
    """
    wanted: set[str] = set()
    keep: dict[int, set[int]] = {cell.index: set(range(len(cell.statements))) for cell in cells if cell.exercise}
    for cell in cells:
        if cell.exercise:
            wanted |= _used(cell.statements)
    others = [(cell, [(_bound(s), _changed(s), s) for s in cell.statements]) for cell in cells if not cell.exercise]
    done: set[str] = set()
    while wanted - done:
        name = (wanted - done).pop()
        done.add(name)
        for cell, statements in others:
            if any(name in bound for bound, _, _ in statements):
                for place, (bound, changed, statement) in enumerate(statements):
                    kept = keep.setdefault(cell.index, set())
                    if (name in bound or name in changed) and place not in kept:
                        kept.add(place)
                        wanted |= _used([statement])
    return [
        Cell(cell.index, [s for place, s in enumerate(cell.statements) if place in keep[cell.index]], cell.exercise)
        for cell in cells
        if keep.get(cell.index)
    ]


def _used(statements: list[ast.stmt]) -> set[str]:
    """The names that these take from outside: read at the top level, or global in a function."""
    source = "\n".join(map(ast.unparse, statements))
    try:
        top = symtable.symtable(source, "<cell>", "exec")
    except (SyntaxError, RecursionError):
        return set()

    def inside(table: symtable.SymbolTable) -> Iterator[str]:
        for symbol in table.get_symbols():
            if (table is top and symbol.is_referenced()) or (table is not top and symbol.is_global()):
                yield symbol.get_name()
        for child in table.get_children():
            yield from inside(child)

    return set(inside(top))


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement gives a value."""
    try:
        top = symtable.symtable(ast.unparse(statement), "<cell>", "exec")
    except (SyntaxError, RecursionError):
        return set()
    return {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}


def _changed(statement: ast.stmt) -> set[str]:
    """The names whose values a statement may change: x[...] = y, x.y = z, x.append(y), and whatever a loop or `with` mentions."""
    if isinstance(statement, (ast.For, ast.While, ast.If, ast.With, ast.Try)):
        return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, (ast.AugAssign, ast.AnnAssign)):
        targets = [statement.target]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        targets = [statement.value.func]
    found = set()
    for target in targets:
        while isinstance(target, (ast.Attribute, ast.Subscript)):
            target = target.value
            if isinstance(target, ast.Name):
                found.add(target.id)
    return found


# ---- what must be the same afterward


class Seal:
    """What the checks rely on, as it was before a student's code ran: names of modules, code of functions, methods of classes."""

    def __init__(self) -> None:
        own = [module for name, module in sys.modules.items() if name.split(".")[0] == "ldm_tutorial"]
        torches = ["torch", "torch.functional", "torch.nn.functional", "torch._tensor", "torch.overrides"]
        self.loaded = {module.__name__: module for module in own}
        modules = [*own, *(sys.modules[name] for name in torches), builtins, math, copy, json, importlib, np]
        classes = {v for m in own for v in vars(m).values() if isinstance(v, type)} | {torch.Tensor, torch.Generator}
        self.names: list[tuple[Any, dict[str, Any]]] = [(holder, dict(vars(holder))) for holder in [*modules, *classes]]
        functions = {id(f): f for _, names in self.names for f in names.values() if isinstance(f, types.FunctionType)}
        self.code = [(f, f.__code__, f.__defaults__, f.__kwdefaults__) for f in functions.values()]
        self.registry = dict(exercises.EXERCISES)

    def restore(self) -> list[str]:
        """Put everything back; returns the names of what had been changed."""
        sys.settrace(None)
        sys.setprofile(None)
        while torch._C._len_torch_function_stack():
            torch._C._pop_torch_function_stack()
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        broken = []
        for name, module in self.loaded.items():
            if sys.modules.get(name) is not module:
                broken.append(name)
                sys.modules[name] = module
        for function, code, defaults, kwdefaults in self.code:
            if (function.__code__, function.__defaults__, function.__kwdefaults__) != (code, defaults, kwdefaults):
                broken.append(function.__qualname__)
                function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, kwdefaults
        for holder, names in self.names:
            for name, value in names.items():
                if name not in _LEFT_ALONE and vars(holder).get(name, names) is not value:
                    broken.append(f"{holder.__name__}.{name}")
                    setattr(holder, name, value)
        if exercises.EXERCISES != self.registry:
            broken.append("ldm_tutorial.exercises.EXERCISES")
            exercises.EXERCISES.clear()
            exercises.EXERCISES.update(self.registry)
        return broken


# Python and PyTorch change these themselves: PyTorch counts its hooks, and replaces manual_seed when its compiler is imported
_LEFT_ALONE = {
    *("__doc__", "__annotations__", "__conditional_annotations__", "__warningregistry__", "__abstractmethods__", "_abc_impl"),
    "manual_seed",
    "next_id",
}


# ---- the examination


def examine_notebook(text: str, number: str, whole: bool, seconds: float, skipped: set[str], send: Callable[..., None]) -> None:
    """Run a notebook's cells and checks, and send what happens.

    seconds: for a cell, and for a check; what takes longer is interrupted, and what goes on all the same is killed from outside
    send(step=...): what begins now, so that whoever watches knows what to leave out next time
    send(note=...): what is worth a line in the reasons
    send(exercise=..., state=..., share=..., said=...): the outcome of a check
    """
    signal.signal(signal.SIGALRM, _interrupt)
    importlib.import_module(f"{exercises.__name__}.{CHECK_MODULES[number]}")
    seal, answers, examine = Seal(), {}, outcome
    cells, notes = read_cells(text)

    def record(name: str, answer: Any = ..., solution: bool = False) -> None:
        answers[str(name)] = answer

    main = sys.modules["__main__"] = types.ModuleType("__main__")  # as in a notebook: classes are __main__.X
    original, exercises.check, main.__dict__["check"] = exercises.check, record, record
    flags = 0
    for cell in cells if whole else cells_needed(cells):
        step = f"cell {cell.index}"
        if step in skipped:
            continue
        send(step=step)
        statements = [s for s in cell.statements if not (isinstance(s, ast.ImportFrom) and s.module == "__future__")]
        if len(statements) < len(cell.statements):
            flags = __future__.annotations.compiler_flag
        there = set(main.__dict__)
        try:
            with _at_most(seconds):
                exec(compile(ast.Module(statements, []), f"<{step}>", "exec", flags, dont_inherit=True), main.__dict__)
        except BaseException as error:  # SystemExit, too: the next cell is run, as in a notebook
            if isinstance(error, MemoryError):  # else what filled the memory leaves none for the checks
                for name in set(main.__dict__) - there:
                    del main.__dict__[name]
            notes.append(f"{step} {_in_words(error)}")
    exercises.check = original
    tampered = seal.restore()
    if tampered:
        notes.append(f"the cells changed {', '.join(tampered[:5])}: put back before the checks")
    for note in notes[:_NOTES]:
        send(note=note)

    for name in sorted(n for n in seal.registry if n.startswith(f"{number}.")):
        if name in skipped:
            continue
        send(step=name)
        if name not in answers:
            send(exercise=name, state="missing", share=0.0, said=f'no cell hands an answer to check("{name}", ...)')
            continue
        result: tuple[str, float, str]
        try:
            with _at_most(seconds):
                found = examine(name, answers[name])
            result = found.state, found.share, found.said
        except BaseException as error:
            result = "wrong", 0.0, f"your code {_in_words(error)}"
        tampered = seal.restore()
        if tampered:
            result = "tampered", 0.0, f"while it was checked, the answer changed {', '.join(tampered[:5])}"
        send(exercise=name, **dict(zip(("state", "share", "said"), result)))


class _TooLong(BaseException):
    """Not an Exception, which a loop of a student may catch."""


def _interrupt(*_: Any) -> None:
    raise _TooLong


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer, as one does in a notebook: what it has defined by then is kept. Once more each second."""
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    except _TooLong:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise TimeoutError(f"ran longer than {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _in_words(error: BaseException) -> str:
    """Type and message. Even `str` of a student's exception may raise."""
    try:
        return str(error) if type(error) is TimeoutError else f"raised {type(error).__name__}: {error}"[:300]
    except BaseException:
        return f"raised {type(error).__name__}"
