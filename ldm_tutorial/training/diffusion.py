"""Training the U-Net: guess the noise in a noisy latent, given the words (Rombach et al. 2022, equation 3).

Autoencoder and text encoder are frozen, so the latents of all pictures and the states of all captions are computed once.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..checkpoints import load_component, save_checkpoint, save_component
from ..checkpoints.folder import read_tokenizer
from ..config import EMOJI
from ..data import EmojiDataset
from ..schedulers import DDPMScheduler, make_scheduler, randn
from ..unet import UNet
from ..vae import AutoencoderKL, DiagonalGaussian
from .ema import EMA
from .loop import Run, add_common_arguments, add_start_from, batch_indices, learning_rate, set_learning_rate, step_generator
from .sheets import save_sheet
from .wording import choose_words, without_article

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


def sample_timesteps(batch_size: int, num_train_timesteps: int, generator: torch.Generator, power: float = 1.0) -> Tensor:
    """Timesteps, one out of each of `batch_size` equally likely slices of the range: (b,)

    power 1: each is uniform by itself, as the objective asks; together they cover the range evenly, so the loss varies less.
    Below 1, more of them are late, where noise prevails: at 0.5, half of them lie above 0.7 of the range.
    """
    slices = torch.arange(batch_size) + torch.rand(batch_size, generator=generator)
    return ((slices / batch_size) ** power * num_train_timesteps).long()


def min_snr_weight(alphas_cumprod: Tensor, timesteps: Tensor, gamma: float = 5.0, offset: float = 0.0) -> Tensor:
    """min(SNR + offset, gamma) / SNR: nearly clean latents count less, for their noise says little. (b,) -> (b,)

    offset 0 is Hang et al. 2023, section 3.4. With offset 1, and below gamma, the error counts as if it were one of the velocity
    (Salimans and Ho 2022, section 4): nearly pure noise counts more, for there the words decide what the picture shows.
    """
    alpha_bar = alphas_cumprod[timesteps]
    snr = alpha_bar / (1 - alpha_bar)
    return (snr + offset).clamp(max=gamma) / snr


def dropout_rate(timesteps: Tensor, num_train_timesteps: int, early: float, late: float) -> Tensor:
    """How often the caption is dropped: `early` in pure noise (t = T), `late` in clean latents (t = 0). (b,) -> (b,)

    Guidance of scale w makes (1 - w) u + w c of the answers without words, u, and with them, c (Ho and Salimans 2022, equation
    6). So it multiplies the error of u by w - 1, almost as much as that of c. Where the latents show the picture already,
    u and c should agree, and what differs is error: there, `late` = 0.5 trains both alike.
    """
    return late + (early - late) * (timesteps / num_train_timesteps) ** 2


def diffusion_loss(unet: nn.Module, noisy: Tensor, noise: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
    """Mean squared error of the guessed noise, for each latent: (b,)"""
    return ((unet(noisy, timesteps, context).float() - noise) ** 2).mean(dim=(1, 2, 3))


def paired_loss(
    unet: nn.Module, noisy: Tensor, noise: Tensor, timesteps: Tensor, context: Tensor, pairs: Tensor
) -> tuple[Tensor, Tensor]:
    """The diffusion loss of each latent, (b,); and how far apart the answers of each pair of rows (p, 2) are, squared: (p,)"""
    answers = unet(noisy, timesteps, context).float()
    first, second = answers[pairs].unbind(1)
    losses = diffusion_loss(lambda *_: answers, noisy, noise, timesteps, context)
    return losses, ((first - second) ** 2).mean(dim=(1, 2, 3))


def agreement_weight(timesteps: Tensor, below: float) -> Tensor:
    """1 for timesteps up to `below`, then falling to 0 at 1.5 times as late: where the words have nothing to add. (b,) -> (b,)

    There the latents show which picture it is, and the right answer is the same with the words and without. Guidance of scale
    w takes w - 1 times the difference between the two: where they agree it does nothing, and that is what it should do.
    """
    return ((1.5 * below - timesteps) / (0.5 * below)).clamp(0, 1)


def silence_residuals(unet: UNet) -> UNet:
    """Set to zero what each residual block and each transformer adds, and the output: the network begins as a plain path.

    Rombach et al.'s code does so (`zero_module`). Measured here over 200 steps of 32: a loss of 0.084 instead of 0.092.
    """
    for name, weight in unet.named_parameters():
        if name.endswith(("conv2.weight", "proj_out.weight")) or name == "conv_out.weight":
            nn.init.zeros_(weight)
    return unet


@torch.no_grad()
def answer_with_words(unet: nn.Module, noisy: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
    """What the average guesses with the words: the target of a row that does not hear them. (b, 4, h, w) -> the same

    Without words, the right guess is the mean of those with words, over all words that such latents could have: E[ε | x_t] =
    E[ E[ε | x_t, y] | x_t ], the law of total expectation. So the goal is the same as with the noise that was added, nearer to
    the mean, and the two answers err alike: guidance multiplies their difference.
    """
    return unet(noisy, timesteps, context).float()


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: Tensor) -> DiagonalGaussian:
    """The posterior of each picture, unscaled; uint8 (n, 3, h, w) -> (n, 4, h / f, w / f) twice."""
    parts = [vae.encode(batch.float() / 127.5 - 1) for batch in pictures.split(64)]
    return DiagonalGaussian(torch.cat([p.mean for p in parts]), torch.cat([p.logvar for p in parts]))


@torch.no_grad()
def encode_captions(tokenizer, text_encoder: nn.Module, captions: list[str], device, dtype: torch.dtype) -> Tensor:
    """The states of all 77 tokens of each caption: (n, 77, d)"""
    states = []
    for start in range(0, len(captions), 256):
        rows = tokenizer(captions[start : start + 256], padding="max_length", truncation=True, return_tensors="pt")
        states.append(text_encoder(rows.input_ids.to(device)).to(dtype))
    return torch.cat(states)


@torch.no_grad()
def draw(unet: nn.Module, vae: AutoencoderKL, context: Tensor, empty: Tensor, steps: int = 25, guidance: float = 5.0) -> Tensor:
    """Pictures for a look on the way, by DDIM: (n, 77, d) -> (n, 3, h, w). Picture i starts from the noise of seed i."""
    size = unet.config.sample_size
    seeds = [torch.Generator().manual_seed(i) for i in range(len(context))]
    x = randn((len(context), unet.config.in_channels, size, size), seeds, context.device)  # (n, 4, h, w)
    scheduler = make_scheduler("ddim")
    scheduler.set_timesteps(steps)
    both = torch.cat([empty.expand_as(context), context])
    for t in scheduler.timesteps:
        unconditional, conditional = unet(torch.cat([x, x]), t, both).chunk(2)
        x = scheduler.step(unconditional + guidance * (conditional - unconditional), t, x).prev_sample
    return vae.decode(x / vae.config.scaling_factor)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, steps=60_000, batch_size=32, peak=8e-4)
    add_start_from(parser)
    parser.add_argument("--caption-dropout", type=float, default=0.1, help="how often a caption is replaced by the empty one")
    parser.add_argument("--late-dropout", type=float, help="the same at timestep 0; in between, in between. Default: the same")
    parser.add_argument("--distill-empty", action="store_true", help="without words, learn what the average answers with them")
    parser.add_argument("--agree", type=float, default=0.0, help="weight of the difference of answers with and without words")
    parser.add_argument("--agree-below", type=float, default=300, help="the timestep up to which it should be none")
    parser.add_argument("--first-caption", type=float, default=0.85, help="how often a picture gets its full caption, not a tag")
    parser.add_argument("--bare-caption", type=float, default=0.0, help="how often its full caption without the article")
    parser.add_argument("--label-caption", type=float, default=0.0, help="how often its label alone")
    parser.add_argument("--min-snr-gamma", type=float, default=5.0)
    parser.add_argument("--snr-offset", type=float, default=1.0, help="1: high noise counts as for the velocity; 0: as for noise")
    parser.add_argument("--timestep-power", type=float, default=0.5, help="1: uniform; less: more high noise, where words decide")
    parser.add_argument("--ema-decay", type=float, default=0.999)


def main(args: argparse.Namespace) -> None:
    from accelerate import Accelerator

    if (told := args.first_caption + args.bare_caption + args.label_caption) > 1 + 1e-9:
        raise ValueError(f"--first-caption, --bare-caption, --label-caption: shares of one whole, but they add up to {told:g}")
    late_dropout = args.caption_dropout if args.late_dropout is None else args.late_dropout
    for option, share in (("--caption-dropout", args.caption_dropout), ("--late-dropout", late_dropout)):
        if not 0 <= share <= 1:
            raise ValueError(f"{option}: a share from 0 to 1, not {share:g}")
    if args.agree < 0 or args.agree_below <= 0:
        raise ValueError(f"--agree, --agree-below: at least 0 and above 0, not {args.agree:g} and {args.agree_below:g}")
    accelerator = Accelerator(mixed_precision=args.mixed_precision)
    device = accelerator.device
    torch.manual_seed(args.seed)
    data = EmojiDataset("train")
    vae = load_component(args.folder / "vae").to(device).eval()
    text_encoder = load_component(args.folder / "text_encoder").to(device).eval()
    tokenizer = read_tokenizer(args.folder / "tokenizer", text_encoder.config.vocab_size)

    # What never changes, once: the posterior of each picture, the states of each caption.
    posterior = encode_pictures(vae, data.pictures.to(device))
    captions = [item.captions for item in data]
    vocabulary = ["", *sorted({c for row in captions for c in (*row, without_article(row[0]))})]  # the empty caption is number 0
    number = {caption: i for i, caption in enumerate(vocabulary)}
    states = encode_captions(tokenizer, text_encoder, vocabulary, device, torch.bfloat16)  # (n, 77, d)
    shown = encode_captions(tokenizer, text_encoder, list(SAMPLE_PROMPTS), device, torch.float32)

    noise_schedule = DDPMScheduler()
    alphas_cumprod = noise_schedule.alphas_cumprod
    unet = load_component(args.start_from / "unet").float().train() if args.start_from else silence_residuals(UNet(EMOJI.unet))
    ema = EMA(unet, args.ema_decay)
    ema.model.to(device)
    optimizer = torch.optim.AdamW(unet.parameters(), betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    unet, optimizer = accelerator.prepare(unet, optimizer)
    plain = accelerator.unwrap_model(unet)
    run = Run(
        args.folder / "training" / "unet",
        {"unet": plain, "optimizer": optimizer, "ema": ema},
        args.steps,
        accelerator.is_main_process,
        args.save_every,
    )

    # On a CPU, at these sizes, attention's plain formula takes a step in 12 % less time than the fused kernel.
    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    attention = [SDPBackend.MATH, *([] if device.type == "cpu" else fused)]

    for step in run.steps():
        generator = step_generator(args.seed, step, accelerator.process_index)
        indices = batch_indices(len(data), args.batch_size, step, args.seed)
        indices = indices[accelerator.process_index :: accelerator.num_processes]  # this process's share
        b = len(indices)
        latents = DiagonalGaussian(posterior.mean[indices], posterior.logvar[indices]).sample(generator)
        latents = latents * vae.config.scaling_factor  # (b, 4, 16, 16), of unit variance
        timesteps = sample_timesteps(b, len(alphas_cumprod), generator, args.timestep_power)
        rows = [captions[i] for i in indices.tolist()]
        said = choose_words(rows, generator, args.first_caption, args.bare_caption, args.label_caption)
        chosen = torch.tensor([number[caption] for caption in said])
        unsaid = dropout_rate(timesteps, len(alphas_cumprod), args.caption_dropout, late_dropout)
        dropped = torch.rand(b, generator=generator) < unsaid  # each caption by itself, not the batch as one
        noise = torch.randn(latents.shape, generator=generator).to(device)
        noisy = noise_schedule.add_noise(latents, noise, timesteps)
        timesteps = timesteps.to(device)
        pairs = torch.empty(0, 2, dtype=torch.long)
        if args.agree:  # the rows without words stand beside the same rows with them, otherwise in their place
            twice = dropped.nonzero().squeeze(1)  # (p,)
            every = torch.cat([torch.arange(b), twice])  # (b + p,)
            noisy, noise, timesteps, chosen = noisy[every], noise[every], timesteps[every], chosen[every]
            dropped = torch.arange(len(every)) >= b
            pairs = torch.stack([twice, dropped.nonzero().squeeze(1)], dim=1)  # (p, 2)
        context = states[chosen.where(~dropped, 0).to(device)]  # (b + p, 77, d)

        target = noise
        with accelerator.autocast(), sdpa_kernel(attention):
            if args.distill_empty and dropped.any():
                target = noise.clone()
                heard = states[chosen[dropped].to(device)]
                target[dropped] = answer_with_words(ema.model, noisy[dropped], timesteps[dropped], heard)
            losses, apart = paired_loss(unet, noisy, target, timesteps, context, pairs)  # (b + p,), (p,)
        weights = min_snr_weight(alphas_cumprod.to(device), timesteps, args.min_snr_gamma, args.snr_offset)  # (b + p,)
        shared = args.agree * weights[b:] * agreement_weight(timesteps[b:], args.agree_below)  # (p,)
        loss = (losses * weights).mean() + (apart * shared).sum() / len(losses)
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(unet.parameters(), 1.0)
        set_learning_rate(optimizer, learning_rate(step, args.steps, args.learning_rate, warmup=0.02))
        optimizer.step()
        ema.update(plain)

        if (step + 1) % args.log_every == 0:
            run.log(loss=loss.item(), mse=losses.mean().item(), learning_rate=optimizer.param_groups[0]["lr"])
        if (step + 1) % args.sample_every == 0 and accelerator.is_main_process:
            save_sheet([draw(ema.model, vae, shown, states[:1].float())], run.sample_path())

    if accelerator.is_main_process:
        save_component(ema.model, args.folder / "unet")
        save_checkpoint({"scheduler": make_scheduler("ddim")}, args.folder)  # now it is a whole model
