"""How good broadband motion made from low frequencies is: draws of each system against the records of a store of pairs.

    store of pairs (x, low) --translate or draw--> n draws --metrics--> numbers per record --summary by event--> report, verdict

Every residual is ln(draw / record): positive where a draw is too large. Values stand per record (means over its draws) before
anything is averaged, so that records count alike and intervals draw whole events again.
"""

from __future__ import annotations

import logging
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seislatent import __version__
from seislatent.errors import SeislatentError, unknown
from seislatent.evaluate import criteria as limits
from seislatent.evaluate.beside import of_values
from seislatent.evaluate.bootstrap import DRAWS, SHARE
from seislatent.evaluate.measured import Measured, measured, table
from seislatent.evaluate.pairs import PairRecords, pairs_of
from seislatent.evaluate.report import Report, may_write
from seislatent.evaluate.residuals import Against, against_models, mean_of, metrics_of
from seislatent.io.intensity_table import write_intensity_table, write_openquake
from seislatent.metrics.anderson import CRITERIA, anderson_scores
from seislatent.metrics.intensity import Baseline, names
from seislatent.metrics.kristekova import kristekova
from seislatent.signal.filters import Butterworth
from seislatent.systems.base import Translator

log = logging.getLogger(__name__)

COMPARED = ("eg", "pg", "anderson", "abs_ln_ratio_SA", "abs_ln_ratio_EAS", "calibration_SA", "low_frequency_error")
"""Measures of which pairs of systems are told apart."""
EXAMPLES = 3
"""Worst records that are drawn; the best one stands beside them."""


