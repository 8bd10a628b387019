"""The slides: the rules that make them of a notebook, and every slide of every deck in Chromium."""

import base64
import io
import re
from pathlib import Path

import build_slides
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from .pages import broken_links, read_pages

ROOT = Path(__file__).resolve().parent.parent.parent
LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
CHECKED = [LESSONS[i] for i in (0, 4, 8)]
pytestmark = pytest.mark.timeout(1800)

# 20 pixels below the last line are its margin: nothing of it is cut off. Which slides reach them depends on the machine's fonts.
OVERFLOWING = """() => {
    const wide = [], margin = 20;
    for (const [i, slide] of [...document.querySelectorAll(".slides > section")].entries()) {
        slide.hidden = false;
        slide.style.setProperty("display", "block", "important");
        const down = slide.scrollHeight - slide.clientHeight, right = slide.scrollWidth - slide.clientWidth;
        if (slide.offsetHeight !== 720 || slide.offsetWidth !== 1280 || down > margin || right > 0) {
            wide.push(`slide ${i + 1}, ${slide.querySelector("h2").innerText}: ${down} down, ${right} to the right`);
        }
    }
    return wide;
}"""


@pytest.fixture(scope="module")
def slides(from_npm, tmp_path_factory):
    """The folder of all decks."""
    pytest.importorskip("mdit_py_plugins", reason="NOTICE: myst-nb is not installed, so the slides were not tested")
    for package in (build_slides.REVEAL, build_slides.MATHJAX):
        from_npm(package)
    out = tmp_path_factory.mktemp("decks") / "slides"
    build_slides.build(out)
    return out


@pytest.fixture(scope="module")
def url(slides, serve):
    return serve(slides)


@pytest.fixture
def open_deck(url, open_page):
    def open_(name, **options):
        page = open_page(f"{url}{name}.html", viewport={"width": 1280, "height": 720}, **options)
        page.wait_for_function("document.documentElement.dataset.ready")
        return page

    return open_


# ---- the rules


def deck(tmp_path, *cells):
    """The titles and the HTML of the slides that these cells make."""
    notebook = new_notebook(cells=list(cells))
    made = build_slides.slides_of(notebook, build_slides.Pictures(tmp_path / "00_test.ipynb", tmp_path))
    return [(slide.title, "".join(block.html for block in slide.blocks)) for slide in made]


def picture(width, height, alt):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    data = {"image/png": base64.b64encode(file.getvalue()).decode()}
    return new_output("display_data", data, metadata={"image/png": {"alt": alt}})


def test_a_heading_begins_a_slide_and_what_does_not_fit_goes_on_under_the_same_title(tmp_path):
    made = deck(tmp_path, new_markdown_cell("# T\n\nPromise.\n\n## One\n\n" + "word word word. \n\n" * 40 + "## Two\n\nEnd."))
    titles = [title for title, _ in made]
    assert titles[0] == "T" and titles[-1] == "Two"
    assert titles.count("One") >= 3
    assert sum(html.count("word word word") for _, html in made) == 40


def test_a_prediction_stands_alone_and_a_quiz_shows_its_answer_on_the_next_slide(tmp_path):
    quiz = "**1. Which?**\n\n- A) this\n- B) that\n\n<details><summary>Answer</summary>\n\n**B**, since $x<y$\n\n</details>"
    made = deck(tmp_path, new_markdown_cell(f"# T\n\n## Q\n\nBefore. **Predict first:** how many?\n\nAfter.\n\n{quiz}"))
    bodies = [html for title, html in made if title == "Q"]
    assert len(bodies) == 5
    assert "Before" in bodies[0] and "Predict" not in bodies[0]
    assert "how many" in bodies[1] and "After" not in bodies[1]
    assert "this" in bodies[3] and "since" not in bodies[3]
    assert "Which?" in bodies[4] and "since" in bodies[4] and r"\(x&lt;y\)" in bodies[4]


