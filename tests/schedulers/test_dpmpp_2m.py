"""DPM-Solver++(2M): diffusers' steps, k-diffusion's and the paper's formulas, second order, and an order that is checked.

Where diffusers is not followed: it rounds the timesteps of Karras' levels to whole numbers (k-diffusion does not), so that
several levels may share one; with "leading" it begins at 501 for n = 1; for n = 1000, "linspace" visits a timestep twice (NaN)
and "leading" only t = 1.
"""

import itertools
import math

import diffusers
import numpy as np
import pytest
import torch

from ldm_tutorial.lessons.toy import GaussianMixture
from ldm_tutorial.schedulers import DPMSolverMultistepScheduler, make_scheduler

V15 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SPACINGS = ["leading", "linspace", "trailing"]
MIXTURE = GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.8, 0.7, 0.6], [0.5, 0.3, 0.2])


def set_up(n: int, **settings) -> DPMSolverMultistepScheduler:
    scheduler = DPMSolverMultistepScheduler(**settings)
    scheduler.set_timesteps(n)
    return scheduler


def run(scheduler, model, x):
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("spacing", "karras"), list(itertools.product(SPACINGS, [False, True])))
@pytest.mark.parametrize("options", [{}, {"lower_order_final": True, "euler_at_final": True}], ids=str)
def test_every_step_equals_diffusers(options, spacing, karras, prediction, pictures):
    """With final σ = 0 the last step is of first order in diffusers, whatever its options say."""
    settings = {**V15, "timestep_spacing": spacing, "use_karras_sigmas": karras, "prediction_type": prediction}
    for n in (2, 3, 14, 20, 37):
        ours = DPMSolverMultistepScheduler(**settings)
        theirs = diffusers.DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2, **settings, **options)
        ours.set_timesteps(n)
        theirs.set_timesteps(n)
        told = ours.timesteps.round().long()
        assert told.tolist() == theirs.timesteps.tolist()
        theirs.set_begin_index(0)  # else it looks t up, and rounded ones are not unique
        torch.testing.assert_close((1 / ours.alpha_bars - 1).sqrt(), theirs.sigmas, rtol=3e-5, atol=0, check_dtype=False)
        assert ours.init_noise_sigma == theirs.init_noise_sigma == 1
        x = their_x = pictures
        for i, t in enumerate(ours.timesteps):
            output = pictures.roll(i)
            x = ours.step(output, t, x).prev_sample
            their_x = theirs.step(output, theirs.timesteps[i], their_x).prev_sample
            assert (x - their_x).abs().max() <= 3e-5 * their_x.abs().max(), f"step {i} of {n}"


@pytest.mark.parametrize("spacing", SPACINGS)
def test_timesteps_equal_diffusers_for_every_number_of_steps(spacing):
    ours = make_scheduler("dpmpp_2m", timestep_spacing=spacing)
    theirs = diffusers.DPMSolverMultistepScheduler(**V15, timestep_spacing=spacing)
    different = []
    for n in range(1, 1001):
        ours.set_timesteps(n)
        theirs.set_timesteps(n)
        assert len(ours.timesteps) == n
        if ours.timesteps.tolist() != theirs.timesteps.tolist():
            different.append(n)
    if spacing == "linspace":
        assert different == [1000]
    elif spacing == "leading":
        assert different == [1, *(n for n in range(2, 999) if 1000 % (n + 1) > 100), 999, 1000]  # 999: begins at t = 1000
    else:
        assert all(len(np.arange(1000, 0, -1000 / n)) == n + 1 for n in different)


def test_it_is_k_diffusions_formula_for_x_with_growing_noise(model, pictures):
    """x / sqrt(ᾱ) = x0 + σ ε, t = -log σ: x' = σ'/σ x - expm1(-h) D, with D = (1 + 1 / 2r) D_i - 1 / 2r D_{i-1}."""
    scheduler = set_up(9, use_karras_sigmas=True)
    sigmas = (1 / scheduler.alpha_bars.double() - 1).sqrt().tolist()
    x, old = pictures.double() * (sigmas[0] ** 2 + 1) ** 0.5, None
    for i, t in enumerate(scheduler.timesteps):
        denoised = x - sigmas[i] * model(x / (sigmas[i] ** 2 + 1) ** 0.5, t)
        if sigmas[i + 1] == 0:
            x = denoised
            continue
        h = math.log(sigmas[i]) - math.log(sigmas[i + 1])
        D = denoised
        if old is not None:
            r = (math.log(sigmas[i - 1]) - math.log(sigmas[i])) / h
            D = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * old
        x, old = sigmas[i + 1] / sigmas[i] * x - math.expm1(-h) * D, denoised
    torch.testing.assert_close(run(scheduler, model, pictures.double()), x, rtol=1e-5, atol=1e-5)


def test_its_first_and_last_step_are_ddims(pictures):
    scheduler, ddim = (
        set_up(10, timestep_spacing="trailing"),
        make_scheduler("ddim", timestep_spacing="trailing", set_alpha_to_one=True),
    )
    ddim.set_timesteps(10)
    for i in (0, 9):
        scheduler.set_timesteps(10)
        t = scheduler.timesteps[i]
        if i:  # with a step before it, which the last one must not use
            scheduler.step(pictures.flip(0), scheduler.timesteps[i - 1], pictures)
        found, expected = (s.step(pictures.roll(1), t, pictures) for s in (scheduler, ddim))
        torch.testing.assert_close(found.prev_sample, expected.prev_sample, rtol=1e-5, atol=1e-5)


