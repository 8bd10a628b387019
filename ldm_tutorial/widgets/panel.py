"""What all widgets share: a status line, errors in words, pictures with alt text, and a picture for where widgets cannot run."""

from __future__ import annotations

import abc
import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets as w
from PIL import Image

from ..inputs import fitting_schedulers
from ..lessons.notebook import png
from ..schedulers import Scheduler
from .runner import NewestWins, in_colab

LABEL = {"description_width": "130px"}
ROW = w.Layout  # a layout belongs to one widget: each gets its own
DELAY = 0.15  # seconds without a further change, before a moved slider counts


class AbstractWidget(abc.ABCMeta, type(w.VBox)):  # type: ignore[misc]
    """The class of widget classes whose abstract methods a subclass must have."""


class LivePanel(w.VBox, metaclass=AbstractWidget):
    """Controls, a status line, and what is below it. Work is a generator given to `begin`.

    A subclass has `show` and `snapshot`, and says in `alt` what the snapshot shows.
    """

    colors: int | None = None  # in the snapshot, as in `notebook.show`
    bar: w.IntProgress | None = None  # how much of the work is done, where that is shown

    def __init__(self, children: Sequence[w.Widget], background: bool | None = None, below: Sequence[w.Widget] = ()):
        self.status = w.HTML()
        self.runner = NewestWins(self.show, self.failed, self.finished, background)
        super().__init__([*children, self.status, *below])

    def begin(self, work: Any, delay: float = 0.0, wait: bool = False) -> None:
        """Start work, a function that returns a generator; what ran before is dropped. Arguments as of `NewestWins.start`."""
        self.runner.start(work, delay, wait)

    def cancel(self) -> None:
        """Stop what is running; what can be seen stays."""
        self.runner.cancel()
        if self.bar is not None:
            self.bar.value = 0
        self.say("Cancelled.")

    @abc.abstractmethod
    def show(self, thing: Any) -> None:
        """Show one of the things that the work yields.

        It may run in a background thread: there, nothing is printed, and pyplot is not touched.
        """

    @abc.abstractmethod
    def snapshot(self) -> Image.Image | None:
        """What can be seen now as a picture, stored in the notebook for pages where no widget lives.

        None if there is nothing but an error.
        """

    @property
    @abc.abstractmethod
    def alt(self) -> str:
        """What the snapshot shows, in words."""

    def finished(self) -> None:
        """After the last of what was to be shown."""

    def failed(self, error: BaseException) -> None:
        """The status line says what went wrong; what can be seen stays."""
        self.say(explain(error), error=True)

    def say(self, text: str, error: bool = False) -> None:
        """One line below the controls, which screen readers read out."""
        role, style = ("alert", "color:#B00020;font-weight:bold") if error else ("status", "")
        self.status.value = f'<div role="{role}" style="{style}">{escape(text)}</div>'

    @property
    def said(self) -> str:
        """What the status line says, as HTML."""
        return self.status.value

    # ---- where widgets cannot run

    def __repr__(self) -> str:  # of ipywidgets it holds all settings; nbval compares this one
        return f"{type(self).__name__}()"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # ipywidgets 7 displays itself, without a picture
        live: dict[str, Any] | None = getattr(super(), "_repr_mimebundle_", lambda **_: {})(**kwargs)
        data, picture = {**(live or {}), "text/plain": repr(self)}, self.snapshot()
        if picture is None:
            return data, {}
        return {**data, "image/png": base64.b64encode(png(picture, self.colors)).decode()}, {"image/png": {"alt": self.alt}}


def explain(error: BaseException) -> str:
    """One readable line."""
    if isinstance(error, KeyboardInterrupt):
        return "Stopped."
    text = " ".join(str(error).split())
    meant_for_people = isinstance(error, (ValueError, TypeError, OSError, FloatingPointError))
    text = text if meant_for_people and text else f"{type(error).__name__}: {text}"
    return text if len(text) <= 300 else f"{text[:297]}..."


# ---- pictures


