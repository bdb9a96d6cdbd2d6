"""Lossless coders of archives: Steim 1 and 2 in miniSEED (ObsPy), FLAC (soundfile), blosc2 and zstd.

What each takes: Steim int32 (Steim 2: differences of at most 30 bits), FLAC whole numbers of up to 32 bits, the others any numbers.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.container import pack, unpack
from seislatent.evaluate.baselines.optional import needed
from seislatent.io.bits import Cursor, Malformed, varint
from seislatent.waveform import Waveform

STEIM_RECORD, STEIM_HEADER, STEIM_FRAME = 4096, 64, 64
"""Bytes of a miniSEED record, of what stands before its data, and of a frame of data."""
FLAC_RATE = 44100
"""What the FLAC stream says; the record's own rate is in our header."""
FLAC_BITS = (16, 24)
"""Widths of a stream; the narrowest that fits is taken."""


@dataclass(frozen=True)
class Lossless:
    """Each channel by itself; the record comes back to the bit. May be handed to worker processes."""

    name: str
    compress: Callable[[NDArray[Any]], bytes]
    """Samples [time] to bytes."""
    expand: Callable[[bytes, int, np.dtype[Any]], NDArray[Any]]
    """Bytes, number of samples and their type, to samples [time]."""
    qualities: tuple[float, ...] = (math.inf,)
    """There is one."""

    def encode(self, waveform: Waveform, snr_db: float | None = None) -> bytes:
        """A file of a record.

        Raises:
            SeislatentError: samples of a type or size that the coder does not take, or a package that is missing.
        """
        parts = []
        for row, id_ in zip(waveform.data, waveform.ids, strict=True):
            try:
                body = self.compress(np.ascontiguousarray(row)) if row.size else b""
            except _NotTaken as error:
                raise SeislatentError(f"{self.name} cannot code {id_}: {error}") from error
            parts.append(varint(len(body)) + body)
        return pack(self.name, waveform, b"".join(parts))

    def decode(self, data: bytes) -> Waveform:
        """The record back. The coder's own library reads its bytes: decode files of people whom you trust.

        Raises:
            SeislatentError: a file of another coder, damaged or cut short.
        """
        packed = unpack(self.name, data)
        made, cursor = packed.waveform.data.copy(), Cursor(packed.payload)
        try:
            for row in made:
                body = bytes(cursor.take(cursor.number()))
                row[:] = self.expand(body, len(row), packed.dtype) if len(row) else row
        except (Malformed, ValueError, RuntimeError, TypeError) as error:
            raise SeislatentError(f"a file of {self.name} says what cannot be: {error}") from error
        return packed.waveform.with_data(made, did=f"decoded from {self.name}")


class _NotTaken(Exception):
    """Why a coder does not take these samples."""


def steim(version: int) -> Lossless:
    """Steim 1 or 2 (FDSN SEED manual 2.4, appendix B) in miniSEED records of 4096 bytes."""
    return Lossless(f"baseline/steim{version}", partial(_to_miniseed, version=version), _from_miniseed)


def steim1() -> Lossless:
    """Steim 1: differences of 8, 16 or 32 bits."""
    return steim(1)


def steim2() -> Lossless:
    """Steim 2: differences of 4 to 30 bits."""
    return steim(2)


def steim_payload_bytes(data: bytes) -> int:
    """Of miniSEED as `steim` writes it, the frames with data: without the records' headers and what fills the last record."""
    total = 0
    for at in range(0, len(data), STEIM_RECORD):
        frames = np.frombuffer(data[at + STEIM_HEADER : at + STEIM_RECORD], np.uint8).reshape(-1, STEIM_FRAME)
        total += STEIM_FRAME * int(np.flatnonzero(frames.any(1))[-1] + 1)
    return total


def flac() -> Lossless:
    """FLAC at its highest level. It takes 24 bits here: wider samples go as two streams, their upper and lower 16 bits."""
    return Lossless("baseline/flac", _to_flac, _from_flac)


def blosc2() -> Lossless:
    """Differences, bits sorted by significance, zstd at its highest level, in one chunk."""
    return Lossless("baseline/blosc2", _to_blosc2, _from_blosc2)


def zstd(level: int = 19) -> Lossless:
    """Differences and zstd."""
    return Lossless("baseline/zstd", partial(_to_zstd, level=level), _from_zstd)


def _to_blosc2(x: NDArray[Any]) -> bytes:
    library = needed("blosc2", "baseline/blosc2", "blosc2")
    plain = np.ascontiguousarray(_differences(x))
    given = {"codec": library.Codec.ZSTD, "clevel": 9, "typesize": x.dtype.itemsize, "filters": [library.Filter.BITSHUFFLE]}
    return bytes(library.compress2(plain.tobytes(), **given, filters_meta=[0], nthreads=1))


