"""Point sources: what leaves an earthquake and an explosion, before the Earth changes it.

    moment, medium --far field--> plateau M0 / (4 pi rho v^3) --source spectrum--> amplitude at 1 m [frequency], for P and for S
    mechanism --radiation--> factors of P, SV, SH in the direction of the ray; the rest of the energy is scattered

Both sources have the same two methods, so that the path does not ask which it carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

P_TO_S = float(np.sqrt(3))
"""Of the speeds in a Poisson solid."""
GRAVITY_M_S2 = 9.81


def moment_nm(magnitude: float) -> float:
    """Seismic moment in N m of a moment magnitude (Hanks and Kanamori 1979, with the IASPEI constant)."""
    return float(10 ** (1.5 * magnitude + 9.1))


@dataclass(frozen=True, kw_only=True)
class DoubleCouple:
    """Slip on a fault, its spectrum after Brune (1970, JGR 75, 4997)."""

    magnitude: float
    depth_km: float = 10.0
    stress_drop_pa: float = 8e6
    strike_deg: float = 0.0
    dip_deg: float = 90.0
    rake_deg: float = 0.0

    kind: ClassVar[str] = "earthquake"
    density_kg_m3: ClassVar[float] = 2800.0
    s_km_s: ClassVar[float] = 3.5
    """With the density: California, Atkinson and Silva (2000, BSSA 90, 255)."""
    average: ClassVar[dict[str, float]] = {"P": float(np.sqrt(4 / 15)), "S": float(np.sqrt(2 / 5))}
    """Root mean square of the radiation over the focal sphere (Boore and Boatwright 1984, BSSA 74, 1615)."""
    scattered: ClassVar[dict[str, float]] = {"P": 0.27, "S": 0.27}
    """Share of the energy that comes in every direction of motion alike, whatever the mechanism."""

    @property
    def size_km(self) -> float:
        """By how much a large rupture stands farther off than its nearest point (Atkinson and Silva 2000, equation 3)."""
        return float(10 ** (0.15 * self.magnitude - 0.05))

    def corner_hz(self, phase: str) -> float:
        """Corner frequency for S (Brune 1970); P's is taken 1.5 times higher (Hanks and Wyss 1972, BSSA 62, 561)."""
        corner = 490.6 * self.s_km_s * (self.stress_drop_pa / moment_nm(self.magnitude)) ** (1 / 3)
        return float(1.5 * corner if phase == "P" else corner)

    def displacement(self, f: Array, phase: str) -> Array:
        """Amplitude in m s at a distance of 1 m [frequency], for a radiation factor of 1: omega-squared."""
        speed = 1e3 * self.s_km_s * (P_TO_S if phase == "P" else 1)
        plateau = moment_nm(self.magnitude) / (4 * np.pi * self.density_kg_m3 * speed**3)
        return plateau / (1 + (f / self.corner_hz(phase)) ** 2)

    def radiation(self, azimuth_deg: float, takeoff: dict[str, float]) -> dict[str, float]:
        """Factors of P, SV and SH (Aki and Richards 2002, equations 4.89 to 4.91).

        `takeoff` holds the angles from straight down, in rad, at which P and S leave.
        """
        dip, rake = np.radians(self.dip_deg), np.radians(self.rake_deg)
        phi = np.radians(azimuth_deg - self.strike_deg)
        sin, cos, i, j = np.sin, np.cos, takeoff["P"], takeoff["S"]
        p = (
            cos(rake) * (sin(dip) * sin(i) ** 2 * sin(2 * phi) - cos(dip) * sin(2 * i) * cos(phi))
            + sin(rake) * sin(2 * dip) * (cos(i) ** 2 - sin(i) ** 2 * sin(phi) ** 2)
            + sin(rake) * cos(2 * dip) * sin(2 * i) * sin(phi)
        )
        sv = (
            cos(2 * j) * (sin(rake) * cos(2 * dip) * sin(phi) - cos(rake) * cos(dip) * cos(phi))
            + cos(rake) * sin(dip) * sin(2 * j) * sin(2 * phi) / 2
            - sin(rake) * sin(2 * dip) * sin(2 * j) * (1 + sin(phi) ** 2) / 2
        )
        sh = (
            cos(j) * (cos(rake) * cos(dip) * sin(phi) + sin(rake) * cos(2 * dip) * cos(phi))
            + cos(rake) * sin(dip) * sin(j) * cos(2 * phi)
            - sin(rake) * sin(2 * dip) * sin(j) * sin(2 * phi) / 2
        )
        return {"P": float(p), "SV": float(sv), "SH": float(sh)}


