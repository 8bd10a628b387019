#!/usr/bin/env python3
"""What a training step and drawing cost: milliseconds of one core for each sample, whatever else the machine does.

python tools/time_training.py unet --channels 128 192 256 --attention 2 3 --heads 4 --batch-size 32
python tools/time_training.py autoencoder --channels 32 64 96 128 --batch-size 8

Wall-clock time on a machine that others use says little. The processor time of one thread repeats to about a tenth. That of two
does not: while one of them waits to be scheduled, the other spins. docs/ablations.md has the figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from ldm_tutorial.config import EMOJI, AutoencoderConfig, UNetConfig
from ldm_tutorial.unet import UNet
from ldm_tutorial.vae import AutoencoderKL

SIDE = {"unet": 16, "autoencoder": 128}  # latents, pixels


def processor_time(work: Callable[[], object], repeats: int) -> float:
    """The least of several, in milliseconds; once before that, to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times[1:])


def make_unet(args: argparse.Namespace) -> tuple[nn.Module, Callable[[Tensor], Tensor], Tensor]:
    """The network, how it answers, and an input."""
    levels = len(args.channels)
    unet = UNet(
        UNetConfig(
            block_out_channels=tuple(args.channels),
            attention_levels=tuple(i + 1 in args.attention for i in range(levels)),
            layers_per_block=args.layers,
            num_attention_heads=args.heads,
            cross_attention_dim=EMOJI.unet.cross_attention_dim,
            norm_num_groups=16,
            sample_size=args.side,
        )
    )
    timesteps = torch.randint(1000, (args.batch_size,))
    context = torch.randn(args.batch_size, 77, EMOJI.unet.cross_attention_dim)
    return unet, lambda x: unet(x, timesteps, context.to(x.dtype)), torch.randn(args.batch_size, 4, args.side, args.side)


def make_autoencoder(args: argparse.Namespace) -> tuple[nn.Module, Callable[[Tensor], Tensor], Tensor]:
    """The network, how it answers, and an input."""
    config = AutoencoderConfig(block_out_channels=tuple(args.channels), layers_per_block=args.layers, norm_num_groups=16)
    vae = AutoencoderKL(config)
    return vae, lambda x: vae.decode(vae.encode(x).mean), torch.rand(args.batch_size, 3, args.side, args.side) * 2 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["unet", "autoencoder"])
    parser.add_argument("--channels", type=int, nargs="+", required=True, help="of each level, the finest first")
    parser.add_argument("--attention", type=int, nargs="*", default=[2, 3], help="the U-Net's levels that have it, from 1")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=1, help="residual blocks a level")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--side", type=int, help="of latents (U-Net, default 16) or pictures (autoencoder, default 128)")
    parser.add_argument("--precision", choices=["autocast", "bfloat16", "float32"], default="autocast")
    parser.add_argument("--kernel", choices=["math", "fused"], default="math", help="of attention")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="which operations take how much of a step")
    args = parser.parse_args()
    args.side = args.side or SIDE[args.network]
    torch.set_num_threads(1)
    torch.manual_seed(0)

    network, answer, x = {"unet": make_unet, "autoencoder": make_autoencoder}[args.network](args)
    if args.precision == "bfloat16":
        network, x = network.bfloat16(), x.bfloat16()
    if args.channels_last:
        network, x = network.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    kernels = {"math": [SDPBackend.MATH], "fused": [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]}[args.kernel]
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)

    def compute() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "autocast"), sdpa_kernel(kernels):
            return answer(x)

    def step() -> None:
        (compute().float() ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    train = processor_time(step, args.repeats) / len(x)
    with torch.no_grad():
        forward = processor_time(compute, args.repeats) / len(x)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    print(f"{millions:.2f} M parameters; a sample costs {train:.1f} ms of one core in training, {forward:.2f} ms forward only")
    if args.profile:
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            step()
        print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=45))


if __name__ == "__main__":
    main()
