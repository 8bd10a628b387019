"""Notebook 13: the header of a file, attention in slices, the first layer that differs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..attention import attention_weights
from ..checkpoints.tensors import write_tensors
from ..lessons.first_difference import first_difference, results
from ..lessons.memory import peak_bytes, whole_maps
from . import NotDone, call, cases, close, exercise, unknown

# ---- 1. The header


@exercise(
    "13.1",
    nudge="Print the first 40 bytes: where does the JSON begin?",
    solution="length = int.from_bytes(raw[:8], 'little'), then json.loads(raw[8 : 8 + length])",
)
def header(answer: Callable) -> str | None:
    """13.1: the header of a safetensors file, from its bytes."""
    tensors = {"a.weight": torch.zeros(3, 5), "a.bias": torch.zeros(300, dtype=torch.float16), "scale": torch.zeros(())}
    right = {"a.weight": ("F32", (3, 5)), "a.bias": ("F16", (300,)), "scale": ("F32", ())}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.safetensors"
        write_tensors(path, tensors, metadata={"note": "x" * 300})
        try:
            found = call(answer, path)
        except (ValueError, OverflowError, MemoryError) as error:  # of json, of text that is none, of a huge length
            where = "it begins at byte 8 and has as many bytes as the first 8 say, little-endian"
            return f"what you parse is no JSON ({type(error).__name__}: {error}): {where}"
        except KeyError as error:
            if error.args[0] in ("dtype", "shape"):
                return f"the entry __metadata__ has no {error}: it is no tensor, leave it out"
            raise
    if not isinstance(found, dict):
        return f"the answer must be a dict, name -> (type, shape); yours is {type(found).__name__}"
    if "__metadata__" in found:
        return "__metadata__ is no tensor: leave it out"
    if found.keys() != right.keys():
        return f"the file has the tensors {', '.join(right)}; yours are {', '.join(map(str, found))}"
    for name, (kind, shape) in right.items():
        mine = found[name]
        if isinstance(mine, dict):
            return f"{name}: of the entry, return (type, shape) only"
        if not isinstance(mine, (tuple, list)) or len(mine) != 2:
            return f"{name}: the value must be a pair, (type, shape); yours is {mine!r}"
        if mine[1] == kind:
            return f"{name}: first the type, then the shape"
        if mine[0] != kind:
            return f"{name}: the type should be {kind!r}, as the file has it; yours is {mine[0]!r}"
        if not isinstance(mine[1], (tuple, list)) or tuple(mine[1]) != shape:
            return f"{name}: the shape should be {shape}; yours is {mine[1]!r}"
    return None


# ---- 2. Attention in slices


def sliced_wrongly(q: Tensor, k: Tensor, v: Tensor, slices: int) -> Tensor:
    """A softmax over each part of the keys by itself."""
    parts = zip(k.chunk(slices, 2), v.chunk(slices, 2))
    return torch.stack([attention_weights(q, some) @ values for some, values in parts]).sum(0)


@exercise(
    "13.2",
    nudge="What does one row of the result need: which rows of q, of k and of v?",
    solution="for each slice of rows: out[:, :, start:stop] = attention_weights(q[:, :, start:stop], k) @ v",
)
def sliced_attention(answer: Callable) -> str | None:
    """13.2: attention some rows at a time."""
    generator = torch.Generator().manual_seed(0)
    for n, m, slices in cases(((12, 7, 4), (13, 7, 4), (5, 9, 8))):
        q, k, v = (torch.randn(2, 3, rows, 6, generator=generator) for rows in (n, m, m))
        kept, right = [x.clone() for x in (q, k, v)], whole_maps(q, k, v)
        found = call(answer, q, k, v, slices)
        if not isinstance(found, Tensor):
            return f"the result must be a tensor; yours is {type(found).__name__}"
        if not all(map(torch.equal, (q, k, v), kept)):
            return "your function changes its inputs"
        if close(found, right):
            continue
        asked = f"for {n} rows in {slices} slices"
        if close(found, torch.softmax(q @ k.transpose(-2, -1), -1) @ v):
            return f"{asked}: the scores must be divided by the root of the channels a head has"
        mistakes = (sliced_wrongly(q, k, v, slices), sliced_wrongly(q, k, v, slices) / len(k.chunk(slices, 2)))
        if any(close(found, wrong) for wrong in mistakes):
            return f"{asked}: a softmax runs over all keys of a row, and cannot be cut there; cut the rows, that is q"
        if found.ndim == 4 and found.shape[2] < n and close(found, right[:, :, : found.shape[2]]):
            return f"{asked}: {n - found.shape[2]} rows are missing at the end: {n} is no multiple of {slices}"
        if found.shape != right.shape:
            return f"{asked}: the result must have the shape of q, {tuple(right.shape)}; yours is {tuple(found.shape)}"
        rows = [bool((found[:, :, i] - right[:, :, i]).abs().max() < 1e-4) for i in range(n)]
        if any(rows):
            return f"{asked}: row {rows.index(False)} is wrong, others are right: does each row of q come in one slice?"
        return unknown(found, right, f"{asked}: these are other numbers than those of attention_weights(q, k) @ v")

    q, k, v = (torch.randn(1, 2, 512, 4, generator=generator) for _ in range(3))
    found, all_at_once = peak_bytes(answer, q, k, v, 16), peak_bytes(whole_maps, q, k, v)
    if found > 0.3 * all_at_once:
        much = f"it holds {found / all_at_once:.1f} times the memory of all maps at once"
        return f"the numbers are right, but with 16 slices {much}: of each slice, keep its result and not its map"
    return None


# ---- 3. The first layer that differs


def small_network(seed: int = 0) -> nn.Module:
    """Small, nested, with a part that is used twice."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        block = nn.ModuleDict({"norm": nn.GroupNorm(2, 6, eps=1e-6), "conv": nn.Conv2d(6, 6, 3, padding=1)})
        return Nested(nn.Conv2d(4, 6, 1), block, nn.Sequential(nn.GroupNorm(3, 6), nn.SiLU(), nn.Conv2d(6, 4, 1))).eval()


