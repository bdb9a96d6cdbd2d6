"""Noise: windows of continuous data in which no earthquake is known or seen.

    archive --windows of length_s--> minus [P - margin, end of the coda] of every catalogued event --[i]--> STA/LTA --> Waveform

Such a label is as good as its catalogue: what neither the catalogue holds nor the trigger sees is in the noise
(docs/how-to/archive-to-records.md says how much that is).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.data.archive import PLACE, located_stations, open_archive, rates, with_own_places
from seislatent.data.archive_inputs import find_inputs
from seislatent.data.candidates import bands
from seislatent.data.gather import Unfit, gather, sensor_of
from seislatent.data.records import Records
from seislatent.data.stations import geodesic, read_stations
from seislatent.data.travel_times import arrivals_s
from seislatent.errors import SeislatentError
from seislatent.io.catalogues import read_events
from seislatent.io.event_fields import iso
from seislatent.signal.filters import Butterworth
from seislatent.waveform import Waveform


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Which windows of an archive are noise."""

    length_s: float = 60.0
    """Length of a window in seconds."""
    step_s: float = 0.0
    """From the start of one window to the next in seconds; 0 sets them side by side."""
    most: int = 100_000
    """At most so many windows are looked at, drawn at random from all."""
    seed: int = 0
    """Of that draw."""
    catalogue: tuple[str, ...] = ()
    """Files with events, absolute or relative to the source; none given: found by content, and none need be there."""
    stations: tuple[str, ...] = ()
    """Files with coordinates; without them the catalogue cannot be used."""
    waveforms: str = ""
    """Folder of the waveform files, absolute or relative to the source; empty is the source itself."""
    index: str = ""
    """Parquet file outside the archive that keeps the headers of its files for the next time; empty keeps none, and takes what SDS
    trees hold from the names of their files."""
    before_p_s: float = 15.0
    """Left out from this many seconds before the predicted P of each event ..."""
    coda_s: float = 60.0
    """... to this many seconds after its predicted S, or to the end of its coda by magnitude, whichever is later."""
    unknown_magnitude: float = 4.0
    """Magnitude of events that have none."""
    unknown_depth_km: float = 10.0
    """Depth in km of events that have none."""
    trigger_ratio: float = 4.0
    """A window with a higher ratio of mean squares, short over long term, is rejected; 0 asks for none."""
    short_s: float = 1.0
    """Short term of the trigger in seconds."""
    long_s: float = 30.0
    """Long term, the seconds before it; at the window's start it reaches into the data before the window."""
    lead_s: float = 60.0
    """The trigger must be silent for this many seconds before the window, too: the coda of what began there raises no trigger."""
    band_hz: tuple[float, float] = (1.0, 20.0)
    """Band in which the trigger looks; the upper corner is at most 0.45 of the rate."""
    instruments: tuple[str, ...] = ("HH", "BH", "EH", "SH", "HN", "*")
    """Band and instrument codes of the sensors taken, "*" for all others."""
    components: str = "ZNE"
    """Rows of a record."""
    workers: int = 1
    """Processes that read headers."""


def coda_length_s(magnitude: Any, distance_km: Any) -> Any:
    """Seconds from P to the end of the coda: log10 t = (M + 0.87 - 0.0035 km^-1 distance) / 2.

    The duration magnitude of Lee, Bennett and Meagher (1972), turned round; made for local earthquakes, and the term of distance
    is cut off at 300 km.
    """
    return 10 ** ((np.asarray(magnitude, float) + 0.87 - 0.0035 * np.minimum(distance_km, 300.0)) / 2)


