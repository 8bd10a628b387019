"""The words of a pair taken apart: the subject of one caption, what follows from another of the same style."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ldm_tutorial.checkpoints import load_checkpoint
from ldm_tutorial.hub import KNOWN
from ldm_tutorial.training.diffusion import encode_captions
from ldm_tutorial.training.recombine import recombine, same_style, subject_length


@pytest.fixture(scope="module")
def emoji():
    return load_checkpoint(KNOWN["emoji"].folder)


def test_a_subject_ends_where_its_style_begins(emoji):
    for subject in ("a cat", "a leftwards pushing hand", "french fries"):
        ids = emoji.tokenizer(f"{subject} in the style of noto").input_ids
        length = subject_length(emoji.tokenizer, f"{subject} in the style of noto")
        assert emoji.tokenizer.decode(ids[1:length]).strip() == subject
        assert emoji.tokenizer.decode(ids[length]).strip() == "in"
    assert subject_length(emoji.tokenizer, "a cat") == subject_length(emoji.tokenizer, "") == 0


def test_the_states_of_a_subject_do_not_know_its_style_and_all_later_ones_know_both(emoji):
    captions = ["a cat in the style of noto", "a cat in the style of fluent", "a dog in the style of noto"]
    cat, fluent, dog = encode_captions(emoji.tokenizer, emoji.text_encoder, captions, "cpu", torch.float32)
    end = subject_length(emoji.tokenizer, captions[0])
    assert torch.allclose(cat[:end], fluent[:end], atol=1e-5)
    assert (cat[end:] - dog[end:]).norm(dim=-1).min() > 0.1 * cat.norm(dim=-1).mean()


@given(st.integers(0, 9), st.integers(0, 9))
def test_recombined_states_are_the_subject_of_one_and_the_rest_of_the_other(length, other_length):
    states, others = torch.randn(1, 9, 2), torch.randn(1, 9, 2)
    mixed = recombine(states, torch.tensor([length]), others, torch.tensor([other_length]))[0]
    rest = torch.cat([others[0, other_length:], others[0, -1:].expand(9, 2)])[: 9 - length]
    assert torch.equal(mixed, torch.cat([states[0, :length], rest]))


def test_a_partner_has_the_same_style_and_may_be_any_that_has():
    styles = ["noto", "fluent", "noto", "noto"]
    generator = torch.Generator().manual_seed(0)
    partners = same_style(styles, torch.tensor([0, 1, 2] * 100), generator).view(100, 3)
    assert set(partners[:, 0].tolist()) == set(partners[:, 2].tolist()) == {0, 2, 3}
    assert set(partners[:, 1].tolist()) == {1}
