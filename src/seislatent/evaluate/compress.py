"""What a codec costs and what it gives back, level by level, on the records of a split.

records of a split --trial.try_record, record by record--> Tally of each system --summary by event--> report

Nothing here knows the kind of codec: it is the stream's `encode` and `decode`, and the bytes of real files.
"""

from __future__ import annotations

import logging
import multiprocessing
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from seislatent import __version__
from seislatent.data.records import Records, open_records
from seislatent.data.splits import SPLITS, events, split_by_event
from seislatent.errors import SeislatentError, unknown
from seislatent.evaluate.bootstrap import DRAWS, SHARE, summary
from seislatent.evaluate.compress_page import page
from seislatent.evaluate.report import Report, may_write
from seislatent.evaluate.trial import SAMPLE_BITS, Errors, Trial, try_record
from seislatent.systems.base import Codec

log = logging.getLogger(__name__)

MEASURES = ("mse", "mae", "snr_db")


@dataclass(kw_only=True)
class Tally:
    """What one system did on all records; a few numbers per trace."""

    codec: list[list[Errors]] = field(default_factory=list)
    """Of each trace at the codec's rate, level by level."""
    own: list[list[Errors]] = field(default_factory=list)
    windows: list[list[tuple[Errors, ...]]] = field(default_factory=list)
    unquantised: list[Errors] = field(default_factory=list)
    file_rates: list[list[float]] = field(default_factory=list)
    """Of each record: bit/s of its file, level by level."""
    file_records: list[int] = field(default_factory=list)
    trace_records: list[int] = field(default_factory=list)
    """Which record a trace belongs to."""
    trace_rows: list[int] = field(default_factory=list)
    used: NDArray[np.int64] | None = None
    seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)
    silent_windows: int = 0

    def add(self, record: int, trial: Trial) -> None:
        """One record more."""
        self.skipped.update(trial.skipped)
        self.silent_windows += trial.silent_windows
        if not trial.points:
            return
        for row, points in zip(trial.rows, trial.points, strict=True):
            self.codec.append([p.codec for p in points])
            self.own.append([p.own for p in points])
            self.windows.append([p.windows for p in points])
            self.trace_records.append(record)
            self.trace_rows.append(row)
        self.unquantised += trial.unquantised
        self.file_rates.append([8 * size / trial.seconds for size in trial.file_bytes])
        self.file_records.append(record)
        self.seconds += trial.seconds
        if trial.used is not None:
            self.used = trial.used if self.used is None else self.used + trial.used


def compress(
    models: Sequence[Any],
    data: str | Path | Sequence[str | Path],
    split: str,
    out: str | Path | None,
    *,
    question: str = "compress",
    level: int | None = None,
    window_s: float | None = None,
    workers: int = 1,
    overwrite: bool = False,
) -> Report:
    """As `seislatent.evaluate`, whose questions `compress` and `reconstruct` these are."""
    named = names(models)
    _check(named, level, window_s, workers)
    if out is not None:
        may_write(out, overwrite)
    records, label = chosen(data, split)
    tallies = {name: Tally() for name in named}
    for i, trials in enumerate(_trials(list(named.values()), records, window_s, workers)):
        for name, trial in zip(named, trials, strict=True):
            tallies[name].add(i, trial)
    for name, tally in tallies.items():
        if not tally.codec:
            why = "; ".join(f"{reason}: {count}" for reason, count in tally.skipped.items())
            raise SeislatentError(f"none of the {len(records)} records can be judged with {name} ({why}): give other records")
    told = {name: _told(named[name], tally, label, records, level, question) for name, tally in tallies.items()}
    places = [str(data)] if isinstance(data, str | Path) else [str(d) for d in data]
    first = next(iter(tallies.values()))
    here = np.unique(first.trace_records)
    result = {
        "question": question,
        "records": len(here),
        "events": len(np.unique(label[here])),
        "traces": len(first.codec),
        "hours": first.seconds / 3600,
        "systems": told,
        "skipped": dict(sorted(first.skipped.items())),
        "data": places,
        "split": split,
        "window_s": window_s,
        "silent_windows": first.silent_windows,
        "interval": {"share": SHARE, "draws": DRAWS, "drawn": "events"},
        "version": __version__,
        "command": _command(question, named, places, split, out, level, window_s),
    }
    report = page(result, named, tallies, records)
    if out is not None:
        report.write(out, overwrite)
    return report


