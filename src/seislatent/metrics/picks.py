"""Picks against truths: which belongs to which, and how far off they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from seislatent.errors import SeislatentError

TOLERANCES_S = (0.1, 0.5)


@dataclass(frozen=True, kw_only=True)
class PickMatches:
    """Pairs of picks and truths of one record, in the order of the truths."""

    pick: NDArray[np.int64]
    """Number of each matched pick."""
    truth: NDArray[np.int64]
    """Number of the truth it belongs to."""
    residual_s: NDArray[np.float64]
    """Pick minus truth: positive where the pick is late."""
    missed: NDArray[np.int64]
    """Truths without a pick."""
    false: NDArray[np.int64]
    """Picks without a truth."""


@dataclass(frozen=True, kw_only=True)
class PickScores:
    """Residuals of many picks, in seconds and float64; `*draw` are the leading axes of the weights (none without weights).

    The first four are of the picks that were made; NaN where none was.
    """

    picked: Float[Tensor, "*draw"]
    """Number of truths with a pick."""
    missed: Float[Tensor, "*draw"]
    """Number of truths without one."""
    mean_s: Float[Tensor, "*draw"]
    median_s: Float[Tensor, "*draw"]
    std_s: Float[Tensor, "*draw"]
    """Root mean square about the mean (divided by n)."""
    mad_s: Float[Tensor, "*draw"]
    """Median of the distances from the median (not multiplied by 1.4826)."""
    tolerances_s: tuple[float, ...]
    share_within: Float[Tensor, "*draw tolerance"]
    """Share of all truths, missed ones too, with a pick at most so far off; NaN where there is no truth."""


def match_picks(picks_s: ArrayLike, truths_s: ArrayLike, tolerance_s: float) -> PickMatches:
    """One-to-one: as many pairs at most `tolerance_s` apart as can be made and, of all ways to do so, the least sum of distances.

    Of a burst of picks around one truth one is right and the others are false. Raises SeislatentError where a time is not finite or
    the tolerance is not a number from 0 up.
    """
    picks, truths = (np.asarray(v, np.float64).reshape(-1) for v in (picks_s, truths_s))
    if not (np.isfinite(picks).all() and np.isfinite(truths).all()):
        raise SeislatentError("a pick or truth is NaN or infinite: leave it out before matching")
    if not (math.isfinite(tolerance_s) and tolerance_s >= 0):
        raise SeislatentError(f"a tolerance of {tolerance_s} s: give a number from 0 up")
    # a tolerance of 0.1 s must hold for times such as 30.1 and 30.0, whose difference is not exactly 0.1
    times = np.concatenate([truths, picks])
    largest = tolerance_s + 4 * np.spacing(max(np.abs(times).max(initial=0), tolerance_s))
    # what lies farther apart than the tolerance cannot meet: days of picks fall into small parts
    order = np.argsort(times)
    part = np.empty(len(times), np.int64)
    part[order] = np.cumsum(np.diff(times[order], prepend=times[order[:1]]) > largest)
    truth, pick = [], []
    for number in np.intersect1d(part[: len(truths)], part[len(truths) :]):
        rows, columns = (np.flatnonzero(v == number) for v in (part[: len(truths)], part[len(truths) :]))
        row, column = _pairs(np.abs(picks[columns] - truths[rows, None]), largest)
        truth.append(rows[row])
        pick.append(columns[column])
    row, column = (np.concatenate(v).astype(np.int64) if v else np.zeros(0, np.int64) for v in (truth, pick))
    column, row = column[np.argsort(row)], np.sort(row)
    return PickMatches(
        pick=column,
        truth=row,
        residual_s=picks[column] - truths[row],
        missed=np.setdiff1d(np.arange(len(truths)), row),
        false=np.setdiff1d(np.arange(len(picks)), column),
    )


def _pairs(apart: NDArray[np.float64], largest: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of distances [truth pick] that are paired."""
    # a pair too far apart costs more than every other pair together, so it is taken only where nothing else is left
    too_far = 1 + 2 * (largest if largest > 0 else 1.0) * (1 + min(apart.shape))
    row, column = linear_sum_assignment(np.where(apart <= largest, apart, too_far))
    good = apart[row, column] <= largest
    return row[good], column[good]


