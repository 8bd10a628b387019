"""Attention against its definition, written out as loops, and against diffusers' modules."""

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention import FeedForward as ReferenceFeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ldm_tutorial.attention import (
    GEGLU,
    CrossAttention,
    FeedForward,
    SelfAttention,
    SpatialTransformer,
    TransformerBlock,
    attention_weights,
)
from tests.parity import assert_noticed, assert_same, assert_same_gradients, difference, gradients, randn, randomize

# All different: b pictures, n positions (h * w), m words, dim channels in `heads` heads, context_dim wide words.
B, H, W, M, DIM, HEADS, CONTEXT_DIM, GROUPS = 2, 5, 7, 11, 24, 3, 10, 6


@pytest.fixture
def tokens():
    return randn(B, H * W, DIM, scale=0.1)


@pytest.fixture
def picture():
    return randn(B, DIM, H, W, scale=0.02)


@pytest.fixture
def context():
    return randn(B, M, CONTEXT_DIM, seed=3)


def pair(ours, reference):
    """Both with the same random weights: the names of ours are those of diffusers."""
    randomize(ours)
    reference.load_state_dict(ours.state_dict(), strict=True)
    return ours, reference.eval()


def spatial_transformers():
    return pair(
        SpatialTransformer(DIM, CONTEXT_DIM, HEADS, GROUPS),
        Transformer2DModel(HEADS, DIM // HEADS, DIM, cross_attention_dim=CONTEXT_DIM, norm_num_groups=GROUPS),
    )


# ---- the definition


def test_attention_weights_are_the_softmax_of_scaled_products_written_out_as_loops():
    q, k = randn(2, 3, 4), randn(2, 5, 4, seed=2)
    weights = attention_weights(q, k)
    for b in range(2):
        for i in range(3):
            scores = [sum((q[b, i, c] * k[b, j, c]).item() for c in range(4)) / 4**0.5 for j in range(5)]
            expected = torch.tensor(scores).exp() / torch.tensor(scores).exp().sum()
            torch.testing.assert_close(weights[b, i], expected)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.floats(-300, 300), st.integers(0, 99))
def test_attention_weights_sum_to_1_however_large_the_scores(n, m, d, scale, seed):
    weights = attention_weights(randn(n, d, seed=seed, scale=scale), randn(m, d, seed=seed + 1))
    assert weights.shape == (n, m)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(n))


def test_each_head_attends_by_itself_to_its_own_slice_of_the_channels(tokens, context):
    attention = randomize(CrossAttention(DIM, CONTEXT_DIM, HEADS))
    q, k, v = attention.to_q(tokens), attention.to_k(context), attention.to_v(context)
    d = DIM // HEADS
    heads = []
    for i in range(HEADS):
        own = slice(i * d, (i + 1) * d)
        heads.append(attention_weights(q[..., own], k[..., own]) @ v[..., own])
    torch.testing.assert_close(attention(tokens, context), attention.to_out(torch.cat(heads, dim=-1)))


