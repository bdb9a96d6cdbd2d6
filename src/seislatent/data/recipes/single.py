"""Single channels at one rate, whole, as they are: what a codec of waveforms learns from.

    record [channel time] --each component, each run between gaps--> [1 time] at 40 Hz, in the record's own unit

A record keeps its whole length, its offset and its amplitude: what a codec does with them is its own affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.errors import SeislatentError
from seislatent.prepare.excerpt import excerpt, length_at
from seislatent.prepare.level import single_precision
from seislatent.prepare.windows import cut
from seislatent.waveform import Waveform


@dataclass(frozen=True, kw_only=True)
class SingleConfig:
    """Rate, type and the shortest record."""

    sampling_rate_hz: float = 40.0
    """Of the records, in Hz."""
    lowest_rate_hz: float = 20.0
    """Records of a lower rate are left out: most of their band would be empty."""
    shortest_s: float = 20.0
    """Shorter records, and shorter runs between two gaps, are left out."""
    samples: Literal["float32", "as recorded"] = "float32"
    """float32; or int32 counts where a record has the rate already, and float64 where it was resampled from counts."""


class Single(DataRecipe):
    """Every component of every record as a record of one channel."""

    Config = SingleConfig
    config: SingleConfig

    def __init__(self, config: SingleConfig) -> None:
        super().__init__(config)
        if config.shortest_s * config.sampling_rate_hz < 2:
            raise SeislatentError(f"shortest_s {config.shortest_s:g}: a record has at least two samples")

    def select(self, table: pd.DataFrame) -> pd.Series:
        """Rate and length, as far as the table tells them."""
        c = self.config
        rate = pd.to_numeric(table["trace_sampling_rate_hz"], errors="coerce").astype(float)
        count = pd.to_numeric(table["trace_npts"], errors="coerce").astype(float)
        reason = pd.Series("", index=table.index, dtype=object)
        reason = reason.mask(rate < c.lowest_rate_hz * (1 - 1e-6), "rate too low")
        return reason.mask((reason == "") & (count / rate < c.shortest_s), "too short")

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """The channels of each record; nothing is drawn at random."""
        for record in records:
            for row in range(len(record.channels)):
                one = record.select([row])
                name = str(record.metadata.get("trace_name", ""))
                own = f"{name}_{one.components[0] or row}" if len(record.channels) > 1 else name
                try:
                    found = list(self.channel(one, own))
                except SeislatentError as error:  # a rate that cannot be resampled, say
                    found = [Rejected(name=own, reason="cannot be cut", detail=str(error))]
                yield from found

    def channel(self, record: Waveform, name: str) -> Iterator[Made | Rejected]:
        """One channel: its runs between gaps that are long enough."""
        c, rate = self.config, record.sampling_rate_hz
        if record.data.dtype.kind not in "biuf":
            yield Rejected(name=name, reason="no numbers")
            return
        runs = runs_of(np.isfinite(record.data[0])) if record.data.dtype.kind == "f" else [(0, record.data.shape[1])]
        long = [(a, b) for a, b in runs if (b - a) / rate >= c.shortest_s]
        if not long:
            yield Rejected(name=name, reason="gap" if record.data.shape[1] / rate >= c.shortest_s else "too short")
        for k, (a, b) in enumerate(long):
            own = name if len(runs) == 1 else f"{name}_run{k}"
            run = cut(record, a, b) if b - a < record.data.shape[1] else record
            if (run.data == run.data[:, :1]).all():
                yield Rejected(name=own, reason="dead component")
                continue
            whole = excerpt(run, 0, length_at(run, c.sampling_rate_hz), c.sampling_rate_hz)
            whole = single_precision(whole) if c.samples == "float32" else whole
            yield Made(record=replace(whole, metadata=whole.metadata | {"trace_name": own}))


def runs_of(given: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last sample of every run that is given."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], given.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
