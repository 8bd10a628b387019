"""DDPM: Denoising Diffusion Probabilistic Models, Ho et al. 2020 (arXiv:2006.11239)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..checks import one_of
from .base import Generators, Label, Step, at_least_float32, randn
from .spaces import VPScheduler


def posterior(x0: Tensor, x: Tensor, alpha_bar: float, alpha_bar_prev: float) -> tuple[Tensor, float]:
    """q(x_{t-1} | x_t, x_0), eq. 6: where x came from if the picture was x0. Mean, (b, ...), and variance of eq. 7.

    μ̃_t = sqrt(ᾱ_{t-1}) β_t / (1 - ᾱ_t) x_0 + sqrt(α_t) (1 - ᾱ_{t-1}) / (1 - ᾱ_t) x_t
    β̃_t = (1 - ᾱ_{t-1}) / (1 - ᾱ_t) β_t
    """
    alpha = alpha_bar / alpha_bar_prev  # α_t
    beta = 1 - alpha
    x0_share = alpha_bar_prev**0.5 * beta / (1 - alpha_bar)
    x_share = alpha**0.5 * (1 - alpha_bar_prev) / (1 - alpha_bar)
    return x0_share * x0 + x_share * x, (1 - alpha_bar_prev) / (1 - alpha_bar) * beta


@dataclass(kw_only=True, eq=False)
class DDPMScheduler(VPScheduler):
    """Predict the clean picture, then draw the next x from the posterior q(x_{t-1} | x_t, x_0): ancestral sampling.

    code                 paper
    -------------------  ------------------------------------------------------
    x, x_prev            x_t, x_{t-1}
    alpha_bar(_prev)     ᾱ_t, ᾱ_{t-1}
    alpha, beta          α_t, β_t = 1 - α_t
    x0                   the x_0 that follows from ε_θ(x_t, t)
    variance             σ_t²

    The paper takes every step. Here t - 1 is the next visited timestep; α_t and β_t span the whole stride.

    variance_type: the two choices of section 3.2. "fixed_small", σ² = β̃_t, is right if there were one picture only;
    "fixed_large", σ² = β_t, if pictures were noise of unit variance.
    """

    variance_type: str = "fixed_small"

    label: ClassVar[Label] = Label("ddpm", "DDPM", "#D55E00", "o")

    def check_settings(self) -> None:
        super().check_settings()
        one_of("variance_type", self.variance_type, ["fixed_small", "fixed_large"])

    def step(self, model_output: Tensor, t: Tensor | float, x: Tensor, generator: Generators = None) -> Step:
        dtype, x = x.dtype, at_least_float32(x)

        # 1. The noise levels here and at the next timestep
        i = self.index_of(t)
        alpha_bar, alpha_bar_prev = self.alpha_bars[i : i + 2].tolist()

        # 2. Eq. 15: x_0 = (x_t - sqrt(1 - ᾱ_t) ε) / sqrt(ᾱ_t)
        x0, _ = self.predict(model_output, x, alpha_bar)

        # 3. Eq. 7, with that prediction in the place of x_0; and section 3.2: σ² = β̃_t, or β_t
        x_prev, variance = posterior(x0, x, alpha_bar, alpha_bar_prev)
        if self.variance_type == "fixed_large":
            variance = 1 - alpha_bar / alpha_bar_prev

        # 4. Algorithm 2: x_{t-1} = μ̃ + σ z, and z = 0 in the last step
        if i + 1 < len(self.timesteps):
            x_prev = x_prev + variance**0.5 * randn(x.shape, generator, x.device, x.dtype)

        return Step(x_prev.to(dtype), x0.to(dtype))
