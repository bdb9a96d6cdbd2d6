import glob
import json
import os
import random
import tracemalloc
import warnings
import zlib
from dataclasses import replace

import numpy as np
import obspy
import pytest
import torch
from obspy.core.inventory import Channel as StationChannel
from obspy.core.inventory import Inventory, Network, Station
from plaincodec import PlainCodec, PlainModel

from seislatent.errors import SeislatentError
from seislatent.io import files, miniseed
from seislatent.io.slat import Codes
from seislatent.io.slat_table import FRAME, MAGIC, PRELUDE
from seislatent.systems.codec import segments, stream
from seislatent.waveform import Channel, Waveform

torch.set_num_threads(1)
MODEL = PlainModel()


def walk(n, seed=0, scale=1000.0):
    """A slow random walk with a faster one on it: most of it below 20 Hz at any rate."""
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.normal(size=n))
    x -= np.linspace(x[0], x[-1], n)
    return scale * x / (x.std() or 1.0)


def wave(data, rate=40.0, start_ns=10**18, **channel):
    channel = Channel(**{"network": "XX", "station": "AB", "code": "HHZ"} | channel)
    return Waveform(data=np.asarray(data)[None], sampling_rate_hz=rate, channels=(channel,), start_ns=start_ns)


@pytest.fixture
def short_runs(monkeypatch):
    """Segments of 5 frames, 2 in a run: the shape of an hour in half a minute."""
    real = segments.Head
    monkeypatch.setattr(segments, "Head", lambda **named: real(**named, hop=4, run=2))


@pytest.mark.parametrize("rate", [20.0, 40.0, 62.5, 100.0, 99.9871])
def test_whole_and_chunked_give_the_same_bytes(rate, short_runs):
    rng = random.Random(rate)
    for n in (40, 41, 300, 2000, 7001, 20000):
        x = walk(n, n)
        whole = segments.StreamEncoder(MODEL, 8, rate)
        expected = whole.feed(x) + whole.close()
        for longest in (7, 999, n):
            piecewise, found, at = segments.StreamEncoder(MODEL, 8, rate), [], 0
            while at < n:
                step = rng.randint(1, longest)
                found += piecewise.feed(x[at : at + step])
                at += step
            found += piecewise.close()
            assert piecewise.frames == whole.frames and len(found) == len(expected)
            for a, b in zip(found, expected, strict=True):
                assert a.offsets == b.offsets
                for one, other in zip(a.scales + a.indices, b.scales + b.indices, strict=True):
                    assert np.array_equal(one, other)


def test_calls_have_shapes_that_follow_from_the_trace(short_runs):
    model = PlainModel(PlainCodec())
    encoder = segments.StreamEncoder(model, 8, 40.0)
    for at in range(0, 40 * 27, 100):
        encoder.feed(walk(40 * 27)[at : at + 100])
    encoder.close()
    segment = 5 * 40 + 160
    assert model.system.calls == [(2, 1, segment), (2, 1, segment), (1, 1, segment), (1, 1, 7 * 40 + 160)]


@pytest.mark.parametrize("rate", [10.0, 20.0, 40.0, 62.5, 100.0])
def test_a_trace_comes_back_in_time_and_amplitude(rate):
    t = np.arange(int(rate * 400)) / rate
    x = 500 * np.sin(2 * np.pi * 0.3 * t) + 100 * np.sin(2 * np.pi * 1.1 * t)
    (back,) = stream.decode_waveforms(MODEL, stream.encode(MODEL, wave(x, rate)))
    assert back.data.shape == (1, len(x)) and back.sampling_rate_hz == rate and back.start_ns == 10**18
    assert ((back.data[0] - x) ** 2).mean() < 10**-1.5 * (x**2).mean()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64, ">i4", ">f8"])
def test_types_come_back(dtype):
    x = walk(4000).astype(dtype)
    (back,) = stream.decode_waveforms(MODEL, stream.encode(MODEL, wave(x, 100.0)))
    assert back.data.dtype == np.dtype(dtype).newbyteorder("=")
    trace = obspy.Trace(x, {"sampling_rate": 100.0})
    if np.dtype(dtype).isnative:
        assert stream.decode(MODEL, stream.encode(MODEL, obspy.Stream([trace])))[0].data.dtype == dtype


