"""The one table of intensity measures: a CSV with a README beside it, and the two files that OpenQuake reads.

    event, site, draw, component | PGA_g, PGV_cm_s, SA(0.3)_g, ... | source_magnitude, station_latitude_deg, ...

A row is one component of one record, or of one draw of a generator: draw 0 is what was recorded, 1, 2, ... are drawn. Components
are H1, H2, Z, RotD50 and RotD100. Further columns have SeisBench's names. What a measure is not defined for is left empty.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from seislatent.errors import SeislatentError, unknown

KEYS = ("event", "site", "draw", "component")
COMPONENTS = ("H1", "H2", "Z", "RotD50", "RotD100")
MEASURE = re.compile(
    r"^(?:SA\((?P<period>\d+(?:\.\d+)?(?:e[+-]?\d+)?)\)_g|[A-Z][A-Za-z]*[0-9_]*(?:_std)?_(?:g|cm_s|cm|s)|arias_cm_s)$"
)
"""Names of measures: a quantity and its unit."""
OPENQUAKE = {"PGA_g": "gmv_PGA", "PGV_cm_s": "gmv_PGV", "PGD_cm": "gmv_PGD"}
"""Measures under OpenQuake's names, which has the same units; SA(T)_g becomes gmv_SA(T)."""


def periods_of(columns: Sequence[str]) -> list[float]:
    """Periods of the columns SA(T)_g, in their order."""
    found = (re.fullmatch(MEASURE, str(name)) for name in columns)
    return [float(match["period"]) for match in found if match and match["period"]]


