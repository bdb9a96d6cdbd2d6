"""Records per second into pairs from a file in STEAD's layout, stage by stage, beside a straight batch of SciPy calls.

OMP_NUM_THREADS=1 python benchmarks/prepare_speed.py --records 4096
OMP_NUM_THREADS=1 python benchmarks/prepare_speed.py --records 4096 --gzip --workers 1,2

The file is made here: three components, 60 s at 100 Hz, (6000, 3) float32, noise with an earthquake. By default its records are
accelerograms, as the SciPy calls do not differentiate; --velocity shows what that adds. Both sides read with a warm page cache.
Rates are per second of processor time, which other work on the machine changes least; wall-clock rates stand behind them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.signal import butter, detrend, sosfiltfilt

from seislatent.data.recipe import Made
from seislatent.data.recipes import pairs
from seislatent.data.recipes.pairs import Pairs, PairsConfig
from seislatent.data.shards import ShardWriter
from seislatent.io.native_hdf5 import NativeFile, write_native
from seislatent.signal.filters import Butterworth
from seislatent.waveform import Channel, Waveform

AT_ONCE = 64
"""Records in memory at a time, on both sides."""
RUNS = 3


def records(count: int, code: str) -> Iterator[Waveform]:
    """Noise below 20 Hz with an earthquake: P after 5 to 10 s, S 5 to 15 s later, each dying away."""
    rng, time_s = np.random.default_rng(0), np.arange(6000) / 100
    soft = Butterworth(kind="bandpass", corners_hz=(0.2, 20.0), rate_hz=100.0, order=2)
    for at in range(0, count, AT_ONCE):
        noise = soft(rng.normal(size=(min(AT_ONCE, count - at), 3, 6000)))
        for k, x in enumerate(noise, start=at):
            p, later = rng.uniform(5, 10), rng.uniform(5, 15)
            after_p, after_s = time_s - p, time_s - p - later
            envelope = 1 + 100 * np.exp(-after_p / 5) * (after_p > 0) + 300 * np.exp(-after_s / 8) * (after_s > 0)
            station = f"S{k % 50:03d}"
            channels = tuple(Channel(network="XX", station=station, code=f"{code}{c}", component=c) for c in "ZNE")
            yield Waveform(
                data=(50 * x * envelope).astype(np.float32), sampling_rate_hz=100.0, channels=channels, unit="counts",
                start_ns=10**18 + k * 10**11,
                metadata={
                    "trace_name": f"{station}.XX_{k:08d}_EV", "source_id": f"{k // 8}", "source_magnitude": 4.0,
                    "source_magnitude_type": "ml", "source_depth_km": 8.0, "source_latitude_deg": 35.0,
                    "source_longitude_deg": -118.0, "path_ep_distance_km": 8 * later, "path_back_azimuth_deg": 120.0,
                    "trace_category": "earthquake_local", "trace_p_arrival_sample": round(100 * p), "trace_p_status": "manual",
                    "trace_s_arrival_sample": round(100 * (p + later)), "trace_s_status": "manual", "trace_snr_db": "40 41 42",
                },
            )  # fmt: skip


class Clock:
    """Seconds spent in named functions, those of the functions that they call taken off."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time counted under a name."""

        def timed(*args: Any, **keys: Any) -> Any:
            begun = time.process_time()
            self._inner.append(0.0)
            try:
                return call(*args, **keys)
            finally:
                spent = time.process_time() - begun
                self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inner.pop()
                self._inner[-1] += spent

        return timed


def ours(path: Path, out: Path, clock: Clock | None = None) -> None:
    """Reads, makes and stores all records in this process."""
    source, recipe = NativeFile(path), Pairs(PairsConfig())
    rngs = [np.random.default_rng(k) for k in range(AT_ONCE)]
    shutil.rmtree(out, ignore_errors=True)
    timed = clock.wrap if clock else lambda name, call: call
    read = timed("read (open, decompress, Waveform)", source.read_many)
    make = timed("checks, cut, normalise", lambda found: list(recipe.make(found, rngs[: len(found)])))
    for number, piece in enumerate(range(0, len(source), 1024)):
        with ShardWriter(out, number) as writer:
            add = timed("store (row of the table, write)", writer.add)
            for at in range(piece, min(piece + 1024, len(source)), AT_ONCE):
                for made in make(read(range(at, min(at + AT_ONCE, len(source))))):
                    assert isinstance(made, Made)
                    add(made)


