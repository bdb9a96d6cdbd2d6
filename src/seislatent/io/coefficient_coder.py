"""Adaptive range coding of quantised transform coefficients.

    coefficients / step --coefficient_loop--> decisions with probabilities --range_coder--> bytes --the same loop--> whole numbers

How a coefficient is foretold is told in `coefficient_loop`. What a decoder computes is whole-number arithmetic of 64 bits: a file
decodes to the same numbers on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.io.bits import Malformed
from seislatent.io.coefficient_loop import CONTEXTS, LARGEST, walk
from seislatent.io.coefficient_prior import CONFIDENCE, MIXED, PRIOR
from seislatent.io.range_coder import Encoder, opened

Ints = NDArray[np.int64]

PIECE = 1 << 15
"""Coefficients handed over at once; bounds the memory for their decisions."""
_MOST_DECISIONS = 96
"""Of one coefficient."""


@cache
def _tables() -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Probability of 2^16 for a logit of -2047 to 2047 (1/256 nats), logit for a probability, and bits that a probability costs.

    Exponentials by `decimal`, whose results are correctly rounded on every machine.
    """
    squash = [int(65536 / (1 + (Decimal(-x) / 256).exp()) + Decimal("0.5")) for x in range(-2048, 2048)]
    squashed = np.clip(np.array(squash, np.int64), 16, 65520)
    stretched = np.clip(np.searchsorted(squashed, (np.arange(4096) << 4) + 8) - 2048, -2047, 2047).astype(np.int64)
    return squashed, stretched, -np.log2((np.arange(4096) + 0.5) / 4096)


_SPEED = np.array([int(65536 / (n + 1.6)) for n in range(256)], np.int64)
"""How far a probability moves towards what happened, of 2^16, after so many decisions."""


@cache
def _prior() -> Ints:
    logits = np.frombuffer(bytes.fromhex(PRIOR), np.int8).astype(np.int64) * 16
    return _tables()[0][logits + 2048]


@dataclass
class Model:
    """What has been learned so far; begins as the table in `coefficient_prior`."""

    chance: Ints = field(default_factory=lambda: _prior().copy())
    """Probability of a yes, of 2^16, of each context and decision."""
    seen: Ints = field(default_factory=lambda: np.full(CONTEXTS, CONFIDENCE, np.int64))
    weight: Ints = field(default_factory=lambda: np.array(MIXED, np.int64))
    """Of the logits, of 2^16."""
    split: Ints = field(default_factory=lambda: np.full(2, 1 << 14, np.int64))
    """Probability that a long block is split, after one that was not and one that was."""

    def copy(self) -> Model:
        """One that learns apart."""
        return Model(self.chance.copy(), self.seen.copy(), self.weight.copy(), self.split.copy())


@dataclass(frozen=True)
class Blocks:
    """How a trace is divided: into blocks of `long` samples, some of them split into blocks of `short`."""

    long: int
    short: int
    split: NDArray[np.bool_]
    """[block]"""

    @property
    def lengths(self) -> list[int]:
        """Of every block."""
        parts = self.long // self.short
        return [n for is_split in self.split.tolist() for n in ([self.short] * parts if is_split else [self.long])]


@dataclass
class Coded:
    """A trace's values and what they cost."""

    values: NDArray[np.int32]
    """[time]"""
    level: NDArray[np.uint8]
    """Of each value, how large its neighbourhood made a decoder expect it [time]."""
    bits: float
    """Ideal length of their code."""


def encode(
    model: Model,
    scaled: NDArray[np.float64],
    blocks: Blocks,
    beside: NDArray[np.int32] | None,
    trade: float,
    coder: Encoder | None = None,
) -> Coded:
    """Quantises coefficients (block after block, in steps) [time] and codes them; `model` learns.

    Args:
        model: what the traces before have taught.
        scaled: coefficients over the step, of magnitudes up to 2^30.
        blocks: how the trace is divided.
        beside: values of the trace coded before, which is divided in the same way; None with the first, which tells the division.
        trade: what a bit is worth, in squared steps; 0 rounds.
        coder: where the code goes; None only counts.

    Raises:
        ValueError: a coefficient of a larger magnitude.
    """
    trace = _Trace(model, blocks, beside)
    total, done = 0.0, 0
    decisions, ones = np.empty((2, min(PIECE + blocks.long, len(scaled) + 1) * _MOST_DECISIONS), np.uint16)
    cost = _tables()[2]
    while done < len(blocks.split):
        some = max(1, PIECE // blocks.long)
        count = trace.go(done, done + some, scaled, trade, decisions, ones)
        if count < 0:
            raise ValueError(f"a coefficient of more than {LARGEST} steps")
        chance = np.where(decisions[:count] == 1, ones[:count], 65535 - ones[:count] + 1)
        total += float(cost[np.minimum(chance, 65535) >> 4].sum()) if count else 0.0
        if coder is not None:
            coder.put_bits(decisions[:count], ones[:count])
        done += some
    return Coded(trace.values, trace.level, total)


class Reader:
    """Reads traces from what an `Encoder` gave."""

    def __init__(self, data: bytes | memoryview):
        self.words, self.state = opened(data)

    def read(self, model: Model, blocks: Blocks, beside: NDArray[np.int32] | None) -> Coded:
        """The next trace. With the first (`beside` is None) it is also read which blocks are split, and `blocks.split` changed.

        Raises:
            Malformed: bytes that no encoder writes.
        """
        trace = _Trace(model, blocks, beside)
        nothing = np.empty(0, np.uint16)
        if trace.go(0, len(blocks.split), np.empty(0), 0.0, nothing, nothing, self.words, self.state) < 0:
            raise Malformed("coefficients that no encoder writes")
        return Coded(trace.values, trace.level, 0.0)


class _Trace:
    """The compiled loop with its memory of one trace."""

    def __init__(self, model: Model, blocks: Blocks, beside: NDArray[np.int32] | None):
        samples = len(blocks.split) * blocks.long
        self.model, self.blocks, self.first = model, blocks, beside is None
        self.beside = np.zeros(samples, np.int32) if beside is None else beside
        self.values, self.level = np.zeros(samples, np.int32), np.zeros(samples, np.uint8)
        self.split = blocks.split.view(np.uint8)
        self.memory = np.zeros((3, blocks.long), np.int64)

    def go(self, first: int, last: int, scaled: Any, trade: float, decisions: Any, ones: Any, *source: Any) -> int:
        """Long blocks from `first` to before `last`; the number of decisions written, -1 where none can be read."""
        m, b = self.model, self.blocks
        words, state = source or (np.empty(0, np.uint64), np.empty(0, np.uint64))
        plan = b.long, b.short, first, min(last, len(b.split)), int(self.first)
        learned = m.chance, m.seen, m.weight, m.split
        made = self.beside, self.memory, self.values, self.level
        return walk(learned, _tables(), _SPEED, plan, self.split, made, scaled, trade, (decisions, ones), (words, state))
