"""The account of memory: counted by hand, against what torch's own allocator says, and in its consequences."""

import threading

import pytest
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from ldm_tutorial.attention import TransformerBlock
from ldm_tutorial.config import EMOJI, SD15
from ldm_tutorial.lessons.memory import (
    ATTENTION,
    GIB,
    AttentionAs,
    account,
    largest_batch,
    needed,
    peak_bytes,
    sliced,
    whole_maps,
)
from ldm_tutorial.unet import UNet
from ldm_tutorial.vae import AutoencoderKL
from tests.parity import randn


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype, device="meta")


# ---- counting


def test_what_is_made_counts_until_it_is_dropped():
    def steps(x):
        a = x * 2  # 400 bytes
        b = a + 1  # 800
        del a  # 400
        c = torch.cat([b, b])  # 1200
        return c.sum()  # 1204

    assert peak_bytes(steps, zeros(100)) == 1204


def test_views_inputs_and_changes_in_place_cost_nothing():
    assert peak_bytes(lambda x: x.view(10, 10).T[:5].mul_(3), zeros(100)) == 0


def test_bytes_follow_the_type():
    assert peak_bytes(lambda x: x.half(), zeros(100)) == 200
    assert peak_bytes(lambda x: x.double(), torch.zeros(100)) == 800  # on any device


def test_parameters_do_not_count():
    with torch.device("meta"):
        linear = torch.nn.Linear(1000, 7)
    assert peak_bytes(linear, zeros(3, 1000)) == 4 * 3 * 7


def allocated(run):
    """The peak of what torch's own allocator was asked for."""
    with torch.no_grad():
        run()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            run()
    now = peak = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def test_it_is_what_the_allocator_says_where_operations_need_no_workspace():
    block = TransformerBlock(24, context_dim=10, heads=3).eval()
    inputs = randn(2, 130, 24), randn(2, 11, 10, seed=1)

    def run():
        with AttentionAs(whole_maps):
            block(*inputs)

    assert peak_bytes(run) == pytest.approx(allocated(run), rel=0.02)


@pytest.mark.parametrize("part", ["unet", "decoder"])
def test_the_workspace_of_convolutions_comes_on_top(part):
    """On a processor a few MB for emoji, for which its weights are reordered; how much, the device decides."""
    if part == "unet":
        network, inputs = UNet(EMOJI.unet), (randn(2, 4, 16, 16), torch.tensor(3.0), randn(2, 77, 192))
    else:
        network, inputs = AutoencoderKL(EMOJI.vae).decoder, (randn(1, 4, 16, 16),)
    real, counted = allocated(lambda: network(*inputs)), account(EMOJI, torch.float32)[part]
    assert 0.95 * counted < real < counted + 8e6


# ---- attention


def test_sliced_attention_is_attention():
    q, k, v = randn(2, 3, 13, 5), randn(2, 3, 11, 5, seed=1), randn(2, 3, 11, 5, seed=2)
    for slices in (1, 4, 13, 50):
        torch.testing.assert_close(sliced(q, k, v, slices), F.scaled_dot_product_attention(q, k, v))


def test_another_thread_keeps_its_own_attention():
    q, seen = randn(1, 2, 5, 4), []
    with AttentionAs(ATTENTION["fused"]):
        thread = threading.Thread(target=lambda: seen.append(F.scaled_dot_product_attention(q, q, q)))
        thread.start()
        thread.join()
    torch.testing.assert_close(seen[0], whole_maps(q, q, q))


def test_what_each_way_keeps():
    q = zeros(2, 8, 4096, 40, dtype=torch.float16)
    maps, out = 2 * 8 * 4096**2 * 2, q.numel() * 2
    assert peak_bytes(ATTENTION["whole"], q, q, q) == 2 * maps  # scores, and the same divided or softmaxed
    assert peak_bytes(ATTENTION["sliced"], q, q, q) < 2 * maps / 16 + 2 * out
    assert peak_bytes(ATTENTION["fused"], q, q, q) == out


# ---- the pipeline


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_weights_of_v15(dtype):
    assert account(SD15, dtype)["weights"] == 1_066_235_307 * dtype.itemsize


def test_half_the_bytes_a_number_is_half_of_all():
    full, half = account(SD15, torch.float32), account(SD15, torch.float16)
    assert {name: pytest.approx(number / 2, rel=0.01) for name, number in full.items()} == half
    assert needed(half) == half["weights"] + half["decoder"]


def test_attention_maps_grow_with_the_fourth_power_of_the_side():
    def maps(side):
        with_maps, without = (account(SD15, torch.float16, attention, 1, side, side)["unet"] for attention in ("whole", "fused"))
        return with_maps - without

    assert 14 < maps(1024) / maps(512) < 17


def test_without_guidance_half_as_much():
    one, two = (account(SD15, torch.float16, guidance=guidance)["unet"] for guidance in (False, True))
    assert one == pytest.approx(two / 2, rel=0.01)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("config", [EMOJI, SD15], ids=["emoji", "sd15"])
def test_the_largest_batch_is_the_largest(config, attention):
    memory = 5 * GIB if config is SD15 else GIB // 8
    settings, reserve = (torch.float16, attention), 2**20
    n = largest_batch(config, memory, *settings, reserve=reserve)
    assert n >= 1
    assert needed(account(config, *settings, batch=n)) <= memory - reserve < needed(account(config, *settings, batch=n + 1))


def test_what_does_not_fit_is_none():
    assert largest_batch(SD15, 4 * GIB, torch.float32) == 0  # the weights alone
    assert largest_batch(SD15, 4 * GIB, torch.float16, "whole", height=768, width=768) == 0


def test_an_unknown_kind_of_attention():
    with pytest.raises(ValueError, match="attention='flash' must be one of 'whole', 'sliced', 'fused'"):
        account(EMOJI, torch.float32, "flash")
