"""The records that heads learn a job on: windows of stores in memory, a pool to draw from, and held-out events to judge by.

JOB[:NAME]=STORE[,STORE][?COLUMN=VALUE] --read--> windows [record 3 time], label or P --events--> pool | test
pool --(seed, repeat)--> shuffled, classes in turn --first n--> 80 % train | 20 % validate, whole events
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from seislatent.data.cuts import open_stores
from seislatent.data.record_batches import numbers_of
from seislatent.data.splits import events
from seislatent.data.store import Store
from seislatent.errors import SeislatentError, UsageError, unknown
from seislatent.experiments.grid import JOBS

ARRIVALS = ("trace_p_arrival_sample", "trace_p_arrival_calc_sample")
"""Columns of P: picked, else calculated; heads learn picked ones only."""
SHUFFLES = 50
"""Divisions into train and validation that are tried, until both have every class."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a set's records are."""

    job: str
    name: str
    """The job, or `job:name`."""
    folders: tuple[str, ...]
    """Record stores."""
    only: tuple[tuple[str, str], ...] = ()
    """Columns, and the value that they must have."""
    synthetic: bool = False
    """Whether the sizes for synthetic records are taken."""
    tested: int = 2000
    """Test records at most."""
    seed: int = 0
    """Of the test records that are drawn where there are more."""


