"""Disentanglement: does a code hold the state (source, event) and only the state, whatever the nuisance (path, station, noise)?

    swap        decode(state of record i, nuisance of record j) against the record that has both
    invariance  scatter of a code within one state beside its scatter between states
    retrieval   is the nearest code of the same state?
    leak        how well the nuisance is predicted from the code of the state by a probe, judged on other states

Every measure stands beside its trivial value: that of a code or decoder which knows nothing. Seed 003 and Bharadwaj et al. 2022
(the symmetric autoencoder) judge swaps by eye; on synthetic records (`data/coherent.py`) the truth of every swap is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seislatent.errors import SeislatentError, unknown
from seislatent.metrics.points import (
    Labels,
    centred,
    checked_generator,
    checked_labels,
    checked_sets,
    nearest,
    row_chunks,
    squared_distances,
)


@dataclass(frozen=True, kw_only=True)
class SwapError:
    """Error energy over the truth's energy, per record over all components: 0 exact, 1 as good as silence; float64."""

    error: Float[Tensor, " record"]
    state_donor: Float[Tensor, " record"]
    """Of the record that gave the state, taken as it is: the error of a decoder that ignores the nuisance code."""
    nuisance_donor: Float[Tensor, " record"]
    """Of the record that gave the nuisance: the error of a decoder that ignores the state's code."""

    @property
    def skill(self) -> Float[Tensor, " record"]:
        """1 - error / the best of silence and the two donors: 1 exact, 0 or less where nothing was learned (-inf where a donor is
        exact).
        """
        best = torch.minimum(self.state_donor, self.nuisance_donor).clamp(max=1)
        return torch.where(self.error == 0, 1.0, 1 - self.error / best)


@torch.no_grad()
def swap_error(
    swapped: Float[Tensor, "record component time"],
    truth: Float[Tensor, "record component time"],
    state_donor: Float[Tensor, "record component time"],
    nuisance_donor: Float[Tensor, "record component time"],
    sampling_rate_hz: float,
) -> SwapError:
    """Errors of swapped records against the true record of that state and nuisance.

    Blind to nothing in the waveform, so also strict about a shift that no one would see: align first where arrival times are no
    part of the claim. The sampling rate does not enter; every metric takes one. Raises SeislatentError where shapes differ, a
    value is not finite, or the truth is silent.
    """
    given = {"swapped": swapped, "truth": truth, "state donor": state_donor, "nuisance donor": nuisance_donor}
    for name, x in given.items():
        if x.shape != truth.shape or x.ndim != 3 or not x.numel():
            raise SeislatentError(
                f"{name} of shape {tuple(x.shape)} beside a truth {tuple(truth.shape)}: give [record component time]"
            )
        if not torch.isfinite(x).all():
            raise SeislatentError(f"{name}: a sample is NaN or infinite: leave such records out")
    y = truth.to(torch.float64).flatten(1)
    level = y.abs().amax(1, keepdim=True)
    if not (level > 0).all():
        raise SeislatentError(f"truth of record {int((level == 0).nonzero()[0, 0])} is silent: leave it out")
    energy = (y / level).square().sum(1)
    errors = [
        ((x.to(torch.float64).flatten(1) - y) / level).square().sum(1) / energy for x in (swapped, state_donor, nuisance_donor)
    ]
    return SwapError(error=errors[0], state_donor=errors[1], nuisance_donor=errors[2])


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """Variance of a code between states and within them; float64, in the unit of the code squared."""

    within: Float[Tensor, "*set latent"]
    """Of records of one state, where only the nuisance changes."""
    between: Float[Tensor, "*set latent"]
    """Of the states themselves, what `within` adds to the scatter of means taken away; 0 at least."""
    share: Float[Tensor, "*set"]
    """Within over within plus between, dimensions summed: 0 invariant, 1 (trivial) for a code that knows no state."""

    @property
    def share_per_latent(self) -> Float[Tensor, "*set latent"]:
        """The same of each dimension; 1 for a dimension that is constant."""
        total = self.within + self.between
        return torch.where(total > 0, self.within / torch.where(total > 0, total, 1.0), 1.0)


