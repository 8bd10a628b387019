"""A whole model from one file: several training runs, one after the other, by `ldm-tutorial train all FILE`.

    [autoencoder without a critic]
    part = autoencoder
    steps = 8000
    learning-rate = 8e-4

A stretch is one of these runs, one call of `ldm-tutorial train`: `part` says of what, every other line is an option of it,
without its dashes; an option without a value is written as `frozen-encoder = yes`. It begins with the weights that the stretch
before it, of the same part, has written.

Killed at any moment, the same command goes on from the last saved step. What is finished is in `stretches/NAME` of the model's
folder: its log, its samples, and its settings. `training/PART.jsonl` is the log of all finished stretches of a part.
"""

from __future__ import annotations

import argparse
import configparser
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..checkpoints.atomic import write_atomically
from .compute import Compute

RECIPE = Path(__file__).with_name("emoji.ini")  # of the shipped model
NOT_IN_NAMES = '/\\:*?"<>|'  # what the name of a folder cannot hold, on some system


@dataclass(frozen=True)
class Stretch:
    """One section of the file. `options` are those of `ldm-tutorial train PART`, in the order of the file."""

    name: str
    part: str
    options: tuple[tuple[str, str], ...]

    @property
    def arguments(self) -> list[str]:
        """As they are written on a command line."""
        words = []
        for name, value in self.options:
            words += [f"--{name}"] if value == "yes" else [f"--{name}", value]
        return words

    @property
    def settings(self) -> dict[str, str]:
        """All lines of its section."""
        return {"part": self.part, **dict(self.options)}


class _File(configparser.ConfigParser):
    """Names of options stay as they are written."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


class _Options(argparse.ArgumentParser):
    """Raises ValueError instead of leaving the program."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def read_stretches(path: Path, parts: Mapping[str, str]) -> list[Stretch]:
    """The stretches of a file. `parts` are the modules of the trainings by their names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file names no stretches, or a stretch names a part, an option or a value that does not exist.
    """
    file = _File(interpolation=None, default_section="")  # no section is special
    try:
        file.read_string(path.read_text(encoding="utf-8"), str(path))
    except configparser.Error as error:
        raise ValueError(f"{path} names no stretches: {error.message.splitlines()[0]}") from None
    stretches: list[Stretch] = []
    for name in file.sections():
        try:
            stretches.append(make_stretch(name, dict(file[name]), parts, stretches))
        except ValueError as error:
            raise ValueError(f"{path}, [{name}]: {error}") from None
    if not stretches:
        raise ValueError(f"{path} names no stretches: there is no [stretch] in it")
    return stretches


def make_stretch(name: str, options: dict[str, str], parts: Mapping[str, str], earlier: list[Stretch]) -> Stretch:
    """A section of the file, after the stretches `earlier`. Raises ValueError for what cannot be run."""
    if name.startswith(".") or set(name) & set(NOT_IN_NAMES):
        raise ValueError(f"the name must not begin with a dot or hold any of {' '.join(NOT_IN_NAMES)}: a folder has this name")
    part = options.pop("part", None)
    if part is None or part not in parts:
        raise ValueError(f"part={part!r} must be one of {', '.join(parts)}")
    stretch = Stretch(name, part, tuple(options.items()))
    read_options(stretch, parts, Path())
    if any(other.part == part for other in earlier):
        try:
            read_options(stretch, parts, Path(), start_from=Path())
        except ValueError:
            raise ValueError(f"part={part!r} can be trained once only: it has no option --start-from") from None
    return stretch


def read_options(stretch: Stretch, parts: Mapping[str, str], folder: Path, start_from: Path | None = None) -> argparse.Namespace:
    """The options of a stretch, as its training reads them. Raises ValueError for one that does not exist."""
    parser = _Options(prog=stretch.part, allow_abbrev=False, add_help=False)
    importlib.import_module(parts[stretch.part]).add_arguments(parser)
    for name, _ in stretch.options:
        if name in ("folder", "start-from"):
            raise ValueError(f"{name} is not for a stretch to say: the command's folder and the stretch before it are taken")
    begin = ["--start-from", str(start_from)] if start_from else []
    return parser.parse_args([*stretch.arguments, "--folder", str(folder), *begin])


