"""Values by hand and stated blindness of the losses between samples, spectra and wavelets."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import ShortTimeFFT

from seislatent.errors import SeislatentError
from seislatent.losses.amplitude_phase import stft_amplitude_phase
from seislatent.losses.focal_frequency import focal_frequency
from seislatent.losses.hyperspherical import hyper_spherical
from seislatent.losses.logarithmic import mean_squared_logarithmic, symmetric_log
from seislatent.losses.mel import mel, mel_bank, multiscale_mel
from seislatent.losses.waveform import squared_error
from seislatent.losses.wavelet import LOW_PASS, halves, wavelet
from seislatent.signal.spectral import stft


def noise(seed=0, shape=(2, 3, 400), dtype=torch.float64):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return x / x.square().mean((1, 2), keepdim=True).sqrt()


def tone(k, amplitude=1.0, n=400, phase=0.0):
    return (amplitude * torch.cos(2 * math.pi * k * torch.arange(n, dtype=torch.float64) / n + phase))[None, None]


def row(*values):
    return torch.tensor([[values]], dtype=torch.float64)


class TestLogarithmic:
    def test_by_hand(self):
        value = mean_squared_logarithmic(row(0, math.e - 1, -3), row(0, 0, 1))
        torch.testing.assert_close(value.item(), (0 + 1 + (math.log(4) + math.log(2)) ** 2) / 3)
        torch.testing.assert_close(mean_squared_logarithmic(row(20.0), row(0.0), knee=20.0).item(), math.log(2) ** 2)

    def test_of_positive_samples_it_is_the_plain_one(self):
        x, y = noise(1).abs(), noise(2).abs()
        plain = ((x + 1).log() - (y + 1).log()).square().mean((1, 2))
        torch.testing.assert_close(mean_squared_logarithmic(x, y), plain)
        assert ((noise(1) + 1).log()).isnan().any()  # why the plain one does not do

    def test_slope_at_zero(self):
        x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        symmetric_log(x, 4.0).backward()
        assert x.grad == 0.25
        assert torch.autograd.gradcheck(symmetric_log, noise(3, (1, 1, 40)).requires_grad_())

    def test_nearly_blind_to_the_amplitude_of_strong_samples(self):
        strong = mean_squared_logarithmic(row(1100.0), row(1000.0)).item()
        weak = mean_squared_logarithmic(row(0.1), row(0.0)).item()
        torch.testing.assert_close(strong, 0.009, atol=1e-4, rtol=0)
        torch.testing.assert_close(weak, 0.009, atol=1e-4, rtol=0)

    def test_refuses_a_knee_of_zero(self):
        with pytest.raises(SeislatentError, match="knee 0"):
            mean_squared_logarithmic(row(1), row(1), knee=0)


class TestHyperSpherical:
    def test_by_hand(self):
        torch.testing.assert_close(hyper_spherical(row(3, 4), row(4, 3), floor=0).item(), (1 - 24 / 25) ** 2)
        x = noise(1)
        torch.testing.assert_close(hyper_spherical(-x, x), torch.full((2,), 4.0).double(), rtol=1e-6, atol=0)
        assert hyper_spherical(0 * x, 0 * x).abs().max() == 0
        torch.testing.assert_close(hyper_spherical(0 * x, x), torch.ones(2).double(), rtol=1e-3, atol=0)

    def test_equals_the_formula_with_its_floor(self):
        x, y, f = noise(1), noise(2), 0.3
        cos = ((x * y).mean(-1) + f**2) / ((x.square().mean(-1) + f**2) * (y.square().mean(-1) + f**2)).sqrt()
        torch.testing.assert_close(hyper_spherical(x, y, f), (1 - cos).square().mean(-1))

    def test_digits_near_identity(self):
        """At 60 dB the loss is 2.5e-13: 1 - cos in float32 would be rounding alone."""
        x, e = noise(1, (1, 1, 4000)), noise(2, (1, 1, 4000))
        exact = hyper_spherical(x + 1e-3 * e, x)
        torch.testing.assert_close(hyper_spherical((x + 1e-3 * e).float(), x.float()).double(), exact, rtol=1e-2, atol=0)

    def test_blind_to_amplitude_and_flat(self):
        x = noise(1)
        assert hyper_spherical(1000 * x, x).max() < 1e-15
        e = noise(2, (2, 3, 400))
        e = e - (e * x).sum(-1, keepdim=True) / (x * x).sum(-1, keepdim=True) * x
        e = 0.1 * e * x.square().mean(-1, keepdim=True).sqrt() / e.square().mean(-1, keepdim=True).sqrt()
        torch.testing.assert_close(hyper_spherical(x + e, x), torch.full((2,), 2.5e-5).double(), rtol=0.02, atol=0)  # 20 dB


class TestFocalFrequency:
    @pytest.mark.parametrize("n", [400, 401])
    def test_by_hand(self, n):
        y = noise(3, (1, 1, n))
        torch.testing.assert_close(focal_frequency(y + tone(17, 0.6, n), y).item(), 0.6**2 / 2)
        two = y + tone(17, 0.6, n) + tone(90, 0.2, n, 1.0)
        torch.testing.assert_close(focal_frequency(two, y).item(), 0.6**2 / 2 + 0.2**2 / 2 * (0.2 / 0.6))
        torch.testing.assert_close(focal_frequency(two, y, alpha=2).item(), 0.6**2 / 2 + 0.2**2 / 2 * (0.2 / 0.6) ** 2)
        lift = math.log1p(0.2 * math.sqrt(n) / 2) / math.log1p(0.6 * math.sqrt(n) / 2)
        torch.testing.assert_close(focal_frequency(two, y, logarithmic=True).item(), 0.6**2 / 2 + 0.2**2 / 2 * lift)
        torch.testing.assert_close(focal_frequency(y + 0.3, y).item(), 0.09)  # frequency 0 stands for itself alone

    @pytest.mark.parametrize("n", [64, 65])
    def test_equals_the_full_transform(self, n):
        x, y = noise(1, (2, 3, n)), noise(2, (2, 3, n))
        apart = torch.fft.fft(x - y).abs() / math.sqrt(n)
        weight = apart / apart.amax(-1, keepdim=True)
        torch.testing.assert_close(focal_frequency(x, y), (weight * apart**2).mean((1, 2)))

    def test_bounded_by_the_squared_error(self):
        x, y = noise(1), noise(2)
        torch.testing.assert_close(focal_frequency(x, y, alpha=0), squared_error(x, y))
        assert (focal_frequency(x, y) < squared_error(x, y)).all()
        valid = torch.ones(x.shape, dtype=torch.bool)
        valid[:, :, 300:] = False
        torch.testing.assert_close(focal_frequency(x, y, alpha=0, valid=valid), squared_error(x, y, valid))
        impulse = torch.zeros(1, 1, 400).double()
        impulse[..., 123] = 3.0
        torch.testing.assert_close(focal_frequency(impulse, 0 * impulse), squared_error(impulse, 0 * impulse))

    def test_weight_is_taken_per_channel_of_each_record(self):
        x, y = noise(1), noise(2)
        loud = torch.cat([x, 1000 * x]), torch.cat([y, 1000 * y])
        torch.testing.assert_close(focal_frequency(*loud)[:2], focal_frequency(x, y))
        apart = torch.stack([focal_frequency(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)]).mean(0)
        torch.testing.assert_close(focal_frequency(x, y), apart)

    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    def test_gradient_stops_at_the_weight(self, alpha):
        x, y = noise(1).requires_grad_(), noise(2)
        focal_frequency(x, y, alpha).sum().backward()
        apart = torch.fft.fft((x - y).detach(), norm="ortho")
        size = apart.abs()
        weight = (size / size.amax(-1, keepdim=True)) ** alpha
        torch.testing.assert_close(x.grad, 2 / (3 * 400) * torch.fft.ifft(weight * apart, norm="ortho").real)

    def test_powers_of_faint_errors(self):
        x = noise(4, dtype=torch.float32)
        faint = focal_frequency(1e-12 * x, 0 * x, alpha=3.0)
        torch.testing.assert_close(faint, 1e-24 * focal_frequency(x, 0 * x, alpha=3.0), rtol=1e-4, atol=0)

    def test_blind_to_when_the_error_comes(self):
        y, burst = noise(3, (1, 1, 400)), torch.zeros(1, 1, 400).double()
        burst[..., 100:110] = torch.hann_window(10)
        spectrum = torch.fft.rfft(burst)
        turned = torch.polar(spectrum.abs(), torch.rand(201, generator=torch.Generator().manual_seed(1)).double() * 6)
        turned[..., 0], turned[..., -1] = spectrum[..., 0], spectrum[..., -1]
        spread = torch.fft.irfft(turned, 400)
        assert spread.abs().max() < 0.5 * burst.abs().max()
        torch.testing.assert_close(focal_frequency(y + spread, y), focal_frequency(y + burst, y))

    def test_refuses_a_negative_power(self):
        with pytest.raises(SeislatentError, match="alpha -1"):
            focal_frequency(row(1, 2), row(1, 2), -1)


class TestAmplitudeAndPhase:
    def test_by_hand(self):
        x, turned = tone(50), tone(50, phase=0.7)
        error = stft_amplitude_phase(2 * x, x, [40], floor=1e-9)
        scipys = ShortTimeFFT(torch.hann_window(40, dtype=torch.float64).numpy(), 10, 1.0)
        inside = np.abs(scipys.stft(x[0, 0].numpy(), p0=0, p1=41)) / math.sqrt(0.375 * 40)
        torch.testing.assert_close(error.amplitude.item(), 0.5 * float((inside**2).mean()))
        error = stft_amplitude_phase(turned, x, [40], floor=1e-3)
        # the tone's own bin and its neighbours, away from the ends: 1 - cos 0.7; leakage elsewhere has other phases
        middle = stft_amplitude_phase(turned[..., 100:300], x[..., 100:300], [40], floor=0.5).phase.item()
        assert 0 < middle < error.phase.item() < 2

    def test_phase_of_impulses(self):
        """Two impulses half a window's sample grid apart turn bin k by 2 pi k lag / window: mean of 1 - cos over bins by hand."""
        x, y = torch.zeros(2, 1, 1, 65).double()
        x[..., 32], y[..., 33] = 1.0, 1.0
        value = stft_amplitude_phase(x, y, [32], floor=1e-12).phase.item()
        k = torch.arange(17).double()
        both = 4 - 1  # frames centred on 24, 32, 40 see both (the one on 48 begins on 32 with weight 0, and sees 33 alone)
        alone = 1  # one phasor of length 1 against none: 1/2
        by_hand = (both * (1 - torch.cos(2 * math.pi * k / 32)).sum() + alone * 17 * 0.5) / (17 * 9)
        torch.testing.assert_close(value, by_hand.item())

    def test_total_and_the_law_of_cosines(self):
        x, y = noise(1), noise(2)
        error = stft_amplitude_phase(x, y, [32, 64])
        torch.testing.assert_close(error.total(0.3), error.amplitude + 0.3 * error.phase)
        a, b = stft(x, 32), stft(y, 32)
        weighed = (a.abs() - b.abs()).square() / 2 + a.abs() * b.abs() * (1 - torch.cos(a.angle() - b.angle()))
        torch.testing.assert_close(weighed, (a - b).abs().square() / 2)

    def test_blindness(self):
        x = noise(1)
        upside_down, double = stft_amplitude_phase(-x, x), stft_amplitude_phase(2 * x, x)
        assert upside_down.amplitude.abs().max() < 1e-12
        torch.testing.assert_close(upside_down.phase, torch.full((2,), 2.0).double(), atol=1e-3, rtol=0)
        assert double.phase.max() < 1e-4
        torch.testing.assert_close(double.amplitude, torch.full((2,), 0.5).double(), atol=0.06, rtol=0)  # less at the ends
        # noise 50 dB below a tone takes the vote of nearly every bin
        hidden = stft_amplitude_phase(tone(50) + 3e-3 * noise(2, (1, 1, 400)), tone(50) + 3e-3 * noise(3, (1, 1, 400)), [128])
        assert hidden.amplitude.item() < 1e-5 < 0.5 < hidden.phase.item()