def test_integers_are_cut_at_the_ends_of_their_range():
    y = np.array([-1e30, -0.6, 0.4, 1e30])
    assert segments.cast_to(y, np.dtype(np.int16)).tolist() == [-32768, -1, 0, 32767]
    assert segments.cast_to(y, np.dtype(np.int64))[3] > 2**62
    assert segments.cast_to(np.array([1e300]), np.dtype(np.float32))[0] == np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("data", "rate", "reason"),
    [
        (np.frombuffer(b"battery low", "S1"), 100.0, "text"),
        (np.frombuffer(b"no rate at all", "S1"), 0.0, "text"),
        (np.arange(39, dtype=np.int32), 100.0, "39 samples, fewer than 40"),
        (np.empty(0, np.float32), 100.0, "no samples"),
        (np.arange(5000, dtype=np.int32), 1.0, "1 Hz is below 10 Hz"),
        (np.arange(50, dtype=np.int32), 100.0, "shorter than one frame"),
        (np.array([1.0, np.nan] * 500), 100.0, "not finite"),
        (np.array([1.0, np.inf] * 500, np.float32), 100.0, "not finite"),
        (np.full(1000, 1e30), 100.0, "a peak of 1e+30"),
        (np.ones(1000, bool), 100.0, "samples of type bool"),
        (np.ones(1000, complex), 100.0, "samples of type complex128"),
        (np.arange(600000, dtype=np.int32) ** 2, 2e4, "20000 Hz is above"),
    ],
)
def test_what_the_codec_cannot_serve_is_stored_as_it_is(data, rate, reason):
    codes = stream.encode(MODEL, [wave(data, rate), wave(walk(1000))])
    (told,) = codes.info()["lossless"]
    assert reason in told["reason"] and told["id"] == "XX.AB..HHZ"
    back = [w for w in stream.decode_waveforms(MODEL, codes) if w.data.dtype != np.float64 or w.data.shape[1] != 1000 or rate > 40]
    found = next(w for w in back if w.sampling_rate_hz == rate)
    assert found.data.dtype == data.dtype and np.array_equal(found.data[0], data, equal_nan=data.dtype.kind == "f")


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e9])
def test_loud_and_quiet_come_back_alike(scale):
    x = walk(8000, scale=1.0)
    (one,) = stream.decode_waveforms(MODEL, stream.encode(MODEL, wave(x)))
    (other,) = stream.decode_waveforms(MODEL, stream.encode(MODEL, wave(x * scale)))
    error = [((a.data[0] / s - x) ** 2).mean() for a, s in ((one, 1.0), (other, scale))]
    assert error[1] == pytest.approx(error[0], rel=0.5)


def test_silence_constants_offsets_and_jumps_come_back():
    for constant in (0.0, 7.0, -1e9, 1e-12):
        (back,) = stream.decode_waveforms(MODEL, stream.encode(MODEL, wave(np.full(8000, constant), 100.0)))
        assert np.abs(back.data[0] - constant).max() <= 1e-6 * abs(constant)
    x = walk(8000)
    (back,) = stream.decode_waveforms(MODEL, stream.encode(MODEL, wave(x + 1e9)))
    assert ((back.data[0] - 1e9 - x) ** 2).mean() < 0.1 * (x**2).mean()
    x = np.sin(np.arange(8000) * np.pi / 20) * np.where(np.arange(8000) < 4000, 1.0, 1e6)  # a period is a frame: the mean is 0
    (back,) = stream.decode_waveforms(MODEL, stream.encode(MODEL, wave(x)))
    for part in (slice(0, 3880), slice(4120, 8000)):
        assert ((back.data[0] - x)[part] ** 2).mean() < 0.2 * (x[part] ** 2).mean()


