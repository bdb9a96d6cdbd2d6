"""Records of any source as one sequence with one table.

Record stores, SeisBench folders, STEAD's and LEN-DB's own files, folders of waveform files, single files.
"""

from __future__ import annotations

import copy
import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from obspy import Trace, UTCDateTime

from seislatent.data.gathered import GatheredFiles
from seislatent.errors import SeislatentError
from seislatent.io.files import from_stream, read_stream, samples_ns
from seislatent.io.native_hdf5 import NativeFile, layout_of
from seislatent.io.seisbench import SeisBenchFile, is_seisbench
from seislatent.io.traces import channel_of, metadata_of
from seislatent.waveform import Waveform

log = logging.getLogger(__name__)

BLOCK_S = 3600.0
"""Longer traces are cut at whole hours of UTC, so that stations recorded together are cut alike."""

_HELD = 4

COLUMNS: dict[str, Any] = {
    "dataset": str, "trace_name": str, "source_id": str, "start_ns": "Int64", "station_network_code": str, "station_code": str,
    "station_location_code": str, "trace_channel": str, "trace_sampling_rate_hz": float, "trace_npts": "Int64",
    "trace_p_arrival_sample": float, "split": str,
}  # fmt: skip
"""Columns that every table of records has; what a source does not say is missing."""

_NO_WAVEFORMS = frozenset({".md", ".csv", ".json", ".jsonl", ".xml", ".png", ".jpg", ".pdf", ".py", ".yaml", ".yml", ".html"})


