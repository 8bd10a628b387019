"""Figures of the notebooks on schedulers: paths through noise levels, errors against cost, and what a step conditions on.

Pure functions to matplotlib figures, like those of `plotting`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from torch import Tensor

from .plotting import DPI, PART_COLORS
from .toy import GaussianMixture

INK, FAINT = "#222222", "#B5B5B5"
COLORS = [PART_COLORS["unet"], PART_COLORS["text_encoder"], PART_COLORS["vae"], "#CC79A7", INK]  # lines that any eye tells apart
MARKERS = "osD^v"


def paths_in_the_plane(
    paths: Mapping[str, Tensor], mixture: GaussianMixture, limit: float = 3.0, shown: int = 12, size: float = 3.1
) -> Figure:
    """One panel for each method: the ways of the first points through the plane, and where all of them end.

    paths: name -> (steps + 1, b, 2), from noise to the end. Behind them, in gray, the density of the mixture.
    """
    figure = Figure(figsize=(size * len(paths), size + 0.3), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    ticks = torch.linspace(-limit, limit, 80, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1)  # (80, 80, 2)
    density = mixture.log_prob(grid.view(-1, 2)).exp().view(80, 80)
    for axes, (name, path) in zip(figure.subplots(1, len(paths), squeeze=False)[0], paths.items()):
        axes.contourf(ticks, ticks, density, levels=8, cmap="Greys", alpha=0.55)
        axes.plot(*path[-1].T, ".", color=COLORS[0], markersize=2.5, alpha=0.35)
        for k in range(min(shown, path.shape[1])):
            axes.plot(*path[:, k].T, "-", color=COLORS[1], linewidth=0.9, marker=".", markersize=2.5)
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
    figure = Figure(figsize=(6.4, 3.4), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", yscale="log")
    for (name, values), marker, color in zip(curves.items(), MARKERS, COLORS):
        cost = costs[name] if isinstance(costs, Mapping) else costs
        axes.plot(cost, values, color=color, marker=marker, markersize=5, linewidth=1.6, label=name)
    low, high = (np.array(axes.get_xlim()) * [1.1, 0.9]).tolist()
    top = max(max(values) for values in curves.values())
    for (label, p), style in zip((slopes or {}).items(), [":", "--", "-."]):
        axes.plot([low, high], [top, top * (low / high) ** p], style, color="0.55", linewidth=1.2, label=label)
    ticks = sorted({c for values in (costs.values() if isinstance(costs, Mapping) else [costs]) for c in values})
    axes.set_xticks(ticks if len(ticks) < 10 else ticks[::2], minor=False)
    axes.xaxis.set_minor_locator(axes.xaxis.get_minor_locator().__class__(subs=[]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def chains() -> Figure:
    """What each x is drawn from: in DDPM's noise, in DDIM's, and when DDIM leaves steps out. After 2010.02502, figures 1 and 2."""
    figure = Figure(figsize=(9.6, 6.0), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 96), ylim=(0, 60), aspect="equal")
    axes.set_axis_off()
    places = dict(zip([4, 3, 2, 1, 0], (14, 31, 48, 65, 82)))

    def node(t: int, y: float, on: bool = True) -> None:
        color = FAINT if not on else PART_COLORS["vae"] if t == 0 else PART_COLORS["scheduler"]
        axes.add_patch(Circle((places[t], y), 3.0, facecolor=color if on else "white", edgecolor=INK if on else FAINT, zorder=3))
        ink = FAINT if not on else "white" if t == 0 else INK
        axes.text(places[t], y, f"$x_{t}$", ha="center", va="center", fontsize=13, color=ink, zorder=4)

    def arrow(start: int, end: int, y: float, bend: float, color: str, style: str = "-") -> None:
        axes.add_patch(
            FancyArrowPatch(
                (places[start], y), (places[end], y), connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=13,
                shrinkA=23, shrinkB=23, color=color, linestyle=style, linewidth=1.7, zorder=2,
            )  # fmt: skip
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
    words(38, "non-Markovian (DDIM)", "noise: each x comes from the one before it and from the picture; every $x_t$ alone is distributed as above")
    draw(25, every, every[::-1], [2, 3, 4])
    words(16, "steps left out (DDIM, τ = 2, 4)", "the same model, and only the levels of τ: what was never visited needs no step")
    draw(8, [4, 2, 0], [], [])
    axes.plot([58, 62], [57.3, 57.3], "-", color=PART_COLORS["unet"], linewidth=2)
    axes.text(63, 57.3, "sampling", fontsize=9, va="center")
    axes.plot([73, 77], [57.3, 57.3], "--", color=PART_COLORS["text_encoder"], linewidth=2)
    axes.text(78, 57.3, "adding noise", fontsize=9, va="center")
    return figure


def starts_by_end(paths: Mapping[str, Tensor], mixture: GaussianMixture, limit: float = 3.0, size: float = 3.4) -> Figure:
    """One panel for each method: the starting points, in the color and marker of the component nearest to their end."""
    figure = Figure(figsize=(size * len(paths), size + 0.3), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, path) in zip(figure.subplots(1, len(paths), squeeze=False)[0], paths.items()):
        nearest = torch.cdist(path[-1].double(), mixture.means).argmin(1)  # (b,)
        for k, (color, marker) in enumerate(zip(COLORS, MARKERS)):
            axes.plot(*path[0, nearest == k].T, marker, color=color, markersize=2.5, alpha=0.7, markeredgewidth=0)
        axes.set(title=name, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
        axes.title.set_size(11)
    return figure
