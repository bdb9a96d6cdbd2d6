"""Speed of the metrics in batches, beside the established packages in the same run.

    OMP_NUM_THREADS=2 python benchmarks/metrics_speed.py [--only PART] [--records 64] [--out FILE]

misfits        EG and PG of Kristekova et al., 3 x 4096 samples, 100 frequencies: ObsPy
intensity      RotD50 and RotD100, and PSA of one component, at 30 periods from 0.01 to 10 s: pyrotd, eqsig
spectrum       effective amplitude at 100 frequencies: pykooh; coherence: SciPy; correlation at all lags: ObsPy
distributions  Fréchet distance: SciPy's root of a matrix; Kolmogorov and Smirnov per latent: SciPy

Both sides take turns, so that other work on the machine slows both; the best of --runs counts, in elapsed time (--cpu: processor
time of one thread, which a busy machine can tell too). The others work record by record in one process, as their documentation has
it; ours in --threads threads. Beside it stand the time of the bare Fourier transforms of the same numbers, in one thread each, and
the limit: the least arithmetic of the method at the rate at which this machine multiplies matrices in the same run.

pyrotd 0.6.1 imports pkg_resources, which setuptools 81 took out. It is loaded here after a stand-in of that module with the one
function it calls, from wherever it is installed: `pip install --no-deps --target FOLDER pyrotd`, then PYTHONPATH=FOLDER.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seislatent.metrics.frechet import frechet_distance
from seislatent.metrics.intensity import spectrum as response_spectrum
from seislatent.metrics.kristekova import CHUNK, kristekova
from seislatent.metrics.normality import normality
from seislatent.metrics.rotated import ANGLES_DEG, over_angles
from seislatent.metrics.spectrum import coherence, effective_amplitude
from seislatent.metrics.waveform import correlation
from seislatent.signal.oscillator import directional_peaks, steps_per_sample
from seislatent.signal.wavelet import logarithmic_frequencies, morlet_bands

RATE_HZ = 100.0
BAND_HZ = (0.1, 30.0)
PERIODS_S = np.geomspace(0.01, 10, 30)
CENTRES_HZ = np.geomspace(0.5, 40, 100)
DTYPES = (("float64", torch.float64), ("float32", torch.float32))
Call = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison; milliseconds per record."""

    what: str
    ours_ms: float
    beside: str
    theirs_ms: float | None
    """None where the package is not installed."""
    times_faster: float | None
    wanted: float | None
    """How many times faster the project asks for."""
    over_transforms: float | None
    """Our processor time over that of the bare Fourier transforms, one thread each."""
    over_limit: float | None
    """Our time over that of the least arithmetic."""
    off: float | None
    """The largest difference of values from theirs, over their largest value; None where the two mean different things."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How things are timed."""

    records: int
    threads: int
    runs: int
    cpu: bool
    flops: dict[str, float]
    """Per second, of a matrix product in all threads."""

    def seconds(self, calls: dict[str, Call]) -> dict[str, float]:
        """The best of several runs of each, in turn; what is named `one ...` by the processor time of one thread."""
        best = dict.fromkeys(calls, math.inf)
        for call in calls.values():  # compiled, cached, warm
            call()
        for _ in range(self.runs):
            for name, call in calls.items():
                alone = name.startswith("one ")
                clock = time.process_time if alone or self.cpu else time.perf_counter
                torch.set_num_threads(1 if alone else self.threads)
                begun = clock()
                call()
                best[name] = min(best[name], clock() - begun)
        torch.set_num_threads(self.threads)
        return best


def rate_of_products(threads: int, clock: Callable[[], float]) -> dict[str, float]:
    """Floating-point operations per second of a product of two matrices, by type."""
    torch.set_num_threads(threads)
    found = {}
    for name, dtype in DTYPES:
        a = torch.randn(1024, 1024, dtype=dtype)
        spent = math.inf
        for _ in range(8):
            begun = clock()
            a @ a
            spent = min(spent, clock() - begun)
        found[name] = 2 * 1024**3 / spent
    return found


