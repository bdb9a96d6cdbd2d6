"""What the table of a record store says about one record: from a waveform to a row and back, and one type per column.

Columns that begin with `store_` are the store's own: where the samples lie, and what a waveform holds that no column of SeisBench
does. All others are the record's metadata, completed by what follows from the record itself. docs/formats/store.md lists them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

OWN = "store_"
"""How the store's own columns begin; metadata may not."""

WORDS = pa.dictionary(pa.int32(), pa.string())
"""Type of text that repeats from record to record."""

_CHANNEL = (
    "network", "station", "location", "code", "component", "latitude_deg", "longitude_deg", "elevation_m", "azimuth_deg", "dip_deg",
)  # fmt: skip
_LONGEST_NAME = 200
_VALUES = (str, int, float)  # a bool is an int
_EXACT = 2**53  # whole numbers up to here are exact in float64


@lru_cache(maxsize=4096)
def _channels_text(channels: tuple[Channel, ...]) -> str:
    """Channels as a JSON list of objects without what is not known."""
    told = [{name: _plain(value) for name in _CHANNEL if (value := getattr(c, name)) not in ("", None)} for c in channels]
    return json.dumps(told, separators=(",", ":"))


@lru_cache(maxsize=4096)
def _channels(text: str) -> tuple[Channel, ...]:
    """The inverse of `_channels_text`; a key that no channel has, or text for a number, is an error."""
    found = []
    for item in json.loads(text):
        for name, value in item.items():
            if name not in _CHANNEL or not isinstance(value, str if name in _CHANNEL[:5] else int | float):
                raise ValueError(f"{name} {value!r} of a channel")
        found.append(Channel(**item))
    return tuple(found)


def _plain(value: Any) -> Any:
    """A NumPy number as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _same(values: Sequence[Any]) -> Any:
    """What all have in common, or None."""
    return values[0] if all(v == values[0] for v in values) else None


@lru_cache(maxsize=4096)
def _station(channels: tuple[Channel, ...]) -> dict[str, Any]:
    """The derived columns that the channels alone tell; what they do not tell, or not agree on, is left out."""
    components = [c.component for c in channels]
    told = {
        "trace_component_order": ("" if all(len(c) == 1 for c in components) else ",").join(components),
        "trace_channel": _same([c.code[:2] for c in channels]),
        "station_network_code": _same([c.network for c in channels]), "station_code": _same([c.station for c in channels]),
        "station_location_code": _same([c.location for c in channels]),
        "station_latitude_deg": _same([_plain(c.latitude_deg) for c in channels]),
        "station_longitude_deg": _same([_plain(c.longitude_deg) for c in channels]),
        "station_elevation_m": _same([_plain(c.elevation_m) for c in channels]),
    }  # fmt: skip
    return {name: value for name, value in told.items() if value not in ("", None)}


def row_of(waveform: Waveform) -> dict[str, Any]:
    """The row of a record, without the places of its samples.

    Metadata that are missing (None, NaN) are left out, and so is `start_ns`: the record's own start stands in that column. What
    follows from the record (rate, samples, start, components, unit, codes, places) is written as the record has it, whatever its
    metadata say.

    Raises:
        SeislatentError: a name begins with `store_` or is no name; a value is neither text nor number nor bool.
    """
    row: dict[str, Any] = {}
    for name, value in waveform.metadata.items():
        if not _fit(name):
            raise SeislatentError(
                f"metadata of {_name(waveform)}: {name!r:.60} can be no column of a store: give a text of 1 to {_LONGEST_NAME}"
                f" characters that does not begin with {OWN}"
            )
        kept = value.item() if isinstance(value, np.generic) else value
        if kept is None or kept is pd.NA or (isinstance(kept, float) and kept != kept):
            continue
        if not isinstance(kept, _VALUES):
            raise SeislatentError(
                f"metadata of {_name(waveform)}: {name} is of type {type(value).__name__}: give text, a number or a bool"
            )
        row[name] = kept
    derived = _station(waveform.channels) | {
        "trace_sampling_rate_hz": float(waveform.sampling_rate_hz), "trace_npts": waveform.data.shape[1],
        "trace_start_time": waveform.start_text,
    }  # fmt: skip
    if waveform.unit is not None:
        derived["trace_unit"] = waveform.unit
    if all(c.code.startswith(str(row.get("trace_channel") or " ")) for c in waveform.channels):
        derived.pop("trace_channel", None)  # BHZ of a record of one channel, which is as true as BH
    added = [name for name in derived if name not in row]
    row |= derived
    for name, value in row.items():
        if isinstance(value, str) and not (value.isascii() or _unicode(value)):
            raise SeislatentError(f"metadata of {_name(waveform)!a}: {name!a} is no Unicode text ({value!a:.60}): mend it")
    return row | {
        "start_ns": int(waveform.start_ns), f"{OWN}channels": _channels_text(waveform.channels),
        f"{OWN}history": json.dumps(waveform.history, separators=(",", ":")), f"{OWN}unit": waveform.unit,
        f"{OWN}added": " ".join(added),
    }  # fmt: skip


@lru_cache(maxsize=4096)
def _fit(name: Any) -> bool:
    """Whether a column may have this name."""
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and not name.startswith(OWN) and _unicode(name)


def _unicode(text: str) -> bool:
    """False for a text that UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(waveform: Waveform) -> str:
    """How an error calls a record."""
    return str(waveform.metadata.get("trace_name") or ", ".join(waveform.ids))


