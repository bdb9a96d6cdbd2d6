"""Records of any source as one sequence."""

import multiprocessing
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import obspy
import pandas as pd
import pytest
from obspy import Stream, Trace, UTCDateTime

from seislatent.data.gather import Unfit
from seislatent.data.recipe import Made
from seislatent.data.records import COLUMNS, open_records
from seislatent.data.shards import ShardWriter, finish
from seislatent.data.splits import leaks, split_by_event
from seislatent.data.store import is_store
from seislatent.errors import SeislatentError
from seislatent.io.native_hdf5 import write_native
from seislatent.io.seisbench import write_seisbench
from seislatent.waveform import Channel, Waveform


def event(i, station="AAA", **metadata):
    channels = tuple(Channel(network="XX", station=station, code=f"HH{c}", component=c) for c in "ZNE")
    data = np.full((3, 50), i, np.float32)
    start = (1_600_000_000 + 1000 * i) * 1_000_000_000
    return Waveform(data=data, sampling_rate_hz=50.0, channels=channels, start_ns=start, unit="counts", metadata=metadata)


def day(station, channel="BHZ", hours=3.5, start="2020-01-01T00:20:00.003", rate=2.0):
    n = round(hours * 3600 * rate)
    header = {"network": "XX", "station": station, "channel": channel, "sampling_rate": rate, "starttime": UTCDateTime(start)}
    return Trace(np.arange(n, dtype=np.int32), header)


@pytest.fixture
def sets(tmp_path):
    write_seisbench(tmp_path / "one", [event(i, source_id=f"q{i}", split="dev") for i in range(4)])
    write_seisbench(tmp_path / "deep" / "two", [event(i, "BBB", trace_p_arrival_sample=10.0) for i in range(3)], block=2)
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "sealed.bin").write_bytes(b"not ours")
    return tmp_path


def test_a_folder_of_sets(sets):
    records = open_records(sets)
    table = records.metadata
    assert len(records) == 7 == len(table) and set(COLUMNS) <= set(table.columns)
    assert table["dataset"].value_counts().to_dict() == {"one": 4, "deep/two": 3}
    for i, waveform in enumerate(records):
        assert waveform.start_ns == table["start_ns"].iloc[i] and waveform.channels[0].station == table["station_code"].iloc[i]
        assert waveform.metadata["dataset"] == table["dataset"].iloc[i]
    assert table["source_id"].isna().sum() == 3 and table["split"].isna().sum() == 3
    chosen = records.select(table["station_code"] == "BBB")
    assert [w.channels[0].station for w in chosen] == ["BBB"] * 3 and chosen[-1].metadata["trace_p_arrival_sample"] == 10
    divided = records.with_split(split_by_event(table))
    assert leaks(divided.metadata).empty and divided[0].metadata["split"] == "dev"


def test_several_paths_and_one_set(sets):
    assert len(open_records(sets / "one")) == 4 and open_records(sets / "one").metadata["dataset"].unique() == ["one"]
    assert len(open_records([sets / "one", sets / "deep"])) == 7


def test_files_are_cut_at_whole_hours(tmp_path):
    Stream([day("AAA"), day("BBB", start="2020-01-01T00:20:00")]).write(str(tmp_path / "day.mseed"), format="MSEED")
    (day("CCC", hours=0.1)).write(str(tmp_path / "short.sac"), format="SAC")
    records = open_records(tmp_path)
    table = records.metadata
    assert len(records) == 4 + 4 + 1 and table["trace_npts"].sum() == 2 * round(3.5 * 7200) + 720
    first = records.select(table["station_code"] == "AAA")
    assert np.array_equal(np.concatenate([w.data[0] for w in first]), np.arange(round(3.5 * 7200)))
    edge = UTCDateTime(ns=first[1].start_ns) - UTCDateTime("2020-01-01T01:00:00")
    assert abs(edge) <= 0.25 and first[1].channels[0].component == "Z"
    split = split_by_event(table)
    by_hour = [set(split[abs(table["start_ns"] - e) < 10**9]) for e in table["start_ns"][table["station_code"] == "BBB"]]
    assert all(len(s) == 1 for s in by_hour)
    assert len(open_records(tmp_path, block_s=None)) == 3 and len(open_records(tmp_path / "short.sac")) == 1


