"""Whole numbers of any width in bytes, and a reader that trusts no length. Knows no model and no file.

- packed: numbers of `width` bits one after the other, most significant bit first, the last byte filled with zeros;
- varint: a whole number in 7 bits a byte, least significant group first, the high bit set on all bytes but the last;
- zigzag: the signed numbers 0, -1, 1, -2, ... as 0, 1, 2, 3, ...
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDEST = 32
"""Bits of a packed number."""
LONGEST_VARINT = 10
"""Bytes: 70 bits."""


class Malformed(ValueError):
    """Bytes that do not say what they should."""


def packed_length(count: int, width: int) -> int:
    """Bytes that `count` numbers of `width` bits take."""
    return -(-count * width // 8)


def pack(values: ArrayLike, width: int) -> bytes:
    """Numbers from 0 to 2^width - 1, one after the other, in `width` bits each.

    Raises:
        ValueError: a width outside 1 to 32, or a number that does not fit it.
    """
    _check(width)
    numbers = np.asarray(values).reshape(-1)
    if numbers.size and (numbers.dtype.kind not in "iu" or int(numbers.min()) < 0 or int(numbers.max()) >> width):
        raise ValueError(f"numbers that are not whole or not from 0 to 2^{width} - 1 cannot be packed in {width} bits")
    bits = np.empty((numbers.size, width), np.uint8)
    for place in range(width):
        bits[:, place] = (numbers >> (width - 1 - place)) & 1
    return np.packbits(bits.reshape(-1)).tobytes()


def unpack(data: bytes | memoryview, width: int, count: int) -> NDArray[np.int64]:
    """The first `count` numbers [count] of `pack`.

    Raises:
        ValueError: a width outside 1 to 32.
        Malformed: too few bytes.
    """
    _check(width)
    if count < 0 or len(data) < packed_length(count, width):
        raise Malformed(f"{len(data)} bytes cannot hold {count} numbers of {width} bits")
    bits = np.unpackbits(np.frombuffer(data, np.uint8, packed_length(count, width)), count=count * width).reshape(count, width)
    numbers = np.zeros(count, np.int64)
    for place in range(width):
        numbers <<= 1
        numbers |= bits[:, place]
    return numbers


def _check(width: int) -> None:
    if not 1 <= width <= WIDEST:
        raise ValueError(f"a width of {width} bits: give 1 to {WIDEST}")


def varint(number: int) -> bytes:
    """A number from 0 to 2^70 - 1 in as many bytes as it needs."""
    if number < 0 or number >> (7 * LONGEST_VARINT):
        raise ValueError(f"{number} is outside 0 to 2^{7 * LONGEST_VARINT} - 1")
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> int:
    """A signed number as an unsigned one, small where its size is small."""
    return number * 2 if number >= 0 else -number * 2 - 1


def unzigzag(number: int) -> int:
    """The signed number back."""
    return number >> 1 if number % 2 == 0 else -(number >> 1) - 1


class Cursor:
    """Reads bytes that nobody vouches for: every length is checked before it is taken, and what does not fit raises `Malformed`."""

    def __init__(self, data: bytes | memoryview):
        self.data, self.at = memoryview(data), 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self.data) - self.at

    def take(self, length: int) -> memoryview:
        """The next `length` bytes."""
        if not 0 <= length <= self.left:
            raise Malformed(f"{length} bytes wanted at {self.at}, {self.left} left")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, most: int = 2**63 - 1) -> int:
        """The next varint, at most `most`."""
        number = 0
        for place in range(LONGEST_VARINT):
            byte = self.take(1)[0]
            number |= (byte & 127) << (7 * place)
            if byte < 128:
                if number > most:
                    raise Malformed(f"{number} where at most {most} can be, before byte {self.at}")
                return number
        raise Malformed(f"a number without end before byte {self.at}")

    def signed(self, largest: int = 2**63 - 1) -> int:
        """The next zigzag varint, from -largest to largest."""
        return unzigzag(self.number(2 * largest))

    def text(self) -> str:
        """The next string: its length in bytes as a varint, then UTF-8."""
        raw = bytes(self.take(self.number()))
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"text that is not UTF-8 before byte {self.at}") from error

    def struct(self, layout: str) -> tuple:
        """The next fields of a little-endian struct."""
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))


def text(string: str) -> bytes:
    """What `Cursor.text` reads."""
    raw = string.encode()
    return varint(len(raw)) + raw
