"""LoRA: a network learns something new while its own weights stay as they are (Hu et al. 2021, arXiv:2106.09685).

    h = W0 x + ΔW x,   ΔW = s (α / r) B A        (equation 3, and the scaling of section 4.1)

W0, (d_out, d_in), is frozen. A, (r, d_in), and B, (d_out, r), are trained, and the rank r is far below both dimensions: of a
layer of 320 x 320 numbers, rank 4 trains 2,560. A begins as noise and B as zero, so that the network is at first what it was.
s, 1 as a rule, is chosen when pictures are drawn: how much of the change to take.

A convolution has the same form: A is a convolution of its kernel to r channels, B one of 1x1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..checks import real_number, whole_number
from ..schedulers.few_steps import FewSteps

# The layers of attention: of the U-Net, of the text encoder
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")


class LowRank(nn.Module):
    """ΔW / s of one layer, x -> (α / r) B A x, for the input of a linear layer or of a convolution.

    alpha: None is the rank, for a factor of 1. Raises TypeError or ValueError for a rank below 1, or an alpha that is no number.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, alpha: float | None = None):
        super().__init__()
        self.rank = whole_number("rank", rank, 1)
        self.alpha = float(rank) if alpha is None else real_number("alpha", alpha)
        self.down: nn.Linear | nn.Conv2d  # A
        self.up: nn.Linear | nn.Conv2d  # B
        if isinstance(layer, nn.Conv2d):
            shape: dict[str, Any] = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation")}
            self.down = nn.Conv2d(layer.in_channels, rank, **shape, bias=False)
            self.up = nn.Conv2d(rank, layer.out_channels, kernel_size=1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.normal_(self.down.weight, std=1 / rank)
        nn.init.zeros_(self.up.weight)
        self.to(layer.weight.device, layer.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha / self.rank * self.up(self.down(x))

    def delta(self) -> Tensor:
        """ΔW / s as one matrix, in float32: (d_out, d_in); of a convolution (c_out, c_in, k, k)."""
        a, b = self.down.weight.float(), self.up.weight.float()
        product = b.flatten(1) @ a.flatten(1)  # (d_out, r) @ (r, d_in k k)
        return self.alpha / self.rank * product.unflatten(1, a.shape[1:])


class LoRA(nn.Module):
    """The updates of some layers, each by the name of its network and its own: "unet.mid_block.attentions.0...attn1.to_q".

    scale: s, at any time also afterwards. 0 leaves the networks exactly as they are, 1 is what was trained.
    few_steps: what it says of itself if it is a distilled model's; None for any other.

    The networks do not know of it: `attach` hangs each update on its layer by a hook, and `detach` takes them away again. A deep
    copy of a network has a copy of its own.
    Its parameters are what a training trains.
    """

    def __init__(self, updates: Mapping[str, LowRank], scale: float = 1.0, few_steps: FewSteps | None = None):
        super().__init__()
        self.names = tuple(updates)
        self.updates = nn.ModuleList(updates.values())
        self.scale = scale
        self.few_steps = few_steps
        self._hanging: list[RemovableHandle] = []

    @property
    def scale(self) -> float:
        """How much of the change is taken. Raises TypeError or ValueError for what is no finite number."""
        return self._scale

    @scale.setter
    def scale(self, value: float) -> None:
        self._scale = real_number("scale", value)

    def by_name(self) -> dict[str, LowRank]:
        """The updates by the names of their layers."""
        return dict(zip(self.names, self.updates))  # type: ignore[arg-type]  # a ModuleList does not say of what

    def attach(self, networks: Mapping[str, nn.Module]) -> LoRA:
        """From now on the layers of these networks, such as {"unet": pipe.unet}, add their updates. Returns itself."""
        self.detach()
        for name, update in self.by_name().items():
            hook = partial(self._add, update)  # no function in a function: a copy of a network needs a copy of it
            self._hanging.append(find_layer(networks, name).register_forward_hook(hook))
        return self

    def _add(self, update: LowRank, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + self.scale * update(inputs[0]) if self.scale else output

    def detach(self) -> None:
        """The layers are what they were, bit for bit."""
        for hook in self._hanging:
            hook.remove()
        self._hanging = []

    @torch.no_grad()
    def merge(self, networks: Mapping[str, nn.Module]) -> None:
        """W0 + ΔW in the place of W0, rounded once: drawing then costs what it did without. For good; detaches it first."""
        self.detach()
        for name, update in self.by_name().items():
            weight = find_layer(networks, name).weight
            weight.copy_(weight.float() + self.scale * update.delta())

    def __repr__(self) -> str:
        ranks = sorted({update.rank for update in self.by_name().values()})
        return f"LoRA({len(self.names)} layers, rank {', '.join(map(str, ranks))}, scale {self.scale:g})"


def find_layer(networks: Mapping[str, nn.Module], name: str) -> nn.Linear | nn.Conv2d:
    """The layer of "unet.conv_in" in {"unet": ..., "text_encoder": ...}."""
    part, _, path = name.partition(".")
    layer = networks[part].get_submodule(path)
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    return layer


def attention_projections(network: nn.Module) -> list[str]:
    """The names of the layers that make queries, keys, values and the result of attention (Hu et al. 2021, section 4.2)."""
    return [name for name, _ in network.named_modules() if name.endswith(tuple(f".{layer}" for layer in PROJECTIONS))]


def new_lora(
    networks: Mapping[str, nn.Module],
    rank: int = 4,
    alpha: float | None = None,
    layers: Mapping[str, Sequence[str]] | None = None,
) -> LoRA:
    """One to be trained, which does nothing yet, on networks such as {"unet": pipe.unet}.

    rank, alpha: as for `LowRank`. layers: for each network the names of linear layers and convolutions; None: its attention
    projections. A is drawn with PyTorch's own generator: `torch.manual_seed` before makes it the same again.
    """
    chosen = {part: attention_projections(network) for part, network in networks.items()} if layers is None else layers
    names = [f"{part}.{layer}" for part, names in chosen.items() for layer in names]
    return LoRA({name: LowRank(find_layer(networks, name), rank, alpha) for name in names})
