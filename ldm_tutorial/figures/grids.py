"""Grids of pictures, and tensors made visible as pictures: latents, feature maps, attention maps."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from PIL import Image
from torch import Tensor

from ..config import EMOJI
from .canvas import DPI, HEAT, new_figure

GAP, LABEL, CHARACTER = 8, 26, 7.5  # pixels: between pictures, a line of text, the width of a letter


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
    A column's label such as "$x_t$" is set as a formula; one with other dollar signs is not.

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

    figure = new_figure(canvas_width / DPI, canvas_height / DPI)

    def write(x: float, y: float, text: str, size: float, **style) -> None:
        style = {"parse_math": False} | style  # a prompt may hold dollar signs
        figure.text(x / canvas_width, 1 - y / canvas_height, text, fontsize=size, va="center", **style)

    # 2. The words
    y = GAP + LABEL / 2
    for line in title_lines:
        write(GAP, y, line, 13, weight="bold")
        y += LABEL
    for line in subtitle_lines:
        write(GAP, y - 0.1 * LABEL, line, 10, color="0.35")
        y += 0.8 * LABEL
    for j, label in enumerate(column_labels or ()):
        write(left + j * (width + GAP) + width / 2, top - LABEL / 2, label, 11, ha="center", parse_math=is_formula(label))
    groups = column_groups or ()
    for j, label in enumerate(groups):
        wide, lines_below = columns // len(groups) * (width + GAP), bool(column_labels)
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


def is_formula(label: str) -> bool:
    """Whether a label is one formula from its first dollar sign to its last."""
    if len(label) < 3 or not label[0] == label[-1] == "$" or "$" in label[1:-1]:
        return False
    try:
        MathTextParser("path").parse(label)
    except ValueError:
        return False
    return True


def maps_over(picture: Image.Image, maps: Sequence[Tensor], labels: Sequence[str], name: str = "drawn") -> Figure:
    """The picture, under its name, and beside it, in gray, once for each map, (h, w).

    The lighter, the larger, each map on its own scale.
    """
    figure = new_figure(1.45 * (len(maps) + 1), 1.95, "constrained")
    first, *others = figure.subplots(1, len(maps) + 1)
    extent = (0, picture.width, picture.height, 0)
    first.imshow(picture, extent=extent)
    first.set_title(name, fontsize=9)
    for axes, values, label in zip(others, maps, labels):
        axes.imshow(np.asarray(picture.convert("L")), cmap="gray", vmin=0, vmax=255, extent=extent)
        axes.imshow(values.detach().float().cpu().numpy(), cmap=HEAT, alpha=0.7, interpolation="nearest", extent=extent)
        axes.set_title(label, fontsize=9, parse_math=False)
    for axes in (first, *others):
        axes.set_axis_off()
    return figure


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


def feature_picture(features: Tensor, side: int = EMOJI.vae.sample_size) -> Image.Image:
    """A feature map, (c, h, w), as one picture: its three principal components are red, green and blue, each on its own scale.

    It has `side` x `side` pixels, by default as many as a picture of `emoji`. Where two positions have one color, the network
    says much the same about them. Raises ValueError for another shape.
    """
    if features.ndim != 3:
        raise ValueError(f"features must be those of one picture, (c, h, w); got {tuple(features.shape)}")
    x = features.detach().double().cpu().flatten(1).T  # (h * w, c)
    u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    parts = u[:, :3] * s[:3]  # (h * w, 3)
    parts = parts * parts.gather(0, parts.abs().argmax(0, keepdim=True)).sign()  # a component's sign is chance
    low, high = parts.min(0).values, parts.max(0).values
    levels = (255 * (parts - low) / (high - low).clamp(min=1e-12)).round().to(torch.uint8)
    return Image.fromarray(levels.view(*features.shape[1:], 3).numpy()).resize((side, side), Image.Resampling.NEAREST)
