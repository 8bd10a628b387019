"""Words that stand in no caption are named; all others are not."""

import torch

from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.data.scenes import caption_of, compose
from ldm_tutorial.data.vocabulary import hint_for, unknown_words


def test_the_words_of_every_caption_are_known():
    assert not any(unknown_words(caption) for entry in EmojiDataset().entries[::50] for caption in entry.captions)


def test_the_words_of_the_captions_of_scenes_are_known():
    data, generator = EmojiDataset("train"), torch.Generator().manual_seed(0)
    scenes = [compose(data, row, generator) for row in range(0, len(data), 7)]
    assert unknown_words(", ".join(caption_of(scene, data.entries) for scene in scenes)) == []
    assert hint_for("two rockets above a small cat in the top left corner on a blue background") == ""


def test_unknown_words_are_named_once_in_their_order():
    assert unknown_words("An ASTRONAUT in Paris or Qwertz, paris") == ["paris", "qwertz"]
    assert hint_for("a cat in Paris").startswith('the small model was never trained with "paris", and draws something else')


def test_numbers_and_signs_are_no_words():
    assert unknown_words("a cat, 100 %: (cat)!") == []


def test_there_is_nothing_to_say_about_a_caption_and_something_about_an_empty_prompt():
    assert hint_for("a cat in the style of noto") == ""
    assert "the prompt is empty" in hint_for("  ")
