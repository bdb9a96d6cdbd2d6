"""Games between a discriminator and those it judges: one value per score, to be terms of a turn.

    game = GAMES["hinge"]
    yield Turn("discriminator", real=game.real(judge(broad)), fake=game.fake(judge(made.detach())))
    yield Turn("generator", fool=game.as_real(judge(made)))

Scores are what the discriminator's last layer gives, without sigmoid. High says real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError, unknown
from seislatent.losses.divergence import DIVERGENCES, Divergence
from seislatent.losses.pairs import bent_root
from seislatent.nn.processes import full


@dataclass(frozen=True)
class Game:
    """Four terms, value by value; a score of any shape gives a term of that shape, in float32 at least.

    `real` and `fake` teach the discriminator. `as_real` teaches whoever made a fake; `as_fake` teaches whoever had a hand in
    a real pair: the encoder, where a discriminator sees (record, code), as in ALICE.
    """

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    as_real: Callable[[Tensor], Tensor]
    as_fake: Callable[[Tensor], Tensor]


def _plus(v: Tensor) -> Tensor:
    return full(v)


def _minus(v: Tensor) -> Tensor:
    return -full(v)


def _logistic(v: Tensor) -> Tensor:
    return F.softplus(full(v))


def _logistic_minus(v: Tensor) -> Tensor:
    return F.softplus(-full(v))


LOGISTIC = Game(real=_logistic_minus, fake=_logistic, as_real=_logistic_minus, as_fake=_logistic)
"""Binary cross-entropy with logits: -log D and -log(1 - D), D = 1 / (1 + exp(-v)) (Goodfellow et al. 2014; seed 004, 2.76).

`as_real` is their -log D, whose gradient lives where the discriminator is sure, not log(1 - D), whose gradient dies there. 0 to
infinity, nats; log 2 where the score is 0. Blind to nothing that the discriminator sees, but its gradient on real scores above
10 is below 5e-5.
"""

HINGE = Game(
    real=lambda v: F.relu(1 - full(v)), fake=lambda v: F.relu(1 + full(v)), as_real=_minus, as_fake=_plus
)  # fmt: skip
"""max(0, 1 - v) and max(0, 1 + v) against -v (Lim and Ye 2017; Miyato et al. 2018; seed 004, equation 4.19).

The discriminator's terms are 0 to infinity and blind beyond the margin: gradient 0 for real scores above 1 and fake ones below -1.
The generator's has no least value: it follows the score as far as it goes, so bound the discriminator (spectral normalisation).
"""

LEAST_SQUARES = Game(
    real=lambda v: (full(v) - 1).square(),
    fake=lambda v: full(v).square(),
    as_real=lambda v: (full(v) - 1).square(),
    as_fake=lambda v: full(v).square(),
)
"""(v - 1)^2 and v^2 (Mao et al. 2017, a = 0, b = c = 1; seed 004, equation 4.20, corrected).

0 to infinity, no unit. A fake that scores 2 costs as much as one that scores 0: too good is punished too.
"""

WASSERSTEIN = Game(real=_minus, fake=_plus, as_real=_minus, as_fake=_plus)
"""-v and v (Arjovsky et al. 2017; seed 004, equation 4.7): only with `gradient_penalty`, or with weights otherwise bound.

Any real value, in units of the score; minus the sum of the means of `real` and `fake` estimates the Wasserstein distance once
the discriminator's slope is 1. Blind to a constant added to all scores.
"""


def _f_game(divergence: Divergence) -> Game:
    """The game of an f-divergence, the makers' terms in the form that does not die (Nowozin et al. 2016, section 3.2)."""

    def real(v: Tensor) -> Tensor:
        return -divergence.activation(full(v))

    def fake(v: Tensor) -> Tensor:
        return divergence.fake(full(v))

    return Game(real=real, fake=fake, as_real=real, as_fake=fake)


GAMES: dict[str, Game] = {
    "logistic": LOGISTIC,
    "hinge": HINGE,
    "least_squares": LEAST_SQUARES,
    "wasserstein": WASSERSTEIN,
    **{name: _f_game(divergence) for name, divergence in DIVERGENCES.items() if name != "gan"},
}
"""By the name that a config gives. The f-divergence `gan` is `logistic`."""


def game(name: str) -> Game:
    """The game of this name; SeislatentError with the nearest name where there is none."""
    if name not in GAMES:
        raise SeislatentError(unknown("adversarial game", name, GAMES))
    return GAMES[name]


def gradient_penalty(
    judge: Callable[..., Tensor],
    real: Float[Tensor, "batch ..."] | Sequence[Float[Tensor, "batch ..."]],
    fake: Float[Tensor, "batch ..."] | Sequence[Float[Tensor, "batch ..."]],
    *,
    one_sided: bool = False,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " batch"]:
    """(|gradient of the score| - 1)^2 at a random point between each real and fake record (Gulrajani et al. 2017, equation 3).

    `judge` takes what `real` holds: one tensor, or the members of a pair (record, code), which share one random place per record
    and one gradient norm. Scores per patch are summed over a record. `one_sided` spares slopes below 1. Draws come from
    `generator`, else from torch's global one. 0 to infinity; a discriminator that is constant costs 1 (0 where one-sided).
    Blind to the slope anywhere but on those lines. Runs under `torch.enable_grad`, with a graph for the second derivative.

    Raises SeislatentError where real and fake differ in shape, or the score does not depend on them.
    """
    reals, fakes = ([x] if isinstance(x, Tensor) else list(x) for x in (real, fake))
    if [x.shape for x in reals] != [x.shape for x in fakes] or not reals:
        raise SeislatentError(
            f"gradient penalty between {[list(x.shape) for x in reals]} and {[list(x.shape) for x in fakes]}: give as many fake "
            "records as real ones, of the same shape"
        )
    with torch.enable_grad():
        place = torch.rand(len(reals[0]), generator=generator, device=reals[0].device, dtype=full(reals[0]).dtype)
        between = []
        for r, f in zip(reals, fakes, strict=True):
            t = place.view(-1, *[1] * (r.ndim - 1))
            between.append((full(r.detach()) * t + full(f.detach()) * (1 - t)).requires_grad_())
        score = judge(*between)
        if not score.requires_grad:
            raise SeislatentError("gradient penalty: the score does not depend on the records that the judge is given")
        slopes = torch.autograd.grad(full(score).sum(), between, create_graph=True, allow_unused=True)
        square = sum((full(s).flatten(1).square().sum(1) for s in slopes if s is not None), torch.zeros_like(place))
        steep = bent_root(square) - 1
        return (F.relu(steep) if one_sided else steep).square()
