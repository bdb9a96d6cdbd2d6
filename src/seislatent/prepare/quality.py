"""How good a record is, component by component: signal-to-noise ratio, gaps, clipping, dead components, spikes.

    samples [record component time] + P sample [record]  --measure_many-->  Quality, every field [record component]

All measures work on samples as they were recorded: a filter hides clipping, a mean taken out hides gaps filled with zeros. What
every column means, in which unit, for silence, constants, one sample and NaN, stands in docs/data/quality.md with false-alarm
figures; the definitions are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from seislatent.errors import SeislatentError
from seislatent.waveform import Waveform

Samples = NDArray[np.float64]
Mask = NDArray[np.bool_]

UPPER_SHARE = 0.45
"""No corner lies above this share of the sampling rate."""


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Windows and thresholds of the measures."""

    noise_s: float = 10.0
    """Length of the noise window in seconds."""
    noise_least_s: float = 2.0
    """Less than this of usable noise, in seconds, and there is no SNR."""
    guard_s: float = 1.0
    """From the end of the noise window to P, in seconds, so that an early onset is no noise."""
    signal_s: float = 10.0
    """Length of the signal window in seconds; it begins at P."""
    snr_by: Literal["rms", "peak"] = "rms"
    """What is compared: root mean square, or largest absolute value, of each window."""
    snr_band_hz: tuple[float, float] | None = (1.0, 20.0)
    """Band in which SNR is measured (causal Butterworth filter of order 4), in Hz; null takes the samples as they are."""
    repeat_s: float = 0.5
    """Equal samples in a row that last this long, in seconds, are a gap that somebody filled."""
    repeat_least: int = 20
    """Never fewer equal samples than this."""
    dead_share: float = 0.01
    """A component is dead where at most this share of its samples differs from its median."""
    spike_factor: float = 20.0
    """A spike stands out of its surroundings by more than this many standard deviations (from the median absolute deviation)."""


DEFAULT = QualityConfig()

