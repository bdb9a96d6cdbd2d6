"""Broadband ground motion without a network: the stochastic method alone, and a simulation's low frequencies with it above.

    magnitude, distance, depth --stochastic method--> s (t)          baseline/stochastic
    low (t) + g s (t) - G g s (t)                                    baseline/hybrid

Hybrid summation (Graves and Pitarka 2010, Bull. Seism. Soc. Am. 100, 2095-2123, and the methods before it): below a matching
frequency the simulation, above it the stochastic method. G is the zero-phase low-pass by which the low-frequency side is itself
limited (or one at `matching_hz`), and 1 - G is the high-pass: the two sum to one at every frequency. g, one number per draw for all
three components, gives the stochastic part the energy that the low-frequency side has in the octave below the matching frequency.

What a record does not tell (magnitude, distance, depth) is stated by the settings, and `told` says for how many records. Mechanism,
stress drop, attenuation, site and azimuth are drawn as `seislatent.data.synthetic` draws them, afresh for each draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor

from seislatent.data.stochastic import DERIVATIVE, seismogram
from seislatent.data.synthetic import draw_path, draw_source
from seislatent.errors import SeislatentError, unknown
from seislatent.signal.filters import Butterworth

COLUMNS = {
    "magnitude": ("source_magnitude",),
    "distance_km": ("path_ep_distance_km", "path_hyp_distance_km"),
    "depth_km": ("source_depth_km",),
}
"""Where a record tells its circumstances; a hypocentral distance is made epicentral with the depth."""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a baseline may know of some records: everything but the broadband record itself."""

    table: pd.DataFrame
    """Metadata, one row per record."""
    samples: int
    sampling_rate_hz: float
    unit: str
    """Of the motion once it is multiplied by `scale`: m, m/s or m/s^2."""
    scale: NDArray[np.float64]
    """[record]: one unit of the result, in `unit`; NaN where nobody knows."""
    low: Float[Tensor, "record channel time"] | None = None
    """The low-frequency side, in the result's unit."""
    low_pass: Butterworth | None = None
    """What `low` was limited by."""
    broad_pass: Butterworth | None = None
    """What the broadband side is limited by."""

    def rows(self, at: slice) -> Circumstances:
        """Of some of the records."""
        low = None if self.low is None else self.low[at]
        return replace(self, table=self.table.iloc[at], scale=self.scale[at], low=low)


