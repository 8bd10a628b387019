"""The folder layout of diffusers: one subfolder for each part, each with its settings in JSON and its weights in safetensors.

model_index.json says which class each part is. unet/ and vae/ hold config.json and diffusion_pytorch_model.safetensors,
text_encoder/ config.json and model.safetensors, tokenizer/ tokenizer.json (in transformers 4 vocab.json and merges.txt),
scheduler/ scheduler_config.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..clip import CLIPTextModel
from ..config import AutoencoderConfig, CLIPTextConfig, UNetConfig
from ..schedulers import Scheduler, scheduler_from_config
from ..unet import UNet
from ..vae import AutoencoderKL
from .tensors import CheckpointError, load_weights, read_tensors, write_tensors

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


class Part(NamedTuple):
    """One of the three networks, here and in the libraries whose layout this is."""

    network: type[nn.Module]
    config: type[UNetConfig] | type[AutoencoderConfig] | type[CLIPTextConfig]
    library: str
    class_name: str
    stem: str  # of the file of weights


PARTS = {
    "unet": Part(UNet, UNetConfig, "diffusers", "UNet2DConditionModel", "diffusion_pytorch_model"),
    "vae": Part(AutoencoderKL, AutoencoderConfig, "diffusers", "AutoencoderKL", "diffusion_pytorch_model"),
    "text_encoder": Part(CLIPTextModel, CLIPTextConfig, "transformers", "CLIPTextModel", "model"),
}
PIECE = re.compile(r"[\w.-]{1,200}\.safetensors")  # the name of one file of weights beside others
TRIES = 100  # to read a folder that others write
PIPELINE = "StableDiffusionPipeline"
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # the autoencoder's, before 2023
BAD_CONFIG = (ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)  # what numbers out of a file can cause


class _NoInitialValues(TorchFunctionMode):
    """Leaves out drawing random numbers that no one will see: without memory, torch imports its compiler for it, for seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def build(source: object, part: str, config: Any) -> Any:
    """The network without memory for its parameters, which `load_weights` supplies. In eval mode."""

    def without_memory() -> nn.Module:
        with torch.device("meta"), _NoInitialValues():
            return PARTS[part].network(config).eval()

    try:
        # In a thread of its own: Ctrl-C goes to the main one, where it could leave these two switched on for good
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(without_memory).result()
    except BAD_CONFIG as error:
        raise CheckpointError(f"{source}: no network can be built from {config}: {error}") from error


# ---- reading: each raises FileNotFoundError for what is not there, CheckpointError for what is wrong


def read_whole_folder(folder: Path, device: torch.device, dtype: torch.dtype, parts: Sequence[str]) -> dict[str, Any]:
    """As `read_folder`; once more, if another process has put a new model there meanwhile, of which some may have been read."""

    def which() -> tuple[int, int] | None:  # the number of a folder that is gone is given to the next: its time tells them apart
        return (folder.stat().st_ino, folder.stat().st_ctime_ns) if folder.is_dir() else None

    for _ in range(TRIES):
        before = which()
        try:
            read = read_folder(folder, device, dtype, parts)
        except (OSError, CheckpointError):
            if which() == before:
                raise
        else:
            if which() == before:
                return read
    raise CheckpointError(f"{folder} is replaced again and again while it is read")


def read_folder(folder: Path, device: torch.device, dtype: torch.dtype, parts: Sequence[str]) -> dict[str, Any]:
    """These networks, and what makes "tokenizer" and "scheduler" if they are there."""
    for part in parts:
        if not (folder / part / "config.json").is_file():
            index = folder / "model_index.json"
            kind = read_json(index).get("_class_name", PIPELINE) if index.is_file() else PIPELINE
            hint = f"; its model_index.json says it is a {kind}" if kind != PIPELINE else ""
            hint = "; the argument vae takes the path of one, a file or a folder" if part == "vae" else hint
            raise FileNotFoundError(
                f"{folder} is not a whole model in diffusers' layout: there is no {part}/config.json in it{hint}"
            )
    read: dict[str, Any] = {part: read_network(folder / part, part, device, dtype) for part in parts}
    if holds_tokenizer(folder / "tokenizer"):
        read["tokenizer"] = read_tokenizer(folder / "tokenizer", read["text_encoder"].config.vocab_size)
    settings = folder / "scheduler" / "scheduler_config.json"
    if settings.is_file():
        read["scheduler"] = lambda: read_scheduler(settings, read_json(settings))
    return read


def read_network(folder: Path, part: str, device: torch.device | str, dtype: torch.dtype) -> Any:
    """One network from its own folder."""
    kind, config_file = PARTS[part], folder / "config.json"
    settings = read_json(config_file)
    classes = [settings["_class_name"]] if "_class_name" in settings else settings.get("architectures")
    if classes not in (None, [kind.class_name]):
        raise CheckpointError(f"{config_file} is of {classes}, not of {[kind.class_name]}")
    try:
        config = kind.config.from_dict(settings)
    except BAD_CONFIG as error:
        of_sdxl, of_sd2 = settings.get("addition_embed_type") == "text_time", settings.get("use_linear_projection")
        model = "this is Stable Diffusion XL; " if of_sdxl else "this is Stable Diffusion 2; " if of_sd2 else ""
        raise CheckpointError(f"{config_file}: {model}{error}") from error
    network, files, tensors = build(config_file, part, config), find_weights(folder, kind.stem), dict[str, Tensor]()
    for file in files:
        piece, _ = read_tensors(file)
        if tensors.keys() & piece.keys():
            raise CheckpointError(f"{file} repeats tensors of another file of {folder}")
        tensors |= piece
    usual = {name: usual_name(part, name) for name in tensors if not name.endswith("embeddings.position_ids")}  # 0 ... 76
    source = files[0] if len(files) == 1 else folder
    load_weights(network, {name: tensors[name] for name in usual}, source, device, dtype, usual)
    return network


