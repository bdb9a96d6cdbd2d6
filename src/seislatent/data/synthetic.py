"""Seismograms from nothing: seeded earthquakes, explosions, noise and mixtures of them, with every truth known.

Random numbers come from the `numpy.random.Generator` given: one seed, one record. The physics is in `seislatent.data.stochastic`
and `point_sources`, instruments in `instruments`; docs/data/synthetic.md tells what is modelled and what is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.data.instruments import Instrument, choose, digitise
from seislatent.data.point_sources import Array, DoubleCouple, Explosion, contained_depth_km, moment_nm, yield_kt
from seislatent.data.rays import rays
from seislatent.data.stochastic import DERIVATIVE, Path, Site, Source, fast_length, seismogram
from seislatent.errors import SeislatentError, unknown
from seislatent.waveform import Channel, Waveform

SITES = {
    "hard rock": Site(name="hard rock", crust=0.0, kappa_s=0.006),
    "rock": Site(),
    "soft": Site(name="soft", kappa_s=0.045, gain=1.2, resonance=2.5),
}
"""Hard rock: eastern North America (Boore and Joyner 1997); rock: `Site`; soft: a layer that resonates at 2 Hz."""


def earthquake(
    rng: np.random.Generator,
    duration_s: float,
    sampling_rate_hz: float,
    magnitude: float | None = None,
    distance_km: float | None = None,
    depth_km: float | None = None,
    *,
    site: Site | str | None = None,
    instrument: Instrument | str | None = None,
    unit: str = "m/s",
) -> Waveform:
    """One earthquake without noise: components Z, N, E, all truths in its metadata with SeisBench's names.

    What is None is drawn: magnitude 1 to 6.5, epicentral distance 5 to 250 km, depth 1 to 30 km, site. P stands at 5 to 35 % of the
    record, on a sample; `trace_s_arrival_sample` is NaN where S comes after the end, `path_s_travel_sec` is always true.

    Args:
        rng: source of all that is drawn.
        duration_s: of the record.
        sampling_rate_hz: of the record.
        magnitude: moment magnitude.
        distance_km: epicentral.
        depth_km: of the source.
        site: a `Site` or the name of one in `SITES`.
        instrument: None: ground motion. An `Instrument`, a name in `INSTRUMENTS` or `any` (drawn): int32 counts, and `unit` is the
            instrument's. To have noise in the ground, not in the counts: `digitise(with_noise(...), instrument)`.
        unit: of the ground motion: m, m/s or m/s^2.

    Raises:
        SeislatentError: a number that makes no sense, a name that is not known, or no travel times for distance and depth.
    """
    asked = {"magnitude": magnitude, "distance_km": distance_km, "depth_km": depth_km}
    drawn = {
        "magnitude": rng.uniform(1, 6.5),
        "distance_km": 10 ** rng.uniform(0.7, 2.4),
        "depth_km": 10 ** rng.uniform(0, 1.5),
    }
    truth = _given_or_drawn("earthquake", asked, drawn)
    source = draw_source(rng, truth["magnitude"], truth["depth_km"])
    path = draw_path(rng, truth["distance_km"], site)
    return record(rng, source, path, duration_s, sampling_rate_hz, instrument=instrument, unit=unit)


def explosion(
    rng: np.random.Generator,
    duration_s: float,
    sampling_rate_hz: float,
    magnitude: float | None = None,
    distance_km: float | None = None,
    depth_km: float | None = None,
    *,
    site: Site | str | None = None,
    instrument: Instrument | str | None = None,
    unit: str = "m/s",
) -> Waveform:
    """One contained explosion, as `earthquake` in everything but the source (`point_sources.Explosion`).

    What is None is drawn: moment magnitude 1 to 4.5, distance as there, depth by the yield at 1 to 3 times the least at which an
    explosion breaks no crater. Path, site and instrument are an earthquake's: for sets that differ by the source alone, give
    both the same magnitudes and distances.
    """
    asked = {"magnitude": magnitude, "distance_km": distance_km, "depth_km": depth_km}
    drawn = {"magnitude": rng.uniform(1, 4.5), "distance_km": 10 ** rng.uniform(0.7, 2.4)}
    size = drawn["magnitude"] if magnitude is None else float(magnitude)
    drawn["depth_km"] = contained_depth_km(size, 122 * 10 ** rng.uniform(0, 0.5)) if np.isfinite(size) else 1.0
    truth = _given_or_drawn("explosion", asked, drawn)
    source = Explosion(magnitude=truth["magnitude"], depth_km=truth["depth_km"], s_to_p=3 * np.exp(0.3 * rng.standard_normal()))
    path = draw_path(rng, truth["distance_km"], site)
    return record(rng, source, path, duration_s, sampling_rate_hz, instrument=instrument, unit=unit)


def _given_or_drawn(kind: str, asked: dict[str, float | None], drawn: dict[str, float]) -> dict[str, float]:
    """Magnitude, distance and depth, refused where they make no sense."""
    truth = {name: drawn[name] if value is None else float(value) for name, value in asked.items()}
    if not all(np.isfinite(list(truth.values()))) or truth["distance_km"] < 0 or truth["depth_km"] <= 0:
        raise SeislatentError(f"no {kind} with {truth}: give finite values, distance >= 0 and depth > 0")
    if not -3 <= truth["magnitude"] <= 9.5:
        raise SeislatentError(f"no {kind} of magnitude {truth['magnitude']:g}: give -3 to 9.5")
    return truth


def record(
    rng: np.random.Generator,
    source: Source,
    path: Path,
    duration_s: float,
    sampling_rate_hz: float,
    p_s: float | None = None,
    *,
    instrument: Instrument | str | None = None,
    unit: str = "m/s",
) -> Waveform:
    """The seismogram of a source along a path, as `earthquake` gives it.

    P stands on the first sample at or before `p_s`, in s from the record's beginning; at 5 to 35 % of the record where None.
    """
    n = _samples(duration_s * sampling_rate_hz)
    recorder = None if instrument is None else choose(rng, instrument)
    unit = unit if recorder is None else recorder.unit
    if unit not in DERIVATIVE:
        raise SeislatentError(unknown("unit of ground motion", unit, DERIVATIVE))
    onset = int(rng.uniform(0.05, 0.35) * n if p_s is None else p_s * sampling_rate_hz)
    data = seismogram(rng, source, path, n, sampling_rate_hz, onset, unit)
    start_ns = int(rng.integers(1_577_836_800, 1_735_689_600)) * 1_000_000_000
    moved = Waveform(
        data=data if recorder else data.astype(np.float32),
        sampling_rate_hz=float(sampling_rate_hz),
        channels=tuple(Channel(network="XX", station="SYNTH", code=f"HH{c}", component=c) for c in "ZNE"),
        start_ns=start_ns,
        unit=unit,
        history=(f"synthetic {source.kind} (stochastic point source)",),
        metadata=_truths(source, path, n, float(sampling_rate_hz), onset, start_ns),
    )
    return moved if recorder is None else digitise(moved, recorder)


def draw_source(rng: np.random.Generator, magnitude: float, depth_km: float) -> DoubleCouple:
    """A random mechanism, and a stress drop around 8 MPa within a factor of two or so."""
    return DoubleCouple(
        magnitude=magnitude,
        depth_km=depth_km,
        stress_drop_pa=8e6 * np.exp(0.7 * rng.standard_normal()),
        strike_deg=rng.uniform(0, 360),
        dip_deg=np.degrees(np.arccos(rng.uniform(0, 1))),
        rake_deg=rng.uniform(-180, 180),
    )


def draw_path(rng: np.random.Generator, distance_km: float, site: Site | str | None = None) -> Path:
    """A random azimuth, attenuation and coda; the site where none is given."""
    if isinstance(site, str) and site not in SITES:
        raise SeislatentError(unknown("site", site, SITES))
    drawn = Site(
        name="drawn",
        crust=rng.uniform(0.5, 1),
        kappa_s=10 ** rng.uniform(-2, -1.2),
        gain=float(np.exp(0.4 * rng.standard_normal())),
        resonance_hz=10 ** rng.uniform(-0.3, 1),
        resonance=max(0.0, rng.uniform(-2, 4)),
    )
    return Path(
        distance_km=distance_km,
        azimuth_deg=rng.uniform(0, 360),
        q0=180 * 10 ** rng.uniform(-0.35, 0.35),
        q_power=rng.uniform(0.3, 0.7),
        coda_s=10 ** rng.uniform(0.6, 1.4),
        coda_share=10 ** rng.uniform(-1.3, -0.2),
        site=drawn if site is None else SITES[site] if isinstance(site, str) else site,
    )


@dataclass(frozen=True, kw_only=True)
class NoiseKind:
    """Ranges, as powers of ten of amplitude relative to the secondary microseism's peak, from which a noise is drawn."""

    cultural: tuple[float, float]
    floor: tuple[float, float]
    lines: int
    """At most so many narrow lines."""
    level: tuple[float, float]
    """Root mean square in m/s."""


