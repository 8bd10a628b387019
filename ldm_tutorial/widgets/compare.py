"""Columns that differ in one setting and in nothing else: the same words, the same noise, one step slider for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import ipywidgets as w
from PIL import Image

from ..figures.canvas import to_picture
from ..figures.grids import picture_grid
from ..inputs import fitting_schedulers
from ..pipeline import StableDiffusion, load_pipeline
from ..schedulers import scheduler_class
from . import panel
from .drawing import Frame, columns_of, difference, draw_frames, index_at, options_of, starting_settings

# What can be compared: its label, and four values to begin with.
VARIED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "scheduler": ("Scheduler", ("ddim", "euler", "ddpm", "euler_a")),
    "steps": ("Steps", (5, 10, 25, 50)),
    "guidance_scale": ("Guidance", (1.0, 3.0, 7.5, 15.0)),
    "seed": ("Seed", (0, 1, 2, 3)),
}
DONE = "Done. The step slider moves all columns."
OUTDATED = "The settings have changed: the pictures are those of the settings before. Click Compare to draw them again."
WIDTH, FOUR = 160, 136  # pixels of a column; of four, so that they stand in one row of a narrow page


def value_in_words(vary: str, value: Any) -> str:
    """ "guidance 7.5": a compared setting and its value, as a caption."""
    return {
        "scheduler": lambda: scheduler_class(value).label.title,
        "steps": lambda: f"{value} steps",
        "guidance_scale": lambda: f"guidance {value:g}",
        "seed": lambda: f"seed {value}",
    }[vary]()


class Compare(panel.LivePanel):
    """Two to four runs, side by side: `Compare(pipe, vary="scheduler", values=["ddim", "euler"])`.

    vary: "scheduler", "steps", "guidance_scale" or "seed"; values: one per column, None: four to begin with.
    """

    bar: w.IntProgress

    def __init__(
        self,
        pipe: StableDiffusion | str = "emoji",
        prompt: str = "a cat in the style of noto",
        vary: str = "scheduler",
        values: Sequence[Any] | None = None,
        background: bool | None = None,
    ):
        if vary not in VARIED:
            raise ValueError(f"vary={vary!r} must be one of {', '.join(map(repr, VARIED))}")
        if values is not None and not 2 <= len(values) <= 4:
            raise ValueError(f"values must be two to four, one per column; got {len(values)}")
        self.pipe = load_pipeline(pipe) if isinstance(pipe, str) else pipe
        values = self._values(vary) if values is None else tuple(values)
        start = starting_settings(self.pipe.scheduler, self.pipe.few_steps)
        self.runs: list[list[Frame]] = []
        self._of: tuple[str, list[dict[str, Any]]] = (vary, [])  # what the runs are of

        self.prompt = panel.text("Prompt", prompt)
        self.shared: dict[str, w.Widget] = {
            "scheduler": panel.scheduler_choice(self.pipe.scheduler, start["scheduler"]),
            "steps": panel.whole("Steps", min(15, start["steps"]), 1, 100),
            "guidance_scale": panel.real("Guidance", start["guidance_scale"], 0, 20, 0.5),
            "seed": panel.number("Seed", 0),
        }
        self.vary = panel.choice("Compare by", [(label, name) for name, (label, _) in VARIED.items()], vary)
        self.columns = w.IntSlider(
            value=len(values), min=2, max=4, description="Columns", style=panel.LABEL, layout=w.Layout(width="320px")
        )
        self.values = w.HBox(layout=w.Layout(flex_flow="row wrap"))
        self.go = panel.button("Compare", "Draw all columns with these settings", self.ask, "primary")
        self.stop = panel.button("Cancel", "Stop drawing", self.cancel)
        self.bar = panel.progress()
        self.position = panel.whole("Step", 1, 1, 1)
        self.screen = w.HTML()

        self._offer(values)
        self.vary.observe(lambda _: self._offer(self._values(self.vary.value)[: self.columns.value]), "value")
        self.columns.observe(self._resize, "value")
        for control in (self.prompt, *self.shared.values()):
            control.observe(lambda _: self._changed(), "value")
        self.position.observe(lambda _: self._display(), "value")
        super().__init__(
            [
                self.prompt,
                panel.row(self.vary, self.columns),
                self.values,
                w.VBox(list(self.shared.values())),
                panel.row(self.go, self.stop),
                self.bar,
                self.position,
                self.screen,
            ],
            background,
        )
        self.ask(wait=True)

    # ---- what the user does

    def _values(self, vary: str) -> tuple[Any, ...]:
        """Four to begin with; of the schedulers those that fit the model, again and again if they are fewer."""
        values, fitting = VARIED[vary][1], fitting_schedulers(self.pipe.scheduler)
        if vary != "scheduler":
            return values
        return (tuple(name for name in values if name in fitting) or tuple(fitting) * 4)[:4]

    def _offer(self, values: Sequence[Any]) -> None:
        """One control per column, for the setting that differs; the shared one of the same name goes away."""
        vary, made = self.vary.value, []
        for i, value in enumerate(values, start=1):
            label = f"Column {i}"
            if vary == "scheduler":
                made.append(panel.scheduler_choice(self.pipe.scheduler, value, label))
            elif vary == "guidance_scale":
                made.append(w.BoundedFloatText(value=value, min=0, max=20, step=0.5, description=label, style=panel.LABEL))
            else:
                made.append(panel.number(label, value))
            made[-1].observe(lambda _: self._changed(), "value")
        self.values.children = made
        for name, control in self.shared.items():
            control.layout.display = "none" if name == vary else ""
        self._changed()

    def _changed(self) -> None:
        """Say so, and show the pictures paler, when they are not those of the settings that the controls show now."""
        if self.runs:
            self._display()
            self.say(OUTDATED if self.is_outdated else DONE)

    @property
    def is_outdated(self) -> bool:
        """Whether the pictures are of other settings than those of the controls."""
        return self._of != (self.vary.value, self.settings)

    def _resize(self, change: Mapping[str, Any]) -> None:
        kept = [control.value for control in self.values.children]
        self._offer([*kept, *self._values(self.vary.value)[len(kept) :]][: change["new"]])

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Of each column: the arguments of `pipe(...)`."""
        shared = {"prompt": self.prompt.value, **{name: control.value for name, control in self.shared.items()}}
        return columns_of(shared, self.vary.value, [control.value for control in self.values.children])

    def ask(self, wait: bool = False) -> None:
        """Start the work for what the controls say now. wait: as of `begin`."""
        self.begin(partial(self._draw, self.vary.value, self.settings), wait=wait)

    # ---- the work, in the background

    def _draw(self, vary: str, columns: list[dict[str, Any]]) -> Iterator[tuple[int, int, Any]]:
        runs: list[list[Frame]] = []
        totals, done = [column["steps"] for column in columns], 0
        for i, settings in enumerate(columns):
            runs.append([])
            options = options_of(self.pipe, {name: settings[name] for name in VARIED})
            for frame in draw_frames(self.pipe, settings["prompt"], options, every_step=True):
                totals[i] = frame.total  # more than its steps, if each has two evaluations
                runs[-1].append(frame)
                done += 1
                yield done, sum(totals), None
        yield done, sum(totals), (vary, columns, runs)

    def show(self, thing: tuple[int, int, Any]) -> None:
        done, total, result = thing
        self.bar.max, self.bar.value = total, done
        self.say(f"{done} of {total} steps")
        if result:
            vary, columns, self.runs = result
            self._of = (vary, columns)
            longest = max(map(len, self.runs))
            self.position.value = 1  # before max falls below it
            self.position.max = longest
            self.position.value = longest
            self._display()

    def finished(self) -> None:
        self._changed()

    # ---- what can be seen

    def rows(self) -> list[list[tuple[Image.Image, str]]]:
        """The pictures at the slider's step, and below each what differs from the first: with their captions."""
        vary, columns = self._of
        longest = max(map(len, self.runs))
        above: list[tuple[Image.Image, str]] = []
        below: list[tuple[Image.Image, str]] = []
        for settings, run in zip(columns, self.runs):
            i = index_at(self.position.value, longest, len(run))
            picture, first = run[i].pictures[0], above[0][0] if above else run[i].pictures[0]
            apart, mean = difference(picture, first)
            above.append((picture, f"{value_in_words(vary, settings[vary])}, step {i + 1} of {len(run)}"))
            below.append((apart, f"differs from column 1 by {mean:.1f} of 255" if len(above) > 1 else "column 1"))
        return [above, below]

    def _display(self) -> None:
        if self.runs:
            width = WIDTH if len(self.runs) < 4 else FOUR
            rows = "".join(panel.strip_html(pictures, width) for pictures in self.rows())
            self.screen.value = f'<div style="opacity:{0.35 if self.is_outdated else 1}">{rows}</div>'

    def snapshot(self) -> Image.Image | None:
        if not self.runs:
            return None
        rows, (vary, columns) = self.rows(), self._of
        pictures = [[picture for picture, _ in row] for row in rows]
        labels = [value_in_words(vary, settings[vary]) for settings in columns]
        return to_picture(
            picture_grid(pictures, labels, ["picture", "difference from the first"], title=columns[0]["prompt"], shown=WIDTH)
        )

    @property
    def alt(self) -> str:
        vary, columns = self._of
        names = ", ".join(value_in_words(vary, settings[vary]) for settings in columns)
        return f"Pictures of {columns[0]['prompt']!r} side by side: {names}. Below, how much each differs from the first."
