"""Lent tokens against water-filling, allocations and searches done by hand."""

from itertools import product

import pytest
import torch
from small_lending import LATENT, allotted, coarse_of, drawn, given_out, made, steady, vectors, water_filling

from seislatent.errors import SeislatentError
from seislatent.systems.codec.lending import BITS, MOST, PART, STEPS_PER_OCTAVE, LendingQuantizer
from seislatent.systems.codec.quantizer import EARLIER

LEVELS = torch.tensor([3, 1, 2, 4, 4])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


# -- which numbers a token tells of -----------------------------------------------------------------------------------------------

OCTAVE = STEPS_PER_OCTAVE
ROWS = {
    "drawn": drawn(8 * OCTAVE, LATENT, low=-20 * OCTAVE),
    "close": drawn(4, LATENT),
    "equal": torch.full((LATENT,), -7),
    "two": (torch.arange(LATENT) % 2) * 100 * OCTAVE,
    "one": (torch.arange(LATENT) == 3) * 28 * OCTAVE,
    "falling": -torch.arange(LATENT) * OCTAVE,
    "wide": drawn(2 * OCTAVE, 4 * PART, low=-12 * OCTAVE),
    "narrow": drawn(2 * OCTAVE, PART, low=-2 * OCTAVE),
}


@pytest.mark.parametrize("name", ROWS)
def test_powers_are_worn_down_as_water_filling_says(name):
    parts, powers = made().rounds(ROWS[name][None])
    assert parts.shape == powers.shape == (1, MOST, PART)
    for token, (part, power) in enumerate(water_filling(ROWS[name].tolist())):
        assert parts[0, token].tolist() == part and powers[0, token].tolist() == power, token


def test_a_token_takes_its_bits_from_the_largest_and_raises_nothing():
    rows = drawn(6 * OCTAVE, 200, 3 * PART, low=-12 * OCTAVE)
    given = rows.clone()
    parts, powers = made().rounds(rows)
    assert torch.equal(rows, given)
    power = rows.clone()
    for token in range(MOST - 1):
        part, before = parts[:, token], powers[:, token]
        assert torch.equal(power.gather(1, part), before) and (before.diff(dim=1) <= 0).all()
        others = power.scatter(1, part, -(10**6))
        assert (others.amax(1) <= before[:, -1]).all()
        # what the next rounds see of the numbers: each as it was, or at the level of the others that were worn down
        level = torch.tensor([after(row) for row in before.tolist()])
        power = power.scatter(1, part, level)
        spent = before - level
        assert (spent >= 0).all() and (spent.sum(1) >= 2 * BITS * OCTAVE).all() and (spent.sum(1) < 2 * BITS * OCTAVE + PART).all()
        assert torch.equal(powers[:, token + 1], power.sort(1, descending=True).values[:, :PART])
    assert (powers[..., 0].diff(dim=1) <= 0).all()


def after(falling):
    """Powers [part], largest first, once a token has told of them."""
    for several in range(len(falling), 0, -1):
        level = (sum(falling[:several]) - 2 * BITS * STEPS_PER_OCTAVE) // several
        if falling[several - 1] > level:
            return [min(p, level) for p in falling]
    raise AssertionError


def test_rows_are_worn_down_one_by_one():
    q, rows = made(), drawn(200, 9, LATENT)
    parts, powers = q.rounds(rows)
    for i in range(9):
        alone = q.rounds(rows[i : i + 1])
        assert torch.equal(alone[0][0], parts[i]) and torch.equal(alone[1][0], powers[i])
    shifted = q.rounds(rows + 1000)  # only differences count
    assert torch.equal(shifted[0], parts) and torch.equal(shifted[1], powers + 1000)


# -- who gets a token -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed, loud", [(0, 1), (1, 4), (2, 30)])
def test_tokens_go_where_most_is_left(seed, loud):
    q, frames = made(), 9
    coarse, scale = q.coarse[drawn(16, 1, frames, seed=seed)], drawn(loud, 1, frames, seed=seed + 10)
    *_, ranks = allotted(q, coarse, scale)
    order = given_out(q.foretold(coarse)[0].tolist(), scale[0].tolist(), q.books)
    for place, (frame, token) in enumerate(order):
        assert ranks[0, frame, token] == place
    for level in (2, 3, 4):  # level by level; within one by time
        expected = [sorted(order[k * frames : (k + 1) * frames]) for k in range(level - 1)]
        assert q.slots(ranks, level)[0].tolist() == [MOST * f + t for part in expected for f, t in part]


