"""What each system did on all records, and the numbers of report.json that come of it.

Trial of each record --Tally.add--> a few numbers per trace, level by level --told--> summaries by event
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent import __version__
from seislatent.evaluate.bootstrap import summary
from seislatent.evaluate.trial import SAMPLE_BITS, Errors, Point, Trial

MEASURES = ("mse", "mae", "snr_db")
EXACT_DB = 300.0
"""The ratio of a trace that comes back exactly."""
WORST = 10


@dataclass(kw_only=True)
class Tally:
    """What one system did on all records; a few numbers per trace."""

    points: list[list[Point]] = field(default_factory=list)
    """Of each trace, level by level."""
    unquantised: list[Errors] = field(default_factory=list)
    file_bytes: list[list[int]] = field(default_factory=list)
    """Of each record, level by level."""
    payload_bytes: list[list[int]] = field(default_factory=list)
    """Of a baseline; empty for a codec."""
    asked: list[list[dict[str, float]]] = field(default_factory=list)
    utility: list[list[dict[str, float]]] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)
    """Of each record, its traces together."""
    rates_hz: list[float] = field(default_factory=list)
    file_records: list[int] = field(default_factory=list)
    trace_records: list[int] = field(default_factory=list)
    """Which record a trace belongs to."""
    trace_rows: list[int] = field(default_factory=list)
    used: NDArray[np.int64] | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    silent_windows: int = 0

    @property
    def seconds(self) -> float:
        """Of all traces."""
        return sum(self.durations_s)

    def add(self, record: int, trial: Trial) -> None:
        """One record more."""
        self.skipped.update(trial.skipped)
        self.silent_windows += trial.silent_windows
        if not trial.points:
            return
        self.points += trial.points
        self.trace_rows += trial.rows
        self.trace_records += [record] * len(trial.rows)
        self.unquantised += trial.unquantised
        self.file_bytes.append(trial.file_bytes)
        self.payload_bytes += [trial.payload_bytes] if trial.payload_bytes else []
        self.asked.append(trial.asked)
        self.utility.append(trial.utility)
        self.durations_s.append(trial.seconds)
        self.rates_hz.append(trial.sampling_rate_hz)
        self.file_records.append(record)
        if trial.used is not None:
            self.used = trial.used if self.used is None else self.used + trial.used

    def values(self, measure: str, level: int, of: str = "codec") -> NDArray[np.float64]:
        """A measure of every trace at a level [trace]: one of MEASURES, at the codec's rate or the record's `own`, or eg or pg."""
        points = (p[level - 1] for p in self.points)
        return np.array([getattr(p if measure in ("eg", "pg") else getattr(p, of), measure) for p in points])

    def file_bits(self, level: int) -> NDArray[np.float64]:
        """Bits per sample of every record's file at a level [record], all bytes counted."""
        sizes = np.array([sizes[level - 1] for sizes in self.file_bytes])
        return 8 * sizes / np.array(self.durations_s) / np.array(self.rates_hz)

    def worst(self, level: int) -> list[int]:
        """The ten traces with the least signal-to-noise ratio, from the worst on."""
        return np.argsort(self.values("snr_db", level), kind="stable")[:WORST].tolist()


def told(model: Any, tally: Tally, label: NDArray[Any], dataset: NDArray[Any], asked: Sequence[int]) -> dict[str, Any]:
    """A system's part of report.json.

    Args:
        model: a loaded codec or a baseline.
        tally: what it did.
        label: event of each record.
        dataset: data set of each record.
        asked: levels.
    """
    system: Any = getattr(model, "system", None)
    rates = set(tally.rates_hz)
    of_trace = label[tally.trace_records]
    made: dict[str, Any] = (
        {"weights": model.digest, "version": str(model.version)} if system is not None else {"version": __version__}
    )
    made |= {
        "sampling_rate_hz": next(iter(rates)) if len(rates) == 1 else None,
        "records": len(tally.file_records),
        "traces": len(tally.points),
        "skipped": dict(sorted(tally.skipped.items())),
        "points": [_point(system, tally, label, k) for k in asked],
    }
    if tally.unquantised:
        made["unquantised"] = {m: summary([getattr(e, m) for e in tally.unquantised], of_trace).plain() for m in MEASURES}
    if tally.used is not None:
        made["codebooks"] = codebooks(tally.used, 2**system.bits_per_index)
    sets = dataset[tally.trace_records]
    made["sets"] = {
        name: {
            "traces": int((sets == name).sum()),
            "snr_db": [_decibels(tally.values("snr_db", k)[sets == name], of_trace[sets == name]) for k in asked],
        }
        for name in sorted(set(sets))
    }
    return made


