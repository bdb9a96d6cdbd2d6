"""Directions of the first P and S: how they leave the source and how they come up, out of the travel-time table alone.

A ray leaves along the gradient of the travel time (the eikonal equation), so that directions belong to the same Earth as the times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seislatent.data.travel_times import RADIUS_KM, arrivals_s
from seislatent.errors import SeislatentError

SURFACE_KM_S = {"P": 2.9, "S": 1.67}
"""Speeds under the station, half of the upper crust's: bend the rays upwards."""
STEP_KM = (2.5, 1.0)
"""Distance and depth over which times are differenced: the spacing of the table's nodes."""


@dataclass(frozen=True, kw_only=True)
class Rays:
    """First arrivals: P and S."""

    time_s: dict[str, float]
    takeoff: dict[str, float]
    """Angle from straight down at the source, in rad."""
    incidence: dict[str, float]
    """Angle from the vertical at the station, in rad."""


def rays(distance_km: float, depth_km: float) -> Rays:
    """First P and S over an epicentral distance from a depth.

    Raises:
        SeislatentError: the table has no times there (beyond 95 degrees, below 700 km).
    """
    x, z, (dx, dz) = float(distance_km), float(depth_km), STEP_KM
    near, far, above, below = max(x - dx, 0.0), x + dx, max(z - dz, 0.0), z + dz
    times = arrivals_s(np.array([x, near, far, x, x]), np.array([z, z, z, above, below]))
    takeoff, incidence = {}, {}
    for phase, t in zip("PS", times, strict=True):
        if not np.isfinite(t).all():
            raise SeislatentError(f"no travel times over {x:g} km from {z:g} km depth: the table ends at 95 degrees and 700 km")
        along = float((t[2] - t[1]) / (far - near)) if x > 0 else 0.0  # s/km at the surface, the same at both ends of the ray
        down = float(t[3] - t[4]) / (below - above)
        takeoff[phase] = float(np.arctan2(along * RADIUS_KM / (RADIUS_KM - z), down))
        incidence[phase] = float(np.arcsin(min(1.0, along * SURFACE_KM_S[phase])))
    return Rays(time_s={phase: float(t[0]) for phase, t in zip("PS", times, strict=True)}, takeoff=takeoff, incidence=incidence)
