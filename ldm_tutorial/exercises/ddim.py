"""Notebook 09: how much new noise, walking on the sphere, and an inversion that comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..lessons.toy import GaussianMixture
from ..schedulers import DDIMScheduler
from . import call, cases, close, exercise, shape_of, unknown

# ---- 1. The new noise


def sigma(alpha_bar: float, alpha_bar_prev: float, eta: float) -> float:
    """2010.02502, eq. 16, no more than all the noise there is."""
    variance = eta**2 * (1 - alpha_bar_prev) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_prev)
    return min(variance, 1 - alpha_bar_prev) ** 0.5


def is_root_of(found: float, variance: float, alpha_bar_prev: float) -> bool:
    """With the cap or without."""
    return any(abs(found - v**0.5) < 1e-6 for v in (variance, min(variance, 1 - alpha_bar_prev)))


@exercise(
    "09.1",
    nudge="Print the variance first. What may it not exceed at the level where the step arrives?",
    solution="first the variance of eq. 16, then min with 1 - alpha_bar_prev, then the root",
)
def new_noise(answer: Callable) -> str | None:
    """09.1: σ of 2010.02502, eq. 16, for ᾱ, ᾱ_prev and η."""
    for a, prev, eta in cases(((0.36, 0.7, 0.5), (0.2, 0.9, 0.8), (0.36, 0.7, 0.0), (0.36, 0.7, 3.0))):
        right, uncapped = sigma(a, prev, eta), sigma(a, prev, 1.0) * eta
        found = call(answer, a, prev, eta)
        asked = f"at ᾱ = {a}, ᾱ_prev = {prev}, η = {eta:g}"
        if isinstance(found, complex):
            return f"{asked} you take the root of a negative number: ᾱ_prev is the larger one, so 1 - ᾱ/ᾱ_prev is positive"
        found = float(found)
        if abs(found - right) < 1e-6:
            continue
        if abs(found - uncapped) < 1e-6:
            return f"{asked} σ = {found:.3f}, more than all the noise at that level, {(1 - prev) ** 0.5:.3f}: cap it"
        if abs(found - (1 - prev)) < 1e-6:
            return f"{asked} you cap σ at 1 - ᾱ_prev: that is a variance; cap σ², then take the root"
        if abs(found - right**2) < 1e-6:
            return f"{asked} yours is {found:.3f}, the variance σ²; asked is σ, its root"
        if abs(found - eta**0.5 * sigma(a, prev, 1.0)) < 1e-6:
            return f"{asked} η ends up under the root: in σ it stands before it, so in σ² it is squared"
        if is_root_of(found, eta**2 * (1 - a / prev), prev):
            return f"{asked} the first factor is missing: that is β_t, DDPM's other choice (fixed_large)"
        if is_root_of(found, eta**2 * (1 - a) / (1 - prev) * (1 - a / prev), prev):
            return f"{asked} the first fraction is upside down: (1 - ᾱ_prev) belongs above"
        below = (1 - prev) / (1 - a)
        for wrong, mistake in (
            (eta**2 * below, "the second factor is missing: 1 - ᾱ / ᾱ_prev"),
            (
                eta**2 * below * (1 - a) / prev,
                "the second factor is 1 - ᾱ / ᾱ_prev, not (1 - ᾱ) / ᾱ_prev: the brackets are missing",
            ),
            (eta**2 * below * a / prev, "the second factor is 1 - ᾱ / ᾱ_prev; you leave out the 1 -"),
            (below * (1 - a / prev), "η is not used"),
            (eta**2 * prev / a * (1 - a / prev), "the first factor is (1 - ᾱ_prev) / (1 - ᾱ)"),
            (eta**2 * below**0.5 * (1 - a / prev), "there is a root too much on the first factor"),
            (eta**2 * (1 - prev), "that is η² times all the noise at ᾱ_prev: the two fractions of eq. 16 are missing"),
        ):
            if is_root_of(found, wrong, prev):
                return f"{asked} {mistake}"
            if abs(found - wrong) < 1e-6:
                return f"{asked} {mistake}; and asked is σ, the root"
        if found != found:
            return f"{asked} yours is no number (NaN): the root of a negative number, since ᾱ_prev is the larger of the two"
        return unknown(found, right, f"{asked} σ should be {right:.3f}, and yours is {found:.3f}")
    return None


# ---- 2. The sphere


def slerp_pairs(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    """2010.02502, eq. 67, for each pair of the batch: a, b (b, ...)."""
    axes = tuple(range(1, a.ndim))
    norms = [x.square().sum(axes, keepdim=True).sqrt() for x in (a, b)]  # (b, 1, 1, 1) each
    angle = torch.acos((a * b).sum(axes, keepdim=True) / (norms[0] * norms[1]))
    return (torch.sin((1 - fraction) * angle) * a + torch.sin(fraction * angle) * b) / torch.sin(angle)


@exercise(
    "09.2",
    nudge="How many angles does a batch of three pairs have, and what shape must they have to multiply a and b?",
    solution="one angle per pair: (a * b).sum((1, 2, 3), keepdim=True), over the product of the two norms, then acos",
)
def sphere(answer: Callable) -> str | None:
    """09.2: spherical interpolation, a pair of the batch at a time."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 4, 5, 6, generator=generator)  # (3, 4, 5, 6) each
    b[0] = 0.8 * a[0] + 0.6 * b[0]  # pairs with different angles
    b[1] = b[1] - 0.7 * a[1]
    kept = a.clone(), b.clone()
    for fraction in cases((0.0, 0.3, 1.0)):
        found = call(answer, a, b, fraction)
        if not isinstance(found, Tensor) or found.shape != a.shape:
            return f"the result must be a tensor {tuple(a.shape)}, as a and b are; yours is {shape_of(found)}"
        if not (torch.equal(a, kept[0]) and torch.equal(b, kept[1])):
            return "your function changes its inputs: x *= y writes into x; use x * y"
        if close(found, slerp_pairs(a, b, fraction)):
            continue
        whole = slerp_pairs(a[None], b[None], fraction)[0]
        cosine = (a * b).sum((1, 2, 3), keepdim=True) / (norm(a) * norm(b))
        no_acos = (torch.sin((1 - fraction) * cosine) * a + torch.sin(fraction * cosine) * b) / torch.sin(cosine)
        angle = torch.acos(cosine)
        if close(found, slerp_pairs(a, b, 1 - fraction)):
            return "the two are swapped: fraction 0 must give a, fraction 1 gives b"
        if close(found, (1 - fraction) * a + fraction * b):
            return "that is the straight line: halfway, two independent noises have a standard deviation of 0.71"
        if close(found, whole):
            return "one angle for the whole batch: each pair has its own, so sum over all axes but the first"
        if close(found, no_acos):
            return "you use the cosine as if it were the angle: torch.acos is missing"
        if close(found, slerp_pairs(a, b, fraction) * torch.sin(angle)):
            return "divide by sin(angle): at fraction 0 the result must be a itself"
        if not found.isfinite().all():
            return "not finite: acos takes numbers from -1 to 1, so divide a · b by both norms"
        linear = (1 - fraction) * a + fraction * b
        if close(found, linear / norm(linear) * ((1 - fraction) * norm(a) + fraction * norm(b))) or close(
            found, linear / norm(linear)
        ):
            return "that is the straight line brought to a length: its points are not where those of the arc are"
        each = (a * b).sum((2, 3), keepdim=True) / ((a**2).sum((2, 3), keepdim=True) * (b**2).sum((2, 3), keepdim=True)).sqrt()
        angles = torch.acos(each)
        if close(found, (torch.sin((1 - fraction) * angles) * a + torch.sin(fraction * angles) * b) / torch.sin(angles)):
            return "one angle for each channel: a pair has one, so sum over (1, 2, 3)"
        if close(found, (torch.cos((1 - fraction) * angle) * a + torch.cos(fraction * angle) * b) / torch.sin(angle)):
            return "the weights are sines, not cosines"
        if close(found, torch.cos(fraction * angle) * a + torch.sin(fraction * angle) * b):
            return "cos and sin are right for a right angle only: eq. 67 has sin((1 - fraction) angle) / sin(angle) before a"
        unit = (torch.sin((1 - fraction) * angle) * a / norm(a) + torch.sin(fraction * angle) * b / norm(b)) / torch.sin(angle)
        if close(found, unit):
            return "a and b are brought to length 1: the norms are for the angle only"
        return unknown(found, slerp_pairs(a, b, fraction), f"at fraction {fraction:g} the numbers are not those of eq. 67")
    return None


