"""False picks per station-hour and precision over recall on continuous three-component records whose arrivals are known.

SEISLATENT_RECORDS=FOLDER OMP_NUM_THREADS=1 python benchmarks/continuous_picks.py [--systems NAME,PATH] [--hours 13] [--out OUT]

No continuous day of the records at hand has labels. `continuous_days.py` plants labelled records into real noise, neither of which
the pickers have learnt from, and what `seislatent evaluate detect --picks` calls is called on both, planted and untouched.

  recall      of the plants, by threshold
  planted     false picks of the planted hours: those of the noise, of its real earthquakes, and in the plants' own codas
  untouched   picks of the same hours without plants, real earthquakes among them
  quiet       of these, what no earthquake of the network can explain: seconds farther than 30 s from any time at which two stations
              are loud within 10 s of each other, loud being an rms of 1 s (vertical, 2 to 10 Hz) more than twice the hour's median;
              no picker has a say in it. A station alone (the urban one) is quiet throughout: its bursts count.

At equal recall: each system's highest threshold that finds so many of the plants, and what it then picks in each of the three.
Intervals (95 %) draw stretches of one station (an hour at most) again, at the same threshold.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import continuous_days as days
import continuous_pages as pages
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from seislatent import catalog
from seislatent.evaluate.baselines.picking import stream_picks
from seislatent.evaluate.compress import chosen
from seislatent.evaluate.detect_stream import EDGES_S, PHASES, RECALLS, Answers, Stretches, asked_of, counted, thresholds
from seislatent.evaluate.judged import ratio
from seislatent.metrics.picks import match_picks
from seislatent.signal.filters import Butterworth
from seislatent.systems.base import Pick, Picker
from seislatent.systems.features.arrivals import picked
from seislatent.waveform import Waveform

TOLERANCE_S, LOWEST, LOWEST_RATIO = 0.5, 0.02, 2.0
"""Thresholds that every picker is brought down to, so that its curve is whole: of probability, of STA/LTA."""
LOUD, TOGETHER_S, AWAY_S = 2.0, 10, 30
Places = dict[str, NDArray[np.int64]]


class Lowered(Picker):
    """A picker with its lowest threshold, on all components or the vertical alone."""

    def __init__(self, name: str, vertical: bool):
        self.vertical, self.baseline = vertical, name.removeprefix("baseline/") if name.startswith("baseline/") else ""
        self.name = name if self.baseline else "/".join(Path(name).with_suffix("").parts[-2:])
        self.name += ", Z alone" if vertical else ""
        self.system = None if self.baseline else catalog.load(name).system.eval()
        self.own = {"P": 1 - 1 / 3, "S": 1 - 1 / 3} if self.system is None else dict(self.system.thresholds)
        self.seconds = 0.0

    def pick(self, waveform: Waveform) -> list[Pick]:
        """Every arrival of a stretch."""
        began = time.perf_counter()
        if self.vertical:
            row = waveform.components.index("Z")
            waveform = replace(waveform, data=waveform.data[row : row + 1], channels=(waveform.channels[row],))
        if self.system is None:
            found = stream_picks(waveform, self.baseline, on=LOWEST_RATIO)
        else:
            found = picked(self.system, waveform, thresholds=dict.fromkeys(self.system.phases, LOWEST))
        self.seconds += time.perf_counter() - began
        return found


# -- what is quiet ----------------------------------------------------------------------------------------------------------------


def busy_seconds(folder: Path) -> Places:
    """By network the seconds since 1970 at which two of its stations are loud within `TOGETHER_S`."""
    loud: dict[str, dict[str, list[NDArray[np.int64]]]] = {}
    records, _ = chosen(folder, "all", "ZNE")
    for i in range(len(records)):
        w = records[i]
        rate, n = w.sampling_rate_hz, round(w.sampling_rate_hz)
        band = Butterworth(kind="bandpass", corners_hz=(2.0, 10.0), rate_hz=rate, order=4, zero_phase=False)
        z = w.data[0].astype(np.float64)
        z = band(z - z.mean())[: len(z) // n * n].reshape(-1, n)
        rms = np.sqrt((z**2).mean(1))
        at = w.start_ns // 10**9 + np.flatnonzero(rms > LOUD * np.median(rms))
        loud.setdefault(w.channels[0].network, {}).setdefault(w.channels[0].station, []).append(at)
    busy = {}
    for network, stations in loud.items():
        every = np.concatenate([v for parts in stations.values() for v in parts] or [np.empty(0, np.int64)])
        first = int(every.min(initial=0)) - TOGETHER_S
        number = np.zeros(int(np.ptp(every)) + 2 * TOGETHER_S + 1 if len(every) else 1, np.int64)
        first = int(every.min()) - TOGETHER_S if len(every) else 0
        for parts in stations.values():
            one = np.zeros(len(number), np.int64)
            one[np.concatenate(parts) - first] = 1
            number += maximum_filter1d(one, TOGETHER_S + 1)
        busy[network] = first + np.flatnonzero(number >= 2)
    return busy


def is_quiet(busy: Places, station: str, at_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether times since 1970 lie farther than `AWAY_S` from every busy second of the station's network."""
    known = busy.get(station.partition(".")[0], np.empty(0, np.int64))
    if not len(known):
        return np.ones(len(at_s), bool)
    after = np.searchsorted(known, at_s)
    gap = np.minimum(np.abs(at_s - known[np.maximum(after - 1, 0)]), np.abs(at_s - known[np.minimum(after, len(known) - 1)]))
    return np.asarray(gap > AWAY_S)


