"""What the model costs: megabytes, and seconds against steps, pictures and size on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..inputs import Options
from .report import Measurement

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion

PART_NAMES = {"unet": "U-Net", "text_encoder": "text encoder", "vae": "autoencoder"}


def size_figures(pipe: StableDiffusion, path: Path | None = None) -> list[Measurement]:
    """Parameters of each part; bytes of all files of the model, if it is a folder or file."""
    figures = []
    for part, name in PART_NAMES.items():
        count = sum(p.numel() for p in getattr(pipe, part).parameters())
        figures.append(Measurement(f"parameters.{part}", f"{name}: parameters", float(count), "{:,.0f}"))
    if path is not None:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        megabytes = sum(file.stat().st_size for file in files) / 1e6
        figures.append(Measurement("megabytes", "all files of the model, MB", megabytes, "{:.1f}", at_most=60.0))
    return figures


def time_figures(pipe: StableDiffusion, prompt: str = "a cat", many: int = 24) -> list[Measurement]:
    """Of one picture and of many at once, with all defaults, after a first step of each batch size that warms up."""
    seconds = []
    for count in (1, many):
        pipe(prompt, num_images=count, steps=1, progress=False)
        started = time.perf_counter()
        pipe(prompt, num_images=count, progress=False)
        seconds.append(time.perf_counter() - started)
    return [
        Measurement("seconds.one", "seconds for a picture, 25 steps with guidance", seconds[0], "{:.2f}", at_most=1.0),
        Measurement("seconds.many", f"seconds for {many} pictures at once", seconds[1], "{:.1f}", at_most=8.0),
    ]


# ---- the formula


@dataclass(frozen=True)
class CostPoint:
    """What is drawn, with guidance: in so many steps, each of one network evaluation, so many pictures at once, of so many times
    the model's own side.
    """

    steps: int = 10
    pictures: int = 1
    scale: float = 1

    @property
    def terms(self) -> tuple[float, float, float, float]:
        """What each number of `CostFormula` is multiplied by. A step has two rows for each picture; s^2 latents attend to s^2."""
        rows, area = 2 * self.pictures, self.scale**2
        return self.steps, self.steps * rows * area, self.steps * rows * area**2, self.pictures * area


@dataclass(frozen=True)
class CostFormula:
    """Seconds: of a step, whatever its size; of a row of it, by its area; by its area squared; of a picture decoded.

    error: the largest relative difference of a measured value from the formula.
    """

    step: float
    row: float
    attention: float
    picture: float
    error: float

    def seconds(self, work: CostPoint) -> float:
        """By the formula."""
        return sum(number * term for number, term in zip(astuple(self), work.terms))

    def text(self) -> str:
        """The formula with its numbers, in words."""
        ms = [f"{1000 * number:.2g}" for number in astuple(self)[:4]]
        return (
            f"    milliseconds = m ({ms[0]} + {ms[1]} · 2 b s² + {ms[2]} · 2 b s⁴) + {ms[3]} b s²\n\n"
            f"with m network evaluations (one a step, Heun's two), b pictures, s times the model's own side, and guidance,\n"
            f"which makes 2 b rows. The largest difference of a measured value from it is {self.error:.0%}."
        )


def measure_seconds(pipe: StableDiffusion, work: CostPoint, repeats: int = 2) -> float:
    """The least of several, by the clock, after a first step to warm up, with the model's own scheduler.

    Raises ValueError if that evaluates the network more than once a step, as Heun's does: the formula counts evaluations.
    """
    if (evaluations := pipe.scheduler.evaluations_per_step) != 1:
        raise ValueError(
            f"pipe.scheduler is {type(pipe.scheduler).__name__}, with {evaluations} evaluations a step; 1 is allowed"
        )
    side = round(work.scale * pipe.unet.config.sample_size) * pipe.vae.config.downsampling

    def draw(steps: int) -> float:
        started = time.perf_counter()
        scale, count = Options.guidance_scale, work.pictures
        pipe("a cat", steps=steps, guidance_scale=scale, num_images=count, height=side, width=side, progress=False)
        return time.perf_counter() - started

    draw(1)
    return min(draw(work.steps) for _ in range(repeats))


def fit_cost(measured: Mapping[CostPoint, float]) -> CostFormula:
    """The formula nearest to the measured seconds: least squares of the relative differences, no number below zero.

    Raises ValueError if there are fewer than four measured values.
    """
    if len(measured) < 4:
        raise ValueError(f"a formula of four numbers needs four measured values; there are {len(measured)}")
    seconds = np.array(list(measured.values()))
    terms = np.array([work.terms for work in measured]) / seconds[:, None]  # (n, 4); the right sides are all 1
    kept = list(range(4))
    while True:
        numbers = np.zeros(4)
        numbers[kept] = np.linalg.lstsq(terms[:, kept], np.ones(len(seconds)), rcond=None)[0]
        if (numbers >= 0).all():
            break
        kept.remove(int(numbers.argmin()))
    step, row, attention, picture = map(float, numbers)
    return CostFormula(step, row, attention, picture, error=float(np.abs(terms @ numbers - 1).max()))
