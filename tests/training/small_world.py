"""The trainings on forty emoji and with very small networks; as a script, for `torchrun`, all three of them in turn."""

import argparse
import contextlib
import importlib
import os
import sys
from pathlib import Path

import pytest
import torch

from ldm_tutorial.config import AutoencoderConfig, CLIPTextConfig, StableDiffusionConfig, UNetConfig
from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.training.clip import half_size

TINY = StableDiffusionConfig(
    AutoencoderConfig(block_out_channels=(4, 8, 12), layers_per_block=1, norm_num_groups=2, sample_size=64),
    UNetConfig(
        block_out_channels=(8, 12),
        attention_levels=(False, True),
        layers_per_block=1,
        num_attention_heads=2,
        cross_attention_dim=16,
        norm_num_groups=2,
        sample_size=16,
    ),
    CLIPTextConfig(
        vocab_size=600, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, projection_dim=8
    ),
)
TRAININGS = ("clip", "autoencoder", "diffusion")


def forty(split="all"):
    """Forty pictures at half of their size, with and without a background."""
    data = EmojiDataset(split, size=64)
    data.entries = data.entries[:40]
    data.layers = half_size(data.layers)
    return data


def shrink(patch):
    """The three trainings with these networks and pictures, until the `MonkeyPatch` is undone."""
    for module in map(module_of, TRAININGS):
        patch.setattr(module, "EMOJI", TINY)
        patch.setattr(module, "EmojiDataset", forty)


def module_of(name):
    return importlib.import_module(f"ldm_tutorial.training.{name}")


def train(name, folder, *options):
    module, parser = module_of(name), argparse.ArgumentParser()
    module.add_arguments(parser)
    few = ("--views", 2, "--scenes", 6) if name == "diffusion" else ()
    usual = ("--folder", folder, "--batch-size", 6, "--log-every", 1, *few)
    module.main(parser.parse_args([str(option) for option in (*usual, *options)]))


def main(folder, rank):
    """All three in float64; at the end each process writes what it has: "clip-0.pt", "clip-1.pt", ..."""
    from ldm_tutorial.checkpoints import load_component
    from ldm_tutorial.training import compute, diffusion
    from ldm_tutorial.training.loop import TrainingRun

    # In float32, rounding decides on which side of a LeakyReLU's corner some values lie, and Adam makes a whole step of it
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    compute.PRECISIONS["no"] = torch.float64
    compute.Compute.autocast = lambda self: contextlib.nullcontext()
    diffusion.load_component = lambda path: load_component(path).double()

    save = TrainingRun.save

    def save_and_show(run):
        save(run)
        if run.step == run.total:
            torch.save({name: part.state_dict() for name, part in run.state.items()}, folder / f"{run.folder.name}-{rank}.pt")

    TrainingRun.save = save_and_show
    shrink(pytest.MonkeyPatch())
    plain = ("--mixed-precision", "no", "--sample-every", 2)
    options = {
        "clip": ("--steps", 3),
        "autoencoder": ("--steps", 4, "--gan-start", 0.5, "--equivariance", 1),
        "diffusion": ("--steps", 3, "--caption-dropout", 0.5, "--agree", 10, "--distill-empty"),
    }
    for name in TRAININGS:
        train(name, folder, *options[name], *plain)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # the next reads what the first process has written
    torch.save(examples_of_two_disks(folder / f"disk-{rank}"), folder / f"examples-{rank}.pt")


def examples_of_two_disks(folder):
    """The latents that a second run begins with, on machines without a shared disk: only the first one has kept them."""
    from ldm_tutorial.training.compute import Compute
    from ldm_tutorial.training.examples import make_examples
    from ldm_tutorial.vae import DiagonalGaussian

    def encode(pictures):
        small = torch.nn.functional.avg_pool2d(pictures.float(), 8)
        return DiagonalGaussian(small, torch.zeros_like(small))

    compute, path = Compute("no"), folder / "examples.safetensors"
    for _ in range(2):
        examples = make_examples(encode, forty(), views=1, scenes=70, seed=0, compute=compute, path=path)
    assert path.is_file() == compute.is_main
    return examples.mean


if __name__ == "__main__":
    main(Path(sys.argv[1]), os.environ["RANK"])
