"""CLIP score: how well a picture fits its prompt (Hessel et al. 2021, arXiv:2104.08718), by the CLIP of the U-Net.

It is at hand wherever the model is, and it is no independent classifier: its errors in reading a prompt are the U-Net's, too.
`judge.py` is the one that shares nothing with the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..clip import CLIP
from ..images import to_unit_range
from ..inputs import tokenize
from .drawing import to_levels


@torch.no_grad()
def clip_scores(clip: CLIP, tokenizer: Any, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
    """The cosine between each picture, of one size, and its prompt: (n,), -1 ... 1, on the CPU.

    Theirs is 2.5 times that, and 0 where it is negative. Raises ValueError unless there is one prompt for each picture.
    """
    if len(pictures) != len(prompts) or not pictures:
        raise ValueError(f"there must be one prompt for each picture, and at least one; got {len(prompts)} for {len(pictures)}")
    device = clip.logit_scale.device
    distinct = list(dict.fromkeys(prompts))
    length = clip.text_encoder.config.max_position_embeddings
    texts = clip.encode_text(tokenize(tokenizer, distinct, length).to(device))  # (distinct, d)
    images = clip.encode_image(to_unit_range(to_levels(pictures).to(device)))  # (n, d)
    return (images * texts[[distinct.index(prompt) for prompt in prompts]]).sum(dim=1).cpu()
