"""Which channels of which stations are asked for an event, and from when to when.

    event --station service--> channels --distance, sensor, predicted P and S--> one window per channel

Nothing here is kept or written.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from seislatent.data.stations import geodesic
from seislatent.data.travel_times import KM_PER_DEGREE, arrivals_s
from seislatent.io.event_fields import iso
from seislatent.io.fdsn import Fault, Service
from seislatent.io.fdsn_answers import channel_table, checked
from seislatent.io.fdsn_queries import Query

BYTES_PER_SAMPLE = 1.5
"""Of Steim-compressed miniSEED, roughly, for estimates: quiet broadband takes 1 to 1.3, strong motion up to 2.5."""
HEADER_BYTES = 512
LATEST_S = 3600
"""A channel must run from the origin to so many seconds after it."""

COLUMNS = ["network", "station", "location", "channel", "start_ns", "end_ns", "rate_hz", "distance_deg", "bytes"]


def event_folder(event: pd.Series) -> str:
    """Name of an event's folder: its time, and eight hexadecimal digits of its id, which may hold anything."""
    digest = hashlib.sha256(str(event["source_id"]).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{iso(int(event['origin_ns']))[:19].replace('-', '').replace(':', '')}_{digest}"


def kept_plan(rows: Any) -> pd.DataFrame:
    """A plan as it was kept in a folder.

    Raises:
        ValueError: it is none, or names codes that would lead out of the folder.
    """
    table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(("start_ns", "end_ns", "bytes"), np.int64))
    for codes in table[COLUMNS[:4]].to_numpy(object).tolist():
        checked(*codes)
    return table


def plan_event(query: Query, event: pd.Series, service: Service) -> tuple[pd.DataFrame, list[str]]:
    """Windows of one event, a row per channel with `COLUMNS`; and what was left out.

    Raises:
        Fault: the station service fails; an event of which it knows no channel gives no rows instead.
    """
    origin = int(event["origin_ns"])
    asked = {
        "starttime": origin, "endtime": origin + LATEST_S * 10**9, "channel": ",".join(query.channels),
        "latitude": float(event["source_latitude_deg"]), "longitude": float(event["source_longitude_deg"]),
        "minradius": max(0.0, query.distance_deg[0] - 0.3), "maxradius": min(180.0, query.distance_deg[1] + 0.3),
    }  # fmt: skip
    asked |= {k: v for k in ("network", "station", "location") if (v := getattr(query, k)) != "*"}
    try:
        channels, told = service.channels(asked, channel_table)
    except Fault as fault:
        if fault.reason != "no data":
            raise
        return pd.DataFrame(columns=COLUMNS), []
    return windows(query, event, channels), told


def windows(query: Query, event: pd.Series, channels: pd.DataFrame) -> pd.DataFrame:
    """The channels within the distances that ran at the time, of the sensors wanted, each with its window."""
    origin = int(event["origin_ns"])
    ran = (channels["start_ns"] <= origin) & (origin < channels["end_ns"])
    table = channels[ran].drop_duplicates(["network", "station", "location", "channel"]).reset_index(drop=True)
    source = float(event["source_latitude_deg"]), float(event["source_longitude_deg"])
    far = geodesic(*source, table["latitude_deg"].to_numpy(float), table["longitude_deg"].to_numpy(float))[0]
    depth = float(event["source_depth_km"])
    p, s = arrivals_s(far, query.unknown_depth_km if np.isnan(depth) else depth)
    last = p if query.after == "P" else s
    table["distance_deg"] = np.round(far / KM_PER_DEGREE, 4)
    keep = np.isfinite(p) & np.isfinite(last) & table["distance_deg"].between(*query.distance_deg)
    table["start_ns"] = origin + np.rint((np.nan_to_num(p) - query.before_s) * 1e9).astype(np.int64)
    table["end_ns"] = origin + np.rint((np.nan_to_num(last) + query.after_s) * 1e9).astype(np.int64)
    table = table[keep & (table["end_ns"] > table["start_ns"])]
    table = table if query.every_sensor else chosen(table, query.channels)
    samples = (table["end_ns"] - table["start_ns"]) / 1e9 * table["rate_hz"]
    table = table.assign(bytes=(samples * BYTES_PER_SAMPLE).astype(np.int64) + HEADER_BYTES)
    return table.sort_values(["network", "station", "location", "channel"], ignore_index=True)[COLUMNS]


def chosen(table: pd.DataFrame, patterns: tuple[str, ...]) -> pd.DataFrame:
    """Of each station the channels of one sensor: one with three components first, then in the order of `patterns` and location."""
    band = table["channel"].str[:2]
    rank = band.map({code: _rank(code, patterns) for code in band.unique()})
    size = table.groupby(["network", "station", "location", band])["channel"].transform("size")
    ordered = table.assign(band=band, rank=rank, part=size < 3)
    ordered = ordered.sort_values(["part", "rank", "location", "band"], kind="stable")
    first = ordered.drop_duplicates(["network", "station"])[["network", "station", "location", "band"]]
    return ordered.merge(first, on=["network", "station", "location", "band"]).drop(columns=["band", "rank", "part"])


def _rank(band: str, patterns: tuple[str, ...]) -> int:
    """The first pattern that the first two letters of a channel fit."""
    for k, pattern in enumerate(patterns):
        if all(p in ("?", "*", c) for p, c in zip(pattern[:2].ljust(2, "*"), band, strict=True)):
            return k
    return len(patterns)
