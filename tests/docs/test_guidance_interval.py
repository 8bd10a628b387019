"""The worked project: guidance in an interval of noise levels is the pipeline's where it should be, and its work is counted."""

import importlib.util
import math
import sys

import lesson_paths
import numpy as np
import pytest
import torch

FILE = lesson_paths.GUIDE / "project" / "guidance_interval.py"


@pytest.fixture(scope="module")
def project():
    spec = importlib.util.spec_from_file_location("guidance_interval", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["guidance_interval"] = module  # dataclasses look there for their types
    spec.loader.exec_module(module)
    yield module
    del sys.modules["guidance_interval"]


@pytest.fixture(scope="module")
def pipes(project):
    """(the package's pipeline, the project's with the same networks): emoji."""
    from ldm_tutorial import load_pipeline

    pipe = load_pipeline("emoji", engine="plain")  # the project predicts the noise by itself, and so plainly
    return pipe, project.IntervalGuidance(pipe.unet, pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.scheduler, pipe.name)


@pytest.fixture(autouse=True)
def one_thread():
    """With two, a core that is busy is left out; and one thread does not round as two do: a picture may differ by a level."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(pipe, interval=None, **options):
    if interval is not None:
        pipe.interval, pipe.evaluations = interval, 0
    return pipe(["a cat face in the style of noto", "a rocket"], seed=[0, 3], steps=4, progress=False, **options)


@pytest.mark.parametrize("scheduler", ["euler", "ddpm"])
def test_the_interval_of_everything_is_the_packages_guidance(pipes, scheduler):
    theirs, ours = pipes
    for a, b in zip(draw(ours, (0.0, math.inf), scheduler=scheduler), draw(theirs, scheduler=scheduler)):
        assert np.array_equal(a, b)
    assert ours.evaluations == 2 * 2 * 4


def test_the_empty_interval_is_guidance_1_for_half_of_the_work(pipes):
    theirs, ours = pipes
    for a, b in zip(draw(ours, (0.0, 0.0)), draw(theirs, guidance_scale=1.0)):
        assert np.array_equal(a, b)
    assert ours.evaluations == 2 * 4


def test_levels_are_counted_where_they_stand(pipes):
    from ldm_tutorial.schedulers import make_scheduler

    _, ours = pipes
    scheduler = make_scheduler("ddim")
    scheduler.set_timesteps(4)
    inside = sum(1.0 < scheduler.sigma_at(t).item() <= 5.0 for t in scheduler.timesteps)
    assert 0 < inside < 4
    draw(ours, (1.0, 5.0), scheduler="ddim")
    assert ours.evaluations == 2 * (4 + inside)


def test_two_neighboring_intervals_change_different_steps(pipes):
    _, ours = pipes
    high, low, nowhere = (draw(ours, interval) for interval in ((3.0, math.inf), (0.0, 3.0), (0.0, 0.0)))
    assert not np.array_equal(high[0], low[0]) and not np.array_equal(high[0], nowhere[0])


def result(project, right, levels=(0, 10)):
    from PIL import Image

    pictures = [[Image.new("RGB", (4, 4), (v, v, v)) for v in levels] for _ in right]
    return project.Result(pictures, torch.tensor(right, dtype=torch.float32), 50.0)


def test_differences_are_of_prompts_and_not_of_pictures(project):
    a, b = result(project, [[1, 1], [1, 0], [0, 0], [1, 1]]), result(project, [[0, 0], [1, 0], [0, 0], [1, 0]])
    mean, low, high = project.difference(a, b)
    assert mean == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    from ldm_tutorial.evaluation.statistics import bootstrap_interval

    assert (low, high) == bootstrap_interval(torch.tensor([1.0, 0.0, 0.0, 0.5]))


def test_variety_is_the_mean_difference_of_two_seeds(project):
    assert result(project, [[1, 1], [0, 0]]).variety == 10.0
    assert result(project, [[1], [0]], levels=(7,)).variety == 0.0


def test_the_table_compares_with_everywhere(project):
    rows = project.table(
        {"everywhere": result(project, [[1, 1], [1, 1]]), "nowhere": result(project, [[0, 0], [1, 1]])}
    ).splitlines()
    assert rows[2].startswith("| everywhere | 50 | 100 % |  |") and "-50" in rows[3]
