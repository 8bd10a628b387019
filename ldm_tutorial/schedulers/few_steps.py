"""A distilled model draws in few steps, but only in those that it was trained for. This is what it says about them.

It stands in the settings of a whole model's scheduler, or in the metadata of a LoRA's file; other programs pass over it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..checks import real_number, warn, whole_number

FEW_STEPS = "_few_steps"  # the key; diffusers ignores keys that begin so


@dataclass(frozen=True)
class FewSteps:
    """How a distilled model is to be drawn with: `steps` steps of DDIM over all noise levels, and no guidance.

    steps            the number of its steps
    guidance_scale   of the model that it was distilled from: it is a part of each prediction now

    Raises TypeError or ValueError for what are no such numbers.
    """

    steps: int
    guidance_scale: float

    def __post_init__(self) -> None:
        whole_number("steps", self.steps, 1, 1000)
        real_number("guidance_scale", self.guidance_scale)

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of `pipe(...)`, where a call does not give its own."""
        spacing = {"timestep_spacing": "trailing"}  # the first step begins at the last timestep, where the noise is
        return {"scheduler": "ddim", "scheduler_options": spacing, "steps": self.steps, "guidance_scale": 1.0}

    def advise(self, timesteps: list[int], own: list[int], guidance_scale: float) -> None:
        """Warn of a call that asks for something else. `own`: the timesteps of training, the last of which redraw a picture.

        A scheduler of another order, or one that adds noise, is not noticed.
        """
        asked = []
        if timesteps != own[len(own) - len(timesteps) :]:
            asked.append(f"the timesteps {shortened(timesteps)}, not {shortened(own)}")
        if guidance_scale != 1:
            asked.append(f"guidance_scale={guidance_scale:g}, beside the {self.guidance_scale:g} that is a part of it already")
        if asked:
            warn(
                f"this model is distilled to {self.steps} steps, and was asked for {'; and for '.join(asked)}: pictures get "
                f"worse. Leave out scheduler, steps and guidance_scale, or give steps={self.steps}, guidance_scale=1 and "
                "scheduler_options={'timestep_spacing': 'trailing'}"
            )

    def to_json(self) -> str:
        """For a file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_file(cls, content: Mapping[str, Any], source: object) -> FewSteps | None:
        """What the settings or the metadata of a file say; None: that nothing is distilled. Raises ValueError for nonsense."""
        said = content.get(FEW_STEPS)
        if said is None:
            return None
        try:
            settings = json.loads(said) if isinstance(said, str) else said
            return cls(int(settings["steps"]), float(settings["guidance_scale"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise ValueError(f"{source}: {FEW_STEPS}={said!r:.80} must be such as {cls(4, 7.5).to_json()}") from None


def shortened(timesteps: list[int]) -> str:
    """ "999, 749, 499, 249", or the first and the last of many."""
    words = [f"{t:g}" for t in timesteps]
    return ", ".join(words if len(words) <= 6 else [*words[:2], "...", words[-1]])
