"""The playground: words and settings in, a picture out, and every step of it live."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w
from PIL import Image

from ..checkpoints.hub import local_models
from ..figures.canvas import to_picture
from ..figures.grids import picture_grid
from ..inputs import fitting_schedulers
from ..pipeline import StableDiffusion, load_pipeline
from ..schedulers.few_steps import FewSteps
from . import panel
from .drawing import Frame, as_code, draw_frames, options_of, png_url, settings_in_words, starting_settings

KEPT = 12  # pictures in the history
NO_LORA, AS_LOADED = "", "*"  # in the menu of LoRAs


@dataclass(frozen=True)
class Asked:
    """What a picture is drawn with: the model, the arguments of `pipe(...)`, and how much of which LoRA."""

    model: str
    settings: dict[str, Any]
    lora: str = NO_LORA
    scale: float = 1.0

    @property
    def in_words(self) -> str:
        """All but the prompt and the model: "DDIM, 25 steps, guidance 7.5, seed 0, LoRA style at 0.7"."""
        loras = {NO_LORA: "", AS_LOADED: ", LoRAs as loaded"}
        return settings_in_words(self.settings) + loras.get(self.lora, f", LoRA {self.lora} at {self.scale:g}")


@dataclass(frozen=True)
class LoadedLora:
    """A LoRA that can now be chosen."""

    model: str
    name: str


@dataclass(frozen=True, eq=False)
class HistoryEntry:
    """One entry of the history."""

    number: int
    asked: Asked
    pictures: list[Image.Image]

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `pipe(...)`."""
        return self.asked.settings


