"""By how much an estimate moves an onset: cross-correlation of a window around the pick."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.metrics.waveform import checked_pair, constant, cross_correlation, unit_peak, vertex


@dataclass(frozen=True, kw_only=True)
class OnsetShift:
    """One value per trace; all NaN (and `at_limit` false) where there is no pick, no room around it, or nothing moves there."""

    shift_s: Float[Tensor, "*trace"]
    """Positive where the estimate is late."""
    coefficient: Float[Tensor, "*trace"]
    """Correlation of the two windows at the whole sample nearest to that shift, -1 to 1."""
    at_limit: Bool[Tensor, "*trace"]
    """True where the best shift is the largest one sought: it may lie beyond."""


def onset_shift(
    estimate: Tensor,
    reference: Shaped[Tensor, "*trace time"],
    sampling_rate_hz: float,
    onset_sample: Shaped[Tensor, "*trace"],
    *,
    before_s: float = 0.5,
    after_s: float = 1.0,
    max_shift_s: float = 0.5,
) -> OnsetShift:
    """Shift of the onset at `onset_sample` (of the reference; NaN where there is none) in an estimate [*trace time].

    The reference's samples from `before_s` before the pick to `after_s` after it are compared with equally many of the estimate,
    moved by k = -max_shift_s to max_shift_s:

        c[k] = sum_t (x[t + k] - mean of that window) (y[t] - mean) / root of the product of both windows' energies,

    a coefficient of its own window at every k (unlike `correlation`, it does not fall with the lag). The shift is where c is
    greatest, between samples by a parabola. Where it is small the shift is that of noise: read `coefficient` beside it.

    Blind to amplitude, and to what happens outside the window. Raises SeislatentError where shapes or devices differ, a sample is
    not finite, the windows make no sense, or the picks do not fit the traces.
    """
    x, y = checked_pair(estimate, reference, sampling_rate_hz)
    before, after, most = (round(s * sampling_rate_hz) for s in (before_s, after_s, max_shift_s))
    width = before + after
    if width < 2 or min(before, after, most) < 0:
        raise SeislatentError(
            f"a window from {before_s} s before the pick to {after_s} s after it, moved by {max_shift_s} s: at"
            f" {sampling_rate_hz:g} Hz give two samples or more and no negative times"
        )
    try:
        picks = torch.as_tensor(onset_sample, device=x.device).double().expand(x.shape[:-1])
    except RuntimeError:
        raise SeislatentError(
            f"{tuple(torch.as_tensor(onset_sample).shape)} picks for traces of {tuple(x.shape[:-1])}: give one each"
        ) from None
    first = picks.nan_to_num(-math.inf).round() - before - most
    room = (first >= 0) & (first + width + 2 * most <= x.shape[-1])
    index = first.where(room, 0).long()[..., None] + torch.arange(width + 2 * most, device=x.device)
    index = index.clamp(max=x.shape[-1] - 1)
    # in float64: beside a strong S within reach, the energy of a weak P is lost in float32
    found = _best_shift(
        x.gather(-1, index).double(), y.gather(-1, index[..., most : most + width]).double(), room, most, sampling_rate_hz
    )
    return replace(found, shift_s=found.shift_s.to(x.dtype), coefficient=found.coefficient.to(x.dtype))


def _best_shift(x: Tensor, y: Tensor, room: Tensor, most: int, rate_hz: float) -> OnsetShift:
    """The shift of windows y [*trace time] within x, which is longer by `most` on either side."""
    width = y.shape[-1]
    usable = room & ~constant(x) & ~constant(y)
    x, y = (unit_peak(v - v.mean(-1, keepdim=True)) for v in (x, y))
    product = cross_correlation(x, y, 2 * most)[..., 2 * most :]
    mean, square = (F.avg_pool1d(v.reshape(-1, 1, v.shape[-1]), width, 1).reshape(product.shape) for v in (x, x.square()))
    energy = (square - mean.square()) * width
    # a quiet window of the estimate whose energy is only rounding has no coefficient
    least = 1e3 * torch.finfo(x.dtype).eps * x.square().sum(-1, keepdim=True)
    fine = energy > least
    root = (energy.where(fine, 1.0) * y.square().sum(-1, keepdim=True).where(usable[..., None], 1.0)).sqrt()
    value = (product / root).where(fine, 0.0).clamp(-1, 1)
    at = value.argmax(-1)
    usable = usable & fine.any(-1)
    return OnsetShift(
        shift_s=((at - most + vertex(value, at)) / rate_hz).where(usable, math.nan),
        coefficient=value.gather(-1, at[..., None])[..., 0].where(usable, math.nan),
        at_limit=usable & ((at - most).abs() == most) & (most > 0),
    )
