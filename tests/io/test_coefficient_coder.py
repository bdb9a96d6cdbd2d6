"""Coding of coefficients: what a decoder reads is what was chosen, in the length that was foretold, from any bytes without harm."""

import hashlib

import numpy as np
import pytest

from seislatent.io.bits import Malformed
from seislatent.io.coefficient_coder import Blocks, Model, Reader, _prior, _tables, encode
from seislatent.io.coefficient_loop import CONTEXTS, LARGEST
from seislatent.io.coefficient_prior import PRIOR
from seislatent.io.range_coder import Encoder


def scaled(n=3200, seed=0, loud=3.0):
    rng = np.random.default_rng(seed)
    return rng.laplace(size=n) * np.exp(2 * rng.standard_normal(n // 64)).repeat(64) * loud


def blocks(n=3200, long=64, seed=0, share=0.3):
    return Blocks(long, long // 4, np.random.default_rng(seed).random(n // long) < share)


@pytest.mark.parametrize("loud", [0.0, 0.05, 3.0, 1e5])
@pytest.mark.parametrize("trade", [0.0, 0.1])
def test_traces_come_back_one_after_the_other(loud, trade):
    encoder, model, divided = Encoder(), Model(), blocks()
    first = encode(model, scaled(loud=loud), divided, None, trade, encoder)
    second = encode(model, scaled(seed=1, loud=loud), divided, first.values, trade, encoder)
    data = encoder.bytes()
    reader, learned, read = Reader(data), Model(), Blocks(64, 16, np.zeros(50, bool))
    one = reader.read(learned, read, None)
    two = reader.read(learned, read, one.values)
    assert (read.split == divided.split).all() and (one.values == first.values).all() and (two.values == second.values).all()
    assert (one.level == first.level).all() and (learned.chance == model.chance).all()
    assert abs(8 * len(data) - first.bits - second.bits) < 0.003 * 8 * len(data) + 16


def test_values_are_rounded_or_chosen_near():
    x = scaled()
    assert np.abs(encode(Model(), x, blocks(), None, 0.0).values - x).max() <= 0.5
    chosen, rounded = (encode(Model(), x, blocks(), None, trade) for trade in (0.1, 0.0))
    assert np.abs(chosen.values - x).max() < 3 and chosen.bits < rounded.bits


def test_counting_changes_nothing_but_the_model():
    x, model = scaled(), Model()
    before = model.copy()
    assert encode(before, x, blocks(), None, 0.1, Encoder()).bits == encode(model, x, blocks(), None, 0.1).bits
    assert (before.chance == model.chance).all() and not (model.chance == Model().chance).all()


def test_pieces_do_not_show():
    """A trace longer than one piece of the loop."""
    x, encoder = scaled(64 * 1600), Encoder()
    made = encode(Model(), x, blocks(64 * 1600), None, 0.1, encoder)
    read = Reader(encoder.bytes()).read(Model(), Blocks(64, 16, np.zeros(1600, bool)), None)
    assert (read.values == made.values).all()


def test_silence_costs_next_to_nothing():
    made = encode(Model(), np.zeros(64 * 200), blocks(64 * 200, share=0), None, 0.1)
    assert made.bits / 12800 < 0.01


def test_the_largest_values_and_one_larger():
    x = np.zeros(64)
    x[[0, 5, 63]] = LARGEST, -LARGEST, LARGEST - 1
    encoder = Encoder()
    made = encode(Model(), x, Blocks(64, 16, np.zeros(1, bool)), None, 0.0, encoder)
    assert (made.values == x).all()
    assert (Reader(encoder.bytes()).read(Model(), Blocks(64, 16, np.zeros(1, bool)), None).values == x).all()
    with pytest.raises(ValueError, match="more than"):
        encode(Model(), 2 * x, Blocks(64, 16, np.zeros(1, bool)), None, 0.0)


def test_any_bytes_are_read_without_harm():
    for seed in range(60):
        data = b"\xff" * (seed % 3 * 10) + np.random.default_rng(seed).bytes(seed * 40)
        try:
            read = Reader(data).read(Model(), Blocks(64, 16, np.zeros(50, bool)), None)
            assert np.abs(read.values).max() <= LARGEST
        except Malformed:
            pass


def test_tables_are_the_same_on_every_machine():
    """Files depend on them to the bit."""
    squash, stretch, _ = _tables()
    assert len(PRIOR) == 2 * CONTEXTS == 2 * len(_prior())
    assert (np.diff(squash) >= 0).all() and (np.diff(stretch) >= 0).all() and squash[2048] == 32768
    digest = hashlib.sha256(squash.astype("<i8").tobytes() + stretch.astype("<i8").tobytes() + _prior().astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "253db49178fad85c"


def test_golden_bytes():
    """Fixed values give fixed bytes, whatever the machine: what an older file holds must read for ever."""
    x = np.array([(i * i * 7 % 23 - 11) * (i % 64 < 40) * 10 ** (i // 640) // 3 for i in range(1920)], np.float64)
    divided, encoder = Blocks(64, 16, np.arange(30) % 4 == 0), Encoder()
    first = encode(Model(), x, divided, None, 0.0, encoder)
    encode(Model(), x[::-1].copy(), divided, first.values, 0.0, encoder)
    data = encoder.bytes()
    assert (first.values == x).all() and (len(data), hashlib.sha256(data).hexdigest()[:16]) == (2357, "9d37f258132139ee")
