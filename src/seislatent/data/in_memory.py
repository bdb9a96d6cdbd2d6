"""Batches of records that are held in memory: for trainings of seconds, in which opening a store would take the longest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.batch import Batch
from seislatent.data.sampling import Sampler
from seislatent.errors import SeislatentError


class InMemory:
    """Records as one tensor, in batches: a pure function of seed and step, each record once per epoch, shuffled anew.

    Args:
        x: the records [record channel time], or features of records [record map frame].
        label: a number or class of each [record].
        batch: records of a step, over all processes.
        seed: of the order.

    Raises:
        SeislatentError: no record, or labels of another number.
    """

    def __init__(self, x: Float[Tensor, "record channel time"], label: Tensor, *, batch: int, seed: int) -> None:
        if len(x) != len(label):
            raise SeislatentError(f"{len(x)} records with {len(label)} labels: give one for each")
        self.x, self.label = x, label
        self.size = min(batch, len(x))
        self.sampler = Sampler(len(x), self.size, seed)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def steps(self) -> int:
        """Steps after which each record has come once."""
        return self.sampler.steps

    def batch(self, step: int, rank: int, world: int) -> Batch:
        """The share of process `rank` of `world` in the records of a step: x and label."""
        rows = torch.from_numpy(np.ascontiguousarray(self.sampler.take(step, rank, world).rows))
        return Batch(x=self.x[rows], label=self.label[rows])

    def once(self, size: int = 256) -> Iterator[Batch]:
        """Every record once, in order."""
        for x, label in zip(self.x.split(size), self.label.split(size), strict=True):
            yield Batch(x=x, label=label)