class Nested(nn.Module):
    """Blocks by name around a part that is used twice."""

    def __init__(self, inside: nn.Module, block: nn.ModuleDict, out: nn.Module):
        super().__init__()
        self.out, self.block, self.inside = out, block, inside  # not in the order of use

    def forward(self, x: Tensor) -> Tensor:
        h = self.inside(x)
        h = h + self.block["conv"](self.block["norm"](h))
        return self.out(h)


@exercise(
    "13.3",
    nudge="Which modules finish first, the parts or the whole? Print the names as the hooks are called.",
    solution="a forward hook on every module of both, which appends (name, output) to a list: parts finish before the whole. "
    "Then walk through the two lists together, and remove the hooks",
)
def first_layer(answer: Callable) -> str | None:
    """13.3: the name of the first module in which two networks differ, or None."""
    x = torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    theirs = small_network()

    def scaled(name: str, factor: float) -> Callable:
        def change(net: nn.Module) -> None:
            with torch.no_grad():
                net.get_parameter(f"{name}.weight").mul_(factor)

        return change

    def other_eps(net: nn.Module) -> None:
        norm = net.get_submodule("block.norm")
        assert isinstance(norm, nn.GroupNorm)
        norm.eps = 0.3

    networks_by_case = {
        "two equal networks": (lambda net: None, None),
        "networks that differ by rounding": (scaled("inside", 1 + 1e-6), None),
        "another eps in block.norm": (other_eps, "block.norm"),
        "block.conv and out.2 changed": (
            lambda net: [change(net) for change in (scaled("out.2", 9), scaled("block.conv", 1.2))],
            "block.conv",
        ),
        "inside changed": (scaled("inside", 1.5), "inside"),
        "out.2 changed": (scaled("out.2", 2.0), "out.2"),
    }
    for case, (change, expected) in cases(networks_by_case.items()):
        ours = small_network()
        change(ours)
        found = first_difference(ours, theirs, x)
        assert (found and found.name) == expected
        try:
            mine = call(answer, ours, theirs, x)
        except NotDone:
            if expected is None:  # None is the right answer here; a stub gives it everywhere
                continue
            if all(silent(answer, change, x) for change, name in networks_by_case.values() if name):
                raise
            if "eps" in case:
                return f"for {case}, yours is None: compare what the modules return, not their weights, of which an eps is none"
            return f"for {case} it should be {expected!r}; yours is None"
        if any(module._forward_hooks for net in (ours, theirs) for module in net.modules()):
            return "your hooks are still there afterwards: keep what register_forward_hook returns, and remove() it"
        if mine == expected:
            continue
        if expected is None:
            advice = "do not compare exactly, allow 1e-4 of the largest number" if "rounding" in case else "there is none"
            return f"for {case}, yours is {mine!r}: {advice}"
        if mine == "" or (isinstance(mine, str) and expected.startswith(mine + ".")):
            return f"for {case}, yours is {mine!r}, which holds {expected!r}: take them in the order in which they finish"
        order = [name for name, _ in results(theirs, x)]
        if mine in order and order.index(mine) > order.index(expected):
            return f"for {case}, yours is {mine!r}, which differs, but finishes later; asked is the first, {expected!r}"
        return f"for {case} it should be {expected!r}; yours is {mine!r}"
    return None


def silent(answer: Callable, change: Callable, x: Tensor) -> bool:
    """Whether it finds nothing where there is something."""
    ours = small_network()
    change(ours)
    return answer(ours, small_network(), x) in (None, ...)
