"""The records of a labels.csv and the waveform files beside it, or of subfolders whose names are the labels, read when asked for.

FOLDER: labels.csv, waveform files               one record per line
FOLDER: earthquake/ and blast/, waveform files   one record per sensor and stretch of time without a long gap
"""

from __future__ import annotations

import fnmatch
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from seislatent.data.gather import Unfit, gather, group_by_sensor
from seislatent.data.records import Records
from seislatent.errors import SeislatentError
from seislatent.io.archive import Archive
from seislatent.io.labels import read_labels
from seislatent.waveform import Waveform

log = logging.getLogger(__name__)

MARGIN_S = 5.0
"""Read on either side of what is labelled, for the resampler."""

APART_S = 10.0
"""Traces of a sensor in a subfolder with a longer gap between them are two records."""

TIMES = ("start_ns", "p_ns", "s_ns", "first_ns", "last_ns")
"""Columns of whole nanoseconds; as floats they would lose 0.1 microseconds."""

FARTHEST_NS = 2**62
"""Times are within this of 1970."""

_OURS = frozenset(
    {
        *TIMES, "file", "id", "event", "p_s", "s_s", "p_sample", "s_sample", "reason", "detail", "trace_npts", "trace_channel",
        "trace_p_arrival_sample", "length_s", "folder",
    }
)  # fmt: skip
"""Columns of the line, or of all of it without the margin, which a record tells in its own way."""


