"""Notebook 06: the channels on the stack, the U itself, the parameters of its residual blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import EMOJI, SD15, UNetConfig
from ..unet import UNet, channel_plan
from . import Unnamed, alone_and_in_pairs, call, cases, close, exercise, unknown

# ---- 1. The stack


def stack_of(config: UNetConfig) -> list[int]:
    """The channels of every feature map that is kept on the way down, in the order in which they are pushed."""
    channels, layers, last = config.block_out_channels, config.layers_per_block, len(config.block_out_channels) - 1
    return [channels[0]] + [c for i, c in enumerate(channels) for _ in range(layers + (i < last))]


@exercise(
    "06.1",
    nudge="Follow the U-Net of the text downward, and write down the channels each time something is put on the stack.",
    solution="conv_in's result comes first; then, level by level, one for each block, and one for the downsampling layer, if any",
)
def skip_channels(answer: Callable) -> str | None:
    """06.1: the channels of all skip connections, in the order in which they are pushed."""
    three = UNetConfig(block_out_channels=(96, 160, 224), attention_levels=(True, True, False), layers_per_block=3)
    for name, config in cases((("SD15.unet", SD15.unet), ("EMOJI.unet", EMOJI.unet), ("three levels of 3 blocks", three))):
        channels, layers = config.block_out_channels, config.layers_per_block
        right, found = stack_of(config), call(answer, config)
        if not isinstance(found, (list, tuple)):
            return f"the answer must be a list of numbers; yours is {type(found).__name__}"
        found = list(found)
        asked = f"for {name}"
        if found == right:
            continue
        if found == right[1:]:
            return f"{asked}: the first is missing, the result of conv_in"
        if found == right[::-1]:
            return f"{asked}: that is the order in which they come off; asked is the order in which they are pushed"
        if found == right + [channels[-1]]:
            return f"{asked}: one too many at the end: the last level does not downsample"
        if found == [channels[0]] + [c for c in channels for _ in range(layers)]:
            return f"{asked}: the results of the downsamplings are missing: they are kept as well"
        if found == [channels[0]] + [c for i, c in enumerate(channels) for c in [c] * layers + list(channels[i + 1 : i + 2])]:
            return f"{asked}: a downsampling keeps the channels of its level; only the next block changes them"
        if found == list(channels):
            return f"{asked}: one a level is too few: each block and each downsampling puts its result on the stack"
        if found == [channels[0]] + [c for c in channels for _ in range(layers + 1)]:
            return f"{asked}: one too many at the end: the last level does not downsample"
        if found == [c for i, c in enumerate(channels) for _ in range(layers + (i < len(channels) - 1))]:
            return f"{asked}: the first is missing, the result of conv_in"
        if sorted(found) == sorted(right):
            return f"{asked}: the right numbers in another order; the stack should be {right}, and yours is {found}"
        if layers != 2 and found == stack_of(replace(config, layers_per_block=2)):
            return f"{asked}: you always count two blocks a level; config.layers_per_block says how many"
        if len(found) != len(right):
            return f"{asked} there are {len(right)} feature maps on the stack; yours has {len(found)}"
        return Unnamed(f"{asked} the stack should be {right}; yours is {found}")
    return None


# ---- 2. The U


def u_shaped(
    x: Tensor,
    levels: Sequence[tuple[Callable, Callable]],
    middle: Callable,
    first_in_first_out: bool = False,
    skip_first: bool = False,
    too_late: bool = False,
    same: bool = False,
    smooth: bool = False,
    turned: bool = True,
    through: bool = True,
    largest: bool = False,
    strict: bool = False,
    late: bool = False,
) -> Tensor:
    """Down, middle, up, with a stack between; the switches make the mistakes that the check names."""
    stack = []
    for down, _ in levels:
        before, x = x, down(x)
        pool = F.max_pool2d if largest else F.avg_pool2d
        pooled = pool(x, 2, ceil_mode=not strict)
        stack.append(pooled if too_late else before if late else x)
        x = pooled
    x = middle(x) if through else x
    for _, up in reversed(levels) if turned else levels:
        skip = stack.pop(0 if first_in_first_out else -1)
        x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear" if smooth else "nearest")
        joined = [skip, x] if skip_first else [x, x if same else skip]
        x = up(torch.cat(joined, dim=1))
    return x


@exercise(
    "06.2",
    nudge="Print the shapes on the way down; on the way up they must come in the opposite order.",
    solution="down: x = down(x), push x, pool. Up, last level first: pop, interpolate to its size, join, up",
)
def u_shape(answer: Callable) -> str | None:
    """06.2: down and up again, with the skip connections joined."""
    generator = torch.Generator().manual_seed(0)

    def layer(inputs: int) -> Callable:
        weight = torch.randn(3, inputs, 3, 3, generator=generator) / (9 * inputs) ** 0.5
        return lambda x: F.conv2d(x, weight, padding=1).tanh()

    levels, middle = [(layer(3), layer(6)) for _ in range(2)], layer(3)
    for height, width in cases(((8, 12), (5, 7))):
        x = torch.randn(2, 3, height, width, generator=generator)
        kept, right = x.clone(), u_shaped(x, levels, middle)
        try:
            found = call(answer, x, list(levels), middle)
        except RuntimeError:
            if (height, width) == (8, 12):
                raise
            return "right for 8 x 12, and it fails for 5 x 7: do not double, but interpolate to the size of what you popped"
        if not isinstance(found, Tensor):
            return f"the result must be a tensor; yours is {type(found).__name__}"
        if not torch.equal(x, kept):
            return "your function changes its input"
        if close(found, right):
            continue
        mistakes = [
            ({"first_in_first_out": True}, "you take the oldest feature map first; a stack gives the newest: pop(), not pop(0)"),
            ({"turned": False}, "the levels on the way up are in the wrong order: the last one down is the first one up"),
            ({"first_in_first_out": True, "turned": False}, "on the way up, stack and levels run as on the way down: turn both"),
            ({"skip_first": True}, "the parts are joined in the wrong order: what flows up comes first, then the skip"),
            ({"too_late": True}, "you push after halving: the details that the way up needs are gone by then"),
            ({"same": True}, "you join x to itself: the skip is not used"),
            ({"smooth": True}, 'you interpolate bilinearly; asked is mode="nearest"'),
            ({"through": False}, "the middle is missing: x = middle(x), between the way down and the way up"),
            ({"largest": True}, "you take the largest of four pixels: asked is their mean, avg_pool2d"),
            ({"strict": True}, "an odd size is halved downward: ceil_mode=True keeps the last row and column"),
            ({"late": True}, "you push what goes into `down`: the skip is its result"),
        ]
        for mistake, switches in alone_and_in_pairs({mistake: switches for switches, mistake in mistakes}):
            try:
                wrong = u_shaped(x, levels, middle, **switches)
            except RuntimeError:  # two mistakes together need not fit
                continue
            if close(found, wrong):
                return mistake
        if found.shape != right.shape:
            return f"for an input {tuple(x.shape)} the result must have that shape again; yours is {tuple(found.shape)}"
        return unknown(found, right, f"these are other numbers, for an input of {height} x {width}")
    return None


# ---- 3. Parameters of the residual blocks


def resnet_parameters(
    inputs: int, outputs: int, time: int, shortcut: bool = True, norms: bool = True, biases: bool = True, temb: bool = True
) -> int:
    """Of one residual block, part by part; the switches leave parts out."""
    b = int(biases)
    convs = outputs * (9 * inputs + b) + outputs * (9 * outputs + b)
    return (
        convs
        + (2 * (inputs + outputs) if norms else 0)
        + (outputs * (time + b) if temb else 0)
        + (outputs * (inputs + b) if shortcut and inputs != outputs else 0)
    )


@exercise(
    "06.3",
    nudge="Count one block by hand and compare with sum(p.numel() for p in block.parameters()).",
    solution="channel_plan says what each block receives. A block has 2 norms, 2 convolutions, the time's Linear, and a 1x1 "
    "shortcut where in != out",
)
def count_resnets(answer: Callable) -> str | None:
    """06.3: the parameters of all residual blocks, from the configuration alone."""
    for name, config in cases((("EMOJI.unet", EMOJI.unet), ("SD15.unet", SD15.unet))):
        found = call(answer, config)
        if not isinstance(found, int):
            return f"the answer must be a whole number; yours is {type(found).__name__}"
        if found == total(config):
            continue
        mistakes = [
            ({"shortcut": False}, "the 1x1 shortcuts are missing, where the channels change"),
            ({"norms": False}, "the norms are missing: each has a weight and a bias per channel"),
            ({"biases": False}, "the biases of the convolutions and Linears are missing"),
            ({"temb": False}, "the Linear that takes the time is missing"),
        ]
        parts = {mistake: switches for switches, mistake in mistakes}
        parts |= {
            "the two blocks in the middle are missing": {"middle": False},
            "on the way up each block also receives what comes off the stack: look at channel_plan": {"skips": False},
        }
        for mistake, switches in alone_and_in_pairs(parts):
            if found == total(config, **switches):
                return f"for {name}: {mistake}"
        if found == total(config, up=False):
            return f"for {name}: the way up is missing"
        if found == total(config) - resnet_parameters(
            last := config.block_out_channels[-1], last, 4 * config.block_out_channels[0]
        ):
            return f"for {name}: there are two blocks in the middle, and you count one"
        if found == sum(p.numel() for p in networks_of(config)):
            return f"for {name}: that is the whole U-Net; asked are its residual blocks"
        off = found / total(config) - 1
        return unknown(found, total(config), f"for {name} it should be {total(config):,}; yours is {found:,}, {100 * off:+.1f} %")
    return None


@lru_cache(maxsize=2)
def networks_of(config: UNetConfig) -> tuple[Tensor, ...]:
    """The parameters of the whole U-Net, on PyTorch's `meta` device: shapes without memory."""
    with torch.device("meta"):
        return tuple(UNet(config).parameters())


def total(config: UNetConfig, middle: bool = True, up: bool = True, skips: bool = True, **switches: bool) -> int:
    """The sum over all residual blocks. The switches leave some out, which are mistakes."""
    channels, time = config.block_out_channels, 4 * config.block_out_channels[0]
    going_down, going_up = channel_plan(config)
    blocks = [(i, o) for inputs, o in zip(going_down, channels) for i in inputs]
    if up and skips:
        blocks += [(i, o) for inputs, o in zip(going_up, reversed(channels)) for i in inputs]
    elif up:
        flow = [(channels[-1], *channels[:0:-1])[k] for k in range(len(channels))]
        blocks += [(i, o) for f, o in zip(flow, reversed(channels)) for i in [f] + [o] * config.layers_per_block]
    blocks += [(channels[-1], channels[-1])] * (2 * middle)
    return sum(resnet_parameters(i, o, time, **switches) for i, o in blocks)
