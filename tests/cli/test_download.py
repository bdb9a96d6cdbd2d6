"""`seislatent download`, from query to a folder that `prepare` takes, with every fault on the way. Everything runs on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
from fdsn_server import serving, trace

from seislatent import catalog, config
from seislatent.cli import download
from seislatent.data.download_plan import chosen, event_folder
from seislatent.io.catalogues import read_events
from seislatent.io.fdsn import PASSWORD, USER
from seislatent.io.fdsn_queries import Query

QUICK = ["--service.requests_per_second", "500", "--service.backoff_s", "0.01", "--service.attempts", "2"]
BOX = ["--query.start_time", "2020-01-01", "--query.end_time", "2020-01-02", "--query.before_s", "20", "--query.after_s", "30"]


@pytest.fixture
def centre(monkeypatch):
    """Two events and four stations around them, of 12 channels; DDD has no data."""
    for name in (USER, PASSWORD):
        monkeypatch.delenv(name, raising=False)
    with serving() as (it, url):
        it.event("a", "2020-01-01T01:00:00", 40.0, 30.0, 8.0, 4.5)
        it.event("b", "2020-01-01T05:00:00", 40.2, 30.2, 12.0, 3.4)
        for code, lat, lon in (("AAA", 40.5, 30.0), ("BBB", 39.6, 30.4), ("CCC", 40.0, 31.0), ("DDD", 41.0, 29.0)):
            it.station("XX", code, lat, lon)
        it.gone.add(("XX", "DDD"))
        it.url = url
        yield it


def box(centre, out, *more):
    return ["download", "fdsn/box", "--from", centre.url, "--out", out, *QUICK, *BOX, *more]


def files(out):
    return sorted(p.relative_to(out).as_posix() for p in Path(out).rglob("*.mseed"))


def manifest(out):
    return [json.loads(line) for line in (Path(out) / "manifest.jsonl").read_text().splitlines()]


# all is well --------------------------------------------------------------------------------------------------------------------


def test_a_box_and_everything_that_stands_in_its_folder(run, centre, tmp_path):
    out = tmp_path / "d"
    code, told, err = run(*box(centre, out, "--json"))
    assert code == 0, err
    assert (told["events"], told["stations"], told["channels"]) == (2, 4, 24)
    assert told["counts"] == {"ok": 18, "no data": 6} and told["responses"] == {"ok": 3}
    assert "24 to get: about" in err and "at most 500 a second" in err
    assert len(files(out)) == 18
    events = read_events(out / "catalog.xml").table
    assert events["source_id"].tolist() == ["smi:test/event/a", "smi:test/event/b"]
    assert events["source_magnitude"].tolist() == [4.5, 3.4]
    inventory = obspy.read_inventory(str(out / "stations.xml"))
    assert [s.code for n in inventory for s in n] == ["AAA", "BBB", "CCC"]
    assert inventory.get_response("XX.AAA..BHZ", obspy.UTCDateTime(2020, 1, 1)).instrument_sensitivity.value == pytest.approx(1e9)
    for row in manifest(out):
        if row["what"] == "waveforms" and row["status"] == "ok":
            raw = (out / row["file"]).read_bytes()
            assert (len(raw), hashlib.sha256(raw).hexdigest()) == (row["bytes"], row["sha256"])
            (one,) = obspy.read(str(out / row["file"]))
            assert one.id == ".".join(row[k] for k in ("network", "station", "location", "channel"))
            assert one.stats.starttime - obspy.UTCDateTime(row["start"]) < 0.06
            np.testing.assert_array_equal(one.data, trace(*one.id.split("."), one.stats.starttime, one.stats.endtime).data)
    table = pd.read_csv(out / "manifest.csv")
    assert table["status"].value_counts().to_dict() == {"ok": 21, "no data": 6}
    assert not [p for p in out.rglob("*.part")]


def test_windows_hold_predicted_p_and_s(run, centre, tmp_path):
    from seislatent.data.stations import geodesic
    from seislatent.data.travel_times import arrivals_s

    assert run(*box(centre, tmp_path / "d"))[0] == 0
    far = geodesic(40.0, 30.0, 40.5, 30.0)[0]
    p, s = (float(t) for t in arrivals_s(far, 8.0))
    row = next(r for r in manifest(tmp_path / "d") if r["station"] == "AAA" and r["event"].startswith("20200101T010000"))
    origin = obspy.UTCDateTime("2020-01-01T01:00:00")
    assert obspy.UTCDateTime(row["start"]) - origin == pytest.approx(p - 20, abs=1e-3)
    assert obspy.UTCDateTime(row["end"]) - origin == pytest.approx(s + 30, abs=1e-3)


def test_prepare_takes_the_folder_as_it_is(run, centre, tmp_path):
    out, store = tmp_path / "d", tmp_path / "store"
    assert run(*box(centre, out))[0] == 0
    code, told, err = run(
        "prepare", "data/groups", "--data", out, "--out", store, "--workers", "1", "--recipe.inventory", out / "stations.xml",
        "--recipe.smallest_group", "2", "--recipe.before_s", "5", "--recipe.after_s", "10", "--recipe.margin_s", "5",
        "--recipe.archive.before_s", "15", "--recipe.archive.after_s", "20", "--recipe.band_hz", "[0.5, 2.0]", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert told["records"] == 18 and told["leaks"] == []


def test_the_listed_deep_earthquakes(run, centre, tmp_path):
    centre.event("okt1", "2013-05-24T05:44:49.6", 54.9, 153.2, 609, 8.3)
    centre.event("nbl", "1994-06-09T00:33:16", -13.8, -67.6, 33, 8.2)  # at another depth
    centre.station("YY", "FAR", 30.0, 80.0, "10", "BH")
    centre.station("YY", "FAR", 30.0, 80.0, "00", "HH")
    out = tmp_path / "d"
    code, told, err = run("download", "fdsn/deep_earthquakes", "--from", centre.url, "--out", out, *QUICK, "--json")
    assert code == 0, err
    assert len(told["targets"]) == 16 and told["events"] == 1
    assert told["targets"]["okt1"].startswith("found: 2013-05-24T05:44:49.6") and "smi:test/event/okt1" in told["targets"]["okt1"]
    assert told["targets"]["nbl"].startswith("not found: the nearest is 1994-06-09")
    assert told["targets"]["spain"].startswith("not found: nothing")
    assert "okt2: not found" in err
    names = {name.split("/")[-1] for name in files(out)}
    assert {"YY.FAR.10.BHZ.mseed", "YY.FAR.10.BHN.mseed", "YY.FAR.10.BHE.mseed"} <= names and not any("HH" in n for n in names)


def test_the_list_is_the_seed_s():
    query = config.load(Query, download.preset("fdsn/deep_earthquakes")["query"])
    assert len(query.targets) == 16 and query.distance_deg == (30.0, 95.0)
    assert sum(t.magnitude for t in query.targets) == pytest.approx(117.1)
    assert sum(t.depth_km for t in query.targets) == 9196
    assert len({t.name for t in query.targets}) == 16 == len({t.time for t in query.targets})
    assert not any(name.startswith("fdsn/") for name in catalog.presets())


def test_dry_run_asks_for_no_waveform_and_writes_nothing(run, centre, tmp_path):
    out = tmp_path / "d"
    code, told, err = run(*box(centre, out, "--dry-run", "--json"))
    assert code == 0 and not out.exists(), err
    assert told["channels"] == 24 and told["estimated_mb"] > 0 and centre.count()["dataselect"] == 0
    assert run(*box(centre, out))[0] == 0
    before = sorted(out.rglob("*"))
    code, told, _ = run(*box(centre, out, "--dry-run", "--json"))
    assert told["there"] == 24 and told["estimated_mb"] == 0 and sorted(out.rglob("*")) == before


def test_estimates_and_limits(run, centre, tmp_path):
    code, _, err = run(*box(centre, tmp_path / "d", "--query.most_mb", "0.0001"))
    assert code == 1 and "most_mb" in err and centre.count()["dataselect"] == 0
    code, told, _ = run(*box(centre, tmp_path / "d", "--query.magnitude", "[4, 5]", "--json"))  # narrowed, in the same folder
    assert code == 0 and told["events"] == 1
    assert run(*box(centre, tmp_path / "d", "--query.magnitude", "[4, 5]", "--query.most_mb", "1"))[0] == 0
    code, _, err = run(*box(centre, tmp_path / "e", "--query.most_events", "1"))
    assert code == 1 and "more than 1 such events" in err
    code, told, _ = run(*box(centre, tmp_path / "f", "--limit", "1", "--json"))
    assert code == 0 and told["events"] == 1 and told["channels"] == 12
    code, told, _ = run(*box(centre, tmp_path / "f", "--json"))  # the rest
    assert told["there"] == 12 and told["counts"] == {"ok": 18, "no data": 6}


def test_events_from_elsewhere(run, centre, tmp_path, monkeypatch):
    with serving() as (other, url):
        other.event("z", "2020-01-01T01:00:00", 40.0, 30.0, 8.0, 4.5)
        nonce = {"WWW-Authenticate": 'Digest realm="x", nonce="1", algorithm=MD5, qop="auth"'}
        other.faults["event"] = [(401, nonce)]  # our password is none of its business
        monkeypatch.setenv(USER, "alice")
        monkeypatch.setenv(PASSWORD, "hush-hush")
        code, _, err = run(*box(centre, tmp_path / "d", "--events", url, "--json"))
        assert code == 1 and "not allowed" in err and "Authorization" not in other.asked[-1][4]
        code, told, err = run(*box(centre, tmp_path / "d", "--events", url, "--json"))
        assert code == 0 and told["events"] == 1 and centre.count()["event"] == 0, err
    table = tmp_path / "own.csv"
    table.write_text("id,time,latitude,longitude,depth,magnitude\nmine,2020-01-01T05:00:00,40.2,30.2,12,3.4\n")
    code, told, err = run(*box(centre, tmp_path / "e", "--events", table, "--json"))
    assert code == 0 and told["events"] == 1 and centre.count()["event"] == 0, err
    assert read_events(tmp_path / "e" / "catalog.xml").table["source_id"].tolist() == ["mine"]


# going on -----------------------------------------------------------------------------------------------------------------------


def test_given_again_it_asks_for_nothing(run, centre, tmp_path):
    out = tmp_path / "d"
    assert run(*box(centre, out))[0] == 0
    before, asked = {p: p.read_bytes() for p in out.rglob("*.mseed")}, len(centre.asked)
    code, told, _ = run(*box(centre, out, "--json"))
    assert code == 0 and told["there"] == 24 and told["requests"] == 0 and len(centre.asked) == asked
    (lost := out / files(out)[0]).unlink()
    (cut := out / files(out)[1]).write_bytes(b"x")
    code, told, _ = run(*box(centre, out, "--json"))
    assert code == 0 and told["there"] == 22 and {p: p.read_bytes() for p in out.rglob("*.mseed")} == before
    lines = centre.lines()[-2:]
    assert {line.split()[3] for line in lines} == {p.name.split(".")[3] for p in (lost, cut)}
    centre.gone.clear()
    code, told, _ = run(*box(centre, out, "--ask-again", "--json"))
    assert told["counts"] == {"ok": 24}


def test_killed_in_the_middle_it_goes_on(centre, tmp_path):
    out = tmp_path / "d"
    centre.delay_s = 0.15
    words = [str(w) for w in box(centre, out, "--service.request_channels", "2", "--service.concurrent", "1")]
    process = subprocess.Popen([sys.executable, "-m", "seislatent", *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while len(recorded(out)) < 4 and time.monotonic() < until:  # a file is there a moment before its line
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    there = len(recorded(out))
    assert 4 <= there < 18
    left = out / "waveforms" / ".half.part"
    left.write_bytes(b"x")
    centre.delay_s, centre.asked = 0.0, []
    from seislatent.cli import main as command

    assert command.main(words) == 0
    assert len(files(out)) == 18 and not left.exists()
    count = centre.count()
    assert count["event"] == 0 and len(centre.lines()) <= 24 - there
    assert (out / "stations.xml").exists()


def recorded(out):
    """Files named by the manifest's whole lines, also while it is being written."""
    manifest = out / "manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True) if manifest.exists() else []
    return {row["file"] for row in (json.loads(line) for line in lines if line.endswith("\n")) if row.get("file")}


