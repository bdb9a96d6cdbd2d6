"""Fields of events and picks as files write them: times, numbers, places, lines of text from strangers."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from seislatent.errors import SeislatentError

LARGEST_BYTES = 1 << 29
"""A longer file (unpacked) is refused: reading takes about eight times its size of memory."""
LINE_BYTES = 1 << 16
"""A longer line is left out: no event or pick takes as much."""
TOLD_LINES = 10_000
"""No more lines than this are told one by one."""
DEGREE_KM = 6371.0 * np.pi / 180.0
"""Kilometres per degree on the mean sphere, as bulletins count distance."""

EVENT_COLUMNS = (
    "source_id", "origin_ns", "source_origin_time", "source_latitude_deg", "source_longitude_deg", "source_depth_km",
    "source_magnitude", "source_magnitude_type", "source_type",
)  # fmt: skip
PICK_COLUMNS = (
    "source_id", "station_network_code", "station_code", "station_location_code", "trace_channel", "phase", "time_ns",
    "path_ep_distance_km", "path_azimuth_deg", "residual_s", "snr", "station_magnitude", "station_magnitude_type", "onset",
    "polarity", "status",
)  # fmt: skip

_MISSING = frozenset({"", "-", "--", "---", "-.-", "*", "na", "n/a", "nan", "none", "null", "<na>", "inf", "-inf"})
_TIME = re.compile(
    r"\s*(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T\s]\s*)(\d{1,2}):(\d{1,2}):(\d{1,2})(?:[.,](\d*))?\s*(Z|UTC|GMT|[+-]\d\d:?\d\d)?\s*",
    re.ASCII | re.IGNORECASE,
)
_FIRST_DAY, _LAST_DAY = date(1678, 1, 1).toordinal(), date(2261, 12, 31).toordinal()  # what 64 bits of nanoseconds hold


class Told(list[str]):
    """One-line texts about what was left out; after `TOLD_LINES` of them only their number grows."""

    more = 0

    def add(self, text: str) -> None:
        """Tell one more thing: made printable, on one line, cut at 300 characters."""
        if len(self) >= TOLD_LINES:
            self.more += 1
            return
        text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
        self.append(text if len(text) <= 300 else text[:297] + "...")

    def all(self) -> list[str]:
        """The texts, the last one being the number of those that are not told."""
        return [*self, f"and {self.more} more"] if self.more else list(self)


@lru_cache(maxsize=1 << 16)
def _days(year: int, month: int, day: int) -> int:
    ordinal = date(year, month, day).toordinal()
    if not _FIRST_DAY <= ordinal <= _LAST_DAY:
        raise ValueError(f"year {year} is out of range (1678 to 2261)")
    return ordinal - 719163  # 1970-01-01


def time_ns(text: str) -> int:
    """Nanoseconds since 1970 of a written time: year, month, day, then hour:minute:second; UTC unless an offset follows.

    A leap second and a rounded second (60.0) count as the first second of the next minute. Digits beyond nanoseconds are dropped.

    >>> time_ns("1969-12-31T23:59:59.5Z"), time_ns("2016/12/31 23:59:60") == time_ns("2017-01-01 00:00:00")
    (-500000000, True)

    Raises:
        ValueError: no time, or one that does not exist.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        what = f"'{text.strip()[:40]}' is no time" if text.strip() else "no time"
        raise ValueError(f"{what} (write 2014-01-31T23:59:59.9)")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    days, h, m, s = _days(int(year), int(month), int(day)), int(hour), int(minute), int(second)
    if h > 23 or m > 59 or s > 60:
        raise ValueError(f"'{text.strip()[:40]}' is no time of a day")
    if zone is not None and zone[0] in "+-":
        m -= (1 if zone[0] == "+" else -1) * (60 * int(zone[1:3]) + int(zone[-2:]))
    return (((days * 24 + h) * 60 + m) * 60 + s) * 1_000_000_000 + (int(fraction[:9].ljust(9, "0")) if fraction else 0)


def iso(ns: int) -> str:
    """ISO 8601 in UTC with microseconds, or with nanoseconds where they are not zero."""
    return f"{np.datetime_as_string(np.datetime64(int(ns), 'ns'), unit='ns' if ns % 1000 else 'us')}Z"


def number(value: Any) -> float:
    """A written number; NaN where none is written (empty, -, NaN, infinite ...); a comma may stand for the point.

    Raises:
        ValueError: something else is written.
    """
    text = "" if value is None else str(value)
    try:
        found = float(text)  # the common case first: bulletins hold millions of them
    except ValueError:
        if text.strip().lower() in _MISSING:
            return np.nan
        try:
            found = float(text.replace(",", "."))
        except ValueError:
            raise ValueError(f"'{text.strip()[:40]}' is no number") from None
    if "_" in text:  # a number to Python, not to anyone else
        raise ValueError(f"'{text.strip()[:40]}' is no number")
    return found if abs(found) != np.inf else np.nan


def number_or_nan(value: Any, told: Told, where: str, what: str) -> float:
    """A written number, or NaN with a word about it where something else is written."""
    try:
        return number(value)
    except ValueError as error:
        told.add(f"{where}: {what} {error}: read as unknown")
        return np.nan


def event_id(origin_ns: int, latitude_deg: float, longitude_deg: float) -> str:
    """The same id for the same time (to 1 ms) and place (to 0.0001 degrees), for events that come without one."""
    when = np.datetime_as_string(np.datetime64(int(origin_ns), "ns"), unit="ms").replace("-", "").replace(":", "")
    return f"{when}_{latitude_deg:+.4f}_{longitude_deg:+.4f}"


