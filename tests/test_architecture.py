"""The floor plan of the package: which room may import which, and one name for one thing."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ldm_tutorial"

# The rooms from the bottom to the top: each may import from itself and from those before it.
FLOORS = (
    "threads",
    "checks",
    "config",
    "schedulers",
    "attention",
    "blocks",
    "vae",
    "clip",
    "unet",
    "weights",
    "checkpoints",
    "adapters",
    "images",
    "prompts",
    "inputs",
    "engines",
    "pipeline",
    "export",
    "data",
    "training",
    "lessons",
    "figures",
    "evaluation",
    "widgets",
    "exercises",
    "grading",
    "cli",
    "__main__",
)

# Names that several modules must have, since they are called by name in each module of a family.
HOOKS = {
    "add_arguments",  # of the command line, one for each training
    "main",  # what runs a command, one for each
}


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name below the package, "" for the package itself -> syntax tree."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def room_of(name: str) -> str:
    return name.split(".")[0]


def is_package(name: str) -> bool:
    return (PACKAGE / name.replace(".", "/") / "__init__.py").exists()


def imports_of(name: str, tree: ast.Module) -> set[str]:
    """The modules of the package that a module imports anywhere, also inside functions and for type checkers alone."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                parts = name.split(".") if name else []
                here = parts if is_package(name) else parts[:-1]
                base = ".".join(here[: len(here) - (node.level - 1)])
            elif node.module and room_of(node.module) == "ldm_tutorial":
                base = ""
            else:
                continue
            module = (node.module or "").removeprefix("ldm_tutorial").strip(".")
            whole = f"{base}.{module}".strip(".")
            for alias in node.names:  # `from . import panel` names a module, `from .panel import row` what is in one
                inside = f"{whole}.{alias.name}".strip(".")
                found.add(inside if inside in modules() else whole)
        elif isinstance(node, ast.Import):
            named = (alias.name for alias in node.names if room_of(alias.name) == "ldm_tutorial")
            found |= {each.removeprefix("ldm_tutorial").strip(".") for each in named}
    return found


def runtime_imports_of(name: str, tree: ast.Module) -> set[str]:
    """The modules that are imported when this one is: those at its top level, outside of `if TYPE_CHECKING`."""
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imports_of(name, ast.Module(top, []))


def names_of(tree: ast.Module) -> set[str]:
    """The public names that a module defines at its top level; what it imports is not its own."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


def test_at_most_twelve_modules_stand_at_the_top():
    top = [path.name for path in PACKAGE.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert len(top) <= 12, top


def test_every_room_has_its_floor():
    rooms = {room_of(name) for name in modules()} - {""}
    assert rooms == set(FLOORS)


def test_the_page_on_architecture_has_this_order():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    [listed] = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    names = [name for line in listed.splitlines() for name in re.split(r"[,·/\s]+", line[17:]) if name]
    assert names == [room for room in FLOORS if room != "__main__"]


@pytest.mark.parametrize("room", FLOORS)
def test_no_room_imports_from_one_above_it(room):
    floor = {name: i for i, name in enumerate(FLOORS)}
    wrong = [
        f"{name} imports {other}"
        for name, tree in modules().items()
        if room_of(name) == room
        for other in sorted(imports_of(name, tree) - {""})
        if floor[room_of(other)] > floor[room]
    ]
    assert not wrong, wrong


def test_no_two_modules_import_each_other():
    """No cycle among what is imported when a module is: Python would find one of them half made."""
    edges = {name: runtime_imports_of(name, tree) - {name} for name, tree in modules().items()}
    # a module of a room runs the room's own __init__ first, which may gather from its modules
    gathering = {name for name in edges if is_package(name)}
    done, path = set(), []

    def visit(name):
        if name in path:
            pytest.fail("a cycle: " + " -> ".join([*path[path.index(name) :], name]))
        if name in done or name not in edges:
            return
        path.append(name)
        for other in sorted(edges[name] - gathering):
            visit(other)
        path.pop()
        done.add(name)

    for name in sorted(edges):
        visit(name)


def names_defined_twice() -> dict[str, list[str]]:
    places = defaultdict(list)
    for module, tree in modules().items():
        for name in names_of(tree) - HOOKS:
            places[name].append(module)
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_public_name_is_defined_twice():
    twice = names_defined_twice()
    assert not twice, "\n".join(f"{name}: {', '.join(found)}" for name, found in sorted(twice.items()))


def undocumented(tree: ast.Module, documented_in_bases: dict[str, set[str]]) -> list[str]:
    """Public classes, functions and methods without a docstring.

    A method may have that of a class of the package which it overrides, and a network's `forward` that of its class.
    """
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                found.append(node.name)
            if isinstance(node, ast.ClassDef):
                inherited = documented_in_bases[node.name] | ({"forward"} if ast.get_docstring(node) else set())
                found += [
                    f"{node.name}.{method.name}"
                    for method in node.body
                    if isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
                    if ast.get_docstring(method) is None and method.name not in inherited and not sets_a_property(method)
                ]
    return found


def sets_a_property(method: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Attribute) and d.attr in ("setter", "deleter") for d in method.decorator_list)


@cache
def documented_in_bases() -> dict[str, set[str]]:
    """Class -> the methods and fields that the classes of the package which it is derived from have documented."""
    bases, own = defaultdict(set), defaultdict(set)
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases[node.name] |= {re.split(r"[.\[]", ast.unparse(base))[-1] for base in node.bases}
                own[node.name] |= {m.name for m in node.body if isinstance(m, ast.FunctionDef) and ast.get_docstring(m)}

    def collect(name: str) -> set[str]:
        return set().union(*(own[base] | collect(base) for base in bases[name] if base != name))

    return defaultdict(set, {name: collect(name) for name in list(bases)})


@pytest.mark.parametrize("room", FLOORS)
def test_every_public_definition_has_a_docstring(room):
    found = {
        name: missing
        for name, tree in modules().items()
        if room_of(name) == room and (missing := undocumented(tree, documented_in_bases()))
    }
    assert not found, "\n".join(f"{name}: {', '.join(missing)}" for name, missing in found.items())
