import math

import numpy as np
import pytest
import scipy.linalg
import torch

from seislatent.errors import SeislatentError
from seislatent.signal.oscillator import FINEST, directional_peaks, recursion, response, steps_per_sample

ALL = [float(a) for a in range(180)]


def quake(records=2, n=1500, seed=0, rate=100.0):
    """Bursts with a spectrum that falls towards the Nyquist frequency, as ground motion's does."""
    x = torch.randn(records, 2, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    f = torch.fft.rfftfreq(n, 1 / rate)
    x = x * torch.exp(-(((torch.arange(n) - n / 3) / (n / 8)) ** 2))
    return torch.fft.irfft(torch.fft.rfft(x) * f / (1 + f) * torch.exp(-0.08 * f), n)


def forced(f, period, damping, t):
    """w^2 u of an oscillator at rest at 0 under sin(2 pi f t): steady motion and the free vibration that begins it."""
    w, p = 2 * np.pi / period, 2 * np.pi * f
    z = -(w**2) / (w**2 - p**2 + 2j * damping * w * p)
    u0, v0, wd = z.imag, (1j * p * z).imag, w * math.sqrt(1 - damping**2)
    free = np.exp(-damping * w * t) * (-u0 * np.cos(wd * t) + (-v0 - damping * w * u0) / wd * np.sin(wd * t))
    return (z * np.exp(1j * p * t)).imag + free


PERIODS = [0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0]


@pytest.mark.parametrize("f", [0.4, 1.0, 2.0])
def test_sine_is_within_one_percent_of_the_exact_solution(f):
    rate, seconds = 100.0, 40.0  # whole cycles
    x = torch.sin(2 * torch.pi * f * torch.arange(int(rate * seconds) + 1, dtype=torch.float64) / rate)
    found = directional_peaks(x, 0.5 * x, rate, PERIODS, [0, 90])
    for i, period in enumerate(PERIODS):
        exact = np.abs(forced(f, period, 0.05, np.arange(0, seconds, min(period, 1 / f) / 400))).max()
        np.testing.assert_allclose(found[i].numpy(), [exact, exact / 2], rtol=0.01)


@pytest.mark.parametrize(("f", "more"), [(2.0, 0), (9.0, 0), (22.0, 0), (35.0, 0.01)])
def test_waves_near_the_nyquist_frequency_too_if_they_do_not_begin_with_a_jolt(f, more):
    """A wave packet at 100 Hz against the same at 3200 Hz, where straight lines are true to 0.1 %."""

    def packet(rate):
        t = torch.arange(int(20 * rate) + 1, dtype=torch.float64) / rate
        return torch.sin(2 * torch.pi * f * t + 0.3) * torch.exp(-(((t - 10) / 2) ** 2))

    exact = directional_peaks(packet(3200.0), packet(3200.0), 3200.0, PERIODS, [0], interpolate=False)
    found = directional_peaks(packet(100.0), packet(100.0), 100.0, PERIODS, [0])
    torch.testing.assert_close(found, exact, rtol=0.01, atol=more)


def test_straight_lines_are_exact_at_the_samples():
    """Duhamel's integral of each straight piece by quadrature."""
    x, step, period, damping = quake(1, 60)[0, 0], 0.02, 0.3, 0.05
    w = 2 * np.pi / period
    wd = w * math.sqrt(1 - damping**2)
    fine, step_fine = np.linspace(0, 59 * step, 59 * 2000 + 1), step / 2000
    a = np.interp(fine, np.arange(60) * step, x.numpy())
    for k in (1, 2, 17, 59):
        lag = k * step - fine[: k * 2000 + 1]
        kernel = -np.exp(-damping * w * lag) * np.sin(wd * lag) / wd * w**2
        exact = np.trapezoid(a[: k * 2000 + 1] * kernel, dx=step_fine)
        found = response(x, step, [period], damping)[0][0, k].item()
        assert found == pytest.approx(exact, abs=1e-6 * float(x.abs().max()))


def test_steps_keep_their_digits_at_long_periods():
    """Under a constant the state follows a closed form; a period of 1e5 steps leaves differences of 1e-10."""
    made = recursion([100.0], 0.05, 0.001)
    w = 2 * np.pi / 1e5
    both = (made.before + made.after)[0]
    assert both[0] == pytest.approx(-(w**2) / 2, rel=1e-4) and both[1] == pytest.approx(-(w**2), rel=1e-4)
    assert made.after[0, 0] == pytest.approx(-(w**2) / 6, rel=1e-4)


def test_steps_are_the_exponential_of_the_system_without_the_threads_of_linear_algebra(monkeypatch):
    """SciPy's wakes threads that turn in circles for a while, and hold the cores that the loops need."""
    exact = scipy.linalg.expm
    monkeypatch.setattr(scipy.linalg, "expm", None)
    for step in (1e-4, 0.0025, 0.5):
        w = 2 * np.pi * step / np.geomspace(0.001, 100, 23)
        system = np.zeros((23, 4, 4))
        system[:, 0, 1] = system[:, 2, 3] = 1
        system[:, 1, 0] = system[:, 1, 2] = -(w**2)
        system[:, 1, 1] = -0.1 * w
        wanted, made = exact(system), recursion(np.geomspace(0.001, 100, 23).tolist(), 0.05, step)
        np.testing.assert_allclose(made.transition, wanted[:, :2, :2], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(made.after, wanted[:, :2, 3], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(made.before + made.after, wanted[:, :2, 2], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("interpolate", [True, False])
def test_loops_leave_no_peak_out(interpolate):
    """Against every point turned in every direction, for round, flat and straight paths."""
    x = quake(4)
    x[1, 1] = 0.3 * x[1, 0]  # a straight line: almost nothing at 107 degrees
    x[2, 1] = 0.02 * x[2, 1] + x[2, 0]
    x[3] = 0
    x[3, 0, 700] = 1
    periods = [0.01, 0.021, 0.033, 0.07, 0.15, 0.2, 0.5, 1.0, 2.0, 7.5, 10.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 20.0, 25.0]
    fast = directional_peaks(x[:, 0], x[:, 1], 100.0, periods, ALL, interpolate=interpolate, loops=True)
    slow = directional_peaks(x[:, 0], x[:, 1], 100.0, periods, ALL, interpolate=interpolate, loops=False)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)
    assert slow.shape == (4, 20, 180)


def test_a_peak_between_samples_is_found_in_a_stretch_whose_samples_are_lower():
    """Two packets of nearly one height, far apart, whose crests fall on samples or between them by chance."""
    g, t = torch.Generator().manual_seed(0), torch.arange(900, dtype=torch.float64)
    first, second = torch.rand(2, 60, 1, generator=g, dtype=torch.float64)
    height = 1 + 0.04 * torch.rand(60, 1, generator=g, dtype=torch.float64)

    def packet(at):
        return torch.cos(2 * torch.pi * (t - at) / 10) * torch.exp(-(((t - at) / 60) ** 2))

    x = packet(200 + 10 * first) + height * packet(650 + 10 * second)
    y = 0.7 * packet(200 + 10 * second) - height * packet(650 + 10 * first)
    fast = directional_peaks(x, y, 100.0, [0.1, 0.025], ALL, loops=True)
    slow = directional_peaks(x, y, 100.0, [0.1, 0.025], ALL, loops=False)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)


def test_threads_and_order_of_periods_change_nothing():
    x, before = quake(5), torch.get_num_threads()
    one = directional_peaks(x[:, 0], x[:, 1], 100.0, [1.0, 0.02, 0.5, 0.05], ALL)
    try:
        torch.set_num_threads(2)
        two = directional_peaks(x[:, 0], x[:, 1], 100.0, [0.05, 0.02, 0.5, 1.0], ALL)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two[:, [3, 1, 2, 0]])


def test_nothing_wraps_around():
    """A late shock must not move a slow oscillator before it, and zeros behind a record change nothing before them."""
    x = torch.zeros(2000, dtype=torch.float64)
    x[1500] = 1
    moved = response(x, 0.01, [10.0, 50.0])[0]
    assert moved[:, :1499].abs().max() < 1e-12 and moved[:, 1600].abs().min() > 1e-4
    longer = response(torch.nn.functional.pad(x, (0, 777)), 0.01, [10.0, 50.0])[0]
    torch.testing.assert_close(longer[:, :2000], moved, rtol=0, atol=1e-12)


def test_gradients_and_float32():
    x = quake(1)[0].requires_grad_()
    directional_peaks(x[0], x[1], 100.0, [0.5], [0.0, 30.0]).sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() > 0
    single = directional_peaks(x.detach()[0].float(), x.detach()[1].float(), 100.0, [0.5], [0.0])
    torch.testing.assert_close(single, directional_peaks(x.detach()[0], x.detach()[1], 100.0, [0.5], [0.0]), rtol=1e-5, atol=0)


def test_bad_input():
    x = quake(2)
    spoilt = x.clone()
    spoilt[0, 1, 5] = torch.nan
    found = directional_peaks(spoilt[:, 0], spoilt[:, 1], 100.0, [0.5], ALL)
    assert found[0].isnan().all() and torch.equal(found[1], directional_peaks(x[:, 0], x[:, 1], 100.0, [0.5], ALL)[1])
    assert (directional_peaks(0 * x[0, 0], 0 * x[0, 0], 100.0, [0.5], ALL) == 0).all()
    assert directional_peaks(x[:, 0], x[:, 1], 100.0, [], ALL).shape == (2, 0, 180)
    assert directional_peaks(x[:0, 0], x[:0, 1], 100.0, [1.0], ALL).shape == (0, 1, 180)
    for wrong in ({"periods_s": [0.0]}, {"periods_s": [1.0], "damping": 1.0}, {"periods_s": [math.nan]}):
        with pytest.raises(SeislatentError):
            directional_peaks(x[0, 0], x[0, 1], 100.0, angles_deg=ALL, **wrong)
    with pytest.raises(SeislatentError, match="2 samples"):
        directional_peaks(x[0, 0, :1], x[0, 1, :1], 100.0, [1.0], ALL)
    with pytest.raises(SeislatentError, match="two components of one shape"):
        directional_peaks(x[0, 0], x[0, 1, :-1], 100.0, [1.0], ALL)
    with pytest.raises(SeislatentError, match="sampling rate"):
        directional_peaks(x[0, 0], x[0, 1], 0.0, [1.0], ALL)


def test_grid_follows_the_period():
    assert [steps_per_sample(p, 100.0) for p in (10, 0.1, 0.099, 0.05, 0.049, 0.01)] == [1, 1, FINEST, FINEST, FINEST, FINEST]


def test_plain_method_is_that_of_eqsig():
    eqsig = pytest.importorskip("eqsig", reason="the comparison needs eqsig: pip install eqsig")
    from eqsig.sdof import nigam_and_jennings_response

    x, periods = quake(1)[0], np.array([0.05, 0.3, 1.0, 4.0])
    theirs = np.abs(nigam_and_jennings_response(x[0].numpy(), 0.01, periods, 0.05)[0]).max(1) * (2 * np.pi / periods) ** 2
    ours = directional_peaks(x[0], x[1], 100.0, periods.tolist(), [0.0], interpolate=False)[:, 0]
    assert eqsig is not None
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)  # it rounds 2 pi to nine digits


def test_short_periods_are_those_of_pyrotd(monkeypatch):
    """It interpolates too; its transform wraps around, so periods are short against the record."""
    import sys
    import types

    if "pkg_resources" not in sys.modules:  # gone from setuptools 81 on; it asks for its own version and no more
        stand_in = types.ModuleType("pkg_resources")
        stand_in.get_distribution = lambda name: types.SimpleNamespace(version="0")
        monkeypatch.setitem(sys.modules, "pkg_resources", stand_in)
    pyrotd = pytest.importorskip("pyrotd", reason="the comparison needs pyrotd: pip install pyrotd")
    x, periods = quake(1, 3000)[0], np.array([0.02, 0.05, 0.2, 0.5, 1.0])
    rotated = directional_peaks(x[0], x[1], 100.0, periods.tolist(), ALL)
    theirs = pyrotd.calc_rotated_spec_accels(0.01, *x.numpy(), 1 / periods, percentiles=[50, 100]).spec_accel
    ours = torch.quantile(rotated, torch.tensor([0.5, 1.0], dtype=torch.float64), dim=-1).T
    np.testing.assert_allclose(ours, np.reshape(theirs, (-1, 2)), rtol=0.02)
