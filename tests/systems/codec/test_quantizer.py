"""Residual vector quantisation against searches, averages and sums done by hand."""

import math

import pytest
import torch

from seislatent.systems.codec.quantizer import EARLIER, ResidualQuantizer, nearest

LEVELS = torch.tensor([3, 1, 2, 3, 3])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(books=3, entries=16, latent=4, **rules):
    """A quantiser with drawn codebooks, one finer than the other."""
    it = ResidualQuantizer(books, entries, latent, **rules)
    it.codebooks.copy_(vectors(books, entries, latent, seed=1) * 0.5 ** torch.arange(books)[:, None, None])
    it.started.fill_(1)
    return it


def brute(quantizer, row):
    """Greedy search for one vector, with distances written out."""
    left, found = row.clone(), []
    for book in quantizer.codebooks:
        found.append(min(range(len(book)), key=lambda i: float(((left - book[i]) ** 2).sum())))
        left = left - book[found[-1]]
    return found


def squared_error(quantizer, z, indices):
    return (z - quantizer.decode(indices)).square().sum(1)


def test_forward_is_the_nearest_entry_of_each_book():
    q, z = made(), vectors(5, 4, 7)
    coded = q(z, LEVELS)
    for b, level in enumerate(LEVELS):
        for f in range(7):
            assert coded.indices[b, :level, f].tolist() == brute(q, z[b, :, f])[:level]
    full = q(z, torch.full((5,), 3))
    torch.testing.assert_close(full.value, q.decode(full.indices))
    assert coded.residuals.shape == (4, 5, 7, 4) and coded.used.shape == (3, 5, 1)
    torch.testing.assert_close(coded.residuals[0], z.transpose(1, 2))
    torch.testing.assert_close(coded.residuals[-1], (z - coded.value).transpose(1, 2))


def test_nearest_in_large_numbers():
    """Squared norms of the vectors play no part, so that far vectors lose no digits to them."""
    book = vectors(64, 8).double()
    x = vectors(200, 8, seed=2).double()
    assert torch.equal(nearest(x, book), torch.cdist(x, book).argmin(1))
    assert torch.equal(nearest(book + 1e-6, book), torch.arange(64))


def test_levels_are_respected():
    q, z = made(), vectors(5, 4, 7)
    coded = q(z, LEVELS)
    for b, level in enumerate(LEVELS):
        torch.testing.assert_close(coded.value[b], q.decode(coded.indices[b : b + 1, :level])[0])
        assert coded.used[:, b, 0].tolist() == [float(k < level) for k in range(3)]


def test_gradient_goes_straight_through():
    q, z = made(), vectors(5, 4, 7).requires_grad_()
    weight = vectors(5, 4, 7, seed=3)
    (q(z, LEVELS).value * weight).sum().backward()
    assert torch.equal(z.grad, weight)
    z.grad = None
    coded = q(z, torch.full((5,), 3))
    coded.residuals[1:].square().sum().backward()
    by_hand = 2 * coded.residuals[1:].sum(0).transpose(1, 2)  # the commitment pulls towards the sum of entries at every book
    torch.testing.assert_close(z.grad, by_hand.detach())
    assert not any(t.requires_grad for t in q.buffers()) and not list(q.parameters())


def test_beam_of_one_is_greedy_and_more_is_better():
    """On average: for a single vector the greedy sum may leave the beam, and end better than those that stayed."""
    q, z = made(books=4, entries=32, latent=6), vectors(20, 6, 9)
    greedy = q(z, torch.full((20,), 4)).indices
    assert torch.equal(q.search(z, 1), greedy)
    former = squared_error(q, z, greedy)
    for beam in (2, 4, 16, 64):
        found = squared_error(q, z, q.search(z, beam))
        assert found.mean() < former.mean() * (1 if beam == 2 else 1.01)
        assert (found > squared_error(q, z, greedy) + 1e-5).float().mean() < 0.1
        former = found


