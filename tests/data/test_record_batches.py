"""Batches from stores: the right windows of the right records, x * scale the record, with what belongs to them."""

import errno
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from seislatent import config
from seislatent.data import shared
from seislatent.data.recipe import Made
from seislatent.data.record_batches import RecordBatches, RecordBatchesConfig, scale_of
from seislatent.data.sampling import BalanceConfig
from seislatent.data.shards import ShardWriter, finish
from seislatent.engine.order import Steps, ordered
from seislatent.errors import SeislatentError, UsageError
from seislatent.prepare.augment import AugmentConfig, Windows
from seislatent.waveform import Channel, Waveform

RATE_HZ, LENGTH = 20.0, 400
PLAIN = RecordBatchesConfig(length_s=10.0, scale="none")


def record(i, *, npts=LENGTH, components="ZNE", rate=RATE_HZ, split="train", level=1.0, kind=np.float32, **told):
    """Sample k of component c of record i is level * (1000 i + 100 c + a wiggle that tells k)."""
    time = np.arange(npts)
    number = "ZNE12".index
    rows = [level * (1000 * i + 100 * number(c) + time / npts) for c in components]
    channels = tuple(Channel(network="XX", station=f"S{i}", code=f"HH{c}", component=c) for c in components)
    told = {"trace_name": f"r{i}", "split": split, "trace_p_arrival_sample": 100.0 + i, "source_magnitude": i / 10, **told}
    return Waveform(
        data=np.array(rows).astype(kind), sampling_rate_hz=rate, channels=channels, start_ns=i * 10**9, unit="m/s", metadata=told
    )  # fmt: skip


def store(path, waveforms, *, others=None, per_shard=7):
    for number, k in enumerate(range(0, len(waveforms), per_shard)):
        with ShardWriter(path, number) as shard:
            for w in waveforms[k : k + per_shard]:
                shard.add(Made(record=w, others={n: f(w.data) for n, f in (others or {}).items()}))
    finish(path, {"recipe": "test"})
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """20 records of training, 6 of dev."""
    made = [record(i, source_id=f"e{i // 4}", trace_category="noise" if i % 2 else "earthquake") for i in range(20)]
    made += [record(i, split="dev") for i in range(20, 26)]
    return store(tmp_path_factory.mktemp("stores") / "plain", made, others={"broad": lambda x: 3 * x})


def batches(folder, batch=5, seed=0, like=PLAIN, **changes):
    folders = folder if isinstance(folder, list) else [folder]
    return RecordBatches(replace(like, **changes), folders, batch=batch, seed=seed)


def who(batch):
    """Number of each record and the sample at which its window begins, from N (100 above 1000 i)."""
    value = (batch.x * batch.scale[..., None])[:, 1, 0].double().numpy() if batch.scale is not None else batch.x[:, 1, 0]
    number = np.floor(value / 1000).astype(int)
    return number, np.round((value - 1000 * number - 100) * LENGTH).astype(int)


