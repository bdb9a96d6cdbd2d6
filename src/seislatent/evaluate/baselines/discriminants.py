"""Explosion or earthquake as analysts tell them apart: P/S amplitude ratios, and energies by band and time, with few parameters.

    x [record 3 time], P and S --band-pass, mean squares of windows--> features --standardised--> logistic regression | trees
                                                                                            --> probability of each label

An explosion radiates less S than an earthquake of the same size, the more so at high frequency (Walter, Mayeda and Patton 1995); a
quarry's delayed shots and shallow depth leave other marks in spectrum and coda. Every claim of a network stands beside these.

`fit(x, labels, sampling_rate_hz, p_sample, s_sample)`, then `probabilities(x, sampling_rate_hz, p_sample, s_sample)`. Records may
have any unit and amplitude; an arrival that is not known (NaN) or lies outside leaves its windows empty, and what is missing counts
as the mean of the records that were learnt from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.optional import needed
from seislatent.signal.filters import Butterworth

Samples = NDArray[np.float64]

LOWEST_HZ, HIGHEST_HZ, BANDS = 1.0, 20.0, 6
"""Bands lie side by side, equally wide in the logarithm of frequency, from the first to the second or 0.45 of the rate."""
LONGEST_S = 5.0
"""Of a window."""
BEFORE_S = 0.5
"""The noise ends so long before P."""
SHARE = 0.9
"""The P window ends after so much of the time from P to S at the latest."""


def bands_hz(sampling_rate_hz: float, number: int = BANDS) -> list[tuple[float, float]]:
    """Edges of the bands, in Hz.

    Raises:
        SeislatentError: the rate leaves no room for them.
    """
    top = min(HIGHEST_HZ, 0.45 * sampling_rate_hz)
    if not top > 2 * LOWEST_HZ:
        raise SeislatentError(
            f"records of {sampling_rate_hz:g} Hz: bands from {LOWEST_HZ:g} Hz on need {4.5 * LOWEST_HZ:g} Hz at least"
        )
    return list(pairwise(np.geomspace(LOWEST_HZ, top, number + 1).tolist()))


def windows(p_sample: ArrayLike, s_sample: ArrayLike, sampling_rate_hz: float, samples: int) -> NDArray[np.float64]:
    """First sample and one past the last [record 4 2] of noise, P, S and coda; NaN where there is none.

    Noise: up to 5 s that end 0.5 s before P. P: from P to 0.9 of the time to S, 5 s at most. S: from S on, as long, but 1 s at
    least. Coda: up to 5 s from the end of the S window on.
    """
    p, s = (np.asarray(v, np.float64).reshape(-1) for v in (p_sample, s_sample))
    longest = LONGEST_S * sampling_rate_hz
    length = np.minimum(SHARE * (s - p), longest)
    last = s + np.maximum(length, min(sampling_rate_hz, longest))
    end = p - BEFORE_S * sampling_rate_hz
    found = np.stack(
        [
            np.stack([end - longest, end], -1),
            np.stack([p, p + length], -1),
            np.stack([s, last], -1),
            np.stack([last, last + longest], -1),
        ],
        axis=1,
    )
    found = np.clip(np.round(found), 0, samples)
    empty = ~(found[..., 1] - found[..., 0] >= max(2.0, 0.2 * sampling_rate_hz))  # NaN is empty, too
    found[empty] = np.nan
    return found


def band_energies(
    x: NDArray[Any],
    sampling_rate_hz: float,
    p_sample: ArrayLike,
    s_sample: ArrayLike,
    bands: Sequence[tuple[float, float]] | None = None,
) -> Samples:
    """Mean squares [record band window] of noise, P, S and coda over all components; NaN where there is no window.

    Band-passed by a Butterworth filter of order 4, both ways.

    Raises:
        SeislatentError: records of another shape, without an arrival each, or with samples that are not finite.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 3 or len(x) != np.size(p_sample) or len(x) != np.size(s_sample):
        raise SeislatentError(f"records of shape {x.shape} with {np.size(p_sample)} P and {np.size(s_sample)} S: give one of each")
    if not np.isfinite(x).all():
        raise SeislatentError("records with samples that are not finite: fill the gaps, or leave the records out")
    n = x.shape[-1]
    place = windows(p_sample, s_sample, sampling_rate_hz, n)
    there = np.asarray(np.isfinite(place).all(-1))
    at = np.where(there[..., None], place, 0).astype(np.int64)
    out = []
    for band in bands or bands_hz(sampling_rate_hz):
        y = Butterworth(kind="bandpass", corners_hz=band, rate_hz=sampling_rate_hz)(x - x.mean(-1, keepdims=True))
        run = np.concatenate([np.zeros((len(x), 1)), np.cumsum((y**2).sum(1), -1)], -1)
        total = np.take_along_axis(run, at[..., 1], 1) - np.take_along_axis(run, at[..., 0], 1)
        out.append(np.where(there, total / np.maximum(at[..., 1] - at[..., 0], 1), np.nan))
    return np.stack(out, 1)


