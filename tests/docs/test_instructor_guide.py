"""The instructor guide agrees with the notebooks: paths, quotations, headings, tables, links and words."""

import json
import re
from pathlib import Path

import lesson_paths
import lesson_times
import pytest
import timing
import yaml

GUIDE = lesson_paths.GUIDE
PAGES = sorted(GUIDE.glob("**/*.md"))
HEADING_QUOTED = re.compile(r"§\*(.+?)\*(?=[\s.,;:?!)*|]|$)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
EVERY_PAGE_HAS = (
    "Learning goals",
    "The one idea",
    "On screen",
    "Talk track",
    "Questions for the room",
    "Misconceptions, and what they look like on screen",
    "What to skip",
    "Which exercise for whom",
    "How the demonstration can fail",
)
# Words of the notebooks that are not the field's: noise is drawn, positions attend, a classifier scores, models predict.
PRIVATE = re.compile(
    r"\b(dice|grain|hears|heard|judges?|price|unsaid|states of the words|drawn anew|said aloud|looks? at the network)\b",
    re.IGNORECASE,
)


@pytest.fixture
def changed(monkeypatch, tmp_path):
    """The paths with the first path changed by a function, read from another folder."""

    def change(edit):
        data = lesson_paths.settings()
        edit(data["paths"]["two_hours"])
        (tmp_path / "paths.yml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
        monkeypatch.setattr(lesson_paths, "GUIDE", tmp_path)
        lesson_paths.paths.cache_clear()
        return list(lesson_paths.problems())

    yield change
    lesson_paths.paths.cache_clear()


def text(number: str) -> str:
    return "\n".join(
        part.title + "\n" + "\n".join(f"{c.source}\n{c.output}" for c in part.cells) for part in lesson_paths.sections(number)
    )


def without_quotations(page: str) -> str:
    return HEADING_QUOTED.sub("", CODE.sub("", page))


# ---- the paths


def test_the_paths_name_cells_that_exist_add_up_and_run_in_their_order():
    assert list(lesson_paths.problems()) == []


def test_a_heading_that_is_gone_is_found(changed):
    [problem] = changed(lambda path: path["days"][0]["blocks"][0].update(run=["A heading of no notebook"]))
    assert "A heading of no notebook" in problem


def test_minutes_that_do_not_add_up_are_found(changed):
    [problem] = changed(lambda path: path["days"][0]["blocks"][0].update(minutes=9))
    assert "121 minutes" in problem


def test_a_cell_that_needs_one_that_is_not_run_is_found(changed):
    def leave_out_loading(path):
        path["days"][0]["blocks"][0]["run"] = ["Is this machine ready?"]

    problems = changed(leave_out_loading)
    assert any("'pipe': 2" in problem for problem in problems), problems


@pytest.mark.parametrize(
    "source, makes, needs",
    [
        ("x = y + 1", {"x"}, {"y"}),
        ("class A(A):\n    pass", {"A"}, {"A"}),
        ("n = [n for n in data]", {"n"}, {"data"}),
        ("x = x + 1", {"x"}, {"x"}),
        ("def f(a):\n    return a * scale", {"f"}, {"scale"}),
        ("if colab:\n    %pip install thing\nimport torch", {"torch"}, {"colab"}),
        ("for i in range(3):\n    print(i)", {"i"}, {"range", "print"}),
    ],
)
def test_what_a_cell_makes_and_needs(source, makes, needs):
    assert lesson_paths.names(source) == (makes, needs)


def test_no_notebook_run_from_top_to_bottom_seems_to_lack_a_name():
    for number in lesson_paths.notebook_numbers():
        cells = [cell.number for part in lesson_paths.sections(number) for cell in part.code]
        assert list(lesson_paths.unmet("all", number, cells)) == []


def test_what_a_block_quotes_is_in_its_notebook():
    for path in lesson_paths.paths().values():
        for block in path.blocks:
            quoted = {span.strip("`") for value in block.text.values() for span in CODE.findall(value)}
            if block.notebook:
                shown = re.sub(r"\s+", " ", text(block.notebook))
                assert not {span for span in quoted if re.sub(r"\s+", " ", span) not in shown}, (path.name, block.title)


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Two hours in which each cell took two seconds, but for one."""

    def store(cell: int, seconds: float):
        path = lesson_paths.paths()["two_hours"]
        took = {number: dict.fromkeys(cells, 2.0) for number, cells in lesson_paths.cells_in_order(path).items()}
        took["00"][cell] = seconds
        cells = {m: {str(n): [s, lesson_paths.sign(m, n)] for n, s in all_.items()} for m, all_ in took.items()}
        file = tmp_path / "times.json"
        file.write_text(json.dumps({"two_hours": {"machine": "2 cores", "cells": cells}}), encoding="utf-8")
        monkeypatch.setattr(lesson_paths, "MEASURED", file)
        return path, took

    return store


def test_a_lesson_that_waits_too_long_for_a_cell_is_found(timed, capsys):
    path, took = timed(2, 2.0)
    assert lesson_times.compare(path, took) == []
    assert f"{path.minutes} min" in capsys.readouterr().out
    path, took = timed(2, 300.0)
    [slow] = lesson_times.compare(path, took)
    assert slow.startswith("A picture in three lines: 302 s of 480 s")


def test_measured_seconds_count_for_the_cell_that_was_measured_and_no_other(timed):
    path, _ = timed(2, 7.0)
    assert lesson_paths.seconds_of(path, "00", [1, 2]) == 9.0
    assert "| 0:00 | 8 | A picture in three lines |" in lesson_paths.path_page(path) and "| 9 s |" in lesson_paths.path_page(path)
    assert "| A picture in three lines | 8 | 00 [1] | 2.0 |" in lesson_paths.trial_page()
    changed = json.loads(lesson_paths.MEASURED.read_text(encoding="utf-8"))
    changed["two_hours"]["cells"]["00"]["2"][1] = "00000000"  # what was measured was another cell
    lesson_paths.MEASURED.write_text(json.dumps(changed), encoding="utf-8")
    assert lesson_paths.seconds_of(path, "00", [1, 2]) is None
    assert "| 00 [2] | not measured |" in lesson_paths.trial_page()


def test_a_sum_is_given_only_where_each_cell_was_measured(timed):
    path, took = timed(2, 2.0)
    count = sum(map(len, took.values()))
    page = lesson_paths.trial_page()
    assert f"| together | {path.minutes} | {count} cells | {2 * count} |" in page
    assert f"Waiting for cells takes {2 * count / 60 / path.minutes:.0%} of the lesson." in page
    changed = json.loads(lesson_paths.MEASURED.read_text(encoding="utf-8"))
    changed["two_hours"]["cells"]["00"]["2"][1] = "00000000"  # of one cell the seconds are not known
    lesson_paths.MEASURED.write_text(json.dumps(changed), encoding="utf-8")
    page = lesson_paths.trial_page()
    assert f"| together | {path.minutes} | {count} cells | not measured |" in page
    assert "Waiting" not in page
    assert f'Not measured since the cell was last changed: 1 of the {count} cells. `make lesson ARGS="two_hours --write"`' in page


# ---- the pages


def test_pages_and_tables_are_those_that_the_notebooks_give():
    stale = [path.name for path, expected in lesson_paths.written().items() if path.read_text(encoding="utf-8") != expected]
    assert not stale, f"python tools/lesson_paths.py write: {stale}"


@pytest.mark.parametrize("number", lesson_paths.notebook_numbers())
def test_each_notebook_has_its_page_whose_quotations_are_true(number):
    page = (GUIDE / f"{number}.md").read_text(encoding="utf-8")
    assert not [name for name in EVERY_PAGE_HAS if f"\n## {name}\n" not in page]
    titles = {part.title for part in lesson_paths.sections(number)}
    assert not set(HEADING_QUOTED.findall(page)) - titles
    by_hand = lesson_paths.REGION.sub("", page)
    in_notebook = re.sub(r"\s+", " ", text(number))
    quoted = [span.strip("`") for span in CODE.findall(by_hand)]
    known = re.sub(r"\s+", " ", " ".join([in_notebook, (GUIDE / "README.md").read_text(encoding="utf-8")]))
    assert not [span for span in quoted if re.sub(r"\s+", " ", span) not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(GUIDE)))
def test_links_lead_somewhere(page):
    for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place), target


def anchors(page: Path) -> set[str]:
    """The names that headings of a page have as targets of links, made as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(GUIDE)))
