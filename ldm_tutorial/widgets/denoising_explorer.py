"""The denoising explorer: one run, kept, and a slider through its steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import ipywidgets as w
from PIL import Image

from ..figures.canvas import to_picture
from ..figures.grids import channel_pictures, picture_grid
from ..pipeline import StableDiffusion, load_pipeline
from . import panel
from .drawing import settings_in_words, starting_settings
from .recording import Recording, map_picture, record, word_map

CHANNELS = {"latents": "latents", "noise_pred": "predicted noise", "denoised": "predicted x0"}


class DenoisingExplorer(panel.LivePanel):
    """What is known at each step: `DenoisingExplorer(pipe, "a cat in the style of noto")`."""

    bar: w.IntProgress

    def __init__(
        self,
        pipe: StableDiffusion | str = "emoji",
        prompt: str = "a cat in the style of noto",
        background: bool | None = None,
    ):
        self.pipe = load_pipeline(pipe) if isinstance(pipe, str) else pipe
        self.recording: Recording | None = None
        self._settings: dict[str, Any] = {}  # of the recording
        self.prompt = panel.text("Prompt", prompt)
        start = starting_settings(self.pipe.scheduler, self.pipe.few_steps)
        self.scheduler = panel.scheduler_choice(self.pipe.scheduler, start["scheduler"])
        self.steps = panel.whole("Steps", min(16, start["steps"]), 1, 100)
        self.guidance = panel.real("Guidance", start["guidance_scale"], 0, 20, 0.5)
        self.seed = panel.number("Seed", 0)
        self.go = panel.button("Record", "Run once with these settings, and keep every step", self.ask, "primary")
        self.stop = panel.button("Cancel", "Stop recording", self.cancel)
        self.bar = panel.progress()
        self.step = panel.whole("Step", 1, 1, 16)
        self.word = panel.choice("Word", [("-", 0)], 0)
        self.screen = w.HTML()
        for control in (self.step, self.word):
            control.observe(lambda _: self._display(), "value")
        super().__init__(
            [
                self.prompt,
                self.scheduler,
                self.steps,
                self.guidance,
                self.seed,
                panel.row(self.go, self.stop),
                self.bar,
                self.step,
                self.word,
                self.screen,
            ],
            background,
        )
        self.ask(wait=True)

    @property
    def settings(self) -> dict[str, Any]:
        """What the controls say: the arguments of `record`."""
        return {
            "prompt": self.prompt.value,
            "scheduler": self.scheduler.value,
            "steps": self.steps.value,
            "guidance_scale": self.guidance.value,
            "seed": self.seed.value,
        }

    def ask(self, wait: bool = False) -> None:
        """Start the work for what the controls say now. wait: as of `begin`."""
        self.begin(partial(self._record, self.settings), wait=wait)

    def _record(self, settings: dict[str, Any]) -> Iterator[tuple[Recording, dict[str, Any]]]:
        if not settings["prompt"].strip():
            raise ValueError("prompt is empty; the explorer needs a word to look for")
        for recording in record(self.pipe, **settings):
            yield recording, settings

    def show(self, thing: tuple[Recording, dict[str, Any]]) -> None:
        recording, settings = thing
        done, total = len(recording.sigmas), recording.total
        self.bar.max, self.bar.value = total, done
        self.say(f"Step {done} of {total}")
        if done < total:
            return
        self.recording, self._settings = None, settings  # nothing is drawn while the controls are set
        self.word.options = [(word, i) for i, (word, _) in enumerate(recording.words)]
        self.word.value = self._subject(recording)
        self.step.max = total
        self.step.value = max(1, total // 2)
        self.recording = recording
        self._display()
        self.say(f"Recorded {total} steps. Move the slider; choose a word.")

    @staticmethod
    def _subject(recording: Recording) -> int:
        """The first word that is no article."""
        names = [word for word, _ in recording.words]
        return next((i for i, word in enumerate(names) if word not in ("a", "an", "the")), 0)

    # ---- what can be seen

    def _recorded(self) -> Recording:
        if self.recording is None:
            raise ValueError("nothing is recorded yet")
        return self.recording

    def pictures(self) -> list[tuple[Image.Image, str]]:
        """At the slider's step, each with its caption: the decoded latents, the decoded prediction, and the chosen word's map."""
        r, i, word = self._recorded(), self.step.value - 1, self.word.value
        attention = map_picture(word_map(r, i, word), r.guesses[i])
        return [
            (r.noisy_pictures[i], f"latents after step {i + 1}, decoded"),
            (r.guesses[i], f"prediction at σ = {r.sigmas[i]:.2f}, decoded"),
            (
                attention,
                f"attention to “{r.words[word][0]}”: bright where it is larger than elsewhere; the background may be bright, too",
            ),
        ]

    def channels(self) -> dict[str, list[Image.Image]]:
        """At the slider's step, the channels of each of `CHANNELS`, as pictures."""
        i = self.step.value - 1
        return {name: channel_pictures(getattr(self._recorded(), field)[i], limit=3.0) for field, name in CHANNELS.items()}

    def _display(self) -> None:
        if self.recording is None:
            return
        rows = [panel.strip_html(self.pictures(), 160)]
        for name, channels in self.channels().items():
            rows.append(panel.strip_html([(c, f"{name}, channel {i}") for i, c in enumerate(channels)], 96))
        self.screen.value = "".join(rows)

    def snapshot(self) -> Image.Image | None:
        if self.recording is None:
            return None
        above = [picture for picture, _ in self.pictures()]
        below = [[c.resize(above[0].size, Image.Resampling.NEAREST) for c in row] for row in self.channels().values()]
        above.append(Image.new("RGB", above[0].size, "white"))
        labels = ["pictures", *CHANNELS.values()]
        word = self.recording.words[self.word.value][0]
        subtitle = f"step {self.step.value}: decoded latents, prediction, attention to “{word}”; channels"
        return to_picture(picture_grid([above, *below], None, labels, self.recording.prompt, subtitle, shown=128))

    @property
    def alt(self) -> str:
        return (
            f"Step {self.step.value} of a run for {self._recorded().prompt!r} ({settings_in_words(self._settings)}). "
            "Above, the decoded latents, the decoded prediction, and the attention to a word. Below, the four channels of the "
            "latents, of the predicted noise and of the predicted clean latents."
        )
