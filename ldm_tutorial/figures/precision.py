"""Figures of numbers in a computer: the bits of each type, and which numbers fit in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .grids import DPI, LINES

TYPES = {torch.float32: (1, 8, 23), torch.float16: (1, 5, 10), torch.bfloat16: (1, 8, 7)}  # bits of sign, exponent, fraction
COLORS = ("#222222", "#D55E00", "#0072B2")


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def smallest(dtype: torch.dtype) -> tuple[float, float]:
    """The smallest number above 0 with all digits, and the very smallest, which has one (subnormal)."""
    info = torch.finfo(dtype)
    return info.smallest_normal, info.smallest_normal * info.eps


def float_bits() -> Figure:
    """A row of boxes for each type: one for each bit, in the colors of sign, exponent and fraction."""
    figure = Figure(figsize=(9.6, 1.9), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-6.2, 38), ylim=(-3.6, 1.3))
    axes.set_axis_off()
    for row, (dtype, bits) in enumerate(TYPES.items()):
        axes.text(-0.5, -row, name_of(dtype), ha="right", va="center", fontsize=11, weight="bold")
        start = 0
        for count, color, sign in zip(bits, COLORS, "±ef"):
            for k in range(start, start + count):
                axes.add_patch(Rectangle((k + 0.06, -row - 0.36), 0.88, 0.72, facecolor=color, alpha=0.85))
                axes.text(k + 0.5, -row, sign, ha="center", va="center", fontsize=8, color="white")
            start += count
        axes.text(start + 0.5, -row, f"{sum(bits)} bits", va="center", fontsize=9, color="0.35")
    for x, (name, color) in zip((0, 5, 17), zip(("± sign", "e exponent: how large", "f fraction: how fine"), COLORS)):
        axes.text(x, -3.1, name, fontsize=10, color=color, va="center")
    return figure


def number_ranges(values: Mapping[str, Tensor]) -> Figure:
    """Above, how often each size of number occurs in `values`, leaving zeros out; below, the sizes that each type has.

    Both on one logarithmic scale. The thin end of a bar are the numbers that lose digits.
    """
    figure = Figure(figsize=(9.6, 3.9), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1.1])
    edges = np.linspace(-14, 6, 161)
    for (name, tensor), (color, style) in zip(values.items(), LINES):
        sizes = tensor.detach().abs().flatten().double()
        logs = sizes[sizes > 0].log10().numpy()
        share, _ = np.histogram(logs, edges, weights=np.full(len(logs), 100 / len(logs)))
        above.plot((edges[1:] + edges[:-1]) / 2, share, color=color, linestyle=style, linewidth=1.6, label=name)
    above.set(ylabel="% of the numbers", ylim=(0, None))
    above.legend(frameon=False, fontsize=9, loc="upper left")
    names = []
    for row, dtype in enumerate(TYPES):
        normal, tiny = (np.log10(x) for x in smallest(dtype))
        largest = np.log10(torch.finfo(dtype).max)
        below.barh(row, largest - normal, left=normal, height=0.55, color="#0072B2")
        below.barh(row, normal - tiny, left=tiny, height=0.18, color="#D55E00")
        names.append(name_of(dtype))
    below.set(yticks=range(len(names)), yticklabels=names, xlim=(-14, 6), xlabel="size of the number")
    below.invert_yaxis()
    ticks = range(-14, 7, 2)
    below.set_xticks(ticks, [f"$10^{{{k}}}$" for k in ticks])
    for axes in (above, below):
        axes.grid(alpha=0.3, axis="x")
        axes.axvline(np.log10(torch.finfo(torch.float16).max), color="0.4", linewidth=1, linestyle=":")
    return figure