@dataclass(frozen=True, kw_only=True)
class Stochastic:
    """The stochastic method alone: knows magnitude, distance, depth and when P comes, nothing of the record."""

    magnitude: float = 6.0
    """Stated for records that do not tell theirs."""
    distance_km: float = 50.0
    """Epicentral."""
    depth_km: float = 10.0
    p_share: float = 0.1
    """Where in the record P stands, where that is not told."""

    name = "baseline/stochastic"

    def told(self, known: Circumstances) -> list[str]:
        """What had to be stated or matched, one sentence each."""
        lines = []
        for name in COLUMNS:
            _, missing = self._values(known.table, name)
            if missing:
                lines.append(f"{name} stated as {getattr(self, name):g} for {missing} of {len(known.table)} records")
        unpicked = int(np.isnan(_onset(known.table)).sum())
        if unpicked:
            lines.append(f"P stated at {self.p_share:.0%} of the record for {unpicked} of {len(known.table)} records")
        loose = int(np.isnan(known.scale).sum())
        if loose:
            how = "no level" if known.low is None else "the level of the low-frequency side in the octave below its corner"
            lines.append(f"{loose} of {len(known.table)} records in counts or without unit: drawn with {how}")
        return lines

    def draw(self, known: Circumstances, n: int, generator: Generator) -> Float[Tensor, "record draw channel time"]:
        """`n` draws of each record, components Z and two horizontals; where the unit is not known, with a peak of 1 or low's level.

        Raises SeislatentError for an unknown unit, or where a distance has no travel time.
        """
        made = self._drawn(known, n, generator)
        for i in np.flatnonzero(np.isnan(known.scale)):
            if known.low is None or known.low_pass is None:
                made[i] /= np.maximum(np.abs(made[i]).max((-2, -1), keepdims=True), 1e-300)
            else:
                made[i] *= matched(known.low[i].double().cpu().numpy(), made[i], known.low_pass)[:, None, None]
        return torch.from_numpy(made)

    def _drawn(self, known: Circumstances, n: int, generator: Generator) -> NDArray[np.float64]:
        """Before any matching; in the unit of the motion where the scale is not known."""
        if known.unit not in DERIVATIVE:
            raise SeislatentError(unknown("unit of ground motion", known.unit, DERIVATIVE))
        seeds = torch.randint(2**62, (len(known.table), n), generator=generator).tolist()
        magnitude, distance, depth = (self._values(known.table, name)[0] for name in COLUMNS)
        onset = _onset(known.table)
        onset = np.where(np.isfinite(onset), onset, self.p_share * known.samples)
        azimuth = _number(known.table, "path_azimuth_deg")
        made = np.empty((len(known.table), n, 3, known.samples))
        for i, row in enumerate(seeds):
            for k, seed in enumerate(row):
                rng = np.random.default_rng(seed)
                source, path = draw_source(rng, magnitude[i], depth[i]), draw_path(rng, distance[i])
                if np.isfinite(azimuth[i]):
                    path = replace(path, azimuth_deg=float(azimuth[i]))
                first = int(np.clip(onset[i], 0, known.samples - 1))
                made[i, k] = seismogram(rng, source, path, known.samples, known.sampling_rate_hz, first, known.unit)
        if known.broad_pass is not None:
            made = known.broad_pass(made)
        scale = np.where(np.isfinite(known.scale), known.scale, 1.0)
        return made / scale[:, None, None, None]

    def _values(self, table: pd.DataFrame, name: str) -> tuple[NDArray[np.float64], int]:
        """A circumstance of each record, and how many do not tell it."""
        values = np.full(len(table), np.nan)
        for column in COLUMNS[name]:
            found = _number(table, column)
            if column == "path_hyp_distance_km":
                found = np.sqrt(np.maximum(found**2 - self._values(table, "depth_km")[0] ** 2, 0.0))
            values = np.where(np.isnan(values), found, values)
        if name == "depth_km":
            values = np.where(values > 0, np.maximum(values, 0.5), values)  # a source in the air has no travel time
            values[values <= 0] = 0.5
        missing = np.isnan(values)
        return np.where(missing, getattr(self, name), values), int(missing.sum())


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """A low-frequency side with the stochastic method above it."""

    stochastic: Stochastic = Stochastic()
    matching_hz: float | None = None
    """Corner of the crossover; None: that of the low-frequency side, which is then added as it is."""

    name = "baseline/hybrid"

    def told(self, known: Circumstances) -> list[str]:
        """What had to be stated, and how both parts are put together."""
        corner = self._crossover(known).corners_hz
        stated = [line for line in self.stochastic.told(known) if "stated" in line]
        return [
            *stated,
            f"zero-phase crossover at {corner:g} Hz; the stochastic part has the energy of the low-frequency side from"
            f" {_octave(corner)[0]:g} to {_octave(corner)[1]:g} Hz, by one factor for the three components of a draw",
        ]

    def draw(self, known: Circumstances, n: int, generator: Generator) -> Float[Tensor, "record draw channel time"]:
        """`n` draws of each record. Raises SeislatentError where there is no low-frequency side."""
        crossover = self._crossover(known)
        assert known.low is not None
        low = known.low.double().cpu().numpy()
        high = self.stochastic._drawn(known, n, generator)
        if self.matching_hz is not None:
            low = crossover(low)
        for one, beside in zip(high, low, strict=True):
            one *= matched(beside, one, crossover)[:, None, None]
        return torch.from_numpy(low[:, None] + high - crossover(high))

    def _crossover(self, known: Circumstances) -> Butterworth:
        if known.low is None or known.low_pass is None:
            raise SeislatentError(f"{self.name} adds to a low-frequency side, which these records have not: give a store of pairs")
        if self.matching_hz is None:
            return known.low_pass
        return replace(known.low_pass, corners_hz=self.matching_hz, zero_phase=True)


def matched(low: NDArray[np.float64], drawn: NDArray[np.float64], low_pass: Butterworth) -> NDArray[np.float64]:
    """Factors [draw] that give draws [draw channel time] the energy of `low` [channel time] in the octave below the corner.

    Both are seen through the same low-pass. 1 where either is silent there.
    """
    begin, end = _octave(low_pass.corners_hz)
    f = np.fft.rfftfreq(low.shape[-1], 1 / low_pass.rate_hz)
    inside = (f >= begin) & (f <= end)
    inside[np.abs(f - (begin + end) / 2).argmin()] = True  # of short records
    wanted = (np.abs(np.fft.rfft(low)[..., inside]) ** 2).sum()
    there = (np.abs(np.fft.rfft(low_pass(drawn))[..., inside]) ** 2).sum((-2, -1))
    good = (wanted > 0) & (there > 0)
    return np.where(good, np.sqrt(wanted / np.where(good, there, 1.0)), 1.0)


def _octave(corner: float | Sequence[float]) -> tuple[float, float]:
    high = float(np.atleast_1d(np.asarray(corner, float))[0])
    return high / 2, high


def _onset(table: pd.DataFrame) -> NDArray[np.float64]:
    """Sample at which P comes: picked, else calculated; NaN where nobody tells."""
    picked, calculated = (_number(table, f"trace_p_arrival_{kind}sample") for kind in ("", "calc_"))
    return np.where(np.isnan(picked), calculated, picked)


def _number(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    if column not in table:
        return np.full(len(table), np.nan)
    found: Any = pd.to_numeric(table[column], errors="coerce")
    return np.asarray(found, np.float64)
