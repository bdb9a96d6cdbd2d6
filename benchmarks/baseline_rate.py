"""Rate and distortion of the classical coders beside a neural codec, on the same windows; and the lossless coders' rates.

OMP_NUM_THREADS=1 python benchmarks/baseline_rate.py --data RECORDS --records 20 --out docs/baselines/compression.json
OMP_NUM_THREADS=1 python benchmarks/baseline_rate.py --data RECORDS --at-ratios --records 100
OMP_NUM_THREADS=1 python benchmarks/baseline_rate.py --data RECORDS --lossless

Windows of 30 s of one component at the codec's rate (40 Hz for codec/eqcodec_small), scaled to zero mean and unit variance, of
records that its weights have not seen; at most one of a record and component. Every classical coder writes a real file of one
window and reads it back; the payload counts, without the record's own header. Each is asked for the codec's bits (its tokens, with
offset and scales as a code file stores them), and for more. The codec is judged in its record, as in `codec_rate.py`.

--at-ratios: bits per sample of whole records at their own rate, one file for each record with all its channels, at 5 to 40 dB: mean
over records of the payload over all samples, and the mean signal-to-noise ratio of the traces, their means removed.

--lossless: bits per sample of the first 200,000 samples of a continuous record's longest stretch without a gap, and of whole
records of events. "whole" is the payload as the coder's own format writes it (miniSEED in records of 4096 bytes); Steim is also
told without record headers and filling.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from codec_rate import AROUND_FRAMES, COMPARED, WINDOW_S, markdown, neural, unseen
from numpy.typing import NDArray

from seislatent import catalog
from seislatent.data.records import Records, open_records
from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines import points
from seislatent.evaluate.baselines.container import payload_bytes
from seislatent.evaluate.baselines.lossless import blosc2, flac, steim, steim_payload_bytes, zstd
from seislatent.evaluate.baselines.mdct import Mdct
from seislatent.evaluate.baselines.sz3 import sz3
from seislatent.evaluate.baselines.zfp import zfp
from seislatent.evaluate.bootstrap import summary
from seislatent.evaluate.trial import errors
from seislatent.io.files import read
from seislatent.prepare.resample import resample
from seislatent.waveform import Channel, Waveform

SETS = {
    "ncedc_deepdenoiser": "ncedc_deepdenoiser",
    "strongmotion_gmprocess": "strongmotion_gmprocess",
    "seisbench_cx_pb01_20hz": "seisbench_cx_pb01_20hz",
    "anza": "anza_19980101",
}
MORE_BITS = (3.0, 4.0, 6.0)
"""Bits per sample that the classical coders are asked for besides those of the codec."""
RATIOS_DB = (5.0, 10.0, 20.0, 30.0, 40.0)
LOSSLESS_SAMPLES = 200_000


def windows(records: Records, rows: NDArray[np.int64], system: Any, most: int, seed: int) -> tuple[NDArray[np.float64], list[str]]:
    """Windows with the codec's context around them [n time], at most one of a component, and the records they are from."""
    rng, rate, around = np.random.default_rng(seed), system.sampling_rate_hz, AROUND_FRAMES * system.frame
    size = round(WINDOW_S * rate / system.frame) * system.frame
    found, record = [], []
    for i in rng.permutation(rows):
        waveform = records[int(i)]
        row = waveform.data[int(rng.integers(len(waveform.data)))]
        if len(found) == most or not np.isfinite(row).all() or np.ptp(row) == 0:
            continue
        x = resample(row - row.mean(dtype=np.float64), waveform.sampling_rate_hz, rate)
        spare = len(x) - 2 * around - size
        if spare < 0:
            continue
        start = int(rng.integers(spare + 1))
        wide = x[start : start + size + 2 * around]
        inner = wide[around:-around]
        if inner.std() > 1e-9 * np.abs(row).max():
            found.append((wide - inner.mean()) / inner.std())
            record.append(f"{waveform.channels[0].station} {waveform.start_ns}" if waveform.start_ns else str(i))
    return np.array(found), record


