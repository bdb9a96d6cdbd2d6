import numpy as np
import pytest

from seislatent.io.bits import Cursor, Malformed, pack, packed_length, text, unpack, unzigzag, varint, zigzag


@pytest.mark.parametrize("width", range(1, 33))
def test_numbers_of_every_width_come_back(width):
    rng = np.random.default_rng(width)
    for count in (0, 1, 7, 8, 9, 1000):
        numbers = rng.integers(0, 2**width, count)
        if count:
            numbers[0], numbers[-1] = 2**width - 1, 0
        data = pack(numbers, width)
        assert len(data) == packed_length(count, width)
        assert (unpack(data, width, count) == numbers).all()


def test_bits_stand_with_the_most_significant_first():
    assert pack([1, 0, 1], 1) == bytes([0b10100000])
    assert pack([0x3FF, 0, 0x155], 10).hex() == "ffc00554"


def test_numbers_that_do_not_fit_are_refused():
    for numbers, width in (([1024], 10), ([-1], 10), ([0.5], 10), ([1], 0), ([1], 33)):
        with pytest.raises(ValueError):
            pack(numbers, width)
    with pytest.raises(Malformed):
        unpack(b"\0", 10, 1)


def test_varints_and_zigzag_come_back():
    for number in (0, 1, 127, 128, 300, 2**63 - 1):
        cursor = Cursor(varint(number))
        assert cursor.number() == number and not cursor.left
    for number in (0, -1, 1, -64, 64, -(2**62), 2**62):
        assert unzigzag(zigzag(number)) == number
    assert [zigzag(n) for n in (0, -1, 1, -2)] == [0, 1, 2, 3]
    assert varint(300).hex() == "ac02"


def test_a_cursor_trusts_nothing():
    for data, read in (
        (b"\xff" * 20, Cursor.number),
        (b"\x80", Cursor.number),
        (varint(2**63), Cursor.number),
        (b"\x05abc", Cursor.text),
        (b"\x02\xff\xfe", Cursor.text),
        (b"abc", lambda c: c.struct("I")),
        (b"abc", lambda c: c.take(-1)),
    ):
        with pytest.raises(Malformed):
            read(Cursor(data))
    assert Cursor(text("Ωx")).text() == "Ωx"