def pick_scores(
    residual_s: Shaped[Tensor, " record"], *, tolerances_s: Sequence[float] = TOLERANCES_S, weight: Tensor | None = None
) -> PickScores:
    """Residuals (pick minus truth, NaN where a truth has no pick) in figures.

    With `weight` [*draw record], how often each record counts (`detection.event_weights`), one value per draw. Mean and standard
    deviation are ruled by outliers; median and MAD do not see them. Neither says anything of false picks: see `match_picks`.

    Raises SeislatentError where a residual is infinite, there are no records, or a tolerance or a weight makes no sense.
    """
    r = torch.as_tensor(residual_s).double()
    if r.ndim != 1 or not len(r) or r.isinf().any():
        raise SeislatentError(
            f"residuals of shape {tuple(r.shape)}: give one finite number of seconds per record, NaN where missed"
        )
    if not tolerances_s or not all(math.isfinite(t) and t >= 0 for t in tolerances_s):
        raise SeislatentError(f"tolerances {tuple(tolerances_s)} s: give numbers from 0 up")
    w = torch.ones_like(r) if weight is None else weight.to(r.device, torch.float64)
    if w.ndim < 1 or w.shape[-1] != len(r) or not (torch.isfinite(w) & (w >= 0)).all():
        raise SeislatentError(f"weights of shape {tuple(w.shape)} for {len(r)} records: give [..., record], none negative")
    made = ~r.isnan()
    here, value = w * made, r.nan_to_num(0.0)
    number, every = here.sum(-1), w.sum(-1)
    mean = (here * value).sum(-1) / number
    median = _median(value, here)
    slack = 1e-6  # times such as 0.1 s are not exact, least of all in float32
    within = [(here * (value.abs() <= t + slack)).sum(-1) / every for t in tolerances_s]
    return PickScores(
        picked=number,
        missed=every - number,
        mean_s=mean,
        median_s=median,
        std_s=((here * (value - mean[..., None]).square()).sum(-1) / number).sqrt(),
        mad_s=_from_median(value, median, here),
        tolerances_s=tuple(float(t) for t in tolerances_s),
        share_within=torch.stack(within, -1),
    )


def by_snr(
    residual_s: Shaped[Tensor, " record"],
    snr_db: Shaped[Tensor, " record"],
    edges_db: Sequence[float],
    *,
    tolerances_s: Sequence[float] = TOLERANCES_S,
) -> dict[tuple[float, float], PickScores | None]:
    """`pick_scores` of the records with low <= signal-to-noise ratio < high, by (low, high); None where a bin is empty.

    Bins lie between neighbouring edges (use -inf and inf for open ends). Records whose ratio is NaN are in none.
    """
    r, snr = torch.as_tensor(residual_s), torch.as_tensor(snr_db)
    if snr.shape != r.shape:
        raise SeislatentError(f"{tuple(snr.shape)} signal-to-noise ratios for {tuple(r.shape)} residuals: give one each")
    edges = [float(e) for e in edges_db]
    if len(edges) < 2 or not all(low < high for low, high in pairwise(edges)):
        raise SeislatentError(f"edges of bins {edges}: give two or more, rising")
    scores: dict[tuple[float, float], PickScores | None] = {}
    for low, high in pairwise(edges):
        inside = (snr >= low) & (snr < high)
        scores[low, high] = pick_scores(r[inside], tolerances_s=tolerances_s) if inside.any() else None
    return scores


def _median(value: Shaped[Tensor, " record"], weight: Shaped[Tensor, "*draw record"]) -> Float[Tensor, "*draw"]:
    """Each value counted `weight` times; the mean of the two in the middle; NaN where nothing counts."""
    order = value.argsort()
    value, sums = value[order], weight[..., order].cumsum(-1)
    half = sums[..., -1:] / 2
    last = len(value) - 1
    low = torch.searchsorted(sums, half).clamp(max=last)
    high = torch.searchsorted(sums, half, right=True).clamp(max=last)
    middle = (value[low] + value[high])[..., 0] / 2
    return middle.where(sums[..., -1] > 0, math.nan)


def _from_median(
    value: Shaped[Tensor, " record"], median: Shaped[Tensor, "*draw"], weight: Shaped[Tensor, "*draw record"]
) -> Float[Tensor, "*draw"]:
    """Median of the distances from each draw's median. Draws have few different medians, so values are sorted once for each."""
    flat, rows = median.reshape(-1), weight.reshape(-1, weight.shape[-1])
    out = torch.full_like(flat, math.nan)
    known = ~flat.isnan()
    for middle in flat[known].unique():
        here = flat == middle
        out[here] = _median((value - middle).abs(), rows[here])
    return out.reshape(median.shape)
