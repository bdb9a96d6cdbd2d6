"""The classical transform coder that every lossy claim stands beside: MDCT, dead-zone quantiser, adaptive range coding.

    Waveform --mean, gaps, blocks: long or split--> MDCT --/ step, choose--> whole numbers --coefficient_coder--> file
    file --> whole numbers --centroid of what each can have been, x step--> inverse MDCT --> Waveform

The transform is `signal/mdct`, the entropy coder `io/coefficient_coder` on `io/range_coder`. All channels of a record are one file,
and each is foretold by the one before it too. A record has blocks of one length, 16 to 2048 samples, each of which may be split
into four, in all channels together; both are chosen for the least estimated length. docs/baselines/compression.md has figures.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.container import bridged, pack, unpack
from seislatent.io.bits import Cursor, Malformed, unzigzag, varint, zigzag
from seislatent.io.coefficient_coder import Blocks, Model, Reader, encode
from seislatent.io.coefficient_loop import LARGEST
from seislatent.io.coefficient_prior import CENTROIDS
from seislatent.io.range_coder import Encoder
from seislatent.signal.mdct import inverse_switched_mdct, switched_mdct
from seislatent.systems.codec.segments import cast_to
from seislatent.waveform import Waveform

Array = NDArray[np.float64]

LONG = tuple(16 << i for i in range(8))
"""Lengths of a block that is not split; a file tells which."""
TRIED = (32, 64, 128, 256, 512, 1024)
"""Those that the encoder chooses from."""
PARTS = 4
"""Short blocks in a split long one."""
FINENESS = 64
"""Steps are 2^(i / 64): 0.09 dB apart."""
TRADE = 0.1
"""What a bit is worth, in squared steps."""
FARTHEST = 900 * FINENESS
"""Of a step's place from 1."""
MEAN_PARTS = 64
"""A channel's mean is told in this part of its step."""
EXCERPTS, EXCERPT = 16, 8192
"""The length of blocks is chosen on so many parts of a long record, of so many samples."""


@dataclass(frozen=True)
class Mdct:
    """Encodes at a signal-to-noise ratio, at a rate, or with given steps."""

    name: str = "baseline/mdct"
    qualities: tuple[float, ...] = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0)
    """Signal-to-noise ratios aimed at, in dB."""
    trade: float = TRADE
    longs: tuple[int, ...] = TRIED

    def encode(
        self,
        waveform: Waveform,
        snr_db: float | None = None,
        *,
        bits_per_sample: float | None = None,
        steps: Sequence[float] | None = None,
    ) -> bytes:
        """A file of a record.

        Args:
            waveform: numbers; NaN is a gap.
            snr_db: signal-to-noise ratio of every channel, its mean removed; nearest step.
            bits_per_sample: or the most that the payload takes per sample; steps stand to each other as the standard deviations.
            steps: or the quantiser's step of each channel, in the unit of the samples; the nearest 2^(i / 64) is taken.

        Raises:
            SeislatentError: not exactly one of these, an infinite sample, text, or a rate that the record cannot be coded at.
        """
        if sum(v is not None for v in (snr_db, bits_per_sample, steps)) != 1:
            raise SeislatentError(f"{self.name}: give one of snr_db, bits_per_sample and steps")
        record = _Record(self, waveform)
        if steps is not None:
            if len(steps) != len(waveform.data) or not all(s > 0 and math.isfinite(s) for s in steps):
                raise SeislatentError(f"{self.name}: {len(waveform.data)} channels need as many positive steps, not {list(steps)}")
            record.take([round(FINENESS * math.log2(s)) for s in steps])
        elif snr_db is not None:
            record.aim(snr_db)
        elif bits_per_sample is not None:
            record.fit(bits_per_sample * waveform.data.size)
        return record.file()

    def decode(self, data: bytes) -> Waveform:
        """The record back, in its type.

        Raises:
            SeislatentError: a file of another coder, damaged, cut short, or one that no encoder writes.
        """
        packed = unpack(self.name, data)
        try:
            rows = _decoded(packed.payload, *packed.waveform.data.shape)
        except (Malformed, struct.error) as error:
            raise SeislatentError(f"a file of {self.name} says what cannot be: {error}") from error
        made = cast_to(rows, packed.dtype)
        if packed.dtype.kind == "f":
            made[np.isnan(packed.waveform.data)] = np.nan
        return packed.waveform.with_data(made, did=f"decoded from {self.name}")


