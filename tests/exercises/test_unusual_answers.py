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


def sampler_by_posterior(model, x, timesteps, bars, generator):
    for t, a_next in zip(timesteps, [*(float(bars[t]) for t in timesteps[1:]), 1.0]):
        a = float(bars[t])
        mean, variance = posterior((x - (1 - a) ** 0.5 * model(x, t)) / a**0.5, x, a, a_next)
        x = mean + (variance**0.5 * torch.randn(x.shape, generator=generator) if a_next < 1 else 0)
    return x


def sampler_by_ddim(model, x, timesteps, bars, generator):
    for k, t in enumerate(timesteps):
        a, a_next = float(bars[t]), float(bars[timesteps[k + 1]]) if k + 1 < len(timesteps) else 1.0
        eps, variance = model(x, t), (1 - a_next) / (1 - a) * (1 - a / a_next)
        x = (a_next / a) ** 0.5 * (x - (1 - a) ** 0.5 * eps) + (1 - a_next - variance) ** 0.5 * eps
        if k + 1 < len(timesteps):
            x = x + variance**0.5 * torch.randn(x.shape, generator=generator)
    return x


def slerp_by_pairs(a, b, fraction):
    def one(p, q):
        angle = torch.arccos((p * q).sum() / p.norm() / q.norm())
        return (torch.sin(angle * (1 - fraction)) * p + torch.sin(angle * fraction) * q) / torch.sin(angle)

    return torch.stack([one(p, q) for p, q in zip(a, b)])


def slerp_by_unit_vectors(a, b, fraction):
    p, q = a.flatten(1), b.flatten(1)
    cosine = torch.einsum("bd,bd->b", torch.nn.functional.normalize(p, dim=1), torch.nn.functional.normalize(q, dim=1))
    angle = cosine.acos()[:, None]
    return ((angle * (1 - fraction)).sin() / angle.sin() * p + (angle * fraction).sin() / angle.sin() * q).view_as(a)


def inversion_by_sigma(model, x, levels):
    x = x / levels[0] ** 0.5  # in x0 + σ ε, where a step is Euler's
    for a, b in zip(levels, levels[1:]):
        stride = (1 / b - 1) ** 0.5 - (1 / a - 1) ** 0.5
        trial = x + stride * model(a**0.5 * x, a)
        x = x + stride * model(b**0.5 * trial, b)
    return levels[-1] ** 0.5 * x


def inversion_by_rotation(model, x, levels):
    def step(x, eps, a, b):
        return (b / a) ** 0.5 * x + ((1 - b) ** 0.5 - (b * (1 - a) / a) ** 0.5) * eps

    for k in range(len(levels) - 1):
        a, b = levels[k : k + 2]
        x = step(x, model(step(x, model(x, a), a, b), b), a, b)
    return x


def midpoint_by_slope(D, x, sigmas):
    slope = lambda x, sigma: (x - D(x, sigma)) / sigma  # noqa: E731
    for a, b in zip(sigmas[:-1], sigmas[1:]):
        x = x + (b - a) * slope(x + (b - a) / 2 * slope(x, a), (a + b) / 2)
    return x


def midpoint_by_denoised(D, x, sigmas):
    for a, b in zip(sigmas, sigmas[1:]):
        middle = 0.5 * (a + b)
        half = D(x, a) + middle / a * (x - D(x, a))  # between D and x
        x = torch.add(x, (half - D(half, middle)) * ((b - a) / middle))
    return x


def algorithm_2_by_euler_and_heun(D, x, sigmas, s_churn, s_tmin, s_tmax, generator):
    steps = list(zip(sigmas, sigmas[1:]))
    for a, b in steps:
        gamma = np.clip(s_churn / len(steps), 0, math.sqrt(2) - 1) * (s_tmin <= a <= s_tmax)
        if gamma:
            x = x + a * ((1 + gamma) ** 2 - 1) ** 0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        a = a * (1 + gamma)
        first = (x - D(x, a)) / a
        end = x + (b - a) * first
        x = end if b == 0 else x + (b - a) * 0.5 * (first + (end - D(end, b)) / b)
    return x


