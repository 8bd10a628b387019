"""Notebook 03: what a patch has seen, the perceptual distance, and a GAN's two gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import NotDone, Unnamed, alone_and_in_pairs, call, cases, close, exercise, shape_of, unknown

# ---- 1. How many pixels has a number seen?


def field(
    layers: list[tuple[int, int]], start: int = 1, late: bool = True, overlap: int = 1, summed: bool = False, half: bool = False
) -> int:
    """Of layers (kernel, stride), first layer first. The switches make mistakes."""
    seen, apart = start, 1
    for kernel, stride in layers:
        further = apart + stride - 1 if summed else apart * stride
        seen += ((kernel - overlap) // (2 if half else 1)) * (apart if late else further)
        apart = further
    return seen


STACKS = (
    [(3, 1)],
    [(3, 1), (3, 1)],
    [(4, 2), (4, 2), (4, 2), (4, 1), (4, 1)],  # the patch discriminator
    [(3, 2), (5, 3), (2, 1)],
    [(7, 4), (3, 2)],
)


@exercise(
    "03.1",
    nudge="Two neighbors in the map of a layer: how many pixels of the picture are they apart?",
    solution="a layer adds (kernel - 1) * apart, where apart is the product of the strides of the layers *before* it",
)
def receptive_field(answer: Callable) -> str | None:
    """03.1: how many pixels along a side a number has seen, from the (kernel, stride) of each layer."""
    for layers in cases(STACKS):
        found, right = call(answer, list(layers)), field(layers)
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        if found == right:
            continue
        asked = f"of {layers}, (kernel, stride) each, it should be {right}; yours is {found}"
        for wrong, mistake in (
            (field(layers, start=0), "you start from 0: without any layer, a number has seen its own pixel, 1"),
            (
                field([(kernel, 1) for kernel, _ in layers]),
                "you leave out the strides: after a stride of 2, neighbors are two pixels apart",
            ),
            (field(layers, late=False), "a layer's own stride moves only the layers after it: widen first, then multiply"),
            (field(layers[::-1]), "you go through the layers backward, with the rule for going forward"),
            (field(layers, overlap=0), "a kernel of 3 reaches *two* further: kernel - 1"),
            (field(layers, half=True), "a kernel reaches to both sides: kernel - 1 pixels in all, not half of them"),
            (field(layers, summed=True), "strides multiply: after two layers of stride 2, neighbors are four pixels apart"),
            (field(layers, overlap=2), "a kernel of 3 reaches *two* further: kernel - 1"),
            (
                math.prod(kernel for kernel, _ in layers),
                "the product of the kernels: windows of neighbors overlap, so they add up",
            ),
            (
                max(kernel for kernel, _ in layers),
                "the largest kernel alone: each layer adds what its own kernel reaches further",
            ),
            (sum(kernel for kernel, _ in layers), "the sum of the kernels: windows of neighbors overlap, and strides count"),
        ):
            if found == wrong:
                return f"{mistake}. {asked[0].upper()}{asked[1:]}"
        return unknown(found, right, asked)
    return None


# ---- 2. The perceptual distance


def lpips_distance(
    xs: list[Tensor],
    ys: list[Tensor],
    heads: list[Tensor],
    length: Any = 1,
    power: int = 2,
    inside: bool = False,
    positions: str = "mean",
    channels: str = "sum",
    levels: str = "sum",
    used: bool = True,
    rooted: bool = False,
) -> Tensor:
    """Zhang et al. 2018, equation 1, with heads as the package lpips has them. The switches make mistakes."""
    each = []
    for fx, fy, head in zip(xs, ys, heads):
        if length is not None:
            fx, fy = F.normalize(fx, dim=length), F.normalize(fy, dim=length)
        head = head[:, None, None] if used else torch.ones(len(head), 1, 1)
        head = head.sqrt() if rooted else head
        difference = (head * (fx - fy)).abs() ** power if inside else head * (fx - fy).abs() ** power
        summed = getattr(difference, channels)(1)  # (b, h, w)
        each.append(getattr(summed, positions)((1, 2)))
    return getattr(torch.stack(each), levels)(0)


@exercise(
    "03.2",
    nudge="Write down the shape after each operation: which dimension is the feature vector, and which are the positions?",
    solution="each level: F.normalize(dim=1), difference, square, times head, sum over channels, mean over positions",
)
def perceptual_distance(answer: Callable) -> str | None:
    """03.2: the perceptual distance, (b,), from the features of two batches and the head of each level."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 6, 4), (2, 5, 3, 2)]
    xs, ys = ([torch.randn(s, generator=generator) for s in shapes] for _ in range(2))
    heads = [3 * torch.rand(s[1], generator=generator) for s in shapes]
    right, found = lpips_distance(xs, ys, heads), call(answer, list(xs), list(ys), list(heads))
    if not isinstance(found, Tensor) or found.shape not in (right.shape, torch.Size([])):
        return f"the result must have one number for each picture, (2,); yours is {shape_of(found)}"
    if found.shape == torch.Size([]):
        return "there is one number for the whole batch: keep one for each picture"
    if close(found, right):
        return None
    mistakes: dict[str, dict[str, Any]] = {
        "the feature vectors are not brought to length 1: a level with large numbers would drown the others": {"length": None},
        "you normalize the whole map at once; each *position* is a vector over the channels: dim=1": {"length": (1, 2, 3)},
        "you normalize over the positions; each position is a vector over the channels: dim=1": {"length": (2, 3)},
        "the heads are not used": {"used": False},
        "the heads go in before the square, so they count squared; multiply after squaring": {"inside": True},
        "the difference is not squared": {"power": 1},
        "you sum over the positions: a larger map would count more; take their mean": {"positions": "sum"},
        "you average over the channels; the distance of two vectors is a sum": {"channels": "mean"},
        "you average over the levels; equation 1 sums them": {"levels": "mean"},
    }
    mistakes["the heads weigh the squares as they are: no root of them"] = {"rooted": True}
    for mistake, switches in alone_and_in_pairs(mistakes):
        if close(found, lpips_distance(xs, ys, heads, **switches)):
            return mistake
    for i in range(len(xs)):
        if close(found, lpips_distance(xs[i : i + 1], ys[i : i + 1], heads[i : i + 1])):
            return f"that is level {i} alone: add up all levels"
    if close(found, right.sqrt()):
        return "no root: equation 1 is a sum of *squared* distances"
    return unknown(found, right, f"these are other numbers: {right[0]:.4f} for the first picture, and yours is {found[0]:.4f}")


