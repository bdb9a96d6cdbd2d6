"""Squared difference of logarithms of samples, both signs allowed."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.losses.pairs import pair
from seislatent.losses.precision import in_full


@in_full
def mean_squared_logarithmic(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    knee: float = 1.0,
    *,
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Float[Tensor, " batch"]:
    """Mean (s(estimate) - s(reference))^2 with s(x) = sign(x) log(1 + |x| / knee), over the valid samples.

    Seed 004, equation 2.54, has log(1 + x), which is minus infinity at x = -1 and nothing beyond: seismograms have both signs. The
    symmetric s is the same for x >= 0 (knee 1), odd, and smooth at 0 with slope 1 / knee.

    0 to infinity, in nepers squared. Below `knee` (in the unit of the records) errors count as they are, above it as ratios: there
    0.05 of a peak weighs the same whatever the peak. Blind to where the error lies; nearly blind to the amplitude of strong
    samples: 1000 met by 1100 costs 0.009 with knee 1, 0 met by 0.1 costs the same.
    """
    if not knee > 0:
        raise SeislatentError(f"knee {knee}: give the positive amplitude where the logarithm takes over")
    both = pair(estimate, reference, valid)
    return both.mean((symmetric_log(both.estimate, knee) - symmetric_log(both.reference, knee)).square())


def symmetric_log(x: Float[Tensor, " ..."], knee: float = 1.0) -> Float[Tensor, " ..."]:
    """sign(x) log(1 + |x| / knee), with its slope 1 / knee at 0 too (sign(x) |x| has none there)."""
    y = x / knee
    return torch.where(y < 0, -torch.log1p(-y.clamp(max=0)), torch.log1p(y.clamp(min=0)))
