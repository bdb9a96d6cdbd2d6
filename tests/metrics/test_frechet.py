import math

import numpy as np
import pytest
import scipy.linalg
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics import points
from seislatent.metrics.frechet import frechet_distance, frechet_extrapolated, frechet_with_floor, log_spectra, logarithmic_bands


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def test_equals_the_formula_with_a_matrix_root():
    x, y = normal(60, 5) @ normal(5, 5, seed=1) + 2, normal(70, 5, seed=2) @ normal(5, 5, seed=3)
    a, b = (np.cov(v.numpy().T) for v in (x, y))
    gap = (x.mean(0) - y.mean(0)).square().sum().item()
    covariance = np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
    found = frechet_distance(x, y)
    assert found.mean_part.item() == pytest.approx(gap, rel=1e-12)
    assert found.covariance_part.item() == pytest.approx(covariance, rel=1e-9)
    assert found.distance.item() == pytest.approx(gap + covariance, rel=1e-9)


def test_two_gaussians_with_exact_moments():
    """Points whose sample moments are exact: |m - m'|^2 + sum (s - s')^2 for variances along the axes."""
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64) * math.sqrt(3) / 2
    x, y = corners * torch.tensor([2.0, 5.0]), corners * torch.tensor([3.0, 1.0]) + torch.tensor([1.0, -2.0])
    assert frechet_distance(x, y).distance.item() == pytest.approx(1 + 4 + 1 + 16)


def test_identical_sets_shift_and_scale():
    x = normal(50, 8)
    assert frechet_distance(x, x).distance.item() == pytest.approx(0, abs=1e-12)
    assert frechet_distance(x, x[torch.randperm(50, generator=seeded())]).distance.item() == pytest.approx(0, abs=1e-10)
    assert frechet_distance(x + 1e6, x + 1e6).distance.item() == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x + 3, x).distance.item() == pytest.approx(9 * 8)
    small = frechet_distance(1e-7 * x, 2e-7 * x)
    assert small.distance.item() == pytest.approx(1e-14 * (x.var(0).sum() + x.mean(0).square().sum()).item())
    assert frechet_distance(torch.zeros(3, 2), torch.zeros(4, 2)).distance == 0
    few = normal(5, 30)
    assert frechet_distance(few, few).distance.item() == pytest.approx(0, abs=1e-11)


def test_sets_are_batched_and_chunks_do_not_matter(monkeypatch):
    x, y = normal(2, 3, 40, 4), normal(2, 3, 50, 4, seed=1)
    whole = frechet_distance(x, y)
    assert whole.distance.shape == (2, 3)
    assert whole.distance[1, 2] == frechet_distance(x[1, 2], y[1, 2]).distance
    monkeypatch.setattr(points, "CHUNK", 7)
    torch.testing.assert_close(frechet_distance(x, y).distance, whole.distance)
    assert frechet_distance(x.float(), y.float()).distance.dtype == torch.float64


def test_shrunk_covariance_is_ledoit_and_wolfs():
    covariance = pytest.importorskip("sklearn.covariance", reason="scikit-learn holds the reference")
    from seislatent.metrics.frechet import _moments

    for records, features in ((20, 6), (6, 20)):
        x = normal(records, features) @ normal(features, features, seed=1)
        factor = _moments(x, True)[1]
        expected, _ = covariance.ledoit_wolf(x.numpy())
        np.testing.assert_allclose((factor.T @ factor) * (records - 1) / records, expected, atol=1e-10)


def test_shrinkage_lowers_the_floor():
    x, y = normal(30, 25), normal(30, 25, seed=1)
    assert frechet_distance(x, y, shrink=True).distance < 0.3 * frechet_distance(x, y).distance


def test_floor_stands_beside_the_distance():
    events = [f"ev{i // 5}" for i in range(200)]
    effect = normal(40, 3, seed=4).repeat_interleave(5, 0)  # records of an event are alike
    real = effect + 0.3 * normal(200, 3)
    same = normal(40, 3, seed=5).repeat_interleave(5, 0) + 0.3 * normal(200, 3, seed=6)
    fair = frechet_with_floor(same, real, seeded(), events=events, generated_events=events, repeats=10)
    assert fair.floor.shape == (10,) and 0.4 < fair.ratio < 2.5
    shifted = frechet_with_floor(same + 2, real, seeded(), events=events, generated_events=events, repeats=10)
    assert shifted.ratio > 10
    assert torch.equal(fair.floor, shifted.floor)
    by_record = frechet_with_floor(same, real, seeded(), repeats=10)
    assert by_record.floor.mean() < 0.6 * fair.floor.mean()  # halves that share events are too near to each other
    constant = frechet_with_floor(torch.ones(10, 2), torch.ones(10, 2), seeded())
    assert constant.ratio == 1


