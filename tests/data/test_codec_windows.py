"""Training windows: the same for everyone who asks for the same step, and nothing of what is held out."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from seislatent.data.codec_windows import CodecWindows, CodecWindowsConfig
from seislatent.data.synthetic import earthquake, noise
from seislatent.errors import SeislatentError
from seislatent.io.seisbench import write_seisbench
from seislatent.waveform import Channel, Waveform

SMALL = CodecWindowsConfig(frames=6, margin_frames=2, validation=6, synthetic=0.2, mixed=0.3)
HOUR_NS = 3600 * 10**9
BEGIN_NS = 1_600_000_000 * 10**9


def record(rng, network, station, split, start_ns, event, rate=100.0, seconds=30.0):
    """Three components of an earthquake."""
    it = earthquake(rng, seconds, rate, magnitude=3.0, distance_km=30.0, depth_km=8.0)
    channels = tuple(replace(c, network=network, station=station) for c in it.channels)
    told = {**it.metadata, "source_id": event, "trace_name": f"{network}.{station}.{start_ns}", "split": split}
    told = {k: v for k, v in told.items() if k != "trace_start_time"}
    return replace(it, channels=channels, start_ns=start_ns, metadata=told)


def hours(rng, network, station, split, start_ns, rate=50.0, seconds=2000.0):
    """A record long enough to count as continuous."""
    x = noise(rng, int(seconds * rate), rate)[None].astype(np.float32)
    channel = Channel(network=network, station=station, code="BHZ", component="Z")
    told = {"split": split, "trace_name": f"{network}.{station}.{start_ns}"}
    return Waveform(data=x, sampling_rate_hz=rate, channels=(channel,), start_ns=start_ns, unit="m/s", metadata=told)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three sets: `near` and `far` with earthquakes, `long` with continuous noise."""
    top, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    splits = ["train"] * 4 + ["dev"] * 2 + ["test"]
    near = [record(rng, "AA", f"S{i % 3}", s, BEGIN_NS + i * HOUR_NS, f"near{i}") for i, s in enumerate(splits)]
    far = [record(rng, "BB", f"T{i}", "train", BEGIN_NS + (20 + i) * HOUR_NS, f"far{i}") for i in range(3)]
    far += [
        record(rng, "AA", "S2", "train", BEGIN_NS + 30 * HOUR_NS, "same station"),
        record(rng, "CC", "U1", "train", BEGIN_NS + 3 * HOUR_NS + 20 * 10**9, "same time"),
    ]
    long = [hours(rng, "DD", "V1", s, BEGIN_NS + (40 + i) * HOUR_NS) for i, s in enumerate(["train", "dev"])]
    for name, rows in (("near", near), ("far", far), ("long", long)):
        write_seisbench(top / name, rows)
    return top


def windows(folder, batch=6, seed=0, **changes):
    return CodecWindows(replace(SMALL, **changes), [folder], batch=batch, seed=seed)


@pytest.fixture(scope="module")
def source(folder):
    return windows(folder)


def counts(source, split="train"):
    return {name: len(spans) for name, spans in source.spans[split].items()}


def test_batch_is_a_pure_function_of_seed_and_step(source, folder):
    x = source.batch(3, 0, 1).x
    assert x.shape == (6, 1, (6 + 4) * 40) and x.dtype == torch.float64 and x.isfinite().all()
    source.batch(9, 0, 1)
    np.random.seed(5)
    torch.manual_seed(5)
    assert torch.equal(source.batch(3, 0, 1).x, x)
    assert torch.equal(windows(folder).batch(3, 0, 1).x, x)
    assert not torch.equal(source.batch(4, 0, 1).x, x)
    assert not torch.equal(windows(folder, seed=1).batch(3, 0, 1).x, x)
    assert all(not torch.equal(a, b) for i, a in enumerate(x) for b in x[:i])


