"""What the columns of a SeisBench metadata table say about one record, in the spellings found in published sets."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seislatent.components import component_of, named
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel

OTHER_NAMES = {
    "network_code": "station_network_code", "receiver_code": "station_code", "receiver_latitude": "station_latitude_deg",
    "receiver_longitude": "station_longitude_deg", "receiver_elevation_m": "station_elevation_m", "receiver_type": "trace_channel",
    "station_type": "trace_channel", "channel": "trace_channel", "components": "trace_component_order", "units": "trace_unit",
    "unit": "trace_unit", "p_arrival_sample": "trace_p_arrival_sample", "s_arrival_sample": "trace_s_arrival_sample",
    "p_status": "trace_p_status", "s_status": "trace_s_status", "p_weight": "trace_p_weight", "s_weight": "trace_s_weight",
    "coda_end_sample": "trace_coda_end_sample", "snr_db": "trace_snr_db", "back_azimuth_deg": "path_back_azimuth_deg",
    "p_travel_sec": "path_p_travel_s", "source_latitude": "source_latitude_deg", "source_longitude": "source_longitude_deg",
    "source_distance_km": "path_ep_distance_km", "source_distance_deg": "path_ep_distance_deg",
    "event_id": "source_id", "event": "source_id",
}  # fmt: skip
"""STEAD's and other sets' columns by SeisBench's names; a column that stands under its right name already is kept."""

TEXT = frozenset(
    {
        "trace_name", "source_id", "event_id", "event", "station_network_code", "network_code", "station_code", "receiver_code",
        "station_location_code", "trace_channel", "trace_channel_codes", "channel", "channels", "trace_component_order",
        "components", "trace_start_time", "trace_unit", "units", "unit", "split", "station_type", "receiver_type",
        "trace_category", "trace_history",
    }
)  # fmt: skip
"""Columns read as text as they stand: network NA is no missing value, station 0012 no number."""

_OF_CHANNELS = (
    "station_network_code", "station_code", "station_location_code", "station_latitude_deg", "station_longitude_deg",
    "station_elevation_m", "trace_channel", "trace_channel_codes", "channels", "trace_component_order", "trace_azimuths_deg",
    "trace_dips_deg",
)  # fmt: skip
"""What `channels_of` looks at: records that agree in it have the same channels."""

_MISSING = ("", "nan", "NaN", "NA", "N/A", "null", "None")
_STAMP = re.compile(r"(?<!\d)((?:19|20)\d{12})(\d{2})?(?!\d)")  # YYYYMMDDhhmmss and hundredths, as NCEDC names its records
_SPECFEM = re.compile(r"([^./]+)\.([^./]+)\.([^./]+)\.sem([dva])$")
_UNITS = {
    "counts": "counts", "count": "counts", "raw counts": "counts", "m": "m", "m/s": "m/s", "mps": "m/s", "m/s^2": "m/s^2",
    "m/s/s": "m/s^2", "m/s2": "m/s^2", "m/s**2": "m/s^2", "mps2": "m/s^2", "cm": "cm", "cm/s": "cm/s", "cm/s^2": "cm/s^2",
    "cm/s/s": "cm/s^2", "cm/s2": "cm/s^2", "cm/s**2": "cm/s^2", "gal": "cm/s^2", "g": "g",
    "nm": "nm", "nm/s": "nm/s", "nm/s^2": "nm/s^2",
}  # fmt: skip


def unit_of(text: Any) -> str | None:
    """The unit that a text names, None for a text that names none ('as in repo').

    >>> unit_of("cm/s/s"), unit_of("raw counts"), unit_of("as in repo")
    ('cm/s^2', 'counts', None)
    """
    return _UNITS.get(str(text).strip().lower()) if isinstance(text, str) else None


def read_table(path: Path) -> pd.DataFrame:
    """A metadata file with SeisBench's names; text columns stay text, and `start_ns` holds the start where it is known.

    Raises:
        SeislatentError: the file is missing, no CSV, or has no column trace_name.
    """
    try:
        columns = pd.read_csv(path, nrows=0).columns
        text = [c for c in columns if c in TEXT]
        missing = {c: [""] if c in TEXT else list(_MISSING) for c in columns}
        table = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=missing, low_memory=False)
    except FileNotFoundError as error:
        raise SeislatentError(f"{path} does not exist: a SeisBench folder has metadata.csv beside waveforms.hdf5") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise SeislatentError(f"{path} is no table of comma-separated values: {str(error).splitlines()[0]}") from error
    if "trace_name" not in table:
        raise SeislatentError(f"{path} has no column trace_name: it names the array of each record")
    if table["trace_name"].isna().any():
        row = int(table["trace_name"].isna().to_numpy().argmax()) + 2
        raise SeislatentError(f"{path}, line {row}: no trace_name, which names the record's array: give it, or take the line out")
    taken = set(table.columns)
    names = {}
    for other, name in OTHER_NAMES.items():
        if other in table and name not in taken:
            names[other] = name
            taken.add(name)
    table = table.rename(columns=names)
    if "file" in table:
        _from_file_names(table)
    table["start_ns"] = starts(table)
    return table


