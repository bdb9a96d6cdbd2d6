"""How near draws of a generator are to real records: as sets, record by record for the same conditions, and to training records.

    records of a split --conditions--> draws --log spectra, intensity measures, waveforms--> distances beside real-against-real ones

Sets are compared by one draw per record, so that both have the same number and the same conditions; spread and bias by all draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seislatent import __version__
from seislatent.errors import SeislatentError
from seislatent.evaluate.beside import of_values
from seislatent.evaluate.bootstrap import DRAWS, SHARE
from seislatent.evaluate.generated import RealRecords, drawn, records_of
from seislatent.evaluate.measured import Measured, measured
from seislatent.evaluate.report import Report, may_write
from seislatent.evaluate.residuals import by_measure, metrics_of
from seislatent.evaluate.translate import asked, judges
from seislatent.metrics.discrepancy import maximum_mean_discrepancy
from seislatent.metrics.diversity import coverage_density, pairwise_distance
from seislatent.metrics.frechet import frechet_with_floor, log_spectra, logarithmic_bands
from seislatent.metrics.memorisation import memorisation
from seislatent.metrics.spectrum import coherence
from seislatent.systems.base import Embedder, Sampler

BANDS = 16
NEIGHBOURS, PERMUTATIONS, CANDIDATES, MAX_SHIFT_S = 5, 199, 20, 5.0
COMPONENTS = ("Z", "H1", "H2")
COMPARED = ("abs_ln_ratio_SA", "abs_ln_ratio_EAS", "calibration_SA")
"""Measures of which pairs of systems are told apart: those with a value per record."""
PAIRS = (("Z", "H1"), ("Z", "H2"), ("H1", "H2"))


def generate(
    models: Sequence[Any],
    data: str | Path | Sequence[str | Path],
    split: str = "test",
    out: str | Path | None = None,
    *,
    draws: int = 5,
    seed: int = 0,
    most: int = 400,
    by_peak: bool = False,
    embedder: Any = None,
    overwrite: bool = False,
) -> Report:
    """Judge generators on the conditions of real records.

    Args:
        models: loaded models whose system is a Sampler, and baselines with a method `draw` (`evaluate.baselines.broadband`).
        data: records; the commonest kind of three components, one rate and length is taken.
        split: `train`, `dev` or `test`, by event; or `all`. Training records, for memorisation, are those of `train` where another
            one is judged.
        out: folder for the report and its figures; None writes nothing.
        draws: for each record's conditions; two at least.
        seed: of all draws.
        most: records at most, evenly taken: time grows with their square.
        by_peak: divide every record and draw by its peak, as is done where the unit of any is not known.
        embedder: a model whose system is an Embedder, for distances of its features too.
        overwrite: replace a report in `out`.

    Raises:
        SeislatentError: too few records of one kind, a system that does not draw, wrong output of one, or a bad option.
    """
    named = judges(models, Sampler, "draw new records")
    if draws < 2 or most < 4:
        raise SeislatentError(f"{draws} draws for at most {most} records: give two draws and four records at least")
    if embedder is not None and not isinstance(getattr(embedder, "system", embedder), Embedder):
        raise SeislatentError(f"{getattr(embedder, 'name', embedder)} gives no features: give an embedder")
    if out is not None:
        may_write(out, overwrite)
    real = records_of(data, split, most, by_peak)
    if len(np.unique(real.events)) < 4:
        raise SeislatentError(f"records of {len(np.unique(real.events))} events: four are needed for halves without a common one")
    training = _training(data, split, most, real)
    made, told, kept = {}, {}, {}
    for name, model in named.items():
        made[name] = drawn(model, name, real, draws, torch.Generator().manual_seed(seed))
        told[name], kept[name] = _told(made[name], real, training, getattr(embedder, "system", embedder), seed)
        told[name]["told"] = list(model.told(real.circumstances())) if hasattr(model, "told") else []
    result = _result(told, {name: one["values"] for name, one in kept.items()}, real, training) | {
        "draws": draws, "seed": seed, "data": [str(data)] if isinstance(data, str | Path) else [str(d) for d in data],
        "split": split, "version": __version__, "command": asked(),
    }  # fmt: skip
    from seislatent.evaluate.generate_page import page

    report = page(result, made, real, kept)
    if out is not None:
        report.write(out, overwrite)
    return report


def _result(told: dict[str, Any], values: dict[str, Any], real: RealRecords, training: RealRecords | None) -> dict[str, Any]:
    """report.json, but for how it was asked."""
    return {
        "question": "generate", "records": len(real.x), "events": len(np.unique(real.events)), "systems": told,
        "differences": of_values(values, real.events), "real": metrics_of(_coherences(real.x, real.rate_hz), real.events),
        "training_records": 0 if training is None else len(training.x), "physical": real.physical, "quantity": real.quantity,
        "sampling_rate_hz": real.rate_hz, "samples": real.x.shape[-1], "bands_hz": [list(b) for b in bands(real)],
        "skipped": real.left_out, "interval": {"share": SHARE, "draws": DRAWS, "drawn": "events"},
    }  # fmt: skip


def bands(real: RealRecords) -> list[tuple[float, float]]:
    """Of the log spectra: four wavelengths of the lowest frequency fit into the record, the highest is 0.4 of the rate."""
    low = 4 * real.rate_hz / real.x.shape[-1]
    return logarithmic_bands(low, 0.4 * real.rate_hz, max(1, min(BANDS, int(8 * math.log10(0.4 * real.rate_hz / low)))))


def _training(data: Any, split: str, most: int, real: RealRecords) -> RealRecords | None:
    """Training records of the same kind; None where the split itself holds them, or there are none."""
    if split in ("train", "all"):
        return None
    try:
        return records_of(data, "train", most, not real.physical, real)
    except SeislatentError:
        return None


def _told(
    x: Float[Tensor, "record draw 3 time"], real: RealRecords, training: RealRecords | None, embedder: Any, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A system's part of report.json, and what the page draws."""
    generator = torch.Generator().manual_seed(seed)
    first, events = x[:, 0], real.events
    made, true = (log_spectra(v, real.rate_hz, bands(real)) for v in (x, real.x))
    told = _frechets(made[:, 0].movedim(-2, 0), true.movedim(-2, 0), events, generator, COMPONENTS)
    told |= _sets(made, true, events, generator)
    if embedder is not None:
        told |= _embedded(embedder, first, real, events, generator)
    found, rows = _measures(x, real)
    told["by_measure"] = rows[0]
    values = {**rows[1], **_coherences(first, real.rate_hz)}
    values |= {f"{name}_gap": values[name] - value for name, value in _coherences(real.x, real.rate_hz).items()}
    told |= metrics_of(values, events)
    kept: dict[str, Any] = {
        "values": {m: values[m] for m in COMPARED if m in values},
        "measured": found,
        "spectra": made,
        "real_spectra": true,
    }
    if training is not None:
        memory = memorisation(
            first.float(), real.x.float(), training.x.float(), real.rate_hz, generator, max_shift_s=MAX_SHIFT_S,
            candidates=min(CANDIDATES, len(training.x)), permutations=PERMUTATIONS, events=events, held_out_events=events,
        )  # fmt: skip
        told |= metrics_of({"training_distance": memory.generated.cpu().numpy()}, events)
        told |= {"memorisation_nearer": _one(memory.nearer), "memorisation_p": _one(memory.p_value)}
        kept["memory"] = memory
    return told, kept


