"""Notebook 10: Karras' noise levels, the midpoint method, and all of EDM's Algorithm 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..lessons.toy import GaussianMixture
from ..schedulers.noise_schedule import karras_sigmas
from . import call, cases, close, exercise, shape_of

_MIXTURE = GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.8, 0.7, 0.6], [0.5, 0.3, 0.2])


def denoised(x: Tensor, sigma: float) -> Tensor:
    """D(x; σ), (b, 2)."""
    alpha_bar = 1 / (sigma**2 + 1)
    return _MIXTURE.denoised(x * alpha_bar**0.5, alpha_bar)


def points(sigma: float) -> Tensor:
    """Fixed points at noise level σ, (7, 2) float64."""
    return sigma * torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# ---- 1. Levels


@exercise("10.1", hint="np.linspace(sigma_max**(1/rho), sigma_min**(1/rho), n) ** rho, and a 0 behind")
def karras_levels(answer: Callable) -> str | None:
    """10.1: the n + 1 noise levels of Karras et al. 2022, eq. 5, the last of them 0."""
    for high, low, n, rho in cases(((9.0, 1.0, 3, 2.0), (14.6, 0.03, 10, 7.0))):
        found = call(answer, high, low, n, rho)
        asked = f"my_levels({high:g}, {low:g}, {n}, {rho:g})"
        found = np.asarray([float(value) for value in found])
        right = np.append(karras_sigmas(high, low, n, rho), 0.0)
        if found.shape == right.shape and np.allclose(found, right, rtol=1e-5):
            continue
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
            "divide by n - 1, not by n: the last level must be sigma_min": (
                high ** (1 / rho) + np.arange(n) / n * (low ** (1 / rho) - high ** (1 / rho))
            )
            ** rho,
        }.items():
            if np.allclose(found[:-1], values, rtol=1e-5):
                return f"{asked}: {mistake}"
        wanted, yours = (", ".join(f"{value:.3g}" for value in values[:3]) for values in (right, found))
        return f"{asked} should be {wanted} ...; yours begins {yours}"
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
) -> Tensor:
    """Each switch makes a mistake that the check names."""
    for sigma, sigma_next in zip(sigmas, sigmas[1:]):
        d = (x - D(x, sigma)) / sigma
        if only_euler:
            x = x + (sigma_next - sigma) * d
            continue
        middle = sigma_next if heun else (sigma * sigma_next) ** 0.5 if geometric else (sigma + sigma_next) / 2
        x_middle = x + (middle - sigma) * d
        level = sigma if old_sigma else middle
        slope = (x_middle - D(x_middle, level)) / level
        slope = (d + slope) / 2 if heun else slope
        x = (x_middle if from_middle else x) + ((middle if half else sigma_next) - sigma) * slope
    return x


@exercise("10.2", hint="d here; x_middle = x + (middle - sigma) * d; its slope; x = x + (sigma_next - sigma) * that slope")
def midpoint_step(answer: Callable) -> str | None:
    """10.2: one step of the midpoint method."""
    sigmas = [8.0, 3.0, 1.0, 0.3]
    x = points(8.0)
    found = call(answer, denoised, x.clone(), list(sigmas))
    if not isinstance(found, Tensor) or found.shape != x.shape:
        return f"the result must be a tensor {tuple(x.shape)}, as x is; yours is {shape_of(found)}"
    if close(found, midpoint(denoised, x, sigmas), 1e-6):
        return None
    for mistake, switches in {
        "that is Euler's method: the slope of the middle is not used": {"only_euler": True},
        "that is Heun's method: it looks at the end of the step and averages; here, look in the middle only": {"heun": True},
        "the whole step starts from the middle: start again from the same x": {"from_middle": True},
        "in the middle, noise is lower: D and the slope there need the sigma of the middle": {"old_sigma": True},
        "you stop in the middle: with its slope, go all the way to sigma_next": {"half": True},
        "you took the middle in log σ; asked is (sigma + sigma_next) / 2": {"geometric": True},
    }.items():
        if close(found, midpoint(denoised, x, sigmas, **switches), 1e-6):
            return mistake
    return "these are other points: compare your first step with one done by hand"


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
) -> Tensor:
    """EDM (2206.00364), Algorithm 2, with S_noise = 1. Each switch makes a mistake that the check names."""
    for sigma, sigma_next in zip(sigmas, sigmas[1:]):
        gamma = s_churn / (len(sigmas) - count)
        gamma = min(gamma, 2**0.5 - 1) if capped else gamma
        gamma = gamma if churn and (s_tmin <= sigma <= s_tmax or not windowed) else 0.0
        sigma_hat = (1 + gamma) * sigma
        x_hat = x
        if gamma > 0 or always_draw:
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x_hat = x + ((sigma_hat**2 - sigma**2) ** 0.5 if squares else sigma_hat - sigma) * noise
        looked_at, level = (x_hat, sigma_hat) if seen else (x, sigma)
        d = (looked_at - D(looked_at, level)) / level
        x = x_hat + (sigma_next - sigma_hat) * d
        if correct and sigma_next > 0:
            d_next = (x - D(x, sigma_next)) / sigma_next
            x = x_hat + (sigma_next - sigma_hat) * (d + d_next) / 2
    return x


@exercise("10.3", hint="gamma = min(s_churn / N, sqrt(2) - 1) in the window, else 0; raise x; then Heun's step from sigma_hat")
def whole_algorithm(answer: Callable) -> str | None:
    """10.3: Algorithm 2 of Karras et al. 2022, with churn."""
    sigmas = [8.0, 4.0, 1.5, 0.5, 0.1, 0.0]
    x = points(8.0)
    for s_churn in cases((1.0, 40.0)):
        options = (s_churn, 0.3, 5.0)
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
            "D has looked at the old x: give it x_hat and sigma_hat": {"seen": False},
            "you draw noise where gamma is 0, too: nothing is added, but the generator moves on": {"always_draw": True},
            "N is the number of steps, len(sigmas) - 1": {"count": 0},
        }
        for mistake, switches in mistakes.items():
            if close(found, algorithm_2(denoised, x, sigmas, *options, torch.Generator().manual_seed(1), **switches), 1e-6):
                return mistake
        return "these are other points. With s_churn = 0 it should be Heun's method: is it?"
    return None