class _Record:
    """A record on its way into a file: channels that are not constant, their mean removed, and how they are quantised."""

    def __init__(self, coder: Mdct, waveform: Waveform):
        self.coder, self.waveform = coder, waveform
        if waveform.data.dtype.kind not in "iuf":
            pack(coder.name, waveform, b"")  # says which types there are
        rows = [bridged(row) for row in waveform.data]
        self.constant = {i: float(x[0]) if x.size else 0.0 for i, x in enumerate(rows) if not x.size or x.min() == x.max()}
        live = [x for i, x in enumerate(rows) if i not in self.constant]
        self.mean = np.array([x.mean() for x in live])
        self.x = np.stack([x - m for x, m in zip(live, self.mean, strict=True)]) if live else np.zeros((0, 0))
        self.std = self.x.std(1) if live else np.zeros(0)
        self.places = np.zeros(len(live), np.int64)
        """Of the steps."""
        self.blocks = Blocks(LONG[0], LONG[0] // PARTS, np.zeros(0, bool))
        self.y = self.x

    def take(self, places: Sequence[int]) -> None:
        """These steps, one for each channel of the record."""
        self.places = np.array([p for i, p in enumerate(places) if i not in self.constant], np.int64)
        self.divide()

    def aim(self, snr_db: float) -> None:
        """The largest steps that keep every channel's signal-to-noise ratio, as far as a search finds them."""
        if not len(self.x):
            return
        self.places = np.round(FINENESS * (np.log2(self.std) - snr_db / 6.02 + 1.5)).astype(np.int64)
        for width in (4 * FINENESS, FINENESS // 2):  # once more with the blocks that suit the steps found
            self.divide()
            low, high = self.places - width, self.places + width
            while (high - low).max() > (FINENESS // 4 if width > FINENESS else 1):
                self.places = (low + high) // 2
                enough = self.snr_db() >= snr_db
                low, high = np.where(enough, self.places, low), np.where(enough, high, self.places)
            self.places = low
        for _ in range(FINENESS):  # a channel's own choice of values depends a little on the one before it
            enough = self.snr_db() >= snr_db
            if enough.all():
                break
            self.places = self.places - ~enough

    def snr_db(self) -> Array:
        """Of each channel, as a decoder will make it, not yet in its type."""
        steps = np.array([_step(p) for p in self.places])[:, None]
        back = _back(np.stack([values for values, _ in self.coded(None)]) * steps, self.blocks.lengths)
        noise = ((back[:, : self.x.shape[1]] - self.x) ** 2).sum(1)
        return 10 * np.log10((self.x**2).sum(1) / np.maximum(noise, 1e-300))

    def fit(self, bits: float) -> None:
        """The least steps, in proportion to the standard deviations, whose payload takes no more than so many bits."""
        if not len(self.x):
            return
        base = np.round(FINENESS * np.log2(self.std)).astype(np.int64)
        low, high = -20 * FINENESS, 10 * FINENESS
        while high - low > 1:
            middle = (low + high) // 2
            self.places = base + middle
            try:
                if high - low > FINENESS // 2:
                    self.divide()
                fits = sum(cost for _, cost in self.coded(None)) + 8 * len(self.side()) + 8 <= bits
            except SeislatentError:  # a step too small for the coder
                fits = False
            low, high = (low, middle) if fits else (middle, high)
        self.places = base + high
        if high == 10 * FINENESS:
            least = (8 * len(self.side()) + 8) / self.waveform.data.size
            raise SeislatentError(f"{self.coder.name}: {bits / self.waveform.data.size:g} bit/sample is too few for"
                                  f" {self.waveform!r}: the least is about {least:.2g}")  # fmt: skip

    def divide(self) -> None:
        """Chooses the blocks for these steps."""
        if len(self.x):
            self.blocks = best_blocks(self.x, np.array([_step(p) for p in self.places]), self.coder.longs)
            self.y = transformed(padded(self.x, self.blocks.long), self.blocks.lengths)

    def coded(self, coder: Encoder | None) -> list[tuple[Array, float]]:
        """What a decoder makes of each channel's coefficients, in steps, and the bits that they take."""
        model, beside = Model(), None
        found: list[tuple[Array, float]] = []
        for y, place in zip(self.y, self.places, strict=True):
            step = _step(place)
            peak = np.abs(y).max()
            if abs(place) > FARTHEST or peak >= LARGEST * step or abs(self.mean[len(found)]) >= 2**55 * step:
                raise SeislatentError(
                    f"{self.coder.name}: a step of {step:.3g} is too small or too large for coefficients up to {peak:.3g}"
                )
            made = encode(model, y / step, self.blocks, beside, self.coder.trade, coder)
            beside = made.values
            found.append((centroids(made.values, made.level), made.bits))
        return found

    def side(self) -> bytes:
        """What a decoder must know first: the length of blocks, and of each channel its step and mean, or its one value."""
        parts, last, live = [bytes([LONG.index(self.blocks.long)])], 0, 0
        for i in range(len(self.waveform.data)):
            if i in self.constant:
                parts.append(varint(0) + struct.pack("<d", self.constant[i]))
                continue
            place = int(self.places[live])
            parts.append(varint(1 + zigzag(place - last)) + varint(zigzag(round(self.mean[live] / _step(place) * MEAN_PARTS))))
            last, live = place, live + 1
        return b"".join(parts)

    def file(self) -> bytes:
        """All of it."""
        coder = Encoder()
        self.coded(coder)
        return pack(self.coder.name, self.waveform, self.side() + coder.bytes())


def _step(place: Any) -> float:
    return float(2.0 ** (int(place) / FINENESS))


def _decoded(payload: bytes, rows: int, samples: int) -> Array:
    """Channels [row time]."""
    cursor = Cursor(payload)
    long = LONG[min(cursor.take(1)[0], len(LONG) - 1)]
    y, places, means, last = np.zeros((rows, samples)), {}, {}, 0
    for i in range(rows):
        kind = cursor.number(2**20)
        if kind:
            last += unzigzag(kind - 1)
            if abs(last) > FARTHEST:
                raise Malformed("a step beyond all numbers")
            places[i], means[i] = last, cursor.signed()
        else:
            y[i] = cursor.struct("d")[0]
    reader, model, beside = Reader(cursor.take(cursor.left)), Model(), None
    blocks = Blocks(long, long // PARTS, np.zeros(-(-samples // long), bool))
    for i, place in places.items():
        made = reader.read(model, blocks, beside)
        beside = made.values
        y[i] = (_back(centroids(made.values, made.level), blocks.lengths)[:samples] + means[i] / MEAN_PARTS) * _step(place)
    return y


def centroids(values: NDArray[np.int32], level: NDArray[np.uint8]) -> Array:
    """In steps, the mean of what was quantised to each value [time] where its neighbourhood had this level."""
    size = np.abs(values)
    shift = np.array(CENTROIDS)[np.minimum(size, len(CENTROIDS)) - 1, level] / 256
    return np.sign(values) * np.where(size > 0, size - shift, 0.0)


# -- blocks ----------------------------------------------------------------------------------------------------------------------


def best_blocks(x: Array, steps: Array, longs: Sequence[int]) -> Blocks:
    """The length of blocks and those to split, for the least estimated cost of channels [row time] at these steps."""
    part = _excerpts(x)
    costs = {long: _divided(part, steps, long)[1] for long in longs if long <= max(2 * x.shape[1], min(longs))}
    long = min(costs, key=lambda one: costs[one])
    return Blocks(long, long // PARTS, _divided(x, steps, long)[0])


def _divided(x: Array, steps: Array, long: int) -> tuple[NDArray[np.bool_], float]:
    """Which blocks to split [block], and the estimated cost of all.

    A long block beside a split one has the steep slope of a short one there, which costs it something: half of what two such
    slopes cost. So the least sum is a path through the blocks, found from the first to the last and followed back (Viterbi).
    """
    x, short = padded(x, long), long // PARTS
    n = x.shape[1] // long
    whole, split = _cost(x, steps, [long] * n, long), _cost(x, steps, [short] * n * PARTS, long)
    steep = np.zeros(n)
    for odd in (0, 1):
        lengths = [m for i in range(n) for m in ([long] if i % 2 == odd else [short] * PARTS)]
        steep[odd::2] = _cost(x, steps, lengths, long)[odd::2]
    extra = np.maximum(steep - whole, 0.0) / 2
    best_whole, best_split, came = float(whole[0]), float(split[0]), []
    for w, s, e, before in zip(whole[1:].tolist(), split[1:].tolist(), extra[1:].tolist(), extra[:-1].tolist(), strict=True):
        to_whole = best_split + e < best_whole, min(best_whole, best_split + e) + w
        to_split = best_split < best_whole + before, min(best_split, best_whole + before) + s
        came.append((to_whole[0], to_split[0]))
        best_whole, best_split = to_whole[1], to_split[1]
    chosen = [best_split < best_whole]
    for from_split in reversed(came):
        chosen.append(from_split[chosen[-1]])
    return np.array(chosen[::-1]), min(best_whole, best_split)


def _cost(x: Array, steps: Array, lengths: Sequence[int], long: int) -> Array:
    """About the bits that the coefficients of each long block take [block]."""
    size = np.abs(transformed(x, lengths)) / steps[:, None]
    return np.log2(1 + size).sum(0).reshape(-1, long).sum(1)


def transformed(x: Array, lengths: Sequence[int]) -> Array:
    """Coefficients [row time]."""
    return switched_mdct(torch.from_numpy(x), lengths).numpy()


def _back(y: Array, lengths: Sequence[int]) -> Array:
    return inverse_switched_mdct(torch.from_numpy(y), lengths).numpy()


def padded(x: Array, long: int) -> Array:
    """Whole blocks: what the last one lacks is the mirror image, faded out."""
    lack = -x.shape[1] % long
    fade = np.cos(np.pi / 2 * (np.arange(lack) + 0.5) / max(lack, 1)) ** 2
    return np.concatenate([x, np.pad(x, ((0, 0), (0, lack)), mode="symmetric")[:, x.shape[1] :] * fade], 1)


def _excerpts(x: Array) -> Array:
    """Parts of a long record, side by side in time; a short one whole."""
    if x.shape[1] <= EXCERPTS * EXCERPT:
        return x
    starts = np.linspace(0, x.shape[1] - EXCERPT, EXCERPTS).astype(np.int64)
    return np.concatenate([x[:, s : s + EXCERPT] for s in starts], 1)
