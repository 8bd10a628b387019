"""Which precision this machine draws fastest in."""

from __future__ import annotations

import time
from functools import cache

import torch
from torch.nn import functional as F

GAIN = 1.2  # so many times as fast it must be, to be worth its rounding
ROUNDS = 5


@cache
def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor has it and is measured to be faster with it, else float32; on a GPU a half precision.

    The measurement takes some 20 ms, once a process.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type != "cpu" or not has_bfloat16():
        return torch.float32
    return torch.bfloat16 if gain_of_bfloat16() >= GAIN else torch.float32


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 itself, and does not imitate it."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and any(
            name in flags() for name in ("avx512_bf16", "amx_bf16", "bf16")
        )
    except (AttributeError, RuntimeError):
        return False


@cache
def flags() -> frozenset[str]:
    """What Linux says that the processor can; empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            line = next((line for line in file if line.lower().startswith(("flags", "features"))), "")
    except OSError:
        return frozenset()
    return frozenset(line.split())


@cache
def gain_of_bfloat16() -> float:
    """How many times as fast a convolution of the U-Net is in bfloat16: the least time of several over that in float32."""
    times = {}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for dtype in (torch.float32, torch.bfloat16):
            x, weight = (torch.randn(shape, generator=generator).to(dtype) for shape in ((4, 128, 16, 16), (128, 128, 3, 3)))
            F.conv2d(x, weight, padding=1)
            taken = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                F.conv2d(x, weight, padding=1)
                taken.append(time.perf_counter() - began)
            times[dtype] = min(taken)
    return times[torch.float32] / times[torch.bfloat16]
