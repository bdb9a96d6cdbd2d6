"""Windows of any source at one rate: Z, N and E as far as they were recorded, with a mask of what was.

    files, folders, SDS      traces --by sensor, hour by hour, with their neighbours--> stretches
    stores, SeisBench, ...   records ---------------------------------------------------> stretches
    stretch --gaps bridged, high pass, rate--> windows [3 time] every `hop_s`, valid [3 time]

Windows of files begin at whole multiples of the hop since 1970 (at the sample next to it), wherever a file was cut and through the
ends of files that follow each other; those of records begin with the record. A window that reaches beyond its data is filled up
with zeros that are not valid.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.components import named
from seislatent.data.gather import INSTEAD, gather
from seislatent.data.gathered import GatheredFiles
from seislatent.data.records import Records, WaveformFiles, open_records
from seislatent.errors import SeislatentError
from seislatent.prepare.resample import resample
from seislatent.signal.filters import Butterworth
from seislatent.waveform import Waveform

CONTEXT_S = 10.0
"""Of what stands before and behind is taken along, so that filters do not begin at the edge of a block."""
TOUCH = 1.5
"""Records of a sensor that are no more samples apart follow each other."""
CODES = ("station_network_code", "station_code", "station_location_code", "trace_channel")
KEPT = ("trace_name", *CODES)
"""Columns of the source that every window has."""
OTHER = ("dataset", "source_id", "split")
"""Columns that it has where the source tells them."""
ROWS = "ZNE"


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How windows are cut."""

    sampling_rate_hz: float
    samples: int
    """Length of a window at that rate."""
    hop_s: float
    """From one window to the next, in s."""
    highpass_hz: float = 0.0
    """Corner of a Butterworth high pass of order 4, both ways, before cutting; 0: none."""
    least_valid: float = 0.5
    """Windows with a smaller share of valid samples in their best component are left out."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.hop_s) and self.hop_s * self.sampling_rate_hz >= 1):
            raise SeislatentError(f"windows every {self.hop_s:g} s: give at least one sample, {1 / self.sampling_rate_hz:g} s")
        if not 0 <= self.highpass_hz < 0.45 * self.sampling_rate_hz:
            raise SeislatentError(
                f"a high pass of {self.highpass_hz:g} Hz at {self.sampling_rate_hz:g} Hz: give 0 (none) or less than"
                f" {0.45 * self.sampling_rate_hz:g} Hz"
            )
        if not 0 < self.least_valid <= 1:
            raise SeislatentError(f"a share of valid samples of {self.least_valid:g}: give more than 0, at most 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Windows of one record."""

    x: NDArray[np.float32]
    """[window 3 time]; each component without its mean, each window over its largest value; 0 where not valid."""
    valid: NDArray[np.float32]
    """[window] share of valid samples of the component that has most."""
    offset_s: NDArray[np.float64]
    """[window] from where the record begins."""
    start_ns: NDArray[np.int64] | None
    """[window] since 1970; None where the record does not tell when it begins."""
    components: list[str]
    """[window] those that have a valid sample: ZNE, Z, ..."""


