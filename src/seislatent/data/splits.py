"""Who is trained on and who is kept for judging: by event, by station, by region, or by event and station; never a permutation of
records.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from seislatent.errors import SeislatentError, unknown

log = logging.getLogger(__name__)

SPLITS = ("train", "dev", "test")
WINDOW_S = 120.0
"""Records whose P (or start) lie this close together belong to one event, where ids do not tell."""
ORIGIN_S = 10.0
"""So do records whose origin times lie this close together: P of distant stations lie minutes apart."""

OVERLAP_S = 1.0
"""Records of one station that have more than this in common are one event: neighbours of continuous data may share a sample."""

_NAMES = {"train": "train", "training": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test",
          "mixed": "mixed"}  # fmt: skip
_HOUR_NS = 3600 * 1_000_000_000  # a block that is cut at the hour may start a sample early: hours are counted 1 s later


def events(metadata: pd.DataFrame, window_s: float = WINDOW_S) -> pd.Series:
    """A label per record, equal for records of one event.

    Records with the same `source_id` (or `event_id`, `event`) are one event. A record without an id, or two records of different
    sets, belong together when their P times (starts, where no P is known) lie within `window_s`, or their origin times
    (`source_origin_time`) within `ORIGIN_S`; so do records of one station that have more than a second in common, whatever their
    ids: windows of a swarm share samples. This is transitive. A record with neither id nor time is an event of its own, which the
    log says.

    Args:
        metadata: a table of records as `seislatent.data.records` gives it; `start_ns` 0 or missing means unknown.
        window_s: in seconds.
    """
    ids = _ids(metadata)
    times = _times_ns(metadata)
    n = len(metadata)
    sets = pd.factorize(metadata["dataset"])[0] if "dataset" in metadata else np.zeros(n, int)
    code = pd.factorize(ids)[0]  # -1 where there is none
    alone = int(((code < 0) & np.isnan(times)).sum())
    if alone:
        log.warning("%d of %d records have neither an event id nor a time: each is taken as an event of its own", alone, n)
    _, first = np.unique(code, return_index=True)
    anchor = dict(zip(code[first], first, strict=True))
    same_id = np.array([anchor[c] if c >= 0 else i for i, c in enumerate(code)], dtype=np.int64)
    pairs = _near(times, window_s * 1e9), _same_origin(metadata, sets, code)
    near_a, near_b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    keep = (code[near_a] < 0) | (code[near_b] < 0) | (sets[near_a] != sets[near_b])
    first_of, second_of = _overlapping(metadata)
    a = np.concatenate([np.arange(n), near_a[keep], first_of])
    b = np.concatenate([same_id, near_b[keep], second_of])
    _, label = connected_components(coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n)), directed=False)
    return pd.Series(label, index=metadata.index, name="event")


def event_names(metadata: pd.DataFrame) -> pd.Series:
    """An id per record, equal for records of one event: the one that is given, else one of the same event, else its first time."""
    label = events(metadata)
    given = _ids(metadata)
    name = given.groupby(label.to_numpy()).min()  # of several ids in an event, the first in the alphabet
    _, own = _keys(metadata, label.to_numpy())
    made = pd.Series([_named(key) for key in own], index=name.index)
    of_event = name.where(name.notna(), made)
    return given.where(given.notna(), pd.Series(of_event.to_numpy()[label], index=metadata.index)).rename("source_id")


def _named(key: str) -> str:
    """'time 1.5e18' becomes 'time 2017-07-14T02:40:00'."""
    kind, _, value = key.partition(" ")
    return f"time {np.datetime64(int(float(value)) // 10**9, 's')}" if kind == "time" else key


def _ids(metadata: pd.DataFrame) -> pd.Series:
    """Event ids as text, missing where none is given."""
    ids = pd.Series(None, index=metadata.index, dtype=object)
    for column in ("source_id", "event_id", "event"):
        if column in metadata:
            given = metadata[column]
            text = given.astype(str).str.strip().where(given.notna())
            ids = ids.where(ids.notna(), text.where(text != ""))
    return ids


def _times_ns(metadata: pd.DataFrame) -> NDArray[np.float64]:
    """P time, or start where there is no P, in nanoseconds (good to about 0.3 microseconds); NaN where unknown."""
    if "start_ns" not in metadata:
        return np.full(len(metadata), np.nan)
    start: NDArray[np.float64] = pd.to_numeric(metadata["start_ns"], errors="coerce").to_numpy(
        np.float64, na_value=np.nan, copy=True
    )
    start[start == 0] = np.nan
    if {"trace_p_arrival_sample", "trace_sampling_rate_hz"} <= set(metadata.columns):
        p = pd.to_numeric(metadata["trace_p_arrival_sample"], errors="coerce").to_numpy(float)
        start += np.nan_to_num(p / metadata["trace_sampling_rate_hz"].to_numpy(float)) * 1e9
    return start


def _near(times: NDArray[np.float64], window_ns: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of records (each once) whose times lie within the window."""
    known = np.flatnonzero(~np.isnan(times))
    order = known[np.argsort(times[known], kind="stable")]
    t = times[order]
    count = np.searchsorted(t, t + window_ns, side="right") - np.arange(len(t)) - 1
    first = np.repeat(np.arange(len(t)), count)
    offset = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count) + 1
    return order[first], order[first + offset]


