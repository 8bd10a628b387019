"""The numbers of a latent diffusion model: three networks, and two presets, Stable Diffusion v1.5 and 1/40 of its size.

`to_dict` and `from_dict` write and read the `config.json` of diffusers (autoencoder, U-Net) and transformers (text encoder).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self


def _kind_of(default: object) -> tuple[str, Callable[[Any], bool]]:
    """What a field with this default may hold, in words and as a test: its default is an example of it."""
    if isinstance(default, int):
        low = min(default, 1)
        return f"a whole number, {low} or more", lambda v: type(v) is int and v >= low  # True is no number here
    if isinstance(default, float):
        return "a finite number above 0", lambda v: type(v) in (int, float) and 0 < v < math.inf
    assert isinstance(default, tuple)
    if isinstance(default[0], bool):
        return "a tuple of True and False", lambda v: isinstance(v, tuple) and v != () and all(type(x) is bool for x in v)
    counts = "a tuple of whole numbers, 1 or more"
    return counts, lambda v: isinstance(v, tuple) and v != () and all(type(x) is int and x >= 1 for x in v)


@dataclass(frozen=True)
class _JSONConfig:
    """Shared by the three configurations: reading and writing `config.json`, and checking each field by itself."""

    # Options that other models change. They are written, so that diffusers builds the same network, and checked when a file is
    # read, so that a model of another kind is refused by name instead of being computed wrongly.
    FIXED: ClassVar[dict[str, Any]] = {}
    # What older files leave out. Nothing else is guessed: a wrong number of heads would fit every weight.
    MAY_BE_MISSING: ClassVar = ("sample_size", "scaling_factor", "projection_dim", "bos_token_id", "eos_token_id")

    # More than any such network has. A damaged file may say 10 to the power of 7, and must be refused before it is built
    MOST: ClassVar[dict[str, int]] = {"layers_per_block": 100, "num_hidden_layers": 1000, "sample_size": 2**14}
    MOST_LEVELS: ClassVar[int] = 16

    # (a, b): field a divides field b, or each number in it
    DIVIDES: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __post_init__(self) -> None:
        for f in fields(self):
            value, (allowed, holds) = getattr(self, f.name), _kind_of(f.default)
            if not holds(value):
                raise ValueError(f"{type(self).__name__}: {f.name}={value!r:.60} must be {allowed}")
            if isinstance(value, tuple) and len(value) > self.MOST_LEVELS:
                raise ValueError(f"{type(self).__name__}: {f.name} has {len(value)} levels, not 1 ... {self.MOST_LEVELS} levels")
            if f.name in self.MOST and value > self.MOST[f.name]:
                raise ValueError(f"{type(self).__name__}: {f.name}={value:.3g} must be 1 ... {self.MOST[f.name]}")
        for divisor, dimension in self.DIVIDES:
            number, sizes = getattr(self, divisor), getattr(self, dimension)
            for size in sizes if isinstance(sizes, tuple) else [sizes]:
                if size % number:
                    which = f"{size}, one of {dimension}={sizes}" if isinstance(sizes, tuple) else f"{dimension}={size}"
                    raise ValueError(f"{type(self).__name__}: {divisor}={number} does not divide {which}")

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return {**self.FIXED, **asdict(self), **self._block_types()}

    def _block_types(self) -> dict[str, list[str]]:
        """The classes of diffusers that make up the levels, one for each."""
        return {}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From the content of a `config.json`, of which keys that do not change the arithmetic are ignored.

        Raises ValueError if an option has a value that this architecture does not have, or a dimension is missing.
        """
        if not isinstance(values, dict):
            raise ValueError(f"{cls.__name__}: a config.json holds an object, not a {type(values).__name__}")
        cls._refuse_others(values, cls.FIXED)
        values = cls._from_file({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()})
        own = {f.name: values[f.name] for f in fields(cls) if values.get(f.name) is not None}
        missing = [f.name for f in fields(cls) if f.name not in own and f.name not in cls.MAY_BE_MISSING]
        if missing:
            raise ValueError(f"{cls.__name__}: a config.json must also say {', '.join(missing)}")
        config = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in own.items()})
        cls._refuse_others(values, config._block_types())
        return config

    @classmethod
    def _refuse_others(cls, values: dict[str, Any], expected: dict[str, Any]) -> None:
        """Raises ValueError for an option that the file gives another value than Stable Diffusion v1 has."""
        for key, allowed in expected.items():
            value = values.get(key, allowed)
            if (value or None) != (allowed or None):  # null, false and 0 all say that it is off
                raise ValueError(f"{cls.__name__}: {key}={value!r} is not a Stable Diffusion v1 network, which has {allowed!r}")

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
    DIVIDES = (("norm_num_groups", "block_out_channels"),)

    @property
    def downsampling(self) -> int:
        """f of the paper: pixels per latent, along each side."""
        return 2 ** (len(self.block_out_channels) - 1)

    def _block_types(self) -> dict[str, list[str]]:
        levels = len(self.block_out_channels)
        return {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}


