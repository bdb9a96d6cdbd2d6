"""What FDSN services answer, checked before it is believed: station text, StationXML, miniSEED.

Names of files are made of codes, so codes are letters and digits or the line is left out.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from copy import deepcopy
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from lxml import etree
from obspy import read_inventory

from seislatent.io.event_fields import Told, time_ns
from seislatent.io.fdsn import Fault
from seislatent.io.pieces import HEADER, durations_us, record_length, starts_us
from seislatent.io.plugins import _plugin, _silent, one_line

Id = tuple[str, str, str, str]
"""Network, station, location (an empty text for none) and channel."""

_CODES = (r"[A-Za-z0-9_]{1,8}", r"[A-Za-z0-9_-]{1,8}", r"[A-Za-z0-9-]{0,8}", r"[A-Za-z0-9]{3}")
_PATTERN = tuple(re.compile(code, re.ASCII) for code in _CODES)
COLUMNS = ["network", "station", "location", "channel", "latitude_deg", "longitude_deg", "rate_hz", "start_ns", "end_ns"]
_DECODING = threading.Lock()
_ALWAYS = (-(2**62), 2**62)
_SAFE = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}
_ROOT = "{http://www.fdsn.org/xml/station/1}FDSNStationXML"


def checked(network: str, station: str, location: str, channel: str) -> Id:
    """The codes, with -- for no location as an empty text.

    Raises:
        ValueError: a code that holds anything but letters and digits (a station's also - and _).
    """
    found = network, station, "" if location in ("--", "  ") else location, channel
    for what, code, pattern in zip(("network", "station", "location", "channel"), found, _PATTERN, strict=True):
        if not pattern.fullmatch(code):
            raise ValueError(f"{what} code {code[:20]!r} is none")
    return found


def channel_table(body: bytes) -> tuple[pd.DataFrame, list[str]]:
    """Channels of FDSN station text (level channel), and a line for each one that is left out.

    Returns:
        A table with `COLUMNS`; an epoch per row.

    Raises:
        Fault: it is something else.
    """
    text, told, rows = body.decode("utf-8", "replace"), Told(), []
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        raise Fault("damaged", f"XML or HTML instead of station text ({one_line(text[:60])!r} ...)")
    for count, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        try:
            if len(cells) < 17:
                raise ValueError(f"{len(cells)} columns of 17")
            lat, lon, rate = float(cells[4]), float(cells[5]), float(cells[14])
            if not (abs(lat) <= 90 and abs(lon) <= 360 and 0 < rate <= 1e5):
                raise ValueError("no place on Earth, or no sampling rate")
            epoch = [time_ns(cells[15 + k]) if cells[15 + k] else _ALWAYS[k] for k in (0, 1)]
            rows.append((*checked(*cells[:4]), lat, lon, rate, *epoch))
        except ValueError as error:
            told.add(f"line {count} of the station service left out: {error}")
    if told and not rows:
        raise Fault("damaged", f"no line of the station service can be read: {told[0]}")
    kinds = dict.fromkeys(COLUMNS[4:7], np.float64) | dict.fromkeys(COLUMNS[7:], np.int64)
    return pd.DataFrame(rows, columns=COLUMNS).astype(kinds), told.all()


def station_parts(body: bytes, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
    """A document for each (network, station) among the wanted that StationXML holds; anything else in it is left out.

    Raises:
        Fault: no StationXML, a document with DOCTYPE, or one that ObsPy cannot read.
    """
    try:
        root = etree.fromstring(body, etree.XMLParser(**_SAFE))
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Fault("damaged", f"no readable StationXML: {one_line(error)}") from None
    if root.getroottree().docinfo.doctype:
        raise Fault("damaged", "StationXML declares a document type (DOCTYPE), which can reach into other files")
    if root.tag != _ROOT:
        raise Fault("damaged", f"XML but not StationXML (it begins with <{str(root.tag)[:60]}>)")
    space, asked = _ROOT.rpartition("}")[0] + "}", set(wanted)
    parts: dict[tuple[str, str], list[tuple[etree._Element, etree._Element]]] = {}
    for network in root.findall(f"{space}Network"):
        for station in network.findall(f"{space}Station"):
            key = (network.get("code") or "").strip(), (station.get("code") or "").strip()
            if key in asked:
                parts.setdefault(key, []).append((network, station))
    out = {}
    for key, found in parts.items():
        made = etree.Element(_ROOT, attrib=dict(root.attrib), nsmap=root.nsmap)
        made.extend(deepcopy(child) for child in root if child.tag != f"{space}Network")
        for network, station in found:
            own = etree.SubElement(made, network.tag, attrib=dict(network.attrib))
            own.extend(deepcopy(child) for child in network if child.tag != f"{space}Station")
            own.append(deepcopy(station))
        out[key] = etree.tostring(made, xml_declaration=True, encoding="UTF-8")
        try:
            read_inventory(BytesIO(out[key]), format="STATIONXML")
        except Exception as error:
            raise Fault("damaged", f"StationXML of {'.'.join(key)} cannot be read: {one_line(error)}") from None
    return out


def join_stations(parts: Iterable[Path], out: Path) -> int:
    """One StationXML file of documents made by `station_parts`, one of which is in memory at a time; returns their number."""
    count = 0
    with etree.xmlfile(str(out), encoding="UTF-8") as file:
        file.write_declaration()
        with file.element(_ROOT, nsmap={None: _ROOT[1:].partition("}")[0]}, schemaVersion="1.1"):
            for path in parts:
                root = etree.fromstring(path.read_bytes(), etree.XMLParser(**_SAFE))
                for child in root:
                    if str(child.tag).endswith("}Network") or not count:
                        file.write(child)
                count += 1
    return count


def records_by_id(body: bytes, windows: Mapping[Id, tuple[int, int]]) -> tuple[dict[Id, bytes], list[str]]:
    """The miniSEED records of each channel asked for, each record once, in order of time; and lines about what was left out.

    Args:
        body: miniSEED 2, as dataselect sends it.
        windows: start and end in nanoseconds of each channel asked for; records of others, or outside, are left out.

    Raises:
        Fault: anything in it is no miniSEED record, the last one is not whole, or samples cannot be decoded.
    """
    places = _places(body)
    table = np.frombuffer(b"".join(body[a : a + 48] for a, _ in places), HEADER)
    start, lasts = starts_us(table) * 1000, durations_us(table) * 1000
    found: dict[Id, dict[bytes, int]] = {}
    other: dict[str, int] = {}
    for (a, b), row, begin, long in zip(places, table, start.tolist(), lasts.tolist(), strict=True):
        codes = tuple(row[name].decode("ascii", "replace").strip() for name in ("network", "station", "location", "code"))
        window = windows.get(codes)  # type: ignore[call-overload]
        if window is None or begin > window[1] or begin + long < window[0]:
            name = ".".join(c if c.isprintable() else "?" for c in codes)
            other[name] = other.get(name, 0) + 1
            continue
        found.setdefault(codes, {}).setdefault(body[a:b], begin)  # type: ignore[arg-type]
    whole = {key: b"".join(raw for raw, _ in sorted(some.items(), key=lambda item: item[1])) for key, some in found.items()}
    for key, raw in whole.items():
        _decode(".".join(key), raw)
    return whole, [f"{count} records of {name} were not asked for and are left out" for name, count in sorted(other.items())[:20]]


def _places(body: bytes) -> list[tuple[int, int]]:
    """First and one past the last byte of every record. Raises Fault."""
    places, at = [], 0
    while at < len(body):
        length = record_length(body[at : at + 512])
        if length is None:
            raise Fault("damaged", _strange(body, at))
        if at + length > len(body):
            raise Fault("damaged", f"truncated miniSEED: the last record ends after {len(body) - at} of {length} bytes")
        places.append((at, at + length))
        at += length
    return places


def covered(raw: bytes, window: tuple[int, int]) -> float:
    """How many seconds of a window (nanoseconds) the records of one channel last; overlaps count twice."""
    places = _places(raw)
    table = np.frombuffer(b"".join(raw[a : a + 48] for a, _ in places), HEADER)
    start, lasts = starts_us(table) * 1000, durations_us(table) * 1000
    inside = np.minimum(start + lasts, window[1]) - np.maximum(start, window[0])
    return float(np.maximum(inside, 0).sum() / 1e9)


def _decode(name: str, raw: bytes) -> None:
    """Raises Fault where the samples cannot be had, or are not those that each record says it ends with (Steim's own check)."""
    with _DECODING, _silent() as told:  # what Python knows of warnings is one for all threads
        try:
            stream = _plugin("MSEED", "readFormat")(BytesIO(raw))
        except Exception as error:
            raise Fault("damaged", f"miniSEED of {name} cannot be decoded: {one_line(error)}") from None
    broken = [one_line(one.message) for one in told if "integrity" in str(one.message)]
    if broken or not sum(trace.stats.npts for trace in stream):
        raise Fault("damaged", broken[0] if broken else f"{name} holds no sample")


def _strange(body: bytes, at: int) -> str:
    head = body[at : at + 200].lstrip()
    if head[:1] == b"<" or (at == 0 and head[:60].decode("ascii", "replace").isprintable()):
        return f"text instead of miniSEED ({one_line(head[:60].decode('ascii', 'replace'))!r} ...)"
    return f"no miniSEED record at byte {at} of {len(body)}"
