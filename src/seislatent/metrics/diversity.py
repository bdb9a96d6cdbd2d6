"""Diversity of draws: how far apart they are, how much of the real set they reach, whether their spread is the right one.

Pairwise distances alone are blind to truth (noise is diverse); coverage and density (Naeem et al. 2020) ask where the draws lie
among real records; calibration asks of every real value whether it could have been one more draw of its own condition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.special import chdtrc
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.metrics.points import (
    Labels,
    centred,
    checked_generator,
    checked_labels,
    checked_sets,
    nearest,
    row_chunks,
    squared_distances,
)


@dataclass(frozen=True, kw_only=True)
class PairwiseDistance:
    """Euclidean distances between the draws of a condition, in the unit of the features, in float64; all 0 for draws that are
    equal.
    """

    mean: Float[Tensor, "*condition"]
    rms: Float[Tensor, "*condition"]
    """Root of the mean of squares: the root of twice the trace of the draws' covariance (divided by draws - 1)."""
    smallest: Float[Tensor, "*condition"]
    """Between the two nearest draws: 0 tells of a draw made twice."""


@torch.no_grad()
def pairwise_distance(draws: Float[Tensor, "*condition draw feature"]) -> PairwiseDistance:
    """Distances of all pairs of different draws, for each condition by itself.

    Beside it stands the same of real records of alike conditions: less means collapse, more means noise. Raises SeislatentError for
    fewer than two draws or values that are not finite.
    """
    (sets,), shape = checked_sets(draws, names=("draws",), least=2)
    values = []
    for one in sets:
        (points,) = centred(one)
        total, squares = points.new_zeros(()), points.new_zeros(())
        least = points.new_full((), math.inf)
        for rows in row_chunks(len(points), 2 * len(points)):
            squared = squared_distances(points[rows], points)
            own = torch.arange(rows.start, rows.stop, device=points.device)
            squared[own - rows.start, own] = 0
            total += squared.sqrt().sum()
            squares += squared.sum()
            squared[own - rows.start, own] = math.inf
            least = torch.minimum(least, squared.min())
        pairs = len(points) * (len(points) - 1)
        values.append(torch.stack([total / pairs, (squares / pairs).sqrt(), least.sqrt()]))
    found = torch.stack(values).reshape(*shape, 3)
    return PairwiseDistance(mean=found[..., 0], rms=found[..., 1], smallest=found[..., 2])


@dataclass(frozen=True, kw_only=True)
class CoverageDensity:
    """One value per set in float64; the balls are those of real records, out to their k-th real neighbour."""

    coverage: Float[Tensor, "*set"]
    """Share of real records with a draw in their ball, 0 to 1: low where draws leave out kinds of records."""
    density: Float[Tensor, "*set"]
    """Mean number of balls that hold a draw, over k: 0 to +inf, 1 for draws of the real distribution, more for draws in its
    middle."""
    expected_coverage: float
    """Of independent draws from the real distribution: the value to be near to."""
    precision: Float[Tensor, "*set"]
    """Share of draws inside any ball, 0 to 1 (Kynkäänniemi et al. 2019)."""
    covered: Bool[Tensor, "*set record"]
    """Which real records have a draw in their ball."""


