"""What may go wrong with a drawn picture and leaves its subject as it is: shifted, bent, discolored, blurred, noisy, torn.

The classifier is trained to see through it. Nothing is mirrored, for some emoji differ in nothing but left and right.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..images import levels_of, to_unit_range

Distortion = Callable[[Tensor, torch.Generator], Tensor]


def distort(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture by its own random amounts: (b, 3, h, w) in [-1, 1] -> the same. Computed on the CPU."""
    pictures = move(pictures, generator)
    pictures = recolor(pictures, generator)
    pictures = blur(pictures, generator)
    pictures = add_noise(pictures, generator)
    return erase(pictures, generator).clamp(-1, 1)


def distort_slightly(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """What leaves the style as it is, too: each by much less. (b, 3, h, w) in [-1, 1] -> the same"""
    pictures = move(pictures, generator, shift=0.015, scale=0.02, degrees=2.0)
    pictures = recolor(pictures, generator, contrast=0.03, saturation=0.05, brightness=0.03, gain=0.02)
    pictures = blur(pictures, generator)
    return add_noise(pictures, generator, fine=0.05, coarse=0.05).clamp(-1, 1)


def distort_levels(pictures: Tensor, generator: torch.Generator, distorted: Distortion = distort) -> Tensor:
    """The same for many pictures of 8 bits: uint8 (n, 3, h, w) -> uint8"""
    parts = [distorted(to_unit_range(batch), generator) for batch in pictures.split(256)]
    return levels_of(torch.cat(parts))


def move(pictures: Tensor, generator: torch.Generator, shift: float = 0.1, scale: float = 0.15, degrees: float = 12.0) -> Tensor:
    """Shifted (parts of a side), resized (each direction by itself, parts of 1) and turned; white comes in from outside."""
    b = len(pictures)
    sizes = 1 + scale * spread(generator, b, 2)
    angle = math.radians(degrees) * spread(generator, b)
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack([cos, -sin, sin, cos], dim=1).view(b, 2, 2)
    offset = 2 * shift * spread(generator, b, 2, 1)  # the grid's unit is half a side
    matrix = torch.cat([rotation * sizes[:, :, None], offset], dim=2)  # (b, 2, 3)
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)  # (b, h, w, 2)
    return F.grid_sample(pictures - 1, grid, mode="bilinear", align_corners=False) + 1  # zeros outside become white


def recolor(
    pictures: Tensor,
    generator: torch.Generator,
    contrast: float = 0.25,
    saturation: float = 0.35,
    brightness: float = 0.15,
    gain: float = 0.08,
) -> Tensor:
    """Contrast, saturation, brightness and the strength of each channel, each changed by at most so much."""
    b = len(pictures)
    contrasts, saturations = 1 + contrast * spread(generator, b, 1, 1, 1), 1 + saturation * spread(generator, b, 1, 1, 1)
    brighter, gains = brightness * spread(generator, b, 1, 1, 1), 1 + gain * spread(generator, b, 3, 1, 1)
    gray = pictures.mean(dim=1, keepdim=True)  # (b, 1, h, w)
    pictures = gray + saturations * (pictures - gray)
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    return gains * (mean + contrasts * (pictures - mean)) + brighter


def blur(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures are mixed with what a binomial filter of 5x5 makes of them."""
    b = len(pictures)
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (row[:, None] * row).expand(3, 1, 5, 5)  # each channel by itself
    blurred = F.conv2d(F.pad(pictures, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
    amount = spread(generator, b, 1, 1, 1).clamp(min=0)
    return pictures + amount * (blurred - pictures)


def add_noise(pictures: Tensor, generator: torch.Generator, fine: float = 0.1, coarse: float = 0.2) -> Tensor:
    """Fine noise of each pixel, and patches of an eighth of a side, as an unfinished denoising leaves them."""
    b, _, h, w = pictures.shape
    each_pixel = torch.randn(pictures.shape, generator=generator)
    patches = F.interpolate(torch.randn(b, 3, 8, 8, generator=generator), size=(h, w), mode="bilinear", align_corners=False)
    amounts = torch.rand(2, b, 1, 1, 1, generator=generator)
    return pictures + fine * amounts[0] * each_pixel + coarse * amounts[1] * patches


def erase(pictures: Tensor, generator: torch.Generator, largest: float = 0.4) -> Tensor:
    """Half of the pictures lose a rectangle to one color (Zhong et al. 2020); its sides are up to `largest` of theirs."""
    b, _, h, w = pictures.shape
    sides = largest * torch.rand(2, b, 1, generator=generator)
    starts = torch.rand(2, b, 1, generator=generator) * (1 - sides)
    x, y = (torch.arange(w) + 0.5) / w, (torch.arange(h) + 0.5) / h
    across = (x >= starts[0]) & (x < starts[0] + sides[0])  # (b, w)
    down = (y >= starts[1]) & (y < starts[1] + sides[1])  # (b, h)
    chosen = torch.rand(b, 1, 1, 1, generator=generator) < 0.5
    color = spread(generator, b, 3, 1, 1)
    return torch.where(chosen & down[:, None, :, None] & across[:, None, None, :], color, pictures)


def spread(generator: torch.Generator, *shape: int) -> Tensor:
    """Uniform between -1 and 1."""
    return 2 * torch.rand(shape, generator=generator) - 1
