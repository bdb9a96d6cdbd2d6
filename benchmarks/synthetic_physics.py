"""Do synthetics obey their physics? Spectra, arrivals, peaks against a ground-motion model, explosions against earthquakes.

OMP_NUM_THREADS=1 python benchmarks/synthetic_physics.py

Prints the figures of docs/data/synthetic.md. Needs pygmm. Nothing here is timed but the last line.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import cont2discrete, lfilter, ss2tf

from seislatent.data import stochastic
from seislatent.data.point_sources import DoubleCouple, Explosion
from seislatent.data.rays import rays
from seislatent.data.stochastic import Path, Site, Source
from seislatent.data.synthetic import earthquake, explosion, mixture
from seislatent.data.travel_times import arrivals_s
from seislatent.waveform import Waveform

Array = NDArray[np.floating[Any]]


def spectra(seeds: int) -> None:
    """Rms, over 30 bands, of measured over modelled amplitude less 1; energy over seeds and components."""
    print(f"\nSpectra, {seeds} seeds, 100 Hz: rms (and largest) departure from the model, 30 bands from 0.1 to 45 Hz")
    cases: dict[str, tuple[Source, float]] = {
        "M 2, 15 km": (DoubleCouple(magnitude=2, depth_km=8, strike_deg=20, dip_deg=60, rake_deg=40), 15),
        "M 4, 40 km": (DoubleCouple(magnitude=4, depth_km=10, strike_deg=80, dip_deg=45, rake_deg=90), 40),
        "M 6, 100 km": (DoubleCouple(magnitude=6, depth_km=15, strike_deg=150, dip_deg=85, rake_deg=0), 100),
        "explosion M 3.5, 40 km": (Explosion(magnitude=3.5, depth_km=0.4), 40),
    }
    rate, n, p_sample = 100.0, 16384, 200
    f = np.fft.rfftfreq(n, 1 / rate)
    band = np.digitize(f, np.geomspace(0.1, 45, 31))
    for name, (source, distance_km) in cases.items():
        path = Path(distance_km=distance_km, coda_s=6, site=Site(resonance=1.5))
        ray = rays(distance_km, source.depth_km)
        s_p = ray.time_s["S"] - ray.time_s["P"]
        time_s = (np.arange(n) - p_sample) / rate
        # from S on, rising over the second before it: a hard edge in P's coda would spill over the high frequencies
        rise = (1 - np.cos(np.pi * np.clip(time_s - s_p + 1, 0, 1))) / 2
        power = np.zeros((3, 3, len(f)))
        for seed in range(seeds):
            x = stochastic.seismogram(np.random.default_rng(seed), source, path, n, rate, p_sample)
            s = stochastic.seismogram(np.random.default_rng(seed), source, path, n, rate, p_sample, phases="S")
            power += np.abs(np.fft.rfft(np.stack([s, x * rise, x])) / rate) ** 2 / seeds
        model = {phase: stochastic.mean_spectrum(f, source, path, phase) ** 2 for phase in "PS"}
        window = stochastic.envelope(time_s, source, path, "P") ** 2
        remains = (window * rise**2).sum() / window.sum()  # P's coda under S
        expected = [model["S"], model["S"] + remains * model["P"], model["P"] + model["S"]]
        told = []
        for measured, theory in zip(power, expected, strict=True):
            means = [(measured[:, band == k].mean(), theory[:, band == k].mean()) for k in range(1, 31)]
            ratio = np.array([np.sqrt(a / b) for a, b in means]) - 1
            told.append(f"{100 * np.sqrt((ratio**2).mean()):.1f} % ({100 * np.abs(ratio).max():.1f} %)")
        print(f"  {name:24s} S alone {told[0]:18s} from S on {told[1]:18s} whole record {told[2]}")


def times(count: int) -> None:
    """P and S of records against the table, in samples."""
    rng = np.random.default_rng(0)
    p_late, s_off = [], []
    for _ in range(count):
        w = earthquake(rng, 90, 100.0, magnitude=rng.uniform(1, 5))
        truth = w.metadata
        p_s, s_s = (float(t) for t in arrivals_s(truth["path_ep_distance_km"], truth["source_depth_km"]))
        p = truth["trace_p_arrival_sample"]
        moved = np.abs(w.data).max(0)
        p_late.append(int(np.flatnonzero(moved > 1e-4 * moved.max())[0]) - p)
        s_off.append(truth["trace_s_arrival_sample"] - p - 100 * (s_s - p_s))
    share = np.percentile(p_late, (0, 50, 95))
    print(f"\nArrivals, {count} records of M 1 to 5 at 100 Hz")
    print(f"  S - P of the columns within {np.nanmax(np.abs(s_off)):.3f} samples of the table")
    print(f"  1e-4 of the peak is passed {share[0]:.0f} samples after P at the earliest, {share[1]:.0f} in the median,", end="")
    print(f" {share[2]:.0f} for 95 % of them")


def oscillator(acceleration: Array, period_s: float, rate: float) -> Array:
    """Pseudo-spectral acceleration of a damped (5 %) oscillator over time, input straight between samples."""
    w = 2 * np.pi / period_s
    system = (np.array([[0, 1], [-w * w, -0.1 * w]]), np.array([[0], [-1.0]]), np.array([[w * w, 0]]), np.array([[0.0]]))
    a, b, c, d, _ = cont2discrete(system, 1 / rate, "foh")
    numerator, denominator = ss2tf(a, b, c, d)
    return np.asarray(lfilter(numerator[0], denominator, acceleration))


def rotd50(north: Array, east: Array) -> float:
    """Median over angles of the largest horizontal value."""
    turn = np.radians(np.arange(0, 180, 5))[:, None]
    return float(np.median(np.abs(np.cos(turn) * north + np.sin(turn) * east).max(1)))


def peaks(count: int, site: str | None) -> None:
    """Natural logarithm of synthetic over model for rock of Vs30 760 m/s: mean, spread, slopes; what is not given is drawn."""
    import pygmm

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        magnitude, distance_km = rng.uniform(3.5, 7), 10 ** rng.uniform(1, np.log10(150))
        w = earthquake(rng, 80 + 0.4 * distance_km, 100.0, magnitude, distance_km, site=site, unit="m/s^2")
        _, north, east = w.data.astype(float) / 9.81
        scenario = pygmm.Scenario(
            mag=magnitude, dist_jb=distance_km, dist_rup=w.metadata["path_hyp_distance_km"], dist_x=distance_km, v_s30=760,
            depth_tor=max(0.0, w.metadata["source_depth_km"] - magnitude + 3), mechanism="SS", region="california", dip=90,
        )  # fmt: skip
        models = [getattr(pygmm, name)(scenario) for name in ("BooreStewartSeyhanAtkinson2014", "ChiouYoungs2014")]
        mine = [rotd50(north, east)] + [rotd50(oscillator(north, t, 100.0), oscillator(east, t, 100.0)) for t in (0.2, 1.0)]
        row = [magnitude, distance_km]
        for model in models:
            theirs = [model.pga, *model.interp_spec_accels([0.2, 1.0])]
            row += [*np.log(np.array(mine) / theirs), model.ln_std_pga, *model.interp_ln_stds([0.2, 1.0])]
        rows.append(row)
    table = np.array(rows)
    basis = np.c_[np.ones(count), table[:, 0] - 5.25, np.log(table[:, 1] / 40)]
    print(f"\nPeaks, site {site or 'drawn'}, {count} records, M 3.5 to 7, 10 to 150 km: ln(synthetic / model), 5 % damping, RotD50")
    for k, model_name in enumerate(("Boore et al. 2014", "Chiou and Youngs 2014")):
        for q, quantity in enumerate(("PGA", "SA 0.2 s", "SA 1 s")):
            x, sigma = table[:, 2 + 6 * k + q], table[:, 5 + 6 * k + q].mean()
            slope = np.linalg.lstsq(basis, x, rcond=None)[0]
            bins = [x[(table[:, 0] >= low) & (table[:, 0] < high)].mean() for low, high in ((3.5, 4.5), (4.5, 5.5), (5.5, 7))]
            print(
                f"  {model_name:22s} {quantity:9s} mean {x.mean():+.2f}, spread {x.std():.2f}, model's sigma {sigma:.2f};"
                f" per magnitude {slope[1]:+.2f}, per ln distance {slope[2]:+.2f}; M 3.5-4.5, -5.5, -7: "
                + " ".join(f"{b:+.2f}" for b in bins)
            )


def right_share(shots: Array, quakes: Array) -> float:
    """Share of pairs in which the explosion's value is the larger (area under the curve)."""
    return float((shots[:, None] > quakes).mean())


