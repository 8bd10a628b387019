"""Training the classifier that measures the finished model (evaluation/judge.py). It is no part of the model.

The pairs that the U-Net never sees are held out from the classifier, too. So what it says about real pictures of them, which are
new to itself, is the most that can be measured of drawn ones.
"""

from __future__ import annotations

import argparse

import torch

from ..data import STYLES, EmojiDataset
from ..images import levels_of, save_image, to_unit_range
from ..training.compute import Compute
from ..training.loop import TrainingRun, add_common_arguments, batch_indices, learning_rate, set_learning_rate, step_generator
from ..training.sheets import contact_sheet
from .distortions import distort, distort_slightly
from .judge import Judge, JudgeConfig, accuracy, at_size, judge_loss, look, look_at_distorted, right_answers, save_judge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ldm-tutorial train judge`."""
    add_common_arguments(parser, steps=4000, batch_size=128, peak=3e-3)


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial train judge`. Raises ValueError for options that mean nothing."""
    compute = Compute(args.mixed_precision)
    mine = compute.mine(args.batch_size)
    torch.manual_seed(args.seed)
    data, unseen = EmojiDataset("train"), EmojiDataset("held_out")
    judge = Judge(JudgeConfig(subjects=tuple(data.subjects), styles=STYLES))
    judge = compute.share_statistics(judge).to(compute.device)
    subjects, styles = right_answers(judge.config, data.entries)
    real = at_size(data.pictures, judge.config.size)  # uint8 (n, 3, 64, 64)
    optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.05)
    state = {"model": judge, "optimizer": optimizer, **compute.state}
    run = TrainingRun(args.folder / "training" / "judge", state, args.steps, compute.is_main, args.save_every)

    for step in run.steps():
        indices = batch_indices(len(data), args.batch_size, step, args.seed)[mine]
        # Distorting is work for the CPU: each process does it for its own rows, with random numbers of its own
        generator = step_generator(args.seed, step, compute.rank)
        pictures = distort(to_unit_range(real[indices]), generator)
        in_style = distort_slightly(to_unit_range(real[indices]), generator)
        right = compute.put(subjects[indices]), compute.put(styles[indices])

        with compute.autocast():
            means, textures = judge.means(compute.put(pictures)), judge.textures(compute.put(in_style))  # (b, c), (b, s)
        verdict = judge.answer(means, textures)
        loss = judge_loss(verdict, *right)
        optimizer.zero_grad()
        compute.backward(loss)
        set_learning_rate(optimizer, learning_rate(step, args.steps, args.learning_rate, decay=0.7))
        compute.step(optimizer, max_norm=1.0)

        if (step + 1) % args.log_every == 0:
            subject = (verdict.cosines.argmax(dim=1) == right[0]).float().mean()  # of pictures distorted a moment ago
            style = (verdict.styles.argmax(dim=1) == right[1]).float().mean()
            run.log(**compute.mean({"loss": loss, "subject": subject, "style": style}))
        if (step + 1) % args.sample_every == 0 and compute.is_main:
            judge.eval()
            named, styled = accuracy(look(judge, unseen.pictures), *right_answers(judge.config, unseen.entries))
            run.log(subject_held_out=named, style_held_out=styled)
            shown = pictures[:24]
            taken_for = look(judge, levels_of(shown)).cosines.argmax(dim=1)
            first = [next(i for i, e in enumerate(data.entries) if e.label == judge.config.subjects[s]) for s in taken_for]
            save_image(contact_sheet([shown, to_unit_range(real[first])]), run.sample_path())
            judge.train()

    if compute.is_main:
        judge.eval()
        generator = step_generator(args.seed, args.steps)  # of a step that never was: distortions it has not seen
        fresh = look_at_distorted(judge, real, generator)
        for what, verdict in (("real pictures", look(judge, real)), ("the same, freshly distorted", fresh)):
            named, styled = accuracy(verdict, subjects, styles)
            print(f"{what}: subject {named:.1%}, style {styled:.1%} of {len(real):,}")
        named, styled = accuracy(look(judge, unseen.pictures), *right_answers(judge.config, unseen.entries))
        print(f"real pictures that it never saw: subject {named:.1%}, style {styled:.1%} of {len(unseen):,}")
        save_judge(judge, args.folder / "judge")
