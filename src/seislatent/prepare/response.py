"""From what a file holds to ground motion in SI units: the unit, the response of the instrument, and between the quantities."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Inventory, UTCDateTime
from scipy.fft import irfft, next_fast_len, rfft

from seislatent.errors import SeislatentError, unknown
from seislatent.io.inventory import read_inventory
from seislatent.io.plugins import one_line
from seislatent.io.traces import samples_ns
from seislatent.prepare.motion import QUANTITIES, UNITS, Motion, Quantity, motion_of
from seislatent.signal.filters import differentiate as derivative
from seislatent.waveform import Channel, Waveform

CALIBRATED = {"KNET": "m/s^2"}
"""Formats whose header gives the factor from counts to a unit of motion that holds at all frequencies: K-NET and KiK-net of Japan.

SAC's idep says nm, nm/s or nm/s^2, but few writers set it so; GSE2's calib holds at one period only. Neither is used.
"""

SI = dict(zip(QUANTITIES, ("m", "m/s", "m/s^2"), strict=True))

_OUTPUT = dict(zip(QUANTITIES, ("DISP", "VEL", "ACC"), strict=True))
_MOTION = frozenset(f"{a}M{b}" for a in ("", "N", "U", "M", "C") for b in ("", "/S", "/S**2", "/S^2", "/(S**2)", "/S/S", "/S2"))
"""What StationXML calls ground motion, in capitals."""

_COUNTS = ("counts*s^2", "counts*s", "counts", "counts/s", "counts/s^2")
_KEPT = 64
"""Responses that stay computed."""

_INTERVAL = np.array([-191, 1879, -9531, 68323, 68323, -9531, 1879, -191]) / 120960
"""Integral over the middle interval of the polynomial through 8 samples, in sampling intervals."""


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
    changed = replace(waveform, metadata=_without_calibration(waveform.metadata), unit=unit)
    return changed.with_data((waveform.data.astype(np.float64) * factor).astype(kind), did=f"scale ({factor:.9g} to {unit}, {why})")


class Responses:
    """The channels of an inventory, and what was computed of them: for many records of the same channels.

    Args:
        inventory: StationXML (or what else ObsPy reads), its path, or ObsPy's Inventory.
    """

    def __init__(self, inventory: Inventory | str | Path) -> None:
        held = inventory if isinstance(inventory, Inventory) else read_inventory(inventory)
        self._epochs: dict[str, list[Any]] = {}
        for network in held:
            for station in network:
                for channel in station:
                    name = f"{network.code}.{station.code}.{channel.location_code or ''}.{channel.code}"
                    self._epochs.setdefault(name, []).append(channel)
        self._computed: OrderedDict[tuple[Any, ...], NDArray[np.complex128]] = OrderedDict()

    def of(self, channel: Channel, start_ns: int, end_ns: int) -> Any:
        """ObsPy's response of a channel over a span of time; of several, the one that began last.

        Raises:
            SeislatentError: the inventory does not hold the channel, or no one epoch of it covers the span, or it has no response,
                or its response is not to ground motion.
        """
        epochs = self._epochs.get(channel.id, [])
        if not epochs:
            near = sorted(name for name in self._epochs if name.rsplit(".", 2)[0] == channel.id.rsplit(".", 2)[0])
            told = f"it holds {', '.join(near[:6])}" if near else "nor any channel of the station"
            raise SeislatentError(f"the inventory does not hold {channel.id} ({told}): give the StationXML of this channel")
        start, end = UTCDateTime(ns=int(start_ns)), UTCDateTime(ns=int(end_ns))
        fitting = [e for e in epochs if not (e.start_date and e.start_date > start) and not (e.end_date and e.end_date < end)]
        if not fitting:
            spans = "; ".join(f"{e.start_date or '...'} to {e.end_date or '...'}" for e in epochs[:4])
            raise SeislatentError(f"no epoch of {channel.id} covers {start} to {end}; it has {spans}: cut the record there")
        epoch = max(fitting, key=lambda e: e.start_date.ns if e.start_date else -(2**63))
        if epoch.response is None or not (epoch.response.response_stages or epoch.response.instrument_sensitivity):
            raise SeislatentError(f"{channel.id} has no response in the inventory: ask for it with level=response")
        found = epoch.response
        sensitivity = found.instrument_sensitivity
        unit = (sensitivity.input_units if sensitivity else None) or getattr(found.response_stages[0], "input_units", None) or ""
        if unit.upper() not in _MOTION:
            raise SeislatentError(f"{channel.id} responds to {unit or 'an unknown unit'}, not to ground motion: leave it out")
        return found

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_computed": OrderedDict()}

    def spectrum(
        self, channel: Channel, start_ns: int, end_ns: int, rate: float, size: int, to: Quantity
    ) -> NDArray[np.complex128]:
        """Counts per SI unit of `to` [frequency], at the frequencies of a real FFT over `size` samples."""
        found = self.of(channel, start_ns, end_ns)
        key = (channel.id, id(found), rate, size, to)
        if key not in self._computed:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    values, _ = found.get_evalresp_response(1 / rate, size, output=_OUTPUT[to])
            except Exception as error:  # evalresp's own errors have no common class
                raise SeislatentError(f"the response of {channel.id} cannot be computed: {one_line(error)}") from error
            if not np.isfinite(values).all() or not np.abs(values).max() > 0:
                raise SeislatentError(f"the response of {channel.id} is 0 or no number: correct the StationXML")
            self._computed[key] = values
            while len(self._computed) > _KEPT:
                self._computed.popitem(last=False)
        return self._computed[key]


def remove_response(
    waveform: Waveform,
    inventory: Inventory | str | Path | Responses,
    to: Quantity = "velocity",
    *,
    pre_filter_hz: Sequence[float] | None = None,
    water_level_db: float | None = 60.0,
    taper: float = 0.05,
) -> Waveform:
    """Ground motion in m, m/s or m/s^2 from counts, each channel by its own response at the record's time.

    In the frequency domain, over at least twice the samples (zeros): mean out, taper, pre-filter, division by the response of all
    stages (evalresp through ObsPy). Samples become float64 (float32 stays).

    Args:
        waveform: counts, one station, not yet turned to other directions.
        inventory: StationXML with responses; give a `Responses` where many records follow.
        to: displacement, velocity or acceleration.
        pre_filter_hz: four rising corners of a cosine taper in frequency: 0 below the first and above the last, 1 in between.
        water_level_db: where the response is weaker than its maximum by more than this, it is raised to there, which keeps noise
            outside the instrument's band from growing; None divides by what there is. The maximum is that of counts per unit of
            `to`, as ObsPy takes it: for displacement it lies at the highest frequency, so that 60 dB already cut a 1 Hz geophone's
            motion at 0.2 Hz. There, give a pre-filter and None.
        taper: share of the record that is tapered, half of it at each end.

    Raises:
        SeislatentError: no response for a channel at this time, one to another quantity (pressure), gaps, a record in physical
            units, corners that do not rise.
    """
    if to not in _OUTPUT:
        raise SeislatentError(unknown("quantity", to, _OUTPUT))
    ids = ", ".join(waveform.ids)
    if waveform.unit not in (None, "counts"):
        raise SeislatentError(f"{ids} is in {waveform.unit}, not in counts: its response has been removed already")
    if waveform.data.dtype.kind not in "biuf" or not np.isfinite(waveform.data).all():
        raise SeislatentError(f"{ids}: samples that are not finite numbers: cut the record at its gaps first")
    responses = inventory if isinstance(inventory, Responses) else Responses(inventory)
    count, rate = waveform.data.shape[1], waveform.sampling_rate_hz
    end_ns = waveform.start_ns + samples_ns(max(count - 1, 0), rate)
    size = next_fast_len(max(2 * count, 2) + 1, real=True)
    size += size % 2
    inverse = [
        _inverse(responses.spectrum(c, waveform.start_ns, end_ns, rate, size, to), water_level_db) for c in waveform.channels
    ]
    x = waveform.data.astype(np.float64)
    x = (x - x.mean(-1, keepdims=True)) * _taper(count, taper) if count else x
    spectrum = rfft(x, size, axis=-1) * np.array(inverse) * _pass(np.arange(size // 2 + 1) * rate / size, pre_filter_hz)
    moved = irfft(spectrum, size, axis=-1)[:, :count]
    told = "none" if pre_filter_hz is None else " ".join(f"{f:g}" for f in pre_filter_hz) + " Hz"
    level = "none" if water_level_db is None else f"{water_level_db:g} dB"
    changed = replace(waveform, unit=SI[to], metadata=_without_calibration(waveform.metadata))
    return changed.with_data(
        moved.astype(np.float32) if waveform.data.dtype == np.float32 else moved,
        did=f"response removed to {to} (StationXML; mean out, taper {100 * taper:g} %, pre-filter {told}, water level {level})",
    )


def _without_calibration(metadata: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in metadata.items() if k not in ("calib", "trace_unit")}


def _inverse(response: NDArray[np.complex128], level_db: float | None) -> NDArray[np.complex128]:
    """1 / response, 0 where the response is 0; weaker ones raised to the water level, their phase kept."""
    size = np.abs(response)
    floor = 0.0 if level_db is None else size.max() * 10 ** (-level_db / 20)
    given = size > 0
    return np.where(given, np.conj(response) / np.where(given, size * np.maximum(size, floor), 1.0), 0.0)


def _taper(count: int, share: float) -> NDArray[np.float64]:
    """A sine from 0 to 1 over the first half of `share` of the samples, and back over the last."""
    if not 0 <= share <= 1:
        raise SeislatentError(f"a taper of {share:g} of the record: give a share from 0 to 1")
    n = int(count * share / 2 + 0.5)
    window = np.ones(count)
    if n:
        rise = np.sin(np.pi / 2 * np.arange(n) / n)
        window[:n] *= rise
        window[-n:] *= rise[::-1]
    return window


def _pass(frequencies_hz: NDArray[np.float64], corners_hz: Sequence[float] | None) -> NDArray[np.float64]:
    """0 below the first corner, rising to 1 at the second, falling from the third to 0 at the fourth."""
    if corners_hz is None:
        return np.ones_like(frequencies_hz)
    if len(corners_hz) != 4 or not 0 <= corners_hz[0] < corners_hz[1] < corners_hz[2] < corners_hz[3]:
        raise SeislatentError(f"pre-filter of {', '.join(f'{f:g}' for f in corners_hz)} Hz: give four rising corners")
    a, b, c, d = corners_hz
    rise = np.clip((frequencies_hz - a) / (b - a), 0, 1)
    fall = np.clip((d - frequencies_hz) / (d - c), 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * rise)) * (0.5 - 0.5 * np.cos(np.pi * fall))


def differentiate(waveform: Waveform) -> Waveform:
    """The derivative in time, by `seislatent.signal.filters.differentiate` (time domain, within 1.5e-4 to 0.85 of Nyquist).

    The unit follows: SI units of motion, `counts/s` for counts, whose gain stays unknown; `trace_quantity` says what it is now.

    Raises:
        SeislatentError: what the record measures is not known, is acceleration already, or has gaps.
    """
    return _step(waveform, 1, "differentiate (41 samples, zero phase)", lambda x: derivative(x, waveform.sampling_rate_hz))


def integrate(waveform: Waveform) -> Waveform:
    """The integral in time from 0 at the first sample, without the mean of what is integrated.

    Time domain: the sum of integrals of polynomials through 8 samples around each interval, within 1 % to 0.46 of the Nyquist
    frequency (the trapezoidal rule: to 0.11). Beyond its ends a record is continued by point reflection about its end values. What
    is slower than the record is not in it: high-pass it before or after.

    Units and errors as `differentiate`; displacement cannot be integrated.
    """

    def summed(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = x - x.mean(-1, keepdims=True) if x.size else x
        if x.shape[-1] < 2:
            return np.zeros_like(x)
        n = min(3, x.shape[-1] - 1)
        wide = np.pad(x, [(0, 0), (n, n)], mode="reflect", reflect_type="odd")
        wide = np.pad(wide, [(0, 0), (3 - n, 3 - n)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(wide, len(_INTERVAL), axis=-1)
        return np.pad(np.cumsum(windows @ _INTERVAL, axis=-1), [(0, 0), (1, 0)]) / waveform.sampling_rate_hz

    return _step(waveform, -1, "integrate (demean, polynomials through 8 samples)", summed)


def _step(waveform: Waveform, by: int, did: str, change: Any) -> Waveform:
    """The record one derivative on (1) or back (-1)."""
    ids = ", ".join(waveform.ids)
    held = _quantity(waveform)
    if held is None:
        raise SeislatentError(
            f"{ids}: unit '{waveform.unit}' and channel codes do not say whether it is displacement, velocity or acceleration:"
            " remove its response first, or take it as recorded"
        )
    at = QUANTITIES.index(held.quantity) + by
    if not 0 <= at < len(QUANTITIES):
        raise SeislatentError(f"{ids} is {held.quantity} already: there is nothing beyond it to go to")
    if waveform.data.dtype.kind not in "biuf" or not np.isfinite(waveform.data).all():
        raise SeislatentError(f"{ids}: samples that are not finite numbers: cut the record at its gaps first")
    counts = waveform.unit if waveform.unit in _COUNTS else None
    factor = 1.0 if held.size is None else held.size
    x = change(waveform.data.astype(np.float64) * factor)
    unit = SI[QUANTITIES[at]] if held.size is not None else _COUNTS[_COUNTS.index(counts) + by] if counts else None
    named = QUANTITIES[at] + ("" if held.size is not None else " up to a gain")
    return waveform.with_data(
        x.astype(np.float32) if waveform.data.dtype == np.float32 else x, did=f"{did}: {named}", unit=unit,
        metadata=waveform.metadata | {"trace_quantity": named},
    )  # fmt: skip


def _quantity(waveform: Waveform) -> Motion | None:
    """What the record is: by the step that made it, else by its unit and channel codes."""
    told = str(waveform.metadata.get("trace_quantity", "")).split(" ")[0]
    if waveform.unit not in UNITS and told in QUANTITIES:
        return Motion(quantity=QUANTITIES[QUANTITIES.index(told)], size=None)
    return motion_of(waveform.unit, [c.code for c in waveform.channels])
