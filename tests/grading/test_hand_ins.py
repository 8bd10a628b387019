"""Whose notebook is which file."""

import pytest

from ldm_tutorial.grading.hand_ins import find_hand_ins
from tests.grading.classroom import hand_in, solved


def found_in(folder):
    found, left_out = find_hand_ins(folder)
    return {(one.student, one.number): one.path.relative_to(folder).as_posix() for one in found}, left_out


def test_a_folder_for_each_student_or_the_name_before_the_notebooks(tmp_path):
    hand_in(tmp_path, "ada", solved("08"))
    hand_in(tmp_path, "bob/work/notebooks", solved("09"), "09_ddim.ipynb")
    hand_in(tmp_path, ".", solved("10"), "Mei Li_10_euler.ipynb")
    hand_in(tmp_path, ".", solved("10"), "zoe.ipynb")
    found, left_out = found_in(tmp_path)
    assert found == {
        ("ada", "08"): "ada/08_ddpm.ipynb",
        ("bob", "09"): "bob/work/notebooks/09_ddim.ipynb",
        ("Mei Li", "10"): "Mei Li_10_euler.ipynb",
        ("zoe", "10"): "zoe.ipynb",
    }
    assert left_out == []


def test_solutions_checkpoints_and_links_are_left_out(tmp_path):
    hand_in(tmp_path, "ada", solved("08"))
    hand_in(tmp_path, "ada/.ipynb_checkpoints", solved("08"), "08_ddpm-checkpoint.ipynb")
    hand_in(tmp_path, "ada/notebooks/solutions", solved("09"), "09_ddim.ipynb")
    (tmp_path / "ada" / "10_euler.ipynb").symlink_to(hand_in(tmp_path / "elsewhere", "x", solved("10"), "10_euler.ipynb"))
    found, left_out = found_in(tmp_path)
    assert ("ada", "08") in found and ("ada", "09") not in found and ("ada", "10") not in found
    assert left_out == ["ada/10_euler.ipynb: a link, not followed"]


def test_of_two_files_the_one_with_the_notebooks_own_name_counts(tmp_path):
    hand_in(tmp_path, "ada", solved("08"))
    hand_in(tmp_path, "ada", solved("08"), "copy of ddpm.ipynb")
    found, left_out = found_in(tmp_path)
    assert found == {("ada", "08"): "ada/08_ddpm.ipynb"}
    assert left_out == ["ada/copy of ddpm.ipynb: ada has another notebook 08, which counts"]


def test_a_folder_without_notebooks_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        find_hand_ins(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no notebook of the series"):
        find_hand_ins(tmp_path)