class NoiseArchive(Sequence[Waveform]):
    """Windows of an archive without known events; `metadata` has one row for each, trace_category is noise.

    Windows of one hour, at whatever station, have the same `source_id`, so that a split by event keeps them together. Reading one
    raises `Unfit` where it is not whole (incomplete window), where the trigger sees something (trigger), or for a reason of
    `gather`. May be handed to worker processes.

    Args:
        config: lengths, margins, trigger.
        folder: an archive, with or without a catalogue and coordinates of its stations.

    Raises:
        SeislatentError: no waveform, no window that is left, or a catalogue without coordinates of the stations.
    """

    def __init__(self, config: NoiseConfig, folder: str | Path) -> None:
        self.config, self.folder = config, Path(folder)
        if not config.length_s > 0:
            raise SeislatentError(f"noise windows of {config.length_s:g} s: give a length above 0")
        inputs = find_inputs(self.folder, config.catalogue, (), config.stations)
        self.archive = open_archive(self.folder / config.waveforms, config.index, config.workers, inputs)
        spans = self.archive.spans()
        stations, self.notes = read_stations(inputs.stations)
        stations = with_own_places(self.archive, stations)
        table = _draw(_sensors(spans, config), config)
        if inputs.catalogue:
            events = read_events(inputs.catalogue)
            self.notes += events.bad
            quiet = _quiet(table, events.table, stations, config)
            self.notes.append(f"{int((~quiet).sum())} of {len(table)} windows meet a catalogued event and are left out")
            table = table[quiet].reset_index(drop=True)
        else:
            self.notes.append("no catalogue: nothing but the trigger keeps earthquakes out of the noise")
        self.notes += self.archive.bad
        if table.empty:
            raise SeislatentError(f"no noise window of {config.length_s:g} s in {self.archive.folder}: {'; '.join(self.notes[:3])}")
        place = located_stations(table[["network", "station"]].drop_duplicates(), stations)
        self._band = table["band"].to_numpy(object)
        table["rate"] = rates(self.archive, table)
        self.metadata = _metadata(table.merge(place, on=["network", "station"], how="left"))

    def __len__(self) -> int:
        return len(self.metadata)

    def __getitem__(self, i: Any) -> Any:
        """One window.

        Raises:
            Unfit: see the class.
        """
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        row, config = self.metadata.iloc[i], self.config
        start = int(row["start_ns"])
        before = round((config.lead_s + config.long_s + config.short_s) * 1e9) if config.trigger_ratio > 0 else 0
        codes = (row["station_network_code"], row["station_code"], row["station_location_code"], f"{self._band[i]}*")
        found = self.archive.read(*codes, start - before, start + round(config.length_s * 1e9))
        found = [w for w in found if sensor_of(w.channels[0])[3] == self._band[i]]
        if not found:
            raise Unfit("no data", f"{row['trace_name']}: no samples")
        whole = gather(found, order=config.components)
        rate, count = whole.sampling_rate_hz, round(config.length_s * whole.sampling_rate_hz)
        first = round((start - whole.start_ns) * rate / 1e9)
        if first < 0 or first + count > whole.data.shape[1] or not np.isfinite(whole.data[:, first : first + count]).all():
            raise Unfit("incomplete window", f"{row['trace_name']} has a gap, or begins late or ends early")
        if config.trigger_ratio > 0:
            tested = max(first - round(config.lead_s * rate), 0)
            ratio = float(np.max(_trigger(whole.data[:, : first + count], rate, config)[tested:], initial=0))
            if ratio > config.trigger_ratio:
                raise Unfit("trigger", f"{row['trace_name']}: STA/LTA {ratio:.3g}, at most {config.trigger_ratio:g} is noise")
        # in the type of the file, also where the gap of another window made this one float64
        kept = np.result_type(*(w.data.dtype for w in found))
        data = whole.data[:, first : first + count].astype(kept, copy=False)
        known = {str(k): v for k, v in row.drop("start_ns").items() if not (v is None or v is pd.NA or v != v)}
        at = whole.start_ns + round(first * 1e9 / rate)
        known |= {"trace_start_time": iso(at), "trace_npts": count, "trace_sampling_rate_hz": rate}
        place: dict[str, Any] = {k: float(row[f"station_{k}"]) for k in PLACE if np.isfinite(row[f"station_{k}"])}
        return replace(
            whole, data=data, start_ns=at, metadata=known, channels=tuple(replace(c, **place) for c in whole.channels),
            history=(f"read from {', '.join(sorted({w.metadata['file'] for w in found}))}", *whole.history),
        )  # fmt: skip