NOISE_KINDS = {
    "quiet": NoiseKind(cultural=(-3.5, -2.2), floor=(-4.2, -2.8), lines=1, level=(-8.5, -6.5)),
    "typical": NoiseKind(cultural=(-2.5, -0.5), floor=(-3.5, -2), lines=2, level=(-8, -6)),
    "urban": NoiseKind(cultural=(-0.7, 1), floor=(-3, -1.5), lines=4, level=(-7, -5)),
    "instrument": NoiseKind(cultural=(-2, -1), floor=(-0.7, 1), lines=3, level=(-9, -6)),
}


def noise(rng: np.random.Generator, n: int, sampling_rate_hz: float, kind: str | None = None) -> Array:
    """Ground noise [time] of one channel in m/s; `kind` of `NOISE_KINDS`, drawn where None.

    A random spectrum after Peterson (1993): primary and secondary microseism, a random slope between them and a cultural band
    (0.7 to 15 Hz) whose strength changes in time, an electronic floor and narrow lines.
    """
    if kind is not None and kind not in NOISE_KINDS:
        raise SeislatentError(unknown("kind of noise", kind, NOISE_KINDS))
    if (n := _samples(n)) == 0:
        return np.zeros(0)
    ranges = NOISE_KINDS[kind or str(rng.choice(list(NOISE_KINDS)))]
    m = fast_length(n + n // 4)  # longer, so that the end does not meet the start
    f = np.fft.rfftfreq(m, 1 / sampling_rate_hz)
    normal = rng.standard_normal((2, 2, len(f)))
    parts = (normal[0] + 1j * normal[1]) * np.stack([_natural_spectrum(rng, f, ranges), _cultural_spectrum(rng, f, ranges)])
    natural, cultural = np.fft.irfft(parts, m)[:, :n]
    knots = rng.standard_normal(max(2, int(n / sampling_rate_hz / 10) + 2))
    sway = np.exp(0.6 * np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots))
    x = natural + cultural * sway
    level = 10 ** rng.uniform(*ranges.level)
    return x * (level / max(np.sqrt((x**2).mean()), 1e-300))


