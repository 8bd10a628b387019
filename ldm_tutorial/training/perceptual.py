"""The perceptual loss: pictures are close when a network sees the same things in them (Zhang et al. 2018, LPIPS).

Two backbones, one formula. `VGG16` with the trained heads is LPIPS itself; its weights are the user's download. Our own image
tower, trained with CLIP on the same pictures, needs no download and has no heads: every channel counts alike.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PerceptualLoss(nn.Module):
    """(b, 3, h, w), (b, 3, h, w) in [-1, 1] -> (b,). Zhang et al. 2018, equation 1.

    `backbone.features(x)` gives a list of feature maps. `heads` are one non-negative weight per channel for each of them.
    """

    def __init__(self, backbone: nn.Module, heads: list[Tensor] | None = None):
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.heads = heads

    def train(self, mode: bool = True) -> PerceptualLoss:
        return super().train(False)  # the backbone is a fixed yardstick

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros(len(x), device=x.device)
        for level, (fx, fy) in enumerate(zip(self.backbone.features(x), self.backbone.features(y))):
            fx, fy = (F.normalize(f.float(), dim=1, eps=1e-8) for f in (fx, fy))  # each position a vector of length 1
            difference = (fx - fy) ** 2  # (b, c, h, w)
            if self.heads is None:
                per_position = difference.sum(dim=1)  # (b, h, w)
            else:
                per_position = (difference * self.heads[level].to(difference)[:, None, None]).sum(dim=1)
            total = total + per_position.mean(dim=(1, 2))
        return total


class VGG16(nn.Module):
    """The thirteen convolutions of VGG16 (Simonyan & Zisserman 2015), cut after the ReLUs that LPIPS looks at."""

    MEAN = (-0.030, -0.088, -0.188)  # LPIPS's scaling of pictures in [-1, 1]
    STD = (0.458, 0.448, 0.450)
    STAGES = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(a, b, kernel_size=3, padding=1) for a, b in zip(stage, stage[1:])]) for stage in self.STAGES
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Five maps, of 64, 128, 256, 512 and 512 channels, each half the size of the one before: (b, 3, h, w) in [-1, 1]"""
        mean, std = (torch.tensor(v, device=x.device, dtype=x.dtype)[:, None, None] for v in (self.MEAN, self.STD))
        x = (x - mean) / std
        maps = []
        for i, stage in enumerate(self.stages):
            x = F.max_pool2d(x, 2) if i else x
            for conv in stage:
                x = F.relu(conv(x))
            maps.append(x)
        return maps

    @classmethod
    def from_torchvision(cls, path: Path) -> VGG16:
        """Read torchvision's `vgg16-*.pth`, of which only the convolutions are used.

        Raises:
            ValueError: the file lacks one of the thirteen convolutions.
        """
        source = torch.load(path, map_location="cpu", weights_only=True)
        names = [name for name in source if name.startswith("features.")]
        if len(names) != 26:
            raise ValueError(f"{path}: expected the 26 tensors of 13 convolutions, named features.N; found {len(names)}")
        model = cls()
        model.load_state_dict({ours: source[theirs] for ours, theirs in zip(model.state_dict(), names)})
        return model


def read_lpips_heads(path: Path) -> list[Tensor]:
    """The five trained heads of LPIPS, from the file `vgg.pth` of the package `lpips`: (c,) each."""
    source = torch.load(path, map_location="cpu", weights_only=True)
    return [source[f"lin{i}.model.1.weight"].flatten() for i in range(5)]
