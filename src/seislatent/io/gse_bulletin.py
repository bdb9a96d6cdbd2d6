"""GSE2.0 bulletins: events with the readings of their stations, line by line, so that a bad line costs only itself.

    EVENT 280435
    (heading of the origin)
    1995/01/16 07:26:52.4     39.4500   20.4400     66.8 ...    mb 3.6  3  ML 4.0  1     time, place, depth, magnitudes
          0.53   +- 12.69 ...                                                  m i ke     ... type of the event
    GREECE-ALBANIA BORDER REGION
    Sta    Dist   EvAz     Phase       Date      Time     TRes ... SNR        Amp   Per   Mag1   Mag2 Arr ID
    GERES  10.56 150.3 m E P       1995/01/16 07:29:20.7  -0.2 ... 6.8       0.6   0.3 ML 4.0         3586432

Columns: GSETT-3 documentation, Formats and Protocols (1995). Distances are in degrees and become kilometres on a sphere of
6371 km. What EvAz means differs between agencies: see `_azimuths`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from obspy.geodetics import FlinnEngdahl

from seislatent.errors import SeislatentError, unknown
from seislatent.io.event_fields import DEGREE_KM, Told, event_row, lines, number, number_or_nan, put, time_ns

TYPES = {
    "ke": "earthquake", "se": "earthquake", "kr": "rock burst", "sr": "rock burst", "ki": "induced or triggered event",
    "si": "induced or triggered event", "km": "mining explosion", "sm": "mining explosion", "kx": "explosion", "sx": "explosion",
    "kn": "nuclear explosion", "sn": "nuclear explosion", "kh": "chemical explosion", "sh": "chemical explosion",
    "ls": "landslide", "uk": "",
}  # fmt: skip
"""Two letters at the end of an origin's second line (known or suspected, and what) in words."""

_ONSETS = {"E": "emergent", "I": "impulsive", "Q": "questionable"}
_POLARITIES = {"c": "positive", "d": "negative"}
_STATUS = {"m": "manual", "a": "automatic"}

_ORIGIN = re.compile(r"\s{0,4}(\d{4}/\d\d?/\d\d? +\d\d?:\d\d?:\d\d?(?:\.\d*)?)")
_MAGNITUDE = re.compile(r"([A-Za-z]{0,2}) ?(-?\d{1,2}\.\d+)")
_SECOND = re.compile(r"\s[amg ] [ipgo ] ([ksul][a-z])\s*$")
_ARRIVAL = re.compile(r"\d{4}/\d\d?/\d\d? +\d\d?:\d\d?:\d\d?(?:\.\d*)?")
_TIME_AT, _TIME_END = 31, 52


def is_bulletin(head: str) -> bool:
    """Whether a file that starts with this text is a GSE2.0 bulletin."""
    return bool(re.match(r"BEGIN\s+\w|EVENT\s+\S+\s*\n|DATA_TYPE\s", head))


