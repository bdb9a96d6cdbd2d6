"""Coders of floating-point arrays that keep an absolute error: each channel by itself, as zfp and SZ3 take it.

Waveform --mean, gaps--> channel [time] --compress, tolerance--> bytes of each channel --container--> file
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.container import bridged, pack, unpack
from seislatent.io.bits import Cursor, Malformed, unzigzag, varint, zigzag
from seislatent.systems.codec.segments import cast_to
from seislatent.waveform import Waveform

Array = NDArray[np.float64]

FINENESS = 64
"""Tolerances are 2^(i / 64)."""
LEAST, MOST = 30, 8
"""They are sought from 2^-30 to 2^8 standard deviations."""
MEAN_STEPS = 4096
"""A channel's mean is kept in steps of a tolerance over this: at the lowest rates a tolerance is many standard deviations."""


@dataclass(frozen=True)
class Bounded:
    """Encodes at a signal-to-noise ratio, at a rate, or with given tolerances."""

    name: str
    compress: Callable[[Array, float], bytes]
    """Samples [time] and the largest error allowed, to bytes."""
    expand: Callable[[bytes, int, float], Array]
    """Bytes, number of samples and tolerance, to samples [time]."""
    qualities: tuple[float, ...] = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0)
    """Signal-to-noise ratios aimed at, in dB."""

    def encode(
        self,
        waveform: Waveform,
        snr_db: float | None = None,
        *,
        bits_per_sample: float | None = None,
        tolerances: Sequence[float] | None = None,
    ) -> bytes:
        """A file of a record.

        Args:
            waveform: numbers; NaN is a gap.
            snr_db: signal-to-noise ratio that every channel keeps, its mean removed.
            bits_per_sample: or the most that the payload takes, in every channel.
            tolerances: or the largest error of each channel, in the unit of the samples; the next smaller 2^(i / 64) is taken.

        Raises:
            SeislatentError: not exactly one of these, an infinite sample, a rate that cannot be kept, or a package that is missing.
        """
        if sum(v is not None for v in (snr_db, bits_per_sample, tolerances)) != 1:
            raise SeislatentError(f"{self.name}: give one of snr_db, bits_per_sample and tolerances")
        if waveform.data.dtype.kind not in "iuf":
            pack(self.name, waveform, b"")  # says which types there are
        given = list(tolerances) if tolerances is not None else [1.0] * len(waveform.data)
        if len(given) != len(waveform.data) or not all(t > 0 and math.isfinite(t) for t in given):
            raise SeislatentError(f"{self.name}: {len(waveform.data)} channels need as many positive tolerances, not {given}")
        parts = []
        for row, tolerance in zip(waveform.data, given, strict=True):
            x = bridged(row)
            if not x.size or x.min() == x.max():
                parts.append(varint(0) + struct.pack("<d", x[0] if x.size else 0.0))
            elif tolerances is None:
                parts.append(self._searched(x, snr_db, bits_per_sample))
            else:
                parts.append(self._channel(x, math.floor(FINENESS * math.log2(tolerance)))[0])
        return pack(self.name, waveform, b"".join(parts))

    def decode(self, data: bytes) -> Waveform:
        """The record back, in its type. The coder's own library reads its bytes: decode files of people whom you trust.

        Raises:
            SeislatentError: a file of another coder, damaged or cut short.
        """
        packed = unpack(self.name, data)
        cursor, samples = Cursor(packed.payload), packed.waveform.data.shape[1]
        made = packed.waveform.data.copy()
        try:
            for row in made:
                kind = cursor.number(2**20)
                if kind:
                    if kind > 1800 * FINENESS:
                        raise Malformed("a tolerance beyond all numbers")
                    tolerance = 2.0 ** (unzigzag(kind - 1) / FINENESS)
                    mean = cursor.signed() * tolerance / MEAN_STEPS
                    x = self.expand(bytes(cursor.take(cursor.number())), samples, tolerance) + mean
                else:
                    x = np.full(samples, cursor.struct("d")[0])
                if x.shape != (samples,):
                    raise Malformed(f"{x.shape} samples where {samples} should be")
                gap = np.isnan(row)
                row[:] = cast_to(x, packed.dtype)
                if gap.any():
                    row[gap] = np.nan
        except (Malformed, struct.error, ValueError, RuntimeError, OverflowError) as error:
            raise SeislatentError(f"a file of {self.name} says what cannot be: {error}") from error
        return packed.waveform.with_data(made, did=f"decoded from {self.name}")

    def _channel(self, x: Array, place: int) -> tuple[bytes, Array]:
        """A channel [time] at a tolerance of 2^(place / 64): its bytes, and what a decoder makes of them."""
        tolerance = 2.0 ** (place / FINENESS)
        step = tolerance / MEAN_STEPS
        mean = round(float(x.mean()) / step)
        if abs(mean) >= 2**62:
            raise SeislatentError(f"{self.name}: a tolerance of {tolerance:.3g} is too small for samples about {x.mean():.3g}")
        body = self.compress(x - mean * step, tolerance)
        head = varint(1 + zigzag(place)) + varint(zigzag(mean)) + varint(len(body))
        return head + body, self.expand(body, len(x), tolerance) + mean * step

    def _searched(self, x: Array, snr_db: float | None, bits_per_sample: float | None) -> bytes:
        """The channel's bytes at the largest tolerance that keeps a ratio, or the least that keeps a rate."""
        about = FINENESS * math.log2(x.std())
        low, high, best = round(about) - LEAST * FINENESS, round(about) + MOST * FINENESS, None
        noise = ((x - x.mean()) ** 2).sum() * 10 ** (-(snr_db or 0.0) / 10)
        while high - low > 1:
            middle = (low + high) // 2
            body, back = self._channel(x, middle)
            if bits_per_sample is None:
                fits = ((back - x) ** 2).sum() <= noise
                low, high = (middle, high) if fits else (low, middle)
            else:
                fits = 8 * len(body) <= bits_per_sample * len(x)
                low, high = (low, middle) if fits else (middle, high)
            best = body if fits else best
        if best is None:
            raise SeislatentError(f"{self.name}: {len(x)} samples cannot be coded at this rate or ratio: ask for another")
        return best
