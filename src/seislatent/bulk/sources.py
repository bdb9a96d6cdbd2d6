"""What a source holds, in pieces of work: a sensor and a day of an archive, or some records of a store.

file, folder, SDS --headers or names--> sensor x day (UTC) --hour by hour, with what is around it--> single channels
store, SeisBench, HDF5 ---------------> records, some at a time
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seislatent.bulk.sensors import Notes, Sensor, by_sensor
from seislatent.components import named
from seislatent.data.gather import sensor_of
from seislatent.data.records import open_records, sources_below
from seislatent.errors import SeislatentError
from seislatent.io.archive import Archive
from seislatent.io.files import read_stream, samples_ns
from seislatent.systems.features.stretches import ROWS
from seislatent.waveform import Channel, Waveform

DAY_NS, HOUR_NS = 86_400 * 10**9, 3600 * 10**9
RECORDS = 64
"""Records of a piece of work."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A sensor's day, or some records."""

    number: int
    set: int
    """Which of several sources."""
    sensor: Sensor | None = None
    begin_ns: int | None = None
    """What begins in [begin, end) is this piece's; None for records."""
    end_ns: int | None = None
    rows: tuple[int, ...] = ()
    """Of the table of spans, or of the records."""


class Files:
    """Channels of waveform files: one file, or a folder."""

    def __init__(self, path: Path, instruments: Sequence[str]):
        self.path, self.instruments = path, instruments
        self.alone = [path.name] if path.is_file() else None
        self.archive = Archive(path.parent if self.alone else path)
        self.spans = _spans_of_file(path) if self.alone else self.archive.spans()
        if self.spans.empty:
            told = f" ({self.archive.bad[0]})" if self.archive.bad else ""
            raise SeislatentError(
                f"{path} holds no waveform with numbers{told}: give miniSEED, SAC, ..., or a folder of such files"
            )

    def pieces(self, number: int, place: int, notes: Notes) -> list[Piece]:
        """Sensor by sensor, day by day."""
        table = self.spans
        ids = list(zip(*(table[c] for c in ("network", "station", "location", "channel")), strict=True))
        sensors = [_sensor(*one) for one in ids]
        for one in dict.fromkeys(i for i, s in zip(ids, sensors, strict=True) if s is None):
            notes.add(f"{'.'.join(one)}: left out, for it is none of the components Z N E, 1 2 3")
        groups: dict[tuple[Sensor, int], list[int]] = {}
        for row, (sensor, begin, end) in enumerate(zip(sensors, table["start_ns"], table["end_ns"], strict=True)):
            if sensor is not None:
                for day in range(int(begin) // DAY_NS, (int(end) - 1) // DAY_NS + 1):
                    groups.setdefault((sensor, day), []).append(row)
        chosen = _preferred(groups, self.instruments)
        return [
            Piece(number=number + k, set=place, sensor=s, begin_ns=d * DAY_NS, end_ns=(d + 1) * DAY_NS, rows=tuple(groups[s, d]))
            for k, (s, d) in enumerate(sorted(chosen))
        ]

    def names(self) -> list[str]:
        """What tells this source from another."""
        columns = [c for c in ("network", "station", "location", "channel", "start_ns", "end_ns", "file") if c in self.spans]
        return [" ".join(map(str, row)) for row in self.spans[columns].itertuples(index=False)]

    def part(self, piece: Piece) -> Files:
        """What another process needs of it."""
        return self

    def bad(self) -> list[str]:
        """Files that could not be read."""
        return self.archive.bad

    def waveforms(self, piece: Piece, context_ns: int, notes: Notes) -> Iterator[tuple[str, Iterator[list[Waveform]]]]:
        """The channels of the day, hour by hour, with `context_ns` on both sides."""
        yield "", self._hours(piece, context_ns)

    def _hours(self, piece: Piece, context_ns: int) -> Iterator[list[Waveform]]:
        assert piece.sensor is not None and piece.begin_ns is not None and piece.end_ns is not None
        network, station, location, band = piece.sensor
        low, high = piece.begin_ns - context_ns, piece.end_ns + context_ns
        edges = sorted({low, *range(-(-low // HOUR_NS) * HOUR_NS, high, HOUR_NS), high})
        starts, ends = (self.spans[c].to_numpy(np.int64) for c in ("start_ns", "end_ns"))
        for begin, end in itertools.pairwise(edges):
            if not ((starts < end + HOUR_NS) & (ends > begin - HOUR_NS)).any():
                continue
            found = self.archive.read(network, station, location, f"{band}*", begin, end, files=self.alone)
            mine = [w for w in found if sensor_of(w.channels[0]) == piece.sensor]
            if mine:
                yield mine


class Recorded:
    """Records of a store, of SeisBench's layout, or of another set."""

    def __init__(self, path: Path):
        self.path, self.records = path, open_records(path)
        self._bad: list[str] = []

    def pieces(self, number: int, place: int, notes: Notes) -> list[Piece]:
        """Some records each."""
        for line in self.records.notes:
            notes.add(line)
        count = len(self.records)
        firsts = range(0, count, RECORDS)
        return [Piece(number=number + k, set=place, rows=tuple(range(a, min(a + RECORDS, count)))) for k, a in enumerate(firsts)]

    def names(self) -> list[str]:
        """What tells this source from another."""
        table = self.records.metadata[["trace_name", "start_ns", "trace_npts"]]
        return [" ".join(map(str, row)) for row in table.itertuples(index=False)]

    def part(self, piece: Piece) -> Recorded:
        """Its records alone; they are the first of the new table."""
        part = copy.copy(self)
        part.records = self.records.excerpt(np.array(piece.rows))
        return part

    def bad(self) -> list[str]:
        """Records that could not be read."""
        return self._bad

    def waveforms(self, piece: Piece, context_ns: int, notes: Notes) -> Iterator[tuple[str, Iterator[list[Waveform]]]]:
        """Records with their names."""
        names = self.records.metadata["trace_name"].astype(str).tolist()
        for name, record in zip(names, self.records.several(range(len(names))), strict=True):
            if isinstance(record, SeislatentError):
                notes.add(f"{name}: left out: {record}")
                continue
            for group in by_sensor(record).values():
                yield name, iter([group])


@dataclass(frozen=True, eq=False)
class Source:
    """Everything that is to be worked on."""

    name: str
    sets: list[Any]
    pieces: list[Piece]
    notes: list[str]

    def names(self) -> list[str]:
        """What tells this source from another."""
        return [line for one in self.sets for line in one.names()]

    def part(self, piece: Piece) -> Any:
        """What a process needs for one piece."""
        return self.sets[piece.set].part(piece)


def open_source(source: str | Path | Sequence[str | Path], instruments: Sequence[str] = ()) -> Source:
    """A file, a folder (SDS too), a store or another set of records, or several of these.

    Raises:
        SeislatentError: nothing is there, or nothing that can be read.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(p) for p in source]
    notes, sets, pieces = Notes(), list[Any](), list[Piece]()
    for path in paths:
        if not path.exists():
            raise SeislatentError(f"{path}: no such file or folder: give a waveform file, a folder of them, or a store")
        records = bool(sources_below(path)) if path.is_dir() else _is_hdf5(path)
        one: Any = Recorded(path) if records else Files(path, instruments)
        pieces += one.pieces(len(pieces), len(sets), notes)
        sets.append(one)
    return Source(", ".join(map(str, paths)), sets, pieces, notes)


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(8) == b"\x89HDF\r\n\x1a\n"


@lru_cache(maxsize=1 << 14)
def _sensor(network: str, station: str, location: str, code: str) -> Sensor | None:
    """The sensor of a channel, None where its component is none of Z N E, 1 2 3."""
    channel = named(Channel(network=network, station=station, location=location, code=code))
    return sensor_of(channel) if channel.component in ROWS else None


def _preferred(groups: dict[tuple[Sensor, int], list[int]], instruments: Sequence[str]) -> list[tuple[Sensor, int]]:
    """All, or of each station and day those of the first instrument that there is; "*" stands for any other."""
    if not instruments:
        return list(groups)
    best: dict[tuple[str, str, int], tuple[int, Sensor]] = {}
    for sensor, day in groups:
        network, station, _, band = sensor
        rank = next((k for k, name in enumerate(instruments) if name in (band, "*")), None)
        key = network, station, day
        if rank is not None and (key not in best or (rank, sensor) < best[key]):
            best[key] = rank, sensor
    return [(sensor, day) for (_, _, day), (_, sensor) in best.items()]


def _spans_of_file(path: Path) -> pd.DataFrame:
    """Traces of one file as `Archive.spans` has them; text and empty traces are none."""
    stream = read_stream(path, headonly=True)
    if stream[0].stats._format not in ("MSEED", "SAC"):
        stream = read_stream(path)
    rows = []
    for trace in stream:
        stats = trace.stats
        if stats.npts and stats.sampling_rate > 0 and stats.get("mseed", {}).get("encoding") != "ASCII":
            begin = stats.starttime.ns
            end = begin + samples_ns(int(stats.npts), float(stats.sampling_rate))
            rows.append((stats.network, stats.station, stats.location, stats.channel, begin, end, path.name))
    columns = ["network", "station", "location", "channel", "start_ns", "end_ns", "file"]
    return pd.DataFrame(rows, columns=columns).astype({"start_ns": "int64", "end_ns": "int64"})
