"""DPM-Solver++(2M), Lu et al. 2022 (arXiv:2211.01095), Algorithm 2."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..checks import whole_number
from . import noise_schedule
from .base import Generators, Label, Step, at_least_float32
from .spaces import VPScheduler


@dataclass(kw_only=True, eq=False)
class DPMSolverMultistepScheduler(VPScheduler):
    """Second order from one evaluation a step: the last two predictions of the picture say how it changes.

    code                      paper
    ------------------------  ----------------------------------------------------------------------
    x, x_next                 x̃_{t_{i-1}}, x̃_{t_i}
    alpha, sigma (_next)      α, σ at t_{i-1}, t_i: x = α x_0 + σ ε, here α = sqrt(ᾱ), σ = sqrt(1 - ᾱ)
    lam                       λ = log(α / σ), half the logit of ᾱ = α² = 1 - σ²; h_i = λ_{t_i} - λ_{t_{i-1}}
    r                         r_i = h_{i-1} / h_i
    x0, before[0]             x_θ(x̃_{t_{i-1}}, t_{i-1}), x_θ(x̃_{t_{i-2}}, t_{i-2})
    line                      D_i

    The ODE is linear in x but for x_θ. The linear part is solved exactly; x_θ is taken to be a straight line in λ through its
    last two values. Where there is no second value (the first step of a run), or the line would reach to λ = ∞ (the last, to
    σ = 0), x_θ is taken to be constant: first order, DDIM's step. `step` keeps x_θ for the next: the order of calls is fixed.

    use_karras_sigmas: the levels of EDM's eq. 5 (2206.00364), at timesteps with fractions.
    """

    timestep_spacing: str = "linspace"
    use_karras_sigmas: bool = False

    label: ClassVar[Label] = Label("dpmpp_2m", "DPM-Solver++(2M)", "#56B4E9", "P", "--", ("dpm++_2m", "dpm_solver++(2m)"))
    terminal_alpha_bar: ClassVar[float] = 2**-24  # in the place of ᾱ = 0, where λ is -∞
    unsupported: ClassVar[dict[str, Any]] = VPScheduler.unsupported | {
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "final_sigmas_type": "zero",
        "lambda_min_clipped": -math.inf,
        **dict.fromkeys(("use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"), False),
    }

    def spaced_timesteps(self, num_inference_steps: int) -> np.ndarray:
        """As in diffusers: the last of n + 1 evenly spaced timesteps is left out, since the last step leads to σ = 0."""
        n = whole_number("num_inference_steps", num_inference_steps, 1, self.num_train_timesteps)
        left_out = 0 if self.timestep_spacing == "trailing" or n in (1, self.num_train_timesteps) else 1
        timesteps = super().spaced_timesteps(n + left_out)
        return timesteps[: max(1, len(timesteps) - left_out)]

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        super().set_timesteps(num_inference_steps, device)
        if self.use_karras_sigmas:
            train_sigmas = noise_schedule.sigmas_from_alphas_cumprod(self.alphas_cumprod).numpy()
            first = -1 if self.start_at is None else self.start_at
            sigmas = noise_schedule.karras_sigmas(train_sigmas[first], train_sigmas[0], len(self.timesteps))  # (n,)
            self.alpha_bars = torch.from_numpy(1 / (np.append(sigmas, 0.0).astype(np.float64) ** 2 + 1))  # (n + 1,)
            t = noise_schedule.sigmas_to_timesteps(sigmas, train_sigmas)
            self.visit(torch.from_numpy(noise_schedule.distinct(t)), device)

    def alpha_bar_at(self, t: Tensor | float) -> Tensor:
        """ᾱ at t, (k,) float64: at a visited timestep that of the visited level, which a table of T cannot hold."""
        t = self.check_timesteps(t)
        visited = [self._index.get(float(t_k)) for t_k in t.float()]
        return super().alpha_bar_at(t) if None in visited else self.alpha_bars[visited].double()

    def step(self, model_output: Tensor, t: Tensor | float, x: Tensor, generator: Generators = None) -> Step:
        dtype, x = x.dtype, at_least_float32(x)

        # 1. The noise levels here and at the next timestep: σ and α
        i, before = self.recall(t, x)
        alpha, alpha_next = self.alpha_bars[i : i + 2].sqrt().tolist()
        sigma, sigma_next = (1 - self.alpha_bars[i : i + 2]).sqrt().tolist()

        # 2. The picture x_θ, and D_i, where the line through the last two is in the middle of the step
        line = x0 = self.predict(model_output, x, self.alpha_bars[i].item())[0]
        if before and i + 1 < len(self.timesteps):
            lam_before, lam, lam_next = (self.alpha_bars[i - 1 : i + 2].double().logit() / 2).tolist()
            r = (lam - lam_before) / (lam_next - lam)
            line = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before[0]

        # 3. x_next = σ_next / σ x - α_next (e^-h - 1) D_i, where e^-h = (α / σ) / (α_next / σ_next)
        x_next = sigma_next / sigma * x - (alpha * sigma_next / sigma - alpha_next) * line

        self.keep(i, x0)
        return Step(x_next.to(dtype), x0.to(dtype))
