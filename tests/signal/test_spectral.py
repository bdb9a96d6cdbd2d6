import numpy as np
import pytest
import scipy.signal
import torch

from seislatent.signal.spectral import istft, magnitude, stft


@pytest.mark.parametrize("window", [16, 64, 512])
def test_parity_with_scipy(window):
    x = torch.randn(2, 3, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = stft(x, window)
    hann = scipy.signal.get_window("hann", window)
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (window // 2, window // 2)])
    segments = np.lib.stride_tricks.sliding_window_view(padded, window, axis=-1)[..., :: window // 4, :]
    by_hand = np.fft.rfft(segments * hann).swapaxes(-1, -2) / np.sqrt((hann**2).sum())
    np.testing.assert_allclose(ours, by_hand, atol=1e-12)
    transform = scipy.signal.ShortTimeFFT(hann, window // 4, fs=1.0, phase_shift=None)
    theirs = transform.stft(x.numpy(), p0=0, p1=ours.shape[-1]) / np.sqrt((hann**2).sum())
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("amplitude", [1.0, 1e-3, 1e-6, 0.0])
@pytest.mark.parametrize("n", [50, 1000, 1001])
def test_there_and_back(amplitude, n):
    x = amplitude * torch.randn(2, 1, n, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(istft(stft(x, 64), 64, n), x, atol=2e-6 * amplitude, rtol=0)


def test_white_noise_has_unit_coefficients():
    x = torch.randn(1, 1, 40_000, generator=torch.Generator().manual_seed(2))
    for window in (16, 128):
        power = stft(x, window).abs().square()[..., 1:-1, :].mean()
        assert abs(power - 1) < 0.05


def test_silence_short_and_not_finite():
    x = torch.zeros(1, 1, 3, requires_grad=True)
    magnitude(x, 16).sum().backward()
    assert (x.grad == 0).all()
    assert stft(torch.zeros(1, 1, 1), 16).shape == (1, 1, 9, 1)
    assert torch.isnan(stft(torch.full((1, 1, 64), torch.nan), 16).abs()).any()
