"""`ldm-tutorial speedrun`: how good can a U-Net become with so many samples? Your own training function, the same start for all.

The function is given a U-Net of fixed random weights, latents and words of the pictures that may be learned from, and a seed:

    def train(unet, data, seed):
        for batch in data.batches(32):
            ...
        return unet

docs/speedrun.md has the rules, and the table of records. speedrun_baseline.py is the first entry.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import inspect
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..checkpoints.atomic import write_atomically
from ..checks import check_file, whole_number
from ..data import EmojiDataset
from ..images import resize
from ..schedulers import scheduler_alike
from ..training.diffusion import encode_captions, encode_pictures, silence_residuals
from ..training.loop import step_generator
from ..training.own import encode_once
from ..unet import UNet
from ..weights import JUDGE
from .accuracy import split_figures
from .benchmark import around, put_into
from .drawing import draw_all
from .judge import Judge, load_judge
from .reference import Reference, sample
from .report import markdown_table
from .statistics import bootstrap_interval

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion

BASELINE = Path(__file__).with_name("speedrun_baseline.py")
FUNCTION, ARGUMENTS = "train", ("unet", "data", "seed")
START_SEED = 0  # of the weights that all begin with
LEVELS = 8  # timesteps at which the loss is measured, evenly over all
BEGIN_RECORDS, END_RECORDS = "<!-- records: written by ldm-tutorial speedrun --write -->", "<!-- end of records -->"


class EntryError(ValueError):
    """What is wrong with a training function, and where."""


# ---- what the function is given


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """b pictures that may be learned from."""

    latents: Tensor  # (b, 4, h, w), of unit variance: another sample of each picture's Gaussian each time
    words: Tensor  # (b, 77, d): the text embeddings of the full captions
    captions: list[tuple[str, ...]]  # all captions of each picture, the full one first; `data.encode` makes others into words


class TrainingData:
    """The pictures that may be learned from, as often as the budget lasts. No picture that is held out is in it.

    budget    how many samples there are; `spent` says how much of it is gone, 0 ... 1
    schedule  a scheduler, for `schedule.add_noise(latents, noise, timesteps)`
    no_words  the text embeddings of the empty caption, (77, d)
    """

    def __init__(self, pipe: StableDiffusion, data: EmojiDataset, budget: int, seed: int, kept: Path):
        self.budget, self.seed, self.given = budget, seed, 0
        self._pipe, self._captions = pipe, [entry.captions for entry in data.entries]
        self._posterior = encode_once(pipe, resize(data.pictures, side_of(pipe)), kept)
        self.schedule = scheduler_alike(pipe.scheduler, "ddpm")
        self.num_train_timesteps = self.schedule.num_train_timesteps
        self._full = self.encode([captions[0] for captions in self._captions])
        self.no_words = self.encode([""])[0]
        self._order = self._shuffles()

    @property
    def spent(self) -> float:
        """How much of the budget is gone, 0 ... 1."""
        return self.given / self.budget

    def encode(self, captions: Sequence[str]) -> Tensor:
        """The text embeddings of captions, (n, 77, d). The text encoder is trained, and stays as it is."""
        pipe = self._pipe
        return encode_captions(pipe.tokenizer, pipe.text_encoder, list(captions), pipe.device, torch.float32).detach()

    def batches(self, batch_size: int) -> Iterator[SampleBatch]:
        """Batches until the budget is spent; the last may be smaller. Each picture once, then all again in another order."""
        size = whole_number("batch_size", batch_size, 1)
        while self.given < self.budget:
            rows = [next(self._order) for _ in range(min(size, self.budget - self.given))]
            noise = torch.randn((len(rows), *self._posterior["mean"].shape[1:]), generator=step_generator(self.seed, self.given))
            self.given += len(rows)
            latents = (
                self._posterior["mean"][rows] + self._posterior["std"][rows] * noise
            ) * self._pipe.vae.config.scaling_factor
            yield SampleBatch(latents.to(self._pipe.device), self._full[rows], [self._captions[i] for i in rows])

    def _shuffles(self) -> Iterator[int]:
        epoch = 0
        while True:
            yield from torch.randperm(len(self._captions), generator=step_generator(self.seed, epoch, process=-1)).tolist()
            epoch += 1


def side_of(pipe: StableDiffusion) -> int:
    """Of the model's own pictures, in pixels."""
    return pipe.unet.config.sample_size * pipe.vae.config.downsampling