def optional(name: str) -> Any:
    """A package, or None and a line on how to get it."""
    if name == "pyrotd" and "pkg_resources" not in sys.modules:
        stand_in = types.ModuleType("pkg_resources")
        stand_in.get_distribution = lambda name: types.SimpleNamespace(version="0.6.1")  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = stand_in
    try:
        return importlib.import_module(name)
    except ImportError:
        way = "pip install --no-deps --target FOLDER pyrotd and PYTHONPATH=FOLDER" if name == "pyrotd" else f"pip install {name}"
        print(f"{name} is not installed, so nothing is compared with it: {way}", file=sys.stderr)
        return None


def row(
    what: str, beside: str, spent: dict[str, float], ours: tuple[str, int], theirs: tuple[str, int], *,
    wanted: float | None = None, one: tuple[str, str] | None = None, limit_s: float | None = None, off: float | None = None,
) -> Row:  # fmt: skip
    """Of seconds by name: names of ours and theirs, each with its number of records, and of what one thread took."""
    own = spent[ours[0]] / ours[1]
    other = spent[theirs[0]] / theirs[1] if theirs[0] in spent else None
    return Row(
        what=what,
        ours_ms=1e3 * own,
        beside=beside,
        theirs_ms=None if other is None else 1e3 * other,
        times_faster=None if other is None else other / own,
        wanted=wanted,
        over_transforms=spent[one[0]] / spent[one[1]] if one else None,
        over_limit=own / limit_s if limit_s else None,
        off=off,
    )