def test_text_empty_and_unreadable_are_left_out(tmp_path, caplog):
    day("AAA", hours=0.1).write(str(tmp_path / "a.mseed"), format="MSEED")
    log = Trace(np.frombuffer(b"a log line", "S1"), {"station": "AAA", "channel": "LOG"})
    log.write(str(tmp_path / "log.mseed"), format="MSEED", encoding="ASCII")
    for i in range(8):
        (tmp_path / f"bad{i}.dat").write_bytes(b"nothing")
    records = open_records(tmp_path)
    assert len(records) == 1
    (line,) = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert line.startswith("8 of the files") and "bad0.dat" in line and "3 more" in line and "\n" not in line


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(SeislatentError, match="does not exist"):
        open_records(tmp_path / "absent")
    with pytest.raises(SeislatentError, match="no waveform file"):
        open_records(tmp_path)
    (tmp_path / "bad.dat").write_bytes(b"nothing")
    with pytest.raises(SeislatentError, match=r"bad\.dat is in no waveform format"):
        open_records(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "waveforms.hdf5").write_bytes(b"nothing")
    pd.DataFrame({"trace_name": ["x"]}).to_csv(tmp_path / "set" / "metadata.csv")
    with pytest.raises(SeislatentError, match="HDF5"):
        open_records(tmp_path / "set")


def test_one_broken_set_does_not_hide_the_others(sets, caplog):
    with h5py.File(sets / "one" / "waveforms.hdf5", "w") as file:
        file["other"] = 1
    assert len(open_records(sets)) == 3 and "no group `data`" in caplog.text


def _sum(job):
    records, i = job
    return float(records[i].data.sum())


def test_worker_processes(sets):
    day("AAA", hours=0.1).write(str(sets / "deep" / "a.mseed"), format="MSEED")
    records = open_records([sets / "one", sets / "deep" / "a.mseed"])
    jobs = [(records, i) for i in range(len(records))]
    expected = [_sum(job) for job in jobs]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_sum, jobs) == expected


def test_obspy_wheel_files_open_as_records():
    folder = Path(obspy.__file__).parent / "io" / "gse2" / "tests" / "data"
    records = open_records(folder)
    assert len(records) > 5 and all(w.data.shape[1] == n for w, n in zip(records, records.metadata["trace_npts"], strict=True))


def stead_file(path, n=5):
    return write_native(path, [event(i, "CCC", trace_category="earthquake_local", source_id=f"s{i}") for i in range(n)])


def test_files_in_their_authors_layout(sets):
    path = stead_file(sets / "deep" / "chunk2.hdf5")
    for source, name in ((path, "chunk2"), (sets / "deep", "chunk2"), (sets, "deep/chunk2")):
        records = open_records(source)
        chosen = records.select(records.metadata["station_code"] == "CCC")
        assert chosen.metadata["dataset"].tolist() == [name] * 5 and [w.data[0, 0] for w in chosen] == [0, 1, 2, 3, 4]
        assert chosen.metadata["source_id"].tolist() == [f"s{i}" for i in range(5)]
    assert len(open_records(sets)) == 7 + 5
    alone = stead_file(sets / "alone" / "waveforms_11_13_19.hdf5")  # SeisBench's name, the authors' layout
    alone.with_suffix(".csv").rename(alone.parent / "metadata_11_13_19.csv")
    records = open_records(alone.parent)
    assert records.metadata["dataset"].tolist() == ["alone"] * 5 and records[1].data[0, 0] == 1
    assert len(open_records(sets / "one" / "waveforms.hdf5")) == 4


def test_one_bad_record_does_not_stop_the_rest(sets):
    path = stead_file(sets / "own.hdf5")
    with h5py.File(path, "a") as file:
        name = list(file["data"])[2]
        del file[f"data/{name}"]
    day("AAA", hours=0.1).write(str(sets / "a.mseed"), format="MSEED")
    records = open_records([path, sets / "one", sets / "a.mseed"])
    order = [9, 0, 2, 5, 1, 6, 2]
    got = list(records.several(order))
    assert [isinstance(w, SeislatentError) for w in got] == [False, False, True, False, False, False, True]
    for i, one in zip(order, got, strict=True):
        if i != 2:
            assert np.array_equal(one.data, records[i].data) and one.metadata == records[i].metadata
    assert list(records.several([])) == [] and got[3].metadata["split"] == "dev"


