"""Features of an archive: windows of files, folders, SDS trees or record stores, through a system, to a store on the disk.

    source --WindowSource--> windows [b 3 time] --system.embed--> features [b d] --a part per piece--> FEATURES

The plan (which records make which piece, and with which system) stands in the store's folder before the first record is read. A
piece's part appears whole or not at all, so that a run which was killed goes on with the pieces that are missing; the parts are put
together in the order of the plan. A piece is worked on by one thread, so the bits do not depend on the number of processes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from seislatent import __version__
from seislatent.bulk.feature_store import ABOUT, ARRAY, TABLE, Features, extend, is_features, read_about, rows_held
from seislatent.bulk.feature_windows import Cut, WindowSource, batches
from seislatent.bulk.spread import spread
from seislatent.errors import SeislatentError
from seislatent.systems.base import Embedder
from seislatent.systems.features.heads import ClassifierHead

PLAN, PARTS, PART_NAME = "plan.json", "parts", "{:06d}"
LENGTH_S = 27.0
"""Of windows, where neither the system nor the caller says."""
PIECE = 2048
"""Windows of a piece, about: what is lost when a process is killed."""
BATCH = 64
"""Windows that go through the system at once."""

Progress = Callable[[int, int], None]


def embed(
    model: Any,
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    hop_s: float | None = None,
    length_s: float | None = None,
    highpass_hz: float = 0.0,
    pool: int | None = None,
    least_valid: float = 0.5,
    workers: int = 1,
    scheduler: str | None = None,
    device: str = "cpu",
    append: bool = False,
    overwrite: bool = False,
    weights: str | None = None,
    progress: Progress | None = None,
) -> Features:
    """Make a store of features, or go on making it; the same call on a finished store gives that store.

    Args:
        model: with an `Embedder` as its system.
        source: files, folders, SDS trees, record stores.
        out: folder of the store.
        hop_s: from one window to the next, in s; half a window if None.
        length_s: of a window, in s; what the system is made for if None, and 27 s where it does not say.
        highpass_hz: corner of a high pass, in Hz; 0: none. A query is filtered alike.
        pool: not what the system's `embed` gives, but the root mean square of each map of `features` over so many equal parts.
        least_valid: windows with a smaller share of recorded samples are left out.
        workers: processes of this machine.
        scheduler: address of a Dask scheduler instead, whose workers see the same files.
        device: where the system runs, such as cuda.
        append: add to a finished store that was made alike.
        overwrite: take away the store of features that stands in `out` first.
        weights: preset or path of the model, kept in the store so that `seislatent search` finds it again.
        progress: told how many records of how many are done.

    Raises:
        SeislatentError: the system has no features, nothing can be read, or `out` holds anything else.
    """
    cut = cut_for(model, hop_s=hop_s, length_s=length_s, highpass_hz=highpass_hz, least_valid=least_valid)
    target, about = Path(out), _about(model, cut, pool)
    windows = WindowSource(source)  # before anything is taken away
    if overwrite:
        _take_away(target)
    runs, pieces = _earlier(target, about, append), _pieces(windows, cut)
    run = {"source": windows.paths, "device": device, "digest": _digest(about, windows, pieces)}
    if any(one.get("digest") == run["digest"] for one in runs):
        return _finished(target)
    if runs and not append:
        raise SeislatentError(f"{target} holds the features of another source: give another folder with --out, or --append")
    _claim(target, run, runs)
    parts = [target / PARTS / PART_NAME.format(k) for k in range(len(pieces))]
    for left in _work(embedder(model).to(device).eval(), windows, pieces, cut, pool, parts, workers, scheduler):
        if progress:
            progress(len(windows) - left, len(windows))
    _put_together(target, parts, {**about, "weights": weights}, runs, run, windows)
    return _finished(target)


def _work(
    system: Any, source: WindowSource, pieces: Sequence[tuple[int, int]], cut: Cut, pool: int | None, parts: Sequence[Path],
    workers: int, scheduler: str | None,
) -> Iterator[int]:  # fmt: skip
    """Makes the parts that are missing; how many records are left after each."""

    def task(k: int) -> tuple[Any, ...]:
        return (*source.excerpt(*pieces[k]), cut, pool, parts[k])

    todo = [k for k, part in enumerate(parts) if not part.is_dir()]
    left = sum(pieces[k][1] - pieces[k][0] for k in todo)
    for count in spread(make_part, todo, task, system, workers=workers, scheduler=scheduler):
        left -= count
        yield left


def _put_together(
    out: Path, parts: Sequence[Path], about: dict[str, Any], runs: list[dict[str, Any]], run: dict[str, Any], source: WindowSource
) -> None:
    """The parts behind what the store holds, and what was left out."""
    left_out = sum((Counter(json.loads((p / "left_out.json").read_text())) for p in parts), Counter[str]())
    told = {"records": len(source), "left_out": dict(sorted(left_out.items())), "notes": source.notes[:100]}
    extend(out, parts, {**about, "runs": [*runs, {**run, "made_by": f"seislatent {__version__}", **told}]})


def _finished(out: Path) -> Features:
    """The store, without what was needed to make it."""
    (out / PLAN).unlink(missing_ok=True)
    shutil.rmtree(out / PARTS, ignore_errors=True)
    return Features(out)


class DenseLayer(torch.nn.Module, Embedder):
    """A classifier's dense layer as features: what it has learnt to tell its labels by."""

    def __init__(self, classifier: ClassifierHead) -> None:
        super().__init__()
        self.classifier = classifier
        self.sampling_rate_hz, self.samples = classifier.sampling_rate_hz, classifier.samples

    def embed(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch latent"]:
        """[b dense]."""
        return self.classifier.head.described(self.classifier.footing(x))


def embedder(model: Any) -> Any:
    """What gives a model's features: its system, or the dense layer of a classifier.

    Raises:
        SeislatentError: it has none.
    """
    system = model.system
    if isinstance(system, ClassifierHead):
        return DenseLayer(system).eval()
    if not isinstance(system, Embedder):
        name = str(getattr(model, "name", type(system).__name__))
        raise SeislatentError(f"{name} gives no features: name one that does, such as features/autoencoder_under")
    return system


def cut_for(
    model: Any, *, hop_s: float | None, length_s: float | None, highpass_hz: float, least_valid: float, rate_hz: float | None = None
) -> Cut:
    """How windows for a model are cut.

    Raises:
        SeislatentError: it gives no features, or is made for another length.
    """
    system = embedder(model)
    name = str(getattr(model, "name", type(system).__name__))
    rate: float = rate_hz or getattr(system, "sampling_rate_hz", None) or 20.0
    samples = getattr(system, "samples", None) or round((length_s or LENGTH_S) * rate)
    if length_s is not None and round(length_s * rate) != samples:
        raise SeislatentError(f"{name} takes windows of {samples / rate:g} s, not {length_s:g} s: leave --length away")
    return Cut(
        sampling_rate_hz=rate, samples=int(samples), hop_s=samples / rate / 2 if hop_s is None else float(hop_s),
        highpass_hz=float(highpass_hz), least_valid=float(least_valid),
    )  # fmt: skip


def made_with(about: dict[str, Any]) -> tuple[Cut, int | None]:
    """How the windows of a store were cut, and its `pool`."""
    try:
        return Cut(**{key: about["cut"][key] for key in Cut.__dataclass_fields__}), about["pool"]
    except (KeyError, TypeError) as error:
        raise SeislatentError(f"a store of features that does not tell how it was made ({error}): make it again") from error


def features_of(system: Any, x: NDArray[np.float32], pool: int | None) -> NDArray[np.float32]:
    """Features [window feature] of windows [window 3 time], a batch at a time.

    Raises:
        SeislatentError: the system gives something else than a finite row per window.
    """
    device = next((p.device for p in system.parameters()), torch.device("cpu"))
    rows = []
    with torch.inference_mode():
        for at in range(0, len(x), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(x[at : at + BATCH])).to(device)
            found = system.embed(batch) if pool is None else pooled(system.features(batch), pool)
            if found.ndim != 2 or len(found) != len(batch) or not bool(torch.isfinite(found).all()):
                raise SeislatentError(f"{type(system).__name__} gives no finite row of features per window: {tuple(found.shape)}")
            rows.append(found.float().cpu().numpy())
    return np.concatenate(rows)


def pooled(maps: Float[Tensor, "batch map frame"], parts: int) -> Float[Tensor, "batch feature"]:
    """Root mean square of maps [b map frame] over so many equal parts of the frames, [b map * part]."""
    if maps.shape[-1] < parts:
        raise SeislatentError(f"features of {maps.shape[-1]} frames cannot be pooled over {parts} parts: give fewer with --pool")
    return torch.nn.functional.adaptive_avg_pool1d(maps.square(), parts).sqrt().flatten(1)


def make_part(system: Any, source: WindowSource, rows: Sequence[int], cut: Cut, pool: int | None, out: Path) -> int:
    """The part of the store that some records make; returns their number."""
    if out.is_dir():
        return len(rows)
    threads, left_out = torch.get_num_threads(), Counter[str]()
    torch.set_num_threads(1)  # sums over several threads have other bits
    try:
        found, tables = [], []
        for x, table in batches(source, cut, rows, BATCH, left_out):
            found.append(features_of(system, x, pool))
            tables.append(table)
    finally:
        torch.set_num_threads(threads)
    beside = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    beside.mkdir(parents=True)
    try:
        np.save(beside / ARRAY, np.concatenate(found) if found else np.zeros((0, 0), np.float32), allow_pickle=False)
        (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()).to_parquet(beside / TABLE, index=False)
        (beside / "left_out.json").write_text(json.dumps({k: v for k, v in left_out.items() if v}), encoding="utf-8")
        os.rename(beside, out)
    except OSError:
        if not out.is_dir():  # else another process was there first, with the same
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return len(rows)


def _about(model: Any, cut: Cut, pool: int | None) -> dict[str, Any]:
    """How features are made: what must be alike for them to stand in one store."""
    if pool is not None and pool < 1:
        raise SeislatentError(f"features pooled over {pool} parts: give 1 or more")
    return {
        "system": model.about.get("system", type(model.system).__name__), "model": model.name, "digest": model.digest,
        "cut": {key: getattr(cut, key) for key in Cut.__dataclass_fields__}, "pool": pool,
    }  # fmt: skip


def _earlier(out: Path, about: dict[str, Any], append: bool) -> list[dict[str, Any]]:
    """The runs whose windows the store in the folder holds; none where there is no store."""
    if not is_features(out):
        if append:
            raise SeislatentError(f"{out} is no finished store of features: finish it, or leave --append away")
        return []
    there = read_about(out)
    other = [key for key in ("digest", "cut", "pool") if there.get(key) != about[key]]
    if other:
        what = {"digest": "another system", "cut": "another hop or filter", "pool": "another pooling"}[other[0]]
        raise SeislatentError(f"{out} was made with {what}: give another folder with --out, or --overwrite")
    held = rows_held(out)  # a run that was killed before the table stood there is named, but not in it
    return [run for run in there.get("runs", []) if run.get("windows", 0) <= held]


def _pieces(source: WindowSource, cut: Cut) -> list[tuple[int, int]]:
    """First record and one past the last of each piece: a function of the source alone, so that every run cuts alike."""
    whole = np.cumsum(source.expected(cut))
    edges = np.unique(np.concatenate([[0], np.searchsorted(whole, np.arange(PIECE, whole[-1], PIECE)) + 1, [len(source)]]))
    return [(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def _digest(about: dict[str, Any], source: WindowSource, pieces: Sequence[tuple[int, int]]) -> str:
    """Changes with whatever the features depend on."""
    told = json.dumps([about, pieces, source.paths, source.names()], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _claim(out: Path, run: dict[str, Any], runs: Sequence[dict[str, Any]]) -> None:
    """Writes the plan's digest, or checks that the folder holds the same plan."""
    path = out / PLAN
    if path.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8")).get("digest")
        except (ValueError, AttributeError) as error:
            raise SeislatentError(f"{path} is damaged: give another folder with --out, or --overwrite") from error
        if there != run["digest"]:
            raise SeislatentError(f"{out} is half made from other files or by another system: give another folder, or --overwrite")
        return
    if not runs and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SeislatentError(f"{out} holds other files: give a folder that is empty or not there with --out")
    (out / PARTS).mkdir(parents=True, exist_ok=True)
    beside = out / f".{PLAN}.part"
    beside.write_text(json.dumps(run, indent=1), encoding="utf-8")
    os.replace(beside, path)


def _take_away(out: Path) -> None:
    """The folder of a store of features, whole or half made, and never that of anything else."""
    if out.is_dir() and any(out.iterdir()):
        if not (is_features(out) or (out / PLAN).exists() or (out / ABOUT).exists()):
            raise SeislatentError(f"{out} is no store of features, and is not taken away: give another folder with --out")
        shutil.rmtree(out)
