"""The text encoder against transformers' with the same random weights; the two towers of CLIP against its definition."""

import copy
import math
from collections import Counter

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from ldm_tutorial import clip
from ldm_tutorial.clip import CLIP, CLIPLayer, CLIPTextModel, quick_gelu
from ldm_tutorial.config import SD15, CLIPTextConfig
from tests.parity import (
    TOLERANCE_FLOAT64,
    assert_noticed,
    assert_same,
    assert_same_gradients,
    copy_text_encoder,
    difference,
    gradients,
    named_as_in,
    randn,
    randomize,
)

# All different: 101 words, 24 wide in 3 heads of 8, 40 inside, 2 layers, 11 positions, 14 in the common space; 5 prompts.
CONFIG = CLIPTextConfig(
    vocab_size=101,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=3,
    max_position_embeddings=11,
    projection_dim=14,
)
B, M = 5, 11
START, END = CONFIG.bos_token_id, CONFIG.eos_token_id


def prompts(b=B, m=M, seed=0, padded=True):
    """The start, words, the end, and the end again up to m, as the tokenizer writes them."""
    ids = torch.randint(0, START, (b, m), generator=torch.Generator().manual_seed(seed))
    ids[:, 0] = START
    if padded:
        for i in range(b):
            ids[i, min(2 + i, m - 1) :] = END
    return ids


def text_encoders(config=CONFIG):
    ours = randomize(CLIPTextModel(config)).eval()
    reference = transformers.CLIPTextModel(transformers.CLIPTextConfig(**config.to_dict()))
    copy_text_encoder(copy.deepcopy(ours), reference)
    return ours, reference.eval()


@pytest.fixture(scope="module")
def pair():
    return text_encoders()


# ---- parity


@pytest.mark.parametrize("m", [11, 7, 1])
@pytest.mark.parametrize("padded", [True, False])
def test_last_hidden_state_equals_transformers(pair, m, padded):
    ours, reference = pair
    ids = prompts(m=m, padded=padded)
    out = ours(ids)
    assert out.shape == (B, m, CONFIG.hidden_size)
    assert_same(out, reference(ids).last_hidden_state, f"CLIP text, {m} tokens, padded={padded}")


def test_gradients_equal_transformers():
    ours, reference = (network.double() for network in text_encoders())
    ids = prompts()
    out, expected = ours(ids), reference(ids).last_hidden_state
    assert_same(out, expected, "CLIP text, float64", TOLERANCE_FLOAT64)
    found = named_as_in(reference, gradients(out, ours))
    assert_same_gradients(found, gradients(expected, reference), "CLIP text, gradients in float64")


def test_bfloat16_stays_close_to_float32(pair):
    ours, _ = pair
    expected = ours(prompts())
    found = copy.deepcopy(ours).bfloat16()(prompts())
    assert found.dtype == torch.bfloat16
    assert difference(found.float(), expected) < 0.1


def test_a_folder_of_transformers_loads_with_no_conversion_and_ours_loads_there(pair, tmp_path):
    ours, reference = pair
    transformers.CLIPTextConfig(**CONFIG.to_dict()).save_pretrained(tmp_path / "ours")
    save_file(ours.state_dict(), tmp_path / "ours" / "model.safetensors", metadata={"format": "pt"})
    loaded, info = transformers.CLIPTextModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert_same(ours(prompts()), loaded(prompts()).last_hidden_state, "CLIP text, from our file")

    loaded.save_pretrained(tmp_path / "theirs")
    ours_again = CLIPTextModel(CONFIG)
    ours_again.load_state_dict(load_file(tmp_path / "theirs" / "model.safetensors"), strict=True)
    assert torch.equal(ours_again(prompts()), ours(prompts()))


# ---- what it promises


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.integers(0, M - 1), st.integers(0, 999))
def test_a_token_does_not_see_those_behind_it(position, seed):
    ours = randomize(CLIPTextModel(CONFIG))
    ids = prompts(b=1, seed=seed)
    changed = ids.clone()
    changed[0, position] = (ids[0, position] + 1) % CONFIG.vocab_size
    change = (ours(changed) - ours(ids)).abs().amax(dim=-1)[0]  # (m,)
    assert (change[:position] < 1e-6).all()
    assert change[position] > 1e-3


def test_the_tokens_behind_the_end_are_attended_to_as_all_others(pair):
    """Stable Diffusion was trained with no padding mask: the last of 77 states depends on all 76 before it."""
    ours, _ = pair
    ids = prompts()
    changed = ids.clone()
    changed[:, -2] = 0
    assert ((ours(changed) - ours(ids))[:, -1].abs().amax(dim=-1) > 1e-4).all()


def test_the_same_word_is_another_state_at_another_position(pair):
    ours, _ = pair
    states = ours(torch.full((1, M), END))
    assert difference(states[:, 5], states[:, 6]) > 1e-3


def test_more_tokens_than_positions_is_one_clear_error(pair):
    ours, _ = pair
    with pytest.raises(ValueError, match="input_ids has 12 tokens a prompt; this text encoder reads at most 11"):
        ours(prompts(m=12))


def test_quick_gelu_is_up_to_0_0203_away_from_gelu():
    x = torch.linspace(-8, 8, 100_001, dtype=torch.float64)
    assert (quick_gelu(x) - F.gelu(x)).abs().max().item() == pytest.approx(0.0203, abs=5e-5)
    assert quick_gelu(torch.tensor(1.0)).item() == pytest.approx(1 / (1 + math.exp(-1.702)))


def test_v15_has_25_layer_norms_of_eps_1e_5_and_biases_on_every_projection():
    with torch.device("meta"):
        model = CLIPTextModel(SD15.text_encoder)
    assert Counter((type(m).__name__, m.eps) for m in model.modules() if hasattr(m, "eps")) == {("LayerNorm", 1e-5): 25}
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert len(linears) == 12 * 6
    assert all(m.bias is not None for m in linears)


