"""Event records from archives: catalogue x picks x waveform files, whatever is wrong with one of them."""

import csv
import logging
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from obspy import Stream, Trace, UTCDateTime
from obspy.core.inventory import Channel as StationChannel
from obspy.core.inventory import Inventory, Network, Station
from obspy.geodetics import gps2dist_azimuth

from seislatent.data.archive import ArchiveConfig, EventArchive, open_events
from seislatent.data.candidates import MISSING, arrivals, classes
from seislatent.data.gather import Unfit
from seislatent.data.splits import events as label_events
from seislatent.data.stations import geodesic
from seislatent.data.travel_times import arrivals_s
from seislatent.errors import SeislatentError
from seislatent.io import archive as archive_module
from seislatent.io.seisbench import write_seisbench

ORIGIN = UTCDateTime("2014-03-01T12:00:00")
PLACES = {"AAA": (40.7, 29.0), "BBB": (40.9, 28.2), "CCC": (40.2, 27.5)}
EVENTS = [
    ("e0", ORIGIN, 40.8, 28.6, 8.0, 2.1, "ML"),
    ("e1", ORIGIN + 1200, 40.6, 28.9, 12.0, 3.4, "Mw"),
]


def trace(station, channel, start, seconds, rate=100.0, seed=0, network="KO", location=""):
    rng = np.random.default_rng([seed, *map(ord, station + channel)])
    data = rng.integers(-3000, 3000, round(seconds * rate)).astype(np.int32)
    header = {"network": network, "station": station, "channel": channel, "location": location, "sampling_rate": rate}
    return Trace(data, header | {"starttime": UTCDateTime(start)})


def put_sds(root, *traces):
    for one in traces:
        s = one.stats
        place = root / f"{s.starttime.year:04d}" / s.network / s.station / f"{s.channel}.D"
        place.mkdir(parents=True, exist_ok=True)
        name = f"{s.network}.{s.station}.{s.location}.{s.channel}.D.{s.starttime.year:04d}.{s.starttime.julday:03d}"
        with (place / name).open("ab") as handle:
            one.write(handle, format="MSEED")


def put_table(path, titles, rows):
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([titles, *rows])


def put_catalogue(root, events=EVENTS, name="catalogue.csv"):
    put_table(root / name, ["id", "time", "latitude", "longitude", "depth_km", "magnitude", "magnitude_type"], events)


def travel(event, station):
    """Predicted P and S times of an event of `EVENTS` at a station, by ObsPy's own geodesic."""
    _, origin, latitude, longitude, depth = event[:5]
    distance = gps2dist_azimuth(latitude, longitude, *PLACES[station])[0] / 1000
    return [origin + float(t) for t in arrivals_s(distance, depth)], distance


def put_picks(root, rows=None, name="picks.csv"):
    if rows is None:
        rows = []
        for event in EVENTS:
            for station in ("AAA", "BBB"):
                (p, s), _ = travel(event, station)
                rows += [(event[0], "KO", station, "Pg", p + 0.3, 0.3, 12.5), (event[0], "KO", station, "Sg", s + 0.5, 0.5, 4.0)]
    put_table(root / name, ["event_id", "network", "station", "phase", "time", "residual", "snr"], rows)


def put_stations(root):
    rows = [("KO", code, *place, 100.0) for code, place in PLACES.items()]
    put_table(root / "stations.csv", ["network", "station", "latitude", "longitude", "elevation"], rows)


@pytest.fixture
def source(tmp_path):
    """An SDS archive of forty minutes of three stations, with two events."""
    root = tmp_path / "marmara"
    root.mkdir()
    for station in PLACES:
        for k, channel in enumerate(("HHZ", "HHN", "HHE")):
            put_sds(root, trace(station, channel, ORIGIN - 600, 2400, 50.0, seed=k))
    put_sds(root, *(trace("AAA", f"HN{c}", ORIGIN - 600, 2400, 50.0, seed=9) for c in "ZNE"))
    put_catalogue(root)
    put_picks(root)
    put_stations(root)
    return root


