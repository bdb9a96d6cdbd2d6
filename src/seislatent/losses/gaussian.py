"""Divergences of Gaussians with diagonal covariance, and their product."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.losses.precision import in_full


class Gaussian(NamedTuple):
    """Mean and logarithm of the variance, number by number; unpacks into the arguments of the functions below."""

    mean: Float[Tensor, "batch ..."]
    log_variance: Float[Tensor, "batch ..."]


@in_full
def kl_to_standard(mean: Float[Tensor, "batch ..."], log_variance: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
    """KL divergence of N(mean, variance) from N(0, I): 1/2 sum of (mean^2 + variance - 1 - log variance), summed over a code.

    Kingma and Welling (2014, appendix B); seed 004, equation 2.15. 0 to infinity, nats. Finite up to a log variance of 88 in
    float32. Blind to which number of the code carries the information, and to a rotation that keeps the covariance diagonal.
    """
    _alike(mean, log_variance)
    # expm1(l) - l: at l near 0 the difference exp(l) - 1 - l would be all rounding
    return ((mean.square() + torch.expm1(log_variance) - log_variance) / 2).flatten(1).sum(1)


@in_full
def kl_of_gaussians(
    mean: Float[Tensor, "batch ..."],
    log_variance: Float[Tensor, "batch ..."],
    other_mean: Float[Tensor, "batch ..."],
    other_log_variance: Float[Tensor, "batch ..."],
) -> Float[Tensor, " batch"]:
    """KL divergence of the first Gaussian from the other: `kl_of_gaussians(*first, *other)`.

        1/2 sum of ( v / v' - 1 - log(v / v') + (m - m')^2 / v' ),

    Kullback (1959, chapter 9); with the posterior of all records first and that of one record second it is H of seed 003,
    equation 19. 0 to infinity, nats; not symmetric.
    """
    _alike(mean, log_variance, other_mean, other_log_variance)
    ratio = log_variance - other_log_variance
    square = (mean - other_mean).square() * torch.exp(-other_log_variance)
    return ((square + torch.expm1(ratio) - ratio) / 2).flatten(1).sum(1)


@in_full
def product_of_gaussians(
    mean: Float[Tensor, "batch ..."],
    log_variance: Float[Tensor, "batch ..."],
    group: Int[Tensor, " batch"],
    groups: int | None = None,
) -> Gaussian:
    """The normalised product of the Gaussians of each group: precisions add up, means are weighed by them.

        1 / V = sum over k of 1 / V_k,      mu = V sum over k of mu_k / V_k,

    Gives [group ...]. Seed 003, equations 17 and 18; Bouchacourt et al. (2018). `group[i]` is the group of record i, from 0 to
    `groups` - 1 (counted where None). A group of one record is that record. Sums are taken relative to each group's most precise
    record, so that log variances of -200 or 200 neither overflow nor vanish.

    Raises SeislatentError where a group has no record: its product would have no width.
    """
    _alike(mean, log_variance)
    count = int(group.max()) + 1 if groups is None else groups
    if group.shape != mean.shape[:1] or torch.bincount(group, minlength=count).eq(0).any() or int(group.max()) >= count:
        raise SeislatentError(f"groups of {len(mean)} records: number them 0 to {count - 1}, each with a record")
    shape = (count, *mean.shape[1:])
    index = group.view(-1, *[1] * (mean.ndim - 1)).expand_as(mean)
    precise = log_variance.detach().new_full(shape, -torch.inf).scatter_reduce(0, index, -log_variance.detach(), "amax")
    weight = torch.exp(-log_variance - precise[group])
    total = mean.new_zeros(shape).index_add(0, group, weight)
    weighed = mean.new_zeros(shape).index_add(0, group, weight * mean)
    return Gaussian(weighed / total, -precise - total.log())


def _alike(*tensors: Tensor) -> None:
    if any(t.shape != tensors[0].shape for t in tensors) or tensors[0].ndim < 2:
        raise SeislatentError(f"means and log variances {[list(t.shape) for t in tensors]}: give all as [batch latent], alike")
