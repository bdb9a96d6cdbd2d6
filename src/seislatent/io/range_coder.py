"""Range coding of symbols whose probabilities are whole numbers, so that bytes written on one machine decode on every other.

    symbols, counts --Encoder--> bytes --Decoder, same counts--> symbols

The coder is constriction's `RangeEncoder` (queue; 32-bit words, 64-bit state, 24-bit probabilities; Bamler 2022,
arXiv:2201.01741). Its interface takes floats and rounds them to 24 bits; here they are made from counts so that they lie half a
step from where the rounding would change, which no machine's arithmetic can cross. What the counts are is the caller's: an
encoder and its decoder must come to the same ones by integer arithmetic.

A model that changes after every symbol needs a loop that is compiled: `opened` and `next_bit` read the same bytes inside Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import constriction
import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from seislatent.io.bits import Malformed

TOTAL_BITS = 16
TOTAL = 1 << TOTAL_BITS
"""What the counts of a symbol's alternatives add up to."""
_PRECISION, _STATE, _WORD = 24, 64, 32
_AT_ONCE = 1 << 18
"""Symbols handed over in one call: bounds the memory for their probabilities."""


class Encoder:
    """Symbols to bytes: `put` and `put_bits` as often as you like, then `bytes`."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()
        self._model = constriction.stream.model.Categorical(perfect=False)

    def put(self, symbols: ArrayLike, counts: ArrayLike) -> None:
        """Symbols [n], each with the counts [n K] of its K alternatives, or all with the same [K].

        Raises:
            ValueError: counts below 1, or that do not add up to 2^16; a symbol outside 0 to K - 1.
        """
        of = np.asarray(symbols, np.int32).reshape(-1)
        table = _table(counts, len(of))
        if of.size and (of.min() < 0 or of.max() >= table.shape[1]):
            raise ValueError(f"a symbol outside 0 to {table.shape[1] - 1}")
        for at in range(0, len(of), _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            self._coder.encode(of[part], self._model, _floats(table[part]))

    def put_bits(self, bits: ArrayLike, ones: ArrayLike) -> None:
        """Bits [n], each with the probability [n] that it is 1, of 2^16."""
        chance = np.asarray(ones, np.int64).reshape(-1)
        self.put(bits, np.stack([TOTAL - chance, chance], 1))

    def bytes(self) -> bytes:
        """All symbols so far in as few bytes as name a number inside the coder's last interval; a reader adds zeros."""
        words = self._coder.get_compressed()
        count, (low, width) = self._coder.pos()
        spare = count * _WORD + _STATE - len(words) * _WORD
        sealed = int.from_bytes(words.astype(">u4").tobytes(), "big") << max(spare, 0)
        bottom = sealed - (sealed - low) % (1 << _STATE)
        for drop in range(_STATE, -1, -8):
            value = -(-bottom >> drop) << drop
            if value < bottom + width:
                break
        return value.to_bytes(count * _WORD // 8 + _STATE // 8, "big").rstrip(b"\0")


class Decoder:
    """The symbols back, with the counts they were put with, in any division into calls."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._coder = constriction.stream.queue.RangeDecoder(_words(data).astype(np.uint32))
        self._model = constriction.stream.model.Categorical(perfect=False)

    def take(self, counts: ArrayLike) -> NDArray[np.int32]:
        """The next symbols [n], of counts [n K].

        Raises:
            ValueError: counts that `put` would not take.
            Malformed: bytes that no encoder writes.
        """
        table = _table(counts, None)
        try:
            parts = [self._coder.decode(self._model, _floats(table[at : at + _AT_ONCE])) for at in range(0, len(table), _AT_ONCE)]
        except AssertionError as error:
            raise Malformed("bytes that are no range code") from error
        return np.concatenate(parts).astype(np.int32) if parts else np.zeros(0, np.int32)

    def take_bits(self, ones: ArrayLike) -> NDArray[np.int32]:
        """The next bits [n], of probabilities [n] that they are 1, of 2^16."""
        chance = np.asarray(ones, np.int64).reshape(-1)
        return self.take(np.stack([TOTAL - chance, chance], 1))


def _table(counts: ArrayLike, symbols: int | None) -> NDArray[np.int64]:
    table = np.asarray(counts)
    if table.dtype.kind not in "iu" or table.ndim not in (1, 2) or table.shape[-1] < 2:
        raise ValueError(f"counts of shape {table.shape} and type {table.dtype}: give whole numbers [symbol alternative]")
    table = table.astype(np.int64)
    if table.size and (table.min() < 1 or (table.sum(-1) != TOTAL).any()):
        raise ValueError(f"counts must be at least 1 and add up to {TOTAL}")
    if symbols is None:
        return np.atleast_2d(table)
    if table.ndim == 2 and len(table) != symbols:
        raise ValueError(f"{symbols} symbols, but counts for {len(table)}")
    return np.broadcast_to(table, (symbols, table.shape[-1]))


def _floats(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probabilities that constriction rounds to exactly these counts times 2^8.

    It takes floor((2^24 - K) P) + i as the lower end of symbol i, P being the sum of the probabilities before it.
    """
    size = table.shape[1]
    ends = np.cumsum(table, 1) << (_PRECISION - TOTAL_BITS)
    ends[:, :-1] -= np.arange(1, size)
    share = ends.astype(np.float64)
    share[:, :-1] += 0.5
    share[:, -1] = (1 << _PRECISION) - size
    return np.diff(share, axis=1, prepend=0.0) / ((1 << _PRECISION) - size)


def _words(data: bytes | memoryview) -> NDArray[np.uint64]:
    """32-bit words, the last filled with zeros, and two of zeros."""
    raw = bytes(data)
    return np.frombuffer(raw + bytes(-len(raw) % 4 + 8), ">u4").astype(np.uint64)


# -- inside compiled loops -------------------------------------------------------------------------------------------------------


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled by Numba; kept on disk unless no folder can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


def opened(data: bytes | memoryview) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Words and state (low, range, point, next word) with which `next_bit` begins."""
    words = _words(data)
    point = int(words[0]) << _WORD | int(words[1])
    return words, np.array([0, 2**_STATE - 1, point, 2], np.uint64)


@compiled
def next_bit(words: NDArray[np.uint64], state: NDArray[np.uint64], ones: int) -> int:
    """The next bit, 1 with a probability of `ones` (1 to 2^16 - 1) of 2^16; changes `state`. -1: bytes that are no range code."""
    scale = state[1] >> np.uint64(24)
    zero = np.uint64(65536 - ones) << np.uint64(8)
    quantile = (state[2] - state[0]) // scale
    if quantile >= np.uint64(1 << 24):
        return -1
    if quantile < zero:
        bit = 0
        state[1] = scale * zero
    else:
        bit = 1
        state[0] += scale * zero
        state[1] = scale * (np.uint64(1 << 24) - zero)
    if state[1] < np.uint64(1 << 32):
        state[0] <<= np.uint64(32)
        state[1] <<= np.uint64(32)
        state[2] <<= np.uint64(32)
        if state[3] < np.uint64(len(words)):
            state[2] |= words[state[3]]
        state[3] += np.uint64(1)
    return bit
