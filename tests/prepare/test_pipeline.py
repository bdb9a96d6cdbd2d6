import numpy as np
import pytest
from obspy import Stream, Trace, UTCDateTime

from seislatent.errors import SeislatentError, UsageError
from seislatent.prepare import prepare
from seislatent.waveform import Channel, Waveform


def trace(n=3000, rate=100.0):
    header = {"network": "XX", "station": "ABC", "channel": "HHZ", "sampling_rate": rate, "starttime": UTCDateTime(ns=987_654_321)}
    return Trace(np.random.default_rng(0).integers(-1000, 1000, n).astype(np.int32) + 5000, header)


def test_a_stream_comes_back_as_a_stream():
    stream = Stream([trace(), trace()])
    stream[0].stats.mseed = {"dataquality": "D"}
    before = stream.copy()
    done = prepare(stream, demean=True, detrend=True, taper=True, bandpass_hz=(1, 10), rate_hz=40)
    assert isinstance(done, Stream) and len(done) == 2
    for a, b in zip(done, stream, strict=True):
        assert a.id == b.id and a.stats.starttime.ns == b.stats.starttime.ns
        assert a.stats.sampling_rate == 40 and a.stats.npts == 1200
        assert len(a.stats.processing) == 5 and abs(a.data.mean()) < 10
    assert done[0].stats.mseed.dataquality == "D"
    assert stream == before


def test_every_kind_of_container():
    waveform = Waveform(data=np.ones((1, 50)), sampling_rate_hz=40.0, channels=(Channel(),))
    assert isinstance(prepare(waveform, demean=True), Waveform)
    assert isinstance(prepare([waveform], demean=True), list)
    assert isinstance(prepare(trace(), rate_hz=40), Trace)
    assert len(prepare(Stream(), demean=True)) == 0
    with pytest.raises(UsageError, match="ndarray"):
        prepare(np.zeros(3))


def test_own_steps_run_last():
    waveform = Waveform(data=np.arange(4.0)[None], sampling_rate_hz=40.0, channels=(Channel(),))
    done = prepare(waveform, lambda w: w.with_data(w.data + 1, did="one more"), demean=True)
    np.testing.assert_allclose(done.data, [[-0.5, 0.5, 1.5, 2.5]])
    assert done.history == ("demean", "one more")


def test_nothing_asked_nothing_shared():
    one = trace()
    done = prepare(one)
    np.testing.assert_array_equal(done.data, one.data)
    done.data[0] = 0
    assert one.data[0] != 0


def test_gaps_split_a_stream():
    holed = trace(100)
    holed.data = np.ma.masked_array(holed.data, np.arange(100) // 10 == 4)
    done = prepare(Stream([holed]), demean=True)
    assert [t.stats.npts for t in done] == [40, 50]
    assert done[1].stats.starttime.ns == 987_654_321 + 500_000_000
    with pytest.raises(SeislatentError, match="gaps"):
        prepare(holed, demean=True)


def test_the_option_at_fault_is_told():
    with pytest.raises(SeislatentError, match=r"bandpass at 1 to 60 Hz.*50 Hz for XX.ABC..HHZ"):
        prepare(Stream([trace()]), bandpass_hz=(1, 60))
