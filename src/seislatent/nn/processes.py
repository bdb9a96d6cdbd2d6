"""Sums over records that stand on several processes: for batch moments, codebooks and dead codes.

Plain `torch.distributed`; with one process each function gives its input back.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def several() -> bool:
    """Whether records stand on more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Total(torch.autograd.Function):
    """The loss of each process depends on the sum, so the gradients of all of them come back to each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        summed = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed


def total(x: Tensor) -> Tensor:
    """Sum over processes of a tensor that has one shape on all of them, with gradient.

    Every process must call it, equally often and in the same order.
    """
    return _Total.apply(x) if several() else x


def gathered(x: Tensor) -> Tensor:
    """Rows of all processes, in rank order, without gradient: [n ...] of each becomes [sum of n ...]; n may differ, even be 0."""
    x = x.detach()
    if not several():
        return x
    counts = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, counts[0].new_tensor([len(x)]))
    sizes = [int(n) for n in counts]
    padded = x.new_zeros(max(sizes), *x.shape[1:])
    padded[: len(x)] = x
    rows = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(rows, padded)
    return torch.cat([r[:n] for r, n in zip(rows, sizes, strict=True)])


def full(x: Tensor) -> Tensor:
    """At least float32: what autocast made half must not be summed over records."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
