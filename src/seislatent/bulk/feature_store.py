"""Features of many windows on the disk: an array that is memory-mapped, and a table with a row for each of its rows.

    FEATURES/features.npy      float32 [window feature], NumPy's own format
    FEATURES/windows.parquet   row k: where row k of the array comes from
    FEATURES/moments.npy       float64 [2 feature]: mean and standard deviation of the first run's windows
    FEATURES/norms.npy         float32 [window]: length of each row less the mean, over the deviation
    FEATURES/features.json     system, digest, rate, hop, ...: how they were made

    numpy.load("FEATURES/features.npy", mmap_mode="r"), pandas.read_parquet("FEATURES/windows.parquet")

The table says what the store holds. Rows are only ever added behind the others: first the array grows, then what goes with it, and
last the table is replaced at once, so that whoever is killed leaves the store of before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seislatent.errors import SeislatentError

ARRAY, TABLE, MOMENTS, NORMS, ABOUT = "features.npy", "windows.parquet", "moments.npy", "norms.npy", "features.json"
FORMAT, VERSION = "seislatent features", 1
BLOCK_BYTES = 1 << 24
"""Of the array that are looked at together."""


def is_features(path: str | Path) -> bool:
    """True for a folder that looks like a finished store of features."""
    return all((Path(path) / name).is_file() for name in (ARRAY, TABLE, ABOUT))


class Features:
    """A store of features, read; nothing but the table is held in memory.

    Raises:
        SeislatentError: the folder is no store of features, or its files do not fit together.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not is_features(self.path):
            raise SeislatentError(f"{path} is no finished store of features: make one with seislatent embed SOURCE --out {path}")
        self.about: dict[str, Any] = read_about(self.path)
        """How the features were made."""
        try:
            array = np.load(self.path / ARRAY, mmap_mode="r", allow_pickle=False)
            rows = rows_held(self.path)
            moments = np.load(self.path / MOMENTS, allow_pickle=False)
            norms = np.load(self.path / NORMS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError, pa.ArrowException) as error:
            raise SeislatentError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): make it again") from error
        whole = array.ndim == 2 and array.dtype == np.float32 and len(array) >= rows and array.flags["C_CONTIGUOUS"]
        if not whole or moments.shape != (2, array.shape[1]) or norms.ndim != 1 or len(norms) < rows:
            raise SeislatentError(f"{path} is damaged (its arrays do not fit its table of {rows} rows): make it again")
        self.array: NDArray[np.float32] = array[:rows]
        """[window feature], memory-mapped."""
        self.moments: NDArray[np.float64] = moments
        self.norms: NDArray[np.float32] = norms[:rows]

    def __len__(self) -> int:
        return len(self.array)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each row of `array`."""
        return pd.read_parquet(self.path / TABLE)

    def blocks(self, size: int = BLOCK_BYTES) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """First row and rows of the array, about `size` bytes at a time."""
        yield from blocks(self.array, size)


def blocks(array: NDArray[np.float32], size: int = BLOCK_BYTES, first: int = 0) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First row and rows, about `size` bytes at a time."""
    step = max(1, size // (4 * array.shape[1]))
    for at in range(first, len(array), step):
        yield at, array[at : at + step]


def read_about(folder: Path) -> dict[str, Any]:
    """What stands in features.json.

    Raises:
        SeislatentError: it is damaged, or of another kind or version.
    """
    try:
        told = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        kind, version = told.get("format"), told.get("version")
    except (OSError, ValueError, AttributeError) as error:
        raise SeislatentError(f"{folder / ABOUT} cannot be read ({' '.join(str(error).split())[:200]}): make it again") from error
    if kind != FORMAT or version != VERSION:
        raise SeislatentError(
            f"{folder} holds {kind!r:.40}, version {version!r:.20}; this program reads version {VERSION} of {FORMAT}"
        )
    return dict(told)


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """features.json, at once."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **about}, indent=1, default=str)
    _at_once(folder / ABOUT, text.encode())


def _at_once(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(data)
    os.replace(beside, path)


# -- writing ----------------------------------------------------------------------------------------------------------------------


def grow(path: Path, parts: Iterable[NDArray[np.float32]], held: int, width: tuple[int, ...]) -> int:
    """Writes rows behind the first `held` rows of an array file (none: the file is made); returns how many it has then.

    The header, which NumPy makes wide enough for any number of rows, is changed last: who is killed before leaves an array of
    the length of before, with bytes behind it that nobody reads.
    """
    dtype = np.dtype(np.float32)
    size = dtype.itemsize * int(np.prod(width, dtype=np.int64))
    if not held:
        path.write_bytes(_header(0, width))
    start = len(_header(0, width))
    rows = held
    with path.open("r+b") as file:
        if file.read(len(_header(held, width))) != _header(held, width) and not _is_longer(path, held, width):
            raise SeislatentError(f"{path} is not what this program wrote: make the features again")
        file.seek(start + held * size)
        file.truncate()
        for part in parts:
            file.write(np.ascontiguousarray(part, np.float32).data)
            rows += len(part)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        file.write(_header(rows, width))
    return rows


def _header(rows: int, width: tuple[int, ...]) -> bytes:
    """NumPy's header, version 1.0, of a length that no number of rows changes."""
    told = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(rows, *width)}, }}"
    length = 118 if len(told) < 118 else 118 + 64
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + told.ljust(length - 1).encode("latin1") + b"\n"


