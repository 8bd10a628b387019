#!/usr/bin/env python3
"""Compare models that were trained with different objectives: what the classifier says of their pictures, and their logs.

    python tools/compare_objectives.py NAME=FOLDER [NAME=FOLDER ...]

Writes docs/flow_matching.json and images/flow_matching.webp, unless -o and --sheet name other files. Each FOLDER is one of
`ldm-tutorial train unet`: a whole model, with its log in training/unet/log.jsonl.

All draw the same prompts from the same noise, with DDIM or with flow matching's Euler (with --second-order also with Heun's
method of their kind), at several numbers of network evaluations. DDIM and Heun begin at the last timestep ("trailing"), as flow
matching does: with few steps the usual "leading" timesteps would begin below it. Shares have 95 % intervals (Wilson 1927), the
differences from the first model 95 % intervals by pairs. The losses of different objectives have different units, so every
prediction is converted to x0 as well, and its error measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints.atomic import atomic_path, write_atomically
from ldm_tutorial.data import EmojiDataset, EmojiEntry
from ldm_tutorial.evaluation.drawing import to_levels
from ldm_tutorial.evaluation.judge import Judge, load_judge, look, right_answers
from ldm_tutorial.evaluation.sheets import captioned_sheet
from ldm_tutorial.evaluation.statistics import bootstrap_interval, wilson
from ldm_tutorial.images import to_unit_range
from ldm_tutorial.pipeline import StableDiffusion
from ldm_tutorial.schedulers import FlowScheduler, scheduler_alike
from ldm_tutorial.schedulers.noise_schedule import sigmas_from_alphas_cumprod, sigmas_to_timesteps
from ldm_tutorial.schedulers.spaces import convert
from ldm_tutorial.training.logs import read_log

ROOT = Path(__file__).resolve().parent.parent
BATCH, LOGGED = 24, 200  # pictures drawn at once; points of a log that are kept
SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 14.0)
SHOWN, SHOWN_AT = 8, 25  # columns of the sheet, and their number of evaluations, if it was asked for


def chosen(split: str, count: int) -> tuple[list[EmojiEntry], Tensor]:
    """`count` pairs of subject and style, evenly spread over a split (all, if there are fewer), and their pictures."""
    data = EmojiDataset(split)
    places = torch.linspace(0, len(data) - 1, min(count, len(data))).round().long()
    return [data.entries[i] for i in places.tolist()], data.pictures[places]


def draw(pipe: StableDiffusion, entries: list[EmojiEntry], evaluations: int, order: int, guidance: float) -> Tensor:
    """A picture of each pair, from seeds 0, 1, 2, ...: uint8 (n, 3, h, w). order: 1 for Euler and DDIM, 2 for Heun's method."""
    flow, pictures = isinstance(pipe.scheduler, FlowScheduler), []
    for start in range(0, len(entries), BATCH):
        batch = entries[start : start + BATCH]
        pictures += pipe(
            [entry.captions[0] for entry in batch],
            seed=list(range(start, start + len(batch))),
            scheduler=(("flow_euler", "flow_heun") if flow else ("ddim", "heun"))[order - 1],
            scheduler_options={} if flow else {"timestep_spacing": "trailing"},
            steps=evaluations if order == 1 else (evaluations + 1) // 2,
            guidance_scale=guidance,
            progress=False,
        )
    return to_levels(pictures)


def right(judge: Judge, pictures: Tensor, entries: list[EmojiEntry]) -> dict[str, Tensor]:
    """Whether the classifier names the subject and the style that were asked for: (n,) bool each"""
    subjects, styles = right_answers(judge.config, entries)
    verdict = look(judge, pictures)
    return {"subject": verdict.cosines.argmax(dim=1) == subjects, "style": verdict.styles.argmax(dim=1) == styles}


def share(hits: Tensor, first: Tensor) -> dict[str, Any]:
    """The share with its interval, and the difference from the first model's on the same prompts and noise."""
    apart = hits.double() - first.double()
    found: dict[str, Any] = {"share": hits.double().mean().item(), "interval": wilson(int(hits.sum()), len(hits))}
    return found | {"difference": apart.mean().item(), "difference_interval": bootstrap_interval(apart)}


