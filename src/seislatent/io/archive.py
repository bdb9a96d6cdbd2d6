"""Archives of waveform files: SDS trees and any folder of files that ObsPy reads, of which only what is asked for is read.

    SDS      YEAR/NET/STA/CHA.D/NET.STA.LOC.CHA.D.YEAR.DOY: files are found by their names, nothing is scanned
    folder   any files, such as one of three components per event and station: found by an index of their headers

Nothing is written into an archive.
"""

from __future__ import annotations

import logging
import os
import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from obspy import Stream, UTCDateTime

from seislatent.errors import SeislatentError
from seislatent.io.archive_index import TRACE, files_below, index, keep_index, kept_index
from seislatent.io.files import from_stream, read_stream, samples_ns
from seislatent.io.pieces import durations_us, read_records, record_headers, starts_us
from seislatent.io.plugins import detect, load, one_line
from seislatent.waveform import Waveform

log = logging.getLogger(__name__)

_SDS_NAME = re.compile(r"([^.]*)\.([^.]+)\.([^.]*)\.([^.]+)\.D\.(\d{4})\.(\d{3})$")
_DAY_NS = 86_400_000_000_000
_SPILL_NS = 600_000_000_000
"""The last record of a day's file may reach this far into the next day."""
_SLACK_NS = 10_000_000_000
"""Records are picked out of a file this much wider than asked, and the samples are then cut."""
_HELD_BYTES = 1 << 26
"""A file of any other format that is larger than this is not kept for the next read."""
_HELD_TABLES = 64
"""Files of miniSEED whose records are kept in mind."""
_CODES = ("network", "station", "location", "channel")


