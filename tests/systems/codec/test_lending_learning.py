"""How the books of a quantiser that lends learn, against averages by hand."""

from itertools import pairwise, product

import pytest
import torch
from small_lending import LATENT, coarse_of, drawn, given_out, made, steady, vectors, water_filling

from seislatent.systems.codec.lending import PART, STEPS_PER_OCTAVE, LendingQuantizer


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def by_hand(q, z, scale, level):
    """What each book is taught by one record z [latent frame]: lists of entry, vector and weight."""
    _, coarse = coarse_of(q, z[None])
    power = q.foretold(coarse)[0].tolist()
    told, left = [water_filling(p) for p in power], (z.T - coarse[0]).clone()
    taught = [[] for _ in range(q.books)]
    for f in range(z.shape[1]):
        taught[0].append((int((z[:, f] - q.coarse).square().sum(1).argmin()), z[:, f], torch.ones(len(z))))
    for frame, token in given_out(power, scale.tolist(), level):
        part, powers = told[frame][token]
        square = torch.exp2(torch.tensor(powers) / STEPS_PER_OCTAVE)
        x, weight, k = left[frame, part] / square.sqrt(), square / square.mean(), min(token, q.books - 2)
        i = int((weight * (x - q.fine[k]).square()).sum(1).argmin())
        taught[k + 1].append((i, x, weight))
        left[frame, part] -= square.sqrt() * q.fine[k, i]
    return taught


