"""The stochastic method: what a point source in a simple Earth moves at a site.

    source (M, stress drop, mechanism, depth) --omega-squared spectrum--> path (spreading, Q, duration) --> site (kappa, resonance)
       white noise in a window that starts at P or S --filter of that spectrum--> ray direction --> Z, N, E in m/s

After Boore (2003, Pure appl. Geophys. 160, 635) with the point source of Brune (1970, JGR 75, 4997), once for P and once for S.
What we do differently: the filter is of minimum phase, so that nothing moves before the onset; the motion is polarised along the
ray with the mechanism's radiation pattern (Aki and Richards 2002, equations 4.89 to 4.91) and a scattered part is added to each
component. The Earth is a crust over a mantle with straight rays and head waves: good enough to place arrivals in order, not to
locate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

CRUST_P_KM_S, MANTLE_P_KM_S, MOHO_KM = 6.2, 8.0, 35.0
P_TO_S = np.sqrt(3)
DENSITY_KG_M3 = 2800.0
SURFACE_SLOWING = 0.5
"""Speed at the surface as a share of the crust's: bends rays upwards."""
AVERAGE_RADIATION = {"P": np.sqrt(4 / 15), "S": np.sqrt(2 / 5)}
"""Root mean square over the focal sphere (Boore and Boatwright 1984)."""
SCATTERED = 0.35
"""Share of the average radiation that reaches every component, whatever the mechanism."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A point source."""

    magnitude: float
    depth_km: float = 10.0
    stress_drop_pa: float = 5e6
    strike_deg: float = 0.0
    dip_deg: float = 90.0
    rake_deg: float = 0.0

    @property
    def moment_nm(self) -> float:
        """Seismic moment in N m (Hanks and Kanamori 1979, with the IASPEI constant)."""
        return 10 ** (1.5 * self.magnitude + 9.1)

    def corner_hz(self, phase: str) -> float:
        """Corner frequency for S (Brune 1970); P's is taken 1.5 times higher (Hanks and Wyss 1972)."""
        speed = 1e3 * CRUST_P_KM_S / P_TO_S
        corner = 0.4906 * speed * (self.stress_drop_pa / self.moment_nm) ** (1 / 3)
        return 1.5 * corner if phase == "P" else corner


@dataclass(frozen=True, kw_only=True)
class Path:
    """From the source to the site."""

    distance_km: float
    """Epicentral."""
    azimuth_deg: float = 30.0
    """From the source to the site, clockwise from north."""
    q0: float = 300.0
    q_power: float = 0.6
    """Q(f) = q0 f^q_power."""
    kappa_s: float = 0.03
    coda_s: float = 12.0
    """Decay time of the coda's amplitude."""
    coda_share: float = 0.3
    """Coda's amplitude at its start as a share of the direct wave's peak."""
    site: tuple[float, float, float] = (1.0, 2.0, 0.0)
    """Amplification of all frequencies, frequency (Hz) of the resonance, its strength (0: none; horizontal components only)."""


def seismogram(rng: np.random.Generator, source: Source, path: Path, n: int, sampling_rate_hz: float, p_sample: int) -> Array:
    """Velocity [component time] in m/s, components Z, N, E, with P at sample `p_sample`."""
    p_s, s_s, takeoff = arrivals(path.distance_km, source.depth_km)
    m = fast_length(2 * n)  # room for the filter's tail
    f = np.fft.rfftfreq(m, 1 / sampling_rate_hz)
    time_s = (np.arange(n) - p_sample) / sampling_rate_hz
    spectrum = np.zeros((3, len(f)), complex)
    # velocity is 2 pi i f times displacement: a backward difference, which is causal, and the ratio of the two amplitudes
    difference = 1 - np.exp(-2j * np.pi * f / sampling_rate_hz)
    response = site_response(f, path) * sampling_rate_hz / np.sinc(f / sampling_rate_hz)
    directions = ray_directions(path.azimuth_deg, np.arcsin(SURFACE_SLOWING * np.sin(takeoff)))
    radiated = dict(zip(("P", "SV", "SH"), radiation(source, path.azimuth_deg, takeoff), strict=True))
    for phase, modes, delay_s in (("P", ("P",), 0.0), ("S", ("SV", "SH"), s_s - p_s)):
        window = envelope(time_s - delay_s, source, path, phase)
        if not window.any():
            continue
        steady = rng.standard_normal((len(modes) + 3, n)) * window  # one series per mode, one scattered per component
        white = np.fft.rfft(steady, m)
        moved = SCATTERED * AVERAGE_RADIATION[phase] * white[len(modes) :]
        for row, mode in enumerate(modes):
            moved = moved + radiated[mode] * directions[mode][:, None] * white[row]
        amplitude = displacement_spectrum(f, source, path, phase) * response
        spectrum += moved * minimum_phase(amplitude[:2])[[0, 1, 1]]  # N and E share theirs
    return np.fft.irfft(spectrum * difference * np.sqrt(sampling_rate_hz), m)[:, :n]


