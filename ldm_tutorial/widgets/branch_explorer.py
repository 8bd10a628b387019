"""The branch explorer: stop a run at any step, change something, go on, and keep the tree of what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ipywidgets as w
from PIL import Image

from ..figures.canvas import to_picture
from ..pipeline import StableDiffusion, load_pipeline
from . import panel
from .branching import KeptRun, branch, changes_in_words, draw_kept, tree_figure, tree_in_words
from .drawing import starting_settings


class BranchExplorer(panel.LivePanel):
    """A tree of outcomes: `BranchExplorer(pipe, "a cat in the style of noto")`.

    steps, scheduler, guidance_scale, seed: of the first run, and to be changed in the controls.
    Raises TypeError for another setting.
    """

    bar: w.IntProgress

    def __init__(
        self,
        pipe: StableDiffusion | str = "emoji",
        prompt: str = "a cat in the style of noto",
        background: bool | None = None,
        **settings: Any,
    ):
        self.pipe = load_pipeline(pipe) if isinstance(pipe, str) else pipe
        self.runs: list[KeptRun] = []
        start = {**starting_settings(self.pipe.scheduler, self.pipe.few_steps), "seed": 0}
        if unknown := settings.keys() - start.keys():
            raise TypeError(f"BranchExplorer has no setting {', '.join(sorted(unknown))}; it has {', '.join(start)}")
        start |= settings
        self._silent = False  # while the controls are moved by us

        self.origin = panel.choice("Go on from", [("-", 0)], 0)
        self.after = panel.whole("After step", 0, 0, 1)
        self.controls: dict[str, w.Widget] = {
            "prompt": panel.text("Prompt", prompt),
            "scheduler": panel.scheduler_choice(self.pipe.scheduler, start["scheduler"]),
            "steps": panel.whole("Steps from there", start["steps"], 1, 100),
            "guidance_scale": panel.real("Guidance", start["guidance_scale"], 0, 20, 0.5),
        }
        self.seed = panel.number("Seed", start["seed"])
        self.go = panel.button("Go on", "Go on from this step with these settings", self.ask, "primary")
        self.new = panel.button("New tree", "Begin in noise with these settings and this seed", self.plant)
        self.stop = panel.button("Cancel", "Stop drawing", self.cancel)
        self.bar = panel.progress()
        self.now = w.HTML()
        self.screen = w.HTML()
        self.origin.observe(lambda _: self._chosen(), "value")
        self.after.observe(lambda _: self._moved(), "value")
        super().__init__(
            [
                self.origin,
                self.after,
                self.now,
                *self.controls.values(),
                panel.row(self.go, self.stop),
                panel.row(self.seed, self.new),
                self.bar,
            ],
            background,
            below=[self.screen],
        )
        self.plant(wait=True)

    @property
    def settings(self) -> dict[str, Any]:
        """What the controls say, for the rest of a run or for a new one."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def changes(self) -> dict[str, Any]:
        """Those of the settings that differ from the run that is gone on from: arguments of `branch`."""
        run = self.runs[self.origin.value]
        before = {**run.settings, "steps": run.steps_left(self.after.value)}
        return {name: value for name, value in self.settings.items() if value != before[name]}

    # ---- what the user does

    def plant(self, wait: bool = False) -> None:
        """A new tree: a run from noise, with the settings of the controls. wait: as of `begin`."""
        settings = {**self.settings, "seed": self.seed.value}
        self.begin(partial(self._draw, partial(draw_kept, self.pipe, **settings)), wait=wait)

    def ask(self) -> None:
        """Go on from the chosen step with what the controls say now."""
        if self.runs:
            parent = self.runs[self.origin.value]
            self.begin(partial(self._draw, partial(branch, self.pipe, parent, self.after.value, **self.changes)))

    def _chosen(self) -> None:
        """Another run to go on from: the controls say how it was drawn, and its middle is offered."""
        if self._silent:
            return
        run = self.runs[self.origin.value]
        self._silent = True
        try:
            for name, control in self.controls.items():
                control.value = run.settings[name]
            self.after.value = 0  # before max falls below what it was
            self.after.max = run.total - 1
            self.after.value = run.total // 2
        finally:
            self._silent = False
        self._moved()

    def _moved(self) -> None:
        """Another step to go on from: what is left, and what the run knew there."""
        if self._silent or not self.runs:
            return
        run, after = self.runs[self.origin.value], self.after.value
        self.controls["steps"].value = run.steps_left(after)
        if after:
            caption = f"prediction of run {self.origin.value + 1} after step {after}"
            self.now.value = panel.strip_html([(run.previews[after - 1][0], caption)], 96)
        else:
            self.now.value = "the noise that the run begins with"

    # ---- the work, in the background

    @staticmethod
    def _draw(start: Callable[[], Iterator[KeptRun]]) -> Iterator[tuple[KeptRun, int]]:
        for run in start():
            yield run, len(run.previews)

    def show(self, thing: tuple[KeptRun, int]) -> None:
        run, done = thing
        self.bar.max, self.bar.value = run.total, done
        if done < run.total:
            self.now.value = panel.strip_html([(run.previews[-1][0], f"step {done} of {run.total}, predicted")], 96)
            self.say(f"Step {done} of {run.total}. {run.note}")
            return
        self.runs = [run] if run.parent is None else [*self.runs, run]
        chosen = 0 if run.parent is None else self.origin.value
        self._silent = True
        try:
            self.origin.options = [(line, i) for i, line in enumerate(tree_in_words(self.runs))]
            self.origin.value = chosen
        finally:
            self._silent = False
        if run.parent is None:
            self._chosen()
        else:
            self.now.value = panel.strip_html([(run.previews[-1][0], f"run {len(self.runs)}: {changes_in_words(run)}")], 96)
        picture = to_picture(tree_figure(self.runs))
        self.screen.value = panel.picture_html(picture, self.alt, picture.width)
        self.say(f"Run {len(self.runs)} is drawn. Choose a run and a step, change something, and go on. {run.note}")

    # ---- where widgets cannot run

    def snapshot(self) -> Image.Image | None:
        return to_picture(tree_figure(self.runs)) if self.runs else None

    @property
    def alt(self) -> str:
        return "A tree of pictures, each from a run that goes on from a step of another. " + "; ".join(tree_in_words(self.runs))
