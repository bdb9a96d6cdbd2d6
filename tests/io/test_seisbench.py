"""SeisBench's layout there and back, and every development set in it."""

import multiprocessing
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from seislatent.errors import SeislatentError
from seislatent.io.seisbench import SeisBenchFile, is_seisbench, write_seisbench
from seislatent.waveform import Channel, Waveform


def record(i=0, *, n=200, codes=("HHZ", "HHN", "HHE"), dtype=np.float32, level=1000.0, **changes):
    channels = tuple(
        Channel(network="NA", station=f"{i:04d}LONG", location="00", code=c, component=c[-1], latitude_deg=1.0 + i,
                longitude_deg=2.0, elevation_m=3.0, azimuth_deg=a, dip_deg=d)
        for c, a, d in zip(codes, (0.0, 10.0, 100.0), (-90.0, 0.0, 0.0), strict=False)
    )  # fmt: skip
    data = np.random.default_rng(i).normal(size=(len(codes), n)) * level
    values = {
        "data": data.astype(dtype), "sampling_rate_hz": 50.0, "channels": channels, "unit": "m/s",
        "start_ns": -1_234_567_890_123_456_789 + i,
        "metadata": {"source_id": f"00{i // 2}", "source_magnitude": 2.5 + i, "split": "dev"}, "history": ("cut 1, 2", "filtered"),
    } | changes  # fmt: skip
    return Waveform(**values)


@pytest.mark.parametrize("level", [2e6, 1.0, 1e-12, 0.0], ids=["loud", "quiet", "small", "silent"])
@pytest.mark.parametrize("block", [0, 3])
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_there_and_back(tmp_path, block, dtype, level):
    records = [record(i, n=200 + i, dtype=dtype, level=level) for i in range(7)]
    records.append(record(9, codes=("HHZ",), dtype=dtype, level=level))
    folder = write_seisbench(tmp_path / "set", iter(records), block=block)
    assert is_seisbench(folder) and sorted(p.name for p in folder.iterdir()) == ["metadata.csv", "waveforms.hdf5"]
    back = SeisBenchFile(folder)
    assert len(back) == 8
    for a, b in zip(records, back, strict=True):
        assert np.array_equal(a.data, b.data) and a.data.dtype == b.data.dtype and a.channels == b.channels
        assert (a.start_ns, a.sampling_rate_hz, a.unit, a.history) == (b.start_ns, b.sampling_rate_hz, b.unit, b.history)
        assert (
            b.metadata["source_id"] == a.metadata["source_id"] and b.metadata["source_magnitude"] == a.metadata["source_magnitude"]
        )
    again = SeisBenchFile(write_seisbench(tmp_path / "again", back))
    assert all(np.array_equal(a.data, b.data) and a.channels == b.channels for a, b in zip(records, again, strict=True))
    assert back[-1].ids == records[-1].ids and len(back[2:5]) == 3
    with pytest.raises(IndexError):
        back[8]
    with pytest.raises(SeislatentError, match="exists"):
        write_seisbench(folder, records)
    assert len(SeisBenchFile(write_seisbench(folder, records[:2], overwrite=True))) == 2


def test_nothing_half_written_stays(tmp_path):
    def broken():
        yield record()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_seisbench(tmp_path / "set", broken())
    assert not list((tmp_path / "set").iterdir())
    with pytest.raises(SeislatentError, match="no record"):
        write_seisbench(tmp_path / "set", [])
    mixed = record(channels=(Channel(station="A"), Channel(station="B"), Channel(station="B")))
    with pytest.raises(SeislatentError, match="several stations"):
        write_seisbench(tmp_path / "set", [mixed])


def hand_made(folder: Path, table: dict, arrays: dict, **about):
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_csv(folder / "metadata.csv", index=False)
    with h5py.File(folder / "waveforms.hdf5", "w") as file:
        for name, array in arrays.items():
            file[f"data/{name}"] = array
        for name, value in about.items():
            file[f"data_format/{name}"] = value
    return folder


def test_blocks_as_seisbench_writes_them(tmp_path):
    block = np.arange(2 * 3 * 10).reshape(2, 3, 10).astype(float)
    names = ["bucket0$0,:3,:10", "bucket0$1,:3,:7", "bucket0$-1,0:2,2:5"]
    folder = hand_made(
        tmp_path / "a", {"trace_name": names}, {"bucket0": block}, component_order="ZNE", sampling_rate=20, unit="counts"
    )
    back = SeisBenchFile(folder)
    assert np.array_equal(back[0].data, block[0]) and np.array_equal(back[1].data, block[1, :, :7])
    assert np.array_equal(back[2].data, block[1, :2, 2:5])
    assert back[0].components == ("Z", "N", "E") and back[0].unit == "counts" and back[0].sampling_rate_hz == 20


