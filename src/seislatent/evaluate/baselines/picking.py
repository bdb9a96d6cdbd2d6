"""Classical pickers on one record: recursive STA/LTA, STA/LTA refined by AIC, and ObsPy's autoregressive picker.

The routines of ObsPy (`recursive_sta_lta`, `aic_simple`, `ar_pick`) with one interface: a Waveform in, at most one P and one S out.
`stream_picks` makes pickers of whole hours of them: every trigger of the STA/LTA is an arrival.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy.signal.trigger import aic_simple, ar_pick, recursive_sta_lta, trigger_onset

from seislatent.errors import SeislatentError, unknown
from seislatent.signal.filters import Butterworth
from seislatent.systems.base import Pick
from seislatent.waveform import Waveform

Samples = NDArray[np.float64]

FEWEST, EDGE = 20, 3
"""Samples that AIC needs at least, and those at either end that are never an onset: a variance of few samples is erratic."""
CONFIRM_S = 1.0
"""A picker's P so near to a trigger is that trigger's."""


@dataclass(frozen=True, kw_only=True)
class ArrivalPicks:
    """Samples from the start of the record, None where there is no pick."""

    p_sample: float | None = None
    s_sample: float | None = None


def sta_lta_picks(
    waveform: Waveform,
    *,
    highpass_hz: float = 2.0,
    sta_s: float = 0.2,
    lta_s: float = 5.0,
    on: float = 3.0,
    off: float = 1.0,
    s_sta_s: float = 0.2,
    s_lta_s: float = 2.0,
    s_after_p_s: float = 0.5,
) -> ArrivalPicks:
    """P where the highest trigger of the recursive STA/LTA on the vertical begins, S where that on the horizontals rises most.

    The ratio is that of Withers et al. (1998): running means of energy with the time constants `sta_s` and `lta_s`, of the record
    without its mean, high-passed at `highpass_hz` (Butterworth, order 4, causal). A trigger begins where the ratio rises above
    `on` and ends where it falls below `off`; of several the one with the highest ratio counts. ObsPy gives no ratio in the first
    `lta_s`: no P is found there.

    S: the same ratio, with windows of its own, of the length of the horizontal vector; the sample from `s_after_p_s` after P to the
    largest horizontal amplitude at which it has grown most, as a factor, within `s_sta_s`. None without P or without horizontals.

    No picks in a record shorter than `lta_s` or without motion. Raises SeislatentError where there is no vertical component, a
    sample is not finite, or the windows make no sense.
    """
    z, horizontal = _components(waveform, highpass_hz)
    rate = waveform.sampling_rate_hz
    if not (0 < sta_s < lta_s and 0 < s_sta_s < s_lta_s and on >= off > 0):
        raise SeislatentError(f"STA of {sta_s} s, LTA of {lta_s} s, on at {on}, off at {off}: STA must be shorter and off lower")
    p = _best_trigger(_ratio(z, sta_s, lta_s, rate), on, off)
    if p is None or horizontal is None:
        return ArrivalPicks(p_sample=p)
    first, last = _s_range(horizontal, p, s_after_p_s, rate)
    ratio, k = _ratio(horizontal, s_sta_s, s_lta_s, rate), max(1, round(s_sta_s * rate))
    # a ratio below 0.05 counts as that, or the first samples after the LTA would win
    growth = (ratio[k:] / np.maximum(ratio[:-k], 0.05))[first : last + 1]
    if not growth.size or growth.max() <= 1:
        return ArrivalPicks(p_sample=p)
    return ArrivalPicks(p_sample=p, s_sample=float(first + int(np.argmax(growth))))


def aic_picks(
    waveform: Waveform,
    *,
    before_s: float = 0.5,
    after_s: float = 0.5,
    s_after_p_s: float = 0.3,
    s_after_peak_s: float = 0.3,
    highpass_hz: float = 2.0,
) -> ArrivalPicks:
    """P of `sta_lta_picks` moved to the least AIC from `before_s` before it to `after_s` after it; S by AIC alone.

    AIC(k) = k log var(x[:k]) + (n - k - 1) log var(x[k:]), least at the onset that divides the window best into two noises (Maeda
    1985), of the vertical for P; for S of the length of the horizontal vector from `s_after_p_s` after P to `s_after_peak_s` after
    the largest horizontal amplitude. Both high-passed as there.

    No picks where that finds no P. Raises what that raises.
    """
    rough = sta_lta_picks(waveform, highpass_hz=highpass_hz).p_sample
    z, horizontal = _components(waveform, highpass_hz)
    rate = waveform.sampling_rate_hz
    if rough is None:
        return ArrivalPicks()
    p = _least_aic(z, int(rough - before_s * rate), int(rough + after_s * rate))
    p = rough if p is None else p
    if horizontal is None:
        return ArrivalPicks(p_sample=p)
    first, last = _s_range(horizontal, p, s_after_p_s, rate)
    return ArrivalPicks(p_sample=p, s_sample=_least_aic(horizontal, first, int(last + s_after_peak_s * rate)))


def ar_picks(
    waveform: Waveform,
    *,
    band_hz: tuple[float, float] = (1.0, 20.0),
    lta_p_s: float = 1.0,
    sta_p_s: float = 0.1,
    lta_s_s: float = 4.0,
    sta_s_s: float = 1.0,
    orders: tuple[int, int] = (2, 8),
    variance_s: tuple[float, float] = (0.1, 0.2),
) -> ArrivalPicks:
    """P and S of ObsPy's `ar_pick` (Akazawa 2004): STA/LTA, then AIC of autoregressive residuals, with its documentation's values.

    `orders` are those of the autoregressive models for P and S, `variance_s` the lengths over which their residuals' variance is
    taken. The band ends at 0.9 of the Nyquist frequency at most. What it gives as 0 counts as none; below about 40 Hz, where
    `variance_s` holds few samples, it often gives that.

    No picks in a record shorter than four times the longest window, without motion, or without three components. Raises
    SeislatentError where there is no vertical component or a sample is not finite.
    """
    z, others = _rows(waveform)
    rate, longest = waveform.sampling_rate_hz, max(lta_p_s, sta_p_s, lta_s_s, sta_s_s)
    if len(others) < 2 or len(z) < 4 * longest * rate or np.ptp(z) == 0 or any(np.ptp(x) == 0 for x in others[:2]):
        return ArrivalPicks()
    high = min(band_hz[1], 0.45 * rate)
    if not 0 < band_hz[0] < high:
        raise SeislatentError(f"a band of {band_hz[0]:g} to {high:g} Hz at {rate:g} Hz: it must rise, below 0.9 of Nyquist")
    # over the peak of all three: its C code works in single precision
    peak = max(np.abs(x).max() for x in (z, *others[:2]))
    z, one, two = (np.ascontiguousarray(x / peak) for x in (z, *others[:2]))
    found = ar_pick(z, one, two, rate, band_hz[0], high, lta_p_s, sta_p_s, lta_s_s, sta_s_s, *orders, *variance_s, s_pick=True)
    p, s = (float(t) * rate if np.isfinite(t) and t > 0 else None for t in found)
    return ArrivalPicks(p_sample=p, s_sample=s if p is not None and s is not None and s > p else None)


PICKERS = {"sta_lta": sta_lta_picks, "aic": aic_picks, "ar_pick": ar_picks}
"""Name -> picker, each with its defaults."""


# -- on hours ---------------------------------------------------------------------------------------------------------------------


def stream_picks(
    waveform: Waveform,
    picker: str = "sta_lta",
    *,
    highpass_hz: float = 2.0,
    sta_s: float = 0.2,
    lta_s: float = 5.0,
    on: float = 3.0,
    off: float = 1.0,
    before_s: float = 12.0,
    after_s: float = 25.0,
) -> list[Pick]:
    """P and S of every trigger in a stretch of any length.

    Triggers are those of `sta_lta_picks`, not the highest alone. The picker is given each with `before_s` before it and `after_s`
    behind; where its P lies within 1 s of the trigger, its P and S count. Where it lies elsewhere (a larger trigger is near), the
    trigger itself is P, without an S; for `ar_pick`, which knows no triggers, there is then no pick. The score of both is
    1 - 1 / r, r the highest ratio of the trigger: it rises with r, from 0.67 at a ratio of 3, and is no probability.

    Raises what the picker raises: no vertical component, a sample that is not finite.
    """
    if picker not in PICKERS:
        raise SeislatentError(unknown("picker", picker, PICKERS))
    z, _ = _components(waveform, highpass_hz)
    rate = waveform.sampling_rate_hz
    ratio = _ratio(z, sta_s, lta_s, rate)
    found: list[Pick] = []
    for first, last in trigger_onset(ratio, on, off) if ratio.size else ():
        score = 1 - 1 / float(ratio[first : last + 1].max())
        found += _refined(waveform, picker, int(first), score, round(before_s * rate), round(after_s * rate))
    return found


def _refined(waveform: Waveform, picker: str, first: int, score: float, before: int, after: int) -> list[Pick]:
    """P and S of one trigger at a sample."""
    begin = max(0, first - before)
    piece = waveform.data[:, begin : first + after]
    call: Any = PICKERS[picker]
    answer = call(replace(waveform, data=piece, metadata={}))
    p, s = answer.p_sample, answer.s_sample
    if p is None or abs(begin + p - first) > CONFIRM_S * waveform.sampling_rate_hz:
        return [] if picker == "ar_pick" else [Pick(phase="P", sample=float(first), probability=score)]
    both = (("P", p), ("S", s))
    return [Pick(phase=phase, sample=begin + at, probability=score) for phase, at in both if at is not None and np.isfinite(at)]


# -- parts ------------------------------------------------------------------------------------------------------------------------


def _rows(waveform: Waveform) -> tuple[Samples, list[Samples]]:
    """The vertical and the other rows, each without its mean."""
    if waveform.data.dtype.kind not in "iuf" or "Z" not in waveform.components:
        raise SeislatentError(f"{waveform!r} has no vertical component with numbers: give a record with Z")
    x = np.asarray(waveform.data, np.float64)
    if not np.isfinite(x).all():
        raise SeislatentError(f"{waveform!r} holds NaN or infinity: fill gaps or leave it out")
    if x.shape[1]:
        x = x - x.mean(-1, keepdims=True)
    at = waveform.components.index("Z")
    return x[at], [row for i, row in enumerate(x) if i != at]


def _components(waveform: Waveform, highpass_hz: float) -> tuple[Samples, Samples | None]:
    """The vertical, and the length of the horizontal vector where two rows beside it move; both high-passed."""
    z, others = _rows(waveform)
    if not z.size:
        return z, None
    rate = waveform.sampling_rate_hz
    highpass = Butterworth(kind="highpass", corners_hz=highpass_hz, rate_hz=rate, order=4, zero_phase=False)
    if len(others) < 2 or any(np.ptp(x) == 0 for x in others[:2]):
        return highpass(z), None
    return highpass(z), np.hypot(highpass(others[0]), highpass(others[1]))


def _ratio(x: Samples, sta_s: float, lta_s: float, rate_hz: float) -> Samples:
    """Recursive STA/LTA, 0 where there is none."""
    long = max(2, round(lta_s * rate_hz))
    if len(x) <= long or np.ptp(x) == 0:
        return np.zeros(len(x))
    # over its peak, so that squares of tiny ground motion do not vanish; ObsPy's C code asks for contiguous float64
    ratio = recursive_sta_lta(np.ascontiguousarray(x / np.abs(x).max()), max(1, round(sta_s * rate_hz)), long)
    return np.nan_to_num(ratio, nan=0.0, posinf=0.0)


def _best_trigger(ratio: Samples, on: float, off: float) -> float | None:
    triggers = trigger_onset(ratio, on, off) if ratio.size else []
    if not len(triggers):
        return None
    return float(max(triggers, key=lambda t: ratio[t[0] : t[1] + 1].max())[0])


def _s_range(horizontal: Samples, p: float, after_s: float, rate_hz: float) -> tuple[int, int]:
    """First and last sample at which S may be: the last is that of the largest horizontal amplitude after the first."""
    first = min(int(p + after_s * rate_hz), len(horizontal) - 1)
    return first, first + int(np.argmax(horizontal[first:]))


def _least_aic(x: Samples, first: int, last: int) -> float | None:
    """The onset between two samples; None where there is too little to divide."""
    first = max(0, first)
    part = x[first : last + 1]
    if len(part) < FEWEST or np.ptp(part) == 0:
        return None
    # a variance of a few equal samples is 0, its logarithm -inf: never an onset
    with np.errstate(divide="ignore", invalid="ignore"):
        aic = aic_simple(part)[EDGE:-EDGE]
    fine = np.isfinite(aic)
    # ObsPy's value i divides before sample i + 1
    return float(first + EDGE + 1 + int(np.argmin(np.where(fine, aic, np.inf)))) if fine.any() else None
