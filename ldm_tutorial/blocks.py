"""The convolutional blocks of the autoencoder and the U-Net, and the embedding of the timestep.

Shapes: b pictures, c channels, h x w positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResnetBlock(nn.Module):
    """Two convolutions, each behind normalization and SiLU, added to the input (He et al. 2016, "identity mappings").

    (b, in_channels, h, w), (b, time_channels) -> (b, out_channels, h, w)

    With `time_channels`, the timestep's embedding is added between the two convolutions, the same at every position.
    Without it (in the autoencoder) there is no such input.
    """

    def __init__(self, in_channels: int, out_channels: int, norm_groups: int, norm_eps: float, time_channels: int | None = None):
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, in_channels, eps=norm_eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        if time_channels is not None:
            self.time_emb_proj = nn.Linear(time_channels, out_channels)
        self.norm2 = nn.GroupNorm(norm_groups, out_channels, eps=norm_eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # (b, out_channels, h, w)
        if time is not None:
            h = h + self.time_emb_proj(F.silu(time))[:, :, None, None]  # (b, out_channels, 1, 1) is added everywhere
        h = self.conv2(F.silu(self.norm2(h)))
        return self.conv_shortcut(x) + h


class Downsample(nn.Module):
    """A convolution that keeps every second position: (b, c, h, w) -> (b, c, ceil(h / 2), ceil(w / 2))

    The U-Net pads all four sides by one. The autoencoder (`asymmetric=True`) pads right and bottom only, and so rounds down:
    the same shape for even sides, another picture, shifted by half a pixel of the coarser grid.
    """

    def __init__(self, channels: int, asymmetric: bool = False):
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.asymmetric:
            x = F.pad(x, (0, 1, 0, 1))  # left, right, top, bottom
        return self.conv(x)


class Upsample(nn.Module):
    """Nearest neighbors up to `size`, then a convolution: (b, c, h, w) -> (b, c, *size); `size` is twice (h, w) by default."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


def timestep_embedding(timesteps: Tensor, channels: int, max_period: float = 10000.0) -> Tensor:
    """Cosines, then sines, of t at `channels` / 2 frequencies from 1 down to about 1 / max_period: (b,) -> (b, channels)

    Vaswani et al. 2017, section 3.5, with Stable Diffusion's order and spacing. Timesteps may be fractional (Karras levels).
    """
    half = channels // 2
    exponent = -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * exponent.exp()  # (b, half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)  # (b, channels)


class TimestepMLP(nn.Module):
    """Two linear layers with SiLU between: (b, channels) -> (b, time_channels)"""

    def __init__(self, channels: int, time_channels: int):
        super().__init__()
        self.linear_1 = nn.Linear(channels, time_channels)
        self.linear_2 = nn.Linear(time_channels, time_channels)

    def forward(self, embedding: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(embedding)))
