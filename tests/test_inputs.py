"""What the text encoder reads: 77 tokens, in transformers' order, and a word about what it does not read."""

import warnings

import pytest

from ldm_tutorial.inputs import tokenize

BOS, EOS = 552, 553


@pytest.mark.parametrize(
    "prompt", ["", "a cat", "A  CAT,\n in the style\tof noto!", "l'œuf à 20 €, 猫 🐈", "<|endoftext|>", "word " * 300]
)
def test_tokens_equal_those_of_transformers(tiny_tokenizer, prompt):
    theirs = tiny_tokenizer(prompt, padding="max_length", max_length=77, truncation=True).input_ids
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert tokenize(tiny_tokenizer, [prompt]).tolist() == [theirs]


def test_an_empty_prompt_is_start_and_end(tiny_tokenizer):
    assert tokenize(tiny_tokenizer, [""])[0].tolist() == [BOS] + [EOS] * 76


def test_padding_is_the_end_token(tiny_tokenizer):
    row = tokenize(tiny_tokenizer, ["a cat", "an octopus with a hat"])
    assert row.shape == (2, 77)
    assert (row[:, 0] == BOS).all()
    assert (row[:, 30:] == EOS).all()


def test_a_prompt_that_just_fits_is_not_cut(tiny_tokenizer):
    fits = "7 " * 75  # a token each
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = tokenize(tiny_tokenizer, [fits])[0]
    assert (row == EOS).tolist() == [False] * 76 + [True]
    with pytest.warns(UserWarning, match='the last token is cut, beginning with "!"'):
        assert tokenize(tiny_tokenizer, [fits + "!"])[0].tolist() == row.tolist()


def test_what_is_cut_is_told_and_the_end_token_stays(tiny_tokenizer):
    prompt = "a cat " * 36 + "one two three four"
    with pytest.warns(UserWarning, match="prompt is longer than the 75 tokens that the text encoder reads") as told:
        row = tokenize(tiny_tokenizer, [prompt])[0]
    assert row.shape == (77,)
    assert row[76] == EOS
    assert (row[1:76] != EOS).all()
    assert "are cut, beginning with" in str(told[0].message)
    assert "three four" in str(told[0].message)
    kept = tiny_tokenizer.decode(row[1:76].tolist())
    cut = str(told[0].message).split('"')[1]
    assert (kept + cut).replace(" ", "") == prompt.replace(" ", "")  # nothing is lost between the two


@pytest.mark.parametrize("prompt", ["word " * 10_000, "x" * 50_000, "猫" * 10_000])
def test_the_warning_for_10000_words_is_short(tiny_tokenizer, prompt):
    with pytest.warns(
        UserWarning, match=r'negative_prompt is longer .* the last \d+ tokens \(\d+ words?\) are cut, beginning with ".{40,60}"'
    ) as told:
        tokenize(tiny_tokenizer, [prompt], argument="negative_prompt")
    assert len(str(told[0].message)) < 300


def test_the_warning_counts_words_and_not_commas(tiny_tokenizer):
    with pytest.warns(UserWarning, match=r"the last 8 tokens \(4 words\) are cut") as told:
        tokenize(tiny_tokenizer, ["a " * 75 + "a, a, a, a!"])
    assert '"a , a , a , a !"' in str(told[0].message)


def test_transformers_does_not_warn_in_its_own_words(tiny_tokenizer, caplog):
    with pytest.warns(UserWarning, match="prompt is longer"):
        tokenize(tiny_tokenizer, ["word " * 300])
    assert not caplog.records
