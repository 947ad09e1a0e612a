"""The processes of one training, and what they exchange by torch.distributed.

Each process computes its part of the loss of a step: the loss is the sum of the parts, and the gradient the sum of
their gradients.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx, once_differentiable

Value = TypeVar("Value")

# Values of gradients that are added up in one transfer: 64 MB of float32.
_BUCKET_VALUES = 1 << 24


@dataclass(frozen=True)
class Group:
    """The processes of one training. A group of one process exchanges nothing and does not use torch.distributed.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that validates, reports and writes files."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """The items of this process, out of `count` items of all processes; `size` divides `count`."""
        assert count % self.size == 0, (count, self.size)
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def from_first(self, compute: Callable[[], Value]) -> Value:
        """The value that `compute` returns in the first process; it is not called in the others."""
        if self.size == 1:
            return compute()
        value = [compute() if self.first else None]
        distributed.broadcast_object_list(value, src=0)
        return value[0]  # type: ignore[return-value]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, without gradients."""
        return self._reduced(values, distributed.ReduceOp.SUM)

    def maximum(self, values: Tensor) -> Tensor:
        """The maximum over the processes, without gradients."""
        return self._reduced(values, distributed.ReduceOp.MAX)

    def _reduced(self, values: Tensor, operation: distributed.ReduceOp.RedOpType) -> Tensor:
        if self.size == 1:
            return values
        result = values.detach().clone()
        distributed.all_reduce(result, operation)
        return result

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the order of their ranks; every process has equally many.

        The gradient of the own rows is the sum of their gradients over the processes.
        """
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self)
        return gathered

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces each gradient by its sum over the processes, which have gradients of the same parameters."""
        if self.size == 1:
            return
        for bucket in _buckets(each.grad for each in parameters if each.grad is not None):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            distributed.all_reduce(flat)
            summed = torch.split(flat, [each.numel() for each in bucket])
            for gradient, values in zip(bucket, summed, strict=True):
                gradient.copy_(values.view_as(gradient))


ALONE = Group()


class _Gather(torch.autograd.Function):
    """The rows of all processes; see `Group.gather`."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, group: Group) -> Tensor:
        ctx.group = group  # type: ignore[attr-defined]
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(group.size)]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None]:
        group: Group = ctx.group  # type: ignore[attr-defined]
        return group.sum(upstream.contiguous())[group.part(len(upstream))], None


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive gradients of one number type, about `_BUCKET_VALUES` values at a time."""
    bucket: list[Tensor] = []
    values = 0
    for gradient in gradients:
        if bucket and (values + gradient.numel() > _BUCKET_VALUES or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, values = [], 0
        bucket.append(gradient)
        values += gradient.numel()
    if bucket:
        yield bucket
