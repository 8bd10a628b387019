"""The U-Net against diffusers' with the same random weights, and everything that is known to go wrong in it."""

import copy
from collections import Counter

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from ldm_tutorial import unet
from ldm_tutorial.attention import GEGLU, CrossAttention, SpatialTransformer
from ldm_tutorial.blocks import Downsample, ResnetBlock, Upsample
from ldm_tutorial.config import EMOJI, SD15, UNetConfig
from ldm_tutorial.unet import UNet, UpBlock
from tests.parity import (
    TOLERANCE_FLOAT64,
    assert_noticed,
    assert_same,
    assert_same_gradients,
    difference,
    gradients,
    randn,
    randomize,
)

# All different: 3 pictures, 5 channels in, 6 out, levels of 8 to 28 channels, 4 groups, 2 heads, 7 words of width 18.
DISTINCT = UNetConfig(
    in_channels=5,
    out_channels=6,
    block_out_channels=(8, 12, 20, 28),
    attention_levels=(True, True, True, False),
    layers_per_block=2,
    num_attention_heads=2,
    cross_attention_dim=18,
    norm_num_groups=4,
)
# Another shape of network: three levels, one residual block each, attention where v1.5 has none.
EMOJI_LIKE = UNetConfig(
    block_out_channels=(6, 12, 18),
    attention_levels=(False, True, True),
    layers_per_block=1,
    num_attention_heads=3,
    cross_attention_dim=10,
    norm_num_groups=2,
)
B, M = 3, 7
T = torch.tensor([0, 501, 999])


def unets(config=DISTINCT):
    ours = randomize(UNet(config)).eval()
    reference = diffusers.UNet2DConditionModel.from_config(config.to_dict())
    reference.load_state_dict(ours.state_dict(), strict=True)
    return ours, reference.eval()


def inputs(config=DISTINCT, h=11, w=13, b=B):
    """Latents whose sides no power of two divides, and the words' states."""
    return randn(b, config.in_channels, h, w, scale=0.1), randn(b, M, config.cross_attention_dim, seed=3)


@pytest.fixture(scope="module")
def distinct():
    return unets()


# ---- parity


@pytest.mark.parametrize("size", [(8, 16), (11, 13), (9, 4), (1, 1), (2, 15)], ids=str)
def test_equals_diffusers_at_sizes_that_8_divides_and_others(distinct, size):
    ours, reference = distinct
    x, context = inputs(h=size[0], w=size[1])
    out = ours(x, T, context)
    assert out.shape == (B, DISTINCT.out_channels, *size)
    assert_same(out, reference(x, T, context).sample, f"U-Net {size}")


def test_a_network_of_another_shape_equals_diffusers():
    ours, reference = unets(EMOJI_LIKE)
    x, context = inputs(EMOJI_LIKE)
    assert_same(ours(x, T, context), reference(x, T, context).sample, "U-Net, three levels")


@pytest.mark.parametrize(
    "timesteps",
    [981, 946.42, torch.tensor(20), torch.tensor(6.73), torch.tensor([6.73]), torch.tensor([0.0, 145.94, 999.0])],
    ids=str,
)
def test_whole_and_fractional_timesteps_as_numbers_scalars_and_batches_equal_diffusers(distinct, timesteps):
    ours, reference = distinct
    x, context = inputs()
    assert_same(ours(x, timesteps, context), reference(x, timesteps, context).sample, f"U-Net, timestep {timesteps}")


def test_gradients_equal_diffusers():
    ours, reference = (network.double() for network in unets())
    x, context = (tensor.double().requires_grad_() for tensor in inputs())
    out, expected = ours(x, T, context), reference(x, T, context).sample
    assert_same(out, expected, "U-Net, float64", TOLERANCE_FLOAT64)
    assert_same_gradients(
        gradients(out, ours, x=x, context=context),
        gradients(expected, reference, x=x, context=context),
        "U-Net, gradients in float64",
    )


def test_bfloat16_stays_close_to_float32():
    torch.manual_seed(0)
    ours = UNet(DISTINCT)  # PyTorch's own first weights: `randomize` makes a network that amplifies rounding
    x, context = inputs()
    expected = ours(x, T, context)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = ours(x, T, context)
    assert mixed.dtype == torch.bfloat16
    assert difference(mixed.float(), expected) < 0.05
    out = ours.bfloat16()(x.bfloat16(), T, context.bfloat16())
    assert out.dtype == torch.bfloat16
    assert difference(out.float(), expected) < 0.05


def test_half_precision_does_not_round_the_timestep(distinct):
    """In bfloat16 999 would be 1000 and 946.42 be 948: the embedding is computed before it is rounded."""
    ours = copy.deepcopy(distinct[0]).bfloat16()
    x, context = (tensor.bfloat16() for tensor in inputs())
    assert not torch.equal(ours(x, 999, context), ours(x, 1000, context))


