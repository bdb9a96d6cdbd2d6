"""Latents against N(0, I): each dimension by its moments and by Kolmogorov and Smirnov's test, all together by covariance and
energy.

A sampler that draws z from N(0, I) makes what its decoder was taught only where the codes of real records are so distributed. Seed
004 follows one p-value through training (figure 4.10 d); here every dimension has its own, corrected for their number, with its
size: with ten thousand records a harmless difference is significant, so read the statistic D beside p. KS of each dimension is
blind to correlation between dimensions, which the two joint tests see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import special, stats
from torch import Tensor

from seislatent.errors import SeislatentError, unknown
from seislatent.metrics.points import Labels, checked_generator, checked_labels, checked_sets, row_chunks, squared_distances


@dataclass(frozen=True, kw_only=True)
class Normality:
    """Per latent dimension [*set latent], and joint values [*set]; float64. In brackets: the value under N(0, I)."""

    mean: Float[Tensor, "*set latent"]
    """(0)"""
    std: Float[Tensor, "*set latent"]
    """Divided by records - 1 (1); near 0 where the dimension has collapsed."""
    skewness: Float[Tensor, "*set latent"]
    """Third standardised moment (0); 0 for a constant."""
    kurtosis: Float[Tensor, "*set latent"]
    """Fourth standardised moment less 3 (0); 0 for a constant."""
    divergence_nats: Float[Tensor, "*set latent"]
    """KL of the Gaussian of this mean and std from N(0, 1), 0 to +inf (0); +inf for a constant."""
    statistic: Float[Tensor, "*set latent"]
    """D of Kolmogorov and Smirnov, 0 to 1: greatest difference of the distribution functions (about 0.87 / sqrt(records
    tested))."""
    p_value: Float[Tensor, "*set latent"]
    """Of D, exact for independent records, one dimension by itself."""
    adjusted: Float[Tensor, "*set latent"]
    """p-value corrected for the number of dimensions."""
    rejected: Bool[Tensor, "*set latent"]
    """True where the adjusted p-value is below the level."""
    identity_statistic: Float[Tensor, "*set"]
    """W of Ledoit and Wolf 2002 (eq. 14): mean squared departure of the covariance from I, corrected for the number of records
    (0)."""
    identity_p_value: Float[Tensor, "*set"]
    """Of covariance I, by n d W / 2 ~ chi^2 with d (d + 1) / 2 degrees of freedom; for Gaussian latents."""
    energy_statistic: Float[Tensor, "*set"]
    """Energy distance to N(0, I), 0 to +inf (near 0)."""
    energy_p_value: Float[Tensor, "*set"]
    """Share of simulated N(0, I) sets with as large an energy distance, the given one counted."""
    tested: int
    """Records that the tests stand on; the moments stand on all."""


@torch.no_grad()
def normality(
    latents: Float[Tensor, "*set record latent"],
    generator: torch.Generator,
    *,
    events: Labels | None = None,
    level: float = 0.05,
    correction: Literal["holm", "benjamini-hochberg"] = "holm",
    energy_records: int = 500,
    simulations: int = 199,
) -> Normality:
    """Moments and tests of latents against N(0, I).

    Tests want independent records: with `events`, one record of each event, drawn at random, is tested. `holm` bounds the
    probability of any false rejection under any dependence (Holm 1979), `benjamini-hochberg` the expected share of false ones. The
    energy test (Székely and Rizzo 2005) takes at most `energy_records` of them, drawn at random: its time grows with their square
    times `simulations`.

    Raises SeislatentError for fewer than two records or events, values not finite, or an unknown correction.
    """
    (sets,), shape = checked_sets(latents, names=("latents",), least=2)
    checked_generator(generator)
    if correction not in ("holm", "benjamini-hochberg"):
        raise SeislatentError(unknown("correction", correction, ("holm", "benjamini-hochberg")))
    if not 0 < level < 1 or energy_records < 2 or simulations < 1:
        raise SeislatentError(f"level {level}, {energy_records} records, {simulations} simulations: level 0 to 1, 2 and 1 at least")
    chosen = _one_per_event(checked_labels(events, sets.shape[1], "events"), generator)
    some = chosen[torch.randperm(len(chosen), generator=generator)[:energy_records]]
    null = _energy_null(len(some), sets.shape[2], simulations, generator)
    rows = []
    for one in sets:
        tested = one[chosen.to(one.device)].to(torch.float64)
        rows.append(
            {**_moments(one), **_kolmogorov(tested, correction), **_identity(tested), **_energy(one[some.to(one.device)], null)}
        )
    values = {name: torch.stack([row[name].to(sets.device) for row in rows]) for name in rows[0]}
    values = {name: v.reshape((*shape, *v.shape[1:])) for name, v in values.items()}
    return Normality(**values, rejected=values["adjusted"] < level, tested=len(chosen))


def adjusted_p_values(
    p: Float[Tensor, "*set test"], correction: Literal["holm", "benjamini-hochberg"]
) -> Float[Tensor, "*set test"]:
    """p-values corrected for their number: reject what is below the level."""
    n = p.shape[-1]
    ordered, order = p.sort(-1)
    place = torch.arange(1, n + 1, dtype=p.dtype, device=p.device)
    if correction == "holm":
        stepped = (ordered * (n + 1 - place)).cummax(-1).values
    else:
        stepped = (ordered * n / place).flip(-1).cummin(-1).values.flip(-1)
    return torch.empty_like(p).scatter_(-1, order, stepped.clamp(max=1))


def _one_per_event(label: Tensor, generator: torch.Generator) -> Tensor:
    number = int(label.max()) + 1
    if number < 2:
        raise SeislatentError("all records are of one event: a test needs two events at least")
    order = torch.randperm(len(label), generator=generator)
    first = torch.full((number,), len(label)).scatter_reduce_(0, label[order], torch.arange(len(label)), "amin")
    return order[first].sort().values


def _moments(points: Tensor) -> dict[str, Tensor]:
    n, d = points.shape
    mean = torch.stack([points[i].to(torch.float64).sum(0) for i in row_chunks(n, d)]).sum(0) / n
    power = torch.zeros(3, d, dtype=torch.float64, device=points.device)
    for i in row_chunks(n, 4 * d):
        apart = points[i].to(torch.float64) - mean
        power += torch.stack([apart.pow(k).sum(0) for k in (2, 3, 4)]) / n
    # what rounding leaves of a constant is no spread
    flat = power[0].sqrt() <= 1e-13 * mean.abs()
    safe = torch.where(flat, 1.0, power[0])
    variance = torch.where(flat, 0.0, power[0] * n / (n - 1))
    return {
        "mean": mean,
        "std": variance.sqrt(),
        "skewness": torch.where(flat, 0.0, power[1] / safe.pow(1.5)),
        "kurtosis": torch.where(flat, 0.0, power[2] / safe.square() - 3),
        "divergence_nats": (mean.square() + variance - 1 - variance.log()) / 2,
    }


def _kolmogorov(tested: Tensor, correction: Literal["holm", "benjamini-hochberg"]) -> dict[str, Tensor]:
    n = len(tested)
    step = torch.arange(n, dtype=torch.float64, device=tested.device)[:, None] / n
    greatest = []
    for columns in row_chunks(tested.shape[1], 4 * n):
        reached = torch.special.ndtr(tested[:, columns].sort(0).values)
        greatest.append(torch.maximum((reached - step).amax(0), (step + 1 / n - reached).amax(0)))
    d = torch.cat(greatest)
    p = torch.from_numpy(np.asarray(stats.kstwo.sf(d.cpu().numpy(), n))).clamp(0, 1)
    return {"statistic": d, "p_value": p, "adjusted": adjusted_p_values(p, correction)}


def _identity(tested: Tensor) -> dict[str, Tensor]:
    n, d = len(tested) - 1, tested.shape[1]
    apart = tested - tested.mean(0)
    gram = apart.T @ apart if d <= len(tested) else apart @ apart.T
    trace, squares = gram.trace() / n, gram.square().sum() / n**2
    w = (squares - 2 * trace + d) / d - d / n * (trace / d).square() + d / n
    degrees = d * (d + 1) / 2
    p = special.chdtrc(degrees, max(float(n * d * w / 2), 0.0))
    return {"identity_statistic": w, "identity_p_value": torch.tensor(float(p), dtype=torch.float64)}


def _energy(points: Tensor, null: Tensor) -> dict[str, Tensor]:
    value = energy_from_normal(points.to(torch.float64))
    p = (1 + (null >= value.cpu()).sum()) / (1 + len(null))
    return {"energy_statistic": value, "energy_p_value": p.to(torch.float64)}


def energy_from_normal(points: Float[Tensor, "record latent"]) -> Float[Tensor, ""]:
    """2 mean E|x - Z| - E|Z - Z'| - mean |x - x'|, Z of N(0, I): the energy distance of points to N(0, I), 0 at least.

    E|x - Z| = sqrt 2 G((d + 1) / 2) / G(d / 2) M(-1/2, d/2, -|x|^2 / 2), the mean of a noncentral chi (Székely and Rizzo 2005, eq.
    9, as its closed form); E|Z - Z'| = 2 G((d + 1) / 2) / G(d / 2).
    """
    n, d = points.shape
    ratio = math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    squares = points.square().sum(1).cpu().numpy()
    to_normal = math.sqrt(2) * ratio * float(np.mean(_kummer(d, squares / 2)))
    mean = points.mean(0)
    total = points.new_zeros(())
    for rows in row_chunks(n, 2 * n):
        squared = squared_distances(points[rows] - mean, points - mean)
        own = torch.arange(rows.start, rows.stop, device=points.device)
        squared[own - rows.start, own] = 0
        total += squared.sqrt().sum()
    return (2 * to_normal - 2 * ratio - total / n**2).clamp(min=0)


def _kummer(d: int, y: np.ndarray) -> np.ndarray:
    """M(-1/2, d/2, -y); beyond y = 700, where the series loses its digits, by its expansion at infinity."""
    a, b = -0.5, d / 2
    far = y > 700 + 50 * b
    near = special.hyp1f1(a, b, -np.where(far, 0.0, y))
    z = np.where(far, y, 1.0)
    leading = math.exp(math.lgamma(b) - math.lgamma(b - a)) * z ** (-a)
    terms = 1 + a * (a - b + 1) / z + a * (a + 1) * (a - b + 1) * (a - b + 2) / (2 * z**2)
    return np.asarray(np.where(far, leading * terms, near))


def _energy_null(n: int, d: int, simulations: int, generator: torch.Generator) -> Tensor:
    drawn = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(simulations))
    return torch.stack([energy_from_normal(points) for points in drawn])
