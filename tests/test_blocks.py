"""Residual block, down- and upsampling and the timestep's embedding, against formulas and diffusers' modules."""

import math

import pytest
import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from ldm_tutorial import blocks
from ldm_tutorial.blocks import Downsample, ResnetBlock, TimestepMLP, Upsample, timestep_embedding
from tests.parity import assert_noticed, assert_same, assert_same_gradients, gradients, randn, randomize

# All different: b pictures, channels in and out, height and width (one odd), groups of the norms, width of the time embedding.
B, C_IN, C_OUT, H, W, GROUPS, TIME, EPS = 2, 12, 20, 7, 10, 4, 9, 1e-5


@pytest.fixture
def picture():
    return randn(B, C_IN, H, W, scale=0.02)


@pytest.fixture
def time():
    return randn(B, TIME, seed=3)


def pair(ours, reference):
    randomize(ours)
    reference.load_state_dict(ours.state_dict(), strict=True)
    return ours, reference.eval()


def resnets(c_in=C_IN, c_out=C_OUT, eps=EPS, time=TIME):
    reference = ResnetBlock2D(in_channels=c_in, out_channels=c_out, temb_channels=time, groups=GROUPS, eps=eps)
    return pair(ResnetBlock(c_in, c_out, GROUPS, eps, time), reference)


# ---- residual block


def test_resnet_block_equals_diffusers(picture, time):
    ours, reference = resnets()
    picture.requires_grad_(), time.requires_grad_()
    out, expected = ours(picture, time), reference(picture, time)
    assert_same(out, expected, "resnet block")
    assert_same_gradients(
        gradients(out, ours, picture=picture, time=time),
        gradients(expected, reference, picture=picture, time=time),
        "resnet block, gradients",
    )


def test_resnet_block_without_time_equals_diffusers(picture):
    ours, reference = resnets(eps=1e-6, time=None)
    assert_same(ours(picture), reference(picture, None), "resnet block without time")


def test_resnet_block_has_a_convolution_in_its_shortcut_only_where_the_channels_change(picture, time):
    ours, reference = resnets(c_out=C_IN)
    assert not list(ours.conv_shortcut.parameters())
    assert_same(ours(picture, time), reference(picture, time), "resnet block, channels unchanged")
    assert resnets()[0].conv_shortcut.kernel_size == (1, 1)


# ---- down and up


@pytest.mark.parametrize(
    ("asymmetric", "size"), [(False, (8, 10)), (False, (7, 10)), (False, (1, 5)), (True, (8, 10)), (True, (7, 10))]
)
def test_downsample_equals_diffusers(asymmetric, size):
    reference = Downsample2D(C_IN, use_conv=True, padding=0 if asymmetric else 1, name="op")
    ours, reference = pair(Downsample(C_IN, asymmetric), reference)
    x = randn(B, C_IN, *size)
    assert_same(ours(x), reference(x), f"downsample {size}, asymmetric={asymmetric}")


def test_downsample_rounds_up_with_symmetric_padding_and_down_with_asymmetric():
    x = torch.zeros(B, C_IN, 7, 10)
    assert Downsample(C_IN)(x).shape == (B, C_IN, 4, 5)
    assert Downsample(C_IN, asymmetric=True)(x).shape == (B, C_IN, 3, 5)


def test_asymmetric_padding_reads_a_window_that_starts_at_the_pixel_itself():
    """Output (i, j) sees rows 2i ... 2i + 2 and columns 2j ... 2j + 2; with symmetric padding they start one earlier."""
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 4, 2] = 1.0
    for asymmetric, seen in ((True, {(1, 0), (1, 1), (2, 0), (2, 1)}), (False, {(2, 1)})):
        down = Downsample(1, asymmetric)
        nn.init.ones_(down.conv.weight), nn.init.zeros_(down.conv.bias)
        assert {tuple(i) for i in down(x)[0, 0].nonzero().tolist()} == seen


@pytest.mark.parametrize("size", [None, (13, 20), (14, 19)])
def test_upsample_equals_diffusers(picture, size):
    ours, reference = pair(Upsample(C_IN), Upsample2D(C_IN, use_conv=True))
    assert_same(ours(picture, size), reference(picture, size), f"upsample to {size}")
    assert ours(picture, size).shape[-2:] == (size or (2 * H, 2 * W))


# ---- timestep


@pytest.mark.parametrize("channels", [320, 96, 14])
def test_timestep_embedding_equals_diffusers_for_whole_and_fractional_timesteps(channels):
    timesteps = torch.tensor([0, 1, 13, 500.25, 946.42, 999])
    expected = get_timestep_embedding(timesteps, channels, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert_same(timestep_embedding(timesteps, channels), expected, f"timestep embedding, {channels} channels")


def test_timestep_embedding_is_its_formula():
    t, channels = 37.5, 6
    frequencies = [10000 ** (-i / 3) for i in range(3)]
    expected = [math.cos(t * f) for f in frequencies] + [math.sin(t * f) for f in frequencies]
    torch.testing.assert_close(timestep_embedding(torch.tensor([t]), channels)[0], torch.tensor(expected))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.floats(0, 999, width=32), st.integers(1, 200).map(lambda half: 2 * half))