def test_records_of_an_sds_archive(source):
    before = sorted((str(p), p.stat().st_mtime_ns) for p in source.rglob("*"))
    found = EventArchive(ArchiveConfig(before_s=10, after_s=40), source)
    table = found.metadata
    assert len(found) == 4 and found.notes == [] and set(table["trace_channel"]) == {"HH"}
    assert sorted(table["trace_name"]) == [f"e{k}_KO.{s}..HH" for k in (0, 1) for s in ("AAA", "BBB")]
    assert (table["trace_sampling_rate_hz"] == 50).all() and (table["trace_p_arrival_sample"] == 500).all()
    for i, record in enumerate(found):
        row = table.iloc[i]
        event = EVENTS[int(row["source_id"][1])]
        (p, s), distance = travel(event, row["station_code"])
        assert record.data.shape == (3, 2500) and record.data.dtype == np.int32 and record.components == ("Z", "N", "E")
        at = round((record.start_ns - (ORIGIN - 600).ns) / 2e7)
        assert np.array_equal(record.data[1], trace(row["station_code"], "HHN", ORIGIN, 2400, 50.0, seed=1).data[at : at + 2500])
        assert abs(record.start_ns - (p.ns + 300_000_000 - 10**10)) <= 10_000_000
        told = record.metadata
        assert told["trace_p_arrival_sample"] == pytest.approx(((p + 0.3).ns - record.start_ns) / 2e7, abs=1e-3)
        assert told["trace_s_arrival_sample"] == pytest.approx(((s + 0.5).ns - record.start_ns) / 2e7, abs=1e-3)
        assert told["source_magnitude"] == event[5] and told["source_magnitude_type"] == event[6]
        assert told["trace_p_residual_s"] == 0.3 and told["trace_bulletin_snr"] == 12.5
        assert told["path_ep_distance_km"] == pytest.approx(distance, abs=1e-3)
        assert told["path_hyp_distance_km"] == pytest.approx(np.hypot(distance, event[4]), abs=1e-3)
        _, azimuth, back = gps2dist_azimuth(event[2], event[3], *PLACES[row["station_code"]])
        assert (told["path_azimuth_deg"], told["path_back_azimuth_deg"]) == pytest.approx((azimuth, back), abs=1e-3)
        assert record.channels[0].latitude_deg == PLACES[row["station_code"]][0] and told["station_elevation_m"] == 100
        assert record.history[0].startswith("read from 2014/KO/")
    assert label_events(table).nunique() == 2
    assert sorted((str(p), p.stat().st_mtime_ns) for p in source.rglob("*")) == before


def test_neighbours_are_read_from_the_same_files_once(source, monkeypatch):
    found = EventArchive(ArchiveConfig(), source)
    opened = []
    real = archive_module._record_table
    monkeypatch.setattr(archive_module, "_record_table", lambda path: opened.append(path.name) or real(path))
    list(found)
    assert len(opened) == len(set(opened)) == 6
    assert found.metadata.sort_values(["station_code", "start_ns"]).index.tolist() == list(range(4))


def test_predicted_arrivals(source):
    put_picks(source, [("e0", "KO", "AAA", "P", travel(EVENTS[0], "AAA")[0][0] + 0.2, 0.2, 9)])
    found = EventArchive(ArchiveConfig(farthest_km=500), source)
    table = found.metadata.set_index("trace_name")
    assert len(table) == 6
    picked = table.loc["e0_KO.AAA..HH"]
    assert pd.isna(picked["trace_p_status"]) and picked["trace_s_status"] == "predicted"
    guessed = found[table.index.get_loc("e1_KO.CCC..HH")]
    assert guessed.metadata["trace_p_status"] == "predicted"
    p = guessed.start_ns + guessed.metadata["trace_p_arrival_sample"] * 2e7
    assert abs(p - travel(EVENTS[1], "CCC")[0][0].ns) < 1e6
    assert len(EventArchive(ArchiveConfig(farthest_km=60), source)) < 6
    only = EventArchive(ArchiveConfig(predict=False), source)
    assert len(only) == 1 and np.isnan(only.metadata["trace_s_arrival_sample"].iloc[0])


