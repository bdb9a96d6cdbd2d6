"""Pickers on continuous records: precision, recall and false picks per station-hour at every threshold, P and S apart.

hours of stations --without gaps and edges--> stretches --pick--> times and probabilities --match with labels--> curves

An hour of all stations is the event of the intervals: what happens in an hour is seen by many stations at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seislatent import __version__
from seislatent.errors import SeislatentError
from seislatent.evaluate.beside import of_draws
from seislatent.evaluate.bootstrap import SHARE
from seislatent.evaluate.compress import chosen
from seislatent.evaluate.detect_stream_page import stream_page
from seislatent.evaluate.judged import draws_of, places, ratio, told, weights
from seislatent.evaluate.report import Report
from seislatent.io.picks import read_picks
from seislatent.metrics.picks import TOLERANCES_S, match_picks, pick_scores
from seislatent.waveform import Waveform

PHASES = ("P", "S")
EDGES_S = (10.0, 5.0)
"""Of a stretch: picks and labels so near to its beginning and end do not count, for no picker sees enough there."""
LEAST_S = 60.0
"""Shorter stretches between gaps are left out."""
RECALLS = (0.5, 0.7, 0.8, 0.9)
POINTS = 100
"""Thresholds of a curve at most."""
CLOCK_S = 10.0
HOUR_NS = 3600 * 10**9
CLOCK = "trivial/clock"
COMPARED = ("precision", "recall", "f1", "false_per_station_hour")
Times = NDArray[np.float64]


@dataclass(kw_only=True)
class Stretches:
    """What is judged, stretch by stretch; times in s from a stretch's first sample."""

    truth: dict[str, list[Times]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    hours: list[float] = field(default_factory=list)
    """Of one station, without the edges."""
    hour: list[int] = field(default_factory=list)
    """Of the beginning, since 1970."""
    station: list[str] = field(default_factory=list)
    start_ns: list[int] = field(default_factory=list)
    """Of the first sample, since 1970."""
    skipped: Counter[str] = field(default_factory=Counter)
    """What was left out, and why."""

    def __len__(self) -> int:
        return len(self.hours)


@dataclass(kw_only=True)
class Answers:
    """A system's picks: of each phase and stretch [pick 2], times in s and probabilities."""

    picks: dict[str, list[Times]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    refused: Counter[str] = field(default_factory=Counter)
    """Stretches that it would not take, and why; they count as without a pick."""


def stream(
    named: dict[str, Any],
    data: str | Path | Sequence[str | Path],
    split: str,
    labels: str | Path,
    tolerance_s: float,
    asked: str,
) -> Report:
    """The report about continuous records; `labels` is a file of picks (QuakeML, GSE2.0, CSV), or a folder of such."""
    if not (np.isfinite(tolerance_s) and tolerance_s > 0):
        raise SeislatentError(f"a tolerance of {tolerance_s:g} s: give more than 0")
    stretches, answers = asked_of(named, data, split, labels, tolerance_s)
    events = np.array(stretches.hour, np.int64)
    systems = {name: scores(a, stretches, events, tolerance_s) for name, a in answers.items()}
    result = {
        "question": "detect",
        "task": "stream",
        "records": len(stretches),
        "events": len(np.unique(events)),
        "stations": len(set(stretches.station)),
        "station_hours": float(np.sum(stretches.hours)),
        "labels": {phase: int(sum(map(len, stretches.truth[phase]))) for phase in PHASES},
        "systems": systems,
        "differences": of_draws(systems, [f"{phase.lower()}_{m}" for phase in PHASES for m in COMPARED]),
        "skipped": dict(sorted(stretches.skipped.items())),
        "tolerance_s": tolerance_s,
        "edges_s": list(EDGES_S),
        "picks": str(labels),
        "data": places(data),
        "split": split,
        "interval": {"share": SHARE, "draws": draws_of(len(stretches)), "drawn": "hours"},
        "version": __version__,
        "command": asked,
    }
    return stream_page(result)


def asked_of(
    named: Mapping[str, Any], data: str | Path | Sequence[str | Path], split: str, labels: str | Path, tolerance_s: float
) -> tuple[Stretches, dict[str, Answers]]:
    """The stretches of continuous records with their labels, and what each system and the clock say of them, one after the other.

    Raises:
        SeislatentError: no stretch is long enough; what cannot be read.
    """
    known = _labels(labels, tolerance_s)
    records, _ = chosen(data, split, "ZNE")
    stretches = Stretches()
    answers = {name: Answers() for name in [*named, CLOCK]}
    for i in range(len(records)):
        for station, piece in _pieces(records, i, stretches.skipped):
            # a block that is cut at the hour may start a sample early
            stretches.hour.append((piece.start_ns + 10**9) // HOUR_NS)
            stretches.station.append(station)
            stretches.start_ns.append(piece.start_ns)
            stretches.hours.append((piece.duration_s - sum(EDGES_S)) / 3600)
            begin, end = EDGES_S[0], piece.duration_s - EDGES_S[1]
            for phase in PHASES:
                at = (known.get((station, phase), np.empty(0, np.int64)) - piece.start_ns) / 1e9
                stretches.truth[phase].append(at[(at >= begin) & (at < end)])
                clock = np.arange(begin, end, CLOCK_S)
                answers[CLOCK].picks[phase].append(np.stack([clock, np.ones_like(clock)], 1))
            for name, system in named.items():
                _ask(system, piece, answers[name], begin, end)
    if not len(stretches):
        why = "; ".join(f"{reason}: {count}" for reason, count in stretches.skipped.items()) or "none left out"
        raise SeislatentError(f"none of the {len(records)} records can be judged ({why}): give continuous records of {LEAST_S:g} s")
    return stretches, answers


def _labels(path: str | Path, tolerance_s: float) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Times in ns by station (network and code) and phase; readings of one arrival (within the tolerance) count once."""
    table = read_picks(path).table
    phase = table["phase"].astype(str).str.strip().str.upper().str[:1]
    found = {}
    for (network, code, kind), rows in table.groupby([table["station_network_code"], table["station_code"], phase]):
        if kind in PHASES:
            times = np.sort(rows["time_ns"].to_numpy(np.int64))
            found[f"{network}.{code}", str(kind)] = _once(times, round(tolerance_s * 1e9))
    return found


def _once(times: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    kept: list[int] = []
    for at in times.tolist():
        if not kept or at - kept[-1] > least:
            kept.append(at)
    return np.array(kept, np.int64)


def _pieces(records: Any, i: int, skipped: Counter[str]) -> Iterator[tuple[str, Waveform]]:
    """Station and stretches without gaps of a record."""
    try:
        waveform: Waveform = records[i]
    except SeislatentError as error:
        skipped[getattr(error, "reason", "cannot be read")] += 1
        return
    if waveform.data.dtype.kind not in "iuf" or "Z" not in waveform.components or not waveform.start_ns:
        skipped["no vertical component with numbers and a time"] += 1
        return
    channel, rate = waveform.channels[0], waveform.sampling_rate_hz
    edges = np.flatnonzero(np.diff(np.isfinite(waveform.data).all(0), prepend=False, append=False))
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - first < LEAST_S * rate:
            skipped[f"stretches between gaps of less than {LEAST_S:g} s"] += 1
            continue
        part, start = waveform.data[:, first:end], waveform.start_ns + round(first / rate * 1e9)
        yield (
            f"{channel.network}.{channel.station}",
            Waveform(data=part, sampling_rate_hz=rate, channels=waveform.channels, start_ns=start, unit=waveform.unit),
        )


def _ask(system: Any, piece: Waveform, answers: Answers, begin: float, end: float) -> None:
    """`pick_stream` where a picker of single arrivals has one, else `pick`."""
    try:
        with torch.inference_mode():
            given = getattr(system, "pick_stream", system.pick)(piece)
    except SeislatentError as error:
        answers.refused[str(error).partition(":")[2].strip() or str(error)] += 1
        given = []
    for phase in PHASES:
        rows = [(p.sample / piece.sampling_rate_hz, p.probability) for p in given if p.phase == phase and np.isfinite(p.sample)]
        found = np.array(rows, np.float64).reshape(-1, 2)
        answers.picks[phase].append(found[(found[:, 0] >= begin) & (found[:, 0] < end)])


# -- numbers ----------------------------------------------------------------------------------------------------------------------


def scores(answers: Answers, stretches: Stretches, events: NDArray[Any], tolerance_s: float) -> dict[str, Any]:
    """A system's part of report.json: `p_` and `s_` before each measure."""
    out: dict[str, Any] = {}
    hours = torch.tensor(stretches.hours, dtype=torch.float64)
    for phase in PHASES:
        truth, picks = stretches.truth[phase], answers.picks[phase]
        one = _phase(picks, truth, hours, events, tolerance_s)
        out |= {f"{phase.lower()}_{name}": value for name, value in one.items()}
    return out | {"refused": dict(sorted(answers.refused.items()))}


def _phase(picks: list[Times], truth: list[Times], hours: Tensor, events: NDArray[Any], tolerance_s: float) -> dict[str, Any]:
    every = np.concatenate(picks)[:, 1]
    counts, residual, where = counted(picks, truth, -np.inf, tolerance_s)
    out: dict[str, Any] = {"picks": len(every)} | _found(counts, hours, events)
    r, e = torch.from_numpy(residual), events[where]
    names = ("median_s", "mad_s", "mean_s", "std_s")
    if len(r):
        whole, drawn = pick_scores(r), pick_scores(r, weight=weights(e))
        out |= {f"matched_{name}": told(getattr(whole, name), getattr(drawn, name), e) for name in names}
    right = counts[:, 0].double() + counts[:, 2].double()
    for near in TOLERANCES_S:
        if near <= tolerance_s:
            inside = np.bincount(where[np.abs(residual) <= near + 1e-6], minlength=len(truth))
            out[f"within_{near:g}_s"] = ratio(torch.from_numpy(inside).double(), right, events)
    levels = thresholds(picks, truth, tolerance_s)
    curve = [(float(t), counted(picks, truth, t, tolerance_s)[0]) for t in levels[::-1]]
    out["curve"] = [
        {"threshold": t} | {name: _mean(part, whole) for name, (part, whole) in _parts(c, hours).items()} for t, c in curve
    ]
    out["at_recall"] = [_at(wanted, curve, hours, events) for wanted in RECALLS]
    return out


def thresholds(picks: list[Times], truth: list[Times], tolerance_s: float) -> Times:
    """`POINTS` at most, rising: half of them spread over all picks, half over those near a label, where the recall changes.

    Of a picker with thousands of false picks and some dozen right ones, quantiles of all would hold one or two that tell.
    """
    every, near = np.concatenate(picks)[:, 1], [np.empty(0)]
    for found, at in zip(picks, truth, strict=True):
        close = np.abs(found[:, :1] - at) <= tolerance_s + 1e-6
        near.append(np.where(close, found[:, 1:], -np.inf).max(0, initial=-np.inf))
    best = np.concatenate(near)
    levels: Times = np.unique(every)
    if len(levels) <= POINTS:
        return levels
    share = np.linspace(0, 1, POINTS // 2)
    chosen_ones = [np.quantile(v, share, method="nearest") for v in (every, best[np.isfinite(best)]) if len(v)]
    return np.unique(np.concatenate(chosen_ones))


def counted(
    picks: list[Times], truth: list[Times], threshold: float, tolerance_s: float
) -> tuple[Tensor, Times, NDArray[np.int64]]:
    """Of the picks from a threshold up: right, false and missed [stretch 3]; residuals of the right ones, and their stretches."""
    rows, residual, where = [], [], []
    for k, (found, at) in enumerate(zip(picks, truth, strict=True)):
        m = match_picks(found[found[:, 1] >= threshold, 0], at, tolerance_s)
        rows.append((len(m.pick), len(m.false), len(m.missed)))
        residual.append(m.residual_s)
        where += [k] * len(m.pick)
    return torch.tensor(rows), np.concatenate(residual), np.array(where, np.int64)


def _parts(counts: Tensor, hours: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Precision, recall, F1 and false picks per station-hour as what is summed over what [stretch]."""
    right, false, missed = counts.double().unbind(1)
    return {
        "precision": (right, right + false), "recall": (right, right + missed), "f1": (2 * right, 2 * right + false + missed),
        "false_per_station_hour": (false, hours),
    }  # fmt: skip


def _found(counts: Tensor, hours: Tensor, events: NDArray[Any]) -> dict[str, Any]:
    return {name: ratio(part, whole, events) for name, (part, whole) in _parts(counts, hours).items()}


def _mean(part: Tensor, whole: Tensor) -> float | None:
    return float(part.sum() / whole.sum()) if whole.sum() > 0 else None


def _at(wanted: float, curve: list[tuple[float, Tensor]], hours: Tensor, events: NDArray[Any]) -> dict[str, Any]:
    """The highest threshold that reaches a recall, and what it costs; None where none does."""
    out: dict[str, Any] = {"recall": wanted, "threshold": None, "precision": None, "false_per_station_hour": None}
    for threshold, counts in curve:
        right, _, missed = counts.sum(0).tolist()
        if right and right >= wanted * (right + missed) - 1e-9:
            found = _found(counts, hours, events)
            return out | {"threshold": threshold} | {m: found[m] for m in ("precision", "false_per_station_hour")}
    return out
