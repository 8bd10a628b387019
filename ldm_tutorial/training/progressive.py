"""Progressive distillation: a student learns to do in one step what its teacher does in two (Salimans & Ho 2022, algorithm 2).

    ε   = ε_u + w (ε_c - ε_u)                         the teacher's prediction, guided in the first round only
    z'  = α' x̂ + σ' ε,      x̂ = (z - σ ε) / α         its first step of DDIM, from z
    z'' = α'' x̂' + σ'' ε',  x̂' = (z' - σ' ε') / α'    its second, from z'
    x̃   = (z'' - (σ'' / σ) z) / (α'' - (σ'' / σ) α)   the x̂ with which one step gets from z to z''
    L   = max(α² / σ², 1) || x̃ - x̂_θ(z) ||²           section 4, "truncated SNR"

Then the student is the next teacher, and the number of steps is half of what it was. Guidance goes into the first student, as in
Meng et al. 2023 (arXiv:2210.03142), here for one scale w, so that the network needs no new input.

Here α = √ᾱ and σ = √(1 - ᾱ), and one, two dashes are one, two steps later. Shapes: n rows, latents (n, 4, h, w).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..pipeline import guide
from ..schedulers import DDIMScheduler, Scheduler, scheduler_alike
from .objective import Batch, sample_timesteps
from .recipes import RECIPES, RecipeObjective

# Full captions, labels and tags, as in the U-Net's last training, and one in ten without a prompt
CAPTION_SHARES = RECIPES["agree"].without_agreement()

Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]  # latents (n, 4, h, w), timesteps (n,), words (n, 77, d) -> ε (n, 4, h, w)


def trailing(schedule: Scheduler, steps: int) -> DDIMScheduler:
    """DDIM for a model that was trained with this schedule, in so many steps, the first at the last timestep, T - 1.

    Every second timestep of twice as many steps is one of these.
    """
    ddim = scheduler_alike(schedule, "ddim", timestep_spacing="trailing")
    ddim.set_timesteps(steps)
    assert isinstance(ddim, DDIMScheduler)
    return ddim


def predicted_x0(z: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """x̂ = (z - σ ε) / α; ᾱ is (n, 1, 1, 1) in all of these."""
    return (z - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()


def step_to(z: Tensor, eps: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor) -> Tensor:
    """z' = α' x̂ + σ' ε: DDIM without noise (Song et al. 2020, equation 12 with σ_t = 0), each row at its own level."""
    return alpha_bar_next.sqrt() * predicted_x0(z, eps, alpha_bar) + (1 - alpha_bar_next).sqrt() * eps


def one_step_target(z: Tensor, z_end: Tensor, alpha_bar: Tensor, alpha_bar_end: Tensor) -> Tensor:
    """x̃ = (z'' - (σ'' / σ) z) / (α'' - (σ'' / σ) α): predicted at z, it leads to z'' in one step of DDIM."""
    ratio = ((1 - alpha_bar_end) / (1 - alpha_bar)).sqrt()
    return (z_end - ratio * z) / (alpha_bar_end.sqrt() - ratio * alpha_bar.sqrt())


class Halving(RecipeObjective):
    """One round: the student takes `steps` steps, its teacher twice as many.

    guidance   w, for a teacher that is guided; 1 for one that has it in its predictions
    """

    def __init__(self, steps: int, guidance: float, *args: Any):
        super().__init__(CAPTION_SHARES, *args)
        self.begin(steps, guidance)

    def begin(self, steps: int, guidance: float) -> None:
        """Begin a round."""
        self.steps, self.guidance = steps, guidance
        self.levels, self.fine = trailing(self.schedule, steps), trailing(self.schedule, 2 * steps)

    def choose_timesteps(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Those at which a step of the student begins, each as often: (b,)"""
        return self.levels.timesteps[sample_timesteps(batch_size, self.steps, generator)]

    def alpha_bars(self, timesteps: Tensor, levels: DDIMScheduler, later: int, z: Tensor) -> Tensor:
        """ᾱ so many of these levels after each timestep, as rows of z: (n,) -> (n, 1, 1, 1)"""
        at = [levels.index_of(t) + later for t in timesteps.tolist()]
        return levels.alpha_bars[at].to(z).view(-1, 1, 1, 1)

    @torch.no_grad()
    def teacher_target(self, teacher: Predictor, z: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """x̃, after two steps of the teacher from z."""
        here, middle, end = (self.alpha_bars(timesteps, self.fine, later, z) for later in range(3))
        between = self.fine.timesteps[[self.fine.index_of(t) + 1 for t in timesteps.tolist()]].to(timesteps.device)  # (n,)
        z_middle = step_to(z, self.predict(teacher, z, timesteps, context), here, middle)
        z_end = step_to(z_middle, self.predict(teacher, z_middle, between, context), middle, end)
        return one_step_target(z, z_end, here, end)

    def predict(self, teacher: Predictor, z: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """The teacher's ε, guided in the first round."""
        if self.guidance == 1:
            return teacher(z, timesteps, context).float()
        silent = self.states[0].expand_as(context)
        both = teacher(torch.cat([z, z]), torch.cat([timesteps, timesteps]), torch.cat([silent, context])).float()
        uncond, cond = both.chunk(2)  # (n, 4, h, w) each
        return guide(uncond, cond, self.guidance)

    def loss(self, unet: nn.Module | Predictor, batch: Batch, average: nn.Module | Predictor) -> tuple[Tensor, Tensor]:
        """The weighted loss, () with gradients, and the mean squared error of x̂, (). `average`: the teacher."""
        z, timesteps, context = batch.noisy, batch.timesteps, batch.context
        wanted = self.teacher_target(average, z, timesteps, context)
        alpha_bar = self.alpha_bars(timesteps, self.levels, 0, z)
        found = predicted_x0(z, unet(z, timesteps, context).float(), alpha_bar)
        errors = ((found - wanted) ** 2).mean(dim=(1, 2, 3))  # (n,)
        snr = (alpha_bar / (1 - alpha_bar)).flatten()
        return (errors * snr.clamp(min=1)).mean(), errors.mean()