def test_windows_from_the_origin_and_picks_outside(source):
    rejecting = ArchiveConfig(window="origin", before_s=0, after_s=8)
    found = EventArchive(rejecting, source)
    assert len(found) == 4 and found[0].start_ns == ORIGIN.ns and found[0].data.shape == (3, 400)
    far = found.metadata["trace_p_arrival_sample"].isna().to_numpy()
    assert far.any() and not far.all()
    for i in np.flatnonzero(far):
        with pytest.raises(Unfit, match="pick outside the record"):
            found[int(i)]
    kept = EventArchive(ArchiveConfig(window="origin", before_s=0, after_s=8, outside="drop"), source)[int(np.argmax(far))]
    assert np.isnan(kept.metadata["trace_p_arrival_sample"]) and "trace_p_status" not in kept.metadata


@pytest.fixture
def event_files(tmp_path):
    """One file of three components per event and station in a folder per event, as Kandilli's."""
    root = tmp_path / "kandilli"
    for event in EVENTS:
        folder = root / event[1].strftime("%Y%m%d%H%M%S")
        folder.mkdir(parents=True)
        for station in PLACES:
            stream = Stream([trace(station, f"HH{c}", event[1] - 20, 120, seed=k) for k, c in enumerate("ENZ")])
            stream.write(str(folder / f"{station}.mseed"), "MSEED")
    put_catalogue(root)
    put_picks(root)
    return root


def test_whole_event_files(event_files):
    found = EventArchive(ArchiveConfig(window="file"), event_files)
    assert len(found) == 4 and (found.metadata["start_ns"].isin([(e[1] - 20).ns for e in EVENTS])).all()
    record = found[0]
    assert record.data.shape == (3, 12000) and record.components == ("Z", "N", "E")
    p = record.start_ns + record.metadata["trace_p_arrival_sample"] * 1e7
    assert abs(p - (travel(EVENTS[0], "AAA")[0][0] + 0.3).ns) < 1e6
    assert "station_latitude_deg" not in record.metadata  # no coordinates anywhere
    assert found.metadata["trace_p_status"].isna().all() and found.metadata["path_ep_distance_km"].isna().all()


BULLETIN = """BEGIN GSE2.0
MSG_TYPE DATA
MSG_ID example TEST
DATA_TYPE BULLETIN GSE2.0
EVENT 77
   Date       Time       Latitude Longitude    Depth    Ndef Nsta Gap    Mag1  N    Mag2  N    Mag3  N  Author          ID
       rms   OT_Error      Smajor Sminor Az        Err   mdist  Mdist     Err        Err        Err     Quality

2014/03/01 12:00:00.6     40.8000   28.6000      8.0       9    8 322  ML 2.1  3                      GSE_IDC     77
      0.53   +- 12.69      93.6   83.7   27    +- 83.8   10.56  78.21   +-0.2                           m i ke

MARMARA
Sta    Dist   EvAz     Phase       Date      Time     TRes  Azim  AzRes  Slow  SRes Def  SNR        Amp   Per   Mag1   Mag2 Arr ID
AAA     0.32 105.0 m E Pg      2014/03/01 12:00:06.5  -0.2                          T     6.8       0.6   0.3 ML 2.4         1
AAA     0.32 105.0 m   Sg      2014/03/01 12:00:11.5  -0.6                           A    4.9       2.9   0.6                2
BBB     0.35 290.0 a   P       2014/03/01 12:00:07.1   0.3                          T     9.9       3.5   0.3                3
NOWHERE 0.35 290.0 a   P       2014/03/01 12:00:07.1   0.3                          T     9.9       3.5   0.3                4


STOP
"""


