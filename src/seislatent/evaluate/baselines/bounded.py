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
from seislatent.io.bits import Cursor, Malformed, varint
from seislatent.systems.codec.segments import cast_to
from seislatent.waveform import Waveform

Array = NDArray[np.float64]

SEARCHES = 24
"""Halvings of the logarithm of a tolerance, from 2^-30 to 2^8 standard deviations."""


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
            tolerances: or the largest error of each channel, in the unit of the samples.

        Raises:
            SeislatentError: not exactly one of these, an infinite sample, a rate that cannot be kept, or a package that is missing.
        """
        if sum(v is not None for v in (snr_db, bits_per_sample, tolerances)) != 1:
            raise SeislatentError(f"{self.name}: give one of snr_db, bits_per_sample and tolerances")
        if waveform.data.dtype.kind not in "iuf":
            pack(self.name, waveform, b"")  # says which types there are
        given = list(tolerances) if tolerances is not None else [0.0] * len(waveform.data)
        if tolerances is not None and (len(given) != len(waveform.data) or not all(t > 0 and math.isfinite(t) for t in given)):
            raise SeislatentError(f"{self.name}: {len(waveform.data)} channels need as many positive tolerances, not {given}")
        parts = []
        for row, tolerance in zip(waveform.data, given, strict=True):
            x = bridged(row)
            if not x.size or x.min() == x.max():
                parts.append(struct.pack("<dd", 0.0, x[0] if x.size else 0.0))
                continue
            with np.errstate(over="ignore"):
                mean = float(np.float32(x.mean())) if abs(x.mean()) < 1e38 else float(x.mean())
            body = self._searched(x - mean, snr_db, bits_per_sample, tolerance)
            parts.append(struct.pack("<dd", body[0], mean) + varint(len(body[1])) + body[1])
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
            for i in range(len(made)):
                tolerance, mean = cursor.struct("dd")
                x = np.zeros(samples) if not tolerance else self.expand(bytes(cursor.take(cursor.number())), samples, tolerance)
                if x.shape != (samples,):
                    raise Malformed(f"{x.shape} samples where {samples} should be")
                made[i] = np.where(np.isnan(made[i]), np.nan, cast_to(x + mean, packed.dtype)) if packed.dtype.kind == "f" else (
                    cast_to(x + mean, packed.dtype)
                )  # fmt: skip
        except (Malformed, struct.error, ValueError, RuntimeError) as error:
            raise SeislatentError(f"a file of {self.name} says what cannot be: {error}") from error
        return packed.waveform.with_data(made, did=f"decoded from {self.name}")

    def _searched(self, x: Array, snr_db: float | None, bits_per_sample: float | None, tolerance: float) -> tuple[float, bytes]:
        """The tolerance and bytes of a channel without mean."""
        if snr_db is None and bits_per_sample is None:
            return tolerance, self.compress(x, tolerance)
        low, high, best = -30.0, 8.0, None
        noise = (x**2).sum() * 10 ** (-(snr_db or 0) / 10)
        for _ in range(SEARCHES):
            middle = (low + high) / 2
            tried = float(x.std() * 2**middle)
            body = self.compress(x, tried)
            if snr_db is not None:
                fits = ((self.expand(body, len(x), tried) - x) ** 2).sum() <= noise
                low, high = (middle, high) if fits else (low, middle)
            else:
                assert bits_per_sample is not None
                fits = 8 * len(body) <= bits_per_sample * len(x)
                low, high = (low, middle) if fits else (middle, high)
            best = (tried, body) if fits else best
        if best is None:
            raise SeislatentError(f"{self.name}: {len(x)} samples cannot be coded at this rate or ratio: ask for another")
        return best
