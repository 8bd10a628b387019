"""Euler's method, with the noise levels and the churn of EDM, Karras et al. 2022 (arXiv:2206.00364)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..checks import one_of, real_number
from . import noise_schedule
from .base import Generators, Label, Step, at_least_float32, randn
from .spaces import VEScheduler


@dataclass(kw_only=True, eq=False)
class EulerDiscreteScheduler(VEScheduler):
    """Follow the slope of the probability-flow ODE, dx/dσ = (x - D(x; σ)) / σ, from level to level.

    code                  paper: Algorithm 2 without lines 9 to 11, Heun's correction
    --------------------  ---------------------------------------------------------------
    sigmas, sigma_next    t_0 ... t_N (there σ = t), t_{i+1}
    gamma                 γ_i
    sigmas_hat            t̂_i
    x, x_next             x̂_i, x_{i+1}
    x0                    D_θ(x̂_i; t̂_i)
    d                     d_i
    s_churn, s_tmin, ...  S_churn, S_tmin, S_tmax, S_noise

    use_karras_sigmas: the levels of eq. 5; the model is then asked at timesteps with fractions.

    s_churn > 0 makes it stochastic: each turn first raises x from t_i to t̂_i with new noise, then denoises it
    from there. The model must see the raised x, so `step` raises x for the *next* turn, and `timesteps` are
    those of t̂_i. (diffusers raises x after the model has looked: too much noise stays in.) A level that would
    rise above all that the model was trained on is left alone.
    """

    use_karras_sigmas: bool = False
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0

    label: ClassVar[Label] = Label("euler", "Euler", "#009E73", "D", "-.")
    beyond_diffusers: ClassVar[tuple[str, ...]] = ("s_churn", "s_tmin", "s_tmax", "s_noise")
    unsupported: ClassVar[dict[str, Any]] = VEScheduler.unsupported | {
        "interpolation_type": "linear",
        "final_sigmas_type": "zero",
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "sigma_min": None,
        "sigma_max": None,
    }

    def check_settings(self) -> None:
        super().check_settings()
        one_of("use_karras_sigmas", self.use_karras_sigmas, [False, True])
        for name in self.beyond_diffusers:
            real_number(name, getattr(self, name), 0, finite=False)  # s_tmax may be ∞

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        t, sigmas = self.levels(num_inference_steps, self.use_karras_sigmas)  # (n,) both

        # Lines 4 and 5: γ = min(S_churn / N, sqrt(2) - 1) within S_tmin ... S_tmax, t̂ = t + γ t
        sigmas_hat = sigmas.copy()
        if self.s_churn > 0:
            gamma = min(self.s_churn / num_inference_steps, 2**0.5 - 1)
            known = (1 + gamma) * sigmas <= self.train_sigmas[-1]  # to the model
            churned = (self.s_tmin <= sigmas) & (sigmas <= self.s_tmax) & known
            sigmas_hat[churned] *= 1 + gamma
            t[churned] = noise_schedule.sigmas_to_timesteps(sigmas_hat[churned], self.train_sigmas)

        self.sigmas = torch.tensor([*sigmas, 0.0], dtype=torch.float32)  # (n + 1,)
        self.sigmas_hat = torch.tensor([*sigmas_hat, 0.0], dtype=torch.float32)  # (n + 1,)
        self.visit(torch.from_numpy(noise_schedule.distinct(t)), device)

    @property
    def model_sigmas(self) -> Tensor:
        return self.sigmas_hat[:-1]

    def step(self, model_output: Tensor, t: Tensor | float, x: Tensor, generator: Generators = None) -> Step:
        dtype, x = x.dtype, at_least_float32(x)

        # 1. The noise level of x, the next, and the one to which churn raises that
        i = self.index_of(t)
        sigma_hat = self.sigmas_hat[i].item()
        sigma_next, sigma_hat_next = self.sigmas[i + 1].item(), self.sigmas_hat[i + 1].item()

        # 2. The denoised picture, D(x̂; t̂)
        x0 = self.predict(model_output, x, sigma_hat)

        # 3. Line 7: the slope, d = (x̂ - D(x̂; t̂)) / t̂
        d = (x - x0) / sigma_hat

        # 4. Line 8: Euler's step, x_{i+1} = x̂ + (t_{i+1} - t̂) d
        x_next = x + (sigma_next - sigma_hat) * d

        # 5. Lines 4 to 6 of the next turn: x̂ = x + sqrt(t̂² - t²) S_noise ε
        if sigma_hat_next > sigma_next:
            noise = self.s_noise * randn(x.shape, generator, x.device, x.dtype)
            x_next = x_next + (sigma_hat_next**2 - sigma_next**2) ** 0.5 * noise

        return Step(x_next.to(dtype), x0.to(dtype))
