"""The single-file layout of CompVis' latent diffusion code (`v1-5-pruned-emaonly.safetensors`), as one table of names.

In that code the U-Net is one list of "input blocks" and one of "output blocks", counted through all levels: `conv_in` is
input block 0, and a downsampler is a block of its own, while an upsampler is the last layer of the block before it. The
decoder's levels are counted from the finest, though the coarsest runs first; ours are counted in the order in which they run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import Tensor, nn

from ..config import AutoencoderConfig, CLIPTextConfig, StableDiffusionConfig, UNetConfig

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

# What such files hold besides the weights, and nothing here needs: the noise schedule, the numbers 0 ... 76, and in
# v1-5-pruned a moving average of the U-Net's weights (of which the emaonly file keeps two counters).
EXTRAS = (
    "betas", "*alphas_cumprod", "alphas_cumprod_prev", "posterior_*", "model_ema.*", "*.embeddings.position_ids",
    "scale_factor",  # read by `config_of`
)  # fmt: skip

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
    return any(fnmatchcase(name, pattern) for pattern in EXTRAS)


def canonical(name: str) -> str:
    """A name as in the official file. transformers 5 leaves `text_model.` out, and so do files made with its classes."""
    prefix = PREFIX["text_encoder"]
    bare = name.startswith(prefix) and not name.startswith(prefix + "text_model.")
    return f"{prefix}text_model.{name[len(prefix) :]}" if bare else name


def to_ldm(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """All tensors of the networks, by CompVis' names and in CompVis' shapes. `networks` has the keys of `PREFIX`."""
    tensors = {}
    for part, network in networks.items():
        for ours, tensor in network.state_dict().items():
            name = ldm_name(part, ours, network.config)
            tensors[name] = tensor[:, :, None, None] if CONVOLUTIONS.fullmatch(name) else tensor
    return tensors


def from_ldm(part: str, network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one network, by our names and in our shapes, out of those that `to_ldm` gives."""
    return {
        ours: tensors[ldm_name(part, ours, network.config)].reshape(tensor.shape) for ours, tensor in network.state_dict().items()
    }


def config_of(tensors: Mapping[str, Tensor]) -> StableDiffusionConfig:
    """The configuration that such a file must have been written with, from its names and shapes.

    What no shape tells is Stable Diffusion's: eight heads in the U-Net, heads of 64 channels in the text encoder, groups of
    32 channels. The latent scale is v1's, unless the file holds one.

    Raises:
        KeyError: a tensor that every such file has is not there.
        ValueError: the sizes do not go together.
    """
    unet, vae, text = ({k[len(p) :]: tuple(t.shape) for k, t in tensors.items() if k.startswith(p)} for p in PREFIX.values())
    downsamplers = _numbers(r"input_blocks\.(\d+)\.0\.op\.weight", unet)
    channels = [unet[f"input_blocks.{n}.0.op.weight"][0] for n in downsamplers] + [unet["middle_block.0.out_layers.3.weight"][0]]
    layers = (downsamplers or [len(_numbers(r"input_blocks\.(\d+)\.0\.in_layers\.0\.weight", unet)) + 1])[0] - 1
    width = text["text_model.embeddings.token_embedding.weight"][1]
    scale = tensors.get("scale_factor")
    return StableDiffusionConfig(
        AutoencoderConfig(
            in_channels=vae["encoder.conv_in.weight"][1],
            out_channels=vae["decoder.conv_out.weight"][0],
            latent_channels=vae["post_quant_conv.weight"][0],
            block_out_channels=tuple(
                vae[f"encoder.down.{i}.block.0.conv2.weight"][0]
                for i in _numbers(r"encoder\.down\.(\d+)\.block\.0\.conv2\.weight", vae)
            ),
            layers_per_block=len(_numbers(r"encoder\.down\.0\.block\.(\d+)\.conv2\.weight", vae)),
            **({} if scale is None else {"scaling_factor": scale.item()}),
        ),
        UNetConfig(
            in_channels=unet["input_blocks.0.0.weight"][1],
            out_channels=unet["out.2.weight"][0],
            block_out_channels=tuple(channels),
            attention_levels=tuple(f"input_blocks.{1 + i * (layers + 1)}.1.norm.weight" in unet for i in range(len(channels))),
            layers_per_block=layers,
            cross_attention_dim=unet["middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1],
        ),
        CLIPTextConfig(
            vocab_size=text["text_model.embeddings.token_embedding.weight"][0],
            hidden_size=width,
            intermediate_size=text["text_model.encoder.layers.0.mlp.fc1.weight"][0],
            num_hidden_layers=len(_numbers(r"text_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.weight", text)),
            num_attention_heads=max(width // 64, 1),
            max_position_embeddings=text["text_model.embeddings.position_embedding.weight"][0],
        ),
    )  # fmt: skip


def _numbers(pattern: str, names: Mapping[str, object]) -> list[int]:
    """The numbers that names of this pattern hold, in order."""
    return sorted(int(match[1]) for match in (re.fullmatch(pattern, name) for name in names) if match)
