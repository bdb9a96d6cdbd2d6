"""The start of a `.slat` file: what the whole file says, and its table of traces (docs/formats/slat.md, sections 2 to 4).

    (Head, entries) --pack_start--> bytes: magic, version, twice the same block --unpack_start--> Start

Nothing here believes what it reads: every count and length is compared with the bytes that are there before anything is allocated.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seislatent.errors import SeislatentError
from seislatent.io.bits import Cursor, Malformed, packed_length, text, varint, zigzag
from seislatent.io.slat_lossless import CHUNK_BYTES, chunk_samples
from seislatent.waveform import Channel

MAGIC = b"\x95SLAT\r\n\x1a"
VERSION = 1
FINAL_LAYOUT, DEFLATED_TABLE = 1, 2
"""Flags of a file: every section stands at its final place; the table of traces is deflated."""
SIDE, LOSSLESS, CODES = 1, 2, 3
"""Types of section."""
CRC_BYTES = 4
PRELUDE, FRAME = struct.Struct("<8sHHI"), struct.Struct("<II")
MOST_TRACES, TIGHTEST = 2**18, 8
"""Traces in a file, and how many times its table may be deflated: together they bound the memory a hostile table can ask for."""
RUN_FRAMES = 2**14
"""Most frames of the segments in a chunk, which a decoder takes at once: eight times what this program writes."""
SLOWEST_HZ, FASTEST_HZ, MOST_FRAMES = 1.0, 10_000.0, 2**40
"""Of coded traces in a file; what a codec serves may be less."""
_DTYPE = re.compile(r"<(i[248]|u[248]|f[248]|c8|c16)|\|([iub]1|S([1-9]|[1-5]\d|6[0-4]))|<U([1-9]|1[0-6])")
_PLACE = ("latitude_deg", "longitude_deg", "elevation_m", "azimuth_deg", "dip_deg")


@dataclass(frozen=True, kw_only=True)
class Head:
    """What holds for the whole file."""

    codec: str
    """The codec's name, such as codec/eqcodec_small."""
    version: str
    digest: str
    """16 hexadecimal digits that name the weights."""
    level: int
    """Books stored."""
    sampling_rate_hz: float
    """The codec's own."""
    frame: int
    """Samples in a frame, at the codec's rate."""
    hop: int = 128
    """Frames from the start of a segment to the start of the next; a segment has one more."""
    run: int = 16
    """Segments in a chunk."""
    bits: int = 10
    """Of an index."""

    def segments(self, frames: int) -> int:
        """Segments of a trace. The last takes what is left, so that none but a trace's only one is shorter than hop + 1 frames."""
        return max(1, (frames - 1) // self.hop)

    def runs(self, frames: int) -> int:
        """Chunks per level of a trace."""
        return -(-self.segments(frames) // self.run)

    def lengths(self, frames: int, run: int) -> list[int]:
        """Frames of each segment of a run."""
        total = self.segments(frames)
        here = range(run * self.run, min((run + 1) * self.run, total))
        return [self.hop + 1 if k + 1 < total else frames - k * self.hop for k in here]

    def chunk_bytes(self, frames: int, run: int) -> int:
        """Bytes of one level's chunk, without its CRC."""
        total = self.segments(frames)
        last = min((run + 1) * self.run, total)
        tail = frames - total * self.hop - 1 if last == total else 0  # what the last segment has more than the others
        return packed_length((last - run * self.run) * (self.hop + 1) + tail, self.bits)

    def level_bytes(self, frames: int) -> int:
        """Bytes of one level of a trace, CRCs included."""
        runs = self.runs(frames)
        return (runs - 1) * (self.chunk_bytes(frames, 0) + CRC_BYTES) + self.chunk_bytes(frames, runs - 1) + CRC_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One trace of the table."""

    channel: Channel
    start_ns: int
    sampling_rate_hz: float
    """Of the original samples."""
    samples: int
    dtype: str
    """NumPy's name, such as <i4."""
    unit: str | None = None
    about: str = ""
    """What else its header said, as a JSON object: calib, source_magnitude, ..."""
    frames: int = 0
    """Frames coded; 0 where the samples are stored as they are."""
    chunks: tuple[int, ...] = ()
    """Bytes of its chunks of side information or of samples, without CRCs."""
    reason: str = ""
    """Why the samples are stored as they are."""

    @property
    def own_bytes(self) -> int:
        """Bytes of those chunks with their CRCs."""
        return sum(self.chunks) + CRC_BYTES * len(self.chunks)

    def time_ns(self, sample: float) -> int:
        """When a sample was taken."""
        return self.start_ns + (round(sample * 1e9 / self.sampling_rate_hz) if self.sampling_rate_hz else 0)


@dataclass(frozen=True)
class Section:
    """Where a part of the file lies, counted from the end of the second block."""

    kind: int
    level: int
    offset: int
    length: int


@dataclass(frozen=True)
class Start:
    """All that the start of a file says."""

    head: Head
    entries: tuple[Entry, ...]
    sections: tuple[Section, ...]
    body: int
    """Where the body starts in the file."""
    damage: tuple[str, ...] = field(default=())
    """What was wrong with one copy and read from the other."""


def sections(head: Head, entries: Sequence[Entry]) -> tuple[Section, ...]:
    """The parts of a file in their order: side information, samples stored as they are, level 1, level 2, ..."""
    side = sum(e.own_bytes for e in entries if e.frames)
    plain = sum(e.own_bytes for e in entries if not e.frames)
    level = sum(head.level_bytes(e.frames) for e in entries if e.frames)
    found = [Section(SIDE, 0, 0, side), Section(LOSSLESS, 0, side, plain)]
    return (*found, *(Section(CODES, k + 1, side + plain + k * level, level) for k in range(head.level)))


# -- out --------------------------------------------------------------------------------------------------------------------------


def pack_start(head: Head, entries: Sequence[Entry]) -> bytes:
    """Magic, version and twice the block of header and table."""
    if len(entries) > MOST_TRACES:
        raise SeislatentError(f"{len(entries)} traces: a code file holds at most {MOST_TRACES}; write several files")
    table = _pack_table(entries)
    deflated = zlib.compress(table, 9)
    flags = FINAL_LAYOUT
    stored = table
    if len(table) > 4096 and len(table) // TIGHTEST < len(deflated) < len(table):
        flags, stored = flags | DEFLATED_TABLE, deflated
    block = bytearray(struct.pack("<HH", VERSION, flags))
    block += text(head.codec) + text(head.version) + bytes.fromhex(head.digest) + struct.pack("<d", head.sampling_rate_hz)
    block += b"".join(map(varint, (head.frame, head.hop, head.run, head.level, head.bits)))
    parts = sections(head, entries)
    block += varint(len(parts))
    end = 0
    for s in parts:
        block += b"".join(map(varint, (s.kind, s.level, zigzag(s.offset - end), s.length)))
        end = s.offset + s.length
    block += varint(len(entries)) + varint(len(table)) + varint(len(stored)) + stored
    copy = FRAME.pack(len(block), zlib.crc32(block)) + block
    return PRELUDE.pack(MAGIC, VERSION, 0, len(block)) + copy + copy


class _Shared:
    """Values named by their place in a list."""

    def __init__(self) -> None:
        self.places: dict[Any, int] = {}

    def __call__(self, value: Any) -> bytes:
        return varint(self.places.setdefault(value, len(self.places)))


def _pack_table(entries: Iterable[Entry]) -> bytes:
    strings, floats = _Shared(), _Shared()
    rows = bytearray()
    before = 0
    for e in entries:
        place = [getattr(e.channel, name) for name in _PLACE]
        given = [not e.frames, e.unit is not None, *(value is not None for value in place), e.about != ""]
        rows += varint(sum(yes << i for i, yes in enumerate(given)))
        c = e.channel
        for string in (c.network, c.station, c.location, c.code, c.component, e.dtype):
            rows += strings(string)
        if e.unit is not None:
            rows += strings(e.unit)
        for value in place:
            if value is not None:
                rows += floats(struct.pack("<d", value))
        if e.about:
            rows += strings(e.about)
        rows += varint(zigzag(e.start_ns - before)) + floats(struct.pack("<d", e.sampling_rate_hz)) + varint(e.samples)
        before = e.start_ns
        rows += varint(e.frames) if e.frames else strings(e.reason)
        rows += b"".join(map(varint, e.chunks))
    shared = varint(len(strings.places)) + b"".join(map(text, strings.places))
    return shared + varint(len(floats.places)) + b"".join(floats.places) + rows


# -- in ---------------------------------------------------------------------------------------------------------------------------


def unpack_start(data: bytes | memoryview) -> Start:
    """Read the start of a file.

    Raises:
        SeislatentError: no code file, one of a later version, one whose two blocks are both damaged or cut, or a hostile one.
    """
    if len(data) < PRELUDE.size or not looks_like(bytes(data[: len(MAGIC)])):
        raise SeislatentError("this is no code file (.slat): its first bytes are others" + _mangled(bytes(data[:8])))
    magic, version, reserved, length = PRELUDE.unpack_from(data)
    block, body, damage = _block(data, length)
    if block is None:
        later = f" (or it is of version {version}, and this program reads version {VERSION})" if version != VERSION else ""
        raise SeislatentError(f"both copies of the header are damaged or cut off: nothing can be read{later}; fetch the file again")
    try:
        head, entries, parts = _unpack_block(Cursor(block))
    except (Malformed, OverflowError, zlib.error) as error:
        raise SeislatentError(f"the code file's header contradicts itself ({error}): it was not written by this program") from error
    if magic != MAGIC or version != VERSION or reserved:
        damage = ["the first bytes were damaged", *damage]
    return Start(head, entries, parts, body, tuple(damage))


def looks_like(first: bytes) -> bool:
    """True for a file that starts with the magic bytes, one of them damaged at most."""
    return len(first) >= len(MAGIC) and sum(a != b for a, b in zip(first, MAGIC, strict=False)) <= 1


def _mangled(first: bytes) -> str:
    if first[1:5] == MAGIC[1:5]:
        return "; a transfer in text mode has changed line ends: fetch it again as binary"
    return ""


def _block(data: bytes | memoryview, told: int) -> tuple[memoryview | None, int, list[str]]:
    """The first sound copy of the block, where the body starts, and what was wrong."""
    view = memoryview(data)
    first = PRELUDE.size
    lengths = [told]
    if len(view) >= first + FRAME.size:
        lengths.append(FRAME.unpack_from(view, first)[0])
    for length in dict.fromkeys(lengths):
        step = FRAME.size + length
        found = []
        for at in (first, first + step):
            whole = view[at + FRAME.size : at + step]
            if len(whole) == length and at + FRAME.size <= len(view):
                said, crc = FRAME.unpack_from(view, at)
                found.append((said == length, zlib.crc32(whole) == crc, whole))
        sound = [whole for _, good, whole in found if good]
        if sound:
            perfect = length == told and len(found) == 2 and all(same and good for same, good, _ in found)
            return sound[0], first + 2 * step, [] if perfect else ["one copy of the header was damaged or cut off"]
    return None, 0, []


def _unpack_block(cursor: Cursor) -> tuple[Head, tuple[Entry, ...], tuple[Section, ...]]:
    version, flags = cursor.struct("HH")
    if version != VERSION:
        raise SeislatentError(f"a code file of version {version}: this program reads version {VERSION}; update it")
    if flags & ~(FINAL_LAYOUT | DEFLATED_TABLE) or not flags & FINAL_LAYOUT:
        raise SeislatentError("a code file in a layout that this program does not know: update it")
    names = dict(codec=cursor.text(), version=cursor.text(), digest=bytes(cursor.take(8)).hex())
    (rate,) = cursor.struct("d")
    if not (np.isfinite(rate) and 0 < rate <= FASTEST_HZ):
        raise Malformed(f"a codec rate of {rate} Hz")
    frame, hop, run, level, bits = (cursor.number(most) for most in (10**6, 2**16, 2**12, 64, 32))
    if not (frame and hop and run and level and bits):
        raise Malformed("a frame, hop, run, level or width of 0")
    if (hop + 1) * run > RUN_FRAMES:
        raise Malformed(f"chunks of {run} segments of {hop + 1} frames")
    head = Head(**names, sampling_rate_hz=rate, frame=frame, hop=hop, run=run, level=level, bits=bits)
    parts, end = [], 0
    for _ in range(cursor.number(cursor.left // 4)):
        kind, book, offset, size = cursor.number(), cursor.number(), end + cursor.signed(), cursor.number()
        end = offset + size
        if offset < 0 or end >= 2**63:
            raise Malformed(f"a section at {offset} of {size} bytes")
        parts.append(Section(kind, book, offset, size))
    traces = cursor.number(MOST_TRACES)
    length, stored = cursor.number(), cursor.number()
    table: bytes | memoryview = cursor.take(stored)
    if flags & DEFLATED_TABLE:
        if length > TIGHTEST * stored:
            raise Malformed("a table deflated more than it may be")
        table = zlib.decompressobj().decompress(bytes(table), length + 1)
    if len(table) != length or cursor.left:
        raise Malformed("a table of another length than told")
    entries = _unpack_table(Cursor(table), traces, head)
    known = {(s.kind, s.level): s for s in parts if s.kind in (SIDE, LOSSLESS, CODES)}
    for wanted in sections(head, entries):
        if known.get((wanted.kind, wanted.level), Section(0, 0, 0, -1)).length != wanted.length:
            raise Malformed(f"section {wanted.kind}.{wanted.level} is not of {wanted.length} bytes")
    return head, entries, tuple(known[s.kind, s.level] for s in sections(head, entries))


def _unpack_table(cursor: Cursor, traces: int, head: Head) -> tuple[Entry, ...]:
    strings = [cursor.text() for _ in range(cursor.number(cursor.left))]
    count = cursor.number(cursor.left // 8)
    floats = np.frombuffer(cursor.take(8 * count), "<f8")
    channels: dict[tuple[Any, ...], Channel] = {}
    entries: list[Entry] = []
    before = 0

    def string() -> str:
        return strings[_place(cursor, strings)]

    def value() -> float:
        return float(floats[_place(cursor, floats)])

    for _ in range(traces):
        given = cursor.number(255)
        codes = [string() for _ in range(5)]
        dtype = string()
        unit = string() if given & 2 else None
        place = [value() if given >> (2 + i) & 1 else None for i in range(len(_PLACE))]
        about = string() if given & 128 else ""
        start, rate, samples = before + cursor.signed(), value(), cursor.number()
        before = start
        key = (*codes, *place)
        if key not in channels:
            named = dict(zip(("network", "station", "location", "code", "component"), codes, strict=True))
            channels[key] = Channel(**named, **dict(zip(_PLACE, place, strict=True)))  # type: ignore[arg-type]
        frames = 0 if given & 1 else cursor.number(MOST_FRAMES)
        reason = string() if given & 1 else ""
        known = dict(start_ns=start, sampling_rate_hz=rate, samples=samples, dtype=dtype, frames=frames, reason=reason)
        known |= dict(unit=unit, about=about)
        _believable(start, rate, samples, dtype, frames, bool(given & 1))
        pieces = head.runs(frames) if frames else -(-samples // chunk_samples(np.dtype(dtype)))
        if pieces > cursor.left:
            raise Malformed(f"{pieces} chunks of a trace in {cursor.left} bytes of table")
        chunks = tuple(cursor.number(2 * CHUNK_BYTES) for _ in range(pieces))
        entries.append(Entry(channel=channels[key], chunks=chunks, **known))  # type: ignore[arg-type]
    if cursor.left:
        raise Malformed(f"{cursor.left} bytes of table too many")
    return tuple(entries)


def _place(cursor: Cursor, known: Sequence[Any] | np.ndarray) -> int:
    if not len(known):
        raise Malformed("a value from an empty list")
    return cursor.number(len(known) - 1)


def _believable(start_ns: int, rate: float, samples: int, dtype: str, frames: int, plain: bool) -> None:
    """Refuse what no trace can be."""
    if not _DTYPE.fullmatch(dtype):
        raise Malformed(f"samples of type {dtype[:20]!r}")
    textual = np.dtype(dtype).kind in "SU"
    if not (np.isfinite(rate) and (rate > 0 or (rate == 0 and plain and (textual or not samples)))):
        raise Malformed(f"a rate of {rate} Hz")
    end = start_ns + (samples / rate * 1e9 if rate else 0)
    if not (abs(start_ns) < 2**63 and end < 2**63):
        raise Malformed("a time outside the years 1677 to 2262")
    if plain:
        return
    if np.dtype(dtype).kind not in "iuf" or not SLOWEST_HZ <= rate <= FASTEST_HZ or not frames or not samples:
        raise Malformed(f"a coded trace of {samples} samples of {dtype} at {rate} Hz in {frames} frames")
