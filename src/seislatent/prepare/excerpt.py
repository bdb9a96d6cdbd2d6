"""A window of a record at another rate, computed from those samples only that it needs.

    record [channel time] at any rate --> samples [first, last) of the record at `rate_hz`, and what became of every marked sample

`excerpt(record, first, last, rate)` has the bits of `resample` of the whole record followed by `cut`, but a gap elsewhere in the
record is no matter, and a day's record costs no more than a minute's. The resampler is the anti-alias filter: at 20 Hz what lies
above 10 Hz, the Nyquist frequency, is at least 100 dB down, and nothing below 9 Hz is touched (`seislatent.prepare.resample`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from seislatent.errors import SeislatentError
from seislatent.prepare.marks import moved
from seislatent.prepare.resample import Resampler
from seislatent.waveform import Waveform


@lru_cache(maxsize=32)
def _resampler(rate_in_hz: float, rate_out_hz: float) -> Resampler:
    return Resampler(rate_in_hz, rate_out_hz)


def length_at(waveform: Waveform, rate_hz: float) -> int:
    """Samples that the record has at another rate."""
    return _resampler(waveform.sampling_rate_hz, rate_hz).length(waveform.data.shape[1])


def mark(waveform: Waveform, name: str) -> float | None:
    """A sample number of the metadata, None where it is missing or not finite; `name` with or without its `trace_`."""
    for key in (name, f"trace_{name}", name.removeprefix("trace_")):
        value = waveform.metadata.get(key)
        if isinstance(value, int | float | np.number) and math.isfinite(value):
            return float(value)
    return None


def marked(waveform: Waveform) -> Waveform:
    """The record with every `*_sample` of its metadata under a name that begins with `trace_`, so that cutting moves it along."""
    names = {k: f"trace_{k}" for k in waveform.metadata if k.endswith("_sample") and not k.startswith("trace_")}
    if not names:
        return waveform
    return replace(waveform, metadata={names.get(k, k): v for k, v in waveform.metadata.items()})


def flaw(waveform: Waveform, first: int, last: int, rate_hz: float) -> str:
    """Why samples [first, last) at `rate_hz` cannot be taken, in few words; an empty text where they can.

    `too short` (they reach beyond the record), `no numbers` (text), `gap` (a sample that they need is not finite), `dead component`
    (one does not move within them).
    """
    if waveform.data.dtype.kind not in "biuf" or waveform.sampling_rate_hz <= 0:
        return "no numbers"
    if first < 0 or last > length_at(waveform, rate_hz):
        return "too short"
    a, b = _inputs(waveform, first, last, rate_hz)
    raw = waveform.data[:, a:b]
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        return "gap"
    ratio = waveform.sampling_rate_hz / rate_hz
    inner = waveform.data[:, math.floor(first * ratio) : max(math.ceil(last * ratio), math.floor(first * ratio) + 2)]
    return "dead component" if inner.size == 0 or (inner == inner[:, :1]).all(1).any() else ""


def excerpt(waveform: Waveform, first: int, last: int, rate_hz: float) -> Waveform:
    """Samples [first, last) of the record at `rate_hz`, in float64 (as they are where it has that rate).

    Start, `trace_start_time`, `trace_npts`, `trace_sampling_rate_hz` and every `*_sample` are those of the window; a mark outside
    it becomes NaN. A record whose start is not known (0, and no `trace_start_time`) gives windows whose start is not known.

    Raises:
        SeislatentError: the window reaches beyond the record, or a sample that it needs is not finite (see `flaw`).
    """
    waveform = marked(waveform)
    rate = waveform.sampling_rate_hz
    resampler, n = _resampler(rate, rate_hz), waveform.data.shape[1]
    if not 0 <= first < last <= resampler.length(n):
        raise SeislatentError(
            f"{', '.join(waveform.ids)}: samples [{first}, {last}) at {rate_hz:g} Hz are not within its {resampler.length(n)}"
        )
    history = [] if resampler.identity else [f"resample ({rate:g} to {rate_hz:g} Hz)"]
    history += [f"cut (samples {first} to {last} of {resampler.length(n)})"]
    if resampler.identity:
        data = waveform.data[:, first:last]
    else:
        a, b = resampler.span(first, last)
        held = waveform.data[:, max(0, a) : min(n, b)]
        data = resampler.apply(np.pad(held, [(0, 0), (max(0, -a), max(0, b - n))], mode="edge"), first, last)
    start_ns = waveform.start_ns
    if start_ns or "trace_start_time" in waveform.metadata:
        start_ns += round(Fraction(first) * 10**9 / Fraction(rate_hz))
    metadata = moved(waveform.metadata, ratio=1.0 if resampler.identity else rate_hz / rate)
    metadata = moved(metadata, offset=first, length=last - first) | _about(waveform.metadata, start_ns, last - first, rate_hz)
    return replace(
        waveform, data=data, sampling_rate_hz=float(rate_hz), start_ns=start_ns, metadata=metadata,
        history=(*waveform.history, *history),
    )  # fmt: skip


def _inputs(waveform: Waveform, first: int, last: int, rate_hz: float) -> tuple[int, int]:
    """Samples of the record that an excerpt is made from."""
    a, b = _resampler(waveform.sampling_rate_hz, rate_hz).span(first, last)
    return max(0, a), min(waveform.data.shape[1], b)


def _about(metadata: dict[str, Any], start_ns: int, count: int, rate_hz: float) -> dict[str, Any]:
    """The window's own rate, length and start, for those of them that the record tells."""
    whole, rest = divmod(start_ns, 10**9)
    told: dict[str, Any] = {"trace_npts": count, "trace_sampling_rate_hz": float(rate_hz)}
    if "trace_start_time" in metadata:
        told["trace_start_time"] = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"
    return {name: value for name, value in told.items() if name in metadata}
