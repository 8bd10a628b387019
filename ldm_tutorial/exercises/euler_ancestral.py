"""Notebook 11: from unit scale to σ-space, DDPM's posterior there, and four samplers in one loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import alone_and_in_pairs, call, cases, close, exercise, shape_of, unknown
from .euler import denoised, points

# ---- 1. Two notations


@exercise(
    "11.1",
    nudge="What must the factor before x0 be in σ-space, and what happens to the noise when you divide by it?",
    solution="x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε: divide by sqrt(ᾱ), and read off what stands before ε",
)
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
        for wrong, mistake in (
            (x / (1 - alpha_bar) ** 0.5, "divide by what stands before x0, sqrt(ᾱ), not by what stands before ε"),
            (x * (1 + sigma**2), "divide by sqrt(ᾱ), which is the same as multiplying by sqrt(1 + σ²): the root is missing"),
            (x * sigma, "x is multiplied by σ: it is divided by sqrt(ᾱ)"),
            (x / sigma, "x is divided by σ: it is divided by sqrt(ᾱ)"),
        ):
            if close(scaled, wrong, 1e-6):
                return mistake
        if not close(scaled, x / root, 1e-6):
            said = f"at ᾱ = {alpha_bar}, x should be {1 / root:.3f} times as large as at unit scale"
            return unknown(scaled, x / root, said)
        if abs(level - (1 - alpha_bar) ** 0.5) < 1e-6:
            return "that σ is the noise at unit scale, sqrt(1 - ᾱ): it was divided by sqrt(ᾱ), too"
        if abs(level - sigma**2) < 1e-6:
            return "that is σ², a variance; take the root"
        if abs(level - 1 / sigma) < 1e-6:
            return "upside down: σ is noise per picture, and large where ᾱ is small"
        for value, mistake in (
            (1 - alpha_bar, "that σ is the variance of the noise at unit scale: take the root of (1 - ᾱ) / ᾱ"),
            ((1 - alpha_bar) ** 0.5 / alpha_bar, "the root is missing below: sqrt(1 - ᾱ) / sqrt(ᾱ)"),
            ((1 - alpha_bar) / root, "the root is missing above: sqrt(1 - ᾱ) / sqrt(ᾱ)"),
            (1 / sigma**2, "that is the signal-to-noise ratio, 1 / σ²"),
            (1 / root, "that is the factor for x; σ is sqrt(1 - ᾱ) / sqrt(ᾱ)"),
            (root, "that is sqrt(ᾱ), the share of the picture"),
        ):
            if abs(level - value) < 1e-6:
                return mistake
        return unknown(level, sigma, f"at ᾱ = {alpha_bar}, σ should be {sigma:.3f}; yours is {level:.3f}")
    return None


# ---- 2. The posterior


@exercise(
    "11.2",
    nudge="Check the ends: at sigma_next = 0 the result must be x0, and at sigma_next = sigma it must be x.",
    solution="mean = x0 + (sigma_next / sigma)² (x - x0); before z, sigma_next sqrt(sigma² - sigma_next²) / sigma",
)
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
            "z is subtracted: add it, so that the numbers agree": x0 + weight * (x - x0) - variance**0.5 * z,
            "z has its full size: multiply it by the standard deviation": x0 + weight * (x - x0) + z,
            "the mean is x0 alone: it keeps a share of x - x0": x0 + variance**0.5 * z,
            "x0 is missing: the mean is x0 + (σ_next / σ)² (x - x0)": weight * (x - x0) + variance**0.5 * z,
            "(σ_next / σ)² stands before x - x0, and you take x": x0 + weight * x + variance**0.5 * z,
            "the variance is upside down: σ_next² (σ² - σ_next²) / σ²": (
                x0 + weight * (x - x0) + (sigma**2 * (sigma**2 - sigma_next**2) / max(sigma_next, 1e-9) ** 2) ** 0.5 * z
            ),
            "the variance is σ_next² (σ² - σ_next²) / σ²; you leave out σ_next² / σ²": (
                x0 + weight * (x - x0) + (sigma**2 - sigma_next**2) ** 0.5 * z
            ),
            "the variance is divided by σ²; yours is divided by σ": (
                x0 + weight * (x - x0) + (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma) ** 0.5 * z
            ),
            "two mistakes: the mean is that of Euler's step, σ_next / σ; and: the noise is all that of σ_next": (
                x0 + sigma_next / sigma * (x - x0) + sigma_next * z
            ),
            "that is Euler's step, without noise; the posterior's mean goes down to σ_next² / σ": x0
            + sigma_next / sigma * (x - x0),
            "the step starts from x: its mean is x0 + (σ_next / σ)² (x - x0)": x + weight * (x - x0) + variance**0.5 * z,
        }.items():
            if close(found, wrong, 1e-6):
                return mistake
        return unknown(found, right, f"from σ = {sigma:g} to {sigma_next:g} the numbers are not the posterior's")
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
    outside: bool = True,
    linear: bool = False,
    all_noise: bool = False,
    minus: bool = False,
) -> Tensor:
    """Each switch makes a mistake that the check names."""
    for sigma, sigma_next in zip(sigmas, sigmas[1:]):
        up = (eta if outside else eta**0.5) * sigma_next * (sigma**2 - sigma_next**2) ** 0.5 / sigma
        up = eta * (sigma**2 - sigma_next**2) ** 0.5 if all_noise else up
        up = min(up, sigma_next) if capped else up
        down = max(0.0, sigma_next**2 - up**2) ** 0.5 if go_down else sigma_next
        down = sigma_next - up if linear else down
        d = (x - D(x, sigma)) / sigma
        x = x + (sigma_next - down if minus else down - sigma) * d
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


@exercise(
    "11.3",
    nudge="Print sigma_up² + sigma_down² in each step: what must it equal?",
    solution="sigma_up, then sigma_down = sqrt(sigma_next² - sigma_up²); Euler to sigma_down; + sigma_up times noise",
)
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
        for mistake, switches in alone_and_in_pairs(
            {
                "no new noise arrives: add sigma_up times noise": {"new_noise": False},
                "no room is made: Euler's step must end at sigma_down, not at sigma_next": {"go_down": False},
                "sigma_up grows beyond sigma_next: cap it": {"capped": False},
                "the noise is multiplied by sigma_up²: it needs sigma_up": {"squared": True},
                "the noise has unit size: multiply it by sigma_up": {"unit": True},
                "η stands before the root in sigma_up, not under it": {"outside": False},
                "variances add, not standard deviations: sigma_down² = sigma_next² - sigma_up²": {"linear": True},
                "the factor sigma_next / sigma is missing in sigma_up": {"all_noise": True},
                "the step to sigma_down has the length sigma_down - sigma": {"minus": True},
            }
        ):
            if close(found, one_sampler(denoised, x, sigmas, eta, torch.Generator().manual_seed(1), **switches), 1e-6):
                return f"at η = {eta:g}: {mistake}"
        if close(found, one_sampler(denoised, x, sigmas, 1.0, torch.Generator().manual_seed(1)), 1e-6):
            return f"at η = {eta:g} you do what η = 1 asks for: eta is not used"
        again = call(answer, real_only, x.clone(), list(sigmas), eta, torch.Generator().manual_seed(1))
        if not close(found, again, 1e-6):
            return "the same generator gives other points: torch.randn(x.shape, generator=generator, dtype=x.dtype)"
        for wrong, mistake in (
            (one_sampler(denoised, x, sigmas[:2], eta, torch.Generator().manual_seed(1)), "you return after the first step"),
            (one_sampler(denoised, x, sigmas[:-1], eta, torch.Generator().manual_seed(1)), "the last step, to 0, is missing"),
            (x, "x is returned as it was given: each step must begin where the last one ended"),
        ):
            if close(found, wrong, 1e-6):
                return f"at η = {eta:g}: {mistake}"
        said = f"at η = {eta:g} these are other points" + (": this is Euler's method, is it?" if eta == 0 else "")
        return unknown(found, one_sampler(denoised, x, sigmas, eta, torch.Generator().manual_seed(1)), said)
    return None
