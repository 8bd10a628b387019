"""Notebook 14: fair comparisons, previews, and how many steps are enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ..pipeline import StableDiffusion
from . import NotDone, Unnamed, call, cases, exercise, shipped_model

# ---- 1. What differs between the columns of a comparison


BASE = {"prompt": "a cat", "scheduler": "ddim", "steps": 25, "guidance_scale": 7.5, "seed": 0}
COLUMNS: list[tuple[list[dict[str, Any]], set[str]]] = [
    ([BASE, BASE | {"scheduler": "euler"}], {"scheduler"}),
    ([BASE, BASE, BASE | {"guidance_scale": 3.0}], {"guidance_scale"}),
    ([BASE, BASE | {"steps": 50, "guidance_scale": 3.0}], {"steps", "guidance_scale"}),
    ([BASE, BASE | {"steps": 0}], {"steps"}),
    ([BASE, dict(BASE), dict(BASE)], set()),
]


@exercise(
    "14.1",
    nudge="For one setting, collect its values in all columns. When are they all the same?",
    solution="for each name in columns[0]: are the values of this name in all columns the same?",
)
def what_differs(answer: Callable) -> str | None:
    """14.1: the names of the settings that are not the same in all columns."""
    for columns, right in cases(COLUMNS):
        found = call(answer, [dict(column) for column in columns])
        shown = " | ".join(", ".join(f"{n}={c[n]!r}" for n in right or ("seed",)) for c in columns)
        if not isinstance(found, (set, frozenset)):
            return f"the result must be a set of names; yours is {found!r}"
        if found == right:
            continue
        if any(not isinstance(name, str) or name not in BASE for name in found):
            return f"the result holds {found - BASE.keys()}, which are no names of settings: return the names, not the values"
        if not right:
            return f"the columns are all equal, so that nothing differs: the empty set, and yours is {found}"
        if found == BASE.keys() and len(right) < len(BASE):
            return f"you return all names: in {shown}, some are the same in all columns"
        if found == BASE.keys() - right:
            return "you return what is equal: the others are asked for"
        if len(columns) > 2 and not found:
            return "you look at the first two columns only: here the third differs"
        if len(right) > 1 and found < right:
            return f"two settings differ here, and you find only {found}: such a comparison shows nothing, and nobody notices"
        if right - found and any(column[name] == 0 for column in columns for name in right):
            return f"in {shown}: 0 is a value like any other; do not test `if value`"
        return Unnamed(f"in {shown} the result should be {right}, and yours is {found}")
    return None


# ---- 2. Previews


PROMPT = "a rocket in the style of fluent"
OPTIONS: dict[str, Any] = {"scheduler": "ddim", "steps": 7, "seed": 5}


def pictures_of(answer: Callable, pipe: StableDiffusion, every: int) -> list[Image.Image]:
    """What the answer yields for the prompt. Raises TypeError for anything but a generator of pictures."""
    if not callable(answer):
        raise TypeError(f"the answer must be a generator function; it is {type(answer).__name__}")
    made = answer(pipe, PROMPT, every, **OPTIONS)
    if made is None or made is ...:
        raise NotDone
    if not hasattr(made, "__next__"):
        raise TypeError(f"use `yield`: the result must be a generator, so that one can stop it; it is {type(made).__name__}")
    return list(made)


@exercise(
    "14.2",
    nudge="Count on your fingers: after which steps does every = 3 show something, and what comes at the end?",
    solution="preview when (step.index + 1) % every == 0; after the loop, decode the step.latents of the last step",
)
def previews(answer: Callable) -> str | None:
    """14.2: a generator of a preview every so many steps, and of the result."""
    pipe = shipped_model()
    steps = list(pipe.stream(PROMPT, **OPTIONS))
    guesses = [pipe.decode(step.denoised)[0] for step in steps]
    noisy = [pipe.decode(step.latents)[0] for step in steps]
    final = noisy[-1]
    for every in cases((3, 2)):
        found = pictures_of(answer, pipe, every)
        shown = [i for i in range(len(steps) - 1) if (i + 1) % every == 0]
        right = [*(guesses[i] for i in shown), final]
        if not all(isinstance(picture, Image.Image) for picture in found):
            kinds = {type(picture).__name__ for picture in found} - {"Image"}
            return f"yield pictures: pipe.decode(...)[0]. Yours are of type {', '.join(sorted(kinds))}"
        if same(found, right):
            continue
        if not found:
            raise NotDone
        if len(found) == len(right) and same(found[:-1], right[:-1]) and same(found[-1:], guesses[-1:]):
            return "the last picture is still a prediction, step.denoised: the result is step.latents, after the last step"
        if len(found) == len(right) and same(found[:-1], [noisy[i] for i in shown]):
            return "your previews are the noisy latents: what the model expects to come out is step.denoised"
        if same(found, [*(guesses[i] for i in range(0, len(steps) - 1, every)), final]):
            return f"you begin with the first step: every {every} steps means after step {every}, {2 * every}, ..."
        if same(found, right[:-1]):
            return "the result itself is missing: after the loop, yield the picture of the last latents"
        if len(found) in (len(steps), len(steps) + 1):
            return f"you show every step: every={every} asks for one in {every}, and the result"
        return Unnamed(f"for 7 steps and every={every}, {len(right)} pictures should come; yours are {len(found)}, or others")
    return None


def same(some: list[Image.Image], others: list[Image.Image]) -> bool:
    """Equal but for one level of 256, which rounding on another device may change."""
    return len(some) == len(others) and all(
        np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).max() <= 1 for a, b in zip(some, others) if a.size == b.size
    )


# ---- 3. How many steps are enough


class Recorder:
    """Stands where a pipeline would: its pictures come closer to that of 64 steps by a known rule, and it notes each call."""

    def __init__(self, gray: dict[int, int]):
        self.gray = gray
        self.calls: list[dict[str, Any]] = []

    def __call__(self, prompt: str, **options: Any) -> list[Image.Image]:
        self.calls.append({"prompt": prompt, **options})
        level = self.gray.get(options.get("steps", 25), 0)
        picture = Image.new("RGB", (8, 8), (level, level, level))
        picture.paste((level, level, 0), (0, 0, 8, 1))  # one row that is far off: the mean is not the maximum
        return [picture if options.get("steps") != 64 else Image.new("RGB", (8, 8), (level, level, level))]


# steps -> gray. Not falling all the way: 8 is closer than 16, as ancestral samplers may be.
GRAY = {2: 160, 4: 130, 8: 104, 16: 108, 32: 101, 64: 100}
CANDIDATES = (2, 4, 8, 16, 32)


@exercise(
    "14.3",
    nudge="Print the mean difference for each number of steps, and its type before the subtraction.",
    solution="64 steps once; then 2, 4, 8, 16, 32, each compared by np.abs(np.float32(a) - np.float32(b)).mean()",
)
def enough_steps(answer: Callable) -> str | None:
    """14.3: the smallest number of steps whose picture is near enough to that of 64."""
    recorder = Recorder(GRAY)
    reference = np.asarray(recorder("p", steps=64)[0], np.float32)
    apart = {n: np.asarray(recorder("p", steps=n)[0], np.float32) - reference for n in CANDIDATES}

    def first(error: Callable[[np.ndarray], float], tolerance: float) -> int | None:
        return next((n for n in CANDIDATES if error(apart[n]) <= tolerance), None)

    for tolerance in cases((15.0, 35.0, 6.0)):
        recorder = Recorder(GRAY)
        found = call(answer, recorder, "a cat", "euler_a", 3, tolerance)
        right = first(lambda d: np.abs(d).mean(), tolerance)
        if not recorder.calls:
            return "your function never draws: call pipe(prompt, scheduler=..., steps=..., seed=...)"
        for name, value in (("seed", 3), ("scheduler", "euler_a"), ("prompt", "a cat")):
            used = {str(c.get(name, "its default")) for c in recorder.calls}
            if used != {str(value)}:
                yours = ", ".join(sorted(used))
                return f"{name} must be {value!r} in every call, else you compare two things at once; yours: {yours}"
        if 64 not in [c.get("steps") for c in recorder.calls]:
            return "draw the picture of 64 steps, too: all others are compared with it"
        if found == right and isinstance(found, int):
            continue
        if found == 64:
            return "you find no number close enough: do you compare the largest difference of a pixel? The mean is asked for"
        if found == first(lambda d: d.astype(np.int16).astype(np.uint8).mean(), tolerance):
            return "pictures are unsigned bytes: 100 - 130 wraps around to 226. Make them np.float32 first"
        if found == next((n for n in reversed(CANDIDATES) if np.abs(apart[n]).mean() <= tolerance), None):
            return "you return the largest number of steps that is close enough; the smallest is asked for"
        return Unnamed(f"with tolerance {tolerance:g} the smallest number of steps is {right}; yours is {found!r}")
    return None