def test_a_bulletin_with_its_own_ids_no_networks_and_no_coordinates(event_files, caplog):
    (event_files / "picks.csv").unlink()
    (event_files / "bulletins").mkdir()
    (event_files / "bulletins" / "77.gse").write_text(BULLETIN)
    records = open_events([event_files], ArchiveConfig(before_s=5, after_s=30))
    table = records.metadata
    assert set(table["source_id"]) == {"e0"} and sorted(table["station_code"]) == ["AAA", "BBB"]
    assert set(table["station_network_code"]) == {"KO"}  # by the code of the station
    one = records[0]
    assert one.metadata["path_ep_distance_km"] == pytest.approx(0.32 * 111.19, abs=0.1)
    assert one.metadata["path_azimuth_deg"] % 360 in (pytest.approx(105, abs=1), pytest.approx(285, abs=1))
    assert (one.metadata["trace_p_status"], records[1].metadata["trace_p_status"]) == ("manual", "automatic")
    assert one.metadata["trace_station_magnitude"] == 2.4 and one.metadata["trace_station_magnitude_type"] == "ML"
    assert one.metadata["trace_bulletin_snr"] == 6.8 and one.metadata["trace_p_residual_s"] == -0.2
    assert one.start_ns == (ORIGIN + 1.5).ns and records[1].metadata["trace_s_status"] == "predicted"  # distance as the bulletin's
    notes = " ".join(records.notes)
    assert "4 picks were given to events of the catalogue by their time" in notes and "1 stations with picks" in notes
    assert any("picks were given" in r.message for r in caplog.records if r.levelno == logging.WARNING)
    (event_files / "catalogue.csv").unlink()
    alone = open_events([event_files], ArchiveConfig(before_s=5, after_s=30))  # the bulletin is the catalogue as well
    assert len(alone) == 2 and alone.metadata["source_id"].nunique() == 1 and alone.metadata["source_magnitude"].iloc[0] == 2.1


def test_events_without_depth_or_magnitude_stay(source):
    put_catalogue(source, [("e0", ORIGIN, 40.8, 28.6, "", "", ""), ("e1", "yesterday", 40.6, 28.9, 12, 3.4, "Mw")])
    found = EventArchive(ArchiveConfig(), source)
    assert set(found.metadata["source_id"]) == {"e0"} and len(found) == 2
    record = found[0]
    assert "source_depth_km" not in record.metadata and "source_magnitude" not in record.metadata
    assert "path_hyp_distance_km" not in record.metadata and record.metadata["path_ep_distance_km"] > 0
    told = " ".join(found.notes)
    assert "yesterday" in told


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda st: st.remove(st[1]), "missing component"),
        (lambda st: setattr(st[1].stats, "channel", "HH9"), "unknown component code"),
        (lambda st: st[1].decimate(2, no_filter=True), "different sampling rates"),
        (lambda st: setattr(st[1], "data", st[1].data[:1]), "no data|no common span|missing component"),
        (lambda st: st.append(Trace(st[0].data[::-1].copy(), st[0].stats)), "overlap disagrees"),
        (lambda st: st.trim(endtime=st[0].stats.starttime + 3), "no data"),
    ],
)
def test_what_makes_no_record_is_unfit_and_the_rest_is_done(event_files, spoil, reason):
    stream = Stream([trace("AAA", f"HH{c}", ORIGIN - 20, 120, seed=k) for k, c in enumerate("ENZ")])
    spoil(stream)
    path = event_files / ORIGIN.strftime("%Y%m%d%H%M%S") / "AAA.mseed"
    found = EventArchive(ArchiveConfig(before_s=10, after_s=20), event_files)  # the files are spoiled after the index was made
    path.unlink()
    stream.write(str(path), "MSEED")
    outcomes = []
    for i in range(len(found)):
        try:
            outcomes.append(found[i])
        except Unfit as error:
            outcomes.append(error.reason)
    bad = [o for o in outcomes if isinstance(o, str)]
    assert len(bad) == 1 and bad[0] in reason.split("|") and len(outcomes) == 4


