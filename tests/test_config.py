"""The configurations: what they refuse, and that their files mean the same to diffusers and transformers."""

import dataclasses
import inspect
import json
import math
import warnings

import diffusers
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm_tutorial.config import EMOJI, SD15, AutoencoderConfig, CLIPTextConfig, UNetConfig
from ldm_tutorial.data import dataset
from ldm_tutorial.unet import UNet
from ldm_tutorial.vae import AutoencoderKL

# The three files of Stable Diffusion v1.5, as they were published in 2022: fewer keys than today's libraries write.
OFFICIAL_UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}
OFFICIAL_VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
OFFICIAL_TEXT_ENCODER = {
    "_name_or_path": "openai/clip-vit-large-patch14",
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "projection_dim": 768,
    "torch_dtype": "float32",
    "transformers_version": "4.22.0.dev0",
    "vocab_size": 49408,
}
OFFICIAL = [(SD15.unet, OFFICIAL_UNET), (SD15.vae, OFFICIAL_VAE), (SD15.text_encoder, OFFICIAL_TEXT_ENCODER)]
PRESETS = [SD15.unet, SD15.vae, SD15.text_encoder, EMOJI.unet, EMOJI.vae, EMOJI.text_encoder]


def name(value):
    return type(value).__name__ if dataclasses.is_dataclass(value) else None


# ---- files


@pytest.mark.parametrize(("preset", "file"), OFFICIAL, ids=name)
def test_official_files_of_v15_are_the_preset(preset, file):
    assert type(preset).from_dict(file) == preset


@pytest.mark.parametrize("preset", PRESETS, ids=name)
def test_a_configuration_survives_its_file(preset):
    assert type(preset).from_dict(json.loads(json.dumps(preset.to_dict()))) == preset


@pytest.mark.parametrize("preset", [EMOJI.unet, SD15.unet, EMOJI.vae, SD15.vae], ids=name)
def test_diffusers_reads_our_file_with_nothing_to_remark_and_we_read_what_it_writes(preset, caplog):
    cls = getattr(diffusers, preset.to_dict()["_class_name"])
    with torch.device("meta"), warnings.catch_warnings(), caplog.at_level("WARNING"):
        warnings.simplefilter("error")
        model = cls.from_config(preset.to_dict())
    assert not caplog.records
    assert type(preset).from_dict(json.loads(model.to_json_string())) == preset


@pytest.mark.parametrize("preset", [EMOJI.text_encoder, SD15.text_encoder], ids=name)
def test_transformers_reads_our_file_and_we_read_what_it_writes(preset, tmp_path):
    theirs = transformers.CLIPTextConfig(**preset.to_dict())
    for field in dataclasses.fields(preset):
        assert getattr(theirs, field.name) == getattr(preset, field.name)
    theirs.save_pretrained(tmp_path)
    assert CLIPTextConfig.from_dict(json.loads((tmp_path / "config.json").read_text())) == preset


@pytest.mark.parametrize(
    ("cls", "theirs"),
    [
        (UNetConfig, diffusers.UNet2DConditionModel),
        (AutoencoderConfig, diffusers.AutoencoderKL),
        (CLIPTextConfig, transformers.CLIPTextConfig),
    ],
    ids=name,
)
def test_a_fixed_option_that_a_file_does_not_mention_has_in_the_libraries_the_value_it_has_here(cls, theirs):
    if cls is CLIPTextConfig:
        defaults = theirs().to_dict()
    else:
        defaults = {k: p.default for k, p in inspect.signature(theirs.__init__).parameters.items()}
        defaults["_class_name"] = theirs.__name__
    assert {k: defaults[k] for k in cls.FIXED} == cls.FIXED


