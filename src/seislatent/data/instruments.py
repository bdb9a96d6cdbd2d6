"""Instruments: ground motion in, counts out, with the truth of both.

    m/s or m/s^2 --sensor (corner, damping)--> --anti-alias filter--> gain --> whole counts, cut at the largest there is

Both filters are causal and begin at rest, so that an onset stays at its sample.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from seislatent.errors import SeislatentError, unknown
from seislatent.waveform import Waveform

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """A sensor and its digitiser."""

    name: str
    unit: str = "m/s"
    """Ground motion that it measures: m/s, or m/s^2 for an accelerometer."""
    corner_hz: float = 1 / 120
    """Below it the sensor's gain falls by 12 dB per octave; 0: flat to a constant."""
    damping: float = 0.707
    """Of the sensor, as a share of the critical."""
    counts_per_unit: float = 5.03e8
    """Counts per m/s or m/s^2 where the response is flat."""
    antialias: float = 0.8
    """Corner of the anti-alias filter as a share of the Nyquist frequency."""
    clip_counts: int = 2**23 - 1
    """Largest count; what is larger stays there."""

    def __post_init__(self) -> None:
        numbers = (self.corner_hz, self.damping, self.counts_per_unit, self.antialias)
        right = self.unit in ("m/s", "m/s^2") and self.corner_hz >= 0 and self.damping > 0 and self.counts_per_unit > 0
        if not (np.isfinite(numbers).all() and right and 0 < self.antialias < 1 and 0 < self.clip_counts < 2**31):
            raise SeislatentError(
                f"{self}: give unit m/s or m/s^2, corner_hz >= 0, damping > 0, counts_per_unit > 0, antialias between 0 and 1, and"
                " clip_counts from 1 to 2^31 - 1"
            )

    def response(self, f: Array, sampling_rate_hz: float) -> NDArray[np.complexfloating[Any]]:
        """Counts per unit of ground motion [frequency]."""
        gain = signal.freqz_sos(self._sections(sampling_rate_hz), f, fs=sampling_rate_hz)[1]
        return np.asarray(self.counts_per_unit * gain)

    def _sections(self, rate: float) -> Array:
        """Second-order sections of sensor and anti-alias filter: bilinear, the sensor's corner kept in its place."""
        if not 0 <= self.corner_hz < rate / 2:
            raise SeislatentError(f"a sensor with its corner at {self.corner_hz:g} Hz cannot be sampled at {rate:g} Hz")
        sections = signal.butter(4, self.antialias, output="sos")
        if self.corner_hz > 0:
            corner = 2 * rate * np.tan(np.pi * self.corner_hz / rate)
            poles = np.roots([1, 2 * self.damping * corner, corner**2])
            sensor = signal.zpk2sos(*signal.bilinear_zpk([0, 0], poles, 1.0, rate))
            sections = np.concatenate([sensor, sections])
        return np.asarray(sections)

    def code(self, sampling_rate_hz: float) -> str:
        """The first two letters of a SEED channel code."""
        slow = self.corner_hz <= 0.1  # SEED: a sensor with a period of 10 s or more
        bands = ((250, "C", "D"), (80, "H", "E"), (10, "B", "S"))
        band = next((broad if slow else short for least, broad, short in bands if sampling_rate_hz >= least), "M")
        return band + ("N" if self.unit == "m/s^2" else "H")


_VOLTS = 2**23 / 20
"""Counts per volt of a digitiser of 24 bits and 40 V from peak to peak."""
INSTRUMENTS = {
    kind.name: kind
    for kind in (
        Instrument(name="broadband", counts_per_unit=1200 * _VOLTS),
        Instrument(name="short-period", corner_hz=1.0, damping=0.7, counts_per_unit=400 * _VOLTS),
        Instrument(name="geophone", corner_hz=4.5, damping=0.6, counts_per_unit=80 * _VOLTS),
        Instrument(name="accelerometer", unit="m/s^2", corner_hz=0.0, counts_per_unit=2**23 / (2 * 9.81)),
    )
}
"""Typical ones: a seismometer of 120 s, one of 1 s, a 4.5 Hz geophone, an accelerometer for 2 g."""


def choose(rng: np.random.Generator, instrument: Instrument | str) -> Instrument:
    """An instrument as it is, one of `INSTRUMENTS` by name, or `any`: a kind with gain and anti-alias filter drawn."""
    if isinstance(instrument, Instrument):
        return instrument
    if instrument != "any":
        if instrument not in INSTRUMENTS:
            raise SeislatentError(unknown("instrument", instrument, (*INSTRUMENTS, "any")))
        return INSTRUMENTS[instrument]
    kind = INSTRUMENTS[str(rng.choice(list(INSTRUMENTS)))]
    return replace(kind, counts_per_unit=kind.counts_per_unit * 10 ** rng.uniform(-1, 0.5), antialias=rng.uniform(0.7, 0.9))


def digitise(waveform: Waveform, instrument: Instrument) -> Waveform:
    """Ground motion as an instrument records it: int32 counts, the instrument's truth in the metadata.

    `trace_C_clipped_share` is the share of samples of component C that were cut.

    Raises:
        SeislatentError: the record is in another unit than the instrument measures, or has gaps.
    """
    if waveform.unit != instrument.unit:
        raise SeislatentError(
            f"{instrument.name} measures {instrument.unit} and the record is in {waveform.unit or 'no known unit'}:"
            " make the record in the instrument's unit"
        )
    if not np.isfinite(waveform.data).all():
        raise SeislatentError(f"{', '.join(waveform.ids)}: cannot digitise a record with gaps")
    rate = waveform.sampling_rate_hz
    moved = signal.sosfilt(instrument._sections(rate), waveform.data.astype(np.float64), axis=-1)
    counts = np.rint(moved * instrument.counts_per_unit)
    cut = np.abs(counts) > instrument.clip_counts
    told = {f"instrument_{name}": value for name, value in asdict(instrument).items()}
    told["instrument_antialias_hz"] = told.pop("instrument_antialias") * rate / 2
    clipped = {f"trace_{c}_clipped_share": float(share) for c, share in zip(waveform.components, cut.mean(-1), strict=True)}
    codes = (f"{instrument.code(rate)}{c.component}" for c in waveform.channels)
    return waveform.with_data(
        np.clip(counts, -instrument.clip_counts, instrument.clip_counts).astype(np.int32),
        did=f"digitised ({instrument.name}, {instrument.counts_per_unit:.4g} counts per {instrument.unit})",
        unit="counts",
        channels=tuple(replace(c, code=code) for c, code in zip(waveform.channels, codes, strict=True)),
        metadata={**waveform.metadata, **told, **(clipped if waveform.data.shape[1] else {})},
    )
