"""A whole model from one file: several training runs, one after the other, by `ldm-tutorial train all FILE`.

    [autoencoder without a critic]
    part = autoencoder
    steps = 8000
    learning-rate = 8e-4

A stage is one of these runs, one call of `ldm-tutorial train`: `part` says of what, every other line is an option of it,
without its dashes; an option without a value is written as `frozen-encoder = yes`. It begins with the weights that the stage
before it, of the same part, has written.

Killed at any moment, the same command goes on from the last saved step. What is finished is in `stages/NAME` of the model's
folder: its log, its samples, and its settings. `training/PART.jsonl` is the log of all finished stages of a part.
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
class Stage:
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


def read_stages(path: Path, parts: Mapping[str, str]) -> list[Stage]:
    """The stages of a file. `parts` are the modules of the trainings by their names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file names no stages, or a stage names a part, an option or a value that does not exist.
    """
    file = _File(interpolation=None, default_section="")  # no section is special
    try:
        file.read_string(path.read_text(encoding="utf-8"), str(path))
    except configparser.Error as error:
        raise ValueError(f"{path} names no stages: {error.message.splitlines()[0]}") from None
    stages: list[Stage] = []
    for name in file.sections():
        try:
            stages.append(make_stage(name, dict(file[name]), parts, stages))
        except ValueError as error:
            raise ValueError(f"{path}, [{name}]: {error}") from None
    if not stages:
        raise ValueError(f"{path} names no stages: there is no [stage] in it")
    return stages


def make_stage(name: str, options: dict[str, str], parts: Mapping[str, str], earlier: list[Stage]) -> Stage:
    """A section of the file, after the stages `earlier`. Raises ValueError for what cannot be run."""
    if name.startswith(".") or set(name) & set(NOT_IN_NAMES):
        raise ValueError(f"the name must not begin with a dot or hold any of {' '.join(NOT_IN_NAMES)}: a folder has this name")
    part = options.pop("part", None)
    if part is None or part not in parts:
        raise ValueError(f"part={part!r} must be one of {', '.join(parts)}")
    stage = Stage(name, part, tuple(options.items()))
    read_options(stage, parts, Path())
    if any(other.part == part for other in earlier):
        try:
            read_options(stage, parts, Path(), start_from=Path())
        except ValueError:
            raise ValueError(f"part={part!r} can be trained once only: it has no option --start-from") from None
    return stage


def read_options(stage: Stage, parts: Mapping[str, str], folder: Path, start_from: Path | None = None) -> argparse.Namespace:
    """The options of a stage, as its training reads them. Raises ValueError for one that does not exist."""
    parser = _Options(prog=stage.part, allow_abbrev=False, add_help=False)
    importlib.import_module(parts[stage.part]).add_arguments(parser)
    for name, _ in stage.options:
        if name in ("folder", "start-from"):
            raise ValueError(f"{name} is not for a stage to say: the command's folder and the stage before it are taken")
    begin = ["--start-from", str(start_from)] if start_from else []
    return parser.parse_args([*stage.arguments, "--folder", str(folder), *begin])


def run_stages(stages: list[Stage], folder: Path, parts: Mapping[str, str], until: str | None = None) -> None:
    """Run what is not finished yet, up to the stage `until` (default: all). In several processes, all of them call it.

    Raises ValueError if what the folder holds, finished or begun, is not what the file says.
    """
    names = [stage.name for stage in stages]
    if until is not None and until not in names:
        raise ValueError(f"--until {until!r}: the file's stages are {', '.join(map(repr, names))}")
    wanted = stages if until is None else stages[: names.index(until) + 1]
    compute, finished = Compute(), count_finished(stages, folder)
    for number, stage in enumerate(wanted):
        done, run = folder / "stages" / stage.name, folder / "training" / stage.part
        if number >= finished:
            check_begun(stage, run)
            if compute.is_main:
                print(f"[{stage.name}] train {' '.join([stage.part, *stage.arguments])}", flush=True)
                run.mkdir(parents=True, exist_ok=True)
                write_atomically(run / "settings.json", json.dumps(stage.settings, indent=1).encode())
            first = all(earlier.part != stage.part for earlier in stages[:number])
            args = read_options(stage, parts, folder, None if first else folder)
            importlib.import_module(parts[stage.part]).main(args)
            compute.wait()  # the main process writes the weights after its last step
            if compute.is_main:
                put_aside(run, done)
            compute.wait()  # and only then the next stage can begin with them
        if compute.is_main:
            (done / "state.pt").unlink(missing_ok=True)  # large, and the next stage begins at step 0


def count_finished(stages: list[Stage], folder: Path) -> int:
    """How many stages are finished. Raises ValueError if they are not the first ones of the file, with its settings."""
    finished = sorted(path.name for path in (folder / "stages").glob("*") if path.is_dir())
    first = stages[: len(finished)]
    if finished != sorted(stage.name for stage in first):
        listed, begins = (", ".join(map(repr, names)) for names in (finished, [stage.name for stage in first]))
        raise ValueError(f"{folder}: finished are {listed}; the file begins with {begins}. What is finished must come first")
    for stage in first:
        settings = settings_of(folder / "stages" / stage.name)
        if settings != stage.settings:
            raise ValueError(f"the stage {stage.name!r} is finished, with {settings}; the file says {stage.settings} now")
    return len(first)


def check_begun(stage: Stage, run: Path) -> None:
    """Raises ValueError if the folder of a training holds an unfinished one that is not of this stage."""
    settings = settings_of(run)
    if (run / "state.pt").is_file() and settings != stage.settings:
        raise ValueError(
            f"{run} holds an unfinished training, begun with {settings or 'no file'}; the stage {stage.name!r} has "
            f"{stage.settings}. Move that folder away, or finish the training as it was begun"
        )


def settings_of(run: Path) -> dict[str, str] | None:
    """The settings that a stage has noted in the folder of its training; None if there are none."""
    path = run / "settings.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def put_aside(run: Path, done: Path) -> None:
    """Add a finished training's log to that of its part, and move its folder: this finishes the stage, in one go."""
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
    parser.add_argument("--until", metavar="STAGE", help="stop after this one (default: after the last)")


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial train all`. Raises what `read_stages` and `run_stages` raise."""
    run_stages(read_stages(args.file, args.parts), args.folder, args.parts, args.until)
