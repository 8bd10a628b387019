#!/usr/bin/env python3
"""Measure the shipped model: reconstruction of unseen pictures, subjects and styles found again, seconds a picture.

python tools/measure_model.py [--model FOLDER] [--prompts N]

A drawn picture is compared with all emoji of the data set, pixel by pixel at a quarter of the resolution. This asks for more
than the right subject, for it must also lie in the right place; it needs no network that could share the model's errors.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from ldm_tutorial import load_pipeline
from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.training.autoencoder import psnr, reconstruct


def pixels(pictures) -> Tensor:
    """PIL images -> (n, 3, h, w) in [-1, 1]"""
    return torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in pictures]).float() / 127.5 - 1


def small(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures, 4).flatten(1)  # (n, 3 * 16 * 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--prompts", type=int, default=240, help="of the trained pairs; the same number of held-out ones at most")
    args = parser.parse_args()
    pipe = load_pipeline(args.model, device="cpu")
    everything, unseen = EmojiDataset("all"), EmojiDataset("held_out")

    held = unseen.pictures.float() / 127.5 - 1
    decibels = psnr(held, reconstruct(pipe.vae, held))
    print(f"autoencoder, {len(unseen)} unseen pictures: {decibels.mean():.2f} dB (worst {decibels.min():.2f})")

    started = time.perf_counter()
    pipe("a cat", progress=False)
    one = time.perf_counter() - started
    started = time.perf_counter()
    pipe("a cat", num_images=24, progress=False)
    print(f"25 steps with guidance: 1 picture in {one:.2f} s, 24 in {time.perf_counter() - started:.2f} s")

    reference = small(everything.pictures.float() / 127.5 - 1)
    for split in ("train", "held_out"):
        data = EmojiDataset(split)
        chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: args.prompts].tolist()
        right_subject = right_style = right_place = 0
        for start in tqdm(range(0, len(chosen), 24), desc=split):
            entries = [data.entries[i] for i in chosen[start : start + 24]]
            drawn = pipe([e.captions[0] for e in entries], seed=list(range(start, start + len(entries))), progress=False)
            order = torch.cdist(small(pixels(drawn)), reference).argsort(dim=1)
            for entry, row in zip(entries, order):
                best = everything.entries[int(row[0])]
                right_subject += best.label == entry.label
                right_style += best.style == entry.style
                right_place += any(everything.entries[int(i)].label == entry.label for i in row[:10])
        n = len(chosen)
        print(
            f"{split}, {n} prompts: subject nearest of {len(everything.subjects)} {right_subject / n:.1%}, "
            f"among the ten nearest pictures {right_place / n:.1%}, style {right_style / n:.1%}"
        )


if __name__ == "__main__":
    main()
