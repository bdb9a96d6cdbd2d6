"""Tell what a name or a file is: a preset, weights (.safetensors), a code file (.slat), seismograms, records, a store.

Of a store (seislatent prepare): records by split, the proof that no event (or station, or region) stands in two splits, what was
left out and why; --out FIGURE.png draws counts, magnitudes, distances (km) and signal-to-noise ratios (dB).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

from seislatent.cli.list import columns
from seislatent.errors import SeislatentError, UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    told = "preset or data recipe, or path of weights, code file, seismograms, run, folder of records, store"
    parser.add_argument("what", metavar="WHAT", help=told)
    parser.add_argument("--out", metavar="FIGURE", help="of a store: figure to write (.png or .svg)")
    parser.add_argument("--overwrite", action="store_true", help="replace FIGURE if it exists")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `info`, and draws a store where asked to."""
    told = info(args.what)
    if args.out is not None:
        told["figure"] = _drawn(args.what, args.out, overwrite=args.overwrite)
    return told


def _drawn(store: str, out: str, *, overwrite: bool) -> str:
    """The overview of a store as a file."""
    from seislatent.data.store import Store, is_store
    from seislatent.evaluate.overview import overview

    path = Path(out)
    if not is_store(store):
        raise SeislatentError(f"{store} is no store: --out draws what seislatent prepare has made")
    if path.suffix not in (".png", ".svg"):
        raise UsageError(f"--out {out}: give a name that ends in .png or .svg")
    if path.exists() and not overwrite:
        raise SeislatentError(f"{out} exists: give another name, or --overwrite")
    picture = overview(Store(store))
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(picture.png if path.suffix == ".png" else picture.svg)
    os.replace(beside, path)
    return out


def info(what: str | Path) -> dict[str, Any]:
    """What there is to say, as a dictionary whose `kind` is preset, weights, code, waveforms, records, run or folder."""
    path = Path(what)
    if not path.exists():
        if path.suffix in (".safetensors", ".slat") or len(path.parts) > 2:
            raise SeislatentError(f"{what}: no such file or folder")
        if str(what).startswith("data/"):
            return _data_recipe(str(what))
        if "/" not in str(what):
            raise SeislatentError(f"{what}: no such file or folder, and names of presets are as in codec/eqcodec: seislatent list")
        return _preset(str(what))
    if path.is_dir():
        from seislatent.data.store import is_store

        if (path / "plan.json").exists() and (path / "shards").is_dir() and not is_store(path):
            raise SeislatentError(f"{path} is a store that is half made: give its seislatent prepare command again to finish it")
        return store(path) if is_store(path) else _folder(path)
    if path.suffix == ".safetensors":
        return _weights(path)
    from seislatent.io.slat import Codes, is_slat

    if path.suffix == ".slat" or is_slat(path):
        return {"kind": "code", "file": str(path), **Codes.read(path).info()}
    return _waveforms(path)


def _keys(settings: Any, prefix: str) -> list[dict[str, Any]]:
    """Rows of the options of a config: name, type, value here, meaning."""
    from seislatent import config

    shown = []
    for row in config.describe(settings):
        option = f"--{prefix}.{row.name}"
        if isinstance(row.default, dict) and row.default:
            kind = row.type.partition(", ")[2].removesuffix("]")
            each = [{"option": f"{option}.{k}", "type": kind, "value": v, "meaning": ""} for k, v in row.default.items()]
            shown += [{**each[0], "meaning": row.help}, *each[1:]]
        else:
            shown.append({"option": option, "type": row.type, "value": row.default, "meaning": row.help})
    return shown


def _preset(name: str) -> dict[str, Any]:
    from seislatent import catalog, config
    from seislatent.engine.recipe import Recipe

    it = catalog.preset(name)
    system = catalog.build(it.system, it.config)
    paper = (sys.modules[type(system).__module__].__doc__ or "").strip().splitlines()
    weights = catalog.WEIGHTS / f"{name}.safetensors"
    keys = _keys(system.config, "system")
    if it.recipe:
        keys += _keys(config.load(Recipe, it.recipe), "recipe")
    if it.data:
        keys += _keys(catalog.source(it)[1], "dataset")
    return {
        "kind": "preset",
        "name": name,
        "system": it.system,
        "about": it.about,
        "paper": paper[0] if paper else "",
        "parameters": catalog.players(system),
        "dataset": it.data.get("dataset"),
        "weights": _shipped(weights) if weights.exists() else f"none in the package: seislatent train {name} --data DIR --out RUN",
        "keys": keys,
    }


def _shipped(path: Path) -> dict[str, Any]:
    return {k: v for k, v in _weights(path).items() if k not in ("kind", "name", "system", "config", "parameters")}


def _weights(path: Path) -> dict[str, Any]:
    from seislatent import catalog

    model = catalog.load(path)
    told = {k: v for k, v in model.about.items() if k not in ("name", "digest")}
    return {
        "kind": "weights",
        "file": str(path),
        "name": model.name,
        "digest": model.digest,
        "bytes": path.stat().st_size,
        "parameters": catalog.players(model.system),
        **told,
    }


def _data_recipe(name: str) -> dict[str, Any]:
    from seislatent import config, stores
    from seislatent.data.splits import SplitConfig

    it = stores.preset(name)
    keys = _keys(stores.recipe(it).config, "recipe") + _keys(config.load(SplitConfig, it.split), "split")
    return {"kind": "data recipe", "name": name, "recipe": it.recipe, "about": it.about, "keys": keys}


def _leaks(table: Any, rule: str, cell_deg: float) -> tuple[list[str], list[dict[str, Any]]]:
    """What the splits keep apart, and where they do not; by event and station, train and dev share stations but not with test."""
    from seislatent.data.splits import leaks

    rules: tuple[Literal["event", "station", "region"], ...] = ("event", "station", "region")
    names = [by for by in rules if by in rule.split("+")]
    found: list[dict[str, Any]] = []
    for by in names:
        seen = table.assign(split=table["split"].replace("dev", "train")) if by == "station" and len(names) > 1 else table
        found += [{"by": by, **{str(k): v for k, v in row.items()}} for row in leaks(seen, by, cell_deg).to_dict("records")]
    return [*names], found


def store(path: str | Path) -> dict[str, Any]:
    """What a store of records holds: `records`, `splits` (name: count), `leaks` (a list), `rejected` (reason: count), and more."""
    from seislatent.data.store import Store

    held = Store(path)
    table, rejected = held.metadata, held.rejected
    rule = held.about.get("split", {})
    kept_apart, found = _leaks(table, str(rule.get("by", "event")), float(rule.get("cell_deg", 1.0)))

    def counts(column: str) -> dict[str, int]:
        return {str(k): int(v) for k, v in table[column].value_counts().items()} if column in table else {}

    return {
        "kind": "store",
        "folder": str(path),
        "records": len(table),
        "splits": counts("split"),
        "kept_apart": kept_apart,
        "leaks": found,
        "rejected": {str(k): int(v) for k, v in rejected["reason"].value_counts().items()},
        "events": int(table["source_id"].nunique()) if "source_id" in table else None,
        "stations": _stations(table),
        "sampling_rate_hz": counts("trace_sampling_rate_hz"),
        "component_order": counts("trace_component_order"),
        "unit": counts("trace_unit"),
        "labels": counts("label"),
        "arrays": [*held.arrays],
        "bytes": held.bytes,
        "recipe": held.about.get("recipe"),
        "made_by": held.about.get("made_by"),
        "columns": [str(c) for c in table.columns],
    }


def _stations(table: Any) -> int | None:
    """How many there are, of the codes that the table has (sets of one network may tell none of it); None where it has none."""
    codes = [c for c in ("station_network_code", "station_code") if c in table]
    return len(table[codes].dropna(how="all").drop_duplicates()) if codes else None


def _folder(path: Path) -> dict[str, Any]:
    if (path / "preset.yaml").exists():
        from seislatent import catalog

        log = path / "log.jsonl"
        last = log.read_text(encoding="utf-8").splitlines()[-1:] if log.exists() else []
        files = sorted(p.name for p in path.glob("*.safetensors"))
        return {"kind": "run", "folder": str(path), "system": catalog.preset(path / "preset.yaml").system, "files": files,
                "last": json.loads(last[0]) if last else None}  # fmt: skip
    if any(path.glob("metadata*.csv")):
        return _records(path)
    names = sorted(p for p in path.rglob("*") if p.is_file())
    return {"kind": "folder", "folder": str(path), "files": len(names), "bytes": sum(p.stat().st_size for p in names),
            "first": [p.relative_to(path).as_posix() for p in names[:5]]}  # fmt: skip


def _records(path: Path) -> dict[str, Any]:
    from seislatent.io.seisbench import SeisBenchFile

    table = SeisBenchFile(path).metadata

    def counts(column: str) -> dict[str, int] | None:
        return {str(k): int(v) for k, v in table[column].value_counts().items()} if column in table else None

    return {
        "kind": "records",
        "folder": str(path),
        "records": len(table),
        "split": counts("split"),
        "sampling_rate_hz": counts("trace_sampling_rate_hz"),
        "component_order": counts("trace_component_order"),
        "stations": int(table["station_code"].nunique()) if "station_code" in table else None,
        "columns": [str(c) for c in table.columns],
    }


def _waveforms(path: Path) -> dict[str, Any]:
    from seislatent.io.files import read_stream

    traces = [
        {"id": t.id, "start": str(t.stats.starttime), "sampling_rate_hz": t.stats.sampling_rate, "samples": int(t.stats.npts)}
        for t in read_stream(path, headonly=True)
    ]
    return {"kind": "waveforms", "file": str(path), "traces": traces}


def text(result: dict[str, Any]) -> str:
    """Facts first, then tables."""
    facts = []
    for key, value in result.items():
        if isinstance(value, dict) and len(value) > 2:
            facts += [f"{key}:", *(f"  {k}: {_short(v)}" for k, v in value.items())]
        elif isinstance(value, list) and value and any(isinstance(v, str) and " " in v for v in value):  # sentences
            facts += [f"{key}:", *(f"  {v}" for v in value)]
        elif not _tabular(value):
            facts.append(f"{key}: {_short(value)}")
    tables = [
        f"\n{key}:\n" + columns([[h.upper() for h in value[0]], *[[_short(c) for c in row.values()] for row in value]])
        for key, value in result.items()
        if _tabular(value)
    ]
    return "\n".join([*facts, *tables])


def _tabular(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) and row.keys() == value[0].keys() for row in value)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_short(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_short(v) for v in value) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)
