"""From single channels to records: the components of one sensor on one time grid.

gather([HHZ, HHN, HHN, HHE, HHE]):

    Z  ------------------          Z  |--------------|
    N     --------   -------   ->  N  |--------NaN---|     float64 where there is a gap, else the type as it was
    E  ------====----              E  |--------------|     segments that overlap must agree
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.components import UNORIENTED, WHOLE, azimuth_of, named, unoriented
from seislatent.errors import SeislatentError
from seislatent.prepare.marks import moved
from seislatent.waveform import Channel, Waveform

log = logging.getLogger(__name__)

LARGEST = 1 << 28
"""A record of more samples per component is refused: two traces years apart would fill the memory with their gap."""

SAME_RATE = 1e-6
"""Rates this close are one: SAC keeps the interval as float32, which is 100.000002 Hz."""

INSTEAD = {"Z": "3", "N": "1", "E": "2"}
"""What stands for a component where the sensor is not oriented."""

_OF_ONE_TRACE = frozenset(
    {
        "trace_name", "trace_name_original", "trace_channel", "trace_channel_codes", "trace_component_order", "trace_npts",
        "trace_start_time", "continues", "calib",
    }
)  # fmt: skip
"""Metadata that say nothing about the record as a whole."""


class Unfit(SeislatentError):
    """Channels that make no record; `reason` has few words and is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass
class _Row:
    """One component: its segments, each at a whole sample of the grid."""

    channel: Channel
    segments: list[Waveform] = field(default_factory=list)
    at: list[int] = field(default_factory=list)

    @property
    def first(self) -> int:
        return min(self.at)

    @property
    def end(self) -> int:
        return max(a + w.data.shape[1] for a, w in zip(self.at, self.segments, strict=True))


def sensor_of(channel: Channel) -> tuple[str, str, str, str]:
    """Network, station, location and band code: what the channels of one sensor share.

    The band code is the channel code without its component: HH of HHZ, HN of HN135, 2 of KiK-net's NS2, nothing of UD.
    """
    code = channel.code.strip()
    if code.upper() in WHOLE:
        band = code[len(code.rstrip("0123456789")) :]
    elif "_" in code:
        band = code.rsplit("_", 1)[0]
    else:
        band = code[:-3] if azimuth_of(code) is not None else code[:-1]
    return channel.network, channel.station, channel.location, band


def duplicates(waveforms: Sequence[Waveform]) -> list[int]:
    """Positions of records that repeat an earlier one: same ids, start, rate and samples."""
    seen: dict[Any, list[int]] = {}
    found = []
    for i, one in enumerate(waveforms):
        same = seen.setdefault((one.ids, one.start_ns, one.sampling_rate_hz, one.data.shape, one.data.dtype.str), [])
        if any(waveforms[k].data.tobytes() == one.data.tobytes() for k in same):
            found.append(i)
        else:
            same.append(i)
    return found


def group_by_sensor(waveforms: Sequence[Waveform]) -> dict[tuple[str, str, str, str], list[Waveform]]:
    """Records of single channels by network, station, location and band code, each list in order of time.

    A record that repeats an earlier one is left out; one line of the log counts them (`duplicates` names them).
    """
    repeated = set(duplicates(waveforms))
    if repeated:
        first = waveforms[min(repeated)]
        log.warning("%d records stand twice and are taken once, such as %s at %s", len(repeated), first.ids[0], first.start_text)
    groups: dict[tuple[str, str, str, str], list[Waveform]] = {}
    for i, one in enumerate(waveforms):
        if i not in repeated and one.channels:
            groups.setdefault(sensor_of(one.channels[0]), []).append(one)
    return {key: sorted(group, key=lambda w: w.start_ns) for key, group in groups.items()}


