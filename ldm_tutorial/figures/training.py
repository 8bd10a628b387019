"""Figures of a training: its log over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ..training.logs import band
from .canvas import LINES, new_figure


def training_curves(
    log: Mapping[str, np.ndarray],
    columns: Mapping[str, str],
    rates: Sequence[float] | None = None,
    share: float = 0.05,
    yscale: str = "log",
    title: str = "",
) -> Figure:
    """The columns of a log over the steps: each line as a point; of each stage the running mean, and the band of two
    standard deviations.

    log: as `training.logs.read_log` gives it. columns: name in the log -> name in the legend. rates: the learning rate at each
    line, (n,), drawn below. share: of all lines, as the window of the running mean. Where a further run of the training
    begins, there is a gray line. Raises ValueError for a column that the log does not have.
    """
    for name in columns:
        if name not in log:
            raise ValueError(f"columns: the log has no {name!r}; it has {', '.join(map(repr, log))}")
    figure = new_figure(7.2, 3.4 if rates is None else 4.4, "constrained")
    heights = [3] if rates is None else [3, 1]
    axes, *below = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    steps = log["step"]
    window = max(3, round(share * len(steps)))
    begins = np.flatnonzero(np.diff(log["stage"])) + 1  # the first line of each further stage
    for (name, label), (color, style) in zip(columns.items(), LINES):
        axes.plot(steps, log[name], ".", color=color, markersize=2, alpha=0.35)
        for part, values in zip(np.split(steps, begins), np.split(log[name], begins)):
            mean, low, high = band(values, window)
            axes.fill_between(part, low, high, color=color, alpha=0.15, linewidth=0)
            axes.plot(part, mean, style, color=color, linewidth=1.8, label=label)
            label = "_"  # of the first stage only: matplotlib leaves such a name out of the legend
    seen = np.concatenate([log[name][np.isfinite(log[name])] for name in columns])
    if yscale == "log" and len(seen) and seen.min() > 0:
        axes.set(yscale="log", ylim=(0.8 * seen.min(), 1.25 * seen.max()))  # a band may reach below zero
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}" if seen.max() < 10 * seen.min() else NullFormatter())
    axes.set_title(title)
    axes.legend(frameon=False, fontsize=9)
    for panel in below:
        panel.plot(steps, np.asarray(rates, dtype=float), color=LINES[3][0], linewidth=1.6)
        panel.set(ylabel="learning rate", ylim=(0, None))
    for panel in (axes, *below):
        panel.grid(alpha=0.3)
        for i in begins:
            panel.axvline((steps[i - 1] + steps[i]) / 2, color="0.6", linewidth=1.0)
    (axes, *below)[-1].set_xlabel("step")
    return figure
