"""Notebook 16: the mean of a line, DPM-Solver++(2S), and a multistep method for the reverse SDE."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import alone_and_in_pairs, call, cases, close, exercise, shape_of, unknown
from .euler import denoised, points

# ---- 1. The line


def half_ratio(sigma_before: float, sigma: float, sigma_next: float) -> float:
    """1 / (2 r): how much of the last change of D is added, h / (2 h_before) in λ = -log σ."""
    return math.log(sigma / sigma_next) / (2 * math.log(sigma_before / sigma))


@exercise(
    "16.1",
    nudge="Divide the change of the prediction by h_before. Its factor is a little above h / 2.",
    solution="h_before, h: the logarithms of σ_before / σ and σ / σ_next; x0 + (h / (1 - e^-h) - 1) / h_before (x0 - before)",
)
def mean_of_the_line(answer: Callable) -> str | None:
    """16.1: the mean over the step, with the weights e^λ, of the line in λ through the last two predictions."""
    x0, before = torch.randn(2, 7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # (7, 2) each
    for a, b, c in cases(((8.0, 4.0, 1.0), (3.0, 0.6, 0.4))):
        h_before, h = math.log(a / b), math.log(b / c)
        kept = 1 - math.exp(-h)
        factor, change = h / kept - 1, x0 - before
        right = x0 + factor / h_before * change
        found = call(answer, x0.clone(), before.clone(), a, b, c)
        if not isinstance(found, Tensor) or found.shape != x0.shape:
            return f"the result must be a tensor {tuple(x0.shape)}, as x0 is; yours is {shape_of(found)}"
        if close(found, right, 1e-6):
            continue
        for mistake, added in {
            "that is the value in the middle of the step: the exact factor is h / (1 - e^-h) - 1": h / 2 / h_before * change,
            "that is the line at the end of the step: take its mean": h / h_before * change,
            "the line goes back to the earlier prediction: the change is x0 - before": -factor / h_before * change,
            "the change is not divided by h_before: it is the change over that step, not per unit of λ": factor * change,
            "the change is divided by h, the step that comes; it happened in the step before": factor / h * change,
            "the 1 is missing: the factor is h / (1 - e^-h) - 1": h / kept / h_before * change,
            "that is the integral: divide it by the sum of the weights, 1 - e^-h": (h - kept) / h_before * change,
            "the sign of the exponent: the weights add to 1 - e^-h, and you have e^h - 1": (
                (h / (math.exp(h) - 1) - 1) / h_before * change
            ),
            "the exponent is h_before: the weights are those of the step that comes": (
                (h / (1 - math.exp(-h_before)) - 1) / h_before * change
            ),
            "the steps in λ are logarithms of ratios of levels; you use differences of σ": (
                ((b - c) / (1 - math.exp(c - b)) - 1) / (a - b) * change
            ),
            "the two steps are swapped: h_before = log(sigma_before / sigma), h = log(sigma / sigma_next)": (
                (h_before / (1 - math.exp(-h_before)) - 1) / h * change
            ),
            "x0 is returned as it is: that is the first order": 0 * change,
            "only the change is returned: it is added to x0": factor / h_before * change - x0,
            "the line starts at x0, the newer prediction, not at before": factor / h_before * change - change,
            "x0 and before are swapped: before is the older one": -change - factor / h_before * change,
        }.items():
            if close(found, x0 + added, 1e-6):
                return mistake
        return unknown(found, right, f"at the levels {a:g}, {b:g}, {c:g} the mean has other values")
    return None


# ---- 2. Two evaluations in a step


def singlestep(
    D: Callable,
    x: Tensor,
    sigmas: Sequence[float],
    only_first: bool = False,
    arithmetic: bool = False,
    from_middle: bool = False,
    old_sigma: bool = False,
    at_x: bool = False,
    half: bool = False,
    averaged: bool = False,
    whole_trial: bool = False,
    old_x0: bool = False,
    by_slope: bool = False,
    no_end: bool = False,
) -> Tensor:
    """DPM-Solver++(2S), Algorithm 1 with r = 1/2, for x = x0 + σ ε. Each switch makes a mistake that the check names."""
    for sigma, sigma_next in zip(sigmas, sigmas[1:]):
        x0 = D(x, sigma)
        middle = (sigma + sigma_next) / 2 if arithmetic else (sigma * sigma_next) ** 0.5
        if (sigma_next == 0 and not no_end) or only_first:
            x = x0 + sigma_next / sigma * (x - x0)
            continue
        ratio = (sigma_next if whole_trial else middle) / sigma
        u = x0 + ratio * (x - x0)  # a first-order step
        D_middle = D(x if at_x else u, sigma if old_sigma else middle)
        D_middle = (x0 + D_middle) / 2 if averaged else x0 if old_x0 else D_middle
        ratio = (middle if half else sigma_next) / sigma
        if by_slope:
            x = x + (sigma_next - sigma) * (u - D_middle) / middle
        else:
            x = D_middle + ratio * ((u if from_middle else x) - D_middle)
    return x


@exercise(
    "16.2",
    nudge="From which x does the whole step start, and which of the two predictions does it use?",
    solution="middle = sqrt(sigma sigma_next); u = x0 + middle / sigma (x - x0); then D(u, middle) for the whole step from x",
)
def two_in_a_step(answer: Callable) -> str | None:
    """16.2: DPM-Solver++(2S)."""
    sigmas, x = [8.0, 3.0, 1.0, 0.3, 0.0], points(8.0)
    found = call(answer, positive_only, x.clone(), list(sigmas))
    if not isinstance(found, Tensor) or found.shape != x.shape:
        return f"the result must be a tensor {tuple(x.shape)}, as x is; yours is {shape_of(found)}"
    right = singlestep(denoised, x, sigmas)
    if not found.isfinite().all():
        return "there are NaNs: at sigma_next = 0 the middle is 0 as well, so the last step is of first order"
    if close(found, right, 1e-6):
        return None
    for mistake, switches in alone_and_in_pairs(
        {
            "that is the first order: the prediction in the middle is not used": {"only_first": True},
            "you took the middle in σ; the middle in λ = -log σ is sqrt(sigma * sigma_next)": {"arithmetic": True},
            "the whole step starts from u: start again from the same x": {"from_middle": True},
            "in the middle, noise is lower: D there needs the level of the middle": {"old_sigma": True},
            "the second prediction is made at x: make it at u": {"at_x": True},
            "the last step, to 0, has no middle in λ: it uses D at its start": {"no_end": True, "arithmetic": True},
            "you stop in the middle: with its prediction, go all the way to sigma_next": {"half": True},
            "you average both predictions; this method uses that of the middle alone": {"averaged": True},
            "the first part goes all the way: it must stop in the middle": {"whole_trial": True},
            "that is the midpoint method of notebook 10 with another middle: here D is held constant, not the slope": {
                "by_slope": True
            },
        }
    ):
        if close(found, singlestep(denoised, x, sigmas, **switches), 1e-6):
            return mistake
    for wrong, mistake in (
        (singlestep(denoised, x, sigmas[:2]), "you return after the first step: `return` is in the loop"),
        (singlestep(denoised, x, sigmas[:-1]), "the last step, to 0, is missing"),
        (x, "x is returned as it was given: each step must begin where the last one ended"),
    ):
        if close(found, wrong, 1e-6):
            return mistake
    return unknown(found, right, "these are other points: compare your first step with one done by hand")


def positive_only(x: Tensor, sigma: float) -> Tensor:
    """D(x; σ), which is not asked for where nothing is left to be removed."""
    if sigma <= 0:
        raise ValueError("D was evaluated at σ = 0, where there is no noise: the last step needs one evaluation only")
    return denoised(x, sigma)


# ---- 3. The reverse SDE with a memory


def sde_multistep(
    D: Callable,
    x: Tensor,
    sigmas: Sequence[float],
    z: Sequence[Tensor],
    second: bool = True,
    squared: bool = True,
    noisy: bool = True,
    full: bool = False,
    whole: bool = False,
    variance: bool = False,
    upside_down: bool = False,
    to_the_end: bool = False,
    stale: bool = False,
    doubled: bool = False,
    minus: bool = False,
) -> Tensor:
    """DPM-Solver++(2M) of the reverse SDE, for x = x0 + σ ε. Each switch makes a mistake that the check names."""
    before: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(zip(sigmas, sigmas[1:])):
        x0 = D(x, sigma)
        line = x0
        if before is not None and second and (sigma_next > 0 or to_the_end):
            w = half_ratio(sigmas[i - 1], sigma, max(sigma_next, 1e-3))
            w = 1 / (4 * w) if upside_down else 2 * w if whole else -w if minus else w
            line = x0 + w * (x0 - before)
        ratio = sigma_next / sigma
        keep = ratio**2 if squared else ratio
        up = sigma_next * (1 - ratio**2) ** 0.5
        up = sigma_next if full else up**2 if variance else sigma_next * (1 - ratio**4) ** 0.5 if doubled else up
        x = line + keep * (x - line)
        if noisy:
            x = x + up * z[i]
        if not stale or before is None:
            before = x0
    return x


@exercise(
    "16.3",
    nudge="Without the memory it must be Euler ancestral. Then: which prediction does the line need, and where is there none?",
    solution="line as in 2M; x = line + (sigma_next / sigma)² (x - line) + sigma_next sqrt(1 - (sigma_next / sigma)²) z[i]",
)
def sde_with_memory(answer: Callable) -> str | None:
    """16.3: second-order multistep for the reverse SDE."""
    sigmas, x = [8.0, 4.0, 1.5, 0.5, 0.0], points(8.0)
    z = list(torch.randn(4, 7, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64))  # one for each step
    found = call(answer, positive_only, x.clone(), list(sigmas), [noise.clone() for noise in z])
    if not isinstance(found, Tensor) or found.shape != x.shape:
        return f"the result must be a tensor {tuple(x.shape)}, as x is; yours is {shape_of(found)}"
    if not found.isfinite().all():
        return "there are NaNs: at sigma_next = 0 the line would reach to λ = ∞, so the last step uses x0 alone"
    right = sde_multistep(denoised, x, sigmas, z)
    if close(found, right, 1e-6):
        return None
    mistakes = {
        "the line is missing: that is Euler ancestral": {"second": False},
        "the step keeps sigma_next / sigma of x - D: that is the ODE. With noise it keeps the square": {"squared": False},
        "no new noise arrives: add the standard deviation times z[i]": {"noisy": False},
        "the new noise has sigma_next: that is all the noise of that level, and x holds some already": {"full": True},
        "z is multiplied by a variance: take its root": {"variance": True},
        "the variance of the new noise is sigma_next² (1 - (sigma_next / sigma)²): the square, not the fourth power": {
            "doubled": True
        },
        "the line is taken at the end of the step: its mean is reached after h / 2": {"whole": True},
        "the weight of the line is upside down: h stands above, h_before below": {"upside_down": True},
        "the line goes back to the earlier prediction: add the change x0 - before": {"minus": True},
        "the memory is kept from the first step on: after each step, before must be its x0": {"stale": True},
    }
    for mistake, switches in alone_and_in_pairs(mistakes):
        if close(found, sde_multistep(denoised, x, sigmas, z, **switches), 1e-6):
            return mistake
    for wrong, mistake in (
        (sde_multistep(denoised, x, sigmas[:2], z), "you return after the first step: `return` is in the loop"),
        (sde_multistep(denoised, x, sigmas[:-1], z), "the last step, to 0, is missing"),
        (sde_multistep(denoised, x, sigmas, z[:1] * 4), "each step needs noise of its own: z[i], not z[0]"),
        (x, "x is returned as it was given: each step must begin where the last one ended"),
    ):
        if close(found, wrong, 1e-6):
            return mistake
    return unknown(found, right, "these are other points. With z = 0 the first step must end at the mean of the posterior")
