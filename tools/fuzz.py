#!/usr/bin/env python3
"""Random damage to the files that the package reads. Each must end in what was read, or in the error that is promised.

    python tools/fuzz.py                        an hour over all readers; --seconds 60 for a minute
    python tools/fuzz.py model --case 4711      one case again, with its traceback

A case is a number: the same damage every time. What goes wrong is kept in runs/fuzz, and belongs into a test. That means: another
error than promised, one that does not name the file, more than ten seconds, a file written elsewhere or a program started.

Damage knows what it damages: bits and bytes anywhere, cuts and copies; in JSON (alone, in a header, in metadata) names, values
and nesting; in a zip its parts. It follows no branches, as atheris does: most bytes are read by Rust and C, which that does not
see, and it does not run on every system that the package does.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "runs" / "fuzz"
SECONDS = 10  # for one case


class Reader(NamedTuple):
    """One way to read a file: the files that it needs, which of them is damaged, and what it may raise."""

    make: Callable[[Path], list[Path]]  # writes good files into a folder; those that damage is done to
    read: Callable[[Path], Any]  # of that folder
    promised: tuple[type[Exception], ...]


# ---- damage


def damage(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to three changes, of a kind that suits them."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kinds: list[Callable[[bytes, random.Random], bytes]] = [of_bytes]
        if data[:1] in (b"{", b"["):
            kinds += [of_json] * 4
        elif data[8:9] == b"{":
            kinds += [of_header] * 4
        elif data[:2] == b"PK":
            kinds += [of_zip] * 4
        elif b"\n{" in data:
            kinds += [of_lines] * 2
        data = rng.choice(kinds)(data, rng)
    return data


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    new, at = bytearray(data), rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice([1, 2, 8, 100, len(data)]))
    kind = rng.randrange(7)
    if kind == 0 and at < len(data):
        new[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del new[at:end]
    elif kind == 2:
        new[at:at] = rng.randbytes(rng.choice([1, 8, 1000]))
    elif kind == 3:
        new[at:at] = new[at:end]
    elif kind == 4:
        new[at : at + 8] = rng.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(data)]).to_bytes(8, "little")
    elif kind == 5:
        del new[at:]
    else:
        new[at:end] = bytes(end - at)
    return bytes(new)


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 2**31, 2**53, 2**63, 2**64, 10**30, 0.5, -0.0, 1e-320, 1e308, math.inf, math.nan,
    "", "a", "\0", "../x",
    "/etc/passwd", "\ud800", "ü" * 50, "x" * 5000, "NaN", "<script>", [], {}, [[]], [None], {"": 0}, [0] * 50_000,
]  # fmt: skip


def of_value(content: Any, rng: random.Random) -> Any:
    """JSON content with one change, anywhere in it."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []:
            places.append((value, key))
            walk(value[key])

    walk(content)
    if not places or rng.random() < 0.02:
        return rng.choice(ODD)
    place, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        place[rng.choice(["", "a", "_class_name", key + "x", "\0", "../" + key])] = place.pop(key)
    elif kind == 2:
        other, there = rng.choice(places)
        place[key] = other[there] if there in (other if isinstance(other, dict) else range(len(other))) else None
    elif kind == 3 and isinstance(place[key], (int, float)) and not isinstance(place[key], bool):
        place[key] = rng.choice([-place[key], place[key] * 10**9, place[key] + 1, place[key] - 1, place[key] / 3])
    elif kind == 4 and isinstance(place[key], str) and place[key][:1] == "{":
        try:
            place[key] = json.dumps(of_value(json.loads(place[key]), rng))
        except (ValueError, RecursionError):
            place[key] = "{"
    else:
        place[key] = rng.choice(ODD)
    return content


