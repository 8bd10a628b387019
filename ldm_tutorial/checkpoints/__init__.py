"""Read and write a whole model: a diffusers folder, or one file in CompVis' layout. Only `hub.py` goes to the network.

The networks are built without memory for their parameters, which then become the tensors of the mapped file itself: there
is no second copy. Every tensor of a file must be used exactly once. Nothing is unpickled but plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from ..checks import as_dtype, as_path, exists, pick_device
from ..clip import CLIPTextModel
from ..config import AutoencoderConfig, StableDiffusionConfig
from ..schedulers import DDIMScheduler, Scheduler
from ..unet import UNet
from ..vae import AutoencoderKL
from .atomic import atomic_path
from .compvis import read_file, write_file
from .folder import PARTS, read_network, read_whole_folder, write_folder, write_network
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
    "load_vae",
    "resolve",
    "save_checkpoint",
    "save_component",
]


Device: TypeAlias = "torch.device | str | None"  # None: the CPU
DType: TypeAlias = "torch.dtype | str | None"  # None: float32


class Components:
    """The parts of one model. `scheduler` may also be a function that makes it, to be called when it is first asked for."""

    def __init__(
        self,
        unet: UNet,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer | None = None,
        scheduler: Scheduler | Callable[[], Scheduler] | None = None,
    ):
        self.unet, self.vae, self.text_encoder, self.tokenizer = unet, vae, text_encoder, tokenizer
        self._scheduler = scheduler

    @cached_property
    def scheduler(self) -> Scheduler | None:
        """The model's own. Raises CheckpointError if the settings in its file cannot be used; its networks can, all the same."""
        return self._scheduler if isinstance(self._scheduler, Scheduler | None) else self._scheduler()

    @property
    def config(self) -> StableDiffusionConfig:
        """Of the three networks."""
        return StableDiffusionConfig(self.vae.config, self.unet.config, self.text_encoder.config)


def load_checkpoint(path: str | Path, device: Device = None, dtype: DType = None, vae: str | Path | None = None) -> Components:
    """The model in a diffusers folder, or in one .safetensors or .ckpt file of CompVis' layout.

    device: where the networks go; None leaves them on the CPU, mapped from the file. dtype: of their parameters; None is
    float32, whatever the file holds. A file of that dtype is not copied: keep it in place, and whole, as long as the model lives
    (`save_checkpoint` may replace it all the same). The networks are in eval mode; their parameters can be trained.
    vae: another autoencoder than the model's own, a path as for `load_vae`.

    A single file has no scheduler, and no tokenizer, unless `save_checkpoint` wrote it: they are None.
    Raises FileNotFoundError if the path, or a file that belongs there, does not exist, CheckpointError (a ValueError) for a file
    that is damaged, of another kind of model, or does not fit the network.
    """
    path, device, dtype = _checked(path, device, dtype)
    wanted = [part for part in PARTS if part != "vae" or vae is None]
    gradients = torch.is_grad_enabled()
    try:
        parts = (read_whole_folder if path.is_dir() else read_file)(path, device, dtype, wanted)
        return Components(**parts if vae is None else parts | {"vae": load_vae(vae, None, device, dtype)})
    finally:  # Ctrl-C at the end of a `no_grad` leaves them off, and PyTorch initializes weights in one
        torch.set_grad_enabled(gradients)


def load_vae(
    path: str | Path, config: AutoencoderConfig | None = None, device: Device = None, dtype: DType = None
) -> AutoencoderKL:
    """An autoencoder: from its folder or a model's, or from a file, alone or in a whole model, in CompVis' or diffusers' names.

    config: of the one in a file; None: what names and shapes tell, with v1's latent scale and groups of 32. Else as
    `load_checkpoint`.
    """
    path, device, dtype = _checked(path, device, dtype)
    if path.is_dir():
        return read_network(path / "vae" if (path / "vae").is_dir() else path, "vae", device, dtype)
    return read_file(path, device, dtype, ["vae"], None if config is None else {"vae": config})["vae"]


def load_component(folder: str | Path, part: str | None = None, device: Device = None, dtype: DType = None) -> Any:
    """One network from its own folder, such as "weights/emoji/vae": a UNet, an AutoencoderKL or a CLIPTextModel.

    part: "unet", "vae" or "text_encoder", if the folder's name does not say it. Else as `load_checkpoint`.
    """
    folder, device, dtype = _checked(folder, device, dtype)
    part = folder.name if part is None else part
    if part not in PARTS:
        raise ValueError(f"part={part!r} must be one of {', '.join(map(repr, PARTS))}")
    return read_network(folder, part, device, dtype)


def _checked(path: str | Path, device: Device, dtype: DType) -> tuple[Path, torch.device, torch.dtype]:
    device, dtype, path = pick_device(device or "cpu"), as_dtype(dtype or torch.float32), as_path(path)
    if not exists(path):
        raise FileNotFoundError(f"there is no file or folder {path}")
    return path, device, dtype


def save_checkpoint(model: Components | Mapping[str, Any] | Any, path: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Write a diffusers folder, or, if `path` ends in .safetensors, one file in CompVis' layout. Returns the path.

    model: `Components`, a `StableDiffusion` pipeline, or a dict of some parts ("unet", "vae", "text_encoder",
    "tokenizer", "scheduler"), to add them to a folder. A whole model without a scheduler gets v1.5's.
    dtype: of the weights in the file; None keeps that of the networks.

    What was at `path` is replaced when all is written, and not before. Other files in a folder stay.
    Raises OSError if it could not be written (a full disk): nothing was changed. Raises ValueError if `model` or `path` is of
    the wrong kind, or a weight too large for `dtype`.
    """
    path, names = as_path(path), (*PARTS, "tokenizer", "scheduler")
    parts = dict(model) if isinstance(model, Mapping) else {name: getattr(model, name, None) for name in names}
    parts = {name: part for name, part in parts.items() if part is not None}
    whole, is_file = parts.keys() >= PARTS.keys(), path.suffix.lower() == ".safetensors"
    if not parts or not parts.keys() <= set(names):
        raise ValueError(f"model must have some of the parts {', '.join(names)}; it has {', '.join(parts) or 'none'}")
    for name in parts.keys() & PARTS.keys():
        if not isinstance(parts[name], PARTS[name].network):
            raise ValueError(f"{name} must be a {PARTS[name].network.__name__}; it is a {type(parts[name]).__name__}")
    if path.suffix.lower() in (".ckpt", ".pt", ".pth", ".bin"):
        raise ValueError(f"path={str(path)!r}: pickles are not written; let it end in .safetensors, or be a folder")
    if is_file and not whole:
        raise ValueError(f"a single file needs {', '.join(PARTS)}; model has {', '.join(parts)}")
    if path.is_dir() if is_file else path.is_file():
        raise ValueError(f"path={str(path)!r} is a {'folder' if is_file else 'file'}, whose place the model cannot take")
    if whole:
        parts.setdefault("scheduler", DDIMScheduler())
    if is_file:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, parts, dtype)
    else:
        with atomic_path(path, folder=True) as folder:
            write_folder(folder, parts, dtype, already_there=path)
    return path


def save_component(network: nn.Module, folder: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Write a network to its own folder: its weights, and config.json if it is one of the three. Else as `save_checkpoint`."""
    with atomic_path(folder, folder=True) as new:
        write_network(new, network, dtype)
    return as_path(folder)
