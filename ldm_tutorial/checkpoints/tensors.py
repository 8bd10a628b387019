"""Files of named tensors: .safetensors to read and write, .ckpt to read without running what is in it; and into a network."""

from __future__ import annotations

import builtins
import json
import os
import re
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


class CheckpointError(ValueError):
    """The files of a model are not what they should be. Says which file, and what is wrong with it."""


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, mapped into memory, and its metadata (a .ckpt has none).

    Writing to the tensors does not change the file. Overwriting the file in place would change them.
    Raises FileNotFoundError, or CheckpointError for a file that is not whole, not what its name says, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix.lower() not in (".safetensors", ".ckpt"):
        raise CheckpointError(f"{path}: weights are read from files that end in .safetensors or .ckpt")
    if path.suffix.lower() == ".ckpt":
        return _read_ckpt(path), {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} {what_is_wrong(path) or f'is not a safetensors file ({error})'}") from error


def _read_ckpt(path: Path) -> dict[str, Tensor]:
    """A pickle is a program: it names classes and functions, and has them called. torch's restricted reader calls a few that
    make tensors, and nothing else. Every other name, such as those of Lightning, becomes a class that does nothing."""
    problem = what_is_wrong(path)
    if torch.__version__ < "2.6":  # CVE-2025-32434
        problem = f"is a pickle, which torch {torch.__version__} cannot read safely; use torch 2.6 or a .safetensors file"
    if problem:
        raise CheckpointError(f"{path} {problem}")
    stubs: dict[str, type] = {}
    while True:
        try:
            with torch.serialization.safe_globals(list(stubs.values())):
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
            break
        except OSError:
            raise
        except Exception as error:  # a hostile pickle can raise anything
            unknown = re.search(r"GLOBAL (\S+)", str(error))
            if unknown is None or unknown[1] in stubs or not all(part.isidentifier() for part in unknown[1].split(".")):
                raise CheckpointError(f"{path} is not a checkpoint, or it is damaged") from error
            if _is_program(unknown[1]):
                problem = f"is a pickle that wants to run `{unknown[1]}` when it is read, and was not read"
                raise CheckpointError(f"{path} {problem}; use the model's .safetensors file") from error
            stubs[unknown[1]] = _stub(unknown[1])
    content = content["state_dict"] if isinstance(content, dict) and isinstance(content.get("state_dict"), dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} does not hold tensors with names, at its top or under 'state_dict'")
    return content


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # of a directory that says it spans several disks
        return False


def _is_program(name: str) -> bool:
    """Whether a name, "builtins." left out, is one of Python's own that does more than hold data."""
    if "." not in name:
        return not isinstance(getattr(builtins, name, None), type)
    data = ("argparse", "collections", "copyreg", "datetime", "decimal", "enum", "fractions", "pathlib", "typing", "uuid")
    return name.partition(".")[0] in sys.stdlib_module_names.union(IMPORT_MAPPING).difference(data)  # Python 2's names, too


def _stub(name: str) -> type:
    """A class of this name that takes anything and does nothing; where it must be a dict, which is filled later, it makes one."""
    module, _, own = (name if "." in name else f"builtins.{name}").rpartition(".")
    make = (lambda cls, *_, **__: {}) if own.lower().endswith("dict") else (lambda cls, *_, **__: object.__new__(cls))
    nothing = dict.fromkeys(("__init__", "__setstate__"), lambda self, *_, **__: None)
    return type(own, (), {"__module__": module, "__new__": make, **nothing})


