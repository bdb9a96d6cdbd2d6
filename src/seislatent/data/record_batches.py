"""Training batches from record stores: windows of records, scaled, augmented, with target, label, condition and groups.

    stores --columns--> table of the split --(seed, step)--> rows --cut--> [b c t] --augment--> --scale--> Batch

A batch is a pure function of the seed and the step; processes share it without overlap, and what a record gets does not depend on
how many share. Nothing but a few columns of the table is held: samples are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.batch import Batch
from seislatent.data.cuts import Cuts, StoreNoise, one_rate, open_stores, table_of
from seislatent.data.sampling import BalanceConfig, Sampler, strata
from seislatent.data.shared import tensor
from seislatent.data.store import Store
from seislatent.errors import SeislatentError, unknown
from seislatent.prepare.augment import AugmentConfig, Dice, Windows, augmented, chain, power


@dataclass(frozen=True, kw_only=True)
class RecordBatchesConfig:
    """Which records, which part of them, and what goes with them."""

    split: str = "train"
    """Records of this split: train, dev or test."""
    sampling_rate_hz: float | None = None
    """What the records must have, in Hz; null: any one rate."""
    components: str = "ZNE"
    """Components of a record, in this order: ZNE, Z, NE, Z12, ..."""
    lacking: Literal["refuse", "leave out", "zero"] = "refuse"
    """Records without one of the components: an error, left out, or that component is 0 and not valid."""
    length_s: float = 30.0
    """Length of the window in s."""
    length: int = 0
    """Length of the window in samples, in place of `length_s`; 0: not used."""
    short: Literal["refuse", "leave out", "pad"] = "refuse"
    """Records shorter than the window: an error, left out, or 0 and not valid beyond their end."""
    start: Literal["beginning", "random", "around arrival", "at arrival"] = "random"
    """The window begins where the record does, anywhere, anywhere so that it holds the arrival, or so that the arrival stands at
    `arrival_s` in it (what the record does not reach is then 0 and not valid)."""
    arrival: str = "trace_p_arrival_sample"
    """Column with the sample number of the arrival in the record."""
    arrival_s: tuple[float, float] = (5.0, 5.0)
    """Earliest and latest place of the arrival in the window, in s from its beginning, drawn uniformly; for `at arrival`."""
    without_arrival: Literal["refuse", "leave out", "random"] = "refuse"
    """Records without an arrival, where `start` needs one: an error, left out, or a window anywhere (records of noise)."""
    scale: Literal["none", "peak", "peak per component", "deviation", "deviation per component"] = "peak"
    """What a record is divided by: its largest absolute value or standard deviation in the window, of all components or of each."""
    conditions: tuple[str, ...] = ()
    """Columns of numbers that become the condition; what is missing is NaN. Sample numbers count from the window's beginning."""
    label: str = ""
    """Column that becomes the label: a number, a sample number (trace_*_sample, counted in the window; NaN outside), or a class."""
    classes: tuple[str, ...] = ()
    """Texts in the column `label`, in the order of their numbers 0, 1, ...; empty: the label is a number."""
    other_classes: Literal["refuse", "leave out"] = "refuse"
    """Records of no class named: an error, or left out."""
    array: str = "x"
    """Array of the store that becomes the batch's x: x is the record itself, others are what the recipe made beside it (low)."""
    target: str = ""
    """Array of the store that becomes the target (x for pairs): same window, divided by the same scale; empty: none."""
    group: str = ""
    """Column whose value makes records a group, such as source_id; empty: no groups."""
    per_group: tuple[int, int] = (2, 2)
    """Fewest and most records of a group in a batch, drawn at random; groups with fewer records are left out."""
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    """How often records of a kind come."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What is changed at random."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns of numbers that a batch needs."""
        arrival = (self.arrival,) if self.start in ("around arrival", "at arrival") else ()
        label = (self.label,) if self.label and not self.classes else ()
        return tuple(dict.fromkeys((*self.conditions, *label, *arrival)))

    @property
    def words(self) -> tuple[str, ...]:
        """Columns of text that a batch needs."""
        named = (self.label if self.classes else "", self.group, "dataset" if self.balance.sets else "")
        return tuple(name for name in named if name)


