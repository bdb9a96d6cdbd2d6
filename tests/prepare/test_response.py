"""Ground motion from counts: against ObsPy and a pole-zero response by hand; units; derivative and integral."""

import pickle
from pathlib import Path

import numpy as np
import obspy
import pytest
from obspy import Inventory, Stream, UTCDateTime
from obspy.core.inventory import Channel as StationChannel
from obspy.core.inventory import Network, Response, Station

from seislatent.errors import SeislatentError
from seislatent.io.files import from_stream
from seislatent.prepare.response import Responses, differentiate, integrate, remove_response, to_si
from seislatent.waveform import Channel, Waveform

POLES = [complex(-4.44, 4.44), complex(-4.44, -4.44)]  # a 1 Hz geophone, damping 0.7
GAIN = 4e8
EARLY, SPLIT = UTCDateTime(2015, 1, 1), UTCDateTime(2020, 1, 1)


def station(unit="M/S", codes=("HHZ", "HHN"), response=True, broken=False):
    """Two epochs: from 2020 on the gain is tripled."""
    channels = []
    for code in codes:
        for k, (start, end) in enumerate(((UTCDateTime(2010, 1, 1), SPLIT), (SPLIT, None))):
            one = StationChannel(code, "", 0, 0, 0, 0, start_date=start, end_date=end, sample_rate=100.0)
            if response:
                one.response = Response.from_paz([0j, 0j], POLES, GAIN * (1 + 2 * k), 10.0, "M/S", "COUNTS", 10.0)
                one.response.instrument_sensitivity.input_units = unit
                one.response.response_stages[0].stage_gain *= not broken
            channels.append(one)
    return Inventory([Network("XX", stations=[Station("AAA", 0, 0, 0, channels=channels)])])


def of_velocity(frequency_hz):
    """Counts per m/s by the poles and zeros."""
    s = 2j * np.pi * frequency_hz
    value = s**2 / np.prod([s - p for p in POLES])
    scale = np.abs((2j * np.pi * 10) ** 2 / np.prod([2j * np.pi * 10 - p for p in POLES]))
    return GAIN * value / scale


def counts(data, start=EARLY, codes=("HHZ", "HHN"), rate=100.0, **changes):
    channels = tuple(Channel(network="XX", station="AAA", code=c, component=c[-1]) for c in codes)
    values = {"data": data, "sampling_rate_hz": rate, "channels": channels, "start_ns": start.ns, "unit": "counts"}
    return Waveform(**values | changes)


def sine(frequency_hz, n=12_000):
    """What the instrument records of ground velocity 1e-6 sin(2 pi f t)."""
    turned = of_velocity(frequency_hz) * np.exp(2j * np.pi * frequency_hz * np.arange(n) / 100)
    return 1e-6 * np.stack([turned.imag, turned.real])


MIDDLE = slice(3000, 9000)


@pytest.mark.parametrize("frequency_hz", [0.2, 1.0, 7.0, 30.0])
@pytest.mark.parametrize("to, power, unit", [("displacement", -1, "m"), ("velocity", 0, "m/s"), ("acceleration", 1, "m/s^2")])
def test_a_sine_of_known_ground_motion_comes_back(frequency_hz, to, power, unit):
    options = {"pre_filter_hz": (0.05, 0.1, 40, 48), "water_level_db": None, "taper": 0.3}
    record = remove_response(counts(sine(frequency_hz)), station(), to, **options)
    omega = 2j * np.pi * frequency_hz
    expected = 1e-6 * omega**power * np.exp(omega * np.arange(12_000) / 100)
    for got, wanted in zip(record.data, (expected.imag, expected.real), strict=True):
        assert np.abs(got - wanted)[MIDDLE].max() < 0.01 * np.abs(expected).max()
    assert record.unit == unit and record.data.dtype == np.float64
    assert record.history[-1] == (
        f"response removed to {to} (StationXML; mean out, taper 30 %, pre-filter 0.05 0.1 40 48 Hz, water level none)"
    )


