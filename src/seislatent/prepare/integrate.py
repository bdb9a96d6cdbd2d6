"""Displacement or velocity from what a record measures, as its unit or its instrument code tells (`seislatent.prepare.motion`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.prepare.motion import QUANTITIES, Motion, Quantity, motion_of
from seislatent.waveform import Waveform


def motion(waveform: Waveform) -> Motion | None:
    """What the samples are; None where neither unit nor channel codes tell."""
    return motion_of(waveform.unit, [c.code for c in waveform.channels])


def to_quantity(waveform: Waveform, quantity: Quantity) -> Waveform:
    """The record as displacement, velocity or acceleration, in SI units; of counts, up to a gain.

    Integration is by the trapezoidal rule from 0, after the best straight line is taken out, which is done again afterwards: what
    is slower than the record is lost. Differentiation is by central differences. A sine comes out too small by 1 % at 0.055 of the
    sampling rate after one integration, and at 0.039 of it after one derivative.

    `trace_quantity` says what it is now. Counts, and records without a unit, become `counts*s` and the like, or stay without.

    Raises:
        SeislatentError: what the record measures is not known, or samples are not finite.
    """
    held = motion(waveform)
    if held is None:
        raise SeislatentError(
            f"{', '.join(waveform.ids)}: unit '{waveform.unit}' and channel codes do not say whether it is displacement, velocity"
            " or acceleration: take it as recorded"
        )
    if waveform.data.dtype.kind not in "biuf" or not np.isfinite(waveform.data).all():
        raise SeislatentError(f"{', '.join(waveform.ids)}: samples that are not finite have no {quantity}: cut the gap out")
    step, dt = QUANTITIES.index(quantity) - QUANTITIES.index(held.quantity), 1 / waveform.sampling_rate_hz
    named = quantity if held.size is not None else f"{quantity} up to a gain"
    x = waveform.data.astype(np.float64) * (1.0 if held.size is None else held.size)
    for _ in range(step):
        x = np.gradient(x, dt, axis=-1) if x.shape[-1] > 1 else np.zeros_like(x)
    for _ in range(-step):
        x = _level(_sum(_level(x)) * dt)
    done = "as recorded" if step == 0 else f"integrated {-step} times" if step < 0 else f"differentiated {step} times"
    unit = held.derivative_unit(step) if step > 0 or held.size is not None else _of_counts(waveform.unit, -step)
    data = x.astype(np.float32) if waveform.data.dtype == np.float32 else x
    return waveform.with_data(
        data, did=f"{named} ({done})", unit=unit if waveform.unit is not None else None,
        metadata=waveform.metadata | {"trace_quantity": named},
    )  # fmt: skip


def _sum(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Trapezoids from the first sample, where it is 0."""
    return np.concatenate([np.zeros((len(x), 1)), np.cumsum((x[:, 1:] + x[:, :-1]) / 2, axis=-1)], axis=-1)[:, : x.shape[-1]]


def _level(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each channel without its best straight line."""
    time = np.arange(x.shape[-1]) - (x.shape[-1] - 1) / 2
    x = x - x.mean(-1, keepdims=True)
    return np.asarray(x - (x @ time / max((time**2).sum(), 1.0))[:, None] * time)


def _of_counts(unit: str | None, times: int) -> str | None:
    """counts*s after one integration."""
    return unit if unit is None or times == 0 else f"{unit}*s" + (f"^{times}" if times > 1 else "")
