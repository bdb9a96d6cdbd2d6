"""labels.csv in: one line per record that somebody has labelled, as text editors and spreadsheets write it.

    file,start,label,event,p_s            id;label;p_time
    a.mseed,,earthquake,ev1,12.4          XX.ABC..HH?;noise;2021-03-04T05:06:07.8

Comma, semicolon or tab; UTF-8 or Latin-1; quoted or not; with a semicolon or tab, numbers may have a decimal comma. A line that
cannot be used stays in the table with a reason, so that it is counted and found again by its number.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd

from seislatent.errors import SeislatentError, unknown

OTHER_NAMES = {
    "filename": "file", "path": "file", "trace_id": "id", "seed_id": "id", "starttime": "start", "start_time": "start",
    "trace_start_time": "start", "class": "label", "source_id": "event", "event_id": "event", "length_s": "length",
    "trace_p_arrival_sample": "p_sample", "trace_s_arrival_sample": "s_sample",
}  # fmt: skip
"""Other headings for the same columns; headings are read in lower case, with _ for spaces and hyphens."""

TIMES = ("start", "p_time", "s_time")
NUMBERS = ("p_s", "s_s", "p_sample", "s_sample", "length")
TEXT = ("file", "id", "label", "event")
EITHER = {"p": ("p_time", "p_s"), "s": ("s_time", "s_s")}
"""A column p or s holds a time in ISO 8601, or a number of seconds from the start; which, each cell shows by itself."""

LARGEST = 1 << 26
"""A file of more bytes is refused."""

_ISO = re.compile(r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?)?\s*(Z|[+-]\d\d:?\d\d)?$")


def read_labels(path: str | Path) -> pd.DataFrame:
    """A table of labelled records, one row per line of the file, good or not.

    Columns: `line` (number in the file, from 1), `file`, `id`, `label`, `event` (text, missing where empty), `start_ns`, `p_ns`,
    `s_ns` (nanoseconds since 1970), `p_s`, `s_s` (seconds from the start), `p_sample`, `s_sample` (samples from the start),
    `length_s`, `reason` and `detail` (empty where the line is good), and every other column of the file under its own heading.

    Raises:
        SeislatentError: there is no such file, it is empty or too large, or lacks the column label, or file and id.
    """
    path = Path(path)
    heads, cells, separator = _cells(path)
    names = [OTHER_NAMES.get(h, h) for h in heads]
    known = {*TEXT, *TIMES, *NUMBERS, *EITHER}
    if "label" not in names:
        near = unknown("column", next((h for h in heads if h not in known), heads[0]), ["label"])
        raise SeislatentError(f"{path}, line 1: no column label ({near}); it says what each record is")
    if not {"file", "id"} & set(names):
        raise SeislatentError(f"{path}, line 1: no column file and no column id: one of them says where each record is")
    _no_slips(path, names, known)
    twice = next((n for k, n in enumerate(names) if n in names[:k]), None)
    if twice is not None:
        raise SeislatentError(f"{path}, line 1: two columns for '{twice}': take one out")
    rows = []
    seen: dict[tuple[str, ...], int] = {}
    for number, line in cells:
        row = _row(names, line, decimal_comma=separator != ",") | {"line": number}
        key = _place(row)
        if not row["reason"] and key in seen:
            row |= {"reason": "duplicate line", "detail": f"repeats line {seen[key]}"}
        if not row["reason"]:
            seen[key] = number
        rows.append(row)
    if not rows:
        raise SeislatentError(f"{path} has a heading and no line: write one line per record")
    table = pd.DataFrame(rows)
    for column in TEXT:  # missing is None: a column of text would turn it into a float
        table[column] = pd.Series([row[column] for row in rows], dtype=object)
    for column in ("start_ns", "p_ns", "s_ns"):  # never by way of a float, which is good to 0.1 microseconds only
        table[column] = pd.array(table[column].tolist(), dtype="Int64")
    return table


def _no_slips(path: Path, names: list[str], known: set[str]) -> None:
    """Refuses a heading that is nearly one of ours: what it says would be lost in silence."""
    for name in names:
        meant = difflib.get_close_matches(name, [*known - {"p", "s", "id"}, *OTHER_NAMES], 1, 0.85)
        if name not in known and meant:
            raise SeislatentError(f"{path}, line 1: column '{name}': did you mean '{meant[0]}'? Call it that, or less like it")


def _place(row: dict[str, Any]) -> tuple[str, ...]:
    """What no two lines have in common: file, id and start; P where there is no start."""
    names = ("file", "id", "start_ns") if row["start_ns"] is not None else ("file", "id", "p_ns", "p_s", "p_sample")
    return tuple(str(row[name]) for name in names)


def _cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Headings in lower case with _ between words, number and cells of every line that is not empty, and what separates them."""
    if not path.is_file():
        raise SeislatentError(f"{path} does not exist: write labels.csv with the columns file (or id), start, label")
    if path.stat().st_size > LARGEST:
        raise SeislatentError(f"{path} has {path.stat().st_size} bytes, which is refused: divide it")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = text.replace("\0", "")
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise SeislatentError(f"{path} is empty: write a heading and one line per record")
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for line in reader:
            if any(cell.strip() for cell in line):
                lines.append((reader.line_num, [cell.strip() for cell in line]))
    except csv.Error as error:
        raise SeislatentError(f"{path}, line {reader.line_num}: {error}: mend the line") from error
    return [re.sub(r"[\s-]+", "_", h.lower()) for h in lines[0][1]], lines[1:], separator