def run_stretches(stretches: list[Stretch], folder: Path, parts: Mapping[str, str], until: str | None = None) -> None:
    """Run what is not finished yet, up to the stretch `until` (default: all). In several processes, all of them call it.

    Raises ValueError if what the folder holds, finished or begun, is not what the file says.
    """
    names = [stretch.name for stretch in stretches]
    if until is not None and until not in names:
        raise ValueError(f"--until {until!r}: the file's stretches are {', '.join(map(repr, names))}")
    wanted = stretches if until is None else stretches[: names.index(until) + 1]
    compute, finished = Compute(), count_finished(stretches, folder)
    for number, stretch in enumerate(wanted):
        done, run = folder / "stretches" / stretch.name, folder / "training" / stretch.part
        if number >= finished:
            check_begun(stretch, run)
            if compute.is_main:
                print(f"[{stretch.name}] train {' '.join([stretch.part, *stretch.arguments])}", flush=True)
                run.mkdir(parents=True, exist_ok=True)
                write_atomically(run / "settings.json", json.dumps(stretch.settings, indent=1).encode())
            first = all(earlier.part != stretch.part for earlier in stretches[:number])
            args = read_options(stretch, parts, folder, None if first else folder)
            importlib.import_module(parts[stretch.part]).main(args)
            compute.wait()  # the main process writes the weights after its last step
            if compute.is_main:
                put_aside(run, done)
            compute.wait()  # and only then the next stretch can begin with them
        if compute.is_main:
            (done / "state.pt").unlink(missing_ok=True)  # large, and the next stretch begins at step 0


def count_finished(stretches: list[Stretch], folder: Path) -> int:
    """How many stretches are finished. Raises ValueError if they are not the first ones of the file, with its settings."""
    finished = sorted(path.name for path in (folder / "stretches").glob("*") if path.is_dir())
    first = stretches[: len(finished)]
    if finished != sorted(stretch.name for stretch in first):
        listed, begins = (", ".join(map(repr, names)) for names in (finished, [stretch.name for stretch in first]))
        raise ValueError(f"{folder}: finished are {listed}; the file begins with {begins}. What is finished must come first")
    for stretch in first:
        settings = settings_of(folder / "stretches" / stretch.name)
        if settings != stretch.settings:
            raise ValueError(f"the stretch {stretch.name!r} is finished, with {settings}; the file says {stretch.settings} now")
    return len(first)


def check_begun(stretch: Stretch, run: Path) -> None:
    """Raises ValueError if the folder of a training holds an unfinished one that is not of this stretch."""
    settings = settings_of(run)
    if (run / "state.pt").is_file() and settings != stretch.settings:
        raise ValueError(
            f"{run} holds an unfinished training, begun with {settings or 'no file'}; the stretch {stretch.name!r} has "
            f"{stretch.settings}. Move that folder away, or finish the training as it was begun"
        )


def settings_of(run: Path) -> dict[str, str] | None:
    """The settings that a stretch has noted in the folder of its training; None if there are none."""
    path = run / "settings.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def put_aside(run: Path, done: Path) -> None:
    """Add a finished training's log to that of its part, and move its folder: this finishes the stretch, in one go."""
    log = run.with_suffix(".jsonl")
    before = log.read_text(encoding="utf-8") if log.is_file() else ""
    own = (run / "log.jsonl").read_text(encoding="utf-8") if (run / "log.jsonl").is_file() else ""
    if not before.endswith(own):  # else it was added before the last interruption
        write_atomically(log, (before + own).encode())
    done.parent.mkdir(parents=True, exist_ok=True)
    run.rename(done)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ldm-tutorial train all`."""
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=RECIPE,
        metavar="FILE",
        help="the training runs (default: those of the shipped model)",
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/emoji"), help="the model's folder, read and written")
    parser.add_argument("--until", metavar="STRETCH", help="stop after this one (default: after the last)")


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial train all`. Raises what `read_stretches` and `run_stretches` raise."""
    run_stretches(read_stretches(args.file, args.parts), args.folder, args.parts, args.until)
