"""Which words a picture gets: people ask in full sentences, by a name, by a tag, and leave the article out."""

from __future__ import annotations

import re

import torch


def without_article(caption: str) -> str:
    """ "a cat in the style of noto" -> "cat in the style of noto" """
    return re.sub(r"^an? ", "", caption)


def choose_words(
    all_captions: list[tuple[str, ...]], generator: torch.Generator, full: float, bare: float, label: float
) -> list[str]:
    """For each picture its full caption with probability `full`, that without its article with `bare`, its label alone with
    `label`, and else any of its captions: mostly tags.

    Each row of `all_captions` is as `data.captions` writes it: the full caption first, then the label.
    """
    chosen = []
    for captions in all_captions:
        draw = float(torch.rand((), generator=generator))
        if draw < full:
            chosen.append(captions[0])
        elif draw < full + bare:
            chosen.append(without_article(captions[0]))
        elif draw < full + bare + label:
            chosen.append(captions[1])
        else:
            chosen.append(captions[int(torch.randint(len(captions), (), generator=generator))])
    return chosen
