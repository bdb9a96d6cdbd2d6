"""Fréchet distance between two sets of features, beside what two halves of the real set have between them.

    x (t) --log_spectra--> ln amplitude per band  \
    any features ---------------------------------> d^2 = |m - m'|^2 + tr C + tr C' - 2 tr (C^1/2 C' C^1/2)^1/2

The distance of two Gaussians with the means m, m' and covariances C, C' of the sets (Fréchet 1957; Dowson and Landau 1982; with
features of a network, Heusel et al. 2017). Blind to all that means and covariances do not hold: modes, tails, copies.

**Bias.** d^2 of finite sets is too large, about a constant over the number of records; two sets of the same distribution never
have zero. A value means something only beside the value of as many real records against real ones (`frechet_with_floor`), or
extrapolated to endless sets (`frechet_extrapolated`; Chong and Forsyth 2020). Fewer records than features need shrinkage or fewer
features.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.metrics.points import Labels, checked_generator, checked_labels, checked_sets, row_chunks


def logarithmic_bands(low_hz: float, high_hz: float, number: int) -> list[tuple[float, float]]:
    """`number` bands side by side from `low_hz` to `high_hz`, equally wide in the logarithm of frequency."""
    if not (0 < low_hz < high_hz < math.inf and number >= 1):
        raise SeislatentError(f"{number} bands from {low_hz:g} to {high_hz:g} Hz: give 0 < low < high and one band at least")
    edges = np.geomspace(low_hz, high_hz, number + 1).tolist()
    return list(itertools.pairwise(edges))


def log_spectra(
    x: Float[Tensor, "*record time"],
    sampling_rate_hz: float,
    bands_hz: list[tuple[float, float]],
    *,
    taper: float = 0.05,
    least: float = 0.0,
) -> Float[Tensor, "*record band"]:
    """Natural logarithm of the smoothed Fourier amplitude, in float64: features for the distances of this folder.

    The amplitude of a band is the root of the mean of |X(f)|^2 over its frequencies low <= f < high, X(f) = dt sum x exp(-2 pi i f
    t), in the unit of the samples times second; a tenfold amplitude adds ln 10 = 2.30 to each feature. Each end of the record is
    tapered by a cosine over the share `taper`. Amplitudes below `least` count as `least`, in the unit of the samples times second.
    Blind to phase, polarity and time of arrival. For [record component time], `.movedim(-2, 0)` of the result has a set per
    component.

    Raises SeislatentError where a band holds no frequency of the record or passes Nyquist, a sample is not finite, or a record has
    no amplitude in a band (silence) and `least` is 0.
    """
    if not (0 < sampling_rate_hz < math.inf) or x.ndim < 1 or not x.shape[-1] or not 0 <= taper <= 0.5 or not 0 <= least < math.inf:
        raise SeislatentError(
            f"spectra of samples {tuple(x.shape)} at {sampling_rate_hz} Hz with taper {taper} and least amplitude {least}:"
            " give a positive rate, samples, a taper from 0 to 0.5 and an amplitude of 0 or more"
        )
    n = x.shape[-1]
    f = torch.fft.rfftfreq(n, 1 / sampling_rate_hz, dtype=torch.float64)
    weights = torch.zeros(len(f), len(bands_hz), dtype=torch.float64)
    for i, (low, high) in enumerate(bands_hz):
        inside = (f >= low) & (f < high)
        if not inside.any() or not 0 <= low < high <= sampling_rate_hz / 2 * (1 + 1e-9):
            raise SeislatentError(
                f"band {low:g} to {high:g} Hz: records of {n / sampling_rate_hz:g} s at {sampling_rate_hz:g} Hz have no frequency"
                f" there (every {sampling_rate_hz / n:.3g} Hz to {sampling_rate_hz / 2:g} Hz): take wider bands or longer records"
            )
        weights[:, i] = inside / inside.sum()
    window, weights = _taper(n, taper).to(x.device), weights.to(x.device)
    rows = x.reshape(-1, n)
    if not len(rows):
        raise SeislatentError("no record to take the spectrum of")
    power = torch.cat([_band_power(rows[i], window, weights) for i in row_chunks(len(rows), 4 * n)]).sqrt() / sampling_rate_hz
    if not torch.isfinite(power).all():
        bad = (~torch.isfinite(power).all(1)).nonzero()[:, 0]
        raise SeislatentError(f"{len(bad)} traces hold NaN or infinity (first: trace {int(bad[0])}): fill gaps or leave them out")
    power = power.clamp(min=least)
    if not (power > 0).all():
        bad = (power <= 0).any(1).nonzero()[:, 0]
        raise SeislatentError(
            f"{len(bad)} traces are silent in a band (first: trace {int(bad[0])}), the logarithm of nothing: leave them out or"
            " give `least`, an amplitude below which nothing is told apart"
        )
    return power.log().reshape(*x.shape[:-1], len(bands_hz))


def _band_power(rows: Tensor, window: Tensor, weights: Tensor) -> Tensor:
    return torch.fft.rfft(rows.to(torch.float64) * window).abs().square() @ weights


def _taper(n: int, share: float) -> Tensor:
    """A cosine over each end; no sample of it is zero."""
    ramp = int(share * n)
    window = torch.ones(n, dtype=torch.float64)
    rise = torch.sin(math.pi / 2 * (torch.arange(ramp, dtype=torch.float64) + 0.5) / max(ramp, 1)).square()
    window[:ramp] *= rise
    window[n - ramp :] *= rise.flip(0)
    return window


@dataclass(frozen=True, kw_only=True)
class Frechet:
    """One value per set, in float64, in the unit of the features squared, 0 to +inf."""

    distance: Float[Tensor, "*set"]
    """d^2: the mean's and the covariance's part together (what the literature calls FID is this square)."""
    mean_part: Float[Tensor, "*set"]
    covariance_part: Float[Tensor, "*set"]


@torch.no_grad()
def frechet_distance(
    x: Float[Tensor, "*set record feature"], y: Float[Tensor, "*set other feature"], *, shrink: bool = False
) -> Frechet:
    """Squared Fréchet distance of two sets; covariances divided by records - 1.

    With `shrink`, each covariance is drawn to a multiple of the identity as far as Ledoit and Wolf (2004) find best for the number
    of records: less noise where records are few beside features, and a smaller distance between sets that differ in correlation.

    Raises SeislatentError for fewer than two records, values not finite, or features that differ.
    """
    (x, y), shape = checked_sets(x, y, names=("x", "y"), least=2)
    parts = [_distance(_moments(a, shrink), _moments(b, shrink)) for a, b in zip(x, y, strict=True)]
    mean, covariance = (torch.stack([p[i] for p in parts]).reshape(shape) for i in (0, 1))
    return Frechet(distance=mean + covariance, mean_part=mean, covariance_part=covariance)


def _moments(points: Tensor, shrink: bool) -> tuple[Tensor, Tensor]:
    """Mean and a factor R of the covariance R^T R: by QR, so that small variances are not lost in the squares of large ones."""
    n, d = points.shape
    mean = torch.stack([points[i].to(torch.float64).sum(0) for i in row_chunks(n, 2 * d)]).sum(0) / n
    factor, fourth = (points.new_zeros(size, dtype=torch.float64) for size in ((0, d), ()))
    for rows in row_chunks(n, 4 * d):
        part = points[rows].to(torch.float64) - mean
        fourth += part.square().sum(1).square().sum()
        factor = torch.linalg.qr(torch.cat([factor, part]), mode="r").R
    if shrink:
        factor = _shrunk(factor, fourth, n)
    return mean, factor / math.sqrt(n - 1)


def _shrunk(factor: Tensor, fourth: Tensor, n: int) -> Tensor:
    """The factor of (1 - a) S + a tr(S)/d I, scaled as the one given; Ledoit and Wolf 2004, eq. 12 to 14 and lemma 3.2 to 3.4."""
    d = factor.shape[1]
    level = factor.square().sum() / n / d
    squares = (factor @ factor.T).square().sum() / n**2
    spread = squares - d * level.square()
    noise = (fourth / n - squares) / n
    a = float((noise / spread).clamp(0, 1)) if spread > 1e-14 * squares else 1.0
    identity = torch.eye(d, dtype=factor.dtype, device=factor.device)
    return torch.linalg.qr(torch.cat([math.sqrt(1 - a) * factor, (a * level * n).sqrt() * identity]), mode="r").R


def _distance(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    (m, r), (k, s) = one, other
    # tr (C^1/2 C' C^1/2)^1/2 is the sum of singular values of R S^T
    overlap = torch.linalg.svdvals(r @ s.T).sum()
    covariance = r.square().sum() + s.square().sum() - 2 * overlap
    return (m - k).square().sum(), covariance.clamp(min=0)


@dataclass(frozen=True, kw_only=True)
class FrechetWithFloor:
    """Squared distances of equally large sets, one per set and repeat, in the unit of the features squared."""

    distance: Float[Tensor, "*set"]
    """All generated records against all real ones."""
    matched: Float[Tensor, "*set repeat"]
    """As many generated records as a half holds, against the other half of the real ones."""
    floor: Float[Tensor, "*set repeat"]
    """Half of the real records against the other half."""

    @property
    def ratio(self) -> Float[Tensor, "*set"]:
        """Mean matched distance over mean floor: 1 where generated records are as near to real ones as other events are.

        +inf where all real halves are equal and generated ones differ, 1 where nothing differs.
        """
        matched, floor = self.matched.mean(-1), self.floor.mean(-1)
        return torch.where((matched == 0) & (floor == 0), 1.0, matched / floor)


@torch.no_grad()
def frechet_with_floor(
    generated: Float[Tensor, "*set record feature"],
    real: Float[Tensor, "*set other feature"],
    generator: torch.Generator,
    *,
    events: Labels | None = None,
    generated_events: Labels | None = None,
    repeats: int = 20,
    shrink: bool = False,
) -> FrechetWithFloor:
    """The distance beside its floor: the real records are halved at random `repeats` times, whole events staying together.

    Both distances of a repeat have the same numbers of records, so that their bias is nearly the same. `events` are those of the
    real records, `generated_events` those the generated ones were made for (None: every record its own).

    Raises SeislatentError as `frechet_distance`, and for fewer than two events or generated records than half of the real ones.
    """
    (x, y), shape = checked_sets(generated, real, names=("generated", "real"), least=4)
    checked_generator(generator)
    labels = [checked_labels(e, v.shape[1], "events") for e, v in ((generated_events, x), (events, y))]
    half = y.shape[1] // 2
    if x.shape[1] < half:
        raise SeislatentError(f"{x.shape[1]} generated records for halves of {half} real ones: draw more, or give fewer real ones")
    matched, floor = [], []
    for _ in range(repeats):
        one, other = _halves(labels[1], half, generator)
        made, _ = _halves(labels[0], min(len(one), x.shape[1]), generator)
        for a, b in zip(x, y, strict=True):
            against = _moments(b[other.to(b.device)], shrink)
            matched.append(sum(_distance(_moments(a[made.to(a.device)], shrink), against)))
            floor.append(sum(_distance(_moments(b[one.to(b.device)], shrink), against)))
    if not floor:
        raise SeislatentError(f"{repeats} repeats of the real halves: one at least is needed")
    repeated = [torch.stack([torch.as_tensor(v) for v in values]).reshape(repeats, -1).T for values in (matched, floor)]
    return FrechetWithFloor(
        distance=frechet_distance(generated, real, shrink=shrink).distance,
        matched=repeated[0].reshape(*shape, repeats),
        floor=repeated[1].reshape(*shape, repeats),
    )


def _halves(label: Tensor, wanted: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Whole events in random order until `wanted` records are reached as nearly as possible, and the rest."""
    number = int(label.max()) + 1
    if number < 2:
        raise SeislatentError("all records are of one event: two halves without a common event need more")
    order = torch.randperm(number, generator=generator)
    filled = torch.bincount(label, minlength=number)[order].cumsum(0)
    cut = int((filled - wanted).abs().argmin()) + 1
    chosen = torch.zeros(number, dtype=torch.bool).index_fill(0, order[:cut], True)[label]
    if len(label) > wanted and (int(chosen.sum()) < 2 or int((~chosen).sum()) < 2):
        raise SeislatentError("one event holds nearly all records: halves without a common event need more events of like size")
    return chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0]


