"""QuakeML 1.2: events, origins, magnitudes and picks, one event at a time, so that a file of any length takes little memory.

Documents that declare a type (DOCTYPE) are refused before anything is read: entities could fill the memory or reach other files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
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
EVENT_BYTES = 1 << 26
"""An event that takes more is not read: one event is held in memory at a time."""
_ANSS = "{http://anss.org/xmlns/catalog/0.1}"
_VALID = re.compile(r"(smi|quakeml):[\w.*()~'-]{3,}/[\w.*()~'-][\w.*()+?~'=,;#/&-]*", re.ASCII)
_ASKED = re.compile(r"[?&]eventid=([^&]+)", re.IGNORECASE)


def is_xml(head: str) -> bool:
    """Whether a file that starts with this text is XML."""
    return head.startswith("<")


_SAFE = {
    "resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False, "remove_comments": True,
    "remove_pis": True,
}  # fmt: skip


def elements(path: Path, told: Told, shown: str) -> Iterator[Any]:
    """The `event` elements of a file, each forgotten after its turn.

    A file that ends too early or is damaged, or has an event of more than `EVENT_BYTES`, gives the events before, which is told.

    Raises:
        SeislatentError: no QuakeML, or a document with DOCTYPE.
    """
    _check_root(path, shown)
    parser = etree.XMLPullParser(events=("start", "end"), tag="{*}event", **_SAFE)
    depth = count = since = 0
    damage = ""
    with path.open("rb") as handle:
        while not damage:
            block = handle.read(1 << 16)
            try:
                parser.feed(block) if block else parser.close()
            except etree.XMLSyntaxError as error:
                damage = " ".join(str(error).split())[:160]
            since += len(block)
            for what, element in parser.read_events():
                depth += 1 if what == "start" else -1
                if what == "end" and depth == 0:
                    since, count = 0, count + 1
                    yield element
                    element.clear()
                    while element.getprevious() is not None:
                        del element.getparent()[0]
            if since > EVENT_BYTES:
                damage = damage or f"one event takes more than {EVENT_BYTES >> 20} MiB"
            if not block:
                break
    if damage:
        told.add(f"{shown}: damaged after {count} events, the rest is left out: {damage}")


def _check_root(path: Path, shown: str) -> None:
    try:
        _, root = next(iter(etree.iterparse(str(path), events=("start",), **_SAFE)))
    except (etree.XMLSyntaxError, StopIteration) as error:
        raise SeislatentError(f"{shown} is no readable XML: {' '.join(str(error).split())[:200]}") from error
    if root.getroottree().docinfo.doctype:
        raise SeislatentError(f"{shown} declares a document type (DOCTYPE), which can reach into other files: remove it")
    name = _local(root.tag)
    if name not in ("quakeml", "eventParameters"):
        raise SeislatentError(f"{shown} is XML but not QuakeML (it begins with <{name[:40]}>): give QuakeML, FDSN text or CSV")


@lru_cache(maxsize=1 << 10)
def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


Kids = dict[str, list[Any]]


def _kids(element: Any) -> Kids:
    """The children by their names without namespace."""
    found: Kids = {}
    for child in element:
        if isinstance(child.tag, str):  # an entity that is not resolved has none
            found.setdefault(_local(child.tag), []).append(child)
    return found


def _text(kids: Kids, name: str) -> str:
    """The text of the first child of that name, or of its child `value`; nothing where there is none."""
    found = kids.get(name)
    if not found:
        return ""
    value = next((child for child in found[0] if isinstance(child.tag, str) and _local(child.tag) == "value"), found[0])
    return (value.text or "").strip()


def _where(element: Any, shown: str) -> str:
    """File and line, or the public id where the parser no longer counts lines."""
    line = element.sourceline or 0
    return f"{shown} line {line}" if 0 < line < 65535 else f"{shown} {element.get('publicID')}"


def _preferred(kids: Kids, kind: str, origin_id: str = "") -> Any | None:
    """The preferred origin or magnitude; else the first that belongs to `origin_id`; else the first."""
    found = kids.get(kind, [])
    wanted = _text(kids, "preferred" + kind.capitalize() + "ID")
    named = [e for e in found if wanted and e.get("publicID") == wanted]
    of_origin = [] if named or not origin_id else [e for e in found if _text(_kids(e), "originID") == origin_id]
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
    rows = (_event(event, _kids(event), told, _where(event, shown)) for event in elements(path, told, shown))
    return [row for row in rows if row is not None]


def _event(event: Any, kids: Kids, told: Told, where: str) -> tuple[Any, ...] | None:
    origin = _preferred(kids, "origin")
    if origin is None:
        told.add(f"{where}: event left out: it has no origin")
        return None
    place = _kids(origin)
    found = _preferred(kids, "magnitude", origin.get("publicID") or "")
    size = {} if found is None else _kids(found)
    return event_row(
        told, where, source_id=source_id(event), time=_text(place, "time"), latitude=_text(place, "latitude"),
        longitude=_text(place, "longitude"), depth=_text(place, "depth"), depth_scale=0.001, magnitude=_text(size, "mag"),
        magnitude_type=_text(size, "type"), source_type=_text(kids, "type"),
    )  # fmt: skip


def read_quakeml_picks(path: Path, told: Told, shown: str) -> list[tuple[Any, ...]]:
    """Rows of picks, with distance, azimuth and residual of the preferred origin's arrivals."""
    rows: list[tuple[Any, ...]] = []
    for event in elements(path, told, shown):
        kids = _kids(event)
        origin = _preferred(kids, "origin")
        arrivals: dict[str, Kids] = {}
        for arrival in [] if origin is None else map(_kids, _kids(origin).get("arrival", [])):
            arrivals.setdefault(_text(arrival, "pickID"), arrival)
        ratios = {_text(a, "pickID"): _text(a, "snr") for a in map(_kids, kids.get("amplitude", []))}
        sizes = _station_magnitudes(kids)
        name: str | None = source_id(event)
        if not name:  # made from time and place, as for the event itself
            row = _event(event, kids, Told(), "")
            name = None if row is None else row[0]
        for pick in kids.get("pick", []):
            where, public = _where(pick, shown), pick.get("publicID")
            made = _pick(_kids(pick), arrivals.get(public, {}), ratios.get(public), sizes, told, where)
            if made is not None:
                rows.append((name, *made))
    return rows


