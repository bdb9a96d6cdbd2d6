"""Resampling of a stream that comes in pieces, with the bits of the whole.

flow = Flow(100.0, 40.0);  y0 = flow.feed(x0);  y1 = flow.feed(x1);  y2 = flow.close()
concat(y0, y1, y2) == resample(concat(x0, x1), 100.0, 40.0)
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from seislatent.prepare.resample import Resampler

SLICE = 1 << 20
"""Input samples taken at once, so that memory does not grow with a piece."""


@lru_cache(maxsize=16)
def _resampler(rate_in_hz: float, rate_out_hz: float) -> Resampler:
    return Resampler(rate_in_hz, rate_out_hz)


def length(samples: int, rate_in_hz: float, rate_out_hz: float) -> int:
    """Outputs of so many input samples."""
    return _resampler(rate_in_hz, rate_out_hz).length(samples)


class Flow:
    """One continuous stream of samples [time] on its way from one rate to another. Rates that are equal pass as they are.

    Input sample i stands at i / rate_in_hz, output n at n / rate_out_hz. The first input sample given is sample `first`; outputs
    start with the first that does not stand before it. Beyond both ends the end values are held.
    """

    def __init__(self, rate_in_hz: float, rate_out_hz: float, first: int = 0):
        self.resampler = _resampler(rate_in_hz, rate_out_hz)
        self.first = self.end = first
        """Input samples that came: [first, end)."""
        self.next = first if self.resampler.identity else math.ceil(first / self.resampler.ratio - 1e-9)
        """The next output."""
        self._step = 1 if self.resampler.identity else self.resampler.rows * self.resampler.block
        self._held: list[NDArray[np.float64]] = []
        self._from = first

    def feed(self, x: NDArray) -> NDArray[np.float64]:
        """More input samples [time]; the outputs that they settle."""
        out = [self._feed(x[at : at + SLICE]) for at in range(0, len(x), SLICE)]
        return np.concatenate(out) if out else np.empty(0)

    def _feed(self, x: NDArray) -> NDArray[np.float64]:
        self._held.append(np.asarray(x, np.float64))
        self.end += len(x)
        if self.resampler.identity:
            until = self.end
        else:
            until = int(self.end / self.resampler.ratio) // self._step * self._step
            while until > self.next and self.resampler.span(self.next, until)[1] > self.end:
                until -= self._step
        return self._settle(until)

    def reached(self) -> int:
        """One past the last output that does not stand behind the last input."""
        return self.end if self.resampler.identity else int((self.end - 1) / self.resampler.ratio + 1e-9) + 1

    def settled(self) -> int:
        """Outputs that the input so far holds: `Resampler.length` of it, without those that stand before the first input."""
        return self.resampler.length(self.end)

    def close(self, until: int | None = None) -> NDArray[np.float64]:
        """The outputs that are left, up to `until` (all that stand before the input's end when None)."""
        return self._settle(self.settled() if until is None else until, held=True)

    def _settle(self, until: int, held: bool = False) -> NDArray[np.float64]:
        if until <= self.next or self.end == self.first:
            return np.empty(0)
        a, b = self.resampler.span(self.next, until)
        x = np.concatenate(self._held)
        part = x[max(a, self.first) - self._from : max(b - self._from, 0)]
        before = max(0, self.first - a)
        after = b - a - before - len(part)
        if before or (held and after > 0):
            part = np.concatenate([np.full(before, x[0]), part, np.full(max(0, after), x[-1])])
        y = self.resampler.apply(part, self.next, until)
        self.next = until
        keep = max(self.first, min(self.resampler.span(until, until + 1)[0], self.end - 1))
        self._held, self._from = [x[keep - self._from :].copy()], keep
        return y
