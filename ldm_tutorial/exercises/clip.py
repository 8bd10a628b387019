"""Notebook 05: a row of 77 tokens, a word cut into pieces, a contrastive loss that allows more than one right answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from . import Unnamed, call, cases, exercise, unknown

# ---- 1. A row of tokens


def token_row(tokens: Sequence[int], start: int, end: int, length: int) -> list[int]:
    """Start, tokens, end, and further ends up to `length`; tokens that do not fit are cut."""
    kept = list(tokens[: length - 2])
    return [start, *kept, *[end] * (length - 1 - len(kept))]


@exercise(
    "05.1",
    nudge="How many places are left for the prompt, when start and end have theirs?",
    solution="keep at most length - 2 tokens; then the start before, one end behind, and more ends up to the length",
)
def row_of_tokens(answer: Callable) -> str | None:
    """05.1: a row of fixed length from the tokens of a prompt."""
    start, end, length = 98, 99, 7
    for n in cases((3, 5, 6, 12, 0)):  # some, all that fit, one too many, far too many, none
        tokens = list(range(11, 11 + n))
        given = list(tokens)
        found = call(answer, given, start, end, length)
        if isinstance(found, Tensor):
            found = found.tolist()
        if not isinstance(found, (list, tuple)):
            return f"the answer must be a list of numbers; yours is {type(found).__name__}"
        found, right = list(found), token_row(tokens, start, end, length)
        if given != tokens:
            return "your function changes the list that it is given: append, insert and += write into it; make a new list"
        asked = f"for {n} token{'s' * (n != 1)} and length {length}"
        if found == right:
            continue
        if found == right[: n + 2]:
            return f"{asked}: the padding is missing; the row must have {length} entries, yours has {len(found)}"
        begin, filled = right[: min(n + 2, length)], length - n - 2
        if filled > 0 and found == [*[end] * filled, *begin]:
            return f"{asked}: the padding stands on the left; it belongs behind the end of the prompt"
        if filled > 0 and found == [start, *[end] * filled, *begin[1:]]:
            return f"{asked}: the padding stands before the prompt; it belongs behind its end"
        if filled > 0 and found == [*begin, *[start] * filled]:
            return f"{asked}: padded with the start token. In Stable Diffusion v1 padding is the end token"
        if found[:1] == [end] and start in found:
            return f"{asked}: start and end are swapped"
        if found[:1] != [start]:
            return f"{asked}: the row must begin with the start token"
        if end not in found and n + 2 > length:
            return f"{asked}: the end token is lost. Cut the prompt, not the end: two places are taken"
        if end not in found:
            return f"{asked}: the end token is missing behind the prompt"
        if len(found) > length:
            return f"{asked}: the row has {len(found)} entries; what is too long must be cut"
        padding = found[n + 2 :]
        if found[: n + 2] == right[: n + 2] and padding and set(padding) == {0}:
            return f"{asked}: padded with 0. In Stable Diffusion v1 padding is the end token; 0 is a word"
        if len(found) < length and found == right[: len(found)]:
            return f"{asked}: the row must have {length} entries, yours has {len(found)}"
        if n > length - 2 and found == [start, *tokens[-(length - 2) :], end]:
            return f"{asked}: the beginning of the prompt is cut; keep the beginning and cut its end"
        if sorted(found) == sorted(right):
            return f"{asked}: the right entries in another order; the row should be {right}, and yours is {found}"
        if len(found) == length and found[: len(found) - 1] == right[:-1]:
            return f"{asked}: the last entry should be the end token; yours is {found[-1]}"
        if n >= length - 2 and found[1 : length - 2] == right[1 : length - 2]:
            return f"{asked}: one token too few or too many is kept: {length - 2} fit, between start and end; yours is {found}"
        return Unnamed(f"{asked} the row should be {right}; yours is {found}")
    return None


# ---- 2. A word in pieces

MERGES = [
    ("a", "t</w>"),
    ("t", "h"),
    ("th", "at</w>"),
    ("c", "h"),
    ("a", "t"),
    ("h", "at</w>"),
    ("o", "o"),
    ("oo", "oo"),
    ("at", "c"),
    ("c", "at</w>"),
    ("e", "r</w>"),
    ("th", "er</w>"),
    ("o", "th"),
    ("th", "a"),
]
_WORDS = ("that", "chat", "catch", "bother", "hoooot", "a", "zoo", "attat")


def merged(symbols: Sequence[str], pair: tuple[str, str], once: bool = False) -> list[str]:
    """Every occurrence of the pair made one, from left to right; `once`: only the first."""
    out: list[str] = []
    i, done = 0, False
    while i < len(symbols):
        if not done and tuple(symbols[i : i + 2]) == tuple(pair):
            out.append(symbols[i] + symbols[i + 1])
            i, done = i + 2, once
        else:
            out.append(symbols[i])
            i += 1
    return out


def pieces(word: str, merges: Sequence[tuple[str, str]], marked: bool = True, once: bool = False) -> list[str]:
    """Each merge in the order in which it was learned. The switches make mistakes that the check names."""
    symbols = [*word[:-1], word[-1] + ("</w>" if marked else "")]
    for pair in merges:
        symbols = merged(symbols, pair, once)
    return symbols


def leftmost_first(word: str, merges: Sequence[tuple[str, str]]) -> list[str]:
    """A mistake: not the oldest merge first, but whichever comes first in the word."""
    symbols, known = [*word[:-1], word[-1] + "</w>"], set(merges)
    while True:
        found = [i for i in range(len(symbols) - 1) if (symbols[i], symbols[i + 1]) in known]
        if not found:
            return symbols
        i = found[0]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


def longest_first(word: str, merges: Sequence[tuple[str, str]]) -> list[str]:
    """A mistake: at each place the longest piece that is in the vocabulary."""
    symbols, made = [*word[:-1], word[-1] + "</w>"], {left + right for left, right in merges}
    out: list[str] = []
    while symbols:
        n = next(n for n in range(len(symbols), 0, -1) if n == 1 or "".join(symbols[:n]) in made)
        out.append("".join(symbols[:n]))
        symbols = symbols[n:]
    return out


@exercise(
    "05.2",
    nudge="Do a word of four letters by hand, with two merges. What is the word before the first merge?",
    solution="letters, </w> on the last; then for each pair of merges, in that order, make one of every occurrence",
)
def word_in_pieces(answer: Callable) -> str | None:
    """05.2: the pieces of a word, from the merges in the order in which they were learned."""
    for word in cases(_WORDS):
        found, right = call(answer, word, list(MERGES)), pieces(word, MERGES)
        if isinstance(found, str) or not isinstance(found, (list, tuple)):
            return f"the answer must be a list of pieces; yours is {type(found).__name__}"
        found = list(found)
        if found == right:
            continue
        asked = f"{word!r} becomes {right}; yours is {found}"
        if found in (pieces(word, MERGES, marked=False), [p.removesuffix("</w>") for p in right]):
            return f"{asked}: the last letter of a word carries </w>, and merges know it with that"
        if "".join(map(str, found)) == f"{word}</w>" and found[-1] == "</w>":
            return f"{asked}: </w> is no letter of its own; it belongs to the last one"
        if found[::-1] == right:
            return f"{asked}: the pieces are in the opposite order"
        if "".join(map(str, found)) != f"{word}</w>":
            return f"{asked}: letters were lost or added; together the pieces must be the word and </w>"
        if found == [*word[:-1], f"{word[-1]}</w>"]:
            return f"{asked}: nothing was merged"
        if found == longest_first(word, MERGES):
            return f"{asked}: you take the longest known piece at each place; asked are the merges, in their order"
        if found == leftmost_first(word, MERGES):
            return f"{asked}: you merge whichever known pair comes first in the word; the pair learned first goes first"
        if found == pieces(word, MERGES, once=True):
            return f"{asked}: a merge takes every occurrence of its pair, not the first only"
        if found == pieces(word, MERGES[::-1]):
            return f"{asked}: you go through the merges backward"
        for count in range(1, len(MERGES)):
            if found == pieces(word, MERGES[:count]):
                return f"{asked}: you stop after {count} of {len(MERGES)} merges: go on to the end of the list"
        if found == [word + "</w>"]:
            return f"{asked}: all became one piece: a pair is made one only if it stands in the merges"
        if found == pieces(word, sorted(MERGES, key=lambda pair: -len("".join(pair)))):
            return f"{asked}: you take the longest pairs first; the pair that was learned first goes first"
        if found == pieces(word, sorted(MERGES)):
            return f"{asked}: you sort the merges: their order is that in which they were learned"
        return Unnamed(asked)
    return None


# ---- 3. More than one right answer


def one_way(logits: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy of each row with a target that is shared equally among its right answers: (b, b) twice -> (b,)"""
    target = same / same.sum(dim=1, keepdim=True)
    return -(target * logits.log_softmax(dim=1)).sum(dim=1)


