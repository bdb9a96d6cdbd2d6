"""Compiled loops of `seislatent.signal.oscillator`: peaks in every direction of the paths that pairs of oscillators draw.

A path of n points need not be rotated whole. One pass over time moves 16 oscillators side by side and keeps, for each stretch of
TILE steps, the state at its start and the largest projections T_0 ... T_3 on the directions 0, 45, 90 and 135 degrees. A direction
at d degrees behind direction i is the sum of e_i sin(45 - d) / sin 45 and e_(i+1) sin(d) / sin 45, both factors not negative, so

    |p e(45 i + d)| <= (T_i sin(45 - d) + T_(i+1) sin d) / sin 45        for every point p of the stretch.

The cubic between two samples departs from the straight line by at most a quarter of the larger |u' dt - (u1 - u0)| at its ends,
which is kept with the projections and added to them. A stretch whose bound nowhere exceeds what is already found cannot change a
peak and is left out; the others are computed again from the state at their start. What comes out is the peak over all points, as
if each had been rotated (tests/signal/test_oscillator.py), whatever the shape of the path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

LANES = 16
"""Oscillators side by side: two to four vectors, enough in flight to hide the latency of the recursion."""
TILE = 64
"""Steps whose extent is kept together: less means more to keep, more means more to compute again."""
DIRECTIONS = 4
CORNER = 1.0823922002923938
"""1 / cos(22.5 degrees): what lies within four projections is at most so much farther out than the largest."""

Samples = NDArray[np.float64]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled for floats as IEEE 754 has them; kept on disk unless no folder can be written."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba finds no place for its cache
        return numba.njit(nogil=True, error_model="numpy")(function)


def prepare(transition: Samples, before: Samples, after: Samples, angles_deg: Samples) -> tuple[Samples, Samples]:
    """What `peaks` needs of oscillators and directions.

    Args:
        transition: [period 2 2], as before and after of `seislatent.signal.oscillator.Recursion`.
        before: [period 2]
        after: [period 2]
        angles_deg: [angle] directions.

    Returns:
        The recursion by lanes [block 8 lane], idle lanes repeating the last oscillator, and the directions [6 angle].
    """
    many = len(transition)
    blocks = -(-many // LANES)
    # rows: a11 a12 a21 a22, b1 b2 before, b1 b2 after
    lanes = np.concatenate([transition.reshape(many, 4), before, after], 1)
    lanes = np.pad(lanes, ((0, blocks * LANES - many), (0, 0)), mode="edge").reshape(blocks, LANES, 8)
    return np.ascontiguousarray(lanes.swapaxes(1, 2)), _turns(angles_deg)


def peaks(x: Samples, lanes: Samples, turns: Samples, between: bool, found: Samples) -> None:
    """Peaks into found [pair period angle], zeros before, of pairs x [pair 2 time]; the interpreter's lock is not held.

    `lanes` and `turns` are from `prepare`; `between` looks at the cubic between samples too.
    """
    _peaks(np.ascontiguousarray(x), lanes, turns, between, found)


def turned(x: Samples, angles_deg: Samples) -> Samples:
    """The largest projection [pair angle] of paths x [pair 2 time] on each direction, with the same reasoning per stretch."""
    found = np.zeros((len(x), len(angles_deg)))
    _paths(np.ascontiguousarray(x), _turns(angles_deg), found)
    return found


def _turns(angles_deg: Samples) -> Samples:
    """[6 angle]: cosine, sine, and the factors of the four directions, of which at most two are not zero."""
    angle = np.mod(angles_deg, 180.0)
    first = np.minimum(np.floor(angle / 45.0), DIRECTIONS - 1).astype(int)
    past, eighth = np.deg2rad(angle - 45.0 * first), np.pi / 4
    turns = np.zeros((2 + DIRECTIONS, len(angle)))
    turns[0], turns[1] = np.cos(np.deg2rad(angles_deg)), np.sin(np.deg2rad(angles_deg))
    each = np.arange(len(angle))
    turns[2 + first, each] = np.sin(eighth - past) / np.sin(eighth)
    turns[2 + (first + 1) % DIRECTIONS, each] = np.sin(past) / np.sin(eighth)
    return turns


@_compiled
def _peaks(x: Samples, lanes: Samples, turns: Samples, between: bool, found: Samples) -> None:
    n = x.shape[2]
    tiles = max(1, (n - 2) // TILE + 1)
    states = np.empty((tiles, 4, LANES))
    extents = np.empty((tiles, DIRECTIONS, LANES))
    bound = np.empty((tiles, DIRECTIONS))
    points = np.empty((2, 4 * TILE + 4))
    for i in range(x.shape[0]):
        for block in range(lanes.shape[0]):
            _extents(x[i], lanes[block], between, states, extents)
            for j in range(min(LANES, found.shape[1] - block * LANES)):
                bound[:] = extents[:, :, j]
                _search(x[i], lanes[block, :, j], states[:, :, j], bound, turns, between, points, found[i, block * LANES + j])


@_compiled
def _extents(x: Samples, c: Samples, between: bool, states: Samples, extents: Samples) -> None:
    """Move all lanes over x [2 time]; states [tile 4 lane] and the bounds extents [tile direction lane] of every stretch."""
    n = x.shape[1]
    # rows of w: place and rate of both components, four projections, two departures. Made here, of constant shape, so that the
    # compiler sees the lanes to be independent; with 8 of them or arrays from outside it does not vectorise
    w, d = np.zeros((10, LANES)), np.empty((8, LANES))
    d[:] = c
    share, half = 0.25 if between else 0.0, np.sqrt(0.5)
    for tile in range(states.shape[0]):
        for j in range(LANES):
            a, ra, b, rb = w[0, j], w[1, j], w[2, j], w[3, j]
            states[tile, 0, j], states[tile, 1, j], states[tile, 2, j], states[tile, 3, j] = a, ra, b, rb
            w[4, j], w[5, j], w[6, j], w[7, j] = abs(a), abs(a + b), abs(b), abs(a - b)
            w[8, j], w[9, j] = 0.0, 0.0
        for k in range(tile * TILE, min(tile * TILE + TILE, n - 1)):
            p0, p1, q0, q1 = x[0, k], x[0, k + 1], x[1, k], x[1, k + 1]
            for j in range(LANES):
                a, ra, b, rb = w[0, j], w[1, j], w[2, j], w[3, j]
                na = d[0, j] * a + d[1, j] * ra + (d[4, j] * p0 + d[6, j] * p1)
                nra = d[2, j] * a + d[3, j] * ra + (d[5, j] * p0 + d[7, j] * p1)
                nb = d[0, j] * b + d[1, j] * rb + (d[4, j] * q0 + d[6, j] * q1)
                nrb = d[2, j] * b + d[3, j] * rb + (d[5, j] * q0 + d[7, j] * q1)
                w[0, j], w[1, j], w[2, j], w[3, j] = na, nra, nb, nrb
                w[4, j], w[6, j] = max(w[4, j], abs(na)), max(w[6, j], abs(nb))
                w[5, j], w[7, j] = max(w[5, j], abs(na + nb)), max(w[7, j], abs(na - nb))
                da, db = na - a, nb - b
                w[8, j] = max(w[8, j], max(abs(ra - da), abs(nra - da)))
                w[9, j] = max(w[9, j], max(abs(rb - db), abs(nrb - db)))
        for j in range(LANES):
            a, b = share * w[8, j], share * w[9, j]
            # a hair more than the bound, so that rounding cannot hide a point
            extents[tile, 0, j] = (w[4, j] + a) * 1.000000001
            extents[tile, 1, j] = (w[5, j] + a + b) * half * 1.000000001
            extents[tile, 2, j] = (w[6, j] + b) * 1.000000001
            extents[tile, 3, j] = (w[7, j] + a + b) * half * 1.000000001


@_compiled
def _search(
    x: Samples, c: Samples, states: Samples, bound: Samples, turns: Samples, between: bool, points: Samples, found: Samples
) -> None:
    """Peaks found [angle] of one oscillator pair, from the stretches that can hold one."""
    tiles, last = bound.shape[0], x.shape[1] - 1
    floor = 0.0
    for d in range(DIRECTIONS):  # the widest stretches first: after them few others can matter
        widest = 0
        for tile in range(tiles):
            if bound[tile, d] > bound[widest, d]:
                widest = tile
        if bound[widest, d] >= 0.0:
            stop = min(widest * TILE + TILE, last)
            floor = _look(x, c, states[widest], widest * TILE, stop, bound[widest], turns, between, points, found, floor)
            bound[widest, :] = -1.0
    for tile in range(tiles):
        if max(max(bound[tile, 0], bound[tile, 1]), max(bound[tile, 2], bound[tile, 3])) * CORNER > floor:
            stop = min(tile * TILE + TILE, last)
            floor = _look(x, c, states[tile], tile * TILE, stop, bound[tile], turns, between, points, found, floor)


@_compiled
def _look(
    x: Samples, c: Samples, state: Samples, start: int, stop: int, t: Samples, turns: Samples, between: bool, points: Samples,
    found: Samples, floor: float,
) -> float:  # fmt: skip
    """Raise found [angle], of which the least is `floor`, by one stretch if its bounds t [direction] allow it; the least again."""
    if not _reaches(t, turns, found):
        return floor
    return _raised(points, _again(x, c, state, start, stop, between, points), turns, found, floor)


@_compiled
def _reaches(t: Samples, turns: Samples, found: Samples) -> bool:
    """Whether points whose largest projections are at most t [direction] can raise found [angle]."""
    over = 0
    for k in range(found.shape[0]):
        over += turns[2, k] * t[0] + turns[3, k] * t[1] + turns[4, k] * t[2] + turns[5, k] * t[3] > found[k]
    return over > 0


@_compiled
def _raised(points: Samples, count: int, turns: Samples, found: Samples, floor: float) -> float:
    """Raise found [angle], its least `floor`, to the first `count` points [2 point], which are lost; its least again."""
    kept = 0
    for i in range(count):  # a point nearer to the centre than the least peak is no peak anywhere
        a, b = points[0, i], points[1, i]
        points[0, kept], points[1, kept] = a, b
        if a * a + b * b >= floor * floor * 0.999999999:
            kept += 1
    if kept == 0:
        return floor
    while kept % 4:
        points[0, kept], points[1, kept] = points[0, kept - 1], points[1, kept - 1]
        kept += 1
    for i in range(0, kept, 4):
        _rotate(turns[0], turns[1], found, points, i)
    return found.min()


@_compiled
def _rotate(cosine: Samples, sine: Samples, found: Samples, points: Samples, i: int) -> None:
    """Raise found [angle] to the projections of four points, so that it is loaded and stored a fourth as often."""
    a0, a1, a2, a3 = points[0, i], points[0, i + 1], points[0, i + 2], points[0, i + 3]
    b0, b1, b2, b3 = points[1, i], points[1, i + 1], points[1, i + 2], points[1, i + 3]
    for k in range(found.shape[0]):
        c, s = cosine[k], sine[k]
        one, two = max(abs(a0 * c + b0 * s), abs(a1 * c + b1 * s)), max(abs(a2 * c + b2 * s), abs(a3 * c + b3 * s))
        found[k] = max(found[k], max(one, two))


@_compiled
def _again(x: Samples, c: Samples, state: Samples, start: int, stop: int, between: bool, points: Samples) -> int:
    """The points of one stretch into points [2 point]; how many."""
    a, ra, b, rb = state[0], state[1], state[2], state[3]
    points[0, 0], points[1, 0] = a, b
    count = 1
    for k in range(start, stop):
        p0, p1, q0, q1 = x[0, k], x[0, k + 1], x[1, k], x[1, k + 1]
        na = c[0] * a + c[1] * ra + (c[4] * p0 + c[6] * p1)
        nra = c[2] * a + c[3] * ra + (c[5] * p0 + c[7] * p1)
        nb = c[0] * b + c[1] * rb + (c[4] * q0 + c[6] * q1)
        nrb = c[2] * b + c[3] * rb + (c[5] * q0 + c[7] * q1)
        if between:
            da, db = na - a, nb - b
            for quarter in range(1, 4):
                s = 0.25 * quarter
                bend = s * (1 - s)
                points[0, count] = a + s * da + bend * ((1 - s) * (ra - da) - s * (nra - da))
                points[1, count] = b + s * db + bend * ((1 - s) * (rb - db) - s * (nrb - db))
                count += 1
        points[0, count], points[1, count] = na, nb
        count += 1
        a, ra, b, rb = na, nra, nb, nrb
    return count


@_compiled
def _paths(x: Samples, turns: Samples, found: Samples) -> None:
    """Peaks found [pair angle] of paths x [pair 2 time]."""
    n = x.shape[2]
    tiles = (n - 1) // TILE + 1
    bound, points = np.empty((tiles, DIRECTIONS)), np.empty((2, TILE + 4))
    half, more = np.sqrt(0.5), 1.000000001
    for i in range(x.shape[0]):
        for tile in range(tiles):
            t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
            for k in range(tile * TILE, min(tile * TILE + TILE, n)):
                a, b = x[i, 0, k], x[i, 1, k]
                t0, t1, t2, t3 = max(t0, abs(a)), max(t1, abs(a + b)), max(t2, abs(b)), max(t3, abs(a - b))
            bound[tile, 0], bound[tile, 1], bound[tile, 2], bound[tile, 3] = (
                t0 * more,
                t1 * half * more,
                t2 * more,
                t3 * half * more,
            )
        floor = 0.0
        for turn in range(DIRECTIONS + tiles):  # the widest stretch of each direction first, then all
            tile = int(bound[:, turn].argmax()) if turn < DIRECTIONS else turn - DIRECTIONS
            if _reaches(bound[tile], turns, found[i]):
                count = min(TILE, n - tile * TILE)
                points[:, :count] = x[i, :, tile * TILE : tile * TILE + count]
                floor = _raised(points, count, turns, found[i], floor)
