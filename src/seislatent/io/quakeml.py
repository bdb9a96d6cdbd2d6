"""QuakeML 1.2: events, origins, magnitudes and picks, one event at a time, so that a file of any length takes little memory.

Documents that declare a type (DOCTYPE) are refused before anything is read: entities could fill the memory or reach other files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
from lxml import etree

from seislatent.errors import SeislatentError
from seislatent.io.event_fields import DEGREE_KM, Told, event_row, number_or_nan, time_ns

OURS = "smi:local/event/"
"""What the ids of written events begin with; it is taken off when they are read."""
_ANSS = "{http://anss.org/xmlns/catalog/0.1}"
_VALID = re.compile(r"(smi|quakeml):[\w.*()~'-]{3,}/[\w.*()~'-][\w.*()+?~'=,;#/&-]*", re.ASCII)
_ASKED = re.compile(r"[?&]eventid=([^&]+)", re.IGNORECASE)


def is_xml(head: str) -> bool:
    """Whether a file that starts with this text is XML."""
    return head.startswith("<")


def elements(path: Path, told: Told, shown: str) -> Iterator[Any]:
    """The `event` elements of a file, each forgotten after its turn.

    A file that ends too early or is damaged gives the events before the damage, which is told.

    Raises:
        SeislatentError: no QuakeML, or a document with DOCTYPE.
    """
    parser = etree.iterparse(
        str(path), events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    root, depth, count = None, 0, 0
    try:
        for what, element in parser:
            if root is None:
                root = element
                _refuse(root, shown)
            depth += 1 if what == "start" else -1
            if what == "end" and depth <= 2 and _name(element) == "event":
                count += 1
                yield element
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
    except etree.XMLSyntaxError as error:
        if root is None:
            raise SeislatentError(f"{shown} is no readable XML: {' '.join(str(error).split())[:200]}") from error
        told.add(f"{shown}: damaged after {count} events, the rest is left out: {' '.join(str(error).split())[:160]}")


def _refuse(root: Any, shown: str) -> None:
    if root.getroottree().docinfo.doctype:
        raise SeislatentError(f"{shown} declares a document type (DOCTYPE), which can reach into other files: remove it")
    if _name(root) not in ("quakeml", "eventParameters"):
        raise SeislatentError(f"{shown} is XML but not QuakeML (it begins with <{_name(root)}>): give QuakeML, FDSN text or CSV")


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _text(element: Any, *names: str) -> str:
    """The text at the end of a path of names without their spaces, or nothing."""
    for name in names:
        element = next((child for child in element if _name(child) == name), None)
        if element is None:
            return ""
    return (element.text or "").strip()


def _children(element: Any, name: str) -> list[Any]:
    return [child for child in element if _name(child) == name]


def _where(element: Any, shown: str) -> str:
    """File and line, or the public id where the parser no longer counts lines."""
    line = element.sourceline or 0
    return f"{shown} line {line}" if 0 < line < 65535 else f"{shown} {element.get('publicID')}"


def _preferred(event: Any, kind: str, origin_id: str = "") -> Any | None:
    """The preferred origin or magnitude; else the first that belongs to `origin_id`; else the first."""
    found = _children(event, kind)
    wanted = _text(event, "preferred" + kind.capitalize() + "ID")
    named = [e for e in found if wanted and e.get("publicID") == wanted]
    of_origin = [e for e in found if origin_id and _text(e, "originID") == origin_id]
    return next(iter(named + of_origin + found), None)


def source_id(event: Any) -> str:
    """The id as the event's own service names it.

    ANSS networks' source and id together (as ComCat does: nc73872510); else what stands after `eventid=`; else what stands after
    our own prefix; else the whole public id.
    """
    anss = event.get(_ANSS + "eventsource"), event.get(_ANSS + "eventid")
    if all(anss):
        return anss[1] if anss[1].startswith(anss[0]) else "".join(anss)
    public = (event.get("publicID") or "").strip()
    asked = _ASKED.search(public)
    if asked:
        return unquote(asked[1])
    if not public.startswith(OURS):
        return public
    written = public.removeprefix(OURS).encode()
    return re.sub(rb"=([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), written).decode("utf-8", "replace")


_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~*()'")


def _public(name: str) -> str:
    """The public id under which an event's id is written: itself where it is one, else behind our prefix, strange bytes as =XX."""
    if _VALID.fullmatch(name) and not _ASKED.search(name) and not name.startswith(OURS):
        return name
    return OURS + "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in name.encode("utf-8", "replace"))


def read_quakeml_events(path: Path, told: Told, shown: str) -> list[tuple[Any, ...]]:
    """Rows of events."""
    rows = (_event(event, told, _where(event, shown)) for event in elements(path, told, shown))
    return [row for row in rows if row is not None]


