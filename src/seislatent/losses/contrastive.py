"""Codes of two views of one record should be each other's nearest."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.losses.precision import in_full


@in_full
def nt_xent(
    view: Float[Tensor, "batch latent"],
    other: Float[Tensor, "batch latent"],
    temperature: float = 0.5,
    *,
    group: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "2 batch"]:
    """Cross-entropy of finding a view's partner among all 2 N - 1 others, both ways: one value per view.

        l(i, j) = -log( exp(cos(z_i, z_j) / T) / sum over k not i of exp(cos(z_i, z_k) / T) ),

    Chen et al. (2020, SimCLR, equation 1); seed 004, equation 2.31, where z_j in the denominator should be z_k. Records with the
    same number in `group` (of one earthquake, say) are no negatives of each other: they are left out of the sum.

    Nats. Above 0; log(2 N - 1) where all codes are one, which is what a collapsed encoder gets; least value
    log(1 + (2 N - 2) exp(-(1 + 1 / (N - 1)) / T)) where views agree and the N records spread as a simplex. Blind to the length of
    codes. Negatives are those of one process.
    """
    _check(temperature, view, other)
    n = len(view)
    z = _unit(torch.cat([view, other]))
    logits = z @ z.T / temperature
    partner = torch.arange(2 * n, device=z.device).roll(n)
    hidden = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    if group is not None:
        own = _same(group, n).repeat(2, 2)
        own[torch.arange(2 * n, device=z.device), partner] = False
        hidden = hidden | own
    return F.cross_entropy(logits.masked_fill(hidden, -torch.inf), partner, reduction="none").view(2, n)


@in_full
def info_nce(
    query: Float[Tensor, "batch latent"],
    positive: Float[Tensor, "batch latent"],
    negatives: Float[Tensor, "negative latent"] | None = None,
    temperature: float = 0.07,
    *,
    group: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, " batch"]:
    """Cross-entropy of finding a query's positive among negatives: one value per query, one way.

        -log( exp(q_i . k_i / T) / (exp(q_i . k_i / T) + sum over negatives k of exp(q_i . k / T)) ),   q, k of length 1,

    van den Oord et al. (2018, equation 4), He et al. (2020, MoCo, equation 1); seed 004, equation 2.32, corrected. Negatives are
    those given (a queue), else the positives of the other records, less those of the same `group`. Gradients reach all that have
    one: detach the keys of a momentum encoder.

    Nats, above 0; log(1 + negatives) where all codes are one. log(1 + negatives) minus the mean is a lower bound of the mutual
    information, so it tells no more than log(1 + negatives) nats. Blind to the length of codes.
    """
    _check(temperature, query, positive)
    q, k = _unit(query), _unit(positive)
    if negatives is not None:
        if group is not None:
            raise SeislatentError("group tells which records of the batch are no negatives: leave it out where negatives are given")
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ _unit(negatives).T], 1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device), reduction="none")
    logits = q @ k.T / temperature
    if group is not None:
        hidden = _same(group, len(q)) & ~torch.eye(len(q), dtype=torch.bool, device=q.device)
        logits = logits.masked_fill(hidden, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(q), device=q.device), reduction="none")


def _unit(z: Tensor) -> Tensor:
    """On the unit sphere; codes shorter than 1e-6 keep a finite gradient and shrink to the origin."""
    return z / (z.square().sum(-1, keepdim=True) + 1e-12).sqrt()


def _same(group: Tensor, n: int) -> Tensor:
    if group.shape != (n,):
        raise SeislatentError(f"group is {list(group.shape)}: give one number for each of the {n} records")
    return group[:, None] == group[None, :]


def _check(temperature: float, a: Tensor, b: Tensor) -> None:
    if not temperature > 0:
        raise SeislatentError(f"temperature {temperature}: give a positive number (0.05 to 0.5 are usual)")
    if a.shape != b.shape or a.ndim != 2 or not len(a):
        raise SeislatentError(f"codes {list(a.shape)} and {list(b.shape)}: give both as [batch latent], alike, with rows")