def test_maps_are_the_weights_that_forward_uses(tokens, context):
    attention = randomize(CrossAttention(DIM, CONTEXT_DIM, HEADS))
    maps = attention.maps(tokens, context)
    assert maps.shape == (B, HEADS, H * W, M)
    values = attention.split_heads(attention.to_v(context))
    out = attention.to_out((maps @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(out, attention(tokens, context))


def test_the_order_of_the_words_does_not_matter_to_cross_attention(tokens, context):
    attention = randomize(CrossAttention(DIM, CONTEXT_DIM, HEADS))
    shuffled = context[:, torch.randperm(M, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(attention(tokens, shuffled), attention(tokens, context))


def test_self_attention_moves_with_its_positions(tokens):
    attention = randomize(SelfAttention(DIM, HEADS))
    order = torch.randperm(H * W, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attention(tokens[:, order]), attention(tokens)[:, order])


def test_pictures_of_a_batch_do_not_see_each_other(picture, context):
    transformer = randomize(SpatialTransformer(DIM, CONTEXT_DIM, HEADS, GROUPS))
    alone = transformer(picture[1:], context[1:])
    torch.testing.assert_close(transformer(picture, context)[1:], alone)


# ---- parity


@pytest.mark.parametrize("bias", [False, True])
def test_cross_attention_equals_diffusers(tokens, context, bias):
    ours = CrossAttention(DIM, CONTEXT_DIM, HEADS, bias=bias)
    reference = Attention(DIM, CONTEXT_DIM, heads=HEADS, dim_head=DIM // HEADS, bias=bias)
    ours, reference = pair(ours, reference)
    assert_same(ours(tokens, context), reference(tokens, context), f"cross-attention, bias={bias}")


def test_self_attention_equals_diffusers(tokens):
    ours, reference = pair(SelfAttention(DIM, HEADS), Attention(DIM, heads=HEADS, dim_head=DIM // HEADS))
    assert_same(ours(tokens), reference(tokens), "self-attention")


def test_feed_forward_equals_diffusers(tokens):
    ours, reference = pair(FeedForward(DIM), ReferenceFeedForward(DIM, activation_fn="geglu"))
    loud = 20 * tokens  # as large as behind a norm, so that GELU bends
    assert_same(ours(loud), reference(loud), "feed-forward")


def test_transformer_block_equals_diffusers(tokens, context):
    ours, reference = pair(
        TransformerBlock(DIM, CONTEXT_DIM, HEADS),
        BasicTransformerBlock(DIM, HEADS, DIM // HEADS, cross_attention_dim=CONTEXT_DIM),
    )
    assert_same(ours(tokens, context), reference(tokens, encoder_hidden_states=context), "transformer block")


def test_spatial_transformer_equals_diffusers(picture, context):
    ours, reference = spatial_transformers()
    picture.requires_grad_(), context.requires_grad_()
    out, expected = ours(picture, context), reference(picture, context).sample
    assert_same(out, expected, "spatial transformer")
    assert_same_gradients(
        gradients(out, ours, picture=picture, context=context),
        gradients(expected, reference, picture=picture, context=context),
        "spatial transformer, gradients",
    )


def test_spatial_transformer_in_bfloat16_stays_close_to_float32(picture, context):
    ours, _ = spatial_transformers()
    expected = ours(picture, context)
    found = ours.bfloat16()(picture.bfloat16(), context.bfloat16())
    assert found.dtype == torch.bfloat16
    assert difference(found.float(), expected) < 0.03


# ---- traps: each of these is a mistake that someone has made, and that parity must notice


def norm_eps_as_in_the_residual_blocks(model, monkeypatch):
    model.norm.eps = 1e-5


def layer_norm_eps_as_in_the_group_norm(model, monkeypatch):
    for norm in (model.transformer_blocks[0].norm1, model.transformer_blocks[0].norm2, model.transformer_blocks[0].norm3):
        norm.eps = 1e-6


def number_of_heads_taken_for_their_size(model, monkeypatch):
    for attention in (model.transformer_blocks[0].attn1, model.transformer_blocks[0].attn2):
        attention.heads = DIM // HEADS


def scores_scaled_by_the_width_of_all_heads(model, monkeypatch):
    exact = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v: exact(q, k, v, scale=DIM**-0.5))


def value_and_gate_swapped(model, monkeypatch):
    def forward(self, x):
        gate, value = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)

    monkeypatch.setattr(GEGLU, "forward", forward)


def tanh_gelu(model, monkeypatch):
    exact = F.gelu
    monkeypatch.setattr(F, "gelu", lambda x: exact(x, approximate="tanh"))


def no_outer_residual(model, monkeypatch):
    forward = SpatialTransformer.forward
    monkeypatch.setattr(SpatialTransformer, "forward", lambda self, x, context: forward(self, x, context) - x)


def words_before_picture(model, monkeypatch):
    def forward(self, x, context):
        x = x + self.attn2(self.norm2(x), context)
        x = x + self.attn1(self.norm1(x))
        return x + self.ff(self.norm3(x))

    monkeypatch.setattr(TransformerBlock, "forward", forward)


def rows_and_columns_mixed_up(model, monkeypatch):
    def forward(self, x, context):
        out = self.transformer_blocks[0](self.proj_in(self.norm(x)).flatten(2).transpose(1, 2), context)
        return x + self.proj_out(out.reshape(x.shape))

    monkeypatch.setattr(SpatialTransformer, "forward", forward)


@pytest.mark.parametrize(
    "trap",
    [
        norm_eps_as_in_the_residual_blocks,
        layer_norm_eps_as_in_the_group_norm,
        number_of_heads_taken_for_their_size,
        scores_scaled_by_the_width_of_all_heads,
        value_and_gate_swapped,
        tanh_gelu,
        no_outer_residual,
        words_before_picture,
        rows_and_columns_mixed_up,
    ],
)
def test_parity_notices(trap, picture, context, monkeypatch):
    ours, reference = spatial_transformers()
    expected = reference(picture, context).sample
    trap(ours, monkeypatch)
    assert_noticed(ours(picture, context), expected, trap.__name__)


def test_projections_have_no_bias_but_the_last_one_does():
    attention = CrossAttention(DIM, CONTEXT_DIM, HEADS)
    assert all(layer.bias is None for layer in (attention.to_q, attention.to_k, attention.to_v))
    assert attention.to_out[0].bias is not None
