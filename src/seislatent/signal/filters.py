"""Filters of many signals at once: pure functions of x [..., time], whatever axes stand before.

    x [..., time], any real type --float64--> y [..., time], float64

Butterworth filters run as second-order sections with the meaning of SciPy's sosfilt and sosfiltfilt, several times faster on a
batch (benchmarks/prepare_speed.py); the loops are in `seislatent.signal.lanes`. Non-finite samples spoil their own signal and no
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.errors import SeislatentError, unknown

Samples = NDArray[np.float64]

KINDS = {"lowpass": 1, "highpass": 1, "bandpass": 2, "bandstop": 2}
"""Kinds of filter, with their number of corners."""
DERIVATIVE_HALF = 20
"""Samples on either side of a derivative."""
DERIVATIVE_BAND = 0.85
"""Share of the Nyquist frequency up to which it is one."""


def demean(x: NDArray[Any]) -> Samples:
    """Each signal without its mean; [..., time] as given."""
    x = _float64(x)
    return x - x.mean(-1, keepdims=True) if x.size else x.copy()


def detrend(x: NDArray[Any]) -> Samples:
    """Each signal without the straight line that fits it best (least squares); a single sample becomes 0."""
    x = _float64(x)
    if not x.size:
        return x.copy()
    level, slope = line(x)
    return x - (level[..., None] + slope[..., None] * _centred(x.shape[-1]))


def line(x: NDArray[Any]) -> tuple[Samples, Samples]:
    """Level [...] in the middle and slope [...] per sample of the straight line that fits each signal best (least squares)."""
    x = _float64(x)
    time = _centred(x.shape[-1])
    level = x.mean(-1)
    # samples at or before the middle against those behind it, so that a large level does not cost the slope its digits
    return level, (x - level[..., None]) @ time / max(float(time @ time), 1.0)


def cosine_taper(x: NDArray[Any], share: float = 0.05) -> Samples:
    """Each signal times a cosine from 0 to 1 over the first `share` of its samples, and back over the last.

    Raises SeislatentError where `share` is not within 0 to 0.5.
    """
    _check_share(share, 0.5, "at each end")
    x = _float64(x)
    n = int(share * x.shape[-1])
    window = np.ones(x.shape[-1])
    if n:
        rise = 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / n)
        window[:n], window[-n:] = rise, rise[::-1]
    return x * window


def tukey_taper(x: NDArray[Any], share: float = 0.05) -> Samples:
    """Each signal times a Tukey window whose two cosines together take `share` of it: scipy.signal.windows.tukey(n, share).

    A share of 0.05 tapers 2.5 % at each end. Raises SeislatentError where `share` is not within 0 to 1.
    """
    _check_share(share, 1.0, "at both ends together")
    x = _float64(x)
    return x * tukey(x.shape[-1], share)


def tukey(n: int, share: float) -> Samples:
    """The window [n] of `tukey_taper`; its first and last values are 0."""
    if n < 2 or share <= 0:
        return np.ones(n)
    from_end = np.minimum(np.arange(n), np.arange(n)[::-1]) / (n - 1)
    return 0.5 - 0.5 * np.cos(np.pi * np.minimum(2 * from_end / share, 1.0))


def differentiate(x: NDArray[Any], rate_hz: float) -> Samples:
    """The derivative in time of each signal, in its unit per second.

    An antisymmetric sum over 20 samples on either side, whose gain has the least squared error relative to 2 pi f from 0 to 0.85 of
    the Nyquist frequency: within 1.5e-4 there, without phase error. (The central difference of neighbours, which is common, has
    lost half the amplitude at 0.6 of the Nyquist frequency: 30 Hz at 100 Hz.) Beyond its ends a signal is continued by point
    reflection about its end values; one of n <= 20 samples uses n - 1 on either side.
    """
    x = _float64(x)
    n = x.shape[-1]
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise SeislatentError(f"cannot differentiate at a rate of {rate_hz} Hz: give a positive number")
    if n < 2:
        return np.zeros_like(x)
    from seislatent.signal.lanes import antisymmetric

    y = np.empty_like(x)
    antisymmetric(x.reshape(-1, n), _derivative(min(DERIVATIVE_HALF, n - 1)) * rate_hz, y.reshape(-1, n))
    return y


@dataclass(frozen=True, kw_only=True)
class Butterworth:
    """A Butterworth filter in second-order sections, designed by SciPy (bilinear transform, corners at half power).

    Zero phase: forwards, then backwards, which doubles the order, moves nothing in time and halves the amplitude at the corners;
    the signal is continued at both ends by point reflection about its end values over 3 (2 sections + 1) samples (fewer for an odd
    order or a short signal), and each run begins in the steady state of its first sample: sosfiltfilt with its defaults. Causal:
    one run, begun in the steady state of the first sample, as if that had always been there: sosfilt with sosfilt_zi times it.

    Raises:
        SeislatentError: an unknown kind, a corner outside 0 to the Nyquist frequency, corners in the wrong order, an order below 1.
    """

    kind: str
    """lowpass, highpass, bandpass or bandstop."""
    corners_hz: float | tuple[float, ...]
    rate_hz: float
    order: int = 4
    zero_phase: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SeislatentError(unknown("kind of filter", self.kind, KINDS))
        corners = np.atleast_1d(np.asarray(self.corners_hz, float))
        if len(corners) != KINDS[self.kind]:
            raise SeislatentError(f"{self.kind} at {self._named} Hz: it has {KINDS[self.kind]} corner(s), not {len(corners)}")
        for corner in corners:
            if not 0 < corner < self.rate_hz / 2:
                where = f"a corner must lie between 0 and the Nyquist frequency, {self.rate_hz / 2:g} Hz"
                raise SeislatentError(f"{self.kind} at {self._named} Hz: {where}")
        if not (np.diff(corners) > 0).all():
            raise SeislatentError(f"{self.kind} at {self._named} Hz: the lower corner must be below the upper one")
        if self.order < 1:
            raise SeislatentError(f"{self.kind} of order {self.order}: give 1 or more")

    def __str__(self) -> str:
        """As a line of history has it."""
        return f"{self.kind} ({self._named} Hz, order {self.order}, {'zero phase' if self.zero_phase else 'causal'})"

    @property
    def _named(self) -> str:
        return " to ".join(f"{c:g}" for c in np.atleast_1d(np.asarray(self.corners_hz, float)))

    @cached_property
    def sections(self) -> Samples:
        """[section 6]: b0 b1 b2 1 a1 a2."""
        from scipy.signal import butter

        corners = self.corners_hz if isinstance(self.corners_hz, int | float) or len(self.corners_hz) > 1 else self.corners_hz[0]
        return np.ascontiguousarray(butter(self.order, corners, self.kind, fs=self.rate_hz, output="sos"))

    @cached_property
    def start(self) -> Samples:
        """[section 2]: the state that a signal of ones leaves as it is."""
        from scipy.signal import sosfilt_zi

        return np.ascontiguousarray(sosfilt_zi(self.sections))

    def __call__(self, x: NDArray[Any], *, out: Samples | None = None) -> Samples:
        """The filtered signals [..., time]; into `out` where given (float64, of x's shape, contiguous; it may be x itself)."""
        x = _float64(x)
        n = x.shape[-1]
        if out is not None and (out.shape != x.shape or out.dtype != np.float64 or not out.flags.c_contiguous):
            raise SeislatentError(f"out is {out.shape} of {out.dtype}: give contiguous float64 of shape {x.shape}")
        y = np.empty_like(x) if out is None else out
        if x.size:
            from seislatent.signal.lanes import recursive

            pad = min(self._pad, n - 1) if self.zero_phase else 0
            recursive(x.reshape(-1, n), self.sections, self.start, pad, self.zero_phase, y.reshape(-1, n))
        return y

    @property
    def _pad(self) -> int:
        """Three times the taps of the filter as one fraction; a section of first order has one less."""
        lacking = min(int((self.sections[:, 2] == 0).sum()), int((self.sections[:, 5] == 0).sum()))
        return 3 * (2 * len(self.sections) + 1 - lacking)


def _float64(x: NDArray[Any]) -> Samples:
    x = np.asarray(x)
    if x.ndim < 1 or x.dtype.kind not in "biuf":
        raise SeislatentError(f"cannot filter {x.dtype} of shape {x.shape}: give real numbers [..., time]")
    return np.ascontiguousarray(x, dtype=np.float64)


def _centred(n: int) -> Samples:
    return np.arange(n, dtype=np.float64) - (n - 1) / 2


def _check_share(share: float, largest: float, where: str) -> None:
    if not 0 <= share <= largest:
        raise SeislatentError(f"a taper of {share:g} of the record {where}: give a share from 0 to {largest:g}")


@cache
def _derivative(half: int) -> Samples:
    """Taps 1 to `half`, per sample, filled up with zeros to fours: sum of 2 tap sin(k w) as near to w as it gets."""
    k, w = np.arange(1, half + 1), np.pi * DERIVATIVE_BAND * (np.arange(8 * half) + 0.5) / (8 * half)
    taps = np.linalg.lstsq(2 * np.sin(w[:, None] * k) / w[:, None], np.ones(len(w)), rcond=None)[0].astype(np.float64)
    return np.pad(taps, (0, -half % 4))
