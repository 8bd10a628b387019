"""Figures of what happens inside a network: small matrices with their numbers, maps laid over a picture.

Pure functions to matplotlib figures, like those of `plotting`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .grids import DPI, LINES

COLORS = "cividis"  # dark blue to yellow, the same to any eye


def matrices(values: Sequence[Tensor], titles: Sequence[str], rows: str, columns: str, digits: int = 2) -> Figure:
    """Small matrices side by side, from 0 (dark) to 1 (light), each number written into its cell."""
    figure = Figure(figsize=(0.6 + sum(0.62 * v.shape[1] + 0.7 for v in values), 0.9 + 0.5 * values[0].shape[0]), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(values), squeeze=False, width_ratios=[v.shape[1] for v in values])[0]
    for axes, matrix, title in zip(panels, values, titles):
        axes.imshow(matrix.detach().cpu().numpy(), cmap=COLORS, vmin=0, vmax=1, aspect="auto")
        for i, row in enumerate(matrix.tolist()):
            for j, value in enumerate(row):
                axes.text(j, i, f"{value:.{digits}f}", ha="center", va="center", fontsize=9, color="k" if value > 0.5 else "w")
        axes.set_title(title, fontsize=10)
        axes.set(xlabel=columns, ylabel=rows, xticks=range(matrix.shape[1]), yticks=range(matrix.shape[0]))
    return figure


def maps_over(picture: Image.Image, maps: Sequence[Tensor], labels: Sequence[str], name: str = "drawn") -> Figure:
    """The picture, under its name, and beside it, in gray, once for each map, (h, w).

    The lighter, the larger, each map on its own scale.
    """
    figure = Figure(figsize=(1.45 * (len(maps) + 1), 1.95), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    first, *others = figure.subplots(1, len(maps) + 1)
    extent = (0, picture.width, picture.height, 0)
    first.imshow(picture, extent=extent)
    first.set_title(name, fontsize=9)
    for axes, values, label in zip(others, maps, labels):
        axes.imshow(np.asarray(picture.convert("L")), cmap="gray", vmin=0, vmax=255, extent=extent)
        axes.imshow(values.detach().float().cpu().numpy(), cmap=COLORS, alpha=0.7, interpolation="nearest", extent=extent)
        axes.set_title(label, fontsize=9, parse_math=False)
    for axes in (first, *others):
        axes.set_axis_off()
    return figure


def feature_picture(features: Tensor, side: int = 64) -> Image.Image:
    """A feature map, (c, h, w), as one picture: its three principal components are red, green and blue, each on its own scale.

    Where two positions have one color, the network says much the same about them. Raises ValueError for another shape.
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


def stacked_bars(panels: Mapping[str, Mapping[str, Sequence[float]]], places: Sequence[str], height: float = 3.6) -> Figure:
    """Panels side by side, each with a bar for each place, made of parts: panel -> part -> a value for every place."""
    figure = Figure(figsize=(4.6 * len(panels), height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
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
