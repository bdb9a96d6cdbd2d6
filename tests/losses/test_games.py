"""Adversarial games, gradient penalty, and the f-divergences against closed forms."""

import math

import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.losses.adversarial import GAMES, game, gradient_penalty
from seislatent.losses.divergence import DIVERGENCES

each_game = pytest.mark.parametrize("name", GAMES)
each_divergence = pytest.mark.parametrize("name", DIVERGENCES)
PARTS = ("real", "fake", "as_real", "as_fake")
SCORES = torch.linspace(-12, 12, 481, dtype=torch.float64)


def at(name, part, v):
    return getattr(game(name), part)(torch.tensor([v], dtype=torch.float64)).item()


BY_HAND = {  # real, fake, as_real, as_fake at a score of 0.5
    "logistic": (
        math.log(1 + math.exp(-0.5)),
        math.log(1 + math.exp(0.5)),
        math.log(1 + math.exp(-0.5)),
        math.log(1 + math.exp(0.5)),
    ),
    "hinge": (0.5, 1.5, -0.5, 0.5),
    "least_squares": (0.25, 0.25, 0.25, 0.25),
    "wasserstein": (-0.5, 0.5, -0.5, 0.5),
    "kullback_leibler": (-0.5, math.exp(-0.5), -0.5, math.exp(-0.5)),
    "reverse_kullback_leibler": (math.exp(-0.5), -0.5, math.exp(-0.5), -0.5),
    "pearson": (-0.5, 0.5625, -0.5, 0.5625),
    "squared_hellinger": (math.exp(-0.5) - 1, math.exp(0.5) - 1, math.exp(-0.5) - 1, math.exp(0.5) - 1),
    "jensen_shannon": tuple(math.log((1 + math.exp(s * 0.5)) / 2) for s in (-1, 1, -1, 1)),
}


@each_game
def test_terms_by_hand(name):
    for part, by_hand in zip(PARTS, BY_HAND[name], strict=True):
        torch.testing.assert_close(at(name, part, 0.5), by_hand)