def _event(event: Any, told: Told, where: str) -> tuple[Any, ...] | None:
    origin = _preferred(event, "origin")
    if origin is None:
        told.add(f"{where}: event left out: it has no origin")
        return None
    size = _preferred(event, "magnitude", origin.get("publicID") or "")
    return event_row(
        told, where, source_id=source_id(event), time=_text(origin, "time", "value"), latitude=_text(origin, "latitude", "value"),
        longitude=_text(origin, "longitude", "value"), depth=_text(origin, "depth", "value"), depth_scale=0.001,
        magnitude=None if size is None else _text(size, "mag", "value"), magnitude_type="" if size is None else _text(size, "type"),
        source_type=_text(event, "type"),
    )  # fmt: skip


def read_quakeml_picks(path: Path, told: Told, shown: str) -> list[tuple[Any, ...]]:
    """Rows of picks, with distance, azimuth and residual of the preferred origin's arrivals."""
    rows: list[tuple[Any, ...]] = []
    for event in elements(path, told, shown):
        origin = _preferred(event, "origin")
        arrivals = {} if origin is None else {_text(a, "pickID"): a for a in reversed(_children(origin, "arrival"))}
        ratios = {_text(a, "pickID"): _text(a, "snr") for a in _children(event, "amplitude")}
        sizes = _station_magnitudes(event)
        name: str | None = source_id(event)
        if not name:  # made from time and place, as for the event itself
            row = _event(event, Told(), "")
            name = None if row is None else row[0]
        for pick in _children(event, "pick"):
            where = _where(pick, shown)
            found = _pick(pick, arrivals.get(pick.get("publicID")), told, where)
            if found is None:
                continue
            codes, phase, ns, path_values = found
            size = sizes.get((codes[0], codes[1]), (np.nan, ""))
            snr = number_or_nan(ratios.get(pick.get("publicID")), told, where, "SNR")
            marks = (_text(pick, "onset"), _text(pick, "polarity"), _text(pick, "evaluationMode"))
            rows.append((name, *codes, phase, ns, *path_values, snr, *size, *marks))
    return rows


def _pick(pick: Any, arrival: Any | None, told: Told, where: str) -> tuple[Any, ...] | None:
    stream = next(iter(_children(pick, "waveformID")), None)
    try:
        if stream is None or not stream.get("stationCode"):
            raise ValueError("it has no station")
        ns = time_ns(_text(pick, "time", "value"))
    except ValueError as error:
        told.add(f"{where}: pick left out: {error}")
        return None
    codes = tuple((stream.get(k) or "").strip() for k in ("networkCode", "stationCode", "locationCode", "channelCode"))
    values = [np.nan] * 3
    phase = _text(pick, "phaseHint")
    if arrival is not None:
        phase = _text(arrival, "phase") or phase
        values = [number_or_nan(_text(arrival, k), told, where, k) for k in ("distance", "azimuth", "timeResidual")]
    return codes, phase, ns, (values[0] * DEGREE_KM, values[1], values[2])


def _station_magnitudes(event: Any) -> dict[tuple[str, str], tuple[float, str]]:
    """The first magnitude of each station (network and station code)."""
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for one in _children(event, "stationMagnitude"):
        stream = next(iter(_children(one, "waveformID")), None)
        if stream is not None:
            value = number_or_nan(_text(one, "mag", "value"), Told(), "", "")
            key = (stream.get("networkCode") or "").strip(), (stream.get("stationCode") or "").strip()
            found.setdefault(key, (value, _text(one, "type")))
    return found


def write_quakeml(path: Path, table: pd.DataFrame) -> None:
    """Events as QuakeML through ObsPy: times to the microsecond, an event type that QuakeML does not know as "other event"."""
    from obspy import UTCDateTime
    from obspy.core.event import Catalog, Event, Magnitude, Origin, ResourceIdentifier
    from obspy.core.event.header import EventType

    catalog = Catalog(resource_id=ResourceIdentifier("smi:local/catalogue"))
    for k, row in enumerate(table.to_dict("records")):
        name = str(row["source_id"])
        public = _public(name)
        origin = Origin(
            resource_id=ResourceIdentifier(f"smi:local/origin/{k}"), time=UTCDateTime(ns=int(row["origin_ns"])),
            latitude=row["source_latitude_deg"], longitude=row["source_longitude_deg"],
            depth=None if np.isnan(row["source_depth_km"]) else round(row["source_depth_km"] * 1000, 6),
        )  # fmt: skip
        event = Event(resource_id=ResourceIdentifier(public), origins=[origin])
        event.preferred_origin_id = origin.resource_id
        kind = str(row["source_type"] or "")
        event.event_type = None if not kind else kind if kind in EventType else "other event"
        if not np.isnan(row["source_magnitude"]):
            size = Magnitude(resource_id=ResourceIdentifier(f"smi:local/magnitude/{k}"), mag=row["source_magnitude"])
            size.magnitude_type = row["source_magnitude_type"] or None
            event.magnitudes, event.preferred_magnitude_id = [size], size.resource_id
        catalog.append(event)
    catalog.write(str(path), format="QUAKEML")
