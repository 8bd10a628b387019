"""Small changes to a picture that do not change what it shows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def jitter(pictures: Tensor, generator: torch.Generator, shift: float = 0.06, scale: float = 0.08, flip: bool = True) -> Tensor:
    """Each picture moved, resized and mirrored by its own random amounts; white comes in from outside.

    (b, 3, h, w) in [-1, 1] -> the same. `shift` and `scale` are the largest changes, as parts of the picture's side.
    """
    return shift_and_scale(pictures, random_moves(len(pictures), generator, shift, scale, flip))


def random_moves(count: int, generator: torch.Generator, shift: float = 0.06, scale: float = 0.08, flip: bool = True) -> Tensor:
    """The random amounts of `jitter`, as one affine map for each picture: (count, 2, 3), on the CPU."""
    size = 1 + scale * (2 * torch.rand(count, generator=generator) - 1)
    mirrored = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(count)
    moved = 2 * shift * (2 * torch.rand(count, 2, generator=generator) - 1)  # the grid's unit is half a side
    moves = torch.zeros(count, 2, 3)
    moves[:, 0, 0], moves[:, 1, 1], moves[:, :, 2] = size * mirrored, size, moved
    return moves


def shift_and_scale(pictures: Tensor, moves: Tensor) -> Tensor:
    """Each picture under its affine map: (b, 3, h, w) in [-1, 1], (b, 2, 3) -> (b, 3, h, w)"""
    grid = F.affine_grid(moves.to(pictures), list(pictures.shape), align_corners=False)  # (b, h, w, 2)
    return F.grid_sample(pictures - 1, grid, mode="bilinear", align_corners=False) + 1  # zeros outside become white


class Places(NamedTuple):
    """Where each of b pictures goes, and on what: the random amounts of `place`, on the CPU."""

    moves: Tensor  # (b, 2, 3): one affine map for each
    color: Tensor  # (b, 3, 1, 1) in 0 ... 1

    def rows(self, chosen: slice) -> Places:
        """Those of some of the pictures."""
        return Places(self.moves[chosen], self.color[chosen])


LARGEST, SHIFT = 1.1, 0.12  # the largest size and the largest shift of `random_places`, in sides of the picture


def random_places(
    count: int, generator: torch.Generator, smallest: float = 0.45, white: float = 0.6, crop: float = 1.0
) -> Places:
    """Where each of `count` pictures goes: its size, from `smallest` to 1.1 sides; its place; whether it is mirrored.

    The background is white with probability `white`, else of a random color. With `crop` below 1, a random square of the result
    is seen, whose side is that part of the whole one.
    """
    size = 1 / (smallest + (LARGEST - smallest) * torch.rand(count, generator=generator) ** 0.5)  # mostly large
    room = (1 - 1 / size).clamp(min=0)  # a small picture may move further
    moved = size[:, None] * (room[:, None] + SHIFT) * (2 * torch.rand(count, 2, generator=generator) - 1)
    mirrored = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    if crop < 1:
        moved = moved + size[:, None] * (1 - crop) * (2 * torch.rand(count, 2, generator=generator) - 1)
    moves = torch.zeros(count, 2, 3)
    moves[:, 0, 0], moves[:, 1, 1], moves[:, :, 2] = crop * size * mirrored, crop * size, moved
    color = torch.rand(count, 3, 1, 1, generator=generator)
    color[torch.rand(count, generator=generator) < white] = 1.0
    return Places(moves, color)


def place(layers: Tensor, places: Places, crop: float = 1.0) -> Tensor:
    """Each picture at its place and on its background.

    uint8 (b, 4, h, w): red, green, blue, opacity -> float32 (b, 3, crop * h, crop * w) in [-1, 1]
    """
    b, _, h, w = layers.shape
    layers = layers.float() / 255
    layers = torch.cat([layers[:, :3] * layers[:, 3:], layers[:, 3:]], dim=1)  # colors weighed by their opacity
    grid = F.affine_grid(places.moves.to(layers), [b, 4, round(crop * h), round(crop * w)], align_corners=False)
    layers = F.grid_sample(layers, grid, mode="bilinear", align_corners=False)
    return (layers[:, :3] + (1 - layers[:, 3:]) * places.color.to(layers)) * 2 - 1
