"""Three steps of Muon with the same gradients in each process of `torchrun`; the weights they end with go into a file each."""

import sys
from pathlib import Path

import torch
from torch import nn

from ldm_tutorial.training.compute import Compute
from ldm_tutorial.training.muon import Muon


class Network(nn.Module):
    """Matrices of several shapes, a convolution, a normalization, and a first layer that is not Muon's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv_in = nn.Conv2d(3, 6, 3)
        self.conv = nn.Conv2d(6, 8, 3)
        self.wide, self.tall = nn.Linear(12, 5), nn.Linear(4, 9, bias=False)
        self.norm = nn.GroupNorm(2, 8)


def three_steps(network, optimizer):
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for weight in network.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


def main(folder):
    network, compute = Network(), Compute("no")
    optimizer = Muon(network, compute)
    three_steps(network, optimizer)
    torch.save(network.state_dict(), folder / f"{compute.rank}-of-{compute.count}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
