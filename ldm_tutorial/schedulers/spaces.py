"""The three ways to write one noisy picture, and the four ways to say what is in it.

    variance preserving   x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε    x keeps unit scale        DDPM, DDIM, DPM-Solver++
    variance exploding    x = x0 + σ ε                      x grows with the noise    Euler, Euler ancestral, Heun
    straight              x = (1 - t) x0 + t ε              a line from x0 to ε       flow matching

Divide the first by sqrt(ᾱ), or the third by 1 - t, and it is the second: σ = sqrt((1 - ᾱ) / ᾱ) = t / (1 - t), and so
ᾱ = 1 / (σ² + 1), t = σ / (σ + 1). The names of the first two are Song et al.'s (arXiv:2011.13456). Stable Diffusion's U-Net was
trained on the first.

A model may predict ε, x0, or a mixture of the two (`PREDICTIONS`). From x and one of them follow the others (`convert`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..checks import one_of, whole_number
from . import noise_schedule
from .base import DiffusionScheduler, Scheduler, at_least_float32, per_picture

Factor = float | Tensor  # of x0 or ε: a number, or one for each picture, (b, 1, 1, 1)

# What a model may predict, as c x0 + d ε: (c, d) for x = a x0 + s ε.
PREDICTIONS: dict[str, Callable[[Factor, Factor], tuple[Factor, Factor]]] = {
    "epsilon": lambda a, s: (0.0, 1.0),  # ε. DDPM (2006.11239), eq. 14
    "sample": lambda a, s: (1.0, 0.0),  # x0
    "v_prediction": lambda a, s: (-s / (a**2 + s**2) ** 0.5, a / (a**2 + s**2) ** 0.5),  # v. 2202.00512, section 4
    "velocity": lambda a, s: (-1.0, 1.0),  # ε - x0 = dx/dt on the straight line. 2210.02747, eq. 23; 2209.03003, eq. 1
}


def convert(prediction: Tensor, x: Tensor, given: str, wanted: str, a: Factor, s: Factor) -> Tensor:
    """One prediction as another, both named in `PREDICTIONS`, about x = a x0 + s ε: all tensors (b, ...).

    Two linear equations, x = a x0 + s ε and prediction = c x0 + d ε, have the solution

        x0 = (d x - s prediction) / (a d - s c),    ε = (a prediction - c x) / (a d - s c).

    The determinant a d - s c is a for ε, -s for x0, sqrt(a² + s²) for v and a + s for the velocity: in pure noise, a = 0, a
    prediction of ε says nothing of x0, and without noise, s = 0, one of x0 nothing of ε. Raises ValueError for another name.
    """
    one_of("given", given, [*PREDICTIONS])
    one_of("wanted", wanted, [*PREDICTIONS])
    c, d = PREDICTIONS[given](a, s)
    determinant = a * d - s * c
    x0, eps = (d * x - s * prediction) / determinant, (a * prediction - c * x) / determinant
    c, d = PREDICTIONS[wanted](a, s)
    return c * x0 + d * eps


@dataclass(kw_only=True, eq=False)
class VPScheduler(DiffusionScheduler):
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
class VEScheduler(DiffusionScheduler):
    """Keeps x0 at its scale. `sigmas`, (n + 1,): σ where each step begins, then 0; `model_sigmas`: σ at each of `timesteps`."""

    timestep_spacing: str = "linspace"

    # σ is infinite where ᾱ is 0; with the smallest float16 in its place, σ = 4096.
    terminal_alpha_bar: ClassVar[float] = 2**-24

    def levels(self, n: int, karras: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The timesteps at which n steps begin, with fractions, and their σ, both (n,). karras: spaced as in EDM's eq. 5.

        Fewer than n with `start_at`.
        """
        t = self.spaced_timesteps(n)
        sigmas = noise_schedule.timesteps_to_sigmas(t, self.train_sigmas)
        if karras:
            sigmas = noise_schedule.karras_sigmas(sigmas[0], sigmas[-1], len(sigmas))
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

    def scale_at(self, sigma: float) -> float:
        return float((min(sigma, self.train_sigmas[-1]) ** 2 + 1) ** 0.5)  # σ is infinite where others write pure noise

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