def classical(
    coder: Any, x: NDArray[np.float64], rate_hz: float, bits: NDArray[np.float64], record: list[str]
) -> dict[str, Any] | None:
    """A coder at so many bits per sample of each window; None where it cannot code some of them so small."""
    spent, snr = [], []
    for row, wanted in zip(x, bits, strict=True):
        waveform = Waveform(data=row[None], sampling_rate_hz=rate_hz, channels=(Channel(),))
        try:
            data = coder.encode(waveform, bits_per_sample=float(wanted))
        except SeislatentError:
            return None
        spent.append(8 * payload_bytes(coder.name, data) / len(row))
        snr.append(errors(coder.decode(data).data[0], row).snr_db)
    return {"bits_per_sample": float(np.mean(spent)), "snr_db": summary(np.array(snr), record).plain()}


def compare(system: Any, name: str, wide: NDArray[np.float64], record: list[str]) -> dict[str, Any]:
    """All systems on the windows of one set."""
    around, rate = AROUND_FRAMES * system.frame, system.sampling_rate_hz
    x = wide[:, around:-around]
    codec = neural(system, wide, alone=False)
    side = neural(system, wide[:, : wide.shape[1]], alone=True).side_bits / x.shape[1]
    levels = [k for k in COMPARED if k <= system.books]
    rates = [k * system.bits_per_index / system.frame + side for k in levels]
    systems: dict[str, Any] = {
        name: [
            {"bits_per_sample": float(bits.mean()), "snr_db": summary(codec.snr_db[k - 1], record).plain()}
            for k, bits in zip(levels, rates, strict=True)
        ]
    }
    for coder in (Mdct(), zfp(), sz3()):
        asked = [*rates, *(np.full(len(x), b) for b in MORE_BITS)]
        systems[coder.name] = [p for bits in asked if (p := classical(coder, x, rate, bits, record)) is not None]
    return {"windows": len(x), "records": len(set(record)), "systems": systems}


def at_ratios(root: Path, most: int, seed: int) -> str:
    """A table of bits per sample and the ratios reached."""
    chosen = {
        "IPOC, 20 Hz": ("seisbench_cx_pb01_20hz", lambda t: np.ones(len(t), bool)),
        "K-NET, 100 Hz": (
            "strongmotion_gmprocess",
            lambda t: (t["station_network_code"] == "BO") & (t["station_code"].str[3] == "0"),
        ),
    }
    lines = []
    for name, (folder, wanted) in chosen.items():
        records = open_records(root / folder)
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(wanted(records.metadata)))[:most]
        used = [w for i in rows if np.isfinite((w := records[int(i)]).data).all() and (np.ptp(w.data, axis=1) > 0).all()]
        for coder in (Mdct(), zfp(), sz3()):
            cells = []
            for ratio in RATIOS_DB:
                found = [points(coder, w, (ratio,))[0] for w in used]
                snr = np.mean([e.snr_db for p in found for e in p.errors])
                cells.append(f"{np.mean([p.bits_per_sample for p in found]):.3f} ({snr:.1f})")
            lines.append([f"{name} ({len(used)})" if coder.name == "baseline/mdct" else "", coder.name, *cells])
    return markdown("records, coder, " + ", ".join(f"{r:g} dB" for r in RATIOS_DB), lines)


def lossless_records(root: Path) -> Iterator[tuple[str, list[NDArray[np.int32]]]]:
    """Names and samples."""
    for name, path in (("PFO BHZ, 40 Hz", "anza_19980101/PFO.BHZ.1998.001.mseed"),
                       ("Raspberry Shake, urban", "noise_raspberryshake/SampleHVSRSite08.MSEED")):  # fmt: skip
        longest = max((w.data[0] for w in read(root / "continuous" / path)), key=len)  # the file of PFO has 22 stretches
        yield name, [longest[:LOSSLESS_SAMPLES].astype(np.int32)]
    for name, folder in (
        ("IPOC, 20 Hz, 60 s", "seisbench_cx_pb01_20hz"),
        ("landslides, 20 to 200 Hz, 180 s", "esec_massmovement_3c"),
    ):
        records = open_records(root / folder)
        rows = [row for i in range(len(records)) for row in records[i].data]
        yield name, [row.astype(np.int32) for row in rows if (row == np.rint(row)).all() and np.ptp(row)]


