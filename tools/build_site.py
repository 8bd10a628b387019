#!/usr/bin/env python3
"""Build the reading site: every notebook as it is stored, the documents, the package's docstrings.  python tools/build_site.py

The pages are gathered in build/site-source, laid out as the repository is, so that links between them hold as they are. Links to
code lead to the API's pages; to what has no page, to the repository if its address is given, else nowhere. Sphinx does the rest.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from npm_packages import Package, unpack

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "site"  # the landing page, and Sphinx' settings
SOURCE = ROOT / "build" / "site-source"

MATHJAX = Package(
    "mathjax", "3.2.2", "sha512-Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw=="
)
MATHJAX_FILES = ("es5/tex-chtml.js", "es5/input/tex/extensions/", "es5/output/chtml/fonts/", "LICENSE")

FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[((?:[^\[\]`]|`[^`\n]*`)+)\]\(\s*([^)\s]+)\s*\)")
PLACEHOLDER = "ORG/REPO"  # the repository's name, until it has one
WIDGET_NOTE = (
    "*A picture of a widget. In JupyterLab or Colab it has controls: [get this notebook]({notebook}) and run it to move them.*"
)


SLIDES = 'To teach or to repeat: <a href="slides/index.html">a deck of slides for each lesson</a>.'
LIVE = '**<a href="live/index.html">Try it live</a>**: the same model runs in this browser tab. It is about 57 MB, once.'


# ---- where links lead


class Links:
    """From a link in a file of the repository to one in the site. repository: an address such as https://.../blob/main, or ""."""

    def __init__(self, repository: str = ""):
        self.repository = repository.rstrip("/")

    def rewrite(self, text: str, page: str) -> str:
        """The Markdown of `page` (its path in the repository) with its links led to the site's pages. Code stays as it is."""
        parts, end = [], 0
        for fence in FENCE.finditer(text):
            parts += [self._prose(text[end : fence.start()], page), fence[0]]
            end = fence.end()
        return "".join([*parts, self._prose(text[end:], page)])

    def _prose(self, text: str, page: str) -> str:
        return LINK.sub(lambda match: self._link(match[1], match[2], page), text)

    def _link(self, text: str, target: str, page: str) -> str:
        if re.match(r"[a-z]+:|#", target):
            return f"[{text}]({target})"
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if path in ("README.md", "LICENSE"):
            place = "license.md" if path == "LICENSE" else "api/index.md" if anchor == "the-package" else "index.md"
            return f"[{text}]({posixpath.relpath(place, posixpath.dirname(page) or '.')})"
        if module := module_of(path):
            return f"{{py:mod}}`{text.replace('`', '')} <{module}>`"
        if path.endswith((".md", ".ipynb")) and (SOURCE / path).exists():
            return f"[{text}]({target})"
        if self.repository:
            return f"[{text}]({self.repository}/{path}{'#' + anchor if anchor else ''})"
        return text if "`" in text else f"`{text}`"


