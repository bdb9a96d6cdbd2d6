"""Pairs of broadband and low-frequency motion, for translation from simulations (0 to 1 Hz) to ground motion (0 to 30 Hz).

    record --excerpt around the window, 100 Hz--> acceleration --line of the window off, 30 Hz--> broad --1 Hz--> low
           --cut 4096 samples, divide both by one peak--> x = broad [c t], low [c t]

Thesis, sections 3.2.4, 4.4.2 and appendix A.3; the page docs/data/pairs.md says what differs and why. Filters see `margin_s` of the
record on either side of the window, so that their ends do not lie inside it. All records of one shape go through each step at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.data.archive import ArchiveConfig, open_events_or_records
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.records import Records
from seislatent.errors import SeislatentError
from seislatent.prepare.excerpt import marked
from seislatent.prepare.kinds import kinds
from seislatent.prepare.marks import moved
from seislatent.prepare.motion import QUANTITIES, Motion, motion_of
from seislatent.prepare.resample import SAME_RATE, Resampler
from seislatent.signal.filters import Butterworth, differentiate, line, tukey
from seislatent.signal.onset import onset
from seislatent.waveform import Waveform

COMPONENTS = ({"Z", "N", "E"}, {"Z", "1", "2"}, {"Z", "2", "3"}, {"Z", "R", "T"})
"""Sets of three components that are taken."""
ORDER = "ZNRE1T23"
"""Their order in a pair."""
AT_ONCE = 16
"""Records that go through the steps together: few enough to stay in the caches from step to step."""
ROUNDING = 1e-12
"""A component that moves by less than this share of its own level is a straight line (an offset, or a ramp of velocity)."""
LONGEST_S = 900.0
"""P is estimated in records of an event, which are no longer than this; in continuous data any step would be taken for it."""
STALE = ("trace_start_time", "trace_npts", "trace_sampling_rate_hz", "trace_component_order", "trace_unit")
"""Metadata that the pair itself tells."""


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Which records, where their windows begin, and what is done with them."""

    sampling_rate_hz: float = 100.0
    """Of the pairs, in Hz."""
    samples: int = 4096
    """Length of a window in samples (40.96 s at 100 Hz)."""
    lowest_rate_hz: float = 80.0
    """Records of a lower native rate, in Hz, are left out: they lack what is to be learnt."""
    kinds: tuple[str, ...] = ("earthquake", "")
    """What records may show, by the words of the source: earthquake, explosion, noise; the empty text is what nobody told."""
    category: str | None = None
    """Only records whose trace_category is exactly this, such as STEAD's earthquake_local; null asks for none."""
    magnitude_from: float | None = 3.5
    """The smallest magnitude; null takes all."""
    magnitude_missing: Literal["keep", "reject"] = "keep"
    """What becomes of records without a magnitude."""
    p_column: str = "trace_p_arrival_sample"
    """Which arrival is P: another column, such as a calculated one, where there are no picks."""
    estimate_p: bool = True
    """Where a record has no P, take the sample at which the vertical's variance rises (trace_p_status is then 'estimated')."""
    before_p_s: tuple[float, float] = (1.0, 10.0)
    """A window begins this long before P at least and at most, in seconds, drawn evenly from what the record allows."""
    quantity: Literal["as told", "displacement", "velocity", "acceleration"] = "as told"
    """What records measure whose unit and channel codes do not tell; 'as told' leaves those out."""
    differentiate: bool = True
    """Differentiate velocity once and displacement twice, to acceleration; false takes every record as it is."""
    broad_hz: float | None = 30.0
    """Corner of the low-pass of the broadband side, in Hz; null leaves it out."""
    low_hz: float = 1.0
    """Corner of the low-pass of the low-frequency side, in Hz."""
    order: int = 4
    """Of both Butterworth filters."""
    zero_phase: bool = True
    """Filter forwards and backwards (twice the order, no delay); false filters causally."""
    margin_s: float = 5.0
    """How much of the record on either side of the window the filters see, in seconds. Where the record ends earlier, the low-pass
    of the low side sees its mirror image of opposite sign."""
    taper: float = 0.0
    """Share of the window under the two cosines of a Tukey window together; 0 leaves it out. Its low side is filtered after it."""
    peak: Literal["record", "component"] = "record"
    """What is divided by one peak: the record, so that its components keep their ratios, or each component."""
    rescale_low: bool = False
    """Divide the low side by its own peak afterwards (section 4.4.2)."""
    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    """How records are cut from waveform files with a catalogue; without one each record of a sensor is taken, sets as they are."""


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """Where a record's window lies."""

    record: Waveform
    rows: list[int]
    """Of Z and the two horizontals."""
    motion: Motion
    p: float
    """In samples of the record."""
    estimated: bool
    first_s: float
    """Of the window, from the record's first sample."""


