"""Which format serves shuffled training and parallel preparing: our record store, Zarr 3 (sharded), HDF5; all without compression.

    OMP_NUM_THREADS=1 python benchmarks/store_formats.py [--records 4096] [--out DIR]

Records of 3 channels of 6000 samples (float32, 72 kB) are written by two processes, then read in batches of 64 random windows of
3 x 3000 samples (36 kB each) by one process: cold (the system is told to drop the files from its page cache before; whether the
disk or a host keeps them all the same, nobody here knows) and warm. `memory` copies the same windows out of an array in memory:
no reader can be faster. Writing ends in the page cache, not on the disk; our store writes its table of metadata, too. An HDF5 file
takes one writer only, so that two processes write two files. DIR (a temporary folder by default) needs 5 x 72 kB per record.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import h5py
import numpy as np
import zarr

from seislatent.data.recipe import Made
from seislatent.data.shards import ShardWriter, finish
from seislatent.data.store import Store
from seislatent.waveform import Channel, Waveform

CHANNELS, SAMPLES, WINDOW, BATCH, SHARD = 3, 6000, 3000, 64, 256
CHANNEL_CODES = tuple(Channel(network="KO", station="ABC", code=f"HH{c}", component=c) for c in "ZNE")

Read = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
"""(rows, first samples, out): fills one batch."""


def block(shard: int) -> np.ndarray:
    """The records of one shard."""
    return np.random.default_rng(shard).standard_normal((SHARD, CHANNELS, SAMPLES), dtype=np.float32)


# each format: make (once, before the writers), write (one shard), read


def make_nothing(path: Path, shards: int) -> None:
    path.mkdir(parents=True)


def store_write(path: Path, shard: int, data: np.ndarray) -> None:
    with ShardWriter(path, shard) as writer:
        for k, x in enumerate(data):
            name = f"r{shard * SHARD + k}"
            writer.add(Made(record=Waveform(data=x, sampling_rate_hz=100.0, channels=CHANNEL_CODES, metadata={"trace_name": name})))


def store_read(path: Path) -> Read:
    store = Store(path)
    return lambda rows, first, out: store.read(rows, first=first, length=WINDOW, out=out)


def zarr_make(path: Path, shards: int) -> None:
    shape = (shards * SHARD, CHANNELS, SAMPLES)
    chunks, stored = (1, CHANNELS, SAMPLES), (SHARD, CHANNELS, SAMPLES)
    zarr.create_array(path, shape=shape, chunks=chunks, shards=stored, dtype="float32", compressors=None, zarr_format=3)


def zarr_write(path: Path, shard: int, data: np.ndarray) -> None:
    zarr.open_array(path, mode="r+")[shard * SHARD : (shard + 1) * SHARD] = data


def zarr_read(path: Path) -> Read:
    array = zarr.open_array(path, mode="r")

    def read(rows: np.ndarray, first: np.ndarray, out: np.ndarray) -> None:  # all records of a batch in one call is its fastest way
        for k, (record, a) in enumerate(zip(array.oindex[rows], first, strict=True)):
            out[k] = record[:, a : a + WINDOW]

    return read


def hdf5_path(path: Path, shard: int) -> Path:
    return path / f"{shard % 2}.hdf5"


def datasets_write(path: Path, shard: int, data: np.ndarray) -> None:
    with h5py.File(hdf5_path(path, shard), "a") as file:
        for k, x in enumerate(data):
            file.create_dataset(f"data/r{shard * SHARD + k}", data=x)


def datasets_read(path: Path) -> Read:
    groups = [h5py.File(path / f"{k}.hdf5", "r")["data"] for k in range(2)]

    def read(rows: np.ndarray, first: np.ndarray, out: np.ndarray) -> None:
        for k, (row, a) in enumerate(zip(rows.tolist(), first.tolist(), strict=True)):
            groups[row // SHARD % 2][f"r{row}"].read_direct(out, np.s_[:, a : a + WINDOW], np.s_[k])

    return read


def chunked_write(path: Path, shard: int, data: np.ndarray) -> None:
    with h5py.File(hdf5_path(path, shard), "a") as file:
        if "data" not in file:
            shape, most = (0, CHANNELS, SAMPLES), (None, CHANNELS, SAMPLES)
            file.create_dataset("data", shape, "float32", maxshape=most, chunks=(1, CHANNELS, SAMPLES))
        file["data"].resize((shard // 2 + 1) * SHARD, axis=0)
        file["data"][shard // 2 * SHARD :] = data


def chunked_read(path: Path) -> Read:
    arrays = [h5py.File(path / f"{k}.hdf5", "r")["data"] for k in range(2)]

    def read(rows: np.ndarray, first: np.ndarray, out: np.ndarray) -> None:
        for k, (row, a) in enumerate(zip(rows.tolist(), first.tolist(), strict=True)):
            shard, at = divmod(row, SHARD)
            arrays[shard % 2].read_direct(out, np.s_[shard // 2 * SHARD + at, :, a : a + WINDOW], np.s_[k])

    return read


FORMATS: dict[str, tuple[Any, Any, Any]] = {
    "record store": (make_nothing, store_write, store_read),
    "Zarr 3, shards of 256": (zarr_make, zarr_write, zarr_read),
    "HDF5, a dataset each": (make_nothing, datasets_write, datasets_read),
    "HDF5, one chunked": (make_nothing, chunked_write, chunked_read),
}


def writer(name: str, path: Path, mine: list[int], barrier: Any, queue: Any) -> None:
    data = block(mine[0])
    barrier.wait()
    started = time.perf_counter()
    for shard in mine:
        FORMATS[name][1](path, shard, data)
    queue.put((started, time.perf_counter()))


def answers(queue: Any, processes: list[Any]) -> list[Any]:
    """One answer per process; the end of the program if one of them has failed."""
    found: list[Any] = []
    while len(found) < len(processes):
        try:
            found.append(queue.get(timeout=1))
        except Empty:
            if any(process.exitcode for process in processes):
                for process in processes:
                    process.kill()
                raise SystemExit("a process of the benchmark failed, see above") from None
    for process in processes:
        process.join()
    return found


def write(name: str, path: Path, shards: int) -> float:
    """Records per second of two processes together."""
    FORMATS[name][0](path, shards)
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=writer, args=(name, path, list(range(k, shards, 2)), barrier, queue)) for k in range(2)
    ]
    for process in processes:
        process.start()
    times = np.array(answers(queue, processes))
    seconds = times[:, 1].max() - times[:, 0].min()
    if name == "record store":
        started = time.perf_counter()
        finish(path, {})  # with a sync, which the others do not do
        print(f"  (its table of {shards * SHARD} rows, and the samples to the disk: {time.perf_counter() - started:.2f} s)")
    return shards * SHARD / seconds


def drop_from_cache(path: Path) -> None:
    for file in filter(Path.is_file, path.rglob("*")):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def private_mb() -> float:
    """Memory that is this process's own: the page cache, which all share, is not in it."""
    told = Path("/proc/self/status").read_text(encoding="utf-8") if os.path.exists("/proc/self/status") else "RssAnon: 0 kB"
    return int(told.split("RssAnon:")[1].split()[0]) / 1e3


