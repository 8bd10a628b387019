"""Guidance, steps and schedulers: how the result depends on them, and which schedulers are one and the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..inputs import Options
from ..schedulers import COURSE, SCHEDULERS
from .accuracy import answers, score
from .drawing import DrawnPictures, Request
from .metrics import decibels
from .reference import Question
from .report import Measurement, Table, share
from .statistics import energy_test


def with_settings(questions: Sequence[Question], **settings: Any) -> list[Question]:
    """The same questions, drawn with another scheduler, number of steps or guidance."""
    return [replace(question, request=replace(question.request, **settings)) for question in questions]


# ---- curves


@dataclass(frozen=True)
class Sweep:
    """One setting varied, for all schedulers of the course: `name` is the field of `Request`."""

    name: str
    values: tuple[float, ...]
    questions: tuple[Question, ...]

    def at(self, scheduler: str, value: float) -> list[Question]:
        """The questions with this scheduler, and the setting at this value."""
        return with_settings(self.questions, scheduler=scheduler, **{self.name: value})

    def requests(self) -> list[Request]:
        """All pictures that the sweep needs."""
        return [question.request for s in COURSE for value in self.values for question in self.at(s, value)]

    def curves(self, drawn: DrawnPictures) -> dict[str, list[tuple[Measurement, Measurement]]]:
        """For each scheduler, at each value: the shares of right subjects and right styles."""
        curves = {}
        for scheduler in COURSE:
            results = [score(at, answers(drawn, at)) for at in (self.at(scheduler, value) for value in self.values)]
            curves[scheduler] = [(share("subject", "", r.subject), share("style", "", r.style)) for r in results]
        return curves

    def table(self, drawn: DrawnPictures) -> Table:
        """The share of right subjects: a row for each value, a column for each scheduler."""
        curves = self.curves(drawn).items()
        rows = [
            (f"{value:g}", tuple(replace(points[i][0], key=scheduler) for scheduler, points in curves))
            for i, value in enumerate(self.values)
        ]
        title = f"The right subject, by {self.name}, of {len(self.questions)} trained pairs each:"
        return Table(self.name, title, (self.name, *(SCHEDULERS[s].label.title for s in COURSE)), tuple(rows), brief=True)


# ---- pictures of the same noise


def likeness_between(drawn: DrawnPictures, first: Sequence[Request], second: Sequence[Request]) -> tuple[float, Tensor]:
    """Two ways of drawing, from the same noise: the median PSNR between them in decibels, and whether the subject agrees, (n,)"""
    a, b = (drawn.rows(requests) for requests in (first, second))
    same = drawn.verdict.cosines[a].argmax(dim=1) == drawn.verdict.cosines[b].argmax(dim=1)
    return decibels(drawn.pictures[a], drawn.pictures[b]).median().item(), same


def likeness_table(sweep: Sweep, drawn: DrawnPictures) -> Table:
    """Few steps against many, and one scheduler against its twin. `sweep` is the one over steps."""
    most, usual = max(sweep.values), Options.steps if Options.steps in sweep.values else max(sweep.values)
    pairs = [(f"DDIM, {n:g} steps and {most:g}", ("ddim", n), ("ddim", most)) for n in sweep.values if n < most]
    pairs += [
        (f"Euler and DDIM, {usual:g} steps", ("euler", usual), ("ddim", usual)),
        (f"Euler ancestral and DDPM, {usual:g} steps", ("euler_a", usual), ("ddpm", usual)),
        (f"DDPM and DDIM, {usual:g} steps", ("ddpm", usual), ("ddim", usual)),
    ]
    rows = []
    for name, first, second in pairs:
        psnr, same = likeness_between(drawn, *([q.request for q in sweep.at(*way)] for way in (first, second)))
        rows.append((name, (Measurement("psnr", "", psnr, "{:.1f} dB"), share("same_subject", "", same))))
    title = "How alike are pictures from the same noise?"
    return Table("likeness", title, ("", "median PSNR between them", "same subject"), tuple(rows))


# ---- the same distribution


@dataclass(frozen=True)
class Crowd:
    """Many seeds of a few prompts with each scheduler, no seed twice: independent samples of what each one draws."""

    prompts: tuple[str, ...]
    seeds: int

    def of(self, scheduler: str) -> list[Request]:
        """The pictures of one scheduler, prompt by prompt."""
        first = 1_000_000 * (1 + COURSE.index(scheduler))
        return [
            Request(prompt, seed=first + k * self.seeds + i, scheduler=scheduler)
            for k, prompt in enumerate(self.prompts)
            for i in range(self.seeds)
        ]

    def requests(self) -> list[Request]:
        """All pictures that the comparison needs."""
        return [request for scheduler in COURSE for request in self.of(scheduler)]

    def features(self, drawn: DrawnPictures, scheduler: str) -> Tensor:
        """(prompts, seeds, c)"""
        rows = drawn.rows(self.of(scheduler))
        return drawn.verdict.features[rows].unflatten(0, (len(self.prompts), self.seeds))

    def table(self, drawn: DrawnPictures) -> Table:
        """The energy test between schedulers that should draw alike, and between two that need not."""
        rows = []
        for first, second in (("euler", "ddim"), ("euler_a", "ddpm"), ("ddpm", "ddim")):
            coefficient, p = energy_test(self.features(drawn, first), self.features(drawn, second))
            figures = Measurement("energy", "", coefficient, "{:.3f}"), Measurement("p", "", p, "{:.3f}")
            rows.append((f"{SCHEDULERS[first].label.title} and {SCHEDULERS[second].label.title}", figures))
        title = (
            f"Is it the same distribution? {len(self.prompts)} prompts, {self.seeds} seeds each and another for each scheduler, "
            "in the classifier's features. A small p says that it is not:"
        )
        return Table("distribution", title, ("", "energy coefficient", "p"), tuple(rows))
