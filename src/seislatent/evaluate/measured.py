"""Intensity measures of real and drawn records side by side: arrays of [record draw measure] in natural logarithms, and one table.

    acceleration [record draw Z-H1-H2 time] --metrics.intensity, rotated, spectrum--> Measured, draw 0 being what was recorded

Spectra and peaks are RotD50; Arias intensity, CAV and durations are the geometric mean of the two horizontals; EAS is of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from seislatent.metrics.intensity import G_CM, Baseline, Motion, corrected, measure, spectral_name
from seislatent.metrics.rotated import rotate
from seislatent.metrics.spectrum import effective_amplitude

PERIODS_S = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0)
"""Those of ground-motion models that a record band-limited to about 30 Hz and some tens of seconds long can tell."""
PEAKS = ("PGA_g", "PGV_cm_s", "PGD_cm")
SUMS = ("arias_cm_s", "CAV_cm_s", "D5_75_s", "D5_95_s")
"""Measures of one component; the mean of both horizontals is taken."""
EAS_HZ = tuple(float(f"{f:.3g}") for f in np.geomspace(0.2, 20, 17))
"""Frequencies of the effective amplitude spectrum, eight a decade."""
COMPONENTS = ("H1", "H2", "Z", "RotD50", "RotD100")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Every measure of some records and their draws."""

    names: tuple[str, ...]
    """Of `ln`: PGA_g, SA(1.0)_g, arias_cm_s, EAS(1.0), ..., and PGA_Z_g of the vertical."""
    ln: NDArray[np.float64]
    """[record draw measure], draw 0 recorded; NaN where a measure is not defined or 0."""
    columns: dict[str, dict[str, NDArray[np.float64]]]
    """By component and column: [record draw], as a table has them."""
    periods_s: tuple[float, ...]

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        """The records of several parts, one after the other."""
        first = parts[0]
        columns = {
            part: {name: np.concatenate([p.columns[part][name] for p in parts]) for name in values}
            for part, values in first.columns.items()
        }
        return cls(names=first.names, ln=np.concatenate([p.ln for p in parts]), columns=columns, periods_s=first.periods_s)

    def of(self, *names: str) -> NDArray[np.float64]:
        """[record draw measure] of some measures."""
        return self.ln[..., [self.names.index(name) for name in names]]

    def starting(self, text: str) -> tuple[str, ...]:
        """Names that begin so, such as SA or EAS."""
        return tuple(name for name in self.names if name.startswith(text))

    @property
    def residuals(self) -> NDArray[np.float64]:
        """ln(draw / record) [record draw measure], without draw 0."""
        return self.ln[:, 1:] - self.ln[:, :1]


def measured(
    acceleration: Float[Tensor, "record draw 3 time"],
    sampling_rate_hz: float,
    scale: NDArray[np.float64],
    *,
    highest_hz: float,
    baseline: Baseline | None = None,
    periods_s: Sequence[float] = PERIODS_S,
) -> Measured:
    """Measures of acceleration whose components are Z and two horizontals.

    Args:
        acceleration: draw 0 is the record.
        sampling_rate_hz: of all.
        scale: [record], one unit of `acceleration` in m/s^2. Where the gain is not known give 1: ratios are right all the same,
            but for CAV_std, which is in no ratio.
        highest_hz: frequencies up to which both sides can be believed; shorter periods than 1 / highest_hz are left out.
        baseline: correction before integration; the default one where None.
        periods_s: of SA; those longer than a quarter of the record are left out.
    """
    x = acceleration.double() * torch.from_numpy(np.asarray(scale, np.float64)).to(acceleration.device)[:, None, None, None]
    length_s = x.shape[-1] / sampling_rate_hz
    periods = tuple(p for p in periods_s if 1 / highest_hz <= p * (1 + 1e-9) and p <= length_s / 4 * (1 + 1e-9))
    motion = corrected(x, sampling_rate_hz, unit="m/s^2", baseline=baseline)
    z, one, two = (
        Motion(a_cm_s2=motion.a_cm_s2[:, :, i], v_cm_s=motion.v_cm_s[:, :, i], d_cm=motion.d_cm[:, :, i]) for i in range(3)
    )
    rotated = rotate(one, two, sampling_rate_hz, periods_s=periods)
    tables = {
        name: measure(part, sampling_rate_hz, periods_s=periods).columns() for name, part in (("H1", one), ("H2", two), ("Z", z))
    }
    tables |= {"RotD50": rotated.columns(50.0), "RotD100": rotated.columns(100.0)}
    ln = {name: _log(tables["RotD50"][name]) for name in (*PEAKS, *map(spectral_name, periods))}
    ln |= {name: (_log(tables["H1"][name]) + _log(tables["H2"][name])) / 2 for name in SUMS}
    ln["PGA_Z_g"] = _log(tables["Z"]["PGA_g"])
    centres = [f for f in EAS_HZ if 8 / length_s <= f <= highest_hz]
    if centres:
        eas = effective_amplitude(one.a_cm_s2 / G_CM, two.a_cm_s2 / G_CM, sampling_rate_hz, centres).amplitude
        ln |= {eas_name(f): _log(eas[..., i]) for i, f in enumerate(centres)}
    columns = {part: {name: v.cpu().numpy() for name, v in values.items()} for part, values in tables.items()}
    return Measured(names=tuple(ln), ln=torch.stack(list(ln.values()), -1).cpu().numpy(), columns=columns, periods_s=periods)


def eas_name(frequency_hz: float) -> str:
    """EAS(1.0)_g_s: the effective amplitude at one frequency."""
    return f"EAS({float(f'{frequency_hz:.6g}')})_g_s"


def table(
    found: Measured, rows: NDArray[np.int64], events: Sequence[str], sites: Sequence[str], about: pd.DataFrame
) -> pd.DataFrame:
    """The table of `seislatent.io.intensity_table` of some of the records, with all their draws.

    `events`, `sites` and `about` (metadata, SeisBench's names) are of these rows. A site that an event has twice is numbered.
    """
    names = list(dict.fromkeys(name for values in found.columns.values() for name in values))
    seen: dict[tuple[str, str], int] = {}
    labels = []
    for key in zip(events, sites, strict=True):
        seen[key] = seen.get(key, 0) + 1
        labels.append(key[1] if seen[key] == 1 else f"{key[1]}~{seen[key]}")
    draws = found.ln.shape[1]
    parts = []
    for component in COMPONENTS:
        values = found.columns[component]
        columns = {name: values[name][rows].ravel() for name in names if name in values}
        head = {
            "event": np.repeat(np.asarray(events, object), draws), "site": np.repeat(np.asarray(labels, object), draws),
            "draw": np.tile(np.arange(draws), len(rows)), "component": component,
        }  # fmt: skip
        more = {name: np.repeat(about[name].to_numpy(), draws) for name in about.columns}
        parts.append(pd.DataFrame({**head, **columns, **more}))
    return pd.concat(parts, ignore_index=True)


def _log(x: Tensor) -> Tensor:
    good = (x > 0) & x.isfinite()
    return torch.where(good, torch.where(good, x, 1.0).log(), torch.nan)
