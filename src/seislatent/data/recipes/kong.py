"""Windows for feature extraction and its uses: picking, noise or earthquake, explosion or earthquake (Kong et al., section 3).

    record --class, magnitude, distance--> start drawn at random --> 540 samples at 20 Hz (27 s) --> [-1, 1], label, P and S

The paper low-passes at 10 Hz before it goes to 20 Hz. 10 Hz is the Nyquist frequency there, so that the filter is the anti-alias
filter, and the resampler's is taken (`seislatent.prepare.excerpt`). What the paper does not say is an option here, and its default
ours: how near to the window's ends P may lie, and what one scale belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from seislatent.components import arrange
from seislatent.data.archive import ArchiveConfig, open_events
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.records import Records
from seislatent.errors import SeislatentError
from seislatent.prepare.excerpt import excerpt, flaw, length_at, mark
from seislatent.prepare.kinds import kind_of, kinds
from seislatent.prepare.level import level, single_precision
from seislatent.waveform import Waveform

KM_PER_DEG = 111.195


@dataclass(frozen=True, kw_only=True)
class KongConfig:
    """Which records, where their windows begin, and how many of each."""

    sampling_rate_hz: float = 20.0
    """Of the windows, in Hz."""
    samples: int = 540
    """Length of a window in samples (27 s at 20 Hz)."""
    classes: tuple[str, ...] = ("earthquake",)
    """Records of these are taken: earthquake, explosion, noise."""
    magnitude_above: float | None = 2.0
    """Earthquakes and explosions of a larger magnitude only; null takes all."""
    distance_km: float | None = 100.0
    """Earthquakes and explosions within this epicentral distance only (hypocentral where that is all); null takes all."""
    unknown: Literal["leave out", "keep"] = "leave out"
    """What is done with an earthquake whose magnitude or distance is asked for and not given."""
    start: Literal["before P", "before origin"] = "before P"
    """Where windows of earthquakes and explosions begin: so that P lies inside, or from `before_origin_s` to the origin. Those of
    noise begin anywhere."""
    p_column: str = "trace_p_arrival_sample"
    """Which arrival is P: another column, such as a calculated one, where there are no picks."""
    p_needed: bool = True
    """Leave out earthquakes without P. Where false, a record of exactly one window passes without."""
    edge_s: float = 1.0
    """P lies at least this many seconds from either end of the window."""
    before_origin_s: float = 22.5
    """The earliest start before the origin time, in seconds."""
    cuts: dict[str, int] = field(default_factory=lambda: {"earthquake": 1, "explosion": 1, "noise": 1})
    """Windows of one record by class, at different starts; fewer where there are fewer starts."""
    repeat_in: tuple[str, ...] = ("train", "dev", "test")
    """Splits in which a record is cut more than once."""
    scale: Literal["record", "component", "none"] = "record"
    """What is divided by one peak: the record, so that its components keep their ratios, or each component; or nothing."""
    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    """How records are cut from waveform files with a catalogue and picks; a record set is taken as it is."""


class Kong(DataRecipe):
    """Windows of three components with a label, at random starts."""

    Config = KongConfig
    config: KongConfig

    def __init__(self, config: KongConfig) -> None:
        super().__init__(config)
        strange = [c for c in (*config.classes, *config.cuts) if c not in ("earthquake", "explosion", "noise")]
        if strange:
            raise SeislatentError(f"class '{strange[0]}': give earthquake, explosion or noise")
        if config.samples < 2 or 2 * config.edge_s * config.sampling_rate_hz >= config.samples:
            raise SeislatentError(
                f"a window of {config.samples} samples has no place for P {config.edge_s:g} s from either end: make it longer"
            )

    def open(self, source: Sequence[Path]) -> Records:
        """Records of waveform files with a catalogue and picks, or of record sets."""
        return open_events(source, self.config.archive)

    def select(self, table: pd.DataFrame) -> pd.Series:
        """Class, magnitude, distance, P and length, as far as the table tells them."""
        c, none = self.config, pd.Series(np.nan, index=table.index)
        kind = kinds(table)
        reason = pd.Series("", index=table.index, dtype=object)
        reason = reason.mask(~kind.isin(c.classes), "class " + kind.where(kind != "", "not known") + " not asked for")
        source = kind != "noise"

        def rule(reason: pd.Series, wrong: pd.Series, text: str) -> pd.Series:
            return reason.mask((reason == "") & source & wrong, text)

        if c.magnitude_above is not None:
            size = number(table, "source_magnitude", none)
            if c.unknown == "leave out":
                reason = rule(reason, size.isna(), "no magnitude")
            reason = rule(reason, size <= c.magnitude_above, f"magnitude not above {c.magnitude_above:g}")
        if c.distance_km is not None:
            far = number(table, "path_ep_distance_km", none)
            far = far.fillna(KM_PER_DEG * number(table, "path_ep_distance_deg", none))
            far = far.fillna(number(table, "path_hyp_distance_km", none))
            if c.unknown == "leave out":
                reason = rule(reason, far.isna(), "no distance")
            reason = rule(reason, far > c.distance_km, f"farther than {c.distance_km:g} km")
        if c.start == "before P" and c.p_needed:
            reason = rule(reason, number(table, c.p_column, none).isna(), "no P")
        return reason

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """One window of each record, or several; or why there is none."""
        for record, rng in zip(records, rngs, strict=True):
            try:
                found = list(self.windows(record, rng))
            except SeislatentError as error:  # a rate that cannot be resampled, say
                found = [Rejected(name=str(record.metadata.get("trace_name", "")), reason="cannot be cut", detail=str(error))]
            yield from found

    def windows(self, record: Waveform, rng: np.random.Generator) -> Iterator[Made | Rejected]:
        """The windows of one record."""
        c, name = self.config, str(record.metadata.get("trace_name", ""))
        try:
            three = three_components(record)
        except SeislatentError as error:
            yield Rejected(name=name, reason="missing component", detail=str(error))
            return
        kind = kind_of(record.metadata)
        lowest, highest, trouble = self.starts(three, kind)
        if trouble:
            yield Rejected(name=name, reason=trouble)
            return
        wanted = c.cuts.get(kind, 1) if record.metadata.get("split", "train") in c.repeat_in else 1
        starts = rng.choice(highest - lowest + 1, size=min(wanted, highest - lowest + 1), replace=False) + lowest
        for k, start in enumerate(map(int, starts)):
            own = f"{name}_cut{k}" if wanted > 1 else name
            trouble = flaw(three, start, start + c.samples, c.sampling_rate_hz)
            if trouble:
                yield Rejected(name=own, reason=trouble)
                continue
            window = excerpt(three, start, start + c.samples, c.sampling_rate_hz)
            window = level(window, per=c.scale) if c.scale != "none" else window
            about = {"trace_name": own, "trace_cut": k, "trace_cut_of": name, "label": kind}
            origin = self.origin(three)
            if origin is not None:
                about["trace_start_after_origin_s"] = (start - origin) / c.sampling_rate_hz
            yield Made(record=replace(single_precision(window), metadata=window.metadata | about))

    def starts(self, record: Waveform, kind: str) -> tuple[int, int, str]:
        """First and last sample at which a window may begin (at the window's rate), or why there is none."""
        c = self.config
        rate, last = c.sampling_rate_hz, length_at(record, c.sampling_rate_hz) - c.samples
        if last < 0:
            return 0, 0, "too short"
        if kind == "noise":
            return 0, last, ""
        if c.start == "before origin":
            origin = self.origin(record)
            if origin is None:
                return 0, 0, "no origin time"
            lowest, highest = max(0, math.ceil(origin - c.before_origin_s * rate)), min(last, math.floor(origin))
            if lowest > highest:
                return 0, 0, "begins after the origin" if origin < 0 else "too short"
            return lowest, highest, ""
        p = mark(record, c.p_column)
        if p is None:
            return (0, 0, "") if last == 0 and not c.p_needed else (0, 0, "no P")
        if not 0 <= p < record.data.shape[1]:
            return 0, 0, "P outside the record"
        p *= rate / record.sampling_rate_hz
        lowest = max(0, math.ceil(p - c.samples + c.edge_s * rate))
        highest = min(last, math.floor(p - c.edge_s * rate))
        return (lowest, highest, "") if lowest <= highest else (0, 0, "P too near an end")

    def origin(self, record: Waveform) -> float | None:
        """The origin time in samples of the window's rate from the record's start; None where it is not known."""
        sample = mark(record, "source_origin_sample")
        if sample is not None:
            return sample * self.config.sampling_rate_hz / record.sampling_rate_hz
        text = record.metadata.get("source_origin_time")
        time = pd.to_datetime(text, utc=True, errors="coerce") if isinstance(text, str) else pd.NaT
        if time is pd.NaT or not record.start_ns:
            return None
        return (time.as_unit("ns").value - record.start_ns) / 1e9 * self.config.sampling_rate_hz


def three_components(record: Waveform) -> Waveform:
    """The rows Z, N, E; or Z, 1, 2 of a sensor that is not oriented, under these names.

    Raises:
        SeislatentError: there are no three such rows.
    """
    return arrange(record, "Z12" if {"1", "2"} <= set(record.components) and "N" not in record.components else "ZNE")


def number(table: pd.DataFrame, column: str, none: pd.Series) -> pd.Series:
    """A column as numbers, missing where it is not."""
    return pd.to_numeric(table[column], errors="coerce").astype(float) if column in table else none
