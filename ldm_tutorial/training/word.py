"""Textual inversion: one new word is learned, and nothing else (Gal et al. 2022, equation 2).

    v* = argmin_v E[ || ε - ε_θ(z_t, t, τ_θ(y with v)) ||² ]

All networks are frozen. The gradient goes through the U-Net and the text encoder to the vector of the word.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..adapters import Word, save_word
from ..pipeline import StableDiffusion
from .compute import Compute
from .own import add_own_arguments, learn_from_pictures, load_model

KINDS = ("style", "thing")


class WordVectors(nn.Module):
    """The vectors of a word while they are trained, (k, d): they take the place of its rows in the table of embeddings."""

    def __init__(self, vectors: Tensor, first_row: int):
        super().__init__()
        self.vectors = nn.Parameter(vectors.clone())
        self.first_row = first_row

    def attach(self, table: nn.Module) -> RemovableHandle:
        """From now on the table gives these vectors where the word stands, until the hook that is returned is removed."""

        def put(table: nn.Module, inputs: tuple[Tensor, ...], rows: Tensor) -> Tensor:
            at = inputs[0] - self.first_row  # (b, m): below 0 for the words before it
            mine = (at >= 0) & (at < len(self.vectors))
            return torch.where(mine[..., None], self.vectors[at.clamp(0, len(self.vectors) - 1)].to(rows.dtype), rows)

        return table.register_forward_hook(put)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ldm-tutorial train word`."""
    add_own_arguments(parser, "word", steps=400, peak=5e-3)
    parser.set_defaults(emoji_share=0.0)  # their captions do not contain the word: they would give its vector no gradient
    parser.add_argument("--word", required=True, help='its name in prompts, such as "<mine>"')
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default=KINDS[0],
        help='style: "CAPTION in the style of WORD"; thing: "a WORD", for every caption. A caption with WORD in it stays',
    )
    parser.add_argument(
        "--like", metavar="WORDS", help="known words; the training begins with their mean (default: the word of --kind)"
    )
    parser.add_argument("--vectors", type=int, default=1, metavar="K", help="how many tokens the word takes (default: 1)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write (default: word.safetensors in --folder)"
    )


def captions_with(word: str, kind: str, caption: str) -> str:
    """The caption of a picture, with the word in it."""
    if word.lower() in caption.lower():
        return caption
    return f"{caption} in the style of {word}" if kind == "style" else f"a {word}"


def first_vectors(pipe: StableDiffusion, like: str, count: int) -> Tensor:
    """The mean of the embeddings of known words, `count` times: (count, d). Raises ValueError for an empty text."""
    ids = pipe.tokenizer(like, add_special_tokens=False).input_ids
    if not ids:
        raise ValueError(f"--like {like!r} must be one or more words")
    return embeddings(pipe).weight[ids].mean(0, keepdim=True).repeat(count, 1)


def embeddings(pipe: StableDiffusion) -> Any:
    """The table of embeddings of the text encoder."""
    table: Any = pipe.text_encoder.text_model.embeddings
    return table.token_embedding


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial train word`: writes a .safetensors file.

    Raises what `own.learn_from_pictures` and `StableDiffusion.add_word` raise.
    """
    output = args.output or args.folder / "word.safetensors"
    if output.suffix.lower() != ".safetensors":
        raise ValueError(f"--output {output} must end in .safetensors")
    if args.vectors < 1:
        raise ValueError(f"--vectors {args.vectors} must be 1 or more")
    compute = Compute(args.mixed_precision)
    torch.manual_seed(args.seed)
    pipe = load_model(args, compute)
    vectors = first_vectors(pipe, args.kind if args.like is None else args.like, args.vectors)
    if args.vectors > 1:  # equal vectors would learn the same
        vectors = vectors + 0.1 * vectors.std() * torch.randn(vectors.shape).to(vectors)
    pipe.add_word(Word(args.word, vectors))
    learner = WordVectors(vectors, pipe.dictionary.first_row(args.word))
    learner.attach(embeddings(pipe))
    learn_from_pictures(
        args, compute, pipe, learner, "word", live=True, recaption=lambda caption: captions_with(args.word, args.kind, caption)
    )
    if compute.is_main:
        print(save_word(Word(args.word, learner.vectors.detach()), output))
