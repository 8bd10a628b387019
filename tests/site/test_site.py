"""The reading site: every page is there, every link leads somewhere, nothing shuts a reader out."""

import re
from pathlib import Path

import build_site
import pytest

from .pages import broken_links, read_pages

ROOT = Path(__file__).resolve().parent.parent.parent
LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
CHECKED = ["index.html", *(f"notebooks/{LESSONS[i]}.html" for i in (0, 4, 8)), "api/vae.html", "search.html?q=latent"]
WIDTHS = (390, 768, 1440)
pytestmark = [pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")]  # Sphinx' own


@pytest.fixture(scope="module")
def site(from_npm, tmp_path_factory):
    """The folder of the built site, in which no warning was left. Not the slides, nor the live page."""
    pytest.importorskip("myst_nb", reason="NOTICE: Sphinx is not installed, so the site was not tested")
    from_npm(build_site.MATHJAX)
    out = tmp_path_factory.mktemp("site") / "site"
    assert build_site.build(out, build_site.Links(), parts=()) == 0
    return out


@pytest.fixture(scope="module")
def pages(site):
    return read_pages(site)


@pytest.fixture(scope="module")
def url(site, serve):
    return serve(site)


# ---- the files


def test_there_is_a_page_for_each_notebook_each_solution_and_each_room(pages):
    wanted = {f"notebooks/{name}.html" for name in LESSONS} | {f"notebooks/solutions/{name}.html" for name in LESSONS}
    assert wanted <= set(pages)
    for _, modules, _ in build_site.rooms():
        assert modules
        for module in modules:
            assert any(f"module-{module}" in page.ids for name, page in pages.items() if name.startswith("api/")), module


def test_every_module_of_the_package_is_in_a_room():
    roomed = {module for _, modules, _ in build_site.rooms() for module in modules}
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "ldm_tutorial").rglob("*.py")]
    public = {build_site.module_of(file) for file in files if not re.search(r"/_\w+\.py$", file)}
    public |= {build_site.module_of(file) for file in files if file.endswith("__init__.py")}
    assert public - roomed == {"ldm_tutorial"}  # its own page is the index


def test_every_link_within_the_site_leads_to_a_page_and_a_place_in_it(pages, site):
    assert broken_links(pages, site) == []


def test_every_picture_says_what_it_shows(pages):
    pictures = [(name, alt) for name, page in pages.items() for alt in page.pictures]
    assert len(pictures) > 150
    assert [name for name, alt in pictures if not (alt or "").strip()] == []


def test_headings_are_in_order_on_every_page(pages):
    wrong = []
    for name, page in pages.items():
        levels = page.headings
        if levels.count(1) != 1 or any(b > a + 1 for a, b in zip(levels, levels[1:])):
            wrong.append(f"{name}: {levels}")
    assert wrong == []


def test_no_page_shows_a_badge_or_names_a_repository_that_does_not_exist(pages):
    for name, page in pages.items():
        assert "ORG/REPO" not in page.text, name
        assert not any("colab.research" in link for link in page.links), name


def test_a_widget_has_its_picture_and_a_sentence(pages):
    said = "A picture of a widget"
    assert sum(page.text.count(said) for page in pages.values()) >= 15
    assert said in pages["notebooks/14_playground.html"].text


# ---- in a browser


@pytest.mark.browser
def test_pages_ask_no_other_server_and_say_no_error(url, open_page):
    for name in CHECKED:
        page = open_page(url + name)
        assert page.outside == [] and page.complaints == [], name


@pytest.mark.browser
def test_formulas_are_drawn(url, open_page):
    page = open_page(url + "notebooks/08_ddpm.html")
    assert page.locator("mjx-container").count() > 20
    assert page.locator("mjx-merror").count() == 0
    assert page.locator("mjx-assistive-mml").count() > 20  # what a screen reader reads


@pytest.mark.browser
def test_the_search_finds_a_lesson_without_a_network(url, open_page):
    page = open_page(url + "search.html?q=inversion")
    page.locator("#search-results li a", has_text="DDIM").first.wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_window(url, open_page, width):
    page = open_page(url + "index.html", viewport={"width": width, "height": 800})
    for name in [*CHECKED, *(f"docs/{n}.html" for n in ("notation", "model_card", "ablations")), "api/schedulers.html"]:
        page.goto(url + name)
        page.evaluate("() => window.MathJax?.startup?.promise")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_shuts_a_reader_out(url, open_page, violations, scheme):
    found = []
    for name in CHECKED:
        page = open_page(url + name, color_scheme=scheme)
        if "?q=" in name:
            page.locator("#search-results li a").first.wait_for()
        found += [f"{name}: {line}" for line in violations(page)]
    assert found == []


@pytest.mark.browser
def test_dark_and_light_differ_and_can_be_chosen(url, open_page):
    def background(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = (open_page(url + "index.html", color_scheme=scheme) for scheme in ("light", "dark"))
    assert background(light) != background(dark)
    before = background(light)
    for _ in range(3):  # automatic, light, dark
        light.locator(".theme-toggle:visible").first.click()
        if background(light) != before:
            break
    assert background(light) == background(dark)


@pytest.mark.browser
def test_the_keyboard_alone_reaches_the_text_and_shows_where_it_is(url, open_page):
    page = open_page(url + f"notebooks/{LESSONS[8]}.html")
    page.keyboard.press("Tab")
    assert "skip" in page.evaluate("document.activeElement.className").lower() + page.evaluate("document.activeElement.id")
    page.wait_for_function("document.activeElement.getBoundingClientRect().top >= 0")  # it can be seen
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#furo-main-content, article') !== null")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
