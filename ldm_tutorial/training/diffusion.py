"""Training the U-Net: predict the noise in a noisy latent, given the text (Rombach et al. 2022, equation 3).

Autoencoder and text encoder are frozen, so the latents of all pictures and the text embeddings of all captions are
computed once. The input, the target and the loss of a step are in objective.py and recipes.py; in flow.py for flow matching.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..checkpoints import load_component, save_checkpoint, save_component
from ..checkpoints.folder import read_tokenizer
from ..checks import whole_number
from ..config import EMOJI
from ..data import EmojiDataset
from ..images import resize, save_image, to_tensor, to_unit_range
from ..pipeline import StableDiffusion
from ..unet import UNet
from ..vae import AutoencoderKL, DiagonalGaussian
from .compute import Compute
from .ema import EMA
from .examples import digest_of, make_examples
from .flow import add_objective_arguments, check_objective, objective_of
from .loop import (
    TrainingRun,
    add_common_arguments,
    add_start_from,
    batch_indices,
    learning_rate,
    set_learning_rate,
    step_generator,
)
from .muon import Muon
from .recipes import add_recipe_arguments, recipe_of
from .sheets import contact_sheet

OPTIMIZERS = ("adamw", "muon")
SAMPLE_PROMPTS = (
    "a cat in the style of noto",
    "an astronaut in the style of noto",
    "a zombie in the style of twemoji",
    "a racing car in the style of fluent",
    "a chipmunk in the style of fluent",
    "a hamburger in the style of noto",
    "a rocket in the style of twemoji",
    "an octopus in the style of fluent",
    "a squirrel",
    "a burger",
    "a cat",
    "",
)


def silence_residuals(unet: UNet) -> UNet:
    """Set the last layer of each residual block, of each transformer and of the network to zero: the output is 0 at first.

    Rombach et al.'s code does so (`zero_module`). Measured here over 200 steps of 32: a loss of 0.084 instead of 0.092.
    """
    for name, weight in unet.named_parameters():
        if name.endswith(("conv2.weight", "proj_out.weight")) or name == "conv_out.weight":
            nn.init.zeros_(weight)
    return unet


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: Tensor) -> DiagonalGaussian:
    """The posterior of each picture, unscaled; uint8 (n, 3, h, w) -> (n, 4, h / f, w / f) twice."""
    parts = [vae.encode(to_unit_range(batch)) for batch in pictures.split(64)]
    return DiagonalGaussian(torch.cat([p.mean for p in parts]), torch.cat([p.logvar for p in parts]))


@torch.no_grad()
def encode_captions(tokenizer, text_encoder: nn.Module, captions: list[str], device, dtype: torch.dtype) -> Tensor:
    """The text embeddings of each caption, a hidden state for each of 77 tokens: (n, 77, d)"""
    states = []
    for start in range(0, len(captions), 256):
        rows = tokenizer(captions[start : start + 256], padding="max_length", truncation=True)
        states.append(text_encoder(torch.tensor(rows.input_ids, device=device)).to(dtype))
    return torch.cat(states)


def attention_kernels(device: torch.device) -> list[SDPBackend]:
    """On a CPU, at these sizes, attention's plain formula takes a step in 12 % less time than the fused kernel."""
    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    return [SDPBackend.MATH, *([] if device.type == "cpu" else fused)]


