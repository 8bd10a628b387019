"""The autoencoder against diffusers' with the same random weights, and the Gaussian it returns against torch's."""

import math
from collections import Counter

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

from ldm_tutorial.blocks import Downsample
from ldm_tutorial.config import EMOJI, SD15, AutoencoderConfig
from ldm_tutorial.vae import AttentionBlock, AutoencoderKL, Decoder, DiagonalGaussian
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

# All different, and unlike v1.5: channels of the pictures in and out, of the latents, of each level; layers; groups.
DISTINCT = AutoencoderConfig(
    in_channels=2, out_channels=3, latent_channels=5, block_out_channels=(8, 12, 20, 28), layers_per_block=1, norm_num_groups=4
)
# As in v1.5, the last two levels are equally wide, so that no shape tells them apart.
ALIKE = AutoencoderConfig(block_out_channels=(8, 12, 20, 20), layers_per_block=2, norm_num_groups=4)
B = 6


def autoencoders(config):
    ours = randomize(AutoencoderKL(config)).eval()
    reference = diffusers.AutoencoderKL.from_config(config.to_dict())
    reference.load_state_dict(ours.state_dict(), strict=True)
    return ours, reference.eval()


def moments(gaussian: DiagonalGaussian) -> torch.Tensor:
    return torch.cat([gaussian.mean, gaussian.logvar], dim=1)


@pytest.fixture(scope="module")
def distinct():
    return autoencoders(DISTINCT)


@pytest.fixture(scope="module")
def alike():
    return autoencoders(ALIKE)


def pictures(config=DISTINCT, h=24, w=40, b=B):
    return randn(b, config.in_channels, h, w, scale=0.1)


def latents(config=DISTINCT, h=3, w=7, b=B):
    return randn(b, config.latent_channels, h, w, scale=0.1)


# ---- parity


@pytest.mark.parametrize("size", [(24, 40), (72, 8), (37, 50)], ids=str)
def test_encode_equals_diffusers(distinct, size):
    """24 x 40 pixels are 3 x 5 latents; sides that the factor 8 does not divide are cut, as there."""
    ours, reference = distinct
    x = pictures(h=size[0], w=size[1])
    found, expected = ours.encode(x), reference.encode(x).latent_dist
    assert_same(moments(found), expected.parameters, f"VAE encode {size}")
    assert_same(found.std, expected.std, f"VAE std {size}")


@pytest.mark.parametrize("size", [(3, 7), (8, 8), (1, 1)], ids=str)
def test_decode_equals_diffusers(distinct, size):
    ours, reference = distinct
    z = latents(h=size[0], w=size[1])
    out = ours.decode(z)
    assert out.shape == (B, DISTINCT.out_channels, 8 * size[0], 8 * size[1])
    assert_same(out, reference.decode(z).sample, f"VAE decode {size}")


def test_encode_and_decode_with_levels_alike_equal_diffusers(alike):
    ours, reference = alike
    x, z = pictures(ALIKE), latents(ALIKE)
    assert_same(moments(ours.encode(x)), reference.encode(x).latent_dist.parameters, "VAE encode, levels alike")
    assert_same(ours.decode(z), reference.decode(z).sample, "VAE decode, levels alike")


def test_gradients_equal_diffusers():
    """Of a picture's whole way through: into a sampled latent and back, as in training."""
    ours, reference = (network.double() for network in autoencoders(DISTINCT))
    x = pictures(b=2).double().requires_grad_()
    noise = randn(2, 5, 3, 5, seed=4).double()

    def reconstruct(mean, std, decode):
        return decode(mean + std * noise)

    found, expected = ours.encode(x), reference.encode(x).latent_dist
    out = reconstruct(found.mean, found.std, ours.decode)
    out_expected = reconstruct(expected.mean, expected.std, lambda z: reference.decode(z).sample)
    assert_same(out, out_expected, "VAE there and back, float64", TOLERANCE_FLOAT64)
    assert_same_gradients(
        gradients(out, ours, x=x), gradients(out_expected, reference, x=x), "VAE there and back, gradients in float64"
    )


def test_in_float64_nothing_but_rounding_is_left():
    ours, reference = (network.double() for network in autoencoders(DISTINCT))
    x, z = pictures().double(), latents().double()
    assert_same(moments(ours.encode(x)), reference.encode(x).latent_dist.parameters, "VAE encode, float64", TOLERANCE_FLOAT64)
    assert_same(ours.decode(z), reference.decode(z).sample, "VAE decode, float64", TOLERANCE_FLOAT64)


def test_bfloat16_stays_close_to_float32():
    ours, _ = autoencoders(DISTINCT)
    x, z = pictures(), latents()
    encoded, decoded = ours.encode(x), ours.decode(z)
    ours.bfloat16()
    found = ours.encode(x.bfloat16())
    assert found.sample(torch.Generator().manual_seed(0)).dtype == torch.bfloat16
    assert difference(found.mean.float(), encoded.mean) < 0.05
    assert difference(ours.decode(z.bfloat16()).float(), decoded) < 0.05