@pytest.mark.parametrize("world", [2, 3, 6])
def test_shares_of_processes_are_the_batch_of_one(source, world):
    parts = [source.batch(7, rank, world).x for rank in range(world)]
    assert torch.equal(torch.cat(parts), source.batch(7, 0, 1).x)


def test_a_batch_that_does_not_divide_is_refused(source):
    with pytest.raises(SeislatentError, match=r"6 records does not divide over 4 processes: change recipe.batch"):
        source.batch(0, 0, 4)


def test_every_component_is_a_span_at_the_codecs_rate(source):
    """Three components at 100 Hz, 30 s; test records never, dev records apart. A continuous record has one speed."""
    assert counts(source) == {"far": 15, "long": 1, "near": 12}
    assert counts(source, "dev") == {"long": 1, "near": 6}
    assert {s.length for s in source.spans["train"]["near"]} == {1200}
    assert {s.length for s in source.spans["train"]["long"]} == {80_000}
    every = [s for split in source.spans.values() for spans in split.values() for s in spans]
    ends = sorted((s.start, s.start + s.length) for s in every)
    assert ends[0][0] == 0 and all(a[1] == b[0] for a, b in pairwise(ends))
    assert ends[-1][1] == len(source.samples)
    for spans in source.spans["train"].values():
        for span in spans:
            row = source.samples[span.start : span.start + span.length]
            assert np.isfinite(row).all() and 0.1 < np.abs(row).max() < 2


def test_shares_by_hours_and_as_given(folder, source):
    hour = {"far": 15 * 30 / 3600, "long": 2000 / 3600, "near": 12 * 30 / 3600}
    root = np.sqrt(list(hour.values()))
    np.testing.assert_allclose(source.shares, root / root.sum())
    given = windows(folder, shares={"far": 3.0, "long": 1.0, "near": 0.0})
    np.testing.assert_allclose(given.shares, [0.75, 0.25, 0])


def test_held_out_sets_take_their_stations_and_events_with_them(folder):
    """Of `far`, AA.S2 is a station of `near`, and CC.U1 starts 20 s after one of its events."""
    source = windows(folder, hold_out=("near",))
    assert counts(source) == {"far": 9, "long": 1} and counts(source, "dev") == {"long": 1}
    left = windows(folder, hold_out=("far",))
    assert "far" not in counts(left)
    # near: events 2 and 5 are AA.S2's, event 3 is near CC.U1's
    assert counts(left)["near"] == 6


def test_excluded_sets_are_gone_but_nothing_else_is(folder):
    assert counts(windows(folder, exclude=("near", "long"))) == {"far": 15}


def test_networks_of_a_set(folder):
    assert counts(windows(folder, networks={"far": ("BB", "CC")})) == {"far": 12, "long": 1, "near": 12}


def test_speeds_are_for_training_on_short_records(folder):
    source = windows(folder, speeds=(1.0, 0.5, 0.3))
    assert counts(source) == {"far": 45, "long": 1, "near": 36}
    assert counts(source, "dev") == {"long": 1, "near": 6}


def test_speeds_stop_at_half_the_codecs_rate(folder):
    assert counts(windows(folder, speeds=(1.0, 0.19))) == {"far": 15, "long": 1, "near": 12}


def test_short_records_go_on_as_their_mirror_image(folder):
    source = windows(folder, frames=60, synthetic=0.0, mixed=0.0, exclude=("long",))
    x = source.batch(0, 0, 1).x[:, 0]
    assert x.shape == (6, 64 * 40) and x.isfinite().all() and (x.std(1) > 0).all()


def test_windows_come_from_the_spans(folder):
    source = windows(folder, synthetic=0.0, mixed=0.0)
    row = np.asarray(source.samples, np.float64)
    for step in range(5):
        window = source.batch(step, 0, 1).x[0, 0].numpy()
        found = np.flatnonzero(np.isclose(np.abs(row[: len(row) - 399]), abs(window[0]), rtol=0, atol=0))
        assert any(np.array_equal(np.abs(row[i : i + 400]), np.abs(window)) for i in found)


