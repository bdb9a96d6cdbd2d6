"""Lent tokens against allocations, searches and averages done by hand."""

from fractions import Fraction
from itertools import pairwise, product

import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.systems.codec.lending import LOUDER, MOST, STEPS_PER_OCTAVE, WORTH, LendingQuantizer
from seislatent.systems.codec.quantizer import EARLIER, nearest

LEVELS = torch.tensor([3, 1, 2, 4, 4])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(high, *shape, low=0, seed=0):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def made(books=4, entries=16, latent=4, **rules):
    """A quantiser with drawn codebooks, one finer than the other, and drawn energies."""
    torch.manual_seed(0)
    it = LendingQuantizer(books, entries, latent, **rules)
    it.codebooks.copy_(vectors(books, entries, latent, seed=1) * 0.6 ** torch.arange(books)[:, None, None])
    it.energy.copy_(torch.exp(2 * vectors(entries, seed=2)))
    it.started.fill_(1)
    return it.requires_grad_(False)


def steady(quantizer, unit):
    """Foretells the same unit [latent] everywhere."""
    quantizer.spread.layers[-1].weight.zero_()
    quantizer.spread.layers[-1].bias.copy_(torch.log(torch.tensor(unit)))


def energy_steps(energy):
    """Sixteenths of an octave, rounded by whole numbers alone: e lies above 2^((k + 1/2) / 16) where e^32 > 2^(2 k + 1)."""
    found = []
    for e in map(Fraction, energy.tolist()):
        k = -600
        for half in (512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 1):
            if e ** (2 * STEPS_PER_OCTAVE) > Fraction(2) ** (2 * (k + half - 1) + 1):
                k += half
        found.append(k)
    return found


def given_out(quantizer, first, scale):
    """Frames in the order in which they get further tokens, one at a time, to whom most is left; the earlier one of two equals."""
    steps = energy_steps(quantizer.energy)
    left = [steps[i] + LOUDER * s for i, s in zip(first.tolist(), scale.tolist(), strict=True)]
    tokens, order = [0] * len(left), []
    for _ in range((len(quantizer.codebooks) - 1) * len(left)):
        frame = max((f for f in range(len(left)) if tokens[f] < MOST), key=lambda f: (left[f], -f))
        order.append((frame, tokens[frame]))
        tokens[frame] += 1
        left[frame] -= WORTH
    return order


# -- who gets a token -------------------------------------------------------------------------------------------------------------


def test_tokens_go_where_most_is_left():
    q, frames = made(), 9
    for seed, spread in ((0, 1), (1, 4), (2, 30)):
        first, scale = drawn(16, 1, frames, seed=seed), drawn(spread, 1, frames, seed=seed + 10)
        ranks, order = q.ranks(first, scale), given_out(q, first[0], scale[0])
        for place, (frame, token) in enumerate(order):
            assert ranks[0, frame, token] == place
        for level in (2, 3, 4):  # level by level; within one by time
            expected = [sorted(order[k * frames : (k + 1) * frames]) for k in range(level - 1)]
            assert q.slots(ranks, level)[0].tolist() == [MOST * f + t for part in expected for f, t in part]


@pytest.mark.parametrize("frames", [1, 2, 17, 100])
def test_ranks_are_a_permutation_in_which_a_frame_fills_from_its_first_token(frames):
    q = made()
    ranks = q.ranks(drawn(16, 5, frames), drawn(20, 5, frames, low=-20))
    assert ranks.shape == (5, frames, MOST)
    assert torch.equal(ranks.flatten(1).sort(1).values, torch.arange(frames * MOST).expand(5, -1))
    assert (ranks.diff(dim=2) > 0).all()


def test_each_level_holds_a_token_per_frame_and_is_a_prefix_of_the_next():
    q = made(books=8)
    ranks = q.ranks(drawn(16, 6, 23), drawn(40, 6, 23))
    former = q.slots(ranks, 1)
    assert former.shape == (6, 0)
    for level in range(2, 9):
        slots = q.slots(ranks, level)
        assert slots.shape == (6, (level - 1) * 23) and torch.equal(slots[:, : former.shape[1]], former)
        assert all(len(set(row.tolist())) == len(row) for row in slots)
        reached = torch.zeros(6, 23 * MOST, dtype=torch.bool).scatter_(1, slots, True)
        assert torch.equal(reached.view_as(ranks), ranks < (level - 1) * 23)
        former = slots