@pytest.mark.parametrize("frames", [1, 2, 17, 100])
def test_ranks_are_a_permutation_in_which_a_frame_fills_from_its_first_token(frames):
    q = made()
    *_, ranks = allotted(q, q.coarse[drawn(16, 5, frames)], drawn(20, 5, frames, low=-20))
    assert ranks.shape == (5, frames, MOST)
    assert torch.equal(ranks.flatten(1).sort(1).values, torch.arange(frames * MOST).expand(5, -1))
    assert (ranks.diff(dim=2) > 0).all()


def test_each_level_holds_a_token_per_frame_and_is_a_prefix_of_the_next():
    q = made(books=8)
    *_, ranks = allotted(q, q.coarse[drawn(16, 6, 23)], drawn(40, 6, 23))
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
    q, most = made(books=8), 0
    _, powers = q.rounds(drawn(8 * OCTAVE, 256, LATENT, low=-20 * OCTAVE))
    for frames in range(1, 257):
        for scale in (torch.zeros(1, frames, dtype=torch.long), drawn(401, 1, frames, low=-400), drawn(2, 1, frames) * 800 - 400):
            ranks = q.ranks(powers[None, :frames], scale)
            given = (ranks < 7 * frames).sum(2)
            assert given.max() <= MOST and given.sum() == 7 * frames
            most = max(most, int(given.max()))
    assert most == MOST and q.slots(ranks, 8).unique().numel() == 7 * 256


def test_books_and_latents_that_cannot_lend_are_refused():
    assert LendingQuantizer(MOST + 1, 4, PART).fine.shape == (MOST, 4, PART)
    for books, latent in ((MOST + 2, PART), (1, PART), (2, PART - 1)):
        with pytest.raises(SeislatentError, match=f"2 to {MOST + 1} books .*at least {PART}, not {books} and {latent}"):
            LendingQuantizer(books, 4, latent)


def test_louder_frames_get_more():
    q = made(books=8)
    even, silent = torch.full((1, 16, LATENT), -3), torch.zeros(1, 16, dtype=torch.long)

    def given(power, scale):
        _, powers = q.rounds(power.flatten(0, 1))
        return (q.ranks(powers.unflatten(0, power.shape[:2]), scale) < 7 * 16).sum(2)[0]

    assert (given(even, silent) == 7).all() and (given(even, silent + 9) == 7).all()
    for power, scale in ((even + OCTAVE * torch.arange(16)[:, None], silent), (even, 3 * torch.arange(16)[None])):
        told = given(power, scale)
        assert (told.diff() >= 0).all() and told[-1] >= told[0] + 7, told


def test_who_gets_a_token_hangs_on_the_indices_of_book_1_and_the_scale_alone():
    q, z, scale = made(), vectors(6, LATENT, 30), drawn(9, 6, 30)
    first, coarse = coarse_of(q, z)
    parts, powers, ranks = allotted(q, coarse, scale)
    assert powers.dtype == ranks.dtype == torch.long
    near = z + 1e-6 * vectors(6, LATENT, 30, seed=1)
    assert torch.equal(coarse_of(q, near)[0], first) and not torch.equal(near, z)
    slots = q.slots(ranks, 4)
    for x in (z, near):
        indices = q.search(x, 2, scale)
        again = allotted(q, q.coarse[indices[:, 0]], scale)
        assert all(torch.equal(a, b) for a, b in zip(again, (parts, powers, ranks), strict=True))
        assert torch.equal(q.slots(again[2], 4), slots)


