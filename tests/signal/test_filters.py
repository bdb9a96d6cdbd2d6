import numpy as np
import pytest
from scipy import signal

from seislatent.errors import SeislatentError
from seislatent.signal import filters, lanes
from seislatent.signal.filters import Butterworth

DESIGNS = [
    ("lowpass", 30.0, 4), ("lowpass", 1.0, 4), ("lowpass", 1.0, 3), ("highpass", 2.0, 5), ("bandpass", (0.5, 45.0), 4),
    ("bandpass", (1.0, 10.0), 1), ("bandstop", (9.0, 11.0), 2), ("lowpass", (5.0,), 1),
]  # fmt: skip


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).cumsum(-1)


@pytest.mark.parametrize(("kind", "corners", "order"), DESIGNS)
@pytest.mark.parametrize("shape", [(4096,), (5, 3, 300), (17, 1000), (1, 100)])
def test_zero_phase_and_causal_are_scipys(kind, corners, order, shape):
    x = noise(*shape)
    wanted = corners if isinstance(corners, float) or len(corners) > 1 else corners[0]
    sos = signal.butter(order, wanted, kind, fs=100.0, output="sos")
    both = Butterworth(kind=kind, corners_hz=corners, rate_hz=100.0, order=order)
    once = Butterworth(kind=kind, corners_hz=corners, rate_hz=100.0, order=order, zero_phase=False)
    expected = signal.sosfiltfilt(sos, x)
    np.testing.assert_allclose(both(x), expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    start = signal.sosfilt_zi(sos).reshape(len(sos), *[1] * (x.ndim - 1), 2) * x[None, ..., :1]
    expected = signal.sosfilt(sos, x, zi=start)[0]
    np.testing.assert_allclose(once(x), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_a_signal_does_not_depend_on_its_neighbours():
    x = noise(40, 500)
    run = Butterworth(kind="lowpass", corners_hz=5.0, rate_hz=100.0)
    whole = run(x)
    for rows in ([0], [39], [3, 4, 5], list(range(16))):
        np.testing.assert_array_equal(run(x[rows]), whole[rows])
    x[7, 100] = np.nan
    np.testing.assert_array_equal(run(x)[[6, 8]], whole[[6, 8]])
    assert np.isnan(run(x)[7]).all()


def test_the_result_may_replace_the_input():
    x = noise(20, 3, 200)
    kept = x.copy()
    run = Butterworth(kind="highpass", corners_hz=1.0, rate_hz=100.0)
    expected = run(x)
    np.testing.assert_array_equal(x, kept)
    assert run(x, out=x) is x
    np.testing.assert_array_equal(x, expected)
    with pytest.raises(SeislatentError, match="contiguous float64"):
        run(x, out=np.empty(x.shape, np.float32))


@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_short_signals_and_other_types(n, dtype):
    x = np.full((2, n), 3, dtype)
    for zero_phase in (True, False):
        y = Butterworth(kind="lowpass", corners_hz=1.0, rate_hz=100.0, zero_phase=zero_phase)(x)
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, x, rtol=1e-12)
    for step in (filters.demean, filters.detrend, filters.cosine_taper, filters.tukey_taper):
        assert step(x).shape == x.shape and step(x).dtype == np.float64
    np.testing.assert_array_equal(filters.demean(x), 0)
    np.testing.assert_array_equal(filters.differentiate(x, 100.0), 0)


@pytest.mark.parametrize("scale", [1e9, 1.0, 1e-30, 0.0])
def test_filters_are_linear_at_any_amplitude(scale):
    x = noise(4, 1000)
    run = Butterworth(kind="lowpass", corners_hz=1.0, rate_hz=100.0)
    np.testing.assert_allclose(run(scale * x), scale * run(x), rtol=0, atol=1e-12 * scale * np.abs(x).max())


def test_detrend_is_scipys_and_demean_leaves_no_mean():
    x = 1e8 + 5.0 * np.arange(1000) + noise(3, 4, 1000)
    np.testing.assert_allclose(filters.detrend(x), signal.detrend(x, axis=-1), atol=1e-6)
    assert np.abs(filters.demean(x).mean(-1)).max() < 1e-6
    assert filters.detrend(np.array([7.0])) == 0


def test_tapers_by_hand_and_as_scipy():
    y = filters.cosine_taper(np.ones((2, 100)), 0.1)
    np.testing.assert_allclose(y[1, :10], 0.5 - 0.5 * np.cos(np.pi * np.arange(10) / 10))
    np.testing.assert_allclose(y, y[:, ::-1])
    assert (y[:, 10:90] == 1).all()
    for n, share in ((4096, 0.05), (7, 0.5), (100, 1.0), (50, 0.0), (1, 0.5), (2, 0.3)):
        np.testing.assert_allclose(filters.tukey_taper(np.ones(n), share), signal.windows.tukey(n, share), atol=1e-12)
    with pytest.raises(SeislatentError, match=r"0 to 0\.5"):
        filters.cosine_taper(y, 0.6)
    with pytest.raises(SeislatentError, match="0 to 1"):
        filters.tukey_taper(y, -0.1)


@pytest.mark.parametrize("frequency_hz", [0.0, 0.5, 3.0, 17.0, 30.0, 42.0])
def test_the_derivative_of_a_sine(frequency_hz):
    t = np.arange(2000) / 100
    w = 2 * np.pi * frequency_hz
    x = np.stack([np.sin(w * t + 0.3), 5 + np.cos(w * t)])
    y = filters.differentiate(x, 100.0)[:, 50:-50]
    expected = np.stack([w * np.cos(w * t + 0.3), -w * np.sin(w * t)])[:, 50:-50]
    np.testing.assert_allclose(y, expected, rtol=0, atol=1.6e-4 * w + 1e-9)


def test_the_derivative_of_a_line_is_its_slope_up_to_the_ends():
    y = filters.differentiate(3.0 + 7.0 * np.arange(200) / 50, 50.0)
    np.testing.assert_allclose(y, 7.0, rtol=2e-5)
    np.testing.assert_allclose(filters.differentiate(np.arange(5.0), 1.0), 1.0, rtol=0.05)  # as good as five samples allow
    with pytest.raises(SeislatentError, match="positive"):
        filters.differentiate(np.ones(9), 0.0)


def test_what_cannot_be_designed_is_told():
    for corners in (50.0, 0.0, -1.0, np.nan):
        with pytest.raises(SeislatentError, match="Nyquist frequency, 50 Hz"):
            Butterworth(kind="lowpass", corners_hz=corners, rate_hz=100.0)
    with pytest.raises(SeislatentError, match="below the upper"):
        Butterworth(kind="bandpass", corners_hz=(10.0, 1.0), rate_hz=100.0)
    with pytest.raises(SeislatentError, match=r"2 corner\(s\), not 1"):
        Butterworth(kind="bandpass", corners_hz=10.0, rate_hz=100.0)
    with pytest.raises(SeislatentError, match="did you mean 'lowpass'"):
        Butterworth(kind="lowpas", corners_hz=10.0, rate_hz=100.0)
    with pytest.raises(SeislatentError, match="1 or more"):
        Butterworth(kind="lowpass", corners_hz=10.0, rate_hz=100.0, order=0)
    with pytest.raises(SeislatentError, match="real numbers"):
        filters.demean(np.array([b"a"]))


def test_loops_run_where_nothing_can_be_kept_on_disk(monkeypatch):
    """numba raises RuntimeError where neither the package's folder nor the user's can be written."""
    whole = lanes.numba.njit

    def refusing(*args, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return whole(*args, **options)

    monkeypatch.setattr(lanes.numba, "njit", refusing)
    double = lanes._compiled(lambda x: 2 * x)
    assert double(21) == 42 and hasattr(double, "py_func")
