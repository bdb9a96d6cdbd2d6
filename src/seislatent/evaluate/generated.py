"""Records of one shape for the question `generate`, and the draws made for them.

records of a split --one rate, length, quantity; Z and two horizontals--> RealRecords --sample or draw--> [record draw channel time]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from seislatent.data.records import Records, open_records
from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.broadband import Circumstances
from seislatent.evaluate.pairs import split_rows
from seislatent.prepare.motion import QUANTITIES, motion_of
from seislatent.signal.filters import demean, differentiate

ORDER = "ZNRE1T23"
UNITS = ("m", "m/s", "m/s^2")
SILENT = 1e-12
"""A component is dead where it moves by less than this share of the record's peak."""


@dataclass(frozen=True, kw_only=True)
class RealRecords:
    """Records alike in rate, length and quantity, without their mean."""

    x: Float[Tensor, "record 3 time"]
    """In SI units where all tell how, else each divided by its own peak."""
    table: pd.DataFrame
    events: NDArray[Any]
    rate_hz: float
    quantity: str | None
    """displacement, velocity or acceleration; None where nobody says."""
    physical: bool
    """False where each record is divided by its peak, so that levels are not judged."""
    left_out: dict[str, int]

    @property
    def unit(self) -> str:
        """Of the motion in SI; that of velocity where nobody says what it is."""
        return UNITS[QUANTITIES.index(self.quantity)] if self.quantity in QUANTITIES else "m/s"

    @property
    def names(self) -> list[str]:
        """Of the records."""
        given = self.table["trace_name"] if "trace_name" in self.table else pd.Series(range(len(self.table)))
        return [str(name) for name in given]

    def circumstances(self) -> Circumstances:
        """What a baseline may know."""
        scale = np.full(len(self.x), 1.0 if self.physical else np.nan)
        return Circumstances(table=self.table, samples=self.x.shape[-1], sampling_rate_hz=self.rate_hz, unit=self.unit, scale=scale)

    def acceleration(self, x: Tensor) -> Tensor:
        """Motion [... time] as acceleration."""
        times = 2 - QUANTITIES.index(self.quantity) if self.quantity in QUANTITIES else 0  # type: ignore[arg-type]
        y = x.double().cpu().numpy()
        for _ in range(times):
            y = differentiate(y, self.rate_hz)
        return torch.from_numpy(y)


def records_of(
    data: str | Path | Sequence[str | Path], split: str, most: int, by_peak: bool, like: RealRecords | None = None
) -> RealRecords:
    """The commonest kind of records of a split (or those like others), `most` of them at most, evenly taken.

    Raises SeislatentError: no record, an empty split, or none of three live components.
    """
    opened = open_records(data)
    rows, table, label = split_rows(opened.metadata, split)
    if len(rows) > most:
        some = np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))
        rows, table, label = rows[some], table.iloc[some].reset_index(drop=True), label[some]
    found, left = _live(opened, rows)
    wanted = _kind(like) if like is not None else None
    kinds = Counter(kind for _, kind, _ in found.values())
    if wanted is None and kinds:
        wanted = kinds.most_common(1)[0][0]
    chosen = [i for i, (_, kind, _) in found.items() if kind == wanted]
    if len(chosen) < 4:
        why = "; ".join(f"{text}: {count}" for text, count in left.items())
        raise SeislatentError(
            f"{len(chosen)} records of one rate, length and quantity in split '{split}' ({why or 'none left out'})"
        )
    if len(found) > len(chosen):
        left["another rate, length or quantity"] = len(found) - len(chosen)
    assert wanted is not None
    sizes = [found[i][2] for i in chosen]
    physical = not by_peak and all(size is not None for size in sizes) and (like is None or like.physical)
    x = np.stack([found[i][0] for i in chosen])
    level = np.array([1 / float(size or 1) for size in sizes]) if physical else np.abs(x).max((1, 2))
    return RealRecords(
        x=torch.from_numpy(x / level[:, None, None]), table=table.iloc[chosen].reset_index(drop=True), events=label[chosen],
        rate_hz=wanted[0], quantity=wanted[2], physical=physical, left_out=dict(left),
    )  # fmt: skip


def _kind(records: RealRecords) -> tuple[float, int, str | None]:
    return records.rate_hz, records.x.shape[-1], records.quantity


def _live(opened: Records, rows: NDArray[np.int64]) -> tuple[dict[int, Any], Counter[str]]:
    """By place among `rows`: samples [3 time], kind and size in SI of records that can be judged; and why others cannot."""
    left: Counter[str] = Counter()
    found: dict[int, Any] = {}
    for i, one in enumerate(opened.several(rows)):
        if isinstance(one, SeislatentError):
            left["cannot be read"] += 1
            continue
        if len(one.components) != 3 or "Z" not in one.components or one.data.dtype.kind not in "iuf":
            left["not three components with a vertical one"] += 1
            continue
        order = sorted(range(3), key=lambda k: ORDER.find(one.components[k]))
        x = one.data[order].astype(np.float64)
        if not np.isfinite(x).all():
            left["a sample that is no number"] += 1
            continue
        x = demean(x)
        top = np.abs(x).max(1)
        if not (top > SILENT * max(top.max(), 1e-300)).all():
            left["a dead component"] += 1
            continue
        motion = motion_of(one.unit, [channel.code for channel in one.channels])
        kind = (one.sampling_rate_hz, x.shape[-1], motion.quantity if motion else None)
        found[i] = (x, kind, motion.size if motion else None)
    return found, left


def drawn(model: Any, name: str, real: RealRecords, n: int, generator: torch.Generator) -> Float[Tensor, "record draw 3 time"]:
    """Draws for the conditions of every record.

    A Sampler names the columns that it wants as `conditions`; one without any draws as it likes. Raises SeislatentError where a
    column is missing, or draws have another shape, another rate or no numbers.
    """
    rate = getattr(model, "sampling_rate_hz", real.rate_hz)
    if rate != real.rate_hz:
        raise SeislatentError(f"{name} draws at {rate:g} Hz and the records are at {real.rate_hz:g} Hz: give records at its rate")
    records = len(real.x)
    if hasattr(model, "draw"):
        made = model.draw(real.circumstances(), n, generator)
    else:
        wanted = tuple(getattr(model, "conditions", ()))
        condition = _conditions(real.table, wanted, name) if wanted else None
        with torch.inference_mode():
            made = model.sample(condition, n if wanted else n * records, generator)
        made = made.reshape(records, n, *made.shape[2:]) if not wanted else made
    made = made.detach().double().cpu()
    shape = (records, n, *real.x.shape[1:])
    if tuple(made.shape) != shape:
        raise SeislatentError(
            f"{name} gave draws of shape {tuple(made.shape)} where {shape} were asked for [record draw channel time]"
        )
    if not made.isfinite().all() or not (made.abs().amax(-1) > 0).all():
        raise SeislatentError(f"{name} gave draws that are silent or hold no numbers: they cannot be judged")
    made = made - made.mean(-1, keepdim=True)
    return made if real.physical else made / made.abs().amax((-2, -1), keepdim=True)


def _conditions(table: pd.DataFrame, wanted: Sequence[str], name: str) -> Tensor:
    for column in wanted:
        if column not in table or pd.to_numeric(table[column], errors="coerce").isna().any():
            raise SeislatentError(f"{name} draws for given {column}, which some of these records do not tell: leave those out")
    return torch.tensor(table[list(wanted)].apply(pd.to_numeric).to_numpy(np.float32))
