"""Checks for the exercises. They say what is wrong, not only that it is.

    check("00.1", my_function)      prints "correct", "not done yet", or the mistake and a hint

An exercise has the number of its notebook and its own. A check is a function that takes the learner's answer and returns
None if it is right, else one sentence that names the mistake. Whatever the answer does (raise, return nothing, return a
list), `check` only prints: it never stops "Run All". The text is plain and stable, so that it reads the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def exercise(name: str, hint: str) -> Callable:
    """Decorator: the function checks the exercise of this name."""

    def register(examine: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
        EXERCISES[name] = Exercise(examine, hint)
        return examine

    return register


def verdict(name: str, answer: Any) -> str:
    """What `check` prints. Raises ValueError for an exercise that does not exist."""
    module = CHECK_MODULES.get(str(name).split(".")[0])
    if module:
        import_module(f"{__name__}.{module}")
    if name not in EXERCISES:
        known = ", ".join(sorted(EXERCISES)) or f"those of notebooks {', '.join(CHECK_MODULES)}"
        raise ValueError(f"there is no exercise {name!r}; there are {known}")
    hint = EXERCISES[name].hint
    try:
        if answer is None or answer is ...:
            raise NotDone
        mistake = EXERCISES[name].examine(answer)
    except NotDone:
        return f"[{name}] not done yet: replace the ... and run this cell again"
    except Exception as error:  # a learner's error is an answer, not a crash
        mistake = f"your code raised {type(error).__name__}: {error}"
    return f"[{name}] correct" if mistake is None else f"[{name}] not yet: {mistake}\n  hint: {hint}"


def check(name: str, answer: Any) -> None:
    """Print whether the answer to an exercise is right, and if not, what the mistake is."""
    print(verdict(name, answer))


def call(function: Callable, *arguments: Any) -> Any:
    """The function's result. Raises NotDone if it has none yet, TypeError if it is no function."""
    if not callable(function):
        raise TypeError(f"the answer must be a function; it is {type(function).__name__}")
    result = function(*arguments)
    if result is None or result is ...:
        raise NotDone
    return result


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
