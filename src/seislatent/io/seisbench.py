"""SeisBench's layout, `waveforms.hdf5` with `metadata.csv`, read and written by our own code."""

from __future__ import annotations

import copy
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.io.hdf5_arrays import Arrays
from seislatent.io.seisbench_columns import Identities, read_table, unit_of
from seislatent.waveform import Waveform

_SLICE = re.compile(r"^(-?\d+)?(?:(:)(-?\d+)?)?$")
_ROWS = 256
"""Rows of the table that are turned into dictionaries at once."""


def is_seisbench(folder: str | Path) -> bool:
    """True for a folder with a metadata file and an HDF5 file by SeisBench's names."""
    folder = Path(folder)
    return folder.is_dir() and bool(_chunks(folder))


def _chunks(folder: Path) -> list[str]:
    """What stands between `waveforms` and `.hdf5` for each part of a set: [''] for a set in one part."""
    listed = folder / "chunks"
    if listed.is_file():
        names = listed.read_text().split()
        return [name if (folder / f"waveforms{name}.hdf5").is_file() else f"_{name}" for name in names]
    if (folder / "waveforms.hdf5").is_file():
        return [""]
    return sorted(p.stem.removeprefix("waveforms") for p in folder.glob("waveforms*.hdf5"))


class SeisBenchFile(Sequence[Waveform]):
    """The records of one SeisBench folder, read one by one: item i is a waveform with all components of row i of `metadata`.

    Each process opens the files for itself, so that a set may be handed to worker processes.

    Raises:
        SeislatentError: files are missing or are not what they should be.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise SeislatentError(f"{self.folder} is no folder: give one with waveforms.hdf5 and metadata.csv")
        chunks = _chunks(self.folder)
        if not chunks:
            raise SeislatentError(f"{self.folder} has no waveforms.hdf5: give a folder in SeisBench's layout")
        tables = [read_table(self.folder / f"metadata{chunk}.csv").assign(trace_chunk=chunk) for chunk in chunks]
        self.metadata = pd.concat(tables, ignore_index=True)
        """One row per record, with SeisBench's names and `start_ns`."""
        self._open: dict[tuple[int, str], Arrays] = {}
        self._channels = Identities()
        self._formats = {chunk: self._read_format(chunk) for chunk in chunks}
        self._complete()

    def _complete(self) -> None:
        """Fill the sampling rate where it stands in `trace_dt_s` or in the HDF5 file."""
        table = self.metadata
        rate = pd.Series(np.nan, index=table.index)
        if "trace_sampling_rate_hz" in table:
            rate = pd.to_numeric(table["trace_sampling_rate_hz"], errors="coerce")
        if "trace_dt_s" in table:
            rate = rate.fillna(1 / pd.to_numeric(table["trace_dt_s"], errors="coerce"))
        rate = rate.fillna(table["trace_chunk"].map({c: f.get("sampling_rate") for c, f in self._formats.items()}).astype(float))
        table["trace_sampling_rate_hz"] = rate
        unknown = int(rate.isna().sum())
        if unknown:
            raise SeislatentError(
                f"{self.folder}: {unknown} of {len(table)} records have no sampling rate:"
                " give trace_sampling_rate_hz in metadata.csv or data_format/sampling_rate"
            )

    def _read_format(self, chunk: str) -> dict[str, Any]:
        arrays = self._arrays(chunk)
        found: dict[str, Any] = {}
        for name in arrays.names("data_format"):
            item = arrays.file["data_format"][name] if arrays.holds("data_format", name) else None
            if isinstance(item, h5py.Dataset) and item.shape == () and item.external is None and not item.is_virtual:
                value = item[()]
                found[name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return found

    def _arrays(self, chunk: str) -> Arrays:
        key = (os.getpid(), chunk)
        if key not in self._open:
            path = self.folder / f"waveforms{chunk}.hdf5"
            self._open[key] = Arrays(path)
            if self._open[key].group("data") is None:
                del self._open[key]
                raise SeislatentError(f"{path} has no group `data`: it is not in SeisBench's layout")
        return self._open[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def only(self, rows: Any) -> SeisBenchFile:
        """The same source with some rows of its table alone, for another process: item i is row i of the new table."""
        found = copy.copy(self)
        found.metadata = self.metadata.iloc[np.asarray(rows, np.int64)].reset_index(drop=True)
        return found

    def __len__(self) -> int:
        return len(self.metadata)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"record {i} of {len(self)} in {self.folder}")
        return self.read_many([i % len(self)])[0]

    def read_many(self, rows: Sequence[int]) -> list[Waveform]:
        """The records of some rows, in their order.

        Raises:
            SeislatentError: one of them cannot be read; `several` gives the others.
        """
        return [self._record(row) for row in self._rows(rows)]

    def several(self, rows: Sequence[int]) -> Iterator[Waveform | SeislatentError]:
        """For each row its record, or the error that reading it raised."""
        for row in self._rows(rows):
            try:
                yield self._record(row)
            except SeislatentError as error:
                yield error.with_traceback(None)

    def _rows(self, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Rows of the table without what is missing there."""
        chosen = np.asarray(rows, np.int64)
        for at in range(0, len(chosen), _ROWS):
            for row in self.metadata.iloc[chosen[at : at + _ROWS]].to_dict("records"):
                yield {str(k): v for k, v in row.items() if v is not None and v is not pd.NA and v == v}

    def _record(self, row: dict[str, Any]) -> Waveform:
        try:
            return self._waveform(row)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            what = f"metadata of {row['trace_name']} cannot be understood ({' '.join(str(error).split())})"
            raise SeislatentError(f"{self.folder}: {what}: mend it") from error

    def _waveform(self, row: dict[str, Any]) -> Waveform:
        """The record of a row of the table, without what is missing there."""
        data = self._samples(row)
        about = self._formats[row["trace_chunk"]]
        order = str(about.get("component_order", ""))
        channels = self._channels(row, order, len(data))
        history = tuple(json.loads(row["trace_history"])) if "trace_history" in row else ()
        if "|" in order and "trace_component_order" not in row:
            history += (f"unoriented: component order {order}",)
        unit = unit_of(row["trace_unit"]) or row["trace_unit"] if "trace_unit" in row else unit_of(about.get("unit"))
        return Waveform(
            data=data, sampling_rate_hz=float(row["trace_sampling_rate_hz"]), channels=channels,
            start_ns=int(row.get("start_ns", 0)), unit=unit, history=history,
            metadata={k: v for k, v in row.items() if k not in ("start_ns", "trace_chunk", "trace_history")},
        )  # fmt: skip

    def _samples(self, row: dict[str, Any]) -> NDArray[Any]:
        """The array [channel time] of one record; `block$2,:3,:1200` names a part of an array of many records."""
        chunk, name = row["trace_chunk"], row["trace_name"]
        arrays, about = self._arrays(chunk), self._formats[chunk]
        inside, _, own = name.rpartition("/")
        path = f"data/{inside}" if inside else "data"
        base, _, where = own.partition("$")
        whole = arrays.holds(path, own)
        if not whole and not arrays.holds(path, base):
            raise SeislatentError(
                f"{self.folder}/waveforms{chunk}.hdf5 has no array of numbers data/{name}, which metadata.csv names"
            )
        data = arrays.read(path, own if whole else base, () if whole else _slices(where, name))
        if data.ndim == 1:
            data = data[None]
        if data.ndim != 2:
            raise SeislatentError(f"{self.folder}: record {name} has {data.ndim} axes, not component and sample")
        turned = str(about.get("dimension_order", "CW")).replace("N", "") == "WC"
        npts = row.get("trace_npts")
        data = data.T if turned else data
        if npts is not None and 0 < npts < data.shape[1]:
            data = data[:, : int(npts)]  # the rest is the block's padding
        return np.ascontiguousarray(data)


def _slices(text: str, name: str) -> tuple[int | slice, ...]:
    """Whole numbers and a:b ranges from the part of a trace name behind the dollar sign."""
    parts: list[int | slice] = []
    for part in text.split(","):
        found = _SLICE.match(part.strip())
        if not found or not part.strip():
            raise SeislatentError(f"trace name '{name}' names no part of a block: it reads like bucket0$3,:3,:1200")
        a, colon, b = found.groups()
        parts.append(slice(int(a) if a else None, int(b) if b else None) if colon else int(a))
    return tuple(parts)


def write_seisbench(folder: str | Path, waveforms: Iterable[Waveform], *, overwrite: bool = False, block: int = 0) -> Path:
    """Write records in SeisBench's layout; both files appear when they are complete.

    Args:
        folder: made where it does not exist.
        waveforms: records of one station each; taken one by one, so a generator may stand for more than fits in memory.
        overwrite: replace what is there.
        block: how many records of one shape share an array; 0 gives each its own.

    Raises:
        SeislatentError: the files exist, there is no record, or rows of a record belong to different stations.
    """
    folder = Path(folder)
    targets = [folder / "waveforms.hdf5", folder / "metadata.csv"]
    there = [str(t) for t in targets if t.exists()]
    if there and not overwrite:
        raise SeislatentError(f"{there[0]} exists: give another folder, or overwrite it (overwrite=True, --overwrite)")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = [folder / f".{t.name}.{uuid.uuid4().hex}" for t in targets]
    try:
        with h5py.File(temporary[0], "w") as file:
            rows = _write_records(file, waveforms, block)
            if not rows:
                raise SeislatentError(f"no record to write: {folder} is left without files")
            _write_format(file.create_group("data_format"), rows)
        pd.DataFrame(rows).to_csv(temporary[1], index=False)
        for source, target in zip(temporary, targets, strict=True):
            os.replace(source, target)
    finally:
        for source in temporary:
            source.unlink(missing_ok=True)
    return folder


def _write_records(file: h5py.File, waveforms: Iterable[Waveform], block: int) -> list[dict[str, Any]]:
    """Arrays into the file; the rows of the table."""
    group, blocks = file.create_group("data"), 0
    rows: list[dict[str, Any]] = []
    taken: set[str] = set()
    pending: dict[tuple[int, str], list[tuple[dict[str, Any], NDArray[Any]]]] = {}
    for i, waveform in enumerate(waveforms):
        row = row_of(waveform, i)
        rows.append(row)
        if not block:
            name = row["trace_name"]
            row["trace_name"] = name if name not in taken and "$" not in name else f"{name.replace('$', '_')}_{i:06d}"
            taken.add(row["trace_name"])
            group.create_dataset(row["trace_name"], data=waveform.data)
            continue
        held = pending.setdefault((len(waveform.data), waveform.data.dtype.str), [])
        held.append((row, waveform.data))
        if len(held) == block:
            _write_block(group, f"bucket{blocks}", held)
            blocks, held[:] = blocks + 1, []
    for held in pending.values():
        if held:
            _write_block(group, f"bucket{blocks}", held)
            blocks += 1
    return rows


def _write_block(group: h5py.Group, name: str, held: list[tuple[dict[str, Any], NDArray[Any]]]) -> None:
    channels, longest = len(held[0][1]), max(data.shape[1] for _, data in held)
    array = np.zeros((len(held), channels, longest), held[0][1].dtype)
    for k, (row, data) in enumerate(held):
        array[k, :, : data.shape[1]] = data
        row["trace_name_original"] = row["trace_name"]
        row["trace_name"] = f"{name}${k},:{channels},:{data.shape[1]}"
    group.create_dataset(name, data=array)


def row_of(waveform: Waveform, i: int) -> dict[str, Any]:
    """The row of the table for record number `i`.

    Raises:
        SeislatentError: rows of the record belong to different stations.
    """
    first = waveform.channels[0]
    places = {(c.network, c.station, c.location) for c in waveform.channels}
    if len(places) != 1:
        raise SeislatentError(f"record {i} has rows of several stations ({', '.join(waveform.ids)}): write one record per station")
    row: dict[str, Any] = {k: v for k, v in waveform.metadata.items() if isinstance(v, str | int | float | bool | np.number)}
    start = np.datetime_as_string(np.datetime64(waveform.start_ns, "ns"), unit="ns") + "Z"
    name = (
        row.get("trace_name_original")
        or row.get("trace_name")
        or f"{first.network}.{first.station}.{first.location}_{start}_{i:06d}"
    )
    row |= {
        "trace_name": str(name).replace("/", "_").lstrip("."), "station_network_code": first.network, "station_code": first.station,
        "station_location_code": first.location, "station_latitude_deg": first.latitude_deg,
        "station_longitude_deg": first.longitude_deg, "station_elevation_m": first.elevation_m,
        "trace_channel": first.code[:2] if len({c.code[:2] for c in waveform.channels}) == 1 else "",
        "trace_channel_codes": ",".join(c.code for c in waveform.channels),
        "trace_component_order": _order_text(waveform.components), "trace_sampling_rate_hz": waveform.sampling_rate_hz,
        "trace_start_time": start, "trace_npts": waveform.data.shape[1], "trace_history": json.dumps(waveform.history),
    }  # fmt: skip
    if waveform.unit is not None:
        row["trace_unit"] = waveform.unit
    for column, field in (("trace_azimuths_deg", "azimuth_deg"), ("trace_dips_deg", "dip_deg")):
        values = [getattr(c, field) for c in waveform.channels]
        if any(v is not None for v in values):
            row[column] = json.dumps(values)
    return row


def _order_text(components: tuple[str, ...]) -> str:
    return "".join(components) if all(len(c) == 1 for c in components) else ",".join(components)


def _write_format(group: h5py.Group, rows: list[dict[str, Any]]) -> None:
    """What all records share; what differs stands in the table."""
    orders = [row["trace_component_order"] for row in rows]
    units = {row.get("trace_unit", "") for row in rows}
    rates = {row["trace_sampling_rate_hz"] for row in rows}
    group["dimension_order"] = "NCW" if "$" in rows[0]["trace_name"] else "CW"
    group["component_order"] = max(dict.fromkeys(orders), key=orders.count)
    group["unit"] = units.pop() if len(units) == 1 else "see trace_unit"
    if len(rates) == 1:
        group["sampling_rate"] = rates.pop()
