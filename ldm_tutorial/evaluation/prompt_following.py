"""How well a picture follows its prompt: for `emoji` the classifier, for Stable Diffusion v1.5 OpenAI's CLIP.

Both give one number for each picture, and the mean of these numbers says how well a sampler follows its prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from ..data import STYLES, canonical_caption
from ..inputs import tokenize
from .drawing import to_levels
from .judge import Judge, load_judge, look

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion

OPENAI_CLIP = "openai/clip-vit-large-patch14"  # whose text half is v1.5's text encoder
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of its training pictures' colors


class PromptMetric(NamedTuple):
    """`score(pictures, prompts)` gives one number for each picture, (n,); `what` says what its mean over pictures is."""

    what: str
    score: Callable[[Sequence[Image.Image], Sequence[str]], Tensor]


def find_metric(pipe: StableDiffusion) -> PromptMetric | None:
    """The metric that fits a model, or None where it is not on this machine. It sends no request."""
    if pipe.name == "emoji":
        return classifier(load_judge(device=pipe.device))
    try:
        from transformers import CLIPModel

        clip = CLIPModel.from_pretrained(OPENAI_CLIP, local_files_only=True, use_safetensors=True)
    except OSError:  # not in the hub's cache
        return None
    return openai_clip(clip.eval().to(pipe.device), pipe)


def classifier(judge: Judge) -> PromptMetric:
    """1 where the classifier names the subject that the prompt asks for, else 0: the mean is a share.

    The prompts must be canonical captions, such as "an octopus in the style of fluent". ValueError for another one.
    """
    subjects = {canonical_caption(name, style): i for i, name in enumerate(judge.config.subjects) for style in STYLES}

    def score(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        unknown = next((prompt for prompt in prompts if prompt not in subjects), None)
        if unknown is not None:
            raise ValueError(f"the classifier knows no subject for the prompt {unknown!r}: give full captions of the data set")
        named = look(judge, to_levels(pictures)).cosines.argmax(dim=1)  # (n,)
        return (named == torch.tensor([subjects[prompt] for prompt in prompts])).float()

    return PromptMetric("right subject", score)


def openai_clip(clip: Any, pipe: StableDiffusion) -> PromptMetric:
    """The CLIP score (Hessel et al. 2021, without their factor 2.5): the cosine of picture and prompt. clip: a `CLIPModel`.

    Of pictures of any size: the middle square, at the size that the network was trained on (224 for OpenAI's).
    It is not neutral for v1.5, whose text encoder is the text half of this network.
    """
    side = clip.config.vision_config.image_size

    @torch.no_grad()
    def score(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        squares = [ImageOps.fit(p.convert("RGB"), (side, side), Image.Resampling.BICUBIC) for p in pictures]
        pixels = to_levels(squares).to(clip.device).float() / 255  # (n, 3, side, side)
        mean, std = (torch.tensor(values, device=clip.device).view(3, 1, 1) for values in (MEAN, STD))
        ids = tokenize(pipe.tokenizer, list(prompts), clip.config.text_config.max_position_embeddings).to(clip.device)
        found = clip(input_ids=ids, pixel_values=(pixels - mean) / std)  # vectors (n, d)
        return F.cosine_similarity(found.image_embeds, found.text_embeds).cpu()

    return PromptMetric("CLIP score", score)
