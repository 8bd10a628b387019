"""Prompts to tokens: what the text encoder reads of what was typed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def tokenize(tokenizer: Any, prompts: Sequence[str], length: int = 77, argument: str = "prompt") -> Tensor:
    """Start token, up to length - 2 tokens of the prompt, end token, and end tokens up to `length`: (b, length) integers.

    Padding with the end token, not with 0, is what Stable Diffusion v1 was trained with (Radford et al. 2021 pad with 0). A
    prompt that is too long is cut, its end token kept, and a UserWarning says what was cut.

    Raises:
        TypeError: a prompt is not a string.
        ValueError: a prompt cannot be written as UTF-8.
    """
    rows = []
    for prompt in prompts:
        check_prompt(prompt, argument)
        tokens = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
        kept, cut = tokens[: length - 2], tokens[length - 2 :]
        if cut:
            warn_of_cut(tokenizer.decode(cut), len(cut), length - 2, argument)
        end = [tokenizer.eos_token_id] * (length - 1 - len(kept))  # at least one
        rows.append([tokenizer.bos_token_id, *kept, *end])
    return torch.tensor(rows)  # (b, length)


def check_prompt(prompt: object, argument: str) -> None:
    if not isinstance(prompt, str):
        raise TypeError(f"{argument} must be a string or a list of strings; got {type(prompt).__name__}: {prompt!r:.60}")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{argument} holds {prompt[error.start]!r} at position {error.start}, which is no character") from None


def warn_of_cut(text: str, tokens: int, limit: int, argument: str) -> None:
    words = len(text.split())
    start = text if len(text) <= 60 else f"{text[:57]}..."
    count = f"last {tokens} tokens ({words} word{'s' * (words != 1)}) are" if tokens > 1 else "last token is"
    warnings.warn(
        f'{argument} is longer than the {limit} tokens that the text encoder reads; the {count} cut, from "{start}" on',
        UserWarning,
        stacklevel=3,
    )
