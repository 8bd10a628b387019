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
from torch.nn import functional as F

from ..clip import CLIP
from ..images import to_unit_range
from ..inputs import tokenize
from ..training.clip import SIDE
from .drawing import to_levels


def image_vectors(clip: CLIP, pictures: Tensor) -> Tensor:
    """What the image tower makes of color levels, uint8 (n, 3, h, w) -> (n, d), of length 1.

    Large pictures are made smaller by a whole factor, as near as this comes to the size of the pictures that CLIP was trained on.
    """
    pixels = to_unit_range(pictures)
    return clip.encode_image(F.avg_pool2d(pixels, max(1, min(pixels.shape[-2:]) // SIDE)))


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
    images = image_vectors(clip, to_levels(pictures).to(device))  # (n, d)
    return (images * texts[[distinct.index(prompt) for prompt in prompts]]).sum(dim=1).cpu()
