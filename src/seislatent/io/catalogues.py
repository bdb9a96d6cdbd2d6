"""Catalogues of events as tables: QuakeML, FDSN text, CSV and GSE2.0 bulletins in; QuakeML, FDSN text and CSV out."""

from __future__ import annotations

import csv
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seislatent.errors import SeislatentError, UsageError
from seislatent.io.event_fields import (
    EVENT_COLUMNS,
    Told,
    check_size,
    event_row,
    event_table,
    iso,
    lines,
    number,
    put,
    start,
    time_ns,
)
from seislatent.io.gse_bulletin import is_bulletin, read_bulletin
from seislatent.io.plugins import unpacked
from seislatent.io.quakeml import is_xml, read_quakeml_events, write_quakeml

log = logging.getLogger(__name__)

Paths = str | Path | Sequence[str | Path]

SAME_S = 60.0
"""Rows of one id whose origin times differ by no more are one event."""


@dataclass(frozen=True)
class Events:
    """A catalogue: `table` with a row per event and the columns of `EVENT_COLUMNS`; `bad` tells what was left out or changed."""

    table: pd.DataFrame
    bad: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)


NAMES: dict[str, tuple[str, ...]] = {
    "source_id": ("source_id", "eventid", "event_id", "id", "evid", "deprem_kodu", "event"),
    "origin_ns": ("origin_ns",),
    "time": ("source_origin_time", "origin_time", "datetime", "time", "olus_zamani", "origintime", "saat"),
    "date": ("date", "olus_tarihi", "tarih"),
    "latitude": ("source_latitude_deg", "source_latitude", "latitude", "lat", "enlem", "enlem_n"),
    "longitude": ("source_longitude_deg", "source_longitude", "longitude", "lon", "long", "boylam", "boylam_e"),
    "depth_km": ("source_depth_km", "depth_km", "depth", "derinlik_km", "derinlik"),
    "depth_m": ("source_depth_m", "depth_m"),
    "magnitude": ("source_magnitude", "magnitude", "mag"),
    "magnitude_type": ("source_magnitude_type", "magnitude_type", "magtype", "mag_type"),
    "source_type": ("source_type", "event_type", "eventtype", "type", "tip"),
}
"""Columns of a table of events in lower case, the first that is there being taken; `depth` alone is in kilometres."""

SEVERAL = ("mw", "ml", "md", "ms", "mb", "xm")
"""Columns of magnitudes of several kinds, as Kandilli's catalogue has them: the first above zero is taken, in this order."""
_SEVERAL_NAMES = {"mw": "Mw", "ml": "ML", "md": "MD", "ms": "Ms", "mb": "mb", "xm": ""}
_KANDILLI_TYPES = {"ke": "earthquake", "se": "earthquake", "km": "mining explosion", "sm": "mining explosion"}


def read_events(path: Paths) -> Events:
    """A catalogue from one file, several, or every file of a folder and its subfolders.

    The format is told by what a file holds: QuakeML, FDSN text, CSV (comma, semicolon, tab or bar), a GSE2.0 bulletin; each may
    be packed with gzip, bzip2 or xz. Rows of one id whose times lie within `SAME_S` become one: the first, its gaps filled by
    the others.

    Args:
        path: a file, a folder, or a sequence of them.

    Raises:
        SeislatentError: nothing can be read; a file among several that cannot is told in `bad`.
    """
    told = Told()
    rows = gather_files(path, _rows, told, "catalogue")
    table = merge(event_table(rows), told)
    return Events(table, told.all())


def gather_files(
    path: Paths, read: Callable[[Path, Told, str], list[tuple[Any, ...]]], told: Told, what: str
) -> list[tuple[Any, ...]]:
    """Rows of all files; one that cannot be read is told, and raised if there is no other.

    Raises:
        SeislatentError: no file, or none that can be read.
    """
    found = list(_files(path))
    if not found:
        raise SeislatentError(f"{path} holds no file: give a {what} or a folder of them")
    rows: list[tuple[Any, ...]] = []
    failed: list[SeislatentError] = []
    for file in found:
        try:
            check_size(file, str(file))
            with unpacked(file) as plain:
                rows += read(plain, told, file.name if len(found) == 1 else str(file))
        except SeislatentError as error:
            failed.append(error)
            told.add(str(error))
        except OSError as error:
            failed.append(SeislatentError(f"{file} cannot be read: {error.strerror or error}"))
            told.add(str(failed[-1]))
    if len(failed) == len(found):
        raise failed[0]
    return rows


def _files(path: Paths) -> Iterator[Path]:
    for one in [path] if isinstance(path, str | Path) else path:
        one = Path(one)
        if one.is_dir():
            yield from sorted(p for p in one.rglob("*") if p.is_file() and not p.name.startswith("."))
        else:
            yield one


