"""Windows of the records of one or several stores, by number: read when asked for, as float32, in one order of components."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.data.store import Store, is_store
from seislatent.errors import SeislatentError
from seislatent.prepare.augment import Dice
from seislatent.prepare.resample import SAME_RATE

NEEDED = ("split", "trace_npts", "trace_sampling_rate_hz", "trace_component_order")
"""Columns without which no window is cut."""


def open_stores(folders: Sequence[Path]) -> list[Store]:
    """The stores in some folders.

    Raises:
        SeislatentError: a folder is no store, or none is given.
    """
    for folder in folders:
        if not is_store(folder):
            raise SeislatentError(
                f"{folder} is no record store: make one with seislatent prepare data/RECIPE --data {folder} --out STORE"
            )
    if not folders:
        raise SeislatentError("no record store is given: name one or several folders")
    return [Store(folder) for folder in folders]


def table_of(stores: Sequence[Store], split: str, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of all records of a split, and `part` and `row`: which store, and where in it.

    `dataset` is the store's folder where the store has no such column; another column that no store has is absent.

    Raises:
        SeislatentError: no record has the split.
    """
    tables, known = [], set()
    for part, store in enumerate(stores):
        wanted = [name for name in dict.fromkeys([*NEEDED, *columns]) if name in store.names]
        table = store.columns(*wanted)
        table["part"], table["row"] = np.int32(part), np.arange(len(table))
        if "dataset" in columns and "dataset" not in table:
            table["dataset"] = Path(store.path).name
        splits = table["split"] if "split" in table else pd.Series("", index=table.index)
        known |= {str(name) for name in splits.dropna().unique()} - {""}
        tables.append(table[(splits == split).to_numpy(bool, na_value=False)])
    table = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0].reset_index(drop=True)
    if not len(table):
        names = ", ".join(str(store.path) for store in stores)
        raise SeislatentError(f"{names}: no record of the split '{split}' (there are: {', '.join(sorted(known)) or 'none'})")
    return table


def one_rate(table: pd.DataFrame, wanted_hz: float | None) -> float:
    """The rate that all records have, in Hz.

    Raises:
        SeislatentError: they have several, or another than the one wanted.
    """
    rates = table["trace_sampling_rate_hz"].to_numpy(float)
    told, counts = np.unique(np.round(rates, 6), return_counts=True)
    rate = float(wanted_hz or rates[0])
    if not (np.abs(rates / rate - 1) <= SAME_RATE).all():
        found = ", ".join(f"{r:g} Hz ({n})" for r, n in zip(told, counts, strict=True))
        raise SeislatentError(
            f"the records have the rates {found}, training takes {f'{rate:g} Hz' if wanted_hz else 'one'}: make a store"
            " at one rate, such as with seislatent prepare data/marmara --recipe.sampling_rate_hz RATE --data STORE --out ANOTHER"
        )
    return rate


class Cuts:
    """Windows of one length.

    Args:
        stores: opened.
        table: of the records to read, from `table_of`; record i is its i-th row.
        components: the channels of a window, one letter each.
        length: in samples.
    """

    def __init__(self, stores: Sequence[Store], table: pd.DataFrame, components: str, length: int) -> None:
        self.stores, self.components, self.length = stores, components, length
        self.part, self.row = table["part"].to_numpy(np.int32), table["row"].to_numpy(np.int64)
        self.npts = table["trace_npts"].to_numpy(np.int64)
        self.kind, orders = pd.factorize(table["trace_component_order"], use_na_sentinel=False)
        self.rows = [_places(order, components) for order in orders]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Whether each record has every component."""
        return np.array([-1 not in rows for rows in self.rows], bool)[self.kind]

    def read(self, records: NDArray[np.int64], first: NDArray[np.int64], array: str = "x") -> tuple[NDArray, NDArray]:
        """Samples [record channel time] as float32 from sample `first` of each record, and which of them are valid.

        What is not finite, lies outside the record, or belongs to a component that the record lacks or that does not move in the
        window is 0 and not valid.
        """
        x = self._samples(records, first, array)
        valid = np.isfinite(x)
        if not valid.all():
            x = np.where(valid, x, np.float32(0))
            moves = np.where(valid, x, -np.inf).max(2) > np.where(valid, x, np.inf).min(2)
        else:
            moves = x.max(2) > x.min(2)
        if not moves.all():
            valid &= moves[..., None]
            x *= moves[..., None]
        return x, valid

    def _samples(self, records: NDArray[np.int64], first: NDArray[np.int64], array: str) -> NDArray[np.float32]:
        """As `read`, with NaN where nothing is."""
        inside = (first >= 0) & (first + self.length <= self.npts[records])
        sort = (self.part[records].astype(np.int64) * len(self.rows) + self.kind[records]) * 2 + inside
        kinds = np.unique(sort)
        if len(kinds) == 1 and inside[0]:
            return np.ascontiguousarray(self._inside(records, first, array), np.float32)
        x = np.full((len(records), len(self.components), self.length), np.nan, np.float32)
        for kind in kinds:
            some = np.flatnonzero(sort == kind)
            if inside[some[0]]:
                x[some] = self._inside(records[some], first[some], array)
            else:
                for i in some:
                    a, z = max(int(first[i]), 0), min(int(first[i]) + self.length, int(self.npts[records[i]]))
                    if z > a:
                        x[i, :, a - first[i] : z - first[i]] = self._inside(records[i : i + 1], np.array([a]), array, z - a)[0]
        return x

    def _inside(self, records: NDArray[np.int64], first: NDArray[np.int64], array: str, length: int = 0) -> NDArray[Any]:
        """Windows within records of one store and one order of components."""
        store, rows = self.stores[self.part[records[0]]], self.rows[self.kind[records[0]]]
        x = store.read(self.row[records], array=array, first=first, length=length or self.length)
        if rows == list(range(x.shape[1])):
            return x
        found = x[:, rows]
        if -1 in rows:
            found = found.astype(np.float32)
            found[:, [row == -1 for row in rows]] = np.nan
        return found


class StoreNoise:
    """A `NoiseSource` of windows from anywhere in any record."""

    def __init__(self, cuts: Cuts) -> None:
        self.cuts = cuts

    def __call__(self, dice: Dice, count: int, length: int) -> NDArray[np.float32]:
        """Noise [count channel length]; `length` is that of the cuts."""
        drawn = dice.random((count, 2))
        records = np.floor(drawn[:, 0] * len(self.cuts)).astype(np.int64)
        room = np.maximum(self.cuts.npts[records] - length, 0)
        return self.cuts.read(records, np.floor(drawn[:, 1] * (room + 1)).astype(np.int64))[0]


def _places(order: Any, components: str) -> list[int]:
    """Where each component stands in a record; -1: nowhere."""
    text = order if isinstance(order, str) else ""
    there = text.split(",") if "," in text else list(text)
    return [there.index(c) if c in there else -1 for c in components]
