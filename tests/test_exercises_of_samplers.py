"""The checks of notebooks 09 to 11: each accepts its notebook's solution, and names the mistake in every wrong answer.

A wrong answer is the solution with one line changed, as a learner would have got it wrong.
"""

import re
from pathlib import Path

import nbformat
import pytest
import torch

from ldm_tutorial.exercises import verdict

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
FILES = {"09": "09_ddim.ipynb"}


def answer(exercise: str, old: str = "", new: str = "", folder: Path = NOTEBOOKS / "solutions"):
    """The function that a notebook hands to check(exercise, ...), with `old` changed to `new`."""
    cells = nbformat.read(folder / FILES[exercise[:2]], 4).cells
    [source] = [c.source for c in cells if c.cell_type == "code" and f'check("{exercise}"' in c.source]
    assert source.count(old) == 1 or not old
    name = re.search(rf'check\("{exercise}", (\w+)\)', source)[1]
    names = {"torch": torch}
    exec(re.sub(r"^check\(.*\)$", "", source.replace(old, new) if old else source, flags=re.M), names)
    return names[name]


EXERCISES = [f"{notebook}.{i}" for notebook in FILES for i in (1, 2, 3)]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_is_correct(exercise):
    assert verdict(exercise, answer(exercise)) == f"[{exercise}] correct"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_is_not_done_yet(exercise):
    assert verdict(exercise, answer(exercise, folder=NOTEBOOKS)).startswith(f"[{exercise}] not done yet")


SIGMA = "min(variance, 1 - alpha_bar_prev) ** 0.5"
ANGLE = "torch.acos((a * b).sum((1, 2, 3), keepdim=True) / norms)"
SLERP = "return (torch.sin((1 - fraction) * angle) * a + torch.sin(fraction * angle) * b) / torch.sin(angle)"
AGAIN = "x = step(x, model(trial, there), here, there)"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("09.1", SIGMA, "min(variance, 1 - alpha_bar_prev)", "the variance σ²"),
        ("09.1", SIGMA, "variance ** 0.5", "more than all the noise"),
        ("09.1", SIGMA, "min(variance ** 0.5, 1 - alpha_bar_prev)", "that is a variance"),
        ("09.1", "eta**2", "eta", "under the root"),
        ("09.1", "(1 - alpha_bar / alpha_bar_prev)", "(1 - alpha_bar_prev / alpha_bar)", "negative number"),
        ("09.1", "(1 - alpha_bar_prev) / (1 - alpha_bar) * ", "", "fixed_large"),
        ("09.1", "(1 - alpha_bar_prev) / (1 - alpha_bar) *", "(1 - alpha_bar) / (1 - alpha_bar_prev) *", "upside down"),
        ("09.1", SIGMA, "0.3", "σ should be"),
        ("09.2", SLERP, "return (1 - fraction) * a + fraction * b", "straight line"),
        ("09.2", SLERP, SLERP.replace("1 - fraction", "FRACTION").replace("(fraction", "((1 - fraction)").replace("FRACTION", "fraction"), "swapped"),
        ("09.2", SLERP, SLERP.replace(" / torch.sin(angle)", ""), "divide by sin"),
        ("09.2", ANGLE, ANGLE.replace("torch.acos", ""), "acos is missing"),
        ("09.2", ANGLE, "torch.acos((a * b).sum() / (a.norm() * b.norm()))", "one angle for the whole batch"),
        ("09.2", SLERP, "a *= 1 - fraction; a += fraction * b; return a", "changes its inputs"),
        ("09.2", SLERP, "return a[0]", "must be a tensor (3, 4, 5, 6)"),
        ("09.2", SLERP, "return a + b", "not those of eq. 67"),
        ("09.3", AGAIN, "x = trial", "wrong end"),
        ("09.3", AGAIN, "x = step(trial, model(trial, there), here, there)", "starts from the trial"),
        ("09.3", AGAIN, AGAIN.replace("trial, there)", "trial, here)"), "you tell the model `here`"),
        ("09.3", AGAIN, "x = step(x, (model(x, here) + model(trial, there)) / 2, here, there)", "Heun"),
        ("09.3", "zip(levels, levels[1:])", "zip(levels[::-1], levels[-2::-1])", "that is sampling"),
        ("09.3", "zip(levels, levels[1:])", "zip(levels[:-1], levels[1:-1])", "one level early"),
        ("09.3", "    return x\n", "    return [x]\n", "return the noise alone"),
        ("09.3", "    return x\n", "    return -x\n", "other points"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    said = verdict(exercise, answer(exercise, old, new))
    assert said.startswith(f"[{exercise}] not yet: ")
    assert mistake in said
    assert "\n  hint: " in said
