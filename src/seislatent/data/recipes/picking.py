"""Whole records with P, and S where it is known, at one rate: what a picker learns from.

    record --components that move--> at most longest_s around P --resampled--> record, P and S

Windows are cut when they are learnt from (`seislatent.data.picking_windows`), at another place every time: sets in which P stands
at one sample of every record must not teach that. A record keeps the components that it has; noise comes from `noise`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from seislatent.data.archive import ArchiveConfig, open_events
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.records import Records
from seislatent.errors import SeislatentError
from seislatent.prepare.excerpt import excerpt, flaw, length_at, mark
from seislatent.prepare.level import single_precision
from seislatent.waveform import Waveform

OTHER = {"1": "N", "2": "E", "3": "Z"}
"""Rows of a sensor that is not oriented, where those that are oriented are missing."""


@dataclass(frozen=True, kw_only=True)
class PickingConfig:
    """Rate and length of the records."""

    sampling_rate_hz: float = 100.0
    """Of the records, in Hz."""
    longest_s: float = 120.0
    """Of longer records a part of this length is taken ..."""
    before_p_s: float = 45.0
    """... from so many seconds before P."""
    shortest_s: float = 10.0
    """Shorter records are left out."""
    archive: ArchiveConfig = field(default_factory=lambda: ArchiveConfig(predict=False))
    """How records are cut from waveform files with a catalogue and picks; a record set is taken as it is."""


class Picking(DataRecipe):
    """Records with their arrivals."""

    Config = PickingConfig
    config: PickingConfig

    def __init__(self, config: PickingConfig) -> None:
        super().__init__(config)
        if not 0 < config.shortest_s <= config.longest_s or not 0 <= config.before_p_s < config.longest_s:
            raise SeislatentError("records for picking: shortest_s above 0 and up to longest_s, before_p_s from 0 to below it")

    def open(self, source: Sequence[Path]) -> Records:
        """Records of waveform files with a catalogue and picks, or of record sets."""
        return open_events(source, self.config.archive)

    def select(self, table: pd.DataFrame) -> pd.Series:
        """Records without P are left out: nobody knows where they begin."""
        reason = pd.Series("", index=table.index, dtype=object)
        column = "trace_p_arrival_sample"
        return reason.mask(pd.to_numeric(table[column], errors="coerce").isna(), "no P") if column in table else reason

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """One record of each; nothing is drawn at random."""
        for record in records:
            try:
                yield self.one(record)
            except SeislatentError as error:  # a rate that cannot be resampled, say
                yield Rejected(name=str(record.metadata.get("trace_name", "")), reason="cannot be cut", detail=str(error))

    def one(self, record: Waveform) -> Made | Rejected:
        """The record at the rate, or why it cannot be had."""
        c, name = self.config, str(record.metadata.get("trace_name", ""))
        p = mark(record, "trace_p_arrival_sample")
        if p is None or not 0 <= p < record.data.shape[1]:
            return Rejected(name=name, reason="no P" if p is None else "P outside the record")
        live = moving(record)
        if live is None:
            return Rejected(name=name, reason="no component that moves")
        rate, n = c.sampling_rate_hz, length_at(live, c.sampling_rate_hz)
        if n < c.shortest_s * rate:
            return Rejected(name=name, reason="too short")
        first, last = 0, n
        if n > c.longest_s * rate:
            first = int(np.clip(round((p / record.sampling_rate_hz - c.before_p_s) * rate), 0, n - round(c.longest_s * rate)))
            last = first + round(c.longest_s * rate)
        trouble = flaw(live, first, last, rate)
        if trouble:
            return Rejected(name=name, reason=trouble)
        found = single_precision(excerpt(live, first, last, rate))
        return Made(record=replace(found, metadata=found.metadata | {"label": "earthquake"}))


def moving(record: Waveform) -> Waveform | None:
    """The rows Z, N, E that move, under these names; None where there is none."""
    rows, channels = [], []
    names = set(record.components)
    for row, channel in enumerate(record.channels):
        x = record.data[row]
        oriented = OTHER.get(channel.component, channel.component)
        stands = channel.component in "ZNE" or oriented not in names
        if channel.component and stands and oriented in "ZNE" and x.dtype.kind in "biuf" and not (x == x[:1]).all():
            rows.append(row)
            channels.append(replace(channel, component=oriented))
    if not rows:
        return None
    order = sorted(range(len(rows)), key=lambda k: "ZNE".index(channels[k].component))
    return replace(record, data=record.data[[rows[k] for k in order]], channels=tuple(channels[k] for k in order))
