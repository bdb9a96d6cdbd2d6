"""GSE2.0 bulletins: read line by line, against ObsPy where it copes, and written so that they are read back."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import pytest
from obspy.geodetics import gps2dist_azimuth, locations2degrees
from obspy.geodetics.base import WGS84_A

from seislatent.errors import SeislatentError
from seislatent.io.catalogues import read_events
from seislatent.io.event_fields import DEGREE_KM, time_ns
from seislatent.io.gse_bulletin import write_bulletin
from seislatent.io.picks import read_picks

RECORDS = os.environ.get("SEISLATENT_RECORDS")
REAL = Path(RECORDS or "/nowhere") / "gse2_format_examples" / "bulletin"
needs_records = pytest.mark.skipif(not REAL.is_dir(), reason="SEISLATENT_RECORDS names no folder with gse2_format_examples")

TEXT = """BEGIN GSE2.0
MSG_TYPE DATA
MSG_ID 1 TEST
DATA_TYPE BULLETIN GSE2.0
EVENT 17
   Date       Time       Latitude Longitude    Depth    Ndef Nsta Gap    Mag1  N    Mag2  N    Mag3  N  Author          ID
       rms   OT_Error      Smajor Sminor Az        Err   mdist  Mdist     Err        Err        Err     Quality

2015/03/02 07:26:52.4     40.7000   28.2000     11.5       9    8 322  ML 3.6  3  Mw 3.4  1             KOERI       282672
      0.53   +- 12.69      93.6   83.7   27    +- 83.8    0.56  78.21                                   m i sm

MARMARA SEA
Sta    Dist   EvAz     Phase       Date      Time     TRes  Azim  AzRes  Slow  SRes Def  SNR        Amp   Per   Mag1   Mag2 Arr ID
SILT    0.56 150.3 mcI Pg      2015/03/02 07:27:02.7  -0.2                          T     6.8       0.6   0.3 mb 3.5 ML 3.7 3586432
SILT    0.56 150.3 md  Sg      2015/03/02 07:27:10.5   0.6                          T    99.9                               3586513


STOP
"""
FIRST, SECOND = (line for line in TEXT.splitlines() if line.startswith("SILT"))


def parsed(tmp_path, text=TEXT, name="b.gse"):
    """Events and picks of a text."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_events(path), read_picks(path)


def test_every_field_of_a_reading_comes_out(tmp_path):
    events, picks = parsed(tmp_path)
    event, first, second = events.table.iloc[0], *picks.table.to_dict("records")
    assert (event.source_id, event.source_depth_km, event.source_magnitude, event.source_magnitude_type) == ("17", 11.5, 3.6, "ML")
    assert event.source_type == "mining explosion" and event.source_origin_time == "2015-03-02T07:26:52.400000Z"
    assert event.origin_ns == time_ns("2015-03-02T07:26:52.4")
    assert (first["source_id"], first["station_code"], first["phase"], first["station_network_code"]) == ("17", "SILT", "Pg", "")
    assert first["path_ep_distance_km"] == pytest.approx(0.56 * 111.19492664)
    assert (first["path_azimuth_deg"], first["residual_s"], first["snr"]) == (150.3, -0.2, 6.8)
    assert (first["station_magnitude"], first["station_magnitude_type"]) == (3.7, "ML")  # the local one of the two
    assert (first["onset"], first["polarity"], first["status"]) == ("impulsive", "positive", "manual")
    assert second["polarity"] == "negative" and second["onset"] == "" and np.isnan(second["station_magnitude"])
    assert second["time_ns"] == time_ns("2015-03-02T07:27:10.5") and not events.bad and not picks.bad


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (FIRST.replace("07:27:02.7", "07:67:02.7"), "no time of a day"),
        (FIRST.replace("2015/03/02 07:27:02.7", " " * 21), "no time in"),
        (FIRST.replace("SILT", "    "), "no station"),
        (FIRST.replace("2015/03", "2015/13"), "month"),
        ("?? \x01\x1b[31m garbage", "no time in"),
        ("SI\0LT" + FIRST[5:], "NUL"),
        ("X" * 200_000, "longer than"),
    ],
)
def test_a_bad_reading_costs_only_itself(tmp_path, line, told):
    events, picks = parsed(tmp_path, TEXT.replace(FIRST, line))
    assert len(events) == 1 and list(picks.table.phase) == ["Sg"]
    assert len(picks.bad) == 1 and told in picks.bad[0] and "b.gse line 14" in picks.bad[0]
    assert picks.bad[0].isprintable() and len(picks.bad[0]) <= 300


