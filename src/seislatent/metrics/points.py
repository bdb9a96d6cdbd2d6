"""Sets of points [record feature] as the measures of distributions take them: checked, compared in chunks, permuted by event."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seislatent.errors import SeislatentError

CHUNK = 1 << 24
"""Values of float64 worked on at once: 128 MiB."""

LARGEST = 1e150
"""What features may reach: beyond, squares leave the range of float64."""

Labels = Sequence[Any] | Tensor | np.ndarray[Any, Any]
"""One name or number per record: its event, its state, its station."""


def checked_sets(*sets: Tensor, names: Sequence[str], least: int = 1) -> tuple[list[Tensor], tuple[int, ...]]:
    """Sets [*set record feature] as [set record feature], and the shape `*set` they share.

    Raises SeislatentError where an axis is missing, leading axes or features differ, a value is not finite or records are fewer
    than `least`.
    """
    flat = []
    for points, name in zip(sets, names, strict=True):
        if points.ndim < 2:
            raise SeislatentError(f"{name}: features are [record feature], not of shape {tuple(points.shape)}")
        if points.is_complex():
            raise SeislatentError(f"{name}: features must be real, not {points.dtype}")
        if points.shape[:-2] != sets[0].shape[:-2] or points.shape[-1] != sets[0].shape[-1] or points.device != sets[0].device:
            raise SeislatentError(
                f"{name} of shape {tuple(points.shape)} on {points.device} cannot stand beside {names[0]} of shape"
                f" {tuple(sets[0].shape)} on {sets[0].device}: all axes but that of records must be the same"
            )
        if points.shape[-2] < least or not points.numel():
            raise SeislatentError(
                f"{name}: {points.shape[-2]} records of {points.shape[-1]} features in {math.prod(points.shape[:-2])} sets: at"
                f" least {least} records, one feature and one set are needed"
            )
        one = points.reshape(math.prod(points.shape[:-2]), *points.shape[-2:])
        bad = [int(i) for part in one for i in _rows_not_finite(part)]
        if bad:
            raise SeislatentError(
                f"{name}: {len(bad)} records hold NaN, infinity or more than {LARGEST:g}, whose square is none (first: record"
                f" {bad[0]}): leave them out"
            )
        flat.append(one)
    return flat, tuple(sets[0].shape[:-2])


def _rows_not_finite(points: Tensor) -> Tensor:
    step = _rows(points.shape[1])
    fine = torch.cat([(points[i : i + step].to(torch.float64).abs() <= LARGEST).all(1) for i in range(0, len(points), step)])
    return (~fine).nonzero()[:, 0]


def checked_labels(labels: Labels | None, records: int, what: str) -> Int[Tensor, " record"]:
    """Labels as whole numbers from 0 in the order of their sorted names, on the CPU; None: every record its own.

    Raises SeislatentError where their number differs from that of the records, or a label is NaN.
    """
    if labels is None:
        return torch.arange(records)
    names = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if names.shape != (records,):
        raise SeislatentError(f"{what}: labels of shape {names.shape} for {records} records: give one per record")
    missing = not np.isfinite(names).all() if names.dtype.kind == "f" else names.dtype.kind == "O" and any(v is None for v in names)
    if missing:
        raise SeislatentError(f"{what}: a label is missing (None or NaN): name it or leave the record out")
    return torch.from_numpy(np.unique(names, return_inverse=True)[1].reshape(-1))


def checked_generator(generator: torch.Generator) -> torch.Generator:
    """Raises SeislatentError for a generator that is not the CPU's: draws must not depend on the device."""
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise SeislatentError("give a torch.Generator of the CPU, such as torch.Generator().manual_seed(0)")
    return generator


def row_chunks(records: int, values_per_row: int) -> Iterator[slice]:
    """Slices of rows so that about CHUNK values are held at once."""
    step = _rows(values_per_row)
    for i in range(0, records, step):
        yield slice(i, min(i + step, records))


