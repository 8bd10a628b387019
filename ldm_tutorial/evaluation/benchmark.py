"""How fast it is, beside diffusers on equal work: `ldm-tutorial benchmark --against diffusers`.

Both do the same with the same weights, in turn, so that whatever else the machine does meets both alike. What counts is the
ratio of a round, not the seconds: its median over the rounds, and the smallest and the largest.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from ..checkpoints import Components, save_checkpoint
from ..checkpoints.atomic import write_atomically
from ..checks import check_file, pick_device
from ..clip import CLIPTextModel
from ..config import EMOJI, SD15, CLIPTextConfig
from ..engines import quick
from ..lessons.machine import machine
from ..pipeline import load_pipeline
from ..unet import UNet
from ..vae import AutoencoderKL
from ..weights import EMOJI_FOLDER

if TYPE_CHECKING:
    import argparse

CAT_PROMPT = "a cat in the style of noto"
Work: TypeAlias = Callable[[], object]

# What a process does that opens a model of one file and takes the first step; it prints its seconds, and its most memory in GiB.
OPENING = """
import pathlib, resource, sys, time, torch
{imports}
began = time.perf_counter()
with torch.no_grad():
    {work}
seconds, status = time.perf_counter() - began, pathlib.Path("/proc/self/status")
if status.exists():  # on Linux, ru_maxrss begins with the memory of the process that started this one
    kilobytes = int(status.read_text().split("VmHWM:")[1].split()[0])
else:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
print(seconds, kilobytes / 2**20)
"""
OURS = OPENING.format(
    imports="from ldm_tutorial import load_pipeline; from transformers import CLIPTokenizer",  # diffusers imports it, too
    work='next(load_pipeline(sys.argv[1], device="cpu", dtype="float32").stream("a cat", steps=25, scheduler="ddim"))',
)
DIFFUSERS = OPENING.format(
    imports="from diffusers import StableDiffusionPipeline",
    work="""where = dict(config=sys.argv[2], local_files_only=True, safety_checker=None)
    pipe = StableDiffusionPipeline.from_single_file(sys.argv[1], **where)
    class Enough(Exception): pass
    def stop(*_): raise Enough
    try:
        pipe("a cat", num_inference_steps=25, callback_on_step_end=stop)
    except Enough:
        pass""",
)


@dataclass(frozen=True)
class Result:
    """Of one kind of work: what was measured in each round, ours and the other's (empty: none to compare with)."""

    key: str
    what: str
    unit: str
    ours: list[float]
    other: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours over the other's, round by round."""
        return [a / b for a, b in zip(self.ours, self.other)]

    def row(self) -> str:
        """A line of the table."""
        other = f"{statistics.median(self.other):.3g}" if self.other else ""
        ratio = f"{statistics.median(self.ratios):.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f})" if self.other else ""
        return f"| {self.what} | {statistics.median(self.ours):.3g} {self.unit} | {other} | {ratio} |"

    def to_json(self) -> dict[str, Any]:
        """All that was measured."""
        return {"what": self.what, "unit": self.unit, "ours": self.ours, "other": self.other}


def seconds(work: Work) -> float:
    """What one call takes, by the clock; on a GPU until its work is done."""
    synchronize()
    began = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - began


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turn(key: str, what: str, ours: Work, other: Work | None, rounds: int) -> Result:
    """Both in turn, after once each to warm up; who begins changes with every round."""
    sides = [ours, other] if other else [ours]
    times: list[list[float]] = [[] for _ in sides]
    for work in sides:
        work()
    for i in range(rounds):
        for side in range(len(sides))[:: 1 if i % 2 else -1]:
            times[side].append(seconds(sides[side]))
    return Result(key, what, "s", times[0], times[1] if other else [])


# ---- the kinds of work: each yields its results


def pictures(rounds: int, diffusers: Any, device: torch.device) -> Iterator[Result]:
    """The shipped model: one picture, and 24 at once, 25 steps of DDIM with guidance. The other's are always in float32."""
    own = load_pipeline("emoji", device)
    names = {"default": own}
    if (fastest := load_pipeline("emoji", device, "fastest")).dtype != own.dtype:
        names["fastest"] = fastest
    if device.type == "cpu" and all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "onnxscript"))):
        names["onnx"] = load_pipeline("emoji", device, engine="onnx")
    theirs = None
    if diffusers:
        theirs = diffusers.StableDiffusionPipeline.from_pretrained(EMOJI_FOLDER, local_files_only=True).to(device)
        theirs.set_progress_bar_config(disable=True)
        theirs.scheduler = diffusers.DDIMScheduler.from_config(theirs.scheduler.config)
    kinds = {"default": "", "fastest": ' (`dtype="fastest"`)', "onnx": ' (`engine="onnx"`)'}
    for count in (1, 24):
        for name, pipe in names.items():
            dtype = str(pipe.dtype).removeprefix("torch.")
            what = f"`emoji`, {f'{count} pictures' if count > 1 else 'one picture'}, {dtype}{kinds[name]}"
            other = (lambda n=count: theirs([CAT_PROMPT] * n, num_inference_steps=25, guidance_scale=7.5)) if theirs else None
            draw = lambda p=pipe, n=count: p(CAT_PROMPT, scheduler="ddim", num_images=n, progress=False)  # noqa: E731
            yield in_turn(f"pictures.{count}.{name}", what, draw, other, rounds)


