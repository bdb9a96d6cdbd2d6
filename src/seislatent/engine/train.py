"""The loop: steps, validations, saves, and leaving so that the same command goes on.

A run is a folder:

    last.safetensors    all that the next step depends on
    system.safetensors  the averaged weights at the last save
    best.safetensors    the averaged weights at the best validation, where the recipe monitors one
    log.jsonl           one line per `log_every` steps, validation or event; also in tensorboard/
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from seislatent.engine import checkpoint
from seislatent.engine.logs import Log
from seislatent.engine.order import Batches, Steps, ordered
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine
from seislatent.errors import SeislatentError, unknown
from seislatent.nn.processes import several
from seislatent.systems.base import System

Validate = Callable[[System], Mapping[str, float]]


def train(
    system: System,
    recipe: Recipe,
    batches: Batches,
    folder: str | Path,
    *,
    validate: Validate | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Trains a system, or goes on training it where `folder` holds a run.

    Args:
        system: built, with its first weights.
        recipe: how to learn.
        batches: `batches.batch(step, rank, world)` is a pure function: resuming is exact because of it.
        folder: of the run.
        validate: named metrics of the averaged system; runs on every process, seeded, in eval mode, without gradients.
        about: goes into the metadata of the model checkpoints: `{system, config, version, data, representation}`.

    Returns:
        The best checkpoint where the recipe monitors a metric and one was measured, else the last averaged weights.

    Raises:
        SeislatentError: recipe, system and folder do not fit together, or a gradient is not finite.
    """
    if recipe.monitor and validate is None:
        raise SeislatentError(f"the recipe monitors '{recipe.monitor}', but there is nothing to validate on")
    mine = not dist.is_initialized()
    fabric = launched(recipe)
    try:
        run = Run(Engine(system, recipe, fabric), Path(folder), validate, dict(about or {}))
        try:
            with leaving() as signals:
                run.go(batches, signals)
        finally:
            run.log.close()
        fabric.barrier()
        return run.result()
    finally:
        if mine and dist.is_initialized():
            dist.destroy_process_group()


