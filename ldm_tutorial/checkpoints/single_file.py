"""One file for a whole model, as CompVis' code writes it: read, and written.

Such a file holds weights only. Ours adds, in the metadata, what cannot be seen from names and shapes: the configuration, the
scheduler's settings, the tokenizer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import SD15, StableDiffusionConfig
from .atomic import atomic_path
from .compvis import FOREIGN, PREFIX, canonical, config_of, from_ldm, is_extra, to_ldm
from .folder import BAD_CONFIG, PARTS, build, read_scheduler, read_tokenizer, save_tokenizer
from .tensors import CheckpointError, check_match, fill, read_tensors, renamed, write_tensors

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

METADATA = "ldm_tutorial"  # our entry, in JSON: the config.json of each network, "scheduler" and "tokenizer"


def read_file(path: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The networks, and "tokenizer" and "scheduler" if the file holds them. Raises CheckpointError."""
    tensors, metadata = read_tensors(path)
    for start, kind in FOREIGN.items():
        if any(name.startswith(start) for name in tensors):
            raise CheckpointError(f"{path} is of another kind, {kind}; only Stable Diffusion v1 models can be loaded")
    everything = renamed(path, tensors, map(canonical, tensors))
    tensors = {name: t for name, t in everything.items() if not is_extra(name)}
    absent = [f"{part} ({prefix}...)" for part, prefix in PREFIX.items() if not any(n.startswith(prefix) for n in tensors)]
    if absent:
        hint = "; a file of one network is read as part of a diffusers folder" if len(absent) == len(PREFIX) else ""
        raise CheckpointError(f"{path} is not a whole model: it has no {', no '.join(absent)}{hint}")
    told = _metadata(path, metadata)
    try:
        if told:
            config = StableDiffusionConfig(**{name: part.config.from_dict(told[name]) for name, part in PARTS.items()})
        else:
            config = config_of(everything)
    except LookupError:
        config = SD15  # too little is there to tell: `check_match` will say what is missing
    except BAD_CONFIG as error:
        raise CheckpointError(f"{path}: {error}") from error
    networks = {name: build(path, name, getattr(config, name)) for name in PARTS}
    check_match(path, to_ldm(networks), tensors)
    for name, network in networks.items():
        fill(network, from_ldm(name, network, tensors), device, dtype)
    if "tokenizer" in told:
        networks["tokenizer"] = _unpack_tokenizer(path, told["tokenizer"], config.text_encoder.vocab_size)
    if "scheduler" in told:
        networks["scheduler"] = read_scheduler(path, told["scheduler"])
    return networks


def _metadata(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        told = json.loads(metadata.get(METADATA, "{}"))
    except ValueError:
        told = None
    if not isinstance(told, dict) or not all(isinstance(value, dict) for value in told.values()):
        raise CheckpointError(f"{path}: the metadata {METADATA!r} are not what `save_checkpoint` writes")
    return told


def write_file(path: Path, parts: Mapping[str, Any], dtype: torch.dtype | None) -> None:
    """The three networks, and what else of "tokenizer" and "scheduler" is among `parts`. Raises OSError, ValueError."""
    told = {name: parts[name].config.to_dict() for name in PARTS}
    if "scheduler" in parts:
        told["scheduler"] = parts["scheduler"].to_config()
    if "tokenizer" in parts:
        told["tokenizer"] = _pack_tokenizer(parts["tokenizer"])
    tensors = to_ldm({name: parts[name] for name in PARTS})
    with atomic_path(path) as partial:
        write_tensors(partial, tensors, dtype, {METADATA: json.dumps(told)})


def _pack_tokenizer(tokenizer: CLIPTokenizer) -> dict[str, str]:
    """The files of a tokenizer and their text."""
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(Path(folder), tokenizer)
        return {path.name: path.read_text(encoding="utf-8") for path in Path(folder).iterdir()}


def _unpack_tokenizer(source: object, files: Mapping[str, str], vocab_size: int) -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            if name != Path(name).name or not name.endswith((".json", ".txt")) or not isinstance(text, str):
                raise CheckpointError(f"{source}: {name!r} is not a file of a tokenizer")
            (Path(folder) / name).write_text(text, encoding="utf-8")
        try:
            return read_tokenizer(Path(folder), vocab_size)
        except (FileNotFoundError, CheckpointError) as error:
            raise CheckpointError(f"{source}: the tokenizer in its metadata: {error}") from error
