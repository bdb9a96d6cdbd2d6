"""The windows of a store of features that are most like a record, by exact search.

    record --windows around its time--> features q --standardised, unit length--> 1 - cosine to every row --nearest, merged--> table

Rows are compared standardised, z = (x - mean) / deviation, with the moments that the store keeps. Nothing of that is done to the
array: z . q = x . (q / deviation) - mean . (q / deviation), and the lengths of all z stand in norms.npy. So a search is one matrix
product over the array, block by block from the page cache, and as fast as memory is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from seislatent.bulk.embed import embedder, features_of, made_with
from seislatent.bulk.feature_store import Features
from seislatent.bulk.feature_windows import Cut, WindowSource, windows_at
from seislatent.errors import SeislatentError
from seislatent.io.event_fields import iso

By = Literal["standard", "whitened", "plain"]
SHIFTS = 32
"""Positions of the time asked for within the windows that are looked for: of 27 s, every 0.4 s."""
FROM, TO = 0.1, 0.6
"""The first and last of them, as shares of a window: an onset stands so early in what it is compared with."""
AXES, SAMPLE = 128, 8192
"""Of whitening: principal axes at most, and rows of the store that they are found from."""
HELD = 1 << 26
"""Distances held at once."""
STATION = ("station_network_code", "station_code", "station_location_code", "trace_channel")


@dataclass(frozen=True, kw_only=True, eq=False)
class Hits:
    """What a search has found, the nearest first."""

    row: NDArray[np.int64]
    """Of the store."""
    distance: NDArray[np.float32]
    """1 - cosine, 0 to 2; of the nearest of the query's windows."""


def search(
    store: Features | str | Path,
    model: Any,
    like: str | Path | Sequence[str | Path],
    *,
    at: str | None = None,
    station: str | None = None,
    top: int = 50,
    by: By = "standard",
    shifts: int = SHIFTS,
    device: str | None = None,
) -> pd.DataFrame:
    """The `top` windows most like a record: rank, distance, time and the columns of the store's table.

    Args:
        store: made by `seislatent.bulk.embed`.
        model: that the store was made with.
        like: a file, or anything else that `embed` takes.
        at: time in UTC of what is looked for, such as its onset; needed where the record is longer than two windows. Without it,
            the record's beginning is one window.
        station: network and station, NET.STA, where `like` holds several.
        top: hits at most. Hits of one sensor that are nearer to each other than half a window count as one, the nearest.
        by: how features are compared: standardised, whitened (principal axes of the store at unit variance), or as they are.
        shifts: windows that are taken around `at`.
        device: where the product is made; cuda where there is one, if None.

    Raises:
        SeislatentError: another model, no record, no such time or station.
    """
    features = store if isinstance(store, Features) else Features(store)
    if model.digest != features.about.get("digest"):
        raise SeislatentError(
            f"{features.path} was made with {features.about.get('model')}, weights {features.about.get('digest')}; given is"
            f" {model.name}, {model.digest}: give the weights it was made with (--system)"
        )
    cut, pool = made_with(features.about)
    x = query(like, cut, at, station, shifts)
    found = nearest(features, features_of(embedder(model), x, pool)[None], top, by=by, device=device)[0]
    return table_of(features, found)


def table_of(features: Features, hits: Hits) -> pd.DataFrame:
    """Rank, distance, time (UTC) and the rows of the store's table."""
    rows = features.table.iloc[hits.row].reset_index(drop=True)
    times = [None if pd.isna(t) else iso(int(t)) for t in rows["start_ns"]]
    told = {"rank": np.arange(1, len(rows) + 1), "distance": hits.distance, "time": times, "row": hits.row}
    return pd.concat([pd.DataFrame(told), rows.drop(columns="start_ns")], axis=1)


