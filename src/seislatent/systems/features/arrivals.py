"""Peaks of an annotation as arrivals, in order of time, while the stream still runs.

    Annotation, Annotation, ... --highest within `distance_s` on both sides, above the threshold--> Arrival, Arrival, ...

Whether a peak is an arrival depends on nothing farther off than `distance_s`: neither on where a block ends nor on where the file
was cut. That S comes after P is not enforced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from seislatent.errors import SeislatentError, unknown
from seislatent.systems.base import Annotator, Pick
from seislatent.systems.features.annotate import Annotation, annotation_blocks
from seislatent.waveform import Waveform

DISTANCE_S = 1.0
"""Between two arrivals of one phase at least, in s."""
REACH_S = 10.0
"""How far before and after its peak an arrival begins and ends at most, in s."""
FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A peak of a phase's probability."""

    phase: str
    time_ns: int
    """Of the peak, in ns since 1970, between two samples where the parabola through their logarithms says so."""
    probability: float
    """At the highest sample."""
    uncertainty_s: float
    """Standard deviation of the time, in s, as the annotator was calibrated; NaN where it was not."""
    begin_ns: int
    """First sample of the stretch above the threshold."""
    end_ns: int
    """Last sample of it."""


def chosen_thresholds(system: Annotator, given: Mapping[str, float] | None = None) -> dict[str, float]:
    """The threshold of each phase: the annotator's own but for those given.

    Raises:
        SeislatentError: a phase that the annotator does not know, or a threshold that is not above 0 and at most 1.
    """
    out = {phase: float(system.thresholds.get(phase, 0.5)) for phase in system.phases}
    for phase, value in (given or {}).items():
        if phase not in out:
            raise SeislatentError(unknown("phase", phase, out))
        if not 0 < value <= 1:
            raise SeislatentError(f"a threshold of {value:g} for {phase}: give a probability above 0 and at most 1")
        out[phase] = float(value)
    return out


def arrivals(
    system: Annotator,
    pieces: Waveform | Iterable[Waveform],
    *,
    thresholds: Mapping[str, float] | None = None,
    distance_s: float = DISTANCE_S,
    **how: Any,
) -> Iterator[Arrival]:
    """The arrivals of a stream of any length, in bounded memory, a few windows behind the pieces that are read.

    Args:
        system: the annotator.
        pieces: as for `annotate.annotation_blocks`.
        thresholds: of some phases, instead of the annotator's own.
        distance_s: of two peaks of a phase that are nearer, in s, the higher one counts, of equal ones the earlier.
        how: as for `annotate.annotation_blocks`.
    """
    yield from peaks(annotation_blocks(system, pieces, **how), system, thresholds=thresholds, distance_s=distance_s)


def peaks(
    blocks: Iterable[Annotation],
    system: Annotator,
    *,
    thresholds: Mapping[str, float] | None = None,
    distance_s: float = DISTANCE_S,
) -> Iterator[Arrival]:
    """The arrivals in blocks of answers that an annotator has given."""
    level = chosen_thresholds(system, thresholds)
    if not 0 <= distance_s <= 3600:
        raise SeislatentError(f"a distance of {distance_s:g} s between arrivals: give 0 to 3600")
    context = round(max(distance_s, REACH_S) * system.sampling_rate_hz) + 2
    held: Annotation | None = None
    done = 0
    for block in blocks:
        if held is not None and held.first + len(held.valid) != block.first:
            yield from _found(held, done, held.first + len(held.valid), system, level, distance_s)
            held = None
        done = block.first if held is None else done
        held = block if held is None else _joined(held, block)
        settled = held.first + len(held.valid) - context
        if settled > done:
            yield from _found(held, done, settled, system, level, distance_s)
            done, held = settled, _from(held, settled - context)
    if held is not None:
        yield from _found(held, done, held.first + len(held.valid), system, level, distance_s)


