"""An annotator over a stream of any length: probabilities of each phase at every sample, in blocks of bounded memory.

    pieces --stretches.parts--> samples at the annotator's rate --windows at multiples of the hop since 1970--> network
           --without `blinding` at both ends, stacked--> Annotation, Annotation, ... (arrivals.py: their peaks)

An answer depends on `margin` samples on either side of it and on where its window begins. Windows that overlap by 2 * margin and
are cut by margin at both ends therefore give every sample once, with its whole context; where they begin is told by the clock
alone, so that a file that was cut elsewhere has the same answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from seislatent.errors import SeislatentError, unknown
from seislatent.systems.base import Annotator
from seislatent.systems.features.stretches import Part, parts
from seislatent.waveform import Waveform

STACKING = ("max", "avg")
EDGE_S = 0.5
"""So near to a gap, to an end of the record, or to where a component comes or goes, there is no answer, in s."""
CONSTANT_S = 2.0
"""A component that does not move for so long, in s, is none there."""
AT_ONCE = 1 << 16
"""Samples that go through a network at once: what a processor's caches hold is twice as fast as what they do not."""
LARGEST = 1 << 28
"""Samples that `annotation` gives at once; `annotation_blocks` has no limit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotation:
    """Probabilities of each phase at consecutive samples."""

    phases: tuple[str, ...]
    probabilities: NDArray[np.float32]
    """[phase time]; 0 where `valid` is False."""
    valid: NDArray[np.bool_]
    """[time]: False in gaps and within `EDGE_S` of their ends, and where no component has samples."""
    sampling_rate_hz: float
    first: int
    """Number of the first sample, counted since 1970."""
    clock: tuple[tuple[int, int], ...]
    """From which sample (counted from the first) on a time, in ns since 1970, is known anew; the first is that of sample 0."""

    @property
    def start_ns(self) -> int:
        """Time of the first sample, in ns since 1970."""
        return self.time_ns(0)

    def time_ns(self, sample: float) -> int:
        """Time of a sample, or of a place between two, in ns since 1970."""
        known = [one for one in self.clock if one[0] <= sample] or self.clock[:1]
        at, ns = known[-1]
        return ns + round((sample - at) / self.sampling_rate_hz * 1e9)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How windows of an annotator lie, in samples at its rate."""

    length: int
    hop: int
    left: int
    """Of a window's answers, those that do not count at its beginning."""
    right: int
    """And at its end."""


def windows(system: Annotator, overlap: float | None = None, blinding: int | tuple[int, int] | None = None) -> Windows:
    """The windows that an annotator is given.

    Args:
        system: tells samples, margin and stride.
        overlap: of neighbouring windows, in samples, or below 1 as a share of a window; 2 * margin by default. Made larger by less
            than a stride where windows would not begin at multiples of it.
        blinding: samples at both ends of a window whose answers do not count, or one number for each end; margin by default.

    Raises:
        SeislatentError: windows that leave samples without an answer, or do not move on.
    """
    length, stride, margin = int(system.samples), int(system.stride), int(system.margin)
    cut = (blinding, blinding) if isinstance(blinding, int) else blinding
    left, right = (margin, margin) if cut is None else (int(cut[0]), int(cut[1]))
    if left < 0 or right < 0 or left + right >= length:
        raise SeislatentError(
            f"blinding of {left} and {right} samples: windows have {length}; give numbers from 0 up that leave some"
        )
    asked = 2.0 * margin if overlap is None else float(overlap)
    asked = asked * length if overlap is not None and 0 < asked < 1 else asked
    if not 0 <= asked < length:
        raise SeislatentError(f"an overlap of {overlap}: give 0 to {length - stride} samples, or a share of the window below 1")
    hop = (length - math.ceil(asked)) // stride * stride
    if hop < stride:
        raise SeislatentError(
            f"windows of {length} samples that overlap by {overlap} do not move on: give at most {length - stride}"
        )
    if hop > length - left - right:
        told = (
            f"windows that overlap by {length - hop} samples leave some without answer, for {left} + {right} at their ends do not"
        )
        raise SeislatentError(f"{told} count: give an overlap of at least {left + right}, or a smaller blinding")
    return Windows(length=length, hop=hop, left=left, right=right)


