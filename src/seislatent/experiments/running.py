"""Cells of a grid as files: trained where they are missing, on one process or many, and read again.

    OUT/cells/SET.ENCODER.HEAD.WAY.nN.bB.rR-DIGEST.parquet     answers on the test records; what was learnt, in the file's metadata
    OUT/sets/SET.parquet                                       the test records: event, truth, SNR, hour; in the same order

The digest is that of everything a cell depends on: settings, records, weights of the encoder. A run that was killed goes on, and a
changed grid trains only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from seislatent.bulk.spread import spread
from seislatent.errors import SeislatentError
from seislatent.experiments.cells import Encoder, Result, Task, run
from seislatent.experiments.grid import Cell, Grid
from seislatent.experiments.record_sets import RecordSet, Source, read

FORM = 1
"""Of the files, and of what their numbers mean: a change makes all cells anew."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be trained, and where its files go; small enough to be sent."""

    grid: Grid
    sources: tuple[Source, ...]
    digests: tuple[str, ...]
    """Of the records of each source."""
    encoders: tuple[Encoder, ...]
    out: str

    def encoder(self, name: str) -> Encoder:
        """Of that name."""
        return next(e for e in self.encoders if e.name == name)

    def file(self, cell: Cell) -> Path:
        """Of a cell."""
        told = asdict(cell) | asdict(self.grid.learning) | {"seed": self.grid.seed, "form": FORM}
        encoder = self.encoder(cell.encoder)
        told |= {"system": encoder.system, "settings": encoder.settings}
        told["weights"] = "" if cell.way == "baseline" else encoder.digest
        told["records"] = next(d for s, d in zip(self.sources, self.digests, strict=True) if s.name == cell.set)
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
        return Path(self.out) / "cells" / f"{cell.name}-{digest}.parquet"

    def tasks(self, cells: Sequence[Cell]) -> list[Task]:
        """What is missing, in the order of the cells. Schema 2 comes with schema 1, which is trained again for it."""
        missing: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in cells:
            if not self.file(cell).exists():
                own = cell.way == "baseline"
                key = (cell.set, cell.encoder, cell.head, cell.n, cell.batch, cell.repeat, own)
                missing.setdefault(key, []).append(cell)
        return [
            Task(cells=tuple(found), encoder=self.encoder(found[0].encoder), learning=self.grid.learning, seed=self.grid.seed)
            for found in missing.values()
        ]


def train(plan: Plan, tasks: Sequence[Task], *, workers: int = 1, scheduler: str | None = None) -> Iterator[int]:
    """Trains the tasks and writes their cells; yields how many cells each has made."""
    for folder in ("cells", "sets"):
        (Path(plan.out) / folder).mkdir(parents=True, exist_ok=True)
    yield from spread(do, list(tasks), lambda task: (task,), plan, workers=workers, scheduler=scheduler)


def do(plan: Plan, task: Task) -> int:
    """One task, in whatever process."""
    name = task.cells[0].set
    records = read(next(s for s in plan.sources if s.name == name))
    if records.digest != plan.digests[[s.name for s in plan.sources].index(name)]:
        raise SeislatentError(
            f"{name}: the records of {', '.join(records.source.folders)} have changed: start the experiment again"
        )
    made = 0
    for result in run(task, records):
        write(plan.file(result.cell), result)
        made += 1
    return made


def write(path: Path, result: Result) -> None:
    """A cell's file, which appears whole or not at all."""
    about = json.dumps({"cell": asdict(result.cell), **result.about}, allow_nan=True)
    table = pa.table({"answer": pa.array(result.answers, pa.float32())}).replace_schema_metadata({"seislatent": about})
    _placed(table, path)


def write_test(out: Path, records: RecordSet) -> None:
    """The test records of a set, as its cells' answers are ordered."""
    table = records.table.iloc[records.test].reset_index(drop=True)
    table["truth"] = records.target[records.test].numpy().astype(np.float64)
    _placed(pa.Table.from_pandas(table, preserve_index=False), test_file(out, records.source.name))


def test_file(out: Path, name: str) -> Path:
    """Where the test records of a set stand."""
    return out / "sets" / f"{name.replace(':', '-')}.parquet"


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A cell as it stands in its file."""

    cell: Cell
    answers: np.ndarray
    about: dict[str, Any]


def trained(plan: Plan, cells: Sequence[Cell]) -> list[Trained]:
    """The cells that have been trained.

    Raises:
        SeislatentError: a file cannot be read, or has answers for other records.
    """
    sizes = {name: len(table) for name, table in tests(plan).items()}
    found = []
    for cell in cells:
        path = plan.file(cell)
        if not path.exists():
            continue
        try:
            table = pq.read_table(path)
            about: dict[str, Any] = json.loads((table.schema.metadata or {})[b"seislatent"])
            answers = table["answer"].to_numpy()
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            line = " ".join(str(error).split())[:100]
            raise SeislatentError(f"{path}: no cell of an experiment ({line}): delete it, and start the command again") from None
        if len(answers) != sizes[cell.set]:
            raise SeislatentError(
                f"{path}: {len(answers)} answers for {sizes[cell.set]} records: delete it, and start the command again"
            )
        found.append(Trained(cell=cell, answers=answers, about=about))
    return found


def tests(plan: Plan) -> Mapping[str, pd.DataFrame]:
    """The test records of each set."""
    return {s.name: pq.read_table(test_file(Path(plan.out), s.name)).to_pandas() for s in plan.sources}


def _placed(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, beside)
    os.replace(beside, path)
