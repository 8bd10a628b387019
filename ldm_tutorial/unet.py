"""The U-Net: predicts the noise in a latent, given the timestep and the words (Rombach et al. 2022, section 3.3).

Down the left side the resolution halves level by level, up the right side it doubles again, and every feature map made on the
way down is kept on a stack and joined to the one of its size on the way up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import SpatialTransformer
from .blocks import Downsample, ResnetBlock, TimestepMLP, Upsample, timestep_embedding
from .config import UNetConfig

NORM_EPS = 1e-5  # of the U-Net's residual blocks and last normalization


def resnet_block(config: UNetConfig, in_channels: int, out_channels: int) -> ResnetBlock:
    """A residual block with a time embedding, of this U-Net's sizes."""
    return ResnetBlock(in_channels, out_channels, config.norm_num_groups, NORM_EPS, 4 * config.block_out_channels[0])


def spatial_transformer(config: UNetConfig, channels: int) -> SpatialTransformer:
    """A spatial transformer of this U-Net's sizes."""
    return SpatialTransformer(channels, config.cross_attention_dim, config.num_attention_heads, config.norm_num_groups)


class DownBlock(nn.Module):
    """One level on the way down. `inputs` are the channels that each of its residual blocks receives.

    Returns its result and the list of every feature map it made, for the stack.
    """

    def __init__(self, config: UNetConfig, inputs: list[int], out_channels: int, attention: bool, downsample: bool):
        super().__init__()
        self.resnets = nn.ModuleList([resnet_block(config, c, out_channels) for c in inputs])
        self.attentions = nn.ModuleList([spatial_transformer(config, out_channels) for _ in inputs] if attention else [])
        self.downsamplers = nn.ModuleList([Downsample(out_channels)] if downsample else [])

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> tuple[Tensor, list[Tensor]]:
        made = []
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, time)  # (b, out_channels, h, w)
            if self.attentions:
                x = self.attentions[i](x, context)
            made.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)  # (b, out_channels, ceil(h / 2), ceil(w / 2))
            made.append(x)
        return x, made


class MidBlock(nn.Module):
    """ResNet, spatial transformer, ResNet at the coarsest resolution."""

    def __init__(self, config: UNetConfig, channels: int):
        super().__init__()
        self.resnets = nn.ModuleList([resnet_block(config, channels, channels) for _ in range(2)])
        self.attentions = nn.ModuleList([spatial_transformer(config, channels)])

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        x = self.resnets[0](x, time)
        x = self.attentions[0](x, context)
        return self.resnets[1](x, time)


class UpBlock(nn.Module):
    """One level on the way up. Takes one feature map off the stack for each residual block."""

    def __init__(self, config: UNetConfig, inputs: list[int], out_channels: int, attention: bool, upsample: bool):
        super().__init__()
        self.resnets = nn.ModuleList([resnet_block(config, c, out_channels) for c in inputs])
        self.attentions = nn.ModuleList([spatial_transformer(config, out_channels) for _ in inputs] if attention else [])
        self.upsamplers = nn.ModuleList([Upsample(out_channels)] if upsample else [])

    def forward(self, x: Tensor, stack: list[Tensor], time: Tensor, context: Tensor) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, stack.pop()], dim=1), time)  # (b, out_channels, h, w)
            if self.attentions:
                x = self.attentions[i](x, context)
        for upsample in self.upsamplers:
            x = upsample(x, size=stack[-1].shape[-2:])  # to the next map's size, which is not always twice that of x
        return x


def channel_plan(config: UNetConfig) -> tuple[list[list[int]], list[list[int]]]:
    """The channels that each residual block receives: for each level on the way down, then for each on the way up."""
    channels, layers = config.block_out_channels, config.layers_per_block

    down, stack = [], [channels[0]]  # the stack mirrors what forward will push: conv_in's result is the first
    for i, out_channels in enumerate(channels):
        down.append([stack[-1]] + [out_channels] * (layers - 1))
        stack += [out_channels] * (layers + (i < len(channels) - 1))  # one map of each block, and one of the downsampling layer

    up, flow = [], channels[-1]
    for out_channels in reversed(channels):
        inputs = []
        for _ in range(layers + 1):
            inputs.append(flow + stack.pop())  # what flows up, joined to what comes off the stack
            flow = out_channels
        up.append(inputs)
    return down, up


class UNet(nn.Module):
    """`UNet(config)(latents, timesteps, context)` -> predicted noise

    latents (b, 4, h, w), timesteps (b,) or a number, context (b, m, cross_attention_dim) -> (b, 4, h, w)
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        channels, attention = config.block_out_channels, config.attention_levels
        levels = range(len(channels))
        down, up = channel_plan(config)
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], kernel_size=3, padding=1)
        self.time_embedding = TimestepMLP(channels[0], 4 * channels[0])
        self.down_blocks = nn.ModuleList(
            [DownBlock(config, down[i], channels[i], attention[i], downsample=i < levels[-1]) for i in levels]
        )
        self.mid_block = MidBlock(config, channels[-1])
        self.up_blocks = nn.ModuleList(
            [UpBlock(config, up[-1 - i], channels[i], attention[i], upsample=i > 0) for i in reversed(levels)]
        )
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[0], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, kernel_size=3, padding=1)

    def forward(self, latents: Tensor, timesteps: Tensor | float, context: Tensor) -> Tensor:
        timesteps = torch.as_tensor(timesteps, device=latents.device).expand(latents.shape[0])  # (b,)
        time = timestep_embedding(timesteps, self.config.block_out_channels[0])  # (b, c), in float32
        time = self.time_embedding(time.to(latents.dtype))  # (b, 4 c)

        x = self.conv_in(latents)  # (b, c, h, w)
        stack = [x]
        for block in self.down_blocks:
            x, made = block(x, time, context)
            stack += made
        x = self.mid_block(x, time, context)
        for block in self.up_blocks:
            x = block(x, stack, time, context)
        return self.conv_out(F.silu(self.conv_norm_out(x)))  # (b, 4, h, w)
