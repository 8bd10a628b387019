"""The variational autoencoder: pictures to latents and back (Kingma & Welling 2014; Rombach et al. 2022, section 3.1).

Shapes: b pictures, f = 2^(levels - 1) pixels a latent along each side, z latent channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import SelfAttention
from .blocks import Downsample, ResnetBlock, Upsample
from .config import AutoencoderConfig
from .schedulers.base import randn

VAE_NORM_EPS = 1e-6  # of every GroupNorm of the autoencoder


class AttentionBlock(SelfAttention):
    """Self-attention with one head over all positions, and a residual: (b, c, h, w) -> (b, c, h, w)"""

    def __init__(self, channels: int, norm_groups: int):
        super().__init__(channels, heads=1, bias=True)
        self.group_norm = nn.GroupNorm(norm_groups, channels, eps=VAE_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)  # (b, h * w, c)
        out = super().forward(tokens).transpose(1, 2)  # (b, c, h * w)
        return x + out.unflatten(2, x.shape[-2:])


class VAEMidBlock(nn.Module):
    """ResNet, attention, ResNet, at the coarsest resolution: (b, c, h, w) -> (b, c, h, w)"""

    def __init__(self, channels: int, norm_groups: int):
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, norm_groups, VAE_NORM_EPS) for _ in range(2)])
        self.attentions = nn.ModuleList([AttentionBlock(channels, norm_groups)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        x = self.attentions[0](x)
        return self.resnets[1](x)


class EncoderBlock(nn.Module):
    """One level of the encoder: residual blocks, then (except at the last level) half the resolution."""

    def __init__(self, in_channels: int, out_channels: int, layers: int, norm_groups: int, downsample: bool):
        super().__init__()
        inputs = [in_channels] + [out_channels] * (layers - 1)
        self.resnets = nn.ModuleList([ResnetBlock(c, out_channels, norm_groups, VAE_NORM_EPS) for c in inputs])
        self.downsamplers = nn.ModuleList([Downsample(out_channels, asymmetric=True)] if downsample else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class DecoderBlock(nn.Module):
    """One level of the decoder: residual blocks, then (except at the last level) twice the resolution."""

    def __init__(self, in_channels: int, out_channels: int, layers: int, norm_groups: int, upsample: bool):
        super().__init__()
        inputs = [in_channels] + [out_channels] * (layers - 1)
        self.resnets = nn.ModuleList([ResnetBlock(c, out_channels, norm_groups, VAE_NORM_EPS) for c in inputs])
        self.upsamplers = nn.ModuleList([Upsample(out_channels)] if upsample else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class Encoder(nn.Module):
    """(b, 3, f h, f w) -> (b, 2 z, h, w): mean and log variance of the latents"""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        channels, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], kernel_size=3, padding=1)
        self.down_blocks = nn.ModuleList()
        for i, out_channels in enumerate(channels):
            in_channels, last = channels[max(i - 1, 0)], i == len(channels) - 1
            self.down_blocks.append(EncoderBlock(in_channels, out_channels, config.layers_per_block, groups, downsample=not last))
        self.mid_block = VAEMidBlock(channels[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=VAE_NORM_EPS)
        self.conv_out = nn.Conv2d(channels[-1], 2 * config.latent_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Decoder(nn.Module):
    """(b, z, h, w) -> (b, 3, f h, f w)"""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        channels, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, channels[0], kernel_size=3, padding=1)
        self.mid_block = VAEMidBlock(channels[0], groups)
        self.up_blocks = nn.ModuleList()
        for i, out_channels in enumerate(channels):
            in_channels, last = channels[max(i - 1, 0)], i == len(channels) - 1
            self.up_blocks.append(DecoderBlock(in_channels, out_channels, config.layers_per_block + 1, groups, upsample=not last))
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=VAE_NORM_EPS)
        self.conv_out = nn.Conv2d(channels[-1], config.out_channels, kernel_size=3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z | x) = N(mean, diag(exp(logvar))): what the encoder says about one picture; every tensor is (b, z, h, w)."""

    mean: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        """The standard deviation, (b, z, h, w)."""
        return (0.5 * self.logvar).exp()

    @classmethod
    def from_moments(cls, moments: Tensor) -> DiagonalGaussian:
        """(b, 2 z, h, w): the mean, then the log variance, kept where its exponential is harmless."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    def sample(self, generator: torch.Generator | list[torch.Generator] | None = None) -> Tensor:
        """mean + std * noise, the reparametrization (Kingma & Welling 2014, section 2.4); noise as in `schedulers.base.randn`."""
        return self.mean + self.std * randn(self.mean.shape, generator, self.mean.device, self.mean.dtype)

    def mode(self) -> Tensor:
        """The most likely latents: the mean, (b, z, h, w)."""
        return self.mean

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) of each picture, in nats: (b,). Kingma & Welling 2014, appendix B."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1.0 - self.logvar).sum(dim=(1, 2, 3))


class AutoencoderKL(nn.Module):
    """The autoencoder of Stable Diffusion. Latents are unscaled here: the pipeline multiplies them by `scaling_factor`."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, kernel_size=1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, kernel_size=1)

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """(b, 3, f h, f w) in [-1, 1] -> a Gaussian over (b, z, h, w)"""
        return DiagonalGaussian.from_moments(self.quant_conv(self.encoder(x)))

    def decode(self, z: Tensor) -> Tensor:
        """(b, z, h, w) -> (b, 3, f h, f w), about [-1, 1], not clamped"""
        return self.decoder(self.post_quant_conv(z))
