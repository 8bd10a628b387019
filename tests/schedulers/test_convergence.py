"""Against the truth: on a Gaussian mixture the best possible model is a formula, so that all error is the scheduler's.

The mixture's parts overlap. Where they did not, points between two parts would be torn apart by the smallest error, and no
order of convergence could be seen at these numbers of steps.
"""

import functools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ldm_tutorial.lessons.toy import GaussianMixture
from ldm_tutorial.schedulers import EulerDiscreteScheduler, Step, make_scheduler, randn

MIXTURE = GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.8, 0.7, 0.6], [0.5, 0.3, 0.2])
MEAN = MIXTURE.weights @ MIXTURE.means
SPREAD = MIXTURE.means - MEAN
COVARIANCE = SPREAD.T @ (MIXTURE.weights[:, None] * SPREAD) + (MIXTURE.weights * MIXTURE.stds**2).sum() * torch.eye(2)
LOWEST, HIGHEST = 0.029167, 14.61464  # v1.5's noise levels


@functools.cache
def truth(sigma: float) -> tuple[Tensor, Tensor]:
    """Points at noise level σ, and where the probability-flow ODE takes them: dx / d log σ = x - D(x; σ), by Runge-Kutta."""

    def slope(x: Tensor, log_sigma: float) -> Tensor:
        alpha_bar = 1 / (math.exp(2 * log_sigma) + 1)
        return x - MIXTURE.denoised(x * alpha_bar**0.5, alpha_bar)

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    start = x = MIXTURE.sample(64, generator) + sigma * noise
    levels = np.linspace(math.log(sigma), math.log(1e-4), 201)
    for here, there in zip(levels, levels[1:]):
        h = there - here
        k1 = slope(x, here)
        k2 = slope(x + h / 2 * k1, here + h / 2)
        k3 = slope(x + h / 2 * k2, here + h / 2)
        k4 = slope(x + h * k3, there)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return start, x


def sample(scheduler, x: Tensor, model=None, generator=None, scaled=True, in_sigma_space=True) -> Tensor:
    """The sampling loop, from x at the first timestep; in_sigma_space: that x is x0 + σ ε for every scheduler."""
    model = model or MIXTURE.as_model(scheduler)
    if in_sigma_space and hasattr(scheduler, "alpha_bars"):
        x = x * scheduler.alpha_bars[0].double().sqrt()
    for t in scheduler.timesteps:
        x_in = scheduler.scale_model_input(x, t) if scaled else x
        x = scheduler.step(model(x_in, t), t, x, generator).prev_sample
    return x


def errors(scheduler, steps=(20, 40, 80, 160), **options) -> np.ndarray:
    """Root mean square distance from the truth, for each number of steps."""
    found = []
    for n in steps:
        scheduler.set_timesteps(n)
        start, end = truth(scheduler.sigma_at(scheduler.timesteps[0]).item())
        found.append((sample(scheduler, start, **options) - end).pow(2).mean().sqrt().item())
    return np.array(found)


def order(found: np.ndarray) -> float:
    """p in error ~ n^-p: the slope of log error against log n, when n doubles each time."""
    return -np.polyfit(np.arange(len(found)) * math.log(2), np.log(found), 1)[0]


def is_right(found: np.ndarray) -> bool:
    return bool(0.9 < order(found) < 1.1 and found[-1] < 0.015)


DETERMINISTIC = [
    ("ddim", {"timestep_spacing": "linspace", "set_alpha_to_one": True}),
    ("ddim", {"timestep_spacing": "trailing", "set_alpha_to_one": True}),
    ("ddim", {"timestep_spacing": "linspace", "set_alpha_to_one": True, "prediction_type": "v_prediction"}),
    ("ddim", {"timestep_spacing": "leading"}),
    ("euler", {}),
    ("euler", {"prediction_type": "v_prediction"}),
    ("euler", {"timestep_spacing": "trailing"}),
    ("euler", {"use_karras_sigmas": True}),
    ("euler_a", {"eta": 0.0}),
]


