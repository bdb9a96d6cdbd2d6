"""Where stations stand: from inventories and tables, and how far and in which direction an event lies from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from seislatent.errors import SeislatentError
from seislatent.io.catalogues import cells, column_names
from seislatent.io.event_fields import Told, time_ns
from seislatent.io.inventory import read_inventory

Array = NDArray[np.float64]

COLUMNS = ["network", "station", "latitude_deg", "longitude_deg", "elevation_m", "start_ns", "end_ns"]
"""Columns of a table of stations; a station that was moved has one row for each place, valid from `start_ns` to `end_ns`."""

NAMES: dict[str, tuple[str, ...]] = {
    "network": ("station_network_code", "network_code", "network", "net"),
    "station": ("station_code", "station", "sta", "code", "name"),
    "latitude": ("station_latitude_deg", "latitude_deg", "latitude", "lat"),
    "longitude": ("station_longitude_deg", "longitude_deg", "longitude", "lon", "long"),
    "elevation": ("station_elevation_m", "elevation_m", "elevation", "elev"),
    "start": ("start_time", "starttime", "start", "start_date"),
    "end": ("end_time", "endtime", "end", "end_date"),
}
"""Columns of a table of stations in lower case, the first that is there being taken: FDSN station text is among them."""

_ALWAYS = (-(2**62), 2**62)


def read_stations(paths: Iterable[str | Path]) -> tuple[pd.DataFrame, list[str]]:
    """Stations of inventories (StationXML and the like) and tables of text (CSV, FDSN station text).

    Returns:
        A table with `COLUMNS`, and one line for each thing that was left out.

    Raises:
        SeislatentError: a file is neither.
    """
    told = Told()
    rows: list[tuple[Any, ...]] = []
    for path in map(Path, paths):
        rows += _table_rows(path, told) if path.suffix.lower() in (".csv", ".txt", ".tsv") else _inventory_rows(path)
    kinds = {name: np.float64 for name in COLUMNS[2:5]} | {name: np.int64 for name in COLUMNS[5:]}
    table = pd.DataFrame(rows, columns=COLUMNS).astype(kinds)
    return table.drop_duplicates(ignore_index=True), told.all()


def _inventory_rows(path: Path) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for network in read_inventory(path):
        for station in network:
            start = _ALWAYS[0] if station.start_date is None else station.start_date.ns
            end = _ALWAYS[1] if station.end_date is None else station.end_date.ns
            place = (float(station.latitude), float(station.longitude), float(station.elevation))
            rows.append((network.code, station.code, *place, max(start, _ALWAYS[0]), min(end, _ALWAYS[1])))
    return rows


def _table_rows(path: Path, told: Told) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    columns: dict[str, str] = {}
    for count, row, titles in cells(path, told, path.name):
        if row is None:
            columns = column_names(titles, NAMES)
            missing = [name for name in ("station", "latitude", "longitude") if name not in columns]
            if missing:
                raise SeislatentError(f"{path} is no table of stations: its line {count} names no column for {', '.join(missing)}")
            continue
        cell = {key: row[name].strip() for key, name in columns.items()}
        try:
            place = float(cell["latitude"]), float(cell["longitude"])
            if not (cell["station"] and abs(place[0]) <= 90 and abs(place[1]) <= 360):
                raise ValueError("no code, or no place on Earth")
            high = float(cell.get("elevation") or "nan")
            epoch = [time_ns(cell[k]) if cell.get(k) else _ALWAYS[i] for i, k in enumerate(("start", "end"))]
        except ValueError as error:
            told.add(f"{path.name} line {count}: station left out: {error}")
            continue
        rows.append((cell.get("network", ""), cell["station"], *place, high, *epoch))
    return rows


def places(stations: pd.DataFrame, network: ArrayLike, station: ArrayLike, when_ns: ArrayLike) -> pd.DataFrame:
    """Latitude, longitude and elevation [n] of some stations at some times; NaN for what the table does not hold.

    Of the places of a station the one valid at the time is taken, else the last one. A station whose network stands on one side
    only is known by its code alone, where that is unambiguous.
    """
    asked = pd.DataFrame({"network": np.asarray(network, object), "station": np.asarray(station, object)})
    when = np.asarray(when_ns, np.int64)
    out = np.full((len(asked), 3), np.nan)
    by_id: Mapping[Any, Any] = stations.groupby(["network", "station"]).indices
    by_code = stations.groupby("station")["network"].agg(set).to_dict()
    where, epochs = stations[COLUMNS[2:5]].to_numpy(float), stations[COLUMNS[5:]].to_numpy(np.int64)
    wanted: Mapping[Any, Any] = asked.groupby(["network", "station"]).indices
    for (net, code), rows in wanted.items():
        found = by_id.get((net, code))
        others = by_code.get(code, set())
        if found is None and len(others) == 1 and (net == "" or "" in others):
            found = by_id[next(iter(others)), code]
        if found is None:
            continue
        found = found[np.argsort(epochs[found, 0], kind="stable")]
        valid = (epochs[found, 0] <= when[rows, None]) & (when[rows, None] < epochs[found, 1])
        last = len(found) - 1 - np.argmax(valid[:, ::-1], axis=1)
        out[rows] = where[found[np.where(valid.any(axis=1), last, len(found) - 1)]]
    return pd.DataFrame(out, columns=COLUMNS[2:5])


def geodesic(
    latitude_deg: ArrayLike, longitude_deg: ArrayLike, to_latitude_deg: ArrayLike, to_longitude_deg: ArrayLike
) -> tuple[Array, Array, Array]:
    """Distance in km, azimuth and back azimuth in degrees on the WGS84 ellipsoid, for any shapes that fit.

    Vincenty (1975), equations 13 to 21: within a millimetre, but for points almost opposite to each other (beyond 179 degrees),
    where the iteration ends early. NaN where a coordinate is.
    """
    major, flat = 6378.137, 1 / 298.257223563
    minor = major * (1 - flat)
    corners = (latitude_deg, longitude_deg, to_latitude_deg, to_longitude_deg)
    lat1, lon1, lat2, lon2 = (np.radians(v) for v in np.broadcast_arrays(*(np.asarray(v, np.float64) for v in corners)))
    u1, u2 = np.arctan((1 - flat) * np.tan(lat1)), np.arctan((1 - flat) * np.tan(lat2))
    apart = (lon2 - lon1 + np.pi) % (2 * np.pi) - np.pi
    lam = apart
    s1, c1, s2, c2 = np.sin(u1), np.cos(u1), np.sin(u2), np.cos(u2)
    for _ in range(20):
        across, along = c2 * np.sin(lam), c1 * s2 - s1 * c2 * np.cos(lam)
        sin_sigma = np.hypot(across, along)
        cos_sigma = s1 * s2 + c1 * c2 * np.cos(lam)
        sigma = np.arctan2(sin_sigma, cos_sigma)
        with np.errstate(invalid="ignore", divide="ignore"):
            sin_alpha = np.where(sin_sigma == 0, 0.0, c1 * c2 * np.sin(lam) / sin_sigma)
            cos2_alpha = 1 - sin_alpha**2
            middle = np.where(cos2_alpha < 1e-12, 0.0, cos_sigma - 2 * s1 * s2 / cos2_alpha)
        c = flat / 16 * cos2_alpha * (4 + flat * (4 - 3 * cos2_alpha))
        before, lam = lam, apart + (1 - c) * flat * sin_alpha * (
            sigma + c * sin_sigma * (middle + c * cos_sigma * (2 * middle**2 - 1))
        )
        if not (np.abs(lam - before) >= 1e-12).any():
            break
    square = cos2_alpha * (major**2 - minor**2) / minor**2
    a = 1 + square / 16384 * (4096 + square * (square * (320 - 175 * square) - 768))
    b = square / 1024 * (256 + square * (square * (74 - 47 * square) - 128))
    bent = b * sin_sigma * (
        middle + b / 4 * (cos_sigma * (2 * middle**2 - 1) - b / 6 * middle * (4 * sin_sigma**2 - 3) * (4 * middle**2 - 3))
    )
    forward = np.degrees(np.arctan2(c2 * np.sin(lam), c1 * s2 - s1 * c2 * np.cos(lam))) % 360
    back = np.degrees(np.arctan2(-c1 * np.sin(lam), s1 * c2 - c1 * s2 * np.cos(lam))) % 360
    return minor * a * (sigma - bent), forward, back
