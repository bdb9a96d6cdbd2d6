"""What a record measures, displacement, velocity or acceleration, and how far from SI units it is.

The unit decides where it names one of them. Counts, or no unit, leave it to the channel codes; where these do not tell either,
nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Quantity = Literal["displacement", "velocity", "acceleration"]

QUANTITIES: tuple[Quantity, ...] = ("displacement", "velocity", "acceleration")
"""In the order of differentiation."""

LENGTHS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}
UNITS: dict[str, tuple[Quantity, float]] = {
    f"{name}{per}": (quantity, size)
    for name, size in LENGTHS.items()
    for per, quantity in zip(("", "/s", "/s^2"), QUANTITIES, strict=True)
} | {"g": ("acceleration", 9.80665), "gal": ("acceleration", 1e-2)}
"""Quantity and size in SI units of each unit of motion."""

INSTRUMENTS: dict[str, Quantity] = {"H": "velocity", "P": "velocity", "N": "acceleration"}
"""By the second letter of a SEED channel code: high-gain seismometer, geophone, accelerometer.

L (low gain) and G (gravimeter) tell nothing: accelerometers had these codes before 2000 (SEED manual, appendix A).
"""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What the samples are."""

    quantity: Quantity
    size: float | None
    """What one of the record's units is in m, m/s or m/s^2; None for counts, whose gain nobody told."""

    def derivative_unit(self, times: int) -> str:
        """The unit after so many derivatives: in SI, or counts per second as often."""
        if self.size is not None:
            return ("m", "m/s", "m/s^2")[QUANTITIES.index(self.quantity) + times]
        return ("counts", "counts/s", "counts/s^2")[times]


def motion_of(unit: str | None, codes: Iterable[str]) -> Motion | None:
    """What samples in `unit` from channels of these codes are, or None where neither tells.

    >>> motion_of("cm/s^2", ["EHZ"])
    Motion(quantity='acceleration', size=0.01)
    >>> motion_of("counts", ["BNZ", "BNN", "BNE"])
    Motion(quantity='acceleration', size=None)
    >>> motion_of("counts", ["HLZ"]) is None
    True
    """
    if unit in UNITS:
        quantity, size = UNITS[unit]
        return Motion(quantity=quantity, size=size)
    if unit not in (None, "counts"):
        return None
    told = {INSTRUMENTS.get(letter(code)) for code in codes}
    known = told.pop() if len(told) == 1 else None
    return Motion(quantity=known, size=None) if known else None


def letter(code: str) -> str:
    """The instrument's letter of a channel code: HHZ and H_H_Z have H; an empty text for a code of any other form."""
    code = code.strip().upper()
    if "_" in code:
        return code.split("_")[1] if code.count("_") == 2 else ""
    return code[1] if len(code) == 3 or len(code) == 2 else ""