def names(models: Sequence[Any]) -> dict[str, Any]:
    """Each model under a name of its own: the weights' digest tells two of one name apart.

    Raises:
        SeislatentError: no model, something that is none, one that is no codec, or the same one twice.
    """
    found: dict[str, Any] = {}
    for model in models:
        if not hasattr(model, "system"):
            raise SeislatentError(f"{model!r} is no loaded model: give seislatent.load({model!r})")
        if not isinstance(model.system, Codec):
            raise SeislatentError(f"{model.name} is a {type(model.system).__name__}, no codec: it has no rate to judge")
        twin = sum(m.name == model.name for m in models) > 1
        name = f"{model.name} {model.digest}" if twin else model.name
        if name in found:
            raise SeislatentError(f"{name} is given twice: give each system once")
        found[name] = model
    if not found:
        raise SeislatentError("no system to judge: give at least one")
    return found


def _check(named: dict[str, Any], level: int | None, window_s: float | None, workers: int) -> None:
    for name, model in named.items():
        if level is not None and not 1 <= level <= model.system.books:
            raise SeislatentError(f"level {level}: {name} has levels 1 to {model.system.books}")
        if window_s is not None and not window_s * model.system.sampling_rate_hz >= 2:
            raise SeislatentError(f"windows of {window_s:g} s: give at least two samples, such as 30 s")
    if workers < 1:
        raise SeislatentError(f"{workers} workers: give 1 or more")


def chosen(data: str | Path | Sequence[str | Path], split: str) -> tuple[Records, NDArray[Any]]:
    """The records of a split, and the event of each.

    Raises:
        SeislatentError: no records, an unknown split, or one that is empty.
    """
    if split not in (*SPLITS, "all"):
        raise SeislatentError(unknown("split", split, (*SPLITS, "all")))
    records = open_records(data)
    label = events(records.metadata).to_numpy()
    if split == "all":
        return records, label
    of = split_by_event(records.metadata).to_numpy()
    if not (of == split).any():
        there = ", ".join(f"{count} in {name}" for name, count in sorted(Counter(of).items()))
        raise SeislatentError(f"no record of split '{split}' ({there}): choose another split, or all")
    return records.select(of == split), label[of == split]


# -- record by record -------------------------------------------------------------------------------------------------------------

_held: tuple[list[Any], Records, float | None] | None = None


def _trials(models: list[Any], records: Records, window_s: float | None, workers: int) -> Iterator[list[Trial]]:
    """Each record through each model, in order."""
    jobs = range(len(records))
    if workers == 1:
        found: Iterator[list[Trial]] = (_tried(models, records, i, window_s) for i in jobs)
        yield from _shown(found, len(records))
        return
    with multiprocessing.get_context("spawn").Pool(workers, _hold, (models, records, window_s)) as pool:
        yield from _shown(pool.imap(_job, jobs, chunksize=4), len(records))


