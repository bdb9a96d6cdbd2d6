"""Turning to Z, N, E and back."""

from dataclasses import replace

import numpy as np
import pytest
from obspy import Trace
from obspy.core.inventory import Channel as StationChannel
from obspy.core.inventory import Inventory, Network, Station
from obspy.signal.rotate import rotate2zne

from seislatent.components import named
from seislatent.errors import SeislatentError
from seislatent.io.files import read
from seislatent.io.miniseed import write
from seislatent.prepare.orient import gather, orient, restore
from seislatent.waveform import Channel, Waveform

DIRECTIONS = {
    "vertical and two": [("HH1", 30.0, 0.0), ("HHZ", 0.0, -90.0), ("HH2", 120.0, 0.0)],
    "skewed": [("HHZ", 0.0, -85.0), ("HH1", 33.0, 2.0), ("HH2", 140.0, -3.0)],
    "Galperin": [("HHU", 90.0, -35.3), ("HHV", 330.0, -35.3), ("HHW", 210.0, -35.3)],
    "upside down": [("HHZ", 0.0, 90.0), ("HHN", 180.0, 0.0), ("HHE", 270.0, 0.0)],
}


def record(directions, dtype=np.float64, scale=1e3, **changes):
    channels = tuple(
        Channel(network="XX", station="AAA", code=c, component=c[-1], azimuth_deg=a, dip_deg=d) for c, a, d in directions
    )
    data = (np.random.default_rng(1).normal(size=(len(channels), 300)) * scale).astype(dtype)
    return Waveform(**{"data": data, "sampling_rate_hz": 100.0, "channels": channels} | changes)


@pytest.mark.parametrize("directions", DIRECTIONS.values(), ids=list(DIRECTIONS))
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e6, 10.0, 0.0])
def test_turned_like_obspy_and_back(directions, dtype, scale):
    one = record(directions, dtype, scale)
    turned = orient(one)
    assert turned.components == ("Z", "N", "E") and turned.ids == ("XX.AAA..HHZ", "XX.AAA..HHN", "XX.AAA..HHE")
    pairs = [(row.astype(float), a, d) for row, (_, a, d) in zip(one.data, directions, strict=True)]
    expected = rotate2zne(*[x for p in pairs for x in p])
    assert np.allclose(turned.data, expected, rtol=1e-5 if dtype == np.float32 else 1e-9, atol=1e-5 * scale)
    assert turned.history[-1].startswith("oriented")
    back = restore(turned)
    assert back.channels == one.channels and back.data.dtype == dtype and back.metadata == one.metadata
    if dtype == np.int32:
        assert np.array_equal(back.data, one.data)
    else:
        assert np.allclose(back.data, one.data, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=2e-6 * scale)


def test_two_horizontals_need_not_be_orthogonal():
    north, east = np.sin(np.arange(50.0)), np.cos(np.arange(50.0))
    a, b = np.radians([20.0, 100.0])
    data = np.stack([north * np.cos(x) + east * np.sin(x) for x in (a, b)])
    one = record([("BH1", 20.0, 0.0), ("BH2", 100.0, 0.0)], data=data)
    turned = orient(one)
    assert turned.components == ("N", "E") and np.allclose(turned.data, [north, east])
    assert np.allclose(restore(turned).data, data)
    reversed_ = orient(replace(turned, data=turned.data[::-1], channels=turned.channels[::-1]))
    assert np.allclose(restore(turned.select([1, 0])).data, data) and np.allclose(reversed_.data, [north, east])


def test_a_vertical_that_points_down():
    turned = orient(record([("UD", 0.0, 90.0)], data=np.ones((1, 5))))
    assert turned.components == ("Z",) and (turned.data == -1).all()


def test_without_directions_the_history_says_so():
    bare = [replace(c, azimuth_deg=None, dip_deg=None) for c in record(DIRECTIONS["skewed"]).channels]
    one = record(DIRECTIONS["skewed"], channels=tuple(bare))
    same = orient(one)
    assert same.history[-1].startswith("unoriented") and "XX.AAA..HH1" in same.history[-1]
    assert same.data is one.data and restore(same) is same
    slanted = orient(record([("HH1", 10.0, 30.0)]))
    assert slanted.history[-1].startswith("unoriented")


