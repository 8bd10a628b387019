"""On the way from one prompt to another, or from one seed to another: are there pictures in between?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from ..inputs import Options
from ..schedulers import randn
from .drawing import to_levels
from .metrics import distance
from .report import Measurement

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """From a (t = 0) to b (t = 1) along the great circle: noise in between keeps the length of noise (Shoemake 1985)."""
    cosine = (a * b).sum() / (a.norm() * b.norm())
    angle = cosine.clamp(-1, 1).acos()
    if angle < 1e-4:
        return torch.lerp(a, b, t)
    return (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()


def noise_of(pipe: StableDiffusion, seed: int) -> Tensor:
    """What the pipeline starts from: (1, 4, h, w)"""
    size = pipe.unet.config.sample_size
    return randn((1, pipe.unet.config.in_channels, size, size), [torch.Generator().manual_seed(seed)], pipe.device)


@torch.no_grad()
def between_prompts(pipe: StableDiffusion, first: str, last: str, seed: int, count: int) -> list[Image.Image]:
    """`count` pictures of the same noise; the text embeddings go straight from those of the one to those of the other."""
    a, b, empty = (pipe.encode_prompt(prompt) for prompt in (first, last, ""))  # (1, 77, d) each
    context = torch.cat([torch.lerp(a, b, t) for t in torch.linspace(0, 1, count).tolist()])  # (count, 77, d)
    run = pipe.start(pipe.prepare([first] * count, Options(scheduler="ddim", seed=[seed] * count)))
    *_, last_step = pipe.denoise(replace(run, context=torch.cat([empty.expand_as(context), context])))
    return pipe.decode(last_step.latents)


def between_seeds(pipe: StableDiffusion, prompt: str, first: int, last: int, count: int) -> list[Image.Image]:
    """`count` pictures of one prompt; the noise goes from that of the one seed to that of the other."""
    ends = noise_of(pipe, first), noise_of(pipe, last)
    noise = torch.cat([slerp(*ends, t) for t in torch.linspace(0, 1, count).tolist()])  # (count, 4, h, w)
    return pipe([prompt] * count, latents=noise, scheduler="ddim", progress=False)


def largest_jump(path: Sequence[Image.Image]) -> float:
    """The largest distance between neighbors, as a part of the whole way: 1 / (count - 1) is even, 1 one single jump."""
    levels = to_levels(path)
    steps = distance(levels[1:], levels[:-1])  # (count - 1,)
    return (steps.max() / steps.sum().clamp(min=1e-6)).item()


def interpolation_figure(key: str, kind: str, paths: Sequence[Sequence[Image.Image]]) -> Measurement:
    """The mean of the largest jumps of several paths between two of a kind, such as "prompts"."""
    steps, jumps = len(paths[0]) - 1, sum(map(largest_jump, paths)) / len(paths)
    what = f"between two {kind}: the largest of {steps} steps, of the way (even: {1 / steps:.0%})"
    return Measurement(key, what, jumps, "{:.0%}")
