import math

import numpy as np
import pytest
import torch
from obspy.signal.cross_correlation import correlate, xcorr_max

from seislatent.errors import SeislatentError
from seislatent.metrics.waveform import correlation, scale_invariant_sdr_db

RATE = 50.0


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pulse(delay_s, n=500, rate=RATE):
    """A Ricker wavelet of 3 Hz at 5 s + delay, exact between samples."""
    a = (math.pi * 3.0 * (torch.arange(n, dtype=torch.float64) / rate - 5 - delay_s)).square()
    return (1 - 2 * a) * torch.exp(-a)


def test_si_sdr_by_hand():
    x, y = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0])
    assert scale_invariant_sdr_db(x, y, RATE).item() == pytest.approx(0.0, abs=1e-12)  # the image (1, 1), the rest (1, -1)
    x = torch.tensor([3.0, 1.0])
    assert scale_invariant_sdr_db(x, y, RATE).item() == pytest.approx(10 * math.log10(8 / 2))


@pytest.mark.parametrize("factor", [1e-30, 1e-3, -2.0, 1e20])
def test_si_sdr_does_not_see_scale_and_sign(factor):
    y = noise(3, 400)
    x = y + 0.1 * noise(3, 400, seed=1)
    torch.testing.assert_close(scale_invariant_sdr_db(factor * x, y, RATE), scale_invariant_sdr_db(x, y, RATE), rtol=1e-9, atol=0)
    assert ((scale_invariant_sdr_db(x, y, RATE) - 20).abs() < 1).all()


def test_si_sdr_of_silence_is_as_stated():
    y, zero = noise(1, 50), torch.zeros(1, 50)
    assert scale_invariant_sdr_db(y, y, RATE).item() > 250
    assert scale_invariant_sdr_db(zero, y, RATE).item() == -math.inf
    assert scale_invariant_sdr_db(y, zero, RATE).item() == -math.inf
    assert scale_invariant_sdr_db(zero, zero, RATE).isnan().all()


@pytest.mark.parametrize("shift", [0, 7, -12])
def test_correlation_equals_obspy(shift):
    y = noise(4, 3, 300)
    x = torch.roll(y, shift, -1) + 0.3 * noise(4, 3, 300, seed=1) + 5
    found = correlation(x, y, RATE, max_shift_s=0.4)
    assert found.best.shape == (4, 3)
    for i in np.ndindex(4, 3):
        expected = correlate(x[i].numpy(), y[i].numpy(), 20)
        lag, value = xcorr_max(expected, abs_max=False)
        assert found.lag[i].item() == lag == shift
        assert found.best[i].item() == pytest.approx(value, rel=1e-9)
        assert found.at_zero[i].item() == pytest.approx(np.corrcoef(x[i], y[i])[0, 1], rel=1e-9)
    assert not found.at_limit.any()


@pytest.mark.parametrize("delay_s", [0.0, 0.0074, -0.113, 1.2345])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shift_is_found_between_samples(delay_s, dtype):
    found = correlation(pulse(delay_s).to(dtype), pulse(0.0).to(dtype), RATE)
    assert found.shift_s.item() == pytest.approx(delay_s, abs=0.03 / RATE)
    assert found.lag.item() == round(delay_s * RATE)
    assert found.shift_s.dtype == dtype and found.best > 0.95


@pytest.mark.parametrize("amplitude", [1e-30, 1e30])
def test_correlation_in_float32_at_any_amplitude(amplitude):
    y = noise(2, 200, dtype=torch.float32)
    found = correlation(amplitude * y, y, RATE)
    torch.testing.assert_close(found.best, torch.ones(2), atol=1e-5, rtol=0)


def test_wrong_polarity_shows_at_zero_lag():
    assert correlation(-pulse(0), pulse(0), RATE).at_zero.item() == pytest.approx(-1)


def test_limit_of_the_lags_is_told():
    found = correlation(pulse(0.5), pulse(0), RATE, max_shift_s=0.1)
    assert found.at_limit and found.lag == 5
    assert not correlation(pulse(0), pulse(0), RATE, max_shift_s=0.0).at_limit


