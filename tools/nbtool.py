#!/usr/bin/env python3
"""Run, clean and check notebooks.

    python tools/nbtool.py run   [files]   generate from the master (tools/course.py), run from top to bottom and store the
                                           outputs, clean; an error leaves the file as it was
    python tools/nbtool.py clean [files]   store in one normal form, so that a diff shows what was changed and nothing else
    python tools/nbtool.py check [files]   list what a reader, a screen reader, GitHub or nbval would stumble over

Without files: every notebook in notebooks/. Words in a cell's tags that matter here:
    raises-exception   the cell is meant to fail
    cost-card          a markdown cell; `run --cost` writes the measured time and memory into it
    bootstrap          the first code cell, the same in every notebook
    sketch, exercise   definitions in it are steps on the way, or the reader's, and not the package's (tools/drift.py)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import symtable
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbformat import NotebookNode

if TYPE_CHECKING:
    from course import Course

ROOT = Path(__file__).resolve().parent.parent

# What a kernel sees when it is run for storing and when it is run for comparing (conftest.py): the same.
KERNEL_ENV = {
    "LDM_QUIET": "1",  # no progress bars
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONWARNINGS": "ignore",
    "HF_HUB_OFFLINE": "1",  # a notebook that needs the network would fail here, not in a classroom
}
MAX_OUTPUT = 300_000  # bytes per output
MAX_NOTEBOOK = 1_000_000  # bytes on disk; GitHub shows no more than that reliably
MAX_WORDS = 5_000  # to be read: hints, answers and the quiz are not counted
MAX_CELLS = 80  # more is two lessons
MAX_LINES = 20  # of code in a cell, imports and blank ones aside: what is seen at once
MAX_CLASS_LINES = 45  # of a cell that holds one class and nothing else: a class is shown whole

WIDGET = "application/vnd.jupyter.widget-view+json"
KEPT_METADATA = {"tags", "slideshow", "jupyter", "collapsed", "cellView"}  # of a cell
RAISES = {"raises-exception", "nbval-raises-exception"}
QUIZ = re.compile(r"(?<=^## Quiz)(?=\n|\Z)(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)  # the section below its heading
MARKDOWN_IMAGE = re.compile(r"!\[([^\]]*)\]\(\s*([^)\s]+)[^)]*\)")
HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(\s*([^)\s]+)[^)]*\)|(?:src|href)=[\"']([^\"']+)[\"']")


def all_notebooks() -> list[Path]:
    return sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


# ---- clean


def clean(notebook: NotebookNode, stem: str) -> NotebookNode:
    """Bring a notebook into normal form, in place. Doing it twice changes nothing; text and pictures stay as they are."""
    generated = {"course": notebook.metadata["course"]} if "course" in notebook.metadata else {}  # by tools/course.py
    notebook.metadata = nbformat.from_dict(
        {
            **generated,
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    number_cells(notebook, slug(stem))
    count = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in sorted(cell.metadata.items()) if k in KEPT_METADATA and v})
        if cell.cell_type != "code":
            continue
        if cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        cell.outputs = list(clean_outputs(cell.outputs, cell.execution_count))
    return notebook


def slug(stem: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40]


def number_cells(notebook: NotebookNode, stem: str) -> None:
    """Give an id to each cell that has none of its own, and leave the others alone: links and diffs rely on them."""
    seen: set[str] = set()
    for i, cell in enumerate(notebook.cells):
        name = cell.get("id", "")
        random = re.fullmatch(r"[0-9a-f]{8}|(?=.*[A-Z])[A-Za-z0-9_-]{12}|[0-9a-f]{8}-[0-9a-f-]{27}", name)  # Jupyter's, Colab's
        if random or name in seen or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            name = f"{stem}-{i:03d}"
            while name in seen or any(name == c.get("id") for c in notebook.cells[i + 1 :]):
                name += "b"
        seen.add(name)
        cell.id = name


def clean_outputs(outputs: list[NotebookNode], count: int | None) -> Iterator[NotebookNode]:
    last = None
    for output in outputs:
        if "data" in output:
            output.data.pop(WIDGET, None)  # shows "model not found" wherever the kernel is gone
            if "image/png" in output.data:
                output.data.pop("image/jpeg", None)
            output.metadata = nbformat.from_dict({k: v for k, v in output.metadata.items() if k in output.data})
            if not output.data:
                continue
        if output.output_type == "execute_result":
            output.execution_count = count
        if output.output_type == "error":
            output.traceback = [f"{output.ename}: {output.evalue}"]  # no paths, no colors
        if output.output_type == "stream" and last is not None and last.get("name") == output.name:
            last.text += output.text  # how the text was cut into messages is chance
            continue
        if last is not None:
            yield last
        last = output
    if last is not None:
        yield last


# ---- check


def problems(path: Path) -> list[str]:
    """Everything that is wrong with a stored notebook, a line each; empty if nothing is."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, 4)
    found = [f"{len(text) // 1000} kB in all; at most {MAX_NOTEBOOK // 1000}"] if path.stat().st_size > MAX_NOTEBOOK else []
    if "widgets" in notebook.metadata:
        found.append("metadata.widgets: GitHub calls such a notebook invalid (nbtool.py clean)")
    if nbformat.writes(clean(nbformat.reads(text, 4), path.stem)).rstrip("\n") != text.rstrip("\n"):
        found.append("not in normal form (nbtool.py clean)")
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    words = len(re.sub(r"<details>.*?</details>", "", QUIZ.sub("", text), flags=re.DOTALL).split())
    if words > MAX_WORDS:
        found.append(f"{words} words of text; at most {MAX_WORDS}")
    if len(notebook.cells) > MAX_CELLS:
        found.append(f"{len(notebook.cells)} cells; at most {MAX_CELLS}")
    count = 0
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            if cell.source.strip() and cell.execution_count is None:
                found.append(f"cell {i}: never run")
            elif cell.execution_count is not None:
                count += 1
                if cell.execution_count != count:
                    found.append(f"cell {i}: run out of order")
            found += [f"cell {i}: {p}" for p in code_problems(cell)]
        else:
            found += [f"cell {i}: {p}" for p in text_problems(cell.source, path.parent)]
    return found + list(widget_problems(notebook.cells))


