"""Latents as the U-Net draws them, for the decoder to learn from.

A decoder is trained with latents of real pictures, but what it decodes later was drawn by the U-Net, whose errors are in it. So
the latents of real pictures are made noisy and taken back by the U-Net with their captions, and the decoder learns to make the
real picture of what comes out. This is done last, for other weights of the U-Net have other errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..images import to_images, to_unit_range
from ..inputs import Options
from ..pipeline import StableDiffusion, load_pipeline
from .augment import Places
from .compute import Compute
from .examples import digest_of, read_kept, write_kept

STEPS = 25  # of DDIM, for the whole way from noise; a strength of 0.5 takes half of them
STRENGTHS = 0.05, 0.5
GUIDANCE = 1.0, 7.5


def unmoved(count: int) -> Places:
    """Each picture where it is, on white."""
    return Places(torch.eye(2, 3).repeat(count, 1, 1), torch.ones(count, 3, 1, 1))


@torch.no_grad()
def redraw(
    pipe: StableDiffusion, pictures: Tensor, captions: Sequence[str], strength: float, guidance: float, seed: int
) -> Tensor:
    """Pictures made noisy and denoised again: uint8 (b, 3, h, w) -> the autoencoder's latents, not scaled, (b, 4, h / f, w / f)

    The noise of picture i has the seed `seed` + i.
    """
    seeds = list(range(seed, seed + len(pictures)))
    options = Options(scheduler="ddim", steps=STEPS, guidance_scale=guidance, seed=seeds)
    run = pipe.start(pipe.prepare(list(captions), options, to_images(to_unit_range(pictures)), strength=strength))
    latents = run.latents
    for step in pipe.denoise(run):
        latents = step.latents
    return latents / pipe.vae.config.scaling_factor


def redraw_all(
    pipe: StableDiffusion, pictures: Tensor, captions: Sequence[str], compute: Compute, seed: int, batch_size: int = 32
) -> Tensor:
    """All pictures, each batch with a strength and a guidance scale of its own: (n, 4, h / f, w / f), float32.

    The processes share the batches, and each has all latents at the end.
    """
    batches = torch.arange(len(pictures)).split(batch_size)
    amounts = torch.rand(len(batches), 2, generator=torch.Generator().manual_seed(seed)).tolist()

    def work(rows: Tensor) -> Tensor:
        first = int(rows[0])
        x, y = amounts[first // batch_size]
        strength, guidance = (low + part * (high - low) for part, (low, high) in zip((x, y), (STRENGTHS, GUIDANCE)))
        words = captions[first : first + batch_size]
        return redraw(pipe, pictures[rows], words, strength, guidance, first).float().to(compute.device)

    return compute.share_work(work, batches)


def redrawn_latents(folder: Path, pictures: Tensor, captions: Sequence[str], compute: Compute, seed: int, path: Path) -> Tensor:
    """`redraw_all` by the model in `folder`. The file `path` keeps the latents, and they are read from it next time.

    A file of other networks, pictures, captions or settings is replaced. Raises FileNotFoundError without a whole model.
    """
    pipe = load_pipeline(folder, device=compute.device, dtype=compute.dtype)
    described = description(pipe, pictures, captions, seed)
    latents = read_kept(path, described).get("latents")
    if latents is None:
        latents = redraw_all(pipe, pictures, captions, compute, seed)
        if compute.is_main:
            write_kept(path, {"latents": latents.cpu()}, described)
    return latents.to(compute.device)


def description(pipe: StableDiffusion, pictures: Tensor, captions: Sequence[str], seed: int) -> str:
    """What redrawn latents depend on."""
    networks = {"unet": pipe.unet, "vae": pipe.vae, "text_encoder": pipe.text_encoder}
    parts = {
        **{name: digest_of(network) for name, network in networks.items()},
        "scale": pipe.vae.config.scaling_factor,
        "pictures": hashlib.sha256(pictures.numpy().tobytes()).hexdigest(),
        "captions": hashlib.sha256("\n".join(captions).encode()).hexdigest(),
        "settings": (STEPS, STRENGTHS, GUIDANCE),
        "seed": seed,
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items())
