"""Checks for the exercises. They say what is wrong, not only that it is.

    check("00.1", my_function)                      prints "correct", "not done yet", or the mistake
    check("00.1", my_function, solution=True)       the way to the solution, too

The first time, an answer that is wrong is told its mistake and no more; the second time there is a nudge, the third time the
solution in words. The count is that of the running kernel and is kept nowhere.

An exercise has the number of its notebook and its own. A check is a function that takes the learner's answer and returns
None if it is right, else one sentence that names the mistake, or `Unnamed` if it does not know which one it is. Whatever the
answer does (raise, return nothing, return a list), `check` only prints: it never stops "Run All". The text is plain and stable.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import combinations
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
    "07a": "training_objective",
    "07b": "diffusion_training",
    "08": "ddpm",
    "09": "ddim",
    "10": "euler",
    "11": "euler_ancestral",
    "12": "guidance",
    "13": "full_size",
    "14": "playground",
    "15": "gallery",
    "16": "better_steps",
    "17": "own_pictures",
    "18": "flow_matching",
}


@dataclass(frozen=True)
class Exercise:
    """A check, with what helps after the second and the third mistake."""

    examine: Callable[[Any], str | None]
    nudge: str
    solution: str


EXERCISES: dict[str, Exercise] = {}


class Unnamed(str):
    """What a check says of an answer whose mistake it does not know: which numbers it should have, and has."""


class NotDone(Exception):
    """The answer is still the stub."""


@dataclass(frozen=True)
class Outcome:
    """What a check found: the state, how much of it is right (0 ... 1), what it said, and whether that names the mistake."""

    state: Literal["correct", "wrong", "not done"]
    share: float
    said: str
    named: bool = True


def points_of(name: str) -> int:
    """What an exercise counts: 1 for the warm-up, 2 for the core, 3 for the stretch, as it stands in its notebook."""
    return int(name.split(".")[1])


def exercise(name: str, nudge: str, solution: str) -> Callable:
    """Decorator: the function checks the exercise of this name. nudge: a pointer, without the formula; solution: in words."""

    def register(examine: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
        EXERCISES[name] = Exercise(examine, nudge, solution)
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
        return raised(error)
    if mistake is None:
        return Outcome("correct", 1.0, "correct")
    return Outcome("wrong", _passed[0], mistake, not isinstance(mistake, Unnamed))


def raised(error: Exception) -> Outcome:
    """What an answer that raised an error is told. The errors that have one cause are explained."""
    said = f"your code raised {type(error).__name__}: {error}"
    for words, cause in _CAUSES.items():
        if words in str(error):
            return Outcome("wrong", 0.0, f"{said}. {cause}")
    return Outcome("wrong", 0.0, said, named=False)


_CAUSES = {  # words of an error -> what they mean
    "must match the size of tensor": "Two shapes do not fit together: print them. One number for each picture, (b,), multiplies "
    "pictures (b, c, h, w) as .view(-1, 1, 1, 1)",
    "shapes cannot be multiplied": "The inner sizes of a matrix product must be equal: is a transpose missing? Print both shapes",
    "channels instead": "A layer got another number of channels than it is for: torch.cat([x, skip], dim=1) joins them",
    "only one element tensors can be converted": "One number is asked for, and this is a tensor of several: take a mean or a sum",
    "a Tensor with": "One number is asked for, and this is a tensor of several: take a mean or a sum",
    "has become complex": "The root of a negative number is complex in Python",
    "was evaluated at σ = 0": "A step to 0 has no middle in λ: it uses the prediction at its start alone",
    "has no attribute": "Look the name up in the notebook, or list what there is with dir(...)",
    "positional argument": "The arguments of your function must be those of the notebook, in their order",
    "is not defined": "Define or import it in the cell of your answer, or above",
    "referenced before assignment": "It has no value yet where it is used: give it one before the loop",
    "cannot access local variable": "It has no value yet where it is used: give it one before the loop",
}


_tries: Counter[str] = Counter()  # wrong answers in this process, by exercise


def verdict(name: str, answer: Any, tries: int = 1, solution: bool = False) -> str:
    """What `check` prints of an answer that is wrong for the `tries`-th time. Raises ValueError for an unknown exercise."""
    found = outcome(name, answer)
    help_text = [f"\n  nudge: {EXERCISES[name].nudge}"] if found.state == "wrong" and tries > 1 else []
    if solution or (found.state == "wrong" and tries > 2):
        help_text.append(f"\n  solution: {EXERCISES[name].solution}")
    if found.state == "not done":
        return f"[{name}] not done yet: replace the ... and run this cell again" + "".join(help_text)
    return f"[{name}] " + (f"not yet: {found.said}" if found.state == "wrong" else "correct") + "".join(help_text)


def check(name: str, answer: Any = ..., solution: bool = False) -> None:
    """Print whether the answer to an exercise is right, and if not, what the mistake is.

    The second wrong answer gets a nudge as well, the third the solution in words, which `solution=True` gives at any time.
    """
    text = verdict(name, answer, _tries[name] + 1, solution)
    _tries[name] += text.startswith(f"[{name}] not yet")
    print(text)


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


def unknown(found: Any, right: Any, said: str) -> str:
    """What is told of an answer that fits no mistake of its check: what is wrong with its numbers in general, or else `said`."""
    if isinstance(found, (int, float)) and isinstance(right, (int, float)) and right and math.isfinite(found):
        for factor, words in _FACTORS.items():
            if math.isclose(found, factor * right, rel_tol=1e-4):
                return f"{said}: {words}"
    if not isinstance(found, Tensor) or not isinstance(right, Tensor) or found.shape != right.shape or found.numel() < 2:
        return Unnamed(said)
    a, b = found.detach().double(), right.detach().double()
    if not a.isfinite().all():
        return f"{said}: some are not finite. Is there a division by 0, the root of a negative number, the logarithm of 0?"
    factor = float((a * b).sum() / b.square().sum().clamp(min=1e-12))
    if close(a, -b):
        return f"{said}: all have the wrong sign"
    if abs(factor) > 1e-6 and close(a, factor * b):
        return f"{said}: all are {factor:.4g} times as large as they should be"
    if close(a - a.mean(), b - b.mean()):
        return f"{said}: all are {float((a - b).mean()):.4g} too large; something is added that should not be"
    if a.shape[0] > 1 and close(a.flip(0), b):
        return f"{said}: they are in the opposite order"
    if a.shape[0] > 1 and close(a[:1], b[:1]):
        return f"{said}, except for the first of the batch: is it treated for itself, or a value of the first used for all?"
    return Unnamed(said)


_FACTORS = {  # what is wrong with a number that is so many times the right one
    -1.0: "it has the wrong sign",
    2.0: "it is twice as large as it should be",
    0.5: "it is half of what it should be",
    10.0: "it is ten times as large as it should be",
    0.1: "it is a tenth of what it should be",
    100.0: "it is a hundred times as large as it should be",
    0.01: "it is a hundredth of what it should be",
    2.0**-10: "it is in units of 1024",
    2.0**-20: "it is in units of 1024²",
    2.0**-30: "it is in units of 1024³",
}


_Switches = Mapping[str, Mapping[str, Any]]


def alone_and_in_pairs(mistakes: _Switches) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each mistake with the switches that make it; then two at a time, since who makes one may make another."""
    for mistake, switches in mistakes.items():
        yield mistake, dict(switches)
    for (one, switches), (other, further) in combinations(mistakes.items(), 2):
        if not switches.keys() & further.keys():
            yield f"two mistakes: {one}; and: {other}", {**switches, **further}


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
