"""Two systems on the same records: their difference with its interval.

Intervals of two systems side by side say little: both move with the events that are drawn. Here one draw of events serves both, and
what is drawn is the difference; where its interval leaves out 0, the two differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.evaluate.bootstrap import summary
from seislatent.evaluate.judged import Told, ends_of
from seislatent.evaluate.report import Table

NOTE = (
    "Differences are taken record by record, or draw by draw of the same events: where an interval leaves out 0, the two systems"
    " differ, whatever the intervals of each alone."
)


def couples(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each pair of systems once; the trivial ones stand for themselves."""
    return combinations([name for name in names if not name.startswith("trivial/")], 2)


def of_values(values: Mapping[str, Mapping[str, NDArray[np.float64]]], events: NDArray[Any]) -> list[dict[str, Any]]:
    """Mean differences of each pair's measures, a value per record; of the records where both have one.

    Args:
        values: by system and measure [record].
        events: of each record.
    """
    found = []
    for one, other in couples(values):
        row: dict[str, Any] = {"system": one, "than": other}
        for measure in (m for m in values[one] if m in values[other]):
            gap = values[one][measure] - values[other][measure]
            there = np.isfinite(gap)
            if there.any():
                row[measure] = summary(gap[there], events[there]).plain()
        found.append(row)
    return found


def of_draws(systems: Mapping[str, Mapping[str, Any]], measures: Sequence[str]) -> list[dict[str, Any]]:
    """Differences of measures that are no mean over records, such as an F1: each draw of events gives one.

    Args:
        systems: by system and measure what `judged.told` made of the same records.
        measures: which.
    """
    found = []
    for one, other in couples(systems):
        row: dict[str, Any] = {"system": one, "than": other}
        for measure in measures:
            a, b = systems[one].get(measure), systems[other].get(measure)
            if isinstance(a, Told) and isinstance(b, Told) and a["mean"] is not None and b["mean"] is not None:
                low, high = (None, None) if a["low"] is None else ends_of(a.drawn - b.drawn)
                row[measure] = {"mean": a["mean"] - b["mean"], "std": None, "low": low, "high": high}
        found.append(row)
    return found


def table(differences: Sequence[Mapping[str, Any]], heads: Mapping[str, str], caption: str, form: str = "+.3f") -> Table:
    """A row per pair; `heads` by measure."""
    there = {m: head for m, head in heads.items() if any(m in row for row in differences)}
    rows = [[row["system"], row["than"], *(_cell(row.get(m), form) for m in there)] for row in differences]
    return Table(heads=["system", "less", *there.values()], rows=rows, caption=caption)


def _cell(told: Mapping[str, Any] | None, form: str) -> str:
    if told is None:
        return "-"
    return format(told["mean"], form) + (f" [{told['low']:{form}}, {told['high']:{form}}]" if told["low"] is not None else "")