def _rows(path: Path, told: Told, shown: str) -> list[tuple[Any, ...]]:
    head = start(path, shown)
    if is_xml(head):
        return read_quakeml_events(path, told, shown)
    if is_bulletin(head):
        return read_bulletin(path, told, shown, readings=False).events
    return _table_rows(path, told, shown)


def merge(table: pd.DataFrame, told: Told) -> pd.DataFrame:
    """One row per id; an id that two events of different times bear gets `~2`, `~3` ... from the second on, which is told."""
    if not table["source_id"].duplicated().any():
        return table
    ids, times = table["source_id"].to_numpy(copy=True), table["origin_ns"].to_numpy()
    kept: dict[str, list[int]] = {}
    for i, (name, ns) in enumerate(zip(ids, times, strict=True)):
        firsts = kept.setdefault(name, [])
        k = next((k for k, j in enumerate(firsts) if abs(int(times[j]) - int(ns)) <= SAME_S * 1e9), len(firsts))
        if k == len(firsts):
            firsts.append(i)
            if k:
                both = f"{iso(int(times[firsts[0]]))} and {iso(int(ns))}"
                told.add(f"events of {both} bear one id, {name}: the second is now {name}~{k + 1}")
        ids[i] = f"{name}~{k + 1}" if k else name
    table = table.assign(source_id=ids)
    doubles = table["source_id"].duplicated()
    if doubles.any():
        some = ", ".join(map(str, table["source_id"][doubles].unique()[:3]))
        told.add(f"{int(doubles.sum())} rows repeat an event of the same id ({some} ...): merged, the first one's values kept")
        texts = ["source_magnitude_type", "source_type"]
        blank = table.assign(**{name: table[name].where(table[name] != "", None) for name in texts})
        table = blank.groupby("source_id", sort=False, as_index=False).first()
        table = table.fillna(dict.fromkeys(texts, ""))[list(EVENT_COLUMNS)]
    return table.reset_index(drop=True)


_REMARK = re.compile(r"#\s*\w*\s*[:=]")  # above the titles, as GeoCSV has them
_TURKISH = str.maketrans("ıýþð", "iisg")  # the last three stand where a Turkish file is read as latin-1


def plain_name(title: str) -> str:
    """A column's title in lower case letters, digits and underscores: `Depth/km` is depth_km, `Enlem(N)` is enlem_n."""
    text = unicodedata.normalize("NFKD", title.strip().strip("#\"' ").lower().translate(_TURKISH))
    return re.sub(r"[^a-z0-9]+", "_", text.encode("ascii", "ignore").decode()).strip("_")


def cells(path: Path, told: Told, shown: str) -> Iterator[tuple[int, dict[str, str] | None, list[str]]]:
    """Number, columns by plain name and cells of each row of a table of text; first its titles, with None for the columns.

    The separator is the one of comma, semicolon, tab and bar that stands most often in the line of titles. A row is one line;
    one with too few or too many cells is told and left out.
    """
    titles: list[str] = []
    separator = ","
    for count, text in lines(path, told, shown):
        if not text.strip() or _REMARK.match(text) or (titles and text.startswith("#") and text.count(separator) < len(titles) - 1):
            continue
        if not titles:
            separator = max(",;\t|", key=text.count)
        found = text.split("|") if separator == "|" else next(csv.reader([text], delimiter=separator, strict=False), [])
        if not titles:
            titles = [plain_name(t) for t in found]
            yield count, None, titles
        elif len(found) < len(titles) or any(c.strip() for c in found[len(titles) :]):
            told.add(f"{shown} line {count}: {len(found)} cells where the titles have {len(titles)}: left out")
        else:
            yield count, dict(zip(titles, found, strict=False)), found


