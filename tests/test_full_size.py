"""Stable Diffusion v1.5 at its real size: names and shapes on the meta device, and numbers with random weights.

The slow tests build one network of ours at a time and put its tensors into the reference too, so that there is one copy.
"""

import diffusers
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

from ldm_tutorial import clip
from ldm_tutorial.attention import SpatialTransformer
from ldm_tutorial.clip import CLIPTextModel
from ldm_tutorial.config import EMOJI, SD15
from ldm_tutorial.unet import UNet
from ldm_tutorial.vae import AutoencoderKL
from tests.parity import assert_noticed, assert_same, copy_text_encoder, randn, randomize

TOLERANCE = 1e-4  # of the output's scale: what two right implementations differ by in float32 is some hundredths of it


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def on_meta(make):
    with torch.device("meta"):
        return make()


def reference_unet(config):
    return diffusers.UNet2DConditionModel.from_config(config.to_dict())


def reference_vae(config):
    return diffusers.AutoencoderKL.from_config(config.to_dict())


def reference_text_encoder(config):
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**config.to_dict()))


NETWORKS = {
    "unet": (UNet, reference_unet),
    "vae": (AutoencoderKL, reference_vae),
    "text_encoder": (CLIPTextModel, reference_text_encoder),
}


def on_disk(part, state):
    """transformers 5 keeps the text encoder without the prefix that v1.5's file, and ours, have."""
    if part != "text_encoder":
        return state
    state = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in state.items()}
    return {k: v for k, v in state.items() if not k.endswith("position_ids")}


# ---- names, shapes, counts


@pytest.mark.parametrize(
    ("part", "tensors", "count"), [("unet", 686, 859_520_964), ("vae", 248, 83_653_863), ("text_encoder", 196, 123_060_480)]
)
def test_v15_has_as_many_tensors_and_parameters_as_published(part, tensors, count):
    model = on_meta(lambda: NETWORKS[part][0](getattr(SD15, part)))
    assert len(model.state_dict()) == len(list(model.parameters())) == tensors
    assert parameters(model) == count


def test_v15_has_1130_tensors_and_1_066_235_307_parameters_in_all():
    models = [on_meta(lambda part=part: NETWORKS[part][0](getattr(SD15, part))) for part in NETWORKS]
    assert sum(len(model.state_dict()) for model in models) == 1130
    assert parameters(*models) == 1_066_235_307


def test_v15_autoencoder_is_34_million_parameters_to_encode_and_49_million_to_decode():
    model = on_meta(lambda: AutoencoderKL(SD15.vae))
    assert parameters(model.encoder, model.quant_conv) == 34_163_664
    assert parameters(model.decoder, model.post_quant_conv) == 49_490_199


@pytest.mark.parametrize("config", [SD15, EMOJI], ids=["SD15", "EMOJI"])
@pytest.mark.parametrize("part", NETWORKS)
def test_keys_and_shapes_are_those_of_the_reference(part, config):
    ours, reference = (on_meta(lambda make=make: make(getattr(config, part))) for make in NETWORKS[part])
    expected = on_disk(part, reference.state_dict())
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in expected.items()}


# Where a wrong map would fit, or where a name says what a number cannot.
LANDMARKS = {
    "unet": {
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": (320, 320),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight": (2560, 320),
        "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight": (320, 1280),
        "down_blocks.0.attentions.0.proj_in.weight": (320, 320, 1, 1),
        "down_blocks.0.resnets.0.time_emb_proj.weight": (320, 1280),
        "down_blocks.1.resnets.0.conv_shortcut.weight": (640, 320, 1, 1),
        "mid_block.attentions.0.norm.weight": (1280,),
        "up_blocks.0.upsamplers.0.conv.weight": (1280, 1280, 3, 3),  # output_blocks.2.1 of LDM's file
        "up_blocks.1.upsamplers.0.conv.weight": (1280, 1280, 3, 3),  # output_blocks.5.2
        "up_blocks.2.upsamplers.0.conv.weight": (640, 640, 3, 3),  # output_blocks.8.2
        "time_embedding.linear_1.weight": (1280, 320),
    },
    "vae": {
        "encoder.mid_block.attentions.0.to_q.bias": (512,),
        "encoder.mid_block.attentions.0.to_out.0.weight": (512, 512),
        "decoder.up_blocks.0.resnets.2.conv1.weight": (512, 512, 3, 3),  # decoder.up.3 of LDM's file
        "decoder.up_blocks.3.resnets.0.conv_shortcut.weight": (128, 256, 1, 1),  # decoder.up.0
        "quant_conv.weight": (8, 8, 1, 1),
        "post_quant_conv.weight": (4, 4, 1, 1),
    },
    "text_encoder": {
        "text_model.embeddings.token_embedding.weight": (49408, 768),
        "text_model.embeddings.position_embedding.weight": (77, 768),
        "text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
        "text_model.final_layer_norm.bias": (768,),
    },
}


