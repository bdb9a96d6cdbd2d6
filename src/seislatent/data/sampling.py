"""Which rows a step takes: pure functions of (seed, step, rank, world), so that a run resumes and processes share without overlap.

    position in the run --stratum by weight--> draw number of the stratum --its own shuffle, anew each epoch--> row

No list of a million rows is shuffled or kept: `permuted` says where one index goes, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from seislatent.errors import SeislatentError, unknown

CARDS = 1024
"""Draws in which every stratum comes as often as its weight says, but for one; they are dealt in random order."""
CYCLES = 1024
"""Deals of so many cards after which it has come exactly so often, but for rounding."""
ROUNDS = 8
_STEP = np.uint64(0x9E3779B97F4A7C15)
_ODD = 633  # near CYCLES times the golden ratio: its multiples fill CYCLES evenly


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """How often records of a kind come; without any of these, each record once per epoch.

    Sets come by their weights; within a set, every bin that holds records (of magnitude, distance and class together) comes alike,
    or by `power`; within a bin, each record once before any comes twice.
    """

    sets: dict[str, float] = field(default_factory=dict)
    """Weight of each set, by its name in the column `dataset` (the store's folder where there is no such column); 0: left out."""
    magnitude_edges: tuple[float, ...] = ()
    """Edges between bins of source_magnitude: n edges make n + 1 bins; records without a magnitude are a bin of their own."""
    distance_edges_km: tuple[float, ...] = ()
    """Edges between bins of distance in km, as for magnitude."""
    distance: str = "path_ep_distance_km"
    """Column of the distance: epicentral, or path_hyp_distance_km."""
    classes: str = ""
    """Column whose values come alike, such as source_type or trace_category; empty: none."""
    power: float = 0.0
    """Weight of a bin is its number of records to this power: 0, all alike; 1, as the records are."""

    @property
    def wanted(self) -> bool:
        """Whether anything is balanced."""
        return bool(self.sets or self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that it needs, but for `dataset`."""
        given = (self.magnitude_edges and "source_magnitude", self.distance_edges_km and self.distance, self.classes)
        return tuple(str(name) for name in given if name)


@dataclass(frozen=True, kw_only=True, eq=False)
class Share:
    """What one process takes of a step."""

    rows: NDArray[np.int64]
    """[batch]"""
    first: int
    """Place of the first one among the records of the step."""
    among: int
    """Records of the step, of all processes."""
    group: NDArray[np.int64] | None = None
    """[batch], counted from 0 on this process."""


class Deck:
    """An endless order of entries: each once per epoch, or in strata that come by weight.

    Args:
        count: number of entries.
        seed: of the order.
        strata: [count] number of each entry's stratum; None: one stratum.
        weights: of the strata; entries of a stratum of weight 0 never come.

    Raises:
        SeislatentError: all weights are 0.
    """

    def __init__(
        self, count: int, seed: int, strata: NDArray[np.int64] | None = None, weights: NDArray[np.float64] | None = None
    ) -> None:
        self.seed, self.count = seed, count
        self.order = None if strata is None else np.argsort(strata, kind="stable")
        self.sizes = np.array([count]) if strata is None else np.bincount(strata)
        self.starts = np.cumsum(self.sizes) - self.sizes
        if weights is not None and not weights.sum() > 0:
            raise SeislatentError("every record that is left has weight 0: give one of its sets a weight above 0 in balance.sets")
        shares = np.ones(1) if weights is None else weights / weights.sum()
        self.parts = np.round(np.concatenate([[0.0], np.cumsum(shares)]) * CARDS * CYCLES).astype(np.int64)

    def at(self, position: NDArray[np.int64]) -> NDArray[np.int64]:
        """Entries at places of the order."""
        if len(self.sizes) == 1:
            stratum, draw = np.zeros_like(position), position
        else:
            stratum, draw = self._dealt(position)
        epoch, place = np.divmod(draw, self.sizes[stratum])
        found = self.starts[stratum] + permuted(place, self.sizes[stratum], key(self.seed, 1, stratum, epoch))
        return found if self.order is None else self.order[found]

    def _dealt(self, position: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The stratum at each place, and how often it has come before.

        A stratum has its whole number of cards in each deal, and one more in some of CYCLES deals: systematic sampling, whose
        edges move evenly from deal to deal, so that rare strata come in many deals and not all at once.
        """
        cycle, card = np.divmod(position, CARDS)
        card = permuted(card, CARDS, key(self.seed, 0, cycle))
        stratum, draw = np.empty_like(card), np.empty_like(card)
        whole, rest = np.divmod(self.parts, CYCLES)
        for each in np.unique(cycle):
            turns, turn = divmod(int(each), CYCLES)
            more = np.arange(turn + 1) * _ODD % CYCLES >= CYCLES - rest[:, None]
            edges = whole + more[:, turn]
            before = np.diff(turns * self.parts + whole * turn + more[:, :turn].sum(1))
            mine = cycle == each
            k = np.searchsorted(edges, card[mine], side="right") - 1
            stratum[mine], draw[mine] = k, before[k] + card[mine] - edges[k]
        return stratum, draw


class Sampler:
    """Rows by step.

    Args:
        count: rows to draw from.
        batch: records of a step, over all processes.
        seed: of the run.
        strata: [count] and its `weights`: as in `Deck`.
        weights: see `strata`.
        groups: [count] number of each row's group; then a step takes whole groups, as many as fit with the largest size. A group
            belongs to the stratum of its first record.
        per_group: fewest and most records of a group; as many as are drawn between them, and as the group has.

    Raises:
        SeislatentError: no rows, no group with the fewest records, or a batch that does not hold one group.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        seed: int,
        *,
        strata: NDArray[np.int64] | None = None,
        weights: NDArray[np.float64] | None = None,
        groups: NDArray[np.int64] | None = None,
        per_group: tuple[int, int] = (2, 2),
    ) -> None:
        if count < 1 or batch < 1:
            raise SeislatentError(f"nothing to draw from {count} records in batches of {batch}: give one or more of each")
        self.batch, self.seed, self.per_group, self.members = batch, seed, per_group, None
        if groups is None:
            self.deck = Deck(count, seed, strata, weights)
            return
        fewest, most = per_group
        if not 1 <= fewest <= most <= batch:
            raise SeislatentError(f"groups of {fewest} to {most} records, batch of {batch}: a batch must hold one group at least")
        sizes = np.bincount(groups)
        kept = np.flatnonzero(sizes >= fewest)
        if not len(kept):
            raise SeislatentError(f"no group has {fewest} records (the largest has {sizes.max()}): ask for fewer per group")
        self.members = np.argsort(groups, kind="stable")
        starts = np.cumsum(sizes) - sizes
        self.sizes, self.starts = sizes[kept], starts[kept]
        first = self.members[self.starts]
        self.deck = Deck(len(kept), seed, None if strata is None else _dense(strata[first]), _some(weights, strata, first))

    @property
    def steps(self) -> int:
        """Steps after which every record (or group) has come once where nothing is balanced."""
        return -(-self.deck.count // (self.batch if self.members is None else self.batch // self.per_group[1]))

    def take(self, step: int, rank: int, world: int) -> Share:
        """The share of process `rank` of `world` in a step.

        Raises:
            SeislatentError: the batch (or its groups) does not divide over the processes.
        """
        if self.members is not None:
            return self._take_groups(step, rank, world)
        mine = self.batch // world
        if mine * world != self.batch:
            raise SeislatentError(f"a batch of {self.batch} records does not divide over {world} processes: change recipe.batch")
        place = step * self.batch + rank * mine
        return Share(rows=self.deck.at(np.arange(place, place + mine)), first=rank * mine, among=self.batch)

    def _take_groups(self, step: int, rank: int, world: int) -> Share:
        fewest, most = self.per_group
        among = self.batch // most
        mine = among // world
        if mine * world != among:
            raise SeislatentError(f"a batch of {among} groups does not divide over {world} processes: change recipe.batch")
        slots = np.arange(step * among, (step + 1) * among)
        group = self.deck.at(slots)
        size, keys = self.sizes[group], key(self.seed, 2, slots)
        largest = np.minimum(size, most)
        count = fewest + (keys >> np.uint64(11)).astype(np.int64) % (largest - fewest + 1)
        record = np.repeat(np.arange(among), count)
        place = np.arange(len(record)) - np.repeat(np.cumsum(count) - count, count)
        found = self.starts[group][record] + permuted(place, size[record], key(self.seed, 3, slots)[record])
        assert self.members is not None
        own = (record >= rank * mine) & (record < (rank + 1) * mine)
        first = int(np.argmax(own))
        return Share(rows=self.members[found[own]], first=first, among=len(record), group=record[own] - rank * mine)


def strata(table: pd.DataFrame, how: BalanceConfig) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The stratum of each row, numbered from 0, and the weight of each stratum.

    Args:
        table: the column `dataset` where sets have weights, and `how.columns`; a column that is absent is missing for every row.
        how: what is balanced.

    Raises:
        SeislatentError: a set that is not there, one without a weight, or weights that leave nothing.
    """
    number = np.zeros(len(table), np.int64)
    of_set, weight = number, np.ones(1)
    if how.sets:
        names, of_set = np.unique(table["dataset"].astype(str).to_numpy(), return_inverse=True)
        weight = _weights(names, how.sets)
        number = of_set
    for edges, name in ((how.magnitude_edges, "source_magnitude"), (how.distance_edges_km, how.distance)):
        if edges:
            number = _joined(number, _binned(_numbers(table, name), edges))
    if how.classes:
        texts = table[how.classes].fillna("").astype(str).to_numpy() if how.classes in table else np.full(len(table), "")
        number = _joined(number, np.unique(texts, return_inverse=True)[1])
    _, first, number, counts = np.unique(number, return_index=True, return_inverse=True, return_counts=True)
    within = counts.astype(float) ** how.power
    mine = of_set[first]
    return number, within * (weight / np.bincount(mine, within, len(weight)))[mine]


def _weights(names: NDArray[Any], given: dict[str, float]) -> NDArray[np.float64]:
    for name in given:
        if name not in names:
            raise SeislatentError(unknown("set", name, names))
    bare = [str(name) for name in names if name not in given]
    if bare:
        raise SeislatentError(f"no weight for the sets {', '.join(bare)}: add them to balance.sets (0 leaves a set out)")
    weight = np.array([given[str(name)] for name in names])
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.sum() > 0):
        raise SeislatentError(f"weights of sets {given}: they must be 0 or more, and one above 0")
    return weight


def _numbers(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    if name not in table:
        return np.full(len(table), np.nan)
    return pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)


def _binned(values: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    """0: missing; 1: below the first edge; k + 1: at the k-th edge and above, below the next."""
    if sorted(set(edges)) != list(edges):
        raise SeislatentError(f"edges of bins {list(edges)}: they must rise")
    return np.where(np.isfinite(values), 1 + np.digitize(values, edges), 0)


def _joined(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    return a * (int(b.max(initial=0)) + 1) + b


def _dense(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.unique(numbers, return_inverse=True)[1]
    return found


def _some(
    weights: NDArray[np.float64] | None, numbers: NDArray[np.int64] | None, rows: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    return None if weights is None or numbers is None else weights[np.unique(numbers[rows])]


def mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit spread over all 64: the finalizer of splitmix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def key(*parts: ArrayLike) -> NDArray[np.uint64]:
    """A word of 64 bits that looks random, from integers or arrays of them, which are broadcast; never of no dimension."""
    words = [np.atleast_1d(np.asarray(part)).astype(np.int64).astype(np.uint64) for part in parts]
    out = np.zeros(1, np.uint64)
    for word in words:
        out = mixed((out + _STEP) ^ mixed(word + _STEP))
    return out


def permuted(index: NDArray[np.int64], count: ArrayLike, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where a shuffle of `count` things puts the things at `index`.

    For one key the map is one-to-one on 0 ... count - 1. Things lie in a table of about as many rows as columns, and each round
    moves the row by what the column says, or the column by what the row says; what lands in a field that holds no thing goes on
    (generalised Feistel cipher, Black and Rogaway 2002, doi:10.1007/3-540-45760-7_9). Its cost does not depend on `count`.

    Args:
        index: [n], from 0 to below `count`.
        count: of each, or of all.
        keys: of each, or of all, from `key`.
    """
    out = np.atleast_1d(index).astype(np.uint64)
    counts = np.broadcast_to(np.asarray(count, np.uint64), out.shape)
    keys = np.broadcast_to(keys, out.shape)
    wide = np.ceil(np.sqrt(counts.astype(float))).astype(np.uint64)
    high = (counts + wide - np.uint64(1)) // wide
    todo = np.arange(len(out))
    while len(todo):
        k, a, b = keys[todo], high[todo], wide[todo]
        row, column = np.divmod(out[todo], b)
        for _ in range(ROUNDS // 2):
            row = (row + mixed(column ^ k) % a) % a
            column = (column + mixed(row ^ (k + _STEP)) % b) % b
            k = mixed(k)
        out[todo] = row * b + column
        todo = todo[out[todo] >= counts[todo]]
    return out.astype(np.int64)