# ---- 3. Inversion

CLOUDS = GaussianMixture([[1.6, 0.0], [-0.9, 1.3], [-0.9, -1.3]], [0.35, 0.25, 0.3])


def ddim_step(x: Tensor, eps: Tensor, here: float, there: float, noise: Tensor | None = None) -> Tensor:
    """From the level ᾱ `here` to `there` with the predicted noise; with another, if one is given, which is a mistake."""
    x0 = (x - (1 - here) ** 0.5 * eps) / here**0.5
    return there**0.5 * x0 + (1 - there) ** 0.5 * (eps if noise is None else noise)


def inversion(
    model: Callable,
    x: Tensor,
    levels: list[float],
    corrected: bool = True,
    from_trial: bool = False,
    level_of_trial: bool = True,
    average: bool = False,
    turns: int = 1,
    there_first: bool = False,
) -> Tensor:
    """Each step taken twice from the same x, the second time with ε from where the first led. Each switch makes a mistake."""
    for here, there in zip(levels, levels[1:]):
        eps = model(x, there if there_first else here)
        trial = ddim_step(x, eps, here, there)
        if corrected:
            new = model(trial, there if level_of_trial else here)
            for _ in range(turns - 1):
                new = model(ddim_step(x, new, here, there), there)
            x = ddim_step(trial if from_trial else x, (eps + new) / 2 if average else new, here, there)
        else:
            x = trial
    return x


