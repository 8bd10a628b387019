#!/usr/bin/env python3
"""One master for each notebook, course/NN_name.md (MyST text), and every version of it generated from there.

    python tools/course.py [files]            generate notebooks/NN_name.ipynb and notebooks/solutions/NN_name.ipynb
    python tools/course.py --check [files]    only say which of them are not what their master says
    python tools/course.py --from [files]     carry what was edited in notebooks (JupyterLab) back into their masters
    python tools/course.py --edition student -o FOLDER       a folder for a class: without solutions and the answers of the quiz,
                                                             and without the outputs that answer a prediction
    python tools/course.py --edition instructor -o FOLDER    its counterpart, with the solutions in their places

Files are masters or notebooks; without files: all. Stored outputs stay with a cell as long as its source is the same.

In a master
    tag `exercise`      the cell holds the full solution. What stands between the lines `# solution` and `# end of solution`
                        is `...` for the student inside a function, and nothing outside of one. Comments right above it are
                        hints: the solution goes without them
    tag `solution`      a cell that only the solutions have
    tag `bootstrap`     an empty cell; it is filled with course/bootstrap.ipy, and course/install.ipy before it for Colab
    tag `predict`       a question to think about before the outputs of the cells with the tag `reveal` are seen, which answer it:
                        in the notebooks they are folded behind an invitation, in the student edition they are left out
    ORG/REPO            the repository's name; lines that need it are left out until it has one (tools/repository.py)
    a section `## Quiz` is empty; it is filled with the notebook's questions of course/questions.yml
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path

import jupytext
import nbformat
import nbtool
import questions
import repository
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook, new_output
from nbtool import QUIZ

HEADER = """\
---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3 (ipykernel), language: python, name: python3}
---
"""
BEGIN, END = "# solution", "# end of solution"
OUTSIDE = re.compile(rf"^{BEGIN}\n.*?^{END}(\n+|\Z)", re.MULTILINE | re.DOTALL)
IN_FUNCTION = re.compile(rf"^(?P<line>.*)\n(?P<indent> +){BEGIN}\n(?:.*\n)*?(?P=indent){END}$", re.MULTILINE)
HINTS = re.compile(rf"(^ +#.*\n)*^ +{BEGIN}\n", re.MULTILINE)
MARKER = re.compile(rf"^ *({BEGIN}|{END})(\n|\Z)", re.MULTILINE)
SOLUTIONS_INTRO = "One way each; yours may differ. The checks decide, not the wording."
CONFLICT = re.compile(r"^<{7} .*\n(?P<ours>(?:.*\n)*?)(?:^\|{7}(?:.*\n)*?)?={7}\n(?P<theirs>(?:.*\n)*?)>{7} .*\n", re.MULTILINE)
PUBLISHED = ("notebooks", "solutions")  # the versions that are committed, with their outputs
EDITIONS = ("student", "instructor")  # folders for a class
FOLDED = {"collapsed": True, "jupyter": {"outputs_hidden": True}}  # JupyterLab shows such outputs after a click or a run,
# and until then the first line of the first one, which would give the answer away. So one is put before it.
INVITATION = "Your prediction first. Then click here, or run the cell."
SOLUTIONS_LINK = re.compile(r" *[^.\n]*\[[^\]]*\]\(solutions/[^)]*\)\.?")  # the sentence with it, or the entry at the top
TAKEN = re.compile(r"\]\(\.\./([^)#]+)(?:#[^)]*)?\)")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#]+)(#[^)]*)?\)")
TAKEN_ALONG = ("images", "docs", "LICENSE")  # from here an edition takes along what its notebooks link to


class CourseError(ValueError):
    """What is wrong with a master or a notebook, and what to do: shown as it is."""


# ---- masters


def read_master(path: Path) -> NotebookNode:
    """A master as a notebook without outputs; a cell that has no id yet has id ""."""
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), "md:myst")
    for cell in notebook.cells:
        cell.id = cell.metadata.pop("id", "")
    ids = [cell.id for cell in notebook.cells if cell.id]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise CourseError(f"{path}: two cells with the id {twice[0]}. Take the id from the new one; it gets its own.")
    return notebook


def write_master(cells: list[NotebookNode], path: Path) -> None:
    """Write whole or not at all. What MyST text cannot hold is refused."""
    notebook = new_notebook(metadata={"language_info": {"name": "python", "pygments_lexer": "ipython3"}})
    for cell in copy.deepcopy(cells):
        if cell.get("attachments"):
            raise CourseError(f"{path.stem}: cell {cell.id} holds a pasted picture. Save it in images/ and link it there.")
        cell.metadata = nbformat.from_dict({"id": cell.id, **cell.metadata})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        notebook.cells.append(cell)
    body = jupytext.writes(notebook, "md:myst").partition("\n---\n")[2]
    unfinished = path.with_name(path.name + ".partial")
    unfinished.write_text(HEADER + body, encoding="utf-8", newline="\n")
    for wanted, got in zip_longest(cells, read_master(unfinished).cells):
        if wanted is None or got is None or content(wanted) != content(got):
            wanted = wanted or cells[-1]
            unfinished.unlink()
            raise CourseError(f"{path.stem}: cell {wanted.id} is no MyST text. Has it a line `+++`, or a fence left open?")
    unfinished.replace(path)


def content(cell: NotebookNode) -> tuple:
    """What an author edits of a cell; not its outputs."""
    return cell.id, cell.cell_type, cell.source, cell.metadata


# ---- exercises


def stub(source: str) -> str:
    """An exercise as the student gets it."""

    def in_function(match: re.Match) -> str:
        rest_of_function = match.string[match.end() :].lstrip("\n").startswith(match["indent"])
        alone = match["line"].endswith(":") and not match["line"].lstrip().startswith("#") and not rest_of_function
        return f"{match['line']} ..." if alone else f"{match['line']}\n{match['indent']}..."

    return IN_FUNCTION.sub(in_function, OUTSIDE.sub("", source)).strip("\n")


def solved(source: str) -> str:
    """An exercise as the solutions show it: without the markers, and without the hints right above one."""
    return MARKER.sub("", HINTS.sub("", source)).strip("\n")


def check_markers(cell: NotebookNode) -> None:
    """Markers stand in exercises only, in pairs, each pair at one indent."""
    found = [line for line in cell.source.split("\n") if line.strip() in (BEGIN, END)]
    if "exercise" not in nbtool.tags(cell):
        if cell.cell_type == "code" and found:
            raise CourseError(f"cell {cell.id}: a line `{found[0].strip()}`, but not the tag `exercise`")
        return
    pairs = list(zip(found[::2], found[1::2]))
    if not pairs or len(found) % 2 or any(first.replace(BEGIN, END) != second for first, second in pairs):
        raise CourseError(f"cell {cell.id}: an exercise needs `{BEGIN}` and `{END}` around its solution, at one indent each")


# ---- the quiz


def quiz_of(shown: list[questions.Rendered], answers: bool) -> str:
    """The text below `## Quiz`: each question with its options, and what is right and why behind a click."""
    text = ""
    for i, question in enumerate(shown, start=1):
        options = list(zip(questions.LETTERS, question.options))
        text += f"\n\n**{i}. {question.question}**\n\n" + "".join(f"- {letter}) {option.text}\n" for letter, option in options)
        if answers:
            reasons = "".join(f"- {letter}: {option.because}\n" for letter, option in options)
            text += f"\n<details><summary>Answer</summary>\n\n**{question.answer}**\n\n{reasons}\n</details>"
    return text.rstrip("\n")


# ---- the course


class Course:
    """The masters in `root`/course, and the notebooks that are generated from them."""

    def __init__(self, root: Path = nbtool.ROOT) -> None:
        self.root = root
        self.folder = root / "course"

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("[0-9]*.md"))

    def master(self, name: str) -> Path:
        return self.folder / f"{name}.md"

    def notebook(self, name: str, version: str = "notebooks") -> Path:
        folder = self.root / "notebooks"
        return (folder if version == "notebooks" else folder / version) / f"{name}.ipynb"

    def cells(self, name: str) -> list[NotebookNode]:
        """The cells of a master. Those that have no id yet are given one, which is written down."""
        path = self.master(name)
        notebook = read_master(path)
        if not all(cell.id for cell in notebook.cells):
            nbtool.number_cells(notebook, nbtool.slug(name))
            write_master(notebook.cells, path)
        try:
            for cell in notebook.cells:
                check_markers(cell)
        except CourseError as error:
            raise CourseError(f"{path}: {error}") from None
        return notebook.cells

    def quiz(self, name: str, answers: bool) -> str:
        """The quiz of a notebook: its questions in course/questions.yml with `show: true`, always with the same numbers."""
        every = questions.read(self.folder / "questions.yml")
        page = [q for q in every if q.notebook == name.partition("_")[0] and q.show]
        return quiz_of(questions.render_quiz(page), answers)

    # -- to the notebooks

    def build(self, name: str, version: str) -> NotebookNode:
        """A version of a notebook, without outputs."""
        made = [self.shown(cell, name, version) for cell in self.cells(name) if belongs(cell, version)]
        if version == "solutions":
            made.insert(0, self.solutions_title(name))
        notebook = nbtool.clean(new_notebook(cells=made), name)
        notebook.metadata["course"] = {"cells": fingerprint(notebook)}
        return notebook

    def shown(self, cell: NotebookNode, name: str, version: str) -> NotebookNode:
        """A cell of a master as it is in a version."""
        cell, words = copy.deepcopy(cell), nbtool.tags(cell)
        if "bootstrap" in words:
            cell.source = self.bootstrap()
        if "exercise" in words:
            cell.source = stub(cell.source) if version in ("notebooks", "student") else solved(cell.source)
        if cell.cell_type == "markdown" and (section := QUIZ.search(cell.source)):
            if section[0].strip():
                raise CourseError(f"{self.master(name)}: the quiz comes from course/questions.yml; leave `## Quiz` empty.")
            quiz = self.quiz(name, answers=version != "student")
            cell.source = QUIZ.sub(lambda section: quiz + section[0], cell.source, count=1)
        if version == "notebooks" and cell.cell_type == "code" and "reveal" in words:
            cell.metadata.update(FOLDED)
        if version in EDITIONS:
            cell.source = inside(cell.source) if cell.cell_type == "markdown" else cell.source
        cell.source = repository.named(cell.source, repository.read(self.root))
        if version == "solutions":
            cell.metadata["tags"] = sorted(words - {"exercise", "solution"})
        return cell

    def bootstrap(self) -> str:
        """The first code cell of every notebook; with the lines that install in Colab once there is a place to install from."""
        parts = ["install.ipy", "bootstrap.ipy"] if repository.read(self.root) else ["bootstrap.ipy"]
        return "\n\n".join((self.folder / part).read_text(encoding="utf-8").strip("\n") for part in parts)

    def solutions_title(self, name: str) -> NotebookNode:
        titles = (re.search(r"^# (.+)$", cell.source, re.M) for cell in self.cells(name) if cell.cell_type == "markdown")
        title = next(title[1] for title in titles if title)
        text = f"# Solutions to [{title}](../{name}.ipynb)\n\n{SOLUTIONS_INTRO}"
        return new_markdown_cell(text, id="solutions-title")

    def generated(self, name: str, version: str) -> tuple[NotebookNode, list[str]]:
        """A version with the outputs that are stored for it, and the ids of the cells that have none and need to be run."""
        notebook = self.build(name, version)
        with_outputs(notebook, self.notebook(name, version))
        for cell in notebook.cells if version == "notebooks" else ():
            if cell.cell_type == "code" and cell.outputs and "reveal" in nbtool.tags(cell):
                cell.outputs.insert(0, new_output("display_data", {"text/plain": INVITATION}))
        lost = [c.id for c in notebook.cells if c.cell_type == "code" and c.source and c.execution_count is None]
        return nbtool.clean(notebook, name), lost

    def stale(self, name: str, version: str) -> list[str]:
        """A sentence if the stored notebook is not what its master says."""
        path, master = self.relative(self.notebook(name, version)), self.relative(self.master(name))
        if holds(self.notebook(name, version), self.generated(name, version)[0]):
            return []
        remedy = f'If the master was edited: make course. If the notebook was: make course ARGS="--from {path}".'
        return [f"{path} is not what {master} says. {remedy}"]

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def generate(self, name: str, version: str, force: bool = False) -> list[str]:
        """Write a version if it differs; returns what there is to tell. A notebook that was edited is not overwritten."""
        path = self.notebook(name, version)
        notebook, lost = self.generated(name, version)
        if holds(path, notebook):
            return []
        sides = read_sides(path)  # two in a merge, which the master settles
        if len(sides) == 1 and not force and edited(sides[0]):
            here = self.relative(path)
            raise CourseError(
                f'{here} has been edited. To carry the edits into its master: make course ARGS="--from {here}". '
                f'To throw them away: make course ARGS="--force {here}".'
            )
        nbtool.store(notebook, make_room(path))
        said = [f"{self.relative(path)}: generated"]
        if lost:
            what = f"{len(lost)} cells have" if len(lost) > 1 else f"cell {lost[0]} has"
            said.append(f"{self.relative(path)}: {what} no output any more; make notebooks ARGS={self.relative(path)} runs it")
        return said

    # -- to a class

    def edition(self, version: str, folder: Path) -> list[str]:
        """Write a folder for a class: notebooks/ and the pictures and pages that they link to."""
        if folder.exists() and any(folder.iterdir()):
            raise CourseError(f"{folder} is not empty: name a new folder.")
        links: set[str] = set()
        for name in self.names():
            notebook = self.for_class(name, version)
            nbtool.store(notebook, make_room(folder / "notebooks" / f"{name}.ipynb"))
            links.update(target for cell in notebook.cells for target in TAKEN.findall(cell.source))
        pages = {link for link in links if link.endswith(".md")}
        links.update(target for page in pages for target in TAKEN.findall((self.root / page).read_text(encoding="utf-8")))
        for link in sorted(links):
            if link.split("/")[0] in TAKEN_ALONG and (self.root / link).is_file():
                shutil.copy(self.root / link, make_room(folder / link))
        return [f"{folder}: {len(self.names())} notebooks, {version} edition"]

    def for_class(self, name: str, version: str) -> NotebookNode:
        """A notebook of an edition, with the outputs that are stored for its cells and that may be seen."""
        notebook = self.build(name, version)
        for each in PUBLISHED:
            with_outputs(notebook, self.notebook(name, each))
        for cell in notebook.cells:
            if version == "student" and cell.cell_type == "code" and "reveal" in nbtool.tags(cell):
                cell.outputs, cell.execution_count = [], None
        return nbtool.clean(notebook, name)

    # -- from a notebook

    def carry(self, path: Path) -> list[str]:
        """Carry what was edited in a notebook back into its master, and generate anew. All of it, or nothing."""
        if not (place := self.which(path)):
            raise CourseError(f"{path} is no notebook with a master in {self.relative(self.folder)}/.")
        name, version = place
        notebook = nbformat.read(path, 4)
        nbtool.clean(notebook, name)
        before = self.cells(name)
        cells = merged(
            before, self.build(name, version).cells, notebook.cells, version, self.relative(self.master(name)), self.root
        )
        said = []
        if [content(cell) for cell in before] != [content(cell) for cell in cells]:
            write_master(cells, self.master(name))
            said.append(f"{self.relative(self.master(name))}: changed")
        nbtool.store(notebook, path)  # with the ids that new cells were given, so that their outputs are found
        for each in PUBLISHED:
            said += self.generate(name, each, force=each == version)
        return said

    def which(self, path: Path) -> tuple[str, str] | None:
        """Name and version of a notebook, by its path; None if it has no master."""
        for version in PUBLISHED if self.master(path.stem).exists() else ():
            if path.resolve() == self.notebook(path.stem, version).resolve():
                return path.stem, version
        return None

    def named(self, words: list[str]) -> list[str]:
        """The names that files on the command line stand for; all without any."""
        paths = self.found(words)
        for path in paths:
            if path.stem not in self.names():
                raise CourseError(f"{path}: there is no course/{path.stem}.md")
        return sorted({path.stem for path in paths}) or self.names()

    def found(self, words: list[str]) -> list[Path]:
        """The files; patterns too, which the shell of Windows leaves to us."""
        paths = []
        for word in words:
            here = sorted(self.root.glob(word)) if "*" in word else [Path(word)] if Path(word).exists() else []
            if not here:
                raise CourseError(f"{word}: no such file")
            paths += here
        return paths


def with_outputs(notebook: NotebookNode, path: Path) -> None:
    """Give the cells the outputs that are stored in a file for cells of the same id and source."""
    stored = {
        (cell.id, repository.printing(cell.source)): cell
        for side in read_sides(path)
        for cell in side.cells
        if cell.cell_type == "code"
    }
    for cell in notebook.cells:
        old = stored.get((cell.id, repository.printing(cell.get("source", ""))))
        if old is not None and old.execution_count is not None:
            cell.outputs, cell.execution_count = without_invitation(old.outputs), old.execution_count


def read_sides(path: Path) -> list[NotebookNode]:
    """The notebook in a file; both sides of it if git has left a conflict there; nothing if there is no file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    sides = sorted({CONFLICT.sub(rf"\g<{side}>", text) for side in ("theirs", "ours")})
    return [nbformat.reads(side, 4) for side in sides if side]


