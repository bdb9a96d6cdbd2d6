"""Channels of one sensor as records of up to three components, whatever their gaps, overlaps, rates and order.

Z -----------   ------      |-----------|  |------|
2   -----====----       ->  |  ---------|  |      |    rows Z N E (or Z 1 2), NaN where a component has no sample
1 ------------------        |-----------|--|------|
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import obspy
from numpy.typing import NDArray

from seislatent.components import named
from seislatent.data.gather import SAME_RATE, sensor_of
from seislatent.io.traces import from_stream, samples_ns
from seislatent.systems.features.stretches import FASTEST_HZ, ROWS, SLOWEST_HZ
from seislatent.waveform import Waveform

Sensor = tuple[str, str, str, str]
"""Network, station, location and band code."""
TOUCH = 1.5
"""Segments that are no more samples apart follow each other."""
LARGEST = 1 << 28
"""Samples of a record at most: a gap of years would fill the memory."""


class Notes(list[str]):
    """What was left out or changed, each line once."""

    def add(self, text: str) -> None:
        """Tell one more thing."""
        if text not in self:
            self.append(text)


def by_sensor(source: Any) -> dict[Sensor, list[Waveform]]:
    """The single channels of an ObsPy stream or trace, of waveforms, or of both, by sensor; text and empty ones are left out."""
    found: dict[Sensor, list[Waveform]] = {}
    for one in _waveforms(source):
        if one.data.dtype.kind in "iuf" and one.data.shape[1] and one.sampling_rate_hz > 0:
            for k in range(len(one.data)):
                row = one.select([k])
                found.setdefault(sensor_of(row.channels[0]), []).append(row)
    return found


def _waveforms(source: Any) -> Iterator[Waveform]:
    if isinstance(source, Waveform):
        yield source
    elif isinstance(source, obspy.Trace):
        yield from from_stream([source])
    else:
        for one in source:
            yield from from_stream([one]) if isinstance(one, obspy.Trace) else [one]


def usable(blocks: Iterable[Sequence[Waveform]], notes: Notes, flexible: bool = True, strict: bool = False) -> Iterator[Waveform]:
    """Blocks of single channels of one sensor as records (see `joined`); rates that cannot be resampled well are told."""
    for block in blocks:
        good = []
        for one in block:
            if SLOWEST_HZ * (1 - 1e-6) <= one.sampling_rate_hz <= FASTEST_HZ:
                good.append(one)
            else:
                limits = f"{SLOWEST_HZ:g} to {FASTEST_HZ:g} Hz"
                notes.add(f"{one.ids[0]}: left out, for its rate is {one.sampling_rate_hz:g} Hz, not {limits}")
        yield from joined(good, notes, flexible=flexible, strict=strict)


def joined(waveforms: Sequence[Waveform], notes: Notes, *, flexible: bool = True, strict: bool = False) -> list[Waveform]:
    """Records of one sensor, each without a gap in all of its components at once, in order of time.

    Args:
        waveforms: single channels of one sensor in any order.
        notes: told what is left out: components that are none of Z N E (1 2 3), the slower or faster of two rates at one time,
            samples that overlap with other values.
        flexible: 1 and 2 stand for N and E where these are missing.
        strict: what does not have all three components is left out.
    """
    chosen = _components(waveforms, notes, flexible)
    taken: list[tuple[int, int]] = []
    records = []
    for group in _by_rate(chosen):
        for cluster in _clusters(group):
            begin, end = _span(cluster)
            interval = 1e9 / cluster[0][1].sampling_rate_hz
            if any(begin < b - interval and a + interval < end for a, b in taken):
                one = cluster[0][1]
                notes.add(
                    f"{one.ids[0]}: left out at {one.sampling_rate_hz:g} Hz, for its sensor has another rate at the same time"
                )
                continue
            taken.append((begin, end))
            made = _record(cluster, notes, strict)
            records += [] if made is None else [made]
    return sorted(records, key=lambda w: w.start_ns)


def _components(waveforms: Sequence[Waveform], notes: Notes, flexible: bool) -> list[tuple[int, Waveform]]:
    """Each channel with its row; of two names for one row the first of Z N E, 1 2, 3 counts."""
    known = [(w, named(w.channels[0])) for w in waveforms]
    have = {c.component for _, c in known}
    chosen = []
    for one, channel in known:
        component = channel.component
        if component not in ROWS:
            notes.add(f"{channel.id}: left out, for it is none of the components Z N E, 1 2 3")
        elif component in ("1", "2") and (not flexible or have & {"N", "E"}):
            why = "N and E are there too" if flexible else "horizontal components are to be N and E"
            notes.add(f"{channel.id}: left out, for {why}")
        elif component == "3" and "Z" in have:
            notes.add(f"{channel.id}: left out, for Z is there too")
        else:
            chosen.append((ROWS[component], replace(one, channels=(channel,))))
    return chosen


def _by_rate(chosen: Iterable[tuple[int, Waveform]]) -> list[list[tuple[int, Waveform]]]:
    """Channels of one rate together: first the rate at which there are most samples of Z, or most samples."""
    groups: list[list[tuple[int, Waveform]]] = []
    for row, one in chosen:
        mine = [g for g in groups if abs(g[0][1].sampling_rate_hz / one.sampling_rate_hz - 1) <= SAME_RATE]
        (mine[0] if mine else groups.append([]) or groups[-1]).append((row, one))  # type: ignore[func-returns-value]
    return sorted(groups, key=lambda g: (-sum(w.duration_s for row, w in g if row == 0), -sum(w.duration_s for _, w in g)))


def _clusters(group: Sequence[tuple[int, Waveform]]) -> list[list[tuple[int, Waveform]]]:
    """Segments that touch or overlap in time."""
    clusters: list[list[tuple[int, Waveform]]] = []
    end = 0
    for row, one in sorted(group, key=lambda item: (item[1].start_ns, item[0])):
        begin, stop = _span([(row, one)])
        if clusters and begin <= end + (TOUCH - 1) * 1e9 / one.sampling_rate_hz:
            clusters[-1].append((row, one))
            end = max(end, stop)
        else:
            clusters.append([(row, one)])
            end = stop
    return clusters


def _span(cluster: Sequence[tuple[int, Waveform]]) -> tuple[int, int]:
    """From the first sample to one past the last, in ns."""
    ends = [w.start_ns + samples_ns(w.data.shape[1], w.sampling_rate_hz) for _, w in cluster]
    return min(w.start_ns for _, w in cluster), max(ends)


def _record(cluster: Sequence[tuple[int, Waveform]], notes: Notes, strict: bool) -> Waveform | None:
    """Segments on the grid of the first: none is moved by more than half a sample."""
    first = cluster[0][1]
    rate, start = first.sampling_rate_hz, first.start_ns
    rows = sorted({row for row, _ in cluster})
    if strict and len(rows) < 3:
        notes.add(f"{', '.join(w.ids[0] for _, w in cluster[:3])}: left out, for not all of three components are there")
        return None
    whole = len(cluster) == len(rows) and len({(w.start_ns, w.data.shape) for _, w in cluster}) == 1
    in_order = sorted(cluster, key=lambda item: item[0])
    channels = tuple(next(w.channels[0] for r, w in in_order if r == row) for row in rows)
    if whole:
        data: NDArray[Any] = np.concatenate([w.data for _, w in in_order])
    else:
        at = [round((w.start_ns - start) * rate / 1e9) for _, w in cluster]
        count = max(a + w.data.shape[1] for a, (_, w) in zip(at, cluster, strict=True))
        data = np.full((len(rows), count), np.nan, np.result_type(np.float32, *(w.data.dtype for _, w in cluster)))
        twice = np.zeros((len(rows), count), bool)
        for a, (row, one) in zip(at, cluster, strict=True):
            _put(data[rows.index(row), a:], twice[rows.index(row), a:], one)
        for k in np.flatnonzero(twice.any(1)):
            data[k, twice[k]] = np.nan
            notes.add(
                f"{channels[k].id}: {int(twice[k].sum())} samples from {first.start_text} on have two values, and are left out"
            )
    if strict and data.dtype.kind == "f":
        data = np.where(np.isfinite(data).all(0), data, np.nan)
    return Waveform(data=data, sampling_rate_hz=rate, channels=channels, start_ns=start, unit=first.unit)


def _put(line: NDArray[Any], twice: NDArray[np.bool_], one: Waveform) -> None:
    """A segment into its place; where another value stands already, that is marked."""
    part = one.data[0]
    here = line[: len(part)]
    there = ~np.isnan(here)
    given = np.isfinite(part) if part.dtype.kind == "f" else np.ones(len(part), bool)
    twice[: len(part)] |= there & given & (here != part)
    fill = given & ~there
    here[fill] = part[fill]
