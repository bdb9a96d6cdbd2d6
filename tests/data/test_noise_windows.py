"""Noise windows: without what the catalogue knows, without what the trigger sees, whole and as recorded."""

import csv
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from obspy import Stream, Trace, UTCDateTime
from obspy.geodetics import gps2dist_azimuth

from seislatent.data.gather import Unfit
from seislatent.data.noise_windows import NoiseArchive, NoiseConfig, coda_length_s, open_noise, sta_lta
from seislatent.data.splits import events as label_events
from seislatent.data.splits import leaks, split_by_event
from seislatent.data.travel_times import arrivals_s
from seislatent.errors import SeislatentError

START = UTCDateTime("2014-03-01T00:00:00")
RATE = 50.0


def put(root, station="AAA", seconds=3600, event_at=None, gap_at=None):
    """Continuous noise of three components, with a burst of 10 s or a gap of 5 s at some second."""
    traces = []
    for k, channel in enumerate(("HHZ", "HHN", "HHE")):
        data = 100 * np.random.default_rng([k, *map(ord, station)]).standard_normal(round(seconds * RATE))
        if event_at is not None:
            at = round(event_at * RATE)
            data[at : at + 500] += 1000 * np.random.default_rng(7).standard_normal(500)
        one = Trace(data.astype(np.int32), {"network": "XX", "station": station, "channel": channel, "sampling_rate": RATE})
        one.stats.starttime = START
        if gap_at is not None and k == 1:
            traces += [one.slice(endtime=START + gap_at - 1 / RATE), one.slice(START + gap_at + 5)]
        else:
            traces.append(one)
    root.mkdir(exist_ok=True)
    Stream(traces).write(str(root / f"{station}.mseed"), "MSEED")
    return traces


def put_tables(root, events, stations=(("XX", "AAA", 40.0, 29.0, 10),)):
    for name, titles, rows in (
        ("catalogue.csv", ["id", "time", "latitude", "longitude", "depth_km", "magnitude"], events),
        ("stations.csv", ["network", "station", "latitude", "longitude", "elevation"], stations),
    ):
        with (root / name).open("w", newline="") as handle:
            csv.writer(handle).writerows([titles, *rows])


def outcomes(found):
    out = []
    for i in range(len(found)):
        try:
            out.append(found[i])
        except Unfit as error:
            out.append(error.reason)
    return out


def test_windows_without_a_catalogue(tmp_path):
    traces = put(tmp_path / "a", event_at=1000)
    found = NoiseArchive(NoiseConfig(length_s=60), tmp_path / "a")
    assert len(found) == 60 and set(found.metadata["trace_category"]) == {"noise"} and "no catalogue" in found.notes[0]
    seen = outcomes(found)
    at = [i for i, one in enumerate(seen) if isinstance(one, str)]
    assert at == [16, 17] and {seen[i] for i in at} == {"trigger"}  # 960 to 1020 s, and the window that may hold its coda
    record = seen[5]
    assert record.data.shape == (3, 3000) and record.data.dtype == np.int32 and record.start_ns == (START + 300).ns
    assert np.array_equal(record.data[0], traces[0].data[15000:18000])
    assert record.metadata["trace_category"] == "noise"
    assert record.metadata["trace_name"] == "noise_XX.AAA..HH_2014-03-01T00:05:00.000"
    without = outcomes(NoiseArchive(NoiseConfig(length_s=60, trigger_ratio=0), tmp_path / "a"))
    assert not any(isinstance(one, str) for one in without)


