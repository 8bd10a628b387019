"""Notebook 04: the memory of the weights, attention without one word, attention in blocks of keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from . import alone_and_in_pairs, call, cases, close, exercise, shape_of, unknown

# ---- 1. Memory


@exercise(
    "04.1",
    nudge="How many positions has the feature map, and how many pairs of them are there?",
    solution="each head has one weight for every pair of positions; how many positions are there?",
)
def weights_memory(answer: Callable) -> str | None:
    """04.1: the bytes of all attention weights, from height, width, heads and the bytes of a number."""
    for height, width, heads, size in cases(((5, 7, 3, 2), (64, 64, 8, 4))):
        n = height * width
        right, found = heads * n * n * size, call(answer, height, width, heads, size)
        asked = f"weights_memory({height}, {width}, {heads}, {size})"
        if not isinstance(found, (int, float)):
            return f"{asked} must be a number of bytes; yours is {found!r}"
        if found == right:
            continue
        if found == n * n * size:
            return f"{asked} is {found}, that of one head: each head has weights of its own"
        if found == heads * n * n:
            return f"{asked} is {found}: you counted the weights, not their bytes"
        if found == heads * n * size:
            return f"{asked} is {found}: every position has a weight for *every* position, so their number is squared"
        if found == n * n * size / heads:
            return f"{asked} is {found:g}: heads share the channels, not the weights, so multiply by their number"
        if found == heads * (height + width) ** 2 * size:
            return f"{asked} is {found}: a map of {height} x {width} has {n} positions, not {height + width}"
        if found == 8 * right:
            return f"{asked} is {found}: those are bits"
        for factor, unit in ((2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"), (1000, "kB"), (10**6, "MB"), (10**9, "GB")):
            if math.isclose(found * factor, right, rel_tol=1e-3):
                return f"{asked} is {found}, in {unit}: the answer is in bytes"
        if found == heads * n * (n + 1) // 2 * size or found == heads * n * (n - 1) // 2 * size:
            return f"{asked} is {found}: you count each pair once; a weight from i to j is another than from j to i"
        if found == heads * (n**2) ** 2 * size or found == (heads * n) ** 2 * size:
            return f"{asked} is {found}: too many are squared; heads x positions x positions, times the bytes of one"
        if found == heads * n * 77 * size:
            return (
                f"{asked} is {found}, that of attention to 77 words; in self-attention each position attends to all {n} positions"
            )
        return unknown(found, right, f"{asked} should be {right}, and yours is {found}")
    return None


# ---- 2. Attention without one word


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    silent: int | None,
    how: str = "dropped",
    scaled: bool = True,
    dim: int = -1,
    by: float = 0.5,
) -> Tensor:
    """Attention of q (n, d) to k (m, d) and v (m, e) with one word left out; the ways to do it wrong are for the check."""
    if silent is not None and how == "dropped":
        others = [j for j in range(len(k)) if j != silent]
        k, v = k[others], v[others]
    scores = q @ k.T / (q.shape[-1] ** by if scaled else 1)  # (n, m)
    if silent is not None and how == "zero score":
        scores[:, silent] = 0
    weights = scores.softmax(dim)  # (n, m)
    if silent is not None and how == "zero weight":
        weights[:, silent] = 0
    return weights @ v


@exercise(
    "04.2",
    nudge="Print the sum of each row of your weights: what must it be, with one word less?",
    solution="exp of what is 0? Give the word that score, before the softmax. Or leave it out of k and v altogether",
)
def without_word(answer: Callable) -> str | None:
    """04.2: attention in which nothing comes from one word, for q, k, v and its place."""
    n, m, d, e, silent = 5, 7, 4, 3, 2
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(*shape, generator=generator) for shape in ((n, d), (m, d), (m, e)))
    kept = [x.clone() for x in (q, k, v)]
    found = call(answer, q, k, v, silent)
    if not isinstance(found, Tensor):
        return f"the result must be a tensor ({n}, {e}); yours is {type(found).__name__}"
    if found.shape == (n - 1, e):
        return "one row of the result is missing: you left out a pixel (a query), not a word (a key and its value)"
    if found.shape != (n, e):
        return f"the result must have shape ({n}, {e}), a row for each query; yours has {tuple(found.shape)}"
    if not all(torch.equal(x, y) for x, y in zip((q, k, v), kept)):
        return "your function changes its inputs: x[...] = 0 writes into x; work on a copy, or on the scores"
    if close(found, attend(q, k, v, silent)):
        return None
    if not found.isfinite().all():
        return "not finite: some softmax saw nothing but -inf. Only one column should be -inf; the softmax runs over the words"
    if close(found, attend(q, k, v, None)):
        return "the word still counts: this is attention to all of them"
    if close(found, attend(q, k, v, silent, "zero weight")):
        return "its weight is gone: the rows now sum to less than 1. Leave the word out *before* the softmax"
    if close(found, attend(q, k, v, silent, "zero score")):
        return "a score of 0 still counts: e^0 = 1, so the word gets a share"
    if close(found, attend(q, k, v, silent, scaled=False)):
        return "the word is left out, but the scores are not divided by sqrt(d)"
    if close(found, attend(q, k, v, silent, dim=0)):
        return "your softmax runs over the pixels: for each pixel, the weights of the *words* must sum to 1"
    for other in range(m):
        if close(found, attend(q, k, v, other)):
            return f"you left out word {other}; asked was word {silent}, counted from 0"
    for power, what in ((1.0, "divided by d; divide by its root"), (-0.5, "multiplied by sqrt(d); divide by it")):
        if close(found, attend(q, k, v, silent, by=power)):
            return f"the word is left out, but the scores are {what}"
    for how, what in (("zero weight", "its weight is set to 0 after the softmax"), ("zero score", "its score is 0, and e^0 = 1")):
        if close(found, attend(q, k, v, silent, how, scaled=False)):
            return f"two mistakes: {what}; and the scores are not divided by sqrt(d)"
    if close(found, (v.sum(0) - v[silent]).expand(n, e) / (m - 1)) or close(found, v.mean(0).expand(n, e)):
        return "all words have the same weight: the scores are not used"
    only = v[silent].expand(n, e)
    if close(found, only):
        return "only this word is left: it should be the one that is left out"
    said = "these are other numbers. Compare with attention_weights(q, k without row j) @ (v without row j)"
    return unknown(found, attend(q, k, v, silent), said)


# ---- 3. In blocks of keys


def in_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    size: int,
    rescaled: bool = True,
    last: bool = True,
    scaled: bool = True,
    safe: bool = True,
    total_rescaled: bool = True,
    out_rescaled: bool = True,
    turned: bool = False,
    divided: bool = True,
    added: bool = True,
) -> Tensor:
    """Attention that sees `size` keys at a time (Milakov & Gimelshein 2018; Dao et al. 2022); switches make mistakes."""
    top = torch.full((len(q), 1), -torch.inf if safe else 0.0)  # the largest score so far
    total, out = torch.zeros(len(q), 1), torch.zeros(len(q), v.shape[-1])
    for start in range(0, len(k) if last else len(k) - len(k) % size, size):
        scores = q @ k[start : start + size].T / (q.shape[-1] ** 0.5 if scaled else 1)  # (n, size)
        higher = torch.maximum(top, scores.amax(-1, keepdim=True)) if safe else top
        shrink = (higher - top if turned and start else top - higher).exp() if rescaled else torch.ones(())
        share = (scores - higher).exp()
        before, so_far = (total, out) if added else (0 * total, 0 * out)
        total = before * (shrink if total_rescaled else 1) + share.sum(-1, keepdim=True)
        out = so_far * (shrink if out_rescaled else 1) + share @ v[start : start + size]
        top = higher
    return out / total if divided else out


class Watch(TorchFunctionMode):
    """Notes whether some result, or a ready-made attention, held the scores of all n queries and m keys at once."""

    def __init__(self, n: int, m: int):
        self.n, self.m, self.all_at_once = n, m, False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        ready_made = getattr(function, "__name__", "") == "scaled_dot_product_attention" and args[1].shape[-2] == self.m
        if ready_made or (isinstance(result, Tensor) and result.shape in ((self.n, self.m), (self.m, self.n))):
            self.all_at_once = True
        return result


@exercise(
    "04.3",
    nudge="What has to be corrected in the old sums when a later block holds a larger score?",
    solution="keep, for each query, the largest score so far, the sum of exp(score - largest), and the sum of those times v. "
    "When a new block has a larger score, multiply the two old sums by exp(old largest - new largest)",
)
def attention_in_blocks(answer: Callable) -> str | None:
    """04.3: attention over some keys at a time, never holding all scores at once."""
    n, m, d, e, size = 5, 11, 4, 3, 4
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(*shape, generator=generator) for shape in ((n, d), (m, d), (m, e)))
    with Watch(n, m) as watch:
        found = call(answer, q, k, v, size)
    if not isinstance(found, Tensor) or found.shape != (n, e):
        return f"the result must be a tensor ({n}, {e}), a row for each query; yours is {shape_of(found)}"
    right = attend(q, k, v, None)
    if close(found, right):
        if watch.all_at_once:
            return f"right, but not in blocks: something holds all {m} keys at once; multiply with k[start : start + size] only"
        loud = call(answer, 400 * q, k, v, size)
        if not loud.isfinite().all():
            return "right for small scores, but exp of large ones is infinite: subtract the largest score so far"
        if not close(loud, attend(400 * q, k, v, None)):
            return "right for small scores, wrong for large ones: look at how the largest score so far is updated"
        return None
    if not found.isfinite().all():
        return "the result is not finite. The largest score so far must start at -inf, and the sums at 0"
    blocks = [attend(q, k[i : i + size], v[i : i + size], None) for i in range(0, m, size)]
    if close(found, torch.stack(blocks).mean(0)) or close(found, torch.stack(blocks).sum(0)):
        return "each block has its own softmax: the weights of *all* blocks together must sum to 1"
    if close(found, in_blocks(q, k, v, size, last=False)):
        return f"the last block is missing: {m} keys are 2 blocks of {size}, and 3 more"
    if close(found, in_blocks(q, k, v, size, rescaled=False)):
        return "the old sums are not rescaled: they were made with another largest score. Multiply them by exp(old - new)"
    for mistake, switches in alone_and_in_pairs(
        {
            "the scores are not divided by sqrt(d)": {"scaled": False},
            "the sum of the weights is not rescaled when the largest score changes": {"total_rescaled": False},
            "the sum of weights times v is not rescaled when the largest score changes": {"out_rescaled": False},
            "the rescaling is upside down: exp(old largest - new largest), at most 1": {"turned": True},
            "the result is not divided by the sum of all weights": {"divided": False},
            "each block replaces the sums of those before it: add to them": {"added": False},
            "the last block is missing": {"last": False},
        }
    ):
        if close(found, in_blocks(q, k, v, size, **switches)):
            return mistake
    said = "these are other numbers; with one block of all the keys, do you get attention_weights(q, k) @ v?"
    return unknown(found, right, said)