NAMES = ("snr_db", "gap_share", "clipped_share", "spikes", "dead")
"""The measures, as their columns `trace_{component}_{name}` are called."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Quality:
    """The measures, each [record component]."""

    snr_db: Samples
    """20 log10 of the amplitude ratio; NaN without a P pick, without enough noise or signal, or where the noise is exactly 0."""
    gap_share: Samples
    """0 to 1: samples that are not finite, or stand in a long run of equal ones."""
    clipped_share: Samples
    """0 to 1: samples at an extreme value that has flat tops."""
    spikes: NDArray[np.int64]
    """Number of single-sample outliers."""
    dead: Mask
    """True where the component never moves."""

    @property
    def snr(self) -> Samples:
        """Signal to noise as a ratio of amplitudes."""
        return np.asarray(10 ** (self.snr_db / 20))

    def of(self, record: int, components: Sequence[str]) -> dict[str, float]:
        """The columns of one record."""
        row: dict[str, float] = {}
        for k, component in enumerate(components):
            row |= {f"trace_{component}_{name}": getattr(self, name)[record, k].item() for name in NAMES}
        return row


def measure(waveform: Waveform, config: QualityConfig = DEFAULT) -> dict[str, float]:
    """The quality columns of one record; P is its `trace_p_arrival_sample`.

    Raises:
        SeislatentError: the samples are no numbers.
    """
    p = waveform.metadata.get("trace_p_arrival_sample")
    sample = float(p) if isinstance(p, int | float | np.number) else np.nan
    found = measure_many(waveform.data[None], waveform.sampling_rate_hz, np.array([sample]), config)
    return found.of(0, [c or str(k) for k, c in enumerate(waveform.components)])


def measure_many(
    data: NDArray[Any], sampling_rate_hz: float, p_sample: NDArray[np.float64], config: QualityConfig = DEFAULT
) -> Quality:
    """The measures of records of one shape at once.

    Args:
        data: [record component time], counts or floats; NaN in gaps.
        sampling_rate_hz: of all of them.
        p_sample: [record] sample of P from the start, may be fractional; NaN where there is none.
        config: windows and thresholds.

    Raises:
        SeislatentError: the samples are no real numbers.
    """
    if data.dtype.kind not in "biuf" or data.ndim != 3:
        raise SeislatentError(f"quality is measured on numbers [record component time], not {data.dtype} of shape {data.shape}")
    x = data.astype(np.float64)
    finite = np.isfinite(x)
    whole = bool(finite.all())
    if not whole:
        x[~finite] = np.nan
    dead = _dead(x, finite, whole, config.dead_share)
    runs = _Runs(x)
    longest = max(config.repeat_least, round(config.repeat_s * sampling_rate_hz))
    clipped = _clipped(x, finite, whole, runs, longest) & ~dead[..., None]
    gap = ~finite | (_held(x, runs, longest) & ~clipped & ~dead[..., None])
    n = max(x.shape[-1], 1)
    return Quality(
        snr_db=_snr_db(x, ~gap & finite, dead, sampling_rate_hz, p_sample, config),
        gap_share=gap.sum(-1) / n if x.shape[-1] else np.ones(x.shape[:2]),
        clipped_share=clipped.sum(-1) / n,
        spikes=_spikes(x, ~gap & ~clipped, config.spike_factor),
        dead=dead,
    )


class _Runs:
    """Runs of exactly equal samples along time; NaN is equal to nothing."""

    def __init__(self, x: Samples) -> None:
        self.shape = x.shape
        change = np.ones(x.shape, bool)
        if x.shape[-1]:
            change[..., 1:] = x[..., 1:] != x[..., :-1]
        self.first = np.flatnonzero(change)
        """Of every run, counted through the whole array."""
        self.length = np.diff(self.first, append=x.size)

    def at_least(self, length: int) -> Mask:
        """True for the samples of runs of at least this length."""
        return np.repeat(self.length >= length, self.length).reshape(self.shape)


def _dead(x: Samples, finite: Mask, whole: bool, share: float) -> Mask:
    """[record component]: nothing finite, (almost) all samples equal, or 1e10 times smaller than the record's largest component."""
    if not x.shape[-1]:
        return np.ones(x.shape[:2], bool)
    count = finite.sum(-1)
    filled = x if whole else np.where(finite, x, np.inf)
    order = np.partition(filled, x.shape[-1] // 2, axis=-1) if whole else np.sort(filled, axis=-1)
    middle = np.take_along_axis(order, np.maximum(count // 2, 0)[..., None].clip(max=x.shape[-1] - 1), -1)
    differ = (finite & (x != middle)).sum(-1)
    low, high = _extremes(x, finite, whole)
    span = np.where(count > 0, high - low, 0.0)
    dust = span <= 1e-10 * span.max(-1, keepdims=True, initial=0)
    return np.asarray((count == 0) | (differ <= share * count) | dust)


def _extremes(x: Samples, given: Mask, whole: bool = False) -> tuple[Samples, Samples]:
    """Smallest and largest of the given samples, [record component]; +inf and -inf where none is given."""
    if whole and x.shape[-1]:
        return x.min(-1), x.max(-1)
    return np.where(given, x, np.inf).min(-1, initial=np.inf), np.where(given, x, -np.inf).max(-1, initial=-np.inf)


def _clipped(x: Samples, finite: Mask, whole: bool, runs: _Runs, longest: int) -> Mask:
    """Samples at an extreme value that is a rail, component by component where one may be.

    Where nothing stands three times at an extreme and nothing repeats for long there is no rail. Long runs of zeros are gaps.
    """
    clipped = np.zeros(x.shape, bool)
    n = max(x.shape[-1], 1)
    values, first, length = x.reshape(-1), runs.first, runs.length
    long = length >= longest
    rows = first[long] // n
    low, high = _extremes(x, finite, whole)
    often = ((x == low[..., None]).sum(-1) >= 3) | ((x == high[..., None]).sum(-1) >= 3)
    for row in np.union1d(np.flatnonzero(often), rows):
        a, b = np.searchsorted(first, [row * n, (row + 1) * n])
        line, told = values[row * n : (row + 1) * n], finite.reshape(-1, n)[row]
        zero = long[a:b] & (values[first[a:b]] == 0)
        if zero.any():
            told = told & ~np.repeat(zero, length[a:b])
        clipped.reshape(-1, n)[row] = _at_rail(line, told, first[a:b][~zero] - row * n, length[a:b][~zero], longest)
    return clipped & finite


def _at_rail(line: Samples, told: Mask, first: NDArray[np.int64], length: NDArray[np.int64], longest: int) -> Mask:
    """One component [time], the samples that count, and its runs: where it stands at a rail.

    The largest (or smallest) value is a rail where the record turns around on it steeply, by more than three steps of its
    resolution on both sides, and (a) in flat tops, runs that together hold three samples beyond the second of each, and more such
    samples than all other turns that reach half the extreme; or (b) three times or more, and three times as often as on any other
    value that far out. A slow peak rounded to counts is flat too, but left by at most 2.8 steps; and what repeats everywhere is
    coarsely digitised, not clipped. A long run within 2 % of the range from an extreme is a rail with noise on it.

    A level a quarter of the other samples' range away from all of them is no rail but spikes of one height, or a gap filled with
    a constant.
    """
    given = line[told]
    out = np.zeros(len(line), bool)
    if not given.size:
        return out
    low, high, middle, step = given.min(), given.max(), np.median(given), _step(line)
    level, last = line[first], first + length - 1
    before = level - line[np.maximum(first - 1, 0)]
    after = level - line[np.minimum(last + 1, len(line) - 1)]
    steep = (before * after > 0) & (np.minimum(np.abs(before), np.abs(after)) > 3 * step)  # an end of the record has no slope
    far = steep & (np.abs(level - middle) > 0.5 * np.where(level > middle, high - middle, middle - low))
    turns, beyond = level[far], np.maximum(length[far] - 2, 0)
    rails = [extreme for extreme, sign in ((high, 1.0), (low, -1.0)) if not _alone(given, extreme, sign)]
    elsewhere = ~np.isin(turns, rails)
    often = np.unique(turns[elsewhere], return_counts=True)[1].max(initial=0)
    flat = beyond[~elsewhere].sum() >= max(3, beyond[elsewhere].sum() + 1)
    span = high - low
    for rail in rails:
        here = turns == rail
        if (flat and beyond[here].any()) or here.sum() >= 3 * max(often, 1):
            out |= line == rail
        if span > 1000 * step:
            near = (np.abs(level - rail) <= 0.02 * span) & (np.abs(level - middle) > 0.25 * span) & (length >= longest)
            for a, b in zip(first[near], last[near], strict=True):
                out[a : b + 1] = True
    return out


def _alone(given: Samples, extreme: float, sign: float) -> bool:
    """True where a quarter of the other samples' range, or more, lies between an extreme value and all of them."""
    others = given[given != extreme]
    return len(others) < 2 or bool(sign * extreme - (sign * others).max() > 0.25 * np.ptp(others))


def _held(x: Samples, runs: _Runs, longest: int) -> Mask:
    """Samples of long runs, but for those that coarse resolution explains.

    Noise of less than a count stays at one count for long. So a run is no gap where on one of its sides (four times `longest`)
    the record moves by at most two steps of its resolution whenever it moves (median), and so does the move next to the run.
    """
    held = runs.at_least(longest)
    n = max(x.shape[-1], 1)
    lines, marks = x.reshape(-1, n), held.reshape(-1, n)
    steps: dict[int, float] = {}
    for first, length in zip(*(v[runs.length >= longest] for v in (runs.first, runs.length)), strict=True):
        row, a = divmod(int(first), n)
        b = a + int(length)
        if row not in steps:
            steps[row] = 2.01 * _step(lines[row])
        sides = (slice(max(0, a - 4 * longest), a + 1), slice(b - 1, b + 4 * longest))
        before, after = (np.abs(np.diff(lines[row, side])) for side in sides)
        for moves, next_to in ((before, before[-1:]), (after, after[:1])):
            if moves.size and next_to[0] <= steps[row] and np.median(moves[moves > 0]) <= steps[row]:
                marks[row, a:b] = False
    return held


def _step(line: Samples) -> float:
    """The resolution of one component: the smallest difference of neighbours that is not 0; 0 where there is none.

    What is below 1e-9 of the largest sample is rounding.
    """
    difference = np.abs(np.diff(line))
    difference = difference[difference > 1e-9 * np.nanmax(np.abs(line), initial=0)]  # NaN is not
    return float(difference.min()) if difference.size else 0.0


def _snr_db(x: Samples, given: Mask, dead: Mask, rate: float, p_sample: NDArray[np.float64], config: QualityConfig) -> Samples:
    """[record component]: the two windows compared, over the samples that are no gap."""
    nothing = np.full(x.shape[:2], np.nan)
    known = np.isfinite(p_sample) & (p_sample >= 0) & (p_sample < x.shape[-1])
    if not known.any() or rate <= 0:
        return nothing
    noise, guard, signal = (max(1, round(s * rate)) for s in (config.noise_s, config.guard_s, config.signal_s))
    settle = round(5 * rate)  # of the filter, before the noise window
    p = np.where(known, np.rint(np.nan_to_num(p_sample)), 0).astype(np.int64)
    at = p[:, None] + np.arange(-guard - noise - settle, signal)  # [record time]
    here = (at >= 0) & (at < x.shape[-1])
    index = at.clip(0, x.shape[-1] - 1)[:, None, :]
    usable = np.take_along_axis(given, np.broadcast_to(index, (*x.shape[:2], index.shape[-1])), -1) & here[:, None, :]
    piece = _bridged(np.take_along_axis(x, np.broadcast_to(index, usable.shape), -1), usable)
    if config.snr_band_hz is not None:
        low, high = config.snr_band_hz[0], min(config.snr_band_hz[1], UPPER_SHARE * rate)
        if not 0 < low < high:
            return nothing
        piece = np.asarray(sosfilt(butter(4, (low, high), "bandpass", fs=rate, output="sos"), piece - piece[..., :1]))
    n_noise, of_noise = _size(piece[..., settle : settle + noise], usable[..., settle : settle + noise], None, config.snr_by)
    level = _mean(piece[..., settle : settle + noise], usable[..., settle : settle + noise])
    n_signal, of_signal = _size(piece[..., -signal:], usable[..., -signal:], level, config.snr_by)
    enough = (n_noise >= min(noise, round(config.noise_least_s * rate))) & (n_signal >= min(signal, round(rate)))
    fit = enough & known[:, None] & ~dead & (of_noise > 0) & (of_signal > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(fit, 20 * np.log10(of_signal / of_noise), np.nan)


def _mean(x: Samples, usable: Mask) -> Samples:
    return np.where(usable, x, 0).sum(-1, keepdims=True) / np.maximum(usable.sum(-1, keepdims=True), 1)


def _size(x: Samples, usable: Mask, level: Samples | None, by: str) -> tuple[NDArray[np.int64], Samples]:
    """How many samples are usable, and their rms or peak about `level` (their mean where None), [record component]."""
    count = usable.sum(-1)
    away = np.where(usable, x - (_mean(x, usable) if level is None else level), 0)
    if by == "peak":
        return count, np.abs(away).max(-1)
    largest = np.abs(away).max(-1, keepdims=True)  # so that 1e-200 and 1e200 have squares
    unit = np.where(largest > 0, largest, 1.0)
    return count, unit[..., 0] * np.sqrt(((away / unit) ** 2).sum(-1) / np.maximum(count, 1))


def _bridged(x: Samples, usable: Mask) -> Samples:
    """Straight lines over what is not usable, so that a filter sees no step."""
    if usable.all():
        return x
    x = x.copy()
    flat, good = x.reshape(-1, x.shape[-1]), usable.reshape(-1, x.shape[-1])
    time = np.arange(x.shape[-1])
    for k in np.flatnonzero(~good.all(-1)):
        flat[k] = np.interp(time, time[good[k]], flat[k][good[k]]) if good[k].any() else 0.0
    return x


_REACH = 25


def _spikes(x: Samples, given: Mask, factor: float) -> NDArray[np.int64]:
    """[record component]: samples that stand out alone.

    The residual of a sample is its distance from the mean of its two neighbours. A spike's residual is larger than four times
    those of the samples two and three away, its neighbours' have the other sign, and it exceeds `factor` standard deviations of
    the residuals of the 25 samples before or after, whichever are the larger: so an onset, after which the ground goes on
    moving, is no spike.
    """
    n = x.shape[-1]
    if n < 2 * _REACH:
        return np.zeros(x.shape[:2], np.int64)
    residual = np.zeros(x.shape)
    residual[..., 1:-1] = x[..., 1:-1] - 0.5 * (x[..., :-2] + x[..., 2:])
    usable = given.copy()
    usable[..., 1:-1] &= given[..., :-2] & given[..., 2:]
    residual[~usable] = 0
    size = np.abs(residual)
    c = slice(3, n - 3)
    stands = np.maximum.reduce([size[..., 3 + k : n - 3 + k] for k in (-3, -2, 2, 3)]) * 4 < size[..., c]
    other_sign = (residual[..., 2 : n - 4] * residual[..., c] < 0) & (residual[..., 4 : n - 2] * residual[..., c] < 0)
    record, component, at = np.nonzero(stands & other_sign & usable[..., c])
    if not len(at):
        return np.zeros(x.shape[:2], np.int64)
    at = at + 3
    padded = np.pad(np.where(usable, size, np.nan), [(0, 0), (0, 0), (_REACH, _REACH)], constant_values=np.nan)
    around = sliding_window_view(padded, 2 * _REACH + 1, axis=-1)[record, component, at]
    medians = np.stack([_median(around[:, : _REACH - 1]), _median(around[:, _REACH + 2 :])])
    steps = np.zeros(x.shape[:2])
    for r, k in np.unique(np.stack([record, component], 1), axis=0):
        steps[r, k] = _step(x[r, k])
    scale = np.maximum(1.4826 * medians.max(0), steps[record, component])
    found = size[record, component, at] > factor * scale
    count = np.zeros(x.shape[:2], np.int64)
    np.add.at(count, (record[found], component[found]), 1)
    return count


def _median(x: Samples) -> Samples:
    """Along the last axis without NaN; infinite where at least half is NaN, so that next to a gap nothing is called a spike."""
    ordered = np.sort(np.where(np.isnan(x), np.inf, x), axis=-1)
    return np.asarray(ordered[:, x.shape[-1] // 2])
