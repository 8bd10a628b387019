"""The update itself: equation 3 of Hu et al., hung on layers, taken away again, and added to the weights."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ldm_tutorial.adapters import LowRank, attention_projections, new_lora
from ldm_tutorial.checkpoints.folder import build
from ldm_tutorial.config import SD15
from tests.adapters.conftest import LAYERS


def outputs(pipe, seed=0):
    """What the two networks say, as one list."""
    generator = torch.Generator().manual_seed(seed)
    x, words = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 18, generator=generator)
    ids = torch.randint(550, (2, 9), generator=generator)
    with torch.no_grad():
        return [pipe.unet(x, torch.tensor([3, 700]), words), pipe.text_encoder(ids)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def close(a, b, tolerance=1e-5):
    return all((x - y).abs().max() <= tolerance * y.abs().max() for x, y in zip(a, b, strict=True))


def filled(update):
    for matrix in (update.down, update.up):
        nn.init.normal_(matrix.weight)
    return update


def test_a_linear_layer_gets_equation_3():
    layer, x = nn.Linear(5, 7), torch.randn(4, 5)
    update = filled(LowRank(layer, rank=2, alpha=3.0))
    a, b = update.down.weight, update.up.weight
    assert a.shape == (2, 5) and b.shape == (7, 2)
    expected = x @ (3.0 / 2 * b @ a).T
    torch.testing.assert_close(update(x), expected)
    torch.testing.assert_close(F.linear(x, update.delta()), expected)


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"padding": (1, 0)}])
def test_a_convolution_gets_two_that_are_one(settings):
    layer = nn.Conv2d(3, 6, kernel_size=3, **settings)
    update = filled(LowRank(layer, rank=2, alpha=0.5))
    x = torch.randn(2, 3, 9, 8)
    assert update.delta().shape == layer.weight.shape
    torch.testing.assert_close(update(x), F.conv2d(x, update.delta(), **settings))
    assert update(x).shape == layer(x).shape


def test_a_new_one_does_nothing_and_trains_low_rank_alone(pipe):
    before = outputs(pipe)
    lora = new_lora(pipe.networks, rank=2).attach(pipe.networks)
    assert same(outputs(pipe), before)
    sizes = [sum(layer.weight.shape) for name in lora.names for layer in [dict(named(pipe))[name]]]
    assert sum(p.numel() for p in lora.parameters()) == 2 * sum(sizes)
    assert all(update.alpha == 2 for update in lora.by_name().values())  # so that the factor is 1


def named(pipe):
    return [(f"{part}.{name}", layer) for part, network in pipe.networks.items() for name, layer in network.named_modules()]


def test_by_itself_it_takes_the_projections_of_all_attention(pipe):
    blocks = sum(type(layer).__name__ == "TransformerBlock" for _, layer in named(pipe))
    assert len(attention_projections(pipe.unet)) == blocks * 2 * 4
    assert len(attention_projections(pipe.text_encoder)) == 2 * 4
    assert all(isinstance(dict(named(pipe))[name], nn.Linear) for name in new_lora(pipe.networks).names)


def test_at_the_size_of_v1_5_rank_4_has_the_800_thousand_numbers_of_diffusers_examples():
    unet = build("a test", "unet", SD15.unet)
    assert sum(p.numel() for p in new_lora({"unet": unet}, rank=4).parameters()) == 797_184


def test_attached_it_is_the_network_with_other_weights_and_detached_the_one_of_before(pipe, random_lora):
    before, lora = outputs(pipe), random_lora(pipe.networks)
    other = copy.deepcopy(pipe.networks)
    for name, layer in lora.by_name().items():
        part, _, path = name.partition(".")
        other[part].get_submodule(path).weight.data += 0.7 * layer.delta()
    lora.scale = 0.7
    lora.attach(pipe.networks)
    changed = outputs(pipe)
    pipe.unet, pipe.text_encoder, own = other["unet"], other["text_encoder"], dict(pipe.networks)
    assert close(changed, outputs(pipe)) and not close(changed, before, 0.05)
    pipe.unet, pipe.text_encoder = own["unet"], own["text_encoder"]
    lora.scale = 0
    assert same(outputs(pipe), before)
    lora.scale = 1
    lora.detach()
    assert same(outputs(pipe), before)
    assert not any(layer._forward_hooks for _, layer in named(pipe))


def test_a_copy_of_the_networks_answers_as_they_did_whatever_becomes_of_the_lora(pipe, random_lora):
    lora = random_lora(pipe.networks).attach(pipe.networks)
    changed, copies = outputs(pipe), copy.deepcopy(pipe.networks)
    lora.scale = 0
    pipe.unet, pipe.text_encoder = copies["unet"], copies["text_encoder"]
    assert same(outputs(pipe), changed)


def test_each_layer_takes_part(pipe, random_lora):
    lora = random_lora(pipe.networks).attach(pipe.networks)
    whole = outputs(pipe)
    for name, update in lora.by_name().items():
        kept = update.up.weight.data.clone()
        update.up.weight.data.zero_()
        assert not same(outputs(pipe), whole), name
        update.up.weight.data.copy_(kept)
    assert {name.partition(".")[0] for name in lora.names} == set(LAYERS)


def test_gradients_reach_the_update_and_are_those_of_the_weight(pipe, random_lora):
    """dL/dA = α/r Bᵀ dL/dW, by the chain rule through ΔW; likewise for B."""
    lora = random_lora({"unet": pipe.unet})
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    pipe.unet.requires_grad_(False)
    layer, update = pipe.unet.get_submodule(name), lora.by_name()[f"unet.{name}"]
    lora.attach(pipe.networks)
    generator = torch.Generator().manual_seed(1)
    x, words = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 18, generator=generator)
    layer.weight.requires_grad_(True)
    pipe.unet(x, 500, words).square().sum().backward()
    gradient = layer.weight.grad
    torch.testing.assert_close(update.down.weight.grad, 2 / 3 * update.up.weight.T @ gradient, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(update.up.weight.grad, 2 / 3 * gradient @ update.down.weight.T, rtol=1e-4, atol=1e-4)


def test_merged_it_is_in_the_weights(pipe, random_lora):
    lora = random_lora(pipe.networks).attach(pipe.networks)
    lora.scale = 0.4
    attached = outputs(pipe)
    lora.merge(pipe.networks)
    assert close(outputs(pipe), attached)
    assert not any(layer._forward_hooks for _, layer in named(pipe))


def test_several_add_up(pipe, random_lora):
    one, two = random_lora(pipe.networks, seed=1), random_lora(pipe.networks, rank=2, seed=2)
    one.attach(pipe.networks), two.attach(pipe.networks)
    both = outputs(pipe)
    one.merge(pipe.networks), two.merge(pipe.networks)
    assert close(outputs(pipe), both)


@pytest.mark.parametrize(
    "wrong", [{"rank": 0}, {"rank": 2.5}, {"rank": True}, {"rank": 2, "alpha": "3"}, {"rank": 2, "alpha": float("nan")}]
)
def test_a_wrong_rank_or_alpha_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match="rank=|alpha="):
        LowRank(nn.Linear(5, 7), **wrong)


@pytest.mark.parametrize("wrong", ["1", None, float("inf"), float("nan")])
def test_a_wrong_scale_is_refused_and_changes_nothing(pipe, wrong):
    lora = new_lora(pipe.networks)
    with pytest.raises((TypeError, ValueError), match="scale="):
        lora.scale = wrong
    assert lora.scale == 1


def test_in_half_precision_it_computes_in_the_networks_dtype(pipe, random_lora):
    pipe.to(dtype="bfloat16")
    lora = random_lora(pipe.networks)
    assert {p.dtype for p in lora.parameters()} == {torch.bfloat16}
    lora.attach(pipe.networks)
    with torch.no_grad():
        x = torch.randn(2, 4, 8, 8).bfloat16()
        assert pipe.unet(x, 5, torch.randn(2, 5, 18).bfloat16()).dtype == torch.bfloat16


def test_its_print_says_what_it_is(pipe):
    assert repr(new_lora({"unet": pipe.unet})) == "LoRA(56 layers, rank 4, scale 1)"
