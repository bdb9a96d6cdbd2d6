"""What needs no network: the answers that a learning curve must beat.

picking: always the median P of the pool            noise: the loudest second over the median one, with the best threshold
explosion: P/S amplitude ratios, band energies (`evaluate/baselines/discriminants.py`), and the hour of the day alone
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.data.recipes.noise import loudness
from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.discriminants import BandEnergies, PSRatio, logistic
from seislatent.experiments.curve_scores import class_measures, ends, pick_measures
from seislatent.experiments.record_sets import RecordSet
from seislatent.metrics.detection import interval_by_event, roc


def judged(records: RecordSet) -> dict[str, dict[str, Any]]:
    """By method: its measures on the test records after learning from the whole pool, with intervals by event."""
    job = records.source.job
    if job == "picking":
        return {"always the median P": _constant(records)}
    truth = records.target[records.test].numpy()
    events = records.table["event"].to_numpy()[records.test]
    return {name: classed(p, truth, events) for name, p in probabilities(records).items()}


def classed(p: NDArray[Any], truth: NDArray[Any], events: NDArray[Any]) -> dict[str, Any]:
    """Measures of probabilities of the second label, with intervals by event."""
    import torch

    told: dict[str, Any] = dict(class_measures(p, truth))
    told["accuracy_interval"] = ends(((p > 0.5) == (truth > 0.5)).astype(float)[None], events)
    score, label = torch.from_numpy(np.asarray(p, np.float64)), torch.from_numpy(truth.astype(np.int64))
    it = interval_by_event(lambda w: roc(score, label, weight=w).auc, events)
    told["auc_interval"] = (it.low, it.high)
    return told


def probabilities(records: RecordSet) -> dict[str, NDArray[np.float64]]:
    """By method: the probability of the second label for each test record."""
    x, number = records.x.numpy(), records.target.numpy()
    labels = [records.labels[k] for k in number[records.pool]]
    rate, table = records.sampling_rate_hz, records.table
    found: dict[str, NDArray[np.float64]] = {}

    def features(name: str, of: NDArray[np.float64]) -> None:
        if np.isfinite(of[records.pool]).any():
            it = logistic(of[records.pool], labels)
            found[name] = it.probabilities(of[records.test])[:, it.labels.index(records.labels[1])]

    if records.source.job == "noise":
        loud = np.log(np.stack([loudness(one, rate) for one in x]))
        features("loudest second over median second", loud)
        return found
    p, s = table["p"].to_numpy(), table["s"].to_numpy()
    for it in (PSRatio(), BandEnergies()):
        features(it.name.partition("/")[2].replace("_", " "), _of(it, x, rate, p, s))
    hour = table["hour"].to_numpy() * np.pi / 12
    if np.isfinite(hour).all() and not records.source.synthetic:
        features("hour of the day", np.stack([f(k * hour) for k in (1, 2) for f in (np.sin, np.cos)], 1))
    return found


def _of(it: Any, x: NDArray[Any], rate: float, p: NDArray[np.float64], s: NDArray[np.float64]) -> NDArray[np.float64]:
    given: Callable[..., NDArray[np.float64]] = it.features
    try:
        return given(x, rate, p, s)
    except SeislatentError:  # a rate without room for bands
        return np.full((len(x), 1), np.nan)


def _constant(records: RecordSet) -> dict[str, Any]:
    rate = records.sampling_rate_hz
    error = (np.median(records.target[records.pool].numpy()) - records.target[records.test].numpy()) / rate
    events = records.table["event"].to_numpy()[records.test]
    return dict(pick_measures(error.astype(float))) | {"mean_absolute_interval": ends(np.abs(error.astype(float))[None], events)}
