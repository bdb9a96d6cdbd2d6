"""The synthetic experiment of the symmetric autoencoder as a store: records of a few sources along thousands of paths.

    path k --experiment of its own seed--> one record of source k, k + 1, ... in turn; crossed: one of each source

`source_id` is the group, `station_code` the path. Sources are the same in all splits, so split by station: the test's paths are
then unseen (`seislatent.data.coherent` tells what records are made of).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from seislatent.data.coherent import CoherentConfig, experiment, waveforms
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.recipes.synthetic import Numbers
from seislatent.data.records import Records
from seislatent.errors import SeislatentError
from seislatent.waveform import Waveform


@dataclass(frozen=True, kw_only=True)
class CoherentRecordsConfig:
    """How many records, and with what."""

    paths: int = 5000
    """Each with a record of one source, or of all."""
    crossed: bool = False
    """All sources along each path, with one shift: what swapped codes are judged by. Else the sources take turns."""
    noise: bool = True
    """Band-limited noise, at `experiment.snr_db`."""
    shifts: bool = True
    """Random shifts, up to `experiment.shift_s`."""
    experiment: CoherentConfig = field(default_factory=CoherentConfig)
    """Sources, paths, bands, rate, and length."""


class CoherentRecords(DataRecipe):
    """Records that share a source, each with a path, a shift and noise of its own."""

    Config = CoherentRecordsConfig
    from_nothing = True
    config: CoherentRecordsConfig

    def __init__(self, config: CoherentRecordsConfig) -> None:
        super().__init__(config)
        if config.paths < 1 or not config.experiment.sources:
            raise SeislatentError("records from nothing: give at least one path and one source")

    def open(self, source: Sequence[Path]) -> Records:
        """The numbers of the paths, each a station."""
        numbers = Numbers(self.config.paths)
        numbers.metadata["station_network_code"] = "XX"
        numbers.metadata["station_code"] = "S" + numbers.metadata["trace_name"]
        return Records.joined([numbers], ["coherent"])

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """The record or records of each path."""
        for number, rng in zip(records, rngs, strict=True):
            yield from self.path(number, rng)

    def path(self, number: Waveform, rng: np.random.Generator) -> Iterator[Made]:
        """Of one path."""
        c, k = self.config, int(number.data[0, 0])
        count, station = len(c.experiment.sources), str(number.metadata["station_code"])
        made = experiment(int(rng.integers(2**31)), count, noise=c.noise, shifts=c.shifts, crossed=c.crossed, config=c.experiment)
        for i, its in enumerate(waveforms(made)):
            if not c.crossed and i != k % count:
                continue
            told = {"station_code": station, "trace_name": f"{station}_{its.metadata['source_id']}"}
            channels = tuple(replace(channel, station=station) for channel in its.channels)
            yield Made(record=replace(its, channels=channels, metadata=number.metadata | its.metadata | told))
