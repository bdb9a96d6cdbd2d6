"""What the noise discriminator is worth on sets that it never saw, on streams of noise, and on input that is broken.

    python benchmarks/noise_discriminator.py features/noise     or the path of other weights

Earthquakes: 27 s of each record with P 2 to 20 s after the window's beginning, drawn; noise: what stands before P, up to 1 s before
it, of records with 15 s or more there. Streams: windows of 27 s that overlap by half; windows in a row that are called
earthquake are one alarm. An earthquake in a stream is an alarm too: nobody has looked through them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import seislatent
from seislatent.data.records import open_records
from seislatent.io.archive import Archive
from seislatent.metrics.detection import roc
from seislatent.prepare.resample import resample

ROOT = Path(os.environ.get("SEISLATENT_RECORDS", "."))
RATE, LENGTH = 20.0, 540
SETS = {
    "gujarat": "trace_p_arrival_calc_sample", "telica_gismo_3c": "trace_p_arrival_sample",
    "iceland_quakemigrate": "trace_p_modelled_sample", "seisbench_cx_pb01_20hz": "", "strongmotion_gmprocess": "",
}  # fmt: skip
STREAMS = {
    "AZ.LVA2, 24 h, 40 Hz": ("continuous/anza_19980101", "LVA2"),
    "Raspberry Shake site 14, 30 min": ("continuous/noise_raspberryshake", "Site14"),
}


def rows(record) -> np.ndarray:
    """Z, N, E at 20 Hz, NaN where a component is missing."""
    x = resample(np.nan_to_num(record.data.astype(np.float64)), record.sampling_rate_hz, RATE)
    out = np.full((3, x.shape[1]), np.nan)
    for component, row in zip(record.components, x, strict=True):
        place = {"Z": 0, "N": 1, "1": 1, "E": 2, "2": 2, "3": 0}.get(component)
        if place is not None and np.ptp(row) > 0:
            out[place] = row
    return out


def windows(name: str, p_column: str) -> Iterator[tuple[str, int, np.ndarray]]:
    """Station, class and samples [3 time] of every window of a set."""
    records, dice = open_records([ROOT / name]), np.random.default_rng(0)
    for i in range(len(records)):
        try:
            record = records[i]
        except seislatent.SeislatentError:
            continue
        x, station = rows(record), str(records.metadata["station_code"].iloc[i])
        if np.isnan(x).all():
            continue
        p = record.metadata.get(p_column) if p_column else None
        if p is None or not np.isfinite(p):
            if not p_column:  # somewhere in the record: all of it is asked about
                yield station, 1, x
            continue
        at = int(p * RATE / record.sampling_rate_hz)
        first = max(0, at - round(dice.uniform(2, 20) * RATE))
        yield station, 1, x[:, first : first + LENGTH]
        if at >= 16 * RATE:
            yield station, 0, x[:, max(0, at - round(RATE) - LENGTH) : at - round(RATE)]


def sta_lta(x: np.ndarray) -> float:
    """The largest ratio of mean squares over 1 s to those over the 10 s before, of differences of the first live component."""
    live = x[~np.isnan(x).all(1)][0]
    square = np.diff(np.nan_to_num(live)) ** 2
    total = np.concatenate([[0.0], np.cumsum(square)])
    short, long = round(RATE), round(10 * RATE)
    k = np.arange(long, len(square) - short + 1)
    if not len(k):
        return 0.0
    before = (total[k] - total[k - long]) / long
    return float(((total[k + short] - total[k]) / short / np.maximum(before, 1e-12 * square.max() + 1e-300)).max())


def told(head, found: list[tuple[str, int, np.ndarray]]) -> str:
    """A line of the table."""
    said = [head.judge(torch.from_numpy(x)[None]) for _, _, x in found]
    p, unknown = torch.cat([s.probabilities[:, 1] for s in said]), torch.cat([s.unknown for s in said])
    label = torch.tensor([k for _, k, _ in found])
    cells = []
    for k, name in ((1, "earthquakes"), (0, "noise")):
        mine = label == k
        if mine.any():
            right = ((p > 0.5) == bool(k))[mine].double().mean()
            cells.append(f"{int(mine.sum())} {name}: {right:.3f} right, {unknown[mine].double().mean():.3f} unknown")
    if len(label.unique()) == 2:
        ratio = torch.tensor([sta_lta(x) for _, _, x in found])
        cells.append(f"AUC {float(roc(p, label).auc):.3f} (largest STA/LTA: {float(roc(ratio, label).auc):.3f})")
        both = {s for s, k, _ in found if k} & {s for s, k, _ in found if not k}
        cells.append(f"{len(both)} stations with both")
    return "; ".join(cells)


def streams(head) -> None:
    """Alarms per hour."""
    for name, (folder, part) in STREAMS.items():
        archive = Archive(ROOT / folder)
        files = [f for f in archive.table["file"].unique() if part in f]
        pieces = archive.read(files=files)
        begin, rate = min(w.start_ns for w in pieces), pieces[0].sampling_rate_hz
        places = [round((w.start_ns - begin) * rate / 1e9) for w in pieces]
        x = np.full((3, max(k + w.data.shape[1] for k, w in zip(places, pieces, strict=True))), np.nan)
        for k, w in zip(places, pieces, strict=True):
            x["ZNE".index(w.components[0]), k : k + w.data.shape[1]] = w.data[0]
        gone = resample(np.isnan(x).astype(float), rate, RATE) > 0.01
        y = torch.from_numpy(np.where(gone, np.nan, resample(np.nan_to_num(x), rate, RATE)))
        firsts = range(0, y.shape[1] - LENGTH + 1, LENGTH // 2)
        said = head.judge(torch.stack([y[:, f : f + LENGTH] for f in firsts]))
        hours, p = y.shape[1] / RATE / 3600, said.probabilities[:, 1].numpy()
        for threshold in (0.5, 0.9, 0.99):
            loud = p > threshold
            alarms = int((loud & ~np.concatenate([[False], loud[:-1]])).sum())
            print(f"{name}: threshold {threshold}: {alarms / hours:.2f} alarms per hour ({loud.mean():.4f} of windows)")
        print(f"{name}: {hours:.1f} hours, {float(said.unknown.double().mean()):.4f} unknown")


def broken(head) -> None:
    """Constant, clipped and dead input."""
    t, dice = np.arange(LENGTH) / RATE, np.random.default_rng(0)
    white = dice.standard_normal((3, LENGTH))
    red = np.cumsum(white, 1)
    spike = white.copy()
    spike[:, 300] = 1000
    step = white.copy()
    step[:, 300:] += 1000
    cases = {
        "zeros": np.zeros((3, LENGTH)), "constant": np.full((3, LENGTH), 7.0), "white noise": white, "red noise": red,
        "vertical alone, white": np.concatenate([white[:1], np.full((2, LENGTH), np.nan)]),
        "clipped white": np.clip(white, -0.5, 0.5),
        "clipped sine, 1 Hz": np.clip(3 * np.sin(2 * np.pi * t), -1, 1) * np.ones((3, 1)), "spike": spike, "step": step,
        "sine, 1 Hz": np.sin(2 * np.pi * t) * np.ones((3, 1)), "ramp": t * np.ones((3, 1)),
        "5 s of white noise": np.where(t < 5, white, np.nan),
    }  # fmt: skip
    for name, x in cases.items():
        said = head.judge(torch.from_numpy(x)[None])
        p, far = float(said.probabilities[0, 1]), float(said.distance[0])
        print(f"{name}: earthquake {p:.3f}, distance {far:.2f}{', unknown' if bool(said.unknown[0]) else ''}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    model = seislatent.load(sys.argv[1] if len(sys.argv) > 1 else "features/noise")
    print(model, model.about.get("calibration"))
    for each, column in SETS.items():
        print(f"{each}: {told(model.system, list(windows(each, column)))}", flush=True)
    streams(model.system)
    broken(model.system)