def quiet_part(busy: Places, stretches: Stretches, answers: Answers) -> tuple[NDArray[np.float64], Answers]:
    """Hours of each stretch that are quiet, and the picks in them."""
    hours, kept = [], Answers()
    for k, (station, start, length) in enumerate(zip(stretches.station, stretches.start_ns, stretches.hours, strict=True)):
        every = start / 1e9 + EDGES_S[0] + np.arange(round(length * 3600)) + 0.5
        hours.append(is_quiet(busy, station, every).sum() / 3600)
        for phase in PHASES:
            found = answers.picks[phase][k]
            kept.picks[phase].append(found[is_quiet(busy, station, start / 1e9 + found[:, 0])])
    return np.array(hours), kept


# -- numbers ----------------------------------------------------------------------------------------------------------------------


def above(answers: Answers, phase: str, threshold: float) -> torch.Tensor:
    """Picks of each stretch from a threshold up."""
    return torch.tensor([int((found[:, 1] >= threshold).sum()) for found in answers.picks[phase]]).double()


def row_at(phase: str, threshold: float, truth: Stretches, parts: dict[str, tuple[Any, Answers]]) -> dict[str, Any]:
    """What a threshold finds, and what it costs in each part."""
    hours, answers = parts["planted"]
    right, false, missed = counted(answers.picks[phase], truth.truth[phase], threshold, TOLERANCE_S)[0].double().unbind(1)
    events = np.arange(len(right))
    out = {"threshold": threshold, "recall": ratio(right, right + missed, events), "precision": ratio(right, right + false, events)}
    out["planted"] = ratio(false, torch.as_tensor(hours), events)
    for name in ("untouched", "quiet"):
        hours, answers = parts[name]
        picks = above(answers, phase, threshold)
        out[name] = ratio(picks, torch.as_tensor(hours), np.arange(len(picks)))
    return out


def told_of(phase: str, own: float, truth: Stretches, parts: dict[str, tuple[Any, Answers]]) -> dict[str, Any]:
    """A system's numbers of a phase: its curve, its own threshold, equal recalls."""
    curve = []
    for t in thresholds(parts["planted"][1].picks[phase], truth.truth[phase], TOLERANCE_S)[::-1]:
        right, false, missed = counted(parts["planted"][1].picks[phase], truth.truth[phase], t, TOLERANCE_S)[0].sum(0).tolist()
        point = {"threshold": float(t), "recall": right / (right + missed), "precision": right / max(right + false, 1)}
        curve.append(
            point | {name: float(above(a, phase, t).sum() / np.sum(h)) for name, (h, a) in parts.items() if name != "planted"}
        )
    at = {}
    for wanted in RECALLS:
        first = next((c["threshold"] for c in curve if c["recall"] >= wanted - 1e-9), None)
        at[f"{wanted:g}"] = None if first is None else row_at(phase, first, truth, parts)
    return {"curve": curve, "own": row_at(phase, own, truth, parts), "at_recall": at}


