"""Virtual seismograms of a trained SymAE: one group's coherent code beside other nuisance codes, and what they still tell of it.

    Accumulated of group j --Q(s | X_j)--> s --redatum with m_i of any record--> y_j[m_i] --evidence--> H, equation 20
    means of H over the records of each group i --> matrix of average information loss, figure 6
    m --Adam, several starts--> least H[y_j[m]] + alpha |y_j[m]|_1 with zero mean and unit variance: the optimal one, equation 21

Tensors in and out; files are `bulk`'s. Bharadwaj (seed 003), sections 3.4 and 3.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from seislatent.errors import SeislatentError
from seislatent.losses.gaussian import Gaussian, kl_to_standard
from seislatent.systems.symmetric import accumulation
from seislatent.systems.symmetric.accumulation import Accumulated
from seislatent.systems.symmetric.symae import PIECE, SymAE, standardised


@dataclass(frozen=True, kw_only=True, eq=False)
class Ensemble:
    """Virtual seismograms of one group, one per nuisance code."""

    records: Float[Tensor, "record channel time"]
    """Zero mean, unit variance."""
    loss: Float[Tensor, " record"]
    """H of each in nats (equation 20): what is lost of the group's information. Low is informative."""


def unshifted(system: SymAE, nuisance: Float[Tensor, "record nuisance"]) -> Float[Tensor, "record nuisance"]:
    """The same nuisance codes of records that are not late: their virtual seismograms lie alike."""
    if system.localiser is None:
        return nuisance
    return torch.cat([nuisance[:, :-1], torch.zeros_like(nuisance[:, -1:])], 1)


@torch.no_grad()
def ensemble(
    system: SymAE,
    group: Accumulated,
    nuisance: Float[Tensor, "record nuisance"],
    generator: Generator | None = None,
) -> Ensemble:
    """Redatuming: the coherent code of one group beside these nuisance codes (`SymAE.nuisance`, of whatever records).

    With a generator each record has a coherent code of its own, drawn from Q(s | X_j), so that the spread shows how well the group
    knows its code; without one, all have its mean.
    """
    q = _one(group)
    s = q.mean.expand(len(nuisance), -1)
    if generator is not None:
        s = s + torch.randn(s.shape, generator=generator, dtype=s.dtype, device=s.device) * torch.exp(q.log_variance / 2)
    records = system.redatum(s, nuisance)
    return Ensemble(records=records, loss=_loss(system, q, records))


@dataclass(frozen=True, kw_only=True, eq=False)
class InformationLoss:
    """Figure 6: what is lost when the records of group j are seen along the paths of group i."""

    nats: Float[Tensor, "group path"]
    """Mean of H[y_j[m_i]] over the records of group i (column) with the coherent code of group j (row)."""
    known: Float[Tensor, " group"]
    """What each group knows beyond the prior, in nats: the loss of a record that says nothing."""

    @property
    def share(self) -> Float[Tensor, "group path"]:
        """Each row over what its group knows: 0, nothing is lost, 1, all; above 1 the record tells of another source."""
        return self.nats / self.known[:, None].clamp_min(1e-12)

    @property
    def similarity(self) -> Float[Tensor, "group path"]:
        """The losses scaled to 0 (the greatest of the matrix) ... 1 (the least): the paper's "higher values after normalization
        indicate greater similarity". All 1 where all losses are the same.
        """
        least, most = self.nats.min(), self.nats.max()
        return 1 - (self.nats - least) / (most - least).clamp_min(1e-12)

    @property
    def excess(self) -> Float[Tensor, "group path"]:
        """What others' paths lose beyond the group's own, symmetrised: (L_ji - L_jj + L_ij - L_ii) / 2 in nats, 0 on the diagonal.

        Groups whose records are poor lose much with any path; this takes it out, and is what is compared with how unlike the
        sources are.
        """
        more = self.nats - self.nats.diagonal()[:, None]
        return (more + more.T) / 2


@torch.no_grad()
def information_loss(
    system: SymAE, x: Float[Tensor, "record channel time"], group: Int[Tensor, " record"], most: int | None = None
) -> InformationLoss:
    """The matrix of average information loss between all groups, 0 to the largest number in `group`.

    Virtual seismograms are made without shifts. `most` takes the first so many records of each group for its paths.

    Raises:
        SeislatentError: a group without records.
    """
    count = int(group.max()) + 1
    if bool(torch.bincount(group, minlength=count).eq(0).any()):
        raise SeislatentError(f"a group of {count} has no record: number groups 0 to n - 1 without gaps")
    q = system.accumulate(x, group, count).posterior()
    rows = [torch.nonzero(group == k)[:most, 0] for k in range(count)]
    paths = unshifted(system, torch.cat([system.nuisance(part) for part in x[torch.cat(rows)].split(PIECE)]))
    its = torch.cat([torch.full((len(r),), k, device=x.device) for k, r in enumerate(rows)])
    nats = torch.zeros(count, count, dtype=torch.float64, device=x.device)
    for j in range(count):
        one = Gaussian(q.mean[j : j + 1], q.log_variance[j : j + 1])
        loss = _loss(system, one, system.redatum(one.mean.expand(len(paths), -1), paths))
        nats[j].index_add_(0, its, loss)
    return InformationLoss(nats=nats / torch.bincount(its, minlength=count), known=kl_to_standard(*q))


