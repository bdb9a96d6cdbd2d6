"""ObsPy's traces as waveforms and back, with nothing lost on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seislatent.components import named
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

_UNDEFINED = -12345.0  # SAC's mark for a header field that was not set


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
        "sampling_rate_hz": rate, "channels": (channel_of(stats),), "unit": _unit(stats), "metadata": metadata_of(stats),
    }  # fmt: skip
    whole = np.asarray(np.ma.getdata(trace.data))
    if whole.dtype.kind in "SU":
        common["unit"] = None
    masked = np.ma.is_masked(trace.data)
    runs = _runs(~np.ma.getmaskarray(trace.data)) if masked else [(0, len(whole))]
    told = tuple(stats.get("seislatent", {}).get("history", ()))
    for a, b in runs:
        history = (*told, f"masked: samples {a} to {b} of {len(whole)}") if masked else told
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


def channel_of(stats: Any) -> Channel:
    """Identity, coordinates and direction as far as the file's header gives them."""
    given = stats.get("seislatent", {})
    sac, knet, coordinates = stats.get("sac", {}), stats.get("knet", {}), stats.get("coordinates", {})
    inclination = _number(sac.get("cmpinc"))
    found = {
        "latitude_deg": (coordinates.get("latitude"), sac.get("stla"), knet.get("stla")),
        "longitude_deg": (coordinates.get("longitude"), sac.get("stlo"), knet.get("stlo")),
        "elevation_m": (coordinates.get("elevation"), sac.get("stel"), knet.get("stel")),
        "azimuth_deg": (sac.get("cmpaz"),),
        "dip_deg": (None if inclination is None else inclination - 90,),  # SAC: from vertical up; SEED: down from level
    }
    values: dict[str, Any] = {
        name: next((n for n in map(_number, options) if n is not None), None) for name, options in found.items()
    }
    same = given.get("code") == stats.channel  # a trace that was rotated or renamed since has lost its old direction
    values |= {name: given[name] for name in values if name in given and (same or name not in ("azimuth_deg", "dip_deg"))}
    channel = Channel(network=stats.network, station=stats.station, location=stats.location, code=stats.channel, **values)
    return named(replace(channel, component=given.get("component", "") if same else ""))


def _unit(stats: Any) -> str | None:
    """The unit, where the file says it."""
    for key in ("unit", "units"):
        if isinstance(stats.get(key), str) and stats[key].strip():
            return str(stats[key]).strip()
    return "counts" if stats.get("_format") in ("KNET", "GSE1", "GSE2") else None


def metadata_of(stats: Any) -> dict[str, Any]:
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
        names = {"evla": "source_latitude_deg", "evlo": "source_longitude_deg", "mag": "source_magnitude"}
        names |= {"evdp": "source_depth_km"} if header == "knet" else {"dist": "path_ep_distance_km"}
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
            if waveform.metadata.get("mseed_dataquality") in ("D", "R", "Q", "M"):
                stats.mseed = {"dataquality": waveform.metadata["mseed_dataquality"]}
            if waveform.unit is not None:
                stats.unit = waveform.unit
            stats.seislatent = _rest(channel, waveform)
            traces.append(trace)
    return Stream(traces)


def _rest(channel: Channel, waveform: Waveform) -> dict[str, Any]:
    """What ObsPy's header has no field for."""
    names = ("code", "component", "latitude_deg", "longitude_deg", "elevation_m", "azimuth_deg", "dip_deg")
    rest = {name: getattr(channel, name) for name in names}
    return rest | {"history": tuple(waveform.history), "metadata": dict(waveform.metadata)}
