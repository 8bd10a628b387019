"""Figures of a checkpoint: how its bytes are laid out, and the two names that each block of the U-Net has.

Every name and number in them is computed: by `checkpoints.compvis`, or from the file itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from ..checkpoints.compvis import PREFIX, ldm_name
from ..checkpoints.folder import build
from ..config import UNetConfig
from .canvas import INK, PART_COLORS, TEXT_COLOR, Diagram

OUR_LAYER = re.compile(r"conv_in|mid_block\.\w+\.\d+|\w+_blocks\.\d+\.\w+\.\d+")
UNET, DATA = PART_COLORS["unet"], PART_COLORS["vae"]


def block_names(config: UNetConfig) -> dict[str, dict[str, str]]:
    """CompVis' block -> its layers -> our names: {"input_blocks.4": {"0": "down_blocks.1.resnets.0", ...}, ...}"""
    blocks: dict[str, dict[str, str]] = {}
    for ours in build("the U-Net", "unet", config).state_dict():
        theirs = ldm_name("unet", ours, config).removeprefix(PREFIX["unet"])
        match = re.match(r"((?:in|out)put_blocks\.\d+|middle_block)\.(\d+)\.", theirs)
        if match:
            layer = OUR_LAYER.match(ours)
            assert layer is not None, ours
            blocks.setdefault(match[1], {})[match[2]] = layer[0]
    return {name: dict(sorted(layers.items())) for name, layers in blocks.items()}


def name_map(config: UNetConfig) -> Figure:
    """The U-Net in the order in which it runs, down on the left and up on the right: CompVis' name of each block, and ours.

    Upsamplers are in another color: where they stand in their block depends on whether it has a transformer.
    """
    blocks = block_names(config)
    levels, layers = len(config.block_out_channels), config.layers_per_block
    rows, step = levels * (layers + 1), 5.0  # each level has so many blocks on either side
    top = 7 + step * rows  # center of the uppermost
    wide, wider = 62.0, 68.0
    left, right = 2 + wide / 2, 6 + wide + wider / 2
    drawing = Diagram(8 + wide + wider, top + 8)

    def block(x: float, y: float, width: float, theirs: str, note: str = "") -> None:
        drawing.box(x, y, width, step - 0.9, UNET)
        start = x - width / 2 + 1.2
        drawing.write(start, y, theirs, 9, ha="left", weight="bold")
        for k, (number, ours) in enumerate(blocks[theirs].items()):
            short = re.sub(r"^(down|up)_blocks\.\d+\.|^mid_block\.", "", ours)
            color = TEXT_COLOR if "sampler" in ours else INK
            drawing.write(start + (17.5, 32, 49)[k], y, f".{number}  {short}", 8.5, ha="left", color=color)
        drawing.write(x + width / 2 - 1.2, y, note, 8.5, ha="right", color=UNET, weight="bold")

    for k in range(rows):
        y, (level, row) = top - step * k, divmod(k, layers + 1)
        begins = k > 0 and (k - 1) % (layers + 1) == 0  # conv_in is the first, so that levels begin one further down
        block(left, y, wide, f"input_blocks.{k}", f"down_blocks.{k // (layers + 1)}" if begins else "")
        block(right, y, wider, f"output_blocks.{rows - 1 - k}", f"up_blocks.{levels - 1 - level}" if row == layers else "")
    drawing.arrow((left, top + 7), (left, top + 2.2))
    drawing.arrow((right, top + 2.2), (right, top + 7))
    block((8 + wide + wider) / 2, 4, wider + 10, "middle_block", "mid_block")
    return drawing.figure


def file_layout(path: str | Path, shown: int = 3) -> Figure:
    """A safetensors file as a strip, not to scale, and under it the first entries of its header with the bytes they mean."""
    with open(path, "rb") as file:
        length, size = int.from_bytes(file.read(8), "little"), Path(path).stat().st_size
        header = json.loads(file.read(min(length, size)))
    tensors: Mapping[str, dict] = {name: entry for name, entry in header.items() if name != "__metadata__"}
    first = sorted(tensors.items(), key=lambda item: item[1]["data_offsets"])[:shown]

    drawing = Diagram(128, 23 + 5 * shown)
    y = 12 + 5 * shown
    drawing.box(9, y, 14, 7, TEXT_COLOR, f"8 bytes\n{length:,}", 9)
    drawing.box(34, y, 34, 7, UNET, f"header: {length:,} bytes of JSON\n{len(tensors):,} names, types, shapes, places", 9)
    drawing.box(89, y, 74, 7, DATA, f"numbers: {size - 8 - length:,} bytes, one tensor after the other", 9)
    for x, where, side in (
        (2, "byte 0", "left"),
        (17, "8", "left"),
        (52, f"{8 + length:,}", "left"),
        (126, f"{size:,}", "right"),
    ):
        drawing.write(x, y + 5.4, where, 8, ha=side)
    for k, (name, entry) in enumerate(first):
        begin, end = entry["data_offsets"]
        line = y - 9 - 5 * k
        drawing.write(3, line, name, 8, ha="left", color=UNET)
        drawing.write(82, line, f"{entry['dtype']} {entry['shape']}", 8, ha="left", color=UNET)
        drawing.write(126, line, f"bytes {begin:,} to {end:,} of the numbers", 8, ha="right", color=DATA)
    drawing.write(3, y - 9 - 5 * shown, f"... and {len(tensors) - len(first):,} more", 8, ha="left", color=UNET)
    return drawing.figure
