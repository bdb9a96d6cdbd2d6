"""Classes against a column of the records: who is called what, and how surely.

records --classify--> probabilities [record class] --> accuracy, balanced accuracy, precision, recall, F1, ROC, AUC, by event
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seislatent import __version__
from seislatent.errors import SeislatentError, unknown
from seislatent.evaluate.bootstrap import DRAWS, SHARE
from seislatent.evaluate.compress import chosen
from seislatent.evaluate.detect_page import classes_page
from seislatent.evaluate.judged import places, told, weights
from seislatent.evaluate.report import Report
from seislatent.metrics.detection import classification, roc
from seislatent.prepare.resample import resample
from seislatent.waveform import Waveform

MAJORITY = "trivial/majority"


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
    result = {
        "question": "detect",
        "task": "classes",
        "records": len(kept),
        "events": len(np.unique(events)),
        "label": label,
        "classes": {one: int((truth == one).sum()) for one in every},
        "systems": {name: _scores(p, number, every, events) for name, p in probabilities.items()},
        "skipped": dict(sorted(skipped.items())),
        "data": places(data),
        "split": split,
        "interval": {"share": SHARE, "draws": DRAWS, "drawn": "events"},
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


def _asked(name: str, system: Any, waveform: Waveform, every: list[str]) -> NDArray[np.float64]:
    x = np.asarray(waveform.data, np.float64)
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
    return {
        "accuracy": told(whole.accuracy, drawn.accuracy, events, float(right.std(correction=0))),
        "balanced_accuracy": told(whole.recall[there].mean(), drawn.recall[:, there].nanmean(1), events),
        "macro_f1": told(whole.f1[there].mean(), drawn.f1[:, there].nanmean(1), events),
        "auc": told(area, drawn_area, events),
        "classes": told_classes,
        "confusion": {every[i]: {every[j]: int(whole.confusion[i, j]) for j in range(len(every))} for i in there.tolist()},
    }