@dataclass(kw_only=True)
class Tally:
    """What one system did; [record] each, in the order of the records."""

    values: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    parts: list[Measured] = field(default_factory=list)
    draws: dict[int, tuple[NDArray[np.float32], NDArray[np.float32], float]] = field(default_factory=dict)
    """Examples by record: record and first draw [channel time], mean |ln ratio| of SA."""
    told: list[str] = field(default_factory=list)

    def add(self, **values: Tensor) -> None:
        """One batch more."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value.double().cpu().numpy())

    def of(self, name: str) -> NDArray[np.float64]:
        """A value of every record."""
        return np.concatenate(self.values[name])


def translate(
    models: Sequence[Any],
    data: str | Path | Sequence[str | Path],
    split: str = "test",
    out: str | Path | None = None,
    *,
    draws: int = 5,
    seed: int = 0,
    criteria: str | Path = "broadband",
    ground_motion_model: str = "BSSA14",
    im_format: str = "csv",
    overwrite: bool = False,
) -> Report:
    """Judge translators and broadband baselines on a store of pairs.

    Args:
        models: loaded models whose system is a Translator, and baselines with a method `draw` (`evaluate.baselines.broadband`).
        data: a store that `seislatent prepare data/pairs` made.
        split: `train`, `dev` or `test`, by event; or `all`.
        out: folder for the report, its figures, and a table of intensity measures per system; None writes nothing.
        draws: of each record; two at least are needed to judge their spread.
        seed: of all draws.
        criteria: file of limits for the verdict, or the name of one that ships.
        ground_motion_model: a name of `metrics.gmm_residuals`, used where pygmm is installed and magnitudes are known.
        im_format: `csv`, or `openquake` for its ground-motion fields and sites beside it.
        overwrite: replace a report in `out`.

    Raises:
        SeislatentError: no store of pairs, no record, a system that does not translate, wrong output of one, or a bad option.
    """
    named = judges(models, Translator, "translate")
    rules = limits.load(criteria)
    if draws < 1:
        raise SeislatentError(f"{draws} draws of each record: give 1 or more, 2 or more to judge their spread")
    if im_format not in ("csv", "openquake"):
        raise SeislatentError(unknown("format of intensity measures", im_format, ("csv", "openquake")))
    if out is not None:
        may_write(out, overwrite)
    records = pairs_of(data, split)
    tallies, floor = _tried(named, records, draws, seed)
    against = against_models(records.table, records.scale, next(iter(tallies.values())).parts, ground_motion_model)
    result = _result(records, tallies, floor, against, rules)
    result |= {"draws": draws, "seed": seed, "split": split, "ground_motion_model": against.plain(), "command": asked()}
    from seislatent.evaluate.translate_page import page

    with tempfile.TemporaryDirectory() as beside:
        result["intensity_measures"] = [] if out is None else _tables(Path(beside), tallies, records, im_format)
        report = page(result, tallies, records, against)
        if out is not None:
            report.write(out, overwrite, Path(beside))
    return report


def asked() -> str:
    """The command that this is the answer to; empty where it was asked from Python."""
    return shlex.join(["seislatent", *sys.argv[1:]]) if Path(sys.argv[0]).name == "seislatent" else ""


def judges(models: Sequence[Any], verb: type, word: str) -> dict[str, Any]:
    """Each system under a name of its own.

    Raises SeislatentError: none at all, one given twice, or one that has neither the verb nor a baseline's `draw`.
    """
    found: dict[str, Any] = {}
    for model in models:
        name = str(getattr(model, "name", type(model).__name__))
        if isinstance(model, str):
            raise SeislatentError(f"{model!r} is a name: give seislatent.load({model!r}), or a baseline")
        it = getattr(model, "system", model)
        if not hasattr(it, "draw") and not isinstance(it, verb):
            kind = type(it).__name__
            raise SeislatentError(
                f"{name} is a {kind}, which does not {word}: give a {verb.__name__.lower()} or a broadband baseline"
            )
        if name in found:
            name = f"{name} {getattr(model, 'digest', '')}".strip()
        if name in found:
            raise SeislatentError(f"{name} is given twice: give each system once")
        found[name] = it.eval() if isinstance(it, torch.nn.Module) else it
    if not found:
        raise SeislatentError("no system to judge: give at least one")
    return found


# -- record by record -------------------------------------------------------------------------------------------------------------


def _tried(
    named: dict[str, Any], records: PairRecords, draws: int, seed: int
) -> tuple[dict[str, Tally], dict[str, NDArray[np.float64]]]:
    """Every system on all records, and what the records themselves lose in the low-pass."""
    tallies = {name: Tally() for name in named}
    floor = Tally()
    for name, model in named.items():
        if hasattr(model, "told"):
            one = records.store.read(records.rows[:1], array="low")
            low = torch.from_numpy(one).double().expand(len(records.rows), -1, -1)
            tallies[name].told = list(model.told(records.circumstances(low, slice(None))))
    generators = {name: torch.Generator().manual_seed(seed) for name in named}
    for here, x, low in records.batches():
        log.info("records %d to %d of %d", here.start + 1, here.stop, len(records.rows))
        floor.add(**_low_frequencies(x[:, None], low, records.low_pass))
        for name, model in named.items():
            made = drawn(model, name, records, low, here, draws, generators[name])
            _score(tallies[name], made, x, low, records, here)
    return tallies, {name: floor.of(name) for name in floor.values}


def drawn(model: Any, name: str, records: PairRecords, low: Tensor, here: slice, n: int, generator: torch.Generator) -> Tensor:
    """Draws [record draw channel time] in float64. Raises SeislatentError where a system gives another shape or no numbers."""
    if hasattr(model, "draw"):
        made = model.draw(records.circumstances(low, here), n, generator)
    else:
        at = next(iter(model.parameters()), low) if isinstance(model, torch.nn.Module) else low
        with torch.inference_mode():
            made = model.translate(low.to(at.device, at.dtype), n, generator)
    made = made.detach().double().cpu()
    wanted = (low.shape[0], n, *low.shape[1:])
    if tuple(made.shape) != wanted:
        raise SeislatentError(
            f"{name} gave draws of shape {tuple(made.shape)} where {wanted} were asked for [record draw channel time]"
        )
    if not made.isfinite().all():
        raise SeislatentError(f"{name} gave NaN or infinity among records {here.start} to {here.stop - 1}: it cannot be judged")
    return made


def _low_frequencies(made: Tensor, low: Tensor, low_pass: Butterworth) -> dict[str, Tensor]:
    """How far the low-passed draws are from `low`: error over root mean square, mean over draws; in dB; and below half the corner.

    The ends, where the filter sees no record beyond, are left out: two periods of the corner on either side, a fifth at most.
    """
    again = torch.from_numpy(low_pass(made.cpu().numpy()))
    n, corner = low.shape[-1], float(low_pass.corners_hz)  # type: ignore[arg-type]
    edge = min(round(2 * low_pass.rate_hz / corner), n // 5)
    error, size = (again - low[:, None])[..., edge : n - edge], low[:, None, :, edge : n - edge]
    share = _ratio(error.square().sum((-2, -1)), size.square().sum((-2, -1)))
    f = torch.fft.rfftfreq(error.shape[-1], 1 / low_pass.rate_hz)
    window = torch.hann_window(error.shape[-1], periodic=False, dtype=torch.float64)
    power = [torch.fft.rfft(x * window)[..., f <= corner / 2].abs().square().sum((-2, -1)) for x in (error, size)]
    return {
        "low_frequency_error": share.mean(1),
        "low_frequency_snr_db": (-20 * share.clamp(min=1e-12).log10()).mean(1),
        "low_frequency_error_below": _ratio(power[0], power[1]).mean(1),
    }


def _ratio(error: Tensor, size: Tensor) -> Tensor:
    """Root of the ratio of two energies; NaN where the second is 0."""
    return (error / torch.where(size > 0, size, torch.nan)).sqrt()


def _score(tally: Tally, made: Tensor, x: Tensor, low: Tensor, records: PairRecords, here: slice) -> None:
    truth = x[:, None].expand_as(made).contiguous()
    fit = kristekova(made.float(), truth.float(), records.rate_hz, band_hz=records.band_hz)
    assert fit.eg is not None and fit.pg is not None
    scores = anderson_scores(made, truth, records.rate_hz, band_hz=(0.0, records.highest_hz))
    single = torch.nanmean(scores.scores.flatten(1, 3), 1)  # over draws, components and bands
    tally.add(
        eg=fit.eg.double().mean((1, 2)), pg=fit.pg.double().mean((1, 2)), anderson=scores.total.nanmean((1, 2)),
        silent_share=(made == 0).all(-1).double().mean((1, 2)),
        **{f"anderson_{name}": single[:, i] for i, name in enumerate(CRITERIA)},
        **_low_frequencies(made, low, records.low_pass),
    )  # fmt: skip
    scale = np.where(np.isfinite(records.scale[here]), records.scale[here], 1.0)
    found = measured(torch.cat([x[:, None], made], 1), records.rate_hz, scale, highest_hz=records.highest_hz)
    tally.parts.append(found)
    away = np.nan_to_num(mean_of(np.abs(found.residuals[..., _places(found, "SA")]), (1, 2)), nan=np.inf)
    for i, value in enumerate(away):
        tally.draws[here.start + i] = (x[i].float().numpy(), made[i, 0].float().numpy(), float(value))
    order = sorted(tally.draws, key=lambda k: tally.draws[k][2])
    tally.draws = {k: tally.draws[k] for k in dict.fromkeys([*order[:1], *order[-EXAMPLES:]])}


def _places(found: Measured, start: str) -> list[int]:
    return [found.names.index(name) for name in found.starting(start)]


# -- numbers ----------------------------------------------------------------------------------------------------------------------


def _result(
    records: PairRecords, tallies: dict[str, Tally], floor: dict[str, NDArray[np.float64]], against: Against, rules: limits.Criteria
) -> dict[str, Any]:
    """report.json but for what was asked."""
    both = {name: _told(tally, records, against, rules) for name, tally in tallies.items()}
    values = {name: {m: value for m, value in found.items() if m in COMPARED} for name, (_, found) in both.items()}
    return {
        "question": "translate", "records": len(records.rows), "events": len(np.unique(records.events)),
        "systems": {name: one for name, (one, _) in both.items()},
        "differences": of_values(values, records.events), "floor": metrics_of(floor, records.events),
        "records_in_si": int(np.isfinite(records.scale).sum()), "data": [str(records.store.path)],
        "band_hz": list(records.band_hz), "baseline_correction": str(Baseline()),
        "criteria": {"name": rules.name, "about": rules.about},
        "interval": {"share": SHARE, "draws": DRAWS, "drawn": "events"}, "version": __version__,
    }  # fmt: skip


def _told(
    tally: Tally, records: PairRecords, against: Against, rules: limits.Criteria
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """A system's part of report.json, and its values [record]."""
    from seislatent.evaluate.residuals import by_measure, correlations, worst

    found = Measured.joined(tally.parts)
    values = {name: tally.of(name) for name in tally.values}
    rows, flat = by_measure(found, records.events, records.table, 1 / float(records.low_pass.corners_hz))  # type: ignore[arg-type]
    told: dict[str, Any] = metrics_of({**values, **flat}, records.events)
    pairs = correlations(found, records.events, against)
    for name, one in pairs.items():
        told[f"{name}_rms"] = {"mean": one.rms, "std": None, "low": None, "high": None}
    told["verdict"] = limits.judge(told, rules).plain()
    told["by_measure"] = rows
    told["correlations"] = {name: one.plain() for name, one in pairs.items()}
    told["against_model"] = against.of(found, records.events)
    told["worst"] = worst(found, values, records.events, records.table)
    told["told"] = tally.told
    return told, {**values, **flat}


