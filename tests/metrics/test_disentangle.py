import math

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics import points
from seislatent.metrics.disentangle import invariance, leak, retrieval, swap_error


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


STATES, EACH = 30, 8
STATE = torch.arange(STATES).repeat_interleave(EACH)


def test_swap_error_by_hand():
    truth = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]])
    swapped = torch.tensor([[[3.0, 4.0]], [[1.0, 0.5]]])
    found = swap_error(swapped, truth, torch.zeros_like(truth), 2 * truth + torch.tensor([[[0.0]], [[2.0]]]), 40.0)
    assert found.error.tolist() == [0, 0.25] and found.state_donor.tolist() == [1, 1] and found.nuisance_donor.tolist() == [1, 13]
    assert found.skill.tolist() == [1, 0.75]
    quiet = swap_error(*(1e-30 * v.double() for v in (swapped, truth, swapped, truth)), 40.0)
    assert quiet.error.tolist() == pytest.approx([0, 0.25]) and quiet.skill[1] == -math.inf
    assert swap_error(truth, truth, truth, truth, 40.0).skill.tolist() == [1, 1]
    for bad, words in [(truth[:1], "shape"), (truth[0], "shape"), (truth * math.nan, "NaN")]:
        with pytest.raises(SeislatentError, match=words):
            swap_error(bad, truth, truth, truth, 40.0)
    with pytest.raises(SeislatentError, match="record 1 is silent"):
        swap_error(truth, truth * torch.tensor([1.0, 0.0])[:, None, None], truth, truth, 40.0)


def test_invariance_by_hand():
    """Two states of two: means 1 and 5, deviations 1: within 2, between (means' variance 8 less 2 / 2) 7."""
    found = invariance(torch.tensor([[0.0], [2.0], [4.0], [6.0]]), ["a", "a", "b", "b"])
    assert found.within.item() == pytest.approx(2) and found.between.item() == pytest.approx(7)
    assert found.share.item() == pytest.approx(2 / 9) == found.share_per_latent.item()


