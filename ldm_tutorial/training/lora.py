"""A LoRA of your own pictures: the model stays as it is, and a small file is what was learned."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..adapters import new_lora, save_lora
from ..adapters.lora_files import LAYOUTS
from .compute import Compute
from .own import add_own_arguments, learn_from_pictures, load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ldm-tutorial train lora`."""
    add_own_arguments(parser, "lora", steps=1000, peak=2e-3)
    parser.add_argument(
        "--rank",
        type=int,
        default=8,
        help="rank of the matrices: a higher one can learn more, and the file is larger (default: 8)",
    )
    parser.add_argument("--alpha", type=float, help="the update is multiplied by alpha / rank (default: the rank)")
    parser.add_argument("--text-encoder", action="store_true", help="train the text encoder, too")
    parser.add_argument("--layout", choices=LAYOUTS, default=LAYOUTS[0], help="how the file names its layers")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write (default: lora.safetensors in --folder)"
    )


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial train lora`: writes a .safetensors file.

    Raises what `own.learn_from_pictures`, `new_lora` and `save_lora` raise.
    """
    output = args.output or args.folder / "lora.safetensors"
    if output.suffix.lower() != ".safetensors":
        raise ValueError(f"--output {output} must end in .safetensors")
    compute = Compute(args.mixed_precision)
    torch.manual_seed(args.seed)
    pipe = load_model(args, compute)
    networks = pipe.networks if args.text_encoder else {"unet": pipe.unet}
    lora = new_lora(networks, args.rank, args.alpha).attach(networks)
    learn_from_pictures(args, compute, pipe, lora, "lora", live=args.text_encoder)
    if compute.is_main:
        print(save_lora(lora, output, args.layout))
