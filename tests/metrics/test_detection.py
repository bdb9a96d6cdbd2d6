import math

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.evaluate import bootstrap
from seislatent.metrics.detection import classification, event_weights, interval_by_event, roc

CALLED = torch.tensor([1, 1, 1, 0, 0, 0, 1, 0])
LABEL = torch.tensor([1, 1, 0, 0, 0, 1, 1, 0])


def scores(n=300, seed=0, levels=20):
    """Scores with many ties, and labels that they foretell a little."""
    g = torch.Generator().manual_seed(seed)
    label = (torch.rand(n, generator=g) < 0.4).long()
    return ((torch.randn(n, generator=g) + label) * levels / 5).round() / levels, label


def test_classification_by_hand():
    found = classification(CALLED, LABEL)
    assert found.confusion.tolist() == [[3, 1], [1, 3]]
    assert found.accuracy == 0.75 and found.balanced_accuracy == 0.75
    found = classification(torch.tensor([1, 1, 0, 0, 0, 0]), torch.tensor([1, 0, 0, 0, 0, 0]))
    assert found.accuracy.item() == pytest.approx(5 / 6) and found.balanced_accuracy.item() == pytest.approx((1 + 4 / 5) / 2)
    assert found.precision[1] == 0.5 and found.recall[1] == 1 and found.f1[1].item() == pytest.approx(2 / 3)


def test_parity_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (extra latent)")
    g = torch.Generator().manual_seed(1)
    called, label = torch.randint(0, 4, (2, 500), generator=g)
    weight = torch.rand(500, generator=g)
    found = classification(called, label, 4, weight=weight)
    w = {"sample_weight": weight.numpy()}
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(label, called, **w)
    np.testing.assert_allclose(found.precision, precision, rtol=1e-6)
    np.testing.assert_allclose(found.recall, recall, rtol=1e-6)
    np.testing.assert_allclose(found.f1, f1, rtol=1e-6)
    assert found.accuracy.item() == pytest.approx(metrics.accuracy_score(label, called, **w))
    assert found.balanced_accuracy.item() == pytest.approx(metrics.balanced_accuracy_score(label, called, **w))
    np.testing.assert_allclose(found.confusion, metrics.confusion_matrix(label, called, **w), rtol=1e-6)
    score, label = scores()
    curve = roc(score, label)
    false, true, threshold = metrics.roc_curve(label, score, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, false)
    np.testing.assert_allclose(curve.true_positive_rate, true)
    np.testing.assert_allclose(curve.threshold, threshold)
    assert curve.auc.item() == pytest.approx(metrics.roc_auc_score(label, score), rel=1e-12)


@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_auc_is_mann_whitney_with_ties(levels):
    score, label = scores(levels=levels)
    pairs = score[label == 1][:, None] - score[label == 0]
    expected = (pairs > 0).double().mean() + 0.5 * (pairs == 0).double().mean()
    assert roc(score, label).auc.item() == pytest.approx(expected.item(), rel=1e-12)
    assert roc(-score, label).auc.item() == pytest.approx(1 - expected.item(), rel=1e-12)
    assert roc(torch.exp(score), label).auc == roc(score, label).auc


def test_curve_by_hand():
    curve = roc(torch.tensor([0.9, 0.5, 0.5, -math.inf]), torch.tensor([1, 1, 0, 0]))
    assert curve.threshold.tolist() == pytest.approx([math.inf, 0.9, 0.5, -math.inf])
    assert curve.true_positive_rate.tolist() == [0, 0.5, 1, 1] and curve.false_positive_rate.tolist() == [0, 0, 0.5, 1]
    assert curve.auc == 0.875


def test_weights_are_repetitions():
    score, label = scores(60)
    weight = torch.randint(0, 4, (5, 60), generator=torch.Generator().manual_seed(3))
    curves, classes = roc(score, label, weight=weight), classification((score > 0.5).long(), label, weight=weight)
    for i in range(5):
        s, y = score.repeat_interleave(weight[i]), label.repeat_interleave(weight[i])
        assert curves.auc[i].item() == pytest.approx(roc(s, y).auc.item(), rel=1e-12)
        once = classification((s > 0.5).long(), y)
        assert classes.balanced_accuracy[i] == once.balanced_accuracy and (classes.f1[i] == once.f1).all()