class RecordBatches:
    """Batches for training, from record stores.

    Args:
        config: see `RecordBatchesConfig`.
        folders: the stores.
        batch: records of a step, over all processes.
        seed: of everything that is drawn.

    Raises:
        SeislatentError: a folder is no store; no record is left; or the records do not have what the config asks for. The line
            says how many lack it, and which key takes them otherwise.
    """

    Config = RecordBatchesConfig

    def __init__(self, config: RecordBatchesConfig, folders: Sequence[Path], *, batch: int, seed: int) -> None:
        self.config, self.folders, self.size, self.seed = config, [Path(f) for f in folders], batch, seed
        stores = open_stores(self.folders)
        table = table_of(stores, config.split, [*config.numbers, *config.words, *config.balance.columns])
        for name in (*config.numbers, *config.words, *config.balance.columns):
            if name not in table:
                columns = {each for store in stores for each in store.names}
                raise SeislatentError(f"{self._place}: {unknown('column', name, columns)}")
        self.rate = one_rate(table, config.sampling_rate_hz)
        self.length = config.length or round(config.length_s * self.rate)
        if self.length < 1 or len(set(config.components)) != len(config.components) or not config.components:
            raise SeislatentError(
                f"windows of {self.length} samples at {self.rate:g} Hz of the components '{config.components}':"
                " give one sample or more, and each component once"
            )
        table = self._usable(stores, table)
        self.cuts = Cuts(stores, table, config.components, self.length)
        self.columns = {name: numbers_of(table, name, self._place) for name in config.numbers}
        self.classes = _classes(table, config) if config.classes else None
        self.sampler = self._sampler(table)
        self.chain = chain(config.augment, self._noise())
        for store in stores:
            for name in (config.array, config.target or "x"):
                if name not in store.arrays:
                    raise SeislatentError(f"{store.path}: {unknown('array', name, store.arrays)}")
        if config.augment.rotated and any("azimuth" in name for name in config.numbers):
            raise SeislatentError("rotated horizontals belong to no known azimuth: set augment.rotated to 0, or take azimuths out")

    @property
    def steps(self) -> int:
        """Steps after which each record has come once, where nothing is balanced."""
        return self.sampler.steps

    def __len__(self) -> int:
        return len(self.cuts)

    def batch(self, step: int, rank: int, world: int) -> Batch:
        """The share of process `rank` of `world` in the records of a step: x, valid, scale, and what the config asks for."""
        share = self.sampler.take(step, rank, world)
        dice = SharedDice(np.random.default_rng([self.seed, step]), share.first, len(share.rows), share.among)
        return self.make(share.rows, dice, share.group)

    def of(self, split: str) -> RecordBatches:
        """Records of another split (dev, test) of the same stores, as they are: neither augmented nor balanced."""
        config = replace(self.config, split=split, augment=AugmentConfig(), balance=BalanceConfig())
        return RecordBatches(config, self.folders, batch=self.size, seed=self.seed)

    def once(self) -> Iterator[Batch]:
        """Every record once, in the stores' order, in batches of the size given; windows that are drawn are the same each time."""
        for first in range(0, len(self), self.size):
            rows = np.arange(first, min(first + self.size, len(self)))
            yield self.make(rows, np.random.default_rng([self.seed, 2**32 + first]))

    @property
    def _place(self) -> str:
        return ", ".join(map(str, self.folders))

    def _usable(self, stores: Sequence[Store], table: pd.DataFrame) -> pd.DataFrame:
        """The rows that have what is asked for, or may be without it."""
        c, count = self.config, len(table)
        out = np.zeros(count, bool)

        def leave(bad: NDArray[np.bool_], trouble: str, key: str, others: str) -> None:
            found = int((bad & ~out).sum())
            if found and getattr(c, key) == "refuse":
                raise SeislatentError(f"{self._place}: {found} of {count} records {trouble}: set {key} to {others}")
            if getattr(c, key) == "leave out":
                out[bad] = True

        if c.group:
            out |= table[c.group].isna().to_numpy()
        if c.classes:
            strange = ~table[c.label].isin(c.classes).to_numpy(bool)
            told = ", ".join(map(str, table[c.label][strange].fillna("none").unique()[:5]))
            trouble = f"have another {c.label} than {', '.join(c.classes)} ({told})"
            leave(strange, trouble, "other_classes", "'leave out', or name it")
        cuts = Cuts(stores, table, c.components, self.length)
        leave(~cuts.complete, f"lack one of the components {c.components}", "lacking", "'leave out' or zero")
        leave(cuts.npts < self.length, f"are shorter than the window of {self.length} samples", "short", "'leave out' or pad")
        if c.start in ("around arrival", "at arrival"):
            arrival = numbers_of(table, c.arrival, self._place)
            without = ~((arrival >= 0) & (arrival < cuts.npts))
            leave(without, f"have no {c.arrival} within them", "without_arrival", "'leave out' or random")
        if out.all():
            raise SeislatentError(f"{self._place}: all {count} records of the split '{c.split}' are left out: ask for less of them")
        return table[~out].reset_index(drop=True) if out.any() else table

    def _sampler(self, table: pd.DataFrame) -> Sampler:
        c = self.config
        found, weights = strata(table, c.balance) if c.balance.wanted else (None, None)
        if not c.group:
            return Sampler(len(table), self.size, self.seed, strata=found, weights=weights)
        if c.balance.distance_edges_km:
            raise SeislatentError("the records of a group have several distances: leave balance.distance_edges_km empty")
        groups = pd.factorize(table[c.group])[0]
        return Sampler(
            len(table), self.size, self.seed, strata=found, weights=weights, groups=groups, per_group=c.per_group
        )  # fmt: skip

    def _noise(self) -> StoreNoise | None:
        """Where the noise comes from: records of the same split that are as long as the window."""
        c = self.config
        if not (c.augment.noisy and c.augment.noise):
            return None
        stores = open_stores([Path(c.augment.noise)])
        table = table_of(stores, c.split, [])
        one_rate(table, self.rate)
        table = table[(table["trace_npts"] >= self.length).to_numpy(bool)]
        cuts = Cuts(stores, table, c.components, self.length)
        if not len(cuts) or not cuts.complete.all():
            raise SeislatentError(
                f"{c.augment.noise}: noise needs records of {self.length} samples or more, all with the components {c.components}"
            )
        return StoreNoise(cuts)

    def _first(self, rows: NDArray[np.int64], dice: Dice) -> NDArray[np.int64]:
        """The first sample of each window, which may lie before the record."""
        c, npts, drawn = self.config, self.cuts.npts[rows], dice.random((len(rows),))
        if c.start == "beginning":
            return np.zeros(len(rows), np.int64)
        room = np.maximum(npts - self.length, 0)
        anywhere = np.floor(drawn * (room + 1))
        if c.start == "random":
            return anywhere.astype(np.int64)
        arrival = self.columns[c.arrival][rows]
        if c.start == "around arrival":
            low, high = np.maximum(np.floor(arrival) - self.length + 1, 0), np.minimum(np.floor(arrival), room)
            first = low + np.floor(drawn * (high - low + 1))
        else:
            early, late = c.arrival_s
            first = np.round(arrival - (early + (late - early) * drawn) * self.rate)
        return np.where((arrival >= 0) & (arrival < npts), first, anywhere).astype(np.int64)

    def make(self, rows: NDArray[np.int64], dice: Dice, group: NDArray[np.int64] | None = None) -> Batch:
        """The batch of some records, by their numbers."""
        first = self._first(rows, dice)
        x, valid = self.cuts.read(rows, first, self.config.array)
        target = self.cuts.read(rows, first, self.config.target)[0] if self.config.target else None
        marks = {name: _within(self.columns[name][rows] - first, self.length) for name in self.config.numbers if _is_mark(name)}
        it = Windows(
            x=x, valid=valid, components=self.config.components, sampling_rate_hz=self.rate, marks=marks, target=target
        )  # fmt: skip
        it = augmented(it, self.chain, dice)
        scale = scale_of(it, self.config.scale)

        def numbers(name: str) -> NDArray[np.float64]:
            return it.marks[name] if name in it.marks else self.columns[name][rows]

        label = None
        if self.config.label:
            label = numbers(self.config.label) if self.classes is None else self.classes[rows]
        condition = [numbers(name) for name in self.config.conditions]
        return Batch(
            x=tensor(it.x / scale[..., None]),
            valid=tensor(it.valid),
            scale=tensor(scale),
            target=None if it.target is None else tensor(it.target / scale[..., None]),
            label=None if label is None else tensor(label if self.classes is not None else label.astype(np.float32)),
            condition=tensor(np.stack(condition, 1).astype(np.float32)) if condition else None,
            group=None if group is None else tensor(group),
        )