@pytest.mark.parametrize(
    ("cls", "file", "key"),
    [
        *((UNetConfig, OFFICIAL_UNET, key) for key in ("block_out_channels", "cross_attention_dim", "down_block_types")),
        *((AutoencoderConfig, OFFICIAL_VAE, key) for key in ("block_out_channels", "layers_per_block")),
        *((CLIPTextConfig, OFFICIAL_TEXT_ENCODER, key) for key in ("num_attention_heads", "hidden_size", "vocab_size")),
    ],
)
def test_a_file_that_leaves_out_a_dimension_is_refused_instead_of_guessed(cls, file, key):
    with pytest.raises(ValueError, match=f"{cls.__name__}: .*{key}"):
        cls.from_dict({k: v for k, v in file.items() if k != key})


@pytest.mark.parametrize("content", [[], "text", None, 3])
@pytest.mark.parametrize("cls", [UNetConfig, AutoencoderConfig, CLIPTextConfig])
def test_a_file_that_is_no_object_is_refused(cls, content):
    with pytest.raises(ValueError, match=f"{cls.__name__}: .*{type(content).__name__}"):
        cls.from_dict(content)


def test_the_file_says_which_tokens_begin_and_end_a_prompt():
    config = CLIPTextConfig.from_dict(OFFICIAL_TEXT_ENCODER | {"vocab_size": 49500, "bos_token_id": 49498, "eos_token_id": 49499})
    assert (config.bos_token_id, config.eos_token_id) == (49498, 49499)
    assert CLIPTextConfig.from_dict(config.to_dict()) == config
    small = CLIPTextConfig.from_dict(OFFICIAL_TEXT_ENCODER | {"vocab_size": 600})  # where 0 and 2 may well be meant
    assert (small.bos_token_id, small.eos_token_id) == (0, 2)


@pytest.mark.parametrize("said", [{}, {"bos_token_id": 49406, "eos_token_id": 49407}, {"bos_token_id": ..., "eos_token_id": ...}])
def test_tokens_that_were_added_to_clips_vocabulary_do_not_end_a_prompt(said):
    """As after a textual inversion: in a new file, in one with the wrong numbers of 2022, and in one that does not say."""
    file = {k: v for k, v in (OFFICIAL_TEXT_ENCODER | {"vocab_size": 49409} | said).items() if v is not ...}
    for config in (CLIPTextConfig.from_dict(file), CLIPTextConfig(vocab_size=49409)):
        assert (config.bos_token_id, config.eos_token_id, config.vocab_size) == (49406, 49407, 49409)
    assert dataclasses.replace(SD15.text_encoder, vocab_size=49410).eos_token_id == 49407


def test_the_last_two_of_a_smaller_vocabulary_begin_and_end_a_prompt_unless_it_is_said():
    assert (CLIPTextConfig(vocab_size=100).bos_token_id, CLIPTextConfig(vocab_size=100).eos_token_id) == (98, 99)
    assert CLIPTextConfig(vocab_size=100, bos_token_id=0, eos_token_id=7).to_dict()["pad_token_id"] == 7
    with pytest.raises(ValueError, match="CLIPTextConfig: eos_token_id=100 is not below vocab_size=100"):
        CLIPTextConfig(vocab_size=100, eos_token_id=100)


# ---- other models

SD2_UNET = OFFICIAL_UNET | {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "use_linear_projection": True,
}
SDXL_UNET = OFFICIAL_UNET | {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "projection_class_embeddings_input_dim": 2816,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
}