def test_another_query_in_the_same_folder_is_refused(run, centre, tmp_path):
    out = tmp_path / "d"
    assert run(*box(centre, out, "--dry-run"))[0] == 0
    assert run(*box(centre, out))[0] == 0
    code, _, err = run(*box(centre, out, "--query.after_s", "31"))
    assert code == 1 and "another query" in err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    code, _, err = run(*box(centre, tmp_path / "full"))
    assert code == 1 and "no download" in err and (tmp_path / "full" / "x").read_text() == "mine"


# faults -------------------------------------------------------------------------------------------------------------------------


def test_413_is_halved_in_stations(run, centre, tmp_path):
    centre.most_lines = 5
    code, told, _ = run(*box(centre, tmp_path / "d", "--json"))
    assert code == 0 and told["counts"] == {"ok": 18, "no data": 6}


def test_413_is_halved_in_time_for_one_channel(run, centre, tmp_path):
    assert run(*box(centre, tmp_path / "whole"))[0] == 0
    centre.most_seconds = 25
    code, told, _ = run(*box(centre, tmp_path / "d", "--json"))
    assert code == 0 and told["counts"] == {"ok": 18, "no data": 6}
    for name in files(tmp_path / "d"):
        (one,) = obspy.read(str(tmp_path / "d" / name)).merge(method=-1)
        (other,) = obspy.read(str(tmp_path / "whole" / name))
        assert one.stats.starttime == other.stats.starttime
        np.testing.assert_array_equal(one.data, other.data)


