"""Record sets as their authors publish them: one HDF5 file with an array per record. STEAD and LEN-DB by one code and two tables.

    chunk2.hdf5   data/109C.TA_20060723155859_EV            (6000, 3)  E N Z     chunk2.csv: a row per record
                  earthquake/local/..., non_earthquake/noise/...                 or attributes of each array
    LEN-DB.hdf5   EQ/XX_AAA_..., AN/XX_AAA_...              (3, 540)   Z N E     attributes of each array

What the tables below say about STEAD is checked against its records; LEN-DB's is taken from how SeisBench's converter reads it and
could not be checked against the original (docs/formats/record-sets.md).
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.errors import SeislatentError, unknown
from seislatent.io.hdf5_arrays import Arrays
from seislatent.io.native_columns import attribute_table, complete, find_table
from seislatent.io.seisbench import row_of
from seislatent.io.seisbench_columns import Identities, read_table, unit_of
from seislatent.io.traces import native
from seislatent.waveform import Waveform

log = logging.getLogger(__name__)

_ROWS = 256
"""Rows of the table that are turned into dictionaries at once."""

_MANY, _AT_ONCE = 32, 8 << 20
"""From so many records on, their memory is taken in pieces of so many bytes, which costs half the time of many small ones."""

_OF_THE_FILE = frozenset(
    {"start_ns", "trace_history", "trace_component_order", "trace_channel_codes", "trace_azimuths_deg", "trace_dips_deg"}
)
"""Columns that the record says by itself; those of components are in the order of the file."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one published set is laid out."""

    groups: dict[str, str]
    """Paths of the groups with arrays, and the trace_category of what lies there (empty where the group does not say it)."""
    order: str
    """Components along the array's component axis."""
    by_sample: bool
    """True where the array is (sample, component)."""
    rate_hz: float
    unit: str | None
    names: dict[str, str]
    """Its attributes by SeisBench's names."""
    factors: dict[str, float]
    """What a column is multiplied by, where the set has another unit."""


STEAD = {
    "network_code": "station_network_code", "receiver_code": "station_code", "receiver_latitude": "station_latitude_deg",
    "receiver_longitude": "station_longitude_deg", "receiver_elevation_m": "station_elevation_m", "receiver_type": "trace_channel",
    "p_arrival_sample": "trace_p_arrival_sample", "s_arrival_sample": "trace_s_arrival_sample", "p_status": "trace_p_status",
    "s_status": "trace_s_status", "p_weight": "trace_p_weight", "s_weight": "trace_s_weight", "snr_db": "trace_snr_db",
    "coda_end_sample": "trace_coda_end_sample", "back_azimuth_deg": "path_back_azimuth_deg", "p_travel_sec": "path_p_travel_s",
    "source_latitude": "source_latitude_deg", "source_longitude": "source_longitude_deg",
    "source_distance_km": "path_ep_distance_km", "source_distance_deg": "path_ep_distance_deg",
}  # fmt: skip
"""STEAD's names (Mousavi et al. 2019, doi:10.1109/ACCESS.2019.2947848) that are not SeisBench's."""

LENDB = {
    "starttime": "trace_start_time", "otime": "source_origin_time", "mag": "source_magnitude", "evla": "source_latitude_deg",
    "evlo": "source_longitude_deg", "evdp": "source_depth_km", "stla": "station_latitude_deg", "stlo": "station_longitude_deg",
    "stel": "station_elevation_m", "dist": "path_ep_distance_km", "az": "path_azimuth_deg", "baz": "path_back_azimuth_deg",
}  # fmt: skip
"""LEN-DB's names (Magrini et al. 2020, doi:10.5281/zenodo.3648232); evdp and dist are in metres there."""