def test_pictures_of_a_batch_do_not_see_each_other(distinct):
    ours, _ = distinct
    x, context = inputs()
    torch.testing.assert_close(ours(x[1:2], T[1], context[1:2]), ours(x, T, context)[1:2])


def test_one_timestep_for_all_is_the_same_timestep_for_each(distinct):
    ours, _ = distinct
    x, context = inputs()
    assert torch.equal(ours(x, 37, context), ours(x, torch.full((B,), 37), context))


def test_arguments_are_left_as_they_were(distinct):
    ours, _ = distinct
    x, context = inputs()
    ours(x, T, context)
    assert torch.equal(x, inputs()[0])
    assert torch.equal(context, inputs()[1])


@settings(derandomize=True, deadline=None, max_examples=20)
@given(h=st.integers(1, 20), w=st.integers(1, 20), m=st.integers(1, 9))
def test_any_size_and_any_number_of_words_go_in_and_the_same_size_comes_out(distinct, h, w, m):
    out = distinct[0](randn(2, 5, h, w), 500, randn(2, m, 18))
    assert out.shape == (2, 6, h, w)
    assert out.isfinite().all()


# ---- what v1.5 is made of


@pytest.fixture(scope="module")
def v15():
    with torch.device("meta"):
        return UNet(SD15.unet)


def test_v15_has_45_norms_of_eps_1e_5_and_16_of_1e_6_in_32_groups_and_48_layer_norms_of_1e_5(v15):
    groups = [m for m in v15.modules() if isinstance(m, nn.GroupNorm)]
    layers = [m for m in v15.modules() if isinstance(m, nn.LayerNorm)]
    assert Counter((m.eps, m.num_groups) for m in groups) == {(1e-5, 32): 44 + 1, (1e-6, 32): 16}
    assert Counter(m.eps for m in layers) == {1e-5: 48}
    assert {m.norm.eps for m in v15.modules() if isinstance(m, SpatialTransformer)} == {1e-6}


def test_v15_has_8_heads_everywhere_of_40_80_and_160_channels(v15):
    heads = [(m.heads, m.to_q.out_features // m.heads) for m in v15.modules() if isinstance(m, CrossAttention)]
    assert Counter(heads) == {(8, 40): 10, (8, 80): 10, (8, 160): 12}


def test_v15_attends_at_the_first_three_levels_and_in_the_middle(v15):
    assert [len(block.attentions) for block in v15.down_blocks] == [2, 2, 2, 0]
    assert [len(block.attentions) for block in v15.up_blocks] == [0, 3, 3, 3]
    assert len(v15.mid_block.attentions) == 1


def test_v15_has_3_residual_blocks_a_level_on_the_way_up_and_2_down_and_12_skips(v15):
    assert [len(block.resnets) for block in v15.down_blocks] == [2, 2, 2, 2]
    assert [len(block.resnets) for block in v15.up_blocks] == [3, 3, 3, 3]
    skips = [r.conv1.in_channels for block in v15.up_blocks for r in block.resnets]
    assert skips == [2560, 2560, 2560, 2560, 2560, 1920, 1920, 1280, 960, 960, 640, 640]  # flow + skip
    shortcuts = [isinstance(m.conv_shortcut, nn.Conv2d) for m in v15.modules() if isinstance(m, ResnetBlock)]
    assert sum(shortcuts) == 2 + 12  # where the channels change: twice on the way down, always on the way up


def test_v15_resamples_with_symmetric_padding_three_times_each_way(v15):
    down = [m for m in v15.modules() if isinstance(m, Downsample)]
    assert [(m.asymmetric, m.conv.padding) for m in down] == [(False, (1, 1))] * 3
    assert [len(block.upsamplers) for block in v15.up_blocks] == [1, 1, 1, 0]


def test_v15_projects_into_the_transformers_with_1x1_convolutions(v15):
    for m in v15.modules():
        if isinstance(m, SpatialTransformer):
            assert (m.proj_in.kernel_size, m.proj_out.kernel_size) == ((1, 1), (1, 1))


def test_v15_embeds_the_timestep_in_320_numbers_and_1280(v15):
    time = v15.time_embedding
    assert (time.linear_1.in_features, time.linear_1.out_features, time.linear_2.out_features) == (320, 1280, 1280)


@pytest.mark.parametrize("config", [SD15.unet, EMOJI.unet, DISTINCT, EMOJI_LIKE])
def test_keys_and_shapes_are_those_of_diffusers(config):
    with torch.device("meta"):
        ours, reference = UNet(config), diffusers.UNet2DConditionModel.from_config(config.to_dict())
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in reference.state_dict().items()}


# ---- traps


def modules(model, kind):
    return [m for m in model.modules() if isinstance(m, kind)]


def all_group_norms_1e_6(model, monkeypatch):
    for norm in modules(model, nn.GroupNorm):
        norm.eps = 1e-6


def all_group_norms_1e_5(model, monkeypatch):
    for norm in modules(model, nn.GroupNorm):
        norm.eps = 1e-5


def last_norm_1e_6(model, monkeypatch):
    model.conv_norm_out.eps = 1e-6


def layer_norms_1e_6(model, monkeypatch):
    for norm in modules(model, nn.LayerNorm):
        norm.eps = 1e-6


def asymmetric_padding(model, monkeypatch):
    for down in modules(model, Downsample):
        down.asymmetric, down.conv.padding = True, (0, 0)


def eight_heads_taken_for_heads_of_8(model, monkeypatch):
    for attention in modules(model, CrossAttention):
        attention.heads = attention.to_q.out_features // attention.heads


def embedding(trap):
    """Replace the timestep embedding by a function of the right one and of the timesteps."""
    exact = unet.timestep_embedding

    def install(model, monkeypatch):
        monkeypatch.setattr(unet, "timestep_embedding", lambda t, channels: trap(exact, t, channels))

    install.__name__ = trap.__name__
    return install


@embedding
def sines_before_cosines(exact, t, channels):
    return torch.cat(exact(t, channels).chunk(2, dim=-1)[::-1], dim=-1)


@embedding
def divisor_half_minus_1(exact, t, channels):
    frequencies = 10000.0 ** (-torch.arange(channels // 2) / (channels // 2 - 1))
    angles = t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@embedding
def timesteps_cut_to_whole_numbers(exact, t, channels):
    return exact(t.long(), channels)


@embedding
def timesteps_rounded_to_bfloat16(exact, t, channels):
    return exact(t.bfloat16(), channels)


def up_block(order, pick):
    """The way up, with the join in another order, or another pick from the stack. Shapes allowing, nothing crashes."""

    def forward(self, x, stack, time, context):
        mine = [stack.pop() for _ in self.resnets]  # last in, first out
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat(order(x, mine[pick(i)]), dim=1), time)
            if self.attentions:
                x = self.attentions[i](x, context)
        for upsample in self.upsamplers:
            x = upsample(x, size=stack[-1].shape[-2:])
        return x

    return forward


def skip_before_flow(model, monkeypatch):
    monkeypatch.setattr(UpBlock, "forward", up_block(lambda x, skip: [skip, x], lambda i: i))


def skips_taken_first_in_first_out(model, monkeypatch):
    # Within a level only the skips that are equally wide can be mixed up unseen: the first two of three.
    monkeypatch.setattr(UpBlock, "forward", up_block(lambda x, skip: [x, skip], lambda i: [1, 0, 2][i]))


def attention_before_its_residual_block(model, monkeypatch):
    def forward(self, x, time, context):
        x = self.resnets[0](self.attentions[0](x, context), time)
        return self.resnets[1](x, time)

    monkeypatch.setattr(unet.MidBlock, "forward", forward)


def time_without_silu(model, monkeypatch):
    def forward(self, x, time=None):
        h = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(time)[:, :, None, None]
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(h)))

    monkeypatch.setattr(ResnetBlock, "forward", forward)