def test_413_for_ever_is_told(run, centre, tmp_path):
    centre.most_seconds = 1
    code, _, err = run(*box(centre, tmp_path / "d", "--json", "--limit", "1"))
    assert code == 1 and "no window has come" in err and "too large" in err
    assert {row["status"] for row in manifest(tmp_path / "d")} == {"failed"}


def test_one_damaged_channel_costs_no_other(run, centre, tmp_path):
    def truncate(handler, body, asked):
        bad = any("BBB" in line and "BHN" in line for line in asked)
        handler.send(200 if body else 204, (body or b"")[:-100] if bad else body or b"")

    centre.always["dataselect"] = truncate
    code, told, _ = run(*box(centre, tmp_path / "d", "--json", "--service.attempts", "1"))
    assert code == 0 and told["counts"] == {"ok": 16, "no data": 6, "failed": 2}
    assert not any("BBB..BHN" in name for name in files(tmp_path / "d"))
    assert any("truncated" in row.get("detail", "") for row in manifest(tmp_path / "d"))
    centre.always.clear()  # mended: only the failed ones are asked for
    centre.asked = []
    code, told, _ = run(*box(centre, tmp_path / "d", "--json"))
    assert told["counts"] == {"ok": 18, "no data": 6} and len(centre.lines()) == 2


