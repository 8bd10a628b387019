"""The insides of the networks, drawn from their configurations: blocks, encoder, decoder, discriminator, U-Net.

Every size in these pictures is computed. One color per part, as everywhere: `canvas.PART_COLORS`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from ..config import AutoencoderConfig, UNetConfig
from ..training.discriminator import PatchDiscriminator
from ..unet import channel_plan
from .canvas import PART_COLORS, PURPLE, TEXT_COLOR, Diagram

TIME = PART_COLORS["scheduler"]


def resnet_block_figure(time: bool) -> Figure:
    """The residual block; with `time`, as in the U-Net, where the timestep enters between the two convolutions."""
    color = PART_COLORS["unet" if time else "vae"]
    drawing = Diagram(110 if time else 100, 32 if time else 24)
    y = 8
    norm, activation, conv = ("GroupNorm", 13, color), ("SiLU", 7.5, color), ("conv 3x3", 12, color)
    plus = [("+", 0, "")]
    parts = [norm, activation, conv, *(plus if time else []), norm, activation, conv, *plus]
    x = drawing.chain((8, y), parts)
    drawing.write(4, y, "x", 11, weight="bold")
    drawing.write(x[-1] + 6.2, y, "out", 11, weight="bold")
    drawing.write(x[2], y - 5.5, "in → out channels", 8)
    shortcut = 27 if time else 18
    drawing.around(9.2, x[-1], y, shortcut - y)
    middle = (9.2 + x[-1]) / 2
    drawing.box(middle, shortcut, 50, 6, color, "shortcut: x itself, or conv 1x1 where the channels change")
    if time:
        drawing.box(x[3] + 14, 17, 20, 5.4, TIME, "SiLU, then Linear")
        drawing.arrow((x[3] + 31, 17), (x[3] + 24, 17))
        drawing.write(x[3] + 32, 17, "time\nembedding", 9, ha="left", weight="bold")
        drawing.arrow((x[3] + 5, 17), (x[3], y + 1.4), "angle,angleA=180,angleB=90,rad=4")
        drawing.write(x[3] - 2, 14, "one number per channel,\nthe same at every position", 8, ha="right")
    return drawing.figure


def spatial_transformer_figure(channels: int = 320, size: int = 64, words: int = 77, width: int = 768, heads: int = 8) -> Figure:
    """From a feature map to a sequence and back, and the transformer block between; the defaults are v1.5's first level."""
    color, drawing = PART_COLORS["unet"], Diagram(128, 58)
    n, y = size * size, 46
    parts = [
        ("GroupNorm", 13, color),
        ("conv 1x1", 12, color),
        ("rows to\na sequence", 14, "#888888"),
        ("transformer block", 21, color),
        ("sequence\nto rows", 14, "#888888"),
        ("conv 1x1", 12, color),
        ("+", 0, ""),
    ]
    x = drawing.chain((8, y), parts)
    drawing.write(4, y, "x", 11, weight="bold")
    drawing.write(x[-1] + 7, y, "out", 11, weight="bold")
    drawing.around(9.2, x[-1], y, 8)
    rows, sequence = f"{channels} x {size} x {size}", f"{n} x {channels}"
    for place, shape in ((x[0], rows), (x[2] + 1, sequence), (x[5] + 1, rows)):
        drawing.write(place, y + 5.2, shape, 8)

    # What is inside the block, on a panel of its own
    drawing.panel(2, 3, 124, 29, facecolor="#F5F8FB", edgecolor=color)
    drawing.axes.plot([x[3] - 10.5, 2.4], [y - 3.5, 32], color=color, linestyle=":", linewidth=1)
    drawing.axes.plot([x[3] + 10.5, 125.6], [y - 3.5, 32], color=color, linestyle=":", linewidth=1)
    y, norm = 15, ("LayerNorm", 11.5, color)
    layers = ["self-\nattention", "cross-\nattention", "GEGLU\nfeed-forward"]
    row = [part for layer in layers for part in (norm, (layer, 14, color), ("+", 0, ""))]
    x = drawing.chain((6, y), row, gap=2.0)
    for i, start in enumerate([7, x[2] + 2.2, x[5] + 2.2]):
        drawing.around(start, x[3 * i + 2], y, 7.5)
    for place, text in ((x[1], "listens to\nthe picture"), (x[7], "each position\nby itself")):
        drawing.write(place, y - 7, text, 8)
    drawing.arrow((x[4], 26.5), (x[4], y + 3.5), color=TEXT_COLOR)
    drawing.write(x[4], 28.5, f"text embeddings: {words} x {width}", 9, weight="bold")
    drawing.write(x[4], y - 7, "listens to\nthe words", 8)
    drawing.write(123, 5.5, f"{heads} heads of {channels // heads} channels", 8, ha="right")
    return drawing.figure


