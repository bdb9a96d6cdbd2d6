"""A preset is trained: its system on its dataset by its recipe, into the folder of a run.

preset, keys of the command line --build--> system, batches --engine--> weights --calibrate on dev--> best.safetensors
a column of labels --classes--> the same, and --judge on test--> report/
folders of waveform files, one per class --data/labelled--> RUN/store --> the same
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from seislatent import __version__, config, stores
from seislatent.catalog import Preset, build, digest, fill, packaged, preset, source
from seislatent.data.cuts import open_stores
from seislatent.data.store import is_store
from seislatent.engine import checkpoint
from seislatent.engine.recipe import Recipe
from seislatent.engine.validation import Records, Validation, calibrated
from seislatent.errors import SeislatentError, UsageError, unknown
from seislatent.evaluate.detect_classes import discrimination
from seislatent.systems.base import Classifier, System

log = logging.getLogger(__name__)

MOST = 20
"""Classes that a classifier may have."""
LEAST = {"train": 5, "dev": 2}
"""Records of a class without which a split teaches, or calibrates, nothing of it."""
OWN = {"whole": True, "window_s": 120.0}
"""How `data/labelled` takes waveform files from which windows are cut in training ..."""
AROUND = {"start": "at arrival", "arrival": "trace_onset_sample", "arrival_s": [1.0, 20.0], "without_arrival": "random"}
"""... and where these windows begin."""
ABOUT = ("source_id", "start_ns", "trace_name", "station_network_code", "station_code", "station_longitude_deg")
"""Columns of a store that the report about a classifier reads."""


def train(
    name: str | Path,
    data: str | Sequence[str],
    out: str | Path,
    *,
    system: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    init_from: str | Path | None = None,
    label: str | None = None,
    resume: bool = True,
    overwrite: bool = False,
) -> Path:
    """Train a preset on `data` (a folder or several) into the folder `out`, and return the weights to use.

    `system`, `recipe` and `dataset` change keys of the preset; `init_from` is a model whose weights are the start (parts of the
    system of which it holds nothing, such as discriminators, start afresh). A folder that
    holds the same run is resumed; one that holds another is refused, unless `overwrite`.

    `label` is the column of the stores whose texts are the classes of a classifier. A classifier also takes folders of waveform
    files, with a labels.csv or with a subfolder for each class: a store is then made first, in `out`.
    """
    from seislatent.engine.train import train as learn

    it, run = preset(name), Path(out)
    folders = [Path(d) for d in ([data] if isinstance(data, str) else data)]
    if label is not None or (it.data.get("label") and it.data.get("classes") and not all(map(is_store, folders))):
        _alone(run)
        folders, system, dataset = _labelled(it, folders, run, label, dict(system or {}), dict(dataset or {}), overwrite=overwrite)
    how = config.load(Recipe, it.recipe, recipe, option="--recipe.")
    torch.manual_seed(how.seed)
    learner = build(it.system, it.config, system)
    cls, settings = source(it, dataset)
    _agree(learner, settings)
    if init_from is not None:
        _start(learner, str(init_from))
    whole = _whole(it, learner, how, settings)
    _refuse(run, whole, resume=resume, overwrite=overwrite)
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
        if isinstance(learner, Classifier) and getattr(settings, "classes", None):
            _judge(learner, batches, folders, run, str(name), str(settings.label))
    return weights


def _whole(it: Preset, learner: System, how: Recipe, settings: Any) -> Preset:
    """The preset with every key that the run has: what preset.yaml holds."""
    return Preset(
        system=it.system,
        about=it.about,
        config=config.plain(learner.config),
        recipe=config.plain(how),
        data={"dataset": it.data["dataset"], **config.plain(settings)},
    )


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


def _labelled(
    it: Preset,
    folders: list[Path],
    run: Path,
    label: str | None,
    system: dict[str, Any],
    dataset: dict[str, Any],
    *,
    overwrite: bool,
) -> tuple[list[Path], dict[str, Any], dict[str, Any]]:
    """The stores (one made from waveform files, where the folders are none), and the keys that name the classes found in them."""
    if not (it.data.get("label") and it.data.get("classes")):
        raise UsageError(f"{it.system}: its preset learns no classes: --label is for classifiers, such as features/classifier")
    if not any(map(is_store, folders)):
        rate = float(dataset.get("sampling_rate_hz") or it.data.get("sampling_rate_hz") or 20.0)
        keys = {**OWN, "sampling_rate_hz": rate}
        split = {"shares": [0.7, 0.15, 0.15], "stratify": ["label"]}
        made = run / "store"
        stores.prepare("data/labelled", folders, made, recipe_keys=keys, split_keys=split, workers=1, overwrite=overwrite)
        folders, dataset = [made], {**AROUND, **dataset}
    column = label or str(it.data["label"])
    dataset = {"label": column, "balance.classes": column, **dataset}
    if "classes" not in dataset:
        dataset["classes"] = _classes(folders, column, lacking=dataset.get("other_classes") == "leave out")
        system = {"labels": dataset["classes"], **system}
    return folders, system, dataset


def _classes(folders: list[Path], column: str, *, lacking: bool) -> list[str]:
    """The texts in a column, in alphabetical order.

    Raises:
        SeislatentError: there is no such column, or its classes are none to learn; the line says why.
    """
    place = ", ".join(map(str, folders))
    parts = []
    for store in open_stores(folders):
        if column not in store.names:
            raise SeislatentError(f"{store.path}: {unknown('column', column, store.names)}")
        parts.append(store.columns(column, "split"))
    table = pd.concat(parts, ignore_index=True)
    if pd.api.types.is_numeric_dtype(table[column]):
        raise SeislatentError(f"{place}: the column {column} holds numbers: classes are texts, name another column")
    there = table[column].notna() & (table[column].astype(str).str.strip() != "")
    if not there.all() and not lacking:
        told = f"{int((~there).sum())} of {len(table)} records have no {column}"
        raise SeislatentError(f"{place}: {told}: name them, or leave them out with --dataset.other_classes 'leave out'")
    counts = pd.crosstab(table[column][there], table["split"][there])
    found = sorted(map(str, counts.index))
    if len(found) < 2:
        told = f"all records have the {column} '{found[0]}'" if found else f"no record has a {column}"
        raise SeislatentError(f"{place}: {told}: give records of two classes or more")
    if len(found) > MOST:
        raise SeislatentError(
            f"{place}: {column} has {len(found)} classes ({', '.join(found[:4])}, ...): a classifier takes 2 to {MOST}"
        )
    for split, least in LEAST.items():
        few = counts[split] if split in counts else pd.Series(0, index=counts.index)
        if few.min() < least:
            told = f"{int(few.min())} records with the {column} '{few.idxmin()}' in the split {split}, {least} are needed"
            raise SeislatentError(f"{place}: {told}: give more records of it, of other events, or leave this class out")
    return found


def _judge(learner: Any, batches: Any, folders: list[Path], run: Path, name: str, label: str) -> None:
    """Writes what a classifier is worth on the test split to RUN/report, where there is such a split."""
    try:
        test = batches.of("test")
    except SeislatentError as error:
        log.warning("no report on a test split: %s", error)
        return
    told = [store.columns(*(c for c in ABOUT if c in store.names)) for store in open_stores(folders)]
    rows = [told[part].iloc[[row]] for part, row in zip(test.cuts.part, test.cuts.row, strict=True)]
    table = pd.concat(rows, ignore_index=True)
    alone = pd.Series([f"record {i}" for i in range(len(table))])
    table["event"] = table["source_id"].astype(object).where(table["source_id"].notna(), alone) if "source_id" in table else alone
    command = f"seislatent train {name} --data {','.join(map(str, folders))} --out {run}"
    try:
        report = discrimination(
            learner.eval(), test.once(), table, name=name, label=label, data=folders, split="test", command=command
        )
    except SeislatentError as error:  # the weights are there: a test split of one class costs the report alone
        log.warning("no report on the test split: %s", error)
        return
    report.write(run / "report", overwrite=True)


def _alone(run: Path) -> None:
    """Raises SeislatentError where the folder of a run holds anything but a run, or a store that was made for it."""
    if run.is_dir() and any(p.name != "store" for p in run.iterdir()) and not (run / "preset.yaml").exists():
        raise SeislatentError(f"{run}: holds other files: give another folder with --out")


def _refuse(run: Path, whole: Preset, *, resume: bool, overwrite: bool) -> None:
    """Raises SeislatentError where the folder of a run holds anything but the same run."""
    _alone(run)
    told = run / "preset.yaml"
    if not told.exists():
        return
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