@pytest.mark.parametrize("fault", ["cut", "html", (503, {"Retry-After": "0"})])
def test_a_service_that_fails_throughout_ends_the_command(run, centre, tmp_path, fault):
    centre.always["dataselect"] = fault
    code, _, err = run(*box(centre, tmp_path / "d", "--service.give_up_after", "4", "--service.attempts", "1",
                            "--service.request_channels", "2"))  # fmt: skip
    assert code == 1 and "4 requests in a row" in err and "later" in err.splitlines()[-1] and not files(tmp_path / "d")
    centre.always.clear()
    assert run(*box(centre, tmp_path / "d"))[0] == 0 and len(files(tmp_path / "d")) == 18


def test_a_wrong_channel_in_the_answer(run, centre, tmp_path):
    def other(handler, body, asked):
        extra = centre.waveforms([asked[0].replace("BHE", "BHX")]) or b""
        handler.send(200 if body else 204, extra + (body or b""))

    centre.always["dataselect"] = other
    code, told, _ = run(*box(centre, tmp_path / "d", "--json"))
    assert code == 0 and told["counts"] == {"ok": 18, "no data": 6}
    assert not any("BHX" in name for name in files(tmp_path / "d")) and any("not asked for" in note for note in told["notes"])


def test_a_station_service_that_lies(run, centre, tmp_path):
    """Codes that lead out of the folder never name a file; the others are fetched."""
    evil = "XX|../../evil||BHZ|40.1|30.1|0|0|0|-90|x|1|1|M/S|20.0|1990-01-01T00:00:00|\n"

    def lie(handler, body, asked):
        handler.send(200, body + b"\n" + evil.encode() if isinstance(asked, dict) else body)

    centre.always["station"] = lie
    code, told, _ = run(*box(centre, tmp_path / "in" / "d", "--json"))
    assert code == 0 and told["channels"] == 24 and any("evil" in note or "code" in note for note in told["notes"])
    assert not [p for p in tmp_path.rglob("*") if "evil" in p.name]