def run(read: Read, shards: int, batches: int, seed: int) -> tuple[float, float]:
    """Records per second, and private memory in MB."""
    rng = np.random.default_rng(seed)
    out = np.empty((BATCH, CHANNELS, WINDOW), np.float32)
    most, seconds = 0.0, 0.0
    for _ in range(batches):
        rows = rng.choice(shards * SHARD, BATCH, replace=False)
        first = rng.integers(0, SAMPLES - WINDOW, BATCH)
        started = time.perf_counter()
        read(rows, first, out)
        seconds += time.perf_counter() - started
        most = max(most, private_mb())
    return batches * BATCH / seconds, most


def reader(name: str, path: Path, shards: int, queue: Any) -> None:
    """Cold, then warm; the first window of a batch is compared with what was written."""
    before = private_mb()
    drop_from_cache(path)
    read = FORMATS[name][2](path)
    cold, _ = run(read, shards, 8, 0)
    rows, first = np.array([3, SHARD + 5]), np.array([7, 11])
    out = np.empty((2, CHANNELS, WINDOW), np.float32)
    read(rows, first, out)
    blocks = block(0), block(1)
    wanted = [blocks[0][3, :, 7 : 7 + WINDOW], blocks[1][5, :, 11 : 11 + WINDOW]]
    assert np.array_equal(out, wanted), f"{name} gives other samples than were written"
    for file in filter(Path.is_file, path.rglob("*")):
        file.read_bytes()
    warm = max(run(read, shards, 40, k) for k in range(1, 4))
    queue.put((cold, warm[0], warm[1] - before))


def memory(shards: int, queue: Any) -> None:
    data = np.concatenate([block(0)] * shards)

    def read(rows: np.ndarray, first: np.ndarray, out: np.ndarray) -> None:
        for k, (row, a) in enumerate(zip(rows.tolist(), first.tolist(), strict=True)):
            out[k] = data[row, :, a : a + WINDOW]

    queue.put(max(run(read, shards, 40, k)[0] for k in range(4)))


def apart(task: Callable[..., None], *args: Any) -> Any:
    """What a task says in a process of its own, so that no measurement sees another's memory."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=task, args=(*args, queue))
    process.start()
    return answers(queue, [process])[0]


def compare(folder: Path, records: int) -> None:
    shards = max(2, records // SHARD // 2 * 2)
    size = shards * SHARD * CHANNELS * SAMPLES * 4 / 1e6
    print(f"{shards * SHARD} records, {size:.0f} MB; batches of {BATCH} windows of {CHANNELS} x {WINDOW}")
    best = apart(memory, shards)
    rows = []
    for name in FORMATS:
        path = folder / name.replace(" ", "_").replace(",", "")
        written = write(name, path, shards)
        rows.append((name, written, *apart(reader, name, path, shards)))
    print(f"{'':<24} {'written/s':>10} {'cold/s':>8} {'warm/s':>8} {'of memory':>9} {'private MB':>10}")
    for name, written, cold, warm, private in rows:
        print(f"{name:<24} {written:>10.0f} {cold:>8.0f} {warm:>8.0f} {warm / best:>9.3f} {private:>10.0f}")
    print(f"{'memory':<24} {'':>10} {'':>8} {best:>8.0f} {1:>9.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Records per second of several formats; see the docstring of this file.")
    parser.add_argument("--records", type=int, default=4096)
    parser.add_argument("--out", type=Path, help="an empty folder on the disk that is measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        compare(Path(folder), options.records)


if __name__ == "__main__":
    main()
