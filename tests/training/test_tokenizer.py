"""The byte-pair encoding learned on captions, in CLIP's format."""

import gzip
import importlib.util

import pytest
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from ldm_tutorial.config import SD15
from ldm_tutorial.training.tokenizer import merges_of, train_tokenizer

CAPTIONS = ["a cat in the style of noto", "a racing car in the style of fluent", "cats and dogs", "an octopus"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS, vocab_size=540)


def test_the_vocabulary_is_laid_out_like_clips(tokenizer):
    assert len(tokenizer) == 540
    ids = tokenizer.convert_tokens_to_ids(["<|startoftext|>", "<|endoftext|>"])
    assert ids == [538, 539] == [tokenizer.bos_token_id, tokenizer.eos_token_id]
    assert tokenizer.pad_token_id == 539
    assert all(not token.endswith("</w>") for token in tokenizer.convert_ids_to_tokens(range(256)))
    assert all(token.endswith("</w>") for token in tokenizer.convert_ids_to_tokens(range(256, 512)))


def test_frequent_words_are_one_token_and_unknown_ones_are_spelled(tokenizer):
    assert tokenizer.tokenize("style") == ["style</w>"]
    assert "".join(tokenizer.tokenize("zebra")) == "zebra</w>"
    assert tokenizer.decode(tokenizer("a zebra 🦓").input_ids, skip_special_tokens=True) == "a zebra 🦓"


def test_a_capital_letter_or_more_space_changes_nothing(tokenizer):
    assert tokenizer("A  Cat").input_ids == tokenizer("a cat").input_ids


def test_it_survives_saving(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    text = "a racing zebra in the style of noto!"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again.model_max_length == 77


def test_a_vocabulary_that_the_captions_cannot_fill_is_refused():
    with pytest.raises(ValueError, match="vocab_size=4000.*at most"):
        train_tokenizer(CAPTIONS, vocab_size=4000)


def test_its_merges_are_told_in_order_and_each_makes_a_token(tokenizer):
    merges = merges_of(tokenizer)
    assert len(merges) >= 540 - 514
    assert tokenizer.convert_tokens_to_ids([left + right for left, right in merges[:5]]) == list(range(512, 517))
    assert merges_of(tokenizer.backend_tokenizer) == merges


@pytest.fixture(scope="module")
def clips():
    """CLIP's own tokenizer, of the merges that the package open_clip_torch carries."""
    [folder] = importlib.util.find_spec("open_clip").submodule_search_locations
    with gzip.open(f"{folder}/bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1 : SD15.text_encoder.vocab_size - 512 - 2 + 1]]
    letters = sorted(ByteLevel.alphabet())
    vocabulary = [*letters, *(c + "</w>" for c in letters), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges)


def test_clips_own_49408_entries_have_this_layout(clips, tokenizer):
    config = SD15.text_encoder
    assert len(clips) == config.vocab_size == 49_408
    assert (clips.bos_token_id, clips.eos_token_id) == (config.bos_token_id, config.eos_token_id) == (49_406, 49_407)
    assert clips("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]  # as everywhere
    assert clips.convert_ids_to_tokens(list(range(512))) == tokenizer.convert_ids_to_tokens(list(range(512)))


def test_what_notebook_05_says_of_clips_own_vocabulary(clips):
    assert len(merges_of(clips)) == 48_894
    assert clips.tokenize("chipmunk") == ["chipmun", "k</w>"]
    first = "A cat stretching on the floor, highly detailed, ultra sharp, cinematic, 100mm lens, 8k resolution"
    assert len(clips.tokenize(first)) == 24
