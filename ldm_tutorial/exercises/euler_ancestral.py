"""Notebook 11: from unit scale to σ-space, DDPM's posterior there, and four samplers in one loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import call, cases, close, exercise, shape_of
from .euler import denoised, points

# ---- 1. Two notations


@exercise("11.1", hint="x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε: divide by sqrt(ᾱ), and read off what stands before ε")
def notation(answer: Callable) -> str | None:
    """11.1: x, at unit scale, and its ᾱ as x0 + σ ε and its σ."""
    x = points(1.0)
    for alpha_bar in cases((0.36, 0.9)):
        root, sigma = alpha_bar**0.5, ((1 - alpha_bar) / alpha_bar) ** 0.5
        found = call(answer, x.clone(), alpha_bar)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            return "return two things: x in σ-space, and σ"
        if not isinstance(found[0], Tensor) or found[0].shape != x.shape:
            return f"the first must be x in σ-space, a tensor {tuple(x.shape)}; the second σ, a number"
        scaled, level = found[0], float(found[1])
        if close(scaled, x / root, 1e-6) and abs(level - sigma) < 1e-6:
            continue
        if close(scaled, x * root, 1e-6):
            return "you multiply by sqrt(ᾱ): it stands before x0, so divide it away"
        if close(scaled, x / alpha_bar, 1e-6):
            return "divide by the root of ᾱ, not by ᾱ"
        if close(scaled, x, 1e-6):
            return "x is unchanged: at unit scale the picture has shrunk to sqrt(ᾱ) of its size"
        if not close(scaled, x / root, 1e-6):
            return f"at ᾱ = {alpha_bar}, x should be {1 / root:.3f} times as large as at unit scale"
        if abs(level - (1 - alpha_bar) ** 0.5) < 1e-6:
            return "that σ is the noise at unit scale, sqrt(1 - ᾱ): it was divided by sqrt(ᾱ), too"
        if abs(level - sigma**2) < 1e-6:
            return "that is σ², a variance; take the root"
        if abs(level - 1 / sigma) < 1e-6:
            return "upside down: σ is noise per picture, and large where ᾱ is small"
        return f"at ᾱ = {alpha_bar}, σ should be {sigma:.3f}; yours is {level:.3f}"
    return None


# ---- 2. The posterior


@exercise("11.2", hint="mean = x0 + (sigma_next / sigma)² (x - x0); before z, sigma_next sqrt(sigma² - sigma_next²) / sigma")
def step_of_posterior(answer: Callable) -> str | None:
    """11.2: a draw from q(x_next | x, x0) in terms of σ."""
    x, x0, z = torch.randn(3, 7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # (7, 2) each
    for sigma, sigma_next in cases(((5.0, 3.0), (0.8, 0.0))):
        variance, weight = sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2, sigma_next**2 / sigma**2
        right = x0 + weight * (x - x0) + variance**0.5 * z
        found = call(answer, x, x0, sigma, sigma_next, z)
        if not isinstance(found, Tensor) or found.shape != x.shape:
            return f"the result must be a tensor {tuple(x.shape)}, as x is; yours is {shape_of(found)}"
        if close(found, right, 1e-6):
            continue
        for mistake, wrong in {
            "z is multiplied by the variance: take its root": x0 + weight * (x - x0) + variance * z,
            "there is no new noise: add the standard deviation times z": x0 + weight * (x - x0),
            "that is Euler's step to σ_next plus noise: too much noise in all. Go down to σ_next² / σ": (
                x0 + sigma_next / sigma * (x - x0) + variance**0.5 * z
            ),
            "the weights are swapped: near σ_next = 0 the mean must be x0": x + weight * (x0 - x) + variance**0.5 * z,
            "the new noise has sigma_next: that is all the noise at that level, and the mean holds some already": (
                x0 + weight * (x - x0) + sigma_next * z
            ),
        }.items():
            if close(found, wrong, 1e-6):
                return mistake
        return f"from σ = {sigma:g} to {sigma_next:g} the numbers are not the posterior's"
    return None


# ---- 3. Four samplers in one loop


def one_sampler(
    D: Callable,
    x: Tensor,
    sigmas: Sequence[float],
    eta: float,
    generator: torch.Generator,
    new_noise: bool = True,
    go_down: bool = True,
    capped: bool = True,
    squared: bool = False,
    unit: bool = False,
) -> Tensor:
    """Each switch makes a mistake that the check names."""
    for sigma, sigma_next in zip(sigmas, sigmas[1:]):
        up = eta * sigma_next * (sigma**2 - sigma_next**2) ** 0.5 / sigma
        up = min(up, sigma_next) if capped else up
        down = max(0.0, sigma_next**2 - up**2) ** 0.5 if go_down else sigma_next
        x = x + (down - sigma) * (x - D(x, sigma)) / sigma
        if up > 0:
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            if new_noise:
                x = x + (up**2 if squared else 1.0 if unit else up) * noise
    return x


def real_only(x: Tensor, sigma: float) -> Tensor:
    """D(x; σ). In Python, the root of a negative number is complex, and turns x complex, too."""
    if x.is_complex():
        raise ValueError("x has become complex: sigma_next² - sigma_up² was negative; cap sigma_up at sigma_next")
    return denoised(x, sigma)


@exercise("11.3", hint="sigma_up, then sigma_down = sqrt(sigma_next² - sigma_up²); Euler to sigma_down; + sigma_up times noise")
def four_in_one(answer: Callable) -> str | None:
    """11.3: one loop that is Euler, ancestral, or between them, by η."""
    sigmas, x = [8.0, 4.0, 1.5, 0.5, 0.0], points(8.0)
    for eta in cases((0.0, 0.6, 1.0, 3.0)):
        found = call(answer, real_only, x.clone(), list(sigmas), eta, torch.Generator().manual_seed(1))
        if not isinstance(found, Tensor) or found.shape != x.shape:
            return f"the result must be a tensor {tuple(x.shape)}, as x is; yours is {shape_of(found)}"
        if not found.isfinite().all():
            return f"at η = {eta:g} there are NaNs: sigma_up must not exceed sigma_next"
        if close(found, one_sampler(denoised, x, sigmas, eta, torch.Generator().manual_seed(1)), 1e-6):
            continue
        for mistake, switches in {
            "no new noise arrives: add sigma_up times noise": {"new_noise": False},
            "no room is made: Euler's step must end at sigma_down, not at sigma_next": {"go_down": False},
            "sigma_up grows beyond sigma_next: cap it": {"capped": False},
            "the noise is multiplied by sigma_up²: it needs sigma_up": {"squared": True},
            "the noise has unit size: multiply it by sigma_up": {"unit": True},
        }.items():
            if close(found, one_sampler(denoised, x, sigmas, eta, torch.Generator().manual_seed(1), **switches), 1e-6):
                return f"at η = {eta:g}: {mistake}"
        if close(found, one_sampler(denoised, x, sigmas, 1.0, torch.Generator().manual_seed(1)), 1e-6):
            return f"at η = {eta:g} you do what η = 1 asks for: eta is not used"
        return f"at η = {eta:g} these are other points" + (": this is Euler's method, is it?" if eta == 0 else "")
    return None