def test_an_excerpt_for_another_process_is_small(sets):
    write_seisbench(sets / "large", [event(i % 9, "DDD", source_id=f"d{i}") for i in range(2000)], block=100)
    path = stead_file(sets / "own.hdf5", 100)
    day("AAA", hours=0.1).write(str(sets / "a.mseed"), format="MSEED")
    records = open_records([sets / "large", path, sets / "a.mseed", sets / "one"])
    rows = [2050, 3, 2100, 1999, 2103, 2001]
    few = pickle.loads(pickle.dumps(records.excerpt(rows)))
    assert len(pickle.dumps(records.excerpt(rows))) < len(pickle.dumps(records)) / 20
    assert few.metadata["trace_name"].tolist() == records.metadata["trace_name"].iloc[rows].tolist()
    for one, i in zip(few.several(range(len(rows))), rows, strict=True):
        assert np.array_equal(one.data, records[i].data) and one.metadata == records[i].metadata
    gathered = open_records(sets / "a.mseed", components="Z").excerpt([0])
    assert gathered[0].data.shape == (1, 720)


def test_a_folder_of_files_may_be_called_shards(tmp_path):
    (tmp_path / "shards" / "one").mkdir(parents=True)
    day("AAA", hours=0.1).write(str(tmp_path / "shards" / "one" / "a.mseed"), format="MSEED")
    assert len(open_records(tmp_path)) == 1


def test_a_record_store(tmp_path):
    with ShardWriter(tmp_path / "deep" / "set", 0) as writer:
        for i in range(3):
            writer.add(Made(record=event(i, source_id=f"q{i}")))
    with pytest.raises(SeislatentError, match="not finished"):
        open_records(tmp_path)
    finish(tmp_path / "deep" / "set", {"recipe": "none"})
    assert is_store(tmp_path / "deep" / "set")
    for source in (tmp_path, tmp_path / "deep" / "set"):
        records = open_records(source)
        assert [w.data[0, 0] for w in records] == [0, 1, 2] and set(records.metadata["source_id"]) == {"q0", "q1", "q2"}


KNET = """Origin Time       1996/08/11 03:12:00
Lat.              38.92
Long.             140.63
Depth. (km)       7
Mag.              5.9
Station Code      {station}
Station Lat.      39.6069
Station Long.     140.3213
Station Height(m) 34
Record Time       1996/08/11 03:12:39
Sampling Freq(Hz) 100Hz
Duration Time(s)  1
Dir.              {direction}
Scale Factor      2000(gal)/8388608
Max. Acc. (gal)   1.0
Last Correction   1996/08/11 03:12:39
Memo.
"""


def knet(folder, station, directions):
    """Files of one channel each, whose samples are 0, 1000, 2000, ... times 1, 2, 3."""
    for k, direction in enumerate(directions, 1):
        lines = [" ".join(f"{1000 * k * i:8d}" for i in range(a, a + 8)) for a in range(0, 96, 8)]
        text = KNET.format(station=station, direction=direction) + "\n".join(lines) + "\n"
        (folder / f"{station}.{direction}").write_text(text)