def test_invariance_finds_the_components_of_variance():
    spread = torch.tensor([2.0, 0.0, 1.0])
    x = normal(400, 3).repeat_interleave(5, 0) * spread + normal(2000, 3, seed=1) * torch.tensor([1.0, 1.0, 0.0])
    state = [i // 5 for i in range(2000)]
    keep = torch.randperm(2000, generator=seeded())[:1500]  # states of unequal numbers
    found = invariance(torch.stack([x, 1e-7 * x])[:, keep], [state[i] for i in keep.tolist()])
    assert found.share.shape == (2,)
    torch.testing.assert_close(found.share[0], found.share[1])
    assert found.share_per_latent[0].tolist() == pytest.approx([0.2, 1, 0], abs=0.05)
    assert found.share_per_latent[0, 2].item() == pytest.approx(0, abs=1e-12)
    unrelated = invariance(normal(2000, 50), state)
    assert unrelated.share > 0.95  # the trivial value
    assert invariance(torch.tensor([[1.0, 3.0], [1.0, 3.0], [1.0, 4.0]]), [0, 0, 1]).share_per_latent.tolist() == [1, 0]


def test_retrieval_by_hand_and_chance():
    codes = torch.tensor([[0.0], [1.0], [1.5], [9.0], [20.0]])
    found = retrieval(codes, ["a", "a", "b", "b", "c"])
    assert found.query.tolist() == [0, 1, 2, 3]
    assert found.correct.tolist() == [True, False, False, True] and found.rank.tolist() == [1, 2, 3, 1]
    assert found.chance.tolist() == pytest.approx([0.25] * 4)
    blind = retrieval(torch.zeros(5, 1), ["a", "a", "b", "b", "c"])
    assert not blind.correct.any()  # a constant code retrieves nothing
    accuracy = [retrieval(normal(200, 4, seed=s), [i % 10 for i in range(200)]).correct.double().mean() for s in range(20)]
    assert np.mean(accuracy) == pytest.approx(19 / 199, abs=0.02)
    assert retrieval(normal(STATES, 4).repeat_interleave(EACH, 0) + 0.01 * normal(240, 4, seed=1), STATE).correct.all()


def test_records_of_the_same_nuisance_can_be_no_candidates():
    """The code holds the station and a little of the state: its own station misleads, other stations do not."""
    state, station = STATE, torch.arange(EACH).repeat(STATES)
    codes = torch.cat([10 * normal(EACH, 2)[station], normal(STATES, 2, seed=1)[state]], 1)
    assert retrieval(codes, state).correct.double().mean() < 0.1
    apart = retrieval(codes[:, 2:], state, nuisance=station)
    assert apart.correct.all() and apart.chance[0].item() == pytest.approx((EACH - 1) / ((EACH - 1) * STATES))
    turned = codes[:, 2:] * torch.linspace(0.1, 9, 240, dtype=torch.float64)[:, None]
    assert retrieval(turned, state, distance="cosine").correct.all()


def test_leak_of_a_number():
    groups = STATE
    nuisance = normal(240, 2, seed=3)
    codes = normal(240, 6)
    held = leak(codes, nuisance, groups, seeded())
    assert held.linear.shape == (2,) and held.linear.max() < 0.05 and held.nearest.max() < 0.05 and held.trivial.abs().max() < 0.05
    codes[:, 2] += 3 * nuisance[:, 0]
    told = leak(codes, nuisance, groups, seeded())
    assert 0.75 < told.linear[0] < 0.97 and told.linear[1] < 0.1
    expected = 1 - (told.prediction_linear - nuisance).square().sum(0) / (nuisance - nuisance.mean(0)).square().sum(0)
    torch.testing.assert_close(told.linear, expected)
    bent = leak(normal(240, 2) * 0 + codes[:, :2], codes[:, :1].square(), groups, seeded())
    assert bent.linear < 0.2 < 0.5 < bent.nearest  # a parabola is read by neighbours only
    exact = leak(1e-7 * nuisance, nuisance[:, 0], groups, seeded())
    assert exact.linear == pytest.approx(1, abs=1e-6)
    wide = leak(torch.cat([nuisance, 0.1 * normal(240, 300, seed=7)], 1), nuisance, groups, seeded())
    assert 0.1 < wide.linear.min() < 1  # more latents than fitted records


def test_ridge_equals_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn holds the reference")
    from seislatent.metrics.disentangle import _ridge

    x, y = normal(40, 5), normal(40, 1, seed=1)
    x -= x.mean(0)
    penalties = (float((x.T @ x).diagonal().mean()) * np.logspace(-8, 8, 33)).tolist()
    chosen = [linear.Ridge(alpha=a).fit(x.numpy(), y.numpy()[:, 0]).predict(x.numpy()) for a in penalties]
    found = _ridge(x, y, x)[:, 0].numpy()
    assert min(np.abs(c - found).max() for c in chosen) < 1e-10


def test_groups_are_never_on_both_sides():
    """The nuisance is a number per group and the code an index of the group: other groups say nothing about it."""
    groups = torch.arange(40).repeat_interleave(6)
    nuisance = normal(40, seed=5)[groups]
    codes = normal(40, 3, seed=6)[groups]
    found = leak(codes, nuisance, groups, seeded())
    assert found.nearest < 0.2 and found.linear < 0.2
    assert all(len(set(found.fold[groups == g].tolist())) == 1 for g in range(40)) and len(set(found.fold.tolist())) == 5
    assert leak(codes, nuisance, torch.arange(240), seeded(), neighbours=3).nearest > 0.8  # what a split by record would claim
    assert torch.equal(found.prediction_nearest, leak(codes, nuisance, groups, seeded()).prediction_nearest)


def test_leak_of_classes():
    station = [f"st{i % 4}" for i in range(240)]
    codes = normal(240, 5)
    held = leak(codes, station, STATE, seeded())
    assert held.trivial.item() == pytest.approx(0.25, abs=0.05) and abs(held.linear.item() - 0.25) < 0.12
    index = torch.tensor([i % 4 for i in range(240)])
    codes[:, :4] += 6 * torch.eye(4)[index]
    told = leak(codes, station, STATE, seeded())
    assert told.linear > 0.97 and told.nearest > 0.97 and (told.prediction_linear == index).double().mean() > 0.97
    uneven = leak(normal(240, 3), torch.arange(240) < 24, STATE, seeded())
    assert uneven.trivial == 0.5 and uneven.linear.item() == pytest.approx(0.5, abs=0.06)  # always the greater class


def test_chunks_do_not_matter(monkeypatch):
    codes = normal(240, 3)
    whole = retrieval(codes, STATE), leak(codes, codes[:, 0].abs(), STATE, seeded())
    monkeypatch.setattr(points, "CHUNK", 1000)
    parts = retrieval(codes, STATE), leak(codes, codes[:, 0].abs(), STATE, seeded())
    assert torch.equal(parts[0].rank, whole[0].rank)
    torch.testing.assert_close(parts[1].nearest, whole[1].nearest)


def test_bad_input_is_told():
    x = normal(10, 2)
    two = [0, 1] * 5
    for call, words in [
        (lambda: invariance(x, [0] * 10), "two states"),
        (lambda: invariance(x, range(10)), "two states"),
        (lambda: invariance(x * 0, two), "all codes are the same"),
        (lambda: invariance(x / 0, two), "NaN"),
        (lambda: invariance(x, two[:9]), "one per record"),
        (lambda: retrieval(x, range(10)), "no record has another"),
        (lambda: retrieval(x, two, nuisance=two), "no record has another"),
        (lambda: retrieval(x * 0, two, distance="cosine"), "is zero"),
        (lambda: retrieval(x, two, distance="manhattan"), "unknown distance"),
        (lambda: retrieval(x[None], two), "one set"),
        (lambda: leak(x, x[:, 0], two, seeded()), "folds of 2 groups"),
        (lambda: leak(x, x[:9], range(10), seeded()), "record target"),
        (lambda: leak(x, x * math.nan, range(10), seeded()), "finite"),
        (lambda: leak(x, x[:, 0] * 0, range(10), seeded()), "nothing to predict"),
        (lambda: leak(x, ["a"] * 10, range(10), seeded()), "one class"),
        (lambda: leak(x[:1], x[:1], [0], seeded()), "at least 4"),
    ]:
        with pytest.raises(SeislatentError, match=words):
            call()
