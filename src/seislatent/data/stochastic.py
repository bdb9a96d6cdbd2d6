"""The stochastic method: what a point source in a simple Earth moves at a site.

    source (moment, corner, mechanism) --path (spreading, Q, duration)--> site (crustal amplification, kappa, resonance)
       white noise in a window that starts at P or S --filter of that spectrum--> ray direction --> Z, N, E

After Boore (2003, Pure appl. Geophys. 160, 635), once for P and once for S. What we do differently: the filter is of minimum
phase, so that nothing moves before the onset; the motion is polarised along the ray with the mechanism's radiation pattern, and a
scattered part comes on every component. Times and directions of the rays are those of the travel-time table
(`seislatent.data.rays`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.data.point_sources import Array, DoubleCouple, Explosion
from seislatent.data.rays import Rays, rays

Source = DoubleCouple | Explosion

MODES = {"P": ("P",), "S": ("SV", "SH")}
DERIVATIVE = {"m": 0, "m/s": 1, "m/s^2": 2}
"""Of displacement, by the unit of the motion."""
CRUST = np.array(
    [
        (0.01, 1.00), (0.015, 1.01), (0.021, 1.02), (0.031, 1.02), (0.045, 1.04), (0.065, 1.06), (0.095, 1.09), (0.138, 1.13),
        (0.2, 1.18), (0.291, 1.25), (0.423, 1.32), (0.615, 1.41), (0.894, 1.51), (1.301, 1.64), (1.892, 1.80), (2.751, 1.99),
        (4, 2.18), (5.817, 2.38), (8.459, 2.56), (12.301, 2.75), (17.889, 2.95), (26.014, 3.17), (37.83, 3.42), (55.012, 3.68),
        (80, 3.96),
    ]
).T  # fmt: skip
"""Frequency in Hz and amplification of horizontal S by the crust above the source, to a Vs30 of 760 m/s (Boore 2016, BSSA 106)."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The ground under the station."""

    name: str = "rock"
    crust: float = 1.0
    """Exponent of the crustal amplification: 1 is western rock of Vs30 760 m/s, 0 rock as hard as at the source."""
    kappa_s: float = 0.035
    gain: float = 1.0
    """Amplification of all frequencies."""
    resonance_hz: float = 2.0
    resonance: float = 0.0
    """What a soft layer adds to the amplification at its resonance, horizontal components only; 0 is none."""

    def response(self, f: Array) -> Array:
        """Amplification [component frequency], Z N E: the crust's on Z is its square root, resonance is damped by 10 %."""
        crust = np.exp(self.crust * np.interp(np.log(np.maximum(f, 1e-3)), np.log(CRUST[0]), np.log(CRUST[1])))
        share = f / self.resonance_hz
        level = 1 + self.resonance * 0.04 * share**2 / ((1 - share**2) ** 2 + 0.04 * share**2)
        loss = self.gain * np.exp(-np.pi * self.kappa_s * f)
        return loss * np.stack([np.sqrt(crust), crust * level, crust * level])


@dataclass(frozen=True, kw_only=True)
class Path:
    """From the source to the site."""

    distance_km: float
    """Epicentral."""
    azimuth_deg: float = 30.0
    """From the source to the site, clockwise from north."""
    q0: float = 180.0
    q_power: float = 0.45
    """Q(f) = q0 f^q_power; California, Atkinson and Silva (2000)."""
    coda_s: float = 12.0
    """Decay time of the coda's amplitude."""
    coda_share: float = 0.3
    """Coda's amplitude at its start as a share of the direct wave's peak."""
    site: Site = field(default_factory=Site)


def seismogram(
    rng: np.random.Generator,
    source: Source,
    path: Path,
    n: int,
    sampling_rate_hz: float,
    p_sample: int,
    unit: str = "m/s",
    phases: str = "PS",
) -> Array:
    """Ground motion [component time], components Z, N, E, with P at sample `p_sample`, in a unit of `DERIVATIVE`."""
    ray = rays(path.distance_km, source.depth_km)
    # room for the filter's tail, which would come round to the beginning: t exp(-2 pi fc t) of the lowest corner
    m = fast_length(max(2 * n, n + int(4 * sampling_rate_hz / source.corner_hz("S"))))
    f = np.fft.rfftfreq(m, 1 / sampling_rate_hz)
    time_s = (np.arange(n) - p_sample) / sampling_rate_hz
    spectrum = np.zeros((3, len(f)), complex)
    # a derivative is 2 pi i f: a backward difference, which is causal, and the ratio of the two amplitudes
    order = DERIVATIVE[unit]
    difference = (1 - np.exp(-2j * np.pi * f / sampling_rate_hz)) ** order
    response = path.site.response(f) * (sampling_rate_hz / np.sinc(f / sampling_rate_hz)) ** order
    for phase in phases:
        window = envelope(time_s - (ray.time_s[phase] - ray.time_s["P"]), source, path, phase)
        if not window.any():
            continue
        shares = polarisation(source, path, ray, phase)
        white = np.fft.rfft(rng.standard_normal((len(shares) + 3, n)) * window, m)  # a series per mode, one scattered per component
        moved = scattered_share(source, phase) * white[len(shares) :] + np.einsum("mc,mf->cf", shares, white[: len(shares)])
        amplitude = displacement_spectrum(f, source, path, ray, phase) * response
        spectrum += moved * minimum_phase(amplitude[:2])[[0, 1, 1]]  # N and E share theirs
    moving = np.fft.irfft(spectrum * difference * np.sqrt(sampling_rate_hz), m)[:, :n]
    moving[:, : max(0, p_sample)] = 0  # what is left of the tail's round
    return moving


