"""DDPM: Denoising Diffusion Probabilistic Models, Ho et al. 2020 (arXiv:2006.11239)."""

from dataclasses import dataclass

from torch import Tensor

from .base import Generators, Step, at_least_float32, randn
from .checks import one_of
from .spaces import VPScheduler


@dataclass(kw_only=True, eq=False)
class DDPMScheduler(VPScheduler):
    """Guess the picture, then draw the next x from the posterior q(x_{t-1} | x_t, x_0): ancestral sampling.

    code                 paper
    -------------------  ------------------------------------------------------
    x, x_prev            x_t, x_{t-1}
    alpha_bar(_prev)     ᾱ_t, ᾱ_{t-1}
    alpha, beta          α_t, β_t = 1 - α_t
    eps, x0              ε_θ(x_t, t), and the x_0 that follows from it
    mean                 μ̃_t(x_t, x_0)
    variance             σ_t²
    z                    z

    The paper takes every step. Here t - 1 is the next visited timestep; α_t and β_t span the whole stride.

    variance_type: the two choices of section 3.2. "fixed_small", σ² = β̃_t, is right if there were one picture
    only; "fixed_large", σ² = β_t, if pictures were noise of unit variance.
    """

    variance_type: str = "fixed_small"

    def check_settings(self) -> None:
        super().check_settings()
        one_of("variance_type", self.variance_type, ["fixed_small", "fixed_large"])

    def step(self, model_output: Tensor, t: Tensor | float, x: Tensor, generator: Generators = None) -> Step:
        dtype, x = x.dtype, at_least_float32(x)

        # 1. The noise levels here and at the next timestep. α_t = ᾱ_t / ᾱ_{t-1}
        i = self.index_of(t)
        alpha_bar, alpha_bar_prev = self.alpha_bars[i : i + 2].tolist()
        alpha = alpha_bar / alpha_bar_prev
        beta = 1 - alpha

        # 2. Eq. 15: x_0 = (x_t - sqrt(1 - ᾱ_t) ε) / sqrt(ᾱ_t)
        x0, _ = self.predict(model_output, x, alpha_bar)

        # 3. Eq. 7: μ̃ = sqrt(ᾱ_{t-1}) β_t / (1 - ᾱ_t) x_0 + sqrt(α_t) (1 - ᾱ_{t-1}) / (1 - ᾱ_t) x_t
        x0_share = alpha_bar_prev**0.5 * beta / (1 - alpha_bar)
        x_share = alpha**0.5 * (1 - alpha_bar_prev) / (1 - alpha_bar)
        mean = x0_share * x0 + x_share * x

        # 4. Section 3.2: σ² = β_t, or β̃_t = (1 - ᾱ_{t-1}) / (1 - ᾱ_t) β_t of eq. 7
        variance = beta
        if self.variance_type == "fixed_small":
            variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * beta

        # 5. Algorithm 2: x_{t-1} = μ̃ + σ z, and z = 0 in the last step
        x_prev = mean
        if i + 1 < len(self.timesteps):
            x_prev = mean + variance**0.5 * randn(x.shape, generator, x.device, x.dtype)

        return Step(x_prev.to(dtype), x0.to(dtype))
