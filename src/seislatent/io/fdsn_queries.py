"""What is asked of an event service: a list of known earthquakes, or all within a box; and which of its answers are meant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pandas as pd

from seislatent.errors import SeislatentError, UsageError
from seislatent.io.catalogues import read_events
from seislatent.io.event_fields import event_table, iso, time_ns
from seislatent.io.fdsn import Fault, Service


@dataclass(frozen=True, kw_only=True)
class Target:
    """An earthquake as a list gives it, to be found at a service."""

    name: str
    """What the list calls it."""
    time: str
    """Origin time, UTC."""
    magnitude: float
    """As listed."""
    depth_km: float
    """As listed."""
    region: str = ""
    """For people."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which earthquakes, which stations, which windows."""

    targets: tuple[Target, ...] = ()
    """Earthquakes to be found one by one; the keys of the box below then do not count."""
    within_s: float = 60.0
    """An event is a target's only if its time is so near, in seconds."""
    within_magnitude: float = 0.6
    """And its magnitude."""
    within_km: float = 80.0
    """And its depth, in km."""
    start_time: str = ""
    """Events from here, UTC, such as 2020-01-01 or 2020-01-01T12:00:00."""
    end_time: str = ""
    """Events before this, UTC."""
    magnitude: tuple[float, float] | None = None
    """Least and largest magnitude."""
    depth_km: tuple[float, float] | None = None
    """Least and largest depth in km."""
    latitude_deg: tuple[float, float] | None = None
    """Box: south and north, in degrees."""
    longitude_deg: tuple[float, float] | None = None
    """Box: west and east, in degrees; east below west goes across the date line."""
    center_deg: tuple[float, float] | None = None
    """Latitude and longitude of a circle, instead of the box."""
    radius_deg: tuple[float, float] | None = None
    """Least and largest distance of events from the center, in degrees."""
    most_events: int = 500
    """More are refused."""
    network: str = "*"
    """Network codes, separated by commas; * and ? stand for any."""
    station: str = "*"
    """Station codes."""
    location: str = "*"
    """Location codes; -- is the empty one."""
    channels: tuple[str, ...] = ("BH?", "HH?")
    """Channel codes, the first choice first."""
    every_sensor: bool = False
    """Take every sensor of a station; else the first choice, whole ones (three components) before others."""
    distance_deg: tuple[float, float] = (0.0, 3.0)
    """Least and largest epicentral distance of stations, in degrees; at most 95, where P ends."""
    before_s: float = 60.0
    """A window begins this many seconds before the predicted P."""
    after: Literal["P", "S"] = "S"
    """And ends after this predicted wave."""
    after_s: float = 120.0
    """By this many seconds."""
    unknown_depth_km: float = 10.0
    """Depth in km for predicted times where the service gives none."""
    most_mb: float = 20000.0
    """A download that is estimated to be larger is refused."""

    def __post_init__(self) -> None:
        ranges = ("magnitude", "depth_km", "latitude_deg", "radius_deg", "distance_deg")
        for name in ranges:
            value = getattr(self, name)
            if value is not None and not value[0] <= value[1]:
                raise UsageError(f"--query.{name} {list(value)}: give the least first")
        if not 0 <= self.distance_deg[0] < self.distance_deg[1] <= 95:
            raise UsageError(f"--query.distance_deg {list(self.distance_deg)}: give two distances from 0 to 95 degrees")
        if self.before_s + self.after_s <= 0 or not self.channels:
            raise UsageError("--query.before_s + --query.after_s must be above 0, and --query.channels not empty")
        if self.center_deg is not None and self.latitude_deg is not None:
            raise UsageError("give a box (--query.latitude_deg, --query.longitude_deg) or a circle (--query.center_deg), not both")
        if (self.center_deg is None) != (self.radius_deg is None):
            raise UsageError("a circle needs both --query.center_deg '[LATITUDE, LONGITUDE]' and --query.radius_deg '[0, DEGREES]'")
        if not self.targets and not (self.start_time and self.end_time):
            raise UsageError("from when to when? give --query.start_time and --query.end_time, such as 2020-01-01")
        for text in (self.start_time, self.end_time, *(t.time for t in self.targets)):
            _ns(text or "2000-01-01")
        if not self.targets and _ns(self.start_time) >= _ns(self.end_time):
            raise UsageError(f"--query.start_time {self.start_time} is not before --query.end_time {self.end_time}")


