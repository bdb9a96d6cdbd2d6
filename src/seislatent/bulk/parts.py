"""Pieces of a source worked on one after the other or side by side; what is done is kept beside the result until that is safe."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seislatent.bulk.sensors import Notes
from seislatent.bulk.sources import Source
from seislatent.bulk.spread import spread
from seislatent.errors import SeislatentError


def parted(
    work: Callable[..., dict[str, Any]],
    source: Source,
    shared: Any,
    told: Any,
    *,
    parts: str | Path | None = None,
    overwrite: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[dict[str, Any]], Notes]:
    """`work(shared, part, piece)` of every piece, in their order, and all notes.

    Args:
        work: gives what JSON can hold: `number` of the piece, `notes`, and what else there is.
        source: what is worked on.
        shared: handed to each process once.
        told: with the source, what the result depends on; JSON can hold it.
        parts: folder for what is done, from which a run that was stopped goes on; None keeps nothing.
        overwrite: begin afresh, whatever run the folder holds.
        workers: processes of this machine.
        scheduler: address of a Dask scheduler instead.
        progress: told how many pieces of how many are done.

    Raises:
        SeislatentError: the folder of parts holds another run, or something else.
    """
    kept = None if parts is None else _claimed(Path(parts), digest([told, source.names()]), overwrite)
    found: dict[int, dict[str, Any]] = {} if kept is None else _done(kept)
    todo = [p for p in source.pieces if p.number not in found]
    for one in spread(work, todo, lambda p: (source.part(p), p), shared, workers=workers, scheduler=scheduler):
        found[one["number"]] = one
        if kept is not None:
            _written(kept / f"{one['number']:08d}.json", one)
        if progress:
            progress(len(found), len(source.pieces))
    notes = Notes(source.notes)
    for number in sorted(found):
        for line in found[number]["notes"]:
            notes.add(line)
    return [found[number] for number in sorted(found)], notes


def digest(told: Any) -> str:
    """16 hexadecimal digits of what JSON can hold."""
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _claimed(folder: Path, digest: str, overwrite: bool) -> Path:
    """The folder of parts, empty or of the same run."""
    plan = folder / "plan.json"
    if overwrite and plan.exists():
        shutil.rmtree(folder)
    if folder.exists():
        try:
            there = json.loads(plan.read_text(encoding="utf-8"))["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            there = None
        if there != digest:
            raise SeislatentError(f"{folder} holds parts of another run, or something else: remove it, or give --overwrite")
        return folder
    folder.mkdir(parents=True)
    _written(plan, {"digest": digest})
    return folder


def _written(path: Path, value: Any) -> None:
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(value), encoding="utf-8")
    os.replace(beside, path)


def _done(folder: Path) -> dict[int, dict[str, Any]]:
    """Parts that are there; a damaged one is done again."""
    found = {}
    for path in folder.glob("[0-9]*.json"):
        try:
            one = json.loads(path.read_text(encoding="utf-8"))
            found[int(one["number"])] = one
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