def _point(system: Any, tally: Tally, label: NDArray[Any], level: int) -> dict[str, Any]:
    """One level: rates, errors at the codec's rate, at the record's own, and of windows, goodness of fit, utility."""
    of_trace, of_file = label[tally.trace_records], label[tally.file_records]
    seconds, hz = np.array(tally.durations_s), np.array(tally.rates_hz)
    file_rate = 8 * np.array([sizes[level - 1] for sizes in tally.file_bytes]) / seconds
    if tally.payload_bytes:
        nominal = 8 * np.array([sizes[level - 1] for sizes in tally.payload_bytes]) / seconds
    else:
        nominal = np.full(len(file_rate), level * system.bits_per_second)
    rates = {
        "bits_per_second": nominal,
        "compression_ratio": SAMPLE_BITS * hz / nominal,
        "file_bits_per_second": file_rate,
        "file_compression_ratio": SAMPLE_BITS * hz / file_rate,
        "bits_per_sample": file_rate / hz,
        "payload_bits_per_sample": nominal / hz,
    }
    point: dict[str, Any] = {"level": level} | {name: summary(values, of_file).plain() for name, values in rates.items()}
    for suffix, of in (("", "codec"), ("_own_rate", "own")):
        point |= {f"{m}{suffix}": _decibels(tally.values(m, level, of), of_trace) for m in MEASURES}
    point |= {m: finite(tally.values(m, level), of_trace) for m in ("eg", "pg")}
    if tally.unquantised:
        lost = [bare.snr_db - p[level - 1].codec.snr_db for bare, p in zip(tally.unquantised, tally.points, strict=True)]
        point["quantiser_loss_db"] = summary(lost, of_trace).plain()
    windows = [(e, event) for p, event in zip(tally.points, of_trace, strict=True) for e in p[level - 1].windows]
    if windows:
        where = np.array([event for _, event in windows])
        point |= {f"{m}_window": _decibels(np.array([getattr(e, m) for e, _ in windows]), where) for m in MEASURES}
    if any(tally.utility):
        found = [record[level - 1] for record in tally.utility]
        names = dict.fromkeys(name for record in found for name in record)
        point["utility"] = {name: finite(np.array([r.get(name, np.nan) for r in found]), of_file, count=True) for name in names}
    return point


def _decibels(values: NDArray[np.float64], events: NDArray[Any]) -> dict[str, Any] | None:
    """A summary; None where every trace is exact, whose ratio is infinite."""
    return None if values.min() >= EXACT_DB else summary(values, events).plain()


def finite(values: NDArray[np.float64], events: NDArray[Any], count: bool = False) -> dict[str, Any] | None:
    """A summary of the values that exist, with their number `n` if asked; None where there is none."""
    there = np.isfinite(values)
    if not there.any():
        return None
    return summary(values[there], events[there]).plain() | ({"n": int(there.sum())} if count else {})


def codebooks(used: NDArray[np.int64], entries: int) -> list[dict[str, float]]:
    """Of each level's tokens: perplexity of their indices on these records (at most `entries`), and the share that occurs.

    Level k is book k, unless a system lends tokens: then tokens of several books meet in a level after the first.

    Args:
        used: how often each index was used [level index].
        entries: vectors in a book.
    """
    share = used / np.maximum(used.sum(1, keepdims=True), 1)
    perplexity = np.exp(-(share * np.log(np.where(share > 0, share, 1))).sum(1))
    return [
        {"book": k + 1, "perplexity": float(p), "used_share": float((u > 0).sum() / entries), "frames": int(u.sum())}
        for k, (p, u) in enumerate(zip(perplexity, used, strict=True))
    ]
