"""miniSEED out and in: ids refused by list, numbers kept, pieces equal to the whole."""

import glob
import os
from pathlib import Path

import numpy as np
import obspy
import pytest
from obspy import Stream, Trace, UTCDateTime

from seislatent.errors import SeislatentError
from seislatent.io.files import iterate, read, read_stream
from seislatent.io.miniseed import IdsTooLong, write
from seislatent.waveform import Channel, Waveform

WHEEL = Path(obspy.__file__).parent / "io" / "mseed" / "tests" / "data"
FILES = sorted(f for f in WHEEL.rglob("*") if f.is_file())


def record(data, start_ns=0, rate=100.0, **codes):
    channel = Channel(**{"network": "XX", "station": "AAA", "location": "", "code": "HHZ"} | codes)
    return Waveform(data=np.atleast_2d(data), sampling_rate_hz=rate, channels=(channel,), start_ns=start_ns)


def joined(pieces):
    """Pieces put together again: [(id, start, rate, data)]."""
    out = []
    for piece in pieces:
        if piece.metadata.get("continues"):
            out[-1][3].append(piece.data[0])
        else:
            out.append((piece.ids[0], piece.start_ns, piece.sampling_rate_hz, [piece.data[0]]))
    return sorted(((i, s, r, np.concatenate(d)) for i, s, r, d in out), key=lambda x: (x[0], x[1], len(x[3])))


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "float16", "float32", "float64", ">i4", ">f8"])
def test_numbers_ids_and_times_come_back(tmp_path, dtype):
    data = (np.random.default_rng(0).normal(size=2000) * 1000).astype(dtype)
    start = UTCDateTime("2016-02-29T23:59:59.123456").ns
    (back,) = read(write(record(data, start, location="00"), tmp_path / "a.mseed"))
    assert back.ids == ("XX.AAA.00.HHZ",) and back.start_ns == start and back.sampling_rate_hz == 100
    kept = {"int16": "int32", "int64": "int32", "float16": "float32", ">i4": "int32", ">f8": "float64"}.get(dtype, dtype)
    assert back.data.dtype == kept and np.array_equal(back.data[0], data.astype(kept))


@pytest.mark.parametrize("level", [2e9, 1.0, 1e-12, 0.0], ids=["loud", "quiet", "small", "silent"])
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_every_level_comes_back(tmp_path, dtype, level):
    data = (np.random.default_rng(1).uniform(-1, 1, 3000) * level).astype(dtype)
    (back,) = read(write(record(data), tmp_path / "a.mseed"))
    assert back.data.dtype == dtype and np.array_equal(back.data[0], data)


@pytest.mark.parametrize("when", ["1969-12-31T23:59:59.500000", "1955-04-01T12:00:00.000001", "1906-04-18T13:12:00"])
def test_times_before_1970(tmp_path, when):
    start = UTCDateTime(when).ns
    assert start < 0
    (back,) = read(write(record(np.arange(500, dtype=np.int32), start), tmp_path / "a.mseed"))
    assert back.start_ns == start


@pytest.mark.parametrize("peak", [2**31 - 1, 2**29, 2**28])
def test_large_steps_do_not_break_steim(tmp_path, peak):
    data = np.array([0, peak, -peak, 1, -peak, peak] * 50, np.int32)
    (back,) = read(write(record(data), tmp_path / "a.mseed"))
    assert np.array_equal(back.data[0], data)


def test_long_ids_are_refused_by_list_and_renamed(tmp_path):
    sites = [record(np.full(10, i, np.int32), network="LONG", station=f"SITE{i:04d}", location="000") for i in range(400)]
    with pytest.raises(IdsTooLong, match=r"400 ids would be cut: LONG\.SITE0000\.000\.HHZ") as caught:
        write(sites, tmp_path / "a.mseed")
    assert len(caught.value.ids) == 400 and "rename" in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    short = {w.ids[0]: f"XX.S{i:04d}.00.HHZ" for i, w in enumerate(sites)}
    back = read(write(sites, tmp_path / "a.mseed", rename=short))
    assert {w.ids[0] for w in back} == set(short.values())
    with pytest.raises(SeislatentError, match="the same id"):
        write(sites, tmp_path / "b.mseed", rename={w.ids[0]: "XX.S.00.HHZ" for w in sites})


@pytest.mark.parametrize("name, code", [("network", "ABC"), ("station", "ABCDEF"), ("location", "001"), ("code", "HHZ1"),
                                        ("station", "Ä"), ("station", "AB "), ("code", "B_HH_Z")])  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path, name, code):
    with pytest.raises(IdsTooLong):
        write(record(np.zeros(3, np.int32), **{name: code}), tmp_path / "a.mseed")


def test_never_overwrites_unless_asked(tmp_path):
    path = tmp_path / "a.mseed"
    path.write_bytes(b"mine")
    with pytest.raises(SeislatentError, match="exists"):
        write(record(np.zeros(3, np.int32)), path)
    assert path.read_bytes() == b"mine"
    write(record(np.zeros(3, np.int32)), path, overwrite=True)
    assert len(read(path)) == 1 and list(tmp_path.iterdir()) == [path]


