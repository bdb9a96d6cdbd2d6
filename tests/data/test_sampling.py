"""Which rows a step takes: each once per epoch, by weight, in whole groups; a pure function, shared without overlap."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from seislatent.data import sampling
from seislatent.data.sampling import BalanceConfig, Sampler, key, permuted, strata
from seislatent.errors import SeislatentError


def rows(sampler, steps):
    return np.concatenate([sampler.take(step, 0, 1).rows for step in steps])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17, 64, 65, 1000, 4097])
def test_a_shuffle_is_one_to_one(count):
    for seed in range(3):
        assert sorted(permuted(np.arange(count), count, key(seed))) == list(range(count))


def test_every_order_of_four_comes_alike():
    """24 orders of 24,000 shuffles: the chi-square of 23 degrees of freedom stays below its 99.9 % point."""
    orders = Counter(map(tuple, permuted(np.tile(np.arange(4), 24_000), 4, key(np.repeat(np.arange(24_000), 4))).reshape(-1, 4)))
    assert len(orders) == 24 and sum((n - 1000) ** 2 / 1000 for n in orders.values()) < 49.7


def test_neighbours_are_spread_over_a_million():
    place = permuted(np.arange(20_000), 1_000_000, key(7))
    counts = np.histogram(place, 20, (0, 1_000_000))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # 99.9 % of chi-square, 19 degrees of freedom
    assert abs(np.corrcoef(place[1:], place[:-1])[0, 1]) < 0.03


def test_counts_and_keys_may_differ_from_index_to_index():
    counts, keys = np.array([3, 100, 7, 1]), key(1, np.arange(4))
    together = permuted(np.array([2, 50, 6, 0]), counts, keys)
    alone = [permuted(np.array([i]), n, keys[k : k + 1])[0] for k, (i, n) in enumerate(zip((2, 50, 6, 0), counts, strict=True))]
    assert together.tolist() == alone and (together < counts).all()


def test_each_record_once_per_epoch_and_epochs_differ():
    sampler = Sampler(50, 10, seed=3)
    epochs = [rows(sampler, range(5 * k, 5 * k + 5)) for k in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3 and sampler.steps == 5
    assert not np.array_equal(epochs[0], rows(Sampler(50, 10, seed=4), range(5)))


def test_an_epoch_that_does_not_divide_goes_on_into_the_next():
    drawn = rows(Sampler(7, 3, seed=0), range(7))
    assert [sorted(drawn[7 * k : 7 * k + 7]) for k in range(3)] == [list(range(7))] * 3
    assert Counter(rows(Sampler(3, 8, seed=0), range(3))) == Counter(dict.fromkeys(range(3), 8))


@pytest.mark.parametrize("world", [2, 3, 6])
def test_processes_share_a_step(world):
    table = np.arange(90) % 4
    for sampler in (
        Sampler(90, 12, 1),
        Sampler(90, 12, 1, strata=table, weights=np.array([4.0, 1, 1, 1])),
        Sampler(90, 12, 1, groups=np.arange(90) // 6, per_group=(2, 2)),
        Sampler(90, 24, 1, groups=np.arange(90) // 6, per_group=(2, 4)),
    ):
        whole = sampler.take(9, 0, 1)
        parts = [sampler.take(9, rank, world) for rank in range(world)]
        assert np.array_equal(np.concatenate([p.rows for p in parts]), whole.rows)
        assert [p.first for p in parts] == [0, *np.cumsum([len(p.rows) for p in parts])[:-1]]
        assert {p.among for p in parts} == {len(whole.rows)}


def test_batches_that_do_not_divide_are_refused():
    with pytest.raises(SeislatentError, match=r"a batch of 10 records does not divide over 4 processes: change recipe.batch"):
        Sampler(50, 10, 0).take(0, 0, 4)
    with pytest.raises(SeislatentError, match=r"a batch of 5 groups does not divide over 2 processes"):
        Sampler(50, 10, 0, groups=np.arange(50) // 5).take(0, 0, 2)


def test_nothing_to_draw_from():
    with pytest.raises(SeislatentError, match="nothing to draw from 0 records"):
        Sampler(0, 4, 0)
    with pytest.raises(SeislatentError, match=r"no group has 6 records \(the largest has 5\)"):
        Sampler(50, 10, 0, groups=np.arange(50) // 5, per_group=(6, 6))
    with pytest.raises(SeislatentError, match="groups of 4 to 12 records, batch of 10"):
        Sampler(50, 10, 0, groups=np.arange(50) // 5, per_group=(4, 12))


def test_strata_come_by_weight_and_each_record_before_any_again(monkeypatch):
    monkeypatch.setattr(sampling, "CARDS", 400)
    kinds = np.array([0] * 90 + [1] * 8 + [2] * 2)
    sampler = Sampler(100, 10, 5, strata=kinds, weights=np.array([0.5, 0.5, 0.0]))
    drawn = rows(sampler, range(80))
    for cycle in (drawn[:400], drawn[400:]):
        assert Counter(kinds[cycle].tolist()) == {0: 200, 1: 200}
    for some, often in ((drawn[:400], {2, 3}), (drawn, {4, 5})):
        each = np.bincount(some, minlength=100)
        assert set(each[90:98]) == {len(some) // 16} and set(each[98:]) == {0} and set(each[:90]) == often
    near = [Counter(kinds[rows(sampler, [k])].tolist())[0] for k in range(40)]
    assert 1.0 < np.std(near) < 2.2, "as drawn at random, not in turn"


def test_draws_of_a_stratum_are_counted_without_a_gap():
    """Whatever the weights, the n-th draws of a stratum are 0, 1, 2, ...: on this stands that no record comes twice too early."""
    weights = np.array([0.7, 0.0, 0.2995, 0.0004, 0.0001])
    deck = sampling.Deck(50, 0, np.arange(50) % 5, weights)
    stratum, draw = deck._dealt(np.arange(1500 * sampling.CARDS))
    for k, weight in enumerate(weights):
        found = np.sort(draw[stratum == k])
        assert np.array_equal(found, np.arange(len(found))) and abs(len(found) / len(draw) - weight) < 2e-6
    rare = np.flatnonzero(stratum[: 1024 * sampling.CARDS] == 3) / (1024 * sampling.CARDS)
    assert np.histogram(rare, 8, (0, 1))[0].min() > 0.8 * len(rare) / 8, "rare strata come all the time"


def test_weights_hold_over_few_draws():
    kinds = np.array([0] * 900 + [1] * 100)
    drawn = rows(Sampler(1000, 50, 2, strata=kinds, weights=np.array([0.3, 0.7])), range(40))
    assert np.mean(kinds[drawn] == 1) == pytest.approx(0.7, abs=0.04)


TABLE = pd.DataFrame(
    {
        "dataset": ["a"] * 6 + ["b"] * 4,
        "source_magnitude": [1.0, 1.5, 2.0, 3.5, 3.9, np.nan, 1.0, 4.0, None, 5.0],
        "path_ep_distance_km": [10.0, 50.0, 50.0, 10.0, np.nan, 10.0, 10.0, 10.0, 10.0, 200.0],
        "source_type": ["earthquake"] * 8 + ["explosion", None],
    }
)


def shares(how):
    number, weight = strata(TABLE, how)
    assert sorted(set(number)) == list(range(len(weight)))
    return number, weight / weight.sum()


def test_bins_of_magnitude_come_alike_and_the_missing_are_one_of_them():
    number, weight = shares(BalanceConfig(magnitude_edges=(2.0, 4.0)))
    bins = [set(np.flatnonzero(number == k).tolist()) for k in range(len(weight))]
    assert sorted(bins, key=min) == [{0, 1, 6}, {2, 3, 4}, {5, 8}, {7, 9}]
    np.testing.assert_allclose(weight, 0.25)


def test_bins_of_magnitude_and_distance_that_hold_records():
    number, weight = shares(BalanceConfig(magnitude_edges=(3.0,), distance_edges_km=(20.0,)))
    assert {frozenset(np.flatnonzero(number == k).tolist()) for k in range(len(weight))} == {
        frozenset(s) for s in ({0, 6}, {1, 2}, {3, 7}, {4}, {5, 8}, {9})
    }


def test_power_goes_from_alike_to_as_the_records_are():
    number, weight = shares(BalanceConfig(classes="source_type", power=1.0))
    assert sorted(weight * 10) == pytest.approx([1, 1, 8]) and len(set(number)) == 3
    assert sorted(shares(BalanceConfig(classes="source_type", power=0.5))[1]) == pytest.approx(
        sorted(np.sqrt([8, 1, 1]) / np.sqrt([8, 1, 1]).sum())
    )


def test_sets_come_by_their_weights_whatever_their_bins():
    number, weight = shares(BalanceConfig(sets={"a": 3.0, "b": 1.0}, classes="source_type"))
    of_a = {int(k) for k in number[:6]}
    assert len(of_a) == 1 and len(weight) == 4 and not of_a & {int(k) for k in number[6:]}
    assert sum(weight[k] for k in of_a) == pytest.approx(0.75)
    assert shares(BalanceConfig(sets={"a": 0.0, "b": 1.0}))[1].tolist() == [0.0, 1.0]


def test_a_column_that_is_absent_is_missing_everywhere():
    number, weight = strata(TABLE[["dataset"]], BalanceConfig(magnitude_edges=(3.0,), classes="nothing"))
    assert set(number) == {0} and len(weight) == 1


@pytest.mark.parametrize(
    ("how", "line"),
    [
        (BalanceConfig(sets={"a": 1.0, "bb": 1.0}), "unknown set 'bb'"),
        (BalanceConfig(sets={"a": 1.0}), "no weight for the sets b: add them to balance.sets"),
        (BalanceConfig(sets={"a": 0.0, "b": 0.0}), "one above 0"),
        (BalanceConfig(sets={"a": -1.0, "b": 1.0}), "0 or more"),
        (BalanceConfig(magnitude_edges=(4.0, 2.0)), r"edges of bins \[4.0, 2.0\]: they must rise"),
    ],
)
def test_what_makes_no_sense_is_refused(how, line):
    with pytest.raises(SeislatentError, match=line):
        strata(TABLE, how)


GROUPS = np.repeat(np.arange(8), [1, 2, 3, 4, 5, 6, 7, 8])
MIXED = np.random.default_rng(0).permutation(len(GROUPS))
"""Rows of a group do not stand together."""


def test_groups_are_whole_and_their_records_differ():
    groups = GROUPS[MIXED]
    sampler = Sampler(len(groups), 12, 0, groups=groups, per_group=(3, 3))
    seen = Counter()
    for step in range(3):  # 6 groups have 3 records or more, 4 of them make a batch
        share = sampler.take(step, 0, 1)
        assert share.group.tolist() == np.repeat(np.arange(4), 3).tolist()
        for g in range(4):
            mine = share.rows[share.group == g]
            assert len(set(mine)) == 3 and len(set(groups[mine])) == 1
            seen[int(groups[mine[0]])] += 1
    assert seen == {g: 2 for g in range(2, 8)}


def test_sizes_of_groups_are_drawn_between_two_ends():
    groups = GROUPS[MIXED]
    sampler = Sampler(len(groups), 12, 0, groups=groups, per_group=(2, 4))
    sizes = Counter()
    for step in range(60):
        share = sampler.take(step, 0, 1)
        for g in range(3):
            mine = share.rows[share.group == g]
            assert len(set(mine)) == len(mine) and len(set(groups[mine])) == 1
            sizes[len(mine), min(4, int((groups == groups[mine[0]]).sum()))] += 1
    assert {n for n, most in sizes if most == 4} == {2, 3, 4} and {n for n, most in sizes if most == 2} == {2}
    large = [sizes[n, 4] for n in (2, 3, 4)]
    assert min(large) > 0.6 * max(large)


def test_records_of_a_group_are_drawn_afresh_each_time():
    sampler = Sampler(20, 2, 0, groups=np.zeros(20, np.int64))
    drawn = rows(sampler, range(100))
    assert len({frozenset(drawn[2 * k : 2 * k + 2].tolist()) for k in range(100)}) > 60 and set(drawn) == set(range(20))


def test_groups_come_by_weight():
    groups = np.arange(60) // 3
    kinds = (groups >= 18).astype(np.int64)
    sampler = Sampler(60, 20, 0, groups=groups, strata=kinds, weights=np.array([1.0, 1.0]))
    drawn = rows(sampler, range(60))
    assert np.mean(kinds[drawn]) == pytest.approx(0.5, abs=0.07)


def test_nothing_but_weights_of_zero():
    groups, kinds = np.array([0, 1, 1, 1]), np.array([1, 0, 0, 0])
    with pytest.raises(SeislatentError, match="every record that is left has weight 0"):
        Sampler(4, 2, 0, groups=groups, strata=kinds, weights=np.array([0.0, 1.0]))
