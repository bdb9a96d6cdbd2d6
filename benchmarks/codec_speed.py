"""Hours of one channel that our codecs encode and decode per second on one core, and EnCodec on as many samples in the same run.

pip install -e ".[bench]"
OMP_NUM_THREADS=1 python benchmarks/codec_speed.py [--hours 4] [--rounds 3]

The unit of comparison is the sample: EnCodec (transformers, 24 kHz architecture built from its config; speed does not depend on the
weights, so none are fetched) gets as many samples as our codecs get at 40 Hz. Both run in float32 on one thread. Seconds are CPU
seconds, the best of several rounds in which all rows take turns: on a quiet core they are seconds of the clock, and a busy machine
disturbs them least. A codec whose weights are not in the package runs with drawn ones.
"""

from __future__ import annotations

import argparse
import ctypes
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from seislatent import catalog
from seislatent.data.synthetic import mixture
from seislatent.errors import SeislatentError
from seislatent.io import miniseed
from seislatent.model import Model, parameters
from seislatent.systems.codec import stream
from seislatent.systems.codec.segments import head_of
from seislatent.waveform import Channel, Waveform

PRESETS = ("codec/eqcodec_small", "codec/eqcodec")
LEVELS = (1, 8)
KILOBITS = (1.5, 3.0, 6.0, 12.0, 24.0)
NAMED = 6.0
"""EnCodec's kbit/s that stand for 1 in the ratios: 8 codebooks, as many as ours."""
RATE_HZ, FILE_HZ = 40.0, 100.0
CALL = 16 * 128 * 40
"""Samples in a call: 16 segments of 128 frames, as a code file holds them (the frame that two segments share counts once)."""


@dataclass(kw_only=True)
class Row:
    """One thing to measure."""

    name: str
    does: str
    """`encode` or `decode`, after which rows are compared."""
    call: Callable[[], Any]
    calls: int = 1
    samples: int
    """Of all calls together."""
    bits: float
    """Per sample."""
    counted: bool = True
    """Whether its floating-point operations can be counted."""
    seconds: float = np.inf
    memory: float = 0.0
    """Most bytes that a call held, beyond what was held before."""
    work: float = 0.0
    """Floating-point operations per sample."""


def model(name: str) -> tuple[Model, str]:
    """A preset with its weights, or drawn ones."""
    try:
        return catalog.load(name), "packaged weights"
    except SeislatentError:
        it = catalog.preset(name)
        torch.manual_seed(0)
        system: Any = catalog.build(it.system, it.config)
        for name in ("codebooks", "coarse", "fine"):
            if hasattr(system.quantizer, name):
                getattr(system.quantizer, name).normal_()
        return catalog.wrap(system, it.system), "drawn weights"


def tensor_rows(name: str, codec: Model, hours: float) -> list[Row]:
    """The tensor verbs, on segments as a code file holds them, 16 in a call."""
    system: Any = codec.system
    head = head_of(codec)
    rng, inner = np.random.default_rng(0), (head.hop + 1) * head.frame
    x = torch.from_numpy(np.stack([mixture(rng, inner + 2 * system.margin, RATE_HZ) for _ in range(head.run)]))[:, None].double()
    tokens, calls = system.encode(x, system.margin), calls_for(hours)
    about: dict[str, Any] = {"calls": calls, "samples": calls * CALL}
    bits = system.bits_per_second / RATE_HZ
    rows = [Row(name=name, does="encode", bits=system.books * bits, call=lambda: system.encode(x, system.margin), **about)]
    for level in LEVELS:
        call = partial(system.decode, tokens, level)
        rows.append(Row(name=f"{name} level {level}", does="decode", bits=level * bits, call=call, **about))
    return rows


def calls_for(hours: float) -> int:
    """Calls that make up so many hours at our codecs' rate."""
    return max(1, round(hours * 3600 * RATE_HZ / CALL))


def file_rows(name: str, codec: Model, hours: float, folder: Path) -> list[Row]:
    """From miniSEED at 100 Hz to a code file and back: reading, resampling, packing and checksums included."""
    rng = np.random.default_rng(1)
    x = mixture(rng, round(hours * 3600 * FILE_HZ), FILE_HZ)
    counts = np.rint(x / np.abs(x).max() * 1e6).astype(np.int32)[None]
    channel = Channel(network="XX", station="SPEED", code="HHZ", component="Z")
    day, code, back = folder / "x.mseed", folder / f"{Path(name).name}.slat", folder / f"{Path(name).name}.mseed"
    if not day.exists():
        miniseed.write(Waveform(data=counts, sampling_rate_hz=FILE_HZ, channels=(channel,)), day)
    stream.encode_file(codec, day, code)
    samples = round(hours * 3600 * RATE_HZ)
    bits = 8 * code.stat().st_size / samples
    encode = Row(
        name=f"{name} .mseed to .slat", does="encode", samples=samples, bits=bits, counted=False,
        call=lambda: stream.encode_file(codec, day, code, overwrite=True),
    )  # fmt: skip
    decode = Row(
        name=f"{name} .slat to .mseed", does="decode", samples=samples, bits=bits, counted=False,
        call=lambda: stream.decode_file(codec, code, back, overwrite=True),
    )  # fmt: skip
    return [encode, decode]


