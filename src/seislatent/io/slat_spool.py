"""Writes a `.slat` file of any length: chunks go to temporary files, one per section, which are put in order at the end."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.io.bits import pack
from seislatent.io.slat_lossless import chunk_samples, deflate
from seislatent.io.slat_side import pack_side
from seislatent.io.slat_table import CRC_BYTES, Entry, Head, pack_start

IN_MEMORY = 1 << 20
"""Bytes of a section before it moves from memory to a temporary file."""


class Spool:
    """Takes traces one after the other, chunk by chunk, and writes the file.

    with Spool(head) as spool:
        spool.run(offsets, scales, indices)   # as often as the trace has runs; or spool.samples(data) to store it as it is
        spool.trace(channel=..., ...)         # closes the trace: the fields of Entry but its chunks, which are known here
        spool.write(path)
    """

    def __init__(self, head: Head):
        self.head = head
        self.entries: list[Entry] = []
        self._chunks: list[int] = []
        self._rest: NDArray[Any] | None = None
        self._side, self._plain, *self._levels = (_spooled() for _ in range(2 + head.level))

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in (self._side, self._plain, *self._levels):
            file.close()

    def run(self, offsets: list[int], scales: list[NDArray[np.int64]], indices: list[NDArray[np.int64]]) -> None:
        """One run of segments: an offset, a scale per frame and indices [book frame] each."""
        self._put(self._side, pack_side(offsets, scales), count=True)
        for k, file in enumerate(self._levels):
            self._put(file, pack(np.concatenate([i[k] for i in indices]), self.head.bits))

    def samples(self, data: NDArray[Any]) -> None:
        """More samples [time] to be stored as they are."""
        data = data.astype(data.dtype.newbyteorder("<"), copy=False)
        rest = data if self._rest is None else np.concatenate([self._rest, data])
        step = chunk_samples(data.dtype)
        whole = len(rest) // step * step
        for at in range(0, whole, step):
            self._put(self._plain, deflate(rest[at : at + step]), count=True)
        self._rest = rest[whole:].copy()

    def trace(self, **what: Any) -> None:
        """Close the trace: the fields of `Entry` but its chunks."""
        if self._rest is not None and len(self._rest):
            self._put(self._plain, deflate(self._rest), count=True)
        self.entries.append(Entry(chunks=tuple(self._chunks), **what))
        self._chunks, self._rest = [], None

    def _put(self, file: IO[bytes], chunk: bytes, count: bool = False) -> None:
        file.write(chunk + zlib.crc32(chunk).to_bytes(CRC_BYTES, "little"))
        if count:
            self._chunks.append(len(chunk))

    def copy(self, target: IO[bytes]) -> None:
        """The whole file into an open one."""
        target.write(pack_start(self.head, self.entries))
        for file in (self._side, self._plain, *self._levels):
            file.seek(0)
            shutil.copyfileobj(file, target, 1 << 20)

    def to_bytes(self) -> bytes:
        """The whole file in memory."""
        target = io.BytesIO()
        self.copy(target)
        return target.getvalue()

    def write(self, path: str | Path, overwrite: bool = False) -> Path:
        """The whole file under its name, which appears only when it is complete."""
        with replacing(path, overwrite) as target:
            self.copy(target)
        return Path(path)


def _spooled() -> IO[bytes]:
    return cast(IO[bytes], tempfile.SpooledTemporaryFile(max_size=IN_MEMORY))


class replacing:
    """A file under a temporary name beside `path`, moved there when the block ends well and removed when it does not.

    Raises:
        SeislatentError: the file exists and may not be replaced, or its folder does not exist.
    """

    def __init__(self, path: str | Path, overwrite: bool = False):
        self.path = Path(path)
        may_write(self.path, overwrite)

    def __enter__(self) -> IO[bytes]:
        self.file = tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=f".{self.path.name}.", delete=False)
        return cast(IO[bytes], self.file)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()
        temporary = Path(self.file.name)
        if kind is not None:
            temporary.unlink(missing_ok=True)
            return
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, self.path)


def may_write(path: str | Path, overwrite: bool) -> None:
    """Refuse what would overwrite a file unasked, or has no folder, before any work is done.

    Raises:
        SeislatentError: as said.
    """
    path = Path(path)
    if path.is_dir():
        raise SeislatentError(f"{path} is a folder: give the name of a file")
    if path.exists() and not overwrite:
        raise SeislatentError(f"{path} exists: give another name, or overwrite it (overwrite=True, --overwrite)")
    if not path.parent.is_dir():
        raise SeislatentError(f"{path.parent} is no folder: make it first")
