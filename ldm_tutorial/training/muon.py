"""Muon: each step of a weight matrix moves all its directions by the same amount (Jordan et al. 2024, "Muon").

A matrix's gradient often has a few directions that are much larger than all others, and these decide the step. Muon replaces
the (averaged) gradient U S Vᵀ by U Vᵀ: what S says is left out. That costs some matrix products a step, whatever the batch's
size. Biases, the weights of normalizations, and the first and the last layer get AdamW's steps (Loshchilov and Hutter 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .compute import Compute

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of Jordan et al.'s polynomial, whose slope at 0 is large


@torch.no_grad()
def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Near U Vᵀ, where `matrix` is U S Vᵀ: singular values between about 0.7 and 1.2; bfloat16 (m, n) -> (m, n)

    Each step applies the polynomial a s + b s³ + c s⁵ to all singular values s at once, without computing them.
    """
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)  # all singular values at most 1
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def is_matrix(name: str, weight: Tensor) -> bool:
    """Whether Muon takes a weight: linear layers and convolutions, other than the first and the last of the network."""
    return weight.ndim >= 2 and not name.startswith(("conv_in", "conv_out"))


class Muon(torch.optim.Optimizer):
    """Muon for the matrices of a network, AdamW for its other weights.

    A convolution's weight (out, in, h, w) counts as a matrix (out, in h w). The step of a matrix (m, n) has the length that
    AdamW's usually has, `learning_rate` times 0.2 √(max(m, n)) (Liu et al. 2025, "Muon is scalable", section 2.2), so that one
    rate serves both. Of several processes, each orthogonalizes some of the matrices and sends them to the others.
    """

    def __init__(
        self,
        network: nn.Module,
        compute: Compute,
        learning_rate: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
    ):
        named = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
        matrices = [weight for name, weight in named if is_matrix(name, weight)]
        others = [weight for name, weight in named if not is_matrix(name, weight)]
        shared = {"lr": learning_rate, "weight_decay": weight_decay}
        groups: list[dict[str, Any]] = [{"params": matrices, "momentum": momentum}, {"params": others, "betas": betas}]
        super().__init__([group for group in groups if group["params"]], shared)
        self.compute, self.owners = compute, share_out(matrices, compute.count)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step from the gradients, which are the same in all processes."""
        for group in self.param_groups:
            if "momentum" in group:
                self._step_matrices(group)
            else:
                self._step_others(group)

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """Of an average b of the gradients g, looking ahead as Nesterov does: UVᵀ of (1 - momentum) g + momentum b."""
        weights, rank = group["params"], self.compute.rank
        steps: list[Tensor] = []
        for weight, owner in zip(weights, self.owners):
            state = self.state[weight]
            if not state:
                state["average"] = torch.zeros_like(weight)
            average = state["average"]
            average.lerp_(weight.grad, 1 - group["momentum"])
            ahead = weight.grad.lerp(average, group["momentum"])
            mine = owner == rank
            steps.append(orthogonalize(ahead.flatten(1)) if mine else torch.empty_like(ahead.flatten(1), dtype=torch.bfloat16))
        self.compute.exchange(steps, self.owners)
        for weight, step in zip(weights, steps):
            length = 0.2 * math.sqrt(max(step.shape))
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(step.view_as(weight), alpha=-group["lr"] * length)

    def _step_others(self, group: dict[str, Any]) -> None:
        """AdamW: w = (1 - rate decay) w - rate m̂ / (√v̂ + 1e-8), of the averages m of g and v of g²."""
        beta1, beta2 = group["betas"]
        for weight in group["params"]:
            state = self.state[weight]
            if not state:
                state.update(step=torch.tensor(0.0), m=torch.zeros_like(weight), v=torch.zeros_like(weight))
            state["step"] += 1
            state["m"].lerp_(weight.grad, 1 - beta1)
            state["v"].mul_(beta2).addcmul_(weight.grad, weight.grad, value=1 - beta2)
            n = state["step"].item()
            m, v = state["m"] / (1 - beta1**n), state["v"] / (1 - beta2**n)
            weight.mul_(1 - group["lr"] * group["weight_decay"]).addcdiv_(m, v.sqrt_().add_(1e-8), value=-group["lr"])


def share_out(matrices: Iterable[Tensor], count: int) -> list[int]:
    """Which process orthogonalizes each matrix, so that each has about as much to do."""
    costs = [min(matrix.flatten(1).shape) ** 2 * max(matrix.flatten(1).shape) for matrix in matrices]
    owners, loads = [0] * len(costs), [0] * count
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        owners[i] = loads.index(min(loads))
        loads[owners[i]] += costs[i]
    return owners
