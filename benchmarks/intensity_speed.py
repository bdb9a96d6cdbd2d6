"""RotD50 and RotD100 of batches of 64 pairs at 30 periods: seconds against pyrotd and against the Fourier transforms alone.

OMP_NUM_THREADS=2 python benchmarks/intensity_speed.py [--pairs 64] [--one-core] [--accuracy]

pyrotd 0.6.1 imports pkg_resources, which setuptools 81 took out. It is loaded here after a stand-in of that module with the one
function it calls, from wherever it is installed: `pip install --no-deps --target FOLDER pyrotd`, then PYTHONPATH=FOLDER. On two
cores it works in one process by its own rule (all processors but one).

--accuracy compares PSA and RotD50 of real accelerograms (strongmotion_gmprocess below SEISLATENT_RECORDS) by seislatent, eqsig and
pyrotd with an exact solution: the record interpolated in its band by 32 between zeros of 100 s, and the recursion of Nigam and
Jennings on that, whose straight lines are then true to 0.1 %.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seislatent.metrics.rotated import ANGLES_DEG
from seislatent.signal.oscillator import directional_peaks

PERIODS_S = np.geomspace(0.01, 10, 30)


def pyrotd() -> Any:
    stand_in = types.ModuleType("pkg_resources")
    stand_in.get_distribution = lambda name: types.SimpleNamespace(version="0.6.1")  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", stand_in)
    try:
        import pyrotd
    except ImportError:
        return None
    return pyrotd


def quakes(pairs: int, samples: int, rate_hz: float) -> torch.Tensor:
    x = torch.randn(pairs, 2, samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.exp(-(((torch.arange(samples) - samples / 3) / (samples / 7)) ** 2))
    f = torch.fft.rfftfreq(samples, 1 / rate_hz)
    return torch.fft.irfft(torch.fft.rfft(x) * f / (1 + f) * torch.exp(-0.1 * f), samples)


def best(call: Callable[[], object], clock: Callable[[], float], times: int = 3) -> float:
    least = np.inf
    for _ in range(times):
        start = clock()
        call()
        least = min(least, clock() - start)
    return least


def speed(pairs: int, one_core: bool) -> None:
    theirs, rate_hz = pyrotd(), 100.0
    clock, unit = (time.process_time, "processor time") if one_core else (time.perf_counter, "elapsed")
    print(f"{torch.get_num_threads()} threads, {unit}, {pairs} pairs, 30 periods from 0.01 to 10 s at {rate_hz:g} Hz; ms per pair")
    print(f"{'samples':>8} {'seislatent':>11} {'pyrotd':>8} {'ratio':>6} {'transforms':>11} {'ratio':>6}")
    for samples in (4096, 10200):
        x = quakes(pairs, samples, rate_hz)
        spectra = torch.fft.rfft(x)

        def ours(x: torch.Tensor = x) -> torch.Tensor:
            peaks = directional_peaks(x[:, 0], x[:, 1], rate_hz, PERIODS_S.tolist(), ANGLES_DEG)
            return torch.quantile(peaks, torch.tensor([0.5, 1.0], dtype=torch.float64), dim=-1)

        def transforms(x: torch.Tensor = x, spectra: torch.Tensor = spectra, samples: int = samples) -> None:
            torch.fft.rfft(x)
            for _ in PERIODS_S:  # one inverse transform per oscillator, of the record's own length
                torch.fft.irfft(spectra, samples)

        def others(x: torch.Tensor = x) -> None:
            for one, two in x[:2].numpy():
                theirs.calc_rotated_spec_accels(1 / rate_hz, one, two, 1 / PERIODS_S, percentiles=[50, 100])

        ours()
        a, c = 1e3 * best(ours, clock) / pairs, 1e3 * best(transforms, clock) / pairs
        b = 1e3 * best(others, clock) / 2 if theirs else np.nan
        print(f"{samples:>8} {a:>11.2f} {b:>8.1f} {b / a:>6.1f} {c:>11.2f} {a / c:>6.2f}")


def exact(pair: torch.Tensor, rate_hz: float, periods: list[float]) -> torch.Tensor:
    """Peaks [period angle]; zeros before and after, so that nothing of the interpolation is lost."""
    lead, more = round(100 * rate_hz), 32
    m = pair.shape[-1] + 2 * lead
    spectrum = torch.fft.rfft(torch.nn.functional.pad(pair, (lead, lead)))
    if m % 2 == 0:
        spectrum[..., -1] /= 2
    fine = more * torch.fft.irfft(spectrum, m * more)[..., (lead - 50) * more : (lead + pair.shape[-1] - 1) * more + 1]
    return directional_peaks(fine[0], fine[1], rate_hz * more, periods, ANGLES_DEG, interpolate=False)


def accuracy(records: int = 12) -> None:
    import h5py
    import pandas as pd
    from eqsig.sdof import nigam_and_jennings_response

    from seislatent.metrics.intensity import corrected

    folder, theirs = Path(os.environ["SEISLATENT_RECORDS"]) / "strongmotion_gmprocess", pyrotd()
    table = pd.read_csv(folder / "metadata.csv")
    table = table[(table.units == "cm/s^2") & (table.n_components == 3) & (table.trace_npts < 15000) & (table.peak > 5)]
    table = table.groupby("station_network_code").head(3).head(records)
    periods = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
    names = ("PSA seislatent", "PSA eqsig", "PSA pyrotd", "RotD50 seislatent", "RotD50 pyrotd")
    away: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with h5py.File(folder / "waveforms.hdf5") as file:
        for name, rate in zip(table.trace_name, table.trace_sampling_rate_hz, strict=True):
            pair = corrected(torch.from_numpy(file["data"][name][()][1:3]), rate, unit="cm/s^2").a_cm_s2
            truth = exact(pair, rate, periods)
            ours = directional_peaks(pair[0], pair[1], rate, periods, ANGLES_DEG)
            one = truth[:, 0].numpy()
            median = torch.quantile(truth, 0.5, dim=-1).numpy()
            eq = np.abs(nigam_and_jennings_response(pair[0].numpy(), 1 / rate, np.array(periods), 0.05)[0]).max(1)
            away["PSA seislatent"].append(np.log(ours[:, 0].numpy() / one))
            away["PSA eqsig"].append(np.log(eq * (2 * np.pi / np.array(periods)) ** 2 / one))
            away["RotD50 seislatent"].append(np.log(torch.quantile(ours, 0.5, dim=-1).numpy() / median))
            if theirs:
                f = 1 / np.array(periods)
                psa = theirs.calc_spec_accels(1 / rate, pair[0].numpy(), f).spec_accel
                rot = theirs.calc_rotated_spec_accels(1 / rate, pair[0].numpy(), pair[1].numpy(), f, percentiles=[50]).spec_accel
                away["PSA pyrotd"].append(np.log(psa / one))
                away["RotD50 pyrotd"].append(np.log(rot / median))
    print(f"{len(table)} records; |ln| to the exact solution in per cent, median (largest), at each period in s")
    print(f"{'':>18}" + "".join(f"{p:>14g}" for p in periods))
    for name, rows in away.items():
        if rows:
            size = 100 * np.abs(rows)
            cells = zip(np.median(size, 0), size.max(0), strict=True)
            print(f"{name:>18}" + "".join(f"{m:>7.2f} {f'({x:.1f})':>6}" for m, x in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--one-core", action="store_true", help="one thread, processor time: what a busy machine can tell")
    options = parser.parse_args()
    if options.one_core:
        torch.set_num_threads(1)
    accuracy() if options.accuracy else speed(options.pairs, options.one_core)


if __name__ == "__main__":
    main()
