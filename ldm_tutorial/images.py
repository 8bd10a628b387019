"""Pictures in and out: PIL images to tensors and back, and picture files that say how they were made."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor
from torch.nn import functional as F

from .checkpoints.atomic import write_atomically
from .checks import as_path

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

# What a picture's `.info` and its PNG file hold. Strings are stored as they are, everything else as JSON.
TEXTS = ("prompt", "negative_prompt", "scheduler", "model", "dtype", "software")
NUMBERS = (
    *("seed", "scheduler_options", "steps", "guidance_scale", "guidance_rescale", "strength", "start_at", "feather"),
    *("width", "height", "prompt_weights", "long_prompts", "clip_skip", "loras", "branch"),
)


# ---- PIL <-> tensor


def to_tensor(image: Image.Image, argument: str = "image") -> Tensor:
    """A picture of any mode, what is transparent in it on white: (1, 3, height, width), float32 in [-1, 1].

    Raises TypeError if it is no PIL image, ValueError for modes whose range is not known (16 and 32 bits).
    """
    image = upright(image, argument)
    if is_transparent(image):
        image = on_background(image, "white")
    pixels = torch.from_numpy(np.array(image.convert("RGB")))  # (h, w, 3), 0 ... 255
    return to_unit_range(pixels).permute(2, 0, 1)[None].contiguous()


def to_unit_range(levels: Tensor) -> Tensor:
    """Color levels, 0 ... 255, to the range that the networks work in, -1 ... 1: float32, any shape."""
    return levels.float() / 127.5 - 1


def levels_of(pictures: Tensor) -> Tensor:
    """The way back: -1 ... 1 to the nearest color level, 0 ... 255, uint8, any shape. What lies outside is cut off."""
    return ((pictures + 1) * 127.5).round().clamp(0, 255).byte()


def resample(x: Tensor, side: int) -> Tensor:
    """Pictures or latents of any range at another size: (b, c, h, w) -> float32 (b, c, side, side).

    Bilinear; where it becomes smaller, each value is a weighed mean of all that it covers, as Pillow's `BILINEAR` is.
    """
    return F.interpolate(x.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def resize(pictures: Tensor, side: int) -> Tensor:
    """`resample` of color levels: uint8 (n, 3, h, w) -> uint8 (n, 3, side, side). Pictures of this size stay as they are."""
    if pictures.shape[-2:] == (side, side):
        return pictures
    parts = pictures.split(256)  # a data set in float32 at once is gigabytes
    return torch.cat([resample(part, side).round().byte() for part in parts])


def mask_to_tensor(mask: Image.Image, argument: str = "mask") -> Tensor:
    """White (128 and above) is 1: to be repainted. Black and transparent is 0: to be kept. (1, 1, height, width), float32"""
    mask = upright(mask, argument)
    if is_transparent(mask):
        mask = on_background(mask, "black")
    return torch.from_numpy(np.asarray(mask.convert("L")) >= 128).float()[None, None]


def feathered(mask: Tensor, width: int) -> Tensor:
    """A mask of 0 and 1 whose edge rises evenly over `width` pixels inside of it; what is 0 stays 0. (b, 1, h, w) both

    It is the mean of the mask and of `width` masks, each one pixel smaller all around than the one before.
    """
    total = smaller = mask
    for _ in range(width):
        smaller = 1 - F.max_pool2d(1 - smaller, kernel_size=3, stride=1, padding=1)
        total = total + smaller
    return total / (width + 1)


def to_images(x: Tensor) -> list[Image.Image]:
    """(b, 3, height, width), about [-1, 1] -> b PIL images. Rounded: cutting off would darken by half a level."""
    levels = ((x.detach().float() / 2 + 0.5).clamp(0, 1) * 255).round()
    pixels = levels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()  # (b, h, w, 3)
    return [Image.fromarray(p) for p in pixels]


def upright(image: Image.Image, argument: str) -> Image.Image:
    """The picture as its camera meant it to be seen, checked."""
    if not isinstance(image, Image.Image):
        hint = "; an array becomes one by PIL.Image.fromarray" if hasattr(image, "__array__") else ""
        raise TypeError(f"{argument} must be a PIL image; got {type(image).__name__}{hint}")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ValueError(f"{argument} has mode {image.mode!r}, of unknown range; convert it to 8 bits a channel, 'L' or 'RGB'")
    if not image.width * image.height:
        raise ValueError(f"{argument} is {image.width}x{image.height}: it has no pixels")
    image = ImageOps.exif_transpose(image)
    usual = {"LAB": "RGB", "La": "LA"}.get(image.mode)  # Pillow converts these two to hardly any other
    return image.convert(usual) if usual else image


def is_transparent(image: Image.Image) -> bool:
    """Whether the picture has an alpha channel, or a color that counts as transparent."""
    palette = image.mode == "P" and image.palette is not None and image.palette.mode == "RGBA"
    return palette or image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info


def on_background(image: Image.Image, color: str) -> Image.Image:
    """The picture on a plane of one color, as RGBA without transparency."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, color), image)