def test_gaps_duplicates_and_shifted_components(event_files):
    parts = [trace("AAA", f"HH{c}", ORIGIN - 20, 120, seed=k) for k, c in enumerate("ENZ")]
    whole = parts[2].data.copy()
    parts[0].stats.starttime += 0.004  # less than half a sample
    parts[1].data = parts[1].data[:-700]
    z = [parts[2].slice(endtime=ORIGIN + 9.99), parts[2].slice(ORIGIN + 12)]
    path = event_files / ORIGIN.strftime("%Y%m%d%H%M%S") / "AAA.mseed"
    Stream([*parts[:2], *z]).write(str(path), "MSEED")
    (path.parent / "again.mseed").write_bytes(path.read_bytes())
    found = EventArchive(ArchiveConfig(before_s=5, after_s=30), event_files)
    record = found[0]
    assert record.data.dtype == np.float64 and record.data.shape == (3, 3500) and np.isnan(record.data[0]).sum() == 200
    at = round((record.start_ns - (ORIGIN - 20).ns) / 1e7)
    given = ~np.isnan(record.data[0])
    assert np.array_equal(record.data[0][given], whole[at : at + 3500][given]) and not np.isnan(record.data[1:]).any()


def test_corrupt_files_are_told_and_the_rest_is_read(event_files):
    (event_files / ORIGIN.strftime("%Y%m%d%H%M%S") / "AAA.mseed").write_bytes(b"000001D " + bytes(5000))
    found = EventArchive(ArchiveConfig(), event_files)
    assert len(found) == 3 and sum("AAA.mseed" in line for line in found.notes) == 1
    assert all(record.data.shape[0] == 3 for record in found)


@pytest.mark.parametrize("window", ["p", "file"])
def test_sac_files_of_one_component_tell_where_the_station_stands(tmp_path, window):
    root = tmp_path / "sac"
    root.mkdir()
    for c in "ZNE":
        one = trace("AAA", f"HH{c}", ORIGIN - 20, 120)
        one.stats.sac = {"stla": 40.7, "stlo": 29.0, "stel": 55.0}
        one.write(str(root / f"AAA.HH{c}.sac"), format="SAC")
    put_catalogue(root)
    (p, _), distance = travel(EVENTS[0], "AAA")
    put_picks(root, [("e0", "KO", "AAA", "P", p, 0, 1)])
    (record,) = EventArchive(ArchiveConfig(window=window, before_s=10, after_s=40), root)
    assert record.data.shape == (3, 12000 if window == "file" else 5000)
    assert record.metadata["path_ep_distance_km"] == pytest.approx(distance, abs=1e-3)  # SAC keeps coordinates as float32
    assert record.metadata["station_elevation_m"] == 55 and record.metadata["trace_s_status"] == "predicted"
    assert record.start_ns + record.metadata["trace_p_arrival_sample"] * 1e7 == pytest.approx(p.ns, abs=1e5)


def test_instruments(source):
    every = EventArchive(ArchiveConfig(every_instrument=True), source)
    assert every.metadata.groupby("station_code")["trace_channel"].agg(sorted).to_dict() == {
        "AAA": ["HH", "HH", "HN", "HN"], "BBB": ["HH", "HH"],
    }  # fmt: skip
    strong = EventArchive(ArchiveConfig(instruments=("HN",)), source)
    assert len(strong) == 2 and strong[0].channels[0].code == "HNZ"
    first = EventArchive(ArchiveConfig(instruments=("HN", "*")), source)
    assert sorted(first.metadata["trace_channel"]) == ["HH", "HH", "HN", "HN"]


