"""Ways to compute the same denoising step in less time, apart from the networks, which stay as the lessons have them.

kernels.py   the words once a run, and oneDNN's kernels: what drawing uses
onnx.py      the U-Net in ONNX Runtime: `load_pipeline(..., engine="onnx")`
dtypes.py    which precision this machine computes fastest in: `load_pipeline(..., dtype="fastest")`

An engine is called with the U-Net and the words of a run, and returns the context in which a step is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

from torch import Tensor

from ..checks import one_of
from ..unet import UNet
from .kernels import quick

Engine: TypeAlias = Callable[[UNet, Tensor], AbstractContextManager[None]]
ENGINES = ("torch", "plain", "onnx")

__all__ = ["ENGINES", "Engine", "make_engine", "as_written", "quick"]


def as_written(unet: UNet, words: Tensor) -> AbstractContextManager[None]:
    """The U-Net as it stands in unet.py."""
    return nullcontext()


def make_engine(name: str, unet: UNet) -> Engine:
    """The engine of this name. Raises ValueError for another one, or a U-Net that it cannot take; ImportError as `OnnxEngine`."""
    one_of("engine", name, ENGINES)
    if name == "onnx":
        from .onnx import OnnxEngine

        return OnnxEngine(unet)
    return as_written if name == "plain" else quick
