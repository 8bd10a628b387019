"""Figures of the text encoder: a prompt's 77 tokens, the encoder from its configuration, how alike pictures and prompts are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from ..config import CLIPTextConfig
from ..training.tokenizer import WORD_END
from .canvas import HEAT, INK, PART_COLORS, TEXT_COLOR, Diagram, blank_page, new_figure

PICTURES = "#888888"  # what the U-Net does not need
CELL = 0.82  # inches: a token's cell is so wide


def token_grid(tokens: Sequence[str], lost: Sequence[str] = (), columns: int = 11) -> Figure:
    """What the text encoder reads, as a table of `columns`: start, words, first end, padding; below it what was cut.

    tokens: as in the vocabulary, where `</w>` ends a word; a piece that goes on is drawn with a hyphen. Raises ValueError
    unless the tokens begin with the start token and hold an end token.
    """
    if not tokens or tokens[0] != "<|startoftext|>" or "<|endoftext|>" not in tokens:
        raise ValueError(f"tokens must begin with the start token and hold an end token; got {list(tokens)[:5]} ...")
    end = list(tokens).index("<|endoftext|>")
    rows, more = -(-len(tokens) // columns), -(-len(lost) // columns)
    height = rows + (more + 0.7 if more else 0)
    figure, axes = blank_page(CELL * columns + 0.1, 0.4 * height + 0.1, (-0.05, columns + 0.05), (height + 0.1, -0.1))
    for i, token in enumerate(tokens):
        kind = "start" if i == 0 else "word" if i < end else "end" if i == end else "padding"
        shown = {"start": "start", "end": "end", "padding": "end"}.get(kind) or readable(token)
        _cell(axes, i % columns, i // columns, shown, i, kind)
    if more:
        axes.text(0, rows + 0.4, "cut, never read:", fontsize=8, va="center", color=INK)
    for i, token in enumerate(lost):
        _cell(axes, i % columns, rows + 0.7 + i // columns, readable(token), None, "lost")
    return figure


def readable(token: str) -> str:
    """A token of the vocabulary as a reader wants it: the end of a word is understood, a piece of one has a hyphen."""
    return token.removesuffix(WORD_END) if token.endswith(WORD_END) else f"{token}-"


CELL_LOOKS = {  # of a token's cell: fill, edge, color of the text
    "start": ("#FBE3D5", TEXT_COLOR, INK),
    "word": ("#D9E8F5", PART_COLORS["unet"], INK),
    "end": ("#FBE3D5", TEXT_COLOR, INK),
    "padding": ("#F2F2F2", "#B5B5B5", "#595959"),
    "lost": ("#FFFFFF", "#B5B5B5", "#595959"),
}


def _cell(axes: Axes, x: float, y: float, text: str, position: int | None, kind: str) -> None:
    fill, edge, color = CELL_LOOKS[kind]
    line = "--" if kind == "lost" else "-"
    axes.add_patch(Rectangle((x + 0.03, y + 0.06), 0.94, 0.88, facecolor=fill, edgecolor=edge, linewidth=1.1, linestyle=line))
    bold = "bold" if kind in ("start", "end") else "normal"
    size = 8.5 if len(text) < 11 else 7 if len(text) < 14 else 5.5
    axes.text(x + 0.5, y + 0.56, text, ha="center", va="center", fontsize=size, color=color, weight=bold, parse_math=False)
    if position is not None:
        axes.text(x + 0.07, y + 0.13, str(position), ha="left", va="top", fontsize=5, color="#595959")


def text_encoder_figure(config: CLIPTextConfig) -> Figure:
    """The text encoder, from a prompt to what the U-Net reads; a layer's inside; and what is there for other uses."""
    m, d, layers = config.max_position_embeddings, config.hidden_size, config.num_hidden_layers
    drawing, y = Diagram(128, 61), 39
    parts = [
        (f"byte-pair\nencoding\n{config.vocab_size:,} tokens", 17, TEXT_COLOR),
        ("token +\nposition\nembedding", 14, TEXT_COLOR),
        (f"{layers} x\nlayer", 14, TEXT_COLOR),
        ("LayerNorm", 13, TEXT_COLOR),
    ]
    x = drawing.chain((16, y), parts, gap=7.5)
    drawing.write(8.5, y, "a prompt", 10, weight="bold")
    drawing.write(x[-1] + 15, y, f"states\n{m} x {d}\nto the U-Net", 9.5, ha="left", weight="bold", linespacing=1.3)
    drawing.write((x[0] + x[1]) / 2 + 1, y + 5.2, f"{m} numbers", 8)
    drawing.write((x[1] + x[2]) / 2, y + 5.2, f"{m} x {d}", 8)

    # What contrastive training adds, and Stable Diffusion does not use
    look = {"facecolor": "white", "edgecolor": PICTURES, "linestyle": "--", "linewidth": 1.4}
    above, out = 55, x[-1] + 9.5
    drawing.arrow((out, y), (out, above - 3), linestyle="--")
    drawing.write(out + 1, (y + above) / 2 + 1, "of the first\nend token", 8, ha="left", linespacing=1.2)
    drawing.box(out, above, 19, 6, PICTURES, f"Linear {d} → {config.projection_dim}", 8.5, **look)
    drawing.arrow((out - 9.5, above), (out - 14.5, above), linestyle="--")
    drawing.write(out - 22.5, above, "cosine: do they\nbelong together?", 8.5, linespacing=1.2)
    drawing.arrow((out - 35.5, above), (out - 30.5, above), linestyle="--")
    drawing.box(out - 46, above, 21, 6, PICTURES, f"picture tower → {config.projection_dim}", 8.5, **look)
    drawing.arrow((out - 62, above), (out - 56.5, above), linestyle="--")
    drawing.write(out - 67, above, "a picture", 10, weight="bold")
    drawing.write(2, above, "not for the U-Net", 8.5, ha="left", style="italic")

    # What is inside of a layer, on a panel of its own
    drawing.panel(2, 2.5, 124, 24.5, facecolor="#FDF7F3", edgecolor=TEXT_COLOR)
    for side, corner in ((-7, 2.6), (7, 125.4)):
        drawing.axes.plot([x[2] + side, corner], [y - 3.5, 27], color=TEXT_COLOR, linestyle=":", linewidth=1, zorder=1)
    y, wide = 13, config.intermediate_size
    row = [
        ("LayerNorm", 13, TEXT_COLOR),
        ("causal self-\nattention", 17, TEXT_COLOR),
        ("+", 0, ""),
        ("LayerNorm", 13, TEXT_COLOR),
        (f"Linear\n{d} → {wide}", 15, TEXT_COLOR),
        ("quick-\nGELU", 10, TEXT_COLOR),
        (f"Linear\n{wide} → {d}", 15, TEXT_COLOR),
        ("+", 0, ""),
    ]
    inside = drawing.chain((5, y), row, gap=3.0)
    drawing.around(6.4, inside[2], y, 9)
    drawing.around(inside[2] + 2.8, inside[7], y, 9)
    heads = config.num_attention_heads
    drawing.write(inside[1], y - 6.5, f"attends to earlier tokens:\n{heads} heads of {d // heads}", 8, linespacing=1.2)
    drawing.write(inside[5], y - 6.5, "each token by itself", 8)
    return drawing.figure


