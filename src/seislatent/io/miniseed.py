"""miniSEED 2.4 out, with everything it cannot hold refused; and miniSEED of any length in, piece by piece."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from numpy.typing import NDArray
from obspy import Stream

from seislatent.errors import SeislatentError
from seislatent.io.files import from_stream, load, native, samples_ns, to_stream
from seislatent.waveform import Channel, Waveform

log = logging.getLogger(__name__)

LIMITS = {"network": 2, "station": 5, "location": 2, "code": 3}
"""ASCII characters that a SEED 2.4 header has for each code."""

_STEIM2_LIMIT = 2**29 - 1  # the largest difference of two samples that Steim2 can write


class IdsTooLong(SeislatentError):
    """Ids that miniSEED cannot hold; `.ids` is the whole list, the message names the first of them."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = tuple(ids)
        shown = ", ".join(self.ids[:20]) + (f" and {len(self.ids) - 20} more" if len(self.ids) > 20 else "")
        super().__init__(
            "miniSEED 2.4 holds network 2, station 5, location 2 and channel 3 ASCII characters without spaces at the ends;"
            f" {len(self.ids)} id{'s' * (len(self.ids) > 1)} would be cut: {shown}."
            " Keep the code file or SeisBench's layout, or give new ids with rename={old: new}"
        )


def fits(channel: Channel) -> bool:
    """True when SEED 2.4 holds every code of the channel as it is."""
    codes = {name: getattr(channel, name) for name in LIMITS}
    return all(c.isascii() and (c.isprintable() or not c) and c == c.strip() and len(c) <= LIMITS[name] for name, c in codes.items())


def write(
    waveforms: Waveform | Iterable[Waveform] | Stream,
    path: str | Path,
    overwrite: bool = False,
    *,
    rename: Mapping[str, str] | None = None,
) -> Path:
    """Write waveforms, or an ObsPy stream, as miniSEED 2.4.

    Integers become Steim2, or plain int32 where neighbours differ by 2^29 or more; float32, float64 and text stay what they
    are. Masked samples become gaps. miniSEED keeps times to the microsecond. Waveforms without samples are left out.

    Args:
        waveforms: what to write.
        path: the file; it appears only when it is complete.
        overwrite: replace an existing file.
        rename: new ids, `network.station.location.code`, by old ones.

    Raises:
        IdsTooLong: ids that SEED 2.4 would cut.
        SeislatentError: the file exists, nothing has a sample, numbers that miniSEED cannot hold, or two ids become one.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise SeislatentError(f"{path} exists: give another name, or overwrite it (overwrite=True, --overwrite)")
    if not path.parent.is_dir():
        raise SeislatentError(f"{path.parent} is no folder: make it first")
    records = _renamed(_as_waveforms(waveforms), rename or {})
    misfits = dict.fromkeys(c.id for w in records for c in w.channels if not fits(c))
    if misfits:
        raise IdsTooLong(misfits)
    full = [w for w in records if w.data.shape[1]]
    if not full:
        raise SeislatentError(f"no waveform has a sample, and miniSEED cannot hold an empty one: {path} is not written")
    if len(full) < len(records):
        log.warning("%s: %d waveforms without samples are left out: miniSEED cannot hold them", path, len(records) - len(full))
    parts = [_writable(w) for w in full]
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as handle:
        temporary = Path(handle.name)
        try:
            for waveform, encoding in parts:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # ObsPy tells of ids it cuts (refused above) and of byte order
                    to_stream(waveform).write(handle, format="MSEED", encoding=encoding)
        except SeislatentError:
            temporary.unlink()
            raise
        except Exception as error:
            temporary.unlink()
            raise SeislatentError(f"{path} cannot be written: {' '.join(str(error).split())}") from error
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)
    os.replace(temporary, path)
    return path


def _as_waveforms(given: Waveform | Iterable[Waveform] | Stream) -> list[Waveform]:
    if isinstance(given, Stream):
        return from_stream(given)
    return [given] if isinstance(given, Waveform) else list(given)


def _renamed(waveforms: list[Waveform], rename: Mapping[str, str]) -> list[Waveform]:
    """The waveforms under their new ids; two ids that would become one are refused."""
    if not rename:
        return waveforms
    became: dict[str, str] = {}
    for old in dict.fromkeys(i for w in waveforms for i in w.ids):
        text = rename.get(old, old)
        if text in became:
            raise SeislatentError(f"rename makes {became[text]} and {old} the same id {text}: give each its own")
        if old in rename and text.count(".") != 3:
            raise SeislatentError(f"rename gives '{text}' for {old}: an id is network.station.location.code")
        became[text] = old

    def renamed(channel: Channel) -> Channel:
        if channel.id not in rename:
            return channel
        network, station, location, code = rename[channel.id].split(".")
        return replace(channel, network=network, station=station, location=location, code=code)

    return [replace(w, channels=tuple(map(renamed, w.channels))) for w in waveforms]


def _writable(waveform: Waveform) -> tuple[Waveform, str]:
    """The waveform in a type that miniSEED holds, and the name of the encoding."""
    data: NDArray = np.ascontiguousarray(native(waveform.data))
    if data.dtype.kind in "SU":
        try:
            return replace(waveform, data=data.astype("S1")), "ASCII"
        except UnicodeEncodeError as error:
            raise SeislatentError(f"{', '.join(waveform.ids)} holds text that is not ASCII: miniSEED cannot hold it") from error
    if data.dtype == np.int64:
        raise SeislatentError(f"{', '.join(waveform.ids)} holds integers beyond 32 bits: miniSEED cannot; convert them to float64")
    if data.dtype == np.int32:
        wide = np.abs(np.diff(data.astype(np.int64), axis=1, prepend=0)).max(initial=0) > _STEIM2_LIMIT
        return replace(waveform, data=data), "INT32" if wide else "STEIM2"
    return replace(waveform, data=data), {"float32": "FLOAT32", "float64": "FLOAT64"}[data.dtype.name]


_HEADER = np.dtype(
    [
        ("sequence", "S6"), ("quality", "S1"), ("reserved", "S1"), ("station", "S5"), ("location", "S2"), ("code", "S3"),
        ("network", "S2"), ("year", ">u2"), ("day", ">u2"), ("hour", "u1"), ("minute", "u1"), ("second", "u1"), ("unused", "u1"),
        ("fraction", ">u2"), ("samples", ">u2"), ("factor", ">i2"), ("multiplier", ">i2"), ("activity", "u1"), ("io", "u1"),
        ("dataquality", "u1"), ("blockettes", "u1"), ("correction", ">i4"), ("data", ">u2"), ("blockette", ">u2"),
    ]
)  # fmt: skip
"""The fixed part of a record's header (SEED manual 2.4, chapter 8), big-endian."""


