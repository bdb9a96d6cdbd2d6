"""The records of a store of pairs that a question takes, and which rows a split has.

store (x, low), split --events, scale, filters of the recipe--> PairRecords --batches--> x, low [record channel time]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from seislatent.data.splits import SPLITS, events, split_by_event
from seislatent.data.store import Store, is_store
from seislatent.errors import SeislatentError, unknown
from seislatent.evaluate.baselines.broadband import Circumstances
from seislatent.signal.filters import Butterworth

AT_ONCE = 8
"""Records whose draws are in memory together."""


@dataclass(frozen=True, kw_only=True)
class PairRecords:
    """The records of a split of a store of pairs."""

    store: Store
    rows: NDArray[np.int64]
    table: pd.DataFrame
    events: NDArray[Any]
    scale: NDArray[np.float64]
    """Of x, in m/s^2; NaN where the gain is not known."""
    rate_hz: float
    samples: int
    low_pass: Butterworth
    broad_pass: Butterworth | None

    @property
    def highest_hz(self) -> float:
        """Up to where both sides can be believed."""
        return min(0.4 * self.rate_hz, float(self.broad_pass.corners_hz) if self.broad_pass else math.inf)  # type: ignore[arg-type]

    @property
    def band_hz(self) -> tuple[float, float]:
        """Of time-frequency misfits and scores: four wavelengths fit into the record."""
        return 4 * self.rate_hz / self.samples, self.highest_hz

    def batches(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Places, x and low [record channel time] in float64."""
        for at in range(0, len(self.rows), AT_ONCE):
            here = slice(at, min(at + AT_ONCE, len(self.rows)))
            x, low = (torch.from_numpy(self.store.read(self.rows[here], array=name)).double() for name in ("x", "low"))
            yield here, x, low

    def circumstances(self, low: Tensor | None, at: slice) -> Circumstances:
        """What a baseline may know of some of them."""
        return Circumstances(
            table=self.table.iloc[at], samples=self.samples, sampling_rate_hz=self.rate_hz, unit="m/s^2", scale=self.scale[at],
            low=low, low_pass=self.low_pass, broad_pass=self.broad_pass,
        )  # fmt: skip


def pairs_of(data: str | Path | Sequence[str | Path], split: str) -> PairRecords:
    """The records of a split of one store of pairs. Raises SeislatentError as `translate`."""
    places = [data] if isinstance(data, str | Path) else list(data)
    if len(places) != 1 or not is_store(places[0]):
        raise SeislatentError(f"{', '.join(map(str, places))}: give one record store, made with seislatent prepare data/pairs")
    store = Store(places[0])
    if "low" not in store.arrays:
        raise SeislatentError(f"{store.path} holds {', '.join(store.arrays)} and no low-frequency side: make it with data/pairs")
    rows, chosen, label = split_rows(store.metadata, split)
    config = _settings(store)
    rate = float(chosen["trace_sampling_rate_hz"].iloc[0])
    peak = np.full(len(chosen), np.nan)
    if {"trace_peak", "trace_scale_unit"} <= set(chosen.columns):
        peak = pd.to_numeric(chosen["trace_peak"], errors="coerce").to_numpy(np.float64)
        peak = np.where(chosen["trace_scale_unit"].to_numpy(object) == "m/s^2", peak, np.nan)
    scale = np.where(peak > 0, peak, np.nan)
    broad = config.get("broad_hz", 30.0)

    def low_pass(corner: float) -> Butterworth:
        return Butterworth(
            kind="lowpass", corners_hz=float(corner), rate_hz=rate, order=int(config.get("order", 4)),
            zero_phase=bool(config.get("zero_phase", True)),
        )  # fmt: skip

    return PairRecords(
        store=store, rows=rows, table=chosen, events=label, scale=scale, rate_hz=rate,
        samples=int(chosen["trace_npts"].iloc[0]), low_pass=low_pass(config.get("low_hz", 1.0)),
        broad_pass=None if broad is None else low_pass(broad),
    )  # fmt: skip


def _settings(store: Store) -> dict[str, Any]:
    """How the pairs were made. Raises SeislatentError where components or sides have scales of their own."""
    config = store.about.get("config")
    config = config if isinstance(config, dict) else {}
    if config.get("rescale_low") or config.get("peak", "record") != "record":
        raise SeislatentError(
            f"{store.path} was made with peak: {config.get('peak')} and rescale_low: {config.get('rescale_low')}, so that ratios of"
            " components and sides are lost: make it again without these"
        )
    return config


def split_rows(metadata: pd.DataFrame, split: str) -> tuple[NDArray[np.int64], pd.DataFrame, NDArray[Any]]:
    """Rows, metadata and events of a split, by event. Raises SeislatentError for an unknown or empty one."""
    if split not in (*SPLITS, "all"):
        raise SeislatentError(unknown("split", split, (*SPLITS, "all")))
    label = events(metadata).to_numpy()
    of = split_by_event(metadata).to_numpy()
    rows = np.arange(len(metadata)) if split == "all" else np.flatnonzero(of == split)
    if not len(rows):
        counts = ", ".join(f"{int((of == s).sum())} in {s}" for s in sorted(set(of)))
        raise SeislatentError(f"no record of split '{split}' ({counts}): choose another split, or all")
    chosen = metadata.iloc[rows].reset_index(drop=True)
    names = np.array([f"event {i}" for i in label[rows]], object)
    for column in ("source_id", "event_id"):  # the first name that one of its records has
        if column in chosen:
            given = pd.Series(chosen[column].to_numpy(object)).replace("", None)
            first = given.groupby(label[rows]).first()
            told = [first.get(i) for i in label[rows]]
            names = np.array([n if t is None or t != t else str(t) for n, t in zip(names, told, strict=True)], object)
            break
    return rows, chosen, np.array([str(n) for n in names])