def busy(rounds: int, diffusers: Any, device: torch.device) -> Iterator[Result]:
    """A picture beside a process that keeps a core busy, against the same picture alone."""
    del diffusers
    pipe = load_pipeline("emoji", device)

    def draw() -> None:
        pipe(CAT_PROMPT, scheduler="ddim", progress=False)

    draw()
    alone, beside = list[float](), list[float]()
    for _ in range(rounds):
        alone.append(seconds(draw))
        with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as other:
            try:
                time.sleep(1)  # past what threads.py holds true
                beside.append(seconds(draw))
            finally:
                other.kill()
    yield Result("busy", "`emoji`, one picture beside a busy process; alone", "s", beside, alone)


def training(rounds: int, diffusers: Any, device: torch.device) -> Iterator[Result]:
    """Steps of the shipped model's U-Net as it is trained: bfloat16 by autocast, AdamW."""
    del diffusers  # what trains is ours
    config = EMOJI.unet
    unet = UNet(config).to(device)
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-4, fused=True)
    for batch in (32, 128):
        latents = torch.randn(batch, config.in_channels, config.sample_size, config.sample_size, device=device)
        timesteps = torch.randint(1000, (batch,), device=device)
        context = torch.randn(batch, 77, config.cross_attention_dim, device=device)

        def step(latents: torch.Tensor = latents, timesteps: torch.Tensor = timesteps, context: torch.Tensor = context) -> None:
            with torch.autocast(device.type, torch.bfloat16):
                prediction = unet(latents, timesteps, context)
            prediction.float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        result = in_turn(f"training.{batch}", f"`emoji`, training of the U-Net at batch {batch}", step, None, rounds)
        yield replace(result, unit="pictures/s", ours=[batch / s for s in result.ours])


def imports(rounds: int, diffusers: Any, device: torch.device) -> Iterator[Result]:
    """Importing the package against importing PyTorch alone, and the help text."""
    del diffusers, device
    ours = lambda: run_python("-c", "import ldm_tutorial; ldm_tutorial.load_pipeline")  # noqa: E731
    yield in_turn(
        "import", "`import ldm_tutorial`, beside `import torch`", ours, lambda: run_python("-c", "import torch"), rounds
    )
    yield in_turn("help", "`ldm-tutorial --help`", lambda: run_python("-m", "ldm_tutorial", "--help"), None, rounds)


def full_unet(rounds: int, diffusers: Any, device: torch.device) -> Iterator[Result]:
    """Stable Diffusion v1.5's U-Net with random weights: one pass, as guidance needs it, in each precision."""
    with torch.device(device):
        ours = UNet(SD15.unet).eval()
        theirs = None
        if diffusers:
            theirs = diffusers.UNet2DConditionModel(**known_to(diffusers.UNet2DConditionModel, SD15.unet.to_dict())).eval()
            theirs.load_state_dict(ours.state_dict(), assign=True)
    for dtype in (torch.float32, torch.bfloat16) + ((torch.float16,) if device.type == "cuda" else ()):
        x = torch.randn(2, 4, 64, 64, device=device, dtype=dtype)
        inputs = x, torch.tensor([500.0, 500.0], device=device), torch.randn(2, 77, 768, device=device, dtype=dtype)
        for network in filter(None, (ours, theirs)):
            network.to(dtype)
            if dtype != torch.float32:
                network.to(memory_format=torch.channels_last)  # the best that diffusers' users know of

        def step(inputs: Any = inputs) -> torch.Tensor:
            with quick(ours, inputs[2]):
                return ours(*inputs)

        with torch.no_grad():
            step()  # the second step of a run is like all that follow, once in_turn has taken it to warm up
            other = partial(theirs, *inputs) if theirs else None
            name = str(dtype).removeprefix("torch.")
            yield in_turn(f"unet.{name}", f"v1.5's U-Net, a step of 2 x 64x64, {name}", step, other, rounds)