# ---- traps


def exact_gelu(model, monkeypatch):
    monkeypatch.setattr(clip, "quick_gelu", F.gelu)


def no_causal_mask(model, monkeypatch):
    exact = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, is_causal: exact(q, k, v))


def padding_mask(model, monkeypatch):
    ids = prompts()
    padding = ((ids == END).cumsum(dim=1) > 1)[:, None, None, :]  # every end token but the first
    future = torch.ones(M, M, dtype=torch.bool).triu(1)
    exact = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, is_causal: exact(q, k, v, attn_mask=~(padding | future))
    )


def no_final_layer_norm(model, monkeypatch):
    model.text_model["final_layer_norm"] = nn.Identity()


def last_layer_skipped(model, monkeypatch):
    model.text_model["encoder"]["layers"] = model.text_model["encoder"]["layers"][:-1]


def norms_behind_the_layers(model, monkeypatch):
    def forward(self, x):
        x = self.layer_norm1(x + self.self_attn(x))
        return self.layer_norm2(x + self.mlp(x))

    monkeypatch.setattr(CLIPLayer, "forward", forward)


def layer_norms_1e_6(model, monkeypatch):
    for norm in (m for m in model.modules() if isinstance(m, nn.LayerNorm)):
        norm.eps = 1e-6


def projections_without_biases(model, monkeypatch):
    for layer in model.text_model.encoder.layers:
        layer.self_attn.q_proj.bias = layer.self_attn.k_proj.bias = layer.self_attn.v_proj.bias = None


def head_dim_taken_for_the_number_of_heads(model, monkeypatch):
    for layer in model.text_model.encoder.layers:
        layer.self_attn.heads = CONFIG.hidden_size // CONFIG.num_attention_heads


def no_positions(model, monkeypatch):
    nn.init.zeros_(model.text_model.embeddings.position_embedding.weight)


@pytest.mark.parametrize(
    "trap",
    [
        exact_gelu,
        no_causal_mask,
        padding_mask,
        no_final_layer_norm,
        last_layer_skipped,
        norms_behind_the_layers,
        layer_norms_1e_6,
        projections_without_biases,
        head_dim_taken_for_the_number_of_heads,
        no_positions,
    ],
)
def test_parity_notices(trap, monkeypatch):
    ours, reference = text_encoders()
    expected = reference(prompts()).last_hidden_state
    trap(ours, monkeypatch)
    assert_noticed(ours(prompts()), expected, trap.__name__)


def test_parity_notices_padding_with_0_instead_of_the_end(pair):
    ours, reference = pair
    ids = prompts()
    zeros = torch.where((ids == END).cumsum(dim=1) > 1, 0, ids)
    assert_noticed(ours(zeros), reference(ids).last_hidden_state, "padding with 0")


# ---- both towers


@pytest.fixture(scope="module")
def towers():
    torch.manual_seed(0)
    return CLIP(CONFIG).eval()


def pictures(b=B):
    return randn(b, 3, 32, 48)


def test_text_embeddings_equal_transformers_up_to_their_length():
    """The state of the first end token, projected: what transformers calls text_embeds."""
    torch.manual_seed(0)
    ours = CLIP(CONFIG).eval()
    randomize(ours.text_encoder), randomize(ours.text_projection)
    config = transformers.CLIPTextConfig(**CONFIG.to_dict())
    reference = transformers.CLIPTextModelWithProjection(config).eval()
    state = ours.text_encoder.state_dict()
    state["text_projection.weight"] = ours.text_projection.weight
    missing, unexpected = reference.load_state_dict(state, strict=False)
    assert not unexpected
    assert not [k for k in missing if not k.endswith("position_ids")]
    expected = F.normalize(reference(prompts()).text_embeds, dim=-1)
    assert_same(ours.encode_text(prompts()), expected, "CLIP text embeddings")


def test_both_towers_give_vectors_of_length_1(towers):
    for vectors in (towers.encode_text(prompts()), towers.encode_image(pictures())):
        assert vectors.shape == (B, CONFIG.projection_dim)
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(B))


def test_what_follows_the_end_does_not_change_a_prompt_s_embedding(towers):
    ids = prompts()
    junk = torch.where((ids == END).cumsum(dim=1) > 1, 7, ids)
    torch.testing.assert_close(towers.encode_text(junk), towers.encode_text(ids))


def test_similarities_are_cosines_times_the_temperature_pictures_by_prompts(towers):
    x, ids = pictures(3), prompts()
    logits = towers(x, ids)
    assert logits.shape == (3, B)
    cosines = F.cosine_similarity(towers.encode_image(x)[:, None], towers.encode_text(ids)[None], dim=-1)
    torch.testing.assert_close(logits, cosines / 0.07)


def test_the_temperature_stops_at_100(towers):
    hot = copy.deepcopy(towers)
    nn.init.constant_(hot.logit_scale, 50.0)
    assert hot(pictures(), prompts()).abs().max() <= 100.0 + 1e-3


def test_the_image_tower_shows_its_features_at_five_resolutions(towers):
    maps = towers.image_tower.features(pictures())
    assert [m.shape[-2:] for m in maps] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]


def test_contrastive_training_learns_which_prompt_belongs_to_which_picture():
    torch.manual_seed(0)
    model = CLIP(CONFIG)
    x, ids, target = pictures(), prompts(padded=False), torch.arange(B)
    ids[:, -1] = END
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        logits = model(x, ids)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(loss.item())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert losses[-1] < losses[0] / 2
    assert (model(x, ids).argmax(dim=1) == target).all()
