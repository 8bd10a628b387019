"""A tiny model of random weights, and ways to look at files."""

import json

import pytest
import torch

from ldm_tutorial.checkpoints import Components, save_checkpoint
from ldm_tutorial.checkpoints.folder import PARTS
from ldm_tutorial.config import AutoencoderConfig, CLIPTextConfig, StableDiffusionConfig, UNetConfig
from ldm_tutorial.schedulers import EulerDiscreteScheduler


def _random_model(config, tokenizer=None, scheduler=None, seed=0):
    """Every tensor random, the ones of norms too, so that no two can be swapped unseen."""
    generator = torch.Generator().manual_seed(seed)
    networks = {name: part.network(getattr(config, name)) for name, part in PARTS.items()}
    with torch.no_grad():
        for network in networks.values():
            for parameter in network.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return Components(**networks, tokenizer=tokenizer, scheduler=scheduler)


@pytest.fixture(scope="session")
def random_model():
    return _random_model


@pytest.fixture(scope="session")
def model(tiny_config, tiny_tokenizer):
    return _random_model(tiny_config, tiny_tokenizer, EulerDiscreteScheduler(timestep_spacing="trailing"))


@pytest.fixture
def folder(model, tmp_path):
    return save_checkpoint(model, tmp_path / "model")


@pytest.fixture
def file(model, tmp_path):
    return save_checkpoint(model, tmp_path / "model.safetensors")


@pytest.fixture(scope="session")
def ldm_config():
    """Sizes that a file of CompVis' layout tells by itself: groups of 32 channels, 8 heads, text heads of 64."""

    def make(layers=2, levels=3):
        return StableDiffusionConfig(
            AutoencoderConfig(
                in_channels=2,
                out_channels=1,
                latent_channels=3,
                block_out_channels=(32, 96, 64, 32)[:levels],
                layers_per_block=layers,
            ),
            UNetConfig(
                in_channels=5,
                out_channels=6,
                block_out_channels=(32, 96, 64, 128)[:levels],
                attention_levels=(True, False, True, False)[:levels],
                layers_per_block=layers,
                cross_attention_dim=64,
            ),
            CLIPTextConfig(
                vocab_size=30,
                hidden_size=64,
                intermediate_size=72,
                num_hidden_layers=2,
                num_attention_heads=1,
                max_position_embeddings=7,
            ),
        )

    return make


@pytest.fixture(scope="session")
def same_weights():
    def check(a, b, dtype=torch.float32):
        for name in PARTS:
            ours, theirs = getattr(a, name).state_dict(), getattr(b, name).state_dict()
            assert ours.keys() == theirs.keys()
            for key, tensor in ours.items():
                assert theirs[key].dtype == dtype, key
                assert torch.equal(tensor.to(dtype), theirs[key]), key

    return check


@pytest.fixture(scope="session")
def contents():
    """Every file below a folder, and its bytes."""

    def read(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    return read


@pytest.fixture(scope="session")
def edit_json():
    def edit(path, **changes):
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))

    return edit
