"""Picks of files, folders and stores: where they belong, what is left out and why, and one result however it was made."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import obspy
import pytest
from small_annotator import DAY_NS, START_NS, Rise, record

from seislatent.bulk.pick import PickSettings, pick
from seislatent.bulk.sensors import Notes, by_sensor, joined
from seislatent.errors import SeislatentError
from seislatent.io.files import to_stream
from seislatent.io.miniseed import write
from seislatent.io.seisbench import write_seisbench

MIDNIGHT_NS = START_NS - START_NS % DAY_NS


def seconds(table, phase="P"):
    return sorted((table.loc[table["phase"] == phase, "time_ns"] - START_NS) / 1e9)


def near(found, wanted):
    assert len(found) == len(wanted), found
    assert np.abs(np.array(found) - wanted).max(initial=0) < 0.06


def file(tmp_path, *waveforms, name="day.mseed"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    return write(waveforms, tmp_path / name)


def test_a_file_of_several_sensors(tmp_path, picker):
    two = record([20.0, 60.0]), record([33.0], components="Z", station="BBB", band="EH", rate=50.0)
    found = pick(picker, file(tmp_path, *two))
    near(seconds(found.table), [20.0, 33.0, 60.0])
    first = found.table[found.table["phase"] == "P"].iloc[0]
    assert {**first[["network", "station", "location", "channel", "phase"]]} == dict(
        network="XX", station="AAA", location="00", channel="HHZ", phase="P"
    )
    assert set(found.table.loc[found.table["phase"] == "S", "channel"]) == {"HHN"}
    assert first["uncertainty_s"] == 0.1 and first["threshold"] == 0.3 and not first["clipped"]
    assert 1000 < first["amplitude"] < 5000 and first["unit"] == ""
    assert found.hours == pytest.approx(200 / 3600) and found.about["method"] == "features/rise/0123456789abcdef"


def test_an_onset_at_midnight_is_found_once_and_a_day_by_itself_is_the_stream(tmp_path, picker):
    start = MIDNIGHT_NS - 200 * 10**9
    whole = record([100.0, 199.99, 200.5, 300.0], seconds=400, start_ns=start, amplitude=600)
    one = pick(picker, file(tmp_path, whole), PickSettings(distance_s=0.1)).table
    days = [
        w for w in (replace(whole, data=whole.data[:, :20000]), replace(whole, data=whole.data[:, 20000:], start_ns=MIDNIGHT_NS))
    ]
    for k, day in enumerate(days):
        for row in range(3):
            code, when = day.channels[row].code, obspy.UTCDateTime(ns=start if k == 0 else MIDNIGHT_NS)
            folder = f"sds/{when.year}/XX/AAA/{code}.D"
            file(tmp_path, day.select([row]), name=f"{folder}/XX.AAA.00.{code}.D.{when.year}.{when.julday:03d}")
    two = pick(picker, tmp_path / "sds", PickSettings(distance_s=0.1)).table
    assert len(one) >= 4 and one["time_ns"].is_monotonic_increasing
    assert len(one) == len(two) and np.abs(one["time_ns"] - two["time_ns"]).max() < 10**6
    np.testing.assert_allclose(one["amplitude"], two["amplitude"], rtol=1e-9)


def test_a_run_that_was_stopped_goes_on_and_gives_the_same(tmp_path, picker):
    for k in range(3):
        file(tmp_path, record([20.0], station=f"S{k}", seconds=40), name=f"data/{k}.mseed")
    whole = pick(picker, tmp_path / "data")

    def stop(done, total):
        assert total == 3
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pick(picker, tmp_path / "data", parts=tmp_path / "parts", progress=stop)
    kept = sorted(p.name for p in (tmp_path / "parts").glob("0*.json"))
    assert len(kept) == 2
    (tmp_path / "parts" / kept[0]).write_text("{", encoding="utf-8")
    picker.system.asked = 0
    told = []
    again = pick(picker, tmp_path / "data", parts=tmp_path / "parts", progress=lambda done, total: told.append(done))
    assert again.table.equals(whole.table) and told == [2, 3]
    with pytest.raises(SeislatentError, match="another run"):
        pick(picker, tmp_path / "data", PickSettings(thresholds={"P": 0.4}), parts=tmp_path / "parts")
    other = pick(picker, tmp_path / "data", PickSettings(thresholds={"P": 0.4}), parts=tmp_path / "parts", overwrite=True)
    assert len(other.table) and json.loads((tmp_path / "parts" / "plan.json").read_text())["digest"]


def test_records_of_a_store_keep_their_names(tmp_path, picker):
    made = [replace(record([t], seconds=30, seed=k), metadata={"trace_name": f"r{k}"}) for k, t in enumerate((10.0, 15.0, 21.0))]
    write_seisbench(tmp_path / "set", made)
    found = pick(picker, tmp_path / "set").table
    p = found[found["phase"] == "P"]
    assert list(p["record"]) == ["r0", "r1", "r2"]
    near(seconds(found), [10.0, 15.0, 21.0])


def test_one_instrument_of_each_station(tmp_path, picker):
    both = file(tmp_path, record([20.0]), record([20.0], band="HN"), record([30.0], band="EH", station="BBB"))
    assert len(seconds(pick(picker, both).table)) == 3
    near(seconds(pick(picker, both, PickSettings(instruments=("HN", "*"))).table), [20.0, 30.0])
    assert set(pick(picker, both, PickSettings(instruments=("HN",))).table["station"]) == {"AAA"}


def test_what_cannot_be_picked_is_told(tmp_path, picker, classifier):
    empty = tmp_path / "empty.mseed"
    empty.write_bytes(b"")
    with pytest.raises(SeislatentError, match="empty"):
        pick(picker, empty)
    with pytest.raises(SeislatentError, match="no such file"):
        pick(picker, tmp_path / "nothing")
    slow = file(tmp_path, record([20.0], rate=1.0, band="LH"), name="slow.mseed")
    with pytest.raises(SeislatentError, match="its rate is 1 Hz"):
        pick(picker, slow)
    text = obspy.Stream([obspy.Trace(np.array([b"a", b"b"], "S1"), {"station": "AAA", "channel": "LOG"})])
    text.write(str(tmp_path / "text.mseed"), format="MSEED", encoding="ASCII")
    with pytest.raises(SeislatentError, match="no waveform with numbers"):
        pick(picker, tmp_path / "text.mseed")
    with pytest.raises(SeislatentError, match="no picker"):
        pick(classifier, slow)


def test_a_text_channel_and_a_slow_one_beside_a_sensor_change_nothing(tmp_path, picker):
    stream = to_stream([record([20.0]), record([20.0], rate=1.0, band="LH")])
    stream += obspy.Trace(np.array([b"a"] * 50, "S1"), {"network": "XX", "station": "AAA", "channel": "LOG"})
    path = tmp_path / "all.mseed"
    with path.open("wb") as out:
        for trace in stream:
            kind = "ASCII" if trace.data.dtype.kind == "S" else "STEIM2"
            trace.write(out, format="MSEED", encoding=kind)
    found = pick(picker, path)
    near(seconds(found.table), [20.0])
    assert any("1 Hz" in line for line in found.notes)


# -- sensors ----------------------------------------------------------------------------------------------------------------------


def gathered(*waveforms, **how):
    notes = Notes()
    (group,) = by_sensor(waveforms).values()
    return joined(group, notes, **how), notes


def test_components_in_any_order_with_gaps_become_records():
    whole = record([20.0])
    z, n, e = (whole.select([k]) for k in range(3))
    late = replace(n, data=n.data[:, 2000:], start_ns=n.start_ns + 20 * 10**9)
    (one,), notes = gathered(e, late, z)
    assert one.components == ("Z", "N", "E") and not notes
    assert np.isnan(one.data[1, :2000]).all() and np.array_equal(one.data[1, 2000:], n.data[0, 2000:])
    (exact,), _ = gathered(e, z, n)
    assert exact.data.dtype == np.int32 and np.array_equal(exact.data, whole.data)
    early = replace(whole, data=whole.data[:, :3000])
    after = replace(whole, data=whole.data[:, 5000:], start_ns=whole.start_ns + 50 * 10**9)
    both, _ = gathered(after, early)
    assert [w.data.shape[1] for w in both] == [3000, 5000] and both[1].start_ns == after.start_ns


def test_overlaps_with_other_values_are_gaps():
    whole = record([20.0])
    other = replace(
        whole, data=whole.data[:, 4000:6000] + np.array([[1], [0], [0]], np.int32), start_ns=whole.start_ns + 40 * 10**9
    )
    (one,), notes = gathered(whole, other)
    assert np.isnan(one.data[0, 4000:6000]).all() and np.isfinite(one.data[1:]).all()
    assert notes == [f"XX.AAA.00.HHZ: 2000 samples from {whole.start_text} on have two values, and are left out"]
    assert not [t for t in (a.time_ns for a in _arrivals(one)) if START_NS + 40 * 10**9 <= t < START_NS + 60 * 10**9]


def _arrivals(one):
    from seislatent.systems.features.arrivals import arrivals

    return arrivals(Rise(), one)


def test_two_rates_of_one_sensor():
    fast, slow = record([20.0], components="Z"), record([20.0], components="NE", rate=50.0)
    (one,), notes = gathered(fast, slow)
    assert one.components == ("Z",) and "another rate at the same time" in notes[0]
    later = replace(record([20.0], rate=50.0), start_ns=fast.start_ns + 100 * 10**9)
    both, notes = gathered(fast, later)
    assert [w.sampling_rate_hz for w in both] == [100.0, 50.0] and not notes


def test_flexible_and_strict():
    unoriented = record([20.0], components="Z12")
    assert gathered(unoriented)[0][0].components == ("Z", "1", "2")
    (one,), notes = gathered(unoriented, flexible=False)
    assert one.components == ("Z",) and len(notes) == 2
    assert gathered(record([20.0], components="ZN"), strict=True)[0] == []
    data = record([20.0]).data.astype(float)
    data[2, 100:200] = np.nan
    (one,), _ = gathered(replace(record([20.0]), data=data), strict=True)
    assert np.isnan(one.data[:, 100:200]).all() and np.isfinite(one.data[:, 200:]).all()
    _, notes = gathered(record([20.0], components="ZNE12"[:5]))
    assert len(notes) == 2 and "N and E are there too" in notes[0]


def test_clipped_records_are_told(tmp_path, picker):
    loud = record([20.0], amplitude=5000.0)
    clipped = replace(loud, data=loud.data.clip(-20_000, 20_000))
    assert not pick(picker, file(tmp_path, loud, name="a.mseed")).table["clipped"].iloc[0]
    assert pick(picker, file(tmp_path, clipped, name="b.mseed")).table["clipped"].iloc[0]
