"""What the model costs: megabytes, and seconds a picture on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

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
        figures.append(Measurement("megabytes", "all files of the model, MB", megabytes, "{:.1f}", at_most=40.0))
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
