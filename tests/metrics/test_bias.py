import math

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics.bias import baker_jayaram, correlation, correlation_gap, log_ratio, split_residuals


def nested(events=200, each=12, tau=0.4, phi=0.6, bias=0.25, seed=0):
    g = np.random.default_rng(seed)
    r = bias + tau * g.normal(size=(events, 1)) + phi * g.normal(size=(events, each))
    return torch.from_numpy(r.reshape(-1, 1)), np.repeat(np.arange(events), each)


def test_variances_that_were_put_in_come_out():
    r, event = nested()
    found = split_residuals(r, event)
    assert found.bias.item() == pytest.approx(0.25, abs=3 * found.bias_error.item())
    assert found.tau.item() == pytest.approx(0.4, abs=0.05) and found.phi.item() == pytest.approx(0.6, abs=0.02)
    assert found.sigma.item() == pytest.approx(math.hypot(found.tau.item(), found.phi.item()))
    assert found.bias_error.item() == pytest.approx(math.sqrt(0.4**2 / 200 + 0.6**2 / 2400), rel=0.1)
    assert found.records.item() == 2400 and len(found.events) == 200


def test_unequal_groups_by_hand():
    """Groups (0, 2), (3), (4, 6, 8): phi^2 = (2 + 0 + 8) / 3; n_0 = (6 - 14 / 6) / 2."""
    r, event = torch.tensor([[0.0], [2.0], [3.0], [4.0], [6.0], [8.0]]), ["a", "a", "b", "c", "c", "c"]
    found = split_residuals(r, event)
    phi2, grand = 10 / 3, 23 / 6
    outer = 2 * (1 - grand) ** 2 + (3 - grand) ** 2 + 3 * (6 - grand) ** 2
    tau2 = (outer / 2 - phi2) / ((6 - 14 / 6) / 2)
    n, means = np.array([2, 1, 3]), np.array([1, 3, 6])
    weight = n / (n * tau2 + phi2)
    bias = (weight * means).sum() / weight.sum()
    assert found.phi.item() ** 2 == pytest.approx(phi2) and found.tau.item() ** 2 == pytest.approx(tau2)
    assert found.bias.item() == pytest.approx(bias)
    np.testing.assert_allclose(found.between[:, 0], tau2 * n * (means - bias) / (n * tau2 + phi2))
    np.testing.assert_allclose(found.within[:2, 0], [0 - bias - found.between[0, 0], 2 - bias - found.between[0, 0]])


def test_events_alike_have_no_tau_and_too_few_records_are_nan():
    same = split_residuals(torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]), ["a", "a", "b", "b"])
    assert same.tau == 0 and same.bias == 0 and same.between.abs().max() == 0 and same.phi.item() == pytest.approx(math.sqrt(2))
    one = split_residuals(torch.tensor([[1.0], [3.0]]), ["a", "a"])
    assert one.bias == 2 and one.tau.isnan() and one.sigma.item() == pytest.approx(math.sqrt(2)) and one.between.isnan().all()
    torch.testing.assert_close(one.within[:, 0], torch.tensor([-1.0, 1.0], dtype=torch.float64))
    single = split_residuals(torch.tensor([[1.0], [3.0], [5.0]]), ["a", "b", "c"])
    assert single.bias == 3 and single.phi.isnan() and single.tau.isnan() and single.sigma == 2
    exact = split_residuals(torch.zeros(4, 1), ["a", "a", "b", "b"])
    assert exact.bias == 0 and exact.sigma == 0 and exact.within.abs().max() == 0
    none = split_residuals(torch.full((2, 1), math.nan), ["a", "b"])
    assert none.bias.isnan() and none.sigma.isnan() and none.records == 0
    empty = split_residuals(torch.zeros(0, 2), [])
    assert empty.bias.isnan().all() and empty.events == ()


def test_missing_values_leave_other_periods_alone():
    r, event = nested(30, 4)
    both = torch.cat([r, r], 1)
    both[5:9, 1] = math.nan
    found = split_residuals(both, event)
    assert found.bias[0].item() == pytest.approx(split_residuals(r, event).bias.item(), rel=1e-12)
    keep = [i for i in range(120) if not 5 <= i < 9]
    assert found.tau[1].item() == pytest.approx(split_residuals(r[keep], event[keep]).tau[0].item(), rel=1e-12)
    assert found.within[5:9, 1].isnan().all() and found.within[:, 0].isfinite().all()


def test_log_ratio_is_never_infinite():
    found = log_ratio(torch.tensor([2.0, 0.0, 1.0, math.nan, -1.0]), torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0]))
    assert found[0].item() == pytest.approx(math.log(2)) and found[1:].isnan().all()
    with pytest.raises(SeislatentError, match="shape"):
        log_ratio(torch.ones(2), torch.ones(3))
    with pytest.raises(SeislatentError, match="period"):
        split_residuals(torch.ones(3), ["a"] * 3)


def test_correlation_is_numpy_s_and_leaves_gaps_out_pair_by_pair():
    g = np.random.default_rng(0)
    x = g.normal(size=(80, 4)) @ g.normal(size=(4, 4)) + 3
    np.testing.assert_allclose(correlation(torch.from_numpy(x)), np.corrcoef(x.T), atol=1e-12)
    holed = x.copy()
    holed[:10, 0] = np.nan
    found = correlation(torch.from_numpy(holed))
    assert found[0, 1].item() == pytest.approx(np.corrcoef(x[10:, 0], x[10:, 1])[0, 1])
    assert found[2, 3].item() == pytest.approx(np.corrcoef(x[:, 2], x[:, 3])[0, 1])
    assert correlation(torch.from_numpy(x[:9])).isnan().all()
    x[:, 2] = 7
    assert correlation(torch.from_numpy(x))[2].isnan().all()


def test_baker_jayaram_by_hand_and_by_pygmm():
    rho = baker_jayaram([0.05, 0.15, 1.0, 2.0])
    assert rho[2, 3].item() == pytest.approx(1 - math.cos(math.pi / 2 - 0.366 * math.log(2)))  # both above 0.109 s
    assert torch.equal(rho, rho.T) and (rho.diagonal() - 1).abs().max() < 1e-12
    pygmm = pytest.importorskip("pygmm.baker_jayaram_2008", reason="the comparison needs pygmm: pip install pygmm")
    periods = np.geomspace(0.01, 10, 61)
    theirs = np.stack([pygmm.calc_correls(periods, p) for p in periods])
    np.testing.assert_allclose(baker_jayaram(periods), theirs, atol=1e-12)
    for wrong in (0.009, 10.1, math.nan):
        with pytest.raises(SeislatentError, match=r"0\.01 to 10 s"):
            baker_jayaram([1.0, wrong])


def test_draws_from_the_published_correlation_are_recognised():
    periods = [0.05, 0.2, 0.5, 1.0, 3.0]
    published = baker_jayaram(periods)
    x = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ torch.linalg.cholesky(published).T
    near = correlation_gap(correlation(x), published)
    assert near.largest < 0.05 and near.pairs == 10 and abs(near.mean) < 0.03
    far = correlation_gap(correlation(torch.randn(4000, 5, generator=torch.Generator().manual_seed(1))), published)
    assert far.mean < -0.3
    assert math.isnan(correlation_gap(torch.full((5, 5), math.nan), published).rms)