def test_tokens_always_fit_and_none_has_more_than_most():
    q = made(books=8, entries=64)
    q.energy.copy_(2.0 ** drawn(40, 64, low=-40))
    for frames in range(1, 257):
        for scale in (torch.zeros(1, frames, dtype=torch.long), drawn(401, 1, frames, low=-400), drawn(2, 1, frames) * 800 - 400):
            ranks = q.ranks(drawn(64, 1, frames, seed=frames), scale)
            given = (ranks < 7 * frames).sum(2)
            assert given.max() <= MOST and given.sum() == 7 * frames
    assert q.slots(ranks, 8).unique().numel() == 7 * 256


def test_more_books_than_a_frame_can_have_tokens_are_refused():
    assert len(LendingQuantizer(MOST + 1, 4, 4).codebooks) == MOST + 1
    with pytest.raises(SeislatentError, match=f"{MOST + 2} books.* at most {MOST + 1}"):
        LendingQuantizer(MOST + 2, 4, 4)


def test_louder_frames_get_more():
    q = made(books=8)
    q.energy.copy_(2.0 ** torch.arange(16))
    given = (q.ranks(torch.arange(16)[None], torch.zeros(1, 16, dtype=torch.long)) < 7 * 16).sum(2)[0]
    assert (given.diff() >= 0).all() and given[-1] >= given[0] + 20
    given = (q.ranks(torch.zeros(1, 16, dtype=torch.long), 3 * torch.arange(16)[None]) < 7 * 16).sum(2)[0]
    assert (given.diff() >= 0).all() and given[-1] >= given[0] + 15
    even = (q.ranks(torch.zeros(1, 16, dtype=torch.long), torch.full((1, 16), 9)) < 7 * 16).sum(2)
    assert (even == 7).all()


def test_energies_become_whole_numbers_without_a_doubt():
    """Also where a logarithm in float32 rounds to either side, as it does from one machine to the next."""
    border = torch.exp2((torch.arange(-200.0, 200.0).double() + 0.5) / STEPS_PER_OCTAVE).float()
    table = torch.stack([torch.nextafter(border, border * 0), border, torch.nextafter(border, border * 2)]).flatten()
    q = made(entries=len(table))
    q.energy.copy_(table)
    pairs = torch.stack([torch.arange(len(table)), (torch.arange(len(table)) + 400) % len(table)], 1)
    steps = torch.tensor(energy_steps(table))
    ranks = q.ranks(pairs, torch.zeros_like(pairs))
    wish = (steps[pairs][..., None] - WORTH * torch.arange(MOST)).flatten(1)
    order = torch.arange(2 * MOST)
    before = (wish[:, None] > wish[:, :, None]) | ((wish[:, None] == wish[:, :, None]) & (order < order[:, None]))
    assert torch.equal(ranks.flatten(1), before.sum(2))


@pytest.mark.parametrize("value", [0.0, 1e-45, 3e38, float("inf")])
def test_any_energy_can_be_held(value):
    """A table stored in 16 bits may hold zeros and infinities."""
    q = made()
    q.energy[0] = value
    ranks = q.ranks(torch.tensor([[0, 1, 0]]), torch.zeros(1, 3, dtype=torch.long))
    assert ranks.flatten().sort().values.tolist() == list(range(3 * MOST))
    assert ((ranks[0, 0, 0] < ranks[0, 1, 0]) == (value > 1)).all()


def test_what_is_foretold_has_no_say_in_who_gets_a_token():
    q, z, scale = made(), vectors(6, 4, 30), drawn(9, 6, 30)
    indices, first = q.search(z, 2, scale), None
    for _ in range(3):
        slots, value = q.slots(q.ranks(indices[:, 0], scale), 4), q.decode(indices, scale)
        if first is not None:
            assert torch.equal(slots, first[0]) and not torch.equal(value, first[1])
            torch.testing.assert_close(value, first[1], rtol=0, atol=1e-4)
        first = first or (slots, value)
        for p in q.spread.parameters():
            p.add_(1e-6 * vectors(*p.shape))


# -- coding -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 31])
def test_what_is_searched_greedily_is_what_was_learnt_at_every_level(frames):
    q, z, scale = made(), vectors(5, 4, frames), drawn(12, 5, frames, low=-12)
    indices = q.search(z, 1, scale)
    assert indices.shape == (5, 4, frames) and indices.min() >= 0 and indices.max() < 16
    for level in range(1, 5):
        exact = q(z, torch.full((5,), level), scale).value
        torch.testing.assert_close(q.decode(indices[:, :level], scale), exact, rtol=0, atol=1e-5)
    mixed = q(z, LEVELS, scale).value
    for b, level in enumerate(LEVELS):
        torch.testing.assert_close(mixed[b : b + 1], q.decode(indices[b : b + 1, :level], scale[b : b + 1]), rtol=0, atol=1e-5)