def mean_spectrum(f: Array, source: Source, path: Path, phase: str, unit: str = "m/s") -> Array:
    """What the root mean square over seeds of a record's Fourier amplitude is, [component frequency]; unit times s."""
    ray = rays(path.distance_km, source.depth_km)
    power = (polarisation(source, path, ray, phase) ** 2).sum(0) + scattered_share(source, phase) ** 2
    amplitude = displacement_spectrum(f, source, path, ray, phase) * (2 * np.pi * f) ** DERIVATIVE[unit]
    return np.sqrt(power)[:, None] * amplitude * path.site.response(f)


def displacement_spectrum(f: Array, source: Source, path: Path, ray: Rays, phase: str) -> Array:
    """Amplitude [frequency] of ground displacement in m s, for a radiation factor of 1, without the site.

    Boore (2003) equations 2 to 5: 2 S(f) G(R) exp(-pi f t / Q(f)), where 2 is the free surface and G is 1 / R to 40 km and falls
    with the root of R beyond (Atkinson and Silva 2000). R is from the hypocentre, and farther for large ruptures (`size_km`).
    """
    distance_m = 1e3 * effective_km(source, path)
    near_m = min(distance_m, 40e3)
    spreading = np.sqrt(near_m / distance_m) / near_m
    loss = np.exp(-np.pi * ray.time_s[phase] * f ** (1 - path.q_power) / path.q0)
    return 2 * source.displacement(f, phase) * spreading * loss


def effective_km(source: Source, path: Path) -> float:
    """Distance that sets the amplitude."""
    return float(np.sqrt(path.distance_km**2 + source.depth_km**2 + source.size_km**2))


def polarisation(source: Source, path: Path, ray: Rays, phase: str) -> Array:
    """Factors [mode component] of the motion along the ray."""
    factors = source.radiation(path.azimuth_deg, ray.takeoff)
    directions = ray_directions(path.azimuth_deg, ray.incidence[phase])
    straight = np.sqrt(1 - source.scattered[phase])
    return straight * np.stack([factors[mode] * directions[mode] for mode in MODES[phase]])


def scattered_share(source: Source, phase: str) -> float:
    """Factor of the scattered motion on each of the three components."""
    return source.average[phase] * float(np.sqrt(source.scattered[phase] / 3))


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


def envelope(time_s: Array, source: Source, path: Path, phase: str) -> Array:
    """Window [time] that shapes the noise: zero before the onset at 0, unit energy in s, direct wave and coda together.

    The direct wave is Boore's (2003) equations 22 to 24 with epsilon 0.2, eta 0.05 and a duration of 1 / fc + 0.05 s per km (0.03
    for P); the coda decays exponentially.
    """
    per_km = 0.03 if phase == "P" else 0.05
    duration_s = 1 / source.corner_hz(phase) + per_km * np.hypot(path.distance_km, source.depth_km)

    def shape(t: Array) -> Array:
        late = np.maximum(t, 0)
        b = -0.2 * np.log(0.05) / (1 + 0.2 * (np.log(0.2) - 1))
        x = late / (2 * duration_s)
        direct = (np.e / 0.2 * x) ** b * np.exp(-b / 0.2 * x)
        return direct + path.coda_share * (1 - np.exp(-late / duration_s)) * np.exp(-late / path.coda_s)

    share = np.linspace(0, 1, 1000)
    whole_s = 4 * duration_s + 8 * path.coda_s
    energy = (shape(whole_s * share**2) ** 2 * 2 * share).sum() * whole_s * share[1]  # dense where the wave is short
    return shape(time_s) / np.sqrt(energy)


def minimum_phase(amplitude: Array) -> NDArray[np.complexfloating[Any]]:
    """The causal filter [frequency] with this amplitude (folded cepstrum: Oppenheim and Schafer 1975, section 7.2)."""
    floor = amplitude.max(-1, keepdims=True) * 1e-12
    m = 2 * (amplitude.shape[-1] - 1)
    cepstrum = np.fft.irfft(np.log(np.maximum(amplitude, np.maximum(floor, 1e-300))), m)
    cepstrum[..., 1 : m // 2] *= 2
    cepstrum[..., m // 2 + 1 :] = 0
    return np.exp(np.fft.rfft(cepstrum, m))


def fast_length(n: int) -> int:
    """The next length, even and 4 at least, that is 4 to 8 times a power of two: short prime factors make the FFT fast."""
    power = 1 << max(0, (n - 1).bit_length() - 3)
    length = power * -(-n // power)
    return max(4, length + length % 2)
