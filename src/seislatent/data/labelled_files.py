"""The records of a labels.csv and the waveform files beside it, each read when it is asked for."""

from __future__ import annotations

import fnmatch
import math
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seislatent.data.gather import Unfit, gather, group_by_sensor
from seislatent.data.records import COLUMNS, Records, WaveformFiles
from seislatent.io.files import from_stream, read_stream
from seislatent.io.labels import read_labels
from seislatent.prepare.windows import cut
from seislatent.waveform import Waveform

MARGIN_S = 5.0
"""Read on either side of what is labelled, for the resampler."""

_PLAIN = frozenset({".csv", ".md", ".json", ".xml", ".png", ".jpg", ".pdf", ".py", ".yaml", ".yml", ".html", ".ods", ".xlsx"})
_OURS = frozenset(
    {
        "file", "id", "event", "p_ns", "s_ns", "p_s", "s_s", "p_sample", "s_sample", "reason", "detail", "first_ns", "last_ns",
        "start_ns", "trace_npts", "trace_p_arrival_sample", "trace_channel", "length_s",
    }
)  # fmt: skip
"""Columns of the line, or of all of it without the margin, which a record tells in its own way."""



class LabelledFiles(Sequence[Waveform]):
    """One record per line of labels.csv; `metadata` has a row for each, with `reason` and `detail` where it cannot be had.

    Item i is the labelled stretch of time with a margin of up to `MARGIN_S` on either side; `trace_label_start_sample` and
    `trace_label_end_sample` say where it lies, `trace_p_arrival_sample` and `trace_s_arrival_sample` where the arrivals are.

    Args:
        path: the CSV file, or a folder with labels.csv.
        window_s: length of a record whose line has none.
        before_p_s: where a line has P and no start, its record begins so long before P.
        components: of every record, such as ZNE or Z.
    """

    def __init__(self, path: Path, *, window_s: float, before_p_s: float, components: str) -> None:
        self.table_path = path / "labels.csv" if path.is_dir() else path
        self.folder = self.table_path.parent
        self.window_s, self.before_p_s, self.components = window_s, before_p_s, components
        self._held: OrderedDict[tuple[int, str], list[list[Waveform]]] = OrderedDict()
        self._seen: dict[str, tuple[str, pd.DataFrame]] = {}
        table = read_labels(self.table_path)
        self._index = self._indexed() if ((table["reason"] == "") & table["file"].isna()).any() else pd.DataFrame()
        self.metadata = self._completed(table)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": OrderedDict(), "_seen": {}}

    def __len__(self) -> int:
        return len(self.metadata)

    def _indexed(self) -> pd.DataFrame:
        """The traces of all waveform files of the folder, for lines that give an id."""
        files = [p for p in sorted(self.folder.rglob("*")) if p.is_file() and p.suffix.lower() not in _PLAIN and p.name[0] != "."]
        return _spans(WaveformFiles(files, None, root=self.folder).metadata)

    def _completed(self, table: pd.DataFrame) -> pd.DataFrame:
        """Start, rate and identity from the headers of the files; why a line cannot be used."""
        found = [self._found(row) if not row["reason"] else row for row in _records(table)]
        times = ("start_ns", "p_ns", "s_ns", "first_ns", "last_ns")  # as floats they would lose 0.1 microseconds
        done = pd.DataFrame([{k: v for k, v in row.items() if k not in times} for row in found])
        name = self.table_path.name
        done["trace_name"] = [f"{name}:{line}" for line in done["line"]]
        done["source_id"] = done["event"]
        for column in times:
            done[column] = pd.array([_whole(row.get(column)) for row in found], dtype="Int64")
        return done

    def _found(self, row: dict[str, Any]) -> dict[str, Any]:
        """A line with what the headers add to it."""
        traces, reason, detail = self._traces(row)
        if reason:
            return row | {"reason": reason, "detail": detail}
        length_s = self.window_s if math.isnan(row["length_s"]) else row["length_s"]
        begin_ns, end_ns = int(traces["start_ns"].min()), int(traces["end_ns"].max())
        given_ns, p_ns = _whole(row["start_ns"]), _whole(row["p_ns"])
        if row["file"] is None and given_ns is None and p_ns is None:
            return row | {"reason": "no start", "detail": "a line with an id needs start or p_time"}
        zero_ns = given_ns if given_ns is not None else begin_ns if row["file"] is not None else int(p_ns or 0)
        rate = float(traces["trace_sampling_rate_hz"].iloc[0])
        p_ns, s_ns = (_arrival_ns(row, phase, zero_ns, rate) for phase in "ps")
        start_ns = zero_ns
        if given_ns is None and p_ns is not None:
            start_ns = p_ns - round(self.before_p_s * 1e9)
            if row["file"] is not None:  # the file is what was labelled: stay inside it
                start_ns = max(begin_ns, min(start_ns, end_ns - round(length_s * 1e9)))
        last_ns = start_ns + round(length_s * 1e9)
        inside = traces[(traces["end_ns"] > start_ns) & (traces["start_ns"] < last_ns)]
        if inside.empty:
            span = f"{np.datetime64(begin_ns, 'ns')} to {np.datetime64(end_ns, 'ns')}"
            return row | {"reason": "no data at that time", "detail": f"there is {span}"}
        if p_ns is not None and not start_ns <= p_ns < last_ns:
            return row | {"reason": "P outside the record", "detail": f"P at {(p_ns - start_ns) / 1e9:g} s of {length_s:g} s"}
        if p_ns is not None and s_ns is not None and s_ns <= p_ns:
            return row | {"reason": "S not after P", "detail": f"S - P = {(s_ns - p_ns) / 1e9:g} s"}
        one = inside.iloc[0]
        told = ("station_network_code", "station_code", "station_location_code", "trace_channel", "trace_sampling_rate_hz")
        about = {name: one[name] for name in told} | {"trace_npts": round(length_s * rate), "start_ns": start_ns}
        about |= {} if p_ns is None else {"trace_p_arrival_sample": (p_ns - start_ns) * rate / 1e9}
        return row | about | {"first_ns": start_ns, "last_ns": last_ns, "length_s": length_s, "p_ns": p_ns, "s_ns": s_ns}

    def _traces(self, row: dict[str, Any]) -> tuple[pd.DataFrame, str, str]:
        """The traces that a line may mean, or a reason and its detail."""
        if row["file"] is None:
            traces, reason, detail = self._index, "", ""
        else:
            traces, reason, detail = self._of_file(str(row["file"]))
        if reason or row["id"] is None:
            return traces, reason, detail
        match = np.array([fnmatch.fnmatchcase(i, _pattern(row["id"], self.components)) for i in traces["trace_id"]], bool)
        if not match.any():
            some = ", ".join(sorted(set(traces["trace_id"]))[:5])
            return traces, "unknown id", f"{row['id']} is not among {some or 'the files'}, ..."
        return traces[match], "", ""

    def _of_file(self, name: str) -> tuple[pd.DataFrame, str, str]:
        """The traces of a file by its headers; read once."""
        if name in self._seen:
            reason, traces = self._seen[name]
            return traces, reason, name
        path, none = Path(name), _spans(pd.DataFrame())
        if path.is_absolute() or ".." in path.parts:
            return none, "file outside the folder", f"{name}: put it, or a link to it, beside {self.table_path.name}"
        if not (self.folder / path).is_file():
            return none, "missing file", name
        found = WaveformFiles([self.folder / path], None, root=self.folder)
        reason = "" if len(found) else "cannot be read"
        self._seen[name] = (reason, _spans(found.metadata))
        return self._seen[name][1], reason, found.bad[0] if found.bad else name

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        row: dict[str, Any] = {str(k): self.metadata[k].iloc[i] for k in self.metadata}  # one by one: times stay whole numbers
        row = {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
        if row["reason"]:
            raise Unfit(row["reason"], row["detail"] or row["trace_name"])
        margin = round(MARGIN_S * 1e9)
        first_ns, last_ns = int(row["first_ns"]), int(row["last_ns"])
        traces, _, _ = self._traces({"file": row["file"], "id": row["id"]})
        near = traces[(traces["end_ns"] > first_ns - margin) & (traces["start_ns"] < last_ns + margin)]
        pieces = [
            part for file, some in near.groupby("file", sort=False) for k in some["trace"] for trace in self._read(str(file))[k]
            if (part := _between(trace, first_ns - margin, last_ns + margin)) is not None
        ]  # fmt: skip
        try:
            record = self._one(pieces)
        except Unfit as error:
            raise Unfit(error.reason, f"{row['trace_name']}: {error.detail}") from error
        rate = record.sampling_rate_hz

        def sample(ns: int) -> float:
            return (ns - record.start_ns) * rate / 1e9

        marks = {"trace_label_start_sample": sample(first_ns), "trace_label_end_sample": sample(last_ns)}
        for phase in "ps":
            ns = _whole(row[f"{phase}_ns"])
            marks |= {} if ns is None else {f"trace_{phase}_arrival_sample": sample(ns)}
        kept = {k: v for k, v in row.items() if k not in _OURS and isinstance(v, str | int | float) and v == v}
        kept |= {"source_id": row["event"]} if isinstance(row["event"], str) else {}
        return replace(record, metadata=record.metadata | kept | marks)

    def _one(self, pieces: list[Waveform]) -> Waveform:
        """One record of the first sensor that has all components: by location, seismometers before accelerometers."""
        sensors = group_by_sensor(pieces)
        trouble = Unfit("no data at that time", "no trace")
        for key in sorted(sensors, key=lambda k: (k[:3], k[3][1:] == "N", k)):
            try:
                return gather(sensors[key], order=self.components)
            except Unfit as error:
                trouble = error
        raise trouble

    def _read(self, file: str) -> list[list[Waveform]]:
        """Every trace of a file. The last files stay read, so that neighbouring lines cost nothing."""
        key = (os.getpid(), file)
        if key not in self._held:
            self._held[key] = [from_stream([trace]) for trace in read_stream(file)]
            while len(self._held) > 4:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _spans(traces: pd.DataFrame) -> pd.DataFrame:
    """A table of traces with `trace_id` and `end_ns`."""
    columns = ("file", "trace", "start_ns", "trace_npts", "trace_sampling_rate_hz", "station_network_code", "station_code",
               "station_location_code", "trace_channel")  # fmt: skip
    traces = traces.reindex(columns=columns) if traces.empty else traces
    codes = ("station_network_code", "station_code", "station_location_code", "trace_channel")
    ids = [".".join(map(str, row)) for row in traces[list(codes)].to_numpy()]
    length = [round(n * 1e9 / r) for n, r in traces[["trace_npts", "trace_sampling_rate_hz"]].to_numpy()]
    return traces.assign(trace_id=ids, end_ns=traces["start_ns"].to_numpy(np.int64) + np.array(length, np.int64))


def _pattern(text: str, components: str) -> str:
    """A pattern of four parts: what is not given is anything, and HHZ is HH? where several components are asked for."""
    parts = [*text.split("."), "*", "*", "*"][:4] if text.count(".") < 3 else text.split(".")
    code = parts[3]
    if len(components) > 1 and len(code) == 3 and not set(code) & set("*?["):
        parts[3] = code[:2] + "?"
    return ".".join(parts)


def _between(trace: Waveform, first_ns: int, last_ns: int) -> Waveform | None:
    """The samples of a trace in [first, last), None where there are none."""
    rate, n = trace.sampling_rate_hz, trace.data.shape[1]
    a = max(0, math.ceil((first_ns - trace.start_ns) * rate / 1e9 - 1e-6))
    b = min(n, math.ceil((last_ns - trace.start_ns) * rate / 1e9 - 1e-6))
    return cut(trace, a, b) if b > a else None


def _whole(value: Any) -> int | None:
    """A cell of nanoseconds, None where it is missing."""
    return None if value is None or value is pd.NA or value != value else int(value)


def _arrival_ns(row: dict[str, Any], phase: str, start_ns: int, rate: float) -> int | None:
    """The time of P or S: given as a time, in seconds or in samples from the start; None where it is not."""
    given = _whole(row[f"{phase}_ns"])
    if given is not None:
        return given
    for name, unit_s in ((f"{phase}_s", 1.0), (f"{phase}_sample", 1 / rate)):
        value = row.get(name)
        if isinstance(value, float) and math.isfinite(value):
            return start_ns + round(value * unit_s * 1e9)
    return None


def open_labelled(source: Sequence[Path], *, window_s: float, before_p_s: float, components: str) -> Records:
    """The lines of one or several labels.csv (or folders that have one) as records; the table has `label`, `reason`, `detail`.

    Raises:
        SeislatentError: a labels.csv is missing or unusable.
    """
    parts = [LabelledFiles(Path(p), window_s=window_s, before_p_s=before_p_s, components=components) for p in source]
    tables = [part.metadata.assign(dataset=part.folder.resolve().name) for part in parts]
    table = pd.concat(tables, ignore_index=True)
    for column, kind in COLUMNS.items():
        if column not in table:
            table[column] = pd.Series([pd.NA if kind == "Int64" else np.nan if kind is float else None] * len(table), dtype=object)
        if kind is str:
            table[column] = table[column].astype(object).where(table[column].notna(), None)
        else:
            table[column] = pd.to_numeric(table[column]).astype(kind)
    where = np.concatenate([np.stack([np.full(len(t), k), np.arange(len(t))], axis=1) for k, t in enumerate(tables)])
    return Records(parts, table, where)