class LabelledFiles(Sequence[Waveform]):
    """One record per line of labels.csv; `metadata` has a row for each, with `reason` and `detail` where it cannot be had.

    Item i is the labelled stretch of time with a margin of up to `MARGIN_S` on either side; `trace_label_start_sample` and
    `trace_label_end_sample` say where it lies, `trace_p_arrival_sample` and `trace_s_arrival_sample` where the arrivals are.

    Args:
        path: the CSV file, or a folder with labels.csv, or one whose subfolders are the classes; waveform files lie in it at any
            depth.
        window_s: length of a record whose line has none.
        before_p_s: where a line has P and no start, its record begins so long before P.
        components: of every record, such as ZNE or Z.
        whole: records are all that there is, `window_s` at most, and one that lacks components is its vertical alone.

    Raises:
        SeislatentError: labels.csv is missing or unusable.
    """

    def __init__(self, path: Path, *, window_s: float, before_p_s: float, components: str, whole: bool = False) -> None:
        self.table_path = _labels_in(path) if path.is_dir() else path
        self.window_s, self.before_p_s, self.components, self.whole = window_s, before_p_s, components, whole
        by_folder = not self.table_path.exists() and len(subfolders(path)) > 1
        lines = pd.DataFrame() if by_folder else read_labels(self.table_path)
        self.archive = Archive(self.table_path.parent, leave_out=[self.table_path])
        index = self.archive.table
        codes = index[["network", "station", "location", "channel"]].to_numpy()
        self._traces = index.assign(trace_id=[".".join(map(str, c)) for c in codes])
        self._of_file = {str(name): rows for name, rows in self._traces.groupby("file").indices.items()}
        self.metadata = self._completed(_lines_of_folders(path, self._traces) if by_folder else lines)

    def __len__(self) -> int:
        return len(self.metadata)

    def _completed(self, lines: pd.DataFrame) -> pd.DataFrame:
        """Start, rate and identity from the headers of the files; why a line cannot be used."""
        rows = [{str(k): v for k, v in row.items()} for row in lines.to_dict("records")]
        found = [row if row["reason"] else self._found(row) for row in rows]
        done = pd.DataFrame([{k: v for k, v in row.items() if k not in TIMES} for row in found])
        name = self.table_path.name
        names = [f"{name}:{r['line']}" if "folder" not in r else f"{r['file'] or r['folder']}:{r['line']}" for r in found]
        done["trace_name"] = names
        for column in ("file", "id", "event", "label"):
            done[column] = pd.Series([row[column] for row in found], dtype=object)
        done["source_id"] = done["event"]
        for column in TIMES:
            done[column] = pd.array([_whole(row.get(column)) for row in found], dtype="Int64")
        return done

    def _found(self, row: dict[str, Any]) -> dict[str, Any]:
        """A line with what the headers add to it."""
        traces, reason, detail = self._meant(row)
        if reason:
            return row | {"reason": reason, "detail": detail}
        length_s = self.window_s if math.isnan(row["length_s"]) else row["length_s"]
        length_s = min(length_s, self.window_s) if self.whole else length_s
        begin_ns, end_ns = int(traces["start_ns"].min()), int(traces["end_ns"].max())
        given_ns, p_ns = _whole(row["start_ns"]), _whole(row["p_ns"])
        if row["file"] is None and given_ns is None and p_ns is None:
            return row | {"reason": "no start", "detail": "a line with an id needs start or p_time"}
        zero_ns = given_ns if given_ns is not None else begin_ns if row["file"] is not None else int(p_ns or 0)
        rate = float(traces["sampling_rate_hz"].iloc[0])
        p_ns, s_ns = (_arrival_ns(row, phase, zero_ns, rate) for phase in "ps")
        start_ns = zero_ns
        if given_ns is None and p_ns is not None:
            start_ns = p_ns - round(self.before_p_s * 1e9)
            if row["file"] is not None:  # the file is what was labelled: stay inside it
                start_ns = max(begin_ns, min(start_ns, end_ns - _ns(length_s)))
        last_ns = start_ns + _ns(length_s)
        if self.whole and start_ns < end_ns < last_ns:
            last_ns = end_ns
            length_s = (last_ns - start_ns) / 1e9
        if max(map(abs, (start_ns, last_ns, p_ns or 0, s_ns or 0))) >= FARTHEST_NS:
            return row | {"reason": "unreadable number", "detail": "a length or an arrival is more than 146 years off"}
        inside = traces[(traces["end_ns"] > start_ns) & (traces["start_ns"] < last_ns)]
        if inside.empty:
            span = f"{np.datetime64(begin_ns, 'ns')} to {np.datetime64(end_ns, 'ns')}"
            return row | {"reason": "no data at that time", "detail": f"there is {span}"}
        if p_ns is not None and not start_ns <= p_ns < last_ns:
            return row | {"reason": "P outside the record", "detail": f"P at {(p_ns - start_ns) / 1e9:g} s of {length_s:g} s"}
        if p_ns is not None and s_ns is not None and s_ns <= p_ns:
            return row | {"reason": "S not after P", "detail": f"S - P = {(s_ns - p_ns) / 1e9:g} s"}
        one = inside.iloc[0]
        about: dict[str, Any] = {
            "station_network_code": one["network"], "station_code": one["station"], "station_location_code": one["location"],
            "trace_channel": one["channel"], "trace_sampling_rate_hz": rate, "trace_npts": round(length_s * rate),
        }  # fmt: skip
        about |= {} if p_ns is None else {"trace_p_arrival_sample": (p_ns - start_ns) * rate / 1e9}
        times = {"start_ns": start_ns, "first_ns": start_ns, "last_ns": last_ns, "p_ns": p_ns, "s_ns": s_ns}
        return row | about | times | {"length_s": length_s}

    def _meant(self, row: dict[str, Any]) -> tuple[pd.DataFrame, str, str]:
        """The traces that a line may mean, or a reason and its detail."""
        traces, file, id = self._traces, row["file"], row["id"]
        if isinstance(row.get("folder"), str):
            traces = traces[traces["file"].str.startswith(f"{row['folder']}/")]
            traces = traces if file is None else traces[traces["file"] == file]
            return traces[traces["trace_id"].str.startswith(str(id))], "", ""
        if file is not None:
            name = PurePosixPath(file.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
                return traces, "file outside the folder", f"{file}: put it, or a link to it, beside {self.table_path.name}"
            if not (self.archive.folder / name).is_file():
                return traces, "missing file", file
            if str(name) not in self._of_file:
                told = next((line for line in self.archive.bad if str(name) in line), f"{file} holds no trace")
                return traces, "cannot be read", told
            traces = traces.iloc[self._of_file[str(name)]]
        if id is None:
            return traces, "", ""
        pattern = _pattern(id, self.components)
        names = {each: fnmatch.fnmatchcase(each, pattern) for each in traces["trace_id"].unique()}
        if not any(names.values()):
            return traces, "unknown id", f"{id} is not among {', '.join(sorted(names)[:5]) or 'the files: there is none'}"
        return traces[traces["trace_id"].map(names)], "", ""

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        row: dict[str, Any] = {str(k): self.metadata[k].iloc[i] for k in self.metadata}  # one by one: times stay whole numbers
        row = {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
        if row["reason"]:
            raise Unfit(row["reason"], row["detail"] or row["trace_name"])
        margin, first_ns, last_ns = round(MARGIN_S * 1e9), int(row["first_ns"]), int(row["last_ns"])
        traces, _, _ = self._meant(row)
        near = traces[(traces["end_ns"] > first_ns - margin) & (traces["start_ns"] < last_ns + margin)]
        found = self.archive.read(start_ns=first_ns - margin, end_ns=last_ns + margin, files=list(near["file"].unique()))
        wanted = set(near["trace_id"])
        try:
            record = self._one([w for w in found if w.ids[0] in wanted])
        except Unfit as error:
            raise Unfit(error.reason, f"{row['trace_name']}: {error.detail}") from error
        rate = record.sampling_rate_hz
        marks = {"trace_label_start_sample": first_ns, "trace_label_end_sample": last_ns}
        marks |= {f"trace_{phase}_arrival_sample": row[f"{phase}_ns"] for phase in "ps" if row[f"{phase}_ns"] is not pd.NA}
        told = {name: (int(ns) - record.start_ns) * rate / 1e9 for name, ns in marks.items()}
        kept = {k: v for k, v in row.items() if k not in _OURS and isinstance(v, str | int | float) and v == v}
        kept |= {"source_id": row["event"]} if isinstance(row["event"], str) else {}
        return replace(record, metadata={k: v for k, v in record.metadata.items() if k != "file"} | kept | told)

    def _one(self, pieces: list[Waveform]) -> Waveform:
        """One record of the first sensor that has all components: by location, seismometers before accelerometers."""
        sensors = group_by_sensor(pieces)
        trouble = Unfit("no data at that time", "nothing can be read there")
        for order in (self.components, "Z") if self.whole and len(self.components) > 1 else (self.components,):
            for key in sorted(sensors, key=lambda k: (k[:3], k[3][1:] == "N", k)):
                try:
                    return gather(sensors[key], order=order)
                except Unfit as error:
                    trouble = error
        raise trouble


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, without hidden ones: the classes, where there is no labels.csv."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")) if folder.is_dir() else []


