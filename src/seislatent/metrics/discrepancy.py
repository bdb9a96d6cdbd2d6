"""Maximum mean discrepancy of two sets, with a permutation test that exchanges whole events.

    MMD^2 = mean k(x, x') - 2 mean k(x, y) + mean k(y, y'),   k(a, b) = exp(-|a - b|^2 / 2 s^2)

Gretton et al. 2012 (lemma 6; seed 004 eq. 2.25 is its unbiased form for sets of one size). With kernel "energy", k(a, b) = -|a -
b| and MMD^2 is the energy distance (Székely and Rizzo 2013). Zero only for equal distributions; blind to what the features do not
hold, and weak where the bandwidth does not fit the difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError, unknown
from seislatent.metrics.points import (
    Labels,
    centred,
    checked_generator,
    checked_sets,
    permutation_p_value,
    permuted_labels,
    row_chunks,
    squared_distances,
)

MEDIAN_OF = 2000
"""Records of the pooled sets, evenly taken, from which the median distance is found."""


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """One value per set of features, in float64."""

    squared: Float[Tensor, "*set"]
    """MMD^2: without unit, up to 2 (Gaussian kernel); in the unit of the features (energy). Unbiased values may be below 0."""
    p_value: Float[Tensor, "*set"]
    """Share of exchanges of events whose value is at least as large, the given one counted; NaN with no permutations."""
    bandwidths: Float[Tensor, "*set bandwidth"]
    """Standard deviations s of the kernel, in the unit of the features; empty for the energy kernel."""
    null: Float[Tensor, "*set permutation"]
    """Values under exchange of events."""


@torch.no_grad()
def maximum_mean_discrepancy(
    x: Float[Tensor, "*set record feature"],
    y: Float[Tensor, "*set other feature"],
    generator: torch.Generator,
    *,
    kernel: Literal["gaussian", "energy"] = "gaussian",
    bandwidths: Sequence[float] | None = None,
    biased: bool = False,
    permutations: int = 199,
    events: Labels | None = None,
    other_events: Labels | None = None,
) -> Discrepancy:
    """MMD^2 of two sets and its p-value, unbiased (equal records left out of the first and last mean) or biased (0 at least).

    Several `bandwidths` give the mean of their kernels; None takes the median distance of the pooled records. Events named in both
    sets change sides as pairs, others are shuffled (`metrics.points.permuted_labels`). The kernel's matrix is made once for all
    permutations, some rows at a time: time grows with (records + others)^2 (features + permutations).

    Raises SeislatentError for fewer than two records, values not finite, features that differ, a bandwidth that is no positive
    number, or where all records are the same and no bandwidth is given.
    """
    (x, y), shape = checked_sets(x, y, names=("x", "y"), least=2)
    if kernel not in ("gaussian", "energy"):
        raise SeislatentError(unknown("kernel", kernel, ("gaussian", "energy")))
    if permutations < 0 or not all(0 < s < math.inf for s in bandwidths or ()) or (bandwidths is not None and not len(bandwidths)):
        raise SeislatentError(
            f"bandwidths {bandwidths} and {permutations} permutations: give positive numbers, or None for the median"
        )
    sizes = (x.shape[1], y.shape[1])
    labels = (torch.arange(sum(sizes)) < sizes[0])[:, None]
    if permutations:
        labels = permuted_labels(events, other_events, sizes, permutations, checked_generator(generator))
    values, used = [], []
    for a, b in zip(x, y, strict=True):
        pool = torch.cat(centred(a, b))
        widths = _bandwidths(pool, bandwidths) if kernel == "gaussian" else pool.new_zeros(0)
        values.append(_values(pool, labels.to(pool), widths, biased))
        used.append(widths)
    found = torch.stack(values).reshape(*shape, -1)
    p = torch.tensor([permutation_p_value(v) if permutations else math.nan for v in values], dtype=torch.float64)
    return Discrepancy(
        squared=found[..., 0],
        p_value=p.to(found).reshape(shape),
        bandwidths=torch.stack(used).reshape(*shape, -1),
        null=found[..., 1:],
    )


def median_distance(points: Float[Tensor, "record feature"]) -> float:
    """The median of the distances between different records, of at most 2000 of them taken evenly."""
    some = points[:: math.ceil(len(points) / MEDIAN_OF)]
    squared = squared_distances(some, some)
    apart = squared[torch.ones_like(squared, dtype=torch.bool).triu(1)]
    return math.sqrt(float(apart.median())) if len(apart) else 0.0


def _bandwidths(pool: Tensor, given: Sequence[float] | None) -> Tensor:
    if given is not None:
        return pool.new_tensor(list(given))
    width = median_distance(pool)
    if width == 0:
        raise SeislatentError("most records are the same, so their median distance is 0: give bandwidths")
    return pool.new_tensor([width])


def _values(pool: Tensor, labels: Tensor, widths: Tensor, biased: bool) -> Tensor:
    """MMD^2 of every labelling [record draw]: from a^T K a and a^T K 1 of one pass through the kernel's matrix."""
    total = len(pool)
    own = torch.zeros(labels.shape[1], dtype=pool.dtype, device=pool.device)
    sums = torch.zeros(total, dtype=pool.dtype, device=pool.device)
    for rows in row_chunks(total, 4 * total):
        block = _kernel(squared_distances(pool[rows], pool), widths)
        # a record's distance to itself is 0, which the matrix product gives only up to rounding
        block[torch.arange(len(block)), torch.arange(rows.start, rows.stop)] = float(len(widths) > 0)
        own += (labels[rows] * (block @ labels)).sum(0)
        sums[rows] = block.sum(1)
    first = labels.sum(0)
    second = total - first
    across = sums @ labels - own
    rest = sums.sum() - own - 2 * across
    cross = 2 * across / (first * second)
    if biased:
        return own / first.square() - cross + rest / second.square()
    diagonal = float(len(widths) > 0)
    # an exchange of unequal events may leave one record on a side, which has no pair: its mean counts as 0
    pairs = [(side * (side - 1)).clamp(min=1) for side in (first, second)]
    return (own - diagonal * first) / pairs[0] - cross + (rest - diagonal * second) / pairs[1]


def _kernel(squared: Tensor, widths: Tensor) -> Tensor:
    if not len(widths):
        return -squared.sqrt_()
    return (
        torch.stack([torch.exp(squared / (-2 * s * s)) for s in widths]).mean(0)
        if len(widths) > 1
        else squared.div_(-2 * widths[0] ** 2).exp_()
    )
