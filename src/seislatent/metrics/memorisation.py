"""Memorisation: do generated records lie nearer to training records than unseen real ones do?

    generated, held out [record component time] --best lag and scale--> distance to the nearest training record --> one-sided test

The distance of two records is what remains of one after the other has been shifted, scaled and taken from it, sqrt(1 - max over
lags of c^2), with c their correlation over all components together: 0 for a copy (later, louder or of turned polarity), 1 for
records without likeness. The test is that of Mann and Whitney, as in Meehan et al. 2020, with whole events exchanged. Blind to
copies of parts (one component, the coda alone) and to copies stretched in time or filtered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.metrics.points import (
    CHUNK,
    Labels,
    centred,
    checked_generator,
    checked_sets,
    nearest,
    permutation_p_value,
    permuted_labels,
)

Neighbours = tuple[Float[Tensor, " record"], Int[Tensor, " record"]]


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """Nearest training records, and whether generated ones stand nearer to them than held-out ones do."""

    generated: Float[Tensor, " record"]
    """Distance of each generated record to its nearest training record."""
    neighbour: Int[Tensor, " record"]
    """Index of that training record."""
    held_out: Float[Tensor, " other"]
    """The same distance of each held-out record."""
    rank: Float[Tensor, " record"]
    """(1 + held-out records at least as near) / (1 + held-out records), 0 to 1: small for a generated record that looks copied. A
    p-value of each record by itself where held-out records are independent."""
    nearer: float
    """Probability that a generated record is nearer than a held-out one, ties by half: 0.5 without memory, 1 where all are
    nearer."""
    p_value: float
    """One-sided: the share of exchanges of events with as large a `nearer`, the given one counted."""


@torch.no_grad()
def memorisation(
    generated: Float[Tensor, "record component time"],
    held_out: Float[Tensor, "other component time"],
    training: Float[Tensor, "known component time"],
    sampling_rate_hz: float,
    generator: torch.Generator,
    *,
    max_shift_s: float,
    candidates: int | None = None,
    permutations: int = 999,
    events: Labels | None = None,
    held_out_events: Labels | None = None,
) -> Memorisation:
    """The test on waveforms after alignment by one lag (up to `max_shift_s` either way, half of the record at most) and one scale
    for all components.

    All pairs are aligned, in float64 on the device of the records: some 0.1 ms per pair of 3 x 2048 samples on one core.
    `candidates` aligns only the training records of most alike amplitude spectra, among which a copy is, whatever its shift;
    distances to the others are not looked at, for both sets alike. `events` are those the generated records were made for;
    held-out events must not be in the training set.

    Raises SeislatentError where shapes differ, a record is silent or not finite, or fewer than two events can be exchanged.
    """
    sets = [_records(v, name) for v, name in ((generated, "generated"), (held_out, "held out"), (training, "training"))]
    if len({v.shape[1:] for v in sets}) > 1 or not (0 < sampling_rate_hz < math.inf and 0 <= max_shift_s < math.inf):
        raise SeislatentError(
            f"records of shapes {[tuple(v.shape) for v in sets]} at {sampling_rate_hz} Hz with shifts up to {max_shift_s} s: give"
            " the same components and samples at one positive rate, and a shift of 0 or more"
        )
    lag = min(int(max_shift_s * sampling_rate_hz + 1e-6), sets[0].shape[2] // 2)
    if candidates is not None and candidates < 1:
        raise SeislatentError(f"{candidates} candidates per record: give one at least, or None for all")
    return _test(
        lambda x: aligned_nearest(x, sets[2], lag, candidates), sets[0], sets[1], generator, permutations, events, held_out_events
    )


@torch.no_grad()
def memorisation_of_features(
    generated: Float[Tensor, "record feature"],
    held_out: Float[Tensor, "other feature"],
    training: Float[Tensor, "known feature"],
    generator: torch.Generator,
    *,
    permutations: int = 999,
    events: Labels | None = None,
    held_out_events: Labels | None = None,
) -> Memorisation:
    """The same test with Euclidean distances of features, in their unit. Raises SeislatentError as `memorisation`."""
    (x, y, z), shape = checked_sets(generated, held_out, training, names=("generated", "held out", "training"))
    if shape:
        raise SeislatentError(f"one set at a time, not {shape}: give [record feature]")
    known, made, unseen = centred(z[0], x[0], y[0])

    def search(points: Tensor) -> Neighbours:
        distances, indices = nearest(points, known)
        return distances[:, 0], indices[:, 0]

    return _test(search, made, unseen, generator, permutations, events, held_out_events)


def aligned_nearest(
    x: Float[Tensor, "record component time"], known: Float[Tensor, "known component time"], lag: int, candidates: int | None = None
) -> Neighbours:
    """Distance after alignment and index of the nearest known record; both sets of unit energy (float64), `lag` in samples."""
    size = 1 << (x.shape[2] + lag - 1).bit_length()
    there, energy = torch.fft.rfft(known, size).conj().resolve_conj(), _overlapping(known, lag).flip(1)
    best, index = [], []
    # on a CPU as many records as stay in its cache
    most = max(1, (CHUNK if x.is_cuda else 3 << 16) // (known.shape[1] * size))
    for one, own in zip(x, _overlapping(x, lag), strict=True):
        here = torch.fft.rfft(one, size)
        chosen = _likely(here, there, candidates)
        found, at = -1.0, 0
        for i in range(0, len(chosen), most):
            some = chosen[i : i + most]
            those = slice(i, i + len(some)) if candidates is None else some  # a slice copies nothing
            correlation = torch.fft.irfft((there[those] * here).sum(1), size)
            near = torch.cat([correlation[:, size - lag :], correlation[:, : lag + 1]], 1)  # lags from -lag to lag
            shared = (own * energy[those]).sqrt()
            # where next to nothing overlaps there is nothing to be alike
            near = torch.where(shared > 1e-6, near.abs() / shared, 0.0).amax(1)
            j = int(near.argmax())
            if float(near[j]) > found:
                found, at = float(near[j]), int(some[j])
        best.append(found)
        index.append(at)
    c = torch.tensor(best, dtype=torch.float64, device=x.device)
    return ((1 - c) * (1 + c)).clamp(min=0).sqrt(), torch.tensor(index, device=x.device)


def _overlapping(x: Tensor, lag: int) -> Float[Tensor, "record shift"]:
    """Energy of the samples that overlap a record shifted by -lag to lag: from the first sample on, or up to the last."""
    n = x.shape[2]
    before = torch.nn.functional.pad(x.square().sum(1).cumsum(1), (1, 0))
    at = torch.arange(-lag, lag + 1, device=x.device)
    return before[:, n + at.clamp(max=0)] - before[:, at.clamp(min=0)]


def _likely(here: Tensor, there: Tensor, candidates: int | None) -> Tensor:
    """Known records by falling bound of their correlation: the correlation were all phases to agree."""
    if candidates is None or candidates >= len(there):
        return torch.arange(len(there), device=there.device)
    bound = torch.cat([torch.einsum("kcf,cf->k", v.abs(), here.abs()) for v in there.split(256)])
    return bound.topk(candidates).indices


def _records(x: Tensor, name: str) -> Tensor:
    """Records about zero mean and of unit energy over all components, in float64."""
    if x.ndim != 3 or not x.numel():
        raise SeislatentError(f"{name}: records are [record component time], not of shape {tuple(x.shape)}")
    y = x.to(torch.float64)
    if not torch.isfinite(y).all():
        bad = (~torch.isfinite(y).flatten(1).all(1)).nonzero()[:, 0]
        raise SeislatentError(f"{name}: {len(bad)} records hold NaN or infinity (first: record {int(bad[0])}): leave them out")
    level = y.abs().amax((1, 2), keepdim=True)
    y = y / torch.where(level > 0, level, 1.0)
    y = y - y.mean(2, keepdim=True)
    norm = y.square().sum((1, 2), keepdim=True).sqrt()
    if not (norm > 1e-12).all():
        bad = (norm <= 1e-12).flatten().nonzero()[:, 0]
        raise SeislatentError(f"{name}: {len(bad)} records are silent or constant (first: record {int(bad[0])}): leave them out")
    return y / norm


def _test(
    search: Callable[[Tensor], Neighbours],
    made: Tensor,
    unseen: Tensor,
    generator: torch.Generator,
    permutations: int,
    events: Labels | None,
    held_out_events: Labels | None,
) -> Memorisation:
    if permutations < 1:
        raise SeislatentError(f"{permutations} permutations: a test needs one at least, 999 for a p-value of 0.001")
    sizes = (len(made), len(unseen))
    labels = permuted_labels(events, held_out_events, sizes, permutations, checked_generator(generator)).double()
    (x, neighbour), (y, _) = search(made), search(unseen)
    pool = torch.cat([x, y]).cpu()
    ordered, back = pool.unique(return_inverse=True)
    count = torch.bincount(back, minlength=len(ordered)).double()
    ranks = (count.cumsum(0) - (count - 1) / 2)[back]  # mean rank of equal distances
    first = labels.sum(0)
    second = len(pool) - first
    # Mann and Whitney's U over the number of pairs: how often one of the first set is the larger
    larger = (ranks @ labels - first * (first + 1) / 2) / (first * second)
    nearer = 1 - larger
    rank = (1 + (y.cpu()[None] <= x.cpu()[:, None]).double().sum(1)) / (1 + len(y))
    return Memorisation(
        generated=x, neighbour=neighbour, held_out=y, rank=rank.to(x.device), nearer=float(nearer[0]),
        p_value=permutation_p_value(nearer),
    )  # fmt: skip
