"""Distance between wavelet coefficients, level by level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from seislatent.errors import SeislatentError, unknown
from seislatent.losses.pairs import pair
from seislatent.losses.precision import in_full

_ROOT3 = math.sqrt(3)
LOW_PASS = {
    "haar": (1 / math.sqrt(2), 1 / math.sqrt(2)),
    "daubechies2": tuple(v / (4 * math.sqrt(2)) for v in (1 + _ROOT3, 3 + _ROOT3, 3 - _ROOT3, 1 - _ROOT3)),
}
"""Orthonormal low-pass filters: 2 taps, and 4 taps with two vanishing moments (blind to straight lines in their high part)."""


@in_full
def wavelet(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    levels: int = 3,
    *,
    weights: Sequence[float] | None = None,
    modulus_weight: float = 1.0,
    kind: str = "daubechies2",
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Float[Tensor, " batch"]:
    """Weighed sum of mean absolute differences of wavelet coefficients: high parts h_1, h_2, ..., the last low part l, a modulus.

        sum over i of  weights[i] mean |h_i - h_i*|  +  weights[-1] mean |l - l*|
        + weights[0] modulus_weight mean |m - m*|,    m = root of the sum over channels of h_1^2,

    seed 004, equations 2.68 and 2.69, after Zhu et al. (2021, "Wavelet loss function for auto-encoder"). There the modulus runs
    over the three directions of an image's high part; a seismogram has one, so here it runs over its channels: the size of the
    ground's fast motion, whichever way it points. The low part is that of the last level, and all differences are absolute; both
    are misprinted there. `weights`: `levels` + 1 of them, all 1 where None.

    0 to infinity, in the unit of the records. Octaves are weighed as one likes (h_1 is a quarter of the rate to half of it), and
    errors keep their time. Not blind to a shift; blind, within one octave, to where the frequency of an error lies.
    """
    factors = [1.0] * (levels + 1) if weights is None else list(weights)
    if levels < 1 or len(factors) != levels + 1:
        raise SeislatentError(f"{levels} levels and {len(factors)} weights: give a level or more, and one weight more")
    both = pair(estimate, reference, valid)
    x, y = both.estimate, both.reference
    total = both.reference.new_zeros(len(reference))
    for level, factor in enumerate(factors[:-1]):
        (x, high), (y, high_reference) = halves(x, kind), halves(y, kind)
        total = total + factor * both.mean((high - high_reference).abs())
        if level == 0 and modulus_weight:
            m, m_reference = (torch.linalg.vector_norm(h, dim=1, keepdim=True) for h in (high, high_reference))
            # one modulus for all channels: it counts for each that says something, so that a dead one does not thin it
            alive = torch.ones_like(high[..., :1]) if both.valid is None else both.valid.any(-1, keepdim=True)
            total = total + factor * modulus_weight * both.mean((m - m_reference).abs() * alive)
    return total + factors[-1] * both.mean((x - y).abs())


def halves(
    x: Float[Tensor, "batch channel time"], kind: str = "daubechies2"
) -> tuple[Float[Tensor, "batch channel half"], Float[Tensor, "batch channel half"]]:
    """Low and high half of the band, each at half the rate, from an orthonormal filter pair.

    The record is zero beyond its ends, and every coefficient that touches it is kept, (time + taps - 1) // 2 of them: squares
    summed over both halves are those of the record, whatever its length.
    """
    if kind not in LOW_PASS:
        raise SeislatentError(unknown("wavelet", kind, LOW_PASS))
    low = x.new_tensor(LOW_PASS[kind])
    taps = len(low)
    high = low.flip(0) * x.new_tensor([(-1) ** k for k in range(taps)])
    n = x.shape[-1]
    count = (n + taps - 1) // 2
    padded = F.pad(x.flatten(0, 1)[:, None], (taps - 2, 2 * count - n))
    both = F.conv1d(padded, torch.stack([low, high])[:, None], stride=2)
    both = both.unflatten(0, x.shape[:2])
    return both[:, :, 0], both[:, :, 1]
