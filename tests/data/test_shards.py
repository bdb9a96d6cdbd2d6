"""A shard is there whole or not at all, whoever writes it and whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import resource
import signal

import numpy as np
import pandas as pd
import pytest

from seislatent.data import shards, store_layout
from seislatent.data.recipe import Made, Rejected
from seislatent.data.shards import ShardWriter, finish, shard_done, shard_folder
from seislatent.data.store import Store
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform


def made(value, number=0, samples=20, metadata=None, others=None, start_ns=10**18):
    data = np.full((3, samples), value, np.float32)
    channels = tuple(Channel(network="KO", station="ABC", code=f"HH{c}", component=c) for c in "ZNE")
    told = {"trace_name": f"r{number}"} if metadata is None else metadata
    record = Waveform(data=data, sampling_rate_hz=100.0, channels=channels, start_ns=start_ns, metadata=told)
    return Made(record=record, others=others or {})


def shard(folder, number, values, rejected=()):
    with ShardWriter(folder, number) as writer:
        for k, value in enumerate(values):
            writer.add(made(value, 100 * number + k))
        for one in rejected:
            writer.reject(one)


def left(folder):
    """What lies in the folder of shards, leftovers of interrupted writers included."""
    return sorted(os.listdir(folder / "shards")) if (folder / "shards").is_dir() else []


def test_a_shard_appears_when_it_is_whole(tmp_path):
    with ShardWriter(tmp_path, 3) as writer:
        writer.add(made(1.0))
        assert not shard_done(tmp_path, 3) and not shard_folder(tmp_path, 3).exists()
    assert shard_done(tmp_path, 3) and left(tmp_path) == ["000003"]
    with pytest.raises(SeislatentError, match="exists: give a shard number that is free"), ShardWriter(tmp_path, 3):
        pass
    with pytest.raises(SeislatentError, match="numbered from 0"):
        ShardWriter(tmp_path, -1)


def test_an_error_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path, 0) as writer:
        writer.add(made(1.0))
        1 / 0  # noqa: B018
    assert left(tmp_path) == []
    with pytest.raises(SeislatentError, match="holds no shard"):
        finish(tmp_path, {})


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (lambda: made(1.0, samples=0), r"array x of r0 has shape \(3, 0\)"),
        (lambda: made(1.0, others={"low": np.ones(3)}), r"array low of r0 has shape \(3,\)"),
        (lambda: made(1.0, others={"../low": np.ones((1, 3))}), "a name is of small letters"),
        (lambda: made(1.0, others={"x": np.ones((1, 3))}), "x is the record itself"),
        (lambda: made(1.0, others={"low": np.array([["a"]])}), "of type <U1"),
        (lambda: made(1.0, others={"low": np.array([[None]])}), "of type object"),
        (lambda: made(1.0, metadata={"store_x_offset": 0}), "can be no column"),
        (lambda: made(1.0, metadata={"": 0}), "can be no column"),
        (lambda: made(1.0, metadata={"a": "\udc80"}), "'a' is no Unicode text"),
        (lambda: made(1.0, metadata={"\udc80": 1}), "can be no column"),
        (lambda: made(1.0, metadata={7: 0}), "can be no column"),
        (lambda: made(1.0, metadata={"a": [1]}), "a is of type list: give text, a number or a bool"),
        (lambda: made(1.0, metadata={"a": np.datetime64("2020-01-01")}), "a is of type datetime64"),
        (lambda: made(1.0, others={"low": np.broadcast_to(np.int8(0), (2, 1 << 31))}), "1 to 2147483648 samples"),
        (lambda: made(1.0, start_ns=2**63), "years 1678"),
    ],
)  # fmt: skip
def test_records_that_no_store_holds(tmp_path, bad, line):
    with ShardWriter(tmp_path, 0) as writer:
        with pytest.raises(SeislatentError, match=line) as caught:
            writer.add(bad())
        assert "\n" not in str(caught.value)
        writer.add(made(5.0))  # a refused record leaves no trace
    finish(tmp_path, {})
    assert np.array_equal(Store(tmp_path).read([0]), np.full((1, 3, 20), 5, np.float32))


def test_records_of_a_shard_have_the_same_arrays(tmp_path):
    with pytest.raises(SeislatentError, match="has the arrays x, the records before it x, low"), ShardWriter(tmp_path, 0) as writer:
        writer.add(made(1.0, others={"low": np.ones((1, 3))}))
        writer.add(made(1.0))
    shard(tmp_path, 0, [1.0])
    with ShardWriter(tmp_path, 1) as writer:
        writer.add(made(1.0, others={"low": np.ones((1, 3))}))
    with pytest.raises(SeislatentError, match="different arrays"):
        finish(tmp_path, {})


# a full disk


class Full:
    """A file on a disk that takes `room` bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)


