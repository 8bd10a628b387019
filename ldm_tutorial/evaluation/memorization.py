"""How much of what is drawn are the training pictures themselves? And what does another seed change?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .metrics import distance
from .report import Measurement, share

FACTOR = 2.0


def nearest(pictures: Tensor, references: Tensor, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """For each picture the smallest `distance` to a reference, and which one: uint8 (n, 3, h, w), (m, 3, h, w) -> (n,) twice"""

    def flat(levels: Tensor) -> Tensor:
        return levels.flatten(1).float() / 255 - 0.5  # around 0: its squares lose less

    closest = []
    for some in pictures.split(batch_size):  # and the references in parts: all of them in float32 take more than a gigabyte
        distances = torch.cat([torch.cdist(flat(some), flat(part)) for part in references.split(4 * batch_size)], dim=1)
        closest.append(distances.argmin(dim=1))  # of (b, m)
    chosen = torch.cat(closest)
    return distance(pictures, references[chosen]), chosen


def copy_ratio(pictures: Tensor, references: Tensor, reconstruct: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The distance to the nearest reference, over the distance between that one and its own reconstruction.

    At about 1 the model drew the reference as well as its decoder can. Returns the ratios and which references, (n,) twice.
    """
    found, chosen = nearest(pictures, references)
    used, where = chosen.unique(return_inverse=True)
    own = distance(references[used], reconstruct(references[used])).clamp(min=0.5)  # half a level: none is perfect
    return found / own[where], chosen


def memorization_figures(split: str, what: str, ratios: Tensor, own: Tensor) -> list[Measurement]:
    """`own`, (n,) bool: the nearest training picture shows the subject that was asked for."""
    near = f"at most {FACTOR:g} times as far from it as its own reconstruction"
    to = "distance to the nearest training picture, over that of its reconstruction (median)"
    return [
        share(f"memorized.{split}", f"{what}: copies of a training picture, {near}", ratios <= FACTOR),
        Measurement(f"ratio.{split}", f"{what}: {to}", ratios.median().item(), "{:.1f}"),
        share(f"nearest_own.{split}", f"{what}: the nearest training picture is of the subject asked for", own),
    ]


def seed_figures(pictures: Sequence[Tensor]) -> list[Measurement]:
    """How much two seeds of a prompt differ, against two prompts. `pictures`: of each prompt, uint8 (seeds, 3, h, w)."""
    within, between = [], []
    for k, here in enumerate(pictures):
        within += [distance(here, here.roll(shift, dims=0)) for shift in range(1, len(here))]
        between += [distance(here, there) for there in pictures[k + 1 :]]
    seeds, prompts = torch.cat(within).mean().item(), torch.cat(between).mean().item()
    return [
        Measurement("diversity.seeds", "distance between two seeds of a prompt, DDIM, in levels of 255", seeds, "{:.1f}"),
        Measurement("diversity.prompts", "distance between two prompts", prompts, "{:.1f}"),
    ]
