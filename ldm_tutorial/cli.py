"""`ldm-tutorial`: draw pictures, compare schedulers, train and evaluate models. `ldm-tutorial --help` tells more.

Nothing heavy is imported before the command line is understood. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from PIL.Image import Image

    from .pipeline import StableDiffusion

PROGRAM = "ldm-tutorial"
FIRST_NOTEBOOK = "notebooks/00_start_here.ipynb"
BENCHMARKS = ("pictures", "busy", "training", "imports", "unet", "opening")
PARTS_TO_TRAIN = {  # its module, and what it trains
    "clip": ("training.clip", "the text encoder, and the image tower that it is trained with"),
    "autoencoder": ("training.autoencoder", "the autoencoder, from pictures to latents and back"),
    "unet": ("training.diffusion", "the U-Net, which predicts the noise in the autoencoder's latents"),
    "lora": ("training.lora", "a LoRA on your own pictures: a small file; the model itself does not change"),
    "word": ("training.word", "a new word on your own pictures: its vector, and nothing else"),
    "distill": (
        "training.distill",
        "a LoRA with which a model draws in four steps without guidance",
    ),
    "judge": ("evaluation.train_judge", "the classifier that `evaluate` uses: it says what a picture shows"),
}
OWN_UNET = "training.finetune"  # `train unet --data FOLDER`


ALONE = {  # command -> what to do about a value that no option asked for
    "generate": "; a prompt of several words needs quotes",
    "compare": "; a prompt of several words needs quotes",
    "train": "; each value needs the name of its option before it, such as --folder",
}


class Parser(argparse.ArgumentParser):
    """argparse with one line for an error, and a hint for a value that stands alone: a word of a prompt, a folder."""

    alone = ""

    def __init__(self, **kwargs: Any):
        super().__init__(**{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 after one line."""
        if message.startswith("unrecognized arguments") and not message.split()[2].startswith("-"):
            message += self.alone
        self.exit(2, f"{PROGRAM}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors are one line on stderr, with `--debug` a traceback."""
    argv = list(sys.argv[1:] if argv is None else argv)
    own = argv if argv[:1] != ["lab"] or {"-h", "--help"} & {*argv} else argv[:1]  # the rest is for JupyterLab
    try:
        args = make_parser(argv).parse_args(own)
        args.passed_on = argv[len(own) :]
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"{PROGRAM}: warning: {message}", file=sys.stderr)
            warnings.filterwarnings("always", category=UserWarning, module="ldm_tutorial")  # whatever was set before, or said
            args.command(args)
            sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except BrokenPipeError:  # of `| head`: it has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in argv:
            raise
        if isinstance(error, (ValueError, TypeError, FileNotFoundError)):
            return fail(str(error), 2)
        if isinstance(error, (OSError, ImportError, FloatingPointError)):
            return fail(str(error), 1)
        first_line = (str(error).splitlines() or [""])[0]
        return fail(f"{type(error).__name__}: {first_line} (--debug shows where)", 1)


def fail(message: str, code: int) -> int:
    """Print an error in one line; returns the exit code."""
    message = re.sub(r"^\[Errno \d+\] ", "", message)
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return code


# ---- the command line