def _from_blosc2(data: bytes, samples: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    return _summed(needed("blosc2", "baseline/blosc2", "blosc2").decompress2(data), samples, dtype)


def _to_zstd(x: NDArray[Any], level: int) -> bytes:
    return bytes(needed("zstandard", "baseline/zstd", "zstandard").ZstdCompressor(level=level).compress(_differences(x).tobytes()))


def _from_zstd(data: bytes, samples: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    library = needed("zstandard", "baseline/zstd", "zstandard")
    try:
        plain = library.ZstdDecompressor().decompress(data, max_output_size=samples * dtype.itemsize)
    except library.ZstdError as error:
        raise Malformed(str(error)) from error
    return _summed(plain, samples, dtype)


def _to_miniseed(x: NDArray[Any], version: int) -> bytes:
    whole = _whole(x, 32).astype(np.int32)
    if version == 2 and np.abs(np.diff(whole.astype(np.int64))).max(initial=0) >= 2**29:
        raise _NotTaken("differences of more than 30 bits; use Steim 1, FLAC or zstd")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Stream([Trace(whole)]).write(file, "MSEED", encoding=f"STEIM{version}", reclen=STEIM_RECORD)
    return file.getvalue()


def _whole(x: NDArray[Any], bits: int) -> NDArray[np.int64]:
    """Whole numbers of at most so many bits."""
    if x.dtype.kind not in "iu":
        raise _NotTaken(f"{x.dtype} samples; it takes whole numbers, such as counts")
    wide = x.astype(np.int64)
    if not _fits(wide, bits):
        raise _NotTaken(f"samples from {wide.min()} to {wide.max()}; it takes {bits} bits")
    return wide


def _from_miniseed(data: bytes, samples: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    from seislatent.io.plugins import load

    stream = load(io.BytesIO(data), "MSEED", "miniSEED in a baseline's file", headonly=False)
    return np.concatenate([t.data for t in stream]).astype(dtype)


def _to_flac(x: NDArray[Any]) -> bytes:
    wide = _whole(x, 32)
    if _fits(wide, FLAC_BITS[-1]):
        parts = [_flac_stream(wide)]
    else:
        parts = [_flac_stream(half) for half in (wide >> 16, (wide & 0xFFFF) - 0x8000)]
    return b"".join(varint(len(p)) + p for p in parts)


def _fits(x: NDArray[np.int64], bits: int) -> bool:
    return bool(x.min() >= -(1 << (bits - 1)) and x.max() < 1 << (bits - 1))


def _flac_stream(x: NDArray[np.int64]) -> bytes:
    library, file = needed("soundfile", "baseline/flac", "soundfile"), io.BytesIO()
    bits = next(b for b in FLAC_BITS if _fits(x, b))
    shifted = (x << (32 - bits)).astype(np.int32)  # soundfile keeps the upper bits
    library.write(file, shifted, FLAC_RATE, format="FLAC", subtype=f"PCM_{bits}", compression_level=1.0)
    return file.getvalue()


def _from_flac(data: bytes, samples: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    library, cursor, found = needed("soundfile", "baseline/flac", "soundfile"), Cursor(data), []
    while cursor.left:
        try:
            file = library.SoundFile(io.BytesIO(bytes(cursor.take(cursor.number()))))
            x, bits = file.read(samples, dtype="int32"), int(file.subtype.removeprefix("PCM_"))
        except library.LibsndfileError as error:
            raise Malformed(str(error)) from error
        found.append(x.astype(np.int64) >> (32 - bits))
    if len(found) not in (1, 2) or any(len(x) != samples for x in found):
        raise Malformed("FLAC streams of another length")
    return (found[0] if len(found) == 1 else (found[0] << 16) + found[1] + 0x8000).astype(dtype)


def _differences(x: NDArray[Any]) -> NDArray[Any]:
    """Of whole numbers, modulo their width; floats as they are."""
    if x.dtype.kind not in "iu":
        return x
    plain = x.view(f"<u{x.dtype.itemsize}")
    return np.diff(plain, prepend=plain.dtype.type(0))


def _summed(data: bytes, samples: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    if len(data) != samples * dtype.itemsize:
        raise Malformed(f"{len(data)} bytes for {samples} samples of {dtype}")
    if dtype.kind not in "iu":
        return np.frombuffer(data, dtype)
    plain = np.frombuffer(data, f"<u{dtype.itemsize}")
    return np.cumsum(plain, dtype=plain.dtype).view(dtype)
