"""Training the autoencoder: L1 + perceptual + KL + patch GAN, as in Rombach et al. 2022, section 3.1 and appendix G.

The discriminator joins late, when the reconstructions are good enough to be worth criticizing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints import load_component, save_component
from ..config import EMOJI
from ..data import EmojiDataset
from ..vae import AutoencoderKL
from .augment import jitter
from .clip import load_clip
from .discriminator import PatchDiscriminator, adaptive_weight, hinge_loss
from .loop import Run, add_common_arguments, add_start_from, batch_indices, learning_rate, set_learning_rate, step_generator
from .perceptual import VGG16, PerceptualLoss, read_lpips_heads
from .sheets import save_sheet


def reconstruction_loss(pictures: Tensor, decoded: Tensor, perceptual: PerceptualLoss, weight: float) -> Tensor:
    """L1 of every pixel plus `weight` times the perceptual distance, averaged: (b, 3, h, w) twice -> ()"""
    return (pictures - decoded).abs().mean() + weight * perceptual(pictures, decoded).mean()


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


def load_perceptual_loss(args: argparse.Namespace, folder: Path) -> PerceptualLoss:
    if args.vgg16 and args.lpips_heads:
        return PerceptualLoss(VGG16.from_torchvision(args.vgg16), read_lpips_heads(args.lpips_heads))
    return PerceptualLoss(load_clip(folder).image_tower)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, steps=20_000, batch_size=16, peak=1e-3)
    add_start_from(parser)
    parser.add_argument(
        "--frozen-encoder",
        action="store_true",
        help="train the decoder alone, with --start-from: the latents stay, and with them a U-Net that knows them",
    )
    parser.add_argument("--perceptual-weight", type=float, default=0.05, help="against the L1 of a pixel; LPIPS's own is 1")
    parser.add_argument("--kl-weight", type=float, default=1e-4, help="pulls the latents towards N(0, 1)")
    parser.add_argument("--gan-weight", type=float, default=0.02, help="of the generator's loss, before the adaptive weight")
    parser.add_argument("--gan-start", type=float, default=0.6, help="the part of the run after which the discriminator joins")
    parser.add_argument("--vgg16", type=Path, help="torchvision's vgg16-*.pth: for LPIPS, with --lpips-heads")
    parser.add_argument("--lpips-heads", type=Path, help="vgg.pth of the package lpips")


def main(args: argparse.Namespace) -> None:
    from accelerate import Accelerator

    if args.frozen_encoder and not args.start_from:
        raise ValueError("--frozen-encoder: needs --start-from, the model whose encoder is to stay as it is")
    accelerator = Accelerator(mixed_precision=args.mixed_precision)
    torch.manual_seed(args.seed)
    data = EmojiDataset("train")
    unseen = EmojiDataset("held_out").pictures.to(accelerator.device).float() / 127.5 - 1  # (n, 3, 64, 64)

    model = load_component(args.start_from / "vae").float().train() if args.start_from else AutoencoderKL(EMOJI.vae)
    if args.frozen_encoder:
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    discriminator = PatchDiscriminator(channels=32)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, betas=(0.9, 0.99), weight_decay=0.0)
    d_optimizer = torch.optim.AdamW(discriminator.parameters(), betas=(0.5, 0.9), weight_decay=0.0)
    model, discriminator, optimizer, d_optimizer = accelerator.prepare(model, discriminator, optimizer, d_optimizer)
    perceptual = load_perceptual_loss(args, args.folder).to(accelerator.device)
    plain = accelerator.unwrap_model(model)
    state = {
        "model": plain,
        "optimizer": optimizer,
        "discriminator": accelerator.unwrap_model(discriminator),
        "d_optimizer": d_optimizer,
    }
    run = Run(args.folder / "training" / "autoencoder", state, args.steps, accelerator.is_main_process, args.save_every)
    last_layer = plain.decoder.conv_out.weight

    for step in run.steps():
        generator = step_generator(args.seed, step, accelerator.process_index)
        indices = batch_indices(len(data), args.batch_size, step, args.seed)
        indices = indices[accelerator.process_index :: accelerator.num_processes]  # this process's share
        pictures = data.pictures[indices].to(accelerator.device).float() / 127.5 - 1  # (b, 3, 64, 64)
        pictures = jitter(pictures, generator)
        rate = learning_rate(step, args.steps, args.learning_rate)
        adversarial = step >= args.gan_start * args.steps

        # The autoencoder's step.
        with accelerator.autocast():
            posterior = plain.encode(pictures)
            decoded = plain.decode(posterior.sample(generator)).float()  # (b, 3, 64, 64)
            data_loss = reconstruction_loss(pictures, decoded, perceptual, args.perceptual_weight)
        kl = posterior.kl().mean() / pictures[0].numel()  # nats a pixel and channel, as the other terms
        loss = data_loss + args.kl_weight * kl
        if adversarial:
            with accelerator.autocast():
                fooling = -discriminator(decoded).mean()
            weight = args.gan_weight * adaptive_weight(data_loss, fooling, last_layer)
            loss = loss + weight * fooling
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        set_learning_rate(optimizer, rate)
        optimizer.step()

        # The discriminator's step, on pictures cut off from the autoencoder. The step above left gradients in it: dropped first.
        if adversarial:
            with accelerator.autocast():
                verdict = hinge_loss(discriminator(pictures), discriminator(decoded.detach()))
            d_optimizer.zero_grad()
            accelerator.backward(verdict)
            set_learning_rate(d_optimizer, rate)
            d_optimizer.step()

        if (step + 1) % args.log_every == 0:
            l1, decibels = (pictures - decoded).abs().mean(), psnr(pictures, decoded).mean()
            values = {"loss": data_loss, "l1": l1, "kl": kl, "psnr": decibels}
            if adversarial:
                values |= {"discriminator": verdict, "fooling": fooling, "gan_weight": weight}
            run.log(**{name: value.item() for name, value in values.items()}, learning_rate=rate)
        if (step + 1) % args.sample_every == 0 and accelerator.is_main_process:
            decoded = reconstruct(plain, unseen)
            run.log(psnr_unseen=psnr(unseen, decoded).mean().item())
            save_sheet([unseen[:24], decoded[:24]], run.sample_path())

    if accelerator.is_main_process:
        if not args.frozen_encoder:
            everything = data.pictures.to(accelerator.device).float() / 127.5 - 1
            plain.config = replace(plain.config, scaling_factor=round(measure_scaling_factor(plain, everything), 5))
        save_component(plain, args.folder / "vae")
