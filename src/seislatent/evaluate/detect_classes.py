"""Classes against what records are: who is called what, how surely, and how far that can be believed.

records with a column  --classes-----------> Called of each system --\
batches of a training  --discrimination----> Called of the learner ---> accuracy to F1, AUC; recall by event and day; reliability

`seislatent evaluate detect --label` asks the first, `seislatent train` of a classifier the second; the report is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from seislatent import __version__
from seislatent.batch import Batch
from seislatent.errors import SeislatentError, unknown
from seislatent.evaluate.beside import of_draws
from seislatent.evaluate.bootstrap import SHARE
from seislatent.evaluate.compress import chosen
from seislatent.evaluate.detect_page import classes_page
from seislatent.evaluate.detect_reliability import Called, asked, believed, days_of
from seislatent.evaluate.generated import ORDER
from seislatent.evaluate.judged import draws_of, places, told, weights
from seislatent.evaluate.report import Report
from seislatent.metrics.detection import classification, roc
from seislatent.prepare.resample import resample
from seislatent.signal.filters import demean
from seislatent.waveform import Waveform

MAJORITY = "trivial/majority"
COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "balanced_accuracy_by_event", "auc_by_event")
"""Measures of which pairs of systems are told apart."""


def classes(named: dict[str, Any], data: str | Path | Sequence[str | Path], split: str, label: str, command: str) -> Report:
    """The report about classes that stand in a column of records."""
    records, event = chosen(data, split)
    if label not in records.metadata:
        raise SeislatentError(unknown("column", label, map(str, records.metadata.columns)))
    column = records.metadata[label]
    text = column.astype(str).str.strip().where(column.notna(), "").to_numpy(str)
    skipped: Counter[str] = Counter()
    kept: list[int] = []
    rows: dict[str, list[Called]] = {name: [] for name in named}
    every = sorted({*text[text != ""], *(str(one) for system in named.values() for one in system.labels)})
    for i in range(len(records)):
        given = _answers(named, records, i, every) if text[i] else "no label"
        if isinstance(given, str):
            skipped[given] += 1
            continue
        kept.append(i)
        for name, row in given.items():
            rows[name].append(row)
    found = {name: _joined(row) for name, row in rows.items() if row}
    truth = torch.tensor([every.index(one) for one in text[kept]], dtype=torch.long)
    about = {"data": places(data), "split": split, "command": command}
    return _report(found, truth, every, records.metadata.iloc[kept], event[kept], label, skipped, about)


def discrimination(
    system: Any,
    batches: Iterable[Batch],
    table: pd.DataFrame,
    *,
    name: str,
    label: str,
    data: Sequence[str | Path],
    split: str,
    command: str,
) -> Report:
    """The same report about one classifier and the batches that its training held back; records without a label are left out.

    Args:
        system: the classifier.
        batches: with `label`, the numbers of `system.labels`, negative where there is none.
        table: of the same records, in order: `event` (any value); `start_ns`, `trace_name` and station codes where they are known.
        name: of the system.
        label: the column that named the classes.
        data: where the records are.
        split: which of them.
        command: that asks this again.

    Raises:
        SeislatentError: another number of records, or no two classes among them.
    """
    every = sorted(map(str, system.labels))
    place = torch.tensor([every.index(str(one)) for one in system.labels])
    rows: list[Called] = []
    numbers: list[Tensor] = []
    for batch in batches:
        assert batch.label is not None
        numbers.append(batch.label.long().cpu())
        there = batch.label >= 0
        if there.any():
            x = batch.x if batch.valid is None else torch.where(batch.valid, batch.x, torch.nan)
            rows.append(_placed(asked(system, x[there]), place, len(every)))
    number = torch.cat(numbers) if numbers else torch.empty(0, dtype=torch.long)
    if len(table) != len(number):
        raise SeislatentError(f"{len(table)} rows of a table for {len(number)} records: give one per record")
    kept = number >= 0
    skipped = Counter({"no label": int((~kept).sum())} if not kept.all() else {})
    table = table[kept.numpy()]
    about = {"data": [str(d) for d in data], "split": split, "command": command}
    found = {name: _joined(rows)} if rows else {}
    return _report(found, place[number[kept]], every, table, table["event"].to_numpy(), label, skipped, about)


def _report(
    found: dict[str, Called],
    truth: Tensor,
    every: list[str],
    table: pd.DataFrame,
    events: NDArray[Any],
    label: str,
    skipped: Counter[str],
    about: dict[str, Any],
) -> Report:
    """The report about what systems said of records of a table, whose classes are `truth`, numbers among `every`."""
    counts = {one: int((truth == k).sum()) for k, one in enumerate(every)}
    there = [one for one, count in counts.items() if count]
    if len(there) < 2:
        why = "; ".join(f"{reason}: {count}" for reason, count in skipped.items()) or "none left out"
        raise SeislatentError(
            f"{len(truth)} records of {len(there)} classes in {label} ({why}): give records of two classes or more"
        )
    shares = torch.bincount(truth, minlength=len(every)).double() / len(truth)
    found = {**found, MAJORITY: Called(probability=shares.expand(len(truth), -1))}
    days = days_of(table)
    systems = {name: _scores(it.probability, truth, every, events) | believed(it, truth, every, events, days)
               for name, it in found.items()}  # fmt: skip
    result = {
        "question": "detect",
        "task": "classes",
        "records": len(truth),
        "events": len(np.unique(events)),
        "days": None if days is None else len(np.unique(days)),
        "label": label,
        "classes": counts,
        "systems": systems,
        "differences": of_draws(systems, COMPARED),
        "hours": _hours(table, np.array(every)[truth.numpy()], there),
        "skipped": dict(sorted(skipped.items())),
        "data": about["data"],
        "split": about["split"],
        "interval": {"share": SHARE, "draws": draws_of(len(truth)), "drawn": "events"},
        "version": __version__,
        "command": about["command"],
    }
    probabilities = {name: it.probability for name, it in found.items()}
    return classes_page(result, probabilities, truth, every, [_who(row) for _, row in table.iterrows()])


def _who(row: pd.Series) -> str:
    """Station and name of a record, as far as its table tells them."""
    codes = [str(row[c]) for c in ("station_network_code", "station_code") if c in row and pd.notna(row[c])]
    return f"{'.'.join(codes)} {row.get('trace_name', row.name)}".strip()


def _answers(named: dict[str, Any], records: Any, i: int, every: list[str]) -> str | dict[str, Called]:
    """What every system says of one record, or why it is left out."""
    try:
        waveform: Waveform = records[i]
    except SeislatentError:
        return "cannot be read"
    if waveform.data.dtype.kind not in "iuf" or not waveform.data.size or not np.isfinite(waveform.data).all():
        return "values that are not finite"
    return {name: _asked(name, system, waveform, every) for name, system in named.items()}


def _joined(rows: Sequence[Called]) -> Called:
    unknown = [row.unknown for row in rows if row.unknown is not None]
    return Called(probability=torch.cat([row.probability for row in rows]), unknown=torch.cat(unknown) if unknown else None)


def _placed(it: Called, place: Tensor, count: int) -> Called:
    """Probabilities of a system's own labels in the columns `place` of `count` classes."""
    whole = torch.zeros(len(it.probability), count, dtype=torch.float64)
    return Called(probability=whole.index_add(1, place, it.probability), unknown=it.unknown)


