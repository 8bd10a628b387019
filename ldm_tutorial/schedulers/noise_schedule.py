"""How much noise each of the T training timesteps holds, and which of them a sampler visits.

The forward process mixes a picture with noise (DDPM, arXiv:2006.11239, eq. 4):

    q(x_t | x_0) = N(sqrt(ᾱ_t) x_0, (1 - ᾱ_t) I)

    code              paper                         meaning
    ----------------  ----------------------------  ----------------------------------------------------
    betas             β_t                           variance of the noise that training step t adds
    alphas_cumprod    ᾱ_t = Π (1 - β_s), s <= t     what is left of the picture's variance
    sigmas            σ_t = sqrt((1 - ᾱ_t) / ᾱ_t)   noise per unit of picture: EDM's noise level (2206.00364)

Two traps. The DDIM paper writes α for what the DDPM paper calls ᾱ. And papers count t = 1 ... T where arrays count
0 ... T - 1, so that `alphas_cumprod[0]` is ᾱ_1: not 1. All in float32, as when Stable Diffusion was trained.
"""

import math

import numpy as np
import torch
from torch import Tensor

SPACINGS = ("leading", "linspace", "trailing")


def linear_betas(num_train_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    """β_t on a straight line, (T,). DDPM (2006.11239), section 4, with 1e-4 ... 0.02."""
    return torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float32)


def scaled_linear_betas(num_train_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    """sqrt(β_t) on a straight line, (T,). Stable Diffusion, 0.00085 ... 0.012; its code says "linear"."""
    return torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=torch.float32) ** 2


def cosine_betas(num_train_timesteps: int, max_beta: float = 0.999) -> Tensor:
    """ᾱ_t falls as a squared cosine, (T,). Improved DDPM (arXiv:2102.09672), eq. 17, with s = 0.008."""
    time = torch.arange(num_train_timesteps + 1, dtype=torch.float64) / num_train_timesteps  # (T + 1,)
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    # β_t = 1 - ᾱ_t / ᾱ_{t-1} is 1 at the end, where one step would wipe out the picture: capped.
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta).float()


BETA_SCHEDULES = {  # by the names in a scheduler_config.json
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "squaredcos_cap_v2": lambda num_train_timesteps, beta_start, beta_end: cosine_betas(num_train_timesteps),
}


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """The betas, (T,), changed so that the last timestep holds no picture. arXiv:2305.08891, Algorithm 1.

    sqrt(ᾱ) is shifted to end at 0 and stretched to begin where it did. For models trained that way: not Stable Diffusion
    v1.5, whose sqrt(ᾱ_T) is 0.068, a trace of the picture.
    """
    sqrt_alpha_bar = (1 - betas).cumprod(0).sqrt()
    first, last = sqrt_alpha_bar[0].clone(), sqrt_alpha_bar[-1].clone()
    sqrt_alpha_bar = (sqrt_alpha_bar - last) * (first / (first - last))
    alpha_bar = sqrt_alpha_bar**2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


def sigmas_from_alphas_cumprod(alphas_cumprod: Tensor) -> Tensor:
    """σ = sqrt((1 - ᾱ) / ᾱ), in the shape of ᾱ."""
    return ((1 - alphas_cumprod) / alphas_cumprod) ** 0.5


def spaced_timesteps(spacing: str, n: int, num_train_timesteps: int, steps_offset: int) -> np.ndarray:
    """n of T training timesteps, falling, (n,) float64. arXiv:2305.08891, Table 2. With T = 1000 and n = 5:

    leading    800, 600, 400, 200, 0      the start of each of n equal parts, + steps_offset (v1.5: 801 ... 1)
    linspace   999, 749.25, 499.5 ... 0   from end to end; rounding is left to the caller
    trailing   999, 799, 599, 399, 199    the end of each part: always starts where training ended

    A single step starts where training ended, whatever the spacing: there the noise is.
    """
    T = num_train_timesteps
    if n == 1:  # np.linspace would give t = 0, and leading t = steps_offset
        return np.array([T - 1.0])
    if spacing == "leading":
        # Each part has T // n timesteps, as in diffusers. T % n timesteps at the noisy end then belong to no part: 10 for
        # n = 30, but 332 for n = 334, which would begin at 667. If these are more than a tenth of all, the parts divide all T
        # timesteps instead.
        i = np.arange(n - 1, -1, -1)
        timesteps = i * (T // n) if T % n <= T / 10 else i * T // n
        # With n = 1000, the first timestep is 999 already, and an offset of 1 would give t = 1000, which does not exist.
        return timesteps + float(min(steps_offset, T - 1 - timesteps[0]))
    if spacing == "trailing":
        # Rounding makes np.arange return n + 1 values for some n (61 is the first), the last of them t = -1.
        return np.arange(T, 0, -T / n)[:n].round() - 1
    return np.linspace(0, T - 1, n)[::-1].copy()


def timesteps_down_from(t: float, spacing: str, n: int, steps_offset: int) -> np.ndarray:
    """n timesteps, falling evenly from t to where those of `spaced_timesteps` end: (n,) float64, with fractions.

    From one of these timesteps on, with as many as are left, they are the same ones but for rounding.
    """
    if spacing == "trailing":
        return np.linspace(t, -1, n + 1)[:-1]
    return np.linspace(t, min(t, steps_offset) if spacing == "leading" else 0.0, n)


def karras_sigmas(sigma_max: float, sigma_min: float, n: int, rho: float = 7.0) -> np.ndarray:
    """n falling noise levels, closer together the lower they are, (n,). EDM (2206.00364), eq. 5."""
    ramp = np.linspace(0, 1, n)
    return (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho


def timesteps_to_sigmas(timesteps: np.ndarray, train_sigmas: np.ndarray) -> np.ndarray:
    """σ at timesteps that may have fractions: interpolated in `train_sigmas`, (T,), as in diffusers."""
    return np.interp(timesteps, np.arange(len(train_sigmas)), train_sigmas)


def sigmas_to_timesteps(sigmas: np.ndarray, train_sigmas: np.ndarray) -> np.ndarray:
    """The timestep, with a fraction, at which the model knows σ: interpolated in log σ, as in k-diffusion."""
    return np.interp(np.log(sigmas), np.log(train_sigmas), np.arange(len(train_sigmas)))


def distinct(timesteps: np.ndarray) -> np.ndarray:
    """The timesteps in float32. Where two of them meet, the later is moved by the least that float32 can."""
    found: dict[np.float32, None] = {}
    for t in timesteps.astype(np.float32):
        while t in found:
            t = np.nextafter(t, np.float32(0))
        found[t] = None
    return np.array(list(found))
