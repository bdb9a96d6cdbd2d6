"""Records of a store come back as they were, from any process; what a store says wrongly is refused in one line."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seislatent.data.recipe import Made, Rejected
from seislatent.data.records import open_records
from seislatent.data.shards import ShardWriter, finish
from seislatent.data.store import Store, is_store
from seislatent.data.store_layout import open_table, write_table
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

CODES = ("HHZ", "HHN", "HHE", "HNZ", "HNN", "HNE")


def record(data, number=0, **more):
    """A record of one station; what its table derives is not in its metadata."""
    data = np.asarray(data)
    channels = tuple(Channel(network="KO", station="ABC", location="00", code=c, component=c[-1]) for c in CODES[: len(data)])
    given = {"sampling_rate_hz": 100.0, "channels": channels, "start_ns": 10**18 + number, "unit": "m/s", "history": ("made",)}
    metadata = {"trace_name": f"r{number}", "source_magnitude": 1.5 + number}
    return Waveform(data=data, **(given | {"metadata": metadata} | more))


def made(data, number=0, others=None, **more):
    return Made(record=record(data, number, **more), others=others or {})


def write(folder, shards, about=None, **options):
    for number, records in enumerate(shards):
        with ShardWriter(folder, number) as writer:
            for one in records:
                writer.reject(one) if isinstance(one, Rejected) else writer.add(one)
    finish(folder, about or {"recipe": "test"}, **options)
    return Store(folder)


def simple(folder, count=5, shape=(3, 40), shards=2, **options):
    """A store of `count` records, record i filled by its own random numbers."""
    data = np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)
    records = [made(d, i) for i, d in enumerate(data)]
    return write(folder, [list(part) for part in np.array_split(np.array(records, object), shards)], **options), data


def same(a, b):
    assert a.data.dtype == b.data.dtype and a.data.shape == b.data.shape and a.data.tobytes() == b.data.tobytes()
    for name in ("sampling_rate_hz", "channels", "start_ns", "unit", "history", "metadata"):
        assert getattr(a, name) == getattr(b, name), name
    assert {k: type(v) for k, v in a.metadata.items()} == {k: type(v) for k, v in b.metadata.items()}


ODD = [
    record(np.random.default_rng(1).normal(size=(3, 50)).astype(np.float32)),
    record(np.random.default_rng(1).normal(size=(3, 31)) * 1e-3, 1),
    record(np.full((1, 7), 1e-6, np.float32), 2, start_ns=-(10**18) - 1, history=()),
    record(np.zeros((2, 1)), 3, start_ns=0, unit=None),
    record(np.array([[-(2**31), 2**31 - 1, 0]] * 6, np.int32), 4, start_ns=-1, sampling_rate_hz=99.9987),
    record(np.array([[np.nan, np.inf, -0.0, 5e-324]]), 5, start_ns=2**63 - 1, history=("größer", 'a "b"\n')),
    record(np.array([[2**62, -5]], np.int64), 6, start_ns=-(2**63) + 1),
    record(np.array([[b"a", b"\xff"]], "S1"), 7, sampling_rate_hz=0, unit=""),
    record(np.ones((2, 3), np.float32), 8, channels=(
        Channel(network="N" * 300, station="S.T/ä", code="B_H_Z", component="Z", latitude_deg=-0.1, longitude_deg=180.0),
        Channel(network="", station="S_2", component="135", elevation_m=1e-9, azimuth_deg=135.0, dip_deg=-90.0))),
    record(np.ones((1, 3), ">i4"), 9, metadata={}),
    record(np.ones((1, 3), np.float32), 10, metadata={
        "trace_name": "../../etc/passwd", "station_code": "XYZ", "source_depth_km": 0.0, "count": 7, "good": True, "text": "",
        "trace_p_arrival_sample": 31.5}),
]  # fmt: skip


def test_what_goes_in_comes_back(tmp_path):
    store = write(tmp_path, [[Made(record=r) for r in ODD[:4]], [], [Made(record=r) for r in ODD[4:]]])
    assert len(store) == len(ODD) and is_store(tmp_path) and store.about == {"recipe": "test"} and store.arrays == ("x",)
    for given, found in zip(ODD, store, strict=True):
        wanted = dict(given.metadata)
        if "station_code" in wanted:
            wanted["station_code"] = "ABC"  # the record says so
        same(replace(given, data=given.data.astype(given.data.dtype.newbyteorder("<")), metadata=wanted), found)
    same(store[-1], store[len(ODD) - 1])
    assert [w.start_ns for w in store[1:4]] == [r.start_ns for r in ODD[1:4]]
    with pytest.raises(IndexError):
        store[len(ODD)]


def test_the_table_has_what_the_record_tells(tmp_path):
    store = write(tmp_path, [[made(np.ones((3, 40), np.float32))], [made(np.ones((1, 4), np.int32), 1, unit=None)]])
    table = store.metadata
    assert table["trace_npts"].tolist() == [40, 4] and table["trace_component_order"].tolist() == ["ZNE", "Z"]
    assert table["trace_start_time"][0] == "2001-09-09T01:46:40.000000000Z" and table["start_ns"].tolist() == [10**18, 10**18 + 1]
    assert table["station_code"].tolist() == ["ABC", "ABC"] and table["trace_channel"].tolist() == ["HH", "HH"]
    assert table["trace_unit"][0] == "m/s" and table["trace_unit"].isna()[1] and table["split"].isna().all()
    assert not [name for name in table if name.startswith("store_")]
    assert store.columns("source_magnitude").to_dict("list") == {"source_magnitude": [1.5, 2.5]}
    with pytest.raises(SeislatentError, match="unknown column 'source_magnitud': did you mean 'source_magnitude'"):
        store.columns("source_magnitud")


@pytest.mark.parametrize(("told", "kept"), [("HHZ", "HHZ"), ("H", "H"), ("BHZ", "HH"), (7, "HH"), ("", "HH"), (None, None)])
def test_the_channel_code_that_the_metadata_tell_is_kept_where_it_is_true(tmp_path, told, kept):
    store = write(tmp_path, [[made(np.ones((1, 4)), metadata={} if told is None else {"trace_channel": told})]])
    assert store[0].metadata.get("trace_channel") == kept and store.metadata["trace_channel"][0] == (kept or "HH")


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="SEISLATENT_RECORDS names no folder with real records")
@pytest.mark.parametrize(("name", "kind"), [("stead_sample50", "<f4"), ("gujarat", "<i4"), ("ncedc_deepdenoiser", "<f4")])
def test_real_records_come_back(tmp_path, name, kind):
    records = open_records(os.path.join(os.environ["SEISLATENT_RECORDS"], name))
    given = [records[i] for i in range(12)]
    store = write(tmp_path, [[Made(record=r) for r in given[:5]], [Made(record=r) for r in given[5:]]])
    for one, found in zip(given, store, strict=True):
        wanted = {k: v for k, v in one.metadata.items() if v is not None and v == v and k != "start_ns"}
        if "trace_start_time" in wanted:
            wanted["trace_start_time"] = one.start_text  # one spelling in the whole table
        assert found.data.dtype == kind
        same(replace(one, metadata=wanted), replace(found, metadata={k: type(wanted[k])(v) for k, v in found.metadata.items()}))


def test_channels_of_different_bands(tmp_path):
    channels = (Channel(code="HHZ", component="Z"), Channel(code="HNZ", component="Z"))
    store = write(tmp_path, [[made(np.ones((2, 4)), channels=channels, metadata={"trace_channel": "H"})]])
    assert store[0].metadata == {"trace_channel": "H"} and store[0].channels == channels


def test_columns_that_differ_from_shard_to_shard(tmp_path):
    given = [
        {"a": 1, "b": "x", "c": True, "big": 2**60, "n": 5, "flag": False},
        {"a": "one", "c": 2, "big": 0.5, "n": 2.5},
        {"d": 1.5, "a": 2.5, "n": None, "b": float("nan"), "flag": True},
    ]
    store = write(tmp_path, [[made(np.ones((1, 3)), metadata=m)] for m in given])
    assert [w.metadata for w in store] == [
        {"a": "1", "b": "x", "c": 1, "big": str(2**60), "n": 5.0, "flag": False},
        {"a": "one", "c": 2, "big": "0.5", "n": 2.5},
        {"a": "2.5", "d": 1.5, "flag": True},
    ]
    table = store.metadata
    assert table["flag"].tolist()[::2] == [False, True] and table["flag"].isna().tolist() == [False, True, False]
    assert str(table["c"].dtype) == "Int64"


def test_reading_windows(tmp_path):
    store, data = simple(tmp_path, count=11, shards=3)
    rows = np.array([7, 0, 10, 3, 3])
    assert np.array_equal(store.read(rows), data[rows])
    assert np.array_equal(store.read(rows, first=5), data[rows][:, :, 5:])
    first = np.array([0, 1, 30, 4, 5])
    wanted = np.stack([data[r][:, a : a + 10] for r, a in zip(rows, first, strict=True)])
    assert np.array_equal(store.read(rows, first=first, length=10), wanted)
    out = np.empty((5, 3, 10), np.float64)
    assert store.read(rows.tolist(), first=first, length=10, out=out) is out and np.array_equal(out, wanted.astype(float))
    assert np.array_equal(store.read(np.arange(11) % 2 == 0), data[::2])
    assert store.read([]).shape == (0, 0, 0)


def test_reading_ragged_records_of_several_types(tmp_path):
    rng = np.random.default_rng(2)
    data = [rng.integers(-99, 99, (2, n)).astype(t) for n, t in [(9, "<i4"), (5, "<f4"), (30, "<f8"), (6, "<i2"), (9, "<i4")]]
    store = write(tmp_path, [[made(d, i) for i, d in enumerate(data)]])
    found = store.read([4, 1, 0, 3], length=5)
    assert found.dtype == np.result_type("<i4", "<f4", "<i2") and np.array_equal(found, [data[i][:, :5] for i in (4, 1, 0, 3)])
    assert store.read([0, 4]).dtype == np.int32


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"rows": [0, 1], "first": 35, "length": 6}, "of 40 samples; asked for were 3 channels and samples 35 to 41"),
        ({"rows": [0, 1], "first": [0, -1], "length": 6}, "row 1 has"),
        ({"rows": [0], "length": 0}, "samples 0 to 0"),
        ({"rows": [0], "first": 40}, "samples 40 to 40"),
        ({"rows": [0, 5]}, "rows 0 to 4"),
        ({"rows": [-1]}, "rows 0 to 4"),
        ({"rows": [0.5]}, "give positions"),
        ({"rows": [0, 1], "first": [1, 2, 3]}, "one per row"),
        ({"rows": [0, 1], "first": [1, 2]}, "row 1 has"),
        ({"rows": [0], "array": "y"}, "unknown array 'y'"),
        ({"rows": [0], "out": np.empty((1, 3, 41))}, "it must be"),
    ],
)
def test_windows_that_do_not_fit(tmp_path, asked, line):
    store, _ = simple(tmp_path)
    with pytest.raises(SeislatentError, match=line):
        store.read(asked.pop("rows"), **asked)


def test_records_with_another_number_of_channels(tmp_path):
    store = write(tmp_path, [[made(np.ones((3, 4))), made(np.ones((1, 4)), 1)]])
    with pytest.raises(SeislatentError, match="row 1 has 1 channels"):
        store.read([0, 1])


def test_arrays_beside_the_record(tmp_path):
    low = np.arange(6, dtype=np.float32).reshape(1, 6)
    store = write(tmp_path, [[made(np.ones((3, 4)), i, {"low": low + i, "mask": low > 2})] for i in range(3)])
    assert store.arrays == ("x", "low", "mask")
    assert np.array_equal(store.read([2, 0], array="low"), [low + 2, low])
    assert store.read([0], array="mask").dtype == bool


def test_many_shards_do_not_keep_many_files_open(tmp_path, monkeypatch):
    monkeypatch.setattr("seislatent.data.store._most_maps", lambda: 4)
    store, data = simple(tmp_path, count=12, shards=12)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    rows = np.random.default_rng(0).integers(0, 12, 60)
    assert np.array_equal(store.read(rows), data[rows])
    assert 1 <= len(store._maps) <= 4
    assert before is None or len(os.listdir("/proc/self/fd")) <= before + 4


def _sum(store, rows, queue):
    queue.put((float(store.read(rows).sum()), store[rows[0]].metadata["trace_name"]))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_it(tmp_path, method):
    store, data = simple(tmp_path)
    store[0]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_sum, args=(store, [3, 1], queue))
    process.start()
    assert queue.get(timeout=30) == (pytest.approx(float(data[[3, 1]].sum()), rel=1e-5), "r3")
    process.join()
    same(pickle.loads(pickle.dumps(store))[2], store[2])


def test_a_store_that_grew_is_opened_again(tmp_path):
    store, _ = simple(tmp_path)
    state = pickle.dumps(store)
    with ShardWriter(tmp_path, 2) as writer:
        writer.add(made(np.ones((3, 40), np.float32), 77))
    assert len(Store(tmp_path)) == 5
    finish(tmp_path, {})
    assert len(Store(tmp_path)) == 6 and store[4].metadata["trace_name"] == "r4"
    with pytest.raises(SeislatentError, match="was changed"):
        pickle.loads(state)


# hostile and damaged stores


def rewrite(folder, **columns):
    """Change columns of the table by hand."""
    file, about = open_table(folder / "records.parquet")
    table = file.read()
    for name, values in columns.items():
        at = table.column_names.index(name)
        kind = table.schema.field(name).type
        table = table.set_column(at, name, pa.array(values, kind) if isinstance(values, list) else values)
    write_table(table, folder / "records.parquet", about)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"store_x_offset": [0, 480, 10**15]}, "do not lie within x.bin"),
        ({"store_x_offset": [0, 480, -480]}, "do not lie within"),
        ({"store_x_offset": [0, 481, 960]}, "do not lie within"),
        ({"store_x_offset": [0, 480, None]}, "has gaps, another type or is missing"),
        ({"store_x_samples": [40, 40, 2**62]}, "do not lie within"),
        ({"store_x_samples": [40, 40, 0]}, "do not lie within"),
        ({"store_x_samples": pa.array(["40"] * 3)}, "has gaps, another type or is missing"),
        ({"store_x_channels": [3, 3, -3]}, "do not lie within"),
        ({"store_x_channels": [2**31 - 1, 3, 3]}, "do not lie within"),
        ({"store_shard": [0, 0, -1]}, "do not lie within"),
        ({"store_shard": [0, 0, 9]}, "000009/x.bin is missing"),
        ({"store_shard": pa.array(["../../../etc/passwd"] * 3)}, "has gaps, another type or is missing"),
        ({"store_x_type": ["<f4", "<f4", "|O"]}, "samples of type '|O'"),
        ({"store_x_type": ["<f4", "<f4", ">f4"]}, "samples of type '>f4'"),
    ],
)
def test_a_table_that_lies(tmp_path, columns, line):
    simple(tmp_path, count=3, shards=1)
    rewrite(tmp_path, **columns)
    with pytest.raises(SeislatentError) as caught:
        Store(tmp_path)
    assert line in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"store_channels": ['[{"network":1}]'] * 3}, "cannot be understood"),
        ({"store_channels": ['[{"pickle":"x"}]'] * 3}, "cannot be understood"),
        ({"store_channels": ["[" * 100_000] * 3}, "cannot be understood"),
        ({"store_channels": ["7"] * 3}, "cannot be understood"),
        ({"store_history": ['"made"'] * 3}, "cannot be understood"),
        ({"store_history": [None] * 3}, "cannot be understood"),
        ({"store_added": [None] * 3}, "cannot be understood"),
        ({"trace_sampling_rate_hz": pa.array(["fast"] * 3)}, "cannot be understood"),
        ({"trace_sampling_rate_hz": [-1.0] * 3}, "must be a positive number"),
        ({"start_ns": pa.array(["today"] * 3)}, "cannot be understood"),
        ({"store_channels": ["[{},{}]"] * 3}, "channels"),
    ],
)
def test_a_row_that_lies(tmp_path, columns, line):
    simple(tmp_path, count=3, shards=1)
    rewrite(tmp_path, **columns)
    with pytest.raises(SeislatentError, match=line) as caught:
        Store(tmp_path)[1]
    assert "\n" not in str(caught.value)


def test_files_that_are_torn_or_foreign(tmp_path):
    simple(tmp_path / "s", shards=1)
    samples = tmp_path / "s/shards/000000/x.bin"
    whole = samples.read_bytes()
    samples.write_bytes(whole[:-1])
    with pytest.raises(SeislatentError, match=r"row 4 .* do not lie within"):
        Store(tmp_path / "s")
    samples.unlink()
    with pytest.raises(SeislatentError, match="missing"):
        Store(tmp_path / "s")
    (tmp_path / "secret").write_bytes(whole)
    samples.symlink_to(tmp_path / "secret")
    with pytest.raises(SeislatentError, match="no plain file"):
        Store(tmp_path / "s")
    samples.unlink()
    samples.write_bytes(whole)
    Store(tmp_path / "s")
    table = tmp_path / "s/records.parquet"
    bits = table.read_bytes()
    for torn in (b"", bits[: len(bits) // 2], bits[:-1], b"PAR1" + bytes(100) + b"PAR1"):
        table.write_bytes(torn)
        with pytest.raises(SeislatentError, match="damaged or no Parquet") as caught:
            Store(tmp_path / "s")
        assert "\n" not in str(caught.value)
    pq.write_table(pa.table({"a": [1]}), table)
    with pytest.raises(SeislatentError, match="belongs to no record store"):
        Store(tmp_path / "s")
    write_table(pa.table({"a": [1]}), table, {"arrays": ["../x"], "about": {}})
    with pytest.raises(SeislatentError, match="belongs to no"):
        Store(tmp_path / "s")
    told = {"format": "seislatent record store", "version": 1, "about": {}}
    for arrays in (["x", "../x"], ["y"], "x", [7]):
        write_table(pa.table({"a": [1]}), table, told | {"arrays": arrays})
        with pytest.raises(SeislatentError, match="which arrays"):
            Store(tmp_path / "s")
    write_table(pa.table({"a": [1]}), table, told | {"arrays": ["x"]})
    with pytest.raises(SeislatentError, match=r"column store_shard .* is missing"):
        Store(tmp_path / "s")
    write_table(pa.table([[1], [2]], ["a", "a"]), table, told | {"arrays": ["x"]})
    with pytest.raises(SeislatentError, match="two columns of one name"):
        Store(tmp_path / "s")
    write_table(pa.table({"a": [1]}), table, told | {"version": 2})
    with pytest.raises(SeislatentError, match="version 2"):
        Store(tmp_path / "s")


def test_a_sparse_file_is_no_reason_to_fill_the_memory(tmp_path):
    simple(tmp_path, count=3, shards=1)
    rewrite(tmp_path, store_x_samples=[40, 40, 2**31])
    os.truncate(tmp_path / "shards/000000/x.bin", 2**36)
    with pytest.raises(SeislatentError, match="row 2"):
        Store(tmp_path)


def test_a_pipe_is_no_table(tmp_path):
    simple(tmp_path)
    (tmp_path / "records.parquet").unlink()
    os.mkfifo(tmp_path / "records.parquet")
    with pytest.raises(SeislatentError, match="does not exist"):
        Store(tmp_path)


def test_bits_flipped_anywhere_in_the_table_give_a_line_or_the_records(tmp_path):
    simple(tmp_path, count=3, shards=1)
    table = tmp_path / "records.parquet"
    bits = table.read_bytes()
    rng = np.random.default_rng(3)
    for at in rng.integers(0, len(bits), 300):
        damaged = bytearray(bits)
        damaged[at] ^= 1 << rng.integers(8)
        table.write_bytes(damaged)
        try:
            store = Store(tmp_path)
            store.metadata, store[:]
        except SeislatentError as error:
            assert "\n" not in str(error)


def test_folders_that_are_no_store(tmp_path):
    assert not is_store(tmp_path) and not is_store(tmp_path / "none")
    with pytest.raises(SeislatentError, match="no folder"):
        Store(tmp_path / "none")
    with pytest.raises(SeislatentError, match=r"records\.parquet does not exist"):
        Store(tmp_path)
