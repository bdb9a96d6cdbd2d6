"""How far samples are from samples, per trace; correlation and the shift at which it is best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from scipy.fft import next_fast_len
from torch import Tensor

from seislatent.errors import SeislatentError


@dataclass(frozen=True, kw_only=True)
class WaveformErrors:
    """One value per trace, in float64."""

    mse: Float[Tensor, "*trace"]
    """Mean squared error, in the unit of the samples squared."""
    mae: Float[Tensor, "*trace"]
    """Mean absolute error, in the unit of the samples."""
    snr_db: Float[Tensor, "*trace"]
    """10 log10 of the reference's energy over the error's, in dB."""


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Pearson's coefficient at no shift and at the best one; one value per trace."""

    at_zero: Float[Tensor, "*trace"]
    """-1 to 1; 0 where either trace is constant."""
    best: Float[Tensor, "*trace"]
    """The largest over all lags allowed, -1 to 1; 0 where either trace is constant."""
    lag: Int[Tensor, "*trace"]
    """Where that is, in samples; positive where the estimate is late."""
    shift_s: Float[Tensor, "*trace"]
    """The same in seconds, between samples by a parabola; NaN where either trace is constant."""
    at_limit: Bool[Tensor, "*trace"]
    """True where the best lag is the largest one allowed: the true shift may lie beyond."""


def waveform_errors(estimate: Tensor, reference: Shaped[Tensor, "*trace time"], sampling_rate_hz: float) -> WaveformErrors:
    """Errors of an estimate [*trace time] against its reference.

    The signal-to-noise ratio is +inf where the estimate is exact and the reference not silent, -inf where a silent reference is
    missed, NaN where both are silent or the trace has no samples (there all three are NaN): decide what such traces count before
    taking a mean. A NaN sample makes its trace NaN.

    Energy is taken about zero: remove an offset first, or it counts as signal. Blind to the phase and frequency of the error. The
    sampling rate does not enter; every metric takes one.

    Raises SeislatentError where shapes or devices differ, samples are complex, or the rate is not a positive number.
    """
    _check_alike(estimate, reference)
    _check_rate(sampling_rate_hz)
    x, y = estimate.to(torch.float64), reference.to(torch.float64)
    error = x - y
    mse = error.square().mean(-1)
    return WaveformErrors(mse=mse, mae=error.abs().mean(-1), snr_db=10 * torch.log10(y.square().mean(-1) / mse))


def scale_invariant_sdr_db(
    estimate: Tensor, reference: Shaped[Tensor, "*trace time"], sampling_rate_hz: float
) -> Float[Tensor, "*trace"]:
    """SI-SDR = 10 log10(|a y|^2 / |a y - x|^2) with a = x.y / y.y, in dB and float64 (Le Roux et al. 2019, eq. 5).

    -inf (nothing of the reference in the estimate) to +inf (equal but for a factor). Blind to that factor, its sign included: a
    record of the wrong polarity scores as the right one. Energy is taken about zero. -inf where one of the two is silent, NaN where
    both are. The sampling rate does not enter.

    Raises SeislatentError where shapes or devices differ, a sample is not finite or there is none.
    """
    x, y = checked_pair(estimate, reference, sampling_rate_hz)
    x, y = unit_peak(x.double()), unit_peak(y.double())
    energy = y.square().sum(-1)
    image = ((x * y).sum(-1) / energy.where(energy > 0, 1.0))[..., None] * y
    found, missed = image.square().sum(-1), (image - x).square().sum(-1)
    silent_x, silent_y = (v.abs().amax(-1) == 0 for v in (x, y))
    value = 10 * torch.log10(found / missed)
    return value.where(~(silent_x | silent_y), -math.inf).where(~(silent_x & silent_y), math.nan)


def correlation(
    estimate: Tensor,
    reference: Shaped[Tensor, "*trace time"],
    sampling_rate_hz: float,
    *,
    max_shift_s: float | None = None,
) -> Correlation:
    """Correlation of an estimate [*trace time] with its reference at every lag up to `max_shift_s` (None: all of them).

    c[k] = sum_t x[t + k] y[t] / sqrt(sum x^2 sum y^2), means removed, zero beyond the ends (so that c falls with |k| where signals
    fill the whole record; ObsPy's `correlate` with its defaults). Found with one FFT; the shift between samples is the vertex of
    the parabola through the greatest value and its neighbours, which is exact for a parabola and off by some hundredths of a sample
    for a band that ends near the Nyquist frequency.

    Blind to amplitude and offset. The greatest value, not the greatest magnitude, counts: a record of the wrong polarity
    correlates best at a wrong shift, so look at `at_zero` too.

    Raises SeislatentError where shapes or devices differ, a sample is not finite or there is none, the rate is not positive or
    `max_shift_s` negative.
    """
    x, y = checked_pair(estimate, reference, sampling_rate_hz)
    n = x.shape[-1]
    if max_shift_s is not None and not (math.isfinite(max_shift_s) and max_shift_s >= 0):
        raise SeislatentError(f"a largest shift of {max_shift_s} s: give a number of seconds from 0 up")
    most = n - 1 if max_shift_s is None else min(n - 1, int(max_shift_s * sampling_rate_hz + 1e-9))
    flat = constant(x) | constant(y)
    x, y = (unit_peak(v - v.mean(-1, keepdim=True)) for v in (unit_peak(x), unit_peak(y)))
    at_every = cross_correlation(x, y, most)
    energy = (x.square().sum(-1) * y.square().sum(-1)).sqrt()
    at_every = (at_every / energy.where(~flat, 1.0)[..., None]).clamp(-1, 1).where(~flat[..., None], 0.0)
    at = at_every.argmax(-1).where(~flat, most)
    lag = at - most
    return Correlation(
        at_zero=at_every[..., most],
        best=at_every.gather(-1, at[..., None])[..., 0],
        lag=lag,
        shift_s=((lag + vertex(at_every, at)) / sampling_rate_hz).where(~flat, math.nan),
        at_limit=(lag.abs() == most) & (0 < most < n - 1) & ~flat,
    )


