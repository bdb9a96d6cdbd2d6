"""Records per second that training gets from a store with two workers, and seisbench.generate on the same records in the same run.

pip install -e ".[bench]"
OMP_NUM_THREADS=1 python benchmarks/loader_speed.py [--records 24000] [--seconds 5] [--rounds 2] [--folder DIR] [--million]

Records: three components, 60 s at 100 Hz, float32, drawn noise. A batch: 64 random windows of 30 s, components dropped at random.
Ours besides divides by the peak and says which samples are valid. SeisBench: WaveformDataset (cache None; and preloaded),
GenericGenerator, RandomWindow, ChannelDropout, torch DataLoader. Whoever waits copies every batch once, as training would. Each
row is a fresh process; rows take turns and the best of the rounds counts. All read files that the system has in its page cache;
`evicted` reads ours from the disk. `CPU us` is processor time per record of training and workers together, which a busy machine
disturbs least; `of copying` is the share of what one core reaches that does nothing but copy windows.

Memory is taken every 0.2 s after the timing, from /proc/PID/smaps_rollup: `private` is Private_Dirty of the process that has most;
`own` is what training and its workers hold together, pages that they share counted once (Pss_Anon + Pss_Shmem); `mapped` is
Private_Clean of the process that has most: pages of files, which lie in the system's page cache and which it takes back at will.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from seislatent.data.recipe import Made
from seislatent.data.record_batches import RecordBatches, RecordBatchesConfig
from seislatent.data.shards import ShardWriter, finish
from seislatent.engine.order import Steps, ordered
from seislatent.prepare.augment import AugmentConfig
from seislatent.waveform import Channel, Waveform

BATCH, RATE_HZ, NPTS, WINDOW, WORKERS = 64, 100.0, 6000, 3000, 2
SHARD = 500
DROPPED = 0.1
CHANNELS = tuple(Channel(network="XX", station="STA", code=f"HH{c}", component=c) for c in "ZNE")


def samples(i: int, count: int, npts: int) -> np.ndarray:
    """Some records [record component sample], the same for everyone who asks."""
    return np.random.default_rng(i).standard_normal((count, 3, npts), np.float32)


def write_store(folder: Path, count: int, npts: int, shard: int) -> None:
    for number, first in enumerate(range(0, count, shard)):
        with ShardWriter(folder, number) as writer:
            for k, x in enumerate(samples(number, min(shard, count - first), npts)):
                i = first + k
                told = {"trace_name": f"r{i}", "split": "train", "source_magnitude": 3.0, "source_id": f"e{i // 10}"}
                made = Waveform(data=x, sampling_rate_hz=RATE_HZ, channels=CHANNELS, start_ns=i * 10**9, metadata=told)
                writer.add(Made(record=made))
    finish(folder, {"recipe": "benchmark"})


def write_seisbench(folder: Path, count: int) -> None:
    """The same records as SeisBench writes them."""
    import seisbench.data as sbd

    folder.mkdir()
    with sbd.WaveformDataWriter(folder / "metadata.csv", folder / "waveforms.hdf5") as writer:
        writer.data_format = {"dimension_order": "CW", "component_order": "ZNE", "sampling_rate": RATE_HZ}
        for number, first in enumerate(range(0, count, SHARD)):
            for k, x in enumerate(samples(number, min(SHARD, count - first), NPTS)):
                writer.add_trace({"trace_name": f"r{first + k}", "split": "train", "trace_sampling_rate_hz": RATE_HZ}, x)


def ours(folder: Path) -> Iterator[torch.Tensor]:
    config = RecordBatchesConfig(length=WINDOW, augment=AugmentConfig(dropped=DROPPED))
    batches = RecordBatches(config, [folder], batch=BATCH, seed=0)
    steps: Iterable[Any] = ordered(Steps(batches, 0, 1, 1), 0, 10**9, WORKERS)
    return (batch.x for (batch,) in steps)


def theirs(folder: Path, *, preloaded: bool = False) -> Iterator[torch.Tensor]:
    import seisbench.data as sbd
    import seisbench.generate as sbg
    from seisbench.util import worker_seeding

    data = sbd.WaveformDataset(folder, cache="full" if preloaded else None)
    if preloaded:
        data.preload_waveforms()
    generator = sbg.GenericGenerator(data)
    generator.add_augmentations([sbg.RandomWindow(windowlen=WINDOW), sbg.ChannelDropout()])
    while True:
        loader = DataLoader(generator, BATCH, shuffle=True, num_workers=WORKERS, worker_init_fn=worker_seeding, drop_last=True)
        yield from (batch["X"] for batch in loader)


def run(make: Callable[[], Iterator[torch.Tensor]], seconds: float) -> dict[str, float]:
    """Records per second, after the first batches of every worker; then peaks of memory in MB."""
    held, loader = torch.empty(BATCH, 3, WINDOW), make()

    def batches(seconds: float) -> dict[str, float]:
        begun, cpu, count = time.perf_counter(), sum(map(cpu_seconds, processes())), 0
        while time.perf_counter() - begun < seconds:
            held.copy_(next(loader))
            count += BATCH
        rate = count / (time.perf_counter() - begun)
        return {"rate": rate, "cpu": (sum(map(cpu_seconds, processes())) - cpu) / count * 1e6}

    batches(0.5)
    told = batches(seconds) | dict.fromkeys(("private", "own", "mapped"), 0.0)
    for _ in range(max(1, int(seconds / 0.2))):
        batches(0.2)
        every = [of_process(pid) for pid in processes()]
        told["private"] = max(told["private"], *(p["Private_Dirty"] for p in every))
        told["own"] = max(told["own"], sum(p["Pss_Anon"] + p["Pss_Shmem"] for p in every))
        told["mapped"] = max(told["mapped"], *(p["Private_Clean"] for p in every))
    return told


def processes() -> list[int]:
    """Training and its workers."""
    return [os.getpid(), *(c.pid for c in multiprocessing.active_children() if c.pid)]


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def of_process(pid: int) -> dict[str, float]:
    """/proc/PID/smaps_rollup in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: float(value.split()[0]) / 1024 for name, value in (line.split(":") for line in lines)}


