"""A learner works in copies: the repository's notebooks stay as they are, and nobody's work is ever overwritten."""

import pytest

from ldm_tutorial.lessons.working_copy import OWN_NOTEBOOKS, RECORD, make_working_copy


@pytest.fixture
def course(tmp_path):
    for name, text in {"00_start.ipynb": "zero", "04_attention.ipynb": "four", "solutions/04_attention.ipynb": "solved"}.items():
        path = tmp_path / "notebooks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def own(course, name="04_attention.ipynb"):
    return course / OWN_NOTEBOOKS / name


def test_every_notebook_is_copied_solutions_too(course):
    (course / "notebooks" / ".ipynb_checkpoints").mkdir()
    (course / "notebooks" / ".ipynb_checkpoints" / "00_start-checkpoint.ipynb").write_text("old")
    assert make_working_copy(course) == []
    found = {p.relative_to(course / OWN_NOTEBOOKS).as_posix(): p.read_text() for p in (course / OWN_NOTEBOOKS).rglob("*.ipynb")}
    assert found == {"00_start.ipynb": "zero", "04_attention.ipynb": "four", "solutions/04_attention.ipynb": "solved"}


def test_work_stays_and_the_original_is_not_touched(course):
    make_working_copy(course)
    own(course).write_text("my answers")
    assert make_working_copy(course) == []
    assert own(course).read_text() == "my answers"
    assert (course / "notebooks" / "04_attention.ipynb").read_text() == "four"


def test_a_new_version_replaces_an_untouched_copy_and_never_a_changed_one(course):
    make_working_copy(course)
    own(course).write_text("my answers")
    for name in ("00_start.ipynb", "04_attention.ipynb"):
        (course / "notebooks" / name).write_text("new version")
    assert make_working_copy(course) == ["04_attention.ipynb"]
    assert own(course).read_text() == "my answers"
    assert own(course, "00_start.ipynb").read_text() == "new version"
    assert make_working_copy(course) == ["04_attention.ipynb"]  # it says so until the learner has decided


def test_whoever_renames_a_copy_gets_a_fresh_one(course):
    make_working_copy(course)
    own(course).write_text("my answers")
    (course / "notebooks" / "04_attention.ipynb").write_text("new version")
    own(course).rename(own(course, "04_mine.ipynb"))
    assert make_working_copy(course) == []
    assert own(course).read_text() == "new version" and own(course, "04_mine.ipynb").read_text() == "my answers"


@pytest.mark.parametrize("damaged", [None, "", "[1]", "{"])
def test_without_its_record_every_copy_counts_as_work(course, damaged):
    make_working_copy(course)
    own(course).write_text("my answers")
    if damaged is None:
        own(course, RECORD).unlink()
    else:
        own(course, RECORD).write_text(damaged)
    (course / "notebooks" / "00_start.ipynb").write_text("new version")
    make_working_copy(course)
    assert own(course).read_text() == "my answers"
    assert own(course, "00_start.ipynb").read_text() == "zero"
