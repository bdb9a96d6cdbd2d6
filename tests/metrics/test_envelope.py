import math

import numpy as np
import pytest
import torch
from obspy.signal.filter import envelope as obspy_envelope
from scipy.signal import hilbert

from seislatent.errors import SeislatentError
from seislatent.metrics.envelope import analytic_signal, envelope, envelope_scores

RATE = 100.0


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 3, 64, 333])
def test_parity_with_scipy_and_obspy(n):
    x = noise(2, n)
    np.testing.assert_allclose(analytic_signal(x), hilbert(x.numpy()), atol=1e-12)
    if n == 64:  # ObsPy pads to another length elsewhere
        np.testing.assert_allclose(envelope(x, RATE)[0], obspy_envelope(x[0].numpy()), atol=1e-12)


def test_envelope_of_a_modulated_tone():
    t = torch.arange(1000, dtype=torch.float64) / RATE
    shape = 1 + 0.5 * torch.cos(2 * math.pi * 0.5 * t)
    torch.testing.assert_close(envelope(shape * torch.sin(2 * math.pi * 10 * t), RATE), shape, atol=1e-9, rtol=0)


def burst(at_s, factor=1.0, f=8.0):
    t = torch.arange(4000, dtype=torch.float64) / RATE
    return factor * torch.exp(-((t - at_s) / 1.0).square()) * torch.sin(2 * math.pi * f * t)


def test_scores_by_hand():
    found = envelope_scores(burst(12.0, 2.0), burst(10.0), RATE)
    # two Gaussians exp(-t^2) two seconds apart: exp(-(2)^2 / 2)
    assert found.correlation.item() == pytest.approx(math.exp(-2), abs=1e-6)
    assert found.level_db.item() == pytest.approx(20 * math.log10(2), abs=1e-9)
    assert found.centroid_shift_s.item() == pytest.approx(2.0, abs=1e-6)


def test_phase_polarity_and_frequency_are_not_seen():
    for x in (-burst(10.0), burst(10.0, f=11.0)):
        found = envelope_scores(x, burst(10.0), RATE)
        assert found.correlation.item() == pytest.approx(1, abs=1e-6)
        assert abs(found.level_db.item()) < 1e-6 and abs(found.centroid_shift_s.item()) < 1e-6


def test_level_in_float32_at_any_amplitude():
    x = burst(10.0).float()
    assert envelope_scores(1e-30 * x, 1e-28 * x, RATE).level_db.item() == pytest.approx(-40, abs=1e-3)


def test_silence_is_as_stated():
    x, zero = burst(10.0), torch.zeros(4000)
    assert envelope(zero, RATE).abs().max() == 0
    for a, b, level in ((zero, x, -math.inf), (x, zero, math.inf)):
        found = envelope_scores(a, b, RATE)
        assert found.correlation == 0 and found.level_db == level and found.centroid_shift_s.isnan()
    both = envelope_scores(zero, zero, RATE)
    assert both.correlation == 0 and both.level_db.isnan() and both.centroid_shift_s.isnan()


def test_bad_input_is_told():
    with pytest.raises(SeislatentError, match="NaN"):
        envelope(torch.tensor([0.0, math.nan]), RATE)
    with pytest.raises(SeislatentError, match="no traces"):
        envelope(torch.zeros(0, 4), RATE)
    with pytest.raises(SeislatentError, match="resample"):
        envelope_scores(torch.zeros(3), torch.zeros(4), RATE)


@pytest.mark.parametrize("level", [1e38, 1.0, 1e-38])
def test_envelopes_at_any_level_of_float32(level):
    t = torch.arange(400) / 400
    found = envelope(level * torch.cos(2 * math.pi * 20 * t), RATE)
    torch.testing.assert_close(found / level, torch.ones(400), rtol=1e-4, atol=0)