def make_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands; of a training, only the one that `argv` asks for is imported."""
    from . import __version__

    schedulers, course = scheduler_names(argv)
    parser = Parser(prog=PROGRAM, description="Stable Diffusion, built from scratch.")
    parser.alone = ALONE.get(next(iter(argv), ""), "")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = add_command(commands, "generate", "draw pictures of a prompt")
    command.set_defaults(command=generate)
    add_drawing(command)
    command.add_argument("--scheduler", help=f"{schedulers} (default: the model's own)")
    command.add_argument(
        "--steps", type=int, metavar="N", help="denoising steps (default: 25, or as many as a distilled model was trained for)"
    )
    command.add_argument(
        "--scheduler-option",
        dest="scheduler_options",
        type=option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the scheduler, such as eta=1 or use_karras_sigmas=true; may be repeated",
    )
    command.add_argument(
        "--guidance-rescale",
        type=float,
        default=0.0,
        metavar="PHI",
        help="0 ... 1: how much of the contrast that guidance adds is removed (default: 0)",
    )
    command.add_argument("--prompt-weights", action="store_true", help="read (cat:1.3) as a weight; as text, write \\( and \\)")
    command.add_argument(
        "--long-prompts", action="store_true", help="read prompts of more than 77 tokens in chunks; else they are cut"
    )
    command.add_argument(
        "--clip-skip", type=int, default=0, metavar="N", help="leave out the last N layers of the text encoder (default: 0)"
    )
    command.add_argument(
        "--num-images",
        type=int,
        default=1,
        metavar="N",
        help="draw N pictures, with the seeds SEED, SEED + 1, ...; one file each",
    )
    command.add_argument("--grid", action="store_true", help="put several pictures into one file")
    command.add_argument(
        "--init-image", metavar="FILE", help="img2img: begin with this picture; its middle is cut out and scaled to --size"
    )
    command.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="0 ... 1: the share of the steps that is drawn again (default: 0.6; with --mask: 1)",
    )
    command.add_argument(
        "--start-at", type=int, metavar="T", help="instead of --strength: begin at this timestep, 0 ... 999, with its noise"
    )
    command.add_argument(
        "--mask", metavar="FILE", help="inpainting: draw only where this picture is white; needs --init-image of the same size"
    )
    command.add_argument("--feather", type=int, metavar="N", help="with --mask: blend its edge over N pixels, inside the mask")
    command.add_argument("--upscale", type=int, default=1, metavar="K", help="save each pixel as K x K pixels (default: 1)")

    command = add_command(commands, "compare", "draw prompts with every scheduler, from the same noise, as a labelled grid")
    command.set_defaults(command=compare)
    add_drawing(command)
    command.add_argument("--also", nargs="+", default=[], metavar="PROMPT", help="more prompts, each in a row of its own")
    command.add_argument("--schedulers", nargs="+", metavar="NAME", help=f"the columns: some of {schedulers} (default: {course})")
    command.add_argument(
        "--steps",
        type=int,
        nargs="+",
        default=[25],
        metavar="N",
        help="numbers of steps, one row each; with --also, one column each for each scheduler (default: 25)",
    )

    command = add_command(commands, "lab", "open JupyterLab at the first notebook; takes its options, such as --no-browser")
    command.set_defaults(command=lab)

    command = add_command(commands, "progress", "say which exercises of your notebooks are done, and which comes next")
    command.set_defaults(command=own_progress)
    command.add_argument(
        "folder", type=Path, nargs="?", metavar="FOLDER", help="folder with your notebooks (default: my_notebooks)"
    )
    command.add_argument(
        "--run", action="store_true", help="examine the saved answers again, instead of reading what `check` printed last"
    )

    command = add_command(
        commands, "grade", "run the notebooks of a class, each in a process of its own, and write a table of points"
    )
    command.set_defaults(command=grade)
    command.add_argument("folder", type=Path, metavar="FOLDER", help="FOLDER/ada/08_ddpm.ipynb or FOLDER/ada_08_ddpm.ipynb")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to write the table, .csv")
    command.add_argument(
        "--reasons", type=Path, metavar="FILE", help="where to write what the checks said, .md (default: beside the table)"
    )
    command.add_argument("--whole", action="store_true", help="run all cells, and not only those that the exercises need")
    command.add_argument(
        "--cell-seconds", type=float, default=30, metavar="S", help="time limit for a cell, and for a check (default: 30)"
    )
    command.add_argument(
        "--notebook-seconds", type=float, default=180, metavar="S", help="time limit for a notebook (default: 180)"
    )
    command.add_argument("--memory", type=float, default=4, metavar="GIB", help="memory limit for a notebook (default: 4)")
    command.add_argument(
        "-j", "--jobs", type=int, default=1, metavar="N", help="how many notebooks run at the same time (default: 1)"
    )
    command.add_argument("-q", "--quiet", action="store_true", help="print no line for each notebook")

    command = add_command(commands, "info", "print the machine, the versions and the models, for a bug report")
    command.set_defaults(command=info)

    command = add_command(commands, "evaluate", "measure a model of emoji: all figures of its model card")
    command.set_defaults(command=evaluate)
    command.add_argument("--model", default="emoji", help="emoji, or a folder (default: emoji)")
    command.add_argument(
        "--judge", type=Path, metavar="FOLDER", help="another classifier, from `train judge` (default: the shipped one)"
    )
    command.add_argument("--quick", action="store_true", help="rough figures in three minutes, instead of all in about an hour")
    command.add_argument(
        "--blind", type=Path, metavar="FOLDER", help="only draw sheets of pictures for people to name, and their keys"
    )
    command.add_argument(
        "--student", type=Path, metavar="FILE", help="only compare a LoRA of `train distill` with --model, its teacher"
    )
    command.add_argument("--blind-seed", type=int, metavar="N", help="with --blind: chooses the pairs and the noise (default: 0)")
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the table to this file, too, as Markdown")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file, as JSON")
    command.add_argument("--sheets", type=Path, metavar="FOLDER", help="write sheets of pictures and curves to this folder")
    command.add_argument("--device", help="cuda, mps or cpu (default: the first of these that is there)")
    command.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32)")
    command.add_argument("-q", "--quiet", action="store_true", help="show no progress bar")

    command = add_command(
        commands, "speedrun", "train a U-Net with a function of your own on a fixed number of samples, and measure it"
    )
    command.set_defaults(command=speedrun)
    command.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="Python file with train(unet, data, seed) (default: our function)"
    )
    command.add_argument(
        "--samples", type=int, default=40_000, metavar="N", help="how many samples it may train on (default: 40000)"
    )
    command.add_argument("--seed", type=int, default=0, help="for the order of the pictures, and for the function (default: 0)")
    command.add_argument("--who", default="anonymous", metavar="NAME", help="your name in the table (default: anonymous)")
    command.add_argument("--model", default="emoji", help="whose autoencoder and text encoder are used (default: emoji)")
    command.add_argument(
        "--folder", type=Path, default=Path("runs/speedrun"), help="where latents are kept (default: runs/speedrun)"
    )
    command.add_argument(
        "--judge", type=Path, metavar="FOLDER", help="another classifier, from `train judge` (default: the shipped one)"
    )
    command.add_argument(
        "--pairs",
        type=int,
        default=100,
        metavar="N",
        help="pictures to draw of trained and of held-out pairs, each (default: 100)",
    )
    command.add_argument("--record", type=Path, metavar="FILE", help="add the result to this file, as a line of JSON")
    command.add_argument(
        "--write", type=Path, metavar="FILE", help="write the table of --record into this page, between its two marks"
    )
    command.add_argument("--device", help="cuda, mps or cpu (default: the first of these that is there)")
    command.add_argument("-q", "--quiet", action="store_true", help="show no progress bar")

    command = add_command(
        commands, "benchmark", "measure how fast this machine draws and trains, alone and compared with diffusers"
    )
    command.set_defaults(command=benchmark)
    command.add_argument("--against", choices=["diffusers"], help="measure this library, too, on equal work, by turns")
    command.add_argument("--full", action="store_true", help="measure v1.5's sizes, too; needs 10 GB of memory and 5 GB of disk")
    command.add_argument(
        "--only", nargs="+", choices=BENCHMARKS, metavar="WORK", help=f"measure only these, of {', '.join(BENCHMARKS)}"
    )
    command.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each work is measured (default: 5)")
    command.add_argument("--device", help="cuda, mps or cpu (default: the first of these that is there)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all measured numbers to this file")
    command.add_argument(
        "--write", type=Path, metavar="FILE", help="write the table into this page, between its two marks (docs/speed.md)"
    )

    command = add_command(commands, "export", "write a model as ONNX files, for the page in web/ and for other runtimes")
    command.set_defaults(command=export)
    command.add_argument("folder", type=Path, metavar="FOLDER", help="where to write; it is created if it does not exist")
    command.add_argument(
        "--model", default="emoji", help="emoji, a file, a folder or a hub id, of up to 500 million parameters (default: emoji)"
    )
    command.add_argument("--revision", help="branch, tag or commit of a hub id")

    command = add_command(
        commands, "train", "train a part of the emoji model, teach a model your own pictures, or train the classifier"
    )
    parts = command.add_subparsers(
        title="parts; of a new model first clip, then autoencoder, then unet", metavar="PART", required=True
    )
    for name, (module, what) in PARTS_TO_TRAIN.items():
        part = add_command(parts, name, f"train {what}")
        if name == "unet":
            part.epilog = "With --data FOLDER it trains a trained U-Net further, on your own pictures: add --help to see how."
            module = OWN_UNET if has_option(argv, "--data") else module
        if "train" in argv and name in argv:  # only then its module is needed
            training = importlib.import_module(f"{__package__}.{module}")
            training.add_arguments(part)
            tell_defaults(part)
            part.set_defaults(command=training.main)
    everything = add_command(parts, "all", "train a whole model: the training runs that a file names, one after the other")
    if "train" in argv and "all" in argv:
        from .training import stages

        stages.add_arguments(everything)
        tell_defaults(everything)
        modules = {name: f"{__package__}.{module}" for name, (module, _) in PARTS_TO_TRAIN.items()}
        everything.set_defaults(command=stages.main, parts=modules)
    return parser


def has_option(argv: Sequence[str], option: str) -> bool:
    """Whether the command line has `option`, or `option=...`."""
    return any(word.partition("=")[0] == option for word in argv)


def scheduler_names(argv: Sequence[str]) -> tuple[str, str]:
    """All schedulers, and those of the course, where a help text shows them; else nothing, since reading them imports torch."""
    if not {"-h", "--help"} & {*argv} or not {"generate", "compare"} & {*argv}:
        return "", ""
    from .schedulers import COURSE, SCHEDULERS

    return ", ".join(SCHEDULERS), " ".join(COURSE)


def add_command(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    """One command with its help and `--debug`."""
    command = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def tell_defaults(command: argparse.ArgumentParser) -> None:
    """The help of each option that has a default ends with it."""
    for action in command._actions:
        told = action.help or ""
        switch = action.default is False or action.default in (None, argparse.SUPPRESS)
        if not switch and "default" not in told.lower():
            action.help = f"{told} (default: {action.default})".strip()


def add_drawing(command: argparse.ArgumentParser) -> None:
    """What `generate` and `compare` have in common."""
    command.add_argument("prompt", metavar="PROMPT", help="what to draw; several words need quotes")
    command.add_argument("-o", "--output", required=True, metavar="FILE", help=".png, which keeps the settings, .jpg or .webp")
    command.add_argument("--model", default="emoji", help="emoji, sd15, a file, a folder or a hub id (default: emoji)")
    command.add_argument("--revision", help="branch, tag or commit of a hub id")
    command.add_argument("--negative-prompt", default="", metavar="TEXT", help="what the picture should not show")
    command.add_argument(
        "--guidance",
        type=float,
        metavar="W",
        help="guidance scale: how strongly the prompt counts (default: 7.5; 1 for a distilled model)",
    )
    command.add_argument(
        "--seed", type=int, default=0, help="number of the noise; the same seed draws the same picture (default: 0)"
    )
    command.add_argument(
        "--size", type=size, metavar="WxH", help="size in pixels (default: the one that the model was trained on)"
    )
    command.add_argument("--device", help="cuda, mps or cpu (default: the first of these that is there)")
    command.add_argument(
        "--dtype", help="float32, bfloat16, float16, or fastest, which is measured on this machine (default: float32)"
    )
    command.add_argument(
        "--engine", default="torch", help="torch, plain or onnx: the same pictures at another speed (default: torch)"
    )
    command.add_argument(
        "--lora",
        dest="loras",
        type=lora,
        action="append",
        default=[],
        metavar="FILE[:SCALE]",
        help="draw with a LoRA, a .safetensors file (default: scale 1); may be repeated",
    )
    command.add_argument(
        "--word",
        dest="words",
        action="append",
        default=[],
        metavar="FILE",
        help="draw with a word of `train word`, a .safetensors file; may be repeated",
    )
    command.add_argument("-q", "--quiet", action="store_true", help="show no progress bar")


def lora(text: str) -> tuple[str, float]:
    """ "style.safetensors:0.5" as ("style.safetensors", 0.5)."""
    path, _, scale = text.rpartition(":")
    try:
        return path or text, float(scale) if path else 1.0
    except ValueError:  # a part of the path
        return text, 1.0


def size(text: str) -> tuple[int, int]:
    """ "640x480" or "512" as (width, height). Raises ArgumentTypeError for anything else."""
    try:
        width, height = (int(part) for part in text.lower().split("x")) if "x" in text.lower() else (int(text),) * 2
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be WIDTHxHEIGHT, such as 64x64") from None
    return width, height


def option(text: str) -> tuple[str, Any]:
    """ "eta=1" as ("eta", 1). Raises ArgumentTypeError for anything else."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), json.loads(value.strip())
    except (ValueError, RecursionError):
        if not value:
            raise argparse.ArgumentTypeError(f"{text!r} must be NAME=VALUE, such as eta=1") from None
        return name.strip(), value.strip()  # a word, such as trailing