def _levels(drawing: Diagram, columns: Sequence[tuple[str, str, int, str]], largest: int, color: str, y: float = 30) -> None:
    """A row of boxes: (title, what is in it, side of the feature map, what flows out of it). The height shows the side."""
    x, smallest = 9.0, min(side for _, _, side, _ in columns)
    for title, inside, side, flow in columns:
        steps = np.log2(max(side / smallest, 1)) / max(np.log2(largest / smallest), 1)
        height = 16 + 20 * steps
        width = 12.5 if len(inside) > 10 else 9
        drawing.arrow((x, y), (x + 2.2, y))
        drawing.box(x + 2.2 + width / 2, y, width, height, color, inside, 8)
        drawing.write(x + 2.2 + width / 2, y + 22, title, 8.5, weight="bold")
        drawing.write(x + 2.2 + width / 2, y - 23, flow, 8, linespacing=1.3)
        x += 2.2 + width
    drawing.arrow((x, y), (x + 2.6, y))


def encoder_figure(config: AutoencoderConfig) -> Figure:
    """The encoder, left to right: what each level holds, and the shape that leaves it."""
    channels, side = config.block_out_channels, config.sample_size
    columns = [("", "conv\n3x3", side, f"{channels[0]}\n{side} x {side}")]
    for i, c in enumerate(channels):
        last = i == len(channels) - 1
        before, side = side, side if last else side // 2
        inside = f"{config.layers_per_block} x\nResNet" + ("" if last else "\n\ndownsample")
        columns.append((f"level {i}", inside, before, f"{c}\n{side} x {side}"))
    c, z = channels[-1], config.latent_channels
    columns.append(("middle", "ResNet\nattention\nResNet", side, f"{c}\n{side} x {side}"))
    columns.append(("", "GroupNorm\nSiLU\nconv 3x3", side, f"{2 * z}\n{side} x {side}"))
    columns.append(("quant", "conv\n1x1", side, f"{2 * z}\n{side} x {side}"))
    return _row(columns, f"picture\n{config.in_channels}", f"mean {z}\n\nlog\nvariance\n{z}", config.sample_size)


def decoder_figure(config: AutoencoderConfig) -> Figure:
    """The decoder, left to right: what each level holds, and the shape that leaves it."""
    channels, z = config.block_out_channels, config.latent_channels
    side, c = config.sample_size // config.downsampling, channels[-1]
    columns = [("post-quant", "conv\n1x1", side, f"{z}\n{side} x {side}"), ("", "conv\n3x3", side, f"{c}\n{side} x {side}")]
    columns.append(("middle", "ResNet\nattention\nResNet", side, f"{c}\n{side} x {side}"))
    for i, c in reversed(list(enumerate(channels))):
        after = 2 * side if i else side
        inside = f"{config.layers_per_block + 1} x\nResNet" + ("\n\nupsample" if i else "")
        columns.append((f"level {i}", inside, after, f"{c}\n{after} x {after}"))
        side = after
    columns.append(("", "GroupNorm\nSiLU\nconv 3x3", side, f"{config.out_channels}\n{side} x {side}"))
    return _row(columns, f"latents\n{z}", f"picture\n{config.out_channels}", config.sample_size)


