"""Classical discriminants: they find what was put in, and take what is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.discriminants import (
    DISCRIMINANTS,
    BandEnergies,
    PSRatio,
    band_energies,
    bands_hz,
    logarithms,
    logistic,
    windows,
)
from seislatent.metrics.detection import roc

RATE, SAMPLES, P, S = 40.0, 1200, 400.0, 600.0


def records(count=60, strength=2.0, seed=0):
    """Noise, P and S as noise in their windows; S of `quake` is `strength` times that of `blast`."""
    rng = np.random.default_rng(seed)
    x = 0.05 * rng.standard_normal((count, 3, SAMPLES))
    labels = np.where(np.arange(count) % 2, "blast", "quake")
    x[..., int(P) :] += 0.3 * rng.standard_normal((count, 3, SAMPLES - int(P)))
    size = np.where(labels == "quake", strength, 1.0)[:, None, None]
    x[..., int(S) : int(S) + 300] += size * rng.standard_normal((count, 3, 300))
    gain = np.exp(rng.uniform(-10, 10, count))[:, None, None]
    return x * gain, labels, np.full(count, P), np.full(count, S)


def auc(probabilities, labels, of):
    return float(roc(torch.from_numpy(probabilities), torch.from_numpy((labels == of).astype(np.int64))).auc)


@pytest.mark.parametrize("name", sorted(DISCRIMINANTS))
def test_they_learn_what_tells_the_two_apart(name):
    if name.endswith("trees"):
        pytest.importorskip("sklearn")
    x, labels, p, s = records(120)
    made = DISCRIMINANTS[name]().fit(x[:80], labels[:80], RATE, p[:80], s[:80])
    found = made.probabilities(x[80:], RATE, p[80:], s[80:])
    assert made.labels == ("blast", "quake") and found.shape == (40, 2)
    np.testing.assert_allclose(found.sum(1), 1)
    assert auc(found[:, 1], labels[80:], "quake") > 0.95
    blind = DISCRIMINANTS[name]().fit(*(records(80, strength=1.0)[k] for k in (0, 1)), RATE, p[:80], s[:80])
    x, labels, p, s = records(200, strength=1.0, seed=7)
    assert abs(auc(blind.probabilities(x, RATE, p, s)[:, 1], labels, "quake") - 0.5) < 0.15  # nothing to learn, nothing learnt


def test_energies_are_mean_squares_in_their_windows():
    """A sinusoid of amplitude 2 within one band: mean square 2 there, all three components summed."""
    t = np.arange(2000) / RATE
    x = np.zeros((1, 3, 2000))
    x[0, 0, 800:1200] = 2 * np.sin(2 * np.pi * 5.0 * t[:400])
    energy = band_energies(x, RATE, [800], [1000], [(3.0, 8.0), (12.0, 16.0)])
    assert energy.shape == (1, 2, 4)
    assert energy[0, 0, 1] == pytest.approx(2, rel=0.05) and energy[0, 0, 2] == pytest.approx(2, rel=0.05)
    assert energy[0, 1].max() < 0.01 and energy[0, 0, 0] < 0.02


def test_windows_by_hand():
    found = windows([400], [500], 40.0, 5000)[0]  # S - P is 2.5 s
    np.testing.assert_array_equal(found, [[180, 380], [400, 490], [500, 590], [590, 790]])
    assert np.isnan(windows([np.nan], [500], 40.0, 5000)[0, :2]).all()
    assert np.isnan(windows([10], [60], 40.0, 5000)[0, 0]).all()  # no room for noise
    assert np.isnan(windows([400], [600], 40.0, 500)[0, 2:]).all()  # S lies outside


def test_amplitude_is_no_feature_and_silence_is_none():
    x, *_ = records(4)
    p, s = np.full(4, P), np.full(4, S)
    loud, quiet = (logarithms(band_energies(x * g, RATE, p, s)) for g in (1e6, 1e-9))
    np.testing.assert_allclose(loud, quiet, atol=1e-6)
    silent = logarithms(band_energies(x * 0, RATE, p, s))
    assert (silent == -6).all()


def test_missing_arrivals_count_as_the_mean():
    x, labels, p, s = records(60)
    made = BandEnergies().fit(x, labels, RATE, p, s)
    found = made.probabilities(x, RATE, np.full(60, np.nan), np.full(60, np.nan))
    assert np.isfinite(found).all() and np.ptp(found[:, 0]) == 0  # nothing known: one answer for all
    some = np.where(np.arange(60) % 3, s, np.nan)
    assert (
        auc(PSRatio().fit(x, labels, RATE, p, some).probabilities(x, RATE, p, some)[:, 1][some > 0], labels[some > 0], "quake")
        > 0.95
    )


def test_logistic_regression_is_that_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    features = rng.standard_normal((90, 5)) * [1, 10, 0.1, 1, 1] + 3
    labels = (features[:, 0] + features[:, 1] / 10 + rng.standard_normal(90) > 3.5).astype(int)
    ours = logistic(features, labels, penalty=1.0)
    z = (features - ours.mean) / ours.deviation
    # two columns of weights with a penalty each are one column with twice the penalty's inverse
    theirs = linear.LogisticRegression(C=2.0, class_weight="balanced", tol=1e-8, max_iter=10_000).fit(z, labels)
    np.testing.assert_allclose(ours.probabilities(features), theirs.predict_proba(z), atol=2e-3)
    three = logistic(features, np.digitize(features[:, 0], [2.5, 3.5]))
    assert three.labels == ("0", "1", "2") and three.probabilities(features).shape == (90, 3)


def test_what_does_not_fit_is_told():
    x, labels, p, s = records(10)
    with pytest.raises(SeislatentError, match="learnt nothing"):
        PSRatio().probabilities(x, RATE, p, s)
    with pytest.raises(SeislatentError, match="of two kinds or more"):
        PSRatio().fit(x, ["a"] * 10, RATE, p, s)
    with pytest.raises(SeislatentError, match="give one of each"):
        PSRatio().fit(x, labels, RATE, p[:5], s)
    with pytest.raises(SeislatentError, match="resample"):
        PSRatio().fit(x, labels, RATE, p, s).probabilities(x, 20.0, p, s)
    with pytest.raises(SeislatentError, match="not finite"):
        band_energies(np.full((1, 3, 100), np.nan), RATE, [10], [20])
    with pytest.raises(SeislatentError, match="bands from 1 Hz"):
        bands_hz(2.0)