def algorithm_2_by_index(D, x, sigmas, s_churn, s_tmin, s_tmax, generator):
    n = len(sigmas) - 1
    for i in range(n):
        inside = s_tmin <= sigmas[i] and not sigmas[i] > s_tmax
        hat = sigmas[i] * (1 + (min(s_churn / n, 2**0.5 - 1) if inside else 0))
        if hat > sigmas[i]:
            x = torch.randn(x.shape, generator=generator, dtype=x.dtype).mul((hat**2 - sigmas[i] ** 2) ** 0.5).add(x)
        d = x.sub(D(x, hat)).div(hat)
        y = x + d * (sigmas[i + 1] - hat)
        if i < n - 1:
            y = y + (sigmas[i + 1] - hat) / 2 * (y.sub(D(y, sigmas[i + 1])).div(sigmas[i + 1]) - d)
        x = y
    return x


def family_by_denoised(D, x, sigmas, eta, generator):
    for a, b in zip(sigmas, sigmas[1:]):
        x0, up = D(x, a), min(b, eta * b * math.sqrt(1 - (b / a) ** 2))
        x = x0 + math.sqrt(b * b - up * up) / a * (x - x0)  # down / σ of the noise stays
        if up > 0:
            x = torch.randn(x.shape, generator=generator, dtype=x.dtype) * up + x
    return x


def family_by_eps(D, x, sigmas, eta, generator):
    for i in range(1, len(sigmas)):
        here, there = sigmas[i - 1], sigmas[i]
        eps = (x - D(x, here)) / here
        variance = min(there**2, eta**2 * there**2 * (1 - there**2 / here**2))
        x = x - here * eps + (there**2 - variance) ** 0.5 * eps
        x = x + variance**0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype) if variance else x
    return x


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
    "08.3 by the posterior": ("08.3", sampler_by_posterior),
    "08.3 by DDIM's equation 12": ("08.3", sampler_by_ddim),
    "09.1 by two roots": (
        "09.1",
        lambda a, b, eta: min(eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b), math.sqrt(1 - b)),
    ),
    "09.1 as a tensor": (
        "09.1",
        lambda a, b, eta: torch.tensor(eta**2 * (1 - b) / (1 - a) * (1 - a / b)).clamp(max=1 - b).sqrt(),
    ),
    "09.2 pair by pair": ("09.2", slerp_by_pairs),
    "09.2 by unit vectors": ("09.2", slerp_by_unit_vectors),
    "09.3 as Euler's method": ("09.3", inversion_by_sigma),
    "09.3 by factors of x and ε": ("09.3", inversion_by_rotation),
    "10.1 as an array": (
        "10.1",
        lambda h, l, n, r: np.append((h ** (1 / r) + np.arange(n) / (n - 1) * (l ** (1 / r) - h ** (1 / r))) ** r, 0),
    ),
    "10.1 as a tensor": (
        "10.1",
        lambda h, l, n, r: torch.cat([torch.linspace(h ** (1 / r), l ** (1 / r), n, dtype=torch.float64) ** r, torch.zeros(1)]),
    ),
    "10.2 by a function for the slope": ("10.2", midpoint_by_slope),
    "10.2 by the denoised point": ("10.2", midpoint_by_denoised),
    "10.3 in two parts": ("10.3", algorithm_2_by_euler_and_heun),
    "10.3 by the number of the step": ("10.3", algorithm_2_by_index),
    "11.1 by a power": ("11.1", lambda x, a: (x * a**-0.5, (1 / a - 1) ** 0.5)),
    "11.1 as a list": ("11.1", lambda x, a: [x.div(math.sqrt(a)), math.sqrt(1 - a) / math.sqrt(a)]),
    "11.2 by lerp": ("11.2", lambda x, x0, s, n, z: torch.lerp(x0, x, n**2 / s**2) + n * (1 - n**2 / s**2) ** 0.5 * z),
    "11.2 by σ_down": ("11.2", lambda x, x0, s, n, z: x + (n**2 / s - s) * (x - x0) / s + (n**2 - n**4 / s**2) ** 0.5 * z),
    "11.3 by the denoised point": ("11.3", family_by_denoised),
    "11.3 by ε": ("11.3", family_by_eps),
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
