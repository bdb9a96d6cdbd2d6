import itertools
import math

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics.detection import event_weights
from seislatent.metrics.picks import by_snr, match_picks, pick_scores


def test_matching_by_hand():
    found = match_picks([10.05, 3.0, 20.4, 20.1], [10.0, 20.0, 30.0], 0.5)
    assert found.truth.tolist() == [0, 1] and found.pick.tolist() == [0, 3]
    np.testing.assert_allclose(found.residual_s, [0.05, 0.1])
    assert found.missed.tolist() == [2] and found.false.tolist() == [1, 2]


def test_more_pairs_come_before_nearer_ones():
    """The pick at 1.4 is nearest to the truth at 1.5, but only it can serve the truth at 1."""
    found = match_picks([1.4, 1.9], [1.0, 1.5], 0.45)
    assert len(found.truth) == 2 and found.residual_s == pytest.approx([0.4, 0.4])


def test_matching_against_every_way():
    rng = np.random.default_rng(0)
    for _ in range(60):
        picks, truths = rng.uniform(0, 3, rng.integers(0, 5)), rng.uniform(0, 3, rng.integers(0, 5))
        found = match_picks(picks, truths, 0.5)
        few, many = sorted((picks, truths), key=len)
        ways = [
            [abs(a - b) for a, b in zip(few, way, strict=True) if abs(a - b) <= 0.5]
            for way in itertools.permutations(many, len(few))
        ]
        best = min((-len(way), sum(way)) for way in ways)
        assert (-len(found.residual_s), np.abs(found.residual_s).sum()) == pytest.approx(best)
        assert (np.abs(found.residual_s) <= 0.5).all()
        assert sorted([*found.pick, *found.false]) == list(range(len(picks)))
        assert sorted([*found.truth, *found.missed]) == list(range(len(truths)))


def test_a_day_of_picks_in_any_order():
    rng = np.random.default_rng(1)
    truths = np.sort(rng.uniform(0, 86400, 20000))
    shuffled = rng.permutation(20000)
    found = match_picks((truths + rng.uniform(-0.01, 0.01, 20000))[shuffled], truths, 0.2)
    assert len(found.truth) == 20000 and np.abs(found.residual_s).mean() < 0.0101
    assert (np.diff(found.truth) > 0).all() and (shuffled[found.pick] == found.truth).mean() > 0.95


def test_a_tolerance_holds_on_its_edge():
    assert len(match_picks([30.1], [30.0], 0.1).pick) == 1 and len(match_picks([30.11], [30.0], 0.1).pick) == 0
    assert len(match_picks([5.0], [5.0], 0.0).pick) == 1
    assert len(match_picks([1e9 + 0.1], [1e9], 0.1).pick) == 1


def test_scores_by_hand():
    found = pick_scores(torch.tensor([0.1, -0.1, 0.3, 1.0, math.nan]))
    assert found.picked == 4 and found.missed == 1
    assert found.mean_s.item() == pytest.approx(0.325) and found.median_s.item() == pytest.approx(0.2)
    assert found.std_s.item() == pytest.approx(np.std([0.1, -0.1, 0.3, 1.0])) and found.mad_s.item() == pytest.approx(0.2)
    assert found.share_within.tolist() == pytest.approx([2 / 5, 3 / 5])


@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_parity_with_numpy(n):
    r = np.random.default_rng(n).normal(0.1, 0.4, n)
    found = pick_scores(torch.as_tensor(r), tolerances_s=(0.2,))
    assert found.median_s.item() == pytest.approx(np.median(r)) and found.mad_s.item() == pytest.approx(
        np.median(np.abs(r - np.median(r)))
    )
    assert found.std_s.item() == pytest.approx(r.std()) and found.share_within.item() == pytest.approx((np.abs(r) <= 0.2).mean())


def test_weights_are_repetitions():
    r = torch.as_tensor(np.random.default_rng(0).normal(0, 0.3, 40))
    r[::7] = math.nan
    weight = event_weights(np.arange(40) // 3, draws=20)
    found = pick_scores(r, weight=weight)
    for i in range(20):
        once = pick_scores(r.repeat_interleave(weight[i].long()))
        for name in ("picked", "missed", "mean_s", "median_s", "std_s", "mad_s", "share_within"):
            torch.testing.assert_close(getattr(found, name)[i], getattr(once, name))


def test_no_picks_at_all():
    found = pick_scores(torch.full((3,), math.nan))
    assert found.picked == 0 and found.missed == 3 and found.share_within.tolist() == [0, 0]
    assert all(getattr(found, name).isnan() for name in ("mean_s", "median_s", "std_s", "mad_s"))


def test_bins_of_snr():
    r, snr = torch.tensor([0.0, 0.2, 1.0, 0.05]), torch.tensor([3.0, 10.0, 12.0, math.nan])
    found = by_snr(r, snr, (-math.inf, 0, 10, 20, math.inf))
    assert found[-math.inf, 0.0] is None and found[20.0, math.inf] is None
    assert found[0.0, 10.0].share_within.tolist() == [1, 1] and found[0.0, 10.0].picked == 1
    assert found[10.0, 20.0].share_within.tolist() == [0, 0.5]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: match_picks([1.0, math.nan], [1.0], 0.1), "leave it out"),
        (lambda: match_picks([1.0], [1.0], -0.1), "tolerance of -0.1"),
        (lambda: pick_scores(torch.tensor([math.inf])), "NaN where missed"),
        (lambda: pick_scores(torch.zeros(0)), "per record"),
        (lambda: pick_scores(torch.zeros(2), tolerances_s=()), "tolerances"),
        (lambda: pick_scores(torch.zeros(2), weight=torch.ones(3)), "for 2 records"),
        (lambda: by_snr(torch.zeros(2), torch.zeros(3), (0, 1)), "one each"),
        (lambda: by_snr(torch.zeros(2), torch.zeros(2), (1, 0)), "rising"),
    ],
)
def test_bad_input_is_told(call, said):
    with pytest.raises(SeislatentError, match=said):
        call()