class Pairs(DataRecipe):
    """Broadband records (`x`) with their own low-frequency part (`low`), both divided by the broadband peak."""

    Config = PairsConfig
    config: PairsConfig
    arrays = ("low",)

    def __init__(self, config: PairsConfig) -> None:
        super().__init__(config)
        low, high = config.before_p_s
        if not 0 <= low <= high < config.samples / config.sampling_rate_hz:
            raise SeislatentError(f"windows from {low:g} to {high:g} s before P: give 0 <= first <= second < the window's length")
        if not (0 <= config.margin_s * config.sampling_rate_hz < config.samples and 0 <= config.taper <= 1):
            told = f"margin_s {config.margin_s:g}, taper {config.taper:g}"
            raise SeislatentError(f"{told}: give a margin from 0 to less than the window, and a share from 0 to 1")
        if config.broad_hz is not None and config.low_hz >= config.broad_hz:
            raise SeislatentError(f"low_hz {config.low_hz:g} must be below broad_hz {config.broad_hz:g}")
        self._broad = None if config.broad_hz is None else _lowpass(config, config.broad_hz)
        self._low = _lowpass(config, config.low_hz)

    def open(self, source: Sequence[Path]) -> Records:
        """Records of waveform files, with a catalogue or without, or of record sets."""
        return open_events_or_records(source, self.config.archive)

    def select(self, table: pd.DataFrame) -> pd.Series:
        """Rate, category, magnitude and P, as far as the table tells them."""
        c = self.config
        reason = pd.Series("", index=table.index, dtype=object)

        def rule(wrong: pd.Series, text: str) -> None:
            reason[(reason == "") & wrong.astype(bool)] = text

        rule(_number(table, "trace_sampling_rate_hz") < c.lowest_rate_hz * (1 - SAME_RATE), f"rate below {c.lowest_rate_hz:g} Hz")
        shown = kinds(table)
        for kind in sorted(set(shown) - {*c.kinds}):
            rule(shown == kind, kind or "not told what it shows")
        if c.category is not None:
            told = table["trace_category"] if "trace_category" in table else pd.Series("", index=table.index)
            rule(told.fillna("").astype(str) != c.category, f"not {c.category}")
        size = _number(table, "source_magnitude")
        if c.magnitude_missing == "reject":
            rule(size.isna(), "no magnitude")
        if c.magnitude_from is not None:
            rule(size < c.magnitude_from, f"magnitude below {c.magnitude_from:g}")
        if not c.estimate_p:
            rule(_number(table, c.p_column).isna(), "no P")
        return reason

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """One pair of each record, or why there is none."""
        done: list[Made | Rejected | None] = [None] * len(records)
        groups: dict[Any, list[tuple[int, _Cut]]] = {}
        for i, (record, rng) in enumerate(zip(records, rngs, strict=True)):
            found = self._cut(record, rng)
            if isinstance(found, Rejected):
                done[i] = found
            else:
                key = (record.sampling_rate_hz, record.data.shape[1], found.motion.quantity)
                groups.setdefault(key, []).append((i, found))
        for alike in groups.values():
            for at in range(0, len(alike), AT_ONCE):
                some = alike[at : at + AT_ONCE]
                for (i, _), one in zip(some, self._pairs([cut for _, cut in some]), strict=True):
                    done[i] = one
        return [one for one in done if one is not None]

    # -- one record ---------------------------------------------------------------------------------------------------------------

    def _cut(self, record: Waveform, rng: np.random.Generator) -> _Cut | Rejected:
        """The window of a record, or what is wrong with it."""
        c, name = self.config, str(record.metadata.get("trace_name", ""))
        rate, n = record.sampling_rate_hz, record.data.shape[1]
        if record.data.dtype.kind not in "biuf":
            return Rejected(name=name, reason="no numbers", detail=str(record.data.dtype))
        if rate < c.lowest_rate_hz * (1 - SAME_RATE):
            return Rejected(name=name, reason=f"rate below {c.lowest_rate_hz:g} Hz", detail=f"{rate:g} Hz")
        components = record.components
        if len(components) != 3 or set(components) not in COMPONENTS:
            return Rejected(name=name, reason="not three components", detail=", ".join(components))
        motion = motion_of(record.unit, [channel.code for channel in record.channels])
        if motion is None and c.quantity != "as told":
            motion = Motion(quantity=c.quantity, size=None)
        if motion is None:
            detail = f"{record.unit or 'no unit'}, {', '.join(channel.code for channel in record.channels)}"
            return Rejected(name=name, reason="quantity not known", detail=detail)
        length_s, (low, high) = c.samples / c.sampling_rate_hz, c.before_p_s
        if n < length_s * rate * (1 - SAME_RATE):
            return Rejected(name=name, reason="too short", detail=f"{n / rate:g} s")
        rows = sorted(range(3), key=lambda k: ORDER.index(components[k]))
        p, estimated = _p_of(record, c.p_column), False
        if p is None and c.estimate_p and n / rate <= LONGEST_S:
            p, estimated = onset(record.data[rows[0]], rate), True
        if p is None:
            return Rejected(name=name, reason="no P", detail="none estimated" if estimated else "")
        least, most = max(low, p / rate + length_s - n / rate), min(high, p / rate)
        if least > most + 0.5 / rate:
            reason = "P too near the start" if p / rate < low else "too short after P"
            return Rejected(name=name, reason=reason, detail=f"P at {p / rate:g} s of {n / rate:g} s")
        before = rng.uniform(least, most) if most > least else least
        return _Cut(record=record, rows=rows, motion=motion, p=p, estimated=estimated, first_s=p / rate - before)

    # -- records of one shape -----------------------------------------------------------------------------------------------------

    def _pairs(self, cuts: list[_Cut]) -> Iterable[Made | Rejected]:
        """The pairs of records of one rate, length and quantity."""
        c = self.config
        piece, start = _pieces(cuts, c)
        gap = np.asarray(~np.isfinite(piece).all((1, 2)))
        piece[gap] = 0
        rate = cuts[0].record.sampling_rate_hz
        y = _at_rate(piece, rate, c.sampling_rate_hz)
        wanted = [_before((cut.first_s - a / rate) * c.sampling_rate_hz) for cut, a in zip(cuts, start, strict=True)]
        first = [min(max(k, 0), y.shape[-1] - c.samples) for k in wanted]
        times = 2 - QUANTITIES.index(cuts[0].motion.quantity) if c.differentiate else 0
        for _ in range(times):
            y = differentiate(y, c.sampling_rate_hz)
        broad, low, level = self._filtered(y, first)
        peak = np.maximum(broad.max(-1), -broad.min(-1))
        scale = _per(c.peak, peak)
        dead = np.array([_dead(cut, c) for cut in cuts]) | np.asarray((peak <= ROUNDING * np.abs(level)).any(-1))
        low_scale = scale
        if c.rescale_low:
            own = _per(c.peak, np.abs(low).max(-1))
            low_scale = np.where(own > 0, own, scale)
        with np.errstate(invalid="ignore", divide="ignore"):  # of those that are left out
            x, lows = (broad / scale[..., None]).astype(np.float32), (low / low_scale[..., None]).astype(np.float32)
        history = self._history(rate, times)
        for i, cut in enumerate(cuts):
            if gap[i] or dead[i]:
                yield Rejected(name=str(cut.record.metadata.get("trace_name", "")), reason="gap" if gap[i] else "dead component")
                continue
            numbers = {"peak": peak[i], "scale": scale[i]} | ({"low_scale": low_scale[i]} if c.rescale_low else {})
            yield Made(record=_record(cut, x[i], start[i], first[i], numbers, times, history, c), others={"low": lows[i]})

    def _filtered(
        self, y: NDArray[np.float64], first: list[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Windows [record channel time] of both sides, and the level [record channel] that was taken off; y is used up."""
        c = self.config
        level, slope = line(_windows(y, first, c.samples))
        time = np.arange(y.shape[-1], dtype=np.float64) - (c.samples - 1) / 2
        y -= (level - slope * np.array(first)[:, None])[..., None]
        y -= slope[..., None] * time
        if self._broad is not None:
            self._broad(y, out=y)
        broad = _windows(y, first, c.samples)
        if c.taper:
            broad *= tukey(c.samples, c.taper)
            return broad, self._low(broad), level
        margin = round(c.margin_s * c.sampling_rate_hz)
        beyond = _extended(y, first, c.samples, margin)
        return broad, self._low(beyond, out=beyond)[..., margin : margin + c.samples], level

    def _history(self, rate: float, times: int) -> tuple[str, ...]:
        """What was done, in order; what differs from record to record stands in columns."""
        c = self.config
        told = [] if abs(rate / c.sampling_rate_hz - 1) <= SAME_RATE else [f"resample ({rate:g} to {c.sampling_rate_hz:g} Hz)"]
        told += ["differentiate"] * times + ["detrend (linear, over the window)"]
        told += [] if self._broad is None else [str(self._broad)]
        told += [f"cut ({c.samples} samples at trace_start_time)"]
        told += [f"taper (Tukey, {100 * c.taper:g} % in all)"] if c.taper else []
        told += [f"divide by the peak of each {c.peak}", f"beside it low: {self._low}" + (", by its own peak" * c.rescale_low)]
        return tuple(told)


def _lowpass(config: PairsConfig, corner_hz: float) -> Butterworth:
    return Butterworth(
        kind="lowpass", corners_hz=corner_hz, rate_hz=config.sampling_rate_hz, order=config.order, zero_phase=config.zero_phase
    )


def _number(table: pd.DataFrame, name: str) -> pd.Series:
    """A column as numbers, missing where it is not there."""
    if name not in table:
        return pd.Series(np.nan, index=table.index)
    return pd.to_numeric(table[name], errors="coerce").astype(float)


def _p_of(record: Waveform, column: str) -> float | None:
    """Where P stands, None where it is missing, no number or outside the record."""
    value = record.metadata.get(column)
    if isinstance(value, int | float | np.number) and not isinstance(value, bool) and 0 <= value < record.data.shape[1]:
        return float(value)
    return None


def _before(sample: float) -> int:
    """The sample at or before that place: a window that begins at P holds it."""
    return math.floor(sample + 1e-6)


def _pieces(cuts: list[_Cut], c: PairsConfig) -> tuple[NDArray[np.float64], list[int]]:
    """Each window with its margin, [record channel time] at the native rate and of one length; the first sample of each."""
    rate, n = cuts[0].record.sampling_rate_hz, cuts[0].record.data.shape[1]
    length = min(n, math.ceil((c.samples / c.sampling_rate_hz + 2 * c.margin_s) * rate) + (c.margin_s > 0))
    start = [min(max(_before((cut.first_s - c.margin_s) * rate), 0), n - length) for cut in cuts]
    piece = np.empty((len(cuts), 3, length))
    for i, (cut, a) in enumerate(zip(cuts, start, strict=True)):
        for k, row in enumerate(cut.rows):
            piece[i, k] = cut.record.data[row, a : a + length]
    return piece, start


def _dead(cut: _Cut, c: PairsConfig) -> bool:
    """True where a component never moves within the window."""
    rate = cut.record.sampling_rate_hz
    a = max(0, math.floor(cut.first_s * rate))
    window = cut.record.data[:, a : a + math.ceil(c.samples / c.sampling_rate_hz * rate)]
    return bool((window == window[:, :1]).all(1).any())


@lru_cache(maxsize=32)
def _resampler(rate_in_hz: float, rate_out_hz: float) -> Resampler:
    return Resampler(rate_in_hz, rate_out_hz)


def _at_rate(x: NDArray[np.float64], rate_in_hz: float, rate_out_hz: float) -> NDArray[np.float64]:
    """Records [record channel time] at another rate; their end values are held beyond them."""
    resampler = _resampler(rate_in_hz, rate_out_hz)
    if resampler.identity:
        return x
    n = resampler.length(x.shape[-1])
    a, b = resampler.span(0, n)
    held = np.pad(x, [(0, 0), (0, 0), (-a, max(0, b - x.shape[-1]))], mode="edge")
    return resampler.apply(held[..., : b - a], 0, n)


def _windows(y: NDArray[np.float64], first: list[int], samples: int) -> NDArray[np.float64]:
    """Samples [first, first + samples) of each record [record channel time], each with its own first one."""
    out = np.empty((*y.shape[:-1], samples))
    for one, into, a in zip(y, out, first, strict=True):
        into[:] = one[:, a : a + samples]
    return out


def _extended(y: NDArray[np.float64], first: list[int], samples: int, margin: int) -> NDArray[np.float64]:
    """As `_windows`, with `margin` samples more on either side; where the record ends earlier, its mirror image of opposite sign.

    That continues a record whose integral is bounded by one whose integral is: nothing comes into the low frequencies. Point
    reflection about the end sample, as SciPy has it, brings in a step of twice that sample, many times as large as what is there.
    """
    out = np.empty((*y.shape[:-1], samples + 2 * margin))
    n = y.shape[-1]
    for one, into, a in zip(y, out, first, strict=True):
        before, after = max(0, margin - a), max(0, a + samples + margin - n)
        into[:, before : into.shape[-1] - after] = one[:, max(0, a - margin) : a + samples + margin]
        if before:
            into[:, :before] = -one[:, before:0:-1]
        if after:
            into[:, -after:] = -one[:, n - 1 - after : n - 1][:, ::-1]
    return out


def _per(what: str, peak: NDArray[np.float64]) -> NDArray[np.float64]:
    """The divisor [record channel] of peaks [record channel]: the record's largest, or each component's own."""
    return peak if what == "component" else np.broadcast_to(peak.max(-1, keepdims=True), peak.shape)


def _record(
    cut: _Cut, x: NDArray[np.float32], start: int, first: int, numbers: dict[str, NDArray[np.float64]], times: int,
    history: tuple[str, ...], c: PairsConfig,
) -> Waveform:  # fmt: skip
    """The broadband side with what its columns say; the window begins `first` samples of the pair after sample `start`."""
    record, rate, size = marked(cut.record), cut.record.sampling_rate_hz, cut.motion.size
    metadata: dict[str, Any] = {k: v for k, v in record.metadata.items() if k not in STALE}
    if cut.estimated:
        metadata |= {"trace_p_arrival_sample": cut.p, "trace_p_status": "estimated"}
    if _resampler(rate, c.sampling_rate_hz).identity:
        metadata = moved(metadata, offset=start + first, length=c.samples)
    else:
        metadata = moved(moved(metadata, offset=start), ratio=c.sampling_rate_hz / rate)
        metadata = moved(metadata, offset=first, length=c.samples)
    channels = tuple(record.channels[k] for k in cut.rows)
    for name, values in numbers.items():
        for channel, value in zip(channels, (values * (size or 1.0)).tolist(), strict=True):
            metadata[f"trace_{channel.component}_{name}"] = value
    metadata["trace_peak"] = float(numbers["peak"].max()) * (size or 1.0)
    metadata["trace_scale_unit"] = cut.motion.derivative_unit(times)
    metadata["trace_gain_known"] = size is not None
    metadata["trace_recorded_quantity"] = cut.motion.quantity
    start_ns = record.start_ns
    if start_ns or "trace_start_time" in record.metadata:
        start_ns += round(start * 1e9 / rate) + round(first * 1e9 / c.sampling_rate_hz)
    return Waveform(
        data=x, sampling_rate_hz=c.sampling_rate_hz, channels=channels, start_ns=start_ns, unit="1",
        history=record.history + history, metadata=metadata,
    )  # fmt: skip