def displacement_spectrum(f: Array, source: Source, path: Path, phase: str) -> Array:
    """Amplitude [frequency] of ground displacement in m s, for a radiation pattern of 1, before the site's resonance.

    Boore (2003) equations 2 to 5 and 16: F M0 / (4 pi rho v^3 R) / (1 + (f / fc)^2) exp(-pi f t / Q(f)) exp(-pi kappa f), where
    F = 2 is the free surface; spreading is 1 / R to 70 km and falls with the root of R beyond.
    """
    speed = 1e3 * CRUST_P_KM_S / (1 if phase == "P" else P_TO_S)
    hypocentral_m = 1e3 * np.hypot(path.distance_km, source.depth_km)
    near_m = min(hypocentral_m, 70e3)
    spreading = np.sqrt(near_m / hypocentral_m) / near_m
    travel_s = arrivals(path.distance_km, source.depth_km)[0 if phase == "P" else 1]
    level = 2 * source.moment_nm / (4 * np.pi * DENSITY_KG_M3 * speed**3) * spreading
    loss = np.exp(-np.pi * travel_s * f ** (1 - path.q_power) / path.q0 - np.pi * path.kappa_s * f)
    return level / (1 + (f / source.corner_hz(phase)) ** 2) * loss


def site_response(f: Array, path: Path) -> Array:
    """Amplification [component frequency]: a constant, and on N and E a resonance with a damping of 10 %."""
    gain, resonance_hz, strength = path.site
    share = f / resonance_hz
    peak = 1 + strength * 0.04 * share**2 / ((1 - share**2) ** 2 + 0.04 * share**2)
    return gain * np.stack([np.ones_like(f), peak, peak])


def envelope(time_s: Array, source: Source, path: Path, phase: str) -> Array:
    """Window [time] that shapes the noise: zero before the onset at 0, unit energy in s, then coda of exponential decay.

    The direct wave is Boore's (2003) equations 22 to 24 with epsilon 0.2, eta 0.05 and a duration of 1 / fc + 0.05 s per km (0.03
    for P).
    """
    per_km = 0.03 if phase == "P" else 0.05
    duration_s = 1 / source.corner_hz(phase) + per_km * np.hypot(path.distance_km, source.depth_km)

    def shape(t: Array) -> Array:
        late = np.maximum(t, 0)
        b = -0.2 * np.log(0.05) / (1 + 0.2 * (np.log(0.2) - 1))
        x = late / (2 * duration_s)
        direct = (np.e / 0.2 * x) ** b * np.exp(-b / 0.2 * x)
        return direct + path.coda_share * (1 - np.exp(-late / duration_s)) * np.exp(-late / path.coda_s)

    whole = np.linspace(0, 4 * duration_s + 8 * path.coda_s, 1000)
    return shape(time_s) / np.sqrt((shape(whole) ** 2).sum() * whole[1])


