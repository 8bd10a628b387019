"""Heun's method: diffusers' steps, the paper's formulas, second order, and an order of calls that is checked."""

import itertools
import math

import diffusers
import pytest
import torch

from ldm_tutorial.lessons.toy import GaussianMixture
from ldm_tutorial.schedulers import EulerDiscreteScheduler, HeunDiscreteScheduler, make_scheduler

V15 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
MIXTURE = GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.8, 0.7, 0.6], [0.5, 0.3, 0.2])


def run(scheduler, model, x):
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


def set_up(n: int, **settings) -> HeunDiscreteScheduler:
    scheduler = HeunDiscreteScheduler(**settings)
    scheduler.set_timesteps(n)
    return scheduler


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("spacing", "karras"), list(itertools.product(["leading", "linspace", "trailing"], [False, True])))
def test_every_evaluation_equals_diffusers(spacing, karras, prediction, pictures):
    settings = {**V15, "timestep_spacing": spacing, "use_karras_sigmas": karras, "prediction_type": prediction}
    for n in (2, 3, 20, 37):
        ours, theirs = HeunDiscreteScheduler(**settings), diffusers.HeunDiscreteScheduler(**settings)
        ours.set_timesteps(n)
        theirs.set_timesteps(n)
        assert len(ours.timesteps) == 2 * n - 1
        torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.sigmas, theirs.sigmas.unique().flip(0), rtol=1e-6, atol=0)
        assert ours.init_noise_sigma == pytest.approx(float(theirs.init_noise_sigma), rel=1e-6)
        x = ours.init_noise_sigma * pictures
        for i, (t, their_t) in enumerate(zip(ours.timesteps, theirs.timesteps, strict=True)):
            output = pictures.roll(i)
            their_input = theirs.scale_model_input(x, their_t)
            torch.testing.assert_close(ours.scale_model_input(x, t), their_input, rtol=1e-5, atol=1e-5)
            step, theirs_step = ours.step(output, t, x), theirs.step(output, their_t, x)
            for found, expected in zip(step, theirs_step.values(), strict=True):
                scale = max(x.abs().max(), expected.abs().max())
                assert (found - expected).abs().max() <= 3e-6 * scale, f"evaluation {i}"
            x = theirs_step.prev_sample


def test_two_evaluations_are_lines_4_to_8_of_algorithm_1(model, pictures):
    scheduler = set_up(6, use_karras_sigmas=True)
    sigmas, x = scheduler.sigmas.double().tolist(), scheduler.sigmas[0].item() * pictures.double()
    times = list(dict.fromkeys(scheduler.timesteps.tolist()))  # t at which the network knows each σ

    def d(x, i):
        return model(x / (sigmas[i] ** 2 + 1) ** 0.5, times[i])  # (x - D) / σ is the noise

    expected = x
    for i in range(6):
        d_i = d(expected, i)
        x_next = expected + (sigmas[i + 1] - sigmas[i]) * d_i
        if sigmas[i + 1] != 0:
            x_next = expected + (sigmas[i + 1] - sigmas[i]) * (d_i + d(x_next, i + 1)) / 2
        expected = x_next
    torch.testing.assert_close(run(scheduler, model, x), expected, rtol=1e-6, atol=1e-6)


def errors(scheduler, steps: tuple[int, ...], to_the_end: bool) -> list[float]:
    """Distance from the exact path's end: at σ = 0, or at the last level above it, from Karras' levels, which share it."""
    found = []
    for n in steps:
        scheduler.set_timesteps(n)
        top, bottom = scheduler.sigmas[0].item(), scheduler.sigmas[-2].item()
        noise = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        start = MIXTURE.sample(64, torch.Generator().manual_seed(1)) + top * noise
        visited, x, model = [], start, MIXTURE.as_model(scheduler)
        for t in scheduler.timesteps:
            x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x).prev_sample
            visited.append(x)
        end = x if to_the_end else visited[-2]
        found.append((end - exact(start, top, 1e-4 if to_the_end else bottom)).pow(2).mean().sqrt().item())
    return found