@pytest.mark.parametrize("room", [0, 300])
def test_a_full_disk_while_samples_are_written(tmp_path, monkeypatch, room):
    opened = shards.Path.open
    monkeypatch.setattr(shards.Path, "open", lambda path, *a, **k: Full(opened(path, *a, **k), room))
    with pytest.raises(SeislatentError, match=r"No space left on device.*nothing half-written is left"):
        shard(tmp_path, 0, [1.0, 2.0])
    assert left(tmp_path) == []


def test_going_on_after_a_full_disk_gives_no_shard(tmp_path, monkeypatch):
    opened = shards.Path.open
    monkeypatch.setattr(shards.Path, "open", lambda path, *a, **k: Full(opened(path, *a, **k), 300))
    with pytest.raises(SeislatentError, match="No space left on device"), ShardWriter(tmp_path, 0) as writer:
        for k in range(3):
            with contextlib.suppress(SeislatentError):
                writer.add(made(1.0, k))
    assert left(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_that_shows_when_the_file_is_closed(tmp_path, monkeypatch):
    opened = shards.Path.open
    monkeypatch.setattr(shards.Path, "open", lambda path, *a, **k: opened(shards.Path("/dev/full"), *a, **k))
    with pytest.raises(SeislatentError, match="No space left on device"):
        shard(tmp_path, 0, [1.0])
    assert left(tmp_path) == []


def test_a_full_disk_while_tables_are_written(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shard(tmp_path, 0, [1.0])
    with monkeypatch.context() as patched:
        patched.setattr(store_layout.pq, "write_table", full)
        with pytest.raises(SeislatentError, match="No space left on device"):
            shard(tmp_path, 1, [1.0])
        with pytest.raises(SeislatentError, match="No space left on device"):
            finish(tmp_path, {})
    assert left(tmp_path) == ["000000"] and not list(tmp_path.glob("*.parquet*"))
    finish(tmp_path, {})
    assert len(Store(tmp_path)) == 1


def test_a_folder_that_may_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SeislatentError, match="cannot be written"):
        shard(tmp_path / "file", 0, [1.0])


# several writers


def test_two_writers_of_one_number(tmp_path):
    for second, line in (([1.0, 2.0], None), ([1.0, 3.0, 4.0], "by another process meanwhile")):
        folder = tmp_path / str(len(second))
        late = ShardWriter(folder, 0)
        late.__enter__()
        for k, value in enumerate(second):
            late.add(made(value, k))
        shard(folder, 0, [1.0, 2.0])
        if line:
            with pytest.raises(SeislatentError, match=line):
                late.__exit__(None, None, None)
        else:
            late.__exit__(None, None, None)
        finish(folder, {})
        assert Store(folder).read([0, 1])[:, 0, 0].tolist() == [1.0, 2.0] and left(folder) == ["000000"]


def _compete(folder, barrier, value):
    barrier.wait()
    with contextlib.suppress(SeislatentError):
        shard(folder, 0, [value] * 50)


def test_processes_that_write_one_number_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    writers = [context.Process(target=_compete, args=(tmp_path, barrier, float(v))) for v in range(4)]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
        assert w.exitcode == 0
    finish(tmp_path, {})
    found = Store(tmp_path).read(np.arange(50))
    assert len(np.unique(found)) == 1 and left(tmp_path) == ["000000"]


def _half(folder, ready):
    with ShardWriter(folder, 1) as writer:
        writer.add(made(9.0))
        ready.set()
        signal.pause()


def test_a_killed_writer_leaves_no_shard(tmp_path):
    shard(tmp_path, 0, [1.0])
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    writer = context.Process(target=_half, args=(tmp_path, ready))
    writer.start()
    assert ready.wait(20)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert not shard_done(tmp_path, 1) and len(left(tmp_path)) == 2
    shard(tmp_path, 1, [2.0])
    finish(tmp_path, {})
    assert left(tmp_path) == ["000000", "000001"]
    assert Store(tmp_path).read([0, 1])[:, 0, 0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ["x.bin", "records.parquet", "rejected.parquet"])
def test_a_torn_shard_is_written_again(tmp_path, name):
    shard(tmp_path, 0, [1.0])
    path = shard_folder(tmp_path, 0) / name
    path.write_bytes(path.read_bytes()[:-1])
    assert not shard_done(tmp_path, 0)
    with pytest.raises(SeislatentError, match="is torn"):
        finish(tmp_path, {})
    shard(tmp_path, 0, [4.0])
    finish(tmp_path, {})
    assert Store(tmp_path).read([0])[0, 0, 0] == 4.0 and left(tmp_path) == ["000000"]


# finishing


def test_a_store_grows(tmp_path):
    shard(tmp_path, 0, [1.0], [Rejected(name="a", reason="gap")])
    finish(tmp_path, {"seed": 1})
    assert len(Store(tmp_path)) == 1
    shard(tmp_path, 7, [2.0, 3.0], [Rejected(name="b", reason="no P pick", detail="of 2")])
    finish(tmp_path, {"seed": 2})
    store = Store(tmp_path)
    assert store.about == {"seed": 2} and store.read(np.arange(3))[:, 0, 0].tolist() == [1.0, 2.0, 3.0]
    assert store.rejected.to_dict("list") == {"trace_name": ["a", "b"], "reason": ["gap", "no P pick"], "detail": ["", "of 2"]}
    assert store.bytes == sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())