# ---- the commands


def generate(args: argparse.Namespace) -> None:
    """`ldm-tutorial generate`: pictures of a prompt, into files."""
    from .images import check_output, open_image, save_image

    output = check_output(args.output)
    image = open_image(args.init_image, "--init-image") if args.init_image else None
    mask = open_image(args.mask, "--mask") if args.mask else None
    asked = [name for name in ("mask", "strength", "start_at") if getattr(args, name) is not None]
    if image is None and asked:
        raise ValueError(f"--{asked[0].replace('_', '-')} needs --init-image")
    if mask is None and args.feather is not None:
        raise ValueError("--feather needs --mask")
    if args.strength is not None and args.start_at is not None:
        raise ValueError("--strength and --start-at both say how much is redrawn; give one of them")
    if args.upscale < 1:
        raise ValueError(f"--upscale {args.upscale} must be 1 or more")

    pipe = load(args)
    given = {"scheduler": args.scheduler, "scheduler_options": dict(args.scheduler_options), "steps": args.steps}
    given = {name: value for name, value in given.items() if value not in (None, {})}  # else the model's own
    options = drawing_options(args, pipe) | given
    options |= {"prompt_weights": args.prompt_weights, "long_prompts": args.long_prompts, "clip_skip": args.clip_skip}
    options |= {"guidance_rescale": args.guidance_rescale, "num_images": args.num_images, "progress": not args.quiet}
    if image is not None and mask is not None:
        strength, edge = 1.0 if args.strength is None else args.strength, args.feather or 0
        pictures = pipe.inpaint(args.prompt, image, mask, strength, start_at=args.start_at, feather=edge, **options)
    elif image is not None:
        strength = 0.6 if args.strength is None else args.strength
        pictures = pipe.img2img(args.prompt, image, strength, start_at=args.start_at, **options)
    else:
        pictures = pipe(args.prompt, **options)
    warn_of_unknown_words(pipe, [args.prompt])

    if args.upscale > 1:
        pictures = [p.resize((p.width * args.upscale, p.height * args.upscale), 0) for p in pictures]  # 0: nearest
    if len(pictures) == 1:
        print(save_image(pictures[0], output))
    elif args.grid:
        print(save_image(sheet(pictures, args.prompt), output))
    else:
        for picture in pictures:
            print(save_image(picture, output.with_stem(f"{output.stem}-seed{picture.info['seed']}")))


