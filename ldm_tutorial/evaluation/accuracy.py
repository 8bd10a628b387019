"""Does a picture show the right subject, in the right style? By split, category, style and wording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import EmojiEntry
from .drawing import DrawnPictures, Request
from .judge import Verdict
from .reference import Question, Reference
from .report import Measurement, Table, share
from .statistics import lies_among


@dataclass(frozen=True, eq=False)
class Score:
    """Of n answers: right or wrong, (n,) bool each; and how much closer to the right subject than to any other, (n,)."""

    subject: Tensor
    among_five: Tensor  # the right subject is one of the five nearest
    style: Tensor  # true where the prompt does not say one
    margin: Tensor


def score(questions: Sequence[Question], verdict: Verdict) -> Score:
    """`verdict` has a row for each question. The nearest of all subjects that the classifier knows is its answer."""
    n, known = verdict.cosines.shape
    right = torch.zeros(n, known, dtype=torch.bool)  # which subjects are right answers
    for row, question in zip(right, questions):
        row[list(question.subjects)] = True
    order = verdict.cosines.argsort(dim=1, descending=True)  # (n, known)
    hit = right.gather(1, order)
    best_right = verdict.cosines.masked_fill(~right, -2).amax(dim=1)
    best_wrong = verdict.cosines.masked_fill(right, -2).amax(dim=1)
    says = torch.tensor([-1 if q.style is None else q.style for q in questions], dtype=torch.long)
    style = (says < 0) | (verdict.styles.argmax(dim=1) == says)
    return Score(hit[:, 0], hit[:, :5].any(dim=1), style, best_right - best_wrong)


def answers(drawn: DrawnPictures, questions: Sequence[Question]) -> Verdict:
    """The rows of the verdict that belong to these questions."""
    rows = drawn.rows(question.request for question in questions)
    return Verdict(*(tensor[rows] for tensor in drawn.verdict))


# ---- splits and categories

WANTED = {"trained": (0.95, 0.98), "held_out": (0.80, 0.95)}  # subject, style
SPLIT_NAMES = {"trained": "trained pairs", "held_out": "held-out pairs"}


def split_figures(split: str, questions: Sequence[Question], drawn: DrawnPictures) -> list[Measurement]:
    """`split` is "trained" or "held_out", pairs of subject and style asked for by the full caption."""
    result, (subject, style) = score(questions, answers(drawn, questions)), WANTED[split]
    what = SPLIT_NAMES[split]
    return [
        share(f"subject.{split}", f"{what}: the right subject is the nearest", result.subject, at_least=subject),
        share(f"among_five.{split}", f"{what}: it is one of the five nearest", result.among_five),
        share(f"style.{split}", f"{what}: the right style", result.style, at_least=style),
    ]


def by(what: str, key: Callable[[EmojiEntry], str], questions: Sequence[Question], drawn: DrawnPictures) -> Table:
    """Subject and style for each value of `key`, such as the category of an entry."""
    result = score(questions, answers(drawn, questions))
    rows = []
    for name in dict.fromkeys(key(question.entry) for question in questions):
        here = torch.tensor([key(question.entry) == name for question in questions])
        figures = share("subject", "right subject", result.subject[here]), share("style", "right style", result.style[here])
        rows.append((name, figures))
    rows.sort(key=lambda row: -row[1][0].value)
    return Table(what.replace(" ", "_"), f"By {what}, of all pairs drawn:", (what, "right subject", "right style"), tuple(rows))


def worst(questions: Sequence[Question], drawn: DrawnPictures, count: int) -> list[tuple[Question, int]]:
    """The pictures least like their subject, each with the number of the subject that it was taken for."""
    verdict = answers(drawn, questions)
    order = score(questions, verdict).margin.argsort()[:count].tolist()
    return [(questions[i], int(verdict.cosines[i].argmax())) for i in order]


# ---- wording


WORDINGS = {
    "full": "the full caption",
    "label": "the label alone",
    "tag": 'a tag alone, such as "burger"; any subject that has it is right',
    "no_article": "the full caption without its article",
    "the": 'the full caption with "the"',
    "capitals": "THE FULL CAPTION IN CAPITALS",
}


def wordings(reference: Reference, i: int) -> dict[str, Question]:
    """Prompts for picture i, with the same seed; those that do not apply to it are left out."""
    entry, full = reference.entries[i], reference.full(i)
    questions = {
        "full": full,
        "label": reference.reworded(i, entry.label, says_style=False),
        "tag": reference.by_tag(i),
        "no_article": reference.reworded(i, f"{entry.label} in the style of {entry.style}"),
        "the": reference.reworded(i, f"the {entry.label} in the style of {entry.style}"),
        "capitals": reference.reworded(i, full.request.prompt.upper()),
    }
    return {name: q for name, q in questions.items() if q is not None and (name == "full" or q.request != full.request)}


def wording_table(reference: Reference, numbers: Sequence[int], drawn: DrawnPictures) -> Table:
    """For each wording: is the subject right, and is it the one that the full caption gave from the same noise?"""
    rows = []
    for name, what in WORDINGS.items():
        asked = [(all_of["full"], all_of[name]) for all_of in (wordings(reference, i) for i in numbers) if name in all_of]
        if not asked:
            continue
        full, questions = zip(*asked)
        verdict = answers(drawn, questions)
        same = verdict.cosines.argmax(dim=1) == answers(drawn, full).cosines.argmax(dim=1)
        rows.append((what, (share("subject", "", score(questions, verdict).subject), share("same", "", same))))
    header = ("wording, same seed", "right subject", "same subject as by the full caption")
    return Table("wording", "By wording:", header, tuple(rows))


# ---- no words at all


def empty_prompts(count: int) -> list[Request]:
    """As many pictures without a prompt, of the seeds 0, 1, ..."""
    return [Request("", seed=seed) for seed in range(count)]


def empty_figures(requests: Sequence[Request], drawn: DrawnPictures, real: Tensor) -> list[Measurement]:
    """Are they like emoji, and do they differ? `real`: the features of the real pictures."""
    rows = drawn.rows(requests)
    found = drawn.verdict.cosines[rows].argmax(dim=1).unique()
    return [
        share(
            "empty.plausible",
            "empty prompt: among the real pictures, in the classifier's features",
            lies_among(drawn.verdict.features[rows], real),
        ),
        Measurement("empty.subjects", f"empty prompt: different subjects in {len(rows)} pictures", float(len(found)), "{:.0f}"),
    ]
