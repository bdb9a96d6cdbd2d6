"""Amplitude taken out of a record and kept beside it, in columns `trace_{C}_scale` of its own unit.

`x * scale` is the record again (less its mean, where that was taken out); afterwards the samples have no unit ("1"), and
`trace_scale_unit` says the scale's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from seislatent.errors import SeislatentError, unknown
from seislatent.waveform import Waveform

Per = Literal["record", "component"]
By = Literal["peak", "deviation"]


def level(waveform: Waveform, by: By = "peak", per: Per = "record", *, demean: bool = True) -> Waveform:
    """The record in float32 divided by its peak (samples in [-1, 1]) or by its standard deviation (unit variance).

    Args:
        waveform: finite samples.
        by: `peak`, the largest absolute value, or `deviation`, the root of the mean square (about the mean, where `demean`).
        per: one number for all components of the record, which keeps their ratios, or one for each.
        demean: take out each component's mean first.

    A component (or record) that is 0 throughout is divided by 1; one that is constant gives 0 with its mean taken out.

    Raises:
        SeislatentError: samples that are not finite; an unknown `by` or `per`.
    """
    if by not in get_args(By):
        raise SeislatentError(unknown("measure of amplitude", by, get_args(By)))
    if per not in get_args(Per):
        raise SeislatentError(unknown("extent of a scale", per, get_args(Per)))
    if not np.isfinite(waveform.data).all():
        raise SeislatentError(f"{', '.join(waveform.ids)}: samples that are not finite have no amplitude: cut the gap out")
    x = waveform.data.astype(np.float64)
    largest = float(np.abs(x).max(initial=0)) or 1.0
    x = x / largest  # no sum overflows, no square vanishes
    if demean:
        x = x - x.mean(-1, keepdims=True)
    axis = -1 if per == "component" else None
    top = np.abs(x).max(axis, keepdims=True, initial=0)
    size = top
    if by == "deviation":
        size = top * np.sqrt(np.mean((x / np.where(top > 0, top, 1.0)) ** 2, axis, keepdims=True))
    moves = size > 0
    scale = np.broadcast_to(np.where(moves, size * largest, 1.0), (len(x), 1))[:, 0]
    names = [component or str(i) for i, component in enumerate(waveform.components)]
    columns = {f"trace_{name}_scale": float(s) for name, s in zip(names, scale, strict=True)}
    unit = {} if waveform.unit is None else {"trace_scale_unit": waveform.unit}
    steps = (["demean"] if demean else []) + [f"divide by the {by} of each {per}"]
    return replace(
        waveform, data=(x / np.where(moves, size, 1.0)).astype(np.float32), unit="1", history=(*waveform.history, *steps),
        metadata=waveform.metadata | columns | unit,
    )  # fmt: skip


def single_precision(waveform: Waveform) -> Waveform:
    """The record in float32.

    Raises:
        SeislatentError: a finite sample is beyond what float32 holds (3.4e38).
    """
    with np.errstate(over="ignore"):
        data = waveform.data.astype(np.float32)
    if (np.isinf(data) & np.isfinite(waveform.data)).any():
        raise SeislatentError(f"{', '.join(waveform.ids)}: samples up to {np.abs(waveform.data).max():.3g} are beyond float32")
    return replace(waveform, data=data)
