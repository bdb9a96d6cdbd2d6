"""From a source to a store, on any number of processes, interrupted or not, with one result.

    source --recipe.open--> table --select, split--> plan --cut into pieces--> recipe.make --> one shard each --> finish

The plan (which records, in which order, with which split) stands in the store's folder before the first record is read. Piece k of
the plan makes shard k, wherever and whenever it is made: a shard appears whole or not at all, a run that was killed goes on with
the pieces that are missing, and what is drawn at random comes from the run's seed and the record's name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seislatent.config import plain
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.records import Records
from seislatent.data.shards import ShardWriter, finish, shard_done
from seislatent.data.splits import SplitConfig, event_names, events, split
from seislatent.data.store import Store, is_store
from seislatent.errors import SeislatentError
from seislatent.waveform import Waveform

log = logging.getLogger(__name__)

PLAN = "plan.json"
LARGEST_PIECE = 1024
"""Records of a piece at most: what is lost when a process is killed, and the size of a shard's table."""
FEW = 5000
"""Below so many records one process is quicker than starting several."""
AT_ONCE = 64
"""Records that a process holds at a time; at the peak 6 to 25 times their size, by recipe (benchmarks/prepare_memory.py)."""
AHEAD = 3
"""Tasks per process that are under way or wait for it."""
DASK: dict[str, Any] = {
    "distributed.worker.daemon": False,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.nanny.pre-spawn-environ": {
        "OMP_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1, "MKL_NUM_THREADS": 1,
        "MALLOC_MMAP_THRESHOLD_": 1 << 25, "MALLOC_TRIM_THRESHOLD_": 1 << 32,
    },
}  # fmt: skip
"""Of the processes here. Dask has glibc give back every freed page at once; taking them anew doubles the time of a record."""
MOST_NOTES = 1000
"""Lines about what a source holds that cannot be used, kept in the store."""

