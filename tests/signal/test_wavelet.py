import math

import numpy as np
import pytest
import torch
from obspy.signal.tf_misfit import cwt

from seislatent.errors import SeislatentError
from seislatent.signal import wavelet
from seislatent.signal.wavelet import logarithmic_frequencies, morlet, morlet_bands


# short, wavelets longer than the record, up to the Nyquist frequency, an offset in the samples, other w0
@pytest.mark.parametrize(
    ("n", "band", "w0"), [(60, (1, 3), 6), (700, (0.05, 50), 6), (512, (0.5, 20), 2.5), (777, (2, 49), 12), (2, (9, 11), 6)]
)
def test_equals_obspys_transform(n, band, w0):
    x = np.random.default_rng(0).standard_normal((2, n)) + 3
    f = logarithmic_frequencies(band, 7)
    theirs = np.stack([cwt(row, 0.01, w0, *band, 7) for row in x])
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-6)):
        ours = morlet(torch.from_numpy(x).to(dtype), 100.0, f, w0, offset=-0.5)
        assert ours.shape == (2, 7, n) and ours.dtype == dtype.to_complex()
        assert np.abs(ours.numpy() - theirs).max() < tolerance * np.abs(theirs).max()


def test_a_sinusoid_has_the_envelope_and_phase_of_the_integral():
    time_s = torch.arange(4000, dtype=torch.float64) / 100
    f = np.array([1.5, 2.0])
    a = 6 / (2 * np.pi * f)
    found = morlet(3 * torch.cos(2 * math.pi * 2 * time_s + 0.4), 100.0, f)[:, 1500:2500]
    # half the amplitude times the wavelet's spectrum at a (omega - omega0), by the Gaussian integral
    expected = 1.5 * np.sqrt(a) * np.pi**-0.25 * np.sqrt(2 * np.pi) * np.exp(-((a * 2 * np.pi * 2 - 6) ** 2) / 2)
    np.testing.assert_allclose(found.abs().numpy(), expected[:, None].repeat(1000, 1), rtol=1e-6)
    phase = (found.angle() - (2 * math.pi * 2 * time_s[1500:2500] + 0.4)) / (2 * math.pi)
    np.testing.assert_allclose(phase - phase.round(), 0, atol=1e-6)


def test_bands_cover_all_frequencies_with_short_transforms_at_high_ones():
    f = logarithmic_frequencies((0.1, 40), 100)
    bands = list(morlet_bands(4096, 100.0, f, 6.0, 0.0, like=torch.zeros(1), most=20 * 4608))
    covered = [k for band in bands for k in range(100)[band.frequencies]]
    assert covered == list(range(100))
    assert bands[-1].length == 4608 and bands[0].length > 6000
    assert all(band.filters.shape == (2, len(range(100)[band.frequencies]), band.length // 2 + 1) for band in bands)
    assert max(band.filters.shape[1] for band in bands) == 20


def test_fast_lengths_are_long_enough_and_not_much_longer():
    for n in range(2, 5000, 7):
        assert n <= wavelet._fast_length(n) <= max(8, 1.25 * n)


@pytest.mark.parametrize(
    ("n", "rate", "band", "w0", "words"),
    [
        (1, 100.0, (1, 2), 6, "at least 2"),
        (9, 0.0, (1, 2), 6, "sampling rate"),
        (9, math.nan, (1, 2), 6, "sampling rate"),
        (9, 100.0, (1, 51), 6, "Nyquist"),
        (9, 100.0, (0, 5), 6, "rising"),
        (9, 100.0, (5, 1), 6, "rising"),
        (9, 100.0, (math.nan, 1), 6, "rising"),
        (9, 100.0, (1, 2), 0, "w0"),
    ],
)
def test_nonsense_is_refused(n, rate, band, w0, words):
    with pytest.raises(SeislatentError, match=words):
        morlet(torch.ones(n), rate, logarithmic_frequencies(band, 3), w0)


def test_no_frequencies_are_refused():
    with pytest.raises(SeislatentError, match="at least 1"):
        logarithmic_frequencies((1, 2), 0)
    with pytest.raises(SeislatentError, match="frequencies must lie"):
        morlet(torch.ones(9), 100.0, np.array([]))
