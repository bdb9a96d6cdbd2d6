"""No event in two splits, whatever the order of records."""

import numpy as np
import pandas as pd
import pytest

from seislatent.data.splits import SPLITS, event_names, events, leaks, split, split_by_event, split_by_station
from seislatent.errors import SeislatentError

S = 1_000_000_000
T0 = 1_500_000_000 * S


def table(times_s, ids=None, stations=None, datasets=None, **more):
    n = len(times_s)
    start = pd.array([T0 + round(t * S) if t is not None else pd.NA for t in times_s], dtype="Int64")
    columns = {
        "start_ns": start, "source_id": ids or [None] * n, "station_network_code": "XX",
        "station_code": stations or [f"S{i % 5}" for i in range(n)], "dataset": datasets or ["a"] * n,
        "trace_name": [f"r{i}" for i in range(n)], "trace_sampling_rate_hz": 100.0,
    }  # fmt: skip
    return pd.DataFrame(columns | more)


def groups(metadata):
    label = events(metadata)
    return sorted(tuple(sorted(metadata["trace_name"][label == e])) for e in label.unique())


def test_near_times_are_one_event_transitively():
    assert groups(table([0, 100, 220, 341, 1000])) == [("r0", "r1", "r2"), ("r3",), ("r4",)]


def test_ids_decide_where_they_are_given():
    assert groups(table([0, 10, 5000, 20], ids=["1", "2", "1", "2"])) == [("r0", "r2"), ("r1", "r3")]


def test_a_record_without_id_joins_its_neighbours_and_sets_join_each_other():
    assert groups(table([0, 10, 5000], ids=["1", None, "2"])) == [("r0", "r1"), ("r2",)]
    assert groups(table([0, 10, 20], ids=["1", "x", "2"], datasets=["a", "b", "a"])) == [("r0", "r1", "r2")]


def test_records_of_one_origin_are_one_event_however_far_apart():
    times, origins = [0, 400, 900, 5000, 5600], ["2017-07-14T02:35:00Z"] * 3 + ["2017-07-14T04:00:00Z", "2017-07-14 04:00:07.5"]
    assert groups(table(times, source_origin_time=origins)) == [("r0", "r1", "r2"), ("r3", "r4")]
    assert groups(table(times, ids=list("11122"), datasets=list("aabab"), source_origin_time=origins)) == [
        ("r0", "r1", "r2"), ("r3", "r4")
    ]  # fmt: skip
    apart = ["2017-07-14T02:35:00Z", "2017-07-14T02:35:11Z", None, "nonsense", ""]
    assert len(groups(table(times, source_origin_time=apart))) == 5
    assert groups(table(times, ids=list("12345"), source_origin_time=origins)) == [(f"r{i}",) for i in range(5)], "ids decide"


def test_many_stations_of_few_events_cost_no_memory():
    origins = np.repeat([f"2017-07-14T{h:02}:00:00Z" for h in range(4)], 5000)
    times = np.arange(20_000) * 200.0
    assert events(table(list(times), source_origin_time=origins)).nunique() == 4


def test_p_counts_where_it_is_known_and_unknown_times_stand_alone(caplog):
    one = table([0, 1000, None, 0], trace_p_arrival_sample=[100_000, 0, 0, np.nan])
    one.loc[3, "start_ns"] = 0
    assert groups(one) == [("r0", "r1"), ("r2",), ("r3",)]
    assert "neither an event id nor a time" in caplog.text
    assert len(events(pd.DataFrame({"trace_name": ["x", "y"]}))) == 2


@pytest.fixture
def many():
    rng = np.random.default_rng(0)
    times = np.repeat(np.cumsum(rng.exponential(20_000, 400)), 3) + rng.uniform(0, 60, 1200)
    return table(list(times), stations=[f"S{i}" for i in rng.integers(0, 40, 1200)])


def test_split_by_event_does_not_leak_nor_depend_on_order(many):
    result = split_by_event(many, seed=3)
    assert set(result) == set(SPLITS)
    shares = result.value_counts(normalize=True)
    assert abs(shares["train"] - 0.8) < 0.08 and shares["dev"] > 0.04 and shares["test"] > 0.04
    assert leaks(many.assign(split=result)).empty
    order = np.random.default_rng(1).permutation(len(many))
    shuffled = many.iloc[order]
    assert split_by_event(shuffled, seed=3).sort_index().equals(result)
    assert not split_by_event(many, seed=4).equals(result)
    part = many.iloc[:300]
    assert (split_by_event(part, seed=3) == result.iloc[:300]).mean() > 0.97


def test_leaks_are_found(many):
    bad = many.assign(split=np.random.default_rng(0).choice(SPLITS, len(many)))
    found = leaks(bad)
    assert len(found) > 100 and set(found.columns) == {"splits", "records", "first"}
    with pytest.raises(SeislatentError, match="split the records"):
        leaks(many)


