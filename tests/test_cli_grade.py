"""`ldm-tutorial grade` and `ldm-tutorial progress`."""

import os

import pytest

from ldm_tutorial import cli
from tests.grading.classroom import hand_in, solved, unsolved


@pytest.mark.skipif(not hasattr(os, "fork"), reason="notebooks are run in processes that this system cannot make")
def test_grade_writes_the_table_and_the_reasons(tmp_path, capsys):
    hand_in(tmp_path / "class", "ada", solved("08"))
    hand_in(tmp_path / "class", "bob", unsolved("08"))
    assert cli.main(["grade", str(tmp_path / "class"), "-o", str(tmp_path / "grades.csv"), "-j", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'grades.csv'}\n{tmp_path / 'grades.md'}\n"
    assert "ada, notebook 08: 3 of 3 exercises\nbob, notebook 08: 0 of 3 exercises\n" in err
    assert (tmp_path / "grades.csv").read_text() == "student,08.1,08.2,08.3,total,of\nada,1,2,3,6,6\nbob,0,0,0,0,6\n"
    assert "## bob: 0 of 6" in (tmp_path / "grades.md").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["nowhere", "-o", "grades.csv"], "nowhere is no folder"),
        (["class", "-o", "no/grades.csv"], "there is no folder no to write grades.csv to"),
        (["class", "-o", "class"], "--output class: no file can be written there"),
        (["class", "-o", "grades.csv", "--reasons", "class"], "--reasons class: no file can be written there"),
        (["class", "-o", "grades.md"], "cannot both be grades.md"),
        (["class", "-o", "grades.csv", "--memory", "0"], "--memory 0 must be more than 0"),
        (["class", "-o", "grades.csv", "-j", "0"], "jobs=0 must be 1 or more"),
    ],
)
def test_what_cannot_be_graded_is_one_line(tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    hand_in(tmp_path / "class", "ada", solved("08"))
    assert cli.main(["grade", *more]) == 2
    _, err = capsys.readouterr()
    assert message in err and err.count("\n") == 1
    assert not list(tmp_path.glob("grades*"))


def test_progress_says_what_is_next(tmp_path, capsys):
    hand_in(tmp_path, ".", unsolved("08"))
    assert cli.main(["progress", str(tmp_path)]) == 0
    out, _ = capsys.readouterr()
    assert "Next: 08.1 in 08_ddpm.ipynb" in out
    assert cli.main(["progress"]) == 0
    assert "Next: 00.1 in 00_start_here.ipynb" in capsys.readouterr().out
