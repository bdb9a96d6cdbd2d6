"""Archives: only what is asked for is read, nothing is written into them, and what is broken is told."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from obspy import Stream, Trace, UTCDateTime

from seislatent.errors import SeislatentError
from seislatent.io import archive as archive_module
from seislatent.io.archive import Archive
from seislatent.io.archive_index import TRACE
from seislatent.io.files import read_stream

DAY = UTCDateTime("2014-03-01")


def ns(text):
    return UTCDateTime(text).ns


def trace(channel="HHZ", start=DAY, seconds=60.0, rate=100.0, station="AAA", network="XX", location="", seed=0):
    data = np.random.default_rng(seed).integers(-5000, 5000, round(seconds * rate)).astype(np.int32)
    header = {"network": network, "station": station, "location": location, "channel": channel, "sampling_rate": rate}
    return Trace(data, header | {"starttime": UTCDateTime(start)})


def put_sds(root, *traces):
    """Traces into an SDS tree, each into the file of the day on which it starts."""
    for one in traces:
        s = one.stats
        day = f"{s.starttime.year:04d}.{s.starttime.julday:03d}"
        place = root / f"{s.starttime.year:04d}" / s.network / s.station / f"{s.channel}.D"
        place.mkdir(parents=True, exist_ok=True)
        with (place / f"{s.network}.{s.station}.{s.location}.{s.channel}.D.{day}").open("ab") as handle:
            one.write(handle, format="MSEED", reclen=512)


@pytest.fixture
def sds(tmp_path):
    root = tmp_path / "sds"
    for k, channel in enumerate(("HHZ", "HHN", "HHE", "BHZ")):
        for day in range(3):
            put_sds(root, trace(channel, DAY + 86400 * day, 3600, 20.0, seed=10 * k + day))
    put_sds(root, trace("HHZ", DAY, 60, 20.0, station="BBB", location="00", seed=99))
    return root


def snapshot(folder):
    return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*"))


def test_sds_is_read_by_name_and_only_the_day_asked(sds, monkeypatch):
    archive = Archive(sds)
    opened = []
    real, real_read, records = archive_module.record_headers, archive_module.read_records, []
    monkeypatch.setattr(archive_module, "record_headers", lambda path: opened.append(path.name) or real(path))
    monkeypatch.setattr(archive_module, "read_records", lambda p, rows, *a: records.append(len(rows)) or real_read(p, rows, *a))
    monkeypatch.setattr(archive_module, "index", None)  # no scan
    start = ns("2014-03-02T00:30:00")
    found = archive.read("XX", "AAA", "", "HH?", start, start + 10_000_000_000)
    assert archive.sds and [w.ids[0] for w in found] == ["XX.AAA..HHE", "XX.AAA..HHN", "XX.AAA..HHZ"]
    assert sorted(opened) == [f"XX.AAA..{c}.D.2014.061" for c in ("HHE", "HHN", "HHZ")]
    whole = trace("HHN", DAY, 3600, 20.0, seed=11).data
    assert np.array_equal(found[1].data[0], whole[36000:36200]) and found[1].start_ns == start and found[1].data.dtype == np.int32
    assert found[1].metadata["file"] == "2014/XX/AAA/HHN.D/XX.AAA..HHN.D.2014.061"
    archive.read("XX", "AAA", "", "HH?", start + 60_000_000_000, start + 70_000_000_000)
    assert len(opened) == 3  # the neighbouring window looks at no header again
    size = (sds / found[0].metadata["file"]).stat().st_size // 512
    assert len(records) == 6 and max(records) < size / 20  # half a minute of an hour
    assert archive.read("XX", "CCC", "*", "*", start, start + 1) == []
    assert [w.ids[0] for w in archive.read("*", "BBB", "00", "*", ns(DAY), ns(DAY) + 1_000_000_000)] == ["XX.BBB.00.HHZ"]
    with pytest.raises(SeislatentError, match="give start and end"):
        archive.read("XX", "AAA")


def test_a_window_over_midnight_and_records_that_spill_into_the_next_day(tmp_path):
    root = tmp_path / "sds"
    whole = trace("HHZ", "2014-12-31T23:58:00", 180, 50.0)
    put_sds(root, whole.slice(endtime=UTCDateTime("2015-01-01T00:00:03.98")), whole.slice(UTCDateTime("2015-01-01T00:00:04")))
    start = ns("2014-12-31T23:59:50")
    found = Archive(root).read("XX", "AAA", "", "HHZ", start, start + 20_000_000_000)
    assert [w.data.shape[1] for w in found] == [700, 300]
    assert np.array_equal(np.concatenate([w.data[0] for w in found]), whole.data[5500:6500])
    late = Archive(root).read("XX", "AAA", "", "HHZ", ns("2015-01-01T00:00:01"), ns("2015-01-01T00:00:02"))
    assert len(late) == 1 and np.array_equal(late[0].data[0], whole.data[6050:6100])  # stands in the file of the day before


def test_spans_of_sds_come_from_names_and_the_table_from_headers(sds):
    archive = Archive(sds)
    spans = archive.spans()
    assert len(spans) == 13 and spans["sampling_rate_hz"].isna().all()
    assert set(spans["start_ns"]) == {(DAY + 86400 * d).ns for d in range(3)}
    assert archive.rate_hz(spans["file"].iloc[0]) == 20.0
    table = archive.table
    assert list(table.columns) == list(TRACE) and len(table) == 13 and (table["sampling_rate_hz"] == 20).all()
    assert (table["end_ns"] - table["start_ns"]).max() == 3_600_000_000_000
    assert len(archive.spans()) == 13 and len(archive.read("XX", "AAA", "", "HHZ")) == 3


@pytest.fixture
def events(tmp_path):
    """Files of one event and station with three components, as event archives hold them."""
    root = tmp_path / "events"
    for k, station in enumerate(("AAA", "BBB")):
        folder = root / f"2014{k}"
        folder.mkdir(parents=True)
        stream = Stream([trace(f"HH{c}", DAY + 7200 * k, station=station, seed=k) for c in "ZNE"])
        stream.write(str(folder / f"{station}.mseed"), "MSEED")
    return root


def test_a_folder_of_event_files(events):
    before = snapshot(events)
    archive = Archive(events)
    assert not archive.sds and len(archive.table) == 6 and set(archive.table["file"]) == {"20140/AAA.mseed", "20141/BBB.mseed"}
    start = ns(DAY) + 10_000_000_000
    found = archive.read("XX", "AAA", "", "HH?", start, start + 5_000_000_000)
    assert len(found) == 3 and all(w.data.shape == (1, 500) and w.start_ns == start for w in found)
    assert archive.read("XX", "AAA", "", "HH?", start + 7200 * 10**9, start + 7205 * 10**9) == []
    assert len(archive.read(station="BBB", files=["20141/BBB.mseed"])) == 3
    again = pickle.loads(pickle.dumps(archive))  # as worker processes get it
    assert np.array_equal(again.read("XX", "AAA", "", "HHZ", start, start + 5_000_000_000)[0].data, found[2].data)
    assert snapshot(events) == before


def test_samples_nearest_to_the_window(tmp_path):
    (tmp_path / "a").mkdir()
    one = trace("HHZ", DAY + 0.0033, 10, 100.0)
    one.write(str(tmp_path / "a" / "x"), format="MSEED")
    archive = Archive(tmp_path / "a")
    found = archive.read(start_ns=DAY.ns + 1_000_000_000, end_ns=DAY.ns + 3_000_000_000)[0]
    assert found.start_ns == one.stats.starttime.ns + 1_000_000_000 and np.array_equal(found.data[0], one.data[100:300])
    past = archive.read(start_ns=DAY.ns + 9_000_000_000, end_ns=DAY.ns + 60_000_000_000)[0]
    assert np.array_equal(past.data[0], one.data[900:])


def test_the_index_is_kept_and_only_changed_files_are_read_again(events, tmp_path, monkeypatch):
    cache = tmp_path / "index.parquet"
    (events / "torn.mseed").write_bytes(b"000001D " + bytes(600))
    first = Archive(events, cache=cache)
    table = first.table
    assert cache.is_file() and not list(tmp_path.glob(".*")) and len(first.bad) == 1
    from seislatent.io import archive_index

    opened = []
    real = archive_index.read_stream
    monkeypatch.setattr(archive_index, "read_stream", lambda path, **k: opened.append(path.name) or real(path, **k))
    second = Archive(events, cache=cache)
    assert second.table.equals(table) and opened == [] and second.bad == first.bad
    trace("HHZ", DAY, 5, station="CCC").write(str(events / "new.mseed"), format="MSEED")
    os.utime(events / "20140" / "AAA.mseed", ns=(1, 1))
    (events / "20141" / "BBB.mseed").unlink()
    third = Archive(events, cache=cache).table
    assert sorted(opened) == ["AAA.mseed", "new.mseed"] and sorted(set(third["station"])) == ["AAA", "CCC"]
    second.refresh()
    assert second.table.equals(third)


def test_an_index_never_overwrites_another_file_nor_lies_in_the_archive(events, tmp_path):
    other = tmp_path / "mine.txt"
    other.write_text("a list")
    with pytest.raises(SeislatentError, match="is no index of an archive"):
        Archive(events, cache=other).refresh()
    assert other.read_text() == "a list"
    with pytest.raises(SeislatentError, match="outside of it"):
        Archive(events, cache=events / "index.parquet")
    with pytest.raises(SeislatentError, match="is no folder"):
        Archive(tmp_path / "nowhere")


def test_headers_read_by_two_processes_are_the_same(tmp_path, monkeypatch):
    root = tmp_path / "many"
    root.mkdir()
    for i in range(6):
        trace("HHZ", DAY + i, 1, station=f"S{i}").write(str(root / f"{i}.mseed"), format="MSEED")
    monkeypatch.setattr("seislatent.io.archive_index._CHUNK", 3)
    assert Archive(root, workers=2).table.equals(Archive(root).table)


def test_broken_files_are_told_and_the_rest_is_read(events, caplog):
    good = (events / "20140" / "AAA.mseed").read_bytes()
    (events / "torn.mseed").write_bytes(b"000001D " + bytes(600))
    (events / "empty.mseed").write_bytes(b"")
    (events / "letter.dat").write_text("no waveform at all\n")
    (events / "evil.mseed").write_bytes(pickle.dumps(print))
    (events / "notes.csv").write_text("not looked at")
    archive = Archive(events)
    assert len(archive.table) == 6 and len(archive.bad) == 4 and "4 files of" in caplog.text
    (events / "20140" / "AAA.mseed").write_bytes(good[:64] + bytes(len(good) - 64))  # broken after the index was made
    assert len(archive.read("XX", "BBB", "", "HH?", ns(DAY) + 7200 * 10**9, ns(DAY) + 7210 * 10**9)) == 3
    archive.read("XX", "AAA", "", "HH?", ns(DAY), ns(DAY) + 10**10)
    (events / "20140" / "AAA.mseed").unlink()
    archive.refresh()
    assert archive.read("XX", "AAA", "", "HH?", ns(DAY), ns(DAY) + 10**10) == []


def test_a_name_that_is_no_text_is_left_out(events, tmp_path, caplog):
    try:
        (events / os.fsdecode(b"\xe9.mseed")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert len(Archive(events, cache=tmp_path / "index.parquet").table) == 6 and "is no text" in caplog.text


@pytest.mark.parametrize("form", ["MSEED", "SAC"])
def test_flipped_bits_never_stop_an_archive(tmp_path, form):
    rng = np.random.default_rng(0)
    trace("HHZ", DAY, 20).write(str(tmp_path / "good"), format=form)
    good = (tmp_path / "good").read_bytes()
    root = tmp_path / "a"
    root.mkdir()
    for i in range(40):
        torn = bytearray(good[: rng.integers(1, len(good))] if i % 4 == 0 else good)
        for at in rng.integers(0, min(len(torn), 600), 6):
            torn[at] ^= 1 << rng.integers(8)
        (root / f"{i:02d}.dat").write_bytes(torn)
    (root / "good.dat").write_bytes(good)
    archive = Archive(root)
    found = archive.read(start_ns=DAY.ns, end_ns=DAY.ns + 10**10)
    assert any(np.array_equal(w.data[0], trace("HHZ", DAY, 20).data[:1000]) for w in found)
    by_name = [w for i in range(40) for w in archive.read(files=[f"{i:02d}.dat"])]
    assert all(w.data.ndim == 2 for w in by_name)


def test_a_file_that_is_torn_in_sds_is_told_once(sds):
    path = sds / "2014" / "XX" / "AAA" / "HHZ.D" / "XX.AAA..HHZ.D.2014.060"
    path.write_bytes(b"\0" * 4096)
    archive = Archive(sds)
    for _ in range(2):
        found = archive.read("XX", "AAA", "", "HH?", ns(DAY), ns(DAY) + 10**10)
        assert [w.ids[0] for w in found] == ["XX.AAA..HHE", "XX.AAA..HHN"]
    assert len(archive.bad) == 1 and "XX.AAA..HHZ.D.2014.060" in archive.bad[0]


def test_text_and_empty_traces_are_left_out_and_one_sample_stays(tmp_path):
    root = tmp_path / "a"
    root.mkdir()
    log = Trace(np.frombuffer(b"clock locked", "S1").copy(), {"network": "XX", "station": "AAA", "channel": "LOG"})
    log.write(str(root / "log"), format="MSEED", encoding="ASCII")
    trace("HHZ", DAY, 0.01).write(str(root / "one"), format="MSEED")
    empty = trace("HHN", DAY, 0.01)
    empty.data = empty.data[:0]
    empty.write(str(root / "none.sac"), format="SAC")
    archive = Archive(root)
    assert archive.table[["channel", "npts"]].to_numpy().tolist() == [["HHZ", 1]]
    assert [w.data.shape for w in archive.read()] == [(1, 1)]


def test_gaps_and_overlaps_stay_apart(tmp_path):
    root = tmp_path / "a"
    root.mkdir()
    a, b, c = (trace("HHZ", DAY + s, 10, seed=s) for s in (0, 15, 20))
    Stream([a, b, c]).write(str(root / "x"), format="MSEED")
    found = Archive(root).read("XX", "AAA", "", "HHZ", DAY.ns + 5 * 10**9, DAY.ns + 22 * 10**9)
    assert [(w.start_ns - DAY.ns) // 10**9 for w in found] == [5, 15, 20] and [w.data.shape[1] for w in found] == [500, 700, 200]


@pytest.mark.parametrize("start", ["1969-12-31T23:59:30", "1963-05-01T00:00:00"])
def test_times_before_1970(tmp_path, start):
    root = tmp_path / "sds"
    one = trace("SHZ", start, 60, 20.0)
    put_sds(root, one.slice(endtime=UTCDateTime("1970-01-01") - 0.05) if start[:4] == "1969" else one)
    found = Archive(root).read("XX", "AAA", "", "SHZ", ns(start) + 10**10, ns(start) + 2 * 10**10)[0]
    assert found.start_ns == ns(start) + 10**10 < 0 and np.array_equal(found.data[0], one.data[200:400])
    assert Archive(root).table["start_ns"].iloc[0] == ns(start) < 0
    assert Archive(root).spans()["start_ns"].iloc[0] < 0


def test_a_leap_second_shows_as_an_overlap_never_as_a_shift(tmp_path):
    """2016 ended with 23:59:60. Samples counted across it overlap what the next record's header says by a second."""
    root = tmp_path / "a"
    root.mkdir()
    whole = trace("HHZ", "2016-12-31T23:59:50", 21, 100.0)
    before, after = whole.slice(endtime=whole.stats.starttime + 10.99), whole.slice(whole.stats.starttime + 11)
    after.stats.starttime = UTCDateTime("2017-01-01")
    Stream([before, after]).write(str(root / "x"), format="MSEED")
    found = Archive(root).read("XX", "AAA", "", "HHZ", ns("2016-12-31T23:59:50"), ns("2017-01-01T00:00:10"))
    assert [(w.start_ns, w.data.shape[1]) for w in found] == [(before.stats.starttime.ns, 1100), (after.stats.starttime.ns, 1000)]
    assert np.array_equal(found[1].data[0], whole.data[1100:])