def test_what_the_catalogue_knows_is_left_out(tmp_path):
    put(tmp_path / "a")
    event = ("q", START + 1500, 40.5, 29.5, 10.0, 2.0)
    put_tables(tmp_path / "a", [event])
    config = NoiseConfig(length_s=30, before_p_s=15, coda_s=60)
    found = NoiseArchive(config, tmp_path / "a")
    distance = gps2dist_azimuth(40.5, 29.5, 40.0, 29.0)[0] / 1000
    p, s = map(float, arrivals_s(distance, 10.0))
    first, last = 1500 + p - 15, 1500 + max(s + 60, p + float(coda_length_s(2.0, distance)))
    starts = (found.metadata["start_ns"].to_numpy(np.int64) - START.ns) / 1e9
    left_out = np.setdiff1d(np.arange(0, 3600, 30), starts)
    assert left_out.tolist() == [w for w in range(0, 3600, 30) if w + 30 > first and w < last]
    assert found.metadata["station_latitude_deg"].eq(40.0).all()
    strong = [("q", START + 1500, 40.5, 29.5, "", 4.5)]
    put_tables(tmp_path / "a", strong)
    assert len(NoiseArchive(config, tmp_path / "a")) < len(found)  # a longer coda
    assert float(coda_length_s(3.0, 0)) == pytest.approx(10 ** (3.87 / 2))


def test_a_catalogue_without_coordinates_is_refused(tmp_path):
    put(tmp_path / "a")
    put_tables(tmp_path / "a", [("q", START, 40, 29, 10, 2)], stations=[("XX", "ELSEWHERE", 1, 1, 1)])
    with pytest.raises(SeislatentError, match=r"no place of XX\.AAA"):
        NoiseArchive(NoiseConfig(), tmp_path / "a")
    with pytest.raises(SeislatentError, match="no noise window of 9000 s"):
        (tmp_path / "a" / "catalogue.csv").unlink()
        NoiseArchive(NoiseConfig(length_s=9000), tmp_path / "a")


def test_gaps_cost_the_windows_that_they_meet_and_no_other(tmp_path):
    put(tmp_path / "a", gap_at=600)
    seen = outcomes(NoiseArchive(NoiseConfig(length_s=60), tmp_path / "a"))
    assert len(seen) == 59 and not any(isinstance(one, str) for one in seen)  # 600 to 660 s is no candidate
    assert all(one.data.dtype == np.int32 for one in seen)  # also where the gap lies in what the trigger looks at
    put(tmp_path / "a")
    found = NoiseArchive(NoiseConfig(length_s=60), tmp_path / "a")
    put(tmp_path / "a", gap_at=630)  # after the index was made
    assert [k for k, one in enumerate(outcomes(found)) if one == "incomplete window"] == [10]


def test_many_windows_are_drawn_and_hours_stay_together(tmp_path):
    put(tmp_path / "a", seconds=7200)
    put(tmp_path / "a", station="BBB", seconds=7200)
    config = NoiseConfig(length_s=10, step_s=5, most=150)
    found = NoiseArchive(config, tmp_path / "a")
    assert len(found) == 150 and found.metadata["trace_name"].is_unique
    assert found.metadata.equals(NoiseArchive(config, tmp_path / "a").metadata)
    records = open_noise([tmp_path / "a"], config)
    assert label_events(records.metadata).nunique() == 2 and "no catalogue" in records.notes[0]
    assert leaks(records.metadata.assign(split=split_by_event(records.metadata))).empty
    assert np.array_equal(pickle.loads(pickle.dumps(records))[3].data, records[3].data)


def test_sta_lta_of_a_step():
    x = np.ones((2, 1000))
    x[:, 600:] = 3.0
    ratio = sta_lta(x, 10, 100)
    assert np.allclose(ratio[60:600], 1) and ratio[:59].max() == 0
    assert ratio[609] == pytest.approx(9) and ratio.argmax() == 609 and ratio[-1] == pytest.approx(1)
    assert sta_lta(np.zeros((1, 500)), 10, 100).max() == 0


def test_real_noise():
    folder = Path(os.environ.get("SEISLATENT_RECORDS", "/nonexistent")) / "continuous"
    if not folder.is_dir():
        pytest.skip("SEISLATENT_RECORDS names no folder with continuous data")
    found = NoiseArchive(NoiseConfig(length_s=60, most=40), folder)
    seen = outcomes(found)
    noise = [one for one in seen if not isinstance(one, str)]
    assert set(found.metadata["station_network_code"]) == {"AZ", "AM"} and len(noise) > 10
    assert all(one.data.shape[1] == round(60 * one.sampling_rate_hz) and one.data.dtype == np.int32 for one in noise)