def _hours(table: pd.DataFrame, truth: NDArray[Any], there: list[str]) -> dict[str, Any] | None:
    """How many records of each class begin in each hour of the day; None where no record has a time.

    Hours are of local mean time (UTC and longitude / 15) where all stations tell their longitude, else of UTC.
    """
    start = pd.to_numeric(table["start_ns"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    timed = np.isfinite(start) & (start != 0)
    if not timed.any():
        return None
    east = np.full(len(table), np.nan)
    if "station_longitude_deg" in table:
        east = pd.to_numeric(table["station_longitude_deg"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    local = bool(np.isfinite(east[timed]).all())
    hour = ((start[timed] / 3.6e12 + (east[timed] / 15 if local else 0)) % 24).astype(int) % 24
    counts = {one: np.bincount(hour[truth[timed] == one], minlength=24).tolist() for one in there}
    return {"of": "local mean time" if local else "UTC", "records": int(timed.sum()), "counts": counts}


def _asked(name: str, system: Any, waveform: Waveform, every: list[str]) -> Called:
    """What a system says of one record [class of all], at its rate, without its mean, components in order."""
    order = sorted(range(len(waveform.data)), key=lambda k: ORDER.find(waveform.components[k]))
    x = demean(np.asarray(waveform.data[order], np.float64))
    rate = getattr(system, "sampling_rate_hz", waveform.sampling_rate_hz)
    if rate != waveform.sampling_rate_hz:
        x = resample(x, waveform.sampling_rate_hz, rate)
    it = asked(system, torch.from_numpy(x).to(torch.float32)[None])
    p = it.probability
    if p.shape != (1, len(system.labels)) or not p.isfinite().all() or (p < 0).any():
        raise SeislatentError(
            f"{name} gives probabilities of shape {tuple(p.shape)} for 1 record of {len(system.labels)} labels: they must be one"
            " row, finite and not negative"
        )
    return _placed(it, torch.tensor([every.index(str(one)) for one in system.labels]), len(every))


def _scores(probability: Tensor, truth: Tensor, every: list[str], events: NDArray[Any]) -> dict[str, Any]:
    """A system's part of report.json, but for what `believed` adds."""
    called, w = probability.argmax(1), weights(events)
    whole = classification(called, truth, len(every))
    drawn = classification(called, truth, len(every), weight=w)
    there = torch.unique(truth)  # a class that only a system names has no recall
    # a draw that lacks a rare class is the mean over the others: few draws of few events hold all classes
    right = (called == truth).double()
    areas, drawn_areas = [], []
    told_classes: dict[str, Any] = {}
    for k in there.tolist():
        one: dict[str, Any] = {
            m: told(getattr(whole, m)[k], getattr(drawn, m)[:, k], events) for m in ("precision", "recall", "f1")
        }
        areas.append(roc(probability[:, k], (truth == k).long()).auc)
        drawn_areas.append(roc(probability[:, k], (truth == k).long(), weight=w).auc)
        told_classes[every[k]] = {"records": int((truth == k).sum()), **one, "auc": told(areas[-1], drawn_areas[-1], events)}
    # of two classes one curve tells all: that of the second name, as in the figure
    first = 1 if len(there) == 2 else 0
    area, drawn_area = (torch.stack(a[first:]).nanmean(0) for a in (areas, drawn_areas))
    by_event, drawn_by_event = (_by_event(probability, truth, events, draw) for draw in (None, w))
    return {
        "accuracy": told(whole.accuracy, drawn.accuracy, events, float(right.std(correction=0))),
        "balanced_accuracy": told(whole.recall[there].mean(), drawn.recall[:, there].nanmean(1), events),
        "macro_f1": told(whole.f1[there].mean(), drawn.f1[:, there].nanmean(1), events),
        "auc": told(area, drawn_area, events),
        "balanced_accuracy_by_event": told(by_event[0], drawn_by_event[0], events),
        "auc_by_event": told(by_event[1], drawn_by_event[1], events),
        "classes": told_classes,
        "confusion": {every[i]: {every[j]: int(whole.confusion[i, j]) for j in range(len(every))} for i in there.tolist()},
    }


def _by_event(probability: Tensor, truth: Tensor, events: NDArray[Any], draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """Balanced accuracy and AUC where each event counts once in each class; with `draws` [draw record] a value for each."""
    _, number = np.unique(
        np.stack([np.unique(events, return_inverse=True)[1].reshape(-1), truth.numpy()]), axis=1, return_inverse=True
    )
    number = number.reshape(-1)
    weight = torch.from_numpy(1 / np.bincount(number)[number])
    weight = weight if draws is None else weight * draws
    there = torch.unique(truth)
    recall = classification(probability.argmax(1), truth, probability.shape[1], weight=weight).recall[..., there].nanmean(-1)
    areas = torch.stack([roc(probability[:, k], (truth == k).long(), weight=weight).auc for k in there])
    return recall, areas[1 if len(there) == 2 else 0 :].nanmean(0)
