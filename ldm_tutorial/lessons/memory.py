"""How much memory a model needs at its peak, counted without having it.

On PyTorch's `meta` device tensors have shapes and no numbers. A computation on it makes and drops the same tensors as on a
GPU, so their bytes can be added up as they come and go. Not in the account: what the device keeps for itself (its context,
the workspace of its convolutions, gaps between tensors), hence `largest_batch`'s `reserve`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..attention import attention_weights
from ..checkpoints.folder import PARTS, build
from ..clip import CLIPTextModel
from ..config import StableDiffusionConfig
from ..unet import UNet
from ..vae import AutoencoderKL
from .machine import GIB


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make, from when they are made until they are dropped.

    `now` and `peak`, in bytes. A view has no bytes of its own; what was there before does not count.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.known.update(storages(args))  # parameters and inputs are no news
        made = func(*args, **(kwargs or {}))
        for storage in storages(made):
            if storage not in self.known:
                self.known.add(storage)
                self.count(storage.nbytes())
                weakref.finalize(storage, self.count, -storage.nbytes())
        return made

    def count(self, change: int) -> None:
        """So many bytes more, or fewer."""
        self.now += change
        self.peak = max(self.peak, self.now)


def storages(things: Any) -> list[torch.UntypedStorage]:
    """Of all tensors in nested tuples, lists and dicts."""
    return [thing.untyped_storage() for thing in tree_leaves(things) if isinstance(thing, Tensor)]


def peak_bytes(function: Callable, *args: Any) -> int:
    """The most bytes that `function(*args)` holds at one time, on whatever device, those of `args` and of weights aside."""
    with torch.no_grad(), LiveBytes() as live:
        function(*args)
    return live.peak


# ---- ways to compute attention, by what they keep: q (b, heads, n, d), k and v (b, heads, m, d) -> (b, heads, n, d)


def whole_maps(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
    """All maps at once, (b, heads, n, m): as it is written in the paper."""
    return attention_weights(q, k) @ v


def sliced(q: Tensor, k: Tensor, v: Tensor, slices: int = 16, **_: Any) -> Tensor:
    """Some rows of the maps at a time, (b, heads, n / slices, m): a softmax runs along a row, and no row needs another."""
    out = torch.empty_like(q)
    rows = -(-q.shape[2] // slices)
    for start in range(0, q.shape[2], rows):
        out[:, :, start : start + rows] = whole_maps(q[:, :, start : start + rows], k, v)
    return out


def fused(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
    """No map at all: what a fused kernel leaves in memory, its result. (Only the bytes; it computes nothing.)"""
    return torch.empty_like(q)


ATTENTION = {"whole": whole_maps, "sliced": sliced, "fused": fused}


class AttentionAs(TorchFunctionMode):
    """Within the block, and in this thread alone, `F.scaled_dot_product_attention` is this function."""

    def __init__(self, attention: Callable):
        super().__init__()
        self.attention = attention

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return (self.attention if func is F.scaled_dot_product_attention else func)(*args, **(kwargs or {}))


# ---- a pipeline


@cache
def network(config: StableDiffusionConfig, part: str, dtype: torch.dtype) -> UNet | AutoencoderKL | CLIPTextModel:
    """The network "unet", "vae" or "text_encoder" on the meta device: all shapes, no numbers."""
    return build(part, part, getattr(config, part)).to(dtype)


@cache
def peak_of(config: StableDiffusionConfig, part: str, dtype: torch.dtype, attention: str, rows: int, h: int, w: int) -> int:
    """The peak of one part: "text_encoder", "unet" or "decoder", for `rows` pictures of h x w latents or their prompts."""
    z, text = config.vae.latent_channels, config.text_encoder

    def zeros(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    run = network(config, "vae" if part == "decoder" else part, dtype)
    with AttentionAs(ATTENTION[attention]):
        if part == "text_encoder":
            return peak_bytes(lambda: run(zeros(rows, text.max_position_embeddings, dtype=torch.long)))
        if isinstance(run, AutoencoderKL):
            return peak_bytes(lambda: run.decode(zeros(rows, z, h, w)))
        words = rows, text.max_position_embeddings, text.hidden_size
        return peak_bytes(lambda: run(zeros(rows, z, h, w), zeros(1, dtype=torch.float32), zeros(*words)))


def account(
    config: StableDiffusionConfig,
    dtype: torch.dtype,
    attention: str = "fused",
    batch: int = 1,
    height: int | None = None,
    width: int | None = None,
    guidance: bool = True,
) -> dict[str, int]:
    """Bytes for drawing `batch` pictures at once: "weights", which stay, and the peaks of "text", "unet" and "decoder".

    The three peaks come one after the other, so that the whole is the weights and the largest of them (`needed`). Of
    several pictures the autoencoder decodes one at a time, as `StableDiffusion.decode` does from 512x512 on.
    height, width: in pixels; None: the model's own. attention: "whole", "sliced" or "fused".
    """
    if attention not in ATTENTION:
        raise ValueError(f"attention={attention!r} must be one of {', '.join(map(repr, ATTENTION))}")
    rows = batch * (1 + guidance)  # with guidance the U-Net sees each picture twice: without and with the prompt
    h, w = ((config.vae.sample_size if side is None else side) // config.vae.downsampling for side in (height, width))
    return {
        "weights": sum(p.numel() * p.element_size() for part in PARTS for p in network(config, part, dtype).parameters()),
        "text": peak_of(config, "text_encoder", dtype, attention, rows, 1, 1),
        "unet": peak_of(config, "unet", dtype, attention, rows, h, w),
        "decoder": peak_of(config, "decoder", dtype, attention, 1, h, w),
    }


def needed(parts: dict[str, int]) -> int:
    """Bytes at the peak of a whole run, from its `account`."""
    return parts["weights"] + max(parts[name] for name in ("text", "unet", "decoder"))


def largest_batch(
    config: StableDiffusionConfig,
    memory: int,
    dtype: torch.dtype,
    attention: str = "fused",
    reserve: int = GIB,
    **more: Any,
) -> int:
    """The most pictures at once that fit into `memory` bytes, of which `reserve` stay free; 0 if not even one does.

    dtype, attention and more: as for `account`, but for `batch`. From one picture to two, the U-Net's need grows by as much
    as to each further.
    """
    one, two = (account(config, dtype, attention, batch, **more) for batch in (1, 2))
    free = memory - reserve - one["weights"]
    if max(one[name] for name in ("text", "unet", "decoder")) > free:
        return 0
    return min(1 + (free - one[name]) // (two[name] - one[name]) for name in ("text", "unet"))
