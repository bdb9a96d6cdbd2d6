"""Picks from QuakeML and tables; bulletins are in test_gse_bulletin."""

from __future__ import annotations

import numpy as np
import obspy
import pytest
from obspy.core import event as ev

from seislatent.errors import SeislatentError
from seislatent.io.catalogues import read_events
from seislatent.io.event_fields import DEGREE_KM, PICK_COLUMNS, time_ns
from seislatent.io.picks import read_picks


def quakeml(path):
    """One event with three picks, by ObsPy: two readings of one phase, one pick that no arrival uses."""
    start = obspy.UTCDateTime(2014, 1, 1)
    stream = ev.WaveformStreamID("KO", "SILT", "", "HHZ")
    picks = [
        ev.Pick(
            time=start + 10.25, waveform_id=stream, phase_hint="P", onset="impulsive", polarity="positive", evaluation_mode="manual"
        ),
        ev.Pick(time=start + 10.5, waveform_id=stream, phase_hint="P", evaluation_mode="automatic"),
        ev.Pick(time=start + 17, waveform_id=ev.WaveformStreamID("KO", "ADVT"), phase_hint="S"),
    ]  # fmt: skip
    other = ev.Origin(time=start - 5, latitude=0, longitude=0)
    other.arrivals = [ev.Arrival(pick_id=picks[0].resource_id, phase="X", distance=99)]
    origin = ev.Origin(time=start, latitude=40.5, longitude=28.2, depth=1e4)
    origin.arrivals = [
        ev.Arrival(pick_id=p.resource_id, phase=f, distance=d, azimuth=a, time_residual=r)
        for p, f, d, a, r in ((picks[0], "Pg", 0.5, 123.4, -0.1), (picks[1], "Pg", 0.5, 123.4, 0.15))
    ]
    size = ev.StationMagnitude(origin_id=origin.resource_id, mag=2.25, station_magnitude_type="ML", waveform_id=stream)
    amplitude = ev.Amplitude(generic_amplitude=1.0, snr=12.5, pick_id=picks[0].resource_id)
    event = ev.Event(origins=[other, origin], picks=picks, amplitudes=[amplitude], station_magnitudes=[size])
    event.preferred_origin_id = origin.resource_id
    event.resource_id = ev.ResourceIdentifier("smi:local/event/e1")
    ev.Catalog([event]).write(str(path), format="QUAKEML")


def test_quakeml_with_arrivals(tmp_path):
    quakeml(tmp_path / "p.xml")
    found = read_picks(tmp_path / "p.xml")
    assert tuple(found.table.columns) == PICK_COLUMNS and not found.bad
    one, two, three = found.table.to_dict("records")
    codes = ("station_network_code", "station_code", "station_location_code", "trace_channel")
    assert [one[c] for c in codes] == ["KO", "SILT", "", "HHZ"] and [three[c] for c in codes] == ["KO", "ADVT", "", ""]
    assert one["phase"] == "Pg" and three["phase"] == "S"
    assert one["source_id"] == "e1" == read_events(tmp_path / "p.xml").table.source_id[0]
    assert (one["path_ep_distance_km"], one["path_azimuth_deg"], one["residual_s"]) == (0.5 * DEGREE_KM, 123.4, -0.1)
    assert (one["snr"], one["station_magnitude"], one["station_magnitude_type"]) == (12.5, 2.25, "ML") and np.isnan(two["snr"])
    assert (one["onset"], one["polarity"], one["status"], two["status"]) == ("impulsive", "positive", "manual", "automatic")
    assert two["time_ns"] - one["time_ns"] == 250_000_000 and np.isnan(three["path_ep_distance_km"])


CSV = """event_id,station,phase,time,snr
e1,SILT,P,2014-01-01T00:00:10.25,3
e1,SILT,P,2014-01-01T00:00:10.5,
,ADVT,S,2014-01-01T00:00:60.5,x
e1,,P,2014-01-01T00:00:10.25,3
e1,SILT,P,soon,3
e1,SILT
"""


def test_csv(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(CSV)
    found = read_picks(path)
    assert list(found.table.source_id) == ["e1", "e1", None] and list(found.table.phase) == ["P", "P", "S"]
    assert found.table.time_ns[2] == time_ns("2014-01-01T00:01:00.5") and (found.table.station_network_code == "").all()
    assert found.table.snr[0] == 3 and found.table.snr[1:].isna().all()
    assert [b.split(":")[0] for b in found.bad] == [f"p.csv line {n}" for n in (4, 5, 6, 7)]


def test_a_table_of_picks_is_read_back(tmp_path):
    quakeml(tmp_path / "p.xml")
    table = read_picks(tmp_path / "p.xml").table
    table.to_csv(tmp_path / "p.csv", index=False)
    again = read_picks(tmp_path / "p.csv")
    assert not again.bad and again.table.equals(table)


def test_ids_of_traces(tmp_path):
    rows = ["station_id,phase_type,phase_time", "KO.SILT.01.HHZ,P,2014-01-01T00:00:01", "KO.ADVT.,S,2014-01-01T00:00:02"]
    (tmp_path / "p.csv").write_text("\n".join(rows))
    table = read_picks(tmp_path / "p.csv").table
    assert table.iloc[0, 1:5].tolist() == ["KO", "SILT", "01", "HHZ"] and table.iloc[1, 1:5].tolist() == ["KO", "ADVT", "", ""]


def test_nothing_to_read(tmp_path):
    for text, told in (("time,latitude\n", "station, phase"), ("station,phase\nA,P\n", "time")):
        (tmp_path / "p.csv").write_text(text)
        with pytest.raises(SeislatentError, match=told):
            read_picks(tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("station,phase,time\n")
    assert len(read_picks(tmp_path / "p.csv")) == 0 and read_picks(tmp_path / "p.csv").table.time_ns.dtype == np.int64


def test_files_of_one_folder(tmp_path):
    quakeml(tmp_path / "a.xml")
    (tmp_path / "b.csv").write_text(CSV)
    (tmp_path / "c.csv").write_text("time,latitude,longitude\n2014-01-01T00:00:00,1,2\n")
    found = read_picks(tmp_path)
    assert len(found) == 6 and any("c.csv holds no picks" in b for b in found.bad)