def query(
    like: str | Path | Sequence[str | Path], cut: Cut, at: str | None = None, station: str | None = None, shifts: int = SHIFTS
) -> NDArray[np.float32]:
    """The windows [window 3 time] that stand for what is looked for.

    Raises:
        SeislatentError: nothing there, several stations, or a record that is too long to be one window.
    """
    source = WindowSource(like)
    table = source.table
    names = (table["station_network_code"].fillna("") + "." + table["station_code"].fillna("")).to_numpy()
    rows = np.arange(len(table)) if station is None else np.flatnonzero(names == station)
    there = sorted(set(names))
    if not len(rows):
        raise SeislatentError(f"{like} holds no station {station}; it has {', '.join(there[:10])}")
    if len(set(names[rows])) > 1:
        raise SeislatentError(f"{like} holds {len(there)} stations: name one with --station, such as {there[0]}")
    if at is None:
        length = float(table["trace_npts"].iloc[rows[0]]) / float(table["trace_sampling_rate_hz"].iloc[rows[0]])
        if len(rows) > 1 or length > 2 * cut.samples / cut.sampling_rate_hz:
            raise SeislatentError(
                f"{like} holds {len(rows)} records, the first of {length:g} s: say what you look for with --at TIME"
            )
        return _given(source, [windows_at(source, int(rows[0]), np.zeros(1), cut)], str(like))
    try:
        ns = int(
            pd.Timestamp(at).tz_localize(None).value if pd.Timestamp(at).tz is None else pd.Timestamp(at).tz_convert("UTC").value
        )
    except (ValueError, OverflowError) as error:
        raise SeislatentError(f"--at {at} is no time: write it as 2014-08-24T00:01:00.5 (UTC)") from error
    starts = table["start_ns"].fillna(0).to_numpy(np.int64)[rows]
    ends = starts + (table["trace_npts"].fillna(0) / table["trace_sampling_rate_hz"] * 1e9).to_numpy(float)[rows]
    mine = rows[(starts <= ns) & (ns < ends)]
    if not len(mine):
        span = f"{iso(int(starts.min()))} to {iso(int(ends.max()))}"
        raise SeislatentError(f"{like} holds nothing at {at}: it has records from {span}")
    length_s = cut.samples / cut.sampling_rate_hz
    first = (ns - int(table["start_ns"].iloc[mine[0]])) / 1e9 - np.linspace(FROM, TO, shifts) * length_s
    return _given(source, [windows_at(source, int(mine[0]), first, cut)], str(like))


def _given(source: WindowSource, found: Sequence[Any], name: str) -> NDArray[np.float32]:
    x = np.concatenate([w.x for w in found])
    kept = np.concatenate([w.valid for w in found]) > 0
    if not kept.any():
        raise SeislatentError(f"{name} holds no sample there: a gap, or components that do not move")
    return np.asarray(x[kept])


