"""Records changed at random, as training wants them: whole batches at once, arrivals and gaps moved along.

    Windows [b c t] --shift, rotation, polarity, amplitude--> record and target --noise, dropout, gaps--> record alone

Each augmentation is a small frozen dataclass, called with a batch and with dice; equal dice give equal results, and nothing is
changed in place. A sample that is not valid is 0 before and after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from seislatent.errors import SeislatentError


class Dice(Protocol):
    """What is asked of a source of randomness; a `numpy.random.Generator` is one."""

    def random(self, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Uniform numbers in [0, 1). The first axis is the record."""
        ...


class NoiseSource(Protocol):
    """Where noise records come from."""

    def __call__(self, dice: Dice, count: int, length: int) -> NDArray[np.float32]:
        """Noise [count channel length], with the components of the records; NaN where there is none."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Records of one length, rate and set of components."""

    x: NDArray[np.float32]
    """[batch channel time]; 0 where not valid."""
    valid: NDArray[np.bool_]
    """[batch channel time]: False in gaps, padding and dead components."""
    components: str
    """One letter per channel, such as ZNE."""
    sampling_rate_hz: float
    marks: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Sample numbers [batch] by name (trace_p_arrival_sample, ...); NaN where there is none in the window."""
    target: NDArray[np.float32] | None = None
    """[batch channel time], what is to be made of x."""

    def with_both(self, change: NDArray[np.float32]) -> Windows:
        """The record and its target times a factor [batch 1 1]."""
        return replace(self, x=self.x * change, target=None if self.target is None else self.target * change)


class Augmentation(Protocol):
    """A change at random."""

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The changed batch."""
        ...


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Moves a record in time by a whole number of samples, each from -most_s to most_s alike.

    What enters is 0 and not valid; arrivals move along, and are NaN where they leave the window. The target moves with x.
    """

    most_s: float
    """In seconds, either way."""

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The moved batch."""
        b, _, length = windows.x.shape
        most = min(round(self.most_s * windows.sampling_rate_hz), length)
        lag = np.floor(dice.random((b,)) * (2 * most + 1)).astype(np.int64) - most

        def moved(rows: NDArray) -> NDArray:
            wide = np.pad(rows, ((0, 0), (0, 0), (most, most)))
            return sliding_window_view(wide, length, axis=2)[np.arange(b), :, most - lag]

        marks = {}
        for name, sample in windows.marks.items():
            at = sample + lag
            marks[name] = np.where((at >= 0) & (at < length), at, np.nan)
        target = None if windows.target is None else moved(windows.target)
        return replace(windows, x=moved(windows.x), valid=moved(windows.valid), target=target, marks=marks)


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Turns the sensor's horizontals: the motion's azimuth, clockwise from north, grows by an angle drawn from 0 to 360 degrees.

    N' = N cos(a) - E sin(a), E' = N sin(a) + E cos(a). A sample of the horizontals is valid where both were. Z stays. The target
    turns with x.
    """

    share: float = 1.0
    """Of the records."""

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The turned batch.

        Raises:
            SeislatentError: N or E is not among the components.
        """
        if not {"N", "E"} <= set(windows.components):
            raise SeislatentError(f"rotation needs N and E; the records have {windows.components}: ask for both, or do not rotate")
        drawn = dice.random((len(windows.x), 2))
        chosen = drawn[:, 0] < self.share
        angle = np.where(chosen, 2 * np.pi * drawn[:, 1], 0.0)
        cos, sin = (f(angle).astype(np.float32)[:, None] for f in (np.cos, np.sin))
        north, east = windows.components.index("N"), windows.components.index("E")
        valid = windows.valid.copy()
        both = valid[:, north] & valid[:, east]
        for row in (north, east):
            valid[:, row] = np.where(chosen[:, None], both, valid[:, row])

        def turned(rows: NDArray[np.float32]) -> NDArray[np.float32]:
            out = rows.copy()
            out[:, north] = rows[:, north] * cos - rows[:, east] * sin
            out[:, east] = rows[:, north] * sin + rows[:, east] * cos
            return out

        x = turned(windows.x)
        if not both.all():
            x = np.where(valid, x, np.float32(0))
        return replace(windows, x=x, valid=valid, target=None if windows.target is None else turned(windows.target))


