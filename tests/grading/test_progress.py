"""`progress`: what the checks last said in a learner's own notebooks."""

import os

import nbformat
import pytest

from ldm_tutorial.grading.progress import Standing, examined_standings, saved_standings, summary
from tests.exercises.answers import CHECK_MODULES, NOTEBOOKS
from tests.grading.classroom import exercise_cell, hand_in, solved, unsolved


def printed(notebook, exercise, *lines):
    exercise_cell(notebook, exercise).outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="".join(f"{line}\n" for line in lines))
    ]


def test_the_notebooks_of_the_course_begin_with_nothing_done():
    standings = saved_standings(NOTEBOOKS)
    assert len(standings) == 3 * len(CHECK_MODULES)
    assert not any(standing.correct or standing.said for standing in standings.values())
    count = len(CHECK_MODULES)  # three exercises each, of 1, 2 and 3 points
    assert f"0 of {3 * count} exercises done, 0 of {6 * count} points." in summary(standings)
    assert summary(standings).endswith("Next: 00.1 in 00_start_here.ipynb")


def test_what_the_checks_last_printed_is_read(tmp_path):
    notebook = unsolved("08")
    printed(notebook, "08.1", "[08.1] correct")
    printed(notebook, "08.2", "[08.2] not done yet: replace the ... and run this cell again", "[08.2] not yet: a root is missing")
    hand_in(tmp_path, ".", notebook)
    standings = saved_standings(tmp_path)
    assert standings == {
        "08.1": Standing("08_ddpm.ipynb", True, "correct"),
        "08.2": Standing("08_ddpm.ipynb", False, "a root is missing"),
        "08.3": Standing("08_ddpm.ipynb", False, ""),
    }
    assert summary(standings).splitlines() == [
        "notebook       warm-up  core     stretch",
        "08_ddpm.ipynb  done     not yet  -",
        "",
        "1 of 3 exercises done, 1 of 6 points.",
        "",
        "What the checks last said:",
        "  [08.2] a root is missing",
        "",
        "Next: 08.2 in 08_ddpm.ipynb",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="notebooks are run in processes that this system cannot make")
def test_the_saved_answers_are_examined_anew_on_request(tmp_path):
    notebook = solved("09")
    for name in ("09.1", "09.2", "09.3"):
        printed(notebook, name)
    cell = exercise_cell(notebook, "09.1")
    cell.source = cell.source.replace("eta**2", "eta")
    hand_in(tmp_path, ".", notebook, "09_ddim.ipynb")
    standings = examined_standings(tmp_path)
    assert {name: standing.correct for name, standing in standings.items()} == {"09.1": False, "09.2": True, "09.3": True}
    assert "under the root" in standings["09.1"].said


def test_a_folder_without_notebooks_of_its_own_is_an_error(tmp_path):
    hand_in(tmp_path, "ada", solved("08"))
    with pytest.raises(ValueError, match="give the folder with your notebooks"):
        saved_standings(tmp_path)
