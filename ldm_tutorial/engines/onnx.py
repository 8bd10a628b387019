"""The U-Net in ONNX Runtime, a second engine beside PyTorch; and how a network becomes an ONNX graph."""

from __future__ import annotations

import importlib
import logging
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..unet import UNet
from .kernels import quick

if TYPE_CHECKING:
    import onnx

LARGEST = 2**31  # bytes: the limit of a protobuf message, which an ONNX file is
TOKENS = 77  # of a prompt


@dataclass(frozen=True)
class Graph:
    """A network, an example of its inputs for two pictures, and the names of what goes in and out."""

    name: str
    network: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


def need_onnx() -> None:
    """Raises ImportError, which says what to install, unless all that an export needs is there."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ImportError(f'{name} is not installed: pip install "ldm-tutorial[web]"') from None
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise ImportError(f"the export needs torch 2.6 or newer; this is {torch.__version__}")


@contextmanager
def errors_only(name: str) -> Iterator[None]:
    """Inside, this logger passes errors on, and nothing else."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def to_onnx(graph: Graph, optimize: bool = True) -> onnx.ModelProto:
    """The network as an ONNX model, for any number of pictures at once. It must be in float32, on the CPU.

    optimize: with fewer nodes, for a file; ONNX Runtime fuses the same ones when it reads a model.
    """
    pictures = torch.export.Dim("pictures", min=1, max=64)
    with warnings.catch_warnings(), errors_only("torch.onnx"):
        warnings.simplefilter("ignore")  # the exporter speaks of its own workings
        program = torch.onnx.export(
            graph.network.eval(),
            tuple(graph.inputs.values()),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=tuple({0: pictures} for _ in graph.inputs),
            dynamo=True,
            optimize=optimize,
            verbose=False,
        )
    assert program is not None  # only the exporter without dynamo returns None
    return program.model_proto


class CurrentEngine(threading.local):
    """The engine that computes a step in this thread."""

    engine: OnnxEngine | None = None


_now = CurrentEngine()


class ExportedUNet(UNet):
    """A U-Net that leaves its work to ONNX Runtime, where an engine is at work."""

    def forward(self, latents: Tensor, timesteps: Tensor | float, context: Tensor) -> Tensor:
        engine = _now.engine
        if engine is None or not engine.takes(self, latents, context):
            return super().forward(latents, timesteps, context)
        return engine.answer(latents, torch.as_tensor(timesteps), context)

    def _get_name(self) -> str:
        return "UNet"


class OnnxEngine:
    """Steps computed by ONNX Runtime, equal to PyTorch's to some 1e-5, with the weights that the U-Net has now.

    It takes latents of the size that the model was trained on, and prompts of 77 tokens. Those of another size, longer prompts,
    another precision than float32, another U-Net, and steps in which somebody looks into the U-Net by a hook go to PyTorch.

    Raises ImportError if onnx, onnxscript or onnxruntime is not installed, or torch is older than 2.6, and ValueError for a U-Net
    in another precision, elsewhere than on the CPU, or too large for one ONNX file (2 GB: v1.5's is).
    """

    def __init__(self, unet: UNet):
        need_onnx()
        import onnxruntime

        weight = next(unet.parameters())
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            raise ValueError(f'engine="onnx" needs device="cpu" and dtype="float32"; this is {weight.dtype} on {weight.device}')
        if (size := 4 * sum(p.numel() for p in unet.parameters())) >= LARGEST:
            raise ValueError(f'engine="onnx": the U-Net has {size:,} bytes in float32; one ONNX file holds less than {LARGEST:,}')
        config = unet.config
        self.shape = (config.in_channels, config.sample_size, config.sample_size)
        inputs = {
            "latents": torch.zeros(2, *self.shape),
            "timesteps": torch.ones(2),
            "states": torch.zeros(2, TOKENS, config.cross_attention_dim),
        }
        model = to_onnx(Graph("unet", unet, inputs, ("noise_pred",)), optimize=False).SerializeToString()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as threads.py says of PyTorch's
        self.unet = weakref.ref(unet)
        self.session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        unet.__class__ = ExportedUNet

    @contextmanager
    def __call__(self, unet: UNet, words: Tensor) -> Iterator[None]:
        before, _now.engine = _now.engine, self
        try:
            with quick(unet, words):  # for what it does not take
                yield
        finally:
            _now.engine = before

    def takes(self, unet: UNet, latents: Tensor, words: Tensor) -> bool:
        """Whether these latents are computed here: for another U-Net than the one that was exported, they are not."""
        size = unet is self.unet() and latents.shape[1:] == self.shape and words.shape[1] == TOKENS
        right = size and latents.dtype == torch.float32 and latents.device.type == "cpu"
        return right and not any(
            layer._forward_hooks or layer._forward_pre_hooks for layer in unet.modules() if layer is not unet
        )

    def answer(self, latents: Tensor, timesteps: Tensor, words: Tensor) -> Tensor:
        """The predicted noise: (b, 4, h, w), () or (b,), (b, 77, d) -> (b, 4, h, w)"""
        arrays = {
            "latents": latents.contiguous().numpy(),
            "timesteps": timesteps.float().expand(len(latents)).contiguous().numpy(),
            "states": words.contiguous().numpy(),
        }
        return torch.from_numpy(self.session.run(["noise_pred"], arrays)[0])
