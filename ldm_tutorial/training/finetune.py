"""Fine-tuning: all weights of the U-Net learn your own pictures. The most room to learn, and to forget."""

from __future__ import annotations

import argparse

import torch

from ..checkpoints import save_checkpoint
from .compute import Compute
from .own import add_own_arguments, learn_from_pictures, load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ldm-tutorial train unet --data FOLDER`."""
    add_own_arguments(parser, "finetuned", steps=1000, peak=1e-4)


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial train unet --data FOLDER`: writes a whole model. Raises what `own.learn_from_pictures` raises."""
    compute = Compute(args.mixed_precision)
    torch.manual_seed(args.seed)
    pipe = load_model(args, compute)
    pipe.unet.requires_grad_(True)
    learn_from_pictures(args, compute, pipe, pipe.unet, "unet")
    if compute.is_main:
        save_checkpoint(pipe, args.folder)
        print(args.folder)
