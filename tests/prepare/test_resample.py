import numpy as np
import pytest

from seislatent.errors import SeislatentError
from seislatent.prepare.resample import Resampler, resample, resample_back

PAIRS = [
    (100, 40),
    (40, 100),
    (20, 40),
    (62.5, 40),
    (99.9987, 40),
    (500, 40),
    (40, 10),
    (33.3333, 40),
    (40, 99.9987),
    (1, 40),
    (100, 40.01),
]
RNG = np.random.default_rng(0)


def tone(frequency, rate, n, phase=0.3):
    return np.sin(2 * np.pi * frequency * np.arange(n) / rate + phase)


def inside(y, rate_in, rate_out):
    """Away from the ends, where the held edge values are seen."""
    cut = int(70 * max(1, rate_out / min(rate_in, rate_out)))
    return slice(cut, len(y) - cut)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.9])
def test_a_tone_keeps_amplitude_and_phase(pair, share):
    frequency = share * min(pair) / 2
    n = int(300 * max(1, pair[0] / pair[1]))
    y = resample(tone(frequency, pair[0], n), *pair)
    wanted = tone(frequency, pair[1], len(y))
    core = inside(y, *pair)
    assert core.stop > core.start
    assert np.abs(y[core] - wanted[core]).max() < 1e-4  # 0.001 dB


@pytest.mark.parametrize("pair", [p for p in PAIRS if p[0] > p[1] * 1.1])
def test_what_lies_above_the_lower_nyquist_is_gone(pair):
    n = int(400 * pair[0] / pair[1])
    for frequency in np.linspace(pair[1] / 2, pair[0] / 2, 9):
        y = resample(tone(frequency, pair[0], n), *pair)
        assert np.abs(y[inside(y, *pair)]).max() < 10 ** (-98 / 20)


@pytest.mark.parametrize("rates", [(100, 40), (99.9987, 40), (250, 40)])
def test_there_and_back(rates):
    n = 4001
    x = sum(tone(f, rates[0], n, f) for f in (0.05, 1.7, 9.3, 17.9))
    back = resample_back(resample(x, *rates), rates[1], rates[0], n)
    assert back.shape == x.shape
    core = slice(800, -800)
    assert np.abs(back - x)[core].max() < 4e-4


@pytest.mark.parametrize("pair", PAIRS)
def test_pieces_are_equal_to_the_bit(pair):
    x = RNG.normal(size=(2, 9000)) * 1e5 + 3e6
    whole, resampler = resample(x, *pair), Resampler(*pair)
    n = resampler.length(x.shape[-1])
    assert whole.shape[-1] == n
    for length in (1, 37, 64, 1000):
        for n0 in RNG.integers(0, n - 1, 4).tolist():
            n1 = min(n, n0 + length)
            a, b = resampler.span(n0, n1)
            piece = x[:, np.clip(np.arange(a, b), 0, x.shape[-1] - 1)]
            np.testing.assert_array_equal(resampler.apply(piece, n0, n1), whole[:, n0:n1])


def test_irrational_rates_do_not_drift_in_a_year():
    rate = 99.9987
    resampler = Resampler(rate, 40)
    n0 = 40 * 86400 * 365
    a, b = resampler.span(n0, n0 + 100)
    y = resampler.apply(np.sin(2 * np.pi * 0.01 * (np.arange(a, b) - n0 * rate / 40)), n0, n0 + 100)
    lag = y[0] / (2 * np.pi * 0.01)  # in input samples
    assert abs(lag) < 0.01


@pytest.mark.parametrize("pair", PAIRS)
def test_an_offset_is_kept_exactly(pair):
    assert (resample(np.full(3000, 1e8), *pair) == 1e8).all()
    noisy = RNG.normal(size=3000)
    np.testing.assert_allclose(resample(noisy + 1e8, *pair) - 1e8, resample(noisy, *pair), atol=1e-6)


@pytest.mark.parametrize("pair", [*PAIRS, (40, 40), (1000, 1), (1, 1000), (5000, 1)])
def test_lengths_small_empty_and_integer_input(pair):
    resampler = Resampler(*pair)
    for n in (0, 1, 2, 1000):
        y = resample(np.full((2, n), 7, np.int32), *pair)
        assert y.dtype == np.float64
        assert y.shape == (2, resampler.length(n))
        assert (y == 7).all()
        assert abs(resampler.length(n) - n * pair[1] / pair[0]) < 1
        assert resample_back(y, pair[1], pair[0], n).shape == (2, n)


def test_equal_rates_change_nothing():
    x = RNG.normal(size=50)
    np.testing.assert_array_equal(resample(x, 40, 40 * (1 + 5e-10)), x)


def test_bad_input_is_told():
    for rates in [(0, 40), (40, -1), (np.nan, 40), (1e6, 1)]:
        with pytest.raises(SeislatentError, match="cannot resample"):
            Resampler(*rates)
    with pytest.raises(SeislatentError, match="finite"):
        resample(np.array([1.0, np.nan, 2.0]), 100, 40)
    with pytest.raises(SeislatentError, match="need the"):
        Resampler(100, 40).apply(np.zeros(3), 0, 10)
    with pytest.raises(SeislatentError, match="complex"):
        resample(np.zeros(30, complex), 100, 40)
