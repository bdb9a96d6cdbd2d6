"""Groups: displacement, window around the pick, unit variance, who belongs together, who is left out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import pytest

from seislatent import config
from seislatent.data.recipe import Rejected
from seislatent.data.recipes.groups import Groups, predicted_s
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

PLAIN = {"before_s": 10.0, "after_s": 20.0, "margin_s": 20.0, "band_hz": (0.2, 2.0)}


def record(components="Z", unit="m/s", code="BH", rate=40.0, seconds=100.0, **metadata):
    rng = np.random.default_rng(5)
    about = {"trace_name": "a", "source_id": "ev1", "trace_p_arrival_sample": 1600.4}
    return Waveform(
        data=rng.normal(size=(len(components), int(seconds * rate))), sampling_rate_hz=rate, unit=unit,
        channels=tuple(Channel(network="XX", station="ABC", code=code + c, component=c) for c in components),
        metadata=about | metadata,
    )  # fmt: skip


def made(settings, *records):
    recipe = Groups(config.load(Groups.Config, settings))
    return list(recipe.make(list(records), [np.random.default_rng(0)] * len(records)))


def tone(order, hz=1.0, rate=100.0, seconds=60.0, unit=None):
    """Derivative number `order` of a sine of amplitude 1, on an offset and a drift."""
    time = np.arange(int(seconds * rate)) / rate
    data = (2 * np.pi * hz) ** order * np.sin(2 * np.pi * hz * time + order * np.pi / 2)
    return replace(record(unit=unit, rate=rate, code="H"), data=data[None]), time


@pytest.mark.parametrize(("order", "unit"), [(0, "cm"), (1, "cm/s"), (2, "cm/s^2")])
@pytest.mark.parametrize("quantity", ["displacement", "velocity"])
def test_quantities_of_a_sine_by_hand(order, unit, quantity):
    wanted = ["displacement", "velocity"].index(quantity)
    source, time = tone(order, unit=unit)
    drift = 3.0 + 0.2 * time if wanted < order else 0.0
    recipe = Groups(config.load(Groups.Config, {"quantity": quantity}))
    got = recipe.in_quantity(replace(source, data=source.data + drift))
    truth = tone(wanted)[0].data / 100
    assert np.abs(got.data - truth)[:, 200:-200].max() < 0.05 * np.abs(truth).max()
    assert got.unit == ["m", "m/s"][wanted] and got.metadata["trace_quantity"] == quantity


def test_counts_are_known_up_to_a_gain_by_their_instrument():
    for code, unit, integrals in (("BH", "counts", 1), ("HN", "counts", 2), ("BH", None, 1)):
        (one,) = made(PLAIN, record(unit=unit, code=code))
        about = one.record.metadata
        assert about["trace_quantity"] == "displacement up to a gain"
        assert " ".join(one.record.history).count("integrate") == integrals
    (unknown,) = made(PLAIN, record(unit="counts", code="LO"))
    assert unknown.reason == "quantity not known"
    (plain,) = made(PLAIN | {"quantity": "as recorded"}, record(unit="counts", code="LO"))
    assert plain.record.metadata["trace_quantity"] == "as recorded"


@pytest.mark.parametrize("amplitude", [1e3, 1e-6, 1e-12])
def test_zero_mean_unit_variance_and_the_scale_back(amplitude):
    one, loud = (made(PLAIN, replace(r, data=r.data * a))[0].record for r, a in ((record(), 1.0), (record(), amplitude)))
    assert abs(loud.data.mean()) < 1e-6 and abs(loud.data.std() - 1) < 1e-5
    assert np.allclose(loud.data, one.data, atol=1e-5)
    assert loud.metadata["trace_Z_scale"] == pytest.approx(amplitude * one.metadata["trace_Z_scale"])


def test_the_pick_stands_where_the_column_says():
    rate, at = 40.0, 1600.4
    time = (np.arange(4000) - at) / rate
    pulse = replace(record(unit="m"), data=np.exp(-((time / 0.3) ** 2))[None])
    (one,) = made({**PLAIN, "band_hz": None, "demean": False}, pulse)
    sample, data = one.record.metadata["trace_pick_sample"], one.record.data[0].astype(float)
    top = int(data.argmax())
    left, middle, right = data[top - 1 : top + 2]
    peak = top + (left - right) / (left - 2 * middle + right) / 2
    assert one.record.data.shape == (1, 300) and abs(sample - 100) <= 0.5
    assert abs(peak - sample) < 0.05


def test_picks_in_order_and_under_either_name():
    settings = PLAIN | {"picks": ["pick_t2_sample", "pick_t0_sample"]}
    a, b, c = made(
        settings,
        record(pick_t0_sample=1600.0, pick_t2_sample=1640.0),
        record(pick_t0_sample=1600.0, pick_t2_sample=float("nan")),
        record(),
    )
    assert (a.record.metadata["trace_pick"], b.record.metadata["trace_pick"]) == ("pick_t2_sample", "pick_t0_sample")
    assert a.record.metadata["trace_pick_t0_sample"] == pytest.approx(a.record.metadata["trace_pick_sample"] - 10)
    assert c == Rejected(name="a", reason="no pick")


def test_components_are_records_of_their_own_or_rows():
    three = made(PLAIN, record(components="ENZ"))
    assert [one.record.metadata["trace_name"] for one in three] == ["a_Z", "a_N", "a_E"]
    assert all(one.record.data.shape == (1, 300) and one.record.metadata["group"] == "ev1" for one in three)
    (rows,) = made(PLAIN | {"separate": False}, record(components="ENZ"))
    assert rows.record.components == ("Z", "N", "E") and rows.record.metadata["trace_name"] == "a"


def test_groups_of_a_station():
    (one,) = made(PLAIN | {"group_by": "station"}, record())
    assert one.record.metadata["group"] == "XX.ABC"
    (none,) = made(PLAIN, record(source_id=None))
    assert none.reason == "no event id"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"seconds": 55}, "too short"),
        ({"trace_p_arrival_sample": 200.0}, "too short"),
        ({"trace_p_arrival_sample": 9000.0}, "pick outside the record"),
        ({"rate": 4.0, "trace_p_arrival_sample": 160.0}, "rate too low"),
        ({"components": "H"}, "missing component"),
    ],
)
def test_why_a_window_is_left_out(changed, reason):
    (one,) = made(PLAIN, record(**changed))
    assert isinstance(one, Rejected) and one.reason == reason


def test_gaps_count_in_the_margin_and_not_beyond():
    gap, far, dead = record(seconds=200), record(seconds=200), record()
    gap.data[0, 1600], far.data[0, 7000], dead.data[0] = np.nan, np.nan, 3.0
    assert [getattr(one, "reason", "made") for one in made(PLAIN, gap, far, dead)] == ["gap", "made", "dead component"]


def test_small_groups_are_left_out_at_the_end():
    recipe = Groups(config.load(Groups.Config, {"smallest_group": 3}))
    told = recipe.sift(pd.DataFrame({"group": ["a", "b", "a", "b", "a"]}))
    assert list(told) == ["", "group too small", "", "group too small", ""]


def test_selection_by_pick_and_distance():
    recipe = Groups(config.load(Groups.Config, {"distance_deg": [30, 95]}))
    columns = {"trace_p_arrival_sample": [1.0, 1, np.nan, 1], "path_ep_distance_deg": [40.0, 20, 40, np.nan]}
    table = pd.DataFrame(columns | {"path_ep_distance_km": [np.nan] * 4})
    assert list(recipe.select(table)) == ["", "not within 30 to 95 degrees", "no pick", "no distance"]


def test_bands_beyond_the_windows_rate_are_refused():
    with pytest.raises(SeislatentError, match=r"4\.5 Hz"):
        Groups(config.load(Groups.Config, {"band_hz": [0.02, 4.6]}))


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="set SEISLATENT_RECORDS to the folder of real records")
def test_real_groups_align_on_their_picks():
    root = Path(os.environ["SEISLATENT_RECORDS"])
    settings = {"picks": ["pick_t2_sample"], "before_s": 15, "after_s": 30, "band_hz": [0.05, 1], "predict": False}
    recipe = Groups(config.load(Groups.Config, settings))
    records = recipe.open([root / "teleseismic_P_aimbat"])
    table = records.metadata
    assert (recipe.select(table) == "no pick").sum() == 504  # the fourth event has no pick of any kind
    rows = np.flatnonzero(((recipe.select(table) == "") & (table["source_id"] == "2011.09.15.19.31")).to_numpy())[:40]
    found = [one.record for one in recipe.make([records[int(i)] for i in rows], [np.random.default_rng(0)] * len(rows))]
    stack = np.mean([w.data[0, 130:250] for w in found], axis=0)
    assert stack.std() > 0.7 * np.mean([w.data[0, 130:250].std() for w in found])  # coherent: 40 unrelated ones would give 0.16


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="set SEISLATENT_RECORDS to the folder of real records")
def test_p_is_predicted_where_nobody_picked_it():
    recipe = Groups(config.load(Groups.Config, {"picks": ["pick_t2_sample"]}))
    records = recipe.open([Path(os.environ["SEISLATENT_RECORDS"], "teleseismic_P_aimbat")])
    table = records.metadata
    assert (recipe.select(table) == "").all()
    lag_s = predicted_s(table) - table["pick_t0_sample"] / table["trace_sampling_rate_hz"]
    assert abs(lag_s.median()) < 0.01 and lag_s.abs().max() < 1, "SAC's t0 is theoretical, of a model close to ours"
    row = int(np.flatnonzero((table["source_id"] == "2012.01.23.16.04").to_numpy())[0])
    (one,) = recipe.make([records[row]], [np.random.default_rng(0)])
    assert one.record.metadata["trace_pick"] == "predicted"
    assert one.record.metadata["trace_pick_sample"] == pytest.approx(200, abs=1)


def test_the_response_is_removed_where_an_inventory_is_given(tmp_path):
    inventory, stream = obspy.read_inventory(), obspy.read()
    inventory.write(str(tmp_path / "stations.xml"), format="STATIONXML")
    trace = stream.select(component="Z")[0]
    source = Waveform(
        data=trace.data[None], sampling_rate_hz=100.0, start_ns=trace.stats.starttime.ns, unit="counts",
        channels=(Channel(network="BW", station="RJOB", code="EHZ", component="Z"),),
        metadata={"trace_name": "a", "source_id": "ev", "trace_p_arrival_sample": 1000.0},
    )  # fmt: skip
    settings = {"before_s": 4, "after_s": 10, "band_hz": [1.0, 4.0], "inventory": str(tmp_path / "stations.xml"), "demean": False}
    (one,) = made(settings, source)
    assert one.record.metadata["trace_quantity"] == "displacement" and one.record.metadata["trace_scale_unit"] == "m"
    truth = trace.copy().detrend("linear")
    truth.remove_response(inventory, output="DISP", water_level=None, pre_filt=(0.5, 1, 4, 6), taper=False)
    truth.filter("bandpass", freqmin=1, freqmax=4, corners=4, zerophase=True)
    ours = one.record.data[0] * one.record.metadata["trace_Z_scale"]
    theirs = truth.data[600:2000:10]
    assert np.abs(ours - theirs)[20:-20].max() < 0.02 * np.abs(theirs).max()
