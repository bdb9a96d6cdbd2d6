import math

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.signal.ssa import grouped, singular_spectrum, weighted_correlation


def brute(x, window):
    """By the definition: singular value decomposition and means over antidiagonals."""
    columns = len(x) - window + 1
    hankel = np.array([[x[i + j] for j in range(columns)] for i in range(window)])
    u, s, v = np.linalg.svd(hankel, full_matrices=False)
    parts = []
    for k in range(len(s)):
        rank_one = s[k] * np.outer(u[:, k], v[k])
        parts.append([np.mean(np.diag(rank_one[::-1], t - window + 1)) for t in range(len(x))])
    return np.array(parts), s**2 / (s**2).sum()


def test_equals_the_definition():
    x = np.random.default_rng(0).normal(size=40)
    parts, shares = brute(x, 12)
    found = singular_spectrum(torch.from_numpy(x), 12)
    np.testing.assert_allclose(found.components, parts, atol=1e-10)
    np.testing.assert_allclose(found.shares, shares, atol=1e-12)


@pytest.mark.parametrize("amplitude", [1e9, 1.0, 1e-7, 0.0])
def test_components_sum_to_the_record(amplitude):
    x = amplitude * torch.randn(2, 3, 101, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = singular_spectrum(x, 30)
    assert found.components.shape == (2, 3, 30, 101)
    torch.testing.assert_close(found.components.sum(-2), x, atol=1e-12 * amplitude, rtol=1e-9)
    torch.testing.assert_close(found.shares.sum(-1), torch.full((2, 3), float(amplitude > 0), dtype=torch.float64))


def test_an_oscillation_is_one_pair_and_noise_is_left_behind():
    t = torch.arange(400, dtype=torch.float64)
    tone = torch.sin(2 * math.pi * t / 20)
    alone = singular_spectrum(tone, 60, 3)
    assert alone.shares[:2].sum() > 1 - 1e-10
    noisy = tone + 0.5 * torch.randn(400, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = singular_spectrum(noisy, 60)
    cleaned = grouped(found.components, [[0, 1], list(range(2, 60))])
    assert (cleaned[0] - tone).square().mean() < 0.15 * (noisy - tone).square().mean()
    torch.testing.assert_close(cleaned.sum(0), noisy)
    together = weighted_correlation(found.components, 60)
    assert together[0, 1] > 0.95 and together.diagonal().allclose(torch.ones(60, dtype=torch.float64))
    assert together[:2, 2:].abs().max() < 0.2


def test_what_cannot_be_analysed_is_told():
    assert singular_spectrum(torch.tensor([3.0]), 1).components.tolist() == [[3.0]]
    assert singular_spectrum(torch.zeros(0, 10), 5).components.shape == (0, 5, 10)
    for n, window, count in [(10, 6, None), (10, 0, None), (0, 1, None), (10, 4, 5)]:
        with pytest.raises(SeislatentError, match="window"):
            singular_spectrum(torch.zeros(n), window, count)
    with pytest.raises(SeislatentError, match="NaN"):
        singular_spectrum(torch.full((10,), math.nan), 4)
    with pytest.raises(SeislatentError, match="beyond"):
        grouped(torch.zeros(3, 10), [[0, 3]])
