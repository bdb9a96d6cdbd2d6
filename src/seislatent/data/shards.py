"""Writing a record store: shards by any number of processes, then one table over all of them.

    ShardWriter(folder, 0), ShardWriter(folder, 1), ...  --finish-->  a store that `seislatent.data.store.Store` reads

A shard is a folder `shards/000000` that appears at once under its name, or not at all. The store is what `records.parquet` says,
and that file is replaced at once too: an interrupted run leaves whole shards and the table of before. docs/formats/store.md.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from seislatent.data.recipe import Made, Rejected
from seislatent.data.store_layout import (
    ALIGNED,
    ARRAY_NAME,
    FORMAT,
    LARGEST,
    PLACE,
    TYPES,
    VERSION,
    open_table,
    shard_folder,
    write_table,
)
from seislatent.data.store_rows import OWN, frame_of, from_frame, merged, row_of, table_of
from seislatent.errors import SeislatentError

_BUFFER = 1 << 20
_REJECTED = pa.schema([("trace_name", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


def cannot_write(where: Path, error: OSError) -> SeislatentError:
    """The line for a disk that takes no more."""
    why = error.strerror or " ".join(str(error).split())
    return SeislatentError(f"{where} cannot be written ({why}): make room or mend it and run again; nothing half-written is left")


class ShardWriter:
    """One shard of a store: records go in one by one, and appear together when the `with` block ends without an error.

    Args:
        folder: of the store; made where it does not exist.
        number: of the shard, from 0. Records of a store stand in the order of these numbers.

    Raises:
        SeislatentError: the shard is there already, a record cannot be stored, or the disk takes no more. A second writer of the
            same number that comes too late leaves the first one's shard as it is; it raises only if it wrote something else.
    """

    def __init__(self, folder: str | Path, number: int) -> None:
        if number < 0:
            raise SeislatentError(f"shard {number}: shards are numbered from 0")
        self._store, self.number = Path(folder), int(number)
        self._target = shard_folder(folder, self.number)
        self._folder = self._target.with_name(f".{self._target.name}.{uuid.uuid4().hex}")
        self._stack = ExitStack()
        self._files: dict[str, IO[bytes]] = {}
        self._ends: dict[str, int] = {}
        self._places: dict[str, list[Any]] = {}
        self._rows: list[dict[str, Any]] = []
        self._rejected: list[Rejected] = []
        self._failed: OSError | None = None

    def __enter__(self) -> ShardWriter:
        if shard_done(self._store, self.number):
            raise SeislatentError(f"{self._target} exists: give a shard number that is free")
        try:
            self._folder.mkdir(parents=True)
        except OSError as error:
            raise cannot_write(self._store, error) from error
        return self

    def add(self, made: Made) -> None:
        """Write one record behind the others; its arrays are those of every record of the shard.

        Raises:
            SeislatentError: it has no sample, arrays of other names than the first record, or metadata that no table holds.
        """
        waveform = made.record
        name = str(waveform.metadata.get("trace_name") or ", ".join(waveform.ids))
        try:
            row = row_of(waveform)
        except OverflowError as error:
            raise SeislatentError(f"{name} starts at {waveform.start_ns} ns: a store holds the years 1678 to 2261") from error
        arrays = {"x": waveform.data, **made.others}
        if "x" in made.others or (self._rows and arrays.keys() != self._ends.keys()):
            raise SeislatentError(
                f"{name} has the arrays {', '.join(['x', *made.others])}, the records before it {', '.join(self._ends) or 'x'}:"
                " all records of a store have the same, and x is the record itself"
            )
        ready = {array: _storable(samples, array, name) for array, samples in arrays.items()}
        try:
            for array, samples in ready.items():
                self._write(array, samples)
        except OSError as error:
            self._failed = error
            raise cannot_write(self._store, error) from error
        self._rows.append(row)

    def reject(self, rejected: Rejected) -> None:
        """Count a record that is left out."""
        self._rejected.append(rejected)

    def _write(self, array: str, samples: NDArray[Any]) -> None:
        if array not in self._files:
            self._files[array] = self._stack.enter_context((self._folder / f"{array}.bin").open("wb", buffering=_BUFFER))
            self._ends[array] = 0
        begin = -(-self._ends[array] // ALIGNED) * ALIGNED
        file = self._files[array]
        file.write(bytes(begin - self._ends[array]))
        file.write(samples.reshape(-1).view(np.uint8).data)
        self._ends[array] = begin + samples.nbytes
        for what, value in zip(PLACE, (begin, *samples.shape, samples.dtype.str), strict=True):
            self._places.setdefault(f"{OWN}{array}_{what}", []).append(value)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self._failed is not None:
                raise self._failed  # somebody went on after it
            if kind is None:
                self._stack.close()  # the last samples go to the disk here
                self._write_tables()
                self._appear()
        except OSError as failed:
            raise cannot_write(self._store, failed) from failed
        finally:
            with suppress(OSError):  # what could not be written goes away with the folder
                self._stack.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write_tables(self) -> None:
        table = pa.table({f"{OWN}shard": pa.array([self.number] * len(self._rows), pa.int32())})
        for name, values in self._places.items():
            table = table.append_column(name, pa.array(values, PLACE[name.rsplit("_", 1)[1]]))
        for field, values in zip((told := table_of(self._rows)).schema, told.columns, strict=True):
            table = table.append_column(field, values)
        about = {"format": FORMAT, "version": VERSION, "shard": self.number, "arrays": self._ends}
        write_table(table, self._folder / "records.parquet", about)
        write_table(rejected_table(self._rejected), self._folder / "rejected.parquet", about)

    def _appear(self) -> None:
        """Give the shard its name; the first of several writers of one number wins."""
        torn = self._target.with_name(f"{self._folder.name}.torn")
        if self._target.exists() and not shard_done(self._store, self.number):
            os.rename(self._target, torn)
        try:
            os.rename(self._folder, self._target)  # never replaces a folder that holds something
        except OSError:
            if not shard_done(self._store, self.number):
                raise
            if not _alike(self._folder, self._target):
                raise SeislatentError(
                    f"{self._target} was written by another process meanwhile, with other records: give each writer its own number"
                ) from None
        finally:
            shutil.rmtree(torn, ignore_errors=True)


def _storable(samples: NDArray[Any], array: str, name: str) -> NDArray[Any]:
    """The samples little-endian and contiguous, if a store may hold them."""
    if not ARRAY_NAME.fullmatch(array):
        raise SeislatentError(f"array {array!r:.60} of {name}: a name is of small letters, digits and _, and begins with a letter")
    if samples.ndim != 2 or not 0 < samples.size <= LARGEST:
        raise SeislatentError(
            f"array {array} of {name} has shape {samples.shape}: a store holds [channel time] with 1 to {LARGEST} samples"
        )
    ready = np.ascontiguousarray(samples, samples.dtype.newbyteorder("<"))
    if ready.dtype.str not in TYPES:
        raise SeislatentError(f"array {array} of {name} is of type {samples.dtype}: a store holds {', '.join(TYPES)}")
    return ready


def _alike(a: Path, b: Path) -> bool:
    """Whether two shards hold the same, byte for byte."""
    names = {p.name for p in a.iterdir()}
    return names == {p.name for p in b.iterdir()} and all(filecmp.cmp(a / name, b / name, shallow=False) for name in names)


def rejected_table(rejected: Iterable[Rejected]) -> pa.Table:
    """One row per record that is left out."""
    return pa.Table.from_pylist([{"trace_name": r.name, "reason": r.reason, "detail": r.detail} for r in rejected], _REJECTED)


def shard_done(folder: str | Path, number: int) -> bool:
    """Whether a shard is there whole: its tables can be read and its samples have the length that they tell."""
    place = shard_folder(folder, number)
    try:
        _, about = open_table(place / "records.parquet")
        open_table(place / "rejected.parquet")
        return all((place / f"{array}.bin").stat().st_size == size for array, size in about["arrays"].items())
    except (SeislatentError, OSError, KeyError, AttributeError):  # the last two: a table that is not of a shard
        return False


def finish(
    folder: str | Path,
    about: Mapping[str, Any],
    *,
    table_change: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    rejected: Sequence[Rejected] = (),
) -> None:
    """Merge the tables of all shards into one; from then on the folder is a store, or a longer one than before.

    Call it when no shard is being written: what interrupted writers left behind is removed. It always starts from the shards, so
    that it may be called again after more of them were written, with the same `table_change`.

    Args:
        folder: with shards.
        about: recipe, config, seed, source, versions, ...: what JSON holds, for `Store.about`.
        table_change: gets the table of all records and gives it back with other columns (such as `split`), fewer rows or another
            order; the column `store_row` tells which record a row belongs to and stays as it is. Memory: the whole table.
        rejected: records that are left out beside those that the shards count; looked at after `table_change` was called, which
            may fill it.

    Raises:
        SeislatentError: there is no shard or no record, a shard is torn, or shards have different arrays.
    """
    folder = Path(folder)
    numbers = _numbers(folder)
    torn = [n for n in numbers if not shard_done(folder, n)]
    if torn:
        raise SeislatentError(f"{shard_folder(folder, torn[0])} is torn ({len(torn)} in all): prepare again, which mends it")
    read = [_read(shard_folder(folder, n) / "records.parquet") for n in numbers]
    sets = {tuple(arrays) for table, arrays in read if len(table)}
    if len(sets) > 1:
        raise SeislatentError(f"shards of {folder} have different arrays ({'; '.join(map(', '.join, sorted(sets)))})")
    tables = [table for table, _ in read if len(table)]
    out = [_read(shard_folder(folder, n) / "rejected.parquet")[0] for n in numbers]
    table = merged(tables) if tables else pa.table({})
    if "split" not in table.column_names:
        table = table.append_column("split", pa.nulls(len(table), pa.string()))
    if table_change is not None and len(table):
        table = _changed(table, table_change)
    left_out = pa.concat_tables([*out, rejected_table(rejected)])
    if not len(table):
        reasons = Counter(left_out["reason"].to_pylist()).most_common(5)
        told = "; ".join(f"{reason}: {count}" for reason, count in reasons) or "nothing was given"
        raise SeislatentError(f"no record is left for {folder} ({told}): nothing to finish")
    try:
        for number in numbers:  # after a power cut a finished store is whole
            for path in (*shard_folder(folder, number).iterdir(), shard_folder(folder, number)):
                _sync(path)
        whole = {"format": FORMAT, "version": VERSION, "arrays": sets.pop(), "about": dict(about)}
        write_table(left_out, folder / "rejected.parquet", whole)
        write_table(table, folder / "records.parquet", whole)
        for path in [folder / "shards", *folder.glob("*.parquet"), folder]:
            _sync(path)
    except OSError as error:
        raise cannot_write(folder, error) from error
    for path in [*(folder / "shards").glob(".*"), *folder.glob(".re*.parquet.*")]:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[pa.Table, dict[str, int]]:
    """A shard's table and the sizes of its arrays; the file is closed again: there may be more than may be open at once."""
    file, about = open_table(path)
    with file:
        return file.read(), about["arrays"]