def _natural_spectrum(rng: np.random.Generator, f: Array, ranges: NoiseKind) -> Array:
    """Microseisms, slope and floor [frequency]; zero at frequency 0."""
    log_f = np.log10(np.maximum(f, f[1]))
    peak = rng.uniform(-0.95, -0.5)
    secondary = np.exp(-0.5 * ((log_f - peak) / rng.uniform(0.06, 0.15)) ** 2)
    primary = 10 ** rng.uniform(-1.5, -0.5) * np.exp(-0.5 * ((log_f - peak + 0.3) / 0.06) ** 2)
    slope = 10 ** rng.uniform(-2.6, -1) * 10 ** (-rng.uniform(0.3, 1.6) * (log_f - peak))
    tilt = 10 ** rng.uniform(-2, -0.3)  # what long periods rise to
    floor = 10 ** rng.uniform(*ranges.floor)
    return np.where(f > 0, secondary + primary + np.minimum(slope, tilt) + floor, 0)


def _cultural_spectrum(rng: np.random.Generator, f: Array, ranges: NoiseKind) -> Array:
    """A broad band and narrow lines [frequency]."""
    centre, width = 10 ** rng.uniform(-0.15, 1.18), rng.uniform(0.1, 0.4)
    strength = 10 ** rng.uniform(*ranges.cultural)
    band = np.exp(-0.5 * ((np.log10(np.maximum(f, f[1])) - np.log10(centre)) / width) ** 2)
    for _ in range(rng.integers(0, ranges.lines + 1)):
        line_hz, line_width_hz = rng.uniform(0.5, 0.98) ** 2 * f[-1], 10 ** rng.uniform(-2.5, -1)
        band = band + 10 ** rng.uniform(0, 1.5) / (1 + ((f - line_hz) / line_width_hz) ** 2)
    return np.where(f > 0, strength * band, 0)


