"""What the three trainings share: randomness that depends on the step only, a schedule, a folder to resume from.

There is no trainer here that hides the loop. Each training writes its own `for` over `run.steps()`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..checkpoints.atomic import atomic_path, write_atomically
from ..checks import quiet


def step_generator(seed: int, step: int, process: int = 0) -> torch.Generator:
    """The random numbers of one step, of one process.

    They depend on the step and on nothing before it. So a run that was killed and resumed draws what an undisturbed one
    draws, and no generator's state needs to be saved.
    """
    digest = hashlib.sha256(f"{seed}/{step}/{process}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def batch_indices(n: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Which of `n` examples make up the batch of this step: (batch_size,)

    Batches are cut one after the other from an endless chain of shuffles, so each epoch shows each example once.
    """
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    chosen = torch.empty_like(positions)
    for epoch in (positions // n).unique().tolist():
        here = positions // n == epoch
        shuffle = torch.randperm(n, generator=step_generator(seed, epoch, process=-1))
        chosen[here] = shuffle[positions[here] % n]
    return chosen


def learning_rate(step: int, steps: int, peak: float, warmup: float = 0.05, decay: float = 0.5) -> float:
    """Linear warm-up over the first `warmup` of the run, constant at `peak`, linear to zero over the last `decay` of it."""
    return peak * min(1.0, (step + 1) / (warmup * steps), (steps - step) / (decay * steps))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """For all weights of the optimizer, from its next step on."""
    for group in optimizer.param_groups:
        group["lr"] = value


class TrainingRun:
    """The folder of one training: `state.pt` to resume from, `log.jsonl` with a line every so often, `samples/`.

    `state` names everything that a step changes (models, optimizers, averages): whatever has `state_dict`.
    """

    def __init__(self, folder: Path, state: dict[str, Any], steps: int, main_process: bool = True, save_every: int = 500):
        self.folder, self.state, self.total = Path(folder), state, steps
        self.main_process, self.save_every = main_process, save_every
        self.started = time.monotonic()
        self.seconds_before = 0.0
        (self.folder / "samples").mkdir(parents=True, exist_ok=True)
        self.step = self._resume()

    def _resume(self) -> int:
        """Load the state of an earlier run in this folder, if there is one; returns its finished steps."""
        path = self.folder / "state.pt"
        if not path.exists():
            self._forget_after(0)
            return 0
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in self.state.items():
            part.load_state_dict(saved["state"][name])
        self.seconds_before = saved["seconds"]
        self._forget_after(saved["step"])
        return saved["step"]

    def _forget_after(self, step: int) -> None:
        """Lines that were logged after the state was last saved will be logged again. The last may be half a line."""
        log = self.folder / "log.jsonl"
        if self.main_process and log.exists():
            lines = [line for line in log.read_text().splitlines() if line.endswith("}") and json.loads(line)["step"] <= step]
            write_atomically(log, "".join(line + "\n" for line in lines).encode())

    def save(self) -> None:
        """Write `state.pt` beside the old one and put it in its place, so that there is a whole one at any moment."""
        if self.main_process:
            state = {name: part.state_dict() for name, part in self.state.items()}
            saved = {"step": self.step, "seconds": self.seconds, "state": state}
            with atomic_path(self.folder / "state.pt") as path:
                torch.save(saved, path)

    @property
    def seconds(self) -> float:
        """Of training, the time before interruptions included."""
        return self.seconds_before + time.monotonic() - self.started

    def steps(self) -> Iterator[int]:
        """The steps that remain, with a progress bar. Saves every `save_every` steps, at the end, and on Ctrl-C."""
        hidden = not self.main_process or quiet()
        with tqdm(total=self.total, initial=self.step, desc=self.folder.name, disable=hidden) as self.bar:
            try:
                while self.step < self.total:
                    yield self.step
                    self.step += 1
                    self.bar.update()
                    if self.step % self.save_every == 0 and self.step < self.total:
                        self.save()
            except KeyboardInterrupt:  # self.step counts finished steps, but its parts may be in the middle of the next
                print(f"stopped; the same command goes on from the last saved step of {self.folder}")
                raise
        self.save()

    def log(self, **values: float) -> None:
        """One line of JSON: the number of finished steps, seconds so far, and `values`."""
        if not self.main_process:
            return
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        line = {"step": self.step + 1, "seconds": round(self.seconds, 1), **rounded}
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        self.bar.set_postfix({k: f"{v:.4g}" for k, v in line.items() if k not in ("step", "seconds")})

    def sample_path(self) -> Path:
        """Where to save what is drawn after this step."""
        return self.folder / "samples" / f"{self.step + 1:07d}.png"


def counting_number(text: str) -> int:
    """ "25" as 25. Raises ArgumentTypeError for anything but a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def add_common_arguments(parser: argparse.ArgumentParser, steps: int, batch_size: int, peak: float) -> None:
    """The options that all trainings have."""
    parser.add_argument("--folder", type=Path, default=Path("runs/emoji"), help="the model's folder, read and written")
    parser.add_argument(
        "--steps", type=counting_number, default=steps, help="of the whole training, including those before an interruption"
    )
    parser.add_argument("--batch-size", type=counting_number, default=batch_size, help="samples in a step, over all processes")
    parser.add_argument(
        "--learning-rate", type=float, default=peak, help="the highest value; it rises and falls during the training"
    )
    parser.add_argument("--mixed-precision", choices=["no", "bf16", "fp16"], default="bf16", help="data type of most operations")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers")
    parser.add_argument("--log-every", type=counting_number, default=50, help="steps between lines of the log")
    parser.add_argument("--sample-every", type=counting_number, default=1000, help="steps between sample sheets")
    parser.add_argument("--save-every", type=counting_number, default=500, help="steps between saved states")


def add_start_from(parser: argparse.ArgumentParser) -> None:
    """The option to go on with the weights of another model."""
    parser.add_argument("--start-from", type=Path, help="a model's folder: begin with its weights instead of random ones")
