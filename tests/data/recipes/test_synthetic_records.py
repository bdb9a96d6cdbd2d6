"""Stores of records from nothing: bits, twins, truths, noise levels, splits."""

from __future__ import annotations

import numpy as np
import pytest

from seislatent import stores
from seislatent.data.store import Store
from seislatent.errors import SeislatentError, UsageError

FEW = {"events": "12"}


def samples(store):
    return {store.metadata["trace_name"].iloc[i]: store[i].data for i in range(len(store))}


@pytest.fixture(scope="module")
def kong(tmp_path_factory):
    return stores.prepare("data/synthetic_kong", None, tmp_path_factory.mktemp("a") / "s", recipe_keys=FEW | {"stations": "2"})


@pytest.mark.parametrize("events", ["12", "20"])
def test_a_record_is_a_function_of_seed_and_number(kong, events, tmp_path):
    """Whatever stands beside it, and by however many processes it is made."""
    keys = {"stations": "2", "events": events}
    again = stores.prepare("data/synthetic_kong", None, tmp_path / "s", recipe_keys=keys, workers=1 if events == "12" else 2)
    one, two = samples(kong), samples(again)
    assert len(two) == int(events) * 6 and one.keys() <= two.keys()
    for name, x in one.items():
        np.testing.assert_array_equal(two[name], x)
    other = stores.prepare("data/synthetic_kong", None, tmp_path / "o", recipe_keys=FEW, seed=1)
    assert not np.array_equal(other[0].data, kong[0].data)


def test_classes_differ_by_their_source_alone(kong):
    table = kong.metadata
    assert sorted(table["label"].unique()) == ["earthquake", "explosion", "noise"] and len(table) == 72
    same = ["trace_snr_db", "trace_noise_kind"]
    moved = ["source_magnitude", "source_depth_km", "path_ep_distance_km", "path_q0", "station_site_gain", "trace_p_arrival_sample"]
    for _, station in table.groupby("station_code"):
        assert len(station) == 3 and (station[same].nunique() == 1).all()
        assert (station[station["label"] != "noise"][moved].nunique() == 1).all()
        assert station[station["label"] == "noise"][moved].isna().all(axis=None)
    for _, event in table.groupby("source_id"):
        assert event["station_code"].nunique() == 2 and event["split"].nunique() == 1
        assert event["source_magnitude"].nunique() == 1 and event["path_ep_distance_km"].nunique() == 2
    assert set(table["trace_snr_db"]) == {0.0, 10.0, 20.0}


def test_windows_are_as_kongs(kong):
    for i in range(12):
        w = kong[i]
        assert w.data.shape == (3, 540) and w.data.dtype == np.float32 and w.sampling_rate_hz == 20
        assert np.abs(w.data).max() == 1 and np.abs(w.data.mean(1)).max() < 1e-6 and w.unit == "1"
        assert w.metadata["label"] == "noise" or 20 <= w.metadata["trace_p_arrival_sample"] <= 400


def test_the_noise_stands_where_it_is_said(tmp_path):
    """Energy before P, where there is noise alone, against that from P on."""
    keys = {"events": "60", "classes": "[earthquake]", "p_s": "[10, 12]", "snr_db": "[10]", "scale": "none"}
    store = stores.prepare("data/synthetic_kong", None, tmp_path / "s", recipe_keys=keys)
    ratios = []
    for i in range(len(store)):
        x, p = store[i].data.astype(np.float64), int(store[i].metadata["trace_p_arrival_sample"])
        ratios.append(10 * np.log10((x[:, p:] ** 2).mean(1).max() / (x[:, :p] ** 2).mean()))
    assert 9 < np.median(ratios) < 13  # 10 dB, and the noise itself stands in what follows P


def test_counts_of_instruments(tmp_path):
    store = stores.prepare("data/synthetic_picking", None, tmp_path / "s", recipe_keys={"events": "10"})
    table = store.metadata
    assert len(table) == 20 and set(table["trace_unit"]) == {"counts"} and table["instrument_name"].nunique() > 1
    assert table["trace_p_arrival_sample"].std() / 100 > 8
    for i in range(len(store)):
        x = store[i].data.astype(np.float64)
        assert x.shape == (3, 6000) and np.array_equal(x, np.rint(x)) and x.std() > 1
        assert np.abs(x).max() <= 2**23 - 1 and all(len(np.unique(row)) > 5 for row in x)


def test_settings_that_make_no_sense():
    for keys, told in (
        ({"classes": "[earthquake, landslide]"}, "landslide"),
        ({"instruments": "[seismometer]"}, "instrument"),
        ({"p_s": "[1, 27]"}, "27 s in a record of 27 s"),
        ({"magnitude": "[3, 2]"}, "3 to 2"),
        ({"events": "0"}, "at least one event"),
    ):
        with pytest.raises(SeislatentError, match=told):
            stores.recipe(stores.preset("data/synthetic_kong"), keys)


def test_a_source_is_given_where_there_is_one_to_give(tmp_path):
    with pytest.raises(UsageError, match="from nothing: leave --data away"):
        stores.prepare("data/synthetic_kong", tmp_path, tmp_path / "s")
    with pytest.raises(UsageError, match="needs a source: give --data"):
        stores.prepare("data/kong_picking", None, tmp_path / "s")


def test_an_interrupted_run_goes_on(kong, tmp_path):
    def stop(done, of):
        raise KeyboardInterrupt

    keys = FEW | {"stations": "2"}
    with pytest.raises(KeyboardInterrupt):
        stores.prepare("data/synthetic_kong", None, tmp_path / "s", recipe_keys=keys, progress=stop)
    stores.prepare("data/synthetic_kong", None, tmp_path / "s", recipe_keys=keys)
    one, two = samples(kong), samples(Store(tmp_path / "s"))
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