def _overlapping(metadata: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of records of one station whose samples have more than `OVERLAP_S` in common; each record with one before it."""
    needed = ["start_ns", "trace_npts", "trace_sampling_rate_hz", "station_code"]
    none = np.empty(0, np.int64)
    if not {*needed} <= {*metadata.columns}:
        return none, none
    start = pd.to_numeric(metadata["start_ns"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    count = pd.to_numeric(metadata["trace_npts"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    rate = pd.to_numeric(metadata["trace_sampling_rate_hz"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    end = start + count / np.where(rate > 0, rate, np.nan) * 1e9
    named = metadata["station_code"].fillna("").astype(str).to_numpy() != ""
    known = np.flatnonzero(np.isfinite(end) & (start != 0) & named)
    station = pd.factorize(pd.Series(_stations(metadata)).iloc[known])[0]
    order = known[np.lexsort((start[known], station))]
    station = np.sort(station)
    reach = pd.Series(end[order]).groupby(station).cummax().to_numpy()
    touching = np.flatnonzero((station[1:] == station[:-1]) & (reach[:-1] - start[order[1:]] > OVERLAP_S * 1e9))
    return order[touching], order[touching + 1]


def _same_origin(
    metadata: pd.DataFrame, sets: NDArray[Any], code: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of records with near origin times; of those of one set, id and time one stands for all, so that pairs stay few."""
    if "source_origin_time" not in metadata:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    told = pd.to_datetime(metadata["source_origin_time"], utc=True, errors="coerce", format="ISO8601").dt.as_unit("ns")
    known = np.flatnonzero(told.notna().to_numpy())
    origin = told.astype("int64").to_numpy()[known].astype(np.float64)
    key = pd.DataFrame({"set": sets[known], "code": code[known], "origin": origin})
    same = key.groupby(["set", "code", "origin"]).ngroup().to_numpy()
    _, first = np.unique(same, return_index=True)
    a, b = _near(origin[first], ORIGIN_S * 1e9)
    return np.concatenate([known, known[first[a]]]), np.concatenate([known[first[same]], known[first[b]]])


def split_by_event(metadata: pd.DataFrame, seed: int = 0, shares: Sequence[float] = (0.8, 0.1, 0.1)) -> pd.Series:
    """train, dev or test for each record, the same for all records of an event.

    An existing column `split` is respected, and given to the rest of its event (`mixed` stays, and tells nothing of its event).
    Every other event is drawn by a hash of `seed` and the UTC hour of its first record (of its id where no time is known):
    independent of the order of records, nearly always the same whatever other sets stand beside it, and the same for an hour of
    continuous data and an earthquake in it. Continuous data without events is thus split by whole hours. Where the hours are too
    few to fill every split, events are drawn singly.

    Args:
        metadata: a table of records as `seislatent.data.records` gives it.
        seed: another seed, another split.
        shares: of train, dev and test; divided by their sum.

    Raises:
        SeislatentError: shares that are no shares, or a split of unknown name.
    """
    edges = _edges(shares)
    label = events(metadata).to_numpy()
    given = _given(metadata)
    keys = _keys(metadata, label)
    wanted = {name for name, share in zip(SPLITS, shares, strict=True) if share > 0}
    for choice in keys:
        drawn = np.array([SPLITS[np.searchsorted(edges, _draw(seed, key), side="right")] for key in choice], dtype=object)
        if wanted <= set(drawn) | set(given.dropna()):
            break
    of_event = given.where(given != "mixed").groupby(label).first().reindex(range(len(drawn)))
    of_event = of_event.where(of_event.notna(), pd.Series(drawn))
    result = given.where(given.notna(), pd.Series(of_event.to_numpy()[label], index=metadata.index))
    return result.astype(str).rename("split")


def _edges(shares: Sequence[float]) -> NDArray[Any]:
    if len(shares) != 3 or min(shares) < 0 or not sum(shares) > 0:
        raise SeislatentError(f"shares {tuple(shares)}: give three numbers of at least 0 for train, dev and test")
    total = sum(shares)
    return np.array([shares[0] / total, (shares[0] + shares[1]) / total])


def _given(metadata: pd.DataFrame) -> pd.Series:
    """The split that stands in the table, by our names, missing where there is none."""
    none = pd.Series(None, index=metadata.index, dtype=object)
    if "split" not in metadata:
        return none
    text = metadata["split"].where(metadata["split"].notna(), "").astype(str).str.strip().str.lower()
    strange = set(text) - set(_NAMES) - {""}
    if strange:
        raise SeislatentError(unknown("split", sorted(strange)[0], _NAMES))
    return text.map(_NAMES).astype(object).where(text != "", None)


def _keys(metadata: pd.DataFrame, label: NDArray[np.int64]) -> tuple[list[str], list[str]]:
    """For each event a key by hour, and a key of its own; both independent of the order of records."""
    fields = pd.DataFrame({"event": label, "id": _ids(metadata).to_numpy(), "time": _times_ns(metadata)})
    names = metadata["trace_name"].astype(str).to_numpy() if "trace_name" in metadata else np.arange(len(metadata)).astype(str)
    fields["name"] = names
    first = fields.groupby("event").agg(time=("time", "min"), name=("name", "min"))
    first["id"] = fields.dropna(subset="id").groupby("event")["id"].min()
    own = [f"id {i}" if isinstance(i, str) else f"time {t:.0f}" if t == t else f"record {n}" for t, n, i in first.to_numpy()]
    hour = [
        f"hour {(t + 1e9) // _HOUR_NS:.0f}" if t == t else single for (t, _, _), single in zip(first.to_numpy(), own, strict=True)
    ]
    return hour, own


def _draw(seed: int, key: str) -> float:
    """A number in [0, 1) from a hash."""
    return int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:8], "big") / 2**64


