"""Prompts that are longer than the text encoder reads, in chunks, as in AUTOMATIC1111's web UI.

The text encoder has 77 positions: a start token, 75 tokens of the prompt, an end token. A longer prompt is cut into parts of 75
tokens. Each gets a start and an end token of its own and is read by itself, so that no token attends to one of another chunk.
Their hidden states, put one after the other, are (77 k, d). The U-Net takes them as they are: cross-attention compares each
latent with every row, and has no positions of its own.

The U-Net has no padding mask: empty chunks count, too. All prompts of a call, negative ones included, get the number of chunks of
the longest. Beside a longer prompt, the same prompt and seed therefore give a slightly different picture than alone.

A chunk ends after 75 tokens, also in the middle of a word or a phrase. (The web UI can move such an end to a comma before it.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

Value = TypeVar("Value")


def in_chunks(values: Sequence[Value], start: Value, end: Value, length: int = 77, count: int = 1) -> list[Value]:
    """One value per token of a prompt -> k rows of `length` in one list: start, up to length - 2 values, then ends.

    count: the least number of rows. Those beyond the prompt are those of an empty one.
    """
    room = length - 2
    parts = [list(values[i : i + room]) for i in range(0, len(values), room)]
    parts += [[] for _ in range(count - len(parts))]
    return [value for part in parts for value in (start, *part, *[end] * (length - 1 - len(part)))]


def tokenize_in_chunks(tokenizer: CLIPTokenizer, prompts: Sequence[str], length: int = 77) -> Tensor:
    """All tokens of the prompts: (b, length k) integers, where k is the number of chunks of the longest prompt.

    A prompt of up to length - 2 tokens is the row that `inputs.tokenize` gives.
    """
    tokens = [tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids for prompt in prompts]
    count = max(1, *(-(-len(row) // (length - 2)) for row in tokens))  # rounded up
    return torch.tensor([in_chunks(row, tokenizer.bos_token_id, tokenizer.eos_token_id, length, count) for row in tokens])


def equally_long(a: Tensor, b: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the number of chunks of the longer one. a, b: (n, m k, d), each its own k; empty: (1, m, d)"""
    longest = max(a.shape[1], b.shape[1])

    def longer(x: Tensor) -> Tensor:
        missing = (longest - x.shape[1]) // empty.shape[1]
        return torch.cat([x, empty.expand(len(x), -1, -1).repeat(1, missing, 1)], dim=1)

    return longer(a), longer(b)
