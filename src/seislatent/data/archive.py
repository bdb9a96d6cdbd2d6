"""Event records cut from an archive: events x picks x waveform files.

    catalogue  picks  stations        SDS tree or folder of files
        +--------+--------+                      |
                 |                               |
         one row per record  --[i]-->  read, gather, cut  -->  Waveform [Z N E, time], or Unfit with a reason

Tables come first and are made at once for all records (`seislatent.data.candidates`); samples are read when a record is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from obspy import Inventory

from seislatent.components import arrange
from seislatent.data.archive_inputs import Inputs, find_inputs, read_inputs
from seislatent.data.candidates import MISSING, arrivals, associate, covering, located, name_networks, pairs_within
from seislatent.data.gather import Unfit, gather, sensor_of
from seislatent.data.records import Records, open_records, sources_below
from seislatent.data.stations import places
from seislatent.errors import SeislatentError
from seislatent.io.archive import Archive
from seislatent.io.event_fields import iso
from seislatent.io.inventory import locate, read_inventory
from seislatent.prepare.orient import orient
from seislatent.waveform import Waveform

log = logging.getLogger(__name__)

PLACE = ("latitude_deg", "longitude_deg", "elevation_m")


@dataclass(frozen=True, kw_only=True)
class ArchiveConfig:
    """How event records are cut from an archive of waveform files."""

    catalogue: tuple[str, ...] = ()
    """Files with events (QuakeML, FDSN text, CSV, GSE2.0), absolute or relative to the source; none given: found by content."""
    picks: tuple[str, ...] = ()
    """Files with picks (QuakeML, GSE2.0 bulletins, CSV); none given: found by content."""
    stations: tuple[str, ...] = ()
    """Files with coordinates (StationXML, CSV, FDSN text); none given: found by content."""
    waveforms: str = ""
    """Folder of the waveform files, absolute or relative to the source; empty is the source itself."""
    index: str = ""
    """Parquet file outside the archive that keeps the headers of its files for the next time; empty keeps none, and takes what SDS
    trees hold from the names of their files."""
    window: Literal["p", "origin", "file"] = "p"
    """What a record's window is counted from: P, the origin, or the whole file that holds P (for files of one event)."""
    before_s: float = 30.0
    """The window begins this many seconds before P, or before the origin."""
    after_s: float = 90.0
    """It ends this many seconds after it."""
    predict: bool = True
    """Where P or S was not picked, take the time that iasp91 predicts (trace_p_status is predicted)."""
    farthest_km: float = 0.0
    """Stations without any pick are taken up to this epicentral distance in km, with predicted P and S; 0 takes none."""
    unknown_depth_km: float = 10.0
    """Depth in km for predicted times where the catalogue has none; the record's depth stays missing."""
    outside: Literal["reject", "drop"] = "reject"
    """A record whose P lies outside of its samples is rejected, or kept without it. S outside is always just dropped."""
    instruments: tuple[str, ...] = ("HH", "BH", "EH", "SH", "HN", "*")
    """Band and instrument codes, the first choice first; "*" stands for all others."""
    every_instrument: bool = False
    """Take a record of every sensor of a station; otherwise of the first that has samples."""
    components: str = "ZNE"
    """Rows of a record; 1 and 2 stand for N and E where these are missing, turned to them where the inventory tells how."""
    associate_s: float = 300.0
    """Picks whose event the catalogue does not hold go to the last event that began at most this many seconds before them."""
    workers: int = 1
    """Processes that read headers."""