def fit(image: Image.Image, width: int, height: int, resample: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """The largest part of the middle that has the shape of width x height, scaled to it."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("P", "1"):  # palette numbers cannot be averaged
        image = image.convert("RGBA" if is_transparent(image) else "RGB" if image.mode == "P" else "L")
    return ImageOps.fit(image, (width, height), resample)


# ---- files


def open_image(path: str | Path, argument: str = "image") -> Image.Image:
    """Read a picture file, all of it. Raises ValueError, which names the file, if that is not possible."""
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise ValueError(f"{argument}: there is no file {path}") from None
    except Exception as error:  # a damaged picture can raise anything
        raise ValueError(f"{argument}: cannot read {path} as a picture: {error}") from error
    return image


def check_output(path: str | Path) -> Path:
    """The path, if a picture could be saved there; to be asked before the work is done. Raises ValueError if not."""
    path = as_path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"output {path}: the name must end in one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise ValueError(f"output {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"output {path}: no right to write into {path.parent}")
    if path.exists() and not path.is_file():
        raise ValueError(f"output {path}: exists and is not a file")
    return path


def save_image(image: Image.Image, path: str | Path) -> Path:
    """Save a picture; a PNG file also keeps the settings in `image.info` that it was made with.

    An existing file is replaced in one go, or stays as it was.

    Raises:
        ValueError: a name that does not end in .png, .jpg, .jpeg or .webp, or a folder that does not exist.
        OSError: it could not be written, a full disk for instance.
    """
    path = check_output(path)
    kind, buffer = FORMATS[path.suffix.lower()], io.BytesIO()
    if kind == "PNG":
        image.save(buffer, kind, pnginfo=png_text(image.info))
    else:
        image.convert("RGB").save(buffer, kind, quality=95)
    write_atomically(path, buffer.getvalue())
    return path


def png_text(settings: Mapping[Any, Any]) -> PngImagePlugin.PngInfo:
    """The settings of a picture as the text fields of a PNG file."""
    text = PngImagePlugin.PngInfo()
    for key in (*TEXTS, *NUMBERS):
        if key in settings:
            text.add_text(key, settings[key] if key in TEXTS else json.dumps(settings[key], default=str))
    return text


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings that `save_image` stored in a PNG file; {} for a picture from elsewhere.

    Raises ValueError if the file is no picture or its settings are damaged.
    """
    text = open_image(path, "path").info
    if not str(text.get("software", "")).startswith("ldm_tutorial"):
        return {}
    settings = {key: str(text[key]) for key in TEXTS if key in text}
    try:
        settings |= {key: json.loads(text[key]) for key in NUMBERS if key in text}
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"path: the settings in {path} are damaged: {error}") from error
    return settings