def checked(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its keys first, in the types they have in files.

    Raises SeislatentError: a key is missing or empty, a component is unknown, a row is there twice, a measure is text or negative.
    """
    for key in KEYS:
        if key not in table.columns:
            raise SeislatentError(f"table of intensity measures has no column '{key}': it needs {', '.join(KEYS)}")
        if table[key].isna().any():
            raise SeislatentError(f"table of intensity measures: row {_where(table[key].isna())} has no {key}")
    for name in table["component"].unique():
        if name not in COMPONENTS:
            raise SeislatentError(unknown("component", str(name), COMPONENTS))
    made = table.astype({"event": str, "site": str, "component": str}).copy()
    draw = pd.to_numeric(made["draw"], errors="coerce")
    if (draw.isna() | (draw < 0) | (draw % 1 != 0)).any():
        raise SeislatentError("table of intensity measures: draws are whole numbers from 0 on, 0 being what was recorded")
    made["draw"] = draw.astype(int)
    twice = made.duplicated(list(KEYS))
    if twice.any():
        row = made[twice].iloc[0]
        raise SeislatentError(
            f"table of intensity measures: {row.component} of event {row.event}, site {row.site}, draw {row.draw} is there twice"
        )
    measures = [name for name in made.columns if re.fullmatch(MEASURE, str(name))]
    if not measures:
        raise SeislatentError("table of intensity measures holds no measure: a column such as PGA_g or SA(1.0)_g is needed")
    for name in measures:
        values = pd.to_numeric(made[name], errors="coerce")
        if (values.isna() & made[name].notna()).any() or (values < 0).any() or np.isinf(values).any():
            raise SeislatentError(f"table of intensity measures: {name} holds what is no finite number of 0 or more")
        made[name] = values.astype(float)
    others = [name for name in made.columns if name not in KEYS and name not in measures]
    return made[[*KEYS, *measures, *others]]


def write_intensity_table(
    path: str | Path, table: pd.DataFrame, *, meaning: Mapping[str, str], baseline: str, source: str = "", overwrite: bool = False
) -> Path:
    """Write the CSV and, beside it, NAME.README.md; both appear whole or not at all.

    Args:
        path: ends in .csv.
        table: rows as in the head of this file, in any order of columns.
        meaning: what each measure is, such as `seislatent.metrics.intensity.names()`.
        baseline: how acceleration was corrected before it was integrated, such as `str(Baseline())`.
        source: where the records are from, in a sentence.
        overwrite: replace what is there.

    Returns:
        The path of the README.

    Raises:
        SeislatentError: as `checked`; a measure whose meaning is not given; a file that exists.
    """
    path, made = Path(path), checked(table)
    if path.suffix != ".csv":
        raise SeislatentError(f"{path}: a table of intensity measures is a .csv file")
    readme = path.with_suffix(".README.md")
    measures = [name for name in made.columns if re.fullmatch(MEASURE, str(name))]
    for name in measures:
        if name not in meaning:
            raise SeislatentError(f"{path}: nobody says what {name} is; " + unknown("measure", name, meaning))
    _free([path, readme], overwrite)
    lines = [
        f"# {path.name}", "", source or "Intensity measures of ground motion, one row per component.", "",
        f"Correction before integration: {baseline}.", "",
        "| column | what it is |", "|---|---|",
        "| event | name of the earthquake |", "| site | name of the site |",
        "| draw | 0: as recorded or given; 1, 2, ...: random outputs of a generator |",
        "| component | H1, H2: the two horizontals as given; Z: up; RotD50, RotD100: median and largest over 180 directions |",
        *[f"| {name} | {meaning[name]} |" for name in measures],
        *[f"| {name} | metadata, named as in SeisBench |" for name in made.columns if name not in measures and name not in KEYS],
        "", "An empty field is a measure that is not defined: RotD50 and RotD100 have peaks and spectra; silence has no duration.",
        "", f"{len(made)} rows, {made.event.nunique()} events, {made.site.nunique()} sites.", "",
    ]  # fmt: skip
    _write({path: made.to_csv(index=False), readme: "\n".join(lines)})
    return readme


def read_intensity_table(path: str | Path) -> pd.DataFrame:
    """A table as `write_intensity_table` wrote it; names of events and sites stay text.

    Raises SeislatentError: the file is missing or no such table.
    """
    try:
        table = pd.read_csv(path, dtype={"event": str, "site": str, "component": str}, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise SeislatentError(f"{path}: cannot be read as a table of intensity measures ({error})") from error
    try:
        return checked(table)
    except SeislatentError as error:
        raise SeislatentError(f"{path}: {error}") from error


def write_openquake(
    folder: str | Path, table: pd.DataFrame, *, component: str = "RotD50", overwrite: bool = False
) -> dict[str, Path]:
    """`gmfs.csv` (eid, sid, gmv_PGA, gmv_SA(0.3), ...) and `sites.csv` (site_id, lon, lat), for OpenQuake's gmfs_csv and sites_csv.

    Every draw of every event is one eid; events.csv says which (eid, event, draw). Numbers count from 0. Sites are those of the
    table's station_longitude_deg and station_latitude_deg, rounded to five decimals as OpenQuake has them. Written are PGA, PGV,
    PGD and SA, in g, cm/s, cm and g.

    Raises:
        SeislatentError: as `checked`; no row of the component; a site without place or with two; two sites in one place; a
            value that is missing; a file that exists.
    """
    made = checked(table)
    made = made[made["component"] == component]
    if made.empty:
        raise SeislatentError(unknown("component of this table", component, table["component"].unique()))
    places = {}
    for name, column in (("lon", "station_longitude_deg"), ("lat", "station_latitude_deg")):
        if column not in made.columns:
            raise SeislatentError(f"OpenQuake needs the place of every site: the table has no column {column}")
        places[name] = pd.to_numeric(made[column], errors="coerce").round(5)
    sites = pd.DataFrame({"site": made["site"], **places}).drop_duplicates()
    for wrong, why in (
        (sites[["lon", "lat"]].isna().any(axis=1), "has no place"),
        (sites.duplicated("site"), "has two places"),
        (sites.duplicated(["lon", "lat"]), "lies where another does: OpenQuake wants one site per place"),
    ):
        if wrong.any():
            raise SeislatentError(f"site {sites.loc[wrong, 'site'].iloc[0]} {why}")
    sites = sites.sort_values("site").reset_index(drop=True)
    events = made[["event", "draw"]].drop_duplicates().sort_values(["event", "draw"]).reset_index(drop=True)
    values = {OPENQUAKE[name]: made[name] for name in OPENQUAKE if name in made.columns}
    values |= {f"gmv_{name.removesuffix('_g')}": made[name] for name in made.columns if name.startswith("SA(")}
    eid = made[["event", "draw"]].merge(events.reset_index(names="eid"), how="left")["eid"].to_numpy()
    sid = made["site"].map(dict(zip(sites["site"], sites.index, strict=True))).to_numpy()
    fields = pd.DataFrame({"eid": eid, "sid": sid, **{name: value.to_numpy() for name, value in values.items()}})
    for name in values:
        if fields[name].isna().any():
            raise SeislatentError(f"OpenQuake reads no empty fields: {name} is missing in row {_where(fields[name].isna())}")
    folder = Path(folder)
    paths = {name: folder / f"{name}.csv" for name in ("gmfs", "sites", "events")}
    _free(list(paths.values()), overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    mesh = sites.rename_axis("site_id").reset_index()[["site_id", "lon", "lat"]]
    _write(
        {
            paths["gmfs"]: fields.sort_values(["eid", "sid"]).to_csv(index=False, float_format="%.6g"),
            paths["sites"]: mesh.to_csv(index=False, float_format="%.5f"),
            paths["events"]: events.rename_axis("eid").reset_index().to_csv(index=False),
        }
    )
    return paths


def _where(wrong: pd.Series) -> int:
    return int(np.flatnonzero(wrong.to_numpy())[0])


def _free(paths: Sequence[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise SeislatentError(f"{path} exists: give another name, or overwrite it")


def _write(texts: Mapping[Path, str]) -> None:
    """Each under a temporary name first, so that nothing half-written is left."""
    beside = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in texts}
    try:
        for path, text in texts.items():
            beside[path].write_text(text, encoding="utf-8")
        for path, part in beside.items():
            os.replace(part, path)
    except OSError as error:
        raise SeislatentError(f"{next(iter(texts))}: cannot be written ({error.strerror})") from error
    finally:
        for part in beside.values():
            part.unlink(missing_ok=True)