class Archive:
    """The waveform files of one folder.

    May be handed to worker processes: files are opened by each process for itself, and nothing stays open.

    Args:
        folder: an SDS tree, or any folder with waveform files at any depth.
        cache: a Parquet file in which the index is kept from one time to the next, outside the archive; files whose size and time
            of change are as they were are not opened again. None keeps it in memory.
        workers: processes that read headers.
        leave_out: files that are no waveforms (catalogues, picks, inventories).

    Raises:
        SeislatentError: the folder does not exist, or the cache lies in it or is another file.
    """

    def __init__(
        self, folder: str | Path, *, cache: str | Path | None = None, workers: int = 1, leave_out: Iterable[str | Path] = ()
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise SeislatentError(f"archive {folder} is no folder: give the folder that holds the waveform files")
        self.cache = None if cache is None else Path(cache)
        if self.cache is not None and self.cache.resolve().is_relative_to(self.folder.resolve()):
            raise SeislatentError(f"index {cache} lies in the archive, in which nothing is written: give a place outside of it")
        self.workers = workers
        self.bad: list[str] = []
        """Files that cannot be read, one line for each."""
        self.sds = _is_sds(self.folder)
        self._left_out = {Path(p).resolve() for p in leave_out}
        self._table: pd.DataFrame | None = None
        self._rows: dict[str, np.ndarray] = {}
        self._listings: dict[Path, tuple[str, ...]] = {}
        self._columns: dict[str, NDArray[Any]] = {}
        self._tables: OrderedDict[tuple[str, int, int], _Records | None] = OrderedDict()
        self._streams: OrderedDict[tuple[str, int, int], Stream] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tables": OrderedDict(), "_streams": OrderedDict()}

    @property
    def table(self) -> pd.DataFrame:
        """One row per trace, from the headers of all files: the columns of `TRACE`; made when first asked for."""
        if self._table is None:
            self.refresh()
        assert self._table is not None
        return self._table

    def refresh(self) -> None:
        """Look at the files again: new and changed ones are read, those that are gone are forgotten."""
        kept = None if self.cache is None else kept_index(self.cache)
        found = index(self.folder, list(files_below(self.folder, self._is_left_out)), kept, self.workers)
        if self.cache is not None and not (kept is not None and kept.equals(found)):
            keep_index(found, self.cache)
        told = found.loc[found["bad"] != "", "bad"].tolist()
        if told:
            shown = "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")
            log.warning("%d files of %s cannot be read and are left out: %s", len(told), self.folder, shown)
        self.bad = told
        self._table = found.loc[found["npts"] > 0, list(TRACE)].reset_index(drop=True)
        self._rows = {str(name): np.asarray(rows) for name, rows in self._table.groupby("station").indices.items()}
        self._columns = {name: self._table[name].to_numpy() for name in ("file", *_CODES, "start_ns", "end_ns")}
        for held in (self._listings, self._tables, self._streams):
            held.clear()

    def _is_left_out(self, path: Path) -> bool:
        return bool(self._left_out) and path.resolve() in self._left_out

    def spans(self) -> pd.DataFrame:
        """When which channel has samples: columns network, station, location, channel, start_ns, end_ns, file, sampling_rate_hz.

        A row per trace of a folder. Of an SDS tree a row per file, its day from the name and its rate not known (NaN): no file
        is opened.
        """
        if not self.sds or self._table is not None:
            table = self.table
            return table[["network", "station", "location", "channel", "start_ns", "end_ns", "file", "sampling_rate_hz"]]
        rows = []
        for year in self._listed(self.folder):
            for path in _four_deep(self, self.folder / year) if re.fullmatch(r"\d{4}", year) else ():
                named = _SDS_NAME.fullmatch(path.name)
                if named and 1 <= int(named[6]) <= 366:
                    start = _day_ns(int(named[5]), int(named[6]))
                    rows.append((*named.groups()[:4], start, start + _DAY_NS, path.relative_to(self.folder).as_posix(), np.nan))
        columns = ["network", "station", "location", "channel", "start_ns", "end_ns", "file", "sampling_rate_hz"]
        return pd.DataFrame(rows, columns=columns).astype({"start_ns": "int64", "end_ns": "int64", "sampling_rate_hz": "float64"})

    def rate_hz(self, file: str) -> float:
        """Sampling rate of the first trace of a file, NaN where it cannot be read."""
        try:
            return float(read_stream(self.folder / file, headonly=True)[0].stats.sampling_rate)
        except SeislatentError:
            return float("nan")

    def read(
        self,
        network: str = "*",
        station: str = "*",
        location: str = "*",
        channel: str = "*",
        start_ns: int | None = None,
        end_ns: int | None = None,
        *,
        files: Collection[str] | None = None,
    ) -> list[Waveform]:
        """Waveforms of one channel each, a row per unbroken trace, cut to the samples nearest to the time asked for.

        Args:
            network: code, or a pattern with * and ?, as the next three.
            station: code.
            location: code; "" is a code, too.
            channel: code, such as HH? for the components of one sensor.
            start_ns: nanoseconds since 1970; None takes what there is.
            end_ns: one past the last.
            files: only these, as the table names them.

        Returns:
            In order of id and time; nothing where nothing is there. A file that cannot be read is told in the log and in `bad`.

        Raises:
            SeislatentError: an SDS archive is asked for data without a start and end.
        """
        wanted = (network, station, location, channel)
        names = list(files) if files is not None else self._files(wanted, start_ns, end_ns)
        found = []
        for name in names:
            for waveform in self._waveforms(name, wanted, start_ns, end_ns):
                c = waveform.channels[0]
                if not _fits((c.network, c.station, c.location, c.code), wanted) or waveform.data.dtype.kind in "SU":
                    continue
                cut = _cut(waveform, start_ns, end_ns)
                if cut.data.shape[1]:
                    found.append(replace(cut, metadata=cut.metadata | {"file": name}))
        return sorted(found, key=lambda w: (w.ids[0], w.start_ns))

    def _files(self, wanted: tuple[str, str, str, str], start_ns: int | None, end_ns: int | None) -> list[str]:
        """Names of the files that may hold what is asked for."""
        if self.sds and self._table is None:
            if start_ns is None or end_ns is None:
                raise SeislatentError(f"{self.folder} is an SDS archive: give start and end of what is to be read")
            return list(self._sds_files(wanted, start_ns, end_ns))
        count = len(self.table)
        station, column = wanted[1], self._columns
        rows = np.arange(count) if _is_pattern(station) else self._rows.get(station, np.empty(0, np.int64))
        if start_ns is not None:
            rows = rows[column["end_ns"][rows] > start_ns]
        if end_ns is not None:
            rows = rows[column["start_ns"][rows] < end_ns]
        ids = zip(*(column[name][rows] for name in _CODES), strict=True)
        return list(dict.fromkeys(name for name, one in zip(column["file"][rows], ids, strict=True) if _fits(one, wanted)))

    def _sds_files(self, wanted: tuple[str, str, str, str], start_ns: int, end_ns: int) -> Iterator[str]:
        network, station, location, channel = wanted
        for day in range((start_ns - _SPILL_NS) // _DAY_NS, (end_ns - 1) // _DAY_NS + 1):
            when = date(1970, 1, 1) + timedelta(days=day)
            year, number = f"{when.year:04d}", when.timetuple().tm_yday
            places = [self.folder / year]
            for pattern in (network, station, f"{channel}.D"):
                places = [p / name for p in places for name in self._matching(p, pattern)]
            for place in places:
                pattern = f"*.{location}.{place.name}.{year}.{number:03d}"
                for name in self._listed(place):
                    if fnmatchcase(name, pattern):
                        yield (place / name).relative_to(self.folder).as_posix()

    def _matching(self, folder: Path, pattern: str) -> list[str]:
        names = self._listed(folder)
        return [pattern] * (pattern in names) if not _is_pattern(pattern) else [n for n in names if fnmatchcase(n, pattern)]

    def _listed(self, folder: Path) -> tuple[str, ...]:
        """Names in a folder, asked once."""
        if folder not in self._listings:
            try:
                self._listings[folder] = tuple(sorted(name for name in os.listdir(folder) if name[0] != "."))
            except OSError:
                self._listings[folder] = ()
        return self._listings[folder]

    def _waveforms(
        self, name: str, wanted: tuple[str, str, str, str], start_ns: int | None, end_ns: int | None
    ) -> list[Waveform]:
        """What one file has around the time asked for; nothing, and a line in `bad`, where it cannot be read."""
        path = self.folder / name
        try:
            records = self._records(name, path)
            if records is None:
                return from_stream(self._stream(name, path, start_ns, end_ns))
            rows = records.rows(wanted, start_ns, end_ns)
            return from_stream(read_records(path, records.places[rows], records.length, str(path))) if len(rows) else []
        except (SeislatentError, OSError) as error:
            told = str(error) if isinstance(error, SeislatentError) else f"{path} cannot be read: {one_line(error)}"
            if told not in self.bad:
                self.bad.append(told)
                log.warning("left out: %s", told)
            return []

    def _records(self, name: str, path: Path) -> _Records | None:
        """Where the records of a miniSEED file stand, None for any other file; known as long as the file does not change."""
        about = path.stat()
        key = (name, about.st_size, about.st_mtime_ns)
        if key not in self._tables:
            self._tables[key] = _record_table(path) if about.st_size else None
            while len(self._tables) > _HELD_TABLES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(key)
        return self._tables[key]

    def _stream(self, name: str, path: Path, start_ns: int | None, end_ns: int | None) -> Stream:
        """The whole file, decoded; the last two of moderate size stay, so that neighbouring stations cost nothing.

        Of a large miniSEED file whose records cannot be told apart, what ObsPy gives for the time asked for.
        """
        about = path.stat()
        key = (name, about.st_size, about.st_mtime_ns)
        if key in self._streams:
            self._streams.move_to_end(key)
            return self._streams[key]
        if about.st_size <= _HELD_BYTES:
            self._streams[key] = read_stream(path)
            while len(self._streams) > 2:
                self._streams.popitem(last=False)
            return self._streams[key]
        if detect(path) != "MSEED":
            return read_stream(path)
        window: dict[str, Any] = {} if start_ns is None else {"starttime": UTCDateTime(ns=int(start_ns) - _SLACK_NS)}
        window |= {} if end_ns is None else {"endtime": UTCDateTime(ns=int(end_ns) + _SLACK_NS)}
        return load(str(path), "MSEED", str(path), **window)


@dataclass(frozen=True)
class _Records:
    """The records of a miniSEED file: their places, ids and times."""

    places: NDArray[np.int64]
    length: int
    ids: list[tuple[str, str, str, str]]
    owner: NDArray[np.int64]
    start_us: NDArray[np.int64]
    end_us: NDArray[np.float64]

    def rows(self, wanted: tuple[str, str, str, str], start_ns: int | None, end_ns: int | None) -> NDArray[np.int64]:
        """Records that may hold what is asked for."""
        keep = np.array([_fits(one, wanted) for one in self.ids], bool)[self.owner]
        if start_ns is not None:
            keep &= self.end_us >= (start_ns - _SLACK_NS) / 1000
        if end_ns is not None:
            keep &= self.start_us <= (end_ns + _SLACK_NS) / 1000
        return np.flatnonzero(keep)


def _record_table(path: Path) -> _Records | None:
    found = record_headers(path)
    if found is None:
        return None
    places, headers, length = found
    names = ("network", "station", "location", "code")
    keys, owner = np.unique(headers[list(names)], return_inverse=True)
    ids = [tuple(key[name].decode("ascii", "replace").strip() for name in names) for key in keys]
    start = starts_us(headers)
    return _Records(places, length, ids, owner.ravel(), start, start + durations_us(headers))  # type: ignore[arg-type]


def _is_sds(folder: Path) -> bool:
    """True where the first year that has any station holds folders of channels named as SDS names them."""
    years = sorted(p for p in folder.iterdir() if re.fullmatch(r"\d{4}", p.name) and p.is_dir())
    return any(next(year.glob("*/*/*.D"), None) is not None for year in years)


def _four_deep(archive: Archive, year: Path) -> Iterator[Path]:
    """The files of one year of an SDS tree."""
    for network in archive._listed(year):
        for station in archive._listed(year / network):
            for channel in archive._listed(year / network / station):
                if channel.endswith(".D"):
                    place = year / network / station / channel
                    yield from (place / name for name in archive._listed(place))


def _day_ns(year: int, day: int) -> int:
    days = datetime(year, 1, 1, tzinfo=UTC).toordinal() - date(1970, 1, 1).toordinal() + day - 1
    return days * _DAY_NS


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _fits(codes: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return all(code == pattern or fnmatchcase(code, pattern) for code, pattern in zip(codes, wanted, strict=True))


def _cut(waveform: Waveform, start_ns: int | None, end_ns: int | None) -> Waveform:
    """The samples nearest to a span of time."""
    rate, count = waveform.sampling_rate_hz, waveform.data.shape[1]
    if rate == 0:
        return waveform.select([]) if count == 0 else waveform
    a = 0 if start_ns is None else min(max(round((start_ns - waveform.start_ns) * rate / 1e9), 0), count)
    b = count if end_ns is None else max(min(round((end_ns - waveform.start_ns) * rate / 1e9), count), a)
    if (a, b) == (0, count):
        return waveform
    return replace(waveform, data=waveform.data[:, a:b], start_ns=waveform.start_ns + samples_ns(a, rate))