def code_problems(cell: NotebookNode) -> Iterator[str]:
    lines = [line for line in cell.source.split("\n") if line.strip() and not line.startswith(("import ", "from "))]
    outer = [line for line in lines if not line.startswith((" ", "@", ")"))]
    limit = MAX_CLASS_LINES if len(outer) == 1 and outer[0].startswith("class ") else MAX_LINES
    if len(lines) > limit:
        yield f"{len(lines)} lines of code; at most {limit}"
    if "# fmt:" in cell.source:
        yield "a `# fmt:` pragma: write it so that it reads well when formatted"
    if cell.source.rstrip().endswith(";"):
        yield "ends with ';', which nbval does not obey: use _ = ..."
    for output in cell.outputs:
        data, size = output.get("data", {}), len(json.dumps(output))
        if size > MAX_OUTPUT:
            yield f"output of {size // 1000} kB; at most {MAX_OUTPUT // 1000}"
        if output.output_type == "error" and not RAISES & tags(cell):
            yield f"failed with {output.ename}: {output.evalue}"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"wrote to stderr: {output.text.strip()[:80]!r}"
        for kind in ("image/svg+xml", "image/jpeg"):
            if kind in data:
                yield f"{kind} output: store png, which nbval leaves alone and every page shows"
        if "image/png" in data and not str(output.metadata.get("image/png", {}).get("alt", "")).strip():
            yield "a picture without alt text: use ldm_tutorial.lessons.notebook.show(figure, alt=...)"
        yield from images_without_alt(str(data.get("text/html", "")))
        words = json.dumps({**output, "data": {k: v for k, v in data.items() if not k.startswith("image/")}})
        places = sorted({str(ROOT), str(Path.home())} - {"/"}, key=len, reverse=True)  # the repository may lie below home
        if named := next((place for place in places if place in words), None):
            yield f"the output names a folder of this machine: {named}"


def widget_problems(cells: list[NotebookNode]) -> Iterator[str]:
    """A widget draws when the whole notebook has run: a name that a later cell binds anew is no longer the one it meant."""
    tables = {}
    for i, cell in enumerate(cells):
        if cell.cell_type == "code":
            with suppress(SyntaxError):  # of IPython's own syntax
                tables[i] = symtable.symtable(cell.source, f"cell {i}", "exec")
    for i, table in tables.items():
        if not re.search(r"^\w*( = )?Explore\(", cells[i].source, re.MULTILINE):
            continue
        uses = {f.get_name(): names_used(f) for j in tables if j <= i for f in functions_in(tables[j])}
        needed: set[str] = set()
        todo = set().union(*(names_used(f) for f in functions_in(table)))
        while todo:  # what its functions use, and what those use
            name = todo.pop()
            needed.add(name)
            todo |= uses.get(name, set()) - needed
        for j, later in tables.items():
            for name in sorted(needed & bound_in(later)) if j > i else ():
                yield f"cell {i}: the widget uses {name}, which cell {j} binds anew"


def functions_in(table: symtable.SymbolTable) -> list[symtable.SymbolTable]:
    comprehensions = {"listcomp", "setcomp", "dictcomp", "genexpr"}  # at the top they have run when the cell has
    return [t for t in table.get_children() if t.get_type() == "function" and t.get_name() not in comprehensions]


