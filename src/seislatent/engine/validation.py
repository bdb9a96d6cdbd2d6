"""What a system is worth on records that it does not learn from: means of its own measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch

from seislatent.batch import Batch
from seislatent.engine.recipe import Recipe
from seislatent.systems.base import System


class Records(Protocol):
    """Records that are not for learning."""

    def once(self) -> Iterator[Batch]:
        """Every record once, in batches, the same each time."""
        ...


class Validation:
    """Means over records of what `System.measures` gives, and `loss`, the weighed sum of those that are loss terms."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def __call__(self, system: System) -> dict[str, float]:
        """The means by name."""
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        device = next(system.parameters()).device
        for batch in self.records.once():
            for name, values in system.measures(batch.to(device)).items():
                sums[name] = sums.get(name, 0.0) + float(values.double().sum())
                counts[name] = counts.get(name, 0) + values.numel()
        means = {name: sums[name] / counts[name] for name in sums if counts[name]}
        weights: Mapping[str, Any] = getattr(system.config, "weights", {})
        if weights and weights.keys() <= means.keys():
            means["loss"] = sum(weight * means[name] for name, weight in weights.items())
        return means


def calibrated(system: System, records: Records, recipe: Recipe) -> dict[str, Any]:
    """Lets a system set what is measured rather than learnt (`System.calibrate`), and returns what it tells about it."""
    torch.manual_seed(recipe.seed)
    with torch.no_grad():
        return system.eval().calibrate(records.once)
