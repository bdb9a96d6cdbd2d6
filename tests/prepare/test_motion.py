import pytest

from seislatent.prepare.motion import Motion, motion_of


@pytest.mark.parametrize(
    ("unit", "codes", "expected"),
    [
        ("m/s^2", ["HHZ"], ("acceleration", 1.0)),
        ("cm/s^2", ["EHZ"], ("acceleration", 0.01)),
        ("g", [""], ("acceleration", 9.80665)),
        ("nm/s", ["HNZ"], ("velocity", 1e-9)),
        ("cm", [], ("displacement", 0.01)),
        ("counts", ["HNZ", "HN1"], ("acceleration", None)),
        ("counts", ["HHZ", "EHN"], ("velocity", None)),
        (None, ["DPZ"], ("velocity", None)),
        (None, ["H_N_Z"], ("acceleration", None)),
        ("counts", ["HN"], ("acceleration", None)),
        ("counts", ["HLZ"], None),
        ("counts", ["HGZ"], None),
        ("counts", ["HHZ", "HNN"], None),
        ("counts", ["Z"], None),
        (None, [], None),
        ("Pa", ["HHZ"], None),
        ("counts", [""], None),
    ],
)
def test_unit_first_then_codes(unit, codes, expected):
    found = motion_of(unit, codes)
    assert found == (None if expected is None else Motion(quantity=expected[0], size=expected[1]))


def test_units_of_derivatives():
    assert [Motion(quantity="displacement", size=0.01).derivative_unit(k) for k in range(3)] == ["m", "m/s", "m/s^2"]
    assert [Motion(quantity="velocity", size=None).derivative_unit(k) for k in range(2)] == ["counts", "counts/s"]
    assert Motion(quantity="acceleration", size=1.0).derivative_unit(0) == "m/s^2"