def gather(waveforms: Sequence[Waveform], *, order: str | Sequence[str] = "ZNE") -> Waveform:
    """One record [component time] of the channels of one sensor.

    Starts that differ by a fraction of a sample come onto the grid of the first component (at most half a sample is moved, and the
    history says how much); the record is cut to the span that all components cover, from the first to the last sample of each.
    Segments of a channel are merged. A gap inside is NaN and makes the record float64; without a gap the type stays.

    Args:
        waveforms: channels of one sensor (`group_by_sensor`), in any order, several segments per channel.
        order: components of the record, in this order. Where there is neither N nor E, 1 and 2 stand for them (and 3 for a missing
            Z), kept as recorded: `seislatent.prepare.orient.orient` turns them with an inventory.

    Raises:
        Unfit: with `reason` one of: no samples, no numbers, several sensors, unknown component code, missing component,
            different sampling rates, different units, overlap disagrees, no common span, too long.
    """
    pieces = [w.select([i]) for w in waveforms if w.data.shape[1] for i in range(len(w.data))]
    ids = sorted({w.ids[0] for w in pieces}) or sorted({name for w in waveforms for name in w.ids})
    names = ", ".join(ids[:6]) + (", ..." if len(ids) > 6 else "")
    if not pieces:
        raise Unfit("no samples", names or "no records given")
    rows = _choose(_rows(pieces, names), tuple(order), names)
    used = [w for row in rows for w in row.segments]
    rate = _alike(used, names)
    apart = _place(rows, rate)
    first, end = max(row.first for row in rows), min(row.end for row in rows)
    if end <= first:
        raise Unfit("no common span", f"the components of {names} do not overlap in time")
    if end - first > LARGEST:
        raise Unfit("too long", f"{names} share {end - first} samples with their gaps; give at most {LARGEST} at once")
    merged = [_merge(row, first, end) for row in rows]
    gaps = sum(int((~given).sum()) for _, given in merged)
    kept = np.result_type(*(samples.dtype for samples, _ in merged))
    data = np.stack([samples for samples, _ in merged]).astype(np.float64 if gaps else kept, copy=False)
    for samples, (_, given) in zip(data, merged, strict=True) if gaps else ():
        samples[~given] = np.nan
    grid = min(rows[0].segments, key=lambda w: w.start_ns)
    start_ns = grid.start_ns + round((first - rows[0].first) * 1e9 / rate)
    return Waveform(
        data=data, sampling_rate_hz=rate, channels=tuple(row.channel for row in rows), start_ns=start_ns, unit=used[0].unit,
        history=_history(rows, apart, end - first, gaps, data.size), metadata=_metadata(rows, first, end),
    )  # fmt: skip


def _rows(pieces: Sequence[Waveform], names: str) -> dict[str, _Row]:
    """The segments of each component."""
    sensors = {sensor_of(w.channels[0]) for w in pieces}
    if len(sensors) > 1:
        told = ", ".join(".".join(s) for s in sorted(sensors))
        raise Unfit("several sensors", f"{names} belong to {told}: gather one at a time (group_by_sensor)")
    rows: dict[str, _Row] = {}
    for piece in pieces:
        channel = named(piece.channels[0])
        if not channel.component:
            raise Unfit("unknown component code", f"the channel code of {channel.id} names no known component")
        row = rows.setdefault(channel.component, _Row(channel))
        if row.channel.code != channel.code:
            raise Unfit("several sensors", f"{row.channel.id} and {channel.id} are both {channel.component}: leave one out")
        row.segments.append(piece)
    return rows


def _choose(rows: dict[str, _Row], order: tuple[str, ...], names: str) -> list[_Row]:
    """The rows asked for; 1 and 2 stand for N and E only together, so that no record mixes two frames."""
    chosen: list[_Row] = []
    level = not rows.keys() & {"N", "E"}
    for component in order:
        found = component if component in rows or (component in "NE" and not level) else INSTEAD.get(component, component)
        if found not in rows:
            raise Unfit("missing component", f"{component} is not among {', '.join(sorted(rows))} of {names}")
        chosen.append(rows[found])
    return chosen


def _alike(pieces: Sequence[Waveform], names: str) -> float:
    """The rate of all pieces; what cannot stand in one array is refused."""
    strange = {str(w.data.dtype) for w in pieces if w.data.dtype.kind not in "iuf"}
    if strange:
        raise Unfit("no numbers", f"samples of type {', '.join(sorted(strange))} in {names}")
    rates = sorted({w.sampling_rate_hz for w in pieces})
    if rates[-1] > rates[0] * (1 + SAME_RATE):
        raise Unfit("different sampling rates", f"{', '.join(f'{r:g}' for r in rates)} Hz in {names}")
    units = {w.unit for w in pieces}
    if len(units) > 1:
        raise Unfit("different units", f"{', '.join(sorted(u or 'not known' for u in units))} in {names}")
    return pieces[0].sampling_rate_hz


