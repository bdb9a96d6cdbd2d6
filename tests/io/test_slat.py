import hashlib
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from slatfile import HEAD, numbers, small, spooled

from seislatent.errors import SeislatentError
from seislatent.io import slat_table
from seislatent.io.bits import Malformed, varint
from seislatent.io.slat import Codes, is_slat
from seislatent.io.slat_lossless import deflate, inflate
from seislatent.io.slat_side import pack_side, unpack_side
from seislatent.io.slat_table import FRAME, MAGIC, PRELUDE, Head, pack_start, unpack_start


def test_what_goes_in_comes_out():
    plain = [("T", np.arange(700, dtype="<i4")), ("U", np.frombuffer(b"no such rate", "S1")), ("V", np.empty(0, "<f4"))]
    codes = small(plain=plain)
    for t, frames in enumerate((25, 3)):
        for r, (offsets, scales, indices) in enumerate(numbers(HEAD, frames, 7 + t)):
            run = codes.run(t, r, 3)
            assert run.offsets == offsets
            assert all((a == b).all() for a, b in zip(run.scales, scales, strict=True))
            assert all((a == b).all() for a, b in zip(run.indices, indices, strict=True))
    assert (codes.samples(2, 0) == plain[0][1]).all() and codes.samples(3, 0).tobytes() == b"no such rate"
    assert codes.traces[4].chunks == () and codes.traces[2].channel.latitude_deg == -12.5
    assert codes.check() == [] and codes.traces[0].start_ns == 10**18 and codes.traces[2].start_ns == -5


def test_golden_file():
    """These bytes must never change while the version stays 1."""
    data = small().to_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()[:16]) == GOLDEN


GOLDEN = (533, "944c8b697d4cadb3")


