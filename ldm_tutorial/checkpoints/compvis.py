"""CompVis' layout, one file for a whole model (`v1-5-pruned-emaonly.safetensors`): its names as one table, reading, writing.

In that code the U-Net is one list of "input blocks" and one of "output blocks", counted through all levels: `conv_in` is
input block 0, and a downsampler is a block of its own, while an upsampler is the last layer of the block before it. The
decoder's levels are counted from the finest, though the coarsest runs first; ours are counted in the order in which they run.

Such a file holds weights only. Ours adds, in the metadata, what cannot be seen from names and shapes: the configuration, the
scheduler's settings, the tokenizer.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..config import SD15, AutoencoderConfig, CLIPTextConfig, UNetConfig
from .atomic import atomic_path
from .folder import BAD_CONFIG, OLD_NAMES, PARTS, build, read_scheduler, read_tokenizer, save_tokenizer, usual_name
from .tensors import CheckpointError, load_weights, read_tensors, write_tensors

METADATA = "ldm_tutorial"  # our entry, in JSON: the config.json of each network, "scheduler" and "tokenizer"

PREFIX = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.transformer.",
}

# Our name and CompVis' name of each module that has another one there. {i} counts levels, {j} blocks within a level, both as
# in our name; {down}, {up}, {last} and {level} are CompVis' numbers (`_their_numbers`).
MODULES = {
    "unet": {
        "time_embedding.linear_1":             "time_embed.0",
        "time_embedding.linear_2":             "time_embed.2",
        "conv_in":                             "input_blocks.0.0",
        "down_blocks.{i}.resnets.{j}":         "input_blocks.{down}.0",
        "down_blocks.{i}.attentions.{j}":      "input_blocks.{down}.1",
        "down_blocks.{i}.downsamplers.0.conv": "input_blocks.{down}.0.op",
        "mid_block.resnets.0":                 "middle_block.0",
        "mid_block.attentions.0":              "middle_block.1",
        "mid_block.resnets.1":                 "middle_block.2",
        "up_blocks.{i}.resnets.{j}":           "output_blocks.{up}.0",
        "up_blocks.{i}.attentions.{j}":        "output_blocks.{up}.1",
        "up_blocks.{i}.upsamplers.0":          "output_blocks.{up}.{last}",
        "conv_norm_out":                       "out.0",
        "conv_out":                            "out.2",
    },
    "vae": {
        "encoder.down_blocks.{i}.resnets.{j}":    "encoder.down.{i}.block.{j}",
        "encoder.down_blocks.{i}.downsamplers.0": "encoder.down.{i}.downsample",
        "encoder.mid_block.resnets.0":            "encoder.mid.block_1",
        "encoder.mid_block.attentions.0":         "encoder.mid.attn_1",
        "encoder.mid_block.resnets.1":            "encoder.mid.block_2",
        "encoder.conv_norm_out":                  "encoder.norm_out",
        "decoder.mid_block.resnets.0":            "decoder.mid.block_1",
        "decoder.mid_block.attentions.0":         "decoder.mid.attn_1",
        "decoder.mid_block.resnets.1":            "decoder.mid.block_2",
        "decoder.up_blocks.{i}.resnets.{j}":      "decoder.up.{level}.block.{j}",
        "decoder.up_blocks.{i}.upsamplers.0":     "decoder.up.{level}.upsample",
        "decoder.conv_norm_out":                  "decoder.norm_out",
    },
    "text_encoder": {},
}  # fmt: skip

# The same for the layers directly inside those modules.
LAYERS = {
    "unet": {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    },
    "vae": {
        "conv_shortcut": "nin_shortcut",
        "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    },
    "text_encoder": {},
}  # fmt: skip

# CompVis writes the autoencoder's attention as 1x1 convolutions: these weights are (c, c, 1, 1) there, (c, c) here.
CONVOLUTIONS = re.compile(r"first_stage_model\.\w+coder\.mid\.attn_1\.(q|k|v|proj_out)\.weight")

# Other spellings of names in real files: the autoencoder's attention as in diffusers, now and before 2023; a text encoder
# without its outer modules, as transformers 5 and some trainers save it.
SPELLINGS_OF_ATTENTION = LAYERS["vae"] | {old: LAYERS["vae"][new] for old, new in OLD_NAMES.items()}
TEXT_ENCODER = re.compile(r"cond_stage_model\.(transformer\.)?(text_model\.)?(?=(embeddings|encoder|final_layer_norm)\.)")

# What such files hold besides the weights, and nothing here needs.
EXTRAS = (
    "betas", "*alphas_cumprod", "alphas_cumprod_prev", "posterior_*", "lvlb_weights",  # the noise schedule in training
    "ddim_*", "denoiser.sigmas",                                                       # and in sampling
    "logvar", "loss.*",                                                                # of the losses
    "model_ema.*",                                                                     # a moving average, or its counters
    "cond_stage_model.*position_ids",                                                  # the numbers 0 ... 76
    "cond_stage_model.*logit_scale", "cond_stage_model.*text_projection*",             # of CLIP's contrastive head
    "scale_factor",                                                                    # read by `config_of`
)  # fmt: skip

# Where a size stands: in which dimension of which tensor.
TEXT_MODEL = "text_model.embeddings."
SIZES = {
    "unet": {
        "in_channels": ("input_blocks.0.0.weight", 1), "out_channels": ("out.2.weight", 0),
        "cross_attention_dim": ("middle_block.1.transformer_blocks.0.attn2.to_k.weight", 1),
    },
    "vae": {
        "in_channels": ("encoder.conv_in.weight", 1), "out_channels": ("decoder.conv_out.weight", 0),
        "latent_channels": ("post_quant_conv.weight", 0),
    },
    "text_encoder": {
        "vocab_size": (TEXT_MODEL + "token_embedding.weight", 0), "hidden_size": (TEXT_MODEL + "token_embedding.weight", 1),
        "max_position_embeddings": (TEXT_MODEL + "position_embedding.weight", 0),
        "intermediate_size": ("text_model.encoder.layers.0.mlp.fc1.weight", 0),
    },
}  # fmt: skip

FOREIGN = {  # starts of names that only other models have
    "conditioner.": "Stable Diffusion XL",
    "cond_stage_model.model.": "Stable Diffusion 2",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
    "model.diffusion_model.double_blocks.": "FLUX",
    "double_blocks.": "FLUX",
    "control_model.": "ControlNet",
    "lora_": "LoRA",
}


def ldm_name(part: str, name: str, config: UNetConfig | AutoencoderConfig | CLIPTextConfig) -> str:
    """CompVis' name of a tensor: ("unet", "conv_in.weight", SD15.unet) -> "model.diffusion_model.input_blocks.0.0.weight" """
    for ours, theirs in MODULES[part].items():
        pattern = re.escape(ours).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{j\}", r"(?P<j>\d+)") + r"\."
        match = re.match(pattern, name)
        if match:
            numbers = {letter: int(digits) for letter, digits in match.groupdict().items()}
            layer = name[match.end() :]  # "norm1.weight"
            for our_layer, their_layer in LAYERS[part].items():
                if layer.startswith(our_layer + "."):
                    layer = their_layer + layer[len(our_layer) :]
            name = theirs.format(**numbers, **_their_numbers(config, **numbers)) + "." + layer
            break
    return PREFIX[part] + name