def batch_of(system: Annotator, batch_size: int | None = None) -> int:
    """Windows at once. Raises SeislatentError for less than one."""
    if batch_size is not None and batch_size < 1:
        raise SeislatentError(f"batches of {batch_size} windows: give at least 1")
    return max(1, AT_ONCE // int(system.samples)) if batch_size is None else int(batch_size)


def annotation_blocks(
    system: Annotator,
    pieces: Waveform | Iterable[Waveform],
    *,
    overlap: float | None = None,
    blinding: int | tuple[int, int] | None = None,
    stacking: str = "max",
    batch_size: int | None = None,
) -> Iterator[Annotation]:
    """Blocks of answers in order of time; a block goes on where the one before ended, or begins a new stretch after a gap.

    Args:
        system: the annotator; it is asked in inference mode, on its own device.
        pieces: as `stretches.parts` takes them; read as answers are asked for.
        overlap: as for `windows`.
        blinding: as for `windows`.
        stacking: where windows overlap in what counts, the largest answer ("max") or the mean ("avg").
        batch_size: windows that go through the network at once; as many as hold `AT_ONCE` samples by default.

    Raises:
        SeislatentError: as `windows` and `stretches.parts`.
    """
    if stacking not in STACKING:
        raise SeislatentError(unknown("stacking", stacking, STACKING))
    batch = batch_of(system, batch_size)
    shape = windows(system, overlap, blinding)
    stretch: _Stretch | None = None
    for part in parts(pieces, system.sampling_rate_hz):
        if stretch is not None and not 0 <= part.first - stretch.end < shape.length:
            yield from stretch.close()
            stretch = None
        stretch = stretch or _Stretch(system, shape, stacking, batch, part.first)
        yield from stretch.feed(part)
    if stretch is not None:
        yield from stretch.close()


def annotation(system: Annotator, pieces: Waveform | Iterable[Waveform], **how: Any) -> Annotation:
    """The answers of a whole record at once, gaps filled with False in `valid`; arguments as of `annotation_blocks`.

    Raises:
        SeislatentError: as `annotation_blocks`; no sample, or more than 2^28 with the gaps.
    """
    blocks = list(annotation_blocks(system, pieces, **how))
    if not blocks:
        raise SeislatentError("no samples to annotate: give a record that holds some")
    first, count = blocks[0].first, blocks[-1].first + len(blocks[-1].valid) - blocks[0].first
    if count > LARGEST:
        raise SeislatentError(f"{count} samples with their gaps, more than {LARGEST}: annotate them in parts")
    probabilities, valid = np.zeros((len(system.phases), count), np.float32), np.zeros(count, bool)
    clock: list[tuple[int, int]] = []
    for block in blocks:
        at = block.first - first
        probabilities[:, at : at + len(block.valid)] = block.probabilities
        valid[at : at + len(block.valid)] = block.valid
        clock += [(sample + at, ns) for sample, ns in block.clock]
    return Annotation(
        phases=tuple(system.phases), probabilities=probabilities, valid=valid, sampling_rate_hz=float(system.sampling_rate_hz),
        first=first, clock=tuple(clock),
    )  # fmt: skip


class _Stretch:
    """Samples between two long gaps, and the windows over them.

    `begin` and `end` bound what has come; arrays hold samples from `held` on; windows below number `window` are done, answers
    below `given` are out.
    """

    def __init__(self, system: Annotator, shape: Windows, stacking: str, batch: int, begin: int):
        self.system, self.shape, self.mean, self.batch = system, shape, stacking == "avg", batch
        self.edge = round(EDGE_S * system.sampling_rate_hz)
        self.still = max(2, round(CONSTANT_S * system.sampling_rate_hz))
        self.begin = self.end = self.given = begin
        self.window = (begin + shape.right - shape.length) // shape.hop + 1
        self.held = self.window * shape.hop
        lead = begin - self.held
        self.x, self.ok = np.zeros((3, lead)), np.zeros((3, lead), bool)
        self.sum = np.zeros((len(system.phases), lead), np.float32)
        self.count = np.zeros(lead, np.int32)
        self.whole = np.ones(lead, bool)
        """False where a component that moves elsewhere in the window has a gap."""
        self.clock: list[tuple[int, int]] = []
        self.device = next((p.device for p in getattr(system, "parameters", lambda: iter(()))()), torch.device("cpu"))

    def feed(self, part: Part) -> Iterator[Annotation]:
        """More samples, at most a window behind the last; the blocks that they settle."""
        gap, count = part.first - self.end, part.data.shape[1]
        grown = gap + count
        self.x = np.concatenate([self.x, np.zeros((3, gap)), part.data], 1)
        self.ok = np.concatenate([self.ok, np.zeros((3, gap), bool), part.given], 1)
        self.sum = np.concatenate([self.sum, np.zeros((len(self.sum), grown), np.float32)], 1)
        self.count = np.concatenate([self.count, np.zeros(grown, np.int32)])
        self.whole = np.concatenate([self.whole, np.ones(grown, bool)])
        self.clock.append((part.first, part.start_ns))
        self.end = part.first + count
        self._constant(grown)
        ready = (self.end - self.still - self.shape.length) // self.shape.hop + 1 - self.window
        if ready >= self.batch:
            yield from self._run(ready // self.batch * self.batch)

    def close(self) -> Iterator[Annotation]:
        """The windows that reach beyond the end, and the answers that are left."""
        last = (self.end - self.shape.left - 1) // self.shape.hop  # the last window of which something counts before the end
        lack = max(0, last * self.shape.hop + self.shape.length - self.held - self.x.shape[1])
        self.x, self.ok = np.pad(self.x, ((0, 0), (0, lack))), np.pad(self.ok, ((0, 0), (0, lack)))
        self.sum = np.pad(self.sum, ((0, 0), (0, lack)))
        self.count, self.whole = np.pad(self.count, (0, lack)), np.pad(self.whole, (0, lack), constant_values=True)
        yield from self._run(last + 1 - self.window, closing=True)

    def _constant(self, grown: int) -> None:
        """Components that stand still for long have no samples there: a dead sensor, a gap that somebody filled."""
        low = max(self.begin - self.held, self.x.shape[1] - grown - self.still)
        for line, ok in zip(self.x[:, low:], self.ok[:, low:], strict=True):
            some = line[:: max(1, self.still // 8)]  # of a run that is long enough, eight or more beside each other
            same = some[1:] == some[:-1]
            if len(same) < 7 or not sliding_window_view(same, 7).all(1).any() or not ok.any():
                continue
            edges = np.concatenate([[0], np.flatnonzero(line[1:] != line[:-1]) + 1, [len(line)]])
            for k in np.flatnonzero(np.diff(edges) >= self.still):
                ok[edges[k] : edges[k + 1]] = False

    def _run(self, count: int, closing: bool = False) -> Iterator[Annotation]:
        """So many windows through the network, batch by batch, each with the answers that it settles."""
        left, right, hop, length = self.shape.left, self.shape.right, self.shape.hop, self.shape.length
        for at in range(0, count, self.batch):
            number = min(self.batch, count - at)
            low = self.window * hop - self.held
            span = slice(low, low + (number - 1) * hop + length)
            x = sliding_window_view(self.x[:, span], length, axis=1)[:, ::hop].transpose(1, 0, 2)
            ok = sliding_window_view(self.ok[:, span], length, axis=1)[:, ::hop].transpose(1, 0, 2)
            there = np.asarray(ok.any((1, 2)))
            answer = np.zeros((number, len(self.sum), length), np.float32)
            if there.any():
                answer[there] = self._asked(x[there], ok[there])
            whole = np.asarray((ok | ~ok.any(2, keepdims=True)).all(1)) & there[:, None]
            for k in range(number):
                here = slice(low + k * hop + left, low + k * hop + length - right)
                kept = answer[k, :, left : length - right]
                self.sum[:, here] = self.sum[:, here] + kept if self.mean else np.maximum(self.sum[:, here], kept)
                self.count[here] += 1
                self.whole[here] &= whole[k, left : length - right]
            self.window += number
            settled = self.end if closing and at + number >= count else min(self.window * hop + left, self.end) - self.edge
            if settled > self.given:
                yield self._block(settled)

    def _asked(self, x: NDArray[np.float64], ok: NDArray[np.bool_]) -> NDArray[np.float32]:
        """What the network says of windows [window, Z N E, time]: their mean taken off, 0 where there is no sample."""
        mean = np.where(ok, x, 0).sum(2, keepdims=True) / np.maximum(ok.sum(2, keepdims=True), 1)
        clean = torch.from_numpy(np.where(ok, x - mean, 0).astype(np.float32)).to(self.device)
        with torch.inference_mode():
            answer = self.system.probabilities(clean, torch.from_numpy(np.ascontiguousarray(ok)).to(self.device))
        return answer.float().cpu().numpy()

    def _block(self, until: int) -> Annotation:
        """Answers from `given` to `until`; what no window needs any more is forgotten."""
        a, b = self.given - self.held, until - self.held
        begin, end = self.begin - self.held, self.end - self.held
        low, high = max(a - self.edge, begin), min(b + self.edge, end)
        gone = np.ones(b - a + 2 * self.edge, bool)  # beyond the stretch there is nothing
        gone[low - a + self.edge : high - a + self.edge] = ~self.whole[low:high]
        near: NDArray[np.bool_] = maximum_filter1d(gone, 2 * self.edge + 1, mode="nearest")[self.edge : self.edge + b - a]
        valid = ~near & (self.count[a:b] > 0)
        probabilities = self.sum[:, a:b].copy()
        if self.mean:
            probabilities /= np.maximum(self.count[a:b], 1).astype(np.float32)
        probabilities[:, ~valid] = 0
        known = [k for k, (at, _) in enumerate(self.clock) if at <= self.given][-1:]
        self.clock = self.clock[known[0] if known else 0 :]
        clock = tuple((at - self.given, ns) for at, ns in self.clock if at < until)
        block = Annotation(
            phases=tuple(self.system.phases), probabilities=probabilities, valid=valid, first=self.given, clock=clock,
            sampling_rate_hz=float(self.system.sampling_rate_hz),
        )  # fmt: skip
        self.given = until
        keep = max(0, min(self.window * self.shape.hop, until - self.edge, self.end - self.still) - self.held)
        self.held += keep
        self.x, self.ok, self.sum = self.x[:, keep:], self.ok[:, keep:], self.sum[:, keep:]
        self.count, self.whole = self.count[keep:], self.whole[keep:]
        return block