def _numbers(folder: Path) -> list[int]:
    """Numbers of the shards that are there."""
    try:
        found = sorted(int(p.name) for p in (folder / "shards").iterdir() if re.fullmatch(r"\d{6,18}", p.name))
    except OSError:
        found = []
    if not found:
        raise SeislatentError(f"{folder} holds no shard: write one before finishing the store")
    return found


def _changed(table: pa.Table, change: Callable[[pd.DataFrame], pd.DataFrame]) -> pa.Table:
    """The table after `change`, which sees what is not the store's own and the number of each row."""
    own = [n for n in table.column_names if n.startswith(OWN)]
    row = f"{OWN}row"
    frame = change(frame_of(table.drop_columns(own)).assign(**{row: np.arange(len(table))}))
    rows = frame[row].to_numpy() if row in frame else np.array([-1])
    if len(np.unique(rows)) != len(rows) or (len(rows) and not 0 <= rows.min() <= rows.max() < len(table)):
        raise SeislatentError(f"the changed table has lost {row}, or a row of it stands twice: keep that column as it is")
    changed = from_frame(frame.drop(columns=row))
    strange = [n for n in changed.column_names if n.startswith(OWN)]
    if strange:
        raise SeislatentError(f"the changed table has a column {strange[0]}: names that begin with {OWN} are the store's own")
    result = table.select(own).take(pa.array(rows, pa.int64()))
    for field, values in zip(changed.schema, changed.columns, strict=True):
        result = result.append_column(field, values)
    return result


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