@dataclass(frozen=True, kw_only=True)
class Polarity:
    """Reverses the sign of all components of a record. The target's as well."""

    share: float = 0.5
    """Of the records."""

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The batch, some of it with the other sign."""
        sign = np.where(dice.random((len(windows.x),)) < self.share, np.float32(-1), np.float32(1))
        return windows.with_both(sign[:, None, None])


@dataclass(frozen=True, kw_only=True)
class Amplitude:
    """Multiplies a record by a factor, the logarithm of which is uniform between two ends. The target as well."""

    least: float
    most: float

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The louder or quieter batch."""
        factor = self.least * (self.most / self.least) ** dice.random((len(windows.x),))
        return windows.with_both(factor.astype(np.float32)[:, None, None])


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Adds recorded noise so that the record stands above it by a drawn SNR in dB.

    SNR = 10 log10(P / Q), where P is the mean square of the record and Q that of the noise added, each about the mean of its
    component, over all valid samples of all components of the window. One factor per record, so the noise keeps the ratios of its
    components. A silent record gets none; gaps stay gaps; the target stays as it is.
    """

    source: NoiseSource
    snr_db: tuple[float, float]
    """Least and greatest; drawn uniformly."""
    share: float = 1.0
    """Of the records."""

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The noisier batch."""
        b, _, length = windows.x.shape
        drawn = dice.random((b, 2))
        noise = self.source(dice, b, length)
        noise = np.where(windows.valid & np.isfinite(noise), noise, np.float32(0))
        noise -= np.where(windows.valid, _mean(noise, windows.valid)[..., None].astype(np.float32), np.float32(0))
        wanted = power(windows.x, windows.valid) * 10 ** (-(self.snr_db[0] + np.ptp(self.snr_db) * drawn[:, 1]) / 10)
        there = power(noise, windows.valid)
        factor = np.sqrt(np.divide(wanted, there, out=np.zeros(b), where=(there > 0) & (drawn[:, 0] < self.share)))
        return replace(windows, x=windows.x + noise * factor.astype(np.float32)[:, None, None])


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Silences components: each with a probability, but never the last live one of a record. They are 0 and not valid."""

    probability: float

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The batch with some components dead."""
        b, c, _ = windows.x.shape
        drawn = dice.random((b, c))
        live = windows.valid.any(2)
        gone = live & (drawn < self.probability)
        kept = np.argmax(np.where(live, drawn, -1.0), 1)  # the largest draw is the last to fall below the probability
        gone[np.arange(b), kept] = False
        valid = windows.valid & ~gone[..., None]
        return replace(windows, x=np.where(valid, windows.x, np.float32(0)), valid=valid)


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """Cuts holes into all components of a record at once, as lost telemetry does: 0 and not valid there. The target stays whole."""

    shortest_s: float
    longest_s: float
    """Lengths are drawn uniformly, in seconds."""
    most: int = 3
    """Gaps of one record: 1 to this many, which may overlap."""
    share: float = 1.0
    """Of the records."""

    def __call__(self, windows: Windows, dice: Dice) -> Windows:
        """The batch with gaps."""
        b, _, length = windows.x.shape
        drawn = dice.random((b, 2 + 2 * self.most))
        count = np.where(drawn[:, 0] < self.share, 1 + np.floor(drawn[:, 1] * self.most), 0)
        seconds = self.shortest_s + (self.longest_s - self.shortest_s) * drawn[:, 2 : 2 + self.most]
        wide = np.minimum(np.maximum(np.round(seconds * windows.sampling_rate_hz), 1), length)
        wide = np.where(np.arange(self.most) < count[:, None], wide, 0)[..., None]
        first = np.floor(drawn[:, 2 + self.most :, None] * (length - wide + 1))
        time = np.arange(length)
        valid = windows.valid & ~((time >= first) & (time < first + wide)).any(1)[:, None]
        return replace(windows, x=np.where(valid, windows.x, np.float32(0)), valid=valid)


