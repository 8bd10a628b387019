"""An exponential moving average of the weights: smoother than the last step, and what the samples are drawn with."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """`average = decay * average + (1 - decay) * weights` after each step.

    The decay grows to its final value as (1 + n) / (10 + n) with the number of updates n, so that the random weights of the
    start are soon forgotten (the rule of LDM's own training).
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """After each step of the model's optimizer."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)

    def state_dict(self) -> dict:
        """For `torch.save`, so that a run can go on."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        """What `state_dict` has returned."""
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]