def test_the_table_is_the_same_whoever_wrote_the_shards(tmp_path):
    for name, order in (("a", (0, 1, 2)), ("b", (2, 0, 1))):
        for number in order:
            shard(tmp_path / name, number, [float(number)])
        finish(tmp_path / name, {})
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path


def test_the_table_may_be_changed_when_the_store_is_finished(tmp_path):
    shard(tmp_path, 0, [0.0, 1.0])
    shard(tmp_path, 1, [2.0, 3.0])
    left_out = [Rejected(name="early", reason="gap")]

    def change(table: pd.DataFrame) -> pd.DataFrame:
        left_out.append(Rejected(name=table["trace_name"][1], reason="duplicate"))
        kept = table[table["trace_name"] != "r1"].iloc[::-1].reset_index(drop=True)
        kept = kept.assign(split=["test", None, "train"], bins=pd.Categorical(["a", "b", "a"]))
        return kept.assign(n=np.float32([1, np.nan, 2]), k=np.uint8(3))

    finish(tmp_path, {}, table_change=change, rejected=left_out)
    store = Store(tmp_path)
    assert store.read(np.arange(3))[:, 0, 0].tolist() == [3.0, 2.0, 0.0]
    assert [w.metadata for w in store] == [
        {"trace_name": "r101", "split": "test", "bins": "a", "n": 1.0, "k": 3},
        {"trace_name": "r100", "bins": "b", "k": 3},
        {"trace_name": "r0", "split": "train", "bins": "a", "n": 2.0, "k": 3},
    ]
    assert store.rejected["reason"].tolist() == ["gap", "duplicate"]
    assert "store_row" not in store.metadata and store.columns("split")["split"].tolist()[0] == "test"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t.drop(columns="store_row"), "has lost store_row"),
        (lambda t: t.assign(store_row=0), "stands twice"),
        (lambda t: t.assign(store_row=t["store_row"] + 1), "has lost"),
        (lambda t: t.assign(store_x_offset=0), "the store's own"),
        (lambda t: t.assign(a=[[1], [2]]), "column 'a' holds"),
        (lambda t: t.assign(a=pd.Timestamp("2020-01-01")), "column 'a' holds"),
        (lambda t: t.assign(a=1j), "column 'a' holds"),
        (lambda t: t.iloc[:0], "no record is left"),
    ],
)
def test_changes_that_are_refused(tmp_path, change, line):
    shard(tmp_path, 0, [0.0, 1.0])
    finish(tmp_path, {"seed": 1})
    with pytest.raises(SeislatentError, match=line):
        finish(tmp_path, {"seed": 2}, table_change=change)
    assert Store(tmp_path).about == {"seed": 1} and len(Store(tmp_path)) == 2


def test_more_shards_than_files_may_be_open(tmp_path):
    for number in range(80):
        shard(tmp_path, number, [float(number)])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, limits[1]))
    try:
        finish(tmp_path, {})
        store = Store(tmp_path)
        assert store.read(np.arange(80))[:, 0, 0].tolist() == list(range(80))
        assert [w.metadata["trace_name"] for w in store[78:]] == ["r7800", "r7900"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_nothing_but_rejections(tmp_path):
    shard(tmp_path, 0, [], [Rejected(name=n, reason="gap") for n in "abc"])
    with pytest.raises(SeislatentError, match=r"no record is left for .* \(gap: 3\)"):
        finish(tmp_path, {})