def make_optimizer(name: str, unet: UNet, compute: Compute) -> torch.optim.Optimizer:
    """The optimizer of that name, one of `OPTIMIZERS`. Its learning rate is set in each step."""
    if name == "muon":
        return Muon(unet, compute, betas=(0.9, 0.99), weight_decay=0.01)
    fused = compute.device.type != "mps"  # torch knows it there from 2.5 on
    return torch.optim.AdamW(unet.parameters(), betas=(0.9, 0.99), weight_decay=0.01, fused=fused)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ldm-tutorial train unet`."""
    add_common_arguments(parser, steps=60_000, batch_size=32, peak=8e-4)
    add_start_from(parser)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw", help="muon learns more in a step of a large batch")
    parser.add_argument(
        "--ema-decay", type=float, default=0.999, help="of the average of the weights; the average is what is saved"
    )
    parser.add_argument(
        "--side", type=int, default=EMOJI.vae.sample_size, help="of the pictures, in pixels; half of it costs less"
    )
    parser.add_argument("--views", type=int, default=3, help="encodings of each picture: one as it is, the others moved")
    parser.add_argument("--scenes", type=int, default=6000, help="how many composed scenes are added to the pictures")
    add_objective_arguments(parser)
    add_recipe_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial train unet`. Raises ValueError for options that mean nothing, FileNotFoundError without an autoencoder."""
    check_objective(args)
    views, scenes = whole_number("--views", args.views, 1), whole_number("--scenes", args.scenes, 0)
    recipe, compute = recipe_of(args), Compute(args.mixed_precision)
    mine = compute.mine(args.batch_size)
    torch.manual_seed(args.seed)
    data = EmojiDataset("train")
    vae = load_component(args.folder / "vae").to(compute.device).eval()
    if args.side < 1 or args.side % vae.config.downsampling:
        raise ValueError(f"--side={args.side} must be a multiple of {vae.config.downsampling} pixels")
    text_encoder = load_component(args.folder / "text_encoder").to(compute.device).eval()
    tokenizer = read_tokenizer(args.folder / "tokenizer", text_encoder.config.vocab_size)

    # What never changes, once: the posterior of each example, the text embeddings of each caption.
    kept = args.folder / "training" / "examples.safetensors"  # for the next run, too
    encoder = f"{digest_of(vae)} of pictures of {args.side}"
    wanted = {"views": views, "scenes": scenes, "seed": args.seed, "compute": compute, "encoder": encoder}
    examples = make_examples(lambda x: encode_pictures(vae, compute.put(resize(x, args.side))), data, **wanted, path=kept)
    encode = partial(encode_captions, tokenizer, text_encoder, device=compute.device, dtype=compute.dtype)
    objective, sampler = objective_of(args, recipe, compute, examples.captions, encode)

    unet = load_component(args.start_from / "unet").float() if args.start_from else silence_residuals(UNet(EMOJI.unet))
    unet = unet.to(compute.device).train()
    ema = EMA(unet, args.ema_decay)
    optimizer = make_optimizer(args.optimizer, unet, compute)
    state = {"unet": unet, "optimizer": optimizer, "ema": ema, **compute.state}
    run = TrainingRun(args.folder / "training" / "unet", state, args.steps, compute.is_main, args.save_every)
    kernels = attention_kernels(compute.device)

    for step in run.steps():
        objective.recipe = recipe.at(step / args.steps)
        indices = batch_indices(len(examples), args.batch_size, step, args.seed)
        draws = objective.draw(indices, examples.mean.shape[1:], step_generator(args.seed, step))

        mean, std = (compute.put(moments[indices[mine]]).float() for moments in (examples.mean, examples.std))
        latents = mean + std * compute.put(draws.encoding[mine])
        latents = latents * vae.config.scaling_factor  # (n, 4, h, w), of unit variance
        batch = objective.ask(latents, draws, mine)
        with compute.autocast(), sdpa_kernel(kernels):
            loss, mse = objective.loss(unet, batch, ema.model)

        optimizer.zero_grad()
        compute.backward(loss)
        set_learning_rate(optimizer, learning_rate(step, args.steps, args.learning_rate, warmup=0.02))
        compute.step(optimizer, max_norm=1.0)
        ema.update(unet)

        if (step + 1) % args.log_every == 0:
            run.log(**compute.mean({"loss": loss, "mse": mse}), learning_rate=optimizer.param_groups[0]["lr"])
        if (step + 1) % args.sample_every == 0 and compute.is_main:
            average: Any = ema.model
            pipe = StableDiffusion(average, vae, text_encoder, tokenizer, sampler)
            save_image(draw_samples(pipe, args.side), run.sample_path())

    if compute.is_main:
        save_component(ema.model, args.folder / "unet")
        save_checkpoint({"scheduler": sampler}, args.folder)  # now it is a whole model


def draw_samples(pipe: StableDiffusion, side: int | None = None) -> Any:
    """A sheet of `SAMPLE_PROMPTS` for a look on the way, each from the noise of its own seed."""
    seeds = list(range(len(SAMPLE_PROMPTS)))
    pictures = pipe(list(SAMPLE_PROMPTS), guidance_scale=5.0, seed=seeds, width=side, height=side, progress=False)
    return contact_sheet([torch.cat([to_tensor(picture) for picture in pictures])])
