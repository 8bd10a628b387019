"""Notebook 10: Karras' noise levels, the midpoint method, and all of EDM's Algorithm 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..lessons.toy import GaussianMixture
from ..schedulers.noise_schedule import karras_sigmas
from . import alone_and_in_pairs, call, cases, close, exercise, shape_of, unknown

_MIXTURE = GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.8, 0.7, 0.6], [0.5, 0.3, 0.2])


def denoised(x: Tensor, sigma: float) -> Tensor:
    """D(x; σ), (b, 2)."""
    alpha_bar = 1 / (sigma**2 + 1)
    return _MIXTURE.denoised(x * alpha_bar**0.5, alpha_bar)


def points(sigma: float) -> Tensor:
    """Fixed points at noise level σ, (7, 2) float64."""
    return sigma * torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# ---- 1. Levels


@exercise(
    "10.1",
    nudge="With rho = 1 the levels must fall in even steps. Print the first and the last one.",
    solution="np.linspace(sigma_max**(1/rho), sigma_min**(1/rho), n) ** rho, and a 0 behind",
)
def karras_levels(answer: Callable) -> str | None:
    """10.1: the n + 1 noise levels of Karras et al. 2022, eq. 5, the last of them 0."""
    for high, low, n, rho in cases(((9.0, 1.0, 3, 2.0), (14.6, 0.03, 10, 7.0))):
        found = call(answer, high, low, n, rho)
        asked = f"my_levels({high:g}, {low:g}, {n}, {rho:g})"
        found = np.asarray([float(value) for value in found])
        right = np.append(karras_sigmas(high, low, n, rho), 0.0)
        if found.shape == right.shape and np.allclose(found, right, rtol=1e-5):
            continue
        if found.shape == right.shape and np.allclose(found[:-1], right[:-1], rtol=1e-5):
            return f"{asked}: the last level must be 0, a picture without noise; yours ends at {found[-1]:.3g}"
        if found.shape == right.shape and np.allclose(np.sort(found)[::-1], right):
            return f"{asked}: the levels must fall: sampling begins with the most noise, and 0 comes last"
        if (
            found.shape == (n + 2,)
            and found[-1] == 0
            and np.allclose(found[:-1], karras_sigmas(high, low, n + 1, rho), rtol=1e-5)
        ):
            return f"{asked} must have {n + 1} values with the 0; yours has {n + 1} levels and a 0"
        if found.shape == right.shape and np.allclose(found, karras_sigmas(high, low, n + 1, rho), rtol=1e-5):
            return f"{asked}: you count the 0 as one of the n levels: n levels down to sigma_min, and a 0 behind"
        if found.shape == right.shape and np.allclose(found, karras_sigmas(high, 1e-12, n + 1, rho), rtol=1e-3, atol=1e-6):
            return f"{asked}: the steps go down to 0: they must go to sigma_min, and the 0 stands behind"
        if found.shape == right[:-1].shape and np.allclose(found, right[:-1], rtol=1e-5):
            return f"{asked}: the 0 at the end is missing, so noise would be left in the picture"
        if found.shape != right.shape:
            return f"{asked} must have {n + 1} values: {n} levels and a 0; yours has {len(found)}"
        for mistake, values in {
            "the levels must fall: sampling begins with the most noise": right[:-1][::-1],
            "even steps in σ: take the roots first": np.linspace(high, low, n),
            "these are the roots: raise them to the power rho": right[:-1] ** (1 / rho),
            "even steps in log σ: that is rho to infinity": np.geomspace(high, low, n),
            "power and root are swapped: first σ^(1/rho), even steps, then ^rho": karras_sigmas(high, low, n, 1 / rho),
            "these are the roots from 1 / rho, with the 0 in their steps: raise them to the power rho": np.linspace(
                high ** (1 / rho), low ** (1 / rho), n
            ),
            "rho is not used: its roots set how the levels crowd": karras_sigmas(high, low, n, 7.0 if rho != 7 else 2.0),
            "the power comes first: take roots, even steps, then the power": np.linspace(high**rho, low**rho, n),
            "divide by n - 1, not by n: the last level must be sigma_min": (
                high ** (1 / rho) + np.arange(n) / n * (low ** (1 / rho) - high ** (1 / rho))
            )
            ** rho,
        }.items():
            if np.allclose(found[:-1], values, rtol=1e-5):
                return f"{asked}: {mistake}"
        first = int(np.argmin(np.isclose(found, right, rtol=1e-5)))
        said = f"{asked}: value {first} (from 0) should be {right[first]:.4g}; yours is {found[first]:.4g}"
        return unknown(torch.as_tensor(found), torch.as_tensor(right), said)
    return None


# ---- 2. The midpoint


def midpoint(
    D: Callable,
    x: Tensor,
    sigmas: Sequence[float],
    only_euler: bool = False,
    heun: bool = False,
    from_middle: bool = False,
    old_sigma: bool = False,
    half: bool = False,
    geometric: bool = False,
    by_sigma: bool = False,
    whole_trial: bool = False,
    average: bool = False,
    at_x: bool = False,
    sigma_in_d: bool = False,
    summed: bool = False,
) -> Tensor:
    """Each switch makes a mistake that the check names."""
    for sigma, sigma_next in zip(sigmas, sigmas[1:]):
        d = (x - D(x, sigma)) / sigma
        if only_euler:
            x = x + (sigma_next - sigma) * d
            continue
        middle = sigma_next if heun else (sigma * sigma_next) ** 0.5 if geometric else (sigma + sigma_next) / 2
        x_middle = x + ((sigma_next if whole_trial else middle) - sigma) * d
        level = sigma if old_sigma else middle
        seen = x if at_x else x_middle
        slope = (seen - D(seen, sigma if sigma_in_d else level)) / (sigma if by_sigma else level)
        slope = (d + slope) / 2 if heun or average else d + slope if summed else slope
        x = (x_middle if from_middle else x) + ((middle if half else sigma_next) - sigma) * slope
    return x


@exercise(
    "10.2",
    nudge="Where is the second slope taken, at which noise level, and where does the step begin that uses it?",
    solution="d here; x_middle = x + (middle - sigma) * d; its slope; x = x + (sigma_next - sigma) * that slope",
)
def midpoint_step(answer: Callable) -> str | None:
    """10.2: one step of the midpoint method."""
    sigmas = [8.0, 3.0, 1.0, 0.3]
    x = points(8.0)
    found = call(answer, denoised, x.clone(), list(sigmas))
    if not isinstance(found, Tensor) or found.shape != x.shape:
        return f"the result must be a tensor {tuple(x.shape)}, as x is; yours is {shape_of(found)}"
    if close(found, midpoint(denoised, x, sigmas), 1e-6):
        return None
    for mistake, switches in alone_and_in_pairs(
        {
            "that is Euler's method: the slope of the middle is not used": {"only_euler": True},
            "that is Heun's method, the mean of the slopes at both ends; here, use the slope in the middle only": {"heun": True},
            "the whole step starts from the middle: start again from the same x": {"from_middle": True},
            "in the middle, noise is lower: D and the slope there need the sigma of the middle": {"old_sigma": True},
            "you stop in the middle: with its slope, go all the way to sigma_next": {"half": True},
            "you took the middle in log σ; asked is (sigma + sigma_next) / 2": {"geometric": True},
            "the slope in the middle is divided by sigma: divide by the sigma of the middle": {"by_sigma": True},
            "the first step goes all the way: it must stop in the middle, and the second slope is taken there": {
                "whole_trial": True
            },
            "you average both slopes; the midpoint method uses that of the middle alone": {"average": True},
            "the second slope is taken at x: take it at x_middle": {"at_x": True},
            "D is given sigma in the middle: give it the sigma of the middle": {"sigma_in_d": True},
            "you add the two slopes; the midpoint method uses that of the middle alone": {"summed": True},
        }
    ):
        if close(found, midpoint(denoised, x, sigmas, **switches), 1e-6):
            return mistake
    for wrong, mistake in (
        (midpoint(denoised, x, sigmas[:2]), "you return after the first step: `return` is in the loop"),
        (midpoint(denoised, x, sigmas[:-1]), "the last step is missing: zip(sigmas, sigmas[1:]) has every step"),
        (midpoint(denoised, x, sigmas[1:]), "the first step is missing: zip(sigmas, sigmas[1:]) has every step"),
        (x, "x is returned as it was given: each step must begin where the last one ended"),
        (uphill(x, sigmas), "the steps go the wrong way: sigma_next - sigma is negative, since the noise falls"),
    ):
        if close(found, wrong, 1e-6):
            return mistake
    right = midpoint(denoised, x, sigmas)
    return unknown(found, right, "these are other points: compare your first step with one done by hand")


def uphill(x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """The midpoint method with the sign of each step turned, a mistake."""
    for sigma, sigma_next in zip(sigmas, sigmas[1:]):
        middle = (sigma + sigma_next) / 2
        x_middle = x + (sigma - middle) * (x - denoised(x, sigma)) / sigma
        x = x + (sigma - sigma_next) * (x_middle - denoised(x_middle, middle)) / middle
    return x


# ---- 3. Algorithm 2


def algorithm_2(
    D: Callable,
    x: Tensor,
    sigmas: Sequence[float],
    s_churn: float,
    s_tmin: float,
    s_tmax: float,
    generator: torch.Generator,
    churn: bool = True,
    correct: bool = True,
    windowed: bool = True,
    capped: bool = True,
    squares: bool = True,
    seen: bool = True,
    always_draw: bool = False,
    count: int = 1,
    strict: bool = False,
    added: bool = False,
    variance: bool = False,
    whole: bool = False,
    short: bool = False,
    short_trial: bool = False,
    by_sigma: bool = False,
    from_x: bool = False,
    halved: bool = True,
    trial_level: bool = False,
    further: bool = False,
    unit: bool = False,
    largest: bool = False,
) -> Tensor:
    """EDM (2206.00364), Algorithm 2, with S_noise = 1. Each switch makes a mistake that the check names."""
    for sigma, sigma_next in zip(sigmas, sigmas[1:]):
        gamma = s_churn / (1 if whole else len(sigmas) - count)
        gamma = (max if largest else min)(gamma, 2**0.5 - 1) if capped else gamma
        inside = s_tmin < sigma < s_tmax if strict else s_tmin <= sigma <= s_tmax
        gamma = gamma if churn and (inside or not windowed) else 0.0
        sigma_hat = gamma + sigma if added else (1 + gamma) * sigma
        x_hat = x
        if gamma > 0 or always_draw:
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            rise = sigma_hat**2 - sigma**2
            x_hat = x + (1.0 if unit else rise if variance else rise**0.5 if squares else sigma_hat - sigma) * noise
        at, level = (x_hat, sigma_hat) if seen else (x, sigma)
        d = (at - D(at, level)) / (sigma if by_sigma else level)
        stride, begin = sigma_next - (sigma if short else sigma_hat), x if from_x else x_hat
        x = begin + (sigma_next - sigma if short_trial else stride) * d
        if correct and sigma_next > 0:
            d_next = (x - D(x, sigma_hat if trial_level else sigma_next)) / (sigma_hat if trial_level else sigma_next)
            x = (x if further else begin) + stride * (d + d_next) / (2 if halved else 1)
    return x


@exercise(
    "10.3",
    nudge="Try s_churn = 0: that must be Heun's method. Then print gamma and sigma_hat in each step.",
    solution="gamma = min(s_churn / N, sqrt(2) - 1) in the window, else 0; raise x; then Heun's step from sigma_hat",
)
def whole_algorithm(answer: Callable) -> str | None:
    """10.3: Algorithm 2 of Karras et al. 2022, with churn."""
    sigmas = [8.0, 4.0, 1.5, 0.5, 0.1, 0.0]
    x = points(8.0)
    for s_churn in cases((1.0, 40.0)):
        options = (s_churn, 0.5, 4.0)  # both ends of the window are levels
        found = call(answer, denoised, x.clone(), list(sigmas), *options, torch.Generator().manual_seed(1))
        if not isinstance(found, Tensor) or found.shape != x.shape:
            return f"the result must be a tensor {tuple(x.shape)}, as x is; yours is {shape_of(found)}"
        if not found.isfinite().all():
            return "there are NaNs: at sigma_next = 0 there is no slope, so the last step has no correction"
        if close(found, algorithm_2(denoised, x, sigmas, *options, torch.Generator().manual_seed(1)), 1e-6):
            continue
        mistakes: dict[str, dict[str, Any]] = {
            "nothing is churned: raise x before each step": {"churn": False},
            "Heun's correction is missing": {"correct": False},
            "you churn at every level: only where s_tmin <= sigma <= s_tmax": {"windowed": False},
            "gamma is not capped: at most sqrt(2) - 1": {"capped": False},
            "variances add, not standard deviations: the noise is sqrt(sigma_hat² - sigma²)": {"squares": False},
            "D gets the old x: give it x_hat and sigma_hat": {"seen": False},
            "the window includes its ends: s_tmin <= sigma <= s_tmax": {"strict": True},
            "sigma rises by a factor, sigma_hat = (1 + gamma) * sigma; you add gamma": {"added": True},
            "the noise is multiplied by a variance: take the root of sigma_hat² - sigma²": {"variance": True},
            "the noise has unit size: multiply it by sqrt(sigma_hat² - sigma²)": {"unit": True},
            "gamma is s_churn / N: the churn of all steps together is s_churn": {"whole": True},
            "gamma is the smaller of the two: min(s_churn / N, sqrt(2) - 1)": {"largest": True},
            "the step begins at sigma_hat: its length is sigma_next - sigma_hat": {"short": True},
            "Euler's step begins at sigma_hat: its length is sigma_next - sigma_hat": {"short_trial": True},
            "the slope is divided by sigma: divide by sigma_hat": {"by_sigma": True},
            "the step starts from the old x: start from x_hat, the raised one": {"from_x": True},
            "Heun's correction takes the mean of the two slopes: half of their sum": {"halved": False},
            "the second slope is taken at sigma_next, not at sigma_hat": {"trial_level": True},
            "the corrected step starts from x_hat again, not from where the first step led": {"further": True},
            "you draw noise where gamma is 0, too: nothing is added, but the generator moves on": {"always_draw": True},
            "N is the number of steps, len(sigmas) - 1": {"count": 0},
        }
        for mistake, switches in alone_and_in_pairs(mistakes):
            if close(found, algorithm_2(denoised, x, sigmas, *options, torch.Generator().manual_seed(1), **switches), 1e-6):
                return mistake
        again = call(answer, denoised, x.clone(), list(sigmas), *options, torch.Generator().manual_seed(1))
        if not close(found, again, 1e-6):
            return "the same generator gives other points: torch.randn(x.shape, generator=generator, dtype=x.dtype)"
        right = algorithm_2(denoised, x, sigmas, *options, torch.Generator().manual_seed(1))
        if close(found, x):
            return "x is returned as it was given: each step must begin where the last one ended"
        return unknown(found, right, "these are other points. With s_churn = 0 it should be Heun's method: is it?")
    return None
