import numpy as np
import pytest
from scipy import signal

from seislatent.errors import SeislatentError
from seislatent.prepare import condition
from seislatent.waveform import Channel, Waveform

STEPS = {
    "demean": condition.demean,
    "detrend": condition.detrend,
    "taper": condition.taper,
    "bandpass": lambda w: condition.bandpass(w, 1, 10),
    "bandpass causal": lambda w: condition.bandpass(w, 1, 10, zero_phase=False),
    "lowpass": lambda w: condition.lowpass(w, 10),
    "highpass": lambda w: condition.highpass(w, 1),
    "resample": lambda w: condition.resample(w, 40),
    "scale": lambda w: condition.scale(w, 2.0),
}


def record(data, rate=100.0, **more):
    data = np.atleast_2d(data)
    channels = tuple(Channel(network="XX", station="ABC", code=f"HH{c}", component=c) for c in "ZNE"[: len(data)])
    return Waveform(data=data, sampling_rate_hz=rate, channels=channels, start_ns=123_456_789, unit="counts", **more)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("n", [0, 1, 2, 500])
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_every_step_keeps_identity_and_signs(step, n, dtype):
    before = record(np.random.default_rng(0).normal(0, 1000, (3, n)).astype(dtype), history=("read",))
    kept = before.data.copy()
    after = step(before)
    assert (after.start_ns, after.ids, after.unit) == (before.start_ns, before.ids, before.unit)
    assert after.history[0] == "read" and len(after.history) == 2
    assert after.data.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert np.isfinite(after.data).all()
    assert after.data.shape[1] == (-(-n * 2 // 5) if step is STEPS["resample"] else n)
    np.testing.assert_array_equal(before.data, kept)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_samples_that_are_no_numbers_are_told(step):
    with pytest.raises(SeislatentError, match=r"XX.ABC..HHZ: 1 samples are NaN"):
        step(record(np.array([1.0, np.nan, 3.0])))
    with pytest.raises(SeislatentError, match="no numbers"):
        step(record(np.array([b"a", b"b"])))


def test_demean_and_detrend_by_hand():
    x = record(np.array([1, 2, 3, 6], np.int32))
    np.testing.assert_allclose(condition.demean(x).data, [[-2, -1, 0, 3]])
    np.testing.assert_allclose(condition.detrend(x).data, [[0.4, -0.2, -0.8, 0.6]], atol=1e-12)
    ramp = record(1e8 + 5.0 * np.arange(1000))
    assert np.abs(condition.detrend(ramp).data).max() < 1e-6
    assert condition.detrend(record(np.array([7.0]))).data == 0


def test_taper_is_a_cosine():
    y = condition.taper(record(np.ones(100)), 0.1).data[0]
    np.testing.assert_allclose(y[:10], 0.5 - 0.5 * np.cos(np.pi * np.arange(10) / 10))
    np.testing.assert_allclose(y, y[::-1])
    assert (y[10:90] == 1).all()
    assert (condition.taper(record(np.ones(3))).data == 1).all()
    with pytest.raises(SeislatentError, match=r"0 to 0\.5"):
        condition.taper(record(np.ones(3)), 0.6)


def test_filters_pass_their_band_and_stop_the_rest():
    t = np.arange(4000) / 100
    low, mid, high = (np.sin(2 * np.pi * f * t) for f in (0.1, 3.0, 30.0))
    x = record(low + mid + high)
    core = slice(1000, -1000)
    np.testing.assert_allclose(condition.bandpass(x, 1, 10).data[0, core], mid[core], atol=0.01)
    np.testing.assert_allclose(condition.lowpass(x, 0.7).data[0, core], low[core], atol=0.01)
    np.testing.assert_allclose(condition.highpass(x, 10).data[0, core], high[core], atol=0.01)


def test_a_causal_filter_moves_nothing_before_its_cause():
    x = np.full(1000, 1e6)
    x[600] += 1.0
    causal = condition.bandpass(record(x), 1, 10, zero_phase=False).data[0]
    assert np.abs(causal[:600]).max() < 1e-6 * np.abs(causal[600:]).max() + 1e-7
    assert np.abs(condition.bandpass(record(x), 1, 10).data[0, 550:600]).max() > 1e-3


def test_corners_are_checked_against_nyquist():
    x = record(np.zeros(100))
    for call in (lambda: condition.lowpass(x, 50), lambda: condition.highpass(x, 0), lambda: condition.bandpass(x, 1, 60)):
        with pytest.raises(SeislatentError, match="Nyquist frequency, 50 Hz"):
            call()
    with pytest.raises(SeislatentError, match="below the upper"):
        condition.bandpass(x, 10, 1)


def test_resampling_moves_the_marks():
    x = record(np.zeros(1000), metadata={"trace_p_arrival_sample": 500, "trace_s_arrival_sample": np.nan, "source_magnitude": 3.0})
    y = condition.resample(x, 40)
    assert y.sampling_rate_hz == 40 and y.data.shape == (1, 400)
    assert y.metadata["trace_p_arrival_sample"] == 200 and np.isnan(y.metadata["trace_s_arrival_sample"])
    assert y.metadata["source_magnitude"] == 3.0
    assert condition.resample(x, 100) is x
    with pytest.raises(SeislatentError, match="rate"):
        condition.resample(x, 0)


def test_scale_changes_the_unit():
    y = condition.scale(record(np.array([3], np.int32)), 1e-9, "m/s")
    assert y.unit == "m/s" and y.data[0, 0] == pytest.approx(3e-9)


@pytest.mark.parametrize("order", [3, 4])
def test_filters_are_scipys(order):
    x = record(np.random.default_rng(0).normal(0, 1, (3, 2000)).cumsum(-1))
    sos = signal.butter(order, [1, 10], "bandpass", fs=100, output="sos")
    both, once = (condition.bandpass(x, 1, 10, order=order, zero_phase=z) for z in (True, False))
    np.testing.assert_allclose(both.data, signal.sosfiltfilt(sos, x.data), atol=1e-9)
    start = signal.sosfilt_zi(sos)[:, None] * x.data[None, :, :1]
    np.testing.assert_allclose(once.data, signal.sosfilt(sos, x.data, zi=start)[0], atol=1e-9)
    assert both.history == (f"bandpass (1 to 10 Hz, order {order}, zero phase)",)
    assert once.history == (f"bandpass (1 to 10 Hz, order {order}, causal)",)
    with pytest.raises(SeislatentError, match=r"order 0: give 1 or more for XX\.ABC\.\.HHZ"):
        condition.lowpass(x, 10, order=0)