class TestMel:
    def test_scale(self):
        assert abs(mel(np.array([1000.0]))[0] - 1000) < 0.1 and mel(np.array([0.0]))[0] == 0
        f = np.linspace(0, 20, 201)
        straight = mel(np.array([20.0]))[0] * f / 20
        assert np.abs(mel(f) - straight).max() / straight[-1] < 0.004
        slopes = np.gradient(mel(f), f)
        np.testing.assert_allclose(slopes[0] / slopes[-1] - 1, 0.028, atol=2e-3)  # the widest band is 2.8 % wider

    def test_bank_by_hand(self):
        """Rate 8, window 8: bins of 1 Hz. Corner so high that the scale is straight: two triangles 0-4/3-8/3 and 4/3-8/3-4."""
        bank = mel_bank(8, 8.0, 2, corner_hz=1e9)
        h = 4 / 3
        areas = np.array([0.5**2, 1.5**2 - 0.5**2]) / (2 * h)  # bins 0 and 1, but for what lies past the peak at 4/3
        areas[1] = (h**2 - 0.25) / (2 * h) + (h**2 - (2 * h - 1.5) ** 2) / (2 * h)
        areas = np.append(areas, [((2 * h - 1.5) ** 2 - (2 * h - 2.5) ** 2) / (2 * h), (2 * h - 2.5) ** 2 / (2 * h), 0])
        np.testing.assert_allclose(bank[0], areas / h, atol=1e-6)
        np.testing.assert_allclose(bank[1], bank[0][::-1], atol=1e-6)

    def test_bank_of_many_bins_is_made_of_triangles(self):
        bank = mel_bank(4096, 40.0, 10)
        edges = 10 ** (np.linspace(0, np.log10(21), 12)) - 1
        f = np.arange(2049) * 40 / 4096
        for weights, left, peak, right in zip(bank, edges, edges[1:], edges[2:], strict=False):
            triangle = np.clip(np.minimum((f - left) / (peak - left), (right - f) / (right - peak)), 0, None)
            np.testing.assert_allclose(weights, triangle / triangle.sum(), atol=2e-2 * weights.max())

    @pytest.mark.parametrize("window", [16, 31, 512])
    def test_no_band_is_empty(self, window):
        bank = mel_bank(window, 40.0, 64, low_hz=0.1)
        assert bank.shape == (64, window // 2 + 1) and (bank >= 0).all()
        np.testing.assert_allclose(bank.sum(1), 1)

    def test_value_by_hand(self):
        """One impulse: |S| = w / root(sum w^2) at every frequency, so every band too."""
        x = torch.zeros(1, 1, 8)
        x[..., 4] = 1
        size = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.0]) / math.sqrt(3)
        plain = multiscale_mel(x, torch.zeros_like(x), 40.0, [8], bands=3, logarithmic=False)[0]
        torch.testing.assert_close(plain, size.mean() + size.square().mean().sqrt(), atol=1e-5, rtol=0)
        logs = torch.log((size + 1e-3) / 1e-3)
        by_hand = size.mean() + 2 * math.sqrt(3) * logs.mean() / 3
        value = multiscale_mel(x, torch.zeros_like(x), 40.0, [8], bands=3)[0]
        torch.testing.assert_close(value, by_hand, atol=1e-4, rtol=0)

    def test_linear_bands_below_20_hz_are_the_plain_spectrum(self):
        """With 700 Hz as corner every band of a window of 128 is one bin wide."""
        wide = (mel_bank(128, 40.0, 64, corner_hz=700.0) > 1e-3).sum(1)
        assert wide.max() <= 4 and wide.min() >= 2
        wide = (mel_bank(128, 40.0, 64, corner_hz=1.0) > 1e-3).sum(1)
        assert wide.max() >= 7 and wide.min() <= 2

    def test_blindness(self):
        x = noise(1)
        assert multiscale_mel(-x, x, 40.0).abs().max() < 1e-6
        # one band that peaks at 10 Hz: a tone of 11 Hz for one of 9 Hz is not seen; in narrow bands it is
        low, high = tone(90), tone(110)
        one, many = (multiscale_mel(high, low, 40.0, [64], bands=b, corner_hz=1e9, logarithmic=False).item() for b in (1, 64))
        assert one < 1e-3 * many and many > 0.3

    @pytest.mark.parametrize("wrong", [{"high_hz": 21.0}, {"low_hz": 20.0}, {"corner_hz": 0.0}, {"bands": 0}])
    def test_refuses_bands_that_make_no_sense(self, wrong):
        with pytest.raises(SeislatentError, match="mel bands"):
            multiscale_mel(noise(1), noise(2), 40.0, **wrong)

    def test_refuses_windows_without_a_hop(self):
        for windows in ([], [3]):
            with pytest.raises(SeislatentError, match="at least 4 samples"):
                multiscale_mel(noise(1), noise(2), 40.0, windows)