def minimum_phase(amplitude: Array) -> NDArray[np.complexfloating[Any]]:
    """The causal filter [frequency] with this amplitude (folded cepstrum: Oppenheim and Schafer 1975, section 7.2)."""
    floor = amplitude.max(-1, keepdims=True) * 1e-12
    m = 2 * (amplitude.shape[-1] - 1)
    cepstrum = np.fft.irfft(np.log(np.maximum(amplitude, np.maximum(floor, 1e-300))), m)
    cepstrum[..., 1 : m // 2] *= 2
    cepstrum[..., m // 2 + 1 :] = 0
    return np.exp(np.fft.rfft(cepstrum, m))


def arrivals(distance_km: float, depth_km: float) -> tuple[float, float, float]:
    """Travel times of the first P and S in s, and the angle at which they leave, in rad from straight down.

    The direct wave on a straight ray, or the wave along the Moho where it is earlier.
    """
    hypocentral = np.hypot(distance_km, depth_km)
    in_crust = min(1.0, MOHO_KM / depth_km)
    direct_s = hypocentral * (in_crust / CRUST_P_KM_S + (1 - in_crust) / MANTLE_P_KM_S)
    head_s = np.inf
    if depth_km < MOHO_KM:
        slow = np.sqrt(CRUST_P_KM_S**-2 - MANTLE_P_KM_S**-2)
        head_s = distance_km / MANTLE_P_KM_S + (2 * MOHO_KM - depth_km) * slow
    takeoff = np.pi - np.arctan2(distance_km, depth_km) if direct_s <= head_s else np.arcsin(CRUST_P_KM_S / MANTLE_P_KM_S)
    p_s = min(direct_s, head_s)
    return float(p_s), float(p_s * P_TO_S), float(takeoff)


def radiation(source: Source, azimuth_deg: float, takeoff: float) -> tuple[float, float, float]:
    """Radiation factors of P, SV and SH of a double couple (Aki and Richards 2002, equations 4.89 to 4.91)."""
    dip, rake = np.radians(source.dip_deg), np.radians(source.rake_deg)
    phi = np.radians(azimuth_deg - source.strike_deg)
    sin, cos, i = np.sin, np.cos, takeoff
    p = (
        cos(rake) * (sin(dip) * sin(i) ** 2 * sin(2 * phi) - cos(dip) * sin(2 * i) * cos(phi))
        + sin(rake) * sin(2 * dip) * (cos(i) ** 2 - sin(i) ** 2 * sin(phi) ** 2)
        + sin(rake) * cos(2 * dip) * sin(2 * i) * sin(phi)
    )
    sv = (
        cos(2 * i) * (sin(rake) * cos(2 * dip) * sin(phi) - cos(rake) * cos(dip) * cos(phi))
        + cos(rake) * sin(dip) * sin(2 * i) * sin(2 * phi) / 2
        - sin(rake) * sin(2 * dip) * sin(2 * i) * (1 + sin(phi) ** 2) / 2
    )
    sh = (
        cos(i) * (cos(rake) * cos(dip) * sin(phi) + sin(rake) * cos(2 * dip) * cos(phi))
        + cos(rake) * sin(dip) * sin(i) * cos(2 * phi)
        - sin(rake) * sin(2 * dip) * sin(i) * sin(2 * phi) / 2
    )
    return float(p), float(sv), float(sh)


def ray_directions(azimuth_deg: float, incidence: float) -> dict[str, Array]:
    """Unit vectors (Z up, N, E) of P, SV and SH motion of a ray that comes up at `incidence` rad from the vertical."""
    azimuth = np.radians(azimuth_deg)
    radial = np.array([0, np.cos(azimuth), np.sin(azimuth)])
    up = np.array([1.0, 0, 0])
    return {
        "P": np.cos(incidence) * up + np.sin(incidence) * radial,
        "SV": np.cos(incidence) * radial - np.sin(incidence) * up,
        "SH": np.array([0, -np.sin(azimuth), np.cos(azimuth)]),
    }


def fast_length(n: int) -> int:
    """The next length, even and 4 at least, that is 4 to 8 times a power of two: short prime factors make the FFT fast."""
    power = 1 << max(0, (n - 1).bit_length() - 3)
    length = power * -(-n // power)
    return max(4, length + length % 2)