def exact(x, sigma, last, n=200):
    """Along dx / d log σ = x - D(x; σ) by Runge-Kutta of order 4."""

    def slope(x, log_sigma):
        alpha_bar = 1 / (math.exp(2 * log_sigma) + 1)
        return x - MIXTURE.denoised(x * alpha_bar**0.5, alpha_bar)

    h = (math.log(last) - math.log(sigma)) / n
    for i in range(n):
        here = math.log(sigma) + i * h
        k1 = slope(x, here)
        k2 = slope(x + h / 2 * k1, here + h / 2)
        k3 = slope(x + h / 2 * k2, here + h / 2)
        k4 = slope(x + h * k3, here + h)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def test_it_is_of_second_order_where_euler_is_of_first():
    steps = (20, 40, 80, 160)
    heun, euler = (
        errors(scheduler, steps, to_the_end=False)
        for scheduler in (HeunDiscreteScheduler(use_karras_sigmas=True), EulerDiscreteScheduler(use_karras_sigmas=True))
    )
    orders = [math.log(found[0] / found[-1]) / math.log(8) for found in (heun, euler)]
    assert 1.8 < orders[0] < 2.3, heun
    assert 0.8 < orders[1] < 1.2, euler


def test_with_as_many_evaluations_it_ends_nearer_to_the_truth_than_euler():
    [heun] = errors(HeunDiscreteScheduler(), (40,), to_the_end=True)  # 79 evaluations
    [euler] = errors(EulerDiscreteScheduler(), (79,), to_the_end=True)
    assert heun < euler / 5


def test_a_run_may_begin_at_any_step(model, pictures):
    """As image to image does. The level of a step is there twice: begun there, it is the first half."""
    whole = set_up(8)
    for k in range(8):
        part = set_up(8)
        x = part.sigmas[k].item() * pictures
        [first, *rest] = part.timesteps[2 * k :]
        found = part.step(model(x, first), first, x).prev_sample
        torch.testing.assert_close(found, x + (part.sigmas[k + 1] - part.sigmas[k]) * model(x, first))
        assert len(rest) == len(whole.timesteps) - 2 * k - 1


def test_a_timestep_out_of_order_is_an_error_that_names_the_right_one(pictures):
    scheduler = set_up(3)  # 999, 499.5, 499.5, 0, 0
    scheduler.step(pictures, 999, pictures)
    for wrong in (999, 0):
        with pytest.raises(ValueError, match=f"t={wrong} is out of order: after t=999 comes t=499.5, .*HeunDiscreteScheduler"):
            scheduler.step(pictures, wrong, pictures)
    with pytest.raises(ValueError, match=r"x \(2, 4, 5, 6\) must have the shape .* \(3, 4, 5, 6\)"):
        scheduler.step(pictures[:2], 499.5, pictures[:2])
    for t in (499.5, 499.5, 0, 0):  # an error has changed nothing
        scheduler.step(pictures, t, pictures)
    scheduler.step(pictures, 999, pictures)  # after the last, a new run
    scheduler.set_timesteps(3)  # and so it is after this
    scheduler.step(pictures, 999, pictures)


def test_a_wrong_output_leaves_the_run_where_it_is(pictures):
    scheduler, other = set_up(3), set_up(3)
    first = scheduler.step(pictures, 999, pictures)
    other.step(pictures, 999, pictures)
    with pytest.raises(ValueError, match="model_output"):
        scheduler.step(pictures[:1], 499.5, first.prev_sample)
    after = [s.step(pictures.flip(0), 499.5, first.prev_sample).prev_sample for s in (scheduler, other)]
    assert torch.equal(*after)


def test_it_draws_no_noise(model, pictures):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    scheduler = set_up(4)
    for t in scheduler.timesteps:
        scheduler.step(pictures, t, pictures, generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_it_draws_with_the_pipeline(tiny_pipe):
    steps = list(tiny_pipe.stream("a cat", scheduler="heun", steps=3, seed=1))
    assert [step.timestep for step in steps] == [999, 499.5, 499.5, 0, 0]
    [picture] = tiny_pipe("a cat", scheduler="heun", steps=3, seed=1, progress=False)
    assert picture.info["scheduler"] == "heun"
    assert picture.tobytes() == tiny_pipe.decode(steps[-1].latents)[0].tobytes()
    assert make_scheduler("Heun").label.title == "Heun"
