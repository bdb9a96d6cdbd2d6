"""What records tell about the coherent code, and how it adds up: a product of Gaussians, in any order and in pieces.

    record k --coherent encoder--> Evidence: mean mu_k, precision 1 / V_k [record latent]
    group j  --sum over its records--> Accumulated: sum of 1 / V_k, sum of mu_k / V_k [group latent]
             --times the prior N(0, I)--> Q(s | X_j): 1 / V_j = 1 + sum of 1 / V_k,   mu_j = V_j sum of mu_k / V_k

Bharadwaj (seed 003), equations 16 to 20; Bouchacourt et al. (2018).

The prior is one expert of the product; in the paper's equations 17 and 18 it is none. Bayes' rule is P(s | X) ~ P(s) prod_k
P(x_k | s): what a record adds is a likelihood, and a product of n posteriors would hold the prior n times. It also keeps everything
defined: a record that says nothing has precision 0 and changes nothing, so a group of dead records, or of none, is the prior, and H
of a record of noise is not infinite but what the group knows beyond the prior. For groups that know much (precision far above 1)
the two agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.losses.gaussian import Gaussian, kl_of_gaussians


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What each record by itself says about the coherent code: a Gaussian factor, without the prior."""

    mean: Float[Tensor, "record latent"]
    precision: Float[Tensor, "record latent"]
    """1 / variance, in units of the prior's; 0: nothing is said."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Accumulated:
    """What groups of records have told so far. Of the same groups, two can be added: pieces give what the whole gives.

    Sums are float64: those of 10,000 records agree in any order to 1e-12 of their size. A record that is given twice counts twice.
    """

    precision: Float[Tensor, "group latent"]
    """Sum of the precisions."""
    weighed: Float[Tensor, "group latent"]
    """Sum of precision times mean."""
    records: Int[Tensor, " group"]
    """How many records were given, silent ones included."""

    @staticmethod
    def none(groups: int, latent: int, device: torch.device | str | None = None) -> Accumulated:
        """Groups of which nothing is known yet: their posterior is the prior."""
        zeros = torch.zeros(groups, latent, dtype=torch.float64, device=device)
        return Accumulated(precision=zeros, weighed=zeros, records=torch.zeros(groups, dtype=torch.long, device=device))

    @staticmethod
    def of(told: Evidence, group: Int[Tensor, " record"], groups: int) -> Accumulated:
        """Of some records; gradients pass."""
        if group.shape != told.mean.shape[:1] or (len(group) and not 0 <= int(group.min()) <= int(group.max()) < groups):
            raise SeislatentError(f"groups of {len(told.mean)} records: give each a whole number from 0 to {groups - 1}")
        precision = told.precision.double()
        empty = precision.new_zeros(groups, precision.shape[1])
        return Accumulated(
            precision=empty.index_add(0, group, precision),
            weighed=empty.index_add(0, group, precision * told.mean.double()),
            records=torch.bincount(group, minlength=groups),
        )

    def __add__(self, other: Accumulated) -> Accumulated:
        if self.precision.shape != other.precision.shape:
            shapes = f"{[*self.precision.shape]} and {[*other.precision.shape]}"
            raise SeislatentError(f"groups of shapes {shapes} are not the same ones: they do not add")
        return Accumulated(
            precision=self.precision + other.precision,
            weighed=self.weighed + other.weighed,
            records=self.records + other.records,
        )

    def __getitem__(self, groups: int | slice | Tensor) -> Accumulated:
        """Some of the groups; of one alone, as a group of one row."""
        rows = slice(groups, groups + 1 or None) if isinstance(groups, int) else groups
        return Accumulated(precision=self.precision[rows], weighed=self.weighed[rows], records=self.records[rows])

    def posterior(self) -> Gaussian:
        """Q(s | X) [group latent], in float64: what was told, times the prior."""
        precision = 1 + self.precision
        return Gaussian(self.weighed / precision, -precision.log())


def alone(told: Evidence) -> Gaussian:
    """Q(s | x_k) of each record, as if it were a group of one."""
    precision = 1 + told.precision.double()
    return Gaussian(told.precision.double() * told.mean.double() / precision, -precision.log())


def informativeness(together: Gaussian, told: Evidence, group: Int[Tensor, " record"] | None = None) -> Float[Tensor, " record"]:
    """H of each record: KL divergence of Q(s | X_j) from Q(s | x_k), in nats; equations 19 and 20.

    What is lost when all that is known of its group is replaced by this record alone: 0, nothing (a group of one); for a record
    that says nothing, what the group knows beyond the prior. **Low is informative.**

    `group` gives each record's row of `together`; None: row by row.
    """
    rows = together if group is None else Gaussian(together.mean[group], together.log_variance[group])
    return kl_of_gaussians(*rows, *alone(told))
