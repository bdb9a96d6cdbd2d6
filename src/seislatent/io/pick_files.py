"""Files of picks out: QuakeML, SeisComP's XML, NonLinLoc's observations, CSV and JSON, each complete or not there.

A table has the columns of `COLUMNS`, one row per pick. Files of any size are written line by line.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pandas as pd

from seislatent.errors import SeislatentError, unknown
from seislatent.io.event_fields import iso, put

COLUMNS: dict[str, str] = {
    "record": "str", "network": "str", "station": "str", "location": "str", "channel": "str", "phase": "str", "time_ns": "int64",
    "probability": "float64", "uncertainty_s": "float64", "begin_ns": "int64", "end_ns": "int64", "amplitude": "float64",
    "unit": "str", "clipped": "bool", "threshold": "float64",
}  # fmt: skip
"""Columns of a table of picks and their types. `record` is the name of a store's record, "" of a stream; `amplitude` NaN where it
is not known."""
ENDINGS = {".xml": "quakeml", ".qml": "quakeml", ".quakeml": "quakeml", ".csv": "csv", ".json": "json", ".obs": "nlloc_obs",
           ".sc3ml": "sc3ml"}  # fmt: skip
AT_ONCE = 10_000
"""Picks of one QuakeML event at most: programs hold an event in memory as a whole."""
DAY_NS = 86_400 * 10**9
SC3 = "0.12"
"""Version of SeisComP's schema."""


def empty() -> pd.DataFrame:
    """A table without picks."""
    return pd.DataFrame({name: pd.Series(dtype=object if kind == "str" else kind) for name, kind in COLUMNS.items()})


def format_of(path: str | Path, given: str | None = None) -> str:
    """The format asked for, or told by the ending. Raises SeislatentError where neither is known."""
    if given is not None:
        if given not in WRITERS:
            raise SeislatentError(unknown("format", given, WRITERS))
        return given
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise SeislatentError(f"{path}: its ending tells no format: give one of {', '.join(ENDINGS)}, or --format")
    return ENDINGS[ending]


