"""A `.slat` file's side information: each segment's offset and scale as short whole numbers (docs/formats/slat.md, section 5).

    offsets [segment], scales [segment][frame] --pack_side--> bytes --unpack_side--> the same

An offset is written as its distance from what `seislatent.signal.gain.predicted` foretells from the segment before, a scale as its
distance from the last one; a scale that stays costs nothing. The first segment of a chunk stands on its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seislatent.io.bits import Cursor, Malformed, unzigzag, varint, zigzag
from seislatent.signal import gain

LARGEST_OFFSET = 2**50
"""In steps of the segment's least scale; `gain` stays below 2^44."""


def pack_side(offsets: Sequence[int], scales: Sequence[NDArray[np.int64]]) -> bytes:
    """Side information of consecutive segments: an offset and a scale per frame each."""
    out = bytearray()
    before: tuple[int, int] | None = None
    last = 0
    for offset, scale in zip(map(int, offsets), scales, strict=True):
        least = int(scale.min())
        if abs(offset) > LARGEST_OFFSET or least < gain.LOWEST or int(scale.max()) > gain.HIGHEST:
            raise ValueError(f"offset {offset} or scales {least} to {scale.max()} are outside what the code file holds")
        out += varint(zigzag(offset - _foretold(before, least)))
        starts = np.concatenate(([0], np.flatnonzero(np.diff(scale)) + 1))
        for piece, start in enumerate(starts):
            if piece:
                out += varint(int(start - starts[piece - 1]))
            step = int(scale[start])
            out += varint(zigzag(step - last) * 2 + (piece + 1 < len(starts)))
            last = step
        before = offset, least
    return bytes(out)


def unpack_side(data: bytes | memoryview, frames: Sequence[int]) -> tuple[list[int], list[NDArray[np.int64]]]:
    """Offsets and scales of segments that have so many frames each.

    Raises:
        Malformed: the bytes say something else, or more.
    """
    cursor = Cursor(data)
    offsets: list[int] = []
    scales: list[NDArray[np.int64]] = []
    before: tuple[int, int] | None = None
    last = 0
    for count in frames:
        rest = cursor.signed(2 * LARGEST_OFFSET)
        scale, start = np.empty(count, np.int64), 0
        while True:
            code = cursor.number(8 * gain.HIGHEST)
            more = code & 1
            last += unzigzag(code >> 1)
            if not gain.LOWEST <= last <= gain.HIGHEST:
                raise Malformed(f"scale {last} is outside {gain.LOWEST} to {gain.HIGHEST}")
            scale[start:] = last
            if not more:
                break
            start += cursor.number(count)
            if start >= count:
                raise Malformed(f"a piece of scale starts at frame {start} of {count}")
        offset = rest + _foretold(before, int(scale.min()))
        if abs(offset) > LARGEST_OFFSET:
            raise Malformed(f"offset {offset} is too large")
        before = offset, int(scale.min())
        offsets.append(offset)
        scales.append(scale)
    if cursor.left:
        raise Malformed(f"{cursor.left} bytes too many")
    return offsets, scales


def _foretold(before: tuple[int, int] | None, least_scale: int) -> int:
    """The offset foretold, 0 where nothing is known or where it would be out of range."""
    if before is None:
        return 0
    foretold = gain.predicted(before[0], before[1], least_scale)
    return foretold if abs(foretold) <= LARGEST_OFFSET else 0
