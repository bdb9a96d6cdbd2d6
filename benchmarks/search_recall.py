"""Does a search among features find what template matching finds, and how much faster is it?

SEISLATENT_RECORDS=FOLDER OMP_NUM_THREADS=1 python benchmarks/search_recall.py [--systems PATH,PATH:8] [--noise FOLDER] [--out JSON]

Records: `iceland_quakemigrate`, the dike's earthquakes at twelve stations. What the set calls 39 events are 27: twelve of them are
a second location of the same seconds, cut 20 to 120 ms apart, which any method finds; one of each pair is kept. The icequakes are
left out: eight records of the same ten seconds.

Truth: each earthquake at each station is a template, from 0.5 s before P to 3 s behind S, three components, 2 to 9 Hz, at 100 Hz
(at 20 Hz the lags are too coarse). Another earthquake of the station is alike where the mean over the components of their
normalised cross-correlation, at the best lag common to all within 1 s, reaches a threshold. Pairs nearer in time than a window
(27 s) share samples and are left out everywhere.

  aligned      one window per earthquake and station, P at 5.4 s; the others are ranked among all stations' windows
  event alone  the same, zero outside 2 s before to 10 s behind P: a swarm has more than one earthquake in 27 s
  continuous   the stations' streams in windows every `--hop` s (`seislatent embed`), searched with windows that have P at 32 places
               (`seislatent search`), hits nearer than half a window merged; an earthquake is found by a hit that holds its P and S

Times are seconds of one core (`time.process_time`), so that other work on the machine hardly moves them.

Recall at k: share of what template matching finds that is among the k nearest. Query earthquakes are drawn again for the intervals
(95 %). `random` gives every window random features: chance in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from obspy import Stream, Trace, UTCDateTime
from scipy.signal import fftconvolve

from seislatent import catalog
from seislatent.bulk.embed import embed, features_of
from seislatent.bulk.feature_windows import Cut, WindowSource, windows_at
from seislatent.bulk.search import FROM, SHIFTS, TO, nearest
from seislatent.io.files import from_stream, read_stream
from seislatent.io.seisbench import SeisBenchFile
from seislatent.metrics.detection import interval_by_event
from seislatent.prepare.resample import resample
from seislatent.signal.filters import Butterworth
from seislatent.systems.base import Embedder

RATE, SAMPLES, HIGHPASS_HZ, BAND_HZ = 20.0, 540, 2.0, (2.0, 9.0)
WINDOW_S = SAMPLES / RATE
THRESHOLDS, TOPS = (0.5, 0.6, 0.7), (10, 50)
LEAD_S, LAG_S, SAME_S = 5.4, 1.0, 2.0


class Plain(torch.nn.Module, Embedder):
    """What needs no learning: the samples, spectra, envelopes, or nothing but random numbers."""

    sampling_rate_hz, samples = RATE, SAMPLES

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """One row per window."""
        if self.what == "raw waveform":
            return x.flatten(1)
        if self.what == "spectrum":  # 24 bands of each component, without phase: the same wherever in the window it stands
            power = torch.fft.rfft(x).abs().square()[..., 1:265].unflatten(-1, (24, 11)).mean(-1)
            return torch.log(power + 1e-6 * power.mean((1, 2), keepdim=True) + 1e-12).flatten(1)
        if self.what == "envelope":  # rms of every half second
            return x.unflatten(-1, (54, 10)).square().mean(-1).sqrt().flatten(1)
        seeds = [abs(hash(row.numpy().tobytes())) % 2**31 for row in x]
        return torch.stack([torch.randn(64, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def model_of(name: str) -> Any:
    if name in ("raw waveform", "spectrum", "envelope", "random"):
        return SimpleNamespace(system=Plain(name), name=name, digest=name, about={"system": name})
    if name.startswith("untrained "):
        torch.manual_seed(0)
        it = catalog.preset(name.removeprefix("untrained "))
        return catalog.wrap(catalog.build(it.system, it.config), it.system)
    return catalog.load(name)


def earthquakes(folder: Path) -> pd.DataFrame:
    """One row per earthquake and station: record, P and S in ns since 1970."""
    file = SeisBenchFile(folder)
    table = file.metadata
    table = table[~table["trace_category"].str.contains("icequake")].copy()
    table["index"] = table.index
    table["start"] = [file[i].start_ns for i in table.index]
    first = table.groupby("source_id")["start"].min().sort_values()
    keep = first[np.diff(first.to_numpy(), prepend=-(10**18)) > SAME_S * 1e9].index
    print(f"{len(first)} events in the set, {len(keep)} more than {SAME_S:g} s apart; {table['station_code'].nunique()} stations")
    found = table[table["source_id"].isin(keep)].reset_index(drop=True)
    for phase in "ps":
        found[phase] = found["start"] + (found[f"trace_{phase}_modelled_sample"] / found["trace_sampling_rate_hz"] * 1e9).astype(
            np.int64
        )
    found["event"] = found["source_id"].map({name: k for k, name in enumerate(keep)})
    return found


def streams(folder: Path, out: Path) -> None:
    """Each station's records, which overlap, put together to one stream with gaps, as miniSEED."""
    file, by = SeisBenchFile(folder), defaultdict(list)
    for i, row in file.metadata.iterrows():
        if "icequake" not in row["trace_category"]:
            by[row["station_code"]].append(file[i])
    out.mkdir()
    for station, records in by.items():
        start = min(w.start_ns for w in records)
        ends = max(w.start_ns + round(w.data.shape[1] * 1e7) for w in records)
        x = np.full((3, round((ends - start) / 1e7) + 1), np.nan)
        for w in records:
            at = round((w.start_ns - start) / 1e7)
            x[:, at : at + w.data.shape[1]] = w.data[[w.components.index(c) for c in "ZNE"]]
        header = {"network": "Z7", "station": station, "sampling_rate": 100.0, "starttime": UTCDateTime(ns=int(start))}
        traces = [Trace(np.ma.masked_invalid(row), {**header, "channel": f"HH{c}"}) for row, c in zip(x, "ZNE", strict=True)]
        Stream(traces).split().write(str(out / f"{station}.mseed"), format="MSEED")