def found_by_snr(phase: str, own: float, truth: Stretches, answers: Answers, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Each plant: whether it is found at a system's own threshold, and how far off."""
    rows = []
    snr = {(n, s, at): (db, g, r) for n, s, p, at, db, r, g in table.itertuples(index=False) if p == phase}
    for k, at in enumerate(truth.truth[phase]):
        found = answers.picks[phase][k]
        m = match_picks(found[found[:, 1] >= own, 0], at, TOLERANCE_S)
        off = dict(zip(m.truth.tolist(), m.residual_s.tolist(), strict=True))
        network, station = truth.station[k].split(".")
        for j, t in enumerate(at):
            db, group, record = snr[network, station, truth.start_ns[k] + round(t * 1e9)]
            rows.append({"stretch": k, "at": t, "snr": db, "group": group, "record": record, "off": off.get(j, np.nan)})
    return rows


def extremes(truth: Stretches, quiet: Answers, rows: dict[str, list[dict[str, Any]]]) -> tuple[list, list]:
    """The ten quiet picks of the highest probability, and the ten plants of the highest SNR that are missed."""
    every = [
        (p, truth.station[k], truth.start_ns[k] / 1e9 + t, phase)
        for phase in PHASES
        for k, found in enumerate(quiet.picks[phase])
        for t, p in found
    ]
    false = [(s, at, f"{phase} {p:.2f}  {s} {np.datetime64(round(at), 's')}") for p, s, at, phase in sorted(every)[::-1][:10]]
    lost = [(r["snr"], phase, r) for phase in PHASES for r in rows[phase] if np.isnan(r["off"])]
    lost.sort(key=lambda v: -v[0])
    missed = [
        (
            truth.station[r["stretch"]],
            truth.start_ns[r["stretch"]] / 1e9 + r["at"],
            f"{phase} missed, {db:.0f} dB  {r['record'][:40]}",
        )
        for db, phase, r in lost[:10]
    ]
    return false, missed


# -- all together -----------------------------------------------------------------------------------------------------------------


def without_unknown(truth: Stretches, answers: dict[str, Answers], table: pd.DataFrame) -> None:
    """Takes out the picks of S in plants whose S nobody knows: neither right nor false."""
    lone = table[(table["phase"] == "P") & (table["group"] == 1)]
    for k, (station, start) in enumerate(zip(truth.station, truth.start_ns, strict=True)):
        network, code = station.split(".")
        p = (lone["time_ns"][(lone["network"] == network) & (lone["station"] == code)].to_numpy(np.int64) - start) / 1e9
        for each in answers.values():
            found = each.picks["S"][k]
            late = found[:, :1] - p
            each.picks["S"][k] = found[~((late > -1) & (late < days.LONG_S)).any(1)]


def judge(systems: list[Lowered], folder: Path, table: pd.DataFrame, out: Path | None) -> dict[str, Any]:
    """Numbers and figures of pickers on the two folders."""
    named = {s.name: s for s in systems}
    truth, planted = asked_of(named, folder / "planted", "all", folder / "planted" / "picks.csv", TOLERANCE_S)
    without_unknown(truth, planted, table)
    still, untouched = asked_of(named, folder / "untouched", "all", folder / "untouched" / "picks.csv", TOLERANCE_S)
    busy = busy_seconds(folder / "untouched")
    result: dict[str, Any] = {"station_hours": sum(truth.hours), "stretches": len(truth), "stations": len(set(truth.station))}
    result |= {"labels": {p: sum(map(len, truth.truth[p])) for p in PHASES}, "systems": {}}
    result["bins"] = [f"{a} to {b} dB" for a, b in pairwise(pages.SNR_EDGES_DB)] + ["NCEDC, STEAD", "Telica"]
    for name, system in named.items():
        hours, quiet = quiet_part(busy, still, untouched[name])
        result["quiet_hours"] = float(hours.sum())
        parts = {"planted": (truth.hours, planted[name]), "untouched": (still.hours, untouched[name]), "quiet": (hours, quiet)}
        result["systems"][name], rows = {"seconds": system.seconds}, {}
        for phase in PHASES:
            if sum(map(len, planted[name].picks[phase])):
                rows[phase] = found_by_snr(phase, system.own[phase], truth, planted[name], table)
                result["systems"][name][phase] = told_of(phase, system.own[phase], truth, parts) | {
                    "found": pages.shares(rows[phase])
                }
        if out is not None and system.system is not None:
            false, missed = extremes(still, quiet, {p: rows.get(p, []) for p in PHASES})
            figure = out / f"worst_{name.replace('/', '_').replace(', ', '_').replace(' ', '_')}.png"
            pages.worst([folder / "untouched", folder / "planted"], false, missed, figure)
    return result


def times_of(systems: dict[str, Any]) -> list[tuple[str, str, str, dict[str, Any]]]:
    """At equal recall, false picks in quiet over those of the first baseline on the same components."""
    found = []
    for name, told in systems.items():
        alone = ", Z alone" in name
        first = next((n for n in systems if n.startswith("baseline/") and (", Z alone" in n) == alone), name)
        for phase in PHASES:
            for recall, row in told.get(phase, {}).get("at_recall", {}).items():
                other = systems[first].get(phase, {}).get("at_recall", {}).get(recall)
                if name != first and row and other and other["quiet"]["mean"]:
                    # a draw in which the baseline has none is infinitely many times as many: the interval is open above
                    drawn = (row["quiet"].drawn / other["quiet"].drawn).nan_to_num(nan=np.inf, posinf=np.inf).numpy()
                    low, high = (float(v) for v in np.quantile(drawn, [0.025, 0.975], method="nearest"))
                    over = {"mean": row["quiet"]["mean"] / other["quiet"]["mean"], "low": low}
                    over["high"] = high if np.isfinite(high) else None
                    found.append((name, phase, recall, over))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default="features/picker,baseline/sta_lta,baseline/aic", help="names and weights files")
    parser.add_argument("--hours", type=float, default=13.0, help="station-hours of noise at most (13: all that is held out)")
    parser.add_argument("--noise-split", default="test", help="hours of this split (test, dev)")
    parser.add_argument("--per-hour", type=float, default=35.0, help="records planted in an hour, about")
    parser.add_argument("--no-z", action="store_true", help="leave out the vertical alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write the miniSEED and its picks here (a folder that does not exist)")
    parser.add_argument("--out", type=Path, help="folder for report.json, tables.md and figures")
    asked = parser.parse_args()
    if "SEISLATENT_RECORDS" not in os.environ:
        parser.error("set SEISLATENT_RECORDS")
    if asked.keep is not None and asked.keep.exists():
        parser.error(f"{asked.keep} exists: give a new folder")
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
    root = Path(os.environ["SEISLATENT_RECORDS"])
    systems = [Lowered(name, z) for name in asked.systems.split(",") for z in ((False,) if asked.no_z else (False, True))]
    with tempfile.TemporaryDirectory() as folder:
        place = asked.keep or Path(folder)
        table = days.make(root, place, hours=asked.hours, split=asked.noise_split, per_hour=asked.per_hour, seed=asked.seed)
        result = judge(systems, place, table, asked.out)
    result |= {"times": times_of(result["systems"]), "seed": asked.seed, "noise_split": asked.noise_split}
    text = f"{result['station_hours']:.2f} station-hours, {result['quiet_hours']:.2f} of them quiet; planted: {result['labels']}\n"
    text += pages.markdown(result)
    print(text)
    if asked.out is not None:
        pages.curves(result, asked.out / "curves.png")
        for name, content in (("report.json", json.dumps(result, indent=1)), ("tables.md", text)):
            temporary = asked.out / f".{name}.part"
            temporary.write_text(content, encoding="utf-8")
            os.replace(temporary, asked.out / name)


if __name__ == "__main__":
    main()
