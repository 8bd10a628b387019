"""Logs as columns: those of one run, of several stages, and what is no log; running means and the band around them."""

import json
import math

import numpy as np
import pytest

from ldm_tutorial.training.logs import TRAININGS, band, read_log, running_mean
from ldm_tutorial.training.loop import TrainingRun


def written(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_what_a_run_logs_comes_back_as_columns(tmp_path):
    run = TrainingRun(tmp_path, {}, steps=3)
    for step in run.steps():
        run.log(loss=1 / (step + 1), mse=2.0)
    log = read_log(tmp_path / "log.jsonl")
    assert list(log) == ["step", "seconds", "loss", "mse", "stage"]
    assert log["step"].tolist() == [1, 2, 3] and log["stage"].tolist() == [0, 0, 0]
    assert log["loss"] == pytest.approx([1, 0.5, 1 / 3], rel=1e-5)


def test_further_stages_are_counted_on(tmp_path):
    steps = [50, 100, 150, 50, 100, 50, 90]
    lines = [{"step": step, "seconds": 10.0 * step, "loss": 1.0} for step in steps]
    log = read_log(written(tmp_path / "log.jsonl", *lines))
    assert log["step"].tolist() == [50, 100, 150, 200, 250, 300, 340]
    assert log["seconds"].tolist() == [500, 1000, 1500, 2000, 2500, 3000, 3400]
    assert log["stage"].tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_what_a_line_does_not_say_is_nan(tmp_path):
    log = read_log(written(tmp_path / "log.jsonl", {"step": 1, "loss": 3.0}, {"step": 2, "loss": None, "adversarial": 4}))
    assert math.isnan(log["adversarial"][0]) and log["adversarial"][1] == 4
    assert math.isnan(log["loss"][1])


def test_a_log_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="source='unett': there is no log unett; allowed are 'clip', 'auto"):
        read_log("unett")
    with pytest.raises(FileNotFoundError, match="there is no log"):
        read_log(tmp_path)  # a folder is no log


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"step": 1}\n{"step": 2, "lo', r"log.jsonl, line 2 is not JSON"),
        ("[1, 2]\n", r"line 1 must be an object of numbers with a step, .*; got '\[1, 2\]'"),
        ('{"loss": 1}\n', "with a step"),
        ('{"step": 1, "loss": "low"}\n', "object of numbers"),
        ("", "is empty"),
    ],
)
def test_what_is_no_log_is_an_error_that_names_the_line(tmp_path, text, message):
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_log(path)


@pytest.mark.parametrize("training", TRAININGS)
def test_the_logs_of_the_shipped_weights_can_be_read(training):
    log = read_log(training)
    computed = log["step"][np.isfinite(log["loss"])]  # a step can have a second line, without a loss: how its samples did
    assert (np.diff(computed) > 0).all() and (np.diff(log["step"]) >= 0).all() and (np.diff(log["seconds"]) >= 0).all()
    assert all(len(column) == len(log["step"]) for column in log.values())


def test_a_running_mean_has_fewer_values_at_the_ends_and_skips_gaps():
    assert running_mean([1, 2, 6, 3, 1], window=3) == pytest.approx([1.5, 3, 11 / 3, 10 / 3, 2])
    assert running_mean([1, math.nan, 5], window=3) == pytest.approx([1, 3, 5])
    assert np.isnan(running_mean([math.nan, math.nan, 1.0], window=1)).tolist() == [True, True, False]
    assert running_mean([4, 8], window=0) == pytest.approx([4, 8])


def test_the_band_holds_nearly_all_of_what_varies_as_before():
    values = 3 + 0.5 * np.random.default_rng(0).standard_normal(4000)
    mean, low, high = band(values, window=400)
    middle = slice(400, -400)
    assert mean[middle] == pytest.approx(3, abs=0.1)
    assert (high - low)[middle] / 4 == pytest.approx(0.5, abs=0.07)
    assert ((low < values) & (values < high)).mean() == pytest.approx(0.954, abs=0.01)