class Bulletin:
    """What one file holds: rows of events and of picks, filled line by line."""

    def __init__(self, told: Told, shown: str, readings: bool = True):
        self.told, self.shown, self.readings = told, shown, readings
        self.events: list[tuple[Any, ...]] = []
        self.picks: list[tuple[Any, ...]] = []
        self._measured: list[tuple[float, float]] = []  # back azimuth and its residual, by which EvAz is told
        self._places: list[tuple[float, float]] = []  # latitude of the event, distance in degrees
        self._event: dict[str, Any] | None = None
        self._id: str | None = None
        self._latitude = np.nan
        self._state = "outside"
        self._open = self._events_seen = 0
        self._foreign = False
        self._same: dict[str, str] = {}

    def line(self, count: int, text: str) -> None:
        """Take one line."""
        word = text[:9]
        if word.startswith("BEGIN"):
            self._begin(count, text)
        elif word.startswith("STOP") and len(text.split()) == 1:
            self._close()
            self._state, self._open = "outside", 0
        elif word.startswith("DATA_TYPE"):
            self._close()
            self._state = "other" if self._foreign or "BULLETIN" not in text.upper() else "outside"
        elif self._state == "other" or not text.strip(" ."):
            return
        elif word.startswith("EVENT") and text[5:6] in (" ", "\t", ""):
            self._close()
            self._event = {"source_id": text[5:].strip(), "count": count}
            self._id, self._latitude, self._state = text[5:].strip() or None, np.nan, "origin"
            self._events_seen += 1
        elif word.startswith("Sta") and "Phase" in text:
            self._close()
            self._state = "arrivals"
        elif self._state == "arrivals":
            if self.readings:
                self._arrival(count, text)
        elif self._state == "origin" and self._event is not None:
            self._origin(text)

    def end(self) -> None:
        """The file is over."""
        self._close()
        if self._open:
            self.told.add(f"{self.shown}: the message that begins at line {self._open} has no STOP: the file may be cut")
        if not self._events_seen:
            self.told.add(f"{self.shown}: no EVENT found")

    def _begin(self, count: int, text: str) -> None:
        self._close()
        if self._open:
            self.told.add(f"{self.shown} line {count}: a message begins before the one of line {self._open} has its STOP")
        self._foreign = not text[5:].strip().upper().startswith("GSE2.0")
        self._open, self._state = count, "other" if self._foreign else "outside"
        if self._foreign:
            self.told.add(f"{self.shown} line {count}: message left out: '{text[5:].strip()[:20]}' is not GSE2.0")

    def _origin(self, text: str) -> None:
        assert self._event is not None
        found = _ORIGIN.match(text)
        if found and "time" not in self._event:
            rest = text[found.end() :]
            values: list[Any] = [text[25:33], text[34:43], text[47:52]]
            try:
                number(values[0]), number(values[1]), number(values[2])
            except ValueError:  # columns are shifted: what is written in order
                values = [*re.sub(r"\b[a-zA-Z]\b", " ", rest).split()[:3], "", "", ""][:3]
            self._event |= {"time": found[1], "latitude": values[0], "longitude": values[1], "depth": values[2]}
            size = _MAGNITUDE.search(text[70:103])
            if size:
                self._event |= {"magnitude_type": size[1], "magnitude": size[2]}
        elif "time" in self._event and "source_type" not in self._event and (second := _SECOND.search(text)):
            self._event["source_type"] = TYPES.get(second[1], "")

    def _close(self) -> None:
        """The block of the event is read: make its row."""
        event, self._event = self._event, None
        if event is None:
            return
        where = f"{self.shown} line {event.pop('count')}"
        if "time" not in event:
            self.told.add(f"{where}: event {event['source_id']} left out: it has no origin")
            return
        row = event_row(self.told, where, **({"magnitude": None} | event))
        if row is not None:
            self.events.append(row)
            self._id, self._latitude = row[0], row[3]

    def _arrival(self, count: int, text: str) -> None:
        found = _ARRIVAL.search(text)
        where = f"{self.shown} line {count}"
        if found is None:
            self.told.add(f"{where}: reading left out: no time in '{text.strip()[:40]}'")
            return
        try:
            ns = time_ns(found[0])
        except ValueError as error:
            self.told.add(f"{where}: reading left out: {error}")
            return
        station, distance, azimuth, flags, phase = _left(text, found.start())
        if not station:
            self.told.add(f"{where}: reading left out: it has no station")
            return
        shift = found.start() - _TIME_AT
        late = found.end() - shift - _TIME_END  # a time with more decimals either takes the blank after it or moves the rest
        if late > 0 and text[58 + shift : 59 + shift].strip():
            shift += late
        field = text[shift:] if shift >= 0 else " " * -shift + text

        def value(a: int, b: int, what: str) -> float:
            part = field[a:b]
            return number_or_nan(part, self.told, where, what) if part and not part.isspace() else np.nan

        sizes = [(field[a : a + 2].strip(), value(a + 2, a + 6, "magnitude")) for a in (110, 117)]
        sizes = [s for s in sizes if not np.isnan(s[1])] or [("", np.nan)]
        kind, size = next((s for s in sizes if s[0].upper() == "ML"), sizes[0])
        degrees, angle = (number_or_nan(v, self.told, where, w) for v, w in ((distance, "distance"), (azimuth, "azimuth")))
        residual = value(max(53, found.end() - shift), 58, "residual")
        station, phase = self._same.setdefault(station, station), self._same.setdefault(phase, phase)  # one object per text
        self.picks.append((
            self._id, "", station, "", "", phase, ns, degrees * DEGREE_KM, angle, residual, value(88, 93, "SNR"), size,
            kind, _ONSETS.get(flags[2], ""), _POLARITIES.get(flags[1], ""),
            _STATUS.get(flags[0], ""),
        ))  # fmt: skip
        self._measured.append((value(59, 64, "azimuth"), value(65, 71, "azimuth residual")))
        self._places.append((self._latitude, degrees))

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows of picks, their azimuths from the event to the station."""
        if not self.picks:
            return []
        written = np.array([row[8] for row in self.picks])
        azimuths = _azimuths(written, np.array(self._measured), np.array(self._places))
        return [(*row[:8], float(angle), *row[9:]) for row, angle in zip(self.picks, azimuths, strict=True)]


def _left(text: str, start: int) -> tuple[str, str, str, str, str]:
    """Station, distance, azimuth, three flags and phase of a reading whose time begins at `start`."""
    if start == _TIME_AT and not (text[5] + text[12] + text[18] + text[22] + text[30]).strip():
        return text[:5].strip(), text[6:12], text[13:18], text[19:22], text[23:30].strip()
    words = text[:start].split()
    station = words.pop(0) if words else ""
    numbers: list[str] = []
    while words and len(numbers) < 2 and re.fullmatch(r"[-+]?\d+\.?\d*", words[0]):
        numbers.append(words.pop(0))
    distance, azimuth = [*numbers, "", ""][:2]
    phase = words.pop() if words else ""
    flags = "".join(words)
    mark = ["".join(c for c in flags if c in known)[:1] or " " for known in (_STATUS, _POLARITIES, _ONSETS)]
    return station, distance, azimuth, "".join(mark), phase


def _azimuths(written: NDArray[Any], measured: NDArray[Any], places: NDArray[Any]) -> NDArray[Any]:
    """Azimuths from event to station, in degrees, from the column EvAz, which some agencies count the other way.

    GSE2.0 as the GSE's own data centre wrote it counts EvAz from the station to the event; later formats and other agencies
    count it from the event to the station. Where a file gives measured back azimuths and their residuals, the difference of the two
    is the back azimuth, and an EvAz that equals it (median within 1 degree) is one too: it is turned by the spherical triangle of
    pole, event and station (NaN where that does not tell the station: two may fit where the distance reaches over a pole).
    Without them EvAz is taken from the event to the station.

    Args:
        written: EvAz [pick].
        measured: back azimuth and its residual [pick 2].
        places: latitude of the event and distance [pick 2], all in degrees.
    """
    off = np.abs((measured[:, 0] - measured[:, 1] - written + 180) % 360 - 180)
    if np.isnan(off).all() or np.nanmedian(off) > 1.0:
        return written % 360
    event, d, b = np.radians(90 - places[:, 0]), np.radians(places[:, 1]), np.radians(written)
    # cos(event) = cos(d) cos(station) + sin(d) sin(station) cos(b), for the station's distance from the pole
    reach, lead = np.hypot(np.cos(d), np.sin(d) * np.cos(b)), np.arctan2(np.sin(d) * np.cos(b), np.cos(d))
    cosine = np.cos(event) / reach
    swing = np.arccos(np.where(np.abs(cosine) < 0.999, cosine, np.nan))  # beyond, a tenth of a degree moves the station far
    both = np.stack([lead + swing, lead - swing])
    both = (both + np.pi) % (2 * np.pi) - np.pi
    fits = both > 0  # one of them, but for distances that reach over a pole
    station = np.where(fits.sum(0) == 1, np.where(fits[0], both[0], both[1]), np.nan)
    east, north = -np.sin(b) * np.sin(station), (np.cos(station) - np.cos(d) * np.cos(event)) / np.maximum(np.sin(d), 1e-12)
    return np.asarray(np.degrees(np.arctan2(east, north)) % 360)


def read_bulletin(path: Path, told: Told, shown: str, *, readings: bool = True) -> Bulletin:
    """A bulletin's rows, with the stations' readings or without; everything left out is told with its line."""
    bulletin = Bulletin(told, shown, readings)
    for count, text in lines(path, told, shown):
        bulletin.line(count, text.expandtabs() if "\t" in text else text)
    bulletin.end()
    return bulletin


def write_bulletin(path: str | Path, events: pd.DataFrame, picks: pd.DataFrame, *, overwrite: bool = False) -> None:
    """Events and their picks as a GSE2.0 bulletin.

    The format holds times to 0.1 s, places to 0.0001 degrees, depths to 0.1 km, distances to 0.01 degrees, azimuths, residuals,
    SNR and magnitudes to 0.1 (fewer decimals where a number would not fit). It has no place for network, location and channel.
    Ids of events longer than eight characters are written in full. EvAz is written from the event to the station.

    Args:
        path: the file to write.
        events: a table as `seislatent.io.catalogues.read_events` gives it.
        picks: a table as `seislatent.io.picks.read_picks` gives it; each row's `source_id` is one of the events'; columns but
            `source_id`, `station_code`, `phase` and `time_ns` may be missing.
        overwrite: write over a file that is there.

    Raises:
        SeislatentError: the format cannot hold a value (which one and where is told), or the file is there already.
    """
    for name, table, needed in (
        ("events", events, ("source_id", "origin_ns", "source_latitude_deg", "source_longitude_deg")),
        ("picks", picks, ("source_id", "station_code", "phase", "time_ns")),
    ):
        if missing := [c for c in needed if c not in table]:
            raise SeislatentError(f"the table of {name} has no column {', '.join(missing)}: a bulletin needs it")
    ids = events["source_id"].astype(str)
    if ids.duplicated().any():
        raise SeislatentError(f"event {ids[ids.duplicated()].iloc[0]} stands twice in the table: a bulletin needs ids of their own")
    strange = set(picks["source_id"].astype(str)) - set(ids)
    if strange:
        raise SeislatentError(f"{len(strange)} ids of picks are not among the events ({min(strange)} ...): leave these picks out")
    events = events.assign(when=_when(events["origin_ns"]))
    picks = picks.assign(source_id=picks["source_id"].astype(str), when=_when(picks["time_ns"]))
    groups: dict[str, list[dict[str, Any]]] = {}
    for pick in picks.to_dict("records"):
        groups.setdefault(pick["source_id"], []).append({str(k): v for k, v in pick.items()})

    def write(beside: Path) -> None:
        with beside.open("w", encoding="ascii", newline="\n") as out:
            out.write("BEGIN GSE2.0\nMSG_TYPE DATA\nMSG_ID 1 SEISLAT\nDATA_TYPE BULLETIN GSE2.0\n")
            number = 0
            for event in events.to_dict("records"):
                out.write(_event_text({str(k): v for k, v in event.items()}))
                for pick in groups.get(str(event["source_id"]), []):
                    number += 1
                    out.write(_pick_text(pick, number))
                out.write("\n\n")
            out.write("STOP\n")

    put(path, write, overwrite)


_ORIGIN_TITLES = (
    "   Date       Time       Latitude Longitude    Depth    Ndef Nsta Gap    Mag1  N    Mag2  N    Mag3  N  Author          ID\n"
    "       rms   OT_Error      Smajor Sminor Az        Err   mdist  Mdist     Err        Err        Err     Quality\n"
)
_PICK_TITLES = (
    "Sta    Dist   EvAz     Phase       Date      Time     TRes  Azim  AzRes  Slow  SRes Def   SNR       Amp   Per   Mag1   Mag2"
    " Arr ID\n"
)
_regions = cache(FlinnEngdahl)
_CODES = {word: code for code, word in reversed(TYPES.items()) if code[0] != "s"} | {"quarry blast": "km"}


def _event_text(event: dict[str, Any]) -> str:
    name = str(event["source_id"])
    where = f"event {name}"
    if not re.fullmatch(r"[!-~]{1,100}", name):
        raise SeislatentError(f"{where}: an id in a bulletin is ASCII without blanks, at most 100 characters")
    kind = str(event.get("source_type") or "")
    if kind not in _CODES:
        raise SeislatentError(f"{where}: " + unknown("type of event", kind, _CODES) + " (a bulletin knows no other)")
    place = _fit(event["source_latitude_deg"], 8, 4, where), _fit(event["source_longitude_deg"], 9, 4, where)
    size = _size(event.get("source_magnitude"), event.get("source_magnitude_type"), where)
    first = f"{event['when']}    {place[0]} {place[1]}    {_fit(event.get('source_depth_km'), 5, 1, where)}"
    second = " " * 12 + "+-" + " " * 32 + "+-" + " " * 56 + f"    {_CODES[kind]}"
    region = _regions().get_region(float(event["source_longitude_deg"]), float(event["source_latitude_deg"]))
    return f"EVENT {name}\n{_ORIGIN_TITLES}\n{first:<71}{size}\n{second}\n\n{region}\n{_PICK_TITLES}"


def _pick_text(pick: dict[str, Any], count: int) -> str:
    station, phase = str(pick["station_code"]), str(pick["phase"] or "")
    where = f"pick of {station} {phase}, event {pick['source_id']}"
    if not re.fullmatch(r"[!-~]{1,5}", station):
        raise SeislatentError(f"{where}: a bulletin holds station codes of 1 to 5 ASCII characters without blanks")
    if not re.fullmatch(r"[!-~]{0,7}", phase):
        raise SeislatentError(f"{where}: a bulletin holds phases of at most 7 ASCII characters without blanks")
    distance = _fit(float(pick.get("path_ep_distance_km", np.nan)) / DEGREE_KM, 6, 2, where)
    angle = _fit(float(pick.get("path_azimuth_deg", np.nan)) % 360, 5, 1, where)
    marks = "".join(
        next((code for code, word in known.items() if word == pick.get(column)), " ")
        for known, column in ((_STATUS, "status"), (_POLARITIES, "polarity"), (_ONSETS, "onset"))
    )
    residual = _fit(pick.get("residual_s"), 5, 1, where)
    left = f"{station:<5} {distance} {angle} {marks} {phase:<7} {pick['when']} {residual}"
    size = _size(pick.get("station_magnitude"), pick.get("station_magnitude_type"), where)
    return f"{left:<84}T   {_fit(pick.get('snr'), 5, 1, where)}{'':17}{size:<14}{count:>8}\n"


def _when(column: pd.Series) -> list[str]:
    """Times in nanoseconds rounded to 0.1 s, as 1995/01/16 07:29:20.7."""
    if column.isna().any():
        raise SeislatentError(f"column {column.name} has empty places: a bulletin needs every time")
    milliseconds = (column.to_numpy(np.int64) + 50_000_000) // 100_000_000 * 100
    texts = np.datetime_as_string(milliseconds.astype("datetime64[ms]"), unit="ms")
    return [f"{t[:4]}/{t[5:7]}/{t[8:10]} {t[11:21]}" for t in texts.tolist()]


def _fit(value: Any, width: int, decimals: int, where: str) -> str:
    """A number in so many characters, with fewer decimals where it would not fit; blanks for NaN."""
    if value is None or value != value:
        return " " * width
    for places in range(decimals, -1, -1):
        text = f"{float(value):{width}.{places}f}"
        if len(text) == width:
            return text
    raise SeislatentError(f"{where}: a bulletin has {width} characters for {value:g}, which needs more")


def _size(value: Any, kind: Any, where: str) -> str:
    """A magnitude with its type, in six characters."""
    if value is None or value != value:
        return " " * 6
    kind = str(kind or "")
    if len(kind) > 2 or not kind.isascii():
        raise SeislatentError(f"{where}: a bulletin holds types of magnitude of 2 characters, not '{kind}': rename it first")
    return f"{kind:<2}{_fit(value, 4, 1, where)}"