def test_private_words_stay_out(page):
    generated = lesson_paths.REGION.sub("", page.read_text(encoding="utf-8"))
    titles = {part.title for number in lesson_paths.notebook_numbers() for part in lesson_paths.sections(number)} - {""}
    for title in sorted(titles, key=len, reverse=True):
        generated = generated.replace(title, "")  # a heading is quoted as it is
    assert PRIVATE.findall(without_quotations(generated)) == []


# ---- the table of times


def test_exercises_and_run_are_read_from_the_notebook():
    assert timing.minutes_of_exercises("08") == [5, 15, 20]
    assert all(len(timing.minutes_of_exercises(number)) == 3 for number in lesson_paths.notebook_numbers())
    assert all(1 <= timing.seconds_to_run(number) < 600 for number in lesson_paths.notebook_numbers())


def test_reading_time_is_counted_from_words_and_lines():
    cell = lesson_paths.Cell
    cells = [cell(None, "word " * 160, frozenset()), cell(1, "x = 1\n\ny = 2\n" * 5, frozenset())]
    assert timing.reading(cells) == 160 / timing.WORDS_A_MINUTE + 10 / timing.LINES_A_MINUTE
    assert timing.reading([cell(1, "x = 1", frozenset({"bootstrap"}))]) == 0


def test_the_table_has_a_row_for_each_notebook_and_one_for_all():
    rows = timing.table().splitlines()[2:]
    assert len(rows) == len(lesson_paths.notebook_numbers()) + 1
    assert [row.split("|")[1].split()[0] for row in rows[:-1]] == lesson_paths.notebook_numbers()
