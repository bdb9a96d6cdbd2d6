import math

import numpy as np
import pytest
import torch
from scipy import stats

from seislatent.errors import SeislatentError
from seislatent.metrics import points
from seislatent.metrics.normality import _identity, adjusted_p_values, energy_from_normal, normality


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def quick(latents, seed=0, **more):
    return normality(latents, seeded(seed), **{"energy_records": 100, "simulations": 39, **more})


def test_values_are_scipys():
    x = normal(200, 4) * torch.tensor([1.0, 1.3, 1.0, 0.7]) + torch.tensor([0.0, 0.0, 0.3, 0.0])
    found = quick(x)
    for i, column in enumerate(x.T.numpy()):
        expected = stats.kstest(column, "norm")
        assert found.statistic[i].item() == pytest.approx(expected.statistic, rel=1e-12)
        assert found.p_value[i].item() == pytest.approx(expected.pvalue, rel=1e-9)
    np.testing.assert_allclose(found.mean, x.mean(0))
    np.testing.assert_allclose(found.std, x.std(0))
    np.testing.assert_allclose(found.skewness, stats.skew(x.numpy()))
    np.testing.assert_allclose(found.kurtosis, stats.kurtosis(x.numpy()))
    variance = x.var(0)
    np.testing.assert_allclose(found.divergence_nats, (x.mean(0) ** 2 + variance - 1 - variance.log()) / 2)


def test_correction_for_the_number_of_dimensions():
    p = torch.tensor([0.04, 0.001, 0.03, 0.5])
    assert adjusted_p_values(p, "holm").tolist() == pytest.approx([0.09, 0.004, 0.09, 0.5])
    expected = stats.false_discovery_control(p.numpy())
    np.testing.assert_allclose(adjusted_p_values(p, "benjamini-hochberg"), expected, rtol=1e-6)
    wrong = [int(quick(normal(50, 20, seed=s), simulations=1, energy_records=2).rejected.any()) for s in range(80)]
    assert np.mean(wrong) < 0.11  # any of twenty dimensions, at 5 %


def test_what_is_normal_passes_and_what_is_not_is_named():
    x = normal(1500, 6, seed=3)
    x[:, 1] += 0.2
    x[:, 2] *= 1.2
    x[:, 3] = torch.sign(x[:, 3])
    found = quick(x, energy_records=500)
    assert found.rejected.tolist() == [False, True, True, True, False, False]
    assert found.identity_p_value < 1e-6 and found.energy_p_value == pytest.approx(1 / 40)
    good = quick(normal(2, 300, 6, seed=5))
    assert not good.rejected.any() and good.mean.shape == (2, 6) and good.identity_p_value.shape == (2,)
    assert good.identity_p_value.min() > 0.01 and good.energy_p_value.min() > 0.02 and good.tested == 300


def test_correlation_is_seen_only_by_the_joint_tests():
    x = normal(400, 2)
    x[:, 1] = 0.9 * x[:, 0] + math.sqrt(1 - 0.81) * x[:, 1]
    found = quick(x, energy_records=400)
    assert not found.rejected.any()
    assert found.identity_p_value < 1e-10 and found.energy_p_value == pytest.approx(1 / 40)


def test_identity_test_holds_its_level_with_more_dimensions_than_records_too():
    for shape in ((100, 10), (30, 60)):
        p = [_identity(normal(*shape, seed=s))["identity_p_value"].item() for s in range(200)]
        assert 0.01 < np.mean([v < 0.05 for v in p]) < 0.11 and abs(np.mean(p) - 0.5) < 0.08


@pytest.mark.parametrize("latents", [1, 3, 50, 1000])
def test_energy_distance_equals_its_definition(latents):
    x, z = 1.5 * normal(60, latents) + 0.4, normal(20_000 if latents < 100 else 4000, latents, seed=1)
    within = torch.cdist(x, x).mean()
    if latents == 1:  # E|x - Z| = 2 phi(x) + x (2 Phi(x) - 1)
        phi = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
        expected = 2 * (2 * phi + x * torch.erf(x / math.sqrt(2))).mean() - 2 / math.sqrt(math.pi) - within
        assert energy_from_normal(x).item() == pytest.approx(expected.item(), rel=1e-10)
    simulated = 2 * torch.cdist(x, z).mean() - 2 * math.exp(math.lgamma((latents + 1) / 2) - math.lgamma(latents / 2)) - within
    assert energy_from_normal(x).item() == pytest.approx(simulated.item(), rel=0.03)
    far = energy_from_normal(x[:1] * 0 + 1e4)
    assert far.item() == pytest.approx(2e4 * math.sqrt(latents), rel=2e-2)


def test_events_give_one_record_each():
    plain, by_event = [], []
    for s in range(40):
        x = normal(30, 2, seed=s).repeat_interleave(20, 0)
        plain.append(bool(quick(x, simulations=1).rejected.any()))
        found = quick(x, simulations=1, events=[i // 20 for i in range(600)])
        by_event.append(bool(found.rejected.any()))
        assert found.tested == 30
    assert np.mean(plain) > 0.6 and np.mean(by_event) < 0.15


def test_collapsed_dimensions_have_stated_values():
    x = normal(100, 3)
    x[:, 1] = 0.25
    found = quick(x)
    assert found.std[1] == 0 and found.skewness[1] == 0 and found.kurtosis[1] == 0 and found.divergence_nats[1] == math.inf
    assert found.statistic[1].item() == pytest.approx(stats.norm.cdf(0.25)) and found.rejected[1]
    silent = quick(torch.zeros(10, 2))
    assert silent.statistic.tolist() == [0.5, 0.5] and silent.energy_statistic > 0.3
    assert not any(v.isnan().any() for v in (silent.skewness, silent.kurtosis, silent.identity_p_value))


def test_chunks_and_seed(monkeypatch):
    x = normal(80, 5)
    whole = quick(x)
    monkeypatch.setattr(points, "CHUNK", 90)
    parts = quick(x)
    for name in ("mean", "kurtosis", "statistic", "energy_statistic", "identity_statistic"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    assert parts.energy_p_value == whole.energy_p_value


def test_bad_input_is_told():
    x = normal(10, 2)
    for latents, more, words in [
        (x[:1], {}, "at least 2"), (x / 0, {}, "NaN"), (x[0], {}, "record feature"),
        (x, {"events": ["a"] * 10}, "one event"),
        (x, {"correction": "bonferroni"}, "unknown correction"), (x, {"level": 0.0}, "level"),
        (x, {"simulations": 0}, "simulations"),
        (x, {"events": [1.0] * 9 + [math.nan]}, "missing"),
    ]:  # fmt: skip
        with pytest.raises(SeislatentError, match=words):
            quick(latents, **more)
