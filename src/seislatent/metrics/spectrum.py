"""Spectra and how far they are apart: Fourier amplitude, smoothed effective amplitude, log-spectral distance, coherence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike, NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.metrics.waveform import checked, checked_pair, unit_peak

EAS_BANDWIDTH = 188.5
"""b of the effective amplitude spectrum: 2 pi / (1 / 30) (Goulet et al. 2018, PEER Report 2018/02; Kottke et al. 2018)."""


@dataclass(frozen=True, kw_only=True)
class AmplitudeSpectrum:
    """Amplitude in the unit of the samples times seconds."""

    frequencies_hz: Float[Tensor, " frequency"]
    amplitude: Float[Tensor, "*trace frequency"]


@dataclass(frozen=True, kw_only=True)
class Coherence:
    """Magnitude-squared coherence, 0 to 1; 0 at a frequency where either trace has no energy."""

    frequencies_hz: Float[Tensor, " frequency"]
    coherence: Float[Tensor, "*trace frequency"]
    bands_hz: tuple[tuple[float, float], ...]
    by_band: Float[Tensor, "*trace band"]
    """Mean over the frequencies of each band, its ends included."""
    segments: int
    """K: two stationary traces that have nothing in common still reach about 1 / K, two earthquakes far more, as their energy lies
    in a few of the segments."""


def fourier_amplitude(
    x: Shaped[Tensor, "*trace time"], sampling_rate_hz: float, *, spacing_hz: float | None = None
) -> AmplitudeSpectrum:
    """|dt sum_t x[t] exp(-2 pi i f t)| of each trace, from 0 to the Nyquist frequency: that of the continuous transform, one-sided
    without doubling.

    Zeros are appended until the frequencies are at most `spacing_hz` apart (None: no zeros). Neither taper nor offset is treated:
    do that first. Raises SeislatentError where a sample is not finite, there is none, or rate or spacing is not positive.
    """
    x = checked(x, sampling_rate_hz)
    n = x.shape[-1]
    if spacing_hz is not None:
        if not (math.isfinite(spacing_hz) and spacing_hz > 0):
            raise SeislatentError(f"frequencies {spacing_hz} Hz apart: give a positive number")
        n = _length(n, sampling_rate_hz, spacing_hz)
    # divided by the peak and multiplied again, so that counts of 1e30 and metres of 1e-30 stay within float32
    peak = x.abs().amax(-1, keepdim=True)
    amplitude = torch.fft.rfft(unit_peak(x), n).abs() / sampling_rate_hz * peak
    return AmplitudeSpectrum(frequencies_hz=_frequencies(n, sampling_rate_hz, x), amplitude=amplitude)


def konno_ohmachi(frequencies_hz: ArrayLike, centres_hz: ArrayLike, bandwidth: float = 40.0) -> NDArray[np.float64]:
    """Weights [centre frequency] of the smoothing window of Konno and Ohmachi (1998, eq. 4), each row with the sum 1.

    W(f, fc) = (sin(b log10(f / fc)) / (b log10(f / fc)))^4, b the bandwidth: its main lobe ends at fc 10^(+-pi/b), which is
    -16.5 and +19.8 % for b = 40, -3.8 and +3.9 % for b = 188.5. Frequency 0 has weight 0. The rows are those of ObsPy's window with
    `normalize=True` and of pykooh.

    Raises SeislatentError where centres or bandwidth are not positive, or the frequencies are too far apart: no two of them, or
    less than a weight of 1, within a main lobe.
    """
    f, fc = np.asarray(frequencies_hz, np.float64), np.atleast_1d(np.asarray(centres_hz, np.float64))
    if not (np.isfinite(fc).all() and (fc > 0).all() and fc.ndim == 1 and fc.size and bandwidth > 0):
        raise SeislatentError(f"smoothing with b = {bandwidth} at {fc.size} frequencies: all must be positive, at least one given")
    with np.errstate(divide="ignore"):
        x = bandwidth * np.log10(f / fc[:, None])
    weight = np.where(np.isfinite(x), np.sinc(np.where(np.isfinite(x), x, 0.0) / np.pi) ** 4, 0.0)
    within = np.where(np.abs(x) < np.pi, weight, 0.0).sum(-1)
    if (within < 1).any():
        bad = fc[within < 1][0]
        raise SeislatentError(
            f"smoothing with b = {bandwidth:g} at {bad:g} Hz: too few frequencies lie near it; bring them closer together (zeros"
            " behind the record) or leave it out"
        )
    return np.asarray(weight / weight.sum(-1, keepdims=True))


def smoothed(spectrum: AmplitudeSpectrum, centres_hz: ArrayLike, bandwidth: float = 40.0) -> AmplitudeSpectrum:
    """An amplitude spectrum smoothed by `konno_ohmachi`, at the centres given. Raises what that raises."""
    weights = konno_ohmachi(spectrum.frequencies_hz.double().cpu().numpy(), centres_hz, bandwidth)
    like = spectrum.amplitude
    return AmplitudeSpectrum(
        frequencies_hz=torch.as_tensor(np.atleast_1d(np.asarray(centres_hz, np.float64)), dtype=like.dtype, device=like.device),
        amplitude=like @ torch.as_tensor(weights.T.copy(), dtype=like.dtype, device=like.device),
    )


def effective_amplitude(
    h1: Shaped[Tensor, "*trace time"],
    h2: Shaped[Tensor, "*trace time"],
    sampling_rate_hz: float,
    centres_hz: ArrayLike,
    *,
    bandwidth: float = EAS_BANDWIDTH,
) -> AmplitudeSpectrum:
    """The smoothed effective amplitude spectrum (EAS) of two horizontal components, [*trace centre], unit of the samples times s.

    EAS(f) = sqrt((|H1(f)|^2 + |H2(f)|^2) / 2), then smoothed with `konno_ohmachi` (Goulet et al. 2018). It does not depend on how
    the horizontals are turned. Zeros are appended so that four frequencies or more lie within the main lobe of the lowest centre;
    below about 1 / duration the value is still only that of the record's window. Blind to phase.

    Raises SeislatentError where shapes or devices differ, a sample is not finite, or a centre is not within 0 to the Nyquist
    frequency.
    """
    x, y = checked_pair(h1, h2, sampling_rate_hz)
    centres = np.atleast_1d(np.asarray(centres_hz, np.float64))
    if not centres.size or not ((centres > 0) & (centres <= sampling_rate_hz / 2)).all():
        raise SeislatentError(f"frequencies of a spectrum at {sampling_rate_hz:g} Hz: give some from above 0 to half of it")
    if not bandwidth > 0:
        raise SeislatentError(f"smoothing with b = {bandwidth}: give a positive number")
    lobe = centres.min() * (1 - 10 ** (-math.pi / bandwidth))
    n = _length(x.shape[-1], sampling_rate_hz, lobe / 2)
    one, two = (fourier_amplitude(v, sampling_rate_hz, spacing_hz=lobe / 2).amplitude for v in (x, y))
    # weights take longer than the spectra of a batch, and batch after batch has the same
    weights = _weights(n, sampling_rate_hz, tuple(centres.tolist()), bandwidth)
    return AmplitudeSpectrum(
        frequencies_hz=torch.as_tensor(centres, dtype=x.dtype, device=x.device),
        amplitude=torch.hypot(one, two) * math.sqrt(0.5) @ weights.to(x.device, x.dtype),
    )


def log_spectral_distance_db(
    estimate: Tensor,
    reference: Shaped[Tensor, "*trace time"],
    sampling_rate_hz: float,
    *,
    window_s: float,
    band_hz: tuple[float, float] | None = None,
    floor_db: float = 80.0,
) -> Float[Tensor, "*trace"]:
    """Mean over frames of the root mean square, over frequencies, of 20 log10 of the ratio of short-time spectra, in dB.

    LSD = mean_m sqrt(mean_k (20 log10 (max(|X[m,k]|, e) / max(|Y[m,k]|, e)))^2): the distance of Gray and Markel (1976, d2) of
    every frame. Hann frames of `window_s`, one every half of it, wholly inside the record; frequencies within `band_hz`, its ends
    included (None: all). e lies `floor_db` below the largest |Y| of the trace's reference, so that nothing quieter counts.

    0 (equal amplitudes) to `floor_db` and beyond where the estimate is louder; an estimate k times too large gives |20 log10 k|
    where the floor does not reach. Blind to phase, polarity and to shifts much shorter than a frame. A silent reference: 0 where
    the estimate is silent too, else +inf.

    Raises SeislatentError where shapes or devices differ, a sample is not finite, the record is shorter than a frame, or the band
    holds no frequency.
    """
    x, y = checked_pair(estimate, reference, sampling_rate_hz)
    width = _samples(window_s, x.shape[-1], sampling_rate_hz, "frame")
    if not (math.isfinite(floor_db) and floor_db > 0):
        raise SeislatentError(f"a floor {floor_db} dB below the largest value: give a positive number")
    peaks = [v.abs().amax(-1) for v in (x, y)]
    inside = _within(_frequencies(width, sampling_rate_hz, x), band_hz)
    spectra = [_frames(unit_peak(v), width).abs()[..., inside] for v in (x, y)]
    ratio = peaks[0] / peaks[1].where(peaks[1] > 0, 1.0)
    # relative to the reference's largest value
    largest = spectra[1].amax((-2, -1), keepdim=True)
    largest = largest.where(largest > 0, torch.finfo(x.dtype).tiny)
    e = 10 ** (-floor_db / 20)
    x_db, y_db = (20 * torch.log10(v.clamp(min=e)) for v in (spectra[0] / largest * ratio[..., None, None], spectra[1] / largest))
    distance = (x_db - y_db).square().mean(-1).sqrt().mean(-1)
    missed = torch.where(peaks[0] > 0, math.inf, 0.0).to(distance.dtype)
    return distance.where(peaks[1] > 0, missed)


def coherence(
    estimate: Tensor,
    reference: Shaped[Tensor, "*trace time"],
    sampling_rate_hz: float,
    *,
    segment_s: float,
    bands_hz: Sequence[tuple[float, float]] = (),
) -> Coherence:
    """Magnitude-squared coherence |Pxy|^2 / (Pxx Pyy), Welch's estimate, and its mean within bands.

    Hann segments of `segment_s`, each without its mean, half overlapping, those that fit: `scipy.signal.coherence` with
    noverlap = nperseg // 2. 1 where the two are the same but for a filter, about 1 / segments where they have nothing in common.
    Blind to a filter (amplitude and phase that do not change along the record), to polarity, and to small shifts.

    Raises SeislatentError where shapes or devices differ, a sample is not finite, fewer than two segments fit (one alone is always
    coherent), or a band holds no frequency.
    """
    x, y = checked_pair(estimate, reference, sampling_rate_hz)
    width = _samples(segment_s, x.shape[-1], sampling_rate_hz, "segment")
    frequencies = _frequencies(width, sampling_rate_hz, x)
    inside = [_within(frequencies, band) for band in bands_hz]
    wx, wy = (_frames(unit_peak(v), width, centred=True) for v in (x, y))
    segments = wx.shape[-2]
    if segments < 2:
        raise SeislatentError(f"segments of {segment_s:g} s: one alone is always coherent; give a shorter one so that two fit")
    cross = (wx * wy.conj()).sum(-2).abs()
    powers = [v.abs().square().sum(-2) for v in (wx, wy)]
    product = (powers[0] * powers[1]).sqrt()
    # what is only rounding of louder frequencies has no coherence
    least = 8 * torch.finfo(x.dtype).eps
    some = [p > least**2 * p.amax(-1, keepdim=True) for p in powers]
    fine = some[0] & some[1] & (product > 0)
    value = (cross / product.where(fine, 1.0)).square().clamp(max=1).where(fine, 0.0)
    bands = [value[..., mask].mean(-1) for mask in inside]
    return Coherence(
        frequencies_hz=frequencies,
        coherence=value,
        bands_hz=tuple((float(low), float(high)) for low, high in bands_hz),
        by_band=torch.stack(bands, -1) if bands else value.new_zeros((*value.shape[:-1], 0)),
        segments=segments,
    )


@lru_cache(maxsize=4)
def _weights(n: int, rate_hz: float, centres_hz: tuple[float, ...], bandwidth: float) -> Tensor:
    """[frequency centre] in float64, for the spectrum of n samples; not to be written to."""
    return torch.from_numpy(konno_ohmachi(np.fft.rfftfreq(n, 1 / rate_hz), centres_hz, bandwidth).T.copy())


def _length(n: int, rate_hz: float, spacing_hz: float) -> int:
    """Samples, zeros included, whose frequencies are at most `spacing_hz` apart."""
    return int(next_fast_len(max(n, math.ceil(rate_hz / spacing_hz)), real=True))


def _frames(x: Tensor, width: int, centred: bool = False) -> Tensor:
    """Spectra [*trace frame frequency] of Hann frames, one every half `width`, each without its mean where `centred`."""
    parts = x.unfold(-1, width, width - width // 2)
    if centred:
        parts = parts - parts.mean(-1, keepdim=True)
    return torch.fft.rfft(parts * torch.hann_window(width, periodic=True, dtype=x.dtype, device=x.device))


def _frequencies(n: int, rate_hz: float, like: Tensor) -> Tensor:
    return torch.fft.rfftfreq(n, 1 / rate_hz, dtype=like.dtype, device=like.device)


def _samples(seconds: float, n: int, rate_hz: float, what: str) -> int:
    width = round(seconds * rate_hz) if math.isfinite(seconds) else 0
    if not 2 <= width <= n:
        raise SeislatentError(f"a {what} of {seconds:g} s in a record of {n / rate_hz:g} s: give 2 samples or more that fit in")
    return width


def _within(frequencies: Tensor, band_hz: tuple[float, float] | None) -> Tensor:
    """True for the frequencies of a band, its ends included."""
    if band_hz is None:
        return torch.ones_like(frequencies, dtype=torch.bool)
    low, high = band_hz
    inside = (frequencies >= low) & (frequencies <= high)
    if not inside.any():
        apart = float(frequencies[1])
        raise SeislatentError(f"a band of {low:g} to {high:g} Hz holds none of the frequencies, {apart:g} Hz apart: widen it")
    return inside
