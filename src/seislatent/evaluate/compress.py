"""What a coder costs and what it gives back, level by level, on the records of a split; codecs and classical coders side by side.

records of a split --trial.try_record, baselines.try_baseline, record by record--> Tally of each system --summary by event--> report

Nothing here knows the kind of codec: it is the stream's `encode` and `decode`, and the bytes of real files.
"""

from __future__ import annotations

import logging
import multiprocessing
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from seislatent.evaluate.baselines import follows, try_baseline
from seislatent.evaluate.beside import of_levels
from seislatent.evaluate.bootstrap import DRAWS, SHARE
from seislatent.evaluate.compress_page import page
from seislatent.evaluate.report import Report, may_write
from seislatent.evaluate.tally import Tally, told
from seislatent.evaluate.trial import TOO_HIGH, Trial, try_record
from seislatent.evaluate.utility import against
from seislatent.systems.base import Codec
from seislatent.waveform import Waveform

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every record goes through."""

    models: tuple[Any, ...]
    window_s: float | None
    utility: bool

    @property
    def codecs(self) -> list[int]:
        """Places of the models that are codecs."""
        return [k for k, model in enumerate(self.models) if is_codec(model)]


def compress(
    models: Sequence[Any],
    data: str | Path | Sequence[str | Path],
    split: str,
    out: str | Path | None,
    *,
    question: str = "compress",
    level: int | None = None,
    window_s: float | None = None,
    utility: bool = False,
    workers: int = 1,
    overwrite: bool = False,
) -> Report:
    """As `seislatent.evaluate`, whose questions `compress` and `reconstruct` these are.

    Args:
        models: loaded codecs and classical coders. Beside codecs a classical coder gets what the first of them codes: the same
            traces at its rate, and, where it can be asked for a rate, files of the same size.
        data: records, one or several folders or files.
        split: which of them.
        out: folder of the report, None for none.
        question: compress, or reconstruct for one level.
        level: that level; the highest where None.
        window_s: also windows of this length, in seconds.
        utility: also what coding does to picks, peak motion and spectra.
        workers: processes.
        overwrite: an earlier report.
    """
    named = names(models)
    _check(named, level, window_s, workers)
    if out is not None:
        may_write(out, overwrite)
    records, label = chosen(data, split)
    tallies = {name: Tally() for name in named}
    asked = Asked(models=tuple(named.values()), window_s=window_s, utility=utility)
    for i, trials in enumerate(_trials(asked, records, workers)):
        for name, trial in zip(named, trials, strict=True):
            tallies[name].add(i, trial)
    for name, tally in tallies.items():
        if not tally.points:
            why = "; ".join(f"{reason}: {count}" for reason, count in tally.skipped.items())
            raise SeislatentError(f"none of the {len(records)} records can be judged with {name} ({why}): leave it out")
    result = _result(named, tallies, records, label, level, question) | {
        "data": [str(data)] if isinstance(data, str | Path) else [str(d) for d in data],
        "split": split,
        "window_s": window_s,
    }
    result["command"] = _command(result, named, out, level, utility)
    report = page(result, named, tallies, records)
    if out is not None:
        report.write(out, overwrite)
    return report


def is_codec(model: Any) -> bool:
    """Whether it is a loaded model, not a classical coder."""
    return hasattr(model, "system")


def _result(
    named: dict[str, Any], tallies: dict[str, Tally], records: Records, label: NDArray[Any], level: int | None, question: str
) -> dict[str, Any]:
    """What report.json holds, but for the question's own words; counts are those of the first codec."""
    first = next((tallies[name] for name, model in named.items() if is_codec(model)), next(iter(tallies.values())))
    here = np.unique(first.trace_records)
    systems = _systems(named, tallies, label, records, level, question)
    return {
        "question": question,
        "records": len(here),
        "events": len(np.unique(label[here])),
        "traces": len(first.points),
        "hours": first.seconds / 3600,
        "systems": systems,
        "differences": of_levels(tallies, label, {name: [p["level"] for p in told["points"]] for name, told in systems.items()}),
        "skipped": dict(sorted(first.skipped.items())),
        "silent_windows": first.silent_windows,
        "interval": {"share": SHARE, "draws": DRAWS, "drawn": "events"},
        "version": __version__,
    }