def _record_length(header: bytes) -> int | None:
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


def _index(path: Path) -> tuple[NDArray, int] | None:
    """Headers of all records and their length, or None for a file that is not one row of equal, big-endian data records."""
    with path.open("rb") as handle:
        length = _record_length(handle.read(512))
    size = path.stat().st_size
    if length is None or size % length:
        return None
    records = np.memmap(path, dtype=np.uint8, mode="r", shape=(size // length, length))
    headers = records[:, :48].copy().view(_HEADER)[:, 0]
    plain = np.isin(headers["quality"], [b"D", b"R", b"Q", b"M"]) & (headers["day"] >= 1) & (headers["day"] <= 366)
    lengths = {_record_length(bytes(records[i, :512])) for i in np.unique(np.linspace(0, len(records) - 1, 1000, dtype=int))}
    if not plain.all() or lengths != {length}:
        return None
    return headers, length


def pieces(path: str | Path, piece_bytes: int = 1 << 22) -> Iterator[Waveform]:
    """miniSEED in pieces of about `piece_bytes`, id after id, each in order of time; see `seislatent.io.files.iterate`.

    A file that is not one row of equal records (full SEED, mixed lengths, noise between records) is read whole.
    """
    from seislatent.io.files import read

    path = Path(path)
    found = _index(path)
    if found is None:
        yield from read(path)
        return
    headers, length = found
    keys = headers[["network", "station", "location", "code", "quality"]]
    _, first, owner = np.unique(keys, return_index=True, return_inverse=True)
    start_us, duration_us = _start_us(headers), _duration_us(headers)
    for one in np.argsort(first, kind="stable"):  # ids in the order of the file
        rows = np.flatnonzero(owner == one)
        gap_us = start_us[rows[1:]] - start_us[rows[:-1]] - duration_us[rows[:-1]]
        interval_us = duration_us[rows[:-1]] / np.maximum(headers["samples"][rows[:-1]], 1)
        runs = np.split(rows, np.flatnonzero(np.abs(gap_us) > interval_us / 2) + 1)
        for run in sorted(runs, key=lambda run: start_us[run[0]]):
            yield from _run_pieces(path, run, length, max(1, piece_bytes // length), headers["samples"])


def _start_us(headers: NDArray) -> NDArray[np.int64]:
    """Start of each record in microseconds since 1970, without the corrections: good enough to put runs in order."""
    years = (headers["year"].astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    seconds = (years + headers["day"] - 1) * 86400 + headers["hour"] * 3600 + headers["minute"] * 60 + headers["second"]
    return seconds * 1_000_000 + headers["fraction"].astype(np.int64) * 100


def _duration_us(headers: NDArray) -> NDArray[np.float64]:
    """How long each record lasts in microseconds; factor and multiplier as in the SEED manual (negative ones divide)."""
    parts = np.stack([headers["factor"], headers["multiplier"]]).astype(float)
    safe = np.where(parts == 0, 1.0, parts)
    rate = np.prod(np.where(safe > 0, safe, -1 / safe), axis=0)
    return np.where((parts == 0).any(axis=0), 0.0, headers["samples"] * 1e6 / rate)


def _run_pieces(path: Path, run: NDArray, length: int, count: int, samples: NDArray) -> Iterator[Waveform]:
    """One run of records in pieces of `count`.

    Each piece is read together with the last record of the one before it: ObsPy itself says whether the two belong together.
    """
    start_ns, done = 0, 0
    for at in range(0, len(run), count):
        before = int(samples[run[at - 1]]) if at else 0
        found = _read_records(path, run[max(at - 1, 0) : at + count], length)
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


def _read_records(path: Path, rows: NDArray, length: int) -> Stream:
    """Some records of a file, through ObsPy."""
    with path.open("rb") as handle:
        parts = []
        for span in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            handle.seek(int(span[0]) * length)
            parts.append(handle.read(len(span) * length))
    return load(BytesIO(b"".join(parts)), "MSEED", str(path))
