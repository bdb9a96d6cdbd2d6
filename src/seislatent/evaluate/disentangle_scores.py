"""One system's codes of grouped records, and what they are worth.

Groups --embed--> code [record latent]                               each code stands for a record
       --codes--> coherent [group latent], nuisance [record latent]  each coherent code stands for a group
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.evaluate.bootstrap import summary
from seislatent.evaluate.judged import told, weights
from seislatent.evaluate.maps import principal_components
from seislatent.metrics.detection import classification
from seislatent.metrics.disentangle import SwapError, invariance, leak, retrieval, swap_error
from seislatent.metrics.normality import Normality, normality
from seislatent.metrics.points import Labels
from seislatent.systems.base import Disentangler

BATCH, SWAPS = 256, 500
LARGEST = 256
"""Latents that are tested against N(0, I); beyond, a code is no latent space but a waveform."""
READ = 512
"""Principal components that probes read of such a code: the time of a ridge grows with their cube."""
INDEPENDENT = 20
"""From so many events on, one code of each is tested; with fewer, all codes are taken as independent, and the report says so."""
FEWEST_STATES = 5
"""With fewer, leaving one out says nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Swaps:
    """Records with the state of one and the nuisance of another, beside the truth [swap channel time]."""

    made: Tensor
    truth: Tensor
    state_donor: Tensor
    nuisance_donor: Tensor
    errors: SwapError
    rows: NDArray[np.int64]
    """The truth of each swap, among the records."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What page and report.json need of a system."""

    told: dict[str, Any]
    codes: Float[Tensor, "code latent"]
    state: NDArray[np.int64]
    """Of each code."""
    swaps: Swaps | None
    normality: Normality | None


def judge(name: str, system: Any, groups: Any, seed: int) -> Judged:
    """All measures of a system that they can be taken of."""
    split = isinstance(system, Disentangler)
    single = _codes(name, system, groups.x, np.arange(len(groups.x)))
    if split:
        coherent, nuisance_code = _codes(name, system, groups.x, groups.group)
        _, first = np.unique(groups.group, return_index=True)
        codes, state, event = coherent[first], groups.state[first], groups.event[first]
    else:
        coherent, nuisance_code = single[0], None
        codes, state, event = single[0], groups.state, groups.event
    out: dict[str, Any] = {"codes_of": "groups" if split else "records", "codes": len(codes), "latents": codes.shape[1]}
    out["invariance"] = _invariance(codes, state)
    out["retrieval"] = _retrieval(codes, state, event, None if split else groups.crossing)
    out["leak"] = {c: _leak(single[0], v, groups.state, groups.event, seed) for c, v in groups.nuisance.items()}
    if nuisance_code is not None:
        other = groups.crossing if groups.crossing is not None else np.arange(len(groups.x))
        out["state_in_nuisance"] = _leak(nuisance_code, groups.state, other, groups.event, seed)
    swaps = _swaps(name, system, groups, coherent, nuisance_code, seed)
    out["swap"] = None if swaps is None else _swap_told(swaps, groups.event)
    tested, normal = _normality(codes, event, seed)
    out["normality"] = tested
    return Judged(told=out, codes=codes, state=state, swaps=swaps, normality=normal)


def _codes(name: str, system: Any, x: Tensor, group: NDArray[Any]) -> tuple[Tensor, Tensor | None]:
    """Codes of every record on the CPU, in float64: what is shared (or all), and each record's own where the system splits."""
    device = next((p.device for p in system.parameters()), None) if isinstance(system, torch.nn.Module) else None
    with torch.inference_mode():
        if isinstance(system, Disentangler):
            found: tuple[Tensor, ...] = system.codes(x.to(device), torch.from_numpy(group).to(device))
        else:
            found = (torch.cat([system.embed(part.to(device)) for part in x.split(BATCH)]),)
    codes = [c.detach().cpu().double() for c in found]
    for c in codes:
        if c.ndim != 2 or len(c) != len(x) or not torch.isfinite(c).all():
            raise SeislatentError(
                f"{name} gives codes of shape {tuple(c.shape)} for {len(x)} records: one finite row each is needed"
            )
    return codes[0], codes[1] if len(codes) > 1 else None