def test_code_is_shown_without_imports_and_checks(tmp_path):
    code = "from a import (\n    b,\n)\nimport c\n\nx = 1\nassert x == (\n    1\n)\nassert x\ny = 2"
    [_, (_, html)] = deck(tmp_path, new_markdown_cell("# T"), new_markdown_cell("## C"), new_code_cell(code))
    assert re.sub("<[^>]+>", "", html).strip() == "x = 1\ny = 2"


def test_a_picture_says_what_it_shows_and_is_as_large_as_the_slide_allows(tmp_path):
    cell = new_code_cell("show(1)", outputs=[picture(400, 200, 'a "wide" one'), picture(100, 1000, "a tall one")])
    [_, (_, wide), (_, tall)] = deck(tmp_path, new_markdown_cell("# T"), new_markdown_cell("## P"), cell)
    assert 'alt="a &quot;wide&quot; one"' in wide and 'width="760" height="380"' in wide
    assert int(re.search(r'height="(\d+)"', tall)[1]) <= build_slides.HEIGHT
    assert "show(1)" not in wide


def test_what_is_for_readers_is_left_out_and_metadata_overrules(tmp_path):
    left_out = new_markdown_cell("never shown", metadata={"slideshow": {"slide_type": "skip"}})
    begun = new_markdown_cell("shown apart", metadata={"slideshow": {"slide_type": "slide"}})
    made = deck(
        tmp_path, new_markdown_cell("# T\n\n## A\n\ntext"), left_out, begun, new_markdown_cell("## References\n\n- a paper")
    )
    assert [title for title, _ in made] == ["T", "A", "A"]
    assert not any("never" in html or "paper" in html for _, html in made)


# ---- all decks


def test_there_is_a_deck_for_each_notebook_with_all_its_pictures(slides):
    pages = read_pages(slides)
    assert set(pages) == {"index.html", *(f"{name}.html" for name in LESSONS)}
    assert broken_links(pages, slides) == []
    for name in LESSONS:
        outputs = [o for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells for o in cell.get("outputs", [])]
        stored = [o.metadata["image/png"]["alt"] for o in outputs if "image/png" in o.get("data", {})]
        page = pages[f"{name}.html"]
        assert all((alt or "").strip() for alt in page.pictures), name
        assert set(stored) <= set(page.pictures), name
        assert page.headings[0] == 1 and set(page.headings[1:]) == {2}
        assert "ORG/REPO" not in page.text


@pytest.mark.browser
@pytest.mark.parametrize("name", LESSONS)
def test_no_slide_overflows_and_every_formula_is_drawn(open_deck, name):
    page = open_deck(name)
    assert page.evaluate(OVERFLOWING) == []
    assert page.locator("mjx-merror").count() == 0
    assert page.outside == [] and page.complaints == []


@pytest.mark.browser
def test_the_keyboard_alone_goes_through_a_deck(open_deck):
    page = open_deck(LESSONS[8])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert page.evaluate("Reveal.getIndices().h") == 2
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("Reveal.getIndices().h") == 1
    page.keyboard.press("End")
    assert page.evaluate("Reveal.isLastSlide()")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_shuts_a_listener_out(url, open_page, open_deck, violations, scheme):
    found = violations(open_page(url + "index.html", color_scheme=scheme))
    for name in CHECKED:
        page = open_deck(name, color_scheme=scheme)
        kinds = ("pre.code", "pre.printed", "table", "img", ".predict", ".answer", ".exercise")
        slides = page.evaluate(
            """(kinds) => {
                const all = [...document.querySelectorAll(".slides > section")];
                return kinds.map((kind) => all.findIndex((slide) => slide.matches(kind) || slide.querySelector(kind)));
            }""",
            kinds,
        )
        found += [f"{name}: {line}" for line in violations(page)]
        for i in sorted({*slides} - {-1}):
            page.evaluate("(i) => Reveal.slide(i)", i)
            found += [f"{name}, slide {i + 1}: {line}" for line in violations(page, "section.present")]
    assert found == []
