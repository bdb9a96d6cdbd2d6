"""EG and PG of a batch: seconds per record beside ObsPy and beside the batch's own Fourier transforms, in the same run.

OMP_NUM_THREADS=2 python benchmarks/kristekova_speed.py
OMP_NUM_THREADS=1 python benchmarks/kristekova_speed.py --threads 1 --cpu    (processor time: for a machine with other work)

Records are three components of coloured noise under an envelope; the estimate is the reference with noise added. Both sides take
turns, so that other work on the machine slows both; the shortest time of each counts. ObsPy works on one record
at a time and in one thread whatever the setting. The ratio to the Fourier transforms is of one thread's processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from obspy.signal import tf_misfit

from seislatent.metrics.kristekova import CHUNK, kristekova
from seislatent.signal.wavelet import logarithmic_frequencies, morlet_bands

RATE_HZ = 100.0
BAND_HZ = (0.1, 30.0)


def signals(records: int, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate and reference [record component time], float64."""
    rng = np.random.default_rng(0)
    reference = np.cumsum(rng.standard_normal((records, 3, samples)), -1)
    reference = (reference - reference.mean(-1, keepdims=True)) * np.hanning(samples)
    noise = rng.standard_normal(reference.shape) * 0.1 * reference.std(-1, keepdims=True)
    return torch.from_numpy(reference + noise), torch.from_numpy(reference)


def transforms(x: torch.Tensor, frequencies: int) -> None:
    """The Fourier transforms that one call makes of one of its two signals, and nothing else."""
    values = CHUNK["cpu"] // x.element_size()
    f = logarithmic_frequencies(BAND_HZ, frequencies)
    for band in morlet_bands(x.shape[-1], RATE_HZ, f, 6.0, -0.5, like=x, most=values // 3):
        _, many, bins = band.filters.shape
        step = max(1, values // (3 * band.length * many))
        for i in range(0, len(x), step):
            torch.fft.rfft(x[i : i + step], n=band.length)
            spectra = torch.zeros(2, len(x[i : i + step]), 3, many, bins, dtype=band.filters.dtype)
            torch.fft.irfft(spectra, n=band.length)


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """One call, by a clock."""
    begun = clock()
    call()
    return clock() - begun


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=64, help="records in a batch")
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--frequencies", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="processor time instead of the clock on the wall")
    options = parser.parse_args()
    clock = time.process_time if options.cpu else time.perf_counter
    torch.set_num_threads(options.threads)
    x, y = signals(options.records, options.samples)
    band = {"band_hz": BAND_HZ, "frequencies": options.frequencies}
    settings = {"dt": 1 / RATE_HZ, "fmin": BAND_HZ[0], "fmax": BAND_HZ[1], "nf": options.frequencies}
    best = {"obspy": float("inf")}
    theirs: list[np.ndarray] = []

    def obspy() -> None:
        theirs[:] = [call(x[0].numpy(), y[0].numpy(), **settings) for call in (tf_misfit.eg, tf_misfit.pg)]

    for _ in range(options.runs):
        best["obspy"] = min(best["obspy"], seconds(obspy, clock))
        for bits, dtype in (("64", torch.float64), ("32", torch.float32)):
            a, b = x.to(dtype), y.to(dtype)
            calls: dict[str, Callable[[], object]] = {
                "float": lambda a=a, b=b: kristekova(a, b, RATE_HZ, **band),  # type: ignore[misc]
                "one": lambda a=a, b=b: kristekova(a[:16], b[:16], RATE_HZ, **band),  # type: ignore[misc]
                "fft": lambda b=b: [transforms(b[:16], options.frequencies) for _ in range(2)],  # type: ignore[misc]
            }
            for name, call in calls.items():
                torch.set_num_threads(options.threads if name == "float" else 1)
                spent = seconds(call, clock if name == "float" else time.process_time)
                best[name + bits] = min(best.get(name + bits, float("inf")), spent)
        torch.set_num_threads(options.threads)
    what = (
        f"{options.records} records of 3 x {options.samples} samples, {options.frequencies} frequencies, {options.threads} threads"
    )
    print(f"{what}, {'processor' if options.cpu else 'wall'} time")
    print(f"{'':10}{'ms per record':>15}{'ObsPy / this':>15}{'this / its FFTs':>18}{'EG, PG off ObsPy':>18}")
    print(f"{'ObsPy':10}{1e3 * best['obspy']:15.1f}")
    for bits, dtype in (("64", torch.float64), ("32", torch.float32)):
        ours = kristekova(x[:1].to(dtype), y[:1].to(dtype), RATE_HZ, **band)  # type: ignore[arg-type]
        assert ours.eg is not None and ours.pg is not None
        off = max(abs(v[0].numpy() - w).max() for v, w in zip((ours.eg, ours.pg), theirs, strict=True))
        spent, share = best["float" + bits] / options.records, best["one" + bits] / best["fft" + bits]
        print(f"{'float' + bits:10}{1e3 * spent:15.1f}{best['obspy'] / spent:15.1f}{share:18.2f}{off:18.1e}")


if __name__ == "__main__":
    main()
