"""Pieces of work on one process or many: here, on processes of this machine, or on any Dask scheduler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

from seislatent.data.preparing import AHEAD, DASK
from seislatent.errors import SeislatentError


def spread(
    work: Callable[..., Any],
    pieces: Sequence[Any],
    task: Callable[[Any], tuple[Any, ...]],
    shared: Any,
    *,
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[Any]:
    """`work(shared, *task(piece))` of every piece, as each is done.

    Args:
        work: a function of a module; what it gives is small, for what is large it writes to files that all processes see.
        pieces: what is to be done, each with a task of its own.
        task: what a process is told for a piece, made just before it is sent: few stand in memory at a time.
        shared: handed to each process once, such as a system with its weights.
        workers: processes of this machine; 1 works in this one.
        scheduler: address of a Dask scheduler instead, whose workers see the same files (trust it: its messages are executed).

    Raises:
        SeislatentError: nobody answers at the address, or processes die again and again.
    """
    if scheduler is None and (workers <= 1 or len(pieces) <= 1):
        for piece in pieces:
            yield work(shared, *task(piece))
        return
    import dask
    from dask.distributed import Client, KilledWorker, LocalCluster, as_completed

    with dask.config.set(DASK), ExitStack() as stack:
        place: Any = scheduler
        if scheduler is None:
            place = stack.enter_context(
                LocalCluster(
                    n_workers=min(workers, len(pieces)), threads_per_worker=1, memory_limit=0, silence_logs=logging.ERROR,
                    dashboard_address="127.0.0.1:0",
                )
            )  # fmt: skip
        try:
            client = stack.enter_context(Client(place))
        except (OSError, ValueError) as error:  # nobody there, or no address at all
            raise SeislatentError(f"no Dask scheduler answers at {scheduler}: {error}; give --scheduler tcp://HOST:PORT") from error
        try:
            given = client.scatter(shared, broadcast=True, hash=False)
            count = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
            waiting = iter(pieces)
            first = [client.submit(work, given, *task(piece), pure=False) for piece in islice(waiting, AHEAD * count)]
            done = as_completed(first)
            for job in done:
                yield job.result()
                for piece in islice(waiting, 1):
                    done.add(client.submit(work, given, *task(piece), pure=False))
        except KilledWorker as error:
            raise SeislatentError(
                "a process died again and again, most often for want of memory: the same command goes on, with fewer --workers"
            ) from error
