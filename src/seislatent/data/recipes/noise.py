"""Noise of the same rate and length as another recipe's windows: from before P, from noise records, from continuous data.

    record with P   --end clear_s before P-->            windows that do not overlap, at random --steady?--> label noise
    record without  --anywhere, per_hour of them-->

A record of an earthquake without P gives none: nobody knows where it begins. Windows of a record keep its event's id, so that they
stand in its split.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.components import arrange
from seislatent.data.archive import is_record_set
from seislatent.data.noise_windows import NoiseConfig as ArchiveNoise
from seislatent.data.noise_windows import open_noise
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.records import Records, open_records
from seislatent.errors import SeislatentError
from seislatent.prepare.excerpt import excerpt, flaw, length_at, mark
from seislatent.prepare.kinds import kind_of, kinds
from seislatent.prepare.level import level, single_precision
from seislatent.waveform import Waveform

MARGIN_S = 4.0
"""Read on either side of a window of waveform files, for the resampler."""


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Shape of the windows, how many, and what counts as noise."""

    sampling_rate_hz: float = 20.0
    """Of the windows, in Hz."""
    samples: int = 540
    """Length of a window in samples."""
    components: str = "ZNE"
    """Components of every window, in this order; 1 and 2 stand for N and E where a sensor is not oriented."""
    per_record: int = 1
    """Windows of a record with P, and the least of any other."""
    per_hour: float = 12.0
    """Windows of an hour of data without P."""
    clear_s: float = 2.0
    """A window ends at least this many seconds before P."""
    p_column: str = "trace_p_arrival_sample"
    """Which arrival is P."""
    loudest: float | None = 5.0
    """A window is left out where the loudest second is more than this many times the median second (rms of first differences,
    of any component): there is something in it. null takes all."""
    scale: Literal["record", "component", "none"] = "record"
    """What is divided by one peak, so that samples lie in [-1, 1]: the record, each component, or nothing."""
    archive: ArchiveNoise = field(default_factory=ArchiveNoise)
    """Catalogue, margins and trigger where the source is waveform files; its length_s, step_s and components follow from here."""


OF_EVENT = ("source_", "path_", "trace_p_", "trace_s_", "trace_source_", "trace_coda_", "trace_snr_")
"""Beginnings of columns that belong to the event of a record and not to the noise before it."""


class Noise(DataRecipe):
    """Windows in which no earthquake is known."""

    Config = NoiseConfig
    config: NoiseConfig

    def __init__(self, config: NoiseConfig) -> None:
        super().__init__(config)
        if config.samples < 2 or config.per_record < 1 or config.per_hour <= 0 or config.clear_s < 0:
            raise SeislatentError("samples must be 2 or more, per_record 1 or more, per_hour above 0 and clear_s 0 or more")

    def open(self, source: Sequence[Path]) -> Records:
        """Record sets as they are; of waveform files, windows that no event of a catalogue beside them reaches and that raise no
        trigger (`seislatent.data.noise_windows`).
        """
        sets = [is_record_set(path) for path in source]
        if all(sets):
            return open_records(source)
        if any(sets):
            raise SeislatentError(f"{', '.join(map(str, source))} are record sets and waveform files: give one kind at a time")
        c = self.config
        length_s = c.samples / c.sampling_rate_hz + 2 * MARGIN_S
        step_s = max(3600 / c.per_hour, length_s)
        return open_noise(source, replace(c.archive, length_s=length_s, step_s=step_s, components=c.components))

    def select(self, table: pd.DataFrame) -> pd.Series:
        """Earthquakes and explosions without P."""
        column = self.config.p_column
        p = pd.to_numeric(table[column], errors="coerce") if column in table else pd.Series(np.nan, index=table.index)
        event = kinds(table).isin(["earthquake", "explosion"])
        return pd.Series("", index=table.index, dtype=object).mask(event & p.isna(), "no P")

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """The windows of each record, or why there is none."""
        for record, rng in zip(records, rngs, strict=True):
            try:
                found = list(self.windows(record, rng))
            except SeislatentError as error:  # a rate that cannot be resampled, say
                found = [Rejected(name=str(record.metadata.get("trace_name", "")), reason="cannot be cut", detail=str(error))]
            yield from found

    def windows(self, record: Waveform, rng: np.random.Generator) -> Iterator[Made | Rejected]:
        """The windows of one record, in order of time."""
        c, name = self.config, str(record.metadata.get("trace_name", ""))
        try:
            record = arrange(record, oriented(record, c.components))
        except SeislatentError as error:
            yield Rejected(name=name, reason="missing component", detail=str(error))
            return
        p = mark(record, c.p_column)
        event = kind_of(record.metadata) in ("earthquake", "explosion")
        if event and p is None:
            yield Rejected(name=name, reason="no P")
            return
        room = length_at(record, c.sampling_rate_hz)
        if p is not None:
            room = min(room, math.floor((p / record.sampling_rate_hz - c.clear_s) * c.sampling_rate_hz))
        slots = room // c.samples
        if slots < 1:
            yield Rejected(name=name, reason="too little before P" if p is not None else "too short")
            return
        hours = room / c.sampling_rate_hz / 3600
        count = c.per_record if p is not None else max(c.per_record, round(c.per_hour * hours))
        first = rng.integers(0, room - slots * c.samples + 1)  # what is over goes to both sides
        chosen = np.sort(rng.choice(slots, size=min(count, slots), replace=False))
        for k, slot in enumerate(chosen):
            own = f"{name}_noise{k}"
            made = self.window(record, int(first + slot * c.samples), own)
            yield Rejected(name=own, reason=made) if isinstance(made, str) else Made(record=made)

    def window(self, record: Waveform, start: int, name: str) -> Waveform | str:
        """One window, or why not."""
        c = self.config
        trouble = flaw(record, start, start + c.samples, c.sampling_rate_hz)
        if trouble:
            return trouble
        window = excerpt(record, start, start + c.samples, c.sampling_rate_hz)
        if c.loudest is not None and (loudness(window.data, c.sampling_rate_hz) > c.loudest).any():
            return "not steady"
        window = level(window, per=c.scale) if c.scale != "none" else window
        kept = {k: v for k, v in window.metadata.items() if not k.startswith(OF_EVENT) or k == "source_id"}
        about = {"trace_name": name, "trace_category": "noise", "label": "noise"}
        return replace(single_precision(window), metadata=kept | about)


def loudness(data: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    """Per channel of data [channel time]: rms of the loudest second over that of the median second, of first differences.

    Differences raise 6 dB per octave, so that the microseism does not hide a small earthquake. 1 for less than two seconds.
    """
    step = np.diff(data.astype(np.float64), axis=-1)
    n = max(1, round(rate_hz))
    seconds = step.shape[-1] // n
    if seconds < 2:
        return np.ones(len(data))
    rms = np.sqrt((step[:, : seconds * n].reshape(len(data), seconds, n) ** 2).mean(-1))
    return np.asarray(rms.max(-1) / np.maximum(np.median(rms, axis=-1), np.finfo(float).tiny))


def oriented(record: Waveform, components: str) -> str:
    """The components asked for, with 1 and 2 in place of N and E where the record has neither N nor E."""
    level_ones = {"N", "E"} & set(record.components)
    return components if level_ones else components.replace("N", "1").replace("E", "2")
