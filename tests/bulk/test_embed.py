"""Stores of features: what is in them, whatever the cuts of files, the number of workers and the interruptions."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from obspy import Stream, Trace, UTCDateTime

from seislatent import catalog
from seislatent.bulk import embed as embedding
from seislatent.bulk import feature_store
from seislatent.bulk.embed import embed, pooled
from seislatent.bulk.feature_store import Features
from seislatent.bulk.feature_windows import Cut, WindowSource
from seislatent.errors import SeislatentError
from seislatent.io.seisbench import write_seisbench
from seislatent.waveform import Channel, Waveform

START = UTCDateTime("2024-02-01T10:50:00.025")
SECONDS, RATE = 1500, 20.0  # over a whole hour, where traces are cut


def tiny(seed=0):
    """A small system whose features are alive: an untrained ReLU may well give nothing but zeros."""
    torch.manual_seed(seed)
    system = catalog.build("features/autoencoder", {"bottleneck": 17, "maps": 4, "first": [4, 4]})
    with torch.no_grad():
        for layer in system.encoder.layers:
            layer.bias.fill_(0.2)
    return catalog.wrap(system, "features/autoencoder")


def traces(codes="ZNE", seconds=SECONDS, rate=RATE, station="ABC", seed=1, start=START):
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    return Stream(
        [
            Trace(
                (1e3 * rng.standard_normal(n)).astype(np.float32),
                {"network": "XX", "station": station, "channel": f"BH{c}", "sampling_rate": rate, "starttime": start},
            )
            for c in codes
        ]
    )


def written(folder, stream, pieces=1):
    """The stream in so many files, one after the other."""
    folder.mkdir()
    for k in range(pieces):
        part = Stream()
        for trace in stream:
            first, last = (len(trace) * j // pieces for j in (k, k + 1))
            piece = trace.copy()
            piece.data, piece.stats.starttime = trace.data[first:last], trace.stats.starttime + first * trace.stats.delta
            part.append(piece)
        part.write(str(folder / f"{k}.mseed"), format="MSEED")
    return folder


def test_a_row_is_the_systems_features_of_the_window_that_the_table_names(tmp_path):
    model, stream = tiny(), traces()
    store = embed(model, written(tmp_path / "day", stream), tmp_path / "f", hop_s=10.0)
    # opened as a stranger would
    array = np.load(tmp_path / "f" / "features.npy", mmap_mode="r")
    table = pd.read_parquet(tmp_path / "f" / "windows.parquet")
    about = json.loads((tmp_path / "f" / "features.json").read_text())
    assert len(array) == len(table) == len(store) and about["digest"] == model.digest
    starts = table["start_ns"].to_numpy(np.int64)
    # every 10 s since 1970, at the sample next to it, through the hour's end
    whole = table["valid"].to_numpy() == 1
    assert np.array_equal(np.diff(starts), np.full(len(starts) - 1, 10 * 10**9))
    assert (np.abs(starts / 1e9 % 10 - [0]) <= 0.025 + 1e-6).all() and whole.sum() >= 147
    for k in (0, 60, 100):
        at = round((starts[k] - START.ns) * RATE / 1e9)
        x = np.stack([t.data[at : at + 540] for t in stream]).astype(np.float64)
        x -= x.mean(1, keepdims=True)
        with torch.inference_mode():
            wanted = model.system.embed(torch.from_numpy(x / np.abs(x).max()).float()[None])[0].numpy()
        np.testing.assert_allclose(array[k], wanted, atol=1e-6 * np.abs(wanted).max())
    assert (table["components"] == "ZNE").all() and (table["station_code"] == "ABC").all()


def test_windows_do_not_depend_on_where_files_were_cut(tmp_path):
    model, stream = tiny(), traces(rate=50.0)
    one = embed(model, written(tmp_path / "one", stream), tmp_path / "f1", hop_s=9.0)
    many = embed(model, written(tmp_path / "many", stream, pieces=4), tmp_path / "f4", hop_s=9.0)
    assert np.array_equal(one.table["start_ns"], many.table["start_ns"])
    assert one.array.std() > 0 and np.abs(one.array - many.array).max() < 1e-5 * np.abs(one.array).max()


def same_bits(one, other):
    for name in ("features.npy", "norms.npy", "moments.npy"):
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes()
    pd.testing.assert_frame_equal(one.table, other.table)


def test_the_bits_do_not_depend_on_who_works(tmp_path, monkeypatch):
    from dask.distributed import LocalCluster

    monkeypatch.setattr(embedding, "PIECE", 40)
    source = written(tmp_path / "day", traces(seconds=3600) + traces(seconds=900, station="DEF"))
    one = embed(tiny(), source, tmp_path / "f1")
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        same_bits(one, embed(tiny(), source, tmp_path / "f2", scheduler=cluster.scheduler_address))
    with pytest.raises(SeislatentError, match="no Dask scheduler answers"):
        embed(tiny(), source, tmp_path / "f3", scheduler="nowhere")


@pytest.mark.slow
def test_the_bits_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "PIECE", 40)
    source = written(tmp_path / "day", traces(seconds=3600) + traces(seconds=900, station="DEF"))
    same_bits(embed(tiny(), source, tmp_path / "f1"), embed(tiny(), source, tmp_path / "f2", workers=2))


def test_a_killed_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "PIECE", 20)
    source = written(tmp_path / "day", traces(seconds=5000))
    whole = embed(tiny(), source, tmp_path / "whole")
    made = []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        original = embedding.make_part
        patch.setattr(embedding, "make_part", killed_with(original, made))
        embed(tiny(), source, tmp_path / "part")
    assert len(made) == 1 and not (tmp_path / "part" / "windows.parquet").exists()
    again = embed(tiny(), source, tmp_path / "part")
    assert (tmp_path / "part" / "features.npy").read_bytes() == (tmp_path / "whole" / "features.npy").read_bytes()
    assert len(again) == len(whole) and not (tmp_path / "part" / "parts").exists()


def killed_with(original, made):
    def work(*given):
        if made:
            raise KeyboardInterrupt
        made.append(given[-1].name)
        return original(*given)

    return work


def test_what_is_appended_moves_nothing(tmp_path):
    model = tiny()
    first, second = written(tmp_path / "a", traces()), written(tmp_path / "b", traces(seed=2, station="DEF"))
    store = embed(model, first, tmp_path / "f")
    array, norms, held = np.array(store.array), np.array(store.norms), len(store)
    both = embed(model, second, tmp_path / "f", append=True)
    assert len(both) > held
    np.testing.assert_array_equal(both.array[:held], array)
    np.testing.assert_array_equal(both.norms[:held], norms)
    z = (both.array - both.moments[0]) / both.moments[1]
    np.testing.assert_allclose(both.norms, np.linalg.norm(z, axis=1), rtol=1e-4)
    assert set(both.table["station_code"][held:]) == {"DEF"}
    again = embed(model, second, tmp_path / "f", append=True)  # the same command once more adds nothing
    assert len(again) == len(both)


@pytest.mark.parametrize("where", ["norms", "write_about", "_append_table"])
def test_killed_while_appending_leaves_the_store_of_before(tmp_path, monkeypatch, where):
    model = tiny()
    first, second = written(tmp_path / "a", traces()), written(tmp_path / "b", traces(seed=2))
    held = len(embed(model, first, tmp_path / "f"))
    with monkeypatch.context() as patch:

        def killed(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(feature_store, where, killed)
        with pytest.raises(KeyboardInterrupt):
            embed(model, second, tmp_path / "f", append=True)
    assert len(Features(tmp_path / "f")) == held
    both = embed(model, second, tmp_path / "f", append=True)
    clean = tmp_path / "clean"
    embed(model, first, clean)
    embed(model, second, clean, append=True)
    assert len(both) > held
    for name in ("features.npy", "norms.npy"):
        assert (tmp_path / "f" / name).read_bytes() == (clean / name).read_bytes()


def test_gaps_missing_components_and_dead_ones(tmp_path):
    stream = traces("ZN")
    stream[1].data[:] = 7.0  # never moves
    gap = stream.copy()
    gap.trim(endtime=START + 300)
    stream.trim(starttime=START + 400)
    folder = tmp_path / "day"
    folder.mkdir()
    (gap + stream).write(str(folder / "x.mseed"), format="MSEED")
    model = tiny()
    store = embed(model, folder, tmp_path / "f")
    assert (store.table["components"] == "Z").all()
    inside = (store.table["start_ns"].astype("int64") - START.ns) / 1e9
    assert not ((inside > 290) & (inside < 380)).any() and store.about["runs"][-1]["left_out"]["windows with too few samples"] > 0
    assert 0.5 <= store.table["valid"].min() < 1 == store.table["valid"].max()
    assert np.isfinite(store.array).all()


def test_records_are_cut_from_their_beginning(tmp_path):
    rng = np.random.default_rng(0)
    channels = tuple(Channel(network="XX", station="S", code=f"HH{c}", component=c) for c in "ENZ")
    records = [
        Waveform(
            data=rng.standard_normal((3, n)), sampling_rate_hz=100.0, channels=channels, start_ns=10**18 + k * 10**12,
            metadata={"trace_name": f"r{k}", "source_id": f"e{k}"},
        )
        for k, n in enumerate((2700, 6000, 1000))
    ]  # fmt: skip
    write_seisbench(tmp_path / "set", records)
    store = embed(tiny(), tmp_path / "set", tmp_path / "f", hop_s=27.0)
    table = store.table
    assert table["trace_name"].str.contains("r0").sum() == 1 and table["trace_name"].str.contains("r1").sum() == 2
    assert table["offset_s"].tolist() == [0.0, 0.0, 27.0]  # 6 s are left of the second record; the third has 10 s of 27
    assert store.about["runs"][-1]["left_out"]["windows with too few samples"] == 2
    # rows come in the order Z, N, E
    source = WindowSource(tmp_path / "set")
    x = source.windows(0, Cut(sampling_rate_hz=100.0, samples=2700, hop_s=27.0)).x[0]
    wanted = records[0].data[::-1] - records[0].data[::-1].mean(1, keepdims=True)
    np.testing.assert_allclose(x, wanted / np.abs(wanted).max(), atol=1e-5)


def test_pooled_features_forget_where_within_a_part_something_stood():
    maps = torch.zeros(1, 3, 68)
    maps[0, 1, 4] = 2.0
    moved = maps.roll(9, -1)
    assert torch.equal(pooled(maps, 4), pooled(moved, 4)) and pooled(maps, 4).shape == (1, 12)
    assert pooled(maps, 4)[0, 4] == pytest.approx(2 / np.sqrt(17))
    with pytest.raises(SeislatentError, match="fewer with --pool"):
        pooled(maps, 69)


def test_a_classifiers_dense_layer(tmp_path):
    torch.manual_seed(0)
    inner = {"system": "features/autoencoder", "config": {"bottleneck": 17, "maps": 4, "first": [4, 4]}}
    head = catalog.wrap(catalog.build("features/classifier", {"encoder": inner, "dense": 12}), "features/classifier")
    source = written(tmp_path / "day", traces(seconds=200))
    store = embed(head, source, tmp_path / "f")
    x = WindowSource(source).windows(0, Cut(**store.about["cut"])).x
    with torch.inference_mode():
        dense = head.system.head.described(head.system.footing(torch.from_numpy(x)))
    np.testing.assert_allclose(store.array[5], dense[5], atol=1e-6)
    assert store.array.shape[1] == 12 and dense[5].abs().max() > 0


def test_what_does_not_fit_is_told_in_a_line(tmp_path):
    model, source = tiny(), written(tmp_path / "day", traces(seconds=120))
    with pytest.raises(SeislatentError, match="gives no features"):
        embed(NoEmbedder(), source, tmp_path / "f")
    with pytest.raises(SeislatentError, match=r"takes windows of 27 s, not 30 s"):
        embed(model, source, tmp_path / "f", length_s=30.0)
    with pytest.raises(SeislatentError, match=r"windows every 0\.01 s"):
        embed(model, source, tmp_path / "f", hop_s=0.01)
    with pytest.raises(SeislatentError, match="high pass"):
        embed(model, source, tmp_path / "f", highpass_hz=9.5)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(SeislatentError, match=r"holds other files|no store of features"):
            embed(model, source, tmp_path / "other", overwrite=overwrite)
    embed(model, source, tmp_path / "f")
    with pytest.raises(SeislatentError, match="another system"):
        embed(tiny(seed=1), source, tmp_path / "f")
    with pytest.raises(SeislatentError, match="another hop"):
        embed(model, source, tmp_path / "f", hop_s=5.0)
    with pytest.raises(SeislatentError, match="another source"):
        embed(model, written(tmp_path / "more", traces(seed=3, seconds=120)), tmp_path / "f")
    array = (tmp_path / "f" / "features.npy").read_bytes()
    (tmp_path / "f" / "features.npy").write_bytes(array[: len(array) // 2])
    with pytest.raises(SeislatentError, match="damaged"):
        Features(tmp_path / "f")
    assert len(embed(model, source, tmp_path / "f", overwrite=True))


class NoEmbedder:
    name, digest, about, system = "codec/none", "0", {}, torch.nn.Linear(1, 1)