# Options of diffusers' U-Net that other models switch on, and additions that they need
SWITCHED_OFF = """
    use_linear_projection only_cross_attention dual_cross_attention center_input_sample upcast_attention resnet_skip_time_act
    class_embeddings_concat
""".split()
LEFT_OUT = """
    class_embed_type num_class_embeds addition_embed_type encoder_hid_dim encoder_hid_dim_type cross_attention_norm
    time_embedding_dim time_embedding_act_fn time_cond_proj_dim timestep_post_act mid_block_only_cross_attention
    reverse_transformer_layers_per_block
""".split()


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
        **dict.fromkeys(SWITCHED_OFF, False),
        "act_fn": "silu",
        "norm_eps": 1e-5,
        "dropout": 0.0,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "time_embedding_type": "positional",
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        **dict.fromkeys(["conv_in_kernel", "conv_out_kernel"], 3),
        **dict.fromkeys(["attention_type", "resnet_time_scale_shift"], "default"),
        **dict.fromkeys(["downsample_padding", "mid_block_scale_factor", "transformer_layers_per_block"], 1),
        "resnet_out_scale_factor": 1.0,
        **dict.fromkeys(LEFT_OUT, None),
    }
    DIVIDES = (("norm_num_groups", "block_out_channels"), ("num_attention_heads", "block_out_channels"))

    def __post_init__(self) -> None:
        super().__post_init__()
        widths, levels = self.block_out_channels, self.attention_levels
        if widths[0] % 2:
            raise ValueError(f"UNetConfig: block_out_channels={widths} must begin with an even number, for cosine-sine pairs")
        if len(levels) != len(widths):
            raise ValueError(
                f"UNetConfig: attention_levels={levels} needs one entry for each of the {len(widths)} block_out_channels"
            )

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        del values["attention_levels"]  # the types of the blocks say it
        # diffusers keeps the number of heads under the name of their size (diffusers issue 2011)
        values["attention_head_dim"] = values.pop("num_attention_heads")
        return values

    def _block_types(self) -> dict[str, list[str]]:
        down = ["CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in self.attention_levels]
        up = ["CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(self.attention_levels)]
        return {"down_block_types": down, "up_block_types": up}

    @classmethod
    def _from_file(cls, values: dict[str, Any]) -> dict[str, Any]:
        known = ["DownBlock2D", "CrossAttnDownBlock2D"]
        names = values.get("down_block_types")
        if not isinstance(names, list) or any(name not in known for name in names):
            raise ValueError(f"UNetConfig: down_block_types={names!r} must be a list of {' or '.join(known)}")
        heads = values.get("num_attention_heads") or values.get("attention_head_dim") or cls.num_attention_heads
        if isinstance(heads, list):
            raise ValueError(f"UNetConfig: attention_head_dim={heads!r} must be one number, the same for all levels")
        levels = tuple(name == "CrossAttnDownBlock2D" for name in names)
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
    DIVIDES = (("num_attention_heads", "hidden_size"),)

    def __post_init__(self) -> None:
        super().__post_init__()
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
        size, never = values.get("vocab_size"), (("bos_token_id", 0), ("eos_token_id", 2))
        clips = type(size) is int and size >= CLIP_VOCABULARY
        return {key: value for key, value in values.items() if not (clips and (key, value) in never)}


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
        block_out_channels=(32, 64, 96, 128), layers_per_block=1, norm_num_groups=16, scaling_factor=1.08016, sample_size=128
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
