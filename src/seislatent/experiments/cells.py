"""One training of a grid: a head on an encoder, from a draw of records to its answers on the test records.

    draw --> train | validate     encoder, fresh or learnt --+ head, fresh --> learn (patience) --> best --> answers on test
    schema 1: the encoder rests, so that its features are computed once and the head learns on these
    schema 2: goes on from schema 1's best, with both and small steps

Kong et al. (seed 002), section 2.5, table 1. The best is that of the highest validation accuracy (classes) or the lowest loss
(picking). Ours: of equal accuracies the one of lower loss is kept, since the 5 validation records of 25 give few different
accuracies; patience waits for a better accuracy. Gradients have no limit; the engine's AdamW without decay is Adam.
"""

from __future__ import annotations

import copy
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from seislatent import catalog
from seislatent.config import Nested
from seislatent.data.in_memory import InMemory
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine
from seislatent.engine.validation import Validation
from seislatent.errors import SeislatentError
from seislatent.experiments.grid import HEADS, Cell, Learning
from seislatent.experiments.record_sets import RecordSet
from seislatent.systems.base import System

CACHED = 1 << 31
"""Bytes of features that are held at most; beyond, a frozen encoder runs anew at each step."""
AT_ONCE = 256
"""Records that go through the networks at once where nothing is learnt."""

Rows = tuple[NDArray[np.int64], ...]
"""To train with and to validate with."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Under a name of the grid: a system of the catalog, and what it has learnt."""

    name: str
    system: str
    settings: str
    """Its config as JSON."""
    weights: str = ""
    """File; empty: only the baseline can be trained."""
    digest: str = ""
    """Of the weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a cell gives."""

    cell: Cell
    answers: NDArray[np.float32]
    """Of the set's test records: probability of the second label, or P in samples."""
    about: dict[str, Any]
    """epochs, steps, seconds, what the best epoch was and its validation."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Cells of one encoder, head and draw: schema 2 goes on from schema 1."""

    cells: tuple[Cell, ...]
    encoder: Encoder
    learning: Learning
    seed: int


def run(task: Task, records: RecordSet) -> Iterator[Result]:
    """Trains the task's cells in the order of the ways. One thread, so that nothing depends on how many cores there are."""
    threads, first = torch.get_num_threads(), task.cells[0]
    ways = {cell.way: cell for cell in task.cells}
    seed = zlib.crc32(f"{task.seed} {first.set} {first.n} {first.batch} {first.repeat}".encode())
    drawn = records.drawn(first.n, first.repeat, task.seed)
    rows = records.divided(drawn, task.learning.held, first.repeat, task.seed)
    torch.set_num_threads(1)
    try:
        if "baseline" in ways:
            system = headed(task.encoder, first.head, records, task.learning, seed, fresh=True)
            yield whole(ways["baseline"], system, records, rows, task.learning, seed)
        if len(ways) > ("baseline" in ways):
            system = headed(task.encoder, first.head, records, task.learning, seed, fresh=False)
            done = resting(ways.get("schema 1", first), system, records, rows, task.learning, seed)
            if "schema 1" in ways:
                yield done
            if "schema 2" in ways:
                yield whole(ways["schema 2"], system, records, rows, task.learning, seed, before=done)
    finally:
        torch.set_num_threads(threads)


def headed(encoder: Encoder, head: str, records: RecordSet, learning: Learning, seed: int, *, fresh: bool) -> System:
    """A head with fresh weights on an encoder, fresh or learnt.

    Raises:
        SeislatentError: the encoder takes other records than the set has.
    """
    settings = json.loads(encoder.settings)
    torch.manual_seed(seed)
    below = catalog.build(encoder.system, settings) if fresh else copy.deepcopy(_learnt(encoder.weights))
    labels: dict[str, Any] = {"labels": records.labels} if records.labels else {}
    cls: Any = catalog.SYSTEMS["features/classifier" if labels else "features/arrival"]
    nested = Nested(system=encoder.system, config=settings)
    torch.manual_seed(seed + 1)
    system = cls(cls.Config(encoder=nested, kernels=HEADS[head], dense=learning.dense, **labels), encoder=below)
    its, given = (system.sampling_rate_hz, system.samples), (records.sampling_rate_hz, records.x.shape[2])
    if its != given:
        told = " and ".join(f"{n} samples at {rate:g} Hz" for rate, n in (its, given))
        raise SeislatentError(f"{encoder.name} takes {told.replace(' and ', f', and {records.source.name} has ')}")
    return system  # type: ignore[no-any-return]