class EventArchive(Sequence[Waveform]):
    """Event records of an archive, each read when it is asked for; `metadata` has one row per candidate.

    Rows stand in the order of files and time, so that neighbours are read from the same files. Reading one raises `Unfit` where
    the archive does not hold what makes a record. May be handed to worker processes.

    Args:
        config: which events, picks, windows and instruments.
        folder: the source.

    Raises:
        SeislatentError: there is no catalogue, no waveform, or not one candidate.
    """

    def __init__(self, config: ArchiveConfig, folder: str | Path) -> None:
        self.config, self.folder = config, Path(folder)
        if config.before_s + config.after_s <= 0:
            raise SeislatentError(f"a window from {config.before_s:g} s before to {config.after_s:g} s after P is empty")
        inputs = find_inputs(self.folder, config.catalogue, config.picks, config.stations)
        events, picks, stations, self.notes = read_inputs(inputs)
        self.archive = open_archive(self.folder / config.waveforms, config.index, config.workers, inputs)
        spans = self.archive.spans()
        if spans.empty:
            told = f" ({self.archive.bad[0]})" if self.archive.bad else ""
            raise SeislatentError(f"{self.archive.folder} holds no waveform file that can be read{told}")
        stations = with_own_places(self.archive, stations)
        pairs = self._pairs(events, picks, stations, spans)
        self.metadata, self._plan = self._rows(pairs, spans)
        self.notes += self.archive.bad
        if not len(self.metadata):
            told = "; ".join(self.notes[:3])
            raise SeislatentError(f"no pick or predicted arrival of {self.folder} meets a waveform{': ' if told else ''}{told}")
        self._inventories = [p for p in inputs.stations if p.suffix.lower() not in (".csv", ".txt", ".tsv")]
        self._inventory: Inventory | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_inventory": None}

    def __len__(self) -> int:
        return len(self.metadata)

    def _pairs(self, events: pd.DataFrame, picks: pd.DataFrame, stations: pd.DataFrame, spans: pd.DataFrame) -> pd.DataFrame:
        """Events and stations with times of P and S, and the window: columns as of `located`, and start_ns, end_ns, p_ns, s_ns."""
        config = self.config
        picks, told = associate(picks, events, config.associate_s)
        self.notes += told
        found, told = name_networks(arrivals(picks), spans)
        self.notes += told
        keys = ["source_id", "network", "station"]
        if config.farthest_km > 0:
            have = spans[["network", "station"]].drop_duplicates()
            place = located_stations(have, stations)
            more = pairs_within(events, place, config.farthest_km).assign(p_ns=MISSING, s_ns=MISSING)
            found = pd.concat([t for t in (found, more) if len(t)] or [found], ignore_index=True).reindex(columns=found.columns)
        found = found.drop_duplicates(keys, ignore_index=True).astype({"source_id": object})
        table = located(found, events, stations, config.unknown_depth_km)
        for wave in "ps":
            picked = table[f"{wave}_ns"].to_numpy(np.int64) != MISSING
            times = table[f"{wave}_predicted_ns"] if config.predict else MISSING
            table[f"{wave}_ns"] = np.where(picked, table[f"{wave}_ns"], times)
            status = table[f"{wave}_status"].astype(object)
            guessed = ~picked & (table[f"{wave}_ns"].to_numpy() != MISSING)
            table[f"{wave}_status"] = np.where(guessed, "predicted", status.where(picked & status.notna(), None))
        anchor = table["origin_ns" if config.window == "origin" else "p_ns"].to_numpy(np.int64)
        lost = anchor == MISSING
        if lost.any():
            self.notes.append(f"{int(lost.sum())} pairs of event and station have no P pick, and no coordinates to predict it from")
        around = (0, 1) if config.window == "file" else (round(config.before_s * 1e9), round(config.after_s * 1e9))
        return table.assign(start_ns=anchor - around[0], end_ns=anchor + around[1])[~lost].reset_index(drop=True)

    def _rows(self, pairs: pd.DataFrame, spans: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Metadata of every candidate, and beside it what is needed to read it."""
        config = self.config
        at, sensors = covering(pairs, spans, config.instruments, config.every_instrument, len(config.components))
        bare = np.setdiff1d(np.flatnonzero(pairs["p_status"].to_numpy() != "predicted"), at)
        named = (pairs["source_id"].astype(str) + "_" + pairs["network"] + "." + pairs["station"]).iloc[bare]
        self.left_out = [(name, "no waveform") for name in named]
        """Picks that no waveform file covers; those that were only predicted do not count."""
        table = pairs.iloc[at].reset_index(drop=True)
        table[["location", "band"]] = sensors[["location", "band"]]
        held = spans.iloc[sensors["span"].to_numpy(np.int64)].reset_index(drop=True)
        if config.window == "file":
            whole = spans.groupby("file").agg(start_ns=("start_ns", "min"), end_ns=("end_ns", "max"))
            table[["start_ns", "end_ns"]] = whole.loc[held["file"]].to_numpy(np.int64)
        table["rate"] = rates(self.archive, held)
        keys = ["network", "station", "location", "band", "start_ns", "source_id"]
        table = table.sort_values(keys, kind="stable", ignore_index=True)
        plan = ["network", "station", "location", "band", "start_ns", "end_ns", "p_ns", "s_ns"]
        return _metadata(table), table[plan]

    def __getitem__(self, i: Any) -> Any:
        """One record.

        Raises:
            Unfit: with a reason: no data, pick outside the record, or one of `gather`'s.
        """
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        plan = self._plan.iloc[i]
        window = int(plan["start_ns"]), int(plan["end_ns"])
        found = self.archive.read(plan["network"], plan["station"], plan["location"], f"{plan['band']}*", *window)
        found = [w for w in found if sensor_of(w.channels[0])[3] == plan["band"]]
        name = f"{plan['network']}.{plan['station']}.{plan['location']}.{plan['band']}"
        if not found:
            raise Unfit("no data", f"{name} has no samples from {iso(window[0])} to {iso(window[1])}")
        record = gather(found, order=self._order(found))
        return self._marked(self._placed(record, i), i, sorted({w.metadata["file"] for w in found}))

    def _order(self, found: Sequence[Waveform]) -> str | tuple[str, ...]:
        """The components asked for; where N and E are named by azimuth, those, to be turned."""
        have = list(dict.fromkeys(w.components[0] for w in found))
        odd = [c for c in have if c not in ("Z", "N", "E", "1", "2", "3", "")]
        return tuple(have) if self.config.components == "ZNE" and odd and len(have) == 3 else self.config.components

    def _placed(self, record: Waveform, i: int) -> Waveform:
        """With coordinates, and turned to Z, N and E where it is not so recorded and the inventory says how."""
        row = self.metadata.iloc[i]
        known: dict[str, Any] = {k: float(row[f"station_{k}"]) for k in PLACE if np.isfinite(row[f"station_{k}"])}
        channels = tuple(replace(c, **{k: v for k, v in known.items() if getattr(c, k) is None}) for c in record.channels)
        record = replace(record, channels=channels)
        if self._inventories and self._inventory is None:
            self._inventory = Inventory()
            for path in self._inventories:
                self._inventory += read_inventory(path)
        if self._inventory is not None:
            part = self._inventory.select(network=record.channels[0].network, station=record.channels[0].station)
            (record,) = locate([record], part)
        if "".join(record.components) == self.config.components:
            return record
        turned = orient(replace(record, history=tuple(line for line in record.history if not line.startswith("unoriented"))))
        return arrange(turned) if set(turned.components) == set("ZNE") and self.config.components == "ZNE" else turned

    def _marked(self, record: Waveform, i: int, files: list[str]) -> Waveform:
        """With the metadata of its row, P and S in samples of this record."""
        plan, rate, count = self._plan.iloc[i], record.sampling_rate_hz, record.data.shape[1]
        told = self.metadata.iloc[i].drop("start_ns").to_dict()
        row: dict[str, Any] = {str(name): value for name, value in told.items() if not _is_missing(value)}
        for wave in "ps":
            ns = int(plan[f"{wave}_ns"])
            sample = np.nan if ns == MISSING else (ns - record.start_ns) * rate / 1e9
            if not 0 <= sample < count and ns != MISSING:
                if wave == "p" and self.config.outside == "reject":
                    held = f"{row['trace_name']} holds {count} samples at {rate:g} Hz from {iso(record.start_ns)}"
                    raise Unfit("pick outside the record", f"P at {iso(ns)}, {held}")
                sample = np.nan
                row.pop(f"trace_{wave}_status", None)
            row[f"trace_{wave}_arrival_sample"] = sample
        row |= {"trace_start_time": iso(record.start_ns), "trace_npts": count, "trace_sampling_rate_hz": rate}
        kept = {name: value for name, value in record.metadata.items() if name not in ("file", "file_format")}
        return replace(record, metadata=kept | row, history=(f"read from {', '.join(files)}", *record.history))


def open_archive(folder: Path, index: str, workers: int, inputs: Inputs) -> Archive:
    """The waveform files of a folder; where an index is kept, SDS trees are also known by their headers instead of by names."""
    archive = Archive(folder, cache=index or None, workers=workers, leave_out=inputs.files)
    if index:
        archive.refresh()
    return archive


def rates(archive: Archive, held: pd.DataFrame) -> pd.Series:
    """Sampling rates; where only names of files are known (SDS), each channel's from the header of one of its files per year."""
    rate = held["sampling_rate_hz"].copy()
    if rate.isna().any():
        key = held["file"].str.rsplit(".", n=1).str[0]
        first = held.assign(key=key).drop_duplicates("key").set_index("key")["file"]
        rate = rate.fillna(key.map({k: archive.rate_hz(file) for k, file in first.items()}))
    return rate


def located_stations(have: pd.DataFrame, stations: pd.DataFrame) -> pd.DataFrame:
    """Network, station, latitude and longitude of those stations whose place is known (the last one)."""
    place = places(stations, have["network"], have["station"], np.full(len(have), 2**61))
    table = pd.concat([have.reset_index(drop=True), place], axis=1)
    return table[table["latitude_deg"].notna()].reset_index(drop=True)


def with_own_places(archive: Archive, stations: pd.DataFrame) -> pd.DataFrame:
    """The stations, and after them those whose place only the headers of the waveform files tell (SAC, K-NET)."""
    if archive.sds:
        return stations
    columns = ["network", "station", "latitude_deg", "longitude_deg", "elevation_m"]
    told = archive.table.loc[archive.table["latitude_deg"].notna(), columns].drop_duplicates(["network", "station"])
    known = set(zip(stations["network"], stations["station"], strict=True))
    keep = [key not in known for key in zip(told["network"], told["station"], strict=True)]
    told = told[keep].assign(start_ns=-(2**62), end_ns=2**62)
    return pd.concat([stations, told], ignore_index=True) if len(told) else stations


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _metadata(table: pd.DataFrame) -> pd.DataFrame:
    """One row per candidate with SeisBench's names."""
    start, rate = table["start_ns"].to_numpy(np.int64), table["rate"].to_numpy(float)
    samples = {}
    for wave in "ps":
        ns = table[f"{wave}_ns"].to_numpy(np.int64)
        known = (ns != MISSING) & (ns >= start) & (ns < table["end_ns"].to_numpy(np.int64))
        samples[wave] = np.where(known, (np.where(known, ns, start) - start) * rate / 1e9, np.nan)
    sensor = table["network"] + "." + table["station"] + "." + table["location"] + "." + table["band"]
    name = table["source_id"].astype(str) + "_" + sensor
    again = name.groupby(name).cumcount()
    number = {name: pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in ("residual_s", "snr", "magnitude")}
    depth = table["source_depth_km"].to_numpy(float)
    return pd.DataFrame({
        "trace_name": name.where(again == 0, name + "~" + (again + 1).astype(str)),
        "source_id": table["source_id"], "source_origin_time": table["source_origin_time"],
        "source_latitude_deg": table["source_latitude_deg"], "source_longitude_deg": table["source_longitude_deg"],
        "source_depth_km": depth, "source_magnitude": table["source_magnitude"],
        "source_magnitude_type": table["source_magnitude_type"].replace("", None),
        "source_type": table["source_type"].replace("", None), "station_network_code": table["network"],
        "station_code": table["station"], "station_location_code": table["location"],
        "station_latitude_deg": table["latitude_deg"], "station_longitude_deg": table["longitude_deg"],
        "station_elevation_m": table["elevation_m"], "trace_channel": table["band"], "start_ns": start,
        "trace_sampling_rate_hz": rate, "trace_p_arrival_sample": samples["p"], "trace_p_status": table["p_status"],
        "trace_s_arrival_sample": samples["s"], "trace_s_status": table["s_status"], "path_ep_distance_km": table["distance_km"],
        "path_hyp_distance_km": np.hypot(table["distance_km"].to_numpy(float), depth), "path_azimuth_deg": table["azimuth_deg"],
        "path_back_azimuth_deg": table["back_azimuth_deg"], "trace_p_residual_s": number["residual_s"],
        "trace_bulletin_snr": number["snr"], "trace_station_magnitude": number["magnitude"],
        "trace_station_magnitude_type": table["magnitude_type"],
    })  # fmt: skip


def is_record_set(path: Path) -> bool:
    """True for a record store, SeisBench's layout and native HDF5 files, or a folder that holds such."""
    return path.is_file() or bool(path.is_dir() and sources_below(path))


def open_events(source: Sequence[Path], config: ArchiveConfig) -> Records:
    """Event records of archives, or of record sets (stores, SeisBench's layout, native HDF5), which are opened as they are.

    What catalogues, picks and stations hold that cannot be read, and files that cannot, stand in `notes` of the result and in one
    warning.

    Args:
        source: folders, all of one of the two kinds. A folder of an archive holds waveform files, a catalogue, picks and stations.
        config: how records are cut from an archive.

    Raises:
        SeislatentError: nothing is there, or both kinds are.
    """
    sets = [is_record_set(Path(path)) for path in source]
    if all(sets):
        return open_records(source)
    if any(sets):
        raise SeislatentError(f"{', '.join(map(str, source))} are record sets and archives: give one kind at a time")
    parts = [EventArchive(config, path) for path in source]
    records = Records.joined(parts, [part.folder.resolve().name for part in parts])
    if notes := records.notes:
        shown = "; ".join(notes[:5]) + (f"; and {len(notes) - 5} more" if len(notes) > 5 else "")
        log.warning("%s: %s", ", ".join(map(str, source)), shown)
    return records


def open_events_or_records(source: Sequence[Path], config: ArchiveConfig) -> Records:
    """As `open_events` where a folder of waveform files has a catalogue; else records of a station and sensor, without an event.

    The latter are what each sensor of the files recorded, in SI units where the format says how (national strong-motion formats).
    """
    folders = [Path(path) for path in source if not is_record_set(Path(path))]
    if any(find_inputs(path, config.catalogue, config.picks, config.stations).catalogue for path in folders):
        return open_events(source, config)
    return open_records(source, components="ZNE", physical=True)
