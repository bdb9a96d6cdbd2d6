"""The picker in the package: golden picks, and what it does with streams that were cut, resampled, or have holes.

The golden values guard releases: other weights, or another way to resample and stack, show here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import obspy
import pytest

from seislatent import catalog
from seislatent.data.synthetic import earthquake, with_noise
from seislatent.prepare.resample import resample
from seislatent.waveform import Channel, Waveform

EXAMPLE = [("P", 471.324, 0.9423), ("S", 567.964, 0.9144)]
SYNTHETIC = [("P", 1187.799, 0.9883), ("S", 1693.941, 0.9644)]


@pytest.fixture(scope="module")
def picker():
    return catalog.load("features/picker").system


def example():
    """ObsPy's own: three components of a local earthquake, 30 s at 100 Hz."""
    stream = obspy.read()
    channels = tuple(
        Channel(network="BW", station=t.stats.station, code=t.stats.channel, component=t.stats.channel[-1]) for t in stream
    )
    data = np.stack([trace.data for trace in stream])
    return Waveform(data=data, sampling_rate_hz=100.0, channels=channels, start_ns=stream[0].stats.starttime.ns)


def synthetic(duration_s=60.0, rate_hz=100.0):
    """An earthquake of magnitude 3 at 40 km, 20 dB above typical noise."""
    rng = np.random.default_rng(5)
    quake = earthquake(rng, duration_s, rate_hz, magnitude=3.0, distance_km=40.0, depth_km=8.0)
    return with_noise(rng, quake, 20.0, "typical")


def rows(picks):
    return sorted((p.phase, p.sample, p.probability) for p in picks)


@pytest.mark.parametrize(("record", "golden"), [(example, EXAMPLE), (synthetic, SYNTHETIC)], ids=["example", "synthetic"])
def test_golden_picks(picker, record, golden):
    found = rows(picker.pick(record()))
    assert [phase for phase, *_ in found] == [phase for phase, *_ in golden]
    for (_, sample, probability), (_, its, sure) in zip(found, golden, strict=True):
        assert sample == pytest.approx(its, abs=0.01) and probability == pytest.approx(sure, abs=1e-3)


def test_the_arrivals_of_a_synthetic_earthquake(picker):
    record = synthetic()
    for phase, name in (("P", "trace_p_arrival_sample"), ("S", "trace_s_arrival_sample")):
        best = max((p for p in picker.pick(record) if p.phase == phase), key=lambda p: p.probability)
        assert abs(best.sample - record.metadata[name]) < 20 and 0.005 <= best.uncertainty_s < 0.5


def test_where_the_record_is_cut_does_not_matter(picker):
    """Cut anywhere at least the margin before and after the arrivals: the same picks, to a sample."""
    record = synthetic(240.0)
    whole = {p.phase: p for p in picker.pick(record)}
    p = record.metadata["trace_p_arrival_sample"]
    assert set(whole) == {"P", "S"} and p > picker.margin
    for first in (0, 17, 64, 333):
        start = record.start_ns + round(first / 100 * 1e9)
        part = replace(record, data=record.data[:, first:], start_ns=start)
        for pick in picker.pick(part):
            assert abs(pick.sample + first - whole[pick.phase].sample) < 1
            assert pick.probability == pytest.approx(whole[pick.phase].probability, abs=1e-3)


@pytest.mark.parametrize("rate_hz", [20.0, 40.0, 62.5, 200.0, 500.0])
def test_other_rates(picker, rate_hz):
    record = synthetic()
    data = np.stack([resample(row.astype(float), 100.0, rate_hz) for row in record.data])
    found = picker.pick(replace(record, data=data, sampling_rate_hz=rate_hz))
    best = max((p for p in found if p.phase == "P"), key=lambda p: p.probability)
    assert abs(best.sample / rate_hz - record.metadata["trace_p_arrival_sample"] / 100) < 0.2


@pytest.mark.parametrize("kept", [(0,), (0, 1), (0, 2)])
def test_missing_components(picker, kept):
    record = synthetic()
    found = picker.pick(record.select(kept))
    best = max((p for p in found if p.phase == "P"), key=lambda p: p.probability)
    assert abs(best.sample - record.metadata["trace_p_arrival_sample"]) < 20


def test_amplitude_offset_and_order_do_not_matter(picker):
    record = example()
    before = rows(picker.pick(record))
    for changed in (
        replace(record, data=record.data * 1e-9), replace(record, data=record.data * 1e6 + 1e7), record.select((2, 0, 1)),
    ):  # fmt: skip
        for (phase, sample, probability), (other, its, sure) in zip(rows(picker.pick(changed)), before, strict=True):
            assert phase == other and sample == pytest.approx(its, abs=0.5) and probability == pytest.approx(sure, abs=0.02)


def test_no_pick_in_a_gap_nor_in_what_does_not_move(picker):
    record = synthetic()
    p = int(record.metadata["trace_p_arrival_sample"])
    holed = record.data.copy()
    holed[:, p - 50 : p + 150] = np.nan
    assert not [k for k in picker.pick(replace(record, data=holed)) if p - 50 <= k.sample < p + 150]
    flat = replace(record, data=np.full_like(record.data, 12345.0))
    assert picker.pick(flat) == []
    assert picker.pick(replace(record, data=record.data[:, :150])) == []
