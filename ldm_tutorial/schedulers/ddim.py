"""DDIM: Denoising Diffusion Implicit Models, Song et al. 2020 (arXiv:2010.02502)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .base import Generators, Label, Step, at_least_float32, randn
from .spaces import VPScheduler


@dataclass(kw_only=True, eq=False)
class DDIMScheduler(VPScheduler):
    """Predict the clean picture and the noise, then combine them again with less of the noise.

    code                 paper
    -------------------  ----------------------------------------------------------------------
    x, x_prev            x_τ_i, x_τ_{i-1}
    alpha_bar(_prev)     α_τ_i, α_τ_{i-1}: what the DDPM paper calls ᾱ, this one calls α
    x0                   f_θ(x_t, t), "predicted x_0", eq. 9
    eps                  ε_θ(x_t, t)
    eta                  η: 0 adds no noise (DDIM), 1 as much as DDPM
    variance             σ_τ_i(η)²
    z                    ε_t

    set_alpha_to_one: whether the last step goes to ᾱ = 1, or, as in v1.5, to training's lowest noise level, ᾱ = 0.99915.
    """

    set_alpha_to_one: bool = False
    eta: float = 0.0

    label: ClassVar[Label] = Label("ddim", "DDIM", "#0072B2", "s", "--")
    beyond_diffusers: ClassVar[tuple[str, ...]] = ("eta",)

    @property
    def final_alpha_bar(self) -> float:
        """ᾱ where the last step ends: v1.5 stops at that of the first training timestep, not at 1."""
        return 1.0 if self.set_alpha_to_one else self.alphas_cumprod[0].item()

    def step(self, model_output: Tensor, t: Tensor | float, x: Tensor, generator: Generators = None) -> Step:
        dtype, x = x.dtype, at_least_float32(x)

        # 1. The noise levels here and at the next timestep
        i = self.index_of(t)
        alpha_bar, alpha_bar_prev = self.alpha_bars[i : i + 2].tolist()

        # 2. Eq. 9: x_0 = (x - sqrt(1 - α) ε) / sqrt(α)
        x0, eps = self.predict(model_output, x, alpha_bar)

        # 3. Eq. 16: σ² = η² (1 - α_prev) / (1 - α) (1 - α / α_prev); for η > 1, no more than all noise
        variance = self.eta**2 * (1 - alpha_bar_prev) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_prev)
        variance = min(variance, 1 - alpha_bar_prev)

        # 4. Eq. 12: x_prev = sqrt(α_prev) x_0 + sqrt(1 - α_prev - σ²) ε + σ z
        x_prev = alpha_bar_prev**0.5 * x0 + (1 - alpha_bar_prev - variance) ** 0.5 * eps
        if variance > 0:
            x_prev = x_prev + variance**0.5 * randn(x.shape, generator, x.device, x.dtype)

        return Step(x_prev.to(dtype), x0.to(dtype))
