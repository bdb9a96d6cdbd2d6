"""Whether probabilities are what they say: of calls made with 0.8, eight in ten should be right.

    probabilities [record class], labels --bins of the largest one--> confidence and share right of each bin --> expected error

Guo et al. (2017), "On calibration of modern neural networks", arXiv:1706.04599, equations 3 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seislatent.errors import SeislatentError

BINS = 10


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Of each bin of the probability of the label that is called, from 0 to 1 in equal steps; in float64."""

    edges: Float[Tensor, " edge"]
    weight: Float[Tensor, " bin"]
    """Share of the records, by their weights."""
    confidence: Float[Tensor, " bin"]
    """Mean probability of what is called; NaN where the bin is empty."""
    right: Float[Tensor, " bin"]
    """Share of calls that are right; NaN where the bin is empty."""
    error: Float[Tensor, ""]
    """Expected calibration error: mean of |right - confidence| over records, 0 to 1. Blind to how often a call is right, and to
    deviations that cancel within a bin."""


def reliability(
    probability: Float[Tensor, "record label"],
    label: Int[Tensor, " record"],
    *,
    weight: Float[Tensor, " record"] | None = None,
    bins: int = BINS,
) -> Reliability:
    """The reliability diagram of classes and its expected error.

    Raises:
        SeislatentError: no records, or shapes that differ.
    """
    if probability.ndim != 2 or label.shape != probability.shape[:1] or not len(label) or bins < 1:
        raise SeislatentError(
            f"probabilities of shape {tuple(probability.shape)} for labels of shape {tuple(label.shape)}: give a row per record"
        )
    sure, called = probability.double().max(1)
    right = (called == label).double()
    w = torch.ones_like(sure) if weight is None else weight.to(sure)
    place = (sure * bins).long().clamp(0, bins - 1)

    def summed(values: Tensor) -> Tensor:
        return sure.new_zeros(bins).index_add(0, place, values)

    whole = summed(w)
    confidence, share = summed(w * sure) / whole, summed(w * right) / whole
    gap = torch.where(whole > 0, (share - confidence).abs(), 0.0)
    return Reliability(
        edges=torch.linspace(0, 1, bins + 1, dtype=torch.float64),
        weight=whole / whole.sum(),
        confidence=confidence,
        right=share,
        error=(whole * gap).sum() / whole.sum(),
    )
