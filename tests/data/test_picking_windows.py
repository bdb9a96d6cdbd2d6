"""Training windows of pickers, from stores of events and noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from seislatent import stores
from seislatent.data.picking_windows import PickingWindows, PickingWindowsConfig
from seislatent.errors import SeislatentError
from seislatent.io.seisbench import write_seisbench
from seislatent.waveform import Channel, Waveform

RATE_HZ = 100.0
CALM = dict.fromkeys(
    ("quiet", "played", "joined", "noisy", "rotated", "lower_rate", "highpassed", "lowpassed", "other_motion", "clipped", "counted",
     "glitches", "alone", "dropped", "gapped"), 0.0
)  # fmt: skip


def event(i, s=True, components="ZNE", rate=RATE_HZ, seconds=60.0):
    """Silence but for a step of 1000 at P and one of 2000 at S, on noise."""
    n = round(seconds * rate)
    p, arrival_s = round((20 + i % 7) * rate), round((26 + i % 7) * rate)
    x = np.random.default_rng(i).normal(size=(len(components), n)).astype(np.float32)
    x[:, p:] += 1000
    x[:, arrival_s:] += 2000
    channels = tuple(Channel(network="XX", station=f"S{i}", code=f"HH{c}", component=c) for c in components)
    told = {"trace_name": f"e{i}", "source_id": f"q{i}", "trace_p_arrival_sample": float(p), "source_type": "earthquake"}
    told["trace_s_arrival_sample"] = float(arrival_s) if s else float("nan")
    return Waveform(data=x, sampling_rate_hz=rate, channels=channels, start_ns=(i + 1) * 10**15, metadata=told)


def quiet(i):
    x = np.random.default_rng(1000 + i).normal(size=(3, 6000)).astype(np.float32)
    channels = tuple(Channel(network="XX", station=f"N{i}", code=f"HH{c}", component=c) for c in "ZNE")
    told = {"trace_name": f"n{i}", "source_id": f"m{i}", "trace_category": "noise"}
    return Waveform(data=x, sampling_rate_hz=RATE_HZ, channels=channels, start_ns=(i + 100) * 10**15, metadata=told)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Stores of events (some at 50 Hz, one vertical alone, some without S) and of noise."""
    place = tmp_path_factory.mktemp("picking")
    events = [event(i, s=i % 3 != 0) for i in range(24)] + [
        event(24, components="Z"),
        event(25, rate=50.0),
        event(26, seconds=30.0),
    ]
    write_seisbench(place / "events", events)
    write_seisbench(place / "noise", [quiet(i) for i in range(12)])
    keys = {"sampling_rate_hz": "100", "samples": "5000", "scale": "none"}
    one = stores.prepare("data/picking", place / "events", place / "e", workers=1)
    two = stores.prepare("data/noise", place / "noise", place / "n", recipe_keys=keys, workers=1)
    return [one.path, two.path]


def windows(made, seed=0, batch=16, **config):
    return PickingWindows(PickingWindowsConfig(**(CALM | {"window": 2048} | config)), made, batch=batch, seed=seed)


def test_records_keep_what_they_have_at_one_rate(made):
    from seislatent.data.store import Store

    table = Store(made[0]).metadata
    assert len(table) == 27 and set(table["trace_sampling_rate_hz"]) == {100.0}
    one = table[table["trace_name"] == "e24"].iloc[0]
    assert one["trace_component_order"] == "Z"
    slow = table[table["trace_name"] == "e25"].iloc[0]
    assert slow["trace_p_arrival_sample"] == 2400 and slow["trace_npts"] == 6000
    assert {"train", "dev"} <= set(table["split"]) and pd.isna(table.set_index("trace_name").loc["e0", "trace_s_arrival_sample"])


def test_marks_stand_where_the_arrivals_are(made):
    batch = windows(made).batch(0, 0, 1)
    assert batch.x.shape == (16, 3, 2048) and batch.condition.shape == (16, 4) and batch.mask.shape == (16, 2, 2048)
    x, marks = batch.x.numpy(), batch.condition.numpy()
    assert np.isnan(marks[:, 2:]).all() and np.isfinite(marks[:, 0]).sum() >= 8 and np.isfinite(marks[:, 1]).sum() >= 3
    for i in range(16):
        for k in (0, 1):
            if 40 < marks[i, k] < 2000:
                at = int(marks[i, k])
                z = x[i, 0] * (1000 / np.abs(x[i, 0, at + 3] - x[i, 0, at - 3]))
                assert abs(z[at + 3] - z[at - 3]) > 990 and np.abs(np.diff(z[at - 30 : at - 3])).max() < 200  # of 50 Hz it rings
    places = marks[np.isfinite(marks)]
    assert places.min() < 600 and places.max() > 1400


