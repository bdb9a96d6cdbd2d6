"""Search: what was planted is found, by exact distances, and near hits count once."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from obspy import Stream, Trace, UTCDateTime

from seislatent import catalog
from seislatent.bulk.embed import embed, features_of
from seislatent.bulk.feature_store import Features
from seislatent.bulk.feature_windows import Cut
from seislatent.bulk.search import nearest, query, search
from seislatent.cli import main as command
from seislatent.errors import SeislatentError

START = UTCDateTime("2024-02-01T00:00:00")
RATE, PLANTED = 20.0, (203.0, 600.0, 871.5, 1402.25)


def small():
    torch.manual_seed(3)
    return catalog.build("features/autoencoder", {"bottleneck": 17, "maps": 8, "first": [8, 8]})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Half an hour of two stations with four copies of a wavelet at the first, its model, and the store of its features."""
    folder = tmp_path_factory.mktemp("search")
    catalog.save(folder / "small.safetensors", small(), "features/autoencoder")
    rng = np.random.default_rng(0)
    n = int(1800 * RATE)
    burst = rng.standard_normal((3, 160)) * np.exp(-np.arange(160) / 40) * 40
    for station in ("AAA", "BBB"):
        x = rng.standard_normal((3, n))
        for at in PLANTED if station == "AAA" else ():
            x[:, int(at * RATE) : int(at * RATE) + 160] += burst
        header = {"network": "XX", "station": station, "sampling_rate": RATE, "starttime": START}
        (folder / "data").mkdir(exist_ok=True)
        stream = Stream([Trace(row.astype(np.float32), {**header, "channel": f"BH{c}"}) for row, c in zip(x, "ZNE", strict=True)])
        stream.write(str(folder / "data" / f"{station}.mseed"), format="MSEED")
    model = catalog.load(folder / "small.safetensors")
    embed(model, folder / "data", folder / "f", hop_s=1.0, weights=str(folder / "small.safetensors"))
    return folder, model


@pytest.mark.parametrize("by", ["standard", "whitened", "plain"])
def test_the_copies_are_found_at_their_times(made, by):
    folder, model = made
    found = search(folder / "f", model, folder / "data" / "AAA.mseed", at=str(START + 203.0), top=4, by=by)
    times = np.sort([UTCDateTime(t) - START for t in found["time"]])
    inside = np.array(PLANTED) - times
    assert ((inside > 0) & (inside < 27)).all() and (found["station_code"] == "AAA").all()
    assert found["distance"].is_monotonic_increasing and found["distance"].iloc[0] < 0.35
    # the same in a store that is compared row by row, in double precision
    store = Features(folder / "f")
    x = query(folder / "data" / "AAA.mseed", Cut(**store.about["cut"]), str(START + 203.0))
    assert x.shape == (32, 3, 540)
    if by == "standard":
        z = (store.array.astype(np.float64) - store.moments[0]) / store.moments[1]
        q = (features_of(model.system, x, None).astype(np.float64) - store.moments[0]) / store.moments[1]
        cosine = (z @ q.T) / np.linalg.norm(z, axis=1)[:, None] / np.linalg.norm(q, axis=1)
        np.testing.assert_allclose(found["distance"], 1 - cosine.max(1)[found["row"]], atol=1e-4)
        assert found["row"].iloc[0] == cosine.max(1).argmax()


def test_whitened_rows_have_unit_variance_along_every_axis(made):
    from seislatent.bulk.search import Space

    store = Features(made[0] / "f")
    rows = Space(store, "whitened").project(store.array)
    np.testing.assert_allclose(np.cov(rows.T), np.eye(rows.shape[1]), atol=0.01)


