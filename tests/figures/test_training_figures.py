"""The figure of a log: what is drawn where, and what is refused."""

import numpy as np
import pytest

from ldm_tutorial.figures.training import training_curves


def log(n=40, **columns):
    steps = 50.0 * np.arange(1, n + 1)
    return {"step": steps, "loss": 10 / steps, "stage": np.zeros(n), **columns}


def test_points_mean_and_band_over_the_steps():
    [axes] = training_curves(log(mse=np.full(40, 0.5)), {"loss": "weighted", "mse": "plain"}, title="a log").axes
    points, mean = axes.get_lines()[:2]
    assert points.get_linestyle() == "None" and list(points.get_ydata()) == list(10 / (50.0 * np.arange(1, 41)))
    assert mean.get_ydata()[20] == pytest.approx(10 / 1050, rel=0.01)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["weighted", "plain"]
    assert axes.get_yscale() == "log" and axes.get_title() == "a log"
    assert len(axes.collections) == 2  # the bands


def test_the_learning_rate_has_a_panel_of_its_own_below():
    rates = np.linspace(1e-3, 0, 40)
    above, below = training_curves(log(), {"loss": "loss"}, rates).axes
    assert list(below.get_lines()[0].get_ydata()) == list(rates)
    assert below.get_xlabel() == "step" and above.get_xlabel() == ""


def test_a_further_stage_begins_at_a_gray_line():
    stages = np.repeat([0.0, 1.0, 2.0], [20, 10, 10])
    [axes] = training_curves(log(stage=stages), {"loss": "loss"}).axes
    upright = [line.get_xdata()[0] for line in axes.get_lines() if len(set(line.get_xdata())) == 1]
    assert upright == [1025, 1525]


def test_mean_and_band_of_a_stage_leave_the_others_out():
    stages = np.repeat([0.0, 1.0], [20, 20])
    [axes] = training_curves(log(mse=1 + 2 * stages, stage=stages), {"mse": "error"}).axes
    points, *means = [line for line in axes.get_lines() if len(set(line.get_xdata())) > 1]
    assert [set(mean.get_ydata()) for mean in means] == [{1.0}, {3.0}]
    assert [set(band.get_paths()[0].vertices[:, 1]) for band in axes.collections] == [{1.0}, {3.0}]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["error"]


def test_gaps_and_negative_values_are_drawn():
    late = np.r_[np.full(20, np.nan), np.linspace(-1, 1, 20)]
    [axes] = training_curves(log(late=late), {"late": "adversarial"}).axes
    assert axes.get_yscale() == "linear"


def test_a_column_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="columns: the log has no 'mse'; it has 'step', 'loss', 'stage'"):
        training_curves(log(), {"mse": "error"})
