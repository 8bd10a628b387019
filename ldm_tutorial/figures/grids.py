"""Figures: pure functions from pictures and numbers to matplotlib figures. None of them touches pyplot's global state."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image
from torch import Tensor

DPI = 100
GAP, LABEL, CHARACTER = 8, 26, 7.5  # pixels: between pictures, a line of text, the width of a letter

# One color per part, in every picture of the series: the four of Okabe and Ito's palette that any eye tells apart best.
PART_COLORS = {
    "text_encoder": "#D55E00",  # vermilion
    "unet": "#0072B2",  # blue
    "scheduler": "#F0E442",  # yellow
    "vae": "#009E73",  # green
}

# Lines on white, told apart by color and by style: blue, vermilion, green, black, purple.
LINES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#222222", ":"), ("#CC79A7", (0, (5, 1, 1, 1, 1, 1))))


def picture_grid(
    pictures: Sequence[Sequence[Image.Image]],
    column_labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    title: str = "",
    subtitle: str = "",
    shown: int = 256,
    resample: Image.Resampling = Image.Resampling.NEAREST,
    column_groups: Sequence[str] | None = None,
) -> Figure:
    """Rows of pictures of one size, with labels above the columns and before the rows. The last row may be shorter.

    column_groups: a second line of labels above the first, each over equally many columns. A row's label may have several lines.

    Small pictures are enlarged so that their shorter side has about `shown` pixels: by a whole factor, with `resample`
    (LANCZOS is smooth, NEAREST shows the pixels). At 100 dpi, a pixel of the enlarged picture is a pixel of the figure.

    Raises ValueError for rows of different lengths, pictures of different sizes, or labels that do not fit.
    """
    rows, columns = len(pictures), len(pictures[0]) if pictures else 0
    if not columns or any(len(row) != columns for row in pictures[:-1]) or not 0 < len(pictures[-1]) <= columns:
        raise ValueError(f"pictures must be rows of one length; got {[len(row) for row in pictures]}")
    if len({picture.size for row in pictures for picture in row}) > 1:
        raise ValueError(f"pictures must have one size; got {sorted({p.size for row in pictures for p in row})}")
    for name, labels, count in (("column_labels", column_labels, columns), ("row_labels", row_labels, rows)):
        if labels is not None and len(labels) != count:
            raise ValueError(f"{name} has {len(labels)} entries for {count}")
    if column_groups is not None and (not column_groups or columns % len(column_groups)):
        raise ValueError(f"column_groups has {len(column_groups)} entries, which do not divide {columns} columns")

    # 1. The layout, in pixels from the upper left corner
    width, height = (max(1, shown // min(pictures[0][0].size)) * side for side in pictures[0][0].size)
    letters = max((len(line) for label in row_labels or () for line in label.split("\n")), default=0)
    left = GAP + (round(1.15 * CHARACTER * letters) + GAP if row_labels else 0)
    canvas_width = left + columns * (width + GAP)
    letters = int((canvas_width - 2 * GAP) / CHARACTER)  # in a line
    title_lines = textwrap.wrap(title, max(8, int(letters / 1.3)), max_lines=3, placeholder=" ...")
    subtitle_lines = textwrap.wrap(subtitle, max(8, letters), max_lines=3, placeholder=" ...")
    top = GAP + LABEL * len(title_lines) + round(0.8 * LABEL) * len(subtitle_lines)
    top += LABEL * (bool(column_labels) + bool(column_groups))
    canvas_height = top + rows * (height + GAP)

    figure = Figure(figsize=(canvas_width / DPI, canvas_height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def write(x: float, y: float, text: str, size: float, **style) -> None:
        # parse_math: a prompt may hold dollar signs
        figure.text(x / canvas_width, 1 - y / canvas_height, text, fontsize=size, va="center", parse_math=False, **style)

    # 2. The words
    y = GAP + LABEL / 2
    for line in title_lines:
        write(GAP, y, line, 13, weight="bold")
        y += LABEL
    for line in subtitle_lines:
        write(GAP, y - 0.1 * LABEL, line, 10, color="0.35")
        y += 0.8 * LABEL
    for j, label in enumerate(column_labels or ()):
        write(left + j * (width + GAP) + width / 2, top - LABEL / 2, label, 11, ha="center")
    for j, label in enumerate(column_groups or ()):
        wide, lines_below = columns // len(column_groups) * (width + GAP), bool(column_labels)
        write(left + (j + 0.5) * wide - GAP / 2, top - LABEL * (lines_below + 0.5), label, 11, ha="center", weight="bold")
    for i, label in enumerate(row_labels or ()):
        write(left - GAP, top + i * (height + GAP) + height / 2, label, 11, ha="right")

    # 3. The pictures
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            x, y = left + j * (width + GAP), top + i * (height + GAP)
            box = (x / canvas_width, 1 - (y + height) / canvas_height, width / canvas_width, height / canvas_height)
            axes = figure.add_axes(box)
            enlarged = picture.convert("RGB").resize((width, height), resample)
            axes.imshow(np.asarray(enlarged), interpolation="nearest", aspect="auto")
            axes.set_axis_off()
    return figure


def to_picture(figure: Figure) -> Image.Image:
    """The figure as a PIL image, at its own resolution."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def channel_pictures(latents: Tensor, limit: float | None = None) -> list[Image.Image]:
    """The channels of one picture's latents, (c, h, w), as c images: purple below 0, white at 0, orange above.

    limit: the value at which the color is full, for all channels; None: the largest that occurs.
    Raises ValueError for another shape.
    """
    if latents.ndim != 3:
        raise ValueError(f"latents must be those of one picture, (c, h, w); got {tuple(latents.shape)}")
    values = latents.detach().float().cpu().numpy()
    limit = float(np.abs(values).max()) or 1.0 if limit is None else limit
    colors = colormaps["PuOr_r"]((values / limit).clip(-1, 1) / 2 + 0.5)  # (c, h, w, 4)
    return [Image.fromarray((255 * channel[..., :3]).round().astype(np.uint8)) for channel in colors]


def curves_over_steps(curves: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """One line each, a value for every step, on a logarithmic scale. Lines differ in marker as well as in color."""
    figure = Figure(figsize=(6.4, 3.2), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (name, values), marker, color in zip(curves.items(), "osD^", PART_COLORS.values()):
        axes.plot(range(1, len(values) + 1), values, color=color, marker=marker, markersize=4, linewidth=1.5, label=name)
    axes.set(xlabel="step", yscale="log", title=title)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


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
    figure = Figure(figsize=(3.4 * len(panels) + (1.6 if len(panels) == 1 else 0), height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
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


def density_over_time(density: np.ndarray, x: Sequence[float], t: Sequence[float], paths: np.ndarray, title: str = "") -> Figure:
    """How the density of a number, (len(x), len(t)), changes with time, in grays; over it some paths, (n, len(t)).

    Each moment is scaled to its own largest density, so that flat and peaked ones are seen alike.
    """
    figure = Figure(figsize=(7.2, 3.2), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(title=title, xlabel="timestep t", ylabel="x")
    extent = (t[0], t[-1], x[0], x[-1])
    axes.imshow(density / density.max(0), extent=extent, origin="lower", aspect="auto", cmap="Greys", vmax=1.4)
    for path, (color, _) in zip(paths, LINES):
        axes.plot(t, path, color=color, linewidth=0.9)
    axes.set_ylim(x[0], x[-1])
    return figure