def test_update_is_the_weighted_moving_average_by_hand():
    """Book 1 plain, the fine ones weighed by the power told of; the last one serves all further tokens of a frame."""
    q = made(books=3, entries=4, decay=0.9, alive=0.0)
    q.share.copy_(vectors(3, 4, seed=4).abs() + 0.5)
    q.mass.copy_(vectors(2, 4, PART, seed=5).abs() + 0.5)
    z, scale = vectors(1, LATENT, 6, seed=7), drawn(12, 1, 6)
    coded = q(z, torch.tensor([3]), scale)
    taught = by_hand(q, z[0], scale[0], 3)
    assert [k for k, *_ in coded.fine] == [min(t, 1) for t in range(len(coded.fine))] and len(coded.fine) > 2
    assert len(taught[0]) == 6 >= len(taught[1]) and len(taught[1]) + len(taught[2]) == 12
    before, share, mass = [q.coarse.clone(), *q.fine.clone()], q.share.clone(), q.mass.clone()
    q.update(coded)
    now = [q.coarse, *q.fine]
    for k, e in product(range(3), range(4)):
        rate = 0.1 * 4 / len(taught[k])
        mine = [(x, w) for i, x, w in taught[k] if i == e]
        old = mass[k - 1, e] if k else share[0, e].expand(LATENT)
        heavy = 0.9 * old + rate * sum((w for _, w in mine), torch.zeros(len(old)))
        entry = (0.9 * old * before[k][e] + rate * sum((w * x for x, w in mine), torch.zeros(len(old)))) / heavy
        torch.testing.assert_close(now[k][e], entry, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(q.share[k, e], 0.9 * share[k, e] + rate * len(mine))
        if k:
            torch.testing.assert_close(q.mass[k - 1, e], heavy, rtol=1e-4, atol=1e-5)


def test_records_of_a_level_do_not_teach_more_than_they_reach():
    q, z, scale = made(alive=0.0), vectors(4, LATENT, 5), drawn(5, 4, 5)
    q.update(q(z, torch.tensor([1, 4, 2, 1]), scale))
    alone = made(alive=0.0)
    alone.update(alone(z[1:3], torch.tensor([4, 2]), scale[1:3]))
    torch.testing.assert_close(q.fine, alone.fine)
    torch.testing.assert_close(q.share[1:], alone.share[1:])
    assert not torch.allclose(q.coarse, alone.coarse)
    former = made(alive=0.0)
    former.update(former(z, torch.ones(4, dtype=torch.long), scale))
    assert torch.equal(former.fine, made().fine) and torch.equal(former.mass, made().mass)


def test_dead_entries_become_the_worst_vectors_and_their_statistics_start_afresh():
    q = made(books=2, entries=4, decay=0.5, alive=0.3)
    q.coarse.zero_()
    q.coarse[:, 0] = torch.tensor([0.0, 5.0, -50.0, 70.0])
    q.share[0] = torch.tensor([1.0, 1.0, 0.4, 0.5])
    z, scale = torch.zeros(1, LATENT, 5), torch.zeros(1, 5, dtype=torch.long)
    z[0, 0] = torch.tensor([0.1, 0.2, 3.9, 1.7, 5.1])
    q.update(q(z, torch.tensor([1]), scale))
    assert q.coarse[2:, 0].tolist() == [pytest.approx(1.7), pytest.approx(3.9)]  # errors 1.7 and 1.1: the worst first
    assert q.share[0, 2:].tolist() == [1.0, 1.0] and q.share[0, 0] == pytest.approx(0.5 + 0.5 * 4 * 3 / 5)
    q.share[0] = torch.tensor([1.0, 0.01, 0.01, 0.01])
    q.update(q(z[:, :, :2], torch.tensor([1]), scale[:, :2]))  # more dead entries than vectors
    assert (q.share[0] == 1.0).sum() == 2 and q.coarse.isfinite().all()


def test_dead_entries_of_fine_books_are_revived():
    q, z, scale = made(entries=8, decay=0.5, alive=0.3), vectors(4, LATENT, 20), drawn(9, 4, 20)
    q.share[1:, 5] = 0.0
    q.fine[:, 5] = 1e4
    q.mass[:, 5] = 7.0
    coded = q(z, torch.full((4,), 4), scale)
    q.update(coded)
    for k in range(3):
        taught = torch.cat([x for at, x, *_ in coded.fine if at == k])
        assert q.share[k + 1, 5] == 1 and (q.mass[k, 5] == 1).all()
        assert (taught == q.fine[k, 5]).all(1).any()


def test_revival_with_little_left_to_tell_does_not_run_away():
    """Many entries for few vectors, and a short memory: late rounds divide by a small size, yet their rests are not the worst."""
    torch.manual_seed(0)
    q, z, scale = LendingQuantizer(8, 48, LATENT, decay=0.5).requires_grad_(False), vectors(6, LATENT, 10), drawn(6, 6, 10)
    level, errors = torch.full((6,), 8), []
    for _ in range(60):
        coded = q(z, level, scale)
        errors.append(float((z - coded.value).square().mean()))
        q.update(coded)
    assert max(errors[1:]) < errors[0] and errors[-1] < 0.05 * errors[0], errors
    assert q.fine.abs().max() < 100, q.fine.abs().amax((1, 2))


def test_start_and_revival_draw_nothing():
    torch.manual_seed(1)
    q = LendingQuantizer(3, 8, LATENT, decay=0.5, alive=0.9)
    state = torch.random.get_rng_state()
    for seed in range(3):
        q.update(q(vectors(4, LATENT, 6, seed=seed), torch.full((4,), 3), drawn(3, 4, 6)))
    assert torch.equal(state, torch.random.get_rng_state()) and all(t.isfinite().all() for t in q.buffers())


def test_first_update_starts_book_1_by_k_means_and_the_fine_ones_learn_from_noise():
    torch.manual_seed(0)
    q, z = LendingQuantizer(4, 16, LATENT, decay=0.9).requires_grad_(False), vectors(20, LATENT, 30)
    scale, level = torch.zeros(20, 30, dtype=torch.long), torch.full((20,), 4)
    noise = q.fine.clone()
    torch.testing.assert_close(noise.std(), torch.tensor(1.0), rtol=0, atol=0.1)
    torch.manual_seed(1)
    assert torch.equal(LendingQuantizer(4, 16, LATENT).fine, noise)  # the same on every process
    coded = q(z, level, scale)
    assert coded.commit[..., 0].mean() == pytest.approx(float(z.square().mean()), rel=1e-5)  # an empty book says nothing
    q.update(coded)
    assert q.started == 1 and (q.share == 1).all() and (q.mass == 1).all() and torch.equal(q.fine, noise)
    left = z - q.decode(q.search(z, 1, scale)[:, :1], scale)
    assert left.square().mean() < 0.85 * z.square().mean()
    steady(q, [float(left.square().mean().log2())] * LATENT)
    for _ in range(30):
        q.update(q(z, level, scale))
    errors = [(z - q(z, torch.full((20,), level), scale).value).square().sum(1).mean() for level in range(1, 5)]
    assert all(b < 0.95 * a for a, b in pairwise(errors)), errors


def test_start_with_fewer_vectors_than_entries():
    torch.manual_seed(0)
    q, z = LendingQuantizer(3, 32, LATENT), vectors(1, LATENT, 5)
    q.update(q(z, torch.tensor([3]), torch.zeros(1, 5, dtype=torch.long)))
    assert q.coarse.isfinite().all() and q.started == 1


def test_usage_tells_of_every_book():
    q = made(books=2, entries=4)
    q.share.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 0.0, 0.0]]))
    assert q.usage() == pytest.approx({"perplexity/1": 4.0, "dead/1": 0.0, "perplexity/2": 2.0, "dead/2": 0.5})