def with_noise(rng: np.random.Generator, waveform: Waveform, snr_db: float, kind: str | None = None) -> Waveform:
    """The record with noise of one kind on each channel.

    The strongest channel's mean square from P on stands `snr_db` above the noise's; a silent record gets noise at its own level.
    """
    kind = kind or str(rng.choice(list(NOISE_KINDS)))
    n = waveform.data.shape[1]
    rough = np.stack([noise(rng, n, waveform.sampling_rate_hz, kind) for _ in waveform.channels])
    if waveform.unit == "m/s^2" and n > 1:
        rough = np.gradient(rough, 1 / waveform.sampling_rate_hz, axis=1)
    onset = int(np.nan_to_num(waveform.metadata.get("trace_p_arrival_sample", 0)))
    power = (waveform.data[:, onset:].astype(np.float64) ** 2).mean(1).max() if n > onset else 0.0
    if power > 0:
        rough *= np.sqrt(power / (rough**2).mean() * 10 ** (-snr_db / 10))
    data = (waveform.data + rough).astype(waveform.data.dtype)
    return waveform.with_data(
        data,
        did=f"noise added ({kind}, {snr_db:.1f} dB)",
        metadata={**waveform.metadata, "trace_snr_db": float(snr_db)},
    )


def mixture(rng: np.random.Generator, n: int, sampling_rate_hz: float) -> NDArray[np.float32]:
    """One channel [n] in m/s to train a codec on.

    Noise, in four of five draws with one or two events at -10 to 60 dB; one draw of two passes a random instrument.
    """
    if n == 0:
        return np.zeros(0, np.float32)
    x = noise(rng, n, sampling_rate_hz)
    rms = np.sqrt((x**2).mean())
    for _ in range(int(rng.choice([0, 1, 2], p=[0.2, 0.65, 0.15]))):
        source = draw_source(rng, rng.uniform(1, 6.5), 10 ** rng.uniform(0, 1.5))
        path = draw_path(rng, 10 ** rng.uniform(0.7, 2.4))
        onset = int(rng.uniform(-0.3, 0.95) * n)
        event = seismogram(rng, source, path, len(x), sampling_rate_hz, onset)[rng.integers(3)]
        power = np.sqrt((event**2).mean())
        if power > 0:
            x = x + event * (rms / power * 10 ** (rng.uniform(-10, 60) / 20))
    return (_instrument(rng, x, sampling_rate_hz) if rng.random() < 0.5 else x).astype(np.float32)


