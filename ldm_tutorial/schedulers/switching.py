"""From one scheduler to another in the middle of a run: the same noisy picture in the other's form, and a plan from there on.

A run is a noisy picture that loses its noise level by level. Schedulers of one model share the levels: σ, the noise per unit of
picture, means the same for all. They differ in how they write a picture with so much noise (spaces.py), and in which levels they
visit. So to go on with another one takes two things:

    its form    x is multiplied by a number: with s(σ) = 1 for variance preserving, sqrt(σ² + 1) for variance exploding and
                sqrt(σ² + 1) / (σ + 1) for straight x, it becomes x s_new(σ) / s_old(σ)
    its plan    timesteps that begin at the level of x and go down as the other spaces them: `enter`
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..checks import whole_number
from . import noise_schedule
from .base import Scheduler
from .spaces import VPScheduler


def rewrite(x: Tensor, sigma: float, old: Scheduler, new: Scheduler) -> Tensor:
    """x (b, ...) at noise level σ, which the old scheduler has made, in the form of the new one."""
    return x * (new.scale_at(sigma) / old.scale_at(sigma))


def most_steps(scheduler: Scheduler, sigma: float) -> int:
    """In how many steps it can go from noise level σ to the picture: no step is smaller than one of training's."""
    return max(1, math.floor(scheduler.timestep_at(sigma)) - 1)


def enter(scheduler: Scheduler, sigma: float, steps: int) -> None:
    """Its timesteps become those of a run in its middle: `steps` steps that begin at noise level σ, spaced as it spaces its own.

    From a level of its own on, with as many steps as are left, these are its own timesteps but for rounding. (Not so with Karras
    levels in "trailing" spacing, whose last level depends on the number of steps.) After `set_timesteps`, they are those of a
    whole run again. Nothing is kept of earlier steps: the first of DPM-Solver++(2M) is of first order, as in any run.

    Raises TypeError or ValueError for a number of steps other than 1 ... `most_steps`, and ValueError with churn, by which x
    would have to be raised to another level first.
    """
    whole_number("steps", steps, 1, most_steps(scheduler, sigma))
    if churn := getattr(scheduler, "s_churn", 0.0):
        raise ValueError(f"s_churn={churn:g}: a run with churn cannot be entered in its middle; use s_churn=0")
    t = scheduler.timestep_at(sigma)
    scheduler.entering = t
    try:
        scheduler.set_timesteps(steps)
    finally:
        scheduler.entering = None
    if isinstance(scheduler, VPScheduler) and (t % 1 or getattr(scheduler, "use_karras_sigmas", False)):
        _begin_exactly_at(scheduler, t, sigma)


def _begin_exactly_at(scheduler: VPScheduler, t: float, sigma: float) -> None:
    """Between two levels of training: those that keep x at unit scale round timesteps, and would begin at the nearest level."""
    if getattr(scheduler, "use_karras_sigmas", False):  # DPM-Solver++, which begins at the top
        sigmas = noise_schedule.karras_sigmas(sigma, scheduler.train_sigmas[0], len(scheduler.timesteps))
        timesteps = noise_schedule.distinct(noise_schedule.sigmas_to_timesteps(sigmas, scheduler.train_sigmas))
        alpha_bars = 1 / (np.append(sigmas, 0.0) ** 2 + 1)
        scheduler.alpha_bars = torch.from_numpy(alpha_bars)
    else:
        timesteps = np.array([t, *scheduler.timesteps[1:].tolist()], dtype=np.float32)
        first = torch.tensor([1 / (sigma**2 + 1)], dtype=torch.float64)
        scheduler.alpha_bars = torch.cat([first, scheduler.alpha_bars[1:]])
    scheduler.visit(torch.from_numpy(timesteps), scheduler.timesteps.device)
    scheduler.entered = float(timesteps[0]), sigma


def switch_scheduler(x: Tensor, t: Tensor | float, old: Scheduler, new: Scheduler, steps: int) -> Tensor:
    """Go on with `new`, in so many steps, from x (b, ...), which `old` has brought to its timestep t: x in the form of `new`.

        x = scheduler.step(noise_pred, t, x, generator).prev_sample
        x = switch_scheduler(x, scheduler.timesteps[i + 1], scheduler, other, steps=10)  # after step i
        for t in other.timesteps: ...

    In the middle of one of Heun's steps, x is where Euler's method would have gone. The noise of the steps is the caller's: with
    the generators that `old` has used, `new` goes on in their sequence.

    Raises ValueError if they are for models trained to predict different things, and as `enter`.
    """
    if old.prediction_type != new.prediction_type or old.num_train_timesteps != new.num_train_timesteps:
        kinds = [f"{s.prediction_type!r} in {s.num_train_timesteps} timesteps" for s in (old, new)]
        raise ValueError(f"new: {type(new).__name__} is for a model that predicts {kinds[1]}, the run is of one with {kinds[0]}")
    sigma = old.sigma_at(t).item()
    enter(new, sigma, steps)
    return rewrite(x, sigma, old, new)
