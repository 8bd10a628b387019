#!/usr/bin/env python3
"""Build the slides: one reveal.js deck for each notebook, from its cells and stored outputs.  python tools/build_slides.py

The notebook decides what is on a slide; nothing is written twice:

- A heading begins a slide, and stays above what follows until the next one. What does not fit goes on under the same title.
- A picture is as large as the slide lets it be; the code that drew it is in the speaker's notes.
- Code is shown without imports and checks, in parts of a screen; what it printed stands below.
- A prediction is a slide of its own, and so is each exercise; a question of the quiz is followed by one with its answer.
- Preflight, cost, references and licenses are for readers, and left out.

Where that is wrong, the cell's metadata `slideshow.slide_type` says so, as for nbconvert: skip, slide (begin one here), notes.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nbformat
from build_site import MATHJAX, MATHJAX_FILES, is_widget
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from npm_packages import Package, unpack
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "slides"  # the style, the script, the frame of a page
GUIDE = ROOT / "docs" / "instructor"  # its page for a notebook becomes the notes of the first slide

REVEAL = Package(
    "reveal.js", "5.2.1", "sha512-r7//6mIM5p34hFiDMvYfXgyjXqGRta+/psd9YtytsgRlrpRzFv4RbH76TXd2qD+7ZPZEbpBDhdRhJaFgfQ7zNQ=="
)
REVEAL_FILES = ("dist/reveal.js", "dist/reveal.css", "plugin/notes/notes.js", "LICENSE")

WIDTH, HEIGHT = 1160, 560  # pixels of a slide of 1280 x 720 that are free below its title
LINE, SMALL_LINE = 38, 26  # height of a line of text; of code, output and tables
CODE_LINES = 19
FOR_READERS = {"Is this machine ready?", "Where to find it", "References", "Licenses"}


@dataclass
class Block:
    """A piece of a slide: what it is, how high it will be (estimated, in pixels), and what is said to it."""

    html: str
    height: float
    notes: str = ""
    alone: bool = False  # on a slide of its own
    kind: str = ""  # a class of its slide
    picture: tuple[int, int] | None = None  # its size: it takes what room is left


@dataclass
class Slide:
    title: str  # HTML
    above: str = ""  # the title of the section that it belongs to, if it has one of its own
    blocks: list[Block] = field(default_factory=list)

    @property
    def room(self) -> float:
        return HEIGHT - sum(block.height for block in self.blocks)


# ---- Markdown


def renderer() -> MarkdownIt:
    """Markdown with formulas between dollars, which MathJax draws; links that need the repository are plain text."""

    def formula(text: str, options: dict) -> str:
        left, right = (r"\[", r"\]") if options["display_mode"] else (r"\(", r"\)")
        return f"{left}{html.escape(text)}{right}"

    def link_open(self, tokens, index, options, env):
        target = tokens[index].attrs["href"]
        env.setdefault("links", []).append(target.startswith("http"))
        return f'<a href="{html.escape(target)}">' if env["links"][-1] else "<span>"

    def link_close(self, tokens, index, options, env):
        return "</a>" if env["links"].pop() else "</span>"

    markdown = MarkdownIt("commonmark", {"html": True}).enable("table").use(dollarmath_plugin, renderer=formula)
    markdown.add_render_rule("link_open", link_open)
    markdown.add_render_rule("link_close", link_close)
    return markdown


MARKDOWN = renderer()


def groups(tokens: list[Token]) -> Iterator[list[Token]]:
    """The tokens of each block at the top level: a paragraph, a list, a table, ..."""
    depth, group = 0, []
    for token in tokens:
        group.append(token)
        depth += token.nesting
        if depth == 0:
            yield group
            group = []


def render(tokens: list[Token]) -> str:
    return MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})


def inline(text: str) -> str:
    return MARKDOWN.renderInline(text)


def plain(text: str) -> str:
    """About as long as the text will be on the slide: a formula without its commands, a link without its address."""
    text = re.sub(r"\]\([^)]*\)|[*`{}$\[\]]", "", text)
    return re.sub(r"\\[a-zA-Z]+ ?|\\.", "x", text)


def lines_of(text: str, characters: float = 86) -> int:
    return max(1, math.ceil(len(plain(text)) / characters))


# ---- from cells to blocks


def text_blocks(source: str, pictures: Pictures) -> Iterator[Block | tuple[str, str]]:
    """What a Markdown cell shows: blocks, and ("h2", title) where a heading begins a slide."""
    source = re.sub(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", folded, source, flags=re.DOTALL)
    question = None
    for group in groups(MARKDOWN.parse(source)):
        first, words = group[0], "".join(token.content for token in group if token.type == "inline")
        answers = first.type in LISTS and question
        question = question if answers or first.type == "html_block" else None
        if answers:  # what to choose from belongs to the question, which has a slide of its own
            for block in list_blocks(group):
                question.html += block.html
                question.height += block.height
        elif first.type == "heading_open":
            yield first.tag, words
        elif first.type == "html_block":
            yield from unfolded(first.content, question, pictures)
        elif image := lone_image(group):
            yield pictures.from_file(image.attrs["src"], image.content)
        elif first.type == "table_open":
            yield from table_blocks(group)
        elif first.type == "fence":
            yield from code_blocks(first.content, "")
        elif first.type == "math_block":
            yield formula_block(group)
        elif first.type in LISTS:
            yield from list_blocks(group)
        elif first.type == "paragraph_open":
            # a prediction that ends a paragraph is asked on a slide of its own, too
            for part in re.split(r"(?<=[.?!:)]) (?=\*\*Predict)", words):
                block = paragraph_block(part)
                question = block if block.kind == "predict" else None
                yield block
        else:
            yield Block(render(group), height_of(words))


LISTS = ("bullet_list_open", "ordered_list_open")


def folded(match: re.Match) -> str:
    """A folded part, as a comment that goes through the Markdown parser in one piece."""
    name = "Hint" if match[1].strip().lower().startswith("hint") else "Answer"
    return f"\n\n<!--{name}: {base64.b64encode(match[2].strip().encode()).decode()}-->\n\n"


def unfolded(comment: str, question: Block | None, pictures: Pictures) -> Iterator[Block | tuple[str, str]]:
    """A hint is for the notes. An answer is a slide of its own, below its question if both fit; a derivation takes several."""
    if not (match := re.fullmatch(r"<!--(Hint|Answer): (\S+)-->\s*", comment)):
        return
    said = base64.b64decode(match[2]).decode()
    if match[1] == "Hint":
        yield Block("", 0, notes=MARKDOWN.render(f"**Hint.** {said}"))
        return
    if "$$" in said and not question:
        yield from text_blocks(said, pictures)
        return
    height = LINE * sum(lines_of(line, 100) for line in said.split("\n") if line.strip()) + 40
    asked = ""
    if question and height + 0.7 * question.height <= HEIGHT:
        asked, height = f'<div class="asked">{question.html}</div>', height + 0.7 * question.height
    yield Block(asked + MARKDOWN.render(said), height, alone=True, kind="answer")


def paragraph_block(text: str) -> Block:
    kinds = {r"\*\*Predict": "predict", r"\*\*\d+\. ": "predict", r"\*\*\d+ · ": "exercise"}  # the second: the quiz
    kind = next((kind for start, kind in kinds.items() if re.match(start, text)), "")
    return Block(MARKDOWN.render(text), height_of(text), alone=bool(kind), kind=kind)


def height_of(text: str) -> float:
    return LINE * lines_of(text) + 18 + 14 * len(re.findall(r"\\[dt]?frac", text))


def lone_image(group: list[Token]) -> Token | None:
    children = [token for part in group for token in part.children or [] if token.content.strip() or token.type == "image"]
    return children[0] if len(children) == 1 and children[0].type == "image" else None


def formula_block(group: list[Token]) -> Block:
    """A formula; a wide one of several statements has them below each other, another is smaller."""
    text = group[0].content
    if width_of(text) > 70 and r"\qquad" in text and r"\begin" not in text:
        statements = re.split(r",?\s*\\qquad\s*", text)
        text = group[0].content = r"\begin{gathered}" + r"\\[0.6em] ".join(statements) + r"\end{gathered}"
    rows = text.count(r"\\") + 1
    width = max(map(width_of, text.split(r"\\")))
    size = "" if width < 80 else " small" if width < 105 else " smaller"
    return Block(f'<div class="formula{size}">{render(group)}</div>', 40 + 72 * rows)


def width_of(formula: str) -> int:
    """About the width of a formula in characters: marks above a letter and commands that only set type have none."""
    return len(
        plain(re.sub(r"\\(?:tilde|bar|hat|mathcal|mathbb|mathrm|sqrt|[dt]?frac|[bB]igg?|left|right|begin|end|,)", "", formula))
    )


def list_blocks(group: list[Token]) -> Iterator[Block]:
    """A list, in parts that fit on a slide."""
    items, depth = [], 0
    for token in group[1:-1]:
        if depth == 0:
            items.append([])
        items[-1].append(token)
        depth += token.nesting
    start, tag = int(group[0].attrs.get("start", 1)), group[0].tag
    heights = [LINE * sum(lines_of(t.content, 82) for t in item if t.type == "inline") + 10 for item in items]
    for chosen in fitting(heights, HEIGHT - 60):
        inner = "".join(render(items[i]) for i in chosen)
        opening = f'<{tag} start="{start + chosen[0]}">' if tag == "ol" else f"<{tag}>"
        yield Block(f"{opening}{inner}</{tag}>", sum(heights[i] for i in chosen) + 18)


def table_blocks(group: list[Token]) -> Iterator[Block]:
    """A table, in parts of whole rows, each with the head."""
    bodies = [i for i, token in enumerate(group) if token.type == "tbody_open"]
    split = bodies[0] if bodies else len(group) - 1
    rows: list[list[Token]] = [[]]
    for token in group[split + 1 : -2]:
        rows[-1].append(token)
        if token.type == "tr_close":
            rows.append([])
    cells = [[token.content for token in row if token.type == "inline"] for row in rows[:-1]]
    widths = [max(min(60, len(plain(text))) for text in column) + 6 for column in zip(*cells)]
    share = [105 * width / max(sum(widths), 105) for width in widths]
    heights = [SMALL_LINE * max(map(lines_of, row, share)) + 17 for row in cells]
    head = render(group[1:split])
    for chosen in fitting(heights, HEIGHT - 90):
        inner = "".join(render(rows[i]) for i in chosen)
        yield Block(f"<table>{head}<tbody>{inner}</tbody></table>", sum(heights[i] for i in chosen) + 80)


def fitting(heights: list[float], room: float) -> Iterator[list[int]]:
    """Consecutive indices whose heights add up to at most `room`."""
    chosen: list[int] = []
    for i, height in enumerate(heights):
        if chosen and sum(heights[j] for j in chosen) + height > room:
            yield chosen
            chosen = []
        chosen.append(i)
    if chosen:
        yield chosen


def code_of_slide(source: str) -> str:
    """Code without what the room need not read: imports, checks, blank lines at the ends."""
    kept, skipping = [], False
    for line in source.split("\n"):
        if skipping:  # the rest of an import or a check that goes over several lines
            skipping = not re.match(r"^[)\]}]", line)
            continue
        if re.match(r"(from|import|assert) ", line):
            skipping = bool(re.search(r"[(\[{]\s*(#.*)?$", line))
            continue
        kept.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")


def code_blocks(code: str, printed: str) -> Iterator[Block]:
    """Code in parts of a screen, cut at blank lines where there are some; below the last, what it printed."""
    parts = list(screens(code.split("\n"))) if code.strip() else []
    for part in parts:
        yield Block(highlighted("\n".join(part)), SMALL_LINE * len(part) + 50)
    if printed.strip():
        lines = printed.rstrip("\n").split("\n")
        shown = lines if len(lines) <= 12 else [*lines[:11], f"... {len(lines) - 11} lines more"]
        rows = sum(lines_of(line, 130) for line in shown)
        yield Block(f'<pre class="printed{size_of(shown)}">{html.escape(chr(10).join(shown))}</pre>', SMALL_LINE * rows + 34)


def screens(lines: list[str]) -> Iterator[list[str]]:
    while len(lines) > CODE_LINES:
        cuts = [i for i in range(4, CODE_LINES + 1) if not lines[i].strip()]
        outer = [i for i in cuts if i + 1 < len(lines) and not lines[i + 1].startswith(" ")]
        # before a comment of the same block, else before any line that begins a statement
        softer = [i for i in range(8, CODE_LINES + 1) if re.match(r"\s*#", lines[i])] or [
            i for i in range(8, CODE_LINES + 1) if not re.match(r"\s*[)\]}]|\s{9,}", lines[i])
        ]
        cut = (outer or cuts or softer or [CODE_LINES])[-1]
        yield lines[:cut]
        lines = lines[cut:]
        while lines and not lines[0].strip():
            lines = lines[1:]
    if any(line.strip() for line in lines):
        yield lines


def size_of(lines: list[str]) -> str:
    longest = max(map(len, lines))
    return "" if longest <= 88 else " small" if longest <= 108 else " smaller"


def highlighted(code: str) -> str:
    inner = highlight(textwrap.dedent(code) if code.startswith(" ") else code, PythonLexer(), HtmlFormatter(nowrap=True))
    return f'<pre class="code{size_of(code.split(chr(10)))}"><code>{inner}</code></pre>'


class Pictures:
    """The pictures of one deck: written beside it, shown as large as the slide allows."""

    def __init__(self, notebook: Path, folder: Path):
        self.notebook, self.folder, self.count = notebook, folder, 0

    def from_output(self, output: NotebookNode, code: str) -> Block:
        data = base64.b64decode(output.data["image/png"])
        notes = f"<pre>{html.escape(code)}</pre>" if code else ""
        return self.block(data, ".png", output.metadata["image/png"]["alt"], notes)

    def from_file(self, source: str, alt: str) -> Block:
        path = (self.notebook.parent / source).resolve()
        return self.block(path.read_bytes(), path.suffix, alt, "")

    def block(self, data: bytes, suffix: str, alt: str, notes: str) -> Block:
        self.count += 1
        place = self.folder / "pictures" / f"{self.notebook.stem}_{self.count:02d}{suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        size = Image.open(io.BytesIO(data)).size
        shown = f'<img src="pictures/{place.name}" alt="{html.escape(alt)}">'
        return Block(shown, min(420.0, size[1]), notes=notes, picture=size)


def cell_blocks(cell: NotebookNode, pictures: Pictures) -> Iterator[Block | tuple[str, str]]:
    tags, kind = set(cell.metadata.get("tags", [])), cell.metadata.get("slideshow", {}).get("slide_type")
    if kind == "skip" or tags & {"bootstrap", "cost-card", "exercise"}:
        return
    if kind == "notes":
        yield Block("", 0, notes=MARKDOWN.render(cell.source))
    elif cell.cell_type == "markdown":
        yield from text_blocks(cell.source, pictures)
    elif cell.cell_type == "code":
        drawn = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        code = code_of_slide(cell.source)
        defines = re.search(r"^(class|def) ", code, re.MULTILINE)
        if drawn and (not defines or any(map(is_widget, drawn))):
            yield from (pictures.from_output(output, cell.source) for output in drawn)
            yield from code_blocks("", printed)
        else:
            if drawn:  # a definition, and what it draws
                code = code[: re.search(r"^show\(", code, re.MULTILINE).start()] if "\nshow(" in code else code
            yield from code_blocks(code.rstrip("\n"), printed)
            yield from (pictures.from_output(output, "") for output in drawn)


# ---- from blocks to slides


def slides_of(notebook: NotebookNode, pictures: Pictures) -> list[Slide]:
    """The deck: the first slide is the title's."""
    slides: list[Slide] = []
    section, skipping = "", False
    for cell in notebook.cells:
        if cell.metadata.get("slideshow", {}).get("slide_type") == "slide" and slides and slides[-1].blocks:
            slides.append(Slide(slides[-1].title, slides[-1].above))
        for piece in cell_blocks(cell, pictures):
            if isinstance(piece, tuple):
                level, title = piece
                if level in ("h1", "h2"):
                    section, skipping = title, title in FOR_READERS
                if not skipping:
                    slides.append(Slide(inline(title), inline(section) if level == "h3" else ""))
            elif slides and skipping and piece.picture:  # the map of the machine, below the preflight
                slides.append(Slide(slides[0].title))
                add(slides, piece)
            elif slides and not skipping:  # what is above the title, badges, is for readers
                add(slides, piece)
    return [slide for slide in slides if slide is slides[0] or any(block.html for block in slide.blocks)]