def test_picks_of_two_networks_with_one_code_are_told(source):
    put_sds(source, *(trace("AAA", f"HH{c}", ORIGIN - 600, 1200, 50.0, network="TU") for c in "ZNE"))
    (p, _), _ = travel(EVENTS[0], "AAA")
    put_picks(source, [("e0", "", "AAA", "P", p, 0, 1), ("e0", "", "BBB", "P", p + 1, 0, 1)])
    found = EventArchive(ArchiveConfig(), source)
    assert found.metadata["station_code"].tolist() == ["BBB"] and "AAA (KO, TU)" in " ".join(found.notes)


def test_stations_from_an_inventory_turn_the_sensor(event_files):
    channels = [
        StationChannel(f"HH{c}", "", 40.7, 29.0, 100, 0, azimuth=azimuth, dip=dip, sample_rate=100)
        for c, azimuth, dip in (("Z", 0, -90), ("1", 30, 0), ("2", 120, 0))
    ]
    station = Station("AAA", 40.7, 29.0, 100, channels=channels, creation_date=UTCDateTime(2000, 1, 1))
    Inventory([Network("KO", [station])]).write(str(event_files / "inventory.xml"), format="STATIONXML")
    parts = [trace("AAA", f"HH{c}", ORIGIN - 20, 120, seed=k) for k, c in enumerate("Z12")]
    Stream(parts).write(str(event_files / ORIGIN.strftime("%Y%m%d%H%M%S") / "AAA.mseed"), "MSEED")
    found = EventArchive(ArchiveConfig(before_s=5, after_s=20), event_files)
    record = found[found.metadata.index[found.metadata["source_id"].eq("e0") & found.metadata["station_code"].eq("AAA")][0]]
    assert record.components == ("Z", "N", "E") and record.history[-1].startswith("oriented: Z, 1, 2")
    assert record.metadata["station_latitude_deg"] == 40.7
    at = round((record.start_ns - (ORIGIN - 20).ns) / 1e7)
    one, two = (p.data[at : at + 2500].astype(float) for p in parts[1:])
    np.testing.assert_allclose(record.data[1], one * np.cos(np.radians(30)) - two * np.sin(np.radians(30)), atol=1e-6)
    assert record.metadata["path_ep_distance_km"] > 0


@pytest.mark.parametrize("origin", [UTCDateTime("1969-12-31T23:59:40"), UTCDateTime("2016-12-31T23:59:45")])
def test_times_before_1970_and_leap_seconds(tmp_path, origin):
    root = tmp_path / "old"
    root.mkdir()
    leap = origin.year == 2016
    for c in "ZNE":
        whole = trace("AAA", f"SH{c}", origin - 60, 200, 50.0)
        midnight = UTCDateTime(origin.year + 1, 1, 1)
        before, after = whole.slice(endtime=midnight + (0.98 if leap else -0.02)), whole.slice(midnight + (1 if leap else 0))
        after.stats.starttime = midnight
        put_sds(root, before, after)
    put_catalogue(root, [("old", origin, 40.8, 28.6, 8, 4, "ML"), ("older", origin - 3600, 40.8, 28.6, 8, 4, "ML")])
    put_picks(root, [("old", "KO", "AAA", "P", origin + 6, 0, 1)])
    put_stations(root)
    found = EventArchive(ArchiveConfig(before_s=10, after_s=30, instruments=("SH",)), root)
    if leap:  # a second stands twice in the count of seconds since 1970: refused rather than shifted
        with pytest.raises(Unfit, match="overlap disagrees"):
            found[0]
    else:
        record = found[0]
        assert record.start_ns == (origin - 4).ns < 0 and record.data.shape == (3, 2000)
        assert record.metadata["trace_p_arrival_sample"] == 500
        assert record.metadata["trace_start_time"].startswith("1969-12-31T23:59:36")
        assert np.array_equal(record.data[0], trace("AAA", "SHZ", origin - 60, 200, 50.0).data[2800:4800])


