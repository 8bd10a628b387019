"""`check`: every solution is correct, every stub is not done yet, and whatever an answer does, it only prints."""

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
    assert capsys.readouterr().out.startswith("[00.1] not yet: your code raised RuntimeError: no\n  hint: ")
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