def test_national_files_become_records_of_a_station(tmp_path):
    knet(tmp_path, "AKT013", ["E-W", "N-S", "U-D"])
    knet(tmp_path, "AKT014", ["E-W", "N-S"])
    assert len(open_records(tmp_path)) == 5 and open_records(tmp_path)[0].unit == "counts"
    records = open_records(tmp_path, components="ZNE", physical=True)
    assert len(records) == 2 and records.metadata["station_code"].tolist() == ["AKT013", "AKT014"]
    whole, broken = records.several([0, 1])
    assert whole.components == ("Z", "N", "E") and whole.unit == "m/s^2" and "calib" not in whole.metadata
    expected = 0.01 * 2000 / 8388608 * 1000 * np.arange(96) * np.array([[3], [2], [1]])
    assert np.allclose(whole.data, expected, rtol=1e-12) and "scale (2.38418579e-06 to m/s^2" in whole.history[0]
    assert whole.metadata["source_magnitude"] == 5.9 and whole.metadata["trace_name"] == records.metadata["trace_name"][0]
    assert records.metadata["trace_npts"][0] == 96 and records.metadata["start_ns"][0] == whole.start_ns
    assert isinstance(broken, Unfit) and broken.reason == "missing component"
    (east,) = open_records(tmp_path / "AKT013.E-W", physical=True)
    assert east.unit == "m/s^2" and east.components == ("E",)


def test_days_of_a_station_are_gathered_hour_by_hour(tmp_path):
    for code, start in (("BHZ", "00:20:00.003"), ("BHN", "00:20:00"), ("BHE", "00:20:10"), ("LHZ", "00:20:00")):
        Stream([day("AAA", code, start=f"2020-01-01T{start}")]).write(str(tmp_path / f"{code}.mseed"), format="MSEED")
    gap = day("BBB", "BHZ", hours=0.1), day("BBB", "BHZ", hours=0.1, start="2020-01-01T00:27:00")
    Stream([*gap, day("BBB", "BHN", hours=0.3), day("BBB", "BHE", hours=0.3)]).write(str(tmp_path / "b.mseed"), format="MSEED")
    records = open_records(tmp_path, components="ZNE")
    table = records.metadata
    mine = table["station_code"] == "AAA"
    assert table["trace_channel"].value_counts().to_dict() == {"BH": 5, "LH": 4}
    got = list(records.select(mine & (table["trace_channel"] == "BH")).several(range(4)))
    assert [w.components for w in got] == [("Z", "N", "E")] * 4
    total = round(3.5 * 7200) - 20
    assert total - 4 <= sum(w.data.shape[1] for w in got) <= total + 4 and got[1].data.dtype == np.int32
    assert got[1].data[0, 0] == 40 * 120 and "grid of Z" in got[0].history[-1]
    (other,) = records.select(table["station_code"] == "BBB")
    assert other.data.dtype == np.float64 and np.isnan(other.data[0]).sum() == 2 * 60 and not np.isnan(other.data[1:]).any()
    assert all(isinstance(w, Unfit) for w in records.select(table["trace_channel"] == "LH").several(range(4)))


def test_all_development_sets():
    folder = os.environ.get("SEISLATENT_RECORDS")
    if not folder:
        pytest.skip("SEISLATENT_RECORDS is not set")
    records = open_records(folder)
    table = records.metadata
    assert table["dataset"].nunique() == 12 and len(records) == 4799
    result = table.assign(split=split_by_event(table, seed=0))
    assert set(result["split"]) == {"train", "dev", "test"}
    assert leaks(result.assign(split=result["split"].where(table["split"].isna()))).empty
    noise = open_records(Path(folder) / "continuous")
    assert len(noise) > 12 * 24 and noise[0].data.shape[0] == 1
    gathered = open_records(Path(folder) / "continuous", components="ZNE")
    found = list(gathered.several(range(0, len(gathered), 9)))
    assert len(gathered) > 150 and all(w.data.dtype == np.int32 and w.components == ("Z", "N", "E") for w in found)


def test_genuine_stead_records_in_their_own_layout(tmp_path):
    folder = Path(os.environ.get("SEISLATENT_RECORDS", "/nonexistent")) / "stead_sample50"
    if not folder.is_dir():
        pytest.skip("SEISLATENT_RECORDS names no folder with stead_sample50")
    records = open_records(folder)
    back = open_records(write_native(tmp_path / "chunk2.hdf5", records))
    times = {"dataset", "trace_start_time"}  # the time is the same, written to the nanosecond
    for a, b in zip(records, back, strict=True):
        assert np.array_equal(a.data, b.data) and (a.channels, a.start_ns, a.unit) == (b.channels, b.start_ns, b.unit)
        assert {k: v for k, v in a.metadata.items() if k not in times} == {k: b.metadata[k] for k in a.metadata if k not in times}
