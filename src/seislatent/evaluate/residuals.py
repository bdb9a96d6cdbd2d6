"""Residuals of draws over many records: bias, spread, with distance, against ground-motion models; and the worst cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.evaluate.bootstrap import summary
from seislatent.evaluate.correlations import Correlations, about_own_mean, between_frequencies, between_periods, within_events
from seislatent.evaluate.measured import Measured
from seislatent.metrics.bias import split_residuals
from seislatent.metrics.diversity import spread_calibration

BAND = (0.16, 0.84)
WORST = 10
LEAST = 10
"""Records that a slope with distance or a model's residuals want."""


def metrics_of(values: Mapping[str, NDArray[np.float64]], events: NDArray[Any]) -> dict[str, Any]:
    """Mean, deviation and interval by event of values [record], each over the records that have one."""
    told = {}
    for name, value in values.items():
        good = np.isfinite(value)
        if good.any():
            told[name] = summary(value[good], events[good]).plain()
        else:
            told[name] = {"mean": math.nan, "std": math.nan, "low": None, "high": None}
    return told


def spread(residual: NDArray[np.float64], events: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """bias, bias_error, sigma, tau and phi per measure of residuals [record draw measure].

    The bias is that of means over draws; tau and phi are of single draws (their squares are averaged over draws), as one record is
    compared with one simulation elsewhere.
    """
    label = [str(e) for e in events]
    whole = split_residuals(torch.from_numpy(residual.mean(1)), label)
    singles = [split_residuals(torch.from_numpy(np.ascontiguousarray(residual[:, k])), label) for k in range(residual.shape[1])]
    made = {"bias": whole.bias.numpy(), "bias_error": whole.bias_error.numpy()}
    for name in ("sigma", "tau", "phi"):
        made[name] = np.sqrt(np.mean([getattr(s, name).numpy() ** 2 for s in singles], 0))
    return made


def by_measure(
    found: Measured, events: NDArray[Any], about: pd.DataFrame, longest_s: float = math.inf
) -> tuple[list[dict[str, Any]], dict[str, NDArray[np.float64]]]:
    """Rows of report.json, one per measure; and the values [record] of flat metrics.

    The calibration of all SA together is of periods up to `longest_s`, and that of EAS of frequencies from 1 / longest_s on: of
    what a translator adds, not of what it was given.
    """
    residual = found.residuals
    made = spread(residual, events)
    distance = distance_km(about)
    inside = calibration(found)
    rows, flat = [], {}
    for k, name in enumerate(found.names):
        flat[f"ln_ratio_{name}"] = residual[..., k].mean(1)
        row: dict[str, Any] = {"measure": name} | {key: float(value[k]) for key, value in made.items()}
        row["inside"] = float(np.nanmean(inside[:, k])) if np.isfinite(inside[:, k]).any() else math.nan
        row["slope_with_ln_distance"] = slope(np.log(np.where(distance > 0, distance, np.nan)), residual[..., k].mean(1))
        rows.append(row)
    for group in ("SA", "EAS"):
        places = [found.names.index(name) for name in found.starting(group)]
        if places:
            flat[f"abs_ln_ratio_{group}"] = mean_of(np.abs(residual[..., places]), (1, 2))
            told = [float(found.names[k][len(group) + 1 : found.names[k].index(")")]) for k in places]
            added = [k for k, v in zip(places, told, strict=True) if (v if group == "SA" else 1 / v) <= longest_s * (1 + 1e-9)]
            flat[f"calibration_{group}"] = mean_of(inside[:, added], 1)
    return rows, flat


def calibration(found: Measured) -> NDArray[np.float64]:
    """1 where the record lies within the 16-84 % band of its draws [record measure], else 0; NaN where that cannot be told."""
    inside = np.full((found.ln.shape[0], len(found.names)), np.nan)
    if found.ln.shape[1] < 3:
        return inside
    for k in range(len(found.names)):
        values = found.ln[..., k]
        good = np.isfinite(values).all(1)
        if good.any():
            generator = torch.Generator().manual_seed(k)
            one = torch.from_numpy(values[good])
            made = spread_calibration(one[:, 1:].T[..., None].contiguous(), one[:, :1].contiguous(), generator, band=BAND)
            inside[good, k] = made.inside[:, 0].double().numpy()
    return inside


def distance_km(about: pd.DataFrame) -> NDArray[np.float64]:
    """Epicentral where it is known, else hypocentral; NaN where neither is."""
    made = np.full(len(about), np.nan)
    for name in ("path_ep_distance_km", "path_hyp_distance_km"):
        if name in about:
            made = np.where(np.isnan(made), pd.to_numeric(about[name], errors="coerce").to_numpy(np.float64), made)
    return made


def slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of the straight line through y over x; NaN for fewer than ten points or where x does not vary."""
    good = np.isfinite(x) & np.isfinite(y)
    if good.sum() < LEAST or np.ptp(x[good]) == 0:
        return math.nan
    return float(np.polyfit(x[good], y[good], 1)[0])


def worst(
    found: Measured, values: Mapping[str, NDArray[np.float64]], events: NDArray[Any], about: pd.DataFrame
) -> list[dict[str, Any]]:
    """The ten records whose spectral accelerations are farthest off, the worst first; those without any (silence) are."""
    places = [found.names.index(name) for name in found.starting("SA")]
    away = mean_of(np.abs(found.residuals[..., places]), (1, 2))
    pga = found.residuals[..., found.names.index("PGA_g")].mean(1)
    order = [int(i) for i in np.argsort(-np.nan_to_num(away, nan=np.inf), kind="stable")[:WORST]]
    names = about["trace_name"].astype(str) if "trace_name" in about else pd.Series([str(i) for i in range(len(about))])
    return [
        {"record": names.iloc[i], "event": str(events[i]), "abs_ln_ratio_SA": float(away[i]), "ln_ratio_PGA_g": float(pga[i])}
        | {name: float(values[name][i]) for name in ("eg", "pg", "anderson") if name in values}
        for i in order
    ]


# -- against ground-motion models -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Against:
    """What a ground-motion model says of each record, or why it says nothing."""

    model: str
    why_not: str = ""
    measures: tuple[str, ...] = ()
    ln_median: NDArray[np.float64] | None = None
    """[record measure], NaN where there is none."""
    records: int = 0
    assumed: tuple[str, ...] = ()
    """Different sets of assumptions, with the number of records of each."""

    def plain(self) -> dict[str, Any]:
        """As in report.json."""
        return {"model": self.model, "records": self.records, "assumed": list(self.assumed), "why_not": self.why_not}

    def residuals(self, found: Measured) -> NDArray[np.float64]:
        """ln(measured / median) [record draw measure], draw 0 being the record."""
        assert self.ln_median is not None
        return found.of(*self.measures) - self.ln_median[:, None]

    def of(self, found: Measured, events: NDArray[Any]) -> dict[str, Any] | None:
        """Bias and spread of records and of draws against the model; None where it says nothing."""
        if self.ln_median is None:
            return None
        total = self.residuals(found)
        made = {}
        for who, part in (("record", total[:, :1]), ("draws", total[:, 1:])):
            made[who] = {key: value.tolist() for key, value in spread(part, events).items()}
        return {"measures": list(self.measures), **made}


def against_models(about: pd.DataFrame, scale: NDArray[np.float64], parts: Sequence[Measured], model: str) -> Against:
    """Predictions for records whose unit, magnitude and distance are known."""
    from seislatent.metrics.gmm_residuals import predict

    found = parts[0]
    measures = tuple(name for name in found.names if name in ("PGA_g", "PGV_cm_s") or name.startswith("SA("))
    known = np.flatnonzero(np.isfinite(scale))
    if len(known) < LEAST:
        return Against(model=model, why_not=f"{len(known)} records tell their unit; {LEAST} are wanted")
    try:
        made = predict(about.iloc[known], model, measures)
    except SeislatentError as error:
        return Against(model=model, why_not=str(error))
    median = np.full((len(about), len(measures)), np.nan)
    median[known] = made.ln_median.numpy()
    counts = pd.Series(list(made.assumed)).value_counts()
    assumed = tuple(f"{text or 'nothing'}: {count} records" for text, count in counts.items())
    number = int(np.isfinite(median).any(1).sum())
    if number < LEAST:
        return Against(model=model, why_not=f"{number} records tell what the model asks; {LEAST} are wanted", assumed=assumed)
    return Against(model=model, measures=measures, ln_median=median, records=number, assumed=assumed)


def correlations(found: Measured, events: NDArray[Any], against: Against) -> dict[str, Correlations]:
    """Between periods and between frequencies, of draws; and of the records where a model gives their residuals."""
    made = {}
    periods, frequencies = found.starting("SA"), found.starting("EAS")
    of_eas = [float(name[4 : name.index(")")]) for name in frequencies]
    if against.ln_median is not None:
        places = [against.measures.index(name) for name in periods]
        total = against.residuals(found)[..., places]
        text = f"ln(measured / median of {against.model}) within events"
        draws = [within_events(np.ascontiguousarray(total[:, k]), events) for k in range(1, total.shape[1])]
        made["correlation_periods"] = between_periods(np.concatenate(draws), found.periods_s, text)
        made["correlation_periods_of_records"] = between_periods(
            within_events(np.ascontiguousarray(total[:, 0]), events), found.periods_s, text
        )
    elif found.ln.shape[1] > 2:
        made["correlation_periods"] = between_periods(
            about_own_mean(found.of(*periods)[:, 1:]), found.periods_s, "draws about the mean of their record"
        )
    if found.ln.shape[1] > 2 and len(frequencies) > 1:
        made["correlation_frequencies"] = between_frequencies(
            about_own_mean(found.of(*frequencies)[:, 1:]), of_eas, "draws about the mean of their record"
        )
    return made


def mean_of(x: NDArray[np.float64], axes: int | tuple[int, ...]) -> NDArray[np.float64]:
    """Mean over axes of what is a number; NaN, without a warning, where nothing is."""
    good = np.isfinite(x)
    count = good.sum(axes)
    total = np.where(good, x, 0.0).sum(axes)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