def _systems(
    named: dict[str, Any], tallies: dict[str, Tally], label: NDArray[Any], records: Records, level: int | None, question: str
) -> dict[str, Any]:
    dataset = records.metadata["dataset"].astype(str).replace("", ".").to_numpy()
    lead = next((name for name, model in named.items() if is_codec(model)), None)
    made = {}
    for name, model in named.items():
        number = len(tallies[name].points[0])
        asked = [level or number] if question == "reconstruct" else list(range(1, number + 1))
        made[name] = told(model, tallies[name], label, dataset, asked)
        if not is_codec(model):
            made[name]["sized_as"] = lead if follows(model) else None
        made[name]["worst"] = _worst(tallies[name], records, label, asked[-1])
    return made


def _worst(tally: Tally, records: Records, label: NDArray[Any], level: int) -> list[dict[str, Any]]:
    """The ten traces with the least ratio at a level."""
    found = []
    for at in tally.worst(level):
        i, point = tally.trace_records[at], tally.points[at][level - 1]
        record = records[i]
        start = str(np.datetime64(record.start_ns, "ns"))[:23] if record.start_ns else None
        found.append(
            {"trace": record.ids[tally.trace_rows[at]], "start": start, "event": str(label[i]), "snr_db": point.codec.snr_db,
             "eg": point.eg, "pg": point.pg}
        )  # fmt: skip
    return found


def names(models: Sequence[Any]) -> dict[str, Any]:
    """Each model under a name of its own: the weights' digest tells two of one name apart.

    Raises:
        SeislatentError: no model, something that is none, one that is no codec, or the same one twice.
    """
    found: dict[str, Any] = {}
    for model in models:
        coder = hasattr(model, "qualities") and hasattr(model, "encode")
        if not is_codec(model) and not coder:
            raise SeislatentError(f"{model!r} is no loaded model and no classical coder: give seislatent.load({model!r})")
        if not coder and not isinstance(model.system, Codec):
            raise SeislatentError(f"{model.name} is a {type(model.system).__name__}, no codec: it has no rate to judge")
        twin = not coder and sum(getattr(m, "name", None) == model.name for m in models) > 1
        name = f"{model.name} {model.digest}" if twin else model.name
        if name in found:
            raise SeislatentError(f"{name} is given twice: give each system once")
        found[name] = model
    if not found:
        raise SeislatentError("no system to judge: give at least one")
    return found


def _check(named: dict[str, Any], level: int | None, window_s: float | None, workers: int) -> None:
    lead = next((model for model in named.values() if is_codec(model)), None)
    for name, model in named.items():
        of = model if is_codec(model) else lead if lead is not None and follows(model) else None
        levels = of.system.books if of is not None else len(model.qualities)
        if level is not None and not 1 <= level <= levels:
            raise SeislatentError(f"level {level}: {name} has levels 1 to {levels}")
        if window_s is not None and not (window_s > 0 and (of is None or window_s * of.system.sampling_rate_hz >= 2)):
            raise SeislatentError(f"windows of {window_s:g} s: give at least two samples, such as 30 s")
    if workers < 1:
        raise SeislatentError(f"{workers} workers: give 1 or more")


def chosen(data: str | Path | Sequence[str | Path], split: str, components: str | None = None) -> tuple[Records, NDArray[Any]]:
    """The records of a split, and the event of each; traces of waveform files together as `components`, such as ZNE, where given.

    Raises:
        SeislatentError: no records, an unknown split, or one that is empty.
    """
    if split not in (*SPLITS, "all"):
        raise SeislatentError(unknown("split", split, (*SPLITS, "all")))
    records = open_records(data, components=components)
    label = events(records.metadata).to_numpy()
    if split == "all":
        return records, label
    of = split_by_event(records.metadata).to_numpy()
    if not (of == split).any():
        there = ", ".join(f"{count} in {name}" for name, count in sorted(Counter(of).items()))
        raise SeislatentError(f"no record of split '{split}' ({there}): choose another split, or all")
    return records.select(of == split), label[of == split]


