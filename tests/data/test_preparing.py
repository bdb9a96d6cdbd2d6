"""One result, whatever the number of workers and however often it was interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seislatent.data import preparing
from seislatent.data.preparing import PLAN, prepare_records
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.records import open_records
from seislatent.data.splits import SplitConfig, leaks
from seislatent.data.store import is_store
from seislatent.data.synthetic import earthquake
from seislatent.errors import SeislatentError
from seislatent.io.seisbench import write_seisbench
from seislatent.waveform import Channel, Waveform


@dataclass(frozen=True, kw_only=True)
class CutsConfig:
    """How the records of these tests are cut."""

    length: int = 100
    """In samples."""
    cuts: int = 2
    """Of each record."""
    pause_s: float = 0.0
    """Waited at each record."""


class Cuts(DataRecipe):
    """Random cuts of every record; small events are left out, and so are events of a single record."""

    Config = CutsConfig
    arrays = ("half",)

    def select(self, table):
        small = pd.to_numeric(table["source_magnitude"], errors="coerce") < 1.5
        return pd.Series(np.where(small, "magnitude below 1.5", ""), index=table.index)

    def make(self, records, rngs):
        for record, rng in zip(records, rngs, strict=True):
            time.sleep(self.config.pause_s)
            if not np.isfinite(record.data).all():
                yield Rejected(name=record.metadata["trace_name"], reason="gap")
                continue
            for k in range(self.config.cuts):
                at = int(rng.integers(record.data.shape[1] - self.config.length))
                data = record.data[:, at : at + self.config.length]
                name = {"trace_name": f"{record.metadata['trace_name']}_{k}", "first": at}
                yield Made(
                    record=record.with_data(data, did=f"cut {k}", metadata=record.metadata | name), others={"half": data / 2}
                )

    def sift(self, table):
        alone = table.groupby("source_id")["trace_name"].transform("size") < 2 * self.config.cuts
        return pd.Series(np.where(alone, "event of one record", ""), index=table.index)


def source(folder: Path, n=90) -> Path:
    rng = np.random.default_rng(1)
    waveforms = []
    for i in range(n):
        wave = earthquake(rng, 10.0, 20.0, magnitude=1.0 + (i // 3) % 4, distance_km=30)
        data = wave.data * 1e9
        if i == 7:
            data[1, 5] = np.nan
        if i == 11:
            data = waveforms[10].data
        event = f"ev{i // 3}" if i < n - 1 else "alone"
        channels = tuple(Channel(network="XX", station=f"S{i % 5 if i != 11 else 0}", code=f"HH{c}", component=c) for c in "ZNE")
        metadata = wave.metadata | {"source_id": event, "trace_name": f"r{i:03d}"}
        about = {"sampling_rate_hz": 20.0, "channels": channels, "start_ns": (10**6 + i) * 10**12, "unit": "nm/s"}
        waveforms.append(Waveform(data=data, metadata=metadata, **about))
    return write_seisbench(folder, waveforms)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return source(tmp_path_factory.mktemp("source") / "set")


def made(records, out, **more):
    return prepare_records(Cuts(CutsConfig()), [records], out, seed=3, **more)


@pytest.fixture(scope="module")
def store(records, tmp_path_factory):
    return made(records, tmp_path_factory.mktemp("made") / "store")


def same(a, b):
    pd.testing.assert_frame_equal(a.metadata, b.metadata)
    assert a.arrays == b.arrays == ("x", "half")
    for name in a.arrays:
        np.testing.assert_array_equal(a.read(range(len(a)), array=name), b.read(range(len(b)), array=name))
    pd.testing.assert_frame_equal(a.rejected, b.rejected)


def test_what_is_made_and_what_is_not(records, store):
    counts = store.rejected["reason"].value_counts().to_dict()
    small = int((open_records(records).metadata["trace_name"].map(lambda n: 1 + (int(n[1:]) // 3) % 4) < 1.5).sum())
    assert counts["magnitude below 1.5"] == small > 10
    assert counts["gap"] == 1
    assert counts["duplicate record"] == 2, "both cuts of r011, whose samples are those of r010"
    assert counts["event of one record"] == 2
    assert set(counts) == {"magnitude below 1.5", "gap", "event of one record", "duplicate record"}
    table = store.metadata
    assert len(table) == 2 * (90 - small - 1) - 4
    assert set(table["split"]) == {"train", "dev", "test"} and not len(leaks(table))
    record = store[5]
    np.testing.assert_allclose(store.read([5], array="half")[0], record.data / 2)
    assert record.history[-1].startswith("cut") and record.unit == "nm/s" and record.metadata["source_id"].startswith("ev")


def test_the_same_with_two_workers(records, store, tmp_path):
    same(store, made(records, tmp_path / "two", workers=2))


def test_a_record_that_stands_twice_is_counted(tmp_path):
    waveforms = open_records(source(tmp_path / "a", 30))[12:18]
    twice = [*waveforms, waveforms[4]]
    folder = write_seisbench(tmp_path / "twice", twice)
    found = made(folder, tmp_path / "store")
    assert found.rejected["reason"].value_counts()["duplicate record"] == 1


def test_it_goes_on_where_it_was_killed(records, store, tmp_path):
    script = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from pathlib import Path
from test_preparing import Cuts, CutsConfig
from seislatent.data.preparing import prepare_records
prepare_records(Cuts(CutsConfig(pause_s={{pause}})), [Path({str(records)!r})], Path({str(tmp_path / "out")!r}), seed=3)
"""
    slow = subprocess.Popen([sys.executable, "-c", script.format(pause=0.05)])
    shards = tmp_path / "out" / "shards"
    until = time.monotonic() + 30
    while time.monotonic() < until and not (shards.is_dir() and sum(1 for p in shards.iterdir() if p.name[0].isdigit()) >= 3):
        time.sleep(0.02)
    slow.kill()
    slow.wait()
    assert not is_store(tmp_path / "out") and (tmp_path / "out" / PLAN).exists()
    before = {p: p.stat().st_mtime_ns for p in shards.rglob("*") if p.is_file() and p.parent.name[0].isdigit()}
    with pytest.raises(SeislatentError, match="half made by another command"):
        made(records, tmp_path / "out")  # the pause is another setting
    found = prepare_records(Cuts(CutsConfig(pause_s=0.05)), [records], tmp_path / "out", seed=3, workers=2)
    same(store, found)
    assert all(p.stat().st_mtime_ns == when for p, when in before.items()), "what was done was not done again"
    assert not (tmp_path / "out" / PLAN).exists()


