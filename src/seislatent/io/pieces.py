"""miniSEED of any length in bounded memory: pieces of records, joined by ObsPy's own rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from obspy import Stream

from seislatent.io.plugins import load
from seislatent.io.traces import from_stream, samples_ns
from seislatent.waveform import Waveform

HEADER = np.dtype(
    [
        ("sequence", "S6"), ("quality", "S1"), ("reserved", "S1"), ("station", "S5"), ("location", "S2"), ("code", "S3"),
        ("network", "S2"), ("year", ">u2"), ("day", ">u2"), ("hour", "u1"), ("minute", "u1"), ("second", "u1"), ("unused", "u1"),
        ("fraction", ">u2"), ("samples", ">u2"), ("factor", ">i2"), ("multiplier", ">i2"), ("activity", "u1"), ("io", "u1"),
        ("dataquality", "u1"), ("blockettes", "u1"), ("correction", ">i4"), ("data", ">u2"), ("blockette", ">u2"),
    ]
)  # fmt: skip
"""The fixed part of a record's header (SEED manual 2.4, chapter 8), big-endian."""


def record_length(header: bytes) -> int | None:
    """Bytes of the record, from blockette 1000 in the chain that starts at `header`; None for what is no plain data record."""
    if len(header) < 64 or header[6:7] not in b"DRQM" or header[6:7] == b"":
        return None
    at = int.from_bytes(header[46:48], "big")
    for _ in range(8):
        if not 48 <= at <= len(header) - 8:
            return None
        kind, following = int.from_bytes(header[at : at + 2], "big"), int.from_bytes(header[at + 2 : at + 4], "big")
        if kind == 1000:
            return 1 << header[at + 6] if 7 <= header[at + 6] <= 20 else None
        if following <= at:
            return None
        at = following
    return None


def record_headers(path: Path) -> tuple[NDArray, NDArray, int] | None:
    """Places and headers of all data records, and their length in bytes.

    None for a file that is not one row of equal, big-endian records; control headers of full SEED between them are stepped over.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        lengths = [record_length(handle.read(512)) or 0, 4096, 512]
    for length in lengths:
        if not length or size % length:
            continue
        records = np.memmap(path, dtype=np.uint8, mode="r", shape=(size // length, length))
        headers = records[:, :48].copy().view(HEADER)[:, 0]
        data = np.isin(headers["quality"], [b"D", b"R", b"Q", b"M"]) & (headers["day"] >= 1) & (headers["day"] <= 366)
        control = np.isin(headers["quality"], [b"V", b"A", b"S", b"T"]) & np.char.isdigit(headers["sequence"])
        rows = np.flatnonzero(data)
        if len(rows) and (data | control).all():
            asked = rows[np.unique(np.linspace(0, len(rows) - 1, 1000, dtype=int))]
            if {record_length(bytes(records[i, :512])) for i in asked} == {length}:
                return rows, headers[rows], length
    return None


def pieces(path: str | Path, piece_bytes: int = 1 << 22, *, shown: str = "") -> Iterator[Waveform]:
    """MiniSEED in pieces of about `piece_bytes`, id after id, each in order of time; see `seislatent.io.files.iterate`.

    A file that is not one row of equal records (mixed lengths, noise between records, little-endian headers) is read whole.
    `shown` is the name for error lines, where it is not the path.
    """
    path = Path(path)
    found = record_headers(path)
    if found is None:
        yield from from_stream(load(str(path), "MSEED", shown or str(path)))
        return
    places, headers, length = found
    keys = headers[["network", "station", "location", "code", "quality"]]
    _, first, owner = np.unique(keys, return_index=True, return_inverse=True)
    start_us, duration_us = starts_us(headers), durations_us(headers)
    for one in np.argsort(first, kind="stable"):  # ids in the order of the file
        rows = np.flatnonzero(owner == one)
        gap_us = start_us[rows[1:]] - start_us[rows[:-1]] - duration_us[rows[:-1]]
        interval_us = duration_us[rows[:-1]] / np.maximum(headers["samples"][rows[:-1]], 1)
        runs = np.split(rows, np.flatnonzero(np.abs(gap_us) > interval_us / 2) + 1)
        for run in sorted(runs, key=lambda run: start_us[run[0]]):
            yield from _run_pieces(
                path, places[run], headers["samples"][run], length, max(1, piece_bytes // length), shown or str(path)
            )


def starts_us(headers: NDArray) -> NDArray[np.int64]:
    """Start of each record in microseconds since 1970, without the corrections: good enough to put runs in order."""
    years = (headers["year"].astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    names = ("day", "hour", "minute", "second", "fraction")
    day, hour, minute, second, fraction = (headers[name].astype(np.int64) for name in names)
    seconds = (years + day - 1) * 86400 + hour * 3600 + minute * 60 + second
    return seconds * 1_000_000 + fraction * 100


def durations_us(headers: NDArray) -> NDArray[np.float64]:
    """How long each record lasts in microseconds; factor and multiplier as in the SEED manual (negative ones divide)."""
    parts = np.stack([headers["factor"], headers["multiplier"]]).astype(float)
    safe = np.where(parts == 0, 1.0, parts)
    rate = np.prod(np.where(safe > 0, safe, -1 / safe), axis=0)
    return np.where((parts == 0).any(axis=0), 0.0, headers["samples"] * 1e6 / rate)


def _run_pieces(path: Path, run: NDArray, samples: NDArray, length: int, count: int, shown: str) -> Iterator[Waveform]:
    """One run of records, by their places in the file and their numbers of samples, in pieces of `count`.

    Each piece is read together with the last record of the one before it: ObsPy itself says whether the two belong together.
    """
    start_ns, done = 0, 0
    for at in range(0, len(run), count):
        before = int(samples[at - 1]) if at else 0
        found = read_records(path, run[max(at - 1, 0) : at + count], length, shown)
        for i, trace in enumerate(found):
            (waveform,) = from_stream([trace])
            if i == 0 and at and trace.stats.npts >= before:
                if trace.stats.npts == before:
                    continue
                data = waveform.data[:, before:]
                start = start_ns + samples_ns(done, waveform.sampling_rate_hz)
                waveform = replace(waveform, data=data, start_ns=start, metadata=waveform.metadata | {"continues": True})
                done += data.shape[1]
            else:
                start_ns, done = waveform.start_ns, waveform.data.shape[1]
            yield waveform


def read_records(path: Path, rows: NDArray, length: int, shown: str) -> Stream:
    """Some records of a file, through ObsPy."""
    with path.open("rb") as handle:
        parts = []
        for span in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            handle.seek(int(span[0]) * length)
            parts.append(handle.read(len(span) * length))
    return load(BytesIO(b"".join(parts)), "MSEED", shown)
