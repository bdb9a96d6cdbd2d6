"""Pieces of one station's record, at any rate, onto the rate and rows of an annotator, as they come.

    Waveform, Waveform, ... --rows Z N E--> resampled --samples counted since 1970--> Part, Part, ...

The grid of a stretch is that of its first sample: nothing is moved by a fraction of a sample. What a sample's time is, every piece
says anew (`Part.start_ns`), so that a clock that runs fast or slow adds up to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.prepare.flow import Flow
from seislatent.waveform import Waveform

ROWS = {"Z": 0, "N": 1, "E": 2, "3": 0, "1": 1, "2": 2}
"""The row of each component; 1, 2 and 3 are those of a sensor that is not oriented."""
SLOWEST_HZ, FASTEST_HZ = 20.0, 1000.0
LARGEST = 1e30
"""Larger samples count as none: float32 must hold their squares' sums."""
AT_ONCE = 1 << 18
"""Samples of a piece that are taken at a time."""
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Samples that follow those of the part before, or begin a stretch."""

    first: int
    """Number of the first sample, counted since 1970 at the annotator's rate."""
    start_ns: int
    """Its time, in ns since 1970."""
    data: NDArray[np.float64]
    """[Z N E, time], finite: bridged where `given` is False, 0 where a component is missing."""
    given: NDArray[np.bool_]
    """[Z N E, time]: False in gaps and where a component is missing."""


def parts(pieces: Waveform | Iterable[Waveform], rate_hz: float) -> Iterator[Part]:
    """The samples of consecutive pieces, at `rate_hz`.

    Pieces are in order of time, each with up to three of the components Z N E (or 1 2 3) in any order, in any unit. A piece that
    begins within a sample of where the one before ends goes on with it; what overlaps is taken from the earlier one. Not finite
    samples are gaps.

    Raises:
        SeislatentError: samples that are no numbers, a rate outside 20 to 1000 Hz, an unknown or repeated component, or a piece
            that begins before an earlier one.
    """
    flow: _Rows | None = None
    begun: int | None = None
    for piece in [pieces] if isinstance(pieces, Waveform) else pieces:
        if piece.data.size == 0:
            continue
        rows, rate = rows_of(piece), piece.sampling_rate_hz
        if begun is not None and piece.start_ns < begun:
            raise SeislatentError(f"{_named(piece)} begins at {piece.start_text}, before the piece before it: give pieces in order")
        begun = piece.start_ns
        skip = 0
        if flow is not None:
            late = (piece.start_ns - flow.end_ns) * rate / 1e9
            if late < -1:  # an overlap: what came first stays
                skip = math.ceil(-late - 0.5)
            if late > 1 or rows != flow.rows or abs(rate / flow.rate_hz - 1) > 1e-6:
                yield from flow.close()
                flow = None
        if skip >= piece.data.shape[1]:
            continue
        flow = flow or _Rows(rows, rate, rate_hz, piece.start_ns + round(skip / rate * 1e9))
        for at in range(skip, piece.data.shape[1], AT_ONCE):
            start_ns = piece.start_ns + round(Fraction(at) * 10**9 / Fraction(rate))
            yield from flow.feed(piece.data[:, at : at + AT_ONCE], start_ns)
    if flow is not None:
        yield from flow.close()


def rows_of(piece: Waveform) -> tuple[int, ...]:
    """Where each row of a piece belongs. Raises SeislatentError for what cannot be annotated."""
    name = _named(piece)
    if piece.data.dtype.kind not in "biuf":
        raise SeislatentError(f"{name} holds {piece.data.dtype}, no numbers: leave this channel out")
    if not SLOWEST_HZ * (1 - 1e-6) <= piece.sampling_rate_hz <= FASTEST_HZ:
        told = f"{name} has {piece.sampling_rate_hz:g} Hz: streams of {SLOWEST_HZ:g} to {FASTEST_HZ:g} Hz can be annotated"
        raise SeislatentError(f"{told}; leave it out, or resample it first")
    strange = [c.id for c in piece.channels if c.component not in ROWS]
    if strange:
        raise SeislatentError(f"{', '.join(strange)}: components are Z N E or 1 2 3; rename the channel, orient it or leave it out")
    rows = tuple(ROWS[c] for c in piece.components)
    if len(set(rows)) < len(rows):
        raise SeislatentError(f"{name}: components {', '.join(piece.components)} do not stand beside each other: choose one sensor")
    return rows