def test_picture_by_picture_is_the_same_as_in_a_batch(distinct):
    ours, _ = distinct
    x, z = pictures(), latents()
    torch.testing.assert_close(moments(ours.encode(x[2:3])), moments(ours.encode(x))[2:3])
    torch.testing.assert_close(ours.decode(z[2:3]), ours.decode(z)[2:3])


def test_arguments_are_left_as_they_were(distinct):
    ours, _ = distinct
    x, z = pictures(), latents()
    ours.encode(x).sample(), ours.decode(z)
    assert torch.equal(x, pictures())
    assert torch.equal(z, latents())


# ---- what v1.5 is made of


def test_v15_has_52_group_norms_all_with_eps_1e_6_and_32_groups():
    with torch.device("meta"):
        norms = [m for m in AutoencoderKL(SD15.vae).modules() if isinstance(m, (nn.GroupNorm, nn.LayerNorm))]
    assert Counter((type(m).__name__, m.eps, m.num_groups) for m in norms) == {("GroupNorm", 1e-6, 32): 52}


def test_v15_encoder_has_2_residual_blocks_a_level_and_the_decoder_3():
    with torch.device("meta"):
        model = AutoencoderKL(SD15.vae)
    assert [len(block.resnets) for block in model.encoder.down_blocks] == [2, 2, 2, 2]
    assert [len(block.resnets) for block in model.decoder.up_blocks] == [3, 3, 3, 3]
    assert [len(block.downsamplers) for block in model.encoder.down_blocks] == [1, 1, 1, 0]
    assert [len(block.upsamplers) for block in model.decoder.up_blocks] == [1, 1, 1, 0]


def test_v15_attends_in_the_two_middles_only_with_one_head_and_biases():
    with torch.device("meta"):
        model = AutoencoderKL(SD15.vae)
    found = {name: m for name, m in model.named_modules() if isinstance(m, AttentionBlock)}
    assert set(found) == {"encoder.mid_block.attentions.0", "decoder.mid_block.attentions.0"}
    for attention in found.values():
        assert attention.heads == 1
        assert all(m.bias is not None for m in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]))


@pytest.mark.parametrize(("config", "factor"), [(SD15.vae, 8), (EMOJI.vae, 8), (DISTINCT, 8)])
def test_downsampling_is_the_factor_between_pictures_and_latents(config, factor):
    assert config.downsampling == factor
    with torch.device("meta"):
        model = AutoencoderKL(config)
        encoded = model.encode(torch.empty(1, config.in_channels, 2 * factor, 3 * factor))
    assert encoded.mean.shape == encoded.logvar.shape == (1, config.latent_channels, 2, 3)


# ---- traps


def norm_eps_1e_5(model, monkeypatch):
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.eps = 1e-5


def symmetric_padding(model, monkeypatch):
    for module in model.modules():
        if isinstance(module, Downsample):
            module.asymmetric, module.conv.padding = False, (1, 1)


def attention_in_4_heads(model, monkeypatch):
    for module in model.modules():
        if isinstance(module, AttentionBlock):
            module.heads = 4


def attention_without_biases(model, monkeypatch):
    for module in model.modules():
        if isinstance(module, AttentionBlock):
            module.to_q.bias = module.to_k.bias = module.to_v.bias = None


def unscaled_attention(model, monkeypatch):
    exact = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v: exact(q, k, v, scale=1.0))


def no_attention(model, monkeypatch):
    monkeypatch.setattr(AttentionBlock, "forward", lambda self, x: x)


def no_quant_convolutions(model, monkeypatch):
    model.quant_conv = model.post_quant_conv = nn.Identity()


ENCODER_TRAPS = [
    norm_eps_1e_5,
    symmetric_padding,
    attention_in_4_heads,
    attention_without_biases,
    unscaled_attention,
    no_attention,
    no_quant_convolutions,
]


@pytest.mark.parametrize("trap", ENCODER_TRAPS)
def test_parity_of_encode_notices(trap, monkeypatch):
    ours, reference = autoencoders(ALIKE)
    x = pictures(ALIKE)
    expected = reference.encode(x).latent_dist.parameters
    trap(ours, monkeypatch)
    assert_noticed(moments(ours.encode(x)), expected, trap.__name__)


def levels_in_the_single_file_s_order(model, monkeypatch):
    """up.3 of an LDM file runs first, and up.2 fits in its place."""
    a, b = model.decoder.up_blocks[:2]
    weights = {k: v.clone() for k, v in a.state_dict().items()}
    a.load_state_dict(b.state_dict())
    b.load_state_dict(weights)


def last_norm_applied_twice(model, monkeypatch):
    def forward(self, z):
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.conv_norm_out(x))))

    monkeypatch.setattr(Decoder, "forward", forward)


@pytest.mark.parametrize(
    "trap",
    [
        *(trap for trap in ENCODER_TRAPS if trap is not symmetric_padding),
        levels_in_the_single_file_s_order,
        last_norm_applied_twice,
    ],
)
def test_parity_of_decode_notices(trap, monkeypatch):
    ours, reference = autoencoders(ALIKE)
    z = latents(ALIKE)
    expected = reference.decode(z).sample
    trap(ours, monkeypatch)
    assert_noticed(ours.decode(z), expected, trap.__name__)


