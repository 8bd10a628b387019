"""Notebook 08: the predicted picture, one step back, and the whole sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ..lessons.toy import GaussianMixture
from ..schedulers import DDPMScheduler
from ..schedulers.ddpm import posterior
from . import alone_and_in_pairs, call, cases, close, exercise, shape_of, unknown

# ---- 1. The predicted picture


@exercise(
    "08.1",
    nudge="x is a weighted sum of picture and noise. Solve that equation for the picture.",
    solution="take the noise out first: x - (1 - alpha_bar) ** 0.5 * eps; then bring the picture back to full strength",
)
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
            "only eps is divided: put x - sqrt(1 - ᾱ) eps into brackets": x - noise / a**0.5,
            "sqrt(1 - ᾱ) is not 1 - sqrt(ᾱ): the variances sum to 1, the roots do not": (x - (1 - a**0.5) * eps) / a**0.5,
            "** 1 / 2 is a half of the first power: write ** 0.5, or ** (1 / 2)": (x - (1 - a) / 2 * eps) / (a / 2),
            "** 1 / 2 is a half of the first power: write ** 0.5, or ** (1 / 2) in both": (x - noise) / (a / 2),
            "** 1 / 2 is a half of the first power in the weight of eps: write ** 0.5": (x - (1 - a) / 2 * eps) / a**0.5,
            "the brackets are missing around 1 - ᾱ: ** comes before -": (x - (1 - a**0.5 * eps)) / a**0.5,
            "the brackets are missing around 1 - ᾱ": (x - 1 - a**0.5 * eps) / a**0.5,
            "nothing but x is divided: the noise is not taken out": x / a**0.5,
            "the roots are missing: ᾱ and 1 - ᾱ are variances": (x - (1 - a) * eps) / a,
            "the noise is not weighted, and the picture not brought back to its strength": x - eps,
            "that is x itself: take the noise out, and divide": x,
            "you square where you should take roots": (x - (1 - a) ** 2 * eps) / a**2,
            "you divide by sqrt(1 - ᾱ); the picture was multiplied by sqrt(ᾱ)": (x - noise) / (1 - a) ** 0.5,
            "that is the noise that belongs to eps as the picture: solve x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε for x0": (
                x - a**0.5 * eps
            )
            / (1 - a) ** 0.5,
            "that is the forward process: eps is taken for the picture, or added once more": a**0.5 * x + noise,
        }
        for mistake, wrong in mistakes.items():
            if close(found, wrong):
                return mistake
        return unknown(found, (x - noise) / a**0.5, f"with ᾱ = {a}, these are not (x - sqrt(1 - ᾱ) eps) / sqrt(ᾱ)")
    return None


# ---- 2. One step back


@exercise(
    "08.2",
    nudge="Compute the mean and the standard deviation of the noise apart, and print both. Which ᾱ belong to this one step?",
    solution="alpha = alpha_bar / alpha_bar_prev, beta = 1 - alpha; the mean is equation 11, the variance equation 7",
)
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
        if found.is_complex() or found.isnan().any():
            return "the root of a negative number: α = ᾱ / ᾱ_prev is less than 1, since ᾱ_prev is the larger of the two"
        predicted = (x - root * eps) / a**0.5
        beta = 1 - alpha
        means = {
            "": right,
            "that is the predicted picture: ᾱ stands where α = ᾱ / ᾱ_prev belongs, which is what this one step keeps": predicted,
            "β is divided by sqrt(1 - ᾱ), and you divide by 1 - ᾱ": mean(alpha, 1 - a),
            "β is divided by sqrt(1 - ᾱ); you leave that out": mean(alpha, 1.0),
            "the mean is divided by sqrt(α); you leave that out": alpha**0.5 * right,
            "the mean is divided by sqrt(α), and you divide by α": right / alpha**0.5,
            "the mean is divided by sqrt(α), and you multiply by it": alpha * right,
            "the mean is divided by sqrt(α), that of this step; you divide by sqrt(ᾱ)": (x - beta / root * eps) / a**0.5,
            "the mean is divided by sqrt(α), that of this step; you divide by sqrt(ᾱ_prev)": (x - beta / root * eps) / prev**0.5,
            "β is divided by sqrt(1 - ᾱ), the noise in x; you take ᾱ_prev": mean(alpha, (1 - prev) ** 0.5),
            "β is divided by sqrt(1 - ᾱ); you take α": mean(alpha, beta**0.5),
            "β stands before eps, not its root": (x - beta**0.5 / root * eps) / alpha**0.5,
            "all the noise is taken out, sqrt(1 - ᾱ) eps; of one step it is β / sqrt(1 - ᾱ)": (x - root * eps) / alpha**0.5,
            "α stands where β = 1 - α belongs": (x - alpha / root * eps) / alpha**0.5,
            "eps has the wrong sign: subtract it": (x + beta / root * eps) / alpha**0.5,
            "eps is not weighted: β / sqrt(1 - ᾱ)": (x - eps) / alpha**0.5,
            "only x is divided by sqrt(α): the brackets are missing": x / alpha**0.5 - beta / root * eps,
            "only eps is divided by sqrt(α): the brackets are missing": x - beta / root * eps / alpha**0.5,
            "the noise is not taken out: subtract β / sqrt(1 - ᾱ) eps from x": x / alpha**0.5,
            "β is 1 - ᾱ / ᾱ_prev, of this one step; you take 1 - ᾱ_prev": (x - (1 - prev) / root * eps) / alpha**0.5,
        }
        spreads = {
            "": small**0.5,
            "there is no new noise: add sqrt(β̃) z": 0.0,
            "z is multiplied by the variance; take its square root": small,
            "the new noise has σ² = β, which is fixed_large; β̃ is asked for": beta**0.5,
            "z has its full size: multiply it by sqrt(β̃)": 1.0,
            "the variance is upside down: β̃ = (1 - ᾱ_prev) / (1 - ᾱ) β": ((1 - a) / (1 - prev) * beta) ** 0.5,
            "β is missing in the variance: β̃ = (1 - ᾱ_prev) / (1 - ᾱ) β": ((1 - prev) / (1 - a)) ** 0.5,
            "the variance has the roots of 1 - ᾱ: β̃ = (1 - ᾱ_prev) / (1 - ᾱ) β": (((1 - prev) / (1 - a)) ** 0.5 * beta) ** 0.5,
            "the variance is that of all noise at ᾱ_prev; the mean holds a part of it already": (1 - prev) ** 0.5,
            "the variance is that of all noise at ᾱ; of one step it is β̃": (1 - a) ** 0.5,
            "the variance has α where β = 1 - α belongs": ((1 - prev) / (1 - a) * alpha) ** 0.5,
            "z is subtracted; that is as good in the mean, but add it, so that the numbers agree": -(small**0.5),
            "z is multiplied by β, a variance: take the root of β̃": beta,
        }
        for (one, m), (other, spread) in product(means.items(), spreads.items()):
            if (one or other) and close(found, m + spread * z):
                return one or other if not (one and other) else f"two mistakes: {one}; and: {other}"
        for mistake, wrong in {
            "you take the prediction and add noise for ᾱ_prev to it: the step must keep a share of x": prev**0.5 * predicted
            + (1 - prev) ** 0.5 * z,
            "you return the posterior's mean for eps as the picture: compute x0 from eps first": posterior(eps, x, a, prev)[0]
            + small**0.5 * z,
        }.items():
            if close(found, wrong):
                return mistake
        said = f"with ᾱ = {a} and ᾱ_prev = {prev}, these are not the numbers of equation 11 plus sqrt(β̃) z"
        return unknown(found, right + small**0.5 * z, said)
    return None


# ---- 3. The whole way back


_MIXTURE = GaussianMixture([[1.0, 0.5], [-0.9, 0.8], [0.0, -1.0]], [0.2, 0.3, 0.25], [0.5, 0.3, 0.2])


def ancestral_sample(
    timesteps: Sequence[int],
    seed: int,
    last_level: float | None = 1.0,
    noisy: bool = True,
    noise_at_end: bool = False,
    one_beta: bool = False,
    given: int | str | None = None,
    large: bool = False,
    root: bool = True,
    clipped: bool = False,
    from_picture: bool = False,
    unit: bool = False,
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
        asked_at = float(t if given is None else i if given == "i" else given)
        x0 = (x - (1 - a) ** 0.5 * model(x, asked_at)) / a**0.5
        x0 = x0.clamp(-1, 1) if clipped else x0
        x, variance = (prev**0.5 * x0, 1 - prev) if from_picture else posterior(x0, x, a, prev)
        if large:
            variance = 1 - a / prev
        if noisy and (noise_at_end or not final):
            spread = 1.0 if unit else max(variance, 0.0) ** (0.5 if root else 1.0)
            x = x + spread * torch.randn(x.shape, generator=generator)
        visited.append(x)
    return visited


_ONE_STEP = "β must span all timesteps from this one to the next; yours is that of one training step"
_MISTAKES: dict[str, dict[str, Any]] = {
    "there is no new noise: add sqrt(variance) * z in every step but the last": {"noisy": False},
    "ᾱ behind the last timestep is 1, the clean picture; you use alphas_cumprod[0]": {"last_level": None},
    _ONE_STEP: {"one_beta": True},
    "the new noise has σ² = β, which is fixed_large; β̃ is asked for": {"large": True},
    "z is multiplied by the variance: take its square root": {"root": False},
    "the model gets the first timestep each time: give it the t of the loop": {"given": 901},
    "the model gets the number of the step, i: give it the timestep, t": {"given": "i"},
    "the predicted picture is clipped to [-1, 1]: that is for pixels, not for these points": {"clipped": True},
    "each step keeps only the predicted picture and adds noise for ᾱ_prev to it: the posterior keeps a share of x": {
        "from_picture": True
    },
    "z has its full size: multiply it by sqrt(variance)": {"unit": True},
    "new noise is added in the last step, too: it must end at the mean": {"noise_at_end": True},
}


class Rising(Exception):
    """The model is asked about more noise than at the start."""


@exercise(
    "08.3",
    nudge="Print t, ᾱ and ᾱ_prev in each step: ᾱ must rise, and end at 1.",
    solution="for i, t in enumerate(timesteps): ᾱ_prev = alphas_cumprod[timesteps[i + 1]], or 1 behind the last",
)
def ancestral(answer: Callable) -> str | None:
    """08.3: the whole loop over a list of timesteps."""
    scheduler, timesteps, seed = DDPMScheduler(), [901, 640, 402, 200, 75, 30], 4
    x, exact, asked = torch.randn(5, 2, generator=torch.Generator().manual_seed(9)), _MIXTURE.as_model(scheduler), list[int]()

    def model(x: Tensor, t: Tensor | float) -> Tensor:
        asked.append(int(t))
        if asked[-1] > asked[0]:
            raise Rising
        return exact(x, t)

    generator = torch.Generator().manual_seed(seed)
    try:
        found = call(answer, model, x.clone(), list(timesteps), scheduler.alphas_cumprod.clone(), generator)
    except Rising:
        if asked[0] == 0:
            return "the model gets the number of the step, i: give it the timestep, t"
        return "you visit the timesteps in rising order: take them as they are given"
    if not isinstance(found, Tensor) or found.shape != x.shape:
        return f"return x after the last step, a tensor {tuple(x.shape)}; yours is {shape_of(found)}"
    visited = ancestral_sample(timesteps, seed)
    for count, right in enumerate(visited, start=1):
        if close(found, right, 1e-3):
            return None if count == len(timesteps) else f"you return x after {count} of {len(timesteps)} steps: visit all of them"
    for mistake, switches in alone_and_in_pairs(_MISTAKES):
        if close(found, ancestral_sample(timesteps, seed, **switches)[-1], 1e-3):
            return mistake
    again = call(answer, model, x.clone(), list(timesteps), scheduler.alphas_cumprod.clone(), torch.Generator().manual_seed(seed))
    if not close(found, again, 1e-6):
        return (
            "the same generator gives other points: draw from the one that you are given, torch.randn(..., generator=generator)"
        )
    if close(found, x):
        return "x is returned as it was given: x = ... in the loop must be what the next step begins with"
    return unknown(found, visited[-1], "these are other points. Print t, ᾱ and ᾱ_prev in each step: ᾱ must rise, and end at 1")