def module_of(path: str) -> str | None:
    """The module in a file or folder of the package: "ldm_tutorial/vae.py" -> "ldm_tutorial.vae"."""
    place = ROOT / path
    if path.split("/")[0] != "ldm_tutorial":
        return None
    if place.is_dir():
        while not (place / "__init__.py").exists():  # a folder of data belongs to the module that it lies in
            place = place.parent
    elif place.suffix != ".py":
        return None
    return ".".join(place.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# ---- the pages


def gather(links: Links, slides: bool, live: bool) -> None:
    """Write every page that Sphinx reads into SOURCE."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(PAGES, SOURCE)
    shutil.copytree(ROOT / "images", SOURCE / "images")
    documents = [
        path
        for path in [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "ldm_tutorial" / "data").rglob("*.md")]
        if PAGES not in path.parents
    ]
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    solutions = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
    for path in [*documents, *notebooks, *solutions]:  # all exist before links are followed
        place = SOURCE / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    for path in (path for pattern in ("*.png", "*.webp") for path in (ROOT / "docs").rglob(pattern)):
        place = SOURCE / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    for path in documents:
        page = path.relative_to(ROOT).as_posix()
        text = links.rewrite(path.read_text(encoding="utf-8"), page)
        if page == "docs/instructor/README.md":
            text += "\n```{toctree}\n:hidden:\n:glob:\n\n*\nproject/*\n```\n"
        in_menu = page.startswith("docs/") or "/" not in page
        (SOURCE / page).write_text(text if in_menu else f"---\norphan: true\n---\n\n{text}", encoding="utf-8")
    for path in [*notebooks, *solutions]:
        page = path.relative_to(ROOT).as_posix()
        notebook = nbformat.read(path, 4)
        nbformat.write(reading_version(notebook, page, links, slides), SOURCE / page)
        original = SOURCE / "files" / path.relative_to(ROOT)
        original.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, original)
    license_text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    (SOURCE / "license.md").write_text(f"# License\n\n```text\n{license_text}```\n", encoding="utf-8")
    index = (SOURCE / "index.md").read_text(encoding="utf-8")
    marks = {"notebooks": table_of("notebooks"), "paths": reading_paths(), "live": LIVE if live else ""}
    marks["slides"] = SLIDES if slides else ""
    marks["others"] = "\n".join(
        name for path in sorted((ROOT / "docs").glob("*.md")) if (name := f"docs/{path.stem}") not in index
    )
    for mark, text in marks.items():
        index = index.replace(f"<!-- {mark} -->", text)
    (SOURCE / "index.md").write_text(index, encoding="utf-8")
    write_solutions_page([path.stem for path in solutions])
    write_api(links)
    unpack(MATHJAX, MATHJAX_FILES, SOURCE / "_static" / "mathjax")


def reading_version(notebook: NotebookNode, page: str, links: Links, slides: bool = False) -> NotebookNode:
    """A notebook for reading: the line of badges becomes one of links, a widget's picture is said to be one."""
    name, solved = Path(page).stem, "/solutions/" in page
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if re.search(r"^# ", cell.source, re.MULTILINE) and not cells:
                cell.source = heading_first(cell.source, page, slides)
            cell.source = links.rewrite(cell.source, page)
        elif PLACEHOLDER in cell.source:  # it installs from a repository that has no name yet
            cell.source = "\n\n".join(part for part in cell.source.split("\n\n")[1:] if PLACEHOLDER not in part)
        cells.append(cell)
        if cell.cell_type == "code" and not solved and any(map(is_widget, cell.outputs)):
            note = WIDGET_NOTE.format(notebook="#get-the-notebook")
            cells.append(nbformat.v4.new_markdown_cell(note.replace("[get this notebook](#get-the-notebook)", download(name))))
    notebook.cells = cells
    return notebook


def is_widget(output: NotebookNode) -> bool:
    """`show` displays a picture; a widget is a cell's result, and the picture is what it shows where it cannot live."""
    return output.output_type == "execute_result" and "image/png" in output.data


def download(name: str) -> str:
    return f"{{download}}`get this notebook </files/notebooks/{name}.ipynb>`"


def heading_first(source: str, page: str, slides: bool) -> str:
    """The first cell of a notebook without what stands above its title, and with links below the title."""
    name, solved = Path(page).stem, "/solutions/" in page
    title, _, rest = source[re.search(r"^# ", source, re.MULTILINE).start() :].partition("\n")
    other = f"[exercises](../{name}.ipynb)" if solved else f"[solutions](solutions/{name}.ipynb)"
    file = "solutions/" * solved + name
    more = [f'<a href="../slides/{name}.html">slides</a>'] if slides and not solved else []
    return "\n".join([title, "", " · ".join([other, *more, download(file).replace("get this", "the")]), "", rest])


def reading_paths() -> str:
    """README's table of paths, one card a row."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.search(r"<!-- begin: reading-paths -->\s+(.*?)\s+<!-- end -->", text, re.DOTALL)[1].splitlines()[2:]
    cards, number = [], {path.name.partition("_")[0]: path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    for row in rows:
        time, read, hours = (part.strip() for part in row.strip("|").split("|"))
        read = re.sub(
            r"\b(\d\d[a-z]?)\b", lambda m: f"[{m[1]}](notebooks/{number[m[1]]}.ipynb)" if m[1] in number else m[1], read
        )
        said = f"Read {read}. {hours} hours, with the first two exercises."
        cards.append(f"::::{{container}} path\n\n### {time[0].upper() + time[1:]}\n\n{said}\n\n::::\n")
    return "\n".join(cards)


def table_of(folder: str) -> str:
    """The rows of README's table of notebooks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"\| no\. \|.*?(?=\n\n)", text, re.DOTALL)[0]
    return table.replace("(notebooks/", f"({folder}/")


def write_solutions_page(names: list[str]) -> None:
    lines = ["# Solutions", "", "Every notebook with its exercises solved. Try first: the check names your mistake.", ""]
    lines += ["```{toctree}", ":maxdepth: 1", "", *names, "```", ""]
    (SOURCE / "notebooks" / "solutions" / "index.md").write_text("\n".join(lines), encoding="utf-8")


# ---- the API


def rooms() -> list[tuple[str, list[str], str]]:
    """README's floor plan: of each row its title, its modules, and what they are. One page each, in this order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"\| place \| what \|\n\|[-|]+\|\n(.*?)\n\n", text, re.DOTALL)[1]
    found = []
    for row in table.splitlines():
        places, what = (part.strip() for part in row.strip("|").split("|", 1))
        names = re.findall(r"\]\((ldm_tutorial/[^)]+)\)", places)
        title = ", ".join(re.findall(r"\[([^\]]+)\]", places))
        found.append((title, [module for name in names for module in modules_in(ROOT / name)], what))
    return found


def modules_in(place: Path) -> list[str]:
    """The modules of a room, its own docstring first."""
    files = [place] if place.is_file() else [place / "__init__.py", *sorted(place.glob("[!_]*.py"))]
    return [module_of(file.relative_to(ROOT).as_posix()) for file in files if file.exists()]


def write_api(links: Links) -> None:
    folder = SOURCE / "api"
    folder.mkdir()
    names = []
    for title, modules, what in rooms():
        name = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_").replace("_py", "")
        names.append(name)
        what = links.rewrite(what, "README.md").replace("](docs/", "](../docs/")  # README's links, from a page in api/
        lines = [f"# {title}", "", what[0].upper() + what[1:] + ".", ""]
        for module in modules:
            if len(modules) > 1:
                lines += [f"## {module.removeprefix('ldm_tutorial.')}", ""]
            lines += ["```{eval-rst}", f".. automodule:: {module}", "```", ""]
        (folder / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")
    index = (PAGES / "api" / "index.md").read_text(encoding="utf-8") if (PAGES / "api" / "index.md").exists() else API
    (folder / "index.md").write_text(index.replace("<!-- rooms -->", "\n".join(names)), encoding="utf-8")


API = """# The package

The pages are in the order of the course: read the first ones first. `[source]` shows the code itself.

```{eval-rst}
.. automodule:: ldm_tutorial
```

```{toctree}
:maxdepth: 1

<!-- rooms -->
```
"""


# ---- the whole


PARTS = {"slides": ROOT / "slides", "live": ROOT / "web" / "dist"}  # built by themselves; in the site if they are there


def build(out: Path, links: Links, strict: bool = True, parts: Iterable[str] = tuple(PARTS)) -> int:
    """Gather the pages and let Sphinx make them. Returns its exit code; with `strict` a warning is an error."""
    from sphinx.cmd.build import build_main

    parts = [name for name in parts if (PARTS[name] / "index.html").exists()]
    gather(links, slides="slides" in parts, live="live" in parts)
    made = ROOT / "build" / "site"
    shutil.rmtree(made, ignore_errors=True)
    options = ["-b", "html", "-q", "-d", str(ROOT / "build" / "site-doctrees"), "-j", "auto"]
    options += ["-W", "--keep-going"] if strict else []
    failed = build_main([*options, str(SOURCE), str(made)])
    if failed:
        return failed
    for name in parts:
        shutil.copytree(PARTS[name], made / name)
    (made / ".nojekyll").touch()  # GitHub Pages leaves out folders that begin with _ otherwise
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(made, out)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="the folder to write, anew (default: site)")
    parser.add_argument("--repository", default="", help="where files without a page are, such as https://.../blob/main")
    parser.add_argument("--lax", action="store_true", help="go on where Sphinx warns")
    arguments = parser.parse_args()
    failed = build(arguments.out.resolve(), Links(arguments.repository), not arguments.lax)
    if not failed:
        print(f"Built in {arguments.out}: open index.html there, or serve the folder: python3 -m http.server -d {arguments.out}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