@pytest.mark.parametrize(
    ("cls", "file", "message"),
    [
        (UNetConfig, SD2_UNET, "use_linear_projection=True"),
        (UNetConfig, SD2_UNET | {"use_linear_projection": False}, r"attention_head_dim=\[5, 10, 20, 20\]"),
        (UNetConfig, SDXL_UNET, "use_linear_projection=True"),
        (UNetConfig, SDXL_UNET | {"use_linear_projection": False}, r"transformer_layers_per_block=\[1, 2, 10\]"),
        (UNetConfig, OFFICIAL_UNET | {"addition_embed_type": "text_time"}, "addition_embed_type='text_time'"),
        (UNetConfig, OFFICIAL_UNET | {"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
        (UNetConfig, OFFICIAL_UNET | {"num_class_embeds": 1000}, "num_class_embeds=1000"),
        (UNetConfig, OFFICIAL_UNET | {"flip_sin_to_cos": False}, "flip_sin_to_cos=False"),
        (UNetConfig, OFFICIAL_UNET | {"freq_shift": 1}, "freq_shift=1"),
        (UNetConfig, OFFICIAL_UNET | {"norm_eps": 1e-6}, "norm_eps=1e-06"),
        (UNetConfig, OFFICIAL_UNET | {"downsample_padding": 0}, "downsample_padding=0"),
        (UNetConfig, OFFICIAL_UNET | {"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        (UNetConfig, OFFICIAL_UNET | {"mid_block_type": None}, "mid_block_type=None"),
        (UNetConfig, OFFICIAL_UNET | {"only_cross_attention": [True, True, True, False]}, "only_cross_attention"),
        (UNetConfig, OFFICIAL_UNET | {"down_block_types": ["AttnDownBlock2D"] * 4}, "AttnDownBlock2D"),
        (UNetConfig, OFFICIAL_UNET | {"up_block_types": ["UpBlock2D"] * 4}, "up_block_types"),
        (UNetConfig, OFFICIAL_UNET | {"_class_name": "UNet3DConditionModel"}, "UNet3DConditionModel"),
        (UNetConfig, OFFICIAL_VAE, "AutoencoderKL"),
        (AutoencoderConfig, OFFICIAL_UNET, "UNet2DConditionModel"),
        (AutoencoderConfig, OFFICIAL_VAE | {"_class_name": "VQModel"}, "VQModel"),
        (AutoencoderConfig, OFFICIAL_VAE | {"down_block_types": ["AttnDownEncoderBlock2D"] * 4}, "AttnDownEncoderBlock2D"),
        (AutoencoderConfig, OFFICIAL_VAE | {"up_block_types": "UpDecoderBlock2D"}, "up_block_types"),
        (AutoencoderConfig, OFFICIAL_VAE | {"down_block_types": ["DownEncoderBlock2D"] * 3}, "down_block_types"),
        (AutoencoderConfig, OFFICIAL_VAE | {"block_out_channels": 128}, "block_out_channels=128"),
        (UNetConfig, OFFICIAL_UNET | {"block_out_channels": 320}, "block_out_channels=320"),
        (UNetConfig, OFFICIAL_UNET | {"down_block_types": "DownBlock2D"}, "down_block_types='DownBlock2D'"),
        (UNetConfig, OFFICIAL_UNET | {"down_block_types": [["DownBlock2D"]]}, "down_block_types"),
        (UNetConfig, OFFICIAL_UNET | {"up_block_types": 4}, "up_block_types=4"),
        (UNetConfig, OFFICIAL_UNET | {"in_channels": 4.5}, "in_channels=4.5"),
        (AutoencoderConfig, OFFICIAL_VAE | {"use_quant_conv": False, "shift_factor": 0.0609}, "use_quant_conv=False"),
        (AutoencoderConfig, OFFICIAL_VAE | {"shift_factor": 0.0609}, "shift_factor=0.0609"),
        (AutoencoderConfig, OFFICIAL_VAE | {"mid_block_add_attention": False}, "mid_block_add_attention=False"),
        (CLIPTextConfig, OFFICIAL_TEXT_ENCODER | {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        (CLIPTextConfig, OFFICIAL_TEXT_ENCODER | {"layer_norm_eps": 1e-6}, "layer_norm_eps=1e-06"),
        (CLIPTextConfig, OFFICIAL_TEXT_ENCODER | {"model_type": "t5"}, "model_type='t5'"),
    ],
)
def test_another_architecture_is_refused_by_the_option_that_differs(cls, file, message):
    with pytest.raises(ValueError, match=f"^{cls.__name__}: .*{message}"):
        cls.from_dict(file)


# ---- wrong values


def integers_of(cls):
    return [f.name for f in dataclasses.fields(cls) if type(f.default) is int and f.default > 0]


@pytest.mark.parametrize(
    ("cls", "argument"), [(cls, a) for cls in (UNetConfig, AutoencoderConfig, CLIPTextConfig) for a in integers_of(cls)]
)
@pytest.mark.parametrize("value", [0, -1, 2.5, "8", None, True, [8]])
def test_a_number_of_things_must_be_a_positive_integer(cls, argument, value):
    with pytest.raises(ValueError) as error:
        cls(**{argument: value})
    assert f"{cls.__name__}: {argument}={value!r} must be a whole number, 1 or more" in str(error.value)


@pytest.mark.parametrize("value", [-2, 2.5, "8", None, True, [8]])
@pytest.mark.parametrize("argument", ["bos_token_id", "eos_token_id"])
def test_a_token_must_be_a_whole_number(argument, value):
    with pytest.raises(ValueError) as error:
        CLIPTextConfig(**{argument: value})
    assert f"CLIPTextConfig: {argument}={value!r} must be a whole number, -1 or more" in str(error.value)


@pytest.mark.parametrize("value", [(), 320, "abc", None, (320, 0), (320, -32), (320.0,), (True,), [320, 640], ("320",)])
@pytest.mark.parametrize("cls", [UNetConfig, AutoencoderConfig])
def test_block_out_channels_must_be_a_tuple_of_positive_integers(cls, value):
    with pytest.raises(ValueError) as error:
        cls(block_out_channels=value)
    assert f"{cls.__name__}: block_out_channels={value!r} must be a tuple of whole numbers, 1 or more" in str(error.value)


@pytest.mark.parametrize("value", [(), True, (1, 1, 1, 0), ("no",) * 4, [True] * 4])
def test_attention_levels_must_be_a_tuple_of_booleans(value):
    with pytest.raises(ValueError) as error:
        UNetConfig(attention_levels=value)
    assert f"UNetConfig: attention_levels={value!r} must be a tuple of True and False" in str(error.value)


@pytest.mark.parametrize("value", [0, 0.0, -0.18, math.nan, math.inf, "0.18", None, True])
def test_the_scaling_factor_must_be_a_positive_number(value):
    with pytest.raises(ValueError) as error:
        AutoencoderConfig(scaling_factor=value)
    assert f"AutoencoderConfig: scaling_factor={value!r} must be a finite number above 0" in str(error.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: UNetConfig(attention_levels=(True, False)),
            "UNetConfig: attention_levels=(True, False) needs one entry for each of the 4 block_out_channels",
        ),
        (lambda: UNetConfig(num_attention_heads=3), "UNetConfig: num_attention_heads=3 does not divide 320"),
        (lambda: UNetConfig(norm_num_groups=7), "UNetConfig: norm_num_groups=7 does not divide 320"),
        (lambda: AutoencoderConfig(norm_num_groups=7), "AutoencoderConfig: norm_num_groups=7 does not divide 128"),
        (lambda: CLIPTextConfig(num_attention_heads=5), "num_attention_heads=5 does not divide hidden_size=768"),
        (
            lambda: UNetConfig(
                block_out_channels=(9, 18), attention_levels=(True, True), norm_num_groups=3, num_attention_heads=3
            ),
            "UNetConfig: block_out_channels=(9, 18) must begin with an even number",
        ),
    ],
)
def test_numbers_that_do_not_fit_together_are_one_clear_error(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)


@pytest.mark.parametrize("preset", PRESETS, ids=name)
def test_a_configuration_cannot_be_changed_and_can_be_a_key(preset):
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset.sample_size = 1
    assert {preset: 1}[dataclasses.replace(preset)] == 1


# ---- properties

small = st.integers(1, 4)


@st.composite
def unet_configs(draw):
    groups, heads, levels = draw(small), draw(small), draw(st.integers(1, 4))
    unit = 2 * math.lcm(groups, heads)
    return UNetConfig(
        in_channels=draw(small),
        out_channels=draw(small),
        layers_per_block=draw(small),
        num_attention_heads=heads,
        block_out_channels=tuple(unit * draw(small) for _ in range(levels)),
        attention_levels=tuple(draw(st.booleans()) for _ in range(levels)),
        cross_attention_dim=draw(small),
        norm_num_groups=groups,
        sample_size=draw(small),
    )


@st.composite
def autoencoder_configs(draw):
    groups = draw(small)
    return AutoencoderConfig(
        in_channels=draw(small),
        out_channels=draw(small),
        latent_channels=draw(small),
        layers_per_block=draw(small),
        block_out_channels=tuple(groups * draw(small) for _ in range(draw(st.integers(1, 4)))),
        norm_num_groups=groups,
        scaling_factor=draw(st.floats(0.01, 10)),
        sample_size=draw(small),
    )


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.one_of(unet_configs(), autoencoder_configs()))
def test_every_configuration_survives_its_file(config):
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


@settings(derandomize=True, deadline=None, max_examples=10)
@given(unet_configs())
def test_every_unet_configuration_is_the_network_that_diffusers_builds_from_it(config):
    with torch.device("meta"):
        ours, reference = UNet(config), diffusers.UNet2DConditionModel.from_config(config.to_dict())
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in reference.state_dict().items()}


@settings(derandomize=True, deadline=None, max_examples=10)
@given(autoencoder_configs())
def test_every_autoencoder_configuration_is_the_network_that_diffusers_builds_from_it(config):
    with torch.device("meta"):
        ours, reference = AutoencoderKL(config), diffusers.AutoencoderKL.from_config(config.to_dict())
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in reference.state_dict().items()}


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(1, 64), st.integers(1, 64))
def test_groups_are_accepted_exactly_where_they_divide_the_channels(groups, channels):
    if channels % groups == 0:
        assert AutoencoderConfig(block_out_channels=(channels,), norm_num_groups=groups).downsampling == 1
    else:
        with pytest.raises(ValueError, match=f"norm_num_groups={groups} does not divide {channels}"):
            AutoencoderConfig(block_out_channels=(channels,), norm_num_groups=groups)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(1, 64), st.integers(1, 64))
