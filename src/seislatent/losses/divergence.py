"""f-divergences as games of two networks: output activations, conjugates and critical values (Nowozin et al. 2016, f-GAN).

    D_f(P|Q) = integral of q f(p / q)  >=  E_P[T] - E_Q[f*(T)],      T = g(v),

with equality at T = f'(p / q) (seed 004, equations 2.71 to 2.75, tables 2.6 and 2.7). f is convex, f* its conjugate sup over
u > 0 of (u t - f(u)); the activation g is increasing and keeps the score v of a network where f* is finite. The discriminator
raises the bound, the generator (Q) lowers it.

Tables 2.6 and 2.7 of the seed, corrected; every row is held against closed forms in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Pointwise = Callable[[Tensor], Tensor]
LOG2 = math.log(2)


@dataclass(frozen=True)
class Divergence:
    """One row of the tables. All functions work value by value, on a tensor of any shape."""

    title: str
    generator: Pointwise
    """f(u) of the density ratio u = p / q > 0. f(1) = 0, but for `gan`, where it is -2 log 2."""
    slope: Pointwise
    """f'(u): the best T at a point where p / q = u."""
    activation: Pointwise
    """g(v): from a score, any real number, to where f* is finite."""
    conjugate: Pointwise
    """f*(t), as in table 2.7; NaN or infinity outside its domain."""
    fake: Pointwise
    """f*(g(v)) in one formula: the two in turn lose their digits, and overflow, at scores beyond 15 or so in float32."""
    domain: tuple[float, float]
    """Open interval in which f* is finite."""
    critical: float
    """f'(1): T above it says real, below it generated."""

    def bound(self, real: Float[Tensor, " ..."], fake: Float[Tensor, " ..."]) -> Float[Tensor, ""]:
        """Lower bound of the divergence from scores of records (P) and of generated ones (Q): equation 2.74. Nats."""
        return self.activation(real).mean() - self.fake(fake).mean()


def _xlogx(u: Tensor) -> Tensor:
    return torch.xlogy(u, u)


DIVERGENCES: dict[str, Divergence] = {
    "kullback_leibler": Divergence(
        "Kullback-Leibler: E_P[log p / q]",
        generator=_xlogx,
        slope=lambda u: 1 + u.log(),
        activation=lambda v: v,
        conjugate=lambda t: (t - 1).exp(),
        fake=lambda v: (v - 1).exp(),
        domain=(-math.inf, math.inf),
        critical=1.0,
    ),
    "reverse_kullback_leibler": Divergence(
        "reverse Kullback-Leibler: E_Q[log q / p]",
        generator=lambda u: -u.log(),
        slope=lambda u: -1 / u,
        activation=lambda v: -(-v).exp(),
        conjugate=lambda t: -1 - (-t).log(),
        fake=lambda v: v - 1,
        domain=(-math.inf, 0.0),
        critical=-1.0,
    ),
    "pearson": Divergence(
        "Pearson chi squared: integral of (p - q)^2 / q",
        generator=lambda u: (u - 1).square(),
        slope=lambda u: 2 * (u - 1),
        activation=lambda v: v,
        conjugate=lambda t: t.square() / 4 + t,
        fake=lambda v: v.square() / 4 + v,
        domain=(-math.inf, math.inf),
        critical=0.0,
    ),
    "squared_hellinger": Divergence(
        "squared Hellinger: integral of (root p - root q)^2",
        generator=lambda u: (u.sqrt() - 1).square(),
        slope=lambda u: 1 - 1 / u.sqrt(),
        activation=lambda v: -torch.expm1(-v),
        conjugate=lambda t: t / (1 - t),
        fake=lambda v: torch.expm1(v),
        domain=(-math.inf, 1.0),
        critical=0.0,
    ),
    "jensen_shannon": Divergence(
        "twice Jensen-Shannon: E_P[log 2p / (p + q)] + E_Q[log 2q / (p + q)]",
        generator=lambda u: _xlogx(u) - (1 + u) * ((1 + u) / 2).log(),
        slope=lambda u: (2 * u / (1 + u)).log(),
        activation=lambda v: LOG2 - F.softplus(-v),
        conjugate=lambda t: -(2 - t.exp()).log(),
        fake=lambda v: F.softplus(v) - LOG2,
        domain=(-math.inf, LOG2),
        critical=0.0,
    ),
    "gan": Divergence(
        "twice Jensen-Shannon, less log 4: E_P[log p / (p + q)] + E_Q[log q / (p + q)]",
        generator=lambda u: _xlogx(u) - (1 + u) * (1 + u).log(),
        slope=lambda u: (u / (1 + u)).log(),
        activation=lambda v: -F.softplus(-v),
        conjugate=lambda t: -(1 - t.exp()).log(),
        fake=F.softplus,
        domain=(-math.inf, 0.0),
        critical=-LOG2,
    ),
}