def _ns(text: str) -> int:
    try:
        return time_ns(text if ":" in text else f"{text}T00:00:00")
    except ValueError as error:
        raise UsageError(f"'{text}' is no time ({error}): write 2020-01-31 or 2020-01-31T12:00:00") from None


def box_events(query: Query, service: Service) -> tuple[pd.DataFrame, list[str]]:
    """All events of a box, in order of time, and what was left out.

    Raises:
        SeislatentError: there are more than `most_events`.
        Fault: the service fails.
    """
    found = []
    for part in _boxes(query):
        try:
            found.append(ask(service, {**part, "limit": query.most_events + 1}))
        except Fault as fault:
            if fault.reason != "bad request":
                raise
            found.append(ask(service, part))  # `limit` is an option that a service may lack
    table = pd.concat([part for part, _ in found], ignore_index=True).drop_duplicates("source_id")
    if len(table) > query.most_events:
        raise SeislatentError(
            f"{service.url} has more than {query.most_events} such events: narrow the query, or raise --query.most_events"
        )
    return table.sort_values("origin_ns", kind="stable", ignore_index=True), [line for _, bad in found for line in bad]


def _boxes(query: Query) -> Iterator[dict[str, Any]]:
    asked: dict[str, Any] = {"starttime": _ns(query.start_time), "endtime": _ns(query.end_time)}
    for name, value in (("magnitude", query.magnitude), ("depth", query.depth_km), ("latitude", query.latitude_deg)):
        asked |= {} if value is None else {f"min{name}": value[0], f"max{name}": value[1]}
    if query.center_deg is not None and query.radius_deg is not None:
        asked |= {"latitude": query.center_deg[0], "longitude": query.center_deg[1]}
        asked |= {"minradius": query.radius_deg[0], "maxradius": query.radius_deg[1]}
    west, east = query.longitude_deg or (None, None)
    if west is None or east is None:
        yield asked
    elif west <= east:
        yield asked | {"minlongitude": west, "maxlongitude": east}
    else:
        yield asked | {"minlongitude": west, "maxlongitude": 180.0}
        yield asked | {"minlongitude": -180.0, "maxlongitude": east}


def ask(service: Service, asked: dict[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """Events as a table, empty where the service has none."""

    def check(body: bytes) -> tuple[pd.DataFrame, list[str]]:
        with TemporaryDirectory() as folder:
            path = Path(folder, "events.xml")
            path.write_bytes(body)
            try:
                events = read_events(path)
            except SeislatentError as error:
                raise Fault("damaged", f"no catalogue comes from {service.url}: {error}") from None
            if any("damaged after" in line for line in events.bad):
                raise Fault("damaged", events.bad[-1])
            return events.table, list(events.bad)

    try:
        return service.events(asked, check)
    except Fault as fault:
        if fault.reason == "no data":
            return event_table([]), []
        if fault.reason == "no such service":
            raise SeislatentError(
                f"{service.url} has no event service (404): name another one with --events, such as USGS, EMSC or ISC"
            ) from fault
        raise


def find_target(query: Query, target: Target, service: Service) -> tuple[pd.DataFrame, str]:
    """The event of a target as one row, or none; and in a line what was found.

    The nearest is taken, time, magnitude and depth each counted in shares of what is allowed; an event without magnitude or
    depth is none.
    """
    when, reach = _ns(target.time), round(query.within_s * 1e9)
    table, _ = ask(service, {"starttime": when - reach, "endtime": when + reach})
    if not len(table):
        return table, f"not found: nothing within {query.within_s:g} s"
    off = np.stack(
        [
            (table["origin_ns"].to_numpy() - when) / 1e9 / query.within_s,
            (table["source_magnitude"].to_numpy() - target.magnitude) / query.within_magnitude,
            (table["source_depth_km"].to_numpy() - target.depth_km) / query.within_km,
        ]
    )
    score = np.where(np.isfinite(off).all(0), np.abs(off).max(0), math.inf)
    best = int(np.argmin(score))
    row = table.iloc[best]
    told = f"{iso(int(row['origin_ns']))} magnitude {row['source_magnitude']:g} at {row['source_depth_km']:g} km"
    if score[best] > 1:
        return table.iloc[:0], f"not found: the nearest is {told}"
    return table.iloc[[best]].reset_index(drop=True), f"found: {told} ({row['source_id']})"