def encodec_rows(hours: float) -> list[Row]:
    """EnCodec's tensor verbs, with as many samples in a call."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    net, calls, rows = EncodecModel(EncodecConfig()).eval(), calls_for(hours), []
    x = 0.1 * torch.randn(1, 1, CALL)
    for kilobits in KILOBITS:
        with torch.inference_mode():
            codes = net.encode(x, bandwidth=kilobits)
        about: dict[str, Any] = {"name": f"EnCodec {kilobits:g} kbit/s", "calls": calls, "samples": calls * CALL}
        about["bits"] = 1000 * kilobits / net.config.sampling_rate
        rows.append(Row(does="encode", call=partial(net.encode, x, bandwidth=kilobits), **about))
        rows.append(Row(does="decode", call=partial(net.decode, codes.audio_codes, codes.audio_scales), **about))
    return rows


def operations(row: Row) -> float:
    """Floating-point operations per sample; PyTorch counts those of the LSTM only without oneDNN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            row.call()
    return counter.get_total_flops() * row.calls / row.samples


def held(what: str) -> float:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most since the last reset; NaN where the system does not tell."""
    try:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(what))
    except (OSError, StopIteration):
        return np.nan
    return 1024.0 * float(line.split()[1])


def most_held(row: Row) -> float:
    """Bytes that one call holds at most, beyond what was held before; free memory is handed back first. NaN but on Linux."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the maximum starts afresh
        before = held("VmRSS")
    except OSError:
        return np.nan
    with torch.inference_mode():
        row.call()
    return held("VmHWM") - before


def measure(row: Row) -> None:
    """One more round of a row."""
    with torch.inference_mode():
        start = time.process_time()
        for _ in range(row.calls):
            row.call()
        row.seconds = min(row.seconds, time.process_time() - start)


def matmul_rate(n: int = 1024) -> float:
    """Floating-point operations per second of a large float32 matrix product on this core."""
    a, best = torch.randn(n, n), np.inf
    for _ in range(8):
        start = time.process_time()
        a @ a
        best = min(best, time.process_time() - start)
    return 2 * n**3 / best


def table(rows: list[Row], peak: float) -> None:
    """Encoding, then decoding, each beside EnCodec."""
    columns = ("bit/sample", "seconds", "samples/s", "hours/s", "ratio", "MB", "flop/sample", "of peak")
    for does in ("encode", "decode"):
        mine = [row for row in rows if row.does == does]
        base = next(row.samples / row.seconds for row in mine if row.name == f"EnCodec {NAMED:g} kbit/s")
        print(f"\n{does:<38}" + "".join(f"{c:>12}" for c in columns))
        for row in mine:
            speed = row.samples / row.seconds
            ours = "-" if "EnCodec" in row.name else f"{speed / RATE_HZ / 3600:.2f}"
            work, share = (f"{row.work:,.0f}", f"{row.work * speed / peak:.0%}") if row.counted else ("-", "-")
            cells = (
                f"{row.bits:.3f}",
                f"{row.seconds:.2f}",
                f"{speed:,.0f}",
                ours,
                f"{speed / base:.2f}",
                f"{row.memory / 1e6:.0f}",
            )
            print(f"{row.name:<38}" + "".join(f"{c:>12}" for c in (*cells, work, share)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=4.0, help="length of the record, in hours at 40 Hz (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the best counts (default 3)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        for name in PRESETS:
            codec, weights = model(name)
            size = parameters(codec.system)
            print(f"{name}: {weights}, {size:,} parameters with discriminators, if any")
            rows += tensor_rows(name, codec, given.hours) + file_rows(name, codec, given.hours, Path(folder))
        rows += encodec_rows(given.hours)
        for row in rows:
            row.work, row.memory = operations(row) if row.counted else 0.0, most_held(row)
        rates = []
        for _ in range(given.rounds):
            rates.append(matmul_rate())
            for row in rows:
                measure(row)
    print(f"one core, one thread; large float32 matrix product: {max(rates) / 1e9:.1f} Gflop/s")
    print(
        f"unit of comparison: samples. ratio: samples/s over EnCodec's at {NAMED:g} kbit/s. hours: one channel at {RATE_HZ:g} Hz."
    )
    print("of peak: flop/sample times samples/s, over the matrix product's rate. MB: most that a call held beyond what was there.")
    table(rows, max(rates))


if __name__ == "__main__":
    main()
