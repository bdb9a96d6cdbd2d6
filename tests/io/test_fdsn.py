"""Requests to FDSN services: rates, faults and what is made of answers. Everything runs on loopback."""

from __future__ import annotations

import io
import json
import threading
import time

import numpy as np
import obspy
import pytest
from fdsn_server import RATE, serving, trace

from seislatent.errors import SeislatentError, UsageError
from seislatent.io import fdsn
from seislatent.io.fdsn import Fault, GaveUp, Manners, Pace, Service, known_service
from seislatent.io.fdsn_answers import channel_table, checked, join_stations, records_by_id, station_parts
from seislatent.io.fdsn_manifest import Manifest, last_rows, put_file, read_manifest
from seislatent.io.fdsn_queries import Query, Target, box_events, find_target
from seislatent.io.inventory import read_inventory

QUICK = {"requests_per_second": 500.0, "backoff_s": 0.01, "timeout_s": 2.0, "attempts": 3}
START = obspy.UTCDateTime(2020, 1, 1)
SPAN = (START.ns, (START + 60).ns)
LINES = [("XX", "AAA", "", f"BH{c}", *SPAN) for c in "ZNE"]
WINDOWS = {line[:4]: SPAN for line in LINES}


@pytest.fixture
def centre(monkeypatch):
    for name in (fdsn.USER, fdsn.PASSWORD):
        monkeypatch.delenv(name, raising=False)
    with serving() as (it, url):
        it.station("XX", "AAA", 10.0, 10.0)
        it.station("XX", "BBB", 12.0, 10.0, "00")
        it.url = url
        yield it


def service(centre, **manners):
    return Service(centre.url, Manners(**{**QUICK, **manners}))


def fetch(it, lines=LINES):
    return it.waveforms(lines, lambda body: records_by_id(body, {line[:4]: line[4:] for line in lines}))[0]


# one request ------------------------------------------------------------------------------------------------------------------


def test_what_comes_is_what_was_asked_for(centre):
    found = fetch(service(centre))
    assert found.keys() == WINDOWS.keys()
    for key, raw in found.items():
        (one,) = obspy.read(io.BytesIO(raw), format="MSEED")
        assert tuple(one.id.split(".")) == key and one.stats.starttime.ns == SPAN[0]
        np.testing.assert_array_equal(one.data, trace(*key, START, START + 60).data)
    assert "seislatent/" in centre.asked[0][4]["User-Agent"]


def test_an_answer_in_chunks_is_the_same(centre):
    whole = fetch(service(centre))
    centre.always["dataselect"] = "chunked"
    assert fetch(service(centre)) == whole


@pytest.mark.parametrize("fault", ["cut", "chunks_cut", "cut_silently", "html", (503, {}), (429, {}), (500, {})])
def test_a_fault_that_passes_is_tried_again(centre, fault):
    centre.faults["dataselect"] = [fault]
    assert len(fetch(service(centre))) == 3
    assert centre.count()["dataselect"] == 2


@pytest.mark.parametrize(
    ("fault", "reason", "said"),
    [
        ("cut", "cut off", "broke off"),
        ("chunks_cut", "cut off", "broke off"),
        ("cut_silently", "damaged", "truncated miniSEED"),
        ("html", "damaged", "text instead of miniSEED"),
        ((503, {}), "busy", "503"),
        ((429, {}), "busy", "429"),
        ((502, {}), "no answer", "502"),
    ],
)
def test_a_fault_that_stays_is_told_after_all_attempts(centre, fault, reason, said):
    centre.always["dataselect"] = fault
    with pytest.raises(Fault) as told:
        fetch(service(centre))
    assert told.value.reason == reason and said in str(told.value) and len(str(told.value).splitlines()) == 1
    assert centre.count()["dataselect"] == 3


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (204, "no data"),
        (413, "too large"),
        (414, "too large"),
        (400, "bad request"),
        (403, "not allowed"),
        (404, "no such service"),
    ],
)
def test_answers_that_time_does_not_change_are_not_asked_again(centre, status, reason):
    centre.always["dataselect"] = (status, {})
    with pytest.raises(Fault) as told:
        fetch(service(centre))
    assert told.value.reason == reason and centre.count()["dataselect"] == 1


@pytest.mark.parametrize("fault", ["silent", "drip"])
def test_a_server_that_does_not_end_is_given_up(centre, fault):
    centre.always["dataselect"] = fault
    begun = time.monotonic()
    with pytest.raises(Fault) as told:
        fetch(service(centre, timeout_s=0.3, longest_s=0.5, attempts=1))
    assert told.value.reason == "no answer" and time.monotonic() - begun < 3