def _trigger(x: NDArray[Any], rate: float, config: NoiseConfig) -> NDArray[np.float64]:
    """STA/LTA [time] of the summed mean squares of all components in the band, after the last sample that is not finite."""
    bad = np.flatnonzero(~np.isfinite(x).all(axis=0))
    after = int(bad[-1]) + 1 if bad.size else 0
    low, high = config.band_hz[0], min(config.band_hz[1], 0.45 * rate)
    if low >= high:
        raise SeislatentError(f"the trigger's band begins at {low:g} Hz, above 0.45 of {rate:g} Hz: lower band_hz")
    part = x[:, after:].astype(np.float64)
    part -= part.mean(axis=1, keepdims=True)
    ratio = sta_lta(_band_pass(low, high, rate)(part), round(config.short_s * rate), round(config.long_s * rate))
    return np.concatenate([np.zeros(after), ratio])


@lru_cache(maxsize=32)
def _band_pass(low_hz: float, high_hz: float, rate_hz: float) -> Butterworth:
    return Butterworth(kind="bandpass", corners_hz=(low_hz, high_hz), rate_hz=rate_hz, order=2, zero_phase=False)


def sta_lta(x: NDArray[np.float64], short: int, long: int) -> NDArray[np.float64]:
    """Mean square of the last `short` samples over that of the `long` samples before those, [channel time] -> [time].

    Channels are summed. At the start the long term is what there is; 0 where that is less than five short terms.
    """
    short, n = max(short, 1), x.shape[1]
    total = np.concatenate([[0.0], np.cumsum((x**2).sum(axis=0))])
    end = np.arange(n) + 1
    turn = np.maximum(end - short, 0)
    begin = np.maximum(turn - long, 0)
    sta = (total[end] - total[turn]) / short
    lta = (total[turn] - total[begin]) / np.maximum(turn - begin, 1)
    enough = turn - begin >= min(5 * short, long)
    floor = max(float(total[-1]) / max(n, 1) * 1e-12, 1e-300)  # differences of sums leave no exact zero
    return np.where(enough & (sta > floor), sta / np.maximum(lta, floor), 0.0)


def _sensors(spans: pd.DataFrame, config: NoiseConfig) -> pd.DataFrame:
    """Stretches in which all components of a sensor have samples; `sampling_rate_hz` and `file` as of one of its channels."""
    table = spans.assign(band=bands(spans))
    if "*" not in config.instruments:
        table = table[table["band"].isin(config.instruments)]
    rows = []
    keys = ["network", "station", "location", "band"]
    for names, part in table[table["band"].notna()].groupby(keys, sort=True):
        channels = [_merged(one) for _, one in part.groupby("channel")]
        if len(channels) < len(config.components):
            continue
        shared = channels[0]
        for other in channels[1:]:
            shared = _shared(shared, other)
        about = part["sampling_rate_hz"].iloc[0], part["file"].iloc[0]
        rows += [(*names, int(a), int(b), *about) for a, b in shared]
    return pd.DataFrame(rows, columns=[*keys, "start_ns", "end_ns", "sampling_rate_hz", "file"])


def _merged(part: pd.DataFrame) -> NDArray[np.int64]:
    """Stretches [n, 2] of one channel, those put together that follow on each other within a tenth of a second."""
    part = part.sort_values("start_ns")
    begin, end = part["start_ns"].to_numpy(np.int64), np.maximum.accumulate(part["end_ns"].to_numpy(np.int64))
    new = np.concatenate([[True], begin[1:] > end[:-1] + 100_000_000])
    last = np.concatenate([np.flatnonzero(new)[1:] - 1, [len(end) - 1]])
    return np.stack([begin[new], end[last]], axis=1)