@torch.no_grad()
def errors_of_x0(pipe: StableDiffusion, pictures: Tensor, entries: list[EmojiEntry]) -> list[float]:
    """Mean squared error of the predicted clean latents of real pictures, with their captions, at each of `SIGMAS`.

    It has a part that no network can avoid, which is the same for all models.
    """
    x0 = torch.cat([pipe.encode(to_unit_range(some)) for some in pictures.split(BATCH)]).cpu()  # (n, 4, h, w)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    context = pipe.encode_prompt([entry.captions[0] for entry in entries])
    kind, found = pipe.scheduler.prediction_type, []
    for sigma in SIGMAS:
        if isinstance(pipe.scheduler, FlowScheduler):
            a, s, t = 1 / (1 + sigma), sigma / (1 + sigma), pipe.scheduler.num_train_timesteps * sigma / (1 + sigma)
        else:
            a, s = 1 / (1 + sigma**2) ** 0.5, sigma / (1 + sigma**2) ** 0.5
            t = float(sigmas_to_timesteps(np.array([sigma]), train_sigmas_of(pipe))[0])
        x = a * x0 + s * noise
        parts = zip(x.split(BATCH), context.split(BATCH))
        output = [pipe.unet(x.to(pipe.device, pipe.dtype), torch.full((len(x),), t).to(pipe.device), c) for x, c in parts]
        found.append(((convert(torch.cat(output).float().cpu(), x, kind, "sample", a, s) - x0) ** 2).mean().item())
    return found


def train_sigmas_of(pipe: StableDiffusion) -> np.ndarray:
    """σ at every training timestep of a diffusion model, rising, (T,)"""
    alphas_cumprod = scheduler_alike(pipe.scheduler, "ddpm").alphas_cumprod
    return sigmas_from_alphas_cumprod(alphas_cumprod).numpy()


def log_of(folder: Path) -> dict[str, list[float]]:
    """Steps and mean squared errors of the training, thinned: errors of different targets cannot be compared."""
    log = read_log(folder / "training" / "unet" / "log.jsonl")
    every = max(1, len(log["step"]) // LOGGED)
    return {name: log[name][::every].tolist() for name in ("step", "mse")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[4, 8, 16, 25, 50], help="of the network, for each picture")
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--prompts", type=int, default=300, help="of each split: trained and held-out pairs")
    parser.add_argument("--second-order", action="store_true", help="Heun's method of each kind, too, at the same evaluations")
    parser.add_argument("--judge", type=Path, help="the classifier's folder (default: the one that is shipped)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "flow_matching.json")
    parser.add_argument("--sheet", type=Path, default=ROOT / "images" / "flow_matching.webp")
    args = parser.parse_args()
    folders = dict(model.split("=", 1) for model in args.models)
    pipes = {name: load_pipeline(folder) for name, folder in folders.items()}
    judge = load_judge(args.judge) if args.judge else load_judge()

    found: dict[str, Any] = {"guidance": args.guidance, "prompts": args.prompts, "sigmas": SIGMAS, "models": {}, "results": []}
    for name, pipe in pipes.items():
        trained_by = "flow matching" if isinstance(pipe.scheduler, FlowScheduler) else "diffusion"
        found["models"][name] = {"trained_by": trained_by, "scheduler": type(pipe.scheduler).__name__}
        found["models"][name]["log"] = log_of(Path(folders[name]))
    cells: dict[str, Tensor] = {}
    at = SHOWN_AT if SHOWN_AT in args.evaluations else args.evaluations[-1]
    for split in ("train", "held_out"):
        entries, real = chosen(split, args.prompts)
        for name, pipe in pipes.items():
            found["models"][name][f"error_of_x0.{split}"] = errors_of_x0(pipe, real, entries)
        for evaluations in args.evaluations:
            for order in (1, 2) if args.second_order else (1,):
                first: dict[str, Tensor] | None = None
                for name, pipe in pipes.items():
                    pictures = draw(pipe, entries, evaluations, order, args.guidance)
                    hits = right(judge, pictures, entries)
                    first = first or hits
                    row = {"model": name, "split": split, "evaluations": evaluations, "order": order, "pictures": len(entries)}
                    row |= {what: share(hits[what], first[what]) for what in hits}
                    found["results"].append(row)
                    subject, style = row["subject"], row["style"]
                    print(f"{name:16} {split:9} {evaluations:3} evaluations, order {order}:", end=" ")
                    print(f"subject {subject['share']:.1%}, style {style['share']:.1%}", flush=True)
                    if (split, evaluations, order) == ("held_out", at, 1):
                        cells[name] = pictures[:SHOWN]

    columns = [[cells[name][i] for name in pipes] for i in range(min(SHOWN, len(entries)))]
    captions = [entry.captions[0] for entry in entries[: len(columns)]]
    title = f"{', '.join(pipes)}: held-out pairs, {at} evaluations, guidance {args.guidance:g}, seeds 0, 1, ..."
    with atomic_path(args.sheet) as path:
        captioned_sheet(columns, captions, 4, title).save(path, format="webp", quality=90)
    write_atomically(args.output, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