def test_a_bad_number_costs_only_itself(tmp_path):
    _, picks = parsed(tmp_path, TEXT.replace("  6.8  ", " ***** ", 1))
    assert np.isnan(picks.table.snr[0]) and picks.table.snr[1] == 99.9 and picks.table.path_azimuth_deg[0] == 150.3
    assert len(picks.bad) == 1 and "SNR" in picks.bad[0]


@pytest.mark.parametrize(
    "line",
    [
        FIRST.replace("SILT    0.56", "SILT  0.56"),  # the left part is shifted
        FIRST.replace("Pg      ", "Pg    "),
        FIRST.replace("07:27:02.7 ", "07:27:02.70"),  # takes the blank
        FIRST.replace("07:27:02.7 ", "07:27:02.700 "),  # moves the rest
        FIRST.replace("SILT    0.56 150.3", "SILT\t0.56\t150.3").replace("mcI Pg      ", "  mcI Pg      "),
    ],
)
def test_shifted_columns(tmp_path, line):
    assert line != FIRST
    _, straight = parsed(tmp_path)
    _, shifted = parsed(tmp_path, TEXT.replace(FIRST, line), "c.gse")
    assert not shifted.bad
    pd.testing.assert_frame_equal(straight.table, shifted.table)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("2015/03/02 07:26:52.4 ", "                      ", "no origin"),
        ("40.7000", "       ", "no latitude"),
        ("40.7000", "98.7000", "not on the Earth"),
        ("40.7000", "abcdefg", "no number"),
    ],
)
def test_a_bad_origin_is_told_and_its_readings_stay(tmp_path, a, b, told):
    events, picks = parsed(tmp_path, TEXT.replace(a, b, 1))
    assert len(events) == 0 and told in events.bad[0] and "line 5" in events.bad[0]
    assert len(picks) == 2 and set(picks.table.source_id) == {"17"}


def test_broken_messages(tmp_path):
    twice = TEXT.replace("STOP", "") + TEXT.replace("EVENT 17", "EVENT 18").replace("07:26:52", "09:26:52")
    events, picks = parsed(tmp_path, twice)
    assert list(events.table.source_id) == ["17", "18"] and len(picks) == 4
    assert "before the one of line 1 has its STOP" in events.bad[0]
    events, picks = parsed(tmp_path, TEXT[: TEXT.index(SECOND) + 40], "cut.gse")
    assert len(events) == 1 and len(picks) == 1 and any("no STOP" in b for b in picks.bad)
    events, picks = parsed(tmp_path, TEXT.replace("EVENT 17", "EVENT"), "nameless.gse")
    assert events.table.source_id[0] == picks.table.source_id[0] == "20150302T072652.400_+40.7000_+28.2000"
    events, _ = parsed(tmp_path, TEXT.replace("GSE2.0", "IMS1.0"), "ims.gse")
    assert len(events) == 0 and "not GSE2.0" in events.bad[0]
    dos = TEXT.replace("\n", "\r\n").replace("MARMARA SEA", "MARMARA DENİZİ").encode("iso-8859-9")
    events, picks = parsed(tmp_path, dos, "dos.gse")
    assert len(events) == 1 and len(picks) == 2 and not picks.bad


@pytest.mark.parametrize("place", [(40.7, 28.2), (-33.0, -70.5), (5.0, 179.9), (78.0, 12.0)])
@pytest.mark.parametrize("station", [(41.2, 28.9), (39.0, 27.0), (-20.0, 100.0), (60.7, 11.5)])
def test_azimuths_from_the_station_are_turned(tmp_path, place, station):
    """A file whose EvAz is the measured back azimuth less its residual counts from the station."""
    _, forward, back = gps2dist_azimuth(*place, *station, a=WGS84_A, f=0.0)
    degrees = locations2degrees(*place, *station)
    text = TEXT.replace(" 40.7000   28.2000", f"{place[0]:8.4f} {place[1]:9.4f}")
    for line in (FIRST, SECOND):
        new = f"{line[:6]}{degrees:6.2f} {back:5.1f}{line[18:59]}{(back + 3) % 360:5.1f}    3.0{line[70:]}"
        text = text.replace(line, new)
    _, picks = parsed(tmp_path, text)
    found = picks.table.path_azimuth_deg
    if degrees > 90 - abs(place[0]) and found.isna().all():  # the triangle does not tell the station
        return
    assert np.abs((found - forward + 180) % 360 - 180).max() < 0.8


