"""Residuals of measured intensities against ground-motion models, which pygmm computes (MIT licence; an optional package).

    table of intensity measures --scenario of each row--> ln median, sigma --> ln(measured / median) --> `seislatent.metrics.bias`

What a row does not say is assumed, and said: `assumed` names it row by row. A model's own limits of magnitude and distance are
reported the same way. Models predict RotD50 of PGA, PGV and SA (durations: none here); give them rows of that component.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError, unknown
from seislatent.metrics.bias import Residuals, log_ratio, split_residuals
from seislatent.metrics.intensity import spectral_name

MODELS = {
    "ASK14": "AbrahamsonSilvaKamai2014",
    "BSSA14": "BooreStewartSeyhanAtkinson2014",
    "CB14": "CampbellBozorgnia2014",
    "CY14": "ChiouYoungs2014",
    "I14": "Idriss2014",
    "ASB14": "AkkarSandikkayaBommer2014",
    "AGA16": "AbrahamsonGregorAddo2016",
    "DBC14": "DerrasBardCotton2014",
}
"""Short names of pygmm's models of PGA and SA."""
VS30_M_S = 760.0
"""Assumed where a site's is missing: the rock of the models' reference condition."""
COLUMNS: dict[str, tuple[str, ...]] = {
    "mag": ("source_magnitude",),
    "dist_rup": ("path_rup_distance_km", "path_hyp_distance_km"),
    "dist_jb": ("path_jb_distance_km", "path_ep_distance_km"),
    "dist_x": ("path_x_distance_km",),
    "dist_hyp": ("path_hyp_distance_km",),
    "dist_epi": ("path_ep_distance_km",),
    "v_s30": ("station_vs30_m_s", "station_vs_30_mps", "station_vs30"),
    "depth_hyp": ("source_depth_km",),
    "depth_tor": ("source_top_depth_km",),
    "depth_1_0": ("station_z1_0_km",),
    "depth_2_5": ("station_z2_5_km",),
    "dip": ("source_dip_deg",),
    "width": ("source_width_km",),
    "mechanism": ("source_mechanism",),
    "region": ("source_region",),
}
"""pygmm's names and the columns of the table they are taken from, the first that has a value; SeisBench's where it has one."""
POINT = {"dist_rup": "path_hyp_distance_km", "dist_jb": "path_ep_distance_km"}
"""Distances of a point source, in place of those to a fault."""
ASSUMED: dict[str, Any] = {"v_s30": VS30_M_S, "dip": 90.0, "mechanism": "U", "dist_x": 0.0, "event_type": "interface"}
"""Assumed where a model asks and the row does not say; unspecified mechanism becomes SS for models that know no U."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model says of each row, in float64; NaN where a row lacks what it needs."""

    model: str
    measures: tuple[str, ...]
    ln_median: Float[Tensor, "record measure"]
    """ln of g, or of cm/s for PGV."""
    ln_sigma: Float[Tensor, "record measure"]
    assumed: tuple[str, ...]
    """Per row: what was assumed, such as "v_s30=760; dist_rup from path_hyp_distance_km", or why there is no prediction."""


@dataclass(frozen=True, kw_only=True)
class ModelResiduals:
    """Residuals of one table against one model."""

    predictions: Predictions
    total: Float[Tensor, "record measure"]
    """ln(measured / median)"""
    normalised: Float[Tensor, "record measure"]
    """total / the model's sigma."""
    split: Residuals
    """Bias, tau and phi per measure."""


def predict(table: pd.DataFrame, model: str, measures: Sequence[str]) -> Predictions:
    """Median and sigma of a model for each row.

    Args:
        table: columns as in COLUMNS.
        model: a short name of MODELS, or the name of a class of pygmm.
        measures: PGA_g, PGV_cm_s or SA(T)_g; other periods than the model's are interpolated in ln T, beyond them is NaN.

    Raises:
        SeislatentError: pygmm is not installed; an unknown model or measure; the model has no PGV.
    """
    made = _model(model)
    periods = {name: _period(name) for name in measures}
    if "PGV_cm_s" in measures and getattr(made, "INDEX_PGV", None) is None:
        raise SeislatentError(f"{model} does not predict PGV: leave PGV_cm_s out or take another model")
    median, sigma = (np.full((len(table), len(measures)), np.nan) for _ in range(2))
    notes, known = [], {}
    for i, row in enumerate(table.to_dict("records")):
        scenario, note, lacking = _scenario(made, {str(name): value for name, value in row.items()})
        if lacking:
            notes.append(f"no prediction: no {', '.join(lacking)}")
            continue
        key = tuple(sorted((name, str(value)) for name, value in scenario.items()))  # components and draws share a scenario
        if key not in known:
            known[key] = _evaluate(made, scenario, periods)
        median[i], sigma[i], more = known[key]
        notes.append("; ".join([*note, *more]))
    return Predictions(
        model=model,
        measures=tuple(measures),
        ln_median=torch.from_numpy(median),
        ln_sigma=torch.from_numpy(sigma),
        assumed=tuple(notes),
    )


