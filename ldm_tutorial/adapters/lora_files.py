"""Files of LoRAs. One matrix has many names, by who wrote it; all of them are read, two are written.

    unet.mid_block.attentions.0.proj_in.lora_A.weight               diffusers since 2023, and peft with another beginning
    unet.mid_block.attentions.0.proj_in.lora.down.weight            diffusers before
    ...attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight      and before that
    lora_unet_mid_block_attentions_0_proj_in.lora_down.weight       kohya's scripts, and most programs with a window

A (`down`) and B (`up`) come in pairs. α is a tensor beside them, as kohya's scripts write it; or a number in the metadata, as
peft and diffusers do; or nothing, and then it is the rank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.atomic import atomic_path
from ..checkpoints.tensors import CheckpointError, read_tensors, write_tensors
from ..checks import as_path, one_of
from ..schedulers.few_steps import FEW_STEPS, FewSteps
from .lora import LoRA, LowRank, find_layer

LAYOUTS = ("diffusers", "kohya")
ADAPTER_METADATA = "lora_adapter_metadata"  # of diffusers: the settings of peft, in JSON
KOHYA = {"lora_unet_": "unet", "lora_te_": "text_encoder"}

# The end of a name, and what the tensor is
ROLES = {
    ending: role
    for role, middle in (
        ("down", ("_A", "_down", ".down", "_linear_layer.down")),
        ("up", ("_B", "_up", ".up", "_linear_layer.up")),
    )
    for ending in (f"lora{m}{adapter}.weight" for m in middle for adapter in ("", ".default"))
} | {"alpha": "alpha"}

# The oldest files name the text encoder's layers as those of the U-Net
OLD_PROJECTIONS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}

# What a name has in it that another method, or another model, wrote
OTHERS = {
    "hada_": "is a LoHa (LyCORIS)",
    "lokr_": "is a LoKr (LyCORIS)",
    "lora_mid": "has Tucker's decomposition (LyCORIS)",
    "dora_scale": "is a DoRA",
    "lora_magnitude_vector": "is a DoRA",
    "lora_te2_": "is of Stable Diffusion XL",
    "text_encoder_2": "is of Stable Diffusion XL",
    "lora_te1_": "is of Stable Diffusion XL",
    "transformer.": "is of a diffusion transformer",
}


def read_lora(path: str | Path, networks: Mapping[str, nn.Module], scale: float = 1.0) -> LoRA:
    """The LoRA of a .safetensors file for these networks, such as {"unet": pipe.unet}; in their dtype, on their device.

    Raises FileNotFoundError, or CheckpointError, which names what is wrong: a file that is no LoRA, of another method or model,
    with layers that are not there, matrices of another shape or without the other of their pair, or numbers that are not finite.
    """
    path = as_path(path)
    tensors, metadata = read_tensors(path)
    for mark, what in OTHERS.items():
        found = next((name for name in tensors if mark in f"{name}."), None)
        if found is not None:
            raise CheckpointError(f"{path} {what}, which is not supported: it holds {found}")
    if not any(_role(name)[1] in ("down", "up") for name in tensors):
        raise CheckpointError(f"{path} is no LoRA: none of its {len(tensors)} tensors is named as in ...to_q.lora_A.weight")

    pairs, origin = _sort(path, tensors, networks)
    alphas = _alphas(path, metadata)
    try:
        few_steps = FewSteps.from_file(metadata, path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    _refuse_misfits(path, pairs, origin, networks)
    with torch.random.fork_rng(devices=[]):  # new updates begin as noise, which nobody will see
        updates = {layer: _update(path, layer, pair, origin[layer], networks, alphas) for layer, pair in pairs.items()}
    return LoRA(updates, scale, few_steps).eval()


def _role(name: str) -> tuple[str, str]:
    """The beginning of a name, and whether it is "down", "up", "alpha" or, as "", none of them."""
    for ending, role in ROLES.items():
        if name.endswith((f".{ending}", f"_{ending}")) and not (role == "alpha" and name.endswith("_alpha")):
            return name[: -len(ending) - 1], role
    return name, ""


def _layers(network: nn.Module) -> list[str]:
    return [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def _sort(
    path: Path, tensors: Mapping[str, Tensor], networks: Mapping[str, nn.Module]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, str]]]:
    """The tensors of each layer by their roles, and their names in the file. Raises CheckpointError for what has no place."""
    known = {f"{part}.{layer}" for part, network in networks.items() for layer in _layers(network)}
    flat = {name.replace(".", "_"): name for name in known}
    pairs: dict[str, dict[str, Tensor]] = {}
    origin: dict[str, dict[str, str]] = {}
    unknown = []
    for name, tensor in tensors.items():
        stem, role = _role(name)
        layer = next((layer for layer in _spellings(stem, flat) if layer in known), "")
        if not (role and layer):
            unknown.append(name)
        elif role in pairs.setdefault(layer, {}):
            raise CheckpointError(f"{path} holds one tensor twice, as {origin[layer][role]} and as {name}")
        else:
            pairs[layer][role] = tensor
            origin.setdefault(layer, {})[role] = name
    if unknown:
        raise CheckpointError(f"{path} does not fit this model\n  {_listed('unexpected', unknown)}")
    return pairs, origin


def _spellings(stem: str, flat: Mapping[str, str]) -> list[str]:
    """What layer the beginning of a name may mean, under our names."""
    for beginning, part in KOHYA.items():
        if stem.startswith(beginning):
            return [flat.get(f"{part}_{stem.removeprefix(beginning)}", "")]
    stem = stem.removeprefix("base_model.model.").replace(".processor.", ".")
    part, _, rest = stem.partition(".")
    parts = (part,) if part in KOHYA.values() else KOHYA.values()
    rest = rest if part in KOHYA.values() else stem  # peft does not say of which network it is
    found = []
    for part in parts:
        if part == "unet":
            found.append(f"unet.{rest}" + (".0" if rest.endswith(".to_out") else ""))
        else:
            head, _, last = rest.removeprefix("text_model.").rpartition(".")  # transformers 5 leaves it out
            found.append(f"text_encoder.text_model.{head}.{OLD_PROJECTIONS.get(last, last)}")
    return found


def _listed(kind: str, names: list[str]) -> str:
    return f"{len(names)} {kind}: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """That of a 1x1 convolution as that of a matrix: the numbers are the same."""
    return tuple(tensor.shape[:2] if tensor.shape[2:] == (1, 1) else tensor.shape)


def _refuse_misfits(
    path: Path,
    pairs: Mapping[str, Mapping[str, Tensor]],
    origin: Mapping[str, Mapping[str, str]],
    networks: Mapping[str, nn.Module],
) -> None:
    """Raises CheckpointError for matrices without the other of their pair, of another shape or kind."""
    alone, shapes, kinds = [], [], []
    for layer, pair in pairs.items():
        names = origin[layer]
        if not {"down", "up"} <= pair.keys():
            alone += list(names.values())
            continue
        weight, rank = find_layer(networks, layer).weight, len(pair["down"]) if pair["down"].ndim else 0
        right = {"down": (rank, *_shape(weight)[1:]), "up": (weight.shape[0], rank), "alpha": ()}
        for role, tensor in pair.items():
            shape = () if role == "alpha" and tensor.numel() == 1 else _shape(tensor)
            if shape != right[role] or not rank:
                shapes.append(f"{names[role]} {shape} instead of {right[role] if rank else '(rank, ...)'}")
            if not tensor.is_floating_point() and (role != "alpha" or tensor.is_complex() or tensor.dtype == torch.bool):
                kinds.append(f"{names[role]} {str(tensor.dtype).removeprefix('torch.')}")
    problems = {"without the other of their pair": alone, "of another shape": shapes, "of another kind": kinds}
    lines = [_listed(kind, names) for kind, names in problems.items() if names]
    if lines:
        raise CheckpointError(f"{path} does not fit this model\n  " + "\n  ".join(lines))


def _update(
    path: Path,
    layer: str,
    pair: Mapping[str, Tensor],
    names: Mapping[str, str],
    networks: Mapping[str, nn.Module],
    alphas: Callable[[str, int], float],
) -> LowRank:
    """The pair as an update of its layer. Raises CheckpointError for numbers that are not finite, in the file or in its dtype."""
    own = find_layer(networks, layer)
    alpha = float(pair["alpha"]) if "alpha" in pair else alphas(layer, len(pair["down"]))
    if not math.isfinite(alpha):
        raise CheckpointError(f"{path}: {names.get('alpha', 'alpha')} is damaged: it is {alpha}")
    update = LowRank(own, len(pair["down"]), alpha)
    for role, matrix in (("down", update.down), ("up", update.up)):
        values = pair[role].to(matrix.weight).reshape(matrix.weight.shape)
        if not values.isfinite().all():
            problem = f"goes beyond {values.dtype}" if pair[role].float().isfinite().all() else "is damaged"
            raise CheckpointError(f"{path}: {names[role]} {problem}: it holds numbers that are not finite")
        matrix.weight = nn.Parameter(values.clone(), requires_grad=False)  # not a part of the file, which may be replaced
    return update


def _alphas(path: Path, metadata: Mapping[str, str]) -> Callable[[str, int], float]:
    """The α of a layer and its rank, by peft's settings in the metadata; without any, the rank."""
    if ADAPTER_METADATA not in metadata:
        return lambda layer, rank: float(rank)
    try:
        settings = json.loads(metadata[ADAPTER_METADATA])
        assert isinstance(settings, dict)
    except (ValueError, AssertionError, RecursionError):
        raise CheckpointError(f"{path}: its metadata {ADAPTER_METADATA!r} is no JSON object") from None

    def alpha(layer: str, rank: int) -> float:
        part, _, name = layer.partition(".")

        def setting(key: str, default: Any) -> Any:
            return settings.get(f"{part}.{key}", settings.get(key, default))

        if setting("use_dora", False):
            raise CheckpointError(f"{path} is a DoRA, which is not supported")
        patterns = setting("alpha_pattern", {})
        value = next((v for k, v in _matching(patterns, name)), setting("lora_alpha", rank))
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e30:
            raise CheckpointError(f"{path}: its metadata says alpha={value!r:.60} of {layer}, which is no number")
        return value * math.sqrt(rank) if setting("use_rslora", False) else float(value)

    return alpha


