"""What lies beside the waveforms: catalogues, picks and stations, found by what the files hold, and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from seislatent.data.stations import NAMES as STATION_NAMES
from seislatent.data.stations import read_stations
from seislatent.errors import SeislatentError
from seislatent.io.catalogues import NAMES as EVENT_NAMES
from seislatent.io.catalogues import column_names, plain_name, read_events
from seislatent.io.event_fields import PICK_COLUMNS, start
from seislatent.io.gse_bulletin import is_bulletin
from seislatent.io.picks import NAMES as PICK_NAMES
from seislatent.io.picks import read_picks
from seislatent.io.plugins import unpacked

SUFFIXES = frozenset({".xml", ".qml", ".quakeml", ".csv", ".tsv", ".txt", ".gse", ".gse2", ".bul", ".gz", ".bz2", ".xz"})
"""Files that are looked into; a packed one only where one of the others stands before its ending."""


@dataclass(frozen=True)
class Inputs:
    """Files that are no waveforms, by what they hold; one file may be several things."""

    catalogue: list[Path] = field(default_factory=list)
    picks: list[Path] = field(default_factory=list)
    stations: list[Path] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """All of them, each once."""
        return list(dict.fromkeys([*self.catalogue, *self.picks, *self.stations]))


def kinds(path: Path) -> set[str]:
    """Of "catalogue", "picks" and "stations" what a file holds, told by its beginning; nothing where it is something else."""
    try:
        with unpacked(path) as plain:
            head = start(plain, str(path))
            if head.startswith("<"):
                if "FDSNStationXML" in head:
                    return {"stations"}
                return {"catalogue", "picks"} if "quakeml" in head.lower() else set()
            if is_bulletin(head):
                return {"catalogue", "picks"} if "WID2" not in head and "WAVEFORM" not in head else set()
            return _of_titles(head)
    except (SeislatentError, OSError):
        return set()


def _of_titles(head: str) -> set[str]:
    """What a table of text holds, by its line of titles."""
    line = next((text for text in head.splitlines() if text.strip()), "")
    separator = max(",;\t|", key=line.count)
    titles = [plain_name(t) for t in line.split(separator)]
    if len(titles) < 3 or "trace_name" in titles:
        return set()
    place, event, pick = (column_names(titles, names) for names in (STATION_NAMES, EVENT_NAMES, PICK_NAMES))
    if "phase" in pick and {"station", "trace"} & set(pick) and {"time", "time_ns"} & set(pick):
        return {"picks"}
    if {"latitude", "longitude"} <= set(event) and {"time", "origin_ns"} & set(event):
        return {"catalogue"}
    return {"stations"} if {"station", "latitude", "longitude"} <= set(place) else set()


def find_inputs(folder: Path, catalogue: Sequence[str], picks: Sequence[str], stations: Sequence[str]) -> Inputs:
    """The files named (relative to the folder or absolute), and where none is named those found in it.

    Looked into are files with an ending of `SUFFIXES` in the folder and in its direct subfolders. A bulletin counts as catalogue
    only where there is no other.

    Raises:
        SeislatentError: a file that is named does not exist.
    """
    named = {"catalogue": _named(folder, catalogue), "picks": _named(folder, picks), "stations": _named(folder, stations)}
    if all(named.values()):
        return Inputs(**named)
    found: dict[str, list[Path]] = {name: [] for name in named}
    both: list[Path] = []
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        endings = [s.lower() for s in path.suffixes[-2:]]
        if path.name[0] == "." or not endings or endings[-1] not in SUFFIXES or not path.is_file():
            continue
        if endings[-1] in (".gz", ".bz2", ".xz") and (len(endings) < 2 or endings[0] not in SUFFIXES):
            continue
        held = kinds(path)
        if {"catalogue", "picks"} <= held:
            both.append(path)
            held = {"picks"}
        for name in held:
            found[name].append(path)
    found["catalogue"] = found["catalogue"] or both
    return Inputs(**{name: named[name] or found[name] for name in named})


def _named(folder: Path, paths: Sequence[str]) -> list[Path]:
    out = [folder / path for path in paths]
    missing = [str(path) for path in out if not path.exists()]
    if missing:
        raise SeislatentError(f"{', '.join(missing)} does not exist: paths are absolute, or relative to {folder}")
    return out


def read_inputs(inputs: Inputs) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, list[str]]:
    """Tables of events, picks and stations, and one line for each thing that was left out.

    Raises:
        SeislatentError: there is no catalogue, or one of the kinds cannot be read at all.
    """
    if not inputs.catalogue:
        raise SeislatentError(
            "no catalogue is among the files: put QuakeML, FDSN event text, CSV or a GSE2.0 bulletin into the folder, or name it"
        )
    events = read_events(inputs.catalogue)
    picks, notes = pd.DataFrame(columns=list(PICK_COLUMNS)), list(events.bad)
    if inputs.picks:
        read = read_picks(inputs.picks)
        picks, notes = read.table, notes + [line for line in read.bad if line not in set(notes)]
    stations, bad = read_stations(inputs.stations)
    return events.table, picks, stations, notes + bad
