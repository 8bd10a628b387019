#!/usr/bin/env python3
"""Where in the noise does guidance help? The worked solution of the project in docs/instructor/project/README.md.

    python docs/instructor/project/guidance_interval.py --pairs 24 --seeds 2 -o runs/interval

Guidance in a limited interval of noise levels is from Kynkaanniemi et al. 2024 (arXiv:2404.07724). Outside of the interval the
network is evaluated once, with the words, in place of twice: that is guidance 1, at half of the work.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ldm_tutorial.checkpoints import resolve
from ldm_tutorial.data import EmojiDataset, EmojiEntry, canonical_caption
from ldm_tutorial.evaluation.drawing import to_levels
from ldm_tutorial.evaluation.judge import load_judge, look
from ldm_tutorial.evaluation.statistics import bootstrap_interval
from ldm_tutorial.figures.grids import picture_grid
from ldm_tutorial.pipeline import Run, StableDiffusion, guide, load_pipeline

INTERVALS = {  # of σ, the noise per unit of picture: guidance where low < σ <= high
    "everywhere": (0.0, math.inf),
    "nowhere": (0.0, 0.0),
    "above 3": (3.0, math.inf),
    "1 to 3": (1.0, 3.0),
    "below 1": (0.0, 1.0),
    "above 1": (1.0, math.inf),
    "below 3": (0.0, 3.0),
}


class IntervalGuidance(StableDiffusion):
    """A pipeline that guides at noise levels low < σ <= high only. `evaluations` counts the pictures shown to the U-Net."""

    interval: tuple[float, float] = (0.0, math.inf)
    evaluations: int = 0

    def _predict_noise(self, run: Run, x: Tensor, t: Tensor) -> Tensor:
        low, high = self.interval
        options, scheduler = run.inputs.options, run.inputs.scheduler
        x_in, b = scheduler.scale_model_input(x, t), len(x)
        with_words = run.context[-b:]  # (b, 77, d): the second half, or all of it
        if len(run.context) == 2 * b and low < scheduler.sigma_at(t).item() <= high:
            both = self.unet(torch.cat([x_in, x_in]).to(self.dtype), t.float().to(self.device), run.context).float()
            self.evaluations += 2 * b
            return guide(*both.chunk(2), options.guidance_scale, options.guidance_rescale)  # (b, 4, h, w)
        self.evaluations += b
        return self.unet(x_in.to(self.dtype), t.float().to(self.device), with_words).float()


@dataclass(frozen=True)
class Result:
    """What one interval gave, for n prompts with k seeds each."""

    pictures: list[list[Image.Image]]  # n rows of k
    right: Tensor  # (n, k): 1 where the classifier names the right subject
    evaluations: float  # of the U-Net, for one picture

    @property
    def variety(self) -> float:
        """Mean difference between two seeds of a prompt, in levels of 255; 0 with one seed."""
        pixels = np.stack([np.stack([np.float32(picture) for picture in row]) for row in self.pictures])  # (n, k, h, w, 3)
        k = pixels.shape[1]
        pairs = [(i, j) for i in range(k) for j in range(i)]
        return float(np.mean([np.abs(pixels[:, i] - pixels[:, j]).mean() for i, j in pairs])) if pairs else 0.0


def entries_of(count: int) -> list[EmojiEntry]:
    """So many trained pairs of subject and style, evenly from all of them: chosen before anything is drawn."""
    entries = EmojiDataset("train").entries
    return entries[:: max(1, len(entries) // count)][:count]


def measure(
    pipe: IntervalGuidance, entries: list[EmojiEntry], seeds: range, interval: tuple[float, float], steps: int, scale: float
) -> Result:
    """Draw every prompt with every seed, and let the classifier name the subjects."""
    classifier = load_judge()
    prompts = [canonical_caption(entry.label, entry.style) for entry in entries]
    known = list(classifier.config.subjects)
    wanted = torch.tensor([known.index(entry.label) for entry in entries])  # (n,)
    pipe.interval, pipe.evaluations = interval, 0
    drawn, right = [], []
    for seed in seeds:
        pictures = pipe(prompts, seed=[seed] * len(prompts), steps=steps, guidance_scale=scale, progress=False)
        drawn.append(pictures)
        right.append(look(classifier, to_levels(pictures)).cosines.argmax(dim=1) == wanted)
    evaluations = pipe.evaluations / (len(prompts) * len(seeds))
    return Result([list(row) for row in zip(*drawn)], torch.stack(right, dim=1).float(), evaluations)


def difference(a: Result, b: Result) -> tuple[float, float, float]:
    """(mean, low, high) of the share right of a minus that of b. Seeds of a prompt are averaged first: prompts are resampled."""
    by_prompt = (a.right - b.right).mean(dim=1)  # (n,)
    return float(by_prompt.mean()), *bootstrap_interval(by_prompt)


def table(results: dict[str, Result]) -> str:
    """Markdown: one row for each interval, compared with guidance everywhere."""
    rows = [
        "| guidance where σ is | evaluations a picture | right subject | minus everywhere (95 %) | variety |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, result in results.items():
        mean, low, high = difference(result, results["everywhere"])
        compared = "" if name == "everywhere" else f"{100 * mean:+.0f} ({100 * low:+.0f} to {100 * high:+.0f})"
        rows.append(
            f"| {name} | {result.evaluations:.0f} | {100 * result.right.mean():.0f} % | {compared} | {result.variety:.1f} |"
        )
    return "\n".join(rows)


def sheet(entries: list[EmojiEntry], results: dict[str, Result], columns: int = 6) -> Figure:
    """A row for each interval: the first seed of some prompts, evenly from all of them."""
    chosen = range(0, len(entries), max(1, len(entries) // columns))[:columns]
    labels = [textwrap.fill(entries[i].label, 13) for i in chosen]
    return picture_grid(
        [[result.pictures[i][0] for i in chosen] for result in results.values()], labels, list(results), shown=128
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=24, help="prompts (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=2, help="pictures of each prompt (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--scale", type=float, default=7.5)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/interval"))
    args = parser.parse_args()
    parts = load_pipeline(resolve("emoji"))
    pipe = IntervalGuidance(parts.unet, parts.vae, parts.text_encoder, parts.tokenizer, parts.scheduler, parts.name)
    entries, results = entries_of(args.pairs), {}
    for name, interval in INTERVALS.items():
        results[name] = measure(pipe, entries, range(args.seeds), interval, args.steps, args.scale)
        print(f"{name}: {100 * results[name].right.mean():.0f} % right", flush=True)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "table.md").write_text(table(results) + "\n", encoding="utf-8")
    sheet(entries, results).savefig(args.output / "sheet.png", metadata={"Software": None})
    print(table(results))


if __name__ == "__main__":
    main()