def discrimination(count: int) -> None:
    """What tells explosions from earthquakes of the same magnitudes, distances, paths and sites."""
    bands = ((0.5, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 30))
    makers: tuple[Callable[..., Waveform], ...] = (explosion, earthquake)
    found: list[Array] = []
    for make in makers:
        rows = []
        for seed in range(count):
            size, far = 2 + 2 * seed / count, 20 * 6 ** (seed * 0.618 % 1)
            w = make(np.random.default_rng(seed), 60, 100.0, magnitude=size, distance_km=far)
            x, p, s = w.data.astype(float), w.metadata["trace_p_arrival_sample"], w.metadata["trace_s_arrival_sample"]
            if not s < x.shape[1] - 1000:
                raise SystemExit(f"S of seed {seed} is too late for the record")
            s = int(s)
            take = min(s - p, 500)
            f = np.fft.rfftfreq(1024, 0.01)
            p_part, s_part = (np.abs(np.fft.rfft(x[:, k : k + take], 1024)) ** 2 for k in (p, s))
            inside = [(f >= low) & (f < high) for low, high in bands]
            ratios = [np.log(p_part[:, k].mean() / s_part[:, k].mean()) / 2 for k in inside]
            energy = np.cumsum((x[:, p:] ** 2).sum(0))
            rows.append([*ratios, np.log(np.abs(x).max()), np.searchsorted(energy, 0.9 * energy[-1])])
        found.append(np.array(rows))
    names = [f"P/S {low:g}-{high:g} Hz" for low, high in bands] + ["peak velocity", "time to 90 % of energy"]
    print(f"\nExplosions and earthquakes, {count} each, the same magnitudes (2 to 4) and distances (20 to 120 km):")
    for k, name in enumerate(names):
        shots, quakes = found[0][:, k], found[1][:, k]
        medians = f"; median P/S {np.exp(np.median(shots)):.2f} and {np.exp(np.median(quakes)):.2f}" if k < len(bands) else ""
        print(f"  {name:24s} explosion's is larger in {100 * right_share(shots, quakes):.0f} % of pairs{medians}")


def speed() -> None:
    """Processor time per record."""
    rng = np.random.default_rng(0)
    for name, make in (
        ("earthquake, 60 s at 100 Hz, three components", lambda: earthquake(rng, 60, 100.0)),
        ("mixture, 64 s at 40 Hz, one channel", lambda: mixture(rng, 2560, 40.0)),
    ):
        make()
        start = time.process_time()
        for _ in range(100):
            make()
        print(f"  {name}: {10 * (time.process_time() - start):.1f} ms of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help="records per spectrum (200)")
    parser.add_argument("--records", type=int, default=1000, help="records of the other figures (1000)")
    arguments = parser.parse_args()
    spectra(arguments.seeds)
    times(arguments.records)
    peaks(arguments.records, "rock")
    peaks(arguments.records, None)
    discrimination(arguments.records)
    print("\nSpeed")
    speed()


if __name__ == "__main__":
    main()