def discriminator_figure(channels: int = 64, size: int = 256) -> Figure:
    """The patch discriminator, left to right: how many pixels a number of each layer has seen, and the shape that leaves it.

    channels: of the first layer. size: pixels along a side. The defaults are those of Isola et al. 2017.
    """
    with torch.device("meta"):
        layers = PatchDiscriminator(channels).layers
    columns, largest, seen, apart = [], size, 1, 1  # a number has seen so many pixels, and its neighbor is so many apart
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            [k], [stride], [padding] = (set(map(int, sizes)) for sizes in (layer.kernel_size, layer.stride, layer.padding))
            before, size = size, (size + 2 * padding - k) // stride + 1
            seen, apart = seen + (k - 1) * apart, stride * apart
            inside = [f"conv {k}x{k}"] + ["half"] * (stride == 2)
            columns.append((f"sees {seen}x{seen}", inside, before, f"{layer.out_channels}\n{size} x {size}"))
        else:
            columns[-1][1].append(type(layer).__name__.removesuffix("2d"))
    drawn = [(title, "\n".join(inside), before, flow) for title, inside, before, flow in columns]
    return _row(drawn, f"picture\n{layers[0].in_channels}", "real?\n\na verdict\nfor each\npatch", largest, PURPLE)


def _row(
    columns: Sequence[tuple[str, str, int, str]], begin: str, end: str, largest: int, color: str = PART_COLORS["vae"]
) -> Figure:
    width = sum(2.2 + (12.5 if len(inside) > 10 else 9) for _, inside, _, _ in columns)
    drawing = Diagram(width + 22, 58)
    drawing.write(4.5, 30, begin, 9, weight="bold")
    _levels(drawing, columns, largest, color)
    drawing.write(width + 16.5, 30, end, 9, weight="bold")
    return drawing.figure


def unet_figure(config: UNetConfig) -> Figure:
    """The U: each level with its blocks, channels and resolution, and the channels of every skip connection across."""
    channels, layers, attention = config.block_out_channels, config.layers_per_block, config.attention_levels
    down, up = channel_plan(config)
    color, levels = PART_COLORS["unet"], len(channels)
    drawing = Diagram(130, 14 + 15 * levels)
    left, right, width, height = 34, 96, 30, 9.5
    y = [14 + 15 * (levels - 1 - i) + 1 for i in range(levels)]

    def inside(count: int, level: int) -> str:
        return f"{count} x " + ("(ResNet + transformer)" if attention[level] else "ResNet")

    for i, c in enumerate(channels):
        side = -(-config.sample_size // 2**i)
        joined = up[levels - 1 - i]
        drawing.box(left, y[i], width, height, color, f"{inside(layers, i)}\n{', '.join(map(str, down[i]))} → {c}", 8.5)
        drawing.box(right, y[i], width, height, color, f"{inside(layers + 1, i)}\n{', '.join(map(str, joined))} → {c}", 8.5)
        drawing.write(2, y[i], f"level {i}\n{c} x {side} x {side}", 8.5, ha="left", linespacing=1.4)
        flow = channels[min(i + 1, levels - 1)]
        skips = [n - (flow if k == 0 else c) for k, n in enumerate(joined)]
        drawing.arrow((left + width / 2, y[i]), (right - width / 2, y[i]), linestyle="--")
        drawing.write((left + right) / 2, y[i] + 2, "skips " + ", ".join(map(str, reversed(skips))), 8.5)
        if i < levels - 1:
            drawing.arrow((left, y[i] - height / 2), (left, y[i + 1] + height / 2))
            drawing.write(left + 1, (y[i] + y[i + 1]) / 2, "half", 8, ha="left")
            drawing.arrow((right, y[i + 1] + height / 2), (right, y[i] - height / 2))
            drawing.write(right + 1, (y[i] + y[i + 1]) / 2, "double", 8, ha="left")
    middle = (left + right) / 2
    drawing.box(middle, 4.6, 40, 6.4, color, f"middle, {channels[-1]}: ResNet, transformer, ResNet", 8.5)
    drawing.arrow((left, y[-1] - height / 2), (middle - 20, 4.6), "angle,angleA=90,angleB=0,rad=4")
    drawing.arrow((middle + 20, 4.6), (right, y[-1] - height / 2), "angle,angleA=0,angleB=90,rad=4")
    drawing.arrow((left, y[0] + 9), (left, y[0] + height / 2))
    drawing.write(left, y[0] + 10.6, f"latents, {config.in_channels} → conv 3x3", 9, weight="bold")
    drawing.arrow((right, y[0] + height / 2), (right, y[0] + 9))
    drawing.write(right, y[0] + 10.6, f"norm, SiLU, conv 3x3 → noise, {config.out_channels}", 9, weight="bold")
    drawing.write(128, y[0], "the time enters\nevery ResNet,\nthe words every\ntransformer", 8.5, ha="right", linespacing=1.4)
    return drawing.figure