def exact(x, sigma, last, n=200):
    """Along dx / d log σ = x - D(x; σ) by Runge-Kutta of order 4, for x = x0 + σ ε."""

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


def errors(scheduler, steps: tuple[int, ...], to_the_end: bool) -> list[float]:
    """Distance from the exact path's end: at σ = 0, or at the last level above it, which all Karras levels share."""
    found = []
    for n in steps:
        scheduler.set_timesteps(n)
        levels = scheduler.sigma_at(scheduler.timesteps).tolist()
        noise = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        start = MIXTURE.sample(64, torch.Generator().manual_seed(1)) + levels[0] * noise
        model, x, visited = MIXTURE.as_model(scheduler), start / (levels[0] ** 2 + 1) ** 0.5, []
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t), t, x).prev_sample
            visited.append(x)
        end = x if to_the_end else visited[-2] * (levels[-1] ** 2 + 1) ** 0.5
        found.append((end - exact(start, levels[0], 1e-4 if to_the_end else levels[-1])).pow(2).mean().sqrt().item())
    return found


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_it_is_of_second_order_down_to_its_last_step(prediction):
    found = errors(make_scheduler("dpmpp_2m", use_karras_sigmas=True, prediction_type=prediction), (20, 40, 80, 160), False)
    assert 1.8 < math.log(found[0] / found[-1]) / math.log(8) < 2.3, found


def test_with_as_many_evaluations_it_ends_nearer_to_the_truth_than_euler():
    [ours] = errors(make_scheduler("dpmpp_2m", use_karras_sigmas=True), (40,), True)
    [eulers] = errors(make_scheduler("ddim", timestep_spacing="linspace", set_alpha_to_one=True), (40,), True)
    assert ours < eulers / 5


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("karras", [False, True])
def test_every_number_of_steps_gives_finite_numbers_and_distinct_levels(karras, spacing, pictures):
    scheduler = make_scheduler("dpmpp_2m", timestep_spacing=spacing, use_karras_sigmas=karras)
    for n in (1, 2, 3, 61, 333, 334, 500, 501, 999, 1000):
        scheduler.set_timesteps(n)
        assert (scheduler.timesteps.diff() < 0).all()
        assert (scheduler.alpha_bars.diff() > 0).all()
        x = pictures[:, :1]
        for t in scheduler.timesteps:
            x = scheduler.step(0.1 * x, t, x).prev_sample
        assert x.isfinite().all(), n


def test_karras_levels_are_those_that_noise_is_added_at(pictures):
    scheduler = set_up(10, use_karras_sigmas=True)
    for i, t in enumerate(scheduler.timesteps):
        assert scheduler.alpha_bar_at(t).item() == scheduler.alpha_bars[i].item()
    x = scheduler.add_noise(pictures, pictures.flip(0), scheduler.timesteps[4])
    alpha_bar = scheduler.alpha_bars[4]
    torch.testing.assert_close(x, alpha_bar.sqrt() * pictures + (1 - alpha_bar).sqrt() * pictures.flip(0))


def test_zero_terminal_snr_steps_equal_diffusers(pictures):
    settings = {**V15, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    ours, theirs = DPMSolverMultistepScheduler(**settings), diffusers.DPMSolverMultistepScheduler(**settings)
    ours.set_timesteps(20)
    theirs.set_timesteps(20)
    x = their_x = pictures
    for i, t in enumerate(ours.timesteps):
        x = ours.step(pictures.roll(i), t, x).prev_sample
        their_x = theirs.step(pictures.roll(i), t, their_x).prev_sample
        assert (x - their_x).abs().max() <= 3e-5 * their_x.abs().max(), i


def test_a_timestep_out_of_order_is_an_error_that_names_the_right_one(pictures):
    scheduler = set_up(3)
    first, second, third = scheduler.timesteps.tolist()
    scheduler.step(pictures, first, pictures)
    for wrong in (first, third):
        with pytest.raises(ValueError, match=f"t={wrong} is out of order: after t={first} comes t={second}"):
            scheduler.step(pictures, wrong, pictures)
    for t in (second, third, first):  # an error has changed nothing; after the last, a new run
        scheduler.step(pictures, t, pictures)
    scheduler.set_timesteps(3)
    alone = scheduler.step(pictures, second, pictures).prev_sample  # a run may begin here: nothing is remembered
    other = set_up(3)
    assert torch.equal(other.step(pictures, second, pictures).prev_sample, alone)


@pytest.mark.parametrize("name", ["dpmpp_2m", "DPM++ 2M", "dpm++_2m", "DPM-Solver++(2M)", "DPMSolverMultistepScheduler"])
def test_its_names(name):
    assert type(make_scheduler(name)) is DPMSolverMultistepScheduler


def test_options_of_diffusers_class_that_would_change_its_steps_are_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="ignores .*algorithm_type='sde-dpmsolver\\+\\+', solver_order=3"):
        DPMSolverMultistepScheduler.from_config({**V15, "algorithm_type": "sde-dpmsolver++", "solver_order": 3})


def test_it_draws_with_the_pipeline(tiny_pipe):
    steps = list(tiny_pipe.stream("a cat", scheduler="dpmpp_2m", steps=4, seed=1))
    [picture] = tiny_pipe("a cat", scheduler="DPM++ 2M", steps=4, seed=1, progress=False)
    assert (len(steps), picture.info["scheduler"]) == (4, "dpmpp_2m")
    assert picture.tobytes() == tiny_pipe.decode(steps[-1].latents)[0].tobytes()
