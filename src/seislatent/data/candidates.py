"""Which records an archive may give: events x picks x what the archive covers, as tables, however many there are.

    picks --first P and S of each station--> arrivals --events, places, predicted times--> pairs of event and station
    pairs --one instrument, or all, whose samples meet the window--> candidates

Nothing here opens a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.components import NOT_MOTION
from seislatent.data.gather import sensor_of
from seislatent.data.stations import geodesic, places
from seislatent.data.travel_times import arrivals_s
from seislatent.waveform import Channel

MISSING = -(2**63)
"""Stands for no time in columns of nanoseconds."""

_FIRST = {
    "p": r"(?:[ie](?=[pP]))?[pP](?:[gnb*]|diff|n|1)?",
    "s": r"(?:[ie](?=[sS]))?[sS](?:[gnb*]|diff|1)?",
}
"""Phases that may be the first P or S of a station, with an onset letter before them or not; depth and core phases are none."""

_PAIRS_AT_ONCE = 1 << 20
_LATEST_NS = 3600 * 1_000_000_000
"""A pick further than this from the origin of the event whose id it bears is another event's: two agencies count from 1, too."""


def classes(phases: pd.Series) -> pd.Series:
    """p, s or an empty text for each name of a phase."""
    names = phases.fillna("").astype(str).str.strip()
    known = {name: next((k for k, form in _FIRST.items() if _matches(form, name)), "") for name in names.unique()}
    return names.map(known)


def _matches(form: str, name: str) -> bool:
    return re.fullmatch(form, name[:1].lower() + name[1:] if name[:1] in ("I", "E") else name) is not None


def arrivals(picks: pd.DataFrame) -> pd.DataFrame:
    """One row per event, network and station of a table of picks: its earliest P-like and S-like phases and what stands with them.

    Columns: source_id, network, station, p_ns, s_ns (`MISSING` where there is none), p_status, s_status, residual_s, snr,
    magnitude, magnitude_type, distance_km, azimuth_deg.
    """
    keys = ["source_id", "network", "station"]
    wave = classes(picks["phase"])
    table = picks.assign(wave=wave, network=picks["station_network_code"].fillna(""), station=picks["station_code"])
    table = table.sort_values("time_ns", kind="stable")
    size = table[table["station_magnitude"].notna()].drop_duplicates(keys).set_index(keys)
    place = table[table["path_ep_distance_km"].notna()].drop_duplicates(keys).set_index(keys)
    first = {k: table[table["wave"] == k].drop_duplicates(keys).set_index(keys) for k in "ps"}
    out = pd.DataFrame(index=first["p"].index.union(first["s"].index))
    for k in "ps":
        out[f"{k}_ns"] = _aligned(first[k]["time_ns"], out.index)
        out[f"{k}_status"] = first[k]["status"].reindex(out.index).replace("", None)
    out["residual_s"] = first["p"]["residual_s"].reindex(out.index)
    out["snr"] = first["p"]["snr"].reindex(out.index)
    out["magnitude"] = size["station_magnitude"].reindex(out.index)
    out["magnitude_type"] = size["station_magnitude_type"].reindex(out.index).replace("", None)
    out["distance_km"] = place["path_ep_distance_km"].reindex(out.index)
    out["azimuth_deg"] = place["path_azimuth_deg"].reindex(out.index)
    return out.rename_axis(keys).reset_index()


def _aligned(times: pd.Series, index: pd.Index) -> NDArray[np.int64]:
    """Whole nanoseconds under another index, which floats could not hold."""
    at = times.index.get_indexer(index)
    values = times.to_numpy(np.int64)
    return np.where(at >= 0, values[at] if len(values) else MISSING, MISSING)


