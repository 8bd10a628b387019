"""Writing files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A new path beside `path` to write to; it becomes `path` when the block ends well, and is removed when it does not.

    Raises:
        OSError: the file could not be written, a full disk for instance. `path` is as it was before.
    """
    target = Path(os.path.realpath(path))  # through a link, so that the link stays one
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())  # on the disk before it gets its name: a power cut leaves the old file
        os.replace(partial, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"could not write {path}: {reason}; nothing was changed") from error
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Make `path` a file of these bytes, in one go. Raises OSError as `atomic_path` does."""
    with atomic_path(path) as partial:
        partial.write_bytes(data)
