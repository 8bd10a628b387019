"""The folder layout of diffusers: one subfolder for each part, each with its settings in JSON and its weights in safetensors.

- model_index.json: which class each part is
- unet/, vae/: config.json, diffusion_pytorch_model.safetensors
- text_encoder/: config.json, model.safetensors
- tokenizer/: tokenizer.json, tokenizer_config.json; in transformers 4 vocab.json, merges.txt
- scheduler/: scheduler_config.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..clip import CLIPTextModel
from ..config import AutoencoderConfig, CLIPTextConfig, UNetConfig
from ..schedulers import Scheduler, scheduler_from_config
from ..unet import UNet
from ..vae import AutoencoderKL
from .tensors import CheckpointError, check_match, fill, read_tensors, renamed, write_tensors

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


class Part(NamedTuple):
    """One of the three networks, here and in the libraries whose layout this is."""

    network: type[nn.Module]
    config: type
    library: str
    class_name: str
    stem: str  # of the file of weights


PARTS = {
    "unet": Part(UNet, UNetConfig, "diffusers", "UNet2DConditionModel", "diffusion_pytorch_model"),
    "vae": Part(AutoencoderKL, AutoencoderConfig, "diffusers", "AutoencoderKL", "diffusion_pytorch_model"),
    "text_encoder": Part(CLIPTextModel, CLIPTextConfig, "transformers", "CLIPTextModel", "model"),
}
TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # either will do

# Names of tensors that older and newer writers use, and ours.
SPELLINGS = {"query.": "to_q.", "key.": "to_k.", "value.": "to_v.", "proj_attn.": "to_out.0."}  # vae, before 2023

BAD_CONFIG = (ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)  # what numbers out of a file can cause


class _NoInitialValues(TorchFunctionMode):
    """Leaves out drawing random numbers that no one will see: without memory, torch imports its compiler for it, for seconds."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return kwargs["tensor"]
        return func(*args, **kwargs)


def build(source: object, part: str, config: Any) -> nn.Module:
    """The network without memory for its parameters, which `fill` supplies. In eval mode."""
    try:
        with torch.device("meta"), _NoInitialValues():
            return PARTS[part].network(config).eval()
    except BAD_CONFIG as error:
        raise CheckpointError(f"{source}: no network can be built from {config}: {error}") from error


# ---- reading


