"""The coherent experiment as a store, and its groups as batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seislatent import stores
from seislatent.data.coherent import experiment
from seislatent.data.record_batches import RecordBatchesConfig
from seislatent.data.record_groups import RecordGroups
from seislatent.errors import SeislatentError

GROUPS = {"components": "Z", "length": 512, "start": "beginning", "scale": "none", "group": "source_id", "per_group": (2, 6)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = tmp_path_factory.mktemp("coherent") / "store"
    return stores.prepare("data/coherent", None, place, recipe_keys={"paths": 60}, workers=1)


def test_the_store(store):
    table = store.columns("source_id", "station_code", "split", "trace_shift_s", "trace_snr_db")
    assert len(table) == 60 and table["station_code"].nunique() == 60
    assert table["source_id"].value_counts().to_dict() == {"source-1": 30, "source-2": 30}
    assert set(table["split"]) == {"train", "dev", "test"} and table["trace_shift_s"].abs().max() <= 3


def test_crossed_records_differ_by_their_source_alone(tmp_path):
    keys = {"paths": 5, "crossed": True, "noise": False}
    made = stores.prepare("data/coherent", None, tmp_path / "store", recipe_keys=keys, workers=1)
    table = made.columns("source_id", "station_code", "trace_shift_s")
    assert len(table) == 10 and (table.groupby("station_code")["source_id"].nunique() == 2).all()
    assert (table.groupby("station_code")["trace_shift_s"].nunique() == 1).all()

    it = experiment(3, 6, noise=False, crossed=True)
    paths = np.fft.rfft(it.paths, 1024)
    assert it.source.tolist() == [0, 1, 0, 1, 0, 1] and np.array_equal(paths[::2], paths[1::2])
    assert np.array_equal(it.shifts_s[::2], it.shifts_s[1::2]) and len(set(it.shifts_s)) == 3
    assert not np.array_equal(experiment(3, 6, crossed=True).noise[0], experiment(3, 6, crossed=True).noise[1])


def test_batches_of_groups(store):
    groups = RecordGroups(RecordBatchesConfig(**GROUPS), [store.path], batch=24, seed=0)
    batch = groups.batch(0, 0, 1)
    sizes = torch.bincount(batch.group)
    assert len(sizes) == 4 and bool(((sizes >= 2) & (sizes <= 6)).all()) and len(batch.x) == int(sizes.sum())
    assert torch.equal(batch.x, groups.batch(0, 0, 1).x) and not torch.equal(batch.x[:2], groups.batch(1, 0, 1).x[:2])
    dev = groups.of("dev")
    once, again = list(dev.once()), list(dev.once())
    assert sum(len(b.x) for b in once) >= len(dev) > 0 and all(b.group is not None for b in once)
    assert all(torch.equal(a.x, b.x) for a, b in zip(once, again, strict=True))


def test_what_is_refused(store):
    with pytest.raises(SeislatentError, match="set `group`"):
        RecordGroups(RecordBatchesConfig(**{**GROUPS, "group": ""}), [store.path], batch=24, seed=0)
    with pytest.raises(SeislatentError, match="one path"):
        stores.recipe(stores.preset("data/coherent"), {"paths": 0})
