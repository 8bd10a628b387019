"""Figures of memory: what a model needs, part by part, against what cards have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..lessons.memory import GIB
from .grids import DPI, PART_COLORS

PHASES = {"text": ("text encoder", "text_encoder", "..."), "unet": ("U-Net", "unet", "///"), "decoder": ("decoder", "vae", "xx")}


def memory_bars(accounts: Mapping[str, Mapping[str, int]], cards: Sequence[int] = (4, 8, 16), reserve: int = GIB) -> Figure:
    """A bar for each account: the weights, what the device keeps for itself, and the largest of the three peaks after each other.

    accounts: name -> what `memory.account` gives. cards: sizes in GiB, drawn as lines.
    """
    figure = Figure(figsize=(8.6, 1.1 + 0.36 * len(accounts)), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
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
        axes.axvline(card, color="#222222", linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(accounts)), list(accounts), fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="GiB")
    axes.set_xlim(0, 1.06 * max(axes.get_xlim()[1], *cards))
    axes.legend(framealpha=1, edgecolor="white", fontsize=8.5, loc="lower right")
    return figure
