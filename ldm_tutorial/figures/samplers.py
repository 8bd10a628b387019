"""Figures of the notebooks on schedulers: paths through noise levels, errors against cost, and what a step conditions on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.ticker import NullFormatter, NullLocator
from torch import Tensor

from ..lessons.toy import GaussianMixture
from ..schedulers import DDIMScheduler, DDPMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from ..schedulers.noise_schedule import karras_sigmas
from ..schedulers.spaces import VEScheduler, VPScheduler
from .canvas import FAINT, INK, MARKERS, PART_COLORS, POINT_COLORS, blank_page, new_figure
from .plots import plain_log_ticks


def paths_in_the_plane(
    paths: Mapping[str, Tensor], mixture: GaussianMixture, limit: float = 3.0, shown: int = 12, size: float = 3.1
) -> Figure:
    """One panel for each method: the ways of the first points through the plane, and where all of them end.

    paths: name -> (steps + 1, b, 2), from noise to the end. Behind them, in gray, the density of the mixture.
    """
    figure = new_figure(size * len(paths), size + 0.3, "constrained")
    ticks = torch.linspace(-limit, limit, 80, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1)  # (80, 80, 2)
    density = mixture.log_prob(grid.view(-1, 2)).exp().view(80, 80)
    for axes, (name, path) in zip(figure.subplots(1, len(paths), squeeze=False)[0], paths.items()):
        axes.contourf(ticks, ticks, density, levels=8, cmap="Greys", alpha=0.55)
        axes.plot(*path[-1].T, ".", color=POINT_COLORS[0], markersize=2.5, alpha=0.35)
        for k in range(min(shown, path.shape[1])):
            axes.plot(*path[:, k].T, "-", color=POINT_COLORS[1], linewidth=0.9, marker=".", markersize=2.5)
            axes.plot(*path[0, k], "o", markersize=4, markerfacecolor="white", markeredgecolor=INK)
            axes.plot(*path[-1, k], "o", markersize=4.5, color=INK)
        axes.set(title=name, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
        axes.title.set_size(11)
    return figure


def errors_against_cost(
    curves: Mapping[str, Sequence[float]],
    costs: Mapping[str, Sequence[float]] | Sequence[float],
    ylabel: str,
    xlabel: str = "number of steps",
    slopes: Mapping[str, float] | None = None,
) -> Figure:
    """Error against cost, both logarithmic, so that error ~ cost^-p is a straight line of slope -p.

    costs: one list for all curves, or one for each. slopes: label -> p, thin lines to compare with.
    """
    figure = new_figure(6.4, 3.4, "constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    for (name, values), marker, color in zip(curves.items(), MARKERS, POINT_COLORS):
        cost = costs[name] if isinstance(costs, Mapping) else costs
        axes.plot(cost, values, color=color, marker=marker, markersize=5, linewidth=1.6, label=name)
    low, high = (np.array(axes.get_xlim()) * [1.1, 0.9]).tolist()
    top = max(max(values) for values in curves.values())
    for (label, p), style in zip((slopes or {}).items(), [":", "--", "-."]):
        axes.plot([low, high], [top, top * (low / high) ** p], style, color="0.55", linewidth=1.2, label=label)
    ticks = sorted({c for values in (costs.values() if isinstance(costs, Mapping) else [costs]) for c in values})
    axes.set_xticks(ticks if len(ticks) < 10 else ticks[::2], minor=False)
    axes.xaxis.set_minor_locator(NullLocator())
    short = top < 10 * min(min(values) for values in curves.values())  # less than a decade: 10, 100, ... say too little
    axes.yaxis.set_minor_formatter("{x:g}" if short else NullFormatter())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def chains() -> Figure:
    """What each x is drawn from: in DDPM's noise, in DDIM's, and when DDIM leaves steps out. After 2010.02502, fig. 1, 2."""
    figure, axes = blank_page(9.6, 6.0, (0, 96), (0, 60), "equal")
    places = dict(zip([4, 3, 2, 1, 0], (14, 31, 48, 65, 82)))

    def node(t: int, y: float, on: bool = True) -> None:
        color = FAINT if not on else PART_COLORS["vae"] if t == 0 else PART_COLORS["scheduler"]
        axes.add_patch(Circle((places[t], y), 3.0, facecolor=color if on else "white", edgecolor=INK if on else FAINT, zorder=3))
        ink = FAINT if not on else "white" if t == 0 else INK
        axes.text(places[t], y, f"$x_{t}$", ha="center", va="center", fontsize=13, color=ink, zorder=4)

    def arrow(start: int, end: int, y: float, bend: float, color: str, style: str = "-") -> None:
        axes.add_patch(
            FancyArrowPatch(
                (places[start], y),
                (places[end], y),
                connectionstyle=f"arc3,rad={bend}",
                arrowstyle="-|>",
                mutation_scale=13,
                shrinkA=23,
                shrinkB=23,
                color=color,
                linestyle=style,
                linewidth=1.7,
                zorder=2,
            )
        )

    def words(y: float, title: str, text: str) -> None:
        axes.text(3, y + 2.8, title, fontsize=11.5, weight="bold", color=INK, va="center")
        axes.text(3, y, text, fontsize=9.5, color="#444444", va="center")

    def draw(y: float, sampled: Sequence[int], noised: Sequence[int], from_picture: Sequence[int]) -> None:
        for t in places:
            node(t, y, t in sampled)
        for here, there in pairwise(sampled):
            arrow(here, there, y, 0.18 if here - there == 1 else 0.3, PART_COLORS["unet"])
        for here, there in pairwise(noised):
            arrow(here, there, y, 0.18, PART_COLORS["text_encoder"], "--")
        for t in from_picture:
            arrow(0, t, y, 0.28 - 0.025 * t, PART_COLORS["text_encoder"], ":")

    every = [4, 3, 2, 1, 0]
    words(54, "Markovian (DDPM)", "noise: each x comes from the one before it, and from nothing else")
    draw(47, every, every[::-1], [])
    alone = "every $x_t$ alone is distributed as above"
    words(38, "non-Markovian (DDIM)", f"noise: each x comes from the one before it and from the picture; {alone}")
    draw(25, every, every[::-1], [2, 3, 4])
    visited = "the same network; sampling visits only the levels in the list τ, and ends at the picture"
    words(16, "steps left out (DDIM, τ = 2, 4)", visited)
    draw(8, [4, 2, 0], [], [])
    axes.plot([58, 62], [57.3, 57.3], "-", color=PART_COLORS["unet"], linewidth=2)
    axes.text(63, 57.3, "sampling", fontsize=9, va="center")
    axes.plot([73, 77], [57.3, 57.3], "--", color=PART_COLORS["text_encoder"], linewidth=2)
    axes.text(78, 57.3, "adding noise", fontsize=9, va="center")
    return figure


def starts_by_end(paths: Mapping[str, Tensor], mixture: GaussianMixture, limit: float = 3.0, size: float = 3.4) -> Figure:
    """One panel for each method: the starting points, in the color and marker of the component nearest to their end."""
    figure = new_figure(size * len(paths), size + 0.3, "constrained")
    for axes, (name, path) in zip(figure.subplots(1, len(paths), squeeze=False)[0], paths.items()):
        nearest = torch.cdist(path[-1].double(), mixture.means).argmin(1)  # (b,)
        for k, (color, marker) in enumerate(zip(POINT_COLORS, MARKERS)):
            axes.plot(*path[0, nearest == k].T, marker, color=color, markersize=2.5, alpha=0.7, markeredgewidth=0)
        axes.set(title=name, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
        axes.title.set_size(11)
    return figure


def noise_triangle(sigma: float, splits: Sequence[tuple[float, float]], names: Sequence[str]) -> Figure:
    """How ancestral sampling reaches the next noise level: splits are (σ_up, σ_down), all with the same root of squares."""
    figure = new_figure(5.2, 3.4, "constrained")
    axes = figure.add_subplot(aspect="equal")
    level = float(np.hypot(*splits[0]))
    angles = np.linspace(0, np.pi / 2, 90)
    axes.plot(level * np.cos(angles), level * np.sin(angles), color="0.6", linewidth=1.2)
    axes.text(0.25 * level, 1.0 * level, f"$σ_{{next}}$ = {level:g}", color="0.4", fontsize=10)
    for (up, down), name, color, style in zip(splits, names, POINT_COLORS, ["-", "--", "-."]):
        label = f"{name}: down to {down:.3g}, up {up:.3g}"
        axes.plot([0, down, down], [0, 0, up], color=color, linewidth=2.2, linestyle=style, label=label)
        axes.plot([0, down], [0, up], color=color, linewidth=0.9, linestyle=style)
        axes.plot(down, up, "o", color=color, markersize=6)
    axes.plot([level, sigma], [0, 0], ":", color=INK, linewidth=1.5)
    axes.plot(sigma, 0, "s", color=INK, markersize=6)
    axes.text(sigma, 0.12 * level, f"σ = {sigma:g}", ha="center", fontsize=10)
    axes.set(xlabel="noise that is kept, $σ_{down}$", ylabel="new noise, $σ_{up}$")
    axes.set(xlim=(-0.1, sigma * 1.06), ylim=(-0.1, level * 1.15))
    axes.legend(frameon=False, fontsize=8.5, loc="upper right")
    return figure


class Strips(NamedTuple):
    """One pair of axes: columns of points, a point for each picture.

    paired: lines between the points of the same place in neighboring columns. intervals: column -> (low, high), a bar beside
    its points, with their mean. marks: column -> (label, value), a ring around one of its points.
    """

    scores: Mapping[str, Sequence[float]]
    ylabel: str
    title: str = ""
    paired: bool = False
    intervals: Mapping[str, tuple[float, float]] = {}
    marks: Mapping[str, tuple[str, float]] = {}
    yscale: str = "linear"


def score_strips(*panels: Strips, height: float = 3.4) -> Figure:
    """Scores of many pictures side by side: all of them, not only their means. A dotted line is 0, where 0 is in view.

    Panels whose numbers are of one kind, by their ylabel, share one scale.
    """
    columns = [len(panel.scores) for panel in panels]
    width = 0.5 + sum(1.1 + 1.15 * n for n in columns)
    figure = new_figure(width, height, "constrained")
    one_kind = len({panel.ylabel for panel in panels}) == 1
    axes_of = figure.subplots(1, len(panels), squeeze=False, sharey=one_kind, width_ratios=[0.6 + n for n in columns])[0]
    for axes, panel in zip(axes_of, panels):
        if panel.paired:
            for pair in zip(*panel.scores.values()):
                axes.plot(range(len(pair)), pair, color="0.75", linewidth=0.8, zorder=1)
        for i, (name, scores) in enumerate(panel.scores.items()):
            color, values = POINT_COLORS[i % len(POINT_COLORS)], np.asarray(scores)
            axes.plot([i] * len(values), values, MARKERS[i % len(MARKERS)], color=color, alpha=0.55, markersize=5, zorder=2)
            if name in panel.intervals:
                low, high = panel.intervals[name]
                axes.plot([i + 0.22] * 2, [low, high], color=INK, linewidth=2.5, solid_capstyle="butt")
                middle = values.mean() if len(values) else (low + high) / 2
                axes.plot(i + 0.22, middle, "_", color=INK, markersize=13, markeredgewidth=2)
            if name in panel.marks:
                label, value = panel.marks[name]
                axes.plot(i, value, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.6)
                axes.annotate(label, (i, value), (10, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set(title=panel.title, ylabel=panel.ylabel, xlim=(-0.5, len(panel.scores) - 0.3), yscale=panel.yscale)
        axes.set_xticks(range(len(panel.scores)), list(panel.scores), fontsize=9)
        axes.title.set_size(11)
        axes.grid(axis="y", alpha=0.3)
    for axes, panel in zip(axes_of, panels):  # now that all points are there
        low, high = axes.get_ylim()
        if panel.yscale == "log":
            plain_log_ticks(axes.yaxis)
        elif low <= 0 <= high:
            axes.axhline(0, color=INK, linestyle=":", linewidth=1)
    return figure


def scores_by_steps(
    scores: Mapping[str, Mapping[int, Tensor]], interval: Callable[[Tensor], tuple[float, float]], ylabel: str
) -> Figure:
    """How well each scheduler follows its prompts at each number of steps: the mean, and a bar for its interval.

    scores: scheduler -> steps -> (prompts, seeds), and `interval` of such a tensor is (low, high). The schedulers stand side by
    side at each number of steps, so that no bar hides another.
    """
    figure = new_figure(7.2, 3.4, "constrained")
    axes = figure.add_subplot()
    steps = list(next(iter(scores.values())))
    for k, (name, by_steps) in enumerate(scores.items()):
        color, marker = POINT_COLORS[k % len(POINT_COLORS)], MARKERS[k % len(MARKERS)]
        places = [i + 0.16 * (k - (len(scores) - 1) / 2) for i in range(len(steps))]
        means = [by_steps[n].double().mean().item() for n in steps]
        axes.vlines(places, *zip(*(interval(by_steps[n]) for n in steps)), color=color, linewidth=2)
        axes.plot(places, means, marker=marker, color=color, linewidth=0.8, markersize=6, label=name)
    axes.set_xticks(range(len(steps)), [f"{n} steps" for n in steps])
    axes.set(ylabel=ylabel)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=9, ncols=len(scores), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def design_choices(steps: int = 10) -> dict[str, dict[str, str]]:
    """Sampler -> choice -> value, after Karras et al. 2022 (2206.00364), Table 1, at Stable Diffusion v1.5's noise levels.

    The levels are computed with our schedulers' defaults. EDM's are those of the paper: σ 80 ... 0.002, ρ = 7, σ_data = 0.5.
    """
    found: dict[str, dict[str, str]] = {}
    schedulers: dict[str, VPScheduler | VEScheduler] = {
        "DDPM": DDPMScheduler(),
        "DDIM": DDIMScheduler(),
        "Euler": EulerDiscreteScheduler(),
        "Euler ancestral": EulerAncestralDiscreteScheduler(),
    }
    for name, scheduler in schedulers.items():
        scheduler.set_timesteps(steps)
        sigmas = scheduler.sigma_at(scheduler.timesteps).tolist()
        unit_scale = isinstance(scheduler, VPScheduler)
        end = (1 / scheduler.final_alpha_bar - 1) ** 0.5 if isinstance(scheduler, VPScheduler) else scheduler.sigmas[-1].item()
        found[name] = {
            "method": "Euler's to $σ_{down}$" if name in ("DDPM", "Euler ancestral") else "Euler's",
            "new noise in a step": {"DDIM": "none (η = 0)", "Euler": "none"}.get(name, "$σ_{up}$ (η = 1)"),
            "timesteps": f"{scheduler.timesteps[0]:g} ... {scheduler.timesteps[-1]:g}, {scheduler.timestep_spacing}",
            "first σ": f"{sigmas[0]:.3g}",
            "middle σ": f"{sigmas[steps // 2]:.3g}",
            "last σ": f"{end:.2g}",
            "x is kept as": "$\\sqrt{\\bar{α}}\\,x_0 + \\sqrt{1 - \\bar{α}}\\,ε$" if unit_scale else "$x_0 + σ ε$",
            "the network gets": "x" if unit_scale else "x / $\\sqrt{σ^2 + 1}$",
            "that is, at the first σ": "1 x" if unit_scale else f"{(sigmas[0] ** 2 + 1) ** -0.5:.3f} x",
            "and the noise level as": "t",
            "$c_{skip}$, $c_{out}$": "1, $-σ$",
            "both, at the first σ": f"1, {-sigmas[0]:.3g}",
        }
    sigmas = [*karras_sigmas(80, 0.002, steps).tolist(), 0.0]
    first = sigmas[0]
    found["EDM"] = {
        "method": "Heun's",
        "new noise in a step": "churn, if any",
        "timesteps": "none: σ itself, ρ = 7",
        "first σ": f"{first:.3g}",
        "middle σ": f"{sigmas[steps // 2]:.3g}",
        "last σ": f"{sigmas[-1]:.2g}",
        "x is kept as": "$x_0 + σ ε$",
        "the network gets": "x / $\\sqrt{σ^2 + 0.5^2}$",
        "that is, at the first σ": f"{(first**2 + 0.25) ** -0.5:.4f} x",
        "and the noise level as": "ln(σ) / 4",
        "$c_{skip}$, $c_{out}$": "$\\frac{0.5^2}{σ^2 + 0.5^2}$, $\\frac{0.5\\,σ}{\\sqrt{σ^2 + 0.5^2}}$",
        "both, at the first σ": f"{0.25 / (first**2 + 0.25):.5f}, {0.5 * first / (first**2 + 0.25) ** 0.5:.3f}",
    }
    return found


def design_figure(choices: Mapping[str, Mapping[str, str]]) -> Figure:
    """The table of `design_choices`: sampling above, in the scheduler's color; the network below, in the U-Net's."""
    rows = list(next(iter(choices.values())))
    figure, axes = blank_page(11.2, 0.34 * (len(rows) + 2), (0, 112), (-len(rows) - 0.6, 1.4))
    columns = dict(zip(choices, (22, 41, 59, 77, 95)))
    of_sampling = rows.index("the network gets")
    for top, bottom, part, name in ((0, of_sampling, "scheduler", "sampling"), (of_sampling, len(rows), "unet", "network")):
        axes.axhspan(-bottom + 0.5, -top + 0.5, facecolor=PART_COLORS[part], alpha=0.13)
        axes.text(0.8, -(top + bottom - 1) / 2, name, rotation=90, va="center", fontsize=9.5, weight="bold", color=INK)
    for name, x in columns.items():
        axes.text(x, 0.95, name, fontsize=11, weight="bold", va="center", color=INK)
    for i, row in enumerate(rows):
        axes.text(3.4, -i, row, fontsize=9, va="center", color=INK)
        for name, x in columns.items():
            axes.text(x, -i, choices[name][row], fontsize=9, va="center", color=INK)
    return figure