def three(record: Any) -> np.ndarray:
    x = np.asarray(record.data, float)[[record.components.index(c) for c in "ZNE"]]
    return x - x.mean(1, keepdims=True)


def correlations(file: SeisBenchFile, table: pd.DataFrame) -> pd.DataFrame:
    """For each query row and other row of the station that shares no samples with it: their correlation."""
    rate = float(table["trace_sampling_rate_hz"].iloc[0])
    band = Butterworth(kind="bandpass", corners_hz=BAND_HZ, rate_hz=rate)
    x = [band(three(file[i])) for i in table["index"]]
    place = [((table[phase] - table["start"]) / 1e9 * rate).to_numpy() for phase in "ps"]
    rows, lag = [], round(LAG_S * rate)
    for _, group in table.groupby("station_code"):
        for a in group.index:
            p, s = place[0][a], place[1][a]
            first, last = round(p - 0.5 * rate), round(s + 3 * rate)
            template = unit(x[a][:, first:last])
            for b in group.index:
                if abs(table["p"][a] - table["p"][b]) < WINDOW_S * 1e9:
                    continue
                begin = round(place[0][b] - 0.5 * rate) - lag
                views = np.lib.stride_tricks.sliding_window_view(
                    x[b][:, begin : begin + last - first + 2 * lag], last - first, axis=1
                )
                rows.append((a, b, float((unit(views) * template[:, None]).sum(-1).mean(0).max())))
    return pd.DataFrame(rows, columns=["query", "other", "correlation"])


def unit(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-30)


def aligned(file: SeisBenchFile, table: pd.DataFrame, alone: bool) -> np.ndarray:
    """Windows [row 3 time] with P at LEAD_S."""
    high, out = Butterworth(kind="highpass", corners_hz=HIGHPASS_HZ, rate_hz=RATE), []
    t = np.arange(SAMPLES) / RATE - LEAD_S
    mask = np.clip(np.minimum(t + 2, 10 - t) / 0.5, 0, 1) if alone else np.ones(SAMPLES)
    for k, i in enumerate(table["index"]):
        record = file[i]
        x = high(resample(three(record), record.sampling_rate_hz, RATE))
        first = max(0, round(((table["p"][k] - table["start"][k]) / 1e9 - LEAD_S) * RATE))
        x = x[:, first : first + SAMPLES]
        x = np.pad(x, ((0, 0), (0, SAMPLES - x.shape[1]))) * mask
        out.append(x / np.abs(x).max())
    return np.stack(out).astype(np.float32)


def ranked(model: Any, x: np.ndarray, pool: int | None, table: pd.DataFrame) -> list[np.ndarray]:
    """For each row the other rows, nearest first, without those that share samples with it."""
    f = features_of(model.system, x, pool).astype(float)
    deviation = f.std(0)
    z = (f - f.mean(0)) / np.where(deviation > 1e-3 * np.abs(f.mean(0)), deviation, 1)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    station, p = table["station_code"].to_numpy(), table["p"].to_numpy()
    out = []
    for k, row in enumerate(z @ z.T):
        row[(station == station[k]) & (np.abs(p - p[k]) < WINDOW_S * 1e9)] = -np.inf
        order = np.argsort(-row, kind="stable")
        out.append(order[np.isfinite(row[order])])
    return out


