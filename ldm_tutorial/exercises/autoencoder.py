"""Notebook 02: the quality of a reconstruction, the scale of the latents, the distance of two Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..lessons.memory import peak_bytes
from . import call, cases, close, exercise, shape_of, unknown

# ---- 1. Peak signal-to-noise ratio


@exercise(
    "02.1",
    nudge="Do it by hand first: one pixel, a = 1 and b = -1, is the largest error there is. It must give 0 dB.",
    solution="10 * log10(peak^2 / mean squared error), where the peak is the whole range, from -1 to 1",
)
def signal_to_noise(answer: Callable) -> str | None:
    """02.1: the peak signal-to-noise ratio of two tensors in [-1, 1], in decibels."""
    generator = torch.Generator().manual_seed(0)
    for noise in cases((0.02, 0.5)):
        a = torch.rand(2, 3, 5, 7, generator=generator) * 2 - 1
        b = a + noise * torch.randn(a.shape, generator=generator)
        found = as_float(call(answer, a, b))
        if found is None:
            return "the answer must be one number of decibels for the two tensors"
        error, absolute = (a - b).square().mean().item(), (a - b).abs().mean().item()
        right = 10 * math.log10(4 / error)
        if math.isclose(found, right, rel_tol=1e-4):
            continue
        for wrong, mistake in (
            (10 * math.log10(1 / error), "your peak is 1; pictures in [-1, 1] have the range 2, which is 6 dB more"),
            (10 * math.log10(255**2 / error), "your peak is 255; these pictures are in [-1, 1]"),
            (10 * math.log10(2 / error), "the peak must be squared, too: 2 * 2"),
            (20 * math.log10(4 / error), "20 is right for a ratio of amplitudes; the mean squared error is one of powers: 10"),
            (20 * math.log10(2 / error), "20 * log10 wants the *root* of the mean squared error"),
            (10 * math.log(4 / error), "that is the natural logarithm; decibels take the one to base 10"),
            (-right, "the sign is wrong: a better picture has more decibels"),
            (10 * math.log10(4 / absolute), "that is the mean *absolute* error; square it first"),
            (
                10 * math.log10(4 / error**0.5),
                "that is the root of the mean squared error: the ratio is one of squares, peak² / error",
            ),
            (
                10 * math.log10(2 / error**0.5),
                "that is a ratio of amplitudes, peak / root: with 10 * log10, both must be squared",
            ),
            (10 * math.log10(1 / error**0.5), "your peak is 1, and the error has a root: with 10 * log10, both are squares"),
            (20 * math.log10(1 / error**0.5 * 255), "your peak is 255; these pictures are in [-1, 1]"),
            (math.log10(4 / error), "that is in bel: decibels are 10 times as many"),
            (10 * math.log2(4 / error), "that is the logarithm to base 2; decibels take the one to base 10"),
            (4 / error, "that is the ratio itself: decibels are 10 times its logarithm"),
            (error, "that is the mean squared error: compare it with the peak, in decibels"),
            (
                10 * math.log10(a.max().item() ** 2 / error),
                "your peak is the largest number of a; it is the range, the same for all",
            ),
            (
                10 * math.log10((a.max() - a.min()).item() ** 2 / error),
                "your peak is the range of this a; take that of all pictures, 2",
            ),
            (
                (10 * (4 / (a - b).square().mean((1, 2, 3))).log10()).mean().item(),
                "you average the decibels of the pictures; asked is one error for all, then its decibels",
            ),
            (10 * math.log10(4 / (a - b).square().sum().item()), "the squared errors must be averaged, not summed"),
        ):
            if math.isclose(found, wrong, rel_tol=1e-4):
                return mistake
        return unknown(found, right, f"for a mean squared error of {error:.4g} it should be {right:.2f} dB; yours is {found:.4g}")
    return None


# ---- 2. The scale of the latents


@exercise(
    "02.2",
    nudge="A variance needs three sums. Which of them can you update batch by batch, without keeping the batch?",
    solution="add up, over all batches, how many numbers there are, their sum, and the sum of their squares",
)
def latent_scale(answer: Callable) -> str | None:
    """02.2: one over the standard deviation of all numbers of several batches of latents."""
    generator = torch.Generator().manual_seed(0)
    widths = torch.tensor([1.0, 6.0, 2.0, 4.0]).view(1, 4, 1, 1)
    batches = [3 + size * widths * torch.randn(size, 4, 6, 5, generator=generator) for size in (7, 7, 2)]
    given = Once(batches)
    try:
        found = call(answer, given)
    except Exception:
        if given.asked_again:
            return "`batches` can be gone through once, and you do it twice: collect all sums in the same loop"
        raise
    if isinstance(found, Tensor) and found.numel() > 1:
        return f"the answer must be one number for all channels and positions; yours has the shape {tuple(found.shape)}"
    found = as_float(found)
    if found is None:
        return "the answer must be one number"
    if given.asked_again and not math.isfinite(found):
        return "`batches` can be gone through once, and you do it twice: collect all sums in the same loop"
    values = torch.cat([batch.flatten() for batch in batches]).double()
    together = torch.cat(batches).double()
    right = 1 / values.std(correction=0).item()
    if math.isclose(found, right, rel_tol=2e-3):
        many = 60
        needed = peak_bytes(answer, Once(torch.randn(2, 4, 16, 16) for _ in range(many)))
        if needed > many / 2 * 2 * 4 * 16 * 16 * 4:  # bytes of half of the batches
            return "the number is right, but you keep all batches: there are too many. Keep their count, sum and sum of squares"
        return None
    means, squares = ([f(b).item() for b in batches] for f in (torch.mean, lambda b: b.square().mean()))
    for wrong, mistake in (
        (
            1 / (sum(b.var(correction=0).item() for b in batches) / 3) ** 0.5,
            "you averaged the variances of the batches: the small last one counts as much as the others",
        ),
        (
            sum(1 / b.std().item() for b in batches) / 3,
            "you averaged the scales of the batches; one scale comes from all numbers together",
        ),
        (
            1 / (sum(squares) / 3 - (sum(means) / 3) ** 2) ** 0.5,
            "all batches have the same weight, and the last is smaller: add up sums and counts, and divide at the end",
        ),
        (
            1 / (sum(squares) / 3 - sum(m * m for m in means) / 3) ** 0.5,
            "all batches have the same weight, and each its own mean: add up sums and counts, and divide at the end",
        ),
        (0.18215, "0.18215 is the scale of Stable Diffusion's latents: measure that of these"),
        (1 / right, "that is the standard deviation; the scale is what the latents are *multiplied* by to have 1"),
        (right**2, "that is 1 / variance; take the root"),
        (1 / values.square().mean().sqrt().item(), "the mean is not subtracted: that is the root mean square"),
        (
            1 / (sum(b.std().item() for b in batches) / 3),
            "you averaged the standard deviations of the batches; the small last one then counts as much as the others",
        ),
        (1 / batches[0].std().item(), "that is the first batch only"),
        (1 / batches[-1].std().item(), "that is the last batch only"),
        (
            1 / together.std(dim=(0, 2, 3)).mean().item(),
            "you averaged over the channels' own standard deviations; one scale for all comes from all numbers together",
        ),
    ):
        if math.isclose(found, wrong, rel_tol=5e-3):  # with and without Bessel's correction
            return mistake
    return unknown(found, right, f"it should be {right:.4f}; yours is {found:.4g}")


class Once:
    """An iterator that notes whether it is asked again when there is nothing left."""

    def __init__(self, batches: Iterable[Tensor]):
        self.batches, self.ended, self.asked_again = iter(batches), False, False

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        self.asked_again |= self.ended
        try:
            return next(self.batches)
        except StopIteration:
            self.ended = True
            raise


# ---- 3. Two Gaussians


def divergence(m1: Tensor, l1: Tensor, m2: Tensor, l2: Tensor) -> Tensor:
    """KL(N(m1, exp(l1)) || N(m2, exp(l2))) of each number."""
    return 0.5 * (l2 - l1 + (l1.exp() + (m1 - m2) ** 2) / l2.exp() - 1)


@exercise(
    "02.3",
    nudge="Try two equal Gaussians, which must give 0, then N(1, 1) and N(0, 1), which must give 1/2 for each latent.",
    solution="log(s2 / s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2, of each number; then sum over channels, positions",
)
def gaussian_kl(answer: Callable) -> str | None:
    """02.3: the KL divergence between two diagonal Gaussians, (b,), from their means and log variances."""
    generator = torch.Generator().manual_seed(0)
    m1, m2, l1, l2 = torch.randn(4, 2, 3, 5, 4, generator=generator)  # (2, 3, 5, 4) each
    each = divergence(m1, l1, m2, l2)
    right, found = each.sum(dim=(1, 2, 3)), call(answer, m1, l1, m2, l2)
    if not isinstance(found, Tensor) or found.shape not in (right.shape, each.shape, torch.Size([])):
        return f"the result must have one number for each picture, (2,); yours is {shape_of(found)}"
    if found.shape == each.shape:
        return "there is one number for each latent: sum over channels and positions, (1, 2, 3)"
    if found.shape == torch.Size([]):
        return "there is one number for the whole batch: keep one for each picture"
    if close(found, right):
        same = call(answer, m1, l1, m1, l1)
        return None if same.abs().max() < 1e-3 else "the divergence of a Gaussian from itself must be 0"
    ratio = (m1 - m2) ** 2 / l2.exp()
    for wrong, mistake in (
        (divergence(m2, l2, m1, l1), "the two are swapped: KL(p || q) is not KL(q || p); the expectation is over the first"),
        (2 * each, "the factor 1/2 is missing"),
        (each + 0.5, "the -1 is missing: equal Gaussians would not have the divergence 0"),
        (each - 0.5 * (l2 - l1), "the logarithm of the two variances is missing"),
        (each - 0.5 * ratio, "the distance of the means is missing"),
        (each + 0.5 * ((m1 - m2) ** 2 - ratio), "the distance of the means must be measured in units of the second variance"),
        (0.5 * (l2 - l1 + (l1 + (m1 - m2) ** 2) / l2 - 1), "logvar is a logarithm: the variance is exp(logvar)"),
        (
            0.5 * (2 * (l2 - l1) + ((2 * l1).exp() + (m1 - m2) ** 2) / (2 * l2).exp() - 1),
            "exp(logvar) is the variance already: do not square it",
        ),
        (0.5 * (m1**2 + l1.exp() - 1 - l1), "that is the divergence from N(0, 1): the second Gaussian is not used"),
        (0.5 * (l1 - l2 + (l1.exp() + (m1 - m2) ** 2) / l2.exp() - 1), "the logarithm has the wrong sign"),
        (each - 0.5 * ratio + 0.5 * (m1 - m2).abs() / l2.exp(), "the distance of the means must be squared"),
        (each - 0.5 * ratio - 0.5 * (m1 - m2) ** 2 / l2.exp(), "the distance of the means has the wrong sign"),
        (each + 0.5 * (l2 - l1), "the logarithm counts twice: logvar is that of σ², so it has a half, too"),
        (0.5 * ((l2 / l1).abs().log() + (l1.exp() + (m1 - m2) ** 2) / l2.exp() - 1), "logvar is a logarithm already: l2 - l1"),
        (
            0.5 * (l2 - l1 + (l1.exp() + (m1 - m2) ** 2) / l1.exp() - 1),
            "you divide by the first variance: the expectation is over the first, the scale is that of the second",
        ),
    ):
        if close(found, wrong.sum(dim=(1, 2, 3))):
            return mistake
    if close(found, each.mean(dim=(1, 2, 3))):
        return "you average over the latents; a divergence of independent numbers is the sum"
    return unknown(found, right, "these are other numbers. For N(1, 1) and N(0, 1) each latent must give 1/2")


def as_float(found: Any) -> float | None:
    """A number, or a tensor that holds one, as a number."""
    if isinstance(found, Tensor) and found.numel() == 1:
        found = found.item()
    return float(found) if isinstance(found, (int, float)) else None
