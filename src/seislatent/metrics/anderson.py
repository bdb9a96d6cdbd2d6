"""Anderson's scores of a simulated record against an observed one: ten criteria in ten bands, 0 to 10.

    Anderson (2004), Quantitative measure of the goodness-of-fit of synthetic seismograms, 13th World Conf. Earthquake Eng., 243

    S(p, q) = 10 exp(-((p - q) / min(p, q))^2)

    C1  10 (1 - max_t |share of int a^2 by t, difference|)     C2  the same of int v^2
    C3  S of int a^2 (Arias)     C4  S of int v^2     C5, C6, C7  S of peak |a|, |v|, |d|
    C8  mean of S over spectral accelerations of the periods in the band     C9  mean of S over Fourier amplitudes in the band
    C10 10 max(0, int a1 a2 / sqrt(int a1^2 int a2^2))

C1 to C7 and C10 are of band-passed acceleration, its velocity and displacement; C8 and C9 of the whole record. Reading: below 4
poor, 4 to 6 fair, 6 to 8 good, above 8 excellent. The bands are those of the SCEC Broadband Platform, whose definitions these are
but for peaks, taken here of the absolute value. C9 compares single, unsmoothed amplitudes: two draws of one random process score
about 5 there. C1 and C2 flatter a record that is cut short: give both with one start and with all of their coda.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.metrics.intensity import spectrum

BANDS_HZ = (
    (0.1, 0.2), (0.2, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 5.0), (5.0, 10.0), (10.0, 20.0), (20.0, 50.0), (50.0, 100.0),
    (0.1, 100.0),
)  # fmt: skip
CRITERIA = tuple(f"C{i}" for i in range(1, 11))
PER_DECADE = 20
"""Periods of C8."""


@dataclass(frozen=True, kw_only=True)
class AndersonScores:
    """Scores 0 to 10 in float64; NaN in bands outside `band_hz` or above the Nyquist frequency, and where a trace is silent."""

    scores: Float[Tensor, "*trace band criterion"]
    """Criteria in the order C1 to C10."""
    total: Float[Tensor, "*trace"]
    """The mean over criteria of their means over bands (Anderson's S1)."""
    bands_hz: tuple[tuple[float, float], ...]


def anderson_scores(
    estimate: Float[Tensor, "*trace time"],
    reference: Float[Tensor, "*trace time"],
    sampling_rate_hz: float,
    *,
    band_hz: tuple[float, float] = (0.0, float("inf")),
    bands_hz: Sequence[tuple[float, float]] = BANDS_HZ,
) -> AndersonScores:
    """Scores of acceleration against acceleration, both in one unit (any: the scores are ratios).

    Args:
        estimate: simulated acceleration.
        reference: observed acceleration, aligned in time.
        sampling_rate_hz: of both.
        band_hz: what both can be believed in; bands beyond are left out.
        bands_hz: lower and upper corner of each band.

    The filter is a Butterworth band-pass of order 2 run twice (zero phase), in the frequency domain between zeros.

    Raises:
        SeislatentError: shapes differ, no traces, fewer than 2 samples, complex samples, a rate that is not positive, a band that
            is none.
    """
    _check(estimate, reference, sampling_rate_hz)
    both = torch.stack([estimate.to(torch.float64), reference.to(torch.float64)])
    n, step_s = both.shape[-1], 1 / sampling_rate_hz
    nyquist = sampling_rate_hz / 2
    good = (both.isfinite().all(-1) & (both.abs().amax(-1) > 0)).all(0)
    both = torch.where(good[..., None], both, 0.0)
    periods = _periods(bands_hz)
    spectra = spectrum(both, sampling_rate_hz, periods) if periods else both[..., :0]
    scores = torch.full((*estimate.shape[:-1], len(bands_hz), len(CRITERIA)), torch.nan, dtype=torch.float64, device=both.device)
    for i, (low, high) in enumerate(bands_hz):
        if not 0 < low < high:
            raise SeislatentError(f"band from {low:g} to {high:g} Hz: give two corners above 0, the lower one first")
        if low < band_hz[0] or high > band_hz[1] or high > nyquist:
            continue
        a = _bandpass(both, sampling_rate_hz, low, high)
        v = _cumulative(a, step_s)
        d = _cumulative(v, step_s)
        inside = [k for k, period in enumerate(periods) if 1 / high <= period * (1 + 1e-9) and period <= 1 / low * (1 + 1e-9)]
        f = torch.fft.rfftfreq(n, step_s, dtype=torch.float64, device=both.device)
        fas = torch.fft.rfft(both)[..., (f >= low) & (f <= high)].abs()
        made = [
            _shape(a), _shape(v), similarity(*a.square().sum(-1)), similarity(*v.square().sum(-1)),
            similarity(*a.abs().amax(-1)), similarity(*v.abs().amax(-1)), similarity(*d.abs().amax(-1)),
            similarity(*spectra[..., inside]).nanmean(-1), similarity(*fas).nanmean(-1),
            10 * (a.prod(0).sum(-1) / a.square().sum(-1).prod(0).sqrt()).clamp(0, 1),
        ]  # fmt: skip
        scores[..., i, :] = torch.stack(made, -1)
    scores = torch.where(good[..., None, None], scores, torch.nan)
    bands = tuple((float(low), float(high)) for low, high in bands_hz)
    return AndersonScores(scores=scores, total=scores.nanmean(-2).nanmean(-1), bands_hz=bands)


def _check(estimate: Tensor, reference: Tensor, sampling_rate_hz: float) -> None:
    if estimate.shape != reference.shape or estimate.ndim < 1 or estimate.shape[-1] < 2 or not estimate.numel():
        raise SeislatentError(
            f"cannot score an estimate of shape {tuple(estimate.shape)} against a reference of shape {tuple(reference.shape)}:"
            " give one shape, a trace or more, 2 samples or more"
        )
    if estimate.is_complex() or reference.is_complex():
        raise SeislatentError("cannot score complex records: give real samples")
    if not (np.isfinite(sampling_rate_hz) and sampling_rate_hz > 0):
        raise SeislatentError(f"records at {sampling_rate_hz} Hz: give a positive sampling rate")


def similarity(p: Tensor, q: Tensor) -> Tensor:
    """S(p, q) of two positive numbers: 10 if equal, 3.7 if one is twice the other; 0 if only one is 0, NaN if both are."""
    least = torch.minimum(p, q)
    made = 10 * torch.exp(-((p - q) / torch.where(least > 0, least, 1.0)).square())
    return torch.where(least > 0, made, torch.where(torch.maximum(p, q) > 0, 0.0, torch.nan))


def _shape(x: Tensor) -> Tensor:
    """10 less the largest distance of the growth curves of both, times 10."""
    grown = x.square().cumsum(-1)
    one, two = grown / torch.where(grown[..., -1:] > 0, grown[..., -1:], torch.nan)
    return 10 * (1 - (one - two).abs().amax(-1))


def _bandpass(x: Tensor, rate_hz: float, low: float, high: float) -> Tensor:
    """1 / (1 + ((f^2 - low high) / (f (high - low)))^4): a Butterworth band-pass of order 2 run twice, among 3 / width of zeros."""
    pad = int(np.ceil(3 * rate_hz / (high - low)))
    n = x.shape[-1]
    f = torch.fft.rfftfreq(n + 2 * pad, 1 / rate_hz, dtype=x.dtype, device=x.device)
    away = (f.square() - low * high) / torch.where(f > 0, f * (high - low), 1.0)
    gain = torch.where(f > 0, 1 / (1 + away.pow(4)), 0.0)
    return torch.fft.irfft(torch.fft.rfft(torch.nn.functional.pad(x, (pad, pad))) * gain, n + 2 * pad)[..., pad : pad + n]


def _cumulative(x: Tensor, step_s: float) -> Tensor:
    return torch.nn.functional.pad((step_s / 2 * (x[..., 1:] + x[..., :-1])).cumsum(-1), (1, 0))


def _periods(bands_hz: Sequence[tuple[float, float]]) -> list[float]:
    """A grid over all bands, corners included."""
    edges = [1 / f for band in bands_hz for f in band if f > 0]
    if not edges:
        return []
    first, last = (PER_DECADE * np.log10(edge) for edge in (min(edges), max(edges)))
    grid = 10 ** (np.arange(np.floor(first), np.ceil(last) + 1) / PER_DECADE)
    return sorted({*(float(f"{p:.9g}") for p in grid if min(edges) <= p <= max(edges)), *edges})