def looked_for(streams: Path, table: pd.DataFrame) -> list[tuple[int, np.ndarray]]:
    """For each row its windows [window 3 time] of the stream, P at the places that `seislatent search --at` takes."""
    cut, out = Cut(sampling_rate_hz=RATE, samples=SAMPLES, hop_s=WINDOW_S, highpass_hz=HIGHPASS_HZ), []
    for station, group in table.groupby("station_code", sort=False):
        source = WindowSource(streams / f"{station}.mseed")
        rate = source.table["trace_sampling_rate_hz"].to_numpy(float)
        starts = source.table["start_ns"].to_numpy(np.int64)
        ends = starts + (source.table["trace_npts"].to_numpy(float) / rate * 1e9).astype(np.int64)
        for k in group.index:
            row = int(np.flatnonzero((starts <= table["p"][k]) & (table["p"][k] < ends))[0])
            first = (table["p"][k] - starts[row]) / 1e9 - np.linspace(FROM, TO, SHIFTS) * WINDOW_S
            out.append((k, windows_at(source, row, first, cut).x))
    return out


def hits(
    model: Any, pool: int | None, folder: Path, sources: list[Path], table: pd.DataFrame, asked: list[Any], hop_s: float
) -> tuple[Any, dict[str, float]]:
    """For each row the rows found in the streams by the k nearest, k after k, and how long that took."""
    begun = time.process_time()
    store = embed(model, sources, folder, hop_s=hop_s, highpass_hz=HIGHPASS_HZ, pool=pool)
    took = {"embed_s": time.process_time() - begun, "windows": len(store), "numbers": store.array.shape[1]}
    queries = [(k, features_of(model.system, windows, pool)) for k, windows in asked]
    begun = time.process_time()
    found = nearest(store, [q for _, q in queries], 4 * max(TOPS))
    took["search_s_per_query"] = (time.process_time() - begun) / len(queries)
    begun = time.process_time()
    nearest(store, [queries[0][1][:1]], max(TOPS))
    took["one_window_s"] = time.process_time() - begun
    where = store.table["station_code"].to_numpy(), store.table["start_ns"].to_numpy(np.int64)
    out: list[list[set[int]]] = [[] for _ in range(len(table))]
    groups = dict(table.groupby("station_code").groups.items())
    for (k, _), hit in zip(queries, found, strict=True):
        for row in hit.row:
            station, start = where[0][row], where[1][row]
            if station == table["station_code"][k] and abs(start + WINDOW_S * 5e8 - table["p"][k]) < WINDOW_S * 1e9:
                continue  # holds samples of the query
            mine = [j for j in groups.get(station, []) if start <= table["p"][j] and table["s"][j] < start + WINDOW_S * 1e9]
            out[k].append(set(mine))
    return out, took


def recall(found: list[Any], truth: dict[int, set[int]], event: np.ndarray, top: int) -> dict[str, float]:
    """Share of all true pairs among the first `top`, with its interval by query event."""
    rows = sorted(truth)
    right = torch.tensor([len(truth[k] & set().union(*(_set(v) for v in found[k][:top]))) for k in rows], dtype=torch.float64)
    whole = torch.tensor([len(truth[k]) for k in rows], dtype=torch.float64)
    ends = interval_by_event(lambda w: (w @ right) / (w @ whole), event[rows])
    return {"recall": float(right.sum() / whole.sum()), "low": ends.low, "high": ends.high}


def _set(value: Any) -> set[int]:
    return value if isinstance(value, set) else {int(value)}


def matching(day: Path, seconds: float = 6.5) -> dict[str, float]:
    """How long one template of three components takes against a day of a station, at 20 Hz, by FFT with running norms."""
    x = []
    for path in sorted(day.glob("PFO*")):
        w = max(from_stream(read_stream(path)), key=lambda one: one.data.shape[1])
        x.append(resample(np.asarray(w.data[0], float), w.sampling_rate_hz, RATE))
    n = min(map(len, x))
    data = Butterworth(kind="bandpass", corners_hz=BAND_HZ, rate_hz=RATE)(np.stack([v[:n] for v in x]))
    length = round(seconds * RATE)
    begun = time.process_time()
    template = unit(data[:, 5000 : 5000 + length])
    product = np.stack([fftconvolve(row, t[::-1], mode="valid") for row, t in zip(data, template, strict=True)])
    run = np.cumsum(np.pad(data**2, ((0, 0), (1, 0))), -1)
    score = (product / np.sqrt(np.maximum(run[:, length:] - run[:, :-length], 1e-30))).mean(0)
    took = time.process_time() - begun
    assert abs(score[5000] - 1) < 1e-2
    return {"seconds_per_station_day_and_template": took * 86400 * RATE / n, "hours": n / RATE / 3600}