def usual_name(part: str, name: str) -> str:
    """Our name of a tensor in a file of diffusers or transformers, of any year."""
    if part == "text_encoder":
        return name if name.startswith("text_model.") else "text_model." + name  # transformers 5 leaves it out
    for old, new in OLD_NAMES.items() if part == "vae" and ".attentions." in name else ():
        name = name.replace(f".{old}.", f".{new}.")
    return name


def find_weights(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of one network: the plain one, else its pieces, else the one variant, or that named `.fp16`."""
    plain, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    variants = [*folder.glob(f"{stem}.*.safetensors"), *folder.glob(f"{stem}.safetensors.index.*.json")]
    usual = [path for path in (plain, index) if path.exists()][:1]
    chosen = usual or [path for path in variants if ".fp16." in path.name] or variants
    if len(chosen) > 1:
        raise CheckpointError(f"{folder} holds {', '.join(sorted(p.name for p in chosen))}: name one of them {plain.name}")
    if not chosen:
        pickles = " (only pickles, which are not read)" if [*folder.glob("*.bin")] else ""
        raise FileNotFoundError(f"there is no {plain.name} in {folder}{pickles}")
    if chosen[0].suffix == ".safetensors":
        return chosen
    names = read_json(chosen[0]).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(n, str) and PIECE.fullmatch(n) for n in names.values()):
        raise CheckpointError(f"{chosen[0]} must hold a 'weight_map' from names of tensors to names of files beside it")
    return [folder / name for name in sorted(set(names.values()))]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise CheckpointError(f"{path} is not JSON: it is nested too deep") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def holds_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer is there, in today's format or that of transformers 4."""
    return (folder / "tokenizer.json").is_file() or all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))


def read_tokenizer(folder: Path, vocab_size: int | None = None) -> CLIPTokenizer:
    """The `transformers.CLIPTokenizer` of a folder, which must have `vocab_size` entries. Never asks the hub."""
    if not holds_tokenizer(folder):  # transformers would go to the hub, and then invent a tokenizer of two words
        raise FileNotFoundError(f"there is neither a tokenizer.json nor a vocab.json with merges.txt in {folder}")
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the Rust library raises Exception itself
        raise CheckpointError(f"{folder} does not hold a CLIP tokenizer: {error}") from error
    if vocab_size is not None and len(tokenizer) != vocab_size:
        raise CheckpointError(f"the tokenizer in {folder} has {len(tokenizer)} entries, the text encoder {vocab_size}")
    length = tokenizer.model_max_length
    if type(length) is not int or not 0 < length <= 10**6:  # none is set in older files
        tokenizer.model_max_length = CLIPTextConfig.max_position_embeddings
    return tokenizer


def read_scheduler(source: object, settings: Mapping[str, Any]) -> Scheduler:
    """From a `scheduler_config.json`. Raises CheckpointError for one of another forward process, or with a wrong value."""
    try:
        return scheduler_from_config(settings)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}; the argument scheduler of load_pipeline takes another one") from error


# ---- writing


def write_network(folder: Path, network: nn.Module, dtype: torch.dtype | None) -> None:
    """config.json (of one of the three networks) and the weights."""
    kind = next((kind for kind in PARTS.values() if isinstance(network, kind.network)), None)
    if kind:
        config: Any = network.config
        # transformers loads weights as they are stored if this is not said, diffusers as float32: a pipeline needs one for all
        said = {"torch_dtype": "float32"} if kind.library == "transformers" else {}
        write_json(folder / "config.json", config.to_dict() | said)
    write_tensors(folder / f"{kind.stem if kind else 'model'}.safetensors", network.state_dict(), dtype)


def write_folder(folder: Path, parts: Mapping[str, Any], dtype: torch.dtype | None, already_there: Path) -> None:
    """All `parts` (networks, "tokenizer", "scheduler") and a model_index.json, which also names those in `already_there`."""
    for name, part in parts.items():
        (folder / name).mkdir()
        if name in PARTS:
            write_network(folder / name, part, dtype)
        elif name == "tokenizer":
            write_tokenizer(folder / name, part)
        else:
            write_json(folder / name / "scheduler_config.json", part.to_config())
    place = {name: (folder if name in parts else already_there) / name for name in (*PARTS, "tokenizer", "scheduler")}
    index: dict[str, Any] = {"_class_name": PIPELINE, "requires_safety_checker": False}
    index |= dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder", *place), [None, None])
    index |= {name: [kind.library, kind.class_name] for name, kind in PARTS.items() if (place[name] / "config.json").is_file()}
    if holds_tokenizer(place["tokenizer"]):
        index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    if (place["scheduler"] / "scheduler_config.json").is_file():
        index["scheduler"] = ["diffusers", read_json(place["scheduler"] / "scheduler_config.json").get("_class_name")]
    write_json(folder / "model_index.json", index)


def write_tokenizer(folder: Path, tokenizer: CLIPTokenizer) -> None:
    """In today's format, tokenizer.json, and in that of transformers 4, vocab.json and merges.txt."""
    save_tokenizer(folder, tokenizer)
    model = read_json(folder / "tokenizer.json")["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    write_json(folder / "vocab.json", model["vocab"])
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def save_tokenizer(folder: Path, tokenizer: CLIPTokenizer) -> None:
    """In the format of today's transformers alone, and without the padding of the last call, which a tokenizer keeps."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Indented, with a newline at the end."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
