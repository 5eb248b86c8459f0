"""Processes that train one model together, each on its own part of every batch (data parallel, DDP).

DDP averages the processes' gradients. So each process's loss is that of the whole batch in value, and its gradient is
that of the process's own part times the number of processes: their average is the whole batch's gradient, whatever the
parts' sizes.
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
    """A process's place among those that train together; every method is called by all of them, in one order.

    Attributes:
        rank: of this process, 0..world - 1.
        world: how many there are.
        device: where numbers travel from: the GPU where the processes talk by NCCL.
    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    def sum(self, *numbers: int) -> list[int]:
        """The sums of each over the processes."""
        if self.world == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.int64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def all_gather(self, part: Tensor) -> Tensor:
        """[r] of this process to [R] of all, one after the other; its gradient is as the module says."""
        return part if self.world == 1 else AllGather.apply(part, self)

    def mean(self, value: Tensor, count: int) -> Tensor:
        """The mean over all, of which `value` is the mean over this process's `count`; gradient as the module says."""
        if self.world == 1:
            return value
        (total,) = self.sum(count)
        weighted = value.float() * (self.world * count / max(1, total))
        mean = weighted.detach() / self.world
        dist.all_reduce(mean)
        return weighted + (mean - weighted.detach())

    def gather(self, part: T) -> list[T]:
        """Every process's object, in ranks' order, at rank 0; at the others an empty list."""
        if self.world == 1:
            return [part]
        parts: list[Any] | None = [None] * self.world if self.rank == 0 else None
        dist.gather_object(part, parts)
        return parts or []

    def broadcast(self, value: T) -> T:
        """The object of rank 0, at every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]


class AllGather(torch.autograd.Function):
    """ProcessGroup.all_gather. Only this process's part has a gradient here; the other processes compute theirs."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: ProcessGroup) -> Tensor:
        """All parts, each padded to the longest on its way."""
        lengths = [torch.zeros(1, dtype=torch.int64, device=part.device) for _ in range(group.world)]
        dist.all_gather(lengths, torch.tensor([len(part)], device=part.device))
        counts = [int(length) for length in lengths]
        padded = part.new_zeros(max(counts))
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        ctx.rows, ctx.world = slice(sum(counts[: group.rank]), sum(counts[: group.rank + 1])), group.world
        return torch.cat([padded[:count] for padded, count in zip(parts, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None]:
        """The gradient of this process's part."""
        return outputs[0][ctx.rows] * ctx.world, None
