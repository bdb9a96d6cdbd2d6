"""Which records a step takes: a pure function of the step, so that nothing of it need be saved."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any, Protocol

from torch.utils.data import DataLoader, Dataset

from seislatent.batch import Batch


class Batches(Protocol):
    """Records by step."""

    def batch(self, step: int, rank: int, world: int) -> Batch:
        """The share of process `rank` of `world` in the records of a step: a pure function of its arguments."""
        ...


class Steps(Dataset[list[Batch]]):
    """By step, the parts of one process's share; `parts` of them on each process are as many more processes."""

    def __init__(self, batches: Batches, rank: int, world: int, parts: int):
        self.batches, self.rank, self.world, self.parts = batches, rank, world, parts

    def __getitem__(self, step: int) -> list[Batch]:
        first, among = self.rank * self.parts, self.world * self.parts
        return [self.batches.batch(step, first + i, among) for i in range(self.parts)]


def ordered(steps: Steps, start: int, stop: int, workers: int) -> Iterable[list[Batch]]:
    """Parts of the steps from `start` to before `stop`, read ahead by `workers` processes."""
    if not workers:
        return (steps[step] for step in range(start, stop))
    return DataLoader(
        steps, batch_size=None, sampler=range(start, stop), num_workers=workers, collate_fn=as_it_is, worker_init_fn=obey
    )


def as_it_is(x: Any) -> Any:
    """No collation: batches come whole."""
    return x


def obey(worker: int) -> None:
    """Workers leave when the training process says so, not on the user's Ctrl-C, and do not inherit its way of leaving."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
