"""The code file (`.slat`): traces as the indices of a codec, level by level, so that a prefix of the file decodes at a lower level.

    start (twice: header and table of traces) | side information | samples stored as they are | level 1 | level 2 | ... | level 8

docs/formats/slat.md tells it byte by byte. This module knows no model: it holds and checks numbers.
"""

from __future__ import annotations

import html
import io
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from seislatent.components import unoriented
from seislatent.errors import SeislatentError
from seislatent.io.bits import Malformed, unpack
from seislatent.io.slat_lossless import chunk_samples, inflate
from seislatent.io.slat_side import unpack_side
from seislatent.io.slat_spool import replacing
from seislatent.io.slat_table import CODES, CRC_BYTES, LOSSLESS, MAGIC, SIDE, Entry, Head, Section

from seislatent.io.slat_table import pack_start, sections, unpack_start  # isort: skip

DAMAGED, MISSING = "damaged", "cut off"


@dataclass(frozen=True)
class Damage:
    """A span of time that does not decode as it was coded."""

    id: str
    start_ns: int
    end_ns: int
    level: int
    """What is left of it; 0 is a gap."""
    cause: str

    def __str__(self) -> str:
        span = f"{self.id or 'trace without id'} from {iso(self.start_ns)} to {iso(self.end_ns)}"
        return f"{span}: {self.cause}, {f'decodes at level {self.level}' if self.level else 'lost, a gap'}"


@dataclass(frozen=True)
class Run:
    """Up to 16 consecutive segments of a trace as a decoder needs them."""

    offsets: list[int]
    scales: list[NDArray[np.int64]]
    """[frame] of each segment."""
    indices: list[NDArray[np.int64]]
    """[book frame] of each segment."""


