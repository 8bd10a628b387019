"""The numbers of a latent diffusion model, and nothing else.

Three frozen dataclasses describe the three networks. Two presets fill them in: `SD15` is Stable Diffusion v1.5, `EMOJI`
the same machine at about 1/50 of the size. `to_dict` and `from_dict` write and read the `config.json` files of diffusers
(autoencoder, U-Net) and transformers (text encoder).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1  # True is no number here


def _kind_of(default: object) -> tuple[str, Callable[[Any], bool]]:
    """What a field with this default may hold, in words and as a test: its default is an example of it."""
    if isinstance(default, int):
        low = min(default, 1)
        return f"a whole number, {low} or more", lambda v: type(v) is int and v >= low
    if isinstance(default, float):
        return "a finite number above 0", lambda v: type(v) in (int, float) and 0 < v < math.inf
    assert isinstance(default, tuple)
    if isinstance(default[0], bool):
        return "a tuple of True and False", lambda v: isinstance(v, tuple) and v != () and all(type(x) is bool for x in v)
    return "a tuple of whole numbers, 1 or more", lambda v: isinstance(v, tuple) and v != () and all(map(_is_count, v))


@dataclass(frozen=True)
class _JSONConfig:
    """Shared by the three configurations: reading and writing `config.json`, and checking each field by itself.

    `FIXED` holds the options that other models switch and Stable Diffusion v1 does not. They are written to the file so that
    diffusers builds the same network, and checked when a file is read, so that a model of another kind is refused by name
    instead of being computed wrongly.
    """

    FIXED: ClassVar[dict[str, Any]] = {}
    # What older files leave out. Nothing else is guessed: a wrong number of heads would fit every weight.
    MAY_BE_MISSING: ClassVar = ("sample_size", "scaling_factor", "projection_dim", "bos_token_id", "eos_token_id")

    def __post_init__(self) -> None:
        for f in fields(self):
            value, (allowed, holds) = getattr(self, f.name), _kind_of(f.default)
            if not holds(value):
                raise ValueError(f"{type(self).__name__}: {f.name}={value!r} must be {allowed}")

    def _check_divides(self, divisor: str, dimension: str) -> None:
        """One field divides another, or each number in it. Raises ValueError."""
        number, sizes = getattr(self, divisor), getattr(self, dimension)
        for size in sizes if isinstance(sizes, tuple) else [sizes]:
            if size % number:
                which = f"{size}, one of {dimension}={sizes}" if isinstance(sizes, tuple) else f"{dimension}={size}"
                raise ValueError(f"{type(self).__name__}: {divisor}={number} does not divide {which}")

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return {**self.FIXED, **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read the content of a `config.json`. Keys that do not change the arithmetic are ignored.

        Raises:
            ValueError: an option has a value that this architecture does not have, or a dimension is missing.
        """
        if not isinstance(values, dict):
            raise ValueError(f"{cls.__name__}: a config.json holds an object, not a {type(values).__name__}")
        for key, allowed in cls.FIXED.items():
            value = values.get(key, allowed)
            if (value or None) != (allowed or None):  # null, false and 0 all say that it is off
                raise ValueError(f"{cls.__name__}: {key}={value!r} is not a Stable Diffusion v1 network, which has {allowed!r}")
        values = cls._from_file(values)
        own = {f.name: values[f.name] for f in fields(cls) if values.get(f.name) is not None}
        missing = [f.name for f in fields(cls) if f.name not in own and f.name not in cls.MAY_BE_MISSING]
        if missing:
            raise ValueError(f"{cls.__name__}: a config.json must also say {', '.join(missing)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in own.items()})

    @classmethod
    def _from_file(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The file's content under the names of our fields."""
        return values


@dataclass(frozen=True)
class AutoencoderConfig(_JSONConfig):
    """The variational autoencoder: pictures to latents and back (Rombach et al. 2022, section 3.1)."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)  # one level each; all but the last halve the picture
    layers_per_block: int = 2  # residual blocks a level in the encoder; the decoder has one more
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215  # 1 / standard deviation of the training latents
    sample_size: int = 512  # pixels

    FIXED: ClassVar[dict[str, Any]] = {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "use_quant_conv": True,
        "use_post_quant_conv": True,
        "mid_block_add_attention": True,
        "shift_factor": None,
        "latents_mean": None,
        "latents_std": None,
    }
    BLOCK_TYPES: ClassVar[dict[str, str]] = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_divides("norm_num_groups", "block_out_channels")

    @property
    def downsampling(self) -> int:
        """f of the paper: pixels per latent, along each side."""
        return 2 ** (len(self.block_out_channels) - 1)

    def to_dict(self) -> dict[str, Any]:
        types = {key: [name] * len(self.block_out_channels) for key, name in self.BLOCK_TYPES.items()}
        return {**super().to_dict(), **types}

    @classmethod
    def _from_file(cls, values: dict[str, Any]) -> dict[str, Any]:
        for key, name in cls.BLOCK_TYPES.items():
            names = values.get(key, [name])
            if not isinstance(names, (list, tuple)) or any(n != name for n in names):
                raise ValueError(f"AutoencoderConfig: {key}={names!r} must be a list of nothing but {name!r}")
        return values


@dataclass(frozen=True)
class UNetConfig(_JSONConfig):
    """The noise predictor (Rombach et al. 2022, section 3.2 and table 15)."""

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)  # which levels have spatial transformers
    layers_per_block: int = 2  # residual blocks a level on the way down; one more on the way up
    num_attention_heads: int = 8
    cross_attention_dim: int = 768  # width of the text encoder's states
    norm_num_groups: int = 32
    sample_size: int = 64  # latents

    FIXED: ClassVar[dict[str, Any]] = {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "center_input_sample": False,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "dropout": 0.0,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "use_linear_projection": False,
        "only_cross_attention": False,
        "dual_cross_attention": False,
        "transformer_layers_per_block": 1,
        "resnet_time_scale_shift": "default",
        "time_embedding_type": "positional",
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "upcast_attention": False,
        "attention_type": "default",
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1.0,
        "class_embeddings_concat": False,
        "class_embed_type": None,
        "addition_embed_type": None,
        "encoder_hid_dim_type": None,
        "time_embedding_dim": None,
        "time_cond_proj_dim": None,
        "time_embedding_act_fn": None,
        "timestep_post_act": None,
        "num_class_embeds": None,
        "encoder_hid_dim": None,
        "reverse_transformer_layers_per_block": None,
        "cross_attention_norm": None,
        "mid_block_only_cross_attention": None,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_divides("norm_num_groups", "block_out_channels")
        if self.block_out_channels[0] % 2:
            raise ValueError(
                f"UNetConfig: block_out_channels={self.block_out_channels} must begin with an even number: "
                "that many cosines and sines, in pairs, tell the timestep"
            )
        if len(self.attention_levels) != len(self.block_out_channels):
            raise ValueError(
                f"UNetConfig: attention_levels={self.attention_levels} needs one entry for each of the "
                f"{len(self.block_out_channels)} block_out_channels"
            )
        self._check_divides("num_attention_heads", "block_out_channels")

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        levels = values.pop("attention_levels")
        values["down_block_types"] = ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in levels]
        values["up_block_types"] = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(levels)]
        # diffusers keeps the number of heads under the name of their size (diffusers issue 2011)
        values["attention_head_dim"] = values.pop("num_attention_heads")
        return values

    @classmethod
    def _from_file(cls, values: dict[str, Any]) -> dict[str, Any]:
        known = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
        names = values.get("down_block_types")
        if not isinstance(names, (list, tuple)) or any(n not in list(known) for n in names):
            raise ValueError(f"UNetConfig: down_block_types={names!r} must be a list of {' or '.join(known)}")
        levels = tuple(known[name] for name in names)
        expected = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(levels)]
        up = values.get("up_block_types", expected)
        if not isinstance(up, (list, tuple)) or list(up) != expected:
            raise ValueError(f"UNetConfig: up_block_types={up!r} do not mirror down_block_types={names!r}")
        heads = values.get("num_attention_heads") or values.get("attention_head_dim") or cls.num_attention_heads
        if isinstance(heads, (list, tuple)):
            raise ValueError(
                f"UNetConfig: attention_head_dim={heads!r} must be one number for all levels, as in Stable Diffusion v1"
            )
        return {**values, "attention_levels": levels, "num_attention_heads": heads}


CLIP_VOCABULARY = 49408  # entries, of which the last two begin and end every prompt


@dataclass(frozen=True)
class CLIPTextConfig(_JSONConfig):
    """The text encoder (Radford et al. 2021, section 2.4): a causal transformer over 77 tokens."""

    vocab_size: int = CLIP_VOCABULARY
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    projection_dim: int = 768  # of the contrastive head, which Stable Diffusion does not use
    # The tokens that begin and end every prompt; the latter also fills it up to 77. -1: CLIP's own, 49406 and 49407, even where
    # others were added behind them, or the last two of a smaller vocabulary
    bos_token_id: int = -1
    eos_token_id: int = -1

    FIXED: ClassVar[dict[str, Any]] = {
        "model_type": "clip_text_model",
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_divides("num_attention_heads", "hidden_size")
        for name, from_the_end in (("bos_token_id", 2), ("eos_token_id", 1)):
            if getattr(self, name) == -1:
                object.__setattr__(self, name, max(min(self.vocab_size, CLIP_VOCABULARY) - from_the_end, 0))
            elif getattr(self, name) >= self.vocab_size:
                raise ValueError(f"CLIPTextConfig: {name}={getattr(self, name)} is not below vocab_size={self.vocab_size}")

    def to_dict(self) -> dict[str, Any]:
        return {"architectures": ["CLIPTextModel"], **super().to_dict(), "pad_token_id": self.eos_token_id}

    @classmethod
    def _from_file(cls, values: dict[str, Any]) -> dict[str, Any]:
        # transformers wrote 0 and 2 for CLIP's vocabulary, too, until 2023: in the official file of v1.5, for one
        size, never = values.get("vocab_size"), {"bos_token_id": 0, "eos_token_id": 2}
        wrong = [key for key in never if values.get(key) == never[key] and _is_count(size) and size >= CLIP_VOCABULARY]
        return {key: value for key, value in values.items() if key not in wrong}


@dataclass(frozen=True)
class StableDiffusionConfig:
    """The three networks of one model."""

    vae: AutoencoderConfig
    unet: UNetConfig
    text_encoder: CLIPTextConfig


SD15 = StableDiffusionConfig(AutoencoderConfig(), UNetConfig(), CLIPTextConfig())
"""Stable Diffusion v1.5: 512x512 pictures, 64x64 latents, 1,066,235,307 parameters."""

EMOJI = StableDiffusionConfig(
    vae=AutoencoderConfig(
        block_out_channels=(32, 64, 96, 128), layers_per_block=1, norm_num_groups=16, scaling_factor=1.0, sample_size=128
    ),
    unet=UNetConfig(
        block_out_channels=(128, 192, 256),
        attention_levels=(False, True, True),
        layers_per_block=1,
        num_attention_heads=4,
        cross_attention_dim=192,
        norm_num_groups=16,
        sample_size=16,
    ),
    text_encoder=CLIPTextConfig(
        vocab_size=2560, hidden_size=192, intermediate_size=768, num_hidden_layers=3, num_attention_heads=3, projection_dim=128
    ),
)
"""The model this project trains: 128x128 pictures, 16x16 latents."""
