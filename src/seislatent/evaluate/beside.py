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
from seislatent.evaluate.tally import EXACT_DB, Tally

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


def of_levels(tallies: Mapping[str, Tally], label: NDArray[Any], levels: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Differences of coders with as many levels: by level, of traces in `snr_db`, `eg` and `pg`, of records in `bits_per_sample`.

    Args:
        tallies: what each did.
        label: event of each record.
        levels: those that were asked for, by system.
    """
    found = []
    for one, other in couples(tallies):
        a, b = tallies[one], tallies[other]
        if len(a.points[0]) != len(b.points[0]) or list(levels[one]) != list(levels[other]):
            continue
        rows, more = _both(
            list(zip(a.trace_records, a.trace_rows, strict=True)), list(zip(b.trace_records, b.trace_rows, strict=True))
        )
        files, others = _both(a.file_records, b.file_records)
        if not len(rows):
            continue
        trace_event, file_event = label[np.array(a.trace_records)[rows]], label[np.array(a.file_records)[files]]
        points = []
        for level in levels[one]:
            point: dict[str, Any] = {"level": level}
            for measure in ("snr_db", "eg", "pg"):
                ours, theirs = a.values(measure, level)[rows], b.values(measure, level)[more]
                gap = np.where(np.maximum(ours, theirs) < EXACT_DB, ours - theirs, np.nan)  # what is exact has no ratio
                there = np.isfinite(gap)
                point[measure] = summary(gap[there], trace_event[there]).plain() if there.any() else None
            spent = a.file_bits(level)[files] - b.file_bits(level)[others]
            points.append(point | {"bits_per_sample": summary(spent, file_event).plain()})
        found.append({"system": one, "than": other, "points": points})
    return found


def _both(one: Sequence[Any], other: Sequence[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of what both hold."""
    there = {key: place for place, key in enumerate(other)}
    places = [(place, there[key]) for place, key in enumerate(one) if key in there]
    return tuple(np.array(places, np.int64).reshape(-1, 2).T)  # type: ignore[return-value]


def table(differences: Sequence[Mapping[str, Any]], heads: Mapping[str, str], caption: str, form: str = "+.3f") -> Table:
    """A row per pair; `heads` by measure."""
    there = {m: head for m, head in heads.items() if any(m in row for row in differences)}
    rows = [[row["system"], row["than"], *(_cell(row.get(m), form) for m in there)] for row in differences]
    return Table(heads=["system", "less", *there.values()], rows=rows, caption=caption)


def _cell(told: Mapping[str, Any] | None, form: str) -> str:
    if told is None:
        return "-"
    return format(told["mean"], form) + (f" [{told['low']:{form}}, {told['high']:{form}}]" if told["low"] is not None else "")