@pytest.mark.parametrize("part", NETWORKS)
def test_landmarks_of_v15_are_where_its_files_have_them(part):
    state = on_meta(lambda: NETWORKS[part][0](getattr(SD15, part))).state_dict()
    assert {k: tuple(state[k].shape) for k in LANDMARKS[part]} == LANDMARKS[part]


# ---- numbers


@pytest.fixture
def v15(request):
    """One network of v1.5's size with random weights, and its reference with the very same tensors."""
    part = request.param
    ours = on_meta(lambda: NETWORKS[part][0](getattr(SD15, part))).to_empty(device="cpu").requires_grad_(False).eval()
    randomize(ours)
    reference = on_meta(lambda: NETWORKS[part][1](getattr(SD15, part))).eval()
    if part == "text_encoder":
        copy_text_encoder(ours, reference)
    else:
        reference.load_state_dict(ours.state_dict(), assign=True)
    assert not any(t.is_meta for t in (*reference.parameters(), *reference.buffers()))
    with torch.inference_mode():
        yield ours, reference


@pytest.mark.slow
@pytest.mark.parametrize("v15", ["unet"], indirect=True)
def test_unet_of_v15_size_equals_diffusers(v15):
    ours, reference = v15
    for h, w, timestep in ((64, 64, 500), (13, 22, 946.42)):  # the usual picture; odd, not square, between two timesteps
        x, context = randn(1, 4, h, w), randn(1, 77, 768, seed=2)
        expected = reference(x, timestep, context).sample
        assert_same(ours(x, timestep, context), expected, f"U-Net of v1.5 at {h} x {w} latents", TOLERANCE)
    for transformer in (m for m in ours.modules() if isinstance(m, SpatialTransformer)):
        transformer.norm.eps = 1e-5
    assert_noticed(ours(x, timestep, context), expected, "1e-5 in the spatial transformers' norms, at v1.5's size")


@pytest.mark.slow
@pytest.mark.parametrize("v15", ["vae"], indirect=True)
def test_autoencoder_of_v15_size_equals_diffusers(v15):
    ours, reference = v15
    x = randn(1, 3, 256, 192).clamp(-1, 1)
    found, expected = ours.encode(x), reference.encode(x).latent_dist
    assert_same(found.mean, expected.mean, "VAE encoder of v1.5 at 256 x 192, mean", TOLERANCE)
    assert_same(found.logvar, expected.logvar, "VAE encoder of v1.5 at 256 x 192, log variance", TOLERANCE)
    z = randn(1, 4, 32, 24)
    assert_same(ours.decode(z), reference.decode(z).sample, "VAE decoder of v1.5 at 256 x 192", TOLERANCE)
    z = randn(1, 4, 5, 6)
    expected = reference.decode(z).sample
    for norm in (m for m in ours.modules() if isinstance(m, nn.GroupNorm)):
        norm.eps = 1e-5
    assert_noticed(ours.decode(z), expected, "1e-5 in the autoencoder's norms, at v1.5's size")


@pytest.mark.slow
@pytest.mark.parametrize("v15", ["text_encoder"], indirect=True)
def test_text_encoder_of_v15_size_equals_transformers(v15, monkeypatch):
    ours, reference = v15
    ids = torch.randint(0, 49406, (2, 77), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[0, 9:], ids[1, 76:] = 49406, 49407, 49407  # a short prompt, and one that fills all 77 tokens
    expected = reference(ids).last_hidden_state
    assert_same(ours(ids), expected, "CLIP text encoder of v1.5", TOLERANCE)
    monkeypatch.setattr(clip, "quick_gelu", F.gelu)
    assert_noticed(ours(ids), expected, "the exact GELU, at v1.5's size")
