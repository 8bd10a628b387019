"""What the U-Net learns: to predict the noise in a noisy latent, given the text (Rombach et al. 2022, equation 3).

    L = E[ || ε - ε_θ(z_t, t, τ_θ(y)) ||² ],   z_t = √ᾱ_t z + √(1 - ᾱ_t) ε

`Objective` is this equation and nothing else. recipes.py changes parts of it.

Shapes: a batch of b pictures, n rows of it in one process, (b, 4, h, w) latents, (n, 77, d) text embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..schedulers import Scheduler
from .compute import Compute


def sample_timesteps(batch_size: int, num_train_timesteps: int, generator: torch.Generator, power: float = 1.0) -> Tensor:
    """Timesteps, one out of each of `batch_size` equally likely slices of the range: (b,)

    power 1: each is uniform by itself, as the objective asks; together they cover the range evenly, so the loss varies less
    (Kingma et al. 2021, appendix I.1). Below 1, more of them are at high noise: at 0.5, half of them lie above 0.7 of the
    range.
    """
    slices = torch.arange(batch_size) + torch.rand(batch_size, generator=generator)
    timesteps = ((slices / batch_size) ** power * num_train_timesteps).long()
    return timesteps.clamp(max=num_train_timesteps - 1)  # the last slice's end, if float32 rounds up to it


def diffusion_loss(unet: nn.Module, noisy: Tensor, noise: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, for each latent: (b,)"""
    return ((unet(noisy, timesteps, context).float() - noise) ** 2).mean(dim=(1, 2, 3))


class Draws(NamedTuple):
    """The random choices of one step, a row for each picture of the whole batch, on the CPU."""

    encoding: Tensor  # (b, 4, h, w), normal: which latent of the picture's Gaussian
    timesteps: Tensor  # (b,)
    captions: Tensor  # (b,): their numbers in the vocabulary
    dropped: Tensor  # (b,) bool: the empty caption in its place
    noise: Tensor  # (b, 4, h, w), normal


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs and target of the U-Net in one step and one process, n rows; on its device."""

    noisy: Tensor  # (n, 4, h, w)
    timesteps: Tensor  # (n,)
    context: Tensor  # (n, 77, d)
    target: Tensor  # (n, 4, h, w): what it should predict
    weights: Tensor  # (n,): how much the error of each row counts


class Objective:
    """Equation 3, with one caption in ten replaced by the empty one for guidance (Ho & Salimans 2022, algorithm 1).

    captions   those of each picture; the first is the full one
    encode     the text embeddings of a list of captions: (n, 77, d)
    """

    caption_dropout = 0.1

    def __init__(
        self,
        compute: Compute,
        schedule: Scheduler,
        captions: Sequence[Sequence[str]],
        encode: Callable[[list[str]], Tensor],
    ):
        self.compute, self.schedule, self.captions = compute, schedule, captions
        self.num_train_timesteps = schedule.num_train_timesteps
        vocabulary = ["", *sorted(self.vocabulary(captions))]
        self.number = {caption: i for i, caption in enumerate(vocabulary)}  # the empty caption is number 0
        self.states = encode(vocabulary)

    # ---- the parts that a recipe may change

    def vocabulary(self, captions: Iterable[Sequence[str]]) -> set[str]:
        """All captions that may be used."""
        return {caption for row in captions for caption in row}

    def choose_timesteps(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Uniform: (b,)"""
        return sample_timesteps(batch_size, self.num_train_timesteps, generator)

    def choose_captions(self, indices: Sequence[int], generator: torch.Generator) -> list[str]:
        """One caption for each of these pictures."""
        return [self.captions[i][0] for i in indices]

    def dropout_rate(self, timesteps: Tensor) -> Tensor:
        """How often the caption is dropped: (b,) -> (b,)"""
        return torch.full(timesteps.shape, self.caption_dropout)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the U-Net should predict: the noise, (n, 4, h, w)."""
        return noise

    def weights(self, timesteps: Tensor) -> Tensor:
        """How much an error counts: (n,) -> (n,)"""
        return torch.ones(timesteps.shape)

    # ---- one step

    def draw(self, indices: Tensor, shape: Sequence[int], generator: torch.Generator) -> Draws:
        """All random numbers of the step, for the pictures of these numbers, (b,), and latents of this shape, (4, h, w)."""
        encoding = torch.randn((len(indices), *shape), generator=generator)
        timesteps = self.choose_timesteps(len(indices), generator)
        captions = torch.tensor([self.number[caption] for caption in self.choose_captions(indices.tolist(), generator)])
        # each caption by itself, not the batch as one
        dropped = torch.rand(len(indices), generator=generator) < self.dropout_rate(timesteps)
        return Draws(encoding, timesteps, captions, dropped, torch.randn(encoding.shape, generator=generator))

    def ask(self, latents: Tensor, draws: Draws, mine: slice) -> Batch:
        """Inputs and target for the latents, (n, 4, h, w), which are the rows `mine` of the whole batch."""
        timesteps, noise = draws.timesteps[mine], self.compute.put(draws.noise[mine])
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        captions = draws.captions[mine].where(~draws.dropped[mine], 0)
        target, weights = self.target(latents, noise, timesteps), self.compute.put(self.weights(timesteps))
        return Batch(noisy, self.compute.put(timesteps), self.states[self.compute.put(captions)], target, weights)

    def loss(self, unet: nn.Module, batch: Batch, average: nn.Module) -> tuple[Tensor, Tensor]:
        """The weighted loss, () with gradients, and the mean squared error, (). `average`: that of the U-Net's weights."""
        losses = diffusion_loss(unet, batch.noisy, batch.target, batch.timesteps, batch.context)  # (n,)
        return (losses * batch.weights).mean(), losses.mean()