def equal(a, b):
    for name in ("x", "valid", "scale", "target", "label", "condition", "group"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None and not torch.allclose(one, other, rtol=0, atol=0, equal_nan=True):
            return False
    return True


def test_a_batch_is_windows_of_records_as_they_are(plain):
    source = batches(plain)
    batch = source.batch(0, 0, 1)
    assert batch.x.shape == (5, 3, 200) and batch.x.dtype == torch.float32 and batch.valid.all() and batch.valid.dtype == torch.bool
    assert (batch.scale == 1).all() and batch.target is None and batch.condition is None and batch.group is None
    number, first = who(batch)
    for i, k, x in zip(number, first, batch.x.numpy(), strict=True):
        assert np.array_equal(x, record(i).data[:, k : k + 200])
    assert len(source) == 20 and source.steps == 4


def test_each_record_of_the_split_comes_once_per_epoch_at_another_place(plain):
    source = batches(plain)
    for epoch in range(2):
        assert sorted(np.concatenate([who(source.batch(4 * epoch + k, 0, 1))[0] for k in range(4)])) == list(range(20))
    first = np.concatenate([who(source.batch(k, 0, 1))[1] for k in range(400)])
    assert first.min() == 0 and first.max() == 200
    assert np.histogram(first, 4, (0, 201))[0].min() > 430


FULL = {
    "augment": AugmentConfig(shift_s=1.0, rotated=1.0, reversed=0.5, amplitude=(0.1, 10.0), dropped=0.3, gapped=0.5),
    "conditions": ("source_magnitude", "trace_p_arrival_sample"),
    "target": "broad",
    "label": "trace_category",
    "classes": ("noise", "earthquake"),
}


def test_a_batch_is_a_pure_function(plain):
    source = batches(plain, **FULL)
    batch = source.batch(3, 0, 1)
    source.batch(8, 0, 1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert equal(source.batch(3, 0, 1), batch) and equal(batches(plain, **FULL).batch(3, 0, 1), batch)
    assert equal(pickle.loads(pickle.dumps(source)).batch(3, 0, 1), batch)
    assert not equal(source.batch(4, 0, 1), batch) and not equal(batches(plain, seed=1, **FULL).batch(3, 0, 1), batch)


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_processes_are_the_batch_of_one(plain, world):
    """Augmentations and windows too: what a record gets does not depend on how many processes share the step."""
    source = batches(plain, batch=6, **FULL)
    whole, parts = source.batch(7, 0, 1), [source.batch(7, rank, world) for rank in range(world)]
    for name in ("x", "valid", "scale", "target", "label", "condition"):
        together = torch.cat([getattr(p, name) for p in parts])
        assert torch.allclose(together, getattr(whole, name), rtol=0, atol=0, equal_nan=True), name
    with pytest.raises(SeislatentError, match=r"6 records does not divide over 4 processes: change recipe.batch"):
        source.batch(0, 0, 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_worker_processes_give_the_same(plain, workers):
    source = batches(plain, **FULL)
    got = [b for parts in ordered(Steps(source, 0, 1, 1), 2, 6, workers) for b in parts]
    assert len(got) == 4 and all(equal(b, source.batch(2 + k, 0, 1)) for k, b in enumerate(got))
    assert all(b.x.is_shared() == bool(workers) for b in got)


def test_a_worker_writes_in_pieces_and_tells_when_memory_is_full(monkeypatch):
    monkeypatch.setattr(shared, "get_worker_info", lambda: object())
    monkeypatch.setattr(shared, "keep_freed_memory", lambda: None)
    write = os.pwrite
    monkeypatch.setattr(shared.os, "pwrite", lambda file, data, at: write(file, data[:7], at))
    for values in (np.arange(30.0).reshape(2, 3, 5)[:, ::-1], np.array([[True, False]]), np.arange(5), np.zeros((0, 3))):
        assert torch.equal(shared.tensor(values), torch.from_numpy(np.ascontiguousarray(values)))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shared.os, "pwrite", full)
    with pytest.raises(SeislatentError, match=r"no shared memory for 40 bytes of a batch \(No space left on device\)"):
        shared.tensor(np.arange(5))


def test_windows_around_and_at_the_arrival(plain):
    around = batches(plain, start="around arrival", label="trace_p_arrival_sample")
    places = []
    for step in range(200):
        batch = around.batch(step, 0, 1)
        number, first = who(batch)
        assert np.array_equal(batch.label.numpy(), (100 + number - first).astype(np.float32))
        places += batch.label.tolist()
    assert 0 <= min(places) < 8 and 110 < max(places) < 120
    at = batches(plain, start="at arrival", arrival_s=(2.0, 2.0), label="trace_p_arrival_sample")
    batch = at.batch(0, 0, 1)
    assert (batch.label == 40).all() and np.array_equal(who(batch)[1], 60 + who(batch)[0])
    drawn = batches(plain, start="at arrival", arrival_s=(1.0, 3.0), label="trace_p_arrival_sample")
    places = torch.cat([drawn.batch(k, 0, 1).label for k in range(40)])
    assert places.min() >= 20 and places.max() <= 60 and places.min() < 24 and places.max() > 56


def test_what_the_record_does_not_reach_is_zero_and_not_valid(plain):
    early = batches(plain, start="at arrival", arrival_s=(7.0, 7.0), label="trace_p_arrival_sample", scale="peak")
    batch = early.batch(0, 0, 1)
    number = np.floor((batch.x * batch.scale[..., None])[:, 1, -1].numpy() / 1000).astype(int)
    for i, x, valid, scale in zip(number, batch.x.numpy(), batch.valid.numpy(), batch.scale.numpy(), strict=True):
        before = 140 - (100 + i)
        assert not valid[:, :before].any() and valid[:, before:].all() and not x[:, :before].any()
        np.testing.assert_allclose(x[:, before:] * scale[:, None], record(i).data[:, : 200 - before], rtol=1e-6)
    assert (batch.label == 140).all()


def test_beginning_and_length_in_samples(plain):
    batch = batches(plain, start="beginning", length=64).batch(0, 0, 1)
    assert batch.x.shape[2] == 64 and (who(batch)[1] == 0).all()


def test_components_in_the_order_asked_for(plain):
    batch = batches(plain, components="EZ", start="beginning").batch(0, 0, 1)
    number = np.floor(batch.x[:, 1, 0].numpy() / 1000).astype(int)
    assert all(np.array_equal(x, record(i).data[[2, 0], :200]) for i, x in zip(number, batch.x.numpy(), strict=True))


def test_target_has_the_same_window_and_scale(plain):
    batch = batches(plain, target="broad", scale="peak").batch(0, 0, 1)
    np.testing.assert_allclose(batch.target, 3 * batch.x, rtol=1e-6)


def test_another_array_may_be_x_and_the_record_the_target(plain):
    batch = batches(plain, array="broad", target="x", scale="peak").batch(0, 0, 1)
    np.testing.assert_allclose(batch.target * 3, batch.x, rtol=1e-6)
    assert (batch.x.abs().amax((1, 2)) == 1).all()


def test_classes_conditions_and_what_is_missing(tmp_path):
    made = [record(i, trace_category=["noise", "earthquake", None][i % 3], source_depth_km=None if i else 7.0) for i in range(6)]
    folder = store(tmp_path / "s", made)
    asked = {"label": "trace_category", "classes": ("noise", "earthquake"), "conditions": ("source_magnitude", "source_depth_km")}
    with pytest.raises(SeislatentError, match=r"2 of 6 records have another trace_category than noise, earthquake \(none\)"):
        batches(folder, **asked)
    batch = batches(folder, batch=4, other_classes="leave out", **asked).batch(0, 0, 1)
    number = who(batch)[0]
    assert sorted(number) == [0, 1, 3, 4] and batch.label.dtype == torch.int64
    assert np.array_equal(batch.label.numpy(), number % 3)
    np.testing.assert_allclose(batch.condition[:, 0], number / 10)
    assert np.array_equal(np.isnan(batch.condition[:, 1].numpy()), number != 0)


def test_sample_numbers_move_with_window_and_shift(plain):
    asked = {"conditions": ("trace_p_arrival_sample",), "label": "trace_p_arrival_sample"}
    moved = batches(plain, start="beginning", augment=AugmentConfig(shift_s=2.0), **asked)
    for step in range(8):
        batch = moved.batch(step, 0, 1)
        assert torch.equal(batch.condition[:, 0], batch.label)
        for x, valid, p in zip(batch.x.numpy(), batch.valid.numpy(), batch.label.numpy(), strict=True):
            i = int(np.max(x[1]) // 1000)
            k = int(p)
            assert valid[1, k] and x[1, k] == record(i).data[1, 100 + i]


@pytest.mark.parametrize("how", ["none", "peak", "peak per component", "deviation", "deviation per component"])
@pytest.mark.parametrize("level", [1e6, 1.0, 1e-6, 1e-12, 0.0])
def test_x_times_scale_is_the_record(tmp_path, how, level):
    rng = np.random.default_rng(0)
    made = []
    for i in range(4):
        w = record(i)
        made.append(replace(w, data=(level * rng.normal(size=(3, LENGTH)) * [[1], [5], [0.1]]).astype(np.float32)))
    batch = batches(store(tmp_path / "s", made), batch=4, start="beginning", length=LENGTH, scale=how).batch(0, 0, 1)
    found = (batch.x * batch.scale[..., None]).numpy()
    assert batch.scale.shape == (4, 3)
    each = {min(range(4), key=lambda i: np.abs(made[i].data - x).max()) for x in found}
    if not level:
        assert not found.any() and (batch.scale == 1).all() and not batch.valid.any()
        return
    assert each == set(range(4))
    for x in found:
        best = min((w.data for w in made), key=lambda d: np.abs(d - x).max())
        np.testing.assert_allclose(x, best, rtol=1e-6)
    peaks, loud = np.abs(batch.x.numpy()).max(2), batch.x.numpy().std(2)
    if how == "peak":
        assert (peaks.max(1) == 1).all() and (batch.scale == batch.scale[:, :1]).all()
    elif how == "peak per component":
        assert (peaks == 1).all()
    elif how == "deviation":
        np.testing.assert_allclose(np.sqrt((loud**2).mean(1)), 1, rtol=1e-4)
    elif how == "deviation per component":
        np.testing.assert_allclose(loud, 1, rtol=1e-4)


def test_the_deviation_is_over_valid_samples():
    x = np.zeros((1, 1, 8), np.float32)
    x[0, 0, :4] = [1, -1, 3, 1]
    valid = np.arange(8)[None, None] < 4
    it = Windows(x=x, valid=valid, components="Z", sampling_rate_hz=1.0)
    assert scale_of(it, "deviation")[0, 0] == pytest.approx(np.std([1, -1, 3, 1]))


def test_gaps_dead_components_and_counts(tmp_path):
    gapped = record(1, kind=np.float64)
    gapped.data[1, 30:50] = np.nan
    dead = record(2)
    dead.data[0] = 5.0
    counts = record(3, level=100.0, kind=np.int32)
    folder = store(tmp_path / "s", [gapped, dead, counts])
    source = batches(folder, batch=3, start="beginning", length=LENGTH, scale="peak per component")
    batch = next(source.once())
    assert batch.x.isfinite().all() and (batch.x[~batch.valid] == 0).all()
    bad = (~batch.valid).sum(2).tolist()
    assert bad == [[0, 20, 0], [LENGTH, 0, 0], [0, 0, 0]]
    assert not batch.valid[0, 1, 30:50].any() and batch.scale[1, 0] == 1
    np.testing.assert_allclose(batch.x[2] * batch.scale[2][:, None], counts.data, rtol=1e-6)


def test_records_that_lack_something(tmp_path):
    made = [record(0), record(1, components="ZN"), record(2, npts=100), record(3, trace_p_arrival_sample=None)]
    folder = store(tmp_path / "s", made)
    asked = {"length": 200, "batch": 1}
    with pytest.raises(SeislatentError, match=r"1 of 4 records lack one of the components ZNE: set lacking to 'leave out' or zero"):
        batches(folder, **asked)
    with pytest.raises(SeislatentError, match=r"1 of 4 records are shorter than the window of 200 samples: set short to"):
        batches(folder, lacking="zero", **asked)
    around = {**asked, "lacking": "zero", "short": "pad", "start": "around arrival"}
    with pytest.raises(SeislatentError, match=r"2 of 4 records have no trace_p_arrival_sample within them: set without_arrival"):
        batches(folder, **around)
    assert len(batches(folder, lacking="leave out", short="leave out", **asked)) == 2
    assert len(batches(folder, **{**around, "without_arrival": "leave out"})) == 2
    every = batches(folder, **{**around, "without_arrival": "random", "batch": 4})
    batch = next(every.once())
    assert batch.valid[0].all() and not batch.valid[1, 2].any() and batch.valid[1, :2].all()
    assert (batch.x[1, 2] == 0).all() and (batch.x[1, 1] >= 1100).all()
    assert batch.valid[2, :, :100].all() and not batch.valid[2, :, 100:].any()
    short = {"lacking": "leave out", "short": "leave out"}
    with pytest.raises(SeislatentError, match="all 4 records of the split 'train' are left out"):
        batches(folder, **{**asked, **short, "length": 1000})


def test_rates_must_be_one(tmp_path):
    folder = store(tmp_path / "s", [record(0), record(1), record(2, rate=50.0)])
    with pytest.raises(SeislatentError, match=r"rates 20 Hz \(2\), 50 Hz \(1\), training takes one: make a store"):
        batches(folder)
    same = store(tmp_path / "t", [record(0)])
    with pytest.raises(SeislatentError, match=r"20 Hz \(1\), training takes 40 Hz"):
        batches(same, batch=1, sampling_rate_hz=40.0)
    assert batches(same, batch=1, sampling_rate_hz=20.0).rate == 20.0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"split": "tset"}, r"no record of the split 'tset' \(there are: dev, train\)"),
        ({"target": "brod"}, "unknown array 'brod': did you mean 'broad'"),
        ({"conditions": ("source_magnitud",)}, "unknown column 'source_magnitud': did you mean 'source_magnitude'"),
        ({"conditions": ("source_id",)}, "the column source_id holds 'e0', no numbers"),
        ({"length_s": 0.001}, "windows of 0 samples at 20 Hz of the components 'ZNE': give one sample or more"),
        ({"components": "ZNZ"}, "of the components 'ZNZ': give one sample or more, and each component once"),
        ({"components": ""}, "of the components ''"),
        ({"balance": BalanceConfig(classes="source_typ")}, "unknown column 'source_typ'"),
        ({"components": "12"}, "20 of 20 records lack one of the components 12"),
        ({"group": "source_id", "per_group": (5, 5)}, r"no group has 5 records \(the largest has 4\)"),
        (
            {"group": "source_id", "balance": BalanceConfig(distance_edges_km=(1.0,), distance="source_magnitude")},
            "records of a group have several distances",
        ),
        ({"augment": AugmentConfig(noisy=0.5)}, "augment.noisy asks for noise"),
        (
            {"augment": AugmentConfig(rotated=1.0), "conditions": ("path_back_azimuth_deg",)},
            "unknown column 'path_back_azimuth_deg'",
        ),
    ],
)
def test_what_cannot_be_given_is_told(plain, changes, line):
    with pytest.raises(SeislatentError, match=line):
        batches(plain, **changes)