def read_folder(folder: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The networks, and "tokenizer" and "scheduler" if they are there. Raises FileNotFoundError or CheckpointError."""
    for name in PARTS:
        if not (folder / name / "config.json").is_file():
            raise FileNotFoundError(
                f"{folder} is not a whole model in diffusers' layout: there is no {name}/config.json in it"
                + _kind_of_pipeline(folder)
            )
    parts = {name: read_network(folder / name, name, device, dtype) for name in PARTS}
    if holds_tokenizer(folder / "tokenizer"):
        parts["tokenizer"] = read_tokenizer(folder / "tokenizer", parts["text_encoder"].config.vocab_size)
    settings = folder / "scheduler" / "scheduler_config.json"
    if settings.is_file():
        parts["scheduler"] = read_scheduler(settings, read_json(settings))
    return parts


def _kind_of_pipeline(folder: Path) -> str:
    index = folder / "model_index.json"
    name = read_json(index).get("_class_name") if index.is_file() else None
    return f"; its model_index.json says it is a {name}" if name not in (None, "StableDiffusionPipeline") else ""


def read_network(folder: Path, part: str, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
    """One network from its own folder. Raises FileNotFoundError or CheckpointError."""
    config_file = folder / "config.json"
    settings = read_json(config_file)
    classes = [settings["_class_name"]] if "_class_name" in settings else settings.get("architectures")
    if classes not in (None, [PARTS[part].class_name]):
        raise CheckpointError(f"{config_file} is of {classes}, not of {[PARTS[part].class_name]}")
    try:
        config = PARTS[part].config.from_dict(settings)
    except BAD_CONFIG as error:
        raise CheckpointError(f"{config_file}: {_foreign(settings)}{error}") from error
    network = build(config_file, part, config)
    files = find_weights(folder, PARTS[part].stem)
    tensors = {}
    for file in files:
        tensors_here = read_tensors(file)[0]
        if tensors.keys() & tensors_here.keys():
            raise CheckpointError(f"{file} repeats tensors of another file of {folder}")
        tensors |= tensors_here
    source = files[0] if len(files) == 1 else folder
    tensors = {name: t for name, t in tensors.items() if not name.endswith("embeddings.position_ids")}
    tensors = renamed(source, tensors, [_our_name(part, name) for name in tensors])
    check_match(source, network.state_dict(), tensors)
    fill(network, tensors, device, dtype)
    return network


def _our_name(part: str, name: str) -> str:
    if part == "text_encoder" and not name.startswith("text_model."):  # as transformers 5 writes them
        return "text_model." + name
    if part == "vae" and ".attentions." in name:
        for old, new in SPELLINGS.items():
            name = name.replace("." + old, "." + new)
    return name


def _foreign(settings: Mapping[str, Any]) -> str:
    """What another kind of U-Net is called."""
    if settings.get("addition_embed_type") == "text_time":
        return "this is Stable Diffusion XL; "
    return "this is Stable Diffusion 2; " if settings.get("use_linear_projection") else ""


def find_weights(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of one network: the plain one, else its pieces, else a variant such as `.fp16`.

    Raises:
        FileNotFoundError: there are none.
        CheckpointError: the list of pieces is wrong, or there are several variants.
    """
    plain, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if plain.exists():
        return [plain]
    if index.exists():
        return _pieces(index)
    variants = [*folder.glob(f"{stem}.*.safetensors"), *folder.glob(f"{stem}.safetensors.index.*.json")]
    fp16 = [path for path in variants if ".fp16." in path.name]
    chosen = fp16 or variants
    if len(chosen) > 1:
        raise CheckpointError(f"{folder} holds {', '.join(sorted(p.name for p in chosen))}: name one of them {plain.name}")
    if chosen:
        return _pieces(chosen[0]) if chosen[0].suffix == ".json" else chosen
    pickles = " (only pickles, which are not read)" if [*folder.glob("*.bin")] else ""
    raise FileNotFoundError(f"there is no {plain.name} in {folder}{pickles}")


def _pieces(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or any(not isinstance(n, str) or n != Path(n).name for n in names.values()):
        raise CheckpointError(f"{index} must hold a 'weight_map' from names of tensors to names of files beside it")
    return [index.parent / name for name in sorted(set(names.values()))]


def read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def holds_tokenizer(folder: Path) -> bool:
    return any(all((folder / name).is_file() for name in names) for names in TOKENIZER_FILES)


def read_tokenizer(folder: Path, vocab_size: int | None = None) -> CLIPTokenizer:
    """The `transformers.CLIPTokenizer` of a folder, which never asks the hub.

    Raises:
        FileNotFoundError: no tokenizer is there.
        CheckpointError: it cannot be read, or has not `vocab_size` entries.
    """
    if not holds_tokenizer(folder):  # transformers would go to the hub, and then invent a tokenizer of two words
        raise FileNotFoundError(f"there is neither a tokenizer.json nor a vocab.json with merges.txt in {folder}")
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the Rust library raises Exception itself
        raise CheckpointError(f"{folder} does not hold a CLIP tokenizer: {error}") from error
    if vocab_size is not None and len(tokenizer) != vocab_size:
        raise CheckpointError(f"the tokenizer in {folder} has {len(tokenizer)} entries, the text encoder {vocab_size}")
    if tokenizer.model_max_length > 10**6:  # none is set in older files
        tokenizer.model_max_length = CLIPTextConfig.max_position_embeddings
    return tokenizer


def read_scheduler(source: object, settings: Mapping[str, Any]) -> Scheduler:
    """From a `scheduler_config.json`. Raises CheckpointError for one of another forward process, or with a wrong value."""
    try:
        return scheduler_from_config(settings)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from error


# ---- writing


def write_network(folder: Path, network: nn.Module, dtype: torch.dtype | None) -> None:
    """config.json (of one of the three networks) and the weights."""
    stem = "model"
    for part in PARTS.values():
        if isinstance(network, part.network):
            stem = part.stem
            write_json(folder / "config.json", network.config.to_dict())
    write_tensors(folder / f"{stem}.safetensors", network.state_dict(), dtype)


def write_folder(folder: Path, parts: Mapping[str, Any], dtype: torch.dtype | None, already_there: Path) -> None:
    """All `parts` (networks, "tokenizer", "scheduler") and a model_index.json, which also names those in `already_there`."""
    for name, part in parts.items():
        (folder / name).mkdir()
        if name == "tokenizer":
            write_tokenizer(folder / name, part)
        elif name == "scheduler":
            write_json(folder / name / "scheduler_config.json", part.to_config())
        else:
            write_network(folder / name, part, dtype)
    index = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False}
    for name in ("safety_checker", "feature_extractor", "image_encoder"):
        index[name] = [None, None]
    for name, part in PARTS.items():
        there = any((f / name / "config.json").exists() for f in (folder, already_there))
        index[name] = [part.library, part.class_name] if there else [None, None]
    there = any(holds_tokenizer(f / "tokenizer") for f in (folder, already_there))
    index["tokenizer"] = ["transformers", "CLIPTokenizer"] if there else [None, None]
    settings = [f / "scheduler" / "scheduler_config.json" for f in (folder, already_there)]
    classes = [read_json(path).get("_class_name") for path in settings if path.exists()]
    index["scheduler"] = ["diffusers", classes[0]] if classes else [None, None]
    write_json(folder / "model_index.json", index)


def write_tokenizer(folder: Path, tokenizer: CLIPTokenizer) -> None:
    """In today's format, tokenizer.json, and in that of transformers 4, vocab.json and merges.txt."""
    save_tokenizer(folder, tokenizer)
    if (folder / "tokenizer.json").is_file():
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
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
