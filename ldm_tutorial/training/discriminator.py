"""The patch discriminator (Isola et al. 2017, section 3.2.2), its hinge loss, and the weight that keeps it in balance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def initialize_weights(module: nn.Module) -> None:
    """Small random weights for a convolution or a norm, in place; others stay (Isola et al. 2017, section 6.2)."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class PatchDiscriminator(nn.Module):
    """One number for each patch, positive for "real": (b, 3, h, w) -> (b, 1, h / 8 - 2, w / 8 - 2)

    Three strided convolutions and two plain ones, 4x4 each, so that each number depends on 70x70 pixels.
    """

    def __init__(self, channels: int = 64):
        super().__init__()
        c = channels
        self.layers = nn.Sequential(
            nn.Conv2d(3, c, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            *self.block(c, 2 * c, stride=2),
            *self.block(2 * c, 4 * c, stride=2),
            *self.block(4 * c, 8 * c, stride=1),
            nn.Conv2d(8 * c, 1, kernel_size=4, stride=1, padding=1),
        )
        self.apply(initialize_weights)

    @staticmethod
    def block(c_in: int, c_out: int, stride: int) -> list[nn.Module]:
        """(b, c_in, h, w) -> (b, c_out, h / stride, w / stride), less one pixel a side with stride 1"""
        conv = nn.Conv2d(c_in, c_out, kernel_size=4, stride=stride, padding=1, bias=False)
        return [conv, nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2)]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss: outputs beyond +1 for real and -1 for fake cost nothing (Lim & Ye 2017)."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def adaptive_weight(
    reconstruction_loss: Tensor, generator_loss: Tensor, last_layer: Tensor, grad: Callable = torch.autograd.grad
) -> Tensor:
    """lambda = |grad reconstruction| / (|grad generator| + delta), at the decoder's last layer (Esser et al. 2021, equation 7).

    Times lambda, the generator's gradient is as long as that of the reconstruction, whatever their scales. `grad` is
    `Compute.gradient` where a batch is shared by several
    processes, or losses are scaled for float16: the norms are those of the whole batch's gradients, unscaled.
    """
    (towards_data,) = grad(reconstruction_loss, last_layer, retain_graph=True)
    (towards_fooling,) = grad(generator_loss, last_layer, retain_graph=True)
    return (towards_data.norm() / (towards_fooling.norm() + 1e-4)).clamp(0.0, 1e4).detach()
