"""All pictures that the figures need, each drawn once: a figure says what it needs, and later finds it by that description."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checks import quiet
from ..inputs import Options
from .judge import Judge, Verdict, look

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion


@dataclass(frozen=True)
class Request:
    """One picture to draw. Equal ones are the same picture."""

    prompt: str
    seed: int
    scheduler: str = "ddim"
    steps: int = Options.steps
    guidance: float = Options.guidance_scale


@dataclass(frozen=True, eq=False)
class DrawnPictures:
    """n drawn pictures and what the classifier says about each."""

    pictures: Tensor  # uint8 (n, 3, h, w)
    verdict: Verdict  # n rows
    place: dict[Request, int]

    def rows(self, requests: Iterable[Request]) -> Tensor:
        """Where the pictures of these requests are. Raises KeyError for one that was not drawn."""
        return torch.tensor([self.place[request] for request in requests], dtype=torch.long)


def bar_of(what: str, total: int, show: bool, unit: str) -> Any:
    """A progress bar; LDM_QUIET=1 turns all bars off."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=what, unit=unit, unit_scale=True, disable=not show or quiet())


def to_levels(pictures: Sequence[Image.Image]) -> Tensor:
    """PIL images of one size -> uint8 (n, 3, h, w)"""
    pixels = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def draw_all(
    pipe: StableDiffusion, judge: Judge, requests: Iterable[Request], batch_size: int = 24, progress: bool = True
) -> DrawnPictures:
    """Draw what is asked for, in batches of equal settings, with a bar that counts the steps of all pictures."""
    groups: dict[tuple, list[Request]] = {}
    for request in dict.fromkeys(requests):
        groups.setdefault((request.scheduler, request.steps, request.guidance), []).append(request)
    work = sum(steps * len(group) for (_, steps, _), group in groups.items())
    pictures = []
    place: dict[Request, int] = {}
    with bar_of("drawing", work, progress, unit="step") as bar:
        for (scheduler, steps, guidance), group in groups.items():
            for start in range(0, len(group), batch_size):
                batch = group[start : start + batch_size]
                drawn = pipe(
                    [request.prompt for request in batch],
                    seed=[request.seed for request in batch],
                    scheduler=scheduler,
                    steps=steps,
                    guidance_scale=guidance,
                    progress=False,
                )
                place |= {request: len(place) + i for i, request in enumerate(batch)}
                pictures.append(to_levels(drawn))
                bar.update(steps * len(batch))
    levels = torch.cat(pictures)
    return DrawnPictures(levels, look(judge, levels), place)