def _stations(metadata: pd.DataFrame) -> list[str]:
    columns = [metadata[c].fillna("") if c in metadata else "" for c in ("station_network_code", "station_code")]
    return [f"{n}.{s}" for n, s in pd.DataFrame({0: columns[0], 1: columns[1]}, index=metadata.index).to_numpy()]


def split_by_station(metadata: pd.DataFrame, seed: int = 0, shares: Sequence[float] = (0.8, 0.1, 0.1)) -> pd.Series:
    """train, dev or test for each record by a hash of network and station; one event may stand in several splits.

    An existing column `split` is not asked: it is about events.
    """
    edges = _edges(shares)
    drawn = [SPLITS[np.searchsorted(edges, _draw(seed, f"station {name}"), side="right")] for name in _stations(metadata)]
    return pd.Series(drawn, index=metadata.index, name="split", dtype=object)


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How records fall to train, dev and test."""

    by: Literal["event", "station", "event+station", "region"] = "event"
    """What never stands in two splits."""
    seed: int = 0
    """Another seed, another split."""
    shares: tuple[float, float, float] | None = None
    """Of train, dev and test; by default 0.8, 0.1, 0.1 (0.7, 0.1, 0.2 by event and station)."""
    stratify: tuple[str, ...] = ()
    """Columns in whose classes (numbers: whole units) the shares hold too, such as source_magnitude; by event or region only."""
    cell_deg: float = 1.0
    """Size of a region's cells in degrees of latitude; as wide in kilometres from west to east."""