def test_no_azimuth_with_rotated_horizontals(tmp_path):
    folder = store(tmp_path / "s", [record(0, path_back_azimuth_deg=10.0)])
    assert batches(folder, batch=1, conditions=("path_back_azimuth_deg",)).batch(0, 0, 1).condition.item() == 10
    with pytest.raises(SeislatentError, match="rotated horizontals belong to no known azimuth"):
        batches(folder, batch=1, conditions=("path_back_azimuth_deg",), augment=AugmentConfig(rotated=1.0))


def test_a_folder_that_is_no_store(tmp_path):
    with pytest.raises(SeislatentError, match="is no record store: make one with seislatent prepare"):
        batches(tmp_path)
    with pytest.raises(SeislatentError, match="no record store is given"):
        batches([])


def test_groups_stay_whole_and_are_counted_on_each_process(plain):
    source = batches(plain, batch=12, group="source_id", per_group=(3, 3))
    parts = [source.batch(0, rank, 2) for rank in range(2)]
    for part in parts:
        assert part.group.tolist() == [0, 0, 0, 1, 1, 1] and part.group.dtype == torch.int64
        number = who(part)[0]
        assert len(set(number)) == 6 and all(len(set(number[part.group == g] // 4)) == 1 for g in range(2))
    events = {int(who(p)[0][k] // 4) for p in parts for k in (0, 3)}
    assert len(events) == 4


def test_records_without_a_group_are_left_out(tmp_path):
    made = [record(i, source_id=None if i < 3 else f"e{i % 2}") for i in range(9)]
    source = batches(store(tmp_path / "s", made), batch=4, group="source_id")
    assert len(source) == 6 and min(np.concatenate([who(source.batch(k, 0, 1))[0] for k in range(9)])) == 3


def test_balance_over_the_stores(plain, tmp_path):
    other = store(tmp_path / "other", [record(i) for i in range(30, 90)])
    shares = BalanceConfig(sets={"plain": 3.0, "other": 1.0})
    source = batches([plain, other], batch=8, balance=shares)
    number = np.concatenate([who(source.batch(k, 0, 1))[0] for k in range(100)])
    assert np.mean(number < 20) == pytest.approx(0.75, abs=0.04) and set(number) == {*range(20), *range(30, 90)}
    plainly = batches([plain, other], batch=8)
    assert sorted(np.concatenate([who(plainly.batch(k, 0, 1))[0] for k in range(10)])) == [*range(20), *range(30, 90)]
    with pytest.raises(SeislatentError, match="unknown set 'othr': did you mean 'other'"):
        batches([plain, other], balance=BalanceConfig(sets={"plain": 1.0, "othr": 1.0}))


def test_balance_over_magnitudes(plain):
    source = batches(plain, batch=8, balance=BalanceConfig(magnitude_edges=(0.2,)))
    number = np.concatenate([who(source.batch(k, 0, 1))[0] for k in range(100)])
    assert np.mean(number < 2) == pytest.approx(0.5, abs=0.05)


def test_noise_from_a_store(plain, tmp_path):
    rng = np.random.default_rng(0)
    noise = [replace(record(i), data=rng.normal(size=(3, 500)).astype(np.float32)) for i in range(5)]
    noise.append(replace(record(7, split="dev"), data=np.geomspace(1, 9e9, 1500, dtype=np.float32).reshape(3, 500)))
    folder = store(tmp_path / "noise", noise)
    quiet = batches(plain, start="beginning")
    loud = batches(plain, start="beginning", augment=AugmentConfig(noisy=1.0, noise=str(folder), noise_snr_db=(-20.0, -20.0)))
    a, b = quiet.batch(0, 0, 1).x.double(), loud.batch(0, 0, 1).x.double()
    signal = (a - a.mean(2, keepdim=True)).square().mean((1, 2))
    np.testing.assert_allclose((b - a).square().mean((1, 2)) / signal, 100, rtol=0.01)
    short = store(tmp_path / "short", [record(0, npts=50)])
    with pytest.raises(SeislatentError, match="noise needs records of 200 samples or more"):
        batches(plain, augment=AugmentConfig(noisy=1.0, noise=str(short)))


def test_dev_records_as_they_are_each_once(plain):
    source = batches(plain, batch=4, split="train", **FULL | {"label": "", "classes": ()})
    dev = source.of("dev")
    seen = list(dev.once())
    assert [len(b.x) for b in seen] == [4, 2] and sorted(np.concatenate([who(b)[0] for b in seen])) == list(range(20, 26))
    assert all(b.valid.all() for b in seen), "no gaps, no dropout"
    assert all(equal(a, b) for a, b in zip(seen, dev.once(), strict=True))


def test_settings_come_from_a_command_line():
    given = {"augment.reversed": "0.5", "balance.sets": "{a: 1.0, b: 2.0}", "components": "Z", "conditions": "[source_depth_km]"}
    made = config.load(RecordBatchesConfig, {"length_s": 20.0, "augment": {"shift_s": 1.0}}, given, option="--dataset.")
    assert (made.length_s, made.augment.shift_s, made.augment.reversed, made.components) == (20.0, 1.0, 0.5, "Z")
    assert made.balance.sets == {"a": 1.0, "b": 2.0} and made.conditions == ("source_depth_km",)
    assert config.load(RecordBatchesConfig, config.plain(made)) == made
    with pytest.raises(UsageError, match=r"did you mean '--dataset\.?augment.reversed'|did you mean 'augment.reversed'"):
        config.load(RecordBatchesConfig, {}, {"augment.reversd": "1"}, option="--dataset.")
    assert all(row.help for row in config.describe(RecordBatchesConfig))
