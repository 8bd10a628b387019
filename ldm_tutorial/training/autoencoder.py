"""Training the autoencoder: L1 + perceptual + KL + patch GAN, as in Rombach et al. 2022, section 3.1 and appendix G.

The discriminator joins late, when the reconstructions are good enough to be worth criticizing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..checkpoints import load_component, save_component
from ..checks import real_number
from ..config import EMOJI
from ..data import EmojiDataset
from ..images import resample, save_image, to_unit_range
from ..vae import AutoencoderKL, DiagonalGaussian
from .augment import place, random_places
from .clip import load_clip
from .compute import Compute
from .discriminator import PatchDiscriminator, adaptive_weight, hinge_loss
from .loop import (
    TrainingRun,
    add_common_arguments,
    add_start_from,
    batch_indices,
    learning_rate,
    set_learning_rate,
    step_generator,
)
from .perceptual import VGG16, PerceptualLoss, read_lpips_heads
from .redrawn import redrawn_latents, unmoved
from .sheets import contact_sheet


def reconstruction_loss(pictures: Tensor, decoded: Tensor, perceptual: PerceptualLoss, weight: float) -> Tensor:
    """L1 of every pixel plus `weight` times the perceptual distance, averaged: (b, 3, h, w) twice -> ()"""
    return (pictures - decoded).abs().mean() + weight * perceptual(pictures, decoded).mean()


class Change(NamedTuple):
    """A change that pictures and latents can both go through: to another size (of latents), and mirrored or not."""

    size: int
    mirrored: bool

    def __call__(self, x: Tensor, unit: int = 1) -> Tensor:
        """(b, c, h, w) -> (b, c, unit * size, unit * size)"""
        x = resample(x, unit * self.size)
        return x.flip(-1) if self.mirrored else x


def random_change(size: int, share: float, generator: torch.Generator) -> Change | None:
    """With probability `share`, half as large or larger, perhaps mirrored; else None. `size` is that of the latents.

    A decoder that must give the changed picture from the changed latents makes the latents smooth: neighbors describe
    neighbors, and a small error of one is a small error of the picture (EQ-VAE, Kouzelis et al. 2025, equation 4).
    """
    if float(torch.rand((), generator=generator)) >= share:
        return None
    changed = int(torch.randint(size // 2, size, (), generator=generator))
    return Change(changed, mirrored=float(torch.rand((), generator=generator)) < 0.5)


def psnr(pictures: Tensor, decoded: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in [-1, 1], in decibels: (b,)"""
    mse = ((pictures - decoded.clamp(-1, 1)) ** 2).mean(dim=(1, 2, 3))
    return 10 * (4 / mse).log10()  # 4 = the square of the range's length, 2


@torch.no_grad()
def reconstruct(model: AutoencoderKL, pictures: Tensor, batch_size: int = 64) -> Tensor:
    """Through the mode of the latents and back: (n, 3, h, w) -> (n, 3, h, w)"""
    return torch.cat([model.decode(model.encode(batch).mode()) for batch in pictures.split(batch_size)])


@torch.no_grad()
def measure_scaling_factor(model: AutoencoderKL, pictures: Tensor) -> float:
    """1 / the standard deviation of all latents, which makes their variance one (Rombach et al. 2022, appendix G)."""
    latents = torch.cat([model.encode(batch).mode() for batch in pictures.split(64)])
    return 1 / latents.std().item()


def load_perceptual_loss(args: argparse.Namespace) -> PerceptualLoss:
    """LPIPS, if the arguments name its two files; else our own image tower, from `contrastive` in the model's folder."""
    if args.vgg16 and args.lpips_heads:
        return PerceptualLoss(VGG16.from_torchvision(args.vgg16), read_lpips_heads(args.lpips_heads))
    return PerceptualLoss(load_clip(args.folder).image_tower)


def shape_of_latents(model: AutoencoderKL, pictures: Tensor) -> tuple[int, ...]:
    """The shape of these pictures' latents: (b, 3, h, w) -> (b, 4, h / f, w / f)"""
    f, (b, _, h, w) = model.config.downsampling, pictures.shape
    return b, model.config.latent_channels, h // f, w // f