def test_first_arrivals_of_many_picks():
    rng = np.random.default_rng(0)
    n = 8_000
    picks = pd.DataFrame({
        "source_id": rng.integers(0, 200, n).astype(str), "station_network_code": "KO",
        "station_code": rng.integers(0, 30, n).astype(str),
        "phase": rng.choice(["P", "Pn", "Pg", "S", "Sg", "pP", "PKP", "LR", "SKS", "iPg", "ES"], n),
        "time_ns": rng.integers(2**60, 2**61, n), "path_ep_distance_km": np.nan, "path_azimuth_deg": np.nan, "residual_s": 0.0,
        "snr": 1.0, "station_magnitude": np.nan, "station_magnitude_type": "", "status": "manual",
    })  # fmt: skip
    found = arrivals(picks).set_index(["source_id", "network", "station"])
    for key, group in list(picks.groupby(["source_id", "station_network_code", "station_code"]))[::41]:
        for wave, names in (("p", ["P", "Pn", "Pg", "iPg"]), ("s", ["S", "Sg", "ES"])):
            times = group.loc[group["phase"].isin(names), "time_ns"]
            expected = times.min() if len(times) else MISSING
            assert (key not in found.index and expected == MISSING) or found.loc[key, f"{wave}_ns"] == expected
    told = classes(pd.Series(["P", "Pdiff", "P*", "p", "Sb", "s", "PcP", "sS", "PKIKP", "ScS", "Lg", "", None, "IP"]))
    assert told.tolist() == ["p", "p", "p", "p", "s", "s", "", "", "", "", "", "", "", "p"]


def test_an_id_that_means_another_event_is_not_believed(source):
    put_catalogue(source, [("1", ORIGIN - 7 * 86400, *EVENTS[0][2:]), ("2", *EVENTS[1][1:])])
    (p, _), _ = travel(EVENTS[1], "AAA")
    put_picks(source, [("1", "KO", "AAA", "P", p, 0, 1), ("7", "KO", "BBB", "P", p - 86400, 0, 1)])
    found = EventArchive(ArchiveConfig(), source)
    assert found.metadata["source_id"].tolist() == ["2"]
    assert "by their time" in found.notes[0] and "1 picks belong to no" in found.notes[1]


def test_distances_and_azimuths_are_those_of_geographiclib():
    rng = np.random.default_rng(1)
    lat, lon = rng.uniform(-89, 89, (2, 40)), rng.uniform(-180, 180, (2, 40))
    lat[1, :10], lon[1, :10] = lat[0, :10] + 0.01, lon[0, :10] - 0.02
    found = np.stack(geodesic(lat[0], lon[0], lat[1], lon[1]))
    true = np.array([gps2dist_azimuth(*four) for four in zip(lat[0], lon[0], lat[1], lon[1], strict=True)]).T
    far = true[0] < 19_500_000
    np.testing.assert_allclose(found[0][far], true[0][far] / 1000, atol=1e-5)
    assert np.abs((found[1:, far] - true[1:, far] + 180) % 360 - 180).max() < 1e-6
    assert geodesic(1, 2, 1, 2)[0] == 0 and np.isnan(geodesic(np.nan, 0, 1, 1)[0])


def test_record_sets_are_opened_as_they_are(source, tmp_path):
    found = EventArchive(ArchiveConfig(before_s=5, after_s=10), source)
    write_seisbench(tmp_path / "set", list(found))
    records = open_events([tmp_path / "set"], ArchiveConfig())
    assert len(records) == 4 and records.notes == [] and np.array_equal(records[0].data, found[0].data)
    assert records.metadata["trace_p_residual_s"].tolist() == [0.3] * 4
    with pytest.raises(SeislatentError, match="one kind at a time"):
        open_events([tmp_path / "set", source], ArchiveConfig())