def names_used(function: symtable.SymbolTable) -> set[str]:
    own = {symbol.get_name() for symbol in function.get_symbols() if symbol.is_global()}
    return own.union(*map(names_used, function.get_children()))


def bound_in(table: symtable.SymbolTable) -> set[str]:
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() and not s.is_imported()}


def text_problems(source: str, folder: Path) -> Iterator[str]:
    source = re.sub(r"^```.*?^```", "", source, flags=re.DOTALL | re.MULTILINE)  # code is no text
    source = re.sub(r"`[^`\n]*`", "", source)
    for match in MARKDOWN_IMAGE.finditer(source):
        if not match[1].strip():
            yield f"image {match[2]} without alt text"
    yield from images_without_alt(source)
    links = [m[2] for m in MARKDOWN_IMAGE.finditer(source)] + [m[1] or m[2] for m in LINK.finditer(source)]
    for link in links:
        target = link.split("#")[0].split("?")[0]
        if target and not re.match(r"[a-z]+:", target) and not (folder / target).exists():
            yield f"link to {link}, which does not exist"
        elif target and (folder / target).is_dir():
            yield f"link to {link}, which is a folder: JupyterLab opens files only"


def images_without_alt(html: str) -> Iterator[str]:
    for match in HTML_IMAGE.finditer(html):
        if not re.search(r"\balt=([\"'])\s*\S.*?\1", match[0], re.DOTALL):
            yield f"image without alt text: {match[0][:80]}"


# ---- run

# On Linux not by getrusage, whose peak is handed on by the process that started the kernel, however large that was.
PEAK_MEMORY = """
import sys
if sys.platform == "linux":
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
elif sys.platform == "darwin":
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
else:
    import psutil
    peak = psutil.Process().memory_info().peak_wset
print(peak)
"""


def run(path: Path, timeout: int, cost: bool = False) -> str:
    """Run a notebook in a fresh kernel and store it, clean. Raises nbclient's errors, and then leaves the file as it was.

    Returns what it took. With `cost`, that is written into the cell tagged cost-card as well.
    """
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK_MEMORY))
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],  # else each kernel warns that it is not encrypted, on this machine alone
    )
    began = time.monotonic()
    client.execute(env={**os.environ, **KERNEL_ENV})
    seconds = time.monotonic() - began
    memory = int(notebook.cells.pop().outputs[0].text)
    took = f"{seconds:.0f} s, {memory / 2**30:.1f} GiB of memory"
    if cost:
        cards = [cell for cell in notebook.cells if "cost-card" in tags(cell)]
        if len(cards) != 1:
            raise ValueError(f"{len(cards)} cells with the tag cost-card; --cost needs one, a markdown cell")
        cores = f"{os.cpu_count()} CPU cores"
        cards[0].source = f"**Runs in** {seconds:.0f} s on {cores}, with {memory / 2**30:.1f} GiB of memory (measured)."
    store(clean(notebook, path.stem), path)
    return took


def text_of(notebook: NotebookNode) -> str:
    """As it is on disk."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def store(notebook: NotebookNode, path: Path) -> None:
    """Write whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text_of(notebook), encoding="utf-8")
    os.replace(partial, path)


def generate(path: Path) -> Course | None:
    """Generate a notebook from its master before it is run; the course, if it has one there."""
    from course import Course  # which needs this module

    course = Course()
    if place := course.which(path):
        print("".join(f"{line}\n" for line in course.generate(*place)[:1]), end="", flush=True)
    return course if place else None


# ---- the command


def each(command: str, path: Path, timeout: int, cost: bool) -> list[str]:
    """Do it to one notebook; returns its problems."""
    if command == "check":
        return problems(path)
    if command == "clean":
        store(clean(nbformat.read(path, 4), path.stem), path)
        return []
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        course = generate(path)
        print(f"{path.name}: {run(path, timeout, cost)}", flush=True)
        if course:
            course.carry(path)  # the cost, if it was asked for; and what is put before an answer
        return []
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        without_colors = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
        return [f"not stored; {without_colors}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "clean", "check"])
    parser.add_argument("files", nargs="*", type=Path, help="default: all in notebooks/")
    parser.add_argument("--timeout", type=int, default=600, help="seconds for one cell (default: %(default)s)")
    parser.add_argument("--cost", action="store_true", help="run: write time and memory into the cell tagged cost-card")
    arguments = parser.parse_intermixed_args()  # before Python 3.12, `run --cost file` is an error otherwise
    bad = 0
    for path in arguments.files or all_notebooks():
        try:
            found = each(arguments.command, path, arguments.timeout, arguments.cost)
        except (OSError, ValueError, nbformat.ValidationError) as error:  # no such file, not a notebook, edited by hand
            found = [f"{type(error).__name__}: {error}"]
        for problem in found:
            print(f"{path}: {problem}", file=sys.stderr)
        bad += bool(found)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