@needs_records
@pytest.mark.parametrize("name", ["gse_2.0_standard.txt", "gse_2.0_2_events.txt"])
def test_like_obspy(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        catalog = obspy.read_events(REAL / name, format="GSE2")
    events, picks = read_events(REAL / name), read_picks(REAL / name)
    assert len(events) == len(catalog) and not events.bad and not picks.bad
    theirs = [(e, p) for e in catalog for p in e.picks]
    assert len(theirs) == len(picks)
    for row, event in zip(events.table.itertuples(), catalog, strict=True):
        origin = event.origins[0]
        assert row.origin_ns == origin.time.ns and row.source_depth_km == origin.depth / 1000
        assert (row.source_latitude_deg, row.source_longitude_deg) == (origin.latitude, origin.longitude)
        assert (row.source_magnitude, row.source_magnitude_type) == (event.magnitudes[0].mag, event.magnitudes[0].magnitude_type)
    for row, (event, pick) in zip(picks.table.itertuples(), theirs, strict=True):
        arrival = next(a for a in event.origins[0].arrivals if a.pick_id == pick.resource_id)
        assert (row.station_code, row.phase, row.time_ns) == (pick.waveform_id.station_code, pick.phase_hint, pick.time.ns)
        assert row.path_ep_distance_km == pytest.approx(arrival.distance * DEGREE_KM, abs=1e-9)
        assert row.residual_s == arrival.time_residual
        assert (row.onset, row.polarity) == (pick.onset or "", pick.polarity or "")
        ratio = [a.snr for a in event.amplitudes if a.pick_id == pick.resource_id and a.snr]
        assert np.isnan(row.snr) if not ratio else row.snr == ratio[0]


@needs_records
@pytest.mark.parametrize(
    ("name", "events", "picks", "told"),
    [
        ("event.txt", 1, 14, 0), ("gse_2.0_2_begins.txt", 2, 16, 0), ("gse_2.0_2_events.txt", 2, 16, 0),
        ("gse_2.0_incomplete.txt", 1, 3, 1), ("gse_2.0_non_standard.txt", 2, 16, 0), ("gse_2.0_standard.txt", 1, 9, 0),
    ],
)  # fmt: skip
def test_good_and_malformed_bulletins(name, events, picks, told):
    found, read = read_events(REAL / name), read_picks(REAL / name)
    assert (len(found), len(read), len(found.bad), len(read.bad)) == (events, picks, told, told)
    assert found.table.source_magnitude.notna().all() and read.table.path_ep_distance_km.between(10, 9000).all()
    if name == "event.txt":  # counts EvAz from the event: La Plagne lies north of it
        assert read.table.path_azimuth_deg[read.table.station_code == "LPG"].eq(7.2).all()
    if name == "gse_2.0_standard.txt":  # counts EvAz from the station: Norway lies north of Greece
        nores = gps2dist_azimuth(39.45, 20.44, 60.7353, 11.5414)[1]
        assert read.table.path_azimuth_deg[read.table.station_code == "NORES"].item() == pytest.approx(nores, abs=0.3)
        assert read.table.snr.count() == 6 and read.table.station_magnitude.count() == 4


def tables(n=12, each=5, seed=0):
    """A catalogue and its picks."""
    r = np.random.default_rng(seed)
    m = n * each
    events = pd.DataFrame({
        "source_id": [f"e{i}" for i in range(n)], "origin_ns": np.sort(r.integers(-(10**18), 14 * 10**17, n)),
        "source_latitude_deg": r.uniform(-90, 90, n), "source_longitude_deg": r.uniform(-180, 180, n),
        "source_depth_km": np.where(np.arange(n) % 4, r.uniform(0, 700, n), np.nan),
        "source_magnitude": np.where(np.arange(n) % 5, r.uniform(-1.5, 9, n), np.nan), "source_magnitude_type": "ML",
        "source_type": np.resize(["earthquake", "explosion", "mining explosion", ""], n),
    })  # fmt: skip
    picks = pd.DataFrame({
        "source_id": np.repeat(events.source_id, each), "station_code": np.resize(["A", "SILT", "ABCDE"], m),
        "phase": np.resize(["P", "Sg", "PKiKPdf", "P"], m),
        "time_ns": np.repeat(events.origin_ns.to_numpy(), each) + r.integers(0, 10**11, m),
        "path_ep_distance_km": r.uniform(0, 20000, m), "path_azimuth_deg": r.uniform(0, 360, m),
        "residual_s": r.normal(0, 30, m), "snr": 10 ** r.uniform(-1, 4.9, m), "station_magnitude": r.uniform(-1, 9, m),
        "station_magnitude_type": np.resize(["ML", "mb"], m), "status": np.resize(["manual", "automatic", ""], m),
        "onset": np.resize(["impulsive", "emergent"], m), "polarity": np.resize(["positive", "", "negative"], m),
    })  # fmt: skip
    picks.loc[::7, ["snr", "station_magnitude", "residual_s", "path_azimuth_deg"]] = np.nan
    return events, picks.reset_index(drop=True)


def test_what_is_written_is_read_back(tmp_path):
    events, picks = tables()
    write_bulletin(tmp_path / "b.gse", events, picks)
    found, read = read_events(tmp_path / "b.gse"), read_picks(tmp_path / "b.gse")
    assert not found.bad and not read.bad and len(found) == len(events) and len(read) == len(picks)
    assert (found.table.source_id == events.source_id).all() and (found.table.source_type == events.source_type).all()
    limits = {"origin_ns": 5e7, "source_latitude_deg": 5e-5, "source_longitude_deg": 5e-5, "source_depth_km": 0.05}
    for column, limit in (limits | {"source_magnitude": 0.05}).items():
        np.testing.assert_allclose(found.table[column].astype(float), events[column].astype(float), rtol=1e-15, atol=limit * 1.001)
    for column in ("source_id", "station_code", "phase", "status", "onset", "polarity"):
        assert (read.table[column] == picks[column]).all(), column
    limits = {"time_ns": 5e7, "path_ep_distance_km": 0.56, "residual_s": 0.05, "station_magnitude": 0.05}
    for column, limit in limits.items():
        np.testing.assert_allclose(read.table[column].astype(float), picks[column].astype(float), rtol=1e-15, atol=limit * 1.001)
    np.testing.assert_allclose(read.table["snr"], picks["snr"], rtol=5e-4, atol=0.0501)
    off = (read.table.path_azimuth_deg - picks.path_azimuth_deg + 180) % 360 - 180
    assert off.abs().max() < 0.0501 and (off.isna() == picks.path_azimuth_deg.isna()).all()
    write_bulletin(tmp_path / "again.gse", found.table, read.table)  # a second time nothing changes
    assert (tmp_path / "again.gse").read_bytes() == (tmp_path / "b.gse").read_bytes()


def test_obspy_reads_what_is_written(tmp_path):
    events, picks = tables(4)
    write_bulletin(tmp_path / "b.gse", events, picks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        catalog = obspy.read_events(tmp_path / "b.gse", format="GSE2")
    assert [len(e.picks) for e in catalog] == [5] * 4
    assert catalog[1].picks[1].waveform_id.station_code == read_picks(tmp_path / "b.gse").table.station_code[6]


@pytest.mark.parametrize(
    ("table", "column", "value", "told"),
    [
        ("picks", "station_code", "ABCDEF", "1 to 5"), ("picks", "station_code", "", "1 to 5"),
        ("picks", "phase", "P" * 8, "at most 7"),
        ("picks", "snr", 1e6, "5 characters"), ("picks", "station_magnitude_type", "MLv", "2 characters"),
        ("picks", "source_id", "none", "not among the events"), ("events", "source_type", "earthquak", "did you mean 'earthquake'"),
        ("events", "source_id", "e 0", "without blanks"), ("events", "source_id", "e1", "stands twice"),
        ("events", "source_magnitude_type", "mb_Lg", "2 characters"), ("picks", "station_code", "A\nEVENT", "1 to 5"),
    ],
)  # fmt: skip
def test_what_the_format_cannot_hold_is_refused(tmp_path, table, column, value, told):
    events, picks = tables()
    given = {"events": events, "picks": picks}
    row = 1 if column in ("snr", "source_magnitude_type", "station_magnitude_type") else 0
    given[table].loc[row, column] = value
    if table == "events" and column == "source_id":
        picks.loc[picks.source_id == "e0", "source_id"] = value
    with pytest.raises(SeislatentError, match=told):
        write_bulletin(tmp_path / "b.gse", events, picks)
    assert not list(tmp_path.iterdir())  # neither half a file nor a temporary one


def test_nothing_is_written_over_unasked(tmp_path):
    events, picks = tables(2)
    (tmp_path / "b.gse").write_text("mine")
    with pytest.raises(SeislatentError, match="there already"):
        write_bulletin(tmp_path / "b.gse", events, picks)
    assert (tmp_path / "b.gse").read_text() == "mine"
    write_bulletin(tmp_path / "b.gse", events, picks, overwrite=True)
    assert len(read_events(tmp_path / "b.gse")) == 2