def test_links_are_followed_and_a_loop_ends(events):
    (events / "loop").symlink_to(events, target_is_directory=True)
    (events / "20140" / "again.mseed").symlink_to(events / "20140" / "AAA.mseed")
    assert len(Archive(events).table) == 9


@pytest.mark.parametrize("form", ["GSE2", "MSEED"])
def test_a_file_of_many_stations_is_decoded_once(tmp_path, monkeypatch, form):
    root = tmp_path / "a"
    root.mkdir()
    stations = [trace("HHZ", DAY, 20, station=f"S{i}", network="") for i in range(4)]
    if form == "GSE2":
        Stream(stations).write(str(root / "event.gse2"), format="GSE2")
    else:  # records of two lengths, which cannot be told apart by their places
        with (root / "event.mseed").open("wb") as handle:
            for k, one in enumerate(stations):
                one.write(handle, format="MSEED", reclen=512 << (k % 2))
    archive = Archive(root)
    assert len(archive.table) == 4
    decoded = []
    real = archive_module.read_stream
    monkeypatch.setattr(archive_module, "read_stream", lambda path, **k: decoded.append(path) or real(path, **k))
    for i in range(4):
        found = archive.read("", f"S{i}", "", "HHZ", DAY.ns, DAY.ns + 10**10)[0]
        assert np.array_equal(found.data[0], stations[i].data[:1000])
    assert len(decoded) == 1


def test_real_continuous_data():
    folder = Path(os.environ.get("SEISLATENT_RECORDS", "/nonexistent")) / "continuous" / "anza_19980101"
    if not folder.is_dir():
        pytest.skip("SEISLATENT_RECORDS names no folder with continuous/anza_19980101")
    archive = Archive(folder)
    assert sorted(set(archive.table["station"])) == ["FRD", "KNW", "LVA2", "PFO"] and set(archive.table["sampling_rate_hz"]) == {40}
    start = ns("1998-01-01T12:00:00")
    part = archive.read("AZ", "PFO", "", "BHZ", start, start + 60 * 10**9)[0]
    whole = read_stream(folder / "PFO.BHZ.1998.001.mseed").slice(UTCDateTime(ns=start - 10**9), UTCDateTime(ns=start + 61 * 10**9))
    at = round((part.start_ns - whole[0].stats.starttime.ns) * 40 / 1e9)
    assert part.data.shape == (1, 2400) and abs(part.start_ns - start) <= 12_500_000
    assert np.array_equal(part.data[0], whole[0].data[at : at + 2400])
