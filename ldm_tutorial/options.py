"""What can be asked of a pipeline, and the checks: a wrong value is one error that says which, what it was, what is allowed."""

from __future__ import annotations

import functools
import inspect
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from .checks import real_number, whole_number
from .schedulers import Scheduler

Function = TypeVar("Function", bound=Callable)
MAX_SEED = 2**63 - 1
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `pipe(...)`, `img2img`, `inpaint` and `stream` have in common.

    negative_prompt    what to stay away from: one for all, or a list as long as that of the prompts
    scheduler          "ddpm", "ddim", "euler", "euler_a", or an object; None: the model's own, `pipe.scheduler`
    scheduler_options  settings for a scheduler given by name, such as {"eta": 1.0} or {"use_karras_sigmas": True}
    steps              how many noise levels are visited, 1 ... 1000
    guidance_scale     how strongly the prompt counts. 1: as it was trained, the U-Net is asked once a step instead of
                       twice, and the negative prompt has no say; 0: only the negative prompt counts
    guidance_rescale   0 ... 1, against the glare of high scales (`guide`)
    seed               a number: picture i is drawn with seed + i; a list: one per picture; None: a random number.
                       One seed is the same noise on every device and in every batch
    num_images         pictures per prompt, next to each other in the result
    height, width      in pixels, multiples of the autoencoder's factor. None: those of the image or of the latents, else
                       what the model was trained on. An image is scaled and its edges cut to fit
    latents            noise of unit variance to start from instead of the seed's, (b, 4, height / f, width / f)
    """

    negative_prompt: str | Sequence[str] = ""
    scheduler: str | Scheduler | None = None
    scheduler_options: dict[str, Any] | None = None
    steps: int = 25
    guidance_scale: float = 7.5
    guidance_rescale: float = 0.0
    seed: int | Sequence[int] | None = 0
    num_images: int = 1
    height: int | None = None
    width: int | None = None
    latents: Tensor | None = None

    def __post_init__(self):
        whole_number("steps", self.steps, 1)
        real_number("guidance_scale", self.guidance_scale)
        real_number("guidance_rescale", self.guidance_rescale, 0, 1)
        whole_number("num_images", self.num_images, 1)
        if self.latents is not None and not (isinstance(self.latents, Tensor) and self.latents.ndim == 4):
            raise ValueError("latents must be a tensor (b, 4, h, w)")


def takes_options(function: Function) -> Function:
    """Show the options, which the function takes as `**options`, in its signature, where help and notebooks look."""

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        signature.bind(*args, **kwargs)  # TypeError for an unknown name, as if they were spelt out
        return function(*args, **kwargs)

    own = inspect.signature(function)
    named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = inspect.signature(Options).parameters.values()
    signature = checked.__signature__ = own.replace(parameters=[*named, *options])
    return checked


def side(argument: str, value: object, factor: int) -> int:
    """A width or height in pixels: a multiple of `factor`, the pixels that share one latent."""
    number = whole_number(argument, value, 1)
    if number % factor:
        below, above = number // factor * factor, (number // factor + 1) * factor
        nearest = f"the nearest are {below} and {above}" if below else f"the nearest is {above}"
        raise ValueError(f"{argument}={number} must be a multiple of {factor}; {nearest}")
    return number


# ---- one value or a list


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def broadcast(num_images: int, **arguments: Any) -> dict[str, list[Any]]:
    """Bring arguments that are each one value or a list to one length, each entry `num_images` times in a row."""
    lists = {name: listed(value) for name, value in arguments.items()}
    for name, values in lists.items():
        if not values:
            raise ValueError(f"{name} is an empty list; give at least one")
    lengths = {name: len(values) for name, values in lists.items() if len(values) > 1}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise ValueError(f"lists must have one length, or be one value; got {found}")
    length = max(lengths.values(), default=1)
    whole = {name: values if len(values) == length else values * length for name, values in lists.items()}
    return {name: [v for v in values for _ in range(num_images)] for name, values in whole.items()}


def seeds_of(seed: int | Sequence[int] | None, count: int) -> list[int]:
    """One seed per picture: seed, seed + 1, ... for a number, a list as it is, and from a random start for None."""
    if isinstance(seed, (list, tuple)):
        if len(seed) != count:
            raise ValueError(f"seed is a list of {len(seed)} for {count} pictures; give one per picture, or one number")
        return [whole_number("seed", s, 0, MAX_SEED) for s in seed]
    first = secrets.randbelow(2**32) if seed is None else whole_number("seed", seed, 0, MAX_SEED - count + 1)
    return list(range(first, first + count))


# ---- precision


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """torch.float32, torch.bfloat16 or torch.float16, also by name. Raises ValueError for anything else."""
    found = DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ValueError(f"dtype={dtype!r} is not supported; choose one of {', '.join(DTYPES)}")
    return found


def check_precision(device: torch.device, dtype: torch.dtype) -> None:
    """Raises ValueError if this torch cannot compute in `dtype` on `device`, as older ones cannot in float16 on a CPU."""
    x = torch.ones(1, 1, 2, 2, device=device, dtype=dtype)
    try:
        torch.nn.functional.group_norm(torch.nn.functional.conv2d(x, x[..., :1, :1]), 1)
    except RuntimeError as error:
        name = str(dtype).removeprefix("torch.")
        raise ValueError(f"dtype={name} does not work on {device} with torch {torch.__version__}; use float32") from error
