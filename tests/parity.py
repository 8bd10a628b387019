"""How a network is held against its reference: the same random weights, the same input, and the largest difference.

Two things make a comparison see more than it would with the weights of a fresh network:

- every weight is random, those of the norms too, whose usual 1 and 0 would hide a norm that is missing or swapped;
- most layers are quiet, so that what enters a norm is small enough for its eps to count, while those behind a norm that
  feed a softmax or a GELU are loud, so that the softmax is far from uniform and the GELU far from linear.

Every comparison prints its largest difference: `pytest -rP tests/test_unet.py | grep parity`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

TOLERANCE = 1e-5  # in float32, of the reference's largest value
TOLERANCE_FLOAT64 = 1e-12  # in float64, where rounding cannot be an excuse
NOTICED = 10 * TOLERANCE  # a trap must show at least this clearly

QUIET, LOUD = 0.2, 2.0
# Layers right behind a norm that feed a softmax or a GELU, and the sines and cosines' own layer.
LOUD_LAYERS = ("to_q", "to_k", "q_proj", "k_proj", "proj", "fc1", "linear_1")


@torch.no_grad()
def randomize(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter a random value, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    for path, parameter in network.named_parameters():
        layer, name = path.split(".")[-2:] if "." in path else ("", path)
        noise = torch.randn(parameter.shape, generator=generator)
        if name == "bias":
            value = 0.02 * noise
        elif parameter.ndim == 1:  # the weight of a norm
            value = 1 + 0.3 * noise
        elif "embedding" in layer:
            value = 0.03 * noise
        else:
            value = (LOUD if layer in LOUD_LAYERS else QUIET) * noise / math.sqrt(parameter[0].numel())
        parameter.copy_(value)
    return network


def named_as_in(reference: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The text encoder's tensors under the names that the installed transformers has in memory.

    On disk all begin with "text_model.", and so do ours; some versions 5 drop that.
    """
    prefix = "text_model."
    if any(name.startswith(prefix) for name in reference.state_dict()):
        return tensors
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def copy_text_encoder(ours: nn.Module, reference: nn.Module) -> None:
    """Put our very tensors into transformers' model, and an index in place of one that is still on the meta device."""
    found = reference.load_state_dict(named_as_in(reference, ours.state_dict()), strict=False, assign=True)
    assert not found.unexpected_keys
    assert all(name.endswith("position_ids") for name in found.missing_keys)
    for module in reference.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                assert name == "position_ids"
                module.register_buffer(name, torch.arange(buffer.shape[-1])[None], persistent=False)


def randn(*shape: int, seed: int = 1, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def difference(ours: Tensor, reference: Tensor, scale: float | None = None) -> float:
    """max |ours - reference| / max |reference|; infinite if the shapes differ or a number is not finite."""
    if ours.shape != reference.shape or not (ours.isfinite().all() and reference.isfinite().all()):
        return math.inf
    scale = reference.detach().abs().max().item() if scale is None else scale
    return (ours.detach() - reference.detach()).abs().max().item() / scale


def assert_same(ours: Tensor, reference: Tensor, what: str, tolerance: float = TOLERANCE) -> float:
    """Equal up to `tolerance` of the reference's largest value. Prints and returns the difference."""
    assert ours.shape == reference.shape, f"{what}: {tuple(ours.shape)} for {tuple(reference.shape)}"
    assert ours.dtype == reference.dtype, f"{what}: {ours.dtype} for {reference.dtype}"
    found = difference(ours, reference)
    print(f"parity: {what}: max |difference| {found:.1e} of the scale")
    assert found <= tolerance, f"{what}: max |difference| is {found:.1e} of the scale, allowed is {tolerance:.0e}"
    return found


def assert_noticed(mutant: Tensor, reference: Tensor, trap: str) -> None:
    """A network that steps into a trap must fail `assert_same` clearly."""
    found = difference(mutant, reference)
    print(f"parity: broken by {trap}: max |difference| {found:.1e} of the scale")
    assert found > NOTICED, f"{trap} changes no more than {found:.1e} of the scale: the comparison is blind to it"


def gradients(output: Tensor, network: nn.Module, **inputs: Tensor) -> dict[str, Tensor]:
    """Of a random weighting of the output, for each input and each parameter, by name."""
    named = {**inputs, **dict(network.named_parameters())}
    weights = randn(*output.shape, seed=2).to(output)
    return dict(zip(named, torch.autograd.grad((weights * output).sum(), list(named.values()))))


def assert_same_gradients(ours: dict[str, Tensor], reference: dict[str, Tensor], what: str) -> None:
    """Each gradient up to a tolerance, that of its dtype, of its own largest value: each input's and each parameter's.

    Some gradients are zero but for rounding, such as that of a key's bias, which a softmax cannot feel: hence the floor.
    """
    assert ours.keys() == reference.keys()
    tolerance, smallest = (1e-10, 1e-5) if next(iter(ours.values())).dtype == torch.float64 else (TOLERANCE, 1e-3)
    floor = smallest * max(g.abs().max().item() for g in reference.values())
    found = {k: difference(ours[k], g, max(g.abs().max().item(), floor)) for k, g in reference.items()}
    worst = max(found, key=found.get)
    print(f"parity: {what}: max |difference| {found[worst]:.1e} of the scale over {len(found)} gradients ({worst})")
    assert found[worst] <= tolerance, f"{what}: the gradient of {worst} is off by {found[worst]:.1e} of its scale"
