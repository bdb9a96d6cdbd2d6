"""The file of a classical coder: what its record is, a coder's own bytes, and a checksum.

    magic 8 | coder | rate f64 | start | samples | dtype | unit | channels | gaps | length of payload | payload | padding | CRC-32

Whole numbers and texts as in `io/bits` (varints, UTF-8), the rest little-endian; the CRC is of all before it. A gap is a run of
NaN. A record's columns of metadata and its history are not kept.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.io.bits import Cursor, Malformed, text, varint, zigzag
from seislatent.waveform import Channel, Waveform

MAGIC = b"\x95SLB1\r\n\x1a"
DTYPES = ("<i2", "<i4", "<i8", "<f4", "<f8")
FREE_SAMPLES, SAMPLES_PER_BYTE = 1 << 20, 1 << 12
"""A file may hold so many samples, and so many more for each of its bytes: what a hostile one can ask for stays in proportion."""
MOST_ROWS = 1 << 16
_PLACE = ("latitude_deg", "longitude_deg", "elevation_m", "azimuth_deg", "dip_deg")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What a file holds."""

    waveform: Waveform
    """With samples of zero, NaN in the gaps."""
    dtype: np.dtype[Any]
    payload: bytes
    """Of the coder."""


def pack(coder: str, waveform: Waveform, payload: bytes) -> bytes:
    """A file of a record and its payload.

    Raises:
        SeislatentError: samples of a type that has no place here.
    """
    dtype = waveform.data.dtype.newbyteorder("<").str
    if dtype not in DTYPES:
        raise SeislatentError(f"{coder} codes int16, int32, int64, float32 and float64, not {waveform.data.dtype} of {waveform!r}")
    head = [MAGIC, text(coder), struct.pack("<d", waveform.sampling_rate_hz), varint(zigzag(waveform.start_ns))]
    head += [
        varint(waveform.data.shape[1]),
        bytes([DTYPES.index(dtype)]),
        text("" if waveform.unit is None else f"={waveform.unit}"),
    ]
    head += [varint(len(waveform.channels)), *(_channel(c) for c in waveform.channels)]
    for row in waveform.data:
        spans = list(gaps(row))
        head.append(varint(len(spans)))
        last = 0
        for start, end in spans:
            head += [varint(start - last), varint(end - start)]
            last = end
    body = b"".join([*head, varint(len(payload)), payload])
    needed = -(-(waveform.data.size - FREE_SAMPLES) // SAMPLES_PER_BYTE) - len(body)
    body += bytes(max(0, needed))
    return body + struct.pack("<I", zlib.crc32(body))


def unpack(coder: str, data: bytes) -> Packed:
    """What `pack` made a file of.

    Raises:
        SeislatentError: a file of another kind or coder, or one that is damaged or cut short.
    """
    raw = bytes(data)
    if raw[: len(MAGIC)] != MAGIC:
        raise SeislatentError(f"no file of {coder}: it begins with {raw[:8].hex(' ') or 'nothing'}, give one that {coder} encoded")
    if len(raw) < len(MAGIC) + 4 or zlib.crc32(raw[:-4]) != struct.unpack("<I", raw[-4:])[0]:
        raise SeislatentError(
            f"a file of {coder} is damaged or cut short: its checksum does not fit its {len(raw)} bytes; copy it again"
        )
    try:
        return _unpacked(coder, raw)
    except (Malformed, ValueError, OverflowError, RecursionError) as error:
        raise SeislatentError(f"a file of {coder} says what cannot be: {error}") from error


def payload_bytes(coder: str, data: bytes) -> int:
    """Bytes of the payload; the rest of the file is what the record is, and the checksum."""
    return len(unpack(coder, data).payload)


def gaps(row: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """First sample and end of each run of NaN."""
    if row.dtype.kind == "f":
        edges = np.flatnonzero(np.diff(np.isnan(row), prepend=False, append=False))
        yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def bridged(row: NDArray[Any]) -> NDArray[np.float64]:
    """Samples in float64, with straight lines over gaps; all zero where nothing else is there.

    Raises:
        SeislatentError: an infinite value, or a channel whose energy is beyond floating point.
    """
    x = row.astype(np.float64)
    if np.isinf(x).any():
        raise SeislatentError(f"{int(np.isinf(x).sum())} samples are infinite: mark what is missing as NaN")
    peak = float(np.nanmax(np.abs(x), initial=0.0)) if np.isfinite(x).any() else 0.0
    if peak and not 1e-130 < peak < 1e130:
        raise SeislatentError(f"samples up to {peak:.3g}: their squares are beyond floating point; give another unit")
    missing = np.isnan(x)
    if missing.any():
        known = np.flatnonzero(~missing)
        x[missing] = np.interp(np.flatnonzero(missing), known, x[known]) if known.size else 0.0
    return x


def _channel(c: Channel) -> bytes:
    place = {name: value for name in _PLACE if (value := getattr(c, name)) is not None}
    return b"".join(map(text, (c.network, c.station, c.location, c.code, c.component, json.dumps(place) if place else "")))


def _unpacked(coder: str, raw: bytes) -> Packed:
    cursor = Cursor(raw[:-4])
    cursor.take(len(MAGIC))
    name = cursor.text()
    if name != coder:
        raise SeislatentError(f"a file of {name[:40]!r}: decode it with that, not with {coder}")
    (rate,) = cursor.struct("d")
    start, samples, kind, unit = cursor.signed(), cursor.number(), cursor.take(1)[0], cursor.text()
    rows = cursor.number(MOST_ROWS)
    if kind >= len(DTYPES) or samples * rows > FREE_SAMPLES + SAMPLES_PER_BYTE * len(raw):
        raise Malformed(f"{rows} x {samples} samples in {len(raw)} bytes")
    channels = tuple(_read_channel(cursor) for _ in range(rows))
    dtype = np.dtype(DTYPES[kind])
    data = np.zeros((rows, samples), dtype)
    for row in data:
        at = 0
        for _ in range(cursor.number(samples)):
            at += cursor.number(samples - at)
            length = cursor.number(samples - at)
            if dtype.kind != "f":
                raise Malformed("gaps in whole numbers")
            row[at : at + length] = np.nan
            at += length
    payload = bytes(cursor.take(cursor.number()))
    told = unit[1:] if unit else None
    waveform = Waveform(data=data, sampling_rate_hz=rate, channels=channels, start_ns=start, unit=told)
    return Packed(waveform=waveform, dtype=dtype, payload=payload)


def _read_channel(cursor: Cursor) -> Channel:
    network, station, location, code, component, about = (cursor.text() for _ in range(6))
    place = json.loads(about) if about else {}
    if not isinstance(place, dict) or not all(k in _PLACE and isinstance(v, int | float) for k, v in place.items()):
        raise Malformed("a place that is none")
    return Channel(network=network, station=station, location=location, code=code, component=component, **place)
