"""A preset is trained: its system on its dataset by its recipe, into the folder of a run.

preset, keys of the command line --build--> system, batches --engine--> weights --calibrate on dev--> best.safetensors
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from seislatent import __version__, config
from seislatent.catalog import Preset, build, digest, fill, packaged, preset, source
from seislatent.engine import checkpoint
from seislatent.engine.recipe import Recipe
from seislatent.engine.validation import Records, Validation, calibrated
from seislatent.errors import SeislatentError, UsageError
from seislatent.systems.base import System

log = logging.getLogger(__name__)


def train(
    name: str | Path,
    data: str | Sequence[str],
    out: str | Path,
    *,
    system: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    init_from: str | Path | None = None,
    resume: bool = True,
    overwrite: bool = False,
) -> Path:
    """Train a preset on `data` (a folder or several) into the folder `out`, and return the weights to use.

    `system`, `recipe` and `dataset` change keys of the preset; `init_from` is a model whose weights are the start (parts of the
    system of which it holds nothing, such as discriminators, start afresh). A folder that
    holds the same run is resumed; one that holds another is refused, unless `overwrite`.
    """
    from seislatent.engine.train import train as learn

    it = preset(name)
    how = config.load(Recipe, it.recipe, recipe, option="--recipe.")
    torch.manual_seed(how.seed)
    learner = build(it.system, it.config, system)
    cls, settings = source(it, dataset)
    _agree(learner, settings)
    if init_from is not None:
        _start(learner, str(init_from))
    whole = Preset(
        system=it.system,
        about=it.about,
        config=config.plain(learner.config),
        recipe=config.plain(how),
        data={"dataset": it.data["dataset"], **config.plain(settings)},
    )
    run = Path(out)
    _refuse(run, whole, resume=resume, overwrite=overwrite)
    folders = [Path(d) for d in ([data] if isinstance(data, str) else data)]
    batches = cls(settings, folders, batch=how.batch, seed=how.seed)
    validate, held = getattr(batches, "validate", None), None
    if validate is None and how.validate_every and hasattr(batches, "of"):
        held = batches.of("dev")
        validate = Validation(held)
    if how.validate_every and getattr(batches, "held", batches) is None:
        raise SeislatentError(
            f"{', '.join(map(str, folders))}: no record falls to the `dev` split, which tells the best weights:"
            " give records of more events, or --recipe.validate_every 0 --recipe.monitor ''"
        )
    _claim(run, whole, overwrite=overwrite)
    about = {"system": it.system, "config": whole.config, "name": str(name), "version": __version__, "data": whole.data}
    weights = learn(learner, how, batches, run, validate=validate, about={**about, "representation": None})
    if held is not None and os.environ.get("LOCAL_RANK", "0") == "0":
        _calibrate(learner, weights, held, how)
    return weights


def _agree(learner: System, settings: Any) -> None:
    """Raises UsageError where the system wants records of another rate or length than the dataset gives."""
    for key, its in (("sampling_rate_hz", "sampling_rate_hz"), ("frame", "frame"), ("samples", "length")):
        ours, theirs = getattr(learner, key, None), getattr(settings, its, None) or None
        if None not in (ours, theirs) and ours != theirs:
            raise UsageError(f"the system works with {key} {ours:g}, the dataset gives {theirs:g}: add --dataset.{its} {ours:g}")


def _start(system: System, model: str) -> None:
    """Weights of another model as the start; parts of the system of which it holds nothing keep their own."""
    path = Path(model) if model.endswith(".safetensors") else packaged(model)
    tensors, told = checkpoint.read(path)
    fresh = [part for part, _ in system.named_children() if not any(key.startswith(f"{part}.") for key in tensors)]
    if fresh:
        log.warning("%s holds nothing of %s: these start afresh", model, ", ".join(fresh))
    fill(system, tensors, (*told.get("without", ()), *fresh), model)


def _calibrate(system: System, weights: Path, held: Records, how: Recipe) -> None:
    """Writes the weights again with what the system measures on `held`."""
    tensors, about = checkpoint.read(weights)
    system.load_state_dict(tensors)
    told = calibrated(system, held, how)
    if told:
        state = system.state_dict()
        made = digest(state, config.plain(system.config))
        checkpoint.write(weights, state, {**about, "calibration": told, **({"digest": made} if "digest" in about else {})})


def _refuse(run: Path, whole: Preset, *, resume: bool, overwrite: bool) -> None:
    """Raises SeislatentError where the folder of a run holds anything but the same run."""
    if not (run.is_dir() and any(run.iterdir())):
        return
    told = run / "preset.yaml"
    if not told.exists():
        raise SeislatentError(f"{run}: holds other files: give another folder with --out")
    there = preset(told)
    other = [part for part in ("system", "data") if getattr(there, part) != getattr(whole, part)]
    if not overwrite and (other or not resume):
        how = f"a run with another {' and '.join(other)}" if other else "a run"
        raise SeislatentError(f"{run}: holds {how}: give another folder with --out, or --overwrite")


def _claim(run: Path, whole: Preset, *, overwrite: bool) -> None:
    """Makes the folder of a run, with its settings in preset.yaml, which `train` takes as well."""
    if os.environ.get("LOCAL_RANK", "0") != "0":  # the first process of a machine does this for all
        return
    if overwrite:
        for path in [run / "log.jsonl", *run.glob("*.safetensors"), *run.glob("tensorboard/events.*")]:
            path.unlink(missing_ok=True)
    run.mkdir(parents=True, exist_ok=True)
    beside = run / "preset.part"
    beside.write_text(yaml.safe_dump(config.plain(whole), sort_keys=False), encoding="utf-8")
    os.replace(beside, run / "preset.yaml")
