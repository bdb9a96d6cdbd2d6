"""Files in: every waveform format ObsPy reads except PICKLE, which runs code on reading."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from obspy import Inventory, Stream, Trace, UTCDateTime
from obspy.core.util.base import ENTRY_POINTS
from obspy.core.util.misc import buffered_load_entry_point

from seislatent.components import named
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

log = logging.getLogger(__name__)

REFUSED = frozenset({"PICKLE"})
"""Plug-ins that are never asked: even PICKLE's detection runs what the file holds."""

_UNDEFINED = -12345.0  # SAC's mark for a header field that was not set


def formats() -> list[str]:
    """Names of the waveform plug-ins that ObsPy itself brings, in its order of detection, without the refused ones."""
    return [name for name, point in ENTRY_POINTS["waveform"].items() if name not in REFUSED and point.dist.name == "obspy"]


def _plugin(name: str, function: str) -> Any:
    return buffered_load_entry_point("obspy", f"obspy.plugin.waveform.{name}", function)


def detect(path: str | Path) -> str:
    """The name of the format of a file, such as MSEED or SAC, found as ObsPy finds it.

    Raises:
        SeislatentError: there is no such file, it is empty, or no plug-in knows it.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise SeislatentError(f"{path} {what}: give the path of one waveform file")
    if path.stat().st_size == 0:
        raise SeislatentError(f"{path} is empty (0 bytes): nothing to read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in formats():
            try:
                if _plugin(name, "isFormat")(str(path)):
                    return name
            except Exception:  # a plug-in that trips over a strange file does not know it
                continue
    raise SeislatentError(f"{path} is in no waveform format that ObsPy reads (pickled files are refused because reading one runs it)")


def load(source: str | BinaryIO, name: str, path: str, **options: Any) -> Stream:
    """A file or an open one through the plug-in `name`; ObsPy's warnings go to the log as one line.

    Raises:
        SeislatentError: the plug-in fails; the line names `path`.
    """
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            stream = _plugin(name, "readFormat")(source, **options)
    except Exception as error:
        raise SeislatentError(f"{path} looks like {name} but cannot be read: {_one_line(error)}") from error
    if told:
        more = f" (and {len(told) - 1} more)" if told[1:] else ""
        log.warning("%s (%s): %s%s", path, name, _one_line(told[0].message), more)
    for trace in stream:
        trace.stats._format = name
    return stream


_WFDISC_COLUMNS = {"CSS": ((148, 212), (213, 245)), "NNSA_KB_CORE": ((149, 213), (214, 246))}
"""Where a wfdisc line names the folder and the file of its samples."""


def _check_references(path: Path, name: str) -> None:
    """Refuse a wfdisc whose lines lead out of its own folder: what lies there is none of its samples."""
    folder = path.resolve().parent
    for line in path.read_text("latin-1").splitlines():
        parts = [line[a:b].strip() for a, b in _WFDISC_COLUMNS[name]]
        target = folder.joinpath(*parts).resolve()
        if not target.is_relative_to(folder):
            raise SeislatentError(f"{path} ({name}) refers to {target} outside its own folder: move the samples beside it")


def _one_line(error: object) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def read_stream(path: str | Path, *, headonly: bool = False) -> Stream:
    """An ObsPy stream of any waveform file but a pickled one.

    Args:
        path: one file on this machine; patterns and addresses are not expanded.
        headonly: leave the samples out.

    Raises:
        SeislatentError: the file is missing, empty, unknown, damaged, or holds no trace.
    """
    name = detect(path)
    if name in ("CSS", "NNSA_KB_CORE"):
        _check_references(Path(path), name)
    stream = load(str(path), name, str(path), headonly=headonly)
    if not len(stream):
        raise SeislatentError(f"{path} holds no trace: nothing to read")
    return stream


def read(path: str | Path, *, inventory: Inventory | str | Path | None = None) -> list[Waveform]:
    """One waveform of one channel per trace of a file.

    Args:
        path: any waveform file that ObsPy reads but a pickled one.
        inventory: StationXML (or ObsPy's Inventory), from which coordinates, azimuth and dip are taken.

    Raises:
        SeislatentError: as `read_stream`.
    """
    waveforms = from_stream(read_stream(path))
    return waveforms if inventory is None else locate(waveforms, inventory)


def from_stream(stream: Stream | Iterable[Trace]) -> list[Waveform]:
    """One waveform of one channel per trace; a masked trace gives one per run of given samples.

    Keeps int32, float32, float64 and text; narrower integers become int32, int64 becomes int32 where every value fits.
    """
    return [piece for trace in stream for piece in _from_trace(trace)]


def native(data: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in this machine's byte order as int32, float32, float64 or text; int64 stays where int32 is too narrow.

    Raises:
        SeislatentError: complex numbers or objects.
    """
    kind = data.dtype.kind
    if kind in "SU":
        return data
    if kind == "b" or (kind in "iu" and data.dtype.itemsize < 4):
        return data.astype(np.int32)
    if kind in "iu":
        limit = np.iinfo(np.int32)
        fits = not data.size or (int(data.min()) >= limit.min and int(data.max()) <= limit.max)
        return data.astype(np.int32 if fits else np.int64, copy=False)
    if kind == "f":
        return data.astype(np.float32 if data.dtype.itemsize <= 4 else np.float64, copy=False)
    raise SeislatentError(f"samples of type {data.dtype}: give integers, floats or text")


def _from_trace(trace: Trace) -> Iterator[Waveform]:
    stats = trace.stats
    start, rate = stats.starttime.ns, float(stats.sampling_rate)
    common: dict[str, Any] = {
        "sampling_rate_hz": rate, "channels": (_channel(stats),), "unit": _unit(stats), "metadata": _metadata(stats),
    }  # fmt: skip
    whole = np.asarray(np.ma.getdata(trace.data))
    if whole.dtype.kind in "SU":
        common["unit"] = None
    masked = np.ma.is_masked(trace.data)
    runs = _runs(~np.ma.getmaskarray(trace.data)) if masked else [(0, len(whole))]
    for a, b in runs:
        history = (f"masked: samples {a} to {b} of {len(whole)}",) if masked else ()
        yield Waveform(data=native(whole[a:b])[None], start_ns=start + samples_ns(a, rate), history=history, **common)


def _runs(given: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last index of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], given.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def samples_ns(count: int, sampling_rate_hz: float) -> int:
    """How long `count` samples last, in whole nanoseconds."""
    if sampling_rate_hz <= 0:
        return 0
    whole, rest = divmod(count, sampling_rate_hz)
    return int(whole) * 1_000_000_000 + round(rest * 1e9 / sampling_rate_hz)


def _number(value: Any) -> float | None:
    """A header value as a number, None where it was not set."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if not np.isfinite(number) or number == _UNDEFINED else number


def _channel(stats: Any) -> Channel:
    """Identity, coordinates and direction as far as the file's header gives them."""
    given = stats.get("seislatent", {})
    sac, knet, coordinates = stats.get("sac", {}), stats.get("knet", {}), stats.get("coordinates", {})
    inclination = _number(sac.get("cmpinc"))
    found = {
        "latitude_deg": (coordinates.get("latitude"), sac.get("stla"), knet.get("stla")),
        "longitude_deg": (coordinates.get("longitude"), sac.get("stlo"), knet.get("stlo")),
        "elevation_m": (coordinates.get("elevation"), sac.get("stel"), knet.get("stel")),
        "azimuth_deg": (sac.get("cmpaz"),),
        "dip_deg": (None if inclination is None else inclination - 90,),  # SAC counts from vertical up, SEED down from level
    }
    values = {name: next((n for n in map(_number, options) if n is not None), None) for name, options in found.items()}
    values |= {name: given[name] for name in values if name in given}
    channel = Channel(network=stats.network, station=stats.station, location=stats.location, code=stats.channel, **values)
    return named(replace(channel, component=given.get("component", "")))


def _unit(stats: Any) -> str | None:
    """The unit, where the file says it."""
    for key in ("unit", "units"):
        if isinstance(stats.get(key), str) and stats[key].strip():
            return str(stats[key]).strip()
    return "counts" if stats.get("_format") in ("KNET", "GSE1", "GSE2") else None


def _metadata(stats: Any) -> dict[str, Any]:
    """What else the header holds that a later reader wants, by SeisBench's names where there is one."""
    found: dict[str, Any] = dict(stats.get("seislatent", {}).get("metadata", {}))
    if stats.get("_format"):
        found["file_format"] = stats._format
    if stats.get("calib", 1.0) != 1.0:
        found["calib"] = float(stats.calib)
    if "mseed" in stats and stats.mseed.get("dataquality"):
        found["mseed_dataquality"] = stats.mseed.dataquality
    for header in ("sac", "knet"):
        fields = stats.get(header, {})
        names = {"evla": "source_latitude_deg", "evlo": "source_longitude_deg", "mag": "source_magnitude", "dist": "path_ep_distance_km"}
        names |= {"evdp": "source_depth_km"} if header == "knet" else {}
        found |= {ours: n for theirs, ours in names.items() if (n := _number(fields.get(theirs))) is not None}
    return found


def to_stream(waveforms: Waveform | Iterable[Waveform]) -> Stream:
    """One trace per row of every waveform, with ids of any length, times to the nanosecond, and `stats.seislatent` for the rest."""
    if isinstance(waveforms, Waveform):
        waveforms = [waveforms]
    traces = []
    for waveform in waveforms:
        for row, channel in zip(waveform.data, waveform.channels, strict=True):
            trace = Trace(data=np.ascontiguousarray(row))
            stats = trace.stats
            stats.sampling_rate = waveform.sampling_rate_hz
            stats.starttime = UTCDateTime(ns=int(waveform.start_ns))
            stats.network, stats.station, stats.location = channel.network, channel.station, channel.location
            stats.channel = channel.code
            if "calib" in waveform.metadata:
                stats.calib = waveform.metadata["calib"]
            if "mseed_dataquality" in waveform.metadata:
                stats.mseed = {"dataquality": waveform.metadata["mseed_dataquality"]}
            if waveform.unit is not None:
                stats.unit = waveform.unit
            stats.seislatent = _rest(channel, waveform.metadata)
            traces.append(trace)
    return Stream(traces)


def _rest(channel: Channel, metadata: dict[str, Any]) -> dict[str, Any]:
    """What ObsPy's header has no field for."""
    names = ("component", "latitude_deg", "longitude_deg", "elevation_m", "azimuth_deg", "dip_deg")
    return {name: getattr(channel, name) for name in names} | {"metadata": dict(metadata)}


def locate(waveforms: Sequence[Waveform], inventory: Inventory | str | Path) -> list[Waveform]:
    """The waveforms with coordinates, azimuth and dip from an inventory; a channel that it does not hold stays as it is."""
    from seislatent.io.inventory import describe, read_inventory

    stations = inventory if isinstance(inventory, Inventory) else read_inventory(inventory)
    return [replace(w, channels=tuple(describe(c, stations, w.start_ns) for c in w.channels)) for w in waveforms]


def iterate(path: str | Path, *, piece_bytes: int = 1 << 22) -> Iterator[Waveform]:
    """The waveforms of a file in pieces: miniSEED of any length in bounded memory, any other format read whole.

    miniSEED longer than `piece_bytes` is read trace by trace, each in order of time, in pieces of about `piece_bytes` on record
    boundaries. A piece that continues the one before it has `metadata["continues"] = True` and starts where that one ends.

    Raises:
        SeislatentError: as `read_stream`.
    """
    if detect(path) == "MSEED" and Path(path).stat().st_size > piece_bytes:
        from seislatent.io.miniseed import pieces

        yield from pieces(path, piece_bytes)
    else:
        yield from read(path)