def test_other_orders_and_names(tmp_path):
    data = np.arange(12.0).reshape(4, 3)
    table = {"trace_name": ["r"], "trace_dt_s": [0.01], "receiver_code": ["0012"], "network_code": ["NA"], "receiver_type": ["BH"],
             "trace_start_time": ["2007/01/01 01:42:45.08"], "p_arrival_sample": [3]}  # fmt: skip
    folder = hand_made(tmp_path / "a", table, {"r": data}, component_order="N-S,E-W,U-D", dimension_order="WC", unit="gal")
    (one,) = SeisBenchFile(folder)
    assert one.ids == ("NA.0012..BHN", "NA.0012..BHE", "NA.0012..BHZ") and np.array_equal(one.data, data.T)
    assert one.sampling_rate_hz == 100 and one.unit == "cm/s^2" and one.metadata["trace_p_arrival_sample"] == 3
    assert np.datetime64(one.start_ns, "ns") == np.datetime64("2007-01-01T01:42:45.08")


def test_chunks_listed_and_found(tmp_path):
    for name in ("_a", "_b"):
        write_seisbench(tmp_path / name, [record(ord(name[1]))])
        for file in ("waveforms.hdf5", "metadata.csv"):
            source = tmp_path / name / file
            source.rename(tmp_path / (source.stem + name + source.suffix))
    assert len(SeisBenchFile(tmp_path)) == 2
    (tmp_path / "chunks").write_text("b\na\n")
    assert [w.channels[0].station for w in SeisBenchFile(tmp_path)] == ["0098LONG", "0097LONG"]


def test_bad_folders_are_refused_in_one_line(tmp_path):
    with pytest.raises(SeislatentError, match="no folder"):
        SeisBenchFile(tmp_path / "absent")
    with pytest.raises(SeislatentError, match=r"no waveforms\.hdf5"):
        SeisBenchFile(tmp_path)
    folder = hand_made(tmp_path / "a", {"trace_name": ["x"]}, {"y": np.zeros((3, 4))})
    with pytest.raises(SeislatentError, match="no sampling rate"):
        SeisBenchFile(folder)
    folder = hand_made(tmp_path / "b", {"trace_name": ["x", "y$z,:3"]}, {"y": np.zeros((3, 4))}, sampling_rate=1)
    for i, word in [(0, "no array"), (1, "no part of a block")]:
        with pytest.raises(SeislatentError, match=word):
            SeisBenchFile(folder)[i]
    (folder / "waveforms.hdf5").write_bytes(b"not HDF5")
    with pytest.raises(SeislatentError, match="HDF5"):
        SeisBenchFile(folder)