def _frechets(
    made: Tensor, true: Tensor, events: Any, generator: torch.Generator, names: Sequence[str], what: str = "frechet"
) -> dict[str, Any]:
    """Distances per set beside the floor; deviations are those over random halves."""
    one = frechet_with_floor(made, true, generator, events=events, generated_events=events, shrink=True)
    told = {}
    for i, name in enumerate(names):
        told[f"{what}_{name}"] = _one(one.matched[i].mean(), one.matched[i].std(correction=0))
        told[f"{what}_floor_{name}"] = _one(one.floor[i].mean(), one.floor[i].std(correction=0))
        told[f"{what}_ratio_{name}"] = _one(one.ratio[i])
    return told


def _sets(made: Tensor, true: Tensor, events: Any, generator: torch.Generator) -> dict[str, Any]:
    """Discrepancy, coverage and diversity of log spectra of all components, each band in deviations of the real records."""
    flat = true.flatten(1)
    middle, spread = flat.mean(0), flat.std(0).clamp(min=1e-6)
    real, draws = (flat - middle) / spread, (made.flatten(2) - middle) / spread
    gap = maximum_mean_discrepancy(
        draws[:, 0],
        real,
        generator,
        permutations=PERMUTATIONS,
        events=[str(e) for e in events],
        other_events=[str(e) for e in events],
    )
    neighbours = min(NEIGHBOURS, len(real) - 1)
    cover = coverage_density(draws[:, 0], real, neighbours=neighbours)
    among, between = pairwise_distance(draws).mean, pairwise_distance(draws[:, 0]).mean / pairwise_distance(real).mean
    return {
        "mmd_squared": _one(gap.squared), "mmd_p": _one(gap.p_value), "coverage": _one(cover.coverage),
        "coverage_expected": _one(cover.expected_coverage), "density": _one(cover.density), "precision": _one(cover.precision),
        "diversity_ratio": _one(between),
        **metrics_of({"diversity_of_draws": among.numpy()}, events),
    }  # fmt: skip


def _embedded(embedder: Any, first: Tensor, real: RealRecords, events: Any, generator: torch.Generator) -> dict[str, Any]:
    at = next(iter(embedder.parameters()), real.x) if isinstance(embedder, torch.nn.Module) else real.x
    with torch.inference_mode():
        made, true = (embedder.embed(v.to(at.device, at.dtype)).double().cpu()[None] for v in (first, real.x))
    return _frechets(made, true, events, generator, ("features",))


def _measures(x: Tensor, real: RealRecords) -> tuple[Measured | None, tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Intensity measures of records and draws for the same conditions; nothing where nobody says what is recorded."""
    if real.quantity is None:
        return None, ([], {})
    both = real.acceleration(torch.cat([real.x[:, None], x], 1))
    parts = [
        measured(both[i : i + 8], real.rate_hz, np.ones(len(both[i : i + 8])), highest_hz=0.4 * real.rate_hz)
        for i in range(0, len(both), 8)
    ]
    found = Measured.joined(parts)
    return found, by_measure(found, real.events, real.table)


def _coherences(x: Float[Tensor, "record 3 time"], rate_hz: float) -> dict[str, Any]:
    """Mean coherence of each pair of components over 0.02 to 0.8 of the Nyquist frequency [record]."""
    band = (0.01 * rate_hz, 0.4 * rate_hz)
    made = {}
    for one, two in PAIRS:
        a, b = (x[:, COMPONENTS.index(name)] for name in (one, two))
        found = coherence(a, b, rate_hz, segment_s=x.shape[-1] / rate_hz / 16, bands_hz=[band])
        made[f"coherence_{one}_{two}"] = found.by_band[:, 0].numpy()
    return made


def _one(value: Any, std: Any = None) -> dict[str, Any]:
    """A number of whole sets, which has no interval by event."""
    return {"mean": float(value), "std": None if std is None else float(std), "low": None, "high": None}