def _rows(values_per_row: int) -> int:
    return max(1, CHUNK // max(values_per_row, 1))


def squared_distances(x: Float[Tensor, "record feature"], y: Float[Tensor, "other feature"]) -> Float[Tensor, "record other"]:
    """Squared Euclidean distances of float64 points, by one matrix product; 0 at least.

    Rounding is about 1e-15 of the larger squared norm: centre both sets first (`centred`).
    """
    norms = [torch.linalg.vector_norm(v, dim=1).square() for v in (x, y)]  # squares of all features are never held
    return torch.addmm(norms[0][:, None] + norms[1], x, y.T, alpha=-2).clamp_(min=0)


def centred(*sets: Float[Tensor, "record feature"]) -> list[Float[Tensor, "record feature"]]:
    """The sets in float64 about the first one's mean: distances stay, rounding falls."""
    first = sets[0].to(torch.float64)
    mean = first.mean(0)
    return [first - mean, *(points.to(torch.float64) - mean for points in sets[1:])]


def nearest(
    x: Float[Tensor, "record feature"], y: Float[Tensor, "other feature"], k: int = 1, *, apart: tuple[Tensor, Tensor] | None = None
) -> tuple[Float[Tensor, "record k"], Int[Tensor, "record k"]]:
    """Distance and index of the `k` points of `y` nearest to each of `x`, nearest first; both float64.

    With `apart`, labels of x and of y: a point of the same label is no candidate (its distance is +inf where too few are left).
    """
    distances, indices = [], []
    for rows in row_chunks(len(x), len(y)):
        squared = squared_distances(x[rows], y)
        if apart is not None:
            squared.masked_fill_(apart[0][rows, None] == apart[1][None], math.inf)
        found = squared.topk(k, dim=1, largest=False)
        distances.append(found.values.sqrt())
        indices.append(found.indices)
    return torch.cat(distances), torch.cat(indices)


def permuted_labels(
    events: Labels | None, other_events: Labels | None, sizes: tuple[int, int], number: int, generator: torch.Generator
) -> Bool[Tensor, "record draw"]:
    """Which of the pooled records stand in the first set: as given in column 0, then `number` times with whole events exchanged.

    Events named in both sets change sides as pairs (the first set's part of the event for the second's, with probability 1/2);
    the events of one set only are shuffled among the two sets, so many on each side as before. With no labels every record is its
    own event. The permutation test this makes is exact where records of different events are independent and, for events of one
    set only, where the number of records per event does not tell the sets apart.

    Raises SeislatentError where fewer than two events can be exchanged.
    """
    n, m = sizes
    if (events is None) != (other_events is None):
        raise SeislatentError("events of one set only: give the events of both, or of neither")
    both = None if events is None or other_events is None else [*_plain(events, n), *_plain(other_events, m)]
    label = checked_labels(both, n + m, "events")
    first = torch.arange(n + m) < n
    inside = [torch.zeros(int(label.max()) + 1, dtype=torch.bool).index_fill(0, label[side], True) for side in (first, ~first)]
    paired = inside[0] & inside[1]
    single = (~paired).nonzero()[:, 0]
    if int(paired.sum()) < 2 and (len(single) < 2 or len(set(inside[0][single].tolist())) < 2):
        raise SeislatentError("fewer than two events can be exchanged between the sets: a permutation test needs more events")
    columns = [first]
    for _ in range(number):
        swap = (torch.rand(len(paired), generator=generator) < 0.5) & paired
        side = inside[0].clone()
        side[single] = inside[0][single[torch.randperm(len(single), generator=generator)]]
        columns.append(torch.where(paired[label], first ^ swap[label], side[label]))
    return torch.stack(columns, 1)


def _plain(labels: Labels, records: int) -> list[Any]:
    plain = labels.tolist() if isinstance(labels, (Tensor, np.ndarray)) else list(labels)
    if len(plain) != records:
        raise SeislatentError(f"events: {len(plain)} labels for {records} records: give one per record")
    return plain


def permutation_p_value(statistics: Float[Tensor, " draw"]) -> float:
    """Share of statistics at least as large as the first, itself counted: (1 + those of the permutations) / (1 + permutations)."""
    slack = 1e-12 * statistics.abs().max()  # equal labellings may differ by rounding
    return float((statistics >= statistics[0] - slack).double().mean())
