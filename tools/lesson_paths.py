#!/usr/bin/env python3
"""The teaching paths of docs/instructor/paths.yml: check them against the notebooks, and write the pages made from them.

    python tools/lesson_paths.py check    list a heading that is gone, a cell that needs one that is not run, a wrong sum
    python tools/lesson_paths.py write    write the pages of the paths, and tables between marks like `<!-- begin: timing -->`

A heading names its section up to the next heading of any level. A cell is named by the number in square brackets that
stands beside it in the stored notebook.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import json
import re
import symtable
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "instructor"
MEASURED = GUIDE / "times.json"  # seconds of each cell of a path, written by lesson_times.py
BLOCK_KEYS = {"minutes", "title", "notebook", "run", "prepare", "exercise", "say", "screen", "ask", "answers", "skip", "later"}
HEADING = re.compile(r"^#{2,4} +(.+?)\s*$", re.MULTILINE)
REGION = re.compile(r"(<!-- begin: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)  # lines that only IPython reads


@dataclass(frozen=True)
class Cell:
    number: int | None  # in square brackets beside a code cell; None for text
    source: str
    tags: frozenset[str]
    output: str = ""  # what it printed, and the alt texts of what it showed

    @property
    def is_code(self) -> bool:
        return self.number is not None


@dataclass
class Section:
    title: str
    cells: list[Cell] = field(default_factory=list)

    @property
    def code(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.is_code]


@dataclass(frozen=True)
class Block:
    """Some minutes of a lesson. `run`: numbers of the cells that are run and shown; `prepare`: of those that are run only."""

    minutes: int
    title: str
    notebook: str | None
    sections: tuple[str, ...]
    run: tuple[int, ...]
    prepare: tuple[int, ...]
    text: dict[str, str]

    @property
    def cells(self) -> list[int]:
        """All cells of the block, from the top of the notebook to its bottom."""
        return sorted({*self.prepare, *self.run})


@dataclass(frozen=True)
class Day:
    title: str
    starts: str  # "9:00", or "0:00" for minutes from the beginning
    blocks: list[Block]


@dataclass(frozen=True)
class TeachingPath:
    name: str
    title: str
    minutes: int
    text: dict[str, str]
    days: list[Day]

    @property
    def blocks(self) -> list[Block]:
        return [block for day in self.days for block in day.blocks]


# ---- the notebooks


@lru_cache
def notebook_path(number: str) -> Path:
    found = sorted((ROOT / "notebooks").glob(f"{number}_*.ipynb"))
    if len(found) != 1:
        raise ValueError(f"notebook {number!r}: {len(found)} files notebooks/{number}_*.ipynb; one is needed")
    return found[0]


def notebook_numbers() -> list[str]:
    return [path.name.partition("_")[0] for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]*_*.ipynb"))]


@lru_cache
def sections(number: str) -> tuple[Section, ...]:
    """What stands under each heading. What comes before the first heading is the section "" (title, cost card, objectives)."""
    found = [Section("")]
    count = 0
    for cell in json.loads(notebook_path(number).read_text(encoding="utf-8"))["cells"]:
        source, tags = "".join(cell["source"]), frozenset(cell["metadata"].get("tags", []))
        if cell["cell_type"] == "code":
            count += 1
            found[-1].cells.append(Cell(count, source, tags, printed(cell.get("outputs", []))))
            continue
        begin = 0
        for heading in HEADING.finditer(source):
            if source[begin : heading.start()].strip():
                found[-1].cells.append(Cell(None, source[begin : heading.start()], tags))
            found.append(Section(heading[1]))
            begin = heading.end()
        found[-1].cells.append(Cell(None, source[begin:], tags))
    return tuple(found)


def printed(outputs: list[dict]) -> str:
    """The text of a cell's outputs."""
    parts = []
    for output in outputs:
        parts.append("".join(output.get("text", [])))
        parts.append("".join(output.get("data", {}).get("text/plain", [])))
        parts += [str(pair.get("alt", "")) for pair in output.get("metadata", {}).values() if isinstance(pair, dict)]
    return "\n".join(part for part in parts if part)


