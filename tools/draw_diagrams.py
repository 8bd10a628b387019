#!/usr/bin/env python3
"""Draw the diagrams of images/: the whole latent diffusion machine, with a real run at its two ends, and what is inside.

    python tools/draw_diagrams.py [names] [--model FOLDER] [--to FOLDER]

Without names: all. The notebooks draw the same figures, live, where they need them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints.atomic import atomic_path
from ldm_tutorial.config import SD15
from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.figures.checkpoints import name_map
from ldm_tutorial.figures.guidance import guidance_arrow
from ldm_tutorial.figures.machine_map import machine_map, markov_chain
from ldm_tutorial.figures.networks import (
    decoder_figure,
    discriminator_figure,
    encoder_figure,
    resnet_block_figure,
    spatial_transformer_figure,
    unet_figure,
)
from ldm_tutorial.figures.samplers import chains, design_choices, design_figure
from ldm_tutorial.figures.text import text_encoder_figure
from ldm_tutorial.images import to_images
from ldm_tutorial.lessons.notebook import png
from ldm_tutorial.lessons.toy import GaussianMixture
from ldm_tutorial.schedulers import DDPMScheduler, randn

PROMPT = "a cat in the style of noto"
ROOT = Path(__file__).resolve().parent.parent


def whole_machine(model: str) -> Figure:
    pipe = load_pipeline(model)
    steps = list(pipe.stream(PROMPT, scheduler="ddim", steps=25, seed=0))
    noise, picture = pipe.decode(steps[0].latents)[0], pipe.decode(steps[-1].latents)[0]
    return machine_map(prompt=PROMPT, noise=noise, picture=picture)


def ddpm_chain(model: str) -> Figure:
    emoji = EmojiDataset(styles="noto")
    [cat] = [emoji[i].picture for i, entry in enumerate(emoji.entries) if entry.label == "cat"]  # (3, h, w)
    t = torch.tensor([999, 420, 300, 0])
    noise = randn((4, *cat.shape), torch.Generator().manual_seed(0))
    return markov_chain(to_images(DDPMScheduler().add_noise(cat.expand(4, -1, -1, -1), noise, t)))


def arrow_in_the_plane(model: str) -> Figure:
    """The four clouds of notebook 12, two of them asked for."""
    everything = GaussianMixture([[1.3, 0.9], [-1.4, 0.9], [-0.2, -0.1], [0.3, -1.5]], [0.35, 0.35, 0.3, 0.35])
    asked = GaussianMixture([[1.3, 0.9], [-0.2, -0.1]], [0.35, 0.3])
    return guidance_arrow(everything, asked, torch.tensor([-0.9, -0.9]), alpha_bar=0.2, limit=2.8)


# Name in images/ -> what draws it, given the model; the insides are those of Stable Diffusion v1.5.
DIAGRAMS: dict[str, Callable[[str], Figure]] = {
    "machine_map": whole_machine,
    "resnet_block": lambda model: resnet_block_figure(time=False),
    "resnet_block_with_time": lambda model: resnet_block_figure(time=True),
    "encoder": lambda model: encoder_figure(SD15.vae),
    "decoder": lambda model: decoder_figure(SD15.vae),
    "discriminator": lambda model: discriminator_figure(),
    "unet": lambda model: unet_figure(SD15.unet),
    "text_encoder": lambda model: text_encoder_figure(SD15.text_encoder),
    "name_map": lambda model: name_map(SD15.unet),
    "spatial_transformer": lambda model: spatial_transformer_figure(),
    "sampling_chains": lambda model: chains(),
    "design_choices": lambda model: design_figure(design_choices()),
    "markov_chain": ddpm_chain,
    "guidance_arrow": arrow_in_the_plane,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(DIAGRAMS)}")
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--to", type=Path, default=ROOT / "images")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in DIAGRAMS]
    if unknown:
        parser.error(f"no diagram {unknown[0]!r}; there are {', '.join(DIAGRAMS)}")
    for name in args.names or DIAGRAMS:
        with atomic_path(args.to / f"{name}.png") as path:
            path.write_bytes(png(DIAGRAMS[name](args.model)))


if __name__ == "__main__":
    main()
