"""Windows of a record, and records of one shape as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import torch

from seislatent.batch import Batch
from seislatent.errors import SeislatentError
from seislatent.prepare.marks import moved
from seislatent.prepare.resample import SAME_RATE
from seislatent.waveform import Waveform


def cut(waveform: Waveform, first: int, last: int) -> Waveform:
    """Samples [first, last) as a record of its own (a view): its start time and the sample numbers of its metadata are right."""
    n = waveform.data.shape[1]
    if not 0 <= first <= last <= n:
        raise SeislatentError(f"{', '.join(waveform.ids)}: samples [{first}, {last}) are not within its {n}")
    start_ns = waveform.start_ns
    if first and waveform.sampling_rate_hz:
        start_ns += round(Fraction(first) * 10**9 / Fraction(waveform.sampling_rate_hz))
    metadata = moved(waveform.metadata, offset=first, length=last - first)
    if "trace_start_time" in metadata:
        whole, rest = divmod(start_ns, 10**9)
        metadata["trace_start_time"] = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"
    did = f"cut (samples {first} to {last} of {n})"
    return waveform.with_data(waveform.data[:, first:last], did=did, start_ns=start_ns, metadata=metadata)


def windows(waveform: Waveform, length_s: float, hop_s: float | None = None) -> list[Waveform]:
    """All whole windows of `length_s`, one every `hop_s` (side by side where None); none where the record is shorter.

    Window k begins at the sample nearest to k * hop_s, so that hops of a fraction of a sample do not add up.
    """
    rate = waveform.sampling_rate_hz
    hop_s = length_s if hop_s is None else hop_s
    if not (np.isfinite(length_s) and round(length_s * rate) >= 1):
        raise SeislatentError(f"windows of {length_s:g} s at {rate:g} Hz hold no sample: make them longer")
    if not (np.isfinite(hop_s) and hop_s * rate >= 1):
        raise SeislatentError(f"windows every {hop_s:g} s at {rate:g} Hz: the hop must be at least one sample, {1 / rate:g} s")
    length = round(length_s * rate)
    count = max(0, int((waveform.data.shape[1] - length) / (hop_s * rate)) + 2)
    starts = (round(k * hop_s * rate) for k in range(count))
    return [cut(waveform, k, k + length) for k in starts if k + length <= waveform.data.shape[1]]


def batch_of(waveforms: Sequence[Waveform]) -> Batch:
    """Records of one length, rate and set of components as a batch.

    `scale` [batch channel] is each channel's standard deviation over its finite samples, and `x` is the record divided by it, so
    that `x * scale` is the record. `valid` is False where a sample is not finite (`x` is 0 there) and on channels that never move,
    whose scale is 1.
    """
    if not waveforms:
        raise SeislatentError("no records to batch: give at least one")
    first = waveforms[0]
    for w in waveforms:
        if w.data.dtype.kind not in "biuf":
            raise SeislatentError(f"{', '.join(w.ids)}: samples of type {w.data.dtype} are no numbers to batch")
        if abs(w.sampling_rate_hz / first.sampling_rate_hz - 1) > SAME_RATE:
            raise _unequal(first, w, "sampling rates", f"{first.sampling_rate_hz:g}", f"{w.sampling_rate_hz:g} Hz", "resample")
        if w.data.shape[1] != first.data.shape[1]:
            raise _unequal(first, w, "lengths", f"{first.data.shape[1]}", f"{w.data.shape[1]} samples", "cut windows of")
        if w.components != first.components:
            raise _unequal(first, w, "components", "".join(first.components), "".join(w.components) or "none", "select from")
    data = np.stack([w.data for w in waveforms]).astype(np.float64)
    finite = np.isfinite(data)
    data[~finite] = 0
    count = np.maximum(finite.sum(-1, keepdims=True), 1)
    mean = data.sum(-1, keepdims=True) / count
    deviation = np.where(finite, data - mean, 0)
    scale = np.sqrt((deviation**2).sum(-1) / count[..., 0])
    moving = np.abs(deviation).max(-1, initial=0) > 1e-14 * np.abs(mean[..., 0])
    scale = np.where(moving & (scale > 0), scale, 1.0)
    return Batch(
        x=torch.from_numpy((data / scale[..., None]).astype(np.float32)),
        valid=torch.from_numpy(finite & moving[..., None]),
        scale=torch.from_numpy(scale.astype(np.float32)),
    )


def _unequal(a: Waveform, b: Waveform, what: str, one: str, other: str, cure: str) -> SeislatentError:
    pair = f"{', '.join(a.ids)} and {', '.join(b.ids)}"
    return SeislatentError(f"cannot batch {pair}: their {what} are {one} and {other}; {cure} them first")