def test_a_plan_from_a_stranger_leads_nowhere(run, centre, tmp_path):
    out = tmp_path / "in" / "d"
    assert run(*box(centre, out))[0] == 0
    (out / "manifest.jsonl").unlink()
    for path in (out / ".plan").glob("2020*.json"):
        path.write_text(path.read_text().replace('"AAA"', '"../../../AAA"'))
    before = {p for p in tmp_path.rglob("*") if out not in p.parents}
    code, _, err = run(*box(centre, out))
    assert code == 1 and "is no plan" in err and "station code" in err
    assert {p for p in tmp_path.rglob("*") if out not in p.parents} == before


def test_responses_that_do_not_come_are_told(run, centre, tmp_path):
    def none(handler, body, asked):
        handler.send(200, body) if isinstance(asked, dict) else handler.send(204)

    centre.always["station"] = none
    code, told, _ = run(*box(centre, tmp_path / "d", "--json"))
    assert code == 0 and told["responses"] == {"failed": 3} and told["counts"]["ok"] == 18
    assert not (tmp_path / "d" / "stations.xml").exists()
    centre.always.clear()
    code, told, _ = run(*box(centre, tmp_path / "d", "--json"))
    assert told["responses"] == {"ok": 3} and (tmp_path / "d" / "stations.xml").exists()


def test_a_full_disk(run, centre, tmp_path, monkeypatch):
    out, real = tmp_path / "d", Path.write_bytes

    def full(self, data):
        if "BBB" in self.name and ".mseed" in self.name:
            real(self, data[:100])
            raise OSError(28, "No space left on device", str(self))
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = run(*box(centre, out, "--service.request_channels", "3"))
    assert code == 1 and "No space left" in err and "make room" in err
    assert not [p for p in out.rglob("*") if p.name.endswith(".part")] and not any("BBB" in name for name in files(out))
    monkeypatch.undo()
    assert run(*box(centre, out))[0] == 0 and len(files(out)) == 18


