"""A continuous trace as segments of tokens, and back.

    trace [n] --Flow--> codec's rate --cut--> segments of hop + 1 frames, one shared --system.encode--> Run of 16 segments
    Run --system.decode--> segments --cross-fade the shared frame--> Flow --> [n] at the original rate

Which segments share a call of the system, and their shape, follows from the trace alone: 16 regular segments at a time, and by
itself the last one, which takes up to hop - 1 frames more. So a trace gives the same codes to the bit in whatever pieces it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.io.slat import Run
from seislatent.io.slat_table import Head
from seislatent.prepare.flow import Flow
from seislatent.systems.base import Tokens


def head_of(model: Any, level: int | None = None) -> Head:
    """What a code file of this model says about the whole of itself.

    Raises:
        SeislatentError: a level that the codec does not have.
    """
    system = model.system
    level = system.books if level is None else level
    if not 1 <= level <= system.books:
        raise SeislatentError(f"level {level}: {model.name} has levels 1 to {system.books}")
    return Head(
        codec=model.name, version=str(model.version), digest=model.digest[:16], level=level,
        sampling_rate_hz=system.sampling_rate_hz, frame=system.frame, bits=system.bits_per_index,
    )  # fmt: skip


class StreamEncoder:
    """Encodes one continuous trace that comes in pieces of any length.

    encoder = StreamEncoder(model, level, sampling_rate_hz)
    runs = [*encoder.feed(first), *encoder.feed(second), *encoder.close()]
    """

    def __init__(self, model: Any, level: int | None, sampling_rate_hz: float):
        self.system, self.head = model.system, head_of(model, level)
        self.flow = Flow(sampling_rate_hz, self.head.sampling_rate_hz)
        self.frames = 0
        """Frames of the trace, known when it is closed."""
        self._parts: list[NDArray[np.float64]] = []
        self._from = self._end = self._runs = 0  # samples held: [from, end)

    def feed(self, samples: NDArray[Any]) -> list[Run]:
        """More samples [time] in the trace's own unit and rate; the runs that they complete."""
        self._take(self.flow.feed(samples))
        head, size, found = self.head, self.head.hop * self.head.frame, []
        # a run is known to be complete when one more regular segment follows it and the context of its last one is there
        while self._end >= max(
            (head.run * (self._runs + 1) + 1) * size + 1, head.run * (self._runs + 1) * size + head.frame + self.system.margin
        ):
            found.append(self._run(head.run))
        return found

    def close(self) -> list[Run]:
        """The trace ends here: the runs that are left."""
        self._take(self.flow.close())
        self.frames = -(-self._end // self.head.frame)
        total, found = self.head.segments(self.frames), []
        while self.frames and self._runs * self.head.run < total:
            found.append(self._run(min(self.head.run, total - self._runs * self.head.run), total))
        return found

    def _take(self, x: NDArray[np.float64]) -> None:
        self._parts.append(x)
        self._end += len(x)

    def _run(self, count: int, total: int | None = None) -> Run:
        """The next `count` segments; `total` is told when the last one may be among them."""
        head, first = self.head, self._runs * self.head.run
        self._parts = [np.concatenate(self._parts)]
        last = total is not None and first + count == total
        regular = range(first, first + count - last)
        run = Run([], [], [])
        if len(regular):
            self._code(run, [self._window(k, head.hop + 1) for k in regular], [(k == 0, False) for k in regular])
        if last:
            k = first + count - 1
            self._code(run, [self._window(k, self.frames - k * head.hop)], [(k == 0, True)])
        self._runs += 1
        keep = max(self._from, (first + count) * head.hop * head.frame - self.system.margin)
        self._parts, self._from = [self._parts[0][keep - self._from :].copy()], keep
        return run

    def _window(self, segment: int, frames: int) -> NDArray[np.float64]:
        """A segment with its context; beyond the ends of the trace the end values are held."""
        start, margin, held = segment * self.head.hop * self.head.frame, self.system.margin, self._parts[0]
        where = np.arange(start - margin, start + frames * self.head.frame + margin) - self._from
        return held[np.clip(where, 0, len(held) - 1)]

    def _code(self, run: Run, windows: Sequence[NDArray[np.float64]], ends: Sequence[tuple[bool, bool]]) -> None:
        x = torch.from_numpy(np.stack(windows)[:, None]).to(_device(self.system))
        with torch.inference_mode():
            tokens: Tokens = self.system.encode(x, margin=self.system.margin, ends=torch.tensor(ends, device=x.device))
        run.offsets.extend(map(int, tokens.offset.tolist()))
        run.scales.extend(tokens.scale.cpu().numpy())
        run.indices.extend(tokens.indices[:, : self.head.level].cpu().numpy())


def _device(system: Any) -> torch.device:
    return next((p.device for p in system.parameters()), torch.device("cpu"))


def decoded(
    system: Any, head: Head, runs: Iterable[Run | None], sampling_rate_hz: float, samples: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Samples [time] of a trace at its original rate, each with the place of its first one; a lost run (None) leaves a gap.

    Neighbouring segments are cross-faded over the middle half of the frame they share: its outer quarters are the last samples of a
    segment, where a decoder that laps its frames knows least. Beside a gap that frame is the one neighbour's alone.
    """
    size = head.frame
    fade = np.clip((2 * np.arange(size) + 1) / size - 0.5, 0, 1)
    flow: Flow | None = None
    tail = np.empty(0)

    def out(flow: Flow, y: NDArray[np.float64]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        first = flow.next - len(y)
        if first < samples and len(y):
            yield first, y[: samples - first]

    for number, run in enumerate(runs):
        if run is None:
            if flow is not None:
                yield from out(flow, flow.feed(tail))
                yield from out(flow, flow.close(flow.reached()))
            flow = None
            continue
        for segment, y in enumerate(_decoded(system, run), number * head.run):
            if flow is None:
                flow = Flow(head.sampling_rate_hz, sampling_rate_hz, segment * head.hop * size)
            else:
                y[:size] = tail + fade * (y[:size] - tail)
            tail = y[-size:].copy()
            yield from out(flow, flow.feed(y[:-size]))
    if flow is not None:
        yield from out(flow, flow.feed(tail))
        yield from out(flow, flow.close(samples))


def _decoded(system: Any, run: Run) -> list[NDArray[np.float64]]:
    """Samples of each segment of a run; segments of one length share a call."""
    found: list[NDArray[np.float64]] = []
    device = _device(system)
    sizes = [i.shape[1] for i in run.indices]
    start = 0
    while start < len(sizes):
        stop = start + 1
        while stop < len(sizes) and sizes[stop] == sizes[start]:
            stop += 1
        here = slice(start, stop)
        tokens = Tokens(
            indices=torch.from_numpy(np.stack(run.indices[here])).to(device),
            offset=torch.tensor(run.offsets[here], device=device),
            scale=torch.from_numpy(np.stack(run.scales[here])).to(device),
        )
        with torch.inference_mode():
            found.extend(system.decode(tokens, level=tokens.indices.shape[1])[:, 0].cpu().double().numpy().copy())
        start = stop
    return found


def cast_to(y: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Samples in a type of integers (rounded) or floats, cut at the ends of its range."""
    if dtype.kind == "f":
        limit = float(np.finfo(dtype).max)
        return np.clip(y, -limit, limit).astype(dtype)
    info = np.iinfo(dtype)
    high = float(info.max) if info.max < 2**53 else np.nextafter(float(info.max), 0)
    return np.clip(np.rint(y), float(info.min), high).astype(dtype)