def test_equal_directions_are_refused():
    with pytest.raises(SeislatentError, match=r"XX\.AAA\.\.HH1.*same way"):
        orient(record([("HHZ", 0.0, -90.0), ("HH1", 30.0, 0.0), ("HH2", 31.0, 0.0)]))
    turned = orient(record(DIRECTIONS["skewed"]))
    with pytest.raises(SeislatentError, match="turned back"):
        restore(turned.select([0, 1]))


def test_an_inventory_turns(tmp_path):
    directions = DIRECTIONS["skewed"]
    found = [
        StationChannel(c, "", latitude=1.0, longitude=2.0, elevation=3.0, depth=0.0, azimuth=a % 360, dip=d, sample_rate=100.0)
        for c, a, d in directions
    ]
    inventory = Inventory(networks=[Network("XX", [Station("AAA", 1.0, 2.0, 3.0, channels=found)])], source="test")
    inventory.write(str(tmp_path / "a.xml"), format="STATIONXML")
    full = record(directions)
    bare = replace(full, channels=tuple(replace(c, azimuth_deg=None, dip_deg=None) for c in full.channels))
    assert np.allclose(orient(bare, tmp_path / "a.xml").data, orient(full).data)
    assert np.allclose(orient(bare, inventory).data, orient(full).data)


def test_gather_puts_components_together():
    full = record(DIRECTIONS["vertical and two"])
    singles = [full.select([i]) for i in range(3)]
    singles[1] = replace(singles[1], data=singles[1].data[:, 7:], start_ns=70_000_000)
    other = replace(full.select([0]), channels=(Channel(network="XX", station="BBB", code="HH1", component="1"),))
    later = replace(full.select([0]), start_ns=10**12)
    first, third, second = gather([*singles, other, later])
    assert first.components == ("Z", "1", "2") and first.data.shape == (3, 293) and first.start_ns == 70_000_000
    assert np.array_equal(first.data, full.data[[1, 0, 2], 7:])
    assert second.ids == other.ids and third.start_ns == 10**12


def test_sac_files_are_turned_and_written_back(tmp_path):
    one = record(DIRECTIONS["skewed"], np.float32)
    for row, channel in zip(one.data, one.channels, strict=True):
        trace = Trace(row, {"network": "XX", "station": "AAA", "channel": channel.code, "sampling_rate": 100.0})
        trace.stats.sac = {"cmpaz": channel.azimuth_deg, "cmpinc": channel.dip_deg + 90}
        trace.write(str(tmp_path / f"{channel.code}.sac"), format="SAC")
    (three,) = gather([read(path)[0] for path in sorted(tmp_path.glob("*.sac"))])
    turned = orient(three)
    assert turned.components == ("Z", "N", "E") and np.allclose(turned.data, orient(one).data, rtol=1e-4, atol=1e-2)
    back = read(write(restore(turned), tmp_path / "back.mseed"))
    assert {w.ids[0] for w in back} == set(one.ids)
    by_id = {w.ids[0]: w.data[0] for w in back}
    assert all(np.allclose(by_id[i], row, rtol=1e-4, atol=1e-2) for i, row in zip(one.ids, one.data, strict=True))


def test_strong_motion_names_go_together():
    codes = [("EW", "E"), ("NS", "N"), ("UD", "Z")]
    singles = [
        Waveform(data=np.ones((1, 9)), sampling_rate_hz=100.0, channels=(Channel(station="AOM001", code=c, component=k),))
        for c, k in codes
    ]
    (three,) = gather(singles)
    assert three.components == ("Z", "N", "E")
    by_azimuth = [
        Waveform(data=np.full((1, 9), v), sampling_rate_hz=100.0, channels=(named(Channel(station="A", code=c)),))
        for c, v in [("UP", 3.0), ("135", 1.0), ("225", 0.0)]
    ]
    (three,) = gather(by_azimuth)
    turned = orient(three)
    assert np.allclose(turned.data[:, 0], [3.0, np.cos(np.radians(135)), np.sin(np.radians(135))])