def test_a_given_split_is_respected():
    one = table([0, 10, 5000, 10_000], split=["test", None, "validation", None])
    result = split_by_event(one, shares=(1, 0, 0))
    assert result.tolist() == ["test", "test", "dev", "train"]
    with pytest.raises(SeislatentError, match="did you mean 'train'"):
        split_by_event(table([0], split=["trian"]))
    for shares in [(1, 0), (-1, 1, 1), (0, 0, 0)]:
        with pytest.raises(SeislatentError, match="shares"):
            split_by_event(one, shares=shares)


def test_few_hours_still_fill_every_split():
    one = table([i * 130 for i in range(30)])
    assert set(split_by_event(one)) == set(SPLITS)


def test_continuous_hours_of_all_stations_go_together():
    start = -(T0 // S) % 3600
    hours = [start + 3600 * k + shift for k in range(24) for shift in (0.0, 0.01, -0.004)]
    one = table(hours, stations=["A", "B", "C"] * 24)
    result = split_by_event(one, seed=1)
    assert (result.to_numpy().reshape(24, 3) == result.to_numpy().reshape(24, 3)[:, :1]).all()
    quake = table([hours[0] + 1800.0], datasets=["b"])
    both = pd.concat([one, quake], ignore_index=True)
    assert split_by_event(both, seed=1).iloc[-1] == split_by_event(both, seed=1).iloc[0]


def test_split_by_station_and_by_both(many):
    by_station = split_by_station(many, seed=1)
    assert leaks(many.assign(split=by_station), by="station").empty and set(by_station) == set(SPLITS)
    both = many.assign(split=split(many, by="event+station", seed=1))
    assert set(both["split"]) == {*SPLITS, "mixed"} and leaks(both).empty
    test = set(both["station_code"][both["split"] == "test"])
    seen = set(both["station_code"][both["split"].isin(["train", "dev"])])
    assert test and seen and not test & seen
    assert 0.1 < (both["split"] == "mixed").mean() < 0.5
    with pytest.raises(SeislatentError, match="rule of splitting"):
        split(many, by="records")


def places(n=400, seed=0):
    rng = np.random.default_rng(seed)
    latitude = rng.uniform(30, 44, n)
    return table(
        list(np.arange(n) * 1000.0), ids=[f"e{i // 2}" for i in range(n)],
        source_latitude_deg=np.repeat(latitude[::2], 2), source_longitude_deg=np.repeat(rng.uniform(-5, 5, n // 2), 2),
        source_magnitude=np.repeat(np.where(np.arange(n // 2) % 20 == 0, 5.5, 2.0), 2),
    )  # fmt: skip


def test_regions_keep_cells_and_events_whole():
    metadata = places()
    metadata["split"] = split(metadata, "region", seed=3)
    assert set(metadata["split"]) == set(SPLITS)
    assert not len(leaks(metadata, "region")) and not len(leaks(metadata))
    by_event = metadata.assign(split=split(metadata.drop(columns="split"), "event", seed=3))
    assert len(leaks(by_event, "region")), "events alone do not keep cells whole"


def test_strata_have_their_shares():
    metadata = places(4000)
    drawn = split(metadata, stratify=["source_magnitude"])
    for magnitude in (5.5, 2.0):
        share = drawn[metadata["source_magnitude"] == magnitude].value_counts(normalize=True)
        assert abs(share["train"] - 0.8) < 0.02 and abs(share["test"] - 0.1) < 0.02
    shuffled = metadata.sample(frac=1, random_state=1)
    assert (split(shuffled, stratify=["source_magnitude"]).sort_index() == drawn).all(), "the order of records does not matter"
    with pytest.raises(SeislatentError, match="source_magnitude"):
        split(metadata, stratify=["source_magnitudes"])
    kept = split(metadata.assign(split=drawn.where(metadata.index < 100, None)), "region", seed=9)
    assert (kept[:100] == drawn[:100]).all(), "a split that is given stays"


def test_event_names():
    metadata = table([0, 10, 5000, 5050, None], ids=["b", None, None, None, None])
    assert list(event_names(metadata)) == ["b", "b", "time 2017-07-14T04:03:20", "time 2017-07-14T04:03:20", "record r4"]


def test_windows_of_one_station_that_share_samples_are_one_event():
    """Two events of a swarm, seconds apart, in windows of 60 s: in two splits they would be trained on and judged alike."""
    starts, ids = [0, 40, 70, 0, 130.995, 500], ["1", "2", "3", "4", "5", "6"]
    metadata = table(starts, ids=ids, stations=["A", "A", "A", "B", "A", "A"], trace_npts=6001)
    metadata["start_ns"] = metadata["start_ns"] // 1000 * 1000
    assert groups(metadata) == [("r0", "r1", "r2"), ("r3",), ("r4",), ("r5",)]
    assert groups(metadata.drop(columns="trace_npts")) == [(f"r{i}",) for i in range(6)]
    far = split(metadata, stratify=["station_code"], seed=2)
    assert far[0] == far[1] == far[2] and not len(leaks(metadata.assign(split=far)))
    assert len(leaks(metadata.assign(split=["train", "test", "train", "dev", "dev", "dev"]))) == 1
