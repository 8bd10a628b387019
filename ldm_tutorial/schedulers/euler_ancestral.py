"""Euler ancestral: k-diffusion's sampler of that name (Katherine Crowson, 2022)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..checks import real_number
from .base import Generators, Label, Step, at_least_float32, randn
from .spaces import VEScheduler


@dataclass(kw_only=True, eq=False)
class EulerAncestralDiscreteScheduler(VEScheduler):
    """Euler's step, but too far down, and back up with new noise.

    code                   k-diffusion              meaning
    ---------------------  -----------------------  ---------------------------------------------------
    sigma, sigma_next      sigma_from, sigma_to     the noise level of x, and the next
    sigma_up               sigma_up                 how much new noise
    sigma_down             sigma_down               where Euler's step must land for it
    eta                    eta                      1: all that DDPM's posterior has; 0: Euler's method

    σ_down² + σ_up² = σ_next²: independent noises add in variance. With eta = 1 this is DDPM, and with any eta
    it is DDIM of that eta, written for x = x0 + σ ε.
    """

    eta: float = 1.0

    label: ClassVar[Label] = Label("euler_a", "Euler ancestral", "#CC79A7", "^", ":", ("euler_ancestral",))
    beyond_diffusers: ClassVar[tuple[str, ...]] = ("eta",)

    def check_settings(self) -> None:
        super().check_settings()
        real_number("eta", self.eta, 0)

    def step(self, model_output: Tensor, t: Tensor | float, x: Tensor, generator: Generators = None) -> Step:
        dtype, x = x.dtype, at_least_float32(x)

        # 1. The noise level of x, and the next
        i = self.index_of(t)
        sigma, sigma_next = self.sigmas[i : i + 2].tolist()

        # 2. σ_up = η sqrt(σ_next² (σ² - σ_next²) / σ²), at most σ_next;  σ_down = sqrt(σ_next² - σ_up²)
        sigma_up = min(sigma_next, self.eta * (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5)
        sigma_down = (sigma_next**2 - sigma_up**2) ** 0.5

        # 3. Euler's step to σ_down: x + (σ_down - σ) d, with the slope d = (x - x0) / σ
        x0 = self.predict(model_output, x, sigma)
        d = (x - x0) / sigma
        x_next = x + (sigma_down - sigma) * d

        # 4. Back up to σ_next: + σ_up z
        if sigma_up > 0:
            x_next = x_next + sigma_up * randn(x.shape, generator, x.device, x.dtype)

        return Step(x_next.to(dtype), x0.to(dtype))