def whole(
    cell: Cell, system: System, records: RecordSet, rows: Rows, learning: Learning, seed: int, before: Result | None = None
) -> Result:
    """All layers learn: from scratch, or (`before`) fine-tuned."""
    began = time.process_time()
    train, held = (
        InMemory(records.x[torch.from_numpy(r)], records.target[torch.from_numpy(r)], batch=cell.batch, seed=seed) for r in rows
    )
    rate = learning.rate if before is None else learning.fine_rate
    told = learn(system, train, held, {"encoder": rate, "head": rate}, learning, seed, by_accuracy=bool(records.labels))
    told["seconds"] = time.process_time() - began
    if before is not None:
        told["seconds_before"] = before.about["seconds"]
    return Result(cell=cell, answers=answers(system, records), about=told)


def resting(cell: Cell, system: System, records: RecordSet, rows: Rows, learning: Learning, seed: int) -> Result:
    """The encoder rests and the head learns, on features that are computed once where there is room for them."""
    began = time.process_time()
    footing: Any = system.footing
    size = 4 * footing.maps * footing.frames * sum(map(len, rows))
    small = size <= CACHED
    x = [records.x[torch.from_numpy(r)] for r in rows]
    if small:
        with torch.no_grad():
            footing.eval()
            x = [torch.cat([footing(part) for part in of.split(AT_ONCE)]) for of in x]
        system.footing = Ready()
    train, held = (
        InMemory(f, records.target[torch.from_numpy(r)], batch=cell.batch, seed=seed) for f, r in zip(x, rows, strict=True)
    )
    told = learn(system, train, held, {"head": learning.rate}, learning, seed, by_accuracy=bool(records.labels))
    system.footing = footing
    told["seconds"] = time.process_time() - began
    return Result(cell=cell, answers=answers(system, records), about=told)


class Ready(nn.Module):
    """In the place of an encoder under a head, where records are features already."""

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """The features."""
        return x

    @property
    def encoder(self) -> Ready:
        """Itself."""
        return self

    def trunk(self) -> list[nn.Module]:
        """Nothing that could learn."""
        return []

    def rest(self) -> list[nn.Module]:
        """Nothing."""
        return []


def learn(
    system: System, train: InMemory, held: InMemory, rates: dict[str, float], learning: Learning, seed: int, *, by_accuracy: bool
) -> dict[str, Any]:
    """Epochs until `patience` of them in a row are no better; the system then has its best weights.

    Returns:
        epochs, steps, the best epoch, and `validation`: its metrics.
    """
    recipe = Recipe(rates=rates, betas=(0.9, 0.999), clip=0.0, average=0.0, batch=train.size, seed=seed, accelerator="cpu")
    engine, validate = Engine(system, recipe, _fabric()), Validation(held)
    best: tuple[float, ...] = ()
    since = 0
    told: dict[str, Any] = {}
    kept: dict[str, Tensor] = {}
    for epoch in range(1, learning.epochs + 1):
        for _ in range(train.steps):
            engine.step(train.batch(engine.steps, 0, 1))
        with torch.no_grad():
            metrics = validate(engine.average)
        score = (metrics["accuracy"], -metrics["loss"]) if by_accuracy else (-metrics["loss"],)
        since = 0 if not best or score[0] > best[0] else since + 1
        if not best or score > best:
            best, told = score, {"best_epoch": epoch, "validation": metrics}
            kept = {name: value.clone() for name, value in engine.average.state_dict().items()}
        if since >= learning.patience:
            break
    system.load_state_dict(kept)
    system.requires_grad_(False).eval()
    return {"epochs": epoch, "steps": engine.steps, "stopped_early": epoch < learning.epochs, **told}


@torch.no_grad()
def answers(system: System, records: RecordSet) -> NDArray[np.float32]:
    """Of the set's test records: probability of the second label, or P in samples."""
    verb: Any = system.classify if records.labels else system.arrivals
    column = 1 if records.labels else 0
    parts = records.x[torch.from_numpy(records.test)].split(AT_ONCE)
    return torch.cat([verb(part)[:, column] for part in parts]).numpy().astype(np.float32)


@lru_cache(maxsize=16)
def _learnt(weights: str) -> System:
    return catalog.load(weights).system


@cache
def _fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)