def test_interval_of_a_mean_is_that_of_the_report():
    rng = np.random.default_rng(5)
    right, events = rng.random(90) < 0.7, rng.integers(0, 12, 90)
    called, label = torch.as_tensor(right).long(), torch.ones(90, dtype=torch.long)
    found = interval_by_event(lambda w: classification(called, label, weight=w).accuracy, events)
    assert (found.low, found.high) == pytest.approx(bootstrap.interval(right.astype(float), events), rel=1e-12)
    assert found.without_value == 0


def test_interval_of_auc_covers_and_knows_events():
    score, label = scores(200)
    auc = roc(score, label).auc
    alone = interval_by_event(lambda w: roc(score, label, weight=w).auc, range(200))
    assert alone.low < auc < alone.high and 0.05 < alone.high - alone.low < 0.3
    twice = interval_by_event(
        lambda w: roc(score.repeat(4), label.repeat(4), weight=w).auc, np.tile(np.arange(200), 4)
    )  # the same records four times tell nothing more
    assert (twice.low, twice.high) == pytest.approx((alone.low, alone.high))


def test_draws_of_one_class_are_left_out_and_counted():
    score, label = torch.tensor([0.1, 0.9, 0.4]), torch.tensor([0, 1, 0])
    found = interval_by_event(lambda w: roc(score, label, weight=w).auc, ["a", "b", "c"])
    assert found.low == found.high == 1 and 200 < found.without_value < 450  # (2/3)^3 + (1/3)^3 of the draws
    one = interval_by_event(lambda w: roc(score, label, weight=w).auc, ["a", "a", "a"])
    assert one.low is None and one.high is None
    never = interval_by_event(lambda w: torch.full((len(w),), math.nan), ["a", "b"])
    assert never.low is None and never.without_value == 1000
    weight = event_weights(["a", "b", "b"], draws=50)
    assert weight.shape == (50, 3) and (weight[:, 1] == weight[:, 2]).all() and (weight[:, 0] + weight[:, 1] == 2).all()


def test_one_class_and_nothing_called_are_as_stated():
    found = classification(torch.zeros(4), torch.zeros(4))
    assert found.accuracy == 1 and found.balanced_accuracy.isnan()
    assert found.precision[1].isnan() and found.recall[1].isnan() and found.f1[1].isnan() and found.f1[0] == 1
    found = classification(torch.zeros(4), torch.tensor([0, 0, 0, 1]))
    assert found.f1[1] == 0 and found.recall[1] == 0 and found.precision[1].isnan()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: roc(torch.rand(5), torch.ones(5)), "all 5 records are of class 1"),
        (lambda: roc(torch.tensor([0.5, math.nan]), torch.tensor([0, 1])), "1 of 2 scores are NaN"),
        (lambda: roc(torch.rand(5), torch.ones(4)), "one per record"),
        (lambda: roc(torch.rand(0), torch.ones(0)), "one per record"),
        (lambda: roc(torch.rand(2), torch.tensor([0, 2])), "numbered from 0"),
        (lambda: roc(torch.rand(2), torch.tensor([0, 1]), weight=torch.ones(3)), "for 2 records"),
        (lambda: roc(torch.rand(2), torch.tensor([0, 1]), weight=torch.tensor([1, -1])), "negative"),
        (lambda: classification(torch.tensor([0.3, 1.0]), torch.tensor([0, 1])), "not scores"),
        (lambda: classification(torch.tensor([0, 2]), torch.tensor([0, 1])), "from 0 to 2 of 2 classes"),
        (lambda: classification(torch.tensor([0.0, math.nan]), torch.tensor([0, 1])), "whole number"),
        (lambda: event_weights([]), "no records"),
    ],
)
def test_bad_input_is_told(call, said):
    with pytest.raises(SeislatentError, match=said):
        call()
