"""Files of named tensors: .safetensors to read and write, .ckpt to read without running what is in it."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


class CheckpointError(ValueError):
    """The files of a model are not what they should be. Says which file, and what is wrong with it."""


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, and its metadata (a .ckpt has none).

    The tensors are mapped, not read: the system fetches from the disk what is used, when it is used, and drops it when
    memory is short. Writing to them does not change the file. Overwriting the file in place would change them.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is not whole, not what its name says, or a pickle that would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    readers = {".safetensors": _read_safetensors, ".ckpt": _read_ckpt}
    if path.suffix.lower() not in readers:
        raise CheckpointError(f"{path}: weights are read from files that end in .safetensors or .ckpt")
    return readers[path.suffix.lower()](path)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} {what_is_wrong(path) or f'is not a safetensors file ({error})'}") from error


def _read_ckpt(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    problem = what_is_wrong(path)
    if problem:
        raise CheckpointError(f"{path} {problem}")
    try:  # weights_only: a pickle may name functions to call while it is read, and torch then calls its own few only
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:  # a hostile pickle can raise anything
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        if forbidden:
            problem = f"is a pickle that wants to run `{forbidden[1]}` when it is read, and was not read"
            raise CheckpointError(f"{path} {problem}; use the model's .safetensors file") from error
        raise CheckpointError(f"{path} is not a checkpoint, or it is damaged") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} does not hold tensors with names, at its top or under 'state_dict'")
    return content, {}


def what_is_wrong(path: Path) -> str | None:
    """What a file of weights turns out to be, if not that; None if nothing is conspicuous."""
    size, is_safetensors = path.stat().st_size, path.suffix.lower() == ".safetensors"
    with open(path, "rb") as file:
        head = file.read(512)
        if not head:
            return "is empty"
        if head.startswith(b"version https://git-lfs"):
            return "is a pointer of Git LFS, not the weights: run `git lfs pull`, or download the file itself"
        if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
            return "is a web page, not the weights: the download went wrong"
        pickled = head.startswith((b"PK\3\4", b"\x80"))
        length = int.from_bytes(head[:8], "little")  # of the header of a safetensors file, JSON
        if is_safetensors and pickled:
            return "is a pickle, not a safetensors file: name it .ckpt to have it read as one, without running its code"
        if head[8:9] == b"{" and not pickled:
            if not is_safetensors:
                return "is a safetensors file: name it .safetensors"
            if 8 + length > size:
                return f"was cut short: {size:,} bytes, of which its header alone needs {8 + length:,}"
            file.seek(8)
            try:
                tensors = json.loads(file.read(length))
                end = 8 + length + max(t["data_offsets"][1] for name, t in tensors.items() if name != "__metadata__")
            except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
                return None
            return f"was cut short: {size:,} of {end:,} bytes" if size < end else None
    if head.startswith(b"PK\3\4") and not zipfile.is_zipfile(path):
        return "was cut short, or is damaged"
    return None


def check_match(source: object, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Both have the same names and shapes.

    Raises:
        CheckpointError: lists what is missing, what is there besides, and what has another shape.
    """
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": shapes,
    }
    if any(problems.values()):
        lines = [f"{len(names)} {kind}: {_first_ten(names)}" for kind, names in problems.items() if names]
        raise CheckpointError(f"{source} does not fit the network of {len(expected)} tensors\n  " + "\n  ".join(lines))


def _first_ten(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def fill(network: nn.Module, tensors: Mapping[str, Tensor], device: torch.device | str, dtype: torch.dtype) -> None:
    """Make these tensors the network's parameters, without a copy where device and dtype are right already."""
    moved = {k: t.detach().to(device, dtype if t.is_floating_point() else t.dtype) for k, t in tensors.items()}
    network.load_state_dict(moved, assign=True)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a .safetensors file, all in `dtype` if one is given, with the one entry of `metadata` or {"format": "pt"}.

    Raises:
        OSError: it could not be written.
        ValueError: a number is too large for `dtype`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    ready = {name: _ready_to_write(name, tensor, dtype) for name, tensor in tensors.items()}
    try:
        # one entry only: safetensors writes several in a random order, and one model must always be the same bytes
        save_file(ready, path, metadata=metadata or {"format": "pt"})
    except SafetensorError as error:  # how safetensors reports a full disk: "... No space left on device (os error 28)"
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(*([int(number[1]), os.strerror(int(number[1]))] if number else [str(error)])) from error
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)  # as any other new file: safetensors writes for the owner's eyes only


def _ready_to_write(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    if dtype is None or not tensor.is_floating_point():
        return tensor.contiguous()
    cast = tensor.to(dtype).contiguous()
    if tensor.isfinite().all() and not cast.isfinite().all():
        raise ValueError(f"{name} goes up to {tensor.abs().max():.3g}, too large for dtype={dtype}; use bfloat16 or float32")
    return cast


def renamed(source: object, tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors under new names, given in the same order. Raises CheckpointError if two get the same one."""
    result = dict(zip(names, tensors.values(), strict=True))
    if len(result) < len(tensors):
        raise CheckpointError(f"{source} holds some tensors twice, under an old and a new name")
    return result