def picked(system: Annotator, waveform: Waveform, **how: Any) -> list[Pick]:
    """The picks of one record, in its own samples; arguments as of `arrivals`."""
    rate, start = waveform.sampling_rate_hz, waveform.start_ns
    return [
        Pick(phase=a.phase, sample=(a.time_ns - start) / 1e9 * rate, probability=a.probability, uncertainty_s=a.uncertainty_s)
        for a in arrivals(system, waveform, **how)
    ]


def _joined(one: Annotation, other: Annotation) -> Annotation:
    count = len(one.valid)
    return replace(
        one,
        probabilities=np.concatenate([one.probabilities, other.probabilities], 1),
        valid=np.concatenate([one.valid, other.valid]),
        clock=(*one.clock, *((at + count, ns) for at, ns in other.clock)),
    )


def _from(one: Annotation, first: int) -> Annotation:
    """The same from a sample on."""
    cut = max(0, first - one.first)
    known = [k for k, (at, _) in enumerate(one.clock) if at <= cut]
    clock = tuple((at - cut, ns) for at, ns in one.clock[known[-1] if known else 0 :])
    return replace(one, probabilities=one.probabilities[:, cut:], valid=one.valid[cut:], first=one.first + cut, clock=clock)


def _found(
    held: Annotation, low: int, high: int, system: Annotator, level: Mapping[str, float], distance_s: float
) -> Iterator[Arrival]:
    """Arrivals whose highest sample is in [low, high), counted since 1970."""
    apart = max(1, round(distance_s * held.sampling_rate_hz))
    out = []
    for phase, p in zip(held.phases, held.probabilities, strict=True):
        for at in _highest(p, held.valid, level[phase], apart):
            if low <= held.first + at < high:
                begin, end = _extent(p, at, level[phase], round(REACH_S * held.sampling_rate_hz))
                probability = float(p[at])
                out.append(
                    Arrival(
                        phase=phase, time_ns=held.time_ns(at + _beside(p, at)), probability=probability,
                        uncertainty_s=float(system.uncertainty_s(phase, probability)),
                        begin_ns=held.time_ns(begin), end_ns=held.time_ns(end),
                    )
                )  # fmt: skip
    yield from sorted(out, key=lambda a: (a.time_ns, a.phase))


def _highest(p: NDArray[np.float32], valid: NDArray[np.bool_], threshold: float, apart: int) -> list[int]:
    """Samples that are the highest, the first of equal ones, within `apart` samples, and have answers on both sides."""
    at = np.flatnonzero(p >= threshold)
    at = at[(at > 0) & (at < len(p) - 1)]
    if not len(at):
        return []
    at = at[valid[at] & valid[at - 1] & valid[at + 1] & (p[at] > p[at - 1]) & (p[at] >= p[at + 1])]
    if not len(at):
        return []
    highest = maximum_filter1d(p, 2 * apart + 1, mode="constant", cval=0.0)
    return [int(k) for k in at[p[at] == highest[at]] if p[max(0, k - apart) : k].max() < p[k]]


def _beside(p: NDArray[np.float32], at: int) -> float:
    """From the highest sample to the top of the parabola through the logarithms of three, or to the middle of a plateau."""
    if p[at + 1] == p[at]:
        longest = min(len(p) - at, 1000)
        lower = np.flatnonzero(p[at : at + longest] < p[at])
        return float((lower[0] - 1 if len(lower) else longest - 1) / 2)
    a, b, c = np.log(np.maximum(p[at - 1 : at + 2].astype(np.float64), FLOOR))
    bend = a - 2 * b + c
    return float(np.clip(0.5 * (a - c) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _extent(p: NDArray[np.float32], at: int, threshold: float, reach: int) -> tuple[int, int]:
    """First and last sample of the stretch above the threshold around a peak."""
    low, high = max(0, at - reach), min(len(p), at + reach + 1)
    before = np.flatnonzero(p[low:at] < threshold)
    after = np.flatnonzero(p[at:high] < threshold)
    return int(low + before[-1] + 1 if len(before) else low), int(at + after[0] - 1 if len(after) else high - 1)
