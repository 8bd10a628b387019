"""`check`: every solution is correct, every stub is not done yet, and whatever an answer does, it only prints."""

from collections import Counter

import pytest

from ldm_tutorial import exercises
from ldm_tutorial.exercises import CHECK_MODULES, NotDone, check, verdict
from tests.exercises.answers import ALL, NOTEBOOKS, answer


def test_every_notebook_has_three_exercises():
    assert {number: sum(e.startswith(f"{number}.") for e in ALL) for number in CHECK_MODULES} == dict.fromkeys(CHECK_MODULES, 3)


@pytest.mark.parametrize("exercise", ALL)
def test_the_solution_is_correct(exercise):
    assert verdict(exercise, answer(exercise)) == f"[{exercise}] correct"


@pytest.mark.parametrize("exercise", ALL)
def test_the_stub_is_not_done_yet(exercise):
    for nothing in (answer(exercise, folder=NOTEBOOKS), None, ..., lambda *_, **__: None):
        assert verdict(exercise, nothing).startswith(f"[{exercise}] not done yet")


def test_check_only_prints(capsys):
    def broken(*_):
        raise RuntimeError("no")

    assert check("00.1", broken) is None
    assert capsys.readouterr().out == "[00.1] not yet: your code raised RuntimeError: no\n"
    check("00.1", 3)
    assert "must be a function; it is int" in capsys.readouterr().out


def test_an_unknown_exercise_is_named():
    with pytest.raises(ValueError, match="no exercise '00.9'; there are 00.1, 00.2"):
        check("00.9", print)
    with pytest.raises(ValueError, match="no exercise 'x'"):
        check("x", print)


def test_call_tells_a_stub_from_an_answer():
    assert exercises.call(lambda x: 2 * x, 3) == 6
    with pytest.raises(NotDone):
        exercises.call(lambda: ...)


def test_what_torch_has_not_implemented_is_an_error_and_no_stub():
    def unsupported(*_):
        raise NotImplementedError("'nextafter' is not implemented for complex tensors")

    assert verdict("00.1", unsupported).startswith("[00.1] not yet: your code raised NotImplementedError: 'nextafter'")


def test_the_second_mistake_gets_a_nudge_and_the_third_the_solution(capsys, monkeypatch):
    monkeypatch.setattr(exercises, "_tries", Counter())
    mistake, nudge, solution = "not yet: the answer must be", "\n  nudge: ", "\n  solution: "
    said = []
    for _ in range(3):
        check("08.1", 3)
        said.append(capsys.readouterr().out)
    assert [mistake in text or "must be a function" in text for text in said] == [True, True, True]
    assert [nudge in text for text in said] == [False, True, True]
    assert [solution in text for text in said] == [False, False, True]
    check("08.2", 3)  # each exercise has its own count
    assert nudge not in capsys.readouterr().out


def test_what_is_correct_or_not_done_is_not_counted(capsys, monkeypatch):
    monkeypatch.setattr(exercises, "_tries", Counter())
    for _ in range(3):
        check("08.1", answer("08.1"))
        check("08.1", ...)
    check("08.1", 3)
    assert "nudge" not in capsys.readouterr().out


def test_the_solution_is_told_on_request(capsys):
    check("08.1", solution=True)
    assert "[08.1] not done yet" in (out := capsys.readouterr().out) and "\n  solution: take the noise out" in out


@pytest.mark.parametrize("exercise", ALL)
def test_a_nudge_is_not_the_solution(exercise):
    verdict(exercise, None)
    found = exercises.EXERCISES[exercise]
    assert found.nudge and found.solution and found.nudge != found.solution
