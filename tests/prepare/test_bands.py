import math

import numpy as np
import pytest

from seislatent.errors import SeislatentError
from seislatent.prepare import bands
from seislatent.prepare.bands import NoBand, band_for, bandpass, bin_of, code_of, row_of
from seislatent.waveform import Channel, Waveform

PRINTED = """
HH 0.5 2.0 25 | HH 1.5 1.0 20 | HH 2.5 0.5 15 | HH 3.5 0.3 10 | HH 4.5 0.1 8
BH 0.5 0.5 10 | BH 1.5 0.5 8 | BH 2.5 0.5 5 | BH 3.5 0.3 5 | BH 4.5 0.1 3
EH 0.5 3.0 40 | EH 1.5 2.0 35 | EH 2.5 1.0 25 | EH 3.5 0.5 20 | EH 4.5 0.3 15
"""


@pytest.mark.parametrize("cell", PRINTED.replace("\n", "|").strip("| ").split("|"))
def test_the_table_as_printed(cell):
    if not cell.strip():
        return
    row, magnitude, low, high = cell.split()
    band = band_for(row, float(magnitude), 200.0)
    assert (band.low_hz, band.high_hz, band.row, band.notes) == (float(low), float(high), row, ())


@pytest.mark.parametrize(
    ("magnitude", "where"), [(-1.2, 0), (0, 0), (0.99, 0), (1.0, 1), (1.99, 1), (2, 2), (3, 3), (3.999, 3), (4.0, 4), (8.8, 4)]
)
def test_a_bin_holds_its_lower_edge(magnitude, where):
    assert bin_of(magnitude) == where


@pytest.mark.parametrize("magnitude", [None, math.nan, math.inf, 999.0, -9.9e9])
def test_a_missing_magnitude_is_refused_or_named(magnitude):
    with pytest.raises(NoBand) as caught:
        band_for("HHZ", magnitude, 100.0)
    assert caught.value.reason == "no magnitude"
    band = band_for("HHZ", magnitude, 100.0, missing=1.0)
    assert (band.low_hz, band.bin) == (1.0, "1-2")
    assert "no magnitude told, 1 taken" in band.told


@pytest.mark.parametrize(
    ("code", "row", "accelerometer"),
    [
        ("HHZ", "HH", False), ("hh", "HH", False), ("CHZ", "HH", False), ("BHN", "BH", False), ("BL1", "BH", False),
        ("EHZ", "EH", False), ("EPZ", "EH", False), ("SHZ", "EH", False), ("DPZ", "EH", False), ("HNE", "HH", True),
        ("HGZ", "HH", True), ("BNE", "BH", True), ("ENZ", "EH", True),
    ],
)  # fmt: skip
def test_rows_of_instruments(code, row, accelerometer):
    assert row_of(code) == (row, accelerometer)


@pytest.mark.parametrize("code", ["", "H", "LHZ", "MHZ", "VHZ", "HDF", "BDF", "LOG", "xyz", "0101"])
def test_other_instruments_are_refused_or_named(code):
    with pytest.raises(NoBand) as caught:
        row_of(code)
    assert caught.value.reason == "no band for the instrument"
    assert row_of(code, other="BH") == ("BH", False)
    with pytest.raises(SeislatentError, match="did you mean"):
        row_of(code, other="BHH")


def test_the_upper_corner_of_a_slow_record_is_lowered_and_signed():
    """The table's BH row reaches the Nyquist frequency of 20 Hz records."""
    band = band_for("BHZ", 0.5, 20.0)
    assert (band.low_hz, band.high_hz) == (0.5, pytest.approx(9.0))
    assert "lowered from 10 Hz" in band.told
    assert band_for("BHZ", 0.5, 10 / 0.45).notes == ()


def test_a_rate_too_low_for_any_band_is_refused():
    with pytest.raises(NoBand) as caught:
        band_for("EHZ", 0.5, 8.0)
    assert caught.value.reason == "rate too low for the band"
    assert band_for("EHZ", 0.5, 8.5).high_hz == pytest.approx(3.825)
    for rate in (0.0, 1.0):
        with pytest.raises(NoBand):
            band_for("BHZ", 2.5, rate)


def test_an_accelerometer_has_no_corner_below_its_noise():
    band = band_for("HNZ", 4.5, 100.0)
    assert (band.low_hz, band.high_hz) == (bands.ACCELERATION_LOW_HZ, 8.0)
    assert "raised from 0.1 Hz" in band.told
    assert band_for("HNZ", 1.5, 100.0) == band_for("HHZ", 1.5, 100.0)


@pytest.mark.parametrize("zero_phase", [True, False])
def test_what_stands_in_the_band_passes_and_the_rest_does_not(zero_phase):
    rate, t = 100.0, np.arange(6000) / 100.0
    tones = [0.05, 4.0, 40.0]
    channels = tuple(Channel(network="XX", station="ABC", code=f"HH{c}", component=c) for c in "ZNE")
    wave = Waveform(
        data=np.stack([np.sin(2 * np.pi * f * t) for f in tones]), sampling_rate_hz=rate, channels=channels, history=("read",)
    )
    after = bandpass(wave, band_for("HHZ", 2.0, rate), zero_phase=zero_phase)
    rms = after.data[:, 1000:-1000].std(1)
    assert rms[1] == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert rms[[0, 2]].max() < 0.002
    assert after.history[0] == "read" and after.history[1].startswith("band of the table (HH, magnitude 2-3: 0.5 to 15 Hz")
    assert ("zero phase" if zero_phase else "causal") in after.history[2]


def test_the_code_of_a_record():
    def wave(*codes, **metadata):
        channels = tuple(Channel(code=c) for c in codes)
        return Waveform(data=np.zeros((len(codes), 4)), sampling_rate_hz=100.0, channels=channels, metadata=metadata)

    assert code_of(wave("HHZ", "HHN", "HHE")) == "HH"
    assert code_of(wave("HHZ", "HNZ", trace_channel="EH")) == "EH"
    assert code_of(wave("", "", trace_channel="BH")) == "BH"
    assert code_of(wave("Z")) == ""