class TestWavelet:
    @pytest.mark.parametrize("kind", LOW_PASS)
    @pytest.mark.parametrize("n", [1, 2, 5, 8, 401])
    def test_halves_keep_the_energy(self, kind, n):
        x = noise(1, (2, 3, n))
        low, high = halves(x, kind)
        assert low.shape == high.shape
        torch.testing.assert_close(low.square().sum(-1) + high.square().sum(-1), x.square().sum(-1))

    def test_haar_by_hand(self):
        low, high = halves(row(1, 3, 2, 2), "haar")
        torch.testing.assert_close(low, row(4, 4) / math.sqrt(2))
        torch.testing.assert_close(high.abs(), row(2, 0) / math.sqrt(2))
        # level 1 high 2, 0; modulus the same; level 2 high 0; low 8 / 2 = 4 (all over powers of root 2); each mean over its grid
        value = wavelet(row(1, 3, 2, 2), row(0, 0, 0, 0), 2, weights=[1, 10, 100], modulus_weight=0.5, kind="haar")
        torch.testing.assert_close(value.item(), 1.5 * (2 / math.sqrt(2)) / 2 + 10 * 0 + 100 * 4)

    def test_two_vanishing_moments(self):
        line = 3 + 0.2 * torch.arange(40, dtype=torch.float64)[None, None]
        high = halves(line)[1]
        assert high[..., 1:-1].abs().max() < 1e-12 and high[..., [0, -1]].abs().min() > 0.1

    def test_modulus_does_not_know_directions(self):
        """Fast motion turned from north to east keeps its modulus, but not its parts."""
        x = noise(1, (1, 2, 400))
        turned = x.flip(1)
        with_modulus = wavelet(turned, x, 1, weights=[1, 0])
        without = wavelet(turned, x, 1, weights=[1, 0], modulus_weight=0)
        torch.testing.assert_close(with_modulus, without)
        assert without > 0.5 and wavelet(2 * x, x, 1, weights=[1, 0]) > wavelet(2 * x, x, 1, weights=[1, 0], modulus_weight=0) + 0.5

    def test_octaves_are_weighed_apart(self):
        """A tone in the second octave (0.35 of Nyquist) is for the second weight."""
        x, none = tone(70), torch.zeros(1, 1, 400).double()
        parts = [wavelet(x, none, 3, weights=w, modulus_weight=0).item() for w in np.eye(4).tolist()]
        assert parts[1] == max(parts)

    def test_blind_to_frequency_within_an_octave(self):
        none = torch.zeros(1, 1, 400).double()
        lower, higher = (wavelet(tone(k), none, 1, weights=[1, 0], modulus_weight=0).item() for k in (150, 180))
        assert abs(lower / higher - 1) < 0.15

    def test_refusals(self):
        with pytest.raises(SeislatentError, match="daubechies2"):
            wavelet(noise(1), noise(2), kind="daubechies4")
        with pytest.raises(SeislatentError, match="3 levels and 3 weights"):
            wavelet(noise(1), noise(2), 3, weights=[1, 1, 1])