def write_picks(
    path: str | Path, table: pd.DataFrame, about: Mapping[str, Any], format: str | None = None, overwrite: bool = False
) -> Path:  # fmt: skip
    """Write picks.

    Args:
        path: the file; its ending tells the format: .xml, .qml QuakeML 1.2; .csv; .json; .obs NLLOC_OBS; .sc3ml SeisComP.
        table: columns of `COLUMNS`.
        about: `method`, the id of model and weights; `version`; `command`; `thresholds`: what the file says of all picks.
        format: quakeml, csv, json, nlloc_obs or sc3ml, whatever the ending.
        overwrite: replace an existing file.

    Raises:
        SeislatentError: the file exists or cannot be written, or the format is not known.
    """
    kind = format_of(path, format)

    def fill(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            WRITERS[kind](file, table, about)

    put(path, fill, overwrite)
    return Path(path)


def waveform_id(row: Mapping[str, Any]) -> str:
    """`network.station.location.channel`."""
    return f"{row['network']}.{row['station']}.{row['location']}.{row['channel']}"


def _rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries, few at a time."""
    for at in range(0, len(table), AT_ONCE):
        yield from table.iloc[at : at + AT_ONCE].to_dict("records")  # type: ignore[misc]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


# -- CSV and JSON -----------------------------------------------------------------------------------------------------------------

CSV = (
    "station", "phase", "time", "probability", "amplitude", "id", "timestamp", "type", "prob", "amp", "station_network_code",
    "station_code", "station_location_code", "trace_channel", "time_ns", "uncertainty_s", "begin_ns", "end_ns", "unit", "clipped",
    "record", "status", "method_id",
)  # fmt: skip


def _write_csv(file: IO[str], table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """`station phase time` are PyOcto's columns (seconds since 1970), `id timestamp type prob amp` GaMMA's; the others are ours."""
    out = csv.writer(file, lineterminator="\n")
    out.writerow(CSV)
    for row in _rows(table):
        station = f"{row['network']}.{row['station']}.{row['location']}"
        ns, size = int(row["time_ns"]), _number(row["amplitude"])
        seconds = f"{ns // 10**9}.{ns % 10**9 // 1000:06d}"
        shown = np.datetime_as_string(np.datetime64(ns, "ns"), unit="us")
        probability = f"{row['probability']:.4f}"
        out.writerow(
            (
                station, row["phase"], seconds, probability, size, station, shown, row["phase"].lower(), probability, size,
                row["network"], row["station"], row["location"], row["channel"], ns, _number(row["uncertainty_s"]),
                int(row["begin_ns"]), int(row["end_ns"]), row["unit"], str(bool(row["clipped"])).lower(), row["record"],
                "automatic", about.get("method", ""),
            )
        )  # fmt: skip


def described(row: Mapping[str, Any]) -> dict[str, Any]:
    """A pick as JSON has it."""
    told: dict[str, Any] = {"record": row["record"]} if row["record"] else {}
    return told | {
        "waveform_id": waveform_id(row), "phase": row["phase"], "time": iso(int(row["time_ns"])), "time_ns": int(row["time_ns"]),
        "probability": round(float(row["probability"]), 4), "uncertainty_s": _plain(row["uncertainty_s"]),
        "start_time": iso(int(row["begin_ns"])), "end_time": iso(int(row["end_ns"])), "amplitude": _plain(row["amplitude"]),
        "unit": row["unit"] or None, "clipped": bool(row["clipped"]), "mode": "automatic",
    }  # fmt: skip


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")


def _write_json(file: IO[str], table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    head = json.dumps({k: v for k, v in about.items()}, indent=1, default=str)
    file.write(head[:-2] + ',\n "picks": [' if len(about) else '{"picks": [')
    for k, row in enumerate(_rows(table)):
        file.write(("," if k else "") + "\n  " + json.dumps(described(row)))
    file.write("\n ]\n}\n")


# -- XML --------------------------------------------------------------------------------------------------------------------------


def _resource(text: str) -> str:
    """Text as a part of a public id."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._/") else "_" for c in text)


def _method(about: Mapping[str, Any]) -> str:
    return f"smi:local/seislatent/{_resource(str(about.get('method', 'picker')))}"


def _comment(row: Mapping[str, Any]) -> str:
    """What no field of the schema holds."""
    parts = [f"probability={row['probability']:.4f}", f"threshold={row['threshold']:g}"]
    if not math.isnan(row["amplitude"]):
        parts.append(f"amplitude={row['amplitude']:.6g}" + (f" {row['unit']}" if row["unit"] else ""))
    parts += ["clipped=true"] if row["clipped"] else []
    parts += [f"record={row['record']}"] if row["record"] else []
    return "; ".join(parts)


def _time(row: Mapping[str, Any]) -> str:
    """Value and uncertainty of a pick's time; microseconds, as QuakeML's readers keep."""
    sure = row["uncertainty_s"]
    more = "" if math.isnan(sure) else f"<uncertainty>{sure:.6g}</uncertainty>"
    return f"<time><value>{np.datetime_as_string(np.datetime64(int(row['time_ns']), 'ns'), unit='us')}Z</value>{more}</time>"


def _stream(row: Mapping[str, Any]) -> str:
    location = f" locationCode={quoteattr(row['location'])}" if row["location"] else ""
    channel = f" channelCode={quoteattr(row['channel'])}" if row["channel"] else ""
    return f"<waveformID networkCode={quoteattr(row['network'])} stationCode={quoteattr(row['station'])}{location}{channel}/>"


