"""Plots of numbers: lines in panels, stacked bars, small matrices, a density over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from .canvas import HEAT, LINES, PART_COLORS, new_figure


class Panel(NamedTuple):
    """One pair of axes: lines by their names, each (x, y) of equal lengths, and what the axes mean.

    markers: a point at each value as well; points: nothing but points.
    """

    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    xlabel: str
    ylabel: str
    title: str = ""
    xscale: str = "linear"
    yscale: str = "linear"
    markers: bool = False
    points: bool = False


def line_panels(*panels: Panel, height: float = 3.2) -> Figure:
    """Panels side by side, `height` inches high. Lines differ in style as well as in color; one line needs no legend."""
    figure = new_figure(3.4 * len(panels) + (1.6 if len(panels) == 1 else 0), height, "constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for (name, (x, y)), (color, style), marker in zip(panel.lines.items(), LINES, "os^Dv"):
            marked = marker if panel.markers or panel.points else None
            axes.plot(
                np.asarray(x),
                np.asarray(y),
                color=color,
                label=name,
                linestyle="none" if panel.points else style,
                linewidth=1.6,
                marker=marked,
                markersize=2.5 if panel.points else 4,
            )
        axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel, title=panel.title, xscale=panel.xscale, yscale=panel.yscale)
        for axis, scale in ((axes.xaxis, panel.xscale), (axes.yaxis, panel.yscale)):
            if scale == "log":
                plain_log_ticks(axis)
        axes.grid(alpha=0.3)
        if len(panel.lines) > 1:
            axes.legend(frameon=False, fontsize=8)
    return figure


def plain_log_ticks(axis: Axis) -> None:
    """Numbers at 1, 2, 5, 10, 20, ... of a logarithmic axis that spans less than two decades, else at 1, 10, 100, ..."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def curves_over_steps(curves: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """One line each, a value for every step, on a logarithmic scale. Lines differ in marker as well as in color."""
    figure = new_figure(6.4, 3.2, "constrained")
    axes = figure.add_subplot()
    for (name, values), marker, color in zip(curves.items(), "osD^", PART_COLORS.values()):
        axes.plot(range(1, len(values) + 1), values, color=color, marker=marker, markersize=4, linewidth=1.5, label=name)
    axes.set(xlabel="step", yscale="log", title=title)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def stacked_bars(panels: Mapping[str, Mapping[str, Sequence[float]]], places: Sequence[str], height: float = 3.6) -> Figure:
    """Panels side by side, each with a bar for each place, made of parts: panel -> part -> a value for every place."""
    figure = new_figure(4.6 * len(panels), height, "constrained")
    for axes, (title, parts) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        left = np.zeros(len(places))
        for (name, values), (color, _), hatch in zip(parts.items(), LINES, ("", "///", "...", "xx")):
            axes.barh(range(len(places)), values, left=left, color=color, edgecolor="white", hatch=hatch, label=name)
            left += np.asarray(values, dtype=float)
        axes.set_yticks(range(len(places)), places)
        axes.invert_yaxis()
        axes.set_xlabel(title)
        axes.legend(frameon=False, fontsize=8)
    return figure


def matrices(values: Sequence[Tensor], titles: Sequence[str], rows: str, columns: str, digits: int = 2) -> Figure:
    """Small matrices side by side, from 0 (dark) to 1 (light), each number written into its cell."""
    figure = new_figure(0.6 + sum(0.62 * v.shape[1] + 0.7 for v in values), 0.9 + 0.5 * values[0].shape[0], "constrained")
    panels = figure.subplots(1, len(values), squeeze=False, width_ratios=[v.shape[1] for v in values])[0]
    for axes, matrix, title in zip(panels, values, titles):
        axes.imshow(matrix.detach().cpu().numpy(), cmap=HEAT, vmin=0, vmax=1, aspect="auto")
        for i, row in enumerate(matrix.tolist()):
            for j, value in enumerate(row):
                axes.text(j, i, f"{value:.{digits}f}", ha="center", va="center", fontsize=9, color="k" if value > 0.5 else "w")
        axes.set_title(title, fontsize=10)
        axes.set(xlabel=columns, ylabel=rows, xticks=range(matrix.shape[1]), yticks=range(matrix.shape[0]))
    return figure


def density_over_time(density: np.ndarray, x: Sequence[float], t: Sequence[float], paths: np.ndarray, title: str = "") -> Figure:
    """How the density of a number, (len(x), len(t)), changes with time, in grays; over it some paths, (n, len(t)).

    Each moment is scaled to its own largest density, so that flat and peaked ones are seen alike.
    """
    figure = new_figure(7.2, 3.2, "constrained")
    axes = figure.add_subplot(title=title, xlabel="timestep t", ylabel="x")
    extent = (t[0], t[-1], x[0], x[-1])
    axes.imshow(density / density.max(0), extent=extent, origin="lower", aspect="auto", cmap="Greys", vmax=1.4)
    for path, (color, _) in zip(paths, LINES):
        axes.plot(t, path, color=color, linewidth=0.9)
    axes.set_ylim(x[0], x[-1])
    return figure