def quakes(records: int, channels: int, samples: int, seed: int = 0) -> torch.Tensor:
    """Noise under an envelope with a spectrum that falls from 1 Hz on [record channel time], float64."""
    x = torch.randn(records, channels, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x * torch.exp(-(((torch.arange(samples) - samples / 3) / (samples / 7)) ** 2))
    f = torch.fft.rfftfreq(samples, 1 / RATE_HZ)
    return torch.fft.irfft(torch.fft.rfft(x) * f / (1 + f) * torch.exp(-0.1 * f), samples)


def misfits(bench: Bench) -> Iterator[Row]:
    from obspy.signal import tf_misfit

    samples, frequencies = 4096, 100
    y = quakes(bench.records, 3, samples)
    x = y + 0.1 * y.std(-1, keepdim=True) * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    settings = {"dt": 1 / RATE_HZ, "fmin": BAND_HZ[0], "fmax": BAND_HZ[1], "nf": frequencies}
    few = min(16, bench.records)
    calls: dict[str, Call] = {"obspy": lambda: [f(x[0].numpy(), y[0].numpy(), **settings) for f in (tf_misfit.eg, tf_misfit.pg)]}
    for name, dtype in DTYPES:
        a, b = x.to(dtype), y.to(dtype)
        calls[name] = lambda a=a, b=b: kristekova(a, b, RATE_HZ, band_hz=BAND_HZ, frequencies=frequencies)  # type: ignore[misc]
        calls[f"one {name}"] = (
            lambda a=a, b=b: kristekova(  # type: ignore[misc]
                a[:few], b[:few], RATE_HZ, band_hz=BAND_HZ, frequencies=frequencies
            )
        )
        calls[f"one fft {name}"] = lambda b=b: [wavelet_transforms(b[:few], frequencies) for _ in range(2)]  # type: ignore[misc]
    spent = bench.seconds(calls)
    for (name, dtype), wanted in zip(DTYPES, (6.0, 18.0), strict=True):
        work = 2 * 3 * sum(
            2.5 * band.length * math.log2(band.length) * (1 + 2 * band.filters.shape[1])
            for band in bands_of(y.to(dtype), frequencies)
        )  # fmt: skip
        what = f"EG and PG, {name}, 3 x {samples}, {frequencies} frequencies"
        found = calls[f"one {name}"]()
        off = max(
            float(np.abs(ours[0].numpy() - theirs).max() / theirs.max())
            for ours, theirs in zip((found.eg, found.pg), calls["obspy"](), strict=True)
        )
        yield row(
            what, "ObsPy", spent, (name, bench.records), ("obspy", 1),
            wanted=wanted, one=(f"one {name}", f"one fft {name}"), limit_s=work / bench.flops[name], off=off,
        )  # fmt: skip


def bands_of(x: torch.Tensor, frequencies: int) -> Iterator[Any]:
    f = logarithmic_frequencies(BAND_HZ, frequencies)
    return morlet_bands(x.shape[-1], RATE_HZ, f, 6.0, -0.5, like=x, most=CHUNK["cpu"] // x.element_size() // 3)


def wavelet_transforms(x: torch.Tensor, frequencies: int) -> None:
    """The Fourier transforms that one call makes of one of its two signals, and nothing else."""
    values = CHUNK["cpu"] // x.element_size()
    for band in bands_of(x, frequencies):
        _, many, bins = band.filters.shape
        step = max(1, values // (3 * band.length * many))
        for i in range(0, len(x), step):
            torch.fft.rfft(x[i : i + step], n=band.length)
            spectra = torch.zeros(2, len(x[i : i + step]), 3, many, bins, dtype=band.filters.dtype)
            torch.fft.irfft(spectra, n=band.length)


def intensity(bench: Bench) -> Iterator[Row]:
    pyrotd, eqsig = optional("pyrotd"), optional("eqsig.sdof")
    periods = PERIODS_S.tolist()
    for samples in (4096, 10200):
        x = quakes(bench.records, 2, samples)
        one = x[0].numpy()
        spectra = torch.fft.rfft(x)

        def rotd(x: torch.Tensor = x) -> torch.Tensor:
            return over_angles(directional_peaks(x[:, 0], x[:, 1], RATE_HZ, periods, ANGLES_DEG), [50.0, 100.0])

        def transforms(x: torch.Tensor = x, spectra: torch.Tensor = spectra, samples: int = samples) -> None:
            torch.fft.rfft(x)
            for _ in periods:  # one inverse transform per oscillator, of the record's own length
                torch.fft.irfft(spectra, samples)

        calls: dict[str, Call] = {
            "rotd": rotd,
            "one rotd": rotd,
            "one fft": transforms,
            "psa": lambda x=x: response_spectrum(x, RATE_HZ, periods),  # type: ignore[misc]
            "one psa": lambda x=x: response_spectrum(x, RATE_HZ, periods),  # type: ignore[misc]
        }
        if pyrotd:
            calls["pyrotd rotd"] = lambda one=one: pyrotd.calc_rotated_spec_accels(  # type: ignore[misc]
                1 / RATE_HZ, one[0], one[1], 1 / PERIODS_S, percentiles=[50, 100]
            )
            calls["pyrotd psa"] = lambda one=one: pyrotd.calc_spec_accels(1 / RATE_HZ, one[0], 1 / PERIODS_S)  # type: ignore[misc]
        if eqsig:
            calls["eqsig psa"] = lambda one=one: eqsig.nigam_and_jennings_response(  # type: ignore[misc]
                one[0], 1 / RATE_HZ, PERIODS_S, 0.05
            )
        spent = bench.seconds(calls)
        # 28 operations move the states of two components by a step
        least = 28 * samples * sum(steps_per_sample(p, RATE_HZ) for p in periods) / bench.flops["float64"]
        yield row(
            f"RotD50 and RotD100, {samples} samples", "pyrotd", spent, ("rotd", bench.records), ("pyrotd rotd", 1),
            wanted=20.0, one=("one rotd", "one fft"), limit_s=least,
        )  # fmt: skip
        for name in ("pyrotd", "eqsig"):
            yield row(
                f"PSA of one component, {samples} samples", name, spent, ("psa", 2 * bench.records), (f"{name} psa", 1),
                one=("one psa", "one fft"), limit_s=least / 2,
            )  # fmt: skip


def spectrum(bench: Bench) -> Iterator[Row]:
    from obspy.signal.cross_correlation import correlate, xcorr_max
    from scipy import signal

    pykooh = optional("pykooh")
    samples = 4096
    x, y = quakes(bench.records, 2, samples).unbind(1)
    f = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    amplitude = np.abs(np.fft.rfft(x[0].numpy()))
    for name, dtype in DTYPES:
        a, b = x.to(dtype), y.to(dtype)

        def eas(a: torch.Tensor = a, b: torch.Tensor = b) -> Any:
            return effective_amplitude(a, b, RATE_HZ, CENTRES_HZ)

        def bare(a: torch.Tensor = a, b: torch.Tensor = b) -> Any:
            return torch.fft.rfft(a), torch.fft.rfft(b)

        calls: dict[str, Call] = {"eas": eas, "one eas": eas, "one fft": bare}
        if pykooh:
            calls["pykooh"] = lambda: pykooh.smooth(CENTRES_HZ, f[1:], amplitude[1:], 188.5)
        calls["coherence"] = calls["one coherence"] = lambda a=a, b=b: coherence(a, b, RATE_HZ, segment_s=5.0)  # type: ignore[misc]
        calls["scipy"] = lambda: signal.coherence(x[0].numpy(), y[0].numpy(), RATE_HZ, nperseg=500)
        calls["correlation"] = calls["one correlation"] = lambda a=a, b=b: correlation(a, b, RATE_HZ)  # type: ignore[misc]
        calls["obspy"] = lambda: xcorr_max(correlate(x[0].numpy(), y[0].numpy(), samples - 1))
        spent = bench.seconds(calls)
        for what, ours, theirs, beside in (
            ("effective amplitude, 100 frequencies", "eas", "pykooh", "pykooh (one smoothing)"),
            ("coherence, segments of 5 s", "coherence", "scipy", "SciPy"),
            ("correlation, all lags", "correlation", "obspy", "ObsPy"),
        ):
            yield row(f"{what}, {name}", beside, spent, (ours, bench.records), (theirs, 1), one=(f"one {ours}", "one fft"))


def distributions(bench: Bench) -> Iterator[Row]:
    from scipy import linalg, stats

    records, features = 2000, 256
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(records, features, generator=g, dtype=torch.float64) for _ in range(2))

    def plain() -> float:
        """As the usual code for features of a network has it."""
        a, b = x.numpy(), y.numpy()
        c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c + d - 2 * linalg.sqrtm(c @ d).real))

    assert abs(plain() - float(frechet_distance(x, y).distance)) < 1e-6
    spent = bench.seconds({
        "frechet": lambda: frechet_distance(x, y),
        "sqrtm": plain,
        "normality": lambda: normality(x, g, energy_records=2, simulations=1),
        "kstest": lambda: [stats.kstest(v, "norm") for v in x.T.numpy()],
    })  # fmt: skip
    size = f"{records} x {features}"
    yield row(f"Fréchet distance, {size}, per set", "SciPy's sqrtm", spent, ("frechet", 1), ("sqrtm", 1))
    yield row(f"normality of each latent, {size}, per set", "SciPy's kstest", spent, ("normality", 1), ("kstest", 1))