def model_residuals(table: pd.DataFrame, model: str, measures: Sequence[str], *, component: str = "RotD50") -> ModelResiduals:
    """Residuals of the rows of one component of a table of intensity measures, split by its column `event`.

    Draws of one record count as records: choose one draw first where that is not meant.

    Raises SeislatentError as `predict`, and where a column is missing or no row is of the component.
    """
    for name in ("event", "component", *measures):
        if name not in table.columns:
            raise SeislatentError(f"table of intensity measures has no column '{name}', which residuals need")
    rows = table[table["component"] == component]
    if rows.empty:
        raise SeislatentError(unknown("component of this table", component, table["component"].unique()))
    found = predict(rows, model, measures)
    total = log_ratio(torch.from_numpy(rows[list(measures)].to_numpy(np.float64).copy()), found.ln_median.exp())
    return ModelResiduals(
        predictions=found, total=total, normalised=total / found.ln_sigma, split=split_residuals(total, rows["event"].tolist())
    )


def _model(name: str) -> Any:
    try:
        import pygmm
    except ImportError as error:
        raise SeislatentError("ground-motion models need pygmm: pip install pygmm") from error
    made = getattr(pygmm, MODELS.get(name, name), None)
    if not isinstance(made, type) or not hasattr(made, "INDICES_PSA"):
        raise SeislatentError(unknown("ground-motion model", name, [*MODELS, *MODELS.values()]))
    return made


def _period(name: str) -> float | None:
    if name in ("PGA_g", "PGV_cm_s"):
        return None
    if name.startswith("SA(") and name.endswith(")_g"):
        try:
            return float(name[3:-3])
        except ValueError:
            pass
    raise SeislatentError(f"ground-motion models predict PGA_g, PGV_cm_s and such as {spectral_name(1.0)}, not '{name}'")


def _scenario(made: Any, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Values by pygmm's names, what was assumed, and what is lacking."""
    scenario: dict[str, Any] = {}
    notes, lacking = [], []
    for parameter in made.PARAMS:
        name = parameter.name
        column = next((c for c in COLUMNS.get(name, ()) if _given(row.get(c))), None)
        options = getattr(parameter, "options", None)
        if column is not None:
            value = row[column]
            scenario[name] = str(value) if options is not None else float(value)
            if POINT.get(name) == column:
                notes.append(f"{name} from {column}")
        elif name in ASSUMED and (parameter.required or name == "v_s30"):
            value = ASSUMED[name]
            scenario[name] = "SS" if options is not None and value not in options else value
            notes.append(f"{name}={scenario[name]:g}" if options is None else f"{name}={scenario[name]}")
        elif parameter.required:
            lacking.append(" or ".join(COLUMNS.get(name, (name,))))
        if options is not None and name in scenario and scenario[name] not in options:
            lacking.append(f"{column or name} among {', '.join(map(str, options))}")
    if not any(name.startswith("dist_") and name != "dist_x" for name in scenario) and not lacking:
        lacking.append("distance")  # a model that takes any of several requires none of them
    return scenario, notes, lacking


def _given(value: Any) -> bool:
    return value is not None and value == value and value != ""


def _evaluate(
    made: Any, scenario: dict[str, Any], periods: Mapping[str, float | None]
) -> tuple[list[float], list[float], list[str]]:
    import pygmm

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = made(pygmm.Scenario(**scenario))
        found = []
        for name, period in periods.items():
            if period is not None:
                found.append((model.interp_ln_spec_accels([period])[0], model.interp_ln_stds([period])[0]))
            elif name == "PGA_g":
                found.append((np.log(model.pga), model.ln_std_pga))
            else:
                found.append((np.log(model.pgv), model.ln_std_pgv))
    beyond = ["outside the model's limits"] if any("recommended limit" in str(w.message) for w in told) else []
    return [float(m) for m, _ in found], [float(s) for _, s in found], beyond
