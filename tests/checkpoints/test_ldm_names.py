"""The names of CompVis' layout, shown right by diffusers' converter, which shares nothing with the table."""

import pytest
import torch

from ldm_tutorial.checkpoints.compvis import canonical, config_of, is_extra, ldm_name, to_ldm
from ldm_tutorial.checkpoints.folder import PARTS, build
from ldm_tutorial.config import EMOJI, SD15

SIZES = [(1, 1), (1, 3), (2, 4), (3, 2)]  # residual blocks a level, levels


def networks_of(config):
    return {name: build("test", name, getattr(config, name)) for name in PARTS}


def diffusers_names(config, tensors):
    """Parts of the model, as diffusers takes them out of a file of CompVis' layout."""
    utils = pytest.importorskip("diffusers.loaders.single_file_utils")
    prefix = "cond_stage_model.transformer."
    unet = utils.convert_ldm_unet_checkpoint(dict(tensors), config.unet.to_dict())
    vae = utils.convert_ldm_vae_checkpoint(dict(tensors), config.vae.to_dict())
    return {"unet": unet, "vae": vae, "text_encoder": utils.convert_ldm_clip_checkpoint(dict(tensors), remove_prefix=prefix)}


@pytest.mark.parametrize(("layers", "levels"), SIZES)
def test_diffusers_converts_our_file_back_to_the_same_numbers(random_model, ldm_config, layers, levels):
    config = ldm_config(layers, levels)
    model = random_model(config)
    networks = {name: getattr(model, name) for name in PARTS}
    for name, converted in diffusers_names(config, to_ldm(networks)).items():
        expected = networks[name].state_dict()
        assert {key for key in converted if "position_ids" not in key} == expected.keys()
        for key, tensor in expected.items():
            assert torch.equal(converted[key], tensor), key


def test_all_1130_official_names_and_shapes():
    networks = networks_of(SD15)
    tensors = to_ldm(networks)
    assert len(tensors) == 1130
    assert sum(t.numel() for t in tensors.values()) == 1_066_235_307
    by_tensor = {id(t): name for name, t in tensors.items()}
    counts = {}
    for part, converted in diffusers_names(SD15, tensors).items():
        expected = networks[part].state_dict()
        assert converted.keys() == expected.keys()
        counts[part] = len(converted)
        for ours, tensor in converted.items():
            assert tensor.shape == expected[ours].shape
            if id(tensor) in by_tensor:  # all but the attention of the autoencoder, which diffusers reshapes
                assert by_tensor[id(tensor)] == ldm_name(part, ours, networks[part].config)
    assert counts == {"unet": 686, "vae": 248, "text_encoder": 196}


def test_the_names_that_others_got_wrong():
    names = to_ldm(networks_of(SD15))
    unet = "model.diffusion_model."
    upsamplers = {name for name in names if name.startswith(unet + "output_blocks") and name.endswith(".conv.weight")}
    assert upsamplers == {unet + f"output_blocks.{n}.conv.weight" for n in ("2.1", "5.2", "8.2")}
    assert (
        ldm_name("vae", "decoder.up_blocks.0.resnets.2.conv1.bias", SD15.vae)
        == "first_stage_model.decoder.up.3.block.2.conv1.bias"
    )
    assert ldm_name("vae", "decoder.up_blocks.2.resnets.0.conv_shortcut.bias", SD15.vae).endswith(
        "up.1.block.0.nin_shortcut.bias"
    )
    assert names["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (512, 512, 1, 1)
    assert names[unet + "input_blocks.1.1.proj_in.weight"].shape == (320, 320, 1, 1)
    assert names["cond_stage_model.transformer.text_model.final_layer_norm.weight"].shape == (768,)


@pytest.mark.parametrize("config", [SD15, EMOJI], ids=["sd15", "emoji"])
def test_no_two_tensors_get_one_name(config):
    networks = networks_of(config)
    tensors = to_ldm(networks)
    assert len(tensors) == sum(len(network.state_dict()) for network in networks.values())


@pytest.mark.parametrize(("layers", "levels"), SIZES)
def test_names_and_shapes_tell_the_configuration(ldm_config, layers, levels):
    config = ldm_config(layers, levels)
    for name, network in networks_of(config).items():
        assert config_of(name, to_ldm({name: network})) == getattr(config, name)


def test_names_and_shapes_tell_v15():
    for name, network in networks_of(SD15).items():
        assert config_of(name, to_ldm({name: network})) == getattr(SD15, name)


def test_a_latent_scale_in_the_file_is_used(ldm_config):
    tensors = to_ldm({"vae": networks_of(ldm_config())["vae"]}) | {"scale_factor": torch.tensor(0.25)}
    assert config_of("vae", tensors).scaling_factor == 0.25


def test_what_is_left_out_is_no_weight():
    weights = to_ldm(networks_of(SD15))
    assert not any(is_extra(name) for name in weights)
    assert all(canonical(name) == name for name in weights)
    extras = [
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "model_ema.decay",
        "model_ema.num_updates",
        "model_ema.diffusion_modelinput_blocks00weight",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
    ]
    assert all(is_extra(name) for name in extras)