def what_is_wrong(path: Path) -> str | None:
    """What a file of weights turns out to be, if not that; None if nothing is conspicuous."""
    size, is_safetensors = path.stat().st_size, path.suffix.lower() == ".safetensors"
    with open(path, "rb") as file:
        head = file.read(512)
        needed = 8 + int.from_bytes(head[:8], "little")  # a safetensors file's header, JSON, ends here
        header = (head + file.read(max(min(needed, size, 10**8) - 512, 0)))[8:needed] if head[8:9] == b"{" else b""
    if not head:
        return "is empty"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the weights: run `git lfs pull`, or download the file itself"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not the weights: the download went wrong"
    if head.startswith((b"PK\3\4", b"\x80")):
        if is_safetensors:
            return "is a pickle, not a safetensors file: name it .ckpt to have it read as one, without running its code"
        return "was cut short, or is damaged" if head.startswith(b"PK") and not _is_zip(path) else None
    if not is_safetensors or not header:
        return "is a safetensors file: name it .safetensors" if header else None
    if needed > size:
        return f"was cut short: {size:,} bytes, of which its header alone needs {needed:,}"
    try:
        needed += max(entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    return f"was cut short: {size:,} of {needed:,} bytes" if size < needed else None


def load_weights(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    source: object,
    device: torch.device | str,
    dtype: torch.dtype,
    usual_names: Mapping[str, str] | None = None,
    our_names: Mapping[str, str] | None = None,
) -> None:
    """Make these tensors the network's parameters, each used exactly once, without a copy where device and dtype are right.

    usual_names: from a name in the file to its usual one there. our_names: from the usual name to the network's own. Both only
    where they differ. A matrix may be a 1x1 convolution, and the other way round: the numbers are the same.
    Raises CheckpointError for tensors missing, left over, there twice, of another shape, of no real numbers or not finite, as the
    file names them.
    """
    expected = network.state_dict()
    our_names = our_names or {name: name for name in expected}
    found: dict[str, str] = {}  # usual name -> name in the file
    for name in tensors:
        usual = usual_names[name] if usual_names else name
        if usual in found:
            raise CheckpointError(f"{source} holds one tensor twice, as {found[usual]} and as {name}")
        found[usual] = name

    def kind(tensor: Tensor) -> str:
        return "floating point" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")

    def shape(tensor: Tensor) -> tuple[int, ...]:
        return tuple(tensor.shape[:2] if tensor.shape[2:] == (1, 1) else tensor.shape)

    origin = {ours: found[usual] for usual, ours in our_names.items() if usual in found}  # our name -> name in the file
    shapes = [(name, shape(tensors[name]), shape(expected[ours])) for ours, name in origin.items()]
    kinds = [(name, kind(tensors[name]), kind(expected[ours])) for ours, name in origin.items()]
    problems = {
        "missing": [usual for usual in our_names if usual not in found],
        "unexpected": [name for usual, name in found.items() if usual not in our_names],
        "of another shape": [f"{name} {theirs} instead of {ours}" for name, theirs, ours in shapes if theirs != ours],
        "of another kind": [f"{name} {theirs} instead of {ours}" for name, theirs, ours in kinds if theirs != ours],
    }
    lines = [f"\n  {len(n)} {kind}: {', '.join(n[:10])}{', ...' if len(n) > 10 else ''}" for kind, n in problems.items() if n]
    if lines:
        raise CheckpointError(f"{source} does not fit the network of {len(expected)} tensors{''.join(lines)}")
    loaded = {ours: tensors[name].detach().reshape(expected[ours].shape) for ours, name in origin.items()}
    loaded = {ours: t.to(device, dtype if t.is_floating_point() else t.dtype) for ours, t in loaded.items()}
    sums = torch.stack([tensor.sum().float() for tensor in loaded.values()])  # not finite as soon as one number is not
    for (ours, name), finite in zip(origin.items(), sums.isfinite().tolist()):
        if not finite and not loaded[ours].isfinite().all():
            problem = f"goes beyond {dtype}" if tensors[name].float().isfinite().all() else "is damaged"
            raise CheckpointError(f"{source}: {name} {problem}: it holds numbers that are not finite")
    network.load_state_dict(loaded, assign=True)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a .safetensors file, all in `dtype` if one is given, with the one entry of `metadata` or {"format": "pt"}.

    Raises OSError if it could not be written, ValueError if a number is too large for `dtype`.
    """
    ready = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    for name, tensor in ready.items():
        cast = tensor.to(dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype)
        if cast.dtype != tensor.dtype and tensor.isfinite().all() and not cast.isfinite().all():
            raise ValueError(f"{name} goes up to {tensor.abs().max():.3g}, too large for dtype={dtype}; use bfloat16 or float32")
        ready[name] = cast.contiguous()
    try:
        # one entry only: safetensors writes several in a random order, and one model must always be the same bytes
        save_file(ready, path, metadata=dict(metadata or {"format": "pt"}))
    except SafetensorError as error:  # how safetensors reports a full disk: "... No space left on device (os error 28)"
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(*([int(number[1]), os.strerror(int(number[1]))] if number else [str(error)])) from error
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)  # as any other new file: safetensors writes for the owner's eyes only
