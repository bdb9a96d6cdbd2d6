"""STEAD's and LEN-DB's layouts there and back, files as their authors make them, and hostile ones."""

import multiprocessing
import os
import pickle
import threading

import h5py
import numpy as np
import pandas as pd
import pytest

from seislatent.components import arrange
from seislatent.errors import SeislatentError
from seislatent.io.native_hdf5 import LAYOUTS, NativeFile, layout_of, write_native
from seislatent.waveform import Channel, Waveform

LEVELS = {"loud": 2e9, "quiet": 3.0, "silent": 0.0}


def record(i=0, *, n=200, codes=("HHZ", "HHN", "HHE"), dtype=np.float32, level=1000.0, **changes):
    channels = tuple(
        Channel(network="NA", station=f"{i % 3:04d}LONG", code=c, component=c[-1], latitude_deg=1.0 + i % 3, longitude_deg=2.0,
                elevation_m=3.0, azimuth_deg=a, dip_deg=d)
        for c, a, d in zip(codes, (0.0, 10.0, 100.0), (-90.0, 0.0, 0.0), strict=True)
    )  # fmt: skip
    data = np.random.default_rng(i).uniform(-1, 1, (3, n)) * level
    metadata = {"source_id": f"00{i // 2}", "source_magnitude": 2.5 + i, "source_depth_km": 7.25, "path_ep_distance_km": 12.5,
                "trace_p_arrival_sample": 40.0, "trace_category": "noise" if i % 4 == 3 else "earthquake",
                "split": "dev"}  # fmt: skip
    values = {"data": data.astype(dtype), "sampling_rate_hz": 50.0, "channels": channels, "unit": "m/s", "metadata": metadata,
              "start_ns": -1_234_567_890_123_456_789 + i, "history": ("cut 1, 2", "filtered")}  # fmt: skip
    return Waveform(**values | changes)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
@pytest.mark.parametrize("options", [
    {}, {"by_class": True}, {"compression": "gzip"}, {"layout": "lendb"}, {"layout": "lendb", "compression": "gzip"},
], ids=str)  # fmt: skip
def test_there_and_back(tmp_path, level, dtype, options):
    records = [record(i, n=200 + i, dtype=dtype, level=LEVELS[level]) for i in range(6)]
    records.append(record(8, codes=("HH1", "HHZ", "HH2"), dtype=dtype, level=LEVELS[level]))
    path = write_native(tmp_path / "set.hdf5", iter(records), **options)
    assert layout_of(path) == options.get("layout", "stead")
    back = {w.metadata["trace_name"]: w for w in NativeFile(path)}
    assert len(back) == 7 == len(NativeFile(path))
    for a in records:
        b = next(w for w in back.values() if w.start_ns == a.start_ns)
        a = arrange(a, "ZNE" if "N" in a.components else "Z12")
        assert np.array_equal(a.data, b.data) and a.data.dtype == b.data.dtype and b.data.flags.c_contiguous
        assert (a.channels, a.sampling_rate_hz, a.unit, a.history) == (b.channels, b.sampling_rate_hz, b.unit, b.history)
        told = {k: v for k, v in b.metadata.items() if k in a.metadata}
        assert told.keys() == a.metadata.keys() and all(v == pytest.approx(a.metadata[k]) for k, v in told.items())


