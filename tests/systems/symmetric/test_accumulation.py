"""A product of Gaussians and the prior: closed form, order, pieces, and groups of none, one and ten thousand."""

from __future__ import annotations

import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.losses.gaussian import Gaussian, kl_to_standard, product_of_gaussians
from seislatent.systems.symmetric.accumulation import Accumulated, Evidence, alone, informativeness


def told(records, latent=3, seed=0):
    dice = torch.Generator().manual_seed(seed)
    spread = torch.randn(records, latent, generator=dice)
    return Evidence(mean=torch.randn(records, latent, generator=dice), precision=torch.exp(2 * spread))


def some(its, rows):
    return Evidence(mean=its.mean[rows], precision=its.precision[rows])


def test_the_product_on_a_grid():
    """Densities multiplied point by point, and normalised."""
    its = told(4, latent=1)
    q = Accumulated.of(its, torch.zeros(4, dtype=torch.long), 1).posterior()
    s = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    log = -(s**2) / 2 - (its.precision.double() * (s - its.mean.double()) ** 2 / 2).sum(0)
    density = torch.exp(log - log.max())
    density /= density.sum()
    mean = (density * s).sum()
    torch.testing.assert_close(q.mean[0, 0], mean, rtol=0, atol=1e-9)
    torch.testing.assert_close(q.log_variance[0, 0].exp(), (density * (s - mean) ** 2).sum(), rtol=1e-7, atol=0)


def test_it_is_the_papers_product_with_the_prior_as_one_more_record():
    its, group = told(9), torch.tensor([0, 1, 0, 2, 2, 1, 0, 0, 2])
    q = Accumulated.of(its, group, 3).posterior()
    mean = torch.cat([its.mean, torch.zeros(3, 3)]).double()
    log_variance = torch.cat([-its.precision.double().log(), torch.zeros(3, 3)])
    expected = product_of_gaussians(mean, log_variance, torch.cat([group, torch.arange(3)]))
    torch.testing.assert_close(q.mean, expected.mean)
    torch.testing.assert_close(q.log_variance, expected.log_variance, rtol=0, atol=1e-12)


def test_order_and_pieces_change_nothing():
    its, dice = told(10_000, latent=8), torch.Generator().manual_seed(1)
    group = torch.zeros(10_000, dtype=torch.long)
    whole = Accumulated.of(its, group, 1)
    shuffled = Accumulated.of(some(its, torch.randperm(10_000, generator=dice)), group, 1)
    pieces = Accumulated.none(1, 8)
    for rows in torch.arange(10_000).split(300):
        pieces = pieces + Accumulated.of(some(its, rows), group[rows], 1)
    for other in (shuffled, pieces):
        torch.testing.assert_close(other.precision, whole.precision, rtol=1e-12, atol=0)
        torch.testing.assert_close(other.posterior().mean, whole.posterior().mean, rtol=0, atol=1e-12)
        assert other.records.tolist() == [10_000]


def test_groups_of_very_different_sizes_do_not_touch():
    its = told(1001)
    group = torch.ones(1001, dtype=torch.long)
    group[500] = 0
    both = Accumulated.of(its, group, 3)
    assert both.records.tolist() == [1, 1000, 0]
    lone = alone(some(its, [500]))
    torch.testing.assert_close(both[0].posterior().mean, lone.mean)
    torch.testing.assert_close(both[1].precision, Accumulated.of(some(its, group == 1), group[group == 1] - 1, 1).precision)
    nothing = both[-1].posterior()
    assert not nothing.mean.any() and not nothing.log_variance.any(), "a group of none is the prior"


def test_what_says_nothing_changes_nothing_and_twice_counts_twice():
    its, group = told(5), torch.zeros(6, dtype=torch.long)
    dead = Evidence(mean=torch.cat([its.mean, torch.full((1, 3), 7.0)]), precision=torch.cat([its.precision, torch.zeros(1, 3)]))
    torch.testing.assert_close(Accumulated.of(dead, group, 1).posterior().mean, Accumulated.of(its, group[:5], 1).posterior().mean)
    twice = Accumulated.of(its, group[:5], 1) + Accumulated.of(its, group[:5], 1)
    torch.testing.assert_close(twice.precision, 2 * Accumulated.of(its, group[:5], 1).precision)
    assert twice.records.tolist() == [10]


def test_informativeness():
    its, group = told(7), torch.tensor([0, 0, 0, 0, 1, 1, 2])
    its.precision[3] = 0  # says nothing
    q = Accumulated.of(its, group, 3).posterior()
    h = informativeness(q, its, group)
    assert bool((h[:6] > 0).all()) and abs(float(h[6])) < 1e-12, "a group of one loses nothing"
    torch.testing.assert_close(h[3], kl_to_standard(*q)[0])
    torch.testing.assert_close(h[:1], informativeness(Gaussian(q.mean[:1], q.log_variance[:1]), some(its, [0])))
    better = Evidence(mean=its.mean, precision=its.precision.clone())
    precision = q.log_variance[0].neg().exp()
    better.precision[1], better.mean[1] = precision - 1, q.mean[0] * precision / (precision - 1)  # knows all that the group does
    assert float(informativeness(q, better, group)[1]) < 1e-6


def test_gradients_pass():
    its = told(4)
    its.mean.requires_grad_(), its.precision.requires_grad_()
    kl_to_standard(*Accumulated.of(its, torch.tensor([0, 0, 1, 1]), 2).posterior()).sum().backward()
    assert bool((its.mean.grad != 0).all()) and bool((its.precision.grad != 0).all())


@pytest.mark.parametrize("group", [[0, 1], [0, 1, 2], [-1, 0, 1]])
def test_groups_that_do_not_fit(group):
    with pytest.raises(SeislatentError, match="whole number from 0 to 1"):
        Accumulated.of(told(3), torch.tensor(group), 2)
    with pytest.raises(SeislatentError, match="do not add"):
        Accumulated.none(2, 3) + Accumulated.none(3, 3)