def _place(rows: Sequence[_Row], rate: float) -> float:
    """Put every segment at a whole sample of the first component's grid; how far one moves at most, in samples."""
    zero = min(w.start_ns for w in rows[0].segments)
    apart = 0.0
    for row in rows:
        exact = [(int(w.start_ns) - int(zero)) * rate / 1e9 for w in row.segments]
        row.at = [round(e) for e in exact]
        apart = max(apart, *(abs(e - a) for e, a in zip(exact, row.at, strict=True)))
    return apart


def _merge(row: _Row, first: int, end: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Samples [time] of one component from `first` to `end`, and where there are any."""
    if len(row.segments) == 1 and row.first <= first and row.end >= end:
        samples = row.segments[0].data[0, first - row.first : end - row.first]
        return samples, _given(samples)
    samples = np.zeros(end - first, np.result_type(*(w.data.dtype for w in row.segments)))
    given = np.zeros(end - first, bool)
    for at, segment in zip(row.at, row.segments, strict=True):
        a, b = max(at, first), min(at + segment.data.shape[1], end)
        if b <= a:
            continue
        part, here = segment.data[0, a - at : b - at], slice(a - first, b - first)
        told = _given(part)
        both = given[here] & told
        if not np.array_equal(samples[here][both], part[both]):
            wrong = int((samples[here][both] != part[both]).sum())
            raise Unfit("overlap disagrees", f"{wrong} samples of {row.channel.id} around {segment.start_text} have two values")
        samples[here][told] = part[told]
        given[here] |= told
    return samples, given


def _given(samples: NDArray[Any]) -> NDArray[np.bool_]:
    """Where there is a sample: NaN is a gap that the file had already."""
    return ~np.isnan(samples) if samples.dtype.kind == "f" else np.ones(len(samples), bool)


def _metadata(rows: Sequence[_Row], first: int, end: int) -> dict[str, Any]:
    """What the segments say and none contradicts; sample numbers count from the record's start."""
    together: dict[str, Any] = {}
    disputed: set[str] = set()
    for row in rows:
        for at, segment in zip(row.at, row.segments, strict=True):
            for name, value in moved(segment.metadata, offset=first - at, length=end - first).items():
                if name in _OF_ONE_TRACE or value is None or value != value:
                    continue
                if together.setdefault(name, value) != value:
                    disputed.add(name)
    factors = {w.metadata.get("calib", 1.0) for row in rows for w in row.segments}
    told = {"calib": factors.pop()} if len(factors) == 1 and factors != {1.0} else {}
    return {name: value for name, value in together.items() if name not in disputed} | told


def _history(rows: Sequence[_Row], apart: float, length: int, gaps: int, size: int) -> tuple[str, ...]:
    """What the segments went through, and what was done here."""
    before = tuple(dict.fromkeys(line for row in rows for w in row.segments for line in w.history))
    components = ", ".join(row.channel.component for row in rows)
    longest = max(row.end for row in rows) - min(row.first for row in rows)
    did = [f"gathered {components}"]
    merged = [f"{row.channel.component} of {len(row.segments)}" for row in rows if len(row.segments) > 1]
    did += [f"merged {', '.join(merged)} segments"] if merged else []
    did += [f"moved by up to {apart:.2g} samples onto the grid of {rows[0].channel.component}"] if apart > 1e-6 else []
    did += [f"cut to the common span, {length} of {longest} samples"] if length < longest else []
    did += [f"gaps of {gaps} samples ({100 * gaps / size:.2g} %) are NaN"] if gaps else []
    factors = {row.channel.component: row.segments[0].metadata.get("calib", 1.0) for row in rows}
    if len(set(factors.values())) > 1:
        did.append(f"calib differs: {', '.join(f'{c} {f:g}' for c, f in factors.items())}")
    loose = any(unoriented(row.channel) for row in rows)
    return (*before, "; ".join(did), *([f"{UNORIENTED}: components {components} as recorded"] if loose else []))
