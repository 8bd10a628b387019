"""Notebook 08: the guess of the picture, one step back, and the whole way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..lessons.toy import GaussianMixture
from ..schedulers import DDPMScheduler
from ..schedulers.ddpm import posterior
from . import call, cases, close, exercise, shape_of

# ---- 1. The guess of the picture


@exercise("08.1", hint="take the noise out first: x - (1 - alpha_bar) ** 0.5 * eps; then bring the picture back to full strength")
def guess_x0(answer: Callable) -> str | None:
    """08.1: the clean picture, from x, the predicted noise and ᾱ."""
    generator = torch.Generator().manual_seed(0)
    x, eps = torch.randn(2, 2, 3, 4, generator=generator)  # (2, 3, 4) each
    for a in cases((0.36, 0.8, 0.01)):
        kept = x.clone(), eps.clone()
        found = call(answer, x, eps, a)
        if not (torch.equal(x, kept[0]) and torch.equal(eps, kept[1])):
            return "your function changes its inputs: x -= y writes into x; use x - y"
        if not isinstance(found, Tensor) or found.shape != x.shape:
            return f"the result must be a tensor {tuple(x.shape)}, as x is; yours is {shape_of(found)}"
        noise = (1 - a) ** 0.5 * eps
        if close(found, (x - noise) / a**0.5):
            continue
        mistakes = {
            "the noise is taken out, but the picture is still weak: divide by sqrt(ᾱ)": x - noise,
            "you multiply by sqrt(ᾱ): the picture was made weaker by it, so divide": (x - noise) * a**0.5,
            "you divide by ᾱ: the picture was multiplied by its square root": (x - noise) / a,
            "the sign is wrong: you add the noise once more": (x + noise) / a**0.5,
            "the noise in x has the weight sqrt(1 - ᾱ), and you take out the weight 1 - ᾱ": (x - (1 - a) * eps) / a**0.5,
            "all of eps is taken out; in x it has the weight sqrt(1 - ᾱ)": (x - eps) / a**0.5,
            "only x is divided: the brackets are missing": x / a**0.5 - noise,
            "the weights are swapped: sqrt(ᾱ) belongs to the picture": (x - a**0.5 * eps) / (1 - a) ** 0.5,
        }
        for mistake, wrong in mistakes.items():
            if close(found, wrong):
                return mistake
        return f"with ᾱ = {a}, these are not (x - sqrt(1 - ᾱ) eps) / sqrt(ᾱ)"
    return None


# ---- 2. One step back


@exercise("08.2", hint="alpha = alpha_bar / alpha_bar_prev, beta = 1 - alpha; the mean is equation 11, the variance equation 7")
def ddpm_step(answer: Callable) -> str | None:
    """08.2: one step of 2006.11239, Algorithm 2, between any two timesteps."""
    generator = torch.Generator().manual_seed(1)
    x, eps, z = torch.randn(3, 2, 3, 4, generator=generator)  # (2, 3, 4) each
    for a, prev in cases(((0.36, 0.72), (0.05, 0.2), (0.5, 0.95))):
        found = call(answer, x.clone(), eps.clone(), a, prev, z.clone())
        if not isinstance(found, Tensor) or found.shape != x.shape:
            return f"the result must be a tensor {tuple(x.shape)}, as x is; yours is {shape_of(found)}"

        def mean(alpha: float, below: float, a: float = a) -> Tensor:
            return (x - (1 - alpha) / below * eps) / alpha**0.5

        alpha = a / prev
        root, small = (1 - a) ** 0.5, (1 - prev) / (1 - a) * (1 - alpha)
        right = mean(alpha, root)
        if close(found, right + small**0.5 * z):
            continue
        guess = (x - root * eps) / a**0.5
        mistakes = {
            "there are no dice: add sqrt(β̃) z": right,
            "the dice are multiplied by the variance; take its square root": right + small * z,
            "the dice have σ² = β, which is fixed_large; β̃ is asked for": right + (1 - alpha) ** 0.5 * z,
            "the dice have their full size: multiply z by sqrt(β̃)": right + z,
            "the variance is upside down: β̃ = (1 - ᾱ_prev) / (1 - ᾱ) β": right + ((1 - a) / (1 - prev) * (1 - alpha)) ** 0.5 * z,
            "that is the guess of the picture: ᾱ stands where α = ᾱ / ᾱ_prev belongs, which is what this one step keeps": guess
            + small**0.5 * z,
            "β is divided by sqrt(1 - ᾱ), and you divide by 1 - ᾱ": mean(alpha, 1 - a) + small**0.5 * z,
            "β is divided by sqrt(1 - ᾱ); you leave that out": mean(alpha, 1.0) + small**0.5 * z,
            "the mean is divided by sqrt(α); you leave that out": alpha**0.5 * right + small**0.5 * z,
            "you take the guess and noise it to ᾱ_prev from scratch: the step must keep a share of x": prev**0.5 * guess
            + (1 - prev) ** 0.5 * z,
        }
        for mistake, wrong in mistakes.items():
            if close(found, wrong):
                return mistake
        if close(found - found.mean(), (right + small**0.5 * z) - (right + small**0.5 * z).mean(), 1e-2):
            return "something is added that should not be"
        return f"with ᾱ = {a} and ᾱ_prev = {prev}, these are not the numbers of equation 11 plus sqrt(β̃) z"
    return None


# ---- 3. The whole way back


_MIXTURE = GaussianMixture([[1.0, 0.5], [-0.9, 0.8], [0.0, -1.0]], [0.2, 0.3, 0.25], [0.5, 0.3, 0.2])


def ancestral_sample(
    timesteps: Sequence[int],
    seed: int,
    last_level: float | None = 1.0,
    dice: bool = True,
    dice_at_end: bool = False,
    one_beta: bool = False,
    told: int | None = None,
    large: bool = False,
) -> list[Tensor]:
    """DDPM on the mixture: x after each step, (5, 2). Each switch makes a mistake that the check names."""
    scheduler, generator = DDPMScheduler(), torch.Generator().manual_seed(seed)
    model, x = _MIXTURE.as_model(scheduler), torch.randn(5, 2, generator=torch.Generator().manual_seed(9))
    alpha_bars, visited = scheduler.alphas_cumprod.tolist(), []
    last = alpha_bars[0] if last_level is None else last_level
    for i, t in enumerate(timesteps):
        final = i + 1 == len(timesteps)
        a, prev = alpha_bars[t], last if final else alpha_bars[timesteps[i + 1]]
        if one_beta:
            prev = a / (1 - scheduler.betas[t].item())
        x0 = (x - (1 - a) ** 0.5 * model(x, t if told is None else told)) / a**0.5
        x, variance = posterior(x0, x, a, prev)
        if large:
            variance = 1 - a / prev
        if dice and (dice_at_end or not final):
            x = x + max(variance, 0.0) ** 0.5 * torch.randn(x.shape, generator=generator)
        visited.append(x)
    return visited


_MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("there are no dice: add sqrt(variance) * z in every step but the last", {"dice": False}),
    ("ᾱ behind the last timestep is 1, the clean picture; you use alphas_cumprod[0]", {"last_level": None, "dice_at_end": True}),
    ("ᾱ behind the last timestep is 1, the clean picture; you use alphas_cumprod[0]", {"last_level": None}),
    ("β must span the stride from this timestep to the next; yours is that of one training step", {"one_beta": True}),
    (
        "β must span the stride from this timestep to the next; yours is that of one training step",
        {"one_beta": True, "dice_at_end": True},
    ),
    ("the dice have σ² = β, which is fixed_large; β̃ is asked for", {"large": True}),
    ("the dice have σ² = β, also in the last step: fixed_small asks for β̃", {"large": True, "dice_at_end": True}),
    ("the model is told the first timestep each time: give it the t of the loop", {"told": 901}),
]


class Rising(Exception):
    """The model is asked about more noise than at the start."""


@exercise("08.3", hint="for i, t in enumerate(timesteps): ᾱ_prev = alphas_cumprod[timesteps[i + 1]], or 1 behind the last")
def ancestral(answer: Callable) -> str | None:
    """08.3: the whole loop over a list of timesteps."""
    scheduler, timesteps, seed = DDPMScheduler(), [901, 640, 402, 200, 75, 30], 4
    x, exact, told = torch.randn(5, 2, generator=torch.Generator().manual_seed(9)), _MIXTURE.as_model(scheduler), []

    def model(x: Tensor, t: Tensor | float) -> Tensor:
        told.append(int(t))
        if told[-1] > told[0]:
            raise Rising
        return exact(x, t)

    generator = torch.Generator().manual_seed(seed)
    try:
        found = call(answer, model, x.clone(), list(timesteps), scheduler.alphas_cumprod.clone(), generator)
    except Rising:
        return "you visit the timesteps in rising order: take them as they are given"
    if not isinstance(found, Tensor) or found.shape != x.shape:
        return f"return x after the last step, a tensor {tuple(x.shape)}; yours is {shape_of(found)}"
    visited = ancestral_sample(timesteps, seed)
    for count, right in enumerate(visited, start=1):
        if close(found, right, 1e-3):
            return None if count == len(timesteps) else f"you return x after {count} of {len(timesteps)} steps: visit all of them"
    for mistake, switches in _MISTAKES:
        if close(found, ancestral_sample(timesteps, seed, **switches)[-1], 1e-3):
            return mistake
    return "these are other points. Print x.std() in the loop: it should stay near 1 at first, and end near 0.9"
