"""How far two pictures are from each other: the root of the mean squared difference, and PSNR."""

from __future__ import annotations

from torch import Tensor


def distance(a: Tensor, b: Tensor) -> Tensor:
    """The root of the mean squared difference of all pixels and channels, in levels of 255: (n, 3, h, w) twice -> (n,)"""
    return ((a.float() - b.float()) ** 2).mean(dim=(1, 2, 3)).sqrt()


def decibels(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each pair: uint8 (n, 3, h, w) twice -> (n,). Equal pictures have 68, not infinity."""
    return 20 * (255 / distance(a, b).clamp(min=0.1)).log10()
