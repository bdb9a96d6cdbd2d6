"""Station metadata in: StationXML and the other inventory formats of ObsPy, and what they say of one channel."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from obspy import Inventory, UTCDateTime
from obspy.core.util.base import ENTRY_POINTS
from obspy.core.util.misc import buffered_load_entry_point

from seislatent.errors import SeislatentError
from seislatent.io.plugins import one_line
from seislatent.waveform import Channel, Waveform


def read_inventory(path: str | Path) -> Inventory:
    """An inventory file (StationXML, SEED, RESP ...) by ObsPy's own plug-ins; an XML file that defines entities is refused.

    Raises:
        SeislatentError: the file is missing, unknown or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise SeislatentError(f"inventory {path} does not exist: give the path of a StationXML file")
    raw = path.read_bytes()
    if b"<!ENTITY" in raw or "<!ENTITY".encode("utf-16-le") in raw or "<!ENTITY".encode("utf-16-be") in raw:
        raise SeislatentError(f"inventory {path} defines XML entities, which can reach into other files: remove them")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, point in ENTRY_POINTS["inventory"].items():
            if point.dist.name != "obspy":
                continue
            group = f"obspy.plugin.inventory.{name}"
            try:
                if not buffered_load_entry_point("obspy", group, "isFormat")(str(path)):
                    continue
            except Exception:  # a plug-in that trips over a strange file does not know it
                continue
            try:
                return buffered_load_entry_point("obspy", group, "readFormat")(str(path))
            except Exception as error:
                raise SeislatentError(f"inventory {path} looks like {name} but cannot be read: {one_line(error)}") from error
    raise SeislatentError(f"inventory {path} is in no format that ObsPy reads: give StationXML")


def describe(channel: Channel, inventory: Inventory, start_ns: int) -> Channel:
    """The channel with what the inventory says of its place and direction at one time; unknown channels come back as they are."""
    when = UTCDateTime(ns=int(start_ns))
    for network in inventory:
        for station in network:
            if (network.code, station.code) != (channel.network, channel.station):
                continue
            for found in station:
                same = (found.code, found.location_code or "") == (channel.code, channel.location)
                if same and found.is_active(time=when):
                    values = {
                        "latitude_deg": found.latitude, "longitude_deg": found.longitude, "elevation_m": found.elevation,
                        "azimuth_deg": found.azimuth, "dip_deg": found.dip,
                    }  # fmt: skip
                    given: dict[str, Any] = {k: float(v) for k, v in values.items() if v is not None}
                    return replace(channel, **given)
    return channel


def locate(waveforms: Iterable[Waveform], inventory: Inventory | str | Path) -> list[Waveform]:
    """The waveforms with coordinates, azimuth and dip from an inventory; a channel that it does not hold stays as it is."""
    stations = inventory if isinstance(inventory, Inventory) else read_inventory(inventory)
    return [replace(w, channels=tuple(describe(c, stations, w.start_ns) for c in w.channels)) for w in waveforms]