def compare(args: argparse.Namespace) -> None:
    """`ldm-tutorial compare`: a labelled grid, one column for each scheduler."""
    from .figures.canvas import to_picture
    from .figures.gallery import draw_gallery
    from .images import check_output, save_image
    from .schedulers import COURSE, scheduler_class

    output = check_output(args.output)
    schedulers = args.schedulers or COURSE
    for name in schedulers:
        scheduler_class(name)  # before the model is loaded
    pipe = load(args)
    options = drawing_options(args, pipe)
    seed = options.pop("seed")
    prompts = [args.prompt, *args.also]
    warn_of_unknown_words(pipe, prompts)
    gallery = draw_gallery(pipe, prompts, schedulers, args.steps, seed, progress=not args.quiet, **options)
    pictures = list(gallery.pictures.values())
    shown = max(256, *pictures[0].size)  # none is made smaller
    if args.also:
        columns = ("scheduler", "steps") if len(args.steps) > 1 else "scheduler"
        figure = gallery.figure("prompt", columns, shown=shown)
    else:
        figure = gallery.figure("steps", "scheduler", title=args.prompt, shown=shown)
    grid, used = to_picture(figure), dict.fromkeys(picture.info["scheduler"] for picture in pictures)
    grid.info |= {**pictures[0].info, "prompt": "; ".join(prompts), "scheduler": ", ".join(used), "steps": args.steps}
    print(save_image(grid, output))


