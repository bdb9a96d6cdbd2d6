"""Horizontal motion in all directions: RotDnn of Boore (2010, Bull. Seism. Soc. Am. 100, 1830-1835).

    RotDnn = nn-th percentile over angles 0, 1, ..., 179 degrees of max over time |h1 cos angle + h2 sin angle|

RotD50 is the median, RotD100 the largest; both depend on how the sensor stood by the step of a degree only (RotD100 by at most
0.004 %). The percentile is linear between the ordered values, as in pyrotd. Blind to the direction itself and to time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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
    spectra = directional_peaks(first.a_cm_s2, second.a_cm_s2, sampling_rate_hz, periods_s, ANGLES_DEG)
    return RotatedIntensity(
        percentiles=tuple(map(float, percentiles)),
        PGA_g=over_angles(turned_peaks(first.a_cm_s2, second.a_cm_s2), percentiles) / G_CM,
        PGV_cm_s=over_angles(turned_peaks(first.v_cm_s, second.v_cm_s), percentiles),
        PGD_cm=over_angles(turned_peaks(first.d_cm, second.d_cm), percentiles),
        SA_g=over_angles(spectra, percentiles).movedim(-1, -2) / G_CM,
        periods_s=tuple(map(float, periods_s)),
    )


def turned_peaks(first: Tensor, second: Tensor, angles_deg: Sequence[float] = ANGLES_DEG) -> Float[Tensor, "*record angle"]:
    """The largest |first cos angle + second sin angle| of all samples; NaN where either trace has one.

    On a CPU, where no gradient is asked for, only stretches that can hold a peak are turned (`seislatent.signal.orbits`).
    """
    good = (first.isfinite().all(-1) & second.isfinite().all(-1)).reshape(-1, 1)
    orbit = torch.stack([first, second], -2).reshape(-1, 2, first.shape[-1]).to(torch.float64)
    orbit = torch.where(good[..., None], orbit, 0.0)
    if orbit.device.type == "cpu" and not (torch.is_grad_enabled() and orbit.requires_grad):
        from seislatent.signal.orbits import turned

        found = torch.from_numpy(turned(orbit.detach().numpy(), np.asarray(angles_deg, np.float64)))
    else:
        angle = torch.deg2rad(torch.as_tensor(list(angles_deg), dtype=torch.float64, device=first.device))
        turn = torch.stack([angle.cos(), angle.sin()])
        few = max(1, (1 << 26) // max(1, orbit.numel()))
        found = torch.cat([(orbit.mT @ part).abs().amax(-2) for part in turn.split(few, dim=1)], -1)
    return torch.where(good, found, torch.nan).reshape(*first.shape[:-1], len(angles_deg))


def over_angles(peaks: Float[Tensor, "*any angle"], percentiles: Sequence[float]) -> Float[Tensor, "*any percentile"]:
    """Percentiles of peaks over directions, linear between the ordered values; NaN where one is."""
    # numpy sorts ten times as fast as torch on a CPU
    plain = peaks.device.type == "cpu" and not peaks.requires_grad
    ordered = torch.from_numpy(np.sort(peaks.numpy(), -1)) if plain else peaks.sort(-1).values
    ordered = torch.where(ordered[..., -1:].isnan(), torch.nan, ordered)  # NaN comes last
    place = torch.tensor(list(percentiles), dtype=ordered.dtype, device=ordered.device) / 100 * (ordered.shape[-1] - 1)
    below = place.floor().long()
    above = (below + 1).clamp(max=ordered.shape[-1] - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], place - below)
