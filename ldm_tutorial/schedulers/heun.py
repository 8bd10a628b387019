"""Heun's method, the sampler of EDM, Karras et al. 2022 (arXiv:2206.00364), Algorithm 1."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..checks import one_of
from . import noise_schedule
from .base import Generators, Label, Step, at_least_float32
from .spaces import VEScheduler


@dataclass(kw_only=True, eq=False)
class HeunDiscreteScheduler(VEScheduler):
    """Euler's step, then once more with the mean of the slopes at its two ends: second order, two evaluations a step.

    code                  paper: Algorithm 1 with σ(t) = t and s(t) = 1
    --------------------  -------------------------------------------------
    sigmas                t_0 ... t_N
    x, x_next             x_i, x_{i+1}
    x0                    D_θ(x; t)
    d, d_next             d_i, d'_i

    Every call of `step` is one evaluation. The first half of step i is asked at t_i and gives Euler's x_{i+1}; the second half is
    asked about that at t_{i+1}, and corrects it. So `timesteps` holds all but the first twice. The last step, to σ = 0, where
    the slope is not defined, is Euler's: 2 n - 1 evaluations. `step` keeps x_i and d_i between the halves: the order is fixed.

    use_karras_sigmas: the levels of eq. 5, at timesteps with fractions.
    """

    use_karras_sigmas: bool = False

    label: ClassVar[Label] = Label("heun", "Heun", "#E69F00", "v")
    evaluations_per_step: ClassVar[int] = 2
    where_silent: ClassVar[dict[str, Any]] = VEScheduler.where_silent | {"beta_start": 0.00085, "beta_end": 0.012}
    beyond_diffusers: ClassVar[tuple[str, ...]] = ("rescale_betas_zero_snr",)
    unsupported: ClassVar[dict[str, Any]] = VEScheduler.unsupported | {"use_exponential_sigmas": False, "use_beta_sigmas": False}

    def check_settings(self) -> None:
        super().check_settings()
        one_of("use_karras_sigmas", self.use_karras_sigmas, [False, True])

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        t, sigmas = self.levels(num_inference_steps, self.use_karras_sigmas)  # (n,) both
        self.sigmas = torch.tensor([*sigmas, 0.0], dtype=torch.float32)  # (n + 1,)
        self.visit(halves(torch.from_numpy(noise_schedule.distinct(t))), device)

    @property
    def model_sigmas(self) -> Tensor:
        return halves(self.sigmas[:-1])

    def step(self, model_output: Tensor, t: Tensor | float, x: Tensor, generator: Generators = None) -> Step:
        dtype, x = x.dtype, at_least_float32(x)

        # 1. The noise level of x, and the step that it belongs to
        call, kept = self.recall(t, x)
        sigma = self.model_sigmas[call].item()
        i = call // 2

        # 2. The denoised picture, and the slope d = (x - D(x; t)) / t: line 4, or line 7
        x0 = self.predict(model_output, x, sigma)
        d = (x - x0) / sigma

        if call % 2 == 0:
            # 3. Line 5: Euler's step, x_{i+1} = x_i + (t_{i+1} - t_i) d_i
            x_next = x + (self.sigmas[i + 1].item() - sigma) * d
            self.keep(call, x, d)
        else:
            # 4. Line 8: the same step with the mean slope, x_{i+1} = x_i + (t_{i+1} - t_i) (d_i + d'_i) / 2
            x_i, d_i = kept
            x_next = x_i + (sigma - self.sigmas[i].item()) * (d_i + d) / 2
            self.keep(call)

        return Step(x_next.to(dtype), x0.to(dtype))


def halves(levels: Tensor) -> Tensor:
    """Where the network is asked: levels (n,) -> (2 n - 1,), all but the first twice."""
    return torch.cat([levels[:1], levels[1:].repeat_interleave(2)])
