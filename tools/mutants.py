#!/usr/bin/env python3
"""Mutation testing: small faults are put into a room's code, one at a time, and its fast tests must notice each of them.

    python tools/mutants.py schedulers          goes on where it was stopped; the results are kept in runs/mutants
    python tools/mutants.py --report            the table, and every survivor

A mutant is one place in the syntax tree changed: a comparison, an operator, a number, a name in quotes, a condition turned round,
a call or an error left out, a result that is None. What a message says is no place, nor are annotations and docstrings.

The tests are collected once, run once to note which function each of them calls, and how long it takes. Then each mutant
is a fork of that process, in which one function has other code, and the tests that call it run, the fastest first, until one
fails. What stands outside of functions is changed before the module is imported, in a process of its own. Needs fork: no Windows.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib.abc
import importlib.machinery
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "runs" / "mutants"
ROOMS = {
    "schedulers": (["ldm_tutorial/schedulers"], ["tests/schedulers"]),
    "pipeline": (
        ["ldm_tutorial/pipeline.py", "ldm_tutorial/inputs.py", "ldm_tutorial/prompts"],
        ["tests/test_pipeline.py", "tests/test_inputs.py", "tests/test_any_input.py", "tests/prompts", "tests/test_start_at.py"],
    ),
    "checkpoints": (["ldm_tutorial/checkpoints"], ["tests/checkpoints"]),
}
SLOW = 3.0  # seconds: a test that takes longer is left out
PATIENCE = 15.0  # seconds of processor time for the tests of one mutant: no test begins after that


# ---- the mutants of a file


class Mutant(NamedTuple):
    """One change: which node of the syntax tree, in the order of `ast.walk`, and which of its changes."""

    file: str  # from the root of the repository
    node: int
    line: int
    function: str  # "DDIMScheduler.step", or "" outside of all functions
    what: str  # "<= becomes <"
    number: int  # of those of this function that are told in the same words

    @property
    def name(self) -> str:
        """Which stays the same when other functions of the file change."""
        return f"{self.file}:{self.function}:{self.number}:{self.what}"


COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
SIGNS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in",
    ast.Is: "is", ast.IsNot: "is not", ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//",
    ast.Mod: "%", ast.Pow: "**", ast.BitOr: "|", ast.BitAnd: "&", ast.And: "and", ast.Or: "or",
}  # fmt: skip


def change_of(node: ast.AST) -> tuple[str, Callable[[Any], ast.AST]] | None:
    """What becomes of a node, in words and as a function that changes a copy of it; None for one that stays."""

    def swap(old: ast.AST, kinds: dict[Any, Any]) -> tuple[str, Any] | None:
        new = kinds.get(type(old))
        return new and (f"{SIGNS[type(old)]} becomes {SIGNS[new]}", new())

    if isinstance(node, ast.Compare) and (found := swap(node.ops[0], COMPARISONS)):
        return found[0], lambda n: setattr(n, "ops", [found[1], *n.ops[1:]]) or n
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and (found := swap(node.op, OPERATORS)):
        return found[0], lambda n: setattr(n, "op", found[1]) or n
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        return f"{'not' if isinstance(node.op, ast.Not) else '-'} is left out", lambda n: n.operand
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, (bool, int, float)):
            new = not value if isinstance(value, bool) else value + 1
            return f"{value!r} becomes {new!r}", lambda n: ast.Constant(new)
        if isinstance(value, str) and value.strip():
            return f"{value[:40]!r} becomes another", lambda n: ast.Constant(f"X{value}X")
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        return "the condition is turned round", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test)) or n
    if isinstance(node, ast.Return) and node.value and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        return "returns None", lambda n: ast.Return(never(n.value))
    if isinstance(node, ast.Raise):
        return "raise is left out", lambda n: ast.If(ast.Constant(False), [n], [])
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return f"{ast.unparse(node.value.func)}() is left out", lambda n: ast.Expr(never(n.value))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("min", "max", "any", "all"):
        other = {"min": "max", "max": "min", "any": "all", "all": "any"}[node.func.id]
        return f"{node.func.id} becomes {other}", lambda n: setattr(n, "func", ast.Name(other, ast.Load())) or n
    return None


def never(value: ast.expr) -> ast.expr:
    """None instead of the value, whose names stay: a function that used no `super` would have another closure."""
    return ast.BoolOp(ast.And(), [ast.Constant(None), value])


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, ast.AST | None]]:
    """The nodes that may change, in order, with the outermost function that each is in."""

    def walk(node: ast.AST, name: str, function: ast.AST | None) -> Iterator[tuple[ast.AST, str, ast.AST | None]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom)):
            return
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])
            typing = "TypeAlias" in ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else False
            if typing or target in ("__all__", "label", "T", "Texts", "Pictures", "Generators"):  # types, a scheduler's look
                return
        yield node, name, function
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):  # a docstring
                    continue
                message = isinstance(node, ast.Call) and ast.unparse(node.func) == "warn"
                if message or (isinstance(node, ast.Raise) and child is not node.exc) or isinstance(node, ast.Raise):
                    continue
                inside, where = name, function
                if (
                    isinstance(child, (ast.FunctionDef, ast.ClassDef))
                    and not isinstance(node, ast.FunctionDef)
                    and function is None
                ):
                    inside = f"{name}.{child.name}" if name else child.name
                # defaults of arguments are made when the module is imported, as are decorators
                if isinstance(node, ast.FunctionDef) and function is None and field == "body":
                    where = node
                yield from walk(child, inside, where)

    yield from walk(tree, "", None)


def mutants_of(path: Path) -> Iterator[Mutant]:
    tree, file = ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT))
    alike: Counter[tuple[str, str]] = Counter()
    for number, (node, name, function) in enumerate(places(tree)):
        if found := change_of(node):
            key = (name if function else "", found[0])
            yield Mutant(file, number, getattr(node, "lineno", 0), *key, alike[key])
            alike[key] += 1


def changed(mutant: Mutant) -> CodeType:
    """The file's code with the change."""
    path = ROOT / mutant.file
    tree = ast.parse(path.read_text(encoding="utf-8"))
    target = next(node for number, (node, *_) in enumerate(places(tree)) if number == mutant.node)
    change = change_of(target)
    assert change and change[0] == mutant.what, mutant

    class Put(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return ast.copy_location(change[1](copy.copy(node)), node) if node is target else self.generic_visit(node)

    return compile(ast.fix_missing_locations(Put().visit(tree)), str(path), "exec")


# ---- a mutant in this process


def codes(code: CodeType) -> Iterator[CodeType]:
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield const
            yield from codes(const)


def put_into_functions(mutant: Mutant) -> None:
    """Give the function other code, wherever it is referred to."""
    new = {(code.co_firstlineno, code.co_name): code for code in codes(changed(mutant))}
    path, name = str(ROOT / mutant.file), mutant.function.rpartition(".")[2]
    put, found = (
        0,
        [
            f
            for f in gc.get_objects()
            if isinstance(f, FunctionType) and f.__code__.co_filename == path and f.__code__.co_name == name
        ],
    )
    for function in found:
        code = new.get((function.__code__.co_firstlineno, name))
        if code and code.co_freevars == function.__code__.co_freevars:
            function.__code__ = code
            put += 1
    assert put, f"not put in: {mutant}"


class PutIntoModule(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports one module of the package with a change in it."""

    def __init__(self, mutant: Mutant):
        self.mutant, path = mutant, ROOT / mutant.file
        parts = path.relative_to(ROOT).with_suffix("").parts
        super().__init__(".".join(parts[:-1] if parts[-1] == "__init__" else parts), str(path))

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(
            name,
            self.path,
            loader=self,
            submodule_search_locations=[str(Path(self.path).parent)] if self.path.endswith("__init__.py") else None,
        )

    def get_code(self, name: str) -> CodeType:
        return changed(self.mutant)


# ---- as a plugin of pytest


class Plugin:
    """Instead of running the tests, puts each mutant to them."""

    def __init__(self, mutants: list[Mutant], results: Path, seconds: float):
        self.mutants, self.results, self.end = mutants, results, time.monotonic() + seconds

    def pytest_runtestloop(self, session: Any) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        map_file = self.results.with_suffix(".tests.json")
        if not map_file.exists():
            print("which test calls which function ...", flush=True)
            in_a_child(lambda: map_file.write_text(json.dumps(self.observe())), 3600)
        tests = json.loads(map_file.read_text())
        failing = [name for name, test in tests.items() if not test["passed"]]
        print(f"{len(tests)} tests, {len(failing)} of which fail or are skipped without a mutant", flush=True)
        tests = {n: t for n, t in tests.items() if n in self.items and t["passed"] and t["seconds"] <= SLOW}
        self.prime(tests)
        callers = defaultdict(list)
        for name in sorted(tests, key=lambda name: tests[name]["seconds"]):
            for function in tests[name]["calls"]:
                callers[function].append(name)
        known = read(self.results)
        last: dict[str, list[str]] = defaultdict(list)  # what killed the mutants before, tried first
        for mutant in self.mutants:
            if mutant.name in known:
                continue
            if time.monotonic() > self.end:
                break
            names = callers[f"{mutant.file}:{mutant.function}"]
            first = [name for name in last[mutant.function] if name in names][-3:]
            killer = self.put(mutant, [*reversed(first), *(name for name in names if name not in first)])
            if killer in names:
                last[mutant.function].append(killer)
            note(self.results, mutant, killer)
        return True

    def observe(self) -> dict[str, Any]:
        """Each test: whether it passes, its seconds, and the functions of the room that it calls."""
        files = {str(ROOT / mutant.file): mutant.file for mutant in self.mutants}
        found, items = {}, list(self.items.values())
        for item, following in zip(items, [*items[1:], None]):
            calls: set[str] = set()

            def profile(frame: Any, event: str, _: Any, calls: set[str] = calls) -> None:
                code = frame.f_code
                if event == "call":
                    if code.co_filename in files:
                        calls.add(f"{files[code.co_filename]}:{code.co_qualname.split('.<locals>')[0]}")
                    elif code.co_name == "backward":
                        calls.add("backward")

            began = time.process_time()  # other programs do not count
            sys.setprofile(profile)
            passed = run(item, following)
            sys.setprofile(None)
            found[item.nodeid] = {"passed": passed, "seconds": time.process_time() - began, "calls": sorted(calls)}
        return found

    def prime(self, tests: dict[str, Any]) -> None:
        """Make the fixtures of the session here, so that no fork has to. Gradients in this process would forbid them in forks."""
        wanted = {
            name
            for item in self.items.values()
            for name, defs in item._fixtureinfo.name2fixturedefs.items()
            if defs[-1].scope == "session" and name not in ("browser", "lab")
        }
        cheap = [n for n in sorted(tests, key=lambda n: tests[n]["seconds"]) if "backward" not in tests[n]["calls"]]
        for name in cheap:
            item = self.items[name]
            if wanted & set(item.fixturenames):
                wanted -= set(item.fixturenames)
                run(item, Nothing(item.session))

    def put(self, mutant: Mutant, names: list[str]) -> str:
        """The test that notices the mutant, or why none does."""
        if not names:
            return "not called"
        killer = self.results.with_suffix(".killer")

        def child() -> None:
            quiet()
            resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))
            began = time.process_time()
            put_into_functions(mutant)
            for name, following in zip(names, [*names[1:], None]):
                killer.write_text(name)
                if not run(self.items[name], following and self.items[following]):
                    return
                if time.process_time() - began > PATIENCE:
                    break
            killer.write_text("survived")

        if not in_a_child(child, 20 * PATIENCE):
            return killer.read_text() or "a crash"
        return killer.read_text()


class Nothing:
    """Stands for a next test that needs what the session has, and nothing of a folder or module."""

    def __init__(self, session: Any):
        self.chain = [session]

    def listchain(self) -> list[Any]:
        return self.chain


def run(item: Any, following: Any) -> bool:
    """Whether a test passes."""
    from _pytest.runner import runtestprotocol

    return all(report.passed for report in runtestprotocol(item, log=False, nextitem=following))


def quiet() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def in_a_child(work: Callable[[], Any], seconds: float) -> bool:
    """Whether the work ends well in a fork of this process, in time. Whatever it starts goes with it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    return status == 0


# ---- the results, a line each


def read(results: Path) -> dict[str, dict[str, Any]]:
    lines = results.read_text().splitlines() if results.exists() else []
    return {entry["name"]: entry for entry in map(json.loads, lines)}


def note(results: Path, mutant: Mutant, killer: str) -> None:
    with open(results, "a") as file:
        file.write(json.dumps({"name": mutant.name, "line": mutant.line, "killer": killer}) + "\n")


ALIVE = ("survived", "not called")


def report(rooms: list[str]) -> None:
    for room in rooms:
        mutants, known = all_mutants(room), read(RESULTS / f"{room}.jsonl")
        tried = [m for m in mutants if m.name in known]
        alive = [m for m in tried if known[m.name]["killer"] in ALIVE]
        share = f"{1 - len(alive) / len(tried):.1%}" if tried else "none"
        print(f"{room}: {len(mutants)} mutants, {len(tried)} tried, {len(tried) - len(alive)} killed ({share})")
        for m in alive:
            print(f"  {m.file}:{m.line}  {m.function or 'module'}  {m.what}  ({known[m.name]['killer']})")


def all_mutants(room: str) -> list[Mutant]:
    files = [
        path
        for place in ROOMS[room][0]
        for path in ([ROOT / place] if place.endswith(".py") else sorted((ROOT / place).glob("*.py")))
    ]
    return [mutant for file in files for mutant in mutants_of(file)]


def pytest_arguments(tests: list[str], folder: str) -> list[str]:
    quietly = [
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:nbval",
        "-o",
        "addopts=",
        "--import-mode=importlib",
        "-W",
        "ignore",
    ]
    return [*quietly, "-m", "not slow and not browser and not gpu", f"--basetemp={folder}", *tests]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", choices=[*ROOMS, []], help=", ".join(ROOMS))
    parser.add_argument("--report", action="store_true", help="only show what is known")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--module", help=argparse.SUPPRESS)  # the mutant, in JSON, that this process is to import
    options = parser.parse_args(arguments)
    rooms = options.rooms or list(ROOMS)
    RESULTS.mkdir(parents=True, exist_ok=True)
    os.environ.update(OMP_NUM_THREADS="1", LDM_QUIET="1")
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT)]
    if options.report:
        report(rooms)
        return 0

    import pytest

    if options.module:
        sys.meta_path.insert(0, PutIntoModule(Mutant(*json.loads(options.module))))
    for room in rooms:
        mutants, results, end = all_mutants(room), RESULTS / f"{room}.jsonl", time.monotonic() + options.seconds
        tests = [place for place in ROOMS[room][1] if (ROOT / place).exists()]
        folder = tempfile.mkdtemp(prefix="mutants-")
        try:
            if options.module:
                return int(pytest.main(pytest_arguments(tests, folder)))
            inside = [mutant for mutant in mutants if mutant.function]
            pytest.main(pytest_arguments(tests, folder), plugins=[Plugin(inside, results, options.seconds)])
            outside(room, [mutant for mutant in mutants if not mutant.function], results, end)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    report(rooms)
    return 0


def outside(room: str, mutants: list[Mutant], results: Path, end: float) -> None:
    """Those in no function: a process each."""
    known = read(results)
    for mutant in mutants:
        if mutant.name in known:
            continue
        if time.monotonic() > end:
            break
        command = [sys.executable, __file__, room, "--module", json.dumps(mutant)]
        try:
            failed = subprocess.run(
                command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600
            ).returncode
        except subprocess.TimeoutExpired:
            failed = 1
        note(results, mutant, "a test" if failed else "survived")


if __name__ == "__main__":
    sys.exit(main())
