"""The tables say of every character what the tokenizer itself does with it."""

import unicodedata

import pytest

from ldm_tutorial.export.characters import CHARACTERS, characters_of, ranges


@pytest.fixture(scope="module")
def tables(tiny_tokenizer):
    return characters_of(tiny_tokenizer.backend_tokenizer)


def within(codes):
    pairs = [part.split("-") for part in codes.split(",")]
    return {c for pair in pairs for c in range(int(pair[0], 16), int(pair[-1], 16) + 1)}


def test_letters_and_numbers_are_those_of_unicode_where_python_knows_them(tables):
    letters, numbers = within(tables["letters"]), within(tables["numbers"])
    assert not letters & numbers
    for character in CHARACTERS:
        kind = unicodedata.category(character)
        if kind != "Cn":  # not assigned in Python's version; perhaps in the tokenizer's
            assert ((ord(character) in letters), (ord(character) in numbers)) == (kind[0] == "L", kind[0] == "N"), hex(
                ord(character)
            )


def test_small_letters_are_those_of_the_tokenizer(tables):
    assert {c: tables["small"][c] for c in "AZÉΣİ"} == {"A": "a", "Z": "z", "É": "é", "Σ": "σ", "İ": "i\u0307"}
    assert "a" not in tables["small"] and "猫" not in tables["small"]


def test_ranges():
    assert ranges([65, 66, 67, 97]) == "41-43,61"
    assert ranges([]) == ""
