import math

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics.anderson import BANDS_HZ, CRITERIA, anderson_scores, similarity

RATE = 100.0


def quake(n=3000, seed=0):
    x = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x * torch.exp(-(((torch.arange(n) - n / 3) / (n / 8)) ** 2))


def test_identity_is_ten_everywhere():
    x = torch.stack([quake(), quake(seed=1)])
    found = anderson_scores(x, x, RATE)
    assert found.scores.shape == (2, 10, 10)
    assert (found.scores[:, :8] > 10 - 1e-9).all() and (found.total > 10 - 1e-9).all()
    assert found.scores[:, 8:].isnan().all()  # 50 to 100 Hz and up to 100 Hz lie above the Nyquist frequency


def test_a_factor_of_two_by_hand():
    """Amplitudes twice as large: exp(-1) for peaks and spectra, exp(-9) for energies, shapes untouched."""
    found = anderson_scores(2 * quake(), quake(), RATE).scores[2]
    one, energy = 10 * math.exp(-1), 10 * math.exp(-9)
    assert found.tolist() == pytest.approx([10, 10, energy, energy, one, one, one, one, one, 10], abs=1e-9)


def test_polarity_and_delay():
    """Opposite polarity is seen by C10 alone; a delay not by peaks and spectra."""
    scores = anderson_scores(-quake(), quake(), RATE).scores[3]
    assert scores[9] == 0 and (scores[:9] > 10 - 1e-9).all()
    late = anderson_scores(torch.roll(quake(), 300), quake(), RATE).scores[3]
    assert late[9] < 5 and late[0] < 8 and (late[2:8] > 9.5).all()


def test_curves_by_hand():
    """All energy in the first or in the last part: the curves are one apart."""
    x = torch.zeros(2000, dtype=torch.float64)
    x[400:500] = torch.sin(2 * torch.pi * 5 * torch.arange(100) / RATE)
    found = anderson_scores(x, torch.roll(x, 1000), RATE, bands_hz=[(2.0, 10.0)]).scores[0]
    assert found[0] < 0.1 and found[1] < 0.3 and found[4] > 9.9


def test_one_randomness_scores_about_five_in_single_amplitudes():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 20, 4000, generator=g, dtype=torch.float64)
    assert 4.5 < anderson_scores(x, y, RATE, bands_hz=[(5.0, 20.0)]).scores[:, 0, 8].mean() < 6


def test_bands_outside_the_believed_one_are_left_out():
    found = anderson_scores(quake(), quake(seed=1), RATE, band_hz=(0.3, 30.0))
    given = [low >= 0.3 and high <= 30 for low, high in BANDS_HZ]
    assert found.scores[:, 0].isfinite().tolist() == given
    assert found.total.item() == pytest.approx(found.scores[given].mean(0).mean().item()) and len(CRITERIA) == 10


def test_silence_nan_and_bad_input():
    x = torch.stack([quake(), 0 * quake(), quake()])
    y = x.clone()
    y[2, 3] = torch.nan
    found = anderson_scores(y, x, RATE)
    assert found.total[0] > 9.99 and found.total[1:].isnan().all() and found.scores[1:].isnan().all()
    np.testing.assert_allclose(anderson_scores(y[:1], x[:1], RATE).scores, found.scores[:1])  # its neighbours change nothing
    for wrong in ((x[0], x[0, :-1]), (x[0, :1], x[0, :1])):
        with pytest.raises(SeislatentError, match="one shape"):
            anderson_scores(*wrong, RATE)
    with pytest.raises(SeislatentError, match="a trace or more"):
        anderson_scores(x[None][:0], x[None][:0], RATE)
    with pytest.raises(SeislatentError, match="complex"):
        anderson_scores(x + 0j, x, RATE)
    with pytest.raises(SeislatentError, match="band from"):
        anderson_scores(x, x, RATE, bands_hz=[(2.0, 1.0)])
    with pytest.raises(SeislatentError, match="sampling rate"):
        anderson_scores(x, x, math.nan)


def test_similarity_values():
    p, q = torch.tensor([1.0, 2.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    found = similarity(p, q)
    assert found[:3].tolist() == pytest.approx([10, 10 * math.exp(-1), 0]) and found[3].isnan()