def _shown(found: Iterator[list[Trial]], total: int) -> Iterator[list[Trial]]:
    """A bar on a terminal, a line every tenth in a log."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(found, "records", total, console=console, transient=True)
        return
    for i, trials in enumerate(found, 1):
        if i * 10 // total > (i - 1) * 10 // total:
            log.info("%d of %d records", i, total)
        yield trials


def _hold(models: list[Any], records: Records, window_s: float | None) -> None:
    global _held
    torch.set_num_threads(1)
    _held = (models, records, window_s)


def _job(i: int) -> list[Trial]:
    assert _held is not None
    models, records, window_s = _held
    return _tried(models, records, i, window_s)


def _tried(models: list[Any], records: Records, i: int, window_s: float | None) -> list[Trial]:
    try:
        waveform = records[i]
    except SeislatentError as error:
        log.warning("record %d is left out: %s", i, error)
        return [Trial(skipped=["cannot be read"]) for _ in models]
    return [try_record(model, waveform, window_s) for model in models]


# -- numbers ----------------------------------------------------------------------------------------------------------------------


def _told(model: Any, tally: Tally, label: NDArray[Any], records: Records, level: int | None, question: str) -> dict[str, Any]:
    """A system's part of report.json."""
    system = model.system
    number = len(tally.codec[0])
    asked = [level or number] if question == "reconstruct" else list(range(1, number + 1))
    told: dict[str, Any] = {
        "weights": model.digest,
        "version": str(model.version),
        "sampling_rate_hz": system.sampling_rate_hz,
        "points": [_point(system, tally, label, k) for k in asked],
    }
    of_trace = label[tally.trace_records]
    if tally.unquantised:
        told["unquantised"] = {m: summary([getattr(e, m) for e in tally.unquantised], of_trace).plain() for m in MEASURES}
    if tally.used is not None:
        told["codebooks"] = codebooks(tally.used, 2**system.bits_per_index)
    sets = records.metadata["dataset"].astype(str).replace("", ".").to_numpy()[tally.trace_records]
    told["sets"] = {
        name: {
            "traces": int((sets == name).sum()),
            "snr_db": [_of(tally.codec, "snr_db", k, of_trace, sets == name) for k in asked],
        }
        for name in sorted(set(sets))
    }
    return told


def _of(errors: list[list[Errors]], measure: str, level: int, of_trace: NDArray[Any], where: Any = slice(None)) -> dict[str, Any]:
    values = np.array([getattr(e[level - 1], measure) for e in errors])
    return summary(values[where], of_trace[where]).plain()


def _point(system: Any, tally: Tally, label: NDArray[Any], level: int) -> dict[str, Any]:
    """One level: rates, errors at the codec's rate, at the record's own, and of windows."""
    of_trace, of_file = label[tally.trace_records], label[tally.file_records]
    raw = SAMPLE_BITS * system.sampling_rate_hz
    file_rate = np.array([rates[level - 1] for rates in tally.file_rates])
    nominal = np.full(len(file_rate), level * system.bits_per_second)
    rates = {
        "bits_per_second": nominal,
        "compression_ratio": raw / nominal,
        "file_bits_per_second": file_rate,
        "file_compression_ratio": raw / file_rate,
        "bits_per_sample": file_rate / system.sampling_rate_hz,
    }
    point: dict[str, Any] = {"level": level} | {name: summary(values, of_file).plain() for name, values in rates.items()}
    point |= {m: _of(tally.codec, m, level, of_trace) for m in MEASURES}
    point |= {f"{m}_own_rate": _of(tally.own, m, level, of_trace) for m in MEASURES}
    if tally.unquantised:
        lost = [bare.snr_db - e[level - 1].snr_db for bare, e in zip(tally.unquantised, tally.codec, strict=True)]
        point["quantiser_loss_db"] = summary(lost, of_trace).plain()
    windows = [(e, event) for w, event in zip(tally.windows, of_trace, strict=True) for e in w[level - 1]]
    if windows:
        where = [event for _, event in windows]
        point |= {f"{m}_window": summary([getattr(e, m) for e, _ in windows], where).plain() for m in MEASURES}
    return point


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


def _command(
    question: str,
    named: dict[str, Any],
    places: list[str],
    split: str,
    out: str | Path | None,
    level: int | None,
    window_s: float | None,
) -> str:
    """The command that asks this again."""
    words = ["seislatent", "evaluate", question, "--systems", ",".join(m.name for m in named.values()), "--data", ",".join(places)]
    words += ["--split", split, "--out", str(out or "OUT")]
    words += ["--level", str(level)] if level is not None else []
    words += ["--window", f"{window_s:g}"] if window_s is not None else []
    if Path(sys.argv[0]).name == "seislatent":
        words = ["seislatent", *sys.argv[1:]]
    return shlex.join(words)