def column_names(titles: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Which title holds which field."""
    found = {key: next((n for n in known if n in titles), "") for key, known in names.items()}
    return {key: name for key, name in found.items() if name}


def _table_rows(path: Path, told: Told, shown: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    columns: dict[str, str] = {}
    for count, row, titles in cells(path, told, shown):
        if row is None:
            columns = column_names(titles, NAMES)
            missing = [k for k in ("latitude", "longitude") if k not in columns]
            missing += [] if {"time", "origin_ns"} & set(columns) else ["time"]
            if missing:
                raise SeislatentError(f"{shown} is no catalogue: its line {count} names no column for {', '.join(missing)}")
            continue
        where = f"{shown} line {count}"
        size, kind = _magnitude(row, columns)
        made = event_row(
            told, where, source_id=row.get(columns.get("source_id", ""), ""), time=_time(row, columns),
            latitude=row[columns["latitude"]], longitude=row[columns["longitude"]],
            depth=row.get(columns.get("depth_km", columns.get("depth_m", ""))),
            depth_scale=1.0 if "depth_km" in columns else 0.001, magnitude=size, magnitude_type=kind,
            source_type=_type(row, columns),
        )  # fmt: skip
        if made is not None:
            rows.append(made)
    if not columns:
        raise SeislatentError(f"{shown} is no catalogue: it has no line of titles")
    return rows


def _time(row: Mapping[str, str], columns: Mapping[str, str]) -> str | int:
    whole = row.get(columns.get("origin_ns", ""), "").strip()
    if whole and re.fullmatch(r"-?\d{1,19}", whole) and abs(int(whole)) < 2**63:
        return int(whole)
    text = row.get(columns.get("time", ""), "")
    alone = "date" not in columns or re.match(r"\s*\d{4}[-/.]", text)  # the column of times may hold the date too
    return text if alone else f"{row[columns['date']].strip()} {text.strip()}"


def _magnitude(row: Mapping[str, str], columns: Mapping[str, str]) -> tuple[Any, str]:
    if "magnitude" in columns:
        return row[columns["magnitude"]], row.get(columns.get("magnitude_type", ""), "")
    for name in SEVERAL:
        if name in row:
            try:
                if number(row[name]) > 0:
                    return row[name], _SEVERAL_NAMES[name]
            except ValueError:
                continue
    return None, ""


def _type(row: Mapping[str, str], columns: Mapping[str, str]) -> str:
    text = row.get(columns.get("source_type", ""), "").strip()
    return _KANDILLI_TYPES.get(text.lower(), text)


def write_events(path: str | Path, table: pd.DataFrame, *, overwrite: bool = False) -> None:
    """A catalogue as QuakeML (.xml, .qml, .quakeml), FDSN text (.txt) or CSV (.csv), by the name's ending.

    CSV holds every column exactly; QuakeML and FDSN text hold times to the microsecond, and FDSN text no bar in any text.

    Args:
        path: the file to write.
        table: columns of `EVENT_COLUMNS`; `source_origin_time` is made from `origin_ns`, others that miss are empty.
        overwrite: write over a file that is there.

    Raises:
        UsageError: another ending.
        SeislatentError: a column is missing, the file is there already, or the format cannot hold a text.
    """
    path = Path(path)
    writers = {".csv": _write_csv, ".txt": _write_fdsn, ".xml": write_quakeml, ".qml": write_quakeml, ".quakeml": write_quakeml}
    if path.suffix.lower() not in writers:
        raise UsageError(f"{path}: a catalogue is written as .xml (QuakeML), .txt (FDSN text) or .csv")
    writer, full = writers[path.suffix.lower()], complete(table)
    put(path, lambda beside: writer(beside, full), overwrite)


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """The table with all of `EVENT_COLUMNS` in order, empty where a column is missing.

    Raises:
        SeislatentError: an event has no id, time or place, or a text that is not printable.
    """
    if "origin_ns" not in table and "source_origin_time" in table:
        try:
            table = table.assign(origin_ns=[time_ns(str(t)) for t in table["source_origin_time"]])
        except ValueError as error:
            raise SeislatentError(f"column source_origin_time: {error}") from error
    needed = ["source_id", "origin_ns", "source_latitude_deg", "source_longitude_deg"]
    missing = [c for c in needed if c not in table or table[c].isna().any()]
    if missing:
        raise SeislatentError(f"the table of events lacks {', '.join(missing)}: give these with every event")
    empty: dict[str, Any] = {"source_depth_km": np.nan, "source_magnitude": np.nan, "source_magnitude_type": "", "source_type": ""}
    table = table.assign(**{k: v for k, v in empty.items() if k not in table})
    table = table.assign(source_origin_time=[iso(int(ns)) for ns in table["origin_ns"]])[list(EVENT_COLUMNS)]
    table = table.fillna({"source_magnitude_type": "", "source_type": ""})
    for column in ("source_id", "source_magnitude_type", "source_type"):
        odd = [text for text in table[column].astype(str) if not text.isprintable()]
        if odd:
            raise SeislatentError(f"column {column} holds {odd[0]!r}, which is not printable: no catalogue can hold it")
    return table


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False)


def _write_fdsn(path: Path, table: pd.DataFrame) -> None:
    heading = "#EventID|Time|Latitude|Longitude|Depth/km|Author|Catalog|Contributor|ContributorID|MagType|Magnitude|MagAuthor"
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.write(heading + "|EventLocationName|EventType\n")
        for row in table.to_dict("records"):
            texts = str(row["source_id"]), str(row["source_magnitude_type"]), str(row["source_type"])
            if any("|" in text for text in texts):
                raise SeislatentError(f"event {texts[0]!r}: FDSN text cannot hold a bar: write CSV or QuakeML")
            time = str(np.datetime_as_string(np.datetime64(int(row["origin_ns"]), "ns"), unit="us"))
            depth, size = ("" if np.isnan(row[k]) else repr(float(row[k])) for k in ("source_depth_km", "source_magnitude"))
            place = f"{float(row['source_latitude_deg'])!r}|{float(row['source_longitude_deg'])!r}"
            out.write(f"{texts[0]}|{time}|{place}|{depth}|||||{texts[1]}|{size}|||{texts[2]}\n")
