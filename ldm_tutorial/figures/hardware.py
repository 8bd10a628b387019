"""What the numbers of a model cost a machine: the bits of each type and which numbers fit in, and memory part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..lessons.machine import GIB
from .canvas import INK, LINES, PART_COLORS, blank_page, new_figure

TYPES = {torch.float32: (1, 8, 23), torch.float16: (1, 5, 10), torch.bfloat16: (1, 8, 7)}  # bits of sign, exponent, fraction
BIT_COLORS = (INK, PART_COLORS["text_encoder"], PART_COLORS["unet"])  # of sign, exponent and fraction


def type_name(dtype: torch.dtype) -> str:
    """ "float16" of `torch.float16`."""
    return str(dtype).removeprefix("torch.")


def smallest(dtype: torch.dtype) -> tuple[float, float]:
    """The smallest number above 0 with all digits, and the very smallest, which has one (subnormal)."""
    info = torch.finfo(dtype)
    return info.smallest_normal, info.smallest_normal * info.eps


def float_bits() -> Figure:
    """A row of boxes for each type: one for each bit, in the colors of sign, exponent and fraction."""
    figure, axes = blank_page(9.6, 1.9, (-6.2, 38), (-3.6, 1.3))
    for row, (dtype, bits) in enumerate(TYPES.items()):
        axes.text(-0.5, -row, type_name(dtype), ha="right", va="center", fontsize=11, weight="bold")
        start = 0
        for count, color, sign in zip(bits, BIT_COLORS, "±ef"):
            for k in range(start, start + count):
                axes.add_patch(Rectangle((k + 0.06, -row - 0.36), 0.88, 0.72, facecolor=color, alpha=0.85))
                axes.text(k + 0.5, -row, sign, ha="center", va="center", fontsize=8, color="white")
            start += count
        axes.text(start + 0.5, -row, f"{sum(bits)} bits", va="center", fontsize=9, color="0.35")
    for x, (name, color) in zip((0, 5, 17), zip(("± sign", "e exponent: how large", "f fraction: how fine"), BIT_COLORS)):
        axes.text(x, -3.1, name, fontsize=10, color=color, va="center")
    return figure


def number_ranges(values: Mapping[str, Tensor]) -> Figure:
    """Above, how often each size of number occurs in `values`, leaving zeros out; below, the sizes that each type has.

    Both on one logarithmic scale. The thin end of a bar are the numbers that lose digits.
    """
    figure = new_figure(9.6, 3.9, "constrained")
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
        below.barh(row, largest - normal, left=normal, height=0.55, color=PART_COLORS["unet"])
        below.barh(row, normal - tiny, left=tiny, height=0.18, color=PART_COLORS["text_encoder"])
        names.append(type_name(dtype))
    below.set(yticks=range(len(names)), yticklabels=names, xlim=(-14, 6), xlabel="size of the number")
    below.invert_yaxis()
    ticks = range(-14, 7, 2)
    below.set_xticks(ticks, [f"$10^{{{k}}}$" for k in ticks])
    for axes in (above, below):
        axes.grid(alpha=0.3, axis="x")
        axes.axvline(np.log10(torch.finfo(torch.float16).max), color="0.4", linewidth=1, linestyle=":")
    return figure


PHASES = {"text": ("text encoder", "text_encoder", "..."), "unet": ("U-Net", "unet", "///"), "decoder": ("decoder", "vae", "xx")}


def memory_bars(accounts: Mapping[str, Mapping[str, int]], cards: Sequence[int] = (4, 8, 16), reserve: int = GIB) -> Figure:
    """A bar for each account: the weights, what the device keeps for itself, and the largest of the three peaks after each other.

    accounts: name -> what `memory.account` gives. cards: sizes in GiB, drawn as lines.
    """
    figure = new_figure(8.6, 1.1 + 0.36 * len(accounts), "constrained")
    axes = figure.add_subplot()
    shown = set()
    for row, parts in enumerate(accounts.values()):
        phase = max(PHASES, key=lambda name: parts[name])
        name, part, hatch = PHASES[phase]
        left = 0.0
        pieces = (
            ("weights", parts["weights"], "0.55", ""),
            ("reserve", reserve, "0.85", ""),
            (f"peak in the {name}", parts[phase], PART_COLORS[part], hatch),
        )
        for label, size, color, pattern in pieces:
            new = label not in shown
            axes.barh(row, size / GIB, left=left, color=color, edgecolor="white", hatch=pattern, label=label if new else None)
            shown.add(label)
            left += size / GIB
        axes.text(left + 0.1, row, f"{left:.1f}", va="center", fontsize=8.5)
    for card in cards:
        axes.axvline(card, color=INK, linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(accounts)), list(accounts), fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="GiB")
    axes.set_xlim(0, 1.06 * max(axes.get_xlim()[1], *cards))
    axes.legend(framealpha=1, edgecolor="white", fontsize=8.5, loc="lower right")
    return figure