@pytest.mark.parametrize("level", [1e9, 1.0, 0.0])
def test_amplitude_goes_through(level):
    x = sine(5.0, 3000)
    small = remove_response(counts((x * level).astype(np.float32)), station()).data
    expected = remove_response(counts(x), station()).data * level
    assert small.dtype == np.float32 and np.allclose(small, expected, rtol=1e-4, atol=level * 1e-12)
    whole = remove_response(counts(np.round(x * 1e6).astype(np.int32)), station())
    assert whole.data.dtype == np.float64


def test_each_epoch_has_its_own_response():
    first, second = (remove_response(counts(sine(5.0), start=t), station()) for t in (SPLIT - 1e6, SPLIT))
    assert np.allclose(first.data[:, MIDDLE], 3 * second.data[:, MIDDLE], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("to", ["displacement", "velocity", "acceleration"])
@pytest.mark.parametrize("water_level_db", [20.0, 60.0, None])
@pytest.mark.parametrize("pre_filter_hz", [(0.1, 0.2, 6, 8), (0.02, 0.05, 8, 9.9)])
def test_as_obspy_does_it(to, water_level_db, pre_filter_hz):
    """ObsPy's own example record and inventory (all stages, digital filters included).

    Without a pre-filter the two differ at the Nyquist frequency, where ObsPy takes the absolute value of the last term.
    """
    folder = Path(obspy.__file__).parent / "core" / "tests" / "data"
    inventory = obspy.read_inventory(str(folder / "IU_ANMO_00_BHZ.xml"))
    stream = obspy.read()  # three components of BW.RJOB; their samples stand for those of the channel of the inventory
    trace = stream[0]
    trace.id = "IU.ANMO.00.BHZ"
    trace.stats.starttime = UTCDateTime(2013, 1, 1)
    trace.stats.sampling_rate = 20.0
    (record,) = from_stream(Stream([trace]))
    ours = remove_response(record, inventory, to, water_level_db=water_level_db, pre_filter_hz=pre_filter_hz)
    theirs = trace.copy()
    theirs.remove_response(inventory, {"displacement": "DISP", "velocity": "VEL", "acceleration": "ACC"}[to],
                           water_level=water_level_db, pre_filt=pre_filter_hz)  # fmt: skip
    error = np.sqrt(np.mean((ours.data[0] - theirs.data) ** 2)) / np.sqrt(np.mean(theirs.data**2))
    assert error < 1e-3


@pytest.mark.parametrize("record, inventory, options, line", [
    (counts(np.zeros((1, 50)), codes=("HHE",)), station(), {}, r"does not hold XX\.AAA\.\.HHE \(it holds XX\.AAA\.\.HHN"),
    (counts(np.zeros((2, 50)), start=UTCDateTime(2001, 1, 1)), station(), {}, r"no epoch of XX\.AAA\.\.HHZ covers 2001"),
    (counts(np.zeros((2, 50)), start=SPLIT - 0.2), station(), {}, "no epoch"),
    (counts(np.zeros((2, 50))), station(unit="PA"), {}, "responds to PA, not to ground motion"),
    (counts(np.zeros((2, 50))), station(response=False), {}, "no response in the inventory"),
    (counts(np.zeros((2, 50))), station(broken=True), {}, "cannot be computed"),
    (counts(np.zeros((2, 50)), unit="m/s"), station(), {}, "is in m/s, not in counts"),
    (counts(np.full((2, 50), np.nan)), station(), {}, "not finite"),
    (counts(np.zeros((2, 50))), station(), {"to": "velocty"}, "did you mean 'velocity'"),
    (counts(np.zeros((2, 50))), station(), {"pre_filter_hz": (1, 2, 2, 3)}, "four rising corners"),
    (counts(np.zeros((2, 50))), station(), {"taper": 2.0}, "share from 0 to 1"),
], ids=range(11))  # fmt: skip
def test_what_cannot_be_removed_is_told(record, inventory, options, line):
    with pytest.raises(SeislatentError, match=line) as error:
        remove_response(record, inventory, **options)
    assert "\n" not in str(error.value)


def test_many_records_share_what_was_computed():
    responses = Responses(station())
    records = [remove_response(counts(sine(f)), responses) for f in (1.0, 5.0, 1.0)]
    assert len(responses._computed) == 2 and np.array_equal(records[0].data, records[2].data)
    again = pickle.loads(pickle.dumps(responses))
    assert np.array_equal(remove_response(counts(sine(5.0)), again).data, records[1].data)
    assert remove_response(counts(np.zeros((2, 0))), responses).data.shape == (2, 0)
    assert remove_response(counts(np.ones((2, 1))), responses).data.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("unit, factor, si", [
    ("cm/s^2", 0.01, "m/s^2"), ("g", 9.80665, "m/s^2"), ("nm/s", 1e-9, "m/s"), ("m/s", 1.0, "m/s"), ("counts", 1.0, "counts"),
    (None, 1.0, None), ("hPa", 1.0, "hPa"),
])  # fmt: skip
def test_units(unit, factor, si):
    before = counts(np.arange(6, dtype=np.int32).reshape(2, 3), unit=unit, metadata={"trace_unit": unit, "kept": 1})
    after = to_si(before)
    assert after.unit == si and np.allclose(after.data, before.data * factor, rtol=1e-15)
    assert (after is before) == (factor == 1.0) and after.metadata["kept"] == 1
    assert after is before or (f"from {unit}" in after.history[-1] and "trace_unit" not in after.metadata)


def test_a_scale_factor_that_is_none():
    with pytest.raises(SeislatentError, match="scale factor is 0"):
        to_si(counts(np.zeros((2, 3)), metadata={"file_format": "KNET", "calib": 0.0}))
    same = counts(np.zeros((2, 3)), metadata={"file_format": "GSE2", "calib": 2.0})
    assert to_si(same) is same


@pytest.mark.parametrize("level", [1e6, 1e-9, 0.0])
def test_derivative_and_integral_of_sines(level):
    time, omega = np.arange(4000) / 100, 2 * np.pi * np.array([[0.5], [20.0]])
    velocity = counts(level * np.sin(omega * time), unit="m/s")
    there = differentiate(velocity)
    assert there.unit == "m/s^2" and there.metadata["trace_quantity"] == "acceleration"
    assert np.abs(there.data - level * omega * np.cos(omega * time))[:, 50:-50].max() <= 2e-4 * level * omega.max()
    back = integrate(velocity)
    expected = level * (1 - np.cos(omega * time)) / omega
    assert back.unit == "m" and np.abs(back.data - expected)[:, :].max() <= 4e-3 * level / omega.min()
    again = integrate(there).data[:, 50:-50]  # what the derivative lost at the ends comes back as a line
    line = np.polyfit(time[50:-50], (again - velocity.data[:, 50:-50]).T, 1)
    assert np.abs(again - velocity.data[:, 50:-50] - line[:1].T * time[50:-50] - line[1:].T).max() <= 0.01 * level


def test_unknown_gain_stays_unknown():
    raw = counts(np.random.default_rng(0).normal(size=(2, 500)).astype(np.float32))
    acceleration = differentiate(raw)
    assert acceleration.unit == "counts/s" and acceleration.metadata["trace_quantity"] == "acceleration up to a gain"
    assert acceleration.data.dtype == np.float32 and "up to a gain" in acceleration.history[-1]
    assert integrate(acceleration).unit == "counts" and integrate(integrate(acceleration)).unit == "counts*s"
    assert integrate(raw).metadata["trace_quantity"] == "displacement up to a gain" and integrate(raw).unit == "counts*s"
    assert differentiate(counts(np.zeros((2, 5)), unit="cm/s")).unit == "m/s^2"
    for record, line in ((acceleration, "nothing beyond"), (counts(np.zeros((1, 5)), codes=("HDF",)), "do not say"),
                         (counts(np.full((2, 5), np.nan)), "not finite")):  # fmt: skip
        with pytest.raises(SeislatentError, match=line):
            differentiate(record)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_short_records(n):
    for step in (differentiate, integrate):
        assert step(counts(np.ones((2, n)))).data.shape == (2, n) and np.allclose(step(counts(np.ones((2, n)))).data, 0)
