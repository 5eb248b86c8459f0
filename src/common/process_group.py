"""Processes that train one model together, each on its own part of every batch (data parallel, DDP).

DDP averages the processes' gradients. So each process's loss has the value of the whole batch's loss, and its gradient
is that of the process's part times the number of processes. Their average is the gradient of the whole batch, for parts
of any size.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """A process's place in its group. All processes call the same methods in the same order.

    Attributes:
        rank: number of this process, 0..world - 1.
        world: number of processes.
        device: device of the tensors that processes exchange: cuda with NCCL, cpu with gloo.
    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    def sum(self, *numbers: int) -> list[int]:
        """The sum of each number over the processes."""
        if self.world == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.int64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def all_gather(self, part: Tensor) -> Tensor:
        """[r] of this process to [R] of all in the order of ranks; the gradient is as in the module's docstring."""
        return part if self.world == 1 else AllGather.apply(part, self)

    def mean(self, value: Tensor, count: int) -> Tensor:
        """The mean over all items; `value` is the mean over this process's `count` items. Gradient as all_gather's."""
        if self.world == 1:
            return value
        (total,) = self.sum(count)
        scaled = value.float() * (self.world * count / max(1, total))
        mean = scaled.detach() / self.world
        dist.all_reduce(mean)
        return scaled + (mean - scaled.detach())

    def gather(self, part: T) -> list[T]:
        """The objects of all processes in the order of ranks, at rank 0; an empty list at the others."""
        if self.world == 1:
            return [part]
        parts: list[Any] | None = [None] * self.world if self.rank == 0 else None
        dist.gather_object(part, parts)
        return parts or []

    def broadcast(self, value: T) -> T:
        """The object of rank 0, at every rank."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]


class AllGather(torch.autograd.Function):
    """ProcessGroup.all_gather. Only this process's part has a gradient: each process computes that of its own part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: ProcessGroup) -> Tensor:
        """All parts; each is padded to the longest for the exchange."""
        lengths = [torch.zeros(1, dtype=torch.int64, device=part.device) for _ in range(group.world)]
        dist.all_gather(lengths, torch.tensor([len(part)], device=part.device))
        counts = [int(length) for length in lengths]
        padded = part.new_zeros(max(counts))
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        ctx.part, ctx.world = slice(sum(counts[: group.rank]), sum(counts[: group.rank + 1])), group.world
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None]:
        """The gradient of this process's part."""
        return outputs[0][ctx.part] * ctx.world, None
