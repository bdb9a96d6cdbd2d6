import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.prepare.windows import batch_of, cut, windows
from seislatent.waveform import Channel, Waveform


def record(data, rate=40.0, codes="ZNE", **more):
    data = np.atleast_2d(data)
    channels = tuple(Channel(station="ABC", code=f"HH{c}", component=c) for c in codes[: len(data)])
    return Waveform(data=data, sampling_rate_hz=rate, channels=channels, **more)


def test_windows_stand_at_their_times():
    w = record(np.arange(1000), start_ns=10**18, metadata={"trace_p_arrival_sample": 450, "trace_start_time": "old"})
    found = windows(w, 5.0, 2.5)
    assert len(found) == 9
    for k, window in enumerate(found):
        assert window.start_ns == 10**18 + k * 2_500_000_000
        np.testing.assert_array_equal(window.data[0], np.arange(k * 100, k * 100 + 200))
    assert found[4].metadata["trace_p_arrival_sample"] == 50
    assert np.isnan(found[0].metadata["trace_p_arrival_sample"])
    assert found[1].metadata["trace_start_time"] == "2001-09-09T01:46:42.500000Z"
    assert windows(w, 26.0) == []


def test_hops_of_a_fraction_of_a_sample_do_not_add_up():
    found = windows(record(np.zeros(100_000), rate=33.3), 1.0, 1.0)
    assert len(found) == 3003
    assert abs(found[-1].start_ns - 3002e9) < 0.5e9 / 33.3 + 1


def test_a_year_of_samples_keeps_the_nanosecond():
    w = record(np.broadcast_to(np.float32(0), (1, 3_153_600_000)), rate=100.0)
    assert cut(w, 3_153_599_999, 3_153_600_000).start_ns == 31_535_999_990_000_000


def test_windows_that_cannot_be_are_told():
    w = record(np.zeros(100))
    for call in (lambda: windows(w, 0), lambda: windows(w, 1, 0.001), lambda: windows(w, np.nan), lambda: cut(w, 90, 101)):
        with pytest.raises(SeislatentError):
            call()
    assert windows(record(np.zeros(0)), 1) == []


def test_a_batch_times_its_scale_is_the_records():
    rng = np.random.default_rng(0)
    loud = record(rng.normal(0, 1e6, (3, 200)))
    quiet = record(rng.normal(0, 1e-9, (3, 200)).astype(np.float32))
    counts = record(rng.integers(-500, 500, (3, 200)).astype(np.int32))
    batch = batch_of([loud, quiet, counts])
    assert batch.x.dtype == torch.float32 and batch.scale.shape == (3, 3) and batch.valid.all()
    torch.testing.assert_close(batch.x.std(-1, correction=0), torch.ones(3, 3), atol=1e-4, rtol=0)
    back = batch.x * batch.scale[..., None]
    for row, w in zip(back, (loud, quiet, counts), strict=True):
        np.testing.assert_allclose(row, w.data, rtol=1e-5, atol=1e-6 * np.abs(w.data).max())


def test_gaps_and_dead_channels_are_not_valid():
    data = np.random.default_rng(0).normal(size=(3, 50))
    data[0, 7] = np.nan
    data[1] = 12345.678
    data[2, 1:] = np.inf
    batch = batch_of([record(data)])
    assert not batch.valid[0, 0, 7] and batch.valid[0, 0].sum() == 49
    assert not batch.valid[0, 1].any() and not batch.valid[0, 2].any()
    assert torch.isfinite(batch.x).all() and batch.scale[0, 1] == 1


def test_unequal_records_are_told():
    a = record(np.zeros((3, 10)))
    with pytest.raises(SeislatentError, match="sampling rates are 40 and 50 Hz; resample"):
        batch_of([a, record(np.zeros((3, 10)), rate=50)])
    with pytest.raises(SeislatentError, match="lengths are 10 and 11 samples"):
        batch_of([a, record(np.zeros((3, 11)))])
    with pytest.raises(SeislatentError, match="components are ZNE and Z12"):
        batch_of([a, record(np.zeros((3, 10)), codes="Z12")])
    with pytest.raises(SeislatentError, match="at least one"):
        batch_of([])
    with pytest.raises(SeislatentError, match="no numbers"):
        batch_of([record(np.array([b"a"]))])
    assert batch_of([record(np.zeros((3, 0)))]).x.shape == (1, 3, 0)