def without_invitation(outputs: list[NotebookNode]) -> list[NotebookNode]:
    return [output for output in outputs if output.get("data", {}).get("text/plain") != INVITATION]


def make_room(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def inside(text: str) -> str:
    """A text of a folder that holds neither solutions nor the project: links that lead out of it become plain text."""
    text = SOLUTIONS_LINK.sub("", text)
    return LINK.sub(lambda link: link[0] if link[2].split("/")[1] in TAKEN_ALONG else link[1], text)


def holds(path: Path, notebook: NotebookNode) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == nbtool.text_of(notebook)


def belongs(cell: NotebookNode, version: str) -> bool:
    words = nbtool.tags(cell)
    if version == "solutions":
        return bool(words & {"bootstrap", "exercise", "solution"})
    return "solution" not in words or version == "instructor"


def fingerprint(notebook: NotebookNode) -> str:
    """Of what an author edits: ids, sources and tags, not outputs."""
    parts = [[cell.id, cell.cell_type, cell.source, sorted(nbtool.tags(cell))] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def edited(notebook: NotebookNode) -> bool:
    """Whether a notebook has been edited since it was generated."""
    return notebook.metadata.get("course", {}).get("cells") != fingerprint(notebook)


def merged(
    master: list[NotebookNode], view: list[NotebookNode], edited: list[NotebookNode], version: str, path: str, root: Path
) -> list[NotebookNode]:
    """The master's cells with what was edited in a version of them. Refuses, in a sentence each, what is not the version's."""
    cells, shown, there = ({cell.id: cell for cell in part} for part in (master, view, edited))
    refused = [
        f"cell {name} was deleted; it is generated: take it out of {path}"
        for name in shown.keys() - there.keys()
        if is_generated(cells.get(name))
    ]
    new: list[NotebookNode] = []  # in the order of the edited notebook
    for cell in edited:
        if cell.id not in cells:
            if cell.id not in shown:
                new.append(added(cell, version))
            elif cell.source != shown[cell.id].source:
                refused.append(f"cell {cell.id} is generated and was changed")
            continue
        try:
            new.append(changed(cells[cell.id], shown[cell.id], cell, version, root))
        except CourseError as error:
            refused.append(f"cell {cell.id} {error}: edit it in {path}")
    if refused:
        raise CourseError("Nothing was carried over.\n" + "\n".join(sorted(refused)))
    return list(with_hidden(master, new, shown.keys(), there.keys()))


def is_generated(cell: NotebookNode | None) -> bool:
    """Whether a version shows something else than the master has there, so that it cannot be edited in the version."""
    return cell is None or bool(nbtool.tags(cell) & {"bootstrap", "exercise"}) or bool(QUIZ.search(cell.source))


def added(cell: NotebookNode, version: str) -> NotebookNode:
    cell = copy.deepcopy(cell)
    cell.metadata = unfolded(cell.metadata)
    if version == "solutions":
        cell.metadata["tags"] = sorted({*nbtool.tags(cell), "solution"})
    return cell


def changed(cell: NotebookNode, shown: NotebookNode, edited: NotebookNode, version: str, root: Path) -> NotebookNode:
    """A master's cell, with what differs between how it is shown and how it was edited."""
    cell, edited = copy.deepcopy(cell), copy.deepcopy(edited)
    if version != "solutions":
        cell.metadata = unfolded(edited.metadata)
    if edited.source == shown.source and edited.cell_type == shown.cell_type:
        return cell
    if QUIZ.search(cell.source) and cell.cell_type == edited.cell_type == "markdown":
        if QUIZ.findall(edited.source) != QUIZ.findall(shown.source):
            raise CourseError("holds the quiz, whose questions are generated from course/questions.yml")
        section = QUIZ.search(cell.source)[0]
        cell.source = QUIZ.sub(lambda _: section, edited.source, count=1)
        return cell
    if "exercise" in nbtool.tags(cell):
        raise CourseError("is an exercise, of which this notebook has one version only")
    if "bootstrap" in nbtool.tags(cell):
        raise CourseError("is the bootstrap cell, which is the same everywhere (course/bootstrap.ipy)")
    edited.source = repository.unnamed(edited.source, cell.source, repository.read(root))
    metadata = cell.metadata
    cell = edited
    cell.metadata = metadata
    return cell


def unfolded(metadata: NotebookNode) -> NotebookNode:
    """Without what JupyterLab notes of an output that is folded: the tag `reveal` says which are."""
    jupyter = {key: value for key, value in metadata.get("jupyter", {}).items() if key != "outputs_hidden"}
    rest = {key: value for key, value in metadata.items() if key not in FOLDED}
    return nbformat.from_dict({**rest, **({"jupyter": jupyter} if jupyter else {})})


def with_hidden(
    master: list[NotebookNode], new: list[NotebookNode], shown: Iterable[str], there: Iterable[str]
) -> Iterator[NotebookNode]:
    """The new cells, and after each the cells that this version does not show, and that stood behind it in the master."""
    hidden: dict[str, list[NotebookNode]] = {"": []}
    behind = ""
    for cell in master:
        if cell.id in shown:
            behind = cell.id if cell.id in there else behind
        else:
            hidden.setdefault(behind, []).append(cell)
    old = {cell.id for cell in master}
    waiting = hidden[""]
    for cell in new:
        if cell.id in old:  # a cell that was put in comes right after the one it was put behind
            yield from waiting
            waiting = hidden.get(cell.id, [])
        yield cell
    yield from waiting


# ---- the command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="masters or notebooks (default: all)")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a notebook is not what its master says")
    parser.add_argument("--from", dest="back", action="store_true", help="carry what was edited in notebooks into their masters")
    parser.add_argument("--edition", choices=EDITIONS, help="write a folder for a class")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="with --edition: a new folder")
    parser.add_argument("--force", action="store_true", help="overwrite notebooks that were edited")
    arguments = parser.parse_args()
    course, bad = Course(), False
    try:
        if arguments.edition:
            if arguments.output is None:
                raise CourseError("--edition needs -o FOLDER.")
            jobs = [partial(course.edition, arguments.edition, arguments.output)]
        elif arguments.back:
            everything = [course.notebook(name, version) for name in course.names() for version in PUBLISHED]
            jobs = [partial(course.carry, path) for path in course.found(arguments.files) or everything]
        else:
            job = course.stale if arguments.check else partial(course.generate, force=arguments.force)
            jobs = [partial(job, name, version) for name in course.named(arguments.files) for version in PUBLISHED]
    except CourseError as error:
        parser.error(str(error))
    for job in jobs:
        try:
            said = job()
            bad |= bool(arguments.check and said)
            print("".join(line + "\n" for line in said), end="", flush=True)
        except (CourseError, OSError, nbformat.ValidationError) as error:
            print(error, file=sys.stderr)
            bad = True
    return bad


if __name__ == "__main__":
    sys.exit(main())
