"""Traces of waveform files as records of a station and sensor, put together when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from seislatent.components import named
from seislatent.data.gather import gather, sensor_of
from seislatent.errors import SeislatentError
from seislatent.prepare.response import to_si
from seislatent.waveform import Channel, Waveform

_CODES = ["station_network_code", "station_code", "station_location_code", "trace_channel"]
_TOUCH = 1.5
"""Traces that share no more than this many samples follow each other; those that share more are of one record."""


class GatheredFiles(Sequence[Waveform]):
    """Records of several components from a sequence of single channels; `metadata` has one row per record.

    Traces of one sensor (network, station, location, band code) whose times overlap, directly or through others, are one record.
    Where these do not fit together, the record keeps its row, and reading it raises `seislatent.data.gather.Unfit`.

    Args:
        traces: records of one channel.
        table: a row for each, with codes, `start_ns`, `trace_npts` and `trace_sampling_rate_hz`.
        components: of every record and in this order; None leaves the traces single.
        physical: turn each channel to SI units first, where its file says how.
    """

    def __init__(
        self,
        traces: Sequence[Waveform],
        table: pd.DataFrame,
        components: str | Sequence[str] | None = "ZNE",
        *,
        physical: bool = False,
    ) -> None:
        self.traces, self.physical = traces, physical
        self.components = None if components is None else tuple(components)
        if self.components is None:
            self.members: list[list[int]] = [[i] for i in range(len(table))]
            self.metadata = table
            return
        told, ends = _with_sensor(table)
        record = _records(told, ends)
        order = np.argsort(record, kind="stable")
        self.members = [m.tolist() for m in np.split(order, np.flatnonzero(np.diff(record[order])) + 1)]
        self.metadata = _table(told, ends, record)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        parts = [self.traces[j] for j in self.members[i]]
        if self.physical:
            parts = [to_si(w) for w in parts]
        if self.components is None:
            return parts[0]
        record = gather(parts, order=self.components)
        return replace(record, metadata=record.metadata | {"trace_name": self.metadata["trace_name"].iloc[i]})

    def several(self, rows: Sequence[int]) -> Iterator[Waveform | SeislatentError]:
        """For each row its record, or the error that reading it raised."""
        for row in rows:
            try:
                yield self[int(row)]
            except SeislatentError as error:
                yield error.with_traceback(None)


def _with_sensor(table: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with the columns `band` and `component`, and where each trace ends in nanoseconds."""
    told = table.reset_index(drop=True)
    codes = told[_CODES].fillna("").astype(str)
    known = {}
    for key in set(codes.itertuples(index=False, name=None)):
        channel = named(Channel(network=key[0], station=key[1], location=key[2], code=key[3]))
        known[key] = (sensor_of(channel)[3], channel.component)
    found = [known[key] for key in codes.itertuples(index=False, name=None)]
    told = told.assign(band=[band for band, _ in found], component=[component for _, component in found])
    lengths = told["trace_npts"].to_numpy(float) / told["trace_sampling_rate_hz"].to_numpy(float)
    return told, told["start_ns"].to_numpy(np.int64) + np.round(lengths * 1e9).astype(np.int64)


def _records(told: pd.DataFrame, ends: np.ndarray) -> np.ndarray:
    """The number of the record of each trace, counted in order of first appearance."""
    sensor = told.groupby([*_CODES[:3], "band"], sort=False, dropna=False).ngroup().to_numpy()
    starts = told["start_ns"].to_numpy(np.int64)
    order = np.lexsort((starts, sensor))
    at = pd.DataFrame({"sensor": sensor[order], "end": ends[order]})
    reached = at.groupby("sensor")["end"].cummax().groupby(at["sensor"]).shift(fill_value=np.iinfo(np.int64).min).to_numpy()
    touch = np.round(_TOUCH * 1e9 / told["trace_sampling_rate_hz"].to_numpy(float)[order]).astype(np.int64)
    opens = starts[order] + touch >= reached
    opens[0] = True
    opens[1:] |= np.diff(at["sensor"].to_numpy()) != 0
    record = np.empty(len(told), np.int64)
    record[order] = np.cumsum(opens)
    return np.asarray(pd.factorize(record)[0])


def _table(told: pd.DataFrame, ends: np.ndarray, record: np.ndarray) -> pd.DataFrame:
    """One row per record: what its first traces say, and the span that its components share."""
    starts = told["start_ns"].to_numpy(np.int64)
    spans = pd.DataFrame({"record": record, "component": told["component"], "start": starts, "end": ends})
    each = spans.groupby(["record", "component"]).agg(start=("start", "min"), end=("end", "max"))
    common = each.groupby(level="record").agg(start=("start", "max"), end=("end", "min"), first=("start", "min"))
    rows = told.drop(columns=["component", "file", "trace", "first"], errors="ignore").groupby(record).first()
    rate = rows["trace_sampling_rate_hz"]
    rows["trace_npts"] = ((common["end"] - common["start"]).clip(lower=0) * rate / 1e9).round().astype(np.int64)
    rows["start_ns"] = common["start"].where(rows["trace_npts"] > 0, common["first"])
    rows["trace_channel"] = rows.pop("band")
    ids = rows[_CODES].fillna("").astype(str).agg(".".join, axis=1)
    times = np.datetime_as_string(rows["start_ns"].to_numpy(np.int64).astype("datetime64[ns]"), unit="us")
    rows["trace_name"] = [f"{i}_{t}Z" for i, t in zip(ids, times, strict=True)]
    return rows.reset_index(drop=True)
