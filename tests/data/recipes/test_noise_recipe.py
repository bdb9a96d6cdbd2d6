"""Noise: before P, anywhere in continuous data, never over P, never with something in it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seislatent import config
from seislatent.data.recipes.noise import Noise, loudness
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform


def record(seconds=120.0, rate=100.0, components="ZNE", **metadata):
    rng = np.random.default_rng(3)
    return Waveform(
        data=rng.normal(size=(len(components), int(seconds * rate))), sampling_rate_hz=rate, start_ns=10**18, unit="counts",
        channels=tuple(Channel(station="ABC", code=f"HH{c}", component=c) for c in components),
        metadata={"trace_name": "a"} | metadata,
    )  # fmt: skip


def made(settings, *records, seed=0):
    recipe = Noise(config.load(Noise.Config, settings))
    return list(recipe.make(list(records), [np.random.default_rng([seed, i]) for i in range(len(records))]))


def test_windows_end_before_p():
    event = {"trace_p_arrival_sample": 6000.0, "source_magnitude": 3.0, "source_id": "ev", "trace_category": "earthquake"}
    ends = []
    for seed in range(20):
        for one in made({"per_record": 2}, record(**event), seed=seed):
            ends.append((one.record.start_ns - 10**18) / 1e9 + 27)
            about = one.record.metadata
            assert about["label"] == "noise" and about["source_id"] == "ev" and "source_magnitude" not in about
            assert one.record.data.shape == (3, 540) and np.abs(one.record.data).max() == 1
    assert len(ends) == 40 and max(ends) <= 58 + 1e-6 and max(ends) > 54 and min(ends) < 34


def test_continuous_data_gives_windows_that_do_not_overlap():
    found = made({"per_hour": 100}, record(seconds=1800))
    starts = np.array([one.record.start_ns - 10**18 for one in found]) / 1e9
    assert len(found) == 50 and (np.diff(starts) >= 27 - 1e-6).all() and starts[-1] + 27 <= 1800
    assert len({one.record.metadata["trace_name"] for one in found}) == 50


def test_the_same_seed_gives_the_same_windows():
    a, b, c = (made({}, record(seconds=600), seed=s) for s in (1, 1, 2))
    assert [w.record.start_ns for w in a] == [w.record.start_ns for w in b] != [w.record.start_ns for w in c]


def test_a_window_with_something_in_it_is_left_out():
    loud = record(seconds=27)
    loud.data[1, 1500:1700] += 20 * np.random.default_rng(0).normal(size=200)
    assert [one.reason for one in made({}, loud)] == ["not steady"]
    assert len(made({"loudest": None}, loud)) == 1 and not hasattr(made({"loudest": None}, loud)[0], "reason")


def test_loudness_by_hand():
    x = np.tile([0.0, 1.0], 50)[None]  # differences of 1 everywhere, 100 samples: 9 whole seconds of 10
    x[:, 40:50] *= 4
    assert loudness(x, 10.0)[0] == pytest.approx(4, rel=0.1)
    assert loudness(np.zeros((2, 100)), 10.0).tolist() == [0, 0] and loudness(np.ones((1, 5)), 10.0).tolist() == [1]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"trace_category": "earthquake"}, "no P"),
        ({"trace_p_arrival_sample": 2800.0}, "too little before P"),
        ({"seconds": 20}, "too short"),
        ({"components": "Z"}, "missing component"),
    ],
)
def test_why_a_record_gives_none(changed, reason):
    (one,) = made({}, record(**changed))
    assert one.reason == reason


def test_selection_by_the_table_alone():
    categories = ["earthquake", "noise", None, "earthquake"]
    table = pd.DataFrame({"trace_category": categories, "trace_p_arrival_sample": [1.0, np.nan, np.nan, np.nan]})
    assert list(Noise(config.load(Noise.Config, {})).select(table)) == ["", "", "", "no P"]


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="set SEISLATENT_RECORDS to the folder of real records")
def test_real_continuous_data():
    recipe = Noise(config.load(Noise.Config, {}))
    records = recipe.open([Path(os.environ["SEISLATENT_RECORDS"]) / "continuous" / "noise_raspberryshake"])
    read = list(records.several(range(len(records))))
    whole = [w for w in read if isinstance(w, Waveform)]
    reasons = {getattr(w, "reason", "") for w in read} - {""}
    kept = [one.record for one in recipe.make(whole, [np.random.default_rng(0)] * len(whole)) if not hasattr(one, "reason")]
    assert 20 <= len(records) <= 26 and 5 <= len(kept) <= len(whole) and reasons <= {"trigger", "incomplete window"}
    assert all(w.components == ("Z", "N", "E") and np.abs(w.data).max() == 1 and w.data.shape == (3, 540) for w in kept)


def test_record_sets_and_waveform_files_are_not_mixed(tmp_path):
    (tmp_path / "x.mseed").write_bytes(b"")
    with pytest.raises(SeislatentError, match="one kind at a time"):
        Noise(config.load(Noise.Config, {})).open([tmp_path, tmp_path / "x.mseed"])