def _instrument(rng: np.random.Generator, x: Array, sampling_rate_hz: float) -> Array:
    """A random high pass of second order (0.02 to 2 Hz), and in one of two draws a low pass of fourth (0.3 to 0.9 of Nyquist)."""
    m = fast_length(2 * len(x))
    f = np.fft.rfftfreq(m, 1 / sampling_rate_hz)
    share = f / 10 ** rng.uniform(-1.7, 0.3)
    gain = -(share**2) / (1 + 2j * 0.707 * share - share**2)
    if rng.random() < 0.5:
        gain = gain / (1 + 1j * f / (rng.uniform(0.3, 0.9) * f[-1])) ** 4
    return np.fft.irfft(np.fft.rfft(x, m) * gain, m)[: len(x)]


def _truths(source: Source, path: Path, n: int, rate: float, onset: int, start_ns: int) -> dict[str, Any]:
    """Metadata of a record, with SeisBench's names where it has one."""
    ray, site = rays(path.distance_km, source.depth_km), path.site
    s_sample = onset + (ray.time_s["S"] - ray.time_s["P"]) * rate
    start = datetime.fromtimestamp(start_ns // 1_000_000_000, UTC)

    def iso(time: datetime) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    return {
        "source_type": source.kind,
        "source_magnitude": source.magnitude,
        "source_magnitude_type": "mw",
        "source_depth_km": source.depth_km,
        "source_origin_time": iso(start + timedelta(seconds=onset / rate - ray.time_s["P"])),
        "source_moment_nm": moment_nm(source.magnitude),
        "source_corner_hz": source.corner_hz("S"),
        "source_p_corner_hz": source.corner_hz("P"),
        **_mechanism(source),
        "path_ep_distance_km": path.distance_km,
        "path_hyp_distance_km": float(np.hypot(path.distance_km, source.depth_km)),
        "path_azimuth_deg": path.azimuth_deg,
        "path_back_azimuth_deg": (path.azimuth_deg + 180) % 360,
        "path_takeoff_deg": float(np.degrees(ray.takeoff["P"])),
        "path_p_travel_sec": ray.time_s["P"],
        "path_s_travel_sec": ray.time_s["S"],
        "path_q0": path.q0,
        "path_q_power": path.q_power,
        "path_kappa_s": site.kappa_s,
        "path_coda_s": path.coda_s,
        "path_coda_share": path.coda_share,
        "station_site": site.name,
        "station_crust_exponent": site.crust,
        "station_site_gain": site.gain,
        "station_resonance_hz": site.resonance_hz,
        "station_resonance": site.resonance,
        "trace_p_arrival_sample": onset,
        "trace_s_arrival_sample": s_sample if s_sample < n else np.nan,
        "trace_start_time": iso(start),
        "trace_sampling_rate_hz": rate,
        "trace_component_order": "ZNE",
    }


def _mechanism(source: Source) -> dict[str, float]:
    """What only one kind of source has; missing (NaN) in the other, so that tables of both have the same columns."""
    quake = source if isinstance(source, DoubleCouple) else None
    shot = source if isinstance(source, Explosion) else None
    return {
        "source_stress_drop_pa": quake.stress_drop_pa if quake else np.nan,
        "source_strike_deg": quake.strike_deg if quake else np.nan,
        "source_dip_deg": quake.dip_deg if quake else np.nan,
        "source_rake_deg": quake.rake_deg if quake else np.nan,
        "source_yield_kt": yield_kt(shot) if shot else np.nan,
        "source_s_to_p": shot.s_to_p if shot else np.nan,
    }


def _samples(n: float) -> int:
    """A count of samples, refused where it is none."""
    if not np.isfinite(n) or n < 0:
        raise SeislatentError(f"cannot make {n} samples: give a finite duration and rate, not below 0")
    return round(n)
