"""The logs of the trainings as columns of numbers, to plot and to compare with: `loop.TrainingRun.log` wrote them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..weights import EMOJI_FOLDER

TRAININGS = ("clip", "autoencoder", "unet")
SHIPPED = EMOJI_FOLDER / "training"  # the logs of the shipped weights


def read_log(source: str | Path) -> dict[str, np.ndarray]:
    """The columns of a log by name, float64 (n,) each: "step", "seconds", and what that training logged, such as "loss".

    source: "clip", "autoencoder" or "unet", for the log of the shipped weights; or the `log.jsonl` of a training of your own.
    A training may consist of several runs, each of which counts from the beginning: steps and seconds are
    counted on, and "stage" says which it was, 0, 1, ... What a line does not say is NaN.

    Raises FileNotFoundError if there is no such file, ValueError, which names the line, for what is no log.
    """
    path = SHIPPED / f"{source}.jsonl" if source in TRAININGS else Path(source)
    if not path.is_file():
        known = ", ".join(repr(name) for name in TRAININGS)
        raise FileNotFoundError(
            f"source={str(source)!r}: there is no log {path}; allowed are {known}, "
            "and the log.jsonl that `ldm-tutorial train` writes"
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [_parse(line, f"{path}, line {i}") for i, line in enumerate(text.splitlines(), 1)]
    if not lines:
        raise ValueError(f"{path} is empty: the training has not logged a line yet")
    names = list(dict.fromkeys(name for line in lines for name in line))  # in the order in which they come up
    columns = {name: np.array([line.get(name, math.nan) for line in lines]) for name in names}
    begins = np.diff(columns["step"], prepend=columns["step"][0]) < 0  # (n,): the first line of each further run
    columns["stage"] = begins.cumsum().astype(float)
    for name in {"step", "seconds"} & columns.keys():
        before = np.where(begins, np.roll(columns[name], 1), 0.0).cumsum()  # what the runs before had reached
        columns[name] = columns[name] + before
    return columns


def _parse(text: str, place: str) -> dict[str, float]:
    """One line of a log. Raises ValueError, which names the place, for anything else."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON: {error}") from None
    if not isinstance(line, dict) or "step" not in line or not all(v is None or type(v) in (int, float) for v in line.values()):
        raise ValueError(f'{place} must be an object of numbers with a step, {{"step": 50, "loss": 0.4}}; got {text[:80]!r}')
    return {name: math.nan if value is None else float(value) for name, value in line.items()}


def running_mean(values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
    """The mean of the `window` values around each, fewer at the two ends, NaN left out: (n,) -> (n,). NaN where there is none."""
    numbers = np.asarray(values, dtype=float)
    half, n = max(1, int(window)) // 2, len(numbers)
    known = np.isfinite(numbers)
    sums, counts = (np.concatenate([[0.0], np.cumsum(x)]) for x in (np.where(known, numbers, 0.0), known))
    low, high = (np.arange(n) - half).clip(0), (np.arange(n) + half + 1).clip(max=n)
    count = counts[high] - counts[low]
    return np.divide(sums[high] - sums[low], count, out=np.full(n, math.nan), where=count > 0)


def band(values: Sequence[float] | np.ndarray, window: int, widths: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What to expect: the running mean, and `widths` running standard deviations below and above it; (n,) each."""
    mean = running_mean(values, window)
    spread = np.sqrt(running_mean((np.asarray(values, dtype=float) - mean) ** 2, window))
    return mean, mean - widths * spread, mean + widths * spread