def test_heads_are_accepted_exactly_where_they_divide_the_width(heads, width):
    if width % heads == 0:
        assert CLIPTextConfig(hidden_size=width, num_attention_heads=heads).num_attention_heads == heads
    else:
        with pytest.raises(ValueError, match=f"num_attention_heads={heads} does not divide hidden_size={width}"):
            CLIPTextConfig(hidden_size=width, num_attention_heads=heads)


# ---- the presets


def test_the_emoji_model_fits_together():
    assert EMOJI.unet.cross_attention_dim == EMOJI.text_encoder.hidden_size
    assert EMOJI.unet.in_channels == EMOJI.unet.out_channels == EMOJI.vae.latent_channels
    assert EMOJI.vae.sample_size == EMOJI.vae.downsampling * EMOJI.unet.sample_size == dataset.SIZE


def test_v15_fits_together():
    assert SD15.unet.cross_attention_dim == SD15.text_encoder.hidden_size == 768
    assert SD15.unet.in_channels == SD15.unet.out_channels == SD15.vae.latent_channels == 4
    assert SD15.vae.sample_size == SD15.vae.downsampling * SD15.unet.sample_size == 512
    assert SD15.vae.scaling_factor == 0.18215
    assert (SD15.text_encoder.bos_token_id, SD15.text_encoder.eos_token_id) == (49406, 49407)
    assert SD15.text_encoder.to_dict()["pad_token_id"] == 49407
