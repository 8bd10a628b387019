"""What every figure stands on: a page with a canvas of its own, the colors of the series, boxes and arrows.

Nothing here touches pyplot's global state, so that figures can be drawn in a background thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.typing import ColorType
from PIL import Image

DPI = 100
INK, FAINT = "#222222", "#B5B5B5"  # of text and outlines; of what stays in the background

# One color per part, in every picture of the series: the four of Okabe and Ito's palette that any eye tells apart best.
PART_COLORS = {
    "text_encoder": "#D55E00",  # vermilion
    "unet": "#0072B2",  # blue
    "scheduler": "#F0E442",  # yellow
    "vae": "#009E73",  # green
}
TEXT_COLOR = PART_COLORS["text_encoder"]
PURPLE = "#CC79A7"  # of the same palette: what is no part of the machine

# Lines on white, told apart by color and by style: blue, vermilion, green, black, purple.
LINES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#222222", ":"), (PURPLE, (0, (5, 1, 1, 1, 1, 1))))

# Points, and lines with a marker: blue, vermilion, green, purple, black.
POINT_COLORS = (PART_COLORS["unet"], PART_COLORS["text_encoder"], PART_COLORS["vae"], PURPLE, INK)
MARKERS = "osD^v"

HEAT = "cividis"  # the color map of one-signed numbers: dark blue to yellow, the same to any eye

Point = tuple[float, float]


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """A white figure of `width` x `height` inches at 100 dpi. layout: matplotlib's; None: none."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def blank_page(width: float, height: float, xlim: Point, ylim: Point, aspect: str = "auto") -> tuple[Figure, Axes]:
    """A figure of `width` x `height` inches with axes that fill it and show neither ticks nor frame."""
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=xlim, ylim=ylim, aspect=aspect)
    axes.set_axis_off()
    return figure, axes


def to_picture(figure: Figure) -> Image.Image:
    """The figure as an RGB image, at its own resolution."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


class Diagram:
    """A white page of `width` x `height` units with rounded boxes, arrows, pictures and words on it.

    unit: so many are an inch. figure, axes: matplotlib's; the units are those of the axes.
    """

    def __init__(self, width: float, height: float, unit: float = 12.8):
        self.figure, self.axes = blank_page(width / unit, height / unit, (0, width), (0, height))

    def write(self, x: float, y: float, text: str, size: float = 9, **style) -> None:
        """Text around a point. style: of `matplotlib.text.Text`, here and below of whatever is drawn."""
        look = {"ha": "center", "va": "center", "color": INK, "parse_math": False, "zorder": 5, **style}
        self.axes.text(x, y, text, fontsize=size, **look)

    def box(
        self, x: float, y: float, width: float, height: float, color: ColorType, text: str = "", size: float = 9, **style
    ) -> None:
        """Around its center, in a tint of the color, so that black text on it is readable."""
        fill = 1 - 0.25 * (1 - np.array(to_rgb(color)))
        corner, rounded = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.8"
        look = {"facecolor": fill, "edgecolor": color, "linewidth": 1.8, "zorder": 2.5, "boxstyle": rounded, **style}
        self.axes.add_patch(FancyBboxPatch(corner, width, height, **look))
        self.write(x, y, text, size, linespacing=1.25)

    def arrow(self, start: Point, end: Point, bend: str = "arc3", color: str = INK, **style) -> None:
        """From point to point. bend: matplotlib's connection style."""
        look = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0, **style}
        self.axes.add_patch(FancyArrowPatch(start, end, connectionstyle=bend, color=color, **look))

    def image(self, x: float, y: float, side: float, pixels: np.ndarray, **style) -> None:
        """Pixels, (h, w, 3), as a square around a point."""
        extent = (x - side / 2, x + side / 2, y - side / 2, y + side / 2)
        xlim, ylim = self.axes.get_xlim(), self.axes.get_ylim()
        self.axes.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest", **style)
        self.axes.set(xlim=xlim, ylim=ylim)

    def panel(self, x: float, y: float, width: float, height: float, **style) -> None:
        """A dashed frame with its lower left corner at (x, y), behind everything else: the inside of one of the boxes."""
        look = {"boxstyle": "round,pad=0,rounding_size=1.2", "linestyle": "--", **style}
        self.axes.add_patch(FancyBboxPatch((x, y), width, height, **look))

    def plus(self, x: float, y: float) -> None:
        """A sum: a circle with a plus in it."""
        self.axes.plot(x, y, "o", markersize=15, markerfacecolor="white", markeredgecolor=INK, markeredgewidth=1.3, zorder=3)
        self.axes.plot(x, y, "+", markersize=9, markeredgecolor=INK, markeredgewidth=1.3, zorder=4)

    def chain(self, start: Point, parts: Sequence[tuple[str, float, str]], gap: float = 2.6) -> list[float]:
        """Boxes in a row, (text, width, color) each, with arrows between them; ("+", 0, "") is a sum.

        Returns the x at which each has its center.
        """
        x, y = start
        centers = []
        for text, width, color in parts:
            half = 1.4 if text == "+" else width / 2
            self.arrow((x, y), (x + gap, y))
            x += gap + half
            centers.append(x)
            if text == "+":
                self.plus(x, y)
            else:
                self.box(x, y, width, 7, color, text)
            x += half
        self.arrow((x, y), (x + gap, y))
        return centers

    def around(self, start: float, end: float, y: float, height: float) -> None:
        """A residual connection: up from the arrow at `start`, along, and down into the sum at `end`."""
        self.axes.plot([start, start, end], [y, y + height, y + height], color=INK, linewidth=1.3)
        self.arrow((end, y + height), (end, y + 1.4))