def test_ids_places_times_and_extras_come_back():
    far = dict(network="NETWORK", station="STATION" * 9, location="0123", code="B_H_Z", component="Z")
    place = dict(latitude_deg=1.25, longitude_deg=-70.1, elevation_m=0.0, azimuth_deg=359.9, dip_deg=-90.0)
    old = Waveform(
        data=np.stack([walk(500), walk(500, 1)]), sampling_rate_hz=40.0, start_ns=-(10**18) - 7, unit="m/s",
        channels=(Channel(**far, **place), Channel(station="Ω")), metadata={"calib": 2.5, "continues": False, "list": [1]},
    )  # fmt: skip
    first, second = stream.decode_waveforms(MODEL, stream.encode(MODEL, old))
    assert first.channels == old.channels[:1] and second.channels == old.channels[1:]
    assert first.start_ns == old.start_ns and first.unit == "m/s" and first.metadata == {"calib": 2.5}


def test_gaps_overlaps_and_masks_stay():
    start = obspy.UTCDateTime(1965, 3, 4, 5, 6, 7.123456)
    header = {"network": "XX", "station": "AB", "channel": "HHZ", "sampling_rate": 100.0}
    masked = np.ma.masked_array(walk(1500), np.arange(1500) // 500 == 1)
    traces = [
        obspy.Trace(walk(500), header | {"starttime": start}),
        obspy.Trace(walk(500), header | {"starttime": start + 4.0}),  # overlaps
        obspy.Trace(walk(500), header | {"starttime": start + 20.0}),  # after a gap
        obspy.Trace(masked, header | {"starttime": start + 100.0}),
    ]
    back = stream.decode(MODEL, stream.encode(MODEL, obspy.Stream(traces)))
    times = [start, start + 4, start + 20, start + 100, start + 110]
    assert [(t.id, t.stats.starttime.ns, t.stats.npts) for t in back] == [("XX.AB..HHZ", t.ns, 500) for t in times]


def test_a_lower_level_at_encoding_or_at_decoding_is_the_same():
    x = wave(walk(20000).astype(np.int32), 100.0)
    whole = stream.encode(MODEL, x)
    errors = []
    for level in range(1, 9):
        alone = stream.encode(MODEL, x, level)
        assert whole.truncate(level).to_bytes() == alone.to_bytes()
        (a,), (b,) = stream.decode_waveforms(MODEL, whole, level), stream.decode_waveforms(MODEL, alone)
        assert np.array_equal(a.data, b.data)
        errors.append(((a.data - x.data).astype(float) ** 2).mean())
    assert errors == sorted(errors, reverse=True)
    for level in (0, 9):
        with pytest.raises(SeislatentError, match="levels 1 to 8"):
            stream.decode_waveforms(MODEL, whole, level)
        with pytest.raises(SeislatentError, match="levels 1 to 8"):
            stream.encode(MODEL, x, level)


def test_a_day_costs_little_more_than_its_indices():
    x = wave(walk(86400 * 40).astype(np.int32))
    codes = stream.encode(MODEL, x)
    for level, most in ((8, 0.02), (1, 0.05)):
        told = codes.truncate(level).info()
        assert told["bytes"] == len(codes.truncate(level).to_bytes()) and told["bits_per_second"] == 10 * level
        assert told["overhead"] == pytest.approx(told["bytes"] * 8 / 86400 / told["bits_per_second"] - 1)
        assert told["overhead"] <= most
    assert json.loads(json.dumps(told))["level"] == 1
    assert told["dropped"] == [] and stream.encode(MODEL, wave(walk(500), 100.0)).info()["dropped"][0]["above_hz"] == 20.0


def test_joins_show_no_step(short_runs):
    x = walk(40 * 1201)
    (back,) = stream.decode_waveforms(MODEL, stream.encode(MODEL, wave(x)))
    error = back.data[0] - x
    step = np.abs(np.diff(error))
    frames = np.arange(39, len(x) - 1, 40)  # this codec has a step at the end of every frame
    joins = np.array([k * 160 + edge for k in range(1, 299) for edge in (-1, 39)])
    assert step[joins].mean() < 1.2 * step[np.setdiff1d(frames, joins)].mean()


def decoded(codes, level=None):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        return stream.decode_waveforms(MODEL, codes, level), [str(w.message) for w in told]


def test_damage_stays_within_a_frame_of_its_chunk(short_runs):
    x, rng = walk(40 * 50 + 17), random.Random(5)
    codes = stream.encode(MODEL, wave(x))
    data, size = codes.to_bytes(), len(codes.body)
    at_level = {k: stream.decode_waveforms(MODEL, codes, k)[0].data[0] for k in range(1, 9)}
    for _ in range(250):
        broken = bytearray(data)
        bit = rng.randrange(8 * (len(data) - size), 8 * len(data))
        broken[bit // 8] ^= 1 << bit % 8
        found = Codes.read(bytes(broken))
        (damage,) = found.check()
        back, told = decoded(found)
        assert told == [str(damage)]
        first, last = ((t - 10**18) * 40 // 10**9 for t in (damage.start_ns, damage.end_ns))
        place = np.arange(len(x))
        here = np.full(len(x), np.nan)
        for part in back:
            at = (part.start_ns - 10**18) * 40 // 10**9
            here[at : at + part.data.shape[1]] = part.data[0]
        outside = (place < first) | (place >= last)
        inside = (place >= first + (40 if first else 0)) & (place < (last - 40 if last < len(x) else last))
        assert np.array_equal(here[outside], at_level[8][outside])
        if damage.level:
            assert np.array_equal(here[inside], at_level[damage.level][inside])
        else:
            assert np.isnan(here[inside]).all() and np.isfinite(here[(place >= first) & ~inside]).sum() <= len(x)
        with pytest.raises(SeislatentError, match="damaged"):
            stream.decode_waveforms(MODEL, found, strict=True)


def test_a_cut_file_gives_what_it_holds(short_runs):
    codes = stream.encode(MODEL, [wave(walk(40 * 50)), wave(walk(40 * 9), station="CD")])
    data = codes.to_bytes()
    whole = {k: np.concatenate([w.data[0] for w in stream.decode_waveforms(MODEL, codes, k)]) for k in range(1, 9)}
    told = codes.info()
    for level, size in told["prefix_bytes"].items():
        back, messages = decoded(Codes.read(data[:size]))
        assert np.array_equal(np.concatenate([w.data[0] for w in back]), whole[level])
        assert bool(messages) == (level < 8)
    back, messages = decoded(Codes.read(data[: told["smallest_prefix_bytes"]]))
    assert len(back) == 1 and back[0].data.shape[1] == 9 * 40 and any("a gap" in m for m in messages)


def test_resampled_traces_keep_their_place_beside_a_gap(short_runs):
    t = np.arange(100 * 60) / 100.0
    x = 100 * np.sin(2 * np.pi * 0.4 * t)
    codes = stream.encode(MODEL, wave(x, 100.0))
    data = bytearray(codes.to_bytes())
    side = len(data) - len(codes.body) + codes.traces[0].chunks[0] + 4
    data[side] ^= 1  # the second run's side information
    back, _ = decoded(Codes.read(bytes(data)))
    whole = stream.decode_waveforms(MODEL, codes)[0].data[0]
    assert [b.start_ns - 10**18 for b in back] == [0, 16 * 10**9]
    assert back[0].data.shape[1] == 9 * 100 - 2 and back[1].data.shape[1] == 44 * 100
    assert np.abs(back[0].data[0][:700] - whole[:700]).max() < 0.1
    assert np.abs(back[1].data[0][200:] - whole[1800:]).max() < 0.1


def test_hostile_tables_do_not_exhaust_memory(short_runs):
    codes = stream.encode(MODEL, [wave(walk(40 * 50)), wave(np.arange(90, dtype=np.int32), 1.0)])
    data, rng = codes.to_bytes(), random.Random(3)
    length = PRELUDE.unpack_from(data)[3]
    block, body = data[PRELUDE.size + FRAME.size :][:length], data[PRELUDE.size + 2 * (FRAME.size + length) :]
    warnings.simplefilter("ignore")
    tracemalloc.start()
    through = 0
    for _ in range(300):
        broken = bytearray(block)
        for _ in range(rng.choice((1, 1, 2))):
            broken[rng.randrange(40, len(broken))] ^= 1 << rng.randrange(8)
        copy = FRAME.pack(len(broken), zlib.crc32(broken)) + broken
        try:
            stream.decode_waveforms(MODEL, Codes.read(PRELUDE.pack(MAGIC, 1, 0, len(broken)) + copy + copy + body))
            through += 1
        except SeislatentError:
            continue
    assert through > 25
    assert tracemalloc.get_traced_memory()[1] < 300e6
    tracemalloc.stop()


def test_chunks_larger_than_any_program_writes_are_refused():
    """A decoder takes the segments of a chunk at once: a small file must not make that many."""
    codes = stream.encode(MODEL, wave(walk(400)))
    for hop, run in ((128, 1024), (2**15, 1)):
        with pytest.raises(SeislatentError, match="chunks of"):
            Codes.read(replace(codes, head=replace(codes.head, hop=hop, run=run)).to_bytes())


def test_the_codec_itself_gives_the_same_codes_in_pieces():
    from seislatent.systems.codec.eqcodec import EQCodec, EQCodecConfig

    torch.manual_seed(0)
    system = EQCodec(EQCodecConfig()).eval()
    for book in system.quantizer.codebooks:
        book.data.normal_()
    model, x = PlainModel(system=system), walk(100 * 500)
    whole = segments.StreamEncoder(model, 8, 100.0)
    piecewise = segments.StreamEncoder(model, 8, 100.0)
    expected = whole.feed(x) + whole.close()
    found = [run for at in range(0, len(x), 777) for run in piecewise.feed(x[at : at + 777])] + piecewise.close()
    for a, b in zip(found, expected, strict=True):
        assert a.offsets == b.offsets and all(map(np.array_equal, a.indices + a.scales, b.indices + b.scales))
    assert len(np.unique(expected[0].indices[0][0])) > 5


def test_other_weights_are_refused_by_name():
    codes = stream.encode(MODEL, wave(walk(500)))
    for model in (None, PlainModel(name="codec/other", digest="f" * 16)):
        with pytest.raises(SeislatentError, match="needs codec/plain, version 1, weights 0123456789abcdef"):
            stream.decode(model, codes)
    with pytest.raises(SeislatentError, match="contradicts"):
        stream.decode(PlainModel(PlainCodec(frame=20)), codes)
    assert stream.decode(None, stream.encode(MODEL, wave(np.arange(9))))[0].stats.npts == 9
    with pytest.raises(SeislatentError, match="no trace"):
        stream.encode(MODEL, [])


def test_paths_are_no_streams():
    trace = obspy.Trace(walk(400), {"sampling_rate": 40.0, "channel": "HHZ"})
    assert stream.decode(MODEL, stream.encode(MODEL, trace))[0].id == trace.id
    with pytest.raises(SeislatentError, match="read it first"):
        stream.encode(MODEL, "day.mseed")
    with pytest.raises(SeislatentError, match=r"Codes\.read"):
        stream.decode(MODEL, "day.slat")


def test_files_go_through_in_pieces(tmp_path):
    x = walk(40000).astype(np.int32)
    miniseed.write(
        [wave(x, 100.0), wave(x[:9000], 100.0, start_ns=2 * 10**18), wave(x[:60], 1.0, code="LHZ")], tmp_path / "in.mseed"
    )
    whole = stream.encode(MODEL, files.read_stream(tmp_path / "in.mseed"))
    codes = stream.encode_file(MODEL, tmp_path / "in.mseed", tmp_path / "out.slat")
    pieces = files.iterate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "iterate", lambda path: pieces(path, piece_bytes=8192))
        again = stream.encode_file(MODEL, tmp_path / "in.mseed", tmp_path / "again.slat")
    assert codes.to_bytes() == whole.to_bytes() == (tmp_path / "out.slat").read_bytes()
    assert [t.samples for t in again.traces] == [t.samples for t in codes.traces] and again.to_bytes() == codes.to_bytes()
    done = stream.decode_file(MODEL, tmp_path / "out.slat", tmp_path / "back.mseed", level=3)
    assert (done.level, done.traces, done.samples, done.damage) == (3, 3, 49060, ())
    expected = stream.decode(MODEL, codes, 3)
    found = files.read_stream(tmp_path / "back.mseed")
    assert [(t.id, t.stats.starttime, t.stats.npts) for t in found] == [(t.id, t.stats.starttime, t.stats.npts) for t in expected]
    assert all(np.array_equal(a.data, b.data) for a, b in zip(found, expected, strict=True))
    for call in (
        lambda: stream.encode_file(MODEL, tmp_path / "in.mseed", tmp_path / "out.slat"),
        lambda: stream.decode_file(MODEL, tmp_path / "out.slat", tmp_path / "back.mseed"),
    ):
        with pytest.raises(SeislatentError, match="exists"):
            call()
    with pytest.raises(SeislatentError, match="would be cut"):
        stream.decode_file(MODEL, stream.encode(MODEL, wave(x, station="TOOLONG")), tmp_path / "long.mseed")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.slat", "back.mseed", "in.mseed", "out.slat"]


def test_directions_come_from_an_inventory_and_ride_in_the_file(tmp_path):
    one = StationChannel("HH1", "", 1.0, 2.0, 3.0, 0.0, azimuth=33.0, dip=0.0, sample_rate=40.0)
    inventory = Inventory([Network("XX", [Station("AB", 1.0, 2.0, 3.0, channels=[one])])], source="test")
    inventory.write(str(tmp_path / "a.xml"), format="STATIONXML")
    miniseed.write([wave(walk(400), code="HH1"), wave(walk(400), code="HH2")], tmp_path / "in.mseed")
    bare = stream.encode_file(MODEL, tmp_path / "in.mseed", tmp_path / "bare.slat")
    assert bare.info()["unoriented"] == ["XX.AB..HH1", "XX.AB..HH2"]
    assert all("unoriented: component" in w.history[-1] for w in stream.decode_waveforms(MODEL, bare))
    codes = stream.encode_file(MODEL, tmp_path / "in.mseed", tmp_path / "told.slat", inventory=tmp_path / "a.xml")
    first, second = stream.decode_waveforms(MODEL, codes)
    assert (first.channels[0].azimuth_deg, first.channels[0].dip_deg, len(first.history)) == (33.0, 0.0, 1)
    assert first.ids == ("XX.AB..HH1",) and codes.info()["unoriented"] == ["XX.AB..HH2"] and "unoriented" in second.history[-1]
    miniseed.write(wave(walk(400), station="CD"), tmp_path / "other.mseed")
    with pytest.raises(SeislatentError, match=r"a\.xml gives no direction of XX\.CD\.\.HHZ"):
        stream.encode_file(MODEL, tmp_path / "other.mseed", tmp_path / "other.slat", inventory=tmp_path / "a.xml")
    assert not (tmp_path / "other.slat").exists()


def listed(waveforms):
    return sorted((w.ids[0], w.start_ns, w.sampling_rate_hz, w.data.shape[1], w.data.dtype.str, w.unit or "") for w in waveforms)


WHEEL = sorted(
    p
    for kind in ("mseed", "sac", "gse2")
    for p in glob.glob(f"{os.path.dirname(obspy.__file__)}/io/{kind}/**/data/**", recursive=True)
    if os.path.isfile(p)
)


def test_every_file_of_obspy_s_wheel_comes_back(tmp_path):
    warnings.simplefilter("ignore")
    through = 0
    for path in WHEEL:
        try:
            given = files.from_stream(files.read_stream(path))
        except SeislatentError:  # no waveform file, or a broken one, of which tests/io/test_files.py tells
            continue
        codes = stream.encode_file(MODEL, path, tmp_path / "x.slat", overwrite=True)
        assert listed(stream.decode_waveforms(MODEL, codes)) == listed(given), path
        through += 1
    assert through >= 90