def associate(picks: pd.DataFrame, events: pd.DataFrame, within_s: float) -> tuple[pd.DataFrame, list[str]]:
    """The picks with ids of the catalogue, and what is to be told.

    Picks whose id the catalogue does not hold (another agency's, or none), or holds for an event of another time, belong to the
    last event that began before them, at most `within_s` earlier; those of one foreign id go together, by their earliest. The rest
    is left out.
    """
    ids = pd.Index(events["source_id"].to_numpy(object)).get_indexer(picks["source_id"].to_numpy(object))
    lag = picks["time_ns"].to_numpy(np.int64) - events["origin_ns"].to_numpy(np.int64)[ids] if len(events) else np.zeros(len(picks))
    known = pd.Series((ids >= 0) & (np.abs(lag) < _LATEST_NS), index=picks.index)
    strange = picks[~known]
    if strange.empty or events.empty:
        lost = len(strange)
        return picks[known], [f"{lost} picks belong to no event of the catalogue and are left out"] if lost else []
    alone = pd.Series(np.arange(len(strange)), index=strange.index).astype(str)
    group = ("id " + strange["source_id"].astype(str)).where(strange["source_id"].notna(), "pick " + alone)
    earliest = strange.groupby(group.to_numpy())["time_ns"].min()
    order = np.argsort(events["origin_ns"].to_numpy(), kind="stable")
    origins = events["origin_ns"].to_numpy(np.int64)[order]
    at = np.searchsorted(origins, earliest.to_numpy(np.int64) + 2_000_000_000, side="right") - 1  # origins of two agencies differ
    near = (at >= 0) & (earliest.to_numpy(np.int64) - origins[np.maximum(at, 0)] <= within_s * 1e9)
    names = events["source_id"].to_numpy(object)[order[np.maximum(at, 0)]]
    found = dict(zip(earliest.index[near], names[near], strict=True))
    given = strange.assign(source_id=group.map(found).to_numpy(object))
    lost = int(given["source_id"].isna().sum())
    notes = [f"{len(given) - lost} picks were given to events of the catalogue by their time"] if lost < len(given) else []
    notes += [f"{lost} picks belong to no event of the catalogue and are left out"] if lost else []
    return pd.concat([picks[known], given[given["source_id"].notna()]], ignore_index=True), notes