@pytest.mark.parametrize("value", [0.0, 0.1, 1e20])
def test_constants_have_no_correlation(value):
    flat = torch.full((2, 64), value)
    for x, y in ((flat, noise(2, 64, dtype=torch.float32)), (noise(2, 64, dtype=torch.float32), flat), (flat, flat)):
        found = correlation(x, y, RATE)
        assert (found.best == 0).all() and (found.at_zero == 0).all() and (found.lag == 0).all()
        assert found.shift_s.isnan().all() and not found.at_limit.any()
    one = correlation(flat[:, :1], flat[:, :1], RATE)
    assert (one.best == 0).all()


@pytest.mark.gpu
def test_every_metric_of_this_folder_gives_on_a_gpu_what_it_gives_on_the_cpu():
    from seislatent.evaluate.baselines import stacking
    from seislatent.metrics import detection, envelope, onset, picks, polarisation, spectrum

    y, label = noise(6, 3, 800), torch.arange(18) % 2
    x = torch.roll(y, 3, -1) + 0.2 * noise(6, 3, 800, seed=1)
    score, weight = noise(18, seed=2), detection.event_weights(range(18), draws=8)
    calls = {
        "correlation": lambda x, y, s: vars(correlation(x, y, RATE)),
        "si_sdr": lambda x, y, s: {"value": scale_invariant_sdr_db(x, y, RATE)},
        "onset": lambda x, y, s: vars(onset.onset_shift(x, y, RATE, torch.tensor(400))),
        "envelope": lambda x, y, s: vars(envelope.envelope_scores(x, y, RATE)),
        "polarisation": lambda x, y, s: vars(polarisation.polarisation(x, RATE, window_s=2.0)),
        "eas": lambda x, y, s: vars(spectrum.effective_amplitude(x, y, RATE, [1.0, 5.0])),
        "lsd": lambda x, y, s: {"value": spectrum.log_spectral_distance_db(x, y, RATE, window_s=1.0)},
        "coherence": lambda x, y, s: vars(spectrum.coherence(x, y, RATE, segment_s=2.0, bands_hz=[(1, 9)])),
        "roc": lambda x, y, s: vars(detection.roc(s, label.to(s.device), weight=weight)),
        "classes": lambda x, y, s: vars(detection.classification(s > 0, label.to(s.device), weight=weight)),
        "picks": lambda x, y, s: vars(picks.pick_scores(s, weight=weight)),
        "align": lambda x, y, s: vars(stacking.align(x, RATE, max_shift_s=1.0)),
        "stack": lambda x, y, s: {"value": stacking.phase_weighted_stack(x)},
    }
    for name, call in calls.items():
        there, here = call(x.cuda(), y.cuda(), score.cuda()), call(x, y, score)
        for key, value in here.items():
            if isinstance(value, torch.Tensor):
                assert there[key].is_cuda, (name, key)
                torch.testing.assert_close(there[key].cpu(), value, rtol=1e-8, atol=1e-8)


def test_counts_are_taken_in_float64():
    y = (noise(1, 100) * 1e9).to(torch.int32)
    assert correlation(y, y, RATE).best.dtype == torch.float64


@pytest.mark.parametrize(
    ("x", "y", "rate", "said"),
    [
        (torch.zeros(2, 5), torch.zeros(2, 6), RATE, "resample"),
        (torch.zeros(2, 0), torch.zeros(2, 0), RATE, "no samples"),
        (torch.zeros(0, 5), torch.zeros(0, 5), RATE, "no traces"),
        (torch.tensor([[0.0, math.nan]]), torch.zeros(1, 2), RATE, "1 of 1 traces of the estimate"),
        (torch.zeros(1, 2), torch.tensor([[0.0, math.inf]]), RATE, "of the reference"),
        (torch.zeros(1, 2), torch.zeros(1, 2), 0.0, "0.0 Hz"),
        (torch.zeros(1, 2), torch.zeros(1, 2), math.nan, "nan Hz"),
        (torch.zeros(1, 2, dtype=torch.complex64), torch.zeros(1, 2), RATE, "complex"),
    ],
)
def test_bad_input_is_told(x, y, rate, said):
    for measure in (scale_invariant_sdr_db, correlation):
        with pytest.raises(SeislatentError, match=said):
            measure(x, y, rate)
    with pytest.raises(SeislatentError, match="largest shift"):
        correlation(torch.zeros(2), torch.zeros(2), RATE, max_shift_s=-1.0)


def test_the_largest_samples_of_float32_have_a_correlation():
    y = torch.full((1, 400), 3e38)
    y[:, ::3] = 2e38
    found = correlation(y, y, RATE)
    assert found.at_zero.item() == pytest.approx(1) and found.lag == 0