class Records(Sequence[Waveform]):
    """Records of one or several sources, each read when it is asked for; `metadata` has one row per record.

    May be handed to worker processes: files are opened by each process for itself.
    """

    def __init__(
        self, parts: Sequence[Sequence[Waveform]], metadata: pd.DataFrame, where: np.ndarray,
        notes: Sequence[str] = (), left_out: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        self.parts, self.metadata, self._where = parts, metadata, where
        self.notes = [*notes]
        """What the source holds that cannot be used, a line each."""
        self.left_out = [*left_out]
        """Name and reason of what would be a record, but has no samples: a pick without a waveform."""

    @classmethod
    def joined(cls, parts: Sequence[Any], names: Sequence[str]) -> Records:
        """The records of several sources, each under its name, with what they tell by `metadata`, `notes` and `left_out`."""
        tables = [table_of(part.metadata, name) for part, name in zip(parts, names, strict=True)]
        where = np.concatenate([np.stack([np.full(len(t), k), np.arange(len(t))], axis=1) for k, t in enumerate(tables)])
        table = pd.concat([t for t in tables if len(t)] or tables[:1], ignore_index=True)
        notes = [line for part in parts for line in getattr(part, "notes", ())]
        left_out = [one for part in parts for one in getattr(part, "left_out", ())]
        return cls(parts, table, where, notes, left_out)

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        part, row = self._where[i]
        return _told(self.parts[part][int(row)], self.metadata["dataset"].iloc[i], self.metadata["split"].iloc[i])

    def several(self, rows: Any) -> Iterator[Waveform | SeislatentError]:
        """For each of some rows, in their order, its record or the error that reading it raised: one does not stop the others.

        Reads many at once where the source can.
        """
        chosen = np.asarray(rows, np.int64)
        edges = np.flatnonzero(np.diff(self._where[chosen, 0])) + 1
        for run in np.split(chosen, edges) if len(chosen) else ():
            part = self.parts[self._where[run[0], 0]]
            inside = self._where[run, 1]
            found = part.several(inside) if hasattr(part, "several") else _each(part, inside)
            said = (self.metadata[column].iloc[run].tolist() for column in ("dataset", "split"))
            for one, dataset, split in zip(found, *said, strict=True):
                yield one if isinstance(one, SeislatentError) else _told(one, dataset, split)

    def select(self, rows: Any) -> Records:
        """Some of the records: by a mask (such as `metadata["split"] == "test"`) or by positions."""
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        table = self.metadata.iloc[chosen].reset_index(drop=True)
        return Records(self.parts, table, self._where[chosen], self.notes, self.left_out)

    def excerpt(self, rows: Any) -> Records:
        """As `select`, with no more of the sources' tables than these records need: what is handed to another process is small."""
        chosen = self.select(rows)
        where = chosen._where.copy()
        parts: list[Sequence[Waveform]] = []
        for k in np.unique(where[:, 0]):
            mine = chosen._where[:, 0] == k
            part = self.parts[k]
            if hasattr(part, "only"):
                part = part.only(where[mine, 1])
                where[mine, 1] = np.arange(mine.sum())
            where[mine, 0] = len(parts)
            parts.append(part)
        return Records(parts, chosen.metadata, where)

    def with_split(self, split: Sequence[str] | pd.Series) -> Records:
        """The same records with another column `split`."""
        return Records(self.parts, self.metadata.assign(split=np.asarray(split)), self._where, self.notes, self.left_out)


def _told(waveform: Waveform, dataset: Any, split: Any) -> Waveform:
    """The record with what the table says of it."""
    told = {"dataset": dataset} | ({} if pd.isna(split) else {"split": split})
    return replace(waveform, metadata=waveform.metadata | told)


def _each(part: Sequence[Waveform], rows: Iterable[int]) -> Iterator[Waveform | SeislatentError]:
    for row in rows:
        try:
            yield part[int(row)]
        except SeislatentError as error:
            yield error.with_traceback(None)


def open_records(
    path: str | Path | Iterable[str | Path], *, block_s: float | None = BLOCK_S, components: str | Sequence[str] | None = None,
    physical: bool = False,
) -> Records:  # fmt: skip
    """Records of a file, a folder, or several of them.

    Args:
        path: a record store; a folder in SeisBench's layout; an HDF5 file in STEAD's or LEN-DB's own; a folder that holds such at
            any depth (its other files are then left out); a folder of waveform files at any depth; one waveform file; or a list of
            these. A waveform file gives one record of one channel per trace.
        block_s: traces of files that are longer are cut at whole multiples of this since 1970; None keeps them whole.
        components: put the traces of waveform files together to records of a station and sensor with these components, such as
            "ZNE" (`seislatent.data.gather`); what makes none keeps its row, and reading it raises `Unfit`.
        physical: give the samples of waveform files in SI units where the format says how (`seislatent.prepare.response.to_si`).

    Raises:
        SeislatentError: nothing is there, or nothing can be read. Unreadable files beside readable ones are named in one
            warning.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(p) for p in path]
    parts: list[Any] = []
    names: list[str] = []
    bad: list[str] = []
    for one in paths:
        for name, part in _parts(one, block_s, bad):
            if isinstance(part, WaveformFiles) and len(part) and (components is not None or physical):
                part = GatheredFiles(part, part.metadata, components, physical=physical)
            parts.append(part)
            names.append(name)
    if bad:
        shown = "; ".join(bad[:5]) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
        log.warning("%d of the files cannot be read and are left out: %s", len(bad), shown)
    if not sum(map(len, parts)):
        told = f": {bad[0]}" if bad else ""
        raise SeislatentError(f"no record in {', '.join(map(str, paths))}{told}; give a SeisBench folder, or waveform files")
    found = Records.joined(parts, names)
    found.notes += bad
    return found


def _parts(path: Path, block_s: float | None, bad: list[str]) -> list[tuple[str, Any]]:
    """Named sources under one path; what cannot be read is added to `bad`."""
    if path.is_file():
        if _is_hdf5(path):
            folder = path.parent
            alone = layout_of(path) is None and is_seisbench(folder) and path.name.startswith("waveforms")
            return [(folder.name, SeisBenchFile(folder)) if alone else (path.stem, NativeFile(path))]
        found = WaveformFiles([path], block_s)
        bad += found.bad
        return [(path.parent.name, found)]
    if not path.is_dir():
        raise SeislatentError(f"{path} does not exist: give a file or a folder with records")
    sources = sources_below(path)
    sets: list[tuple[str, Any]] = []
    for source, kind in sources:
        inside = source.relative_to(path).as_posix()
        name = path.name if source == path or (kind is NativeFile and len(sources) == 1) else inside.removesuffix(source.suffix)
        try:
            sets.append((name, kind(source)))
        except SeislatentError as error:
            if len(sources) == 1:
                raise
            bad.append(str(error))
    if sources:
        return sets
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and p.suffix.lower() not in _NO_WAVEFORMS and p.name[0] != "."]
    if not files:
        raise SeislatentError(f"{path} holds no waveform file: give a SeisBench folder, or a folder of waveform files")
    found = WaveformFiles(files, block_s, root=path)
    bad += found.bad
    return [(path.name, found)]


def sources_below(path: Path) -> list[tuple[Path, Any]]:
    """Record sets at or below a folder, and what opens each."""
    from seislatent.data.store import Store, is_store  # whose writer knows recipes, which know this file

    found: list[tuple[Path, Any]] = []
    for place, folders, files in os.walk(path):
        folder = Path(place)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        if is_store(folder):
            found.append((folder, Store))
            folders.clear()
            continue
        if "shards" in folders and any(folder.glob("shards/*/x.bin")):
            raise SeislatentError(f"{folder} holds shards but no table: the store is not finished; run the same command again")
        arrays = [folder / name for name in sorted(files) if name[0] != "." and Path(name).suffix.lower() in (".hdf5", ".h5")]
        own = [p for p in arrays if p.is_file() and _is_native(p)]
        if is_seisbench(folder) and not own:
            found.append((folder, SeisBenchFile))
        else:
            found += [(p, NativeFile) for p in own]
    return found


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(8) == b"\x89HDF\r\n\x1a\n"


def _is_native(path: Path) -> bool:
    try:
        return _is_hdf5(path) and layout_of(path) is not None
    except (SeislatentError, OSError):  # damaged: who opens it says so
        return False


def table_of(metadata: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table of one source with every column of `COLUMNS`; text is text, missing where it is not given."""
    table = metadata.assign(dataset=name)
    for column, kind in COLUMNS.items():
        if kind is str:
            table[column] = table[column].astype(object).where(table[column].notna(), None) if column in table else None
        else:
            values = pd.to_numeric(table[column], errors="coerce") if column in table else pd.Series(np.nan, index=table.index)
            if kind == "Int64" and values.dtype.kind != "i":  # what is no whole number is missing
                values = values.astype(float).where(lambda v: (v % 1 == 0) & (v.abs() < 2**53))
            table[column] = values.astype(kind)
    return table


class WaveformFiles(Sequence[Waveform]):
    """The traces of waveform files as records of one channel, cut at whole multiples of `block_s`.

    Opening reads the headers only (of miniSEED and SAC; other files are read once); files that cannot be read stand in `bad`.
    Text, empty traces and traces without a rate are no records.
    """

    def __init__(self, files: Sequence[Path], block_s: float | None = BLOCK_S, *, root: Path | None = None) -> None:
        rows: list[dict[str, Any]] = []
        self.bad: list[str] = []
        for path in files:
            name = path.relative_to(root).as_posix() if root else path.name
            try:
                stream = read_stream(path, headonly=True)
                if stream[0].stats._format not in ("MSEED", "SAC"):  # a damaged one shows only when the samples are read
                    stream = read_stream(path)
            except SeislatentError as error:
                self.bad.append(str(error))
                continue
            for i, trace in enumerate(stream):
                rows += _blocks(trace, {"file": str(path), "trace_name": f"{name}#{i}", "trace": i}, block_s)
        self.metadata = pd.DataFrame(rows)
        self._held: OrderedDict[tuple[int, str], Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": OrderedDict()}

    def only(self, rows: Any) -> WaveformFiles:
        """The same source with some rows of its table alone, for another process: item i is row i of the new table."""
        found = copy.copy(self)
        found.metadata = self.metadata.iloc[np.asarray(rows, np.int64)].reset_index(drop=True)
        return found

    def __len__(self) -> int:
        return len(self.metadata)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        row = self.metadata.iloc[i]
        stream = self._stream(row["file"])
        trace: Trace = stream[row["trace"]]
        piece = trace.copy() if trace.stats.npts == row["trace_npts"] else _cut(trace, int(row["first"]), int(row["trace_npts"]))
        waveform = from_stream([piece])[0]
        return replace(waveform, metadata=waveform.metadata | {"trace_name": row["trace_name"]})

    def _stream(self, file: str) -> Any:
        """The last files stay read, so that neighbouring records and the channels of a station cost nothing."""
        key = (os.getpid(), file)
        if key not in self._held:
            self._held[key] = read_stream(file)
            while len(self._held) > _HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]


def _cut(trace: Trace, first: int, count: int) -> Trace:
    piece = Trace(header=trace.stats.copy())
    piece.data = trace.data[first : first + count]
    piece.stats.starttime = UTCDateTime(ns=trace.stats.starttime.ns + samples_ns(first, float(trace.stats.sampling_rate)))
    return piece


def _blocks(trace: Trace, about: dict[str, Any], block_s: float | None) -> list[dict[str, Any]]:
    """One row per block of a trace, none for text and for traces without samples or rate."""
    stats = trace.stats
    rate, count, start_ns = float(stats.sampling_rate), int(stats.npts), int(stats.starttime.ns)
    if count == 0 or rate <= 0 or stats.get("mseed", {}).get("encoding") == "ASCII" or trace.data.dtype.kind in "SU":
        return []
    cuts = [0, count]
    if block_s is not None and count > block_s * rate:
        block_ns = round(block_s * 1e9)
        edges = np.arange(start_ns // block_ns + 1, (start_ns + samples_ns(count, rate)) // block_ns + 1) * block_ns
        cuts = sorted({0, count, *(min(count, round((int(e) - start_ns) * rate / 1e9)) for e in edges)})
    channel = channel_of(stats)
    common = about | metadata_of(stats) | {
        "station_network_code": channel.network, "station_code": channel.station, "station_location_code": channel.location,
        "trace_channel": channel.code, "trace_sampling_rate_hz": rate, "station_latitude_deg": channel.latitude_deg,
        "station_longitude_deg": channel.longitude_deg,
    }  # fmt: skip
    rows = []
    for k, (a, b) in enumerate(pairwise(cuts)):
        name = about["trace_name"] + (f"/{k}" if len(cuts) > 2 else "")
        rows.append(common | {"trace_name": name, "first": a, "trace_npts": b - a, "start_ns": start_ns + samples_ns(a, rate)})
    return rows
