"""Runs that are kept, and others that go on from their middle with something changed: a tree of outcomes. No widget in here.

*_, cat = draw_kept(pipe, "a cat in the style of noto", steps=16)
*_, hat = branch(pipe, cat, after=6, prompt="a rocket in the style of noto")
tree_figure([cat, hat])
"""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ..checks import meant, whole_number
from ..figures.canvas import DPI, new_figure
from ..inputs import Inputs, changed_settings, check_prompt, choose_scheduler, scheduler_name
from ..pipeline import Run, StableDiffusion
from ..prompts import read_weights
from ..schedulers import Scheduler, scheduler_class
from ..schedulers.switching import switch_scheduler
from .drawing import frames_of, options_of, settings_in_words, started

CHANGEABLE = ("prompt", "negative_prompt", "guidance_scale", "scheduler", "scheduler_options", "steps")
CELL, SHOWN, LINE = (208, 212), 128, 15  # pixels of a node in the figure, of its picture, of a line of text


@dataclass(frozen=True, eq=False)
class Moment:
    """A run between two evaluations of the network: all that the rest of it depends on, apart from its inputs."""

    latents: Tensor  # (b, 4, h, w) float32, at the scheduler's scale
    scheduler: Scheduler  # with what it keeps of earlier evaluations
    noise: list[Tensor]  # the states of the pictures' random generators


