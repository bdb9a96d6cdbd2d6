"""The table of a record set in its authors' layout: a CSV beside the file, or the attributes of its arrays."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from h5py import h5a, h5d, h5t

from seislatent.errors import SeislatentError
from seislatent.io.hdf5_arrays import Arrays
from seislatent.io.plugins import one_line
from seislatent.io.seisbench_columns import OTHER_NAMES, starts

log = logging.getLogger(__name__)

MOST_RECORDS = 100_000_000
MOST_VALUES = 64
"""An attribute with more values is no property of a record."""

_SLOW = 100_000
"""Records without a table from which on the log says that it takes a while."""


def find_table(path: Path) -> Path | None:
    """The CSV that belongs to an HDF5 file: of the same name, metadata instead of waveforms, or the only one that fits."""
    folder, stem = path.parent, path.stem
    for name in (stem, stem.replace("waveforms", "metadata")):
        if (folder / f"{name}.csv").is_file():
            return folder / f"{name}.csv"
    others = [p for p in folder.iterdir() if p.suffix.lower() in (".hdf5", ".h5") and p != path and p.name[0] != "."]
    if others:  # a table without the file's name may belong to another one
        return None
    for pattern in ("metadata*.csv", "*.csv"):
        fitting = [p for p in sorted(folder.glob(pattern)) if p.name[0] != "." and _names_traces(p)]
        if len(fitting) == 1:
            return fitting[0]
    return None


def _names_traces(path: Path) -> bool:
    with path.open("rb") as handle:
        return b"trace_name" in handle.readline(1 << 16)


def attribute_table(arrays: Arrays, groups: list[str], categories: dict[str, str], *, attributes: bool) -> pd.DataFrame:
    """One row per array: its name, the category of its group, and its attributes.

    Raises:
        SeislatentError: there is no array, or there are more than `MOST_RECORDS`.
    """
    count = sum(map(arrays.count, groups))
    if not 0 < count <= MOST_RECORDS:
        raise SeislatentError(f"{arrays.path} holds {count} records: from 1 to {MOST_RECORDS} are read")
    if attributes and count > _SLOW:
        log.warning("%s has no table beside it: the attributes of %d records are read, some thousand a second", arrays.path, count)
    tables = []
    for path in groups:
        names = arrays.names(path)
        full = names if len(groups) == 1 or path in categories else [f"{path}/{name}" for name in names]
        rows = [_attributes(arrays, path, name) for name in names] if attributes else None
        table = pd.DataFrame(rows, index=range(len(names))).drop(columns="trace_name", errors="ignore")
        table.insert(0, "trace_name", full)
        if categories.get(path) and "trace_category" not in table:
            table["trace_category"] = categories[path]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _attributes(arrays: Arrays, path: str, name: str) -> dict[str, Any]:
    """The attributes of one array that are numbers or short texts; a list of numbers becomes a text of them."""
    group = arrays.group(path)
    found: dict[str, Any] = {}
    try:
        if group is None or not arrays.holds(path, name):
            return found
        array = h5d.open(group, name.encode())
        for i in range(h5a.get_num_attrs(array)):
            one = h5a.open(array, index=i)
            value = _value(one, array)
            if value is not None:
                found[one.name.decode("utf-8", "replace")] = value
    except SeislatentError:  # a link: the record is refused when it is read
        return found
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        log.debug("attributes of %s in %s: %s", name, arrays.path, one_line(error))
    return found


def _value(one: h5a.AttrID, array: h5d.DatasetID) -> Any:
    """One attribute; None for what is neither a number, a text, nor a short list of them."""
    held, space = one.get_type(), one.get_space()
    kind = held.get_class()
    count = space.get_simple_extent_npoints()
    if kind in (h5t.INTEGER, h5t.FLOAT) and held.get_size() <= 8 and 0 < count <= MOST_VALUES:
        numbers = np.empty(one.shape, np.int64 if kind == h5t.INTEGER else np.float64)
        one.read(numbers)
        return numbers.item() if count == 1 else " ".join(map(str, numbers.ravel().tolist()))
    if kind == h5t.STRING and 0 < count <= MOST_VALUES:
        read = h5py.AttributeManager(h5py.Dataset(array))[one.name.decode()]
        texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in np.ravel(np.asarray(read)).tolist()]
        return " ".join(texts)
    return None


def complete(table: pd.DataFrame, names: dict[str, str], factors: dict[str, float], rate_hz: float) -> pd.DataFrame:
    """The table by SeisBench's names and units, with `start_ns`, rate, and what stands in the names of the records."""
    free = {a: b for a, b in (OTHER_NAMES | names).items() if a in table and b not in table}
    seen: set[str] = set()
    for other, name in list(free.items()):
        if name in seen:
            del free[other]
        seen.add(name)
    table = table.rename(columns=free)
    own = set(free.values()) & set(names.values())
    for column, factor in factors.items():
        if column in own:
            table[column] = pd.to_numeric(table[column], errors="coerce") * factor
    for column in ("trace_start_time", "source_origin_time"):
        if column in table:
            table[column] = _as_text(table[column])
    for column in ("trace_coda_end_sample", "trace_p_arrival_sample", "trace_s_arrival_sample"):
        if column in table and not pd.api.types.is_numeric_dtype(table[column]):  # STEAD writes [[2896.]]
            table[column] = pd.to_numeric(table[column].astype(str).str.strip("[] "), errors="coerce")
    _from_names(table)
    if "start_ns" not in table or table["start_ns"].isna().all():
        table["start_ns"] = starts(table)
    rate = pd.to_numeric(table["trace_sampling_rate_hz"], errors="coerce") if "trace_sampling_rate_hz" in table else np.nan
    table["trace_sampling_rate_hz"] = pd.Series(rate, index=table.index).fillna(rate_hz)
    return table


def _as_text(times: pd.Series) -> pd.Series:
    """Times in ISO 8601; numbers are seconds since 1970."""
    seconds = pd.to_numeric(times, errors="coerce").astype(float)
    if seconds.isna().all():
        return times
    given = seconds.abs() < 9e9  # the range of nanoseconds in 64 bits; what lies outside is no time
    number = np.where(given, seconds, 0.0)
    whole = np.floor(number)
    ns = whole.astype(np.int64) * 1_000_000_000 + np.round((number - whole) * 1e6).astype(np.int64) * 1000
    texts = pd.Series(np.datetime_as_string(ns.astype("datetime64[ns]"), unit="ns"), index=times.index) + "Z"
    return times.astype(object).where(seconds.isna(), texts.astype(object).where(given, None))


def _from_names(table: pd.DataFrame) -> None:
    """Network and station where only the record's name tells them: 109C.TA_2006..._EV (STEAD), XX_AAA_... (LEN-DB)."""
    if "station_code" in table and "station_network_code" in table:
        return
    last = table["trace_name"].astype(str).str.rsplit("/", n=1).str[-1]
    stead = last.str.extract(r"^(?P<station>[^._]+)\.(?P<network>[^._]+)_\d{8}")
    lendb = last.str.extract(r"^(?P<network>[^._]+)_(?P<station>[^._]+)_")
    for column, part in (("station_code", "station"), ("station_network_code", "network")):
        told = stead[part].fillna(lendb[part])
        table[column] = table[column].fillna(told) if column in table else told