def copy_rate() -> float:
    """Bytes per second that one core copies."""
    a, b = np.ones(1 << 26, np.uint8), np.ones(1 << 26, np.uint8)
    best = 0.0
    for _ in range(10):
        begun = time.perf_counter()
        ctypes.memmove(b.ctypes.data, a.ctypes.data, a.nbytes)
        best = max(best, a.nbytes / (time.perf_counter() - begun))
    return best


def evict(folder: Path) -> None:
    """Let the system forget the pages of a folder's files."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def first_batch(folder: Path, workers: int) -> dict[str, float]:
    """Seconds from nothing but imports to the first batch."""
    begun = time.perf_counter()
    config = RecordBatchesConfig(length=50, augment=AugmentConfig(dropped=DROPPED))
    batches = RecordBatches(config, [folder], batch=BATCH, seed=0)
    opened = time.perf_counter() - begun
    batch = next(iter(ordered(Steps(batches, 0, 1, 1), 0, 100, workers)))[0]
    assert batch.x.shape == (BATCH, 3, 50)
    return {"opened": opened, "first batch": time.perf_counter() - begun, "own MB": of_process(os.getpid())["Private_Dirty"]}


def million(folder: Path) -> None:
    """A store of a million rows, opened by fresh processes."""
    store = folder / "million"
    if not store.exists():
        begun = time.perf_counter()
        write_store(store, 1_000_000, 100, 20_000)
        print(f"a store of 1,000,000 records of 3 x 100 samples: written in {time.perf_counter() - begun:.0f} s")
    for state in ("evicted", "in the page cache", "in the page cache"):
        for workers in (0, WORKERS):
            if state == "evicted":
                evict(store)
            command = [sys.executable, __file__, "--first-batch", str(store), "--workers", str(workers)]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"{state:>18}, {workers} workers: " + ", ".join(f"{k} {v:.2f}" for k, v in told.items()))


ROWS: dict[str, Callable[[Path], Iterator[torch.Tensor]]] = {
    "seislatent": lambda folder: ours(folder / "store"),
    "SeisBench, cache None": lambda folder: theirs(folder / "seisbench"),
    "SeisBench, preloaded": lambda folder: theirs(folder / "seisbench", preloaded=True),
}


def compare(folder: Path, count: int, seconds: float, rounds: int) -> None:
    """Make the records, let the rows take turns, print the table."""
    if not (folder / "store" / "records.parquet").exists():
        write_store(folder / "store", count, NPTS, SHARD)
        write_seisbench(folder / "seisbench", count)
    size = sum(p.stat().st_size for p in (folder / "store").rglob("*") if p.is_file()) / 2**20

    def row(name: str, seconds: float) -> dict[str, float]:
        command = [sys.executable, __file__, "--row", name, "--folder", str(folder), "--seconds", str(seconds)]
        told: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        return told

    found = [(name, row(name, seconds)) for _ in range(rounds) for name in ROWS]
    best = {name: max((told for n, told in found if n == name), key=lambda told: told["rate"]) for name in ROWS}
    evict(folder / "store")
    best["seislatent, evicted"] = row("seislatent", min(seconds, count / 20_000))
    copied, window = copy_rate(), 3 * WINDOW * 4
    print(f"{count} records, {size:.0f} MB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"a window has {window} bytes; a core copies {copied / 1e9:.1f} GB/s, {copied / window:.0f} windows per second")
    heads = ("records/s", "of copying", "ours/it", "CPU us", "it/ours", "private", "own", "mapped", "store/private", "store/own")
    print(f"{'':22}" + "".join(f"{head:>{max(8, len(head) + 2)}}" for head in heads))
    for name, told in best.items():
        ratios = [f"{told['rate'] * window / copied:.3f}", f"{best['seislatent']['rate'] / told['rate']:.1f}"]
        ratios += [f"{told['cpu']:.0f}", f"{told['cpu'] / best['seislatent']['cpu']:.1f}"]
        sizes = [f"{told[k]:.0f}" for k in ("private", "own", "mapped")]
        cells = (f"{told['rate']:.0f}", *ratios, *sizes, f"{size / told['private']:.1f}", f"{size / told['own']:.1f}")
        print(f"{name:22}" + "".join(f"{c:>{max(8, len(h) + 2)}}" for c, h in zip(cells, heads, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=24_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the records are made, and kept")
    parser.add_argument("--million", action="store_true", help="only the first batch of a store of a million rows")
    for hidden in ("--first-batch", "--row"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=WORKERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.first_batch:
        print(json.dumps(first_batch(Path(given.first_batch), given.workers)))
        return
    if given.row:
        print(json.dumps(run(lambda: ROWS[given.row](given.folder), given.seconds)))
        return
    with tempfile.TemporaryDirectory(prefix="seislatent-loader-") as made:
        folder = given.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        if given.million:
            million(folder)
        else:
            compare(folder, given.records, given.seconds, given.rounds)


if __name__ == "__main__":
    main()
