"""The checks of notebook 05 name the mistake in every wrong answer."""

import pytest
import torch

from ldm_tutorial.exercises import verdict
from ldm_tutorial.exercises.clip import MERGES, leftmost_first, longest_first
from tests.exercises.answers import assert_named, assert_told

ROW = "return [start, *kept, end, *[end] * padding]"
SPELLED = 'symbols = [*word[:-1], word[-1] + "</w>"]'
TARGET = "target = same / same.sum(dim=1, keepdim=True)"
BOTH = "return (one_way(logits, same) + one_way(logits.T, same.T)) / 2"
ONE_WAY = "return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("05.1", ROW, "return [start, *kept, end]", "the padding is missing"),
        ("05.1", ROW, "return [*kept, end, *[end] * padding, end]", "begin with the start token"),
        ("05.1", ROW, "return [start, *tokens, *[end] * (length - 1 - len(tokens))][:length]", "the end token is lost"),
        ("05.1", ROW, "return [start, *kept, *[0] * (padding + 1)]", "the end token is missing behind the prompt"),
        ("05.1", ROW, "return [start, *kept, end, *[0] * padding]", "padded with 0"),
        ("05.1", "tokens[: length - 2]", "tokens", "must be cut"),
        ("05.1", "tokens[: length - 2]", "tokens[-(length - 2):]", "the beginning of the prompt is cut"),
        ("05.1", "padding = length - 2 - len(kept)", "padding = length - 3 - len(kept)", "7 entries, yours has 6"),
        ("05.1", ROW, "return str([start, *kept])", "must be a list of numbers"),
        ("05.1", ROW, "return [start, *kept[::-1], end, *[end] * padding]", "the row should be"),
        ("05.2", SPELLED, "symbols = [*word]", "carries </w>"),
        ("05.2", SPELLED, 'symbols = [*word, "</w>"]', "is no letter of its own"),
        ("05.2", "for pair in merges:", "for pair in []:", "nothing was merged"),
        ("05.2", "for pair in merges:", "for pair in merges[::-1]:", "backward"),
        ("05.2", "(out[-1], symbol) == pair", "(out[-1], symbol) == pair and out[-1] + symbol not in out", "every occurrence"),
        ("05.2", "return symbols", "return symbols[:-1]", "lost or added"),
        ("05.2", "return symbols", "return ' '.join(symbols)", "must be a list of pieces"),
        ("05.2", "for pair in merges:", "for pair in merges[:7]:", "becomes"),
        ("05.3", "same / same.sum(dim=1, keepdim=True)", "torch.eye(len(same))", "doubles still count as wrong"),
        ("05.3", BOTH, "return one_way(logits, same)", "the captions must choose as well"),
        ("05.3", BOTH, "return one_way(logits.T, same.T)", "the pictures must choose as well"),
        ("05.3", BOTH, BOTH.removesuffix(" / 2"), "not their sum"),
        ("05.3", TARGET, "target = same.float()", "must sum to 1"),
        (
            "05.3",
            "one_way(logits.T, same.T)",
            "-((same / same.sum(1, keepdim=True)).T * logits.T.log_softmax(1)).sum(1).mean()",
            "divide the columns",
        ),
        ("05.3", ONE_WAY, "return -(logits.softmax(1) * same).sum(1).log().mean()", "another loss"),
        ("05.3", BOTH, "return -(same / same.sum() * logits.flatten().log_softmax(0).view_as(logits)).sum()", "the whole table"),
        ("05.3", ".sum(dim=1).mean()", ".sum()", "asked is the mean"),
        ("05.3", "logits.log_softmax(dim=1)", "logits.softmax(dim=1).log()", "not finite"),
        ("05.3", ONE_WAY, ONE_WAY.removesuffix(".mean()"), "one number"),
        ("05.3", BOTH, f"same[0, 0] = False; {BOTH}", "changes its inputs"),
        ("05.3", BOTH, f"{BOTH} + 1", "the loss should be"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)


def test_other_orders_of_merging_are_told_apart():
    assert_told("05.2", leftmost_first, "the pair learned first goes first")
    assert_told("05.2", longest_first, "the longest known piece")


def test_taking_the_oldest_pair_again_and_again_is_right_too():
    def by_rank(word, merges):
        symbols, rank = [*word[:-1], word[-1] + "</w>"], {pair: i for i, pair in enumerate(merges)}
        while pairs := [pair for pair in zip(symbols, symbols[1:]) if pair in rank]:
            oldest = min(pairs, key=rank.get)
            i = list(zip(symbols, symbols[1:])).index(oldest)
            symbols[i : i + 2] = ["".join(oldest)]
        return symbols

    assert by_rank("bother", MERGES) == ["b", "o", "ther</w>"]
    assert verdict("05.2", by_rank) == "[05.2] correct"


def test_a_row_may_be_a_tensor():
    def row(tokens, start, end, length):
        found = torch.full((length,), end)
        found[0] = start
        found[1 : 1 + min(len(tokens), length - 2)] = torch.tensor(tokens[: length - 2], dtype=torch.long)
        return found

    assert verdict("05.1", row) == "[05.1] correct"
