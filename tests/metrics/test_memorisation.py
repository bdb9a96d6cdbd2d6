import math

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics.memorisation import aligned_nearest, memorisation, memorisation_of_features


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def judged(generated, held_out, training, **more):
    return memorisation(generated, held_out, training, 20.0, seeded(), **{"max_shift_s": 1.0, **more})


def test_distance_equals_its_definition():
    """Over lags and scales, by least squares: the smallest remainder of one record after another is taken from it."""
    x, known = normal(3, 2, 40), normal(4, 2, 40, seed=1)
    x, known = (v - v.mean(-1, keepdim=True) for v in (x, known))
    found = judged(x, x, known, max_shift_s=0.35, permutations=1).generated
    for one, distance in zip(x.numpy(), found.tolist(), strict=True):
        remainders = []
        for other in known.numpy():
            for lag in range(-7, 8):
                a, b = one[:, max(lag, 0) : 40 + min(lag, 0)], other[:, max(-lag, 0) : 40 - max(lag, 0)]
                scale = (a * b).sum() / (b**2).sum()
                remainders.append(((a - scale * b) ** 2).sum() / (a**2).sum())
        assert distance == pytest.approx(math.sqrt(min(remainders)), rel=1e-9)


def test_copies_are_found_shifted_scaled_and_of_turned_polarity():
    training = normal(30, 3, 200)
    copies = torch.stack([training[3].roll(10, -1), -1e-7 * training[7].roll(-5, -1), 1e9 * training[11]])
    found = judged(copies, normal(40, 3, 200, seed=1), training)
    assert found.neighbour.tolist() == [3, 7, 11]
    assert found.generated.max() < 0.1 and found.held_out.min() > 0.8
    assert found.nearer == 1 and found.p_value < 0.01 and found.rank.tolist() == pytest.approx([1 / 41] * 3)
    out_of_reach = judged(training[3:4].roll(25, -1), normal(40, 3, 200, seed=1), training)
    assert out_of_reach.generated > 0.7


def test_candidates_find_the_same_copies():
    training = normal(50, 2, 128)
    copies = training[[4, 40]].roll(3, -1) + 0.1 * normal(2, 2, 128, seed=3)
    whole = judged(copies, normal(10, 2, 128, seed=1), training)
    some = judged(copies, normal(10, 2, 128, seed=1), training, candidates=3)
    torch.testing.assert_close(some.generated, whole.generated)
    assert some.neighbour.tolist() == whole.neighbour.tolist() == [4, 40]
    assert (some.held_out >= whole.held_out - 1e-12).all()


def test_without_memory_one_in_twenty_is_significant():
    p = [judged(*(normal(12, 1, 32, seed=3 * s + k) for k in range(3)), permutations=39).p_value for s in range(120)]
    assert np.mean([v <= 0.05 for v in p]) <= 0.11
    assert abs(np.mean(p) - 0.5) < 0.1


def test_features_and_events():
    training = normal(200, 3)
    held_out, made = normal(60, 3, seed=1), training[:60] + 0.05 * normal(60, 3, seed=2)
    found = memorisation_of_features(made, held_out, training, seeded())
    assert found.nearer > 0.9 and found.p_value == pytest.approx(0.001)
    expected = (training - made[0]).square().sum(1).sqrt().min()
    assert found.generated[0].item() == pytest.approx(expected.item())
    far = memorisation_of_features(made + 10, held_out, training, seeded())
    assert far.nearer == 0 and far.p_value == 1 and far.rank.min() == 1  # one-sided: far away is no memory
    events = [i // 30 for i in range(60)]
    few = memorisation_of_features(made, held_out, training, seeded(), events=events, held_out_events=[5 + e for e in events])
    assert few.p_value > 0.1  # two events a side cannot be significant
    same = memorisation_of_features(held_out, held_out, training, seeded())
    assert same.nearer == 0.5 and same.p_value > 0.3
    again = memorisation_of_features(made, held_out, training, seeded())
    assert again.p_value == found.p_value


def test_chunks_do_not_matter(monkeypatch):
    x, known = normal(4, 2, 64), normal(9, 2, 64, seed=1)
    x, known = (v / v.square().sum((1, 2), keepdim=True).sqrt() for v in (x, known))
    whole = aligned_nearest(x, known, 5)
    monkeypatch.setattr("seislatent.metrics.memorisation.CHUNK", 1)
    torch.testing.assert_close(aligned_nearest(x, known, 5), whole)


def test_bad_input_is_told():
    x = normal(5, 2, 50)
    for call, words in [
        (lambda: judged(x[:, :1], x, x), "same components"),
        (lambda: judged(x[:, :, :40], x, x), "same components"),
        (lambda: judged(torch.zeros_like(x), x, x), "generated: 5 records are silent"),
        (lambda: judged(x, torch.full_like(x, 7.0), x), "held out: 5 records are silent or constant"),
        (lambda: judged(x[:, :, :1], x[:, :, :1], x[:, :, :1]), "silent or constant"),
        (lambda: judged(x, x, x * math.nan), "training: 5 records hold NaN"),
        (lambda: judged(x[:0], x, x), "record component time"),
        (lambda: judged(x[0], x, x), "record component time"),
        (lambda: judged(x, x, x, max_shift_s=-1.0), "shift"),
        (lambda: judged(x, x, x, candidates=0), "candidates"),
        (lambda: judged(x, x, x, permutations=0), "permutations"),
        (lambda: judged(x, x, x, events=["a"] * 5, held_out_events=["a"] * 5), "two events"),
        (lambda: memorisation_of_features(x, x, x, seeded()), "one set"),
        (lambda: memorisation_of_features(x[:, 0], x[:, 0], x[:, 0, :9], seeded()), "same"),
    ]:
        with pytest.raises(SeislatentError, match=words):
            call()