def squared_error(q, z, indices, scale):
    return (z - q.decode(indices, scale)).square().sum(1)


def test_a_beam_is_on_average_not_worse():
    q, z, scale = made(books=6, entries=32, latent=6), vectors(24, 6, 20), drawn(6, 24, 20)
    former = squared_error(q, z, q.search(z, 1, scale), scale).mean()
    greedy = former
    for beam in (2, 4, 16, 64):
        error = squared_error(q, z, q.search(z, beam, scale), scale).mean()
        assert error < 1.01 * former and error < greedy
        former = error
    for level in range(1, 6):  # nor are the lower levels given away
        exact = squared_error(q, z, q.search(z, 1, scale)[:, :level], scale).mean()
        assert squared_error(q, z, q.search(z, 8, scale)[:, :level], scale).mean() < 1.35 * exact


def test_full_beam_finds_the_best_of_all_sums():
    """Judged by the squared error, and by `EARLIER` times that of the shorter sum within; a frame alone gets every token."""
    q, z = made(books=3, entries=8), vectors(40, 4, 1, seed=6)
    scale = torch.zeros(40, 1, dtype=torch.long)
    found = q.search(z, 64, scale)

    def error(*fine):
        return squared_error(q, z, torch.stack([found[:, 0, 0], *(torch.full((40,), i) for i in fine)], 1)[..., None], scale)[:, 0]

    # with one token the second book is level 2; with both it is level 3
    both = torch.stack([error(i, j) + EARLIER * error(i) for i, j in product(range(8), repeat=2)], 1)
    best = both.argmin(1)
    assert torch.equal(found[:, 1:, 0], torch.stack([best // 8, best % 8], 1))


def test_other_records_do_not_matter():
    q, z, scale = made(), vectors(7, 4, 20), drawn(12, 7, 20)
    indices = q.search(z, 3, scale)
    value = q.decode(indices, scale)
    for rows in ([2], [6, 0], [3, 3, 1, 5]):
        assert torch.equal(q.search(z[rows], 3, scale[rows]), indices[rows])
        torch.testing.assert_close(q.decode(indices[rows], scale[rows]), value[rows], rtol=0, atol=1e-6)


def test_gradient_goes_straight_through_and_commitment_pulls_to_the_sum():
    q, z, scale = made().requires_grad_(True), vectors(5, 4, 7).requires_grad_(), drawn(5, 5, 7)
    weight = vectors(5, 4, 7, seed=3)
    coded = q(z, LEVELS, scale)
    (slope,) = torch.autograd.grad((coded.value * weight).sum(), z, retain_graph=True)
    torch.testing.assert_close(slope, weight)
    (slope,) = torch.autograd.grad(coded.commit[..., 1].sum(), z, retain_graph=True)
    torch.testing.assert_close(slope, (z - coded.value).detach() / 2, rtol=0, atol=1e-6)  # the mean of four
    coarse = torch.nn.functional.embedding(nearest(z.transpose(1, 2), q.codebooks[0]), q.codebooks[0]).transpose(1, 2)
    torch.testing.assert_close(coded.commit[..., 0], (z - coarse).square().mean(1))
    assert torch.autograd.grad(coded.spread.sum(), z, allow_unused=True)[0] is None


def test_spread_is_the_likelihood_and_least_where_the_size_is_right():
    q, z = made(), vectors(5, 4, 50)
    scale = torch.zeros(5, 50, dtype=torch.long)
    coarse = q.decode(q.search(z, 1, scale)[:, :1], scale)
    size = (z - coarse).square().mean((0, 2)).sqrt()
    told = {}
    for factor in (0.8, 1.0, 1.25):
        steady(q, (size * factor).tolist())
        told[factor] = q(z, torch.full((5,), 4), scale).spread
    assert told[1.0].mean() < min(told[0.8].mean(), told[1.25].mean())
    torch.testing.assert_close(told[1.0].mean(), size.log().mean() + 0.5, rtol=1e-4, atol=0)


def test_sums_are_never_taken_in_half_precision():
    q, scale = made(), drawn(5, 5, 7)
    coded = q(vectors(5, 4, 7).bfloat16(), LEVELS, scale)
    assert {t.dtype for t in (coded.value, coded.commit, coded.spread)} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        rough = q(vectors(5, 4, 7), LEVELS, scale)
    assert {t.dtype for t in (rough.value, rough.commit, rough.spread)} == {torch.float32}
    assert {t.dtype for _, x, w, _, e in rough.fine for t in (x, w, e)} == {torch.float32}
    q.update(coded)
    assert q.codebooks.dtype == q.mass.dtype == q.energy.dtype == torch.float32 and q.codebooks.isfinite().all()


# -- learning ---------------------------------------------------------------------------------------------------------------------


def test_update_is_the_weighted_moving_average_by_hand():
    """Book 1 plain, book 2 and the last one weighed by the square of the unit; the last one again where tokens are left."""
    unit = [0.5, 2.0]
    q = made(books=3, entries=2, latent=2, decay=0.9, alive=0.0)
    steady(q, unit)
    q.energy.copy_(torch.tensor([1.0, 16.0]))
    q.share.copy_(vectors(3, 2, seed=4).abs() + 0.5)
    q.mass.copy_(vectors(3, 2, 2, seed=5).abs() + 0.5)
    z, scale = vectors(1, 2, 3, seed=7), torch.tensor([[0, 0, 0]])
    books, share, mass = q.codebooks.clone(), q.share.clone(), q.mass.clone()
    weight = torch.tensor(unit).square() / torch.tensor(unit).square().mean()
    taught = [[], [], []]
    first = []
    for f in range(3):
        i = int((z[0, :, f] - books[0]).square().sum(1).argmin())
        first.append(i)
        taught[0].append((i, z[0, :, f], torch.ones(2)))
    left = [(z[0, :, f] - books[0, i]) / torch.tensor(unit) for f, i in enumerate(first)]
    energies = {e: [float((left[f] * torch.tensor(unit)).square().sum()) for f in range(3) if first[f] == e] for e in (0, 1)}
    for frame, token in given_out(q, torch.tensor(first), scale[0]):
        k = min(token + 1, 2)
        size = 2 ** (-max(0, token - 1) * WORTH / STEPS_PER_OCTAVE / 2)  # a token takes WORTH steps off the energy
        x = left[frame] / size
        i = int((weight * (x - books[k]).square()).sum(1).argmin())
        taught[k].append((i, x, weight))
        left[frame] = left[frame] - size * books[k, i]
    assert len(taught[1]) < 6 > len(taught[2]) > 0 and max(len(t) for t in energies.values()) < 4
    q.update(q(z, torch.tensor([3]), scale))
    for k, e in product(range(3), range(2)):
        rate = 0.1 * 2 / len(taught[k])
        mine = [(x, w) for i, x, w in taught[k] if i == e]
        heavy = 0.9 * mass[k, e] + rate * sum((w for _, w in mine), torch.zeros(2))
        entry = (0.9 * mass[k, e] * books[k, e] + rate * sum((w * x for x, w in mine), torch.zeros(2))) / heavy
        torch.testing.assert_close(q.mass[k, e], heavy)
        torch.testing.assert_close(q.codebooks[k, e], entry)
        torch.testing.assert_close(q.share[k, e], 0.9 * share[k, e] + rate * len(mine))
    for e, former in ((0, 1.0), (1, 16.0)):
        keep = 0.9 ** len(energies[e])
        mean = sum(energies[e]) / max(1, len(energies[e]))
        assert float(q.energy[e]) == pytest.approx(keep * former + (1 - keep) * mean, rel=1e-5)


def test_records_of_a_level_do_not_teach_more_than_they_reach():
    q, z, scale = made(alive=0.0), vectors(4, 4, 5), drawn(5, 4, 5)
    q.update(q(z, torch.tensor([1, 4, 2, 1]), scale))
    alone = made(alive=0.0)
    alone.update(alone(z[1:3], torch.tensor([4, 2]), scale[1:3]))
    for k in (1, 2, 3):
        torch.testing.assert_close(q.codebooks[k], alone.codebooks[k])
        torch.testing.assert_close(q.share[k], alone.share[k])
    assert not torch.allclose(q.codebooks[0], alone.codebooks[0])
    former = made(alive=0.0)
    former.update(former(z, torch.ones(4, dtype=torch.long), scale))
    assert torch.equal(former.codebooks[1:], made().codebooks[1:]) and torch.equal(former.mass[1:], made().mass[1:])


def test_dead_entries_become_the_worst_vectors_and_their_statistics_start_afresh():
    q = made(books=1, entries=4, latent=1, decay=0.5, alive=0.3)
    q.codebooks.copy_(torch.tensor([[[0.0], [5.0], [-50.0], [70.0]]]))
    q.share.copy_(torch.tensor([[1.0, 1.0, 0.4, 0.5]]))
    q.mass.copy_(q.share[..., None])
    scale = torch.zeros(1, 5, dtype=torch.long)
    q.update(q(torch.tensor([[[0.1, 0.2, 3.9, 1.7, 5.1]]]), torch.tensor([1]), scale))
    assert q.codebooks[0, 2:, 0].tolist() == [pytest.approx(1.7), pytest.approx(3.9)]  # errors 1.7 and 1.1: the worst first
    assert q.share[0, 2:].tolist() == [1.0, 1.0] and q.mass[0, 2:, 0].tolist() == [1.0, 1.0]
    assert q.share[0, 0] == pytest.approx(0.5 + 0.5 * 4 * 3 / 5)
    q.share[0] = torch.tensor([1.0, 0.01, 0.01, 0.01])
    q.update(q(torch.tensor([[[0.0, 0.1]]]), torch.tensor([1]), scale[:, :2]))  # more dead entries than vectors
    assert (q.share[0] == 1.0).sum() == 2 and q.codebooks.isfinite().all()


def test_revival_with_little_left_to_tell_does_not_run_away():
    """Many entries for few vectors, and a short memory: late rounds divide by a small size, yet their rests are not the worst."""
    torch.manual_seed(0)
    q, z, scale = LendingQuantizer(8, 48, 8, decay=0.5).requires_grad_(False), vectors(6, 8, 10), drawn(6, 6, 10)
    level, errors = torch.full((6,), 8), []
    for _ in range(60):
        coded = q(z, level, scale)
        errors.append(float((z - coded.value).square().mean()))
        q.update(coded)
    assert max(errors[1:]) < 0.2 * errors[0] and errors[-1] < 1e-3 * errors[0], errors
    assert q.codebooks.abs().max() < 100


def test_energies_follow_the_data():
    q = made(books=3, entries=2, latent=4, decay=0.9, alive=0.0)
    q.codebooks[0] = torch.tensor([[10.0, 0, 0, 0], [-10.0, 0, 0, 0]])
    q.energy.fill_(1.0)
    scale = torch.zeros(8, 20, dtype=torch.long)
    for seed in range(30):
        z = vectors(8, 4, 20, seed=seed)
        z[:, :, ::2] *= 0.1
        z[:, 0, ::2] += 10
        z[:, 0, 1::2] -= 10
        q.update(q(z, torch.full((8,), 3), scale))
    torch.testing.assert_close(q.energy, torch.tensor([0.04, 4.0]), rtol=0.15, atol=0)
    first = q.search(z, 1, scale)[:, 0]
    assert ((q.ranks(first, scale) < 40).sum(2)[:, ::2] < (q.ranks(first, scale) < 40).sum(2)[:, 1::2]).all()


def test_start_and_revival_draw_nothing():
    torch.manual_seed(1)
    q = LendingQuantizer(3, 8, 3, decay=0.5, alive=0.9)
    state = torch.random.get_rng_state()
    for seed in range(3):
        q.update(q(vectors(4, 3, 6, seed=seed), torch.full((4,), 3), drawn(3, 4, 6)))
    assert torch.equal(state, torch.random.get_rng_state()) and q.codebooks.isfinite().all()


def test_first_update_starts_by_k_means():
    torch.manual_seed(0)
    q, z = LendingQuantizer(4, 16, 4, decay=0.9).requires_grad_(False), vectors(20, 4, 30)
    scale = torch.zeros(20, 30, dtype=torch.long)
    coded = q(z, torch.full((20,), 4), scale)
    assert coded.value.abs().max() < 1e-6  # empty books say nothing
    q.update(coded)
    assert q.started == 1 and (q.share == 1).all() and (q.mass == 1).all()
    left = z - q.decode(q.search(z, 1, scale)[:, :1], scale)
    assert left.square().sum(1).mean() < 0.62 * z.square().sum(1).mean()  # 16 entries in 4 dimensions: 1 bit each, at best 0.25
    steady(q, [float(left.square().mean().sqrt())] * 4)  # the unit in which the fine books have started
    errors = [(z - q(z, torch.full((20,), level), scale).value).square().sum(1).mean() for level in range(1, 5)]
    assert all(b < 0.75 * a for a, b in pairwise(errors)), errors


def test_start_with_fewer_vectors_than_entries():
    torch.manual_seed(0)
    q, z = LendingQuantizer(3, 32, 4), vectors(1, 4, 5)
    q.update(q(z, torch.tensor([3]), torch.zeros(1, 5, dtype=torch.long)))
    assert q.codebooks.isfinite().all() and q.started == 1


def test_usage_tells_of_every_book():
    q = made(books=2, entries=4)
    q.share.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 0.0, 0.0]]))
    assert q.usage() == pytest.approx({"perplexity/1": 4.0, "dead/1": 0.0, "perplexity/2": 2.0, "dead/2": 0.5})
