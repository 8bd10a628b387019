"""Sheets for a viewer who does not know the prompts: numbered pictures in one folder, what was asked for in another.

The classifier saw real pictures of all subjects, and may forgive what a stranger does not. A stranger is asked, too: "What is in
picture 17? How sharp is the sheet, from 0 to 10?" The third sheet shows real pictures, which no model drew: the ceiling.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..checkpoints.atomic import write_atomically
from ..data import EmojiDataset
from .drawing import bar_of, to_levels
from .reference import sample
from .sheets import save_sheet

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion

COLUMNS, SHOWN, LINE, GAP = 10, 128, 18, 10  # pixels: a picture, its number, the space around


def numbered_sheet(pictures: Tensor) -> Image.Image:
    """uint8 (n, 3, h, w) as a sheet, each under its number from 1 on."""
    _, _, h, w = pictures.shape
    zoom = max(1, SHOWN // h)
    width, height = zoom * w + GAP, zoom * h + LINE + GAP
    sheet = Image.new("RGB", (COLUMNS * width + GAP, -(-len(pictures) // COLUMNS) * height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, picture in enumerate(pictures):
        x, y = GAP + i % COLUMNS * width, GAP + i // COLUMNS * height
        draw.text((x, y), str(i + 1), "black", font)
        image = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((zoom * w, zoom * h), Image.Resampling.NEAREST)
        sheet.paste(image, (x, y + LINE))
    return sheet


def blind_sheets(pipe: StableDiffusion, folder: Path, seed: int, count: int = 60, progress: bool = True) -> list[Path]:
    """Write `sheets/NAME.png` and `keys/NAME.txt` for trained, held-out and real pictures: `count` of each, chosen by `seed`.

    What is drawn is drawn at the defaults, from noise of that seed. Returns the sheets' paths. Raises OSError if it cannot write.
    """
    written = []
    for split in ("trained", "held_out", "real"):
        data = EmojiDataset({"trained": "train", "held_out": "held_out", "real": "train"}[split])
        chosen = sample(range(len(data)), count, seed=2 * seed + (split == "real"))  # other pairs than those of "trained"
        captions = [data.entries[i].captions[0] for i in chosen]
        if split == "real":
            pictures = data.pictures[chosen]
        else:
            parts = []
            with bar_of(split, len(captions), progress, unit="picture") as bar:
                for start in range(0, len(captions), 20):
                    some = captions[start : start + 20]
                    parts.append(to_levels(pipe(some, seed=[seed] * len(some), progress=False)))
                    bar.update(len(some))
            pictures = torch.cat(parts)
        for kind in ("sheets", "keys"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        save_sheet(numbered_sheet(pictures), folder / "sheets" / f"{split}.png")
        key = "".join(f"{number}\t{caption}\n" for number, caption in enumerate(captions, 1))
        write_atomically(folder / "keys" / f"{split}.txt", key.encode())
        written.append(folder / "sheets" / f"{split}.png")
    return written


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial evaluate --blind FOLDER`."""
    from ..pipeline import load_pipeline

    pipe = load_pipeline(args.model, device=args.device, dtype=args.dtype)
    for path in blind_sheets(pipe, args.blind, args.blind_seed or 0, progress=not args.quiet):
        print(path)
