"""How many labelled records does an encoder save that has learnt without labels?

Kong et al. (seed 002), the whole paper:

    encoders x heads x ways x sizes x repeats (grid) on record sets --train what is missing--> cells --> tables, figures, page
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from seislatent import catalog, config
from seislatent.errors import SeislatentError, UsageError, unknown
from seislatent.evaluate.report import Report
from seislatent.experiments import curve_page
from seislatent.experiments.cells import Encoder
from seislatent.experiments.grid import ENCODERS, Amount, Cell, Grid, expand, paper, small
from seislatent.experiments.record_sets import RecordSet, read, source
from seislatent.experiments.running import Plan, train, trained, write_test

log = logging.getLogger(__name__)

GRIDS: dict[str, Callable[[], Grid]] = {"small": small, "paper": paper}
TOLD = "experiment.json"
PACKAGED = {
    "over68": "features/autoencoder_over", "under68": "features/autoencoder_under",
    "contrastive": "features/contrastive", "masked": "features/masked",
}  # fmt: skip
"""Presets whose weights are taken where an encoder is not given."""


def learning_curve(
    out: str | Path,
    *,
    data: Sequence[str] = (),
    synthetic: Sequence[str] = (),
    encoders: Mapping[str, str | Path] | None = None,
    grid: str | Path | Grid = "small",
    workers: int = 1,
    scheduler: str | None = None,
    report_only: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Trains the cells of a grid that are missing in the folder `out`, and reports on all of them.

    The same call goes on where it was interrupted. Several workers need the usual `if __name__ == "__main__":` in a script.

    Args:
        out: folder of the experiment: cells, tables, figures, report.
        data: real record sets: `JOB=STORE`, `JOB:NAME=STORE,STORE`, `JOB=STORE?COLUMN=VALUE`; jobs are noise, explosion, picking.
        synthetic: the same of synthetic records, which the grid's larger sizes are for.
        encoders: by name in the grid (over68, under17, contrastive, ...): a preset with weights, or a .safetensors file. Those of
            68 frames are in the package; of the others that are not given, only baselines are trained.
        grid: small, paper, a YAML file, or a grid.
        workers: processes of this machine, one thread each.
        scheduler: address of a Dask scheduler instead.
        report_only: train nothing, and report on what has been trained.
        progress: told how many cells of how many are done.

    Raises:
        SeislatentError: what is given does not fit together; the line says how to mend it.
    """
    it = chosen(grid)
    given = dict(encoders or {})
    if not (data or synthetic):
        raise UsageError("no records: give --data JOB=STORE, or --synthetic JOB=STORE; jobs: noise, explosion, picking")
    sources = tuple(
        source(text, synthetic=kind, tested=it.tested, seed=it.seed)
        for kind, texts in ((False, data), (True, synthetic)) for text in texts
    )  # fmt: skip
    twice = [s.name for i, s in enumerate(sources) if s.name in [other.name for other in sources[:i]]]
    if twice:
        raise UsageError(f"two sets are called {twice[0]}: name them {twice[0].partition(':')[0]}:NAME=STORE")
    known = found_encoders(it, given)
    sets = {s.name: read(s) for s in sources}
    amounts = {name: Amount(pool=len(r.pool), synthetic=r.source.synthetic) for name, r in sets.items()}
    plan = Plan(
        grid=it, sources=sources, digests=tuple(sets[s.name].digest for s in sources), encoders=known, out=str(Path(out).absolute())
    )
    cells = [c for c in expand(it, amounts, [e.name for e in known]) if c.way == "baseline" or plan.encoder(c.encoder).weights]
    _claim(Path(out))
    for records in sets.values():
        write_test(Path(out), records)
    if not report_only:
        _train(plan, cells, workers, scheduler, progress)
    return report(plan, cells, sets)


def chosen(grid: str | Path | Grid) -> Grid:
    """The grid of that name, of that YAML file, or itself."""
    if isinstance(grid, Grid):
        return grid
    if str(grid).endswith((".yaml", ".yml")):
        return config.load(Grid, grid)
    if str(grid) not in GRIDS:
        raise UsageError(f"{unknown('grid', str(grid), GRIDS)}; or give a YAML file")
    return GRIDS[str(grid)]()


def found_encoders(grid: Grid, given: Mapping[str, str | Path]) -> tuple[Encoder, ...]:
    """Those that the grid names and that are given or known, with the digests of their weights.

    Raises:
        SeislatentError: one is given that the grid does not name, or names none that is known.
    """
    named = list(dict.fromkeys(name for arm in grid.arms for name in arm.encoders))
    for name in given:
        if name not in named:
            raise UsageError(f"--encoder {unknown('encoder of the grid', name, named)}")
    made = []
    for name in named:
        if name in given or name in PACKAGED:
            place = str(given.get(name, PACKAGED.get(name)))
            path = place if place.endswith(".safetensors") else str(catalog.packaged(place))
            model = catalog.load(path)
            settings = json.dumps(config.plain(model.config), sort_keys=True)
            made.append(
                Encoder(
                    name=name,
                    system=model.about["system"],
                    settings=settings,
                    weights=str(Path(path).absolute()),
                    digest=model.digest,
                )
            )
        elif name in ENCODERS:
            settings = json.dumps(
                config.plain(config.load(catalog.SYSTEMS["features/autoencoder"].Config, ENCODERS[name])), sort_keys=True
            )
            made.append(Encoder(name=name, system="features/autoencoder", settings=settings))
            log.warning("%s is not given (--encoder %s=FILE): only its baseline is trained", name, name)
        else:
            raise UsageError(f"the grid names the encoder '{name}': give --encoder {name}=FILE")
    return tuple(made)


def report(plan: Plan, cells: Sequence[Cell], sets: Mapping[str, RecordSet]) -> Report:
    """Tables, figures and page of what has been trained, written into the folder."""
    made, single = curve_page.page(plan, trained(plan, cells), sets)
    made.write(plan.out, overwrite=True)
    curve_page.write_tables(single, made, Path(plan.out))
    return made


def _train(
    plan: Plan, cells: Sequence[Cell], workers: int, scheduler: str | None, progress: Callable[[int, int], None] | None
) -> None:
    tasks = plan.tasks(cells)
    done = len(cells) - sum(len(task.cells) for task in tasks)
    if progress:
        progress(done, len(cells))
    for count in train(plan, tasks, workers=workers, scheduler=scheduler):
        done += count
        if progress:
            progress(done, len(cells))


def _claim(out: Path) -> None:
    """Makes the folder, which must be empty or that of an experiment.

    Raises:
        SeislatentError: it holds other files.
    """
    if out.exists() and not out.is_dir():
        raise SeislatentError(f"{out} is a file: give a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / TOLD).exists():
        raise SeislatentError(f"{out} holds other files: give another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    beside = out / f".{TOLD}"
    beside.write_text(json.dumps({"experiment": "learning-curve"}) + "\n", encoding="utf-8")
    os.replace(beside, out / TOLD)