def test_asked_again_it_is_there(records, store):
    again = made(records, store.path)
    same(store, again)
    with pytest.raises(SeislatentError, match="another store"):
        prepare_records(Cuts(CutsConfig(length=50)), [records], store.path, seed=3)


def test_more_records_keep_the_splits(records, tmp_path):
    first = made(records, tmp_path / "store")
    more = open_records(source(tmp_path / "more", 120))
    folder = write_seisbench(tmp_path / "later", [more[i] for i in range(60, 120)])
    table = first.metadata.drop_duplicates("source_id").set_index("source_id")["split"]
    both = prepare_records(Cuts(CutsConfig()), [folder], tmp_path / "store", seed=4, append=True)
    assert len(both) > len(first) and not len(leaks(both.metadata))
    after = both.metadata.drop_duplicates("source_id").set_index("source_id")["split"]
    assert (after[table.index] == table).all()
    np.testing.assert_array_equal(both.read(range(len(first))), first.read(range(len(first))))


def test_clear_lines(records, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(SeislatentError, match="holds other files"):
        made(records, tmp_path / "full")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SeislatentError, match="is a file"):
        made(records, tmp_path / "file")
    with pytest.raises(SeislatentError, match="no finished store"):
        made(records, tmp_path / "none", append=True)
    one = [w for w in open_records(records) if w.metadata["source_magnitude"] < 1.5]
    small = write_seisbench(tmp_path / "small", one)
    with pytest.raises(SeislatentError, match=r"nothing of .* magnitude below 1.5"):
        made(small, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_station_splits_are_kept(records, tmp_path):
    found = made(records, tmp_path / "stations", splits=SplitConfig(by="station", shares=(0.5, 0.25, 0.25)))
    assert not len(leaks(found.metadata, "station"))


def test_an_append_that_was_interrupted_is_not_taken_for_another(records, tmp_path, monkeypatch):
    held = open_records(source(tmp_path / "more", 120))
    first, second, third = (
        write_seisbench(tmp_path / name, [held[i] for i in rows])
        for name, rows in (("first", range(60)), ("second", range(60, 90)), ("third", range(90, 120)))
    )
    out = tmp_path / "store"
    before = made(first, out)
    done, real = [], preparing.make_piece

    def stopped(*piece):
        done.append(piece)
        if len(done) > 1:
            raise KeyboardInterrupt
        return real(*piece)

    monkeypatch.setattr(preparing, "make_piece", stopped)
    with pytest.raises(KeyboardInterrupt):
        made(second, out, append=True)
    monkeypatch.undo()
    assert len(made(first, out)) == len(before), "what was whole stays whole"
    with pytest.raises(SeislatentError, match="second was being added"):
        made(third, out, append=True)
    both = made(second, out, append=True)
    assert set(both.metadata["dataset"]) == {"first", "second"} and len(both.about["runs"]) == 2
    assert set(made(third, out, append=True).metadata["dataset"]) == {"first", "second", "third"}


def test_a_plan_that_outlived_its_run_does_not_hide_what_is_added(records, tmp_path):
    held = open_records(records)
    first, second = (write_seisbench(tmp_path / name, [held[i] for i in rows])
                     for name, rows in (("first", range(60)), ("second", range(60, 90))))  # fmt: skip
    out = tmp_path / "store"
    store = made(first, out)
    (out / PLAN).write_text(json.dumps({"digest": store.about["runs"][-1]["digest"], "first": 0}))  # killed just before it went
    assert set(made(second, out, append=True).metadata["dataset"]) == {"first", "second"}
    assert not (out / PLAN).exists()


def test_records_are_added_to_a_split_by_event_and_station(records, tmp_path):
    held = open_records(records)
    first, second = (write_seisbench(tmp_path / name, [held[i] for i in rows])
                     for name, rows in (("first", range(70)), ("second", range(40, 90))))  # fmt: skip
    rule = SplitConfig(by="event+station", shares=(0.4, 0.2, 0.4))
    before = made(first, tmp_path / "store", splits=rule)
    after = made(second, tmp_path / "store", splits=rule, append=True)
    assert "mixed" in set(before.metadata["split"]) and len(after) > len(before)
    assert (after.metadata["split"][: len(before)].to_numpy() == before.metadata["split"].to_numpy()).all()
    seen = after.metadata.assign(split=after.metadata["split"].replace("dev", "train"))
    assert not len(leaks(seen, "event")) or set(leaks(after.metadata, "event")["splits"]) == {"dev, train"}
    assert not len(leaks(seen, "station"))


def test_killed_with_two_workers_it_goes_on(records, store, tmp_path):
    script = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from pathlib import Path
from test_preparing import Cuts, CutsConfig
from seislatent.data.preparing import prepare_records
if __name__ == "__main__":
    recipe = Cuts(CutsConfig(pause_s=0.05))
    prepare_records(recipe, [Path({str(records)!r})], Path({str(tmp_path / "out")!r}), seed=3, workers=2)
"""
    (tmp_path / "run.py").write_text(script)
    slow = subprocess.Popen([sys.executable, str(tmp_path / "run.py")], stderr=subprocess.DEVNULL)
    shards = tmp_path / "out" / "shards"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (shards.is_dir() and sum(1 for p in shards.iterdir() if p.name[0].isdigit()) >= 2):
        time.sleep(0.02)
    slow.kill()
    slow.wait()
    assert not is_store(tmp_path / "out") and (tmp_path / "out" / PLAN).exists()
    same(store, prepare_records(Cuts(CutsConfig(pause_s=0.05)), [records], tmp_path / "out", seed=3))


def test_where_p_stands_under_another_name_is_told(records, tmp_path):
    class Picked(Cuts):
        def select(self, table):
            return pd.Series("no P", index=table.index)

    with pytest.raises(SeislatentError, match=r"no P \(90\); it has times in trace_p_arrival_sample \(--recipe.p_column\)$"):
        prepare_records(Picked(CutsConfig()), [records], tmp_path / "out")


@dataclass(frozen=True, kw_only=True)
class LethalConfig:
    """Nothing to choose."""


class Lethal(DataRecipe):
    """Ends its process, as the system does where memory runs out."""

    Config = LethalConfig

    def make(self, records, rngs):
        os._exit(9)


@pytest.mark.parametrize("address", ["nonsense", "http://localhost:1"])
def test_addresses_that_are_none(records, tmp_path, address):
    with pytest.raises(SeislatentError, match=f"no Dask scheduler answers at {address}.*tcp://HOST:PORT"):
        made(records, tmp_path / "out", scheduler=address)


def test_workers_that_die_are_told(records, tmp_path):
    with pytest.raises(SeislatentError, match=r"died again and again.*fewer --workers"):
        prepare_records(Lethal(LethalConfig()), [records], tmp_path / "out", workers=2)
    assert not is_store(tmp_path / "out")


def test_records_without_a_network_code_are_no_duplicates():
    """A missing code is no number that equals nothing, not even its own record."""
    table = pd.DataFrame({
        "station_network_code": [np.nan, None, np.nan, "XX"], "station_code": "A",
        "trace_checksum": ["1", "2", "1", "1"], "trace_source": ["a", "b", "c", "d"],
    })  # fmt: skip
    assert preparing._same_samples(table).tolist() == [False, False, True, False]