def warn_of_unknown_words(pipe: StableDiffusion, prompts: Sequence[str]) -> None:
    """Say which words of the prompts the small model does not know; it draws all the same."""
    if pipe.name == "emoji" and not pipe.loras:  # which may have taught it words
        from .data.vocabulary import hint_for

        for word in pipe.dictionary.words.values():  # known, since it was loaded
            prompts = [word.replace(prompt, "a") for prompt in prompts]
        for hint in filter(None, map(hint_for, prompts)):
            warnings.warn(hint, stacklevel=2)


def evaluate(args: argparse.Namespace) -> None:
    """`ldm-tutorial evaluate`: all figures of the model card."""
    from .evaluation.evaluate import main

    main(args)


def speedrun(args: argparse.Namespace) -> None:
    """`ldm-tutorial speedrun`: a training function's record."""
    from .evaluation.speedrun import main

    main(args)


def benchmark(args: argparse.Namespace) -> None:
    """`ldm-tutorial benchmark`: seconds, and ratios to diffusers."""
    from .evaluation.benchmark import main

    main(args)


def export(args: argparse.Namespace) -> None:
    """`ldm-tutorial export`: the model as ONNX files, for the page of web/ and other runtimes."""
    from .data.dataset import STYLES, EmojiDataset, with_article
    from .export import export_model
    from .pipeline import load_pipeline

    pipe = load_pipeline(args.model, device="cpu", dtype="float32", revision=args.revision)
    ours = pipe.name == "emoji"  # the model that is trained on our pictures: their captions are the prompts it knows
    subjects = [with_article(label) for label in EmojiDataset().subjects] if ours else []
    styles = [f" in the style of {style}" for style in STYLES] if ours else []
    export_model(pipe, args.folder, subjects, styles, report=print)