@each_game
def test_terms_are_value_by_value_with_their_own_gradient(name):
    for part in PARTS:
        v = torch.randn(4, 1, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        term = getattr(game(name), part)(v)
        assert term.shape == v.shape
        assert torch.autograd.gradcheck(getattr(game(name), part), v)
        assert getattr(game(name), part)(v.detach().bfloat16()).dtype == torch.float32


@each_game
@pytest.mark.parametrize("score", [0.0, 1e-7, -1e-7, 30.0, -30.0])
def test_finite_on_scores_of_all_sizes(name, score):
    for part in PARTS:
        v = torch.tensor([score], requires_grad=True)
        value = getattr(game(name), part)(v)
        value.sum().backward()
        assert torch.isfinite(value).all() and torch.isfinite(v.grad).all()


@each_game
def test_who_pulls_where(name):
    """The discriminator lifts real scores and lowers fake ones; the makers pull the other way, and not only where they win."""
    for part, direction in zip(PARTS, (-1, 1, -1, 1), strict=True):
        v = torch.tensor([-0.3, 0.3], requires_grad=True)
        getattr(game(name), part)(v).sum().backward()
        if name == "least_squares" and direction == 1:
            assert v.grad[1] > 0 > v.grad[0]  # towards 0, from either side
        else:
            assert (v.grad * direction > 0).all()


def test_least_value_of_the_discriminators():
    """Of equal chances of real and fake, the best score is that of an even ratio."""
    for name, best, least in [("logistic", 0.0, 2 * math.log(2)), ("least_squares", 0.5, 0.5), ("hinge", 0.0, 2.0)]:
        both = game(name).real(SCORES) + game(name).fake(SCORES)
        torch.testing.assert_close(both.min().item(), least)
        assert both[(SCORES - best).abs() < 1e-9].item() == pytest.approx(least)


def test_stated_blindness_of_the_games():
    v = torch.tensor([1.5, 20.0], requires_grad=True)
    (game("hinge").real(v) + game("hinge").fake(-v)).sum().backward()
    assert not v.grad.any()
    v = torch.tensor([10.0], requires_grad=True)
    game("logistic").real(v).backward()
    assert 0 < -v.grad.item() < 5e-5
    assert at("least_squares", "as_real", 2.0) == at("least_squares", "as_real", 0.0) == 1
    real, fake = SCORES[:9], SCORES[9:18]
    shifted = game("wasserstein").real(real + 5).mean() + game("wasserstein").fake(fake + 5).mean()
    torch.testing.assert_close(shifted, game("wasserstein").real(real).mean() + game("wasserstein").fake(fake).mean())
    # log(1 - D), which as_real is not, has died where the discriminator is sure that a record is fake
    v = torch.tensor([-10.0], requires_grad=True)
    game("logistic").as_real(v).backward()
    assert v.grad.item() < -0.999


def test_unknown_game():
    with pytest.raises(SeislatentError, match="did you mean 'hinge'"):
        game("hinges")


# --- f-divergences


@each_divergence
def test_rows_of_the_tables_agree_with_each_other(name):
    row = DIVERGENCES[name]
    t = row.activation(SCORES)
    assert (t.diff() > 0).all() and row.domain[0] <= t.min() and t.max() <= row.domain[1]
    torch.testing.assert_close(row.fake(SCORES), row.conjugate(t), rtol=1e-6, atol=1e-6)
    u = torch.linspace(0.05, 6, 120, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(row.generator(u).sum(), u)
    torch.testing.assert_close(row.slope(u), slope)
    # the conjugate is the largest of u t - f(u), and reaches it at t = f'(u)
    torch.testing.assert_close(row.generator(u) + row.conjugate(slope), u * slope)
    one = torch.ones(1, dtype=torch.float64)
    torch.testing.assert_close(row.slope(one).item(), row.critical)
    torch.testing.assert_close(row.generator(one).item(), -2 * math.log(2) if name == "gan" else 0.0)
    assert torch.autograd.gradcheck(lambda v: (row.activation(v), row.fake(v)), SCORES[::20].clone().requires_grad_())


def highest_bound(row, p, q):
    """Each point's best score, from a fine grid: the bound's maximum over all functions T. Weights p, q of points."""
    v = torch.linspace(-14, 14, 28001, dtype=torch.float64)
    return (p[:, None] * row.activation(v) - q[:, None] * row.fake(v)).max(1).values.sum().item()


def js(p, q):
    m = p + q
    return (p * (2 * p / m).log() + q * (2 * q / m).log()).sum().item()


CLOSED = {
    "kullback_leibler": lambda p, q: (p * (p / q).log()).sum().item(),
    "reverse_kullback_leibler": lambda p, q: (q * (q / p).log()).sum().item(),
    "pearson": lambda p, q: ((p - q).square() / q).sum().item(),
    "squared_hellinger": lambda p, q: (p.sqrt() - q.sqrt()).square().sum().item(),
    "jensen_shannon": js,
    "gan": lambda p, q: js(p, q) - 2 * math.log(2),
}


@each_divergence
def test_the_bound_reaches_the_divergence_of_discrete_distributions(name):
    p, q = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(highest_bound(DIVERGENCES[name], p, q), CLOSED[name](p, q), atol=1e-6, rtol=0)
    assert abs(CLOSED[name](p, q) - CLOSED[name](q, p)) > 0.01 or name in ("squared_hellinger", "jensen_shannon", "gan")
    torch.testing.assert_close(
        highest_bound(DIVERGENCES[name], p, p), -2 * math.log(2) if name == "gan" else 0.0, atol=1e-6, rtol=0
    )


GAUSSIANS = {  # N(1, 1) against N(0, 1)
    "kullback_leibler": 0.5,
    "reverse_kullback_leibler": 0.5,
    "pearson": math.e - 1,
    "squared_hellinger": 2 * (1 - math.exp(-1 / 8)),
}


@pytest.mark.parametrize("name", GAUSSIANS)
def test_the_bound_reaches_the_divergence_of_two_gaussians(name):
    x = torch.linspace(-7, 8, 1501, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) * 0.01 for m in (1.0, 0.0))
    row = DIVERGENCES[name]
    v = torch.sinh(torch.linspace(-3.4, 6.7, 4001, dtype=torch.float64))  # -15 to 400: Pearson's best T grows as p / q
    bound = (p[:, None] * row.activation(v) - q[:, None] * row.fake(v)).max(1).values.sum().item()
    torch.testing.assert_close(bound, GAUSSIANS[name], atol=2e-4, rtol=0)


@each_divergence
def test_bound_from_draws_stays_below_and_the_critical_value_parts_them(name):
    """Two Gaussians one apart: with the best T the bound is met, with a linear one it lies below."""
    row = DIVERGENCES[name]
    draws = torch.randn(2, 200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    real, fake = draws[0] + 0.5, draws[1]
    ratio = torch.exp(0.5 * SCORES - 0.125)  # p / q at x = SCORES
    best = row.slope(ratio)
    assert ((best > row.critical) == (SCORES > 0.25)).all()
    poor = row.bound(0.1 * real, 0.1 * fake).item()
    x = torch.linspace(-8, 9, 1701, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) * 0.01 for m in (0.5, 0.0))
    assert poor < CLOSED[name](p, q) + 0.01


def test_activation_and_conjugate_in_turn_lose_what_the_joint_formula_keeps():
    v = torch.tensor([20.0])
    row = DIVERGENCES["gan"]
    assert torch.isinf(row.conjugate(row.activation(v))) and abs(row.fake(v).item() - 20) < 1e-5


# --- gradient penalty


def test_penalty_by_hand():
    real, fake = torch.randn(2, 4, 1, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    slope = torch.full((25,), 0.6, dtype=torch.float64)  # a linear judge: |gradient| = 0.6 * 5 = 3 everywhere
    value = gradient_penalty(lambda x: x[:, 0] @ slope, real, fake)
    torch.testing.assert_close(value, torch.full((4,), 4.0).double(), atol=1e-4, rtol=0)
    assert (gradient_penalty(lambda x: x[:, 0] @ slope / 3, real, fake) < 1e-9).all()  # its least value
    flat = gradient_penalty(lambda x: 0 * x.sum((1, 2)), real, fake)
    torch.testing.assert_close(flat, torch.ones(4).double())
    assert not gradient_penalty(lambda x: x[:, 0] @ slope / 6, real, fake, one_sided=True).any()
    patches = gradient_penalty(lambda x: x.flatten(1)[:, :, None] * slope[:, None], real, fake)
    torch.testing.assert_close(patches, torch.full((4,), 4.0).double(), atol=1e-4, rtol=0)


def test_penalty_of_pairs_takes_one_norm_over_both():
    real, fake = torch.zeros(2, 3, 1, 4), torch.ones(2, 3, 1, 4)
    value = gradient_penalty(lambda x, z: 1.5 * x.sum((1, 2)) + 2 * z.sum((1, 2)), list(real), list(fake))
    torch.testing.assert_close(value, torch.full((3,), (5 - 1) ** 2.0), atol=1e-3, rtol=0)


def test_penalty_stands_between_the_records():
    """The gradient of |x|^2 / 2 is x itself, so the penalty tells where it was taken: on the line, at its own place per record."""
    real, fake = torch.full((64, 1, 1), 1.0), torch.full((64, 1, 1), 3.0)
    value = gradient_penalty(lambda x: x.square().sum((1, 2)) / 2, real, fake, generator=torch.Generator().manual_seed(4))
    place = value.sqrt() + 1
    assert (place >= 1).all() and (place <= 3).all() and place.std() > 0.4
    again = gradient_penalty(lambda x: x.square().sum((1, 2)) / 2, real, fake, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(value, again, rtol=0, atol=0)


def test_penalty_teaches_the_judge_and_only_it():
    judge = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Softplus(), torch.nn.Linear(4, 1))  # bent, so that places matter
    record, made = torch.randn(2, 4, 8)
    gradient_penalty(judge, record.requires_grad_(), made.requires_grad_()).mean().backward()
    assert judge[0].weight.grad.abs().sum() > 0 and record.grad is None and made.grad is None
    silent = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Softplus(), torch.nn.Linear(4, 1))
    for parameter in silent.parameters():
        torch.nn.init.zeros_(parameter)
    gradient_penalty(silent, torch.zeros(4, 8), torch.zeros(4, 8)).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in silent.parameters() if p.grad is not None)


def test_penalty_under_autocast():
    judge = torch.nn.Linear(8, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = gradient_penalty(judge, torch.randn(4, 8), torch.randn(4, 8).bfloat16())
    assert value.dtype == torch.float32 and torch.isfinite(value).all()


def test_penalty_refuses():
    x = torch.randn(4, 8)
    with pytest.raises(SeislatentError, match="as many fake"):
        gradient_penalty(torch.nn.Linear(8, 1), x, x[:2])
    with pytest.raises(SeislatentError, match="does not depend"):
        gradient_penalty(lambda x: torch.ones(len(x)), x, x)
