"""Two networks that should compute the same: where do they begin to differ?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Difference(NamedTuple):
    """The first module whose results differ; `name` "" is the network itself, what it does outside its modules."""

    name: str
    call: int  # 0 is the first time that it was used
    size: float  # largest difference, as a share of the largest number in the second network's result; inf for other shapes


def first_difference(ours: nn.Module, theirs: nn.Module, *inputs: Any, tolerance: float = 1e-4) -> Difference | None:
    """Run both on the same inputs and compare what each module returns, in the order in which `theirs` finishes them.

    A module's parts are finished before it, so the first difference is as deep inside as there are modules. Modules are
    matched by their names; those that only one network has are passed over. None if all agree to `tolerance`.

    Raises ValueError if the networks have no names in common, so that nothing would be compared.
    """
    names, their_names = ({name for name, _ in network.named_modules()} for network in (ours, theirs))
    if names & their_names == {""}:
        raise ValueError(f"{type(ours).__name__} and {type(theirs).__name__} have no modules of the same name to compare")
    found, expected = results(ours, *inputs), results(theirs, *inputs)
    for place, tensors in expected.items():
        size = relative_difference(found[place], tensors) if place in found else 0.0
        if not size <= tolerance:  # NaN is a difference
            return Difference(*place, size)
    return None


def results(network: nn.Module, *inputs: Any) -> dict[tuple[str, int], list[Tensor]]:
    """(name, call) -> the tensors that each module returned, in the order in which they were finished."""
    made: dict[tuple[str, int], list[Tensor]] = {}
    calls: Counter[str] = Counter()

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            made[name, calls[name]] = [x.detach().clone() for x in tensors_in(output)]  # the next layer may change it in place
            calls[name] += 1

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in network.named_modules()]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return made


def tensors_in(output: Any) -> Iterator[Tensor]:
    """Of a tensor, of a tuple or list, of a dict as diffusers and transformers return."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        yield from tensors_in(list(output.values()))
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from tensors_in(part)


def relative_difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference as a share of the largest number expected; inf for other shapes, NaN where there is one."""
    if [x.shape for x in found] != [x.shape for x in expected]:
        return math.inf
    sizes = [
        ((x.float() - y.float()).abs().max() / y.float().abs().max().clamp(min=1e-12)).item()
        for x, y in zip(found, expected)
        if y.numel()
    ]
    return max(sizes, key=lambda size: math.inf if math.isnan(size) else size, default=0.0)
