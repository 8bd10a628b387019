"""Checks for the exercises. They say what is wrong, not only that it is.

    check("00.1", my_function)      prints "correct", "not done yet", or the mistake and a hint

An exercise has the number of its notebook and its own. A check is a function that takes the learner's answer and returns
None if it is right, else one sentence that names the mistake. Whatever the answer does (raise, return nothing, return a
list), `check` only prints: it never stops "Run All". The text is plain and stable, so that it reads the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion

CHECK_MODULES = {  # number of the notebook -> module of this folder that holds its checks
    "00": "start_here",
    "01": "noise",
    "02": "autoencoder",
    "03": "autoencoder_training",
    "04": "attention",
    "05": "clip",
    "06": "unet",
    "07": "diffusion_training",
    "08": "ddpm",
    "09": "ddim",
    "10": "euler",
    "11": "euler_ancestral",
    "12": "guidance",
    "13": "full_size",
    "14": "playground",
    "15": "gallery",
}


@dataclass(frozen=True)
class Exercise:
    """A check: what looks at an answer, and the hint that goes with each mistake."""

    examine: Callable[[Any], str | None]
    hint: str


EXERCISES: dict[str, Exercise] = {}


class NotDone(Exception):
    """The answer is still the stub."""


@dataclass(frozen=True)
class Outcome:
    """What a check found: the state, how much of it is right (0 ... 1), and in words what it said."""

    state: Literal["correct", "wrong", "not done"]
    share: float
    said: str


def points_of(name: str) -> int:
    """What an exercise counts: 1 for the warm-up, 2 for the core, 3 for the stretch, as it stands in its notebook."""
    return int(name.split(".")[1])


def exercise(name: str, hint: str) -> Callable:
    """Decorator: the function checks the exercise of this name."""

    def register(examine: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
        EXERCISES[name] = Exercise(examine, hint)
        return examine

    return register


_Case = TypeVar("_Case")
_passed = [0.0]  # the share of the cases that the answer under examination has passed


def cases(values: Iterable[_Case]) -> Iterator[_Case]:
    """The cases of a check, one after the other. When the check ends at one of them, those before it count as a partly right
    answer."""
    values = list(values)
    for passed, value in enumerate(values):
        _passed[0] = passed / len(values)
        yield value


def outcome(name: str, answer: Any) -> Outcome:
    """Examine an answer. Raises ValueError for an exercise that does not exist; whatever the answer raises is an outcome."""
    module = CHECK_MODULES.get(str(name).split(".")[0])
    if module:
        import_module(f"{__name__}.{module}")
    if name not in EXERCISES:
        known = ", ".join(sorted(EXERCISES)) or f"those of notebooks {', '.join(CHECK_MODULES)}"
        raise ValueError(f"there is no exercise {name!r}; there are {known}")
    _passed[0] = 0.0
    try:
        if answer is None or answer is ...:
            raise NotDone
        mistake = EXERCISES[name].examine(answer)
    except NotDone:
        return Outcome("not done", 0.0, "not done yet")
    except Exception as error:  # a learner's error is an answer, not a crash
        return Outcome("wrong", 0.0, f"your code raised {type(error).__name__}: {error}")
    return Outcome("correct", 1.0, "correct") if mistake is None else Outcome("wrong", _passed[0], mistake)


def verdict(name: str, answer: Any) -> str:
    """What `check` prints. Raises ValueError for an exercise that does not exist."""
    found = outcome(name, answer)
    if found.state == "not done":
        return f"[{name}] not done yet: replace the ... and run this cell again"
    if found.state == "correct":
        return f"[{name}] correct"
    return f"[{name}] not yet: {found.said}\n  hint: {EXERCISES[name].hint}"


def check(name: str, answer: Any) -> None:
    """Print whether the answer to an exercise is right, and if not, what the mistake is."""
    print(verdict(name, answer))


def call(function: Callable, *arguments: Any) -> Any:
    """The function's result, as `plain` makes it. Raises NotDone if it has none yet, TypeError if it is no function."""
    if not callable(function):
        raise TypeError(f"the answer must be a function; it is {type(function).__name__}")
    result = function(*arguments)
    if result is None or result is ...:
        raise NotDone
    return plain(result)


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's, and what is derived from a number, text, collection or tensor as that itself: a class that
    says it equals everything gets no further."""
    if isinstance(value, Tensor):
        with torch._C.DisableTorchFunctionSubclass():
            return value.as_subclass(Tensor) if type(value) is not Tensor else value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float.__add__(value, 0.0)
    if isinstance(value, int) and not isinstance(value, bool):  # of which nothing can be derived
        return int.__add__(value, 0)
    if isinstance(value, str):
        return str.__add__(value, "")
    if isinstance(value, tuple):
        return tuple(map(plain, tuple.__iter__(value)))
    if isinstance(value, list):
        return list(map(plain, list.__iter__(value)))
    if isinstance(value, set):
        return set(map(plain, set.__iter__(value)))
    if isinstance(value, frozenset):
        return frozenset(map(plain, frozenset.__iter__(value)))
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in dict.items(value)}
    return value


def shape_of(found: Any) -> str:
    """What a learner returned, in a message: the shape of a tensor, the type of anything else."""
    return str(tuple(found.shape)) if isinstance(found, Tensor) else type(found).__name__


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Of one shape, and equal to rounding: the largest difference is at most `tolerance` of the largest number in b."""
    return a.shape == b.shape and bool((a.double() - b.double()).abs().max() <= tolerance * b.abs().max().clamp(min=1e-6))


@lru_cache(maxsize=1)
def shipped_model() -> StableDiffusion:
    """The emoji model on the CPU, loaded once."""
    from ..pipeline import load_pipeline

    return load_pipeline("emoji", device="cpu")
