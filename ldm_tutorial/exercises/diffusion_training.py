"""Notebook 07b: dropping captions, the average of the weights, and a large batch in small parts."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import Unnamed, call, cases, exercise, shape_of, unknown

# ---- 1. Captions that are dropped


@exercise(
    "07b.1",
    nudge="How many random numbers does a batch of 12 captions need?",
    solution="clone chosen; then write 0 wherever torch.rand(len(chosen), generator=generator) < p",
)
def dropped(answer: Callable) -> str | None:
    """07b.1: captions replaced by the empty one, each with probability p; the input stays as it was."""
    p, chosen = 0.2, torch.arange(5, 17)  # (12,): numbers of captions; 0 is the empty one
    counts, drawn = [], []
    for seed in range(200):
        given = chosen.clone()
        found = call(answer, given, p, torch.Generator().manual_seed(seed))
        if not isinstance(found, Tensor) or found.shape != chosen.shape:
            return f"return the numbers of the captions, a tensor {tuple(chosen.shape)}; yours is {shape_of(found)}"
        if found.dtype != torch.int64:
            return f"the numbers of captions are whole numbers, int64, to look states up with; yours are {found.dtype}"
        if not torch.equal(given, chosen):
            return "your function changes its input: chosen[...] = 0 writes into it; clone it first"
        if ((found != chosen) & (found != 0)).any():
            return f"each number must stay or become 0, the empty caption; yours holds {found[found != chosen][0].item()}"
        counts.append(int((found == 0).sum()))
        drawn.append(found)
    again = call(answer, chosen.clone(), p, torch.Generator().manual_seed(0))
    share = sum(counts) / (200 * len(chosen))
    if share == 0:
        return "no caption is ever dropped"
    if set(counts) == {0, len(chosen)}:
        return "all captions of the batch are dropped together or none: draw a number for each, not one for all"
    if abs(share - (1 - p)) < 0.05:
        return f"{share:.0%} of the captions are dropped, and 20 % should be: your comparison is the wrong way round"
    if not torch.equal(again, drawn[0]):
        return "the same generator gives another result: draw from the one you are given, torch.rand(..., generator=generator)"
    if len(set(counts)) == 1:
        return f"each time exactly {counts[0]} are dropped: every caption has its own chance, so the number must vary"
    if abs(share - p) > 0.04:
        for wrong, mistake in ((p**2, "p is used twice"), (p / 2, "half of p"), (0.1, "your p is always 0.1; it is an argument")):
            if abs(share - wrong) < 0.02:
                return f"20 % of the captions should be dropped, and yours are {share:.0%}: {mistake}"
        return (
            f"20 % of the captions should be dropped, and yours are {share:.0%}: compare numbers from 0 to 1 (torch.rand) with p"
        )
    return None


# ---- 2. The average of the weights


def averages(values: list[float], decay: float, rule: str = "right") -> list[float]:
    """The average after each of the values, which are those of one weight; values[0] is the start. `rule` names a mistake."""
    average, found = values[0], []
    for n, value in enumerate(values[1:], 1):
        count = {"from 0": n - 1, "fixed 1": 1}.get(rule, n)
        warm = (1 + count) / (10 + count)
        d = {"no warm-up": decay, "only warm-up": warm, "larger": max(decay, warm)}.get(rule, min(decay, warm))
        average = (1 - d) * average + d * value if rule == "swapped" else d * average + (1 - d) * value
        if rule == "from the start":
            average = d * values[0] + (1 - d) * value
        found.append(average)
    return found


AVERAGES = {
    "no warm-up": "the decay is the given one from the first update on: at most (1 + n) / (10 + n) after n updates",
    "swapped": "decay and 1 - decay are swapped: the decay belongs to the old average",
    "from 0": "n counts the updates from 1: the first one has the decay 2/11, not 1/10",
    "larger": "you take the larger of the two decays: the smaller one lets the random start be forgotten",
    "only warm-up": "the decay grows past the given one: take the smaller of the two",
    "from the start": "each update begins from the first value again: begin from the average of the update before",
    "fixed 1": "n stays 1: count the updates",
}


@exercise(
    "07b.2",
    nudge="Do the first update on paper, from 0 to 1 with a decay of 0.999: which number is smaller, 0.999 or 2/11?",
    solution="for n = 1, 2, ...: d = min(decay, (1 + n) / (10 + n)); average = d * average + (1 - d) * value",
)
def averaged(answer: Callable) -> str | None:
    """07b.2: the moving average of one weight after each update, with its warm-up."""
    long = [0.3 * math.sin(i) + i / 20 for i in range(30)]
    for values, decay in cases((([1.0, 2.0, 4.0, -1.0], 0.25), ([0.0, 1.0, 2.0, 4.0], 0.999), (long, 0.5))):
        right = averages(values, decay)
        given = list(values)
        found = call(answer, given, decay)
        asked = f"for {len(values) - 1} updates and a decay of {decay:g}"
        if given != values:
            return f"{asked}: your function changes the list that it is given"
        try:
            got = [float(value) for value in found]
        except TypeError:
            return (
                f"{asked}: return the average after each update, a list of {len(right)} numbers; yours is {type(found).__name__}"
            )
        if len(got) == len(values) and same_numbers(got[1:], right):
            return f"{asked}: your list begins with the start; return the averages after the updates only"
        if len(got) != len(right):
            return f"{asked}: there are {len(right)} averages, one after each update; yours are {len(got)}"
        if same_numbers(got, right):
            continue
        for rule, mistake in AVERAGES.items():
            if same_numbers(got, averages(values, decay, rule)):
                return f"{asked}: {mistake}"
        if same_numbers(got, values[1:]):
            return f"{asked}: these are the weights themselves, not their average"
        if same_numbers(got, [sum(values[: n + 2]) / (n + 2) for n in range(len(right))]):
            return f"{asked}: that is the plain mean of all weights so far: old ones must count less and less"
        return Unnamed(f"{asked}: the first averages should be {brief(right)}, and yours are {brief(got)}")
    return None


def same_numbers(a: list[float], b: list[float]) -> bool:
    """Whether two lists are equally long and their numbers equal to rounding."""
    return len(a) == len(b) and all(abs(x - y) <= 1e-5 * (1 + abs(y)) for x, y in zip(a, b))


def brief(values: list[float]) -> str:
    """The first three numbers, for a message."""
    return ", ".join(f"{value:.4f}" for value in values[:3])


# ---- 3. A large batch in small parts


def each_loss(weight: Tensor, part: Tensor) -> Tensor:
    """A loss for each example, (n,), of a model with two weights."""
    return (weight[0] * part + weight[1] - 1) ** 2


@exercise(
    "07b.3",
    nudge="The last part may be smaller. What must be added up over the parts, so that the result is the mean over all examples?",
    solution="zero the gradients; for part in batch.split(size): (loss_of(part).sum() / len(batch)).backward(); "
    "return [p.grad for p in parameters]",
)
def accumulated(answer: Callable) -> str | None:
    """07b.3: the gradient of the mean loss over a batch, computed in parts of at most `size` examples."""
    batch = torch.arange(1.0, 11.0, dtype=torch.float64).square()  # (10,)
    start = torch.tensor([0.5, -1.0], dtype=torch.float64)
    earlier = torch.full_like(start, 100.0)  # the gradient of an earlier step
    weight, parts = torch.nn.Parameter(start.clone()), list[Tensor]()
    (right,) = torch.autograd.grad(each_loss(weight, batch).mean(), [weight])

    def loss_of(part: Tensor) -> Tensor:
        parts.append(part.detach().clone())
        return each_loss(weight, part)

    for size in cases((5, 4, 1, 10, 16)):
        parts.clear()
        weight.grad = earlier.clone()
        returned = call(answer, loss_of, [weight], batch.clone(), size)
        asked = f"for 10 examples in parts of {size}"
        if not parts:
            return "loss_of was never called: call it with each part of the batch"
        if max(map(len, parts)) > size:
            return f"{asked}: loss_of got {max(map(len, parts))} examples at once, which would not fit into memory"
        seen = torch.cat(parts)
        if len(seen) < len(batch):
            return f"{asked}: loss_of saw {len(seen)} examples only; the last part may be smaller than the others"
        if not torch.equal(seen, batch):
            return f"{asked}: loss_of saw {len(seen)} examples, and not each of them once"
        if not isinstance(returned, (list, tuple)) or len(returned) != 1 or not isinstance(returned[0], Tensor):
            return "return a list with the gradient of each parameter: [p.grad for p in parameters]"
        if not torch.equal(weight.detach(), start):
            return f"{asked}: the weights have changed; compute the gradient only, the optimizer does the rest"
        found = returned[0]
        if torch.allclose(found, right):
            continue
        each_part = [torch.autograd.grad(each_loss(weight, part).mean(), [weight])[0] for part in parts]
        added = torch.stack(each_part).sum(0)
        for mistake, wrong in {
            "the gradient of the step before is still in it: set it to zero (or None) first": right + earlier,
            "the means of the parts are added: divide, so that the sum is the mean over all examples": added,
            "the losses are summed: divide by the number of examples in the whole batch": right * len(batch),
            "only the last part is in it: do not set the gradient to zero between the parts": each_part[-1],
            "only the last part is in it: set the gradient to zero once, before the first part": each_part[-1]
            * len(parts[-1])
            / len(batch),
            "every part counts the same, also a smaller last one: weigh by the number of its examples": added / len(parts),
            "you divide by the size of a part: divide by the number of all examples": right * len(batch) / size,
        }.items():
            for extra, more in ((0.0, ""), (1.0, ", and the gradient of the step before is still in it")):
                if torch.allclose(found, wrong + extra * earlier):
                    return f"{asked}: {mistake}{more}"
        said = f"{asked}: the gradient should be {brief(right.tolist())}, and yours is {brief(found.tolist())}"
        return unknown(found, right, said)
    return None