def test_many_queries_at_once_are_each_alone(made):
    store = Features(made[0] / "f")
    queries = store.array[[5, 3000, 40]][:, None]
    together = nearest(store, queries, 10)
    for one, q in zip(together, queries, strict=True):
        alone = nearest(store, q[None], 10)[0]
        assert np.array_equal(one.row, alone.row) and np.allclose(one.distance, alone.distance, atol=1e-4)
    assert [one.row[0] for one in together] == [5, 3000, 40] and all(one.distance[0] < 1e-5 for one in together)


def test_hits_nearer_than_half_a_window_count_once(made):
    store = Features(made[0] / "f")
    q = store.array[100][None, None]
    raw, merged = nearest(store, q, len(store), merge_s=0)[0], nearest(store, q, len(store))[0]
    assert len(raw.row) == len(store) and set(merged.row) < set(raw.row)
    table = store.table.iloc[merged.row]
    for _, rows in table.groupby("station_code"):
        assert np.diff(np.sort(rows["start_ns"].to_numpy(np.int64))).min() >= 13.5e9
    # what was merged away stands next to a better one
    kept = {(s, t) for s, t in zip(table["station_code"], table["start_ns"], strict=True)}
    for row in raw.row:
        s, t = store.table["station_code"].iloc[row], store.table["start_ns"].iloc[row]
        assert any(s == a and abs(int(t) - int(b)) < 13.5e9 for a, b in kept)


def test_command_line(made, tmp_path, capsys):
    folder, _ = made
    words = ["search", folder / "f", "--like", folder / "data" / "AAA.mseed", "--at", "2024-02-01T00:10:00", "--top", "3"]
    words += ["--out", tmp_path / "hits.csv", "--json"]
    assert command.main([str(w) for w in words]) == 0
    told = json.loads(capsys.readouterr().out)
    table = pd.read_csv(tmp_path / "hits.csv")
    assert [hit["row"] for hit in told["hits"]] == table["row"].tolist() and len(table) == 3
    assert command.main([str(w) for w in words]) == 1 and "exists" in capsys.readouterr().err
    assert command.main([str(w) for w in [*words[:-1], "--overwrite"]]) == 0
    assert "XX.AAA..BH" in capsys.readouterr().out
    words = [
        "embed",
        folder / "data" / "BBB.mseed",
        "--system",
        folder / "small.safetensors",
        "--out",
        tmp_path / "f",
        "--pool",
        "2",
    ]
    assert command.main([str(w) for w in [*words, "--json"]]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["numbers"] == 16 and told["records"] == 1 and told["samples"] == 540
    words = [
        "search",
        tmp_path / "f",
        "--like",
        folder / "data" / "BBB.mseed",
        "--at",
        "2024-02-01T00:20:00",
        "--top",
        "2",
        "--json",
    ]
    assert command.main([str(w) for w in words]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert len(hits) == 2 and hits[0]["distance"] < hits[1]["distance"]


def test_what_cannot_be_searched_is_told_in_a_line(made, tmp_path):
    folder, model = made
    like = folder / "data"
    with pytest.raises(SeislatentError, match="holds 2 stations"):
        search(folder / "f", model, like, at=str(START))
    with pytest.raises(SeislatentError, match=r"no station XX\.CCC"):
        search(folder / "f", model, like, station="XX.CCC")
    with pytest.raises(SeislatentError, match="say what you look for with --at"):
        search(folder / "f", model, like / "AAA.mseed")
    with pytest.raises(SeislatentError, match="holds nothing at 2025"):
        search(folder / "f", model, like / "AAA.mseed", at="2025-01-01")
    with pytest.raises(SeislatentError, match="is no time"):
        search(folder / "f", model, like / "AAA.mseed", at="yesterday at noon or so")
    with pytest.raises(SeislatentError, match="give the weights it was made with"):
        other = catalog.wrap(catalog.build("features/autoencoder", {"bottleneck": 17, "maps": 2}), "features/autoencoder")
        search(folder / "f", other, like / "AAA.mseed", at=str(START))
    with pytest.raises(SeislatentError, match="no finished store"):
        search(tmp_path, model, like)