@exercise(
    "09.3",
    nudge="Draw the step: where does it start, and at which level must the prediction be taken?",
    solution="trial = step(x, model(x, here)); then x = step(x, model(trial, there)): the same start, the better ε",
)
def inverted(answer: Callable) -> str | None:
    """09.3: from a picture to its noise, each step taken twice."""
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(10)
    levels = scheduler.alpha_bars.flip(0).tolist()
    x = CLOUDS.sample(7, torch.Generator().manual_seed(0))  # (7, 2)
    found = call(answer, CLOUDS.epsilon, x.clone(), list(levels))
    if not isinstance(found, Tensor) or found.shape != x.shape:
        return f"return the noise alone, a tensor {tuple(x.shape)}; yours is {shape_of(found)}"
    if close(found, inversion(CLOUDS.epsilon, x, levels)):
        return None
    mistakes: dict[str, dict[str, Any]] = {
        "that is the inversion of the text: ε from the wrong end. Ask again at the trial": {"corrected": False},
        "the second step starts from the trial: start again from the same x, only with the new ε": {"from_trial": True},
        "the trial is at the level `there`, but you tell the model `here`": {"level_of_trial": False},
        "you average both ε. That is Heun's method, and good; but sampling asks at `there` only": {"average": True},
        "you correct twice; once is asked for": {"turns": 2},
        "you correct three times; once is asked for": {"turns": 3},
        "the first prediction is at x, so its level is `here`": {"there_first": True},
        "that is the inversion of the text, with the level of the other end: ask again at the trial": {
            "corrected": False,
            "there_first": True,
        },
    }
    for mistake, switches in mistakes.items():
        if close(found, inversion(CLOUDS.epsilon, x, levels, **switches)):
            return mistake
    if close(found, inversion(CLOUDS.epsilon, x, levels[::-1])):
        return "you go through the levels backward: that is sampling; the first level is the clean one"
    if close(found, inversion(CLOUDS.epsilon, x, levels[:-1])):
        return "you stop one level early: zip(levels, levels[1:]) has every step"
    for wrong, mistake in (
        (x, "x is returned as it was given: each step must begin where the last one ended"),
        (
            ddim_step(x, CLOUDS.epsilon(x, levels[0]), levels[0], levels[1]),
            "you return after the first step: `return` is in the loop",
        ),
        (inversion(CLOUDS.epsilon, x, levels[:2]), "you return after the first step: `return` is in the loop"),
        (inversion(CLOUDS.epsilon, x, levels[1:]), "you begin with the second level: zip(levels, levels[1:]) has every step"),
    ):
        if close(found, wrong):
            return mistake
    right = inversion(CLOUDS.epsilon, x, levels)
    return unknown(found, right, "these are other points. Print x.std() in the loop: it should end near 1")


def norm(x: Tensor) -> Tensor:
    """Of each tensor of the batch, (b, 1, 1, 1)."""
    return x.square().sum((1, 2, 3), keepdim=True).sqrt()
