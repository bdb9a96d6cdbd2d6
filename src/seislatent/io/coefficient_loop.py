"""The compiled loop of `coefficient_coder`: each coefficient is foretold from its neighbours in frequency, time and another trace.

A coefficient is told by decisions: its magnitude, cut by as many low bits as its neighbourhood makes useless to foretell, in
unary (0? 1? 2? ...), then the low bits and the sign as they are. Four contexts foretell each decision of the unary number:

- the weighted sum of the magnitudes around;
- those below in frequency, with those before in time;
- frequency, with the running mean;
- the trace beside, with the weighted sum.

Each has an adaptive probability for each decision; their logits are weighted, and the weights follow the gradient of the coding
cost (mixing after Mahoney 2005, Florida Tech CS-2005-16; binary decisions after Marpe and others 2003,
doi:10.1109/TCSVT.2003.815173).

All but `_price` and `_chosen`, with which an encoder chooses, is arithmetic of 64-bit integers. Lengths are checked by the callers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seislatent.io.range_coder import compiled, next_bit

LARGEST = 1 << 30
"""Of a quantised magnitude."""
KINDS = 8
"""Decisions of a magnitude that have probabilities of their own; the later ones share the last."""
UNARY = 20
"""Magnitudes from here on are told by the length of their excess, and its bits."""
LEVELS, COARSE, PLACES = 40, 8, 16
SIZES = (LEVELS, COARSE * COARSE, PLACES * COARSE, COARSE * COARSE)
"""Contexts of each of the four sorts."""
STARTS = tuple(int(s) * KINDS for s in np.cumsum((0, *SIZES[:3])))
CONTEXTS = sum(SIZES) * KINDS
WEIGHTS = (15, 5, 12, 6, 0, 6, 12, 0, 0)
"""Of 64: the two below in frequency; in the block before the same, the two around it, the next two; two blocks before; the running
mean; beside, and the two around that."""


@compiled
def _fine(m: int) -> int:
    """About 4 log2 m; from the last octave of the contexts on, the place within the octave."""
    octave = 0
    while m >= 8:
        m >>= 1
        octave += 1
    found = 4 * octave + m if octave else m
    return found if found < 40 else 36 + found % 4


@compiled
def _coarse(m: int) -> int:
    """Length of m in bits, at most 7."""
    length = 0
    while m > 0 and length < 7:
        m >>= 1
        length += 1
    return length


@compiled
def _foretold(at: Any, kind: int, chance: Any, weight: Any, logit: Any, squash: Any, stretch: Any) -> int:
    """Probability of a yes, of 2^16, with the logits that it was mixed from."""
    mixed = 0
    for i in range(4):
        logit[i] = stretch[chance[at[i] + kind] >> 4]
        mixed += weight[kind, i] * logit[i]
    return squash[min(max(mixed >> 16, -2047), 2047) + 2048]


@compiled
def _learn(at: Any, kind: int, p: int, bit: int, chance: Any, seen: Any, weight: Any, logit: Any, speed: Any) -> None:
    """After a decision that was foretold with p."""
    miss = (bit << 16) - p
    for i in range(4):
        weight[kind, i] += (logit[i] * miss * 6) >> 18
        j = at[i] + kind
        chance[j] += (((bit << 16) - bit - chance[j]) * speed[seen[j]]) >> 16
        chance[j] = min(max(chance[j], 32), 65504)
        if seen[j] < 120:
            seen[j] += 1


@compiled
def _decide(bit: int, p: int, out: Any, source: Any, count: int) -> int:
    """Writes a decision, or reads it where there is a source; -1 where it cannot be read."""
    if len(source[0]):
        return next_bit(source[0], source[1], p)
    out[0][count] = bit
    out[1][count] = p
    return bit


@compiled
def _gather(memory: Any, beside: Any, begin: int, n: int, around: Any) -> None:
    """What is known at n frequencies: magnitudes before, two before, running mean, beside, in 1/16; three more at either end."""
    share = memory.shape[1] // n
    for k in range(n):
        for i in range(3):
            total = 0
            for j in range(k * share, (k + 1) * share):
                total += memory[i, j]
            around[i, k + 3] = total // share
        around[2, k + 3] >>= 4
        around[3, k + 3] = abs(int(beside[begin + k])) << 4
    for i in range(4):
        for j in range(3):
            around[i, j] = 0
            around[i, n + 3 + j] = around[2, n + 2] if i == 2 else 0


@compiled
def _contexts(around: Any, k: int, n: int, one: int, two: int, at: Any) -> tuple[int, int]:
    """Where the probabilities of coefficient k stand, the level of its neighbourhood, and how many low bits are not foretold.

    `one` and `two`: the magnitudes (in 1/16) of the coefficients below it.
    """
    i = k + 3
    last, mean, other = around[0], around[2], around[3]
    sides = last[i - 1] + last[i + 1]
    weighed = WEIGHTS[0] * one + WEIGHTS[1] * two + WEIGHTS[2] * last[i] + WEIGHTS[3] * sides
    weighed += WEIGHTS[4] * (last[i - 2] + last[i + 2]) + WEIGHTS[5] * around[1, i]
    weighed += (WEIGHTS[6] * (mean[i - 1] + 2 * mean[i] + mean[i + 1])) // 4
    weighed += WEIGHTS[7] * other[i] + WEIGHTS[8] * (other[i - 1] + other[i + 1])
    m = weighed >> 6
    fine = _fine(2 * m)
    below, before = _coarse((2 * one + two) >> 3), _coarse((2 * last[i] + sides) >> 4)
    beside = _coarse((2 * other[i] + other[i - 1] + other[i + 1]) >> 3)
    at[0] = fine * KINDS
    at[1] = STARTS[1] + (below * COARSE + before) * KINDS
    at[2] = STARTS[2] + (k * PLACES // n * COARSE + _coarse(mean[i] >> 1)) * KINDS
    at[3] = STARTS[3] + (beside * COARSE + _coarse(m >> 1)) * KINDS
    cut = 0
    while (m >> 4) >> cut >= 4:
        cut += 1
    return fine, cut


@compiled
def _price(a: int, at: Any, chance: Any, weight: Any, logit: Any, tables: Any) -> float:
    """Bits of a magnitude below UNARY and of its sign."""
    bits = 1.0 if a else 0.0
    for j in range(a + 1):
        p = _foretold(at, min(j, KINDS - 1), chance, weight, logit, tables[0], tables[1])
        bits += tables[2][p >> 4] if j < a else tables[2][4095 - (p >> 4)]
    return bits


@compiled
def _chosen(x: float, trade: float, at: Any, chance: Any, weight: Any, logit: Any, tables: Any) -> int:
    """The magnitude of least squared error + trade x bits, of the nearest to x and the two below it."""
    nearest = int(x + 0.5)
    best, least = nearest, np.inf
    for a in range(nearest, max(nearest - 3, -1), -1):
        loss = (x - a) ** 2 + trade * _price(a, at, chance, weight, logit, tables)
        if loss < least:
            best, least = a, loss
    return best


@compiled
def _raw(value: int, width: int, out: Any, source: Any, count: int) -> tuple[int, int]:
    """Bits without a model, most significant first: the value and the count of decisions; -1 where they cannot be read."""
    found = 0
    for place in range(width - 1, -1, -1):
        bit = _decide((value >> place) & 1, 1 << 15, out, source, count)
        if bit < 0:
            return -1, count
        count += 1
        found = found << 1 | bit
    return found, count


@compiled
def _magnitude(
    a: int, cut: int, at: Any, model: Any, logit: Any, tables: Any, speed: Any, out: Any, source: Any, count: int
) -> tuple[int, int]:
    """Codes a magnitude, or reads it: the magnitude and the count of decisions; -1 where it cannot be read."""
    chance, seen, weight, _ = model
    high, j = a >> cut, 0
    while j < UNARY:
        kind = min(j, KINDS - 1)
        p = _foretold(at, kind, chance, weight, logit, tables[0], tables[1])
        bit = _decide(1 if high > j else 0, p, out, source, count)
        if bit < 0:
            return -1, count
        count += 1
        _learn(at, kind, p, bit, chance, seen, weight, logit, speed)
        if not bit:
            break
        j += 1
    if j == UNARY:
        excess, length = high - UNARY + 1, 0
        while True:
            length += 1
            more, count = _raw(1 if excess >> length else 0, 1, out, source, count)
            if more < 0 or length > 31:
                return -1, count
            if not more:
                break
        rest, count = _raw(excess & ((1 << (length - 1)) - 1), length - 1, out, source, count)
        if rest < 0:
            return -1, count
        j = UNARY - 1 + (1 << (length - 1) | rest)
    low, count = _raw(a & ((1 << cut) - 1), cut, out, source, count)
    if low < 0 or j > LARGEST >> cut:
        return -1, count
    return j << cut | low, count


@compiled
def _block(
    begin: int, n: int, around: Any, memory: Any, values: Any, level: Any, scaled: Any, trade: float,
    at: Any, model: Any, logit: Any, tables: Any, speed: Any, out: Any, source: Any, count: int,
) -> int:  # fmt: skip
    """One block; the count of decisions, -1 where it cannot be read."""
    one = two = 0
    share = memory.shape[1] // n
    for k in range(n):
        fine, cut = _contexts(around, k, n, one, two, at)
        level[begin + k] = fine
        a = negative = 0
        if len(scaled):
            x = scaled[begin + k]
            negative = 1 if x < 0 else 0
            small = trade > 0 and cut == 0 and 0.5 <= abs(x) < UNARY - 1
            a = _chosen(abs(x), trade, at, model[0], model[2], logit, tables) if small else int(abs(x) + 0.5)
        a, count = _magnitude(a, cut, at, model, logit, tables, speed, out, source, count)
        if a < 0:
            return -1
        if a:
            negative, count = _raw(negative, 1, out, source, count)
            if negative < 0:
                return -1
        values[begin + k] = -a if negative else a
        two, one = one, a << 4
        for j in range(k * share, (k + 1) * share):
            memory[1, j] = memory[0, j]
            memory[0, j] = a << 4
            memory[2, j] += (((a << 8) - memory[2, j]) * 51) >> 8
    return count


@compiled
def walk(
    model: Any, tables: Any, speed: Any, plan: Any, split: Any, made: Any, scaled: Any, trade: float, out: Any, source: Any
) -> int:
    """Codes or reads long blocks; the count of decisions, -1 where they cannot be read.

    Args:
        model: probabilities, how often each was learned, weights, probabilities of a split.
        tables: probability of a logit, logit of a probability, bits of a probability.
        speed: of learning.
        plan: lengths of long and short blocks, the first block, the one after the last, and whether it is told which are split.
        split: [block].
        made: the trace beside, memory [3 frequency], values and levels [time].
        scaled: coefficients in steps [time]; none when reading.
        trade: what a bit is worth, in squared steps.
        out: decisions and their probabilities of a yes; none when reading.
        source: words and state of `range_coder.opened`; none when coding.
    """
    beside, memory, values, level = made
    long, short, first, last, tell = plan
    around, at, logit = np.zeros((4, long + 6), np.int64), np.zeros(4, np.int64), np.zeros(4, np.int64)
    count = 0
    for b in range(first, last):
        if tell:
            state = int(split[b - 1]) if b else 0
            bit = _decide(int(split[b]), model[3][state], out, source, count)
            if bit < 0:
                return -1
            count += 1
            model[3][state] += ((bit << 16) - bit - model[3][state]) >> 4
            model[3][state] = min(max(model[3][state], 512), 65024)
            split[b] = bit
        n = short if split[b] else long
        for begin in range(b * long, (b + 1) * long, n):
            _gather(memory, beside, begin, n, around)
            count = _block(
                begin, n, around, memory, values, level, scaled, trade, at, model, logit, tables, speed, out, source, count
            )
            if count < 0:
                return -1
    return count
