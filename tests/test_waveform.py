"""The one record."""

import xml.etree.ElementTree as ET
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform


def record(data, rate=100.0, n=None, **changes):
    channels = tuple(Channel(network="XX", station=f"S{i}", code="HHZ", component="Z") for i in range(n or len(data)))
    return Waveform(**{"data": data, "sampling_rate_hz": rate, "channels": channels} | changes)


def test_what_it_says_of_itself():
    one = record(np.zeros((2, 50), np.int32), start_ns=-1, unit="m/s")
    assert one.ids == ("XX.S0..HHZ", "XX.S1..HHZ") and one.components == ("Z", "Z") and one.duration_s == 0.5
    assert one.start_text == "1969-12-31T23:59:59.999999999Z"
    assert "XX.S0..HHZ" in repr(one) and "50 samples of int32 m/s" in repr(one)
    with pytest.raises(FrozenInstanceError):
        one.unit = "m"


def test_steps_sign_the_history():
    one = record(np.zeros((2, 5)))
    two = one.with_data(one.data + 1, did="added 1", unit="m").with_data(one.data, did="took it back")
    assert two.history == ("added 1", "took it back") and two.unit == "m" and one.history == ()
    assert one.select([1]).ids == ("XX.S1..HHZ",)


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_bad_rates_are_refused(rate):
    with pytest.raises(SeislatentError, match=r"XX\.S0\.\.HHZ"):
        record(np.zeros((1, 5)), rate)


def test_bad_shapes_are_refused_and_text_needs_no_rate():
    with pytest.raises(SeislatentError, match="channel time"):
        record(np.zeros(5))
    with pytest.raises(SeislatentError, match="2 rows of samples but 1 channels"):
        record(np.zeros((2, 5)), n=1)
    assert record(np.frombuffer(b"text", "S1")[None], 0.0).duration_s == 0
    assert record(np.empty((1, 0), np.int32), 0.0).duration_s == 0


HARD = {
    "counts": np.arange(5000, dtype=np.int32)[None] % 77, "constant": np.full((1, 9), 3.0),
    "zeros": np.zeros((3, 1000), np.float32),
    "empty": np.zeros((1, 0)), "one": np.ones((1, 1)), "nan": np.array([[np.nan, 1.0, np.inf, -2.0]]),
    "all nan": np.full((1, 4), np.nan), "largest": np.array([[-1.7e308, 1.7e308, 0.0]]), "smallest": np.array([[0.0, 5e-324]]),
    "text": np.frombuffer(b"text", "S1")[None],
}  # fmt: skip


@pytest.mark.parametrize("data", HARD.values(), ids=list(HARD))
def test_html_is_well_formed_escaped_and_self_contained(data):
    evil = "<script>alert('&')</script>"
    channels = tuple(Channel(network=evil, station="Ä", code="HHZ", component="<b>") for _ in data)
    with np.errstate(all="raise", under="ignore"):
        text = record(data, channels=channels, unit=evil, history=(evil,))._repr_html_()
    ET.fromstring(text.replace("<br>", "<br/>"))
    assert "<script" not in text and "&lt;script&gt;" in text and "nan" not in text and "inf " not in text
    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"') and len(text) < 40_000 * len(data)