def test_parity_notices_mean_and_variance_swapped(distinct):
    ours, reference = distinct
    x = pictures()
    found = ours.encode(x)
    swapped = torch.cat([found.logvar, found.mean], dim=1)
    assert_noticed(swapped, reference.encode(x).latent_dist.parameters, "mean and variance swapped")


# ---- the Gaussian


def gaussian(b=3, c=4, h=5, w=6, seed=0) -> DiagonalGaussian:
    return DiagonalGaussian(randn(b, c, h, w, seed=seed), randn(b, c, h, w, seed=seed + 1))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99), st.floats(0, 5))
def test_kl_is_the_divergence_from_a_standard_normal_in_nats_per_picture(b, c, h, w, seed, spread):
    q = DiagonalGaussian(randn(b, c, h, w, seed=seed, scale=spread), randn(b, c, h, w, seed=seed + 1, scale=spread))
    zeros = torch.zeros(b, c, h, w)
    expected = kl_divergence(Independent(Normal(q.mean, q.std), 3), Independent(Normal(zeros, 1 + zeros), 3))
    assert q.kl().shape == (b,)
    assert (q.kl() >= -1e-4).all()
    torch.testing.assert_close(q.kl(), expected, rtol=1e-4, atol=1e-4)


def test_kl_of_a_standard_normal_is_zero():
    zeros = torch.zeros(2, 3, 4, 5)
    assert torch.equal(DiagonalGaussian(zeros, zeros).kl(), torch.zeros(2))


def test_samples_have_the_mean_and_the_standard_deviation_they_should():
    mean, std = torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([0.1, 1.0, 2.5])
    n = 200_000
    shape = (1, 3, n, 1)
    q = DiagonalGaussian(mean.view(1, 3, 1, 1).expand(shape), 2 * std.log().view(1, 3, 1, 1).expand(shape))
    x = q.sample(torch.Generator().manual_seed(0))[0, :, :, 0]
    assert ((x.mean(1) - mean).abs() < 5 * std / math.sqrt(n)).all()  # five standard errors
    assert ((x.std(1) - std).abs() < 5 * std / math.sqrt(2 * n)).all()


def test_mode_is_the_mean():
    q = gaussian()
    assert torch.equal(q.mode(), q.mean)


def test_one_generator_per_picture_makes_each_independent_of_its_batch():
    q = gaussian()
    together = q.sample([torch.Generator().manual_seed(seed) for seed in (7, 8, 9)])
    for i, seed in enumerate((7, 8, 9)):
        alone = DiagonalGaussian(q.mean[i : i + 1], q.logvar[i : i + 1]).sample([torch.Generator().manual_seed(seed)])
        assert torch.equal(together[i : i + 1], alone)


def test_one_seed_is_one_sample_and_another_seed_another():
    q = gaussian()
    first, again, other = (q.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(q.sample(), q.sample())


def test_generators_for_another_number_of_pictures_are_refused():
    with pytest.raises(ValueError, match="list of 2 for 3 pictures"):
        gaussian().sample([torch.Generator(), torch.Generator()])


def test_log_variance_is_kept_between_minus_30_and_20():
    logvar = torch.tensor([-1e9, -30.5, -29.5, 0.0, 19.5, 20.5, 1e9]).view(1, 1, 1, 7)
    q = DiagonalGaussian.from_moments(torch.cat([torch.zeros_like(logvar), logvar], dim=1))
    assert q.logvar.flatten().tolist() == [-30.0, -30.0, -29.5, 0.0, 19.5, 20.0, 20.0]
    assert q.std.isfinite().all()
    assert q.kl().isfinite().all()
    torch.testing.assert_close(q.std, (q.logvar / 2).exp())


def test_gaussian_equals_diffusers_beyond_the_clamp():
    both = randn(2, 6, 4, 5, scale=30.0)  # far outside of [-30, 20]
    reference = diffusers.models.autoencoders.vae.DiagonalGaussianDistribution(both)
    q = DiagonalGaussian.from_moments(both)
    assert_same(q.std, reference.std, "std beyond the clamp")
    assert_same(q.kl(), reference.kl(), "KL beyond the clamp")


def test_gradients_flow_through_a_sample():
    """The reparametrization: d sample / d mean = 1, d sample / d logvar = noise * std / 2."""
    q = DiagonalGaussian(randn(1, 2, 3, 4).requires_grad_(), randn(1, 2, 3, 4, seed=5).requires_grad_())
    noise = (q.sample(torch.Generator().manual_seed(0)) - q.mean) / q.std
    q.sample(torch.Generator().manual_seed(0)).sum().backward()
    torch.testing.assert_close(q.mean.grad, torch.ones_like(q.mean))
    torch.testing.assert_close(q.logvar.grad, (noise * q.std / 2).detach(), rtol=1e-4, atol=1e-5)
