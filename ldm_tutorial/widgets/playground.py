"""The playground: words and settings in, a picture out, and every step of it live."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import ipywidgets as w
from PIL import Image

from ..checkpoints.hub import local_models
from ..figures.canvas import to_picture
from ..figures.grids import picture_grid
from ..inputs import Options
from ..pipeline import StableDiffusion, load_pipeline
from . import panel
from .drawing import Frame, as_code, draw_frames, png_url, settings_in_words

KEPT = 12  # pictures in the history


@dataclass(frozen=True, eq=False)
class HistoryEntry:
    """One entry of the history."""

    number: int
    model: str
    settings: dict[str, Any]
    pictures: list[Image.Image]


class Playground(panel.LivePanel):
    """Draws while you change things: `Playground(pipe)`.

    pipe: a pipeline, or what `load_pipeline` takes. Others of the known models can be chosen if their weights are here.
    """

    bar: w.IntProgress
    controls: dict[str, w.Widget]

    def __init__(
        self,
        pipe: StableDiffusion | str = "emoji",
        prompt: str = "a cat in the style of noto",
        background: bool | None = None,
        **settings: Any,
    ):
        pipe = load_pipeline(pipe) if isinstance(pipe, str) else pipe
        self.pipes = {pipe.name: pipe}
        self.drawn: list[HistoryEntry] = []
        self.pictures: list[Image.Image] = []
        self._of: dict[str, Any] = {}  # the settings of the pictures on the screen
        self._silent = False  # while the controls are moved by us

        start: dict[str, Any] = {
            "negative_prompt": "",
            "scheduler": "ddim",
            "steps": 25,
            "guidance_scale": 7.5,
            "seed": 0,
            "num_images": 1,
        }
        if unknown := settings.keys() - start.keys():
            raise TypeError(f"Playground has no setting {', '.join(sorted(unknown))}; it has {', '.join(start)}")
        start |= settings
        names = list(dict.fromkeys([pipe.name, *local_models()]))
        self.controls = {
            "prompt": panel.text("Prompt", prompt, "a rocket in the style of fluent"),
            "negative_prompt": panel.text("Negative prompt", start["negative_prompt"], "what the picture should not show"),
            "scheduler": panel.scheduler_choice(start["scheduler"]),
            "steps": panel.whole("Steps", start["steps"], 1, 100),
            "guidance_scale": panel.real("Guidance", start["guidance_scale"], 0, 20, 0.5),
            "seed": panel.number("Seed", start["seed"]),
            "num_images": panel.whole("Pictures", start["num_images"], 1, 4),
        }
        self.model = panel.choice("Model", names, pipe.name)
        self.live = w.Checkbox(value=True, description="Draw again when a setting changes", indent=False)
        self.generate = panel.button("Generate", "Draw with these settings", self.ask, "primary")
        self.stop = panel.button("Cancel", "Stop the picture that is being drawn", self.cancel)
        self.reseed = panel.button("New seed", "Other noise, and so another picture", self.new_seed)
        self.bar = panel.progress()
        self.screen = w.HTML(layout=w.Layout(min_height="270px"))
        self.take_away = w.HTML()
        self.strip = w.HBox(layout=w.Layout(flex_flow="row wrap"))
        for control in (*self.controls.values(), self.model):
            control.observe(self._changed, "value")

        c = self.controls
        left = w.VBox(
            [
                c["prompt"],
                c["negative_prompt"],
                c["scheduler"],
                c["steps"],
                c["guidance_scale"],
                panel.row(c["seed"], self.reseed),
                c["num_images"],
                self.model,
                self.live,
                panel.row(self.generate, self.stop),
                self.bar,
            ]
        )
        right = w.VBox([self.screen, self.take_away], layout=w.Layout(margin="0 0 0 16px"))
        top = w.HBox([left, right], layout=w.Layout(flex_flow="row wrap"))
        super().__init__([top], background, below=[self.strip])
        self.ask(wait=True)  # there is a picture from the beginning

    @property
    def settings(self) -> dict[str, Any]:
        """What the controls say: the arguments of `pipe(...)`."""
        return {name: control.value for name, control in self.controls.items()}

    # ---- what the user does

    def cancel(self) -> None:
        """Stop what is being drawn, and say that the picture on the screen is not finished, if it is not."""
        done, total = self.bar.value, self.bar.max
        super().cancel()
        if 0 < done < total:
            self.say(f"Cancelled after step {done} of {total}: this picture is not finished.")

    def ask(self, delay: float = 0.0, wait: bool = False) -> None:
        """Draw what the controls say now; what was being drawn is dropped."""
        settings = self.settings
        self._began = time.monotonic()
        self.begin(partial(self._draw, self.model.value, settings), delay, wait)

    def new_seed(self) -> None:
        """Another seed by chance; drawn at once if nothing draws by itself."""
        self.controls["seed"].value = secrets.randbelow(2**31)
        if not self.live.value:
            self.ask()

    def restore(self, drawn: HistoryEntry) -> None:
        """Settings and pictures as they were."""
        self.runner.cancel()
        self._set(drawn.model, drawn.settings)
        self._display(drawn.pictures, drawn.model, drawn.settings)
        self.bar.value = 0
        self.say(f"Restored no. {drawn.number}: {settings_in_words(drawn.settings)}.")

    def _changed(self, change: Mapping[str, Any]) -> None:
        if self.live.value and not self._silent:
            self.ask(panel.DELAY)

    def _set(self, model: str, settings: Mapping[str, Any]) -> None:
        self._silent = True
        try:
            self.model.value = model
            for name, value in settings.items():
                self.controls[name].value = value
        finally:
            self._silent = False

    # ---- the work, in the background

    def _draw(self, model: str, settings: dict[str, Any]) -> Iterator[tuple[Frame | str, str, dict[str, Any]]]:
        if model not in self.pipes:
            yield f"Loading {model} ...", model, settings
            self.pipes[model] = load_pipeline(model)
        options = {name: value for name, value in settings.items() if name != "prompt"}
        for frame in draw_frames(self.pipes[model], settings["prompt"], Options(**options)):
            yield frame, model, settings

    def show(self, thing: tuple[Frame | str, str, dict[str, Any]]) -> None:
        frame, model, settings = thing
        if isinstance(frame, str):
            self.say(frame)
            return
        self.bar.max, self.bar.value = max(frame.total, 1), frame.done
        if not frame.is_last:
            assert frame.step is not None  # only a last frame can be without a step
            if frame.pictures:
                self._display(frame.pictures, model, settings, finished=False)
            self.say(f"Step {frame.done} of {frame.total}, noise level σ = {frame.step.sigma:.2f}. {frame.note}")
            return
        self._display(frame.pictures, model, settings)
        self._remember(frame.pictures, model, settings)
        seconds = time.monotonic() - self._began
        self.say(f"No. {self.drawn[-1].number}: {frame.total} steps, {seconds:.1f} s. {frame.note}")

    def _display(self, pictures: list[Image.Image], model: str, settings: dict[str, Any], finished: bool = True) -> None:
        self.pictures, self._of = pictures, {**settings, "model": model}
        width = 256 if len(pictures) == 1 else 160
        what = settings["prompt"] if finished else f"{settings['prompt']}, unfinished"
        self.screen.value = (
            '<div class="ldm-screen" style="display:flex;flex-wrap:wrap;gap:8px;max-width:360px">'
            + "".join(panel.picture_html(picture, what, width) for picture in pictures)
            + "</div>"
        )
        self.take_away.value = take_away_html(pictures, as_code(model, settings)) if finished else ""

    def _remember(self, pictures: list[Image.Image], model: str, settings: dict[str, Any]) -> None:
        last = self.drawn[-1] if self.drawn else None
        if last and (last.model, last.settings) == (model, settings):
            return  # the same once more
        drawn = HistoryEntry(last.number + 1 if last else 1, model, settings, pictures)
        self.drawn = [*self.drawn, drawn][-KEPT:]
        self.strip.children = [self._entry(drawn), *self.strip.children][:KEPT]

    def _entry(self, drawn: HistoryEntry) -> w.VBox:
        prompt = drawn.settings["prompt"]
        caption = f"{drawn.number}: {prompt}"
        lines = [caption if len(caption) <= 40 else f"{caption[:37]}...", *settings_in_words(drawn.settings).split(", ")]
        look = w.HTML(
            panel.picture_html(drawn.pictures[0], f"No. {drawn.number}: {prompt}", 72)
            + "".join(f'<div style="font-size:11px;line-height:1.25">{escape(line)}</div>' for line in lines)
        )
        back = panel.button(
            f"Restore {drawn.number}", f"{prompt}: {settings_in_words(drawn.settings)}", partial(self.restore, drawn)
        )
        return w.VBox([look, back], layout=w.Layout(width="112px", margin="4px"))

    # ---- where widgets cannot run

    def snapshot(self) -> Image.Image | None:
        if not self.pictures:
            return None
        settings = self._of
        title, subtitle = settings["prompt"], f"{settings['model']}, {settings_in_words(settings)}"
        return to_picture(picture_grid([self.pictures], title=title, subtitle=subtitle, shown=256))

    @property
    def alt(self) -> str:
        return f"The playground, as a picture: drawn for the prompt {self._of['prompt']!r} with {settings_in_words(self._of)}"


def take_away_html(pictures: list[Image.Image], code: str) -> str:
    """Links to save the pictures, with their settings in the file, and the code that draws them, to be copied."""
    links = " · ".join(
        f'<a download="seed{picture.info["seed"]}.png" href="{png_url(picture)}" style="text-decoration:underline">'
        f"Save PNG{'' if len(pictures) == 1 else f' {i}'}</a>"
        for i, picture in enumerate(pictures, start=1)
    )
    copy = "const t=this.parentElement.querySelector('textarea');t.select();document.execCommand('copy')"
    return (
        f'<div>{links}</div><details><summary style="cursor:pointer">As Python code</summary>'
        f'<textarea readonly aria-label="Code" rows="{code.count(chr(10)) + 1}" cols="48" '
        f'style="font-family:monospace;font-size:12px">{escape(code)}</textarea><br>'
        f'<button type="button" onclick="{escape(copy)}">Copy code</button></details>'
    )
