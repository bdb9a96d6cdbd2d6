"""Training records from nothing: earthquakes, explosions and noise whose every truth is known (`seislatent.data.synthetic`).

    event k: magnitude, depth, sources --for each station--> distance, path, noise, place of P --for each class--> one record

A station's records differ by their class alone: the earthquake and the explosion have one magnitude, depth, path, site, instrument,
kind and level of noise and place of P, and the noise record is what the station hears without them. All records of an event have
one `source_id`, so that they fall to one split; event k is a function of the seed and of k.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from seislatent.data.instruments import INSTRUMENTS, Instrument, digitise
from seislatent.data.point_sources import Array, DoubleCouple, Explosion, contained_depth_km
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.records import Records
from seislatent.data.stochastic import Path as WavePath
from seislatent.data.synthetic import NOISE_KINDS, draw_path, draw_source, noise, record
from seislatent.errors import SeislatentError, unknown
from seislatent.prepare.level import level, single_precision
from seislatent.waveform import Channel, Waveform

CLASSES = ("earthquake", "explosion", "noise")
CLIP_COUNTS = 2**23 - 1


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """How many events, and between which ends everything is drawn."""

    events: int = 7000
    """Each is recorded by `stations`, once per class."""
    stations: int = 1
    """Of an event."""
    classes: tuple[str, ...] = CLASSES
    """What is made at each station: earthquake, explosion, noise."""
    sampling_rate_hz: float = 20.0
    """Of the records, in Hz."""
    samples: int = 540
    """Length of a record in samples (27 s at 20 Hz)."""
    magnitude: tuple[float, float] = (1.0, 4.5)
    """Least and greatest moment magnitude; even between."""
    distance_km: tuple[float, float] = (5.0, 150.0)
    """Least and greatest epicentral distance; its logarithm is even between."""
    depth_km: tuple[float, float] = (1.0, 30.0)
    """Least and greatest depth of an event, its logarithm even between. Where explosions are made, all have an explosion's depth: 1
    to 3 times the least at which none of that size breaks a crater."""
    p_s: tuple[float, float] = (1.0, 20.0)
    """Earliest and latest place of P, in s from the record's beginning; even between."""
    snr_db: tuple[float, ...] = (0.0, 10.0, 20.0)
    """Levels of noise, each as often: mean square after P over the noise's, in dB (`trace_snr_db`, of noise records too)."""
    snr_spread_db: float = 0.0
    """A record's ratio lies at most this far from its level, evenly, in dB."""
    instruments: tuple[str, ...] = ()
    """Recorded by one of these (names in `instruments.INSTRUMENTS`), drawn alike, the noise 3 to 3000 counts; none: ground motion,
    m/s."""
    scale: Literal["record", "none"] = "record"
    """Means taken out and divided by the record's peak, or as it is."""


class Synthetic(DataRecipe):
    """Records of earthquakes, explosions and noise that differ by nothing else."""

    Config = SyntheticConfig
    from_nothing = True
    config: SyntheticConfig

    def __init__(self, config: SyntheticConfig) -> None:
        super().__init__(config)
        for what, given, names in (("class", config.classes, CLASSES), ("instrument", config.instruments, tuple(INSTRUMENTS))):
            for name in given:
                if name not in names:
                    raise SeislatentError(unknown(what, name, names))
        if min(config.events, config.stations, len(config.classes), len(config.snr_db)) < 1 or config.samples < 2:
            raise SeislatentError("records from nothing: give at least one event, station, class and snr_db, and two samples")
        for name, least in (("magnitude", -3.0), ("distance_km", 0.1), ("depth_km", 0.1), ("p_s", 0.0)):
            low, high = getattr(config, name)
            if not least <= low <= high:
                raise SeislatentError(f"{name} is {low:g} to {high:g}: give a smaller and a larger number, at least {least:g}")
        if config.p_s[1] * config.sampling_rate_hz >= config.samples:
            length_s = config.samples / config.sampling_rate_hz
            raise SeislatentError(f"P up to {config.p_s[1]:g} s in a record of {length_s:g} s: give a smaller p_s or more samples")

    def open(self, source: Sequence[Path]) -> Records:
        """The numbers of the events."""
        return Records.joined([Numbers(self.config.events)], ["synthetic"])

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """All records of each event."""
        for number, rng in zip(records, rngs, strict=True):
            yield from self.event(number, rng)

    def event(self, number: Waveform, rng: np.random.Generator) -> Iterator[Made]:
        """The records of one event at all its stations."""
        c = self.config
        magnitude = rng.uniform(*c.magnitude)
        scaled_depth, deep = 122 * 10 ** rng.uniform(0, np.log10(3)), _log_uniform(rng, c.depth_km)
        shallow = "explosion" in c.classes
        quake = draw_source(rng, magnitude, contained_depth_km(magnitude, scaled_depth) if shallow else deep)
        s_to_p = 3 * np.exp(0.3 * rng.standard_normal())
        shot = Explosion(magnitude=magnitude, depth_km=quake.depth_km, s_to_p=s_to_p) if shallow else None
        sources: dict[str, DoubleCouple | Explosion | None] = {"earthquake": quake, "explosion": shot, "noise": None}
        name = str(number.metadata["trace_name"])
        for k in range(c.stations):
            station = self.station(rng, f"{name}{chr(65 + k % 26)}{k // 26 or ''}")
            for kind in c.classes:
                its = station.records(rng, sources[kind], c)
                its = single_precision(level(its) if c.scale == "record" else its)
                told = {"trace_name": f"{station.code}_{kind}", "label": kind}
                yield Made(record=replace(its, metadata=number.metadata | its.metadata | told))

    def station(self, rng: np.random.Generator, code: str) -> Station:
        """All that the records of one event at one station have in common."""
        c = self.config
        return Station(
            code=code,
            path=draw_path(rng, _log_uniform(rng, c.distance_km)),
            noise=str(rng.choice(list(NOISE_KINDS))),
            snr_db=float(rng.choice(c.snr_db) + c.snr_spread_db * rng.uniform(-1, 1)),
            p_s=rng.uniform(*c.p_s),
            instrument=INSTRUMENTS[str(rng.choice(c.instruments))] if c.instruments else None,
            noise_counts=10 ** rng.uniform(0.5, 3.5),
        )


