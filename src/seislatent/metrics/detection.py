"""Right and wrong calls: accuracy to F1, the receiver's curve and its area, with intervals by event.

Every function takes `weight`, how often each record counts: one row of weights per resampling gives one value per row, so that a
bootstrap of a thousand draws is one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from seislatent.errors import SeislatentError

DRAWS, SHARE, SEED = 1000, 0.95, 0


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Counts and what follows from them, in float64; `*draw` are the leading axes of the weights (none without weights)."""

    confusion: Float[Tensor, "*draw truth called"]
    accuracy: Float[Tensor, "*draw"]
    """Share of records called right, 0 to 1."""
    balanced_accuracy: Float[Tensor, "*draw"]
    """Mean of the recalls of all classes: 1 / classes by chance. NaN where a class has no record."""
    precision: Float[Tensor, "*draw class"]
    """Of what was called so, the share that is; NaN where nothing was called so."""
    recall: Float[Tensor, "*draw class"]
    """Of what is so, the share called so; NaN where nothing is. For class 1 of 2 the rate of detection; for class 0 specificity."""
    f1: Float[Tensor, "*draw class"]
    """2 right / (called + present); NaN where neither was called nor is present, 0 where all calls are wrong."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The receiver's operating characteristic, one point per different score, from (0, 0) to (1, 1), in float64."""

    threshold: Float[Tensor, " point"]
    """Called positive from here up; +inf at the first point."""
    false_positive_rate: Float[Tensor, "*draw point"]
    true_positive_rate: Float[Tensor, "*draw point"]
    auc: Float[Tensor, "*draw"]
    """Area under it by trapezoids: the chance that a positive scores above a negative, ties counting half (Mann-Whitney U over the
    number of pairs, exactly). NaN for a draw that holds only one class."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The ends of a bootstrap interval; None where fewer than two events, or two draws with a value, are there."""

    low: float | None
    high: float | None
    without_value: int
    """Draws in which the measure has none (NaN), left out: with rare classes many draws hold only one."""


def classification(
    called: Shaped[Tensor, " record"], label: Shaped[Tensor, " record"], classes: int = 2, *, weight: Tensor | None = None
) -> Classification:
    """How often records were called what they are; classes are numbered from 0, positive is 1 of 2.

    Accuracy is blind to how rare a class is: look at `balanced_accuracy`. Raises SeislatentError where there are no records, shapes
    differ, a class is not a whole number from 0 to classes - 1, or the weights do not fit.
    """
    if called.shape != label.shape or label.ndim != 1 or not len(label):
        raise SeislatentError(f"calls of shape {tuple(called.shape)} for labels of shape {tuple(label.shape)}: give one per record")
    called, label = (_classes(v, classes, name) for v, name in ((called, "call"), (label, "label")))
    w = _weights(weight, label)
    cells = w.new_zeros((*w.shape[:-1], classes * classes)).index_add(-1, label * classes + called, w)
    confusion = cells.unflatten(-1, (classes, classes))
    right, present, said = confusion.diagonal(dim1=-2, dim2=-1), confusion.sum(-1), confusion.sum(-2)
    recall = right / present
    return Classification(
        confusion=confusion,
        accuracy=right.sum(-1) / present.sum(-1),
        balanced_accuracy=recall.mean(-1),
        precision=right / said,
        recall=recall,
        f1=2 * right / (present + said),
    )