def test_every_segment_but_a_trace_s_only_one_is_whole():
    head = Head(codec="", version="", digest="00" * 8, level=1, sampling_rate_hz=40.0, frame=40)
    for frames in (1, 2, 128, 129, 130, 256, 257, 258, 128 * 16, 128 * 16 + 1, 128 * 17, 128 * 17 + 1, 86400):
        lengths = [n for r in range(head.runs(frames)) for n in head.lengths(frames, r)]
        assert len(lengths) == head.segments(frames)
        assert sum(lengths) - (len(lengths) - 1) == frames
        assert lengths == [frames] or (min(lengths) == 129 and max(lengths) <= 256 and set(lengths[:-1]) <= {129})
        bits = sum(-(-sum(head.lengths(frames, r)) * 10 // 8) + 4 for r in range(head.runs(frames)))
        assert head.level_bytes(frames) == bits


def test_fewer_levels_are_what_encoding_at_that_level_writes():
    whole = small()
    for level in (1, 2, 3):
        head = Head(**{**{f: getattr(HEAD, f) for f in HEAD.__dataclass_fields__}, "level": level})
        with spooled(head) as spool:
            alone = Codes.read(spool.to_bytes())
        for t, r in ((0, 0), (0, 2), (1, 0)):
            cut = whole.truncate(level).run(t, r, level)
            assert (np.concatenate(cut.indices, 1) == np.concatenate(whole.run(t, r, level).indices, 1)).all()
        assert whole.truncate(level).to_bytes() == alone.to_bytes()
    for level in (0, 4):
        with pytest.raises(SeislatentError, match="holds levels 1 to 3"):
            whole.truncate(level)


def test_files_are_known_by_their_first_bytes(tmp_path):
    path = small().write(tmp_path / "any.name")
    assert is_slat(path) and Codes.read(path).to_bytes() == small().to_bytes()
    with pytest.raises(SeislatentError, match="exists"):
        small().write(path)
    small().write(path, overwrite=True)
    for data, match in ((b"", "0 bytes"), (b"PK\3\4" * 9, "no code file"), (MAGIC.replace(b"\r\n", b"\n") * 4, "text mode")):
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(SeislatentError, match=match):
            Codes.read(tmp_path / "bad")
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(SeislatentError):
            Codes.read(path)


def test_a_prefix_decodes_at_a_lower_level():
    codes = small(plain=[("T", np.arange(5, dtype="<i2"))])
    data, told = codes.to_bytes(), codes.info()
    start = len(pack_start(codes.head, codes.traces))
    for cut in range(start, len(data)):
        prefix = Codes.read(data[:cut])
        levels = [prefix.reach(t, r)[0] for t, runs in ((0, 3), (1, 1)) for r in range(runs)]
        assert levels == sorted(levels, reverse=True) and max(levels) - min(levels) <= 1
        assert (max(levels) >= 1) == (cut >= told["smallest_prefix_bytes"])
        for level, size in told["prefix_bytes"].items():
            assert (min(levels) >= level) == (cut >= size)
        assert prefix.check() and prefix.info()["missing_bytes"] == len(data) - cut
        assert all("cut off" in str(d) for d in prefix.check())
    block = (start - PRELUDE.size) // 2
    for cut in range(0, start):
        if cut < PRELUDE.size + block:
            with pytest.raises(SeislatentError):
                Codes.read(data[:cut])
        else:
            assert Codes.read(data[:cut]).damage


def test_every_flipped_bit_is_told_and_costs_its_chunk():
    codes = small(plain=[("T", np.arange(300, dtype="<i2"))])
    data = codes.to_bytes()
    good = {(t, r): codes.run(t, r, 3) for t, runs in ((0, 3), (1, 1)) for r in range(runs)}
    start = len(pack_start(codes.head, codes.traces))
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        found = Codes.read(bytes(broken))
        damage = found.check()
        if bit < 8 * start:
            assert found.damage and not damage
            assert found.to_bytes() == data
            continue
        assert len(damage) == 1 and not found.damage
        lost = 0
        for (t, r), run in good.items():
            level, cause = found.reach(t, r)
            lost += bool(cause)
            if level:
                back = found.run(t, r, level)
                assert back.offsets == run.offsets
                assert all((a == b[:level]).all() for a, b in zip(back.indices, run.indices, strict=True))
        assert lost + isinstance(found.samples(2, 0), str) == 1


def test_damage_is_told_with_its_span():
    codes = small()
    data = bytearray(codes.to_bytes())
    part = next(p for p in codes.parts if (p.kind, p.level) == (3, 2))
    data[len(data) - len(codes.body) + part.offset] ^= 255
    (found,) = Codes.read(bytes(data)).check()
    assert (found.id, found.level, found.cause) == ("XX.AA..HHZ", 1, "damaged")
    assert (found.start_ns, found.end_ns) == (10**18, 10**18 + 9 * 10**9)  # 2 segments of 5 frames share one
    assert str(found).startswith("XX.AA..HHZ from 2001-09-09T01:46:40.000000000Z to 2001-09-09T01:46:49")
    assert Codes.read(bytes(data)).check(1) == []


def test_both_headers_damaged_is_a_clear_error():
    data = bytearray(small().to_bytes())
    start = (len(pack_start(small().head, small().traces)) - PRELUDE.size) // 2
    data[PRELUDE.size + 20] ^= 1
    data[PRELUDE.size + 20 + start] ^= 1
    with pytest.raises(SeislatentError, match="both copies of the header"):
        Codes.read(bytes(data))


def with_block(block: bytes, rest: bytes = b"") -> bytes:
    copy = FRAME.pack(len(block), zlib.crc32(block)) + block
    return PRELUDE.pack(MAGIC, 1, 0, len(block)) + copy + copy + rest


def test_hostile_starts_are_refused_in_bounded_memory():
    codes = small(plain=[("T", np.arange(300, dtype="<i2"))])
    data = codes.to_bytes()
    length = PRELUDE.unpack_from(data)[3]
    at = PRELUDE.size + FRAME.size
    block, rest = data[at : at + length], data[len(pack_start(codes.head, codes.traces)) :]
    rng = random.Random(1)
    tracemalloc.start()
    refused = 0
    for _ in range(1500):
        broken = bytearray(block)
        for _ in range(rng.choice((1, 1, 2, 5))):
            place = rng.randrange(len(broken))
            kind = rng.randrange(4)
            if kind == 0:
                broken[place] ^= 1 << rng.randrange(8)
            elif kind == 1:
                broken[place] = rng.choice((0, 127, 128, 255))
            elif kind == 2:
                broken[place:place] = varint(2 ** rng.randrange(64))
            else:
                del broken[place : place + rng.randrange(1, 9)]
        try:
            found = Codes.read(with_block(bytes(broken), rest))
            found.check()
            found.info()
            found._repr_html_()
        except SeislatentError:
            refused += 1
    for _ in range(300):
        with pytest.raises(SeislatentError):
            Codes.read(with_block(rng.randbytes(rng.randrange(200)), rest))
        with pytest.raises(SeislatentError):
            Codes.read(MAGIC + rng.randbytes(rng.randrange(300)))
    assert refused > 500
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_bomb_in_the_table_is_refused():
    bomb = zlib.compress(bytes(10**8))
    head = (
        struct.pack("<HH", 1, slat_table.FINAL_LAYOUT | slat_table.DEFLATED_TABLE) + b"\1x\1x" + bytes(8) + struct.pack("<d", 40.0)
    )
    head += bytes([40, 128, 1, 16, 8, 10, 0])
    for told in (10**8, len(bomb) * 8, 10):
        tracemalloc.start()
        with pytest.raises(SeislatentError, match="contradicts itself"):
            unpack_start(with_block(head + varint(1) + varint(told) + varint(len(bomb)) + bomb))
        assert tracemalloc.get_traced_memory()[1] < 10e6
        tracemalloc.stop()


def test_a_large_table_is_deflated_and_comes_back():
    codes = small(traces=[(f"S{i:05d}" * 3, 1 + i % 30) for i in range(400)])
    assert codes.to_bytes()[PRELUDE.size + FRAME.size + 2] & slat_table.DEFLATED_TABLE
    assert codes.traces[399].channel.station == "S00399" * 3 and codes.check() == []


def test_a_later_version_and_an_unknown_layout_are_named():
    data = bytearray(small().to_bytes())
    length = PRELUDE.unpack_from(data)[3]
    block = bytearray(data[PRELUDE.size + FRAME.size :][:length])
    for place, value, match in ((0, 9, "of version 9"), (2, 0, "layout"), (2, 128, "layout")):
        other = bytearray(block)
        other[place] = value
        with pytest.raises(SeislatentError, match=match):
            Codes.read(with_block(bytes(other)))


def test_side_information_comes_back_and_is_short():
    rng = np.random.default_rng(3)
    for _ in range(200):
        lengths = rng.integers(1, 40, rng.integers(1, 17))
        scales = [np.full(n, rng.integers(-400, 401), np.int64) for n in lengths]
        for s in scales:
            s[rng.integers(0, len(s)) :] = rng.integers(-400, 401)
        offsets = [int(rng.integers(-(2**44), 2**44)) >> int(rng.integers(0, 45)) for _ in lengths]
        back, again = unpack_side(pack_side(offsets, scales), lengths)
        assert back == offsets and all((a == b).all() for a, b in zip(again, scales, strict=True))
    assert len(pack_side([1000] * 16, [np.zeros(129, np.int64)] * 16)) == 2 + 1 + 15 * 2
    for data in (b"", bytes(3), bytes([0, 1, 200, 0]), rng.bytes(50)):
        with pytest.raises(Malformed):
            unpack_side(data, [5, 5])


@pytest.mark.parametrize("dtype", ["<i2", "<i4", "<i8", "<u2", "<f4", "<f8", "<c8", "|S1", "|b1", "<U3", "|u1"])
def test_samples_stored_as_they_are_come_back(dtype):
    dtype = np.dtype(dtype)
    data = np.frombuffer(np.random.default_rng(0).integers(0, 2, 1000 * dtype.itemsize, dtype=np.uint8).tobytes(), dtype)
    if dtype.kind == "U":
        data = np.array(["abc", "", "ü"] * 10, dtype)
    chunk = deflate(data)
    assert inflate(chunk, dtype, len(data)).tobytes() == data.tobytes()
    for broken, count in ((chunk, len(data) - 1), (chunk, len(data) + 1), (chunk[:-3], len(data)), (b"\7" + chunk[1:], len(data))):
        with pytest.raises(Malformed):
            inflate(broken, dtype, count)


def test_info_counts_every_byte():
    codes = small(plain=[("T", np.arange(300, dtype="<i2"))])
    told = codes.info()
    assert told["bytes"] == len(codes.to_bytes()) and told["duration_s"] == 28
    assert told["lossless"] == [{"id": "XX.T..LOG", "reason": "1 Hz is below 10 Hz"}]
    assert told["file_bits_per_second"] == pytest.approx((told["bytes"] - told["lossless_bytes"]) * 8 / 28)
    assert told["bits_per_second"] == 30 and told["damage"] == [] and "XX.AA..HHZ" in codes._repr_html_()