def split(
    metadata: pd.DataFrame,
    by: Literal["event", "station", "event+station", "region"] = "event",
    seed: int = 0,
    shares: Sequence[float] | None = None,
    stratify: Sequence[str] = (),
    cell_deg: float = 1.0,
) -> pd.Series:
    """A split by event, by station, by both, or by region.

    `event+station` is for weights that are published: training sees neither the events nor the stations of the test. Events are
    split as by `split_by_event`, and stations into seen and held out (as many as the share of test). train and dev are their
    events at seen stations, test its events at held-out stations, and every other record is `mixed`: an event of the test at a
    seen station, or a held-out station in an event of train or dev. Mixed records belong to no split; judged separately, they
    tell what a new event, or a new station, costs. With the default shares (0.7, 0.1, 0.2) about a third is mixed.

    `region` draws cells of `cell_deg` degrees by where the event was (where the station stands, if nobody told); an event lies in
    the cell of its first record. With `stratify`, events (or cells) are drawn so that each class of these columns has its shares,
    as nearly as whole events allow; a draw then depends on which other events stand beside it.

    Raises:
        SeislatentError: as `split_by_event`; an unknown `by`; a column to stratify by that is not there.
    """
    if by not in ("event", "station", "event+station", "region"):
        raise SeislatentError(unknown("rule of splitting", by, ["event", "station", "event+station", "region"]))
    if stratify and by not in ("event", "region"):
        raise SeislatentError(f"stratify goes with a split by event or region, not by {by}")
    if by == "region" or stratify:
        return _split_units(metadata, by, seed, shares or (0.8, 0.1, 0.1), stratify, cell_deg)
    if by == "event":
        return split_by_event(metadata, seed, shares or (0.8, 0.1, 0.1))
    if by == "station":
        return split_by_station(metadata, seed, shares or (0.8, 0.1, 0.1))
    shares = shares or (0.7, 0.1, 0.2)
    of_event = split_by_event(metadata, seed, shares)
    held = np.array([_draw(seed, f"station {name}") for name in _stations(metadata)]) >= 1 - shares[2] / sum(shares)
    return of_event.where((of_event == "test") == held, "mixed")


def _split_units(
    metadata: pd.DataFrame, by: str, seed: int, shares: Sequence[float], stratify: Sequence[str], cell_deg: float
) -> pd.Series:
    """Events or cells in the order of their class and a hash, dealt out by a sequence that fills every stretch alike."""
    edges = _edges(shares)
    label = events(metadata).to_numpy()
    keys = np.array(_keys(metadata, label)[1], dtype=object)  # one per event
    if by == "region":
        first = pd.Series(_cells(metadata, cell_deg)).groupby(label).first()
        keys = first.reindex(range(len(keys))).to_numpy(dtype=object)
    strata = _strata(metadata, stratify)
    table = pd.DataFrame({"key": keys[label], "stratum": strata, "given": _given(metadata).to_numpy()})
    table["told"] = table["given"].where(table["given"] != "mixed")
    units = table.groupby("key").agg(stratum=("stratum", "min"), given=("told", "first"))
    units["draw"] = [_draw(seed, f"unit {key}") for key in units.index]
    order = units.sort_values(["stratum", "draw"]).index
    golden = (np.sqrt(5) - 1) / 2  # multiples of it are spread evenly over [0, 1) in every stretch of the sequence
    place = (np.arange(len(order)) * golden + _draw(seed, "first")) % 1
    dealt = pd.Series([SPLITS[k] for k in np.searchsorted(edges, place, side="right")], index=order, dtype=object)
    dealt = units["given"].where(units["given"].notna(), dealt.reindex(units.index))
    found = table["given"].where(table["given"].notna(), table["key"].map(dealt))
    return pd.Series(found.to_numpy(), index=metadata.index, name="split").astype(str)