def cross_correlation(x: Tensor, y: Tensor, most: int) -> Float[Tensor, "*trace lag"]:
    """sum_t x[t + k] y[t] for k = -most to most; x and y [*trace time], zero beyond their ends, need not have one length."""
    n = next_fast_len(max(x.shape[-1], y.shape[-1]) + most, real=True)
    product = torch.fft.irfft(torch.fft.rfft(x, n) * torch.fft.rfft(y, n).conj(), n)
    return torch.cat([product[..., n - most :], product[..., : most + 1]], -1)


def vertex(values: Float[Tensor, "*trace lag"], at: Int[Tensor, "*trace"]) -> Float[Tensor, "*trace"]:
    """Where between -1/2 and 1/2 of `at` the parabola through a greatest value and its neighbours is highest; 0 at either end."""
    last = values.shape[-1] - 1
    inside = (at > 0) & (at < last)
    before, here, after = (values.gather(-1, (at + step).clamp(0, last)[..., None])[..., 0] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    usable = inside & (bend < 0)
    return (0.5 * (before - after) / bend.where(usable, -1.0)).clamp(-0.5, 0.5).where(usable, 0.0)


def constant(x: Shaped[Tensor, "*trace time"]) -> Bool[Tensor, "*trace"]:
    """True where every sample is the same."""
    return x.amax(-1) == x.amin(-1)


def unit_peak(x: Float[Tensor, "*trace time"]) -> Float[Tensor, "*trace time"]:
    """Each trace over its largest absolute value, so that no square leaves the range of its type; silence stays silence."""
    peak = x.abs().amax(-1, keepdim=True)
    return x / peak.where(peak > 0, 1.0)


def checked_pair(estimate: Tensor, reference: Tensor, sampling_rate_hz: float, *, empty: bool = False) -> tuple[Tensor, Tensor]:
    """Both in float64 if either is (integers count as float64), else in float32.

    Raises SeislatentError where they cannot be compared: other shapes or devices, a sample that is not finite, no samples, no rate,
    or, unless `empty`, no traces.
    """
    _check_alike(estimate, reference)
    x, y = (checked(v, sampling_rate_hz, name, empty=empty) for v, name in ((estimate, "estimate"), (reference, "reference")))
    dtype = torch.promote_types(x.dtype, y.dtype)
    return x.to(dtype), y.to(dtype)


def checked(x: Tensor, sampling_rate_hz: float, name: str = "signal", *, empty: bool = False) -> Tensor:
    """A signal [*trace time] in float32 where it is of 32 bits or fewer, in float64 where it is double or whole numbers.

    Raises SeislatentError where a sample is not finite, there are no samples or (unless `empty`) no traces, or the rate is not a
    positive number.
    """
    _check_rate(sampling_rate_hz)
    _check_real(x, name)
    if x.ndim < 1 or not x.shape[-1]:
        raise SeislatentError(f"the {name} of shape {tuple(x.shape)} has no samples: give [..., time]")
    if not (x.numel() or empty):
        raise SeislatentError(f"the {name} of shape {tuple(x.shape)} has no traces: give one or more")
    fine = torch.isfinite(x).all(-1).flatten()
    if not fine.all():
        raise SeislatentError(
            f"{int((~fine).sum())} of {len(fine)} traces of the {name} hold NaN or infinity"
            f" (first: trace {int((~fine).nonzero()[0])}): fill gaps or leave them out"
        )
    return x.to(torch.float32 if x.is_floating_point() and x.dtype != torch.float64 else torch.float64)


def _check_alike(estimate: Tensor, reference: Tensor) -> None:
    if estimate.shape != reference.shape or estimate.ndim < 1:
        raise SeislatentError(
            f"cannot compare an estimate of shape {tuple(estimate.shape)} with a reference of shape {tuple(reference.shape)}:"
            " cut or resample them to the same samples"
        )
    if estimate.device != reference.device:
        raise SeislatentError(f"the estimate is on {estimate.device} and the reference on {reference.device}: move one of them")
    _check_real(estimate, "estimate")
    _check_real(reference, "reference")


def _check_rate(sampling_rate_hz: float) -> None:
    if not (math.isfinite(sampling_rate_hz) and sampling_rate_hz > 0):
        raise SeislatentError(f"a sampling rate of {sampling_rate_hz} Hz: give a positive number")


def _check_real(x: Tensor, name: str) -> None:
    if x.is_complex():
        raise SeislatentError(f"the {name} is complex: give real samples")
