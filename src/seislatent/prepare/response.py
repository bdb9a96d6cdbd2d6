"""From what a file holds to ground motion in SI units: the unit, the response of the instrument, and between the quantities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from seislatent.errors import SeislatentError
from seislatent.prepare.motion import QUANTITIES, UNITS
from seislatent.waveform import Waveform

CALIBRATED = {"KNET": "m/s^2"}
"""Formats whose header gives the factor from counts to a unit of motion that holds at all frequencies: K-NET and KiK-net of Japan.

SAC's idep says nm, nm/s or nm/s^2, but few writers set it so; GSE2's calib holds at one period only. Neither is used.
"""

SI = dict(zip(QUANTITIES, ("m", "m/s", "m/s^2"), strict=True))


def to_si(waveform: Waveform) -> Waveform:
    """The record in m, m/s or m/s^2 where its unit or the file's header says how, else as it is.

    cm, gal, g, nm/s, ... by `seislatent.prepare.motion.UNITS`; K-NET's counts by the scale factor of the header (`calib`, which is
    then taken out of the metadata). Samples become float64 (float32 stays).
    """
    factor, unit, why = 1.0, waveform.unit, ""
    target = CALIBRATED.get(str(waveform.metadata.get("file_format", "")))
    if unit in UNITS:
        quantity, factor = UNITS[unit]
        unit, why = SI[quantity], f"from {unit}"
    elif unit == "counts" and target is not None and "calib" in waveform.metadata:
        factor, unit, why = float(waveform.metadata["calib"]), target, "from counts by the file's scale factor"
    if factor == 1.0 and unit == waveform.unit:
        return waveform
    if not (np.isfinite(factor) and factor):
        raise SeislatentError(f"{', '.join(waveform.ids)}: the file's scale factor is {factor}: it must be a number other than 0")
    kind = np.float32 if waveform.data.dtype == np.float32 else np.float64
    metadata: dict[str, Any] = {k: v for k, v in waveform.metadata.items() if k not in ("calib", "trace_unit")}
    changed = replace(waveform, metadata=metadata, unit=unit)
    return changed.with_data((waveform.data.astype(np.float64) * factor).astype(kind), did=f"scale ({factor:.9g} to {unit}, {why})")
