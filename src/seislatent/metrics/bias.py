"""Residuals over many records: bias, spread within and between events, correlation between periods.

    r = ln(observed / predicted)                  r_ij = c + B_i + W_ij  for record j of event i

B and W are independent with variances tau^2 and phi^2 (Abrahamson and Youngs 1992). Both are estimated by moments (one-way analysis
of variance with unequal groups, Searle et al. 1992, chapter 3), per period:

    phi^2 = sum (r_ij - mean_i)^2 / (N - k)
    tau^2 = max(0, (sum n_i (mean_i - mean)^2 / (k - 1) - phi^2) / n_0),   n_0 = (N - sum n_i^2 / N) / (k - 1)

and then c as the mean with the weights that these variances give, B_i = tau^2 sum_j (r_ij - c) / (n_i tau^2 + phi^2). The moments
are unbiased where tau^2 is not cut at 0. Blind to the cause: path, site and draw are all in W. Positive residuals: the prediction
is too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError


@dataclass(frozen=True, kw_only=True)
class Residuals:
    """In natural logarithms, float64. NaN where records are too few: 1 for the bias, 2 for sigma, more than events for phi."""

    bias: Float[Tensor, " period"]
    """c"""
    bias_error: Float[Tensor, " period"]
    """Its standard error, events drawn from infinitely many."""
    sigma: Float[Tensor, " period"]
    """sqrt(tau^2 + phi^2); the standard deviation of all residuals where one of both cannot be told."""
    tau: Float[Tensor, " period"]
    """Between events; NaN with one event, or one record per event."""
    phi: Float[Tensor, " period"]
    """Within events."""
    between: Float[Tensor, "event period"]
    """B_i; NaN where tau or phi is."""
    within: Float[Tensor, "record period"]
    """W_ij = r - c - B_i; NaN where r is."""
    records: Float[Tensor, " period"]
    """Residuals that are numbers."""
    events: tuple[str, ...]
    """Of `between`, in its order."""


def log_ratio(observed: Tensor, predicted: Tensor) -> Tensor:
    """ln(observed / predicted) in float64; NaN where either is not a positive number, never infinite.

    Raises SeislatentError where the shapes differ.
    """
    if observed.shape != predicted.shape:
        raise SeislatentError(f"cannot compare measures of shape {tuple(observed.shape)} with {tuple(predicted.shape)}")
    x, y = observed.to(torch.float64), predicted.to(torch.float64)
    good = (x > 0) & (y > 0) & x.isfinite() & y.isfinite()
    return torch.where(good, torch.log(torch.where(good, x, 1.0)) - torch.log(torch.where(good, y, 1.0)), torch.nan)


def split_residuals(residual: Float[Tensor, "record period"], event: Sequence[str]) -> Residuals:
    """Bias and spread of residuals per period, split by event; NaN residuals are left out, period by period.

    Raises SeislatentError where the shape is not [record period] or an event is missing.
    """
    if residual.ndim != 2 or len(event) != len(residual):
        raise SeislatentError(f"residuals of shape {tuple(residual.shape)} with {len(event)} events: give [record period]")
    names, member = np.unique(np.asarray([str(name) for name in event]), return_inverse=True)
    r = residual.to(torch.float64)
    at = torch.as_tensor(member, dtype=torch.long, device=r.device)
    here = r.isfinite()
    zero = torch.zeros(len(names), r.shape[1], dtype=torch.float64, device=r.device)
    n = zero.index_add(0, at, here.to(torch.float64))
    sums = zero.index_add(0, at, torch.where(here, r, 0.0))
    total, groups = n.sum(0), (n > 0).sum(0).to(torch.float64)
    means = sums / n.clamp(min=1)
    grand = sums.sum(0) / total.clamp(min=1)
    inner = torch.where(here, r - means[at], 0.0).square().sum(0)
    outer = (n * (means - grand).square()).sum(0)
    nan = torch.full_like(grand, torch.nan)
    phi2 = torch.where(total > groups, inner / (total - groups).clamp(min=1), nan)
    n0 = (total - n.square().sum(0) / total.clamp(min=1)) / (groups - 1).clamp(min=1)
    tau2 = torch.where(groups > 1, (outer / (groups - 1).clamp(min=1) - phi2) / n0.clamp(min=1e-12), nan).clamp(min=0)
    split = tau2.isfinite() & phi2.isfinite()
    # weights of events: one over the variance of their means; where the two cannot be told apart, every record counts alike
    share = torch.where(split, tau2, 0.0) * n + torch.where(split, phi2, 1.0)
    weight = torch.where(share > 0, n / torch.where(share > 0, share, 1.0), n)
    bias = torch.where(total > 0, (weight * means).sum(0) / weight.sum(0).clamp(min=1e-300), nan)
    spread = torch.where(total > 1, (inner + outer) / (total - 1).clamp(min=1), nan)
    between = torch.where(split & (share > 0), tau2 * (sums - n * bias) / torch.where(share > 0, share, 1.0), nan)
    between = torch.where(split & (share == 0), 0.0, between)
    return Residuals(
        bias=bias,
        bias_error=torch.where(split, weight.sum(0).clamp(min=1e-300).rsqrt(), (spread / total.clamp(min=1)).sqrt()),
        sigma=torch.where(split, tau2 + phi2, spread).sqrt(),
        tau=tau2.sqrt(),
        phi=phi2.sqrt(),
        between=torch.where(n > 0, between, torch.nan),
        within=r - bias - torch.where(split, between, 0.0)[at],
        records=total,
        events=tuple(map(str, names)),
    )


def correlation(residual: Float[Tensor, "record period"], *, least: int = 10) -> Float[Tensor, "period period"]:
    """Pearson correlation between periods over records, each pair from the records that have both.

    Take residuals within events, or events' terms, where records of one event are alike: pooled ones mix both. NaN where fewer than
    `least` records are left, or a period does not vary. Errors: about (1 - rho^2) / sqrt(records).
    """
    if residual.ndim != 2:
        raise SeislatentError(f"residuals of shape {tuple(residual.shape)}: give [record period]")
    r = residual.to(torch.float64)
    here = r.isfinite()
    x, m = torch.where(here, r - torch.nanmean(r, 0), 0.0), here.to(torch.float64)
    n = m.T @ m
    first, second, square = x.T @ m, m.T @ x, (x.square().T @ m)
    cover = x.T @ x - first * second / n.clamp(min=1)
    one, two = square - first.square() / n.clamp(min=1), square.T - second.square() / n.clamp(min=1)
    floor = 1e-12 * square.clamp(min=1e-300)
    good = (n >= max(least, 2)) & (one > floor) & (two > floor.T)
    return torch.where(good, cover / torch.where(good, one * two, 1.0).sqrt(), torch.nan).clamp(-1, 1)


def baker_jayaram(periods_s: Sequence[float]) -> Float[Tensor, "period period"]:
    """Correlation of residuals of RotD50-like spectra within 0.01 to 10 s (Baker and Jayaram 2008, Earthquake Spectra 24, 299-317).

    With the shorter period S and the longer L, both in s:

        C1 = 1 - cos(pi/2 - 0.366 ln(L / max(S, 0.109)))
        C2 = 1 - 0.105 (1 - 1 / (1 + exp(100 L - 5))) (L - S) / (L - 0.0099)   for L < 0.2, else 0
        C3 = C2 for L < 0.109, else C1
        C4 = C1 + 0.5 (sqrt(C3) - C3) (1 + cos(pi S / 0.109))
        rho = C2 for L < 0.109; C1 for S > 0.109; min(C2, C4) for L < 0.2; else C4

    Raises SeislatentError for periods outside 0.01 to 10 s, where it was not fitted.
    """
    period = torch.tensor(list(map(float, periods_s)), dtype=torch.float64)
    if ((period < 0.01) | (period > 10) | period.isnan()).any():
        raise SeislatentError("Baker and Jayaram (2008) hold for periods from 0.01 to 10 s: leave others out")
    s, long = torch.minimum(period[:, None], period), torch.maximum(period[:, None], period)
    c1 = 1 - torch.cos(torch.pi / 2 - 0.366 * torch.log(long / s.clamp(min=0.109)))
    c2 = torch.where(long < 0.2, 1 - 0.105 * (1 - torch.sigmoid(5 - 100 * long)) * (long - s) / (long - 0.0099), 0.0)
    c3 = torch.where(long < 0.109, c2, c1)
    c4 = c1 + 0.5 * (c3.sqrt() - c3) * (1 + torch.cos(torch.pi * s / 0.109))
    mixed = torch.where(long < 0.2, torch.minimum(c2, c4), c4)
    return torch.where(long < 0.109, c2, torch.where(s > 0.109, c1, mixed))


@dataclass(frozen=True, kw_only=True)
class CorrelationGap:
    """How far a matrix of correlations is from a published one, over pairs of different periods where both are numbers."""

    mean: float
    """Found less published."""
    rms: float
    largest: float
    """Of the absolute differences."""
    pairs: int


def correlation_gap(found: Float[Tensor, "period period"], published: Float[Tensor, "period period"]) -> CorrelationGap:
    """The difference of two correlation matrices; all NaN where no pair is left.

    Raises SeislatentError where the shapes differ.
    """
    if found.shape != published.shape or found.ndim != 2:
        raise SeislatentError(f"correlations of shapes {tuple(found.shape)} and {tuple(published.shape)} cannot be compared")
    gap = (found - published.to(found.device))[torch.triu(torch.ones_like(found, dtype=torch.bool), 1)]
    gap = gap[gap.isfinite()]
    if not gap.numel():
        return CorrelationGap(mean=float("nan"), rms=float("nan"), largest=float("nan"), pairs=0)
    return CorrelationGap(
        mean=gap.mean().item(), rms=gap.square().mean().sqrt().item(), largest=gap.abs().max().item(), pairs=gap.numel()
    )