class WindowSource:
    """The records of a source; `table` has a row for each. May be handed to other processes.

    Args:
        path: a file, a folder (SDS too), a store or another set of records, or several of them.

    Raises:
        SeislatentError: nothing is there, or nothing can be read.
    """

    def __init__(self, path: str | Path | Sequence[str | Path]) -> None:
        paths = [path] if isinstance(path, str | Path) else list(path)
        self.paths = [str(Path(p).resolve()) for p in paths]
        self.sets: list[Records] = []
        self.files: list[GatheredFiles | None] = []
        self.notes: list[str] = []
        tables = []
        for k, one in enumerate(paths):
            records = open_records(one)
            files = GatheredFiles(records, records.metadata) if all(type(p) is WaveformFiles for p in records.parts) else None
            table = records.metadata if files is None else files.metadata
            self.sets.append(records)
            self.files.append(files)
            self.notes += records.notes
            table = table.assign(set=k, row=np.arange(len(table)))
            tables.append(_ordered(table) if files else table)
        self.table = pd.concat(tables, ignore_index=True)
        self.before, self.behind = _neighbours(self.table, [f is not None for f in self.files])

    def __len__(self) -> int:
        return len(self.table)

    def expected(self, cut: Cut) -> NDArray[np.int64]:
        """About how many windows each record has."""
        length = self.table["trace_npts"].fillna(0).to_numpy(float) / self.table["trace_sampling_rate_hz"].fillna(1).to_numpy(float)
        return np.maximum(np.ceil(length / cut.hop_s), 1).astype(np.int64)

    def names(self) -> list[str]:
        """What tells this source from another: each record's name, start and length."""
        columns = ("trace_name", "start_ns", "trace_npts")
        return [" ".join(map(str, row)) for row in self.table[[*columns]].itertuples(index=False)]

    def excerpt(self, first: int, last: int) -> tuple[WindowSource, list[int]]:
        """Records `first` to `last` with their neighbours, and no more of the tables than these need; and their rows therein."""
        rows = np.arange(first, last)
        around = np.concatenate([rows, self.before[rows], self.behind[rows]])
        around = np.unique(around[around >= 0])
        place = {int(r): k for k, r in enumerate(around)}
        part = copy.copy(self)
        part.table = self.table.iloc[around].reset_index(drop=True)
        part.before, part.behind = (np.array([place.get(int(n), -1) for n in side[around]]) for side in (self.before, self.behind))
        part.sets, part.files = [*self.sets], [*self.files]
        for k in range(len(self.sets)):
            mine = np.flatnonzero(part.table["set"] == k)
            needed = part.table["row"].to_numpy()[mine]
            found = self.files[k]
            if found is None:
                part.sets[k] = self.sets[k].excerpt(needed) if len(needed) else self.sets[k].select([])
            else:
                traces = [j for i in needed for j in found.members[i]]
                files = copy.copy(found)
                files.traces = self.sets[k].excerpt(traces) if traces else self.sets[k].select([])
                ends = np.cumsum([0, *(len(found.members[i]) for i in needed)])
                files.members = [list(range(a, b)) for a, b in itertools.pairwise(ends)]
                part.files[k], part.sets[k] = files, files.traces  # type: ignore[assignment]
            part.table.loc[mine, "row"] = np.arange(len(mine))
        return part, [place[int(r)] for r in rows]

    def windows(self, i: int, cut: Cut) -> Windows:
        """The windows of a record.

        Raises:
            SeislatentError: it cannot be read, or has none of Z, N and E.
        """
        stretch, begin, end = self._stretch(i)
        grid = self._on_grid(i)
        return _cut(stretch, begin, _starts(stretch.start_ns, begin, end, cut.hop_s, on_grid=grid), cut, on_grid=grid)

    def _on_grid(self, i: int) -> bool:
        """Whether windows of a record begin at multiples of the hop since 1970."""
        return self.files[int(self.table["set"].iloc[i])] is not None and bool(self.table["start_ns"].iloc[i] != 0)

    def _stretch(self, i: int) -> tuple[Waveform, float, float]:
        """A record with its context, its rows Z, N, E (NaN where missing), and where it begins and ends therein, in s."""
        k, row = int(self.table["set"].iloc[i]), int(self.table["row"].iloc[i])
        files = self.files[k]
        if files is None:
            record: Waveform = self.sets[k][row]
            return _three([record.select([j]) for j in range(len(record.data))]), 0.0, record.duration_s
        rate = float(self.table["trace_sampling_rate_hz"].iloc[i])
        own = _three(_read(files, row))
        parts = [own]
        for side in (self.before, self.behind):
            if side[i] >= 0:
                try:
                    parts.append(_three(_read(files, int(self.table["row"].iloc[side[i]]))))
                except SeislatentError:  # told when its own windows are cut
                    continue
        whole = _joined(parts, rate)
        # where another record follows, this one ends where that one begins: no window is lost or made twice
        starts = self.table["start_ns"]
        begin_ns = int(starts.iloc[i]) if self.before[i] >= 0 else own.start_ns
        end_ns = int(starts.iloc[self.behind[i]]) if self.behind[i] >= 0 else own.start_ns + round(own.duration_s * 1e9)
        return whole, (begin_ns - whole.start_ns) / 1e9, (end_ns - whole.start_ns) / 1e9


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """By sensor and time."""
    return table.sort_values([*CODES, "start_ns"], kind="stable", ignore_index=True)


