"""Explosion or earthquake: classical discriminants beside trained heads, on synthetic records and at one real station.

SEISLATENT_RECORDS=FOLDER OMP_NUM_THREADS=1 python benchmarks/discrimination.py [--system PATH,...] [--encoder PATH,...]
    [--synthetic STORE] [--steps N] [--runs FOLDER] [--out FILE.json] [--figure FILE.png]

Synthetic: a store of `seislatent prepare data/synthetic_kong --recipe.classes "[earthquake,explosion]"`; each event once as
either, on one path, at 0, 10 or 20 dB. Learnt on its train split, judged on its test split, by event.

gujarat, station SUR: 200 "earthquakes" and 200 blasts. Five folds by day: each record is judged by what learnt on other days. Once
as an analyst would (40 Hz, 80 s), once in the windows that networks get (20 Hz, 27 s, P drawn between 4 and 8 s). Calculated P, S.

Rows: logistic regression on P/S ratios in six bands; on log energies of six bands in four windows; boosted trees on the same; the
energies of the noise before P alone, which should tell nothing; and at SUR what needs no seismogram (hour, magnitude, place).
`--system` judges trained classifiers as they are. `--encoder` trains `features/classifier` for `--steps`, `fresh` from nothing,
PATH as the paper's schema 1 (the encoder rests). Balanced accuracy at probability 0.5 and AUC, 95 % intervals from drawing events
(days) again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from seislatent import catalog, training
from seislatent.data.recipe import Made
from seislatent.data.shards import ShardWriter, finish
from seislatent.data.store import Store
from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.discriminants import (
    DISCRIMINANTS,
    Discriminant,
    PSRatio,
    band_energies,
    logarithms,
    logistic,
)
from seislatent.io.seisbench import SeisBenchFile
from seislatent.metrics.detection import classification, interval_by_event, roc
from seislatent.prepare.resample import resample
from seislatent.waveform import Channel, Waveform

CLASSES = ("earthquake", "explosion")
STATION, FOLDS, LOCAL_H = "SUR", 5, 5.5


@dataclass(kw_only=True, eq=False)
class Records:
    """What is judged."""

    x: NDArray[np.float32]
    """[record 3 time]"""
    rate_hz: float
    p: NDArray[np.float64]
    s: NDArray[np.float64]
    label: NDArray[Any]
    """earthquake or explosion."""
    group: NDArray[Any]
    """Event or day."""

    def some(self, rows: NDArray[Any]) -> Records:
        """A part."""
        return Records(
            x=self.x[rows], rate_hz=self.rate_hz, p=self.p[rows], s=self.s[rows], label=self.label[rows], group=self.group[rows]
        )


class BeforeP(Discriminant):
    """Logistic regression on the spectrum of the noise before P: the station's state, and nothing of the event."""

    name = "noise before P"

    def features(self, x: NDArray[Any], sampling_rate_hz: float, p_sample: Any, s_sample: Any) -> NDArray[np.float64]:
        """[record band], over their own mean."""
        return logarithms(band_energies(x, sampling_rate_hz, p_sample, s_sample)[..., :1])[..., 0]

    _fit, _probabilities = PSRatio._fit, PSRatio._probabilities


def scores(probability: NDArray[Any], label: NDArray[Any], group: NDArray[Any]) -> dict[str, Any]:
    """AUC and balanced accuracy of the probability of an explosion, with intervals by group."""
    p, y = torch.from_numpy(np.asarray(probability, float)), torch.from_numpy((label == "explosion").astype(np.int64))
    measures: dict[str, Callable[..., Any]] = {
        "auc": lambda **w: roc(p, y, **w).auc,
        "balanced_accuracy": lambda **w: classification((p > 0.5).long(), y, **w).balanced_accuracy,
    }
    out: dict[str, Any] = {"records": len(y)}
    for name, measure in measures.items():
        ends = interval_by_event(lambda w, m=measure: m(weight=w), group)
        out[name] = {"value": float(measure()), "low": ends.low, "high": ends.high}
    return out


