"""Two parts of the model by themselves: does CLIP find a picture's caption, and how far off is one prediction of the U-Net?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..clip import CLIP
from ..images import to_images, to_unit_range
from ..inputs import tokenize
from ..schedulers.spaces import convert
from .clip_score import image_vectors
from .reference import Question, Reference
from .report import Measurement, Table, share

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion

TIMESTEPS = (990, 500, 100)  # nearly noise, half-way, nearly the picture


@torch.no_grad()
def caption_figures(clip: CLIP, tokenizer: Any, reference: Reference) -> list[Measurement]:
    """For how many pictures their own full caption is nearer than those of all other pictures, by CLIP's cosine."""
    pictures, captions = reference.pictures, [reference.full(i).request.prompt for i in range(len(reference.entries))]
    length, device = clip.text_encoder.config.max_position_embeddings, clip.logit_scale.device
    ids = tokenize(tokenizer, captions, length).to(device)
    texts = torch.cat([clip.encode_text(part) for part in ids.split(256)])  # (n, d)
    images = torch.cat([image_vectors(clip, part.to(device)) for part in pictures.split(256)])  # (n, d)
    nearest = (images @ texts.T).argmax(dim=1).cpu()  # (n,)
    right = nearest == torch.arange(len(captions))
    parts = {"trained": ("trained pairs", reference.trained), "held_out": ("held-out pairs", reference.unseen)}
    return [
        share(f"clip.{key}", f"CLIP: the right one of all {len(captions):,} captions, for pictures of {what}", right[rows])
        for key, (what, rows) in parts.items()
    ]


@torch.no_grad()
def prediction_table(pipe: StableDiffusion, reference: Reference, questions: Sequence[Question]) -> Table:
    """The squared error of the latents that the U-Net predicts from noisy ones in a single step, with three captions.

    Of the same latents and the same noise: with the picture's own caption, with the empty one, and with that of the next picture.
    """
    numbers = [question.request.seed for question in questions]  # a question's seed is its picture's number
    latents = pipe.encode(to_images(to_unit_range(reference.pictures[numbers])))  # (n, 4, h, w)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
    own = pipe.encode_prompt([question.request.prompt for question in questions])  # (n, 77, d)
    contexts = {"own": own, "empty": pipe.encode_prompt("").expand_as(own), "other": own.roll(1, dims=0)}
    rows = []
    for t in TIMESTEPS:
        timesteps = torch.full((len(latents),), t, device=pipe.device)
        alpha_bar = float(pipe.scheduler.alpha_bar_at(t))
        x = alpha_bar**0.5 * latents + (1 - alpha_bar) ** 0.5 * noise
        errors = []
        for key, context in contexts.items():
            output = pipe.unet(x.to(pipe.dtype), timesteps, context).float()
            predicted = convert(output, x, pipe.scheduler.prediction_type, "sample", alpha_bar**0.5, (1 - alpha_bar) ** 0.5)
            errors.append(Measurement(key, "", (predicted - latents).square().mean().item(), "{:.3f}"))
        rows.append((f"t = {t}", tuple(errors)))
    spread = (latents - latents.mean(dim=0)).square().mean().item()
    title = (
        f"The mean squared error of the latents that the U-Net predicts in a single step, for {len(questions)} trained pairs. "
        f"The mean of these latents, predicted for all of them, would have the error {spread:.3f}:"
    )
    header = ("noisy to", "with its caption", "without a prompt", "with the caption of another picture")
    return Table("prediction", title, header, tuple(rows))
