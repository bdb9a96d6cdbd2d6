"""Picks of files, folders, SDS trees and stores of any size, on one process or many, interrupted or not, with one result.

    archive --sensor by sensor, day by day, with its neighbourhood--> hours --sensors.joined--> arrivals --raw samples--> rows
    store   --record by record----------------------------------------------^

A day's part (or that of some records) is written beside the result as soon as it is done; a run that was killed goes on with what
is missing. Windows lie on one grid since 1970, so that a day picked by itself has the picks of the whole stream.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from seislatent.bulk.parts import parted
from seislatent.bulk.sensors import Notes, usable
from seislatent.bulk.sources import Piece, open_source
from seislatent.errors import SeislatentError
from seislatent.io.pick_files import COLUMNS, empty
from seislatent.prepare.quality import measure_many
from seislatent.signal.filters import Butterworth
from seislatent.systems.base import Annotator
from seislatent.systems.features.annotate import batch_of, windows
from seislatent.systems.features.arrivals import DISTANCE_S, Arrival, arrivals, chosen_thresholds
from seislatent.waveform import Waveform

AMPLITUDE_S, BEFORE_S, HIGHPASS_HZ = 4.0, 5.0, 1.0
"""The amplitude of a pick is the largest within so many s after it, above 1 Hz (causal Butterworth filter of order 2)."""
SLACK_S = 60.0
"""Beyond a window, what is read before and after a day: of filters and of peaks that are compared with their neighbours."""


@dataclass(frozen=True, kw_only=True)
class PickSettings:
    """How streams are picked."""

    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Probability from which on a peak is a pick, by phase; the picker's own where not given."""
    distance_s: float = DISTANCE_S
    """Between two picks of a phase at least, in s."""
    overlap: float | None = None
    """Of windows, in samples, or below 1 as a share; None for what the picker needs."""
    blinding: int | tuple[int, int] | None = None
    """Samples at the ends of windows that do not count; None for what the picker needs."""
    stacking: str = "max"
    """Where windows overlap: max or avg."""
    batch_size: int | None = None
    """Windows at once."""
    flexible: bool = True
    """Components 1 and 2 stand for N and E."""
    strict: bool = False
    """Only what has all three components."""
    instruments: tuple[str, ...] = ()
    """Band codes such as HH, the first choice first: of each station and day the first that there is. None: every sensor."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picked:
    """What became of a source."""

    table: pd.DataFrame
    """A row per pick, in order of time; columns of `io.pick_files.COLUMNS`."""
    notes: list[str]
    """What was left out, in lines."""
    hours: float
    """Of sensors, with samples."""
    about: dict[str, Any]
    """For files: method, version, thresholds, ..."""


def pick(
    model: Any,
    source: str | Path | Sequence[str | Path],
    settings: PickSettings | None = None,
    *,
    parts: str | Path | None = None,
    overwrite: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Picked:
    """Picks of everything in a source.

    Args:
        model: a loaded picker: `.system`, `.name`, `.digest`, `.version`.
        source: a waveform file, a folder of them (SDS too), a store or another set of records, or several of these.
        settings: how to pick.
        parts: folder for what is done, from which a run that was stopped goes on; it is taken away at the end by the caller, once
            the result is safe. None keeps nothing.
        overwrite: begin afresh, whatever the folder holds.
        workers: processes of this machine.
        scheduler: address of a Dask scheduler instead.
        progress: told how many pieces of how many are done.

    Raises:
        SeislatentError: no picker; nothing in the source can be picked; the folder of parts holds another run.
    """
    settings = settings or PickSettings()
    system = annotator_of(model)
    settings = replace(settings, thresholds=chosen_thresholds(system, settings.thresholds))
    windows(system, settings.overlap, settings.blinding)
    opened = open_source(source, settings.instruments)
    depends = [model.digest, asdict(replace(settings, batch_size=None))]
    found, notes = parted(
        _work, opened, (system.eval(), settings), depends, parts=parts, overwrite=overwrite, workers=workers, scheduler=scheduler,
        progress=progress,
    )  # fmt: skip
    about = {
        "method": f"{model.name}/{model.digest}", "version": model.version, "thresholds": dict(settings.thresholds),
    }  # fmt: skip
    hours = float(sum(one["hours"] for one in found))
    if not hours:
        told = "; ".join(notes[:3])
        raise SeislatentError(f"{opened.name}: nothing in it can be picked{': ' if told else ''}{told}")
    return Picked(table=table_of(row for one in found for row in one["rows"]), notes=notes, hours=hours, about=about)


def annotator_of(model: Any) -> Any:
    """The system of a model that gives probabilities of phases. Raises SeislatentError for any other."""
    if not isinstance(model.system, Annotator):
        raise SeislatentError(f"{model.name} is no picker of streams: load one, such as features/picker")
    return model.system


def table_of(rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """Rows in the order of `COLUMNS`, sorted by time."""
    listed = list(rows)
    if not listed:
        return empty()
    table = pd.DataFrame(listed, columns=list(COLUMNS)).astype({n: object if k == "str" else k for n, k in COLUMNS.items()})
    keys = ["time_ns", "network", "station", "location", "channel", "phase", "record"]
    return table.sort_values(keys, kind="stable", ignore_index=True)


# -- one piece --------------------------------------------------------------------------------------------------------------------


def _work(shared: tuple[Any, PickSettings], part: Any, piece: Piece) -> dict[str, Any]:
    """Picks of one piece: rows, notes, hours."""
    system, settings = shared
    notes, rows, hours = Notes(), [], 0.0
    if os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(1)
    context = round((windows(system, settings.overlap, settings.blinding).length / system.sampling_rate_hz + SLACK_S) * 1e9)
    for name, waveforms in part.waveforms(piece, context, notes):
        counted = _Counted(usable(waveforms, notes, settings.flexible, settings.strict), piece.begin_ns, piece.end_ns)
        for row in pick_rows(system, counted, settings, name):
            if piece.begin_ns is None or piece.begin_ns <= row[list(COLUMNS).index("time_ns")] < (piece.end_ns or 0):
                rows.append(row)
        hours += counted.hours
    return {"number": piece.number, "rows": rows, "notes": [*notes, *part.bad()], "hours": hours}


class _Counted:
    """Records on their way, with the hours that they last within the piece."""

    def __init__(self, records: Iterable[Waveform], begin_ns: int | None, end_ns: int | None):
        self.records, self.begin_ns, self.end_ns, self.hours = records, begin_ns, end_ns, 0.0

    def __iter__(self) -> Iterator[Waveform]:
        for one in self.records:
            begin, end = one.start_ns, one.start_ns + round(one.duration_s * 1e9)
            if self.begin_ns is not None and self.end_ns is not None:
                begin, end = max(begin, self.begin_ns), min(end, self.end_ns)
            self.hours += max(0, end - begin) / 3.6e12
            yield one


def pick_rows(system: Any, records: Iterable[Waveform], settings: PickSettings, name: str = "") -> Iterator[tuple[Any, ...]]:
    """Rows of `COLUMNS` of one sensor's records in order of time."""
    batch = batch_of(system, settings.batch_size)
    keep_s = (batch + 3) * system.samples / system.sampling_rate_hz + SLACK_S
    recent = _Recent(records, keep_s)
    for arrival in arrivals(
        system, recent, thresholds=settings.thresholds, distance_s=settings.distance_s, overlap=settings.overlap,
        blinding=settings.blinding, stacking=settings.stacking, batch_size=batch,
    ):  # fmt: skip
        channel, unit, amplitude, clipped = recent.measured(arrival)
        yield (
            name, channel.network, channel.station, channel.location, channel.code, arrival.phase, arrival.time_ns,
            arrival.probability, arrival.uncertainty_s, arrival.begin_ns, arrival.end_ns, amplitude, unit, clipped,
            settings.thresholds[arrival.phase],
        )  # fmt: skip