def own_progress(args: argparse.Namespace) -> None:
    """`ldm-tutorial progress`: a learner's own summary."""
    from .grading.progress import examined_standings, saved_standings, summary

    folder = args.folder or notebooks_of_the_learner(course_folder())
    print(summary((examined_standings if args.run else saved_standings)(folder)))
    if not args.run:
        print("\nThis is read from the notebooks as you last saved them.")


def grade(args: argparse.Namespace) -> None:
    """`ldm-tutorial grade`: points for a class, and the reasons."""
    from .checkpoints.atomic import write_atomically
    from .checks import check_file
    from .grading.sandbox import Limits
    from .grading.table import grade_folder

    for name in ("cell_seconds", "notebook_seconds", "memory"):
        if not 0 < getattr(args, name) < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name):g} must be more than 0")
    reasons = args.reasons or args.output.with_suffix(".md")
    for name, path in (("--output", args.output), ("--reasons", reasons)):
        if not path.resolve().parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
        check_file(name, path)
    if reasons.resolve() == args.output.resolve():
        raise ValueError(f"the table and the reasons cannot both be {reasons}: give --reasons FILE")
    limits = Limits(args.cell_seconds, args.notebook_seconds, int(args.memory * 2**30))
    report = (lambda line: None) if args.quiet else (lambda line: print(line, file=sys.stderr))
    grades = grade_folder(args.folder, limits, args.whole, args.jobs, report)
    write_atomically(args.output, grades.csv().encode())
    write_atomically(reasons, grades.reasons().encode())
    print(f"{args.output}\n{reasons}")
    for door in sorted(grades.open_doors):
        careful = "run those of strangers on a machine without valuables"
        warnings.warn(f"this system does not cut notebooks off the {door}: {careful}", stacklevel=2)


def info(args: argparse.Namespace) -> None:
    """`ldm-tutorial info`: machine, versions and models."""
    from .lessons.machine import report

    print(report())