Progress = Callable[[int, int], None]
"""Told how many records of how many are done."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What is to be made of which records."""

    recipe: DataRecipe
    records: Records
    """What is to be read, in order, with the column `split`."""
    left_out: list[Rejected]
    """What is known before anything is read."""
    first: int
    """Number of the first shard: 0, or where a store that is appended to goes on."""
    seed: int
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def piece(self) -> int:
        """Records of a piece: a function of their number alone, so that every run cuts alike."""
        return min(LARGEST_PIECE, max(16, -(-len(self.records) // 32)))

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        """Number of the shard, first record, one past the last."""
        for k, at in enumerate(range(0, len(self.records), self.piece)):
            yield self.first + 1 + k, at, min(at + self.piece, len(self.records))

    def task(self, piece: tuple[int, int, int], out: Path) -> tuple[DataRecipe, Records, int, Path, int]:
        """What `make_piece` needs for one shard, and no more of the source's table."""
        number, first, last = piece
        return self.recipe, self.records.excerpt(range(first, last)), self.seed, out, number

    def digest(self) -> str:
        """Changes with whatever the result depends on."""
        names = "\n".join(f"{n} {s}" for n, s in self.records.metadata[["trace_name", "split"]].to_numpy())
        told = json.dumps(self.about, sort_keys=True, default=str)
        return hashlib.sha256(f"{told}\n{self.piece}\n{names}".encode()).hexdigest()[:16]


def prepare_records(
    recipe: DataRecipe,
    source: Sequence[Path],
    out: Path,
    *,
    splits: SplitConfig | None = None,
    seed: int = 0,
    about: dict[str, Any] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    append: bool = False,
    progress: Progress | None = None,
) -> Store:
    """Make a store of a source by a recipe, or go on making it.

    Args:
        recipe: what is made of a record.
        source: files or folders, as `recipe.open` takes them.
        out: folder of the store; one that is half made by the same call is finished, one that is whole is given as it is.
        splits: how records fall to train, dev and test; decided on the source's records, before anything is cut from them.
        seed: of all that is random.
        about: stands in the store: the recipe's name, the command.
        workers: processes of this machine; 1 works in this process, None takes one per core for a large source.
        scheduler: address of a Dask scheduler whose workers see the same files (trust it: its messages are executed).
        append: add to a store that is whole; events that it has keep their split.
        progress: told now and then.

    Raises:
        SeislatentError: nothing is left of the source; `out` holds anything else; what a record lacks is no error but counted.
    """
    splits = splits or SplitConfig()
    told = {**(about or {}), "source": [str(p) for p in source], "seed": seed}
    told |= {"config": plain(recipe.config), "split": plain(splits)}
    told = json.loads(json.dumps(told, default=str))
    earlier = _earlier(out, told, append)
    if earlier is not None and not append:
        return earlier
    plan = made_plan(recipe, source, told, splits, seed, earlier, _first(out, earlier))
    _claim(out, plan, earlier)
    todo = [piece for piece in plan.pieces() if not shard_done(out, piece[0])]
    done = sum(b - a for _, a, b in plan.pieces()) - sum(b - a for _, a, b in todo)
    if not shard_done(out, plan.first):
        with ShardWriter(out, plan.first) as writer:
            for one in plan.left_out:
                writer.reject(one)
    if workers is None:
        workers = 1 if len(plan.records) < FEW else os.cpu_count() or 1
    for count in _run(plan, out, todo, workers, scheduler):
        done += count
        if progress:
            progress(done, len(plan.records))
    return _finished(plan, out, earlier)


def _earlier(out: Path, told: dict[str, Any], append: bool) -> Store | None:
    """The finished store in the folder, which the same call made or which may be appended to; None where there is none."""
    if out.exists() and not out.is_dir():
        raise SeislatentError(f"{out} is a file: give the folder of a store with --out")
    if not is_store(out):
        if append:
            raise SeislatentError(f"{out} is no finished store: finish it, or leave --append away")
        return None
    earlier = Store(out)
    last = earlier.about.get("runs", [{}])[-1]
    if not append and any(last.get(key) != value for key, value in told.items()):
        raise SeislatentError(f"{out} holds another store: give another folder with --out, or --append, or --overwrite")
    if append and any(earlier.about.get(key) != told.get(key) for key in ("recipe", "config", "split")):
        raise SeislatentError(f"{out} was made by another recipe, or with other keys: make another store of these records")
    return earlier


def made_plan(
    recipe: DataRecipe,
    source: Sequence[Path],
    about: dict[str, Any],
    splits: SplitConfig,
    seed: int,
    earlier: Store | None = None,
    first: int = 0,
) -> Plan:
    """Opens the source and decides all that can be known from its table."""
    records = recipe.open(source)
    table = records.metadata
    reason = recipe.select(table).fillna("").astype(str)
    reason = reason.mask((reason == "") & _repeated(table, earlier), "duplicate record")
    out = np.flatnonzero(reason.to_numpy() != "")
    detail = table["detail"].fillna("").astype(str) if "detail" in table else pd.Series("", index=table.index)
    left = [Rejected(name=str(table["trace_name"].iloc[i]), reason=str(reason.iloc[i]), detail=detail.iloc[i]) for i in out]
    left += [Rejected(name=name, reason=why) for name, why in records.left_out]
    chosen = records.select(np.flatnonzero(reason.to_numpy() == ""))
    if not len(chosen):
        raise SeislatentError(f"nothing of {', '.join(map(str, source))} is left to prepare: {_why_nothing(reason, table, about)}")
    drawn = _drawn(chosen.metadata, splits, earlier)
    chosen.metadata["source_id"] = event_names(chosen.metadata)
    return Plan(recipe=recipe, records=chosen.with_split(drawn), left_out=left, first=first, seed=seed, about=about)


def _why_nothing(reason: pd.Series, table: pd.DataFrame, about: dict[str, Any]) -> str:
    """The reasons with their counts, the arrivals that the table has where P was missed, and where the rules stand."""
    counts = ", ".join(f"{name} ({n})" for name, n in reason.value_counts().items()) or "it holds no record"
    marks = [str(c) for c in table if re.search("(_p_|pick).*_sample$", str(c)) and table[c].notna().any()]
    arrivals = f"; it has times in {', '.join(marks[:4])} (--recipe.p_column)" if "no P" in counts and marks else ""
    named = str(about.get("recipe", ""))
    return counts + arrivals + (f"; seislatent prepare {named} --help tells the keys of these rules" if named else "")


IDENTITY = (
    "dataset", "station_network_code", "station_code", "station_location_code", "trace_channel", "start_ns", "trace_npts",
    "trace_p_arrival_sample", "source_id",
)  # fmt: skip


def _first(out: Path, earlier: Store | None) -> int:
    """The number of the first shard that this run makes, the same when it goes on."""
    if earlier is None:
        return 0
    under_way = _under_way(out, earlier)
    if under_way is not None:
        return int(under_way["first"])
    return 1 + max(int(p.name) for p in (out / "shards").iterdir() if p.name.isdigit())


def _under_way(out: Path, earlier: Store | None) -> dict[str, Any] | None:
    """The plan in the folder, if it is not that of a run which is whole: one killed just before its plan was taken away."""
    if not (out / PLAN).exists():
        return None
    try:
        there: dict[str, Any] = json.loads((out / PLAN).read_text(encoding="utf-8"))
        int(there["first"])
    except (ValueError, KeyError, TypeError) as error:
        raise SeislatentError(f"{out / PLAN} is damaged: give another folder with --out, or --overwrite") from error
    done = [] if earlier is None else [run.get("digest") for run in earlier.about.get("runs", [])]
    return None if there.get("digest") in done else there


def _repeated(table: pd.DataFrame, earlier: Store | None) -> pd.Series:
    """True where a record of the same sensor, time, length and event stands before; never where no start time is known."""
    rows = table.reindex(columns=list(IDENTITY)).drop(columns="dataset")
    known = rows["start_ns"].notna() & (rows["start_ns"] != 0) & rows["station_code"].notna()
    rows = rows.astype(object).where(rows.notna(), "").astype(str)
    return rows.duplicated() & known


def _drawn(table: pd.DataFrame, splits: SplitConfig, earlier: Store | None) -> pd.Series:
    """The split of each record; events of the store that is appended to keep theirs."""
    rule: dict[str, Any] = {"by": splits.by, "seed": splits.seed, "shares": splits.shares}
    rule |= {"stratify": splits.stratify, "cell_deg": splits.cell_deg}
    if earlier is None:
        return split(table, **rule)
    before = earlier.metadata
    shared = [c for c in table.columns if c in before.columns]
    both = pd.concat([before[shared].astype(object), table.assign(split=table.get("split")).astype(object)], ignore_index=True)
    return split(both, **rule)[len(before) :].set_axis(table.index)


def _claim(out: Path, plan: Plan, earlier: Store | None) -> None:
    """Writes the plan's digest, or checks that the folder holds the same plan."""
    told = {"digest": plan.digest(), "records": len(plan.records), "first": plan.first, **plan.about}
    path = out / PLAN
    there = _under_way(out, earlier)
    if there is not None:
        if there.get("digest") == told["digest"]:
            return
        if earlier is not None:
            source = ", ".join(map(str, there.get("source", [])))
            raise SeislatentError(f"to {out}, {source or 'another source'} was being added: give that --append again first")
        raise SeislatentError(
            f"{out} is half made by another command or from other files: give another folder with --out, or --overwrite"
        )
    if earlier is None and out.exists() and any(out.iterdir()):
        raise SeislatentError(f"{out} holds other files: give a folder that is empty or not there with --out")
    out.mkdir(parents=True, exist_ok=True)
    beside = out / f"{PLAN}.part"
    beside.write_text(json.dumps(told, indent=1, default=str), encoding="utf-8")
    os.replace(beside, path)


# -- the work ---------------------------------------------------------------------------------------------------------------------


def make_piece(recipe: DataRecipe, records: Records, seed: int, out: Path, number: int) -> int:
    """Makes one shard of some records; returns how many it has seen."""
    if shard_done(out, number):
        return len(records)
    with ShardWriter(out, number) as writer:
        for at in range(0, len(records), AT_ONCE):
            rows = range(at, min(at + AT_ONCE, len(records)))
            good = []
            for row, found in zip(rows, records.several(rows), strict=True):
                if isinstance(found, SeislatentError):
                    name = str(records.metadata["trace_name"].iloc[row])
                    writer.reject(_refused(name, found, "cannot be read"))
                else:
                    good.append(_known(found, records.metadata["source_id"].iloc[row]))
            for made in _made(recipe, good, seed):
                if isinstance(made, Made):
                    writer.add(made)
                else:
                    writer.reject(made)
    return len(records)


def _made(recipe: DataRecipe, records: Sequence[Waveform], seed: int) -> list[Made | Rejected]:
    """What the recipe makes of all records at once; one by one where it cannot take one of them."""
    try:
        return list(recipe.make(records, [_generator(seed, w) for w in records]))
    except SeislatentError as error:
        if len(records) == 1:
            return [_refused(str(records[0].metadata.get("trace_name")), error, "does not fit the recipe")]
        return [made for record in records for made in _made(recipe, [record], seed)]


def _refused(name: str, error: SeislatentError, reason: str) -> Rejected:
    return Rejected(name=name, reason=getattr(error, "reason", reason), detail=str(error))


def _generator(seed: int, record: Waveform) -> np.random.Generator:
    """A generator that knows the seed and the record's name, and nothing else."""
    name = f"{seed} {record.metadata.get('dataset')} {record.metadata.get('trace_name')}"
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "little"))


def _known(record: Waveform, event: str) -> Waveform:
    """The record with its event, and with its name and a checksum of its samples, by which repeated ones are found later."""
    told = record.metadata
    came = {"trace_source": f"{told.get('dataset')}/{told.get('trace_name')}", "source_id": event}
    return replace(record, metadata=told | came | {"trace_checksum": zlib.crc32(np.ascontiguousarray(record.data).data)})


def _run(plan: Plan, out: Path, todo: list[tuple[int, int, int]], workers: int, scheduler: str | None) -> Iterator[int]:
    """Makes the pieces, here or elsewhere; yields the records of each as it is done."""
    if scheduler is None and (workers <= 1 or len(todo) <= 1):
        for piece in todo:
            yield make_piece(*plan.task(piece, out))
        return
    import dask
    from dask.distributed import KilledWorker, LocalCluster, as_completed

    with dask.config.set(DASK):
        cluster = None
        if scheduler is None:
            cluster = LocalCluster(
                n_workers=min(workers, len(todo)), threads_per_worker=1, memory_limit=0, silence_logs=logging.ERROR,
                dashboard_address="127.0.0.1:0",
            )  # fmt: skip
        try:
            with _client(cluster, scheduler) as client:
                count = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
                waiting = iter(todo)
                first = (client.submit(make_piece, *plan.task(piece, out), pure=False) for piece in islice(waiting, AHEAD * count))
                done = as_completed(list(first))
                for job in done:
                    yield job.result()
                    for piece in islice(waiting, 1):  # a task carries its part of the table: few are under way at a time
                        done.add(client.submit(make_piece, *plan.task(piece, out), pure=False))
        except KilledWorker as error:
            raise SeislatentError(
                "a process that made records died again and again, most often for want of memory: the same command goes on, with"
                " fewer --workers"
            ) from error
        finally:
            if cluster is not None:
                cluster.close()


def _client(cluster: Any, scheduler: str | None) -> Any:
    """Dask's client of a cluster that we started, or of the scheduler at an address."""
    from dask.distributed import Client

    try:
        return Client(cluster or scheduler)
    except (OSError, ValueError) as error:  # nobody there, or no address at all
        raise SeislatentError(f"no Dask scheduler answers at {scheduler}: {error}; give --scheduler tcp://HOST:PORT") from error


def _finished(plan: Plan, out: Path, earlier: Store | None) -> Store:
    """Merges the shards; what only the whole table shows is left out with its reason."""
    this = {**plan.about, "digest": plan.digest(), "notes": plan.records.notes[:MOST_NOTES]}
    runs = [*(earlier.about.get("runs", []) if earlier is not None else []), this]
    about = {**(earlier.about if earlier is not None else plan.about), "runs": runs}

    sifted: list[Rejected] = []

    def last_look(table: pd.DataFrame) -> pd.DataFrame:
        reason = plan.recipe.sift(table).fillna("").astype(str)
        reason = reason.mask((reason == "") & _same_samples(table), "duplicate record")
        out = reason != ""
        names = table["trace_name"].astype(str)[out]
        sifted.extend(Rejected(name=name, reason=why) for name, why in zip(names, reason[out], strict=True))
        kept = table[~out]
        return _whole_events(kept) if plan.about["split"]["by"] == "event" else kept

    finish(out, about, table_change=last_look, rejected=sifted)
    (out / PLAN).unlink(missing_ok=True)
    return Store(out)


def _same_samples(table: pd.DataFrame) -> pd.Series:
    """True where a record of the source, under another name, has the samples of an earlier one of the same station."""
    named = [c for c in ("station_network_code", "station_code", "trace_checksum") if c in table]
    keys = [table[c].astype(object).fillna("").astype(str) for c in named]  # a missing code is a code like another
    return table["trace_source"] != table["trace_source"].groupby(keys).transform("first")


def _whole_events(table: pd.DataFrame) -> pd.DataFrame:
    """An event that stands in two splits after all (windows of two sets came closer than their records were) goes to train."""
    label = events(table)
    leaking = table["split"].groupby(label).transform("nunique") > 1
    if leaking.any():
        log.warning("%d records of events in two splits were put into train", int(leaking.sum()))
        return table.assign(split=table["split"].mask(leaking, "train"))
    return table
