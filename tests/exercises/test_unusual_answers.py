"""Right answers that look different from the solution are right, and what only looks right is not."""

import math

import numpy as np
import pytest
import torch

from ldm_tutorial.exercises import outcome
from ldm_tutorial.schedulers.ddpm import posterior
from tests.exercises.answers import answer


def ema_of(values, decay):
    average = torch.nn.Parameter(torch.tensor(float(values[0])), requires_grad=False)
    found = []
    for n, value in enumerate(values[1:]):
        average.lerp_(torch.tensor(float(value)), 1 - min(decay, (n + 2) / (n + 11)))
        found.append(float(average))
    return found


def gradients_by_weighted_means(loss_of, parameters, batch, size):
    gradients = [torch.zeros_like(p) for p in parameters]
    for i in range(0, len(batch), size):
        part = batch[i : i + size]
        for p, gradient in zip(parameters, gradients):
            p.grad = None
            (loss_of(part).mean() * (len(part) / len(batch))).backward()
            gradient += p.grad
    return gradients


RIGHT = {
    "00.2 as a weighted sum": ("00.2", lambda u, c, s: (1 - s) * u + s * c),
    "00.2 by torch.lerp": ("00.2", lambda u, c, s: torch.lerp(u, c, s)),
    "01.1 by einsum": (
        "01.1",
        lambda x, n, a: torch.einsum("b,bchw->bchw", a.sqrt(), x) + torch.einsum("b,bchw->bchw", (1 - a).sqrt(), n),
    ),
    "01.1 picture by picture": (
        "01.1",
        lambda xs, ns, a: torch.stack([t**0.5 * x + (1 - t) ** 0.5 * n for x, n, t in zip(xs, ns, a.tolist())]),
    ),
    "01.2 by a ratio": (
        "01.2",
        lambda x, n, s, t, b: (r := (1 - b).cumprod(0)[t] / (1 - b).cumprod(0)[s]).sqrt() * x + (1 - r).sqrt() * n,
    ),
    "02.1 by a logarithm of the root": ("02.1", lambda a, b: -20 * math.log10(float((a - b).square().mean().sqrt() / 2))),
    "02.1 as a tensor": ("02.1", lambda a, b: 10 * torch.log10(4 / torch.nn.functional.mse_loss(a, b))),
    "02.2 with Bessel's correction": (
        "02.2",
        lambda batches: (
            (s := np.sum([[b.numel(), b.double().sum(), b.double().square().sum()] for b in batches], axis=0)),
            ((s[0] - 1) / (s[2] - s[1] ** 2 / s[0])) ** 0.5,
        )[1],
    ),
    "05.1 by padding and cutting": ("05.1", lambda t, s, e, n: ([s] + t[: n - 2] + [e] * n)[:n]),
    "05.1 as a tuple": ("05.1", lambda t, s, e, n: (s, *t[: n - 2], *[e] * (n - 1 - len(t[: n - 2])))),
    "07a.2 by torch.where": (
        "07a.2",
        lambda a, g, p: (
            torch.where(a / (1 - a) < g, a / (1 - a), torch.tensor(g))
            / {"sample": 1, "epsilon": a / (1 - a), "v_prediction": 1 / (1 - a)}[p]
        ),
    ),
    "07a.2 by torch.minimum": (
        "07a.2",
        lambda a, g, p: (
            torch.minimum(s := a / (1 - a), torch.full_like(a, g)) / (s + 1 if p[0] == "v" else s if p[0] == "e" else 1)
        ),
    ),
    "07a.1 by x0": (
        "07a.1",
        lambda o, x, a, p: (
            (
                a.sqrt()
                * {
                    "sample": o,
                    "epsilon": (x - (1 - a).sqrt() * o) / a.sqrt(),
                    "v_prediction": a.sqrt() * x - (1 - a).sqrt() * o,
                }[p]
                - x
            )
            / (1 - a)
        ),
    ),
    "07a.1 by cases": (
        "07a.1",
        lambda o, x, a, p: (
            (a.sqrt() * o - x).div(1 - a)
            if p == "sample"
            else -o / (1 - a).sqrt()
            if p[0] == "e"
            else -o * (a / (1 - a)).sqrt() - x
        ),
    ),
    "07b.2 by lerp": ("07b.2", lambda v, d: ema_of(v, d)),
    "07b.2 as a tensor": ("07b.2", lambda v, d: torch.tensor(ema_of(v, d))),
    "07b.3 by autograd.grad": (
        "07b.3",
        lambda loss_of, parameters, batch, size: list(
            torch.autograd.grad(sum(loss_of(part).sum() for part in batch.split(size)) / len(batch), parameters)
        ),
    ),
    "07b.3 by weighted means": ("07b.3", gradients_by_weighted_means),
    "08.1 by the signal-to-noise ratio": ("08.1", lambda x, e, a: x * a**-0.5 - ((1 - a) / a) ** 0.5 * e),
    "08.1 by math.sqrt": ("08.1", lambda x, e, a: x.sub(e, alpha=math.sqrt(1 - a)).div(math.sqrt(a))),
    "08.2 by the posterior": (
        "08.2",
        lambda x, e, a, b, z: (
            (m := posterior((x - (1 - a) ** 0.5 * e) / a**0.5, x, a, b)),
            m[0] + m[1] ** 0.5 * z,
        )[1],
    ),
    "08.2 by DDIM's equation 12 with η = 1": (
        "08.2",
        lambda x, e, a, b, z: (
            (v := (1 - b) / (1 - a) * (1 - a / b)),
            b**0.5 * (x - (1 - a) ** 0.5 * e) / a**0.5 + (1 - b - v) ** 0.5 * e + v**0.5 * z,
        )[1],
    ),
    "10.1 as an array": (
        "10.1",
        lambda h, l, n, r: np.append((h ** (1 / r) + np.arange(n) / (n - 1) * (l ** (1 / r) - h ** (1 / r))) ** r, 0),
    ),
    "10.1 as a tensor": (
        "10.1",
        lambda h, l, n, r: torch.cat([torch.linspace(h ** (1 / r), l ** (1 / r), n, dtype=torch.float64) ** r, torch.zeros(1)]),
    ),
    "12.1 by np.floor": ("12.1", lambda n, s, w: np.floor(round(n * s, 6)) * (2 - (w == 1))),
    "12.1 by //": ("12.1", lambda n, s, w: round(n * s, 6) // 1 * (1 if w == 1 else 2)),
    "12.1 as np.int64": ("12.1", lambda n, s, w: np.int64(round(n * s, 6)) * (1 if w == 1 else 2)),
    "15.3 by all choices": (
        "15.3",
        lambda scores, k: np.mean([max(c) for c in __import__("itertools").combinations(scores, k)]),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_unusual_right_answer_is_correct(name):
    exercise, function = RIGHT[name]
    found = outcome(exercise, function)
    assert (found.state, found.said) == ("correct", "correct")


def test_all_batches_kept_are_found_out():
    def keeping(batches):
        return 1 / torch.cat(list(batches)).double().std(correction=0).item()

    assert "you keep all batches" in outcome("02.2", keeping).said


def test_two_passes_over_an_iterator_are_found_out():
    def twice(batches):
        count = sum(b.numel() for b in batches)
        return 1 / (sum(b.square().sum().item() for b in batches) / count) ** 0.5

    assert "gone through once" in outcome("02.2", twice).said


def test_two_mistakes_at_once_are_both_named():
    both = answer("10.3", ("s_churn / n", "s_churn"), ("(1 + gamma) * sigma", "gamma + sigma"))
    said = outcome("10.3", both).said
    assert said.startswith("two mistakes: ") and "you add gamma" in said