class Meter:
    """Counts what goes through a U-Net, and its copies, with gradients. Raises EntryError when that is more than the budget."""

    def __init__(self, budget: int):
        self.budget, self.rows = budget, 0

    def attach(self, unet: UNet) -> UNet:
        """Count from now on; returns the network."""
        unet.register_forward_pre_hook(self._count, with_kwargs=True)
        return unet

    def _count(self, unet: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not torch.is_grad_enabled():
            return
        self.rows += len(inputs[0] if inputs else named["latents"])
        if self.rows > self.budget:
            raise EntryError(
                f"more than {self.budget:,} samples went through the U-Net with gradients: each sample of data.batches may once; "
                "under torch.no_grad() they may as often as you like"
            )

    def __deepcopy__(self, memo: Any) -> Meter:
        return self  # a copy of the network, such as an average, is counted with it


# ---- the function


def load_entry(path: Path) -> Callable[..., Any]:
    """The function `train` of a Python file. Raises FileNotFoundError, or EntryError for a file without it or with errors."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location("speedrun_entry", path)
    if spec is None or spec.loader is None:
        raise EntryError(f"{path} must be a Python file, such as {BASELINE.name}")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses, among others, look it up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise EntryError(where(path, error)) from error
    function = getattr(module, FUNCTION, None)
    wanted = f"def {FUNCTION}({', '.join(ARGUMENTS)})"
    if not callable(function):
        raise EntryError(f"{path} must hold a function: {wanted}")
    try:
        inspect.signature(function).bind(*ARGUMENTS)
    except TypeError:
        raise EntryError(f"{path}: {FUNCTION}{inspect.signature(function)} must be {wanted}") from None
    return function


def where(path: Path, error: BaseException) -> str:
    """An error in words, with the last line of this file that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    message = str(error) if isinstance(error, EntryError) else f"{type(error).__name__}: {error}"
    return f"{path}, line {lines[-1]}: {message}" if lines else f"{path}: {message}"


def first_weights(config: Any) -> UNet:
    """The U-Net that everyone begins with: random weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(START_SEED)
        return silence_residuals(UNet(config))


def run_entry(path: Path, pipe: StableDiffusion, data: TrainingData, seed: int) -> tuple[UNet, float]:
    """The U-Net as the function left it, or as it returned it, and the seconds that took.

    Raises EntryError for an error in it, for more samples than the budget, and for what is no U-Net of this size, or not finite.
    """
    train, meter = load_entry(path), Meter(data.budget)
    unet = meter.attach(first_weights(pipe.unet.config).to(pipe.device).train())
    torch.manual_seed(seed)
    started = time.monotonic()
    try:
        returned = train(unet, data, seed)
    except Exception as error:
        raise EntryError(where(path, error)) from error
    seconds = time.monotonic() - started
    result = unet if returned is None else returned
    if not isinstance(result, nn.Module):
        raise EntryError(f"{path}: {FUNCTION} must return a U-Net, or nothing; it returned {type(result).__name__}")
    trained = UNet(pipe.unet.config)  # without the meter
    try:
        trained.load_state_dict(result.state_dict())
    except RuntimeError:
        raise EntryError(f"{path}: {FUNCTION} must return the U-Net that it was given, or one of the same layers") from None
    if not all(weight.isfinite().all() for weight in trained.parameters()):
        raise EntryError(f"{path}: after {data.given:,} samples the weights are not finite: a smaller learning rate may help")
    return trained.to(pipe.device).eval(), seconds


# ---- its score


@torch.no_grad()
def held_out_loss(pipe: StableDiffusion, data: EmojiDataset, batch_size: int = 64) -> Tensor:
    """Equation 3 on each picture that was never learned from, with its full caption, the mean over `LEVELS` timesteps: (n,)"""
    latents = encode_pictures(pipe.vae, resize(data.pictures, side_of(pipe)).to(pipe.device)).mode()
    latents = latents * pipe.vae.config.scaling_factor
    words = pipe.encode_prompt([entry.captions[0] for entry in data.entries])
    schedule = scheduler_alike(pipe.scheduler, "ddpm")
    timesteps = ((torch.arange(LEVELS) + 0.5) / LEVELS * schedule.num_train_timesteps).long()
    generator, errors = torch.Generator().manual_seed(0), []
    for t in timesteps.tolist():
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noisy = schedule.add_noise(latents, noise, t)
        rows = range(0, len(latents), batch_size)
        parts = [pipe.unet(noisy[i : i + batch_size], torch.tensor(t), words[i : i + batch_size]) for i in rows]
        errors.append(((torch.cat(parts) - noise) ** 2).mean(dim=(1, 2, 3)))  # (n,)
    return torch.stack(errors).mean(dim=0).cpu()


def figures_of(pipe: StableDiffusion, judge: Judge, data: EmojiDataset, pairs: int, progress: bool = True) -> dict[str, Any]:
    """The figures of a record with their 95 % intervals: the loss on pictures never learned from, and what the classifier sees.

    The pictures are drawn as `evaluate` draws them, of at most so many pairs that were learned from, and so many held out.
    """
    held_out = EmojiDataset("held_out")
    kept = {(entry.label, entry.style) for entry in data.entries}
    held_out.entries = [entry for entry in held_out.entries if (entry.label, entry.style) in kept]
    losses, reference = held_out_loss(pipe, held_out), Reference(data, judge)
    splits = {"trained": reference.trained, "held_out": reference.unseen}
    questions = {split: [reference.full(i) for i in sample(numbers, pairs)] for split, numbers in splits.items()}
    drawn = draw_all(pipe, judge, [q.request for asked in questions.values() for q in asked], progress=progress)
    scores: dict[str, Any] = {}
    scores["loss.held_out"] = {"value": losses.mean().item(), "interval": bootstrap_interval(losses), "count": len(losses)}
    for split, asked in questions.items():
        for figure in split_figures(split, asked, drawn):
            scores[figure.key] = {"value": figure.value, "interval": figure.interval, "count": figure.count}
    return scores


# ---- records

SHOWN_FIGURES = (  # a figure's key, and its heading
    ("loss.held_out", "loss, held out"),
    ("subject.held_out", "right subject, held out"),
    ("subject.trained", "right subject, trained"),
    ("style.held_out", "right style, held out"),
)


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file, a line of JSON each; none if it is not there. Raises ValueError, which names a wrong line."""
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else (), 1):
        try:
            record = json.loads(line)
            row_of(record)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is no record: {type(error).__name__}: {error}") from None
        records.append(record)
    return records