def staged(path: Path, out: Path) -> dict[str, float]:
    """Seconds of each stage of the same."""
    clock = Clock()
    kept = (pairs.differentiate, pairs._pieces, pairs._record, pairs.line, Butterworth.__call__)
    pairs.differentiate = clock.wrap("differentiate", pairs.differentiate)
    pairs._pieces = clock.wrap("gather records of one shape", pairs._pieces)
    pairs._record = clock.wrap("metadata", pairs._record)
    pairs.line = clock.wrap("detrend", pairs.line)
    Butterworth.__call__ = clock.wrap("two zero-phase filters", Butterworth.__call__)  # type: ignore[method-assign]
    begun = time.process_time()
    try:
        ours(path, out, clock)
        spent = time.process_time() - begun
        return clock.seconds | {"finish shards": spent - sum(clock.seconds.values())}
    finally:
        pairs.differentiate, pairs._pieces, pairs._record, pairs.line, Butterworth.__call__ = kept  # type: ignore[method-assign]


def scipys(path: Path, out: Path) -> None:
    """The straight batch: h5py, detrend, sosfiltfilt twice, one peak, np.save."""
    broad, low = (butter(4, corner, fs=100, output="sos") for corner in (30, 1))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    with h5py.File(path, "r") as file:
        group = file["data"]
        names = list(group)
        for at in range(0, len(names), AT_ONCE):
            x = np.stack([group[name][500:4596] for name in names[at : at + AT_ONCE]]).transpose(0, 2, 1)
            y = sosfiltfilt(broad, detrend(x, axis=-1), axis=-1)
            y /= np.abs(y).max((1, 2), keepdims=True)
            np.save(out / f"x{at}.npy", y.astype(np.float32))
            np.save(out / f"low{at}.npy", sosfiltfilt(low, y, axis=-1).astype(np.float32))


def limits(path: Path, folder: Path, count: int, seconds: float) -> None:
    """What the machine can do at most: moving and writing the bytes, and the filters' sums at the speed of a matrix product."""
    block = np.ones(1 << 26, np.uint8)
    target = np.empty_like(block)
    copy = best(lambda: np.copyto(target, block)) / len(block)
    write = best(lambda: block.tofile(folder / "limit.bin")) / len(block)
    (folder / "limit.bin").unlink()
    a = np.ones((1024, 1024))
    product = best(lambda: a @ a) / (2 * 1024**3)
    into, out = path.stat().st_size / count, 2 * 3 * 4096 * 4
    sums = 2 * 2 * 2 * 9 * 3 * 5097  # filters, directions, sections, operations of one, components, samples
    least = into * copy + out * write + sums * product
    print(f"limit: {into / 1e3:.0f} kB in at {1e-9 / copy:.1f} GB/s, {out / 1e3:.0f} kB out at {1e-9 / write:.1f} GB/s,")
    print(f"       {sums / 1e6:.1f} million operations of the filters at {1e-9 / product:.0f} billion per second:")
    reached = seconds / count
    print(f"       {1e6 * least:.0f} us per record; reached {1e6 * reached:.0f} us, {reached / least:.1f} times that")


def both(call: Callable[[], object]) -> tuple[float, float]:
    """The shortest of some runs, in seconds of processor time and of the clock on the wall."""
    spent = []
    for _ in range(RUNS):
        begun, wall = time.process_time(), time.perf_counter()
        call()
        spent.append((time.process_time() - begun, time.perf_counter() - wall))
    return min(s for s, _ in spent), min(w for _, w in spent)


def best(call: Callable[[], object]) -> float:
    """The shortest of some runs, in seconds of processor time."""
    return both(call)[0]