def _lines_of_folders(folder: Path, traces: pd.DataFrame) -> pd.DataFrame:
    """What `read_labels` would say if someone had written a line for every record of every subfolder.

    A record is what one sensor (network, station, location, band and instrument) has without a gap of more than `APART_S`; where
    two traces of one channel overlap, as those of files without codes or times do, each file is records of its own.

    Raises:
        SeislatentError: no subfolder holds a waveform file.
    """
    inside = traces[traces["file"].str.contains("/")].copy()
    if inside.empty:
        raise SeislatentError(f"{folder}: no waveform file in its subfolders, and no labels.csv: give a folder per class")
    inside["folder"] = inside["file"].str.split("/", n=1).str[0]
    inside["sensor"] = [i[:-1] for i in inside["trace_id"]]
    rows: list[dict[str, Any]] = []
    for (label, sensor), some in inside.sort_values("start_ns").groupby(["folder", "sensor"], sort=True):
        after = some.groupby("trace_id")[["start_ns", "end_ns"]].shift(-1)["start_ns"]
        alone = bool((after < some["end_ns"]).any())
        for file, part in some.groupby("file") if alone else [(None, some)]:
            ends = part["end_ns"].cummax().shift()
            number = (part["start_ns"] > ends + APART_S * 1e9).cumsum()
            for _, one in part.groupby(number):
                name = str(file) if alone else one["file"].iloc[0] if one["file"].nunique() == 1 else None
                rows.append({"folder": label, "label": label, "file": name, "id": sensor, "start_ns": int(one["start_ns"].min()),
                             "length_s": (int(one["end_ns"].max()) - int(one["start_ns"].min())) / 1e9})  # fmt: skip
    none: dict[str, Any] = {"event": None, "reason": "", "detail": "", "p_ns": None, "s_ns": None}
    none |= {f"{phase}_{unit}": math.nan for phase in "ps" for unit in ("s", "sample")}
    table = pd.DataFrame([{**none, **row, "line": k + 1} for k, row in enumerate(rows)])
    table["file"] = pd.Series([row["file"] for row in rows], dtype=object)  # missing is None
    return table