# ---- 3. A GAN's two gradients


def networks() -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """A generator, a discriminator with a batch of noise and of real pictures, all small and always the same."""
    generator = torch.Generator().manual_seed(0)
    made, judge = nn.Conv2d(2, 3, 3), nn.Sequential(nn.Conv2d(3, 5, 3), nn.LeakyReLU(0.2), nn.Conv2d(5, 1, 2))
    with torch.no_grad():
        for p in (*made.parameters(), *judge.parameters()):
            p.copy_(0.4 * torch.randn(p.shape, generator=generator))
    return made, judge, torch.randn(4, 2, 8, 7, generator=generator), torch.randn(4, 3, 6, 5, generator=generator)


def gradients(loss: Tensor, module: nn.Module) -> Tensor:
    """All gradients of a module's parameters in one row."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)])


def left(module: nn.Module) -> Tensor | None:
    """What a module's parameters have in `.grad`, in one row; None if there is none."""
    parameters = list(module.parameters())
    found = [p.grad.flatten() for p in parameters if p.grad is not None]
    return torch.cat(found) if len(found) == len(parameters) else None


@exercise(
    "03.3",
    nudge="After each backward(), print which of the two networks has gradients, and ask whether it should.",
    solution="the generator's loss first, backward; then discriminator.zero_grad(); then the hinge, on fake.detach()",
)
def two_gradients(answer: Callable) -> str | None:
    """03.3: after one call, the gradients of the generator's and of the discriminator's loss, each where it belongs."""
    made, judge, noise, real = networks()
    before = copy.deepcopy([*made.state_dict().values(), *judge.state_dict().values()])
    fake = made(noise)
    fooling, on_real, on_fake = -judge(fake).mean(), F.relu(1 - judge(real)).mean(), F.relu(1 + judge(fake)).mean()
    hinge = (on_real + on_fake) / 2
    wanted, leaked = gradients(fooling, made), gradients(hinge, made)
    judged, fooled = gradients(hinge, judge), gradients(fooling, judge)
    half = {"on_real": gradients(on_real, judge) / 2, "on_fake": gradients(on_fake, judge) / 2}

    try:
        returned = call(answer, made, judge, noise, real)
    except NotDone:
        if left(made) is None and left(judge) is None:
            raise
        returned = None
    except RuntimeError as error:
        if "second time" not in str(error):
            raise
        return "PyTorch stops you: the discriminator's loss reaches back through the generator's used-up graph; detach the fakes"
    if any(not torch.equal(a, b) for a, b in zip(before, [*made.state_dict().values(), *judge.state_dict().values()])):
        return "the weights have changed: leave the gradients, and make no step"
    ours, theirs = left(made), left(judge)
    if ours is None:
        return "the generator has no gradients in .grad: in its own step fakes stay attached, and no zero_grad may follow"
    if theirs is None:
        return "the discriminator has no gradients in .grad"
    for found, mistake in (
        (-wanted, "the generator's sign is wrong: it wants high verdicts, so its loss is -discriminator(fake).mean()"),
        (wanted + leaked, "the discriminator's step leaves gradients in the generator: fake.detach() is missing"),
        (leaked, "the generator has the discriminator's gradients: it would help to be caught"),
        (-leaked, "the generator's loss is not the negative hinge: no margin, no real pictures, -discriminator(fake).mean()"),
        (0 * wanted, "the generator's gradients are all zero"),
        (
            gradients(-torch.sigmoid(judge(fake)).log().mean(), made),
            "that is the loss with a sigmoid; with the hinge it is -discriminator(fake).mean()",
        ),
        (gradients(F.relu(1 - judge(fake)).mean(), made), "the generator's loss has no margin: -discriminator(fake).mean()"),
        (gradients(-judge(fake).sum(), made), "that is the sum over the verdicts: take their mean"),
    ):
        if close(ours, found) and not close(ours, wanted):
            return mistake
    if not close(ours, wanted):
        return unknown(ours, wanted, "the generator's gradients are not those of -discriminator(fake).mean()")
    for found, mistake in (
        (judged + fooled, "the generator's step leaves gradients in the discriminator: zero its gradients before its own step"),
        (fooled, "the discriminator has the gradients of the generator's loss: it would learn to be fooled"),
        (2 * judged, "the hinge is the *mean* of its two parts: half of their sum"),
        (-judged, "the discriminator's sign is wrong: it minimizes the hinge"),
        (
            gradients((F.relu(-judge(real)).mean() + F.relu(judge(fake)).mean()) / 2, judge),
            "the margin of 1 is missing: relu(1 - verdict) for the real ones, relu(1 + verdict) for the fake ones",
        ),
        (
            gradients((F.relu(1 + judge(real)).mean() + F.relu(1 - judge(fake)).mean()) / 2, judge),
            "real and fake are swapped: verdicts on real pictures should be above 1",
        ),
        (
            gradients((-judge(real).mean() + judge(fake).mean()) / 2, judge),
            "that is the loss without its hinge: relu(1 - verdict), relu(1 + verdict)",
        ),
        (
            gradients((F.softplus(-judge(real)).mean() + F.softplus(judge(fake)).mean()) / 2, judge),
            "that is the cross-entropy; asked is the hinge",
        ),
        (half["on_real"], "the discriminator has not learned from the fake ones"),
        (half["on_fake"], "the discriminator has not learned from the real ones"),
        (half["on_real"] - gradients(F.relu(1 - judge(fake)).mean(), judge) / 2, "for the fakes, the hinge is relu(1 + verdict)"),
    ):
        if close(theirs, found) and not close(theirs, judged):
            return mistake
    if not close(theirs, judged):
        return unknown(theirs, judged, "the discriminator's gradients are not those of the hinge loss")
    losses = returned.flatten() if isinstance(returned, Tensor) else returned
    if returned is None or not isinstance(losses, (tuple, list, Tensor)) or len(losses) != 2:
        return f"the gradients are right: return both losses, too, that is two numbers; yours is {shape_of(returned)}"
    numbers = sorted(float(loss.detach() if isinstance(loss, Tensor) else loss) for loss in losses)
    right = sorted(loss.item() for loss in (fooling, hinge))
    if not close(torch.tensor(numbers), torch.tensor(right)):
        ours_and_right = f"{numbers[0]:.4f} and {numbers[1]:.4f}; they should be {right[0]:.4f} and {right[1]:.4f}"
        return Unnamed(f"the gradients are right, but the two losses that you return are {ours_and_right}")
    return None