def test_a_window_that_comes_in_part_says_so(run, centre, tmp_path):
    def half(handler, body, asked):
        codes = [line.split() for line in asked]
        ends = [str(obspy.UTCDateTime(line[4]) + 20) if line[1] == "AAA" else line[5] for line in codes]
        body = centre.waveforms([" ".join([*line[:5], end]) for line, end in zip(codes, ends, strict=True)])
        handler.send(200, body)

    centre.always["dataselect"] = half
    assert run(*box(centre, tmp_path / "d", "--limit", "1"))[0] == 0
    told = {row["station"]: row.get("detail", "") for row in manifest(tmp_path / "d") if row["what"] == "waveforms"}
    assert told["AAA"].startswith("holds 20 of ") and told["BBB"] == ""


def test_no_more_at_once_than_allowed(run, centre, tmp_path):
    centre.delay_s = 0.05
    assert run(*box(centre, tmp_path / "d", "--service.concurrent", "3", "--service.request_channels", "2"))[0] == 0
    assert 2 <= centre.most_at_once <= 3


def test_secrets_stand_nowhere(run, centre, tmp_path, monkeypatch):
    monkeypatch.setenv(USER, "alice")
    monkeypatch.setenv(PASSWORD, "hush-hush")
    code, out, err = run(*box(centre, tmp_path / "d"))
    assert code == 0
    for text in (out, err, *(p.read_text("latin-1") for p in (tmp_path / "d").rglob("*") if p.is_file())):
        assert "hush-hush" not in text and "alice" not in text


# usage --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["fdsn/bx"], 1, "fdsn/box"),
        (["fdsn/box"], 2, "start_time"),
        (["fdsn/box", *BOX, "--query.magnitde", "[1, 2]"], 2, "magnitude"),
        (["fdsn/box", *BOX, "--service.concurrent", "0"], 2, "concurrent"),
        (["fdsn/box", *BOX, "--limit", "0"], 2, "--limit"),
        (["fdsn/box", *BOX, "--events", "GEOFONN"], 2, "GEOFON"),
    ],
)
def test_usage(run, tmp_path, words, code, said):
    got, _, err = run("download", *words, "--from", "http://127.0.0.1:19", "--out", tmp_path / "d")
    assert got == code and said in err and not (tmp_path / "d").exists()


def test_help_tells_queries_and_keys(run):
    assert run("download", "--help")[1].count("fdsn/deep_earthquakes") >= 2
    out = run("download", "fdsn/box", "--help")[1]
    assert "--query.distance_deg [0.0, 3.0]" in out and "--service.requests_per_second 2.0" in out and "degrees" in out


# plan ---------------------------------------------------------------------------------------------------------------------------


def test_which_sensor_of_a_station():
    held = [("", "HHZ"), *(("10", f"BH{c}") for c in "ZNE"), *(("00", f"HH{c}") for c in "ZNE")]
    rows = [("XX", "A", location, code) for location, code in held]
    table = pd.DataFrame(rows, columns=["network", "station", "location", "channel"])
    assert set(map(tuple, chosen(table, ("HH?", "BH?"))[["location", "channel"]].to_numpy())) == {("00", f"HH{c}") for c in "ZNE"}
    assert set(map(tuple, chosen(table, ("BH?", "HH?"))[["location", "channel"]].to_numpy())) == {("10", f"BH{c}") for c in "ZNE"}
    assert chosen(table[:1], ("BH?", "HH?"))["channel"].tolist() == ["HHZ"]


def test_names_of_event_folders_hold_nothing_of_the_id():
    event = pd.Series({"source_id": "../../../etc/passwd", "origin_ns": obspy.UTCDateTime("2020-01-01T01:02:03.5").ns})
    name = event_folder(event)
    assert name.startswith("20200101T010203_") and name.replace("T", "").replace("_", "").isalnum()
    assert name != event_folder(pd.Series({**event, "source_id": "other"}))