def test_nothing_at_all_is_cut_off_but_an_answer_of_length_0_is_one(centre):
    def nothing(handler, body, asked):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True

    centre.always["dataselect"] = nothing
    with pytest.raises(Fault) as told:
        fetch(service(centre))
    assert told.value.reason == "cut off" and centre.count()["dataselect"] == 3
    centre.always["dataselect"] = lambda handler, body, asked: handler.send(200, b"")
    assert fetch(service(centre)) == {}


def test_redirects_are_followed_but_not_with_a_password(centre, monkeypatch):
    with serving() as (other, url):
        other.station("XX", "AAA", 10.0, 10.0)
        centre.always["dataselect"] = (302, {"Location": f"{url}/fdsnws/dataselect/1/query"})
        assert len(fetch(service(centre))) == 3 and other.count()["dataselect"] == 1
        monkeypatch.setenv(fdsn.USER, "alice")
        monkeypatch.setenv(fdsn.PASSWORD, "hush-hush")
        with pytest.raises(Fault) as told:
            fetch(service(centre))
        assert told.value.reason == "redirected" and other.count()["dataselect"] == 1


def test_nobody_listens():
    with pytest.raises(Fault) as told:
        fetch(Service("http://127.0.0.1:19", Manners(**{**QUICK, "attempts": 1})))
    assert told.value.reason == "unreachable" and "127.0.0.1:19" in str(told.value)


def test_a_long_answer_is_broken_off_also_when_it_unpacks_to_one(centre):
    import gzip

    with pytest.raises(Fault) as told:
        fetch(service(centre, answer_mb=0.001))
    assert told.value.reason == "too large"
    bomb = gzip.compress(b"\0" * 50_000_000)
    centre.always["dataselect"] = lambda handler, body, asked: handler.send(200, bomb, {"Content-Encoding": "gzip"})
    with pytest.raises(Fault) as told:
        fetch(service(centre, answer_mb=1.0))
    assert told.value.reason == "too large"
    packed = lambda handler, body, asked: handler.send(200, gzip.compress(body), {"Content-Encoding": "gzip"})  # noqa: E731
    centre.always["dataselect"] = packed
    assert len(fetch(service(centre))) == 3
    short = lambda handler, body, asked: handler.send(200, gzip.compress(body)[:-20], {"Content-Encoding": "gzip"})  # noqa: E731
    centre.always["dataselect"] = short
    with pytest.raises(Fault) as told:
        fetch(service(centre))
    assert told.value.reason == "cut off"


# rates --------------------------------------------------------------------------------------------------------------------------


