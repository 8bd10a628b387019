"""The two ways to write one noisy picture.

    variance preserving   x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε    x keeps unit scale        DDPM, DDIM, DPM-Solver++
    variance exploding    x = x0 + σ ε                      x grows with the noise    Euler, Euler ancestral, Heun

Divide the first by sqrt(ᾱ), and it is the second: σ = sqrt((1 - ᾱ) / ᾱ), and so ᾱ = 1 / (σ² + 1).
The names are Song et al.'s (arXiv:2011.13456). Stable Diffusion's U-Net was trained on the first.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from . import noise_schedule
from .base import Scheduler, at_least_float32, per_picture


@dataclass(kw_only=True, eq=False)
class VPScheduler(Scheduler):
    """Keeps x at unit scale. `alpha_bars`, (n + 1,): ᾱ at each of the `timesteps`, then at the end."""

    @property
    def final_alpha_bar(self) -> float:
        """ᾱ where the last step ends: 1, a picture without noise."""
        return 1.0

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        t = torch.from_numpy(self.spaced_timesteps(num_inference_steps).round()).long()  # (n,)
        final = torch.tensor([self.final_alpha_bar], dtype=torch.float32)
        self.alpha_bars = torch.cat([self.alphas_cumprod[t], final])  # (n + 1,)
        self.visit(t, device)

    @property
    def init_noise_sigma(self) -> float:
        return 1.0

    def scale_model_input(self, x: Tensor, t: Tensor | float) -> Tensor:
        return x

    def predict(self, model_output: Tensor, x: Tensor, alpha_bar: float) -> tuple[Tensor, Tensor]:
        """(x0, ε) in x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε, computed from the model's output."""
        self.check_output(model_output, x)
        if self.prediction_type == "epsilon":
            eps = at_least_float32(model_output)
            x0 = (x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
        else:  # v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0
            v = at_least_float32(model_output)
            x0 = alpha_bar**0.5 * x - (1 - alpha_bar) ** 0.5 * v
            eps = alpha_bar**0.5 * v + (1 - alpha_bar) ** 0.5 * x
        return x0, eps

    def alpha_bar_at(self, t: Tensor | float) -> Tensor:
        t = self.check_timesteps(t)
        if (t != t.long()).any():
            raise ValueError(f"t={t.tolist()} must be whole numbers for {type(self).__name__}")
        return self.alphas_cumprod[t.long()].double()

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
        t = self.check_batch(x0, noise, t)
        alpha_bar = per_picture(self.alpha_bar_at(t), x0)  # (b, 1, 1, 1)
        return (alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise).to(x0.dtype)


@dataclass(kw_only=True, eq=False)
class VEScheduler(Scheduler):
    """Keeps x0 at its scale. `sigmas`, (n + 1,): σ where each step begins, then 0; `model_sigmas`: σ at each of `timesteps`."""

    timestep_spacing: str = "linspace"

    # σ is infinite where ᾱ is 0; with the smallest float16 in its place, σ = 4096.
    terminal_alpha_bar: ClassVar[float] = 2**-24

    @property
    def train_sigmas(self) -> np.ndarray:
        """σ at every training timestep, rising, (T,)."""
        return noise_schedule.sigmas_from_alphas_cumprod(self.alphas_cumprod).numpy()

    def levels(self, n: int, karras: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The timesteps at which n steps begin, with fractions, and their σ, both (n,). karras: spaced as in EDM's eq. 5."""
        t = self.spaced_timesteps(n)
        sigmas = noise_schedule.timesteps_to_sigmas(t, self.train_sigmas)
        if karras:
            sigmas = noise_schedule.karras_sigmas(sigmas[0], sigmas[-1], n)
            t = noise_schedule.sigmas_to_timesteps(sigmas, self.train_sigmas)
        return t, sigmas

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        t, sigmas = self.levels(num_inference_steps)
        self.sigmas = torch.tensor([*sigmas, 0.0], dtype=torch.float32)  # (n + 1,)
        self.model_sigmas = self.sigmas[:-1]
        self.visit(torch.tensor(t, dtype=torch.float32), device)

    @property
    def init_noise_sigma(self) -> float:
        sigma = self.model_sigmas[0].item()
        # As in diffusers. Where "leading" starts, below the top, x is noise and a picture of unit variance.
        return (sigma**2 + 1) ** 0.5 if self.timestep_spacing == "leading" else sigma

    def scale_model_input(self, x: Tensor, t: Tensor | float) -> Tensor:
        """From x0 + σ ε to sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε: x / sqrt(σ² + 1). ValueError if t is not visited."""
        sigma = self.model_sigmas[self.index_of(t)].item()
        return x / (sigma**2 + 1) ** 0.5

    def predict(self, model_output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """x0 in x = x0 + σ ε, computed from the model's output: the denoiser D(x; σ) of EDM (2206.00364)."""
        self.check_output(model_output, x)
        model_output = at_least_float32(model_output)
        if self.prediction_type == "epsilon":
            return x - sigma * model_output
        # v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0, with ᾱ = 1 / (σ² + 1)
        return x / (sigma**2 + 1) - sigma / (sigma**2 + 1) ** 0.5 * model_output

    def sigma_at(self, t: Tensor | float) -> Tensor:
        """σ at t, (k,) float64: the level of a visited timestep; between training timesteps, interpolated."""
        timesteps = self.check_timesteps(t).float().numpy()
        sigmas = torch.from_numpy(noise_schedule.timesteps_to_sigmas(timesteps, self.train_sigmas))
        for k, t_k in enumerate(timesteps.tolist()):
            if t_k in self._index:
                sigmas[k] = self.model_sigmas[self._index[t_k]]
        return sigmas

    def alpha_bar_at(self, t: Tensor | float) -> Tensor:
        return 1 / (self.sigma_at(t) ** 2 + 1)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
        t = self.check_batch(x0, noise, t)
        sigma = per_picture(self.sigma_at(t), x0)  # (b, 1, 1, 1)
        return (x0 + sigma * noise).to(x0.dtype)
