"""Horizontal motion in all directions: RotDnn of Boore (2010, Bull. Seism. Soc. Am. 100, 1830-1835).

    RotDnn = nn-th percentile over angles 0, 1, ..., 179 degrees of max over time |h1 cos angle + h2 sin angle|

RotD50 is the median, RotD100 the largest; both depend on how the sensor stood by the step of a degree only (RotD100 by at most
0.004 %). The percentile is linear between the ordered values, as in pyrotd. Blind to the direction itself and to time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.metrics.intensity import G_CM, PERIODS_S, Baseline, Motion, corrected, spectral_name
from seislatent.signal.oscillator import directional_peaks

ANGLES_DEG = tuple(float(angle) for angle in range(180))

@dataclass(frozen=True, kw_only=True)
class RotatedIntensity:
    """One value per pair of horizontals and percentile, float64; NaN where either has a NaN."""

    percentiles: tuple[float, ...]
    PGA_g: Float[Tensor, "*record percentile"]
    PGV_cm_s: Float[Tensor, "*record percentile"]
    PGD_cm: Float[Tensor, "*record percentile"]
    SA_g: Float[Tensor, "*record percentile period"]
    periods_s: tuple[float, ...]

    def columns(self, percentile: float) -> dict[str, Tensor]:
        """Each measure [*record] at one percentile under its name in tables."""
        if percentile not in self.percentiles:
            raise SeislatentError(f"no percentile {percentile:g} here: there are {', '.join(f'{p:g}' for p in self.percentiles)}")
        i = self.percentiles.index(percentile)
        made = {name: getattr(self, name)[..., i] for name in ("PGA_g", "PGV_cm_s", "PGD_cm")}
        return made | {spectral_name(period): self.SA_g[..., i, k] for k, period in enumerate(self.periods_s)}


def rotated_measures(
    first: Float[Tensor, "*record time"],
    second: Float[Tensor, "*record time"],
    sampling_rate_hz: float,
    *,
    unit: str,
    baseline: Baseline | None = None,
    periods_s: Sequence[float] = PERIODS_S,
    percentiles: Sequence[float] = (50.0, 100.0),
) -> RotatedIntensity:
    """RotDnn of peak motion and spectra of pairs of perpendicular horizontal accelerations; arguments as `intensity_measures`.

    Raises SeislatentError as that, and where the shapes of the two differ or a percentile lies outside 0 to 100.
    """
    if first.shape != second.shape:
        raise SeislatentError(f"horizontals of shapes {tuple(first.shape)} and {tuple(second.shape)}: give pairs of one length")
    one, two = (corrected(x, sampling_rate_hz, unit=unit, baseline=baseline) for x in (first, second))
    return rotate(one, two, sampling_rate_hz, periods_s=periods_s, percentiles=percentiles)


def rotate(
    first: Motion,
    second: Motion,
    sampling_rate_hz: float,
    *,
    periods_s: Sequence[float] = PERIODS_S,
    percentiles: Sequence[float] = (50.0, 100.0),
) -> RotatedIntensity:
    """As `rotated_measures`, of motion that is already corrected."""
    for percentile in percentiles:
        if not 0 <= percentile <= 100:
            raise SeislatentError(f"percentile {percentile:g} over directions: give 0 to 100, such as 50 and 100")
    share = torch.tensor(list(percentiles), dtype=torch.float64, device=first.a_cm_s2.device) / 100

    def over_angles(peaks: Tensor) -> Tensor:
        return torch.quantile(peaks, share, dim=-1).movedim(0, -1)

    spectra = directional_peaks(first.a_cm_s2, second.a_cm_s2, sampling_rate_hz, periods_s, ANGLES_DEG)
    return RotatedIntensity(
        percentiles=tuple(map(float, percentiles)),
        PGA_g=over_angles(turned_peaks(first.a_cm_s2, second.a_cm_s2)) / G_CM,
        PGV_cm_s=over_angles(turned_peaks(first.v_cm_s, second.v_cm_s)),
        PGD_cm=over_angles(turned_peaks(first.d_cm, second.d_cm)),
        SA_g=over_angles(spectra).movedim(-1, -2) / G_CM,
        periods_s=tuple(map(float, periods_s)),
    )


def turned_peaks(first: Tensor, second: Tensor, angles_deg: Sequence[float] = ANGLES_DEG) -> Float[Tensor, "*record angle"]:
    """The largest |first cos angle + second sin angle| of all samples; NaN where either trace has one.

    On a CPU only samples outside the polygon of the extreme ones of 16 directions and their mirror images are turned: one inside
    is a mean of the corners, so no projection of it is larger than all of theirs.
    """
    angle = torch.deg2rad(torch.as_tensor(list(angles_deg), dtype=torch.float64, device=first.device))
    turn = torch.stack([angle.cos(), angle.sin()])
    good = first.isfinite().all(-1) & second.isfinite().all(-1)
    orbit = torch.stack([first, second], -1).reshape(-1, first.shape[-1], 2).to(torch.float64)
    flat = good.reshape(-1)
    if orbit.device.type != "cpu":  # there the reduction costs more than it saves
        some = [(orbit @ part).abs().amax(-2) for part in turn.split(max(1, (1 << 26) // max(1, orbit.numel())), dim=1)]
        found = torch.where(flat[:, None], torch.cat(some, -1), torch.nan)
        return found.reshape(*first.shape[:-1], len(angle))
    rows = []
    for path, fine in zip(orbit, flat, strict=True):
        rows.append((_outer(path) @ turn).abs().amax(0) if bool(fine) else torch.full_like(angle, torch.nan))
    return torch.stack(rows).reshape(*first.shape[:-1], len(angle)) if rows else first.new_zeros(*first.shape[:-1], len(angle))


def _outer(path: Tensor, directions: int = 16) -> Tensor:
    """The points [point 2] of a path [time 2] that are not inside the polygon of its extreme ones and their mirror images."""
    angle = torch.pi / directions * torch.arange(directions, dtype=path.dtype, device=path.device)
    along = torch.stack([angle.cos(), angle.sin()])
    projection = path @ along
    extreme = path[projection.abs().argmax(0)]
    extreme = extreme * torch.where((extreme * along.T).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    corners = torch.cat([extreme, -extreme[:1]])  # half of the polygon; the other half is its mirror image
    edge = corners[1:] - corners[:-1]
    outward = torch.stack([edge[:, 1], -edge[:, 0]])
    reach = (corners[:-1] * outward.T).sum(-1)
    outside = ((path @ outward).abs() > reach * (1 - 1e-12)).any(-1)
    return torch.cat([path[outside], extreme])
