"""What holds for every setting: hypothesis looks for one where it does not."""

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ldm_tutorial.schedulers import COURSE, SCHEDULERS, EulerDiscreteScheduler, make_scheduler, noise_schedule

# The same examples every time, and no complaint on a busy machine.
SETTINGS = settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

NAMES = st.sampled_from(list(SCHEDULERS))
SIGMA_NAMES = st.sampled_from(["euler", "euler_a"])
SCHEDULES = st.sampled_from(["linear", "scaled_linear", "cosine"])
SPACINGS = st.sampled_from(noise_schedule.SPACINGS)
STEPS = st.integers(1, 1000)
TIMESTEPS = st.integers(0, 999)


@pytest.mark.parametrize("spacing", noise_schedule.SPACINGS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_timesteps_fall_strictly_within_range_for_every_number_of_steps(name, spacing):
    scheduler = make_scheduler(name, timestep_spacing=spacing)
    for n in range(1, 1001):
        scheduler.set_timesteps(n)
        t = scheduler.timesteps.unique_consecutive()  # Heun asks twice at one
        assert len(t) == n
        assert (t.diff() < 0).all()
        assert t[0] <= 999
        assert t[-1] >= 0


@given(st.integers(2, 3000), st.data(), SPACINGS, st.integers(0, 50))
@SETTINGS
def test_timesteps_fall_strictly_within_range_for_every_training_length(T, data, spacing, offset):
    n = data.draw(st.integers(1, T))
    t = noise_schedule.spaced_timesteps(spacing, n, T, offset)
    assert len(t) == n
    assert (t[1:].round() < t[:-1].round()).all()
    assert t[0] <= T - 1
    assert t[-1] >= 0


@given(SIGMA_NAMES, SCHEDULES, SPACINGS, STEPS, st.booleans())
@SETTINGS
def test_sigmas_fall_strictly_and_end_at_0(name, schedule, spacing, n, karras):
    options = {"use_karras_sigmas": karras} if name == "euler" else {}
    scheduler = make_scheduler(name, beta_schedule=schedule, timestep_spacing=spacing, **options)
    scheduler.set_timesteps(n)
    assert len(scheduler.sigmas) == n + 1
    assert (scheduler.sigmas.diff() < 0).all()
    assert scheduler.sigmas[-1] == 0
    assert scheduler.init_noise_sigma >= scheduler.sigmas[0].item()


@given(STEPS, st.floats(0.1, 500), st.floats(0, 2), st.floats(2, 20), st.booleans(), SPACINGS)
@SETTINGS
def test_churn_raises_levels_as_algorithm_2_says(n, s_churn, s_tmin, s_tmax, karras, spacing):
    options = {"use_karras_sigmas": karras, "timestep_spacing": spacing}
    scheduler = EulerDiscreteScheduler(s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, **options)
    plain = EulerDiscreteScheduler(**options)
    scheduler.set_timesteps(n)
    plain.set_timesteps(n)
    assert torch.equal(scheduler.sigmas, plain.sigmas)
    gamma = min(s_churn / n, math.sqrt(2) - 1)
    ratio = scheduler.sigmas_hat[:-1].double() / scheduler.sigmas[:-1].double()
    levels = zip(scheduler.sigmas.tolist(), ratio.tolist(), scheduler.timesteps.tolist(), plain.timesteps.tolist())
    for sigma, raised, t, plain_t in levels:
        inside = s_tmin < sigma * (1 - 1e-6) and sigma * (1 + 1e-6) < s_tmax
        outside = sigma * (1 + 1e-6) < s_tmin or s_tmax < sigma * (1 - 1e-6)
        fits = sigma * (1 + gamma) < 14.6146
        too_high = sigma * (1 + gamma) > 14.6147
        if inside and fits:
            assert raised == pytest.approx(1 + gamma, rel=1e-6)
            assert t > plain_t or gamma < 1e-4
        elif outside or too_high:
            assert raised == pytest.approx(1, abs=1e-6)
            assert t == pytest.approx(plain_t, abs=2e-4)
    assert scheduler.sigmas_hat.max() <= 14.61465  # never above what the model was trained on


@given(SCHEDULES, st.booleans(), TIMESTEPS)
@SETTINGS
def test_alpha_bar_and_sigma_tell_the_same_in_both_spaces(schedule, rescale, t):
    options = {"beta_schedule": schedule, "rescale_betas_zero_snr": rescale and t < 999, "prediction_type": "v_prediction"}
    ddim, euler = make_scheduler("ddim", **options), make_scheduler("euler", **options)
    assert ddim.alpha_bar_at(t).item() == pytest.approx(euler.alpha_bar_at(t).item(), rel=2e-6)
    assert ddim.sigma_at(t).item() == pytest.approx(euler.sigma_at(t).item(), rel=2e-6)


@given(NAMES, SCHEDULES, TIMESTEPS)
@SETTINGS
def test_noisy_pictures_have_the_variance_of_the_closed_form(name, schedule, t):
    scheduler = make_scheduler(name, beta_schedule=schedule)
    generator = torch.Generator().manual_seed(t)
    x0, noise = 3 * torch.randn(2, 1, 64, 64, generator=generator), torch.randn(2, 1, 64, 64, generator=generator)
    x = scheduler.add_noise(x0, noise, t)
    alpha_bar = scheduler.alpha_bar_at(t).item()
    expected = alpha_bar * 9 + (1 - alpha_bar)
    if hasattr(scheduler, "sigmas"):
        expected /= alpha_bar
    assert x.var().item() == pytest.approx(expected, rel=0.08)


@given(NAMES, st.lists(TIMESTEPS, min_size=3, max_size=3))
@SETTINGS
def test_every_picture_of_a_batch_has_its_own_timestep(name, t):
    scheduler = make_scheduler(name)
    x0 = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    noise = x0.roll(1)
    together = scheduler.add_noise(x0, noise, torch.tensor(t))
    alone = torch.cat([scheduler.add_noise(x0[i : i + 1], noise[i : i + 1], t[i]) for i in range(3)])
    assert torch.equal(together, alone)


@given(NAMES, SCHEDULES, STEPS, st.data())
@SETTINGS
def test_the_true_noise_or_velocity_gives_back_the_clean_picture(name, schedule, n, data):
    prediction = data.draw(st.sampled_from(["epsilon", "v_prediction"]))
    scheduler = make_scheduler(name, beta_schedule=schedule, prediction_type=prediction)
    scheduler.set_timesteps(n)
    t = scheduler.timesteps[scheduler.evaluations_per_step * data.draw(st.integers(0, n - 1))]
    generator = torch.Generator().manual_seed(n)
    x0, noise = (torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    x = scheduler.add_noise(x0, noise, t)
    output = noise if prediction == "epsilon" else scheduler.get_velocity(x0, noise, t)
    step = scheduler.step(output, t, x, generator=generator)
    sigma = scheduler.sigma_at(t).item()  # rounding of ᾱ and σ to float32 counts for σ times as much in x0
    torch.testing.assert_close(step.pred_original_sample, x0, rtol=0, atol=2e-6 * (1 + sigma))


@given(SCHEDULES, STEPS, SPACINGS, st.floats(0, 3))
@SETTINGS
def test_old_and_new_noise_together_have_the_variance_of_the_next_level(schedule, n, spacing, eta):
    """With the true noise ε, x_next = x0 + (what is left of ε) + (new noise): variances add up, for every eta."""
    ancestral = make_scheduler("euler_a", beta_schedule=schedule, timestep_spacing=spacing, eta=eta)
    ancestral.set_timesteps(n)
    x0, noise = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    for i in {0, n // 2, n - 1}:
        t, sigma_next = ancestral.timesteps[i], ancestral.sigmas[i + 1].item()
        x = ancestral.add_noise(x0, noise, t)
        seeds = [torch.Generator().manual_seed(7) for _ in range(2)]
        drawn = torch.randn(1, 1, generator=seeds[0]).item()
        moved = ancestral.step(noise, t, x, seeds[1]).prev_sample.item()
        straight = make_scheduler("euler_a", beta_schedule=schedule, timestep_spacing=spacing, eta=0.0)
        straight.set_timesteps(n)
        assert straight.step(noise, t, x).prev_sample.item() == pytest.approx(sigma_next, rel=1e-5, abs=1e-6)
        # moved = down + up * drawn, with down² + up² = next²; and so (moved, drawn) leave one unknown, up
        sigma = ancestral.sigmas[i].item()
        up = min(sigma_next, eta * sigma_next * math.sqrt(sigma**2 - sigma_next**2) / sigma)
        assert moved == pytest.approx(math.sqrt(max(sigma_next**2 - up**2, 0)) + up * drawn, rel=1e-5, abs=1e-6)


@given(st.sampled_from(COURSE), STEPS)
@SETTINGS
def test_steps_can_be_taken_in_any_order(name, n):
    scheduler = make_scheduler(name)
    scheduler.set_timesteps(n)
    x = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))

    def step(i):
        return scheduler.step(x.roll(1), scheduler.timesteps[i], x, torch.Generator().manual_seed(0)).prev_sample

    forwards = [step(i) for i in (0, n // 2, n - 1)]
    backwards = [step(i) for i in (n - 1, n // 2, 0)]
    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards)))


@pytest.mark.parametrize("n", [1, 10, 100, 999, 1000])
@pytest.mark.parametrize("rescale", [False, True])
def test_karras_timesteps_never_coincide(rescale, n):
    options = {"rescale_betas_zero_snr": rescale, "prediction_type": "v_prediction"}
    scheduler = EulerDiscreteScheduler(use_karras_sigmas=True, **options)
    scheduler.set_timesteps(n)
    assert (scheduler.timesteps.diff() < 0).all()
    assert [scheduler.index_of(t) for t in scheduler.timesteps] == list(range(n))


def test_every_churned_step_has_a_timestep_of_its_own():
    """Of 6,000 random settings 4 brought two levels to one float32 timestep; this is one of them."""
    scheduler = EulerDiscreteScheduler(s_churn=57.0, timestep_spacing="trailing")
    scheduler.set_timesteps(389)
    assert [scheduler.index_of(t) for t in scheduler.timesteps] == list(range(389))


def test_two_levels_at_one_timestep_are_told_apart_by_the_smallest_difference():
    apart = noise_schedule.distinct(np.array([999.0, 500.0, 999.0, 999.0]))
    assert apart.dtype == np.float32
    assert len(set(apart.tolist())) == 4
    assert np.abs(apart - [999, 500, 999, 999]).max() < 2e-4


def test_churned_noise_is_scaled_by_s_noise():
    x = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))

    def step(s_noise):
        scheduler = EulerDiscreteScheduler(s_churn=10.0, s_noise=s_noise)
        scheduler.set_timesteps(20)
        return scheduler.step(x.roll(1), scheduler.timesteps[9], x, torch.Generator().manual_seed(1)).prev_sample

    none, once, twice = step(0.0), step(1.0), step(2.0)
    assert (once - none).abs().max() > 0.1
    torch.testing.assert_close(twice - none, 2 * (once - none))


def test_a_level_between_two_timesteps_is_placed_by_its_logarithm():
    train_sigmas = EulerDiscreteScheduler().train_sigmas.astype(np.float64)
    between = np.sqrt(train_sigmas[:-1] * train_sigmas[1:])
    assert np.allclose(noise_schedule.sigmas_to_timesteps(between, train_sigmas), np.arange(999) + 0.5, atol=1e-9)


@pytest.mark.parametrize("karras", [False, True])
def test_sigma_at_a_visited_timestep_is_the_visited_level(karras):
    scheduler = EulerDiscreteScheduler(use_karras_sigmas=karras, s_churn=10.0)
    scheduler.set_timesteps(25)
    assert torch.equal(scheduler.sigma_at(scheduler.timesteps), scheduler.sigmas_hat[:-1].double())
