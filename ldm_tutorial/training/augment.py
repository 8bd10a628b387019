"""Small changes to a picture that do not change what it shows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def jitter(pictures: Tensor, generator: torch.Generator, shift: float = 0.06, scale: float = 0.08, flip: bool = True) -> Tensor:
    """Each picture moved, resized and mirrored by its own random amounts; white comes in from outside.

    (b, 3, h, w) in [-1, 1] -> the same. `shift` and `scale` are the largest changes, as parts of the picture's side.
    """
    b = len(pictures)
    size = 1 + scale * (2 * torch.rand(b, generator=generator) - 1)
    mirrored = torch.where(torch.rand(b, generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(b)
    moved = 2 * shift * (2 * torch.rand(b, 2, generator=generator) - 1)  # the grid's unit is half a side
    matrix = torch.zeros(b, 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = size * mirrored, size, moved
    matrix = matrix.to(pictures)
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)  # (b, h, w, 2)
    return F.grid_sample(pictures - 1, grid, mode="bilinear", align_corners=False) + 1  # zeros outside become white
