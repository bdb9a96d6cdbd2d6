"""The Marmara set: from waveform files, a catalogue and bulletins to filtered windows of the good records (seed 001).

    record --quality of each component--> rules --> demean, detrend, taper 5 %, bandpass by magnitude and instrument --> window

The project's pipeline as its page tells it; what the page leaves open is an option here, and docs/data/marmara.md lists both. The
default window, 70 s at 100 Hz, is what its spectrograms (3, 129, ~110) imply: 7,000 samples in frames of 256, one every 64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.components import arrange
from seislatent.data.archive import ArchiveConfig, open_events
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.records import Records
from seislatent.errors import SeislatentError
from seislatent.prepare import condition
from seislatent.prepare.bands import Band, NoBand, band_for, bandpass, code_of
from seislatent.prepare.excerpt import excerpt, length_at, mark, marked
from seislatent.prepare.level import single_precision
from seislatent.prepare.quality import Quality, QualityConfig, measure_many
from seislatent.waveform import Waveform

AT_ONCE = 1 << 21
"""Samples whose quality is measured at once (17 MB in float64; the measures take about ten times that)."""


@dataclass(frozen=True, kw_only=True)
class MarmaraConfig:
    """Which records are good enough, how they are filtered, and the window that is kept."""

    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    """How records are cut from waveform files with a catalogue and picks; a record set is taken as it is."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """Windows and thresholds of the quality measures."""
    p_column: str = "trace_p_arrival_sample"
    """Which arrival is P: another column, such as a calculated one, where there are no picks."""
    snr_above: float | None = 1.5
    """The largest signal-to-noise ratio (of amplitudes, not dB) of the components must be above this; null takes all."""
    gap_most: float | None = 0.0
    """Largest share of any component that may be gap; null takes all, and lines bridge the gaps."""
    no_dead: bool = False
    """Leave out records with a dead component."""
    clipped_most: float | None = None
    """Largest share of any component that may be clipped; null takes all."""
    spikes_most: int | None = None
    """Most spikes of any component; null takes all."""
    magnitude_missing: float | None = None
    """Magnitude by which the band is chosen where none is told; null leaves such records out."""
    other_instrument: str = ""
    """Row of the table of bands (HH, BH or EH) for instruments that its rules leave out; empty leaves such records out."""
    taper_share: float = 0.05
    """Of the record, at each end."""
    order: int = 4
    """Of the Butterworth filter."""
    zero_phase: bool = True
    """Run the filter forwards and backwards, which moves nothing in time and doubles the order; false runs it forwards only."""
    before_p_s: float = 10.0
    """The window begins this long before P, in seconds."""
    length_s: float = 70.0
    """Length of the window in seconds."""
    sampling_rate_hz: float | None = 100.0
    """Rate of the windows in Hz; null leaves every record at its own."""
    beyond: Literal["leave out", "move"] = "leave out"
    """What is done where the window reaches beyond its record: leave it out, or move the window inside."""


class Marmara(DataRecipe):
    """Filtered three-component windows about P with the quality of every component."""

    Config = MarmaraConfig
    config: MarmaraConfig

    def __init__(self, config: MarmaraConfig) -> None:
        super().__init__(config)
        if not (config.length_s > 0 and np.isfinite(config.before_p_s)):
            raise SeislatentError(f"a window of {config.length_s:g} s from {config.before_p_s:g} s before P: give a length above 0")

    def open(self, source: Sequence[Path]) -> Records:
        """Records of waveform files with a catalogue and picks, or of record sets."""
        return open_events(source, self.config.archive)

    def select(self, table: pd.DataFrame) -> pd.Series:
        """P and magnitude, as far as the table tells them."""
        none = pd.Series(np.nan, index=table.index)
        name, reason = self.config.p_column, pd.Series("", index=table.index, dtype=object)
        p = _numbers(table, name, none).fillna(_numbers(table, name.removeprefix("trace_"), none))
        size = _numbers(table, "source_magnitude", none)
        reason = reason.mask(p.isna(), "no P")
        if self.config.magnitude_missing is None:
            reason = reason.mask((reason == "") & ~(size.abs() <= 10), "no magnitude")
        return reason

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """The window of each record, or why there is none; quality is measured on all records of one shape at once."""
        alike: dict[tuple[int, float], list[tuple[int, Waveform]]] = {}
        done: dict[int, Made | Rejected] = {}
        for i, record in enumerate(records):
            three = three_components(record)
            if isinstance(three, Rejected):
                done[i] = three
            else:
                alike.setdefault((three.data.shape[1], three.sampling_rate_hz), []).append((i, three))
        for (samples, rate), some in alike.items():
            few = max(1, AT_ONCE // (3 * samples))
            for part in (some[a : a + few] for a in range(0, len(some), few)):
                p = np.array([_or_nan(mark(record, self.config.p_column)) for _, record in part])
                measured = measure_many(np.stack([record.data for _, record in part]), rate, p, self.config.quality)
                for k, (i, record) in enumerate(part):
                    record = replace(record, metadata=record.metadata | measured.of(k, record.components))
                    done[i] = self.pick(record) or self.rule(record, measured, k) or self.window(record)
        return [done[i] for i in range(len(records))]

    def pick(self, record: Waveform) -> Rejected | None:
        """Nothing where P stands in the record."""
        at = mark(record, self.config.p_column)
        if at is None:
            return rejected(record, "no P")
        outside = not 0 <= at < record.data.shape[1]
        return rejected(record, "P outside the record", f"sample {at:g} of {record.data.shape[1]}") if outside else None

    def rule(self, record: Waveform, measured: Quality, k: int) -> Rejected | None:
        """The first rule of quality that record k of those measured breaks."""
        c, ratio = self.config, measured.snr[k]
        known = ratio[np.isfinite(ratio)]
        rules = {
            "dead component": c.no_dead and measured.dead[k].any(),
            "gap": c.gap_most is not None and measured.gap_share[k].max() > c.gap_most,
            "clipped": c.clipped_most is not None and measured.clipped_share[k].max() > c.clipped_most,
            "spikes": c.spikes_most is not None and measured.spikes[k].max() > c.spikes_most,
            "no SNR": c.snr_above is not None and not known.size,
            f"SNR not above {c.snr_above}": c.snr_above is not None and known.size and known.max() <= c.snr_above,
        }
        reason = next((name for name, broken in rules.items() if broken), None)
        return None if reason is None else rejected(record, reason, told(record, measured, k))

    def window(self, record: Waveform) -> Made | Rejected:
        """A good record conditioned and cut."""
        c = self.config
        rate = c.sampling_rate_hz or record.sampling_rate_hz
        length, last = round(c.length_s * rate), length_at(record, rate)
        first = round(_or_nan(mark(record, c.p_column)) * rate / record.sampling_rate_hz - c.before_p_s * rate)
        if c.beyond == "move":
            first = max(0, min(first, last - length))
        if first < 0 or first + length > last:
            return rejected(record, "too short", f"samples {first} to {first + length} of {last} at {rate:g} Hz")
        size = record.metadata.get("source_magnitude")
        magnitude = float(size) if isinstance(size, int | float | np.number) else None
        try:
            missing, other = c.magnitude_missing, c.other_instrument
            band = band_for(code_of(record), magnitude, record.sampling_rate_hz, missing=missing, other=other)
        except NoBand as error:
            return rejected(record, error.reason, str(error))
        window = excerpt(self.conditioned(record, band), first, first + length, rate)
        about = {"trace_band": band.row, "trace_band_low_hz": band.low_hz, "trace_band_high_hz": band.high_hz}
        return Made(record=replace(single_precision(window), metadata=window.metadata | about))

    def conditioned(self, record: Waveform, band: Band) -> Waveform:
        """The whole record without mean and line, tapered, and filtered."""
        record = condition.detrend(condition.demean(bridged(marked(record))))
        record = condition.taper(record, self.config.taper_share)
        return bandpass(record, band, order=self.config.order, zero_phase=self.config.zero_phase)


def three_components(record: Waveform) -> Waveform | Rejected:
    """The rows Z, N, E; or Z, 1, 2 of a sensor that is not oriented, under these names."""
    if record.data.dtype.kind not in "biuf" or record.sampling_rate_hz <= 0:
        return rejected(record, "no numbers")
    if not record.data.shape[1]:
        return rejected(record, "no samples")
    try:
        return arrange(record, "Z12" if {"1", "2"} <= set(record.components) and "N" not in record.components else "ZNE")
    except SeislatentError as error:
        return rejected(record, "missing component", str(error))


def rejected(record: Waveform, reason: str, detail: str = "") -> Rejected:
    """A record that is left out."""
    return Rejected(name=str(record.metadata.get("trace_name", ", ".join(record.ids))), reason=reason, detail=detail)


def told(record: Waveform, measured: Quality, k: int) -> str:
    """The quality of a record that is left out, component by component, for the table of such records."""
    parts = []
    for j, component in enumerate(record.components):
        snr, dead = measured.snr[k, j], ", dead" * bool(measured.dead[k, j])
        shares = f"gap {measured.gap_share[k, j]:.3g}, clipped {measured.clipped_share[k, j]:.3g}"
        parts.append(f"{component}: SNR {snr:.3g}, {shares}, spikes {measured.spikes[k, j]}{dead}")
    return "; ".join(parts)


def bridged(record: Waveform) -> Waveform:
    """Straight lines over gaps (where the rules let them pass), zeros on a component that has no sample at all."""
    missing: NDArray[np.bool_] = ~np.isfinite(record.data)
    if not missing.any():
        return record
    data, time = record.data.astype(np.float64), np.arange(record.data.shape[1])
    for row, bad in zip(data, missing, strict=True):
        if bad.any():
            row[bad] = np.interp(time[bad], time[~bad], row[~bad]) if not bad.all() else 0.0
    return record.with_data(data, did=f"gaps bridged by straight lines ({int(missing.sum())} samples)")


def _numbers(table: pd.DataFrame, column: str, none: pd.Series) -> pd.Series:
    """A column as numbers, missing where it is not."""
    return pd.to_numeric(table[column], errors="coerce").astype(float) if column in table else none


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