def roc(score: Shaped[Tensor, " record"], label: Shaped[Tensor, " record"], *, weight: Tensor | None = None) -> Curve:
    """The receiver's curve of scores (higher: more likely class 1) against labels 0 and 1; equal scores are one point.

    Blind to calibration: any rising function of the scores has the same curve. Raises SeislatentError where there are no records,
    only one class is there, shapes differ, a score is NaN (infinite ones count), or the weights do not fit.
    """
    if score.shape != label.shape or label.ndim != 1 or not len(label):
        raise SeislatentError(f"scores of shape {tuple(score.shape)} for labels of shape {tuple(label.shape)}: give one per record")
    label = _classes(label, 2, "label")
    if score.isnan().any():
        raise SeislatentError(
            f"{int(score.isnan().sum())} of {len(score)} scores are NaN: leave them out or choose what they count as"
        )
    if label.min() == label.max():
        raise SeislatentError(f"all {len(label)} records are of class {int(label[0])}: a curve needs both classes")
    w = _weights(weight, label)
    values, rank = torch.unique(score, return_inverse=True)
    by_value = [w.new_zeros((*w.shape[:-1], len(values))).index_add(-1, rank, w * (label == k)) for k in (0, 1)]
    false, true = (_cumulated(v.flip(-1)) for v in by_value)
    false_rate, true_rate = (v / v[..., -1:] for v in (false, true))
    auc = (false_rate.diff(dim=-1) * (true_rate[..., 1:] + true_rate[..., :-1])).sum(-1) / 2
    threshold = torch.cat([values.double().new_full((1,), math.inf), values.double().flip(-1)])
    return Curve(threshold=threshold, false_positive_rate=false_rate, true_positive_rate=true_rate, auc=auc)


def event_weights(events: Sequence[Any] | np.ndarray, draws: int = DRAWS, seed: int = SEED) -> Float[Tensor, "draw record"]:
    """How often each record counts when as many events as there are are drawn with replacement: whole numbers, in float64.

    Records of one event are alike, so they come and go together. The same draws as in `evaluate.bootstrap` for the same seed.
    """
    _, label = np.unique(np.asarray(events), return_inverse=True)
    if not label.size:
        raise SeislatentError("no records to draw from: give one event per record")
    number = int(label.max()) + 1
    times = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=draws)
    return torch.as_tensor(times[:, label.reshape(-1)], dtype=torch.float64)


def interval_by_event(
    measure: Callable[[Tensor], Tensor], events: Sequence[Any] | np.ndarray, *, draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """The 95 % percentile interval of a measure when whole events are drawn again (Efron and Tibshirani 1993, chapter 13).

    `measure` takes weights [draw record] and gives one value per draw: `lambda w: roc(score, label, weight=w).auc`.
    """
    if len(np.unique(np.asarray(events))) < 2:
        return Interval(low=None, high=None, without_value=0)
    values = measure(event_weights(events, draws, seed)).double().cpu().numpy()
    given = values[~np.isnan(values)]
    if len(given) < 2:
        return Interval(low=None, high=None, without_value=len(values) - len(given))
    low, high = np.quantile(given, [0.5 - SHARE / 2, 0.5 + SHARE / 2])
    return Interval(low=float(low), high=float(high), without_value=len(values) - len(given))


def _cumulated(x: Tensor) -> Tensor:
    """Running sums along the last axis, beginning with 0."""
    return torch.nn.functional.pad(x.cumsum(-1), (1, 0))


def _classes(values: Tensor, classes: int, what: str) -> Tensor:
    if values.is_floating_point() and not (values == values.round()).all():
        raise SeislatentError(f"a {what} that is no whole number: give classes from 0 to {classes - 1}, not scores")
    whole = values.long()
    if classes < 2 or ((whole < 0) | (whole >= classes)).any():
        raise SeislatentError(
            f"{what}s from {int(whole.min())} to {int(whole.max())} of {classes} classes: give 2 classes or more, numbered from 0"
        )
    return whole


def _weights(weight: Tensor | None, label: Tensor) -> Tensor:
    """[*draw record] in float64; ones where None."""
    if weight is None:
        return torch.ones(len(label), dtype=torch.float64, device=label.device)
    if weight.ndim < 1 or weight.shape[-1] != len(label):
        raise SeislatentError(f"weights of shape {tuple(weight.shape)} for {len(label)} records: give [..., record]")
    if not (torch.isfinite(weight) & (weight >= 0)).all():
        raise SeislatentError("a weight is negative or not finite: give how often each record counts")
    return weight.to(label.device, torch.float64)
