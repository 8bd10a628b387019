"""The figures of the notebooks on schedulers show the numbers they are given, and the table computes its own."""

import numpy as np
import pytest
import torch
from matplotlib.patches import Circle

from ldm_tutorial.figures.samplers import (
    Strips,
    chains,
    design_choices,
    design_figure,
    errors_against_cost,
    noise_triangle,
    paths_in_the_plane,
    score_strips,
    scores_by_steps,
    starts_by_end,
)
from ldm_tutorial.lessons.notebook import png
from ldm_tutorial.lessons.toy import GaussianMixture
from ldm_tutorial.schedulers import EulerDiscreteScheduler

MIXTURE = GaussianMixture([[1.0, 0.0], [-1.0, 0.5], [-1.0, -0.5]], [0.2, 0.2, 0.2])
PATH = torch.randn(5, 20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # 4 steps of 20 points


def test_paths_have_a_panel_for_each_method_and_show_the_first_points():
    figure = paths_in_the_plane({"one": PATH, "two": PATH.flip(0)}, MIXTURE, shown=3)
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    lines = [line.get_xydata() for line in figure.axes[0].lines]
    np.testing.assert_allclose(lines[0], PATH[-1])  # where all end
    assert [len(line) for line in lines] == [20] + [5, 1, 1] * 3
    np.testing.assert_allclose(lines[1], PATH[:, 0])


def test_starts_are_split_by_the_component_nearest_to_their_end():
    [axes] = starts_by_end({"one": PATH}, MIXTURE).axes
    shown = [line.get_xydata() for line in axes.lines]
    assert sum(map(len, shown[:3])) == 20
    nearest = torch.cdist(PATH[-1], MIXTURE.means).argmin(1)
    for k in range(3):
        np.testing.assert_allclose(shown[k], PATH[0, nearest == k])


def test_errors_are_on_logarithmic_axes_with_slopes_to_compare():
    curves, costs = {"a": [1, 0.1], "b": [0.5, 0.2]}, {"a": [10, 100], "b": [20, 50]}
    figure = errors_against_cost(curves, costs, "error", slopes={"order 1": 1})
    [axes] = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    a, b, slope = (line.get_xydata() for line in axes.lines)
    np.testing.assert_allclose(a, [[10, 1], [100, 0.1]])
    np.testing.assert_allclose(b, [[20, 0.5], [50, 0.2]])
    assert slope[0, 1] / slope[1, 1] == pytest.approx(slope[1, 0] / slope[0, 0])  # order 1
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "order 1"]


def test_the_triangle_stays_on_the_circle_of_the_next_level():
    [axes] = noise_triangle(5.0, [(0.0, 3.0), (2.4, 1.8)], ["η = 0", "η = 1"]).axes
    corners = [line.get_xydata()[0] for line in axes.lines if len(line.get_xydata()) == 1][:2]
    np.testing.assert_allclose(corners, [[3, 0], [1.8, 2.4]])
    np.testing.assert_allclose(np.hypot(*np.array(corners).T), 3)


def test_strips_show_every_point_its_pair_and_its_interval():
    scores = {"a": [1.0, 2.0, 4.0], "b": [2.0, 2.5, 3.0]}
    both = Strips(scores, "score", "both", paired=True, intervals={"a": (1.5, 3.0)}, marks={"b": ("best", 3.0)})
    figure = score_strips(both, Strips({"a - b": torch.tensor([-1.0, -0.5, 1.0])}, "difference", intervals={"a - b": (-1, 0.5)}))
    left, right = figure.axes
    assert [left.get_title(), left.get_ylabel(), right.get_ylabel()] == ["both", "score", "difference"]
    lines = [line.get_xydata().tolist() for line in left.lines]
    assert lines[:3] == [[[0, 1], [1, 2]], [[0, 2], [1, 2.5]], [[0, 4], [1, 3]]]
    assert [[0, 1], [0, 2], [0, 4]] in lines and [[1, 2], [1, 2.5], [1, 3]] in lines
    assert [[0.22, 1.5], [0.22, 3.0]] in lines
    assert [[0.22, 7 / 3]] in lines  # the mean
    assert [text.get_text() for text in left.texts] == ["best"]
    assert left.texts[0].xy == (1, 3.0)
    zero = [line for line in right.lines if set(line.get_ydata()) == {0}]
    assert len(zero) == 1
    assert not [line for line in left.lines if set(line.get_ydata()) == {0}]  # 0 is not in view


def test_strips_of_one_kind_share_a_scale_which_may_be_logarithmic():
    one, two = Strips({"a": [1.0, 2.0]}, "distance", yscale="log"), Strips({"b": [50.0, 60.0]}, "distance", yscale="log")
    left, right = score_strips(one, two).axes
    assert left.get_ylim() == right.get_ylim()
    assert left.get_yscale() == "log" and left.get_ylim()[0] > 0
    left, right = score_strips(one, two._replace(ylabel="difference")).axes
    assert left.get_ylim()[1] < 50


def test_a_strip_may_be_an_interval_alone():
    [axes] = score_strips(Strips({"a": []}, "score", intervals={"a": (1.0, 2.0)})).axes
    assert [[0.22, 1.5]] in [line.get_xydata().tolist() for line in axes.lines]


def test_scores_by_steps_hides_no_scheduler_behind_another():
    scores = {name: {n: torch.tensor([[0.0, 1.0], [1.0, 1.0]]) for n in (10, 25, 50)} for name in ("DDIM", "Euler", "DDPM")}
    [axes] = scores_by_steps(scores, lambda x: (x.mean().item() - 0.2, x.mean().item() + 0.1), "right subject").axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["10 steps", "25 steps", "50 steps"]
    places = [x for line in axes.lines for x in line.get_xdata()]
    assert len({round(x, 6) for x in places}) == 9
    assert all(line.get_ydata() == pytest.approx([0.75] * 3) for line in axes.lines)
    bars = axes.collections[0].get_segments()
    assert [bar[:, 1].tolist() for bar in bars] == [pytest.approx([0.55, 0.85])] * 3


def test_chains_have_five_places_in_each_of_three_rows():
    figure = chains()
    assert len([p for p in figure.axes[0].patches if isinstance(p, Circle)]) == 15
    assert png(figure)[:4] == b"\x89PNG"


def test_design_choices_are_computed():
    few, many = design_choices(10), design_choices(50)
    euler = EulerDiscreteScheduler()
    euler.set_timesteps(10)
    assert few["Euler"]["first σ"] == f"{euler.sigmas[0]:.3g}" == "14.6"
    assert few["Euler"]["middle σ"] == f"{euler.sigmas[5]:.3g}"
    assert few["DDPM"]["timesteps"].startswith("901 ... 1")
    assert few["DDIM"]["last σ"] == "0.029"  # v1.5's set_alpha_to_one=False
    assert few["EDM"]["first σ"] == "80"
    assert few["DDIM"]["first σ"] != many["DDIM"]["first σ"]  # "leading" starts higher with more steps
    assert len({tuple(column) for column in few.values()}) == 1  # the same rows for all


def test_the_table_shows_every_choice():
    choices = design_choices()
    words = {text.get_text() for text in design_figure(choices).axes[0].texts}
    assert set(choices) <= words
    assert {value for column in choices.values() for value in column.values()} <= words
