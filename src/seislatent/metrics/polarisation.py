"""How three components move together: the axes of the ellipsoid of motion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.metrics.waveform import checked


@dataclass(frozen=True, kw_only=True)
class Polarisation:
    """One value per record and window."""

    rectilinearity: Float[Tensor, "*record window"]
    """1 - sqrt(l2 / l1): 0 (no line) to 1 (a line); 0 where nothing moves (Montalbetti and Kanasewich 1970)."""
    planarity: Float[Tensor, "*record window"]
    """1 - 2 l3 / (l1 + l2): 0 (a sphere) to 1 (a plane); 0 where nothing moves (Jurkevics 1988)."""
    azimuth_deg: Float[Tensor, "*record window"]
    """Of the longest axis, clockwise from north, its end that points up: 0 to 360, from 0 to 180 for a level axis. P from below
    moves up and away from its source, whose back-azimuth is this + 180. NaN where nothing moves; no meaning for a vertical axis."""
    incidence_deg: Float[Tensor, "*record window"]
    """Of the longest axis from the vertical: 0 to 90. NaN where nothing moves."""
    start_s: Float[Tensor, " window"]
    """Of each window, from the first sample."""


def polarisation(
    x: Shaped[Tensor, "*record component time"],
    sampling_rate_hz: float,
    *,
    window_s: float | None = None,
    hop_s: float | None = None,
) -> Polarisation:
    """Shape and direction of motion of records [*record component time] of components Z (up), N, E, in this order, in one unit.

    The eigenvalues l1 >= l2 >= l3 and the first eigenvector of the covariance of the three components within each window of
    `window_s` (None: the whole record), one every `hop_s` (None: half a window). ObsPy's `flinn` gives the same, but folds
    the azimuth into 0 to 180.

    Blind to the sense of rotation and to amplitude. Noise of equal strength on all components lowers the rectilinearity and leaves
    the direction. Raises SeislatentError where there are not three components or two samples in a window, a sample is not finite,
    or a window is longer than the record.
    """
    x = checked(x, sampling_rate_hz)
    if x.ndim < 2 or x.shape[-2] != 3:
        raise SeislatentError(f"polarisation of shape {tuple(x.shape)}: give [..., component, time] with the components Z, N, E")
    n = x.shape[-1]
    width = n if window_s is None else round(window_s * sampling_rate_hz)
    hop = max(1, width // 2) if hop_s is None else round(hop_s * sampling_rate_hz)
    if not 2 <= width <= n or hop < 1:
        raise SeislatentError(
            f"a window of {width} samples every {hop} in a record of {n}: give window_s for 2 samples or more, no longer than the"
            " record, and a positive hop_s"
        )
    # in float64: squares of components a thousand times weaker are lost in float32
    moved = x.unfold(-1, width, hop).transpose(-3, -2).double()  # [*record window component time]
    moved = moved - moved.mean(-1, keepdim=True)
    peak = moved.abs().amax((-2, -1), keepdim=True)
    # equal samples may differ from their mean by rounding
    still = peak[..., 0, 0] <= 8 * torch.finfo(x.dtype).eps * x.abs().amax((-2, -1))[..., None]
    moved = moved / peak.where(peak > 0, 1.0)
    values, vectors = torch.linalg.eigh(moved @ moved.mT / (width - 1))
    l3, l2, l1 = values.clamp(min=0).unbind(-1)
    z, north, east = vectors[..., -1].unbind(-1)
    level = z.abs() < 1e-9
    up = torch.where(level, torch.where(east != 0, east.sign(), north.sign()), z.sign())
    azimuth = torch.rad2deg(torch.atan2(up * east, up * north)) % 360
    incidence = torch.rad2deg(torch.atan2(torch.hypot(north, east), z.abs()))
    safe = l1.where(~still, 1.0)
    found = {
        "rectilinearity": (1 - (l2 / safe).sqrt()).where(~still, 0.0),
        "planarity": (1 - 2 * l3 / (safe + l2)).where(~still, 0.0),
        "azimuth_deg": azimuth.where(~still, math.nan),
        "incidence_deg": incidence.where(~still, math.nan),
    }
    starts = torch.arange(moved.shape[-3], device=x.device, dtype=x.dtype) * (hop / sampling_rate_hz)
    return Polarisation(**{name: value.to(x.dtype) for name, value in found.items()}, start_s=starts)