def value_and_gate_swapped(model, monkeypatch):
    def forward(self, x):
        gate, value = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)

    monkeypatch.setattr(GEGLU, "forward", forward)


def last_silu_missing(model, monkeypatch):
    model.conv_out.register_forward_pre_hook(lambda _, args: (model.conv_norm_out(captured[0]),))
    captured = []
    model.conv_norm_out.register_forward_pre_hook(lambda _, args: captured.append(args[0]))


def context_of_another_picture(model, monkeypatch):
    forward = SpatialTransformer.forward
    monkeypatch.setattr(SpatialTransformer, "forward", lambda self, x, context: forward(self, x, context.flip(0)))


@pytest.mark.parametrize(
    "trap",
    [
        all_group_norms_1e_6,
        all_group_norms_1e_5,
        last_norm_1e_6,
        layer_norms_1e_6,
        asymmetric_padding,
        eight_heads_taken_for_heads_of_8,
        sines_before_cosines,
        divisor_half_minus_1,
        timesteps_cut_to_whole_numbers,
        timesteps_rounded_to_bfloat16,
        skip_before_flow,
        skips_taken_first_in_first_out,
        attention_before_its_residual_block,
        time_without_silu,
        value_and_gate_swapped,
        last_silu_missing,
        context_of_another_picture,
    ],
)
def test_parity_notices(trap, monkeypatch):
    ours, reference = unets()
    (x, context), timesteps = inputs(h=8, w=16), torch.tensor([0.0, 145.94, 999.0])
    expected = reference(x, timesteps, context).sample
    trap(ours, monkeypatch)
    assert_noticed(ours(x, timesteps, context), expected, trap.__name__)


def test_upsampling_by_two_instead_of_to_the_skip_s_size_breaks_sizes_that_8_does_not_divide(distinct, monkeypatch):
    ours, _ = distinct
    forward = Upsample.forward
    x, context = inputs()
    monkeypatch.setattr(Upsample, "forward", lambda self, x, size=None: forward(self, x))
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        ours(x, T, context)