def data_url(picture: Image.Image) -> str:
    """The picture as a PNG file within a link, quickly made rather than small."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)  # it travels a few steps, and then it is gone
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def picture_html(picture: Image.Image, alt: str, width: int) -> str:
    """An <img> of this width, with alt text. Small pictures show their pixels; ipywidgets' Image could do neither."""
    height = round(width * picture.height / picture.width)
    look = "image-rendering:pixelated;" if picture.width < width else ""
    return (
        f'<img src="{data_url(picture)}" alt="{escape(alt)}" width="{width}" height="{height}" '
        f'style="{look}display:block;width:{width}px;height:{height}px;max-width:none;border:1px solid #8884">'
    )


def strip_html(pictures: Sequence[tuple[Image.Image, str]], width: int) -> str:
    """Pictures in a row, each with its caption, which is its alt text as well."""
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:10px;margin-bottom:8px">'
        + "".join(
            f'<figure style="margin:0;width:{width + 2}px">{picture_html(picture, caption, width)}'
            f'<figcaption style="line-height:1.3;font-size:12px;margin-top:3px">{escape(caption)}</figcaption></figure>'
            for picture, caption in pictures
        )
        + "</div>"
    )


# ---- controls, all with a label that belongs to them and reachable by keyboard. In Colab, where nothing runs in the
# background, a slider counts when it is let go.


def text(label: str, value: str = "", placeholder: str = "") -> w.Text:
    """Counts when Enter is pressed or the field is left, not at each letter."""
    return w.Text(
        value=value,
        description=label,
        placeholder=placeholder,
        continuous_update=False,
        style=LABEL,
        layout=ROW(width="480px", max_width="100%"),
    )


def whole(label: str, value: int, low: int, high: int) -> w.IntSlider:
    """A slider for whole numbers from low to high."""
    return w.IntSlider(
        value=value,
        min=low,
        max=high,
        description=label,
        continuous_update=not in_colab(),
        style=LABEL,
        layout=ROW(width="420px"),
    )


def real(label: str, value: float, low: float, high: float, step: float) -> w.FloatSlider:
    """A slider for numbers from low to high in steps."""
    return w.FloatSlider(
        value=value,
        min=low,
        max=high,
        step=step,
        description=label,
        readout_format=".2f" if step < 0.1 else ".1f",
        continuous_update=not in_colab(),
        style=LABEL,
        layout=ROW(width="420px"),
    )


def stops(label: str, options: Sequence[Any], value: Any) -> w.SelectionSlider:
    """A slider that stops at these values only, such as 5, 10, 20, 50 steps."""
    return w.SelectionSlider(
        options=options, value=value, description=label, continuous_update=not in_colab(), style=LABEL, layout=ROW(width="420px")
    )


def number(label: str, value: int) -> w.IntText:
    """A whole number, such as a seed. Without bounds: the pipeline says what is wrong with it, a bound would change it."""
    return w.IntText(value=value, description=label, style=LABEL, layout=ROW(width="260px"))


def choice(label: str, options: Sequence[Any], value: Any) -> w.Dropdown:
    """A menu of options: values, or (name, value) pairs."""
    return w.Dropdown(options=options, value=value, description=label, style=LABEL, layout=ROW(width="320px"))


def switch(label: str, value: bool = False) -> w.Checkbox:
    """On or off."""
    return w.Checkbox(value=value, description=label, style=LABEL)


def scheduler_choice(own: Scheduler, value: str, label: str = "Scheduler") -> w.Dropdown:
    """A menu of the schedulers that fit a model with this one, by their titles; its value is the name that `pipe(...)` takes."""
    return choice(label, scheduler_options(own), value)


def scheduler_options(own: Scheduler) -> list[tuple[str, str]]:
    """The options of that menu: (title, name)"""
    return [(cls.label.title, name) for name, cls in fitting_schedulers(own).items()]


def button(label: str, tooltip: str, do: Callable[[], Any], style: str = "") -> w.Button:
    """A button that calls `do()`. style: ipywidgets' `button_style`, such as "primary"."""
    made = w.Button(description=label, tooltip=tooltip, button_style=style, layout=ROW(width="auto"))
    made.on_click(lambda _: do())
    return made


def progress() -> w.IntProgress:
    """A bar of how much is done."""
    return w.IntProgress(description="Progress", style=LABEL, layout=ROW(width="420px"))


def row(*children: w.Widget) -> w.HBox:
    """Widgets side by side, in several lines where the page is narrow."""
    return w.HBox(list(children), layout=ROW(flex_flow="row wrap", align_items="center"))