def add(slides: list[Slide], block: Block) -> None:
    """Put a block onto the last slide, or onto a further one of the same title if it does not fit, or should stand alone."""
    last = slides[-1]
    shown = [b for b in last.blocks if b.html]
    if not block.html:
        last.blocks.append(block)
        return
    if shown and shown[-1].picture and not block.alone and block.height <= 4 * LINE and block.height > last.room:
        picture = shown[-1]
        room = picture.height - (block.height - last.room)
        if room >= max(260, 0.65 * picture.height):  # a smaller picture, and the sentence about it
            fit_picture(picture, room)
    titled = last is slides[0] and shown  # a title, and the promise below it
    taken = titled or shown and (block.alone or any(b.alone for b in shown) or block.height > last.room + 1)
    if block.picture and shown and (last.room < min(330, block.picture[1]) or any(b.picture for b in shown)):
        taken = True
    if taken:
        slides.append(Slide(last.title, last.above))
        last = slides[-1]
    last.blocks.append(block)
    if block.picture:
        fit_picture(block, last.room + block.height)


def fit_picture(block: Block, room: float) -> None:
    """As large as the room allows, at most 1.9 times its own size: it would blur."""
    width, height = block.picture
    scale = min(WIDTH / width, (room - 14) / height, 1.9)
    size = f' width="{round(width * scale)}" height="{round(height * scale)}">'
    block.html, block.height = re.sub(r'( width="\d+" height="\d+")?>$', size, block.html), height * scale + 14