def test_played_windows_keep_their_marks(made):
    batch = windows(made, played=1.0, speeds=(0.6, 1.6)).batch(0, 0, 1)
    x, p = batch.x.numpy(), batch.condition.numpy()[:, 0]
    checked = 0
    for i in np.flatnonzero(np.isfinite(p)):
        at = int(p[i])
        if 60 < at < 1950 and bool(batch.valid[i, 0].all()):
            jump = np.abs(x[i, 0, 8:] - x[i, 0, :-8])
            near = jump[max(0, at - 40) : at + 40].max()
            assert near > 0.4 * jump.max()
            checked += 1
    assert checked > 5


def test_s_that_nobody_read_is_not_known_from_p_on(made):
    source = windows(made, batch=64)
    batch = source.batch(0, 0, 1)
    marks, known = batch.condition.numpy(), batch.mask.numpy()
    some = 0
    for i in range(64):
        assert known[i, 0].all()
        if known[i, 1].all():
            continue
        first = int(np.argmin(known[i, 1]))
        assert np.isnan(marks[i, 1]) and not known[i, 1, first:].any()
        assert first == 0 or abs(first - marks[i, 0]) <= 1
        some += 1
    assert 5 < some < 60


def test_an_arrival_in_a_gap_is_not_known(made):
    batch = windows(made, batch=64, gapped=1.0).batch(0, 0, 1)
    marks, known, given = batch.condition.numpy(), batch.mask.numpy(), batch.valid.numpy().any(1)
    for i, k in zip(*np.nonzero(np.isfinite(marks)), strict=True):
        assert given[i, int(marks[i, k])]
    assert (~known[:, 0]).any() and known[:, 0].mean() > 0.97


def test_events_are_joined_and_noise_is_added(made):
    batch = windows(made, joined=1.0).batch(0, 0, 1)
    assert np.isfinite(batch.condition[:, 2].numpy()).sum() > 4
    calm, noisy = (windows(made, noisy=share, noise_snr_db=(0.0, 0.0)).batch(0, 0, 1).x.numpy() for share in (0.0, 1.0))
    calm, noisy = (w / np.abs(w).max((1, 2), keepdims=True) for w in (calm, noisy))
    assert np.abs(calm - noisy).max() > 0.05
    still = windows(made, quiet=1.0).batch(0, 0, 1)
    assert np.isnan(still.condition.numpy()).all() and still.mask.all()


def test_noise_in_which_a_picker_found_something_is_left_out(made, tmp_path):
    """Four of the twelve records of noise hold a pick; a pick just before or after one, or at another station, is none of its."""
    lines = ["station_network_code,station_code,phase,time_ns"]
    lines += [f"XX,N{i},P,{(i + 100) * 10**15 + 20 * 10**9}" for i in range(4)]
    lines += [f"XX,N{i},S,{(i + 100) * 10**15 + shift * 10**9}" for i, shift in ((5, -1), (6, 70))]
    lines += [f"XX,N8,P,{107 * 10**15 + 10**9}"]
    (tmp_path / "picks.csv").write_text("\n".join(lines) + "\n")
    kept = {}
    for path in ("", str(tmp_path / "picks.csv")):
        kept[path] = len(windows(made, noise_without=path).noises)
        for split in ("dev", "test"):
            try:
                kept[path] += len(windows(made, noise_without=path).of(split).noises)
            except SeislatentError:
                continue
    assert kept[""] - kept[str(tmp_path / "picks.csv")] == 4


def test_a_window_is_a_function_of_seed_step_and_place(made):
    source = windows(made, **{name: 0.3 for name in CALM})
    whole, again = source.batch(3, 0, 1), source.batch(3, 0, 1)
    parts = [source.batch(3, rank, 2) for rank in range(2)]
    for name in ("x", "valid", "condition", "mask"):
        assert torch.equal(getattr(whole, name).nan_to_num(-1), getattr(again, name).nan_to_num(-1))
        both = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(both, getattr(whole, name), equal_nan=True, rtol=0, atol=0)
    assert not torch.equal(whole.x, source.batch(4, 0, 1).x)
    assert torch.isfinite(whole.x).all() and (whole.x[~whole.valid] == 0).all()


def test_other_splits_come_calm_and_the_same_each_time(made):
    held = windows(made, held=40, glitches=0.5, played=1.0).of("dev")
    assert held.config.glitches == held.config.played == 0 and held.config.split == "dev"
    one, two = (list(held.once()) for _ in range(2))
    assert len(one) == 3 and all(torch.equal(a.x, b.x) for a, b in zip(one, two, strict=True))


def test_what_cannot_be_is_refused(made):
    with pytest.raises(SeislatentError, match="no record of the split 'train' has P"):
        windows(made[1:])
    with pytest.raises(SeislatentError, match="eventz"):
        windows(made, sets={"eventz": 1.0})
    with pytest.raises(SeislatentError, match="above 0"):
        windows(made, sets={"events": 0.0})
    with pytest.raises(SeislatentError, match=r"recipe\.batch"):
        windows(made, batch=5).batch(0, 0, 2)
