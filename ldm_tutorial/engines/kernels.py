"""A denoising step in less time: what depends on the words alone is computed once a run, and a processor computes with oneDNN.

The networks stay as the lessons have them. `quick` gives their linear layers and convolutions a subclass that does the same in
other ways, and only inside of it: `unet(...)` alone is plain PyTorch. What differs is rounding, some 1e-6 of the result.

- Keys and values of the words never change in a run, and are the same for all rows with one prompt, as those without a prompt
  are. They are the layers whose input is the `words` tensor itself.
- PyTorch gives linear layers in float32 to MKL, which on processors of other makers takes twice the time of oneDNN, or more.
- oneDNN brings the weights of a convolution into an order of its own, at every call. Here they are kept in it, from the second
  step on, until the run ends: after that they are read again, however they were changed.
- Channels last in memory: a feature map is then a sequence of tokens without a copy.

docs/speed.md has the measurements.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import memory_bytes

ONEDNN_DTYPES = (torch.float32, torch.bfloat16)  # those that oneDNN computes with on every processor
SHARE = 8  # convolutions may take one part in eight of the machine's memory for their weights in oneDNN's order


class OnceARun:
    """What is kept for one run. It hangs on the tensor of the words, and is gone with it."""

    def __init__(self, words: Tensor):
        self.results: dict[nn.Module, tuple[int, Tensor]] = {}  # layer -> version of its weights, its result for the words
        self.packed: dict[nn.Module, tuple[int, Tensor | None]] = {}  # convolution -> version, its weights in oneDNN's order
        self.memory_left = (memory_bytes() or 2**33) // SHARE  # 8 GiB where the machine does not say
        self.version = words._version
        self.rows, self.index = distinct_rows(words)


class CurrentStep(threading.local):
    """What this thread computes at the moment."""

    words: Tensor | None = None
    run: OnceARun | None = None
    by_onednn = False


_now = CurrentStep()
_prepared: WeakSet[nn.Module] = WeakSet()


class QuickLinear(nn.Linear):
    """A linear layer that knows the words of the run, and oneDNN."""

    def forward(self, x: Tensor) -> Tensor:
        run = _now.run
        if run is None:
            return super().forward(x)
        if x is not _now.words:
            return self._compute(x)
        known = run.results.get(self)
        if known is None or known[0] != self.weight._version:
            known = self.weight._version, self._compute(run.rows)[run.index]
            run.results[self] = known
        return known[1]

    def _compute(self, x: Tensor) -> Tensor:
        if _now.by_onednn:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return super().forward(x)

    def _get_name(self) -> str:
        return "Linear"


class QuickConv2d(nn.Conv2d):
    """A convolution whose weights are brought into oneDNN's order once a run."""

    def forward(self, x: Tensor) -> Tensor:
        run = _now.run
        if run is None or not _now.by_onednn:
            return super().forward(x)
        version, packed = run.packed.get(self, (None, None))
        if version != self.weight._version:
            run.packed[self] = self.weight._version, None  # a single step would only pay for the order, and for its memory
            return super().forward(x)
        if packed is None:
            size = self.weight.numel() * self.weight.element_size()
            if size > run.memory_left:
                return super().forward(x)
            run.memory_left -= size
            packed = packed_weight(self, x)
            run.packed[self] = self.weight._version, packed
        return packed_conv(self, x, packed)

    def _get_name(self) -> str:
        return "Conv2d"


class QuickGroupNorm(nn.GroupNorm):
    """Group normalization, whose kernel for bfloat16 is slow with the channels last: a copy costs less."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous() if _now.by_onednn and x.dtype == torch.bfloat16 else x)

    def _get_name(self) -> str:
        return "GroupNorm"


QUICK_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: QuickLinear,
    nn.Conv2d: QuickConv2d,
    nn.GroupNorm: QuickGroupNorm,
}


@contextmanager
def quick(network: nn.Module, words: Tensor) -> Iterator[None]:
    """Inside, the network computes without gradients, and `words`, (b, m, d), is the same for all of a run.

    The network must be called with this very tensor: the keys and values that were computed from it hang on it.
    """
    if torch.is_grad_enabled() or words.is_inference():
        yield  # both keep no count of changes, or what would be needed for gradients
        return
    if network not in _prepared:
        for layer in network.modules():
            layer.__class__ = QUICK_LAYERS.get(type(layer), type(layer))
        _prepared.add(network)
    run: OnceARun | None = getattr(words, "once_a_run", None)
    if run is None or run.version != words._version:
        run = OnceARun(words)
        words.once_a_run = run  # type: ignore[attr-defined]
    before = vars(_now).copy()
    _now.words, _now.run = words, run
    _now.by_onednn = words.device.type == "cpu" and words.dtype in ONEDNN_DTYPES and onednn_works(words.dtype)
    try:
        yield
    finally:
        vars(_now).clear()
        vars(_now).update(before)


def distinct_rows(words: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that differ, and for each row which of them it is: (b, m, d) -> (n, m, d), (b,)"""
    known: dict[float, list[int]] = {}  # the sum of a row -> the rows that have it
    chosen: list[int] = []
    index: list[int] = []
    for i, total in enumerate(words.sum(dim=(1, 2), dtype=torch.float64).tolist() if words.device.type == "cpu" else []):
        same = next((n for n in known.get(total, []) if torch.equal(words[chosen[n]], words[i])), None)
        if same is None:
            same = len(chosen)
            known.setdefault(total, []).append(same)
            chosen.append(i)
        index.append(same)
    if not index:  # on a GPU, where looking takes longer than computing
        chosen = index = list(range(len(words)))
    return words[chosen], torch.tensor(index, device=words.device)


def packed_weight(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The weights of a convolution in oneDNN's order for an input like `x`."""
    reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight  # which PyTorch's types describe wrongly
    settings = (conv.padding, conv.stride, conv.dilation, conv.groups)
    return reorder(conv.weight.detach().to_mkldnn(), *settings, tuple(x.shape))


def packed_conv(conv: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """`conv(x)` with such weights."""
    settings = (conv.padding, conv.stride, conv.dilation, conv.groups)
    return torch.ops.mkldnn._convolution_pointwise(x, weight, conv.bias, *settings, "none", [], "")


@cache
def onednn_works(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has the undocumented functions that are used here, and they compute what they should."""
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(size, generator=generator) for size in ((2, 3, 8, 8), (5, 3, 3, 3), (5,)))
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    try:
        with torch.no_grad():
            conv = nn.utils.skip_init(nn.Conv2d, 3, 5, kernel_size=3, padding=1).to(dtype)  # no global random numbers
            conv.weight.copy_(weight)
            conv.bias.copy_(bias)
            x = x.to(dtype).contiguous(memory_format=torch.channels_last)
            same = torch.allclose(packed_conv(conv, x, packed_weight(conv, x)), conv(x), atol=tolerance)
            rows, matrix = x.flatten(2).transpose(1, 2), conv.weight[:, :, 0, 0].contiguous()
            linear = torch.ops.mkldnn._linear_pointwise(rows, matrix, conv.bias, "none", [], "")
            return same and torch.allclose(linear, F.linear(rows, matrix, conv.bias), atol=tolerance)
    except (AttributeError, RuntimeError, TypeError):
        return False
