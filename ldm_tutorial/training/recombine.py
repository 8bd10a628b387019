"""Words recombined: the subject of one caption, the style of another.

Each token of a causal text encoder knows all tokens before it. So what follows the subject in "a penguin in the style of noto"
(four words, the end token, and all the padding: most of the 77 states) knows the penguin too, and differs from pair to pair. A
network that sees each pair a few hundred times can learn the pairs by heart from those states, and then has nothing to go by
where a pair is new. Here a caption keeps the states of its subject, and what follows comes from a caption with another subject
and the same style. There the subject is wrong as a rule and the style is always right; which is what the network then learns
to look for in either part.

Shapes: b captions of 77 tokens, d dimensions of a state.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.dataset import STYLE_FOLLOWS


def subject_length(tokenizer, caption: str) -> int:
    """How many tokens stand before the style, the start token included; 0 for a caption that tells no style."""
    subject, mark, _ = caption.partition(STYLE_FOLLOWS)
    return len(tokenizer(subject).input_ids) - 1 if mark else 0  # without the end token


def same_style(styles: list[str], indices: Tensor, generator: torch.Generator) -> Tensor:
    """For each picture of `indices` a random one of its style, maybe itself: (b,). `styles` are those of all pictures."""
    alike = {style: [i for i, other in enumerate(styles) if other == style] for style in set(styles)}
    draws = torch.rand(len(indices), generator=generator).tolist()
    return torch.tensor([alike[styles[i]][int(u * len(alike[styles[i]]))] for i, u in zip(indices.tolist(), draws)])


def recombine(states: Tensor, lengths: Tensor, others: Tensor, other_lengths: Tensor) -> Tensor:
    """The first `lengths` states of each caption, then those of the other that follow its subject: (b, 77, d)

    Where they are too few, the last one is repeated: it is one of the padding.
    """
    positions = torch.arange(states.shape[1])[None]  # (1, 77)
    taken = (positions - lengths[:, None] + other_lengths[:, None]).clamp(0, states.shape[1] - 1)  # (b, 77)
    rest = others.gather(1, taken[..., None].expand_as(others).to(others.device))  # (b, 77, d)
    return torch.where((positions < lengths[:, None])[..., None].to(states.device), states, rest)
