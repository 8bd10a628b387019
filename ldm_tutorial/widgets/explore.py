"""One picture that answers to a few controls: the small widget of the notebooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ipywidgets as w
import torch
from matplotlib.figure import Figure
from PIL import Image

from ..figures.canvas import to_picture
from ..figures.grids import picture_grid
from ..lessons.alt_texts import alt_text
from . import panel
from .runner import ONE_AT_A_TIME


class Explore(panel.LivePanel):
    """A picture, and the controls that it is a function of:

        Explore(noisy, alt="A cat under noise", t=whole("Timestep", 400, 0, 999), seed=number("Seed", 0))

    draw: called with the controls' values by name, `noisy(t=400, seed=0)`, at once and whenever one of them changes. It
    returns a PIL image or a matplotlib figure (none of pyplot's), or that and a line of text, which is shown above it and
    read out. Or it is a generator of those: each takes the place of the one before, and a change of the controls ends it.
    It runs in a background thread, without gradients, and must depend on nothing but its arguments.
    alt: what the picture shows, whatever the controls say, or the keyword of such a text, as in `notebook.show`; on the page,
    the controls' values and the line of text follow.
    width: of an image on the page, in pixels; None: as wide as it is. colors: of the stored picture, as in `notebook.show`.

    An error in the first picture is raised, it is the cell's; later ones are a line in the widget.
    Raises TypeError for a control without label or value and for what is no picture, ValueError for an alt text that is
    empty or an unknown keyword.
    """

    def __init__(
        self,
        draw: Callable[..., Any],
        /,
        alt: str,
        width: int | None = None,
        colors: int | None = None,
        background: bool | None = None,
        **controls: w.ValueWidget,
    ):
        alt = alt_text(alt)
        if not controls:
            raise TypeError("Explore needs a control, such as t=whole('Timestep', 400, 0, 999)")
        for name, control in controls.items():
            if not isinstance(control, w.ValueWidget) or not getattr(control, "description", ""):
                raise TypeError(f"{name}={control!r:.80} must be a control with a label, such as whole('Steps', 10, 1, 50)")
        self.draw, self.subject, self.width, self.colors, self.controls = draw, alt.rstrip("."), width, colors, controls
        self.screen = w.HTML()
        self._shown: tuple[Image.Image, str, str]  # a picture, its text, and the settings that it is of
        super().__init__(list(controls.values()), background, below=[self.screen])
        with ONE_AT_A_TIME:
            for drawn in self._draw(self.values, self.settings):
                self.show(drawn)
        for control in controls.values():
            control.observe(lambda _: self.begin(partial(self._draw, self.values, self.settings), delay=0.03), "value")

    @property
    def values(self) -> dict[str, Any]:
        """What the controls say: the arguments of `draw`."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def settings(self) -> str:
        """The same in words."""
        return ", ".join(f"{control.description} {value_shown_by(control)}" for control in self.controls.values())

    @torch.no_grad()
    def _draw(self, values: dict[str, Any], settings: str) -> Iterator[tuple[Image.Image, str, str]]:
        drawn = self.draw(**values)
        for thing in drawn if inspect.isgenerator(drawn) else [drawn]:
            picture, text = thing if isinstance(thing, tuple) and len(thing) == 2 else (thing, "")
            yield as_image(picture), text, settings

    def show(self, drawn: tuple[Image.Image, str, str]) -> None:
        self._shown = drawn
        picture, text, _ = drawn
        self.screen.value = panel.picture_html(picture, self.alt, self.width or picture.width)
        self.say(text)

    # ---- where widgets cannot run

    def snapshot(self) -> Image.Image:
        picture, text, settings = self._shown
        size = max(1, (self.width or 0) // picture.width) * min(picture.size)
        return to_picture(picture_grid([[picture]], title=settings, subtitle=text, shown=size))

    @property
    def alt(self) -> str:
        _, text, settings = self._shown
        return f"{self.subject}. {settings}. {text}".strip()


def value_shown_by(control: w.ValueWidget) -> str:
    """What a control says, as its user reads it."""
    if isinstance(control.value, bool):
        return "on" if control.value else "off"
    if isinstance(control.value, float):
        return f"{control.value:g}"
    # of a choice, the name it goes by, which ipywidgets leaves empty for a slider that begins at its first stop
    return str(getattr(control, "label", "") or control.value)


def as_image(picture: Any) -> Image.Image:
    """Raises TypeError for what is neither a PIL image nor a figure that is safe in a thread."""
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if not isinstance(picture, Figure):
        raise TypeError(f"draw must return a PIL image or a matplotlib figure, or that and a text; got {type(picture).__name__}")
    if picture.canvas.manager is not None:
        raise TypeError("draw must not use pyplot, which is for one thread only; make a matplotlib.figure.Figure")
    return to_picture(picture)
