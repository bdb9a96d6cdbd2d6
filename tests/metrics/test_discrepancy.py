import math

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics import points
from seislatent.metrics.discrepancy import maximum_mean_discrepancy, median_distance


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def direct(x, y, kernel, biased):
    def mean(a, b, same):
        total = sum(kernel(a[i], b[j]) for i in range(len(a)) for j in range(len(b)) if biased or not (same and i == j))
        return total / (len(a) * (len(b) - (same and not biased)))

    return mean(x, x, True) - 2 * mean(x, y, False) + mean(y, y, True)


@pytest.mark.parametrize("biased", [True, False])
def test_equals_its_equation(biased):
    x, y = normal(6, 3).numpy(), normal(9, 3, seed=1).numpy() + 0.5
    given = [torch.from_numpy(v) for v in (x, y)]
    widths = (0.7, 2.0)

    def gaussian(a, b):
        return np.mean([np.exp(-((a - b) ** 2).sum() / (2 * s * s)) for s in widths])

    found = maximum_mean_discrepancy(*given, seeded(), bandwidths=widths, biased=biased, permutations=0)
    assert found.squared.item() == pytest.approx(direct(x, y, gaussian, biased), rel=1e-10)
    assert found.p_value.isnan() and found.null.shape == (0,)
    energy = maximum_mean_discrepancy(*given, seeded(), kernel="energy", biased=biased, permutations=0)
    assert energy.squared.item() == pytest.approx(direct(x, y, lambda a, b: -np.linalg.norm(a - b), biased), rel=1e-9)


def test_two_gaussians_in_closed_form():
    """N(0, 1) and N(m, 1), kernel of width s: E k = s / sqrt(s^2 + 2) exp(-m^2 / 2 (s^2 + 2))."""
    x, y = normal(4000, 1), normal(4000, 1, seed=1) + 1
    s = 1.5
    expected = 2 * s / math.sqrt(s**2 + 2) * (1 - math.exp(-1 / (2 * (s**2 + 2))))
    found = maximum_mean_discrepancy(x, y, seeded(), bandwidths=[s], permutations=0)
    assert found.squared.item() == pytest.approx(expected, rel=0.12)
    energy = maximum_mean_discrepancy(x, y, seeded(), kernel="energy", permutations=0)
    # 2 E|X - Y| - 2 E|X - X'|, X - Y ~ N(1, 2)
    folded = 2 / math.sqrt(math.pi) * math.exp(-1 / 4) + math.erf(1 / 2)
    assert energy.squared.item() == pytest.approx(2 * folded - 4 / math.sqrt(math.pi), rel=0.12)


def test_identical_sets_and_unit():
    x = normal(40, 5)
    same = maximum_mean_discrepancy(x, x, seeded(), biased=True, permutations=19)
    assert same.squared.item() == pytest.approx(0, abs=1e-12) and same.p_value == 1
    a = maximum_mean_discrepancy(x, normal(30, 5, seed=1), seeded(), permutations=19)
    b = maximum_mean_discrepancy(1e-7 * x, 1e-7 * normal(30, 5, seed=1), seeded(), permutations=19)
    torch.testing.assert_close(a.squared, b.squared, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(b.bandwidths, 1e-7 * a.bandwidths)
    assert median_distance(torch.tensor([[0.0], [1.0], [5.0]], dtype=torch.float64)) == 4


def test_a_shift_is_found_and_no_shift_is_not():
    found = maximum_mean_discrepancy(normal(60, 4), normal(50, 4, seed=1) + 0.8, seeded(), permutations=99)
    assert found.p_value.item() == pytest.approx(0.01)
    p = torch.stack([
        maximum_mean_discrepancy(normal(20, 2, seed=s), normal(20, 2, seed=s + 1000), seeded(s), permutations=19).p_value
        for s in range(200)
    ])  # fmt: skip
    assert 0.02 <= (p <= 0.05).double().mean() <= 0.09  # 1 of 20 by chance
    assert abs(p.mean() - 0.525) < 0.07


def test_events_are_exchanged_whole():
    """Records of an event are alike: by record nearly every pair of sets differs, by event one in twenty."""
    by_event, by_record = [], []
    for s in range(60):
        x, y = (normal(10, 2, seed=s + k).repeat_interleave(6, 0) + 0.1 * normal(60, 2, seed=s + k + 1) for k in (0, 5000))
        events = [i // 6 for i in range(60)]
        others = [100 + e for e in events]
        by_event.append(maximum_mean_discrepancy(x, y, seeded(s), permutations=19, events=events, other_events=others).p_value)
        by_record.append(maximum_mean_discrepancy(x, y, seeded(s), permutations=19).p_value)
    assert np.mean([p <= 0.05 for p in by_record]) > 0.7
    assert np.mean([p <= 0.05 for p in by_event]) < 0.15


def test_events_of_both_sets_change_sides_as_pairs():
    labels = points.permuted_labels(["a", "a", "b", "c"], ["b", "a", "d"], (4, 3), 200, seeded())
    assert labels[:, 0].tolist() == [True] * 4 + [False] * 3
    torch.testing.assert_close(labels[0], labels[1])
    assert (labels[0] != labels[5]).all() and (labels[2] != labels[4]).all()  # a and b: the other part stands on the other side
    assert (labels[3] != labels[6]).all()  # c and d: one on each side
    assert len({tuple(column) for column in labels[[0, 2, 3]].T.tolist()}) == 8  # each event by itself


def test_chunks_sets_and_seed(monkeypatch):
    x, y = normal(2, 30, 3), normal(2, 20, 3, seed=1)
    whole = maximum_mean_discrepancy(x, y, seeded(), permutations=9)
    assert whole.squared.shape == (2,) and whole.null.shape == (2, 9) and whole.bandwidths.shape == (2, 1)
    again = maximum_mean_discrepancy(x, y, seeded(), permutations=9)
    assert torch.equal(whole.null, again.null)
    monkeypatch.setattr(points, "CHUNK", 300)
    torch.testing.assert_close(maximum_mean_discrepancy(x, y, seeded(), permutations=9).null, whole.null)


def test_bad_input_is_told():
    x = normal(10, 2)
    for a, b, more, words in [
        (x, x[:1], {}, "at least 2"), (x, x / 0, {}, "NaN"), (x, x[:, :1], {}, "same"), (0 * x, 0 * x, {}, "bandwidths"),
        (x, x, {"kernel": "gaussain"}, "did you mean 'gaussian'"), (x, x, {"bandwidths": [0.0]}, "bandwidths"),
        (x, x, {"bandwidths": []}, "bandwidths"), (x, x, {"permutations": -1}, "permutations"),
        (x, x, {"events": ["a"] * 10}, "both"), (x, x, {"events": ["a"] * 9, "other_events": ["b"] * 10}, "one per record"),
        (x, x, {"events": ["a"] * 10, "other_events": ["a"] * 10}, "two events"),
    ]:  # fmt: skip
        with pytest.raises(SeislatentError, match=words):
            maximum_mean_discrepancy(a, b, seeded(), **more)
    assert maximum_mean_discrepancy(0 * x, 0 * x, seeded(), bandwidths=[1.0], permutations=9).squared == 0
