"""Picks as tables: from QuakeML, GSE2.0 bulletins and CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seislatent.errors import SeislatentError
from seislatent.io.catalogues import Paths, cells, column_names, gather_files
from seislatent.io.event_fields import Told, number_or_nan, pick_table, start, time_ns
from seislatent.io.gse_bulletin import is_bulletin, read_bulletin
from seislatent.io.quakeml import is_xml, read_quakeml_picks


@dataclass(frozen=True)
class Picks:
    """Readings: `table` has a row per pick and the columns of `PICK_COLUMNS`; `bad` says in lines what was left out or changed."""

    table: pd.DataFrame
    bad: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)


NAMES: dict[str, tuple[str, ...]] = {
    "source_id": ("source_id", "event_id", "eventid", "event", "event_index"),
    "network": ("station_network_code", "network_code", "network", "net"),
    "station": ("station_code", "station", "sta"),
    "location": ("station_location_code", "location_code", "location", "loc"),
    "channel": ("trace_channel", "channel", "cha"),
    "trace": ("station_id", "seed_id", "trace_id", "id"),
    "phase": ("phase", "phase_type", "phase_hint", "type"),
    "time_ns": ("time_ns",),
    "time": ("time", "phase_time", "pick_time", "arrival_time", "peak_time", "timestamp"),
    "distance": ("path_ep_distance_km", "distance_km", "epicentral_distance_km"),
    "azimuth": ("path_azimuth_deg", "azimuth_deg", "azimuth"),
    "residual": ("residual_s", "time_residual", "residual"),
    "snr": ("snr",),
    "magnitude": ("station_magnitude",),
    "magnitude_type": ("station_magnitude_type",),
    "onset": ("onset",),
    "polarity": ("polarity", "phase_polarity"),
    "status": ("status", "evaluation_mode", "phase_status"),
}
"""Columns of a table of picks in lower case, the first that is there being taken."""


def read_picks(path: Paths) -> Picks:
    """Picks from one file, several, or every file of a folder and its subfolders: QuakeML, GSE2.0 bulletins, CSV.

    Every reading is kept, several of one station and phase too. A code that the file does not give is "".

    Args:
        path: a file, a folder, or a sequence of them; each file may be packed with gzip, bzip2 or xz.

    Raises:
        SeislatentError: nothing can be read; a file among several that cannot is told in `bad`.
    """
    told = Told()
    rows = gather_files(path, _rows, told, "file of picks")
    return Picks(pick_table(rows), told.all())


def _rows(path: Path, told: Told, shown: str) -> list[tuple[Any, ...]]:
    head = start(path, shown)
    if is_xml(head):
        return read_quakeml_picks(path, told, shown)
    if is_bulletin(head):
        return read_bulletin(path, told, shown).rows()
    rows: list[tuple[Any, ...]] = []
    columns: dict[str, str] = {}
    for count, row, titles in cells(path, told, shown):
        if row is None:
            columns = column_names(titles, NAMES)
            missing = [] if {"station", "trace"} & set(columns) else ["station"]
            missing += [] if {"time", "time_ns"} & set(columns) else ["time"]
            missing += [] if "phase" in columns else ["phase"]
            if missing:
                raise SeislatentError(f"{shown} holds no picks: its line {count} names no column for {', '.join(missing)}")
            continue
        made = _row({key: row[name].strip() for key, name in columns.items()}, told, f"{shown} line {count}")
        if made is not None:
            rows.append(made)
    if not columns:
        raise SeislatentError(f"{shown} holds no picks: it has no line of titles")
    return rows


def _row(cell: Mapping[str, str], told: Told, where: str) -> tuple[Any, ...] | None:
    codes = [cell.get(k, "") for k in ("network", "station", "location", "channel")]
    if not codes[1] and cell.get("trace"):  # NET.STA.LOC.CHA, or its beginning
        parts = cell["trace"].split(".")
        codes = ["", parts[0], "", ""] if len(parts) == 1 else [*parts, "", ""][:4]
    try:
        whole = cell.get("time_ns", "")
        ns = int(whole) if whole.lstrip("-").isdigit() and len(whole) < 20 else time_ns(cell.get("time", ""))
        if abs(ns) >= 2**63 or not codes[1]:
            raise ValueError("it has no station" if not codes[1] else f"time {whole} is out of range")
    except ValueError as error:
        told.add(f"{where}: pick left out: {error}")
        return None
    values = {k: number_or_nan(cell.get(k), told, where, k) for k in ("distance", "azimuth", "residual", "snr", "magnitude")}
    kind = cell.get("magnitude_type", "") if not np.isnan(values["magnitude"]) else ""
    marks = (cell.get("onset", ""), cell.get("polarity", ""), cell.get("status", ""))
    return cell.get("source_id") or None, *codes, cell["phase"], ns, *values.values(), kind, *marks