def test_powers_are_whole_numbers_beyond_the_doubt_of_a_machine():
    """What differs in the last bits, by order of summation or another library, is rounded away; sizes of batches say nothing."""
    q, z, told = made(), vectors(40, LATENT, 30), []
    _, coarse = coarse_of(q, z)
    q.spread.register_forward_hook(lambda _, given, out: told.extend([given[0].dtype, out.dtype]))
    steps = q.foretold(coarse)
    assert steps.dtype == torch.long and steps.shape == (40, 30, LATENT) and steps.unique().numel() > 3 * OCTAVE
    exact = OCTAVE * q.spread(coarse.double())
    assert exact.dtype == torch.float64 and torch.equal(exact.round().long(), steps)
    for seed in range(3):
        moved = coarse.double() * (1 + 1e-14 * vectors(*coarse.shape, seed=seed).double())
        assert not torch.equal(moved, coarse.double()) and torch.equal(q.foretold(moved), steps)
    for b in range(40):
        assert torch.equal(q.foretold(coarse[b : b + 1])[0], steps[b])
    assert torch.equal(q.foretold(coarse.flip(0)).flip(0), steps)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(q.foretold(coarse), steps)
    assert set(told) == {torch.float64}


def test_powers_foretold_stay_in_bounds():
    q = made()
    for value, octaves in ((1e3, 8), (-1e3, -20)):
        steady(q, [value] * LATENT)
        assert (q.foretold(q.coarse[None]) == octaves * OCTAVE).all()
        z, scale = vectors(1, LATENT, 2), torch.tensor([[0, 60]])
        assert q.decode(q.search(z, 2, scale), scale).isfinite().all() and q(z, torch.tensor([4]), scale).value.isfinite().all()


# -- coding -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent", [PART, LATENT, 4 * PART])
@pytest.mark.parametrize("frames", [1, 2, 31])
def test_what_is_searched_greedily_is_what_was_learnt_at_every_level(frames, latent):
    q, z, scale = made(latent=latent), vectors(5, latent, frames), drawn(12, 5, frames, low=-12)
    indices = q.search(z, 1, scale)
    assert indices.shape == (5, 4, frames) and indices.min() >= 0 and indices.max() < 16
    for level in range(1, 5):
        exact = q(z, torch.full((5,), level), scale).value
        torch.testing.assert_close(q.decode(indices[:, :level], scale), exact, rtol=0, atol=1e-5)
    mixed = q(z, LEVELS, scale).value
    for b, level in enumerate(LEVELS):
        torch.testing.assert_close(mixed[b : b + 1], q.decode(indices[b : b + 1, :level], scale[b : b + 1]), rtol=0, atol=1e-5)


def test_decoding_by_hand():
    """A frame's sum: its coarse entry, then token by token entries of the next book in the units of its part."""
    q, scale = made(), drawn(12, 3, 10)
    indices = drawn(16, 3, 4, 10, seed=4)
    coarse = q.coarse[indices[:, 0]]
    value = coarse.clone()
    for b in range(3):
        power = q.foretold(coarse[b : b + 1])[0].tolist()
        told, order = [water_filling(p) for p in power], given_out(power, scale[b].tolist(), 4)
        for level in range(3):
            for at, (frame, token) in enumerate(sorted(order[10 * level : 10 * level + 10])):
                part, powers = told[frame][token]
                unit = torch.exp2(torch.tensor(powers) / (2 * STEPS_PER_OCTAVE))
                value[b, frame, part] += unit * q.fine[min(token, 2), indices[b, level + 1, at]]
    assert max(token for _, token in order) > 2
    torch.testing.assert_close(q.decode(indices, scale), value.transpose(1, 2), rtol=1e-5, atol=1e-5)


def squared_error(q, z, indices, scale):
    return (z - q.decode(indices, scale)).square().sum(1)