def _matching(patterns: Any, name: str) -> list[tuple[str, Any]]:
    """The entries of a pattern of peft that name this layer, in full or by its end."""
    entries = patterns.items() if isinstance(patterns, dict) else ()
    return [(k, v) for k, v in entries if name == k.removeprefix("^") or name.endswith(f".{k}")]


# ---- writing


def save_lora(lora: LoRA, path: str | Path, layout: str = "diffusers", dtype: torch.dtype | None = None) -> Path:
    """Write a .safetensors file, in one go. Returns the path.

    layout: "diffusers", for diffusers and peft, also for `load_lora`; or "kohya", which programs such as A1111 and ComfyUI read.
    dtype: of the matrices in the file; None keeps theirs. The scale is not a part of it.

    Raises ValueError for another layout or ending, or a number too large for `dtype`; OSError if it could not be written.
    """
    one_of("layout", layout, LAYOUTS)
    path = as_path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"path={str(path)!r} must end in .safetensors")
    tensors, settings = _kohya(lora) if layout == "kohya" else _diffusers(lora)
    metadata = {ADAPTER_METADATA: json.dumps(settings, indent=2, sort_keys=True)} if settings else {}
    if lora.few_steps is not None:
        metadata[FEW_STEPS] = lora.few_steps.to_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as new:
        write_tensors(new, tensors, dtype, metadata)
    return path