def title_of(number: str) -> str:
    text = "".join(cell.source for cell in sections(number)[0].cells)
    found = re.search(r"^# +(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else notebook_path(number).stem


def section(number: str, title: str) -> Section:
    found = [s for s in sections(number) if s.title == title]
    if len(found) != 1:
        known = "; ".join(s.title for s in sections(number) if s.title)
        raise ValueError(f"notebook {number} has {len(found)} headings {title!r}; it has: {known}")
    return found[0]


# ---- the file of paths


def cells_named(number: str, entries: list[str | dict[str, list[int]]]) -> tuple[list[str], list[int]]:
    """Titles and cell numbers. An entry is a heading (all of its code cells) or {heading: [1, 3]} (the first and third)."""
    titles, cells = [], []
    for entry in entries:
        (title, wanted) = next(iter(entry.items())) if isinstance(entry, dict) else (entry, None)
        code = section(number, title).code
        if wanted is None:
            wanted = [i + 1 for i, cell in enumerate(code) if "exercise" not in cell.tags]
        if wanted and not 1 <= min(wanted) <= max(wanted) <= len(code):
            raise ValueError(f"notebook {number}, {title!r}: cells {wanted} of {len(code)}")
        titles.append(title)
        cells += [code[i - 1].number for i in wanted]
    return titles, cells


def read_block(entry: dict) -> Block:
    unknown = set(entry) - BLOCK_KEYS
    if unknown or not {"minutes", "title", "say"} <= set(entry):
        raise ValueError(
            f"block {entry.get('title')!r}: keys {sorted(unknown)} are not known, or minutes, title or say is missing"
        )
    number = str(entry["notebook"]) if "notebook" in entry else None
    if number is None and ("run" in entry or "prepare" in entry or "exercise" in entry):
        raise ValueError(f"block {entry['title']!r} runs cells of no notebook")
    titles, run = cells_named(number, entry.get("run", [])) if number else ([], [])
    _, prepare = cells_named(number, entry.get("prepare", [])) if number else ([], [])
    text = {
        key: str(entry[key]).strip() for key in ("say", "screen", "ask", "answers", "skip", "later", "exercise") if key in entry
    }
    return Block(int(entry["minutes"]), entry["title"], number, tuple(titles), tuple(run), tuple(prepare), text)


@lru_cache
def paths() -> dict[str, TeachingPath]:
    """The teaching paths. Raises ValueError where one names a heading or a cell that does not exist."""
    data = yaml.safe_load((GUIDE / "paths.yml").read_text(encoding="utf-8"))
    found = {}
    for name, entry in data["paths"].items():
        days = [Day(day["title"], str(day["starts"]), [read_block(block) for block in day["blocks"]]) for day in entry["days"]]
        text = {key: str(entry[key]).strip() for key in ("for", "needs", "after", "note") if key in entry}
        found[name] = TeachingPath(name, entry["title"], int(entry["minutes"]), text, days)
    return found


def settings() -> dict:
    """What the file says beside the paths: which notebooks are essential, and the paths of a reader who learns alone."""
    return yaml.safe_load((GUIDE / "paths.yml").read_text(encoding="utf-8"))


def cells_in_order(path: TeachingPath) -> dict[str, list[int]]:
    """For each notebook, the numbers of the cells that the path runs, in the order in which it runs them, each once."""
    order: dict[str, list[int]] = {}
    for block in path.blocks:
        if block.notebook:
            seen = order.setdefault(block.notebook, [])
            seen += [number for number in block.cells if number not in seen]
    return {number: cells for number, cells in order.items() if cells}


# ---- check


def problems() -> Iterator[str]:
    """Everything that is wrong with the file, a line each."""
    try:
        all_paths = paths()
    except (ValueError, KeyError, yaml.YAMLError) as error:
        yield f"paths.yml: {error}"
        return
    for path in all_paths.values():
        total = sum(block.minutes for block in path.blocks)
        if total != path.minutes:
            yield f"{path.name}: the blocks take {total} minutes; the path says {path.minutes}"
        for number, wanted in cells_in_order(path).items():
            yield from unmet(path.name, number, wanted)


def unmet(name: str, number: str, wanted: list[int]) -> Iterator[str]:
    """Cells that use what no cell run before them has made."""
    by_number = {cell.number: cell for part in sections(number) for cell in part.code}
    have = set(dir(builtins)) | {"get_ipython", "display", "__name__"}
    for cell in (by_number[i] for i in wanted):
        made, used = names(cell.source)
        missing = sorted(used - have)
        if missing:
            makers = {m: next((c.number for c in by_number.values() if m in names(c.source)[0]), None) for m in missing}
            yield f"{name}: cell [{cell.number}] of notebook {number} needs {makers} (name: the cell that makes it)"
        have |= made


@lru_cache
def names(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """(what a cell defines, what it needs of cells before it)."""
    source = MAGIC.sub(r"\1pass", source)
    table = symtable.symtable(source, "cell", "exec")
    made = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    used = {s.get_name() for scope in scopes(table) for s in scope.get_symbols() if s.is_referenced() and s.is_global()}
    used |= {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    both = made & {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    return frozenset(made), frozenset((used - made) | {name for name in both if read_first(ast.parse(source), name)})


def scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """The functions, classes and comprehensions inside, at any depth."""
    for child in table.get_children():
        yield child
        yield from scopes(child)


def read_first(tree: ast.Module, name: str) -> bool:
    """Whether a cell goes on with something of an earlier one: `class A(A)`, `x = f(x)` or `x += 1`, not bound before."""
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return name in read_in(statement.bases)
        if isinstance(statement, ast.AugAssign):
            if name in read_in([ast.Expr(statement.target)]) | {getattr(statement.target, "id", "")}:
                return True
        elif isinstance(statement, ast.Assign):
            if name in {n.id for target in statement.targets for n in ast.walk(target) if isinstance(n, ast.Name)}:
                return name in read_in([statement.value])
        elif name in {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}:
            return False
    return False


def read_in(nodes: Sequence[ast.AST]) -> set[str]:
    """Names that these nodes read, except those that a comprehension or a lambda in them binds."""
    inside = [node for root in nodes for node in ast.walk(root)]
    own = {
        n.id for node in inside if isinstance(node, ast.comprehension) for n in ast.walk(node.target) if isinstance(n, ast.Name)
    }
    own |= {a.arg for node in inside if isinstance(node, ast.Lambda) for a in [*node.args.args, *node.args.kwonlyargs]}
    return {node.id for node in inside if isinstance(node, ast.Name)} - own


# ---- the pages


def clock(starts: str, minutes: int) -> str:
    hour, minute = map(int, starts.split(":"))
    total = 60 * hour + minute + minutes
    return f"{total // 60}:{total % 60:02}"


def ranges(numbers: tuple[int, ...] | list[int]) -> str:
    """[3], [4], [5], [8] as "[3]–[5], [8]"."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ", ".join(f"[{p[0]}]" if len(p) == 1 else f"[{p[0]}]–[{p[-1]}]" for p in parts)


def measured() -> dict:
    return json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}


def sign(number: str, cell: int) -> str:
    """What a cell is, in eight digits: a measured time counts only for the cell that was measured."""
    source = next(c.source for part in sections(number) for c in part.code if c.number == cell)
    return hashlib.sha256(source.encode()).hexdigest()[:8]


def seconds_of(path: TeachingPath, number: str, cells: Sequence[int]) -> float | None:
    """What these cells took where they were measured; None if one of them was not, or has changed since."""
    times = measured().get(path.name, {}).get("cells", {}).get(number, {})
    if any(times.get(str(n), ["", ""])[1] != sign(number, n) for n in cells):
        return None
    return sum(times[str(n)][0] for n in cells)


def link(number: str) -> str:
    return f"[{title_of(number)}](../../notebooks/{notebook_path(number).name})"


def path_page(path: TeachingPath) -> str:
    """The page of a path: a table of its minutes, then each block with what is said."""
    out = [
        f"# {path.title}",
        "",
        "*Made from [paths.yml](paths.yml) by `python tools/lesson_paths.py write`: edit that file, not this one.*",
        "",
    ]
    for key, label in (
        ("for", "For whom"),
        ("needs", "Before you begin"),
        ("note", "How to read this page"),
        ("after", "After the lesson"),
    ):
        if key in path.text:
            out += [f"**{label}.** {path.text[key]}", ""]
    for i, day in enumerate(path.days, 1):
        prefix = f"{day.title}" if len(path.days) > 1 else "Run of show"
        out += [
            f"## {prefix}",
            "",
            "| time | min | what | notebook and section | cells | run |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        passed = 0
        for block in day.blocks:
            seconds = seconds_of(path, block.notebook, block.cells) if block.notebook else 0.0
            where = " · ".join([f"[{block.notebook}]({block.notebook}.md)", *block.sections]) if block.notebook else ""
            cells = ranges(block.cells)
            took = "" if not cells else "not measured" if seconds is None else f"{seconds:.0f} s"
            out.append(f"| {clock(day.starts, passed)} | {block.minutes} | {block.title} | {where} | {cells} | {took} |")
            passed += block.minutes
        out += [f"| {clock(day.starts, passed)} | | end | | | |", ""]
        passed = 0
        for block in day.blocks:
            out += block_text(block, clock(day.starts, passed), f" · day {i}" if len(path.days) > 1 else "")
            passed += block.minutes
    return "\n".join(out).rstrip() + "\n"


def block_text(block: Block, begins: str, day: str) -> list[str]:
    out = [f"### {begins}{day} · {block.title} ({block.minutes} min)", ""]
    if block.notebook:
        out += [
            f"{link(block.notebook)}"
            + (": " + ", ".join(f"*{title}*" for title in block.sections) if block.sections else "")
            + "."
        ]
    if block.prepare:
        out += [f"Run without comment: {ranges(block.prepare)}."]
    if block.run:
        out += [f"Run and show: {ranges(block.run)}."]
    if block.notebook:
        out += [""]
    labels = ("say", "Say"), ("screen", "On screen"), ("ask", "Ask"), ("answers", "Typical answers"), ("exercise", "Exercise")
    for key, label in (*labels, ("skip", "If late"), ("later", "Catch up")):
        if key in block.text:
            out += [f"**{label}.** {block.text[key]}", ""]
    return out


def trial_page() -> str:
    """What each cell of each measured path took, block by block."""
    out = [
        "# The trial lessons",
        "",
        "*Made by `python tools/lesson_times.py PATH --write`, which runs the cells of a path in order.*",
        "",
    ]
    missing = [f'`make lesson ARGS="{name} --write"`' for name in paths() if name not in measured()]
    if missing:
        out += [f"Not measured yet; on a machine that does nothing else: {', '.join(missing)}.", ""]
    for name in (name for name in paths() if name in measured()):
        path, seen, seconds = paths()[name], set(), []
        out += [
            f"## {path.title}",
            "",
            f"Measured on {measured()[name]['machine']}.",
            "",
            "| block | min planned | cell | s |",
            "| --- | --- | --- | --- |",
        ]
        for block in path.blocks:
            number = block.notebook or ""
            new = [n for n in block.cells if (number, n) not in seen]
            seen |= {(number, n) for n in new}
            for i, n in enumerate(new):
                took = seconds_of(path, number, [n])
                seconds.append(took)
                said = "not measured" if took is None else f"{took:.1f}"
                out.append(f"| {'' if i else block.title} | {'' if i else block.minutes} | {number} [{n}] | {said} |")
        unknown = seconds.count(None)
        total = sum(filter(None, seconds))
        out += [f"| together | {path.minutes} | {len(seen)} cells | {'not measured' if unknown else f'{total:.0f}'} |", ""]
        if unknown:
            again = f'`make lesson ARGS="{name} --write"` measures all, on a machine that does nothing else'
            out += [f"Not measured since the cell was last changed: {unknown} of the {len(seen)} cells. {again}.", ""]
        else:
            out += [f"Waiting for cells takes {total / 60 / path.minutes:.0%} of the lesson.", ""]
    return "\n".join(out).rstrip() + "\n"


def section_table(number: str) -> str:
    """The sections of a notebook: cells, and minutes of reading (whole ones, so that a mended sentence changes no table)."""
    import timing

    rows = ["| section | cells | read, min |", "| --- | --- | --- |"]
    for part in sections(number):
        name = part.title or "(top of the page)"
        rows.append(f"| {name} | {ranges([cell.number for cell in part.code])} | {timing.reading(part.cells):.0f} |")
    return "\n".join(rows)


@lru_cache
def regions() -> dict[str, str]:
    """The tables that stand between marks in pages written by hand, by name."""
    import timing

    found = {"timing": timing.table(), "reading-paths": timing.reading_paths()}
    found |= {f"sections-{number}": section_table(number) for number in notebook_numbers()}
    return found


def with_regions(text: str) -> str:
    """The page with its marked tables as they are now. Raises ValueError for a mark that is not known."""
    tables = regions()

    def fill(match: re.Match[str]) -> str:
        if match["name"] not in tables:
            raise ValueError(f"there is no table {match['name']!r}; there are: {', '.join(tables)}")
        return f"{match[1]}\n{tables[match['name']]}\n\n{match[3]}"

    return REGION.sub(fill, text)


def written() -> dict[Path, str]:
    """Each page that is made or has made parts, and what must stand in it."""
    pages = {GUIDE / f"{path.name}.md": path_page(path) for path in paths().values()}
    pages[GUIDE / "trial_lesson.md"] = trial_page()
    for page in [ROOT / "README.md", *sorted(GUIDE.glob("**/*.md"))]:
        if page not in pages and REGION.search(page.read_text(encoding="utf-8")):
            pages[page] = with_regions(page.read_text(encoding="utf-8"))
    return pages


def main(command: str) -> int:
    found = list(problems())
    for problem in found:
        print(problem, file=sys.stderr)
    if found or command == "check":
        return bool(found)
    for page, text in written().items():
        page.write_text(text, encoding="utf-8")
        print(page.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("check", "write"):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
