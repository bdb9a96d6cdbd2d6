"""Single channels of a sensor become one record on one time grid."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from seislatent.data.gather import Unfit, duplicates, gather, group_by_sensor, sensor_of
from seislatent.prepare.orient import orient
from seislatent.waveform import Channel, Waveform

START = -86_400_000_000_000 + 123_456_789  # a day before 1970


def trace(code="HHZ", n=100, *, first=0, shift=0.0, rate=100.0, dtype=np.int32, unit="counts", base=0, location="", **meta):
    """A channel whose sample at grid position k is k + 1000 * (place of its letter)."""
    values = np.arange(first, first + n) + 1000 * "ZNE12XL".index(code[-1]) + base
    channel = Channel(network="XX", station="AAA", location=location, code=code)
    start = START + round((first + shift) * 1e9 / rate)
    return Waveform(data=values[None].astype(dtype), sampling_rate_hz=rate, channels=(channel,), start_ns=start, unit=unit,
                    metadata=meta)  # fmt: skip


def three(**changes):
    return [trace(code, **changes) for code in ("HHE", "HHZ", "HHN")]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("order", ["ZNE", "ENZ", "NZ", "Z"])
def test_whole_channels_keep_type_values_and_order(dtype, order):
    record = gather(three(dtype=dtype), order=order)
    assert record.data.dtype == dtype and record.components == tuple(order) and record.start_ns == START
    assert all(np.array_equal(row, np.arange(100) + 1000 * "ZNE".index(c)) for row, c in zip(record.data, order, strict=True))
    assert record.unit == "counts" and record.history == (f"gathered {', '.join(order)}",)


@pytest.mark.parametrize("level", [1e6, 1e-9, 0.0])
def test_amplitude_is_untouched(level):
    parts = [w.with_data((w.data * level).astype(np.float32), did="scaled") for w in three()]
    record = gather(parts)
    assert record.data.dtype == np.float32 and np.array_equal(record.data[0], parts[1].data[0])
    assert record.history[0] == "scaled" and len(record.history) == 2


def test_sub_sample_starts_come_onto_the_first_grid():
    record = gather([trace("HHZ"), trace("HHN", shift=0.4), trace("HHE", shift=-0.25)])
    assert record.start_ns == START and record.data.shape == (3, 100) and record.data.dtype == np.int32
    assert "moved by up to 0.4 samples onto the grid of Z" in record.history[-1]


def test_larger_differences_are_cut_to_the_common_span():
    record = gather([trace("HHZ", first=3), trace("HHN", 90, first=5, shift=0.3), trace("HHE", 200, first=-20)])
    assert record.data.shape == (3, 90) and record.start_ns == START + 50_000_000 and "90 of 200" in record.history[-1]
    assert np.array_equal(record.data - np.array([[0], [1000], [2000]]), np.tile(np.arange(5, 95), (3, 1)))


def test_segments_gaps_and_overlaps():
    z = [trace("HHZ", 40), trace("HHZ", 60, first=40)]
    n = [trace("HHN", 50), trace("HHN", 60, first=40)]  # ten samples twice, alike
    e = [trace("HHE", 30), trace("HHE", 60, first=40)]  # ten samples missing
    whole = gather([*n, *z, trace("HHE")])
    assert whole.data.dtype == np.int32 and np.array_equal(whole.data[1], np.arange(100) + 1000)
    for parts in itertools.islice(itertools.permutations([*z, *n, *e]), 0, 720, 37):
        record = gather(parts)
        assert record.data.dtype == np.float64 and np.flatnonzero(np.isnan(record.data[2])).tolist() == list(range(30, 40))
        assert np.array_equal(record.data[:2], whole.data[:2]) and record.data[2, 40] == 2040
    assert "gaps of 10 samples" in record.history[-1] and "Z of 2, N of 2, E of 2" in record.history[-1]
    shorter = [trace(c, 25) for c in ("HHZ", "HHN")]
    assert gather([*shorter, *e]).data.dtype == np.int32  # the gap lies outside the common span


def test_nan_gives_way_to_a_number_and_stays_where_there_is_none():
    first = trace("HHZ", dtype=np.float32)
    first.data[0, 20:30] = np.nan
    filled = gather([first, trace("HHZ", 5, first=20, dtype=np.float32)], order="Z")
    assert np.array_equal(filled.data[0, 15:25], np.arange(15, 25)) and np.isnan(filled.data[0, 25:30]).all()


def test_a_gap_that_the_file_had_is_a_gap():
    parts = three(dtype=np.float32)
    parts[0].data[0, 7] = np.nan
    record = gather(parts)
    assert record.data.dtype == np.float64 and np.argwhere(np.isnan(record.data)).tolist() == [[2, 7]]
    assert gather(parts, order="ZN").data.dtype == np.float32


def test_a_stray_segment_years_away_is_cut_off():
    stray = replace(trace("HHZ"), start_ns=START + 10**18)
    record = gather([*three(), stray])
    assert record.data.shape == (3, 100) and record.data.dtype == np.int32 and "100 of" in record.history[-1]


def wrong_overlap():
    return [*three(), trace("HHZ", 20, first=90, base=1)]


LOG = Waveform(data=np.full((1, 9), b"a"), sampling_rate_hz=100.0, channels=(Channel(network="XX", station="AAA", code="HHZ"),))


@pytest.mark.parametrize("parts, reason", [
    ([], "no samples"),
    ([trace(n=0)], "no samples"),
    ([trace("HHZ"), trace("HHN")], "missing component"),
    ([trace("HHZ"), trace("HHN"), trace("HH2")], "missing component"),
    ([*three(), replace(trace("HHX"), channels=(Channel(network="XX", station="AAA", code="HHG"),))], "unknown component code"),
    ([trace("HHZ"), trace("HHN"), trace("HHE", rate=50.0)], "different sampling rates"),
    ([trace("HHZ"), trace("HHN"), trace("HHE", unit="m/s")], "different units"),
    ([trace("HHZ"), trace("HHN"), trace("HNE")], "several sensors"),
    ([trace("HHZ"), trace("HHN"), trace("HHE", location="10")], "several sensors"),
    (wrong_overlap(), "overlap disagrees"),
    ([trace("HHZ"), trace("HHN"), trace("HHE", first=100)], "no common span"),
    ([*three(), *(replace(w, start_ns=w.start_ns + 10**16) for w in three())], "too long"),
    ([LOG, *three()[::2]], "no numbers"),
])  # fmt: skip
def test_what_makes_no_record_has_a_reason(parts, reason):
    with pytest.raises(Unfit) as error:
        gather(parts)
    assert error.value.reason == reason and str(error.value).startswith(f"{reason}: ") and "\n" not in str(error.value)


def test_horizontals_that_are_not_oriented_stay_as_recorded():
    record = gather([trace("HH2"), trace("HHZ"), trace("HH1")])
    assert record.components == ("Z", "1", "2") and record.history[-1] == "unoriented: components Z, 1, 2 as recorded"
    assert gather([*three(), trace("HH1"), trace("HH2")]).components == ("Z", "N", "E")


def test_what_is_not_oriented_is_turned_with_directions_later():
    directions = {"HHZ": (0.0, -90.0), "HH1": (30.0, 0.0), "HH2": (120.0, 0.0)}
    parts = [replace(w, channels=(replace(w.channels[0], azimuth_deg=a, dip_deg=d),))
             for w, (a, d) in ((trace(code), directions[code]) for code in directions)]  # fmt: skip
    record = gather(parts)
    assert not any(line.startswith("unoriented") for line in record.history)
    turned = orient(record)
    angle = np.radians(30)
    expected = np.cos(angle) * record.data[1] - np.sin(angle) * record.data[2]
    assert turned.components == ("Z", "N", "E") and np.allclose(turned.data[1], expected)


def test_one_sample_is_a_record():
    assert gather(three(n=1)).data.tolist() == [[0], [1000], [2000]]


def test_metadata_that_agree_stay_and_picks_count_from_the_new_start():
    parts = [trace("HHZ", trace_p_arrival_sample=30.0, source_id="q", trace_name="a", calib=2.0, station="one"),
             trace("HHN", first=10, trace_p_arrival_sample=20.0, source_id="q", trace_name="b", calib=2.0, station="two"),
             trace("HHE", trace_s_arrival_sample=5.0, source_id="q", calib=2.0)]  # fmt: skip
    record = gather(parts)
    assert record.metadata == {"trace_p_arrival_sample": 20.0, "source_id": "q", "calib": 2.0}
    apart = gather([trace("HHZ", calib=2.0), trace("HHN", calib=3.0), trace("HHE")])
    assert apart.metadata == {} and "calib differs: Z 2, N 3, E 1" in apart.history[-1]


def test_groups_by_sensor_and_duplicates(caplog):
    parts = [*three(first=100), *three(), trace("HHZ"), trace("HNZ"), trace("HHZ", location="10"), trace("HHZ", base=1)]
    assert duplicates(parts) == [6]
    groups = group_by_sensor(parts)
    assert {key: len(group) for key, group in groups.items()} == {
        ("XX", "AAA", "", "HH"): 7, ("XX", "AAA", "", "HN"): 1, ("XX", "AAA", "10", "HH"): 1,
    }  # fmt: skip
    starts = [w.start_ns for w in groups["XX", "AAA", "", "HH"]]
    assert starts == sorted(starts) and "1 records stand twice" in caplog.text


@pytest.mark.parametrize("code, band", [
    ("HHZ", "HH"), ("HN135", "HN"), ("NS2", "2"), ("UD", ""), ("090", ""), ("B_H_Z", "B_H"), ("Z", ""), ("N-S", ""),
])  # fmt: skip
def test_band_codes(code, band):
    assert sensor_of(Channel(station="AAA", code=code)) == ("", "AAA", "", band)