# ---- pages


def section(slide: Slide, first: bool) -> str:
    kinds = " ".join(sorted({block.kind for block in slide.blocks if block.kind} | ({"title"} if first else set())))
    notes = "".join(block.notes for block in slide.blocks)
    above = f'<p class="above">{slide.above}</p>' if slide.above else ""
    body = "\n".join(block.html for block in slide.blocks if block.html)
    speaker = f'\n<aside class="notes">{notes}</aside>' if notes else ""
    return f'<section class="{kinds}">\n{above}<h2>{slide.title}</h2>\n{body}{speaker}\n</section>'


def guide_for(stem: str) -> str:
    """The instructor guide's page for this notebook, as notes; "" where there is none."""
    found = sorted(GUIDE.glob(f"{stem.partition('_')[0]}*.md"))
    if not found:
        return ""
    text = re.sub(
        r"^# [^\n]*\n|<!-- begin:.*?<!-- end -->", "", found[0].read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return MARKDOWN.render(re.sub(r"^##+ (.*)$", r"**\1**", text, flags=re.MULTILINE))


def fill(name: str, **values: str) -> str:
    page = (PAGES / name).read_text(encoding="utf-8")
    for key, value in values.items():
        page = page.replace(f"<!-- {key} -->", value)
    return page


def build(out: Path, notebooks: list[Path] | None = None) -> dict[str, int]:
    """Write the decks into `out`, anew. Returns the number of slides of each."""
    shutil.rmtree(out, ignore_errors=True)
    assets = out / "assets"
    assets.mkdir(parents=True)
    unpack(REVEAL, REVEAL_FILES, assets / "reveal")
    unpack(MATHJAX, MATHJAX_FILES, assets / "mathjax")
    for name in ("slides.css", "slides.js"):
        shutil.copy(PAGES / name, assets)
    styles = partial(HtmlFormatter, nobackground=True)
    light = styles(style="a11y-high-contrast-light").get_style_defs("pre.code")
    dark = styles(style="a11y-high-contrast-dark").get_style_defs("pre.code")
    (assets / "code.css").write_text(f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n", encoding="utf-8")
    counts, rows = {}, []
    for path in notebooks or sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, 4)
        slides = slides_of(notebook, Pictures(path, out))
        slides[0].blocks.append(Block("", 0, notes=guide_for(path.stem)))
        title = re.sub("<[^>]*>", "", slides[0].title)
        sections = "\n".join(section(slide, slide is slides[0]) for slide in slides)
        (out / f"{path.stem}.html").write_text(fill("deck.html", title=title, slides=sections), encoding="utf-8")
        counts[path.stem] = len(slides)
        rows.append(f'<li><a href="{path.stem}.html">{title}</a> <span>{len(slides)} slides</span></li>')
    (out / "index.html").write_text(fill("index.html", decks="\n".join(rows)), encoding="utf-8")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of the course")
    parser.add_argument("--out", type=Path, default=ROOT / "slides", help="the folder to write, anew (default: slides)")
    arguments = parser.parse_args()
    counts = build(arguments.out, arguments.notebooks)
    print(f"{len(counts)} decks, {sum(counts.values())} slides, in {arguments.out}: open index.html there. S shows the notes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