def _cells(metadata: pd.DataFrame, cell_deg: float) -> list[str]:
    """The cell of each record; records without a place share one."""
    if not 0 < cell_deg <= 90:
        raise SeislatentError(f"cells of {cell_deg:g} degrees: give more than 0 and at most 90")
    places = []
    for name in ("latitude_deg", "longitude_deg"):
        columns = [metadata[c] for c in (f"source_{name}", f"station_{name}") if c in metadata]
        value = pd.Series(np.nan, index=metadata.index)
        for column in columns:
            value = value.fillna(pd.to_numeric(column, errors="coerce"))
        places.append(value.to_numpy(float))
    row = np.floor(places[0] / cell_deg)
    across = cell_deg / np.maximum(np.cos(np.radians((row + 0.5) * cell_deg)), 0.05)
    column = np.floor(places[1] / across)
    return [f"cell {r:.0f} {c:.0f}" if r == r and c == c else "cell unknown" for r, c in zip(row, column, strict=True)]


def _strata(metadata: pd.DataFrame, stratify: Sequence[str]) -> NDArray[Any]:
    """A text per record for its class in all columns; numbers count by whole units."""
    text = pd.Series("", index=metadata.index)
    for column in stratify:
        if column not in metadata:
            raise SeislatentError(unknown("column to stratify by", column, [str(c) for c in metadata.columns]))
        values = metadata[column]
        numbers = pd.to_numeric(values, errors="coerce")
        known = numbers.notna().sum() == values.notna().sum()
        classes = np.floor(numbers).astype(str) if known else values.fillna("").astype(str)
        text = text + "|" + classes
    return text.to_numpy(dtype=object)


def leaks(metadata: pd.DataFrame, by: Literal["event", "station", "region"] = "event", cell_deg: float = 1.0) -> pd.DataFrame:
    """Events, stations or cells that stand in more than one of train, dev and test; an empty table is the proof that none does.

    Args:
        metadata: a table of records with the column `split`; records of any other split (such as `mixed`) do not count.
        by: what must not stand in two splits.
        cell_deg: size of the cells, as they were split.

    Returns:
        One row per leak: `splits`, the number of `records`, and the `first` trace name.

    Raises:
        SeislatentError: no column `split`.
    """
    if "split" not in metadata:
        raise SeislatentError("no column `split`: split the records first")
    label = events(metadata) if by != "station" else pd.Series(_stations(metadata), index=metadata.index)
    if by == "region":
        cell = pd.Series(_cells(metadata, cell_deg), index=metadata.index)
        label = cell.groupby(label).transform("first")
    used = metadata["split"].isin(SPLITS)
    names = metadata["trace_name"] if "trace_name" in metadata else pd.Series(metadata.index.astype(str), index=metadata.index)
    table = pd.DataFrame({"key": label, "split": metadata["split"], "name": names})[used]
    several = table.groupby("key")["split"].transform("nunique") > 1
    found = table[several].groupby("key").agg(
        splits=("split", lambda s: ", ".join(sorted(set(s)))), records=("split", "size"), first=("name", "first")
    )
    return found
