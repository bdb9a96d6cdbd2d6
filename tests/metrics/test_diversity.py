import math

import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics import points
from seislatent.metrics.diversity import coverage_density, nearest_real, pairwise_distance, pit_histogram, spread_calibration


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def test_distances_by_hand():
    found = pairwise_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]]))
    assert found.mean.item() == pytest.approx((5 + 4 + 3) / 3)
    assert found.rms.item() == pytest.approx(math.sqrt(50 / 3)) and found.smallest.item() == pytest.approx(3)
    x = normal(4, 30, 6) + 1e6
    many = pairwise_distance(x)
    assert many.mean.shape == (4,)
    torch.testing.assert_close(many.rms.square(), 2 * x.var(1).sum(-1))
    same = pairwise_distance(torch.full((3, 5, 2), 1e-7))
    assert (same.mean == 0).all() and (same.smallest == 0).all()
    torch.testing.assert_close(pairwise_distance(1e-7 * x).mean, 1e-7 * many.mean)


def test_chunks_do_not_matter(monkeypatch):
    x, y = normal(30, 3), normal(40, 3, seed=1)
    before = pairwise_distance(x), coverage_density(x, y)
    monkeypatch.setattr(points, "CHUNK", 100)
    after = pairwise_distance(x), coverage_density(x, y)
    torch.testing.assert_close(after[0].mean, before[0].mean)
    assert after[0].smallest.item() == pytest.approx(before[0].smallest.item())
    assert torch.equal(after[1].covered, before[1].covered) and after[1].density == before[1].density


def test_coverage_and_density_by_hand():
    """Real 0, 1, 3, 7 with one neighbour: balls of radius 1, 1, 2, 4."""
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    found = coverage_density(torch.tensor([[0.5], [-5.0], [4.0]]), real, neighbours=1)
    assert found.covered.tolist() == [True, True, True, True]
    assert found.coverage == 1 and found.density.item() == pytest.approx(4 / 3) and found.precision.item() == pytest.approx(2 / 3)
    twin = torch.tensor([[0.0], [0.0], [5.0]])
    assert coverage_density(torch.tensor([[0.0]]), twin, neighbours=1).covered.tolist() == [True, True, True]
    assert coverage_density(torch.tensor([[1e-3]]), twin, neighbours=1).covered.tolist() == [False, False, True]


def test_coverage_of_the_same_distribution_is_the_expected_one():
    found = [coverage_density(normal(80, 3, seed=s), normal(100, 3, seed=s + 99), neighbours=3) for s in range(60)]
    expected = found[0].expected_coverage
    assert expected == pytest.approx(1 - 99 * 98 * 97 / (179 * 178 * 177))
    assert abs(torch.stack([f.coverage for f in found]).mean() - expected) < 0.02
    assert abs(torch.stack([f.density for f in found]).mean() - 1) < 0.05


def test_collapse_and_escape_are_told_apart():
    real = normal(300, 2)
    collapsed = coverage_density(0.01 * normal(300, 2, seed=1), real)
    assert collapsed.coverage < 0.2 and collapsed.precision == 1
    noisy = coverage_density(20 * normal(300, 2, seed=1), real)
    assert noisy.coverage < 0.3 and noisy.density < 0.1
    copies = coverage_density(real, real)
    assert copies.coverage == 1  # blind to copies
    distance, index = nearest_real(real[[4, 2]] + 1e-3, real)
    assert index.tolist() == [4, 2] and distance[0].item() == pytest.approx(1e-3 * math.sqrt(2), rel=1e-6)


@pytest.mark.parametrize("number", [2, 24, 99])
def test_calibrated_draws_hold_their_share(number):
    records = 20_000
    level = normal(records, 2, seed=1)
    found = spread_calibration(level + normal(number, records, 2), level + normal(records, 2, seed=2), seeded(9))
    assert found.expected == pytest.approx(0.68)
    assert (found.share - 0.68).abs().max() < 0.013  # four standard errors of 20,000 records
    assert (pit_histogram(found.pit).p_value > 0.001).all()


def test_a_spread_too_small_too_large_and_a_bias_are_seen():
    records = 2000
    real = normal(records, 1, seed=2)
    x = normal(50, records, 1)
    narrow, wide, off = (spread_calibration(v, real, seeded()) for v in (0.5 * x, 2 * x, x + 1))
    assert narrow.share < 0.45 and wide.share > 0.9 and off.share < 0.6
    for found in (narrow, wide, off):
        assert pit_histogram(found.pit).p_value < 1e-6
    counts = pit_histogram(narrow.pit).counts[0]
    assert counts[0] > 2 * counts[5] and counts[9] > 2 * counts[5]
    assert pit_histogram(off.pit).counts[0, 0] > 2 * records / 10


def test_band_by_hand_and_ties():
    """Ninety-nine draws 1 to 99: inside is above 16 and below 84."""
    draws = torch.arange(1.0, 100.0)[:, None, None].expand(99, 4, 1)
    found = spread_calibration(draws, torch.tensor([[15.5], [16.5], [83.5], [84.5]]), seeded())
    assert found.inside[:, 0].tolist() == [False, True, True, False]
    assert (found.pit * 100).floor()[:, 0].tolist() == [15, 16, 83, 84]
    same = spread_calibration(torch.ones(9, 4000, 1), torch.ones(4000, 1), seeded())
    assert abs(same.share - 0.68) < 0.03 and pit_histogram(same.pit).p_value > 0.001
    assert torch.equal(same.pit, spread_calibration(torch.ones(9, 4000, 1), torch.ones(4000, 1), seeded()).pit)


def test_events_widen_the_test_of_the_histogram():
    plain, by_event = [], []
    for s in range(100):
        pit = torch.rand(60, 1, generator=seeded(s)).repeat_interleave(8, 0)
        plain.append(pit_histogram(pit).p_value)
        found = pit_histogram(pit, events=[i // 8 for i in range(480)])
        by_event.append(found.p_value)
        assert 4 < found.design_effect < 13
    assert torch.stack(plain).lt(0.05).double().mean() > 0.9
    assert torch.stack(by_event).lt(0.05).double().mean() < 0.15


def test_bad_input_is_told():
    x, draws = normal(10, 2), normal(20, 10, 2)
    for call, words in [
        (lambda: pairwise_distance(x[:1]), "at least 2"),
        (lambda: pairwise_distance(x / 0), "NaN"),
        (lambda: coverage_density(x, x[:5]), "neighbours"),
        (lambda: coverage_density(x, x[:, :1]), "same"),
        (lambda: nearest_real(draws, draws), "one set"),
        (lambda: spread_calibration(draws[:1], x, seeded()), "two draws"),
        (lambda: spread_calibration(draws[:, :9], x, seeded()), "draw record measure"),
        (lambda: spread_calibration(draws[:, :0], x[:0], seeded()), "draw record measure"),
        (lambda: spread_calibration(draws, x * math.nan, seeded()), "10 records"),
        (lambda: spread_calibration(draws, x, seeded(), band=(0.9, 0.1)), "band"),
        (lambda: pit_histogram(x.abs() + 1), "0 to 1"),
        (lambda: pit_histogram(torch.full((99, 1), math.nan)), "0 to 1"),
        (lambda: pit_histogram(torch.rand(30, 1)), "fewer bins"),
        (lambda: pit_histogram(torch.rand(100, 1), events=[0, 1] * 50), "more events"),
    ]:
        with pytest.raises(SeislatentError, match=words):
            call()
