"""What the headers of an archive's files say: one row per trace, kept in a Parquet file and read anew only where files changed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seislatent.errors import SeislatentError
from seislatent.io.files import read_stream
from seislatent.io.plugins import one_line
from seislatent.io.traces import channel_of, samples_ns

log = logging.getLogger(__name__)

NO_WAVEFORMS = frozenset(
    {
        ".md", ".csv", ".json", ".jsonl", ".xml", ".png", ".jpg", ".jpeg", ".svg", ".pdf", ".html", ".py", ".sh", ".yaml", ".yml",
        ".toml", ".parquet", ".npy", ".npz", ".hdf5", ".h5", ".log", ".part",
    }
)  # fmt: skip
"""Files that are not looked at when a folder is searched for waveforms."""

TRACE: dict[str, Any] = {
    "file": "object", "trace": "int64", "format": "object", "network": "object", "station": "object", "location": "object",
    "channel": "object", "start_ns": "int64", "end_ns": "int64", "sampling_rate_hz": "float64", "npts": "int64",
    "latitude_deg": "float64", "longitude_deg": "float64", "elevation_m": "float64",
}  # fmt: skip
"""Columns of an archive's table: `file` relative to its folder, `trace` counted in the file, `end_ns` one interval past the end."""

_FILE: dict[str, Any] = {"size": "int64", "mtime_ns": "int64", "bad": "object"}
"""Beside them in the kept index: how the file was when it was read, and what was wrong with it ("" where nothing was)."""

_CHUNK = 64
"""Files that a process reads before it answers."""


def files_below(folder: Path, leave_out: Callable[[Path], bool]) -> Iterator[Path]:
    """Every file below a folder that may hold waveforms, in order of name; links are followed, each folder is entered once."""
    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        about = os.stat(here)
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(names):
            path = Path(here, name)
            if any("\ud800" <= letter <= "\udfff" for letter in str(path.relative_to(folder))):
                log.warning("left out, its name is no text: %s", ascii(str(path)))  # no table of text could hold it
                continue
            if name[0] != "." and path.suffix.lower() not in NO_WAVEFORMS and path.is_file() and not leave_out(path):
                yield path


def index(folder: Path, files: Sequence[Path], kept: pd.DataFrame | None, workers: int) -> pd.DataFrame:
    """Rows of all files, those of unchanged ones (same size and time of change) out of `kept`; `TRACE` and `_FILE` columns.

    A file without a trace of samples has one row with `npts` 0, so that it is not opened again.
    """
    now = {path.relative_to(folder).as_posix(): path.stat() for path in files}
    parts = []
    if kept is not None and len(kept):
        seen = {(name, about.st_size, about.st_mtime_ns) for name, about in now.items()}
        same = [key in seen for key in zip(kept["file"], kept["size"], kept["mtime_ns"], strict=True)]
        parts.append(kept[same])
        known = set(kept["file"][same])
    else:
        known = set()
    todo = [name for name in now if name not in known]
    chunks = [(str(folder), todo[i : i + _CHUNK]) for i in range(0, len(todo), _CHUNK)]
    rows: list[dict[str, Any]] = []
    if workers > 1 and len(chunks) > 1:
        with ProcessPoolExecutor(min(workers, len(chunks)), multiprocessing.get_context("spawn")) as pool:
            for found in pool.map(_read_headers, *zip(*chunks, strict=True)):
                rows += found
    else:
        for chunk in chunks:
            rows += _read_headers(*chunk)
    for row in rows:
        row["size"], row["mtime_ns"] = now[row["file"]].st_size, now[row["file"]].st_mtime_ns
    parts.append(pd.DataFrame(rows, columns=[*TRACE, *_FILE]))
    table = pd.concat([part.astype(TRACE | _FILE) for part in parts if len(part)] or parts, ignore_index=True)
    return table.astype(TRACE | _FILE).sort_values(["file", "trace"], kind="stable", ignore_index=True)


def _read_headers(folder: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of some files; what is wrong with one stands in its only row."""
    rows = []
    for name in names:
        none: dict[str, Any] = dict.fromkeys(TRACE, "") | dict.fromkeys(("trace", "start_ns", "end_ns", "npts"), 0)
        none |= {"file": name, "bad": ""}
        none |= {column: np.nan for column, kind in TRACE.items() if kind == "float64"}
        try:
            found = _traces(Path(folder, name), name)
        except SeislatentError as error:
            found = [none | {"bad": str(error)}]
        except OSError as error:
            found = [none | {"bad": f"{Path(folder, name)} cannot be read: {one_line(error)}"}]
        rows += found or [none]
    return rows


def _traces(path: Path, name: str) -> list[dict[str, Any]]:
    """One row per trace of numbers; text, empty traces and traces without a rate are left out."""
    stream = read_stream(path, headonly=True)
    if stream[0].stats._format not in ("MSEED", "SAC"):  # other plug-ins may give headers that the samples contradict
        stream = read_stream(path)
    rows = []
    for i, trace in enumerate(stream):
        stats = trace.stats
        rate, count, start_ns = float(stats.sampling_rate), int(stats.npts), int(stats.starttime.ns)
        text = stats.get("mseed", {}).get("encoding") == "ASCII" or trace.data.dtype.kind in "SU"
        if text or not count or rate <= 0 or not -(2**63) < start_ns <= start_ns + samples_ns(count, rate) < 2**63:
            continue
        channel = channel_of(stats)
        place = {key: getattr(channel, key) for key in ("latitude_deg", "longitude_deg", "elevation_m")}
        rows.append(
            {
                "file": name, "trace": i, "format": stats._format, "network": channel.network, "station": channel.station,
                "location": channel.location, "channel": channel.code, "start_ns": start_ns,
                "end_ns": start_ns + samples_ns(count, rate), "sampling_rate_hz": rate, "npts": count, "bad": "",
            } | {key: np.nan if value is None else value for key, value in place.items()}
        )  # fmt: skip
    return rows


def kept_index(path: Path) -> pd.DataFrame | None:
    """An index that was kept before, None where there is none.

    Raises:
        SeislatentError: the file is something else, which is not overwritten.
    """
    if not path.exists():
        return None
    try:
        table = pd.read_parquet(path)
        return table[[*TRACE, *_FILE]].astype(TRACE | _FILE)
    except Exception as error:
        raise SeislatentError(
            f"{path} is no index of an archive ({one_line(error)}): give another name for it, or delete it"
        ) from error


def keep_index(table: pd.DataFrame, path: Path) -> None:
    """Write the index; it appears only when it is complete."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        table.to_parquet(temporary, index=False)
        os.replace(temporary, path)
    except OSError as error:
        raise SeislatentError(f"index {path} cannot be written: {one_line(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)