@dataclass(frozen=True, eq=False)
class Codes:
    """What a code file holds. Opened from a path it reads only what is asked for."""

    head: Head
    traces: tuple[Entry, ...]
    parts: tuple[Section, ...]
    body: memoryview
    """All bytes behind the second block; fewer than `parts` say where the file was cut."""
    damage: tuple[str, ...] = ()
    """What was wrong with the start of the file, though it could be read."""

    # -- files ----------------------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, source: str | Path | bytes | bytearray | memoryview) -> Codes:
        """Open a code file, or one held in bytes. Its name does not matter, its first bytes do.

        Raises:
            SeislatentError: no such file, no code file, or one whose start cannot be read.
        """
        data, name = (_mapped(Path(source)), f"{source}: ") if isinstance(source, str | Path) else (memoryview(source), "")
        try:
            start = unpack_start(data)
        except SeislatentError as error:
            raise SeislatentError(f"{name}{error}") from error
        return cls(start.head, start.entries, start.sections, data[start.body :], start.damage)

    def write(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the file; it appears under its name only when it is complete."""
        with replacing(path, overwrite) as target:
            self._copy(target)
        return Path(path)

    def to_bytes(self) -> bytes:
        """The file's bytes."""
        target = io.BytesIO()
        self._copy(target)
        return target.getvalue()

    def _copy(self, target: IO[bytes]) -> None:
        target.write(pack_start(self.head, self.traces))
        last = len(self.parts) - 1
        for i, part in enumerate(self.parts):
            held = self.body[part.offset : part.offset + part.length]
            target.write(held)
            if i < last and part.length > len(held) and any(p.offset < len(self.body) for p in self.parts[i + 1 :]):
                target.write(bytes(part.length - len(held)))

    def truncate(self, level: int) -> Codes:
        """The same file with the first `level` levels only: what encoding at that level would have written."""
        self.served(level)
        count = len(self.parts) - self.head.level + level
        codes = replace(self, head=replace(self.head, level=level), parts=self.parts[:count], damage=())
        return Codes.read(codes.to_bytes())

    def served(self, level: int | None) -> int:
        """The level to decode: the one asked for if the file holds it, all by default.

        Raises:
            SeislatentError: the file holds fewer levels.
        """
        if level is None:
            return self.level
        if not 1 <= level <= self.level:
            raise SeislatentError(f"level {level}: this code file holds levels 1 to {self.level}")
        return level

    # -- what it holds --------------------------------------------------------------------------------------------------------

    @property
    def level(self) -> int:
        """Levels stored."""
        return self.head.level

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each trace: its first byte among its own chunks' section, and in a level."""
        own = np.array([0] + [e.own_bytes for e in self.traces], dtype=object)
        coded = np.array([False] + [e.frames > 0 for e in self.traces])
        level = np.array([0] + [self.head.level_bytes(e.frames) if e.frames else 0 for e in self.traces], dtype=object)
        side, plain = np.cumsum(np.where(coded, own, 0)), np.cumsum(np.where(coded, 0, own))
        start = np.where(np.append(coded[1:], True), side, plain)
        return start, np.cumsum(level)

    @cached_property
    def _own(self) -> dict[int, NDArray[np.int64]]:
        return {}

    def _own_place(self, trace: int, chunk: int) -> int:
        if trace not in self._own:
            self._own.clear()
            self._own[trace] = np.cumsum([0, *(n + CRC_BYTES for n in self.traces[trace].chunks)])
        return int(self._places[0][trace] + self._own[trace][chunk])

    def _chunk(self, kind: int, level: int, at: int, length: int) -> memoryview | str:
        """A chunk whose CRC is right, or what is wrong with it."""
        part = next(p for p in self.parts if (p.kind, p.level) == (kind, level))
        whole = self.body[part.offset + at : part.offset + at + length + CRC_BYTES]
        if len(whole) < length + CRC_BYTES:
            return MISSING
        if zlib.crc32(whole[:length]).to_bytes(CRC_BYTES, "little") != whole[length:]:
            return DAMAGED
        return whole[:length]

    def samples(self, trace: int, chunk: int) -> NDArray[Any] | str:
        """Samples [time] of a chunk of a trace stored as it is, or what is wrong with it."""
        entry = self.traces[trace]
        data = self._chunk(LOSSLESS, 0, self._own_place(trace, chunk), entry.chunks[chunk])
        if isinstance(data, str):
            return data
        dtype = np.dtype(entry.dtype)
        step = chunk_samples(dtype)
        try:
            return inflate(data, dtype, min(step, entry.samples - chunk * step))
        except Malformed:
            return DAMAGED

    def reach(self, trace: int, run: int, level: int | None = None) -> tuple[int, str]:
        """The level at which a run decodes, and why not at the one asked for ("" where it does)."""
        entry, wanted = self.traces[trace], self.served(level)
        side = self._side(trace, run)
        if isinstance(side, str):
            return 0, side
        for k in range(1, wanted + 1):
            data = self._codes(entry, trace, run, k)
            if isinstance(data, str):
                return k - 1, data
        return wanted, ""

    def _side(self, trace: int, run: int) -> tuple[list[int], list[NDArray[np.int64]]] | str:
        entry = self.traces[trace]
        data = self._chunk(SIDE, 0, self._own_place(trace, run), entry.chunks[run])
        if isinstance(data, str):
            return data
        if isinstance(first := self._codes(entry, trace, run, 1), str):  # nothing is allocated for segments that are not there
            return first
        try:
            return unpack_side(data, self.head.lengths(entry.frames, run))
        except Malformed:
            return DAMAGED

    def _codes(self, entry: Entry, trace: int, run: int, level: int) -> memoryview | str:
        full = self.head.chunk_bytes(entry.frames, 0) + CRC_BYTES
        return self._chunk(CODES, level, int(self._places[1][trace]) + run * full, self.head.chunk_bytes(entry.frames, run))

    def run(self, trace: int, run: int, level: int) -> Run | None:
        """A run of segments with the first `level` books, None where `reach` says less."""
        entry = self.traces[trace]
        side = self._side(trace, run)
        if isinstance(side, str):
            return None
        lengths = self.head.lengths(entry.frames, run)
        books = []
        for k in range(1, level + 1):
            data = self._codes(entry, trace, run, k)
            if isinstance(data, str):
                return None
            books.append(unpack(data, self.head.bits, sum(lengths)))
        indices = np.split(np.stack(books), np.cumsum(lengths)[:-1], 1)
        return Run(*side, indices)

    def check(self, level: int | None = None) -> list[Damage]:
        """Every span that is damaged or cut off, neighbours of one kind told as one."""
        found: list[Damage] = []
        level = self.served(level)
        for t, entry in enumerate(self.traces):
            fresh = True
            for start, end, reached, cause in self._states(t, level):
                if not cause:
                    fresh = True
                    continue
                span = Damage(entry.channel.id, entry.time_ns(start), entry.time_ns(end), reached, cause)
                if not fresh and (found[-1].level, found[-1].cause) == (reached, cause):
                    found[-1] = replace(found[-1], end_ns=span.end_ns)
                else:
                    found.append(span)
                fresh = False
        return found

    def _states(self, trace: int, level: int) -> Iterator[tuple[float, float, int, str]]:
        """First sample, one past the last, level reached and cause of every chunk of a trace."""
        entry = self.traces[trace]
        if entry.frames:
            ratio = self.samples_per_frame(entry)
            for run in range(len(entry.chunks)):
                start = run * self.head.run * self.head.hop
                frames = sum(self.head.lengths(entry.frames, run)) - len(self.head.lengths(entry.frames, run)) + 1
                yield start * ratio, min((start + frames) * ratio, entry.samples), *self.reach(trace, run, level)
        else:
            step = chunk_samples(np.dtype(entry.dtype))
            for chunk in range(len(entry.chunks)):
                data = self.samples(trace, chunk)
                cause = data if isinstance(data, str) else ""
                yield chunk * step, min((chunk + 1) * step, entry.samples), 0 if cause else level, cause

    def samples_per_frame(self, entry: Entry) -> float:
        """Original samples in a frame."""
        return self.head.frame * entry.sampling_rate_hz / self.head.sampling_rate_hz

    # -- in words -------------------------------------------------------------------------------------------------------------

    @property
    def bits_per_second(self) -> float:
        """Nominal rate of the levels stored, in bit/s."""
        return self.level * self.head.bits * self.head.sampling_rate_hz / self.head.frame

    def info(self) -> dict[str, Any]:
        """What the file holds and costs, as plain values."""
        coded = [e for e in self.traces if e.frames]
        plain = [e for e in self.traces if not e.frames]
        start = len(pack_start(self.head, self.traces))
        stored = {(p.kind, p.level): p.length for p in sections(self.head, self.traces)}
        size = start + sum(stored.values())
        duration = sum(e.samples / e.sampling_rate_hz for e in coded)
        without = size - stored[LOSSLESS, 0]
        rate = without * 8 / duration if duration else None
        first = self.head.chunk_bytes(coded[0].frames, 0) + CRC_BYTES if coded else 0
        before = start + stored[SIDE, 0] + stored[LOSSLESS, 0]
        half = self.head.sampling_rate_hz / 2
        return {
            "codec": self.head.codec, "version": self.head.version, "weights": self.head.digest, "level": self.level,
            "traces": [self._row(e) for e in self.traces],
            "duration_s": duration,
            "bits_per_second": self.bits_per_second,
            "file_bits_per_second": rate,
            "overhead": rate / self.bits_per_second - 1 if rate else None,
            "bytes": size,
            "lossless_bytes": stored[LOSSLESS, 0],
            "missing_bytes": max(0, size - start - len(self.body)),
            "smallest_prefix_bytes": before + first if coded else start,
            "prefix_bytes": {k: before + k * stored[CODES, 1] for k in range(1, self.level + 1)} if coded else {},
            "lossless": [{"id": e.channel.id, "reason": e.reason} for e in plain],
            "dropped": [
                {"id": e.channel.id, "above_hz": half, "sampling_rate_hz": e.sampling_rate_hz}
                for e in coded if e.sampling_rate_hz > self.head.sampling_rate_hz
            ],
            "unoriented": [e.channel.id for e in self.traces if unoriented(e.channel)],
            "damage": [*self.damage, *map(str, self.check())],
        }  # fmt: skip

    def _row(self, e: Entry) -> dict[str, Any]:
        return {
            "id": e.channel.id, "start": iso(e.start_ns), "sampling_rate_hz": e.sampling_rate_hz, "samples": e.samples,
            "dtype": np.dtype(e.dtype).name, "unit": e.unit, "coded": bool(e.frames),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"Codes({self.head.codec}, level {self.level}, {len(self.traces)} traces)"

    def _repr_html_(self) -> str:
        told = self.info()
        rows = "".join(
            f"<tr><td>{html.escape(t['id'])}</td><td>{t['start']}</td><td>{t['sampling_rate_hz']:g}</td><td>{t['samples']}</td>"
            f"<td>{'coded' if t['coded'] else 'as it is'}</td></tr>"
            for t in told["traces"][:50]
        )
        more = f"<p>and {len(self.traces) - 50} more</p>" if len(self.traces) > 50 else ""
        return (
            f"<p><b>{html.escape(self.head.codec)}</b>, level {self.level}, {told['bits_per_second']:g} bit/s nominal,"
            f" {told['bytes']} bytes</p>"
            f"<table><tr><th>id</th><th>start</th><th>Hz</th><th>samples</th><th>stored</th></tr>{rows}</table>{more}"
        )


def is_slat(path: str | Path) -> bool:
    """True for a file that starts with the magic bytes of a code file."""
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def iso(time_ns: int) -> str:
    """A time in nanoseconds since 1970 as text, to the nanosecond."""
    seconds, rest = divmod(time_ns, 10**9)
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{day:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _mapped(path: Path) -> memoryview:
    """A file's bytes, read when they are looked at."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise SeislatentError(f"{path} {what}: give the path of a code file (.slat)")
    if path.stat().st_size == 0:
        raise SeislatentError(f"{path} is empty (0 bytes): no code file")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
