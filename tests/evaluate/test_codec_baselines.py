"""The classical coders: what goes in comes back, files tell when they are damaged, and the rates are those of real files."""

import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines import optional, points, try_baseline
from seislatent.evaluate.baselines.container import FREE_SAMPLES, MAGIC, SAMPLES_PER_BYTE, pack, payload_bytes, unpack
from seislatent.evaluate.baselines.lossless import blosc2, flac, steim, steim1, steim2, steim_payload_bytes, zstd
from seislatent.evaluate.baselines.mdct import Mdct, best_blocks
from seislatent.evaluate.baselines.sz3 import sz3
from seislatent.evaluate.baselines.zfp import zfp
from seislatent.io.bits import text, varint
from seislatent.waveform import Channel, Waveform

PACKAGES = {"baseline/zfp": "zfpy", "baseline/sz3": "pysz", "baseline/flac": "soundfile", "baseline/blosc2": "blosc2",
            "baseline/zstd": "zstandard"}  # fmt: skip
LOSSY, LOSSLESS = (Mdct, zfp, sz3), (steim1, steim2, flac, blosc2, zstd)


def made(build):
    baseline = build()
    if baseline.name in PACKAGES:
        pytest.importorskip(PACKAGES[baseline.name], reason=f"{baseline.name} needs {PACKAGES[baseline.name]}")
    return baseline


def record(data, **changes):
    data = np.atleast_2d(data)
    channels = tuple(Channel(network="XX", station="ABCDEF", code=f"HH{i}", component=str(i)) for i in range(len(data)))
    return Waveform(
        **{"data": data, "sampling_rate_hz": 40.0, "channels": channels, "start_ns": 10**18 + 7, "unit": "m/s"} | changes
    )


