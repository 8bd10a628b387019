"""Flow matching in place of diffusion: the U-Net learns the velocity along straight lines from pictures to noise.

    L = E[ || ε - x0 - v_θ(x_t, t, τ_θ(y)) ||² ],   x_t = (1 - t) x0 + t ε

Lipman et al. 2022 (arXiv:2210.02747), equation 23 with σ_min = 0 and t counted from the picture; Liu et al. 2022
(arXiv:2209.03003), equation 1. Everything else is as it is for diffusion: of one step, the examples, their latents, the noise,
the captions and which of them are dropped are the same numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..schedulers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler, Scheduler
from .compute import Compute
from .recipes import Recipe, RecipeObjective, flag

DENSITIES = ("uniform", "logit-normal")
OF_DIFFUSION = ("timestep_power", "min_snr_gamma", "snr_offset")  # the options of a recipe that say how its noise levels count


def sample_times(batch_size: int, generator: torch.Generator, density: str = "uniform") -> Tensor:
    """Times from 0 to 1, one out of each of `batch_size` equally likely slices, as `objective.sample_timesteps` has them: (b,)

    "logit-normal": log(t / (1 - t)) is normal, so that more of them are in the middle, where the velocity is hardest to tell.
    Esser et al. 2024 (SD3, arXiv:2403.03206), equation 19 with m = 0 and s = 1, the best of those that they compare.
    """
    slices = torch.arange(batch_size) + torch.rand(batch_size, generator=generator)
    uniform = (slices / batch_size).clamp(max=1.0)
    return uniform if density == "uniform" else torch.special.ndtri(uniform).sigmoid()


class FlowObjective(RecipeObjective):
    """Flow matching with the captions of a recipe. Each error counts the same: the density of t says what matters."""

    def __init__(self, density: str, *args: Any):
        super().__init__(*args)
        self.density = density

    def choose_timesteps(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """T t, with fractions: what the U-Net is told, and the sampler's timesteps. (b,)"""
        return self.num_train_timesteps * sample_times(batch_size, generator, self.density)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The velocity, ε - x0: (n, 4, h, w)"""
        return self.schedule.get_velocity(latents, noise, timesteps)

    def weights(self, timesteps: Tensor) -> Tensor:
        """1: (n,)"""
        return torch.ones(timesteps.shape)


# ---- the command line


def add_objective_arguments(parser: argparse.ArgumentParser) -> None:
    """`--objective` and `--timestep-density`."""
    parser.add_argument(
        "--objective",
        choices=("diffusion", "flow"),
        default="diffusion",
        help="diffusion: learn the noise; flow: learn the velocity along straight lines",
    )
    parser.add_argument(
        "--timestep-density",
        choices=DENSITIES,
        help="how often each timestep is drawn, with --objective flow (default: logit-normal)",
    )


def check_objective(args: argparse.Namespace) -> None:
    """Raises ValueError for an option that means nothing with the objective that is asked for."""
    if args.objective == "diffusion" and args.timestep_density is not None:
        raise ValueError(f"--timestep-density {args.timestep_density}: only with --objective flow")
    if args.objective == "flow":
        for name in OF_DIFFUSION:
            if getattr(args, name) is not None:
                raise ValueError(f"{flag(name)}: only with --objective diffusion; --objective flow has --timestep-density")


def objective_of(
    args: argparse.Namespace,
    recipe: Recipe,
    compute: Compute,
    captions: Sequence[Sequence[str]],
    encode: Callable[[list[str]], Tensor],
) -> tuple[RecipeObjective, Scheduler]:
    """The objective that the arguments ask for, and a scheduler that draws with what it trains."""
    if args.objective == "diffusion":
        return RecipeObjective(recipe, compute, DDPMScheduler(), captions, encode), DDIMScheduler()
    sampler = FlowMatchEulerDiscreteScheduler()
    return FlowObjective(args.timestep_density or "logit-normal", recipe, compute, sampler, captions, encode), sampler