def make_model(args: argparse.Namespace) -> AutoencoderKL:
    """A new autoencoder, or one to go on with; with `--frozen-encoder`, only its decoder learns.

    Raises ValueError for options that are no shares, or do not go together.
    """
    real_number("--equivariance", args.equivariance, 0, 1)
    real_number("--redrawn", args.redrawn, 0, 1)
    if args.frozen_encoder and not args.start_from:
        raise ValueError("--frozen-encoder: needs --start-from, the model whose encoder is to stay as it is")
    if args.redrawn and not (args.frozen_encoder and args.crop == 1 and args.equivariance == 0):
        here = f"{args.crop:g} and {args.equivariance:g}"
        raise ValueError(
            f"--redrawn={args.redrawn:g} needs --frozen-encoder, --crop 1 and --equivariance 0, which are {here}: "
            "the U-Net draws whole pictures"
        )
    model = load_component(args.start_from / "vae").float() if args.start_from else AutoencoderKL(EMOJI.vae)
    if args.frozen_encoder:
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    return model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ldm-tutorial train autoencoder`."""
    add_common_arguments(parser, steps=20_000, batch_size=16, peak=1e-3)
    add_start_from(parser)
    parser.add_argument(
        "--frozen-encoder",
        action="store_true",
        help="train only the decoder, with --start-from: the latents do not change, so a trained U-Net still fits",
    )
    parser.add_argument(
        "--redrawn",
        type=float,
        default=0.0,
        help="the share of pictures whose latents the model's U-Net has drawn, with --frozen-encoder",
    )
    parser.add_argument("--perceptual-weight", type=float, default=0.05, help="weight of the perceptual loss, relative to L1")
    parser.add_argument(
        "--kl-weight", type=float, default=1e-2, help="weight of the KL term, which pulls the latents towards N(0, 1)"
    )
    parser.add_argument(
        "--equivariance", type=float, default=0.5, help="the share of batches that are decoded from smaller latents"
    )
    parser.add_argument("--crop", type=float, default=1.0, help="the part of a picture that is used, as a share of its side")
    parser.add_argument(
        "--gan-weight", type=float, default=0.02, help="weight of the generator's loss, before the adaptive weight"
    )
    parser.add_argument(
        "--gan-start", type=float, default=0.6, help="the part of the training after which the discriminator is used"
    )
    parser.add_argument("--vgg16", type=Path, help="file vgg16-*.pth of torchvision: for LPIPS, with --lpips-heads")
    parser.add_argument("--lpips-heads", type=Path, help="file vgg.pth of the package lpips")


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial train autoencoder`. Raises ValueError for options that mean nothing, FileNotFoundError without a CLIP."""
    compute = Compute(args.mixed_precision)
    mine = compute.mine(args.batch_size)
    torch.manual_seed(args.seed)
    model = make_model(args).to(compute.device).train()
    data = EmojiDataset("train")
    side, f = data.layers.shape[-1], model.config.downsampling
    if not 0 < args.crop <= 1 or args.crop * side % f:
        raise ValueError(f"--crop={args.crop:g} must be a share of {side} pixels, and a multiple of {f} pixels")
    everything = compute.put(data.layers)  # uint8 (n, 4, h, w), with opacity
    unseen = to_unit_range(compute.put(EmojiDataset("held_out").pictures))  # float32

    discriminator = compute.share_statistics(PatchDiscriminator(channels=32)).to(compute.device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, betas=(0.9, 0.99), weight_decay=0.0)
    d_optimizer = torch.optim.AdamW(discriminator.parameters(), betas=(0.5, 0.9), weight_decay=0.0)
    perceptual = load_perceptual_loss(args).to(compute.device)
    redrawn = None
    if args.redrawn:
        captions = [entry.captions[0] for entry in data.entries]
        kept = args.folder / "training" / "autoencoder" / "redrawn.safetensors"
        redrawn = redrawn_latents(args.start_from, data.pictures, captions, compute, args.seed, kept)  # (n, 4, h / f, w / f)
    state = {"model": model, "optimizer": optimizer, "discriminator": discriminator, "d_optimizer": d_optimizer, **compute.state}
    run = TrainingRun(args.folder / "training" / "autoencoder", state, args.steps, compute.is_main, args.save_every)

    for step in run.steps():
        generator = step_generator(args.seed, step)  # the same numbers in all processes
        indices = batch_indices(len(everything), args.batch_size, step, args.seed)
        places = random_places(len(indices), generator, crop=args.crop) if redrawn is None else unmoved(len(indices))
        pictures = place(everything[compute.put(indices[mine])], places.rows(mine), args.crop)  # (b, 3, h, w)
        shape = shape_of_latents(model, pictures)
        noise = torch.randn((len(indices), *shape[1:]), generator=generator)
        change = random_change(shape[-1], args.equivariance, generator)
        rate = learning_rate(step, args.steps, args.learning_rate)
        adversarial = step >= args.gan_start * args.steps

        # The autoencoder's step.
        with compute.autocast():
            posterior = in_float32(model.encode(pictures))
            latents = posterior.mean + posterior.std * compute.put(noise[mine])  # (b, 4, h / f, w / f)
            if redrawn is not None:  # for a share of the pictures
                chosen = compute.put(torch.rand(len(indices), generator=generator) < args.redrawn)[mine]
                latents = torch.where(chosen.view(-1, 1, 1, 1), redrawn[compute.put(indices[mine])], latents)
            if change:
                pictures, latents = change(pictures, unit=model.config.downsampling), change(latents)
            decoded = model.decode(latents).float()  # (b, 3, h, w)
            data_loss = reconstruction_loss(pictures, decoded, perceptual, args.perceptual_weight)
        kl = posterior.kl().mean() / (3 * model.config.downsampling**2 * shape[-2] * shape[-1])  # nats a pixel and channel
        loss = data_loss + args.kl_weight * kl
        if adversarial:
            with compute.autocast():
                fooling = -discriminator(decoded).float().mean()
            weight = args.gan_weight * adaptive_weight(data_loss, fooling, model.decoder.conv_out.weight, compute.gradient)
            loss = loss + weight * fooling
        optimizer.zero_grad()
        compute.backward(loss)
        set_learning_rate(optimizer, rate)
        compute.step(optimizer, max_norm=1.0)

        # The discriminator's step, on pictures cut off from the autoencoder. The step above left gradients in it: dropped first.
        if adversarial:
            with compute.autocast():
                verdicts = discriminator(pictures).float(), discriminator(decoded.detach()).float()
            d_loss = hinge_loss(*verdicts)
            d_optimizer.zero_grad()
            compute.backward(d_loss)
            set_learning_rate(d_optimizer, rate)
            compute.step(d_optimizer)

        if (step + 1) % args.log_every == 0:
            l1, decibels = (pictures - decoded).abs().mean(), psnr(pictures, decoded).mean()
            noise_share = posterior.std.mean() / posterior.mean.std()  # how much of a latent is left to chance
            values = {"loss": data_loss, "l1": l1, "kl": kl, "psnr": decibels, "noise_share": noise_share}
            if adversarial:
                values |= {"discriminator": d_loss, "fooling": fooling, "gan_weight": weight}
            run.log(**compute.mean(values), learning_rate=rate)
        if (step + 1) % args.sample_every == 0 and compute.is_main:
            decoded = reconstruct(model, unseen)
            run.log(psnr_unseen=psnr(unseen, decoded).mean().item())
            save_image(contact_sheet([unseen[:24], decoded[:24]]), run.sample_path())

    if compute.is_main:
        if not args.frozen_encoder:
            factor = round(measure_scaling_factor(model, to_unit_range(compute.put(data.pictures))), 5)
            model.config = replace(model.config, scaling_factor=factor)
        save_component(model, args.folder / "vae")


def in_float32(posterior: DiagonalGaussian) -> DiagonalGaussian:
    """Its KL divergence sums thousands of squares and exponentials: in half precision they lose digits, or overflow."""
    return DiagonalGaussian(posterior.mean.float(), posterior.logvar.float())
