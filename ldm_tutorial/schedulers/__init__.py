"""Schedulers: how to get from noise to a picture with a model that can tell the noise in a noisy picture.

noise_schedule.py             how much noise each training timestep holds, and which timesteps are visited
base.py                       what all schedulers share: settings, timesteps, the source of noise
spaces.py                     the two ways to write a noisy picture
ddpm.py, ddim.py              one step, written in the first
euler.py, euler_ancestral.py  one step, written in the second
config_file.py                settings to and from diffusers' scheduler_config.json
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .base import Scheduler, Step, randn
from .ddim import DDIMScheduler
from .ddpm import DDPMScheduler
from .euler import EulerDiscreteScheduler
from .euler_ancestral import EulerAncestralDiscreteScheduler

SCHEDULERS: dict[str, type[Scheduler]] = {
    "ddpm": DDPMScheduler,
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
}
TITLES = {"ddpm": "DDPM", "ddim": "DDIM", "euler": "Euler", "euler_a": "Euler ancestral"}  # as people write them

__all__ = [
    "SCHEDULERS",
    "TITLES",
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "Scheduler",
    "Step",
    "make_scheduler",
    "randn",
]


def make_scheduler(name: str, config: Mapping[str, Any] | None = None, **overrides: Any) -> Scheduler:
    """A scheduler by name: "ddpm", "ddim", "euler", "euler_a". Also "Euler a", or diffusers' class names.

    config: what a diffusers scheduler_config.json holds, for models other than v1.5. overrides: settings that
    take precedence. Raises ValueError for a name or setting that does not exist, and for wrong values.
    """
    names = SCHEDULERS | {"euler_ancestral": EulerAncestralDiscreteScheduler}
    names |= {cls.__name__.lower(): cls for cls in SCHEDULERS.values()}
    cls = names.get(str(name).lower().replace(" ", "_").replace("-", "_"))
    if cls is None:
        raise ValueError(f"scheduler={name!r} is unknown; choose one of {', '.join(map(repr, SCHEDULERS))}")
    settings = [field.name for field in dataclasses.fields(cls)]
    for setting in overrides:
        if setting not in settings:
            raise ValueError(f"{cls.__name__} has no setting {setting!r}; it has {', '.join(settings)}")
    return cls(**overrides) if config is None else cls.from_config({**config, **overrides})
