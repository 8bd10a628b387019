"""What is lost on the way to the latents and back, and whether it shows: PSNR, the latents' scale, color shift, halo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ..images import to_unit_range
from .drawing import bar_of, to_levels
from .metrics import decibels
from .report import Measurement

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion


@torch.no_grad()
def encode_and_decode(
    pipe: StableDiffusion, pictures: Tensor, batch_size: int = 64, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """Scaled latents, (n, 4, h / f, w / f), and what is decoded from them: uint8 (n, 3, h, w) -> uint8 (n, 3, h, w)"""
    latents, decoded = [], []
    with bar_of("reconstructing", len(pictures), progress, unit="picture") as bar:
        for batch in pictures.split(batch_size):
            z = pipe.encode(to_unit_range(batch))
            latents.append(z.cpu())
            decoded.append(to_levels(pipe.decode(z)))
            bar.update(len(batch))
    return torch.cat(latents), torch.cat(decoded)


def white_near_and_far(pictures: Tensor, reach: int = 3) -> tuple[Tensor, Tensor]:
    """Where a picture is pure white, up to `reach` pixels from something else, and further away: (n, h, w) bool twice"""
    something = (pictures < 255).any(dim=1)  # (n, h, w)
    around = F.max_pool2d(something[:, None].float(), 2 * reach + 1, stride=1, padding=reach)[:, 0] > 0
    return ~something & around, ~around


def measure_autoencoder(pictures: Tensor, latents: Tensor, decoded: Tensor) -> list[Measurement]:
    """Of pictures that it never saw, uint8 (n, 3, h, w), their scaled latents and their reconstructions."""
    psnr = decibels(pictures, decoded)
    difference = decoded.float() - pictures.float()  # (n, 3, h, w), in levels
    near, far = white_near_and_far(pictures)
    off_white = -difference.amin(dim=1)  # (n, h, w): how far the worst channel is from white
    shift = difference.transpose(0, 1)[:, ~near & ~far].mean(dim=1)  # (3,): where there is something to see
    return [
        of_autoencoder("psnr", f"PSNR of {len(pictures)} pictures it never saw", psnr.mean(), "{:.1f} dB", at_least=31.0),
        of_autoencoder("worst", "PSNR of the worst of them", psnr.min(), "{:.1f} dB"),
        of_autoencoder("std", "standard deviation of the scaled latents", latents.std(), "{:.2f}", at_least=0.9, at_most=1.1),
        of_autoencoder("color_shift", "largest mean shift of a channel, in levels of 255", shift.abs().max(), at_most=1.0),
        of_autoencoder("halo", "levels off white, mean within 3 pixels of an outline", off_white[near].mean(), at_most=2.0),
        of_autoencoder("white", "levels off white, mean further away", off_white[far].mean(), at_most=1.0),
    ]


def of_autoencoder(key: str, what: str, value: Tensor, form: str = "{:.2f}", **wanted: float) -> Measurement:
    """A measurement of the autoencoder from a tensor of one number; `wanted` are its bounds."""
    return Measurement(f"autoencoder.{key}", f"autoencoder: {what}", value.item(), form, **wanted)
