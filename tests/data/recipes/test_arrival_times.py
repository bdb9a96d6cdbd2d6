"""A pulse at a known time through every recipe: it, and P, stand where start and columns say, to a part of a sample."""

from __future__ import annotations

import numpy as np
import pytest
from obspy import Stream, Trace, UTCDateTime

from seislatent import stores
from seislatent.data.recipe import Made
from seislatent.data.store import Store
from seislatent.waveform import Channel, Waveform

START_NS = 1_600_000_000_123_456_789
P_S = 60.004
AFTER_S = 4.0
"""The pulse stands so long after P (before it, for noise)."""


def times(n, rate):
    return np.arange(n) / rate


def pulse(time, at):
    """Gaussian, up to about 8 Hz."""
    return np.exp(-0.5 * ((time - at) / 0.06) ** 2)


def record(rate, after=AFTER_S, unit="m/s^2"):
    """Three components of little noise with a pulse of another size on each."""
    n = round(180 * rate)
    quiet = np.random.default_rng(0).normal(0, 1e-3, (3, n)) * (1 + (times(n, rate) > P_S))  # onset for rules about SNR
    data = quiet + pulse(times(n, rate), P_S + after) * [[1.0], [0.9], [0.8]]
    metadata = {
        "trace_name": "one", "dataset": "set", "split": "train", "source_id": "ev", "source_magnitude": 4.2,
        "source_type": "earthquake", "trace_p_arrival_sample": P_S * rate, "source_depth_km": 10.0, "path_ep_distance_km": 50.0,
        "source_origin_time": str(UTCDateTime(ns=START_NS) + P_S - 9), "trace_start_time": str(UTCDateTime(ns=START_NS)),
    }  # fmt: skip
    channels = tuple(Channel(network="XX", station="ABC", code=f"HH{c}", component=c) for c in "ZNE")
    return Waveform(data=data, sampling_rate_hz=rate, channels=channels, start_ns=START_NS, unit=unit, metadata=metadata)


def peak_s(x, rate):
    """Time of the largest value in seconds after the first sample, by the parabola through three."""
    k = int(np.argmax(np.abs(x)))
    a, b, c = np.abs(x[k - 1 : k + 2])
    return (k + 0.5 * (a - c) / (a - 2 * b + c)) / rate


def check(made, expected_s, p=True):
    """Every channel's peak, and P, in seconds after START_NS, to 0.2 samples."""
    rate, begin_s = made.record.sampling_rate_hz, (made.record.start_ns - START_NS) / 1e9
    for x in made.record.data:
        assert begin_s + peak_s(x, rate) == pytest.approx(expected_s, abs=0.2 / rate)
    if p:
        column = made.record.metadata["trace_p_arrival_sample"]
        assert begin_s + column / rate == pytest.approx(P_S, abs=1e-6)


PRESETS = {
    "data/marmara": {}, "data/pairs": {}, "data/pairs_appendix": {"category": "null"}, "data/kong_picking": {},
    "data/kong_autoencoder": {}, "data/kong_noise": {}, "data/kong_explosion": {}, "data/groups": {"quantity": "as recorded"},
    "data/codec": {},
}  # fmt: skip


@pytest.mark.parametrize("rate", [100.0, 125.0, 200.0])
@pytest.mark.parametrize("name", PRESETS)
def test_the_pulse_and_p_stand_at_their_times(name, rate):
    recipe = stores.recipe(stores.preset(name), PRESETS[name])
    found = list(recipe.make([record(rate)], [np.random.default_rng(3)]))
    assert found and all(isinstance(one, Made) for one in found), found
    for one in found:
        end_s = (one.record.start_ns - START_NS) / 1e9 + one.record.data.shape[1] / one.record.sampling_rate_hz
        if end_s > P_S + AFTER_S + 1:  # a window of few seconds after P may end before the pulse
            check(one, P_S + AFTER_S)


def test_noise_before_p_stands_at_its_time():
    recipe = stores.recipe(stores.preset("data/noise"), {"loudest": "null", "per_record": "2"})
    found = list(recipe.make([record(100.0, after=-20.0)], [np.random.default_rng(1)]))
    assert len(found) == 2 and all(isinstance(one, Made) for one in found)
    spans = [((one.record.start_ns - START_NS) / 1e9, one.record.data.shape[1] / 20) for one in found]
    (held,) = [one for one, (begin, length) in zip(found, spans, strict=True) if begin < P_S - 20 < begin + length]
    check(held, P_S - 20.0, p=False)
    assert all(begin + length <= P_S - 2 + 0.05 for begin, length in spans)


@pytest.mark.parametrize("rate", [50.0, 100.0, 200.0])
def test_labelled_files_stand_at_their_times(tmp_path, rate):
    w = record(rate)
    begin = UTCDateTime(ns=START_NS // 1000 * 1000)  # a file holds microseconds
    head = {"network": "XX", "station": "ABC", "sampling_rate": rate, "starttime": begin}
    traces = [Trace((1e6 * x).astype(np.int32), {**head, "channel": f"HH{c}"}) for x, c in zip(w.data, "ZNE", strict=True)]
    (tmp_path / "in").mkdir()
    Stream(traces).write(str(tmp_path / "in" / "a.mseed"), format="MSEED")
    (tmp_path / "in" / "labels.csv").write_text(f"file,label,p_time\na.mseed,eq,{begin + P_S}\n")
    made = stores.prepare("data/labelled", tmp_path / "in", tmp_path / "out")
    (one,) = Store(made.path)
    assert (one.start_ns - begin.ns) / 1e9 + one.metadata["trace_p_arrival_sample"] / 100 == pytest.approx(P_S, abs=1e-6)
    assert (one.start_ns - begin.ns) / 1e9 + peak_s(one.data[0], 100.0) == pytest.approx(P_S + AFTER_S, abs=0.002)
