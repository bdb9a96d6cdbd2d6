"""The one table of component codes, and station identities as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

WHOLE = {
    "N-S": "N", "NS": "N", "N/S": "N", "NS1": "N", "NS2": "N", "NORTH": "N",
    "E-W": "E", "EW": "E", "E/W": "E", "EW1": "E", "EW2": "E", "EAST": "E",
    "U-D": "Z", "UD": "Z", "U/D": "Z", "UD1": "Z", "UD2": "Z", "UP": "Z", "DOWN": "Z",
    "V": "Z", "U": "Z", "VER": "Z", "VERT": "Z", "VERTICAL": "Z",
    "RAD": "R", "RADIAL": "R", "TRA": "T", "TRANSVERSE": "T",
}  # fmt: skip
"""Codes that name a component as a whole: K-NET and KiK-net (EW, NS2, UD), BBP (N-S), strong motion (UP, V)."""

LETTERS = frozenset("ZNE123RTLQABCUVWXYHF")
"""Last letters of SEED channel codes that are components.

Z N E; 1 2 3 as the sensor stands; R T and L Q in the ray's frame; A B C and U V W are the axes of a symmetric triaxial sensor;
X Y are axes of a model; H and F are hydrophones and infrasound (pressure: no direction).
"""

UNORIENTED = "unoriented"
"""How the history line of a record begins whose directions are not known."""

NOT_MOTION = frozenset("CEIKORUW")
"""Second letters of three-letter codes that record no motion, so that ACE (clock) or VKE (temperature) is no east component."""

_VERTICAL_DIP = {"UP": -90.0, "DOWN": 90.0}
_AZIMUTH = re.compile(r"^(?:[A-Za-z]{2})?([012]\d\d|3[0-5]\d|360)$")  # two letters: a100 is a channel number of WIN


def azimuth_of(channel_code: str) -> float | None:
    """The azimuth in degrees that a code such as 000, 090 or HN135 names, or None."""
    found = _AZIMUTH.search(channel_code.strip())
    return float(found.group(1)) % 360 if found else None


def _look_up(channel_code: str) -> str:
    """The component, or an empty text for a code that the table does not hold."""
    code = channel_code.strip().upper()
    if "_" in code:
        code = code.rsplit("_", 1)[1]
    elif len(code) == 3 and code not in WHOLE and code[1] in NOT_MOTION:
        return ""
    if code in WHOLE:
        return WHOLE[code]
    azimuth = azimuth_of(code)
    if azimuth is not None:
        return {0.0: "N", 90.0: "E"}.get(azimuth, f"{azimuth:03.0f}")
    numbered = code[-1:].isdigit() and any(map(str.isdigit, code[:-1]))  # 0101 is a number, not a first component
    return code[-1] if code and len(code) <= 4 and code[-1] in LETTERS and not numbered else ""


def component_of(channel_code: str, *, id: str = "") -> str:
    """The component that a channel code names: Z, N, E, 1, 2, 3, R, T, ... or three digits of azimuth.

    Lower case is accepted. 000 and 360 are N, 090 is E; any other azimuth keeps its digits and `orient` rotates it.

    Raises:
        SeislatentError: the table does not know the code; the line names the code (and the id, where given).

    >>> component_of("HHZ"), component_of("ew"), component_of("UP"), component_of("090"), component_of("HN135")
    ('Z', 'E', 'Z', 'E', '135')
    """
    found = _look_up(channel_code)
    if not found:
        where = f" of {id}" if id else ""
        raise SeislatentError(
            f"channel code '{channel_code}'{where} names no known component;"
            " known: Z N E 1 2 3 R T, NS EW UD, UP V, 000 to 360, ...: rename the channel, or read it without asking for components"
        )
    return found


def named(channel: Channel) -> Channel:
    """The channel with its component, and its direction where the code names one (135, UP); an unknown code leaves them empty."""
    component = channel.component or _look_up(channel.code)
    azimuth, dip = channel.azimuth_deg, channel.dip_deg
    if azimuth is None and dip is None:
        told = azimuth_of(channel.code)
        if told is not None:
            azimuth, dip = told, 0.0
        elif channel.code.strip().upper() in _VERTICAL_DIP:
            azimuth, dip = 0.0, _VERTICAL_DIP[channel.code.strip().upper()]
    return replace(channel, component=component, azimuth_deg=azimuth, dip_deg=dip)


def unoriented(channel: Channel) -> bool:
    """True for a component of motion other than Z, N and E whose direction nobody told."""
    known = channel.dip_deg is not None and (channel.azimuth_deg is not None or abs(channel.dip_deg) == 90)
    return not known and channel.component not in ("", "Z", "N", "E", "H", "F")


def arrange(waveform: Waveform, order: Iterable[str] = "ZNE") -> Waveform:
    """The rows of a record in the order asked for.

    Raises:
        SeislatentError: a component is missing, stands twice, or a code is unknown; the line names the ids.
    """
    wanted = tuple(order)
    strange = [c.id for c in waveform.channels if not c.component]
    if strange:
        raise SeislatentError(f"the channel code of {', '.join(strange)} names no known component: rename it or leave it out")
    rows: list[int] = []
    for component in wanted:
        found = [i for i, c in enumerate(waveform.components) if c == component]
        if len(found) != 1:
            trouble = "is missing" if not found else f"stands {len(found)} times"
            raise SeislatentError(
                f"component {component} {trouble} in {', '.join(waveform.ids)} (components {', '.join(waveform.components)}):"
                " orient the record, or ask for the components it has"
            )
        rows += found
    return waveform.select(rows)


def parse_source_id(text: str) -> Channel:
    """A channel from an FDSN source identifier `FDSN:NET_STA_LOC_B_S_SS`.

    A band, source and subsource of one letter each become the three-letter SEED code (B_H_Z is BHZ); longer ones stay B_S_SS.

    Raises:
        SeislatentError: the text does not have six parts after `FDSN:`.

    >>> parse_source_id("FDSN:IU_ANMO_00_B_H_Z").id
    'IU.ANMO.00.BHZ'
    """
    head, _, rest = text.partition(":")
    parts = rest.split("_")
    if head.upper() != "FDSN" or len(parts) != 6 or not any(parts[3:]):
        raise SeislatentError(f"'{text}' is no FDSN source identifier: it has the form FDSN:NET_STA_LOC_BAND_SOURCE_SUBSOURCE")
    network, station, location, *code = parts
    joined = "".join(code) if all(len(part) == 1 for part in code) else "_".join(code)
    return named(Channel(network=network, station=station, location=location, code=joined))


def source_id(channel: Channel) -> str:
    """The FDSN source identifier of a channel, the inverse of `parse_source_id`.

    Raises:
        SeislatentError: the code is neither of three letters nor of three parts joined by underscores.

    >>> source_id(Channel(network="IU", station="ANMO", location="00", code="BHZ"))
    'FDSN:IU_ANMO_00_B_H_Z'
    """
    parts: Sequence[str] = channel.code.split("_") if "_" in channel.code else tuple(channel.code)
    if len(parts) != 3:
        raise SeislatentError(f"channel code of {channel.id} has no band, source and subsource: give three letters or B_S_SS")
    if any("_" in part for part in (channel.network, channel.station, channel.location)):
        raise SeislatentError(f"{channel.id} has an underscore in network, station or location: no FDSN source identifier holds it")
    return f"FDSN:{channel.network}_{channel.station}_{channel.location}_{'_'.join(parts)}"