def of_json(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.02:
        return rng.choice([b"[", b'{"a":']) * rng.choice([500, 100_000])
    try:
        return json.dumps(of_value(json.loads(data), rng)).encode(errors="surrogatepass")
    except (ValueError, RecursionError):
        return of_bytes(data, rng)


def of_header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file: its header, or its numbers."""
    length = int.from_bytes(data[:8], "little")
    header, tensors = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.2:
        return data[: 8 + length] + of_bytes(tensors, rng)
    header = of_json(header, rng)
    return len(header).to_bytes(8, "little") + header + tensors


def of_zip(data: bytes, rng: random.Random) -> bytes:
    """A .ckpt of today: one of the files in it, or which there are."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            files = {name: old.read(name) for name in old.namelist()}
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError):
        return of_bytes(data, rng)
    if not files:
        return of_bytes(data, rng)
    name = rng.choice(list(files))
    if rng.random() < 0.1:
        files.pop(name)
    else:
        files[name] = of_bytes(files[name], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, content in files.items():
            new.writestr(name, content)
    return out.getvalue()


def of_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = of_json(lines[at], rng) if lines[at][:1] == b"{" else of_bytes(lines[at], rng)
    return b"\n".join(lines)


# ---- the readers


def small_model() -> Any:
    """A whole model of 40,000 numbers, random, with a tokenizer."""
    import torch

    from ldm_tutorial.checkpoints import Components
    from ldm_tutorial.checkpoints.folder import PARTS
    from ldm_tutorial.config import AutoencoderConfig, CLIPTextConfig, StableDiffusionConfig, UNetConfig
    from ldm_tutorial.training.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["a cat in the style of noto, an octopus with a hat"], vocab_size=520)
    config = StableDiffusionConfig(
        AutoencoderConfig(block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2, sample_size=16),
        UNetConfig(
            block_out_channels=(4, 8),
            attention_levels=(False, True),
            layers_per_block=1,
            num_attention_heads=2,
            cross_attention_dim=6,
            norm_num_groups=2,
            sample_size=8,
        ),
        CLIPTextConfig(len(tokenizer), hidden_size=6, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = {name: part.network(getattr(config, name)) for name, part in PARTS.items()}
    return Components(**networks, tokenizer=tokenizer)


def a_file(folder: Path) -> list[Path]:
    from ldm_tutorial.checkpoints import save_checkpoint

    return [save_checkpoint(small_model(), folder / "model.safetensors")]


def a_folder(folder: Path) -> list[Path]:
    from ldm_tutorial.checkpoints import save_checkpoint

    return sorted(path for path in save_checkpoint(small_model(), folder / "model").rglob("*") if path.is_file())


def pieces(folder: Path) -> list[Path]:
    """A folder whose autoencoder is in two pieces, with an index: only that is damaged."""
    from safetensors.torch import load_file, save_file

    a_folder(folder)
    whole = folder / "model" / "vae" / "diffusion_pytorch_model.safetensors"
    tensors, names = load_file(whole), [f"diffusion_pytorch_model-{i}.safetensors" for i in (1, 2)]
    halves = {name: {key: t.clone() for i, (key, t) in enumerate(tensors.items()) if i % 2 == j} for j, name in enumerate(names)}
    for name, half in halves.items():
        save_file(half, whole.with_name(name))
    whole.unlink()
    index = whole.with_name(whole.name + ".index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": {key: name for name, half in halves.items() for key in half}}))
    return [index]


def a_ckpt(folder: Path) -> list[Path]:
    import torch

    state = {f"layer.{i}.weight": torch.arange(6.0).view(2, 3) for i in range(5)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "model.ckpt")
    torch.save(state, folder / "old.ckpt", _use_new_zipfile_serialization=False)
    return [folder / "model.ckpt", folder / "old.ckpt"]


def a_picture(folder: Path) -> list[Path]:
    from PIL import Image

    from ldm_tutorial.images import save_image

    picture = Image.new("RGB", (16, 16), "red")
    settings = {"prompt": "a cat", "seed": 3, "steps": 5, "guidance_scale": 7.5, "scheduler_options": {"eta": 1}, "width": 16}
    picture.info.update(settings, software="ldm_tutorial 1.0", scheduler="ddim")
    return [
        save_image(picture, folder / "cat.png"),
        save_image(picture, folder / "cat.jpg"),
        save_image(picture, folder / "cat.webp"),
    ]


def a_log(folder: Path) -> list[Path]:
    lines = [json.dumps({"step": step, "seconds": step / 2, "loss": 1 / step}) for step in (1, 2, 3, 1, 2)]
    (folder / "log.jsonl").write_text("\n".join(lines))
    return [folder / "log.jsonl"]


def read_model(folder: Path) -> Any:
    from ldm_tutorial.checkpoints import load_checkpoint

    path = folder / "model"
    loaded = load_checkpoint(path if path.exists() else folder / "model.safetensors")
    return loaded.scheduler


def read_ckpts(folder: Path) -> Any:
    from ldm_tutorial.checkpoints.tensors import read_tensors

    return [read_tensors(path) for path in sorted(folder.glob("*.ckpt"))]


def read_pictures(folder: Path) -> Any:
    from ldm_tutorial.images import open_image, read_settings, to_tensor

    return [(read_settings(path), to_tensor(open_image(path))) for path in sorted(folder.glob("cat.*"))]


def read_log(folder: Path) -> Any:
    from ldm_tutorial.training.logs import read_log

    return read_log(folder / "log.jsonl")