def likeness(
    cosines: Sequence[Tensor], titles: Sequence[str], pictures: Sequence[Image.Image], captions: Sequence[str], side: float = 0.5
) -> Figure:
    """Tables side by side, each of the cosines between captions (rows) and pictures (columns), (captions, pictures).

    Dark is -1, light 1. Raises ValueError for a table of another shape.
    """
    rows, columns = len(captions), len(pictures)
    for table in cosines:
        if tuple(table.shape) != (rows, columns):
            raise ValueError(f"cosines must be (captions, pictures) = ({rows}, {columns}); got {tuple(table.shape)}")
    words = 0.075 * max(map(len, captions)) + 0.15  # inches
    gap, top = 0.3, 0.3
    width = words + len(cosines) * (columns * side + gap)
    height = top + (rows + 1) * side + 0.1
    figure = new_figure(width, height)
    for k, (table, title) in enumerate(zip(cosines, titles)):
        left = words + k * (columns * side + gap)
        for j, picture in enumerate(pictures):
            box = ((left + j * side) / width, (0.1 + rows * side) / height, side / width, side / height)
            thumbnail = figure.add_axes(box)
            thumbnail.imshow(np.asarray(picture.convert("RGB")), interpolation="bilinear", aspect="auto")
            thumbnail.set_axis_off()
        axes = figure.add_axes((left / width, 0.1 / height, columns * side / width, rows * side / height))
        axes.imshow(table.detach().float().cpu().numpy(), cmap=HEAT, vmin=-1, vmax=1, aspect="auto")
        for i, row in enumerate(table.tolist()):
            for j, value in enumerate(row):
                color = "k" if value > 0.1 else "w"
                axes.text(j, i, f"{value:.1f}".replace("-0.0", "0.0"), ha="center", va="center", fontsize=8, color=color)
        axes.set(xticks=[], yticks=range(rows) if k == 0 else [])
        if k == 0:
            axes.set_yticklabels(captions, fontsize=8.5, parse_math=False)
        figure.text((left + columns * side / 2) / width, 1 - 0.15 / height, title, ha="center", va="center", fontsize=10)
    return figure


def nearest_prompts(
    pictures: Sequence[Image.Image], prompts: Sequence[Sequence[str]], cosines: Sequence[Sequence[float]]
) -> Figure:
    """Each picture, and beside it bars for its nearest prompts, which are written on them: as long as the cosine is large."""
    rows = len(pictures)
    figure = new_figure(7.0, 0.1 + 1.05 * rows)
    for i, (picture, near, values) in enumerate(zip(pictures, prompts, cosines)):
        bottom = 1 - (i + 1) / rows + 0.03 / rows
        thumbnail = figure.add_axes((0.01, bottom, 0.14, 0.94 / rows))
        thumbnail.imshow(np.asarray(picture.convert("RGB")), interpolation="bilinear")
        thumbnail.set_axis_off()
        axes = figure.add_axes((0.17, bottom, 0.82, 0.94 / rows), xlim=(0, 1))
        axes.barh(range(len(near)), [max(0.0, value) for value in values], color="#D9E8F5", edgecolor=PART_COLORS["unet"])
        for place, (prompt, value) in enumerate(zip(near, values)):
            axes.text(0.01, place, f"{value:.2f}  {prompt}", va="center", fontsize=9, color=INK, parse_math=False)
        axes.invert_yaxis()
        axes.set_axis_off()
    return figure