def test_masked_empty_and_single(tmp_path, caplog):
    masked = np.ma.array(np.arange(100, dtype=np.int32), mask=False)
    masked[30:50] = np.ma.masked
    header = {"network": "XX", "station": "AAA", "channel": "HHZ", "sampling_rate": 10.0}
    back = read(write(Stream([Trace(masked, header)]), tmp_path / "a.mseed"))
    assert [w.data.shape[1] for w in back] == [30, 50] and back[1].start_ns == 5_000_000_000
    one = record(np.array([7], np.int32), station="ONE")
    back = read(write([one, record(np.empty(0, np.int32))], tmp_path / "b.mseed"))
    assert [w.ids[0] for w in back] == ["XX.ONE..HHZ"] and "left out" in caplog.text and "XX.AAA..HHZ" in caplog.text
    with pytest.raises(SeislatentError, match="empty"):
        write(record(np.empty(0, np.int32)), tmp_path / "c.mseed")
    with pytest.raises(SeislatentError, match="32 bits"):
        write(record(np.array([2**40])), tmp_path / "c.mseed")
    with pytest.raises(SeislatentError, match="complex"):
        write(record(np.array([1j])), tmp_path / "c.mseed")
    assert not (tmp_path / "c.mseed").exists()


def test_text_comes_back(tmp_path):
    text = np.frombuffer(b"a log line\n", "S1")
    (back,) = read(write(record(text, rate=1.0, code="LOG"), tmp_path / "a.mseed"))
    assert back.data.tobytes() == text.tobytes()


@pytest.mark.parametrize("path", FILES, ids=lambda f: f.name)
@pytest.mark.parametrize("piece_bytes", [1, 4096])
def test_pieces_equal_the_whole(path, piece_bytes):
    try:
        whole = read(path)
    except SeislatentError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    pieces = list(iterate(path, piece_bytes=piece_bytes))
    a, b = joined(pieces), joined(whole)
    assert len(a) == len(b)
    for (i, s, r, d), (j, t, q, e) in zip(a, b, strict=True):
        assert (i, s, r) == (j, t, q) and np.array_equal(d, e, equal_nan=d.dtype.kind == "f")
    if piece_bytes == 1:
        return
    assert read_stream(path)


@pytest.mark.parametrize("path", FILES, ids=lambda f: f.name)
def test_every_file_that_is_read_is_written_again(tmp_path, path):
    try:
        whole = [w for w in read(path) if w.data.shape[1]]
    except SeislatentError:
        pytest.skip("refused on reading, see test_pieces_equal_the_whole")
    back = read(write(whole, tmp_path / "a.mseed"))
    a, b = joined(whole), joined(back)
    assert sum(len(x[3]) for x in a) == sum(len(x[3]) for x in b)
    assert {x[0] for x in a} == {x[0] for x in b}
    if len(a) == len(b):  # overlapping and text traces may be joined or parted by ObsPy
        for (_, s, r, d), (_, t, q, e) in zip(a, b, strict=True):
            assert s == t and abs(r / q - 1) < 1e-7 if r else r == q
            assert np.array_equal(d, e, equal_nan=d.dtype.kind == "f")


@pytest.mark.parametrize("rate", [100 / 3, 9.090859504402758, 1 / 3600, 1e-4, 2e4, 123.456789, 65536.0])
def test_rates_come_back_to_seven_digits(tmp_path, rate):
    (back,) = read(write(record(np.arange(5000, dtype=np.int32), rate=rate), tmp_path / "a.mseed"))
    assert abs(back.sampling_rate_hz / rate - 1) < 1e-7 and back.data.shape == (1, 5000)


def test_a_generator_is_written_piece_by_piece_and_a_broken_one_leaves_nothing(tmp_path):
    whole = np.cumsum(np.random.default_rng(0).integers(-9, 9, 90_000)).astype(np.int32)
    pieces = (record(whole[a : a + 20_000], start_ns=a * 10_000_000) for a in range(0, 90_000, 20_000))
    (back,) = read(write(pieces, tmp_path / "a.mseed"))
    assert np.array_equal(back.data[0], whole)

    def broken():
        yield record(whole)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(broken(), tmp_path / "b.mseed")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mseed"]


def test_a_day_in_pieces():
    folder = os.environ.get("SEISLATENT_RECORDS")
    files = glob.glob(f"{folder}/continuous/anza*/PFO.BHZ*") if folder else []
    if not files:
        pytest.skip("SEISLATENT_RECORDS names no folder with continuous/anza_19980101")
    pieces = list(iterate(files[0], piece_bytes=1 << 18))
    assert len(pieces) > 5
    for (i, s, r, d), (j, t, q, e) in zip(joined(pieces), joined(read(files[0])), strict=True):
        assert (i, s, r) == (j, t, q) and np.array_equal(d, e)
