"""Kong's windows: where P and the start fall, what is left out and why, repeated cuts, the scale that comes back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seislatent import config
from seislatent.data.recipe import Made, Rejected
from seislatent.data.recipes.kong import Kong
from seislatent.errors import SeislatentError
from seislatent.prepare.condition import resample
from seislatent.prepare.excerpt import excerpt, flaw
from seislatent.prepare.level import level
from seislatent.waveform import Channel, Waveform

PICKING: dict = {}
EXPLOSION = {
    "classes": ["earthquake", "explosion"], "magnitude_above": None, "distance_km": None, "start": "before origin",
    "cuts": {"earthquake": 4, "explosion": 10},
}  # fmt: skip


def record(seconds=90.0, rate=100.0, components="ZNE", unit="counts", dtype=np.float32, **metadata):
    rng = np.random.default_rng(3)
    data = (1000 * rng.normal(size=(len(components), int(seconds * rate))) + 50).astype(dtype)
    about = {"trace_name": "a", "source_magnitude": 3.0, "path_ep_distance_km": 40.0, "trace_category": "earthquake"}
    return Waveform(
        data=data, sampling_rate_hz=rate, start_ns=1_600_000_000_000_000_000, unit=unit,
        channels=tuple(Channel(network="XX", station="ABC", code=f"HH{c}", component=c) for c in components),
        metadata=about | {"trace_p_arrival_sample": 3000.0, "trace_s_arrival_sample": 3900.5} | metadata,
    )  # fmt: skip


def made(settings, *records, seed=0):
    recipe = Kong(config.load(Kong.Config, settings))
    rngs = [np.random.default_rng([seed, i]) for i in range(len(records))]
    return list(recipe.make(list(records), rngs))


def test_p_lies_inside_by_the_margin_and_anywhere_else():
    places = []
    for one in made({"edge_s": 2.0}, *[record()] * 100):
        assert one.record.data.shape == (3, 540) and one.record.data.dtype == np.float32
        places.append(one.record.metadata["trace_p_arrival_sample"] / 20)
    assert 2.0 <= min(places) < 3.0 and 24.0 < max(places) <= 25.0  # uniform from 2 to 25 s
    assert abs(np.mean(places) - 13.5) < 2.2 and abs(np.std(places) - 23 / 12**0.5) < 1.0


def test_arrivals_and_start_move_with_the_window():
    (one,) = made(PICKING, record(trace_p_arrival_sample=3000.7))
    window, about = one.record, one.record.metadata
    p_ns = window.start_ns + about["trace_p_arrival_sample"] / 20 * 1e9
    assert abs(p_ns - (1_600_000_000_000_000_000 + 30.007e9)) < 1e3  # fractions of a sample are kept
    assert about["trace_s_arrival_sample"] - about["trace_p_arrival_sample"] == pytest.approx((3900.5 - 3000.7) / 5)
    (late,) = made(PICKING, record(trace_s_arrival_sample=8900.0))
    assert np.isnan(late.record.metadata["trace_s_arrival_sample"])


@pytest.mark.parametrize("rate", [100.0, 50.0, 20.0, 99.9987])
def test_a_window_has_the_bits_of_the_whole_record(rate):
    source = record(seconds=60, rate=rate)
    whole = resample(source, 20.0).data[:, 123:663]
    assert np.array_equal(excerpt(source, 123, 663, 20.0).data.astype(np.float32), whole.astype(np.float32))


def test_a_gap_matters_only_where_it_is_needed():
    source = record()
    source.data[1, 8500] = np.nan
    assert flaw(source, 0, 540, 20.0) == "" and np.isfinite(excerpt(source, 0, 540, 20.0).data).all()
    assert flaw(source, 1200, 1740, 20.0) == "gap"


def test_a_start_that_is_not_known_stays_unknown():
    from dataclasses import replace

    assert excerpt(replace(record(), start_ns=0), 100, 640, 20.0).start_ns == 0


@pytest.mark.parametrize("amplitude", [1e6, 1e-3, 1e-9])
@pytest.mark.parametrize("per", ["record", "component"])
def test_the_scale_brings_the_samples_back(amplitude, per):
    from dataclasses import replace

    source = record()
    source = replace(source, data=source.data.astype(np.float64) * amplitude * np.array([[1.0], [3.0], [0.5]]), unit="m/s")
    (one,) = made({"scale": per}, source)
    window, scale = one.record, np.array([[one.record.metadata[f"trace_{c}_scale"]] for c in "ZNE"])
    peaks = np.abs(window.data).max(1)
    assert peaks.max() == 1 and (peaks == 1).all() == (per == "component")
    assert window.unit == "1" and window.metadata["trace_scale_unit"] == "m/s"
    first = round((window.start_ns - source.start_ns) * 20 / 1e9)
    truth = excerpt(source, first, first + 540, 20.0).data
    truth = truth - truth.mean(1, keepdims=True)
    assert np.abs(window.data * scale - truth).max() < 1e-6 * np.abs(truth).max()


def test_what_is_above_the_new_nyquist_frequency_is_gone():
    time = np.arange(9000) / 100
    from dataclasses import replace

    tone = replace(record(), data=np.tile(np.sin(2 * np.pi * 12 * time) + 1e-3 * np.sin(2 * np.pi * 2 * time), (3, 1)))
    (one,) = made({"scale": "none"}, tone)
    assert np.abs(one.record.data[:, 5:-5]).max() < 1.1e-3  # the tone at 12 Hz, a thousand times louder, would be at 8 Hz


def test_repeated_cuts_of_explosions_and_earthquakes():
    names, starts = [], []
    rows = [record(trace_category="quarry blast", source_origin_sample=2700.0), record(trace_name="b", source_origin_sample=2700.0)]
    for one in made(EXPLOSION, *rows):
        about = one.record.metadata
        names.append((about["label"], about["trace_name"], about["trace_cut_of"], about["trace_cut"]))
        starts.append(about["trace_start_after_origin_s"])
        assert -22.5 <= starts[-1] <= 0
        assert one.record.start_ns == pytest.approx(1_600_000_000_000_000_000 + (27 + starts[-1]) * 1e9, abs=1e3)
    assert [n[0] for n in names] == ["explosion"] * 10 + ["earthquake"] * 4
    assert len({n[1] for n in names}) == 14 and names[3][1:] == ("a_cut3", "a", 3)
    assert len(set(starts[:10])) == 10


def test_cuts_are_repeated_in_the_splits_asked_for():
    blast = {"trace_category": "explosion", "source_origin_sample": 2700.0}
    for name, count in (("train", 10), ("test", 1)):
        assert len(made(EXPLOSION | {"repeat_in": ["train"]}, record(split=name, **blast))) == count


def test_origin_from_its_time_and_records_that_begin_after_it():
    early = record(source_origin_time="2020-09-13T12:27:05Z")  # 25 s after the start of 1.6e9 s
    starts = [one.record.metadata["trace_start_after_origin_s"] for one in made(EXPLOSION, early)]
    assert min(starts) >= -22.5 and max(starts) <= 0 and len(starts) == 4
    near = made(EXPLOSION, record(source_origin_time="2020-09-13T12:26:40.3Z"))  # 0.3 s after it: seven starts at 20 Hz
    assert len(near) == 4 and all(-0.3 <= one.record.metadata["trace_start_after_origin_s"] <= 0 for one in near)
    (late,) = made(EXPLOSION, record(source_origin_time="2020-09-13T12:26:30Z"))
    assert late == Rejected(name="a", reason="begins after the origin")
    (none,) = made(EXPLOSION, record())
    assert none.reason == "no origin time"


def test_noise_and_records_of_one_window():
    settings = {"classes": ["earthquake", "noise"], "magnitude_above": None, "distance_km": None, "p_needed": False}
    noise = record(trace_category="noise", source_magnitude=None, trace_p_arrival_sample=None)
    whole = record(seconds=27, rate=20, trace_p_arrival_sample=None)
    longer = record(seconds=30, rate=20, trace_p_arrival_sample=None)
    a, b, c = made(settings, noise, whole, longer)
    assert a.record.metadata["label"] == "noise" and b.record.metadata["label"] == "earthquake"
    assert b.record.start_ns == whole.start_ns and c.reason == "no P"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"seconds": 20}, "too short"),
        ({"components": "ZN"}, "missing component"),
        ({"trace_p_arrival_sample": None}, "no P"),
        ({"trace_p_arrival_sample": 9500.0}, "P outside the record"),
        ({"trace_p_arrival_sample": 40.0}, "P too near an end"),
    ],
)
def test_why_a_record_is_left_out(changed, reason):
    (one,) = made(PICKING, record(**changed))
    assert isinstance(one, Rejected) and one.reason == reason


def test_a_gap_and_a_dead_component_are_left_out():
    gap, dead = record(), record()
    gap.data[0, ::7] = np.nan
    dead.data[2] = 17.0
    assert [one.reason for one in made(PICKING, gap, dead)] == ["gap", "dead component"]


def test_what_cannot_be_resampled_is_counted():
    from dataclasses import replace

    slow, text = replace(record(), sampling_rate_hz=1e-5), replace(record(), data=np.full((3, 9), b"a"), sampling_rate_hz=0.0)
    assert [one.reason for one in made(PICKING, slow, text)] == ["cannot be cut"] * 2
    huge = record(dtype=np.float64)
    huge.data[:] *= 1e303
    (one,) = made(PICKING, huge)
    assert np.abs(one.record.data).max() == 1 and one.record.metadata["trace_Z_scale"] > 1e305


def test_selection_by_the_table_alone():
    table = pd.DataFrame(
        {
            "trace_category": ["earthquake_local", "earthquake", "noise", "earthquake", "earthquake", "earthquake", None],
            "source_magnitude": [2.1, 2.0, np.nan, np.nan, 3.0, 3.0, 3.0],
            "path_ep_distance_km": [99.0, 50.0, np.nan, 50.0, 101.0, np.nan, 50.0],
            "trace_p_arrival_sample": [700.0, 700.0, np.nan, 700.0, 700.0, 700.0, np.nan],
        }
    )
    told = list(Kong(config.load(Kong.Config, PICKING)).select(table))
    assert told == [
        "", "magnitude not above 2", "class noise not asked for", "no magnitude", "farther than 100 km", "no distance", "no P",
    ]  # fmt: skip
    kept = list(Kong(config.load(Kong.Config, {"unknown": "keep", "magnitude_above": 1.5, "distance_km": 200.0})).select(table))
    assert kept == ["", "", "class noise not asked for", "", "", "", "no P"]


def test_horizontals_of_a_sensor_that_is_not_oriented():
    (one,) = made(PICKING, record(components="12Z"))
    assert one.record.components == ("Z", "1", "2") and "trace_1_scale" in one.record.metadata


def test_settings_that_make_no_sense():
    for bad in ({"classes": ["quake"]}, {"samples": 30, "edge_s": 1.0}):
        with pytest.raises(SeislatentError):
            Kong(config.load(Kong.Config, bad))


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="set SEISLATENT_RECORDS to the folder of real records")
def test_real_records():
    root = Path(os.environ["SEISLATENT_RECORDS"])
    recipe = Kong(config.load(Kong.Config, PICKING))
    records = recipe.open([root / "stead_sample50"])
    left = recipe.select(records.metadata)
    assert left.value_counts().to_dict() == {"farther than 100 km": 24, "magnitude not above 2": 17, "": 9}
    chosen = [records[int(i)] for i in np.flatnonzero(left == "")]
    found = made(PICKING, *chosen)
    assert len(found) == 9 and all(isinstance(one, Made) for one in found)
    assert all(1 <= one.record.metadata["trace_p_arrival_sample"] / 20 <= 26 for one in found)


def test_silence_keeps_its_place_beside_a_live_component():
    silent = record()
    silent.data[1] = 0
    done = level(silent, per="component")
    assert done.metadata["trace_N_scale"] == 1 and (done.data[1] == 0).all() and np.abs(done.data[0]).max() == 1
    with pytest.raises(SeislatentError, match="measure of amplitude 'peek'"):
        level(silent, "peek")
