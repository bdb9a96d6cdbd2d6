"""The manifest of a download: one line of JSON for each thing that was asked for, appended when its answer is on the disk.

A process that is killed in the middle of a line loses that line only: it is cut off when the manifest is opened again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from seislatent.errors import SeislatentError

NAME = "manifest.jsonl"
COLUMNS = [
    "when", "what", "event", "network", "station", "location", "channel", "start", "end", "status", "detail", "bytes", "sha256",
    "file", "service",
]  # fmt: skip
"""`what` is waveforms or responses; `status` is ok, no data or failed."""


class Manifest:
    """`with Manifest(path) as manifest`: the last row of each key in `rows`, and `add`. Only one process may hold it.

    Raises:
        SeislatentError: another process downloads into this folder.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self.rows: dict[tuple[str, ...], dict[str, Any]] = {}

    def __enter__(self) -> Manifest:
        self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise SeislatentError(f"{self.path.parent}: another download is at work in this folder: wait for it") from None
        self._file.seek(0)
        raw = self._file.read()
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            self._file.truncate(whole)
        self.rows = _last(raw[:whole])
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def last(self, **row: Any) -> dict[str, Any]:
        """The last row for the same thing, empty where there is none."""
        return self.rows.get(key_of(row), {})

    def add(self, **row: Any) -> None:
        """Append a row; from any thread. Raises OSError where the disk takes no more."""
        row = {"when": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), **row}
        ordered = {name: row[name] for name in COLUMNS if name in row}
        with self._lock:
            self._file.seek(0, os.SEEK_END)
            size = self._file.tell()
            try:
                self._file.write(json.dumps(ordered).encode() + b"\n")
                self._file.flush()
            except OSError:
                os.truncate(self.path, size)
                raise
            self.rows[key_of(row)] = ordered


def key_of(row: dict[str, Any]) -> tuple[str, ...]:
    """What a row is about: rows of the same key tell of the same thing, the last one holds."""
    names: tuple[str, ...] = ("what", "event", "network", "station", "location", "channel", "start", "end")
    if row.get("what") == "responses":  # one file per station, whatever span it was asked for
        names = ("what", "network", "station")
    return tuple(str(row.get(name, "")) for name in names)


def _last(raw: bytes) -> dict[tuple[str, ...], dict[str, Any]]:
    rows = {}
    for line in raw.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # what it told is asked again
        if isinstance(row, dict):
            rows[key_of(row)] = row
    return rows


def last_rows(folder: str | Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """The last row of each key of a folder's manifest; empty where there is none."""
    path = Path(folder) / NAME
    return _last(path.read_bytes()) if path.is_file() else {}


def read_manifest(folder: str | Path) -> pd.DataFrame:
    """The manifest of a download as a table: the last row of each thing that was asked, columns as in `COLUMNS`.

    Raises:
        SeislatentError: the folder holds no download.
    """
    if not (Path(folder) / NAME).is_file():
        raise SeislatentError(f"{folder} holds no {NAME}: give the folder of a download")
    return pd.DataFrame(list(last_rows(folder).values()), columns=COLUMNS)


def put_file(path: Path, fill: bytes | Callable[[Path], Any]) -> dict[str, Any]:
    """Write a file beside its name and move it there; returns its bytes and sha256. Raises OSError; nothing half-written stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        if isinstance(fill, bytes):
            beside.write_bytes(fill)
        else:
            fill(beside)
        size, digest = beside.stat().st_size, hashlib.sha256()
        with beside.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return {"bytes": size, "sha256": digest.hexdigest()}