def test_no_more_requests_a_second_than_allowed(centre):
    it = service(centre, requests_per_second=20.0)
    threads = [threading.Thread(target=fetch, args=(it,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    when = sorted(asked[3] for asked in centre.asked)
    assert when[-1] - when[0] > 5 * 0.05 - 0.03  # six requests, five pauses; a thread may start late, never early


def test_retry_after_holds_everybody_back(centre):
    centre.faults["dataselect"] = [(503, {"Retry-After": "1"})]
    it = service(centre)
    fetch(it)
    first, second = (asked[3] for asked in centre.asked)
    assert second - first > 0.9


def test_retry_after_may_be_a_date_and_too_long_to_wait(centre):
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    centre.always["dataselect"] = (503, {"Retry-After": later})
    with pytest.raises(Fault) as told:
        fetch(service(centre))
    assert told.value.reason == "busy" and 7000 < told.value.wait_s < 7300 and centre.count()["dataselect"] == 1


def test_a_service_that_fails_again_and_again_is_left_alone(centre):
    centre.always["dataselect"] = (503, {})
    it = service(centre, attempts=1, give_up_after=3)
    for _ in range(2):
        with pytest.raises(Fault):
            fetch(it)
    with pytest.raises(GaveUp, match=r"3 requests in a row.*later"):
        fetch(it)
    with pytest.raises(GaveUp):  # and nothing more is asked
        fetch(it)
    assert centre.count()["dataselect"] == 3


def test_pace_stops_those_who_wait():
    pace = Pace(1.0)
    pace.hold(60)
    ended = []

    def waits():
        with pytest.raises(GaveUp, match="enough"):
            pace.wait()
        ended.append(True)

    thread = threading.Thread(target=waits)
    thread.start()
    pace.stop("enough")
    thread.join(3)
    assert ended


# names and secrets --------------------------------------------------------------------------------------------------------------


def test_names_of_centres():
    assert known_service("geofon").startswith("https://")
    assert known_service("https://service.example/") == "https://service.example"
    for name, said in (("GEOFONN", "GEOFON"), ("file:///etc", "base URL"), ("https://me:secret@x.example", fdsn.USER)):
        with pytest.raises(UsageError, match=said) as told:
            known_service(name)
        assert "secret" not in str(told.value)


def test_secrets_go_to_the_client_alone(centre, monkeypatch):
    monkeypatch.setenv(fdsn.USER, "alice")
    with pytest.raises(UsageError, match="both"):
        service(centre)
    monkeypatch.setenv(fdsn.PASSWORD, "hush-hush")
    nonce = {"WWW-Authenticate": 'Digest realm="x", nonce="1", algorithm=MD5, qop="auth"'}
    centre.faults["dataselect"] = [(401, nonce)]
    assert len(fetch(service(centre))) == 3
    assert centre.asked[-1][1].endswith("/queryauth") and 'username="alice"' in centre.asked[-1][4]["Authorization"]
    centre.always["dataselect"] = lambda handler, body, asked: handler.send(403, b"alice with hush-hush may not")
    with pytest.raises(Fault) as told:
        fetch(service(centre))
    assert told.value.reason == "not allowed" and "alice" not in str(told.value) and "hush" not in str(told.value)


# answers ------------------------------------------------------------------------------------------------------------------------


def mseed(*traces):
    out = io.BytesIO()
    obspy.Stream(traces).write(out, format="MSEED", reclen=512)
    return out.getvalue()


def test_channels_that_were_not_asked_for_are_left_out():
    own, other = trace("XX", "AAA", "", "BHZ", START, START + 60), trace("XX", "AAA", "", "LHZ", START, START + 60)
    late = trace("XX", "AAA", "", "BHZ", START + 1000, START + 1060)
    found, told = records_by_id(mseed(other, own, late), WINDOWS)
    assert list(found) == [("XX", "AAA", "", "BHZ")] and found["XX", "AAA", "", "BHZ"] == mseed(own)
    assert len(told) == 2 and any("LHZ" in line for line in told)
    assert records_by_id(mseed(other), WINDOWS)[0] == {}


def test_records_stand_once_and_in_order():
    raw = mseed(trace("XX", "AAA", "", "BHZ", START, START + 60))
    blocks = [raw[i : i + 512] for i in range(0, len(raw), 512)]
    found, _ = records_by_id(b"".join([*reversed(blocks), *blocks]), WINDOWS)
    assert len(blocks) > 2 and found["XX", "AAA", "", "BHZ"] == raw


@pytest.mark.parametrize("cut", [1, 100, 463, 511])
def test_miniseed_that_is_cut_is_not_taken(cut):
    raw = mseed(trace("XX", "AAA", "", "BHZ", START, START + 60))
    with pytest.raises(Fault, match="miniSEED"):
        records_by_id(raw[:-cut], WINDOWS)
    with pytest.raises(Fault, match="no miniSEED record at byte 512"):
        records_by_id(raw[:512] + b"\0" * 512, WINDOWS)


def test_samples_that_are_not_those_of_the_record_are_not_taken():
    raw = bytearray(mseed(trace("XX", "AAA", "", "BHZ", START, START + 60)))
    raw[300] ^= 0x10
    with pytest.raises(Fault, match="integrity"):
        records_by_id(bytes(raw), WINDOWS)


def test_bytes_at_random_are_damaged_and_nothing_else():
    raw, rng = mseed(trace("XX", "AAA", "", "BHZ", START, START + 60)), np.random.default_rng(0)
    for k in range(200):
        body = bytearray(raw[:512]) if k % 2 else bytearray(rng.bytes(rng.integers(1, 2000)))
        for at in rng.integers(0, min(len(body), 64), 3):
            body[at] = rng.integers(256)
        try:
            records_by_id(bytes(body), WINDOWS)
        except Fault as fault:
            assert fault.reason == "damaged"


TEXT = "#Network|Station\n{net}|{sta}|{loc}|BHZ|10.0|20.0|5.0|0.0|0.0|-90.0|STS|1|1|M/S|20.0|2000-01-01T00:00:00|\n"


@pytest.mark.parametrize(
    ("net", "sta", "loc"), [("..", "AAA", ""), ("XX", "../../etc", ""), ("XX", "A/B", ""), ("XX", "A\0B", ""), ("XX", "AAA", ".."),
                            ("XX", "", ""), ("XX", "AÄA", ""), ("XX", "A" * 300, ""), ("XX", "C:A", "")],
)  # fmt: skip
def test_codes_that_lead_elsewhere_are_left_out(net, sta, loc):
    good = TEXT.format(net="XX", sta="AAA", loc="--").encode()
    table, told = channel_table(good + TEXT.format(net=net, sta=sta, loc=loc).encode())
    assert table[["network", "station", "location"]].to_numpy().tolist() == [["XX", "AAA", ""]] and len(told) == 1
    with pytest.raises(Fault, match="can be read"):
        channel_table(TEXT.format(net=net, sta=sta, loc=loc).encode())
    with pytest.raises(ValueError, match="code"):
        checked(net, sta, loc, "BHZ")


def test_station_text_with_holes():
    body = TEXT.format(net="XX", sta="AAA", loc="").encode()
    for old, new in ((body, b"XX|AAA\n"), (b"|20.0|2000", b"||2000"), (b"|10.0|", b"|100.0|"), (b"2000-01", b"2000-13")):
        table, told = channel_table(body + body.replace(old, new))
        assert len(table) == 1 and len(told) == 1
    with pytest.raises(Fault, match="instead of station text"):
        channel_table(b"<html>")


def test_stationxml_by_station_and_joined(centre, tmp_path):
    body = centre.station_xml(["XX AAA", "XX BBB"])
    parts = station_parts(body, [("XX", "BBB"), ("XX", "AAA")])
    assert set(parts) == {("XX", "AAA"), ("XX", "BBB")}
    assert list(station_parts(body, [("XX", "BBB"), ("YY", "BBB")])) == [("XX", "BBB")]
    paths = []
    for (network, station), raw in parts.items():
        paths.append(tmp_path / f"{network}.{station}.stationxml")
        paths[-1].write_bytes(raw)
    assert join_stations(paths, tmp_path / "stations.xml") == 2
    whole = read_inventory(tmp_path / "stations.xml")
    original = obspy.read_inventory(io.BytesIO(body))
    assert sorted(whole.get_contents()["channels"]) == sorted(original.get_contents()["channels"])
    assert whole.get_response("XX.BBB.00.BHZ", START) == original.get_response("XX.BBB.00.BHZ", START)


def test_xml_that_is_hostile_or_something_else(centre, tmp_path):
    body = centre.station_xml(["XX AAA"])
    (tmp_path / "secret").write_text("secret")
    entity = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'.encode()
    for raw, said in (
        (body.replace(b"?>", b"?>" + entity, 1), "DOCTYPE"),
        (b"<!DOCTYPE html><html><body>no</body></html>", "DOCTYPE"),
        (b"<html><body>no</body></html>", "not StationXML"),
        (body[: len(body) // 2], "no readable"),
        (b"", "no readable"),
    ):
        with pytest.raises(Fault, match=said):
            station_parts(raw, [("XX", "AAA")])


# events -------------------------------------------------------------------------------------------------------------------------


def test_a_box_of_events_and_too_many(centre):
    for k in range(5):
        centre.event(f"e{k}", START + 1000 * (5 - k), 10 + k, 179.5 if k % 2 else -179.5, 10, 4 + k)
    query = Query(start_time="2020-01-01", end_time="2020-01-02", magnitude=(5, 7), latitude_deg=(0, 20), longitude_deg=(170, -170))
    table, _ = box_events(query, service(centre))
    assert table["source_id"].tolist() == ["smi:test/event/e3", "smi:test/event/e2", "smi:test/event/e1"]  # in order of time
    assert centre.count()["event"] == 2  # both sides of the date line
    circle = Query(start_time="2020-01-01", end_time="2020-01-02", center_deg=(12, -179.5), radius_deg=(0, 1.1), most_events=2)
    assert len(box_events(circle, service(centre))[0]) == 1
    many = Query(start_time="2020-01-01", end_time="2020-01-02", most_events=2)
    with pytest.raises(SeislatentError, match=r"more than 2 such events.*most_events"):
        box_events(many, service(centre))


def test_targets_are_found_by_time_magnitude_and_depth(centre):
    target = Target(name="okt1", time="2013-05-24T05:44:48", magnitude=8.3, depth_km=598)
    centre.event("shallow", "2013-05-24T05:44:50", 54.0, 153.0, 33, 8.3)
    centre.event("small", "2013-05-24T05:44:48", 54.0, 153.0, 598, 5.0)
    table, told = find_target(Query(targets=(target,)), target, service(centre))
    assert not len(table) and "not found: the nearest is" in told
    centre.event("right", "2013-05-24T05:45:10", 54.0, 153.0, 610, 8.2)
    centre.event("worse", "2013-05-24T05:44:20", 54.0, 153.0, 650, 8.2)
    table, told = find_target(Query(targets=(target,)), target, service(centre))
    assert table["source_id"].tolist() == ["smi:test/event/right"] and told.startswith("found: 2013-05-24T05:45:10")
    other = Target(name="none", time="1999-05-24T05:44:48", magnitude=8.3, depth_km=598)
    assert "nothing within 60 s" in find_target(Query(targets=(other,)), other, service(centre))[1]


def test_a_catalogue_with_doctype_or_cut_is_no_catalogue(centre):
    centre.event("a", START + 5, 10, 10, 10, 5)
    query = Query(start_time="2020-01-01", end_time="2020-01-02")
    entity = b'<!DOCTYPE x [<!ENTITY e "boom">]>'
    body = centre.catalogue({"starttime": "2020-01-01", "endtime": "2020-01-02"})
    for answer in (body.replace(b"?>", b"?>" + entity, 1), body[: len(body) * 2 // 3], b"no"):
        centre.always["event"] = lambda handler, body, asked, answer=answer: handler.send(200, answer)
        with pytest.raises(Fault, match="damaged"):
            box_events(query, service(centre, attempts=1))


def test_a_service_without_limit_and_one_without_events(centre):
    centre.event("a", START + 5, 10, 10, 10, 5)
    query = Query(start_time="2020-01-01", end_time="2020-01-02")
    refuse = lambda handler, body, asked: handler.send(400 if "limit" in asked else 200, body)  # noqa: E731
    centre.always["event"] = refuse
    assert len(box_events(query, service(centre))[0]) == 1
    centre.always["event"] = (404, {})
    with pytest.raises(SeislatentError, match=r"no event service.*--events"):
        box_events(query, service(centre))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "start_time"),
        ({"start_time": "2020-01-02", "end_time": "2020-01-01"}, "not before"),
        ({"start_time": "yesterday", "end_time": "2020-01-01"}, "no time"),
        ({"start_time": "2020-01-01", "end_time": "2020-01-02", "magnitude": (7, 4)}, "least first"),
        ({"start_time": "2020-01-01", "end_time": "2020-01-02", "distance_deg": (30, 120)}, "0 to 95"),
        ({"start_time": "2020-01-01", "end_time": "2020-01-02", "center_deg": (0, 0)}, "both"),
        ({"start_time": "2020-01-01", "end_time": "2020-01-02", "before_s": -500}, "above 0"),
    ],
)
def test_queries_that_cannot_be(keys, said):
    with pytest.raises(UsageError, match=said):
        Query(**keys)


# manifest -----------------------------------------------------------------------------------------------------------------------


def test_manifest_of_a_killed_process(tmp_path):
    path = tmp_path / "manifest.jsonl"
    with Manifest(path) as manifest:
        for station in ("AAA", "BBB"):
            manifest.add(what="waveforms", event="e", station=station, status="failed")
        manifest.add(what="waveforms", event="e", station="AAA", status="ok", bytes=5)
        with pytest.raises(SeislatentError, match="another download"), Manifest(path):
            pass
    with path.open("ab") as file:
        file.write(b'{"what": "waveforms", "event": "e", "station": "CCC", "sta')
    with Manifest(path) as manifest:
        assert manifest.last(what="waveforms", event="e", station="AAA")["status"] == "ok"
        manifest.add(what="waveforms", event="e", station="DDD", status="ok")
    assert [json.loads(line)["station"] for line in path.read_text().splitlines()] == ["AAA", "BBB", "AAA", "DDD"]
    table = read_manifest(tmp_path)
    assert table["station"].tolist() == ["AAA", "BBB", "DDD"] and table["status"].tolist() == ["ok", "failed", "ok"]
    assert last_rows(tmp_path / "nothing") == {}


def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    import hashlib

    assert put_file(tmp_path / "a" / "b", b"xyz") == {"bytes": 3, "sha256": hashlib.sha256(b"xyz").hexdigest()}

    def full(beside):
        beside.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(beside))

    with pytest.raises(OSError, match="No space"):
        put_file(tmp_path / "a" / "c", full)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


def test_the_rate_of_the_test_server_is_what_tests_believe():
    assert trace("XX", "AAA", "", "BHZ", START, START + 1).stats.npts == RATE + 1
