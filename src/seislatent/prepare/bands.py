"""The pass band that an earthquake's magnitude and an instrument ask for: the Marmara table, and rules for what it leaves out.

The table is the Marmara project's (seed 001). Everything else is ours, one rule per line:

- A bin holds its lower edge: magnitude 1.0 stands in 1-2, 4.0 in 4+. Negative magnitudes stand in 0-1.
- Magnitudes that are missing, or beyond 10 either way (999, -9.9e9), have no bin: the record is refused, or takes a magnitude
  that the caller names.
- Instruments are told by the first two letters of the channel code. H, C and F bands (broadband, 80 Hz and more) take the row HH,
  B (broadband below 80 Hz) the row BH, E, D, G (short period, 80 Hz and more) and S (short period below 80 Hz) the row EH, where
  the second letter is a seismometer's: H, L or P.
- Accelerometers (second letter N or G) take the row that the first letter says, with no lower corner below 0.3 Hz: under it most
  of a small earthquake's acceleration is instrument noise.
- Anything else (M, L, V and slower bands, pressure, codes of other networks) is refused, or takes a row that the caller names.
- An upper corner above 0.45 of the sampling rate is lowered to it. Where less than a factor of 1.25 is then left above the lower
  corner, the record is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from seislatent.errors import SeislatentError, unknown
from seislatent.prepare import condition
from seislatent.waveform import Waveform

MAGNITUDES = (0.0, 1.0, 2.0, 3.0, 4.0)
"""Lower edge of each bin; the last one is open."""

TABLE: dict[str, tuple[tuple[float, float], ...]] = {
    "HH": ((2.0, 25.0), (1.0, 20.0), (0.5, 15.0), (0.3, 10.0), (0.1, 8.0)),
    "BH": ((0.5, 10.0), (0.5, 8.0), (0.5, 5.0), (0.3, 5.0), (0.1, 3.0)),
    "EH": ((3.0, 40.0), (2.0, 35.0), (1.0, 25.0), (0.5, 20.0), (0.3, 15.0)),
}
"""Lower and upper corner in Hz by instrument and bin of magnitude."""

ROWS = {"H": "HH", "C": "HH", "F": "HH", "B": "BH", "E": "EH", "D": "EH", "G": "EH", "S": "EH"}
"""Row of the table by the band letter of a channel code."""

SEISMOMETERS, ACCELEROMETERS = frozenset("HLP"), frozenset("NG")
"""Second letters of channel codes."""

ACCELERATION_LOW_HZ = 0.3
"""No lower corner of an accelerometer lies below this."""
UPPER_SHARE = 0.45
"""No upper corner lies above this share of the sampling rate."""
LEAST_WIDTH = 1.25
"""Upper over lower corner."""


class NoBand(SeislatentError):
    """The table has no band for a record; `.reason` is a few words, for counting."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Band:
    """A pass band, and why."""

    low_hz: float
    high_hz: float
    row: str
    """HH, BH or EH."""
    bin: str
    """Such as 2-3 or 4+."""
    notes: tuple[str, ...] = ()
    """What was changed of the table's corners."""

    @property
    def told(self) -> str:
        """For the history."""
        why = "".join(f"; {note}" for note in self.notes)
        return f"band of the table ({self.row}, magnitude {self.bin}: {self.low_hz:g} to {self.high_hz:g} Hz{why})"


def row_of(channel_code: str, other: str = "") -> tuple[str, bool]:
    """The row of the table for a channel code, and True for an accelerometer.

    Args:
        channel_code: such as HHZ or HN; the first two letters are looked at.
        other: the row for codes that the rules leave out; empty refuses them.

    Raises:
        NoBand: the rules leave the code out.

    >>> row_of("HHZ"), row_of("BHN"), row_of("SHZ"), row_of("HNE")
    (('HH', False), ('BH', False), ('EH', False), ('HH', True))
    """
    if other and other not in TABLE:
        raise SeislatentError(unknown("row of the table of bands", other, TABLE))
    code = channel_code.strip().upper()
    band, instrument = code[:1], code[1:2]
    accelerometer = instrument in ACCELEROMETERS
    if band in ROWS and (accelerometer or instrument in SEISMOMETERS):
        return ROWS[band], accelerometer
    if not other:
        told = f"channel code '{channel_code}' has no row in the table of bands (HH, BH, EH, HN and their like): name one"
        raise NoBand("no band for the instrument", told)
    return other, accelerometer


