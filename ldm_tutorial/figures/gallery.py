"""The gallery: each prompt with each scheduler and each number of steps, from the same noise, and what it cost.

One function for either model: `draw_gallery(pipe, PROMPTS["emoji"])`, `draw_gallery(pipe, PROMPTS["sd15"])`.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from PIL import Image

from ..checks import one_of, whole_number
from ..pipeline import progress_bar
from ..schedulers import COURSE, Scheduler, scheduler_class
from ..unet import UNet
from .grids import picture_grid

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion

GALLERY_STEPS = (25, 50, 75)
PROMPTS = {  # by the model that they are meant for; for `emoji` the same subjects, and styles instead of painters
    "emoji": (
        "a cat in the style of noto",
        "an astronaut in the style of fluent",
        "a zombie in the style of twemoji",
        "a racing car in the style of fluent",
        "a chipmunk in the style of noto",
        "a hamburger in the style of twemoji",
    ),
    "sd15": (
        "A cat stretching on the floor, highly detailed, ultra sharp, cinematic, 100mm lens, 8k resolution.",
        "An astronaut floating in space, highly detailed, ultra sharp, cinematic, 100mm lens, 8k resolution.",
        "A zombie in the style of Picasso.",
        "A Ferrari sports car, modern car, red color, highly detailed, ultra sharp, perfectly centered, cinematic, 100mm lens, "
        "8k resolution.",
        "A painting of a squirrel eating a burger.",
    ),
}
AXES = ("prompt", "scheduler", "steps", "seed")


@dataclass(frozen=True)
class Cost:
    """Of one picture."""

    calls: int  # latents that the U-Net was shown for it; with guidance two a step, without and with the prompt
    seconds: float  # its share of what its batch took, decoding included; another number on each run


@dataclass(frozen=True, eq=False)
class Gallery:
    """Pictures by (prompt, scheduler, steps, seed), costs by (scheduler, steps). Schedulers go by their titles."""

    prompts: tuple[str, ...]
    schedulers: tuple[str, ...]
    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    pictures: Mapping[tuple[str, str, int, int], Image.Image]
    costs: Mapping[tuple[str, int], Cost]

    def of(self, scheduler: str, steps: int) -> list[Image.Image]:
        """All pictures of one column: for each prompt, each seed. In the same order for every column, so that pairs are pairs."""
        return [self.pictures[prompt, scheduler, steps, seed] for prompt in self.prompts for seed in self.seeds]

    def values(self, axis: str) -> tuple[Any, ...]:
        """What an axis has: "prompt", "scheduler", "steps" or "seed"."""
        return {"prompt": self.prompts, "scheduler": self.schedulers, "steps": self.steps, "seed": self.seeds}[axis]

    def figure(
        self, rows: str = "prompt", columns: str | Sequence[str] = "scheduler", title: str = "", shown: int = 128, **only: Any
    ) -> Figure:
        """A grid of two of the axes "prompt", "scheduler", "steps", "seed", or of three: columns=("scheduler", "steps").

        only: a value for each other axis, where it has several: figure("prompt", "scheduler", steps=25).
        shown: about how many pixels the shorter side of a picture has in it; larger pictures are made smaller.
        Raises ValueError for an axis or a value that there is not, and for an axis that is left open.
        """
        across = (columns,) if isinstance(columns, str) else tuple(columns)
        for name in (rows, *across, *only):
            one_of("axis", name, AXES)
        if len({rows, *across}) != 1 + len(across) or not 1 <= len(across) <= 2:
            raise ValueError(f"rows={rows!r} and columns={columns!r} must be two or three different axes")
        fixed = {}
        for axis in AXES:
            if axis in (rows, *across):
                continue
            values = self.values(axis)
            if axis not in only and len(values) > 1:
                raise ValueError(f"{axis} must be in rows or columns, or have one value: {axis}={values[0]!r}")
            fixed[axis] = only.get(axis, values[0])
            one_of(axis, fixed[axis], values)

        down, places = self.values(rows), list(product(*map(self.values, across)))
        grid = [[self._at({**fixed, rows: value, **dict(zip(across, place))}, shown) for place in places] for value in down]
        groups = [label_of(across[0], value) for value in self.values(across[0])] if len(across) == 2 else None
        return picture_grid(
            grid,
            [label_of(across[-1], place[-1]) for place in places],
            [label_of(rows, value) for value in down] if len(down) > 1 else None,
            title,
            self._describe(fixed if len(down) > 1 else {**fixed, rows: down[0]}),
            shown,
            column_groups=groups,
        )

    def calls(self) -> str:
        """Network calls a picture, as a table of plain text: a row for each scheduler, a column for each number of steps."""
        width = max(map(len, self.schedulers))
        lines = [f"{'steps':{width}}" + "".join(f"{n:>6}" for n in self.steps)]
        for name in self.schedulers:
            lines.append(f"{name:{width}}" + "".join(f"{self.costs[name, n].calls:>6}" for n in self.steps))
        return "\n".join(lines)

    def _at(self, place: Mapping[str, Any], shown: int) -> Image.Image:
        picture = self.pictures[tuple(place[axis] for axis in AXES)]
        scale = min(1, shown / min(picture.size))
        return picture if scale == 1 else picture.resize([round(scale * side) for side in picture.size], Image.Resampling.LANCZOS)

    def _describe(self, fixed: Mapping[str, Any]) -> str:
        """What all pictures of a figure have in common."""
        info = next(iter(self.pictures.values())).info
        words = [info["model"], f"guidance {info['guidance_scale']:g}"]
        words += [f'not "{info["negative_prompt"]}"'] if info["negative_prompt"] else []
        return ", ".join(words + [label_of(axis, fixed[axis]) for axis in AXES[1:] if axis in fixed])


def draw_gallery(
    pipe: StableDiffusion,
    prompts: str | Sequence[str],
    schedulers: Sequence[str] | Mapping[str, str | Scheduler] = COURSE,
    steps: int | Sequence[int] = GALLERY_STEPS,
    seeds: int | Sequence[int] = 0,
    batch_size: int | None = None,
    progress: bool = True,
    *,
    negative_prompt: str = "",
    scheduler_options: Mapping[str, Any] | None = None,
    guidance_scale: float = 7.5,
    guidance_rescale: float = 0.0,
    height: int | None = None,
    width: int | None = None,
) -> Gallery:
    """Draw them all, in batches. What differs is the prompt, the scheduler, the steps and the seed, and nothing else.

    Every scheduler starts a seed's pictures from the same noise, at its own `init_noise_sigma`.
    schedulers: names; or what to call them -> names or objects, such as {"DDIM, linspace": DDIMScheduler(...)}.
    batch_size: pictures at once; None: as many as have 512 x 512 pixels. The others are those of `pipe(...)`.

    Raises TypeError or ValueError for a wrong argument, before the first picture is drawn.
    """
    prompts, steps, seeds = different("prompts", prompts), different("steps", steps), different("seeds", seeds)
    if not isinstance(schedulers, Mapping):
        names = different("schedulers", schedulers)
        schedulers = dict(zip(different("schedulers", [title_of(name) for name in names]), names))
    for way in schedulers.values():
        if not isinstance(way, Scheduler):
            scheduler_class(way)
    for n in steps:
        whole_number("steps", n, 1, pipe.scheduler.num_train_timesteps)
    if batch_size is None:
        own = pipe.unet.config.sample_size * pipe.vae.config.downsampling
        pixels = (height or own) * (width or own)
        batch_size = max(1, 512 * 512 // pixels)
    whole_number("batch_size", batch_size, 1)

    asked, costs = list(product(prompts, seeds)), {}
    pictures: dict[tuple[str, str, int, int], Image.Image] = {}
    columns = list(product(steps, schedulers))
    for n, title in progress_bar(columns, len(columns), progress, unit="column"):
        began = time.perf_counter()
        with count_calls(pipe.unet) as shown:
            for start in range(0, len(asked), batch_size):
                batch = asked[start : start + batch_size]
                drawn = pipe(
                    [prompt for prompt, _ in batch],
                    seed=[seed for _, seed in batch],
                    scheduler=schedulers[title],
                    steps=n,
                    progress=progress,
                    negative_prompt=negative_prompt,
                    scheduler_options=scheduler_options,
                    guidance_scale=guidance_scale,
                    guidance_rescale=guidance_rescale,
                    height=height,
                    width=width,
                )
                pictures |= {(prompt, title, n, seed): picture for (prompt, seed), picture in zip(batch, drawn)}
        costs[title, n] = Cost(sum(shown) // len(asked), (time.perf_counter() - began) / len(asked))
    return Gallery(prompts, tuple(schedulers), steps, seeds, pictures, costs)


@contextmanager
def count_calls(unet: UNet) -> Iterator[list[int]]:
    """Within the block, a list that grows by the number of latents in each call of the U-Net."""
    shown: list[int] = []
    hook = unet.register_forward_pre_hook(lambda _, arguments: shown.append(len(arguments[0])))
    try:
        yield shown
    finally:
        hook.remove()


def different(argument: str, values: Any) -> tuple[Any, ...]:
    """One value or several, each once. Raises ValueError for none, or for one that is there twice."""
    found = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else (values,)
    if not found or len(set(found)) < len(found):
        raise ValueError(f"{argument}={values!r:.60} must be one or more, each once")
    return found


def title_of(name: str) -> str:
    """ "Euler ancestral" of "euler_a" or "Euler a". Raises ValueError for a scheduler that does not exist."""
    return scheduler_class(name).label.title


def label_of(axis: str, value: Any) -> str:
    """A label: prompts over several lines, for they can be long."""
    if axis == "prompt":
        return "\n".join(textwrap.wrap(value, 20, max_lines=4, placeholder=" ..."))
    return {"scheduler": f"{value}", "steps": f"{value} steps", "seed": f"seed {value}"}[axis]
