"""Losses reckon in float32 or float64, whatever the networks before them reckon in."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from seislatent.nn.processes import full

P = ParamSpec("P")
R = TypeVar("R")


def in_full(loss: Callable[P, R]) -> Callable[P, R]:
    """The same loss with its half-precision tensors made float32, and with autocast off while it runs.

    `turns` runs under autocast, which would carry out a loss's matrix products in bfloat16 (8 bits of mantissa: a cosine of
    0.999 becomes 1) and hands over network outputs that the Fourier transform does not take. Gradients come back in the type
    that was given.
    """

    @functools.wraps(loss)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        first = next(_tensors([*args, *kwargs.values()]), None)
        device = "cpu" if first is None else first.device.type
        off = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else contextlib.nullcontext()
        with off:
            return loss(*(_full(a) for a in args), **{name: _full(a) for name, a in kwargs.items()})  # type: ignore[arg-type]

    return call


def _full(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return full(value)
    return [_full(v) for v in value] if type(value) in (list, tuple) else value


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif type(value) in (list, tuple):
            yield from _tensors(value)