def _neighbours(table: pd.DataFrame, of_files: Sequence[bool]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row that each record follows, and that which follows it; -1 where there is none."""
    before, behind = np.full(len(table), -1), np.full(len(table), -1)
    rate = table["trace_sampling_rate_hz"].to_numpy(float)
    start = table["start_ns"].fillna(0).to_numpy(np.int64)
    end = start + np.round(table["trace_npts"].fillna(0).to_numpy(float) / rate * 1e9).astype(np.int64)
    texts = [table[name].fillna("").astype(str) for name in (*CODES, "set")]
    codes = reduce(lambda one, more: one + "|" + more, texts).to_numpy()
    grown = np.asarray(of_files)[table["set"].to_numpy(int)]
    near = np.abs(start[1:] - end[:-1]) <= TOUCH * 1e9 / rate[1:]
    at = np.flatnonzero((codes[1:] == codes[:-1]) & (rate[1:] == rate[:-1]) & near & grown[1:])
    before[at + 1], behind[at] = at, at + 1
    return before, behind


def _read(files: GatheredFiles, row: int) -> list[Waveform]:
    return [files.traces[j] for j in files.members[row]]


def _three(traces: Sequence[Waveform]) -> Waveform:
    """Traces of one sensor as Z, N, E, each on its own, NaN where there is nothing; 1 and 2 stand for N and E."""
    by: dict[str, list[Waveform]] = {}
    for one in traces:
        if one.data.dtype.kind in "iuf" and one.data.shape[1] and one.sampling_rate_hz > 0:
            channel = named(one.channels[0])
            by.setdefault(channel.component, []).append(replace(one, channels=(channel,)))
    rows: dict[str, Waveform] = {}
    why = ""
    for component in ROWS:
        stands = component if component in by else INSTEAD[component] if not by.keys() & {"N", "E"} or component == "Z" else ""
        if stands in by:
            try:
                rows[component] = gather(by[stands], order=(stands,))
            except SeislatentError as error:
                why = str(error)
    if not rows:
        names = ", ".join(sorted({name for w in traces for name in w.ids})) or "a record without samples"
        raise SeislatentError(why or f"none of Z, N and E: {names}")
    return _joined([_placed(w, component) for component, w in rows.items()], next(iter(rows.values())).sampling_rate_hz)


def _placed(waveform: Waveform, component: str) -> Waveform:
    """A single component in its row of three."""
    data = np.full((3, waveform.data.shape[1]), np.nan)
    data[ROWS.index(component)] = waveform.data[0]
    return replace(waveform, data=data, channels=waveform.channels * 3)


def _joined(parts: Sequence[Waveform], rate: float) -> Waveform:
    """Records [3 time] on the grid of the earliest; what several have is taken from the first of them, what none has is NaN."""
    start = min(w.start_ns for w in parts)
    places = [round((w.start_ns - start) * rate / 1e9) for w in parts]
    data = np.full((3, max(a + w.data.shape[1] for a, w in zip(places, parts, strict=True))), np.nan)
    for at, one in zip(places, parts, strict=True):
        held = data[:, at : at + one.data.shape[1]]
        np.copyto(held, one.data, where=np.isnan(held))
    return replace(parts[0], data=data, start_ns=start, sampling_rate_hz=rate)


def windows_at(source: WindowSource, i: int, first_s: NDArray[np.float64], cut: Cut) -> Windows:
    """Windows that begin at given times in s from the beginning of a record, before it too; as `WindowSource.windows` else."""
    stretch, begin, _ = source._stretch(i)
    return _cut(stretch, begin, begin + np.asarray(first_s, float), cut, on_grid=source._on_grid(i))


def _starts(start_ns: int, begin: float, end: float, hop_s: float, *, on_grid: bool) -> NDArray[np.float64]:
    """When the windows begin that belong to [begin, end) s of a stretch."""
    if not on_grid:
        return np.asarray(begin + np.arange(max(1, int(np.ceil((end - begin) / hop_s - 1e-9)))) * hop_s, np.float64)
    origin, last, hop = start_ns + round(begin * 1e9), start_ns + round(end * 1e9), round(hop_s * 1e9)
    first = np.arange(-(-origin // hop), -(-last // hop), dtype=np.int64) * hop
    return np.asarray(begin + (first - origin) / 1e9, np.float64)


def _anchor(start_ns: int, rate_in: float, rate: float) -> int:
    """The input sample that stands on, or soonest after, a multiple of the output interval since 1970.

    Resampled from there, the same samples give the same windows wherever a file was cut.
    """
    period = int(Fraction(rate_in / rate).limit_denominator(512).numerator)
    at = start_ns + np.round(np.arange(min(period, 512)) * 1e9 / rate_in).astype(np.int64)
    return int(np.argmin((at + 500) % round(1e9 / rate) // 1000))  # to the microsecond


def _cut(stretch: Waveform, begin: float, starts: NDArray[np.float64], cut: Cut, *, on_grid: bool) -> Windows:
    """The windows that begin at `starts` s of a stretch; `begin` is where the record begins therein."""
    rate_in, rate = stretch.sampling_rate_hz, cut.sampling_rate_hz
    low, high = (float(starts.min()), float(starts.max())) if len(starts) else (begin, begin)
    first = min(max(0, round((low - CONTEXT_S) * rate_in)), stretch.data.shape[1])
    if on_grid:
        first += _anchor(stretch.start_ns + round(first * 1e9 / rate_in), rate_in, rate)
    last = max(first, min(stretch.data.shape[1], round((high + cut.samples / rate + CONTEXT_S) * rate_in)))
    start_s = first / rate_in
    raw = stretch.data[:, first:last]
    given = np.isfinite(raw)
    x, valid = np.zeros((3, 0)), np.zeros((3, 0), bool)
    if raw.shape[1]:
        x = resample(_bridged(raw, given), rate_in, rate)
        if cut.highpass_hz:
            x = Butterworth(kind="highpass", corners_hz=cut.highpass_hz, rate_hz=rate)(x)
        valid = given[:, np.minimum(np.round(np.arange(x.shape[1]) * rate_in / rate).astype(np.int64), raw.shape[1] - 1)]
    at = np.round((starts - start_s) * rate).astype(np.int64)
    before = max(0, -int(at.min(initial=0)))
    after = max(0, int(at.max(initial=0)) + cut.samples - x.shape[1])
    x, valid = (np.pad(a, ((0, 0), (before, after))) for a in (x, valid))
    place = (at + before)[:, None] + np.arange(cut.samples)
    found = _levelled(x[:, place].swapaxes(0, 1), valid[:, place].swapaxes(0, 1))
    since = start_s + at / rate
    times = stretch.start_ns + np.round(since * 1e9).astype(np.int64) if stretch.start_ns else None
    return replace(found, offset_s=since - begin, start_ns=times)


def _bridged(x: NDArray[Any], given: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Gaps filled by straight lines, so that nothing jumps where they begin; a component without samples is 0."""
    y = np.asarray(x, np.float64).copy()
    for row, here in zip(y, given, strict=True):
        if not here.any():
            row[:] = 0
        elif not here.all():
            row[~here] = np.interp(np.flatnonzero(~here), np.flatnonzero(here), row[here])
    return y


def _levelled(x: NDArray[np.float64], valid: NDArray[np.bool_]) -> Windows:
    """Windows [window 3 time] without their means, over their peaks; components that do not move are not valid."""
    low = np.where(valid, x, np.inf).min(-1, initial=np.inf, keepdims=True)
    high = np.where(valid, x, -np.inf).max(-1, initial=-np.inf, keepdims=True)
    valid = np.asarray(valid & (high - low > 1e-12 * np.maximum(np.abs(low), np.abs(high))))
    count = np.maximum(valid.sum(-1, keepdims=True), 1)
    x = np.where(valid, x - np.where(valid, x, 0).sum(-1, keepdims=True) / count, 0)
    peak = np.abs(x).max((1, 2), keepdims=True, initial=0)
    x = x / np.where(peak > 0, peak, 1)
    there = np.asarray(valid.any(-1))
    return Windows(
        x=x.astype(np.float32),
        valid=valid.mean(2).max(1).astype(np.float32),
        offset_s=np.zeros(len(x)),
        start_ns=None,
        components=["".join(c for c, here in zip(ROWS, row, strict=True) if here) for row in there],
    )


def batches(
    source: WindowSource, cut: Cut, rows: Sequence[int], size: int, left_out: Counter[str]
) -> Iterator[tuple[NDArray[np.float32], pd.DataFrame]]:
    """Windows [window 3 time] of some records, `size` at a time, with a row of the table for each.

    `left_out` counts what is left out by its reason.
    """
    held: list[NDArray[np.float32]] = []
    told: list[pd.DataFrame] = []
    for i in rows:
        try:
            found = source.windows(i, cut)
        except SeislatentError as error:
            left_out[getattr(error, "reason", str(error).partition(":")[0])] += 1
            continue
        good = found.valid >= cut.least_valid
        left_out["windows with too few samples"] += int((~good).sum())
        held.append(found.x[good])
        told.append(_rows(source.table.iloc[i], found, good))
        while sum(map(len, held)) >= size:
            x, table = np.concatenate(held), pd.concat(told, ignore_index=True)
            yield x[:size], table[:size].reset_index(drop=True)
            held, told = [x[size:]], [table[size:]]
    if sum(map(len, held)):
        yield np.concatenate(held), pd.concat(told, ignore_index=True)


def _rows(record: pd.Series, found: Windows, good: NDArray[np.bool_]) -> pd.DataFrame:
    """The table's rows of the windows that are kept."""
    count = int(good.sum())
    start = [pd.NA] * count if found.start_ns is None else found.start_ns[good]
    columns: dict[str, Any] = {"start_ns": pd.array(start, "Int64"), "offset_s": found.offset_s[good], "valid": found.valid[good]}
    columns["components"] = pd.array([c for c, g in zip(found.components, good, strict=True) if g], "string")
    for name in (*KEPT, *OTHER):
        value = record.get(name)
        columns[name] = pd.Series([None if value is None or value != value else str(value)] * count, dtype="string")
    return pd.DataFrame(columns)
