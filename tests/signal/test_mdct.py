"""The lapped transform: exact inverse, orthonormal, right frequencies, and the textbook's own formula."""

import math

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.signal.mdct import inverse_mdct, inverse_switched_mdct, mdct, switched_mdct

LISTS = [[64] * 4, [64, 16, 16, 16, 16, 64], [8, 8, 32, 128, 8, 64], [2, 2, 6, 10, 20], [256]]


@pytest.mark.parametrize("blocks", LISTS)
@pytest.mark.parametrize("amplitude", [1e9, 1.0, 1e-6, 0.0])
def test_comes_back_and_keeps_energy(blocks, amplitude):
    x = amplitude * torch.randn(2, 3, sum(blocks), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = switched_mdct(x, blocks)
    assert torch.allclose(inverse_switched_mdct(y, blocks), x, rtol=0, atol=1e-13 * max(amplitude, 1e-300) * 10)
    assert torch.allclose(y.square().sum(-1), x.square().sum(-1), rtol=1e-12)


@pytest.mark.parametrize("blocks", LISTS)
def test_is_orthonormal(blocks):
    n = sum(blocks)
    matrix = switched_mdct(torch.eye(n, dtype=torch.float64), blocks)
    assert (matrix @ matrix.T - torch.eye(n, dtype=torch.float64)).abs().max() < 1e-13


def test_equals_the_definition():
    """X[k] = sqrt(2/N) sum over 2 N samples of w x cos(pi/N (n + 1/2 - N/2)(k + 1/2)), in a block with neighbours on both sides.

    Textbooks have + N/2: the same transform of the record reversed in time.
    """
    block, x = 16, np.random.default_rng(0).standard_normal(48)
    n, k = np.arange(32)[:, None], np.arange(16)
    window = np.sin(np.pi / 32 * (n + 0.5))
    kernel = math.sqrt(2 / block) * window * np.cos(np.pi / block * (n + 0.5 - block / 2) * (k + 0.5))
    expected = x[8:40] @ kernel
    got = mdct(torch.from_numpy(x), block)[1].numpy()
    assert np.abs(got - expected).max() < 1e-12
    textbook = math.sqrt(2 / block) * window * np.cos(np.pi / block * (n + 0.5 + block / 2) * (k + 0.5))
    reversed_ = mdct(torch.from_numpy(x[::-1].copy()), block)[1].numpy()
    assert np.abs(np.abs(x[8:40] @ textbook) - np.abs(reversed_)).max() < 1e-12


def test_a_long_block_beside_a_short_one_has_the_short_ones_slope():
    """What lies outside the window of a block does not reach its coefficients."""
    x = torch.zeros(128 + 16 + 16, dtype=torch.float64)
    x[:120] = torch.randn(120, dtype=torch.float64)
    y = switched_mdct(x, [128, 16, 16])
    assert (y[128:] == 0).all() and y[:128].abs().max() > 0.1
    x[121] = 1.0
    assert (switched_mdct(x, [128, 16, 16])[128:144] != 0).any()


def test_a_tone_stands_at_its_frequency():
    n, k = 32, 5
    x = torch.cos(math.pi / n * (k + 0.5) * torch.arange(32 * 8, dtype=torch.float64) + 0.4)
    power = mdct(x, n).square().sum(0)
    assert power.argmax() == k and power[k - 1 : k + 2].sum() > 0.97 * power.sum()


def test_blocks_of_one_length_are_the_switched_transform():
    x = torch.randn(2, 96, dtype=torch.float32)
    assert torch.equal(mdct(x, 32).flatten(1), switched_mdct(x, [32, 32, 32]))
    assert torch.allclose(inverse_mdct(mdct(x, 32)), x, atol=1e-5)


def test_gradient_reaches_the_samples():
    x = torch.randn(48, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: switched_mdct(v, [16, 8, 8, 16]), x)


@pytest.mark.parametrize(("time", "blocks"), [(10, [5, 5]), (10, [4, 4]), (10, [10, 0]), (8, [-2, 10])])
def test_wrong_blocks_are_told(time, blocks):
    with pytest.raises(SeislatentError, match="blocks"):
        switched_mdct(torch.zeros(time), blocks)


@pytest.mark.parametrize("block", [0, 3, 7, 64, -2])
def test_wrong_block_is_told(block):
    with pytest.raises(SeislatentError, match="blocks of"):
        mdct(torch.zeros(100), block)
