"""Notebook 01: noise for a batch, a jump from the middle, and a schedule for larger pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..schedulers.noise_schedule import linear_betas, scaled_linear_betas
from . import call, cases, close, exercise, shape_of, unknown

# ---- 1. Noise for a batch


@exercise(
    "01.1",
    nudge="Which of the two, picture or noise, is left at alpha_bar = 1? And what must the squares of the two weights sum to?",
    solution="alpha_bar.view(-1, 1, 1, 1); then alpha_bar.sqrt() weighs the picture, (1 - alpha_bar).sqrt() the noise",
)
def noisy_batch(answer: Callable) -> str | None:
    """01.1: pictures of a batch, each at its own noise level."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 2, 4, 5, generator=generator)  # (3, 2, 4, 5) each
    for alpha_bar in cases((torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.36, 1.0, 0.04]))):
        kept = x0.clone(), noise.clone(), alpha_bar.clone()
        found = call(answer, x0, noise, alpha_bar)
        if not all(torch.equal(a, b) for a, b in zip((x0, noise, alpha_bar), kept)):
            return "your function changes its inputs: x *= y and x.add_(y) write into x; use x * y"
        if not isinstance(found, Tensor) or found.shape != x0.shape:
            return f"the result must be a tensor {tuple(x0.shape)}, as x0 is; yours is {shape_of(found)}"
        a = alpha_bar.view(-1, 1, 1, 1)
        if close(found, a.sqrt() * x0 + (1 - a).sqrt() * noise, 1e-5):
            continue
        mistakes = {
            "the weights are variances: take the square root of both": a * x0 + (1 - a) * noise,
            "the noise is weighted by 1 - alpha_bar, a variance: its square root is missing": a.sqrt() * x0 + (1 - a) * noise,
            "the picture is weighted by alpha_bar, a variance: its square root is missing": a * x0 + (1 - a).sqrt() * noise,
            "the weights are swapped: alpha_bar near 1 must give the picture": (1 - a).sqrt() * x0 + a.sqrt() * noise,
            "the picture is not shrunk: multiply it by alpha_bar.sqrt()": x0 + (1 - a).sqrt() * noise,
            "the noise is subtracted: add it": a.sqrt() * x0 - (1 - a).sqrt() * noise,
            "nothing is weighted: alpha_bar says how much of each there is": x0 + noise,
            "the noise is not weighted: multiply it by (1 - alpha_bar).sqrt()": a.sqrt() * x0 + noise,
            "only the noise is weighted, and by a variance": x0 + (1 - a) * noise,
            "alpha_bar is the product over the steps already: no cumprod": mixed_at(alpha_bar.cumprod(0), x0, noise),
            "you square alpha_bar: take its root": a**2 * x0 + (1 - a**2) * noise,
            "1 - alpha_bar.sqrt() is not (1 - alpha_bar).sqrt(): variances sum to 1, roots do not": a.sqrt() * x0
            + (1 - a.sqrt()) * noise,
        }
        for mistake, wrong in mistakes.items():
            if close(found, wrong, 1e-5):
                return mistake
        one = alpha_bar[0]
        if close(found, one.sqrt() * x0 + (1 - one).sqrt() * noise, 1e-5):
            return "all pictures get the noise of the first: alpha_bar has one number for each"
        said = "these are not alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise, with picture i at alpha_bar[i]"
        return unknown(found, a.sqrt() * x0 + (1 - a).sqrt() * noise, said)
    return None