def logarithms(energies: Samples) -> Samples:
    """log10 of energies over each record's mean, so that amplitude is no feature; -6 at the least, NaN for what is missing."""
    axes = tuple(range(1, energies.ndim))
    there = np.isfinite(energies)
    mean = np.where(there, energies, 0).sum(axes, keepdims=True) / np.maximum(there.sum(axes, keepdims=True), 1)
    return np.where(there, np.log10(np.maximum(energies / np.where(mean > 0, mean, 1), 1e-6)), np.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class Logistic:
    """A fitted logistic regression: p(label) = softmax(z weight + level), z = (features - mean) / deviation, missing z = 0."""

    labels: tuple[str, ...]
    mean: Samples
    deviation: Samples
    weight: Samples
    """[feature label]"""
    level: Samples
    """[label]"""

    def probabilities(self, features: Samples) -> Samples:
        """Of each label [record label]."""
        z = np.nan_to_num((features - self.mean) / self.deviation)
        return np.asarray(softmax(z @ self.weight + self.level, axis=1))


def logistic(features: Samples, labels: Sequence[Any], penalty: float = 1.0) -> Logistic:
    """Fits by L-BFGS: labels weigh alike, however many records each has; penalty / 2 times the sum of squares of the weights.

    Args:
        features: [record feature]; NaN is missing.
        labels: of each record; two kinds or more.
        penalty: beside the sum over records of -ln p, with weights of mean 1.

    Raises:
        SeislatentError: fewer than two labels.
    """
    names, number = _labels(labels, len(features))
    mean, deviation = standard(features)
    z = np.nan_to_num((features - mean) / deviation)
    counts = np.bincount(number)
    weight = (len(number) / len(names) / counts)[number]
    truth = np.eye(len(names))[number]
    shape = (z.shape[1] + 1, len(names))

    def loss(flat: Samples) -> tuple[float, Samples]:
        w = flat.reshape(shape)
        score = z @ w[:-1] + w[-1]
        value = -(weight[:, None] * truth * log_softmax(score, axis=1)).sum() + penalty / 2 * (w[:-1] ** 2).sum()
        error = weight[:, None] * (softmax(score, axis=1) - truth)
        return float(value), np.concatenate([z.T @ error + penalty * w[:-1], error.sum(0)[None]]).reshape(-1)

    found = minimize(loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x.reshape(shape)
    return Logistic(labels=names, mean=mean, deviation=deviation, weight=found[:-1], level=found[-1])


def standard(features: Samples) -> tuple[Samples, Samples]:
    """Mean and standard deviation of each feature over the records that have it; 0 and 1 where none has, or it does not change."""
    there = np.isfinite(features)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, features, 0).sum(0) / count
    deviation = np.sqrt((np.where(there, features - mean, 0) ** 2).sum(0) / count)
    return mean, np.where(deviation > 1e-12 * (1 + np.abs(mean)), deviation, 1.0)


def _labels(labels: Sequence[Any], count: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    names, number = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    if len(number) != count or len(names) < 2:
        raise SeislatentError(
            f"{count} records with {len(number)} labels of {len(names)} kinds: give one each, of two kinds or more"
        )
    return tuple(map(str, names)), number.astype(np.int64)


class Discriminant(ABC):
    """Fits on records with arrivals, and tells the probability of each label."""

    name: str
    """As in tables."""
    labels: tuple[str, ...] = ()
    """Columns of `probabilities`, once fitted; in alphabetical order."""
    rate_hz: float = 0.0
    """Of the records it was fitted on."""

    @abstractmethod
    def features(self, x: NDArray[Any], sampling_rate_hz: float, p_sample: ArrayLike, s_sample: ArrayLike) -> Samples:
        """What it decides on [record feature]; NaN is missing."""

    @abstractmethod
    def _fit(self, features: Samples, labels: Sequence[Any]) -> tuple[str, ...]:
        """Learns, and tells the labels."""

    @abstractmethod
    def _probabilities(self, features: Samples) -> Samples:
        """Of each label [record label]."""

    def fit(
        self, x: NDArray[Any], labels: Sequence[Any], sampling_rate_hz: float, p_sample: ArrayLike, s_sample: ArrayLike
    ) -> Discriminant:
        """Learns from records [record component time] and their labels; gives itself.

        Raises:
            SeislatentError: records, arrivals and labels do not fit together.
        """
        self.labels = self._fit(self.features(x, sampling_rate_hz, p_sample, s_sample), labels)
        self.rate_hz = float(sampling_rate_hz)
        return self

    def probabilities(self, x: NDArray[Any], sampling_rate_hz: float, p_sample: ArrayLike, s_sample: ArrayLike) -> Samples:
        """The probability of each of `labels` [record label].

        Raises:
            SeislatentError: not fitted, or records of another rate.
        """
        if not self.labels:
            raise SeislatentError(f"{self.name} has learnt nothing yet: fit it first")
        if abs(sampling_rate_hz / self.rate_hz - 1) > 1e-6:
            raise SeislatentError(
                f"{self.name} was fitted at {self.rate_hz:g} Hz, the records have {sampling_rate_hz:g} Hz: resample"
            )
        return self._probabilities(self.features(x, sampling_rate_hz, p_sample, s_sample))


class PSRatio(Discriminant):
    """Logistic regression on log10 of P over S amplitude (root mean squares) in six bands."""

    name = "classical/ps_ratio"

    def features(self, x: NDArray[Any], sampling_rate_hz: float, p_sample: ArrayLike, s_sample: ArrayLike) -> Samples:
        """[record band]: half the difference of the logarithms of energies."""
        found = logarithms(band_energies(x, sampling_rate_hz, p_sample, s_sample))
        return np.asarray((found[..., 1] - found[..., 2]) / 2)

    def _fit(self, features: Samples, labels: Sequence[Any]) -> tuple[str, ...]:
        self.model = logistic(features, labels)
        return self.model.labels

    def _probabilities(self, features: Samples) -> Samples:
        return self.model.probabilities(features)


class BandEnergies(Discriminant):
    """Logistic regression on log10 of energies in six bands of noise, P, S and coda, over the record's mean."""

    name = "classical/band_energies"

    def features(self, x: NDArray[Any], sampling_rate_hz: float, p_sample: ArrayLike, s_sample: ArrayLike) -> Samples:
        """[record band * window]."""
        return logarithms(band_energies(x, sampling_rate_hz, p_sample, s_sample)).reshape(len(x), -1)

    def _fit(self, features: Samples, labels: Sequence[Any]) -> tuple[str, ...]:
        self.model = logistic(features, labels)
        return self.model.labels

    def _probabilities(self, features: Samples) -> Samples:
        return self.model.probabilities(features)


class BoostedTrees(Discriminant):
    """Gradient-boosted trees (scikit-learn) on what `BandEnergies` takes."""

    name = "classical/boosted_trees"

    def features(self, x: NDArray[Any], sampling_rate_hz: float, p_sample: ArrayLike, s_sample: ArrayLike) -> Samples:
        """[record band * window]."""
        return logarithms(band_energies(x, sampling_rate_hz, p_sample, s_sample)).reshape(len(x), -1)

    def _fit(self, features: Samples, labels: Sequence[Any]) -> tuple[str, ...]:
        needed("sklearn", self.name, "scikit-learn")
        from sklearn.ensemble import HistGradientBoostingClassifier

        names, number = _labels(labels, len(features))
        self.model = HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=10, class_weight="balanced", random_state=0
        )
        self.model.fit(features, number)
        return names

    def _probabilities(self, features: Samples) -> Samples:
        return np.asarray(self.model.predict_proba(features))


DISCRIMINANTS: dict[str, type[Discriminant]] = {each.name: each for each in (PSRatio, BandEnergies, BoostedTrees)}
"""The classical ones by name."""
