"""Range coding: exact, short, the same to the bit in both readers, and robust against bytes that nobody wrote."""

import numpy as np
import pytest

from seislatent.io.bits import Malformed
from seislatent.io.range_coder import TOTAL, Decoder, Encoder, compiled, next_bit, opened


def counts(rng, n, size, sharp=1.0):
    p = rng.gamma(sharp, size=(n, size)) + 1e-9
    table = 1 + np.floor(p / p.sum(1, keepdims=True) * (TOTAL - size)).astype(np.int64)
    table[:, 0] += TOTAL - table.sum(1)
    return table


def drawn(rng, table):
    return (rng.integers(TOTAL, size=(len(table), 1)) >= np.cumsum(table, 1)).sum(1)


def ideal_bits(symbols, table):
    return -np.log2(table[np.arange(len(table)), symbols] / TOTAL).sum()


@compiled
def read_bits(words, state, ones):
    out = np.empty(len(ones), np.int64)
    for i in range(len(ones)):
        out[i] = next_bit(words, state, ones[i])
    return out


@pytest.mark.parametrize("size", [2, 3, 17, 1024])
@pytest.mark.parametrize("sharp", [0.05, 1.0])
def test_symbols_come_back_in_nearly_the_ideal_length(size, sharp):
    rng = np.random.default_rng(size)
    table = counts(rng, 3000, size, sharp)
    symbols = drawn(rng, table)
    encoder = Encoder()
    encoder.put(symbols[:100], table[:100])
    encoder.put(symbols[100:], table[100:])
    data = encoder.bytes()
    assert encoder.bytes() == data  # asking changes nothing
    decoder = Decoder(data)
    assert (np.concatenate([decoder.take(table[:1234]), decoder.take(table[1234:])]) == symbols).all()
    assert -9 < 8 * len(data) - ideal_bits(symbols, table) < 16 + 1e-3 * ideal_bits(symbols, table)


def test_one_table_for_all_symbols():
    rng = np.random.default_rng(0)
    table = counts(rng, 1, 5)[0]
    symbols = rng.integers(5, size=200)
    encoder = Encoder()
    encoder.put(symbols, table)
    assert (Decoder(encoder.bytes()).take(np.tile(table, (200, 1))) == symbols).all()


@pytest.mark.parametrize("seed", range(40))
def test_short_messages_of_bits_in_both_readers(seed):
    """The compiled reader and constriction's read the same from the same bytes, and no byte more is written than is needed."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 80))
    ones = np.clip((TOTAL * rng.beta(0.3, 0.3, n)).astype(np.int64), 1, TOTAL - 1)
    bits = rng.integers(2, size=n) if seed % 2 else (rng.integers(TOTAL, size=n) < ones).astype(int)
    encoder = Encoder()
    encoder.put_bits(bits, ones)
    data = encoder.bytes()
    assert (Decoder(data).take_bits(ones) == bits).all()
    assert (read_bits(*opened(data), ones) == bits).all()
    assert 8 * len(data) < ideal_bits(bits, np.stack([TOTAL - ones, ones], 1)) + 9


def test_long_messages_in_both_readers():
    rng = np.random.default_rng(7)
    ones = np.clip((TOTAL * rng.beta(0.2, 0.2, 300_000)).astype(np.int64), 1, TOTAL - 1)
    bits = (rng.integers(TOTAL, size=len(ones)) < ones).astype(int)
    encoder = Encoder()
    encoder.put_bits(bits, ones)
    data = encoder.bytes()
    assert (Decoder(data).take_bits(ones) == bits).all()
    assert (read_bits(*opened(data), ones) == bits).all()
    assert 8 * len(data) < 1.001 * ideal_bits(bits, np.stack([TOTAL - ones, ones], 1)) + 16


def test_certain_symbols_cost_next_to_nothing_and_carries_travel():
    """Runs of the same extreme symbol bring the coder to the ends of its interval, where carries pass through many words."""
    for bit in (0, 1):
        for one in (1, 2, TOTAL - 1):
            ones = np.full(50_000, one)
            for flipped in (None, 17, 49_999):
                bits = np.full(50_000, bit)
                if flipped is not None:
                    bits[flipped] ^= 1
                encoder = Encoder()
                encoder.put_bits(bits, ones)
                data = encoder.bytes()
                assert (read_bits(*opened(data), ones) == bits).all()
                assert (Decoder(data).take_bits(ones) == bits).all()


def test_golden_bytes():
    """What an older file holds must read for ever."""
    ones = (np.arange(1, 65) * 1021) % (TOTAL - 1) + 1
    bits = (np.arange(64) * 7 % 11 < 5).astype(int)
    encoder = Encoder()
    encoder.put_bits(bits, ones)
    encoder.put([2, 0, 1], [TOTAL // 2, TOTAL // 4, TOTAL // 4])
    assert encoder.bytes().hex() == "ffd8fb82f7e88d9539ec64d355"


def test_nothing_is_no_byte():
    assert Encoder().bytes() == b""
    assert len(Decoder(b"").take(np.zeros((0, 2), np.int64))) == 0


@pytest.mark.parametrize(
    ("symbols", "table"),
    [
        ([0], [[TOTAL, 0]]),
        ([0], [[1, 2]]),
        ([2], [[TOTAL // 2, TOTAL // 2]]),
        ([-1], [[TOTAL // 2, TOTAL // 2]]),
        ([0], [[0.5, 0.5]]),
        ([0, 1], [[TOTAL // 2, TOTAL // 2]]),
        ([0], [[TOTAL]]),
    ],
)
def test_wrong_counts_are_refused(symbols, table):
    with pytest.raises(ValueError, match=r"count|symbol"):
        Encoder().put(symbols, table)


def test_bytes_that_nobody_wrote():
    """Any bytes give symbols or `Malformed`, in both readers, and never anything else."""
    rng = np.random.default_rng(3)
    ones = np.clip((TOTAL * rng.beta(0.3, 0.3, 2000)).astype(np.int64), 1, TOTAL - 1)
    for seed in range(50):
        data = np.random.default_rng(seed).bytes(seed * 5)
        got = read_bits(*opened(data), ones)
        try:
            assert (Decoder(data).take_bits(ones) == got).all() and (got >= 0).all()
        except Malformed:
            assert (got < 0).any()