def lab(args: argparse.Namespace) -> None:
    """What `make lab` starts, once it has installed everything."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise ImportError('JupyterLab is not installed: pip install "ldm-tutorial[notebooks]"')
    from .lessons import working_copy

    root = course_folder()
    if (root / ".git").exists():  # in a clone, a notebook that is run must not become a change for git
        outdated = working_copy.make_working_copy(root)
        print(f"Your own copies of the notebooks are in {working_copy.OWN_NOTEBOOKS}/, which git ignores.")
        if outdated:
            print(f"You have changed these, and there are newer versions in notebooks/: {', '.join(outdated)}.")
            print("Yours stay as they are. To get a new version, rename or move yours and start again.")
    first = (notebooks_of_the_learner(root) / Path(FIRST_NOTEBOOK).name).relative_to(root).as_posix()
    where = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{first}"]
    quiet = ["--log-level=ERROR", "--LabApp.log_level=ERROR", "--KernelManager.transport_encryption=auto"]
    command = [sys.executable, "-m", "jupyterlab", *where, *quiet, *args.passed_on]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers run as root
    print("Starting JupyterLab; Ctrl-C stops it.", flush=True)
    if os.name == "nt":
        sys.exit(subprocess.run(command).returncode)
    os.execv(command[0], command)  # becomes it, so that Ctrl-C is its own


def course_folder() -> Path:
    """Where the notebooks are: in the clone that the package is installed from, here, or beside the environment (install.py)."""
    for folder in (Path(__file__).resolve().parent.parent, Path.cwd(), Path(sys.prefix).parent):
        if (folder / FIRST_NOTEBOOK).is_file():
            return folder
    raise FileNotFoundError(f"there is no {FIRST_NOTEBOOK}: the package holds no notebooks; run this in a clone of the project")


def notebooks_of_the_learner(course: Path) -> Path:
    """The folder with the copies that `lab` made, in a clone; without them the notebooks themselves."""
    from .lessons.working_copy import OWN_NOTEBOOKS

    own = course / OWN_NOTEBOOKS
    return own if (own / Path(FIRST_NOTEBOOK).name).is_file() else (course / FIRST_NOTEBOOK).parent


def load(args: argparse.Namespace) -> StableDiffusion:
    """The pipeline that `--model`, `--device`, `--dtype` and `--revision` name, with each `--lora` and `--word`."""
    from .pipeline import load_pipeline

    pipe = load_pipeline(args.model, device=args.device, dtype=args.dtype, revision=args.revision, engine=args.engine)
    for path, scale in args.loras:
        pipe.load_lora(path, scale)
    for path in args.words:
        pipe.load_word(path)
    return pipe


def drawing_options(args: argparse.Namespace, pipe: StableDiffusion) -> dict[str, Any]:
    """What `generate` and `compare` have in common, as arguments of `pipe(...)`."""
    own = pipe.unet.config.sample_size * pipe.vae.config.downsampling
    width, height = args.size or (own, own)
    options = {"negative_prompt": args.negative_prompt, "seed": args.seed, "width": width, "height": height}
    return options if args.guidance is None else {**options, "guidance_scale": args.guidance}


def describe(settings: Mapping[Any, Any]) -> str:
    """The model, the guidance scale and the negative prompt, for a title."""
    text = f"{settings['model']}, guidance {settings['guidance_scale']:g}"
    return text + (f', not "{settings["negative_prompt"]}"' if settings["negative_prompt"] else "")


def sheet(pictures: list[Image], prompt: str) -> Image:
    """Several pictures of one prompt as one, in the order of their seeds."""
    from .figures.canvas import to_picture
    from .figures.grids import picture_grid
    from .schedulers import scheduler_class

    columns = math.ceil(len(pictures) ** 0.5)
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    first, last = pictures[0].info, pictures[-1].info
    settings = f"{describe(first)}, {scheduler_class(first['scheduler']).label.title}, {first['steps']} steps"
    settings += f", seeds {first['seed']} ... {last['seed']}"
    grid = to_picture(picture_grid(rows, title=prompt, subtitle=settings))
    grid.info.update(first)
    return grid