LAYOUTS = {
    "stead": Layout(
        groups={"data": "", "earthquake/local": "earthquake_local", "non_earthquake/noise": "noise"}, order="ENZ", by_sample=True,
        rate_hz=100.0, unit="counts", names=STEAD, factors={},
    ),
    "lendb": Layout(
        groups={"EQ": "earthquake", "AN": "noise"}, order="ZNE", by_sample=False, rate_hz=20.0, unit=None, names=LENDB,
        factors={"source_depth_km": 1e-3, "path_ep_distance_km": 1e-3},
    ),
}  # fmt: skip


def layout_of(path: str | Path) -> str | None:
    """The layout of an HDF5 file by its groups, None where it has none of them or is SeisBench's.

    `EQ` or `AN` is LEN-DB's; `earthquake` or `non_earthquake` is STEAD's, and so is `data` with arrays (sample, component) and no
    `data_format` beside it, which every file in SeisBench's layout has.

    Raises:
        SeislatentError: the file cannot be opened as HDF5.
    """
    arrays = Arrays(path)
    try:
        top = set(arrays.names("")[:64])
        if "data_format" in top:
            return None
        if top & {"EQ", "AN"}:
            return "lendb"
        if top & {"earthquake", "non_earthquake"}:
            return "stead"
        first = arrays.first("data") if "data" in top else None
        shape = arrays.shape("data", first) if first is not None else ()
        return "stead" if len(shape) == 2 and shape[1] == 3 < shape[0] else None
    finally:
        arrays.file.close()