@dataclass(eq=False)
class KeptRun:
    """A run with all its moments. It begins in noise, or in a moment of another one, its parent."""

    inputs: Inputs
    note: str  # what the pipeline warned of
    parent: KeptRun | None = None
    after: int = 0  # evaluations of the parent before it: its steps, of Heun's method its half steps
    moments: list[Moment] = field(default_factory=list)  # before the first evaluation, and after each
    previews: list[list[Image.Image]] = field(default_factory=list)  # after each: the predicted pictures, at last the result

    @property
    def total(self) -> int:
        """How many evaluations it has when it is finished."""
        return len(self.inputs.timesteps)

    @property
    def is_finished(self) -> bool:
        """Whether the last of its previews are its pictures."""
        return len(self.previews) == self.total

    @property
    def settings(self) -> dict[str, Any]:
        """Of its first picture, as in the picture's `.info`: "steps" are those it takes itself, "branch" is what was before."""
        return self.inputs.settings[0]

    def steps_left(self, after: int) -> int:
        """How many steps follow that evaluation; in the middle of one of Heun's, those after it."""
        return -(-(self.total - after) // self.inputs.scheduler.evaluations_per_step)


def draw_kept(pipe: StableDiffusion, prompt: str, **settings: Any) -> Iterator[KeptRun]:
    """`pipe(prompt, ...)`, kept: yields the run after each step, one moment longer. settings: as of `inputs.Options`."""
    run, note = started(pipe, lambda: pipe.prepare(prompt, options_of(pipe, settings)))
    yield from _keep(pipe, run, KeptRun(run.inputs, note))


def branch(pipe: StableDiffusion, parent: KeptRun, after: int, **changes: Any) -> Iterator[KeptRun]:
    """Go on from the parent's moment after so many evaluations, with something changed: yields the new run after each step.

    changes: of `CHANGEABLE`. "steps" are those from there on; without it, as many as were left. The noise of the steps goes on in
    the parent's sequence. With the parent's scheduler and as many steps as were left, the parent's own timesteps follow, and
    without any change its own picture. Another scheduler or number of steps begins a plan at exactly this noise level
    (`schedulers.switching`).

    Raises TypeError or ValueError for a wrong change, as `pipe(...)` does, when the first step is asked for.
    """
    for name, value in changes.items():
        if name not in CHANGEABLE:
            raise TypeError(f"{name}={value!r:.60} is no change that a run can go on with; {meant(name, CHANGEABLE)}")
    whole_number("after", after, 0, min(parent.total, len(parent.moments)) - 1)
    latents = parent.moments[after].latents

    def prepare() -> Inputs:
        nonlocal latents
        inputs, latents = _changed_inputs(pipe, parent, after, changes)
        pipe.advise(inputs)
        return inputs

    run, note = started(pipe, prepare)
    for generator, state in zip(run.generators, parent.moments[after].noise, strict=True):
        generator.set_state(state)
    yield from _keep(pipe, replace(run, latents=latents), KeptRun(run.inputs, note, parent, after))


def _changed_inputs(pipe: StableDiffusion, parent: KeptRun, after: int, changes: dict[str, Any]) -> tuple[Inputs, Tensor]:
    """What the rest of the run is made of, and the latents that it begins with."""
    moment, before = parent.moments[after], parent.inputs
    steps = changes.get("steps", parent.steps_left(after))
    asked = {name: value for name, value in changes.items() if name != "prompt"} | {"steps": steps}
    if "scheduler" in changes:  # the settings of the one before are not its own
        asked = {"scheduler_options": pipe.own_arguments(changes).get("scheduler_options"), **asked}
    options = replace(before.options, **asked)

    # 1. The words
    texts = {"prompt": before.prompts, "negative_prompt": before.negative_prompts}
    for argument in texts.keys() & changes.keys():
        check_prompt(changes[argument], argument)
        if options.prompt_weights:
            read_weights(changes[argument], argument)
        texts[argument] = [changes[argument]] * len(before.prompts)

    # 2. The noise levels
    scheduler, timesteps, latents = copy.deepcopy(moment.scheduler), before.timesteps[after:], moment.latents
    if {"scheduler", "scheduler_options"} & changes.keys():
        scheduler = choose_scheduler(pipe.scheduler, options)
    as_before = type(scheduler) is type(moment.scheduler) and changed_settings(scheduler) == changed_settings(moment.scheduler)
    if as_before and steps == parent.steps_left(after):
        scheduler = copy.deepcopy(moment.scheduler)
    else:
        latents = switch_scheduler(latents, timesteps[0], moment.scheduler, scheduler, steps)
        timesteps = scheduler.timesteps

    # 3. What the pictures say of themselves
    said = {
        "scheduler": scheduler_name(scheduler),
        "scheduler_options": changed_settings(scheduler),
        "steps": int(steps),
        "guidance_scale": float(options.guidance_scale),
    }
    settings = [
        {**of, "prompt": prompt, "negative_prompt": negative, **said, "branch": {"after": int(after), "of": of}}
        for of, prompt, negative in zip(before.settings, texts["prompt"], texts["negative_prompt"], strict=True)
    ]
    changed: dict[str, Any] = {
        "prompts": texts["prompt"],
        "negative_prompts": texts["negative_prompt"],
        "options": options,
        "settings": settings,
    }
    return replace(before, scheduler=scheduler, timesteps=timesteps, **changed), latents


def _keep(pipe: StableDiffusion, run: Run, kept: KeptRun) -> Iterator[KeptRun]:
    # The run itself is not kept: to its words hangs what the engine computes once a run, which is large.
    def moment(latents: Tensor) -> Moment:
        return Moment(latents, copy.deepcopy(run.inputs.scheduler), [generator.get_state() for generator in run.generators])

    kept.moments.append(moment(run.latents))
    for frame in frames_of(pipe, run, kept.note, every_step=True):
        assert frame.step is not None  # there is always a step to take
        kept.moments.append(moment(frame.step.latents))
        kept.previews.append(frame.pictures)
        yield kept


# ---- the tree, in words and as a picture


def changes_in_words(run: KeptRun) -> str:
    """ "guidance 3, DDPM": what is not as in its parent; of a run from noise, all its settings."""
    if run.parent is None:
        return f"“{run.settings['prompt']}”, {settings_in_words(run.settings)}"
    now, before, words = run.settings, run.parent.settings, []
    if now["prompt"] != before["prompt"]:
        words.append(f"“{now['prompt']}”")
    if now["negative_prompt"] != before["negative_prompt"]:
        words.append(f"without “{now['negative_prompt']}”")
    if now["guidance_scale"] != before["guidance_scale"]:
        words.append(f"guidance {now['guidance_scale']:g}")
    if (now["scheduler"], now["scheduler_options"]) != (before["scheduler"], before["scheduler_options"]):
        words.append(scheduler_class(now["scheduler"]).label.title)
    if now["steps"] != (left := run.parent.steps_left(run.after)):
        words.append(f"{now['steps']} steps instead of {left}")
    return ", ".join(words) or "nothing changed"


def tree_in_words(runs: Sequence[KeptRun]) -> list[str]:
    """A line for each run: its number, where it begins, and what was changed."""
    lines = []
    for i, run in enumerate(runs, start=1):
        from_where = (
            "" if run.parent is None else f"from {runs.index(run.parent) + 1} after step {run.after} of {run.parent.total}: "
        )
        lines.append(f"{i}: {from_where}{changes_in_words(run)}")
    return lines


def tree_figure(runs: Sequence[KeptRun]) -> Figure:
    """Finished runs of one tree or of several, each after its parent: their first pictures, from left to right, and what differs.

    Raises ValueError for none, or for a run whose parent is missing.
    """
    if not runs or any(run.parent is not None and run.parent not in runs[:i] for i, run in enumerate(runs)):
        raise ValueError("runs must be at least one, each of them after its parent")

    # 1. Where each stands: its column is how often the way to it has branched, and each leaf has a row
    places: dict[int, tuple[int, int]] = {}
    rows = 0

    def place(run: KeptRun, column: int) -> None:
        nonlocal rows
        places[id(run)] = (column, rows)
        children = [child for child in runs if child.parent is run]
        for child in children:
            place(child, column + 1)
        rows += not children

    for run in runs:
        if run.parent is None:
            place(run, 0)
    columns = 1 + max(column for column, _ in places.values())

    # 2. Pictures, joined by lines from the right edge of the parent, with words below
    (wide, high), gap = CELL, 8
    width, height = columns * wide + gap, rows * high + gap
    figure = new_figure(width / DPI, height / DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for run, words in zip(runs, tree_in_words(runs)):
        column, row = places[id(run)]
        x, y = gap + column * wide, gap + row * high
        if run.parent is not None:
            parent_column, parent_row = places[id(run.parent)]
            middle, start = y + SHOWN / 2, gap + parent_column * wide + SHOWN
            bend = x - (wide - SHOWN) / 2
            axes.plot([start, bend, bend, x], [gap + parent_row * high + SHOWN / 2] * 2 + [middle] * 2, color="0.5", zorder=0)
        axes.imshow(run.previews[-1][0], extent=(x, x + SHOWN, y + SHOWN, y), interpolation="nearest", aspect="auto", zorder=1)
        for i, line in enumerate(textwrap.wrap(words, 30, max_lines=4, placeholder=" ...")):
            axes.text(x, y + SHOWN + LINE * (i + 0.8), line, fontsize=8, va="center", parse_math=False)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure
