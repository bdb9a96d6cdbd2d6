"""Records changed at random as recorders, sites and archives change them: speed, band, clipping, counts, glitches, other events.

    Windows [b c t] --played at another speed--> --another event on top--> --band, sensor--> --clipped, in steps--> --glitches-->

More augmentations beside those of `augment.py`, with the same rules: equal dice give equal results, nothing is changed in place, a
sample that is not valid is 0 before and after. Arrivals move along; what is drawn is drawn for every record, chosen or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from seislatent.errors import SeislatentError
from seislatent.prepare.augment import Dice, Windows

EDGE = 64
"""Samples that a spectral change is given beside what is kept, so that its ends do not meet there."""


@dataclass(frozen=True, kw_only=True)
class Playback:
    """Cuts windows out of longer records, as if time had run faster or slower: a sample's interval becomes another.

    A record at speed v has its frequencies times v and its times over v: a larger earthquake farther off (v < 1) or a smaller one
    nearby (v > 1), about. Resampled by its spectrum, so that nothing is aliased. The part is drawn so that it holds one of the
    record's marks, each alike, where there is one; marks outside are NaN. Targets are not played.
    """

    length: int
    """Samples of the windows that come out."""
    speeds: tuple[float, float] = (0.5, 2.0)
    """Least and greatest; the logarithm is uniform between them."""
    share: float = 1.0
    """Of the records; the others are cut at speed 1."""

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The shorter windows.

        Raises:
            SeislatentError: the records are shorter than the windows, or have targets.
        """
        played, at = self.cut(windows, dice)
        inside = np.where((at >= 0) & (at < self.length), at, np.nan)
        return replace(played, marks={name: inside[:, k] for k, name in enumerate(windows.marks)})

    def cut(self, windows: Windows, dice: Dice) -> tuple[Windows, NDArray[np.float64]]:
        """The windows without marks, and where the marks [batch mark] stand from each window's beginning, inside or not."""
        b, c, whole = windows.x.shape
        wide = self.length + 2 * EDGE
        if whole < wide or windows.target is not None:
            raise SeislatentError(f"records of {whole} samples for windows of {self.length}: give {wide} or more, without targets")
        drawn = dice.random((b, 4))
        low, high = np.log(self.speeds)
        speed = np.where(drawn[:, 0] < self.share, np.exp(low + (high - low) * drawn[:, 1]), 1.0)
        marks = np.stack([*windows.marks.values()], 1) if windows.marks else np.empty((b, 0))
        x, valid = np.zeros((b, c, self.length), np.float32), np.zeros((b, c, self.length), bool)
        at = np.full(marks.shape, np.nan)
        for i in range(b):
            taken = min(_fast(wide * speed[i]), whole - whole % 2) if speed[i] != 1 else wide
            begin = _begin(marks[i], drawn[i, 2], drawn[i, 3], taken, whole, round(EDGE * taken / wide))
            x[i], valid[i] = _resampled(
                windows.x[i, :, begin : begin + taken], windows.valid[i, :, begin : begin + taken], wide
            )  # fmt: skip
            at[i] = (marks[i] - begin) * wide / taken - EDGE
        return replace(windows, x=x, valid=valid, marks={}), at


def _fast(samples: float) -> int:
    """An even length near this one whose spectrum is quickly had."""
    return 2 * next_fast_len(round(samples / 2), real=True)


def _begin(marks: NDArray[np.float64], which: float, where: float, taken: int, whole: int, edge: int) -> int:
    """Where the part begins: so that a mark stands at a drawn place of it, as far as the record reaches."""
    known = marks[(marks >= 0) & (marks < whole)]
    room = whole - taken
    if not known.size:
        return int(where * (room + 1))
    mark = known[int(which * known.size)]
    return int(np.clip(round(mark - edge - where * (taken - 2 * edge)), 0, room))


