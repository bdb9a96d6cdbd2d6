"""What a group of records has in common, without a network: aligned by cross-correlation, then stacked.

records [record channel time] --align--> shifts [record] --shifted--> [record channel time] --stack--> [channel time]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.metrics.envelope import analytic_signal
from seislatent.metrics.waveform import checked, cross_correlation, vertex

CANDIDATES = 16
"""Records tried as the first reference."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Records moved onto each other."""

    records: Float[Tensor, "record channel time"]
    """Moved, in their own scale; zeros come in at the ends."""
    shift_s: Float[Tensor, " record"]
    """By how much each record was late; the mean of all is 0."""
    coefficient: Float[Tensor, " record"]
    """Correlation of each, as moved, with the mean of all others, -1 to 1; 0 for a silent record or one alone."""
    iterations: int
    """After how many no record moved any more, or the largest number allowed."""


def align(
    records: Float[Tensor, "record channel time"],
    sampling_rate_hz: float,
    *,
    max_shift_s: float,
    iterations: int = 10,
    tolerance_samples: float = 0.05,
) -> Alignment:
    """Align a group by repeated cross-correlation with its own mean; the channels of a record move together.

    Every record is divided by the root of its energy. The first reference is that one of at most 16 records, evenly spread over the
    group, that correlates best with all others; after that it is the mean of all other records as moved (with itself in the mean, a
    record would be held where it is by its own noise). A record's shift is where its correlation with the reference, summed over
    channels, is greatest within `max_shift_s` (a parabola finds it between samples).
    The mean shift is taken off. Repeated until no shift changes by more than `tolerance_samples`, at most `iterations` times.

    Records of the wrong polarity are moved by half a period or so, not turned. Silent records stay where they are.

    Raises SeislatentError where the shape is not [record channel time] or [record time] with a record or more, a sample is not
    finite, or an argument makes no sense.
    """
    x = _checked(records, sampling_rate_hz)
    most = int(max_shift_s * sampling_rate_hz + 1e-9) if math.isfinite(max_shift_s) else -1
    if not 0 <= most < x.shape[-1] or iterations < 1:
        raise SeislatentError(
            f"shifts up to {max_shift_s} s in {iterations} iterations: give 0 or more, shorter than the record, and one or more"
        )
    unit, silent = _unit_energy(x)
    lag = _lags(unit, _first_reference(unit, most), most)[0]
    lag = (lag - lag.mean()).where(~silent, 0.0)
    done = 1
    while done < iterations and len(unit) > 1:
        done += 1
        moved = shifted(unit, -lag)
        found = _lags(unit, moved.sum(0) - moved, most)[0]
        found = (found - found[~silent].mean().nan_to_num(0.0)).where(~silent, 0.0)
        change, lag = (found - lag).abs().max(), found
        if change <= tolerance_samples:
            break
    moved = shifted(unit, -lag)
    others = moved.sum(0) - moved if len(unit) > 1 else 0 * moved
    size = (moved.square().sum((1, 2)) * others.square().sum((1, 2))).sqrt()
    coefficient = (moved * others).sum((1, 2)) / size.where(size > 0, 1.0)
    return Alignment(
        records=shifted(x, -lag).reshape(records.shape),
        shift_s=lag / sampling_rate_hz,
        coefficient=coefficient,
        iterations=done,
    )


def linear_stack(records: Float[Tensor, "record channel time"]) -> Float[Tensor, "channel time"]:
    """The mean of records [record ... time]: noise that differs between n records falls by sqrt(n)."""
    return _checked(records, 1.0).mean(0).reshape(records.shape[1:])


def phase_weighted_stack(records: Float[Tensor, "record channel time"], power: float = 2.0) -> Float[Tensor, "channel time"]:
    """The mean, times how alike the phases are at each sample, to a power (Schimmel and Paulssen 1997, eq. 4).

    g(t) = (1/N sum_j s_j(t)) |1/N sum_k exp(i phi_k(t))|^power, phi_k the phase of the analytic signal of record k. Power 0 is the
    linear stack. What is coherent but weak is kept, what is strong in one record alone is not; amplitudes of what is only partly
    coherent become too small, so it is not linear: do not measure amplitudes or spectra on it. A silent sample has no phase and
    counts as 0 in the second mean.

    Raises SeislatentError where a sample is not finite, the power is negative, or there is no record.
    """
    x = _checked(records, 1.0)
    if not (math.isfinite(power) and power >= 0):
        raise SeislatentError(f"a power of {power} for a phase-weighted stack: give 0 or more")
    signal = analytic_signal(x)
    size = signal.abs()
    phase = signal / size.where(size > 0, 1.0)
    return (x.mean(0) * phase.mean(0).abs() ** power).reshape(records.shape[1:])


def shifted(x: Float[Tensor, "record channel time"], lag: Float[Tensor, " record"]) -> Float[Tensor, "record channel time"]:
    """Each record moved later by its lag in samples, whole or not (a phase ramp); zeros come in, nothing comes round."""
    n = x.shape[-1]
    pad = int(lag.abs().max().ceil()) + 1 if len(lag) else 1
    size = n + 2 * pad
    ramp = torch.fft.rfftfreq(size, dtype=x.dtype, device=x.device) * (-2 * math.pi) * lag[:, None, None].to(x.dtype)
    spectrum = torch.fft.rfft(x, size) * torch.polar(torch.ones_like(ramp), ramp)
    moved = torch.fft.irfft(spectrum, size)[..., :n]
    whole = lag.round()
    exact = (lag == whole)[:, None, None]
    t = torch.arange(n, device=x.device) - whole.long()[:, None]
    given = ((t >= 0) & (t < n))[:, None].expand(x.shape)
    taken = x.gather(-1, t.clamp(0, n - 1)[:, None].expand(x.shape)).where(given, 0.0)
    return torch.where(exact, taken, moved)


def _first_reference(unit: Tensor, most: int) -> Tensor:
    """The record that correlates best with all others, of some."""
    step = max(1, len(unit) // CANDIDATES)
    candidates = unit[::step]
    return candidates[int(torch.stack([_lags(unit, c, most)[1].sum() for c in candidates]).argmax())]


def _lags(unit: Tensor, reference: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """By how many samples each record is late against a reference ([record] channel time), and the correlation there."""
    value = cross_correlation(unit, reference.expand(unit.shape), most).sum(1)
    at = value.argmax(-1)
    return at - most + vertex(value, at), value.gather(-1, at[:, None])[:, 0]


def _unit_energy(x: Tensor) -> tuple[Tensor, Tensor]:
    """Records without offsets and with the energy 1, and which have none."""
    peak = x.abs().amax((1, 2), keepdim=True)
    x = x / peak.where(peak > 0, 1.0)
    x = x - x.mean(-1, keepdim=True)
    energy = x.square().sum((1, 2), keepdim=True)
    silent = energy <= torch.finfo(x.dtype).eps ** 2
    return (x / energy.where(~silent, 1.0).sqrt()).where(~silent, 0.0), silent[:, 0, 0]


def _checked(records: Tensor, rate_hz: float) -> Tensor:
    x = checked(records, rate_hz, "group")
    if x.ndim not in (2, 3) or not len(x) or not x.shape[1]:
        raise SeislatentError(f"a group of shape {tuple(records.shape)}: give [record, channel, time] or [record, time]")
    return x.unsqueeze(1) if x.ndim == 2 else x
