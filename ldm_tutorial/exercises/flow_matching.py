"""Notebook 18: a training pair of flow matching, the velocity from any prediction, and Heun's method along it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..lessons.toy import GaussianMixture
from ..schedulers import FlowMatchEulerDiscreteScheduler
from ..schedulers.spaces import convert
from . import alone_and_in_pairs, call, cases, close, exercise, shape_of, unknown

_MIXTURE = GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.8, 0.7, 0.6], [0.5, 0.3, 0.2])


def velocity(x: Tensor, t: float) -> Tensor:
    """The exact velocity of three clouds at time t, (b, 2)."""
    return _MIXTURE.as_model(FlowMatchEulerDiscreteScheduler())(x, 1000 * float(t))


# ---- 1. What the network is given, and what it should answer


def training_pair(
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    swapped: bool = False,
    roots: bool = False,
    circle: bool = False,
    sign: bool = False,
    only_noise: bool = False,
    only_picture: bool = False,
    summed: bool = False,
    by_t: bool = False,
    not_shrunk: bool = False,
    v: bool = False,
) -> tuple[Tensor, Tensor]:
    """Liu et al. 2022 (2209.03003), equation 1, with t = 1 for noise. Each switch makes a mistake that the check names."""
    t = t.view(-1, 1, 1, 1)
    a, s = (t, 1 - t) if swapped else (1 - t, t)
    if roots:
        a, s = a.sqrt(), s.sqrt()
    if circle:
        a, s = (1 - s**2).sqrt(), s
    if not_shrunk:
        a = torch.ones_like(a)
    x_t = a * x0 + s * noise
    target = x0 - noise if sign else noise + x0 if summed else noise - x0
    target = noise if only_noise else x0 if only_picture else a * noise - s * x0 if v else target
    return x_t, t * target if by_t else target


@exercise(
    "18.1",
    nudge="What must x_t be at t = 0, and at t = 1? And how does x_t change if t grows a little?",
    solution="t = t.view(-1, 1, 1, 1); x_t = (1 - t) * x0 + t * noise; the target is noise - x0",
)
def pair(answer: Callable) -> str | None:
    """18.1: the noisy latents and the target of one training step."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 4, 5, 6, generator=generator, dtype=torch.float64)
    for t in cases((torch.tensor([0.25, 0.7, 0.9]).double(), torch.tensor([0.0, 1.0, 0.4]).double())):
        found = call(answer, x0.clone(), noise.clone(), t.clone())
        if not (isinstance(found, (tuple, list)) and len(found) == 2):
            return f"return two tensors, x_t and the target; yours is {shape_of(found)}"
        for name, part in zip(("x_t", "the target"), found):
            if not isinstance(part, Tensor) or part.shape != x0.shape:
                return f"{name} must be a tensor {tuple(x0.shape)}; yours is {shape_of(part)}"
        right = training_pair(x0, noise, t)
        if all(close(a, b, 1e-6) for a, b in zip(found, right)):
            continue
        if all(close(a, b, 1e-6) for a, b in zip(found[::-1], right)):
            return "the two are in the opposite order: x_t first, then the target"
        for mistake, switches in alone_and_in_pairs(
            {
                "t counts from the picture: x_t is x0 at t = 0, and noise at t = 1": {"swapped": True},
                "these are the roots of the weights: on a straight line they are 1 - t and t themselves": {"roots": True},
                "the weights lie on a circle, as in diffusion: on a straight line they are 1 - t and t": {"circle": True},
                "x0 is not weighted: at t = 1 nothing of it must be left": {"not_shrunk": True},
                "the target has the wrong sign: with growing t, x_t moves from x0 to the noise": {"sign": True},
                "the target is the noise, which diffusion learns: here, it is the slope of the line": {"only_noise": True},
                "the target is the picture: here, it is the slope of the line": {"only_picture": True},
                "you add the two: the slope of the line from x0 to the noise is their difference": {"summed": True},
                "the target is multiplied by t: the slope of a straight line is the same everywhere": {"by_t": True},
                "this is v, a mixture that depends on t: the slope of a straight line is the same everywhere": {"v": True},
            }
        ):
            if all(close(a, b, 1e-6) for a, b in zip(found, training_pair(x0, noise, t, **switches))):
                return mistake
        if close(found[0], right[0], 1e-6):
            return unknown(found[1], right[1], "x_t is right; these are other targets")
        if close(found[1], right[1], 1e-6):
            return unknown(found[0], right[0], "the target is right; these are other x_t")
        return unknown(found[0], right[0], "x_t and the target are others: try t = 0 and t = 1 by hand")
    return None


