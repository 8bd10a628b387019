"""The scheduler lab in numbers and figures, without a widget: noise levels, paths and errors of the four schedulers.

Paths and errors are those on a mixture of Gaussians in the plane, for which the best possible model is a formula (`toy.py`):
whatever goes wrong, the scheduler did it. To be compared, all paths are shown at unit scale, sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor

from ..figures.canvas import new_figure
from ..lessons.toy import GaussianMixture, energy_distance
from ..schedulers import COURSE, SCHEDULERS, Scheduler, make_scheduler, randn

LAB_MIXTURE = GaussianMixture([[1.2, 0.0], [-0.6, 1.0], [-0.6, -1.0]], [0.25, 0.2, 0.15], [0.5, 0.3, 0.2])
ERROR_STEPS = (5, 10, 20, 40, 80)
SHOWN = 14  # points whose way is drawn
POINTS = 1500  # for the energy distance
CHANCE = 0.004  # energy distance of two samples of the mixture itself: 95 of 100 are below


def schedulers(steps: int, spacing: str = "", karras: bool = False) -> dict[str, Scheduler]:
    """The four, ready to sample. spacing: "", each one's own, or one for all.

    karras: Euler on the noise levels of Karras et al. 2022, the only one to have them.
    """
    found = {}
    for name in COURSE:
        settings: dict[str, Any] = {"timestep_spacing": spacing} if spacing else {}
        if karras and name == "euler":
            settings["use_karras_sigmas"] = True
        found[name] = make_scheduler(name, **settings)
        found[name].set_timesteps(steps)
    return found


def levels(scheduler: Scheduler) -> tuple[np.ndarray, np.ndarray]:
    """(timesteps, σ) of each step, (n,) both."""
    return scheduler.timesteps.numpy().astype(float), scheduler.sigma_at(scheduler.timesteps).numpy()


def level_figure(found: Mapping[str, Scheduler]) -> Figure:
    """Timesteps on the left, noise levels on the right. Lines that lie on each other can be told by marker and dash."""
    figure = new_figure(8.4, 3.4, "constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, scheduler) in enumerate(found.items()):
        look = {**SCHEDULERS[name].label.look, "markersize": 8 - 1.6 * i, "linewidth": 3 - 0.6 * i, "markerfacecolor": "none"}
        timesteps, sigmas = levels(scheduler)
        steps = np.arange(1, len(timesteps) + 1)
        left.plot(steps, timesteps, label=SCHEDULERS[name].label.title, **look)
        right.plot(steps, sigmas, label=SCHEDULERS[name].label.title, **look)
    left.set(xlabel="step", ylabel="timestep that the U-Net is told", title="timesteps")
    right.set(xlabel="step", ylabel="σ, noise per unit of picture", yscale="log", title="noise levels")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(frameon=False)
    return figure


# ---- paths


@torch.no_grad()
def paths(scheduler: Scheduler, points: int = 60, seed: int = 0) -> tuple[Tensor, list[float]]:
    """From noise to the mixture: x at unit scale, (n + 1, points, 2), and ᾱ at each of the n + 1 levels."""
    generator = torch.Generator().manual_seed(seed)
    model, sigmas = LAB_MIXTURE.as_model(scheduler), [*levels(scheduler)[1], 0.0]
    grows = not hasattr(scheduler, "alpha_bars")  # x = x0 + σ ε, not at unit scale
    x = scheduler.init_noise_sigma * randn((points, 2), generator)
    visited = [x]
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x, generator).prev_sample
        visited.append(x)
    alpha_bars = [1 / (sigma**2 + 1) for sigma in sigmas]
    at_unit_scale = [x * a**0.5 if grows else x for x, a in zip(visited, alpha_bars)]
    return torch.stack(at_unit_scale), alpha_bars


@lru_cache(maxsize=1)
def plane() -> tuple[np.ndarray, Tensor]:
    """The ticks of a square grid around 0, (70,), and its points, (4900, 2)."""
    ticks = np.linspace(-2.8, 2.8, 70)
    grid = np.stack(np.meshgrid(ticks, ticks), -1)  # (70, 70, 2)
    return ticks, torch.from_numpy(grid.reshape(-1, 2))


def path_figure(walked: Mapping[str, tuple[Tensor, list[float]]], index: int) -> Figure:
    """All points at level `index` (0: the noise), the way that some of them came, and the density they should have."""
    figure = new_figure(8.8, 2.45, "constrained")
    ticks, grid = plane()
    for axes, (name, (x, alpha_bars)) in zip(np.atleast_1d(figure.subplots(1, len(walked))), walked.items()):
        i = min(index, len(x) - 1)
        density = LAB_MIXTURE.log_prob(grid, alpha_bars[i]).exp().reshape(len(ticks), -1)
        axes.contourf(ticks, ticks, density, levels=8, cmap="Greys", alpha=0.7)
        axes.plot(*x[: i + 1, :SHOWN].permute(2, 0, 1).numpy(), color=SCHEDULERS[name].label.color, linewidth=0.7, alpha=0.8)
        axes.scatter(*x[i].T.numpy(), s=12, color=SCHEDULERS[name].label.color, edgecolors="white", linewidths=0.4, zorder=3)
        axes.set(title=SCHEDULERS[name].label.title, xlim=(-2.8, 2.8), ylim=(-2.8, 2.8), xticks=[], yticks=[], aspect="equal")
    return figure


# ---- errors


def exact_end(start: Tensor, sigma: float, n: int = 150) -> Tensor:
    """Where the probability-flow ODE, dx / d log σ = x - D(x; σ), takes x at noise level σ: (b, 2), by Heun's method."""

    def slope(x: Tensor, log_sigma: float) -> Tensor:
        a = 1 / (np.exp(2 * log_sigma) + 1)
        return x - LAB_MIXTURE.denoised(x * a**0.5, a)

    x, grid = start, np.linspace(np.log(sigma), np.log(1e-4), n + 1)
    for here, there in zip(grid, grid[1:]):
        k = slope(x, here)
        x = x + (there - here) / 2 * (k + slope(x + (there - here) * k, there))
    return x


