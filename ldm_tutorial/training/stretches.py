"""A whole model from one file: several training runs, one after the other, by `ldm-tutorial train all FILE`.

    [autoencoder without a critic]
    part = autoencoder
    steps = 8000
    learning-rate = 8e-4

A stretch is one of these runs, one call of `ldm-tutorial train`: `part` says of what, every other line is an option of it,
without its dashes; an option without a value is written as `frozen-encoder = yes`. It begins with the weights that the stretch
before it, of the same part, has written.

Killed at any moment, the same command goes on from the last saved step. What is finished is in `stretches/NAME` of the model's
folder: its log, its samples, and the settings it was made with. `training/PART.jsonl` is the log of all runs of a part.
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
    file = _File(interpolation=None)
    try:
        file.read_string(path.read_text(encoding="utf-8"), str(path))
    except configparser.Error as error:
        raise ValueError(f"{path} names no stretches: {error.message.splitlines()[0]}") from None
    stretches = []
    for name in file.sections():
        options = dict(file[name])
        part = options.pop("part", None)
        if part is None or part not in parts:
            raise ValueError(f"{path}, [{name}]: part={part!r} must be one of {', '.join(parts)}")
        stretch = Stretch(name, part, tuple(options.items()))
        try:
            read_options(stretch, parts, Path())
        except ValueError as error:
            raise ValueError(f"{path}, [{name}]: {error}") from None
        stretches.append(stretch)
    if not stretches:
        raise ValueError(f"{path} names no stretches: there is no [stretch] in it")
    return stretches


def read_options(stretch: Stretch, parts: Mapping[str, str], folder: Path, start_from: Path | None = None) -> argparse.Namespace:
    """The options of a stretch, as its training reads them. Raises ValueError for one that does not exist."""
    parser = _Options(prog=stretch.part, allow_abbrev=False)
    importlib.import_module(parts[stretch.part]).add_arguments(parser)
    for name, _ in stretch.options:
        if name in ("folder", "start-from"):
            raise ValueError(f"{name} is not for a stretch to say: the command's folder and the stretch before it are taken")
    begin = ["--start-from", str(start_from)] if start_from else []
    return parser.parse_args([*stretch.arguments, "--folder", str(folder), *begin])


def run_stretches(stretches: list[Stretch], folder: Path, parts: Mapping[str, str], until: str | None = None) -> None:
    """Run what is not finished yet, up to the stretch `until` (default: all). In several processes, all of them call it.

    Raises ValueError if a finished stretch had other settings: what came after it would not be what the file says.
    """
    names = [stretch.name for stretch in stretches]
    if until is not None and until not in names:
        raise ValueError(f"--until {until!r}: the file's stretches are {', '.join(map(repr, names))}")
    compute = Compute()
    for number, stretch in enumerate(stretches):
        done = folder / "stretches" / stretch.name
        settings = {"part": stretch.part, **dict(stretch.options)}
        if (done / "settings.json").is_file():
            if (before := json.loads((done / "settings.json").read_text(encoding="utf-8"))) != settings:
                raise ValueError(f"the stretch {stretch.name!r} is finished, with {before}; the file says {settings} now")
        else:
            if not done.is_dir():  # else it was interrupted after its last step
                first = all(earlier.part != stretch.part for earlier in stretches[:number])
                if compute.is_main:
                    print(f"[{stretch.name}] train {' '.join([stretch.part, *stretch.arguments])}", flush=True)
                args = read_options(stretch, parts, folder, None if first else folder)
                importlib.import_module(parts[stretch.part]).main(args)
            compute.wait()  # the main process writes the weights after its last step
            if compute.is_main:
                finish(stretch, folder, settings)
            compute.wait()  # and only then the next stretch can begin with them
        if stretch.name == until:
            return


def finish(stretch: Stretch, folder: Path, settings: Mapping[str, str]) -> None:
    """Put the log and the samples aside, join the logs of the part, and note at last that the stretch is finished."""
    done = folder / "stretches" / stretch.name
    made = [path for path in (folder / "training").iterdir() if path.is_dir()]  # one: those before are put aside
    if made:  # else it was put aside before the last interruption
        done.parent.mkdir(parents=True, exist_ok=True)
        (made[0] / "state.pt").unlink(missing_ok=True)  # large, and the next stretch begins at step 0
        made[0].rename(done)
    log = folder / "training" / f"{stretch.part}.jsonl"
    before = log.read_text(encoding="utf-8") if log.is_file() else ""
    own = (done / "log.jsonl").read_text(encoding="utf-8") if (done / "log.jsonl").is_file() else ""
    if not before.endswith(own) or not own:
        write_atomically(log, (before + own).encode())
    write_atomically(done / "settings.json", json.dumps(settings, indent=1).encode())


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
    """`ldm-tutorial train all`. Raises ValueError for a file that names no stretches, or changed one that is finished."""
    run_stretches(read_stretches(args.file, args.parts), args.folder, args.parts, args.until)