def test_it_goes_to_other_processes_and_keeps_an_index(event_files, tmp_path):
    config = ArchiveConfig(index=str(tmp_path / "index.parquet"))
    found = EventArchive(config, event_files)
    assert (tmp_path / "index.parquet").is_file()
    first = found[0]
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again[0].data, first.data) and again[-1].metadata == found[-1].metadata
    assert [w.start_ns for w in found[1:3]] == [found[1].start_ns, found[2].start_ns]


def test_an_index_of_sds_knows_what_the_days_hold(source, tmp_path):
    put_catalogue(source, [*EVENTS, ("night", ORIGIN - 36000, 40.8, 28.6, 8.0, 2.1, "ML")])
    config = ArchiveConfig(farthest_km=500)
    assert len(EventArchive(config, source)) == 9  # by the names of the files, there may be samples at night
    found = EventArchive(replace(config, index=str(tmp_path / "index.parquet")), source)
    assert len(found) == 6 and found[0].data.shape == (3, 6000)


def test_what_is_missing_is_said(source, tmp_path):
    with pytest.raises(SeislatentError, match=r"wrong\.csv does not exist"):
        EventArchive(ArchiveConfig(picks=("wrong.csv",)), source)
    for name in ("picks.csv", "stations.csv"):
        (source / name).unlink()
    with pytest.raises(SeislatentError, match="no pick or predicted arrival"):
        EventArchive(ArchiveConfig(), source)
    (source / "catalogue.csv").unlink()
    with pytest.raises(SeislatentError, match="no catalogue is among the files"):
        EventArchive(ArchiveConfig(), source)
    bare = tmp_path / "bare"
    bare.mkdir()
    put_catalogue(bare)
    with pytest.raises(SeislatentError, match="no waveform file"):
        EventArchive(ArchiveConfig(), bare)


def test_real_continuous_data_with_a_synthetic_catalogue(tmp_path):
    folder = Path(os.environ.get("SEISLATENT_RECORDS", "/nonexistent")) / "continuous" / "anza_19980101"
    if not folder.is_dir():
        pytest.skip("SEISLATENT_RECORDS names no folder with continuous/anza_19980101")
    put_catalogue(tmp_path, [("q", "1998-01-01T09:00:00", 33.5, -116.6, 10, 1.5, "ML")])
    rows = [("AZ", "PFO", 33.6117, -116.4594, 1259), ("AZ", "KNW", 33.7141, -116.7119, 1507)]
    put_table(tmp_path / "s.csv", ["network", "station", "latitude", "longitude", "elevation"], rows)
    config = ArchiveConfig(waveforms=str(folder), farthest_km=100, before_s=10, after_s=50)
    found = EventArchive(config, tmp_path)
    assert found.metadata["station_code"].tolist() == ["KNW", "PFO"]
    for record in found:
        assert record.data.shape == (3, 2400) and record.sampling_rate_hz == 40 and record.metadata["trace_p_status"] == "predicted"
        assert record.metadata["trace_p_arrival_sample"] == pytest.approx(400, abs=0.5)


def test_picks_without_a_waveform_are_counted(source, tmp_path):
    (p, _s), _ = travel(EVENTS[0], "AAA")
    far = [("e0", "KO", "AAA", "P", p + 2500, 0, 1), ("e1", "KO", "CCC", "P", p + 2600, 0, 1)]
    (source / "picks.csv").unlink()
    put_picks(source, [("e0", "KO", "BBB", "P", p, 0, 1), *far])
    found = open_events([source], ArchiveConfig(index=str(tmp_path / "index.parquet")))
    assert sorted(found.left_out) == [("e0_KO.AAA", "no waveform"), ("e1_KO.CCC", "no waveform")]
    assert list(found.metadata["trace_name"]) == ["e0_KO.BBB..HH"] and found.select([0]).left_out == found.left_out