@dataclass(frozen=True, eq=False)
class NoiseRecords:
    """Noise from an array [record channel time]: a record and a place in it, each alike."""

    x: NDArray[np.float32]

    def __call__(self, dice: Dice, count: int, length: int) -> NDArray[np.float32]:
        """See `NoiseSource`.

        Raises:
            SeislatentError: the noise is shorter than the window.
        """
        n, _, whole = self.x.shape
        if whole < length or not n:
            raise SeislatentError(f"{n} noise records of {whole} samples for windows of {length}: give longer ones")
        drawn = dice.random((count, 2))
        row = np.floor(drawn[:, 0] * n).astype(np.int64)
        first = np.floor(drawn[:, 1] * (whole - length + 1)).astype(np.int64)
        return np.stack([self.x[i, :, k : k + length] for i, k in zip(row, first, strict=True)]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Which augmentations a record goes through, in the order of these keys; 0 (or equal ends) leaves one out."""

    shift_s: float = 0.0
    """Largest shift in s, either way; what enters is 0 and not valid (`start: random` moves the window over the record instead)."""
    rotated: float = 0.0
    """Share of records whose horizontals are turned by an angle drawn from 0 to 360 degrees."""
    reversed: float = 0.0
    """Share of records whose polarity is reversed."""
    amplitude: tuple[float, float] = (1.0, 1.0)
    """Least and greatest factor, its logarithm drawn uniformly. A `scale` other than none takes it out of x again."""
    noisy: float = 0.0
    """Share of records to which recorded noise is added."""
    noise: str = ""
    """Store with the noise, of the same components and rate; its records of the same split are used."""
    noise_snr_db: tuple[float, float] = (0.0, 20.0)
    """Least and greatest ratio in dB of the record's mean square to that of the noise added."""
    dropped: float = 0.0
    """Probability of each component to be silenced; one always stays."""
    gapped: float = 0.0
    """Share of records with gaps."""
    gaps: int = 3
    """Largest number of gaps of a record."""
    gap_s: tuple[float, float] = (0.1, 2.0)
    """Shortest and longest gap in s."""


def chain(config: AugmentConfig, noise: NoiseSource | None = None) -> tuple[Augmentation, ...]:
    """The augmentations that a config asks for, in order.

    Raises:
        SeislatentError: a share outside 0 to 1, ends the wrong way round, or noise asked for without a source.
    """
    for name in ("rotated", "reversed", "noisy", "dropped", "gapped"):
        if not 0 <= getattr(config, name) <= 1:
            raise SeislatentError(f"augment.{name} is {getattr(config, name)}: a share lies from 0 to 1")
    for name, least in (("amplitude", 0.0), ("noise_snr_db", -math.inf), ("gap_s", 0.0)):
        low, high = getattr(config, name)
        if not (least < low <= high < math.inf):
            above = " above 0" if least == 0 else ""
            raise SeislatentError(f"augment.{name} is {low} to {high}: give a smaller and a larger number{above}")
    if not 0 <= config.shift_s < math.inf or config.gaps < 1:
        raise SeislatentError(f"augment: shift_s is {config.shift_s}, gaps {config.gaps}: give 0 s or more, and 1 gap or more")
    if config.noisy and noise is None:
        raise SeislatentError("augment.noisy asks for noise: name a store with noise records in augment.noise")
    found: list[Augmentation] = []
    if config.shift_s:
        found.append(Shift(most_s=config.shift_s))
    if config.rotated:
        found.append(Rotation(share=config.rotated))
    if config.reversed:
        found.append(Polarity(share=config.reversed))
    if config.amplitude != (1.0, 1.0):
        found.append(Amplitude(least=config.amplitude[0], most=config.amplitude[1]))
    if config.noisy and noise is not None:
        found.append(Noise(source=noise, snr_db=config.noise_snr_db, share=config.noisy))
    if config.dropped:
        found.append(Dropout(probability=config.dropped))
    if config.gapped:
        found.append(Gaps(shortest_s=config.gap_s[0], longest_s=config.gap_s[1], most=config.gaps, share=config.gapped))
    return tuple(found)


def augmented(windows: Windows, augmentations: Sequence[Augmentation], dice: Dice) -> Windows:
    """The batch after all of them, in order."""
    for augmentation in augmentations:
        windows = augmentation(windows, dice)
    return windows


def power(x: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean square [batch] about each component's mean, over all valid samples of all components; 0 where there is none."""
    deviation = x - _mean(x, valid)[..., None]
    squares = np.einsum("bct,bct,bct->b", deviation, deviation, valid)
    return squares / np.maximum(np.count_nonzero(valid, (1, 2)), 1)


def _mean(x: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[batch channel], over valid samples; x is 0 elsewhere."""
    return x.sum(2, dtype=np.float64) / np.maximum(np.count_nonzero(valid, 2), 1)