def _row(names: list[str], cells: list[str], *, decimal_comma: bool) -> dict[str, Any]:
    """What one line says, and what is wrong with it."""
    row: dict[str, Any] = {"file": None, "id": None, "label": None, "event": None, "length_s": math.nan, "reason": "", "detail": ""}
    row |= {"start_ns": None} | {f"{w}_{k}": v for w in "ps" for k, v in (("ns", None), ("s", math.nan), ("sample", math.nan))}
    told = dict(zip(names, cells, strict=False))
    if len(cells) > len(names):
        return row | {"reason": "wrong number of cells", "detail": f"{len(cells)} cells under {len(names)} headings"}
    for name, text in told.items():
        if name in EITHER:
            iso, seconds = EITHER[name]
            name = seconds if _number(text, decimal_comma) is not None else iso
            if told.get(iso) or told.get(seconds):
                continue
        if not text:
            continue
        if name in TEXT:
            row[name] = text
        elif name in TIMES:
            ns = _time_ns(text)
            if ns is None:
                return row | {"reason": "unreadable time", "detail": f"{name} '{text}': write it as 2021-03-04T05:06:07.89"}
            row[f"{name.removesuffix('_time')}_ns"] = ns
        elif name in NUMBERS:
            value = _number(text, decimal_comma)
            if value is None:
                return row | {"reason": "unreadable number", "detail": f"{name} '{text}'"}
            row["length_s" if name == "length" else name] = value
        elif name:
            value = _number(text, decimal_comma)
            row.setdefault(name, text if value is None else value)
    if row["label"] is None:
        return row | {"reason": "no label"}
    if row["file"] is None and row["id"] is None:
        return row | {"reason": "no file and no id"}
    if row["length_s"] <= 0:
        return row | {"reason": "unreadable number", "detail": f"length '{row['length_s']:g}': give seconds above 0"}
    return row


def _number(text: str, decimal_comma: bool) -> float | None:
    try:
        value = float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _time_ns(text: str) -> int | None:
    """Nanoseconds since 1970 of a time in ISO 8601; UTC where no offset stands."""
    if not _ISO.match(text):
        return None
    try:
        time = pd.Timestamp(text.replace(",", "."))
        return int((time.tz_localize("UTC") if time.tzinfo is None else time).as_unit("ns").value)
    except (ValueError, OverflowError):
        return None
