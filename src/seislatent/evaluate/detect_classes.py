"""Classes against a column of the records: who is called what, and how surely.

records --classify--> probabilities [record class] --> accuracy, balanced accuracy, precision, recall, F1, ROC, AUC, by event
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from seislatent import __version__
from seislatent.errors import SeislatentError, unknown
from seislatent.evaluate.beside import of_draws
from seislatent.evaluate.bootstrap import SHARE
from seislatent.evaluate.compress import chosen
from seislatent.evaluate.detect_page import classes_page
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


def classes(named: dict[str, Any], data: str | Path | Sequence[str | Path], split: str, label: str, asked: str) -> Report:
    """The report about classes."""
    records, event = chosen(data, split)
    if label not in records.metadata:
        raise SeislatentError(unknown("column", label, map(str, records.metadata.columns)))
    column = records.metadata[label]
    text = column.astype(str).str.strip().where(column.notna(), "").to_numpy(str)
    skipped: Counter[str] = Counter()
    kept: list[int] = []
    rows: dict[str, list[NDArray[np.float64]]] = {name: [] for name in named}
    every = sorted({*text[text != ""], *(str(one) for system in named.values() for one in system.labels)})
    for i in range(len(records)):
        given = _probabilities(named, records, i, every) if text[i] else "no label"
        if isinstance(given, str):
            skipped[given] += 1
            continue
        kept.append(i)
        for name, row in given.items():
            rows[name].append(row)
    truth, events = text[kept], event[kept]
    there = sorted(set(truth))
    if len(there) < 2:
        why = "; ".join(f"{reason}: {count}" for reason, count in skipped.items()) or "none left out"
        raise SeislatentError(
            f"{len(kept)} records of {len(there)} classes in {label} ({why}): give records of two classes or more"
        )
    probabilities = {name: torch.from_numpy(np.stack(found)) for name, found in rows.items()}
    shares = np.array([np.mean(truth == one) for one in every])
    probabilities[MAJORITY] = torch.from_numpy(np.tile(shares, (len(kept), 1)))
    number = torch.tensor([every.index(one) for one in truth])
    systems = {name: _scores(p, number, every, events) for name, p in probabilities.items()}
    result = {
        "question": "detect",
        "task": "classes",
        "records": len(kept),
        "events": len(np.unique(events)),
        "label": label,
        "classes": {one: int((truth == one).sum()) for one in every},
        "systems": systems,
        "differences": of_draws(systems, COMPARED),
        "hours": _hours(records.metadata.iloc[kept], truth, there),
        "skipped": dict(sorted(skipped.items())),
        "data": places(data),
        "split": split,
        "interval": {"share": SHARE, "draws": draws_of(len(kept)), "drawn": "events"},
        "version": __version__,
        "command": asked,
    }
    return classes_page(result, probabilities, number, every, [_who(records, i) for i in kept])


def _who(records: Any, i: int) -> str:
    row = records.metadata.iloc[i]
    return f"{row['station_network_code']}.{row['station_code']} {row['trace_name']}"


def _probabilities(named: dict[str, Any], records: Any, i: int, every: list[str]) -> str | dict[str, NDArray[np.float64]]:
    """The probability of every class by every system for one record, or why it is left out."""
    try:
        waveform: Waveform = records[i]
    except SeislatentError:
        return "cannot be read"
    if waveform.data.dtype.kind not in "iuf" or not waveform.data.size or not np.isfinite(waveform.data).all():
        return "values that are not finite"
    return {name: _asked(name, system, waveform, every) for name, system in named.items()}


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


def _asked(name: str, system: Any, waveform: Waveform, every: list[str]) -> NDArray[np.float64]:
    order = sorted(range(len(waveform.data)), key=lambda k: ORDER.find(waveform.components[k]))
    x = demean(np.asarray(waveform.data[order], np.float64))
    rate = getattr(system, "sampling_rate_hz", waveform.sampling_rate_hz)
    if rate != waveform.sampling_rate_hz:
        x = resample(x, waveform.sampling_rate_hz, rate)
    device = next((p.device for p in system.parameters()), None) if isinstance(system, torch.nn.Module) else None
    with torch.inference_mode():
        found = system.classify(torch.from_numpy(x).to(device, torch.float32)[None]).double().cpu().numpy()
    if found.shape != (1, len(system.labels)) or not np.isfinite(found).all() or (found < 0).any():
        raise SeislatentError(
            f"{name} gives probabilities of shape {found.shape} for 1 record of {len(system.labels)} labels: they must be one row,"
            " finite and not negative"
        )
    whole = np.zeros(len(every))
    for label, value in zip(system.labels, found[0], strict=True):
        whole[every.index(str(label))] += value
    return whole


def _scores(probability: Tensor, truth: Tensor, every: list[str], events: NDArray[Any]) -> dict[str, Any]:
    """A system's part of report.json."""
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