def source(text: str, *, synthetic: bool = False, tested: int = 2000, seed: int = 0) -> Source:
    """A set as it is written on the command line.

    >>> source("explosion:sur=STORE?station_code=SUR").only
    (('station_code', 'SUR'),)

    Raises:
        UsageError: it is not written so, or names no job.
    """
    name, equal, place = text.partition("=")
    job = name.partition(":")[0]
    folders, _, rules = place.partition("?")
    only = tuple((k, v) for k, given, v in (rule.partition("=") for rule in rules.split("&")) if given and k and v)
    if not (equal and folders) or len(only) != (rules.count("&") + 1 if rules else 0):
        raise UsageError(f"'{text}': write JOB=STORE, JOB:NAME=STORE,STORE or JOB=STORE?COLUMN=VALUE; jobs: {', '.join(JOBS)}")
    if job not in JOBS:
        raise UsageError(unknown("job", job, JOBS))
    if not all(c.isalnum() or c in "-_" for c in name.replace(":", "", 1)):
        raise UsageError(f"'{name}': a set's name is made of letters, digits, - and _")
    return Source(
        job=job, name=name, folders=tuple(folders.split(",")), only=only, synthetic=synthetic, tested=tested, seed=seed
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordSet:
    """Windows in memory. Rows of `table` are those of `x` and `target`."""

    source: Source
    x: Tensor
    """[record 3 time], float32."""
    target: Tensor
    """[record]: number of the class (int64), or the sample of P (float32)."""
    table: pd.DataFrame
    """event, dataset, station, snr_db, hour (local mean time), P and S in the window, and the store's name of each record."""
    pool: NDArray[np.int64]
    """Rows to draw from."""
    test: NDArray[np.int64]
    """Rows of events that are never drawn from."""
    sampling_rate_hz: float
    digest: str
    """Of the samples and targets."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; none for picking."""
        return JOBS[self.source.job]

    def drawn(self, n: int, repeat: int, seed: int) -> NDArray[np.int64]:
        """`n` rows of the pool; those of fewer are among those of more. Classes come in turn as long as they last.

        Raises:
            SeislatentError: the pool has fewer.
        """
        if n > len(self.pool):
            raise SeislatentError(f"{self.source.name}: {n} records are asked for, and {len(self.pool)} are there to train with")
        rng = np.random.default_rng([seed, repeat, 1])
        order = rng.permutation(self.pool)
        if self.labels:
            place = pd.Series(order).groupby(self.target[order].numpy()).cumcount().to_numpy()
            order = order[np.argsort(place, kind="stable")]
        return order[:n]

    def divided(self, rows: NDArray[np.int64], held: float, repeat: int, seed: int) -> tuple[NDArray[np.int64], ...]:
        """Rows to train with and rows to validate with: whole events, about the share `held` of the records.

        Raises:
            SeislatentError: they are of one event.
        """
        event = self.table["event"].to_numpy()[rows]
        names, which, count = np.unique(event, return_inverse=True, return_counts=True)
        if len(names) < 2:
            raise SeislatentError(f"{self.source.name}: {len(rows)} records of one event cannot be divided: draw more")
        rng = np.random.default_rng([seed, repeat, 2])
        for _ in range(SHUFFLES):
            order = rng.permutation(len(names))
            before = np.cumsum(count[order]) - count[order]
            validates = np.zeros(len(names), bool)
            validates[order[(before < round(held * len(rows))) & (np.arange(len(names)) < len(names) - 1)]] = True
            away = validates[which]
            kinds = [len(np.unique(self.target[rows[part]].numpy())) for part in (away, ~away)]
            if not self.labels or min(kinds) == len(np.unique(self.target[rows].numpy())):
                break
        return rows[~away], rows[away]


@lru_cache(maxsize=8)
def read(it: Source) -> RecordSet:
    """The set's records. They stay in memory; a process that is asked again gives the same.

    Raises:
        SeislatentError: no store, columns or classes that are not there, windows of different lengths or rates, nothing to test on.
    """
    stores = open_stores([Path(f) for f in it.folders])
    table = pd.concat([_table(store, k) for k, store in enumerate(stores)], ignore_index=True)
    place = ", ".join(it.folders)
    for column, value in it.only:
        if column not in table:
            raise SeislatentError(f"{place}: {unknown('column', column, table.columns)}")
        table = table[_equal(table[column], value)]
    table, target = _targets(it, table.reset_index(drop=True), place)
    shape = _one_shape(table, place)
    x = torch.empty((len(table), *shape[:2]))
    for k, store in enumerate(stores):
        mine = np.flatnonzero(table["part"].to_numpy() == k)
        if len(mine):
            x[torch.from_numpy(mine)] = torch.from_numpy(store.read(table["row"].to_numpy()[mine]).astype(np.float32))
    about = _about(table, x, shape[2])
    pool, test = _apart(it, table, about)
    sha = hashlib.sha256(x.numpy().tobytes() + target.numpy().tobytes() + pool.tobytes() + test.tobytes())
    return RecordSet(
        source=it, x=x, target=target, table=about, pool=pool, test=test, sampling_rate_hz=shape[2], digest=sha.hexdigest()[:16]
    )  # fmt: skip


def described(it: RecordSet) -> dict[str, Any]:
    """What a report tells of a set."""
    counts = {part: len(rows) for part, rows in (("pool", it.pool), ("test", it.test))}
    events_ = {
        f"{part}_events": int(it.table["event"].iloc[rows].nunique()) for part, rows in (("pool", it.pool), ("test", it.test))
    }
    classes = {
        name: {part: int((it.target[rows] == k).sum()) for part, rows in (("pool", it.pool), ("test", it.test))}
        for k, name in enumerate(it.labels)
    }
    return {
        "job": it.source.job, "stores": list(it.source.folders), "only": dict(it.source.only), "synthetic": it.source.synthetic,
        **counts, **events_, "classes": classes, "stations": int(it.table["station"].nunique()), "digest": it.digest,
    }  # fmt: skip


def _table(store: Store, part: int) -> pd.DataFrame:
    table = store.metadata
    if "split" not in table:
        raise SeislatentError(f"{store.path}: its records have no split: prepare it with one (seislatent prepare)")
    return table.assign(part=part, row=np.arange(len(table)), start_ns=table["start_ns"].astype("int64"))


def _equal(column: pd.Series, value: str) -> NDArray[np.bool_]:
    """Where a column has the value, as text or as a number."""
    as_number = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    try:
        same = as_number == float(value)
    except ValueError:
        same = np.zeros(len(column), bool)
    return same | (column.astype(object).astype(str) == value).to_numpy()


def _targets(it: Source, table: pd.DataFrame, place: str) -> tuple[pd.DataFrame, Tensor]:
    """The rows that have what the job asks for, and it."""
    labels = JOBS[it.job]
    column = "label" if labels else ARRIVALS[0]
    if column not in table:
        raise SeislatentError(f"{place}: {unknown('column', column, table.columns)} (the job {it.job} needs it)")
    if labels:
        kept = table[table["label"].isin(labels)].reset_index(drop=True)
        number = kept["label"].map({name: k for k, name in enumerate(labels)}).to_numpy(np.int64, copy=True)
        lacking = [name for k, name in enumerate(labels) if not (number == k).any()]
        if lacking:
            raise SeislatentError(
                f"{place}: no record has the label {lacking[0]}, and the job {it.job} tells {' from '.join(labels)}"
            )
        return kept, torch.from_numpy(number)
    arrival = numbers_of(table, column, place)
    there = (arrival >= 0) & (arrival < table["trace_npts"].to_numpy(float))
    if not there.any():
        raise SeislatentError(f"{place}: no record has P in {column}: the job picking needs it")
    return table[there].reset_index(drop=True), torch.from_numpy(arrival[there].astype(np.float32))


def _one_shape(table: pd.DataFrame, place: str) -> tuple[int, int, float]:
    """Channels, samples and rate of all records."""
    shapes = table[["trace_component_order", "trace_npts", "trace_sampling_rate_hz"]].drop_duplicates()
    if len(shapes) > 1 or len(str(shapes.iloc[0, 0])) != 3:
        told = "; ".join(f"{c} of {n} samples at {r:g} Hz" for c, n, r in shapes.head(3).itertuples(index=False))
        raise SeislatentError(
            f"{place}: records are {told}: give windows of one length and rate, Z, N and E (prepare data/kong_...)"
        )
    _, samples, rate = shapes.to_numpy()[0]
    return 3, int(samples), float(rate)


def _about(table: pd.DataFrame, x: Tensor, rate: float) -> pd.DataFrame:
    """What judging needs of each record."""

    def column(*names: str) -> NDArray[np.float64]:
        found = np.full(len(table), np.nan)
        for name in names:
            if name in table:
                more = pd.to_numeric(table[name], errors="coerce").to_numpy(float, na_value=np.nan)
                found = np.where(np.isfinite(found), found, more)
        return found

    def text(name: str) -> pd.Series:
        return table[name].astype(object).fillna("").astype(str) if name in table else pd.Series("", index=table.index)

    p, s = column(*ARRIVALS), column("trace_s_arrival_sample", "trace_s_arrival_calc_sample")
    start = table["start_ns"].to_numpy(np.int64)
    hour = (start / 3.6e12 + np.nan_to_num(column("station_longitude_deg")) / 15) % 24
    return pd.DataFrame(
        {
            "name": text("trace_name"), "event": events(table).to_numpy(), "dataset": text("dataset"),
            "station": text("station_network_code") + "." + text("station_code"), "hour": np.where(start > 0, hour, np.nan),
            "p": p, "s": s, "snr_db": snr_db(x.numpy(), p, rate),
        }
    )  # fmt: skip


def snr_db(x: NDArray[np.float32], p: NDArray[np.float64], rate_hz: float, seconds: float = 3.0) -> NDArray[np.float64]:
    """Mean square of the `seconds` after P over that of what lies before it, in dB [record]; NaN without a second on either side.

    Both are variances over the three components together.
    """
    found = np.full(len(x), np.nan)
    for i, sample in enumerate(p):
        if np.isfinite(sample) and rate_hz <= sample <= x.shape[2] - rate_hz:
            at = int(sample)
            before, after = x[i, :, : at - int(rate_hz) // 4], x[i, :, at : at + round(seconds * rate_hz)]
            noise, signal = before.var(-1).sum(), after.var(-1).sum()
            found[i] = 10 * np.log10(signal / noise) if noise > 0 and signal > 0 else np.nan
    return found


def _apart(it: Source, table: pd.DataFrame, about: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to draw from and rows to judge by, which share no event: a pool's record of a test event is left out."""
    test = (table["split"] == "test").to_numpy(bool, na_value=False)
    of_test = np.isin(about["event"].to_numpy(), about["event"].to_numpy()[test])
    pool, tested = np.flatnonzero(~of_test), np.flatnonzero(test)
    if not len(pool) or not len(tested):
        lacking = "test" if len(pool) else "train"
        raise SeislatentError(f"{', '.join(it.folders)}: no record of the split '{lacking}': prepare it with --split.shares")
    if len(tested) > it.tested:
        names = np.unique(about["event"].to_numpy()[tested])
        rank = np.empty(names.max() + 1, np.int64)
        rank[np.random.default_rng(it.seed).permutation(names)] = np.arange(len(names))
        order = np.argsort(rank[about["event"].to_numpy()[tested]], kind="stable")
        tested = np.sort(tested[order[: it.tested]])
    return pool, tested