class _Room:
    """Empty arrays cut from larger ones; a large one lives as long as any array of it."""

    def __init__(self) -> None:
        self._left = np.empty(0, np.uint8)

    def __call__(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
        size = -(-math.prod(shape) * kind.itemsize // 64) * 64
        if size > len(self._left):
            self._left = np.empty(max(_AT_ONCE, size), np.uint8)
        cut, self._left = self._left[: math.prod(shape) * kind.itemsize], self._left[size:]
        return cut.view(kind).reshape(shape)


class NativeFile(Sequence[Waveform]):
    """The records of one file, read when asked for: item i is a waveform Z, N, E of row i of `metadata`.

    With a table beside the file (its own name with .csv, metadata*.csv, or the folder's only CSV with a column trace_name) no array
    is touched on opening. Without one the attributes of all arrays are read, some thousand records per second: for a set as large
    as LEN-DB, `NativeFile(path).metadata.to_csv(path.with_suffix(".csv"), index=False)` once saves that every other time.
    May be handed to worker processes: each opens the file for itself.

    Args:
        path: the HDF5 file.
        layout: "stead" or "lendb"; found by `layout_of` where None, and "stead" where that finds nothing.
        attributes: False leaves the attributes unread where there is no table: the table then holds what names and groups say.
        unit: of the samples, where the user knows it better than the layout.

    Raises:
        SeislatentError: no HDF5, no record, a table that is none, an unknown layout.
    """

    def __init__(
        self, path: str | Path, *, layout: str | None = None, attributes: bool = True, unit: str | None = None
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise SeislatentError(f"{path} does not exist: give an HDF5 file in STEAD's or LEN-DB's layout")
        name = layout or layout_of(self.path) or "stead"
        if name not in LAYOUTS:
            raise SeislatentError(unknown("layout", name, LAYOUTS))
        self.layout, self.unit = LAYOUTS[name], unit or LAYOUTS[name].unit
        self._open: dict[int, Arrays] = {}
        self._channels = Identities()
        known = [g for g in self.layout.groups if self._arrays.group(g) is not None]
        self.groups = known or self._arrays.leaf_groups()
        """Paths of the groups that hold arrays."""
        if not self.groups:
            raise SeislatentError(f"{path} holds no arrays in groups: it is not in STEAD's or LEN-DB's layout")
        table = find_table(self.path)
        if table is None:
            found = attribute_table(self._arrays, self.groups, self.layout.groups, attributes=attributes)
        else:
            found = read_table(table)
        self.metadata = complete(found, self.layout.names if table is None else {}, self.layout.factors, self.layout.rate_hz)
        """One row per record, with SeisBench's names and `start_ns`."""

    @property
    def _arrays(self) -> Arrays:
        process = os.getpid()
        if process not in self._open:
            self._open = {process: Arrays(self.path)}
        return self._open[process]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def only(self, rows: Any) -> NativeFile:
        """The same source with some rows of its table alone, for another process: item i is row i of the new table."""
        found = copy.copy(self)
        found.metadata = self.metadata.iloc[np.asarray(rows, np.int64)].reset_index(drop=True)
        return found

    def __len__(self) -> int:
        return len(self.metadata)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return self.read_many(range(*i.indices(len(self))))
        if not -len(self) <= i < len(self):
            raise IndexError(f"record {i} of {len(self)} in {self.path}")
        return self.read_many([i % len(self)])[0]

    def read_many(self, rows: Sequence[int]) -> list[Waveform]:
        """The records of some rows, in their order.

        Raises:
            SeislatentError: one of them cannot be read; `several` gives the others.
        """
        room = _Room() if len(rows) >= _MANY else np.empty
        return [self._record(row, room) for row in self._rows(rows)]

    def several(self, rows: Sequence[int]) -> Iterator[Waveform | SeislatentError]:
        """For each row its record, or the error that reading it raised."""
        room = _Room() if len(rows) >= _MANY else np.empty
        for row in self._rows(rows):
            try:
                yield self._record(row, room)
            except SeislatentError as error:
                yield error.with_traceback(None)

    def _rows(self, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Rows of the table without what is missing there."""
        chosen = np.asarray(rows, np.int64)
        for at in range(0, len(chosen), _ROWS):
            for row in self.metadata.iloc[chosen[at : at + _ROWS]].to_dict("records"):
                yield {str(k): v for k, v in row.items() if v is not None and v is not pd.NA and v == v}

    def _record(self, row: dict[str, Any], room: Callable[..., NDArray[Any]]) -> Waveform:
        try:
            return self._waveform(row, room)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            what = f"metadata of {row['trace_name']} cannot be understood ({' '.join(str(error).split())})"
            raise SeislatentError(f"{self.path}: {what}: mend it") from error

    def _waveform(self, row: dict[str, Any], room: Callable[..., NDArray[Any]]) -> Waveform:
        data, order = self._samples(row)
        channels = self._channels(row, order, len(data))
        if channels[-1].component in ("Z", "3"):  # E, N, Z on file is Z, N, E in the record
            data, channels = data[::-1], channels[::-1]
        samples = room(data.shape, data.dtype)
        samples[...] = data
        unit = unit_of(row["trace_unit"]) or row["trace_unit"] if "trace_unit" in row else self.unit
        return Waveform(
            data=native(samples), sampling_rate_hz=float(row["trace_sampling_rate_hz"]), channels=channels,
            start_ns=int(row.get("start_ns", 0)), unit=unit,
            history=tuple(json.loads(row["trace_history"])) if "trace_history" in row else (),
            metadata={k: v for k, v in row.items() if k not in _OF_THE_FILE},
        )  # fmt: skip

    def _samples(self, row: dict[str, Any]) -> tuple[NDArray[Any], str]:
        """Samples [component time] as they lie in the file, and their components."""
        name = str(row["trace_name"])
        group, name = name.rsplit("/", 1) if "/" in name else (self._group(row, name), name)
        stored = self._arrays.read(group, name, lend=True)
        if stored.ndim != 2:
            raise SeislatentError(f"{self.path}: record {name} has {stored.ndim} axes, not sample and component")
        order = str(row.get("trace_component_order", self.layout.order))
        count = len(order.split(",")) if "," in order else len(order)
        sides = [n == count for n in stored.shape]
        if not any(sides):
            raise SeislatentError(f"{self.path}: record {name} of shape {stored.shape} has no axis of {count} components")
        return (stored.T if (self.layout.by_sample if all(sides) else sides[1]) else stored), order

    def _group(self, row: dict[str, Any], name: str) -> str:
        """The group that holds an array, the one of its category first."""
        if len(self.groups) == 1:
            return self.groups[0]
        noise = row.get("trace_category") == "noise" or name.endswith("_NO")
        likely = sorted(self.groups, key=lambda g: (self.layout.groups.get(g) == "noise") != noise)
        return next((g for g in likely if self._arrays.holds(g, name)), likely[0])


def write_native(
    path: str | Path,
    waveforms: Iterable[Waveform],
    *,
    layout: str = "stead",
    by_class: bool = False,
    compression: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write records in the layout of a published set; the file (and STEAD's table beside it) appears when it is complete.

    Args:
        path: the HDF5 file; the table has its name with .csv.
        waveforms: three components of one station each (Z, N, E, or Z, 1, 2), in any order, taken one by one.
        layout: "stead" (`data/<trace>`, attributes and table) or "lendb" (`EQ` and `AN`, attributes only).
        by_class: STEAD's `earthquake/local` and `non_earthquake/noise` instead of `data`.
        compression: "gzip", or None.
        overwrite: replace what is there.

    Raises:
        SeislatentError: the file exists, there is no record, or one is not of three components of one station.
    """
    if layout not in LAYOUTS:
        raise SeislatentError(unknown("layout", layout, LAYOUTS))
    plan, path = LAYOUTS[layout], Path(path)
    targets = [path, *([path.with_suffix(".csv")] if layout == "stead" else [])]
    there = [str(t) for t in targets if t.exists()]
    if there and not overwrite:
        raise SeislatentError(f"{there[0]} exists: give another name, or overwrite it (overwrite=True, --overwrite)")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = [path.parent / f".{t.name}.{uuid.uuid4().hex}" for t in targets]
    try:
        with h5py.File(temporary[0], "w") as file:
            rows = _write_records(file, waveforms, plan, by_class, compression)
        if not rows:
            raise SeislatentError(f"no record to write: {path} is not made")
        if len(targets) == 2:
            pd.DataFrame(rows).to_csv(temporary[1], index=False)
        for source, target in zip(temporary, targets, strict=True):
            os.replace(source, target)
    finally:
        for source in temporary:
            source.unlink(missing_ok=True)
    return path


def _write_records(
    file: h5py.File, waveforms: Iterable[Waveform], plan: Layout, by_class: bool, compression: str | None
) -> list[dict[str, Any]]:
    """Arrays with their attributes into the file; the rows of the table, by the set's own names."""
    theirs = {ours: name for name, ours in plan.names.items()}
    rows: list[dict[str, Any]] = []
    taken: set[str] = set()
    for i, waveform in enumerate(waveforms):
        one = _in_order(waveform, plan.order, i)
        row = row_of(one, i)
        row |= {column: row[column] / factor for column, factor in plan.factors.items() if column in row}
        if row["trace_name"] in taken:
            row["trace_name"] += f"_{i:06d}"
        taken.add(row["trace_name"])
        row = {theirs.get(k, k): v for k, v in row.items() if v is not None and v == v}
        array = one.data.T if plan.by_sample else one.data
        held = file.create_dataset(f"{_place(row, plan, by_class)}/{row['trace_name']}", data=array, compression=compression)
        held.attrs.update(row)
        rows.append(row)
    return rows


def _in_order(waveform: Waveform, order: str, i: int) -> Waveform:
    """The record with its rows as the file holds them; 1, 2 and 3 stand for N, E and Z."""
    as_if = [{"1": "N", "2": "E", "3": "Z"}.get(c, c) for c in waveform.components]
    if sorted(as_if) != sorted(order):
        told = ", ".join(c or "?" for c in waveform.components)
        raise SeislatentError(f"record {i} ({', '.join(waveform.ids)}) has components {told}: this layout holds Z, N and E")
    return waveform.select([as_if.index(c) for c in order])


def _place(row: dict[str, Any], plan: Layout, by_class: bool) -> str:
    """The group of a record."""
    if "data" in plan.groups and not by_class:
        return "data"
    noise = row.get("trace_category") == "noise"
    return next(group for group, category in plan.groups.items() if category and (category == "noise") == noise)
