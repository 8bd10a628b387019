"""Read and write a whole model: a diffusers folder, or one file in CompVis' layout. Only `hub.py` goes to the network.

The networks are built without memory for their parameters, which then become the tensors of the mapped file itself: there
is no second copy. Every tensor of a file must be used exactly once. Nothing is unpickled but plain tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..checks import pick_device
from ..clip import CLIPTextModel
from ..config import StableDiffusionConfig
from ..schedulers import DDIMScheduler, Scheduler
from ..unet import UNet
from ..vae import AutoencoderKL
from . import single_file as ldm_file
from .folder import PARTS, read_folder, read_network, write_folder, write_network
from .folders import atomic_folder
from .hub import HubError, load_tokenizer, resolve
from .tensors import CheckpointError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

__all__ = [
    "CheckpointError",
    "Components",
    "HubError",
    "load_checkpoint",
    "load_component",
    "load_tokenizer",
    "resolve",
    "save_checkpoint",
    "save_component",
]


@dataclass
class Components:
    """The parts of one model."""

    unet: UNet
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer | None = None
    scheduler: Scheduler | None = None

    @property
    def config(self) -> StableDiffusionConfig:
        return StableDiffusionConfig(self.vae.config, self.unet.config, self.text_encoder.config)


def load_checkpoint(path: str | Path, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Components:
    """The model in a diffusers folder, or in one .safetensors or .ckpt file of CompVis' layout.

    device: where the networks go; None leaves them on the CPU, mapped from the file. dtype: of their parameters; None is
    float32, whatever the file holds. A file of that dtype is not copied: keep it in place, and whole, as long as the model lives
    (`save_checkpoint` may replace it all the same). The networks are in eval mode; their parameters can be trained.

    A single file has no scheduler, and no tokenizer, unless `save_checkpoint` wrote it: they are None.

    Raises:
        FileNotFoundError: the path, or a file that belongs there, does not exist.
        CheckpointError (a ValueError): a file is damaged, of another kind of model, or does not fit the network.
    """
    path = Path(path)
    device, dtype = _where(device, dtype)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    read = read_folder if path.is_dir() else ldm_file.read_file
    return Components(**read(path, device, dtype))


def _where(device: torch.device | str | None, dtype: torch.dtype | None) -> tuple[torch.device, torch.dtype]:
    dtype = torch.float32 if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype={dtype!r} must be a floating point torch.dtype, such as torch.float16")
    return pick_device("cpu" if device is None else device), dtype


def load_component(
    folder: str | Path, part: str | None = None, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> UNet | AutoencoderKL | CLIPTextModel:
    """One network from its own folder, such as "weights/emoji/vae". `part`: "unet", "vae" or "text_encoder", if the folder's
    name does not say it. Else as `load_checkpoint`."""
    folder = Path(folder)
    part = folder.name if part is None else part
    if part not in PARTS:
        raise ValueError(f"part={part!r} must be one of {', '.join(map(repr, PARTS))}")
    device, dtype = _where(device, dtype)
    return read_network(folder, part, device, dtype)


def save_checkpoint(model: Components | Mapping[str, Any] | Any, path: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Write a diffusers folder, or, if `path` ends in .safetensors, one file in CompVis' layout. Returns the path.

    model: `Components`, a `StableDiffusion` pipeline, or a dict of some parts ("unet", "vae", "text_encoder",
    "tokenizer", "scheduler"), to add them to a folder. A whole model without a scheduler gets v1.5's.
    dtype: of the weights in the file; None keeps that of the networks.

    What was at `path` is replaced when all is written, and not before. Other files in a folder stay.

    Raises:
        OSError: it could not be written (a full disk); nothing was changed.
        ValueError: `model` or `path` is of the wrong kind, or a weight is too large for `dtype`.
    """
    path = Path(path)
    names = (*PARTS, "tokenizer", "scheduler")
    parts = dict(model) if isinstance(model, Mapping) else {name: getattr(model, name, None) for name in names}
    parts = {name: part for name, part in parts.items() if part is not None}
    whole = all(name in parts for name in PARTS)
    if not parts or not parts.keys() <= set(names):
        raise ValueError(f"model must have some of the parts {', '.join(names)}; it has {', '.join(parts) or 'none'}")
    for name in parts.keys() & PARTS.keys():
        if not isinstance(parts[name], PARTS[name].network):
            raise ValueError(f"{name} must be a {PARTS[name].network.__name__}; it is a {type(parts[name]).__name__}")
    if whole:
        parts.setdefault("scheduler", DDIMScheduler())
    if path.suffix.lower() in (".ckpt", ".pt", ".pth", ".bin"):
        raise ValueError(f"path={str(path)!r}: pickles are not written; let it end in .safetensors, or be a folder")
    if path.suffix.lower() == ".safetensors":
        if not whole:
            raise ValueError(f"a single file needs {', '.join(PARTS)}; model has {', '.join(parts)}")
        if path.is_dir():
            raise ValueError(f"path={str(path)!r} is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        ldm_file.write_file(path, parts, dtype)
    else:
        if path.is_file():
            raise ValueError(f"path={str(path)!r} is a file; a model's folder cannot take its place")
        with atomic_folder(path) as folder:
            write_folder(folder, parts, dtype, already_there=path)
    return path


def save_component(network: nn.Module, folder: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Write a network to its own folder: its weights, and config.json if it is one of the three. Else as `save_checkpoint`."""
    with atomic_folder(folder) as new:
        write_network(new, network, dtype)
    return Path(folder)