class Playground(panel.LivePanel):
    """Draws while you change things: `Playground(pipe)`.

    pipe: a pipeline, or what `load_pipeline` takes. Others of the known models can be chosen if their weights are here. The
    playground draws with a pipeline of its own that shares the weights: its LoRAs are those that are loaded now, and later ones
    of its own. Drawing with `pipe` elsewhere stays as it is.
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
        pipe = load_pipeline(pipe) if isinstance(pipe, str) else pipe.sharing_weights()
        self.pipes = {pipe.name: pipe}
        self.drawn: list[HistoryEntry] = []
        self.pictures: list[Image.Image] = []
        self._of: Asked | None = None  # what the pictures on the screen were drawn with
        self._silent = False  # while the controls are moved by us
        self._as_loaded = {name: lora.scale for name, lora in pipe.loras.items()}
        self._files: dict[str, str] = {}  # of LoRAs that were loaded here
        self._few = pipe.few_steps
        self._usual = starting_settings(pipe.scheduler)  # where the controls go back to after a distilled LoRA

        start: dict[str, Any] = {
            "negative_prompt": "",
            **starting_settings(pipe.scheduler, pipe.few_steps),
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
            "scheduler": panel.scheduler_choice(pipe.scheduler, start["scheduler"]),
            "steps": panel.whole("Steps", start["steps"], 1, 100),
            "guidance_scale": panel.real("Guidance", start["guidance_scale"], 0, 20, 0.5),
            "seed": panel.number("Seed", start["seed"]),
            "num_images": panel.whole("Pictures", start["num_images"], 1, 4),
        }
        self.model = panel.choice("Model", names, pipe.name)
        first = AS_LOADED if len(pipe.loras) > 1 else next(iter(pipe.loras), NO_LORA)
        self.lora = panel.choice("LoRA", self._loras_of(pipe.name), first)
        self.scale = panel.real("LoRA scale", self._as_loaded.get(first, 1.0), 0, 2, 0.05)
        self.file = panel.text("LoRA file", "", "the path of a .safetensors file")
        self.live = w.Checkbox(value=True, description="Draw again when a setting changes", indent=False)
        self.generate = panel.button("Generate", "Draw with these settings", self.ask, "primary")
        self.stop = panel.button("Cancel", "Stop the picture that is being drawn", self.cancel)
        self.reseed = panel.button("New seed", "Other noise, and so another picture", self.new_seed)
        self.bar = panel.progress()
        self.screen = w.HTML(layout=w.Layout(min_height="270px"))
        self.take_away = w.HTML()
        self.strip = w.HBox(layout=w.Layout(flex_flow="row wrap"))
        for control in self.controls.values():
            control.observe(self._changed, "value")
        self.model.observe(self._model_chosen, "value")
        for control in (self.lora, self.scale):
            control.observe(self._lora_chosen, "value")
        self.file.observe(lambda change: self.load_lora(change["new"]), "value")

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
                self.lora,
                self.scale,
                self.file,
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

    @property
    def asked(self) -> Asked:
        """What the controls say, all of them."""
        return Asked(self.model.value, self.settings, self.lora.value, self.scale.value)

    # ---- what the user does

    def cancel(self) -> None:
        """Stop what is being drawn, and say that the picture on the screen is not finished, if it is not."""
        done, total = self.bar.value, self.bar.max
        super().cancel()
        if 0 < done < total:
            self.say(f"Cancelled after step {done} of {total}: this picture is not finished.")

    def ask(self, delay: float = 0.0, wait: bool = False) -> None:
        """Draw what the controls say now; what was being drawn is dropped."""
        self._began = time.monotonic()
        self.begin(partial(self._draw, self.asked), delay, wait)

    def load_lora(self, path: str) -> None:
        """Read the LoRA of a file, choose it, and draw with it."""
        if path.strip():
            self.begin(partial(self._load_lora, self.model.value, path.strip()))

    def new_seed(self) -> None:
        """Another seed by chance; drawn at once if nothing draws by itself."""
        self.controls["seed"].value = secrets.randbelow(2**31)
        if not self.live.value:
            self.ask()

    def restore(self, drawn: HistoryEntry) -> None:
        """Settings and pictures as they were."""
        self.runner.cancel()
        self._set(drawn.asked)
        self._display(drawn.pictures, drawn.asked)
        self.bar.value = 0
        self.say(f"Restored no. {drawn.number}: {drawn.asked.in_words}.")

    def _changed(self, change: Mapping[str, Any]) -> None:
        if self.live.value and not self._silent:
            self.ask(panel.DELAY)

    def _model_chosen(self, change: Mapping[str, Any]) -> None:
        if not self._silent:
            self._offer(change["new"])
            self._lora_chosen(change)

    def _lora_chosen(self, change: Mapping[str, Any]) -> None:
        """A distilled LoRA has steps and a guidance of its own: the controls go there, and back when it is not taken any more."""
        if self._silent:
            return
        few = self._few_steps()
        if few != self._few:
            if self._few is None:
                self._usual = {name: self.controls[name].value for name in self._usual}
            own = self._usual if few is None else starting_settings(self.pipes[self.model.value].scheduler, few)
            self._few = few
            self._set(Asked(self.model.value, own, self.lora.value, self.scale.value))
        self._changed(change)

    def _few_steps(self) -> FewSteps | None:
        """What the model says of itself with the LoRA that the controls say."""
        pipe, asked = self.pipes.get(self.model.value), self.asked
        if pipe is None:
            return None
        taken = [pipe.loras[name] for name, scale in self._scales(asked).items() if scale]
        return next((lora.few_steps for lora in taken if lora.few_steps is not None), pipe.scheduler.few_steps)

    def _scales(self, asked: Asked) -> dict[str, float]:
        """The scale of each LoRA that the model has."""
        if asked.lora == AS_LOADED:
            return {name: self._as_loaded.get(name, 0.0) for name in self.pipes[asked.model].loras}
        return {name: asked.scale if name == asked.lora else 0.0 for name in self.pipes[asked.model].loras}

    def _loras_of(self, model: str) -> list[tuple[str, str]]:
        names = list(self.pipes[model].loras) if model in self.pipes else []
        several = [("all, as loaded", AS_LOADED)] if len(self._as_loaded) > 1 and set(self._as_loaded) <= set(names) else []
        return [("none", NO_LORA), *several, *((name, name) for name in names)]

    def _offer(self, model: str) -> None:
        """The menus of a model: its LoRAs, and, if it is loaded, the schedulers that fit it. What was chosen stays if it can."""
        menus = [(self.lora, self._loras_of(model))]
        if model in self.pipes:
            menus.append((self.controls["scheduler"], panel.scheduler_options(self.pipes[model].scheduler)))
        silent, self._silent = self._silent, True
        try:
            for menu, options in menus:
                if list(menu.options) != options:
                    chosen = menu.value
                    menu.options = options
                    menu.value = chosen if chosen in dict(options).values() else options[0][1]
        finally:
            self._silent = silent

    def _set(self, asked: Asked) -> None:
        self._silent = True
        try:
            self.model.value = asked.model
            self._offer(asked.model)
            self.lora.value, self.scale.value = asked.lora, asked.scale
            for name, value in asked.settings.items():
                self.controls[name].value = value
            self._few = self._few_steps()
        finally:
            self._silent = False

    # ---- the work, in the background

    def _pipe(self, model: str) -> Iterator[str]:
        """Sees to it that the model is loaded; yields what to say meanwhile."""
        if model not in self.pipes:
            yield f"Loading {model} ..."
            self.pipes[model] = load_pipeline(model)

    def _load_lora(self, model: str, path: str) -> Iterator[str | LoadedLora]:
        yield from self._pipe(model)
        loaded, name = self.pipes[model].loras, Path(path).stem
        if name not in loaded or self._files.get(name) != path:
            self.pipes[model].load_lora(path, 0.0)  # of which nothing is taken until it is drawn with
            self._files[name] = path
        yield LoadedLora(model, name)

    def _draw(self, asked: Asked) -> Iterator[str | tuple[Frame, Asked]]:
        yield from self._pipe(asked.model)
        pipe, settings = self.pipes[asked.model], asked.settings
        if settings["scheduler"] not in fitting_schedulers(pipe.scheduler):  # those of the model before, which draws otherwise
            settings = {**settings, **starting_settings(pipe.scheduler, pipe.few_steps)}
            asked = Asked(asked.model, settings, asked.lora, asked.scale)
        for name, scale in self._scales(asked).items():
            pipe.loras[name].scale = scale
        options = {name: value for name, value in settings.items() if name != "prompt"}
        for frame in draw_frames(pipe, settings["prompt"], options_of(pipe, options)):
            yield frame, asked

    def show(self, thing: str | LoadedLora | tuple[Frame, Asked]) -> None:
        if isinstance(thing, str):
            self.say(thing)
            return
        if isinstance(thing, LoadedLora):
            self._offer(thing.model)
            self.say(f"Loaded {thing.name}.")
            if self.lora.value != thing.name:
                self.lora.value = thing.name  # which draws, if changes do
            return
        frame, asked = thing
        if asked.settings["scheduler"] not in dict(self.controls["scheduler"].options).values():  # of another kind of model
            self._set(asked)
        self.bar.max, self.bar.value = max(frame.total, 1), frame.done
        if not frame.is_last:
            assert frame.step is not None  # only a last frame can be without a step
            if frame.pictures:
                self._display(frame.pictures, asked, finished=False)
            self.say(f"Step {frame.done} of {frame.total}, noise level σ = {frame.step.sigma:.2f}. {frame.note}")
            return
        self._display(frame.pictures, asked)
        self._remember(frame.pictures, asked)
        seconds = time.monotonic() - self._began
        self.say(f"No. {self.drawn[-1].number}: {frame.total} steps, {seconds:.1f} s. {frame.note}")

    def _display(self, pictures: list[Image.Image], asked: Asked, finished: bool = True) -> None:
        self.pictures, self._of = pictures, asked
        width = 256 if len(pictures) == 1 else 160
        prompt = asked.settings["prompt"]
        what = prompt if finished else f"{prompt}, unfinished"
        self.screen.value = (
            '<div class="ldm-screen" style="display:flex;flex-wrap:wrap;gap:8px;max-width:360px">'
            + "".join(panel.picture_html(picture, what, width) for picture in pictures)
            + "</div>"
        )
        files = {self._files.get(name, f"{name}.safetensors"): scale for name, scale in self._scales(asked).items() if scale}
        self.take_away.value = take_away_html(pictures, as_code(asked.model, asked.settings, files)) if finished else ""

    def _remember(self, pictures: list[Image.Image], asked: Asked) -> None:
        last = self.drawn[-1] if self.drawn else None
        if last and last.asked == asked:
            return  # the same once more
        drawn = HistoryEntry(last.number + 1 if last else 1, asked, pictures)
        self.drawn = [*self.drawn, drawn][-KEPT:]
        self.strip.children = [self._entry(drawn), *self.strip.children][:KEPT]

    def _entry(self, drawn: HistoryEntry) -> w.VBox:
        prompt = drawn.settings["prompt"]
        caption = f"{drawn.number}: {prompt}"
        lines = [caption if len(caption) <= 40 else f"{caption[:37]}...", *drawn.asked.in_words.split(", ")]
        look = w.HTML(
            panel.picture_html(drawn.pictures[0], f"No. {drawn.number}: {prompt}", 72)
            + "".join(f'<div style="font-size:11px;line-height:1.25">{escape(line)}</div>' for line in lines)
        )
        back = panel.button(f"Restore {drawn.number}", f"{prompt}: {drawn.asked.in_words}", partial(self.restore, drawn))
        return w.VBox([look, back], layout=w.Layout(width="112px", margin="4px"))

    # ---- where widgets cannot run

    def snapshot(self) -> Image.Image | None:
        if self._of is None:
            return None
        title, subtitle = self._of.settings["prompt"], f"{self._of.model}, {self._of.in_words}"
        return to_picture(picture_grid([self.pictures], title=title, subtitle=subtitle, shown=256))

    @property
    def alt(self) -> str:
        assert self._of is not None  # asked for with the snapshot only
        return f"The playground, as a picture: drawn for the prompt {self._of.settings['prompt']!r} with {self._of.in_words}"


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