PARTS = {"misfits": misfits, "intensity": intensity, "spectrum": spectrum, "distributions": distributions}


def number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--records", type=int, default=64, help="records in a batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="processor time of one thread instead of elapsed time")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.records < 1 or options.threads < 1 or options.runs < 1:
        parser.error("records, threads and runs are at least 1")
    threads = 1 if options.cpu else options.threads
    flops = rate_of_products(threads, time.process_time if options.cpu else time.perf_counter)
    bench = Bench(records=options.records, threads=threads, runs=options.runs, cpu=options.cpu, flops=flops)
    load = os.getloadavg()[0]
    clock = "processor" if options.cpu else "elapsed"
    rates = ", ".join(f"{v / 1e9:.0f} GFLOP/s in {k}" for k, v in bench.flops.items())
    print(
        f"Batches of {bench.records}, {threads} threads, {clock} time in ms per record; load {load:.1f} before; products {rates}\n"
    )
    print("| what | seislatent | beside | theirs | times faster | wanted | over its transforms | over the limit | values off by |")
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|")
    rows = []
    for name, part in PARTS.items():
        for found in part(bench) if options.only in (None, name) else ():
            rows.append({"part": name} | asdict(found))
            cells = [
                found.what, number(found.ours_ms, ".3g"), found.beside, number(found.theirs_ms, ".3g"),
                number(found.times_faster, ".3g"), number(found.wanted, "g"), number(found.over_transforms, ".2g"),
                number(found.over_limit, ".2g"), number(found.off, ".1e"),
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)
    if options.out:
        report = {
            "records": bench.records, "threads": threads, "clock": clock, "load_before": load, "flops": bench.flops, "rows": rows,
        }  # fmt: skip
        part = options.out.with_suffix(".part")
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        os.replace(part, options.out)


if __name__ == "__main__":
    main()
