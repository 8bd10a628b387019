"""The scheduler lab: which noise levels are visited, which way the points go, and how wrong they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ipywidgets as w
from matplotlib.figure import Figure
from PIL import Image

from ..figures.canvas import to_picture
from ..schedulers.noise_schedule import SPACINGS
from . import lab, panel

VIEWS = {
    "Noise levels": "Curves over the steps: on the left the timesteps, on the right the noise levels of the four schedulers",
    "Paths": "Four panels, one per scheduler: points on their way from noise to a mixture of three clouds in the plane",
    "Error against steps": "Two panels with errors that fall with the number of steps: on the left from the exact path, "
    "on the right as a distribution",
}


class SchedulerLab(panel.LivePanel):
    """Three views of the four schedulers: `SchedulerLab()`. No network: the model is a formula (`toy.py`)."""

    def __init__(self, view: str = "Noise levels", background: bool | None = None):
        if view not in VIEWS:
            raise ValueError(f"view={view!r} must be one of {', '.join(map(repr, VIEWS))}")
        self.view = w.ToggleButtons(options=list(VIEWS), value=view, description="Show", style=panel.LABEL)
        self.steps = panel.whole("Steps", 12, 1, 100)
        self.spacing = panel.choice("Spacing", [("each one's own", ""), *((s, s) for s in SPACINGS)], "")
        self.karras = w.Checkbox(value=False, description="Euler: Karras noise levels", indent=False)
        self.seed = panel.number("Seed", 0)
        self.step = panel.whole("Step", 12, 0, 12)
        self.screen = w.HTML()
        self._picture: Image.Image | None = None
        self._walked: tuple[Any, dict] = (None, {})  # the paths, and the settings that they are of
        self._errors: dict[Any, dict] = {}

        for control in (self.view, self.steps, self.spacing, self.karras, self.seed, self.step):
            control.observe(self._changed, "value")
        self._arrange()
        super().__init__(
            [self.view, self.steps, panel.row(self.spacing, self.karras), self.seed, self.step, self.screen], background
        )
        self.ask(wait=True)

    def _changed(self, change: dict[str, Any]) -> None:
        if change["owner"] is self.steps:
            self.step.max = change["new"]
            self.step.value = change["new"]
        self._arrange()
        self.ask(panel.DELAY if change["owner"] is not self.step else 0.02)

    def _arrange(self) -> None:
        """Only the controls that matter in this view."""
        for control, views in ((self.steps, list(VIEWS)[:2]), (self.seed, ["Paths"]), (self.step, ["Paths"])):
            control.layout.display = "" if self.view.value in views else "none"

    def ask(self, delay: float = 0.0, wait: bool = False) -> None:
        """Start the work for what the controls say now. delay, wait: as of `begin`."""
        settings = self.steps.value, self.spacing.value, self.karras.value
        work: dict[str, Callable[[], Figure]] = {
            "Noise levels": lambda: lab.level_figure(lab.schedulers(*settings)),
            "Paths": partial(self._paths, settings, self.seed.value, self.step.value),
            "Error against steps": partial(self._error, settings[1:]),
        }
        view = self.view.value
        self.begin(partial(self._draw, view, work[view]), delay, wait)

    # ---- the work, in the background

    def _draw(self, view: str, work: Callable[[], Figure]) -> Iterator[tuple[Image.Image, str]]:
        yield to_picture(work()), view

    def _paths(self, settings: tuple[int, str, bool], seed: int, step: int) -> Figure:
        if self._walked[0] != (settings, seed):
            found = lab.schedulers(*settings)
            self._walked = (settings, seed), {name: lab.paths(scheduler, seed=seed) for name, scheduler in found.items()}
        return lab.path_figure(self._walked[1], step)

    def _error(self, settings: tuple[str, bool]) -> Figure:
        if settings not in self._errors:
            self._errors[settings] = lab.error_curves(*settings)
        return lab.error_figure(self._errors[settings])

    def show(self, thing: tuple[Image.Image, str]) -> None:
        self._picture, view = thing
        self.screen.value = panel.picture_html(self._picture, VIEWS[view], self._picture.width)
        self.say(f"{view}.")

    # ---- where widgets cannot run

    def snapshot(self) -> Image.Image | None:
        return self._picture

    @property
    def alt(self) -> str:
        return f"The scheduler lab, as a picture. {VIEWS[self.view.value]}."
