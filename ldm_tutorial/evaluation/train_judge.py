"""Training the judge that measures the finished model (evaluation/judge.py). It is no part of the model.

It sees every picture of the data set, the held-out ones too: only the U-Net must not know those.
"""

from __future__ import annotations

import argparse

import torch

from ..data import STYLES, EmojiDataset
from ..training.loop import Run, add_common_arguments, batch_indices, learning_rate, set_learning_rate, step_generator
from ..training.sheets import save_sheet
from .distortions import distort, distort_levels
from .judge import Judge, JudgeConfig, accuracy, judge_loss, look, right_answers, save_judge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, steps=4000, batch_size=128, peak=3e-3)
    parser.add_argument(
        "--without-held-out",
        action="store_true",
        help="leave out the pairs that the U-Net never sees, and log how the judge does on them: pictures new to itself",
    )


def main(args: argparse.Namespace) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision=args.mixed_precision)
    torch.manual_seed(args.seed)
    everything = EmojiDataset("all")
    data, unseen = (EmojiDataset("train" if args.without_held_out else "all"), EmojiDataset("held_out"))
    judge = Judge(JudgeConfig(subjects=tuple(everything.subjects), styles=STYLES))
    subjects, styles = right_answers(judge.config, data.entries)
    optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.05)
    judge, optimizer = accelerator.prepare(judge, optimizer)
    plain = accelerator.unwrap_model(judge)
    name = "judge-without-held-out" if args.without_held_out else "judge"
    run = Run(
        args.folder / "training" / name,
        {"model": plain, "optimizer": optimizer},
        args.steps,
        accelerator.is_main_process,
        args.save_every,
    )

    for step in run.steps():
        generator = step_generator(args.seed, step, accelerator.process_index)
        indices = batch_indices(len(data), args.batch_size, step, args.seed)
        indices = indices[accelerator.process_index :: accelerator.num_processes]  # this process's share
        pictures = distort(data.pictures[indices].float() / 127.5 - 1, generator)  # (b, 3, 64, 64)
        right = subjects[indices].to(accelerator.device), styles[indices].to(accelerator.device)

        with accelerator.autocast():
            verdict = judge(pictures.to(accelerator.device))
        loss = judge_loss(verdict, *right)
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(judge.parameters(), 1.0)
        set_learning_rate(optimizer, learning_rate(step, args.steps, args.learning_rate, decay=0.7))
        optimizer.step()

        if (step + 1) % args.log_every == 0:
            subject = (verdict.cosines.argmax(dim=1) == right[0]).float().mean()  # of pictures distorted a moment ago
            style = (verdict.styles.argmax(dim=1) == right[1]).float().mean()
            run.log(loss=loss.item(), subject=subject.item(), style=style.item())
        if (step + 1) % args.sample_every == 0 and accelerator.is_main_process:
            plain.eval()
            subject, style = accuracy(plain, unseen.pictures, *right_answers(plain.config, unseen.entries))
            run.log(subject_held_out=subject, style_held_out=style)
            shown = pictures[:24].cpu()
            taken_for = look(plain, ((shown + 1) * 127.5).round().byte()).cosines.argmax(dim=1)
            first = [next(i for i, e in enumerate(everything.entries) if e.label == plain.config.subjects[s]) for s in taken_for]
            save_sheet([shown, everything.pictures[first].float() / 127.5 - 1], run.sample_path())
            plain.train()

    if accelerator.is_main_process:
        plain.eval()
        generator = step_generator(args.seed, args.steps)  # of a step that never was: distortions it has not seen
        fresh = distort_levels(data.pictures, generator)
        for what, pictures in (("real pictures", data.pictures), ("the same, freshly distorted", fresh)):
            subject, style = accuracy(plain, pictures, subjects, styles)
            print(f"{what}: subject {subject:.1%}, style {style:.1%} of {len(pictures):,}")
        if args.without_held_out:
            subject, style = accuracy(plain, unseen.pictures, *right_answers(plain.config, unseen.entries))
            print(f"real pictures that it never saw: subject {subject:.1%}, style {style:.1%} of {len(unseen):,}")
        save_judge(plain, args.folder / name)
