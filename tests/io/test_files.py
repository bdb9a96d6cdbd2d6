"""Reading: every format but pickles, gaps stay gaps, ids and times to the nanosecond."""

import contextlib
import gzip
import pickle
from pathlib import Path

import numpy as np
import obspy
import pytest
from obspy import Stream, Trace, UTCDateTime
from obspy.core.inventory import Channel as StationChannel
from obspy.core.inventory import Inventory, Network, Station

from seislatent.errors import SeislatentError
from seislatent.io.files import formats, from_stream, iterate, native, read, read_stream, samples_ns, to_stream
from seislatent.waveform import Channel, Waveform

WHEEL = Path(obspy.__file__).parent / "io"
FILES = sorted(f for kind in ("sac", "gse2") for f in (WHEEL / kind / "tests" / "data").rglob("*") if f.is_file())


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("name", ["day.mseed", "day.sac", "day.gse2", "day.pickle", "day"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_hostile_pickle_is_never_run(tmp_path, name, protocol):
    mark = tmp_path / "executed"
    path = tmp_path / name
    path.write_bytes(pickle.dumps(("obspy.core.stream", Hostile(mark)), protocol))
    for reader in (read, read_stream, lambda p: list(iterate(p))):
        with pytest.raises(SeislatentError, match="pickled files are refused"):
            reader(path)
    assert not mark.exists()
    with contextlib.suppress(Exception):
        obspy.read(str(path))  # ObsPy alone runs it
    assert mark.exists()


def test_a_pickled_stream_is_refused(tmp_path):
    obspy.read().write(str(tmp_path / "a.mseed"), format="PICKLE")
    with pytest.raises(SeislatentError, match="pickled"):
        read(tmp_path / "a.mseed")
    assert "PICKLE" not in formats() and formats()[:3] == ["MSEED", "SAC", "GSE2"]


@pytest.mark.parametrize("path", FILES, ids=lambda f: f.name)
def test_every_sac_and_gse2_file_is_read_or_refused_in_one_line(path):
    try:
        waveforms = read(path)
    except SeislatentError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert waveforms and all(w.data.ndim == 2 and w.data.dtype.isnative for w in waveforms)
    again = from_stream(to_stream(waveforms))
    for a, b in zip(waveforms, again, strict=True):
        assert a.channels == b.channels and a.start_ns == b.start_ns and a.unit == b.unit
        assert np.array_equal(a.data, b.data) and a.data.dtype == b.data.dtype


@pytest.mark.parametrize("kind", ["nied", "seisan", "ascii", "wav", "sh", "ah", "segy", "win", "css"])
def test_other_formats_are_read(kind):
    found = 0
    for path in sorted((WHEEL / kind / "tests" / "data").iterdir()):
        if not path.is_file():
            continue
        try:
            found += len(read(path))
        except SeislatentError as error:
            assert str(path) in str(error)
    assert found


def test_missing_empty_folder_and_strange(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "text.txt").write_text("nothing seismic\n")
    for name, word in [("absent", "does not exist"), ("empty", "0 bytes"), ("text.txt", "no waveform format"), (".", "folder")]:
        with pytest.raises(SeislatentError, match=word):
            read(tmp_path / name)


def test_names_with_brackets_and_compressed_files(tmp_path):
    path = tmp_path / "day[1].mseed"
    obspy.read().write(str(path), format="MSEED")
    assert len(read(path)) == 3
    packed = tmp_path / "day.mseed.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [w.ids for w in read(packed)] == [w.ids for w in read(path)]
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(SeislatentError, match="no waveform format"):
        read(bomb)


def test_a_wfdisc_cannot_reach_out_of_its_folder(tmp_path):
    source = WHEEL / "css" / "tests" / "data" / "test_css.wfdisc"
    lines = source.read_text().splitlines()
    line = lines[0][:148] + "../../etc".ljust(64) + lines[0][212:213] + "passwd".ljust(32) + lines[0][245:]
    (tmp_path / "a.wfdisc").write_text(line + "\n")
    with pytest.raises(SeislatentError, match="outside its own folder"):
        read(tmp_path / "a.wfdisc")


def test_masked_traces_split_at_gaps():
    data = np.ma.array(np.arange(20, dtype=np.float32), mask=[False] * 5 + [True] * 5 + [False] * 10)
    header = {"sampling_rate": 3.0, "starttime": UTCDateTime(ns=1)}
    header |= {"network": "LONGNET", "station": "A_LONG_STATION", "channel": "B_H_Z"}
    first, second = from_stream([Trace(data, header)])
    assert first.data.shape == (1, 5) and second.data.shape == (1, 10)
    assert first.start_ns == 1 and second.start_ns == 1 + 3_333_333_333 and second.components == ("Z",)
    assert second.ids == ("LONGNET.A_LONG_STATION..B_H_Z",)
    (empty,) = from_stream([Trace(np.array([], np.float32))])
    assert empty.data.shape == (1, 0)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_streams_there_and_back(dtype):
    channel = Channel(
        network="NETWORK", station="SITE0001", location="000", code="HN135", component="135", latitude_deg=1.5, longitude_deg=-2.5,
        elevation_m=3.0, azimuth_deg=135.0, dip_deg=0.0,
    )  # fmt: skip
    one = Waveform(
        data=np.arange(6).astype(dtype)[None], sampling_rate_hz=200.0, channels=(channel,), start_ns=-123_456_789_012_345_678,
        unit="m/s^2", metadata={"source_magnitude": 5.1}, history=("filtered", "cut"),
    )  # fmt: skip
    (back,) = from_stream(to_stream(one))
    assert back.channels == one.channels and back.start_ns == one.start_ns and back.unit == one.unit
    assert back.metadata == one.metadata and back.data.dtype == dtype and np.array_equal(back.data, one.data)
    assert back.history == one.history
    renamed = to_stream(one)
    renamed[0].stats.channel = "HNN"
    assert from_stream(renamed)[0].channels[0].component == "N" and from_stream(renamed)[0].channels[0].azimuth_deg is None


def test_four_hundred_long_ids_stay_apart():
    sites = [
        Waveform(data=np.full((1, 4), i, np.int32), sampling_rate_hz=1.0, channels=(Channel(station=f"LONGSITE{i}", code="HHZ"),))
        for i in range(400)
    ]
    back = from_stream(to_stream(sites))
    assert len({w.ids for w in back}) == 400 and [w.data[0, 0] for w in back] == list(range(400))


def test_narrow_and_wide_numbers():
    assert native(np.array([1, 2], np.int16)).dtype == np.int32
    assert native(np.array([1, 2], np.uint8)).dtype == np.int32
    assert native(np.array([1, 2**31], np.int64)).dtype == np.int64
    assert native(np.array([1, 2**31 - 1], np.uint32)).dtype == np.int32
    assert native(np.array([1.5], ">f4")).dtype == np.dtype("=f4")


def test_samples_last_as_long_as_they_should():
    assert samples_ns(10**12, 3.0) == 333_333_333_333_333_333_333
    assert samples_ns(1, 1e9) == 1 and samples_ns(86400 * 40, 40.0) == 86400 * 10**9 and samples_ns(5, 0.0) == 0


def test_sac_header_gives_place_and_direction(tmp_path):
    trace = Trace(np.arange(10, dtype=np.float32), {"station": "AAA", "channel": "BHZ"})
    trace.stats.sac = {"stla": 10.0, "stlo": 20.0, "stel": 30.0, "cmpaz": 0.0, "cmpinc": 0.0, "evla": 1.0, "evlo": 2.0, "mag": 5.0}
    Stream([trace]).write(str(tmp_path / "a.sac"), format="SAC")
    (one,) = read(tmp_path / "a.sac")
    (channel,) = one.channels
    assert (channel.latitude_deg, channel.longitude_deg, channel.elevation_m) == (10, 20, 30)
    assert channel.dip_deg == -90 and channel.azimuth_deg == 0 and one.metadata["source_magnitude"] == 5
    trace.stats.sac = {}
    Stream([trace]).write(str(tmp_path / "b.sac"), format="SAC")
    assert read(tmp_path / "b.sac")[0].channels[0].latitude_deg is None


def test_knet_header_gives_place_and_component():
    path = WHEEL / "nied" / "tests" / "data" / "test.knet"
    (one,) = read(path)
    assert one.components[0] in "ZNE" and one.unit == "counts" and one.channels[0].latitude_deg and one.metadata["calib"]


def test_an_inventory_gives_place_and_direction(tmp_path):
    stream = obspy.read()
    stream.write(str(tmp_path / "a.mseed"), format="MSEED")
    found = [
        StationChannel(c, "", latitude=48.0, longitude=12.0, elevation=860.0, depth=0.0, azimuth=a, dip=d, sample_rate=100.0)
        for c, a, d in [("EHZ", 0.0, -90.0), ("EHN", 10.0, 0.0), ("EHE", 100.0, 0.0)]
    ]
    inventory = Inventory(networks=[Network("BW", [Station("RJOB", 48.0, 12.0, 860.0, channels=found)])], source="test")
    inventory.write(str(tmp_path / "a.xml"), format="STATIONXML")
    waveforms = read(tmp_path / "a.mseed", inventory=tmp_path / "a.xml")
    assert {w.channels[0].azimuth_deg for w in waveforms} == {0.0, 10.0, 100.0}
    assert all(w.channels[0].elevation_m == 860 for w in waveforms)
    entity = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><FDSNStationXML'
    text = (tmp_path / "a.xml").read_text().replace("<FDSNStationXML", entity, 1)
    (tmp_path / "b.xml").write_text(text)
    with pytest.raises(SeislatentError, match="entities"):
        read(tmp_path / "a.mseed", inventory=tmp_path / "b.xml")
    with pytest.raises(SeislatentError, match="does not exist"):
        read(tmp_path / "a.mseed", inventory=tmp_path / "absent.xml")


def test_a_gse_line_that_the_decoder_cannot_hold_is_refused(tmp_path):
    """ObsPy's decoder in C copies the whole line into a buffer of 83 bytes."""
    trace = obspy.read()[0]
    trace.data = np.round(trace.data).astype(np.int32)
    path = tmp_path / "long.gse2"
    trace.write(str(path), format="GSE2")
    assert read(path)[0].data.shape == (1, 3000)
    lines = path.read_bytes().split(b"\n")
    at = lines.index(b"DAT2") + 2
    lines[at : at + 20] = [b"".join(lines[at : at + 20])]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(SeislatentError, match=f"line {at + 1}: more than"):
        read(path)
