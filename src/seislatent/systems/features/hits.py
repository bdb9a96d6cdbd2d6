"""What a picker finds in training records, beside what is there: for its validation and its calibration.

probabilities [b phase t] --peaks--> found --nearest mark within 0.5 s--> right or false, residual; marks without one are missed
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seislatent.batch import Batch
from seislatent.systems.base import Annotator

FAINTEST = 0.1
"""Peaks below this probability are none."""
APART_S = 0.5
"""Of several peaks within so much of each other the highest counts; a peak within so much of a mark finds it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Hits:
    """Peaks of one phase in some records, and the marks that no peak finds (with probability 0)."""

    probability: Tensor
    """[peak]"""
    right: Tensor
    """[peak]: whether it finds a mark. Each mark is found once at most."""
    there: Tensor
    """[peak]: whether there was something to find: so of right peaks and missed marks."""
    residual_s: Tensor
    """[peak]: later than the mark, in s; NaN where it finds none."""

    @classmethod
    def joined(cls, parts: list[Hits]) -> Hits:
        """One of many."""
        names = ("probability", "right", "there", "residual_s")
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def peaks(p: Tensor, apart: int) -> Tensor:
    """[batch time] -> where a sample is the first highest within `apart` samples on either side, and not faint."""
    highest = F.max_pool1d(p[:, None], 2 * apart + 1, 1, apart)[:, 0]
    at = (p == highest) & (p >= FAINTEST)
    at[:, 1:] &= ~(at[:, :-1] & (p[:, 1:] == p[:, :-1]))
    return at


def hits(picker: Annotator, batch: Batch) -> dict[str, Hits]:
    """What an annotator finds of each phase, where the batch's `mask` (all, where None) tells that the phase is known.

    `condition` [batch mark] are samples of P, S, P, S, ...; NaN where there is none.
    """
    valid = torch.ones_like(batch.x, dtype=torch.bool) if batch.valid is None else batch.valid
    with torch.no_grad():
        p = picker.probabilities(batch.x, valid)
    rate, marks = picker.sampling_rate_hz, batch.condition
    assert marks is not None
    apart = round(APART_S * rate)
    told = {}
    for row, phase in enumerate(picker.phases):
        known = torch.ones_like(p[:, row], dtype=torch.bool) if batch.mask is None else batch.mask[:, row]
        told[phase] = _matched(p[:, row], peaks(p[:, row], apart) & known, marks[:, row::2], known, rate)
    return told


def _matched(p: Tensor, at: Tensor, marks: Tensor, known: Tensor, rate: float) -> Hits:
    """Each peak with its mark, the highest peak first."""
    rows: list[tuple[float, bool, bool, float]] = []
    for record in range(len(p)):
        left = sorted(m for m in marks[record].tolist() if m == m and known[record, min(int(m), p.shape[1] - 1)])
        times = at[record].nonzero()[:, 0].tolist()
        for t in sorted(times, key=lambda t: -float(p[record, t])):
            near = min(left, key=lambda m: abs(m - t), default=float("inf"))
            right = abs(near - t) <= APART_S * rate
            if right:
                left.remove(near)
            rows.append((float(p[record, t]), right, right, (t - near) / rate if right else float("nan")))
        rows += [(0.0, False, True, float("nan")) for _ in left]
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    return Hits(probability=table[:, 0], right=table[:, 1] > 0, there=table[:, 2] > 0, residual_s=table[:, 3])


def best_threshold(found: Hits) -> tuple[float, float]:
    """The threshold with the highest F1, and that F1; 0.3 and 0 where nothing is found."""
    order = torch.argsort(found.probability, descending=True)
    p, right = found.probability[order], found.right[order].double()
    f1 = 2 * right.cumsum(0) / (torch.arange(1, len(p) + 1) + found.there.sum())
    f1 = torch.where(p > 0, f1, 0.0)
    if not len(p) or not bool(f1.max() > 0):
        return 0.3, 0.0
    # of a flat top the middle: the best of one draw is not the best of the next
    flat = (f1 >= f1.max() - 0.002).nonzero()[:, 0]
    return float(p[flat].double().mean()), float(f1.max())


def spread(found: Hits, knots: int) -> Tensor:
    """Robust standard deviation of the residuals around each probability (i + 1) / (knots + 1), falling with it; 0: too few.

    1.4826 times the median absolute residual of the 30 or more nearest in probability, so that a bias counts too; no less than what
    a higher probability has.
    """
    p, r = found.probability[found.right], found.residual_s[found.right]
    if len(p) < 10:
        return torch.zeros(knots)
    out = torch.zeros(knots, dtype=torch.float64)
    for i in range(knots):
        off = (p - (i + 1) / (knots + 1)).abs()
        near = off <= max(0.1, float(off.sort().values[min(29, len(off) - 1)]))
        out[i] = 1.4826 * r[near].abs().median()
    return out.flip(0).cummax(0).values.flip(0).clamp_min(0.005).float()