def loss_with_doubles(logits: Tensor, same: Tensor) -> Tensor:
    """The mean of both directions: captions over pictures and pictures over captions."""
    same = same.to(logits.dtype)
    return (one_way(logits, same).mean() + one_way(logits.T, same.T).mean()) / 2


def mistaken_losses(logits: Tensor, same: Tensor) -> dict[str, Tensor]:
    """What comes out of each mistake, by the sentence that names it."""
    right, same = torch.arange(len(logits)), same.to(logits.dtype)
    rows, columns = one_way(logits, same).mean(), one_way(logits.T, same.T).mean()
    target = same / same.sum(dim=1, keepdim=True)
    whole = -(same / same.sum() * logits.flatten().log_softmax(0).view_as(logits)).sum()
    return {
        "that is the loss of the text: doubles still count as wrong": (
            F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)
        )
        / 2,
        "only the pictures choose; the captions must choose as well": rows,
        "only the captions choose; the pictures must choose as well": columns,
        "the mean of the two directions is asked, not their sum": rows + columns,
        "each row's target must sum to 1: divide by the number of right answers": (
            -((same * logits.log_softmax(1)).sum(1).mean() + (same.T * logits.T.log_softmax(1)).sum(1).mean()) / 2
        ),
        "the captions need a target of their own: divide the columns of same by their own sums": (
            rows - (target.T * logits.T.log_softmax(1)).sum(1).mean()
        )
        / 2,
        "the log of the probability of all right answers together is another loss: one of them alone would satisfy it": (
            -(
                (logits.log_softmax(1) + same.log()).logsumexp(1).mean()
                + (logits.T.log_softmax(1) + same.T.log()).logsumexp(1).mean()
            )
            / 2
        ),
        "the softmax is taken over the whole table; each picture has its own choice": whole,
        "the sum over the batch; asked is the mean": len(logits) * (rows + columns) / 2,
        "for the captions, `same` has to be turned as well: same.T goes with logits.T": (rows + one_way(logits.T, same).mean())
        / 2,
        "for the captions, the logits have to be turned as well: logits.T goes with same.T": (
            rows + one_way(logits, same.T).mean()
        )
        / 2,
        "the softmax runs along the wrong dimension: each row is a choice, so dim=1": (
            -(target * logits.log_softmax(0)).sum(1).mean()
            - (same.T / same.T.sum(1, keepdim=True) * logits.T.log_softmax(0)).sum(1).mean()
        )
        / 2,
        "the logarithm is missing: a cross-entropy is the mean of -log(probability)": (
            -(target * logits.softmax(1)).sum(1).mean()
            - (same.T / same.T.sum(1, keepdim=True) * logits.T.softmax(1)).sum(1).mean()
        )
        / 2,
        "the softmax is missing: logits are no logarithms of probabilities": (
            -(target * logits).sum(1).mean() - (same.T / same.T.sum(1, keepdim=True) * logits.T).sum(1).mean()
        )
        / 2,
        "that is a yes or no for each pair by itself; asked is a choice among all captions, and among all pictures": (
            F.binary_cross_entropy_with_logits(logits, same)
        ),
        "the softmax comes twice: cross_entropy and log_softmax take the logits themselves": (
            one_way(logits.softmax(1), same).mean() + one_way(logits.T.softmax(1), same.T).mean()
        )
        / 2,
        "you average over all places of the table: sum over the right answers of a row, then average over the rows": (
            (rows + columns) / 2 / len(logits)
        ),
    }