def _their_numbers(config: UNetConfig | AutoencoderConfig, i: int = 0, j: int | None = None) -> dict[str, int]:
    """What stands for {down}, {up}, {last} and {level}. A down- or upsampler, which has no j, follows the level's blocks."""
    levels, layers = len(config.block_out_channels), config.layers_per_block
    level = levels - 1 - i
    if isinstance(config, AutoencoderConfig):
        return {"level": level}
    block = i * (layers + 1) + (layers if j is None else j)
    return {"down": 1 + block, "up": block, "last": 2 if config.attention_levels[level] else 1}


def is_extra(name: str) -> bool:
    """Whether a tensor is none of the three networks' weights, and can be left out."""
    return any(fnmatchcase(name.removeprefix(PREFIX["vae"]), pattern) for pattern in EXTRAS)


def canonical(name: str) -> str:
    """A name as in the official file."""
    attention = re.fullmatch(r"(first_stage_model\..*\.mid\.attn_1\.)(.+)(\.\w+)", name)
    if attention:
        return attention[1] + SPELLINGS_OF_ATTENTION.get(attention[2], attention[2]) + attention[3]
    return TEXT_ENCODER.sub(PREFIX["text_encoder"] + "text_model.", name, count=1)


def to_ldm(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """All tensors of the networks, by CompVis' names and in CompVis' shapes. `networks` has the keys of `PREFIX`."""
    tensors = {}
    for part, network in networks.items():
        for ours, tensor in network.state_dict().items():
            name = ldm_name(part, ours, network.config)
            tensors[name] = tensor[:, :, None, None] if CONVOLUTIONS.fullmatch(name) else tensor
    return tensors


def config_of(part: str, tensors: Mapping[str, Tensor]) -> Any:
    """The configuration that one network must have had, from the `canonical` names and the shapes in a file.

    What no shape tells is Stable Diffusion's: eight heads in the U-Net, heads of 64 channels in the text encoder, groups of
    32 channels. The latent scale is v1's, unless the file holds one.
    Raises LookupError if a tensor that every such file has is not there, ValueError if the sizes do not go together.
    """
    tensors = {name.removeprefix(PREFIX[part]): tensor for name, tensor in tensors.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    sizes: dict[str, Any] = {field: shapes[name][dimension] for field, (name, dimension) in SIZES[part].items()}

    def count(pattern: str) -> int:
        return len([name for name in shapes if re.fullmatch(pattern, name)])

    if part == "text_encoder":
        layers = count(r"text_model\.encoder\.layers\.\d+\.mlp\.fc1\.weight")
        return CLIPTextConfig(**sizes, num_hidden_layers=layers, num_attention_heads=max(sizes["hidden_size"] // 64, 1))
    if part == "vae":
        down, block = ("down_blocks", "resnets") if any(".down_blocks." in name for name in shapes) else ("down", "block")
        levels = range(count(rf"encoder\.{down}\.\d+\.{block}\.0\.conv2\.weight"))
        sizes["block_out_channels"] = tuple(shapes[f"encoder.{down}.{i}.{block}.0.conv2.weight"][0] for i in levels)
        sizes["layers_per_block"] = count(rf"encoder\.{down}\.0\.{block}\.\d+\.conv2\.weight")
        scale: dict[str, Any] = {"scaling_factor": tensors["scale_factor"].item()} if "scale_factor" in tensors else {}
        return AutoencoderConfig(**sizes, **scale)
    levels = range(count(r"input_blocks\.\d+\.0\.op\.weight") + 1)
    stride = count(r"input_blocks\.\d+\.0\.(in_layers\.0|op)\.weight") // len(levels) + 1  # residual blocks and a downsampler
    last = shapes["middle_block.0.out_layers.3.weight"]  # has the channels of the last level, which has no downsampler
    sizes["block_out_channels"] = tuple(shapes.get(f"input_blocks.{(i + 1) * stride}.0.op.weight", last)[0] for i in levels)
    sizes["attention_levels"] = tuple(f"input_blocks.{1 + i * stride}.1.norm.weight" in shapes for i in levels)
    return UNetConfig(**sizes, layers_per_block=stride - 1)


def read_file(
    path: Path, device: torch.device, dtype: torch.dtype, parts: Sequence[str], configs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """These networks, and what makes "tokenizer" and "scheduler" if the file holds them. An autoencoder may be alone in it.

    configs: of the networks; else as the metadata, or names and shapes, tell. Raises FileNotFoundError, CheckpointError.
    """
    tensors, metadata = read_tensors(path)
    for start, kind in FOREIGN.items():
        if any(name.startswith(start) for name in tensors):
            raise CheckpointError(f"{path} is of another kind, {kind}; only Stable Diffusion v1 models can be loaded")
    outer = PREFIX["vae"] if list(parts) == ["vae"] and not any(n.startswith(PREFIX["vae"]) for n in tensors) else ""
    official = {name: canonical(outer + name) for name in tensors}
    others = tuple(prefix for part, prefix in PREFIX.items() if part not in parts)
    weights = {n: t for n, t in tensors.items() if not (is_extra(official[n]) or official[n].startswith(others))}
    absent = [part for part in parts if not any(official[name].startswith(PREFIX[part]) for name in weights)]
    if absent:
        hint = "; a file of one network is read as part of a diffusers folder" if len(absent) == len(PARTS) else ""
        hint = "; the argument vae takes the path of one, a file or a folder" if absent == ["vae"] else hint
        missing = ", no ".join(f"{part} ({PREFIX[part]}...)" for part in absent)
        raise CheckpointError(f"{path} is not a whole model: it has no {missing}{hint}")
    try:
        stated = json.loads(metadata.get(METADATA, "{}"))
    except (ValueError, RecursionError):
        stated = None
    if not isinstance(stated, dict) or not all(isinstance(value, dict) for value in stated.values()):
        raise CheckpointError(f"{path}: the metadata {METADATA!r} are not what `save_checkpoint` writes")
    try:
        known: dict[str, Any] = {part: PARTS[part].config.from_dict(stated[part]) for part in parts if part in stated}
        known |= configs or {}
        by_name = {official[name]: tensor for name, tensor in tensors.items()}
        known |= {part: config_of(part, by_name) for part in parts if part not in known}
    except LookupError:
        known = {part: getattr(SD15, part) for part in parts}  # too little is there to tell: `load_weights` will say what
    except BAD_CONFIG as error:
        raise CheckpointError(f"{path}: {error}") from error
    for name in weights:
        inner = official[name].removeprefix(PREFIX["vae"])
        if inner != official[name]:  # perhaps in diffusers' names
            official[name] = ldm_name("vae", usual_name("vae", inner), known["vae"])
    networks = {part: build(path, part, known[part]) for part in parts}
    names = {ldm_name(part, ours, known[part]): f"{part}.{ours}" for part in parts for ours in networks[part].state_dict()}
    load_weights(nn.ModuleDict(networks), weights, path, device, dtype, official, names)
    if "scheduler" in stated:
        networks["scheduler"] = partial(read_scheduler, path, stated["scheduler"])
    if "tokenizer" in stated and "text_encoder" in parts:
        networks["tokenizer"] = _unpack_tokenizer(path, stated["tokenizer"], known["text_encoder"].vocab_size)
    return networks


def is_model(path: Path) -> bool:
    """Whether this is a .safetensors file in this layout that is all there, by its header."""
    try:
        with safe_open(path, framework="pt") as file:
            return any(name.startswith(PREFIX["unet"]) for name in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return False


def _unpack_tokenizer(source: object, files: Mapping[str, str], vocab_size: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            if not re.fullmatch(r"\w{1,200}\.(json|txt)", name, re.ASCII) or not isinstance(text, str):
                raise CheckpointError(f"{source}: {name!r} is not a file of a tokenizer")
            (Path(folder) / name).write_bytes(text.encode(errors="replace"))
        try:
            return read_tokenizer(Path(folder), vocab_size)
        except (FileNotFoundError, CheckpointError) as error:
            raise CheckpointError(f"{source}: the tokenizer in its metadata: {error}") from error


def write_file(path: Path, parts: Mapping[str, Any], dtype: torch.dtype | None) -> None:
    """The three networks, and what else of "tokenizer" and "scheduler" is among `parts`. Raises OSError, ValueError."""
    stated = {name: parts[name].config.to_dict() for name in PARTS}
    if "scheduler" in parts:
        stated["scheduler"] = parts["scheduler"].to_config()
    if "tokenizer" in parts:
        with tempfile.TemporaryDirectory() as folder:
            save_tokenizer(Path(folder), parts["tokenizer"])
            stated["tokenizer"] = {file.name: file.read_text(encoding="utf-8") for file in Path(folder).iterdir()}
    with atomic_path(path) as new:
        write_tensors(new, to_ldm({name: parts[name] for name in PARTS}), dtype, {METADATA: json.dumps(stated)})
