"""CLIP, trained contrastively: pictures and captions that belong together get similar vectors (Radford et al. 2021).

Afterwards the text encoder is frozen. The U-Net listens to it, and the image tower serves the perceptual loss.
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
from ..clip import CLIP
from ..config import EMOJI
from ..data import EmojiDataset
from .augment import jitter
from .loop import Run, add_common_arguments, add_start_from, batch_indices, learning_rate, set_learning_rate, step_generator


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


def tokenize(tokenizer, captions: list[str], device=None) -> Tensor:
    """Token numbers, cut to the longest of these captions: what follows the end token cannot change it, in a causal model."""
    rows = tokenizer(captions, padding="longest", truncation=True, return_tensors="pt")
    return rows.input_ids.to(device)


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
    add_common_arguments(parser, steps=2000, batch_size=192, peak=1e-3)
    add_start_from(parser)


def main(args: argparse.Namespace) -> None:
    from accelerate import Accelerator

    from .tokenizer import train_tokenizer

    accelerator = Accelerator(mixed_precision=args.mixed_precision)
    torch.manual_seed(args.seed)
    data = EmojiDataset("train")
    captions = [item.captions for item in data]
    config = EMOJI.text_encoder
    if args.start_from:  # whose embeddings belong to its own tokens
        tokenizer, model = read_tokenizer(args.start_from / "tokenizer", config.vocab_size), load_clip(args.start_from).train()
    else:
        tokenizer = train_tokenizer((c for row in captions for c in row), config.vocab_size, config.max_position_embeddings)
        model = CLIP(config)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1, betas=(0.9, 0.98))
    model, optimizer = accelerator.prepare(model, optimizer)
    run = Run(
        args.folder / "training" / "clip",
        {"model": accelerator.unwrap_model(model), "optimizer": optimizer},
        args.steps,
        accelerator.is_main_process,
        args.save_every,
    )

    for step in run.steps():
        generator = step_generator(args.seed, step, accelerator.process_index)
        indices = batch_indices(len(data), args.batch_size, step, args.seed)
        indices = indices[accelerator.process_index :: accelerator.num_processes]  # this process's share
        pictures = data.pictures[indices].to(accelerator.device).float() / 127.5 - 1  # (b, 3, 64, 64)
        pictures = jitter(pictures, generator)
        input_ids = tokenize(tokenizer, choose_captions([captions[i] for i in indices.tolist()], generator), accelerator.device)

        with accelerator.autocast():
            logits = model(pictures, input_ids)  # (b, b)
        loss = contrastive_loss(logits.float())
        optimizer.zero_grad()
        accelerator.backward(loss)
        set_learning_rate(optimizer, learning_rate(step, args.steps, args.learning_rate))
        optimizer.step()

        if (step + 1) % args.log_every == 0:
            accuracy = (logits.argmax(dim=1) == torch.arange(len(logits), device=logits.device)).float().mean()
            scale = accelerator.unwrap_model(model).logit_scale.exp()
            run.log(loss=loss.item(), accuracy=accuracy.item(), scale=scale.item(), learning_rate=optimizer.param_groups[0]["lr"])

    if accelerator.is_main_process:
        write_tokenizer(args.folder / "tokenizer", tokenizer)
        save_clip(accelerator.unwrap_model(model), args.folder)