def bin_of(magnitude: float | None, missing: float | None = None) -> int:
    """Which bin of the table holds a magnitude; `missing` stands in for one that nobody told.

    Raises:
        NoBand: there is no magnitude.

    >>> [bin_of(m) for m in (-0.5, 0.0, 0.99, 1.0, 3.9, 4.0, 7.8)]
    [0, 0, 0, 1, 3, 4, 4]
    """
    told = magnitude is not None and math.isfinite(magnitude) and abs(magnitude) <= 10
    value = magnitude if told else missing
    if value is None:
        raise NoBand("no magnitude", f"magnitude {magnitude}: the table of bands needs one; name one for records that lack it")
    return max(k for k, edge in enumerate(MAGNITUDES) if k == 0 or value >= edge)


def band_for(
    channel_code: str, magnitude: float | None, sampling_rate_hz: float, *, missing: float | None = None, other: str = ""
) -> Band:
    """The band of the table for one record.

    Args:
        channel_code: see `row_of`.
        magnitude: of the event; None or NaN where nobody told.
        sampling_rate_hz: of the record.
        missing: the magnitude taken where there is none; None refuses the record.
        other: the row taken where the rules leave the channel code out; empty refuses the record.

    Raises:
        NoBand: no magnitude, no row, or a sampling rate too low for the band.
    """
    row, accelerometer = row_of(channel_code, other)
    k = bin_of(magnitude, missing)
    name = f"{MAGNITUDES[k]:g}+" if k == len(MAGNITUDES) - 1 else f"{MAGNITUDES[k]:g}-{MAGNITUDES[k + 1]:g}"
    low, high = TABLE[row][k]
    notes: list[str] = []
    if magnitude is None or not (math.isfinite(magnitude) and abs(magnitude) <= 10):
        notes.append(f"no magnitude told, {missing:g} taken")
    if accelerometer and low < ACCELERATION_LOW_HZ:
        notes.append(f"lower corner raised from {low:g} Hz for an accelerometer")
        low = ACCELERATION_LOW_HZ
    highest = UPPER_SHARE * sampling_rate_hz
    if high > highest:
        notes.append(f"upper corner lowered from {high:g} Hz to {UPPER_SHARE:g} of the sampling rate")
        high = highest
    if high < LEAST_WIDTH * low:
        raise NoBand(
            "rate too low for the band",
            f"{channel_code} at {sampling_rate_hz:g} Hz, magnitude {name}: {high:g} Hz, the highest corner that the rate allows,"
            f" leaves no band above the lower corner of {low:g} Hz",
        )
    return Band(low_hz=low, high_hz=high, row=row, bin=name, notes=tuple(notes))


def bandpass(waveform: Waveform, band: Band, *, order: int = 4, zero_phase: bool = True) -> Waveform:
    """A record through its band (Butterworth), with the choice of the band signed in its history before the filter."""
    signed = replace(waveform, history=(*waveform.history, band.told))
    return condition.bandpass(signed, band.low_hz, band.high_hz, order=order, zero_phase=zero_phase)


def code_of(waveform: Waveform) -> str:
    """The channel code that stands for a record: what its channels share, else `trace_channel` of its metadata."""
    codes: Sequence[str] = [c.code for c in waveform.channels if c.code]
    first = {code[:2] for code in codes}
    if len(first) == 1 and len(codes[0]) >= 2:
        return first.pop()
    told = waveform.metadata.get("trace_channel")
    return told if isinstance(told, str) else ""