def test_a_beam_is_on_average_not_worse():
    q, z, scale = made(books=6, entries=32), vectors(24, LATENT, 20), drawn(6, 24, 20)
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
    q, z = made(books=3, entries=8), vectors(40, LATENT, 1, seed=6)
    scale = torch.zeros(40, 1, dtype=torch.long)
    found = q.search(z, 64, scale)

    def error(*fine):
        return squared_error(q, z, torch.stack([found[:, 0, 0], *(torch.full((40,), i) for i in fine)], 1)[..., None], scale)[:, 0]

    # with one token the second book is level 2; with both it is level 3
    both = torch.stack([error(i, j) + EARLIER * error(i) for i, j in product(range(8), repeat=2)], 1)
    best = both.argmin(1)
    assert torch.equal(found[:, 1:, 0], torch.stack([best // 8, best % 8], 1))


def test_other_records_do_not_matter():
    q, z, scale = made(), vectors(7, LATENT, 20), drawn(12, 7, 20)
    indices = q.search(z, 3, scale)
    value, coded = q.decode(indices, scale), q(z, torch.full((7,), 3), scale)
    for rows in ([2], [6, 0], [3, 3, 1, 5]):
        assert torch.equal(q.search(z[rows], 3, scale[rows]), indices[rows])
        torch.testing.assert_close(q.decode(indices[rows], scale[rows]), value[rows], rtol=0, atol=1e-6)
        alone = q(z[rows], torch.full((len(rows),), 3), scale[rows])
        torch.testing.assert_close(alone.value, coded.value[rows], rtol=0, atol=1e-6)
        torch.testing.assert_close(alone.spread, coded.spread[rows], rtol=0, atol=1e-5)


def test_gradient_goes_straight_through_and_commitment_pulls_to_the_sum():
    q, z, scale = made().requires_grad_(True), vectors(5, LATENT, 7).requires_grad_(), drawn(5, 5, 7)
    weight = vectors(5, LATENT, 7, seed=3)
    coded = q(z, LEVELS, scale)
    (slope,) = torch.autograd.grad((coded.value * weight).sum(), z, retain_graph=True)
    torch.testing.assert_close(slope, weight)
    (slope,) = torch.autograd.grad(coded.commit[..., 1].sum(), z, retain_graph=True)
    torch.testing.assert_close(slope, 2 / LATENT * (z - coded.value).detach(), rtol=0, atol=1e-6)
    coarse = coarse_of(q, z.detach())[1].transpose(1, 2)
    torch.testing.assert_close(coded.commit[..., 0], (z - coarse).square().mean(1))
    assert torch.autograd.grad(coded.spread.sum(), z, allow_unused=True)[0] is None


def test_spread_is_the_likelihood_and_least_where_the_powers_are_right():
    q, z = made(), vectors(5, LATENT, 50)
    scale = torch.zeros(5, 50, dtype=torch.long)
    coarse = q.decode(q.search(z, 1, scale)[:, :1], scale)
    power = (z - coarse).square().mean((0, 2))
    told = {}
    for octaves in (-0.5, 0.0, 0.5):
        steady(q, power.log2() + octaves)
        told[octaves] = q(z, torch.full((5,), 4), scale).spread
    assert told[0.0].shape == (5, 50) and told[0.0].mean() < min(told[-0.5].mean(), told[0.5].mean())
    torch.testing.assert_close(told[0.0].mean(), 0.5 * power.log().mean() + 0.5, rtol=0, atol=1e-3)


def test_sums_are_never_taken_in_half_precision():
    q, scale = made(), drawn(5, 5, 7)
    coded = q(vectors(5, LATENT, 7).bfloat16(), LEVELS, scale)
    assert {t.dtype for t in (coded.value, coded.commit, coded.spread)} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        rough = q(vectors(5, LATENT, 7), LEVELS, scale)
    assert {t.dtype for t in (rough.value, rough.commit, rough.spread)} == {torch.float32}
    assert {t.dtype for _, x, w, _, e in rough.fine for t in (x, w, e)} == {torch.float32}
    q.update(coded)
    assert {t.dtype for t in q.buffers()} == {torch.float32} and all(t.isfinite().all() for t in q.buffers())


def test_saved_and_loaded_is_the_same():
    q, z, scale = made(), vectors(3, LATENT, 9), drawn(9, 3, 9)
    q.update(q(z, torch.full((3,), 4), scale))
    assert {n: tuple(b.shape) for n, b in q.named_buffers()} == {
        "coarse": (16, LATENT), "fine": (3, 16, PART), "share": (4, 16), "mass": (3, 16, PART), "started": ()
    }  # fmt: skip
    torch.manual_seed(5)
    other = LendingQuantizer(4, 16, LATENT)
    other.load_state_dict({k: v.clone() for k, v in q.state_dict().items()})
    indices = q.search(z, 2, scale)
    assert torch.equal(other.search(z, 2, scale), indices) and torch.equal(other.decode(indices, scale), q.decode(indices, scale))