def searching(model: Any, pool: int | None, day: Path) -> dict[str, float]:
    """How long features take, made once and then searched by one query of all its shifts, per day of a station; and how fast memory
    is read in the product beside copying it.
    """
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
        begun = time.process_time()
        store = embed(model, day, Path(place) / "f", highpass_hz=HIGHPASS_HZ, pool=pool)
        made = time.process_time() - begun
        days = len(store) * store.about["cut"]["hop_s"] / 86400
        took = {}
        for shifts in (1, SHIFTS):
            nearest(store, [store.array[:shifts]], 50)  # the array is in the page cache from now on
            begun = time.process_time()
            nearest(store, [store.array[:shifts]], 50)
            took[shifts] = time.process_time() - begun
        begun = time.process_time()
        np.array(store.array)
        copied = time.process_time() - begun
    return {
        "station_days": days, "windows": len(store), "numbers": store.array.shape[1],
        "embed_s_per_station_day": made / days, "search_s_per_station_day": took[SHIFTS] / days,
        "one_window_gb_per_s": store.array.nbytes / took[1] / 1e9, "copy_gb_per_s": store.array.nbytes / copied / 1e9,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SEISLATENT_RECORDS"), help="folder that holds the sets")
    parser.add_argument("--systems", default="", help="weights, with commas; NAME:N pools the features over N parts")
    parser.add_argument("--noise", type=Path, help="folder of a day of other stations, searched along (continuous/anza_19980101)")
    parser.add_argument("--speed", type=Path, help="folder of a day of continuous records, on which both ways are timed")
    parser.add_argument("--hop", type=float, default=WINDOW_S / 2)
    parser.add_argument("--out", type=Path, help="also write the figures here (JSON)")
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("give --data or set SEISLATENT_RECORDS")
    folder = Path(asked.data) / "iceland_quakemigrate"
    file, table = SeisBenchFile(folder), earthquakes(folder)
    pairs = correlations(file, table)
    truth = {
        c: {int(k): set(map(int, g["other"])) for k, g in pairs[pairs["correlation"] >= c].groupby("query")} for c in THRESHOLDS
    }
    print("\n".join(f"{sum(map(len, t.values()))} pairs of correlation {c} and more, {len(t)} queries" for c, t in truth.items()))
    event = table["event"].to_numpy()
    names = ["random", "raw waveform", "envelope", "spectrum", *[n for n in asked.systems.split(",") if n]]
    result: dict[str, Any] = {
        "pairs": len(pairs),
        "true": {str(c): sum(map(len, t.values())) for c, t in truth.items()},
        "encoders": {},
    }
    x = {"aligned": aligned(file, table, False), "event alone": aligned(file, table, True)}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
        streams(folder, Path(place) / "streams")
        sources = [Path(place) / "streams", *([asked.noise] if asked.noise else [])]
        windows = looked_for(sources[0], table)
        for number, name in enumerate(names):
            base, _, pool = name.partition(":")
            model, parts = model_of(base), int(pool) if pool else None
            found = {way: ranked(model, given, parts, table) for way, given in x.items()}
            found["continuous"], took = hits(model, parts, Path(place) / f"f{number}", sources, table, windows, asked.hop)
            shown = name if not base.endswith(".safetensors") else "/".join(Path(name).parts[-2:])
            one = {
                way: {f"{c}@{top}": recall(f, truth[c], event, top) for c in THRESHOLDS for top in TOPS} for way, f in found.items()
            }
            result["encoders"][shown] = {**one, **took}
            print(f"\n{shown}: {took}")
            for way, values in one.items():
                told = ", ".join(f"{key} {v['recall']:.2f} ({v['low']:.2f}-{v['high']:.2f})" for key, v in values.items())
                print(f"  {way:12} {told}", flush=True)
            for left in (Path(place) / f"f{number}").glob("*"):
                left.unlink()
    if asked.speed:
        result["speed"] = {"matching": matching(asked.speed)}
        for name in [n for n in asked.systems.split(",") if n]:
            base, _, pool = name.partition(":")
            result["speed"][name] = searching(model_of(base), int(pool) if pool else None, asked.speed)
        print(json.dumps(result["speed"], indent=1))
    if asked.out:
        temporary = asked.out.with_name(f".{asked.out.name}.part")
        temporary.write_text(json.dumps(result, indent=1))
        os.replace(temporary, asked.out)


if __name__ == "__main__":
    main()