def _invariance(codes: Tensor, state: NDArray[Any]) -> dict[str, Any] | None:
    """Share of the variance that is within states: 0 invariant, 1 knows no state.

    Its interval is a jackknife's, each state left out once (Efron and Tibshirani 1993, chapter 11): states that are drawn twice, as
    a bootstrap does, would have no scatter between them.
    """
    if len(set(state)) == len(state) or len(codes) < 3:
        return None
    try:
        share = invariance(codes, state).share
    except SeislatentError:  # all codes are the same
        return None
    number = int(state.max()) + 1
    sizes = torch.bincount(torch.from_numpy(state), minlength=number).double()
    points = codes - codes.mean(0)
    sums = points.new_zeros(number, points.shape[1]).index_add_(0, torch.from_numpy(state), points)
    means = sums / sizes.clamp(min=1)[:, None]
    inside = points.new_zeros(number, points.shape[1])
    inside.index_add_(0, torch.from_numpy(state), (points - means[torch.from_numpy(state)]).square())
    there = sizes > 0
    if int(there.sum()) < FEWEST_STATES:
        return {"mean": float(share), "std": None, "low": None, "high": None}
    sizes, means, inside = sizes[there], means[there], inside[there]
    w = 1 - torch.eye(len(sizes), dtype=torch.float64)
    n, k = w @ sizes, w.sum(1)
    within = (w @ inside) / (n - k)[:, None]
    mean = (w @ (means * sizes[:, None])) / n[:, None]
    across = (w @ (means.square() * sizes[:, None]) - n[:, None] * mean.square()).clamp(min=0) / (k - 1)[:, None]
    typical = (n - (w @ sizes.square()) / n) / (k - 1)
    between = ((across - within) / typical[:, None]).clamp(min=0)
    without = within.sum(1) / (within + between).sum(1)
    off = 1.96 * float(((len(k) - 1) * without.var(correction=0)).sqrt())
    fine = np.isfinite(off)
    low, high = (max(float(share) - off, 0.0), min(float(share) + off, 1.0)) if fine else (None, None)
    return {"mean": float(share), "std": None, "low": low, "high": high}


def _retrieval(codes: Tensor, state: NDArray[Any], event: NDArray[Any], crossing: NDArray[Any] | None) -> dict[str, Any] | None:
    """Is the nearest code, of another nuisance where that is a name, of the same state?"""
    try:
        found = retrieval(codes, state, nuisance=crossing)
    except SeislatentError:
        return None
    where = event[found.query.numpy()]
    right, chance = found.correct.double().numpy(), found.chance.numpy()
    return {"correct": summary(right, where).plain(), "chance": summary(chance, where).plain(), "queries": len(right)}