@dataclass(frozen=True, kw_only=True)
class Explosion:
    """A contained explosion in hard rock: a step of pressure inside a sphere, which sends P alike in every direction.

    The step is Mueller and Murphy's (1971, BSSA 61, 1675) peak pressure, 1.5 times the weight of the rock above, without its
    decay; the sphere's radius follows from it and from the moment. It sends no S. What arrives as S was converted and scattered
    near the source: its spectrum is P's with the corner lowered by the ratio of the speeds (Fisk 2006, BSSA 96, 2348), its plateau
    `s_to_p` times P's.
    """

    magnitude: float
    depth_km: float = 0.5
    s_to_p: float = 3.0
    """Ours: S over P at low frequencies; an earthquake has 6.3 on average, with as large a P this leaves half."""

    kind: ClassVar[str] = "explosion"
    density_kg_m3: ClassVar[float] = 2650.0
    p_km_s: ClassVar[float] = 5.0
    """With the density: granite near the surface."""
    average: ClassVar[dict[str, float]] = {"P": 1.0, "S": 1.0}
    scattered: ClassVar[dict[str, float]] = {"P": 0.1, "S": 1.0}
    """Share of the energy that comes in every direction of motion alike: all of S, for no mechanism polarises it."""
    size_km: ClassVar[float] = 0.0

    @property
    def pressure_pa(self) -> float:
        """The step of pressure."""
        return 1.5 * self.density_kg_m3 * GRAVITY_M_S2 * 1e3 * self.depth_km

    @property
    def radius_m(self) -> float:
        """Of the sphere beyond which the rock is elastic: M0 = 3 pi pressure radius^3 in a Poisson solid."""
        return float((moment_nm(self.magnitude) / (3 * np.pi * self.pressure_pa)) ** (1 / 3))

    def corner_hz(self, phase: str) -> float:
        """Where the asymptotes of low and high frequency meet: sqrt(4/3) v / (2 pi radius)."""
        speed = 1e3 * self.p_km_s / (1 if phase == "P" else P_TO_S)
        return float(np.sqrt(4 / 3) * speed / (2 * np.pi * self.radius_m))

    def displacement(self, f: Array, phase: str) -> Array:
        """Amplitude in m s at a distance of 1 m [frequency]: M0 / (4 pi rho alpha^3) / |1 + i x - 3/4 x^2|, x = 2 pi f radius / v.

        Sharpe (1942, Geophysics 7, 144) for a Poisson solid; v is the speed of P, and for S that of S.
        """
        plateau = moment_nm(self.magnitude) / (4 * np.pi * self.density_kg_m3 * (1e3 * self.p_km_s) ** 3)
        x = np.sqrt(4 / 3) * f / self.corner_hz(phase)
        level = plateau if phase == "P" else self.s_to_p * plateau
        return level / np.hypot(1 - 0.75 * x**2, x)

    def radiation(self, azimuth_deg: float, takeoff: dict[str, float]) -> dict[str, float]:
        """P alike in every direction, no S."""
        return {"P": 1.0, "SV": 0.0, "SH": 0.0}


def contained_depth_km(magnitude: float, scaled_depth_m: float = 122.0) -> float:
    """Depth in km of an explosion that breaks no crater: `scaled_depth_m` times the cube root of its yield in kilotons."""
    yield_share = moment_nm(magnitude) / _MOMENT_PER_KILOTON
    # depth = s W^(1/3) and W = share depth^0.26: the moment of one yield grows as depth^(1 - 3 * 0.42)
    return float(1e-3 * (scaled_depth_m * yield_share ** (1 / 3)) ** (1 / (1 - 0.26 / 3)))


def yield_kt(explosion: Explosion) -> float:
    """Kilotons of TNT: the elastic radius is 1490 m W^(1/3) / (depth in m)^0.42 (Mueller and Murphy 1971)."""
    return float(moment_nm(explosion.magnitude) / _MOMENT_PER_KILOTON * (1e3 * explosion.depth_km) ** 0.26)


_MOMENT_PER_KILOTON = 3 * np.pi * 1.5 * Explosion.density_kg_m3 * GRAVITY_M_S2 * 1490.0**3
