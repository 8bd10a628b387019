"""Which words a picture is trained with."""

import torch

from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.training.wording import choose_words, without_article

ROW = ("an owl in the style of noto", "owl", "an owl", "a bird in the style of noto", "bird", "a bird")


def test_an_article_is_left_out_only_at_the_beginning_and_only_as_a_word():
    assert without_article("a cat in a hat") == "cat in a hat"
    assert without_article(ROW[0]) == "owl in the style of noto"
    assert without_article("animals in the style of noto") == "animals in the style of noto"
    assert without_article("a") == "a"


def test_words_are_chosen_as_often_as_asked():
    chosen = choose_words([ROW] * 6000, torch.Generator().manual_seed(0), full=0.3, bare=0.2, label=0.1)
    shares = {words: chosen.count(words) / 6000 for words in set(chosen)}
    assert set(shares) == {*ROW, "owl in the style of noto"}
    wanted = {ROW[0]: 0.3 + 0.4 / 6, "owl in the style of noto": 0.2, "owl": 0.1 + 0.4 / 6, "bird": 0.4 / 6}
    assert all(abs(shares[words] - share) < 0.025 for words, share in wanted.items()), shares


def test_the_second_caption_of_each_picture_is_its_label():
    assert all(entry.captions[1] == entry.label for entry in EmojiDataset("all").entries)


def test_no_two_pictures_share_their_full_caption_with_or_without_its_article():
    first = [entry.captions[0] for entry in EmojiDataset("all").entries]
    assert len(set(first)) == len({without_article(caption) for caption in first}) == len(first)