def _write_quakeml(file: IO[str], table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """QuakeML 1.2: picks belong to events, so those of one day (UTC) stand in one event without an origin."""
    author = escape(f"seislatent {about.get('version', '')}".strip())
    method = _method(about)
    told = "; ".join(f"{k}: {v}" for k, v in about.items() if k in ("command", "thresholds", "filter"))
    file.write(
        "<?xml version='1.0' encoding='utf-8'?>\n"
        '<q:quakeml xmlns:q="http://quakeml.org/xmlns/quakeml/1.2" xmlns="http://quakeml.org/xmlns/bed/1.2">\n'
        f"<eventParameters publicID={quoteattr(f'{method}/picks')}>\n<comment><text>{escape(told)}</text></comment>\n"
    )
    opened, count, number = None, 0, 0
    for k, row in enumerate(_rows(table)):
        day = int(row["time_ns"]) // DAY_NS
        if day != opened or count >= AT_ONCE:
            file.write("</event>\n" if opened is not None else "")
            file.write(f'<event publicID="smi:local/seislatent/picks/{number}">\n')
            opened, count, number = day, 0, number + 1
        count += 1
        file.write(
            f'<pick publicID="smi:local/seislatent/pick/{k}">{_time(row)}{_stream(row)}'
            f"<methodID>{escape(method)}</methodID><phaseHint>{escape(row['phase'])}</phaseHint>"
            f"<evaluationMode>automatic</evaluationMode><creationInfo><author>{author}</author></creationInfo>"
            f"<comment><text>{escape(_comment(row))}</text></comment></pick>\n"
        )
    file.write("</event>\n" if opened is not None else "")
    file.write("</eventParameters>\n</q:quakeml>\n")


def _write_sc3ml(file: IO[str], table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """SeisComP's XML, in which picks stand by themselves."""
    name = f"http://geofon.gfz-potsdam.de/ns/seiscomp3-schema/{SC3}"
    author = escape(f"seislatent {about.get('version', '')}".strip())
    file.write(f'<?xml version="1.0" encoding="UTF-8"?>\n<seiscomp xmlns="{name}" version="{SC3}">\n<EventParameters>\n')
    for k, row in enumerate(_rows(table)):
        file.write(
            f'<pick publicID="smi:local/seislatent/pick/{k}">'
            f"{_time(row)}{_stream(row)}"
            f"<methodID>{escape(_method(about))}</methodID><phaseHint>{escape(row['phase'])}</phaseHint>"
            f"<evaluationMode>automatic</evaluationMode><creationInfo><author>{author}</author></creationInfo>"
            f"<comment><text>{escape(_comment(row))}</text></comment></pick>\n"
        )
    file.write("</EventParameters>\n</seiscomp>\n")


# -- NonLinLoc --------------------------------------------------------------------------------------------------------------------


def _write_nlloc_obs(file: IO[str], table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """NonLinLoc's phase file: station, instrument, component, onset, phase, motion, date, time, error (s), coda, amplitude, period.

    A time without a calibrated uncertainty gets 0, as ObsPy writes it; the amplitude is in the unit of the file.
    """
    for row in _rows(table):
        day, clock = np.datetime_as_string(np.datetime64(int(row["time_ns"]), "ns"), unit="us").split("T")
        hour, minute, second = clock.split(":")
        sure = 0.0 if math.isnan(row["uncertainty_s"]) else float(row["uncertainty_s"])
        size = -1.0 if math.isnan(row["amplitude"]) else float(row["amplitude"])
        file.write(
            f"{(row['station'] or '?').replace(' ', '_'):6} {'?':4} {row['channel'] or '?':4} ? {row['phase']:6} ?"
            f" {day.replace('-', '')} {hour}{minute} {float(second):7.4f} GAU {sure:9.2e} {-1:9.2e} {size:9.2e} {-1:9.2e}\n"
        )


WRITERS: dict[str, Callable[[IO[str], pd.DataFrame, Mapping[str, Any]], None]] = {
    "quakeml": _write_quakeml, "csv": _write_csv, "json": _write_json, "nlloc_obs": _write_nlloc_obs, "sc3ml": _write_sc3ml,
}  # fmt: skip
