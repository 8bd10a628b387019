"""Heun's method for flow matching: Algorithm 1 of EDM, Karras et al. 2022 (arXiv:2206.00364), with dx/dt = v(x, t)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Generators, Label, Step, at_least_float32
from .heun import halves
from .spaces import FlowScheduler


@dataclass(kw_only=True, eq=False)
class FlowMatchHeunDiscreteScheduler(FlowScheduler):
    """Euler's step, then once more with the mean of the velocities at its two ends: second order, two evaluations a step.

    code                  paper: Algorithm 1
    --------------------  -------------------------------------------------
    times                 t_0 ... t_N
    x, x_next             x_i, x_{i+1}
    v_i, velocity         d_i, d'_i

    As in `heun.py`, every call of `step` is one evaluation, `timesteps` holds all but the first twice, and the last step is
    Euler's (as in diffusers, although the velocity is defined at t = 0): 2 n - 1 evaluations.
    """

    label: ClassVar[Label] = Label("flow_heun", "Flow Heun", "#CC79A7", "*", "--", ("flow_match_heun",))
    evaluations_per_step: ClassVar[int] = 2

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        t = self.levels(num_inference_steps)  # (n,)
        self.times = torch.cat([t, torch.zeros(1)])  # (n + 1,)
        self.visit(halves(t * self.num_train_timesteps), device)

    def step(self, model_output: Tensor, t: Tensor | float, x: Tensor, generator: Generators = None) -> Step:
        dtype, x = x.dtype, at_least_float32(x)

        # 1. The step that this evaluation belongs to, and its two ends
        call, kept = self.recall(t, x)
        i = call // 2
        second = call % 2 == 1
        time, time_next = self.times[i : i + 2].tolist()

        # 2. The velocity at the end that was asked about: line 4, or line 7
        x0, velocity = self.predict(model_output, x, time_next if second else time)

        if not second:
            # 3. Line 5: Euler's step, x_{i+1} = x_i + (t_{i+1} - t_i) d_i
            x_next = x + (time_next - time) * velocity
            self.keep(call, x, velocity)
        else:
            # 4. Line 8: the same step with the mean velocity, x_{i+1} = x_i + (t_{i+1} - t_i) (d_i + d'_i) / 2
            x_i, v_i = kept
            x_next = x_i + (time_next - time) * (v_i + velocity) / 2
            self.keep(call)

        return Step(x_next.to(dtype), x0.to(dtype))