@dataclass(frozen=True, kw_only=True, eq=False)
class Optimal:
    """The optimal virtual seismogram of a group, and the way to it."""

    record: Float[Tensor, "channel time"]
    """float64; of zero mean and unit variance to rounding."""
    nuisance: Float[Tensor, " nuisance"]
    """Its nuisance code, for `SymAE.redatum`."""
    start: int
    """The start that it came from."""
    best: Float[Tensor, " start"]
    """Least objective that each start found."""
    objective: Float[Tensor, "start step"]
    """KL divergence + alpha * L1 after so many steps, the first before any."""
    loss: Float[Tensor, "start step"]
    """The KL divergence alone, in nats."""
    l1: Float[Tensor, "start step"]
    """Sum of |y| over the record."""
    mean: Float[Tensor, "start step"]
    """Largest |mean| of a component: the first constraint's residual."""
    variance: Float[Tensor, "start step"]
    """|variance - 1|: the second constraint's."""


def starts(
    system: SymAE, x: Float[Tensor, "record channel time"], group: Int[Tensor, " record"], count: int = 8
) -> Float[Tensor, "start nuisance"]:
    """Where to begin: the prior's mean, then the nuisance codes of the records with the lowest H, not shifted."""
    least = system.informativeness(x, group).argsort(stable=True)[: count - 1]
    with torch.no_grad():
        found = unshifted(system, system.nuisance(x[least]))
    return torch.cat([torch.zeros_like(found[:1]), found])


def optimal(
    system: SymAE,
    group: Accumulated,
    begin: Float[Tensor, "start nuisance"],
    *,
    alpha: float = 0.02,
    steps: int = 200,
    rate: float = 0.1,
) -> Optimal:
    """Equation 21: the nuisance code whose virtual seismogram keeps most of the group's information and is sparse.

    Both constraints hold by construction: every candidate is projected, its means taken out and its deviation divided out, in
    float64, before anything is measured of it. Adam, its rate falling to 0 as a cosine; all starts at once, each by itself; what is
    returned is the best point on any of their ways. No shift is sought: a late seismogram tells no more than one in time.

    Args:
        system: trained.
        group: of one group, as from `SymAE.accumulate(...)[j]`.
        begin: nuisance codes to start from, such as `starts`.
        alpha: weight of sum |y|, in nats; of a record of 512 samples and unit variance the sum is about 100 (few short pulses) to
            400 (noise).
        steps: of Adam.
        rate: its first step.

    Raises:
        SeislatentError: more than one group, a negative alpha, or no step.
    """
    if not alpha >= 0 or steps < 1 or not len(begin):
        raise SeislatentError(f"alpha {alpha}, {steps} steps from {len(begin)} starts: give alpha 0 or more, one or more of each")
    q = _one(group)
    s = q.mean.expand(len(begin), -1)
    free = unshifted(system, begin.detach()).clone().requires_grad_()
    adam = torch.optim.Adam([free], rate)
    best, codes = torch.full((len(begin),), torch.inf, dtype=torch.float64, device=free.device), free.detach().clone()
    told: dict[str, list[Tensor]] = {name: [] for name in ("objective", "loss", "l1", "mean", "variance")}
    for step in range(steps + 1):
        y = standardised(system.redatum(s, unshifted(system, free)).double())
        loss, l1 = _loss(system, q, y.to(free)), y.abs().sum((1, 2))
        objective = loss + alpha * l1
        now = {"objective": objective, "loss": loss, "l1": l1, "mean": y.mean(2).abs().amax(1)}
        now["variance"] = (y.square().mean((1, 2)) - 1).abs()
        for name, values in now.items():
            told[name].append(values.detach())
        better = objective.detach() < best
        best, codes[better] = torch.where(better, objective.detach(), best), free.detach()[better]
        if step < steps:
            (free.grad,) = torch.autograd.grad(objective.sum(), free)
            adam.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            adam.step()
    chosen = int(best.argmin())
    with torch.no_grad():
        record = standardised(system.redatum(s[:1], codes[chosen : chosen + 1]).double())[0]
    paths = {name: torch.stack(values, 1) for name, values in told.items()}
    return Optimal(record=record, nuisance=codes[chosen], start=chosen, best=best, **paths)


def _one(group: Accumulated) -> Gaussian:
    if len(group.precision) != 1:
        raise SeislatentError(f"{len(group.precision)} groups: give one, such as accumulated[0]")
    return group.posterior()


def _loss(system: SymAE, q: Gaussian, records: Tensor) -> Tensor:
    """H of virtual seismograms of one group [record], equation 20; gradients pass."""
    found = []
    for part in records.split(PIECE):
        told = system.evidence(system.aligned(system.standard(part))[0])
        each = Gaussian(q.mean.expand(len(part), -1), q.log_variance.expand(len(part), -1))
        found.append(accumulation.informativeness(each, told))
    return torch.cat(found)