def event_row(
    told: Told, where: str, *, source_id: Any, time: str | int, latitude: Any, longitude: Any, depth: Any, magnitude: Any,
    magnitude_type: Any = "", source_type: Any = "", depth_scale: float = 1.0,
) -> tuple[Any, ...] | None:  # fmt: skip
    """One row of `EVENT_COLUMNS`, or None where time or place is missing, which is told.

    Args:
        told: where to tell it.
        where: file and line.
        source_id: text, made from time and place where empty.
        time: as `time_ns` reads it, or nanoseconds since 1970.
        latitude: in degrees.
        longitude: in degrees; up to 360 is taken to -180 ... 180.
        depth: in kilometres when multiplied by `depth_scale`.
        magnitude: as written.
        magnitude_type: as written.
        source_type: as written.
        depth_scale: 0.001 for metres.
    """
    try:
        ns = time if isinstance(time, int) else time_ns(time)
        lat, lon = number(latitude), number(longitude)
        if not (abs(lat) <= 90 and -180 <= lon <= 360):
            raise ValueError("no latitude and longitude" if np.isnan(lat + lon) else f"place {lat:g}, {lon:g} is not on the Earth")
    except ValueError as error:
        told.add(f"{where}: event left out: {error}")
        return None
    lon = lon if lon <= 180 else lon - 360
    deep = number_or_nan(depth, told, where, "depth") * depth_scale
    if abs(deep) > 1000:
        told.add(f"{where}: depth {deep:g} km cannot be: read as unknown (name a column of metres depth_m)")
        deep = np.nan
    size = number_or_nan(magnitude, told, where, "magnitude")
    if abs(size) > 11:
        told.add(f"{where}: magnitude {size:g} cannot be: read as unknown")
        size = np.nan
    name = str(source_id or "").strip() or event_id(ns, lat, lon)
    return name, ns, iso(ns), lat, lon, deep, size, str(magnitude_type or "").strip(), str(source_type or "").strip()


def event_table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """A table with `EVENT_COLUMNS` and their types, also without rows."""
    return _table(rows, EVENT_COLUMNS, "origin_ns")


def pick_table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """A table with `PICK_COLUMNS` and their types, also without rows."""
    return _table(rows, PICK_COLUMNS, "time_ns")


_FLOATS = frozenset(
    {
        "source_latitude_deg", "source_longitude_deg", "source_depth_km", "source_magnitude", "path_ep_distance_km",
        "path_azimuth_deg", "residual_s", "snr", "station_magnitude",
    }
)  # fmt: skip


def _table(rows: list[tuple[Any, ...]], names: tuple[str, ...], time: str) -> pd.DataFrame:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    types = {name: np.dtype(np.float64) for name in _FLOATS} | {time: np.dtype(np.int64)}
    series = {n: pd.Series(c, dtype=types.get(n, np.dtype(object))) for n, c in zip(names, columns, strict=True)}
    return pd.DataFrame(series)


def lines(path: Path, told: Told, shown: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line; UTF-8 or UTF-16 (by its mark), and latin-1 where UTF-8 does not fit.

    A line with NUL characters or of more than `LINE_BYTES` is told and left out.
    """
    with path.open("rb") as handle:
        wide = handle.read(2) in (b"\xff\xfe", b"\xfe\xff")
    opened: IO[Any] = path.open(encoding="utf-16", errors="replace") if wide else path.open("rb")
    with opened as handle:
        whole, count = True, 0
        while raw := handle.readline(LINE_BYTES):
            first, whole = whole, raw[-1:] in (b"\n", "\n")
            count += first
            if not first:
                continue
            if not whole and len(raw) >= LINE_BYTES:
                told.add(f"{shown} line {count}: longer than {LINE_BYTES} bytes: left out")
                continue
            text = raw if isinstance(raw, str) else _text(raw)
            if "\0" in text:
                told.add(f"{shown} line {count}: holds NUL characters: left out")
                continue
            yield count, text.lstrip("\ufeff").rstrip("\r\n").replace("\r", " ")


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def check_size(path: Path, shown: str) -> None:
    """Let a file pass that is there and neither empty nor longer than `LARGEST_BYTES`.

    Raises:
        SeislatentError: it is not so.
    """
    if not path.is_file():
        raise SeislatentError(f"{shown} does not exist or is no file: give a catalogue, a bulletin or a folder of them")
    size = path.stat().st_size
    if size == 0:
        raise SeislatentError(f"{shown} is empty: nothing to read")
    if size > LARGEST_BYTES:
        raise SeislatentError(f"{shown} has {size >> 20} MiB, more than {LARGEST_BYTES >> 20}: split it into several files")


def start(path: Path, shown: str) -> str:
    """The first characters of a file as text, for telling its format.

    Raises:
        SeislatentError: as `check_size`, or its first line is not text.
    """
    check_size(path, shown)
    with path.open("rb") as handle:
        raw = handle.read(1 << 12)
    text = raw.decode("utf-16", "replace") if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else _text(raw)
    text = text.lstrip("\ufeff \t\r\n")
    if "\0" in text.partition("\n")[0]:
        raise SeislatentError(f"{shown} is no text: give QuakeML, FDSN text, CSV or a GSE2.0 bulletin")
    return text


def put(path: str | Path, write: Callable[[Path], None], overwrite: bool) -> None:
    """Let `write` fill a file beside `path` and move it there when it is complete.

    Raises:
        SeislatentError: the file is there already and `overwrite` is not given, or it cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise SeislatentError(f"{path} is there already: choose another name or ask to overwrite it")
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(beside)
        os.replace(beside, path)
    except OSError as error:
        raise SeislatentError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
