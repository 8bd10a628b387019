"""Schedulers: how to get from noise to a picture with a model that can tell the noise in a noisy picture.

noise_schedule.py                      how much noise each training timestep holds, and which timesteps are visited
base.py                                what all schedulers share: settings, timesteps, the source of noise
spaces.py                              the three ways to write a noisy picture, the four ways to say what is in it
ddpm.py, ddim.py, dpmpp_2m.py          one step, written in the first
euler.py, euler_ancestral.py, heun.py  one step, written in the second
flow_euler.py, flow_heun.py            one step, written in the third: for models trained by flow matching
config_file.py                         settings to and from diffusers' scheduler_config.json
few_steps.py                           what a distilled model says there: in how many steps it draws
switching.py                           from one scheduler to another in the middle of a run

A scheduler is one file, which holds its name, title and look as well, and one line below.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .base import DiffusionScheduler as DiffusionScheduler
from .base import Scheduler as Scheduler
from .base import Step as Step
from .base import randn as randn
from .config_file import OTHER_SAMPLERS
from .spaces import FlowScheduler as FlowScheduler

# isort: off
# The schedulers, in the order of every list of them.
from .ddpm import DDPMScheduler as DDPMScheduler
from .ddim import DDIMScheduler as DDIMScheduler
from .euler import EulerDiscreteScheduler as EulerDiscreteScheduler
from .euler_ancestral import EulerAncestralDiscreteScheduler as EulerAncestralDiscreteScheduler
from .heun import HeunDiscreteScheduler as HeunDiscreteScheduler
from .dpmpp_2m import DPMSolverMultistepScheduler as DPMSolverMultistepScheduler
from .flow_euler import FlowMatchEulerDiscreteScheduler as FlowMatchEulerDiscreteScheduler
from .flow_heun import FlowMatchHeunDiscreteScheduler as FlowMatchHeunDiscreteScheduler
# isort: on

_ALL: dict[str, type[Scheduler]] = {cls.label.name: cls for cls in list(vars().values()) if hasattr(cls, "label")}
SCHEDULERS = {name: cls for name, cls in _ALL.items() if issubclass(cls, DiffusionScheduler)}  # for models like v1.5
FLOW_SCHEDULERS = {name: cls for name, cls in _ALL.items() if issubclass(cls, FlowScheduler)}  # for flow matching
COURSE = ("ddpm", "ddim", "euler", "euler_a")  # those that the notebooks build, and that galleries show unless asked for others

# What a scheduler of another class takes from a model's own: how it was trained, not how to sample.
TRAINED_WITH = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "rescale_betas_zero_snr")


def scheduler_class(name: str) -> type[Scheduler]:
    """The class of a name in `SCHEDULERS` or `FLOW_SCHEDULERS`, an alias such as "Euler a", or diffusers' class name.

    Raises ValueError for any other.
    """
    names = {alias: cls for cls in _ALL.values() for alias in (cls.__name__.lower(), cls.label.name, *cls.label.aliases)}
    cls = names.get(str(name).lower().replace(" ", "_").replace("-", "_"))
    if cls is None:
        raise ValueError(f"scheduler={name!r} is unknown; choose one of {', '.join(map(repr, _ALL))}")
    return cls


def make_scheduler(name: str | type[Scheduler], config: Mapping[str, Any] | None = None, /, **overrides: Any) -> Scheduler:
    """A scheduler by its name, see `scheduler_class`, or of a class.

    config: what a diffusers scheduler_config.json holds, for models other than v1.5. overrides: settings that take
    precedence. Raises ValueError for a name or setting that does not exist, and for wrong values.
    """
    cls = name if isinstance(name, type) else scheduler_class(name)
    settings = [field.name for field in dataclasses.fields(cls)]
    for setting in overrides:
        if setting not in settings:
            raise ValueError(f"{cls.__name__} has no setting {setting!r}; it has {', '.join(settings)}")
    return cls(**overrides) if config is None else cls.from_config({**config, **overrides})


def scheduler_alike(own: Scheduler, name: str | type[Scheduler], /, **overrides: Any) -> Scheduler:
    """A new scheduler, by its name or of a class, for a model that was trained as its own scheduler says.

    One of the same class has all its settings. Raises ValueError as `make_scheduler` does.
    """
    cls = name if isinstance(name, type) else scheduler_class(name)
    alike = cls is type(own) or isinstance(own, FlowScheduler)  # those for flow matching have the same settings
    inherited = [field.name for field in dataclasses.fields(own)] if alike else list(TRAINED_WITH)
    if isinstance(own, DiffusionScheduler) and own.rescale_betas_zero_snr:
        inherited.append("timestep_spacing")  # only from the last timestep on does such a model start from pure noise
    return make_scheduler(cls, **{setting: getattr(own, setting) for setting in inherited} | overrides)


def scheduler_from_config(config: Mapping[str, Any]) -> Scheduler:
    """The scheduler that a scheduler_config.json names. Other samplers of diffusers become DDIM (v1.5 itself comes with PNDM).

    Raises ValueError for a class that is neither, such as EDMEulerScheduler, and as `Scheduler.from_config` does.
    """
    written_by = config.get("_class_name")
    known = {cls.__name__: cls for cls in _ALL.values()}
    if written_by is None or written_by in list(OTHER_SAMPLERS):
        return DDIMScheduler.from_config(config)
    if written_by not in list(known):  # in a damaged file it may be a list, which no dict can look up
        raise ValueError(
            f"_class_name={written_by!r} in a scheduler config is not supported: its model may be trained on another forward "
            f"process than those of {', '.join(known)}"
        )
    return known[written_by].from_config(config)