def _named(piece: Waveform) -> str:
    return ", ".join(piece.ids) or "a piece without channels"


class _Rows:
    """The rows of one stretch between two gaps of all components, on their way to the annotator's rate."""

    def __init__(self, rows: Sequence[int], rate_hz: float, rate_out_hz: float, start_ns: int):
        self.rows, self.rate_hz, self.rate_out_hz = tuple(rows), rate_hz, rate_out_hz
        day = start_ns // DAY_NS * DAY_NS  # not since 1970: a count of ten digits would cost the resampler its fractions
        first = round((start_ns - day) * rate_hz / 1e9)
        self.flows = [Flow(rate_hz, rate_out_hz, first) for _ in rows]
        self.ratio = 1.0 if self.flows[0].resampler.identity else self.flows[0].resampler.ratio
        self.next = self.flows[0].next
        """The next output, counted as the resampler does: from the beginning of the day."""
        at_ns = start_ns + (self.next * self.ratio - first) / rate_hz * 1e9
        # whole samples and the middle between two of them are where digitizers stand: neither is a border
        number = math.floor(Fraction(round(at_ns)) * Fraction(rate_out_hz) / 10**9 + Fraction(3, 10))
        self.shift = number - self.next
        self.anchors = [(first, start_ns)]
        """Input samples whose time is known: the first of each piece."""
        self.last = [0.0] * len(self.rows)
        self.bad: list[list[tuple[int, int]]] = [[] for _ in rows]
        """Input samples [a, b) that are no numbers."""

    @property
    def end_ns(self) -> int:
        """Where the next sample is expected."""
        at, ns = self.anchors[-1]
        return ns + round((self.flows[0].end - at) / self.rate_hz * 1e9)

    def feed(self, data: NDArray[Any], start_ns: int) -> Iterator[Part]:
        """More samples [row time]; the parts that they settle."""
        at = self.flows[0].end
        self.anchors.append((at, start_ns))
        settled = []
        for k, flow in enumerate(self.flows):
            line = np.asarray(data[k], np.float64)
            with np.errstate(invalid="ignore"):
                good = np.abs(line) <= LARGEST
            if not good.all():
                edges = np.flatnonzero(np.diff(good, prepend=True, append=True)) + at
                self.bad[k] += [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
                line = _bridged(line, good, self.last[k])
            self.last[k] = float(line[-1])
            settled.append(flow.feed(line))
        yield from self._parts(settled)

    def close(self) -> Iterator[Part]:
        """The rest, the last value held."""
        yield from self._parts([flow.close() for flow in self.flows])

    def _parts(self, settled: list[NDArray[np.float64]]) -> Iterator[Part]:
        count = len(settled[0])
        if not count:
            return
        data, given = np.zeros((3, count)), np.zeros((3, count), bool)
        begin = self.next
        for row, line, bad in zip(self.rows, settled, self.bad, strict=True):
            data[row], given[row] = line, True
            for a, b in bad:
                low, high = math.floor(a / self.ratio) - begin, math.ceil(b / self.ratio) - begin
                given[row, max(low, 0) : max(high, 0)] = False
        self.next += count
        reached = (self.next - 1) * self.ratio
        self.bad = [[(a, b) for a, b in bad if b > reached] for bad in self.bad]
        cuts = [max(math.ceil(at / self.ratio - 1e-9), begin) for at, _ in self.anchors] + [self.next]
        for (at, ns), low, high in zip(self.anchors, cuts, cuts[1:], strict=False):
            high = min(high, self.next)
            if high > low:
                time = ns + round((low * self.ratio - at) / self.rate_hz * 1e9)
                span = slice(low - begin, high - begin)
                yield Part(first=low + self.shift, start_ns=time, data=data[:, span], given=given[:, span])
        behind = [k for k, (at, _) in enumerate(self.anchors) if math.ceil(at / self.ratio - 1e-9) <= self.next]
        self.anchors = self.anchors[behind[-1] if behind else 0 :]


def _bridged(line: NDArray[np.float64], good: NDArray[np.bool_], before: float) -> NDArray[np.float64]:
    """Straight lines over what is no number, so that the resampler sees no step."""
    at = np.flatnonzero(good)
    if not len(at):
        return np.full(len(line), before)
    return np.interp(np.arange(len(line)), at, line[at])