def waveform_of(row: Mapping[str, Any], data: NDArray[Any]) -> Waveform:
    """The record of a row and its samples, the inverse of `row_of`.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: the row says something that no writer of ours writes.
    """
    added = {*row[f"{OWN}added"].split(" "), "start_ns"}
    history = json.loads(row[f"{OWN}history"])
    if not isinstance(history, list) or not all(isinstance(line, str) for line in history):
        raise ValueError(f"history is {history!r:.40}")
    if not isinstance(row["start_ns"], int):
        raise ValueError(f"start_ns is {row['start_ns']!r:.40}")
    return Waveform(
        data=data, sampling_rate_hz=row["trace_sampling_rate_hz"], channels=_channels(row[f"{OWN}channels"]),
        start_ns=row["start_ns"], unit=row[f"{OWN}unit"], history=tuple(history),
        metadata={k: v for k, v in row.items() if v is not None and k not in added and not k.startswith(OWN)},
    )  # fmt: skip


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table: the union of their columns in the order of first sight, missing where a row has none."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: column([row.get(name) for row in rows], words=name.startswith(OWN)) for name in names})


def column(values: Sequence[Any], *, words: bool = False) -> pa.Array:
    """Values as one column: bools, whole numbers (64 bit), numbers or text, whichever is the first that holds them all exactly."""
    if words:
        return pa.array(values, WORDS)
    given = [v for v in values if v is not None]
    if all(isinstance(v, bool) for v in given):
        return pa.array(values, pa.bool_() if given else pa.null())
    if all(isinstance(v, int) for v in given) and min(given) >= -(2**63) and max(given) < 2**63:
        return pa.array([None if v is None else int(v) for v in values], pa.int64())
    if all(isinstance(v, float) or (isinstance(v, int) and abs(v) <= _EXACT) for v in given):
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array([None if v is None else str(v) for v in values], pa.string())


def merged(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables one below the other: the union of their columns; where types differ, the first that holds all values exactly."""
    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    kinds = {name: _common([t[name] for t in tables if name in t.column_names]) for name in names}
    schema = pa.schema([(name, kind) for name, kind in kinds.items()])
    parts = []
    for table in tables:
        columns = [_cast(table[n], k) if n in table.column_names else pa.nulls(len(table), k) for n, k in kinds.items()]
        parts.append(pa.table(columns, schema=schema))
    return pa.concat_tables(parts).unify_dictionaries()


def _common(columns: Sequence[pa.ChunkedArray]) -> pa.DataType:
    kinds = {c.type for c in columns} - {pa.null()}
    if not kinds:
        return pa.string()
    if len(kinds) == 1:
        return kinds.pop()
    if kinds == {pa.bool_(), pa.int64()}:
        return pa.int64()
    whole = [c for c in columns if c.type == pa.int64()]
    if kinds <= {pa.bool_(), pa.int64(), pa.float64()} and all(_small(c) for c in whole):
        return pa.float64()
    return pa.string()


def _small(whole: pa.ChunkedArray) -> bool:
    """Whether whole numbers are exact in float64."""
    values = whole.drop_null().to_numpy()
    return not len(values) or bool(values.min() >= -_EXACT and values.max() <= _EXACT)


def _cast(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if values.type == kind:
        return values
    if kind == pa.string() and values.type != pa.null():  # as `column` writes numbers as text
        return pa.chunked_array([pa.array([None if v is None else str(v) for v in values.to_pylist()], kind)])
    return values.cast(pa.int64()).cast(kind) if values.type == pa.bool_() else values.cast(kind)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """A table as pandas shows it: whole numbers and bools with missing values stay whole numbers and bools."""
    types = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    with_gaps = [n for n in table.column_names if table[n].type in types and table[n].null_count]
    frame = table.to_pandas(ignore_metadata=True, types_mapper=types.get)
    plain = {n: frame[n].dtype.numpy_dtype for n in table.column_names if table[n].type in types and n not in with_gaps}
    return frame.astype(plain)


def from_frame(frame: pd.DataFrame) -> pa.Table:
    """The inverse of `frame_of`, for a frame that somebody has changed; NaN is missing.

    Raises:
        SeislatentError: a column holds something other than text, numbers or bools.
    """
    columns = {}
    for name in frame.columns:
        series = frame[name]
        values: Any
        if series.dtype.kind in "OSU" or isinstance(series.dtype, pd.StringDtype | pd.CategoricalDtype):
            values = [None if pd.isna(v) else _plain(v) for v in series.astype(object)]
            strange = next((v for v in values if not isinstance(v, str | bool | int | float | None)), None)
        else:
            values, strange = series, None if series.dtype.kind in "biuf" else series.dtype
        if not isinstance(name, str) or strange is not None:
            raise SeislatentError(f"column {name!r} holds {strange!r:.60}: a store's table holds text, numbers and bools")
        if isinstance(values, list):
            columns[name] = column(values)
        else:
            kind = {"b": pa.bool_(), "f": pa.float64()}.get(series.dtype.kind, pa.int64())
            columns[name] = pa.array(values, kind, from_pandas=True)
    return pa.table(columns)