def _pick(
    pick: Kids, arrival: Kids, snr: str | None, sizes: dict[tuple[str, ...], tuple[float, str]], told: Told, where: str
) -> tuple[Any, ...] | None:
    stream = pick["waveformID"][0] if "waveformID" in pick else {}
    codes = tuple((stream.get(k) or "").strip() for k in ("networkCode", "stationCode", "locationCode", "channelCode"))
    try:
        if not codes[1]:
            raise ValueError("it has no station")
        ns = time_ns(_text(pick, "time"))
    except ValueError as error:
        told.add(f"{where}: pick left out: {error}")
        return None
    path = [number_or_nan(_text(arrival, k), told, where, k) for k in ("distance", "azimuth", "timeResidual")]
    phase = _text(arrival, "phase") or _text(pick, "phaseHint")
    marks = (_text(pick, "onset"), _text(pick, "polarity"), _text(pick, "evaluationMode"))
    ratio = number_or_nan(snr, told, where, "SNR")
    return *codes, phase, ns, path[0] * DEGREE_KM, *path[1:], ratio, *sizes.get(codes[:2], (np.nan, "")), *marks


def _station_magnitudes(kids: Kids) -> dict[tuple[str, ...], tuple[float, str]]:
    """The first magnitude of each station (network and station code)."""
    found: dict[tuple[str, ...], tuple[float, str]] = {}
    for one in map(_kids, kids.get("stationMagnitude", [])):
        if "waveformID" in one:
            key = tuple((one["waveformID"][0].get(k) or "").strip() for k in ("networkCode", "stationCode"))
            found.setdefault(key, (number_or_nan(_text(one, "mag"), Told(), "", ""), _text(one, "type")))
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