def starts(table: pd.DataFrame) -> pd.Series:
    """Nanoseconds since 1970 of the first sample; missing where neither a column nor the trace's name says it."""
    texts = table["trace_start_time"] if "trace_start_time" in table else pd.Series(None, index=table.index, dtype=object)
    times = pd.to_datetime(texts, utc=True, errors="coerce", format="mixed")
    times = times.where(times.dt.year.between(1678, 2261)).dt.as_unit("ns")
    stamps = table["trace_name"].str.extract(_STAMP)
    whole = pd.to_datetime(stamps[0], utc=True, errors="coerce", format="%Y%m%d%H%M%S").dt.as_unit("ns")
    whole += pd.to_timedelta(pd.to_numeric(stamps[1], errors="coerce").fillna(0) * 10, unit="ms").dt.as_unit("ns")
    ns = times.fillna(whole)
    return ns.astype("int64").astype("Int64").mask(ns.isna())


def _from_file_names(table: pd.DataFrame) -> None:
    """Fill what SPECFEM3D (NET.STA.CHA.semd) and SCEC BBP (STATION.acc.bbp) write into the names of their files."""
    found = table["file"].astype(str).str.extract(_SPECFEM)
    specfem = found[3].map({"d": "m", "v": "m/s", "a": "m/s^2"})
    bbp = table["file"].astype(str).str.extract(r"([^./]+)[^/]*?(\.acc|\.vel)?\.bbp$")
    header = table["header"].astype(str) if "header" in table else pd.Series("", index=table.index)
    told = header.str.extractall(r"\(([^()]*/s[^()]*)\)")[0].groupby(level=0).first().map(unit_of).reindex(table.index)
    values = {
        "station_network_code": found[0], "station_code": found[1].fillna(bbp[0]), "trace_channel": found[2],
        "trace_unit": specfem.fillna(told).fillna(bbp[1].map({".acc": "cm/s^2", ".vel": "cm/s"})),
    }  # fmt: skip
    for name, value in values.items():
        table[name] = table[name].fillna(value) if name in table else value


def components_of(row: dict[str, Any], order: str, rows: int) -> tuple[str, ...]:
    """The component of each row: from the record's own columns, else from the file's `component_order`.

    Orders are written ZNE, Z12, 'N-S,E-W,U-D', 'Z,N|1,E|2' (the first is taken) or 'Z (BHZ)'; what names none gives empty texts.
    """
    codes = _codes(row)
    texts = [row.get("trace_component_order"), order, row.get("trace_channel") if rows == 1 else None]
    for text in texts:
        found = _order(text, rows)
        if found:
            return found
    return tuple(map(_component, codes)) if len(codes) == rows else ("",) * rows


def _order(text: Any, rows: int) -> tuple[str, ...]:
    if not isinstance(text, str) or not text.strip():
        return ()
    text = text.strip()
    if "," in text:
        parts = [part.split("|")[0].strip() for part in text.split(",")]
    else:
        word = text.split()[0]
        parts = list(word) if len(word) == rows else [word]
    found = tuple(map(_component, parts))
    return found if len(found) == rows and all(found) else ()


def _component(code: str) -> str:
    try:
        return component_of(code)
    except SeislatentError:
        return ""


def _codes(row: dict[str, Any]) -> Sequence[str]:
    """Full channel codes, where the record lists them."""
    if isinstance(row.get("trace_channel_codes"), str):
        return row["trace_channel_codes"].split(",")
    return row["channels"].split("_") if isinstance(row.get("channels"), str) else ()


def channels_of(row: dict[str, Any], order: str, rows: int) -> tuple[Channel, ...]:
    """Identity, place and component of each row of a record."""
    components = components_of(row, order, rows)
    codes = _codes(row)
    by_component = {_component(code): code for code in codes}
    prefix = _text(row, "trace_channel") or (codes[0][:2] if codes else "")
    given = {
        "network": _text(row, "station_network_code"), "station": _text(row, "station_code"),
        "location": _text(row, "station_location_code"), "latitude_deg": _within(row, "station_latitude_deg", 90),
        "longitude_deg": _within(row, "station_longitude_deg", 360), "elevation_m": _within(row, "station_elevation_m", 20000),
    }  # fmt: skip
    channels = []
    for i, component in enumerate(components):
        if "trace_channel_codes" in row and len(codes) == rows:
            code = codes[i]
        elif component in by_component:
            code = by_component[component]
        else:
            code = prefix if len(prefix) >= 3 and rows == 1 else prefix[:2] + component if component else prefix
        values: dict[str, Any] = given | {"code": code, "component": component}
        values["azimuth_deg"], values["dip_deg"] = _listed(row, "trace_azimuths_deg", i), _listed(row, "trace_dips_deg", i)
        channels.append(named(Channel(**values)))
    return tuple(channels)


class Identities:
    """`channels_of` that remembers: records of one sensor share their channels. What it holds does not travel between processes."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[Channel, ...]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_known": {}}

    def __call__(self, row: dict[str, Any], order: str, rows: int) -> tuple[Channel, ...]:
        """As `channels_of`."""
        key = (order, rows, *map(row.get, _OF_CHANNELS))
        if key not in self._known:
            if len(self._known) > 1 << 16:
                self._known.clear()
            self._known[key] = channels_of(row, order, rows)
        return self._known[key]


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None or value != value or str(value).strip("- ") == "" else str(value).strip()


def _within(row: dict[str, Any], name: str, limit: float) -> float | None:
    value = row.get(name)
    if not isinstance(value, int | float | np.number):
        return None
    return float(value) if abs(float(value)) <= limit else None  # -999 and the like are no places


def _listed(row: dict[str, Any], name: str, i: int) -> float | None:
    values = row.get(name)
    return json.loads(values)[i] if isinstance(values, str) else None
