"""Notebook 15: equal cost, an error bar for a difference, and how good the best of k is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import Unnamed, call, cases, exercise, unknown

# ---- 1. The same number of network evaluations


def calls_of(steps: int, method: str, guided: bool) -> int:
    """Network evaluations for one picture. Heun computes two slopes in a step, and one in the last."""
    slopes = 2 * steps - 1 if method == "heun" else steps
    return (1 + guided) * slopes


def affordable(budget: int, method: str, guided: bool) -> int:
    """The largest number of steps within a budget of network evaluations."""
    return max(n for n in range(budget + 1) if n == 0 or calls_of(n, method, guided) <= budget)


BUDGETS = (
    (50, "euler", True),
    (50, "euler", False),
    (50, "heun", False),
    (50, "heun", True),
    (51, "euler", True),
    (24, "heun", True),
)


@exercise(
    "15.1",
    nudge="How many steps do 10 network evaluations allow, step by step, with and without guidance?",
    solution="slopes = budget // 2 with guidance, else budget; Euler: n = slopes; Heun: the largest n with 2 n - 1 <= slopes",
)
def steps_for(answer: Callable) -> str | None:
    """15.1: how many steps a budget of network evaluations allows."""
    for budget, method, guided in cases(BUDGETS):
        found, right = call(answer, budget, method, guided), affordable(budget, method, guided)
        asked = f"{budget} evaluations, {method}, with{'' if guided else 'out'} guidance"
        if isinstance(found, bool) or not isinstance(found, int):
            return f"{asked}: a number of steps is an int; yours is {found!r}: use // instead of /"
        if found == right:
            continue
        slopes, cost = budget // (1 + guided), calls_of(right, method, guided)
        if guided and found == affordable(budget, method, False):
            return f"{asked}: with guidance each slope costs two evaluations, without and with the prompt"
        if found == affordable(budget, method, not guided):
            return f"{asked}: it is guidance that doubles the cost, not its absence"
        if method == "heun" and found == slopes:
            return f"{asked}: you count steps as for Euler; Heun computes two slopes in a step"
        if method == "heun" and found == slopes // 2 and found < right:
            return f"{asked}: Heun's last step computes one slope only, so {right} steps cost {cost}: one more fits"
        if found > right:
            return f"{asked}: {found} steps cost {calls_of(found, method, guided)}, more than there is; round down"
        return f"{asked}: {right} steps cost {cost} and fit; yours are {found}"
    return None


# ---- 2. The interval of a paired difference


def means_of(values: Tensor, resamples: int = 20_000, seed: int = 1) -> Tensor:
    """Bootstrap means, (resamples,), of values (n,)."""
    generator = torch.Generator().manual_seed(seed)
    return values[torch.randint(len(values), (resamples, len(values)), generator=generator)].mean(dim=1)


def central(means: Tensor, part: float = 0.95) -> tuple[float, float]:
    """The ends of the interval that leaves equal shares out on either side."""
    ends = torch.tensor([(1 - part) / 2, (1 + part) / 2], dtype=means.dtype)
    low, high = means.quantile(ends).tolist()
    return low, high


def scores_of_two() -> tuple[Tensor, Tensor]:
    """Prompts differ by far more than the two samplers do; the differences are skewed, so that their median is not their mean."""
    generator = torch.Generator().manual_seed(0)
    base = 10 * torch.randn(30, generator=generator, dtype=torch.float64)
    gain = -torch.rand(30, generator=generator, dtype=torch.float64).log()  # exponential, of mean 1
    return base + gain, base


@exercise(
    "15.2",
    nudge="What is resampled: the scores, or the differences? Print the interval's width.",
    solution="d = a - b, (n,); rows of n numbers 0 ... n - 1 by torch.randint; d[rows].mean(1), then its quantiles",
)
def paired_interval(answer: Callable) -> str | None:
    """15.2: the 95 % interval of a mean difference, pairs kept together."""
    a, b = scores_of_two()
    found = as_pair(call(answer, a.clone(), b.clone()))
    if found is None:
        return "return two numbers, (low, high)"
    low, high = found
    d = a - b
    means = means_of(d)
    right = central(means)
    width, wanted = high - low, right[1] - right[0]
    if near(found, right, 0.05 * wanted):
        return None
    if width < 0:
        return f"low must be the smaller one; yours are {low:.2f}, {high:.2f}"
    if near(found, (-right[1], -right[0]), 0.05 * wanted):
        return "the sign: asked is a - b, positive where a is better"
    if width < 1e-6:
        return "your interval has no width: draw with replacement. A permutation has the same mean each time"
    if near((low / len(d), high / len(d)), right, 0.05 * wanted):
        return "those are sums of the differences: take their mean"
    unpaired = central(means_of(a, seed=2) - means_of(b, seed=3))
    if width > 0.6 * (unpaired[1] - unpaired[0]):
        return f"yours is {width:.1f} wide: you resample a and b separately, and so the pairs are lost"
    if near(found, central(d), 0.15 * (central(d)[1] - central(d)[0])):
        return "those are quantiles of the single differences: where the next *picture* lies. Resample, and average first"
    if near(found, central(means, 0.9), 0.04 * wanted):
        return "your interval is one of 90 %: 2.5 % belong outside at each end, not 5 %"
    error = d.std().item() / len(d) ** 0.5
    if abs(width - 2 * error) < 0.12 * error and abs((low + high) / 2 - d.mean().item()) < 0.2 * error:
        return "mean plus and minus one standard error holds the truth in 68 % of all cases; for 95 % it takes 1.96 of them"
    if abs((low + high) / 2 - d.median().item()) < 0.5 * abs((low + high) / 2 - d.mean().item()):
        return "your interval is that of the median; asked is the mean of the differences"
    return Unnamed(f"the interval should be about ({right[0]:.2f}, {right[1]:.2f}), and yours is ({low:.2f}, {high:.2f})")


def as_pair(found: Any) -> tuple[float, float] | None:
    """Two numbers, from a tuple, list, array or tensor; None for anything else."""
    values = found.tolist() if isinstance(found, Tensor) else found
    if not isinstance(values, (tuple, list)) or len(values) != 2:
        return None
    return float(values[0]), float(values[1])


def near(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    """Each number within `tolerance` of the other."""
    return all(abs(x - y) < tolerance for x, y in zip(a, b))


# ---- 3. The best of k


def expected_best(scores: Sequence[float], k: int) -> float:
    """The i-th smallest is the best of k if the other k - 1 are among the i - 1 below it."""
    ranked, n = sorted(scores), len(scores)
    return sum(x * math.comb(i, k - 1) for i, x in enumerate(ranked)) / math.comb(n, k)


def with_replacement(scores: Sequence[float], k: int) -> float:
    """A mistake: the same sample may be chosen more than once."""
    ranked, n = sorted(scores), len(scores)
    return sum(x * (((i + 1) / n) ** k - (i / n) ** k) for i, x in enumerate(ranked))


SCORES = [0.3, 0.8, 0.1, 0.4, 0.9, 0.2, 0.75]


@exercise(
    "15.3",
    nudge="Try three scores and k = 2: write down the three choices and the best of each.",
    solution="sort rising; with i from 0, the i-th is the best in math.comb(i, k - 1) of all math.comb(n, k) choices",
)
def best_of(answer: Callable) -> str | None:
    """15.3: the expected best score of k, exactly."""
    for k in cases((3, 1, 7, 2)):
        scores = list(SCORES)
        found, right = float(call(answer, scores, k)), expected_best(SCORES, k)
        if scores != SCORES:
            return "your function sorts the list that it was given: use sorted(scores), which makes a new one"
        if abs(found - right) < 1e-6:
            continue
        asked = f"for k = {k} of n = {len(SCORES)}"
        descending = [-x for x in SCORES]
        unsorted = sum(x * math.comb(i, k - 1) for i, x in enumerate(SCORES)) / math.comb(len(SCORES), k)
        choices = math.comb(len(SCORES), k)
        for value, mistake in (
            (max(SCORES), "that is the best of all; with k tries one finds it only sometimes"),
            (max(SCORES[:k]), "that is the best of the first k, one choice of many: average over all choices"),
            (sum(sorted(SCORES)[-k:]) / k, "that is the mean of the k best"),
            (-expected_best(descending, k), "you rank from the top: what you found is the expected *worst*"),
            (unsorted, "the scores are not in order: sort them first"),
            (with_replacement(SCORES, k), "that is for drawing with replacement, where one try can be the same as another"),
            (right * choices, f"divide by the number of choices, math.comb(n, k) = {choices}"),
            (right * choices / len(SCORES) ** k, "there are math.comb(n, k) choices; n^k counts order and repeats, too"),
        ):
            if abs(found - value) < 1e-6:
                return f"{asked}: {mistake}"
        if abs(found - right) < 0.02:
            return f"{asked}: close to {right:.4f}, but not it. Do you draw at random? The sum is exact, and as short"
        return unknown(found, right, f"{asked} the mean of the best should be {right:.4f}, and yours is {found:.4f}")
    return None