def _tables(folder: Path, tallies: dict[str, Tally], records: PairRecords, im_format: str) -> list[str]:
    """Tables of intensity measures of records whose unit is known; what became of them, in sentences."""
    rows = np.flatnonzero(np.isfinite(records.scale))
    if not len(rows):
        return ["no table of intensity measures: no record of this store tells its unit"]
    kept = [c for c in records.table.columns if str(c).startswith(("source_", "path_", "station_")) and c != "source_id"]
    about = records.table.iloc[rows][kept].reset_index(drop=True)
    sites = [str(s) for s in records.table["station_code"].iloc[rows]] if "station_code" in records.table else ["site"] * len(rows)
    notes = []
    for name, tally in tallies.items():
        found, stem = Measured.joined(tally.parts), name.replace("/", "_").replace(" ", "_")
        made = table(found, rows, [str(e) for e in records.events[rows]], sites, about)
        write_intensity_table(
            folder / f"{stem}.csv", made, meaning=names(found.periods_s), baseline=str(Baseline()),
            source=f"Draws of {name} beside the records of {records.store.path.name} (draw 0).",
        )  # fmt: skip
        notes.append(f"{stem}.csv: {len(rows)} records, {found.ln.shape[1] - 1} draws of {name}")
        if im_format == "openquake":
            try:
                paths = write_openquake(folder / stem, made)
            except SeislatentError as error:
                notes.append(f"no OpenQuake files of {name}: {error}")
                continue
            for kind, path in paths.items():
                path.replace(folder / f"{stem}_{kind}.csv")
            (folder / stem).rmdir()
    return notes
