"""Groups of records, of a random number each: `record_batches` that come in groups when they are judged too.

    rows of a step --whole groups, `per_group` records of each--> x, `group`

The number of groups may be small (two sources, thousands of records): each group of a batch is a draw of its own among the records
of its source, so that one source stands in a batch as often as there is room, each time with other records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from seislatent.batch import Batch
from seislatent.data.record_batches import RecordBatches, RecordBatchesConfig
from seislatent.data.sampling import BalanceConfig
from seislatent.errors import SeislatentError
from seislatent.prepare.augment import AugmentConfig


class RecordGroups:
    """Batches of groups.

    Args:
        config: as of `RecordBatches`; `group` must name a column, and `per_group` how many records of one come at a time.
        folders: the stores.
        batch: records of a step at most, over all processes: as many groups as fit with the largest number.
        seed: of everything that is drawn.

    Raises:
        SeislatentError: as `RecordBatches`; no column is named.
    """

    Config = RecordBatchesConfig

    def __init__(self, config: RecordBatchesConfig, folders: Sequence[Path], *, batch: int, seed: int) -> None:
        if not config.group:
            raise SeislatentError("record_groups needs the column that makes records a group: set `group`, such as source_id")
        self.config = config
        self.records = RecordBatches(config, folders, batch=batch, seed=seed)

    @property
    def steps(self) -> int:
        """Steps after which each group has come once."""
        return self.records.steps

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, step: int, rank: int, world: int) -> Batch:
        """The groups of process `rank` of `world` at a step."""
        return self.records.batch(step, rank, world)

    def of(self, split: str) -> RecordGroups:
        """Groups of another split of the same stores, neither augmented nor balanced."""
        config = replace(self.config, split=split, augment=AugmentConfig(), balance=BalanceConfig())
        return RecordGroups(config, self.records.folders, batch=self.records.size, seed=self.records.seed)

    def once(self) -> Iterator[Batch]:
        """Groups drawn at random, the same each time, until there were as many records as the split has, or a few more."""
        step = seen = 0
        while seen < len(self.records):
            batch = self.records.batch(step, 0, 1)
            step, seen = step + 1, seen + len(batch.x)
            yield batch
