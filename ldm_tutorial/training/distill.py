"""Distillation: a model that draws in a few steps, without guidance, what its teacher draws in many with it.

The objective is in progressive.py. The teacher stays as it is; what the student learns is a LoRA of all its layers but the first
and the last (Luo et al. 2023, arXiv:2311.05556, do so for consistency models). docs/few_steps.md says why.
"""

from __future__ import annotations

import argparse
import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import sdpa_kernel

from ..adapters import new_lora, save_lora
from ..checks import real_number, whole_number
from ..data import EmojiDataset
from ..images import resize, save_image
from ..inputs import Options
from ..schedulers import scheduler_alike
from ..schedulers.few_steps import FewSteps
from .compute import Compute
from .diffusion import SAMPLE_PROMPTS, attention_kernels, encode_captions
from .ema import EMA
from .loop import TrainingRun, add_common_arguments, batch_indices, learning_rate, set_learning_rate, step_generator
from .own import encode_once, load_model, sample_sheet
from .progressive import Halving

OUTSIDE = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")  # of the U-Net's blocks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ldm-tutorial train distill`."""
    add_common_arguments(parser, steps=3000, batch_size=32, peak=1e-3)
    parser.set_defaults(folder=Path("runs/distilled"))
    whose = "the teacher: emoji, a file, a folder or a hub id (default: the model in --folder, if there is one, else emoji)"
    parser.add_argument("--model", help=whose)
    parser.add_argument(
        "--guidance", type=float, default=Options.guidance_scale, help="guidance scale of the teacher, which the student learns"
    )
    parser.add_argument(
        "--teacher-steps", type=int, default=32, help="DDIM steps of the first teacher; the first student takes half as many"
    )
    parser.add_argument(
        "--student-steps", type=int, default=4, help="steps of the last student: --teacher-steps halved some times"
    )
    parser.add_argument(
        "--rank", type=int, default=64, help="rank of the matrices: a higher one can learn more, and the file is larger"
    )
    parser.add_argument(
        "--ema-decay", type=float, default=0.99, help="of the average of the weights; the average is what is saved"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write (default: lora.safetensors in --folder)"
    )


def number_of_rounds(args: argparse.Namespace) -> int:
    """How often the number of steps is halved. Raises ValueError for options that do not come out even."""
    n = whole_number("--student-steps", args.student_steps, 1)
    rounds = round(math.log2(max(1, args.teacher_steps) / n))
    if rounds < 1 or n * 2**rounds != args.teacher_steps:
        raise ValueError(
            f"--teacher-steps {args.teacher_steps} must be --student-steps {n}, doubled: {2 * n}, {4 * n}, {8 * n}, ..."
        )
    if args.steps % rounds:
        raise ValueError(f"--steps {args.steps} must be a multiple of the rounds, {rounds}: {args.teacher_steps} steps to {n}")
    return rounds


def layers_of_blocks(unet: nn.Module) -> list[str]:
    """The names of all linear layers and convolutions between the first layer and the last."""
    layers = [name for name, layer in unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return [name for name in layers if name not in OUTSIDE]


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial train distill`: writes a .safetensors file for `pipe.load_lora`.

    Raises ValueError for options that mean nothing and for a teacher that does not predict noise, before anything is written.
    """
    rounds, guidance = number_of_rounds(args), real_number("--guidance", args.guidance)
    compute = Compute(args.mixed_precision)
    mine = compute.mine(args.batch_size)
    output = args.output or args.folder / "lora.safetensors"
    if output.suffix.lower() != ".safetensors":
        raise ValueError(f"--output {output} must end in .safetensors")
    if args.model is None:
        args.model = str(args.folder) if (args.folder / "model_index.json").is_file() else "emoji"
    torch.manual_seed(args.seed)
    pipe = load_model(args, compute)
    if pipe.few_steps is not None:
        raise ValueError(f"--model {args.model} is distilled already, to {pipe.few_steps.steps} steps")
    data = EmojiDataset("train")
    pictures = resize(data.pictures, pipe.unet.config.sample_size * pipe.vae.config.downsampling)

    # What never changes, once: the posterior of each picture, the text embeddings of each caption.
    folder = args.folder / "training" / "distill"
    posterior = encode_once(pipe, pictures, folder / "examples.safetensors")
    mean, std = posterior["mean"], posterior["std"]
    encode = partial(encode_captions, pipe.tokenizer, pipe.text_encoder, device=compute.device, dtype=compute.dtype)
    schedule = scheduler_alike(pipe.scheduler, "ddpm")
    captions = [entry.captions for entry in data.entries]
    objective = Halving(args.teacher_steps // 2, guidance, compute, schedule, captions, encode)

    # One network three times: alone and with the teacher's update of it; with the student's; the average of the student's.
    layers = {"unet": layers_of_blocks(pipe.unet)}
    teacher_unet = copy.deepcopy(pipe.unet)
    student = new_lora({"unet": pipe.unet}, args.rank, layers=layers)  # adds nothing yet: the student is its teacher
    average, teacher = EMA(student, args.ema_decay), copy.deepcopy(student)
    student.attach({"unet": pipe.unet})
    teacher.attach({"unet": teacher_unet})
    optimizer = torch.optim.AdamW(student.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    parts: dict[str, Any] = {"student": student, "teacher": teacher, "average": average, "optimizer": optimizer, **compute.state}
    run = TrainingRun(folder, parts, args.steps, compute.is_main, args.save_every)
    kernels, steps_a_round = attention_kernels(compute.device), args.steps // rounds

    for step in run.steps():
        number, within = divmod(step, steps_a_round)
        objective.begin(args.teacher_steps // 2 ** (number + 1), 1.0 if number else guidance)
        if number and not within:  # a round begins: the student is the teacher
            for each in (student, teacher):
                each.load_state_dict(average.model.state_dict())
            average.updates = 0

        indices = batch_indices(len(mean), args.batch_size, step, args.seed)
        draws = objective.draw(indices, mean.shape[1:], step_generator(args.seed, step))
        latents = compute.put(mean[indices[mine]]) + compute.put(std[indices[mine]]) * compute.put(draws.encoding[mine])
        batch = objective.ask(latents * pipe.vae.config.scaling_factor, draws, mine)
        with compute.autocast(), sdpa_kernel(kernels):
            loss, mse = objective.loss(pipe.unet, batch, teacher_unet)

        optimizer.zero_grad()
        compute.backward(loss)
        set_learning_rate(optimizer, learning_rate(within, steps_a_round, args.learning_rate))
        compute.step(optimizer, max_norm=1.0)
        average.update(student)

        if (step + 1) % args.log_every == 0:
            now = {"student_steps": objective.steps, "learning_rate": optimizer.param_groups[0]["lr"]}
            run.log(**compute.mean({"loss": loss, "mse": mse}), **now)
        if (step + 1) % args.sample_every == 0 and compute.is_main:
            pipe.scheduler.few_steps = FewSteps(objective.steps, guidance)
            save_image(sample_sheet(pipe, SAMPLE_PROMPTS), run.sample_path())

    if compute.is_main:
        learned: Any = average.model
        learned.few_steps = FewSteps(args.student_steps, guidance)
        print(save_lora(learned, output, dtype=torch.float16))
