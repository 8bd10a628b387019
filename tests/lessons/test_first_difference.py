"""The first layer that differs is found, however deep, and in whatever it differs."""

import math

import diffusers
import pytest
import torch
from torch import nn

from ldm_tutorial.lessons.first_difference import first_difference
from ldm_tutorial.unet import UNet
from tests.parity import randn


@pytest.fixture
def pair(tiny_config):
    """Two U-Nets of the same weights, and inputs for them."""
    ours, theirs = UNet(tiny_config.unet).eval(), UNet(tiny_config.unet).eval()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, (randn(2, 4, 5, 7), torch.tensor([3.0, 700.0]), randn(2, 11, 18, seed=2))


def test_equal_networks_do_not_differ(pair):
    ours, theirs, inputs = pair
    assert first_difference(ours, theirs, *inputs, tolerance=0) is None


@pytest.mark.parametrize(
    "name",
    [
        "conv_in",
        "time_embedding.linear_2",
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
        "mid_block.resnets.1.norm2",
    ],
)
def test_a_changed_weight_is_found_by_name(pair, name):
    ours, theirs, inputs = pair
    with torch.no_grad():
        ours.get_submodule(name).weight.mul_(1.5)
    found = first_difference(ours, theirs, *inputs)
    assert (found.name, found.call) == (name, 0)
    assert 0.01 < found.size < 2


def test_an_epsilon_is_found_at_a_fine_tolerance(pair):
    ours, theirs, inputs = pair
    transformer = "down_blocks.0.attentions.0"
    ours.get_submodule(transformer).norm.eps = 1e-2
    assert first_difference(ours, theirs, *inputs, tolerance=1e-6).name == f"{transformer}.norm"


def test_what_a_module_does_outside_its_parts_is_its_own_fault(pair):
    ours, theirs, inputs = pair
    block = ours.down_blocks[0].resnets[0]
    block.forward = lambda x, time: 2 * type(block).forward(block, x, time)
    assert first_difference(ours, theirs, *inputs).name == "down_blocks.0.resnets.0"


def test_other_shapes_and_nan_are_differences(pair):
    ours, theirs, inputs = pair
    ours.conv_out = nn.Conv2d(8, 3, kernel_size=3, padding=1)
    assert first_difference(ours, theirs, *inputs) == ("conv_out", 0, math.inf)
    with torch.no_grad():
        ours.conv_in.bias[0] = math.nan
    found = first_difference(ours, theirs, *inputs)
    assert found.name == "conv_in"
    assert math.isnan(found.size)


def test_calls_of_one_module_are_told_apart():
    class Twice(nn.Module):
        def __init__(self, second):
            super().__init__()
            self.layer, self.second = nn.Identity(), second

        def forward(self, x):
            return self.layer(self.layer(x) + self.second)

    assert first_difference(Twice(1.0), Twice(2.0), torch.ones(3)) == ("layer", 1, pytest.approx(1 / 3))


def test_diffusers_unet_is_compared_by_the_names_it_shares(tiny_config):
    ours = UNet(tiny_config.unet).eval()
    theirs = diffusers.UNet2DConditionModel.from_config(tiny_config.unet.to_dict()).eval()
    theirs.load_state_dict(ours.state_dict())
    inputs = randn(2, 4, 8, 8), torch.tensor(500.0), randn(2, 11, 18, seed=2)
    assert first_difference(ours, theirs, *inputs) is None
    with torch.no_grad():
        theirs.up_blocks[1].resnets[0].conv1.bias.add_(1)
    assert first_difference(ours, theirs, *inputs).name == "up_blocks.1.resnets.0.conv1"


def test_networks_without_common_names_are_refused():
    with pytest.raises(ValueError, match="Sequential and Identity have no modules of the same name"):
        first_difference(nn.Sequential(nn.Identity()), nn.Identity(), torch.ones(1))


def test_hooks_are_taken_away_even_after_an_error(pair):
    ours, theirs, inputs = pair
    with pytest.raises(RuntimeError):
        first_difference(ours, theirs, torch.ones(1, 3, 5, 5), *inputs[1:])
    assert not any(module._forward_hooks for network in (ours, theirs) for module in network.modules())