# -- record by record -------------------------------------------------------------------------------------------------------------

_held: tuple[Asked, Records] | None = None


def _trials(asked: Asked, records: Records, workers: int) -> Iterator[list[Trial]]:
    """Each record through each model, in order."""
    jobs = range(len(records))
    if workers == 1:
        found: Iterator[list[Trial]] = (_tried(asked, records, i) for i in jobs)
        yield from _shown(found, len(records))
        return
    with multiprocessing.get_context("spawn").Pool(workers, _hold, (asked, records)) as pool:
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


def _hold(asked: Asked, records: Records) -> None:
    global _held
    torch.set_num_threads(1)
    _held = (asked, records)


def _job(i: int) -> list[Trial]:
    assert _held is not None
    return _tried(*_held, i)


def _tried(asked: Asked, records: Records, i: int) -> list[Trial]:
    """A record through all models: first the codecs, then classical coders on what those took."""
    try:
        waveform = records[i]
    except SeislatentError as error:
        log.warning("record %d is left out: %s", i, error)
        return [Trial(skipped=["cannot be read"]) for _ in asked.models]
    trials: dict[int, Trial] = {}
    for k in asked.codecs:
        trials[k] = try_record(asked.models[k], waveform, asked.window_s, against if asked.utility else None)
    rows = sorted(set.intersection(*(set(trial.rows) for trial in trials.values()))) if trials else list(range(len(waveform.data)))
    for k, trial in trials.items():
        if trial.rows != rows or TOO_HIGH in trial.skipped:  # such a trace is in the file, whose size is to be another's
            trials[k] = _again(asked, k, waveform, rows, trial)
    lead = trials[asked.codecs[0]] if asked.codecs else None
    for k, model in enumerate(asked.models):
        if k not in trials:
            trials[k] = _classical(asked, model, waveform, rows, lead)
    return [trials[k] for k in range(len(asked.models))]


def _again(asked: Asked, k: int, waveform: Waveform, rows: list[int], before: Trial) -> Trial:
    """A codec on the traces that the others take too."""
    compare = against if asked.utility else None
    trial = try_record(asked.models[k], waveform.select(rows), asked.window_s, compare) if rows else Trial()
    trial.rows = [rows[row] for row in trial.rows]
    trial.skipped = before.skipped + ["not taken by another system"] * (len(before.rows) - len(trial.rows))
    return trial


def _classical(asked: Asked, model: Any, waveform: Waveform, rows: list[int], lead: Trial | None) -> Trial:
    """A classical coder on some traces of a record; beside a codec at its rate and in files of the size of its files."""
    if not rows:
        return Trial(skipped=["not taken by another system"] * len(waveform.data))
    rate, sizes = (lead.sampling_rate_hz, lead.file_bytes) if lead is not None else (None, None)
    try:
        trial = try_baseline(model, waveform.select(rows), asked.window_s, rate, sizes, compare=against if asked.utility else None)
    except SeislatentError as error:
        log.info("%s leaves a record out: %s", model.name, error)
        return Trial(skipped=[f"not taken ({str(error).rpartition(': ')[2]})"] * len(rows))
    trial.rows = [rows[row] for row in trial.rows]
    return trial


def _command(result: dict[str, Any], named: dict[str, Any], out: str | Path | None, level: int | None, utility: bool) -> str:
    """The command that asks this again."""
    places, window_s = ",".join(result["data"]), result["window_s"]
    words = ["seislatent", "evaluate", result["question"], "--systems", ",".join(m.name for m in named.values()), "--data", places]
    words += ["--split", result["split"], "--out", str(out or "OUT")]
    words += ["--level", str(level)] if level is not None else []
    words += ["--window", f"{window_s:g}"] if window_s is not None else []
    words += ["--utility"] if utility else []
    if Path(sys.argv[0]).name == "seislatent":
        words = ["seislatent", *sys.argv[1:]]
    return shlex.join(words)