FILES = (ValueError, FileNotFoundError)  # CheckpointError is a ValueError
READERS = {
    "model": Reader(a_file, read_model, FILES),
    "folder": Reader(a_folder, read_model, FILES),
    "pieces": Reader(pieces, read_model, FILES),
    "ckpt": Reader(a_ckpt, read_ckpts, FILES),
    "picture": Reader(a_picture, read_pictures, (ValueError,)),
    "log": Reader(a_log, read_log, (ValueError,)),
}


# ---- one case after the other


class Found(Exception):
    """What a case did wrong."""


HARMFUL = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.kill", "socket.connect", "shutil.rmtree")
_watched: list[Path] = []  # while a case is read: the folders that may be written to


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: what a file that is read may not do."""
    if not _watched:
        return
    if event in HARMFUL and not str(arguments[:1]).startswith("(PosixPath('/tmp"):
        if event == "shutil.rmtree" and str(arguments[0]).startswith(tempfile.gettempdir()):
            return
        raise Found(f"{event}{arguments!r:.200}")
    if (
        event == "open"
        and isinstance(arguments[0], (str, bytes))
        and isinstance(arguments[1], str)
        and set(arguments[1]) & set("wax+")
    ):
        path = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode(errors="replace")
        if not path.startswith((tempfile.gettempdir(), "/dev/null")):
            raise Found(f"{path!r} was opened to be written")


@contextmanager
def in_time(seconds: int) -> Iterator[None]:
    def late(*_: Any) -> None:
        raise Found(f"took longer than {seconds} seconds")

    if not hasattr(signal, "SIGALRM"):  # Windows
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def good_files(name: str, folder: Path) -> dict[Path, bytes]:
    """What a reader's damage is done to: made once, read once."""
    folder.mkdir(parents=True)
    files = READERS[name].make(folder)
    READERS[name].read(folder)
    return {path: path.read_bytes() for path in files}


def try_case(name: str, folder: Path, good: dict[Path, bytes], case: int) -> str:
    """What came of it: "read" or "refused". Raises Found, or what else was raised, if that is wrong."""
    reader, rng = READERS[name], random.Random(f"{name} {case}")
    path = rng.choice(list(good))
    data = damage(good[path], rng)
    path.unlink(missing_ok=True)  # not in place: the one before may be mapped into memory
    path.write_bytes(data)
    try:
        with in_time(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _watched.append(folder)
            reader.read(folder)
        return "read"
    except reader.promised as error:
        if str(folder) not in str(error):
            raise Found(f"the error does not name the file: {type(error).__name__}: {error!s:.300}") from error
        return "refused"
    finally:
        _watched.clear()
        path.unlink(missing_ok=True)
        path.write_bytes(good[path])


def fuzz(names: list[str], seconds: float, first: int, cases: int | None = None) -> tuple[dict[str, dict[str, int]], list[str]]:
    """How many cases of each reader ended how, and what was found: at most `cases` each, in `seconds` for all."""
    sys.addaudithook(watch)
    counts, found = {name: {"read": 0, "refused": 0, "found": 0} for name in names}, []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        good = {name: good_files(name, Path(folder, name)) for name in names}
        end, case = time.monotonic() + seconds, first
        while time.monotonic() < end and (cases is None or case < first + cases):
            for name in names:
                try:
                    counts[name][try_case(name, Path(folder, name), good[name], case)] += 1
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    counts[name]["found"] += 1
                    found.append(f"{name} --case {case}: {type(error).__name__}: {error!s:.300}")
                    print(found[-1].encode(errors="backslashreplace").decode(), flush=True)
            case += 1
    return counts, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help=f"some of {', '.join(READERS)}; all of them unless named")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--first", type=int, default=random.SystemRandom().randrange(10**9), help="number of the first case")
    parser.add_argument("--case", type=int, help="only this one, with its traceback")
    options = parser.parse_args()
    names = options.readers or list(READERS)
    if unknown := set(names) - set(READERS):
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(READERS)}")
    if options.case is not None:
        sys.addaudithook(watch)
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            print(try_case(names[0], folder / names[0], good_files(names[0], folder / names[0]), options.case))
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            shutil.rmtree(folder)
        return 0
    counts, found = fuzz(names, options.seconds, options.first)
    for name, ends in counts.items():
        print(f"{name}: {sum(ends.values())} cases, {ends['read']} read, {ends['refused']} refused, {ends['found']} found")
    if found:
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{options.first}.txt").write_text("\n".join(found), encoding="utf-8", errors="backslashreplace")
        print(f"kept in {KEPT / f'{options.first}.txt'}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