@torch.no_grad()
def coverage_density(
    draws: Float[Tensor, "*set draw feature"], real: Float[Tensor, "*set record feature"], *, neighbours: int = 5
) -> CoverageDensity:
    """Coverage and density of draws among real records (Naeem et al. 2020, eq. 2 and 3), features as they are: scale them first.

    Real records of one event lie near each other and have small balls: take one record per event where events hold several. Equal
    real records have balls of radius 0, which hold what is equal to them. Raises SeislatentError for values not finite, features
    that differ, or no more real records than neighbours.
    """
    (x, y), shape = checked_sets(draws, real, names=("draws", "real"))
    n, m, k = y.shape[1], x.shape[1], neighbours
    if not 1 <= k < n:
        raise SeislatentError(f"{k} neighbours among {n} real records: take 1 to {n - 1}")
    values, covered = [], []
    for a, b in zip(x, y, strict=True):
        b, a = centred(b, a)
        # about 1e-15 of the squares is rounding: what is equal must lie within a ball of radius 0
        slack = 1e-14 * max(float(b.square().sum(1).max()), float(a.square().sum(1).max()))
        radius = torch.cat([squared_distances(b[i], b).kthvalue(k + 1, dim=1).values for i in row_chunks(n, 2 * n)]) + slack
        inside, any_ball, hit = 0.0, 0.0, torch.zeros(n, dtype=torch.bool, device=b.device)
        for rows in row_chunks(m, 2 * n):
            within = squared_distances(a[rows], b) <= radius
            inside += float(within.sum())
            any_ball += float(within.any(1).sum())
            hit |= within.any(0)
        values.append([float(hit.double().mean()), inside / (k * m), any_ball / m])
        covered.append(hit)
    found = torch.tensor(values, dtype=torch.float64, device=x.device).reshape(*shape, 3)
    missed = math.exp(sum(math.log(n - i) - math.log(m + n - i) for i in range(1, k + 1)))
    return CoverageDensity(
        coverage=found[..., 0], density=found[..., 1], precision=found[..., 2], expected_coverage=1 - missed,
        covered=torch.stack(covered).reshape(*shape, n),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SpreadCalibration:
    """Where every real value lies among the draws made for its condition; means over records are shares."""

    inside: Bool[Tensor, "record measure"]
    """True where the real value lies in the band of the draws."""
    pit: Float[Tensor, "record measure"]
    """Probability integral transform, 0 to 1: uniform where real values could be draws, heaped at both ends where the spread is too
    small, in the middle where it is too large, at one end where draws are biased."""
    expected: float
    """Share inside that calibrated draws have."""

    @property
    def share(self) -> Float[Tensor, " measure"]:
        """Share of real values inside, 0 to 1, per measure; beside `expected`."""
        return self.inside.double().mean(0)


@torch.no_grad()
def spread_calibration(
    draws: Float[Tensor, "draw record measure"],
    real: Float[Tensor, "record measure"],
    generator: torch.Generator,
    *,
    band: tuple[float, float] = (0.16, 0.84),
) -> SpreadCalibration:
    """Real values against the 16-84 % band of their draws, for any scalar measures (ln PSA per period, ln Arias, durations).

    PIT is (draws below + u) / (draws + 1) with u uniform, equal draws shared out at random: exactly uniform for one more draw of
    the condition. A value is inside where its PIT lies in the band: with many draws these are the draws' quantiles, with few the
    share of calibrated draws is still exactly `expected`. Each measure is judged by itself: blind to correlation between measures.

    Raises SeislatentError where shapes differ, a value is not finite, or there are fewer than two draws.
    """
    low, high = band
    if draws.ndim != 3 or real.shape != draws.shape[1:] or not real.numel() or len(draws) < 2:
        raise SeislatentError(
            f"draws of shape {tuple(draws.shape)} for real values {tuple(real.shape)}: give [draw record measure], two draws at"
            " least, and [record measure]"
        )
    if not 0 <= low < high <= 1:
        raise SeislatentError(f"band {low} to {high}: give two shares from 0 to 1")
    bad = ~(torch.isfinite(draws).all(0) & torch.isfinite(real)).all(1)
    if bad.any():
        raise SeislatentError(
            f"{int(bad.sum())} records hold NaN or infinity (first: record {int(bad.nonzero()[0])}): leave them out"
        )
    below, equal = ((draws < real).sum(0), (draws == real).sum(0))
    u = torch.rand(real.shape, generator=checked_generator(generator), dtype=torch.float64).to(real.device)
    pit = (below + u * (equal + 1)) / (len(draws) + 1)
    return SpreadCalibration(inside=(pit >= low) & (pit <= high), pit=pit, expected=high - low)


@dataclass(frozen=True, kw_only=True)
class PitHistogram:
    """Counts of a PIT in equal bins from 0 to 1, per measure."""

    counts: Int[Tensor, "measure bin"]
    expected: float
    """Count of each bin where the spread is right."""
    chi_squared: Float[Tensor, " measure"]
    """Sum of (count - expected)^2 / expected, divided by the design effect."""
    design_effect: Float[Tensor, " measure"]
    """By how much the events widen the scatter of counts; 1 where every record is its own event, 1 at least."""
    p_value: Float[Tensor, " measure"]
    """Of a uniform PIT; not corrected for the number of measures."""


@torch.no_grad()
def pit_histogram(pit: Float[Tensor, "record measure"], *, bins: int = 10, events: Labels | None = None) -> PitHistogram:
    """Histogram and test of uniformity: chi-squared with bins - 1 degrees of freedom.

    Records of one event err together; with `events` the statistic is divided by the mean design effect of the bins (Rao and Scott
    1981), found from the scatter of counts between events. That wants some 30 events; with few the p-value is rough.

    Raises SeislatentError for values outside 0 to 1, fewer than five expected per bin, or events no more than bins.
    """
    if pit.ndim != 2 or bins < 2 or not ((pit >= 0) & (pit <= 1)).all():
        raise SeislatentError(
            f"a PIT of shape {tuple(pit.shape)} in {bins} bins: give [record measure] from 0 to 1 and two bins at least"
        )
    n = len(pit)
    if n < 5 * bins:
        raise SeislatentError(f"{n} records for {bins} bins: at least five per bin are needed, take fewer bins")
    index = (pit * bins).long().clamp(max=bins - 1)
    ones = torch.nn.functional.one_hot(index, bins).double()  # [record measure bin]
    counts, expected = ones.sum(0), n / bins
    effect = torch.ones(pit.shape[1], dtype=torch.float64, device=pit.device)
    if events is not None:
        label = checked_labels(events, n, "events").to(pit.device)
        number = int(label.max()) + 1
        if number <= bins:
            raise SeislatentError(f"{number} events for {bins} bins: more events than bins are needed, take fewer bins")
        sums = torch.zeros(number, *ones.shape[1:], dtype=torch.float64, device=pit.device).index_add_(0, label, ones - counts / n)
        variance = sums.square().sum(0) * number / (number - 1)
        effect = (variance.sum(1) / (expected * (bins - 1))).clamp(min=1)
    statistic = (counts - expected).square().sum(1) / expected / effect
    p = torch.from_numpy(chdtrc(bins - 1, statistic.cpu().numpy())).to(pit.device)
    return PitHistogram(counts=counts.long(), expected=expected, chi_squared=statistic, design_effect=effect, p_value=p)


@torch.no_grad()
def nearest_real(
    draws: Float[Tensor, "draw feature"], real: Float[Tensor, "record feature"]
) -> tuple[Float[Tensor, " draw"], Int[Tensor, " draw"]]:
    """Distance and index of the real record nearest to each draw: for looking at both side by side."""
    (x, y), shape = checked_sets(draws, real, names=("draws", "real"))
    if shape:
        raise SeislatentError(f"one set at a time, not {shape}: give [draw feature]")
    b, a = centred(y[0], x[0])
    distances, indices = nearest(a, b)
    return distances[:, 0], indices[:, 0]
