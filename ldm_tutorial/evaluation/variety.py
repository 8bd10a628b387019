"""A caption that leaves the style open, such as "a cat", should show what it leaves open: another seed, another style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ..data.dataset import with_article
from .drawing import DrawnPictures, Request
from .metrics import distance
from .reference import Reference, sample
from .report import Measurement, share

STYLES_WANTED = 3


@dataclass(frozen=True)
class OpenCaptions:
    """Subjects asked for without a style, each with the seeds 0, 1, ...; and the real pictures of each subject."""

    prompts: tuple[str, ...]
    real: tuple[Tensor, ...]  # of each prompt's subject, one a style: uint8 (styles, 3, h, w)
    seeds: int

    def requests(self) -> list[Request]:
        """All pictures that it needs, prompt by prompt."""
        return [Request(prompt, seed=seed) for prompt in self.prompts for seed in range(self.seeds)]

    def figures(self, drawn: DrawnPictures) -> list[Measurement]:
        """How many styles the classifier sees, and how far two seeds are apart beside two real pictures of the subject.

        An empty list if no subject has enough styles.
        """
        if not self.prompts:
            return []
        rows = drawn.rows(self.requests()).view(len(self.prompts), self.seeds)
        styles = drawn.verdict.styles[rows].argmax(dim=2)  # (prompts, seeds)
        counts = torch.tensor([len(row.unique()) for row in styles])
        ratios = [mean_distance(drawn.pictures[row]) / mean_distance(real) for row, real in zip(rows, self.real)]
        seeds = f"{self.seeds} seeds of a caption without a style"
        return [
            Measurement("open.styles", f"{seeds}: how many styles, on average", counts.float().mean().item(), "{:.1f}"),
            share("open.three", f"{seeds}: at least {STYLES_WANTED} styles", counts >= STYLES_WANTED),
            Measurement(
                "open.distance",
                f"{seeds}: distance of two, over that of two real pictures of the subject (median)",
                torch.tensor(ratios).median().item(),
                "{:.2f}",
            ),
        ]


def mean_distance(pictures: Tensor) -> float:
    """Between any two of them, in levels of 255: uint8 (n, 3, h, w)"""
    first, second = zip(*combinations(range(len(pictures)), 2))
    return distance(pictures[list(first)], pictures[list(second)]).mean().item()


def open_captions(reference: Reference, count: int, seeds: int) -> OpenCaptions:
    """`count` subjects, always the same, of those that the data set has in at least three styles, held out or not."""
    by_subject: dict[int, list[int]] = {}
    for i, subject in enumerate(reference.subjects.tolist()):
        by_subject.setdefault(subject, []).append(i)
    fit = [numbers for numbers in by_subject.values() if len(styles_of(reference, numbers)) >= STYLES_WANTED]
    chosen = [fit[k] for k in sample(range(len(fit)), min(count, len(fit)))]
    prompts = tuple(with_article(reference.entries[numbers[0]].label) for numbers in chosen)
    return OpenCaptions(prompts, tuple(reference.pictures[styles_of(reference, numbers)] for numbers in chosen), seeds)


def styles_of(reference: Reference, numbers: Sequence[int]) -> list[int]:
    """Of these pictures, the first of each style."""
    return list({reference.entries[i].style: i for i in reversed(numbers)}.values())