def _leak(codes: Tensor, nuisance: NDArray[Any], groups: Labels, events: NDArray[Any], seed: int) -> dict[str, Any] | None:
    """What two probes read from the codes of groups they have not seen: R^2 of a number, balanced accuracy of names."""
    numbers = nuisance.dtype.kind == "f"
    labels, number = (None, 0) if numbers else (torch.from_numpy(np.unique(nuisance, return_inverse=True)[1]), len(set(nuisance)))
    folds = min(5, len(np.unique(np.asarray(groups))))
    if folds < 2 or (numbers and np.ptp(nuisance) == 0) or number == 1 or len(codes) < 4:
        return None
    y = torch.tensor(nuisance) if numbers else torch.zeros(len(codes))
    target: Any = y if numbers else nuisance
    if codes.shape[1] > LARGEST:
        codes = _fewer(codes, seed)
    found = leak(codes, target, groups, torch.Generator().manual_seed(seed), folds=folds, neighbours=min(10, len(codes) // 2))
    out: dict[str, Any] = {"measure": "r2" if numbers else "balanced_accuracy", "trivial": float(found.trivial[0])}
    w = weights(events)
    for probe in ("linear", "nearest"):
        guess = getattr(found, f"prediction_{probe}")
        if numbers:
            off = (guess[:, 0] - y).square()
            mean = (w @ y) / w.sum(1)
            about = w @ y.square() - w.sum(1) * mean.square()
            drawn = 1 - (w @ off) / about.where(about > 0, float("nan"))
        else:
            assert labels is not None
            drawn = classification(guess.long(), labels, max(number, 2), weight=w).recall.nanmean(1)
        out[probe] = told(getattr(found, probe)[0], drawn, events)
    return out


def _fewer(codes: Tensor, seed: int) -> Tensor:
    """Principal components, turned at random: a probe scales each number it reads, and must not blow up the least components."""
    scores = principal_components(codes, min(READ, *codes.shape)).scores
    turn = torch.linalg.qr(torch.randn(scores.shape[1], scores.shape[1], generator=torch.Generator().manual_seed(seed)).double()).Q
    return scores @ turn


def _swaps(name: str, system: Any, groups: Any, coherent: Tensor, nuisance: Tensor | None, seed: int) -> Swaps | None:
    """Every record that has one of its nuisance in another state is the truth of a swap; 500 at most.

    Its state comes from another group of that state, its nuisance from the other record: neither has seen the truth.
    """
    if nuisance is None or not hasattr(system, "redatum") or groups.crossing is None:
        return None
    draw = np.random.default_rng([seed, 1])
    rows = []
    for truth in draw.permutation(len(groups.x)):
        like = np.flatnonzero((groups.crossing == groups.crossing[truth]) & (groups.state != groups.state[truth]))
        same = np.flatnonzero((groups.state == groups.state[truth]) & (groups.group != groups.group[truth]))
        if len(like) and len(same):
            rows.append((truth, draw.choice(same), draw.choice(like)))
        if len(rows) == SWAPS:
            break
    if not rows:
        return None
    truth, state_donor, nuisance_donor = (torch.from_numpy(r) for r in np.array(rows, np.int64).T)
    device = next((p.device for p in system.parameters()), None) if isinstance(system, torch.nn.Module) else None
    with torch.inference_mode():
        made = system.redatum(coherent[state_donor].float().to(device), nuisance[nuisance_donor].float().to(device)).cpu().clone()
    x = groups.x
    if made.shape != x[truth].shape or not torch.isfinite(made).all():
        raise SeislatentError(
            f"{name} redatums to records of shape {tuple(made.shape)}, not {tuple(x[truth].shape)}, or not finite"
        )
    errors = swap_error(made, x[truth], x[state_donor], x[nuisance_donor], groups.sampling_rate_hz)
    return Swaps(
        made=made, truth=x[truth], state_donor=x[state_donor], nuisance_donor=x[nuisance_donor], errors=errors, rows=truth.numpy()
    )


def _swap_told(swaps: Swaps, event: NDArray[Any]) -> dict[str, Any]:
    """Energies of errors over that of the truth, and the share of swaps that beat silence and both donors."""
    where, e = event[swaps.rows], swaps.errors
    out: dict[str, Any] = {m: summary(getattr(e, m).numpy(), where).plain() for m in ("error", "state_donor", "nuisance_donor")}
    return out | {"better": summary((e.skill > 0).double().numpy(), where).plain(), "swaps": len(where)}


def _normality(codes: Tensor, event: NDArray[Any], seed: int) -> tuple[dict[str, Any] | None, Normality | None]:
    if codes.shape[1] > LARGEST or len(codes) < 3:
        return None, None
    many = len(np.unique(event)) >= INDEPENDENT
    generator = torch.Generator().manual_seed(seed)
    found = normality(codes, generator, events=event if many else None, energy_records=300, simulations=99)
    lists = ("mean", "std", "skewness", "kurtosis", "statistic", "p_value", "adjusted")
    values = ("identity_statistic", "identity_p_value", "energy_statistic", "energy_p_value")
    out: dict[str, Any] = {m: getattr(found, m).tolist() for m in lists} | {m: float(getattr(found, m)) for m in values}
    rejected = float(found.rejected.double().mean())
    return out | {"rejected_share": rejected, "tested": found.tested, "independent": "events" if many else "codes"}, found
