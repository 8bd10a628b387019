"""The latent explorer: take a picture of your own into latents, move there, and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ipywidgets as w
from PIL import Image

from ..data import STYLES
from ..figures.canvas import to_picture
from ..figures.grids import channel_pictures, picture_grid
from ..pipeline import StableDiffusion, load_pipeline
from . import panel
from .drawing import draw_frames, options_of, starting_settings
from .latents import (
    between,
    emoji_entries,
    emoji_picture,
    empty_mask,
    overlay,
    paint,
    read_mask,
    read_picture,
    through_autoencoder,
    uploaded,
)

MODES = {
    "Encode": "there and back: what the autoencoder keeps",
    "Interpolate": "from one picture to another",
    "Redraw": "noise added, and taken away again with a prompt (img2img)",
    "Inpaint": "only what is painted is drawn again",
}
Captioned = list[tuple[Image.Image, str]]


class LatentExplorer(panel.LivePanel):
    """Encode, interpolate, redraw, inpaint: `LatentExplorer(pipe)`. Pictures of the data set by name, or your own."""

    def __init__(
        self,
        pipe: StableDiffusion | str = "emoji",
        picture: str = "cat face, noto",
        other: str = "rocket, fluent",
        mode: str = "Encode",
        background: bool | None = None,
    ):
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} must be one of {', '.join(map(repr, MODES))}")
        self.pipe = load_pipeline(pipe) if isinstance(pipe, str) else pipe
        self.size = self.pipe.unet.config.sample_size * self.pipe.vae.config.downsampling
        self.mask = empty_mask((self.size, self.size))
        self._shown: Captioned = []
        self._of = mode

        self.mode = w.ToggleButtons(options=list(MODES), value=mode, description="Do", style=panel.LABEL)
        self.sources = [self._source("Picture", picture), self._source("Other picture", other)]
        *self.uploads, self.mask_upload = (
            w.FileUpload(accept="image/*", multiple=False, description=f"Upload {name}", layout=w.Layout(width="auto"))
            for name in ("a picture", "the other picture", "a mask")
        )
        self.fraction = panel.real("Way to the other", 0.5, 0, 1, 0.05)
        self.prompt = panel.text("Prompt", "a cat in the style of fluent")
        start = starting_settings(self.pipe.scheduler, self.pipe.few_steps)
        self.scheduler = panel.scheduler_choice(self.pipe.scheduler, start["scheduler"])
        self.steps = panel.whole("Steps", start["steps"], 1, 100)
        self.guidance = panel.real("Guidance", start["guidance_scale"], 0, 20, 0.5)
        self.strength = panel.real("Strength", 0.6, 0, 1, 0.05)
        self.seed = panel.number("Seed", 0)
        self.shape = panel.choice("Shape", ["ellipse", "rectangle"], "ellipse")
        self.across = self._range("Across, %", (25, 75))
        self.down = self._range("Down, %", (10, 50))
        self.add = panel.button("Paint", "Add this shape to the mask", partial(self.paint, True))
        self.erase = panel.button("Erase", "Take this shape out of the mask", partial(self.paint, False))
        self.clear = panel.button("Clear mask", "Keep all of the picture", self.clear_mask)
        self.go = panel.button("Draw", "Draw with these settings", self.ask, "primary")
        self.stop = panel.button("Cancel", "Stop drawing", self.cancel)
        self.screen = w.HTML()

        first, second = (panel.row(source, upload) for source, upload in zip(self.sources, self.uploads))
        settings = w.VBox([self.prompt, self.scheduler, self.steps, self.guidance, self.strength, self.seed])
        brush = w.VBox([panel.row(self.shape, self.add, self.erase, self.clear, self.mask_upload), self.across, self.down])
        buttons = panel.row(self.go, self.stop)
        self.parts = [
            (second, ["Interpolate"]),
            (self.fraction, ["Interpolate"]),
            (brush, ["Inpaint"]),
            (settings, ["Redraw", "Inpaint"]),
            (buttons, ["Redraw", "Inpaint"]),
        ]
        self.mode.observe(lambda _: self._arrange(), "value")
        for control in (
            *self.sources,
            *self.uploads,
            self.fraction,
            self.mode,
            self.strength,
            self.steps,
            self.prompt,
            self.scheduler,
            self.guidance,
            self.seed,
        ):
            control.observe(self._changed, "value")
        self.mask_upload.observe(lambda change: self.take_mask(change["new"]), "value")
        self._arrange()
        super().__init__([self.mode, first, *(part for part, _ in self.parts), self.screen], background)
        self.mask = paint(self.mask, self.shape.value, self.across.value, self.down.value)  # something to begin with
        self.ask(wait=True)

    def _source(self, label: str, value: str) -> w.Combobox:
        return w.Combobox(
            value=value,
            options=[name for name in emoji_entries() if name.endswith(STYLES[0])],
            description=label,
            placeholder="subject, style",
            ensure_option=False,
            continuous_update=False,
            style=panel.LABEL,
            layout=w.Layout(width="420px"),
        )

    @staticmethod
    def _range(label: str, value: tuple[int, int]) -> w.IntRangeSlider:
        return w.IntRangeSlider(
            value=value, min=0, max=100, step=5, description=label, style=panel.LABEL, layout=w.Layout(width="420px")
        )

    # ---- what the user does

    def _arrange(self) -> None:
        """Only the controls that matter in this mode."""
        for part, modes in self.parts:
            part.layout.display = "" if self.mode.value in modes else "none"

    def _changed(self, change: dict[str, Any]) -> None:
        source = next((s for s, u in zip(self.sources, self.uploads) if u is change["owner"]), None)
        if source is not None and change["new"]:
            source.value = ""  # the upload counts
        self.ask(panel.DELAY)

    def paint(self, white: bool) -> None:
        """Add the shape of the controls to the mask, or take it out."""
        self.mask = paint(self.mask, self.shape.value, self.across.value, self.down.value, white)
        self.ask(panel.DELAY)

    def take_mask(self, value: Any) -> None:
        """A mask painted in another program, of which there are better ones than any widget: white is drawn again."""
        try:
            data = uploaded(value)
            self.mask = self.mask if data is None else read_mask(data, self.size)
        except ValueError as error:
            self.failed(error)
        else:
            self.ask(panel.DELAY)

    def clear_mask(self) -> None:
        """Start the mask again: all of the picture is kept."""
        self.mask = empty_mask(self.mask.size)
        self.ask(panel.DELAY)

    def ask(self, delay: float = 0.0, wait: bool = False) -> None:
        """Start the work for what the controls say now. delay, wait: as of `begin`."""
        mode = self.mode.value
        first, second = (
            partial(self._picture, s.value, uploaded(u.value), s.description) for s, u in zip(self.sources, self.uploads)
        )
        options = {
            "scheduler": self.scheduler.value,
            "steps": self.steps.value,
            "guidance_scale": self.guidance.value,
            "seed": self.seed.value,
        }
        drawing = partial(self._draw, first, self.prompt.value, options, self.strength.value)
        work = {
            "Encode": partial(self._encode, first),
            "Interpolate": partial(self._interpolate, first, second, self.fraction.value),
            "Redraw": partial(drawing, None),
            "Inpaint": partial(drawing, self.mask),
        }[mode]
        self.begin(lambda: ((mode, *seen) for seen in work()), delay, wait)

    # ---- the work, in the background: each yields (pictures with captions, what to say)

    def _picture(self, name: str, data: bytes | None, label: str) -> Image.Image:
        if name.strip():
            return emoji_picture(name).resize((self.size, self.size), Image.Resampling.LANCZOS)
        if data is None:
            raise ValueError(f"{label} is empty; name an emoji of the data set, or upload a picture")
        return read_picture(data, self.size)

    def _encode(self, source: Callable[[], Image.Image]) -> Iterator[tuple[Captioned, str]]:
        image = source()
        back, latents = through_autoencoder(self.pipe, image)
        channels = [
            (c.resize(image.size, Image.Resampling.NEAREST), f"channel {i}") for i, c in enumerate(channel_pictures(latents, 3.0))
        ]
        shape = " x ".join(map(str, latents.shape))
        yield [(image, "picture"), (back, "there and back"), *channels], f"Encoded: {shape} numbers."

    def _interpolate(
        self, a: Callable[[], Image.Image], b: Callable[[], Image.Image], fraction: float
    ) -> Iterator[tuple[Captioned, str]]:
        start, end = a(), b()
        latents, pixels = between(self.pipe, start, end, fraction)
        shown = [(start, "from"), (latents, f"latents, {fraction:.0%}"), (pixels, f"pixels, {fraction:.0%}"), (end, "to")]
        yield shown, f"{fraction:.0%} of the way."

    def _draw(
        self,
        source: Callable[[], Image.Image],
        prompt: str,
        options: dict[str, Any],
        strength: float,
        mask: Image.Image | None,
    ) -> Iterator[tuple[Captioned, str]]:
        image = source()
        if mask is not None and mask.getbbox() is None:
            yield [(image, "nothing is painted")], "Paint a shape first: what is orange is drawn again."
            return
        before = (image, "picture") if mask is None else (overlay(image, mask), "orange: new")
        for frame in draw_frames(self.pipe, prompt, options_of(self.pipe, options), image, mask, strength):
            if frame.pictures:
                caption = "result" if frame.is_last else f"step {frame.done} of {frame.total}"
                steps = -(-frame.total // frame.run.inputs.scheduler.evaluations_per_step)  # the last may have fewer evaluations
                taken = f"Strength {strength:g} takes {steps} of {options['steps']} steps."
                yield [before, (frame.pictures[0], caption)], f"{taken} {frame.note}"

    def show(self, thing: tuple[str, Captioned, str]) -> None:
        self._of, self._shown, text = thing
        self.screen.value = panel.strip_html(self._shown, 160 if len(self._shown) < 5 else 112)
        self.say(text)

    # ---- where widgets cannot run

    def snapshot(self) -> Image.Image | None:
        if not self._shown:
            return None
        pictures, labels = zip(*self._shown)
        return to_picture(picture_grid([pictures], labels, title=f"{self._of}: {MODES[self._of]}", shown=160))

    @property
    def alt(self) -> str:
        return f"The latent explorer, as a picture. {self._of}: " + "; ".join(caption for _, caption in self._shown)
