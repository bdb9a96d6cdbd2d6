"""How far a mean would move with other events: records of one event are alike, so it is events that are drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS, SHARE, SEED = 1000, 0.95, 0
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Summary:
    """A mean over values and how sure it is."""

    mean: float
    std: float
    """Of the values, not of the mean."""
    low: float | None
    """The 95 % interval of the mean starts here; None with fewer than two events."""
    high: float | None

    def plain(self) -> dict[str, Any]:
        """As in report.json."""
        return asdict(self)


def summary(values: Sequence[float] | NDArray[Any], events: Sequence[Any] | NDArray[Any]) -> Summary:
    """Mean and standard deviation (divided by n) of values, and the mean's 95 % interval when whole events are drawn again.

    Percentile bootstrap (Efron and Tibshirani 1993, chapter 13) of 1000 draws of as many events as there are, with a fixed seed.

    Args:
        values: one per record, trace or window; at least one.
        events: the event of each.
    """
    x = np.asarray(values, np.float64)
    low, high = interval(x, np.asarray(events))
    return Summary(float(x.mean()), float(x.std()), low, high)


def interval(x: NDArray[np.float64], events: NDArray[Any]) -> tuple[float | None, float | None]:
    """The ends of the interval of the mean, None where there are fewer than two events."""
    _, label = np.unique(events, return_inverse=True)
    number = int(label.max()) + 1
    if number < 2:
        return None, None
    sums, counts = np.bincount(label, x), np.bincount(label).astype(float)
    generator, means = np.random.default_rng(SEED), []
    step = max(1, _AT_ONCE // number)
    for at in range(0, DRAWS, step):
        times = generator.multinomial(number, np.full(number, 1 / number), size=min(step, DRAWS - at))
        means.append(times @ sums / (times @ counts))
    low, high = np.quantile(np.concatenate(means), [0.5 - SHARE / 2, 0.5 + SHARE / 2])
    return float(low), float(high)
