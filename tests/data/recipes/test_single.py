"""Single channels: whole, in their own unit, split at gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from seislatent import config
from seislatent.data.recipes.single import Single, runs_of
from seislatent.errors import SeislatentError
from seislatent.prepare.resample import resample
from seislatent.waveform import Channel, Waveform


def record(data, rate=40.0):
    names = "ZNE"[: len(data)]
    return Waveform(
        data=data, sampling_rate_hz=rate, channels=tuple(Channel(code=f"BH{c}", component=c) for c in names), unit="counts",
        start_ns=10**18, metadata={"trace_name": "a"},
    )  # fmt: skip


def made(settings, *records):
    return list(Single(config.load(Single.Config, settings)).make(list(records), [np.random.default_rng(0)] * len(records)))


def counts(rows=3, n=2000, scale=1000):
    return np.random.default_rng(1).integers(-scale, scale, (rows, n)).astype(np.int32)


def test_each_component_is_a_record_of_the_same_samples():
    data = counts() + 7000  # an offset stays
    found = made({}, record(data))
    assert [one.record.metadata["trace_name"] for one in found] == ["a_Z", "a_N", "a_E"]
    for row, one in zip(data, found, strict=True):
        assert one.record.data.dtype == np.float32 and np.array_equal(one.record.data[0], row.astype(np.float32))
        assert one.record.unit == "counts" and one.record.start_ns == 10**18


def test_counts_stay_counts_where_asked():
    (one,) = made({"samples": "as recorded"}, record(counts(1, scale=2**30)))
    assert one.record.data.dtype == np.int32 and one.record.metadata["trace_name"] == "a"


def test_another_rate_is_that_of_the_resampler():
    data = counts(1, 5000)
    (one,) = made({}, record(data, rate=100.0))
    assert np.array_equal(one.record.data, resample(data, 100.0, 40.0).astype(np.float32))


def test_runs_between_gaps():
    data = counts(1, 6000).astype(float)
    data[0, 1000:1010], data[0, 1500] = np.nan, np.nan
    found = made({}, record(data))
    assert [(one.record.metadata["trace_name"], one.record.data.shape[1]) for one in found] == [("a_run0", 1000), ("a_run1", 4499)]
    assert found[1].record.start_ns == 10**18 + round(1501 / 40 * 1e9)
    assert runs_of(np.array([True, False, True, True])) == [(0, 1), (2, 4)] and runs_of(np.zeros(3, bool)) == []


def test_why_a_channel_is_left_out():
    dead, broken = counts(2), counts(1).astype(float)
    dead[1] = 5
    broken[0, ::50] = np.nan
    assert [getattr(one, "reason", "") for one in made({}, record(dead))] == ["", "dead component"]
    assert [one.reason for one in made({}, record(broken), record(counts(1, 100)))] == ["gap", "too short"]


def test_what_cannot_be_resampled_is_counted():
    assert [one.reason for one in made({"shortest_s": 1.0}, record(counts(1), rate=1e6))] == ["too short"]
    assert [one.reason for one in made({}, record(counts(1), rate=1e-4))] == ["cannot be cut"]


def test_selection_by_rate_and_length():
    table = pd.DataFrame({"trace_sampling_rate_hz": [40.0, 10.0, 100.0, 20.0], "trace_npts": [4000, 4000, 100, pd.NA]})
    assert list(Single(config.load(Single.Config, {})).select(table)) == ["", "rate too low", "too short", ""]


def test_a_record_of_one_sample_is_refused_by_the_settings():
    with pytest.raises(SeislatentError):
        Single(config.load(Single.Config, {"shortest_s": 0.01}))


def test_amplitudes_beyond_float32_are_left_out_and_not_made_infinite():
    loud = record(counts(2) * np.array([[1e300], [1.0]]))
    refused, kept = made({}, loud)
    assert refused.reason == "cannot be cut" and "beyond float32" in refused.detail
    assert np.isfinite(kept.record.data).all() and kept.record.data.dtype == np.float32
    assert made({"samples": "as recorded"}, loud)[0].record.data.dtype == np.float64
