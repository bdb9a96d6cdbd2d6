"""Files of picks are read back by ObsPy and by us, and hold what associators ask for."""

from __future__ import annotations

import json
import math

import numpy as np
import obspy
import pandas as pd
import pytest
from obspy.io.quakeml.core import _validate

from seislatent.errors import SeislatentError
from seislatent.io.pick_files import AT_ONCE, COLUMNS, empty, format_of, write_picks
from seislatent.io.picks import read_picks

DAY = 1_577_836_800 * 10**9
ABOUT = {"method": "features/picker/0123456789abcdef", "version": "1", "thresholds": {"P": 0.3}, "command": "seislatent pick <day>"}


def table(count=3, **changes):
    rows = {
        "record": "", "network": "XX", "station": "AAA", "location": "00", "channel": "HHZ", "phase": "P", "probability": 0.75,
        "uncertainty_s": 0.08, "begin_ns": DAY, "end_ns": DAY + 10**9, "amplitude": 1234.5, "unit": "counts", "clipped": False,
        "threshold": 0.3,
    }  # fmt: skip
    made = pd.DataFrame([rows | {"time_ns": DAY + k * 40_000 * 10**9 + 123_456_000} for k in range(count)])
    if count > 1:
        made.loc[1, ["phase", "channel", "location", "uncertainty_s", "amplitude", "clipped"]] = [
            "S",
            "HHN",
            "",
            math.nan,
            math.nan,
            True,
        ]
    return made[list(COLUMNS)].assign(**changes)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_quakeml_is_valid_and_comes_back(tmp_path, count):
    path = write_picks(tmp_path / "picks.xml", table(count) if count else empty(), ABOUT)
    assert _validate(str(path))
    if not count:
        return
    picks = [p for event in obspy.read_events(str(path)) for p in event.picks]
    assert len(picks) == count
    one = picks[0]
    assert one.waveform_id.get_seed_string() == "XX.AAA.00.HHZ" and one.phase_hint == "P"
    assert one.evaluation_mode == "automatic" and one.time_errors.uncertainty == 0.08
    assert one.time.ns == DAY + 123_456_000
    assert str(one.method_id) == "smi:local/seislatent/features/picker/0123456789abcdef"
    assert "probability=0.7500" in one.comments[0].text and "threshold=0.3" in one.comments[0].text
    if count > 1:
        assert picks[1].time_errors.uncertainty is None and picks[1].waveform_id.location_code in (None, "")
    own = read_picks(path)
    assert not own.bad and list(own.table["time_ns"]) == list(table(count)["time_ns"])
    assert list(own.table["status"]) == ["automatic"] * count
    assert list(own.table["trace_channel"]) == list(table(count)["channel"])


def test_events_of_quakeml_hold_a_day_or_a_bounded_number(tmp_path):
    many = table(1).loc[[0] * (AT_ONCE + 5)].reset_index(drop=True)
    path = write_picks(tmp_path / "picks.xml", many, ABOUT)
    assert path.read_text().count("<event ") == 2
    assert write_picks(tmp_path / "few.xml", table(5), ABOUT).read_text().count("<event ") == 2
    assert len(read_picks(path)) == len(many)


def test_names_that_xml_does_not_like_come_back(tmp_path):
    odd = table(1, station='A<&"', unit="m/s & more")
    path = write_picks(tmp_path / "picks.xml", odd, ABOUT | {"method": "my model/äb c"})
    assert _validate(str(path)) and read_picks(path).table["station_code"][0] == 'A<&"'


def test_csv_has_the_columns_of_pyocto_and_gamma_and_comes_back(tmp_path):
    path = write_picks(tmp_path / "picks.csv", table(), ABOUT)
    found = pd.read_csv(path, parse_dates=["timestamp"])
    assert {"station", "phase", "time"} <= set(found) and found["time"].dtype == np.float64, "PyOcto's data formats"
    assert set(found["phase"]) <= {"P", "S"}
    assert {"id", "timestamp", "type", "prob", "amp"} <= set(found), "GaMMA's convert_picks_csv"
    assert set(found["type"]) <= {"p", "s"} and found["timestamp"].dtype.kind == "M"
    assert abs(found["time"][0] - (DAY + 123_456_000) / 1e9) < 1e-6
    assert (found["id"] == found["station"]).all() and found["station"][0] == "XX.AAA.00"
    assert found["probability"][0] == 0.75 and found["amplitude"][0] == 1234.5 and math.isnan(found["amplitude"][1])
    own = read_picks(path)
    assert not own.bad and list(own.table["time_ns"]) == list(table()["time_ns"]) and list(own.table["station_code"]) == ["AAA"] * 3


def test_json_says_everything(tmp_path):
    found = json.loads(write_picks(tmp_path / "picks.json", table(), ABOUT).read_text())
    assert found["method"] == ABOUT["method"] and len(found["picks"]) == 3
    one = found["picks"][0]
    assert one["waveform_id"] == "XX.AAA.00.HHZ" and one["time"] == "2020-01-01T00:00:00.123456Z" and one["mode"] == "automatic"
    assert found["picks"][1]["uncertainty_s"] is None and found["picks"][1]["clipped"] is True
    assert json.loads(write_picks(tmp_path / "none.json", empty(), ABOUT).read_text())["picks"] == []


def test_nonlinloc_is_what_obspy_writes(tmp_path):
    path = write_picks(tmp_path / "picks.obs", table(), ABOUT)
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    words = lines[0].split()
    assert words[:8] == ["AAA", "?", "HHZ", "?", "P", "?", "20200101", "0000"] and words[8:11] == ["0.1235", "GAU", "8.00e-02"]
    assert len(words) == 14 and lines[1].split()[10] == "0.00e+00"
    events = obspy.read_events(str(write_picks(tmp_path / "same.xml", table(1), ABOUT)))
    events.write(str(tmp_path / "obspy.obs"), format="NLLOC_OBS")
    theirs = (tmp_path / "obspy.obs").read_text().splitlines()[-1].split()
    assert theirs[:11] == words[:11] and len(theirs) == len(words) - (len(words) - len(theirs))


def test_seiscomp_is_valid(tmp_path):
    from pathlib import Path

    from lxml import etree
    from obspy.io.seiscomp import event

    path = write_picks(tmp_path / "picks.sc3ml", table(), ABOUT)
    schema = etree.XMLSchema(etree.parse(str(Path(event.__file__).parent / "data" / "sc3ml_0.12.xsd")))
    document = etree.parse(str(path))
    assert schema.validate(document), schema.error_log
    assert len(document.findall(".//{*}pick")) == 3


def test_formats_by_name_and_files_that_exist(tmp_path):
    path = write_picks(tmp_path / "picks.txt", table(), ABOUT, "csv")
    with pytest.raises(SeislatentError, match="there already"):
        write_picks(path, table(), ABOUT, "csv")
    write_picks(path, table(1), ABOUT, "json", overwrite=True)
    assert len(json.loads(path.read_text())["picks"]) == 1
    with pytest.raises(SeislatentError, match="tells no format"):
        format_of("picks.txt")
    with pytest.raises(SeislatentError, match="did you mean 'quakeml'"):
        format_of("picks.txt", "quakml")
    with pytest.raises(SeislatentError, match="cannot be written"):
        write_picks(tmp_path / "no" / "picks.csv", table(), ABOUT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["picks.txt"]