def _shared(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where two ordered lists of stretches overlap."""
    i = j = 0
    out = []
    while i < len(a) and j < len(b):
        begin, end = max(a[i, 0], b[j, 0]), min(a[i, 1], b[j, 1])
        if begin < end:
            out.append((begin, end))
        i, j = (i + 1, j) if a[i, 1] < b[j, 1] else (i, j + 1)
    return np.array(out, np.int64).reshape(-1, 2)


def _draw(stretches: pd.DataFrame, config: NoiseConfig) -> pd.DataFrame:
    """Windows at whole steps since 1970 within the stretches, `most` of them drawn where there are more."""
    length, step = round(config.length_s * 1e9), round((config.step_s or config.length_s) * 1e9)
    begin, end = stretches["start_ns"].to_numpy(np.int64), stretches["end_ns"].to_numpy(np.int64)
    first = -(-begin // step)
    counts = np.maximum((end - length) // step - first + 1, 0)
    total = int(counts.sum())
    if total > config.most:
        chosen = np.sort(np.random.default_rng(config.seed).choice(total, config.most, replace=False, shuffle=False))
    else:
        chosen = np.arange(total)
    at = np.searchsorted(np.cumsum(counts), chosen, side="right")
    number = chosen - (np.cumsum(counts) - counts)[at]
    table = stretches.iloc[at].reset_index(drop=True)
    return table.assign(start_ns=(first[at] + number) * step, end_ns=(first[at] + number) * step + length)


def _quiet(table: pd.DataFrame, events: pd.DataFrame, stations: pd.DataFrame, config: NoiseConfig) -> NDArray[np.bool_]:
    """True for windows that no catalogued event reaches."""
    have = table[["network", "station"]].drop_duplicates()
    place = located_stations(have, stations)
    if len(place) < len(have):
        known = set(zip(place["network"], place["station"], strict=True))
        lost = [f"{n}.{s}" for n, s in zip(have["network"], have["station"], strict=True) if (n, s) not in known]
        raise SeislatentError(
            f"there is a catalogue but no place of {', '.join(lost[:5])}{' ...' if lost[5:] else ''}: give coordinates (stations)"
        )
    quiet = np.ones(len(table), bool)
    origin = events["origin_ns"].to_numpy(np.int64)
    depth = events["source_depth_km"].fillna(config.unknown_depth_km).to_numpy(float)
    magnitude = events["source_magnitude"].fillna(config.unknown_magnitude).to_numpy(float)
    windows: Mapping[Any, Any] = table.groupby(["network", "station"]).indices
    for network, station, lat, lon in place[["network", "station", "latitude_deg", "longitude_deg"]].itertuples(index=False):
        distance = geodesic(events["source_latitude_deg"], events["source_longitude_deg"], lat, lon)[0]
        p, s = arrivals_s(distance, depth)
        reached = np.isfinite(p)
        if not reached.any():
            continue
        until = np.maximum(s + config.coda_s, p + coda_length_s(magnitude, distance))[reached]
        begin = origin[reached] + np.rint((p[reached] - config.before_p_s) * 1e9).astype(np.int64)
        end = origin[reached] + np.rint(until * 1e9).astype(np.int64)
        order = np.argsort(begin)
        begin, end = begin[order], np.maximum.accumulate(end[order])
        rows = windows[network, station]
        at = np.searchsorted(begin, table["end_ns"].to_numpy(np.int64)[rows], side="left") - 1
        quiet[rows] = (at < 0) | (end[np.maximum(at, 0)] <= table["start_ns"].to_numpy(np.int64)[rows])
    return quiet


def _metadata(table: pd.DataFrame) -> pd.DataFrame:
    start = table["start_ns"].to_numpy(np.int64)
    times = np.datetime_as_string(start.astype("datetime64[ns]"), unit="ms")
    sensor = table["network"] + "." + table["station"] + "." + table["location"] + "." + table["band"]
    return pd.DataFrame({
        "trace_name": "noise_" + sensor + "_" + times, "trace_category": "noise",
        "source_id": "noise_" + pd.Series(times).str[:13], "station_network_code": table["network"],
        "station_code": table["station"], "station_location_code": table["location"],
        "station_latitude_deg": table["latitude_deg"], "station_longitude_deg": table["longitude_deg"],
        "station_elevation_m": table["elevation_m"], "trace_channel": table["band"], "start_ns": start,
        "trace_sampling_rate_hz": table["rate"].to_numpy(float),
    })  # fmt: skip


def open_noise(source: Sequence[Path], config: NoiseConfig) -> Records:
    """Noise windows of one archive or several; `notes` of the result says what was left out."""
    parts = [NoiseArchive(config, path) for path in source]
    return Records.joined(parts, [part.folder.resolve().name for part in parts])