def lossless(root: Path) -> str:
    """A table of bits per sample."""
    coders = steim(1), steim(2), flac(), blosc2(), zstd()
    lines = []
    for name, rows in lossless_records(root):
        samples = sum(map(len, rows))
        made = [[coder.compress(row) for row in rows] for coder in coders]
        frames = [sum(map(steim_payload_bytes, bodies)) for bodies in made[:2]]
        sizes = [sum(map(len, bodies)) for bodies in made]
        values = [sizes[0], frames[0], sizes[1], frames[1], *sizes[2:]]
        lines.append([f"{name} ({len(rows)})", *(f"{8 * v / samples:.2f}" for v in values)])
    heads = "record (traces), Steim1 whole, frames, Steim2 whole, frames, FLAC, blosc2, zstd"
    return markdown(heads, lines)


def table(found: dict[str, Any]) -> str:
    """Rates and signal-to-noise ratios as Markdown."""
    lines = []
    for name, one in found.items():
        for system, curve in one["systems"].items():
            cells = [f"{p['bits_per_sample']:.2f}: {p['snr_db']['mean']:.1f}" for p in curve]
            cells = [""] * (len(COMPARED) + len(MORE_BITS) - len(cells)) * (system in ("baseline/zfp", "baseline/sz3")) + cells
            cells += [""] * (len(COMPARED) + len(MORE_BITS) - len(cells))
            lines.append(
                [f"{name} ({one['windows']} / {one['records']})" if not lines or system.startswith("codec") else "", system, *cells]
            )
    return markdown("set (windows / records), system, " + ", ".join(["bit/sample: dB"] * (len(COMPARED) + len(MORE_BITS))), lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Rate-distortion curves, a panel for each set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(3 * len(found), 3.2), sharey=True, constrained_layout=True, squeeze=False)
    for axis, (name, one) in zip(axes[0], found.items(), strict=True):
        for system, curve in one["systems"].items():
            if curve:
                bits, snr = ([p["bits_per_sample"] for p in curve], [p["snr_db"]["mean"] for p in curve])
                axis.plot(bits, snr, marker="o", markersize=3, label=system)
        axis.set(
            title=name, xlabel="bit/sample", xscale="log", xticks=[0.25, 0.5, 1, 2, 4], xticklabels=["1/4", "1/2", "1", "2", "4"]
        )
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("SNR, dB")
    axes[0][0].legend(fontsize=7)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SEISLATENT_RECORDS"), help="folder that holds the sets")
    parser.add_argument("--model", default="codec/eqcodec_small", help="packaged codec, or a .safetensors file")
    parser.add_argument("--records", type=int, default=20, help="most windows of a set, each of another record or component")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of windows")
    parser.add_argument("--at-ratios", action="store_true", help="bits per sample at given ratios instead")
    parser.add_argument("--lossless", action="store_true", help="the lossless coders instead")
    parser.add_argument("--out", type=Path, help="JSON file to write; the figure is put beside it")
    given = parser.parse_args()
    if given.data is None:
        parser.error("no records: give --data, or set SEISLATENT_RECORDS")
    if given.lossless or given.at_ratios:
        print(lossless(Path(given.data)) if given.lossless else at_ratios(Path(given.data), given.records, given.seed))
        return
    model = catalog.load(given.model)
    system: Any = model.system
    records, split = unseen(Path(given.data), catalog.source(catalog.preset(model.name))[1])
    found = {}
    for name, folder in SETS.items():
        rows = np.flatnonzero((split == "test") & (records.metadata["dataset"] == folder))
        wide, record = windows(records, rows, system, given.records, given.seed)
        if len(wide):
            found[name] = compare(system, model.name, wide, record)
    print(f"{model.name}, weights {model.digest}\n\n{table(found)}")
    if given.out:
        part = given.out.with_name(given.out.name + ".part")
        about = {"model": model.name, "digest": model.digest, "seed": given.seed, "window_s": WINDOW_S}
        part.write_text(json.dumps({**about, "sets": found}, indent=1) + "\n", encoding="utf-8")
        os.replace(part, given.out)
        draw(found, given.out.with_suffix(".png"))


if __name__ == "__main__":
    try:
        main()
    except SeislatentError as error:
        raise SystemExit(f"baseline_rate: {error}") from None