def _kohya(lora: LoRA) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {}
    beginnings = {part: beginning for beginning, part in KOHYA.items()}
    for name, update in lora.by_name().items():
        part, _, layer = name.partition(".")
        stem = beginnings[part] + layer.replace(".", "_")
        tensors[f"{stem}.alpha"] = torch.tensor(update.alpha)
        tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"] = update.down.weight, update.up.weight
    return tensors, {}


def _diffusers(lora: LoRA) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Without settings, where α is the rank: then nobody needs them. In settings, names may be ends of names: those that
    transformers 4 and 5 share."""
    tensors: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    updates = lora.by_name()
    for name, update in updates.items():
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = update.down.weight, update.up.weight
    if all(update.alpha == update.rank for update in updates.values()):
        return tensors, {}
    for part in dict.fromkeys(name.partition(".")[0] for name in updates):
        whole = {name.partition(".")[2]: update for name, update in updates.items() if name.startswith(f"{part}.")}
        own = {layer.removeprefix("text_model."): update for layer, update in whole.items()}
        first = next(iter(own.values()))
        settings[f"{part}.r"], settings[f"{part}.lora_alpha"] = first.rank, _whole(first.alpha)
        settings[f"{part}.target_modules"] = sorted(own)
        settings[f"{part}.rank_pattern"] = {layer: u.rank for layer, u in own.items() if u.rank != first.rank}
        settings[f"{part}.alpha_pattern"] = {layer: _whole(u.alpha) for layer, u in own.items() if u.alpha != first.alpha}
    return tensors, settings


def _whole(alpha: float) -> float | int:
    return int(alpha) if alpha.is_integer() else alpha
