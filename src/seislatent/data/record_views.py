"""Two views of each record: the same rows of a store, each cut, augmented and scaled twice with dice of its own.

    rows of a step --dice (seed, step)--> x, --dice (seed, step, 1)--> target

The dice of one view are those of `record_batches`, so that x is the batch which that dataset gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seislatent.batch import Batch
from seislatent.data.record_batches import RecordBatches, RecordBatchesConfig, SharedDice
from seislatent.data.sampling import BalanceConfig
from seislatent.errors import SeislatentError
from seislatent.prepare.augment import Dice


class RecordViews:
    """Batches whose `x` and `target` are two views of the same records.

    Args:
        config: as of `RecordBatches`; `augment` says in what views may differ, and `target` stays empty.
        folders: the stores.
        batch: records of a step, over all processes.
        seed: of everything that is drawn.

    Raises:
        SeislatentError: as `RecordBatches`; nothing makes the views differ.
    """

    Config = RecordBatchesConfig

    def __init__(self, config: RecordBatchesConfig, folders: Sequence[Path], *, batch: int, seed: int) -> None:
        if config.target:
            raise SeislatentError("the target of record_views is the second view: leave `target` empty")
        self.config = config
        self.records = RecordBatches(config, folders, batch=batch, seed=seed)
        if not self.records.chain and config.start != "random":
            raise SeislatentError("views that are the same teach nothing: set `augment`, such as augment.rotated 1")

    @property
    def steps(self) -> int:
        """Steps after which each record has come once, where nothing is balanced."""
        return self.records.steps

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, step: int, rank: int, world: int) -> Batch:
        """The share of process `rank` of `world` in the records of a step."""
        share = self.records.sampler.take(step, rank, world)

        def dice(*key: int) -> SharedDice:
            return SharedDice(np.random.default_rng([self.records.seed, *key]), share.first, len(share.rows), share.among)

        return self._both(share.rows, dice(step), dice(step, 1), share.group)

    def of(self, split: str) -> RecordViews:
        """Views of the records of another split, augmented as these are, not balanced."""
        config = replace(self.config, split=split, balance=BalanceConfig())
        return RecordViews(config, self.records.folders, batch=self.records.size, seed=self.records.seed)

    def once(self) -> Iterator[Batch]:
        """Every record once, in the stores' order; the views are the same each time."""
        for first in range(0, len(self), self.records.size):
            rows = np.arange(first, min(first + self.records.size, len(self)))
            key = [self.records.seed, 2**32 + first]
            yield self._both(rows, np.random.default_rng(key), np.random.default_rng([*key, 1]))

    def _both(self, rows: NDArray[np.int64], one: Dice, other: Dice, group: NDArray[np.int64] | None = None) -> Batch:
        first, second = self.records.make(rows, one, group), self.records.make(rows, other)
        return replace(first, target=second.x)