class SharedDice:
    """The part of one process in what is drawn for all records of a step."""

    def __init__(self, rng: np.random.Generator, first: int, count: int, among: int) -> None:
        self.rng, self.first, self.count, self.among = rng, first, count, among

    def random(self, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Uniform numbers [record ...], drawn for all records of the step; those of this process."""
        if size[0] != self.count:
            raise ValueError(f"{size[0]} records, not {self.count}")
        return self.rng.random((self.among, *size[1:]))[self.first : self.first + self.count]


def scale_of(windows: Windows, how: str) -> NDArray[np.float32]:
    """What each component [batch channel] is divided by: 1 for none, and for what is silent."""
    x = windows.x
    if how == "none":
        return np.ones(x.shape[:2], np.float32)
    if how in ("peak", "peak per component"):
        scale = np.maximum(x.max(2), -x.min(2))
        if how == "peak":
            scale = np.broadcast_to(scale.max(1, keepdims=True), scale.shape)
    elif how == "deviation":
        scale = np.broadcast_to(np.sqrt(power(x, windows.valid))[:, None], x.shape[:2])
    else:
        b, c, t = x.shape
        scale = np.sqrt(power(x.reshape(-1, 1, t), windows.valid.reshape(-1, 1, t))).reshape(b, c)
    scale = scale.astype(np.float32)
    return np.where(scale > 0, scale, np.float32(1))


def numbers_of(table: pd.DataFrame, name: str, place: str) -> NDArray[np.float64]:
    """A column as numbers, NaN where it is missing.

    Raises:
        SeislatentError: it holds texts.
    """
    values = pd.to_numeric(table[name], errors="coerce")
    if not values.notna().any() and table[name].notna().any():
        raise SeislatentError(f"{place}: the column {name} holds '{table[name].dropna().iloc[0]}', no numbers: name another")
    return values.to_numpy(np.float64, na_value=np.nan)


def _classes(table: pd.DataFrame, config: RecordBatchesConfig) -> NDArray[np.int64]:
    return np.asarray(pd.Categorical(table[config.label], categories=list(config.classes)).codes, np.int64)


def _is_mark(name: str) -> bool:
    return name.startswith("trace_") and name.endswith("_sample")


def _within(sample: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.where((sample >= 0) & (sample < length), sample, np.nan)