@pytest.mark.parametrize(("name", "settings"), DETERMINISTIC)
def test_deterministic_schedulers_converge_to_the_truth_at_first_order(name, settings):
    found = errors(make_scheduler(name, **settings))
    assert 0.9 < order(found) < 1.1, found
    assert found[-1] < 0.015, found


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_one_step_more_never_makes_it_much_worse(spacing):
    """From pure noise: where T // n falls, "leading" must not begin far below it (501 steps were 13 times worse than 500)."""
    start = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def error(n: int) -> float:
        scheduler = make_scheduler("ddim", timestep_spacing=spacing, set_alpha_to_one=True)
        scheduler.set_timesteps(n)
        return (sample(scheduler, start, in_sigma_space=False) - goal).pow(2).mean().sqrt().item()

    exact = make_scheduler("ddim", timestep_spacing="trailing", set_alpha_to_one=True)
    goal = sample(exact, start, in_sigma_space=False)
    for few, more in ((250, 251), (333, 334), (500, 501), (500, 600)):
        assert error(more) < 2 * error(few) + 1e-3, (few, more)


# ---- the test above has teeth: what other implementations got wrong, done on purpose


def test_an_input_that_is_not_scaled_would_be_seen():
    assert is_right(errors(EulerDiscreteScheduler()))
    assert not is_right(errors(EulerDiscreteScheduler(), scaled=False))


def test_betas_on_a_straight_line_would_be_seen():
    settings = {"timestep_spacing": "linspace", "set_alpha_to_one": True}
    right, wrong = make_scheduler("ddim", **settings), make_scheduler("ddim", beta_schedule="linear", **settings)
    assert not is_right(errors(wrong, model=MIXTURE.as_model(right)))


def test_a_guessed_next_timestep_would_be_seen():
    class Guesses(type(make_scheduler("ddim"))):
        """The next timestep is t - 1000 // n, which "linspace" does not visit."""

        def set_timesteps(self, num_inference_steps, device=None):
            super().set_timesteps(num_inference_steps, device)
            self.stride = self.num_train_timesteps // num_inference_steps

        def step(self, model_output, t, x, generator=None):
            i = self.index_of(t)
            right = self.alpha_bars[i + 1].clone()
            self.alpha_bars[i + 1] = self.alphas_cumprod[t - self.stride] if t >= self.stride else 1.0
            step = super().step(model_output, t, x, generator)
            self.alpha_bars[i + 1] = right
            return step

    assert not is_right(errors(Guesses(timestep_spacing="linspace", set_alpha_to_one=True)))


# ---- schedulers that add noise converge in distribution


def moments(scheduler, n: int, points: int = 10_000) -> tuple[float, float]:
    """Errors of the mean and of the covariance of many samples, drawn with n steps."""
    scheduler.set_timesteps(n)
    generator = torch.Generator().manual_seed(0)
    sigma = scheduler.sigma_at(scheduler.timesteps[0]).item()
    x0 = MIXTURE.sample(points, generator)
    start = x0 + sigma * randn(x0.shape, generator, dtype=torch.float64)  # float32 noise is good enough for moments
    x = sample(scheduler, start, generator=generator)
    return (x.mean(0) - MEAN).abs().max().item(), (x.T.cov() - COVARIANCE).abs().max().item()


STOCHASTIC = [
    ("ddpm", {}),
    ("ddim", {"eta": 1.0}),
    ("ddim", {"eta": 0.5, "prediction_type": "v_prediction"}),
    ("euler_a", {}),
    ("euler_a", {"eta": 0.5}),
    ("euler_a", {"eta": 1.5}),
    ("euler", {"s_churn": 10.0}),
    ("euler", {"s_churn": 5.0, "s_tmin": 0.1, "s_tmax": 5.0, "use_karras_sigmas": True}),
]


@pytest.mark.parametrize(("name", "settings"), STOCHASTIC)
def test_stochastic_schedulers_converge_in_distribution(name, settings):
    """The covariance's error falls with the number of steps; what is left is chance: 10,000 points tell 0.03."""
    scheduler = make_scheduler(name, **settings)
    _, coarse = moments(scheduler, 16)
    off_center, fine = moments(scheduler, 128)
    assert off_center < 0.03
    assert fine < 0.12
    assert fine < coarse / 2


