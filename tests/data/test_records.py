"""Records of any source as one sequence."""

import multiprocessing
import os
from pathlib import Path

import h5py
import numpy as np
import obspy
import pandas as pd
import pytest
from obspy import Stream, Trace, UTCDateTime

from seislatent.data.records import COLUMNS, open_records
from seislatent.data.splits import leaks, split_by_event
from seislatent.errors import SeislatentError
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