def test_each_frequency_of_the_timestep_embedding_is_a_point_on_the_unit_circle(t, channels):
    cos, sin = timestep_embedding(torch.tensor([t]), channels).chunk(2, dim=-1)
    torch.testing.assert_close(cos**2 + sin**2, torch.ones(1, channels // 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_timestep_embedding_is_computed_in_float32_whatever_the_timestep_is_given_in(dtype):
    timesteps = torch.tensor([1, 64, 512], dtype=dtype)  # exact in all of them
    assert torch.equal(timestep_embedding(timesteps, 32), timestep_embedding(timesteps.float(), 32))


def test_timestep_mlp_equals_diffusers():
    ours, reference = pair(TimestepMLP(6, 20), TimestepEmbedding(6, 20))
    x = randn(B, 6)
    assert_same(ours(x), reference(x), "timestep MLP")


# ---- traps


def norm_eps_1e_6(block, monkeypatch):
    block.norm1.eps = block.norm2.eps = 1e-6


def time_without_silu(block, monkeypatch):
    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(time)[:, :, None, None]
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(h)))

    monkeypatch.setattr(ResnetBlock, "forward", forward)


def time_added_behind_the_second_norm(block, monkeypatch):
    def forward(self, x, time):
        h = self.norm2(self.conv1(F.silu(self.norm1(x)))) + self.time_emb_proj(F.silu(time))[:, :, None, None]
        return self.conv_shortcut(x) + self.conv2(F.silu(h))

    monkeypatch.setattr(ResnetBlock, "forward", forward)


def time_as_scale_and_not_added(block, monkeypatch):
    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x))) * (1 + self.time_emb_proj(F.silu(time))[:, :, None, None])
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(h)))

    monkeypatch.setattr(ResnetBlock, "forward", forward)


def norm_behind_the_convolution(block, monkeypatch):
    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(time))[:, :, None, None]
        return self.conv_shortcut(x) + F.silu(self.norm2(self.conv2(h)))

    monkeypatch.setattr(ResnetBlock, "forward", forward)


@pytest.mark.parametrize(
    "trap",
    [
        norm_eps_1e_6,
        time_without_silu,
        time_added_behind_the_second_norm,
        time_as_scale_and_not_added,
        norm_behind_the_convolution,
    ],
)
def test_parity_of_the_resnet_block_notices(trap, picture, time, monkeypatch):
    ours, reference = resnets()
    expected = reference(picture, time)
    trap(ours, monkeypatch)
    assert_noticed(ours(picture, time), expected, trap.__name__)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_parity_notices_the_other_padding(asymmetric):
    reference = Downsample2D(C_IN, use_conv=True, padding=0 if asymmetric else 1, name="op")
    ours, reference = pair(Downsample(C_IN, not asymmetric), reference)
    x = randn(B, C_IN, 8, 10)  # even sides: the shape says nothing
    assert_noticed(ours(x), reference(x), "symmetric padding" if asymmetric else "asymmetric padding")


def test_parity_notices_padding_on_the_near_sides(monkeypatch):
    reference = Downsample2D(C_IN, use_conv=True, padding=0, name="op")
    ours, reference = pair(Downsample(C_IN, asymmetric=True), reference)
    x = randn(B, C_IN, 8, 10)
    expected = reference(x)
    exact = F.pad
    monkeypatch.setattr(blocks.F, "pad", lambda x, _: exact(x, (1, 0, 1, 0)))
    assert_noticed(ours(x), expected, "padding left and top")


def test_parity_notices_smooth_upsampling(picture, monkeypatch):
    ours, reference = pair(Upsample(C_IN), Upsample2D(C_IN, use_conv=True))
    expected = reference(picture)
    exact = F.interpolate
    monkeypatch.setattr(blocks.F, "interpolate", lambda x, size, mode: exact(x, size=size, mode="bilinear"))
    assert_noticed(ours(picture), expected, "bilinear upsampling")


@pytest.mark.parametrize(
    ("trap", "settings"),
    [
        ("sines before cosines", {"flip_sin_to_cos": False, "downscale_freq_shift": 0}),
        ("divisor half - 1", {"flip_sin_to_cos": True, "downscale_freq_shift": 1}),
        ("both, as in LDM's model.py", {"flip_sin_to_cos": False, "downscale_freq_shift": 1}),
    ],
)
def test_parity_notices_the_other_timestep_embeddings(trap, settings):
    timesteps = torch.tensor([13, 946.42])
    assert_noticed(timestep_embedding(timesteps, 320), get_timestep_embedding(timesteps, 320, **settings), trap)


def test_parity_notices_timesteps_cut_to_whole_numbers():
    timesteps = torch.tensor([13, 946.42])
    expected = get_timestep_embedding(timesteps, 320, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert_noticed(timestep_embedding(timesteps.long(), 320), expected, "whole timesteps")