def _resampled(x: NDArray[np.float32], valid: NDArray[np.bool_], count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """[channel time] -> [channel count - 2 EDGE]: as many samples over the same time, without `EDGE` at both ends."""
    n = x.shape[1]
    kept = slice(EDGE, count - EDGE)
    if n == count:
        return x[:, kept], valid[:, kept]
    line = np.linspace(0, 1, n, endpoint=False, dtype=np.float32)
    first, last = x[:, :8].mean(1, keepdims=True), x[:, -8:].mean(1, keepdims=True)
    spectrum = rfft(x - (first + (last - first) * line), axis=1)
    y = irfft(spectrum[:, : count // 2 + 1], count, axis=1) * (count / n)
    y += first + (last - first) * np.linspace(0, 1, count, endpoint=False, dtype=np.float32)
    there = valid[:, np.minimum(np.arange(count) * n // count, n - 1)][:, kept]
    return np.where(there, y[:, kept], np.float32(0)).astype(np.float32), there


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """Adds another record with its own arrivals, as in a swarm: what was there stands above it by a drawn ratio in dB.

    The ratio is of the components' largest deviations. Marks of the other record have its names and `suffix`. Where the first
    record has no such component the sum has none either.
    """

    source: Callable[[Dice, int], Windows]
    """So many other records, of the same length and components."""
    ratio_db: tuple[float, float] = (-15.0, 15.0)
    share: float = 1.0
    """Of the records."""
    suffix: str = " 2"

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The sums."""
        b = len(windows.x)
        drawn = dice.random((b, 2))
        other = self.source(dice, b)
        first, second = (_peak(w) for w in (windows, other))
        ratio = 10 ** (-(self.ratio_db[0] + np.ptp(self.ratio_db) * drawn[:, 1]) / 20)
        both = (drawn[:, 0] < self.share) & (first > 0) & (second > 0)
        factor = np.where(both, ratio * first / np.where(second > 0, second, 1), 0).astype(np.float32)
        valid = windows.valid & (other.valid | ~both[:, None, None])
        x = np.where(valid, windows.x + other.x * factor[:, None, None], np.float32(0))
        marks = {name + self.suffix: np.where(both, at, np.nan) for name, at in other.marks.items()}
        return replace(windows, x=x, valid=valid, marks={**windows.marks, **marks})


def _peak(windows: Windows) -> NDArray[np.float64]:
    """Largest deviation [batch] of any component from its middle."""
    return (windows.x.max(2) - windows.x.min(2)).max(1).astype(np.float64) / 2


@dataclass(frozen=True, kw_only=True)
class Band:
    """What another recorder would have kept: less of the band, or the motion's derivative or integral.

    Each with its own share: what a recorder of a lower rate holds (nothing above 0.4 to 0.5 of that rate, a cosine between), a
    Butterworth high or low pass of second order with a corner drawn, and the record differentiated or integrated in time.
    The mean of each component stays out of it all, and is put back except after a high pass.
    """

    rates_hz: tuple[float, ...] = (20.0, 40.0, 50.0)
    lower_rate: float = 0.0
    """Share of records that are as from one of these rates."""
    highpass_hz: tuple[float, float] = (0.5, 3.0)
    highpassed: float = 0.0
    """Share of records."""
    lowpass_hz: tuple[float, float] = (5.0, 30.0)
    lowpassed: float = 0.0
    """Share of records."""
    other_motion: float = 0.0
    """Share of records that are differentiated, as many again integrated."""

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The filtered batch."""
        b, _, n = windows.x.shape
        drawn = dice.random((b, 7))
        shares = np.array([self.lower_rate, self.highpassed, self.lowpassed, 2 * self.other_motion])
        which = drawn[:, :4] < shares
        rows = np.flatnonzero(which.any(1))
        if not rows.size:
            return windows
        length = next_fast_len(n + EDGE, real=True)
        f = np.asarray(np.fft.rfftfreq(length, 1 / windows.sampling_rate_hz), np.float64)
        gain = np.ones((len(rows), len(f)), np.complex64)
        for k, i in enumerate(rows):
            gain[k] = self._gain(f, which[i], drawn[i], differentiate=drawn[i, 3] < self.other_motion)
        part, there = windows.x[rows], windows.valid[rows]
        count = np.maximum(there.sum(2, keepdims=True), 1)
        mean = part.sum(2, keepdims=True) / count
        y = irfft(rfft(np.where(there, part - mean, np.float32(0)), length, axis=2) * gain[:, None], length, axis=2)[..., :n]
        y += np.where(which[rows, 1], np.float32(0), np.float32(1))[:, None, None] * mean
        x = windows.x.copy()
        x[rows] = np.where(there, y, np.float32(0))
        return replace(windows, x=x)

    def _gain(self, f: NDArray[np.float64], which: NDArray[np.bool_], drawn: NDArray[np.float64], differentiate: bool) -> NDArray:
        gain = np.ones(len(f), np.complex128)
        if which[0]:
            rate = self.rates_hz[int(drawn[4] * len(self.rates_hz))]
            gain *= 0.5 + 0.5 * np.cos(np.pi * np.clip((f / rate - 0.4) / 0.1, 0, 1))
        if which[1]:
            s = 1j * f / _between(self.highpass_hz, drawn[5])
            gain *= s**2 / (s**2 + np.sqrt(2) * s + 1)
        if which[2]:
            s = 1j * f / _between(self.lowpass_hz, drawn[6])
            gain *= 1 / (s**2 + np.sqrt(2) * s + 1)
        if which[3]:
            # over 5 Hz, so that levels stay near; below 0.2 Hz an integral would be all drift
            gain *= 1j * f / 5 if differentiate else 5j * f / (1j * f + 0.2) ** 2
        return gain


def _between(ends: tuple[float, float], share: float) -> float:
    """A number whose logarithm is so far from the first end to the second."""
    return float(ends[0] * (ends[1] / ends[0]) ** share)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Cuts off what exceeds a drawn share of the record's largest deviation from the components' middles, as an amplifier does."""

    level: tuple[float, float] = (0.05, 0.8)
    """Least and greatest share; the logarithm is uniform."""
    share: float = 1.0
    """Of the records."""

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The clipped batch."""
        drawn = dice.random((len(windows.x), 2))
        rows = np.flatnonzero(drawn[:, 0] < self.share)
        part = windows.x[rows]
        middle = np.median(part[..., ::16], axis=2, keepdims=True)
        most = np.abs(part - middle).max((1, 2))
        limit = (most * self.level[0] * (self.level[1] / self.level[0]) ** drawn[rows, 1]).astype(np.float32)[:, None, None]
        x = windows.x.copy()
        x[rows] = np.where(windows.valid[rows], np.clip(part, middle - limit, middle + limit), np.float32(0))
        return replace(windows, x=x)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rounds to whole steps of a drawn share of the record's peak, as a coarse digitiser does."""

    bits: tuple[float, float] = (4.0, 12.0)
    """The step is the peak over 2 to this power, drawn uniformly."""
    share: float = 1.0
    """Of the records."""

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The rounded batch."""
        drawn = dice.random((len(windows.x), 2))
        rows = np.flatnonzero(drawn[:, 0] < self.share)
        x = windows.x.copy()
        step = _peak(replace(windows, x=x[rows])) * 2.0 ** -(self.bits[0] + np.ptp(self.bits) * drawn[rows, 1])
        step = np.where(step > 0, step, 1).astype(np.float32)[:, None, None]
        x[rows] = np.round(x[rows] / step) * step
        return replace(windows, x=x)


@dataclass(frozen=True, kw_only=True)
class Glitches:
    """Spikes, steps, held values and offsets: what no ground does. Each kind with the share; half of them on all components.

    Amplitudes are a factor times the record's standard deviation: of spikes of one to three samples up to 1000, of steps (which may
    decay, as a mass that was pushed) up to 300, of offsets up to 1e5. A held value lasts up to `longest_s`.
    """

    share: float = 0.05
    longest_s: float = 5.0

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The batch with glitches."""
        b, c, n = windows.x.shape
        kinds = (self._spike, self._step, self._hold, self._offset)
        drawn = dice.random((b, len(kinds), 6))
        x = windows.x.copy()
        for i, k in zip(*np.nonzero(drawn[:, :, 0] < self.share), strict=True):
            _, both, which, where, size, sign = drawn[i, k]
            rows = slice(None) if both < 0.5 else slice(int(which * c), int(which * c) + 1)
            loud = float(x[i].std()) * (1 if sign < 0.5 else -1)
            kinds[k](x[i, rows], int(where * n), float(size), loud, windows.sampling_rate_hz)
        return replace(windows, x=np.where(windows.valid, x, np.float32(0)))

    def _spike(self, x: NDArray[np.float32], at: int, size: float, loud: float, rate_hz: float) -> None:
        x[:, at : at + 1 + int(size * 997) % 3] += loud * 10 ** (3 * size)

    def _step(self, x: NDArray[np.float32], at: int, size: float, loud: float, rate_hz: float) -> None:
        time = np.arange(x.shape[1] - at, dtype=np.float32) / rate_hz
        decay = (size * 997) % 1  # a draw of its own from the lower digits
        shape = np.exp(-time / 10 ** (2 * decay - 0.5)) if decay < 0.75 else np.ones_like(time)
        x[:, at:] += loud * 10 ** (2.5 * size) * shape

    def _hold(self, x: NDArray[np.float32], at: int, size: float, loud: float, rate_hz: float) -> None:
        x[:, at : at + 1 + int(size * self.longest_s * rate_hz)] = x[:, at : at + 1]

    def _offset(self, x: NDArray[np.float32], at: int, size: float, loud: float, rate_hz: float) -> None:
        x += loud * 10 ** (5 * size)


@dataclass(frozen=True, kw_only=True)
class Alone:
    """Leaves the first live component of a record alone (the vertical of ZNE), as at a station of one component."""

    share: float

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The batch, some of it with one component."""
        b, c, _ = windows.x.shape
        chosen = dice.random((b,)) < self.share
        first = np.argmax(windows.valid.any(2), 1)
        kept = ~chosen[:, None] | (np.arange(c) == first[:, None])
        return replace(windows, x=windows.x * kept[..., None], valid=windows.valid & kept[..., None])
