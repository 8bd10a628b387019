"""Writing a folder so that a failure leaves the old one whole. `files.py` does the same for a single file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """A new folder to write to. When the block ends well its files become those of `folder`; if not, nothing changes there.

    Weights and tokenizers that were in `folder` go when new ones come, under whatever name. All other files stay.

    Raises:
        OSError: something could not be written, on a full disk for instance.
    """
    target = Path(os.path.realpath(folder))
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    new, old = work / "new", work / "old"
    try:
        new.mkdir()
        yield new
        for file in new.rglob("*"):
            if file.is_file():
                with open(file, "rb+") as opened:
                    os.fsync(opened.fileno())  # on the disk before it gets its name
        if target.exists():
            _merge(new, target, old)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(new, target)
    except OSError as error:
        outcome = f"some of its files could not be put back and are in {old}" if _holds_files(old) else "nothing was changed"
        raise OSError(error.errno, f"could not write {folder}: {error.strerror or error}; {outcome}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if not _holds_files(old):
            shutil.rmtree(work, ignore_errors=True)


def _holds_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def _merge(new: Path, target: Path, old: Path) -> None:
    """Move the files of `new` into `target`, and those they replace to `old`; or, if one cannot be moved, none."""
    moves = []
    for file in (path for path in new.rglob("*") if path.is_file()):
        place = target / file.relative_to(new)
        for replaced in {place, *_replaced_by(place)}:
            move = (replaced, old / replaced.relative_to(target))
            if replaced.exists() and move not in moves:
                moves.append(move)
        moves.append((file, place))
    done, made = [], []
    try:
        for source, destination in moves:
            if not destination.parent.is_dir():
                destination.parent.mkdir(parents=True)
                made.append(destination.parent)
            os.rename(source, destination)
            done.append((source, destination))
    except BaseException:
        for source, destination in reversed(done):
            os.rename(destination, source)
        for folder in reversed(made):
            folder.rmdir()
        raise


def _replaced_by(file: Path) -> Iterator[Path]:
    """What else in its folder means the same: pieces and variants of weights, other files of a tokenizer."""
    if file.suffix == ".safetensors":
        for pattern in (f"{file.stem}.*.safetensors", f"{file.stem}-*.safetensors", f"{file.name}.index*.json"):
            yield from file.parent.glob(pattern)
    if file.name in ("tokenizer.json", "vocab.json"):
        names = ("tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
        yield from (file.parent / name for name in names)