def launched(recipe: Recipe) -> Fabric:
    """Starts the processes, or joins those that torchrun started."""
    devices, nodes = recipe.devices, 1
    if dist.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    strategy = "ddp" if devices * nodes > 1 else "auto"
    fabric = Fabric(
        accelerator=recipe.accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        precision=recipe.precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


@contextmanager
def leaving() -> Iterator[list[int]]:
    """A list that a first SIGTERM or SIGINT enters; a second one acts at once, as it did before."""
    received: list[int] = []
    former: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, former[number])

    if threading.current_thread() is threading.main_thread():
        for number in (int(signal.SIGTERM), int(signal.SIGINT)):
            former[number] = signal.getsignal(number)
            signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class Run:
    """A system in training, and its folder."""

    def __init__(self, engine: Engine, folder: Path, validate: Validate | None, about: dict[str, Any]):
        self.engine, self.folder, self.validate, self.about = engine, folder, validate, about
        self.recipe, self.fabric = engine.recipe, engine.fabric
        self.best: float | None = None
        self.waits = 0
        folder.mkdir(parents=True, exist_ok=True)
        resumes = (folder / "last.safetensors").exists()
        if resumes:
            saved = engine.resume(folder / "last.safetensors")
            self.best, self.waits = saved["best"], saved["waits"]
        elif any((folder / name).exists() for name in ("best.safetensors", "system.safetensors")):
            raise SeislatentError(f"{folder} holds a model but no run to go on with (last.safetensors); give a new folder")
        self.fabric.barrier()  # nobody looks for a file that another has begun to write
        self.log = Log(folder, engine.steps, self.recipe.steps, self.fabric.is_global_zero)
        if resumes:
            self.log.event(engine.steps, "goes on from last.safetensors")

    def go(self, batches: Batches, signals: list[int]) -> None:
        """Steps until the recipe's end, its patience's end, the stage's end or a signal."""
        engine, recipe = self.engine, self.recipe
        if self.over():
            self.log.event(engine.steps, "nothing left to do")
            return
        begun = saved = time.monotonic()
        steps = Steps(batches, self.fabric.global_rank, self.fabric.world_size, recipe.accumulate)
        for parts in ordered(steps, engine.steps, recipe.steps, recipe.workers):
            self.log.add(engine.steps + 1, engine.step(*parts))
            if engine.steps % recipe.log_every == 0:
                self.log.line(engine.steps, self.diagnostics())
            if recipe.validate_every and (engine.steps % recipe.validate_every == 0 or engine.steps == recipe.steps):
                self.judge()
            now = time.monotonic()
            late = bool(recipe.stage_minutes) and now - begun >= 60 * recipe.stage_minutes
            called, late, due = self.agreed(bool(signals), late, now - saved >= 60 * recipe.save_every_minutes)
            if self.over() or called or late:
                break
            if due:
                self.save()
                saved = time.monotonic()
        self.save()
        self.log.event(engine.steps, self.farewell(called))

    def over(self) -> bool:
        """Whether the recipe asks for no further step."""
        return self.engine.steps >= self.recipe.steps or 0 < self.recipe.patience <= self.waits

    def farewell(self, called: bool) -> str:
        """Why the run stops here."""
        if 0 < self.recipe.patience <= self.waits:
            return f"stopped early: {self.recipe.monitor} did not improve in {self.waits} validations (best {self.best:.6g})"
        if self.engine.steps >= self.recipe.steps:
            return "finished"
        return ("stopped by a signal" if called else "end of this stage") + "; saved, the same command goes on from here"

    def agreed(self, *flags: bool) -> list[bool]:
        """Each flag, raised on all processes if on any: clocks and signals differ, decisions must not."""
        if not several():
            return list(flags)
        raised = torch.tensor([float(f) for f in flags], device=self.fabric.device)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return [bool(f) for f in raised.tolist()]

    def diagnostics(self) -> dict[str, float]:
        """Learning rates, and what the system tells about itself in `diagnostics()` (use of its codebooks, say)."""
        told: dict[str, float] = getattr(self.engine.system, "diagnostics", dict)()
        return {f"rate/{name}": self.recipe.rate(name, self.engine.steps - 1) for name in self.recipe.rates} | told

    @torch.no_grad()
    def judge(self) -> None:
        """Validates the averaged system and keeps it if it is the best. Training does not notice: each step seeds anew."""
        if self.validate is None:
            return
        torch.manual_seed(self.recipe.seed)
        metrics = dict(self.validate(self.engine.average.eval()))
        metrics = self.fabric.broadcast(metrics)  # decisions agree even if the last bit does not
        self.log.write(self.engine.steps, metrics, "validation")
        if not self.recipe.monitor:
            return
        if self.recipe.monitor not in metrics:
            raise SeislatentError(unknown("metric to monitor", self.recipe.monitor, metrics))
        value, sign = float(metrics[self.recipe.monitor]), 1 if self.recipe.mode == "max" else -1
        if value == value and (self.best is None or sign * value > sign * self.best):
            self.best, self.waits = value, 0
            self.keep("best", metrics)
        else:
            self.waits += 1

    def save(self) -> None:
        """The resume state, and the averaged weights as a model checkpoint."""
        self.engine.pause(self.folder / "last.safetensors", best=self.best, waits=self.waits)
        self.keep("system", {})

    def keep(self, name: str, metrics: Mapping[str, float]) -> None:
        """Writes the averaged weights."""
        if self.fabric.is_global_zero:
            about = self.about | {"steps": self.engine.steps, "metrics": dict(metrics)}
            checkpoint.write(self.folder / f"{name}.safetensors", self.engine.average.state_dict(), about)

    def result(self) -> Path:
        """The checkpoint to use."""
        return self.folder / ("best.safetensors" if self.best is not None else "system.safetensors")