def opening(rounds: int, diffusers: Any, device: torch.device) -> Iterator[Result]:
    """A single file of v1.5's size (but for its words, which are few): opened, and a first step taken, on the processor."""
    del device
    with single_file() as (file, folder):
        children = {"ours": OURS} | ({"other": DIFFUSERS} if diffusers else {})
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in children}
        for i in range(rounds + 1):
            for name, program in children.items():
                began = time.perf_counter()
                time_taken, memory = map(float, run_python("-c", program, str(file), str(folder)).split()[-2:])
                if i:  # the first brings the file into the system's cache
                    found[name].append((time_taken, time.perf_counter() - began, memory))
    rows = {
        "opening.s": ("s", "seconds"),
        "opening.all.s": ("s", "seconds, with the start of Python and all imports"),
        "opening.GiB": ("GiB", "most memory"),
    }
    for place, (key, (unit, what)) in enumerate(rows.items()):
        ours, other = ([values[place] for values in found.get(name, [])] for name in ("ours", "other"))
        yield Result(key, f"a file of v1.5's size to the end of the first step, float32: {what}", unit, ours, other)


@contextmanager
def single_file() -> Iterator[tuple[Path, Path]]:
    """A whole model of random weights in one float32 file, 4.1 GB, and a diffusers folder with its settings; both are deleted."""
    emoji = load_pipeline("emoji", "cpu")
    words = CLIPTextModel(with_words_of(emoji.text_encoder.config))
    model = Components(UNet(SD15.unet), AutoencoderKL(SD15.vae), words, emoji.tokenizer, emoji.scheduler)
    with tempfile.TemporaryDirectory() as place:
        folder = save_checkpoint(model, Path(place) / "settings", torch.float16)
        for weights in folder.rglob("*.safetensors"):
            weights.unlink()
        yield save_checkpoint(model, Path(place) / "model.safetensors"), folder


def with_words_of(config: CLIPTextConfig) -> CLIPTextConfig:
    """v1.5's text encoder with the vocabulary of another."""
    names = ("vocab_size", "bos_token_id", "eos_token_id")
    return replace(SD15.text_encoder, **{name: getattr(config, name) for name in names})


def known_to(cls: type, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that a class of diffusers takes, which its files hold beside others."""
    return {name: value for name, value in settings.items() if name in inspect.signature(cls).parameters}


def run_python(*arguments: str) -> str:
    """What a new Python prints. Raises RuntimeError, with the last line of its complaint, if it fails."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.splitlines() or ["the process failed without a word"])[-1])
    return done.stdout


SMALL_WORK = {"pictures": pictures, "busy": busy, "training": training, "imports": imports}
FULL_SIZE_WORK = {"unet": full_unet, "opening": opening}  # take minutes, 8 GB of memory and 5 GB of disk


BEGIN, END = "<!-- benchmark: written by ldm-tutorial benchmark --write -->", "<!-- end of benchmark -->"


def around(page: Path, begin: str = BEGIN, end: str = END) -> tuple[str, str]:
    """What stands before and after the two marks in a page. Raises ValueError if it has not both, once each."""
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"--write {page}: the page must hold, once each and in this order, {begin} and {end}")
    return text.split(begin)[0], text.split(end)[1]


def put_into(page: Path, table: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the two marks in a page, in one go. Raises ValueError as `around`, OSError."""
    before, after = around(page, begin, end)
    write_atomically(page, f"{before}{begin}\n\n{table}\n\n{end}{after}".encode())


def measured(names: Sequence[str], rounds: int, against: str | None, device: torch.device) -> Iterator[Result]:
    """The results of the kinds of work named, as they come. Raises ImportError if there is nothing to measure against."""
    diffusers: Any = None
    if against:
        try:
            diffusers = importlib.import_module(against)
        except ImportError:
            raise ImportError("diffusers is not installed: pip install diffusers, or leave --against out") from None
    for name in names:
        yield from (SMALL_WORK | FULL_SIZE_WORK)[name](rounds, diffusers, device)


def main(args: argparse.Namespace) -> None:
    """`ldm-tutorial benchmark`. Raises ValueError for a wrong argument, before anything is measured."""
    if args.rounds < 1:
        raise ValueError(f"--rounds {args.rounds} must be 1 or more")
    if args.write:
        around(args.write)
    if args.json:
        check_file("--json", args.json)
    names = args.only or [*SMALL_WORK, *(FULL_SIZE_WORK if args.full else ())]
    heading = f"| work | ours | {args.against or ''} | ratio |\n|---|---|---|---|"
    about = ", ".join(
        f"{key}: {value}" for key, value in machine().items() if key in ("processor", "cores and threads", "accelerators")
    )
    about += f"; torch {torch.__version__}; medians of {args.rounds} rounds, in brackets the smallest and largest ratio"
    print(f"{about}\n\n{heading}", flush=True)
    results = []
    for result in measured(names, args.rounds, args.against, pick_device(args.device)):
        print(result.row(), flush=True)
        results.append(result)
    if args.json:
        content = {"machine": about, "results": {result.key: result.to_json() for result in results}}
        write_atomically(args.json, (json.dumps(content, indent=1) + "\n").encode())
    if args.write:
        put_into(args.write, "\n".join([about, "", heading, *(result.row() for result in results)]))
