"""CLIP, trained contrastively: pictures and captions that belong together get similar vectors (Radford et al. 2021).

Afterwards the text encoder is frozen. The U-Net is conditioned on it, and the image tower serves the perceptual loss.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checkpoints import load_component, save_component
from ..checkpoints.folder import read_tokenizer, write_tokenizer
from ..checkpoints.tensors import read_tensors
from ..checks import real_number
from ..clip import CLIP
from ..config import EMOJI
from ..data import EmojiDataset
from ..data.scenes import caption_of, compose, draw_scenes
from .augment import place, random_places
from .compute import Compute
from .examples import compose_scenes
from .loop import (
    TrainingRun,
    add_common_arguments,
    add_start_from,
    batch_indices,
    learning_rate,
    set_learning_rate,
    step_generator,
)
from .tokenizer import train_tokenizer

SIDE = 64  # of the pictures that CLIP sees: half of the data set's


def contrastive_loss(logits: Tensor) -> Tensor:
    """Each picture must pick its caption out of the batch, and each caption its picture: (b, b) -> ()

    Radford et al. 2021, figure 3: the mean of the two cross-entropies; the right answers lie on the diagonal.
    """
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def choose_captions(all_captions: list[tuple[str, ...]], generator: torch.Generator, first_share: float = 0.5) -> list[str]:
    """For each picture its first caption (label and style) with probability `first_share`, else any of its captions."""
    chosen = []
    for captions in all_captions:
        first = torch.rand((), generator=generator) < first_share
        i = 0 if first else int(torch.randint(len(captions), (), generator=generator))
        chosen.append(captions[i])
    return chosen


def half_size(layers: Tensor) -> Tensor:
    """Pictures with opacity, half as large: uint8 (n, 4, h, w) -> uint8 (n, 4, h / 2, w / 2). Colors are weighed by it."""
    parts = []
    for part in layers.split(512):
        part = part.float()
        opacity = F.avg_pool2d(part[:, 3:], 2)
        color = F.avg_pool2d(part[:, :3] * part[:, 3:], 2) / opacity.clamp(min=1)
        parts.append(torch.cat([color, opacity], dim=1).round().byte())
    return torch.cat(parts)


def tokenize_captions(tokenizer, captions: list[str], device=None) -> Tensor:
    """Token numbers, cut to the longest of these captions: what follows the end token cannot change it, in a causal model."""
    rows = tokenizer(captions, padding="longest", truncation=True)
    return torch.tensor(rows.input_ids, device=device)


def save_clip(model: CLIP, folder: Path) -> None:
    """The text encoder goes to `text_encoder`, as in any Stable Diffusion; what only CLIP needs, to `contrastive`."""
    save_component(model.text_encoder, folder / "text_encoder")
    save_component(ContrastivePart(model), folder / "contrastive")


def load_clip(folder: Path) -> CLIP:
    """Both towers, as contrastive training left them, in float32."""
    text_encoder = load_component(folder / "text_encoder")
    model = CLIP(text_encoder.config)
    model.text_encoder = text_encoder
    weights, _ = read_tensors(folder / "contrastive" / "model.safetensors")
    ContrastivePart(model).load_state_dict(weights)
    return model.eval()


class ContrastivePart(torch.nn.Module):
    """A view of a `CLIP` without its text encoder: the image tower, the text's projection, the temperature."""

    def __init__(self, model: CLIP):
        super().__init__()
        self.image_tower, self.text_projection, self.logit_scale = model.image_tower, model.text_projection, model.logit_scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ldm-tutorial train clip`."""
    add_common_arguments(parser, steps=2000, batch_size=192, peak=1e-3)
    add_start_from(parser)
    parser.add_argument("--scenes", type=float, default=0.25, help="the share of scenes, composed afresh, in a batch")


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial train clip`. Raises ValueError for options that mean nothing."""
    share = real_number("--scenes", args.scenes, 0, 1)
    compute = Compute(args.mixed_precision)
    mine = compute.mine(args.batch_size)
    torch.manual_seed(args.seed)
    data = EmojiDataset("train")
    everything = half_size(data.layers)  # uint8 (n, 4, 64, 64), with opacity
    captions = [entry.captions for entry in data.entries]
    config = EMOJI.text_encoder
    if args.start_from:  # whose embeddings belong to its own tokens
        tokenizer, model = read_tokenizer(args.start_from / "tokenizer", config.vocab_size), load_clip(args.start_from)
    else:
        scenes = compose_scenes(data, len(data), seed=0)
        words = [*(c for row in captions for c in row), *(caption_of(scene, data.entries) for scene in scenes)]
        tokenizer = train_tokenizer(words, config.vocab_size, config.max_position_embeddings)
        model = CLIP(config)
    model = compute.share_statistics(model).to(compute.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1, betas=(0.9, 0.98))
    state = {"model": model, "optimizer": optimizer, **compute.state}
    run = TrainingRun(args.folder / "training" / "clip", state, args.steps, compute.is_main, args.save_every)

    for step in run.steps():
        generator = step_generator(args.seed, step)  # the same numbers in all processes
        indices = batch_indices(len(data), args.batch_size, step, args.seed)
        count = round(share * len(indices))  # the first of the batch are scenes, the others pictures by themselves
        scenes = [compose(data, row, generator) for row in indices[:count].tolist()]
        places = random_places(len(indices) - count, generator, smallest=0.8, white=0.9)
        styled = torch.rand(count, generator=generator) < 0.5
        words = [caption_of(scene, data.entries, style) for scene, style in zip(scenes, styled.tolist())]
        words += choose_captions([captions[i] for i in indices[count:].tolist()], generator)
        input_ids = tokenize_captions(tokenizer, words)
        parts = [draw_scenes(scenes, everything, everything.shape[-1])] if scenes else []
        parts += [place(everything[indices[count:]], places)] if count < len(indices) else []
        pictures = compute.put(torch.cat(parts)[mine])  # (b, 3, 64, 64)

        with compute.autocast():
            images, texts = model.encode_image(pictures), model.encode_text(compute.put(input_ids[mine]))  # (b, d) each
            # each picture is told from the captions of the whole batch, whichever process has them: (B, B)
            logits = model.similarities(compute.gather(images), compute.gather(texts)).float()
        loss = contrastive_loss(logits)
        optimizer.zero_grad()
        compute.backward(loss)
        set_learning_rate(optimizer, learning_rate(step, args.steps, args.learning_rate))
        compute.step(optimizer)

        if (step + 1) % args.log_every == 0:
            right = logits.argmax(dim=1) == torch.arange(len(logits), device=logits.device)
            values = {"loss": loss, "accuracy": right.float().mean(), "scale": model.logit_scale.exp()}
            run.log(**compute.mean(values), learning_rate=optimizer.param_groups[0]["lr"])

    if compute.is_main:
        write_tokenizer(args.folder / "tokenizer", tokenizer)
        save_clip(model, args.folder)