def path_error(scheduler: Scheduler, points: int = 100) -> float:
    """Root mean square distance between where the scheduler ends and where the exact path from the same noise does."""
    sigma = scheduler.sigma_at(scheduler.timesteps[0]).item()
    noise = torch.randn(points, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = LAB_MIXTURE.sample(points, torch.Generator().manual_seed(1)) + sigma * noise  # x0 + σ ε
    x = start * (1 if not hasattr(scheduler, "alpha_bars") else (sigma**2 + 1) ** -0.5)
    model = LAB_MIXTURE.as_model(scheduler)
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x, torch.Generator().manual_seed(2)).prev_sample
    return (x - exact_end(start, sigma)).square().sum(1).mean().sqrt().item()


def distribution_error(scheduler: Scheduler, points: int = POINTS) -> float:
    """Energy distance between what the scheduler draws and the mixture itself. Below `CHANCE` it is luck."""
    drawn = paths(scheduler, points)[0][-1].double()
    return energy_distance(drawn, LAB_MIXTURE.sample(points, torch.Generator().manual_seed(5)))


def error_curves(
    spacing: str = "", karras: bool = False, steps: Sequence[int] = ERROR_STEPS
) -> dict[str, dict[str, list[float]]]:
    """ "path" of the two that add no noise, and "distribution" of all four: scheduler -> an error for each of `steps`."""
    by_steps = [schedulers(n, spacing, karras) for n in steps]
    return {
        "path": {name: [path_error(found[name]) for found in by_steps] for name in ("ddim", "euler")},
        "distribution": {name: [distribution_error(found[name]) for found in by_steps] for name in COURSE},
    }


def error_figure(curves: Mapping[str, Mapping[str, Sequence[float]]], steps: Sequence[int] = ERROR_STEPS) -> Figure:
    """The two kinds of `error_curves` side by side, both axes logarithmic; what is no more than chance is gray."""
    figure = new_figure(8.4, 3.4, "constrained")
    titles = {"path": "distance from the exact path's end", "distribution": "energy distance from the mixture"}
    for axes, (kind, lines) in zip(figure.subplots(1, 2), curves.items()):
        for i, (name, errors) in enumerate(lines.items()):
            look = {**SCHEDULERS[name].label.look, "markersize": 8 - 1.2 * i, "markerfacecolor": "none"}
            axes.plot(steps, np.maximum(errors, CHANCE / 10), label=SCHEDULERS[name].label.title, **look)
        if kind == "distribution":
            axes.axhspan(CHANCE / 10, CHANCE, color="0.9", label="no more than chance")
        axes.set(xlabel="steps", xscale="log", yscale="log", title=titles[kind])
        axes.set_xticks(steps, [str(n) for n in steps])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure
