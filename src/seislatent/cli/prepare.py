"""Make a training set: a store of records cut, conditioned, checked and split by event, from files of any size.

SOURCE is what you have: a folder of miniSEED (SDS archive or any other) with an event catalogue (QuakeML, FDSN text, CSV) and picks
(QuakeML, GSE2.0 bulletins, CSV); a record set (SeisBench folder, STEAD or LEN-DB file); another store; or continuous data. Each
recipe says below what it makes of it. Records that do not fit are left out, counted with their reason, and listed in the store.

An interrupted command goes on where it stopped when it is given again; the result is the same whatever the number of workers. Keys
of the recipe and of the split are options too, such as --recipe.length_s 30 or --split.by station: seislatent prepare RECIPE --help
tells them. seislatent info STORE shows what came out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

KEYS = ("recipe", "split")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("name", metavar="RECIPE", help="data recipe, such as data/marmara, or the YAML file of one")
    parser.add_argument("--data", metavar="SOURCE", help="file or folder, several by commas; none for data/synthetic_*")
    parser.add_argument("--out", required=True, metavar="STORE", help="folder of the store to make")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core from 5,000 records on, else 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers see the same files; it is trusted")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random cuts (default: 0)")
    told = "also measure SNR around P (dB), gaps, clipping, spikes and dead components of what is read"
    parser.add_argument("--quality", action="store_true", help=told)
    parser.add_argument("--miniseed", metavar="DIR", help="also write the records as miniSEED, one file each, with a metadata.csv")
    parser.add_argument("--seisbench", metavar="DIR", help="also write the records in SeisBench's layout")
    parser.add_argument("--append", action="store_true", help="add to a finished store; events it has keep their split")
    parser.add_argument("--overwrite", action="store_true", help="make the store afresh, whatever store is there")


def epilog(words: Sequence[str]) -> str:
    """The recipes by name; the keys of the one that is named among the words."""
    import yaml

    from seislatent.shipped import PRESETS

    known = {f"data/{path.stem}": path for path in sorted(PRESETS.glob("data/*.yaml"))}
    named = [w for w in words if w in known or w.endswith((".yaml", ".yml"))]
    if named:
        return keys_text(named[0])
    width = max(map(len, known), default=0)
    about = {name: yaml.safe_load(path.read_text(encoding="utf-8")).get("about", "") for name, path in known.items()}
    return "\n".join(["recipes:", *(f"  {name:{width}}  {told}" for name, told in about.items())])


def keys_text(name: str) -> str:
    """Every key of a recipe and its split: value, type, meaning."""
    from seislatent import config, stores
    from seislatent.data.splits import SplitConfig

    it = stores.preset(name)
    lines = [f"{name}: {it.about}", ""]
    split = config.load(SplitConfig, it.split)
    for prefix, settings in (("recipe", stores.recipe(it).config), ("split", split)):
        for row in config.describe(settings):
            lines += [f"  --{prefix}.{row.name} {row.default}", f"      {row.help}"]
    return "\n".join(lines)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `stores.prepare`."""
    import os
    from pathlib import Path

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # read when NumPy is imported, below
        os.environ.setdefault(name, "1")  # processes share the work; threads that wait for small products only burn the cores

    from seislatent import stores
    from seislatent.cli.info import info
    from seislatent.cli.progress import Bar

    keys: dict[str, dict[str, str]] = {key: {} for key in KEYS}
    for name, value in vars(args).items():
        key, _, rest = name.partition(".")
        if rest:
            keys[key][rest] = value
    source = args.data if args.data is None or Path(args.data).exists() else args.data.split(",")
    with Bar("records") as progress:
        stores.prepare(
            args.name, source, args.out, recipe_keys=keys["recipe"], split_keys=keys["split"], seed=args.seed,
            workers=args.workers, scheduler=args.scheduler, append=args.append, overwrite=args.overwrite,
            quality=args.quality, miniseed=args.miniseed, seisbench=args.seisbench, progress=progress,
        )  # fmt: skip
    return info(args.out)


def text(result: dict[str, Any]) -> str:
    """What the store holds."""
    from seislatent.cli import info

    return info.text(result)