def mixed_at(alpha_bar: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """Picture i at alpha_bar[i]."""
    a = alpha_bar.view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


# ---- 2. A jump from the middle


@exercise(
    "01.2",
    nudge="x_s has its own noise already. Which steps are still to come, and how much of the picture does each of them keep?",
    solution="alpha = (1 - betas[s + 1 : t + 1]).prod(), or the ratio of two ᾱ; then as equation 4",
)
def jump(answer: Callable) -> str | None:
    """01.2: from x_s to the noisier x_t in one go."""
    generator = torch.Generator().manual_seed(1)
    x_s, noise = torch.randn(2, 2, 3, 4, generator=generator)  # (2, 3, 4) each
    betas = linear_betas(20, 0.01, 0.2)
    alpha_bar = (1 - betas).cumprod(0)

    def mixed(alpha: Tensor) -> Tensor:
        return alpha.sqrt() * x_s + (1 - alpha).sqrt() * noise

    for s, t in cases(((4, 11), (7, 8), (0, 19))):
        found = call(answer, x_s.clone(), noise.clone(), s, t, betas.clone())
        if not isinstance(found, Tensor) or found.shape != x_s.shape:
            return f"the result must be a tensor {tuple(x_s.shape)}, as x_s is; yours is {shape_of(found)}"
        alpha = alpha_bar[t] / alpha_bar[s]
        if close(found, mixed(alpha), 1e-4):
            continue
        mistakes = {
            "you use ᾱ at t: that is the jump from x_0, not from x_s": mixed(alpha_bar[t]),
            "you count step s once more: x_s has it already; begin with betas[s + 1]": mixed(alpha * (1 - betas[s])),
            "step t is missing: a slice ends before its last index; use betas[s + 1 : t + 1]": mixed(alpha / (1 - betas[t])),
            "both are off by one: the steps are s + 1 ... t, so betas[s + 1 : t + 1]": mixed(
                alpha * (1 - betas[s]) / (1 - betas[t])
            ),
            "the noise must have the variance 1 - ᾱ_t / ᾱ_s, not 1 - ᾱ_t": alpha.sqrt() * x_s + (1 - alpha_bar[t]).sqrt() * noise,
            "x_s is returned as it was given": x_s,
            "x_s is not shrunk: multiply it by sqrt(α)": x_s + (1 - alpha).sqrt() * noise,
            "the noise is not weighted: multiply it by sqrt(1 - α)": alpha.sqrt() * x_s + noise,
            "the noise has the variance ᾱ_s - ᾱ_t; what is added to sqrt(α) x_s has 1 - ᾱ_t / ᾱ_s": (
                alpha.sqrt() * x_s + (alpha_bar[s] - alpha_bar[t]).sqrt() * noise
            ),
            "that is one step, from t - 1 to t: take all steps from s + 1 to t together": mixed(1 - betas[t]),
            "that is the step from s to s + 1: take all steps up to t together": mixed(1 - betas[s + 1]),
            "the noise is subtracted: add it": alpha.sqrt() * x_s - (1 - alpha).sqrt() * noise,
            "the weights are swapped: sqrt(α) belongs to x_s": (1 - alpha).sqrt() * x_s + alpha.sqrt() * noise,
            "the square roots are missing: α and 1 - α are variances": alpha * x_s + (1 - alpha) * noise,
            "the noise is weighted by a variance: its square root is missing": alpha.sqrt() * x_s + (1 - alpha) * noise,
            "you multiply the betas: what is left after a step is 1 - β": mixed(1 - betas[s + 1 : t + 1].prod()),
            "you add the betas up; what is left after several steps is the product of the 1 - β": mixed(
                (1 - betas[s + 1 : t + 1].sum()).clamp(min=0)
            ),
        }
        for mistake, wrong in mistakes.items():
            if close(found, wrong, 1e-4):
                return mistake
        if found.isnan().any():
            return "the root of a negative number: ᾱ falls with t, so α = ᾱ_t / ᾱ_s, the smaller one above"
        said = f"from s = {s} to t = {t}, these are not sqrt(α) x_s + sqrt(1 - α) noise with α = ᾱ_t / ᾱ_s"
        return unknown(found, mixed(alpha), said)
    return None


# ---- 3. A schedule for larger pictures


@exercise(
    "01.3",
    nudge="There are three conversions: betas to ᾱ, ᾱ to SNR, and both back. Print the SNR of your betas at one timestep.",
    solution="ᾱ = (1 - betas).cumprod(0); snr = ᾱ / (1 - ᾱ) / k**2; ᾱ' = snr / (1 + snr); β = 1 - ᾱ'_t / ᾱ'_{t-1}",
)
def betas_for_larger_pictures(answer: Callable) -> str | None:
    """01.3: a schedule whose signal-to-noise ratio is k² times smaller everywhere."""
    for betas, k in cases(((scaled_linear_betas(50, 0.01, 0.2), 3.0), (scaled_linear_betas(1000, 0.00085, 0.012), 8.0))):
        found = call(answer, betas.clone(), k)
        if not isinstance(found, Tensor) or found.shape != betas.shape:
            return f"the result must hold one beta per timestep, {tuple(betas.shape)}; yours is {shape_of(found)}"
        alpha_bar = (1 - betas.double()).cumprod(0)
        snr = alpha_bar / (1 - alpha_bar)
        made = (1 - found.double()).cumprod(0)
        if close((made / (1 - made)).log(), (snr / k**2).log(), 1e-3):
            continue
        shifted = shift(snr / k**2)
        if close(found, shifted, 1e-3):
            return "that is ᾱ itself: one step further, to β_t = 1 - ᾱ_t / ᾱ_{t-1}"
        if close(found, snr / k**2, 1e-3):
            return "that is the SNR: go back to ᾱ = SNR / (1 + SNR), and from there to β"
        mistakes = {
            "the SNR is divided by k, not by k**2": shift(snr / k),
            "you multiply the SNR: larger pictures need more noise, so divide": shift(snr * k**2),
            "you divide ᾱ; it is the SNR that must be k**2 times smaller": alpha_bar / k**2,
            "the SNR is ᾱ / (1 - ᾱ); you divide the variances of σ, so k counts once too little": shift(snr / k**0.5),
        }
        for mistake, wrong in mistakes.items():
            if close(made, wrong, 1e-3):
                return mistake
        if close(found[1:], to_betas(shifted)[1:], 1e-3):
            return f"the first beta is {float(found[0]):.3g}: what stands before the first ᾱ is 1, so it must be 1 - ᾱ'_0"
        if close(found, betas / k**2, 1e-3) or close(found, betas / k, 1e-3):
            return "you make the betas smaller: that is less noise, and it does not scale the SNR, which comes from their product"
        if close(found, betas, 1e-3):
            return "the betas are unchanged: k is not used"
        if (
            close(found, betas * k, 1e-3)
            or close(found, betas * k**2, 1e-3)
            or close(found, (betas * k**2).clamp(max=0.999), 1e-3)
        ):
            return "you scale the betas: that does not scale the SNR, which comes from their product"
        if close(found, 1 - shifted, 1e-3):
            return "that is 1 - ᾱ, the variance of all noise so far: β is that of one step, 1 - ᾱ_t / ᾱ_{t-1}"
        if close(found, 1 - to_betas(shifted), 1e-3):
            return "those are α = 1 - β: return the β"
        return unknown(found, to_betas(shifted), f"with k = {k:g}, the SNR of your betas is not 1/{k * k:g} of what it was")
    return None


def shift(snr: Tensor) -> Tensor:
    """ᾱ of a signal-to-noise ratio."""
    return snr / (1 + snr)


def to_betas(alpha_bar: Tensor) -> Tensor:
    """The schedule, (n,), that has these ᾱ."""
    return 1 - alpha_bar / torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
