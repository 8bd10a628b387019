"""The three networks that drawing needs, as ONNX graphs: weights in float16, computed with in float32.

Shapes: b pictures, m = 77 tokens, d = width of the text encoder's states, (h, w) the latents' sides.

    text_encoder   input_ids (b, m) int32                                      -> states (b, m, d)
    unet           latents (b, 4, h, w), timesteps (b,), states (b, m, d)      -> noise_pred (b, 4, h, w), attention (b, m, h, w)
    vae_decoder    latents (b, 4, h, w), already divided by scaling_factor     -> pixels (b, 3, f h, f w), about [-1, 1]
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import CrossAttention, TransformerBlock, attention_weights
from ..clip import CLIPTextModel
from ..engines.onnx import Graph, to_onnx
from ..unet import UNet
from ..vae import AutoencoderKL

__all__ = ["Graph", "WatchedUNet", "compare_with_torch", "graphs_of", "to_onnx", "with_float16_weights"]

if TYPE_CHECKING:
    import onnx

    from ..pipeline import StableDiffusion

SMALL = 1024  # a tensor of fewer numbers keeps its precision: there is nothing to gain


class WatchedAttention(nn.Module):
    """Cross-attention that appends its weights, averaged over the heads, (b, n, m), to the list `seen`."""

    def __init__(self, attention: CrossAttention):
        super().__init__()
        self.attention = attention
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        a = self.attention
        weights = attention_weights(a.split_heads(a.to_q(x)), a.split_heads(a.to_k(context)))  # (b, heads, n, m)
        self.seen.append(weights.mean(1))
        out = weights @ a.split_heads(a.to_v(context))  # (b, heads, n, d)
        return a.to_out(out.transpose(1, 2).flatten(2))


class WatchedUNet(nn.Module):
    """The U-Net, and where it read each token: the mean over heads and layers, each map enlarged to the latents' size."""

    def __init__(self, unet: UNet):
        super().__init__()
        self.unet = copy.deepcopy(unet)
        self.watched: list[WatchedAttention] = []
        for block in [module for module in self.unet.modules() if isinstance(module, TransformerBlock)]:
            self.watched.append(WatchedAttention(block.attn2))
            block.register_module("attn2", self.watched[-1])

    def forward(self, latents: Tensor, timesteps: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        for attention in self.watched:
            attention.seen = seen
        noise_pred = self.unet(latents, timesteps, states)
        maps = [self.enlarge(weights, latents) for weights in seen]
        return noise_pred, torch.stack(maps).mean(0)

    @staticmethod
    def enlarge(weights: Tensor, latents: Tensor) -> Tensor:
        """(b, n, m), n positions of a coarser level, to (b, m, h, w)"""
        h, w = latents.shape[-2:]
        coarser = round((h * w / weights.shape[1]) ** 0.5)  # how many times
        maps = weights.transpose(1, 2).unflatten(2, (-(-h // coarser), -(-w // coarser)))
        return F.interpolate(maps, size=(h, w), mode="bilinear")


class LatentDecoder(nn.Module):
    """`AutoencoderKL.decode` as a module, without the encoder's weights."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latents: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(latents))


def graphs_of(pipe: StableDiffusion) -> list[Graph]:
    """The three graphs of a pipeline, each with example inputs for two pictures."""
    text, unet, vae = pipe.text_encoder, pipe.unet, pipe.vae
    m, d, side = text.config.max_position_embeddings, text.config.hidden_size, unet.config.sample_size
    latents = torch.zeros(2, unet.config.in_channels, side, side)
    return [
        Graph("text_encoder", text, {"input_ids": torch.zeros(2, m, dtype=torch.int32)}, ("states",)),
        Graph(
            "unet",
            WatchedUNet(unet),
            {"latents": latents, "timesteps": torch.ones(2), "states": torch.zeros(2, m, d)},
            ("noise_pred", "attention"),
        ),
        Graph("vae_decoder", LatentDecoder(vae), {"latents": latents}, ("pixels",)),
    ]


def with_float16_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large float32 weights stored in float16, each behind a cast back, which a runtime does once.

    Lossless for weights that came from a float16 file.
    """
    from onnx import TensorProto, helper, numpy_helper

    half = onnx_copy(model)
    casts = []
    for tensor in half.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALL:
            continue
        name = tensor.name
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, f"{name}_float16"))
        casts.append(helper.make_node("Cast", [f"{name}_float16"], [name], to=TensorProto.FLOAT, name=f"{name}_to_float32"))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    del half.graph.value_info[:]  # the exporter's notes on shapes inside: a third of a small file, and not needed
    for node in half.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    return half


def onnx_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an ONNX model that can be changed on its own."""
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def compare_with_torch(graph: Graph, model: bytes, tolerance: float = 1e-3) -> float:
    """Run the ONNX model and the PyTorch network on the same three random pictures; returns the largest difference.

    Raises ArithmeticError if that is more than `tolerance`, of values of which the largest are about 5.
    """
    import onnxruntime

    generator = torch.Generator().manual_seed(0)
    inputs = {}
    for name, example in graph.inputs.items():
        shape = (3, *example.shape[1:])
        if isinstance(graph.network, CLIPTextModel):
            inputs[name] = torch.randint(graph.network.config.vocab_size, shape, generator=generator, dtype=example.dtype)
        elif name == "timesteps":
            inputs[name] = 999 * torch.rand(shape, generator=generator)
        else:
            inputs[name] = torch.randn(shape, generator=generator)
    with torch.no_grad():
        expected = graph.network(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(list(graph.outputs), {name: values.numpy() for name, values in inputs.items()})
    difference = max(float((torch.from_numpy(a) - b).abs().max()) for a, b in zip(found, expected))
    if not difference <= tolerance:
        raise ArithmeticError(
            f"{graph.name}: the ONNX graph is {difference:.2g} away from PyTorch; at most {tolerance:g} is right"
        )
    return difference