@torch.no_grad()
def invariance(codes: Float[Tensor, "*set record latent"], state: Labels) -> Invariance:
    """Components of variance by one-way analysis (Searle, Casella and McCulloch 1992, section 3.6), states of any number of
    records.

    Blind to the size of what changed: compare codes of records whose nuisance differs as much as it will in use. Raises
    SeislatentError for fewer than two states, no state of two records, or values not finite.
    """
    (sets,), shape = checked_sets(codes, names=("codes",), least=3)
    label = checked_labels(state, sets.shape[1], "state")
    sizes = torch.bincount(label)
    n, k = len(label), len(sizes)
    if k < 2 or n == k:
        raise SeislatentError(f"{n} records of {k} states: invariance needs two states, and one of them twice")
    typical = (n - float(sizes.square().sum()) / n) / (k - 1)
    values = []
    for one in sets:
        points = one.to(torch.float64)
        where, number = label.to(one.device), sizes.to(points)[:, None]
        points = points - points.mean(0)
        means = points.new_zeros(k, points.shape[1]).index_add_(0, where, points) / number
        inside = (points - means[where]).square().sum(0) / (n - k)
        across = (means.square() * number).sum(0) / (k - 1)
        values.append(torch.stack([inside, ((across - inside) / typical).clamp(min=0)]))
    within, between = torch.stack(values).reshape(*shape, 2, -1).unbind(-2)
    total = (within + between).sum(-1)
    if not (total > 0).all():
        raise SeislatentError("all codes are the same: nothing is invariant where nothing changes")
    return Invariance(within=within, between=between, share=within.sum(-1) / total)


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Whose code is nearest, per record that has another of its state among its candidates; means over records are accuracies."""

    correct: Bool[Tensor, " query"]
    """True where the nearest candidate is of the same state."""
    rank: Int[Tensor, " query"]
    """Place of the nearest candidate of the same state, from 1."""
    chance: Float[Tensor, " query"]
    """Share of candidates of the same state: the accuracy of a code that knows nothing (trivial value)."""
    query: Int[Tensor, " query"]
    """Index of the record asked for."""


@torch.no_grad()
def retrieval(
    codes: Float[Tensor, "record latent"],
    state: Labels,
    *,
    nuisance: Labels | None = None,
    distance: Literal["euclidean", "cosine"] = "euclidean",
) -> Retrieval:
    """For every record, the nearest other code. With `nuisance`, records of the same nuisance are no candidates: likeness of paths
    or stations then cannot help. Equal distances count against the code.

    Raises SeislatentError where no record has a candidate of its state, values are not finite, or a code is zero (cosine).
    """
    (sets,), shape = checked_sets(codes, names=("codes",), least=2)
    if shape:
        raise SeislatentError(f"one set of codes at a time, not {shape}: give [record latent]")
    points = _comparable(sets[0], distance)
    n = len(points)
    label = checked_labels(state, n, "state").to(points.device)
    other = checked_labels(nuisance, n, "nuisance").to(points.device)  # None: only the record itself is left out
    slack = 1e-14 * torch.linalg.vector_norm(points, dim=1).max().square()
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows in row_chunks(n, 6 * n):
        allowed = other[rows, None] != other[None]
        allowed[torch.arange(len(allowed)), torch.arange(rows.start, rows.stop)] = False
        same = (label[rows, None] == label[None]) & allowed
        squared = squared_distances(points[rows], points)
        best = torch.where(same, squared, math.inf).amin(1, keepdim=True)
        # rounding must not decide between equal distances
        before = (allowed & ~same & (squared <= best + slack)).sum(1)
        found.append((before + 1, same.sum(1), allowed.sum(1)))
    rank, alike, candidates = (torch.cat([part[i] for part in found]) for i in range(3))
    query = (alike > 0).nonzero()[:, 0]
    if not len(query):
        raise SeislatentError(
            "no record has another of its state among its candidates: give states with two records of other nuisance"
        )
    rank = rank[query]
    return Retrieval(correct=rank == 1, rank=rank, chance=alike[query].double() / candidates[query], query=query)


def _comparable(codes: Tensor, distance: str) -> Tensor:
    if distance == "euclidean":
        return centred(codes)[0]
    if distance != "cosine":
        raise SeislatentError(unknown("distance", distance, ("euclidean", "cosine")))
    points = codes.to(torch.float64)
    norm = torch.linalg.vector_norm(points, dim=1, keepdim=True)
    if not (norm > 0).all():
        raise SeislatentError(f"code {int((norm == 0).nonzero()[0, 0])} is zero and has no direction: take euclidean distances")
    return points / norm


@dataclass(frozen=True, kw_only=True)
class Leak:
    """How well a probe predicts the nuisance from codes of groups it has not seen; float64.

    For a number: R^2, 1 - squared error over that about the mean of all records; 1 everything leaks. For classes: balanced
    accuracy, the mean of the classes' shares of right answers.
    """

    linear: Float[Tensor, " target"]
    """Of a ridge regression."""
    nearest: Float[Tensor, " target"]
    """Of the mean or vote of the k nearest codes."""
    trivial: Float[Tensor, " target"]
    """Of the mean or the most frequent class of the records a probe is fitted on: no leak. About 0, or 1 over the number of
    classes."""
    prediction_linear: Tensor
    """[record target], or the class of each record [record], counted in the order of their sorted names."""
    prediction_nearest: Tensor
    fold: Int[Tensor, " record"]
    """In which part of the records each was predicted."""


@torch.no_grad()
def leak(
    codes: Float[Tensor, "record latent"],
    nuisance: Float[Tensor, "record target"] | Labels,
    groups: Labels,
    generator: torch.Generator,
    *,
    folds: int = 5,
    neighbours: int = 10,
) -> Leak:
    """Probes of a nuisance, cross-validated by group: no group (state, event) stands in both the fitted and the judged part.

    A floating tensor [record] or [record target] holds numbers, anything else names classes; an angle is two numbers, its sine and
    cosine. Codes are standardised on the fitted part; the ridge's penalty is found there by generalised cross-validation (Golub,
    Heath and Wahba 1979). Swap the roles to ask what a nuisance code knows of the state. Blind to what neither probe can read.

    Raises SeislatentError for fewer groups than folds, values not finite, a nuisance that does not vary, or too few records.
    """
    (sets,), shape = checked_sets(codes, names=("codes",), least=4)
    if shape:
        raise SeislatentError(f"one set of codes at a time, not {shape}: give [record latent]")
    x, n = sets[0].to(torch.float64), sets.shape[1]
    numbers = isinstance(nuisance, Tensor) and nuisance.is_floating_point()
    target = _targets(nuisance, n, numbers, x.device)
    fold = _folds(checked_labels(groups, n, "groups"), folds, generator).to(x.device)
    predictions = torch.zeros(3, *target.shape, dtype=torch.float64, device=x.device)
    for i in range(folds):
        judged, fitted = fold == i, fold != i
        a, b = _standardised(x[fitted], x[judged])
        y = target[fitted]
        predictions[0, judged] = _ridge(a, y, b)
        k = min(neighbours, len(a))
        predictions[1, judged] = y[nearest(b, a, k)[1]].mean(1)
        predictions[2, judged] = y.mean(0)
    if numbers:
        about = (target - target.mean(0)).square().sum(0)
        scores = 1 - (predictions - target).square().sum(1) / about
        shown = predictions
    else:
        truth, shown = target.argmax(1), predictions.argmax(2)
        right = [torch.stack([(guess[truth == c] == c).double().mean() for c in range(target.shape[1])]).mean() for guess in shown]
        scores = torch.stack(right)[:, None]
    return Leak(
        linear=scores[0], nearest=scores[1], trivial=scores[2], prediction_linear=shown[0], prediction_nearest=shown[1], fold=fold
    )


def _targets(nuisance: Tensor | Labels, records: int, numbers: bool, device: torch.device) -> Tensor:
    """Numbers [record target], or one column of 0 and 1 per class."""
    if numbers:
        y = torch.as_tensor(nuisance).to(device, torch.float64)
        y = y[:, None] if y.ndim == 1 else y
        if y.ndim != 2 or len(y) != records or not torch.isfinite(y).all():
            raise SeislatentError(f"a nuisance of shape {tuple(y.shape)} for {records} codes: give finite numbers [record target]")
        if not (y.amax(0) > y.amin(0)).all():
            raise SeislatentError("a nuisance is the same for all records: there is nothing to predict")
        return y
    label = checked_labels(nuisance, records, "nuisance")
    if int(label.max()) < 1:
        raise SeislatentError("the nuisance has one class only: there is nothing to predict")
    return torch.nn.functional.one_hot(label).to(device, torch.float64)


def _folds(label: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """Whole groups in random order, the largest first, each to the fold that holds fewest records."""
    sizes = torch.bincount(label)
    if not 2 <= folds <= len(sizes):
        raise SeislatentError(f"{folds} folds of {len(sizes)} groups: give 2 folds or more, and at least as many groups")
    order = torch.randperm(len(sizes), generator=checked_generator(generator))
    order = order[sizes[order].argsort(descending=True, stable=True)]
    held, place = [0] * folds, torch.zeros(len(sizes), dtype=torch.long)
    for group in order.tolist():
        place[group] = held.index(min(held))
        held[int(place[group])] += int(sizes[group])
    return place[label]


def _standardised(fitted: Tensor, judged: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = fitted.mean(0), fitted.std(0)
    scale = torch.where(std > 1e-13 * mean.abs(), std, math.inf)  # what does not vary predicts nothing
    return (fitted - mean) / scale, (judged - mean) / scale


def _ridge(x: Tensor, y: Tensor, judged: Tensor) -> Tensor:
    """Ridge regression with the penalty of least generalised cross-validation, each target its own, predicted at `judged`."""
    n, mean = len(x), y.mean(0)
    energy, axes = torch.linalg.eigh(x.T @ x)
    energy = energy.clamp(min=0)
    load = axes.T @ (x.T @ (y - mean))  # [latent target]
    penalties = energy.mean().clamp(min=1e-30) * torch.logspace(-8, 8, 33, dtype=x.dtype, device=x.device)
    shrunk = energy[None] + penalties[:, None]
    residual = (y - mean).square().sum(0) - torch.einsum("pl,lt->pt", 2 / shrunk - energy / shrunk.square(), load.square())
    freedom = n - 1 - (energy / shrunk).sum(1, keepdim=True)
    # where nearly all freedom is spent the score is rounding over rounding
    score = torch.where(freedom > 0.01 * n, residual.clamp(min=0) / freedom.square(), math.inf)
    best = penalties[score.argmin(0)]  # [target]
    return mean + judged @ (axes @ (load / (energy[:, None] + best)))
