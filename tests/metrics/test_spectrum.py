import math

import numpy as np
import pytest
import torch
from obspy.signal.konnoohmachismoothing import konno_ohmachi_smoothing_window
from scipy import signal

from seislatent.errors import SeislatentError
from seislatent.metrics.spectrum import (
    coherence,
    effective_amplitude,
    fourier_amplitude,
    konno_ohmachi,
    log_spectral_distance_db,
    smoothed,
)

RATE = 100.0


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def time(n=4000):
    return torch.arange(n, dtype=torch.float64) / RATE


def test_fourier_amplitude_of_a_decaying_exponential():
    """|X(f)| of exp(-a t) is 1 / sqrt(a^2 + (2 pi f)^2), whatever the rate."""
    for rate in (1000.0, 2000.0):
        t = torch.arange(int(20 * rate), dtype=torch.float64) / rate
        found = fourier_amplitude(torch.exp(-3 * t), rate)
        low = found.frequencies_hz < 10
        expected = 1 / torch.sqrt(9 + (2 * math.pi * found.frequencies_hz[low]).square())
        torch.testing.assert_close(found.amplitude[low], expected, rtol=0.03, atol=0)


@pytest.mark.parametrize("n", [4000, 4001])
def test_fourier_amplitude_keeps_energy_and_unit(n):
    x = noise(2, 3, n)
    found = fourier_amplitude(1e-30 * x.float(), RATE)
    assert found.amplitude.shape == (2, 3, n // 2 + 1)
    twice = torch.full((n // 2 + 1,), 2.0)
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1
    energy = ((1e30 * found.amplitude.double()).square() * twice).sum(-1) * RATE / n
    torch.testing.assert_close(energy, x.square().sum(-1) / RATE, rtol=1e-5, atol=0)
    assert fourier_amplitude(0 * x, RATE).amplitude.abs().max() == 0


def test_zeros_bring_frequencies_together_and_change_no_amplitude():
    x = torch.exp(-(time() - 20).square()) * torch.cos(10 * time())
    near = fourier_amplitude(x, RATE, spacing_hz=0.005)
    assert near.frequencies_hz[1] <= 0.005
    plain = fourier_amplitude(x, RATE)
    expected = np.interp(plain.frequencies_hz, near.frequencies_hz, near.amplitude)
    np.testing.assert_allclose(plain.amplitude, expected, atol=1e-3 * expected.max())


@pytest.mark.parametrize("b", [20.0, 40.0, 188.5])
def test_weights_equal_obspy(b):
    f = np.fft.rfftfreq(8000, 0.01)
    centres = np.array([0.5, 1.0, 3.337, 24.0, 50.0])
    expected = [konno_ohmachi_smoothing_window(f, c, b, normalize=True) for c in centres]
    np.testing.assert_allclose(konno_ohmachi(f, centres, b), expected, rtol=1e-9, atol=1e-15)


def test_smoothing_equals_pykooh():
    pykooh = pytest.importorskip("pykooh", reason="pykooh is not installed (extra dev)")
    spectrum = fourier_amplitude(noise(4000), RATE, spacing_hz=0.005)
    centres = np.geomspace(0.5, 24, 30)
    for b in (40.0, 188.5):
        expected = pykooh.smooth(centres, spectrum.frequencies_hz.numpy(), spectrum.amplitude.numpy(), b)
        np.testing.assert_allclose(smoothed(spectrum, centres, b).amplitude, expected, rtol=1e-9)


def test_window_by_hand():
    """sin(x)^4 / x^4 at one and two frequencies beside the centre, at which b log10(f / fc) is pi / 4 and pi / 2."""
    f = 2.0 * 10 ** (np.array([0, math.pi / 4, math.pi / 2]) / 40)
    w = np.array([1.0, (2 * math.sqrt(2) / math.pi) ** 4, (2 / math.pi) ** 4])
    np.testing.assert_allclose(konno_ohmachi(f, [2.0], 40.0)[0], w / w.sum(), rtol=1e-12)


def test_effective_amplitude_does_not_turn_and_is_a_root_mean_square():
    x, y = noise(2, 4, 3000)
    centres = np.geomspace(0.1, 24, 20)
    found = effective_amplitude(x, y, RATE, centres)
    assert found.amplitude.shape == (4, 20)
    turned = effective_amplitude(0.6 * x - 0.8 * y, 0.8 * x + 0.6 * y, RATE, centres)
    torch.testing.assert_close(turned.amplitude, found.amplitude)
    alone = effective_amplitude(x, 0 * x, RATE, centres)
    same = effective_amplitude(x, x, RATE, centres)
    torch.testing.assert_close(alone.amplitude * math.sqrt(2), same.amplitude)
    padded = fourier_amplitude(x, RATE, spacing_hz=0.001)
    torch.testing.assert_close(same.amplitude, smoothed(padded, centres, 188.5).amplitude, rtol=0.02, atol=0)
    assert effective_amplitude(0 * x, 0 * x, RATE, centres).amplitude.abs().max() == 0


def test_effective_amplitude_equals_the_definition_with_pykooh():
    pykooh = pytest.importorskip("pykooh", reason="pykooh is not installed (extra dev)")
    x, y = noise(2, 4096)
    centres = np.geomspace(0.2, 24, 15)
    f = np.fft.rfftfreq(1 << 18, 0.01)
    h = [np.abs(np.fft.rfft(v, 1 << 18)) * 0.01 for v in (x, y)]
    expected = pykooh.smooth(centres, f, np.sqrt((h[0] ** 2 + h[1] ** 2) / 2), 188.5)
    np.testing.assert_allclose(effective_amplitude(x, y, RATE, centres).amplitude, expected, rtol=0.01)


def test_log_spectral_distance_by_hand():
    y = noise(2, 3, 2000)
    for factor in (3.0, 0.25, -1.0):
        found = log_spectral_distance_db(factor * y, y, RATE, window_s=1.0, floor_db=200)
        torch.testing.assert_close(
            found, torch.full((2, 3), abs(20 * math.log10(abs(factor))), dtype=torch.float64), atol=1e-9, rtol=0
        )
    half = y.clone()  # a tenth from the middle on, of frames that lie on one side: 0 and 20 dB
    half[..., 1000:] *= 0.1
    found = log_spectral_distance_db(half, y, RATE, window_s=0.1, floor_db=200)
    torch.testing.assert_close(found, torch.full((2, 3), 10.0).double(), atol=0.6, rtol=0)


def test_log_spectral_distance_counts_the_band_alone():
    y = noise(4000)
    x = torch.as_tensor(signal.sosfiltfilt(signal.butter(8, 20, fs=RATE, output="sos"), y.numpy()).copy())
    below = log_spectral_distance_db(x, y, RATE, window_s=1.0, band_hz=(1, 12))
    above = log_spectral_distance_db(x, y, RATE, window_s=1.0, band_hz=(30, 50))
    assert below < 0.3 and above > 30


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_floor_ends_what_counts(dtype):
    """A missing trace is at most the floor away; noise far below the floor changes nothing."""
    y = torch.sin(2 * math.pi * 5 * time()).to(dtype)
    missing = log_spectral_distance_db(0 * y, y, RATE, window_s=1.0, floor_db=60)
    assert 0 < missing <= 60
    click = torch.zeros(100, dtype=dtype)
    click[50] = 3  # one frame, every frequency alike
    assert log_spectral_distance_db(0 * click, click, RATE, window_s=1.0, floor_db=60).item() == pytest.approx(60, rel=1e-5)
    quiet = log_spectral_distance_db(y + 1e-6 * noise(4000).to(dtype), y, RATE, window_s=1.0, floor_db=60)
    assert quiet < 1e-2


def test_log_spectral_distance_of_silence_and_scale():
    y, zero = noise(1, 500), torch.zeros(1, 500)
    assert log_spectral_distance_db(y, zero, RATE, window_s=1.0) == math.inf
    assert log_spectral_distance_db(zero, zero, RATE, window_s=1.0) == 0
    x = y + 0.1 * noise(1, 500, seed=3)
    one = log_spectral_distance_db(x, y, RATE, window_s=1.0)
    tiny = log_spectral_distance_db((1e-25 * x).float(), (1e-25 * y).float(), RATE, window_s=1.0)
    torch.testing.assert_close(tiny.double(), one, rtol=1e-3, atol=0)


@pytest.mark.parametrize("width", [128, 101])
def test_coherence_equals_scipy(width):
    y = noise(2, 3, 2000) + 7
    x = y + noise(2, 3, 2000, seed=1)
    found = coherence(x, y, RATE, segment_s=width / RATE, bands_hz=[(2, 10), (10, 50)])
    f, expected = signal.coherence(x.numpy(), y.numpy(), RATE, nperseg=width, noverlap=width // 2)
    np.testing.assert_allclose(found.frequencies_hz, f)
    np.testing.assert_allclose(found.coherence[..., 1:], expected[..., 1:], atol=1e-9)
    np.testing.assert_allclose(found.by_band[..., 0], expected[..., (f >= 2) & (f <= 10)].mean(-1), atol=1e-9)
    assert found.by_band.shape == (2, 3, 2) and found.segments == (2000 - width) // (width - width // 2) + 1


def test_coherence_of_a_filter_is_one_and_of_noise_one_over_segments():
    y = noise(20, 8000)
    bands = [(2.0, 40.0)]
    filtered = torch.as_tensor(signal.lfilter([-0.5, 0.2, 0.1], [1.0], y.numpy()).copy())
    assert coherence(filtered, y, RATE, segment_s=2.0, bands_hz=bands).by_band.min() > 0.99
    found = coherence(noise(20, 8000, seed=9), y, RATE, segment_s=2.0, bands_hz=bands)
    assert 0.8 / found.segments < found.by_band.mean() < 1.6 / found.segments


def test_coherence_where_there_is_no_energy_is_zero():
    y = noise(400)
    for x, ref in ((0 * y, y), (y, 0 * y), (0 * y, 0 * y), (0 * y + 0.1, y)):
        assert coherence(x, ref, RATE, segment_s=1.0).coherence.abs().max() < 1e-12
    tone = torch.sin(2 * math.pi * 10 * time())
    exact = torch.sin(2 * math.pi * (torch.arange(4000) % 10).double() / 10)
    both = coherence(exact, 3 * exact, RATE, segment_s=1.0, bands_hz=[(9, 11), (20, 50)])
    assert both.by_band[0] == pytest.approx(1) and both.by_band[1] == 0  # what is there is rounding
    found = coherence(tone, tone + 1e-3 * noise(4000), RATE, segment_s=1.0, bands_hz=[(9, 11), (30, 40)])
    assert found.by_band[0] > 0.99 and found.by_band[1] < 0.5  # rounding of the tone's other frequencies is not coherent


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: fourier_amplitude(x, RATE, spacing_hz=0.0), "positive"),
        (lambda x: fourier_amplitude(x / 0 * 0, RATE), "NaN"),
        (lambda x: konno_ohmachi([0.0, 1.0, 2.0], [1.4], 188.5), "too few frequencies lie near"),
        (lambda x: konno_ohmachi([0.0, 1.0, 2.0], [0.0], 40.0), "positive"),
        (lambda x: effective_amplitude(x, x, RATE, [60.0]), "half of it"),
        (lambda x: effective_amplitude(x, x, RATE, []), "half of it"),
        (lambda x: effective_amplitude(x, x[:-1], RATE, [1.0]), "resample"),
        (lambda x: log_spectral_distance_db(x, x, RATE, window_s=9.0), "frame of 9 s in a record of 1 s"),
        (lambda x: log_spectral_distance_db(x[:1], x[:1], RATE, window_s=0.01), "2 samples or more"),
        (lambda x: log_spectral_distance_db(x, x, RATE, window_s=0.5, band_hz=(3.1, 3.9)), "2 Hz apart"),
        (lambda x: log_spectral_distance_db(x, x, RATE, window_s=0.5, floor_db=-3), "floor"),
        (lambda x: coherence(x, x, RATE, segment_s=1.0), "one alone"),
        (lambda x: coherence(x, x, RATE, segment_s=0.2, bands_hz=[(51, 60)]), "widen"),
    ],
)
def test_bad_input_is_told(call, said):
    with pytest.raises(SeislatentError, match=said):
        call(torch.ones(100))
