"""Pictures on the way: one request to the pipeline as a generator of frames. No widget in here."""

from __future__ import annotations

import base64
import io
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from ..checkpoints.hub import KNOWN
from ..data.vocabulary import hint_for
from ..images import png_text
from ..inputs import Inputs, Options, fitting_schedulers, scheduler_name
from ..pipeline import DenoisingStep, Run, StableDiffusion
from ..schedulers import Scheduler, scheduler_class
from ..schedulers.few_steps import FewSteps


@dataclass(frozen=True, eq=False)
class Frame:
    """What there is to see after one step. `pictures` is empty where there was no time to decode them."""

    done: int  # steps taken
    total: int
    pictures: list[Image.Image]
    step: DenoisingStep | None  # None: no step was needed (img2img of strength 0)
    run: Run
    note: str = ""  # what the pipeline warned of, and words of the prompt that the small model does not know

    @property
    def is_last(self) -> bool:
        """Whether its pictures are the result."""
        return self.done == self.total


def draw_frames(
    pipe: StableDiffusion,
    prompt: str | Sequence[str],
    options: Options,
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
    strength: float = 1.0,
    every_step: bool = False,
) -> Iterator[Frame]:
    """`pipe(...)`, `img2img` or `inpaint`, step by step. The last frame holds what they return, to the last bit.

    The other frames hold the predicted clean picture. Decoding them takes at most half of the time, so that a
    preview never makes a large model crawl: the first is always there, and `every_step` asks for all.
    Raises what the pipeline raises, when the first frame is asked for.
    """
    run, note = started(pipe, lambda: pipe.prepare(prompt, options, image, mask, strength))
    yield from frames_of(pipe, run, note, every_step)


def started(pipe: StableDiffusion, prepare: Callable[[], Inputs]) -> tuple[Run, str]:
    """`pipe.start(prepare())`, and what the pipeline warned of in both, with the words that the small model does not know."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        run = pipe.start(prepare())
    notes = [str(warning.message) for warning in caught]
    if pipe.name == "emoji":
        notes += [hint for prompt in dict.fromkeys(run.inputs.prompts) if (hint := hint_for(prompt))]
    return run, "; ".join(notes)


def frames_of(pipe: StableDiffusion, run: Run, note: str = "", every_step: bool = False) -> Iterator[Frame]:
    """The frames of a run that is started, as `draw_frames` yields them."""
    total = len(run.inputs.timesteps)
    latents = run.latents
    step, done, cost, last_preview = None, 0, 0.0, time.monotonic()

    # What `pipe.stream` gives, but `run` is at hand: it holds the inputs, and the settings that belong into the file.
    for step in pipe.denoise(run):
        latents, done = step.latents, step.index + 1
        if done == total:
            break
        began = time.monotonic()
        pictures = []
        if done == 1 or every_step or began - last_preview >= cost:
            pictures = pipe.decode(step.denoised)
            last_preview = time.monotonic()
            cost = last_preview - began
        yield Frame(done, total, pictures, step, run, note)

    yield Frame(done, total, pipe.finish(run.inputs, latents), step, run, note)


# ---- settings: to begin with, in words, and in code


def starting_settings(own: Scheduler, few_steps: FewSteps | None = None) -> dict[str, Any]:
    """What a widget begins with, for a model with this scheduler: scheduler, steps, guidance scale; a distilled model's own."""
    name = "ddim" if "ddim" in fitting_schedulers(own) else scheduler_name(own)
    usual = {"scheduler": name, "steps": 25, "guidance_scale": 7.5}
    return usual if few_steps is None else {name: few_steps.arguments[name] for name in usual}


def options_of(pipe: StableDiffusion, settings: Mapping[str, Any]) -> Options:
    """The settings as `pipe(...)` reads them, with what a distilled model has of its own for those that are not given."""
    return Options(**{**pipe.own_arguments(settings), **settings})


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """All but the prompt: "DDIM, 25 steps, guidance 7.5, seed 0"."""
    title = scheduler_class(settings["scheduler"]).label.title
    return f"{title}, {settings['steps']} steps, guidance {settings['guidance_scale']:g}, seed {settings['seed']}"


def as_code(model: str, settings: Mapping[str, Any], loras: Mapping[str, float] | None = None) -> str:
    """The lines of Python that draw the same pictures; of a model that has no public name, with the `pipe` you have.

    loras: the files of those that are taken, and their scales.
    """
    settings = dict(settings)
    lines = [repr(settings.pop("prompt"))]
    quiet = {"negative_prompt": "", "num_images": 1}
    lines += [f"{name}={value!r}" for name, value in settings.items() if quiet.get(name) != value]
    call = "".join(f"    {line},\n" for line in lines)
    public = model in KNOWN or "/" in model
    load = f"from ldm_tutorial import load_pipeline\n\npipe = load_pipeline({model!r})\n" if public else ""
    loaded = "".join(f"pipe.load_lora({file!r}, scale={scale:g})\n" for file, scale in (loras or {}).items())
    return f"{load}{loaded}pictures = pipe(\n{call})\n"


def png_url(picture: Image.Image) -> str:
    """The PNG file that `images.save_image` would write, with its settings, as a link."""
    file = io.BytesIO()
    picture.save(file, "PNG", pnginfo=png_text(picture.info))
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


# ---- comparing


def columns_of(settings: Mapping[str, Any], vary: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """The settings of each column: equal but for the one that is compared."""
    if vary not in settings:
        raise ValueError(f"vary={vary!r} must be one of {', '.join(map(repr, settings))}")
    return [{**settings, vary: value} for value in values]


def index_at(position: int, longest: int, steps: int) -> int:
    """Which of `steps` frames belongs to step `position` (1 ... longest) of the column that has the most: as far along."""
    return max(1, -(-position * steps // longest)) - 1  # rounded up


def difference(a: Image.Image, b: Image.Image, full: int = 128) -> tuple[Image.Image, float]:
    """Where two pictures of one size differ, dark to bright, brightest from `full` on; and the mean, in steps of 256."""
    if a.size != b.size:
        raise ValueError(f"pictures must have one size; got {a.size} and {b.size}")
    levels = [np.asarray(picture.convert("RGB"), dtype=np.float32) for picture in (a, b)]
    apart = np.abs(levels[0] - levels[1]).mean(-1)  # (h, w)
    colors = colormaps["viridis"]((apart / full).clip(0, 1))[..., :3]
    return Image.fromarray((255 * colors).round().astype(np.uint8)), float(apart.mean())