@dataclass(frozen=True, kw_only=True)
class Station:
    """What the records of one event at one station have in common."""

    code: str
    path: WavePath
    noise: str
    snr_db: float
    p_s: float
    instrument: Instrument | None
    noise_counts: float
    """Root mean square of the noise where there is an instrument."""

    def records(self, rng: np.random.Generator, source: DoubleCouple | Explosion | None, config: SyntheticConfig) -> Waveform:
        """Of one source, or of noise alone: ground motion with noise, through the instrument."""
        rate, n = config.sampling_rate_hz, config.samples
        unit = self.instrument.unit if self.instrument else "m/s"
        if source is None:
            ground = silence(rng, n, rate, unit)
        else:
            ground = record(rng, source, self.path, n / rate, rate, self.p_s, unit=unit)
        around = ambient(rng, n, rate, self.noise, unit)
        onset = int(ground.metadata.get("trace_p_arrival_sample", 0))
        power = (ground.data[:, onset:].astype(np.float64) ** 2).mean(1).max()
        if power > 0:
            around *= np.sqrt(power * 10 ** (-self.snr_db / 10) / (around**2).mean())
        heard = ground.with_data(
            (ground.data + around).astype(np.float32),
            did=f"noise added ({self.noise}, {self.snr_db:.1f} dB)",
            channels=tuple(replace(c, station=self.code) for c in ground.channels),
            metadata={**ground.metadata, "trace_snr_db": self.snr_db, "trace_noise_kind": self.noise},
        )
        if self.instrument is None:
            return heard
        gain = self.noise_counts / float(np.sqrt((around**2).mean()))  # an amplifier is set by what its station hears
        return digitise(heard, replace(self.instrument, counts_per_unit=gain, clip_counts=CLIP_COUNTS))


def silence(rng: np.random.Generator, n: int, rate: float, unit: str) -> Waveform:
    """A record of nothing, at a time of its own."""
    return Waveform(
        data=np.zeros((3, n), np.float32),
        sampling_rate_hz=rate,
        channels=tuple(Channel(network="XX", code=f"HH{c}", component=c) for c in "ZNE"),
        start_ns=int(rng.integers(1_577_836_800, 1_735_689_600)) * 1_000_000_000,
        unit=unit,
        metadata={"source_type": "noise", "trace_sampling_rate_hz": rate, "trace_component_order": "ZNE"},
    )


def ambient(rng: np.random.Generator, n: int, rate: float, kind: str, unit: str) -> Array:
    """Noise [3 n] of one spectrum on all components, their levels within a factor of 1.3 or so of each other."""
    rough = noise(rng, 3 * n, rate, kind).reshape(3, n) * np.exp(0.3 * rng.standard_normal((3, 1)))
    return np.gradient(rough, 1 / rate, axis=1) if unit == "m/s^2" else rough


class Numbers(Sequence[Waveform]):
    """What stands for the events before they are made: a record each of one sample, its number."""

    def __init__(self, count: int) -> None:
        names = [f"{i:07d}" for i in range(count)]
        self.metadata = pd.DataFrame({"trace_name": names, "source_id": [f"synthetic {name}" for name in names]})

    def only(self, rows: Any) -> Numbers:
        """Some of them alone, for another process."""
        found = Numbers(0)
        found.metadata = self.metadata.iloc[np.asarray(rows, np.int64)].reset_index(drop=True)
        return found

    def __len__(self) -> int:
        return len(self.metadata)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        told = {str(k): v for k, v in self.metadata.iloc[i].items()}
        return Waveform(
            data=np.array([[int(told["trace_name"])]]), sampling_rate_hz=1.0, channels=(Channel(component="Z"),), metadata=told
        )


def _log_uniform(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(ends))))