def test_extrapolation_takes_the_bias_away():
    x, y = normal(400, 20), normal(400, 20, seed=1)
    plain = frechet_distance(x, y).distance
    found = frechet_extrapolated(x, y, seeded())
    assert plain > 0.4 and abs(found.distance) < 0.15 * plain
    assert found.values.shape == (5, 5)
    torch.testing.assert_close(found.values[-1, 0], plain)
    away = frechet_extrapolated(torch.stack([x + 1, x]), torch.stack([y, y]), seeded())
    assert away.distance[0].item() == pytest.approx(20, rel=0.1)


def test_log_spectra_by_hand():
    """A sine of amplitude 2 in one bin of 10 s: |X| = dt n / 2 * 2 = 10, the root mean square over the band's ten bins."""
    rate, n = 20.0, 200
    t = torch.arange(n, dtype=torch.float64) / rate
    x = 2 * torch.sin(2 * math.pi * 1.5 * t)
    bands = [(1.0, 2.0), (4.0, 9.0)]
    found = log_spectra(torch.stack([x, 10 * x]), rate, bands, taper=0, least=1e-6)
    assert found[0, 0].item() == pytest.approx(math.log(10 / math.sqrt(10)))
    assert (found[1, 0] - found[0, 0]).item() == pytest.approx(math.log(10))
    assert found[0, 1].item() == pytest.approx(math.log(1e-6))
    noise = normal(3, 2, n)
    torch.testing.assert_close(log_spectra(-noise, rate, bands), log_spectra(noise, rate, bands))  # blind to polarity
    assert log_spectra(noise, rate, bands).movedim(-2, 0).shape == (2, 3, 2)
    torch.testing.assert_close(log_spectra(1e-7 * noise, rate, bands), log_spectra(noise, rate, bands) + math.log(1e-7))
    edges = logarithmic_bands(0.5, 8.0, 4)
    assert edges[0] == pytest.approx((0.5, 1.0)) and edges[-1][1] == pytest.approx(8)


def test_bad_input_is_told():
    x = normal(10, 4)
    for a, b, words in [
        (x, x[:, :3], "same"), (x, x[:1], "at least 2 records"), (x[0], x, "not of shape"), (x, x * math.nan, "NaN"),
        (x[None], x, "same"), (x[:, :0], x[:, :0], "one feature"), (x, torch.complex(x, x), "real"),
    ]:  # fmt: skip
        with pytest.raises(SeislatentError, match=words):
            frechet_distance(a, b)
    with pytest.raises(SeislatentError, match="one event"):
        frechet_with_floor(x, x, seeded(), events=["a"] * 10)
    with pytest.raises(SeislatentError, match="nearly all"):
        frechet_with_floor(x, x, seeded(), events=["a"] * 9 + ["b"])
    with pytest.raises(SeislatentError, match="draw more"):
        frechet_with_floor(x[:4], x, seeded())
    with pytest.raises(SeislatentError, match="one per record"):
        frechet_with_floor(x, x, seeded(), events=["a"])
    with pytest.raises(SeislatentError, match="missing"):
        frechet_with_floor(x, x, seeded(), events=["a", None] * 5)
    with pytest.raises(SeislatentError, match="shares"):
        frechet_extrapolated(x, x, seeded(), shares=(1.0,))
    with pytest.raises(SeislatentError, match=r"torch\.Generator"):
        frechet_with_floor(x, x, 0)  # type: ignore[arg-type]
    bands = [(1.0, 2.0)]
    for samples, rate, band, words in [
        (torch.zeros(2, 200), 20.0, bands, "silent"), (torch.full((2, 200), math.nan), 20.0, bands, "NaN"),
        (torch.zeros(2, 200), 20.0, [(9.0, 11.0)], "band"), (torch.zeros(2, 10), 20.0, bands, "band"),
        (torch.zeros(2, 200), 0.0, bands, "rate"), (torch.zeros(2, 0), 20.0, bands, "rate"),
        (torch.zeros(0, 200), 20.0, bands, "no record"),
    ]:  # fmt: skip
        with pytest.raises(SeislatentError, match=words):
            log_spectra(samples, rate, band)
    with pytest.raises(SeislatentError, match="bands from"):
        logarithmic_bands(2, 1, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_features_whose_squares_are_none_are_told(dtype):
    x = torch.ones(5, 2, dtype=dtype)
    bad = x.clone()
    bad[3, 1] = torch.inf if dtype == torch.float32 else 1e200
    with pytest.raises(SeislatentError, match=r"1 records hold NaN, infinity .* record 3"):
        frechet_distance(bad, x)
    with pytest.raises(SeislatentError, match="in 0 sets"):
        frechet_distance(torch.ones(0, 5, 2), torch.ones(0, 5, 2))