def quake(n=1500, rows=3, seed=0):
    """Noise with an onset in the middle, about 1,000 counts."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) - n // 2
    loud = 20 + 1500 * np.where(t >= 0, np.exp(-np.maximum(t, 0) / 200), 0)
    x = rng.standard_normal((rows, n + 4))
    return (x[:, 4:] + 1.3 * x[:, 3:-1] + 0.9 * x[:, 2:-2] + 0.4 * x[:, 1:-3]) * loud


def snr_db(y, x):
    x, y = x.astype(float), y.astype(float)
    return 10 * np.log10(((x - x.mean(1, keepdims=True)) ** 2).sum(1) / np.maximum(((y - x) ** 2).sum(1), 1e-300))


# -- lossy ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", LOSSY)
@pytest.mark.parametrize("quality", [8.0, 30.0])
@pytest.mark.parametrize("amplitude", [1e6, 1.0, 1e-9])
def test_ratio_and_identity_come_back(build, quality, amplitude):
    baseline, x = made(build), record(quake() * amplitude / 1000 + 3 * amplitude)
    data = baseline.encode(x, quality)
    y = baseline.decode(data)
    assert (y.sampling_rate_hz, y.start_ns, y.unit, y.channels) == (x.sampling_rate_hz, x.start_ns, x.unit, x.channels)
    assert y.data.dtype == x.data.dtype and y.data.shape == x.data.shape
    found = snr_db(y.data, x.data)
    assert (found > quality - 0.02).all() and (found < quality + (0.5 if baseline.name == "baseline/mdct" else 2.5)).all()
    assert baseline.name in y.history[-1]
    assert baseline.encode(x, quality) == data


@pytest.mark.parametrize("build", LOSSY)
def test_rate_is_kept(build):
    baseline, x = made(build), record(quake())
    for bits in (2.0, 4.0):
        data = baseline.encode(x, bits_per_sample=bits)
        assert 0.85 * bits < 8 * payload_bytes(baseline.name, data) / x.data.size <= bits


@pytest.mark.parametrize("build", [zfp, sz3])
def test_tolerance_bounds_every_sample(build):
    baseline, x = made(build), record(quake())
    y = baseline.decode(baseline.encode(x, tolerances=[1.0, 30.0, 300.0]))
    assert (np.abs(y.data - x.data).max(1) <= [1.0, 30.0, 300.0]).all()


@pytest.mark.parametrize("step", [1.0, 30.0, 500.0])
def test_steps_bound_the_error_of_the_mdct(step):
    """Rounding alone leaves at most half a step in each coefficient; the trade for bits may leave more, but no more than a step."""
    x = record(quake())
    for trade, most in ((0.0, 0.55), (0.1, 1.0)):
        y = Mdct(trade=trade).decode(Mdct(trade=trade).encode(x, steps=[step] * 3))
        assert (np.sqrt(((y.data - x.data) ** 2).mean(1)) <= most * step).all()


def test_counts_come_back_exactly_at_a_small_step():
    x = record(np.round(quake()).astype(np.int32))
    assert (Mdct().decode(Mdct().encode(x, steps=[0.5] * 3)).data == x.data).mean() > 0.95
    assert (Mdct(trade=0.0).decode(Mdct(trade=0.0).encode(x, steps=[0.1] * 3)).data == x.data).all()


@pytest.mark.parametrize("build", LOSSY)
@pytest.mark.parametrize("n", [0, 1, 2, 7, 33])
def test_short_records(build, n):
    baseline = made(build)
    x = record(np.random.default_rng(n).standard_normal((2, n)))
    y = baseline.decode(baseline.encode(x, 20.0)).data
    assert y.shape == x.data.shape and (n < 2 or (snr_db(y, x.data) > 19.5).all())


@pytest.mark.parametrize("build", LOSSY)
def test_silence_and_constants_are_exact_and_cost_nothing(build):
    baseline, data = made(build), np.zeros((3, 1000))
    data[1], data[2] = 12345.678, np.nan
    file = baseline.encode(record(data), 10.0)
    assert np.array_equal(baseline.decode(file).data, data, equal_nan=True) and payload_bytes(baseline.name, file) < 60


@pytest.mark.parametrize("build", LOSSY)
def test_gaps_stay_gaps(build):
    baseline, data = made(build), quake(rows=2).astype(np.float32)
    data[0, :20] = data[0, 400:900] = data[1, -1:] = np.nan
    y = baseline.decode(baseline.encode(record(data), 20.0)).data
    assert (np.isnan(y) == np.isnan(data)).all()
    assert (10 * np.log10(np.nanvar(data, 1) / np.nanmean((y - data) ** 2, 1)) > 17).all()


@pytest.mark.parametrize("build", LOSSY)
def test_what_cannot_be_coded_is_told(build):
    baseline = made(build)
    with pytest.raises(SeislatentError, match="infinite"):
        baseline.encode(record(np.array([0.0, np.inf, 1.0])), 10.0)
    for amplitude in (1e-160, 1e160):
        with pytest.raises(SeislatentError, match="another unit"):
            baseline.encode(record(quake() * amplitude), 10.0)
    with pytest.raises(SeislatentError, match="give one of"):
        baseline.encode(record(quake()))
    with pytest.raises(SeislatentError, match="int16, int32"):
        baseline.encode(record(np.array([[b"a", b"b"]])), 10.0)
    with pytest.raises(SeislatentError, match="positive"):
        baseline.encode(record(quake()), **{"steps" if baseline.name == "baseline/mdct" else "tolerances": [0.0, 1.0, 1.0]})
    with pytest.raises(SeislatentError, match=r"too few|cannot be coded"):
        baseline.encode(record(quake()), bits_per_sample=1e-4)


def test_int32_extremes_through_the_mdct():
    x = record(np.array([[-(2**31), 2**31 - 1] * 500], np.int32))
    y = Mdct().decode(Mdct().encode(x, 60.0)).data
    assert y.dtype == np.int32 and snr_db(y, x.data)[0] > 59.9
    with pytest.raises(SeislatentError, match="too small"):
        Mdct().encode(x, steps=[1.0])


def test_blocks_are_split_at_an_onset():
    x = np.zeros((1, 2048))
    rng = np.random.default_rng(1)
    x[0] = np.cos(np.arange(2048) * 0.3) * 0.01
    x[0, 1000:1040] += rng.standard_normal(40) * 50
    blocks = best_blocks(x, np.array([0.01]), (256,))
    assert blocks.split[1000 // 256] and not blocks.split[[0, 1, 6, 7]].any()
    assert sum(blocks.lengths) == 2048


def test_channels_help_each_other():
    """Three channels of one envelope take less in one file than in three."""
    x = record(quake(4000))
    together = payload_bytes("baseline/mdct", Mdct().encode(x, 15.0))
    apart = sum(payload_bytes("baseline/mdct", Mdct().encode(x.select([i]), 15.0)) for i in range(3))
    assert together < apart


def test_golden_file():
    """What an older file holds must read for ever: the whole numbers of this file do not depend on any machine."""
    y = Mdct().decode(bytes.fromhex(GOLDEN)).data[0]
    assert np.abs(y - 100 * np.sin(np.arange(64) / 3)).max() < 25
    assert np.allclose(y[[0, 1, 20, 63]], EXPECTED, rtol=0, atol=1e-9)


EXPECTED = [16.7594121753, 31.0025740941, 39.8852384001, 96.5019123286]
GOLDEN = (
    "95534c42310d0a1a0d626173656c696e652f6d6463740000000000004440004004023d6d01000147"
    "00000000001502ab0432fffff15fc5e6a032454eab26e88403d39f89f127f9"
)


# -- lossless ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", LOSSLESS)
@pytest.mark.parametrize("kind", ["counts", "one", "silence", "none", "wide"])
def test_lossless_is_exact(build, kind):
    baseline = made(build)
    data = {
        "counts": np.round(quake(5000)).astype(np.int32),
        "one": np.array([[-5]], np.int32),
        "silence": np.zeros((2, 3000), np.int32),
        "none": np.zeros((1, 0), np.int32),
        "wide": np.random.default_rng(0).integers(-(2**28), 2**28, (1, 3000)).astype(np.int32),
    }[kind]
    x = record(data)
    y = baseline.decode(baseline.encode(x, math.inf))
    assert y.data.dtype == data.dtype and (y.data == data).all() and y.channels == x.channels


@pytest.mark.parametrize("build", LOSSLESS)
def test_extremes_of_int32_are_exact_or_refused(build):
    baseline = made(build)
    x = record(np.array([2**31 - 1, -(2**31), 0, 1, -1, 2**31 - 1, -(2**31)] * 30, np.int32))
    if baseline.name == "baseline/steim2":
        with pytest.raises(SeislatentError, match="30 bits"):
            baseline.encode(x)
    else:
        assert (baseline.decode(baseline.encode(x)).data == x.data).all()


@pytest.mark.parametrize("build", [blosc2, zstd])
def test_floats_are_exact_to_the_bit(build):
    baseline, data = made(build), quake().astype(np.float32)
    data[0, 3], data[1, 4] = np.nan, -0.0
    y = baseline.decode(baseline.encode(record(data))).data
    assert (y.view(np.int32) == data.view(np.int32)).all()


@pytest.mark.parametrize("build", LOSSLESS[:3])
def test_floats_are_refused_where_they_cannot_be_kept(build):
    with pytest.raises(SeislatentError, match="whole numbers"):
        made(build).encode(record(quake()))


def test_flac_beats_steim():
    x = np.round(quake(20000, rows=1)[0]).astype(np.int32)
    first, second = (steim_payload_bytes(steim(version).compress(x)) for version in (1, 2))
    assert len(made(flac).compress(x)) < second < first


def test_steim_payload_leaves_headers_and_filling_out():
    x = record(np.round(quake(2000, rows=1)).astype(np.int32))
    body = steim(2).compress(x.data[0])
    assert len(body) % 4096 == 0 and 0 < steim_payload_bytes(body) < len(body) - 64


# -- files ---------------------------------------------------------------------------------------------------------------------

EVERY = (*LOSSY, *LOSSLESS)


@pytest.mark.parametrize("build", EVERY)
def test_a_flipped_bit_anywhere_is_told(build):
    baseline = made(build)
    data = baseline.encode(record(np.round(quake(300)).astype(np.int32)), 20.0)
    rng = np.random.default_rng(0)
    for at in [*range(0, 60), *rng.integers(len(data), size=40), len(data) - 1]:
        hurt = bytearray(data)
        hurt[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(SeislatentError, match=r"damaged|no file of"):
            baseline.decode(bytes(hurt))


@pytest.mark.parametrize("build", EVERY)
def test_cut_short_empty_or_of_another_coder(build):
    baseline = made(build)
    data = baseline.encode(record(np.round(quake(300)).astype(np.int32)), 20.0)
    for cut in (0, 3, 8, 11, 12, len(data) // 2, len(data) - 1):
        with pytest.raises(SeislatentError, match=r"damaged|no file of"):
            baseline.decode(data[:cut])
    with pytest.raises(SeislatentError, match="decode it with that"):
        baseline.decode(pack("baseline/other", record(quake()), b"abc"))


def signed(body):
    return body + struct.pack("<I", zlib.crc32(body))


def test_hostile_lengths_cost_nothing():
    start = MAGIC + text("baseline/mdct") + struct.pack("<d", 40.0) + varint(0)
    huge = varint(2**60), varint(2**62)
    for samples in (*huge, varint(FREE_SAMPLES * 4)):
        for rows in (varint(1), varint(2**15), *huge):
            with pytest.raises(SeislatentError, match="cannot be"):
                Mdct().decode(signed(start + samples + b"\x01" + text("") + rows + b"\x00" * 50))
    with pytest.raises(SeislatentError, match="rate"):
        unpack(
            "x", signed(MAGIC + text("x") + struct.pack("<d", math.nan) + varint(0) + varint(5) + b"\1" + text("") + varint(0) * 2)
        )


def test_hostile_texts_and_steps_are_told():
    start = MAGIC + text("baseline/mdct") + struct.pack("<d", 40.0) + varint(0) + varint(5) + b"\x04" + text("") + varint(1)
    for place in ("[" * 100_000, "{", '{"depth": 1}', '{"latitude_deg": "x"}', "[1]"):
        with pytest.raises(SeislatentError, match="cannot be"):
            Mdct().decode(signed(start + text("") * 5 + text(place) + varint(0) + varint(0)))
    for body in (b"\0" + varint(1 + 2**17), b"\0" + varint(2**40), b"\7" + varint(3) + varint(2**68), b""):
        with pytest.raises(SeislatentError, match="cannot be"):
            Mdct().decode(pack("baseline/mdct", record(quake(rows=1)), body))


@pytest.mark.parametrize("build", [Mdct])
def test_any_payload_with_a_right_checksum_gives_numbers_or_a_clear_line(build):
    x, told = record(quake(300)), 0
    for seed in range(300):
        body = np.random.default_rng(seed).bytes(seed)
        try:
            assert build().decode(pack("baseline/mdct", x, body)).data.shape == x.data.shape
        except SeislatentError as error:
            told += "\n" not in str(error)
    assert told


def test_a_long_silence_is_filled_up_and_comes_back():
    x = record(np.zeros((1, FREE_SAMPLES + 100 * SAMPLES_PER_BYTE), np.int32))
    data = Mdct().encode(x, 10.0)
    assert 100 <= len(data) < 200 and Mdct().decode(data).data.shape == x.data.shape


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_missing_package_is_named(name, monkeypatch):
    monkeypatch.setattr(optional.importlib, "import_module", lambda module: (_ for _ in ()).throw(ImportError(module)))
    build = {"baseline/zfp": zfp, "baseline/sz3": sz3, "baseline/flac": flac, "baseline/blosc2": blosc2, "baseline/zstd": zstd}[
        name
    ]
    with pytest.raises(SeislatentError, match=f"{name} needs the package {PACKAGES[name]}.*pip install"):
        build().encode(record(np.round(quake(100)).astype(np.int32)), 10.0)


# -- judged ----------------------------------------------------------------------------------------------------------------------


def test_points_are_of_real_files():
    x = record(quake())
    found = points(Mdct(), x, (10.0, 20.0))
    assert [len(Mdct().encode(x, q)) for q in (10.0, 20.0)] == [p.file_bytes for p in found]
    assert found[0].bits_per_sample < found[1].bits_per_sample and found[0].payload_bytes < found[0].file_bytes
    assert all(abs(e.snr_db - p.quality_db) < 0.3 for p in found for e in p.errors)


def test_a_trial_has_a_level_for_each_quality():
    data = quake(2400, rows=3)
    data[1] = 5.0
    x = record(data, sampling_rate_hz=80.0)
    trial = try_baseline(Mdct(qualities=(10.0, 20.0)), x, window_s=5.0, sampling_rate_hz=40.0)
    assert trial.rows == [0, 2] and trial.skipped == ["silent (all samples equal)"]
    assert len(trial.points) == 2 and [p.level for p in trial.points[0]] == [1, 2] and len(trial.file_bytes) == 2
    assert abs(trial.points[0][1].codec.snr_db - 20) < 0.3 and trial.points[0][1].own.snr_db < trial.points[0][1].codec.snr_db
    assert len(trial.points[0][0].windows) == 6 and trial.seconds == 60.0
    own = try_baseline(Mdct(qualities=(10.0,)), x)
    assert own.points[0][0].codec == own.points[0][0].own
    assert not try_baseline(Mdct(), record(np.zeros((1, 10)))).points


# -- real records ----------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="SEISLATENT_RECORDS does not say where the records are")
def test_ipoc_takes_no_more_than_was_asked():
    """Bits per sample at 10, 20 and 30 dB on 20 Hz broadband: 0.60, 1.67 and 3.01 were the figures to come within a tenth of."""
    from seislatent.data.records import open_records

    records = open_records(Path(os.environ["SEISLATENT_RECORDS"]) / "seisbench_cx_pb01_20hz")
    found = [points(Mdct(), records[i], (10.0, 20.0, 30.0)) for i in range(0, 100, 20)]
    rates = np.mean([[p.bits_per_sample for p in one] for one in found], 0)
    assert (rates < 1.1 * np.array([0.60, 1.67, 3.01])).all()


@pytest.mark.parametrize(("build", "bits"), [(zfp, 0.5), (sz3, 3.0)])
def test_an_offset_does_not_cost_the_lowest_rates(build, bits):
    """A mean of ten standard deviations, kept as coarsely as the samples, once made files that were far worse than silence."""
    baseline = made(build)
    x = quake() + 10 * quake().std()
    back = baseline.decode(baseline.encode(record(x), bits_per_sample=bits)).data
    noise = ((back - x) ** 2).sum(1)
    assert (noise <= 1.6 * ((x - x.mean(1, keepdims=True)) ** 2).sum(1)).all()
