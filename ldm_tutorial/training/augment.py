"""Small changes to a picture that do not change what it shows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def jitter(pictures: Tensor, generator: torch.Generator, shift: float = 0.06, scale: float = 0.08, flip: bool = True) -> Tensor:
    """Each picture moved, resized and mirrored by its own random amounts; white comes in from outside.

    (b, 3, h, w) in [-1, 1] -> the same. `shift` and `scale` are the largest changes, as parts of the picture's side.
    """
    return move(pictures, random_moves(len(pictures), generator, shift, scale, flip))


def random_moves(count: int, generator: torch.Generator, shift: float = 0.06, scale: float = 0.08, flip: bool = True) -> Tensor:
    """The random amounts of `jitter`, as one affine map for each picture: (count, 2, 3), on the CPU."""
    size = 1 + scale * (2 * torch.rand(count, generator=generator) - 1)
    mirrored = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(count)
    moved = 2 * shift * (2 * torch.rand(count, 2, generator=generator) - 1)  # the grid's unit is half a side
    moves = torch.zeros(count, 2, 3)
    moves[:, 0, 0], moves[:, 1, 1], moves[:, :, 2] = size * mirrored, size, moved
    return moves


def move(pictures: Tensor, moves: Tensor) -> Tensor:
    """Each picture under its affine map: (b, 3, h, w) in [-1, 1], (b, 2, 3) -> (b, 3, h, w)"""
    grid = F.affine_grid(moves.to(pictures), list(pictures.shape), align_corners=False)  # (b, h, w, 2)
    return F.grid_sample(pictures - 1, grid, mode="bilinear", align_corners=False) + 1  # zeros outside become white