def nearest(
    features: Features,
    queries: NDArray[np.float32] | Sequence[NDArray[np.float32]],
    top: int,
    *,
    by: By = "standard",
    merge_s: float | None = None,
    device: str | None = None,
) -> list[Hits]:
    """The `top` nearest rows of each of many queries.

    Args:
        features: the store.
        queries: [query shift feature]; a row's distance is that to the nearest of the query's shifts.
        top: hits at most.
        by: see `search`.
        merge_s: hits of a sensor nearer in time than this, in s, count as one; half a window if None; 0 merges none.
        device: see `search`.
    """
    if top < 1:
        raise SeislatentError(f"the {top} nearest: give 1 or more")
    cut, _ = made_with(features.about)
    merge_ns = (cut.samples / cut.sampling_rate_hz / 2 if merge_s is None else merge_s) * 1e9
    space = Space(features, by)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    sensor, start = _places(features)
    several = max((len(q) for q in queries), default=1)
    at_once = max(1, HELD // max(1, len(features)) // several)
    found: list[Hits] = []
    for at in range(0, len(queries), at_once):
        part = [np.asarray(q, np.float32) for q in queries[at : at + at_once]]
        cosine = cosines(features, space, np.concatenate(part), where)
        edge = 0
        for q in part:
            row = cosine[edge : edge + len(q)].max(0)
            edge += len(q)
            found.append(_merged(row, sensor, start, top, merge_ns))
    return found


class Space:
    """How rows are compared: `norms` [window], and for queries the vectors and levels of the product with the array as it is."""

    def __init__(self, features: Features, by: By) -> None:
        mean, deviation = features.moments
        self.mean, self.scale = mean, 1 / deviation
        self.axes: NDArray[np.float64] | None = None
        self.norms: NDArray[np.float32] | None = features.norms
        if by == "plain":
            self.mean, self.scale, self.norms = np.zeros_like(mean), np.ones_like(mean), None
        elif by == "whitened":
            self.axes, self.norms = whitening(features), None
        elif by != "standard":
            raise SeislatentError(f"compared by '{by}': give standard, whitened or plain")

    def project(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows [n axis] whose cosines are asked for."""
        z = (x - self.mean.astype(np.float32)) * self.scale.astype(np.float32)
        return z if self.axes is None else z @ self.axes.astype(np.float32)


def whitening(features: Features) -> NDArray[np.float64]:
    """Principal axes [feature axis] of standardised rows, each over its deviation; evenly drawn rows, at most `AXES` axes.

    Axes that hold less than 1e-4 of the variance of the first are left out: dividing by them would make noise of them.
    """
    step = max(1, len(features) // SAMPLE)
    z = (features.array[::step].astype(np.float64) - features.moments[0]) / features.moments[1]
    _, size, axes = np.linalg.svd(z - z.mean(0), full_matrices=False)
    kept = min(AXES, int((size > 1e-2 * size[0]).sum()))
    return np.asarray(axes[:kept].T / size[:kept] * np.sqrt(len(z)))


def cosines(features: Features, space: Space, queries: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
    """Cosine [query window] of each query with every row."""
    q = space.project(queries)
    q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    out = np.empty((len(q), len(features)), np.float32)
    # where rows need not be changed one by one, all of standardising goes into the queries
    direct = space.axes is None
    vector = np.ascontiguousarray((q * space.scale.astype(np.float32)).T if direct else q.T)
    level = (space.mean.astype(np.float32) @ vector)[:, None] if direct else np.zeros((len(q), 1), np.float32)
    on = torch.from_numpy(vector).to(device) if device.type != "cpu" else None
    for at, block in features.blocks():
        rows = block if direct else space.project(block)
        product = rows @ vector if on is None else (torch.tensor(rows, device=device) @ on).cpu().numpy()
        size = space.norms[at : at + len(block)] if space.norms is not None else np.sqrt(np.einsum("ij,ij->i", rows, rows))
        out[:, at : at + len(block)] = (product.T - level) / np.maximum(size, np.finfo(np.float32).tiny)
    return out


def _places(features: Features) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The sensor and the time of each row; where the time is not known, the record and the time therein."""
    table = features.table
    known = table["start_ns"].notna().to_numpy()
    codes = [table[name].fillna("").astype(str) for name in STATION]
    names = reduce(lambda one, more: one + "." + more, codes).where(known, table["trace_name"].fillna("").astype(str))
    sensor = np.asarray(pd.factorize(names)[0], np.int64)
    start = table["start_ns"].fillna(0).to_numpy(np.int64)
    return sensor, np.where(known, start, np.round(table["offset_s"].to_numpy(float) * 1e9).astype(np.int64))


def _merged(cosine: NDArray[np.float32], sensor: NDArray[np.int64], start: NDArray[np.int64], top: int, merge_ns: float) -> Hits:
    """The rows of largest cosine, without those too near in time to a better one of the same sensor."""
    wanted = min(len(cosine), 4 * top)
    while True:
        chosen = np.argpartition(-cosine, wanted - 1)[:wanted]
        chosen = chosen[np.lexsort((chosen, -cosine[chosen]))]
        kept = _apart(sensor[chosen], start[chosen], top, merge_ns)
        if len(kept) >= top or wanted == len(cosine):
            rows = chosen[kept]
            return Hits(row=rows.astype(np.int64), distance=np.maximum(1 - cosine[rows], 0))
        wanted = min(len(cosine), 4 * wanted)


def _apart(sensor: NDArray[np.int64], start: NDArray[np.int64], top: int, merge_ns: float) -> list[int]:
    """Places, in the order given, that are no nearer than `merge_ns` to an earlier one of their sensor; `top` at most."""
    kept: list[int] = []
    by: dict[int, list[int]] = {}
    for k, (one, at) in enumerate(zip(sensor.tolist(), start.tolist(), strict=True)):
        there = by.setdefault(one, [])
        if all(abs(at - other) >= merge_ns for other in there):
            there.append(at)
            kept.append(k)
            if len(kept) == top:
                break
    return kept