def name_networks(table: pd.DataFrame, held: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A table of network and station under the codes of the archive (`held`), and what is to be told.

    A network that is missing on either side is taken from the other where only one of the archive's has the station.
    """
    have = held[["network", "station"]].drop_duplicates()
    by_code = have.groupby("station")["network"].agg(sorted).to_dict()
    exact = set(zip(have["network"], have["station"], strict=True))
    pairs = table[["network", "station"]].drop_duplicates()
    names: dict[tuple[str, str], str | None] = {}
    unclear, absent = [], 0
    for network, station in zip(pairs["network"], pairs["station"], strict=True):
        others = by_code.get(station, [])
        if (network, station) in exact:
            names[network, station] = network
        elif network == "" and len(others) > 1:
            unclear.append(f"{station} ({', '.join(o or 'none' for o in others)})")
        elif others and (network == "" or others == [""]):
            names[network, station] = others[0]
        absent += not others
    found = [names.get(key) for key in zip(table["network"], table["station"], strict=True)]
    told = [f"{absent} stations with picks have no waveforms in the archive"] if absent else []
    if unclear:
        told.append(f"picks without network of stations that several networks have are left out: {'; '.join(unclear[:5])}")
    out = table.assign(network=pd.Series(found, index=table.index, dtype=object))
    return out[out["network"].notna()].reset_index(drop=True), told


def pairs_within(events: pd.DataFrame, stations: pd.DataFrame, farthest_km: float) -> pd.DataFrame:
    """Every event and station (columns network, station) within a distance: source_id, network, station."""
    parts = []
    step = max(1, _PAIRS_AT_ONCE // max(len(stations), 1))
    lat, lon = (stations[c].to_numpy(float) for c in ("latitude_deg", "longitude_deg"))
    for a in range(0, len(events), step):
        some = events.iloc[a : a + step]
        y, x = (some[c].to_numpy(float)[:, None] for c in ("source_latitude_deg", "source_longitude_deg"))
        half = np.radians(lat - y) / 2, np.radians(lon - x) / 2
        chord = np.sin(half[0]) ** 2 + np.cos(np.radians(y)) * np.cos(np.radians(lat)) * np.sin(half[1]) ** 2
        rough = 2 * 6371 * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))  # a sphere, which is 0.6 % wrong at most
        i, j = np.nonzero(rough <= farthest_km * 1.006)
        exact = geodesic(y[i, 0], x[i, 0], lat[j], lon[j])[0] <= farthest_km
        codes = {c: stations[c].to_numpy(object)[j[exact]] for c in ("network", "station")}
        parts.append(pd.DataFrame({"source_id": some["source_id"].to_numpy(object)[i[exact]], **codes}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["source_id", "network", "station"])


def located(pairs: pd.DataFrame, events: pd.DataFrame, stations: pd.DataFrame, unknown_depth_km: float) -> pd.DataFrame:
    """Pairs of event and station with the event's columns, the station's place, distance, azimuths and predicted P and S.

    Distance and azimuth that are not to be had from coordinates stay those of the bulletin. New columns: p_predicted_ns,
    s_predicted_ns, back_azimuth_deg, latitude_deg, longitude_deg, elevation_m.
    """
    table = pairs.merge(events, on="source_id", how="inner", validate="many_to_one")
    origin = table["origin_ns"].to_numpy(np.int64)
    table = pd.concat([table, places(stations, table["network"], table["station"], origin)], axis=1)
    source = table["source_latitude_deg"].to_numpy(float), table["source_longitude_deg"].to_numpy(float)
    distance, azimuth, back = geodesic(*source, table["latitude_deg"].to_numpy(float), table["longitude_deg"].to_numpy(float))
    known = np.isfinite(distance)
    table["distance_km"] = np.where(known, distance, table["distance_km"].astype(float))
    table["azimuth_deg"] = np.where(known, azimuth, table["azimuth_deg"].astype(float))
    table["back_azimuth_deg"] = np.where(known, back, np.nan)
    times = arrivals_s(table["distance_km"].to_numpy(float), table["source_depth_km"].fillna(unknown_depth_km).to_numpy(float))
    for wave, seconds in zip("ps", times, strict=True):
        given = np.isfinite(seconds)
        table[f"{wave}_predicted_ns"] = np.where(given, origin + np.rint(np.nan_to_num(seconds) * 1e9).astype(np.int64), MISSING)
    return table


def bands(spans: pd.DataFrame) -> pd.Series:
    """Band and instrument code of each channel (HH of HHZ), None for channels that record no motion."""
    codes = spans["channel"].astype(str)
    known: dict[str, Any] = {}
    for code in codes.unique():
        still = len(code) == 3 and code[1].upper() in NOT_MOTION
        known[code] = None if still else sensor_of(Channel(code=code))[3]
    return codes.map(known)


def covering(
    pairs: pd.DataFrame, spans: pd.DataFrame, order: Sequence[str], every: bool, components: int
) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Sensors of the archive that have samples between `start_ns` and `end_ns` of each pair.

    Args:
        pairs: columns network, station, start_ns, end_ns.
        spans: as `Archive.spans` gives them.
        order: band and instrument codes, the first choice first; "*" stands for all others.
        every: all sensors of a pair, not only the first.
        components: sensors with fewer channels come after all others.

    Returns:
        Positions in `pairs`, and for each the columns location, band and span (row of `spans`: the latest that covers it).
    """
    table = spans.assign(band=bands(spans), row=np.arange(len(spans)))
    table = table[table["band"].notna()].sort_values("start_ns", kind="stable")
    asked: Mapping[Any, Any] = pairs.groupby(["network", "station"]).indices
    starts, ends = pairs["start_ns"].to_numpy(np.int64), pairs["end_ns"].to_numpy(np.int64)
    parts = []
    for (network, station, location, band), part in table.groupby(["network", "station", "location", "band"], sort=True):
        rows = asked.get((network, station))
        rank = order.index(band) if band in order else order.index("*") if "*" in order else None
        if rows is None or rank is None:
            continue
        rank += len(order) * (part["channel"].nunique() < components)
        begin, until = part["start_ns"].to_numpy(np.int64), np.maximum.accumulate(part["end_ns"].to_numpy(np.int64))
        at = np.searchsorted(begin, ends[rows], side="left") - 1  # the last that begins before the window's end
        good = (at >= 0) & (until[np.maximum(at, 0)] > starts[rows])
        span = part["row"].to_numpy(np.int64)[at[good]]
        fact = {"pair": rows[good], "location": location, "band": band, "span": span, "rank": rank}
        parts.append(pd.DataFrame(fact))
    if not parts:
        return np.empty(0, np.int64), pd.DataFrame(columns=["location", "band", "span"])
    found = pd.concat(parts, ignore_index=True).sort_values(["pair", "rank", "location"], kind="stable")
    if not every:
        found = found.drop_duplicates("pair")
    return found["pair"].to_numpy(np.int64), found[["location", "band", "span"]].reset_index(drop=True)
