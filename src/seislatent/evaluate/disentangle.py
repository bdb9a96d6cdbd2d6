"""Does a code hold the state (source, event) and nothing else, whatever the nuisance (path, station, noise)?

store of records --state, nuisance by columns--> Groups --codes--> invariance, retrieval, leak, normality, map
                                                        --redatum--> swap error, where records are crossed

Beside the systems stand what needs no learning: the record itself as its code, and stacks of the aligned group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from seislatent import __version__
from seislatent.errors import SeislatentError, unknown
from seislatent.evaluate.baselines.stacking import align, linear_stack, phase_weighted_stack, shifted
from seislatent.evaluate.bootstrap import DRAWS, SHARE
from seislatent.evaluate.compress import chosen
from seislatent.evaluate.disentangle_page import page
from seislatent.evaluate.disentangle_scores import judge
from seislatent.evaluate.judged import command, having, places
from seislatent.evaluate.report import Report, may_write
from seislatent.systems.base import Disentangler, Embedder

SHIFT_SHARE = 0.125
"""Of a record's length: the largest shift by which a stack aligns."""


class RawWaveform(Embedder):
    """The record as its own code: what a code must beat."""

    name = "baseline/raw_waveform"

    def embed(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch latent"]:
        """All samples in a row."""
        return x.flatten(1)


class LinearStack(Disentangler):
    """Coherent is the mean of the aligned group; nuisance is each record's shift, and what the shifted mean leaves of it."""

    name = "baseline/linear_stack"

    def codes(
        self, x: Float[Tensor, "batch channel time"], group: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch coherent"], Float[Tensor, "batch nuisance"]]:
        """Groups are aligned by themselves, then their stacks on each other, so that stacks of one state lie alike."""
        self.shape = x.shape[1:]
        most = max(1, int(SHIFT_SHARE * x.shape[-1]))
        numbers, where = group.unique(return_inverse=True)
        stacks, lag = [], x.new_zeros(len(x))
        for k in range(len(numbers)):
            if int((where == k).sum()) == 1:
                stacks.append(x[where == k][0])
                continue
            found = align(x[where == k], 1.0, max_shift_s=most)
            stacks.append(self.stack(found.records))
            lag[where == k] = found.shift_s.to(lag)
        together = align(torch.stack(stacks), 1.0, max_shift_s=most)
        lag = lag + together.shift_s.to(lag)[where]
        coherent = together.records[where]
        rest = x - shifted(coherent, lag)
        return coherent.flatten(1), torch.cat([lag[:, None], rest.flatten(1)], 1)

    def stack(self, records: Float[Tensor, "record channel time"]) -> Float[Tensor, "channel time"]:
        """Of an aligned group."""
        return linear_stack(records)

    def redatum(
        self, coherent: Float[Tensor, "batch coherent"], nuisance: Float[Tensor, "batch nuisance"]
    ) -> Float[Tensor, "batch channel time"]:
        """The stack, shifted, and what was left."""
        return shifted(coherent.unflatten(1, self.shape), nuisance[:, 0]) + nuisance[:, 1:].unflatten(1, self.shape)


class PhaseWeightedStack(LinearStack):
    """The same with the phase-weighted stack."""

    name = "baseline/phase_weighted_stack"

    def stack(self, records: Float[Tensor, "record channel time"]) -> Float[Tensor, "channel time"]:
        """Of an aligned group."""
        return phase_weighted_stack(records)


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Records of one layout with what is told of them, all on the CPU."""

    x: Float[Tensor, "record channel time"]
    """Each over its own standard deviation, without its mean."""
    sampling_rate_hz: float
    state: NDArray[np.int64]
    """[record], a number per name in `states`."""
    states: list[str]
    nuisance: dict[str, NDArray[Any]]
    """By column: numbers (float64) or names."""
    event: NDArray[Any]
    group: NDArray[np.int64]
    """[record], records of one state; every state of four records or more has two groups at least."""

    @property
    def crossing(self) -> NDArray[Any] | None:
        """The first nuisance that is a name: records of one name have the same nuisance."""
        return next((v for v in self.nuisance.values() if v.dtype.kind != "f"), None)


def disentangle(
    systems: Sequence[Any],
    data: str | Path | Sequence[str | Path],
    split: str = "test",
    out: str | Path | None = None,
    *,
    state: str = "source_id",
    nuisance: str | Sequence[str] = "station_code",
    group: int = 8,
    most: int = 2000,
    seed: int = 0,
    overwrite: bool = False,
) -> Report:
    """As `seislatent.evaluate`.

    Args:
        systems: Embedders (a code per record) or Disentanglers (a coherent code per group, a nuisance code per record).
        data: folder or file of records, or several.
        split: as elsewhere.
        out: folder of the report.
        state: column that names what records of a group share.
        nuisance: columns, several in a list or with commas between, of what changes within a group: numbers, or names. Records
            with the same name in the first column of names are taken to have the same nuisance.
        group: records of a group, about.
        most: records at most, drawn at random.
        seed: of these draws, of groups, swaps and folds.
        overwrite: replace a report in `out`.
    """
    if out is not None:
        may_write(out, overwrite)
    named = having(systems, (Disentangler, Embedder), "give codes")
    columns = nuisance.split(",") if isinstance(nuisance, str) else list(nuisance)
    if group < 2 or most < 4:
        raise SeislatentError(f"groups of {group} among {most} records: give 2 or more, and 4 or more")
    groups, skipped = gathered(data, split, state, columns, group, most, seed)
    judged = {name: judge(name, system, groups, seed) for name, system in named.items()}
    options = dict(state=state, nuisance=",".join(columns), group=group, most=most, seed=seed)
    result = {
        "question": "disentangle",
        "records": len(groups.x),
        "events": len(np.unique(groups.event)),
        "states": len(groups.states),
        "groups": len(np.unique(groups.group)),
        "samples": groups.x.shape[-1],
        "sampling_rate_hz": groups.sampling_rate_hz,
        **options,
        "systems": {name: one.told for name, one in judged.items()},
        "skipped": dict(sorted(skipped.items())),
        "data": places(data),
        "split": split,
        "interval": {"share": SHARE, "draws": DRAWS, "drawn": "events"},
        "version": __version__,
        "command": command("disentangle", named, data, split, out, **options),
    }
    report = page(result, judged, groups)
    if out is not None:
        report.write(out, overwrite)
    return report


def gathered(
    data: str | Path | Sequence[str | Path], split: str, state: str, nuisance: Sequence[str], size: int, most: int, seed: int
) -> tuple[Groups, Counter[str]]:
    """The records of a split that can be judged together, and why others were left out.

    Raises:
        SeislatentError: a column that is not there, or fewer than two states of two records.
    """
    records, event = chosen(data, split)
    table = records.metadata
    for column in (state, *nuisance):
        if column not in table:
            raise SeislatentError(unknown("column", column, map(str, table.columns)))
    draw = np.random.default_rng(seed)
    rows = np.sort(draw.permutation(len(records))[:most])
    skipped: Counter[str] = Counter()
    found: dict[Any, list[tuple[int, NDArray[np.float64]]]] = {}
    for i in rows:
        told = _usable(records, int(i), table, (state, *nuisance))
        if isinstance(told, str):
            skipped[told] += 1
        else:
            found.setdefault(told[0], []).append((int(i), told[1]))
    layout = max(found, key=lambda key: len(found[key]), default=None)
    if layout is None:
        raise SeislatentError(f"none of the {len(rows)} records can be judged: {_why(skipped)}")
    other = sum(map(len, found.values())) - len(found[layout])
    skipped.update({"another rate, length or components than most": other} if other else {})
    kept = [i for i, _ in found[layout]]
    names, number, counts = np.unique(table[state].iloc[kept].astype(str), return_inverse=True, return_counts=True)
    several = counts[number] > 1
    skipped.update({"alone in its state": int((~several).sum())} if not several.all() else {})
    kept = [i for i, more in zip(kept, several, strict=True) if more]
    if len(set(number[several])) < 2:
        raise SeislatentError(f"{len(set(number[several]))} states of two records in {state} ({_why(skipped)}): give two or more")
    names, number = np.unique(table[state].iloc[kept].astype(str), return_inverse=True)
    groups = Groups(
        x=torch.from_numpy(np.stack([x for (_, x), more in zip(found[layout], several, strict=True) if more])).float(),
        sampling_rate_hz=layout[0],
        state=number.astype(np.int64),
        states=[str(n) for n in names],
        nuisance={column: _column(table[column].iloc[kept]) for column in nuisance},
        event=event[kept],
        group=_groups(number, size, draw),
    )
    return groups, skipped


def _why(skipped: Counter[str]) -> str:
    return "; ".join(f"{reason}: {count}" for reason, count in skipped.items()) or "none left out"


def _usable(records: Any, i: int, table: Any, columns: Sequence[str]) -> str | tuple[Any, NDArray[np.float64]]:
    """The layout and the scaled samples of a record, or why it cannot be judged."""
    for column in columns:
        value = table[column].iloc[i]
        if value is None or value != value or str(value).strip() in ("", "<NA>"):
            return f"nothing in {column}"
    try:
        waveform = records[i]
    except SeislatentError:
        return "cannot be read"
    if waveform.data.dtype.kind not in "iuf" or not np.isfinite(waveform.data).all() or not waveform.data.size:
        return "values that are not finite"
    x = np.asarray(waveform.data, np.float64)
    x = x - x.mean(-1, keepdims=True)
    peak = np.abs(x).max()
    if not peak > 0:
        return "silent"
    x = x / peak
    return (waveform.sampling_rate_hz, waveform.components, x.shape[-1]), x / np.sqrt((x**2).mean())


def _column(values: Any) -> NDArray[Any]:
    """Numbers where the column is of floating point, names else: whole numbers are taken for names."""
    if values.dtype.kind == "f":
        return np.asarray(values, np.float64)
    return np.asarray(values.astype(str), dtype=str)


def _groups(state: NDArray[Any], size: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Each state's records in random order, dealt into groups of about `size`, two at least where it has four records."""
    group, next_ = np.zeros(len(state), np.int64), 0
    for k in np.unique(state):
        mine = draw.permutation(np.flatnonzero(state == k))
        for part in np.array_split(mine, max(len(mine) // size, 2 if len(mine) >= 4 else 1)):
            group[part] = next_
            next_ += 1
    return group