def _is_longer(path: Path, held: int, width: tuple[int, ...]) -> bool:
    """Whether it holds these rows and more: a run was killed before its table stood there."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return array.dtype == np.float32 and array.shape[1:] == width and len(array) >= held


def extend(folder: Path, parts: Sequence[Path], about: dict[str, Any]) -> int:
    """Puts finished parts (folders with features.npy and windows.parquet) behind what a store holds; returns its number of rows.

    The moments are those of the first run, so that what is added moves no distance between what was there.
    """
    held = rows_held(folder)
    filled = [p for p in parts if pq.ParquetFile(p / TABLE).metadata.num_rows]
    if not held and not filled:
        raise SeislatentError("no window of the source has enough samples: nothing to keep")
    width = np.load((filled[0] if filled else folder) / ARRAY, mmap_mode="r", allow_pickle=False).shape[1]
    loaded = (np.load(p / ARRAY, mmap_mode="r", allow_pickle=False) for p in filled)
    rows = grow(folder / ARRAY, loaded, held, (width,))
    array = np.load(folder / ARRAY, mmap_mode="r", allow_pickle=False)
    if not held:
        beside = folder / f".{MOMENTS}"
        with beside.open("wb") as file:
            np.save(file, moments(array))
        os.replace(beside, folder / MOMENTS)
    level = np.load(folder / MOMENTS, allow_pickle=False)
    grow(folder / NORMS, (norms(block, level) for _, block in blocks(array, first=held)), held, ())
    about["runs"][-1]["windows"] = rows
    write_about(folder, about)
    _append_table(folder / TABLE, [p / TABLE for p in filled])
    return rows


def rows_held(folder: Path) -> int:
    """Windows that the table of a store names; 0 where there is none yet."""
    path = folder / TABLE
    try:
        return int(pq.ParquetFile(path).metadata.num_rows) if path.exists() else 0
    except (OSError, pa.ArrowException) as error:
        raise SeislatentError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): make the features again") from error


def _append_table(path: Path, parts: Sequence[Path]) -> None:
    """The table with further rows, a piece at a time; it appears at once."""
    beside = path.with_name(f".{path.name}.part")
    pieces = [*([path] if path.exists() else []), *parts]
    schema = pq.read_schema(pieces[0])
    with pq.ParquetWriter(beside, schema, compression="zstd") as writer:
        for one in pieces:
            file = pq.ParquetFile(one)
            for group in range(file.num_row_groups):
                writer.write_table(file.read_row_group(group).cast(schema))
    os.replace(beside, path)


def moments(array: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean and standard deviation [2 feature], block by block; a feature that hardly changes, by 1e-3 of its mean, has 1 for it.

    So what counts for little anyway does not cost the products of single precision their digits.
    """
    count, mean, square = 0, np.zeros(array.shape[1]), np.zeros(array.shape[1])
    for _, block in blocks(array):  # sums of squares about the mean so far (Chan, Golub and LeVeque 1983)
        x = block.astype(np.float64)
        own = x.mean(0)
        apart = own - mean
        whole = count + len(x)
        square += ((x - own) ** 2).sum(0) + apart**2 * count * len(x) / whole
        mean += apart * len(x) / whole
        count = whole
    deviation = np.sqrt(square / max(count, 1))
    return np.stack([mean, np.where(deviation > 1e-3 * np.maximum(np.abs(mean), 1e-30), deviation, 1.0)])


def norms(block: NDArray[np.float32], level: NDArray[np.float64]) -> NDArray[np.float32]:
    """Length of each row less the mean, over the deviation; 0 becomes the smallest number, so that nothing is divided by 0."""
    x = (block - level[0].astype(np.float32)) * (1 / level[1]).astype(np.float32)
    return np.maximum(np.sqrt(np.einsum("ij,ij->i", x, x)), np.finfo(np.float32).tiny)
