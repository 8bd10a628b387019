"""One clear error for a wrong value: TypeError for a wrong kind, ValueError out of range. What this machine can compute with."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import os
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

DTYPES = ("float32", "bfloat16", "float16")

P = ParamSpec("P")
R = TypeVar("R")

ELSEWHERE = {  # names of diffusers and of other programs -> ours
    "num_inference_steps": "steps",
    "num_images_per_prompt": "num_images",
    "generator": "seed",
    "sampler": "scheduler",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "eta": "scheduler_options",
}


def arguments_by_name(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a method: an argument of another name raises a TypeError that says which name is meant.

    What is given by name only, and was not given, is as the object's `own_arguments` say, if they do.
    """
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in kwargs.items():
            if name not in known:
                raise TypeError(f"{name}={value!r:.60} is no argument; {meant(name, known)}")
        own: Any = getattr(args[0], "own_arguments", None)
        given: Any = kwargs if own is None else {**own(kwargs), **kwargs}
        return function(*args, **given)

    return checked


def meant(name: str, known: Collection[str]) -> str:
    """Which of the known names is meant by another one, as the end of a sentence; all of them if none is near."""
    if ELSEWHERE.get(name) in known:
        return f"did you mean {ELSEWHERE[name]}?"
    near = [other for other in known if name in other or other in name] or get_close_matches(name, known, 2)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"


def one_of(argument: str, value: object, allowed: Sequence[object]) -> None:
    """Raises ValueError if the value is none of those allowed."""
    try:
        known = bool(value in allowed)
    except (RuntimeError, ValueError):  # of a tensor, or an array, of several values
        known = False
    if not known:
        raise ValueError(f"{argument}={value!r} is not supported; choose one of {', '.join(map(repr, allowed))}")


def whole_number(argument: str, value: object, low: int, high: int | None = None) -> int:
    """The value as an int, low ... high."""
    allowed = f"a whole number, {low} or more" if high is None else f"a whole number, {low} ... {high}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # numpy's and torch's integers too, but no floats
    except TypeError:
        raise TypeError(f"{argument}={value!r:.60} must be {allowed}") from None
    if isinstance(value, bool) or number < low or (high is not None and number > high):
        raise ValueError(f"{argument}={value!r:.60} must be {allowed}")
    return number


def real_number(argument: str, value: object, low: float = -math.inf, high: float = math.inf, finite: bool = True) -> float:
    """The value as a float, low ... high; infinity only if not `finite`."""
    some = "a finite number" if finite and math.isinf(high) else "a number"
    span = "" if math.isinf(low) else f", {low:g} or more" if math.isinf(high) else f", {low:g} ... {high:g}"
    wrong = f"{argument}={value!r:.60} must be {some}{span}"
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        raise TypeError(wrong)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError, RuntimeError):  # a tensor, or an array, of several numbers or a complex one
        raise TypeError(wrong) from None
    if not (low <= number <= high) or (finite and math.isinf(number)):
        raise ValueError(wrong)
    return number


def as_path(path: str | Path) -> Path:
    """The path, with ~ as the user's folder; where there is no such user, as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def exists(path: Path) -> bool:
    """Whether something is there; not, for a name that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long; with a zero byte
        return False


def check_file(argument: str, path: Path) -> Path:
    """The path, if a file could be written there: asked before the work, not after it. Raises ValueError if not."""
    path = as_path(path)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"{argument} {path}: no file can be written there")
    return path


def quiet() -> bool:
    """Whether LDM_QUIET=1 turns all progress bars off."""
    return os.environ.get("LDM_QUIET") == "1"


def whole_part(steps: int, share: float) -> int:
    """`share` of the steps, rounded down: 63 for 0.7 of 90, whose product in binary fractions is a little less than 63."""
    return math.floor(round(steps * share, 6))


def warn(message: str) -> None:
    """A UserWarning that points at the line outside this package (and torch's decorators) that led to it."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in (__package__, "torch"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


# ---- where and how exactly to compute


def pick_device(device: torch.device | str | None = None) -> torch.device:
    """`device`, checked; for None the fastest this machine has: cuda, mps, cpu. Raises ValueError if it is not here."""
    here = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    try:
        torch.empty(0, device=here[0] if device is None else device)
        return torch.device(here[0] if device is None else device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch without CUDA asserts
        raise ValueError(f"device={str(device)!r} is not available; this machine has {', '.join(here)}") from error


def memory_bytes() -> int | None:
    """The size of the main memory; None where it cannot be found out."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        pass
    try:
        import psutil  # comes with Jupyter
    except ImportError:
        return None
    return psutil.virtual_memory().total


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """torch.float32, torch.bfloat16 or torch.float16, also by name. Raises ValueError for anything else."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not supported; choose one of {', '.join(DTYPES)}")
    return getattr(torch, name)


def check_precision(device: torch.device, dtype: torch.dtype) -> None:
    """Raises ValueError if this torch cannot compute in `dtype` on `device`, as older ones cannot in float16 on a CPU."""
    try:
        x = torch.ones(1, 1, 2, 2, device=device, dtype=dtype)
        torch.nn.functional.group_norm(torch.nn.functional.conv2d(x, x[..., :1, :1]), 1)
    except (RuntimeError, TypeError) as error:  # older MPS cannot even make such a tensor
        name = str(dtype).removeprefix("torch.")
        raise ValueError(f"dtype={name} does not work on {device} with torch {torch.__version__}; use float32") from error
