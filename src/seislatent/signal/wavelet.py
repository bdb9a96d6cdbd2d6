"""Continuous wavelet transform with Morlet's wavelet, of many signals at once.

    x [..., time] --rfft--> [..., bin] --times two filters per frequency--> irfft --> real and imaginary part [..., frequency, time]

    W(t, f) = 1/sqrt(a) * integral of x(tau) * conj(psi((tau - t) / a)) dtau,   a = w0 / (2 pi f)
    psi(s) = pi^(-1/4) * exp(i w0 s) * exp(-s^2 / 2)

Kristekova et al. 2006, eq. 4; the integral is the sum over samples over the rate, the signal zero beyond its ends. The sum is
taken exactly (no frequency is cut off, nothing wraps around), so values agree with `obspy.signal.tf_misfit.cwt` to rounding.
What makes it fast: the wavelet's two parts are real filters, each an inverse transform of real numbers, and a transform is only as
much longer than the signal as the wavelet of its frequency is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from torch import Tensor

from seislatent.errors import SeislatentError

TAIL = {torch.float64: 8.6, torch.float32: 6.4}
"""Standard deviations of the wavelet's envelope beyond which it is below the rounding of a type: exp(-8.6^2 / 2) = 9e-17."""


@dataclass(frozen=True, kw_only=True)
class MorletBand:
    """Wavelets of a few neighbouring frequencies as filters of one length."""

    frequencies: slice
    """Their places among all frequencies."""
    length: int
    """Samples of the transform, zeros included."""
    filters: Complex[Tensor, "2 frequency bin"]
    """Spectra of the real and of the imaginary part."""

    def spectrum(self, x: Float[Tensor, "*row time"]) -> Complex[Tensor, "*row bin"]:
        """What `apply` takes."""
        return torch.fft.rfft(x, n=self.length)

    def apply(
        self, spectrum: Complex[Tensor, "*row bin"], n: int
    ) -> tuple[Float[Tensor, "*row frequency time"], Float[Tensor, "*row frequency time"]]:
        """Real and imaginary part of the transform at the first `n` samples."""
        parts = torch.fft.irfft(spectrum[..., None, :] * self.filters[(slice(None), *[None] * (spectrum.ndim - 1))], n=self.length)
        return parts[0, ..., :n], parts[1, ..., :n]


def morlet(
    x: Float[Tensor, "*row time"],
    sampling_rate_hz: float,
    frequencies_hz: NDArray[np.float64],
    w0: float = 6.0,
    offset: float = 0.0,
) -> Complex[Tensor, "*row frequency time"]:
    """W(t, f) in the unit of x times second^(1/2), at t = (n + offset) / sampling rate.

    `w0` trades resolution in time for resolution in frequency: the wavelet of frequency f has standard deviations of w0 / (2 pi f)
    seconds and f / w0 Hz. An offset of -0.5 gives the times of ObsPy. float32 or float64, on any device.

    Raises SeislatentError for frequencies that are not positive or beyond the Nyquist frequency, and for w0 that is not positive.
    """
    real = x.new_empty(*x.shape[:-1], len(frequencies_hz), x.shape[-1])
    transform = torch.complex(real, real)
    for band in morlet_bands(x.shape[-1], sampling_rate_hz, frequencies_hz, w0, offset, like=x):
        transform[..., band.frequencies, :] = torch.complex(*band.apply(band.spectrum(x), x.shape[-1]))
    return transform


def logarithmic_frequencies(band_hz: tuple[float, float], count: int) -> NDArray[np.float64]:
    """`count` frequencies [frequency] in Hz from the first to the second of `band_hz`, evenly spaced in their logarithm.

    Raises SeislatentError for a band that is not two rising positive numbers and for a count below 1.
    """
    low, high = band_hz
    if not (0 < low < high < math.inf):
        raise SeislatentError(f"band of {low:g} to {high:g} Hz: give two rising positive frequencies")
    if count < 1:
        raise SeislatentError(f"{count} frequencies: give at least 1")
    return np.logspace(np.log10(low), np.log10(high), count)


def morlet_bands(
    n: int,
    sampling_rate_hz: float,
    frequencies_hz: NDArray[np.float64],
    w0: float,
    offset: float,
    *,
    like: Tensor,
    most: int = 1 << 22,
) -> Iterator[MorletBand]:
    """The filters that give n samples, band by band, in the type and on the device of `like`; at most `most` values at once."""
    _check(n, sampling_rate_hz, frequencies_hz, w0)
    scale = w0 / (2 * np.pi * frequencies_hz)  # a, in seconds
    reach = [min(math.ceil(TAIL[like.dtype] * a * sampling_rate_hz + abs(offset)), n - 1) for a in scale]
    lengths = [_fast_length(n + k) for k in reach]
    first = 0
    while first < len(lengths):
        last = first + 1
        while last < len(lengths) and lengths[last] == lengths[first] and (last + 1 - first) * lengths[first] <= most:
            last += 1
        filters = _filters(lengths[first], max(reach[first:last]), scale[first:last], sampling_rate_hz, w0, offset, like)
        yield MorletBand(frequencies=slice(first, last), length=lengths[first], filters=filters)
        first = last


def _filters(
    length: int, reach: int, scale: NDArray[np.float64], rate_hz: float, w0: float, offset: float, like: Tensor
) -> Complex[Tensor, "2 frequency bin"]:
    lag = torch.arange(-reach, reach + 1, device=like.device)  # s is in float64 whatever the type of x
    a = torch.from_numpy(scale).to(like.device)[:, None]
    s = (lag.to(torch.float64) + offset) / rate_hz / a
    envelope = torch.exp(-s.square() / 2) * (math.pi**-0.25 / rate_hz) / a.sqrt()
    wavelet = s.new_zeros(2, len(scale), length)
    wavelet[..., lag % length] = torch.stack([envelope * torch.cos(w0 * s), envelope * torch.sin(w0 * s)])
    return torch.fft.rfft(wavelet).to(like.dtype.to_complex())


def _fast_length(n: int) -> int:
    """The next number of the form 2^k times 8, 9, 10, 12 or 15: quick to transform and at most a fifth too long."""
    power = max(n - 1, 8).bit_length() - 4
    return min(m << p for p in (power, power + 1) for m in (8, 9, 10, 12, 15) if m << p >= n)


def _check(n: int, rate_hz: float, frequencies_hz: NDArray[np.float64], w0: float) -> None:
    if n < 2:
        raise SeislatentError(f"a wavelet transform of {n} sample{'s' if n != 1 else ''}: give at least 2")
    if not 0 < rate_hz < math.inf:
        raise SeislatentError(f"sampling rate of {rate_hz:g} Hz: it must be a positive number")
    if not 0 < w0 < math.inf:
        raise SeislatentError(f"w0 = {w0:g}: it must be positive (6 is usual)")
    if not (len(frequencies_hz) and frequencies_hz.min() > 0 and frequencies_hz.max() <= rate_hz / 2 * (1 + 1e-9)):
        raise SeislatentError(f"wavelet frequencies must lie above 0 and not above the Nyquist frequency of {rate_hz / 2:g} Hz")
