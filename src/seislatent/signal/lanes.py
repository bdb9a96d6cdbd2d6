"""Compiled loops of `seislatent.signal.filters`: 16 signals side by side, so that one instruction moves several of them.

A recursive filter needs its last output before the next, so one signal cannot fill a vector unit; sixteen can. Each lane does the
operations of SciPy's sosfilt in the same order, without fused or reordered sums: the result is SciPy's to the bit where both are
compiled so (x86-64), and does not depend on what stands in the other lanes.

Compiled at the first call (about 2 s), then kept beside this file or in the user's cache folder, where one of them can be written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

LANES = 16
"""Signals at once: two to four vectors in flight hide the latency of the recursion, and 16 x 5,000 samples fit a level-2 cache."""
TILE = 16
"""Samples moved at once between [signal time] and [time lane]: 16 x 16 numbers stay in the level-1 cache."""
BLOCK = 64
"""Outputs of the symmetric sum that are held at once."""


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled for floats as IEEE 754 has them; kept on disk unless no folder can be written."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba finds no place for its cache
        return numba.njit(nogil=True, error_model="numpy")(function)


@_compiled
def _run(tile: NDArray[np.float64], sections: NDArray[np.float64], start: NDArray[np.float64], back: bool) -> None:
    """All sections over tile [time lane] in place, forwards or backwards, begun in the steady state of the first sample."""
    n, many = tile.shape[0], sections.shape[0]
    first, step = (n - 1, -1) if back else (0, 1)
    state = np.empty((many, 2, LANES))
    for s in range(many):
        for j in range(LANES):
            state[s, 0, j] = start[s, 0] * tile[first, j]
            state[s, 1, j] = start[s, 1] * tile[first, j]
    for i in range(n):
        t = first + step * i
        for s in range(many):
            b0, b1, b2 = sections[s, 0], sections[s, 1], sections[s, 2]
            a1, a2 = sections[s, 4], sections[s, 5]
            for j in range(LANES):
                x = tile[t, j]
                y = b0 * x + state[s, 0, j]
                state[s, 0, j] = (b1 * x - a1 * y) + state[s, 1, j]
                state[s, 1, j] = b2 * x - a2 * y
                tile[t, j] = y


@_compiled
def recursive(
    x: NDArray[np.float64],
    sections: NDArray[np.float64],
    start: NDArray[np.float64],
    pad: int,
    both: bool,
    y: NDArray[np.float64],
) -> None:
    """Second-order sections over each signal of x [signal time] into y, which may be x itself.

    `start` [section 2] is the steady state of a unit step; `pad` samples before and after continue the signal by point reflection
    about its end values; `both` runs forwards, then backwards.
    """
    signals, n = x.shape
    tile = np.zeros((n + 2 * pad, LANES))
    for base in range(0, signals, LANES):
        many = min(LANES, signals - base)
        for j in range(many):
            row = x[base + j]
            for i in range(pad):
                tile[i, j] = 2 * row[0] - row[pad - i]
                tile[pad + n + i, j] = 2 * row[n - 1] - row[n - 2 - i]
        for at in range(0, n, TILE):
            for j in range(many):
                for i in range(at, min(at + TILE, n)):
                    tile[pad + i, j] = x[base + j, i]
        _run(tile, sections, start, False)
        if both:
            _run(tile, sections, start, True)
        for at in range(0, n, TILE):
            for j in range(many):
                for i in range(at, min(at + TILE, n)):
                    y[base + j, i] = tile[pad + i, j]


@_compiled
def antisymmetric(x: NDArray[np.float64], taps: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """y[t] = sum over k >= 1 of taps[k - 1] (x[t + k] - x[t - k]) for each signal of x [signal time]; the ends as in `recursive`.

    Needs more samples than taps that are not 0, and taps in fours.
    """
    signals, n = x.shape
    half = len(taps)
    row = np.zeros(n + 2 * half + BLOCK)
    total = np.empty(BLOCK)
    for s in range(signals):
        row[half : half + n] = x[s]
        for i in range(min(half, n - 1)):
            row[half - 1 - i] = 2 * x[s, 0] - x[s, 1 + i]
            row[half + n + i] = 2 * x[s, n - 1] - x[s, n - 2 - i]
        for at in range(0, n, BLOCK):
            total[:] = 0
            for k in range(0, half, 4):  # four taps at a time, so that sums are stored a fourth as often
                a, b, c, d = taps[k], taps[k + 1], taps[k + 2], taps[k + 3]
                later, earlier = row[at + half + k + 1 :], row[at + half - k - 4 :]
                for i in range(BLOCK):
                    total[i] += (a * (later[i] - earlier[i + 3]) + b * (later[i + 1] - earlier[i + 2])) + (
                        c * (later[i + 2] - earlier[i + 1]) + d * (later[i + 3] - earlier[i])
                    )
            last = min(BLOCK, n - at)
            y[s, at : at + last] = total[:last]