class Perfect(torch.nn.Module):
    """Gives back each record with an error of 10^(-level / 2) of its standard deviation."""

    books = 3

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def encode(self, x, margin):
        return x[:, :, margin:-margin]

    def decode(self, x, level):
        sign = torch.where(torch.arange(x.shape[2]) % 2 == 0, 1.0, -1.0)
        return x + sign * 10.0 ** (-level / 2) * x.std(2, correction=0, keepdim=True)


def test_validation_tells_decibels_at_every_level(source):
    told = source.validate(Perfect())
    assert told == pytest.approx({"snr_db": 20.0, "snr_db/1": 10.0, "snr_db/2": 20.0, "snr_db/3": 30.0})
    assert source.held.shape == (6, 1, 400)
    assert source.validate(Perfect()) == told


def test_validation_of_a_codec_is_finite(source):
    from seislatent.systems.codec.eqcodec import EQCodec, EQCodecConfig

    torch.manual_seed(0)
    told = source.validate(EQCodec(EQCodecConfig(width=4, lstm_layers=1, latent=8, books=2, entries=8, discriminator_width=2)))
    assert told.keys() == {"snr_db", "snr_db/1", "snr_db/2"} and np.isfinite(list(told.values())).all()


def test_without_dev_records_validation_is_refused(folder):
    source = windows(folder, exclude=("near", "long"))
    assert source.held is None
    with pytest.raises(SeislatentError, match=r"no record of the `dev` split .* recipe.validate_every"):
        source.validate(Perfect())


def test_clear_errors_where_there_is_nothing_to_train_on(folder, tmp_path):
    with pytest.raises(SeislatentError, match=r"no record to train on; all are held out .* or too short"):
        windows(folder, exclude=("near", "far", "long"))
    with pytest.raises(SeislatentError, match="no record to train on"):
        windows(folder, shortest_s=5000.0)
    with pytest.raises(SeislatentError, match="does not exist"):
        windows(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeislatentError, match="holds no waveform file"):
        windows(tmp_path / "empty")


def test_records_that_cannot_be_used_are_left_out(tmp_path):
    rng = np.random.default_rng(1)
    good = [record(rng, "AA", f"S{i}", "train", BEGIN_NS + i * HOUR_NS, f"e{i}") for i in range(2)]
    data = good[1].data.copy()
    data[0, 100], data[1] = np.nan, 3.0
    slow = record(rng, "AA", "S3", "train", BEGIN_NS + 5 * HOUR_NS, "e5", rate=10.0)
    brief = record(rng, "AA", "S4", "train", BEGIN_NS + 6 * HOUR_NS, "e6", seconds=10.0)
    write_seisbench(tmp_path / "set", [good[0], replace(good[1], data=data), slow, brief])
    assert counts(windows(tmp_path / "set")) == {"set": 4}


def test_names_of_sets_that_are_not_there_change_nothing(folder, source):
    """A preset names the sets that it was made for; a user's folder may have none of them."""
    other = windows(folder, shares={"else": 2.0}, exclude=("other",), hold_out=("third",), networks={"fourth": ("XX",)})
    assert torch.equal(other.batch(0, 0, 1).x, source.batch(0, 0, 1).x)


def test_read_by_worker_processes(folder):
    """A `DataLoader` that forks hands the source on as it is; the windows are the same there."""
    loader = torch.utils.data.DataLoader(Steps(windows(folder)), batch_size=None, num_workers=1)
    assert [torch.equal(x, windows(folder).batch(i, 0, 1).x) for i, x in enumerate(loader)] == [True, True]


class Steps(torch.utils.data.Dataset):
    def __init__(self, source):
        self.source = source

    def __len__(self):
        return 2

    def __getitem__(self, step):
        return self.source.batch(step, 0, 1).x