def stead(path, rows, *, group="data", shape=(600, 3), table=True, dtype="f4"):
    """A file as STEAD's authors make it: column 0 is E, and a table in their spelling."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for i, row in enumerate(rows):
            array = np.arange(np.prod(shape)).reshape(shape).astype(dtype) + i
            held = file.create_dataset(f"{row.get('group', group)}/{row['trace_name']}", data=array)
            if not table:
                held.attrs.update({k: v for k, v in row.items() if k not in ("trace_name", "group")})
    if table:
        pd.DataFrame(rows).drop(columns="group", errors="ignore").to_csv(path.with_suffix(".csv"), index=False)
    return path


EVENT = {"network_code": "TA", "receiver_code": "109C", "receiver_type": "BH", "receiver_latitude": 32.8889,
         "receiver_longitude": -117.1051, "receiver_elevation_m": 150.0, "p_arrival_sample": 70.0, "s_arrival_sample": 189.0,
         "source_id": "8556349", "source_magnitude": 3.6, "coda_end_sample": "[[2896.]]", "snr_db": "[56.8 55.4 47.4]",
         "trace_start_time": "2006-07-23 15:59:00.960000", "trace_category": "earthquake_local"}  # fmt: skip
NOISE = {"network_code": "TA", "receiver_code": "109C", "receiver_type": "BH", "trace_start_time": "2006-07-24 15:59:00",
         "trace_category": "noise"}  # fmt: skip


@pytest.mark.parametrize("group", ["data", "earthquake/local", "some/other/tree"])
@pytest.mark.parametrize("table", [True, False])
def test_a_chunk_of_stead(tmp_path, group, table):
    path = stead(tmp_path / "chunk2.hdf5", [EVENT | {"trace_name": "109C.TA_20060723155859_EV"}], group=group, table=table)
    one = NativeFile(path)[0]
    expected = np.arange(1800).reshape(600, 3).T[::-1]
    assert one.ids == ("TA.109C..BHZ", "TA.109C..BHN", "TA.109C..BHE") and np.array_equal(one.data, expected)
    assert one.unit == "counts" and one.sampling_rate_hz == 100 and one.channels[0].latitude_deg == 32.8889
    assert np.datetime64(one.start_ns, "ns") == np.datetime64("2006-07-23T15:59:00.96")
    told = {"trace_p_arrival_sample": 70, "trace_s_arrival_sample": 189, "source_id": "8556349", "source_magnitude": 3.6,
            "trace_coda_end_sample": 2896}  # fmt: skip
    assert {k: one.metadata[k] for k in told} == told


def test_the_group_of_a_category_and_names_alone(tmp_path):
    rows = [EVENT | {"trace_name": "109C.TA_20060723155859_EV", "group": "earthquake/local"},
            NOISE | {"trace_name": "109C.TA_20060724155900_NO", "group": "non_earthquake/noise"}]  # fmt: skip
    path = stead(tmp_path / "waveforms_1.hdf5", rows)
    path.with_suffix(".csv").rename(tmp_path / "metadata_1.csv")
    first, second = NativeFile(path)
    assert (first.data[2, 0], second.data[2, 0]) == (0, 1)
    (tmp_path / "metadata_1.csv").unlink()
    bare = NativeFile(path, attributes=False)
    assert bare.metadata["trace_category"].tolist() == ["earthquake_local", "noise"]
    assert [w.ids[0] for w in bare] == ["TA.109C..Z", "TA.109C..Z"] and bare[1].data[2, 0] == 1
    assert np.datetime64(bare[0].start_ns, "ns") == np.datetime64("2006-07-23T15:58:59")  # as the name says, to the second


def test_lendb_as_published(tmp_path):
    path = tmp_path / "LEN-DB.hdf5"
    with h5py.File(path, "w") as file:
        quake = file.create_dataset("EQ/XX_AAA_1", data=np.arange(1620, dtype="f4").reshape(3, 540))
        quake.attrs.update({"starttime": 1.5e9 + 0.25, "otime": "2017-07-14T02:39:50", "mag": 2.5, "evla": 1.0, "evlo": 2.0,
                            "evdp": 10000.0, "stla": 3.0, "stlo": 4.0, "stel": 5.0, "dist": 12500.0, "az": 10.0,
                            "baz": 190.0})  # fmt: skip
        noise = file.create_dataset("AN/XX_BBB_2", data=np.zeros((540, 3), "f4"))
        noise.attrs.update({"starttime": -1.5, "stla": 3.0, "stlo": 4.0, "stel": 5.0})
    quake, noise = NativeFile(path)
    assert quake.data.shape == noise.data.shape == (3, 540) and quake.data[0, 1] == 1 and quake.components == ("Z", "N", "E")
    assert quake.start_ns == 1_500_000_000_250_000_000 and noise.start_ns == -1_500_000_000 and quake.sampling_rate_hz == 20
    assert quake.metadata["source_depth_km"] == 10 and quake.metadata["path_ep_distance_km"] == 12.5
    assert quake.metadata["trace_category"] == "earthquake" and noise.metadata["trace_category"] == "noise"
    assert quake.unit is None and NativeFile(path, unit="m/s")[0].unit == "m/s"
    assert [w.channels[0].station for w in (quake, noise)] == ["AAA", "BBB"] and noise.channels[0].latitude_deg == 3


def test_a_table_written_once_tells_the_same(tmp_path):
    path = write_native(tmp_path / "set.hdf5", (record(i) for i in range(6)), layout="lendb")
    before = NativeFile(path)
    before.metadata.to_csv(path.with_suffix(".csv"), index=False)
    after = NativeFile(path)
    for a, b in zip(before, after, strict=True):
        assert np.array_equal(a.data, b.data) and a.channels == b.channels and a.start_ns == b.start_ns and a.history == b.history
        assert {k for k, v in a.metadata.items() if v != ""} <= b.metadata.keys()
        assert b.metadata["source_depth_km"] == pytest.approx(7.25)  # metres become kilometres once


def test_opening_with_a_table_touches_no_array(tmp_path):
    path = stead(tmp_path / "set.hdf5", [EVENT | {"trace_name": "a_20060723155859_EV"}])
    table = pd.read_csv(path.with_suffix(".csv"))
    many = pd.concat([table] * 20_000, ignore_index=True)
    many["trace_name"] = [f"a{i}_20060723155859_EV" for i in range(20_000)]
    many.to_csv(path.with_suffix(".csv"), index=False)
    assert len(NativeFile(path)) == 20_000  # none of these arrays is there
    with pytest.raises(SeislatentError, match=r"no array of numbers data/a7_2006"):
        NativeFile(path)[7]


def test_one_bad_record_does_not_stop_the_rest(tmp_path):
    rows = [EVENT | {"trace_name": f"{i}_20060723155859_EV"} for i in range(80)]
    path = stead(tmp_path / "set.hdf5", rows)
    with h5py.File(path, "a") as file:
        del file["data/3_20060723155859_EV"]
        del file["data/5_20060723155859_EV"]
        file["data/5_20060723155859_EV"] = np.zeros((600, 4))
    records = NativeFile(path)
    got = list(records.several([5, 3, *range(6, 80), 0, 0]))
    assert [isinstance(w, SeislatentError) for w in got] == [True, True] + [False] * 76
    assert [w.data[2, 0] for w in got[2:]] == [*range(6, 80), 0, 0] and "no axis of 3 components" in str(got[0])
    with pytest.raises(SeislatentError, match="no array"):
        records.read_many([0, 3])
    assert len(records.read_many([0, 1])) == 2 and len(records[70:78]) == 8 and records[-1].data[2, 0] == 79
    with pytest.raises(IndexError):
        records[80]


def test_records_that_are_kept_do_not_change(tmp_path):
    path = write_native(tmp_path / "set.hdf5", (record(i) for i in range(50)))
    file = NativeFile(path)
    kept = file.read_many(range(50))
    before = [w.data.copy() for w in kept]
    file.read_many(range(49, -1, -1))
    assert all(np.array_equal(a, b.data) for a, b in zip(before, kept, strict=True))


def hostile(path, make):
    (path.parent / "secret").write_bytes(b"s" * 7200)
    with h5py.File(path.parent / "other.hdf5", "w") as file:
        file["data/a"] = np.ones((600, 3))
    with h5py.File(path, "w") as file:
        make(file, path.parent)
    pd.DataFrame({"trace_name": ["a"]}).to_csv(path.with_suffix(".csv"), index=False)
    return path


def virtual(file, folder):
    layout = h5py.VirtualLayout((600, 3), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.hdf5"), "data/a", (600, 3))
    file.create_virtual_dataset("data/a", layout)


def linked(file, link):
    file.create_group("data")["a"] = link


def linked_group(file, folder):
    file["data"] = h5py.ExternalLink(str(folder / "other.hdf5"), "data")


HOSTILE = {
    "raw": (lambda f, d: f.create_dataset("data/a", (600, 3), "f4", external=[(str(d / "secret"), 0, 7200)]), "another file"),
    "virtual": (virtual, "another file"),
    "external link": (lambda f, d: linked(f, h5py.ExternalLink(str(d / "other.hdf5"), "data/a")), "link"),
    "soft link": (lambda f, d: linked(f, h5py.SoftLink("/elsewhere/b")), "link"),
    "linked group": (linked_group, "link"),
    "absurd": (lambda f, d: f.create_dataset("data/a", (10**12, 3), "f4", chunks=(1000, 3)), "claims"),
    "objects": (lambda f, d: f.create_dataset("data/a", (600, 3), h5py.vlen_dtype("f4")), "no array of numbers"),
    "texts": (lambda f, d: f.create_dataset("data/a", (600, 3), h5py.string_dtype()), "no array of numbers"),
    "references": (lambda f, d: f.create_dataset("data/a", (600, 3), h5py.ref_dtype), "no array of numbers"),
    "complex": (lambda f, d: f.create_dataset("data/a", (600, 3), "c16"), "no array of numbers"),
    "unsigned": (lambda f, d: f.create_dataset("data/a", (600, 3), "u8"), "unsigned"),
    "a number": (lambda f, d: f.create_dataset("data/a", data=1.0), "no array of numbers"),
    "a group": (lambda f, d: f.create_group("data/a"), "cannot be opened as an array"),
    "nothing": (lambda f, d: f.create_dataset("data/a", data=h5py.Empty("f4")), "no array of numbers"),
    "a line": (lambda f, d: f.create_dataset("data/a", (600,), "f4"), "1 axes"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_leads_elsewhere_or_is_no_array_is_refused(tmp_path, name):
    make, line = HOSTILE[name]
    with pytest.raises(SeislatentError, match=line) as error:
        NativeFile(hostile(tmp_path / "set.hdf5", make))[0]
    assert "\n" not in str(error.value)


def test_an_external_link_is_never_followed(tmp_path):
    """A link to a pipe that nobody writes would hold the reader for ever."""
    os.mkfifo(tmp_path / "pipe")
    path = hostile(tmp_path / "set.hdf5", lambda f, d: linked(f, h5py.ExternalLink(str(d / "pipe"), "x")))
    told = []
    thread = threading.Thread(target=lambda: told.extend(NativeFile(path).several([0])), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive() and "link" in str(told[0])


def test_a_tree_that_holds_itself_and_files_that_are_none(tmp_path):
    with h5py.File(tmp_path / "loop.hdf5", "w") as file:
        file["x/y"] = file.create_group("z")
        file["z/x"] = file["x"]
    with pytest.raises(SeislatentError, match="no arrays in groups"):
        NativeFile(tmp_path / "loop.hdf5")
    (tmp_path / "no.hdf5").write_bytes(b"nothing")
    for path, line in ((tmp_path / "no.hdf5", "cannot be opened as HDF5"), (tmp_path / "absent.hdf5", "does not exist")):
        with pytest.raises(SeislatentError, match=line):
            NativeFile(path)
    with pytest.raises(SeislatentError, match="did you mean 'stead'"):
        NativeFile(write_native(tmp_path / "a.hdf5", [record()]), layout="staed")


def test_attributes_that_make_no_sense_are_left_out(tmp_path):
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        held = file.create_dataset("data/a_20060723155859_EV", data=np.zeros((600, 3), "f4"))
        held.attrs["huge"] = np.zeros(8000)
        held.attrs["pointer"] = held.ref
        held.attrs["nothing"] = h5py.Empty("f4")
        held.attrs["p_arrival_sample"] = b"70"
        held.attrs["trace_name"] = "another"
    (one,) = NativeFile(tmp_path / "set.hdf5")
    assert one.metadata["trace_p_arrival_sample"] == 70 and one.metadata["trace_name"] == "a_20060723155859_EV"
    assert not one.metadata.keys() & {"huge", "pointer"}


def test_damaged_files_give_lines_and_no_other_error(tmp_path):
    whole = stead(tmp_path / "whole.hdf5", [EVENT | {"trace_name": f"{i}_20060723155859_EV"} for i in range(20)]).read_bytes()
    told = 0
    for seed in range(60):
        rng, damaged = np.random.default_rng(seed), bytearray(whole)
        for at in rng.integers(len(whole) if seed % 3 else 8000, size=60):
            damaged[at] = rng.integers(256)
        if seed % 10 == 9:
            del damaged[rng.integers(len(whole)) :]
        path = tmp_path / f"{seed}.hdf5"
        path.write_bytes(damaged)
        if seed % 2:
            path.with_suffix(".csv").write_bytes((tmp_path / "whole.csv").read_bytes())
        try:
            told += sum(isinstance(w, SeislatentError) for w in NativeFile(path).several([0, 1, 2]))
        except SeislatentError as error:
            told += 1
            assert "\n" not in str(error)
    assert told > 20


def test_times_that_are_none(tmp_path):
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        for name, time in {"a": 1e300, "b": "9999-99-99", "c": -1.5, "d": "2020-01-01"}.items():
            file.create_dataset(f"EQ/{name}", data=np.zeros((3, 5), "f4")).attrs["starttime"] = time
    starts = NativeFile(tmp_path / "set.hdf5").metadata["start_ns"]
    assert starts.isna().tolist() == [True, True, False, False] and starts[2] == -1_500_000_000


def test_nothing_half_written_stays_and_nothing_is_replaced(tmp_path):
    def broken():
        yield record()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_native(tmp_path / "set.hdf5", broken())
    with pytest.raises(SeislatentError, match="no record"):
        write_native(tmp_path / "set.hdf5", [])
    with pytest.raises(SeislatentError, match="holds Z, N and E"):
        write_native(tmp_path / "set.hdf5", [record().select([0, 1])])
    assert not list(tmp_path.iterdir())
    write_native(tmp_path / "set.hdf5", [record(), record()])
    assert len(set(NativeFile(tmp_path / "set.hdf5").metadata["trace_name"])) == 2
    with pytest.raises(SeislatentError, match="exists"):
        write_native(tmp_path / "set.hdf5", [record()])
    write_native(tmp_path / "set.hdf5", [record()], overwrite=True)
    assert len(NativeFile(tmp_path / "set.hdf5")) == 1 and sorted(LAYOUTS) == ["lendb", "stead"]


def _peak(job):
    records, i = job
    return float(np.abs(records[i].data).max())


def test_several_processes_read_one_file(tmp_path):
    records = NativeFile(write_native(tmp_path / "set.hdf5", (record(i) for i in range(8))))
    expected = [_peak((records, i)) for i in range(8)]  # the file is open here before the others start
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_peak, [(records, i) for i in range(8)]) == expected
    assert len(pickle.loads(pickle.dumps(records))) == 8
