"""Euler's method for flow matching, as Esser et al. 2024 sample with (SD3, arXiv:2403.03206)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Generators, Label, Step, at_least_float32
from .spaces import FlowScheduler


@dataclass(kw_only=True, eq=False)
class FlowMatchEulerDiscreteScheduler(FlowScheduler):
    """Follow the velocity that the model predicts, dx/dt = v(x, t), from noise at t = 1 to a picture at t = 0.

    code                  paper: equation 1
    --------------------  -----------------------
    times                 t
    x, x_next             y_t at t_i and t_{i+1}
    velocity              v_Θ(y_t, t)
    """

    label: ClassVar[Label] = Label("flow_euler", "Flow Euler", "#000000", "X", "-", ("flow_match_euler",))

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        t = self.levels(num_inference_steps)  # (n,)
        self.times = torch.cat([t, torch.zeros(1)])  # (n + 1,)
        self.visit(t * self.num_train_timesteps, device)

    def step(self, model_output: Tensor, t: Tensor | float, x: Tensor, generator: Generators = None) -> Step:
        dtype, x = x.dtype, at_least_float32(x)
        i = self.index_of(t)
        time, time_next = self.times[i : i + 2].tolist()
        x0, velocity = self.predict(model_output, x, time)
        x_next = x + (time_next - time) * velocity
        return Step(x_next.to(dtype), x0.to(dtype))