@dataclass(kw_only=True, eq=False)
class FlowScheduler(Scheduler):
    """A straight line from picture to noise, for models trained by flow matching: x = (1 - t) x0 + t ε. `times`, (n + 1,): t
    where each step begins, then 0.

    The model is asked at the timestep T t, and predicts the velocity, dx/dt = ε - x0. (diffusers calls t `sigma`.)

    shift   s, to spend more steps at high noise: t becomes s t / (1 + (s - 1) t). SD3 (2403.03206), eq. 23: the square root of
            how many times more pixels there are; 3 for its pictures of 1024 x 1024
    """

    prediction_type: str = "velocity"
    shift: float = 1.0

    prediction_types: ClassVar[tuple[str, ...]] = ("velocity",)
    beyond_diffusers: ClassVar[tuple[str, ...]] = ("prediction_type",)
    unsupported: ClassVar[dict[str, Any]] = {
        "use_dynamic_shifting": False,
        "shift_terminal": None,
        "stochastic_sampling": False,
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
    }
    where_silent: ClassVar[dict[str, Any]] = {}
    always_written: ClassVar[dict[str, Any]] = {}

    @property
    def last_timestep(self) -> int:
        """Pure noise, t = 1: T."""
        return self.num_train_timesteps

    def check_settings(self) -> None:
        super().check_settings()
        if not self.shift > 0:
            raise ValueError(f"shift={self.shift:g} must be a finite number above 0")

    def shifted(self, t: np.ndarray) -> np.ndarray:
        """Times with the same signal-to-noise ratio in a picture of more pixels. SD3 (2403.03206), eq. 23."""
        return self.shift * t / (1 + (self.shift - 1) * t)

    def levels(self, num_inference_steps: int) -> Tensor:
        """The times at which n steps begin, from 1 on evenly down to the first of training, then shifted: (n,) float32.

        With `start_at`, that timestep's and those of the n that lie below it. With `entering`, n from that timestep's on.
        """
        n = whole_number("num_inference_steps", num_inference_steps, 1, self.num_train_timesteps)
        last = self.shifted(np.array(1 / self.num_train_timesteps, dtype=np.float32))  # here and below, as in diffusers
        if self.entering is not None:
            t = self.entering / self.num_train_timesteps
            first = t / (self.shift - (self.shift - 1) * t)  # which `shifted` makes t again
            return torch.from_numpy(self.shifted(np.linspace(first, min(first, float(last)), n))).float()
        times = self.shifted(np.linspace(1, last, n))
        if self.start_at is not None:
            start, apart = self.start_at / self.num_train_timesteps, 1 / self.num_train_timesteps
            times = np.array([start, *times[times <= start - apart]])
        return torch.from_numpy(times).float()

    @property
    def init_noise_sigma(self) -> float:
        return 1.0

    def scale_model_input(self, x: Tensor, t: Tensor | float) -> Tensor:
        return x

    def predict(self, model_output: Tensor, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """(x0, velocity) at time t: the line through x in the direction of the velocity, followed to t = 0."""
        self.check_output(model_output, x)
        velocity = at_least_float32(model_output)
        return x - t * velocity, velocity

    def scale_at(self, sigma: float) -> float:
        alpha_bar = 1 / (sigma**2 + 1)
        return 1 / (alpha_bar**0.5 + (1 - alpha_bar) ** 0.5)

    def timestep_at(self, sigma: float) -> float:
        return self.num_train_timesteps / (1 + 1 / sigma)  # t = σ / (σ + 1), for σ = ∞ as well

    def time_at(self, t: Tensor | float) -> Tensor:
        """The time, 0 ... 1, of timestep t: (k,) float64."""
        return self.check_timesteps(t).double() / self.num_train_timesteps

    def alpha_bar_at(self, t: Tensor | float) -> Tensor:
        time = self.time_at(t)
        return (1 - time) ** 2 / ((1 - time) ** 2 + time**2)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
        self.check_batch(x0, noise, t)
        time = per_picture(self.time_at(t), x0)  # (b, 1, 1, 1)
        return ((1 - time) * x0 + time * noise).to(x0.dtype)

    def get_velocity(self, x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
        """The slope of the line, the same at all times: ε - x0."""
        self.check_batch(x0, noise, t)
        return noise - x0
