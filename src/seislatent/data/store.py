"""Reading a record store: any record at random without loading the store, by any number of processes.

    STORE/records.parquet           one row per record: metadata, and where its samples lie
    STORE/shards/000000/x.bin       samples of many records, one behind the other; one file per array and shard
    STORE/rejected.parquet          what was left out, and why

Samples are memory-mapped: they are taken from the system's page cache, which all processes share, and copied once. What a store
says is checked before it is used: samples that its table places outside of their file are refused, and only the number of a shard
says which file is opened. docs/formats/store.md describes every file; `seislatent.data.shards` writes them.
"""

from __future__ import annotations

import mmap
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from seislatent.data.store_layout import ARRAY_NAME, LARGEST, PLACE, TYPES, open_table, shard_folder
from seislatent.data.store_rows import OWN, frame_of, waveform_of
from seislatent.errors import SeislatentError, unknown
from seislatent.waveform import Waveform

_VIEWS = 4096  # ragged records have views without end
_GROUPS = 16  # pieces of the table that stay decoded
_MANY = 1 << 22  # rows from which on a table is weighed before it is read: a small hostile one can claim any number
_COLD = 1e9  # bytes per second: a read slower than this waits for the disk, and the next one asks for all its records first


def is_store(path: str | Path) -> bool:
    """True for a folder that looks like a finished record store."""
    return (Path(path) / "records.parquet").is_file() and (Path(path) / "shards").is_dir()


@dataclass(frozen=True, eq=False)
class _Places:
    """Where one array of every record lies; all [record]."""

    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    """In bytes."""
    channels: NDArray[np.int32]
    samples: NDArray[np.int64]
    """Per channel."""
    type: NDArray[np.int8]
    """Position in `types`."""
    types: tuple[np.dtype[Any], ...]


