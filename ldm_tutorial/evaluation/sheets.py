"""Pictures to look at: sheets with a caption under each cell, and curves."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.ticker import NullLocator
from PIL import Image
from torch import Tensor

from ..checkpoints.atomic import write_atomically
from ..figures.canvas import DPI, new_figure, to_picture
from ..schedulers import SCHEDULERS
from .report import Measurement

GAP, LINE, CHARACTER = 8, 14, 5.2  # pixels: around a cell, a line of its caption, the width of a letter


def captioned_sheet(
    cells: Sequence[Sequence[Tensor]], captions: Sequence[str], columns: int, title: str = "", zoom: int = 1, lines: int = 2
) -> Image.Image:
    """Rows of `columns` cells; a cell is some pictures side by side, uint8 (3, h, w) each, over its caption.

    Raises ValueError without cells, or with another number of captions.
    """
    if not cells or len(cells) != len(captions):
        raise ValueError(f"there must be one caption for each cell, and at least one; got {len(captions)} for {len(cells)}")
    _, h, w = cells[0][0].shape
    between = torch.full((3, h, 2), 255, dtype=torch.uint8)
    width, height = zoom * (w * len(cells[0]) + 2 * (len(cells[0]) - 1)), zoom * h
    rows, top = -(-len(cells) // columns), 2 * LINE if title else GAP
    canvas = np.full((top + rows * (height + lines * LINE + GAP), GAP + columns * (width + GAP), 3), 255, dtype=np.uint8)
    figure = new_figure(canvas.shape[1] / DPI, canvas.shape[0] / DPI)

    def write(x: float, y: float, text: str, size: float, **style: object) -> None:
        figure.text(x / canvas.shape[1], 1 - y / canvas.shape[0], text, fontsize=size, va="top", parse_math=False, **style)

    for number, (cell, caption) in enumerate(zip(cells, captions)):
        x, y = GAP + number % columns * (width + GAP), top + number // columns * (height + lines * LINE + GAP)
        parts = [part for picture in cell for part in (between, picture)][1:]
        band = torch.cat(parts, dim=2).permute(1, 2, 0).numpy()  # (h, width / zoom, 3)
        canvas[y : y + height, x : x + width] = band.repeat(zoom, axis=0).repeat(zoom, axis=1)
        wrapped = textwrap.wrap(caption, max(8, int(width / CHARACTER)), max_lines=lines, placeholder=" ...")
        for i, line in enumerate(wrapped):
            write(x, y + height + 1 + i * LINE, line, 7)
    if title:
        write(GAP, GAP, title, 9, weight="bold")
    axes = figure.add_axes((0, 0, 1, 1), zorder=-1)
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return to_picture(figure)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """In one go, as .png or (smaller, for many pictures) .webp. Raises OSError if it cannot be written."""
    buffer = io.BytesIO()
    sheet.save(buffer, path.suffix[1:].upper(), quality=85, method=6)
    write_atomically(path, buffer.getvalue())


def quality_curves(
    curves: Mapping[str, Sequence[tuple[Measurement, Measurement]]], values: Sequence[float], name: str
) -> Image.Image:
    """Shares of right subjects (left) and right styles (right) over a setting, with their 95 % intervals."""
    figure = new_figure(9.6, 3.8, "constrained")
    count = next(iter(curves.values()))[0][0].count
    figure.suptitle(f"Quality against {name}: {count} trained prompts a point, one seed each", fontsize=11)
    for side, title in enumerate(("right subject", "right style")):
        axes = figure.add_subplot(1, 2, side + 1)
        for scheduler, points in curves.items():
            label = SCHEDULERS[scheduler].label
            shares = [point[side] for point in points]
            low, high = zip(*(share.interval for share in shares))
            axes.plot(values, [share.value for share in shares], **label.look, markersize=5, label=label.title)
            axes.fill_between(values, low, high, color=label.color, alpha=0.06, linewidth=0)
        axes.set(xlabel=name, title=title, ylim=(-0.03, 1.03), xscale="log", xticks=values)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
        axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="best")
    return to_picture(figure)
