"""The data set as a source of questions: what to ask the model for, and which answers are right.

The seed of a prompt is the number of its picture in the data set, and so always the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..data import EmojiDataset, EmojiEntry, canonical_caption
from ..data.dataset import is_held_out
from .drawing import Request
from .judge import Judge, right_answers


@dataclass(frozen=True)
class Question:
    """A picture to draw, and what it must show."""

    request: Request
    entry: EmojiEntry
    subjects: frozenset[int]  # any of these is right, for a tag may name several
    style: int | None  # None: the prompt does not say


class Reference:
    """The pictures that the answers are compared with. The numbers of subjects and styles are the classifier's.

    Raises ValueError if the classifier was trained on another data set.
    """

    def __init__(self, data: EmojiDataset, judge: Judge):
        self.entries, self.pictures = data.entries, data.pictures  # uint8 (n, 3, h, w)
        self.subjects, self.styles = right_answers(judge.config, self.entries)  # (n,) twice
        self.subject_names = judge.config.subjects
        held_out = [is_held_out(entry.label, entry.style) for entry in self.entries]
        self.trained = [i for i, held in enumerate(held_out) if not held]
        self.unseen = [i for i, held in enumerate(held_out) if held]
        self.named: dict[str, set[int]] = {}  # which subjects have this label or tag
        for entry, subject in zip(self.entries, self.subjects.tolist()):
            for name in (entry.label, *entry.tags):
                self.named.setdefault(name, set()).add(subject)

    def full(self, i: int) -> Question:
        """ "a cat in the style of noto": the caption that names picture i."""
        entry = self.entries[i]
        request = Request(canonical_caption(entry.label, entry.style), seed=i)
        return Question(request, entry, frozenset({int(self.subjects[i])}), int(self.styles[i]))

    def reworded(self, i: int, prompt: str, says_style: bool = True) -> Question:
        """The same picture, with the same seed, by another prompt."""
        question = self.full(i)
        request = replace(question.request, prompt=prompt)
        return replace(question, request=request, style=question.style if says_style else None)

    def by_tag(self, i: int) -> Question | None:
        """One of its tags alone; every subject that has this tag or name is right. None if it has no tags."""
        tags = self.entries[i].tags
        if not tags:
            return None
        tag = tags[i % len(tags)]
        return replace(self.reworded(i, tag, says_style=False), subjects=frozenset(self.named[tag]))


def sample(numbers: Sequence[int], count: int | None, seed: int = 0) -> list[int]:
    """`count` of the numbers (None: all, as they are), always the same ones; a smaller sample is the head of a larger."""
    if count is None:
        return list(numbers)
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))
    return [numbers[i] for i in order[:count].tolist()]