class Store(Sequence[Waveform]):
    """The records of a store, in the order of its table.

    Opening reads where the samples lie, and nothing else. May be handed to worker processes: files are opened by each for itself.

    Raises:
        SeislatentError: the folder is no finished store, or is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise SeislatentError(f"{self.path} is no folder: give a record store, which is a folder with records.parquet")
        self._start()

    def _start(self) -> None:
        file, told = open_table(self.path / "records.parquet")
        self._made = _made(self.path / "records.parquet")
        self._tables: tuple[int, pq.ParquetFile] = (os.getpid(), file)
        self._size = file.metadata.num_rows
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()
        self._maps: dict[tuple[int, str], mmap.mmap] = {}
        self._views: dict[tuple[str, int], dict[tuple[int, ...], NDArray[Any]]] = {}
        self._placed: dict[str, _Places] = {}
        self._waits = True
        self._most = _most_maps()
        about, arrays = told.get("about"), told.get("arrays")
        arrays = arrays if isinstance(arrays, list) else []
        columns = file.schema_arrow.names
        if len(set(columns)) != len(columns):
            raise SeislatentError(f"{self.path}: records.parquet has two columns of one name: write the store again")
        named = all(isinstance(a, str) and ARRAY_NAME.fullmatch(a) for a in arrays)
        if not isinstance(about, dict) or not named or "x" not in arrays:
            raise SeislatentError(f"{self.path} does not say which arrays it holds: write it again")
        self.about: dict[str, Any] = about
        """Recipe, config, seed, source, versions, ...: what was given to `finish`."""
        self.arrays: tuple[str, ...] = ("x", *(a for a in arrays if a != "x"))
        """Names of the arrays of every record; `x` is the record itself."""
        if self._size > _MANY and self._size > sum(p.lstat().st_size for p in self.path.glob("shards/*/x.bin")):
            raise SeislatentError(f"{self.path}: records.parquet claims {self._size} records, more than there are bytes of samples")
        self._places("x")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "made": self._made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._start()
        if self._made != state["made"]:
            raise SeislatentError(f"{self.path} was changed while it was open: open it again")

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"record {i} of {len(self)} in {self.path}")
        i = int(i) % len(self)
        row = self._row(i)
        try:
            return waveform_of(row, self.read([i])[0])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            what = f"row {i} of records.parquet cannot be understood ({' '.join(str(error).split())[:200]})"
            raise SeislatentError(f"{self.path}: {what}: write the store again") from error

    @property
    def bytes(self) -> int:
        """Size of the store on the disk."""
        return sum(p.lstat().st_size for p in self.path.rglob("*") if stat.S_ISREG(p.lstat().st_mode))

    @property
    def metadata(self) -> pd.DataFrame:
        """One row per record: `start_ns`, `split` (missing where there is none) and every column of the records' metadata."""
        return self._metadata.copy(deep=False)

    @cached_property
    def _metadata(self) -> pd.DataFrame:
        return self.columns(*self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of `metadata`."""
        return tuple(n for n in self._file().schema_arrow.names if not n.startswith(OWN))

    def columns(self, *names: str) -> pd.DataFrame:
        """Some columns of `metadata`; only these are read.

        Raises:
            SeislatentError: there is no such column.
        """
        for name in names:
            if name not in self.names:
                raise SeislatentError(f"{self.path}: {unknown('column', name, self.names)}")
        return frame_of(self._read_table(names))

    @property
    def rejected(self) -> pd.DataFrame:
        """Records that were left out: trace_name, reason, detail."""
        file, _ = open_table(self.path / "rejected.parquet")
        try:
            return file.read(columns=["trace_name", "reason", "detail"]).to_pandas(ignore_metadata=True)
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise self._damaged("rejected.parquet", error) from error

    def read(
        self, rows: ArrayLike, *, array: str = "x", first: ArrayLike | None = None, length: int | None = None,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:  # fmt: skip
        """Samples [record channel time] of many records that have the same number of channels.

        Args:
            rows: positions in the store in any order, or a mask over it.
            array: one of `arrays`.
            first: sample that each begins with, one for all or one per row; 0 if None.
            length: samples of each; None reads to the end, which then must be equally far for all.
            out: written into and given back; else one is made, of the type that holds all types of the records.

        Raises:
            SeislatentError: a window leaves its record, or shapes differ; the line names a record.
        """
        where, positions = self._places(array), self._positions(rows)
        channels, samples = where.channels[positions], where.samples[positions]
        begin = np.zeros(len(positions), np.int64) if first is None else np.asarray(first)
        if begin.dtype.kind not in "iu" or begin.shape not in ((), positions.shape):
            raise SeislatentError(f"first has shape {begin.shape} and type {begin.dtype}: give one whole number, or one per row")
        begin = np.broadcast_to(begin, positions.shape)
        count = length if length is not None else (int(samples[0] - begin[0]) if len(positions) else 0)
        wrong = (channels != channels[:1]) | (begin < 0) | (begin + count > samples) | (count < 1)
        wrong |= (length is None) & (samples - begin != count)
        if wrong.any():
            k = int(wrong.argmax())
            raise SeislatentError(
                f"{self.path}: row {positions[k]} has {channels[k]} channels of {samples[k]} samples; asked for were"
                f" {channels[0]} channels and samples {begin[k]} to {begin[k] + count}: choose records and windows that fit"
            )
        if out is None:
            kinds = [where.types[t] for t in np.unique(where.type[positions])] or [np.dtype(np.float32)]
            out = np.empty((len(positions), int(channels[0]) if len(positions) else 0, count), np.result_type(*kinds))
        elif out.shape != (len(positions), *channels[:1], count):
            raise SeislatentError(f"out has shape {out.shape}: it must be {(len(positions), *map(int, channels[:1]), count)}")
        self._copy(where, array, positions, begin, out)
        return out

    def _copy(self, where: _Places, array: str, rows: NDArray[Any], begin: NDArray[Any], out: NDArray[Any]) -> None:
        """Copy windows, in the order in which they lie on the disk."""
        started = time.perf_counter()
        order = np.lexsort((where.offset[rows], where.shard[rows]))
        rows, count = rows[order], out.shape[-1]
        size = np.array([t.itemsize for t in where.types])[where.type[rows]]
        channels, samples = where.channels[rows], where.samples[rows]
        record, rest = np.divmod(where.offset[rows] // size, channels * samples)
        kept = self._views.setdefault((array, out.shape[1]), {})
        keys = zip(*(a.tolist() for a in (where.shard[rows], where.type[rows], samples, rest)), strict=True)
        if self._waits:
            self._ask_for(array, where, rows, begin[order], count)
        for key, k, at, a in zip(keys, order.tolist(), record.tolist(), begin[order].tolist(), strict=True):
            view = kept.get(key)
            if view is None:
                kept[key] = view = self._view(array, out.shape[1], where.types, *key)
            out[k] = view[at, :, a : a + count]
        self._waits = out.nbytes < _COLD * (time.perf_counter() - started)

    def _ask_for(self, array: str, where: _Places, rows: NDArray[Any], begin: NDArray[Any], count: int) -> None:
        """Let the system fetch all windows at once instead of one after the other."""
        if not hasattr(mmap.mmap, "madvise"):
            return
        size = np.array([t.itemsize for t in where.types])[where.type[rows]]
        samples = where.samples[rows]
        low = where.offset[rows] + begin * size
        high = low + ((where.channels[rows] - 1) * samples + count) * size
        low -= low % mmap.PAGESIZE
        for shard, a, b in zip(where.shard[rows].tolist(), low.tolist(), high.tolist(), strict=True):
            self._map(shard, array).madvise(mmap.MADV_WILLNEED, a, b - a)

    def _view(
        self, array: str, channels: int, types: tuple[np.dtype[Any], ...], shard: int, type_: int, samples: int, offset: int
    ) -> NDArray[Any]:  # fmt: skip
        """A shard's samples as [record channel time], the first record `offset` samples from the start."""
        mapped, kind = self._map(shard, array), types[type_]
        if sum(map(len, self._views.values())) > _VIEWS:
            for views in self._views.values():
                views.clear()
        count = (len(mapped) - offset * kind.itemsize) // (channels * samples * kind.itemsize)
        flat = np.frombuffer(mapped, kind, count * channels * samples, offset * kind.itemsize)
        return flat.reshape(count, channels, samples)

    def _map(self, shard: int, array: str) -> mmap.mmap:
        """A file of samples in memory; it stays until there are too many."""
        key = (shard, array)
        if key not in self._maps:
            if len(self._maps) >= self._most:
                self._maps.clear()
                for views in self._views.values():
                    views.clear()
            path = self._sample_file(shard, array)
            try:
                with open(path, "rb") as file:
                    self._maps[key] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise self._damaged(path, error) from error
        return self._maps[key]

    def _sample_file(self, shard: int, array: str) -> Path:
        """The path of a file of samples; a link would lead out of the store."""
        path = shard_folder(self.path, shard) / f"{array}.bin"
        if any(p.is_symlink() for p in (path, path.parent, path.parent.parent)) or not path.is_file():
            raise SeislatentError(f"{path} is missing, or no plain file: copy the whole store again")
        return path

    def _positions(self, rows: ArrayLike) -> NDArray[np.int64]:
        chosen = np.asarray(rows)
        if chosen.dtype == bool and chosen.shape == (len(self),):
            chosen = np.flatnonzero(chosen)
        if chosen.ndim != 1 or (chosen.dtype.kind not in "iu" and chosen.size):
            raise SeislatentError(f"rows have shape {chosen.shape} and type {chosen.dtype}: give positions, or a mask")
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise SeislatentError(f"{self.path} has rows 0 to {len(self) - 1}, not {chosen.min()} to {chosen.max()}")
        return chosen.astype(np.int64)

    def _places(self, array: str) -> _Places:
        if array not in self._placed:
            if array not in self.arrays:
                raise SeislatentError(f"{self.path}: {unknown('array', array, self.arrays)}")
            self._placed[array] = self._checked(array)
        return self._placed[array]

    def _checked(self, array: str) -> _Places:
        """Read where an array of every record lies, and make sure that it lies within its file."""
        names = [f"{OWN}shard", *(f"{OWN}{array}_{what}" for what in PLACE)]
        table = self._read_table(names)
        kinds = dict(zip(names, (pa.int32(), *PLACE.values()), strict=True))
        there = table.column_names
        wrong = [n for n in names if there.count(n) != 1 or table[n].null_count or table[n].type != kinds[n]]
        if wrong:
            raise SeislatentError(f"{self.path}: column {wrong[0]} has gaps, another type or is missing: write the store again")
        words = table[names[-1]].unify_dictionaries().combine_chunks()
        texts = words.dictionary.to_pylist()
        strange = [t for t in texts if t not in TYPES]
        if strange:
            raise SeislatentError(f"{self.path}: samples of type {strange[0]!r:.40}; known: {', '.join(TYPES)}")
        types = tuple(np.dtype(t) for t in texts)
        shard, offset, channels, samples = (table[n].to_numpy() for n in names[:-1])
        kind = words.indices.to_numpy().astype(np.int8)
        size = np.array([t.itemsize for t in types], np.int64)[kind]
        count = channels.astype(np.float64) * samples  # no overflow, whatever the table says
        bad = (count > LARGEST) | (shard < 0) | (offset < 0) | (offset % size != 0) | (channels < 1) | (samples < 1)
        numbers, which = np.unique(shard, return_inverse=True)
        length = [self._sample_file(n, array).stat().st_size if n >= 0 else 0 for n in numbers.tolist()]
        bad |= offset + count * size > np.array(length, np.float64)[which]
        if bad.any():
            i = int(bad.argmax())
            raise SeislatentError(
                f"{self.path}: samples of row {i} ({channels[i]} x {samples[i]} at byte {offset[i]}) do not lie within {array}.bin"
                f" of shard {shard[i]}: the file is cut or the table is wrong; copy or write the store again"
            )
        return _Places(shard, offset, channels, samples, kind, types)

    def _row(self, i: int) -> Mapping[str, Any]:
        """One row of the table; neighbours are kept for the next one."""
        file = self._file()
        ends = self._ends
        group = int(np.searchsorted(ends, i, side="right"))
        if group not in self._groups:
            try:
                self._groups[group] = file.read_row_group(group)
            except (OSError, ValueError, pa.ArrowException) as error:
                raise self._damaged("records.parquet", error) from error
            while len(self._groups) > _GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        table = self._groups[group]
        at = i - int(ends[group - 1] if group else 0)
        return {name: values[at].as_py() for name, values in zip(table.column_names, table.columns, strict=True)}

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        about = self._file().metadata
        return np.cumsum([about.row_group(g).num_rows for g in range(about.num_row_groups)])

    def _file(self) -> pq.ParquetFile:
        """The open table; a forked process opens it for itself."""
        if self._tables[0] != os.getpid():
            if _made(self.path / "records.parquet") != self._made:
                raise SeislatentError(f"{self.path} was changed while it was open: open it again")
            self._tables = (os.getpid(), open_table(self.path / "records.parquet")[0])
        return self._tables[1]

    def _read_table(self, names: Sequence[str]) -> pa.Table:
        try:
            return self._file().read(columns=list(names))
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise self._damaged("records.parquet", error) from error

    def _damaged(self, what: str | Path, error: BaseException) -> SeislatentError:
        return SeislatentError(f"{self.path}: {what} cannot be read ({' '.join(str(error).split())[:200]}): write the store again")


def _most_maps() -> int:
    """How many shards may stay mapped: each holds a file descriptor, of which a process often has 1024."""
    try:
        import resource
    except ImportError:  # Windows
        return 512
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 4096 if most == resource.RLIM_INFINITY else max(1, min(4096, most // 2))


def _made(path: Path) -> tuple[int, int]:
    """What changes when a file is replaced: its size and time."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns
