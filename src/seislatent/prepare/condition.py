"""Steps from a Waveform to a Waveform: each keeps start, ids and unit, and signs the history.

Samples are computed in float64; float32 stays float32, integers become float64. A record without samples passes every step, and
one of a single sample is its own mean, its own line and too short to taper. Text, complex and non-finite samples are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.prepare.marks import moved
from seislatent.prepare.resample import SAME_RATE
from seislatent.prepare.resample import resample as resample_samples
from seislatent.signal import filters
from seislatent.signal.filters import Butterworth
from seislatent.waveform import Waveform

Samples = NDArray[np.float64]


def demean(waveform: Waveform) -> Waveform:
    """Each channel without its mean."""
    return _changed(waveform, "demean", filters.demean)


def detrend(waveform: Waveform) -> Waveform:
    """Each channel without the straight line that fits it best (least squares); a single sample becomes 0."""
    return _changed(waveform, "detrend (linear)", filters.detrend)


def taper(waveform: Waveform, share: float = 0.05) -> Waveform:
    """A cosine from 0 to 1 over the first `share` of the samples, and back over the last; `share` is at most 0.5."""
    did = f"taper (cosine, {100 * share:g} % at each end)"
    return _changed(waveform, did, lambda x: filters.cosine_taper(x, share))


def bandpass(waveform: Waveform, low_hz: float, high_hz: float, *, order: int = 4, zero_phase: bool = True) -> Waveform:
    """Butterworth band pass; `zero_phase` runs it forwards and backwards, which doubles the order and moves nothing in time."""
    if not low_hz < high_hz:
        raise SeislatentError(f"bandpass from {low_hz:g} to {high_hz:g} Hz: the lower corner must be below the upper one")
    return _filtered(waveform, "bandpass", (low_hz, high_hz), order, zero_phase)


def lowpass(waveform: Waveform, corner_hz: float, *, order: int = 4, zero_phase: bool = True) -> Waveform:
    """Butterworth low pass; `zero_phase` as in `bandpass`."""
    return _filtered(waveform, "lowpass", (corner_hz,), order, zero_phase)


def highpass(waveform: Waveform, corner_hz: float, *, order: int = 4, zero_phase: bool = True) -> Waveform:
    """Butterworth high pass; `zero_phase` as in `bandpass`."""
    return _filtered(waveform, "highpass", (corner_hz,), order, zero_phase)


def resample(waveform: Waveform, rate_hz: float) -> Waveform:
    """Another sampling rate, with what lies above the lower Nyquist frequency taken out (`seislatent.prepare.resample`).

    Sample numbers in the metadata (`trace_p_arrival_sample`, ...) move along; they may become fractions.
    """
    rate_in = waveform.sampling_rate_hz
    if rate_in <= 0:
        raise SeislatentError(f"{', '.join(waveform.ids)}: text without a sampling rate cannot be resampled")
    if rate_hz > 0 and abs(rate_in / rate_hz - 1) <= SAME_RATE:
        return waveform
    metadata = moved(waveform.metadata, ratio=rate_hz / rate_in)
    if "trace_sampling_rate_hz" in metadata:
        metadata["trace_sampling_rate_hz"] = float(rate_hz)
    did = f"resample ({rate_in:g} to {rate_hz:g} Hz)"
    return _changed(
        waveform, did, lambda x: resample_samples(x, rate_in, rate_hz), sampling_rate_hz=float(rate_hz), metadata=metadata
    )


def scale(waveform: Waveform, factor: float, unit: str | None = None) -> Waveform:
    """Samples times `factor`, from then on in `unit` (the same one where None)."""
    if not np.isfinite(factor):
        raise SeislatentError(f"cannot scale by {factor}: give a finite factor")
    did = f"scale ({factor:g}" + (f" to {unit})" if unit else ")")
    return _changed(waveform, did, lambda x: x * factor, unit=unit or waveform.unit)


def _filtered(waveform: Waveform, kind: str, corners_hz: tuple[float, ...], order: int, zero_phase: bool) -> Waveform:
    """Butterworth in second-order sections, started as if the first sample had always been there."""
    try:
        run = Butterworth(kind=kind, corners_hz=corners_hz, rate_hz=waveform.sampling_rate_hz, order=order, zero_phase=zero_phase)
    except SeislatentError as error:
        raise SeislatentError(f"{error} for {', '.join(waveform.ids)}") from None
    return _changed(waveform, str(run), run)


def _changed(waveform: Waveform, did: str, step: Callable[[Samples], Samples], **changes: Any) -> Waveform:
    """The record after a step on its samples in float64."""
    data = waveform.data
    ids = ", ".join(waveform.ids)
    if data.dtype.kind not in "biuf":
        raise SeislatentError(f"{ids}: samples of type {data.dtype} are no numbers to {did.split(' ')[0]}")
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        bad = int((~np.isfinite(data)).sum())
        raise SeislatentError(f"{ids}: {bad} samples are NaN or infinite; cut them out or fill them before '{did}'")
    samples = step(data.astype(np.float64)) if data.size else data.astype(np.float64)
    return waveform.with_data(samples.astype(np.float32) if data.dtype == np.float32 else samples, did=did, **changes)