def test_samples_kept_in_another_file_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"s" * 64)
    folder = hand_made(tmp_path / "a", {"trace_name": ["x"]}, {"y": np.zeros((1, 4))}, sampling_rate=1)
    with h5py.File(folder / "waveforms.hdf5", "a") as file:
        file["data"].create_dataset("x", shape=(1, 64), dtype="i1", external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(SeislatentError, match="another file"):
        SeisBenchFile(folder)[0]


def test_samples_linked_or_composed_from_another_file_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["s"] = np.ones((3, 9))
    folder = hand_made(tmp_path / "a", {"trace_name": ["linked", "composed"]}, {"y": np.zeros((1, 4))}, sampling_rate=1)
    with h5py.File(folder / "waveforms.hdf5", "a") as file:
        file["data"]["linked"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "s")
        layout = h5py.VirtualLayout((3, 9), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "s", (3, 9))
        file["data"].create_virtual_dataset("composed", layout)
    for i in (0, 1):
        with pytest.raises(SeislatentError, match="another file"):
            SeisBenchFile(folder)[i]


def test_a_claim_without_samples_and_a_row_without_a_name(tmp_path):
    folder = hand_made(tmp_path / "a", {"trace_name": ["x"]}, {"y": np.zeros((1, 4))}, sampling_rate=1)
    with h5py.File(folder / "waveforms.hdf5", "a") as file:
        file["data"].create_dataset("x", shape=(3, 10**8), dtype="f8", chunks=(3, 1000))
    with pytest.raises(SeislatentError, match="claims"):
        SeisBenchFile(folder)[0]
    folder = hand_made(tmp_path / "b", {"trace_name": ["y", None], "a": [1, 2]}, {"y": np.zeros((1, 4))}, sampling_rate=1)
    with pytest.raises(SeislatentError, match="line 3: no trace_name"):
        SeisBenchFile(folder)


@pytest.mark.parametrize("column, value", [
    ("trace_history", "once upon a time"), ("trace_history", "0.5"), ("trace_azimuths_deg", "[1,2"), ("trace_dips_deg", "{}"),
    ("trace_npts", "many"), ("trace_dips_deg", "[]"),
])  # fmt: skip
def test_cells_that_make_no_sense_are_told(column, value, tmp_path):
    folder = hand_made(tmp_path / "a", {"trace_name": ["y"], column: [value]}, {"y": np.zeros((3, 4))}, sampling_rate=1)
    with pytest.raises(SeislatentError, match="metadata of y cannot be understood"):
        SeisBenchFile(folder)[0]


def test_times_and_counts_that_cannot_be_are_missing(tmp_path):
    from seislatent.data.records import open_records

    table = {"trace_name": ["y", "y"], "trace_start_time": ["-5", "9999-01-01"], "trace_npts": ["inf", "99999999999999999999"]}
    folder = hand_made(tmp_path / "a", table, {"y": np.zeros((3, 4))}, sampling_rate=1)
    found = open_records(folder).metadata
    assert found["start_ns"].isna().all() and found["trace_npts"].isna().all()


@pytest.mark.parametrize("block", [0, 4])
def test_many_at_once_and_a_bad_one_among_them(tmp_path, block):
    folder = write_seisbench(tmp_path / "set", (record(i, n=50 + i % 2) for i in range(300)), block=block)
    table = pd.read_csv(folder / "metadata.csv")
    table.loc[7, "trace_name"] = "absent$0,:3,:50"
    table.to_csv(folder / "metadata.csv", index=False)
    records = SeisBenchFile(folder)
    rows = [299, 7, 3, 7, *range(100)]
    got = list(records.several(rows))
    assert [i for i, w in zip(rows, got, strict=True) if isinstance(w, SeislatentError)] == [7, 7, 7]
    for i, one in zip(rows, got, strict=True):
        assert i == 7 or np.array_equal(one.data, record(i, n=50 + i % 2).data)
    assert len(records.read_many(range(8, 300))) == 292
    with pytest.raises(SeislatentError, match="absent"):
        records.read_many([1, 7])


def test_names_in_groups_and_narrow_numbers(tmp_path):
    arrays = {"event/station": np.arange(12, dtype=np.int16).reshape(3, 4), "wide": np.arange(12, dtype=">i8").reshape(3, 4),
              "half": np.arange(12, dtype=np.float16).reshape(3, 4)}  # fmt: skip
    folder = hand_made(tmp_path / "a", {"trace_name": list(arrays)}, arrays, sampling_rate=1, component_order="ZNE")
    back = list(SeisBenchFile(folder))
    assert [w.data.dtype for w in back] == [np.int32, np.int64, np.float32]
    assert all(np.array_equal(w.data, np.arange(12).reshape(3, 4)) for w in back)


def _peak(job):
    records, i = job
    return float(np.abs(records[i].data).max())


def test_several_processes_read_one_set(tmp_path):
    records = SeisBenchFile(write_seisbench(tmp_path / "set", (record(i) for i in range(8))))
    expected = [_peak((records, i)) for i in range(8)]  # the files are open here before the others start
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_peak, [(records, i) for i in range(8)]) == expected
    assert len(pickle.loads(pickle.dumps(records))) == 8


SETS = {  # components, unit, rate and station of the first record, by set
    "ncedc_phasenet": ("ZNE", None, 100), "ncedc_deepdenoiser": ("ZNE", None, 100), "stead_sample50": ("ZNE", "counts", 100),
    "seisbench_cx_pb01_20hz": ("ZNE", "counts", 20), "teleseismic_P_aimbat": ("Z", None, 40), "gujarat": ("ZNE", "counts", 20),
    "strongmotion_gmprocess": ("Z12", "cm/s^2", 200), "bbp_obs_and_sim": ("NEZ", "cm/s^2", 200),
    "synthetic_specfem3d_refseis": ("Z", "m", None), "telica_gismo_3c": ("ZNE", "counts", 50),
    "iceland_quakemigrate": ("ZNE", "counts", 500), "esec_massmovement_3c": ("ZNE", "counts", 40),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_development_sets_are_readable(name):
    folder = Path(os.environ.get("SEISLATENT_RECORDS", "/nonexistent")) / name
    if not folder.is_dir():
        pytest.skip(f"SEISLATENT_RECORDS names no folder with {name}")
    records = SeisBenchFile(folder)
    components, unit, rate = SETS[name]
    assert "".join(records[0].components) == components and records[0].unit == unit
    assert rate is None or records[0].sampling_rate_hz == rate
    for i in range(0, len(records), max(1, len(records) // 40)):
        one = records[i]
        assert (all(one.components) and all(c.station for c in one.channels)) or name == "teleseismic_P_aimbat"
        assert np.isfinite(one.data).all() and one.data.shape[1] == one.metadata.get("trace_npts", one.data.shape[1])
