"""Writing files and folders so that a reader sees the old one or the new one, whole, whenever the writer is stopped."""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ..checks import as_path

TOKENIZER_FILES = {"tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json"}


@contextmanager
def atomic_path(path: str | Path, folder: bool = False) -> Iterator[Path]:
    """A new path beside `path` to write to; it becomes `path` when the block ends well, and is removed when it does not.

    folder: make it a folder. Files of the old one that are not written again come along, unless others replace them
    (`_is_replaced`); on Linux and macOS the two change places in one step.
    Raises OSError if it could not be written (a full disk): `path` is then as it was before.
    """
    target = Path(os.path.realpath(as_path(path)))  # through a link, so that the link stays one
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        if folder:
            new.mkdir(parents=True)
        yield new
        for file in [path for path in (new, *new.rglob("*")) if path.is_file()]:
            with open(file, "rb+") as opened:
                os.fsync(opened.fileno())  # on the disk before it gets its name: a power cut leaves the old one
        if folder:
            _put_folder(new, target)
        else:
            os.replace(new, target)
    except OSError as error:
        raise OSError(error.errno, f"could not write {path}: {error.strerror or error}; nothing was changed") from error
    finally:
        _remove(new)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Make `path` a file of these bytes, in one go. Raises OSError as `atomic_path` does."""
    with atomic_path(path) as new:
        new.write_bytes(data)


def _remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; no error if there is none.

    A folder in a thread of its own, which Ctrl-C does not reach: in the middle of `shutil.rmtree` it would leave half of the
    folder, and in Python before 3.12 it could become "OSError: Bad file descriptor" (rmtree closes a folder twice).
    """
    if path.is_dir():
        with ThreadPoolExecutor(1) as thread:
            thread.submit(shutil.rmtree, path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _put_folder(new: Path, target: Path) -> None:
    if not target.exists():
        try:
            os.replace(new, target)
            return
        except OSError:
            if not target.is_dir():  # else another process was first
                raise
    _take_along(target, new)
    _exchange(new, target)


def _take_along(old: Path, new: Path) -> None:
    """Put the old folder's other files into the new one, too: as second names of the same files, where the system can."""

    def left_out(where: str, names: list[str]) -> set[str]:
        place = new / Path(where).relative_to(old)
        written = {path.name for path in place.iterdir() if path.is_file()} if place.is_dir() else set()
        return written | {name for name in names if _is_replaced(name, written)}

    def link(source: str, destination: str) -> None:
        try:
            os.link(source, destination, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, destination, follow_symlinks=False)

    shutil.copytree(old, new, symlinks=True, ignore=left_out, copy_function=link, dirs_exist_ok=True)


def _is_replaced(name: str, written: set[str]) -> bool:
    """Whether a file goes when those of the names `written` come: pieces and variants of weights, other files of a tokenizer."""
    stems = "|".join(re.escape(Path(w).stem) for w in written if w.endswith(".safetensors"))
    weights = stems and re.fullmatch(rf"({stems})([.-].*)?\.safetensors(\.index.*\.json)?", name)
    return bool(weights) or (name in TOKENIZER_FILES and bool(TOKENIZER_FILES & written))


def _exchange(new: Path, old: Path) -> None:
    """Two folders change places: in one step where the system can, else in two, between which the old one is beside."""
    for system, function, here in (("linux", "renameat2", -100), ("darwin", "renameatx_np", -2)):  # AT_FDCWD
        if sys.platform == system:
            rename = getattr(ctypes.CDLL(None), function, None)
            if rename and rename(here, os.fsencode(new), here, os.fsencode(old), 2) == 0:  # RENAME_EXCHANGE, RENAME_SWAP
                return
    os.rename(old, aside := new.with_suffix(".old"))
    try:
        os.rename(new, old)
    except BaseException:
        os.rename(aside, old)
        raise
    os.rename(aside, new)