def row_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """A record as a row of the table."""
    cells = [
        f"{record['who']}",
        f"`{record['file']}` {record['sha256'][:8]}",
        f"{record['samples']:,}",
        f"{record['seconds']:,.0f}",
    ]
    for key, _ in SHOWN_FIGURES:
        figure = record["scores"][key]
        low, high = figure["interval"]
        form = "{:.4f}" if key.startswith("loss") else "{:.1%}"
        cells.append(f"{form.format(figure['value'])} ({form.format(low)} to {form.format(high)})")
    return tuple(cells)


def table_of(records: Sequence[Mapping[str, Any]]) -> str:
    """The records of each start and number of samples together, the lowest loss first, in Markdown."""
    if not records:
        return "No record yet."
    header = ("who", "file", "samples", "seconds", *(heading for _, heading in SHOWN_FIGURES))
    order = sorted(records, key=lambda r: (r["start"], r["samples"], r["scores"]["loss.held_out"]["value"]))
    return markdown_table(header, [row_of(record) for record in order])


def fingerprint_of(pipe: StableDiffusion) -> str:
    """Of all that an entry begins with: the first weights, the autoencoder and the text encoder."""
    digest = hashlib.sha256()
    for network in (first_weights(pipe.unet.config), pipe.vae, pipe.text_encoder):
        for name, weight in network.state_dict().items():
            digest.update(name.encode() + weight.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial speedrun`; its arguments are in cli.py.

    Raises EntryError, ValueError or FileNotFoundError for what is wrong, before the training where that can be.
    """
    from ..pipeline import load_pipeline

    path = args.file or BASELINE
    load_entry(path)
    budget, pairs = whole_number("--samples", args.samples, 1), whole_number("--pairs", args.pairs, 1)
    records = read_records(check_file("--record", args.record)) if args.record else []
    if args.write:
        if args.record is None:
            raise ValueError("--write needs --record, the file whose records make the table")
        around(args.write, BEGIN_RECORDS, END_RECORDS)  # before the training: the page may lack the marks
    judge = load_judge(args.judge or JUDGE)
    pipe = load_pipeline(args.model, device=args.device, dtype="float32")
    if pipe.scheduler.prediction_type != "epsilon":
        raise ValueError(f"--model {args.model} predicts {pipe.scheduler.prediction_type}; here it must predict the noise")
    for network in (pipe.vae, pipe.text_encoder):
        network.requires_grad_(False)
    start = fingerprint_of(pipe)
    data = TrainingData(pipe, EmojiDataset("train"), budget, args.seed, args.folder / "examples.safetensors")
    pipe.unet, seconds = run_entry(path, pipe, data, args.seed)
    record = {
        "who": args.who,
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "start": start,
        "seed": args.seed,
        "samples": budget,
        "used": data.given,
        "seconds": round(seconds, 1),
        "scores": figures_of(pipe, judge.to(pipe.device), EmojiDataset("all"), pairs, progress=not args.quiet),
        "machine": f"{platform.machine()}, {pipe.device.type}, {torch.get_num_threads()} threads",
        "software": f"ldm_tutorial {__version__}, torch {torch.__version__}",
    }
    line = json.dumps(record, allow_nan=False)
    print(table_of([record]))
    if args.record:
        lines = [json.dumps(each) for each in records] + [line]
        write_atomically(args.record, "".join(each + "\n" for each in lines).encode())
        if args.write:
            put_into(args.write, table_of([*records, record]), BEGIN_RECORDS, END_RECORDS)
    else:
        print(f"\n{line}")
