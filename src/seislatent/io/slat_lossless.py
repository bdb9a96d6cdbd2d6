"""Samples stored as they are in a `.slat` file: in chunks, filtered and deflated (docs/formats/slat.md, section 6).

A chunk is one byte that names the filter, then a zlib stream. Whole numbers are stored as differences (modulo their width), and the
bytes of numbers are sorted by significance, so that like lies beside like.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.io.bits import Malformed

CHUNK_BYTES = 1 << 20
"""Bytes of samples in a chunk before deflation."""
PLAIN, SHUFFLED, DIFFERENCES = 0, 1, 2


def chunk_samples(dtype: np.dtype[Any]) -> int:
    """Samples in every chunk but the last."""
    return max(1, CHUNK_BYTES // dtype.itemsize)


def deflate(samples: NDArray[Any]) -> bytes:
    """One chunk of samples [time], little-endian."""
    samples = np.ascontiguousarray(samples)
    width = samples.dtype.itemsize
    if samples.dtype.kind in "iu":
        whole = samples.view(f"<u{width}")
        plain, kind = np.diff(whole, prepend=whole.dtype.type(0)), DIFFERENCES
    else:
        plain, kind = samples, SHUFFLED if samples.dtype.kind in "fc" else PLAIN
    data = plain.view(np.uint8).reshape(-1, width).T if kind != PLAIN else plain
    return bytes([kind]) + zlib.compress(np.ascontiguousarray(data).tobytes(), 6)


def inflate(chunk: bytes | memoryview, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """`count` samples back; never more memory than they take, whatever the chunk says.

    Raises:
        Malformed: the chunk holds something else.
    """
    if not len(chunk) or chunk[0] > DIFFERENCES:
        raise Malformed("a chunk of samples in a filter that is not known")
    size = count * dtype.itemsize
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(bytes(chunk[1:]), size + 1)
    except zlib.error as error:
        raise Malformed(f"a chunk of samples that does not inflate: {error}") from error
    if len(data) != size or not engine.eof or engine.unused_data:
        raise Malformed(f"a chunk of samples that is not of {size} bytes")
    if chunk[0] == PLAIN:
        return np.frombuffer(data, dtype, count)
    sorted_back = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(dtype.itemsize, count).T).reshape(-1)
    if chunk[0] == SHUFFLED:
        return sorted_back.view(dtype)
    if dtype.kind not in "iu":
        raise Malformed(f"differences of {dtype.name}")
    whole = sorted_back.view(f"<u{dtype.itemsize}")
    return np.cumsum(whole, dtype=whole.dtype).view(dtype)
