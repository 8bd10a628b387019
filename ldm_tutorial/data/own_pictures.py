"""Pictures of your own to train with: a folder of them, with what each shows in words.

The words stand in the first of these that is there:

    metadata.csv    a table with the columns file_name and text, or caption (the layout of Hugging Face's data sets)
    captions.txt    a line for each picture: `cat.png: a cat in the style of blueprint`
    cat.txt         beside cat.png, its first line (the layout of kohya's scripts)
    the names       a_cat_on_a_mat_2.png is "a cat on a mat"
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checks import as_path, whole_number
from ..images import fit, is_transparent, on_background, open_image, upright

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
LEAST = 5  # pictures: fewer are memorized, and nothing else is learned
MOST_PROBLEMS = 10  # problems in one message

# What cameras and screens name their files
NO_CAPTION = re.compile(r"(?:img|image|dsc[fn]?|pxl|mvimg|photo|picture|pic|scan|screen ?shot|untitled)?[\s\d-]*", re.IGNORECASE)
NUMBERED = re.compile(r"[\s-]*(?:\(\d+\)|\d+)\s*$")


@dataclass(frozen=True, eq=False)
class OwnPictures:
    """n pictures of one size: `pictures`, uint8 (n, 3, size, size), with the captions and names of each."""

    names: tuple[str, ...]
    captions: tuple[str, ...]
    pictures: Tensor

    def __len__(self) -> int:
        return len(self.names)


def read_own_pictures(folder: str | Path, size: int, least: int = LEAST) -> OwnPictures:
    """The pictures of a folder in the order of their names, upright, what is transparent on white, their middle size x size.

    Raises FileNotFoundError if there is no such folder, and ValueError, which names each file that cannot be used and why: no
    picture, a side shorter than `size`, no caption, the same as another. Nor are fewer than `least` enough.
    """
    folder = as_path(folder)
    size = whole_number("size", size, 1)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith("."))
    if len(paths) < least:
        kinds = ", ".join(ENDINGS)
        raise ValueError(f"{folder} holds {len(paths)} pictures ({kinds}); at least {least} are needed")
    captions = _captions(folder, [path.name for path in paths])

    problems, pictures, seen = [], [], dict[bytes, str]()
    for path in paths:
        try:
            pixels = _square(path, size)
        except ValueError as error:
            problems.append(str(error))
            continue
        digest = hashlib.sha256(pixels.numpy().tobytes()).digest()
        if digest in seen:
            problems.append(f"{path.name}: is the same picture as {seen[digest]}")
        seen.setdefault(digest, path.name)
        if not captions[path.name]:
            problems.append(f"{path.name}: has no caption")
        pictures.append(pixels)
    if problems:
        more = f"\n  and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise ValueError(f"{folder} cannot be used\n  " + "\n  ".join(problems[:MOST_PROBLEMS]) + more)
    names = tuple(path.name for path in paths)
    return OwnPictures(names, tuple(captions[name] for name in names), torch.stack(pictures))


def _square(path: Path, size: int) -> Tensor:
    """One picture: uint8 (3, size, size). Raises ValueError, which names the file."""
    try:
        image = upright(open_image(path, path.name), path.name)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), "it")) from None
    if min(image.size) < size:
        raise ValueError(f"{path.name}: is {image.width}x{image.height}, too small: at least {size} pixels along each side")
    if is_transparent(image):
        image = on_background(image, "white")
    square: Image.Image = fit(image.convert("RGB"), size, size)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()  # (h, w, 3) -> (3, h, w)


def _captions(folder: Path, names: list[str]) -> dict[str, str]:
    """The caption of each picture, "" where there is none. Raises ValueError for a table or list that cannot be read."""
    if (folder / "metadata.csv").is_file():
        found = _table(folder / "metadata.csv")
    elif (folder / "captions.txt").is_file():
        found = _list(folder / "captions.txt")
    elif any(folder.joinpath(name).with_suffix(".txt").is_file() for name in names):
        texts = {name: folder.joinpath(name).with_suffix(".txt") for name in names}
        found = {name: (_read(path).strip().splitlines() or [""])[0] for name, path in texts.items() if path.is_file()}
    else:
        return {name: caption_from_name(name) for name in names}
    unknown = [name for name in found if name not in names]
    if unknown:
        raise ValueError(f"{folder}: there is a caption, but no picture, of {', '.join(map(repr, unknown[:MOST_PROBLEMS]))}")
    return {name: " ".join(found.get(name, "").split()) for name in names}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}") from None


def _table(path: Path) -> dict[str, str]:
    rows = csv.DictReader(_read(path).splitlines())
    columns = rows.fieldnames or []
    column = next((name for name in ("text", "caption") if name in columns), None)
    if "file_name" not in columns or column is None:
        raise ValueError(f"{path} must have the columns file_name and text; it has {', '.join(columns) or 'none'}")
    return _each_once(path, [(row["file_name"] or "", row[column] or "") for row in rows])


def _list(path: Path) -> dict[str, str]:
    pairs = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        name, colon, caption = line.partition(":")
        if not colon and line.strip():
            raise ValueError(f"{path}, line {number}, must be a file's name, a colon and its caption; it is {line[:60]!r}")
        pairs += [(name.strip(), caption)] if colon else []
    return _each_once(path, pairs)


def _each_once(path: Path, pairs: list[tuple[str, str]]) -> dict[str, str]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path} has two captions of {twice!r}")
    return dict(pairs)


def caption_from_name(name: str) -> str:
    """ "a_cat_on_a_mat_2.png" -> "a cat on a mat", and "" for the name that a camera gave: "IMG_2041.jpg"."""
    words = " ".join(Path(name).stem.replace("_", " ").split())
    return "" if NO_CAPTION.fullmatch(words) else NUMBERED.sub("", words)
