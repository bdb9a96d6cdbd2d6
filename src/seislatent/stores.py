"""Data recipes by name: what `seislatent prepare data/NAME` makes of which source.

A recipe's preset is presets/data/NAME.yaml: `recipe`, a name in RECIPES; `config`, what differs from its defaults; `split`, how
records fall to train, dev and test; `about`, a line for lists.
"""

from __future__ import annotations

import logging
import os
import pydoc
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seislatent import __version__, config
from seislatent.catalog import known
from seislatent.data.measured import Measured
from seislatent.data.preparing import PLAN, Progress, prepare_records
from seislatent.data.recipe import DataRecipe
from seislatent.data.splits import SplitConfig
from seislatent.data.store import Store, is_store
from seislatent.errors import SeislatentError, UsageError, unknown
from seislatent.io.miniseed_folder import write_miniseed
from seislatent.io.seisbench import write_seisbench
from seislatent.shipped import PRESETS

log = logging.getLogger(__name__)

RECIPES: dict[str, str] = {
    "marmara": "seislatent.data.recipes.marmara.Marmara",
    "pairs": "seislatent.data.recipes.pairs.Pairs",
    "kong": "seislatent.data.recipes.kong.Kong",
    "groups": "seislatent.data.recipes.groups.Groups",
    "single": "seislatent.data.recipes.single.Single",
    "labelled": "seislatent.data.recipes.labelled.Labelled",
    "picking": "seislatent.data.recipes.picking.Picking",
    "noise": "seislatent.data.recipes.noise.Noise",
    "synthetic": "seislatent.data.recipes.synthetic.Synthetic",
    "coherent": "seislatent.data.recipes.coherent.CoherentRecords",
}
"""The full name of each class, imported when it is asked for."""


@dataclass(frozen=True, kw_only=True)
class DataPreset:
    """A recipe and its settings: one YAML file."""

    recipe: str
    """A name in RECIPES."""
    about: str = ""
    """One line for lists."""
    config: dict[str, Any] = field(default_factory=dict)
    """Keys of the recipe that differ from its defaults."""
    split: dict[str, Any] = field(default_factory=dict)
    """Keys of the split that differ from its defaults."""


def presets() -> dict[str, Path]:
    """Every data preset's name and file."""
    return {f"data/{p.stem}": p for p in sorted(PRESETS.glob("data/*.yaml"))}


def preset(name: str | Path) -> DataPreset:
    """The data preset of that name, or of that YAML file."""
    found = presets()
    if str(name).endswith((".yaml", ".yml")):
        return config.load(DataPreset, name)
    if str(name) not in found:
        raise SeislatentError(unknown("data recipe", str(name), found))
    return config.load(DataPreset, found[str(name)])


def recipe(it: DataPreset, overrides: Mapping[str, Any] | None = None) -> DataRecipe:
    """The recipe of a preset, with keys changed as the command line does."""
    full = known(RECIPES, "data recipe", it.recipe)
    cls: Any = pydoc.locate(full)
    if cls is None:
        raise SeislatentError(f"data recipe '{it.recipe}': there is no {full} in this version of seislatent")
    made: DataRecipe = cls(config.load(cls.Config, it.config, overrides, option="--recipe."))
    return made


def prepare(
    name: str | Path,
    data: str | Path | Sequence[str | Path] | None,
    out: str | Path,
    *,
    recipe_keys: Mapping[str, Any] | None = None,
    split_keys: Mapping[str, Any] | None = None,
    seed: int = 0,
    workers: int | None = None,
    scheduler: str | None = None,
    append: bool = False,
    overwrite: bool = False,
    quality: bool = False,
    miniseed: str | Path | None = None,
    seisbench: str | Path | None = None,
    progress: Progress | None = None,
) -> Store:
    """Make a store of training records by a data preset.

    The same call goes on with a store that was left half made, and returns one that is whole. In a script, several workers need
    the usual `if __name__ == "__main__":` around the call.

    Args:
        name: such as data/marmara, or a YAML file.
        data: file or folder, or several; None for a recipe that makes its records from nothing.
        out: folder of the store.
        recipe_keys: keys of the recipe that differ from the preset's.
        split_keys: keys of the split that differ from the preset's.
        seed: of everything random.
        workers: processes; None takes one per core where the source is large.
        scheduler: address of a Dask scheduler instead.
        append: add to a finished store.
        overwrite: take away the store that stands in `out` first.
        quality: measure every component of the source's records too (`seislatent.prepare.quality`).
        miniseed: folder for the store's records as miniSEED besides, one file each, with `metadata.csv`.
        seisbench: folder for the store's records in SeisBench's layout besides.
        progress: told how many records of how many are done.

    Raises:
        SeislatentError: an unknown name or key, no record in the source, a folder that holds anything else.
    """
    it = preset(name)
    made, splits = recipe(it, recipe_keys), config.load(SplitConfig, it.split, split_keys, option="--split.")
    target = Path(out)
    source = _sources(name, made, data, target)
    _free(miniseed, seisbench)
    if overwrite:
        _take_away(target)
    made = Measured(made) if quality else made
    begun, about = time.monotonic(), {"recipe": str(name), "quality": quality, "made_by": f"seislatent {__version__}"}
    store = prepare_records(
        made, source, target, splits=splits, seed=seed, about=about, workers=workers, scheduler=scheduler, append=append,
        progress=progress,
    )  # fmt: skip
    log.info("%d records in %.1f s", len(store), time.monotonic() - begun)
    if not (target / "overview.png").exists() or append:
        _draw(store, target / "overview.png")
    _also(store, miniseed, seisbench)
    return store


def _also(store: Store, miniseed: str | Path | None, seisbench: str | Path | None) -> None:
    """The store's records in the forms of others."""
    if miniseed is not None:
        write_miniseed(store, miniseed)
    if seisbench is not None:
        write_seisbench(seisbench, store)


def _sources(name: str | Path, made: DataRecipe, data: str | Path | Sequence[str | Path] | None, out: Path) -> list[Path]:
    """The sources, all of which exist; none holds the store, which would be read as part of it the next time, or lies in it."""
    if made.from_nothing != (data is None):
        told = "makes its records from nothing: leave --data away" if made.from_nothing else "needs a source: give --data"
        raise UsageError(f"{name} {told}")
    found = [Path(d) for d in ([data] if isinstance(data, str | Path) else data or [])]
    place = out.resolve()
    for path in found:
        if not path.exists():
            raise SeislatentError(f"{path} does not exist: give a file or a folder with --data")
        if path.resolve() in (place, *place.parents) or place in path.resolve().parents:
            raise SeislatentError(f"--out {out} and --data {path} lie in each other: give a folder beside the source with --out")
    return found


def _free(*folders: str | Path | None) -> None:
    """Folders to write to hold nothing yet."""
    for folder in folders:
        if folder is not None and Path(folder).exists() and any(Path(folder).iterdir()):
            raise SeislatentError(f"{folder} holds files already: give another folder")


def _take_away(store: Path) -> None:
    """The folder of a store, whole or half made, and never that of anything else."""
    if store.is_dir():
        if not (is_store(store) or (store / PLAN).exists()):
            raise SeislatentError(f"{store} is no store, and is not taken away: give another folder with --out")
        shutil.rmtree(store)


def _draw(store: Store, path: Path) -> None:
    """The overview of a store as a file that appears at once."""
    from seislatent.evaluate.overview import overview

    beside = path.with_name(f"{path.name}.part")
    beside.write_bytes(overview(store).png)
    os.replace(beside, path)
