"""The formula of what drawing costs: it finds numbers that were put in, and says how far it is from what was measured."""

import pytest

from ldm_tutorial.evaluation.cost import CostFormula, CostPoint, fit_cost, measure_seconds
from ldm_tutorial.schedulers import make_scheduler

TRUE = CostFormula(0.009, 0.006, 0.0002, 0.03, error=0)
WORKS = [
    *(CostPoint(steps=steps) for steps in (5, 50)),
    *(CostPoint(pictures=pictures) for pictures in (8, 24)),
    *(CostPoint(scale=scale) for scale in (2, 3)),
]


def test_the_numbers_of_an_exact_formula_are_found():
    cost = fit_cost({work: TRUE.seconds(work) for work in WORKS})
    assert (cost.step, cost.row, cost.attention, cost.picture) == pytest.approx((0.009, 0.006, 0.0002, 0.03), rel=1e-6)
    assert cost.error < 1e-6
    assert "m (9 + 6 · 2 b s² + 0.2 · 2 b s⁴) + 30 b s²" in cost.text() and "is 0%" in cost.text()


def test_seconds_by_hand():
    """Ten steps of 2 x 3 rows of four times the area, and three pictures decoded."""
    assert TRUE.seconds(CostPoint(10, 3, 2)) == pytest.approx(10 * (0.009 + 0.006 * 6 * 4 + 0.0002 * 6 * 16) + 0.03 * 3 * 4)


def test_the_error_is_the_largest_relative_difference():
    measured = {work: TRUE.seconds(work) for work in WORKS}
    measured[WORKS[2]] *= 1.5
    cost = fit_cost(measured)
    assert cost.error == pytest.approx(max(abs(cost.seconds(work) / taken - 1) for work, taken in measured.items()))
    assert cost.error > 0.05


def test_no_number_is_negative():
    measured = {work: 0.01 * work.steps + 0.001 * work.pictures for work in WORKS}
    cost = fit_cost(measured)
    assert min(cost.step, cost.row, cost.attention, cost.picture) >= 0


def test_too_few_measured_values_are_refused():
    with pytest.raises(ValueError, match="four"):
        fit_cost(dict.fromkeys(WORKS[:3], 1.0))


def test_work_is_drawn_as_it_says(tiny_pipe, monkeypatch):
    asked = []
    monkeypatch.setattr(type(tiny_pipe), "__call__", lambda self, prompt, **settings: asked.append(settings))
    assert measure_seconds(tiny_pipe, CostPoint(7, 3, 2)) >= 0
    size = 2 * tiny_pipe.unet.config.sample_size * tiny_pipe.vae.config.downsampling
    assert [settings["steps"] for settings in asked] == [1, 7, 7]
    assert all((s["num_images"], s["height"], s["width"]) == (3, size, size) for s in asked)


@pytest.mark.parametrize("name", ["euler", "flow_euler"])
def test_the_models_own_scheduler_draws(make_tiny_pipe, monkeypatch, name):
    pipe, used = make_tiny_pipe(), []
    pipe.scheduler = make_scheduler(name)
    draw = type(pipe).draw
    monkeypatch.setattr(
        type(pipe), "draw", lambda self, inputs, bar: (used.append(type(inputs.scheduler)), draw(self, inputs, bar))[1]
    )
    assert measure_seconds(pipe, CostPoint(2), repeats=1) > 0
    assert used == [type(pipe.scheduler)] * 2


def test_two_evaluations_a_step_are_refused(make_tiny_pipe):
    pipe = make_tiny_pipe()
    pipe.scheduler = make_scheduler("heun")
    with pytest.raises(ValueError, match="HeunDiscreteScheduler, with 2 evaluations a step; 1 is allowed"):
        measure_seconds(pipe, CostPoint(2))
