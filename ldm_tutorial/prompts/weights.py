r"""Prompt weighting: a part of the prompt that counts more, or less, than the rest. The syntax is that of AUTOMATIC1111's web UI.

    (cat:1.3)      weight 1.3
    (cat)          weight 1.1
    ((cat) nap)    parentheses nest, and weights multiply: 1.21 for "cat", 1.1 for "nap"
    \( \) \: \\    a parenthesis, a colon or a backslash that is text; outside of parentheses a colon is text anyway

Tokens are those of the text without this syntax, so that a weight never changes which words the text encoder reads.

What a weight w does to the text embedding h of a token is where programs differ. h_0 is that of the empty prompt, in the same
place:

    AUTOMATIC1111   h' = w h, and then all of h' is multiplied by mean(h) / mean(h')
    compel          h' = h_0 + w (h - h_0) for w above 1; below, a mixture with prompts in which the part is masked
    here            h' = h_0 + w (h - h_0) for every w

This is the formula of guidance (arXiv:2207.12598, equation 6) for one token: 0 is as if nothing had been asked for, 1 is what was
asked for, more goes further in that direction. Scaling h instead would also scale what it has in common with h_0, and what is
left at 0 is no embedding of anything. The web UI then restores the mean of all numbers of the prompt's embeddings. That is near
0, so that a ratio of two such means says little, and it changes tokens without a weight, too. Here, a token with weight 1 keeps
its embedding, bit for bit, whatever weights the others have.

In all three ways a word of weight 0 is not gone: the tokens behind it have read it, those of the padding as well, and keep what
they know. To do without a word, leave it out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .chunks import in_chunks

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

EMPHASIS = 1.1  # of parentheses without a number
MAX_WEIGHT = 10.0  # against slips, such as 13 for 1.3

SYNTAX = re.compile(r"\\[\\():]|\(|(?::(?P<weight>[^():\\]*))?\)|:|[^\\():]+|\\", re.DOTALL)
NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)\s*")


class Span(NamedTuple):
    """A part of a prompt, without parentheses and escapes, and its weight."""

    text: str
    weight: float


def read_weights(prompt: str, argument: str = "prompt") -> list[Span]:
    """The parts of a prompt in their order, neighbors of different weight. Raises ValueError for a mistake in the syntax."""
    spans: list[Span] = []
    opened: list[tuple[int, int]] = []  # of each open parenthesis: its position in the prompt, and the spans before it
    for piece in SYNTAX.finditer(prompt):
        text, at = piece.group(), piece.start()
        if text == "(":
            opened.append((at, len(spans)))
        elif text.endswith(")") and text[0] != "\\":
            if not opened:
                raise ValueError(f"{argument} has a ')' at position {piece.end() - 1} that closes nothing; as text, write \\)")
            weight = weight_of(piece["weight"], at, argument)
            first = opened.pop()[1]
            spans[first:] = [Span(part.text, part.weight * weight) for part in spans[first:]]
        elif text == ":" and opened:
            raise ValueError(f"{argument} has a ':' at position {at} without a number and ')' after it; as text, write \\:")
        else:
            spans.append(Span(text[-1] if text[0] == "\\" else text, 1.0))
    if opened:
        raise ValueError(f"{argument} has a '(' at position {opened[-1][0]} that is never closed; as text, write \\(")
    for part in spans:
        if part.weight > MAX_WEIGHT:
            raise ValueError(f"{argument} gives {part.text!r:.60} the weight {part.weight:.4g}; a weight is 0 ... {MAX_WEIGHT:g}")
    return merge_neighbors(spans)


def weight_of(number: str | None, at: int, argument: str) -> float:
    """The weight in ":1.3)", at this position of the prompt; None: the one without a number. Raises ValueError if it is none."""
    if number is None:
        return EMPHASIS
    if not NUMBER.fullmatch(number) or not 0 <= float(number) <= MAX_WEIGHT:
        raise ValueError(
            f"{argument} has the weight {number.strip()!r:.60} at position {at}; a weight is a number, 0 ... {MAX_WEIGHT:g}, "
            "such as (cat:1.3); for a colon that is text, write \\:"
        )
    return float(number)


def merge_neighbors(spans: Sequence[Span]) -> list[Span]:
    """Neighbors of one weight as one span."""
    found: list[Span] = []
    for text, weight in spans:
        if found and found[-1].weight == weight:
            text = found.pop().text + text
        found.append(Span(text, weight))
    return found


def plain_text(spans: Sequence[Span]) -> str:
    """What the text encoder reads of them."""
    return "".join(span.text for span in spans)


def escape(text: str) -> str:
    """The prompt that is read as this text, whatever is in it, with weight 1."""
    return re.sub(r"([\\():])", r"\\\1", text)


def token_weights(tokenizer: CLIPTokenizer, spans: Sequence[Span], length: int = 77, chunks: int = 1) -> list[float]:
    """A weight for each of the length * chunks tokens that the text encoder reads: 1 for starts and ends, and for a token of
    `plain_text(spans)` that of the character with which it begins.
    """
    weights = [span.weight for span in spans for _ in span.text]
    offsets = tokenizer(plain_text(spans), add_special_tokens=False, return_offsets_mapping=True, verbose=False).offset_mapping
    read = [weights[start] for start, _ in offsets][: chunks * (length - 2)]  # the rest is cut
    return in_chunks(read, 1.0, 1.0, length, chunks)


def weigh(states: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """h_0 + w (h - h_0). states, empty: (b, m, d), of the prompts and of the empty one; weights: (b, m) -> (b, m, d)"""
    w = weights[..., None]  # (b, m, 1)
    moved = empty.float() + w * (states.float() - empty.float())
    return torch.where(w == 1, states, moved.to(states.dtype))
