"""Where a training computes: on which device, in which precision, and which rows of each batch this process takes.

`torchrun` and `accelerate launch` start the processes and tell each of them, in its environment, which one it is. The rest is
written out here. All processes draw the same random numbers, for the whole batch; each computes its own rows; then their
gradients are averaged. So any number of processes takes the same steps as one, to rounding: a sum over the batch is then added up
in another order.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checks import pick_device

Network = TypeVar("Network", bound=nn.Module)
PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Compute:
    """The device, the precision and the processes of one training.

    device      of this process: a GPU of its own, if the machine has them
    dtype       what the networks compute in: float32, bfloat16 or float16. Weights, losses and averages are float32 always
    rank, count which process this is, 0 ... count - 1

    Raises ValueError if this torch cannot compute with `mixed_precision` on the device.
    """

    def __init__(self, mixed_precision: str = "no"):
        self.rank, self.count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = pick_device()
        if self.device.type == "cuda":
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(self.device)
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            atexit.register(dist.destroy_process_group)
        self.dtype = PRECISIONS[mixed_precision]
        # float16 has no number below 6e-8: losses are scaled up before `backward`, gradients down after it
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=mixed_precision == "fp16")
        try:
            with self.autocast():
                pass
        except RuntimeError as error:
            reason = f"torch {torch.__version__} cannot on {self.device.type}"
            raise ValueError(f"--mixed-precision {mixed_precision}: {reason}; use no") from error

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes logs and files."""
        return self.rank == 0

    @property
    def state(self) -> dict[str, Any]:
        """What must be saved with the weights, so that a run goes on where it was: the scale of float16's losses."""
        return {"scaler": self.scaler} if self.scaler.is_enabled() else {}

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.count > 1:
            dist.barrier()

    def autocast(self) -> AbstractContextManager:
        """The context for the forward pass: matrix products and convolutions in `dtype`."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device.type, dtype=self.dtype)

    # ---- data

    def mine(self, batch_size: int) -> slice:
        """The rows of each batch that this process takes. Raises ValueError if they cannot be shared out evenly."""
        if batch_size % self.count:
            raise ValueError(f"--batch-size {batch_size} must be a multiple of the {self.count} processes that share it")
        return slice(self.rank, None, self.count)

    def put(self, x: Tensor) -> Tensor:
        """The tensor on the device; a GPU takes it from pinned memory while the CPU goes on."""
        if self.device.type == "cuda":
            return x.pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

    # ---- gradients

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the loss, (), to those of the weights; in float16, scaled up."""
        self.scaler.scale(loss).backward()

    def step(self, optimizer: torch.optim.Optimizer, max_norm: float | None = None) -> None:
        """Average the gradients of the optimizer's weights over all processes, cut them to `max_norm`, take the step.

        A step whose float16 gradients overflowed is left out, and the next losses are scaled up less.
        """
        weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
        self._average([weight.grad for weight in weights])
        self.scaler.unscale_(optimizer)
        if max_norm is not None:
            nn.utils.clip_grad_norm_(weights, max_norm)
        self.scaler.step(optimizer)
        self.scaler.update()

    def gradient(self, loss: Tensor, weight: Tensor, retain_graph: bool = False) -> tuple[Tensor]:
        """As `torch.autograd.grad` of one weight: of the whole batch, and without loss of digits in float16."""
        (gradient,) = torch.autograd.grad(self.scaler.scale(loss), weight, retain_graph=retain_graph)
        self._average([gradient])
        return (gradient / self.scaler.get_scale(),)

    def _average(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.count > 1:
            together = torch.cat([tensor.flatten() for tensor in tensors])  # one message instead of hundreds
            dist.all_reduce(together)
            parts = (together / self.count).split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts):
                tensor.copy_(part.view_as(tensor))

    def all(self, here: bool) -> bool:
        """Whether this holds in all processes. All must ask for it."""
        return self.mean({"here": torch.tensor(float(here), device=self.device)})["here"] == 1

    def exchange(self, tensors: Sequence[Tensor], owners: Sequence[int]) -> None:
        """Give each process all tensors, of which each was computed by one process, its owner. In place; bit for bit."""
        for rank in range(self.count if self.count > 1 else 0):
            theirs = [tensor for tensor, owner in zip(tensors, owners) if owner == rank]
            if not theirs:
                continue
            together = torch.cat([tensor.flatten() for tensor in theirs])  # one message instead of hundreds
            dist.broadcast(together.view(torch.uint8), src=rank)  # as bytes: not every backend knows bfloat16
            if rank != self.rank:
                for tensor, part in zip(theirs, together.split([tensor.numel() for tensor in theirs])):
                    tensor.copy_(part.view_as(tensor))

    def share_work(self, work: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> Tensor:
        """The results of `work` for all batches, joined along the first axis. The processes take turns; each gets all.

        work   (b, ...) -> (b, ...) on the device, in one shape but for b. All processes do that of the first batch, to know it
        """
        results: list[Tensor] = []
        for i, batch in enumerate(batches):
            mine = i % self.count == self.rank or i == 0
            results.append(work(batch) if mine else results[0].new_empty(len(batch), *results[0].shape[1:]))
        self.exchange(results, [i % self.count for i in range(len(results))])
        return torch.cat(results)

    # ---- what needs the whole batch

    def gather(self, x: Tensor) -> Tensor:
        """The rows of all processes, as one whole batch, with gradients: (b, ...) -> (count b, ...)"""
        if self.count == 1:
            return x
        rows = torch.zeros(self.count, *x.shape, device=x.device)
        rows[self.rank] = x.float()
        return SumOverProcesses.apply(rows).flatten(0, 1).to(x.dtype)

    def share_statistics(self, module: Network) -> Network:
        """Let all batch normalization in it take its statistics from the whole batch, not from this process's rows. In place."""
        if self.count > 1:
            for layer in module.modules():
                if isinstance(layer, _BatchNorm):
                    layer.__class__ = SharedBatchNorm  # its weights and statistics stay as they are
        return module

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """The mean over all processes of each of these numbers, () each, for the log. All processes must ask for it."""
        numbers = torch.stack([value.detach().float() for value in values.values()])
        self._average([numbers])
        return dict(zip(values, numbers.tolist()))


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, with gradients: every process uses the sum, so its gradient is a sum, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Every process has used the sum: the gradients of all of them, added up."""
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(_BatchNorm):
    """Batch normalization (Ioffe & Szegedy 2015, algorithm 1) with mean and variance of the batches of all processes.

    `torch.nn.SyncBatchNorm` is the same, but runs on GPUs only.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """torch asks for a check of the shape. (b, c) and (b, c, h, w) are both right here."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values, processes = x.float(), dist.get_world_size()
        dims = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        mean = SumOverProcesses.apply(values.mean(dims)) / processes  # (c,); all batches are of one size
        centered = values - mean.view(shape)
        variance = SumOverProcesses.apply(centered.square().mean(dims)) / processes
        assert self.running_mean is not None and self.running_var is not None  # its networks all keep statistics
        assert self.momentum is not None and self.num_batches_tracked is not None
        with torch.no_grad():
            n = processes * x.numel() // x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
            self.num_batches_tracked += 1
        normal = centered * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)