# ---- 2. One prediction as another


def velocity_from(
    output: Tensor,
    x: Tensor,
    t: Tensor,
    prediction: str,
    sign: bool = False,
    as_it_is: bool = False,
    by_t: bool = False,
    unit: bool = False,
    half_unit: bool = False,
    not_shrunk: bool = False,
    undivided: bool = False,
) -> Tensor:
    """The velocity from "epsilon", "sample" or "v_prediction". Each switch makes a mistake that the check names."""
    if as_it_is:
        return output
    a, s = 1 - t, t
    n = (a**2 + s**2).sqrt()
    if prediction == "epsilon":
        eps = output
        divisor = t if by_t else torch.ones_like(t) if undivided else a
        x0 = (x - (torch.ones_like(s) if not_shrunk else s) * eps) / divisor
    elif prediction == "sample":
        x0 = output
        divisor = a if by_t else torch.ones_like(t) if undivided else s
        eps = (x - (torch.ones_like(a) if not_shrunk else a) * x0) / divisor
    else:
        scaled = x if unit or half_unit else x / n
        u, w = (a, s) if unit else (a / n, s / n)
        x0, eps = u * scaled - w * output, w * scaled + u * output
    return x0 - eps if sign else eps - x0


@exercise(
    "18.2",
    nudge="Find x0 and ε first, in any order: x_t = (1 - t) x0 + t ε has one unknown left. For v, bring x_t to unit scale.",
    solution="ε: x0 = (x_t - t ε) / (1 - t); x0: ε = (x_t - (1 - t) x0) / t; v: divide x_t by √((1 - t)² + t²) first",
)
def conversion(answer: Callable) -> str | None:
    """18.2: the velocity from a network that predicts something else."""
    generator = torch.Generator().manual_seed(1)
    output, x = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    t = torch.tensor([[0.1], [0.3], [0.5], [0.7], [0.95]]).double()
    for prediction in cases(("epsilon", "sample", "v_prediction")):
        asked = f"for {prediction!r}"
        found = call(answer, output.clone(), x.clone(), t.clone(), prediction)
        if not isinstance(found, Tensor) or found.shape != x.shape:
            return f"{asked}, the velocity must be a tensor {tuple(x.shape)}; yours is {shape_of(found)}"
        right = convert(output, x, prediction, "velocity", 1 - t, t)
        if close(found, right, 1e-6):
            continue
        of_v = prediction == "v_prediction"
        a = {"epsilon": "1 - t", "sample": "t"}.get(prediction)
        mistakes = {
            "you return the output as it is: that is not the velocity": {"as_it_is": True},
            "the velocity is ε - x0, from the picture to the noise: yours has the wrong sign": {"sign": True},
            **(
                {
                    "x_t is not at unit scale: (1 - t)² + t² is not 1, so divide x_t, 1 - t and t by its root": {"unit": True},
                    "x_t must be divided by √((1 - t)² + t²), too, not only its weights": {"half_unit": True},
                }
                if of_v
                else {
                    f"you divide by the other weight: here it is {a}": {"by_t": True},
                    f"the division by {a} is missing": {"undivided": True},
                    "what you subtract from x_t has a weight: x_t = (1 - t) x0 + t ε": {"not_shrunk": True},
                }
            ),
        }
        for mistake, switches in alone_and_in_pairs(mistakes):
            if close(found, velocity_from(output, x, t, prediction, **switches), 1e-6):
                return f"{asked}: {mistake}"
        for other in ("epsilon", "sample", "v_prediction"):
            if close(found, convert(output, x, other, "velocity", 1 - t, t), 1e-6):
                return f"{asked}: this would be right for {other!r}: is the argument used?"
        for name, words in (("epsilon", "ε"), ("sample", "x0")):
            if close(found, convert(output, x, prediction, name, 1 - t, t), 1e-6):
                return f"{asked}: this is {words}; the velocity is ε - x0"
        return unknown(found, right, f"{asked}, these are other velocities")
    return None


