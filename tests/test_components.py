"""The table of component codes, and FDSN source identifiers."""

import doctest

import numpy as np
import pytest

import seislatent.components
from seislatent.components import arrange, component_of, named, parse_source_id, source_id
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

KNOWN = {
    "HHZ": "Z", "BHN": "N", "EHE": "E", "bhz": "Z", "hh1": "1", "HH2": "2", "HH3": "3", "Z": "Z", "n": "N", "1": "1",
    "EW": "E", "NS": "N", "UD": "Z", "EW1": "E", "NS2": "N", "UD2": "Z", "ew": "E", "N-S": "N", "u/d": "Z", "e/w": "E", "HHR": "R",
    "HHT": "T", "UP": "Z", "Up": "Z", "V": "Z", "VERT": "Z", "000": "N", "360": "N", "090": "E", "HN090": "E", "135": "135",
    "HN320": "320", "B_H_Z": "Z", "B__2": "2", "HHU": "U", "HHW": "W", "EDH": "H", "BDF": "F", "MXX": "X", "HXY": "Y", "ENZ": "Z",
    " HHZ ": "Z", "EHz": "Z", "DPE": "E", "ELN": "N",
}  # fmt: skip
UNKNOWN = ["", "LOG", "ACE", "VKE", "LCQ", "HHS", "???", "OCF", "QQQQQ", "VMO", "400", "999", "a100", "0101"]


@pytest.mark.parametrize("code, component", KNOWN.items())
def test_known_codes(code, component):
    assert component_of(code) == component


@pytest.mark.parametrize("code", UNKNOWN)
def test_unknown_codes_raise_with_the_id(code):
    with pytest.raises(SeislatentError, match=r"of XX\.AAA\.00\.") as caught:
        component_of(code, id=f"XX.AAA.00.{code}")
    assert "\n" not in str(caught.value)


def test_a_code_that_names_an_azimuth_gives_it():
    one = named(Channel(code="HN135"))
    assert (one.component, one.azimuth_deg, one.dip_deg) == ("135", 135.0, 0.0)
    assert named(Channel(code="HHZ")).azimuth_deg is None and named(Channel(code="LOG")).component == ""
    assert named(Channel(code="090", azimuth_deg=91.0)).azimuth_deg == 91.0


def waveform(*codes):
    channels = tuple(named(Channel(network="XX", station="AAA", code=c)) for c in codes)
    return Waveform(data=np.arange(len(codes))[:, None] * np.ones((1, 4)), sampling_rate_hz=1.0, channels=channels)


def test_arrange():
    assert arrange(waveform("EW", "UD", "NS")).data[:, 0].tolist() == [1, 2, 0]
    assert arrange(waveform("HHE", "HHZ"), "Z").components == ("Z",)
    for codes, word in [(("HHZ", "HHN"), "E is missing in XX.AAA..HHZ"), (("HHZ", "EHZ", "HHN"), "stands 2 times"),
                        (("LOG",), "XX.AAA..LOG names no known")]:  # fmt: skip
        with pytest.raises(SeislatentError, match=word):
            arrange(waveform(*codes))


@pytest.mark.parametrize(
    "text, id", [("FDSN:IU_ANMO_00_B_H_Z", "IU.ANMO.00.BHZ"), ("FDSN:LONGNET_LONGSTATION__BB_HH_1", "LONGNET.LONGSTATION..BB_HH_1"),
                 ("FDSN:XX_A__L__Z", "XX.A..L__Z")]
)  # fmt: skip
def test_source_identifiers_there_and_back(text, id):
    channel = parse_source_id(text)
    assert channel.id == id and source_id(channel) == text and channel.component in "Z1"


@pytest.mark.parametrize("text", ["IU.ANMO.00.BHZ", "FDSN:IU_ANMO_00_BHZ", "FDSN:IU_ANMO_00_B_H_Z_X", ""])
def test_bad_source_identifiers(text):
    with pytest.raises(SeislatentError, match="FDSN"):
        parse_source_id(text)


@pytest.mark.parametrize("channel", [Channel(code="EW"), Channel(code="B_HZ"), Channel(station="A_B", code="BHZ")])
def test_what_has_no_source_identifier(channel):
    with pytest.raises(SeislatentError):
        source_id(channel)


def test_examples_in_the_docstrings():
    assert doctest.testmod(seislatent.components).failed == 0
