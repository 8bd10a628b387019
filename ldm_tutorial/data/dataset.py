"""The emoji that the small model is trained on: pictures, captions, and the pairs held out for testing.

The files are in `emoji/` beside this module, with `LICENSES.md`; `tools/build_emoji_dataset.py` made them: for each style a
zip file of WebP pictures with transparency. A *subject* is what a picture shows ("octopus"); with a *style* it is one picture,
an *entry*.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..images import to_unit_range

STYLES = ("noto", "twemoji", "fluent", "flat", "blob", "emojione", "firefox")
SPLITS = ("all", "train", "held_out")
SIZE = 128  # pixels, along each side
FOLDER = Path(__file__).parent / "emoji"


class EmojiEntry(NamedTuple):
    """What is known about one picture."""

    hexcode: str
    label: str
    tags: tuple[str, ...]
    group: str
    style: str

    @property
    def captions(self) -> tuple[str, ...]:
        """All captions, in the order of `captions_of`: the canonical one is the first."""
        return captions_of(self.label, self.tags, self.style)

    @property
    def file(self) -> bytes:
        """The content of its file, a WebP picture."""
        return _archive(self.style).read(f"{self.hexcode}.webp")

    def open(self) -> Image.Image:
        """The picture as it is in its file: RGBA, 128x128."""
        return Image.open(io.BytesIO(self.file)).convert("RGBA")

    def picture(self, size: int = SIZE, background: str | tuple[int, int, int] = "white") -> Image.Image:
        """The picture on a background, RGB, `size` x `size`. `background` is a color as Pillow writes it."""
        image = self.open()
        canvas = Image.new("RGBA", image.size, background)
        canvas.alpha_composite(image)
        canvas = canvas.convert("RGB")
        # Lanczos, and not `images.resize`, which is softer: these pictures are also shown
        return canvas if size == SIZE else canvas.resize((size, size), Image.Resampling.LANCZOS)


class EmojiItem(NamedTuple):
    """One example: `picture` is float32 (3, size, size) in [-1, 1], the first of `captions` is the canonical one.

    Subjects differ in the number of captions, so a DataLoader needs a `collate_fn` that picks one of them.
    """

    picture: Tensor
    captions: tuple[str, ...]
    style: str
    subject: str


class EmojiDataset(Dataset):
    """The emoji pictures with their captions.

    `split` is "train", "held_out" (one pair of subject and style in thirteen, never trained on) or "all".
    `styles` chooses among `STYLES`. The order is fixed: by subject, then by style in the order of `STYLES`.
    `size` is that of the pictures, in pixels: 128 as they are, or less.

    Raises ValueError if a split or a style is unknown, no style is given, or the size is not from 1 to 128.
    """

    def __init__(self, split: str = "all", styles: Sequence[str] = STYLES, size: int = SIZE) -> None:
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; allowed is one of {SPLITS}")
        chosen = (styles,) if isinstance(styles, str) else tuple(styles)
        if not chosen or any(style not in STYLES for style in chosen):
            raise ValueError(f"styles is {styles!r}; allowed are one or more of {STYLES}")
        if type(size) is not int or not 1 <= size <= SIZE:
            raise ValueError(f"size is {size!r}; allowed is a whole number from 1 to {SIZE}")
        self.split, self.size = split, size
        self.entries: list[EmojiEntry] = [
            entry
            for entry in _all_entries()
            if entry.style in chosen and (split == "all" or is_held_out(entry.label, entry.style) == (split == "held_out"))
        ]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> EmojiItem:
        entry = self.entries[index]
        picture = to_unit_range(self.pictures[index])  # (3, size, size), 0..255 -> [-1, 1]
        return EmojiItem(picture, entry.captions, entry.style, entry.label)

    @cached_property
    def pictures(self) -> Tensor:
        """All pictures on white, uint8 (n, 3, size, size), decoded at the first use: 50 kB each at 128x128."""
        pixels = np.empty((len(self), 3, self.size, self.size), dtype=np.uint8)
        for row, entry in zip(pixels, self.entries):
            row[:] = np.asarray(entry.picture(self.size)).transpose(2, 0, 1)  # (h, w, 3) -> (3, h, w)
        return torch.from_numpy(pixels)

    @cached_property
    def layers(self) -> Tensor:
        """All pictures without a background, uint8 (n, 4, 128, 128): red, green, blue, opacity; decoded at the first use."""
        pixels = np.empty((len(self), 4, SIZE, SIZE), dtype=np.uint8)
        for row, entry in zip(pixels, self.entries):
            row[:] = np.asarray(entry.open()).transpose(2, 0, 1)
        return torch.from_numpy(pixels)

    @cached_property
    def of_style(self) -> dict[str, list[int]]:
        """For each style, the numbers of its entries."""
        return {style: [i for i, entry in enumerate(self.entries) if entry.style == style] for style in STYLES}

    @cached_property
    def subjects(self) -> list[str]:
        """The labels of the subjects, each once, in the order of the entries."""
        return list(dict.fromkeys(entry.label for entry in self.entries))


@cache
def _archive(style: str) -> zipfile.ZipFile:
    """Read into memory: the workers of a DataLoader are forks, which would share the position in an open file."""
    return zipfile.ZipFile(io.BytesIO((FOLDER / f"{style}.zip").read_bytes()))


@cache
def _all_entries() -> tuple[EmojiEntry, ...]:
    subjects = json.loads((FOLDER / "captions.json").read_text(encoding="utf-8"))["subjects"]
    return tuple(
        EmojiEntry(s["hexcode"], s["label"], tuple(s["tags"]), s["group"], style)
        for s in subjects
        for style in STYLES
        if style in s["styles"]
    )


def is_held_out(label: str, style: str) -> bool:
    """Whether a pair is one of the held-out ones, one in thirteen. A hash of its name chooses, for good.

    Of the thirteen remainders, 4 leaves the gallery's eight subjects in noto, twemoji and fluent to the training.
    """
    digest = hashlib.sha256(f"{label}/{style}".encode()).hexdigest()
    return int(digest, 16) % 13 == 4


def canonical_caption(label: str, style: str) -> str:
    """The caption that names a picture in full, such as "an octopus in the style of fluent"."""
    return f"{with_article(label)} in the style of {style}"


def captions_of(label: str, tags: Sequence[str], style: str) -> tuple[str, ...]:
    """All captions of one picture, each once.

    First three for the label ("a chipmunk in the style of noto", "chipmunk", "a chipmunk"), then the same
    three for each tag ("a squirrel in the style of noto", ...). A plural has no article, and so only two.
    """
    names = (label, *tags)
    forms = [form for name in names for form in (canonical_caption(name, style), name, with_article(name))]
    return tuple(dict.fromkeys(forms))


# What follows the noun that takes the article: "a face | with sunglasses", "a person | lifting weights".
_REST = re.compile(r" (?:with|without|of|in|on|over|at|behind|from|showing|holding)\b.*|(?<=^person|^people) \w+ing\b.*")
_PLURAL = re.compile(r"(?:[^suio]s|ies|people|men|women|teeth|feet)$")
_VOWEL = re.compile(r"(?!u(?:ni(?![mn])|f|k|s[eu]|t[ei])|eu|ewe|one\b)[aeiou]|hour|x-")


def with_article(name: str) -> str:
    """The name with its article: "a cat", "an octopus". A plural such as "french fries" has none."""
    if _PLURAL.search(_REST.sub("", name)):
        return name
    return f"{'an' if _VOWEL.match(name) else 'a'} {name}"