# ---- 3. Heun's method


def heun(
    velocity: Callable,
    x: Tensor,
    times: Sequence[float],
    only_euler: bool = False,
    old_time: bool = False,
    from_trial: bool = False,
    summed: bool = False,
    at_x: bool = False,
    last_euler: bool = False,
    second_only: bool = False,
    midpoint: bool = False,
    uphill: bool = False,
) -> Tensor:
    """EDM (2206.00364), Algorithm 1, along a velocity. Each switch makes a mistake that the check names."""
    for t, t_next in zip(times, times[1:]):
        h = t - t_next if uphill else t_next - t
        first = velocity(x, t)
        if only_euler or (last_euler and t_next == 0):
            x = x + h * first
            continue
        trial = x + (h / 2 if midpoint else h) * first
        at = t if old_time else (t + t_next) / 2 if midpoint else t_next
        second = velocity(x if at_x else trial, at)
        slope = second if second_only or midpoint else first + second if summed else (first + second) / 2
        x = (trial if from_trial else x) + h * slope
    return x


@exercise(
    "18.3",
    nudge="Count the calls of velocity: two in each step, the last one too. Where and at which time is the second?",
    solution="first = velocity(x, t); second = velocity(x + h first, t_next); x = x + h (first + second) / 2, h = t_next - t",
)
def heun_along_the_velocity(answer: Callable) -> str | None:
    """18.3: Heun's method down to t = 0."""
    times = [1.0, 0.6, 0.3, 0.1, 0.0]
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = call(answer, velocity, x.clone(), list(times))
    if not isinstance(found, Tensor) or found.shape != x.shape:
        return f"the result must be a tensor {tuple(x.shape)}, as x is; yours is {shape_of(found)}"
    right = heun(velocity, x, times)
    if close(found, right, 1e-6):
        return None
    for mistake, switches in alone_and_in_pairs(
        {
            "that is Euler's method: the velocity at the end of the step is not used": {"only_euler": True},
            "the last step is Euler's: at t = 0 this velocity is defined, so evaluate it there, too": {"last_euler": True},
            "the second velocity is taken at the end of the step: give it t_next": {"old_time": True},
            "the step with the mean starts from the same x again, not from the trial": {"from_trial": True},
            "the mean of two velocities is half of their sum": {"summed": True},
            "the second velocity is taken at x: take it where Euler's step ends": {"at_x": True},
            "you use the second velocity alone: take the mean of both": {"second_only": True},
            "that is the midpoint method: here, the second velocity is that at the end of the step": {"midpoint": True},
            "the steps go the wrong way: t_next - t is negative, since sampling goes from noise to data": {"uphill": True},
        }
    ):
        if close(found, heun(velocity, x, times, **switches), 1e-6):
            return mistake
    for wrong, mistake in (
        (heun(velocity, x, times[:2]), "you return after the first step: `return` is in the loop"),
        (heun(velocity, x, times[:-1]), "the last step is missing: zip(times, times[1:]) has every step"),
        (x, "x is returned as it was given: each step must begin where the last one ended"),
    ):
        if close(found, wrong, 1e-6):
            return mistake
    return unknown(found, right, "these are other points: compare your first step with one done by hand")
