"""Figures of guidance in a plane where the best predictions are known: the arrow, the field of arrows, and where points end.

In all of them gray is everything there is, and the lines in green are what is asked for: one class of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..lessons.toy import GaussianMixture
from .canvas import INK, PART_COLORS, new_figure

WITHOUT, WITH, ASKED = PART_COLORS["unet"], PART_COLORS["text_encoder"], PART_COLORS["vae"]


def grid(limit: float, count: int) -> Tensor:
    """Points on a square around 0, (count * count, 2) float64, row by row from below."""
    ticks = torch.linspace(-limit, limit, count, dtype=torch.float64)
    return torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1).view(-1, 2)


def clouds(axes: Axes, everything: GaussianMixture, asked: GaussianMixture, limit: float, alpha_bar: float = 1.0) -> None:
    """The two densities, at a noise level, and a square without ticks."""
    side = 90
    x, y = grid(limit, side).view(side, side, 2).unbind(-1)
    density = [m.log_prob(grid(limit, side), alpha_bar).exp().view(side, side) for m in (everything, asked)]
    axes.contourf(x, y, density[0], levels=8, cmap="Greys", alpha=0.5)
    axes.contour(x, y, density[1], levels=3, colors=ASKED, linewidths=1.1)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])


def guidance_arrow(
    everything: GaussianMixture,
    asked: GaussianMixture,
    x: Tensor,
    alpha_bar: float,
    scales: Sequence[float] = (1, 3, 7.5),
    limit: float = 3.0,
    size: float = 5.4,
) -> Figure:
    """One noisy point x, (2,), the clean point as predicted without and with the prompt, and the arrow from one to the other.

    On its extension, the prediction that each scale gives.
    """
    figure = new_figure(size, size)
    axes = figure.add_axes((0.005, 0.005, 0.99, 0.99))
    clouds(axes, everything, asked, limit)
    without, with_prompt = (m.denoised(x[None].double(), alpha_bar)[0] for m in (everything, asked))  # (2,) each
    for predicted, color in ((without, WITHOUT), (with_prompt, WITH)):
        axes.plot(*torch.stack([x.double(), predicted]).T, ":", color=color, linewidth=1.5)
    end = without + max(scales) * (with_prompt - without)
    axes.annotate(
        "", tuple(end.tolist()), tuple(without.tolist()), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.6}
    )
    labels = ("a noisy point", "clean point, predicted without the prompt: scale 0", "predicted with the prompt: scale 1")
    for place, marker, fill, color, label in zip(
        (x, without, with_prompt), "oso", ("white", WITHOUT, WITH), (INK, WITHOUT, WITH), labels
    ):
        axes.plot(
            *place, marker, markersize=9, color=fill, markeredgecolor=color, markeredgewidth=1.6, linestyle="none", label=label
        )
    across = torch.stack([-(end - without)[1], (end - without)[0]])
    across = 0.17 * across / across.norm()
    for scale in scales:
        place = without + scale * (with_prompt - without)
        axes.plot(*torch.stack([place - across, place + across]).T, color=INK, linewidth=1.6)
        label_x, label_y = (place - 2.0 * across).tolist()
        axes.text(label_x, label_y, f"{scale:g}", ha="center", va="center", fontsize=12)
    axes.legend(loc="lower left", frameon=False, fontsize=10.5)
    return figure


def guidance_fields(
    fields: Mapping[str, Tensor], everything: GaussianMixture, asked: GaussianMixture, alpha_bar: float, limit: float = 3.0
) -> Figure:
    """One panel for each field of arrows on `grid(limit, n)`, (n * n, 2); each is drawn to its own scale."""
    figure = new_figure(2.7 * len(fields), 3.0, "constrained")
    for axes, (name, arrows) in zip(figure.subplots(1, len(fields), squeeze=False)[0], fields.items()):
        clouds(axes, everything, asked, limit, alpha_bar)
        points = grid(limit, round(len(arrows) ** 0.5))
        axes.quiver(*points.T, *arrows.T, color=INK, width=0.006, headwidth=4)
        axes.set_title(name, fontsize=11)
    return figure


def ends_in_the_plane(
    ends: Mapping[str, Tensor], everything: GaussianMixture, asked: GaussianMixture, limit: float = 3.0
) -> Figure:
    """One panel for each method: where its points, (b, 2), end. What lies outside the square is drawn at its edge."""
    figure = new_figure(2.7 * len(ends), 3.0, "constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(ends), squeeze=False)[0], ends.items()):
        clouds(axes, everything, asked, limit)
        axes.plot(*points.clamp(-limit, limit).T, ".", color=WITHOUT, markersize=2.5, alpha=0.4, clip_on=False)
        axes.set_title(name, fontsize=11)
    return figure