def test_full_beam_finds_the_best_of_all_sums():
    """Judged by the squared error, and by `EARLIER` times that of the shorter sum within."""
    q, rows = made(books=2, entries=8, latent=4), vectors(30, 4, 1, seed=6)
    first = (rows[:, :, 0][:, None] - q.codebooks[0]).square().sum(2)
    both = (rows[:, :, 0][:, None, None] - (q.codebooks[0][:, None] + q.codebooks[1])).square().sum(3)
    best = (both + EARLIER * first[:, :, None]).flatten(1).argmin(1)
    assert torch.equal(q.search(rows, 8)[:, :, 0], torch.stack([best // 8, best % 8], 1))


def test_beam_does_not_give_the_lower_levels_away():
    q, z = made(books=4, entries=32, latent=6), vectors(40, 6, 9)
    greedy, found = q.search(z, 1), q.search(z, 8)
    for level in range(1, 5):
        exact = squared_error(q, z, greedy[:, :level]).mean()
        assert squared_error(q, z, found[:, :level]).mean() < 1.35 * exact


def test_update_is_the_moving_average_by_hand():
    q = ResidualQuantizer(1, 2, 1, decay=0.9)
    q.codebooks.copy_(torch.tensor([[[0.0], [10.0]]]))
    q.share.copy_(torch.tensor([[1.5, 0.5]]))
    q.started.fill_(1)
    q.update(q(torch.tensor([[[1.0, 2.0, 9.0, 3.0]]]), torch.tensor([1])))
    share = [0.9 * 1.5 + 0.1 * 2 * 3 / 4, 0.9 * 0.5 + 0.1 * 2 * 1 / 4]  # use relative to 1 / entries
    entry = [(0.9 * 1.5 * 0 + 0.1 * 2 * 6 / 4) / share[0], (0.9 * 0.5 * 10 + 0.1 * 2 * 9 / 4) / share[1]]
    torch.testing.assert_close(q.share[0], torch.tensor(share))
    torch.testing.assert_close(q.codebooks[0, :, 0], torch.tensor(entry))
    assert q.share.sum() == pytest.approx(2)


def test_update_of_every_book_by_what_the_books_before_left():
    q, z = made(entries=4, decay=0.8, alive=0.0), vectors(6, 4, 5)
    former, share = q.codebooks.clone(), q.share.clone()
    coded = q(z, torch.full((6,), 3))
    q.update(coded)
    left = z.transpose(1, 2).reshape(-1, 4)
    for k in range(3):
        index = coded.indices[:, k].flatten()
        for e in range(4):
            mine = left[index == e]
            now = 0.8 * share[k, e] + 0.2 * 4 * len(mine) / 30
            expected = (0.8 * share[k, e] * former[k, e] + 0.2 * 4 / 30 * mine.sum(0)) / now
            torch.testing.assert_close(q.share[k, e], now)
            torch.testing.assert_close(q.codebooks[k, e], expected)
        left = left - former[k][index]


def test_records_of_a_level_do_not_teach_the_books_beyond():
    q, z = made(alive=0.0), vectors(4, 4, 5)
    q.update(q(z, torch.tensor([1, 2, 2, 1])))
    alone = made(alive=0.0)
    alone.update(alone(z[1:3], torch.tensor([2, 2])))
    torch.testing.assert_close(q.codebooks[1], alone.codebooks[1])
    torch.testing.assert_close(q.share[1], alone.share[1])
    assert not torch.allclose(q.codebooks[0], alone.codebooks[0])
    torch.testing.assert_close(q.codebooks[2], made().codebooks[2])  # nobody reached it: it stays where it was


def test_dead_entries_become_the_worst_vectors_and_their_share_starts_afresh():
    q = ResidualQuantizer(1, 4, 1, decay=0.5, alive=0.3)
    q.codebooks.copy_(torch.tensor([[[0.0], [5.0], [-50.0], [70.0]]]))
    q.share.copy_(torch.tensor([[1.0, 1.0, 0.4, 0.5]]))
    q.started.fill_(1)
    q.update(q(torch.tensor([[[0.1, 0.2, 3.9, 1.7, 5.1]]]), torch.tensor([1])))
    assert q.codebooks[0, 2:, 0].tolist() == [pytest.approx(1.7), pytest.approx(3.9)]  # errors 1.7 and 1.1: the worst first
    assert q.share[0, 2:].tolist() == [1.0, 1.0]
    assert q.share[0, 0] == pytest.approx(0.5 + 0.5 * 4 * 3 / 5)
    q.share[0] = torch.tensor([1.0, 0.01, 0.01, 0.01])
    q.update(q(torch.tensor([[[0.0, 0.1]]]), torch.tensor([1])))  # more dead entries than vectors
    assert (q.share[0] == 1.0).sum() == 2 and q.codebooks.isfinite().all()


def test_revival_and_start_draw_nothing():
    state = torch.random.get_rng_state()
    q = ResidualQuantizer(2, 8, 3, decay=0.5, alive=0.9)
    for seed in range(3):
        q.update(q(vectors(4, 3, 6, seed=seed), torch.full((4,), 2)))
    assert torch.equal(state, torch.random.get_rng_state())


def test_first_update_starts_by_k_means():
    q, z = ResidualQuantizer(3, 16, 4), vectors(20, 4, 30)
    rows = z.transpose(1, 2).reshape(-1, 4)
    coded = q(z, torch.full((20,), 3))
    assert (coded.value == 0).all()  # empty books say nothing
    q.update(coded)
    assert q.started == 1 and (q.share == 1).all()
    errors = [rows.square().sum(1).mean()]
    for k in range(3):
        errors.append(q(z, torch.full((20,), k + 1)).residuals[-1].square().sum(2).mean())
        assert errors[-1] < 0.62 * errors[-2]  # 16 entries in 4 dimensions: 1 bit each, at best 0.25
    drawn = ResidualQuantizer(1, 16, 4)
    drawn.codebooks[0] = rows[torch.linspace(0, len(rows) - 1, 16).long()]
    assert errors[1] < 0.85 * drawn(z, torch.ones(20)).residuals[-1].square().sum(2).mean()


def test_start_with_fewer_vectors_than_entries():
    q, z = ResidualQuantizer(2, 32, 4), vectors(1, 4, 5)
    q.update(q(z, torch.tensor([2])))
    assert q.codebooks.isfinite().all()
    assert q(z, torch.tensor([2])).residuals[-1].abs().max() < 1e-5


def test_usage_by_hand():
    q = ResidualQuantizer(2, 4, 1, alive=0.1)
    q.share.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 0.0, 0.05]]))
    told = q.usage()
    p = [2 / 4.05, 2 / 4.05, 0.05 / 4.05]
    assert told == pytest.approx({
        "perplexity/1": 4.0, "dead/1": 0.0, "perplexity/2": math.exp(-sum(v * math.log(v) for v in p)), "dead/2": 0.5,
    })  # fmt: skip


def test_sums_are_never_taken_in_half_precision():
    q = made()
    coded = q(vectors(5, 4, 7).bfloat16(), LEVELS)
    assert coded.residuals.dtype == torch.float32 and coded.value.dtype == torch.float32
    q.update(coded)
    assert q.codebooks.dtype == torch.float32 and q.codebooks.isfinite().all()