class _Recent:
    """Records on their way to the picker, the last of which are kept until their picks come out."""

    def __init__(self, records: Iterable[Waveform], keep_s: float):
        self.records, self.keep_ns = records, round(keep_s * 1e9)
        self.kept: deque[Waveform] = deque()

    def __iter__(self) -> Iterator[Waveform]:
        for one in self.records:
            self.kept.append(one)
            while self.kept and _end(self.kept[0]) < one.start_ns - self.keep_ns:
                self.kept.popleft()
            yield one

    def measured(self, arrival: Arrival) -> tuple[Any, str, float, bool]:
        """Channel, unit, amplitude after the pick (NaN where there are no samples) and whether it is clipped."""
        at = arrival.time_ns
        here = [w for w in self.kept if w.start_ns <= at < _end(w)] or [min(self.kept, key=lambda w: _away(w, at))]
        one = here[-1]
        wanted = "ZN" if arrival.phase.upper().startswith("P") else "N1E2Z"
        order = sorted(range(len(one.channels)), key=lambda k: (wanted + "?").find((one.components[k] + "?")[0]) % 9)
        x = self._around(one, at)
        if not np.isfinite(x).any():
            return one.channels[order[0]], one.unit or "", float("nan"), False
        rate = one.sampling_rate_hz
        flat = np.where(np.isfinite(x), x, np.nanmean(x, 1, keepdims=True) if np.isfinite(x).any(1).all() else 0.0)
        high = _highpass(rate)(flat - flat[:, :1])
        after = np.where(np.isfinite(x), np.abs(high), 0)[:, round(BEFORE_S * rate) :]
        return one.channels[order[0]], one.unit or "", float(after.max(initial=0)), _is_clipped(x, rate)

    def _around(self, one: Waveform, at_ns: int) -> NDArray[np.float64]:
        """Samples of the components of `one` from `BEFORE_S` before to `AMPLITUDE_S` after a time, NaN where there are none."""
        rate = one.sampling_rate_hz
        count, start = round((BEFORE_S + AMPLITUDE_S) * rate), at_ns - round(BEFORE_S * 1e9)
        x = np.full((len(one.channels), count), np.nan)
        for piece in self.kept:
            first = round((piece.start_ns - start) * rate / 1e9)
            low, high = max(first, 0), min(first + piece.data.shape[1], count)
            if high > low and abs(piece.sampling_rate_hz / rate - 1) < 1e-6:
                for k, component in enumerate(one.components):
                    if component in piece.components:
                        row = piece.components.index(component)
                        x[k, low:high] = piece.data[row, low - first : high - first]
        return x


@lru_cache(maxsize=64)
def _highpass(rate_hz: float) -> Butterworth:
    return Butterworth(kind="highpass", corners_hz=HIGHPASS_HZ, rate_hz=rate_hz, order=2, zero_phase=False)


def _is_clipped(x: NDArray[np.float64], rate: float) -> bool:
    """Whether a component has flat tops; asked only where an extreme value stands several times."""
    with np.errstate(invalid="ignore"):
        often = (x == np.nanmax(x, 1, keepdims=True)).sum(1).max() > 2 or (x == np.nanmin(x, 1, keepdims=True)).sum(1).max() > 2
    return bool(often) and bool((measure_many(x[None], rate, np.array([np.nan])).clipped_share > 0).any())


def _end(one: Waveform) -> int:
    return one.start_ns + round(one.duration_s * 1e9)


def _away(one: Waveform, at_ns: int) -> int:
    return max(one.start_ns - at_ns, at_ns - _end(one), 0)