def classical(train: Records, test: Records) -> dict[str, NDArray[np.float64]]:
    """Each discriminant's probability of an explosion."""
    out = {}
    for cls in (*DISCRIMINANTS.values(), BeforeP):
        try:
            made = cls().fit(train.x, train.label, train.rate_hz, train.p, train.s)
        except SeislatentError as error:  # scikit-learn is not installed
            print(f"left out: {error}")
            continue
        out[cls.name] = made.probabilities(test.x, test.rate_hz, test.p, test.s)[:, made.labels.index("explosion")]
    return out


def headed(system: Any, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """A classifier's probability of an explosion, by whatever name; other labels than the two are set aside."""
    with torch.inference_mode():
        given = torch.cat([system.classify(part) for part in torch.from_numpy(x).split(256)]).double().numpy()
    columns = [[k for k, name in enumerate(system.labels) if name in names] for names in (("earthquake",), ("explosion", "blast"))]
    if not all(columns):
        raise SeislatentError(f"a classifier of {', '.join(system.labels)} does not tell earthquakes from explosions")
    quake, blast = (given[:, c].sum(1) for c in columns)
    return blast / np.maximum(quake + blast, 1e-12)


def stored(records: Records, split: NDArray[Any], out: Path) -> Path:
    """The records as a store to train on."""
    channels = tuple(Channel(network="XX", station="S", code=f"HH{c}", component=c) for c in "ZNE")
    with ShardWriter(out, 0) as writer:
        for k in range(len(records.x)):
            told = {"trace_name": f"r{k}", "label": records.label[k], "split": split[k], "source_id": str(records.group[k])}
            wave = Waveform(
                data=records.x[k], sampling_rate_hz=records.rate_hz, channels=channels, start_ns=10**18 + k * 10**11, metadata=told
            )
            writer.add(Made(record=wave))
    finish(out, {"recipe": "benchmark"})
    return out


def trained(encoder: str, store: Path, run: Path, steps: int) -> Any:
    """A classifier's head on an encoder, learnt from a store's train split."""
    fresh = encoder == "fresh"
    weights = training.train(
        "features/classifier", str(store), run,
        system={"labels": list(CLASSES), **({} if fresh else {"encoder": {"system": encoder}})},
        recipe={"steps": steps, **({} if fresh else {"rates": {"head": 0.001}})},
        dataset={"classes": list(CLASSES)},
    )  # fmt: skip
    return catalog.load(weights).system


def shown(name: str) -> str:
    """An encoder's or system's name in a table."""
    return "/".join(Path(name).parts[-2:-1]) if name.endswith(".safetensors") else name


def synthetic(store: Path, systems: list[str], encoders: list[str], steps: int, runs: Path) -> dict[str, Any]:
    """Everything on the test split, at each level of noise."""
    whole = Store(store)
    table = whole.metadata
    keep = table["label"].isin(CLASSES).to_numpy()
    records = Records(
        x=whole.read(np.flatnonzero(keep)), rate_hz=float(table["trace_sampling_rate_hz"].iloc[0]),
        p=table["trace_p_arrival_sample"].to_numpy(float)[keep],
        s=table["trace_s_arrival_sample"].to_numpy(float, na_value=np.nan)[keep],
        label=table["label"].to_numpy(str)[keep], group=table["source_id"].to_numpy(str)[keep],
    )  # fmt: skip
    split, level = table["split"].to_numpy(str)[keep], np.round(table["trace_snr_db"].to_numpy(float)[keep])
    train, test = records.some(split == "train"), records.some(split == "test")
    found = classical(train, test)
    for name in systems:
        found[shown(name)] = headed(catalog.load(name).system, test.x)
    for name in encoders:
        found[f"head on {shown(name)}"] = headed(trained(name, store, runs / f"synthetic_{shown(name)}", steps), test.x)
    out: dict[str, Any] = {"train": len(train.x), "test": len(test.x), "no_s": float(np.isnan(test.s).mean()), "rows": {}}
    levels = level[split == "test"]
    for name, p in found.items():
        out["rows"][name] = {"all": scores(p, test.label, test.group)}
        for db in np.unique(levels):
            here = levels == db
            out["rows"][name][f"{db:g} dB"] = scores(p[here], test.label[here], test.group[here])
    return out


def sur(folder: Path, rate_hz: float, length_s: float, lead_s: tuple[float, float] | None) -> tuple[Records, pd.DataFrame]:
    """The records of SUR at a rate; whole ones of `length_s`, or windows with P drawn between two times."""
    file, rng = SeisBenchFile(folder), np.random.default_rng(0)
    table = file.metadata
    table = table[table["station_code"] == STATION]
    x, p, s, n = [], [], [], round(length_s * rate_hz)
    for i, row in table.iterrows():
        w = file[i]
        y = resample(np.asarray(w.data, float)[[w.components.index(c) for c in "ZNE"]], w.sampling_rate_hz, rate_hz)
        at = [row[f"trace_{k}_arrival_calc_sample"] / w.sampling_rate_hz * rate_hz for k in "ps"]
        first = 0 if lead_s is None else max(0, round(at[0] - rng.uniform(*lead_s) * rate_hz))
        y = y[:, first : first + n]
        y = np.pad(y - y.mean(1, keepdims=True), ((0, 0), (0, n - y.shape[1])))
        x.append(y / max(np.abs(y).max(), 1e-30))
        p.append(at[0] - first)
        s.append(at[1] - first)
    label = np.where(table["trace_category"] == "blast", "explosion", "earthquake")
    records = Records(
        x=np.stack(x).astype(np.float32),
        rate_hz=rate_hz,
        p=np.array(p),
        s=np.array(s),
        label=label,
        group=table["source_id"].to_numpy(str),
    )
    return records, table


def folds(group: NDArray[Any]) -> NDArray[np.int64]:
    """The fold of each record, whole groups together."""
    names = np.random.default_rng(0).permutation(np.unique(group))
    fold = {name: k % FOLDS for k, name in enumerate(names)}
    return np.array([fold[g] for g in group])


def crossed(
    records: Records, predict: Callable[[Records, Records, int], dict[str, NDArray[np.float64]]]
) -> dict[str, NDArray[np.float64]]:
    """Each record's probabilities from what learnt on the other folds."""
    fold, out = folds(records.group), {}
    for k in range(FOLDS):
        for name, p in predict(records.some(fold != k), records.some(fold == k), k).items():
            out.setdefault(name, np.full(len(fold), np.nan))[fold == k] = p
    return out


def real(folder: Path, systems: list[str], encoders: list[str], steps: int, runs: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """SUR: rows of both kinds of record."""
    long, table = sur(folder, 40.0, 80.0, None)
    short, _ = sur(folder, 20.0, 27.0, (4.0, 8.0))
    hour = (pd.to_datetime(table["trace_start_time"]).dt.hour.to_numpy() + LOCAL_H) % 24
    beside = {
        "hour of day": np.eye(24)[hour.astype(int)],
        "magnitude": table[["source_magnitude"]].to_numpy(float),
        "place and depth": table[["source_latitude_deg", "source_longitude_deg", "source_depth_km"]].to_numpy(float),
    }
    fold = folds(long.group)
    found = {"80 s at 40 Hz": crossed(long, lambda a, b, _: classical(a, b))}
    for name, features in beside.items():
        p = np.zeros(len(fold))
        for k in range(FOLDS):
            p[fold == k] = logistic(features[fold != k], long.label[fold != k]).probabilities(features[fold == k])[:, 1]
        found["80 s at 40 Hz"][name] = p
    windows = crossed(short, lambda a, b, _: classical(a, b))
    for name in systems:
        windows[shown(name)] = headed(catalog.load(name).system, short.x)

    def heads(train: Records, test: Records, k: int) -> dict[str, NDArray[np.float64]]:
        held = np.isin(train.group, np.random.default_rng(k).permutation(np.unique(train.group))[::6])
        store = stored(train, np.where(held, "dev", "train"), runs / f"sur_{k}") if encoders else runs
        return {f"head on {shown(e)}": headed(trained(e, store, runs / f"sur_{k}_{shown(e)}", steps), test.x) for e in encoders}

    windows |= crossed(short, heads)
    found["27 s at 20 Hz"] = windows
    rows = {way: {name: scores(p, long.label, long.group) for name, p in each.items()} for way, each in found.items()}
    told = {"records": len(long.x), "days": len(np.unique(long.group)), "folds": FOLDS, "rows": rows}
    return told | {"curves": {name: p.tolist() for name, p in {**found["80 s at 40 Hz"], **windows}.items()}}, table


def tables(result: dict[str, Any]) -> str:
    """Markdown."""

    def cell(one: dict[str, Any], measure: str) -> str:
        v = one[measure]
        return f"{v['value']:.2f} ({v['low']:.2f}-{v['high']:.2f})"

    lines = []
    if "synthetic" in result:
        rows = result["synthetic"]["rows"]
        levels = [k for k in next(iter(rows.values())) if k != "all"]
        lines += [f"| synthetic: AUC, then balanced accuracy | {' | '.join(levels)} |", f"|---|{'---|' * len(levels)}"]
        for name, row in rows.items():
            lines.append(
                f"| {name} | " + " | ".join(f"{cell(row[k], 'auc')}, {cell(row[k], 'balanced_accuracy')}" for k in levels) + " |"
            )
    if "sur" in result:
        for way, rows in result["sur"]["rows"].items():
            lines += ["", f"| SUR, {way} | AUC | balanced accuracy |", "|---|---|---|"]
            lines += [f"| {name} | {cell(row, 'auc')} | {cell(row, 'balanced_accuracy')} |" for name, row in rows.items()]
    return "\n".join(lines)


def figure(folder: Path, result: dict[str, Any], table: pd.DataFrame, out: Path) -> None:
    """Hours of the day, and the curves of SUR."""
    from matplotlib.figure import Figure

    whole = SeisBenchFile(folder).metadata
    hour = (
        pd.to_datetime(whole["trace_start_time"]).dt.hour + pd.to_datetime(whole["trace_start_time"]).dt.minute / 60 + LOCAL_H
    ) % 24
    at, blast = whole["station_code"] == STATION, whole["trace_category"] == "blast"
    drawn = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawn.subplots(1, 2)
    for rows, name in ((at & blast, "SUR, blasts"), (at & ~blast, 'SUR, "earthquakes"'), (~at, "other stations, earthquakes")):
        share = np.histogram(hour[rows], np.arange(25))[0] / rows.sum()
        left.stairs(100 * share, np.arange(25), label=f"{name} ({rows.sum()})", linewidth=1.5)
    left.set(xlabel="local hour (UTC + 5:30)", ylabel="% of records", xlim=(0, 24))
    left.legend(fontsize=8)
    label = torch.tensor((table["trace_category"] == "blast").to_numpy().astype(int))
    for name, p in result["sur"]["curves"].items():
        curve = roc(torch.tensor(p), label)
        right.plot(curve.false_positive_rate, curve.true_positive_rate, label=f"{name}: {float(curve.auc):.2f}", linewidth=1)
    right.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    right.set(xlabel='share of "earthquakes" called blasts', ylabel="share of blasts called so", aspect="equal")
    right.legend(fontsize=7)
    drawn.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SEISLATENT_RECORDS"), help="folder that holds the sets")
    parser.add_argument("--system", default="", help="trained classifiers, with commas")
    parser.add_argument("--encoder", default="", help="encoders to train heads on, with commas; fresh: from nothing")
    parser.add_argument("--synthetic", type=Path, help="store of synthetic earthquakes and explosions")
    parser.add_argument("--steps", type=int, default=600, help="of each training")
    parser.add_argument("--runs", type=Path, help="where trainings are kept (default: nowhere)")
    parser.add_argument("--out", type=Path, help="also write the figures here (JSON)")
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("give --data or set SEISLATENT_RECORDS")
    systems, encoders = ([n for n in text.split(",") if n] for text in (asked.system, asked.encoder))
    folder, result = Path(asked.data) / "gujarat", {}
    with tempfile.TemporaryDirectory() as place:
        runs = asked.runs or Path(place)
        if asked.synthetic:
            result["synthetic"] = synthetic(asked.synthetic, systems, encoders, asked.steps, runs)
            print(tables(result), flush=True)
        result["sur"], table = real(folder, systems, encoders, asked.steps, runs)
    print(tables({"sur": result["sur"]}))
    if asked.figure:
        figure(folder, result, table, asked.figure)
    if asked.out:
        del result["sur"]["curves"]
        temporary = asked.out.with_name(f".{asked.out.name}.part")
        temporary.write_text(json.dumps(result, indent=1))
        os.replace(temporary, asked.out)


if __name__ == "__main__":
    main()