@dataclass(frozen=True, kw_only=True)
class FrechetExtrapolated:
    """Squared distances in the unit of the features squared."""

    distance: Float[Tensor, "*set"]
    """The line's value at endless sets; may be below 0 by chance."""
    slope: Float[Tensor, "*set"]
    """The part of d^2 that the full sets owe to their size (the line at share 1 minus `distance`)."""
    shares: Float[Tensor, " share"]
    values: Float[Tensor, "*set share repeat"]
    """Distances of random parts of both sets."""


@torch.no_grad()
def frechet_extrapolated(
    x: Float[Tensor, "*set record feature"],
    y: Float[Tensor, "*set other feature"],
    generator: torch.Generator,
    *,
    shares: tuple[float, ...] = (0.4, 0.5, 0.65, 0.8, 1.0),
    repeats: int = 5,
) -> FrechetExtrapolated:
    """d^2 of random shares of both sets, and the line through them over 1 / share, followed to 0 (Chong and Forsyth 2020).

    Good where even the smallest share holds several times more records than features; for fewer the dependence is no line and the
    result too large. Parts are drawn by record: where events hold many records each, the bias they bring stays.

    Raises SeislatentError as `frechet_distance`, and for shares outside 0 to 1 or fewer than two of them.
    """
    (x, y), shape = checked_sets(x, y, names=("x", "y"), least=2)
    checked_generator(generator)
    sizes = [[round(s * v.shape[1]) for v in (x, y)] for s in shares]
    if len(set(shares)) < 2 or not all(0 < s <= 1 for s in shares) or min(map(min, sizes)) < 2 or repeats < 1:
        raise SeislatentError(f"shares {shares}: give two or more different ones up to 1, each of two records at least")
    values = torch.empty(len(x), len(shares), repeats, dtype=torch.float64, device=x.device)
    for j, (n, m) in enumerate(sizes):
        for k in range(repeats):
            one, other = (torch.randperm(v.shape[1], generator=generator)[:q].to(v.device) for v, q in ((x, n), (y, m)))
            for i in range(len(x)):
                values[i, j, k] = sum(_distance(_moments(x[i][one], False), _moments(y[i][other], False)))
    at = torch.tensor([1 / s for s in shares], dtype=torch.float64, device=x.device)
    level = values.mean(-1)
    slope = ((at - at.mean()) * (level - level.mean(-1, keepdim=True))).sum(-1) / (at - at.mean()).square().sum()
    end = level.mean(-1) - slope * at.mean()
    return FrechetExtrapolated(
        distance=end.reshape(shape), slope=slope.reshape(shape), shares=1 / at, values=values.reshape(*shape, len(shares), repeats)
    )