def _pattern(text: str, components: str) -> str:
    """A pattern of four parts: what is not given is anything, and HHZ is HH? where several components are asked for."""
    parts = [*text.split("."), "*", "*", "*"][:4] if text.count(".") < 3 else text.split(".")
    code = parts[3]
    if len(components) > 1 and len(code) == 3 and not set(code) & set("*?["):
        parts[3] = code[:2] + "?"
    return ".".join(parts)


def _labels_in(folder: Path) -> Path:
    """labels.csv of a folder, in capitals or not."""
    found = [p for p in folder.glob("*.[cC][sS][vV]") if p.name.lower() == "labels.csv"]
    return found[0] if len(found) == 1 else folder / "labels.csv"


def _whole(value: Any) -> int | None:
    """A cell of nanoseconds, None where it is missing."""
    return None if value is None or value is pd.NA or value != value else int(value)


def _ns(seconds: float) -> int:
    """Whole nanoseconds; what is farther than any time is cut off at 1e30, so that no number is too large to be told."""
    return round(max(-1e30, min(1e30, seconds * 1e9)))


def _arrival_ns(row: dict[str, Any], phase: str, start_ns: int, rate: float) -> int | None:
    """The time of P or S: given as a time, in seconds or in samples from the start; None where it is not."""
    given = _whole(row[f"{phase}_ns"])
    if given is not None:
        return given
    for name, unit_s in ((f"{phase}_s", 1.0), (f"{phase}_sample", 1 / rate)):
        value = row.get(name)
        if isinstance(value, float) and math.isfinite(value):
            return start_ns + _ns(value * unit_s)
    return None


def open_labelled(source: Sequence[Path], *, window_s: float, before_p_s: float, components: str, whole: bool = False) -> Records:
    """The lines of one or several labels.csv (or of folders, see `LabelledFiles`) as records, with `label`, `reason`, `detail`.

    Raises:
        SeislatentError: a labels.csv is missing or unusable.
    """
    settings: dict[str, Any] = {"window_s": window_s, "before_p_s": before_p_s, "components": components, "whole": whole}
    parts = [LabelledFiles(Path(p), **settings) for p in source]
    for part in parts:
        wrong = part.metadata[part.metadata["reason"] != ""]
        if len(wrong):
            told = [f"{n}: {r}" + (f" ({d})" if d else "") for n, r, d in wrong[["trace_name", "reason", "detail"]].to_numpy()[:5]]
            more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            log.warning("%d of %d lines cannot be used: %s%s", len(wrong), len(part), "; ".join(told), more)
    return Records.joined(parts, [part.table_path.parent.resolve().name for part in parts])
