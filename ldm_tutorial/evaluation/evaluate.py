"""`ldm-tutorial evaluate`: every figure of the model card, from one call."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from .. import __version__
from ..checks import check_file
from ..data import EmojiDataset
from ..schedulers import DiffusionScheduler
from ..training.clip import load_clip
from ..weights import JUDGE
from . import blind
from .accuracy import SPLIT_NAMES, by, empty_figures, empty_prompts, split_figures, wording_table, wordings, worst
from .autoencoder import encode_and_decode, measure_autoencoder
from .cost import size_figures, time_figures
from .detail import WayBack, detail_figures
from .drawing import Request, draw_all, to_levels
from .interpolation import between_prompts, between_seeds, interpolation_figure
from .judge import Judge, load_judge, look, look_at_distorted
from .memorization import copy_ratio, memorization_figures, nearest, seed_figures
from .parts import caption_figures, prediction_table
from .reference import Question, Reference, sample
from .report import Measurement, Report, Table, share
from .samplers import Crowd, Sweep, likeness_table
from .sheets import captioned_sheet, quality_curves, save_sheet
from .students import student_table
from .variety import open_captions

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion


@dataclass(frozen=True)
class Plan:
    """How much is drawn for each figure. None: all there is. Raises ValueError for too few to compare."""

    trained: int | None = 2000  # pairs that the U-Net was trained on: a sample, whose shares are known within one point
    held_out: int | None = None  # pairs that it never saw
    reworded: int = 200
    empty: int = 48
    swept: int = 120  # prompts at each point of a curve, each with all four schedulers
    guidance: tuple[float, ...] = (1.0, 2.0, 4.0, 7.5, 12.0)
    steps: tuple[int, ...] = (5, 10, 25, 50)
    crowd_prompts: int = 10
    crowd_seeds: int = 24
    open_captions: int = 25  # captions without a style, each with `open_seeds` seeds
    open_seeds: int = 8
    paths: int = 8  # interpolations, of each kind
    path_length: int = 8
    reconstructed: int | None = None  # real pictures that the classifier sees after a way through the autoencoder
    predicted: int = 96  # trained pairs whose latents the U-Net predicts in one step
    taken_back: int = 48  # trained pairs made noisy to each strength and taken back, at each scale of guidance
    strengths: tuple[float, ...] = (0.1, 0.2, 0.4)
    back_guidance: tuple[float, ...] = (1.0, 4.0, 7.5)

    def __post_init__(self) -> None:
        for name in ("crowd_prompts", "crowd_seeds", "open_seeds", "path_length"):
            if getattr(self, name) < 2:
                raise ValueError(f"Plan: {name}={getattr(self, name)} must be 2 or more, for they are compared with each other")


# About 370 pictures' worth of 25 steps: three minutes on two cores. Its figures are rough, as their intervals say.
QUICK = Plan(
    trained=40,
    held_out=24,
    reworded=8,
    empty=5,
    swept=8,
    guidance=(2.0, 7.5),
    steps=(5, 10, 25),
    crowd_prompts=2,
    crowd_seeds=5,
    open_captions=1,
    open_seeds=4,
    paths=1,
    path_length=5,
    reconstructed=300,
    taken_back=16,
)


class Evaluation:
    """One evaluation of a model: `report` when all is drawn, and `sheets` to look at.

    Raises ValueError for a model of flow matching, which the schedulers that are compared do not fit, and if the model's pictures
    are not of the data set's size, or the classifier knows other subjects.
    """

    def __init__(self, pipe: StableDiffusion, judge: Judge, data: EmojiDataset, plan: Plan):
        self.pipe, self.judge, self.plan = pipe, judge, plan
        self.reference = reference = Reference(data, judge)
        if not isinstance(pipe.scheduler, DiffusionScheduler):
            raise ValueError(
                f"the model {pipe.name!r} predicts {pipe.scheduler.prediction_type}; evaluated are models of diffusion"
            )
        size, own = pipe.unet.config.sample_size * pipe.vae.config.downsampling, data.pictures.shape[-1]
        if size != own:
            raise ValueError(f"the model {pipe.name!r} draws {size}x{size}; evaluated are models of {own}x{own} emoji")
        shuffled = sample(reference.trained, len(reference.trained))
        self.trained = self._ask(reference.trained if plan.trained is None else shuffled[: plan.trained])
        self.held_out = self._ask(sample(reference.unseen, plan.held_out))
        self.reworded = shuffled[: plan.reworded]
        self.empty = empty_prompts(plan.empty)
        swept = tuple(self._ask(shuffled[: plan.swept]))
        self.sweeps = [Sweep("guidance", plan.guidance, swept), Sweep("steps", plan.steps, swept)]
        self.predicted = self._ask(shuffled[: plan.predicted])
        self.way_back = WayBack(self._ask(shuffled[: plan.taken_back]), plan.strengths, plan.back_guidance)
        self.crowd = Crowd(tuple(q.request.prompt for q in self._ask(shuffled[: plan.crowd_prompts])), plan.crowd_seeds)
        self.open = open_captions(reference, plan.open_captions, plan.open_seeds)

    def _ask(self, numbers: list[int]) -> list[Question]:
        """The full captions of these pictures."""
        return [self.reference.full(i) for i in numbers]

    def requests(self) -> list[Request]:
        """All that must be drawn; many are named more than once."""
        questions = [*self.trained, *self.held_out]
        questions += [q for i in self.reworded for q in wordings(self.reference, i).values()]
        swept = [request for sweep in self.sweeps for request in sweep.requests()]
        several = [*self.crowd.requests(), *self.open.requests()]
        return [*(q.request for q in questions), *self.empty, *swept, *self.way_back.requests(), *several]

    def run(self, path: Path | None = None, progress: bool = True) -> Report:
        """Measure everything. `path`: the model's files, for their size and their weights' fingerprint."""
        self.progress, self.path = progress, path
        # Times come first, while the machine is fresh
        figures = [*size_figures(self.pipe, path), *time_figures(self.pipe)]
        figures += self._autoencoder_and_judge()
        if path and (path / "contrastive").exists():  # a model of others has no image tower
            figures += caption_figures(load_clip(path).to(self.pipe.device), self.pipe.tokenizer, self.reference)
        self.drawn = drawn = draw_all(self.pipe, self.judge, self.requests(), progress=progress)
        figures += [*split_figures("trained", self.trained, drawn), *split_figures("held_out", self.held_out, drawn)]
        figures += empty_figures(self.empty, drawn, self.real.features)
        figures += self._detail() + self._memorization() + self.open.figures(drawn) + self._interpolations()
        both = [*self.trained, *self.held_out]
        tables = (
            by("category", lambda entry: entry.group, both, drawn),
            by("style", lambda entry: entry.style, both, drawn),
            wording_table(self.reference, self.reworded, drawn),
            *(sweep.table(drawn) for sweep in self.sweeps),
            likeness_table(self.sweeps[1], drawn),
            self.crowd.table(drawn),
            self._ways_back(),
            prediction_table(self.pipe, self.reference, self.predicted),
        )
        return Report(self.about(), tuple(figures), tables)

    def about(self) -> dict[str, Any]:
        """What was measured, with which software, on which machine, and how much of it."""
        plan = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.plan).items()}
        return {
            "model": f"{self.pipe.name}, {str(self.pipe.dtype).removeprefix('torch.')}",
            **({"weights": f"SHA-256 {fingerprint(self.path)}"} if self.path else {}),
            "drawn": f"{len(self.drawn.pictures):,} pictures; DDIM, 25 steps, guidance 7.5 where nothing else is said",
            "software": f"ldm_tutorial {__version__}, torch {torch.__version__}",
            "machine": f"{platform.machine()}, {self.pipe.device.type}, {torch.get_num_threads()} threads",
            "plan": ", ".join(f"{name} {'all' if value is None else value}" for name, value in plan.items()),
        }

    def _autoencoder_and_judge(self) -> list[Measurement]:
        """The autoencoder on pictures it never saw; the classifier on real pictures, the ceiling for drawn ones."""
        reference = self.reference
        seen = sample(reference.trained, self.plan.reconstructed)
        numbers = torch.tensor([*reference.unseen, *seen])
        latents, decoded = encode_and_decode(self.pipe, reference.pictures[numbers], progress=self.progress)
        new = len(reference.unseen)
        figures = measure_autoencoder(reference.pictures[reference.unseen], latents[:new], decoded[:new])
        pictures, fresh = reference.pictures[numbers], torch.Generator().manual_seed(0)
        self.real = look(self.judge, pictures)
        kinds = {
            "real": ("real pictures", self.real),
            "distorted": ("real pictures, freshly distorted", look_at_distorted(self.judge, pictures, fresh)),
            "reconstructed": ("real pictures through the autoencoder, the ceiling of drawn ones", look(self.judge, decoded)),
        }
        parts = {"": ("trained pairs", slice(new, None)), "_held_out": ("held-out pairs, new to the classifier", slice(new))}
        for key, (what, verdict) in kinds.items():
            subject = verdict.cosines.argmax(dim=1) == reference.subjects[numbers]
            style = verdict.styles.argmax(dim=1) == reference.styles[numbers]
            for split, (pairs, rows) in parts.items():
                figures += [
                    share(f"judge.{key}{split}.subject", f"classifier, {what} ({pairs}): the right subject", subject[rows]),
                    share(f"judge.{key}{split}.style", f"classifier, {what} ({pairs}): the right style", style[rows]),
                ]
        return figures

    def _reconstruct(self, pictures: Tensor) -> Tensor:
        """Through the autoencoder and back, uint8 (n, 3, h, w) -> the same"""
        return encode_and_decode(self.pipe, pictures, progress=self.progress)[1]

    def _pictures(self, questions: list[Question]) -> tuple[Tensor, Tensor]:
        """What was drawn for them, and the real pictures: uint8 (n, 3, h, w) twice."""
        numbers = [question.request.seed for question in questions]  # a question's seed is its picture's number
        return self.drawn.pictures[self.drawn.rows(q.request for q in questions)], self.reference.pictures[numbers]

    def _detail(self) -> list[Measurement]:
        figures = []
        for split, questions in (("trained", self.trained), ("held_out", self.held_out)):
            drawn, real = self._pictures(questions)
            features = self.drawn.verdict.features[self.drawn.rows(q.request for q in questions)]
            figures += detail_figures(split, SPLIT_NAMES[split], drawn, real, features, look(self.judge, real).features)
        return figures

    def _ways_back(self) -> Table:
        _, real = self._pictures(list(self.way_back.questions))
        return self.way_back.table(self.pipe, real, self._reconstruct(real), self.drawn, self.progress)

    def _memorization(self) -> list[Measurement]:
        """Are drawn pictures copies of training pictures, and how much does another seed change?"""
        reference, figures = self.reference, []
        references = reference.pictures[reference.trained]
        of_trained = reference.subjects[reference.trained]
        for split, what, questions in (("trained", "trained pairs", self.trained), ("held_out", "held-out pairs", self.held_out)):
            pictures = self.drawn.pictures[self.drawn.rows(q.request for q in questions)]
            ratios, chosen = copy_ratio(pictures, references, self._reconstruct)
            asked = torch.tensor([next(iter(q.subjects)) for q in questions])
            figures += memorization_figures(split, what, ratios, of_trained[chosen] == asked)
        rows = self.drawn.rows(self.crowd.of("ddim"))
        return figures + seed_figures(self.drawn.pictures[rows].split(self.crowd.seeds))

    def _interpolations(self) -> list[Measurement]:
        """Between prompts next to each other in the sample, and between two seeds of each."""
        questions = self._ask(sample(self.reference.trained, self.plan.paths + 1, seed=1))
        length = self.plan.path_length
        pairs = [(a.request, b.request) for a, b in zip(questions, questions[1:])]
        self.paths = {
            "prompts": [
                (f"{a.prompt} ... {b.prompt}", between_prompts(self.pipe, a.prompt, b.prompt, a.seed, length)) for a, b in pairs
            ],
            "seeds": [
                (f"{a.prompt}: seed {a.seed} ... {b.seed}", between_seeds(self.pipe, a.prompt, a.seed, b.seed, length))
                for a, b in pairs
            ],
        }
        return [
            interpolation_figure(f"interpolation.{kind}", kind, [path for _, path in paths]) for kind, paths in self.paths.items()
        ]

    # ---- to look at

    def sheets(self) -> Iterator[tuple[str, Image.Image]]:
        """Names of files and their pictures, after `run`."""
        reference, drawn = self.reference, self.drawn

        def picture(question: Question) -> Tensor:
            return drawn.pictures[drawn.place[question.request]]

        def name(question: Question) -> str:
            return f"{question.entry.label}, {question.entry.style}"

        def real(question: Question) -> Tensor:
            return reference.pictures[question.request.seed]  # a question's seed is its picture's number

        cells, captions = [], []
        for question, taken_for in worst(self.trained, drawn, 50):
            cells.append((picture(question), real(question)))
            right = taken_for in question.subjects
            captions.append(name(question) + ("" if right else f" → {reference.subject_names[taken_for]}"))
        title = "The fifty worst: drawn, and the real picture → what the classifier took it for"
        yield "evaluation_worst.webp", captioned_sheet(cells, captions, columns=8, title=title, lines=3)

        shown = self.held_out[:48]
        cells, captions = [(picture(q), real(q)) for q in shown], [name(q) for q in shown]
        title = "Held-out pairs: drawn, and the real picture, which it never saw"
        yield "evaluation_held_out.webp", captioned_sheet(cells, captions, columns=8, title=title)

        hundred = [self.trained[i] for i in sample(range(len(self.trained)), 100)]
        found, chosen = nearest(torch.stack([picture(q) for q in hundred]), reference.pictures[reference.trained])
        cells = [(picture(q), reference.pictures[reference.trained[i]]) for q, i in zip(hundred, chosen.tolist())]
        captions = [f"{name(q)} ({d:.0f})" for q, d in zip(hundred, found.tolist())]
        title = "A random hundred: drawn, and the nearest training picture (distance in levels of 255)"
        yield "evaluation_nearest.webp", captioned_sheet(cells, captions, columns=10, title=title)

        rows = [(caption, to_levels(path)) for paths in self.paths.values() for caption, path in paths]
        cells, captions = [tuple(path) for _, path in rows], [caption for caption, _ in rows]
        title = "From one prompt to another, and from one seed to another"
        yield "evaluation_interpolations.webp", captioned_sheet(cells, captions, columns=2, title=title)

        single = [(drawn.pictures[row],) for row in drawn.rows(self.empty)]
        captions = [f"seed {request.seed}" for request in self.empty]
        yield "evaluation_empty_prompt.webp", captioned_sheet(single, captions, columns=12, title="No prompt", lines=1)

        several = [(drawn.pictures[row],) for row in drawn.rows(self.open.requests())]
        captions = [f"{request.prompt}, {request.seed}" for request in self.open.requests()]
        if several:
            title = "Captions that leave the style open, and their seeds"
            yield "evaluation_open_captions.webp", captioned_sheet(several, captions, columns=2 * self.open.seeds, title=title)

        for sweep in self.sweeps:
            yield f"quality_against_{sweep.name}.png", quality_curves(sweep.curves(drawn), sweep.values, sweep.name)


def fingerprint(path: Path) -> str:
    """The first 16 digits of the SHA-256 of a model's weights, in the order of their files' names."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*.safetensors"), key=Path.as_posix):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


