"""The figures as Markdown, for the model card, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .statistics import wilson


@dataclass(frozen=True)
class Measurement:
    """One measured number; `form` says how to write it, `at_least` and `at_most` what is wanted of it."""

    key: str
    what: str
    value: float
    form: str = "{:.3g}"
    count: int | None = None  # the value is a share of so many
    at_least: float | None = None
    at_most: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of a share; None for other numbers."""
        return wilson(round(self.value * self.count), self.count) if self.count else None

    @property
    def reached(self) -> bool | None:
        """None: nothing is wanted, or nothing was measured."""
        if math.isnan(self.value) or (self.at_least is None and self.at_most is None):
            return None
        return (self.at_least is None or self.value >= self.at_least) and (self.at_most is None or self.value <= self.at_most)

    def text(self, brief: bool = False) -> str:
        """The number as the report writes it; `brief`: a share without its interval."""
        if math.isnan(self.value):
            return "not measured"
        if brief or not self.interval:
            return self.form.format(self.value)
        low, high = (f"{100 * bound:.1f}" for bound in self.interval)
        return f"{self.value:.1%} of {self.count:,} ({low} to {high})"

    def wanted(self) -> str:
        """The bounds, and whether they are kept; empty if there are none."""
        bounds = (("at least ", self.at_least), ("at most ", self.at_most))
        text = " and ".join(word + self.form.format(bound) for word, bound in bounds if bound is not None)
        return text if self.reached is None else f"{text}: {'reached' if self.reached else 'missed'}"

    def to_json(self) -> dict[str, Any]:
        """All that is known about the number; not its key."""
        values = {
            "value": None if math.isnan(self.value) else self.value,
            "count": self.count,
            "interval": self.interval,
            "at_least": self.at_least,
            "at_most": self.at_most,
            "reached": self.reached,
        }
        return {"what": self.what, **{key: value for key, value in values.items() if value is not None or key == "value"}}


def share(key: str, what: str, right: Tensor, at_least: float | None = None) -> Measurement:
    """Of answers that are right or wrong, (n,) bool."""
    value = right.double().mean().item() if len(right) else math.nan
    return Measurement(key, what, value, "{:.0%}", count=len(right), at_least=at_least)


@dataclass(frozen=True)
class Table:
    """Figures side by side. The first cell of each row names it."""

    key: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Measurement, ...]], ...]
    brief: bool = False  # shares without their intervals, which JSON has

    def to_markdown(self) -> str:
        """The title and the table."""
        rows = [(name, *(figure.text(self.brief) for figure in figures)) for name, figures in self.rows]
        return f"{self.title}\n\n{markdown_table(self.header, rows)}"

    def to_json(self) -> dict[str, Any]:
        """The measurements of each row by their keys."""
        return {name: {figure.key: figure.to_json() for figure in figures} for name, figures in self.rows}


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in GitHub's Markdown; a | in a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


@dataclass(frozen=True)
class Report:
    """What `evaluate` found out. `about` says of what, and how: model, versions, machine, numbers of pictures."""

    about: dict[str, Any]
    figures: tuple[Measurement, ...]
    tables: tuple[Table, ...]

    def __getitem__(self, key: str) -> float:
        """The value of a figure by its key."""
        return next(figure.value for figure in self.figures if figure.key == key)

    def to_markdown(self) -> str:
        """The whole report, as the model card shows it."""
        rows = [(figure.what, figure.text(), figure.wanted()) for figure in self.figures]
        about = "\n".join(f"- {name}: {value}" for name, value in self.about.items())
        note = "Shares are followed by their 95 % interval, in percent."
        main = markdown_table(("measured", "value", "wanted"), rows)
        return "\n\n".join([main, note, *(table.to_markdown() for table in self.tables), about]) + "\n"

    def to_json(self) -> str:
        """The whole report, as docs/evaluation.json keeps it."""
        content = {
            "about": self.about,
            "figures": {figure.key: figure.to_json() for figure in self.figures},
            "tables": {table.key: table.to_json() for table in self.tables},
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"
