"""The envelope of a trace, and how far one is from another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor

from seislatent.metrics.waveform import checked, checked_pair, unit_peak


@dataclass(frozen=True, kw_only=True)
class EnvelopeScores:
    """One value per trace."""

    correlation: Float[Tensor, "*trace"]
    """sum e f / sqrt(sum e^2 sum f^2), e and f the envelopes: 0 (nowhere at the same time) to 1; 0 where either is silent."""
    level_db: Float[Tensor, "*trace"]
    """Energy of the estimate over that of the reference: +inf where only the reference is silent, -inf where only the estimate is,
    NaN where both are."""
    centroid_shift_s: Float[Tensor, "*trace"]
    """By how much the centre of energy, sum t e^2 / sum e^2, is late; NaN where either is silent."""


def analytic_signal(x: Float[Tensor, "*trace time"]) -> Complex[Tensor, "*trace time"]:
    """The signal x + i H(x), H the Hilbert transform: negative frequencies 0, positive ones doubled (SciPy's `hilbert`).

    Taken as periodic: a record that does not begin and end quietly disturbs its own ends, so taper or pad first.
    """
    n = x.shape[-1]
    gain = torch.zeros(n, dtype=x.dtype, device=x.device)
    gain[0] = 1
    gain[1 : (n + 1) // 2] = 2
    if n % 2 == 0:
        gain[n // 2] = 1
    return torch.fft.ifft(torch.fft.fft(x) * gain)


def envelope(x: Shaped[Tensor, "*trace time"], sampling_rate_hz: float) -> Float[Tensor, "*trace time"]:
    """|analytic signal| of each trace, in the unit of the samples, 0 up. An offset counts: remove it first.

    The rate does not enter. Raises SeislatentError where a sample is not finite or there is none.
    """
    x = checked(x, sampling_rate_hz)
    # over the peak and times it again: the sums of a transform may leave the range of float32
    return analytic_signal(unit_peak(x)).abs() * x.abs().amax(-1, keepdim=True)


def envelope_scores(estimate: Tensor, reference: Shaped[Tensor, "*trace time"], sampling_rate_hz: float) -> EnvelopeScores:
    """How alike the envelopes of an estimate [*trace time] and its reference are in shape, level and time.

    Blind to phase, polarity and to what lies inside the envelope: two noises of one envelope score high. Means are not removed.
    Raises SeislatentError where shapes or devices differ, a sample is not finite, there is none, or the rate is not positive.
    """
    x, y = checked_pair(estimate, reference, sampling_rate_hz)
    peaks = [v.abs().amax(-1) for v in (x, y)]
    silent = [p == 0 for p in peaks]
    e, f = (analytic_signal(unit_peak(v)).abs() for v in (x, y))
    energies = [v.square().sum(-1) for v in (e, f)]
    either = silent[0] | silent[1]
    safe = [v.where(~either, 1.0) for v in energies]
    t = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device) / sampling_rate_hz
    centre = [(v.square() * t).sum(-1) / s for v, s in zip((e, f), safe, strict=True)]
    level = 10 * torch.log10(energies[0] / energies[1]) + 20 * (torch.log10(peaks[0]) - torch.log10(peaks[1]))
    level = level.where(~silent[1], math.inf).where(~silent[0], -math.inf).where(~(silent[0] & silent[1]), math.nan)
    return EnvelopeScores(
        correlation=((e * f).sum(-1) / (safe[0] * safe[1]).sqrt()).clamp(0, 1).where(~either, 0.0),
        level_db=level,
        centroid_shift_s=(centre[0] - centre[1]).where(~either, math.nan),
    )
