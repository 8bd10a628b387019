"""What can be done with the latents of a picture of your own. No widget in here."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..data import EmojiDataset, EmojiEntry
from ..images import fit, on_background, to_images, to_tensor
from ..pipeline import StableDiffusion


@lru_cache(maxsize=1)
def emoji_entries() -> dict[str, EmojiEntry]:
    """ "cat face, noto" -> its entry, of all pictures in the data set."""
    return {f"{entry.label}, {entry.style}": entry for entry in EmojiDataset().entries}


def emoji_picture(name: str) -> Image.Image:
    """A picture of the data set by subject and style, such as "rocket, fluent"; without style, the first. Raises ValueError."""
    entries = emoji_entries()
    wanted = " ".join(name.lower().split())
    found = next((known for known in entries if wanted in (known, known.rpartition(", ")[0])), None)
    if found is None:
        close = difflib.get_close_matches(wanted, entries, n=1, cutoff=0.4)
        raise ValueError(f"there is no emoji {name!r} in the data set" + (f"; did you mean {close[0]!r}?" if close else ""))
    return entries[found].picture()


def uploaded(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> bytes | None:
    """What a FileUpload holds: in ipywidgets 8 a tuple of files, in 7 a dict of them by name."""
    files = list(value.values()) if isinstance(value, Mapping) else list(value)
    return bytes(files[-1]["content"]) if files else None


def read_picture(data: bytes, size: int) -> Image.Image:
    """The middle of a picture file, size x size, what is transparent on white. Raises ValueError if it is none."""
    return on_background(middle(data, size), "white").convert("RGB")


def middle(data: bytes, size: int) -> Image.Image:
    """Of a picture file: size x size, RGBA."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception as error:  # a damaged picture can raise anything
        raise ValueError("the uploaded file is not a picture that can be read; PNG, JPEG and WebP can") from error
    return fit(image.convert("RGBA"), size, size)


@torch.no_grad()
def through_autoencoder(pipe: StableDiffusion, image: Image.Image) -> tuple[Image.Image, Tensor]:
    """Through the autoencoder and back: the picture, and its latents, (4, h, w)."""
    latents = pipe.encode(image)  # (1, 4, h, w)
    return pipe.decode(latents)[0], latents[0].cpu()


@torch.no_grad()
def between(pipe: StableDiffusion, a: Image.Image, b: Image.Image, fraction: float) -> tuple[Image.Image, Image.Image]:
    """Part of the way from a to b, 0 ... 1: on a straight line between their latents; and, to compare, between their pixels."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction:g} must be a number, 0 ... 1")
    latents = torch.lerp(pipe.encode(a), pipe.encode(b), fraction)  # (1, 4, h, w)
    pixels = torch.lerp(to_tensor(a), to_tensor(b), fraction)  # (1, 3, f h, f w)
    return pipe.decode(latents)[0], to_images(pixels)[0]


# ---- masks, painted with rectangles and ellipses, or in another program


def empty_mask(size: tuple[int, int]) -> Image.Image:
    """A mask of (width, height) that keeps all of the picture: black."""
    return Image.new("L", size, 0)


def paint(mask: Image.Image, shape: str, columns: tuple[int, int], rows: tuple[int, int], white: bool = True) -> Image.Image:
    """The mask with one more shape in it, or, black, one less. columns and rows: from ... to, in percent of the sides."""
    if shape not in ("ellipse", "rectangle"):
        raise ValueError(f"shape={shape!r} must be 'ellipse' or 'rectangle'")
    (left, right), (top, bottom) = columns, rows
    box = [left * mask.width / 100, top * mask.height / 100, right * mask.width / 100 - 1, bottom * mask.height / 100 - 1]
    painted = mask.copy()
    if box[2] >= box[0] and box[3] >= box[1]:
        getattr(ImageDraw.Draw(painted), shape)(box, fill=255 * white)
    return painted


def read_mask(data: bytes, size: int) -> Image.Image:
    """The middle of a picture file as a mask: white where it is light, black where it is dark or transparent.

    Raises ValueError if it is no picture, or if all of it is dark.
    """
    mask = on_background(middle(data, size), "black").convert("L").point(lambda level: 255 * (level > 127))
    if mask.getbbox() is None:
        raise ValueError("the uploaded mask is dark all over; what is white in it is drawn again")
    return mask


def overlay(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with what will be drawn again in orange."""
    tinted = Image.blend(image.convert("RGB"), Image.new("RGB", image.size, "#D55E00"), 0.65)
    return Image.composite(tinted, image.convert("RGB"), mask)