@exercise(
    "05.3",
    nudge="Look at one row: which probabilities does its picture have to give, if two captions are right? Then at one column.",
    solution="target = same / same.sum(1, keepdim=True); -(target * logits.log_softmax(1)).sum(1).mean(); then for .T",
)
def doubles(answer: Callable) -> str | None:
    """05.3: the contrastive loss where some captions of a batch are the same, from logits and `same`, (b, b) both."""
    generator = torch.Generator().manual_seed(0)
    same = torch.eye(5, dtype=torch.bool)
    same[0, 3] = same[0, 4] = same[3, 4] = True  # caption 4, "cat", fits pictures 0 and 3, too; not symmetric
    logits = 3 * torch.randn(5, 5, generator=generator)
    kept = logits.clone(), same.clone()
    found, right = call(answer, logits, same), loss_with_doubles(logits, same)
    if not isinstance(found, Tensor) or found.numel() != 1:
        shape = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        return f"the answer must be one number, in a tensor; yours is {shape}"
    if not (torch.equal(logits, kept[0]) and torch.equal(same, kept[1])):
        return "your function changes its inputs"
    if not losses_agree(found, right):
        for mistake, value in mistaken_losses(logits, same).items():
            if losses_agree(found, value):
                return mistake
        return unknown(found.item(), right.item(), f"the loss should be {right:.4f}, and yours is {found.item():.4f}")
    large = call(answer, 100 * logits, same)
    if not torch.isfinite(large).all():
        return "for large logits the result is not finite: log_softmax in place of the logarithm of a softmax"
    return None


def losses_agree(a: Tensor, b: Tensor) -> bool:
    """Two losses, numbers or tensors with one number, are equal to rounding."""
    return bool((a.detach().reshape(()) - b).abs() <= 1e-4 * (1 + b.abs()))
