"""Notebook 17: how many numbers a LoRA holds, merging one, and making one out of a model that was fine-tuned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import call, cases, close, exercise, shape_of, unknown

# ---- 1. How many numbers


@exercise(
    "17.1",
    nudge="Write down the shapes of A and B for one layer of (d_out, d_in), and count their numbers.",
    solution="sum(rank * (d_out + d_in) for d_out, d_in in shapes): A is (rank, d_in), B is (d_out, rank)",
)
def numbers_of_lora(answer: Callable) -> str | None:
    """17.1: how many numbers the matrices of a LoRA hold, for layers of these shapes, (d_out, d_in)."""
    for shapes, rank in cases((([(5, 7), (11, 13), (3, 2)], 5), ([(3, 2)], 1), ([(320, 768), (640, 320), (64, 64)], 4))):
        given = list(shapes)
        right, found = sum(rank * (o + i) for o, i in shapes), call(answer, given, rank)
        asked = f"for layers {shapes} and rank {rank}"
        if given != shapes:
            return f"{asked}: your function changes the list that it is given"
        if isinstance(found, Tensor) and found.numel() == 1:
            found = found.item()
        if not isinstance(found, (int, float)):
            return f"{asked}: return one number; yours is {shape_of(found)}"
        if found == right:
            continue
        out, into = (sum(rank * shape[i] for shape in shapes) for i in (0, 1))
        o, i = shapes[0]
        weights = sum(o * i for o, i in shapes)
        mistakes = {
            weights: "this is the number of weights in the layers themselves, d_out d_in",
            rank * weights: "A and B are two matrices: their numbers are added, and not multiplied",
            into: "these are the numbers of A only; B, (d_out, rank), is missing",
            out: "these are the numbers of B only; A, (rank, d_in), is missing",
            sum(rank**2 * (o + i) for o, i in shapes): "the rank is used twice; A has rank rows, and B rank columns",
            right // rank: "the rank is missing: A has rank rows, and B rank columns",
            rank * (o + i): "this is the first layer only; add up all of them",
            rank * (shapes[-1][0] + shapes[-1][1]): "this is the last layer only; add up all of them",
            right + len(shapes): "one number a layer too many: alpha is a setting and no weight",
            right * len(shapes): "the sum is taken once for each layer",
            4 * right: "these are bytes in float32; the numbers are asked for",
            2 * right: "each number is counted twice; if these are bytes in float16, the numbers are asked for",
            right + weights: "the frozen weights are counted, too; only A and B are in the file",
            right + sum(o for o, _ in shapes): "d_out is added once more: A and B have no bias",
            right + rank**2 * len(shapes): "there is no matrix (rank, rank) between A and B",
            right // len(shapes): "this is a mean over the layers; the sum is asked for",
        }
        if found in mistakes:
            return f"{asked} it should be {right:,}: {mistakes[int(found)]}"
        return unknown(found, right, f"{asked} it should be {right:,}, and yours is {found:,}")
    return None


# ---- 2. Merging


def with_update(
    weight: Tensor,
    a: Tensor,
    b: Tensor,
    alpha: float,
    scale: float,
    factor: str = "alpha / rank",
    strength: str = "scale",
    sign: int = 1,
    kept: str = "all",
) -> Tensor:
    """W + s (α / r) B A. The last four arguments make mistakes."""
    rank = len(a)
    factors = {
        "alpha / rank": alpha / rank,
        "none": 1.0,
        "alpha": alpha,
        "rank / alpha": rank / alpha,
        "1 / rank": 1 / rank,
        "alpha / d_in": alpha / a.shape[1],
        "alpha / d_out": alpha / len(b),
        "alpha / root": alpha / rank**0.5,
        "alpha * rank": alpha * rank,
    }
    strengths = {"scale": scale, "none": 1.0, "squared": scale**2, "1 - scale": 1 - scale, "1 / scale": 1 / scale}
    old = {"all": weight, "nothing": 0 * weight, "the rest": (1 - scale) * weight, "scaled": scale * weight}[kept]
    return old + sign * strengths[strength] * factors[factor] * (b @ a)


MERGE_MISTAKES: dict[str, dict] = {
    "alpha / rank is missing: the change counts rank / alpha times as much as in training": {"factor": "none"},
    "alpha is not divided by the rank, which is the number of rows of A": {"factor": "alpha"},
    "alpha / rank is upside down": {"factor": "rank / alpha"},
    "alpha is missing: you divide by the rank only": {"factor": "1 / rank"},
    "you divide alpha by the number of inputs; the rank is the number of rows of A, a.shape[0]": {"factor": "alpha / d_in"},
    "you divide alpha by the number of outputs; the rank is the number of rows of A, a.shape[0]": {"factor": "alpha / d_out"},
    "you divide alpha by the root of the rank; that is another method, rsLoRA": {"factor": "alpha / root"},
    "alpha is multiplied by the rank and should be divided by it": {"factor": "alpha * rank"},
    "the scale is missing": {"strength": "none"},
    "the scale is used twice": {"strength": "squared"},
    "1 - scale stands where the scale should be": {"strength": "1 - scale"},
    "you divide by the scale": {"strength": "1 / scale"},
    "the change is subtracted, and it should be added": {"sign": -1},
    "this is the change only; add the weight": {"kept": "nothing"},
    "the weight is multiplied by 1 - scale: the old weight stays whole, whatever the scale": {"kept": "the rest"},
    "the weight is multiplied by the scale, too; only the change is": {"kept": "scaled"},
}


@exercise(
    "17.2",
    nudge="Which of the three factors s, α and r do you use, and where? Which shape must B A have?",
    solution="weight + scale * alpha / len(a) * (b @ a), which is a new tensor",
)
def merging(answer: Callable) -> str | None:
    """17.2: the weight of a linear layer with its update in it, equation 3 of Hu et al. 2021 with the factors s and α / r."""
    generator = torch.Generator().manual_seed(0)
    for out, into, rank, alpha, scale in cases(((5, 7, 3, 6.0, 0.4), (3, 2, 1, 1.0, 1.0), (8, 6, 4, 1.0, 1.7))):
        weight, b, a = (torch.randn(shape, generator=generator) for shape in ((out, into), (out, rank), (rank, into)))
        given = [tensor.clone() for tensor in (weight, a, b)]
        right, found = with_update(weight, a, b, alpha, scale), call(answer, *given, alpha, scale)
        asked = f"for W {tuple(weight.shape)}, rank {rank}, alpha {alpha:g} and scale {scale:g}"
        for name, before, after in zip(("weight", "a", "b"), (weight, a, b), given):
            if not torch.equal(before, after):
                return f"{asked}: your function changes {name}, which it is given; return a new tensor"
        if not isinstance(found, Tensor) or found.shape != right.shape:
            turned = isinstance(found, Tensor) and found.shape == right.T.shape
            why = ": it is the transposed one" if turned else ", the shape of the weight"
            return f"{asked}: the result must be a tensor {tuple(right.shape)}; yours is {shape_of(found)}{why}"
        if close(found, right):
            continue
        if close(found, weight):
            return f"{asked}: nothing is added to the weight"
        for mistake, switches in MERGE_MISTAKES.items():
            if close(found, with_update(weight, a, b, alpha, scale, **switches)):
                return f"{asked}: {mistake}"
        for (one, first), (other, second) in ((x, y) for x in MERGE_MISTAKES.items() for y in MERGE_MISTAKES.items()):
            if not first.keys() & second.keys() and close(found, with_update(weight, a, b, alpha, scale, **first, **second)):
                return f"{asked}, two mistakes: {one}; and: {other}"
        return unknown(found - weight, right - weight, f"{asked}: what is added to the weight is not s (α / r) B A")
    return None


# ---- 3. A LoRA out of two models


@exercise(
    "17.3",
    nudge="U, S, V = torch.linalg.svd(after - before): which columns of U, and which rows of V, carry the largest share?",
    solution="u, s, v = torch.linalg.svd(after - before); return v[:rank], u[:, :rank] * s[:rank]",
)
def extracting(answer: Callable) -> str | None:
    """17.3: A and B whose product is as near as it can be to the change of a weight (Eckart & Young 1936)."""
    generator = torch.Generator().manual_seed(1)
    for out, into, rank in cases(((6, 5, 2), (7, 9, 3), (8, 4, 1))):
        before, after = torch.randn(2, out, into, generator=generator)
        u, s, v = torch.linalg.svd(after - before, full_matrices=False)  # (out, n), (n,), (n, into)
        right = u[:, :rank] * s[:rank] @ v[:rank]
        given = before.clone(), after.clone()
        found = call(answer, *given, rank)
        asked = f"for weights {tuple(before.shape)} and rank {rank}"
        if not (torch.equal(given[0], before) and torch.equal(given[1], after)):
            return f"{asked}: your function changes the weights that it is given"
        if not isinstance(found, (tuple, list)) or len(found) != 2 or not all(isinstance(part, Tensor) for part in found):
            return f"{asked}: return two tensors, A and B; yours is {shape_of(found)}"
        a, b = found
        shapes = {
            ((rank, into), (out, rank)): "",
            ((out, rank), (rank, into)): "A and B are swapped: return A, (rank, d_in), first",
            ((into, rank), (out, rank)): "A is transposed: torch.linalg.svd returns V with its vectors in the rows",
            ((into, rank), (rank, out)): "both are transposed",
            ((rank, into), (rank, out)): "B is transposed: take columns of U, not rows",
            (tuple(v.shape), tuple(u.shape)): "all singular vectors are kept: take the first `rank` of them",
            ((into, into), (out, out)): "all singular vectors are kept: take the first `rank` of them",
        }
        mistake = shapes.get((tuple(a.shape), tuple(b.shape)))
        if mistake is None or mistake:
            said = f"A must be {(rank, into)} and B {(out, rank)}; yours are {tuple(a.shape)} and {tuple(b.shape)}"
            return f"{asked}: {said}" + (f": {mistake}" if mistake else "")
        product = b @ a
        if close(product, right, 1e-3):
            continue
        mistakes = {
            "the singular values are missing: U and V have columns and rows of length 1": u[:, :rank] @ v[:rank],
            "the singular values are used twice: put them into A or into B, or their roots into both": (
                u[:, :rank] * s[:rank] ** 2 @ v[:rank]
            ),
            "only the roots of the singular values are used, once: A and B together need them whole": (
                u[:, :rank] * s[:rank].sqrt() @ v[:rank]
            ),
            "the sign is wrong: the change is after - before": -right,
            "these are the smallest singular values; the first are the largest": u[:, -rank:] * s[-rank:] @ v[-rank:],
            "you take the weight after the training; its change, after - before, is asked for": truncated(after, rank),
            "you take the weight before the training; its change, after - before, is asked for": truncated(before, rank),
            "you divide by the singular values": u[:, :rank] / s[:rank] @ v[:rank],
            "you add the two weights; their difference is asked for": truncated(after + before, rank),
            "the first singular vectors go with the wrong singular values": u[:, :rank] * s[:rank].flip(0) @ v[:rank],
        }
        for said, wrong in mistakes.items():
            if close(product, wrong, 1e-3):
                return f"{asked}: {said}"
        if not product.any():
            return f"{asked}: B A is zero; this is how a LoRA starts, and not how it ends"
        error, best = ((after - before - p).norm().item() for p in (product, right))
        return unknown(product, right, f"{asked}: B A is {error:.3f} away from the change, and {best:.3f} is possible")
    return None


def truncated(matrix: Tensor, rank: int) -> Tensor:
    """The matrix of this rank that is nearest to the given one."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank] * s[:rank] @ v[:rank]