# ---- the command

# What these two have no use for, and why.
UNUSED = {
    "--blind": (("--student", "--judge", "--quick", "--output", "--json", "--sheets"), "which measures nothing"),
    "--student": (("--sheets",), "which prints one table"),
}


def check_options(args: argparse.Namespace) -> None:
    """Raises ValueError, which names both, for an option that would be ignored beside another one, or without it."""
    given = {f"--{name.replace('_', '-')}" for name, value in vars(args).items() if value not in (None, False)}
    for chosen, (unused, reason) in UNUSED.items():
        for name in unused:
            if {chosen, name} <= given:
                raise ValueError(f"{name}: not with {chosen}, {reason}")
    if args.blind_seed is not None and args.blind is None:
        raise ValueError(f"--blind-seed {args.blind_seed}: only with --blind")


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial evaluate`; its arguments are in cli.py."""
    from ..checkpoints.atomic import write_atomically
    from ..checkpoints.hub import resolve
    from ..pipeline import load_pipeline

    check_options(args)
    if args.blind:
        blind.main(args)
        return
    files = {name: check_file(name, path) for name, path in (("--output", args.output), ("--json", args.json)) if path}
    if args.sheets:
        args.sheets.mkdir(parents=True, exist_ok=True)
    judge = load_judge(args.judge or JUDGE)
    pipe = load_pipeline(args.model, device=args.device, dtype=args.dtype)
    if args.student:
        reference, pairs = Reference(EmojiDataset("all"), judge.to(pipe.device)), QUICK.trained if args.quick else None
        table = student_table(pipe, judge, reference, args.student, pairs, progress=not args.quiet)
        print(table.to_markdown())
        for name, path in files.items():
            text = json.dumps(table.to_json(), indent=2) if name == "--json" else table.to_markdown()
            write_atomically(path, (text + "\n").encode())
        return
    evaluation = Evaluation(pipe, judge.to(pipe.device), EmojiDataset("all"), QUICK if args.quick else Plan())
    report = evaluation.run(resolve(args.model), progress=not args.quiet)
    print(report.to_markdown(), end="")
    for name, path in files.items():
        write_atomically(path, (report.to_json() if name == "--json" else report.to_markdown()).encode())
    if args.sheets:
        for name, sheet in evaluation.sheets():
            save_sheet(sheet, args.sheets / name)