def kernels() -> None:
    """The zero-phase filter of 64 records in microseconds per record, by each way."""
    import scipy.fft

    x = np.random.default_rng(0).normal(size=(AT_ONCE, 3, 4896))
    run = Butterworth(kind="lowpass", corners_hz=1.0, rate_hz=100.0)
    run(x)
    ways = {
        "ours": lambda: run(x),
        "scipy sosfiltfilt": lambda: sosfiltfilt(run.sections, x, axis=-1),
        "FFT there and back (other ends)": lambda: scipy.fft.irfft(scipy.fft.rfft(x, 5000), 5000),
    }
    told = ", ".join(f"{name} {1e6 * best(way) / AT_ONCE:.0f}" for name, way in ways.items())
    print(f"one zero-phase filter of order 4, us per record: {told}")
    print(f"largest difference from SciPy: {np.abs(run(x) - sosfiltfilt(run.sections, x)).max():.1g} of {np.abs(run(x)).max():.2g}")


def bound(core: int) -> None:
    """Every thread of this process on one core."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {core})


@contextmanager
def cluster_of(many: int, pin: bool) -> Iterator[str | None]:
    """Address of a scheduler whose processes are each bound to a core of its own; None (the verb starts its own) without `pin`."""
    if not pin:
        yield None
        return
    import dask
    from dask.distributed import Client, LocalCluster

    from seislatent.data.preparing import DASK

    options = {"n_workers": many, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    with dask.config.set(DASK), LocalCluster(**options) as cluster:
        with Client(cluster, set_as_default=False) as client:
            for core, address in enumerate(client.scheduler_info()["workers"]):
                client.run(bound, core, workers=[address])
        yield cluster.scheduler_address


def spread(path: Path, out: Path, workers: list[int], pin: bool) -> None:
    """The whole verb's work by number of processes: records per second after the first two pieces of each, and in all."""
    for many in workers:
        with cluster_of(many, pin) as address:
            _spread(path, out, many, workers[0], address)


RATES: dict[int, float] = {}
"""Records per second, by number of processes."""


def _spread(path: Path, out: Path, many: int, least: int, address: str | None) -> None:
    from seislatent.data.preparing import prepare_records

    shutil.rmtree(out, ignore_errors=True)
    seen: list[tuple[float, int]] = []
    begun = time.perf_counter()

    def told(done: int, of: int) -> None:
        seen.append((time.perf_counter(), done))

    prepare_records(Pairs(PairsConfig()), [path], out, workers=many, scheduler=address, progress=told)
    whole = time.perf_counter() - begun
    warm = seen[min(2 * many, len(seen) - 1) - 1]
    RATES[many] = (seen[-1][1] - warm[1]) / max(seen[-1][0] - warm[0], 1e-9)
    print(
        f"prepare_records, {many} worker(s): {RATES[many]:.0f} records per second once all work"
        f" ({RATES[many] / RATES[least]:.2f} times that of {least}),"
        f" {seen[-1][1] / whole:.0f} with {'' if address else 'start, '}plan and last table ({whole:.1f} s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2048)
    parser.add_argument("--gzip", action="store_true", help="compress the file's arrays as h5py does by default (level 4)")
    parser.add_argument("--velocity", action="store_true", help="records of velocity, which are differentiated")
    parser.add_argument("--workers", default="", help="also run prepare_records with these numbers of processes, such as 1,2")
    parser.add_argument("--pin", action="store_true", help="bind each process to a core: some virtual machines pack them on one")
    parser.add_argument("--folder", help="where the file and the store are made, and taken away again")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        path = folder / "stead.hdf5"
        write_native(path, records(given.records, "HH" if given.velocity else "HN"), compression="gzip" if given.gzip else None)
        size = f"{path.stat().st_size / 1e6:.0f} MB{', gzipped' if given.gzip else ''}"
        print(f"{given.records} records, {size}; load of the machine {os.getloadavg()[0]:.1f}")
        kernels()
        ours(path, folder / "store")
        n = given.records
        whole, whole_wall = both(lambda: ours(path, folder / "store"))
        theirs, their_wall = both(lambda: scipys(path, folder / "saved"))
        print(f"ours {n / whole:.0f} records per second and core, SciPy's calls {n / theirs:.0f}: ratio {theirs / whole:.2f}")
        print(f"by the wall {n / whole_wall:.0f} and {n / their_wall:.0f}")
        stages = staged(path, folder / "store")
        for name, seconds in stages.items():
            print(f"{name:>36} {1e6 * seconds / n:>6.0f} us {100 * seconds / sum(stages.values()):>4.0f} %")
        limits(path, folder, n, whole)
        if given.workers:
            spread(path, folder / "store", [int(w) for w in given.workers.split(",")], given.pin)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
