"""Errors by hand, and the same bytes and samples as the stream gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from knowncodec import square

from seislatent.errors import SeislatentError
from seislatent.evaluate import trial
from seislatent.systems.codec import stream


def test_errors_by_hand():
    x = np.array([1.0, -1, 1, -1]) * 5 + 1000
    found = trial.errors(x + np.array([0.5, 0.5, -0.5, -0.5]), x)
    assert found.mse == pytest.approx(0.01) and found.mae == pytest.approx(0.1) and found.snr_db == pytest.approx(20)
    assert trial.errors(x * 0 + 1000, x).snr_db == pytest.approx(0)
    assert trial.errors(x, x) == trial.Errors(mse=0.0, mae=0.0, snr_db=300.0)


def test_errors_have_no_scale():
    rng = np.random.default_rng(0)
    x, e = rng.normal(size=100), 0.1 * rng.normal(size=100)
    one, other = trial.errors(x + e, x), trial.errors(1e-30 * (x + e), 1e-30 * x)
    for name in ("mse", "mae", "snr_db"):
        assert getattr(other, name) == pytest.approx(getattr(one, name))
    assert trial.normalised(x * 1e200)[1] == pytest.approx(x.std() * 1e200)


def test_the_square_of_mae_is_at_most_mse():
    rng = np.random.default_rng(1)
    for _ in range(50):
        x = rng.standard_t(2, 200)
        found = trial.errors(x + rng.standard_t(2, 200), x)
        assert found.mae**2 <= found.mse


@pytest.mark.parametrize("x", [np.zeros(9), np.full(9, 3), np.array([1.0, np.nan, 2]), np.array([1.0, np.inf]), np.empty(0)])
def test_no_scale_is_refused(x):
    with pytest.raises(SeislatentError, match="no scale"):
        trial.errors(x, x)


def test_known_record(known):
    found = trial.try_record(known, square(frames=300, rows=3), window_s=30)
    assert len(found.points) == 3 and found.rows == [0, 1, 2] and not found.skipped
    for points in found.points:
        for k, point in enumerate(points, 1):
            assert point.codec.snr_db == pytest.approx(20 * k) and point.own.snr_db == pytest.approx(20 * k)
            assert point.codec.mse == pytest.approx(10.0 ** (-2 * k)) and point.codec.mae == pytest.approx(10.0**-k)
            assert len(point.windows) == 10 and {round(e.snr_db, 6) for e in point.windows} == {20.0 * k}
    assert [e.snr_db for e in found.unquantised] == pytest.approx([60] * 3)
    assert found.seconds == 900
    assert found.used.sum(1).tolist() == [903, 903]  # the frame at the join of each trace stands twice
    assert np.count_nonzero(found.used, 1).tolist() == [2, 2]


def test_bytes_are_those_of_the_files(known, tmp_path):
    record = square(frames=300, rows=2)
    found = trial.try_record(known, record)
    bare = [trial.replace(record.select([i]), metadata={}) for i in range(2)]
    sizes = [stream.encode(known, bare, k).write(tmp_path / f"{k}.slat").stat().st_size for k in (1, 2)]
    assert found.file_bytes == sizes


@pytest.mark.parametrize("rate", [40.0, 100.0, 250.0, 31.7])
def test_own_rate_is_what_the_decoder_writes(known, rate):
    rng = np.random.default_rng(0)
    row = square(frames=150)
    row = row.with_data(np.round(rng.normal(0, 100, (1, 4321))).astype(np.int32), did="noise", sampling_rate_hz=rate)
    codes = stream.encode(known, row)
    whole = next(trial.whole_frames(known, codes, 2))
    np.testing.assert_array_equal(trial.at_own_rate(whole, 40.0, row), stream.decode_waveforms(known, codes, 2)[0].data[0])


def test_what_cannot_be_judged(known):
    def why(record):
        found = trial.try_record(known, record)
        assert not found.points and not found.file_bytes
        return found.skipped

    assert why(square(amplitude=0)) == ["silent (all samples equal)"]
    assert why(square(data=np.array([[1.0, np.nan] * 100]))) == ["values that are not finite"]
    assert why(square(data=np.empty((1, 0)))) == ["no samples"]
    assert why(square(data=np.array([[b"a", b"b"]]))) == ["not numbers"]
    assert why(square(rate=5.0)) == ["5 Hz is below 10 Hz"]
    assert why(square(data=np.array([[1, 2, 3]], np.int32))) == ["3 samples, fewer than 40"]


def test_some_rows_of_a_record_remain(known):
    record = square(rows=3)
    record.data[1] = 0
    found = trial.try_record(known, record)
    assert found.rows == [0, 2] and found.skipped == ["silent (all samples equal)"] and found.seconds == 120


def test_silent_windows_are_counted(known):
    record = square(frames=90)
    record.data[0, : 30 * 40] = 0
    found = trial.try_record(known, record, window_s=30)
    assert found.silent_windows == 1 and len(found.points[0][0].windows) == 2


def test_without_quantiser_in_pieces(known):
    x = np.random.default_rng(0).normal(size=300 * 40 + 17)
    np.testing.assert_allclose(trial.without_quantiser(known.system, x), 0.999 * x)
    assert trial.without_quantiser(object(), x) is None
    assert math.isclose(trial.errors(0.999 * x, x).snr_db, 60, abs_tol=0.01)


def test_goodness_of_fit_of_known_changes():
    rate = 40.0
    t = np.arange(2000) / rate
    x = 3 + np.sin(2 * np.pi * 2 * t) * np.exp(-((t - 25) ** 2) / 50)
    assert trial.goodness(x, x, rate) == pytest.approx((10, 10))
    eg, pg = trial.goodness(3 + 1.1 * (x - 3), x, rate)
    assert eg == pytest.approx(10 * math.exp(-0.1), abs=0.02) and pg == pytest.approx(10, abs=1e-3)
    assert all(map(math.isnan, trial.goodness(x[:8], x[:8], rate)))


def test_utility_is_asked_of_what_came_back(known):
    def compare(original):
        return lambda decoded: {"ratio": float(np.abs(decoded.data).max() / np.abs(original.data).max())}

    found = trial.try_record(known, square(rows=2), compare=compare)
    assert [told["ratio"] for told in found.utility] == pytest.approx([0.9, 0.99])
    assert found.sampling_rate_hz == 40 and trial.try_record(known, square()).utility == []
