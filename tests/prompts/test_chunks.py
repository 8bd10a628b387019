"""Prompts of any length in chunks of 75 tokens: nothing is lost, nothing is warned about, short ones are as ever."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm_tutorial.inputs import tokenize
from ldm_tutorial.prompts import equally_long, in_chunks, tokenize_in_chunks

BOS, EOS = 552, 553
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.integers(1, 99), max_size=30), st.integers(3, 9), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_every_value_stands_once_between_start_and_end(values, length, count):
    row = in_chunks(values, 0, -1, length, count)
    chunks = [row[i : i + length] for i in range(0, len(row), length)]
    assert len(chunks) == max(count, -(-len(values) // (length - 2)))
    assert all(len(chunk) == length and chunk[0] == 0 and chunk[-1] == -1 for chunk in chunks)
    assert [value for value in row if value > 0] == values
    assert all(-1 not in chunk[1:-1] for chunk in chunks[: len(values) // (length - 2)])  # full ones are not padded


@given(st.lists(ANY_TEXT, min_size=1, max_size=3))
@settings(deadline=None, max_examples=30)
def test_a_short_prompt_is_the_row_that_it_always_was(tiny_tokenizer, prompts):
    rows = tokenize_in_chunks(tiny_tokenizer, prompts)
    if rows.shape[1] == 77:
        assert torch.equal(rows, tokenize(tiny_tokenizer, prompts))
    else:
        assert max(len(tiny_tokenizer(text, add_special_tokens=False).input_ids) for text in prompts) > 75


@pytest.mark.parametrize(("words", "chunks"), [(0, 1), (75, 1), (76, 2), (150, 2), (151, 3)])
def test_a_chunk_holds_75_tokens(tiny_tokenizer, words, chunks):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [row] = tokenize_in_chunks(tiny_tokenizer, ["7 " * words]).tolist()
    assert len(row) == 77 * chunks and row[::77] == [BOS] * chunks and row[76::77] == [EOS] * chunks
    seven = set(row) - {BOS, EOS}
    assert sum(token in seven for token in row) == words


def test_all_prompts_get_the_chunks_of_the_longest(tiny_tokenizer):
    rows = tokenize_in_chunks(tiny_tokenizer, ["a cat", "7 " * 80])
    assert rows.shape == (2, 154)
    assert torch.equal(rows[0, :77], tokenize(tiny_tokenizer, ["a cat"])[0])
    assert torch.equal(rows[0, 77:], tokenize(tiny_tokenizer, [""])[0])


def test_the_shorter_one_is_filled_with_empty_chunks():
    a, b, empty = torch.randn(2, 10, 3), torch.randn(4, 30, 3), torch.randn(1, 10, 3)
    longer, same = equally_long(a, b, empty)
    assert torch.equal(same, b) and longer.shape == (2, 30, 3) and torch.equal(longer[:, :10], a)
    for i in (0, 1):
        assert torch.equal(longer[i, 10:20], empty[0]) and torch.equal(longer[i, 20:], empty[0])
    assert all(torch.equal(x, y) for x, y in zip(equally_long(b, a, empty), (same, longer)))