def test_fixed_large_has_the_right_spread_from_few_steps_on_as_its_paper_says():
    """σ² = β is exact for pictures of unit variance; these have 1.10 and 0.85."""
    assert moments(make_scheduler("ddpm", variance_type="fixed_large"), 32)[1] < 0.04
    assert moments(make_scheduler("ddpm", variance_type="fixed_small"), 32)[1] > 0.1


@pytest.mark.parametrize("name", ["ddpm", "ddim", "euler", "euler_a"])
def test_zero_terminal_snr_starts_from_pure_noise_and_ends_on_the_truth(name):
    """With nothing of the picture left at the top, there is nothing to know about it: start from noise alone."""
    scheduler = make_scheduler(name, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
    scheduler.set_timesteps(128)
    generator = torch.Generator().manual_seed(0)
    x = scheduler.init_noise_sigma * randn((10_000, 2), generator, dtype=torch.float64)
    x = sample(scheduler, x, generator=generator, in_sigma_space=False)
    assert (x.mean(0) - MEAN).abs().max() < 0.04
    assert (x.T.cov() - COVARIANCE).abs().max() < 0.1


# ---- if there is but one picture in the world, a sampler must end on it, whatever noise it added on the way

ONE_PICTURE = GaussianMixture([[0.3, -0.2]], [0.0])


def noise_left(scheduler, n: int = 20) -> float:
    """Root mean square distance from the one picture."""
    scheduler.set_timesteps(n)
    generator = torch.Generator().manual_seed(0)
    x = scheduler.init_noise_sigma * randn((1000, 2), generator, dtype=torch.float64)
    end = sample(scheduler, x, ONE_PICTURE.as_model(scheduler), generator, in_sigma_space=False)
    return (end - ONE_PICTURE.means).pow(2).mean().sqrt().item()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *[("ddpm", {"variance_type": variance}) for variance in ("fixed_small", "fixed_large")],
        *[("ddim", {"set_alpha_to_one": True, "eta": eta}) for eta in (0.0, 1.0, 2.0)],
        *[("euler", {"s_churn": churn, "use_karras_sigmas": k}) for churn in (0.0, 10.0) for k in (False, True)],
        *[("euler_a", {"eta": eta}) for eta in (0.0, 1.0, 2.0)],
    ],
)
def test_no_noise_is_left_in_the_picture(name, settings):
    for spacing in ("leading", "linspace", "trailing"):
        assert noise_left(make_scheduler(name, timestep_spacing=spacing, **settings)) < 1e-6


def test_ddim_as_v15_was_shipped_stops_at_the_lowest_noise_level_of_training():
    """set_alpha_to_one=False: ᾱ = 0.99915, not 1. At eta = 0, nothing more is lost than this trace of noise."""
    assert noise_left(make_scheduler("ddim")) == pytest.approx(LOWEST, rel=0.05)


def test_a_last_sigma_that_is_not_0_would_be_seen():
    class NeverFinishes(EulerDiscreteScheduler):
        def set_timesteps(self, *args):
            super().set_timesteps(*args)
            self.sigmas[-1] = LOWEST

    assert noise_left(NeverFinishes()) > 0.02


def test_churn_that_the_model_does_not_see_would_be_seen():
    class NoisesTooLate(EulerDiscreteScheduler):
        """Raises x after the model has looked at it, and takes the old noise away: the new noise stays."""

        def step(self, model_output, t, x, generator=None):
            i = self.index_of(t)
            sigma, sigma_next = self.sigmas[i : i + 2].tolist()
            sigma_hat = sigma * (1 + 10 / len(self.timesteps))
            x_hat = x + (sigma_hat**2 - sigma**2) ** 0.5 * randn(x.shape, generator, dtype=x.dtype)
            return Step(x_hat + (sigma_next - sigma_hat) * model_output, x)

    assert noise_left(NoisesTooLate()) > 0.02
